/*-------------------------------------------------------------------------
 *
 * verify_plan.c
 *	  Which files a verification has to look at; see verify_plan.h.
 *
 * Names in the directory are input: nothing is done as often as the numbers in
 * them say.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dirent.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"

#include "../state/archive_dir.h"
#include "verify_plan.h"

/* Holes up to this many segments are looked at one by one. */
#define SHORT_HOLE 64

/* Rows of the catalog that are read in one transaction. */
#define PAGE_ROWS 5000

#define MAX_STRANGERS 10
#define MAX_HISTORY_LEN (1024 * 1024)

/* WAL that the receiver could not get, or that is not wanted any more. */
typedef struct Gap
{
	TimeLineID tli;
	XLogRecPtr from;
	XLogRecPtr to;
} Gap;

typedef struct Planner
{
	const char *source;
	uint64 sysid;
	WaVerifyPlan *plan;
	MemoryContext context;
	int64 allocated;
	int64 sorted; /* so many files, of those that are there, are in order */
	uint64 lowest;
	Gap *gap;
	int gaps;
} Planner;

static int
compare_planned(const void *a, const void *b)
{
	const WaPlannedFile *x = a;
	const WaPlannedFile *y = b;

	if (x->tli != y->tli)
		return x->tli < y->tli ? -1 : 1;
	if (x->segno != y->segno)
		return x->segno < y->segno ? -1 : 1;
	return 0;
}

static int
compare_timelines(const void *a, const void *b)
{
	const WaPlannedTimeline *x = a;
	const WaPlannedTimeline *y = b;

	return x->tli < y->tli ? -1 : x->tli > y->tli;
}

static int
compare_gaps(const void *a, const void *b)
{
	const Gap *x = a;
	const Gap *y = b;

	return x->from < y->from ? -1 : x->from > y->from;
}

static void
add_file(Planner *p, TimeLineID tli, uint64 segno, int64 size, bool partial)
{
	WaVerifyPlan *plan = p->plan;

	if (plan->files == p->allocated)
	{
		p->allocated = Max(1024, p->allocated + p->allocated / 2);
		if (plan->file == NULL)
			plan->file = MemoryContextAllocHuge(p->context, p->allocated * sizeof(WaPlannedFile));
		else
			plan->file = repalloc_huge(plan->file, p->allocated * sizeof(WaPlannedFile));
	}
	plan->file[plan->files].tli = tli;
	plan->file[plan->files].segno = segno;
	plan->file[plan->files].size = size;
	plan->file[plan->files].partial = partial;
	plan->files++;
}

/* Is it among the files that are there? */
static bool
is_there(Planner *p, TimeLineID tli, uint64 segno)
{
	WaPlannedFile key = {.tli = tli, .segno = segno};

	return p->sorted > 0 &&
		   bsearch(&key, p->plan->file, p->sorted, sizeof(WaPlannedFile), compare_planned) != NULL;
}

static WaPlannedTimeline *
add_timeline(Planner *p, TimeLineID tli)
{
	WaVerifyPlan *plan = p->plan;
	WaPlannedTimeline *t;

	for (int i = 0; i < plan->timelines; i++)
	{
		if (plan->timeline[i].tli == tli)
			return &plan->timeline[i];
	}
	if (plan->timeline == NULL)
		plan->timeline = MemoryContextAlloc(p->context, sizeof(WaPlannedTimeline));
	else
		plan->timeline = repalloc(plan->timeline, (plan->timelines + 1) * sizeof(WaPlannedTimeline));
	t = &plan->timeline[plan->timelines++];
	memset(t, 0, sizeof(*t));
	t->tli = tli;
	return t;
}

/* The timelines of the files added since 'first', and their histories. */
static void
add_timelines(Planner *p, int64 first)
{
	for (int64 i = first; i < p->plan->files; i++)
	{
		TimeLineID tli = p->plan->file[i].tli;

		if (i == first || tli != p->plan->file[i - 1].tli)
			add_timeline(p, tli)->history |= (tli > 1);
	}
}

