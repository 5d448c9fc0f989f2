/*-------------------------------------------------------------------------
 *
 * plan_functions.c
 *	  plan_restore and plan_report: arguments, the plan, its row.
 *
 * Lives in a session, for the time of one function.  The planner is
 * src/base/restore_plan.c, what it is told comes from src/catalog/plan_input.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"
#include "catalog/pg_type.h"

#include "../catalog/plan_input.h"
#include "../state/shmem.h"
#include "plan_text.h"

#define PLAN_COLUMNS 17

PG_FUNCTION_INFO_V1(wa_plan_restore_row);
PG_FUNCTION_INFO_V1(wa_plan_report);

/* A plan, and what the functions show of it; palloc'd texts. */
typedef struct Planned
{
	WaRestorePlan plan;
	WaRestoreTarget target;
	char *source;
	int64 id; /* 0: none */
	char *backup;
	List *prepared;
	List *tablespaces;
	char *settings;
	char *hint;
	char *report;
	int64 segments;
	uint64 backup_bytes;
} Planned;

/* ---- arguments ---- */

/* (source, time, lsn, xid, name, immediate, timeline, inclusive, backup, hold) */
static void
plan_arguments(FunctionCallInfo fcinfo, Planned *p)
{
	WaRestoreTarget *t = &p->target;
	bool immediate = !PG_ARGISNULL(5) && PG_GETARG_BOOL(5);
	int given = immediate;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name of the source must not be null")));
	p->source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	for (int i = 1; i <= 4; i++)
		given += !PG_ARGISNULL(i);
	if (given > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("more than one target is given"),
				 errhint("A recovery ends at a time, an LSN, a transaction, a restore point, or where the backup is consistent; without a target at the end of the archive.")));
	if (PG_ARGISNULL(7))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("inclusive must not be null")));
	t->kind = WA_TARGET_END;
	t->inclusive = true;
	if (immediate)
		t->kind = WA_TARGET_IMMEDIATE;
	else if (!PG_ARGISNULL(1))
	{
		t->kind = WA_TARGET_TIME;
		t->time = PG_GETARG_TIMESTAMPTZ(1);
		t->inclusive = PG_GETARG_BOOL(7);
	}
	else if (!PG_ARGISNULL(2))
	{
		t->kind = WA_TARGET_LSN;
		t->lsn = PG_GETARG_LSN(2);
		t->inclusive = PG_GETARG_BOOL(7);
	}
	else if (!PG_ARGISNULL(3))
	{
		t->kind = WA_TARGET_XID;
		t->xid = PG_GETARG_TRANSACTIONID(3);
		t->inclusive = PG_GETARG_BOOL(7);
	}
	else if (!PG_ARGISNULL(4))
	{
		t->kind = WA_TARGET_NAME;
		t->name = text_to_cstring(PG_GETARG_TEXT_PP(4));
	}
	if (!PG_ARGISNULL(6))
	{
		if (PG_GETARG_INT32(6) <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("timeline must be greater than zero")));
		t->timeline = (TimeLineID) PG_GETARG_INT32(6);
	}
	if (!PG_ARGISNULL(8))
		t->backup = text_to_cstring(PG_GETARG_TEXT_PP(8));
}

/* ---- the plan ---- */

/* May the answer be another one when the catalog has caught up? */
static bool
may_change(const WaRestorePlan *plan, const WaRestoreTarget *target)
{
	if (target->kind == WA_TARGET_END)
		return true;
	switch (plan->reason)
	{
		case WA_PLAN_NO_BACKUP:
		case WA_PLAN_BACKUP_UNUSABLE:
		case WA_PLAN_CHAIN_BROKEN:
		case WA_PLAN_UNKNOWN_BACKUP:
		case WA_PLAN_UNKNOWN_TIMELINE:
		case WA_PLAN_NOT_ARCHIVED:
		case WA_PLAN_NOT_INDEXED:
		case WA_PLAN_UNKNOWN_XID:
		case WA_PLAN_UNKNOWN_NAME:
		case WA_PLAN_PAST_LAST_COMMIT:
			return true;
		default:
			return false;
	}
}

