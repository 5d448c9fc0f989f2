/*-------------------------------------------------------------------------
 *
 * indexer.c
 *	  The indexer: a background worker that keeps the catalog.
 *
 * Started by the launcher when the catalog has changed or a source has news,
 * at most walarchive.max_indexers at a time.  It works until there has been
 * nothing to do for two seconds and then leaves, because a process that is
 * connected to a database blocks DROP DATABASE.  It never restarts by itself.
 *
 * Several share the work by claims in shared memory: host.mirror_pid for the
 * mirror step, slot.indexer_pid for a source.  A claim is given back when the
 * process exits, and one whose process is gone is free.
 *
 * Streaming never waits for it: a lock, a full tablespace or a broken catalog
 * ends it with an error, and the launcher tries again later.  A crash leaves
 * catalog rows missing, which the next pass makes from files and journal.  An
 * error that belongs to one source is logged, and the others go on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "../compat.h"
#include "../settings.h"
#include "../state/archive_dir.h"
#include "../state/shmem.h"
#include "../state/source_file.h"
#include "catalog.h"
#include "indexer.h"
#include "wal_hash.h"

/* Leave after this long without work, look for work this often. */
#define IDLE_MS 2000
#define POLL_MS 200

/* A source with much to decode gives way to the next one after this long. */
#define TURN_MS 500

/*
 * While a receiver catches up, which takes all that the machine has, indexing
 * rests so many times as long as it worked, but not longer than that.
 */
#define CATCHUP_REST 19
#define CATCHUP_REST_MS 5000

/* Checksums are computed so many bytes at a time. */
#define HASH_BYTES (256 * 1024 * 1024)

/* Clusters of a source whose files get checksums. */
#define MAX_CLUSTERS 64

/* With more to decode, what can be recovered is derived anew this often. */
#define WINDOWS_MS 10000

/* Files and folders that could not be read, written or removed wait so long at first, and at most. */
#define FIRST_FILES_RETRY_MS 2000
#define FILES_RETRY_MS 60000

/* Deaths of the decoder after which checksums wait for news. */
#define MAX_HASH_DEATHS 3

/* The segment that was open when a source was looked at last. */
typedef struct SlotMemory
{
	uint32 generation;
	TimeLineID open_tli;
	uint64 open_segno;
	bool full;              /* the pass under way is one over all files */
	bool decoded;           /* all that there was when files were last compared is decoded */
	bool failed;            /* not again in this process's life */
	bool hash_due;          /* there may be finished files without checksums */
	bool expire_due;        /* there may be something that expire() has decided upon */
	int hash_deaths;        /* of the decoder, one after the other */
	uint64 hash_segno;      /* segment that decoding had come to when they were looked for */
	TimestampTz windows_at; /* when windows of backups were last looked at */
	bool backups_full;      /* all folders of backups are to be looked at */
	uint64 backups_seen;    /* backups_written when the journal was last read */
	TimestampTz backups_not_before;
	TimestampTz expire_not_before;
	int backups_failures; /* one after the other */
	int expire_failures;
} SlotMemory;

static bool counted = false;
static bool succeeded = false;
static SlotMemory *memory = NULL;
static MemoryContext work_context = NULL;
static WaDecoder *decoder = NULL;
static WaProgress progress = {0};

/* Store the state of the catalog; true if it was another one before. */
static bool
set_catalog_state(WaCatalogState state)
{
	return pg_atomic_exchange_u32(&wa_shared->host.catalog_state, state) != (uint32) state;
}

/* Take a claim; one whose process is gone is free. */
static bool
claim(pg_atomic_uint32 *pid)
{
	uint32 holder = 0;

	if (pg_atomic_compare_exchange_u32(pid, &holder, (uint32) MyProcPid))
		return true;
	if (holder == (uint32) MyProcPid)
		return true;
	if (BackendPidGetProc((int) holder) != NULL)
		return false;
	return pg_atomic_compare_exchange_u32(pid, &holder, (uint32) MyProcPid);
}

static void
release(pg_atomic_uint32 *pid)
{
	uint32 holder = (uint32) MyProcPid;

	(void) pg_atomic_compare_exchange_u32(pid, &holder, 0);
}

/*
 * Exit callback.  May run at any point of the start, so it goes by what has
 * been done.
 */
