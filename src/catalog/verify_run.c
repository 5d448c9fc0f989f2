/*-------------------------------------------------------------------------
 *
 * verify_run.c
 *	  A verification: plans it, has walarchive-decode read the files, and enters
 *	  what it finds.
 *
 * The decoder reads up to RUN_SEGMENTS segments at a request.  If it dies, it
 * is started again and goes on with the file that it had not answered for; at
 * the third death on one file that file is reported as damaged, and the rest
 * goes on.
 *
 * A crash leaves a part of the files verified, as the catalog says.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "../base/flat_json.h"
#include "../state/archive_dir.h"
#include "../state/progress.h"
#include "../state/source_file.h"
#include "decoder.h"
#include "verify_plan.h"
#include "verify_run.h"
#include "verify_sums.h"
#include "wal_hash.h"

/* Verification yields the processor and the disk to everybody else. */
#define VERIFY_NICE 19

#define RUN_SEGMENTS 512
#define MAX_DEATHS 3

/* Damaged files that are remembered by name. */
#define MAX_BLAMED 1000

/* Files that are right are entered after so many, or so long. */
#define BATCH_FILES 100
#define BATCH_MS 1000

typedef struct GoodFile
{
	char name[WA_WAL_NAME_LEN];
	TimeLineID tli;
	XLogRecPtr start; /* 0: none of a segment */
} GoodFile;

typedef struct Run
{
	const WaVerifyJob *job;
	WaVerifyReport report;
	WaVerifyNotice notice;
	void *arg;
	uint64 sysid;
	uint32 segment_size;
	bool sums; /* wal.sha256 can be read */
	WaVerifyPlan plan;
	WaDecoder *decoder;
	WaProgress progress;
	MemoryContext context; /* of the run */
	MemoryContext scratch; /* reset after each piece of work */

	List *blamed; /* names of damaged files, which others may have told of */
	GoodFile good[BATCH_FILES];
	int goods;
	TimestampTz entered; /* when files were entered last */

	/* of the request under way */
	int64 base_bytes;
	uint64 answered; /* first segment that is not answered for */
	uint64 current;  /* segment that is being read */

	/* the decoder's deaths */
	uint64 death_segno;
	TimeLineID death_tli;
	int deaths;
} Run;

/* ---- what is found ---- */

/* Run a query that returns names of files, in a transaction; they are journaled. */
static void
call_for_names(Run *run, const char *query, int nargs, Oid *types, Datum *values,
			   const char *nulls)
{
	Datum names = 0;
	bool isnull = true;
	int rc = SPI_execute_with_args(query, nargs, types, values, nulls, false, 0);

	if (rc != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "query of the verification failed: %s", SPI_result_code_string(rc));
	names = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
	{
		MemoryContext old = MemoryContextSwitchTo(run->scratch);

		names = PointerGetDatum(DatumGetArrayTypePCopy(names));
		MemoryContextSwitchTo(old);
	}
	wa_catalog_commit();
	if (!isnull)
		wa_journal_repaired(run->job->source, run->sysid, names);
}

/* Enter the files that are right. */
static void
enter_good(Run *run)
{
	Oid types[5] = {TEXTOID, INT8OID, TEXTARRAYOID, INT4ARRAYOID, PG_LSNARRAYOID};
	Datum values[5];
	ArrayBuildState *name = NULL;
	ArrayBuildState *tli = NULL;
	ArrayBuildState *start = NULL;

	run->entered = GetCurrentTimestamp();
	if (run->goods == 0)
		return;
	wa_catalog_begin("noting verified files");
	for (int i = 0; i < run->goods; i++)
	{
		GoodFile *g = &run->good[i];

		name = accumArrayResult(name, CStringGetTextDatum(g->name), false, TEXTOID, CurrentMemoryContext);
		tli = accumArrayResult(tli, Int32GetDatum((int32) g->tli), false, INT4OID, CurrentMemoryContext);
		start = accumArrayResult(start, LSNGetDatum(g->start), g->start == 0, PG_LSNOID, CurrentMemoryContext);
	}
	values[0] = CStringGetTextDatum(run->job->source);
	values[1] = Int64GetDatum((int64) run->sysid);
	values[2] = makeArrayResult(name, CurrentMemoryContext);
	values[3] = makeArrayResult(tli, CurrentMemoryContext);
	values[4] = makeArrayResult(start, CurrentMemoryContext);
	call_for_names(run, "SELECT walarchive.store_verified($1, $2, $3, $4, $5)", 5, types, values, NULL);
	run->goods = 0;
}

