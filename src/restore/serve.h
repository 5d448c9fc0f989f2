/*-------------------------------------------------------------------------
 *
 * serve.h
 *	  Which of the archive's WAL is whose: what a recovery is told about a
 *	  file before it gets the first byte.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_SERVE_H
#define WA_SERVE_H

#include "postgres.h"

#include "../catalog/serve_facts.h"

/* The most that one call reads, bytes. */
#define WA_SERVE_MAX_LENGTH (8 * 1024 * 1024)

typedef enum WaServeState
{
	WA_SERVE_PRESENT,
	WA_SERVE_PARTIAL, /* the open segment: flushed bytes, then zeros */
	WA_SERVE_ABSENT,  /* proved: recovery may take it for the end */
	WA_SERVE_MISSING, /* recovery must not take it for the end */
	WA_SERVE_DAMAGED,
	WA_SERVE_LATER /* the server has it, and it will be archived */
} WaServeState;

#define WA_SERVE_DETAIL_LEN 512

/* What is known of a WAL file. */
typedef struct WaServed
{
	WaServeState state;
	int fd;          /* open for reading if present or partial, else -1 */
	uint64 size;     /* bytes to be delivered */
	uint64 valid;    /* of these, bytes of the file; zeros follow */
	char sha256[65]; /* of what is delivered, empty: not known */
	char detail[WA_SERVE_DETAIL_LEN];
} WaServed;

/*
 * Look for WAL segment or history 'name' of 'source', for a plan if 'plan' is
 * not NULL.  Inside wa_range_begin.  With 'full' all is found out that a
 * recovery has to know; else only whether and how the file can be read.  Raises
 * errors; the caller closes served->fd (CloseTransientFile).
 */
extern void wa_serve_find(const char *source, const char *name, const WaServePlan *plan, bool full,
						  WaServed *served);

extern const char *wa_serve_state_name(WaServeState state);

#endif /* WA_SERVE_H */
