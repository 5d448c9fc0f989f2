/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  The launcher: keeps the receivers running that should run, and starts
 *	  indexers, the observer and scheduled backups when there is work for them.
 *
 * Life: one static worker, started with the postmaster and restarted 5 s after
 * a failure.  It is attached to no database and holds no state that a restart
 * would lose: on every wake it compares the sources' files with the slots in
 * shared memory and with the processes that are there.
 *
 * It holds the lock on <walarchive.directory>/host.lock, so that of two hosts
 * on one directory the second starts nothing and says why.  The receivers hold
 * locks of their own, which still stand while a launcher is being restarted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "../compat.h"
#include "../settings.h"
#include "../state/archive_dir.h"
#include "../state/source_file.h"
#include "launcher.h"
#include "receiver.h"
#include "scheduler.h"

/* Nothing woke us: look anyway after this time. */
#define NAP_MS 1000

/* A source that has so many segments waiting is worth another indexer. */
#define WAITING_SEGMENTS 8

/* A receiver that was registered must have taken its slot by then. */
#define START_TIMEOUT_MS 10000

#define FIRST_BACKOFF_MS 200
#define MAX_BACKOFF_MS 2000

/* An indexer that fails is tried again after 2 s, 4 s … up to this. */
#define MAX_INDEXER_BACKOFF_MS 60000

/* Without a free worker the observer is tried again this often. */
#define OBSERVER_BACKOFF_MS 30000

/* What the launcher remembers of a slot between two wakes; may be lost. */
typedef struct SlotMemory
{
	BackgroundWorkerHandle *handle;
	TimestampTz registered; /* 0: nothing registered */
	TimestampTz not_before; /* back-off */
	int failures;
	bool stopping;
} SlotMemory;

typedef struct Launcher
{
	MemoryContext context; /* of one wake */
	SlotMemory *slot;
	int lock_fd;
	bool cleaned; /* leftovers of deleted sources are gone */
	uint32 last_generation;
	WaHostState reported;
	BackgroundWorkerHandle *indexer;
	TimestampTz indexer_registered;
	TimestampTz indexer_not_before;
	int indexer_failures;
	bool no_worker_logged;
	BackgroundWorkerHandle *observer;
	TimestampTz observer_registered; /* 0: not registered, or it runs */
	TimestampTz observer_not_before;
	WaScheduler *scheduler;
	bool no_worker; /* a worker that comes first found no room */
} Launcher;

