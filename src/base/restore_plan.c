/*-------------------------------------------------------------------------
 *
 * restore_plan.c
 *	  Where a recovery will end: the planner.  See restore_plan.h.
 *
 * What PostgreSQL's recovery does (xlogrecovery.c), and is followed here:
 *
 * - A target time, LSN and xid are compared with every record from the redo
 *   point on, in LSN order.  The first that satisfies the rule decides, and if
 *   the backup is not consistent by then recovery fails.  Without such a record
 *   it fails as well, however close the target is to the last commit.
 * - It stops before the record (a time; an exclusive LSN or xid), or after it
 *   (an inclusive LSN or xid; a restore point).
 * - "immediate" stops before the first record that follows consistency: there
 *   has to be one.  Only where consistency is reached with a record of the
 *   transaction manager it stops right there.  Of those the end of a transaction
 *   and PREPARE are known here.
 * - A redo point that is a shutdown checkpoint is not replayed itself, nor
 *   compared with the target.
 * - The checkpoint and the place of consistency have to lie on the path of the
 *   timeline that is recovered to, each on the timeline that the backup says.
 *
 * What is added: a plan is refused if the backup holds transactions that the
 * target excludes.  Recovery to a time would accept any backup whose WAL has no
 * commit before it is consistent, even one that was taken long after.
 *
 * Of the backups that serve the newest is taken, as that leaves the least to
 * replay.  Backups on the same island (a stretch of the path without a hole)
 * share what was found there.
 *
 *-------------------------------------------------------------------------
 */
#include "restore_plan_internal.h"

/* Occurrences of one xid that are looked at; a second one takes 2^32 transactions. */
#define MAX_XID_MATCHES 16

/* ---- searches ---- */

static bool
check_status(WaPlanner *p, WaSearchStatus status)
{
	if (status != WA_SEARCH_FAILED)
		return status == WA_SEARCH_FOUND;
	p->failed = true;
	p->plan->reason = WA_PLAN_SEARCH_FAILED;
	if (p->plan->text[0] == '\0')
		strlcpy(p->plan->text, "WAL could not be searched", sizeof(p->plan->text));
	return false;
}

/* Is a transaction's end at this time beyond the target? */
static bool
time_is_beyond(const WaPlanner *p, int64 time)
{
	return p->target->inclusive ? time > p->target->time : time >= p->target->time;
}

static WaPlanRange
range_of(WaPlanner *p, const WaHistory *path, XLogRecPtr from, XLogRecPtr to)
{
	return (WaPlanRange){wa_path_to_read(p->in, path, to, &p->cut), from, to};
}

/* The first record in [from, to) that satisfies the target's rule; not for IMMEDIATE and END. */
bool
wa_plan_find_match(WaPlanner *p, const WaHistory *path, XLogRecPtr from, XLogRecPtr to,
				   WaPlanRecord *record, int *count)
{
	const WaPlanSearch *search = &p->in->search;
	WaPlanRange range = range_of(p, path, from, to);
	char *text = p->plan->text;
	WaSearchStatus status = WA_SEARCH_NONE;
	int n = 1;

	if (p->failed || from >= to)
		return false;
	switch (p->target->kind)
	{
		case WA_TARGET_TIME:
			status = search->time(search->arg, &range, p->target->time, !p->target->inclusive,
								  record, text);
			break;
		case WA_TARGET_XID:
			status = search->xid(search->arg, &range, p->target->xid, record, text);
			break;
		case WA_TARGET_NAME:
			status = search->name(search->arg, &range, p->target->name, record, &n, text);
			break;
		case WA_TARGET_LSN:
			status = search->record(search->arg, &range, p->target->lsn, record, text);
			break;
		case WA_TARGET_END:
		case WA_TARGET_IMMEDIATE:
			break;
	}
	if (!check_status(p, status))
		return false;
	if (count != NULL)
		*count = n;
	return true;
}

static bool
find_record(WaPlanner *p, XLogRecPtr from, XLogRecPtr to, XLogRecPtr lsn,
			WaPlanRecord *record)
{
	const WaPlanSearch *search = &p->in->search;
	WaPlanRange range = range_of(p, &p->plan->path, from, to);

	if (p->failed || from >= to)
		return false;
	return check_status(p, search->record(search->arg, &range, lsn, record, p->plan->text));
}

