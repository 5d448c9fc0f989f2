/*-------------------------------------------------------------------------
 *
 * plan_input.c
 *	  The catalog as the planner of recoveries wants it, see plan_input.h.
 *
 * Lives in a session, for the time of one function.  All that a plan is made of
 * is read under one snapshot.  The planner's questions about records are
 * narrowed to one segment by the catalog's rows, and that segment is read
 * (walarchive.find_in_wal).  What such a reading came by is kept: the next
 * question is often about the same segment.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "../base/wal_name.h"
#include "../compat.h"
#include "plan_input.h"
#include "plan_internal.h"

/* How long the indexer is waited for, and between two looks, in ms. */
#define WAIT_MS 3000
#define LOOK_MS 20

/* ---- the catalog ---- */

/*
 * Run a query of the catalog under the snapshot of the plan.  The memory context
 * stays the caller's: SPI leaves its own behind, which ends with the catalog, and
 * what is made of the answers is wanted longer.
 */
void
wa_plan_query(const char *query, int nargs, Oid *types, Datum *values, const char *nulls)
{
	MemoryContext caller = CurrentMemoryContext;

	if (SPI_execute_with_args(query, nargs, types, values, nulls, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "query of the catalog failed: %s", query);
	MemoryContextSwitchTo(caller);
}

static void
query_cluster(WaPlanCatalog *c, const char *query)
{
	Oid types[] = {TEXTOID, INT8OID};
	Datum values[] = {CStringGetTextDatum(c->source), Int64GetDatum((int64) c->sysid)};

	wa_plan_query(query, 2, types, values, NULL);
}

static void
look_at_source(WaPlanCatalog *c)
{
	Oid types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(c->source)};
	HeapTuple row;
	TupleDesc desc;

	wa_plan_query("SELECT p.system_identifier, p.segment_size, p.timelines[pg_catalog.cardinality(p.timelines)], "
				  "CASE WHEN p.live THEN p.last_lsn END, "
				  "(SELECT r.received_tli FROM walarchive.receiver_state() r WHERE r.source OPERATOR(pg_catalog.=) $1 "
				  "AND r.system_identifier OPERATOR(pg_catalog.=) p.system_identifier) "
				  "FROM walarchive.archived_path($1, NULL) p",
				  1, types, values, NULL);
	row = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	c->sysid = (uint64) wa_plan_int(row, desc, 1);
	c->segment_size = c->input.segment_size = (uint32) wa_plan_int(row, desc, 2);
	c->input.newest = (TimeLineID) wa_plan_int(row, desc, 3);
	c->live_lsn = wa_plan_lsn(row, desc, 4);
	c->received_tli = (TimeLineID) wa_plan_int(row, desc, 5);
	SPI_freetuptable(SPI_tuptable);
}

static void
read_timelines(WaPlanCatalog *c)
{
	WaPlanTimeline *timelines;
	TupleDesc desc;

	query_cluster(c, "SELECT t.timeline, t.parent_timeline, t.fork_lsn FROM walarchive.timeline t "
					 "WHERE t.source OPERATOR(pg_catalog.=) $1 AND t.system_identifier OPERATOR(pg_catalog.=) $2 "
					 "ORDER BY t.timeline");
	desc = SPI_tuptable->tupdesc;
	timelines = MemoryContextAlloc(c->context, Max(SPI_processed, 1) * sizeof(WaPlanTimeline));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];

		timelines[i].tli = (TimeLineID) wa_plan_int(row, desc, 1);
		timelines[i].parent = (TimeLineID) wa_plan_int(row, desc, 2);
		timelines[i].fork = wa_plan_lsn(row, desc, 3);
	}
	c->input.timelines = timelines;
	c->input.ntimelines = (int) SPI_processed;
	SPI_freetuptable(SPI_tuptable);
}

static WaRunEnd
run_end(const char *word)
{
	static const struct
	{
		const char *word;
		WaRunEnd end;
	} ends[] = {
		{"head", WA_RUN_HEAD},
		{"pending", WA_RUN_UNDECODED},
		{"gap", WA_RUN_GAP},
		{"damage", WA_RUN_DAMAGE},
		{"quarantined", WA_RUN_QUARANTINED},
		{"unknown", WA_RUN_UNKNOWN},
	};

	for (int i = 0; i < lengthof(ends); i++)
	{
		if (word != NULL && strcmp(ends[i].word, word) == 0)
			return ends[i].end;
	}
	elog(ERROR, "a stretch of WAL is ended by \"%s\"", word ? word : "nothing");
}

