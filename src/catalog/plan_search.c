/*-------------------------------------------------------------------------
 *
 * plan_search.c
 *	  How the planner of recoveries finds records: the catalog's rows say which
 *	  segment may have them, and that one is read.
 *
 * See plan_input.c.  Segments' rows are of whole files: where a timeline was
 * left in the midst of one, what its row says may be of WAL behind that place,
 * so a segment without a match is followed by the next that may have one.
 *
 * What the rows don't tell is read in any case: the WAL before a fork that is
 * taken from the new timeline's file, because the old one's can't be read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "../base/restore_path.h"
#include "../base/wal_name.h"
#include "plan_internal.h"

/* What is looked for. */
typedef struct Sought
{
	const char *what; /* of walarchive.find_in_wal */
	int64 time;
	TransactionId xid;
} Sought;

/* ---- reading ---- */

static char *
path_text(const WaHistory *path)
{
	StringInfoData s;

	initStringInfo(&s);
	for (int i = 0; i < path->count; i++)
		appendStringInfo(&s, "%s%u:%X/%X", i > 0 ? "," : "", path->entry[i].tli,
						 LSN_FORMAT_ARGS(path->entry[i].begin));
	return s.data;
}

static void
take_record(HeapTuple row, TupleDesc desc, const char *kind, WaPlanRecord *record)
{
	bool isnull;
	Datum value;

	record->tli = (TimeLineID) wa_plan_int(row, desc, 3);
	record->start_lsn = wa_plan_lsn(row, desc, 4);
	record->end_lsn = wa_plan_lsn(row, desc, 5);
	record->prev_lsn = wa_plan_lsn(row, desc, 6);
	record->commit = kind != NULL && (strcmp(kind, "commit") == 0 || strcmp(kind, "commit prepared") == 0);
	record->prepare = kind != NULL && strcmp(kind, "prepare") == 0;
	value = SPI_getbinval(row, desc, 7, &isnull);
	record->xid = isnull ? InvalidTransactionId : DatumGetTransactionId(value);
	value = SPI_getbinval(row, desc, 8, &isnull);
	record->time = isnull ? 0 : DatumGetTimestampTz(value);
}

static void
take_row(WaPlanFound *found, HeapTuple row, TupleDesc desc)
{
	static const char *const last_role[] = {"last_record", "last_xact", "last_commit"};
	char *role = SPI_getvalue(row, desc, 1);
	char *kind = SPI_getvalue(row, desc, 2);

	if (strcmp(role, "failed") == 0)
		found->failed = SPI_getvalue(row, desc, 9);
	else if (strcmp(role, "match") == 0)
	{
		found->has_match = true;
		found->match_ends = kind != NULL && strcmp(kind, "prepare") != 0 && strcmp(kind, "restore point") != 0;
		found->match_finishes = kind != NULL && strstr(kind, " prepared") != NULL;
		take_record(row, desc, kind, &found->match);
	}
	else if (strcmp(role, "prepared") == 0 || strcmp(role, "finished") == 0)
	{
		WaPlanPrepared *p = palloc0(sizeof(WaPlanPrepared));
		bool isnull;

		p->xid = DatumGetTransactionId(SPI_getbinval(row, desc, 7, &isnull));
		p->gid = SPI_getvalue(row, desc, 9);
		if (role[0] == 'p')
			found->prepared = lappend(found->prepared, p);
		else
			found->finished = lappend(found->finished, p);
	}
	else if (strcmp(role, "settings") == 0)
	{
		WaPlanSettings *p = palloc0(sizeof(WaPlanSettings));

		p->start_lsn = wa_plan_lsn(row, desc, 4);
		p->text = SPI_getvalue(row, desc, 9);
		found->settings = lappend(found->settings, p);
	}
	for (int i = 0; i < lengthof(last_role); i++)
	{
		if (strcmp(role, last_role[i]) == 0)
		{
			found->has_last[i] = true;
			take_record(row, desc, kind, &found->last[i]);
		}
	}
}