bool
wa_plan_find_last_record(WaPlanner *p, XLogRecPtr from, XLogRecPtr to,
						 WaPlanRecord *record)
{
	const WaPlanSearch *search = &p->in->search;
	WaPlanRange range = range_of(p, &p->plan->path, from, to);

	if (p->failed || from >= to)
		return false;
	return check_status(p, search->last_record(search->arg, &range, record, p->plan->text));
}

static bool
find_last_xact(WaPlanner *p, XLogRecPtr from, XLogRecPtr to, bool commits,
			   WaPlanRecord *record)
{
	const WaPlanSearch *search = &p->in->search;
	WaPlanRange range = range_of(p, &p->plan->path, from, to);

	if (p->failed || from >= to)
		return false;
	return check_status(p, search->last_xact(search->arg, &range, commits, record, p->plan->text));
}

/* ---- backups ---- */

int
wa_plan_find_backup(const WaPlanInput *in, const char *label)
{
	for (int i = 0; i < in->nbackups; i++)
	{
		if (label != NULL && strcmp(in->backups[i].label, label) == 0)
			return i;
	}
	return -1;
}

/*
 * The chain of a backup, the full one first, into 'chain'.  Returns its length,
 * or 0 if it is broken: '*bad' is then the backup whose parent is the problem,
 * or that is the problem itself.
 */
int
wa_plan_find_chain(const WaPlanInput *in, int backup, int *chain, int *bad)
{
	int n = 0;
	int i = backup;

	for (;;)
	{
		const WaPlanBackup *b = &in->backups[i];
		const WaPlanBackup *parent;

		*bad = i;
		if (n == WA_MAX_CHAIN || (n > 0 && b->no_files))
			return 0;
		chain[n++] = i;
		if (!b->incremental)
			break;
		i = wa_plan_find_backup(in, b->parent);
		if (i < 0)
			return 0;
		/* what it builds on ended before it began; so no chain is a circle either */
		parent = &in->backups[i];
		if (parent->start_lsn >= b->start_lsn || parent->stop_lsn > b->start_lsn)
			return 0;
	}
	for (int lo = 0, hi = n - 1; lo < hi; lo++, hi--)
	{
		int swap = chain[lo];

		chain[lo] = chain[hi];
		chain[hi] = swap;
	}
	return n;
}

/* Does recovery along the path pass through the backup's own WAL? */
bool
wa_plan_is_on_path(const WaHistory *path, const WaPlanBackup *b)
{
	return wa_history_timeline_at(path, b->start_lsn) == b->tli &&
		   wa_history_timeline_at(path, Max(b->consistent_lsn, b->start_lsn + 1) - 1) == b->stop_tli;
}

/*
 * Could a recovery begin with this backup and become consistent?  Then
 * '*island' gets the stretch of WAL that it can read.
 */
static bool
is_candidate(WaPlanner *p, int i, WaIsland *island)
{
	const WaPlanBackup *b = &p->in->backups[i];

	if (b->state != WA_PLAN_BACKUP_USABLE || !wa_plan_is_on_path(&p->plan->path, b))
		return false;
	if (!p->has_island || b->start_lsn < p->island.from || b->start_lsn >= p->island.to)
		p->has_island = wa_island_at(p->in, &p->plan->path, b->start_lsn, &p->island);
	*island = p->island;
	return p->has_island && b->consistent_lsn <= island->to;
}

/* Last of all, for it costs most: has the backup that serves all that it builds on? */
static bool
has_chain(WaPlanner *p, int i, WaPlanOutcome *out)
{
	int bad;

	p->plan->nchain = wa_plan_find_chain(p->in, i, p->plan->chain, &bad);
	if (p->plan->nchain > 0)
		return true;
	out->reason = WA_PLAN_CHAIN_BROKEN;
	out->backup = i;
	return false;
}

/* The order in which backups are preferred: that of 'a' first? */
bool
wa_plan_is_newer(const WaPlanBackup *a, const WaPlanBackup *b)
{
	if (a->start_lsn != b->start_lsn)
		return a->start_lsn > b->start_lsn;
	if (a->incremental != b->incremental)
		return !a->incremental;
	return strcmp(a->label, b->label) < 0;
}

/*
 * The candidates, newest first: the next one after 'last' (-1: the first), or
 * -1.  If a backup was asked for it is the only one.
 */
