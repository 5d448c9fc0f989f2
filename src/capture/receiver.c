/*-------------------------------------------------------------------------
 *
 * receiver.c
 *	  The receiver process of one source: connect, choose the start, stream,
 *	  follow timelines, report; and when something fails, say what, wait, and
 *	  begin again.
 *
 * Life: started by the launcher for a slot in shared memory, it lives until it
 * is told to stop (SIGTERM: pause, drop, changed settings, shutdown).  Errors
 * of the connection, of the server and of the disk do not end it: they are
 * reported and retried with a back-off.  It is attached to no database, runs no
 * SQL and takes no lock but a file lock on its source's folder, which keeps a
 * receiver of another archive host out.
 *
 * A crash leaves what segment_writer.h says.  Shared memory is lost with the
 * postmaster's restart; the next receiver finds everything in the directory.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include "common/pg_prng.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"
#include "utils/timestamp.h"

#include "../base/wal_name.h"
#include "../compat.h"
#include "../settings.h"
#include "../state/archive_dir.h"
#include "../state/fault_point.h"
#include "memory_limit.h"
#include "receiver.h"

/* Waits between two attempts: they double up to the limit. */
#define FIRST_WAIT_MS 100
#define CONNECTION_WAIT_MS 2000 /* a server that restarts is soon back */
#define PERMANENT_WAIT_MS 15000

/* A connection that was streaming for so long was of use even if it brought nothing. */
#define USEFUL_MS 10000

/* How often dropping a slot is tried. */
#define MAX_DROP_ATTEMPTS 3

#define MAX_UNWRITTEN_EVENTS 100

/* After more gaps in a row, with no byte of WAL between, the attempt ends with an error. */
#define MAX_GAPS 5

/* ---- reporting ---- */

void
wa_set_state(WaReceiver *r, WaReceiverState state)
{
	WA_STAT(
		r,
		if (stat->state != state) {
			stat->state = state;
			stat->state_since = GetCurrentTimestamp();
		} if (state == WA_STATE_STREAMING)
			stat->cause = WA_CAUSE_NONE;);

	if (state == WA_STATE_STREAMING)
	{
		/* there is a server to be asked */
		wa_wake_observer();
		r->streaming_since = GetCurrentTimestamp();
		if (r->reported != WA_CAUSE_NONE)
		{
			wa_receiver_event(r, "state", "info", 0, 0, 0, 0, WA_CAUSE_NONE,
							  "streaming again from %s:%d, after %s",
							  r->connection->server.host, r->connection->server.port,
							  wa_cause_name(r->reported));
			ereport(LOG,
					(errmsg("archive of source \"%s\" is streaming again", r->name)));
			r->reported = WA_CAUSE_NONE;
		}
	}
	set_ps_display(wa_receiver_state_name(state));
}

/* Write what could not be written before; true if nothing is left. */
static bool
write_events(WaReceiver *r)
{
	while (r->unwritten != NIL)
	{
		WaJournalEntry *entry = linitial(r->unwritten);
		uint64 size = wa_journal_append(r->name, entry);

		if (size == 0)
			return false;
		WA_STAT(r, stat->journal_bytes = size;);
		r->unwritten = list_delete_first(r->unwritten);
		pfree(entry);
	}
	return true;
}

