/*-------------------------------------------------------------------------
 *
 * restore_plan.h
 *	  Where a recovery will end: the planner.
 *
 * A pure function over plain data: the timelines of a cluster, the stretches
 * of WAL that were checked, its base backups, and a way to find the first
 * record that satisfies a rule.  The server calls it over the catalog, the
 * client over a bare archive directory.  It follows the stop rules of
 * PostgreSQL's recovery (recoveryStopsBefore and recoveryStopsAfter in
 * xlogrecovery.c), in LSN order along the path of timelines, from the redo
 * point of the chosen backup.
 *
 * Times are TimestampTz as a number: microseconds since 2000-01-01 UTC.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_RESTORE_PLAN_H
#define WA_RESTORE_PLAN_H

#include "base.h"

#include "backup_label.h"
#include "history.h"

/* A chain of more incremental backups than this is refused. */
#define WA_MAX_CHAIN 1024

#define WA_PLAN_TEXT_LEN 512

typedef enum WaTargetKind
{
	WA_TARGET_END, /* all that the archive has, as of now */
	WA_TARGET_TIME,
	WA_TARGET_LSN,
	WA_TARGET_XID,
	WA_TARGET_NAME,
	WA_TARGET_IMMEDIATE /* where the backup is consistent */
} WaTargetKind;

typedef struct WaRestoreTarget
{
	WaTargetKind kind;
	bool inclusive; /* of TIME, LSN and XID */
	int64 time;
	XLogRecPtr lsn;
	TransactionId xid;
	const char *name;
	TimeLineID timeline; /* 0: the newest one, WaPlanInput.newest */
	const char *backup;  /* label; NULL: the newest one that serves */
} WaRestoreTarget;

typedef struct WaPlanTimeline
{
	TimeLineID tli;
	TimeLineID parent; /* 0: none, or not known (its history file is missing) */
	XLogRecPtr fork;   /* where it left its parent */
} WaPlanTimeline;

/* Why a stretch of checked WAL goes no further. */
typedef enum WaRunEnd
{
	WA_RUN_HEAD,        /* nothing is archived beyond */
	WA_RUN_UNDECODED,   /* archived, but not indexed yet */
	WA_RUN_GAP,         /* WAL is missing */
	WA_RUN_DAMAGE,      /* a damaged segment */
	WA_RUN_QUARANTINED, /* a segment on which the decoder died */
	WA_RUN_UNKNOWN      /* WAL of a major that is not known here */
} WaRunEnd;

/* A stretch of checked WAL of one timeline. */
typedef struct WaPlanRun
{
	TimeLineID tli;
	XLogRecPtr from; /* start of its first segment */
	XLogRecPtr to;   /* first byte that is not checked */
	WaRunEnd ended_by;
	XLogRecPtr resumes; /* where checked WAL begins again, 0: nowhere, or not known */
} WaPlanRun;

typedef enum WaPlanBackupState
{
	WA_PLAN_BACKUP_USABLE,
	WA_PLAN_BACKUP_WAITING, /* its WAL is not checked up to its end yet */
	WA_PLAN_BACKUP_BROKEN   /* its files are damaged or missing, or its WAL is */
} WaPlanBackupState;

typedef struct WaPlanBackup
{
	const char *label;
	bool incremental;
	const char *parent; /* of an incremental one */
	WaPlanBackupState state;
	bool no_files;        /* it is broken, and so is all that builds on it: not only WAL is missing */
	const char *reason;   /* why it is not usable; may be NULL */
	TimeLineID tli;       /* where it starts */
	XLogRecPtr start_lsn; /* its redo point */
	TimeLineID stop_tli;
	XLogRecPtr stop_lsn;
	XLogRecPtr consistent_lsn;
	uint64 size; /* bytes on disk */

	/*
	 * The latest commit or abort time between start_lsn and consistent_lsn, if
	 * that is known: no earlier time can be the target.  Saves a search.
	 */
	bool has_earliest_time;
	int64 earliest_time;

	/*
	 * When it was begun, if that is known, by whatever clock.  Used only where
	 * no transaction that ended before the backup is known.
	 */
	bool has_begin_time;
	int64 begin_time;
} WaPlanBackup;

