/*-------------------------------------------------------------------------
 *
 * protocol.h
 *	  Messages of the streaming replication protocol inside COPY.
 *
 * See "Streaming Replication Protocol" in PostgreSQL's documentation.  What
 * comes from the server is checked for length before anything is read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_PROTOCOL_H
#define WA_PROTOCOL_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"

typedef enum WaMessageKind
{
	WA_MESSAGE_WAL,       /* 'w': WAL data */
	WA_MESSAGE_KEEPALIVE, /* 'k' */
	WA_MESSAGE_INVALID    /* anything else: see 'problem' */
} WaMessageKind;

typedef struct WaMessage
{
	WaMessageKind kind;
	XLogRecPtr start;      /* of 'data' */
	XLogRecPtr server_end; /* end of WAL on the server */
	TimestampTz send_time;
	bool reply_requested;
	const char *data; /* inside the message */
	size_t len;
	const char *problem; /* constant, untranslated */
} WaMessage;

/* Take apart message 'buf' of 'len' bytes; points into it. */
extern void wa_parse_message(const char *buf, size_t len, WaMessage *message);

#define WA_STATUS_UPDATE_LEN 34

/*
 * Write a standby status update into 'buf': positions after the last byte
 * written and flushed, apply always 0/0 (nothing is replayed here), the time
 * 'now', and whether an answer is wanted.
 */
extern void wa_build_status_update(char *buf, XLogRecPtr written,
								   XLogRecPtr flushed, TimestampTz now,
								   bool reply_requested);

/* Parse "X/X"; false if 'text' is anything else. */
extern bool wa_parse_lsn(const char *text, XLogRecPtr *lsn);

#endif /* WA_PROTOCOL_H */
