/*-------------------------------------------------------------------------
 *
 * backup_parent.c
 *	  What an incremental backup builds on: the parent is chosen from what is
 *	  on disk, and its manifest is sent to the server.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/cryptohash.h"
#include "common/sha2.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"

#include "../base/wal_name.h"
#include "backup_worker.h"

/* A chain of more backups than this is a circle, or of no use. */
#define MAX_CHAIN 1000

#define CHUNK_LEN (64 * 1024)

#define UPLOAD_TIMEOUT_MS 120000

/*
 * Is a backup of a chain what it should be?  What the catalog knows as broken is
 * seen here by the same signs.  Fills 'info'.  NULL if so, else what is wrong,
 * palloc'd.
 */
static char *
link_problem(WaBackup *b, const WaHistory *history, const char *label, WaBackupInfo *info)
{
	WaBackupNotes *notes = palloc(sizeof(WaBackupNotes));
	char folder[MAXPGPATH];
	char name[WA_WAL_NAME_LEN];
	char *problem;

	wa_backup_path(folder, b->request.source, b->info.system_identifier, label, "");
	if (!wa_read_backup_info(folder, info, &problem))
		return problem;
	if (info->system_identifier != b->info.system_identifier)
		return pstrdup("it is of another cluster");
	if (wa_read_backup_notes(folder, notes, &problem) && notes->damage[0] != '\0')
		return psprintf("it is damaged: %s", notes->damage);
	pfree(notes);
	if (wa_history_find(history, info->tli) != NULL && wa_history_find(history, info->stop_tli) != NULL &&
		!wa_archived_wal_is_there(b, history, info->start_lsn, info->stop_lsn, name))
		return psprintf("the archive lacks WAL of it: segment \"%s\" is missing", name);
	return NULL;
}

/*
 * Can the server build on the backup 'label'?  Fills 'info'.  NULL if so, else
 * what is wrong, palloc'd.
 */
static char *
parent_problem(WaBackup *b, const WaHistory *history, const char *label, WaBackupInfo *info)
{
	WaBackupInfo *link = palloc(sizeof(WaBackupInfo));
	const WaTimelineEntry *entry;
	char next[WA_BACKUP_LABEL_LEN];
	char *problem;

	strlcpy(next, label, sizeof(next));
	for (int i = 0;; i++)
	{
		problem = link_problem(b, history, next, link);
		if (problem != NULL)
			return i == 0 ? problem : psprintf("the chain that it ends is broken: backup \"%s\": %s", next, problem);
		if (i == 0)
			*info = *link;
		if (!link->incremental)
			break;
		if (i >= MAX_CHAIN)
			return psprintf("its chain has more than %d backups", MAX_CHAIN);
		strlcpy(next, link->parent, sizeof(next));
	}
	if (info->server_version / 10000 != b->connection->server.version / 10000)
		return pstrdup("it is of another major version of the server");
	entry = wa_history_find(history, info->stop_tli);
	if (entry == NULL || (entry->end != 0 && info->stop_lsn > entry->end))
		return psprintf("it ends at %X/%X on timeline %u, and the server's timeline %u does not come from there",
						LSN_FORMAT_ARGS(info->stop_lsn), info->stop_tli, b->connection->server.timeline);
	return NULL;
}

static void
choose_parent(WaBackup *b, WaBackupInfo *parent)
{
	WaHistory *history = palloc(sizeof(WaHistory));
	WaBackupInfo *info = palloc(sizeof(WaBackupInfo));
	ListCell *lc;
	bool found = false;
	char *problem;

	wa_server_history(b, history);
	if (b->request.parent[0] != '\0')
	{
		problem = parent_problem(b, history, b->request.parent, parent);
		if (problem != NULL)
			wa_backup_error(b, "parent",
							errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("an incremental backup cannot build on backup \"%s\": %s", b->request.parent, problem),
							errhint("Name another parent, or take a full backup."));
		return;
	}
	foreach (lc, wa_list_backups(b->request.source, b->info.system_identifier, ""))
	{
		CHECK_FOR_INTERRUPTS();
		problem = parent_problem(b, history, lfirst(lc), info);
		if (problem == NULL && (!found || info->start_lsn > parent->start_lsn))
		{
			*parent = *info;
			found = true;
		}
	}
	if (!found)
		wa_backup_error(b, "parent",
						errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("there is no backup of source \"%s\" that an incremental one could build on", b->request.source),
						errhint("Take a full backup first."));
}

/* Send the file, and see that it is the one that was checked when it was taken. */
static void
send_manifest(WaBackup *b, const WaBackupInfo *parent)
{
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);
	uint8 digest[PG_SHA256_DIGEST_LENGTH];
	char hex[2 * PG_SHA256_DIGEST_LENGTH + 1];
	char *chunk = palloc(CHUNK_LEN);
	char path[MAXPGPATH];
	ssize_t n;
	int fd;

	wa_backup_file_path(path, b->request.source, b->info.system_identifier, parent->label, "", "backup_manifest");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		wa_backup_error(b, "parent",
						errcode_for_file_access(),
						errmsg("could not open file \"%s\": %m", path));
	if (pg_cryptohash_init(hash) < 0)
		elog(ERROR, "could not compute a checksum");
	for (;;)
	{
		n = read(fd, chunk, CHUNK_LEN);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			wa_backup_error(b, "parent",
							errcode_for_file_access(),
							errmsg("could not read file \"%s\": %m", path));
		if (n == 0)
			break;
		if (pg_cryptohash_update(hash, (uint8 *) chunk, n) < 0)
			elog(ERROR, "could not compute a checksum");
		wa_put_copy_data(b->connection, chunk, (int) n);
		CHECK_FOR_INTERRUPTS();
	}
	close(fd);
	if (pg_cryptohash_final(hash, digest, sizeof(digest)) < 0)
		elog(ERROR, "could not compute a checksum");
	pg_cryptohash_free(hash);
	for (int i = 0; i < PG_SHA256_DIGEST_LENGTH; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	if (strcmp(hex, parent->manifest_sha256) != 0)
		wa_backup_error(b, "parent",
						errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("the manifest of backup \"%s\" is not the one that it was taken with", parent->label),
						errhint("Verify that backup with walarchive.verify_backup, and take a full one."));
	wa_put_copy_end(b->connection);
	pfree(chunk);
}

void
wa_send_parent(WaBackup *b)
{
	WaBackupInfo *parent = palloc0(sizeof(WaBackupInfo));
	PGresult *result;

	if (b->connection->server.version < 170000)
		wa_backup_error(b, "version_unsupported",
						errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("incremental backups need a server of PostgreSQL 17 or newer, and this one is %d",
							   b->connection->server.version / 10000),
						errhint("Take a full backup."));
	choose_parent(b, parent);
	strlcpy(b->info.parent, parent->label, sizeof(b->info.parent));
	strlcpy(b->stat.parent, parent->label, sizeof(b->stat.parent));
	b->parent_stop = parent->stop_lsn;
	wa_backup_phase(b, WA_BACKUP_MANIFEST);

	b->connection->timeout_ms = UPLOAD_TIMEOUT_MS;
	result = wa_exec(b->connection, "UPLOAD_MANIFEST");
	if (PQresultStatus(result) == PGRES_COPY_IN)
	{
		PQclear(result);
		send_manifest(b, parent);
		result = wa_get_result(b->connection);
	}
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
	{
		b->word = "server_error";
		wa_raise_result(b->connection, result, WA_CAUSE_OTHER, "the server did not take the parent's manifest");
	}
	PQclear(result);
	wa_drain_results(b->connection);
}
