/*-------------------------------------------------------------------------
 *
 * unit_restore_plan.c
 *	  Unit tests of the planner.
 *
 * Random clusters are made: forks of forks, gaps, clocks that go back, records
 * that end at any place, backups of primaries and of standbys, chains.  For
 * random targets of every kind the planner has to agree with a simulation of
 * PostgreSQL's recovery that looks at one record after the other, tried from
 * one backup after the other.  A seed can be given; more rounds can as well:
 *
 *   test/unit_restore_plan [seed [clusters]]
 *
 * Built and run by "make unitcheck".  Prints TAP and exits non-zero if a test
 * failed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "../src/base/restore_path.h"
#include "../src/base/restore_plan.h"
#include "unit.h"

#define CLUSTERS 10000
#define TARGETS 40 /* of each cluster */

#define MAX_TIMELINES 6
#define MAX_RECORDS 90 /* of a timeline */
#define MAX_RUNS 40
#define MAX_BACKUPS 9
#define PAGE 512
#define SEGMENT (2 * PAGE)

typedef enum Type
{
	OTHER,
	CHECKPOINT, /* shutdown: a redo point that is not replayed */
	COMMIT,
	ABORT,
	PREPARE, /* of the transaction manager, and ends nothing */
	RESTORE_POINT
} Type;

typedef struct Record
{
	TimeLineID tli;
	XLogRecPtr start;
	XLogRecPtr end;
	XLogRecPtr prev;
	Type type;
	TransactionId xid;
	int64 time;
	char name[8];
} Record;

typedef struct Timeline
{
	WaPlanTimeline plan;
	bool bad_first; /* the file of its first segment is there, and damaged */
	int nrecords;   /* its own */
	Record record[MAX_RECORDS];
} Timeline;

static Timeline timeline[MAX_TIMELINES];
static int ntimelines;
static WaPlanRun run[MAX_RUNS];
static int nruns;
static WaPlanBackup backup[MAX_BACKUPS];
static char label[MAX_BACKUPS][16];
static bool from_shutdown[MAX_BACKUPS];
static int nbackups;
static WaPlanTimeline plan_timeline[MAX_TIMELINES];
static int64 lowest_time,
	highest_time;

static int misuse; /* searches that the planner must not make */

/* ---- random numbers ---- */

static uint64 state;

static uint32
rnd(uint32 n)
{
	state = state * UINT64CONST(6364136223846793005) + UINT64CONST(1442695040888963407);
	return (uint32) ((state >> 33) % n);
}

static bool
chance(int percent)
{
	return rnd(100) < (uint32) percent;
}

/* ---- a cluster ---- */

static XLogRecPtr
next_start(XLogRecPtr end)
{
	return end % PAGE == 0 ? end + 24 : end;
}

static void
make_records(Timeline *t, XLogRecPtr start, XLogRecPtr prev, int64 time, int n)
{
	t->nrecords = 0;
	for (int i = 0; i < n; i++)
	{
		Record *r = &t->record[i];
		uint32 dice = rnd(20);

		memset(r, 0, sizeof(*r));
		r->tli = t->plan.tli;
		r->start = next_start(start);
		r->end = r->start + 24 + 8 * rnd(chance(3) ? 400 : 12);
		/* ends at pages' ends are frequent enough to matter */
		if (chance(15))
			r->end += PAGE - r->end % PAGE;
		r->prev = prev;
		r->type = dice < 6 ? COMMIT : dice < 8 ? ABORT
								  : dice < 9   ? PREPARE
								  : dice < 10  ? RESTORE_POINT
								  : dice < 12  ? CHECKPOINT
											   : OTHER;
		time += rnd(3) * 10;
		if (chance(7))
			time -= rnd(80);
		if (chance(1))
			time += 400;
		if (r->type == COMMIT || r->type == ABORT || r->type == RESTORE_POINT)
		{
			r->time = time;
			lowest_time = Min(lowest_time, time);
			highest_time = Max(highest_time, time);
		}
		if (r->type == COMMIT || r->type == ABORT || r->type == PREPARE)
			r->xid = 700 + rnd(60);
		if (r->type == RESTORE_POINT)
			snprintf(r->name, sizeof(r->name), "p%u", rnd(8));
		prev = r->start;
		start = r->end;
		t->nrecords++;
	}
}

/* The records of a path, in order, into 'list'. */
static int
path_records(const WaHistory *path, const Record **list)
{
	int n = 0;

	for (int i = 0; i < path->count; i++)
	{
		for (int k = 0; k < ntimelines; k++)
		{
			const Timeline *t = &timeline[k];

			if (t->plan.tli != path->entry[i].tli)
				continue;
			for (int j = 0; j < t->nrecords; j++)
			{
				if (path->entry[i].end == 0 || t->record[j].start < path->entry[i].end)
					list[n++] = &t->record[j];
			}
		}
	}
	return n;
}

static XLogRecPtr
floor_of(XLogRecPtr lsn)
{
	return lsn - lsn % SEGMENT;
}

/* Does recovery along the path find this byte in the file that it reads? */
static bool
reads_byte(const WaHistory *path, XLogRecPtr lsn)
{
	for (int i = path->count - 1; i >= 0; i--)
	{
		const WaTimelineEntry *e = &path->entry[i];
		bool exists = false;

		/* of the timelines that have entered the segment the newest whose file is there */
		if (floor_of(e->begin) > lsn)
			continue;
		for (int k = 0; k < nruns; k++)
		{
			if (run[k].tli != e->tli)
				continue;
			if (run[k].from <= lsn && run[k].to > lsn)
				return true;
			exists |= run[k].from < floor_of(lsn) + SEGMENT && run[k].to > floor_of(lsn);
		}
		for (int k = 0; k < ntimelines; k++)
			exists |= timeline[k].plan.tli == e->tli && timeline[k].bad_first && floor_of(lsn) == floor_of(e->begin);
		/* without it that would be an ancestor's WAL behind the fork */
		if (exists || e->begin <= lsn)
			return false;
	}
	return false;
}