/* Has this file been reported as damaged? */
static bool
is_blamed(Run *run, const char *name)
{
	ListCell *cell;

	foreach (cell, run->blamed)
	{
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	}
	return false;
}

/* A file is right, as far as can be seen from itself. */
static void
add_good(Run *run, const char *name, TimeLineID tli, XLogRecPtr start)
{
	GoodFile *g;

	if (is_blamed(run, name))
		return;
	g = &run->good[run->goods++];
	strlcpy(g->name, name, sizeof(g->name));
	g->tli = tli;
	g->start = start;
	if (run->goods == BATCH_FILES)
		enter_good(run);
}

/* A file is damaged; one report of each will do. */
static void
add_damage(Run *run, const WaMsgDamage *damage, const char *rest)
{
	char *name = pnstrdup(rest, damage->name_len);
	MemoryContext old;

	if (is_blamed(run, name))
		return;
	/* it was there when files were listed, and went because nobody needs it */
	if (damage->kind == WA_DAMAGE_MISSING && damage->segment_lsn != 0 &&
		wa_wal_was_removed(run->job->source, run->sysid, damage->tli, damage->segment_lsn))
		return;

	/* those that were right before are not to undo it */
	enter_good(run);
	run->progress.damaged++;
	if (list_length(run->blamed) < MAX_BLAMED)
	{
		old = MemoryContextSwitchTo(run->context);
		run->blamed = lappend(run->blamed, pstrdup(name));
		MemoryContextSwitchTo(old);
	}
	wa_record_damage(run->job->source, run->sysid, damage, rest);
	run->report(run->arg, damage, rest);
	wa_progress_set(&run->progress);
}

/* The same of a file that was not read. */
static void
add_problem(Run *run, WaDamageKind kind, const char *name, TimeLineID tli,
			XLogRecPtr start, const char *problem)
{
	WaMsgDamage damage = {0};
	char *rest = psprintf("%s%s", name, problem);

	damage.kind = kind;
	damage.tli = tli;
	damage.segment_lsn = start;
	damage.lsn = start;
	damage.offset = -1;
	damage.name_len = strlen(name);
	damage.text_len = strlen(problem);
	add_damage(run, &damage, rest);
	pfree(rest);
}

/* Is wal.sha256 what was written into it? */
static void
verify_sums(Run *run)
{
	WaMsgDamage damage = {0};
	char text[256];
	char rest[512];
	WaSumsState state = wa_check_sums(run->job->source, run->sysid, &damage.offset, text, sizeof(text));

	run->sums = (state != WA_SUMS_UNREADABLE);
	if (state == WA_SUMS_GOOD)
	{
		add_good(run, "wal.sha256", 0, 0);
		return;
	}
	damage.kind = WA_DAMAGE_HASH;
	damage.name_len = strlen("wal.sha256");
	damage.text_len = strlen(text);
	snprintf(rest, sizeof(rest), "wal.sha256%s", text);
	add_damage(run, &damage, rest);
}

/* ---- requests ---- */

/* Show which segment is being read. */
static void
show_segment(Run *run, TimeLineID tli, uint64 segno)
{
	if (tli == 0)
		return;
	wa_segment_name(run->progress.current_file, tli, segno, run->segment_size);
}

