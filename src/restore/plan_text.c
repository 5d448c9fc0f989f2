/*-------------------------------------------------------------------------
 *
 * plan_text.c
 *	  A plan of a recovery in words, see plan_text.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "../base/wal_name.h"
#include "../state/stat_functions.h"
#include "plan_text.h"

/* A microsecond is what PostgreSQL's times can tell apart. */
static char *
time_text(int64 time)
{
	if (!IS_VALID_TIMESTAMP(time))
		return pstrdup("an impossible time");
	return DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(time)));
}

static char *
size_text(uint64 bytes)
{
	return text_to_cstring(DatumGetTextPP(DirectFunctionCall1(pg_size_pretty, Int64GetDatum((int64) bytes))));
}

static char *
lsn_text(XLogRecPtr lsn)
{
	return psprintf("%X/%X", LSN_FORMAT_ARGS(lsn));
}

/* ---- the target ---- */

char *
wa_target_text(const WaRestoreTarget *t)
{
	const char *how = t->inclusive ? "" : ", exclusive";

	switch (t->kind)
	{
		case WA_TARGET_END:
			return pstrdup("the end of the archive");
		case WA_TARGET_TIME:
			return psprintf("time %s%s", time_text(t->time), how);
		case WA_TARGET_LSN:
			return psprintf("LSN %s%s", lsn_text(t->lsn), how);
		case WA_TARGET_XID:
			return psprintf("transaction %u%s", t->xid, how);
		case WA_TARGET_NAME:
			return psprintf("restore point \"%s\"", t->name);
		case WA_TARGET_IMMEDIATE:
			return pstrdup("where the backup is consistent");
	}
	return NULL;
}

/* A target as the arguments of plan_restore. */
static char *
near_text(const WaPlanNear *near, const WaRestoreTarget *target)
{
	StringInfoData s;

	initStringInfo(&s);
	switch (near->kind)
	{
		case WA_TARGET_TIME:
			appendStringInfo(&s, "target_time => '%s'", time_text(near->time));
			break;
		case WA_TARGET_LSN:
			appendStringInfo(&s, "target_lsn => '%s'", lsn_text(near->lsn));
			break;
		case WA_TARGET_IMMEDIATE:
			appendStringInfoString(&s, "target_immediate => true");
			break;
		default:
			appendStringInfoString(&s, "no target (the end of the archive)");
			break;
	}
	if (!near->inclusive && (near->kind == WA_TARGET_TIME || near->kind == WA_TARGET_LSN))
		appendStringInfoString(&s, ", inclusive => false");
	if (target->timeline != 0)
		appendStringInfo(&s, ", target_timeline => %u", target->timeline);
	/* the planner chooses the same one, unless it was told otherwise */
	if (near->backup != NULL && (near->kind == WA_TARGET_IMMEDIATE || target->backup != NULL))
		appendStringInfo(&s, ", backup => '%s'", near->backup);
	return s.data;
}

/* In quotes as postgresql.conf wants them. */
static void
append_setting(StringInfo s, const char *name, const char *value)
{
	appendStringInfo(s, "%s = '", name);
	for (const char *p = value; *p != '\0'; p++)
	{
		if (*p == '\'' || *p == '\\')
			appendStringInfoChar(s, *p);
		if ((unsigned char) *p < ' ')
			appendStringInfo(s, "\\%03o", (unsigned char) *p);
		else
			appendStringInfoChar(s, *p);
	}
	appendStringInfoString(s, "'\n");
}

/* Whatever the session's settings are. */
static char *
utc_text(int64 time)
{
	struct pg_tm tm;
	fsec_t fsec;
	char text[MAXDATELEN + 1];
	int tz = 0;

	if (TIMESTAMP_NOT_FINITE(time) || timestamp2tm(time, NULL, &tm, &fsec, NULL, NULL) != 0)
		return time_text(time);
	/* else no time zone is written */
	tm.tm_isdst = 0;
	EncodeDateTime(&tm, fsec, true, tz, NULL, USE_ISO_DATES, text);
	return pstrdup(text);
}