static bool
reads(const WaHistory *path, XLogRecPtr from, XLogRecPtr to)
{
	/* up to where something changes what is read */
	while (from < to)
	{
		XLogRecPtr next = floor_of(from) + SEGMENT;

		if (!reads_byte(path, from))
			return false;
		for (int k = 0; k < nruns; k++)
		{
			if (run[k].from > from)
				next = Min(next, run[k].from);
			if (run[k].to > from)
				next = Min(next, run[k].to);
		}
		for (int i = 0; i < path->count; i++)
		{
			if (path->entry[i].begin > from)
				next = Min(next, path->entry[i].begin);
		}
		from = next;
	}
	return true;
}

/* The first timelines of a path. */
static const WaHistory *
part_of(const WaHistory *path, int count)
{
	static WaHistory part;

	part = *path;
	part.count = count;
	part.entry[count - 1].end = 0;
	return &part;
}

/* How many of the path's timelines have to be gone along to read [from, to), 0: it is not there. */
static int
timelines_for(const WaHistory *path, XLogRecPtr from, XLogRecPtr to)
{
	for (int count = 1; count <= path->count; count++)
	{
		if ((count == path->count || to <= path->entry[count].begin) && reads(part_of(path, count), from, to))
			return count;
	}
	return 0;
}

/* Is every byte of [from, to) in the archive, as seen along the path? */
static bool
is_there(const WaHistory *path, XLogRecPtr from, XLogRecPtr to)
{
	return timelines_for(path, from, to) > 0;
}

static int
compare_runs(const void *a, const void *b)
{
	const WaPlanRun *x = a;
	const WaPlanRun *y = b;

	if (x->tli != y->tli)
		return x->tli < y->tli ? -1 : 1;
	return x->from < y->from ? -1 : x->from > y->from;
}

static void
make_runs(bool whole)
{
	nruns = 0;
	for (int k = 0; k < ntimelines; k++)
	{
		Timeline *t = &timeline[k];
		XLogRecPtr from = t->plan.fork != 0 ? floor_of(t->plan.fork) : 8 * PAGE;
		XLogRecPtr to;
		int n = t->nrecords;

		/* with nothing of it in a run there may be a file */
		t->bad_first = t->plan.fork > from && chance(50);
		if (!whole && chance(5))
			continue; /* nothing of it */
		/* what its first segment has of the parent, and no more */
		if (!whole && t->plan.fork > from + 16 && chance(10))
		{
			run[nruns++] = (WaPlanRun){t->plan.tli, from, t->plan.fork - 8 * (1 + rnd(2)), WA_RUN_GAP, 0};
			continue;
		}
		if (n == 0)
		{
			if (chance(50))
			{
				run[nruns++] = (WaPlanRun){t->plan.tli, from, t->plan.fork, chance(50) ? WA_RUN_HEAD : WA_RUN_UNDECODED, 0};
			}
			continue;
		}
		if (!whole && chance(10))
			from = floor_of(t->record[rnd(n)].start); /* its beginning is missing */
		while (nruns < MAX_RUNS - 1)
		{
			WaPlanRun *r = &run[nruns++];
			XLogRecPtr last = t->record[n - 1].end;
			int cut;

			*r = (WaPlanRun){t->plan.tli, from, 0, WA_RUN_HEAD, 0};
			if (whole || chance(65))
			{
				r->to = chance(50) ? last : next_start(last);
				if (!whole && chance(15))
					r->ended_by = WA_RUN_UNDECODED;
				break;
			}
			cut = rnd(n);
			to = chance(50) ? t->record[cut].start : t->record[cut].start + 8 * rnd(4);
			r->to = Max(to, from);
			r->ended_by = WA_RUN_HEAD + 1 + rnd(5);
			/* and on at some later place, be that within a record */
			from = floor_of(r->to + SEGMENT - 1) + SEGMENT * rnd(3);
			if (from == r->to)
				from += SEGMENT;
			if (from >= last)
				break;
			if (chance(50))
				r->resumes = from;
		}
	}
	qsort(run, nruns, sizeof(WaPlanRun), compare_runs);
}

static void
make_backups(void)
{
	nbackups = 0;
	for (int n = rnd(MAX_BACKUPS + 1); n > 0; n--)
	{
		WaPlanBackup *b = &backup[nbackups];
		const Record *list[MAX_TIMELINES * MAX_RECORDS];
		WaPlanInput in = {plan_timeline, ntimelines};
		static WaHistory path;
		int64 earliest = 0;
		int count,
			first,
			last;

		(void) wa_plan_path(&in, timeline[rnd(ntimelines)].plan.tli, &path);
		count = path_records(&path, list);
		if (count < 4)
			continue;
		memset(b, 0, sizeof(*b));
		first = rnd(count - 1);
		if (chance(5))
			first = count - 1;
		from_shutdown[nbackups] = list[first]->type == CHECKPOINT;
		if (first == count - 1 && !from_shutdown[nbackups])
			continue;
		/* only then may it be consistent with that very record */
		last = first + (from_shutdown[nbackups] ? 0 : 1) + rnd(chance(80) ? 6 : 40);
		last = Min(last, count - 1);
		snprintf(label[nbackups], sizeof(label[0]), "b%d", nbackups);
		b->label = label[nbackups];
		b->tli = list[first]->tli;
		b->start_lsn = list[first]->start;
		b->consistent_lsn = list[last]->end;
		/* PostgreSQL has no such place, but who knows */
		if (chance(5) && last > first)
			b->consistent_lsn -= 8;
		b->stop_tli = list[last]->tli;
		b->stop_lsn = chance(70) ? b->consistent_lsn : b->consistent_lsn + 64;
		b->size = 1000;
		b->state = chance(90) ? WA_PLAN_BACKUP_USABLE : 1 + rnd(2);
		b->no_files = b->state == WA_PLAN_BACKUP_BROKEN && chance(50);
		if (b->state != WA_PLAN_BACKUP_USABLE && chance(50))
			b->reason = "of some reason";
		if (chance(40))
		{
			b->incremental = true;
			b->parent = chance(95) && nbackups > 0 ? label[rnd(nbackups)] : "gone";
		}
		for (int i = first; i <= last; i++)
		{
			if ((list[i]->type == COMMIT || list[i]->type == ABORT) &&
				(!b->has_earliest_time || list[i]->time > earliest))
			{
				b->has_earliest_time = true;
				earliest = list[i]->time;
			}
		}
		b->earliest_time = earliest;
		if (chance(40))
			b->has_earliest_time = false;
		if (chance(30))
		{
			b->has_begin_time = true;
			b->begin_time = lowest_time + rnd(300);
		}
		nbackups++;
	}
}