/* The segment that starts at 'start', and all before it, are answered for. */
static void
set_answered(Run *run, XLogRecPtr start)
{
	uint64 answered = wa_segment_of(start, run->segment_size) + 1;

	if (answered > run->answered)
	{
		run->progress.files_done += answered - run->answered;
		run->answered = answered;
	}
}

/*
 * Send a request and enter what is answered.  'tli' 0: it is not about
 * segments.  False if the decoder died; '*death' then says how.
 */
static bool
ask(Run *run, const char *request, TimeLineID tli, char **death)
{
	WaDecoderMessage m;
	WaMsgDamage *held = NULL; /* a wrong checksum, until the file's own is known */
	bool told = false;

	*death = NULL;
	run->base_bytes = run->progress.bytes_done;
	if (run->decoder == NULL)
		run->decoder = wa_decoder_open(VERIFY_NICE);
	if (!wa_decoder_request(run->decoder, request))
		goto died;
	for (;;)
	{
		if (!wa_decoder_next(run->decoder, &m))
			goto died;
		if (m.type == WA_MSG_PROGRESS)
		{
			const WaMsgProgress *p = m.body;

			if (tli != 0)
			{
				run->current = wa_segment_of(p->lsn, run->segment_size);
				show_segment(run, tli, run->current);
			}
			run->progress.bytes_done = Min(run->base_bytes + (int64) p->bytes,
										   Max(run->progress.bytes_total, run->base_bytes));
			wa_progress_set(&run->progress);
		}
		else if (m.type == WA_MSG_DAMAGE)
		{
			const WaMsgDamage *d = m.body;
			WaMsgDamage *copy = palloc(sizeof(WaMsgDamage) + m.rest_len);

			memcpy(copy, d, sizeof(WaMsgDamage));
			memcpy((char *) (copy + 1), m.rest, m.rest_len);
			if (copy->kind == WA_DAMAGE_HASH)
				held = copy;
			else
			{
				/* of what is no file there is no FILE */
				if (tli != 0 && (copy->kind == WA_DAMAGE_MISSING || copy->kind == WA_DAMAGE_UNREADABLE))
					set_answered(run, copy->segment_lsn);
				add_damage(run, copy, (char *) (copy + 1));
				pfree(copy);
			}
		}
		else if (m.type == WA_MSG_FILE)
		{
			WaMsgFile f = *(const WaMsgFile *) m.body;
			char *name = pnstrdup(m.rest, Min(f.name_len, WA_WAL_NAME_LEN - 1));
			bool damaged = f.damaged;

			if (held != NULL)
			{
				/* then the line in wal.sha256 is wrong, and has been reported */
				if (wa_catalog_has_sum(run->job->source, run->sysid, name, f.sha256))
					damaged = false;
				else
					add_damage(run, held, (char *) (held + 1));
				pfree(held);
				held = NULL;
			}
			if (!damaged)
				add_good(run, name, f.tli, f.segment_lsn);
			if (tli != 0)
				set_answered(run, f.segment_lsn);
			wa_progress_set(&run->progress);
			pfree(name);
		}
		else if (m.type == WA_MSG_END)
		{
			const WaMsgEnd *end = m.body;

			if (end->result == WA_DECODE_FAILED)
				ereport(ERROR,
						(errmsg("could not verify the archive of source \"%s\": %s",
								run->job->source, pnstrdup(m.rest, end->text_len))));
			break;
		}
		if (run->goods > 0 &&
			TimestampDifferenceExceeds(run->entered, GetCurrentTimestamp(), BATCH_MS))
			enter_good(run);
	}
	return true;

died:
	*death = pstrdup(wa_decoder_death(run->decoder, &told));
	if (told)
		ereport(ERROR,
				(errcode(ERRCODE_OPERATOR_INTERVENTION),
				 errmsg("walarchive-decode was told to end while it verified source \"%s\"", run->job->source)));
	wa_decoder_close(run->decoder);
	run->decoder = NULL;
	run->progress.bytes_done = run->base_bytes;
	return false;
}

