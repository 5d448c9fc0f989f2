/*-------------------------------------------------------------------------
 *
 * backup_rows.c
 *	  Base backups: folders -> catalog, notes of the catalog -> folders, and the
 *	  removal of what is to go.
 *
 * Run by the indexer that holds the source's claim.  Files are read and written
 * outside of transactions.  The order of a removal: the row says "deleting"
 * (committed by a session); the folder is renamed to <label>.deleted, durably,
 * and removed; the journal says so; the row goes.  A crash in between leaves
 * what the next pass goes on with: a row, or a folder whose name says all.
 *
 * A folder <label>.tmp while nobody holds <source>/backup.lock is what a crash
 * has left of an attempt: it is told as failed, and removed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "port/atomics.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "../state/archive_dir.h"
#include "../state/backup_file.h"
#include "../state/backup_slot.h"
#include "../state/journal.h"
#include "../state/source_file.h"
#include "catalog.h"

#define MAX_CLUSTERS 64

PG_FUNCTION_INFO_V1(wa_archive_backups);
PG_FUNCTION_INFO_V1(wa_backup_in_use);
PG_FUNCTION_INFO_V1(wa_backup_running);

/* A row of walarchive.backup_chores. */
typedef struct Chore
{
	uint64 sysid;
	char label[WA_BACKUP_LABEL_LEN];
	char what[16];
	int64 revision;
	WaBackupNotes notes;
	char *reason; /* NULL: none */
} Chore;

/* ---- folders as JSON ---- */

static void
member(StringInfo s, const char *name)
{
	if (s->data[s->len - 1] != '{')
		appendStringInfoChar(s, ',');
	appendStringInfo(s, "\"%s\":", name);
}

static void
text_member(StringInfo s, const char *name, const char *value)
{
	member(s, name);
	escape_json(s, wa_clean_text(value));
}

static void
lsn_member(StringInfo s, const char *name, XLogRecPtr lsn)
{
	member(s, name);
	appendStringInfo(s, "\"%X/%X\"", LSN_FORMAT_ARGS(lsn));
}

/* 0 is no time */
static void
time_member(StringInfo s, const char *name, TimestampTz time)
{
	char stamp[WA_UTC_LEN];

	if (time == 0)
		return;
	if (TIMESTAMP_IS_NOEND(time))
		strlcpy(stamp, "infinity", sizeof(stamp));
	else
		wa_format_utc(time, stamp, sizeof(stamp));
	text_member(s, name, stamp);
}

static void
number_member(StringInfo s, const char *name, uint64 value)
{
	member(s, name);
	appendStringInfo(s, INT64_FORMAT, (int64) Min(value, (uint64) PG_INT64_MAX));
}

/* What backup.json in the folder says, or why it can't be read. */
static void
info_members(StringInfo s, const char *folder, uint64 sysid)
{
	WaBackupInfo info;
	char *problem;

	if (!wa_read_backup_info(folder, &info, &problem))
	{
		text_member(s, "problem", problem);
		return;
	}
	if (info.system_identifier != sysid)
	{
		text_member(s, "problem",
					psprintf("backup.json is of the cluster " UINT64_FORMAT, info.system_identifier));
		return;
	}
	/* the catalog's timelines are integers, as PostgreSQL's own are */
	if (info.tli > PG_INT32_MAX || info.stop_tli > PG_INT32_MAX)
	{
		text_member(s, "problem", "backup.json names a timeline that can't be");
		return;
	}
	text_member(s, "kind", info.incremental ? "incremental" : "full");
	if (info.incremental)
		text_member(s, "parent", info.parent);
	number_member(s, "timeline", info.tli);
	lsn_member(s, "start_lsn", info.start_lsn);
	number_member(s, "stop_timeline", info.stop_tli);
	lsn_member(s, "stop_lsn", info.stop_lsn);
	lsn_member(s, "consistent_lsn", info.consistent_lsn);
	time_member(s, "started_at", info.started_at);
	time_member(s, "finished_at", info.finished_at);
	number_member(s, "server_version", (uint64) info.server_version);
	member(s, "from_standby");
	appendStringInfoString(s, info.from_standby ? "true" : "false");
	text_member(s, "compression", info.compression);
	text_member(s, "checksum_algorithm", info.checksum_algorithm);
	text_member(s, "manifest_sha256", info.manifest_sha256);
	number_member(s, "size", info.size);
	number_member(s, "data_size", info.data_size);
	number_member(s, "files", info.files);
	number_member(s, "checksum_failures", info.checksum_failures);
	text_member(s, "tablespaces", info.tablespaces);
	pfree(info.tablespaces);
}

