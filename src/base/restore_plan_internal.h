/*-------------------------------------------------------------------------
 *
 * restore_plan_internal.h
 *	  What the planner's two files share: restore_plan.c decides,
 *	  restore_explain.c says why not.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_RESTORE_PLAN_INTERNAL_H
#define WA_RESTORE_PLAN_INTERNAL_H

#include "restore_path.h"

/* Backups that are put in order at once; with more of them each step looks at all. */
#define WA_PLAN_ORDER_MAX 4096

typedef struct WaPlanner
{
	const WaPlanInput *in;
	const WaRestoreTarget *target;
	WaRestorePlan *plan;
	int given;   /* the backup asked for, -1: any */
	bool failed; /* a search was not possible: the plan says so */

	/* last transaction before a backup, which counts for others as well */
	bool has_earlier;
	XLogRecPtr earlier_from;
	XLogRecPtr earlier_to;
	WaPlanRecord earlier;

	/* the first match behind a place, which counts for backups between the two as well */
	bool searched;
	bool found;
	XLogRecPtr search_from;
	XLogRecPtr search_to;
	WaPlanRecord match;

	/* the island that was asked for last */
	bool has_island;
	WaIsland island;

	WaHistory cut; /* room for the path of a search */

	bool ordered;
	int order[WA_PLAN_ORDER_MAX]; /* the backups, newest first */
} WaPlanner;

/* What becomes of a recovery from one backup. */
typedef struct WaPlanOutcome
{
	WaPlanReason reason;
	WaIsland island;
	WaPlanRecord stop;   /* the record at which it stops */
	bool before;         /* before it, else after */
	bool has_end;        /* 'end_lsn' is known already */
	XLogRecPtr end_lsn;  /* of the last record that is replayed */
	XLogRecPtr position; /* not feasible: where the target is; targets near that place are offered */
	int backup;          /* not feasible: the backup of which 'reason' is said */
} WaPlanOutcome;

/* ---- restore_plan.c ---- */

/*
 * The first record in [from, to) of a path that satisfies the target's rule;
 * not for IMMEDIATE and END.  '*count' (may be NULL) gets how many there are,
 * of a name.  False also if the search failed: then p->failed is set.
 */
extern bool wa_plan_find_match(WaPlanner *p, const WaHistory *path,
							   XLogRecPtr from, XLogRecPtr to,
							   WaPlanRecord *record, int *count);

/* The last record of [from, to) of the plan's path. */
extern bool wa_plan_find_last_record(WaPlanner *p, XLogRecPtr from,
									 XLogRecPtr to, WaPlanRecord *record);

/* Index of the backup with this label (may be NULL), or -1. */
extern int wa_plan_find_backup(const WaPlanInput *in, const char *label);

/*
 * The chain of a backup, the full one first, into 'chain'.  Returns its length,
 * or 0 if it is broken: '*bad' is then the backup whose parent is the problem,
 * or that is the problem itself.
 */
extern int wa_plan_find_chain(const WaPlanInput *in, int backup, int *chain,
							  int *bad);

/* Does recovery along the path pass through the backup's own WAL? */
extern bool wa_plan_is_on_path(const WaHistory *path, const WaPlanBackup *b);

/* The order in which backups are preferred: 'a' before 'b'? */
extern bool wa_plan_is_newer(const WaPlanBackup *a, const WaPlanBackup *b);

/*
 * The candidates (backups from which recovery along the path gets consistent),
 * newest first: the next one after 'last' (-1: the first) with its island, or
 * -1.  If a backup was asked for it is the only one.
 */
extern int wa_plan_next_candidate(WaPlanner *p, int last, WaIsland *island);

/* Why recovery can't get beyond the end of an island; 'head' if there is no more. */
extern WaPlanReason wa_plan_reason_of_end(const WaIsland *island,
										  WaPlanReason head);

/* Recovery of backup 'i' to where it is consistent; out->island is set. */
extern bool wa_plan_try_immediate(WaPlanner *p, int i, WaPlanOutcome *out);

/*
 * The newest candidate that serves, or -1 with the reason in 'best', whose
 * backup is -1 if there is no candidate.  Not for XID and NAME.
 */
extern int wa_plan_choose_in_turn(WaPlanner *p, WaPlanOutcome *best);

/* ---- restore_explain.c ---- */

/* Set the plan's reason and text, unless a search has failed. */
extern void wa_plan_say(WaPlanner *p, WaPlanReason reason, const char *format,
						...) pg_attribute_printf(3, 4);

/* No backup of the path can be used: which there are. */
extern void wa_plan_explain_no_candidate(WaPlanner *p);

/* The backup that was asked for is no candidate. */
extern void wa_plan_explain_given(WaPlanner *p);

/*
 * A transaction or restore point that no candidate leads to: is it on the path
 * at all, or elsewhere?  Returns its place on the path, 0: it is not there.
 */
extern XLogRecPtr wa_plan_explain_not_found(WaPlanner *p);

/* What the outcome of a backup says. */
extern void wa_plan_explain_outcome(WaPlanner *p, const WaPlanOutcome *out);

/* The last record before 'position' to which the newest backup possible leads. */
extern void wa_plan_offer_before(WaPlanner *p, XLogRecPtr position,
								 WaPlanNear *near);

/* The first place behind 'position' where a backup is consistent. */
extern void wa_plan_offer_after(WaPlanner *p, XLogRecPtr position,
								WaPlanNear *near);

/* A record that is there: up to its end. */
extern void wa_plan_offer_record(WaPlanner *p, const WaPlanRecord *record,
								 WaPlanNear *near);

#endif /* WA_RESTORE_PLAN_INTERNAL_H */