/* A record that ends a transaction, or any other that a search was for. */
typedef struct WaPlanRecord
{
	TimeLineID tli; /* timeline of the path that owns it */
	XLogRecPtr start_lsn;
	XLogRecPtr end_lsn;  /* as pg_waldump: of the record, aligned */
	XLogRecPtr prev_lsn; /* start of the record before it */
	bool commit;         /* of a transaction's end: commit, else abort; prepared ones included */
	bool prepare;        /* PREPARE TRANSACTION */
	TransactionId xid;
	int64 time; /* of a transaction's end or a restore point */
} WaPlanRecord;

/* The stretch of a path in which to search: records that start in [from, to) and end at or before 'to'. */
typedef struct WaPlanRange
{
	const WaHistory *path;
	XLogRecPtr from;
	XLogRecPtr to;
} WaPlanRange;

typedef enum WaSearchStatus
{
	WA_SEARCH_FOUND,
	WA_SEARCH_NONE,
	WA_SEARCH_FAILED /* could not look: the text says why; it counts as nothing else */
} WaSearchStatus;

/*
 * How records are found.  'text' has WA_PLAN_TEXT_LEN bytes for a reason of
 * WA_SEARCH_FAILED.
 */
typedef struct WaPlanSearch
{
	void *arg;

	/* First commit or abort with a time later than 'time', or, 'or_equal', not earlier. */
	WaSearchStatus (*time)(void *arg, const WaPlanRange *range, int64 time,
						   bool or_equal, WaPlanRecord *record, char *text);

	/* First commit or abort of transaction 'xid', prepared ones included. */
	WaSearchStatus (*xid)(void *arg, const WaPlanRange *range, TransactionId xid,
						  WaPlanRecord *record, char *text);

	/* First restore point of that name; '*count' gets how many there are in the range. */
	WaSearchStatus (*name)(void *arg, const WaPlanRange *range, const char *name,
						   WaPlanRecord *record, int *count, char *text);

	/* First record that starts at or after 'lsn'. */
	WaSearchStatus (*record)(void *arg, const WaPlanRange *range, XLogRecPtr lsn,
							 WaPlanRecord *record, char *text);

	/* Last record of the range. */
	WaSearchStatus (*last_record)(void *arg, const WaPlanRange *range,
								  WaPlanRecord *record, char *text);

	/* Last commit or abort of the range; with 'commits' only commits count. */
	WaSearchStatus (*last_xact)(void *arg, const WaPlanRange *range, bool commits,
								WaPlanRecord *record, char *text);
} WaPlanSearch;

typedef struct WaPlanInput
{
	const WaPlanTimeline *timelines;
	int ntimelines;
	TimeLineID newest;     /* the timeline that the source is on, or was last */
	uint32 segment_size;   /* of WAL; runs begin with segments */
	const WaPlanRun *runs; /* by timeline and start */
	int nruns;
	const WaPlanBackup *backups; /* in any order */
	int nbackups;
	WaPlanSearch search;
} WaPlanInput;

typedef enum WaPlanReason
{
	WA_PLAN_FEASIBLE,
	WA_PLAN_NO_BACKUP,          /* none that is usable, or none starts before the target */
	WA_PLAN_BEFORE_BACKUP,      /* the given backup was begun after the target: it holds what came later */
	WA_PLAN_BEFORE_CONSISTENCY, /* the target lies before the (given) backup is consistent */
	WA_PLAN_BACKUP_UNUSABLE,    /* the given backup is waiting or broken */
	WA_PLAN_CHAIN_BROKEN,       /* a parent of it is missing or broken */
	WA_PLAN_BACKUP_NOT_ON_PATH, /* the given backup does not lie on the timeline's path */
	WA_PLAN_UNKNOWN_BACKUP,
	WA_PLAN_UNKNOWN_TIMELINE,
	WA_PLAN_GAP,
	WA_PLAN_DAMAGE,
	WA_PLAN_QUARANTINED,
	WA_PLAN_UNKNOWN_VERSION,
	WA_PLAN_NOT_ARCHIVED, /* an LSN or so beyond the end of the archive */
	WA_PLAN_NOT_INDEXED,
	WA_PLAN_UNKNOWN_XID,
	WA_PLAN_UNKNOWN_NAME,
	WA_PLAN_AMBIGUOUS_NAME, /* several have that name, and no backup was given: recovery takes the first after that */
	WA_PLAN_NOT_ANCESTOR,   /* it exists, but on a timeline that is not on the path */
	WA_PLAN_PAST_LAST_COMMIT,
	WA_PLAN_SEARCH_FAILED /* could not look: says nothing about the target */
} WaPlanReason;

