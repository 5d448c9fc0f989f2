/*-------------------------------------------------------------------------
 *
 * restore_explain.c
 *	  For the planner: why a target is not feasible, and what would be near
 *	  it.  See restore_plan.h.
 *
 *-------------------------------------------------------------------------
 */
#include "restore_plan_internal.h"

/* ---- targets near one that is not feasible ---- */

/* The last record before 'position' to which the newest backup possible leads. */
void
wa_plan_offer_before(WaPlanner *p, XLogRecPtr position, WaPlanNear *near)
{
	WaIsland island;
	WaPlanRecord last;
	int bad;

	for (int i = wa_plan_next_candidate(p, -1, &island); i >= 0 && !p->failed; i = wa_plan_next_candidate(p, i, &island))
	{
		const WaPlanBackup *b = &p->in->backups[i];
		XLogRecPtr to = Min(island.to, position);

		if (to < b->consistent_lsn || !wa_plan_find_last_record(p, b->start_lsn, to, &last) ||
			last.end_lsn < b->consistent_lsn || last.start_lsn <= b->start_lsn ||
			wa_plan_find_chain(p->in, i, p->plan->chain, &bad) == 0)
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
void
wa_plan_offer_after(WaPlanner *p, XLogRecPtr position, WaPlanNear *near)
{
	/* rarely is there one that is consistent, and no record behind */
	for (int n = 0; n < 4; n++)
	{
		WaPlanOutcome out = {0};
		WaIsland island;
		int first = -1;
		int bad;

		for (int i = wa_plan_next_candidate(p, -1, &island); i >= 0; i = wa_plan_next_candidate(p, i, &island))
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
		if (wa_plan_find_chain(p->in, first, p->plan->chain, &bad) > 0 && wa_plan_try_immediate(p, first, &out) && !p->failed)
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
void
wa_plan_offer_record(WaPlanner *p, const WaPlanRecord *record, WaPlanNear *near)
{
	WaPlanner q = *p;
	WaRestoreTarget target = *p->target;
	WaPlanOutcome out = {.backup = -1};
	int i;

	target.kind = WA_TARGET_LSN;
	target.inclusive = true;
	target.lsn = record->start_lsn;
	q.target = &target;
	q.searched = false;
	i = wa_plan_choose_in_turn(&q, &out);
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

void
wa_plan_say(WaPlanner *p, WaPlanReason reason, const char *format, ...)
{
	va_list args;

	if (p->failed)
		return;
	p->plan->reason = reason;
	va_start(args, format);
	vsnprintf(p->plan->text, sizeof(p->plan->text), format, args);
	va_end(args);
}

/*
 * PostgreSQL writes of a copy that is promoted that it left the timeline it was
 * recovered along, at a place that this one does not have.
 */
bool
wa_plan_detour(const WaRestorePlan *plan, char *text, size_t size)
{
	const WaTimelineEntry *last = &plan->path.entry[plan->path.count - 1];

	if (!plan->feasible || plan->path.count < 2 || last->begin < plan->needed_lsn || last->begin <= plan->stop_lsn)
		return false;
	snprintf(text, size,
			 "timeline %u's own WAL can't be read up to there, so recovery goes along timeline %u, which begins with a copy "
			 "of it at %X/%X: a copy that is promoted gets a history whose places are not in order, and can't be archived",
			 wa_history_timeline_at(&plan->path, plan->needed_lsn - 1), last->tli, LSN_FORMAT_ARGS(last->begin));
	return true;
}

/* "recovery can't go past ..." */
static void
say_end(WaPlanner *p, const WaIsland *island, WaPlanReason reason, const char *what)
{
	char beyond[128] = "";

	if (island->resumes > island->to)
		snprintf(beyond, sizeof(beyond), ", which goes on at %X/%X", LSN_FORMAT_ARGS(island->resumes));
	switch (reason)
	{
		case WA_PLAN_GAP:
			wa_plan_say(p, reason, "%s: WAL is missing from %X/%X on timeline %u on%s", what,
						LSN_FORMAT_ARGS(island->to), island->tli, beyond);
			break;
		case WA_PLAN_DAMAGE:
			wa_plan_say(p, reason, "%s: WAL is damaged at %X/%X on timeline %u%s", what,
						LSN_FORMAT_ARGS(island->to), island->tli, beyond);
			break;
		case WA_PLAN_QUARANTINED:
			wa_plan_say(p, reason, "%s: the segment of timeline %u at %X/%X is quarantined, because it could not be decoded%s",
						what, island->tli, LSN_FORMAT_ARGS(island->to), beyond);
			break;
		case WA_PLAN_UNKNOWN_VERSION:
			wa_plan_say(p, reason, "%s: WAL of timeline %u from %X/%X on is of a PostgreSQL version that is not known here%s",
						what, island->tli, LSN_FORMAT_ARGS(island->to), beyond);
			break;
		case WA_PLAN_NOT_INDEXED:
			wa_plan_say(p, reason, "%s: WAL of timeline %u is archived, but not indexed from %X/%X on", what,
						island->tli, LSN_FORMAT_ARGS(island->to));
			break;
		default:
			wa_plan_say(p, reason, "%s: WAL is archived up to %X/%X on timeline %u", what,
						LSN_FORMAT_ARGS(island->to), island->tli);
			break;
	}
}

/* No backup of the path can be used: which there are. */
void
wa_plan_explain_no_candidate(WaPlanner *p)
{
	const WaPlanInput *in = p->in;
	int newest = -1;
	int usable = 0;

	for (int i = 0; i < in->nbackups; i++)
	{
		if (newest < 0 || wa_plan_is_newer(&in->backups[i], &in->backups[newest]))
			newest = i;
		if (in->backups[i].state == WA_PLAN_BACKUP_USABLE)
			usable++;
	}
	if (newest < 0)
		wa_plan_say(p, WA_PLAN_NO_BACKUP, "there is no base backup");
	else if (usable == 0)
		wa_plan_say(p, WA_PLAN_NO_BACKUP, "none of %d base backups is usable; the newest, %s: %s", in->nbackups,
					in->backups[newest].label,
					in->backups[newest].reason != NULL ? in->backups[newest].reason : "it is not usable");
	else
		wa_plan_say(p, WA_PLAN_NO_BACKUP, "none of %d usable base backups lies, with its WAL, on the path to timeline %u",
					usable, p->plan->timeline);
}

/* The backup that was asked for can't be used. */
void
wa_plan_explain_given(WaPlanner *p)
{
	const WaPlanBackup *b = &p->in->backups[p->given];
	WaIsland island;

	if (b->state != WA_PLAN_BACKUP_USABLE)
		wa_plan_say(p, WA_PLAN_BACKUP_UNUSABLE, "backup %s is %s: %s", b->label,
					b->state == WA_PLAN_BACKUP_WAITING ? "not usable yet" : "broken",
					b->reason != NULL ? b->reason : "the reason is not known");
	else if (!wa_plan_is_on_path(&p->plan->path, b))
	{
		const WaTimelineEntry *entry = wa_history_find(&p->plan->path, b->tli);

		if (entry != NULL && entry->end != 0)
			wa_plan_say(p, WA_PLAN_BACKUP_NOT_ON_PATH,
						"backup %s runs from %X/%X to %X/%X on timeline %u, and the path to timeline %u leaves that at %X/%X",
						b->label, LSN_FORMAT_ARGS(b->start_lsn), LSN_FORMAT_ARGS(b->consistent_lsn), b->tli,
						p->plan->timeline, LSN_FORMAT_ARGS(entry->end));
		else
			wa_plan_say(p, WA_PLAN_BACKUP_NOT_ON_PATH, "backup %s is of timeline %u, which the path to timeline %u does not have at %X/%X",
						b->label, b->tli, p->plan->timeline, LSN_FORMAT_ARGS(b->start_lsn));
	}
	else if (!wa_island_at(p->in, &p->plan->path, b->start_lsn, &island))
		wa_plan_say(p, WA_PLAN_GAP, "WAL is missing from %X/%X on, where backup %s starts",
					LSN_FORMAT_ARGS(b->start_lsn), b->label);
	else
	{
		char what[WA_BACKUP_LABEL_LEN + 128];

		snprintf(what, sizeof(what), "backup %s is consistent at %X/%X", b->label, LSN_FORMAT_ARGS(b->consistent_lsn));
		say_end(p, &island, wa_plan_reason_of_end(&island, WA_PLAN_NOT_ARCHIVED), what);
	}
}

/* What the target is, for a sentence about where it was found. */
static void
name_target(const WaPlanner *p, char *what, size_t size)
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
XLogRecPtr
wa_plan_explain_not_found(WaPlanner *p)
{
	bool by_xid = p->target->kind == WA_TARGET_XID;
	const WaPlanInput *in = p->in;
	WaPlanRecord match;
	WaIsland island,
		last = {0},
		unread = {0};
	char what[128];
	char found[256];
	int i;

	name_target(p, what, sizeof(what));
	for (XLogRecPtr lsn = 0; wa_island_after(in, &p->plan->path, lsn, &island); lsn = island.to)
	{
		WaIsland before;

		last = island;
		if (island.ended_by == WA_RUN_DAMAGE || island.ended_by == WA_RUN_QUARANTINED)
			unread = island;
		if (!wa_plan_find_match(p, &p->plan->path, island.from, island.to, &match, NULL))
		{
			if (p->failed)
				return 0;
			continue;
		}
		snprintf(found, sizeof(found), by_xid ? "%s ended at %X/%X" : "%s is at %X/%X", what,
				 LSN_FORMAT_ARGS(match.start_lsn));
		if (p->given >= 0 && match.start_lsn < in->backups[p->given].start_lsn)
		{
			wa_plan_say(p, WA_PLAN_BEFORE_BACKUP, "%s, before the start of backup %s at %X/%X", found,
						in->backups[p->given].label, LSN_FORMAT_ARGS(in->backups[p->given].start_lsn));
			return match.start_lsn;
		}
		for (i = wa_plan_next_candidate(p, -1, &before); i >= 0; i = wa_plan_next_candidate(p, i, &before))
		{
			if (in->backups[i].start_lsn <= match.start_lsn)
				break;
		}
		if (i < 0)
			wa_plan_say(p, WA_PLAN_NO_BACKUP, "%s, and no usable base backup starts before that", found);
		else
			say_end(p, &before, wa_plan_reason_of_end(&before, WA_PLAN_GAP), found);
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
		if (!wa_plan_find_match(p, &path, from, run->to, &match, NULL))
		{
			if (p->failed)
				return 0;
			continue;
		}
		wa_plan_say(p, WA_PLAN_NOT_ANCESTOR, by_xid ? "%s ended at %X/%X on timeline %u, which the path to timeline %u does not have there" : "%s is at %X/%X on timeline %u, which the path to timeline %u does not have there",
					what, LSN_FORMAT_ARGS(match.start_lsn), run->tli, p->plan->timeline);
		return 0;
	}
	if (last.ended_by == WA_RUN_UNDECODED)
	{
		snprintf(found, sizeof(found), "%s is not in the WAL that is indexed", what);
		say_end(p, &last, WA_PLAN_NOT_INDEXED, found);
	}
	else if (unread.to != 0)
	{
		/* it may be in there */
		snprintf(found, sizeof(found), "%s is not in the WAL that can be read", what);
		say_end(p, &unread, wa_plan_reason_of_end(&unread, WA_PLAN_UNKNOWN_XID), found);
	}
	else
		wa_plan_say(p, by_xid ? WA_PLAN_UNKNOWN_XID : WA_PLAN_UNKNOWN_NAME, "no %s%s is in the archived WAL",
					by_xid ? "commit or abort of " : "", what);
	return 0;
}

/* What the outcome of the best backup says. */
void
wa_plan_explain_outcome(WaPlanner *p, const WaPlanOutcome *out)
{
	const WaPlanBackup *b = &p->in->backups[out->backup];
	const WaRestoreTarget *t = p->target;
	char what[WA_BACKUP_LABEL_LEN + 128];
	int bad;

	switch (out->reason)
	{
		case WA_PLAN_CHAIN_BROKEN:
			(void) wa_plan_find_chain(p->in, out->backup, p->plan->chain, &bad);
			if (bad != out->backup && p->in->backups[bad].no_files)
				wa_plan_say(p, out->reason, "backup %s builds on %s, which is broken: %s", b->label, p->in->backups[bad].label,
							p->in->backups[bad].reason != NULL ? p->in->backups[bad].reason : "the reason is not known");
			else
				wa_plan_say(p, out->reason, "backup %s builds on %s, which is %s", b->label,
							p->in->backups[bad].parent != NULL ? p->in->backups[bad].parent : "one that is not known",
							wa_plan_find_backup(p->in, p->in->backups[bad].parent) < 0 ? "missing" : "another backup of that name");
			break;
		case WA_PLAN_BEFORE_CONSISTENCY:
			wa_plan_say(p, out->reason, "backup %s, which starts at %X/%X, is consistent at %X/%X, and the target is before that",
						b->label, LSN_FORMAT_ARGS(b->start_lsn), LSN_FORMAT_ARGS(b->consistent_lsn));
			break;
		case WA_PLAN_BEFORE_BACKUP:
			if (p->given >= 0)
				wa_plan_say(p, out->reason, "backup %s starts at %X/%X, after the target", b->label, LSN_FORMAT_ARGS(b->start_lsn));
			else
				wa_plan_say(p, WA_PLAN_NO_BACKUP, "no usable base backup starts before the target; the oldest, %s, starts at %X/%X",
							b->label, LSN_FORMAT_ARGS(b->start_lsn));
			break;
		case WA_PLAN_PAST_LAST_COMMIT:
			wa_plan_say(p, out->reason, "no commit or abort %s the target time is archived, up to %X/%X on timeline %u, and recovery does not stop without one",
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