static int
compare_backups(const void *a, const void *b, void *arg)
{
	const WaPlanInput *in = arg;
	int x = *(const int *) a;
	int y = *(const int *) b;

	if (x == y)
		return 0;
	return wa_plan_is_newer(&in->backups[x], &in->backups[y]) ? -1 : 1;
}

static void
order_backups(WaPlanner *p)
{
	if (p->in->nbackups > WA_PLAN_ORDER_MAX)
		return;
	for (int i = 0; i < p->in->nbackups; i++)
		p->order[i] = i;
	qsort_arg(p->order, p->in->nbackups, sizeof(int), compare_backups, unconstify(WaPlanInput *, p->in));
	p->ordered = true;
}

/* The backup that comes after 'last' in the order of preference, or -1. */
static int
next_backup(const WaPlanner *p, int last)
{
	const WaPlanBackup *backups = p->in->backups;
	int next = -1;

	if (p->ordered)
	{
		int lo = 0;
		int hi = p->in->nbackups;

		while (lo < hi)
		{
			int mid = lo + (hi - lo) / 2;

			if (last >= 0 && !wa_plan_is_newer(&backups[last], &backups[p->order[mid]]))
				lo = mid + 1;
			else
				hi = mid;
		}
		/* without 'last' that is the first */
		return lo < p->in->nbackups ? p->order[lo] : -1;
	}
	for (int i = 0; i < p->in->nbackups; i++)
	{
		if (i != last && (last < 0 || wa_plan_is_newer(&backups[last], &backups[i])) &&
			(next < 0 || wa_plan_is_newer(&backups[i], &backups[next])))
			next = i;
	}
	return next;
}

int
wa_plan_next_candidate(WaPlanner *p, int last, WaIsland *island)
{
	if (p->given >= 0)
		return last < 0 && is_candidate(p, p->given, island) ? p->given : -1;
	while ((last = next_backup(p, last)) >= 0)
	{
		if (is_candidate(p, last, island))
			return last;
	}
	return -1;
}

/* ---- one backup ---- */

/* Why recovery can't get beyond the end of an island. */
WaPlanReason
wa_plan_reason_of_end(const WaIsland *island, WaPlanReason head)
{
	switch (island->ended_by)
	{
		case WA_RUN_HEAD:
			return head;
		case WA_RUN_UNDECODED:
			return WA_PLAN_NOT_INDEXED;
		case WA_RUN_GAP:
			return WA_PLAN_GAP;
		case WA_RUN_DAMAGE:
			return WA_PLAN_DAMAGE;
		case WA_RUN_QUARANTINED:
			return WA_PLAN_QUARANTINED;
		case WA_RUN_UNKNOWN:
			return WA_PLAN_UNKNOWN_VERSION;
	}
	return head;
}

/* Recovery would stop at 'record': is the backup consistent by then? */
static bool
stop_at(const WaPlanBackup *b, const WaPlanRecord *record, bool before,
		WaPlanOutcome *out)
{
	out->stop = *record;
	out->before = before;
	out->has_end = !before;
	out->end_lsn = record->end_lsn;
	out->position = record->start_lsn;
	/* what is replayed ends, at the latest, where the next record starts */
	if ((before ? record->start_lsn : record->end_lsn) >= b->consistent_lsn)
		return true;
	out->reason = WA_PLAN_BEFORE_CONSISTENCY;
	return false;
}

static bool
not_reached(WaPlanOutcome *out, WaPlanReason head)
{
	out->reason = wa_plan_reason_of_end(&out->island, head);
	out->position = out->island.to;
	return false;
}

/*
 * The first match behind the start of backup 'i'.  One search is made for all
 * backups between its beginning and what it finds.  If nothing is found from
 * here on, the next one looks from the island's oldest backup.
 */
static bool
first_match(WaPlanner *p, int i, const WaIsland *island, WaPlanRecord *match)
{
	XLogRecPtr from = p->in->backups[i].start_lsn;
	WaIsland other;

	if (p->searched && p->search_to == island->to && p->search_from <= from &&
		(!p->found || p->match.start_lsn >= from))
	{
		*match = p->match;
		return p->found;
	}
	if (p->searched && p->search_to == island->to && !p->found)
	{
		for (int next = i; next >= 0; next = wa_plan_next_candidate(p, next, &other))
		{
			if (next != i && other.from != island->from)
				break;
			from = p->in->backups[next].start_lsn;
		}
	}
	p->search_from = from;
	p->search_to = island->to;
	p->found = wa_plan_find_match(p, &p->plan->path, from, island->to, &p->match, NULL);
	p->searched = !p->failed;
	if (p->found && p->match.start_lsn < p->in->backups[i].start_lsn)
	{
		/* one of before, as it turns out */
		p->search_from = p->in->backups[i].start_lsn;
		p->found = wa_plan_find_match(p, &p->plan->path, p->search_from, island->to, &p->match, NULL);
		p->searched = !p->failed;
	}
	*match = p->match;
	return p->found;
}