static void
notes_members(StringInfo s, const char *folder)
{
	WaBackupNotes *notes = palloc(sizeof(WaBackupNotes));
	char *problem;

	if (!wa_read_backup_notes(folder, notes, &problem))
	{
		text_member(s, "notes_problem", problem);
		pfree(notes);
		return;
	}
	time_member(s, "pinned_until", notes->pinned_until);
	if (notes->pin_note[0] != '\0')
		text_member(s, "pin_note", notes->pin_note);
	if (notes->annotation[0] != '\0')
		text_member(s, "annotation", notes->annotation);
	time_member(s, "verified_at", notes->verified_at);
	if (notes->damage[0] != '\0')
		text_member(s, "damage", notes->damage);
	pfree(notes);
}

/* The whole backups of a cluster as walarchive.register_backups wants them. */
static char *
backups_json(const char *source, uint64 sysid)
{
	StringInfoData s;
	ListCell *lc;

	initStringInfo(&s);
	appendStringInfoChar(&s, '[');
	foreach (lc, wa_list_backups(source, sysid, ""))
	{
		const char *label = lfirst(lc);
		char folder[MAXPGPATH];

		CHECK_FOR_INTERRUPTS();
		wa_backup_path(folder, source, sysid, label, "");
		appendStringInfoString(&s, s.len > 1 ? ",{" : "{");
		text_member(&s, "label", label);
		info_members(&s, folder, sysid);
		notes_members(&s, folder);
		appendStringInfoChar(&s, '}');
	}
	appendStringInfoChar(&s, ']');
	return s.data;
}

/* walarchive.archive_backups(source, system_identifier) */
Datum
wa_archive_backups(PG_FUNCTION_ARGS)
{
	char *source = text_to_cstring(PG_GETARG_TEXT_PP(0));

	wa_require_preload();
	if (!wa_source_name_is_valid(source))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid source name \"%s\"", source)));
	return DirectFunctionCall1(jsonb_in,
							   CStringGetDatum(backups_json(source, (uint64) PG_GETARG_INT64(1))));
}

/* ---- is a backup that builds on it being taken? ---- */

static bool
is_in_use(const char *source, uint64 sysid, const char *label)
{
	WaBackupRequest *request = palloc(sizeof(WaBackupRequest));
	WaBackupStat *stat = palloc(sizeof(WaBackupStat));
	bool found = false;

	for (int i = 0; i < WA_BACKUP_ENTRIES && !found; i++)
	{
		if (wa_read_backup(i, request, stat) == 0 || strcmp(request->source, source) != 0 ||
			stat->phase >= WA_BACKUP_DONE ||
			(stat->system_identifier != 0 && stat->system_identifier != sysid))
			continue;
		/* until it has chosen, the one that was asked for */
		found = strcmp(stat->parent[0] != '\0' ? stat->parent : request->parent, label) == 0;
	}
	pfree(request);
	pfree(stat);
	return found;
}

/* walarchive.backup_in_use(source, system_identifier, label) */
Datum
wa_backup_in_use(PG_FUNCTION_ARGS)
{
	wa_require_preload();
	PG_RETURN_BOOL(is_in_use(text_to_cstring(PG_GETARG_TEXT_PP(0)), (uint64) PG_GETARG_INT64(1),
							 text_to_cstring(PG_GETARG_TEXT_PP(2))));
}

/* walarchive.backup_running(source) */
Datum
wa_backup_running(PG_FUNCTION_ARGS)
{
	wa_require_preload();
	PG_RETURN_BOOL(wa_find_backup(text_to_cstring(PG_GETARG_TEXT_PP(0))) >= 0);
}

/* ---- the journal ---- */

static void
tell(const char *source, uint64 sysid, const char *label, const char *kind,
	 const char *severity, const char *message)
{
	WaJournalEntry *entry = palloc0(sizeof(WaJournalEntry));
	bool full = false;

	entry->time = GetCurrentTimestamp();
	strlcpy(entry->kind, kind, sizeof(entry->kind));
	strlcpy(entry->severity, severity, sizeof(entry->severity));
	strlcpy(entry->message, message, sizeof(entry->message));
	entry->system_identifier = sysid;
	strlcpy(entry->label, label, sizeof(entry->label));
	if (wa_journal_append(source, entry) == 0)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write the journal of source \"%s\": %m", source)));
	else
		(void) wa_register_journal(source, &full);
	pfree(entry);
}