void
wa_receiver_event(WaReceiver *r, const char *kind, const char *severity,
				  TimeLineID tli, TimeLineID parent, XLogRecPtr from,
				  XLogRecPtr to, WaCause cause, const char *fmt, ...)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	WaJournalEntry *entry = palloc0(sizeof(WaJournalEntry));
	va_list args;

	entry->time = GetCurrentTimestamp();
	strlcpy(entry->kind, kind, sizeof(entry->kind));
	strlcpy(entry->severity, severity, sizeof(entry->severity));
	va_start(args, fmt);
	vsnprintf(entry->message, sizeof(entry->message), fmt, args);
	va_end(args);
	entry->system_identifier = r->system_identifier;
	entry->tli = tli;
	entry->parent = parent;
	entry->from_lsn = from;
	entry->to_lsn = to;
	entry->has_range = from != to;
	if (cause != WA_CAUSE_NONE)
		strlcpy(entry->cause, wa_cause_name(cause), sizeof(entry->cause));

	/* a disk that stays full must not fill memory */
	if (list_length(r->unwritten) >= MAX_UNWRITTEN_EVENTS)
	{
		pfree(linitial(r->unwritten));
		r->unwritten = list_delete_first(r->unwritten);
	}
	r->unwritten = lappend(r->unwritten, entry);
	(void) write_events(r);
	MemoryContextSwitchTo(old);
	wa_wake_launcher();
}

/* Publish an error; log it and note it in the journal if it is a new one. */
static void
report_failure(WaReceiver *r, WaCause cause, const ErrorData *error)
{
	bool permanent = wa_cause_is_permanent(cause);
	WaReceiverState state = WA_STATE_WAITING;

	if (cause == WA_CAUSE_CONFLICT || cause == WA_CAUSE_FOREIGN_CLUSTER ||
		cause == WA_CAUSE_SEGMENT_SIZE || cause == WA_CAUSE_VERSION ||
		cause == WA_CAUSE_WAL_REMOVED || cause == WA_CAUSE_UNRELATED_TIMELINE ||
		cause == WA_CAUSE_SETTINGS)
		state = WA_STATE_STOPPED;
	/* in one change: whoever sees the cause sees the state as well */
	WA_STAT(
		r,
		stat->cause = cause;
		stat->connected_since = 0;
		strlcpy(stat->last_error, error->message, WA_ERROR_LEN);
		stat->last_error_time = GetCurrentTimestamp();
		if (stat->state != state) {
			stat->state = state;
			stat->state_since = stat->last_error_time;
		});
	wa_set_state(r, state);
	if (cause == r->reported)
		return;
	ereport(permanent ? WARNING : LOG,
			(errmsg("archive of source \"%s\" is not streaming: %s", r->name, error->message),
			 error->detail ? errdetail("%s", error->detail) : 0,
			 errhint("%s", error->hint ? error->hint : wa_cause_hint(cause))));
	wa_receiver_event(r, "state", permanent ? "critical" : "warning", 0, 0, 0, 0,
					  cause, "%s", error->message);
	r->reported = cause;
}

/* A finished segment: tell the indexer.  Called by the writer. */
static void
segment_finished(void *arg, TimeLineID tli, uint64 segno, bool again)
{
	WaReceiver *r = arg;
	uint64 n = pg_atomic_read_u64(&r->slot->finished_count);
	WaFinishedSegment *entry = &r->slot->finished[n % WA_FINISHED_RING];

	entry->system_identifier = r->system_identifier;
	entry->tli = tli;
	entry->segno = segno;
	pg_write_barrier();
	pg_atomic_write_u64(&r->slot->finished_count, n + 1);
	if (!again)
		WA_STAT(r, stat->segments_completed++;);
	wa_wake_launcher();
}

/* ---- room ---- */

void
wa_check_space(WaReceiver *r)
{
	struct statvfs vfs;
	uint64 free_bytes;

	if (wa_min_free_space <= 0 || statvfs(wa_directory, &vfs) != 0)
		return;
	free_bytes = (uint64) vfs.f_bavail * vfs.f_frsize;
	if (free_bytes < (uint64) wa_min_free_space * 1024 * 1024)
		wa_error(r, WA_CAUSE_DISK_FULL,
				 errcode(ERRCODE_DISK_FULL),
				 errmsg("file system of \"walarchive.directory\" has " UINT64_FORMAT " MB free, less than walarchive.min_free_space (%d MB)",
						free_bytes / (1024 * 1024), wa_min_free_space));
}

/* ---- one connection ---- */

/*
 * Make durable what was received.  Returns the cause if that fails, else
 * WA_CAUSE_NONE.
 */