/*
 * Does the backup hold transactions that the target time excludes?  The last
 * one before it says so.
 */
static bool
holds_later(WaPlanner *p, const WaPlanBackup *b, const WaIsland *island)
{
	bool known = p->has_earlier && p->earlier_from == island->from &&
				 p->earlier.start_lsn < b->start_lsn && p->earlier_to >= b->start_lsn;

	if (!known)
	{
		p->has_earlier = find_last_xact(p, island->from, b->start_lsn, false, &p->earlier);
		p->earlier_from = island->from;
		p->earlier_to = b->start_lsn;
	}
	if (p->has_earlier)
		return time_is_beyond(p, p->earlier.time);
	return b->has_begin_time && p->target->time < b->begin_time;
}

static bool
try_time(WaPlanner *p, int i, WaPlanOutcome *out)
{
	const WaPlanBackup *b = &p->in->backups[i];
	WaPlanRecord record;

	out->position = b->start_lsn;
	out->reason = WA_PLAN_BEFORE_CONSISTENCY;
	/* what is known already needs no search */
	if (b->has_earliest_time && time_is_beyond(p, b->earliest_time))
		return false;
	out->reason = WA_PLAN_BEFORE_BACKUP;
	if (p->has_earlier && p->earlier_from == out->island.from &&
		p->earlier.start_lsn < b->start_lsn && p->earlier_to >= b->start_lsn &&
		time_is_beyond(p, p->earlier.time))
		return false;
	if (!first_match(p, i, &out->island, &record))
		return not_reached(out, WA_PLAN_PAST_LAST_COMMIT);
	if (stop_at(b, &record, true, out))
	{
		if (!holds_later(p, b, &out->island))
			return true;
		out->reason = WA_PLAN_BEFORE_BACKUP;
	}
	out->position = b->start_lsn;
	return false;
}

static bool
try_lsn(WaPlanner *p, int i, WaPlanOutcome *out)
{
	const WaPlanBackup *b = &p->in->backups[i];
	XLogRecPtr lsn = p->target->lsn;
	WaPlanRecord record;

	/* nor is the first record compared with the target, if it is a shutdown checkpoint */
	if (lsn <= b->start_lsn)
	{
		out->reason = WA_PLAN_BEFORE_BACKUP;
		out->position = lsn;
		return false;
	}
	if (lsn >= out->island.to || !first_match(p, i, &out->island, &record))
		return not_reached(out, WA_PLAN_NOT_ARCHIVED);
	return stop_at(b, &record, !p->target->inclusive, out);
}

/* A transaction's end or a restore point, the first behind the backup's start. */
static bool
try_found(const WaPlanner *p, const WaPlanBackup *b, const WaPlanRecord *record,
		  WaPlanOutcome *out)
{
	return stop_at(b, record, p->target->kind == WA_TARGET_XID && !p->target->inclusive, out);
}

/*
 * Consistency is reached with the first record that ends at or behind
 * consistent_lsn, and recovery stops before the next one.
 */
bool
wa_plan_try_immediate(WaPlanner *p, int i, WaPlanOutcome *out)
{
	const WaPlanBackup *b = &p->in->backups[i];
	XLogRecPtr to = out->island.to;
	WaPlanRecord last;
	WaPlanRecord xact;

	if (!wa_plan_find_last_record(p, b->start_lsn, b->consistent_lsn, &last))
		last.end_lsn = b->start_lsn;
	if ((last.end_lsn < b->consistent_lsn || last.end_lsn == b->start_lsn) &&
		!find_record(p, b->start_lsn, to, last.end_lsn, &last))
		return not_reached(out, WA_PLAN_NOT_ARCHIVED);
	if (find_record(p, b->start_lsn, to, last.end_lsn, &out->stop))
	{
		out->before = true;
		out->has_end = true;
		out->end_lsn = last.end_lsn;
		return true;
	}
	if (last.prepare || (find_last_xact(p, last.start_lsn, to, false, &xact) && xact.start_lsn == last.start_lsn))
		return stop_at(b, &last, false, out);
	return not_reached(out, WA_PLAN_NOT_ARCHIVED);
}

