/*-------------------------------------------------------------------------
 *
 * base_backup.c
 *	  The client's side of BASE_BACKUP as servers from PostgreSQL 15 on speak
 *	  it: one COPY with all archives and the manifest in it.
 *
 * What arrives is written as it is, or compressed here, and handed to the check
 * on the way.  Writing to disk is begun by the kernel early (sync_file_range),
 * so that the syncs at the end, and those of the receivers beside us, find
 * little to do.  Nothing received is trusted: names of archives are those of
 * tablespaces that the server has announced, and each comes once.
 *
 * A crash leaves a folder <label>.tmp, which nobody takes for a backup.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/timestamp.h"

#include "../capture/memory_limit.h"
#include "../capture/protocol.h"
#include "../settings.h"
#include "../state/archive_dir.h"
#include "../state/fault_point.h"
#include "backup_worker.h"

/* Dirty data is handed to the disk in pieces of this many bytes. */
#define WRITEBACK_BYTES (4 * 1024 * 1024)

/* Free space is looked at, and progress shown, after this many. */
#define SPACE_CHECK_BYTES (32 * 1024 * 1024)
#define SHOW_BYTES (1024 * 1024)

/* Once files stream, a server that is silent for so long is given up. */
#define SILENCE_MS (15 * 60 * 1000)

#define MAX_TABLESPACES 10000

/* For what the server sends, and for what is known of each of its files. */
#define STREAMING_MEMORY (4 * WA_CONNECTION_MEMORY)

/* So many of the server's warnings go to the log; damaged pages can be many. */
#define MAX_LOGGED_WARNINGS 100

/* An announced tablespace. */
typedef struct Tablespace
{
	Oid oid; /* 0: the main one */
	bool received;
} Tablespace;

/* What is being received. */
typedef struct Receiving
{
	WaBackup *b;
	Tablespace *tablespaces;
	int n_tablespaces;

	int fd; /* the file being written, -1: none */
	char path[MAXPGPATH];
	uint64 written;               /* bytes of this file */
	uint64 writeback;             /* of which these are on their way to the disk */
	uint64 unchecked;             /* bytes since free space was looked at */
	int64 unshown;                /* and since progress was shown */
	bool in_manifest;             /* else an archive, if fd >= 0 */
	bool had_manifest;            /* it came */
	WaCodec *codec;               /* compresses the present archive, NULL: none */
	WaCompressionMethod arriving; /* how archives are compressed when they come */
	MemoryContext codec_context;
} Receiving;

/* ---- files ---- */

static void
check_space(Receiving *r)
{
	struct statvfs vfs;
	uint64 free_bytes;

	if (wa_min_free_space <= 0 || statvfs(wa_directory, &vfs) != 0)
		return;
	free_bytes = (uint64) vfs.f_bavail * vfs.f_frsize;
	if (free_bytes < (uint64) wa_min_free_space * 1024 * 1024)
		wa_backup_error(r->b, "disk_full",
						errcode(ERRCODE_DISK_FULL),
						errmsg("file system of \"walarchive.directory\" has " UINT64_FORMAT " MB free, less than walarchive.min_free_space (%d MB)",
							   free_bytes / (1024 * 1024), wa_min_free_space),
						errhint("The room is left to the receivers. Free space, or compress backups."));
}

static void
open_file(Receiving *r, const char *name)
{
	if (snprintf(r->path, sizeof(r->path), "%s/%s", r->b->folder, name) >= sizeof(r->path))
		elog(ERROR, "path of a backup's file is too long");
	r->fd = WA_FAULT(BACKUP_CREATE, open(r->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, pg_file_create_mode));
	if (r->fd < 0)
		wa_backup_error(r->b, "io_error",
						errcode_for_file_access(),
						errmsg("could not create file \"%s\": %m", r->path));
	r->written = r->writeback = 0;
}

