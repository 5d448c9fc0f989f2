/*-------------------------------------------------------------------------
 *
 * restore_path.c
 *	  For the planner: paths of timelines and the islands of checked WAL on
 *	  them.  See restore_path.h.
 *
 * At a fork recovery goes over from the parent to the child.  The file of the
 * segment that has the fork is the child's: where the child has no WAL there,
 * the island ends at the fork, whatever the parent has behind it.
 *
 * That file begins with the parent's WAL up to the fork.  So where the parent's
 * own file of that segment is damaged, or not there, an island goes on in the
 * child's "copy" of it.  If several timelines began in one segment recovery reads
 * the newest one's file.
 *
 *-------------------------------------------------------------------------
 */
#include "restore_path.h"

static const WaPlanTimeline *
find_timeline(const WaPlanInput *in, TimeLineID tli)
{
	for (int i = 0; i < in->ntimelines; i++)
	{
		if (in->timelines[i].tli == tli)
			return &in->timelines[i];
	}
	return NULL;
}

bool
wa_plan_path(const WaPlanInput *in, TimeLineID tli, WaHistory *path)
{
	const WaPlanTimeline *t = find_timeline(in, tli);
	XLogRecPtr end = 0;

	path->count = 0;
	if (t == NULL)
		return false;
	/* newest first at first; timelines only come from lower ones, and from earlier places */
	for (;;)
	{
		WaTimelineEntry *entry = &path->entry[path->count++];

		entry->tli = t->tli;
		entry->begin = 0;
		entry->end = end;
		if (t->parent == 0 || t->parent >= t->tli || t->fork == 0 || (end != 0 && t->fork > end) ||
			path->count == WA_MAX_TIMELINES)
			break;
		entry->begin = t->fork;
		end = t->fork;
		tli = t->parent;
		t = find_timeline(in, tli);
		if (t == NULL)
		{
			if (path->count < WA_MAX_TIMELINES)
			{
				entry = &path->entry[path->count++];
				entry->tli = tli;
				entry->begin = 0;
				entry->end = end;
			}
			else
				entry->begin = 0;
			break;
		}
	}
	for (int lo = 0, hi = path->count - 1; lo < hi; lo++, hi--)
	{
		WaTimelineEntry swap = path->entry[lo];

		path->entry[lo] = path->entry[hi];
		path->entry[hi] = swap;
	}
	return true;
}