static Planned *
make_plan(FunctionCallInfo fcinfo)
{
	Planned *p = palloc0(sizeof(Planned));
	WaRestorePlan *plan = &p->plan;
	WaPlanCatalog *catalog;
	const WaPlanInput *input;
	WaPlanFacts facts = {0};
	StringInfoData settings;

	wa_require_preload();
	plan_arguments(fcinfo, p);
	catalog = wa_plan_catalog_open(p->source);
	if (p->target.timeline == 0)
		wa_plan_catalog_follow(catalog);
	input = wa_plan_catalog_read(catalog);
	(void) wa_plan_restore(input, &p->target, plan);
	if (may_change(plan, &p->target) && wa_plan_catalog_wait(catalog))
	{
		input = wa_plan_catalog_read(catalog);
		(void) wa_plan_restore(input, &p->target, plan);
	}

	if (plan->feasible)
	{
		initStringInfo(&settings);
		appendStringInfoString(&settings, wa_target_settings(plan, &p->target));
		wa_plan_parameters(catalog, plan, &settings);
		p->settings = settings.data;
		p->prepared = wa_plan_prepared(catalog, plan);
		p->tablespaces = wa_plan_tablespaces(catalog, plan);
		p->id = wa_plan_store(catalog, plan, wa_target_text(&p->target), p->prepared, p->settings,
							  PG_ARGISNULL(9) ? NULL : PG_GETARG_INTERVAL_P(9));
	}
	if (plan->backup >= 0)
		p->backup = pstrdup(input->backups[plan->backup].label);
	p->segments = wa_plan_segments(plan, wa_plan_segment_size(catalog));
	p->backup_bytes = wa_plan_backup_bytes(input, plan);

	facts.source = p->source;
	facts.input = input;
	facts.target = &p->target;
	facts.plan = plan;
	facts.segment_size = wa_plan_segment_size(catalog);
	facts.id = p->id;
	facts.prepared = p->prepared;
	facts.tablespaces = p->tablespaces;
	facts.settings = p->settings;
	if (p->target.timeline == 0)
		facts.unknown_timeline = wa_plan_catalog_unknown_timeline(catalog);
	p->hint = wa_plan_hint(&facts);
	p->report = wa_plan_report_text(&facts);
	wa_plan_catalog_close(catalog);
	return p;
}

/* ---- the functions ---- */

static Datum
prepared_array(List *gids)
{
	Datum *values = palloc(Max(list_length(gids), 1) * sizeof(Datum));
	ListCell *lc;
	int n = 0;

	foreach (lc, gids)
		values[n++] = CStringGetTextDatum((char *) lfirst(lc));
	return PointerGetDatum(construct_array(values, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* walarchive.plan_restore(source, target_time, target_lsn, target_xid, target_name, ...) */
Datum
wa_plan_restore_row(PG_FUNCTION_ARGS)
{
	Planned *p = make_plan(fcinfo);
	const WaRestorePlan *plan = &p->plan;
	Datum values[PLAN_COLUMNS] = {0};
	bool nulls[PLAN_COLUMNS];
	TupleDesc desc;
	int n = 0;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != PLAN_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("library and extension walarchive differ in their version"),
				 errhint("Run ALTER EXTENSION walarchive UPDATE, or restart the server to load the installed library.")));
	memset(nulls, true, sizeof(nulls));
#define SET(condition, value)  \
	do                         \
	{                          \
		if (condition)         \
		{                      \
			values[n] = value; \
			nulls[n] = false;  \
		}                      \
		n++;                   \
	} while (0)
	SET(p->id != 0, Int64GetDatum(p->id));
	SET(true, BoolGetDatum(plan->feasible));
	SET(!plan->feasible, CStringGetTextDatum(wa_plan_reason_name(plan->reason)));
	SET(p->hint != NULL, CStringGetTextDatum(p->hint));
	SET(p->backup != NULL, CStringGetTextDatum(p->backup));
	SET(plan->timeline != 0, Int32GetDatum((int32) plan->timeline));
	SET(plan->path.count > 0, CStringGetTextDatum(wa_path_text(plan)));
	SET(plan->start_lsn != 0, LSNGetDatum(plan->start_lsn));
	SET(plan->feasible, LSNGetDatum(plan->stop_lsn));
	SET(plan->feasible && plan->has_commit, TransactionIdGetDatum(plan->last_commit.xid));
	SET(plan->feasible && plan->has_commit, TimestampTzGetDatum(plan->last_commit.time));
	SET(plan->feasible && plan->has_commit, LSNGetDatum(plan->last_commit.end_lsn));
	SET(plan->feasible, Int64GetDatum(p->segments));
	SET(plan->feasible, Int64GetDatum((int64) (plan->needed_lsn - plan->start_lsn)));
	SET(plan->nchain > 0, Int64GetDatum((int64) p->backup_bytes));
	SET(plan->feasible, prepared_array(p->prepared));
	SET(p->settings != NULL, CStringGetTextDatum(p->settings));
#undef SET
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* walarchive.plan_report(source, target_time, ...) */
Datum
wa_plan_report(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(make_plan(fcinfo)->report));
}
