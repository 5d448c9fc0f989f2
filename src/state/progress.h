/*-------------------------------------------------------------------------
 *
 * progress.h
 *	  How far long work has come, for the views stat_progress_*.
 *
 * Shared memory has a few entries.  A process that does long work takes one
 * for its life or until it ends it, and is the only one that writes it.  With
 * all of them taken the work goes on unseen.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_PROGRESS_H
#define WA_PROGRESS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"

#include "../base/backup_label.h"
#include "../base/source_name.h"
#include "../base/wal_name.h"

#define WA_PROGRESS_ENTRIES 32
#define WA_PROGRESS_PHASE_LEN 32

/* Each kind has its view: stat_progress_<word>, see progress.c. */
typedef enum WaProgressKind
{
	WA_PROGRESS_NONE,
	WA_PROGRESS_VERIFY,
	WA_PROGRESS_INDEX,
	WA_PROGRESS_VERIFY_BACKUP
} WaProgressKind;

/* What the work's process says; numbers that it does not know yet are -1. */
typedef struct WaProgress
{
	WaProgressKind kind;
	char source[WA_SOURCE_NAME_LEN];
	uint64 system_identifier;          /* 0: not known yet */
	char phase[WA_PROGRESS_PHASE_LEN]; /* what it is at, a few words */
	int64 files_total;
	int64 files_done;
	int64 bytes_total;
	int64 bytes_done;
	int64 damaged;                      /* damaged files found; verify and verify_backup alone */
	char current_file[WA_WAL_NAME_LEN]; /* empty: none */
	char label[WA_BACKUP_LABEL_LEN];    /* of a backup; empty: it is about none */
	TimestampTz started_at;             /* set by wa_progress_begin */
} WaProgress;

/* In shared memory; 'pid' 0: free. */
typedef struct WaProgressEntry
{
	pg_atomic_uint32 pid;
	pg_atomic_uint32 count; /* change count of 'progress' */
	WaProgress progress;
} WaProgressEntry;

/* Called when shared memory is made. */
extern void wa_progress_init(WaProgressEntry *entries);

/*
 * Show '*progress', whose kind, source and numbers are set, from now on.  A
 * process shows one piece of work at a time: what it showed before is
 * replaced.  Raises nothing; the entry is given back at exit at the latest.
 */
extern void wa_progress_begin(WaProgress *progress);

/* Show how far it has come; cheap, does nothing without an entry. */
extern void wa_progress_set(const WaProgress *progress);

/* Show nothing any more. */
extern void wa_progress_end(void);

#endif /* WA_PROGRESS_H */
