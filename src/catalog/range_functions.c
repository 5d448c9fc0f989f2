/*-------------------------------------------------------------------------
 *
 * range_functions.c
 *	  commits, destructive_commits, stranded_commits, wal_stats, wal_records:
 *	  the rows that they return.  How the WAL is read is range_read.c's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "../state/stat_functions.h"
#include "catalog.h"
#include "range_read.h"

#define COMMIT_COLUMNS 7
#define READ_DESTRUCTION_COLUMNS 16
#define DESTRUCTION_COLUMNS 12
#define STRANDED_COLUMNS 9
#define STATS_COLUMNS 9
#define RECORD_COLUMNS 12

/* Relations of one transaction that are named; a longer list ends in "...". */
#define MAX_NAMES 10000

/* What is read before a range, for what transactions did before they ended in it. */
#define WARM_UP_SEGMENTS 4

PG_FUNCTION_INFO_V1(wa_commits);
PG_FUNCTION_INFO_V1(wa_read_destructions);
PG_FUNCTION_INFO_V1(wa_destructive_commits);
PG_FUNCTION_INFO_V1(wa_stranded_commits);
PG_FUNCTION_INFO_V1(wa_wal_stats);
PG_FUNCTION_INFO_V1(wa_wal_records);

/* Where rows go, and which are wanted. */
typedef struct RowSink
{
	ReturnSetInfo *rsinfo;
	const WaRangeArgs *args;

	/* of stranded_commits */
	bool stranded;
	XLogRecPtr fork_lsn; /* 0: not known */
	TimeLineID successor;
} RowSink;

/* Sums of wal_stats, by resource manager. */
typedef struct StatsSums
{
	WaMsgStats stats[256];
	char name[256][NAMEDATALEN];
} StatsSums;

static void
put_row(RowSink *sink, Datum *values, bool *nulls)
{
	tuplestore_putvalues(sink->rsinfo->setResult, sink->rsinfo->setDesc, values, nulls);
}

/* ---- arguments ---- */

static XLogRecPtr
lsn_argument(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? 0 : PG_GETARG_LSN(n);
}

/*
 * (source, from_lsn, to_lsn, [from_time, to_time,] timeline).  0/0 as a start is
 * as good as none, as an end it is refused.
 */
static void
range_arguments(FunctionCallInfo fcinfo, bool times, WaRangeArgs *args)
{
	int tli = times ? 5 : 3;

	memset(args, 0, sizeof(*args));
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name of the source must not be null")));
	args->source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	args->from_lsn = lsn_argument(fcinfo, 1);
	args->to_lsn = lsn_argument(fcinfo, 2);
	if (!PG_ARGISNULL(2) && args->to_lsn == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("to_lsn must not be 0/0"),
				 errhint("NULL means up to the end of what is archived.")));
	if (times && !PG_ARGISNULL(3))
	{
		args->has_from_time = true;
		args->from_time = PG_GETARG_TIMESTAMPTZ(3);
	}
	if (times && !PG_ARGISNULL(4))
	{
		args->has_to_time = true;
		args->to_time = PG_GETARG_TIMESTAMPTZ(4);
	}
	if (!PG_ARGISNULL(tli))
	{
		if (PG_GETARG_INT32(tli) <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("timeline must be greater than zero")));
		args->tli = (TimeLineID) PG_GETARG_INT32(tli);
	}
}

static bool
time_is_wanted(const WaRangeArgs *args, TimestampTz time)
{
	return (!args->has_from_time || time >= args->from_time) &&
		   (!args->has_to_time || time <= args->to_time);
}

/* ---- names ---- */

