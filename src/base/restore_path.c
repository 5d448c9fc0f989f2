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

/* The last run of 'tli' that begins at or before 'lsn', or NULL. */
static const WaPlanRun *
run_at(const WaPlanInput *in, TimeLineID tli, XLogRecPtr lsn)
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
		const WaPlanRun *run = run_at(in, entry->tli, begin);

		/* the run that is there, or the next one of the timeline that has anything */
		if (run == NULL)
			run = first_run(in, entry->tli);
		for (; run != NULL && run < in->runs + in->nruns && run->tli == entry->tli; run++)
		{
			XLogRecPtr from = Max(run->from, begin);
			XLogRecPtr to = entry->end != 0 ? Min(run->to, entry->end) : run->to;

			if (from < to)
				return from;
			if (entry->end != 0 && run->from >= entry->end)
				break;
		}
	}
	return 0;
}

bool
wa_island_at(const WaPlanInput *in, const WaHistory *path, XLogRecPtr lsn,
			 WaIsland *island)
{
	const WaTimelineEntry *entry = path->entry;
	int here = owner_of(path, lsn);
	const WaPlanRun *first = run_at(in, entry[here].tli, lsn);
	const WaPlanRun *run = first;
	int i;

	if (run == NULL || run->to < lsn)
		return false;

	/* back to its beginning; timelines that were left where they were entered count for nothing */
	i = here;
	island->from = Max(run->from, entry[i].begin);
	while (i > 0 && run->from <= entry[i].begin)
	{
		XLogRecPtr fork = entry[i].begin;
		int parent = i - 1;

		while (parent > 0 && entry[parent].begin == fork)
			parent--;
		run = run_at(in, entry[parent].tli, fork - 1);
		if (run == NULL || run->to < fork)
			break;
		i = parent;
		island->from = Max(run->from, entry[i].begin);
	}

	/* and on to its end */
	i = here;
	run = first;
	for (;;)
	{
		XLogRecPtr fork = entry[i].end;
		const WaPlanRun *next;

		island->tli = entry[i].tli;
		island->to = run->to;
		island->ended_by = run->ended_by;
		island->resumes = run->resumes;
		if (fork == 0 || run->to < fork)
			break;
		for (i++; entry[i].end == fork; i++)
			;
		next = run_at(in, entry[i].tli, fork);
		island->tli = entry[i].tli;
		island->to = fork;
		if (next == NULL || next->to <= fork)
		{
			/* a child whose first segment can't be read has a run that ends, or even begins, before the fork */
			bool tells = next != NULL && (next->to == fork || next->ended_by == WA_RUN_DAMAGE ||
										  next->ended_by == WA_RUN_QUARANTINED);

			island->ended_by = tells ? next->ended_by : WA_RUN_HEAD;
			island->resumes = tells ? next->resumes : 0;
			break;
		}
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
