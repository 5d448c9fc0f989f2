/*-------------------------------------------------------------------------
 *
 * backup_worker.c
 *	  The process that takes a base backup of one source.
 *
 * Life: started by a session or by the launcher for an entry in shared memory,
 * it takes one backup and leaves.  It is attached to no database; it reads and
 * writes the archive's folder and shared memory alone.  The lock on
 * <source>/backup.lock, held for its life, is what makes a source's backups
 * come one at a time, and what says that a folder <label>.tmp is being written.
 * SIGINT cancels it, SIGTERM comes with the host's shutdown; both remove what
 * was received, unless the backup is whole already and only its WAL is awaited.
 *
 * A crash leaves <label>.tmp; the indexer, or the next worker, removes it and
 * writes the journal's line about it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "../capture/memory_limit.h"
#include "../settings.h"
#include "../state/archive_dir.h"
#include "../state/fault_point.h"
#include "../state/journal.h"
#include "backup_worker.h"

/* For an answer of the server to each small command. */
#define COMMAND_TIMEOUT_MS 30000

/* So long may somebody else hold the source's lock. */
#define LOCK_PATIENCE_MS 5000

/* SIGTERM came. */
static volatile sig_atomic_t shutting_down = false;

static void
on_terminate(SIGNAL_ARGS)
{
	int save_errno = errno;

	/* an error that can be caught, so that what was received is removed */
	shutting_down = true;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
	errno = save_errno;
}

/* ---- what others see ---- */

void
wa_backup_phase(WaBackup *b, WaBackupPhase phase)
{
	b->stat.phase = phase;
	b->stat.phase_since = GetCurrentTimestamp();
	wa_show_backup(b->entry, &b->stat);
	set_ps_display(wa_backup_phase_name(phase));
}

uint64
wa_tell_indexer(WaBackup *b)
{
	int slot = wa_find_slot(b->request.source);
	uint64 written = 0;

	if (slot >= 0)
		written = pg_atomic_add_fetch_u64(&wa_shared->slot[slot].backups_written, 1);
	wa_wake_launcher();
	return written;
}

void
wa_backup_event(WaBackup *b, const char *kind, const char *severity, const char *cause, const char *fmt, ...)
{
	WaJournalEntry *entry = palloc0(sizeof(WaJournalEntry));
	va_list args;

	entry->time = GetCurrentTimestamp();
	strlcpy(entry->kind, kind, sizeof(entry->kind));
	strlcpy(entry->severity, severity, sizeof(entry->severity));
	va_start(args, fmt);
	vsnprintf(entry->message, sizeof(entry->message), fmt, args);
	va_end(args);
	entry->system_identifier = b->info.system_identifier;
	entry->tli = b->info.tli;
	if (b->info.start_lsn != 0)
	{
		entry->from_lsn = b->info.start_lsn;
		entry->to_lsn = Max(b->info.start_lsn, b->info.stop_lsn);
		entry->has_range = true;
	}
	if (cause)
		strlcpy(entry->cause, cause, sizeof(entry->cause));
	strlcpy(entry->label, b->request.label, sizeof(entry->label));
	strlcpy(entry->backup_kind, b->request.incremental ? "incremental" : "full", sizeof(entry->backup_kind));
	if (wa_journal_append(b->request.source, entry) == 0)
		ereport(WARNING,
				(errcode_for_file_access(),
				 errmsg("could not write to the journal of source \"%s\": %m", b->request.source),
				 errdetail("%s", entry->message)));
	pfree(entry);
	(void) wa_tell_indexer(b);
}

/* ---- before it starts ---- */

static void
lock_source(WaBackup *b)
{
	TimestampTz limit = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOCK_PATIENCE_MS);
	char path[MAXPGPATH];

	wa_source_file_path(path, b->request.source, "backup.lock");
	for (;;)
	{
		b->lock_fd = wa_lock_file(path);
		if (b->lock_fd >= 0)
			return;
		/* an indexer that clears up after a crash holds it for a moment */
		if (GetCurrentTimestamp() >= limit)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 50, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	wa_backup_error(b, "busy",
					errcode(ERRCODE_OBJECT_IN_USE),
					errmsg("a backup of source \"%s\" is being taken already", b->request.source),
					errhint("Wait until it is finished, or cancel it with walarchive.cancel_backup."));
}