void
wa_register_launcher(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	/* not after recovery: a host in crash recovery confirms commits already */
	worker.bgw_start_time = BgWorkerStart_PostmasterStart;
	worker.bgw_restart_time = 5;
	strlcpy(worker.bgw_library_name, "walarchive", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "wa_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "walarchive launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "walarchive launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

static void
set_host_state(Launcher *l, WaHostState state, const char *error)
{
	WaHost *host = &wa_shared->host;

	wa_begin_change(&host->count);
	host->state = state;
	strlcpy(host->error, error, WA_ERROR_LEN);
	wa_end_change(&host->count);

	if (state == l->reported)
		return;
	l->reported = state;
	switch (state)
	{
		case WA_HOST_STARTING:
			break;
		case WA_HOST_RUNNING:
			ereport(LOG,
					(errmsg("walarchive launcher started, archive directory \"%s\"", wa_directory)));
			break;
		case WA_HOST_STANDBY:
			ereport(LOG,
					(errmsg("walarchive receives nothing while this server is a standby"),
					 errdetail("It begins by itself when the server is promoted.")));
			break;
		case WA_HOST_NO_DIRECTORY:
			ereport(WARNING,
					(errmsg("walarchive cannot run: %s", error),
					 errhint("Set \"walarchive.directory\" to a directory outside the data directory that belongs to the server's operating system user.")));
			break;
		case WA_HOST_DIRECTORY_IN_USE:
			ereport(WARNING,
					(errmsg("walarchive cannot run: %s", error),
					 errhint("Give each archive host a \"walarchive.directory\" of its own; streaming begins by itself when the other server is stopped.")));
			break;
	}
}

/*
 * True if this server replays another's WAL.  Before recovery has begun only
 * the signal files tell.
 */
static bool
is_standby(void)
{
	struct stat st;

	if (!RecoveryInProgress())
		return false;
	if (GetRecoveryState() == RECOVERY_STATE_ARCHIVE)
		return true;
	return stat("standby.signal", &st) == 0 || stat("recovery.signal", &st) == 0;
}

/* Is this host to run, and may it?  Publishes the answer. */
static bool
check_host(Launcher *l)
{
	char problem[WA_ERROR_LEN];
	char path[MAXPGPATH];

	if (is_standby())
	{
		set_host_state(l, WA_HOST_STANDBY, "this server is a standby");
		return false;
	}
	if (wa_directory_problem(problem, sizeof(problem)) != NULL)
	{
		set_host_state(l, WA_HOST_NO_DIRECTORY, problem);
		return false;
	}
	if (l->lock_fd < 0)
	{
		snprintf(path, sizeof(path), "%s/host.lock", wa_directory);
		l->lock_fd = wa_lock_file(path);
		if (l->lock_fd < 0)
		{
			snprintf(problem, sizeof(problem),
					 "another server uses the archive directory \"%s\"", wa_directory);
			set_host_state(l, WA_HOST_DIRECTORY_IN_USE, problem);
			return false;
		}
	}
	set_host_state(l, WA_HOST_RUNNING, "");
	return true;
}

/* Remove what a crash left of sources whose files were to be deleted. */
static void
clean_up(Launcher *l)
{
	DIR *dir;
	struct dirent *de;
	List *doomed = NIL;
	ListCell *lc;

	if (l->cleaned)
		return;
	l->cleaned = true;
	dir = AllocateDir(wa_directory);
	while ((de = ReadDir(dir, wa_directory)) != NULL)
	{
		if (strncmp(de->d_name, ".deleted.", 9) == 0)
			doomed = lappend(doomed, psprintf("%s/%s", wa_directory, de->d_name));
	}
	FreeDir(dir);
	foreach (lc, doomed)
		(void) rmtree((char *) lfirst(lc), true);
}

/* ---- slots ---- */

static void
change_control(int index, const WaSlotControl *control)
{
	WaSourceSlot *slot = &wa_shared->slot[index];

	wa_begin_change(&slot->control_count);
	slot->control = *control;
	wa_end_change(&slot->control_count);
}

static uint32
receiver_pid(int index)
{
	return pg_atomic_read_u32(&wa_shared->slot[index].receiver_pid);
}

/* Show why no receiver runs. */
static void
set_slot_problem(int index, WaReceiverState state, WaCause cause, const char *error)
{
	WaSourceSlot *slot = &wa_shared->slot[index];

	if (slot->control.cause != cause || strcmp(slot->control.error, error) != 0)
	{
		WaSlotControl control = slot->control;

		control.cause = cause;
		strlcpy(control.error, error, WA_ERROR_LEN);
		change_control(index, &control);
		if (cause != WA_CAUSE_NONE)
			ereport(WARNING,
					(errmsg("receiver of source \"%s\" cannot run: %s", control.name, error),
					 errhint("%s", wa_cause_hint(cause))));
	}
	if (receiver_pid(index) == 0 && slot->stat.state != state)
	{
		wa_begin_change(&slot->stat_count);
		slot->stat.state = state;
		slot->stat.state_since = GetCurrentTimestamp();
		slot->stat.cause = cause;
		wa_end_change(&slot->stat_count);
	}
}

/* Take a slot for a source that has none; -1 if all are taken. */
static int
take_slot(Launcher *l, const char *name)
{
	for (int i = 0; i < wa_shared->max_sources; i++)
	{
		WaSourceSlot *slot = &wa_shared->slot[i];
		WaSlotControl control;

		if (slot->control.in_use || receiver_pid(i) != 0)
			continue;
		wa_begin_change(&slot->stat_count);
		memset(&slot->stat, 0, sizeof(slot->stat));
		slot->stat.state = WA_STATE_STARTING;
		slot->stat.state_since = GetCurrentTimestamp();
		wa_end_change(&slot->stat_count);
		pg_atomic_write_u64(&slot->finished_count, 0);
		pg_atomic_write_u64(&slot->indexed_finished, 0);
		pg_atomic_write_u64(&slot->indexed_journal, 0);
		pg_atomic_write_u64(&slot->names_indexed, pg_atomic_read_u64(&slot->names_written));
		/* what happened before this start is on disk only */
		pg_atomic_write_u32(&slot->index_wanted, 1);
		memset(&control, 0, sizeof(control));
		control.in_use = true;
		strlcpy(control.name, name, sizeof(control.name));
		control.generation = ++l->last_generation;
		change_control(i, &control);
		memset(&l->slot[i], 0, sizeof(SlotMemory));
		return i;
	}
	return -1;
}

static void
free_slot(Launcher *l, int index)
{
	WaSlotControl control;

	memset(&control, 0, sizeof(control));
	change_control(index, &control);
	memset(&l->slot[index], 0, sizeof(SlotMemory));
	/* dropped: have its row removed from the catalog as well */
	pg_atomic_fetch_add_u64(&wa_shared->host.catalog_changes, 1);
}

static void
stop_receiver(Launcher *l, int index)
{
	uint32 pid = receiver_pid(index);

	if (pid != 0)
		(void) kill((pid_t) pid, SIGTERM);
	else if (l->slot[index].registered != 0 && l->slot[index].handle != NULL)
		TerminateBackgroundWorker(l->slot[index].handle);
}

/* Start the receiver of a slot unless one runs, is starting, or failed just now. */
static void
start_receiver(Launcher *l, int index, TimestampTz now)
{
	SlotMemory *memory = &l->slot[index];
	WaSlotControl *control = &wa_shared->slot[index].control;
	BackgroundWorker worker;
	WaReceiverStart start;
	MemoryContext old;
	bool registered;

	if (receiver_pid(index) != 0)
	{
		memory->registered = 0;
		/* it has run for a while: what was before is forgotten */
		if (memory->failures > 0 &&
			now > TimestampTzPlusMilliseconds(memory->not_before, MAX_BACKOFF_MS))
			memory->failures = 0;
		return;
	}
	if (memory->registered != 0)
	{
		pid_t pid;

		if (now < TimestampTzPlusMilliseconds(memory->registered, START_TIMEOUT_MS) &&
			memory->handle != NULL &&
			GetBackgroundWorkerPid(memory->handle, &pid) != BGWH_STOPPED)
			return;
		memory->registered = 0;
	}
	if (now < memory->not_before)
		return;
	memory->not_before =
		TimestampTzPlusMilliseconds(now, Min(FIRST_BACKOFF_MS << Min(memory->failures, 10),
											 MAX_BACKOFF_MS));
	memory->failures++;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_PostmasterStart;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "walarchive", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "wa_receiver_main", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "walarchive receiver %s", control->name);
	strlcpy(worker.bgw_type, "walarchive receiver", BGW_MAXLEN);
	worker.bgw_main_arg = Int32GetDatum(index);
	worker.bgw_notify_pid = MyProcPid;
	memset(&start, 0, sizeof(start));
	start.generation = control->generation;
	strlcpy(start.name, control->name, sizeof(start.name));
	memcpy(worker.bgw_extra, &start, sizeof(start));

	if (memory->handle)
		pfree(memory->handle);
	memory->handle = NULL;
	/* not afterwards: the receiver may have come further by then */
	if (control->cause == WA_CAUSE_NONE)
		set_slot_problem(index, WA_STATE_STARTING, WA_CAUSE_NONE, "");
	old = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&worker, &memory->handle);
	MemoryContextSwitchTo(old);
	if (!registered)
	{
		l->no_worker = true;
		set_slot_problem(index, WA_STATE_WAITING, WA_CAUSE_NO_WORKER,
						 "no background worker is free");
		return;
	}
	memory->registered = now;
	if (control->cause != WA_CAUSE_NONE)
		set_slot_problem(index, WA_STATE_STARTING, WA_CAUSE_NONE, "");
}

