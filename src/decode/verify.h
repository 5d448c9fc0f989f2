/*-------------------------------------------------------------------------
 *
 * verify.h
 *	  The requests "verify" and "hash" of walarchive-decode.
 *
 * Members of "verify", besides "directory", "system_identifier" and
 * "segment_size":
 *
 *	 "timeline", "from", "to"	the segments of one timeline from "from" to
 *				"to", both starts of segments.  Each of them is to be there,
 *				finished or partial.
 *	 "history"	instead of those: the history file of that timeline
 *	 "sums"		path of wal.sha256; absent: nothing to compare with
 *	 "flushed"	of a timeline that is being received: the end of its WAL; the
 *				partial segment with this LSN is checked up to it.  Others are
 *				checked up to the end of WAL that is found in them.
 *	 "known"	start of the last record of the timeline that is known to the
 *				catalog: its WAL must not end before
 *	 "fork", "parent"	where the timeline began, and on which
 *
 * Answers: PROGRESS with the segment's start before a file is read, and every
 * 64 MB; FILE for each file that was there, DAMAGE before it if something is
 * wrong; for a file that is missing DAMAGE alone.  A file whose last record goes
 * on in the next one is answered for after that.
 *
 * "hash" has "file", the name of a finished segment or of a history file, and
 * is answered by FILE, or by DAMAGE if it can't be read.
 *
 * Each file is read once; whatever lies there in the place of a file is
 * reported and never waited for or followed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_VERIFY_H
#define WA_VERIFY_H

#include "../base/decode_protocol.h"

/*
 * Send one message: 'body' and then 'rest'.  Messages of the type PROGRESS are
 * to be seen by the receiver at once.
 */
typedef void (*WaSendMessage)(WaMessageType type, const void *body,
							  size_t body_len, const void *rest,
							  size_t rest_len);

/*
 * Carry out the request, a valid JSON text of 'len' bytes.  Everything but
 * the END is sent; what belongs into that is returned: in '*end' result,
 * next_lsn, bytes and records, in 'text' the reason of WA_DECODE_FAILED.
 */
extern void wa_verify(const char *request, size_t len, WaSendMessage send,
					  WaMsgEnd *end, char *text, size_t text_size);
extern void wa_hash(const char *request, size_t len, WaSendMessage send,
					WaMsgEnd *end, char *text, size_t text_size);

#endif /* WA_VERIFY_H */
