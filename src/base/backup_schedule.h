/*-------------------------------------------------------------------------
 *
 * backup_schedule.h
 *	  When a source's next scheduled base backup is due, and of which kind.
 *
 * A pure decision over the settings, what there is, and the clock; the
 * launcher asks on every wake and keeps nothing in between.  So a restart
 * neither loses nor repeats a run, and runs that were missed are made up for
 * by one.
 *
 * All times are in microseconds since one epoch, whichever it is; 0 is "never".
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_BACKUP_SCHEDULE_H
#define WA_BACKUP_SCHEDULE_H

#include "base.h"

#define WA_DAY_SECONDS 86400

typedef struct WaBackupSchedule
{
	int64 full_interval;        /* at least this often; 0: there is no schedule */
	int64 incremental_interval; /* 0: full backups alone */
	int window_start;           /* second of the local day; -1: backups begin at any time */
	int window_end;             /* exclusive; before window_start: over midnight */
	int64 jitter;               /* sources are spread over so much time */
	int64 since;                /* when the schedule was set */
} WaBackupSchedule;

typedef struct WaBackupPast
{
	int64 last_full;    /* start of the latest full backup that is there */
	int64 last_any;     /* the same of either kind */
	int64 last_failure; /* end of the latest attempt that failed */
	int failures;       /* in a row, up to that one */
	bool quiet;         /* it was no failure: a standby had too little to do for an incremental backup */
	bool chain;         /* an incremental backup has something to build on */
} WaBackupPast;

typedef enum WaBackupWait
{
	WA_BACKUP_WAIT_NONE,   /* begin now */
	WA_BACKUP_WAIT_TIME,   /* it is not due yet */
	WA_BACKUP_WAIT_WINDOW, /* due; the window is closed */
	WA_BACKUP_WAIT_RETRY   /* due; the last attempt failed */
} WaBackupWait;

typedef struct WaBackupDue
{
	bool incremental;
	int64 due;     /* when it should begin, or should have begun */
	int64 attempt; /* when it can begin: now, or later */
	WaBackupWait wait;
} WaBackupDue;

/* The second of the local day, 0 to 86399, at 'time'. */
typedef int (*WaLocalSecond)(int64 time, void *arg);

/*
 * Fill '*result' for the source called 'source' at 'now'.  The schedule must
 * have a full_interval.  Times in 'past' that lie after 'now' were taken by
 * another clock: the caller leaves them out.
 *
 * - A full backup is due full_interval after the start of the latest one, an
 *   incremental one incremental_interval after the start of the latest of
 *   either kind.  Where both are due it is a full one.
 * - With a window it is due when the last window before that time opens, so
 *   that backups are never older than the interval if that can be had, and a
 *   nightly one does not wander through the night; when the window is longer
 *   than the interval, only its opening after a closed window counts.
 * - The jitter is a fixed part of schedule->jitter for each name: the first
 *   backup is so much later, and a window opens so much later, by half of its
 *   length at most.
 * - After failures it is tried again after 1, 2, 4 ... minutes, an hour at
 *   most; for a short interval after a tenth of it, and the interval at most.
 */
extern void wa_backup_due(const WaBackupSchedule *schedule, const WaBackupPast *past,
						  const char *source, int64 now, WaLocalSecond local_second,
						  void *arg, WaBackupDue *result);

#endif /* WA_BACKUP_SCHEDULE_H */
