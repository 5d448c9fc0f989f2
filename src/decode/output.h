/*-------------------------------------------------------------------------
 *
 * output.h
 *	  Messages of walarchive-decode to the server process that started it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_OUTPUT_H
#define WA_OUTPUT_H

#include "wal_files.h"

#define WA_OUTPUT_SIZE (64 * 1024)

/*
 * Messages gather in the buffer until it is full or wa_out_flush is called.  A
 * reader that is gone ends the program (SIGPIPE, or exit 2).
 */
typedef struct WaOutput
{
	int fd;
	bool careful; /* flush each message */
	size_t used;
	uint64 rest; /* bytes of the present message still to come */
	char buffer[WA_OUTPUT_SIZE];
} WaOutput;

/* A whole message: its struct, and one text or array behind it. */
extern void wa_out_message(WaOutput *out, WaMessageType type, const void *body,
						   size_t body_len, const void *rest, size_t rest_len);

/* The same in pieces: 'len' bytes in all, given by wa_out_bytes. */
extern void wa_out_begin(WaOutput *out, WaMessageType type, size_t len);
extern void wa_out_bytes(WaOutput *out, const void *bytes, size_t len);

extern void wa_out_flush(WaOutput *out);

extern void wa_out_damage(WaOutput *out, const WaDamage *damage);
extern void wa_out_progress(WaOutput *out, XLogRecPtr lsn, uint64 bytes);

#endif /* WA_OUTPUT_H */