/* Bring one source's slot and process to what its file asks for. */
static void
reconcile_source(Launcher *l, const char *name, TimestampTz now)
{
	WaSourceSettings *settings = palloc(sizeof(WaSourceSettings));
	char *problem = NULL;
	int index = wa_find_slot(name);
	WaSlotControl *control;
	bool found = wa_read_source_file(name, settings, &problem);

	if (found && settings->dropped)
	{
		/* nothing runs for it; the slot goes when its receiver has left */
		if (index >= 0 && receiver_pid(index) == 0)
			free_slot(l, index);
		return;
	}
	if (index < 0)
	{
		index = take_slot(l, name);
		if (index < 0)
		{
			if (!l->no_worker_logged)
				ereport(WARNING,
						(errmsg("source \"%s\" is not archived: there are more sources than walarchive.max_sources (%d)",
								name, wa_shared->max_sources),
						 errhint("Raise \"walarchive.max_sources\" and restart the server.")));
			l->no_worker_logged = true;
			return;
		}
	}
	control = &wa_shared->slot[index].control;
	if (!found)
	{
		/* a running receiver goes on with the settings that it has */
		if (receiver_pid(index) == 0)
			set_slot_problem(index, WA_STATE_STOPPED, WA_CAUSE_SETTINGS,
							 problem ? problem : "source.json is missing");
		return;
	}

	if (control->revision != settings->revision || control->desired != settings->desired)
	{
		WaSlotControl changed = *control;

		/* a running receiver has the old settings: another takes its place */
		if (control->revision != 0)
			stop_receiver(l, index);
		changed.revision = settings->revision;
		changed.desired = settings->desired;
		change_control(index, &changed);
		l->slot[index].not_before = 0;
		l->slot[index].failures = 0;
	}
	if (control->heartbeat_ms != settings->heartbeat_ms ||
		control->relation_names_ms != settings->relation_names_ms)
	{
		WaSlotControl changed = *control;

		changed.heartbeat_ms = settings->heartbeat_ms;
		changed.relation_names_ms = settings->relation_names_ms;
		change_control(index, &changed);
		wa_wake_observer();
	}
	wa_schedule_backups(l->scheduler, index, settings, now);
	if (settings->desired == WA_DESIRED_PAUSED)
	{
		/* level-triggered: also one that was still starting */
		if (receiver_pid(index) != 0 || l->slot[index].registered != 0)
		{
			stop_receiver(l, index);
			if (receiver_pid(index) == 0)
				l->slot[index].registered = 0;
		}
		else
			set_slot_problem(index, WA_STATE_PAUSED, WA_CAUSE_NONE, "");
		return;
	}
	start_receiver(l, index, now);
}