static Datum
oid_array(const Oid *oids, int count)
{
	Datum *values = palloc(Max(count, 1) * sizeof(Datum));

	for (int i = 0; i < count; i++)
		values[i] = ObjectIdGetDatum(oids[i]);
	return PointerGetDatum(construct_array(values, count, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

/* Three arrays from the message's files, which are not aligned. */
static int
file_arrays(const char *rest, uint32 count, Datum *tablespaces, Datum *databases, Datum *numbers)
{
	int n = Min(count, MAX_NAMES);
	Oid *oids = palloc(Max(n, 1) * 3 * sizeof(Oid));

	for (int i = 0; i < n; i++)
	{
		WaRelFile file;

		memcpy(&file, rest + (size_t) i * sizeof(file), sizeof(file));
		oids[i] = file.tablespace;
		oids[n + i] = file.database;
		oids[2 * n + i] = file.number;
	}
	*tablespaces = oid_array(oids, n);
	*databases = oid_array(oids + n, n);
	*numbers = oid_array(oids + 2 * n, n);
	return n;
}

/* Names of the files that a transaction dropped, text[]; false if there are none. */
static bool
dropped_names(const WaRangePiece *piece, const char *source, const WaMsgXact *x, const char *rest,
			  Datum *names)
{
	Oid types[] = {TEXTOID, INT8OID, OIDARRAYOID, OIDARRAYOID, OIDARRAYOID, TIMESTAMPTZOID, BOOLOID};
	Datum values[7];
	MemoryContext context = CurrentMemoryContext;
	bool isnull;

	if (x->files == 0)
		return false;
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) piece->sysid);
	(void) file_arrays(rest, x->files, &values[2], &values[3], &values[4]);
	values[5] = TimestampTzGetDatum(x->time);
	values[6] = BoolGetDatum(x->dropped_files > MAX_NAMES);
	if (SPI_execute_with_args("SELECT walarchive.file_names($1, $2, $3, $4, $5, $6) "
							  "OPERATOR(pg_catalog.||) CASE WHEN $7 THEN ARRAY['...'] ELSE ARRAY[]::pg_catalog.text[] END",
							  7, types, values, NULL, true, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "query of names failed");
	/* not SPI's, where what is made for each message would stay */
	MemoryContextSwitchTo(context);
	*names = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
		*names = PointerGetDatum(DatumGetArrayTypePCopy(*names));
	SPI_freetuptable(SPI_tuptable);
	return !isnull;
}

/* ---- commits and stranded_commits ---- */

static const char *
xact_kind(uint32 kind)
{
	switch ((WaEventKind) kind)
	{
		case WA_EVENT_COMMIT:
			return "commit";
		case WA_EVENT_ABORT:
			return "abort";
		case WA_EVENT_COMMIT_PREPARED:
			return "commit prepared";
		case WA_EVENT_ABORT_PREPARED:
			return "abort prepared";
		default:
			return NULL;
	}
}

static void
put_xact(WaRangeReader *reader, const WaRangePiece *piece, const WaDecoderMessage *message, void *arg)
{
	RowSink *sink = arg;
	const WaMsgXact *x = message->body;
	const char *kind = xact_kind(x->kind);
	Datum values[STRANDED_COLUMNS] = {0};
	bool nulls[STRANDED_COLUMNS] = {0};

	if (kind == NULL || !time_is_wanted(sink->args, x->time))
		return;
	if (sink->stranded && x->kind != WA_EVENT_COMMIT && x->kind != WA_EVENT_COMMIT_PREPARED)
		return;
	values[0] = Int32GetDatum((int32) x->tli);
	values[1] = LSNGetDatum(x->start_lsn);
	values[2] = LSNGetDatum(x->end_lsn);
	values[3] = TransactionIdGetDatum(x->xid);
	values[4] = TimestampTzGetDatum(x->time);
	values[5] = CStringGetTextDatum(kind);
	/* what an abort drops, it had made */
	nulls[6] = (x->kind != WA_EVENT_COMMIT && x->kind != WA_EVENT_COMMIT_PREPARED) ||
			   !dropped_names(piece, sink->args->source, x, message->rest, &values[6]);
	values[7] = LSNGetDatum(sink->fork_lsn);
	nulls[7] = (sink->fork_lsn == 0);
	values[8] = Int32GetDatum((int32) sink->successor);
	put_row(sink, values, nulls);
}

/* walarchive.commits(source, from_lsn, to_lsn, from_time, to_time, timeline) */
Datum
wa_commits(PG_FUNCTION_ARGS)
{
	RowSink sink = {0};
	WaRangeArgs args;
	WaRangeReader *reader;

	sink.rsinfo = wa_begin_rows(fcinfo, COMMIT_COLUMNS);
	range_arguments(fcinfo, true, &args);
	sink.args = &args;
	reader = wa_range_begin(args.source);
	wa_range_read(reader, &args, "xacts", "xacts", 0, WA_MSG_XACT, put_xact, &sink);
	wa_range_end(reader);
	return (Datum) 0;
}

/* walarchive.stranded_commits(source) */
Datum
wa_stranded_commits(PG_FUNCTION_ARGS)
{
	RowSink sink = {0};
	WaRangeArgs args = {0};
	WaRangeReader *reader;
	Oid types[] = {TEXTOID};
	Datum values[1];
	SPITupleTable *rows;
	uint64 count;

	sink.rsinfo = wa_begin_rows(fcinfo, STRANDED_COLUMNS);
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name of the source must not be null")));
	args.source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	sink.args = &args;
	sink.stranded = true;
	reader = wa_range_begin(args.source);
	values[0] = CStringGetTextDatum(args.source);
	if (SPI_execute_with_args("SELECT r.timeline, r.from_lsn, r.fork_lsn, r.successor_timeline "
							  "FROM walarchive.stranded_ranges($1) r",
							  1, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "query of the catalog failed");
	rows = SPI_tuptable;
	count = SPI_processed;
	for (uint64 i = 0; i < count; i++)
	{
		bool isnull;
		Datum fork_lsn;

		args.tli = (TimeLineID) DatumGetInt32(SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull));
		args.from_lsn = DatumGetLSN(SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &isnull));
		fork_lsn = SPI_getbinval(rows->vals[i], rows->tupdesc, 3, &isnull);
		sink.fork_lsn = isnull ? 0 : DatumGetLSN(fork_lsn);
		sink.successor = (TimeLineID) DatumGetInt32(SPI_getbinval(rows->vals[i], rows->tupdesc, 4, &isnull));
		wa_range_read(reader, &args, "xacts", "xacts", 0, WA_MSG_XACT, put_xact, &sink);
	}
	wa_range_end(reader);
	return (Datum) 0;
}

/* ---- destructive_commits ---- */

static const char *
destruction_kind(uint32 kind)
{
	switch ((WaDestructionKind) kind)
	{
		case WA_DESTRUCTION_DROP:
			return "drop";
		case WA_DESTRUCTION_TRUNCATE:
			return "truncate";
		case WA_DESTRUCTION_REWRITE:
			return "rewrite";
		case WA_DESTRUCTION_DATABASE:
			return "database";
	}
	return NULL;
}

static void
put_destruction(WaRangeReader *reader, const WaRangePiece *piece, const WaDecoderMessage *message,
				void *arg)
{
	RowSink *sink = arg;
	const WaMsgDestruction *d = message->body;
	const char *kind = destruction_kind(d->kind);
	uint32 relations = Min(d->relations, MAX_NAMES);
	XLogRecPtr warm_up = (XLogRecPtr) WARM_UP_SEGMENTS * piece->segment_size;
	XLogRecPtr decoded_from = piece->from_lsn > warm_up ? piece->from_lsn - warm_up : 0;
	Datum values[READ_DESTRUCTION_COLUMNS] = {0};
	bool nulls[READ_DESTRUCTION_COLUMNS] = {0};
	Oid *oids;

	if (kind == NULL || d->start_lsn < piece->from_lsn || !time_is_wanted(sink->args, d->time))
		return;
	values[0] = Int32GetDatum((int32) d->tli);
	values[1] = LSNGetDatum(d->start_lsn);
	values[2] = LSNGetDatum(d->end_lsn);
	values[3] = TransactionIdGetDatum(d->xid);
	values[4] = TimestampTzGetDatum(d->time);
	values[5] = CStringGetTextDatum(kind);
	values[6] = BoolGetDatum(d->aborted);
	values[7] = ObjectIdGetDatum(d->database);
	values[8] = Int64GetDatum(d->files);
	(void) file_arrays(message->rest, d->files, &values[9], &values[10], &values[11]);
	oids = palloc(Max(relations, 1) * sizeof(Oid));
	memcpy(oids, message->rest + (size_t) d->files * sizeof(WaRelFile), relations * sizeof(Oid));
	values[12] = oid_array(oids, relations);
	values[13] = LSNGetDatum(d->restore_before_lsn);
	nulls[13] = (d->restore_before_lsn == 0);
	values[14] = TimestampTzGetDatum(d->restore_before_time);
	nulls[14] = !d->has_time;
	values[15] = LSNGetDatum(Max(decoded_from, piece->first_lsn));
	put_row(sink, values, nulls);
}

/* walarchive.read_destructions(source, from_lsn, to_lsn, from_time, to_time, timeline) */
Datum
wa_read_destructions(PG_FUNCTION_ARGS)
{
	RowSink sink = {0};
	WaRangeArgs args;
	WaRangeReader *reader;

	sink.rsinfo = wa_begin_rows(fcinfo, READ_DESTRUCTION_COLUMNS);
	range_arguments(fcinfo, true, &args);
	sink.args = &args;
	reader = wa_range_begin(args.source);
	wa_range_read(reader, &args, "destructions", "destructions", WARM_UP_SEGMENTS, WA_MSG_DESTRUCTION,
				  put_destruction, &sink);
	wa_range_end(reader);
	return (Datum) 0;
}

/* walarchive.destructive_commits(source, from_lsn, to_lsn, from_time, to_time, timeline) */
Datum
wa_destructive_commits(PG_FUNCTION_ARGS)
{
	RowSink sink = {0};
	WaRangeArgs args;
	WaRangeReader *reader;
	Oid types[] = {TEXTOID, PG_LSNOID, PG_LSNOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID};
	Datum values[6];
	char nulls[6];
	Portal portal;

	sink.rsinfo = wa_begin_rows(fcinfo, DESTRUCTION_COLUMNS);
	range_arguments(fcinfo, true, &args);
	sink.args = &args;
	reader = wa_range_begin(args.source);
	for (int i = 0; i < lengthof(values); i++)
	{
		values[i] = PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	portal = SPI_cursor_open_with_args(NULL,
									   "SELECT d.* FROM walarchive.find_destructions($1, $2, $3, $4, $5, $6) d",
									   lengthof(values), types, values, nulls, false, 0);
	for (;;)
	{
		uint64 count;

		SPI_cursor_fetch(portal, true, 100);
		count = SPI_processed;
		for (uint64 i = 0; i < count; i++)
		{
			Datum row[DESTRUCTION_COLUMNS];
			bool row_nulls[DESTRUCTION_COLUMNS];

			heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, row, row_nulls);
			put_row(&sink, row, row_nulls);
		}
		SPI_freetuptable(SPI_tuptable);
		if (count == 0)
			break;
	}
	SPI_cursor_close(portal);
	wa_range_end(reader);
	return (Datum) 0;
}

/* ---- wal_stats ---- */

static void
add_stats(WaRangeReader *reader, const WaRangePiece *piece, const WaDecoderMessage *message, void *arg)
{
	StatsSums *sums = arg;
	const WaMsgStats *s = message->body;
	WaMsgStats *sum = &sums->stats[s->rmid];

	sum->records += s->records;
	sum->record_bytes += s->record_bytes;
	sum->image_bytes += s->image_bytes;
	strlcpy(sums->name[s->rmid], pnstrdup(message->rest, s->name_len), NAMEDATALEN);
}

static Datum
percentage(uint64 part, uint64 whole)
{
	return Float8GetDatum(whole == 0 ? 0 : 100.0 * (double) part / (double) whole);
}

/* walarchive.wal_stats(source, from_lsn, to_lsn, timeline) */
Datum
wa_wal_stats(PG_FUNCTION_ARGS)
{
	RowSink sink = {0};
	StatsSums *sums = palloc0(sizeof(StatsSums));
	WaRangeArgs args;
	WaRangeReader *reader;
	WaMsgStats all = {0};

	sink.rsinfo = wa_begin_rows(fcinfo, STATS_COLUMNS);
	range_arguments(fcinfo, false, &args);
	sink.args = &args;
	reader = wa_range_begin(args.source);
	wa_range_read(reader, &args, "all", "stats", 0, WA_MSG_STATS, add_stats, sums);
	wa_range_end(reader);
	for (int i = 0; i < lengthof(sums->stats); i++)
	{
		all.records += sums->stats[i].records;
		all.record_bytes += sums->stats[i].record_bytes;
		all.image_bytes += sums->stats[i].image_bytes;
	}
	for (int i = 0; i < lengthof(sums->stats); i++)
	{
		WaMsgStats *s = &sums->stats[i];
		Datum values[STATS_COLUMNS];
		bool nulls[STATS_COLUMNS] = {0};

		if (s->records == 0)
			continue;
		values[0] = CStringGetTextDatum(wa_clean_text(sums->name[i]));
		values[1] = Int64GetDatum((int64) s->records);
		values[2] = percentage(s->records, all.records);
		values[3] = Int64GetDatum((int64) s->record_bytes);
		values[4] = percentage(s->record_bytes, all.record_bytes);
		values[5] = Int64GetDatum((int64) s->image_bytes);
		values[6] = percentage(s->image_bytes, all.image_bytes);
		values[7] = Int64GetDatum((int64) (s->record_bytes + s->image_bytes));
		values[8] = percentage(s->record_bytes + s->image_bytes, all.record_bytes + all.image_bytes);
		put_row(&sink, values, nulls);
	}
	return (Datum) 0;
}

/* ---- wal_records ---- */

static void
put_record(WaRangeReader *reader, const WaRangePiece *piece, const WaDecoderMessage *message, void *arg)
{
	RowSink *sink = arg;
	const WaMsgRecord *r = message->body;
	const char *text = message->rest;
	Datum values[RECORD_COLUMNS] = {0};
	bool nulls[RECORD_COLUMNS] = {0};

	values[0] = Int32GetDatum((int32) r->tli);
	values[1] = LSNGetDatum(r->start_lsn);
	values[2] = LSNGetDatum(r->end_lsn);
	values[3] = LSNGetDatum(r->prev_lsn);
	values[4] = TransactionIdGetDatum(r->xid);
	values[5] = CStringGetTextDatum(wa_clean_text(pnstrdup(text, r->rmgr_len)));
	text += r->rmgr_len;
	values[6] = CStringGetTextDatum(wa_clean_text(pnstrdup(text, r->type_len)));
	text += r->type_len;
	values[7] = Int64GetDatum(r->total_len);
	values[8] = Int64GetDatum(r->main_len);
	values[9] = Int64GetDatum(r->image_bytes);
	values[10] = CStringGetTextDatum(wa_clean_text(pnstrdup(text, r->description_len)));
	nulls[10] = (r->description_len == 0);
	text += r->description_len;
	values[11] = CStringGetTextDatum(wa_clean_text(pnstrdup(text, r->blocks_len)));
	nulls[11] = (r->blocks_len == 0);
	put_row(sink, values, nulls);
}

/* walarchive.wal_records(source, from_lsn, to_lsn, timeline) */
Datum
wa_wal_records(PG_FUNCTION_ARGS)
{
	RowSink sink = {0};
	WaRangeArgs args;
	WaRangeReader *reader;

	sink.rsinfo = wa_begin_rows(fcinfo, RECORD_COLUMNS);
	range_arguments(fcinfo, false, &args);
	sink.args = &args;
	reader = wa_range_begin(args.source);
	wa_range_read(reader, &args, "all", "records", 0, WA_MSG_RECORD, put_record, &sink);
	wa_range_end(reader);
	return (Datum) 0;
}