static WaCause
sync_files(WaReceiver *r)
{
	volatile bool failed = false;

	PG_TRY();
	{
		r->cause = WA_CAUSE_IO;
		wa_writer_finish(&r->writer);
	}
	PG_CATCH();
	{
		FlushErrorState();
		failed = true;
	}
	PG_END_TRY();
	return failed ? r->cause : WA_CAUSE_NONE;
}

static bool
is_disk_error(WaCause cause)
{
	return cause == WA_CAUSE_IO || cause == WA_CAUSE_DISK_FULL ||
		   cause == WA_CAUSE_SYNC_FAILED;
}

/* Wait for what is under way; tell if what a sync failed for was set aside. */
static void
abandon_files(WaReceiver *r, bool sync_failed)
{
	if (wa_writer_abandon(&r->writer, sync_failed))
		wa_receiver_event(r, "suspect_file", "critical", r->writer.tli, 0,
						  r->writer.durable, r->writer.written, WA_CAUSE_SYNC_FAILED,
						  "WAL from %X/%X on could not be made durable; its file is set aside until the WAL was received again",
						  LSN_FORMAT_ARGS(r->writer.durable));
}

/*
 * Was the connection that ends of any use?  That it was streaming is not enough:
 * a server may get as far each time and break off before it has sent anything.
 */
static bool
was_of_use(WaReceiver *r)
{
	const WaSegmentWriter *w = &r->writer;
	bool lasted = r->streaming_since != 0 &&
				  TimestampDifferenceExceeds(r->streaming_since, GetCurrentTimestamp(), USEFUL_MS);
	bool more = w->tli > r->furthest_tli || (w->tli == r->furthest_tli && w->durable > r->furthest_lsn);

	r->streaming_since = 0;
	if (more)
	{
		r->furthest_tli = w->tli;
		r->furthest_lsn = w->durable;
	}
	return lasted || more;
}

/* Give everything of a connection back; 'cause' is why it ends. */
static void
end_connection(WaReceiver *r, WaCause cause)
{
	if (r->message)
		PQfreemem(r->message);
	r->message = NULL;
	if (r->writer_open)
	{
		/*
		 * A broken connection is no reason to leave bytes unsynced; a broken
		 * disk is one not to touch it again.
		 */
		if (!is_disk_error(cause))
			cause = sync_files(r);
		abandon_files(r, cause == WA_CAUSE_SYNC_FAILED);
		if (was_of_use(r))
			r->failures = 0;
		if (is_disk_error(cause))
			r->ends_known = false;
		else if (r->writer.tli != 0)
			wa_note_end(r, r->writer.tli, r->writer.written);
		wa_writer_close(&r->writer);
		r->writer_open = false;
	}
	if (r->wait_set)
		FreeWaitEventSet(r->wait_set);
	r->wait_set = NULL;
	wa_disconnect(r->connection);
	r->connection = NULL;
}

static void
read_settings(WaReceiver *r)
{
	char *problem;

	r->cause = WA_CAUSE_IO;
	if (!wa_read_source_file(r->name, &r->settings, &problem))
		wa_error(r, WA_CAUSE_SETTINGS,
				 errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("%s", problem ? problem : psprintf("source \"%s\" has no source.json", r->name)));
}

static void
connect_to_server(WaReceiver *r)
{
	const WaServer *server;

	/* between two attempts the state stays what the failure made it */
	if (r->reported == WA_CAUSE_NONE)
		wa_set_state(r, WA_STATE_CONNECTING);
	r->connection = wa_connect(r->settings.conninfo, r->settings.slot_name,
							   wa_receive_timeout, wa_receive_timeout,
							   &r->cause, wa_accept_server, r);
	server = &r->connection->server;
	WA_STAT(r,
			strlcpy(stat->sender_host, server->host, WA_HOST_LEN);
			strlcpy(stat->sender_addr, server->addr, WA_ADDR_LEN);
			stat->sender_port = server->port;
			stat->server_version = server->version;
			stat->server_in_recovery = server->in_recovery;
			stat->server_remote_apply = server->remote_apply;
			stat->connected_since = GetCurrentTimestamp();
			if (r->ever_connected)
				stat->reconnects++;);
	r->ever_connected = true;
}