static void
make_cluster(void)
{
	int n = 1 + rnd(MAX_TIMELINES);
	TimeLineID tli = 1;

	lowest_time = PG_INT64_MAX;
	highest_time = PG_INT64_MIN;
	ntimelines = 0;
	for (int i = 0; i < n; i++)
	{
		Timeline *t = &timeline[ntimelines];

		memset(t, 0, sizeof(*t));
		t->plan.tli = tli;
		if (i == 0)
			make_records(t, 8 * PAGE, 0, 1000, 10 + rnd(MAX_RECORDS - 10));
		else
		{
			const Timeline *parent = &timeline[rnd(ntimelines)];
			XLogRecPtr start = parent->plan.fork != 0 ? parent->plan.fork : 0;
			XLogRecPtr prev = 8 * PAGE;
			int64 time = 1000;

			/* at the end of one of its records, or where it came from itself */
			if (parent->nrecords > 0 && (start == 0 || chance(85)))
			{
				const Record *r = &parent->record[rnd(parent->nrecords)];

				start = r->end;
				prev = r->start;
				time = r->time != 0 ? r->time : 1000 + 10 * rnd(60);
			}
			t->plan.parent = parent->plan.tli;
			t->plan.fork = start;
			make_records(t, start, prev, time, chance(10) ? 0 : rnd(MAX_RECORDS));
		}
		plan_timeline[ntimelines++] = t->plan;
		tli += 1 + rnd(2);
	}
	make_runs(chance(30));
	make_backups();
}

/* ---- what the planner asks for ---- */

typedef bool (*Rule)(const Record *r, const void *arg);

static void
show(const Record *r, WaPlanRecord *record)
{
	*record = (WaPlanRecord){r->tli, r->start, r->end, r->prev, r->type == COMMIT, r->type == PREPARE, r->xid, r->time};
}

static int
search(const WaPlanRange *range, Rule rule, const void *arg, bool last,
	   WaPlanRecord *record)
{
	const Record *list[MAX_TIMELINES * MAX_RECORDS];
	int n = path_records(range->path, list);
	int count = 0;

	if (range->from >= range->to || !reads(range->path, range->from, range->to))
		misuse++;
	for (int i = 0; i < n; i++)
	{
		if (list[i]->start < range->from || list[i]->end > range->to || !rule(list[i], arg))
			continue;
		if (count++ == 0 || last)
			show(list[i], record);
	}
	return count;
}

static bool
ends_xact(const Record *r)
{
	return r->type == COMMIT || r->type == ABORT;
}

static bool
is_later(const Record *r, const void *arg)
{
	return ends_xact(r) && r->time > *(const int64 *) arg;
}

static bool
is_later_or_equal(const Record *r, const void *arg)
{
	return ends_xact(r) && r->time >= *(const int64 *) arg;
}

static bool
is_of_xid(const Record *r, const void *arg)
{
	return ends_xact(r) && r->xid == *(const TransactionId *) arg;
}

static bool
is_named(const Record *r, const void *arg)
{
	return r->type == RESTORE_POINT && strcmp(r->name, arg) == 0;
}

static bool
is_behind(const Record *r, const void *arg)
{
	return r->start >= *(const XLogRecPtr *) arg;
}

static bool
is_xact(const Record *r, const void *arg)
{
	return r->type == COMMIT || (r->type == ABORT && !*(const bool *) arg);
}

static WaSearchStatus
search_time(void *arg, const WaPlanRange *range, int64 time, bool or_equal,
			WaPlanRecord *record, char *text)
{
	return search(range, or_equal ? is_later_or_equal : is_later, &time, false, record) > 0 ? WA_SEARCH_FOUND : WA_SEARCH_NONE;
}

static WaSearchStatus
search_xid(void *arg, const WaPlanRange *range, TransactionId xid,
		   WaPlanRecord *record, char *text)
{
	return search(range, is_of_xid, &xid, false, record) > 0 ? WA_SEARCH_FOUND : WA_SEARCH_NONE;
}

static WaSearchStatus
search_name(void *arg, const WaPlanRange *range, const char *name,
			WaPlanRecord *record, int *count, char *text)
{
	*count = search(range, is_named, name, false, record);
	return *count > 0 ? WA_SEARCH_FOUND : WA_SEARCH_NONE;
}

static WaSearchStatus
search_record(void *arg, const WaPlanRange *range, XLogRecPtr lsn,
			  WaPlanRecord *record, char *text)
{
	return search(range, is_behind, &lsn, false, record) > 0 ? WA_SEARCH_FOUND : WA_SEARCH_NONE;
}