/* Names in the directory that are none of WAL or of ours. */
static void
find_strangers(Planner *p)
{
	char path[MAXPGPATH];
	DIR *dir;
	struct dirent *de;

	wa_wal_path(path, p->source, p->sysid);
	dir = AllocateDir(path);
	if (dir == NULL && errno == ENOENT)
		return;
	while (list_length(p->plan->strangers) < MAX_STRANGERS && (de = ReadDir(dir, path)) != NULL)
	{
		TimeLineID tli;
		uint64 segno;
		size_t len = strlen(de->d_name);
		MemoryContext old;

		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 ||
			strncmp(de->d_name, "walarchive.prepared.", 20) == 0 ||
			(len > 9 && strcmp(de->d_name + len - 9, ".unsynced") == 0) ||
			wa_parse_wal_name(de->d_name, p->plan->segment_size, &tli, &segno) != WA_FILE_OTHER)
			continue;
		old = MemoryContextSwitchTo(p->context);
		p->plan->strangers = lappend(p->plan->strangers, pstrdup(de->d_name));
		MemoryContextSwitchTo(old);
	}
	FreeDir(dir);
}

/* What is there. */
static void
add_directory(Planner *p)
{
	WaFileList list;
	bool found = false;

	wa_list_wal_files(p->source, p->sysid, p->plan->segment_size, &list);
	for (int64 i = 0; i < list.count; i++)
	{
		WaArchiveFile *f = &list.file[i];

		if (f->kind == WA_FILE_HISTORY)
			add_timeline(p, f->tli)->history = true;
		else
		{
			add_file(p, f->tli, f->segno, f->size, f->kind == WA_FILE_PARTIAL);
			if (!found || f->segno < p->lowest)
				p->lowest = f->segno;
			found = true;
		}
	}
	if (!found)
		p->lowest = 0;
	if (list.file != NULL)
		pfree(list.file);
	p->sorted = p->plan->files;
	add_timelines(p, 0);
}

/*
 * What has a checksum and is not there.  The catalog's copies count: lines of
 * wal.sha256 itself may be damaged.
 */
static void
add_sums(Planner *p)
{
	Oid types[4] = {TEXTOID, INT8OID, TEXTOID, INT4OID};
	Datum values[4];
	int64 first = p->plan->files;
	char last[WA_WAL_NAME_LEN] = "";
	uint64 rows;

	values[0] = CStringGetTextDatum(p->source);
	values[1] = Int64GetDatum((int64) p->sysid);
	values[3] = Int32GetDatum(PAGE_ROWS);
	do
	{
		CHECK_FOR_INTERRUPTS();
		wa_catalog_begin("listing checksums");
		values[2] = CStringGetTextDatum(last);
		if (SPI_execute_with_args("SELECT f.name FROM walarchive.file_sum f "
								  "WHERE f.source OPERATOR(pg_catalog.=) $1 AND f.system_identifier OPERATOR(pg_catalog.=) $2 "
								  "AND f.name OPERATOR(pg_catalog.>) $3 "
								  "ORDER BY f.source, f.system_identifier, f.name LIMIT $4",
								  4, types, values, NULL, true, 0) != SPI_OK_SELECT)
			elog(ERROR, "could not list checksums");
		rows = SPI_processed;
		for (uint64 i = 0; i < rows; i++)
		{
			char *name = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
			TimeLineID tli;
			uint64 segno;

			strlcpy(last, name, sizeof(last));
			switch (wa_parse_wal_name(name, p->plan->segment_size, &tli, &segno))
			{
				case WA_FILE_SEGMENT:
					if (tli <= PG_INT32_MAX && segno >= p->lowest && !is_there(p, tli, segno))
						add_file(p, tli, segno, -1, false);
					break;
				case WA_FILE_HISTORY:
					if (tli <= PG_INT32_MAX)
						add_timeline(p, tli)->history = true;
					break;
				default:
					break;
			}
		}
		wa_catalog_commit();
	} while (rows == PAGE_ROWS);
	add_timelines(p, first);
}

