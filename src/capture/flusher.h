/*-------------------------------------------------------------------------
 *
 * flusher.h
 *	  Threads that make system calls for a receiver, so that it can go on
 *	  reading while a flush is under way.
 *
 * The threads run nothing of PostgreSQL: they take a job, make its system
 * calls, and store the result.  All signals are blocked in them.  Jobs of the
 * ordered queue are retired in the order in which they were started: only
 * then is a confirmed LSN the end of a contiguous durable prefix.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_FLUSHER_H
#define WA_FLUSHER_H

#include "postgres.h"

#include "access/xlogdefs.h"

/* How many flushes can be under way at once. */
#define WA_MAX_LANES 8

/* A finished file's name becomes final, and the next gets its partial name. */
typedef struct WaFinishJob
{
	char from[MAXPGPATH]; /* empty: no rename */
	char to[MAXPGPATH];
	char next_from[MAXPGPATH]; /* empty: no second rename */
	char next_to[MAXPGPATH];
	int dirfd;       /* synced after the renames, -1: no */
	bool drop_cache; /* nobody will read it soon: give its memory back */
} WaFinishJob;

typedef struct WaFlushResult
{
	XLogRecPtr lsn;   /* what is durable now, as given at the start */
	int error;        /* errno, 0 is success */
	bool sync_failed; /* the error came from a sync */
	bool finished;    /* it was a finish job */
	uint64 tag;       /* as given */
	uint32 usec;      /* how long the system calls took */
} WaFlushResult;

typedef struct WaFlusher WaFlusher;

/*
 * Make a flusher; threads are started when first needed.  'wakeup_fd' gets
 * the descriptor that becomes readable when a job is done.  Raises an error
 * when out of memory or descriptors.
 */
extern WaFlusher *wa_flusher_create(int *wakeup_fd);

/* Wait for the threads, end them and free all.  NULL is allowed. */
extern void wa_flusher_destroy(WaFlusher *flusher);

/* Jobs of the ordered queue that are started and not retired. */
extern int wa_flusher_in_flight(const WaFlusher *flusher);

/*
 * Start fdatasync of 'fd' in a thread.  Each lane (0 … WA_MAX_LANES - 1) must
 * have an open file description of its own: the kernel tells a write error
 * once to each, and not once to all.  'finish' may be NULL.  At most
 * WA_MAX_LANES jobs may be in flight.
 */
extern void wa_flusher_start(WaFlusher *flusher, int fd, XLogRecPtr lsn,
							 uint64 tag, const WaFinishJob *finish);

/* The lane that the next job will use. */
extern int wa_flusher_next_lane(const WaFlusher *flusher);

/* Do the same in the calling process, at once.  Nothing may be in flight. */
extern void wa_flusher_run(int fd, XLogRecPtr lsn, uint64 tag,
						   const WaFinishJob *finish, WaFlushResult *result);

/*
 * Retire the oldest job if it is done: true, and '*result' is set.
 */
extern bool wa_flusher_retire(WaFlusher *flusher, WaFlushResult *result);

/* Make the wake-up descriptor unreadable again; before retiring. */
extern void wa_flusher_clear_wakeup(WaFlusher *flusher);

/*
 * Prepare a file of 'size' bytes under 'path' in a thread of its own: zeroes
 * that are on disk, or only reserved room if 'zero' is false.  One at a time.
 * A failed preparation leaves no file.
 */
extern void wa_flusher_prepare(WaFlusher *flusher, const char *path,
							   uint32 size, bool zero, mode_t mode);

/*
 * State of the preparation: 0 while under way or none was asked for, 1 when
 * the file is ready, -1 when it failed, with '*error' set.
 */
extern int wa_flusher_prepared(WaFlusher *flusher, int *error);

/* The prepared file was taken (or given up): another may be asked for. */
extern void wa_flusher_prepare_done(WaFlusher *flusher);

/*
 * Make file 'path' of 'size' bytes in the calling process, its room reserved
 * but not written, and return its descriptor (read-write), or -1 with errno
 * set and no file left.
 */
extern int wa_reserve_file(const char *path, uint32 size, mode_t mode);

#endif /* WA_FLUSHER_H */