static void
read_settings(WaBackup *b)
{
	char problem_text[WA_ERROR_LEN];
	char *problem;

	if (wa_directory_problem(problem_text, sizeof(problem_text)) != NULL)
		wa_backup_error(b, "bad_settings",
						errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the archive directory cannot be used: %s", problem_text));
	if (!wa_read_source_file(b->request.source, &b->settings, &problem) || b->settings.dropped)
		wa_backup_error(b, "bad_settings",
						errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("%s", problem ? problem : psprintf("source \"%s\" does not exist", b->request.source)));
}

/* WaAcceptServer: is it a server of the cluster that is archived? */
static void
accept_server(void *arg, WaConnection *connection)
{
	WaBackup *b = arg;
	int slot = wa_find_slot(b->request.source);
	WaReceiverStat *stat = palloc0(sizeof(WaReceiverStat));

	if (slot >= 0)
		wa_read_stat(slot, stat);
	if (stat->system_identifier != connection->server.system_identifier)
	{
		*connection->cause = WA_CAUSE_FOREIGN_CLUSTER;
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server has system identifier " UINT64_FORMAT ", the archive belongs to " UINT64_FORMAT,
						connection->server.system_identifier, stat->system_identifier)));
	}
	pfree(stat);
}

static void
connect_to_server(WaBackup *b)
{
	const char *conninfo = b->request.conninfo[0] != '\0'           ? b->request.conninfo
						   : b->settings.backup_conninfo[0] != '\0' ? b->settings.backup_conninfo
																	: b->settings.conninfo;

	b->memory_limit = wa_limit_memory(WA_CONNECTION_MEMORY);
	b->cause = WA_CAUSE_CONNECTION;
	b->connection = wa_connect(conninfo, "walarchive_backup", 0, COMMAND_TIMEOUT_MS, &b->cause, accept_server, b);
	b->cause = WA_CAUSE_OTHER;
	b->info.system_identifier = b->stat.system_identifier = b->connection->server.system_identifier;
	b->info.server_version = b->connection->server.version;
	wa_show_backup(b->entry, &b->stat);
}

/* What crashes left: attempts that nobody will finish, and removals. */
static void
remove_leftovers(WaBackup *b)
{
	const char *source = b->request.source;
	uint64 sysid = b->info.system_identifier;
	ListCell *lc;

	foreach (lc, wa_list_backups(source, sysid, WA_BACKUP_RUNNING_SUFFIX))
	{
		WaJournalEntry *entry = palloc0(sizeof(WaJournalEntry));

		entry->time = GetCurrentTimestamp();
		strlcpy(entry->kind, "backup_failed", sizeof(entry->kind));
		strlcpy(entry->severity, "warning", sizeof(entry->severity));
		strlcpy(entry->cause, "crash", sizeof(entry->cause));
		strlcpy(entry->label, lfirst(lc), sizeof(entry->label));
		entry->system_identifier = sysid;
		snprintf(entry->message, sizeof(entry->message),
				 "interrupted by a crash or restart of the archive host");
		/* the line first: without it nobody would know why the backup is gone */
		if (wa_journal_append(source, entry) == 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not write to the journal of source \"%s\": %m", source)));
		/* that form alone: never a whole one of the same name */
		wa_doom_backup(source, sysid, lfirst(lc), WA_BACKUP_RUNNING_SUFFIX);
		wa_remove_doomed_backup(source, sysid, lfirst(lc));
		pfree(entry);
		(void) wa_tell_indexer(b);
	}
}

static void
make_folder(WaBackup *b)
{
	const char *source = b->request.source;
	uint64 sysid = b->info.system_identifier;
	char path[MAXPGPATH];
	struct stat st;

	wa_backups_path(path, source, sysid);
	(void) wa_make_directory(path);
	remove_leftovers(b);
	wa_backup_path(path, source, sysid, b->request.label, "");
	if (lstat(path, &st) == 0)
		wa_backup_error(b, "label_in_use",
						errcode(ERRCODE_DUPLICATE_OBJECT),
						errmsg("source \"%s\" has a backup \"%s\" already", source, b->request.label),
						errhint("Give the backup another label."));
	/* a removal of a backup of the same name may be under way still */
	wa_backup_path(path, source, sysid, b->request.label, WA_BACKUP_DELETED_SUFFIX);
	if (lstat(path, &st) == 0)
		wa_backup_error(b, "label_in_use",
						errcode(ERRCODE_DUPLICATE_OBJECT),
						errmsg("a backup \"%s\" of source \"%s\" is being removed", b->request.label, source),
						errhint("Give the backup another label, or try again later."));
	wa_backup_path(path, source, sysid, b->request.label, WA_BACKUP_RUNNING_SUFFIX);
	(void) wa_make_directory(path);
	strlcpy(b->folder, path, sizeof(b->folder));
}

/* ---- when it is there ---- */