static WaSearchStatus
search_last_record(void *arg, const WaPlanRange *range, WaPlanRecord *record,
				   char *text)
{
	XLogRecPtr zero = 0;

	return search(range, is_behind, &zero, true, record) > 0 ? WA_SEARCH_FOUND : WA_SEARCH_NONE;
}

static WaSearchStatus
search_last_xact(void *arg, const WaPlanRange *range, bool commits,
				 WaPlanRecord *record, char *text)
{
	return search(range, is_xact, &commits, true, record) > 0 ? WA_SEARCH_FOUND : WA_SEARCH_NONE;
}

static WaPlanInput
input(TimeLineID newest)
{
	WaPlanInput in = {plan_timeline, ntimelines, newest, SEGMENT, run, nruns, backup, nbackups};

	in.search = (WaPlanSearch){NULL, search_time, search_xid, search_name, search_record, search_last_record, search_last_xact};
	return in;
}

/* ---- recovery, a record at a time ---- */

typedef enum End
{
	REACHED,
	TOO_EARLY,  /* FATAL: requested recovery stop point is before consistent recovery point */
	NOT_REACHED /* FATAL: recovery ended before configured recovery target was reached */
} End;

typedef struct Recovered
{
	End end;
	XLogRecPtr replayed; /* pg_last_wal_replay_lsn() */
	const Record *stop;
	bool has_replay_time;
	int64 replay_time;
	const Record *last_xact;
	const Record *last_commit;
	bool stops_before;
	int count; /* REACHED: along so many timelines of the path */
} Recovered;

static bool
stops_before(const WaRestoreTarget *t, const Record *r, bool consistent)
{
	if (t->kind == WA_TARGET_IMMEDIATE && consistent)
		return true;
	if (t->kind == WA_TARGET_LSN && !t->inclusive && r->start >= t->lsn)
		return true;
	if (!ends_xact(r))
		return false;
	if (t->kind == WA_TARGET_XID && !t->inclusive)
		return r->xid == t->xid;
	if (t->kind == WA_TARGET_TIME)
		return t->inclusive ? r->time > t->time : r->time >= t->time;
	return false;
}

static bool
stops_after(const WaRestoreTarget *t, const Record *r, bool consistent,
			Recovered *out)
{
	if (t->kind == WA_TARGET_NAME && r->type == RESTORE_POINT && strcmp(r->name, t->name) == 0)
		return true;
	if (t->kind == WA_TARGET_LSN && t->inclusive && r->start >= t->lsn)
		return true;
	if (r->type == PREPARE)
		return t->kind == WA_TARGET_IMMEDIATE && consistent;
	if (!ends_xact(r))
		return false;
	out->has_replay_time = true;
	out->replay_time = r->time;
	if (t->kind == WA_TARGET_XID && t->inclusive && r->xid == t->xid)
		return true;
	return t->kind == WA_TARGET_IMMEDIATE && consistent;
}

static Recovered
recover_along(const WaHistory *path, int backup_index, const WaRestoreTarget *t)
{
	const WaPlanBackup *b = &backup[backup_index];
	const Record *list[MAX_TIMELINES * MAX_RECORDS];
	int n = path_records(path, list);
	Recovered out = {NOT_REACHED};
	bool consistent;
	int i = 0;

	while (i < n && list[i]->start < b->start_lsn)
		i++;
	out.replayed = b->start_lsn;
	if (from_shutdown[backup_index])
	{
		out.replayed = list[i]->end;
		i++;
	}
	consistent = b->consistent_lsn <= out.replayed;
	for (; i < n; i++)
	{
		const Record *r = list[i];

		if (!reads(path, b->start_lsn, r->end))
			break;
		if (stops_before(t, r, consistent))
		{
			out.end = consistent ? REACHED : TOO_EARLY;
			out.stop = r;
			out.stops_before = true;
			return out;
		}
		out.replayed = r->end;
		if (ends_xact(r))
			out.last_xact = r;
		if (r->type == COMMIT)
			out.last_commit = r;
		if (b->consistent_lsn <= out.replayed)
			consistent = true;
		if (stops_after(t, r, consistent, &out))
		{
			out.end = consistent ? REACHED : TOO_EARLY;
			out.stop = r;
			return out;
		}
	}
	return out;
}

/*
 * Along no more timelines than it takes: where recovery stops before a timeline
 * begins, that need not be entered.
 */
static Recovered
recover(const WaHistory *path, int backup_index, const WaRestoreTarget *t)
{
	Recovered out = {NOT_REACHED};

	for (int count = 1; count <= path->count; count++)
	{
		if (count < path->count && path->entry[count].begin <= backup[backup_index].start_lsn)
			continue;
		out = recover_along(part_of(path, count), backup_index, t);
		out.count = count;
		if (out.end != NOT_REACHED && (count == path->count || out.stop->end <= path->entry[count].begin))
			return out;
		out.end = NOT_REACHED;
	}
	return out;
}

/* ---- which backup ---- */

static bool
has_chain(int i)
{
	for (int n = 0; n < 100; n++)
	{
		const WaPlanBackup *b = &backup[i];
		int parent = -1;

		if (n > 0 && b->no_files)
			return false;
		if (!b->incremental)
			return true;
		for (int k = 0; k < nbackups; k++)
		{
			if (strcmp(backup[k].label, b->parent) == 0)
				parent = k;
		}
		if (parent < 0 || backup[parent].stop_lsn > b->start_lsn || backup[parent].start_lsn >= b->start_lsn)
			return false;
		i = parent;
	}
	return false;
}