/*
 * Connect and stream until the server is shut down; everything else that ends
 * it raises an error.
 */
static void
run_once(WaReceiver *r)
{
	WaStartPlan plan;
	XLogRecPtr slot_lsn;
	TimeLineID tli;
	XLogRecPtr lsn;
	int attempt = 0;
	int gaps = 0; /* since WAL was received */
	bool began = false;

	wa_check_space(r);
	read_settings(r);
	wa_load_archive(r);
	connect_to_server(r);
	wa_prepare_archive(r);
	WA_STAT(r,
			stat->system_identifier = r->system_identifier;
			stat->refused_system_identifier = 0;
			stat->segment_size = r->segment_size;);
	r->cause = WA_CAUSE_IO;
	wa_writer_open(&r->writer, r->wal_dir, r->segment_size, &r->cause,
				   segment_finished, r);
	r->writer_open = true;

	wa_fetch_histories(r);
	slot_lsn = wa_ensure_slot(r);
	wa_choose_start(r, slot_lsn, &plan);
	r->sent_written = r->sent_flushed = 0;
	r->report_from = plan.archived;
	tli = plan.start[0].tli;
	lsn = plan.start[0].lsn;

	for (;;)
	{
		TimeLineID next_tli = 0;
		XLogRecPtr next_lsn = 0;
		const WaTimelineEntry *next;
		WaStreamEnd end;

		r->cause = WA_CAUSE_OTHER;
		end = wa_stream(r, tli, lsn, &next_tli, &next_lsn);
		if (r->writer.written > lsn)
		{
			began = true;
			gaps = 0;
		}
		switch (end)
		{
			case WA_END_STOPPED:
				return;
			case WA_END_REMOVED:
				wa_writer_finish(&r->writer);
				if (r->writer.written > lsn)
					wa_note_end(r, tli, r->writer.written);
				if (began)
				{
					/* it went while we were reading: choose anew */
					began = false;
					wa_choose_start(r, slot_lsn, &plan);
					attempt = 0;
				}
				else if (++attempt >= plan.count)
				{
					/* each is an event: not one for each thing that it says */
					if (++gaps > MAX_GAPS)
						wa_error(r, WA_CAUSE_WAL_REMOVED,
								 errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
								 errmsg("server refuses WAL at every position that it names itself, last at %X/%X",
										LSN_FORMAT_ARGS(lsn)));
					wa_pass_gap(r, &plan);
					attempt = 0;
				}
				r->report_from = plan.archived;
				tli = plan.start[attempt].tli;
				lsn = plan.start[attempt].lsn;
				break;
			case WA_END_TIMELINE:
				wa_note_end(r, tli, r->writer.written);
				/* several switches may have come; the server knows them all */
				wa_identify(r->connection);
				wa_fetch_histories(r);
				next = wa_history_find(&r->history, next_tli);
				if (next == NULL || next->begin != next_lsn)
					wa_error(r, WA_CAUSE_PROTOCOL,
							 errcode(ERRCODE_PROTOCOL_VIOLATION),
							 errmsg("server switched to timeline %u at %X/%X, which its history of timeline %u does not name",
									next_tli, LSN_FORMAT_ARGS(next_lsn), r->connection->server.timeline));
				wa_receiver_event(r, "timeline", "info", next_tli, tli,
								  next_lsn, next_lsn + 1, WA_CAUSE_NONE,
								  "timeline %u follows timeline %u at %X/%X",
								  next_tli, tli, LSN_FORMAT_ARGS(next_lsn));
				tli = next_tli;
				lsn = wa_segment_floor(next_lsn, r->segment_size);
				r->report_from = Max(r->report_from, next_lsn);
				break;
		}
	}
}