void
wa_plan_find(WaPlanCatalog *c, const WaHistory *path, XLogRecPtr from, XLogRecPtr to, XLogRecPtr within,
			 const char *what, int64 time, TransactionId xid)
{
	Oid types[] = {TEXTOID, INT8OID, INT4OID, TEXTOID, PG_LSNOID,
				   PG_LSNOID, PG_LSNOID, TEXTOID, TIMESTAMPTZOID, XIDOID};
	MemoryContext old = MemoryContextSwitchTo(c->context);
	Datum values[10];
	TupleDesc desc;

	values[0] = CStringGetTextDatum(c->source);
	values[1] = Int64GetDatum((int64) c->sysid);
	values[2] = Int32GetDatum((int32) c->segment_size);
	values[3] = CStringGetTextDatum(path_text(path));
	values[4] = LSNGetDatum(from);
	values[5] = LSNGetDatum(to);
	values[6] = LSNGetDatum(within);
	values[7] = CStringGetTextDatum(what);
	values[8] = TimestampTzGetDatum(time);
	values[9] = TransactionIdGetDatum(xid);
	c->found = &c->readings[c->nreadings++ % WA_PLAN_READINGS];
	memset(c->found, 0, sizeof(*c->found));
	wa_plan_query("SELECT f.role, f.kind, f.timeline, f.start_lsn, f.end_lsn, f.prev_lsn, f.xid, f.xact_time, f.detail "
				  "FROM walarchive.find_in_wal($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) f",
				  10, types, values, NULL);
	desc = SPI_tuptable->tupdesc;
	for (uint64 i = 0; i < SPI_processed; i++)
		take_row(c->found, SPI_tuptable->vals[i], desc);
	SPI_freetuptable(SPI_tuptable);
	c->found->valid = c->found->failed == NULL;
	c->found->from = from;
	c->found->upto = c->found->has_match ? c->found->match.start_lsn : Min(to, within);
	c->found->seen = c->found->has_match ? c->found->match.end_lsn : c->found->upto;
	c->found->tli = wa_history_timeline_at(path, c->found->seen - 1);
	MemoryContextSwitchTo(old);
}

bool
wa_plan_is_of_path(const WaPlanFound *found, const WaHistory *path)
{
	return found->tli == wa_history_timeline_at(path, found->seen - 1);
}

static WaSearchStatus
failed(WaPlanCatalog *c, char *text)
{
	strlcpy(text, c->found->failed, WA_PLAN_TEXT_LEN);
	return WA_SEARCH_FAILED;
}

/* ---- the path ---- */

/* The part of the range that belongs to an entry of its path; false if there is none. */
static bool
stretch(const WaPlanRange *range, int i, XLogRecPtr *low, XLogRecPtr *high)
{
	const WaTimelineEntry *e = &range->path->entry[i];

	*low = Max(range->from, e->begin);
	*high = i + 1 < range->path->count ? Min(range->to, range->path->entry[i + 1].begin) : range->to;
	return *low < *high;
}

/* The start of a segment that the catalog names, 0: none. */
static bool
ask_segment(WaPlanCatalog *c, const char *query, TimeLineID tli, XLogRecPtr low, XLogRecPtr high,
			Oid type, Datum value, XLogRecPtr *start)
{
	Oid types[] = {TEXTOID, INT8OID, INT4OID, PG_LSNOID, PG_LSNOID, type};
	Datum values[] = {CStringGetTextDatum(c->source), Int64GetDatum((int64) c->sysid),
					  Int32GetDatum((int32) tli), LSNGetDatum(low), LSNGetDatum(high), value};
	bool isnull;
	Datum found;

	wa_plan_query(query, 6, types, values, NULL);
	found = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
		*start = DatumGetLSN(found);
	SPI_freetuptable(SPI_tuptable);
	return !isnull;
}