static bool
try_end(WaPlanner *p, int i, WaPlanOutcome *out)
{
	const WaPlanBackup *b = &p->in->backups[i];
	WaPlanRecord last;

	/* a redo point that is a shutdown checkpoint is no target */
	if (out->island.ended_by != WA_RUN_HEAD ||
		!wa_plan_find_last_record(p, b->start_lsn, out->island.to, &last) || last.start_lsn <= b->start_lsn)
		return not_reached(out, WA_PLAN_NOT_ARCHIVED);
	return stop_at(b, &last, false, out);
}

/* ---- the choice of a backup ---- */

/*
 * Keep of what stands in the way what helps most: that it is a broken chain
 * alone; else what the newest backup says whose WAL ends before the target;
 * else what the oldest says, which begins after it.
 */
static void
keep_outcome(WaPlanOutcome *best, const WaPlanOutcome *out)
{
	bool begins_after = best->reason == WA_PLAN_BEFORE_BACKUP || best->reason == WA_PLAN_BEFORE_CONSISTENCY;

	if (best->backup < 0 || (best->reason != WA_PLAN_CHAIN_BROKEN &&
							 (begins_after || out->reason == WA_PLAN_CHAIN_BROKEN)))
		*best = *out;
}

/*
 * The newest candidate that serves, or -1 with the reason in 'best', whose
 * backup is -1 if there is no candidate.
 */
int
wa_plan_choose_in_turn(WaPlanner *p, WaPlanOutcome *best)
{
	WaPlanOutcome out = {0};
	XLogRecPtr ends_at = 0; /* of the island on which the target time is not reached */

	for (int i = wa_plan_next_candidate(p, -1, &out.island); i >= 0 && !p->failed;
		 i = wa_plan_next_candidate(p, i, &out.island))
	{
		bool good = false;

		/* what was archived before a hole leads no further */
		if (ends_at != 0 && out.island.to != ends_at)
			break;
		out.backup = i;
		switch (p->target->kind)
		{
			case WA_TARGET_TIME:
				good = try_time(p, i, &out);
				break;
			case WA_TARGET_LSN:
				good = try_lsn(p, i, &out);
				break;
			case WA_TARGET_IMMEDIATE:
				good = wa_plan_try_immediate(p, i, &out);
				break;
			case WA_TARGET_END:
				good = try_end(p, i, &out);
				break;
			case WA_TARGET_XID:
			case WA_TARGET_NAME:
				break;
		}
		if (good && !p->failed && has_chain(p, i, &out))
		{
			*best = out;
			return i;
		}
		keep_outcome(best, &out);
		if (p->target->kind == WA_TARGET_TIME && out.reason != WA_PLAN_BEFORE_BACKUP &&
			out.reason != WA_PLAN_BEFORE_CONSISTENCY && out.reason != WA_PLAN_CHAIN_BROKEN)
			ends_at = out.island.to;
		/* nor would an older one get to the end */
		if (p->target->kind == WA_TARGET_END && out.island.ended_by != WA_RUN_HEAD)
			break;
	}
	return -1;
}

/* The candidates on the island of 'newest', from there on: the oldest of them. */
static int
oldest_on_island(WaPlanner *p, int newest, const WaIsland *island, int *after,
				 WaIsland *after_island)
{
	int oldest = newest;

	while ((*after = wa_plan_next_candidate(p, oldest, after_island)) >= 0 && after_island->from == island->from)
		oldest = *after;
	return oldest;
}

/*
 * Of the candidates from 'newest' to 'oldest' that begin at or before 'match',
 * but behind 'behind', the newest that serves, or -1.
 */
static int
choose_for(WaPlanner *p, int newest, int oldest, const WaIsland *island,
		   const WaPlanRecord *match, XLogRecPtr behind, WaPlanOutcome *best)
{
	WaPlanOutcome out = {0};
	WaIsland other;

	out.island = *island;
	for (int i = newest;; i = wa_plan_next_candidate(p, i, &other))
	{
		const WaPlanBackup *b = &p->in->backups[i];

		if (b->start_lsn <= match->start_lsn && b->start_lsn > behind)
		{
			out.backup = i;
			if (try_found(p, b, match, &out) && has_chain(p, i, &out))
			{
				*best = out;
				return i;
			}
			keep_outcome(best, &out);
		}
		if (i == oldest)
			return -1;
	}
}

