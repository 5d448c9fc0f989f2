/*-------------------------------------------------------------------------
 *
 * walk.h
 *	  Records in LSN order along a path of timelines, from the files of a wal
 *	  directory.
 *
 * A walk ends at the end of its range or at the first thing that is in the
 * way.  It reads each byte once, in pieces of WA_CHUNK_SIZE.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_WALK_H
#define WA_WALK_H

#include "wal_files.h"

/* More timelines than this make no path. */
#define WA_MAX_PATH 1025

typedef struct WaPathEntry
{
	TimeLineID tli;
	XLogRecPtr begin; /* where it was entered */
} WaPathEntry;

typedef struct WaWalk
{
	/* what to read; set by the caller */
	const WaWalDir *dir;
	const WaPathEntry *path; /* oldest first */
	int path_len;
	XLogRecPtr from;  /* records that start before are not shown */
	bool exact;       /* a record starts at 'from', or 'from' is the start of a page */
	XLogRecPtr until; /* nor are those that start here or later; 0: no bound */
	XLogRecPtr end;   /* no byte from here on is looked at; 0: no bound */
	bool live;        /* up to 'end' all is WAL; else a partial file may end anywhere */
	bool strict;      /* see WaReaderOptions */
	uint32 prefix_len;
	bool (*keep)(uint8 rmid, uint8 info);

	/*
	 * Called for each record; false ends the walk behind it.  A function that
	 * finds a record senseless says so with wa_walk_refuse.
	 */
	bool (*record)(void *arg, const WaWalRecord *record);
	void (*aborted)(void *arg, XLogRecPtr record_lsn, XLogRecPtr page_lsn);
	void (*progress)(void *arg, XLogRecPtr lsn, uint64 bytes); /* about once a second */
	void *arg;

	/* for the callback: the timeline of the path that owns the record */
	TimeLineID tli;

	/* how far it is; set by the walk */
	int major;
	WaDecodeResult result;
	XLogRecPtr next_lsn;
	XLogRecPtr need_lsn;
	XLogRecPtr missing_lsn; /* segment whose file is not there, 0: none was missed */
	uint64 bytes;
	uint64 records;  /* shown to the callback */
	WaDamage damage; /* valid with WA_DECODE_DAMAGED */
	char text[WA_TEXT_LEN];

	/* the walk's own */
	int owner;        /* index of the path's entry that 'tli' is of */
	XLogRecPtr begin; /* where reading begins, 0: not known yet */
	bool again;       /* it has to begin once more, at 'begin' */
	XLogRecPtr limit; /* the parent's file that is read instead of the child's counts up to here */
	XLogRecPtr stopped_at;
	XLogRecPtr refused_at;
	char *chunk;
	uint64 progress_bytes;
	int64 progress_time;
} WaWalk;

/* Zero all of 'walk'. */
extern void wa_walk_init(WaWalk *walk);

/* Do it; afterwards 'result' and what follows it say how it ended. */
extern void wa_walk(WaWalk *walk);

/*
 * From the record callback, which then returns false: the record's checksum is
 * right, but it says nothing that PostgreSQL would.
 */
extern void wa_walk_refuse(WaWalk *walk, const WaWalRecord *record,
						   WaDamageKind kind, const char *why);

/*
 * Does WAL go on in 'file' behind the place where reading it failed?  True if
 * on 'page_lsn', which is the start of a page, or a later one a record with a
 * right checksum starts; its LSN is put into '*found'.
 */
extern bool wa_wal_goes_on(const WaWalDir *dir, const WaWalFile *file,
						   uint32 block_size, XLogRecPtr page_lsn,
						   XLogRecPtr *found);

/* realloc, for WaReaderOptions */
extern void *wa_resize(void *memory, size_t size);

/* Microseconds on a clock that never goes back. */
extern int64 wa_clock(void);

#endif /* WA_WALK_H */