static void
indexer_exit(int code, Datum arg)
{
	if (wa_shared == NULL)
		return;
	release(&wa_shared->host.mirror_pid);
	for (int i = 0; i < wa_shared->max_sources; i++)
	{
		pg_atomic_uint32 *pid = &wa_shared->slot[i].indexer_pid;

		if (pg_atomic_read_u32(pid) == (uint32) MyProcPid)
		{
			/* unfinished: have it looked at as a whole */
			pg_atomic_write_u32(&wa_shared->slot[i].index_wanted, 1);
			release(pid);
		}
	}
	if (code != 0 && !succeeded && !ProcDiePending)
		(void) set_catalog_state(WA_CATALOG_FAILED);
	if (counted)
	{
		pg_atomic_fetch_sub_u32(&wa_shared->host.indexers, 1);
		counted = false;
	}
}

/* Says in the log what the error is about. */
static void
source_error_context(void *arg)
{
	errcontext("while indexing source \"%s\"", (const char *) arg);
}

/*
 * Is there a catalog of our version?  If not, say so once and leave; a change
 * of the catalog, which CREATE EXTENSION is, starts an indexer again.
 */
static void
check_extension(void)
{
	uint64 seen = pg_atomic_read_u64(&wa_shared->host.catalog_changes);
	char *version;
	WaCatalogState state = wa_catalog_check(&version);

	if (state == WA_CATALOG_OK)
		return;
	if (set_catalog_state(state))
	{
		if (state == WA_CATALOG_NO_EXTENSION)
			ereport(LOG,
					(errmsg("extension walarchive is not in database \"%s\": the catalog is not kept",
							wa_database),
					 errhint("Run CREATE EXTENSION walarchive there, or set walarchive.database to the database that has it.")));
		else
			ereport(LOG,
					(errmsg("extension walarchive is version %s in database \"%s\" and the loaded library is %s: the catalog is not kept",
							version, wa_database, WALARCHIVE_VERSION),
					 errhint("Run ALTER EXTENSION walarchive UPDATE, or restart the server to load the installed library.")));
	}
	pg_atomic_write_u64(&wa_shared->host.catalog_mirrored, seen);
	succeeded = true;
	proc_exit(0);
}

/* The mirror step, if it is due and nobody else is at it. */
static bool
mirror_if_due(void)
{
	WaHost *host = &wa_shared->host;
	uint64 seen = pg_atomic_read_u64(&host->catalog_changes);
	char problem[WA_ERROR_LEN];

	if (seen == pg_atomic_read_u64(&host->catalog_mirrored) ||
		wa_directory_problem(problem, sizeof(problem)) != NULL ||
		!claim(&host->mirror_pid))
		return false;
	wa_mirror_sources();
	MemoryContextReset(work_context);
	pg_atomic_write_u64(&host->catalog_mirrored, seen);
	release(&host->mirror_pid);
	wa_wake_launcher();
	return true;
}

/* What a slot's source has that the catalog has not. */
static bool
slot_has_news(int i, const WaSlotControl *control, const WaReceiverStat *stat)
{
	WaSourceSlot *slot = &wa_shared->slot[i];

	if (memory[i].generation != control->generation)
	{
		memset(&memory[i], 0, sizeof(SlotMemory));
		memory[i].generation = control->generation;
	}
	if (memory[i].failed)
		return false;
	if (pg_atomic_read_u32(&slot->index_wanted) != 0 ||
		pg_atomic_read_u64(&slot->finished_count) != pg_atomic_read_u64(&slot->indexed_finished) ||
		stat->journal_bytes != pg_atomic_read_u64(&slot->indexed_journal) ||
		pg_atomic_read_u64(&slot->backups_written) != memory[i].backups_seen ||
		pg_atomic_read_u64(&slot->names_written) != pg_atomic_read_u64(&slot->names_indexed))
		return true;
	/*
	 * The open segment has no news of its own, but is to be seen.  It has its
	 * name once a byte in it is durable: the last flushed byte tells which.
	 */
	return stat->received_tli != 0 && stat->segment_size != 0 && stat->flushed_lsn != 0 &&
		   stat->state == WA_STATE_STREAMING &&
		   (memory[i].open_tli != stat->received_tli ||
			memory[i].open_segno != wa_segment_of(stat->flushed_lsn - 1, stat->segment_size));
}

/* Is there WAL of the live timeline that can be decoded, or may there be other? */
static bool
slot_has_wal(int i, const WaSlotControl *control, const WaReceiverStat *stat)
{
	WaIndexStat index;

	if (memory[i].failed)
		return false;
	if (!memory[i].decoded)
		return true;
	wa_read_index(i, &index);
	return wa_decode_is_due(control, stat, &index);
}

/*
 * Have backup workers written, or sessions changed, anything since the source's
 * backups were looked at?
 */