static void
read_runs(WaPlanCatalog *c)
{
	Oid types[] = {TEXTOID, INT8OID, INT4OID, PG_LSNOID};
	Datum values[] = {CStringGetTextDatum(c->source), Int64GetDatum((int64) c->sysid),
					  Int32GetDatum((int32) c->newest_at_start), LSNGetDatum(c->live_at_start)};
	WaPlanRun *runs;
	TupleDesc desc;

	wa_plan_query("SELECT r.timeline, r.from_lsn, r.to_lsn, r.ended_by, r.resumes "
				  "FROM walarchive.plan_runs($1, $2, $3, $4) r",
				  4, types, values, c->live_at_start != 0 ? NULL : "   n");
	desc = SPI_tuptable->tupdesc;
	runs = MemoryContextAlloc(c->context, Max(SPI_processed, 1) * sizeof(WaPlanRun));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];

		runs[i].tli = (TimeLineID) wa_plan_int(row, desc, 1);
		runs[i].from = wa_plan_lsn(row, desc, 2);
		runs[i].to = wa_plan_lsn(row, desc, 3);
		runs[i].ended_by = run_end(SPI_getvalue(row, desc, 4));
		runs[i].resumes = wa_plan_lsn(row, desc, 5);
	}
	c->input.runs = runs;
	c->input.nruns = (int) SPI_processed;
	SPI_freetuptable(SPI_tuptable);
}

static char *
text_column(WaPlanCatalog *c, HeapTuple row, TupleDesc desc, int column)
{
	char *value = SPI_getvalue(row, desc, column);

	return value != NULL ? MemoryContextStrdup(c->context, value) : NULL;
}

static void
read_backups(WaPlanCatalog *c)
{
	WaPlanBackup *backups;
	TupleDesc desc;

	query_cluster(c, "SELECT b.label, b.kind OPERATOR(pg_catalog.=) 'incremental', b.parent, b.state, b.reason, "
					 "b.timeline, b.start_lsn, b.stop_timeline, b.stop_lsn, b.consistent_lsn, b.size, "
					 "b.edge_lsn IS NOT NULL, b.earliest_target_time, b.started_at, "
					 "b.info_problem IS NOT NULL OR b.start_lsn IS NULL OR b.damage IS NOT NULL "
					 "FROM walarchive.backup b "
					 "WHERE b.source OPERATOR(pg_catalog.=) $1 AND b.system_identifier OPERATOR(pg_catalog.=) $2 "
					 "AND b.state IN ('waiting', 'usable', 'broken') ORDER BY b.label");
	desc = SPI_tuptable->tupdesc;
	backups = MemoryContextAllocZero(c->context, Max(SPI_processed, 1) * sizeof(WaPlanBackup));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		WaPlanBackup *b = &backups[i];
		char *state = SPI_getvalue(row, desc, 4);
		bool isnull;
		Datum time;

		b->label = text_column(c, row, desc, 1);
		b->incremental = wa_plan_bool(row, desc, 2);
		b->parent = text_column(c, row, desc, 3);
		b->state = strcmp(state, "usable") == 0    ? WA_PLAN_BACKUP_USABLE
				   : strcmp(state, "waiting") == 0 ? WA_PLAN_BACKUP_WAITING
												   : WA_PLAN_BACKUP_BROKEN;
		b->reason = text_column(c, row, desc, 5);
		b->tli = (TimeLineID) wa_plan_int(row, desc, 6);
		b->start_lsn = wa_plan_lsn(row, desc, 7);
		b->stop_tli = (TimeLineID) wa_plan_int(row, desc, 8);
		b->stop_lsn = wa_plan_lsn(row, desc, 9);
		b->consistent_lsn = wa_plan_lsn(row, desc, 10);
		b->size = (uint64) wa_plan_int(row, desc, 11);
		/* looked at, and nothing there: any time will do */
		b->has_earliest_time = wa_plan_bool(row, desc, 12);
		time = SPI_getbinval(row, desc, 13, &isnull);
		b->earliest_time = isnull ? PG_INT64_MIN : DatumGetTimestampTz(time);
		time = SPI_getbinval(row, desc, 14, &isnull);
		b->has_begin_time = !isnull;
		b->begin_time = isnull ? 0 : DatumGetTimestampTz(time);
		b->no_files = wa_plan_bool(row, desc, 15);
	}
	c->input.backups = backups;
	c->input.nbackups = (int) SPI_processed;
	SPI_freetuptable(SPI_tuptable);
}