/* Can recovery to this timeline begin with the backup at all? */
static bool
can_begin(const WaHistory *path, int i)
{
	const WaPlanBackup *b = &backup[i];

	return b->state == WA_PLAN_BACKUP_USABLE &&
		   wa_history_timeline_at(path, b->start_lsn) == b->tli &&
		   wa_history_timeline_at(path, b->consistent_lsn - 1) == b->stop_tli &&
		   is_there(path, b->start_lsn, b->consistent_lsn);
}

static bool
excludes(const WaRestoreTarget *t, int64 time)
{
	return t->inclusive ? time > t->time : time >= t->time;
}

/* Does the backup hold what the target excludes, as far as that can be known? */
static bool
begins_after(const WaHistory *path, int i, const WaRestoreTarget *t)
{
	const WaPlanBackup *b = &backup[i];
	const Record *list[MAX_TIMELINES * MAX_RECORDS];
	int n = path_records(path, list);

	if (t->kind == WA_TARGET_LSN)
		return t->lsn <= b->start_lsn;
	if (t->kind != WA_TARGET_TIME)
		return false;
	while (--n >= 0)
	{
		if (list[n]->start >= b->start_lsn || !ends_xact(list[n]))
			continue;
		if (!is_there(path, list[n]->start, b->start_lsn))
			break;
		return excludes(t, list[n]->time);
	}
	return b->has_begin_time && t->time < b->begin_time;
}

/* What is there to recover, from backup 'i' on: the end of the archive, as a target. */
static bool
end_target(const WaHistory *path, int i, WaRestoreTarget *t)
{
	const Record *list[MAX_TIMELINES * MAX_RECORDS];
	int n = path_records(path, list);
	const Record *last = NULL;
	XLogRecPtr end = backup[i].start_lsn;
	int entry;

	for (int k = 0; k < n; k++)
	{
		if (list[k]->start >= backup[i].start_lsn && is_there(path, backup[i].start_lsn, list[k]->end))
			last = list[k];
	}
	if (last == NULL)
		return false;
	/* nothing of the path is there behind the first byte that is not */
	while (is_there(path, backup[i].start_lsn, end + 8))
		end += 8;
	for (int k = 0; k < nruns; k++)
	{
		for (XLogRecPtr lsn = Max(end, run[k].from); lsn < run[k].to; lsn += 8)
		{
			if (wa_history_timeline_at(path, lsn) == run[k].tli)
				return false;
			for (int e = 1; e < path->count; e++)
			{
				XLogRecPtr floor = floor_of(path->entry[e].begin);

				if (path->entry[e].tli == run[k].tli && run[k].from <= floor && lsn >= floor && lsn < path->entry[e].begin)
					return false;
			}
		}
	}
	/* and the run that ends there says that this is all */
	entry = path->count - 1;
	while (entry > 0 && path->entry[entry].begin > end)
		entry--;
	for (int k = 0; k < nruns; k++)
	{
		bool here = run[k].tli == path->entry[entry].tli && run[k].from <= end && run[k].to == end;

		for (int e = 1; e < path->count; e++)
		{
			/* of the segment in which a timeline begins, as far as that has it */
			XLogRecPtr begin = path->entry[e].begin;

			here |= run[k].tli == path->entry[e].tli && path->entry[e].end != begin && end >= floor_of(begin) && end <= begin &&
					run[k].from <= floor_of(begin) && (run[k].to == end || (begin == end && run[k].to < begin));
		}
		if (here && run[k].ended_by != WA_RUN_HEAD)
			return false;
	}
	*t = (WaRestoreTarget){WA_TARGET_LSN, true};
	t->lsn = last->start;
	return last->start > backup[i].start_lsn;
}

static bool
newer(int a, int b)
{
	if (backup[a].start_lsn != backup[b].start_lsn)
		return backup[a].start_lsn > backup[b].start_lsn;
	if (backup[a].incremental != backup[b].incremental)
		return backup[b].incremental;
	return strcmp(backup[a].label, backup[b].label) < 0;
}

/* How many restore points of the name can be reached from any of the backups that serve? */
static int
reachable_names(const WaHistory *path, const char *name)
{
	const Record *list[MAX_TIMELINES * MAX_RECORDS];
	int n = path_records(path, list);
	int count = 0;

	for (int k = 0; k < n; k++)
	{
		if (!is_named(list[k], name))
			continue;
		for (int i = 0; i < nbackups; i++)
		{
			if (can_begin(path, i) && backup[i].start_lsn <= list[k]->start &&
				is_there(path, backup[i].start_lsn, list[k]->end))
			{
				count++;
				break;
			}
		}
	}
	return count;
}

/* Choose as promised; returns the backup or -1. */
static int
expect(const WaHistory *path, const WaRestoreTarget *target, Recovered *result,
	   WaRestoreTarget *set)
{
	bool tried[MAX_BACKUPS] = {false};
	XLogRecPtr ends_at = 0;

	if (target->kind == WA_TARGET_NAME && target->backup == NULL &&
		reachable_names(path, target->name) > 1)
		return -1;
	for (;;)
	{
		int i = -1;

		for (int k = 0; k < nbackups; k++)
		{
			if (!tried[k] && (i < 0 || newer(k, i)))
				i = k;
		}
		if (i < 0)
			return -1;
		tried[i] = true;
		if (target->backup != NULL && strcmp(target->backup, backup[i].label) != 0)
			continue;
		if (!can_begin(path, i))
			continue;
		/* a time that is not reached, though recovery begins before it, is not looked for before a hole */
		if (ends_at != 0 && !is_there(path, backup[i].start_lsn, ends_at))
			return -1;
		if (target->kind == WA_TARGET_TIME && recover(path, i, target).end == NOT_REACHED &&
			!(backup[i].has_earliest_time && excludes(target, backup[i].earliest_time)))
			ends_at = backup[i].start_lsn;
		if (!has_chain(i) || begins_after(path, i, target))
			continue;
		*set = *target;
		if (target->kind == WA_TARGET_END && !end_target(path, i, set))
			continue;
		*result = recover(path, i, set);
		if (result->end == REACHED)
			return i;
	}
}