/*
 * By the end of a transaction.  Each match counts for the candidates between
 * it and the match before; the newest one that serves is taken.
 */
static int
choose_by_xid(WaPlanner *p, WaPlanOutcome *best)
{
	WaIsland island,
		after_island;
	int after;

	for (int newest = wa_plan_next_candidate(p, -1, &island); newest >= 0 && !p->failed; newest = after)
	{
		int oldest = oldest_on_island(p, newest, &island, &after, &after_island);
		XLogRecPtr from = p->in->backups[oldest].start_lsn;
		XLogRecPtr behind = 0;
		WaPlanRecord match;
		int chosen = -1;

		for (int n = 0; n < MAX_XID_MATCHES; n++)
		{
			WaPlanOutcome out = {.backup = -1};
			int i;

			if (!wa_plan_find_match(p, &p->plan->path, from, island.to, &match, NULL))
				break;
			i = choose_for(p, newest, oldest, &island, &match, behind, &out);
			if (i >= 0)
			{
				chosen = i;
				*best = out;
			}
			else if (chosen < 0 && out.backup >= 0)
				keep_outcome(best, &out);
			behind = match.start_lsn;
			from = match.end_lsn;
		}
		if (chosen >= 0)
		{
			int bad;

			/* a later match may have looked at another chain */
			p->plan->nchain = wa_plan_find_chain(p->in, chosen, p->plan->chain, &bad);
			return chosen;
		}
		island = after_island;
	}
	return -1;
}

/*
 * By the name of a restore point.  If there are several, and no backup was
 * given, none is chosen: 'named' gets the first two of them.
 */
static int
choose_by_name(WaPlanner *p, int *total, WaPlanRecord *named, WaPlanOutcome *best)
{
	WaIsland island,
		after_island;
	int after;
	int chosen = -1;

	*total = 0;
	for (int newest = wa_plan_next_candidate(p, -1, &island); newest >= 0 && !p->failed; newest = after)
	{
		int oldest = oldest_on_island(p, newest, &island, &after, &after_island);
		WaPlanRecord match;
		int count = 0;

		if (wa_plan_find_match(p, &p->plan->path, p->in->backups[oldest].start_lsn, island.to, &match, &count))
		{
			named[1] = named[0];
			named[0] = match;
			if (count > 1)
				(void) wa_plan_find_match(p, &p->plan->path, match.end_lsn, island.to, &named[1], NULL);
			*total += count;
			if (p->given >= 0 || *total == 1)
				chosen = choose_for(p, newest, oldest, &island, &match, 0, best);
		}
		island = after_island;
	}
	return p->given < 0 && *total > 1 ? -1 : chosen;
}

/* ---- the whole ---- */

/* Say all that is known of a recovery that ends well. */
static void
fill_plan(WaPlanner *p, int chosen, const WaPlanOutcome *out)
{
	const WaPlanBackup *b = &p->in->backups[chosen];
	WaRestorePlan *plan = p->plan;
	WaPlanRecord record;

	plan->backup = chosen;
	plan->start_lsn = b->start_lsn;
	plan->start_tli = b->tli;
	plan->consistent_lsn = b->consistent_lsn;
	plan->stop = out->stop;
	plan->stops_before = out->before;
	plan->needed_lsn = out->stop.end_lsn;
	plan->stop_lsn = out->end_lsn;
	if (!out->has_end)
	{
		plan->stop_lsn = b->start_lsn;
		if (wa_plan_find_last_record(p, Max(b->start_lsn, out->stop.prev_lsn), out->stop.start_lsn, &record))
			plan->stop_lsn = record.end_lsn;
	}

	plan->set_kind = p->target->kind;
	plan->set_inclusive = p->target->inclusive;
	plan->set_lsn = p->target->lsn;
	if (p->target->kind == WA_TARGET_END)
	{
		plan->set_kind = WA_TARGET_LSN;
		plan->set_inclusive = true;
		plan->set_lsn = out->stop.start_lsn;
	}

	plan->has_xact = find_last_xact(p, b->start_lsn, plan->stop_lsn, false, &plan->last_xact);
	if (!plan->has_xact)
		return;
	plan->has_commit = plan->last_xact.commit;
	if (plan->has_commit)
		plan->last_commit = plan->last_xact;
	else
		plan->has_commit = find_last_xact(p, b->start_lsn, plan->last_xact.start_lsn, true, &plan->last_commit);
	plan->has_replay_time = true;
	plan->replay_time = plan->last_xact.time;
	if (plan->set_kind == WA_TARGET_LSN && !out->before && plan->last_xact.start_lsn == out->stop.start_lsn)
	{
		plan->has_replay_time = find_last_xact(p, b->start_lsn, plan->last_xact.start_lsn, false, &record);
		plan->replay_time = plan->has_replay_time ? record.time : 0;
	}
}