static bool
slot_has_backups(int i)
{
	WaSourceSlot *slot = &wa_shared->slot[i];

	if (memory[i].failed ||
		(memory[i].backups_not_before != 0 && GetCurrentTimestamp() < memory[i].backups_not_before))
		return false;
	return memory[i].backups_full ||
		   pg_atomic_read_u64(&slot->backups_written) != pg_atomic_read_u64(&slot->backups_indexed) ||
		   pg_atomic_read_u64(&slot->backups_mirrored) !=
			   pg_atomic_read_u64(&wa_shared->host.catalog_changes);
}

/* Enter a source's news; the positions are those from before it was read. */
static void
register_news(int i, const WaSlotControl *control, const WaReceiverStat *stat, uint64 finished)
{
	WaSourceSlot *slot = &wa_shared->slot[i];
	WaSlotControl *now = palloc(sizeof(WaSlotControl));

	/* a worker's lines in the journal are not counted by the receiver */
	memory[i].backups_seen = pg_atomic_read_u64(&slot->backups_written);
	memory[i].full = pg_atomic_exchange_u32(&slot->index_wanted, 0) != 0;
	memory[i].hash_due = true;
	memory[i].hash_deaths = 0;
	memory[i].expire_due = true;
	wa_register_slot(i, control, &memory[i].full, finished);
	if (memory[i].full)
	{
		memory[i].decoded = false;
		memory[i].backups_full = true;
	}
	wa_read_control(i, now);
	if (now->in_use && now->generation == control->generation)
	{
		pg_atomic_write_u64(&slot->indexed_finished, finished);
		pg_atomic_write_u64(&slot->indexed_journal, stat->journal_bytes);
	}
	if (stat->segment_size != 0 && stat->flushed_lsn != 0)
	{
		memory[i].open_tli = stat->received_tli;
		memory[i].open_segno = wa_segment_of(stat->flushed_lsn - 1, stat->segment_size);
	}
}

/* Does a receiver catch up? */
static bool
is_catching_up(void)
{
	bool found = false;
	WaSlotControl *control = palloc(sizeof(WaSlotControl));
	WaReceiverStat *stat = palloc(sizeof(WaReceiverStat));

	for (int i = 0; i < wa_shared->max_sources && !found; i++)
	{
		wa_read_control(i, control);
		if (!control->in_use)
			continue;
		wa_read_stat(i, stat);
		found = stat->state == WA_STATE_CATCHUP;
	}
	pfree(control);
	pfree(stat);
	return found;
}

/* Leave the machine to a receiver that catches up, after work since 'start'. */
static void
rest(TimestampTz start)
{
	long ms = TimestampDifferenceMilliseconds(start, GetCurrentTimestamp()) * CATCHUP_REST;
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), Min(ms, CATCHUP_REST_MS));

	while ((ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until)) > 0 && is_catching_up())
	{
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min(ms, POLL_MS), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

/* Decode for one turn; true if there is more. */
static bool
decode_turn(int i, const WaSlotControl *control, const WaReceiverStat *stat)
{
	TimestampTz start = GetCurrentTimestamp();
	bool more;

	do
	{
		CHECK_FOR_INTERRUPTS();
		if (!wa_decode_slot(i, control, stat, &decoder, &progress, &more))
			memory[i].decoded = true;
	} while (more && !is_catching_up() &&
			 !TimestampDifferenceExceeds(start, GetCurrentTimestamp(), TURN_MS));
	return more;
}

/*
 * An error about files that nobody waits for is no reason not to index WAL: log
 * it, in a PG_CATCH, and go on.  Returns when to try again, later each time
 * that it fails; '*failures' is counted up.
 */
static TimestampTz
put_off(MemoryContext caller, int *failures)
{
	/* not what ends this process */
	if (ProcDiePending || geterrcode() == ERRCODE_ADMIN_SHUTDOWN)
		PG_RE_THROW();
	HOLD_INTERRUPTS();
	EmitErrorReport();
	MemoryContextSwitchTo(caller);
	FlushErrorState();
	wa_decoder_close(decoder);
	decoder = NULL;
	AbortCurrentTransaction();
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(caller);
	RESUME_INTERRUPTS();
	*failures = Min(*failures + 1, 10);
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), Min(FIRST_FILES_RETRY_MS << (*failures - 1), FILES_RETRY_MS));
}

