/*-------------------------------------------------------------------------
 *
 * serve_facts.c
 *	  What the catalog has to say when archived files are served.
 *
 * A recovery asks for thousands of pieces, so the queries are planned once in
 * each session.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"

#include "serve_facts.h"

/* Longest list of arguments of a query here. */
#define MAX_ARGUMENTS 5

typedef struct ServeQuery
{
	const char *text;
	int nargs;
	Oid types[MAX_ARGUMENTS];
	SPIPlanPtr plan; /* NULL: not planned yet */
} ServeQuery;

/* Run a query, planned at its first use.  Returns how many rows there are, at most 'limit'. */
static uint64
run(ServeQuery *query, Datum *values, uint64 limit)
{
	if (query->plan == NULL)
	{
		SPIPlanPtr plan = SPI_prepare(query->text, query->nargs, query->types);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "query of the catalog could not be prepared");
		query->plan = plan;
	}
	if (SPI_execute_plan(query->plan, values, NULL, true, (long) limit) != SPI_OK_SELECT)
		elog(ERROR, "query of the catalog failed");
	return SPI_processed;
}

static Datum
column(int n, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, n, isnull);
}

uint64
wa_serve_cluster(const char *source)
{
	static ServeQuery query = {"SELECT s.system_identifier FROM walarchive.source s "
							   "WHERE s.name OPERATOR(pg_catalog.=) $1",
							   1,
							   {TEXTOID},
							   NULL};
	Datum values[] = {CStringGetTextDatum(source)};
	uint64 sysid;
	bool isnull;

	if (run(&query, values, 1) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("source \"%s\" does not exist", source),
				 errhint("The table walarchive.source lists the sources.")));
	values[0] = column(1, &isnull);
	sysid = isnull ? 0 : (uint64) DatumGetInt64(values[0]);
	SPI_freetuptable(SPI_tuptable);
	return sysid;
}

void
wa_serve_plan(const char *source, int64 plan_id, WaServePlan *plan)
{
	static ServeQuery query = {"SELECT p.system_identifier, p.segment_size, p.needed_lsn, p.timelines, p.begins "
							   "FROM walarchive.plan p "
							   "WHERE p.id OPERATOR(pg_catalog.=) $1 AND p.source OPERATOR(pg_catalog.=) $2",
							   2,
							   {INT8OID, TEXTOID},
							   NULL};
	Datum values[] = {Int64GetDatum(plan_id), CStringGetTextDatum(source)};
	Datum *timelines;
	Datum *begins;
	int ntimelines;
	int nbegins;
	bool isnull;

	if (run(&query, values, 1) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("source \"%s\" has no plan " INT64_FORMAT, source, plan_id),
				 errhint("Plans are kept for a day, or for as long as they are held. Plan the restore again.")));
	plan->sysid = (uint64) DatumGetInt64(column(1, &isnull));
	plan->segment_size = (uint32) DatumGetInt32(column(2, &isnull));
	plan->needed_lsn = DatumGetLSN(column(3, &isnull));
	deconstruct_array(DatumGetArrayTypeP(column(4, &isnull)), INT4OID, sizeof(int32), true, TYPALIGN_INT,
					  &timelines, NULL, &ntimelines);
	deconstruct_array(DatumGetArrayTypeP(column(5, &isnull)), PG_LSNOID, sizeof(XLogRecPtr), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &begins, NULL, &nbegins);
	if (ntimelines != nbegins || ntimelines == 0 || ntimelines > WA_MAX_TIMELINES)
		elog(ERROR, "path of plan " INT64_FORMAT " is not valid", plan_id);
	plan->path.count = ntimelines;
	for (int i = 0; i < ntimelines; i++)
	{
		plan->path.entry[i].tli = (TimeLineID) DatumGetInt32(timelines[i]);
		plan->path.entry[i].begin = DatumGetLSN(begins[i]);
		plan->path.entry[i].end = i + 1 < ntimelines ? DatumGetLSN(begins[i + 1]) : 0;
	}
	SPI_freetuptable(SPI_tuptable);
}