/* Slots whose source's file is gone. */
static void
reconcile_gone(Launcher *l, List *names)
{
	for (int i = 0; i < wa_shared->max_sources; i++)
	{
		WaSlotControl *control = &wa_shared->slot[i].control;
		bool found = false;
		ListCell *lc;

		if (!control->in_use)
			continue;
		foreach (lc, names)
			found |= strcmp((char *) lfirst(lc), control->name) == 0;
		if (found)
			continue;
		if (receiver_pid(i) == 0)
			free_slot(l, i);
		else
			stop_receiver(l, i);
	}
}

/* ---- indexers ---- */

/*
 * Is there a source whose news the catalog does not have yet?  'running'
 * indexers look at all sources several times a second; another one is worth its
 * process only for sources that they leave waiting.
 */
static bool
indexer_wanted(uint32 running)
{
	WaHost *host = &wa_shared->host;

	if (pg_atomic_read_u64(&host->catalog_changes) !=
		pg_atomic_read_u64(&host->catalog_mirrored))
		return true;
	/* without the extension there is no catalog to write to */
	if (pg_atomic_read_u32(&host->catalog_state) == WA_CATALOG_NO_EXTENSION ||
		pg_atomic_read_u32(&host->catalog_state) == WA_CATALOG_VERSION)
		return false;
	for (int i = 0; i < wa_shared->max_sources; i++)
	{
		WaSourceSlot *slot = &wa_shared->slot[i];
		uint64 finished = pg_atomic_read_u64(&slot->finished_count);
		uint64 indexed = pg_atomic_read_u64(&slot->indexed_finished);
		WaSlotControl control;
		WaReceiverStat stat;
		WaIndexStat index;
		bool due;

		if (!slot->control.in_use)
			continue;
		if (running > 0 && pg_atomic_read_u32(&slot->indexer_pid) != 0)
			continue;
		if (pg_atomic_read_u32(&slot->index_wanted) != 0)
			return true;
		if (running == 0 &&
			pg_atomic_read_u64(&slot->backups_mirrored) != pg_atomic_read_u64(&host->catalog_changes))
			return true;
		wa_read_control(i, &control);
		wa_read_stat(i, &stat);
		wa_read_index(i, &index);
		due = wa_decode_is_due(&control, &stat, &index);
		if (running == 0 &&
			(due || finished != indexed ||
			 stat.journal_bytes != pg_atomic_read_u64(&slot->indexed_journal) ||
			 pg_atomic_read_u64(&slot->names_written) != pg_atomic_read_u64(&slot->names_indexed) ||
			 pg_atomic_read_u64(&slot->backups_written) != pg_atomic_read_u64(&slot->backups_indexed)))
			return true;
		if (finished > indexed + WAITING_SEGMENTS ||
			(due && stat.flushed_lsn > index.decoded_lsn + WAITING_SEGMENTS * (uint64) stat.segment_size))
			return true;
	}
	return false;
}