/* ---- dropping ---- */

/*
 * Drop the slot, if asked, and the files, if asked.  What is left when the
 * server can't be reached is told in the log and the journal.
 */
static void
drop_source(WaReceiver *r)
{
	char path[MAXPGPATH];
	char doomed[MAXPGPATH];

	if (r->settings.drop_slot)
	{
		WaSlotInfo info;

		r->connection = wa_connect(r->settings.conninfo, r->settings.slot_name,
								   0, 10000, &r->cause, NULL, NULL);
		/* never another cluster's slot of the same name */
		if (r->system_identifier == 0 ||
			r->connection->server.system_identifier == r->system_identifier)
		{
			wa_read_slot(r->connection, r->settings.slot_name, &info);
			if (info.exists && info.physical)
				wa_drop_slot(r->connection, r->settings.slot_name);
		}
		wa_disconnect(r->connection);
		r->connection = NULL;
	}

	wa_source_path(path, r->name);
	if (r->settings.delete_files)
	{
		/* one rename makes it gone; the launcher removes leftovers */
		snprintf(doomed, sizeof(doomed), "%s/.deleted.%s.%d", wa_directory,
				 r->name, (int) getpid());
		if (WA_FAULT(DROP_RENAME, rename(path, doomed)) != 0)
			wa_error(r, WA_CAUSE_IO,
					 errcode_for_file_access(),
					 errmsg("could not rename directory \"%s\": %m", path));
		fsync_fname_ext(wa_directory, true, true, LOG);
		(void) rmtree(doomed, true);
	}
	else
	{
		r->settings.dropped = true;
		wa_receiver_event(r, "dropped", "info", 0, 0, 0, 0, WA_CAUSE_NONE,
						  "source dropped; its files are kept");
		wa_write_source_file(&r->settings);
	}
	wa_wake_launcher();
}

/* ---- the process ---- */

static void
leave_slot(int code, Datum arg)
{
	WaReceiver *r = (WaReceiver *) DatumGetPointer(arg);

	if (r->writer_open)
	{
		/* a flush may fail in the last moment: nobody else would know why its file is aside */
		abandon_files(r, false);
		wa_writer_close(&r->writer);
		r->writer_open = false;
	}
	if (r->connection)
		wa_disconnect(r->connection);
	r->connection = NULL;
	/* the lock goes first: a successor starts as soon as the pid is gone */
	if (r->lock_fd >= 0)
		close(r->lock_fd);
	r->lock_fd = -1;
	WA_STAT(r, stat->connected_since = 0;);
	pg_atomic_write_u32(&r->slot->receiver_pid, 0);
	wa_wake_launcher();
}