/* WaCodecSink */
static bool
write_file(void *arg, const char *data, size_t len)
{
	Receiving *r = arg;

	r->b->stat.bytes_written += len;
	r->written += len;
	r->unchecked += len;
	while (len > 0)
	{
		ssize_t n;

		errno = 0;
		n = WA_FAULT(BACKUP_WRITE, write(r->fd, data, WA_SHORT(len)));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			if (errno == 0)
				errno = ENOSPC;
			wa_backup_error(r->b, errno == ENOSPC || errno == EDQUOT ? "disk_full" : "io_error",
							errcode_for_file_access(),
							errmsg("could not write file \"%s\": %m", r->path));
		}
		data += n;
		len -= n;
	}
	if (r->written - r->writeback >= WRITEBACK_BYTES)
	{
#ifdef HAVE_SYNC_FILE_RANGE
		/* a hint: what fails here is reported by the sync at the end */
		(void) sync_file_range(r->fd, r->writeback, r->written - r->writeback, SYNC_FILE_RANGE_WRITE);
#endif
		r->writeback = r->written;
	}
	if (r->unchecked >= SPACE_CHECK_BYTES)
	{
		r->unchecked = 0;
		check_space(r);
	}
	return true;
}

/* Make the file durable and close it. */
static void
close_file(Receiving *r)
{
	int fd = r->fd;
	int rc;

	if (fd < 0)
		return;
	r->fd = -1;
	rc = WA_FAULT(BACKUP_FSYNC, fsync(fd));
	if (rc != 0)
	{
		int save_errno = errno;

		close(fd);
		errno = save_errno;
		wa_backup_error(r->b, "sync_failed",
						errcode_for_file_access(),
						errmsg("could not fsync file \"%s\": %m", r->path));
	}
	if (close(fd) != 0)
		wa_backup_error(r->b, "io_error",
						errcode_for_file_access(),
						errmsg("could not close file \"%s\": %m", r->path));
	r->b->info.size += r->written;
}

/* ---- archives ---- */

pg_noreturn static void
bad_stream(WaBackup *b, const char *what)
{
	b->word = "protocol_violation";
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("the server's base backup is not as the protocol has it: %s", what)));
	pg_unreachable();
}

/* The check found an archive wrong. */
static void
raise_check_problem(WaBackup *b)
{
	const char *file = NULL;
	const char *problem = wa_backup_check_problem(b->check, &file);

	wa_backup_error(b, "damaged",
					errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("what the server sent is damaged: %s", problem ? problem : "unknown"),
					file ? errdetail("File \"%s\".", file) : 0);
}

static void
end_archive(Receiving *r)
{
	WaBackup *b = r->b;

	if (r->fd < 0)
		return;
	if (!r->in_manifest)
	{
		if (r->codec != NULL && !wa_codec_finish(r->codec))
			wa_backup_error(b, "compression", errcode(ERRCODE_INTERNAL_ERROR),
							errmsg("could not compress file \"%s\": %s", r->path,
								   wa_codec_problem(r->codec) ? wa_codec_problem(r->codec) : "unknown"));
		r->codec = NULL;
		MemoryContextReset(r->codec_context);
		if (!wa_backup_check_archive_end(b->check))
			raise_check_problem(b);
		b->stat.tablespaces_done++;
	}
	close_file(r);
	wa_show_backup(b->entry, &b->stat);
}