bool
wa_plan_unlisted(WaPlanCatalog *c, const WaPlanRange *range, int i, XLogRecPtr *low, XLogRecPtr *high)
{
	Oid types[] = {TEXTOID, INT8OID, INT4OID, PG_LSNOID, PG_LSNOID};
	const WaTimelineEntry *e = &range->path->entry[i];
	const WaPlanRun *run;
	XLogRecPtr fork;
	XLogRecPtr segment;
	Datum values[5];

	if (i + 1 == range->path->count || !stretch(range, i, low, high))
		return false;
	fork = range->path->entry[i + 1].begin;
	run = wa_plan_run_at(&c->input, e->tli, *high - 1);
	if (run != NULL && run->from <= *low && run->to >= *high)
		return false;
	segment = wa_segment_floor(fork - 1, c->segment_size);
	if (*high <= segment)
		return false;
	/* nothing of it leads there */
	if (run == NULL || run->to < segment)
	{
		*low = Max(*low, segment);
		return true;
	}
	values[0] = CStringGetTextDatum(c->source);
	values[1] = Int64GetDatum((int64) c->sysid);
	values[2] = Int32GetDatum((int32) e->tli);
	values[3] = LSNGetDatum(wa_segment_floor(Max(run->from, e->begin), c->segment_size));
	values[4] = LSNGetDatum(*high);
	wa_plan_query("SELECT walarchive.last_known_record($1, $2, $3, $4, $5)", 5, types, values, NULL);
	/* the one that goes on from there into the segment may not be known either */
	*low = Max(*low, wa_plan_lsn(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	SPI_freetuptable(SPI_tuptable);
	return *low < *high;
}

/* ---- what the planner calls ---- */

/*
 * Read a segment of entry 'i' of the path: is a match in the part of it that
 * belongs to the range?
 */
static WaSearchStatus
match_in(WaPlanCatalog *c, const WaPlanRange *range, int i, XLogRecPtr start, const char *what, int64 time,
		 TransactionId xid, WaPlanRecord *record, char *text)
{
	XLogRecPtr low;
	XLogRecPtr high;

	CHECK_FOR_INTERRUPTS();
	if (!stretch(range, i, &low, &high))
		return WA_SEARCH_NONE;
	wa_plan_find(c, range->path, Max(low, start), Min(high, start + c->segment_size), c->within, what, time, xid);
	if (c->found->failed != NULL)
		return failed(c, text);
	if (!c->found->has_match)
		return WA_SEARCH_NONE;
	*record = c->found->match;
	return WA_SEARCH_FOUND;
}

/*
 * The next segment, behind 'at' on the path, that may have a commit or abort at
 * 'time' or later: '*entry' of the path, and its start.
 */
static bool
next_by_time(WaPlanCatalog *c, const WaPlanRange *range, XLogRecPtr at, int64 time, int *entry,
			 XLogRecPtr *start)
{
	Oid types[] = {TEXTOID, INT8OID, INT4ARRAYOID, PG_LSNARRAYOID, PG_LSNARRAYOID, TIMESTAMPTZOID};
	int count = range->path->count;
	Datum *timelines = palloc(count * sizeof(Datum));
	Datum *lows = palloc(count * sizeof(Datum));
	Datum *highs = palloc(count * sizeof(Datum));
	int *entries = palloc(count * sizeof(int));
	Datum values[6];
	int n = 0;
	bool found;

	for (int i = *entry; i < count; i++)
	{
		XLogRecPtr low;
		XLogRecPtr high;

		if (!stretch(range, i, &low, &high))
			continue;
		if (i == *entry)
			low = Max(low, at);
		if (low >= high)
			continue;
		timelines[n] = Int32GetDatum((int32) range->path->entry[i].tli);
		lows[n] = LSNGetDatum(low);
		highs[n] = LSNGetDatum(high);
		entries[n++] = i;
	}
	if (n == 0)
		return false;
	values[0] = CStringGetTextDatum(c->source);
	values[1] = Int64GetDatum((int64) c->sysid);
	values[2] = PointerGetDatum(construct_array(timelines, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	values[3] = PointerGetDatum(construct_array(lows, n, PG_LSNOID, sizeof(XLogRecPtr), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[4] = PointerGetDatum(construct_array(highs, n, PG_LSNOID, sizeof(XLogRecPtr), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[5] = TimestampTzGetDatum(time);
	wa_plan_query("SELECT f.n, f.start_lsn FROM walarchive.first_segment_by_time($1, $2, $3, $4, $5, $6) f",
				  6, types, values, NULL);
	n = SPI_processed > 0 ? (int) wa_plan_int(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1) : 0;
	found = n > 0;
	if (found)
	{
		*entry = entries[n - 1];
		*start = wa_plan_lsn(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
	}
	SPI_freetuptable(SPI_tuptable);
	return found;
}

static WaSearchStatus
listed_time(WaPlanCatalog *c, const WaPlanRange *range, const Sought *sought, WaPlanRecord *record, char *text)
{
	XLogRecPtr start = 0;
	XLogRecPtr at = 0;
	int entry = 0;

	while (next_by_time(c, range, at, sought->time, &entry, &start))
	{
		WaSearchStatus status = match_in(c, range, entry, start, sought->what, sought->time, InvalidTransactionId,
										 record, text);

		if (status != WA_SEARCH_NONE)
			return status;
		at = start + c->segment_size;
	}
	return WA_SEARCH_NONE;
}

static int
compare_places(const void *a, const void *b)
{
	const WaPlanPlace *x = a;
	const WaPlanPlace *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return x->tli < y->tli ? -1 : x->tli > y->tli;
}

/* The segments of all timelines that may have the end of a transaction. */
static void
look_for_xid(WaPlanCatalog *c, TransactionId xid)
{
	Oid types[] = {TEXTOID, INT8OID, XIDOID};
	Datum values[] = {CStringGetTextDatum(c->source), Int64GetDatum((int64) c->sysid), TransactionIdGetDatum(xid)};

	if (c->places_of == xid)
		return;
	wa_plan_query("SELECT s.timeline, s.start_lsn FROM walarchive.segments_by_xid($1, $2, $3) s", 3, types, values, NULL);
	c->places = MemoryContextAllocHuge(c->context, Max(SPI_processed, 1) * sizeof(WaPlanPlace));
	c->nplaces = (int64) SPI_processed;
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		c->places[i].tli = (TimeLineID) wa_plan_int(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		c->places[i].start = wa_plan_lsn(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2);
	}
	SPI_freetuptable(SPI_tuptable);
	qsort(c->places, c->nplaces, sizeof(WaPlanPlace), compare_places);
	c->places_of = xid;
}

static WaSearchStatus
listed_xid(WaPlanCatalog *c, const WaPlanRange *range, const Sought *sought, WaPlanRecord *record, char *text)
{
	look_for_xid(c, sought->xid);
	for (int64 n = 0; n < c->nplaces; n++)
	{
		const WaPlanPlace *place = &c->places[n];

		for (int i = 0; i < range->path->count; i++)
		{
			XLogRecPtr low;
			XLogRecPtr high;
			WaSearchStatus status;

			if (range->path->entry[i].tli != place->tli || !stretch(range, i, &low, &high) ||
				place->start >= high || place->start + c->segment_size <= low)
				continue;
			status = match_in(c, range, i, place->start, sought->what, 0, sought->xid, record, text);
			if (status != WA_SEARCH_NONE)
				return status;
		}
	}
	return WA_SEARCH_NONE;
}

/* Read [from, to) of the path, whatever the catalog knows of it. */
static WaSearchStatus
unlisted_match(WaPlanCatalog *c, const WaHistory *path, XLogRecPtr from, XLogRecPtr to, const Sought *sought,
			   WaPlanRecord *record, char *text)
{
	wa_plan_find(c, path, from, to, c->within, sought->what, sought->time, sought->xid);
	if (c->found->failed != NULL)
		return failed(c, text);
	if (!c->found->has_match)
		return WA_SEARCH_NONE;
	*record = c->found->match;
	return WA_SEARCH_FOUND;
}

/* Look at a range in order: by the catalog's rows, and without them where they don't tell. */
static WaSearchStatus
search_first(WaPlanCatalog *c, const WaPlanRange *range, const Sought *sought, WaPlanRecord *record, char *text)
{
	WaPlanRange piece = *range;
	WaSearchStatus status = WA_SEARCH_NONE;

	c->within = range->to;
	for (int i = 0; i < range->path->count; i++)
	{
		XLogRecPtr low;
		XLogRecPtr high;

		if (i + 1 < range->path->count)
		{
			if (!wa_plan_unlisted(c, range, i, &low, &high))
				continue;
		}
		else
			low = high = range->to;
		piece.to = low;
		if (piece.from < piece.to)
			status = sought->xid != InvalidTransactionId ? listed_xid(c, &piece, sought, record, text)
														 : listed_time(c, &piece, sought, record, text);
		if (status == WA_SEARCH_NONE && low < high)
			status = unlisted_match(c, range->path, low, high, sought, record, text);
		if (status != WA_SEARCH_NONE)
			return status;
		piece.from = high;
	}
	return WA_SEARCH_NONE;
}

static WaSearchStatus
search_time(void *arg, const WaPlanRange *range, int64 time, bool or_equal, WaPlanRecord *record, char *text)
{
	Sought sought = {or_equal ? "time_or_equal" : "time", time, InvalidTransactionId};

	return search_first(arg, range, &sought, record, text);
}

static WaSearchStatus
search_xid(void *arg, const WaPlanRange *range, TransactionId xid, WaPlanRecord *record, char *text)
{
	Sought sought = {"xid", 0, xid};

	/* no transaction has this number */
	if (!TransactionIdIsNormal(xid))
		return WA_SEARCH_NONE;
	return search_first(arg, range, &sought, record, text);
}

static WaSearchStatus
search_record(void *arg, const WaPlanRange *range, XLogRecPtr lsn, WaPlanRecord *record, char *text)
{
	WaPlanCatalog *c = arg;
	XLogRecPtr from = Max(lsn, range->from);

	if (from >= range->to)
		return WA_SEARCH_NONE;
	wa_plan_find(c, range->path, from, range->to, range->to, "record", 0, InvalidTransactionId);
	if (c->found->failed != NULL)
		return failed(c, text);
	if (!c->found->has_match)
		return WA_SEARCH_NONE;
	*record = c->found->match;
	return WA_SEARCH_FOUND;
}

static WaSearchStatus
search_name(void *arg, const WaPlanRange *range, const char *name, WaPlanRecord *record, int *count,
			char *text)
{
	WaPlanCatalog *c = arg;
	WaSearchStatus status = WA_SEARCH_NONE;
	XLogRecPtr first = 0;
	int64 time = 0;

	*count = 0;
	c->within = range->to;
	for (int i = 0; i < range->path->count; i++)
	{
		Oid types[] = {TEXTOID, INT8OID, INT4OID, PG_LSNOID, PG_LSNOID, TEXTOID, PG_LSNOID};
		Datum values[7];
		XLogRecPtr low;
		XLogRecPtr high;
		XLogRecPtr read_from;
		XLogRecPtr read_to;

		if (!stretch(range, i, &low, &high))
			continue;
		if (!wa_plan_unlisted(c, range, i, &read_from, &read_to))
			read_from = read_to = high;
		values[0] = CStringGetTextDatum(c->source);
		values[1] = Int64GetDatum((int64) c->sysid);
		values[2] = Int32GetDatum((int32) range->path->entry[i].tli);
		values[3] = LSNGetDatum(low);
		values[4] = LSNGetDatum(read_from);
		values[5] = CStringGetTextDatum(name);
		values[6] = LSNGetDatum(range->to);
		wa_plan_query("SELECT r.start_lsn, r.created_at FROM walarchive.restore_point r "
					  "WHERE r.source OPERATOR(pg_catalog.=) $1 AND r.system_identifier OPERATOR(pg_catalog.=) $2 "
					  "AND r.timeline OPERATOR(pg_catalog.=) $3 AND r.start_lsn OPERATOR(pg_catalog.>=) $4 "
					  "AND r.start_lsn OPERATOR(pg_catalog.<) $5 AND r.name OPERATOR(pg_catalog.=) $6 "
					  "AND r.end_lsn OPERATOR(pg_catalog.<=) $7 ORDER BY r.start_lsn",
					  7, types, values, NULL);
		if (SPI_processed > 0 && *count == 0)
		{
			bool isnull;

			first = wa_plan_lsn(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
			time = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
		}
		*count += (int) Min(SPI_processed, PG_INT32_MAX - *count);
		SPI_freetuptable(SPI_tuptable);

		/* no restore point has a longer name */
		while (read_from < read_to && strlen(name) < WA_RESTORE_POINT_LEN)
		{
			Sought sought = {psprintf("name %s", name), 0, InvalidTransactionId};
			WaPlanRecord point;

			status = unlisted_match(c, range->path, read_from, read_to, &sought, &point, text);
			if (status == WA_SEARCH_FAILED)
				return status;
			if (status == WA_SEARCH_NONE)
				break;
			if ((*count)++ == 0)
			{
				first = point.start_lsn;
				time = point.time;
			}
			read_from = point.end_lsn;
		}
	}
	if (*count == 0)
		return WA_SEARCH_NONE;
	status = search_record(arg, range, first, record, text);
	if (status == WA_SEARCH_FOUND && record->start_lsn != first)
	{
		snprintf(text, WA_PLAN_TEXT_LEN, "the archived WAL has no record at %X/%X, where the catalog has a restore point",
				 LSN_FORMAT_ARGS(first));
		return WA_SEARCH_FAILED;
	}
	record->time = time;
	return status;
}

/*
 * Does a reading that was made say which is the last such record in [from, upto)
 * of the segment that begins at 'start'?  '*found' is false if there is none.
 */
static bool
is_known(const WaPlanFound *f, const WaHistory *path, XLogRecPtr start, XLogRecPtr from, XLogRecPtr upto, WaPlanLast what,
		 bool *found, WaPlanRecord *record)
{
	if (!f->valid || f->from < start || !wa_plan_is_of_path(f, path))
		return false;
	*found = false;
	if (f->has_match && f->match.end_lsn == upto && f->match.start_lsn >= from &&
		(what == WA_LAST_RECORD || (f->match_ends && (what == WA_LAST_XACT || f->match.commit))))
	{
		*found = true;
		*record = f->match;
		return true;
	}
	if (f->upto != upto && !(f->has_match && f->match.end_lsn == upto))
		return false;
	if (f->has_last[what] && f->last[what].start_lsn >= from)
	{
		*found = true;
		*record = f->last[what];
		return true;
	}
	return f->from <= from;
}

static WaSearchStatus
search_last(WaPlanCatalog *c, const WaPlanRange *range, WaPlanLast what, WaPlanRecord *record, char *text)
{
	static const char *const words[] = {"record", "xact", "commit"};

	for (int i = range->path->count - 1; i >= 0; i--)
	{
		XLogRecPtr low;
		XLogRecPtr high;
		XLogRecPtr start = 0;
		XLogRecPtr read_from;
		XLogRecPtr read_to;

		if (!stretch(range, i, &low, &high))
			continue;
		if (wa_plan_unlisted(c, range, i, &read_from, &read_to))
		{
			wa_plan_find(c, range->path, read_from, read_to, range->to, "none", 0, InvalidTransactionId);
			if (c->found->failed != NULL)
				return failed(c, text);
			if (c->found->has_last[what])
			{
				*record = c->found->last[what];
				return WA_SEARCH_FOUND;
			}
			high = read_from;
		}
		while (low < high &&
			   ask_segment(c, "SELECT walarchive.last_segment_with($1, $2, $3, $4, $5, $6)",
						   range->path->entry[i].tli, low, high, TEXTOID, CStringGetTextDatum(words[what]), &start))
		{
			XLogRecPtr from = Max(low, start);
			XLogRecPtr to = Min(high, start + c->segment_size);
			bool found = false;
			bool known = false;

			CHECK_FOR_INTERRUPTS();
			for (int n = 0; n < WA_PLAN_READINGS && !known; n++)
				known = is_known(&c->readings[n], range->path, start, from, Min(to, range->to), what, &found, record);
			if (!known)
			{
				wa_plan_find(c, range->path, from, to, range->to, "none", 0, InvalidTransactionId);
				if (c->found->failed != NULL)
					return failed(c, text);
				found = c->found->has_last[what];
				*record = c->found->last[what];
			}
			if (found)
				return WA_SEARCH_FOUND;
			high = start;
		}
	}
	return WA_SEARCH_NONE;
}

static WaSearchStatus
search_last_record(void *arg, const WaPlanRange *range, WaPlanRecord *record, char *text)
{
	return search_last(arg, range, WA_LAST_RECORD, record, text);
}

static WaSearchStatus
search_last_xact(void *arg, const WaPlanRange *range, bool commits, WaPlanRecord *record, char *text)
{
	return search_last(arg, range, commits ? WA_LAST_COMMIT : WA_LAST_XACT, record, text);
}

void
wa_plan_search_init(WaPlanCatalog *c)
{
	c->input.search.arg = c;
	c->input.search.time = search_time;
	c->input.search.xid = search_xid;
	c->input.search.name = search_name;
	c->input.search.record = search_record;
	c->input.search.last_record = search_last_record;
	c->input.search.last_xact = search_last_xact;
}