/* ---- folders -> catalog ---- */

/* The backups of one cluster; those whose folders are gone are told of. */
static void
register_cluster(const char *source, uint64 sysid)
{
	char *json = backups_json(source, sysid);
	Oid types[3] = {TEXTOID, INT8OID, JSONBOID};
	Datum values[3];
	MemoryContext caller = CurrentMemoryContext;
	List *gone = NIL;
	ListCell *lc;
	Datum array;
	bool isnull;

	wa_catalog_begin("registering backups");
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) sysid);
	values[2] = DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
	if (SPI_execute_with_args("SELECT gone FROM walarchive.register_backups($1, $2, $3)",
							  3, types, values, NULL, false, 0) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "query of the indexer failed");
	array = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
	{
		Datum *labels;
		int count;

		deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT,
						  &labels, NULL, &count);
		for (int i = 0; i < count; i++)
		{
			MemoryContext old = MemoryContextSwitchTo(caller);

			gone = lappend(gone, TextDatumGetCString(labels[i]));
			MemoryContextSwitchTo(old);
		}
	}
	wa_catalog_commit();
	foreach (lc, gone)
	{
		ereport(WARNING,
				(errmsg("the folder of backup \"%s\" of source \"%s\" is gone", (char *) lfirst(lc), source),
				 errhint("Remove backups by walarchive.delete_backup or walarchive.expire.")));
		tell(source, sysid, lfirst(lc), "backup_lost", "warning", "the folder of the backup is gone");
	}
}

/* Rename what is left of attempts, so that nobody takes it for one. */
static void
doom_attempts(const char *source, uint64 sysid)
{
	ListCell *lc;

	foreach (lc, wa_list_backups(source, sysid, WA_BACKUP_RUNNING_SUFFIX))
	{
		const char *label = lfirst(lc);

		/* the line first: without it nobody would know why it is gone */
		tell(source, sysid, label, "backup_failed", "warning",
			 "interrupted by a crash or restart of the archive host");
		wa_doom_backup(source, sysid, label, WA_BACKUP_RUNNING_SUFFIX);
	}
}

/*
 * The same if nobody takes a backup.  Who wants to has to wait for no more than
 * the renames.
 */
static pg_noinline void
doom_unlocked_attempts(const char *source, uint64 sysid)
{
	char path[MAXPGPATH];
	int lock;

	wa_source_file_path(path, source, "backup.lock");
	lock = wa_lock_file(path);
	if (lock < 0)
		return;
	PG_TRY();
	{
		/* looked at again, because one may have ended just now */
		doom_attempts(source, sysid);
	}
	PG_FINALLY();
	{
		close(lock);
	}
	PG_END_TRY();
}

/* What a crash has left: unfinished attempts, and folders half removed. */
static void
remove_leftovers(const char *source, uint64 sysid)
{
	ListCell *lc;

	if (wa_list_backups(source, sysid, WA_BACKUP_RUNNING_SUFFIX) != NIL)
		doom_unlocked_attempts(source, sysid);
	foreach (lc, wa_list_backups(source, sysid, WA_BACKUP_DELETED_SUFFIX))
		wa_remove_doomed_backup(source, sysid, lfirst(lc));
}

void
wa_register_backups(int slot, const char *source, bool full)
{
	WaSourceSlot *shared = &wa_shared->slot[slot];
	uint64 written = pg_atomic_read_u64(&shared->backups_written);
	uint64 sysids[MAX_CLUSTERS];
	int count;

	if (!full && written == pg_atomic_read_u64(&shared->backups_indexed))
		return;
	count = Min(wa_list_clusters(source, sysids, MAX_CLUSTERS), MAX_CLUSTERS);
	for (int i = 0; i < count; i++)
	{
		if (full)
			remove_leftovers(source, sysids[i]);
		register_cluster(source, sysids[i]);
	}
	pg_atomic_write_u64(&shared->backups_indexed, written);
}

/* ---- catalog -> folders ---- */

static void
copy_text(char *to, size_t size, HeapTuple row, TupleDesc desc, int column)
{
	char *text = SPI_getvalue(row, desc, column);

	to[0] = '\0';
	if (text != NULL)
		strlcpy(to, text, pg_mbcliplen(text, strlen(text), (int) size - 1) + 1);
}