/* A target that is feasible, near one that is not. */
typedef struct WaPlanNear
{
	bool valid;
	WaTargetKind kind; /* TIME, LSN, END or IMMEDIATE */
	bool inclusive;
	int64 time;
	XLogRecPtr lsn;
	const char *backup; /* the backup from which it is, a label of the input */
} WaPlanNear;

typedef struct WaRestorePlan
{
	WaPlanReason reason;
	bool feasible;
	char text[WA_PLAN_TEXT_LEN]; /* not feasible: what is in the way, with its numbers; else empty */

	/*
	 * The rest of what is known; valid as far as it came.  A feasible plan's
	 * path is no longer than it has to be: it ends with the timeline of the
	 * record at which recovery stops, whatever timeline was asked for.  A copy
	 * that is promoted before the timeline begins that it is recovered along
	 * would write a history whose places are not in order.  It is longer only
	 * where a file of that timeline can't be read, but a later one's copy of it.
	 */
	TimeLineID timeline; /* recovery_target_timeline */
	WaHistory path;
	int backup; /* index in the input, -1: none */
	int nchain; /* of the chain, the full backup first, the chosen one last */
	int chain[WA_MAX_CHAIN];

	XLogRecPtr start_lsn; /* the redo point: WAL is read from here on */
	TimeLineID start_tli;
	XLogRecPtr stop_lsn;   /* end of the last record that is replayed */
	XLogRecPtr needed_lsn; /* bytes below are read: the end of the record at which recovery stops */
	bool stops_before;     /* that record is not replayed */
	WaPlanRecord stop;     /* the record at which recovery stops */
	XLogRecPtr consistent_lsn;

	/* of what is replayed, from start_lsn on; none: the backup has all there is */
	bool has_commit;
	WaPlanRecord last_commit;
	bool has_xact; /* commits and aborts */
	WaPlanRecord last_xact;

	/*
	 * What pg_last_xact_replay_timestamp() will say.  Recovery that stops
	 * after a record because of its LSN does not note that record's time.
	 */
	bool has_replay_time;
	int64 replay_time;

	/*
	 * What to tell PostgreSQL: the target itself, or for WA_TARGET_END the LSN
	 * of the last record, inclusive.
	 */
	WaTargetKind set_kind;
	bool set_inclusive;
	XLogRecPtr set_lsn;

	WaPlanNear before; /* not feasible: what would be */
	WaPlanNear after;
} WaRestorePlan;

/*
 * Plan a recovery to 'target'.  'plan' is filled; it refers to strings of
 * 'input' and 'target' only by index or pointer and must not outlive them.
 * Returns plan->feasible.  Allocates nothing and raises nothing but what the
 * callbacks do.
 */
extern bool wa_plan_restore(const WaPlanInput *input, const WaRestoreTarget *target,
							WaRestorePlan *plan);

/*
 * Does a feasible plan go along a timeline that it does not come to, because only
 * that one's file of a segment can be read?  Then what that means is put into
 * 'text', a sentence without its full stop.
 */
extern bool wa_plan_detour(const WaRestorePlan *plan, char *text, size_t size);

/* A short word for a reason ("gap"), as plan_restore shows it. */
extern const char *wa_plan_reason_name(WaPlanReason reason);

#endif /* WA_RESTORE_PLAN_H */