/* ---- comparison ---- */

static bool
same_record(const WaPlanRecord *planned, const Record *r)
{
	WaPlanRecord real;

	show(r, &real);
	return planned->start_lsn == real.start_lsn && planned->end_lsn == real.end_lsn && planned->tli == real.tli &&
		   (!ends_xact(r) || (planned->xid == real.xid && planned->time == real.time && planned->commit == real.commit));
}

static const char *
compare(const WaRestorePlan *plan, int i, const Recovered *r,
		const WaRestoreTarget *target, const WaRestoreTarget *set)
{
	if (plan->backup != i)
		return "backup";
	if (plan->start_lsn != backup[i].start_lsn || plan->start_tli != backup[i].tli ||
		plan->consistent_lsn != backup[i].consistent_lsn)
		return "start";
	if (plan->stop_lsn != r->replayed)
		return "stop";
	if (plan->path.count < r->count || (plan->path.count > r->count && target->kind != WA_TARGET_IMMEDIATE) ||
		plan->timeline != plan->path.entry[plan->path.count - 1].tli)
		return "timeline";
	if (plan->stops_before != r->stops_before && target->kind != WA_TARGET_IMMEDIATE)
		return "before or after";
	if (!same_record(&plan->stop, r->stop) && target->kind != WA_TARGET_IMMEDIATE)
		return "record at the stop";
	if (plan->needed_lsn < r->stop->end || (plan->needed_lsn > r->stop->end && target->kind != WA_TARGET_IMMEDIATE))
		return "needed";
	if (plan->has_commit != (r->last_commit != NULL) || (plan->has_commit && !same_record(&plan->last_commit, r->last_commit)))
		return "last commit";
	if (plan->has_xact != (r->last_xact != NULL) || (plan->has_xact && !same_record(&plan->last_xact, r->last_xact)))
		return "last transaction";
	if (plan->has_replay_time != r->has_replay_time || (plan->has_replay_time && plan->replay_time != r->replay_time))
		return "replay time";
	if (plan->set_kind != set->kind || plan->set_inclusive != set->inclusive || plan->set_lsn != set->lsn)
		return "settings";
	if (plan->nchain < 1 || plan->chain[plan->nchain - 1] != i || backup[plan->chain[0]].incremental)
		return "chain";
	for (int k = 1; k < plan->nchain; k++)
	{
		if (strcmp(backup[plan->chain[k]].parent, backup[plan->chain[k - 1]].label) != 0)
			return "chain";
	}
	if (plan->text[0] != '\0' || plan->before.valid || plan->after.valid)
		return "text";
	return NULL;
}

/* Is the reason one that what PostgreSQL would do allows? */
static const char *
judge_reason(const WaRestorePlan *plan, const WaHistory *path,
			 const WaRestoreTarget *target)
{
	int i = -1;

	if (plan->text[0] == '\0')
		return "no text";
	switch (plan->reason)
	{
		case WA_PLAN_FEASIBLE:
		case WA_PLAN_SEARCH_FAILED:
		case WA_PLAN_UNKNOWN_TIMELINE:
			return "reason";
		case WA_PLAN_AMBIGUOUS_NAME:
			return target->backup == NULL && reachable_names(path, target->name) > 1 ? NULL : "ambiguous";
		case WA_PLAN_PAST_LAST_COMMIT:
			if (target->kind != WA_TARGET_TIME)
				return "past the last commit";
			break;
		case WA_PLAN_UNKNOWN_XID:
			if (target->kind != WA_TARGET_XID)
				return "unknown xid";
			break;
		case WA_PLAN_UNKNOWN_NAME:
			if (target->kind != WA_TARGET_NAME)
				return "unknown name";
			break;
		default:
			break;
	}
	for (int k = 0; k < nbackups; k++)
	{
		if (target->backup != NULL && strcmp(target->backup, backup[k].label) == 0)
			i = k;
	}
	if (target->backup == NULL)
	{
		bool any = false;

		for (int k = 0; k < nbackups; k++)
			any = any || can_begin(path, k);
		if (!any && target->kind != WA_TARGET_XID && target->kind != WA_TARGET_NAME)
			return plan->reason == WA_PLAN_NO_BACKUP ? NULL : "no backup";
		return NULL;
	}
	if (i < 0)
		return plan->reason == WA_PLAN_UNKNOWN_BACKUP ? NULL : "unknown backup";
	if (backup[i].state != WA_PLAN_BACKUP_USABLE)
		return plan->reason == WA_PLAN_BACKUP_UNUSABLE ? NULL : "unusable";
	if (wa_history_timeline_at(path, backup[i].start_lsn) != backup[i].tli ||
		wa_history_timeline_at(path, backup[i].consistent_lsn - 1) != backup[i].stop_tli)
		return plan->reason == WA_PLAN_BACKUP_NOT_ON_PATH ? NULL : "not on path";
	if (!can_begin(path, i))
		return NULL;
	if (!has_chain(i))
		return plan->reason == WA_PLAN_CHAIN_BROKEN ? NULL : "chain";
	if (begins_after(path, i, target))
		return plan->reason == WA_PLAN_BEFORE_BACKUP || plan->reason == WA_PLAN_PAST_LAST_COMMIT ||
					   target->kind == WA_TARGET_TIME
				   ? NULL
				   : "begins after";
	if (target->kind != WA_TARGET_END)
	{
		Recovered r = recover(path, i, target);
		bool early = plan->reason == WA_PLAN_BEFORE_CONSISTENCY;

		if (r.end == TOO_EARLY && !early)
			return "before consistency";
		if (r.end == NOT_REACHED && early)
			return "not before consistency";
	}
	return NULL;
}

