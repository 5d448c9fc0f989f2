/*-------------------------------------------------------------------------
 *
 * plan_store.c
 *	  Plans of recoveries that are kept: what else is to be known of one, its row,
 *	  its files, its hold.
 *
 * See plan_input.c.  The functions by a plan's number ask for the same grant as
 * the one that made it: of the plan's source.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "../base/restore_path.h"
#include "../base/wal_name.h"
#include "../state/shmem.h"
#include "../state/stat_functions.h"
#include "plan_internal.h"

#define FILE_COLUMNS 7
#define TABLESPACE_COLUMNS 3
#define FETCH_ROWS 1000

PG_FUNCTION_INFO_V1(wa_files_of_plan);
PG_FUNCTION_INFO_V1(wa_tablespaces_of_plan);
PG_FUNCTION_INFO_V1(wa_renew_plan);
PG_FUNCTION_INFO_V1(wa_release_plan);

/* ---- arrays ---- */

static Datum
text_array(List *texts)
{
	Datum *values = palloc(Max(list_length(texts), 1) * sizeof(Datum));
	ListCell *lc;
	int n = 0;

	foreach (lc, texts)
		values[n++] = CStringGetTextDatum((char *) lfirst(lc));
	return PointerGetDatum(construct_array(values, n, TEXTOID, -1, false, TYPALIGN_INT));
}