/* backup.json, the notes, and the name: from then on it is a backup. */
static void
keep_backup(WaBackup *b)
{
	char path[MAXPGPATH];
	char parent[MAXPGPATH];
	int fd;
	int rc;

	b->word = "io_error";
	if (b->request.annotation[0] != '\0')
	{
		WaBackupNotes *notes = palloc0(sizeof(WaBackupNotes));

		strlcpy(notes->annotation, b->request.annotation, sizeof(notes->annotation));
		wa_write_backup_notes(b->folder, notes);
		pfree(notes);
	}
	b->info.finished_at = GetCurrentTimestamp();
	/* the last thing in the folder; its sync is that of the whole folder */
	wa_write_backup_info(b->folder, &b->info);

	wa_backup_path(path, b->request.source, b->info.system_identifier, b->request.label, "");
	if (WA_FAULT(BACKUP_RENAME, rename(b->folder, path)) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not rename directory \"%s\": %m", b->folder)));
	wa_backups_path(parent, b->request.source, b->info.system_identifier);
	fd = open(parent, O_RDONLY | O_CLOEXEC);
	rc = fd < 0 ? -1 : WA_FAULT(BACKUP_PARENT_FSYNC, fsync(fd));
	if (rc != 0)
	{
		int save_errno = errno;

		if (fd >= 0)
			close(fd);
		errno = save_errno;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not fsync directory \"%s\": %m", parent)));
	}
	close(fd);
	b->word = NULL;
	b->kept = true;
	b->stat.stop_lsn = b->info.stop_lsn;
	wa_backup_event(b, "backup_finished", "info", NULL,
					"%s backup \"%s\" is whole: " UINT64_FORMAT " files, " UINT64_FORMAT " bytes on disk, from %X/%X to %X/%X",
					b->request.incremental ? "incremental" : "full", b->request.label, b->info.files, b->info.size,
					LSN_FORMAT_ARGS(b->info.start_lsn), LSN_FORMAT_ARGS(b->info.stop_lsn));
}

static void
take_backup(WaBackup *b)
{
	char *problem;

	b->cause = WA_CAUSE_OTHER;
	strlcpy(b->info.label, b->request.label, sizeof(b->info.label));
	b->info.incremental = b->request.incremental;
	b->info.started_at = b->stat.started_at;
	problem = wa_parse_compression(b->request.compression, &b->compression);
	if (problem != NULL)
		wa_backup_error(b, "bad_settings",
						errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid compression \"%s\": %s", b->request.compression, problem));
	strlcpy(b->info.compression, wa_compression_name(b->compression.method), sizeof(b->info.compression));
	if (wa_backup_checksum_name(b->request.manifest_checksums) == NULL)
		wa_backup_error(b, "bad_settings",
						errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("unknown checksum algorithm \"%s\"", b->request.manifest_checksums));
	strlcpy(b->info.checksum_algorithm, wa_backup_checksum_name(b->request.manifest_checksums),
			sizeof(b->info.checksum_algorithm));

	read_settings(b);
	lock_source(b);
	wa_check_streaming(b);
	connect_to_server(b);
	make_folder(b);
	if (b->request.incremental)
		wa_send_parent(b);
	wa_receive_base_backup(b);
	keep_backup(b);
	wa_backup_phase(b, WA_BACKUP_WAITING);
	wa_wait_for_wal(b);
}

/* ---- when it fails ---- */

/*
 * If it was a file of this host that failed, whichever, name that as the cause.
 * Returns the hint for it, or NULL.
 */
static const char *
note_file_error(WaBackup *b, const ErrorData *error)
{
	bool ours = b->word == NULL ? b->cause == WA_CAUSE_OTHER
								: strcmp(b->word, "io_error") == 0 || strcmp(b->word, "sync_failed") == 0;

	if (ours && error->sqlerrcode == ERRCODE_DISK_FULL)
		b->word = "disk_full";
	else if (b->word == NULL && ours && error->sqlerrcode == ERRCODE_IO_ERROR)
		b->word = "io_error";
	if (b->word == NULL)
		return NULL;
	if (strcmp(b->word, "disk_full") == 0)
		return wa_cause_hint(WA_CAUSE_DISK_FULL);
	return ours && (strcmp(b->word, "io_error") == 0 || strcmp(b->word, "sync_failed") == 0) ? wa_cause_hint(WA_CAUSE_IO) : NULL;
}