static TimestampTz
get_time(HeapTuple row, TupleDesc desc, int column)
{
	bool isnull;
	Datum value = SPI_getbinval(row, desc, column, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(value);
}

/* All chores of the source, in the caller's memory context. */
static List *
read_chores(const char *source)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid types[1] = {TEXTOID};
	Datum values[1];
	List *chores = NIL;

	wa_catalog_begin("looking for changed backups");
	values[0] = CStringGetTextDatum(source);
	if (SPI_execute_with_args("SELECT system_identifier, label, what, revision, pinned_until, pin_note, "
							  "annotation, verified_at, damage, reason FROM walarchive.backup_chores($1)",
							  1, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "query of the indexer failed");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		Chore *c = MemoryContextAllocZero(caller, sizeof(Chore));
		char *reason = SPI_getvalue(row, desc, 10);
		MemoryContext old;
		bool isnull;

		c->sysid = (uint64) DatumGetInt64(SPI_getbinval(row, desc, 1, &isnull));
		copy_text(c->label, sizeof(c->label), row, desc, 2);
		copy_text(c->what, sizeof(c->what), row, desc, 3);
		c->revision = DatumGetInt64(SPI_getbinval(row, desc, 4, &isnull));
		c->notes.pinned_until = get_time(row, desc, 5);
		copy_text(c->notes.pin_note, sizeof(c->notes.pin_note), row, desc, 6);
		copy_text(c->notes.annotation, sizeof(c->notes.annotation), row, desc, 7);
		c->notes.verified_at = get_time(row, desc, 8);
		copy_text(c->notes.damage, sizeof(c->notes.damage), row, desc, 9);
		old = MemoryContextSwitchTo(caller);
		if (reason != NULL)
			c->reason = pstrdup(reason);
		/* rows are no more trusted than what is received: labels become paths */
		if (wa_backup_label_is_valid(c->label))
			chores = lappend(chores, c);
		MemoryContextSwitchTo(old);
	}
	wa_catalog_commit();
	return chores;
}

static void
write_notes(const char *source, const Chore *c)
{
	char folder[MAXPGPATH];
	Oid types[4] = {TEXTOID, INT8OID, TEXTOID, INT8OID};
	Datum values[4];

	wa_backup_path(folder, source, c->sysid, c->label, "");
	/* one that is gone is found by the next full pass */
	if (access(folder, F_OK) != 0 && errno == ENOENT)
		return;
	wa_write_backup_notes(folder, &c->notes);
	wa_catalog_begin("notes of a backup are written");
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) c->sysid);
	values[2] = CStringGetTextDatum(c->label);
	values[3] = Int64GetDatum(c->revision);
	(void) wa_catalog_call("SELECT walarchive.backup_notes_written($1, $2, $3, $4)", 4, types, values, NULL);
	wa_catalog_commit();
}

static void
remove_backup(const char *source, const Chore *c)
{
	Oid types[3] = {TEXTOID, INT8OID, TEXTOID};
	Datum values[3];

	if (strcmp(c->what, "forget") != 0)
	{
		wa_doom_backup(source, c->sysid, c->label, "");
		wa_remove_doomed_backup(source, c->sysid, c->label);
	}
	/* first, so that a rebuild of the catalog does not find a failed attempt again */
	tell(source, c->sysid, c->label, "backup_deleted", "info", c->reason ? c->reason : "deleted");
	wa_catalog_begin("forgetting a backup");
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) c->sysid);
	values[2] = CStringGetTextDatum(c->label);
	(void) wa_catalog_call("SELECT walarchive.backup_removed($1, $2, $3)", 3, types, values, NULL);
	wa_catalog_commit();
}

void
wa_backup_chores(int slot, const char *source, bool full)
{
	WaSourceSlot *shared = &wa_shared->slot[slot];
	uint64 seen = pg_atomic_read_u64(&wa_shared->host.catalog_changes);
	bool left = false;
	ListCell *lc;

	if (!full && seen == pg_atomic_read_u64(&shared->backups_mirrored))
		return;
	foreach (lc, read_chores(source))
	{
		const Chore *c = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (strcmp(c->what, "notes") == 0)
			write_notes(source, c);
		/* one that is taken now may have chosen it before the row said so */
		else if (is_in_use(source, c->sysid, c->label))
			left = true;
		else
			remove_backup(source, c);
	}
	if (!left)
		pg_atomic_write_u64(&shared->backups_mirrored, seen);
}