char *
wa_target_settings(const WaRestorePlan *plan, const WaRestoreTarget *target)
{
	StringInfoData s;
	bool inclusive = true;

	initStringInfo(&s);
	switch (plan->set_kind)
	{
		case WA_TARGET_TIME:
			append_setting(&s, "recovery_target_time", utc_text(target->time));
			break;
		case WA_TARGET_LSN:
			append_setting(&s, "recovery_target_lsn", lsn_text(plan->set_lsn));
			break;
		case WA_TARGET_XID:
			append_setting(&s, "recovery_target_xid", psprintf("%u", target->xid));
			break;
		case WA_TARGET_NAME:
			append_setting(&s, "recovery_target_name", target->name);
			inclusive = false;
			break;
		case WA_TARGET_IMMEDIATE:
			append_setting(&s, "recovery_target", "immediate");
			inclusive = false;
			break;
		case WA_TARGET_END:
			inclusive = false;
			break;
	}
	if (inclusive)
		append_setting(&s, "recovery_target_inclusive", plan->set_inclusive ? "on" : "off");
	append_setting(&s, "recovery_target_timeline", psprintf("%u", plan->timeline));
	return s.data;
}

/* ---- the plan ---- */

char *
wa_path_text(const WaRestorePlan *plan)
{
	StringInfoData s;
	bool begun = false;

	initStringInfo(&s);
	for (int i = 0; i < plan->path.count; i++)
	{
		const WaTimelineEntry *e = &plan->path.entry[i];

		if (!begun && e->tli != plan->start_tli && plan->start_tli != 0)
			continue;
		if (begun)
			appendStringInfo(&s, " -> %u at %X/%X", e->tli, LSN_FORMAT_ARGS(e->begin));
		else
			appendStringInfo(&s, "%u", e->tli);
		begun = true;
	}
	return s.data;
}

int64
wa_plan_segments(const WaRestorePlan *plan, uint32 segment_size)
{
	if (plan->needed_lsn <= plan->start_lsn)
		return 0;
	return (int64) (wa_segment_of(plan->needed_lsn - 1, segment_size) - wa_segment_of(plan->start_lsn, segment_size) + 1);
}

uint64
wa_plan_backup_bytes(const WaPlanInput *input, const WaRestorePlan *plan)
{
	uint64 bytes = 0;

	for (int i = 0; i < plan->nchain; i++)
		bytes += input->backups[plan->chain[i]].size;
	return bytes;
}

static void
append_sentence(StringInfo s, const char *text)
{
	size_t len = strlen(text);

	if (len == 0)
		return;
	if (s->len > 0)
		appendStringInfoChar(s, ' ');
	appendStringInfoChar(s, (char) pg_toupper((unsigned char) text[0]));
	appendStringInfoString(s, text + 1);
	if (text[len - 1] != '.')
		appendStringInfoChar(s, '.');
}

/* It may have what was asked for, at another place. */
static char *
unknown_timeline_text(const WaPlanFacts *f)
{
	return psprintf("WAL of timeline %u is being received and is not indexed yet: this is what timeline %u has",
					f->unknown_timeline, f->input->newest);
}

char *
wa_plan_hint(const WaPlanFacts *f)
{
	const WaRestorePlan *plan = f->plan;
	char detour[WA_PLAN_TEXT_LEN];
	StringInfoData s;

	initStringInfo(&s);
	if (f->unknown_timeline != 0)
		append_sentence(&s, unknown_timeline_text(f));
	if (plan->feasible)
	{
		if (wa_plan_detour(plan, detour, sizeof(detour)))
			append_sentence(&s, detour);
		if (f->prepared != NIL)
			append_sentence(&s, "prepared transactions are open there and keep their locks until COMMIT PREPARED or ROLLBACK PREPARED");
		if (!plan->has_commit)
			append_sentence(&s, "no commit is replayed: what there is comes with the backup");
		if (f->tablespaces != NIL)
		{
			StringInfoData made;
			ListCell *lc;

			initStringInfo(&made);
			foreach (lc, f->tablespaces)
				appendStringInfo(&made, "%s\"%s\"", made.len > 0 ? ", " : "", (char *) lfirst(lc));
			append_sentence(&s, psprintf("recovery makes a tablespace in %s itself, as its WAL says", made.data));
		}
		return s.len > 0 ? s.data : NULL;
	}
	append_sentence(&s, wa_clean_text(plan->text));
	if (plan->before.valid && plan->after.valid)
		appendStringInfo(&s, " The nearest targets that can be reached: before it %s; after it %s.",
						 near_text(&plan->before, f->target), near_text(&plan->after, f->target));
	else if (plan->before.valid)
		appendStringInfo(&s, " The nearest target before it that can be reached: %s.", near_text(&plan->before, f->target));
	else if (plan->after.valid)
		appendStringInfo(&s, " The nearest target after it that can be reached: %s.", near_text(&plan->after, f->target));
	else
		append_sentence(&s, "what can be recovered is in walarchive.recovery_window");
	return s.data;
}