/* Remove what was received, say why, and leave the outcome. */
static void
report_failure(WaBackup *b, ErrorData *error)
{
	bool cancelled = error->sqlerrcode == ERRCODE_QUERY_CANCELED;
	char *promise;
	const char *file_hint = cancelled ? NULL : note_file_error(b, error);
	const char *word = cancelled ? (shutting_down ? "host_stopped" : "cancelled") : b->word ? b->word
																							: wa_cause_name(b->cause);

	if (cancelled)
		error->message = shutting_down ? "the archive host is being stopped" : "it was cancelled";
	b->stat.sqlstate = error->sqlerrcode;
	strlcpy(b->stat.error, error->message, sizeof(b->stat.error));
	if (error->detail)
	{
		strlcat(b->stat.error, "\n", sizeof(b->stat.error));
		strlcat(b->stat.error, error->detail, sizeof(b->stat.error));
	}
	/* what a receiver does of itself, this does not */
	if (error->hint)
		strlcpy(b->stat.error_hint, error->hint, sizeof(b->stat.error_hint));
	else if (file_hint)
		strlcpy(b->stat.error_hint, file_hint, sizeof(b->stat.error_hint));
	else
		strlcpy(b->stat.error_hint, b->word == NULL && !cancelled ? wa_cause_hint(b->cause) : "", sizeof(b->stat.error_hint));
	promise = error->hint ? NULL : strstr(b->stat.error_hint, "; streaming resumes by itself");
	if (promise)
		strlcpy(promise, ".", 2);
	b->stat.retryable = b->retryable;
	if (b->kept)
	{
		/* only the wait for its WAL was ended: it is as good as its WAL */
		wa_backup_phase(b, WA_BACKUP_DONE);
		return;
	}
	ereport(LOG,
			(errmsg("backup \"%s\" of source \"%s\" failed: %s", b->request.label, b->request.source, error->message),
			 error->detail ? errdetail("%s", error->detail) : 0,
			 b->stat.error_hint[0] != '\0' ? errhint("%s", b->stat.error_hint) : 0));
	PG_TRY();
	{
		if (b->folder[0] != '\0')
			wa_remove_backup(b->request.source, b->info.system_identifier, b->request.label);
	}
	PG_CATCH();
	{
		/* the indexer finds and removes it */
		EmitErrorReport();
		FlushErrorState();
	}
	PG_END_TRY();
	/* one that another backup, or a server that is too quiet, kept from starting is no failure */
	if (b->lock_fd >= 0 && (!b->retryable || b->started_journalled))
		wa_backup_event(b, "backup_failed", "warning", word, "%s%s%s", error->message,
						error->detail ? ": " : "", error->detail ? error->detail : "");
	wa_backup_phase(b, WA_BACKUP_FAILED);
}

static void
leave(int code, Datum arg)
{
	WaBackup *b = (WaBackup *) DatumGetPointer(arg);

	if (b->stat.phase != WA_BACKUP_DONE && b->stat.phase != WA_BACKUP_FAILED)
	{
		strlcpy(b->stat.error, "its worker ended: see the server's log", sizeof(b->stat.error));
		b->stat.sqlstate = ERRCODE_INTERNAL_ERROR;
		b->stat.phase = WA_BACKUP_FAILED;
		wa_show_backup(b->entry, &b->stat);
	}
	/* the lock goes first: another backup may start as soon as the entry is left */
	if (b->lock_fd >= 0)
		close(b->lock_fd);
	b->lock_fd = -1;
	wa_leave_backup(b->entry);
}

void
wa_backup_main(Datum main_arg)
{
	WaBackupStart start;
	WaBackup *b;
	MemoryContext context;

	memcpy(&start, MyBgworkerEntry->bgw_extra, sizeof(start));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, StatementCancelHandler);
	pqsignal(SIGTERM, on_terminate);
	if (wa_shared == NULL || !wa_hold_backup(&start))
		proc_exit(0);
	b = MemoryContextAllocZero(TopMemoryContext, sizeof(WaBackup));
	b->entry = start.entry;
	b->lock_fd = -1;
	(void) wa_read_backup(b->entry, &b->request, &b->stat);
	before_shmem_exit(leave, PointerGetDatum(b));
	BackgroundWorkerUnblockSignals();
	context = AllocSetContextCreate(TopMemoryContext, "walarchive backup", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	/* checksums of the server's are kept track of by one */
	CurrentResourceOwner = ResourceOwnerCreate(NULL, "walarchive backup");

	PG_TRY();
	{
		/* it may have been cancelled before there was anybody to signal */
		if (pg_atomic_read_u32(&wa_shared->backup[b->entry].cancel) != 0)
			ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("cancelled")));
		take_backup(b);
		wa_backup_phase(b, WA_BACKUP_DONE);
	}
	PG_CATCH();
	{
		ErrorData *error;

		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(TopMemoryContext);
		error = CopyErrorData();
		FlushErrorState();
		LWLockReleaseAll();
		pgstat_report_wait_end();
		wa_disconnect(b->connection);
		b->connection = NULL;
		/* the check's thread, and its temporary file, go with the context */
		b->check = NULL;
		b->info.tablespaces = NULL;
		MemoryContextDelete(context);
		report_failure(b, error);
	}
	PG_END_TRY();
	proc_exit(0);
}
