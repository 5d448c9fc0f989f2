/*-------------------------------------------------------------------------
 *
 * backup_slot.c
 *	  Base backups that are being taken.  See backup_slot.h.
 *
 * A holder or asker whose process is gone counts as none.  (A worker always
 * gives its entry back when it leaves; if it is killed the postmaster makes all
 * shared memory anew.)  That a source has one backup at a time is decided by
 * the worker's lock on <source>/backup.lock; here it is only said early.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/timestamp.h"

#include "../compat.h"
#include "backup_slot.h"
#include "shmem.h"

void
wa_backup_slots_init(WaBackupEntry *entries)
{
	for (int i = 0; i < WA_BACKUP_ENTRIES; i++)
	{
		pg_atomic_init_u32(&entries[i].holder, 0);
		pg_atomic_init_u32(&entries[i].asker, 0);
		pg_atomic_init_u32(&entries[i].generation, 0);
		pg_atomic_init_u32(&entries[i].worker_pid, 0);
		pg_atomic_init_u32(&entries[i].cancel, 0);
		pg_atomic_init_u32(&entries[i].count, 0);
	}
}

/* Workers without a database are in no list of the server's: ask the system. */
static bool
is_alive(uint32 pid)
{
	return pid != 0 && (kill((pid_t) pid, 0) == 0 || errno != ESRCH);
}

/* Take an entry that nobody uses, or -1.  Inlined, gcc would see longjmp clobber it. */
static pg_noinline int
take_entry(void)
{
	for (int i = 0; i < WA_BACKUP_ENTRIES; i++)
	{
		WaBackupEntry *entry = &wa_shared->backup[i];
		uint32 holder = pg_atomic_read_u32(&entry->holder);
		uint32 asker = pg_atomic_read_u32(&entry->asker);

		/* it reads an outcome, unless it is this process, which is past that */
		if (is_alive(holder) || (asker != (uint32) MyProcPid && is_alive(asker)))
			continue;
		if (pg_atomic_compare_exchange_u32(&entry->holder, &holder, (uint32) MyProcPid))
		{
			/* its last holder may have died in the middle of a change */
			if (pg_atomic_read_u32(&entry->count) & 1)
				wa_end_change(&entry->count);
			pg_atomic_write_u32(&entry->asker, 0);
			pg_atomic_write_u32(&entry->cancel, 0);
			pg_atomic_write_u32(&entry->worker_pid, 0);
			pg_atomic_fetch_add_u32(&entry->generation, 1);
			return i;
		}
	}
	return -1;
}

static void
give_back(int index)
{
	WaBackupEntry *entry = &wa_shared->backup[index];
	uint32 me = (uint32) MyProcPid;

	pg_atomic_write_u32(&entry->asker, 0);
	(void) pg_atomic_compare_exchange_u32(&entry->holder, &me, 0);
}

static int
find_other(const char *source, int except)
{
	for (int i = 0; i < WA_BACKUP_ENTRIES; i++)
	{
		WaBackupRequest request;

		if (i != except && is_alive(wa_read_backup(i, &request, NULL)) &&
			strcmp(request.source, source) == 0)
			return i;
	}
	return -1;
}

int
wa_find_backup(const char *source)
{
	return find_other(source, -1);
}

int
wa_start_backup(const WaBackupRequest *request, bool wait, char **problem, char **hint)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle = NULL;
	WaBackupStart start;
	WaBackupEntry *entry;
	MemoryContext old;
	TimestampTz now = GetCurrentTimestamp();
	volatile BgwHandleStatus status = BGWH_STOPPED;
	pid_t pid;
	int other = wa_find_backup(request->source);
	int index = -1;
	bool registered;

	*problem = *hint = NULL;
	if (other < 0)
	{
		index = take_entry();
		if (index < 0)
		{
			*problem = psprintf("%d backups are running, and there is room for no more", WA_BACKUP_ENTRIES);
			*hint = pstrdup("Try again when one of them is finished: see walarchive.stat_progress_backup.");
			return -1;
		}
		entry = &wa_shared->backup[index];
		wa_begin_change(&entry->count);
		entry->request = *request;
		memset(&entry->stat, 0, sizeof(entry->stat));
		entry->stat.started_at = entry->stat.phase_since = now;
		entry->stat.bytes_total = -1;
		entry->stat.tablespaces_total = -1;
		wa_end_change(&entry->count);
		pg_memory_barrier();
		/* two may have asked at the same time: the lower number goes on */
		other = find_other(request->source, index);
		if (other > index)
			other = -1;
		if (other >= 0)
			give_back(index);
	}
	if (other >= 0)
	{
		WaBackupRequest running;

		(void) wa_read_backup(other, &running, NULL);
		*problem = psprintf("a backup of source \"%s\" is being taken already: \"%s\"",
							request->source, running.label);
		*hint = pstrdup("Wait until it is finished, or cancel it with walarchive.cancel_backup.");
		return -1;
	}

	if (wait)
		pg_atomic_write_u32(&entry->asker, (uint32) MyProcPid);
	memset(&start, 0, sizeof(start));
	start.entry = index;
	start.generation = pg_atomic_read_u32(&entry->generation);
	start.holder = (uint32) MyProcPid;
	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_PostmasterStart;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "walarchive", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "wa_backup_main", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "walarchive backup %s", request->source);
	strlcpy(worker.bgw_type, "walarchive backup", BGW_MAXLEN);
	worker.bgw_notify_pid = MyProcPid;
	memcpy(worker.bgw_extra, &start, sizeof(start));
	StaticAssertStmt(sizeof(start) <= BGW_EXTRALEN, "no room for WaBackupStart");

	/* the launcher's handle must outlive its context of a turn while we wait */
	old = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&worker, &handle);
	MemoryContextSwitchTo(old);
	if (!registered)
	{
		give_back(index);
		*problem = pstrdup("no background worker is free for the backup");
		*hint = pstrdup("Raise \"max_worker_processes\" and restart the server, or try again later.");
		return -1;
	}
	PG_TRY();
	{
		status = WaitForBackgroundWorkerStartup(handle, &pid);
	}
	PG_CATCH();
	{
		/* one that starts all the same finds its entry given away */
		pg_atomic_write_u32(&entry->cancel, 1);
		TerminateBackgroundWorker(handle);
		give_back(index);
		pfree(handle);
		PG_RE_THROW();
	}
	PG_END_TRY();
	pfree(handle);
	/* one that has left already has given its entry back, or left its outcome */
	if (status != BGWH_STARTED && pg_atomic_read_u32(&entry->holder) == (uint32) MyProcPid)
	{
		give_back(index);
		*problem = pstrdup("the backup's worker could not be started");
		*hint = pstrdup("The server's log may say why.");
		return -1;
	}
	return index;
}

