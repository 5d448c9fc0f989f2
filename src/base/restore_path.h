/*-------------------------------------------------------------------------
 *
 * restore_path.h
 *	  For the planner: the path of timelines to a target, and the stretches
 *	  of it on which checked WAL has no hole ("islands").
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_RESTORE_PATH_H
#define WA_RESTORE_PATH_H

#include "restore_plan.h"

typedef struct WaIsland
{
	XLogRecPtr from;
	XLogRecPtr to;      /* first byte that is not there */
	TimeLineID tli;     /* of the path there */
	WaRunEnd ended_by;  /* WA_RUN_HEAD: there is nothing beyond on the path */
	XLogRecPtr resumes; /* where the path's checked WAL begins again, 0: nowhere, or not known */
} WaIsland;

/*
 * The path to timeline 'tli' of the input.  A timeline whose parent is not
 * known is the first.  Returns false if 'tli' is not in the input.
 */
extern bool wa_plan_path(const WaPlanInput *in, TimeLineID tli, WaHistory *path);

/* The last stretch of 'tli' that begins at or before 'lsn', or NULL. */
extern const WaPlanRun *wa_plan_run_at(const WaPlanInput *in, TimeLineID tli, XLogRecPtr lsn);

/* The island that 'lsn' is on, its end included.  False: there is none. */
extern bool wa_island_at(const WaPlanInput *in, const WaHistory *path,
						 XLogRecPtr lsn, WaIsland *island);

/*
 * The island of the path that begins first of those that end behind 'lsn'.
 * False: there is none.
 */
extern bool wa_island_after(const WaPlanInput *in, const WaHistory *path,
							XLogRecPtr lsn, WaIsland *island);

/*
 * The path by which WAL before 'to', all of an island of 'path', is read: without
 * timelines that are entered later, but whose file would be read for a segment
 * before, though it is not good.  'path' itself, or 'room'.
 */
extern const WaHistory *wa_path_to_read(const WaPlanInput *in, const WaHistory *path,
										XLogRecPtr to, WaHistory *room);

/* The shortest part of 'path', from its first timeline on, that leads from 'from' to 'to'. */
extern void wa_path_shortest(const WaPlanInput *in, const WaHistory *path, XLogRecPtr from,
							 XLogRecPtr to, WaHistory *shortest);

#endif /* WA_RESTORE_PATH_H */