/* ---- the report ---- */

static void
append_line(StringInfo s, const char *name, const char *value)
{
	appendStringInfo(s, "  %-13s %s\n", name, value);
}

/* The words of a long list, up to the width of a screen. */
static char *
short_list(List *words)
{
	StringInfoData s;
	ListCell *lc;
	int n = 0;

	initStringInfo(&s);
	foreach (lc, words)
	{
		const char *word = lfirst(lc);

		if (n > 0 && s.len + strlen(word) > 50)
		{
			appendStringInfo(&s, " and %d more", list_length(words) - n);
			break;
		}
		appendStringInfo(&s, "%s%s", n > 0 ? ", " : "", word);
		n++;
	}
	return s.data;
}

static void
report_feasible(StringInfo s, const WaPlanFacts *f)
{
	const WaRestorePlan *plan = f->plan;
	const WaPlanBackup *backup = &f->input->backups[plan->backup];
	char detour[WA_PLAN_TEXT_LEN];
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, "%s (%s", backup->label, size_text(wa_plan_backup_bytes(f->input, plan)));
	if (plan->nchain > 1)
		appendStringInfo(&text, " with %d that it builds on, the full one is %s", plan->nchain - 1,
						 f->input->backups[plan->chain[0]].label);
	appendStringInfoChar(&text, ')');
	append_line(s, "backup", text.data);
	append_line(s, "timelines", wa_path_text(plan));
	if (wa_plan_detour(plan, detour, sizeof(detour)))
		append_line(s, "note", detour);
	append_line(s, "WAL", psprintf("%s to %s: %lld files, %s", lsn_text(plan->start_lsn), lsn_text(plan->needed_lsn), (long long) wa_plan_segments(plan, f->segment_size), size_text(plan->needed_lsn - plan->start_lsn)));
	append_line(s, "consistent at", lsn_text(plan->consistent_lsn));
	if (plan->stops_before)
		append_line(s, "ends at", psprintf("%s, before the record at %s", lsn_text(plan->stop_lsn), lsn_text(plan->stop.start_lsn)));
	else
		append_line(s, "ends at", psprintf("%s, after the record at %s", lsn_text(plan->stop_lsn), lsn_text(plan->stop.start_lsn)));
	if (plan->has_commit)
		append_line(s, "last commit", psprintf("transaction %u of %s, at %s", plan->last_commit.xid, time_text(plan->last_commit.time), lsn_text(plan->last_commit.end_lsn)));
	else
		append_line(s, "last commit", "none is replayed: what there is comes with the backup");
	if (f->prepared != NIL)
		append_line(s, "prepared", psprintf("%s: open there, and keep their locks", short_list(f->prepared)));
	if (f->id != 0)
		append_line(s, "files", psprintf("SELECT * FROM walarchive.plan_files(" INT64_FORMAT ");", f->id));
	appendStringInfoString(s, "  settings\n");
	for (const char *line = f->settings; *line != '\0';)
	{
		size_t len = strcspn(line, "\n");

		appendStringInfo(s, "    %.*s\n", (int) len, line);
		line += len + (line[len] == '\n');
	}
}

char *
wa_plan_report_text(const WaPlanFacts *f)
{
	const WaRestorePlan *plan = f->plan;
	StringInfoData s;

	initStringInfo(&s);
	appendStringInfo(&s, "Restore of source \"%s\" to %s: %s\n", f->source, wa_target_text(f->target),
					 plan->feasible ? "feasible" : psprintf("not feasible (%s)", wa_plan_reason_name(plan->reason)));
	if (f->unknown_timeline != 0)
		append_line(&s, "not indexed", unknown_timeline_text(f));
	if (plan->feasible)
		report_feasible(&s, f);
	else
	{
		append_line(&s, "why", wa_clean_text(plan->text));
		if (plan->before.valid)
			append_line(&s, "before it", near_text(&plan->before, f->target));
		if (plan->after.valid)
			append_line(&s, "after it", near_text(&plan->after, f->target));
		if (!plan->before.valid && !plan->after.valid)
			append_line(&s, "see", psprintf("SELECT * FROM walarchive.recovery_window WHERE source = '%s';", f->source));
	}
	if (s.len > 0 && s.data[s.len - 1] == '\n')
		s.data[--s.len] = '\0';
	return s.data;
}
