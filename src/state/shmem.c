/*-------------------------------------------------------------------------
 *
 * shmem.c
 *	  Shared memory of the module, made by the postmaster.  See shmem.h for
 *	  who writes what.
 *
 * After a crash of any server process the postmaster makes it anew, empty;
 * everything in it can be found again on disk.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#include "../compat.h"
#include "../settings.h"
#include "shmem.h"

/*
 * How often a reader tries to copy one state before it takes what there is: a
 * writer stopped in the middle of a change must not hold up anybody.
 */
#define MAX_READ_TRIES 1000

WaShared *wa_shared = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/* This session has changed the catalog in the present transaction. */
static bool catalog_changed = false;
static bool callback_registered = false;

static Size
shmem_size(void)
{
	return add_size(offsetof(WaShared, slot),
					mul_size(sizeof(WaSourceSlot), wa_max_sources));
}

static void
request_shmem(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(shmem_size());
}

static void
startup_shmem(void)
{
	bool found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	wa_shared = ShmemInitStruct("walarchive", shmem_size(), &found);
	if (!found)
	{
		memset(wa_shared, 0, shmem_size());
		wa_shared->max_sources = wa_max_sources;
		pg_atomic_init_u32(&wa_shared->host.count, 0);
		pg_atomic_init_u32(&wa_shared->host.launcher_pid, 0);
		pg_atomic_init_u32(&wa_shared->host.launcher_procno, 0);
		pg_atomic_init_u64(&wa_shared->host.launcher_look, 0);
		/* nothing is mirrored yet: the first indexer starts with it */
		pg_atomic_init_u64(&wa_shared->host.catalog_changes, 1);
		pg_atomic_init_u64(&wa_shared->host.catalog_mirrored, 0);
		pg_atomic_init_u32(&wa_shared->host.catalog_state, WA_CATALOG_UNKNOWN);
		pg_atomic_init_u32(&wa_shared->host.indexers, 0);
		pg_atomic_init_u32(&wa_shared->host.mirror_pid, 0);
		wa_progress_init(wa_shared->progress);
		wa_backup_slots_init(wa_shared->backup);
		pg_atomic_init_u32(&wa_shared->host.observer_pid, 0);
		pg_atomic_init_u32(&wa_shared->host.observer_procno, 0);
		for (int i = 0; i < wa_max_sources; i++)
		{
			WaSourceSlot *slot = &wa_shared->slot[i];

			pg_atomic_init_u32(&slot->control_count, 0);
			pg_atomic_init_u32(&slot->receiver_pid, 0);
			pg_atomic_init_u32(&slot->stat_count, 0);
			pg_atomic_init_u64(&slot->finished_count, 0);
			pg_atomic_init_u32(&slot->indexer_pid, 0);
			pg_atomic_init_u64(&slot->indexed_finished, 0);
			pg_atomic_init_u64(&slot->indexed_journal, 0);
			pg_atomic_init_u32(&slot->index_wanted, 0);
			pg_atomic_init_u32(&slot->index_count, 0);
			pg_atomic_init_u32(&slot->observer_count, 0);
			pg_atomic_init_u64(&slot->names_written, 0);
			pg_atomic_init_u64(&slot->names_indexed, 0);
			pg_atomic_init_u32(&slot->plan_count, 0);
			pg_atomic_init_u64(&slot->backups_written, 0);
			pg_atomic_init_u64(&slot->backups_indexed, 0);
			pg_atomic_init_u64(&slot->backups_judged, 0);
			pg_atomic_init_u64(&slot->backups_mirrored, PG_UINT64_MAX); /* look once */
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

void
wa_shmem_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

void
wa_require_preload(void)
{
	if (wa_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("walarchive is not loaded at server start"),
				 errhint("Add \"walarchive\" to shared_preload_libraries and restart the server.")));
}

void
wa_begin_change(pg_atomic_uint32 *count)
{
	pg_atomic_write_u32(count, pg_atomic_read_u32(count) + 1);
	pg_write_barrier();
}

void
wa_end_change(pg_atomic_uint32 *count)
{
	pg_write_barrier();
	pg_atomic_write_u32(count, pg_atomic_read_u32(count) + 1);
}

void
wa_read_consistent(pg_atomic_uint32 *count, void *to, const void *from, Size size)
{
	for (int tries = 0; tries < MAX_READ_TRIES; tries++)
	{
		uint32 before = pg_atomic_read_u32(count);

		pg_read_barrier();
		memcpy(to, from, size);
		pg_read_barrier();
		if ((before & 1) == 0 && pg_atomic_read_u32(count) == before)
			return;
		if (tries > 10)
			pg_usleep(100);
	}
}

void
wa_read_control(int slot, WaSlotControl *control)
{
	wa_read_consistent(&wa_shared->slot[slot].control_count, control,
					   &wa_shared->slot[slot].control, sizeof(WaSlotControl));
	control->name[sizeof(control->name) - 1] = '\0';
	control->error[sizeof(control->error) - 1] = '\0';
}

void
wa_read_stat(int slot, WaReceiverStat *stat)
{
	wa_read_consistent(&wa_shared->slot[slot].stat_count, stat,
					   &wa_shared->slot[slot].stat, sizeof(WaReceiverStat));
	stat->last_error[sizeof(stat->last_error) - 1] = '\0';
	stat->sender_host[sizeof(stat->sender_host) - 1] = '\0';
	stat->sender_addr[sizeof(stat->sender_addr) - 1] = '\0';
}

void
wa_read_index(int slot, WaIndexStat *index)
{
	wa_read_consistent(&wa_shared->slot[slot].index_count, index,
					   &wa_shared->slot[slot].index, sizeof(WaIndexStat));
}

uint32
wa_read_progress(int entry, WaProgress *progress)
{
	WaProgressEntry *shared = &wa_shared->progress[entry];
	uint32 pid = pg_atomic_read_u32(&shared->pid);

	wa_read_consistent(&shared->count, progress, &shared->progress, sizeof(WaProgress));
	progress->source[sizeof(progress->source) - 1] = '\0';
	progress->phase[sizeof(progress->phase) - 1] = '\0';
	progress->current_file[sizeof(progress->current_file) - 1] = '\0';
	return pid;
}

bool
wa_decode_is_due(const WaSlotControl *control, const WaReceiverStat *stat,
				 const WaIndexStat *index)
{
	if (stat->system_identifier == 0 || stat->received_tli == 0 || stat->flushed_lsn == 0)
		return false;
	return index->generation != control->generation ||
		   index->system_identifier != stat->system_identifier ||
		   index->tli != stat->received_tli ||
		   (stat->flushed_lsn > index->decoded_lsn && stat->flushed_lsn >= index->need_lsn);
}

void
wa_read_observer(int slot, WaObserverStat *stat)
{
	wa_read_consistent(&wa_shared->slot[slot].observer_count, stat,
					   &wa_shared->slot[slot].observer, sizeof(WaObserverStat));
	stat->heartbeat_error[sizeof(stat->heartbeat_error) - 1] = '\0';
	stat->names_error[sizeof(stat->names_error) - 1] = '\0';
}

void
wa_read_plan(int slot, WaBackupPlan *plan)
{
	wa_read_consistent(&wa_shared->slot[slot].plan_count, plan,
					   &wa_shared->slot[slot].plan, sizeof(WaBackupPlan));
	plan->last_error[sizeof(plan->last_error) - 1] = '\0';
}

void
wa_read_host(WaHostState *state, char *error, TimestampTz *start)
{
	WaHost *copy = palloc(sizeof(WaHost));

	wa_read_consistent(&wa_shared->host.count, copy, &wa_shared->host,
					   sizeof(WaHost));
	*state = copy->state;
	*start = copy->launcher_start;
	strlcpy(error, copy->error, WA_ERROR_LEN);
	pfree(copy);
}

int
wa_find_slot(const char *name)
{
	WaSlotControl control;

	for (int i = 0; i < wa_shared->max_sources; i++)
	{
		wa_read_control(i, &control);
		if (control.in_use && strcmp(control.name, name) == 0)
			return i;
	}
	return -1;
}

/* Microseconds of a clock that all processes share, and that goes forward alone. */
static uint64
steady_time(void)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	return INSTR_TIME_GET_MICROSEC(now);
}

void
wa_note_launcher_look(void)
{
	pg_atomic_write_u64(&wa_shared->host.launcher_look, steady_time());
}

int64
wa_since_launcher_look(void)
{
	/* read first: it may look again meanwhile */
	uint64 then = pg_atomic_read_u64(&wa_shared->host.launcher_look);

	return (int64) (steady_time() - then);
}

void
wa_wake_launcher(void)
{
	if (pg_atomic_read_u32(&wa_shared->host.launcher_pid) != 0)
		SetLatch(&GetPGProcByNumber(pg_atomic_read_u32(&wa_shared->host.launcher_procno))->procLatch);
}

void
wa_wake_observer(void)
{
	if (pg_atomic_read_u32(&wa_shared->host.observer_pid) != 0)
		SetLatch(&GetPGProcByNumber(pg_atomic_read_u32(&wa_shared->host.observer_procno))->procLatch);
}

static void
xact_callback(XactEvent event, void *arg)
{
	if (!catalog_changed)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PREPARE:
			catalog_changed = false;
			pg_atomic_fetch_add_u64(&wa_shared->host.catalog_changes, 1);
			wa_wake_launcher();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
			catalog_changed = false;
			break;
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			break;
	}
}

