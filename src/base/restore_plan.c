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
 *   transaction manager it stops right there.
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
#include "restore_plan.h"

#include "restore_path.h"

/* Occurrences of one xid that are looked at; a second one takes 2^32 transactions. */
#define MAX_XID_MATCHES 16

typedef struct Planner
{
	const WaPlanInput *in;
	const WaRestoreTarget *target;
	WaRestorePlan *plan;
	int given;   /* the backup asked for, -1: any */
	bool failed; /* a search was not possible: the plan says so */

	/* last transaction before a backup, which counts for others as well */
	bool has_earlier;
	XLogRecPtr earlier_from;
	XLogRecPtr earlier_to;
	WaPlanRecord earlier;

	/* the first match behind a place, which counts for backups between the two as well */
	bool searched;
	bool found;
	XLogRecPtr search_from;
	XLogRecPtr search_to;
	WaPlanRecord match;
} Planner;

/* What becomes of a recovery from one backup. */
typedef struct Outcome
{
	WaPlanReason reason;
	WaIsland island;
	WaPlanRecord stop;   /* the record at which it stops */
	bool before;         /* before it, else after */
	bool has_end;        /* 'end_lsn' is known already */
	XLogRecPtr end_lsn;  /* of the last record that is replayed */
	XLogRecPtr position; /* not feasible: where the target is; targets near that place are offered */
	int backup;          /* not feasible: the backup of which 'reason' is said */
} Outcome;

/* ---- searches ---- */

static bool
check_status(Planner *p, WaSearchStatus status)
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
time_is_beyond(const Planner *p, int64 time)
{
	return p->target->inclusive ? time > p->target->time : time >= p->target->time;
}

/* The first record in [from, to) that satisfies the target's rule; not for IMMEDIATE and END. */
static bool
find_match(Planner *p, const WaHistory *path, XLogRecPtr from, XLogRecPtr to,
		   WaPlanRecord *record, int *count)
{
	const WaPlanSearch *search = &p->in->search;
	WaPlanRange range = {path, from, to};
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
find_record(Planner *p, XLogRecPtr from, XLogRecPtr to, XLogRecPtr lsn,
			WaPlanRecord *record)
{
	const WaPlanSearch *search = &p->in->search;
	WaPlanRange range = {&p->plan->path, from, to};

	if (p->failed || from >= to)
		return false;
	return check_status(p, search->record(search->arg, &range, lsn, record, p->plan->text));
}

static bool
find_last_record(Planner *p, XLogRecPtr from, XLogRecPtr to,
				 WaPlanRecord *record)
{
	const WaPlanSearch *search = &p->in->search;
	WaPlanRange range = {&p->plan->path, from, to};

	if (p->failed || from >= to)
		return false;
	return check_status(p, search->last_record(search->arg, &range, record, p->plan->text));
}

static bool
find_last_xact(Planner *p, XLogRecPtr from, XLogRecPtr to, bool commits,
			   WaPlanRecord *record)
{
	const WaPlanSearch *search = &p->in->search;
	WaPlanRange range = {&p->plan->path, from, to};

	if (p->failed || from >= to)
		return false;
	return check_status(p, search->last_xact(search->arg, &range, commits, record, p->plan->text));
}

/* ---- backups ---- */

static int
find_backup(const WaPlanInput *in, const char *label)
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
static int
find_chain(const WaPlanInput *in, int backup, int *chain, int *bad)
{
	int n = 0;
	int i = backup;

	for (;;)
	{
		const WaPlanBackup *b = &in->backups[i];
		const WaPlanBackup *parent;

		*bad = i;
		if (n == WA_MAX_CHAIN || (n > 0 && b->state == WA_PLAN_BACKUP_BROKEN))
			return 0;
		chain[n++] = i;
		if (!b->incremental)
			break;
		i = find_backup(in, b->parent);
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
static bool
is_on_path(const WaHistory *path, const WaPlanBackup *b)
{
	return wa_history_timeline_at(path, b->start_lsn) == b->tli &&
		   wa_history_timeline_at(path, Max(b->consistent_lsn, b->start_lsn + 1) - 1) == b->stop_tli;
}

/*
 * Could a recovery begin with this backup and become consistent?  Then
 * '*island' gets the stretch of WAL that it can read.
 */
static bool
is_candidate(Planner *p, int i, WaIsland *island)
{
	const WaPlanBackup *b = &p->in->backups[i];

	return b->state == WA_PLAN_BACKUP_USABLE && is_on_path(&p->plan->path, b) &&
		   wa_island_at(p->in, &p->plan->path, b->start_lsn, island) &&
		   b->consistent_lsn <= island->to;
}

/* Last of all, for it costs most: has the backup that serves all that it builds on? */
static bool
has_chain(Planner *p, int i, Outcome *out)
{
	int bad;

	p->plan->nchain = find_chain(p->in, i, p->plan->chain, &bad);
	if (p->plan->nchain > 0)
		return true;
	out->reason = WA_PLAN_CHAIN_BROKEN;
	out->backup = i;
	return false;
}

/* The order in which backups are preferred: that of 'a' first? */
static bool
is_newer(const WaPlanBackup *a, const WaPlanBackup *b)
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
next_candidate(Planner *p, int last, WaIsland *island)
{
	if (p->given >= 0)
		return last < 0 && is_candidate(p, p->given, island) ? p->given : -1;
	for (;;)
	{
		int next = -1;

		for (int i = 0; i < p->in->nbackups; i++)
		{
			const WaPlanBackup *b = &p->in->backups[i];

			if (i != last && (last < 0 || is_newer(&p->in->backups[last], b)) &&
				(next < 0 || is_newer(b, &p->in->backups[next])))
				next = i;
		}
		if (next < 0 || is_candidate(p, next, island))
			return next;
		last = next;
	}
}

/* ---- one backup ---- */

/* Why recovery can't get beyond the end of an island. */
static WaPlanReason
reason_of_end(const WaIsland *island, WaPlanReason head)
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
		Outcome *out)
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
not_reached(Outcome *out, WaPlanReason head)
{
	out->reason = reason_of_end(&out->island, head);
	out->position = out->island.to;
	return false;
}

/*
 * The first match behind the start of backup 'i'.  One search is made for all
 * backups between its beginning and what it finds.  If nothing is found from
 * here on, the next one looks from the island's oldest backup.
 */
static bool
first_match(Planner *p, int i, const WaIsland *island, WaPlanRecord *match)
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
		for (int next = i; next >= 0; next = next_candidate(p, next, &other))
		{
			if (next != i && other.from != island->from)
				break;
			from = p->in->backups[next].start_lsn;
		}
	}
	p->search_from = from;
	p->search_to = island->to;
	p->found = find_match(p, &p->plan->path, from, island->to, &p->match, NULL);
	p->searched = !p->failed;
	if (p->found && p->match.start_lsn < p->in->backups[i].start_lsn)
	{
		/* that is one of before; there is none behind */
		return false;
	}
	*match = p->match;
	return p->found;
}