bool
wa_plan_restore(const WaPlanInput *input, const WaRestoreTarget *target,
				WaRestorePlan *plan)
{
	WaPlanner planner = {0};
	WaPlanner *p = &planner;
	WaPlanOutcome best = {.backup = -1};
	WaPlanRecord named[2] = {{0}};
	int total = 0;
	int chosen = -1;

	memset(plan, 0, sizeof(*plan));
	plan->backup = -1;
	p->in = input;
	p->target = target;
	p->plan = plan;
	p->given = -1;

	plan->timeline = target->timeline != 0 ? target->timeline : input->newest;
	if (!wa_plan_path(input, plan->timeline, &plan->path))
	{
		wa_plan_say(p, WA_PLAN_UNKNOWN_TIMELINE, "the archive does not know timeline %u", plan->timeline);
		return false;
	}
	order_backups(p);
	if (target->backup != NULL)
	{
		p->given = wa_plan_find_backup(input, target->backup);
		if (p->given < 0)
		{
			wa_plan_say(p, WA_PLAN_UNKNOWN_BACKUP, "there is no backup %.64s", target->backup);
			return false;
		}
		plan->backup = p->given;
		if (!is_candidate(p, p->given, &best.island))
		{
			wa_plan_explain_given(p);
			return false;
		}
		if (!has_chain(p, p->given, &best))
		{
			wa_plan_explain_outcome(p, &best);
			return false;
		}
	}

	switch (target->kind)
	{
		case WA_TARGET_XID:
			chosen = choose_by_xid(p, &best);
			break;
		case WA_TARGET_NAME:
			chosen = choose_by_name(p, &total, named, &best);
			break;
		default:
			chosen = wa_plan_choose_in_turn(p, &best);
	}
	if (chosen >= 0 && !p->failed)
		fill_plan(p, chosen, &best);
	if (p->failed)
		return false;
	if (chosen >= 0)
	{
		p->cut = plan->path;
		wa_path_shortest(input, &p->cut, plan->start_lsn, plan->needed_lsn, &plan->path);
		plan->timeline = plan->path.entry[plan->path.count - 1].tli;
		plan->feasible = true;
		plan->reason = WA_PLAN_FEASIBLE;
		plan->text[0] = '\0';
		return true;
	}

	if (target->kind == WA_TARGET_TIME && best.backup >= 0 && best.reason == WA_PLAN_BEFORE_CONSISTENCY &&
		holds_later(p, &input->backups[best.backup], &best.island))
		best.reason = WA_PLAN_BEFORE_BACKUP;
	if (total > 1 && p->given < 0)
	{
		wa_plan_say(p, WA_PLAN_AMBIGUOUS_NAME, "%d restore points are named \"%.64s\", the first at %X/%X, the next at %X/%X",
					total, target->name, LSN_FORMAT_ARGS(named[0].start_lsn), LSN_FORMAT_ARGS(named[1].start_lsn));
		wa_plan_offer_record(p, &named[0], &plan->before);
		wa_plan_offer_record(p, &named[1], &plan->after);
	}
	else
	{
		if (best.backup >= 0)
			wa_plan_explain_outcome(p, &best);
		else if (target->kind == WA_TARGET_XID || target->kind == WA_TARGET_NAME)
			best.position = wa_plan_explain_not_found(p);
		else
			wa_plan_explain_no_candidate(p);
		if (best.position != 0)
		{
			wa_plan_offer_before(p, best.position, &plan->before);
			wa_plan_offer_after(p, best.position, &plan->after);
		}
	}
	plan->nchain = 0;
	return false;
}
