/*-------------------------------------------------------------------------
 *
 * scheduler.c
 *	  Scheduled base backups.  See scheduler.h.
 *
 * Part of the launcher.  What is due follows from the settings (source.json),
 * from the backups that are there (their backup.json), from the attempts that
 * failed (the journal) and from the clock, by src/base/backup_schedule.c.  All
 * of it is on disk: a restart of the launcher or of the host neither loses nor
 * repeats a run.  What is remembered here only saves reading it again: the
 * folder of the backups is read when its time of change has changed, the
 * journal from where it ended.
 *
 * An attempt that a crash interrupted has left a folder and no line in the
 * journal; until the indexer has removed the one and written the other, the
 * folder counts as a failure.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>

#include "access/xlog.h"
#include "nodes/pg_list.h"
#include "pgtime.h"
#include "storage/fd.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "../base/backup_schedule.h"
#include "../state/archive_dir.h"
#include "../state/backup_file.h"
#include "../state/backup_slot.h"
#include "../state/journal.h"
#include "scheduler.h"

/* Of a longer journal only so much is read at first: what is older is no recent failure. */
#define JOURNAL_TAIL (1024 * 1024)

/* A folder that changed so short a while ago may change again unseen. */
#define FOLDER_SETTLED_MS 2000

/* After an error, or without a free worker, it is tried again so much later. */
#define TROUBLE_MS 30000

/* An attempt that somebody cancelled counts as so many failures: not again at once. */
#define CANCELLED_FAILURES 7

/* Incremental backups exist from this version on. */
#define INCREMENTAL_VERSION 170000

/* What is known of one source. */
typedef struct SourceMemory
{
	uint32 generation;
	uint64 system_identifier;
	TimestampTz since; /* when the schedule was set: failures before it do not count */
	bool running;      /* a backup was, when we looked last */

	/* its backups */
	TimestampTz folder_read; /* 0: not yet, or it is to be read again */
	struct timespec folder_changed;
	TimestampTz last_full;
	TimestampTz last_incremental;
	TimestampTz interrupted; /* an attempt that left its folder and nothing else; 0: none */
	bool chain;              /* there is something that an incremental backup builds on */

	/* its attempts */
	uint64 journal_offset; /* 0: not read yet */
	TimestampTz last_failure;
	int failures;
	bool quiet; /* the last one only came too early */
	char last_error[WA_PLAN_ERROR_LEN];
	char started[WA_BACKUP_LABEL_LEN]; /* by us, and no outcome seen yet; empty: none */

	TimestampTz not_before; /* trouble of our own */
	WaPlanWait trouble;     /* which; else WA_PLAN_STARTING */
} SourceMemory;

struct WaScheduler
{
	int max_sources;
	SourceMemory source[FLEXIBLE_ARRAY_MEMBER];
};

WaScheduler *
wa_make_scheduler(int max_sources)
{
	WaScheduler *s = MemoryContextAllocZero(TopMemoryContext,
											offsetof(WaScheduler, source) + max_sources * sizeof(SourceMemory));

	s->max_sources = max_sources;
	return s;
}

/* WaLocalSecond, in the time zone of the server's configuration. */
static int
local_second(int64 time, void *arg)
{
	pg_time_t t = timestamptz_to_time_t(time);
	struct pg_tm *tm = pg_localtime(&t, session_timezone);

	/* no such time: no zone either */
	if (tm == NULL)
		return (int) (t % WA_DAY_SECONDS);
	return Min((tm->tm_hour * 60 + tm->tm_min) * 60 + tm->tm_sec, WA_DAY_SECONDS - 1);
}

/* ---- what there is ---- */

/* An attempt failed at 'time'.  What was before the schedule is shown, no more. */
static void
note_failure(SourceMemory *m, TimestampTz time, const char *cause, const char *error, bool quiet)
{
	/* to be asked again later is no failure */
	if (!quiet && time >= m->since)
		m->failures++;
	if (m->failures > 0 && strcmp(cause, "cancelled") == 0)
		m->failures = Max(m->failures, CANCELLED_FAILURES);
	m->last_failure = time;
	m->quiet = quiet;
	strlcpy(m->last_error, error, sizeof(m->last_error));
}

/*
 * How the worker of the backup called 'label' left it in shared memory: whether
 * it only came too early, and in '*error' a copy of why it failed, if that is
 * known.
 */