void
wa_backup_forget(int index)
{
	uint32 me = (uint32) MyProcPid;

	(void) pg_atomic_compare_exchange_u32(&wa_shared->backup[index].asker, &me, 0);
}

bool
wa_hold_backup(const WaBackupStart *start)
{
	WaBackupEntry *entry;
	uint32 holder = start->holder;

	if (start->entry < 0 || start->entry >= WA_BACKUP_ENTRIES)
		return false;
	entry = &wa_shared->backup[start->entry];
	if (pg_atomic_read_u32(&entry->generation) != start->generation ||
		!pg_atomic_compare_exchange_u32(&entry->holder, &holder, (uint32) MyProcPid))
		return false;
	pg_atomic_write_u32(&entry->worker_pid, (uint32) MyProcPid);
	return true;
}

void
wa_leave_backup(int index)
{
	WaBackupEntry *entry = &wa_shared->backup[index];
	uint32 asker = pg_atomic_read_u32(&entry->asker);
	PGPROC *proc;

	pg_atomic_write_u32(&entry->worker_pid, 0);
	pg_write_barrier();
	pg_atomic_write_u32(&entry->holder, 0);
	if (asker != 0 && (proc = BackendPidGetProc((int) asker)) != NULL)
		SetLatch(&proc->procLatch);
	wa_wake_launcher();
}

void
wa_cancel_backup_entry(int index)
{
	WaBackupEntry *entry = &wa_shared->backup[index];

	uint32 pid;

	pg_atomic_write_u32(&entry->cancel, 1);
	pg_memory_barrier();
	/* one that begins later looks at 'cancel' */
	pid = pg_atomic_read_u32(&entry->worker_pid);
	if (pid != 0)
		(void) kill((pid_t) pid, SIGINT);
}

uint32
wa_read_backup(int index, WaBackupRequest *request, WaBackupStat *stat)
{
	WaBackupEntry *entry = &wa_shared->backup[index];
	uint32 holder = pg_atomic_read_u32(&entry->holder);

	pg_read_barrier();
	if (request)
	{
		wa_read_consistent(&entry->count, request, &entry->request, sizeof(*request));
		request->source[sizeof(request->source) - 1] = '\0';
		request->label[sizeof(request->label) - 1] = '\0';
	}
	if (stat)
	{
		wa_read_consistent(&entry->count, stat, &entry->stat, sizeof(*stat));
		stat->parent[sizeof(stat->parent) - 1] = '\0';
		stat->error[sizeof(stat->error) - 1] = '\0';
		stat->error_hint[sizeof(stat->error_hint) - 1] = '\0';
	}
	return holder;
}

void
wa_show_backup(int index, const WaBackupStat *stat)
{
	WaBackupEntry *entry = &wa_shared->backup[index];

	wa_begin_change(&entry->count);
	entry->stat = *stat;
	wa_end_change(&entry->count);
}

const char *
wa_backup_phase_name(WaBackupPhase phase)
{
	switch (phase)
	{
		case WA_BACKUP_STARTING:
			return "initializing";
		case WA_BACKUP_CHECKPOINT:
			return "waiting for checkpoint to finish";
		case WA_BACKUP_ESTIMATING:
			return "estimating backup size";
		case WA_BACKUP_MANIFEST:
			return "sending the parent's manifest";
		case WA_BACKUP_STREAMING:
			return "streaming database files";
		case WA_BACKUP_SYNCING:
			return "checking and syncing files";
		case WA_BACKUP_WAITING:
			return "waiting for wal archiving to finish";
		case WA_BACKUP_DONE:
			return "finished";
		case WA_BACKUP_FAILED:
			return "failed";
	}
	return "unknown";
}
