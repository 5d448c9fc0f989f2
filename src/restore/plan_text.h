/*-------------------------------------------------------------------------
 *
 * plan_text.h
 *	  A plan of a recovery in words: for people, and for PostgreSQL's settings.
 *
 * All texts are palloc'd.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_PLAN_TEXT_H
#define WA_PLAN_TEXT_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "../base/restore_plan.h"

/* What a report says of a plan, beside the plan itself. */
typedef struct WaPlanFacts
{
	const char *source;
	const WaPlanInput *input;
	const WaRestoreTarget *target;
	const WaRestorePlan *plan;
	uint32 segment_size; /* bytes */
	int64 id;            /* 0: it was not kept */
	List *prepared;      /* gids */
	List *tablespaces;   /* directories of those that recovery makes anew */
	const char *settings;
	TimeLineID unknown_timeline; /* newer than the plan's path, and not indexed yet; 0: none */
} WaPlanFacts;

/* "time 2026-01-01 12:00:00+00", ...: what was asked for. */
extern char *wa_target_text(const WaRestoreTarget *target);

/* "1 -> 2 at 0/5000028", from the timeline on that the backup starts on. */
extern char *wa_path_text(const WaRestorePlan *plan);

/* Lines for postgresql.auto.conf that say where to stop. */
extern char *wa_target_settings(const WaRestorePlan *plan, const WaRestoreTarget *target);

/* Why it is not feasible and what would be, or what is to be known of a feasible one; NULL: nothing. */
extern char *wa_plan_hint(const WaPlanFacts *facts);

/* WAL files that are read, and bytes of the backups. */
extern int64 wa_plan_segments(const WaRestorePlan *plan, uint32 segment_size);
extern uint64 wa_plan_backup_bytes(const WaPlanInput *input, const WaRestorePlan *plan);

/* All of it, for people. */
extern char *wa_plan_report_text(const WaPlanFacts *facts);

#endif /* WA_PLAN_TEXT_H */
