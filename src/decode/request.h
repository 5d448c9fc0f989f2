/*-------------------------------------------------------------------------
 *
 * request.h
 *	  Requests to walarchive-decode, and the functions that serve them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_REQUEST_H
#define WA_REQUEST_H

#include "output.h"
#include "walk.h"

typedef struct WaRequest
{
	const char *text; /* valid JSON; not NUL-terminated */
	size_t len;
	WaOutput *out;
} WaRequest;

/*
 * Answer a request: messages, and WA_MSG_END last.  Files that are opened and
 * memory that is allocated are given back.
 */
typedef void (*WaServe)(const WaRequest *request);

extern void wa_serve_index(const WaRequest *request);
extern void wa_serve_xacts(const WaRequest *request);
extern void wa_serve_destructions(const WaRequest *request);
extern void wa_serve_records(const WaRequest *request);
extern void wa_serve_stats(const WaRequest *request);
extern void wa_serve_find(const WaRequest *request);

/*
 * Open the directory that the request names ("directory", "segment_size",
 * "system_identifier").  False if that fails: the END has been sent.
 */
extern bool wa_request_dir(const WaRequest *request, WaWalDir *dir);

/*
 * Open the directory, and give 'walk' what the request says of its range
 * ("path", "from", "to", "end", "live").  '*path' gets memory for the path, to
 * be freed.  False if that fails: the END has been sent.
 */
extern bool wa_request_range(const WaRequest *request, WaWalDir *dir,
							 WaWalk *walk, WaPathEntry **path);

/* Members with a value to take where they are absent. */
extern XLogRecPtr wa_request_lsn(const WaRequest *request, const char *key);
extern uint64 wa_request_uint(const WaRequest *request, const char *key);
extern bool wa_request_bool(const WaRequest *request, const char *key);

/*
 * Read a path, "timeline:start-LSN,...", into 'path' (WA_MAX_PATH entries).
 * Returns their number, 0 if it makes no sense.
 */
extern int wa_parse_path(const char *text, WaPathEntry *path);

/* Parse "X/X" with nothing behind it. */
extern bool wa_parse_lsn(const char *text, XLogRecPtr *lsn);

/* The END of a request that could not be served, with nothing read. */
extern void wa_request_failed(const WaRequest *request, const char *text);

/* The END of a walk; 'end' may hold commit_lsn and so on already. */
extern void wa_request_end(const WaRequest *request, const WaWalk *walk,
						   WaMsgEnd *end, const void *state, size_t state_len);

#endif /* WA_REQUEST_H */