static void
sleep_between_attempts(WaReceiver *r, WaCause cause)
{
	int limit = wa_cause_is_permanent(cause) && cause != WA_CAUSE_DISK_FULL ? PERMANENT_WAIT_MS : CONNECTION_WAIT_MS;
	int ms = FIRST_WAIT_MS;
	TimestampTz until;

	for (int i = 0; i < r->failures && ms < limit; i++)
		ms *= 2;
	ms = Min(ms, limit);
	/* between a half and the whole, so that many receivers do not march in step */
	ms = ms / 2 + (int) (pg_prng_double(&pg_global_prng_state) * ms / 2);
	r->failures++;
	until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
	for (;;)
	{
		long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

		if (left <= 0)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 left, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}

static void
lock_source(WaReceiver *r)
{
	char path[MAXPGPATH];

	if (r->lock_fd >= 0)
		return;
	wa_source_file_path(path, r->name, "receiver.lock");
	r->cause = WA_CAUSE_IO;
	r->lock_fd = wa_lock_file(path);
	if (r->lock_fd < 0)
		wa_error(r, WA_CAUSE_DIRECTORY_IN_USE,
				 errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("another process holds \"%s\"", path));
}

void
wa_receiver_main(Datum main_arg)
{
	WaReceiverStart start;
	WaReceiver *r;
	WaSlotControl *control;
	uint32 none = 0;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	memcpy(&start, MyBgworkerEntry->bgw_extra, sizeof(start));
	r = MemoryContextAllocZero(TopMemoryContext, sizeof(WaReceiver));
	r->index = DatumGetInt32(main_arg);
	if (wa_shared == NULL || r->index < 0 || r->index >= wa_shared->max_sources)
		proc_exit(0);
	r->slot = &wa_shared->slot[r->index];
	r->lock_fd = -1;
	strlcpy(r->name, start.name, sizeof(r->name));

	/* a slot of another life is not ours to touch */
	control = palloc(sizeof(WaSlotControl));
	wa_read_control(r->index, control);
	if (!control->in_use || control->generation != start.generation ||
		strcmp(control->name, start.name) != 0 ||
		!pg_atomic_compare_exchange_u32(&r->slot->receiver_pid, &none, MyProcPid))
		proc_exit(0);
	pfree(control);
	before_shmem_exit(leave_slot, PointerGetDatum(r));

	(void) wa_limit_memory(WA_CONNECTION_MEMORY);
	r->context = AllocSetContextCreate(TopMemoryContext, "walarchive connection",
									   ALLOCSET_DEFAULT_SIZES);
	wa_set_state(r, WA_STATE_STARTING);

	for (;;)
	{
		WaCause cause = WA_CAUSE_NONE;
		bool dropped = false;

		MemoryContextSwitchTo(r->context);
		MemoryContextReset(r->context);
		CHECK_FOR_INTERRUPTS();
		(void) write_events(r);
		PG_TRY();
		{
			r->cause = WA_CAUSE_OTHER;
			lock_source(r);
			read_settings(r);
			if (r->settings.desired == WA_DESIRED_DROPPING)
			{
				/* what failed before says nothing of dropping */
				if (!r->dropping)
					r->failures = 0;
				r->dropping = true;
				if (!r->settings.dropped)
				{
					wa_load_archive(r);
					if (r->failures >= MAX_DROP_ATTEMPTS && r->settings.drop_slot)
					{
						r->settings.drop_slot = false;
						wa_receiver_event(r, "state", "warning", 0, 0, 0, 0, WA_CAUSE_SLOT,
										  "replication slot \"%s\" could not be dropped on the server; drop it there, or it holds WAL back for ever",
										  r->settings.slot_name);
						ereport(WARNING,
								(errmsg("replication slot \"%s\" of dropped source \"%s\" could not be dropped",
										r->settings.slot_name, r->name),
								 errhint("Drop it on the server with pg_drop_replication_slot, or it holds WAL back for ever.")));
					}
					drop_source(r);
				}
				dropped = true;
			}
			else
			{
				run_once(r);
				cause = WA_CAUSE_SERVER_STOPPED;
			}
		}
		PG_CATCH();
		{
			ErrorData *error;

			/* nothing may interrupt until files and connection are put away */
			HOLD_INTERRUPTS();
			MemoryContextSwitchTo(r->context);
			error = CopyErrorData();
			FlushErrorState();
			LWLockReleaseAll();
			/* whichever file it was: a history, a settings file, a folder */
			if (r->cause == WA_CAUSE_IO && error->sqlerrcode == ERRCODE_DISK_FULL)
				r->cause = WA_CAUSE_DISK_FULL;
			cause = r->cause;
			end_connection(r, cause);
			AtEOXact_Files(false);
			report_failure(r, cause, error);
			RESUME_INTERRUPTS();
		}
		PG_END_TRY();
		if (dropped)
			proc_exit(0);
		if (cause == WA_CAUSE_SERVER_STOPPED)
		{
			ErrorData stopped = {.message = "the server was shut down; all its WAL was received"};

			end_connection(r, cause);
			report_failure(r, cause, &stopped);
		}
		sleep_between_attempts(r, cause);
	}
}