static void
path_arrays(const WaHistory *path, Datum *timelines, Datum *begins)
{
	Datum *tli = palloc(Max(path->count, 1) * sizeof(Datum));
	Datum *lsn = palloc(Max(path->count, 1) * sizeof(Datum));

	for (int i = 0; i < path->count; i++)
	{
		tli[i] = Int32GetDatum((int32) path->entry[i].tli);
		lsn[i] = LSNGetDatum(path->entry[i].begin);
	}
	*timelines = PointerGetDatum(construct_array(tli, path->count, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	*begins = PointerGetDatum(construct_array(lsn, path->count, PG_LSNOID, sizeof(XLogRecPtr), FLOAT8PASSBYVAL,
											  TYPALIGN_DOUBLE));
}

/* ---- more of a plan ---- */

static int
compare_texts(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

static bool
is_finished(const WaPlanFound *found, bool after_match, TransactionId xid)
{
	ListCell *lc;

	if (after_match && found->match_finishes && found->match.xid == xid)
		return true;
	foreach (lc, found->finished)
	{
		if (((WaPlanPrepared *) lfirst(lc))->xid == xid)
			return true;
	}
	return false;
}

static void
raise_unread(const WaPlanCatalog *c)
{
	ereport(ERROR,
			(errcode(ERRCODE_IO_ERROR),
			 errmsg("could not read the archived WAL of source \"%s\"", c->source),
			 errdetail("%s.", c->found->failed)));
}

/*
 * A reading of the segment from its start up to where the plan ends;
 * '*after_match' if its match is replayed as well.
 */
static const WaPlanFound *
last_segment(WaPlanCatalog *c, const WaRestorePlan *plan, XLogRecPtr from, bool *after_match)
{
	*after_match = false;
	for (int i = 0; i < WA_PLAN_READINGS; i++)
	{
		const WaPlanFound *f = &c->readings[i];

		if (!f->valid || f->from != from || !wa_plan_is_of_path(f, &plan->path))
			continue;
		if (f->upto == plan->stop_lsn || (plan->stops_before && f->upto == plan->stop.start_lsn))
			return f;
		if (f->has_match && f->match_ends && f->match.end_lsn == plan->stop_lsn)
		{
			*after_match = true;
			return f;
		}
	}
	wa_plan_find(c, &plan->path, from, plan->stop_lsn, plan->stop_lsn, "none", 0, InvalidTransactionId);
	if (c->found->failed != NULL)
		raise_unread(c);
	return c->found;
}

/*
 * Which of them were finished where the catalog's rows don't tell?  'gids' and
 * 'xids' of the same length.
 */
static List *
drop_unlisted(WaPlanCatalog *c, const WaRestorePlan *plan, XLogRecPtr to, List *gids, List *xids)
{
	WaPlanRange range = {&plan->path, 0, to};

	for (int i = 0; i < plan->path.count; i++)
	{
		XLogRecPtr low;
		XLogRecPtr high;
		ListCell *g;
		ListCell *x;
		List *open = NIL;
		List *open_xids = NIL;

		if (!wa_plan_unlisted(c, &range, i, &low, &high))
			continue;
		wa_plan_find(c, &plan->path, low, high, plan->stop_lsn, "none", 0, InvalidTransactionId);
		/* what can't be read before the plan's beginning is no concern of it */
		if (c->found->failed != NULL)
			continue;
		forboth(g, gids, x, xids)
		{
			if (is_finished(c->found, false, lfirst_oid(x)))
				continue;
			open = lappend(open, lfirst(g));
			open_xids = lappend_oid(open_xids, lfirst_oid(x));
		}
		gids = open;
		xids = open_xids;
	}
	return gids;
}

List *
wa_plan_prepared(WaPlanCatalog *c, const WaRestorePlan *plan)
{
	Oid types[] = {TEXTOID, INT8OID, INT4ARRAYOID, PG_LSNARRAYOID, PG_LSNOID};
	Datum values[5];
	XLogRecPtr from = wa_segment_floor(plan->stop_lsn - 1, c->segment_size);
	bool after_match;
	const WaPlanFound *found = last_segment(c, plan, from, &after_match);
	List *gids = NIL;
	List *before = NIL;
	List *xids = NIL;
	ListCell *lc;

	/* what was prepared in the last segment; the catalog has what was open where that begins */
	foreach (lc, found->prepared)
	{
		WaPlanPrepared *p = lfirst(lc);

		if (p->gid != NULL && !is_finished(found, after_match, p->xid))
			gids = lappend(gids, pstrdup(p->gid));
	}
	values[0] = CStringGetTextDatum(c->source);
	values[1] = Int64GetDatum((int64) c->sysid);
	path_arrays(&plan->path, &values[2], &values[3]);
	values[4] = LSNGetDatum(from);
	wa_plan_query("SELECT p.xid, p.gid FROM walarchive.open_prepared($1, $2, $3, $4, $5) p",
				  5, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		bool isnull;
		Datum xid = SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &isnull);

		if (is_finished(found, after_match, DatumGetTransactionId(xid)))
			continue;
		before = lappend(before, SPI_getvalue(row, SPI_tuptable->tupdesc, 2));
		xids = lappend_oid(xids, DatumGetTransactionId(xid));
	}
	SPI_freetuptable(SPI_tuptable);
	if (before != NIL)
		gids = list_concat(gids, drop_unlisted(c, plan, from, before, xids));
	list_sort(gids, compare_texts);
	return gids;
}

List *
wa_plan_tablespaces(WaPlanCatalog *c, const WaRestorePlan *plan)
{
	Oid types[] = {TEXTOID, INT8OID, INT4ARRAYOID, PG_LSNARRAYOID, PG_LSNOID, PG_LSNOID};
	Datum values[6];
	List *locations = NIL;

	values[0] = CStringGetTextDatum(c->source);
	values[1] = Int64GetDatum((int64) c->sysid);
	path_arrays(&plan->path, &values[2], &values[3]);
	values[4] = LSNGetDatum(plan->start_lsn);
	values[5] = LSNGetDatum(plan->stop_lsn);
	wa_plan_query("SELECT m.location FROM walarchive.tablespaces_made($1, $2, $3, $4, $5, $6) m",
				  6, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
		locations = lappend(locations, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1));
	SPI_freetuptable(SPI_tuptable);
	return locations;
}

/*
 * Changes of the server's settings where the catalog's rows don't tell: in a
 * child's copy of a segment that recovery reads instead of its parent's.
 */
static void
unlisted_settings(WaPlanCatalog *c, const WaRestorePlan *plan, Datum *lsns, Datum *texts)
{
	WaPlanRange range = {&plan->path, 0, plan->needed_lsn};
	List *settings = NIL;
	WaIsland island;
	Datum *places;
	Datum *values;
	ListCell *lc;
	int n = 0;

	/* before a hole nothing is known that would hold here */
	if (wa_island_at(&c->input, &plan->path, plan->start_lsn, &island))
		range.from = island.from;
	for (int i = 0; i < plan->path.count; i++)
	{
		XLogRecPtr low;
		XLogRecPtr high;

		if (!wa_plan_unlisted(c, &range, i, &low, &high))
			continue;
		wa_plan_find(c, &plan->path, low, high, plan->needed_lsn, "none", 0, InvalidTransactionId);
		if (c->found->failed == NULL)
			settings = list_concat(settings, c->found->settings);
		/* what can't be read before the plan's beginning is no concern of it */
		else if (high > plan->start_lsn)
			raise_unread(c);
	}
	places = palloc(Max(list_length(settings), 1) * sizeof(Datum));
	values = palloc(Max(list_length(settings), 1) * sizeof(Datum));
	foreach (lc, settings)
	{
		const WaPlanSettings *s = lfirst(lc);

		places[n] = LSNGetDatum(s->start_lsn);
		values[n++] = CStringGetTextDatum(s->text);
	}
	*lsns = PointerGetDatum(construct_array(places, n, PG_LSNOID, sizeof(XLogRecPtr), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	*texts = PointerGetDatum(construct_array(values, n, TEXTOID, -1, false, TYPALIGN_INT));
}

void
wa_plan_parameters(WaPlanCatalog *c, const WaRestorePlan *plan, StringInfo lines)
{
	Oid types[] = {TEXTOID, INT8OID, INT4ARRAYOID, PG_LSNARRAYOID, PG_LSNOID, PG_LSNOID, PG_LSNARRAYOID, TEXTARRAYOID};
	Datum values[8];

	values[0] = CStringGetTextDatum(c->source);
	values[1] = Int64GetDatum((int64) c->sysid);
	path_arrays(&plan->path, &values[2], &values[3]);
	values[4] = LSNGetDatum(plan->start_lsn);
	values[5] = LSNGetDatum(plan->needed_lsn);
	unlisted_settings(c, plan, &values[6], &values[7]);
	wa_plan_query("SELECT p.name, p.value FROM walarchive.plan_parameters($1, $2, $3, $4, $5, $6, $7, $8) p",
				  8, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;

		appendStringInfo(lines, "%s = %d\n", SPI_getvalue(row, desc, 1), (int) wa_plan_int(row, desc, 2));
	}
	SPI_freetuptable(SPI_tuptable);
}

int64
wa_plan_store(WaPlanCatalog *c, const WaRestorePlan *plan, const char *target, List *prepared,
			  const char *settings, Interval *hold)
{
	Oid types[] = {TEXTOID, INT8OID, INT4OID, TEXTOID, TEXTOID, TEXTARRAYOID, INT4ARRAYOID,
				   PG_LSNARRAYOID, INT4OID, PG_LSNOID, PG_LSNOID, PG_LSNOID, PG_LSNOID, XIDOID,
				   TIMESTAMPTZOID, PG_LSNOID, TEXTARRAYOID, TEXTOID, INTERVALOID};
	Datum values[19];
	char nulls[20];
	MemoryContext caller = CurrentMemoryContext;
	List *chain = NIL;
	int64 id;

	if (XactReadOnly || RecoveryInProgress())
	{
		if (hold != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
					 errmsg("a plan can't be held in a read-only transaction")));
		return 0;
	}
	for (int i = 0; i < plan->nchain; i++)
		chain = lappend(chain, unconstify(char *, c->input.backups[plan->chain[i]].label));
	memset(nulls, ' ', sizeof(nulls));
	nulls[19] = '\0';
	values[0] = CStringGetTextDatum(c->source);
	values[1] = Int64GetDatum((int64) c->sysid);
	values[2] = Int32GetDatum((int32) c->segment_size);
	values[3] = CStringGetTextDatum(c->user);
	values[4] = CStringGetTextDatum(target);
	values[5] = text_array(chain);
	path_arrays(&plan->path, &values[6], &values[7]);
	values[8] = Int32GetDatum((int32) plan->start_tli);
	values[9] = LSNGetDatum(plan->start_lsn);
	values[10] = LSNGetDatum(plan->consistent_lsn);
	values[11] = LSNGetDatum(plan->stop_lsn);
	values[12] = LSNGetDatum(plan->needed_lsn);
	values[13] = TransactionIdGetDatum(plan->last_commit.xid);
	values[14] = TimestampTzGetDatum(plan->last_commit.time);
	values[15] = LSNGetDatum(plan->last_commit.end_lsn);
	if (!plan->has_commit)
		nulls[13] = nulls[14] = nulls[15] = 'n';
	values[16] = text_array(prepared);
	values[17] = CStringGetTextDatum(settings);
	values[18] = IntervalPGetDatum(hold);
	if (hold == NULL)
		nulls[18] = 'n';
	if (SPI_execute_with_args("SELECT walarchive.store_plan($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, "
							  "$13, $14, $15, $16, $17, $18, $19)",
							  19, types, values, nulls, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "plan could not be stored");
	MemoryContextSwitchTo(caller);
	id = wa_plan_int(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	SPI_freetuptable(SPI_tuptable);
	return id;
}

/* ---- by a plan's number ---- */

/*
 * The source of the plan that a function is called with, after it is known that
 * the caller may read it.
 */
static char *
plan_source(FunctionCallInfo fcinfo)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid types[] = {INT8OID};
	Datum values[1];
	char *source = NULL;
	Oid saved_user;
	int saved_context;

	wa_require_preload();
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("number of the plan must not be null")));
	values[0] = PG_GETARG_DATUM(0);
	wa_become_owner(&saved_user, &saved_context);
	if (SPI_execute_with_args("SELECT p.source FROM walarchive.plan p WHERE p.id OPERATOR(pg_catalog.=) $1",
							  1, types, values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "query of the plans failed");
	if (SPI_processed == 1)
		source = MemoryContextStrdup(caller, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	wa_become_user(saved_user, saved_context);
	MemoryContextSwitchTo(caller);
	if (source == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no plan " INT64_FORMAT, PG_GETARG_INT64(0)),
				 errhint("Plans are kept for a day, or as long as they are held; walarchive.plan_restore() makes one.")));
	wa_check_read_allowed(source);
	return source;
}

/* Rows of 'columns' that a query with the plan's number has. */
static void
rows_of_plan(FunctionCallInfo fcinfo, int columns, const char *query)
{
	ReturnSetInfo *rsinfo = wa_begin_rows(fcinfo, columns);
	Oid types[] = {INT8OID};
	Datum values[1];
	Oid saved_user;
	int saved_context;
	Portal portal;

	(void) plan_source(fcinfo);
	values[0] = PG_GETARG_DATUM(0);
	wa_become_owner(&saved_user, &saved_context);
	portal = SPI_cursor_open_with_args(NULL, query, 1, types, values, NULL, false, 0);
	for (;;)
	{
		uint64 count;

		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		count = SPI_processed;
		for (uint64 i = 0; i < count; i++)
		{
			Datum row[FILE_COLUMNS];
			bool nulls[FILE_COLUMNS];

			heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, row, nulls);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row, nulls);
		}
		SPI_freetuptable(SPI_tuptable);
		if (count == 0)
			break;
	}
	SPI_cursor_close(portal);
	wa_become_user(saved_user, saved_context);
}

/* walarchive.plan_files(plan_id) */
Datum
wa_files_of_plan(PG_FUNCTION_ARGS)
{
	rows_of_plan(fcinfo, FILE_COLUMNS, "SELECT f.* FROM walarchive.files_of_plan($1) f");
	return (Datum) 0;
}

/* walarchive.plan_tablespaces(plan_id) */
Datum
wa_tablespaces_of_plan(PG_FUNCTION_ARGS)
{
	StaticAssertStmt(TABLESPACE_COLUMNS <= FILE_COLUMNS, "rows_of_plan has room for them");
	rows_of_plan(fcinfo, TABLESPACE_COLUMNS,
				 "SELECT m.tablespace, m.location, m.start_lsn FROM walarchive.plan p "
				 "CROSS JOIN LATERAL walarchive.tablespaces_made(p.source, p.system_identifier, p.timelines, p.begins, "
				 "p.start_lsn, p.stop_lsn) m "
				 "WHERE p.id OPERATOR(pg_catalog.=) $1 ORDER BY m.start_lsn");
	return (Datum) 0;
}

/* Call a private function for a plan; '*result' is its value. */
static bool
call_for_plan(FunctionCallInfo fcinfo, const char *query, int nargs, Oid *types, Datum *result)
{
	Datum values[2];
	Oid saved_user;
	int saved_context;
	bool isnull;

	(void) plan_source(fcinfo);
	for (int i = 0; i < nargs; i++)
		values[i] = PG_GETARG_DATUM(i);
	wa_become_owner(&saved_user, &saved_context);
	if (SPI_execute_with_args(query, nargs, types, values, NULL, false, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "query of the plans failed");
	/* of a type that is passed by value */
	*result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	wa_become_user(saved_user, saved_context);
	return !isnull;
}

/* walarchive.renew_plan(plan_id, hold) */
Datum
wa_renew_plan(PG_FUNCTION_ARGS)
{
	Oid types[] = {INT8OID, INTERVALOID};
	Datum result;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("hold must not be null"),
				 errhint("walarchive.release_plan() ends a hold.")));
	if (!call_for_plan(fcinfo, "SELECT walarchive.hold_plan($1, $2)", 2, types, &result))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result);
}

/* walarchive.release_plan(plan_id) */
Datum
wa_release_plan(PG_FUNCTION_ARGS)
{
	Oid types[] = {INT8OID};
	Datum result;

	if (!call_for_plan(fcinfo, "SELECT walarchive.drop_plan_hold($1)", 1, types, &result))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result);
}