/*
 * Does the backup hold transactions that the target time excludes?  The last
 * one before it says so.
 */
static bool
holds_later(Planner *p, const WaPlanBackup *b, const WaIsland *island)
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
try_time(Planner *p, int i, Outcome *out)
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
try_lsn(Planner *p, int i, Outcome *out)
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
try_found(const Planner *p, const WaPlanBackup *b, const WaPlanRecord *record,
		  Outcome *out)
{
	return stop_at(b, record, p->target->kind == WA_TARGET_XID && !p->target->inclusive, out);
}

/*
 * Consistency is reached with the first record that ends at or behind
 * consistent_lsn, and recovery stops before the next one.
 */
static bool
try_immediate(Planner *p, int i, Outcome *out)
{
	const WaPlanBackup *b = &p->in->backups[i];
	XLogRecPtr to = out->island.to;
	WaPlanRecord last;
	WaPlanRecord xact;

	if (!find_last_record(p, b->start_lsn, b->consistent_lsn, &last))
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
	if (last.start_lsn > b->start_lsn &&
		find_last_xact(p, last.start_lsn, to, false, &xact) && xact.start_lsn == last.start_lsn)
		return stop_at(b, &last, false, out);
	return not_reached(out, WA_PLAN_NOT_ARCHIVED);
}

