/*-------------------------------------------------------------------------
 *
 * verify_plan.h
 *	  Which files a verification has to look at: those that are there, and
 *	  those that should be.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_VERIFY_PLAN_H
#define WA_VERIFY_PLAN_H

#include "nodes/pg_list.h"

#include "catalog.h"

/* A segment that is to be there. */
typedef struct WaPlannedFile
{
	TimeLineID tli;
	uint64 segno;
	int64 size; /* bytes, -1: it is not there, or not a regular file */
	bool partial;
} WaPlannedFile;

/* A long stretch of segments of which none is there. */
typedef struct WaPlannedHole
{
	TimeLineID tli;
	uint64 first;
	uint64 last;
} WaPlannedHole;

typedef struct WaPlannedTimeline
{
	TimeLineID tli;
	TimeLineID parent; /* 0: not known */
	XLogRecPtr fork;   /* 0: not known */
	bool history;      /* its history file is to be there */
} WaPlannedTimeline;

typedef struct WaVerifyPlan
{
	uint32 segment_size;
	WaPlannedFile *file; /* by timeline and segment */
	int64 files;
	WaPlannedHole *hole;
	int holes;
	WaPlannedTimeline *timeline; /* ascending */
	int timelines;
	List *strangers; /* names in the directory that are nothing of ours, some of them */
	int64 bytes;     /* of the files that are there */
} WaVerifyPlan;

/*
 * Plan the verification of a cluster, in two steps.  The first lists files and
 * timelines; what the second makes of forks is only as good as the histories:
 * the caller sets parent and fork to 0 in between where one is damaged.
 *
 * wa_plan_holes adds what is missing, and leaves what holds WAL from from_lsn
 * (0: from the first) to to_lsn (0: to the last), of timeline 'only' (0: all).
 *
 * To be there are: what is there; what the catalog knows, or has a checksum of;
 * all between the first and the last segment of a timeline, and up to where a
 * later one left it, but for WAL that the receiver could not get (the gaps).
 * Checksums of segments older than any that is there are those of WAL that was
 * removed, unless the catalog still has the segment.
 *
 * Not inside a transaction; memory is of the current context.  Raises errors.
 */
extern void wa_plan_files(const char *source, uint64 sysid, uint32 segment_size,
						  WaVerifyPlan *plan);
extern void wa_plan_holes(const char *source, uint64 sysid, XLogRecPtr from_lsn,
						  XLogRecPtr to_lsn, TimeLineID only,
						  WaVerifyPlan *plan);

/* The plan's entry for a timeline, or NULL. */
extern const WaPlannedTimeline *wa_planned_timeline(const WaVerifyPlan *plan,
													TimeLineID tli);

#endif /* WA_VERIFY_PLAN_H */