WaPlanCatalog *
wa_plan_catalog_open(const char *source)
{
	MemoryContext caller = CurrentMemoryContext;
	WaPlanCatalog *c = palloc0(sizeof(WaPlanCatalog));

	c->user = GetUserNameFromId(GetUserId(), false);
	c->source = pstrdup(source);
	c->caller = caller;
	c->reader = wa_range_begin(source);
	MemoryContextSwitchTo(caller);
	c->context = AllocSetContextCreate(caller, "walarchive plan", ALLOCSET_DEFAULT_SIZES);
	wa_plan_decoder_begin();
	PushActiveSnapshot(GetLatestSnapshot());
	look_at_source(c);
	c->live_at_start = c->live_lsn;
	c->newest_at_start = c->input.newest;
	c->just_opened = true;
	return c;
}

void
wa_plan_catalog_close(WaPlanCatalog *c)
{
	wa_plan_decoder_end();
	PopActiveSnapshot();
	wa_range_end(c->reader);
	MemoryContextSwitchTo(c->caller);
	MemoryContextDelete(c->context);
	pfree(c);
}

static void
fresh_snapshot(void)
{
	PopActiveSnapshot();
	PushActiveSnapshot(GetLatestSnapshot());
}

/* Does the catalog lack, in the present snapshot, what was archived when it was opened? */
static bool
index_lags(WaPlanCatalog *c)
{
	Oid types[] = {TEXTOID, INT8OID, INT4OID, PG_LSNOID};
	Datum values[] = {CStringGetTextDatum(c->source), Int64GetDatum((int64) c->sysid),
					  Int32GetDatum((int32) c->newest_at_start), LSNGetDatum(c->live_at_start)};
	bool lags;

	wa_plan_query("SELECT walarchive.index_lags($1, $2, $3, $4)", 4, types, values,
				  c->live_at_start != 0 ? NULL : "   n");
	lags = wa_plan_bool(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	SPI_freetuptable(SPI_tuptable);
	return lags;
}

const WaPlanInput *
wa_plan_catalog_read(WaPlanCatalog *c)
{
	MemoryContextReset(c->context);
	memset(c->readings, 0, sizeof(c->readings));
	c->nreadings = 0;
	c->places_of = InvalidTransactionId;
	if (!c->just_opened)
	{
		fresh_snapshot();
		look_at_source(c);
	}
	c->just_opened = false;
	read_timelines(c);
	read_runs(c);
	read_backups(c);
	wa_plan_search_init(c);
	c->lagged = index_lags(c);
	return &c->input;
}

/* Rest a little before the next look; false: it has been long enough since the first one, '*since' (0: none). */
static bool
rest(TimestampTz *since)
{
	TimestampTz now = GetCurrentTimestamp();

	if (*since == 0)
		*since = now;
	/* a clock that was set back does not make it longer */
	if (now < *since || now >= TimestampTzPlusMilliseconds(*since, WAIT_MS))
		return false;
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOOK_MS, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return true;
}

bool
wa_plan_catalog_wait(WaPlanCatalog *c)
{
	if (!c->lagged)
		return false;
	do
		fresh_snapshot();
	while (index_lags(c) && rest(&c->waiting_since));
	return true;
}

void
wa_plan_catalog_follow(WaPlanCatalog *c)
{
	if (wa_plan_catalog_unknown_timeline(c) == 0)
		return;
	while (wa_plan_catalog_unknown_timeline(c) != 0 && rest(&c->waiting_since))
	{
		fresh_snapshot();
		look_at_source(c);
	}
	c->live_at_start = c->live_lsn;
	c->newest_at_start = c->input.newest;
}

TimeLineID
wa_plan_catalog_unknown_timeline(const WaPlanCatalog *c)
{
	return c->received_tli > c->input.newest ? c->received_tli : 0;
}

uint32
wa_plan_segment_size(const WaPlanCatalog *c)
{
	return c->segment_size;
}