/* A target that is offered instead has to be good. */
static bool
offer_is_good(const WaPlanInput *in, const WaRestoreTarget *target,
			  const WaPlanNear *near, bool before)
{
	static WaRestorePlan plan;
	WaRestoreTarget t = {near->kind, near->inclusive};

	if (!near->valid)
		return true;
	t.time = near->time;
	t.lsn = near->lsn;
	t.timeline = target->timeline;
	t.backup = near->backup;
	if (target->kind == WA_TARGET_LSN && (before ? near->lsn >= target->lsn : near->lsn <= target->lsn))
		return false;
	return wa_plan_restore(in, &t, &plan);
}

static const char *const kind_name[] = {"end", "time", "lsn", "xid", "name", "immediate"};

static void
show_target(const WaRestoreTarget *t)
{
	printf("# target %s %s, time %lld, lsn %X/%X, xid %u, name %s, timeline %u, backup %s\n", kind_name[t->kind],
		   t->inclusive ? "inclusive" : "exclusive", (long long) t->time, LSN_FORMAT_ARGS(t->lsn), t->xid,
		   t->name ? t->name : "-", t->timeline, t->backup ? t->backup : "any");
}

static const Record *
any_record(void)
{
	for (;;)
	{
		const Timeline *t = &timeline[rnd(ntimelines)];

		if (t->nrecords > 0)
			return &t->record[rnd(t->nrecords)];
	}
}

static WaRestoreTarget
make_target(char *name)
{
	WaRestoreTarget t = {rnd(6), chance(50)};

	switch (t.kind)
	{
		case WA_TARGET_TIME:
			t.time = chance(50) ? any_record()->time : lowest_time - 5 + rnd(highest_time - lowest_time + 20);
			t.time += (int) rnd(3) - 1;
			break;
		case WA_TARGET_LSN:
			t.lsn = chance(50) ? any_record()->start : any_record()->end;
			if (chance(40))
				t.lsn += 8 * rnd(5) - 16;
			break;
		case WA_TARGET_XID:
			t.xid = chance(80) ? any_record()->xid : 690 + rnd(80);
			break;
		case WA_TARGET_NAME:
			snprintf(name, 8, "p%u", rnd(9));
			t.name = name;
			break;
		case WA_TARGET_END:
		case WA_TARGET_IMMEDIATE:
			break;
	}
	if (chance(60))
		t.timeline = timeline[rnd(ntimelines)].plan.tli;
	if (nbackups > 0 && chance(40))
		t.backup = chance(97) ? label[rnd(nbackups)] : "none";
	return t;
}

/*
 * A copy that is promoted writes that it left the path's last timeline where its
 * WAL ends: is it told where that comes before the timeline itself?
 */
static const char *
judge_detour(const WaRestorePlan *plan, int *detours)
{
	char text[WA_PLAN_TEXT_LEN] = "";
	bool told = wa_plan_detour(plan, text, sizeof(text));

	*detours += told;
	return told == (plan->stop_lsn < plan->path.entry[plan->path.count - 1].begin) && told == (text[0] != '\0') ? NULL : "detour";
}

static void
test_random(uint64 seed, int clusters)
{
	static WaRestorePlan plan;
	int planned[6] = {0};
	int feasible[6] = {0};
	int reasons[WA_PLAN_SEARCH_FAILED + 1] = {0};
	int bad = 0;
	int offers = 0;
	int detours = 0;

	for (int c = 0; c < clusters && bad < 10; c++)
	{
		state = seed + c;
		make_cluster();
		for (int n = 0; n < TARGETS; n++)
		{
			char name[8];
			WaRestoreTarget target = make_target(name);
			WaRestoreTarget set = target;
			WaPlanInput in = input(timeline[rnd(ntimelines)].plan.tli);
			Recovered real = {0};
			const char *problem;
			static WaHistory path;
			int i;

			misuse = 0;
			planned[target.kind]++;
			if (wa_plan_restore(&in, &target, &plan))
				feasible[target.kind]++;
			reasons[plan.reason]++;
			(void) wa_plan_path(&in, target.timeline != 0 ? target.timeline : in.newest, &path);
			i = expect(&path, &target, &real, &set);
			if (plan.feasible != (i >= 0) || (plan.reason == WA_PLAN_FEASIBLE) != plan.feasible)
				problem = "feasible";
			else if (plan.feasible)
				problem = compare(&plan, i, &real, &target, &set);
			else
				problem = judge_reason(&plan, &path, &target);
			if (problem == NULL && plan.feasible)
				problem = judge_detour(&plan, &detours);
			if (problem == NULL && misuse > 0)
				problem = "searches where nothing is";
			if (problem == NULL && !plan.feasible)
			{
				WaPlanNear before = plan.before;
				WaPlanNear after = plan.after;

				offers += before.valid + after.valid;
				if (!offer_is_good(&in, &target, &before, true))
					problem = "offer before";
				else if (!offer_is_good(&in, &target, &after, false))
					problem = "offer after";
			}
			if (problem != NULL)
			{
				bad++;
				printf("# seed %llu, target %d: %s\n", (unsigned long long) (seed + c), n, problem);
				show_target(&target);
				(void) wa_plan_restore(&in, &target, &plan);
				printf("# planned: %s %s, backup %d, stop %X/%X; expected: backup %d, stop %X/%X\n",
					   wa_plan_reason_name(plan.reason), plan.text, plan.backup, LSN_FORMAT_ARGS(plan.stop_lsn), i,
					   LSN_FORMAT_ARGS(real.replayed));
			}
		}
	}
	CHECK(bad == 0, "the planner agrees with recovery, record by record");
	for (int k = 0; k < 6; k++)
	{
		char text[128];

		snprintf(text, sizeof(text), "%s: %d targets, %d feasible", kind_name[k], planned[k], feasible[k]);
		/* the test means nothing if it is all of one kind */
		CHECK(bad > 0 || clusters < CLUSTERS || (planned[k] > 10000 && feasible[k] > planned[k] / 20), text);
	}
	for (int k = 0; k <= WA_PLAN_SEARCH_FAILED; k++)
	{
		char text[128];

		snprintf(text, sizeof(text), "%s: %d times", wa_plan_reason_name(k), reasons[k]);
		CHECK(bad > 0 || clusters < CLUSTERS || (reasons[k] >= 20) == (k != WA_PLAN_SEARCH_FAILED && k != WA_PLAN_UNKNOWN_TIMELINE), text);
	}
	CHECK(bad > 0 || clusters < CLUSTERS || offers > 10000, "what is offered instead is feasible");
	CHECK(bad > 0 || clusters < CLUSTERS || detours > 100, "a history that will be out of order is told");
}