/* Folders of backups and their rows; what can't be read or removed is tried again later. */
static void
backup_turn(int i, const WaSlotControl *control)
{
	MemoryContext caller = CurrentMemoryContext;

	memory[i].backups_not_before = 0;
	PG_TRY();
	{
		wa_register_backups(i, control->name, memory[i].backups_full);
		wa_backup_chores(i, control->name, memory[i].backups_full);
		memory[i].backups_full = false;
		memory[i].backups_failures = 0;
	}
	PG_CATCH();
	{
		memory[i].backups_not_before = put_off(caller, &memory[i].backups_failures);
	}
	PG_END_TRY();
}

/* May there be something to do that expire() has decided upon? */
static bool
slot_has_expired(int i)
{
	return memory[i].expire_due && !memory[i].failed &&
		   (memory[i].expire_not_before == 0 || GetCurrentTimestamp() >= memory[i].expire_not_before);
}

/* Remove what has expired for one turn; true if there is more. */
static bool
expire_turn(int i, const WaSlotControl *control)
{
	MemoryContext caller = CurrentMemoryContext;
	TimestampTz start = GetCurrentTimestamp();
	volatile bool more = false;

	memory[i].expire_not_before = 0;
	PG_TRY();
	{
		do
		{
			CHECK_FOR_INTERRUPTS();
			more = wa_remove_expired(control->name);
		} while (more && !TimestampDifferenceExceeds(start, GetCurrentTimestamp(), TURN_MS));
		memory[i].expire_due = more;
		memory[i].expire_failures = 0;
	}
	PG_CATCH();
	{
		memory[i].expire_not_before = put_off(caller, &memory[i].expire_failures);
		more = false;
	}
	PG_END_TRY();
	return more;
}

/* Has decoding passed the end of a segment since checksums were looked for? */
static void
look_for_decoded(int i)
{
	WaIndexStat index;
	WaReceiverStat *stat = palloc(sizeof(WaReceiverStat));
	uint64 segno;

	wa_read_index(i, &index);
	wa_read_stat(i, stat);
	segno = stat->segment_size == 0 ? 0 : wa_segment_of(index.decoded_lsn, stat->segment_size);
	pfree(stat);
	if (segno != memory[i].hash_segno)
		memory[i].hash_due = true;
	memory[i].hash_segno = segno;
}

/*
 * Compute a piece of the checksums of a source's finished files; true if there
 * is more.  A decoder that dies at it three times is left alone until there are
 * news.
 */
static bool
hash_turn(int i, const WaSlotControl *control)
{
	uint64 sysids[MAX_CLUSTERS];
	int clusters = Min(wa_list_clusters(control->name, sysids, MAX_CLUSTERS), MAX_CLUSTERS);

	for (int n = 0; n < clusters; n++)
	{
		uint32 segment_size;

		if (!wa_read_cluster_file(control->name, sysids[n], &segment_size))
			continue;
		switch (wa_hash_finished(control->name, sysids[n], segment_size, &decoder,
								 WA_BATCH_ROWS, HASH_BYTES, TURN_MS))
		{
			case WA_HASH_NOTHING:
				break;
			case WA_HASH_SOME:
				memory[i].hash_deaths = 0;
				return true;
			case WA_HASH_DIED:
				ereport(LOG,
						(errmsg("walarchive-decode %s while it computed checksums",
								wa_decoder_death(decoder, NULL))));
				wa_decoder_close(decoder);
				decoder = NULL;
				if (++memory[i].hash_deaths < MAX_HASH_DEATHS)
					return true;
				break;
		}
	}
	memory[i].hash_due = false;
	return false;
}

/*
 * Index one source under its claim; an error is logged and ends it.  True if
 * there is more to do at once.
 */