void
wa_catalog_changed_at_commit(void)
{
	wa_require_preload();
	if (!callback_registered)
	{
		RegisterXactCallback(xact_callback, NULL);
		callback_registered = true;
	}
	catalog_changed = true;
}

const char *
wa_receiver_state_name(WaReceiverState state)
{
	switch (state)
	{
		case WA_STATE_STARTING:
			return "starting";
		case WA_STATE_CONNECTING:
			return "connecting";
		case WA_STATE_CATCHUP:
			return "catchup";
		case WA_STATE_STREAMING:
			return "streaming";
		case WA_STATE_WAITING:
			return "waiting";
		case WA_STATE_PAUSED:
			return "paused";
		case WA_STATE_STOPPED:
			return "stopped";
	}
	return "unknown";
}

static const char *const desired_state_name[] = {
	[WA_DESIRED_ACTIVE] = "active",
	[WA_DESIRED_PAUSED] = "paused",
	[WA_DESIRED_DROPPING] = "dropping",
};

const char *
wa_desired_state_name(WaDesiredState desired)
{
	return desired_state_name[desired];
}

bool
wa_parse_desired_state(const char *name, WaDesiredState *desired)
{
	for (int i = 0; i < lengthof(desired_state_name); i++)
	{
		if (strcmp(name, desired_state_name[i]) == 0)
		{
			*desired = (WaDesiredState) i;
			return true;
		}
	}
	return false;
}