static void
start_indexers(Launcher *l, TimestampTz now)
{
	BackgroundWorker worker;
	MemoryContext old;
	bool registered;
	uint32 running = pg_atomic_read_u32(&wa_shared->host.indexers);
	uint32 state = pg_atomic_read_u32(&wa_shared->host.catalog_state);

	/* how did the last one do? */
	if (l->indexer != NULL)
	{
		pid_t pid;

		switch (GetBackgroundWorkerPid(l->indexer, &pid))
		{
			case BGWH_NOT_YET_STARTED:
				return;
			case BGWH_STARTED:
				/* one more is started only when the first had time to begin */
				if (now < TimestampTzPlusMilliseconds(l->indexer_registered, 1000))
					return;
				break;
			case BGWH_STOPPED:
			case BGWH_POSTMASTER_DIED:
				pfree(l->indexer);
				l->indexer = NULL;
				/*
				 * It failed, or died early: not again so soon.  Where there is no
				 * catalog to keep, it has said so and is started by a change alone.
				 */
				if (state == WA_CATALOG_FAILED || state == WA_CATALOG_UNKNOWN)
				{
					l->indexer_failures = Min(l->indexer_failures + 1, 10);
					l->indexer_not_before =
						TimestampTzPlusMilliseconds(now, Min(1000 << l->indexer_failures,
															 MAX_INDEXER_BACKOFF_MS));
				}
				break;
		}
	}
	if (state == WA_CATALOG_OK)
		l->indexer_failures = 0;
	if (RecoveryInProgress() || !indexer_wanted(running) ||
		running >= (uint32) wa_max_indexers || now < l->indexer_not_before)
		return;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "walarchive", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "wa_indexer_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "walarchive indexer", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "walarchive indexer", BGW_MAXLEN);
	worker.bgw_notify_pid = MyProcPid;
	if (l->indexer)
		pfree(l->indexer);
	l->indexer = NULL;
	old = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&worker, &l->indexer);
	MemoryContextSwitchTo(old);
	if (!registered)
	{
		l->no_worker = true;
		pg_atomic_write_u32(&wa_shared->host.catalog_state, WA_CATALOG_FAILED);
		if (!l->no_worker_logged)
			ereport(WARNING,
					(errmsg("walarchive cannot start an indexer: no background worker is free"),
					 errhint("Raise \"max_worker_processes\" and restart the server.")));
		l->no_worker_logged = true;
		l->indexer_not_before = TimestampTzPlusMilliseconds(now, MAX_BACKOFF_MS);
		return;
	}
	l->indexer_registered = now;
}

/* ---- the observer ---- */

/* Does a source want heartbeats, or names of relations? */
static bool
observer_wanted(void)
{
	for (int i = 0; i < wa_shared->max_sources; i++)
	{
		const WaSlotControl *control = &wa_shared->slot[i].control;

		if (control->in_use && control->desired == WA_DESIRED_ACTIVE &&
			(control->heartbeat_ms != 0 || control->relation_names_ms != 0))
			return true;
	}
	return false;
}

/*
 * Start the observer unless it runs, is starting, or is not wanted; it leaves by
 * itself.  It comes last: where a receiver or an indexer finds no worker, the
 * observer makes room.
 */