static bool
index_slot(int i, const WaSlotControl *control, const WaReceiverStat *stat)
{
	WaSourceSlot *slot = &wa_shared->slot[i];
	MemoryContext caller = CurrentMemoryContext;
	uint64 finished = pg_atomic_read_u64(&slot->finished_count);
	ErrorContextCallback callback;
	volatile bool more = false;

	callback.callback = source_error_context;
	callback.arg = (void *) control->name;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	PG_TRY();
	{
		if (slot_has_news(i, control, stat))
		{
			register_news(i, control, stat, finished);
			more = true;
		}
		if (slot_has_backups(i))
		{
			backup_turn(i, control);
			memory[i].expire_due = true;
		}
		if (slot_has_expired(i))
			more |= expire_turn(i, control);
		if (slot_has_wal(i, control, stat))
			more |= decode_turn(i, control, stat);
		if (!more ||
			TimestampDifferenceExceeds(memory[i].windows_at, GetCurrentTimestamp(), WINDOWS_MS))
		{
			uint64 indexed = pg_atomic_read_u64(&wa_shared->slot[i].backups_indexed);

			wa_refresh_windows(control->name, &decoder);
			pg_atomic_write_u64(&wa_shared->slot[i].backups_judged, indexed);
			memory[i].windows_at = GetCurrentTimestamp();
		}
		/* checksums come last: they are of files whose records are checked */
		look_for_decoded(i);
		if (!more && memory[i].hash_due)
			more = hash_turn(i, control);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		EmitErrorReport();
		MemoryContextSwitchTo(caller);
		FlushErrorState();
		/* before the end of the transaction, which would close it as well */
		wa_decoder_close(decoder);
		decoder = NULL;
		AbortCurrentTransaction();
		pgstat_report_activity(STATE_IDLE, NULL);
		MemoryContextSwitchTo(caller);
		progress.kind = WA_PROGRESS_NONE;
		wa_progress_end();
		memory[i].failed = true;
		if (memory[i].full)
			pg_atomic_write_u32(&slot->index_wanted, 1);
		(void) set_catalog_state(WA_CATALOG_FAILED);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	error_context_stack = callback.previous;
	return more;
}

/*
 * Go through the sources once; true if there was work.  '*more' is set to true
 * if there is more to do at once.
 */
static bool
index_sources(bool *more)
{
	int max = wa_shared->max_sources;
	bool worked = false;

	for (int n = 0; n < max; n++)
	{
		/* indexers begin at different places */
		int i = (n + MyProcPid) % max;
		WaSlotControl *control = palloc(sizeof(WaSlotControl));
		WaReceiverStat *stat = palloc(sizeof(WaReceiverStat));
		TimestampTz start = GetCurrentTimestamp();

		CHECK_FOR_INTERRUPTS();
		wa_read_control(i, control);
		if (control->in_use && wa_source_name_is_valid(control->name))
		{
			wa_read_stat(i, stat);
			if ((slot_has_news(i, control, stat) || slot_has_wal(i, control, stat) ||
				 slot_has_backups(i) ||
				 slot_has_expired(i) || (memory[i].hash_due && !memory[i].failed)) &&
				claim(&wa_shared->slot[i].indexer_pid))
			{
				*more |= index_slot(i, control, stat);
				release(&wa_shared->slot[i].indexer_pid);
				worked = true;
				if (is_catching_up())
					rest(start);
			}
		}
		MemoryContextReset(work_context);
	}
	return worked;
}

static bool
anything_failed(void)
{
	for (int i = 0; i < wa_shared->max_sources; i++)
	{
		if (memory[i].failed)
			return true;
	}
	return false;
}

/* Is something to be tried again that nobody else knows of? */
static bool
anything_put_off(void)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < wa_shared->max_sources; i++)
	{
		if (memory[i].backups_not_before > now || memory[i].expire_not_before > now)
			return true;
	}
	return false;
}

/*
 * Entry point of the worker.  'main_arg' is not used.
 */
void
wa_indexer_main(Datum main_arg)
{
	TimestampTz last_work;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	if (wa_shared == NULL || IsBinaryUpgrade || RecoveryInProgress())
		proc_exit(0);
	before_shmem_exit(indexer_exit, (Datum) 0);
	pg_atomic_fetch_add_u32(&wa_shared->host.indexers, 1);
	counted = true;

	BackgroundWorkerInitializeConnection(wa_database, NULL, 0);
	wa_catalog_session();
	pgstat_report_appname("walarchive indexer");
	memory = MemoryContextAllocZero(TopMemoryContext,
									wa_shared->max_sources * sizeof(SlotMemory));
	work_context = AllocSetContextCreate(TopMemoryContext, "walarchive indexer",
										 ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(work_context);

	check_extension();
	last_work = GetCurrentTimestamp();
	for (;;)
	{
		bool worked;
		bool more;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		/* there may be fewer of us now */
		if (pg_atomic_read_u32(&wa_shared->host.indexers) > (uint32) wa_max_indexers)
			break;
		worked = mirror_if_due();
		more = worked;
		worked |= index_sources(&more);
		if (!anything_failed())
			(void) set_catalog_state(WA_CATALOG_OK);
		if (worked)
		{
			last_work = GetCurrentTimestamp();
			/* it may have been dropped or updated under us */
			check_extension();
			MemoryContextReset(work_context);
			/* a live source always has a little more: that can wait for the poll */
			if (more)
				continue;
		}
		else if (TimestampDifferenceExceeds(last_work, GetCurrentTimestamp(), IDLE_MS) && !anything_put_off())
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 POLL_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	succeeded = !anything_failed();
	proc_exit(succeeded ? 0 : 1);
}
