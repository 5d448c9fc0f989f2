/*-------------------------------------------------------------------------
 *
 * plan_input.h
 *	  What the planner of recoveries (src/base/restore_plan.h) is told by the
 *	  catalog, and what becomes of its plans.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_PLAN_INPUT_H
#define WA_PLAN_INPUT_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

#include "../base/restore_plan.h"

typedef struct WaPlanCatalog WaPlanCatalog;

/*
 * Begin: checks that the current user may read 'source', connects to SPI and goes
 * on with the rights of the extension's owner, as wa_range_begin does.  Raises an
 * error if there is no such source or nothing of it is archived.
 */
extern WaPlanCatalog *wa_plan_catalog_open(const char *source);
extern void wa_plan_catalog_close(WaPlanCatalog *catalog);

/*
 * For a plan along the newest timeline, before the catalog is read.  Right after a
 * failover WAL of a timeline is being received that the catalog has nothing of:
 * wait for the indexer, for some seconds at most.  What the old timeline has is no
 * answer, even if it has the target: it may be behind the place where it was left.
 */
extern void wa_plan_catalog_follow(WaPlanCatalog *catalog);

/* The timeline of which WAL is being received and the catalog that was read has none; 0: there is none. */
extern TimeLineID wa_plan_catalog_unknown_timeline(const WaPlanCatalog *catalog);

/*
 * The catalog as it is now: what wa_plan_restore wants.  Valid until it is called
 * again.  Memory is the caller's.
 */
extern const WaPlanInput *wa_plan_catalog_read(WaPlanCatalog *catalog);

/*
 * If the catalog that was read lacked something that had been archived when it was
 * opened: wait for the indexer, for some seconds at most (with those of
 * wa_plan_catalog_follow), and return true.  Then
 * reading it again may say more.
 */
extern bool wa_plan_catalog_wait(WaPlanCatalog *catalog);

extern uint32 wa_plan_segment_size(const WaPlanCatalog *catalog);

/*
 * Names (gids) of the prepared transactions that are open where the plan ends: a
 * List of palloc'd strings, sorted.  An error is raised if the WAL can't be read.
 */
extern List *wa_plan_prepared(WaPlanCatalog *catalog, const WaRestorePlan *plan);

/* Directories on the primary of tablespaces that the plan's recovery makes anew, there: a List of palloc'd strings. */
extern List *wa_plan_tablespaces(WaPlanCatalog *catalog, const WaRestorePlan *plan);

/* Append a line "name = value" for each setting that recovery has to have at least. */
extern void wa_plan_parameters(WaPlanCatalog *catalog, const WaRestorePlan *plan, StringInfo lines);

/*
 * Keep a feasible plan; 'hold' is an Interval or NULL.  Returns its number, 0 in a
 * transaction that may not write.
 */
extern int64 wa_plan_store(WaPlanCatalog *catalog, const WaRestorePlan *plan, const char *target,
						   List *prepared, const char *settings, Interval *hold);

#endif /* WA_PLAN_INPUT_H */