/* What the catalog knows and is not there. */
static void
add_catalog(Planner *p)
{
	Oid types[5] = {TEXTOID, INT8OID, INT4OID, PG_LSNOID, INT4OID};
	Datum values[5];
	int64 first = p->plan->files;
	uint64 rows;
	bool isnull;

	values[0] = CStringGetTextDatum(p->source);
	values[1] = Int64GetDatum((int64) p->sysid);
	values[2] = Int32GetDatum(0);
	values[3] = LSNGetDatum(0);
	values[4] = Int32GetDatum(PAGE_ROWS);
	do
	{
		CHECK_FOR_INTERRUPTS();
		wa_catalog_begin("listing segments");
		if (SPI_execute_with_args("SELECT s.timeline, s.start_lsn FROM walarchive.segment s "
								  "WHERE s.source OPERATOR(pg_catalog.=) $1 AND s.system_identifier OPERATOR(pg_catalog.=) $2 "
								  "AND (s.timeline, s.start_lsn) OPERATOR(pg_catalog.>) ($3, $4) "
								  "ORDER BY s.source, s.system_identifier, s.timeline, s.start_lsn LIMIT $5",
								  5, types, values, NULL, true, 0) != SPI_OK_SELECT)
			elog(ERROR, "could not list segments");
		rows = SPI_processed;
		for (uint64 i = 0; i < rows; i++)
		{
			HeapTuple row = SPI_tuptable->vals[i];

			values[2] = SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &isnull);
			values[3] = LSNGetDatum(DatumGetLSN(SPI_getbinval(row, SPI_tuptable->tupdesc, 2, &isnull)));
			if (!is_there(p, DatumGetInt32(values[2]),
						  wa_segment_of(DatumGetLSN(values[3]), p->plan->segment_size)))
				add_file(p, DatumGetInt32(values[2]),
						 wa_segment_of(DatumGetLSN(values[3]), p->plan->segment_size), -1, false);
		}
		wa_catalog_commit();
	} while (rows == PAGE_ROWS);
	add_timelines(p, first);

	wa_catalog_begin("listing timelines");
	if (SPI_execute_with_args("SELECT t.timeline FROM walarchive.timeline t "
							  "WHERE t.source OPERATOR(pg_catalog.=) $1 AND t.system_identifier OPERATOR(pg_catalog.=) $2 "
							  "AND t.history_file",
							  2, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not list timelines");
	for (uint64 i = 0; i < SPI_processed; i++)
		add_timeline(p, DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)))->history = true;
	wa_catalog_commit();
}

/* WAL that the receiver could not get, and what expire() had removed. */
static void
read_gaps(Planner *p)
{
	Oid types[2] = {TEXTOID, INT8OID};
	Datum values[2];
	bool isnull;

	wa_catalog_begin("listing gaps");
	values[0] = CStringGetTextDatum(p->source);
	values[1] = Int64GetDatum((int64) p->sysid);
	if (SPI_execute_with_args("SELECT g.timeline, g.from_lsn, g.to_lsn FROM walarchive.gap g "
							  "WHERE g.source OPERATOR(pg_catalog.=) $1 AND g.system_identifier OPERATOR(pg_catalog.=) $2 "
							  "AND g.closed_at IS NULL AND g.cause OPERATOR(pg_catalog.<>) 'missing_file' "
							  "UNION ALL SELECT w.timeline, '0/0', w.to_lsn FROM walarchive.removed_wal w "
							  "WHERE w.source OPERATOR(pg_catalog.=) $1 AND w.system_identifier OPERATOR(pg_catalog.=) $2",
							  2, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not list gaps");
	p->gaps = (int) SPI_processed;
	p->gap = MemoryContextAlloc(p->context, (p->gaps + 1) * sizeof(Gap));
	for (int i = 0; i < p->gaps; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];

		p->gap[i].tli = DatumGetInt32(SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &isnull));
		p->gap[i].from = DatumGetLSN(SPI_getbinval(row, SPI_tuptable->tupdesc, 2, &isnull));
		p->gap[i].to = DatumGetLSN(SPI_getbinval(row, SPI_tuptable->tupdesc, 3, &isnull));
	}
	wa_catalog_commit();
	qsort(p->gap, p->gaps, sizeof(Gap), compare_gaps);
}

