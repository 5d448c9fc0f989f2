/*-------------------------------------------------------------------------
 *
 * decoder.h
 *	  A running walarchive-decode, as seen by the process that started it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_DECODER_H
#define WA_DECODER_H

#include "postgres.h"

#include "../base/decode_protocol.h"
#include "../compat.h"

typedef struct WaDecoder WaDecoder;

/* What wa_decoder_next has received, or how the program died. */
typedef struct WaDecoderMessage
{
	WaMessageType type;
	const void *body; /* the type's struct, aligned; valid until the next call */
	const char *rest; /* the bytes behind it: arrays and texts, not aligned, not terminated */
	uint32 rest_len;  /* bytes; checked against the lengths that the struct gives */
} WaDecoderMessage;

/*
 * Start the program, with 'nice' added to this process's priority.  Raises an
 * error if it can't be started or is of another version.  Memory is
 * TopMemoryContext's; the program is killed and reaped by wa_decoder_close, or
 * at the end of a transaction that aborts, or when this process exits.
 */
extern WaDecoder *wa_decoder_open(int nice);

/*
 * Send a request: a line of flat JSON without newline.  False if the program is
 * dead.  The answer to the request before has to be read to its END.
 */
extern bool wa_decoder_request(WaDecoder *decoder, const char *request);

/*
 * Wait for the next message of the answer; interrupts are served.  False if the
 * program died or sent what makes no sense: then wa_decoder_death says how, and
 * only wa_decoder_close may follow.
 */
extern bool wa_decoder_next(WaDecoder *decoder, WaDecoderMessage *message);

/*
 * How it died, for a person ("was terminated by signal 11: Segmentation
 * fault").  '*told', if given, is set if it was asked to end (SIGTERM, SIGINT),
 * which says nothing about the WAL it was reading.
 */
extern const char *wa_decoder_death(WaDecoder *decoder, bool *told);

/* Close it and raise its death as an error, for SQL functions. */
pg_noreturn extern void wa_decoder_raise(WaDecoder *decoder);

/* The pid of the program. */
extern int wa_decoder_pid(WaDecoder *decoder);

/* Kill it if it lives, reap it, free everything.  NULL is allowed. */
extern void wa_decoder_close(WaDecoder *decoder);

#endif /* WA_DECODER_H */