/* 'n': a new archive, of this name. */
static void
begin_archive(Receiving *r, const char *message, int len)
{
	WaBackup *b = r->b;
	const char *suffix = wa_compression_suffix(r->arriving);
	const char *name = message + 1;
	const char *end = memchr(name, '\0', len - 1);
	Tablespace *t = NULL;
	char expected[64];
	char file[64];

	if (end == NULL || memchr(end + 1, '\0', message + len - (end + 1)) == NULL)
		bad_stream(b, "an archive's name has no end");
	end_archive(r);
	if (r->had_manifest)
		bad_stream(b, "an archive follows the manifest");
	for (int i = 0; i < r->n_tablespaces && t == NULL; i++)
	{
		if (r->tablespaces[i].oid == 0)
			snprintf(expected, sizeof(expected), "base.tar%s", suffix);
		else
			snprintf(expected, sizeof(expected), "%u.tar%s", r->tablespaces[i].oid, suffix);
		if (strcmp(name, expected) == 0)
			t = &r->tablespaces[i];
	}
	if (t == NULL || t->received)
		bad_stream(b, "an archive is of no tablespace that it announced, or comes twice");
	t->received = true;

	if (t->oid == 0)
		snprintf(file, sizeof(file), "base.tar%s", wa_compression_suffix(b->compression.method));
	else
		snprintf(file, sizeof(file), "%u.tar%s", t->oid, wa_compression_suffix(b->compression.method));
	open_file(r, file);
	r->in_manifest = false;
	if (b->compression.method != WA_COMPRESS_NONE && !b->compression.on_server)
	{
		MemoryContext old = MemoryContextSwitchTo(r->codec_context);

		r->codec = wa_codec_begin_compress(&b->compression, write_file, r);
		MemoryContextSwitchTo(old);
	}
	if (!wa_backup_check_archive(b->check, t->oid, r->arriving))
		raise_check_problem(b);
}

/* 'd': bytes of the archive, or of the manifest. */
static void
take_data(Receiving *r, const char *data, int len)
{
	WaBackup *b = r->b;

	if (r->fd < 0)
		bad_stream(b, "data without an archive");
	if (r->in_manifest)
	{
		(void) write_file(r, data, len);
		return;
	}
	/* the check's thread begins while this one compresses or writes */
	if (!wa_backup_check_data(b->check, data, len))
		raise_check_problem(b);
	if (r->codec == NULL)
		(void) write_file(r, data, len);
	else if (!wa_codec_write(r->codec, data, len))
		wa_backup_error(b, "compression", errcode(ERRCODE_INTERNAL_ERROR),
						errmsg("could not compress file \"%s\": %s", r->path,
							   wa_codec_problem(r->codec) ? wa_codec_problem(r->codec) : "unknown"));
	r->unshown += len;
	if (r->unshown >= SHOW_BYTES)
	{
		r->unshown = 0;
		wa_show_backup(b->entry, &b->stat);
	}
}

static void
receive_copy(Receiving *r)
{
	WaBackup *b = r->b;
	char *message;
	int len;

	while ((len = wa_get_copy_data(b->connection, &message, SILENCE_MS)) > 0)
	{
		/* what is raised below ends the process, and libpq's memory with it */
		switch (message[0])
		{
			case 'n':
				begin_archive(r, message, len);
				break;
			case 'd':
				take_data(r, message + 1, len - 1);
				break;
			case 'm':
				if (r->had_manifest || len != 1)
					bad_stream(b, "a second manifest");
				end_archive(r);
				open_file(r, "backup_manifest");
				r->in_manifest = r->had_manifest = true;
				break;
			case 'p':
			{
				uint64 done = 0;

				if (len != 1 + sizeof(uint64))
					bad_stream(b, "a progress report of another length");
				for (int i = 1; i < len; i++)
					done = (done << 8) | (unsigned char) message[i];
				b->stat.bytes_done = (int64) Min(done, (uint64) PG_INT64_MAX);
				wa_show_backup(b->entry, &b->stat);
				break;
			}
			default:
				bad_stream(b, "a message of another kind");
		}
		PQfreemem(message);
		CHECK_FOR_INTERRUPTS();
	}
}

/* ---- the command ---- */