/* Sort, and drop what is there more than once: the one with a size stays. */
static void
sort_files(Planner *p)
{
	WaVerifyPlan *plan = p->plan;
	int64 kept = 0;

	if (plan->files == 0)
		return;
	if (plan->files > p->sorted)
		qsort(plan->file, plan->files, sizeof(WaPlannedFile), compare_planned);
	for (int64 i = 1; i < plan->files; i++)
	{
		if (compare_planned(&plan->file[i], &plan->file[kept]) != 0)
			plan->file[++kept] = plan->file[i];
		else if (plan->file[i].size >= 0)
			plan->file[kept] = plan->file[i];
	}
	plan->files = kept + 1;
}

/* Segments first..last of a timeline are missing, and in no gap. */
static void
add_missing(Planner *p, TimeLineID tli, uint64 first, uint64 last)
{
	WaVerifyPlan *plan = p->plan;

	if (last - first < SHORT_HOLE)
	{
		for (uint64 segno = first; segno <= last; segno++)
			add_file(p, tli, segno, -1, false);
		return;
	}
	if (plan->hole == NULL)
		plan->hole = MemoryContextAlloc(p->context, sizeof(WaPlannedHole));
	else
		plan->hole = repalloc(plan->hole, (plan->holes + 1) * sizeof(WaPlannedHole));
	plan->hole[plan->holes].tli = tli;
	plan->hole[plan->holes].first = first;
	plan->hole[plan->holes].last = last;
	plan->holes++;
}

/* There is nothing from segment 'first' to 'last': may that be? */
static void
judge_hole(Planner *p, TimeLineID tli, uint64 first, uint64 last)
{
	uint32 size = p->plan->segment_size;

	for (int i = 0; i < p->gaps && first <= last; i++)
	{
		uint64 gap_first = wa_segment_of(p->gap[i].from, size);
		uint64 gap_last;

		if (p->gap[i].tli != tli || p->gap[i].to <= p->gap[i].from)
			continue;
		gap_last = wa_segment_of(p->gap[i].to - 1, size);
		if (gap_last < first || gap_first > last)
			continue;
		if (gap_first > first)
			add_missing(p, tli, first, gap_first - 1);
		first = gap_last + 1;
	}
	if (first <= last)
		add_missing(p, tli, first, last);
}

/* The files of a timeline: where they begin and end in the sorted plan. */
static bool
timeline_files(const WaVerifyPlan *plan, int64 files, TimeLineID tli, int64 *first, int64 *last)
{
	int64 low = 0;
	int64 high = files;

	while (low < high)
	{
		int64 middle = (low + high) / 2;

		if (plan->file[middle].tli < tli)
			low = middle + 1;
		else
			high = middle;
	}
	*first = low;
	high = files;
	while (low < high)
	{
		int64 middle = (low + high) / 2;

		if (plan->file[middle].tli <= tli)
			low = middle + 1;
		else
			high = middle;
	}
	*last = low - 1;
	return *first <= *last;
}

/* Holes inside of timelines, and between a timeline and its parent. */
static void
find_holes(Planner *p)
{
	WaVerifyPlan *plan = p->plan;
	int64 files = plan->files;
	uint32 size = plan->segment_size;

	for (int64 i = 1; i < files; i++)
	{
		/* a copy: the array grows */
		WaPlannedFile before = plan->file[i - 1];
		WaPlannedFile f = plan->file[i];

		if (f.tli == before.tli && f.segno > before.segno + 1)
			judge_hole(p, f.tli, before.segno + 1, f.segno - 1);
	}
	for (int t = 0; t < plan->timelines; t++)
	{
		WaPlannedTimeline *timeline = &plan->timeline[t];
		int64 first;
		int64 last;
		int64 parent_first;
		int64 parent_last;
		uint64 fork;
		uint64 child_first;
		uint64 parent_end;

		if (timeline->parent == 0 || timeline->fork == 0 ||
			!timeline_files(plan, files, timeline->tli, &first, &last) ||
			!timeline_files(plan, files, timeline->parent, &parent_first, &parent_last))
			continue;
		/* the child's copy of the fork's segment holds the parent's WAL below it */
		fork = wa_segment_of(timeline->fork, size);
		child_first = plan->file[first].segno;
		parent_end = plan->file[parent_last].segno;
		if (plan->file[parent_first].segno <= fork && parent_end + 1 < fork)
			judge_hole(p, timeline->parent, parent_end + 1, fork - 1);
		if (plan->file[parent_first].segno <= fork && child_first > fork)
			judge_hole(p, timeline->tli, fork, child_first - 1);
	}
}