/* The members that all requests have. */
static void
begin_request(Run *run, WaJsonWriter *w, char *request, size_t size)
{
	char path[MAXPGPATH];

	wa_json_begin(w, request, size);
	wa_json_string(w, "do", "verify");
	wa_wal_path(path, run->job->source, run->sysid);
	wa_json_string(w, "directory", path);
	if (run->sums)
	{
		wa_sums_path(path, run->job->source, run->sysid);
		wa_json_string(w, "sums", path);
	}
	wa_json_uint(w, "system_identifier", run->sysid);
	wa_json_uint(w, "segment_size", run->segment_size);
}

/* Verify a history file. */
static void
verify_history(Run *run, TimeLineID tli)
{
	char request[3 * MAXPGPATH];
	char name[WA_WAL_NAME_LEN];
	char *death = NULL;
	WaJsonWriter w;

	begin_request(run, &w, request, sizeof(request));
	wa_json_uint(&w, "history", tli);
	if (!wa_json_end(&w))
		elog(ERROR, "request is too long");
	wa_history_name(name, tli);
	strlcpy(run->progress.current_file, name, sizeof(run->progress.current_file));
	for (int i = 0; i < MAX_DEATHS; i++)
	{
		if (ask(run, request, 0, &death))
		{
			run->progress.files_done++;
			return;
		}
	}
	add_problem(run, WA_DAMAGE_UNREADABLE, name, tli, 0,
				psprintf("walarchive-decode died on it: it %s", death));
}

/* How far the timeline is received, 0: it is not being received. */
static XLogRecPtr
flushed_lsn(Run *run, TimeLineID tli)
{
	WaReceiverStat *stat = palloc(sizeof(WaReceiverStat));
	int slot = wa_find_slot(run->job->source);
	XLogRecPtr lsn = 0;

	if (slot >= 0)
	{
		wa_read_stat(slot, stat);
		if (stat->system_identifier == run->sysid && stat->received_tli == tli)
			lsn = stat->flushed_lsn;
	}
	pfree(stat);
	return lsn;
}

/* Start of the last record that the catalog knows in a partial segment, or 0. */
static XLogRecPtr
known_record(Run *run, TimeLineID tli, XLogRecPtr start)
{
	Oid types[4] = {TEXTOID, INT8OID, INT4OID, PG_LSNOID};
	Datum values[4];
	XLogRecPtr lsn = 0;

	wa_catalog_begin("looking for the end of WAL");
	values[0] = CStringGetTextDatum(run->job->source);
	values[1] = Int64GetDatum((int64) run->sysid);
	values[2] = Int32GetDatum((int32) tli);
	values[3] = LSNGetDatum(start);
	if (SPI_execute_with_args("SELECT s.last_record_lsn FROM walarchive.segment s "
							  "WHERE s.source OPERATOR(pg_catalog.=) $1 AND s.system_identifier OPERATOR(pg_catalog.=) $2 "
							  "AND s.timeline OPERATOR(pg_catalog.=) $3 AND s.start_lsn OPERATOR(pg_catalog.=) $4",
							  4, types, values, NULL, true, 1) == SPI_OK_SELECT &&
		SPI_processed == 1)
	{
		bool isnull;
		Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);

		if (!isnull)
			lsn = DatumGetLSN(value);
	}
	wa_catalog_commit();
	return lsn;
}