/* Warnings of the server: checksum failures are named there alone. */
static void
take_notice(void *arg, const PGresult *result)
{
	WaBackup *b = arg;
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	char *end;
	uint64 total;

	if (severity == NULL || text == NULL || strcmp(severity, "WARNING") != 0)
		return;
	text = wa_server_text(text);
	/* the last one gives their number, in whatever language */
	total = strtou64(text, &end, 10);
	if (end > text && total > 0)
		b->page_failures = total;
	else
	{
		b->page_failures++;
		if (b->warnings[0] != '\0')
			strlcat(b->warnings, "\n", sizeof(b->warnings));
		strlcat(b->warnings, text, sizeof(b->warnings));
	}
	if (++b->logged_warnings > MAX_LOGGED_WARNINGS)
		return;
	ereport(LOG,
			(errmsg("backup \"%s\" of source \"%s\": the server says: %s",
					b->request.label, b->request.source, text)));
}

static char *
make_command(WaBackup *b)
{
	StringInfoData s;

	initStringInfo(&s);
	/* labels and names of algorithms were checked: nothing in them needs quoting */
	appendStringInfo(&s, "BASE_BACKUP (LABEL 'walarchive %s', PROGRESS, CHECKPOINT '%s', WAIT false, TABLESPACE_MAP, "
						 "MANIFEST 'yes', MANIFEST_CHECKSUMS '%s', TARGET 'client'",
					 b->request.label, b->request.fast_checkpoint ? "fast" : "spread", b->info.checksum_algorithm);
	if (b->request.max_rate > 0)
		appendStringInfo(&s, ", MAX_RATE %d", b->request.max_rate);
	if (b->compression.on_server && b->compression.method != WA_COMPRESS_NONE)
	{
		appendStringInfo(&s, ", COMPRESSION '%s'", wa_compression_name(b->compression.method));
		if (b->compression.detail[0] != '\0')
			appendStringInfo(&s, ", COMPRESSION_DETAIL '%s'", b->compression.detail);
	}
	if (b->request.incremental)
		appendStringInfoString(&s, ", INCREMENTAL");
	appendStringInfoChar(&s, ')');
	return s.data;
}

/* The server refused, or gave up.  Clears 'result'. */
pg_noreturn static void
raise_refusal(WaBackup *b, PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
	char stop[32];

	snprintf(stop, sizeof(stop), " %X/%X,", LSN_FORMAT_ARGS(b->parent_stop));
	if (state == NULL || text == NULL)
	{
		PQclear(result);
		wa_raise_connection(b->connection, WA_CAUSE_CONNECTION, "connection to the server was lost");
	}
	/*
	 * A standby that has made no restartpoint since the parent's end: whatever
	 * the language, the message has that position.
	 */
	if (b->request.incremental && b->parent_stop != 0 && b->connection->server.in_recovery &&
		strcmp(state, "55000") == 0 && strstr(text, stop) != NULL)
		b->retryable = true;
	b->word = b->retryable ? "quiet_standby" : strcmp(state, "57P01") == 0 || strcmp(state, "57P02") == 0 ? "connection_failed"
																										  : "server_error";
	text = wa_server_text(text);
	hint = hint ? wa_server_text(hint) : NULL;
	PQclear(result);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the server could not give the backup: %s", text),
			 b->retryable ? errhint("The standby has made no restartpoint since the parent's end. Try again when the primary has written WAL and made a checkpoint.")
			 : hint       ? errhint("%s", hint)
						  : 0));
	pg_unreachable();
}

/* A result set of one row with a position and a timeline; clears it. */
static void
take_position(WaBackup *b, PGresult *result, XLogRecPtr *lsn, TimeLineID *tli)
{
	unsigned long value;
	char *end;

	if (PQresultStatus(result) == PGRES_FATAL_ERROR || result == NULL)
		raise_refusal(b, result);
	if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1 || PQnfields(result) < 2 ||
		!wa_parse_lsn(PQgetvalue(result, 0, 0), lsn) || *lsn == 0)
		bad_stream(b, "a position is missing");
	errno = 0;
	value = strtoul(PQgetvalue(result, 0, 1), &end, 10);
	if (errno != 0 || *end != '\0' || value == 0 || value > PG_UINT32_MAX)
		bad_stream(b, "a timeline is missing");
	*tli = (TimeLineID) value;
	PQclear(result);
}