static bool
read_outcome(const char *source, const char *label, char **error)
{
	WaBackupRequest *request = palloc(sizeof(WaBackupRequest));
	WaBackupStat *stat = palloc(sizeof(WaBackupStat));

	for (int i = 0; i < WA_BACKUP_ENTRIES; i++)
	{
		(void) wa_read_backup(i, request, stat);
		if (strcmp(request->source, source) != 0 || strcmp(request->label, label) != 0 ||
			stat->phase != WA_BACKUP_FAILED)
			continue;
		*error = pstrdup(stat->error);
		return stat->retryable;
	}
	return false;
}

/* Read what the journal tells of attempts since we looked last. */
static void
read_attempts(SourceMemory *m, const char *source)
{
	WaJournalEntry *entry;
	char path[MAXPGPATH];
	struct stat st;
	FILE *file;
	uint64 next;

	wa_source_file_path(path, source, "journal");
	if (stat(path, &st) != 0)
	{
		if (errno != ENOENT)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read file \"%s\": %m", path)));
		return;
	}
	/* a shorter one is another one */
	if ((uint64) st.st_size < m->journal_offset)
		m->journal_offset = 0;
	if ((uint64) st.st_size == m->journal_offset)
		return;
	if (m->journal_offset == 0 && st.st_size > JOURNAL_TAIL)
		m->journal_offset = (uint64) st.st_size - JOURNAL_TAIL;

	file = AllocateFile(path, "r");
	if (file == NULL)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read file \"%s\": %m", path)));
	entry = palloc(sizeof(WaJournalEntry));
	for (;;)
	{
		bool valid;

		next = wa_journal_read(file, m->journal_offset, entry, &valid);
		if (next == 0)
			break;
		m->journal_offset = next;
		if (!valid || (entry->system_identifier != 0 && entry->system_identifier != m->system_identifier))
			continue;
		if (strcmp(entry->kind, "backup_finished") == 0)
		{
			m->failures = 0;
			m->quiet = false;
		}
		else if (strcmp(entry->kind, "backup_failed") != 0)
			continue;
		else if (strcmp(entry->cause, "host_stopped") != 0)
			/* what the host's own end interrupted is begun again at once */
			note_failure(m, entry->time, entry->cause, entry->message,
						 strcmp(entry->cause, "quiet_standby") == 0);
		if (strcmp(entry->label, m->started) == 0)
			m->started[0] = '\0';
	}
	FreeFile(file);
}

/*
 * Read the folder of the cluster's backups, if it has changed.  'running': a
 * backup is, so that a folder without its name yet is none that was left.
 */
static void
read_backups(SourceMemory *m, const char *source, bool running, TimestampTz now)
{
	char path[MAXPGPATH];
	struct stat st;
	List *labels;
	ListCell *lc;

	wa_backups_path(path, source, m->system_identifier);
	if (stat(path, &st) != 0)
	{
		if (errno != ENOENT)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read directory \"%s\": %m", path)));
		memset(&st, 0, sizeof(st));
	}
	if (m->folder_read != 0 && running == m->running &&
		m->folder_changed.tv_sec == st.st_mtim.tv_sec &&
		m->folder_changed.tv_nsec == st.st_mtim.tv_nsec)
		return;
	m->folder_changed = st.st_mtim;
	m->last_full = m->last_incremental = m->interrupted = 0;
	m->chain = false;

	labels = wa_list_backups(source, m->system_identifier, "");
	foreach (lc, labels)
	{
		const char *label = lfirst(lc);
		WaBackupInfo info;
		char *problem;
		TimestampTz *last;
		TimestampTz started;

		wa_backup_path(path, source, m->system_identifier, label, "");
		if (!wa_read_backup_info(path, &info, &problem))
			continue;
		if (strcmp(label, m->started) == 0)
			m->started[0] = '\0';
		/* by a clock that was ahead: a little does not matter, more can't be told from nonsense */
		started = info.started_at;
		if (started > now)
		{
			if (started > now + USECS_PER_HOUR)
				continue;
			started = now;
		}
		last = info.incremental ? &m->last_incremental : &m->last_full;
		*last = Max(*last, started);
		m->chain |= info.server_version >= INCREMENTAL_VERSION;
	}

	m->running = running;
	labels = running ? NIL : wa_list_backups(source, m->system_identifier, WA_BACKUP_RUNNING_SUFFIX);
	foreach (lc, labels)
	{
		struct stat left;

		wa_backup_path(path, source, m->system_identifier, lfirst(lc), WA_BACKUP_RUNNING_SUFFIX);
		if (stat(path, &left) == 0)
			m->interrupted = Max(m->interrupted, time_t_to_timestamptz((pg_time_t) left.st_mtime));
	}
	/* look again while the file system's clock may hide a second change */
	if (time_t_to_timestamptz((pg_time_t) st.st_mtime) <= TimestampTzPlusMilliseconds(now, -FOLDER_SETTLED_MS))
		m->folder_read = now;
	else
		m->folder_read = 0;
}