/* Verify segments first..last of a timeline, all of which are to be there. */
static void
verify_segments(Run *run, TimeLineID tli, uint64 first, uint64 last, bool partial)
{
	const WaPlannedTimeline *t = wa_planned_timeline(&run->plan, tli);
	bool poisoned = false;
	uint64 poison = 0;

	while (first <= last)
	{
		char request[3 * MAXPGPATH];
		uint64 stop = last;
		WaJsonWriter w;
		char *death;
		XLogRecPtr lsn;

		if (poisoned && first == poison)
		{
			poisoned = false;
			first++;
			continue;
		}
		if (poisoned && poison > first && poison <= last)
			stop = poison - 1;

		begin_request(run, &w, request, sizeof(request));
		wa_json_uint(&w, "timeline", tli);
		wa_json_lsn(&w, "from", wa_segment_start(first, run->segment_size));
		wa_json_lsn(&w, "to", wa_segment_start(stop + 1, run->segment_size));
		if (t != NULL && t->fork != 0)
		{
			wa_json_lsn(&w, "fork", t->fork);
			wa_json_uint(&w, "parent", t->parent);
		}
		if ((lsn = flushed_lsn(run, tli)) != 0)
			wa_json_lsn(&w, "flushed", lsn);
		if (partial && (lsn = known_record(run, tli, wa_segment_start(last, run->segment_size))) != 0)
			wa_json_lsn(&w, "known", lsn);
		if (!wa_json_end(&w))
			elog(ERROR, "request is too long");

		run->answered = run->current = first;
		if (ask(run, request, tli, &death))
		{
			first = stop + 1;
			continue;
		}
		first = run->answered;
		ereport(LOG,
				(errmsg("walarchive-decode %s while it verified segment %X/%X of source \"%s\"",
						death, LSN_FORMAT_ARGS(wa_segment_start(run->current, run->segment_size)),
						run->job->source)));
		if (run->deaths == 0 || run->death_tli != tli || run->death_segno != run->current)
			run->deaths = 0;
		run->death_tli = tli;
		run->death_segno = run->current;
		if (++run->deaths == MAX_DEATHS)
		{
			char name[WA_WAL_NAME_LEN];

			run->deaths = 0;
			poisoned = true;
			poison = run->current;
			wa_segment_name(name, tli, poison, run->segment_size);
			add_problem(run, WA_DAMAGE_UNREADABLE, name, tli, wa_segment_start(poison, run->segment_size),
						psprintf("walarchive-decode died on it %d times: it %s", MAX_DEATHS, death));
			run->progress.files_done++;
		}
	}
}

/*
 * Which of the segments first..last have been verified lately and need not be
 * read?  Sets 'recent' for each.
 */