static void
start_observer(Launcher *l, TimestampTz now)
{
	uint32 pid = pg_atomic_read_u32(&wa_shared->host.observer_pid);
	BackgroundWorker worker;
	MemoryContext old;
	bool registered;

	if (l->no_worker)
	{
		l->no_worker = false;
		l->observer_not_before = TimestampTzPlusMilliseconds(now, OBSERVER_BACKOFF_MS);
		if (pid != 0)
			(void) kill((pid_t) pid, SIGTERM);
		return;
	}
	if (pid != 0)
	{
		l->observer_registered = 0;
		return;
	}
	if (l->observer_registered != 0)
	{
		pid_t started;

		if (now < TimestampTzPlusMilliseconds(l->observer_registered, START_TIMEOUT_MS) &&
			l->observer != NULL &&
			GetBackgroundWorkerPid(l->observer, &started) != BGWH_STOPPED)
			return;
		l->observer_registered = 0;
	}
	if (now < l->observer_not_before || !observer_wanted())
		return;
	l->observer_not_before = TimestampTzPlusMilliseconds(now, MAX_BACKOFF_MS);

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_PostmasterStart;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "walarchive", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "wa_observer_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "walarchive observer", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "walarchive observer", BGW_MAXLEN);
	worker.bgw_notify_pid = MyProcPid;
	if (l->observer)
		pfree(l->observer);
	l->observer = NULL;
	old = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&worker, &l->observer);
	MemoryContextSwitchTo(old);
	if (registered)
		l->observer_registered = now;
	else
		l->observer_not_before = TimestampTzPlusMilliseconds(now, OBSERVER_BACKOFF_MS);
}

/* ---- the process ---- */

static void
leave(int code, Datum arg)
{
	pg_atomic_write_u32(&wa_shared->host.launcher_pid, 0);
}

/* When is the next thing due that no wake-up announces? */
static long
next_wait(const Launcher *l, TimestampTz now)
{
	long ms = NAP_MS;
	uint32 running = pg_atomic_read_u32(&wa_shared->host.indexers);

	for (int i = 0; i < wa_shared->max_sources; i++)
	{
		if (wa_shared->slot[i].control.in_use && receiver_pid(i) == 0 &&
			l->slot[i].not_before > now)
			ms = Min(ms, TimestampDifferenceMilliseconds(now, l->slot[i].not_before));
	}
	if (running < (uint32) wa_max_indexers && indexer_wanted(running))
		ms = Min(ms, Max(200, TimestampDifferenceMilliseconds(now, l->indexer_not_before)));
	return Max(ms, 10);
}

void
wa_launcher_main(Datum main_arg)
{
	Launcher *l;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	l = MemoryContextAllocZero(TopMemoryContext, sizeof(Launcher));
	l->slot = MemoryContextAllocZero(TopMemoryContext,
									 wa_shared->max_sources * sizeof(SlotMemory));
	l->scheduler = wa_make_scheduler(wa_shared->max_sources);
	l->lock_fd = -1;
	l->context = AllocSetContextCreate(TopMemoryContext, "walarchive launcher",
									   ALLOCSET_DEFAULT_SIZES);
	/* generations go on where a launcher before us was */
	for (int i = 0; i < wa_shared->max_sources; i++)
		l->last_generation = Max(l->last_generation, wa_shared->slot[i].control.generation);
	wa_begin_change(&wa_shared->host.count);
	wa_shared->host.launcher_start = GetCurrentTimestamp();
	wa_end_change(&wa_shared->host.count);
	wa_note_launcher_look();
	pg_atomic_write_u32(&wa_shared->host.launcher_procno, MyProcNumber);
	pg_atomic_write_u32(&wa_shared->host.launcher_pid, MyProcPid);
	before_shmem_exit(leave, (Datum) 0);

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		long ms = 1000;

		CHECK_FOR_INTERRUPTS();
		ResetLatch(MyLatch);
		wa_note_launcher_look();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		MemoryContextSwitchTo(l->context);
		MemoryContextReset(l->context);
		if (check_host(l))
		{
			List *names;
			ListCell *lc;

			clean_up(l);
			names = wa_list_source_files();
			foreach (lc, names)
				reconcile_source(l, (char *) lfirst(lc), now);
			reconcile_gone(l, names);
			start_indexers(l, now);
			start_observer(l, now);
			ms = next_wait(l, now);
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 ms, PG_WAIT_EXTENSION);
	}
}