/* How many runs there are up to the last one of 'tli' that begins at or before 'lsn'. */
static int
runs_up_to(const WaPlanInput *in, TimeLineID tli, XLogRecPtr lsn)
{
	int lo = 0;
	int hi = in->nruns;

	while (lo < hi)
	{
		int mid = lo + (hi - lo) / 2;
		const WaPlanRun *run = &in->runs[mid];

		if (run->tli < tli || (run->tli == tli && run->from <= lsn))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

const WaPlanRun *
wa_plan_run_at(const WaPlanInput *in, TimeLineID tli, XLogRecPtr lsn)
{
	int n = runs_up_to(in, tli, lsn);

	return n > 0 && in->runs[n - 1].tli == tli ? &in->runs[n - 1] : NULL;
}

/* The first run of 'tli', or NULL. */
static const WaPlanRun *
first_run(const WaPlanInput *in, TimeLineID tli)
{
	int n = tli > 0 ? runs_up_to(in, tli - 1, ~(XLogRecPtr) 0) : 0;

	return n < in->nruns && in->runs[n].tli == tli ? &in->runs[n] : NULL;
}

static int
owner_of(const WaHistory *path, XLogRecPtr lsn)
{
	int i = path->count - 1;

	while (i > 0 && path->entry[i].begin > lsn)
		i--;
	return i;
}

/* How far a run of an entry's timeline is part of the path. */
static XLogRecPtr
run_end(const WaPlanRun *run, const WaTimelineEntry *entry)
{
	return entry->end != 0 ? Min(run->to, entry->end) : run->to;
}

/*
 * The run of an entry's timeline that has the segment in which that begins from
 * its start on, '*from': it serves for the ancestors' WAL in it as well.
 */
static const WaPlanRun *
copy_of(const WaPlanInput *in, const WaHistory *path, int i, XLogRecPtr *from)
{
	XLogRecPtr begin = path->entry[i].begin;

	if (begin == 0 || in->segment_size == 0)
		return NULL;
	*from = begin - begin % in->segment_size;
	return wa_plan_run_at(in, path->entry[i].tli, *from);
}

/*
 * Where the path's checked WAL goes on at or behind 'lsn', 0: nowhere.  At
 * 'lsn' itself there is none.
 */
static XLogRecPtr
goes_on_at(const WaPlanInput *in, const WaHistory *path, XLogRecPtr lsn)
{
	for (int i = owner_of(path, lsn); i < path->count; i++)
	{
		const WaTimelineEntry *entry = &path->entry[i];
		XLogRecPtr begin = Max(entry->begin, lsn);
		const WaPlanRun *run;
		XLogRecPtr copy_from;

		run = copy_of(in, path, i, &copy_from);
		if (run != NULL && run_end(run, entry) > Max(copy_from, lsn))
			return Max(copy_from, lsn);
		run = wa_plan_run_at(in, entry->tli, begin);

		/* the run that is there, or the next one of the timeline that has anything */
		if (run == NULL)
			run = first_run(in, entry->tli);
		for (; run != NULL && run < in->runs + in->nruns && run->tli == entry->tli; run++)
		{
			XLogRecPtr from = Max(run->from, begin);

			if (from < run_end(run, entry))
				return from;
			if (entry->end != 0 && run->from >= entry->end)
				break;
		}
	}
	return 0;
}

/*
 * Of the entries behind '*i' the one whose copy goes on at 'lsn' and leads
 * furthest; at least to 'least'.
 */
static const WaPlanRun *
best_copy(const WaPlanInput *in, const WaHistory *path, XLogRecPtr lsn, XLogRecPtr least, int *i)
{
	const WaPlanRun *best = NULL;
	int behind = *i;

	for (int k = path->count - 1; k > behind; k--)
	{
		XLogRecPtr from;
		const WaPlanRun *run = copy_of(in, path, k, &from);
		XLogRecPtr to;

		if (run == NULL || from > lsn)
			continue;
		to = run_end(run, &path->entry[k]);
		if (to < least)
			continue;
		best = run;
		least = to + 1;
		*i = k;
	}
	return best;
}

/* The run of an entry that goes on behind its beginning, which it can be read from. */
static const WaPlanRun *
run_from_begin(const WaPlanInput *in, const WaHistory *path, int i)
{
	XLogRecPtr begin = path->entry[i].begin;

	return wa_plan_run_at(in, path->entry[i].tli, in->segment_size != 0 ? begin - begin % in->segment_size : begin);
}

/* Where the island of a run begins, of which entry 'i' of the path goes through. */
static XLogRecPtr
island_begin(const WaPlanInput *in, const WaHistory *path, int i, const WaPlanRun *run)
{
	for (;;)
	{
		XLogRecPtr begin = path->entry[i].begin;
		XLogRecPtr copy_from;

		if (i == 0 || run->from > begin)
			return run->from;
		if (copy_of(in, path, i, &copy_from) == run)
			begin = copy_from;
		else if (in->segment_size != 0 && begin % in->segment_size != 0)
			return begin;
		if (begin == 0)
			return begin;
		i = owner_of(path, begin - 1);
		run = wa_plan_run_at(in, path->entry[i].tli, begin - 1);
		if (run == NULL || run->to < begin)
			return begin;
	}
}

bool
wa_island_at(const WaPlanInput *in, const WaHistory *path, XLogRecPtr lsn,
			 WaIsland *island)
{
	const WaTimelineEntry *entry = path->entry;
	int i = owner_of(path, lsn);
	const WaPlanRun *run = wa_plan_run_at(in, entry[i].tli, lsn);

	if (run == NULL || run->to < lsn)
	{
		run = best_copy(in, path, lsn, lsn, &i);
		if (run == NULL)
			return false;
	}
	island->from = island_begin(in, path, i, run);

	/* and on to its end; timelines that were left where they were entered count for nothing */
	for (;;)
	{
		XLogRecPtr fork = entry[i].end;
		const WaPlanRun *next = NULL;
		int to = i;

		island->tli = entry[i].tli;
		island->to = run->to;
		island->ended_by = run->ended_by;
		island->resumes = run->resumes;
		if (fork != 0 && run->to >= fork)
		{
			for (to = i + 1; entry[to].end == fork; to++)
				;
			next = run_from_begin(in, path, to);
			island->tli = entry[to].tli;
			island->to = fork;
			/* a child whose first segment can't be read has a run that ends, or even begins, before the fork */
			island->ended_by = next != NULL ? next->ended_by : WA_RUN_HEAD;
			island->resumes = next != NULL ? next->resumes : 0;
			if (next != NULL && next->to <= fork)
				next = NULL;
		}
		if (next == NULL)
		{
			to = i;
			next = best_copy(in, path, island->to, island->to + 1, &to);
		}
		if (next == NULL)
			break;
		i = to;
		run = next;
	}
	if (island->ended_by == WA_RUN_HEAD || island->resumes == 0)
	{
		island->resumes = goes_on_at(in, path, island->to);
		if (island->resumes != 0 && island->ended_by == WA_RUN_HEAD)
			island->ended_by = WA_RUN_GAP;
	}
	return true;
}

/* The first 'count' timelines of a path, of which the last is not left. */
static void
cut_path(const WaHistory *path, int count, WaHistory *cut)
{
	cut->count = count;
	memcpy(cut->entry, path->entry, count * sizeof(WaTimelineEntry));
	cut->entry[count - 1].end = 0;
}

const WaHistory *
wa_path_to_read(const WaPlanInput *in, const WaHistory *path, XLogRecPtr to, WaHistory *room)
{
	int count = path->count;
	XLogRecPtr good = PG_UINT64_MAX; /* start of a segment that the newest one to begin in it has */

	for (int i = path->count - 1; i > 0 && path->entry[i].begin >= to; i--)
	{
		XLogRecPtr from = path->entry[i].begin;
		const WaPlanRun *run;

		if (in->segment_size != 0)
			from -= from % in->segment_size;
		if (from >= to || from == good)
			continue;
		run = copy_of(in, path, i, &from);
		if (run != NULL && run->to >= to)
			good = from;
		else
			count = i;
	}
	if (count == path->count)
		return path;
	cut_path(path, count, room);
	return room;
}

void
wa_path_shortest(const WaPlanInput *in, const WaHistory *path, XLogRecPtr from, XLogRecPtr to,
				 WaHistory *shortest)
{
	for (int count = owner_of(path, to - 1) + 1; count < path->count; count++)
	{
		WaIsland island;

		cut_path(path, count, shortest);
		if (wa_island_at(in, shortest, from, &island) && island.from <= from && island.to >= to)
			return;
	}
	*shortest = *path;
}

bool
wa_island_after(const WaPlanInput *in, const WaHistory *path, XLogRecPtr lsn,
				WaIsland *island)
{
	XLogRecPtr from;

	if (wa_island_at(in, path, lsn, island) && island->to > lsn)
		return true;
	from = goes_on_at(in, path, lsn);
	return from != 0 && wa_island_at(in, path, from, island);
}