static void
find_recent(Run *run, TimeLineID tli, uint64 first, uint64 last, bool *recent)
{
	Oid types[6] = {TEXTOID, INT8OID, INT4OID, PG_LSNOID, PG_LSNOID, TIMESTAMPTZOID};
	Datum values[6];

	memset(recent, 0, (last - first + 1) * sizeof(bool));
	if (run->job->before == 0)
		return;
	wa_catalog_begin("looking for verified files");
	values[0] = CStringGetTextDatum(run->job->source);
	values[1] = Int64GetDatum((int64) run->sysid);
	values[2] = Int32GetDatum((int32) tli);
	values[3] = LSNGetDatum(wa_segment_start(first, run->segment_size));
	values[4] = LSNGetDatum(wa_segment_start(last, run->segment_size));
	values[5] = TimestampTzGetDatum(run->job->before);
	if (SPI_execute_with_args("SELECT s.start_lsn FROM walarchive.segment s "
							  "WHERE s.source OPERATOR(pg_catalog.=) $1 AND s.system_identifier OPERATOR(pg_catalog.=) $2 "
							  "AND s.timeline OPERATOR(pg_catalog.=) $3 AND s.start_lsn OPERATOR(pg_catalog.>=) $4 "
							  "AND s.start_lsn OPERATOR(pg_catalog.<=) $5 AND s.verified_at OPERATOR(pg_catalog.>=) $6 "
							  "AND s.state OPERATOR(pg_catalog.=) 'finished' AND s.damage IS NULL",
							  6, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not look for verified files");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;
		Datum value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
		uint64 segno = wa_segment_of(DatumGetLSN(value), run->segment_size);

		if (segno >= first && segno <= last)
			recent[segno - first] = true;
	}
	wa_catalog_commit();
}

/*
 * Verify the plan's segments begin..end-1, all of one timeline, as far as they
 * follow one another at a time.
 */
static void
verify_timeline(Run *run, int64 begin, int64 end)
{
	WaVerifyPlan *plan = &run->plan;
	bool recent[RUN_SEGMENTS];
	int64 next;

	for (int64 i = begin; i < end; i = next)
	{
		WaPlannedFile *f = &plan->file[i];
		int64 from;

		for (next = i + 1; next < end && next - i < RUN_SEGMENTS; next++)
		{
			if (plan->file[next].segno != plan->file[next - 1].segno + 1)
				break;
		}
		/* no WAL is at the very end of the address space */
		if (wa_segment_start(plan->file[next - 1].segno + 1, run->segment_size) <
			wa_segment_start(f->segno, run->segment_size))
		{
			char name[WA_WAL_NAME_LEN];

			wa_segment_name(name, plan->file[next - 1].tli, plan->file[next - 1].segno, run->segment_size);
			add_problem(run, WA_DAMAGE_FOREIGN, name, f->tli, 0, "is beyond the end of any WAL");
			if (--next == i)
			{
				next++;
				continue;
			}
		}
		find_recent(run, f->tli, f->segno, plan->file[next - 1].segno, recent);
		for (from = i; from < next; from++)
		{
			int64 to = from;

			CHECK_FOR_INTERRUPTS();
			if (recent[from - i] && plan->file[from].size >= 0)
			{
				run->progress.files_total--;
				run->progress.bytes_total -= plan->file[from].size;
				continue;
			}
			while (to + 1 < next && !(recent[to + 1 - i] && plan->file[to + 1].size >= 0) && !plan->file[to].partial)
				to++;
			verify_segments(run, f->tli, plan->file[from].segno, plan->file[to].segno,
							plan->file[to].partial);
			MemoryContextReset(run->scratch);
			from = to;
		}
	}
}

/*
 * Verify the plan's segments, newest timeline first: its copy of the fork's
 * segment tells what its parent's has to be.
 */
static void
verify_planned(Run *run)
{
	WaVerifyPlan *plan = &run->plan;
	int64 end = plan->files;

	while (end > 0)
	{
		int64 begin = end - 1;

		while (begin > 0 && plan->file[begin - 1].tli == plan->file[end - 1].tli)
			begin--;
		verify_timeline(run, begin, end);
		end = begin;
	}
}

/* The cluster of the source; raises an error if there is none. */
static void
find_cluster(Run *run)
{
	Oid types[1] = {TEXTOID};
	Datum values[1];
	bool found;
	bool isnull = true;

	wa_catalog_begin("looking for the source");
	values[0] = CStringGetTextDatum(run->job->source);
	if (SPI_execute_with_args("SELECT s.system_identifier FROM walarchive.source s "
							  "WHERE s.name OPERATOR(pg_catalog.=) $1",
							  1, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for the source");
	found = (SPI_processed == 1);
	if (found)
	{
		Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);

		if (!isnull)
			run->sysid = (uint64) DatumGetInt64(value);
	}
	wa_catalog_commit();
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("source \"%s\" does not exist", run->job->source),
				 errhint("The table walarchive.source lists the sources.")));
	if (isnull || !wa_read_cluster_file(run->job->source, run->sysid, &run->segment_size))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("source \"%s\" has no archived WAL yet", run->job->source)));
}

/* Say which names in the directory are none of an archive's. */
static void
tell_strangers(Run *run)
{
	StringInfoData text;
	ListCell *cell;

	if (run->plan.strangers == NIL)
		return;
	initStringInfo(&text);
	foreach (cell, run->plan.strangers)
		appendStringInfo(&text, "%s%s", text.len > 0 ? ", " : "", (char *) lfirst(cell));
	run->notice(run->arg, wa_clean_text(psprintf("names in the WAL folder that are none of an archive's: %s", text.data)));
	pfree(text.data);
}