static bool
try_end(Planner *p, int i, Outcome *out)
{
	const WaPlanBackup *b = &p->in->backups[i];
	WaPlanRecord last;

	/* a redo point that is a shutdown checkpoint is no target */
	if (out->island.ended_by != WA_RUN_HEAD ||
		!find_last_record(p, b->start_lsn, out->island.to, &last) || last.start_lsn <= b->start_lsn)
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
keep_outcome(Outcome *best, const Outcome *out)
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
static int
choose_in_turn(Planner *p, Outcome *best)
{
	Outcome out = {0};

	for (int i = next_candidate(p, -1, &out.island); i >= 0 && !p->failed;
		 i = next_candidate(p, i, &out.island))
	{
		bool good = false;

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
				good = try_immediate(p, i, &out);
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
		/* nor would an older one get to the end */
		if (p->target->kind == WA_TARGET_END && out.reason != WA_PLAN_CHAIN_BROKEN)
			break;
	}
	return -1;
}

/* The candidates on the island of 'newest', from there on: the oldest of them. */
static int
oldest_on_island(Planner *p, int newest, const WaIsland *island, int *after,
				 WaIsland *after_island)
{
	int oldest = newest;

	while ((*after = next_candidate(p, oldest, after_island)) >= 0 && after_island->from == island->from)
		oldest = *after;
	return oldest;
}

/*
 * Of the candidates from 'newest' to 'oldest' that begin at or before 'match',
 * but behind 'behind', the newest that serves, or -1.
 */
static int
choose_for(Planner *p, int newest, int oldest, const WaIsland *island,
		   const WaPlanRecord *match, XLogRecPtr behind, Outcome *best)
{
	Outcome out = {0};
	WaIsland other;

	out.island = *island;
	for (int i = newest;; i = next_candidate(p, i, &other))
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
choose_by_xid(Planner *p, Outcome *best)
{
	WaIsland island,
		after_island;
	int after;

	for (int newest = next_candidate(p, -1, &island); newest >= 0 && !p->failed; newest = after)
	{
		int oldest = oldest_on_island(p, newest, &island, &after, &after_island);
		XLogRecPtr from = p->in->backups[oldest].start_lsn;
		XLogRecPtr behind = 0;
		WaPlanRecord match;
		int chosen = -1;

		for (int n = 0; n < MAX_XID_MATCHES; n++)
		{
			Outcome out = {.backup = -1};
			int i;

			if (!find_match(p, &p->plan->path, from, island.to, &match, NULL))
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
			p->plan->nchain = find_chain(p->in, chosen, p->plan->chain, &bad);
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
choose_by_name(Planner *p, int *total, WaPlanRecord *named, Outcome *best)
{
	WaIsland island,
		after_island;
	int after;
	int chosen = -1;

	*total = 0;
	for (int newest = next_candidate(p, -1, &island); newest >= 0 && !p->failed; newest = after)
	{
		int oldest = oldest_on_island(p, newest, &island, &after, &after_island);
		WaPlanRecord match;
		int count = 0;

		if (find_match(p, &p->plan->path, p->in->backups[oldest].start_lsn, island.to, &match, &count))
		{
			named[1] = named[0];
			named[0] = match;
			if (count > 1)
				(void) find_match(p, &p->plan->path, match.end_lsn, island.to, &named[1], NULL);
			*total += count;
			if (p->given >= 0 || *total == 1)
				chosen = choose_for(p, newest, oldest, &island, &match, 0, best);
		}
		island = after_island;
	}
	return p->given < 0 && *total > 1 ? -1 : chosen;
}

/* ---- targets near one that is not feasible ---- */

/* The last record before 'position' to which the newest backup possible leads. */
static void
offer_before(Planner *p, XLogRecPtr position, WaPlanNear *near)
{
	WaIsland island;
	WaPlanRecord last;
	int bad;

	for (int i = next_candidate(p, -1, &island); i >= 0 && !p->failed; i = next_candidate(p, i, &island))
	{
		const WaPlanBackup *b = &p->in->backups[i];
		XLogRecPtr to = Min(island.to, position);

		if (to < b->consistent_lsn || !find_last_record(p, b->start_lsn, to, &last) ||
			last.end_lsn < b->consistent_lsn || last.start_lsn <= b->start_lsn ||
			find_chain(p->in, i, p->plan->chain, &bad) == 0)
			continue;
		near->valid = true;
		near->kind = to == island.to && island.ended_by == WA_RUN_HEAD ? WA_TARGET_END : WA_TARGET_LSN;
		near->inclusive = true;
		near->lsn = last.start_lsn;
		near->backup = b->label;
		return;
	}
}

/* The first place behind 'position' where a backup is consistent. */
static void
offer_after(Planner *p, XLogRecPtr position, WaPlanNear *near)
{
	/* rarely is there one that is consistent, and no record behind */
	for (int n = 0; n < 4; n++)
	{
		Outcome out = {0};
		WaIsland island;
		int first = -1;
		int bad;

		for (int i = next_candidate(p, -1, &island); i >= 0; i = next_candidate(p, i, &island))
		{
			const WaPlanBackup *b = &p->in->backups[i];

			if (b->consistent_lsn > position &&
				(first < 0 || b->consistent_lsn < p->in->backups[first].consistent_lsn))
			{
				first = i;
				out.island = island;
			}
		}
		if (first < 0)
			return;
		if (find_chain(p->in, first, p->plan->chain, &bad) > 0 && try_immediate(p, first, &out) && !p->failed)
		{
			const WaPlanBackup *b = &p->in->backups[first];

			near->valid = true;
			near->kind = WA_TARGET_IMMEDIATE;
			near->inclusive = true;
			near->lsn = out.end_lsn;
			near->time = b->has_earliest_time ? b->earliest_time : 0;
			near->backup = b->label;
			return;
		}
		position = p->in->backups[first].consistent_lsn;
	}
}

/* A record that is there: up to its end. */
static void
offer_record(Planner *p, const WaPlanRecord *record, WaPlanNear *near)
{
	Planner q = *p;
	WaRestoreTarget target = *p->target;
	Outcome out = {.backup = -1};
	int i;

	target.kind = WA_TARGET_LSN;
	target.inclusive = true;
	target.lsn = record->start_lsn;
	q.target = &target;
	q.searched = false;
	i = choose_in_turn(&q, &out);
	p->failed = q.failed;
	if (i < 0)
		return;
	near->valid = true;
	near->kind = WA_TARGET_LSN;
	near->inclusive = true;
	near->lsn = record->start_lsn;
	near->backup = p->in->backups[i].label;
}

/* ---- why not ---- */

static void say(Planner *p, WaPlanReason reason, const char *format, ...) pg_attribute_printf(3, 4);

static void
say(Planner *p, WaPlanReason reason, const char *format, ...)
{
	va_list args;

	if (p->failed)
		return;
	p->plan->reason = reason;
	va_start(args, format);
	vsnprintf(p->plan->text, sizeof(p->plan->text), format, args);
	va_end(args);
}

/* "recovery can't go past ..." */
static void
say_end(Planner *p, const WaIsland *island, WaPlanReason reason, const char *what)
{
	char beyond[128] = "";

	if (island->resumes > island->to)
		snprintf(beyond, sizeof(beyond), ", which goes on at %X/%X", LSN_FORMAT_ARGS(island->resumes));
	switch (reason)
	{
		case WA_PLAN_GAP:
			say(p, reason, "%s: WAL is missing from %X/%X on timeline %u on%s", what,
				LSN_FORMAT_ARGS(island->to), island->tli, beyond);
			break;
		case WA_PLAN_DAMAGE:
			say(p, reason, "%s: WAL is damaged at %X/%X on timeline %u%s", what,
				LSN_FORMAT_ARGS(island->to), island->tli, beyond);
			break;
		case WA_PLAN_QUARANTINED:
			say(p, reason, "%s: the segment of timeline %u at %X/%X is quarantined, because it could not be decoded%s",
				what, island->tli, LSN_FORMAT_ARGS(island->to), beyond);
			break;
		case WA_PLAN_UNKNOWN_VERSION:
			say(p, reason, "%s: WAL of timeline %u from %X/%X on is of a PostgreSQL version that is not known here%s",
				what, island->tli, LSN_FORMAT_ARGS(island->to), beyond);
			break;
		case WA_PLAN_NOT_INDEXED:
			say(p, reason, "%s: WAL of timeline %u is archived, but not indexed from %X/%X on", what,
				island->tli, LSN_FORMAT_ARGS(island->to));
			break;
		default:
			say(p, reason, "%s: WAL is archived up to %X/%X on timeline %u", what,
				LSN_FORMAT_ARGS(island->to), island->tli);
			break;
	}
}

/* No backup of the path can be used: which there are. */
static void
explain_no_candidate(Planner *p)
{
	const WaPlanInput *in = p->in;
	int newest = -1;
	int usable = 0;

	for (int i = 0; i < in->nbackups; i++)
	{
		if (newest < 0 || is_newer(&in->backups[i], &in->backups[newest]))
			newest = i;
		if (in->backups[i].state == WA_PLAN_BACKUP_USABLE)
			usable++;
	}
	if (newest < 0)
		say(p, WA_PLAN_NO_BACKUP, "there is no base backup");
	else if (usable == 0)
		say(p, WA_PLAN_NO_BACKUP, "none of %d base backups is usable; the newest, %s: %s", in->nbackups,
			in->backups[newest].label,
			in->backups[newest].reason != NULL ? in->backups[newest].reason : "it is not usable");
	else
		say(p, WA_PLAN_NO_BACKUP, "none of %d usable base backups lies, with its WAL, on the path to timeline %u",
			usable, p->plan->timeline);
}

/* The backup that was asked for can't be used. */
static void
explain_given(Planner *p)
{
	const WaPlanBackup *b = &p->in->backups[p->given];
	WaIsland island;

	if (b->state != WA_PLAN_BACKUP_USABLE)
		say(p, WA_PLAN_BACKUP_UNUSABLE, "backup %s is %s: %s", b->label,
			b->state == WA_PLAN_BACKUP_WAITING ? "not usable yet" : "broken",
			b->reason != NULL ? b->reason : "the reason is not known");
	else if (!is_on_path(&p->plan->path, b))
	{
		const WaTimelineEntry *entry = wa_history_find(&p->plan->path, b->tli);

		if (entry != NULL && entry->end != 0)
			say(p, WA_PLAN_BACKUP_NOT_ON_PATH,
				"backup %s runs from %X/%X to %X/%X on timeline %u, and the path to timeline %u leaves that at %X/%X",
				b->label, LSN_FORMAT_ARGS(b->start_lsn), LSN_FORMAT_ARGS(b->consistent_lsn), b->tli,
				p->plan->timeline, LSN_FORMAT_ARGS(entry->end));
		else
			say(p, WA_PLAN_BACKUP_NOT_ON_PATH, "backup %s is of timeline %u, which the path to timeline %u does not have at %X/%X",
				b->label, b->tli, p->plan->timeline, LSN_FORMAT_ARGS(b->start_lsn));
	}
	else if (!wa_island_at(p->in, &p->plan->path, b->start_lsn, &island))
		say(p, WA_PLAN_GAP, "WAL is missing from %X/%X on, where backup %s starts",
			LSN_FORMAT_ARGS(b->start_lsn), b->label);
	else
	{
		char what[WA_BACKUP_LABEL_LEN + 128];

		snprintf(what, sizeof(what), "backup %s is consistent at %X/%X", b->label, LSN_FORMAT_ARGS(b->consistent_lsn));
		say_end(p, &island, reason_of_end(&island, WA_PLAN_NOT_ARCHIVED), what);
	}
}

/* What the target is, for a sentence about where it was found. */
static void
name_target(const Planner *p, char *what, size_t size)
{
	if (p->target->kind == WA_TARGET_XID)
		snprintf(what, size, "transaction %u", p->target->xid);
	else
		snprintf(what, size, "restore point \"%.64s\"", p->target->name);
}

/*
 * A transaction or restore point that no candidate leads to: is it on the path
 * at all, or elsewhere?  Returns its place on the path, 0: it is not there.
 */
static XLogRecPtr
explain_not_found(Planner *p)
{
	bool by_xid = p->target->kind == WA_TARGET_XID;
	const WaPlanInput *in = p->in;
	WaPlanRecord match;
	WaIsland island,
		last = {0};
	char what[128];
	char found[256];
	int i;

	name_target(p, what, sizeof(what));
	for (XLogRecPtr lsn = 0; wa_island_after(in, &p->plan->path, lsn, &island); lsn = island.to)
	{
		WaIsland before;

		last = island;
		if (!find_match(p, &p->plan->path, island.from, island.to, &match, NULL))
		{
			if (p->failed)
				return 0;
			continue;
		}
		snprintf(found, sizeof(found), by_xid ? "%s ended at %X/%X" : "%s is at %X/%X", what,
				 LSN_FORMAT_ARGS(match.start_lsn));
		if (p->given >= 0 && match.start_lsn < in->backups[p->given].start_lsn)
		{
			say(p, WA_PLAN_BEFORE_BACKUP, "%s, before the start of backup %s at %X/%X", found,
				in->backups[p->given].label, LSN_FORMAT_ARGS(in->backups[p->given].start_lsn));
			return match.start_lsn;
		}
		for (i = next_candidate(p, -1, &before); i >= 0; i = next_candidate(p, i, &before))
		{
			if (in->backups[i].start_lsn <= match.start_lsn)
				break;
		}
		if (i < 0)
			say(p, WA_PLAN_NO_BACKUP, "%s, and no usable base backup starts before that", found);
		else
			say_end(p, &before, reason_of_end(&before, WA_PLAN_GAP), found);
		return match.start_lsn;
	}

	/* on other timelines */
	for (i = 0; i < in->nruns; i++)
	{
		const WaPlanRun *run = &in->runs[i];
		const WaTimelineEntry *entry = wa_history_find(&p->plan->path, run->tli);
		WaHistory path;
		XLogRecPtr from;

		if (!wa_plan_path(in, run->tli, &path))
			continue;
		from = Max(run->from, path.entry[path.count - 1].begin);
		if (entry != NULL)
		{
			/* what it has behind the fork */
			if (entry->end == 0)
				continue;
			from = Max(from, entry->end);
		}
		if (!find_match(p, &path, from, run->to, &match, NULL))
		{
			if (p->failed)
				return 0;
			continue;
		}
		say(p, WA_PLAN_NOT_ANCESTOR, by_xid ? "%s ended at %X/%X on timeline %u, which the path to timeline %u does not have there" : "%s is at %X/%X on timeline %u, which the path to timeline %u does not have there",
			what, LSN_FORMAT_ARGS(match.start_lsn), run->tli, p->plan->timeline);
		return 0;
	}
	if (last.ended_by == WA_RUN_UNDECODED)
	{
		snprintf(found, sizeof(found), "%s is not in the WAL that is indexed", what);
		say_end(p, &last, WA_PLAN_NOT_INDEXED, found);
	}
	else
		say(p, by_xid ? WA_PLAN_UNKNOWN_XID : WA_PLAN_UNKNOWN_NAME, "%s of %s is in the archived WAL",
			by_xid ? "no end" : "nothing", what);
	return 0;
}

/* What the outcome of the best backup says. */
static void
explain_outcome(Planner *p, const Outcome *out)
{
	const WaPlanBackup *b = &p->in->backups[out->backup];
	const WaRestoreTarget *t = p->target;
	char what[WA_BACKUP_LABEL_LEN + 128];
	int bad;

	switch (out->reason)
	{
		case WA_PLAN_CHAIN_BROKEN:
			(void) find_chain(p->in, out->backup, p->plan->chain, &bad);
			if (bad != out->backup && p->in->backups[bad].state == WA_PLAN_BACKUP_BROKEN)
				say(p, out->reason, "backup %s builds on %s, which is broken: %s", b->label, p->in->backups[bad].label,
					p->in->backups[bad].reason != NULL ? p->in->backups[bad].reason : "the reason is not known");
			else
				say(p, out->reason, "backup %s builds on %s, which is %s", b->label,
					p->in->backups[bad].parent != NULL ? p->in->backups[bad].parent : "one that is not known",
					find_backup(p->in, p->in->backups[bad].parent) < 0 ? "missing" : "another backup of that name");
			break;
		case WA_PLAN_BEFORE_CONSISTENCY:
			say(p, out->reason, "backup %s, which starts at %X/%X, is consistent at %X/%X, and the target is before that",
				b->label, LSN_FORMAT_ARGS(b->start_lsn), LSN_FORMAT_ARGS(b->consistent_lsn));
			break;
		case WA_PLAN_BEFORE_BACKUP:
			if (p->given >= 0)
				say(p, out->reason, "backup %s starts at %X/%X, after the target", b->label, LSN_FORMAT_ARGS(b->start_lsn));
			else
				say(p, WA_PLAN_NO_BACKUP, "no usable base backup starts before the target; the oldest, %s, starts at %X/%X",
					b->label, LSN_FORMAT_ARGS(b->start_lsn));
			break;
		case WA_PLAN_PAST_LAST_COMMIT:
			say(p, out->reason, "no commit or abort %s the target time is archived, up to %X/%X on timeline %u, and recovery does not stop without one",
				t->inclusive ? "after" : "at or after", LSN_FORMAT_ARGS(out->island.to), out->island.tli);
			break;
		default:
			switch (t->kind)
			{
				case WA_TARGET_LSN:
					snprintf(what, sizeof(what), "no record that starts at or after %X/%X can be reached", LSN_FORMAT_ARGS(t->lsn));
					break;
				case WA_TARGET_TIME:
					strlcpy(what, "the target time is not reached", sizeof(what));
					break;
				case WA_TARGET_IMMEDIATE:
					snprintf(what, sizeof(what), "recovery of backup %s has to see a record after %X/%X", b->label,
							 LSN_FORMAT_ARGS(b->consistent_lsn));
					break;
				default:
					strlcpy(what, "the end of the archive is not reached", sizeof(what));
			}
			say_end(p, &out->island, out->reason, what);
	}
}

/* ---- the whole ---- */

/* Say all that is known of a recovery that ends well. */
static void
fill_plan(Planner *p, int chosen, const Outcome *out)
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
		if (find_last_record(p, Max(b->start_lsn, out->stop.prev_lsn), out->stop.start_lsn, &record))
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
	Planner planner = {0};
	Planner *p = &planner;
	Outcome best = {.backup = -1};
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
		say(p, WA_PLAN_UNKNOWN_TIMELINE, "the archive does not know timeline %u", plan->timeline);
		return false;
	}
	if (target->backup != NULL)
	{
		p->given = find_backup(input, target->backup);
		if (p->given < 0)
		{
			say(p, WA_PLAN_UNKNOWN_BACKUP, "there is no backup %.64s", target->backup);
			return false;
		}
		plan->backup = p->given;
		if (!is_candidate(p, p->given, &best.island))
		{
			explain_given(p);
			return false;
		}
		if (!has_chain(p, p->given, &best))
		{
			explain_outcome(p, &best);
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
			chosen = choose_in_turn(p, &best);
	}
	if (chosen >= 0 && !p->failed)
		fill_plan(p, chosen, &best);
	if (p->failed)
		return false;
	if (chosen >= 0)
	{
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
		say(p, WA_PLAN_AMBIGUOUS_NAME, "%d restore points are named \"%.64s\", the first at %X/%X, the next at %X/%X",
			total, target->name, LSN_FORMAT_ARGS(named[0].start_lsn), LSN_FORMAT_ARGS(named[1].start_lsn));
		offer_record(p, &named[0], &plan->before);
		offer_record(p, &named[1], &plan->after);
	}
	else
	{
		if (best.backup >= 0)
			explain_outcome(p, &best);
		else if (target->kind == WA_TARGET_XID || target->kind == WA_TARGET_NAME)
			best.position = explain_not_found(p);
		else
			explain_no_candidate(p);
		if (best.position != 0)
		{
			offer_before(p, best.position, &plan->before);
			offer_after(p, best.position, &plan->after);
		}
	}
	plan->nchain = 0;
	return false;
}

const char *
wa_plan_reason_name(WaPlanReason reason)
{
	switch (reason)
	{
		case WA_PLAN_FEASIBLE:
			return "feasible";
		case WA_PLAN_NO_BACKUP:
			return "no_backup";
		case WA_PLAN_BEFORE_BACKUP:
			return "before_backup";
		case WA_PLAN_BEFORE_CONSISTENCY:
			return "before_consistency";
		case WA_PLAN_BACKUP_UNUSABLE:
			return "backup_unusable";
		case WA_PLAN_CHAIN_BROKEN:
			return "chain_broken";
		case WA_PLAN_BACKUP_NOT_ON_PATH:
			return "backup_not_on_path";
		case WA_PLAN_UNKNOWN_BACKUP:
			return "unknown_backup";
		case WA_PLAN_UNKNOWN_TIMELINE:
			return "unknown_timeline";
		case WA_PLAN_GAP:
			return "gap";
		case WA_PLAN_DAMAGE:
			return "damage";
		case WA_PLAN_QUARANTINED:
			return "quarantined";
		case WA_PLAN_UNKNOWN_VERSION:
			return "unknown_version";
		case WA_PLAN_NOT_ARCHIVED:
			return "not_archived";
		case WA_PLAN_NOT_INDEXED:
			return "not_indexed";
		case WA_PLAN_UNKNOWN_XID:
			return "unknown_xid";
		case WA_PLAN_UNKNOWN_NAME:
			return "unknown_name";
		case WA_PLAN_AMBIGUOUS_NAME:
			return "ambiguous_name";
		case WA_PLAN_NOT_ANCESTOR:
			return "not_ancestor";
		case WA_PLAN_PAST_LAST_COMMIT:
			return "past_last_commit";
		case WA_PLAN_SEARCH_FAILED:
			return "search_failed";
	}
	return "unknown";
}