TimeLineID
wa_serve_newest(const char *source, uint64 sysid)
{
	static ServeQuery query = {"SELECT g.timeline FROM walarchive.segment g "
							   "WHERE g.source OPERATOR(pg_catalog.=) $1 AND g.system_identifier OPERATOR(pg_catalog.=) $2 "
							   "ORDER BY g.source DESC, g.system_identifier DESC, g.timeline DESC LIMIT 1",
							   2,
							   {TEXTOID, INT8OID},
							   NULL};
	Datum values[] = {CStringGetTextDatum(source), Int64GetDatum((int64) sysid)};
	TimeLineID newest = 0;
	bool isnull;

	if (run(&query, values, 1) > 0)
		newest = (TimeLineID) DatumGetInt32(column(1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return newest;
}

void
wa_serve_segment(const char *source, uint64 sysid, TimeLineID tli, XLogRecPtr start, WaServeSegment *segment)
{
	static ServeQuery query = {"SELECT pg_catalog.encode(g.sha256, 'hex'), g.damage, g.damage_lsn "
							   "FROM walarchive.segment g "
							   "WHERE g.source OPERATOR(pg_catalog.=) $1 AND g.system_identifier OPERATOR(pg_catalog.=) $2 "
							   "AND g.timeline OPERATOR(pg_catalog.=) $3 AND g.start_lsn OPERATOR(pg_catalog.=) $4",
							   4,
							   {TEXTOID, INT8OID, INT4OID, PG_LSNOID},
							   NULL};
	Datum values[] = {CStringGetTextDatum(source), Int64GetDatum((int64) sysid), Int32GetDatum((int32) tli),
					  LSNGetDatum(start)};
	MemoryContext context = CurrentMemoryContext;
	Datum value;
	bool isnull;

	memset(segment, 0, sizeof(*segment));
	if (run(&query, values, 1) > 0)
	{
		segment->known = true;
		value = column(1, &isnull);
		if (!isnull)
			strlcpy(segment->sha256, TextDatumGetCString(value), sizeof(segment->sha256));
		value = column(2, &isnull);
		if (!isnull)
			segment->damage = MemoryContextStrdup(context, TextDatumGetCString(value));
		value = column(3, &isnull);
		segment->damage_lsn = isnull ? 0 : DatumGetLSN(value);
	}
	SPI_freetuptable(SPI_tuptable);
}

bool
wa_serve_any_segment(const char *source, uint64 sysid, TimeLineID tli, XLogRecPtr from, XLogRecPtr to)
{
	static ServeQuery query = {"SELECT 1 FROM walarchive.segment g "
							   "WHERE g.source OPERATOR(pg_catalog.=) $1 AND g.system_identifier OPERATOR(pg_catalog.=) $2 "
							   "AND g.timeline OPERATOR(pg_catalog.=) $3 AND g.start_lsn OPERATOR(pg_catalog.>=) $4 "
							   "AND g.start_lsn OPERATOR(pg_catalog.<) $5 "
							   "ORDER BY g.source, g.system_identifier, g.timeline, g.start_lsn LIMIT 1",
							   5,
							   {TEXTOID, INT8OID, INT4OID, PG_LSNOID, PG_LSNOID},
							   NULL};
	Datum values[] = {CStringGetTextDatum(source), Int64GetDatum((int64) sysid), Int32GetDatum((int32) tli),
					  LSNGetDatum(from), LSNGetDatum(to != 0 ? to : PG_UINT64_MAX)};
	bool found = run(&query, values, 1) > 0;

	SPI_freetuptable(SPI_tuptable);
	return found;
}

bool
wa_serve_catalog_is_whole(const char *source)
{
	static ServeQuery query = {"SELECT 1 FROM walarchive.index_progress p "
							   "WHERE p.source OPERATOR(pg_catalog.=) $1 AND p.full_pass_at IS NOT NULL",
							   1,
							   {TEXTOID},
							   NULL};
	Datum values[] = {CStringGetTextDatum(source)};
	bool found = run(&query, values, 1) > 0;

	SPI_freetuptable(SPI_tuptable);
	return found;
}

uint64
wa_serve_backup_cluster(const char *source, const char *label)
{
	static ServeQuery query = {"SELECT b.system_identifier FROM walarchive.backup b "
							   "WHERE b.source OPERATOR(pg_catalog.=) $1 AND b.label OPERATOR(pg_catalog.=) $2 "
							   "AND b.state OPERATOR(pg_catalog.<>) ALL (ARRAY['failed', 'deleting']) "
							   "ORDER BY b.started_at DESC LIMIT 1",
							   2,
							   {TEXTOID, TEXTOID},
							   NULL};
	Datum values[] = {CStringGetTextDatum(source), CStringGetTextDatum(label)};
	uint64 sysid = 0;
	bool isnull;

	if (run(&query, values, 1) > 0)
		sysid = (uint64) DatumGetInt64(column(1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return sysid;
}

void
wa_serve_layout(const char *source, Datum *values, bool *nulls, int columns)
{
	static ServeQuery query = {"SELECT l.* FROM walarchive.layout_of($1) l", 1, {TEXTOID}, NULL};
	Datum arguments[] = {CStringGetTextDatum(source)};

	if (run(&query, arguments, 1) != 1 || SPI_tuptable->tupdesc->natts != columns)
		elog(ERROR, "query of the catalog failed");
	for (int i = 0; i < columns; i++)
	{
		/* by value, or not at all */
		Assert(TupleDescAttr(SPI_tuptable->tupdesc, i)->attbyval);
		values[i] = column(i + 1, &nulls[i]);
	}
	SPI_freetuptable(SPI_tuptable);
}