static uint64
parse_size(WaBackup *b, const char *text)
{
	char *end;
	uint64 size;

	errno = 0;
	size = strtou64(text, &end, 10);
	if (errno != 0 || *end != '\0' || text[0] < '0' || text[0] > '9' || size > PG_INT64_MAX / 1024 / MAX_TABLESPACES)
		bad_stream(b, "a size is not a number");
	return size * 1024;
}

/* The list of tablespaces, with sizes. */
static void
take_tablespaces(Receiving *r)
{
	WaBackup *b = r->b;
	PGresult *result = wa_get_result(b->connection);
	StringInfoData list;
	bool main_seen = false;

	if (result == NULL || PQresultStatus(result) == PGRES_FATAL_ERROR)
		raise_refusal(b, result);
	if (PQresultStatus(result) != PGRES_TUPLES_OK || PQnfields(result) < 3 ||
		PQntuples(result) < 1 || PQntuples(result) > MAX_TABLESPACES)
		bad_stream(b, "the list of tablespaces is missing");
	initStringInfo(&list);
	r->n_tablespaces = PQntuples(result);
	r->tablespaces = palloc0(r->n_tablespaces * sizeof(Tablespace));
	b->stat.bytes_total = 0;
	for (int i = 0; i < r->n_tablespaces; i++)
	{
		if (PQgetisnull(result, i, 0))
		{
			if (main_seen)
				bad_stream(b, "it has two main tablespaces");
			main_seen = true;
		}
		else
		{
			const char *path = PQgetvalue(result, i, 1);
			char *end;
			unsigned long oid = strtoul(PQgetvalue(result, i, 0), &end, 10);

			if (*end != '\0' || oid == 0 || oid > PG_UINT32_MAX)
				bad_stream(b, "a tablespace has no number");
			for (int j = 0; j < i; j++)
			{
				if (r->tablespaces[j].oid == (Oid) oid)
					bad_stream(b, "a tablespace is announced twice");
			}
			r->tablespaces[i].oid = (Oid) oid;
			appendStringInfo(&list, "%s%lu ", list.len > 0 ? "\n" : "", oid);
			/* a line each: a path with a line's end in it is written as in tablespace_map */
			for (; *path != '\0'; path++)
			{
				if (*path == '\n' || *path == '\r' || *path == '\\')
					appendStringInfoChar(&list, '\\');
				appendStringInfoChar(&list, *path);
			}
		}
		if (!PQgetisnull(result, i, 2))
			b->stat.bytes_total += parse_size(b, PQgetvalue(result, i, 2));
	}
	PQclear(result);
	if (!main_seen)
		bad_stream(b, "the main tablespace is missing");
	if (list.len >= WA_BACKUP_TABLESPACES_LEN)
		wa_backup_error(b, "too_many_tablespaces",
						errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the paths of the server's tablespaces are too long together"));
	b->info.tablespaces = list.data;
	b->stat.tablespaces_total = r->n_tablespaces;
	b->stat.tablespaces_done = 0;
}

/* Now that its size is known: will it fit at all? */
static void
check_room_for_all(WaBackup *b)
{
	struct statvfs vfs;
	uint64 free_bytes;
	uint64 floor = (uint64) Max(wa_min_free_space, 0) * 1024 * 1024;

	/* nobody knows what compression makes of it, nor what is left out of an incremental one */
	if (b->compression.method != WA_COMPRESS_NONE || b->request.incremental ||
		statvfs(wa_directory, &vfs) != 0)
		return;
	free_bytes = (uint64) vfs.f_bavail * vfs.f_frsize;
	if (free_bytes < floor || free_bytes - floor < (uint64) b->stat.bytes_total)
		wa_backup_error(b, "disk_full",
						errcode(ERRCODE_DISK_FULL),
						errmsg("the backup has " INT64_FORMAT " MB, and the file system of \"walarchive.directory\" has " UINT64_FORMAT " MB free above walarchive.min_free_space",
							   b->stat.bytes_total / (1024 * 1024), (free_bytes < floor ? 0 : free_bytes - floor) / (1024 * 1024)),
						errhint("Free space, or compress backups."));
}

/* ---- what was received ---- */

/* WaBackupDifference: the first one is enough */
typedef struct FirstDifference
{
	char *file;
	char *problem;
} FirstDifference;

static bool
first_difference(void *arg, const char *file, const char *problem)
{
	FirstDifference *d = arg;

	d->file = file ? pstrdup(file) : NULL;
	d->problem = pstrdup(problem);
	return false;
}

/* Compare all with the manifest, and the files' own word with the server's. */
static void
check_received(WaBackup *b)
{
	char path[MAXPGPATH];
	FirstDifference d = {NULL, NULL};
	const WaBackupFacts *facts;

	snprintf(path, sizeof(path), "%s/backup_manifest", b->folder);
	if (!wa_backup_check_manifest(b->check, path, first_difference, &d))
		wa_backup_error(b, "damaged",
						errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("what the server sent does not agree with its manifest: %s", d.problem ? d.problem : "unknown"),
						d.file ? errdetail("File \"%s\".", d.file) : 0);
	facts = wa_backup_check_facts(b->check);
	if (!facts->has_control || facts->control.system_identifier != b->info.system_identifier ||
		(facts->manifest_system_identifier != 0 && facts->manifest_system_identifier != b->info.system_identifier))
		wa_backup_error(b, "damaged",
						errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("the backup has no valid pg_control of the server's cluster"));
	if (facts->backup_label == NULL)
		wa_backup_error(b, "damaged",
						errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("the backup has no backup_label"));
	if (facts->wal_start_tli != b->info.tli || facts->wal_start_lsn != b->info.start_lsn ||
		facts->wal_end_tli != b->info.stop_tli || facts->wal_end_lsn != b->info.stop_lsn)
		wa_backup_error(b, "damaged",
						errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("the manifest names other WAL than the server did"));

	/*
	 * Recovery of a standby's backup is consistent where the copied pg_control
	 * says so, and that was copied last; of a primary's at the record of its end.
	 */
	b->info.from_standby = strstr(facts->backup_label, "BACKUP FROM: standby") != NULL;
	b->info.consistent_lsn = b->info.stop_lsn;
	if (b->info.from_standby)
	{
		if (facts->control.min_recovery_point > b->info.stop_lsn)
			wa_backup_error(b, "damaged",
							errcode(ERRCODE_DATA_CORRUPTED),
							errmsg("pg_control in the backup has a minimum recovery point of %X/%X, after the backup's end at %X/%X",
								   LSN_FORMAT_ARGS(facts->control.min_recovery_point), LSN_FORMAT_ARGS(b->info.stop_lsn)));
		b->info.consistent_lsn = Max(facts->control.min_recovery_point, b->info.start_lsn);
	}
	b->info.data_size = facts->data_bytes;
	b->info.files = facts->manifest_files;
	strlcpy(b->info.manifest_sha256, facts->manifest_sha256, sizeof(b->info.manifest_sha256));
}

/* The command's end: an error here is that of checksums, after all was sent. */
static void
finish_command(WaBackup *b)
{
	PGresult *result = wa_get_result(b->connection);

	if (result == NULL)
		bad_stream(b, "its end is missing");
	if (wa_result_is(result, "XX001"))
	{
		PQclear(result);
		if (b->page_failures == 0)
			b->page_failures = 1;
		if (!b->request.tolerate_checksum_failures)
			wa_backup_error(b, "checksum_failure",
							errcode(ERRCODE_DATA_CORRUPTED),
							errmsg("the server found " UINT64_FORMAT " damaged data pages while it sent the backup", b->page_failures),
							b->warnings[0] != '\0' ? errdetail("%s", b->warnings) : 0,
							errhint("Earlier backups may still have these pages. To take the backup all the same: verify_checksums => false."));
		b->info.checksum_failures = b->page_failures;
	}
	else if (PQresultStatus(result) != PGRES_COMMAND_OK)
		raise_refusal(b, result);
	else
		PQclear(result);
	wa_drain_results(b->connection);
}

void
wa_receive_base_backup(WaBackup *b)
{
	Receiving *r = palloc0(sizeof(Receiving));
	PGresult *result;

	r->b = b;
	r->fd = -1;
	r->codec_context = AllocSetContextCreate(CurrentMemoryContext, "walarchive codec", ALLOCSET_DEFAULT_SIZES);
	r->arriving = b->compression.on_server ? b->compression.method : WA_COMPRESS_NONE;
	check_space(r);
	(void) PQsetNoticeReceiver(b->connection->conn, take_notice, b);

	/* a spread checkpoint takes its time, and so does counting bytes */
	b->connection->timeout_ms = 0;
	wa_backup_phase(b, WA_BACKUP_CHECKPOINT);
	if (!PQsendQuery(b->connection->conn, make_command(b)))
		wa_raise_connection(b->connection, WA_CAUSE_CONNECTION, "could not send a command");
	result = wa_get_result(b->connection);
	if (result == NULL)
		bad_stream(b, "there is no answer");
	take_position(b, result, &b->info.start_lsn, &b->info.tli);
	b->stat.tli = b->info.tli;
	b->stat.start_lsn = b->info.start_lsn;
	b->page_failures = 0;
	b->warnings[0] = '\0';
	wa_backup_phase(b, WA_BACKUP_ESTIMATING);
	take_tablespaces(r);
	wa_show_backup(b->entry, &b->stat);
	wa_check_coverage(b);
	check_room_for_all(b);
	wa_backup_event(b, "backup_started", "info", NULL, "%s backup \"%s\" starts at %X/%X on timeline %u",
					b->request.incremental ? "incremental" : "full", b->request.label,
					LSN_FORMAT_ARGS(b->info.start_lsn), b->info.tli);
	b->started_journalled = true;

	result = wa_get_result(b->connection);
	if (result == NULL || PQresultStatus(result) == PGRES_FATAL_ERROR)
		raise_refusal(b, result);
	if (PQresultStatus(result) != PGRES_COPY_OUT)
		bad_stream(b, "no data follow");
	PQclear(result);
	/* what compression with zstd takes depends on its level, threads and window */
	wa_restore_memory_limit(b->memory_limit);
	if (b->compression.method != WA_COMPRESS_ZSTD)
		(void) wa_limit_memory(STREAMING_MEMORY);
	b->check = wa_backup_check_begin(b->folder, b->info.checksum_algorithm, true);
	wa_backup_phase(b, WA_BACKUP_STREAMING);
	receive_copy(r);

	/* an archive that is cut off is the lesser news */
	result = wa_get_result(b->connection);
	if (result == NULL || PQresultStatus(result) == PGRES_FATAL_ERROR)
		raise_refusal(b, result);
	end_archive(r);
	take_position(b, result, &b->info.stop_lsn, &b->info.stop_tli);
	if (b->info.stop_lsn < b->info.start_lsn || b->info.stop_tli < b->info.tli)
		bad_stream(b, "it ends before it starts");
	finish_command(b);
	b->stat.stop_lsn = b->info.stop_lsn;
	if (!r->had_manifest)
		bad_stream(b, "there is no manifest");
	for (int i = 0; i < r->n_tablespaces; i++)
	{
		if (!r->tablespaces[i].received)
			bad_stream(b, "a tablespace that it announced did not come");
	}
	wa_disconnect(b->connection);
	wa_restore_memory_limit(b->memory_limit);

	wa_backup_phase(b, WA_BACKUP_SYNCING);
	check_received(b);
	wa_backup_check_end(b->check);
	b->check = NULL;
	MemoryContextDelete(r->codec_context);
}