/* Ours has left, and neither its folder nor the journal says how it ended. */
static void
note_lost_outcome(SourceMemory *m, const char *source, TimestampTz now)
{
	char *error = "the backup's worker has left without a result";
	bool quiet = read_outcome(source, m->started, &error);

	note_failure(m, now, "", error, quiet);
	m->started[0] = '\0';
}

/* ---- what is due ---- */

/* Something that is not the server's fault; logged once. */
static void
note_trouble(SourceMemory *m, const WaSourceSettings *settings, WaBackupPlan *plan, TimestampTz now,
			 WaPlanWait trouble, const char *problem, const char *hint)
{
	if (m->trouble != trouble || strcmp(m->last_error, problem) != 0)
		ereport(WARNING,
				(errmsg("scheduled backups of source \"%s\" wait: %s", settings->name, problem),
				 hint ? errhint("%s", hint) : 0));
	plan->wait = m->trouble = trouble;
	strlcpy(m->last_error, problem, sizeof(m->last_error));
	m->not_before = TimestampTzPlusMilliseconds(now, TROUBLE_MS);
}

/* Start a backup; 'plan' says why, if that can't be done. */
static void
start_backup(SourceMemory *m, const WaSourceSettings *settings, WaBackupPlan *plan, TimestampTz now)
{
	WaBackupRequest *request = palloc0(sizeof(WaBackupRequest));
	pg_time_t seconds = timestamptz_to_time_t(now);
	char *problem;
	char *hint;

	strlcpy(request->source, settings->name, sizeof(request->source));
	pg_strftime(request->label, sizeof(request->label),
				plan->incremental ? "%Y%m%dT%H%M%SI" : "%Y%m%dT%H%M%SF", pg_gmtime(&seconds));
	request->incremental = plan->incremental;
	/* nobody waits for it: let the server take its time */
	request->fast_checkpoint = false;
	strlcpy(request->compression, settings->backup_compression, sizeof(request->compression));
	strlcpy(request->manifest_checksums, "SHA256", sizeof(request->manifest_checksums));
	request->max_rate = settings->backup_max_rate;
	request->scheduled = true;
	if (wa_start_backup(request, false, &problem, &hint) >= 0)
	{
		strlcpy(m->started, request->label, sizeof(m->started));
		m->trouble = WA_PLAN_STARTING;
		ereport(LOG,
				(errmsg("scheduled %s backup \"%s\" of source \"%s\" started",
						plan->incremental ? "incremental" : "full", request->label, settings->name)));
		return;
	}
	if (wa_find_backup(settings->name) >= 0)
	{
		/* somebody was faster */
		plan->wait = WA_PLAN_RUNNING;
		return;
	}
	note_trouble(m, settings, plan, now, WA_PLAN_NO_WORKER, problem, hint);
}

/* May a backup begin at all? */
static bool
source_is_ready(int index, const WaSourceSettings *settings, WaBackupPlan *plan)
{
	WaReceiverStat *stat = palloc(sizeof(WaReceiverStat));

	if (settings->desired != WA_DESIRED_ACTIVE)
	{
		plan->wait = WA_PLAN_PAUSED;
		return false;
	}
	wa_read_stat(index, stat);
	if (settings->system_identifier == 0 || RecoveryInProgress() ||
		(stat->state != WA_STATE_STREAMING && stat->state != WA_STATE_CATCHUP))
	{
		plan->wait = WA_PLAN_RECEIVER;
		return false;
	}
	return true;
}

/*
 * The next backup is due, and a scheduled one before it is whole and waits for
 * its WAL to be checked still, for which perhaps nobody is there: it need not
 * be watched any longer.
 */
static void
relieve(int entry, const char *source)
{
	WaBackupRequest *request = palloc(sizeof(WaBackupRequest));
	WaBackupStat *stat = palloc(sizeof(WaBackupStat));

	(void) wa_read_backup(entry, request, stat);
	if (request->scheduled && strcmp(request->source, source) == 0 && stat->phase == WA_BACKUP_WAITING)
		wa_cancel_backup_entry(entry);
}