/* ---- single cases ---- */

static WaSearchStatus
search_fails(void *arg, const WaPlanRange *range, int64 time, bool or_equal,
			 WaPlanRecord *record, char *text)
{
	strlcpy(text, "the disk is on fire", WA_PLAN_TEXT_LEN);
	return WA_SEARCH_FAILED;
}

static bool
plan_path_is_sane(void)
{
	static WaHistory path;
	WaPlanTimeline t[] = {{1, 0, 0}, {2, 1, 5000}, {3, 2, 4000}, {4, 4, 100}, {5, 9, 100}, {6, 2, 5000}};
	WaPlanInput in = {t, lengthof(t)};
	bool good;

	/* left before it was entered */
	good = wa_plan_path(&in, 3, &path) && path.count == 2 && path.entry[0].tli == 2 && path.entry[0].begin == 0;
	good &= wa_plan_path(&in, 4, &path) && path.count == 1;
	/* a parent that is later */
	good &= wa_plan_path(&in, 5, &path) && path.count == 1 && path.entry[0].begin == 0;
	good &= wa_plan_path(&in, 6, &path) && path.count == 3 && path.entry[1].begin == 5000 && path.entry[1].end == 5000;
	return good && !wa_plan_path(&in, 7, &path);
}

static void
test_cases(void)
{
	static WaRestorePlan plan;
	WaRestoreTarget target = {WA_TARGET_TIME, true};
	WaPlanInput in;

	state = 1;
	do
		make_cluster();
	while (nbackups == 0 || !can_begin(&(WaHistory){1, {{1}}}, 0));
	in = input(1);
	target.timeline = 99;
	CHECK(!wa_plan_restore(&in, &target, &plan) && plan.reason == WA_PLAN_UNKNOWN_TIMELINE, "a timeline that is not there");
	target.timeline = 1;
	target.time = highest_time;
	in.search.time = search_fails;
	CHECK(!wa_plan_restore(&in, &target, &plan) && plan.reason == WA_PLAN_SEARCH_FAILED &&
			  strcmp(plan.text, "the disk is on fire") == 0,
		  "what could not be looked at counts as nothing else");
	CHECK(!plan.before.valid && !plan.after.valid, "and nothing is offered then");
	in = input(1);
	CHECK(plan_path_is_sane(), "a history that can't be makes a shorter path");
	in.nbackups = 0;
	CHECK(!wa_plan_restore(&in, &target, &plan) && plan.reason == WA_PLAN_NO_BACKUP, "no backup at all");
}

/* More backups than are put in order at once. */
static void
test_many(void)
{
	static WaRestorePlan plan;
	static WaPlanBackup many[5000];
	static char name[5000][16];
	WaRestoreTarget target = {WA_TARGET_LSN, true};
	WaPlanInput in;
	int bad = 0;

	state = 4711;
	do
		make_cluster();
	while (ntimelines != 1 || nruns != 1 || timeline[0].nrecords < 40);
	run[0].from = 8 * PAGE;
	for (int i = 0; i < (int) lengthof(many); i++)
	{
		const Record *r = &timeline[0].record[rnd(timeline[0].nrecords - 2)];

		snprintf(name[i], sizeof(name[i]), "m%04d", i);
		memset(&many[i], 0, sizeof(many[i]));
		many[i].label = name[i];
		many[i].tli = many[i].stop_tli = 1;
		many[i].start_lsn = r->start;
		many[i].stop_lsn = many[i].consistent_lsn = r[1].end;
	}
	in = input(1);
	in.backups = many;
	for (int few = 0; few < 2; few++)
	{
		in.nbackups = few ? 1000 : (int) lengthof(many);
		for (int n = 0; n < 5; n++)
		{
			XLogRecPtr best = 0;

			target.lsn = timeline[0].record[5 + 4 * n].start;
			for (int i = 0; i < in.nbackups; i++)
			{
				if (many[i].start_lsn < target.lsn && many[i].start_lsn > best &&
					many[i].consistent_lsn <= timeline[0].record[5 + 4 * n].end)
					best = many[i].start_lsn;
			}
			if (!wa_plan_restore(&in, &target, &plan) || plan.start_lsn != best)
				bad++;
		}
	}
	CHECK(bad == 0, "the newest of thousands of backups");
}

int
main(int argc, char **argv)
{
	uint64 seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 20000101;
	int clusters = argc > 2 ? atoi(argv[2]) : CLUSTERS;

	printf("# seed %llu\n", (unsigned long long) seed);
	test_cases();
	test_many();
	test_random(seed, clusters);
	printf("1..%d\n", tests);
	return failures > 0;
}