/* All files have been looked at. */
static void
finish(Run *run)
{
	Oid types[7] = {TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID};
	Datum values[7];
	const WaVerifyJob *job = run->job;

	if (job->from_lsn != 0 || job->to_lsn != 0 || job->tli != 0)
		return;
	wa_catalog_begin("noting the end of a verification");
	values[0] = CStringGetTextDatum(job->source);
	values[1] = Int64GetDatum((int64) run->sysid);
	values[2] = TimestampTzGetDatum(run->progress.started_at);
	values[3] = TimestampTzGetDatum(job->before != 0 ? job->before : run->progress.started_at);
	values[4] = Int64GetDatum(run->progress.files_done);
	values[5] = Int64GetDatum(run->progress.bytes_done);
	values[6] = Int64GetDatum(run->progress.damaged);
	call_for_names(run, "SELECT walarchive.finish_verification($1, $2, $3, $4, $5, $6, $7)",
				   7, types, values, NULL);
}

static void
set_phase(Run *run, const char *phase)
{
	strlcpy(run->progress.phase, phase, sizeof(run->progress.phase));
	run->progress.current_file[0] = '\0';
	wa_progress_set(&run->progress);
}

void
wa_run_verification(const WaVerifyJob *job, WaVerifyReport report,
					WaVerifyNotice notice, void *arg)
{
	Run *run = palloc0(sizeof(Run));
	MemoryContext caller = CurrentMemoryContext;
	int histories = 0;

	run->job = job;
	run->report = report;
	run->notice = notice;
	run->arg = arg;
	find_cluster(run);

	run->progress.kind = WA_PROGRESS_VERIFY;
	strlcpy(run->progress.source, job->source, sizeof(run->progress.source));
	run->progress.system_identifier = run->sysid;
	strlcpy(run->progress.phase, "listing files", sizeof(run->progress.phase));
	run->progress.files_total = run->progress.bytes_total = -1;
	wa_progress_begin(&run->progress);
	wa_plan_files(job->source, run->sysid, run->segment_size, &run->plan);
	tell_strangers(run);
	run->entered = GetCurrentTimestamp();

	/* what the pieces of work leave behind */
	run->context = caller;
	run->scratch = AllocSetContextCreate(caller, "walarchive verification", ALLOCSET_DEFAULT_SIZES);
	set_phase(run, "comparing checksums");
	verify_sums(run);

	set_phase(run, "verifying histories");
	MemoryContextSwitchTo(run->scratch);
	for (int i = 0; i < run->plan.timelines; i++)
	{
		WaPlannedTimeline *t = &run->plan.timeline[i];
		int64 damaged = run->progress.damaged;

		if (!t->history || (job->tli != 0 && t->tli != job->tli))
			continue;
		verify_history(run, t->tli);
		histories++;
		/* a fork in a damaged history says nothing */
		if (run->progress.damaged != damaged)
		{
			t->parent = 0;
			t->fork = 0;
		}
		MemoryContextReset(run->scratch);
	}
	MemoryContextSwitchTo(caller);

	set_phase(run, "listing files");
	wa_plan_holes(job->source, run->sysid, job->from_lsn, job->to_lsn, job->tli, &run->plan);
	run->progress.files_total = run->plan.files + histories;
	run->progress.bytes_total = run->plan.bytes;
	MemoryContextSwitchTo(run->scratch);
	set_phase(run, "verifying segments");
	for (int i = 0; i < run->plan.holes; i++)
	{
		WaPlannedHole *h = &run->plan.hole[i];
		char name[WA_WAL_NAME_LEN];
		char last[WA_WAL_NAME_LEN];

		wa_segment_name(name, h->tli, h->first, run->segment_size);
		wa_segment_name(last, h->tli, h->last, run->segment_size);
		add_problem(run, WA_DAMAGE_MISSING, name, h->tli, wa_segment_start(h->first, run->segment_size),
					psprintf("is missing, and all that follow up to %s", last));
	}
	verify_planned(run);
	enter_good(run);
	set_phase(run, "finishing");
	finish(run);
	MemoryContextSwitchTo(caller);
	wa_decoder_close(run->decoder);
	wa_progress_end();
	MemoryContextDelete(run->scratch);
	pfree(run);
}