static void
decide(SourceMemory *m, int index, const WaSourceSettings *settings, TimestampTz now,
	   WaBackupPlan *plan)
{
	/* first: what a worker wrote before it left is then seen below */
	int entry = wa_find_backup(settings->name);
	bool running = entry >= 0;
	WaBackupPast past;
	WaBackupDue due;

	if (settings->system_identifier != 0)
	{
		read_attempts(m, settings->name);
		read_backups(m, settings->name, running, now);
		if (m->started[0] != '\0' && !running)
			note_lost_outcome(m, settings->name, now);
	}

	memset(&past, 0, sizeof(past));
	past.last_full = m->last_full;
	past.last_any = Max(m->last_full, m->last_incremental);
	past.last_failure = Min(m->last_failure, now);
	past.failures = m->quiet ? 1 : m->failures;
	past.quiet = m->quiet;
	past.chain = m->chain;
	if (m->interrupted != 0)
	{
		past.failures = m->failures + 1;
		past.last_failure = Max(past.last_failure, Min(m->interrupted, now));
		past.quiet = false;
	}
	wa_backup_due(&settings->schedule, &past, settings->name, now, local_second, NULL, &due);
	plan->incremental = due.incremental;
	plan->due = due.due;
	plan->attempt = due.attempt;
	plan->last_full = m->last_full;
	plan->last_incremental = m->last_incremental;
	plan->last_failure = past.last_failure;
	plan->failures = m->failures + (m->interrupted != 0 ? 1 : 0);
	switch (due.wait)
	{
		case WA_BACKUP_WAIT_NONE:
			plan->wait = WA_PLAN_STARTING;
			break;
		case WA_BACKUP_WAIT_TIME:
			plan->wait = WA_PLAN_TIME;
			break;
		case WA_BACKUP_WAIT_WINDOW:
			plan->wait = WA_PLAN_WINDOW;
			break;
		case WA_BACKUP_WAIT_RETRY:
			plan->wait = WA_PLAN_RETRY;
			break;
	}
	if (running)
	{
		if (due.wait == WA_BACKUP_WAIT_NONE && source_is_ready(index, settings, plan))
			relieve(entry, settings->name);
		plan->wait = WA_PLAN_RUNNING;
	}
	else if (due.due <= now && source_is_ready(index, settings, plan) && due.wait == WA_BACKUP_WAIT_NONE)
		start_backup(m, settings, plan, now);
	/* when these end is not known */
	if (plan->wait == WA_PLAN_RUNNING || plan->wait == WA_PLAN_PAUSED || plan->wait == WA_PLAN_RECEIVER)
		plan->attempt = 0;
}

/* The same, with errors caught: the launcher has more to do. */
static void
decide_safely(SourceMemory *m, int index, const WaSourceSettings *settings, TimestampTz now,
			  WaBackupPlan *plan)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		decide(m, index, settings, now, plan);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		/* there is no transaction whose end would close what was open */
		AtEOXact_Files(false);
		note_trouble(m, settings, plan, now, WA_PLAN_UNREADABLE, error->message, error->hint);
		m->folder_read = 0;
	}
	PG_END_TRY();
}

static void
show(int index, const WaBackupPlan *plan)
{
	WaSourceSlot *slot = &wa_shared->slot[index];

	if (memcmp(&slot->plan, plan, sizeof(*plan)) == 0)
		return;
	wa_begin_change(&slot->plan_count);
	slot->plan = *plan;
	wa_end_change(&slot->plan_count);
}

void
wa_schedule_backups(WaScheduler *scheduler, int index, const WaSourceSettings *settings,
					TimestampTz now)
{
	SourceMemory *m = &scheduler->source[index];
	const WaSlotControl *control = &wa_shared->slot[index].control;
	WaBackupPlan *plan = palloc0(sizeof(WaBackupPlan));

	if (m->generation != control->generation || m->system_identifier != settings->system_identifier ||
		m->since != settings->schedule.since)
	{
		memset(m, 0, sizeof(*m));
		m->since = settings->schedule.since;
		m->generation = control->generation;
		m->system_identifier = settings->system_identifier;
	}
	plan->generation = control->generation;
	if (settings->schedule.full_interval == 0)
	{
		show(index, plan);
		return;
	}
	plan->scheduled = true;
	plan->since = settings->schedule.since;
	if (now < m->not_before)
	{
		*plan = wa_shared->slot[index].plan;
		plan->wait = m->trouble;
		plan->attempt = m->not_before;
	}
	else
		decide_safely(m, index, settings, now, plan);
	strlcpy(plan->last_error, m->last_error, sizeof(plan->last_error));
	show(index, plan);
	pfree(plan);
}