/* Leave out what was not asked for. */
static void
filter(Planner *p, XLogRecPtr from_lsn, XLogRecPtr to_lsn, TimeLineID only)
{
	WaVerifyPlan *plan = p->plan;
	uint64 from = wa_segment_of(from_lsn, plan->segment_size);
	uint64 to = to_lsn == 0 ? PG_UINT64_MAX : wa_segment_of(to_lsn - 1, plan->segment_size);
	int64 files = 0;
	int holes = 0;

	for (int64 i = 0; i < plan->files; i++)
	{
		WaPlannedFile *f = &plan->file[i];

		if (f->segno < from || f->segno > to || (only != 0 && f->tli != only))
			continue;
		plan->bytes += Max(f->size, 0);
		plan->file[files++] = *f;
	}
	plan->files = files;
	for (int i = 0; i < plan->holes; i++)
	{
		WaPlannedHole *h = &plan->hole[i];

		if (h->last < from || h->first > to || (only != 0 && h->tli != only))
			continue;
		plan->hole[holes++] = *h;
	}
	plan->holes = holes;
}

static void
begin_plan(Planner *p, const char *source, uint64 sysid, WaVerifyPlan *plan)
{
	memset(p, 0, sizeof(*p));
	p->source = source;
	p->sysid = sysid;
	p->plan = plan;
	p->context = CurrentMemoryContext;
	p->allocated = plan->files;
}

void
wa_plan_files(const char *source, uint64 sysid, uint32 segment_size,
			  WaVerifyPlan *plan)
{
	Planner p;

	memset(plan, 0, sizeof(*plan));
	plan->segment_size = segment_size;
	begin_plan(&p, source, sysid, plan);
	find_strangers(&p);
	add_directory(&p);
	add_sums(&p);
	add_catalog(&p);
	sort_files(&p);
	if (plan->timelines > 1)
		qsort(plan->timeline, plan->timelines, sizeof(WaPlannedTimeline), compare_timelines);
	for (int i = 0; i < plan->timelines; i++)
	{
		WaPlannedTimeline *t = &plan->timeline[i];
		char name[WA_WAL_NAME_LEN];
		int64 size;

		if (t->tli <= 1)
		{
			t->history = false;
			continue;
		}
		/* whatever lies there is for the decoder to look at */
		wa_history_name(name, t->tli);
		size = wa_wal_file_size(source, sysid, name);
		if (size > 0 && size <= MAX_HISTORY_LEN)
			(void) wa_read_history(source, sysid, t->tli, &t->parent, &t->fork);
	}
}

void
wa_plan_holes(const char *source, uint64 sysid, XLogRecPtr from_lsn,
			  XLogRecPtr to_lsn, TimeLineID only, WaVerifyPlan *plan)
{
	Planner p;

	begin_plan(&p, source, sysid, plan);
	read_gaps(&p);
	find_holes(&p);
	sort_files(&p);
	filter(&p, from_lsn, to_lsn, only);
}

const WaPlannedTimeline *
wa_planned_timeline(const WaVerifyPlan *plan, TimeLineID tli)
{
	WaPlannedTimeline key = {.tli = tli};

	if (plan->timelines == 0)
		return NULL;
	return bsearch(&key, plan->timeline, plan->timelines, sizeof(WaPlannedTimeline), compare_timelines);
}
