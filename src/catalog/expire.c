/*-------------------------------------------------------------------------
 *
 * expire.c
 *	  Retention: removes the WAL that expire() has decided upon; see
 *	  schema/expire.sql for the decision.
 *
 * Runs in the indexer that holds the source's claim.  Order, for each timeline:
 *
 *	1. the backups that go have gone from disk and catalog;
 *	2. a line "expired" of the journal says up to where WAL goes, and is durable:
 *	   from then on nobody misses it, even if the catalog is lost;
 *	3. files are removed, the oldest first, a batch in one short transaction that
 *	   asks again whether all of them may go, and takes them out of the catalog;
 *	4. their lines are dropped from wal.sha256, which is replaced as a whole.
 *
 * A crash at any place leaves an order in the catalog, which is gone on with, or
 * files that nobody needs, which the next expire() finds.  Never removed are
 * histories, and what a receiver may still write to.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_type.h"
#include "common/file_perm.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "../base/sum_line.h"
#include "../state/archive_dir.h"
#include "../state/backup_file.h"
#include "../state/backup_slot.h"
#include "../state/fault_point.h"
#include "../state/journal.h"
#include "../state/source_file.h"
#include "../state/stat_functions.h"
#include "catalog.h"
#include "wal_hash.h"

/* Files that one transaction removes at most. */
#define REMOVE_FILES 100

/* wal.sha256 is written anew in pieces of this size. */
#define SUMS_PIECE (256 * 1024)

#define UNDER_WAY_COLUMNS 5

PG_FUNCTION_INFO_V1(wa_backup_folders);
PG_FUNCTION_INFO_V1(wa_backup_under_way);

/* What is to be done, as next_removal says. */
typedef struct Removal
{
	char what[16];
	uint64 sysid;
	TimeLineID tli;
	XLogRecPtr from_lsn;
	XLogRecPtr to_lsn;
	int64 files;
} Removal;

/* WAL of a timeline before 'to' was removed. */
typedef struct RemovedWal
{
	TimeLineID tli;
	XLogRecPtr to;
} RemovedWal;

/* Ask what is next; false if there is nothing. */
static bool
next_removal(const char *source, Removal *r)
{
	Oid types[1] = {TEXTOID};
	Datum values[1];
	bool found;

	memset(r, 0, sizeof(*r));
	wa_catalog_begin("looking for what has expired");
	values[0] = CStringGetTextDatum(source);
	if (SPI_execute_with_args("SELECT n.what, n.system_identifier, n.timeline, n.from_lsn, n.to_lsn, n.files "
							  "FROM walarchive.next_removal($1) n",
							  1, types, values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "query of the indexer failed");
	found = (SPI_processed == 1);
	if (found)
	{
		HeapTuple row = SPI_tuptable->vals[0];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool isnull;
		Datum value;

		strlcpy(r->what, SPI_getvalue(row, desc, 1), sizeof(r->what));
		r->sysid = (uint64) DatumGetInt64(SPI_getbinval(row, desc, 2, &isnull));
		value = SPI_getbinval(row, desc, 3, &isnull);
		r->tli = isnull ? 0 : (TimeLineID) DatumGetInt32(value);
		value = SPI_getbinval(row, desc, 4, &isnull);
		r->from_lsn = isnull ? 0 : DatumGetLSN(value);
		value = SPI_getbinval(row, desc, 5, &isnull);
		r->to_lsn = isnull ? 0 : DatumGetLSN(value);
		value = SPI_getbinval(row, desc, 6, &isnull);
		r->files = isnull ? 0 : DatumGetInt64(value);
	}
	wa_catalog_commit();
	return found;
}

/*
 * Say in the journal, durably, which WAL goes, and have the catalog know it
 * before the first file is gone.
 */
static void
journal_removal(const char *source, const Removal *r)
{
	WaJournalEntry *e = palloc0(sizeof(WaJournalEntry));
	Oid types[4] = {TEXTOID, INT8OID, INT4OID, PG_LSNOID};
	Datum values[4];
	bool full;

	e->time = GetCurrentTimestamp();
	strlcpy(e->kind, "expired", sizeof(e->kind));
	strlcpy(e->severity, "info", sizeof(e->severity));
	snprintf(e->message, sizeof(e->message),
			 "WAL of timeline %u before %X/%X is needed by nothing that is kept, and is being removed: " INT64_FORMAT " file(s)",
			 r->tli, LSN_FORMAT_ARGS(r->to_lsn), r->files);
	e->system_identifier = r->sysid;
	e->tli = r->tli;
	e->has_range = true;
	e->from_lsn = r->from_lsn;
	e->to_lsn = r->to_lsn;
	if (wa_journal_append(source, e) == 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write to the journal of source \"%s\": %m", source),
				 errdetail("No WAL is removed before the journal says so.")));
	pfree(e);
	(void) wa_register_journal(source, &full);

	wa_catalog_begin("noting what has expired");
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) r->sysid);
	values[2] = Int32GetDatum((int32) r->tli);
	values[3] = LSNGetDatum(r->to_lsn);
	(void) wa_catalog_call("SELECT walarchive.note_removal_journaled($1, $2, $3, $4)", 4, types, values, NULL);
	wa_catalog_commit();
}

/* Remove a segment and what a crash may have left beside it; it may be gone. */
static void
remove_segment(const char *wal_dir, const char *name, uint32 segment_size)
{
	static const char *const suffix[] = {".partial", ""};
	TimeLineID tli;
	uint64 segno;

	/* never a path, a history or anything else that is no segment's name */
	if (wa_parse_wal_name(name, segment_size, &tli, &segno) != WA_FILE_SEGMENT)
		elog(ERROR, "\"%s\" is no name of a segment", name);
	for (int i = 0; i < lengthof(suffix); i++)
	{
		char path[MAXPGPATH * 2];

		snprintf(path, sizeof(path), "%s/%s%s", wal_dir, name, suffix[i]);
		if (WA_FAULT(EXPIRE_REMOVE, unlink(path)) != 0 && errno != ENOENT)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not remove file \"%s\": %m", path)));
	}
}

static void
sync_directory(const char *path)
{
	int fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);

	/* the host's own fsync = off is not for the archive */
	if (fd < 0 || WA_FAULT(EXPIRE_FSYNC, fsync(fd)) != 0 || CloseTransientFile(fd) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not fsync directory \"%s\": %m", path)));
}

/*
 * Remove a batch of files, and take them out of the catalog, in one
 * transaction: see take_removal.
 */
static void
remove_files(const char *source, const Removal *r, uint32 segment_size)
{
	Oid types[4] = {TEXTOID, INT8OID, INT4OID, INT4OID};
	Datum values[4];
	char wal_dir[MAXPGPATH];

	wa_wal_path(wal_dir, source, r->sysid);
	wa_catalog_begin("removing WAL that has expired");
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) r->sysid);
	values[2] = Int32GetDatum((int32) r->tli);
	values[3] = Int32GetDatum(REMOVE_FILES);
	if (SPI_execute_with_args("SELECT t.name FROM walarchive.take_removal($1, $2, $3, $4) t",
							  4, types, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "query of the indexer failed");
	for (uint64 i = 0; i < SPI_processed; i++)
		remove_segment(wal_dir, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1), segment_size);
	if (SPI_processed > 0)
		sync_directory(wal_dir);
	wa_catalog_commit();
}

/* ---- wal.sha256 ---- */

/* Up to where WAL of the cluster's timelines was removed; palloc'd. */
static RemovedWal *
read_removed(const char *source, uint64 sysid, int *count)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid types[2] = {TEXTOID, INT8OID};
	Datum values[2];
	RemovedWal *removed;

	wa_catalog_begin("looking for what has expired");
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) sysid);
	if (SPI_execute_with_args("SELECT w.timeline, w.to_lsn FROM walarchive.removed_wal w "
							  "WHERE w.source OPERATOR(pg_catalog.=) $1 AND w.system_identifier OPERATOR(pg_catalog.=) $2",
							  2, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "query of the indexer failed");
	*count = (int) SPI_processed;
	removed = MemoryContextAlloc(caller, (*count + 1) * sizeof(RemovedWal));
	for (int i = 0; i < *count; i++)
	{
		bool isnull;

		removed[i].tli = (TimeLineID) DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		removed[i].to = DatumGetLSN(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
	}
	wa_catalog_commit();
	return removed;
}

/* Is this the line of a segment that was removed, and is not there? */
static bool
line_is_dropped(const char *source, uint64 sysid, uint32 segment_size, const WaSumLine *line,
				const RemovedWal *removed, int count)
{
	TimeLineID tli;
	uint64 segno;
	char partial[WA_WAL_NAME_LEN + 16];

	if (!line->valid || wa_parse_wal_name(line->name, segment_size, &tli, &segno) != WA_FILE_SEGMENT)
		return false;
	for (int i = 0; i < count; i++)
	{
		if (removed[i].tli != tli || wa_segment_start(segno, segment_size) >= removed[i].to)
			continue;
		snprintf(partial, sizeof(partial), "%s.partial", line->name);
		return wa_wal_file_size(source, sysid, line->name) < 0 &&
			   wa_wal_file_size(source, sysid, partial) < 0;
	}
	return false;
}

static void
write_piece(int fd, const char *path, StringInfo piece, off_t *end)
{
	int done = 0;

	while (done < piece->len)
	{
		ssize_t n;

		errno = 0;
		n = WA_FAULT(EXPIRE_SUMS_WRITE, pwrite(fd, piece->data + done, WA_SHORT(piece->len - done), *end));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			if (errno == 0)
				errno = ENOSPC;
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not write file \"%s\": %m", path)));
		}
		done += (int) n;
		*end += n;
	}
	resetStringInfo(piece);
}

/*
 * Write wal.sha256 without the lines of removed files to 'path', durably.
 * Returns its size; '*dropped' lines are not in it.  What was in it that is no
 * line stays: it is for verify() to tell.
 */
static uint64
write_sums(const char *source, uint64 sysid, uint32 segment_size, const char *path,
		   const RemovedWal *removed, int count, int64 *dropped)
{
	uint64 size;
	uint64 at = 0;
	off_t end = 0;
	StringInfoData piece;
	StringInfoData raw;
	FILE *sums = wa_open_sums(source, sysid, &size);
	int fd;

	*dropped = 0;
	if (sums == NULL)
		return 0;
	if (WA_FAULT(EXPIRE_SUMS_REMOVE, unlink(path)) != 0 && errno != ENOENT)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not remove file \"%s\": %m", path)));
	fd = WA_FAULT(EXPIRE_SUMS_CREATE, OpenTransientFilePerm(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | PG_BINARY, pg_file_create_mode));
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\": %m", path)));
	initStringInfo(&piece);
	initStringInfo(&raw);
	while (at < size)
	{
		WaSumLine line;

		CHECK_FOR_INTERRUPTS();
		if (!wa_next_sum(sums, at, &line))
			break;
		if (line_is_dropped(source, sysid, segment_size, &line, removed, count))
			(*dropped)++;
		else if (line.valid)
		{
			char text[WA_SUM_LINE_LEN];

			wa_write_sum_line(text, line.sha256, line.name);
			appendStringInfoString(&piece, text);
		}
		else
		{
			/* byte for byte */
			resetStringInfo(&raw);
			enlargeStringInfo(&raw, (int) Min(line.next - at, MaxAllocSize / 2));
			if (line.next - at > MaxAllocSize / 2 || fseeko(sums, (off_t) at, SEEK_SET) != 0 ||
				fread(raw.data, 1, line.next - at, sums) != line.next - at)
				ereport(ERROR,
						(errcode(ERRCODE_DATA_CORRUPTED),
						 errmsg("could not read checksums of source \"%s\"", source)));
			appendBinaryStringInfo(&piece, raw.data, (int) (line.next - at));
		}
		if (piece.len >= SUMS_PIECE)
			write_piece(fd, path, &piece, &end);
		at = line.next;
	}
	write_piece(fd, path, &piece, &end);
	if (WA_FAULT(EXPIRE_SUMS_FSYNC, fsync(fd)) != 0 || CloseTransientFile(fd) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not fsync file \"%s\": %m", path)));
	FreeFile(sums);
	pfree(piece.data);
	pfree(raw.data);
	return (uint64) end;
}

/*
 * Take the lines of removed files out of wal.sha256 and out of the catalog.
 * Nobody else writes to the file: the caller holds the source's claim.
 */
static void
drop_sums(const char *source, uint64 sysid, uint32 segment_size)
{
	char path[MAXPGPATH];
	char made[MAXPGPATH + 8];
	char cluster[MAXPGPATH];
	Oid types[5] = {TEXTOID, INT8OID, TEXTARRAYOID, TEXTARRAYOID, INT8OID};
	Datum values[5];
	char nulls[6] = "     ";
	ArrayBuildState *first = NULL;
	ArrayBuildState *behind = NULL;
	RemovedWal *removed;
	int count;
	int64 known;
	int64 dropped = 0;
	uint64 old_size = 0;
	uint64 size = 0;
	FILE *sums;

	removed = read_removed(source, sysid, &count);
	if (count == 0)
		return;
	wa_sums_path(path, source, sysid);
	snprintf(made, sizeof(made), "%s.tmp", path);
	wa_cluster_path(cluster, source, sysid);

	/* something else in its place is told by whoever computes checksums */
	if (wa_sums_problem(source, sysid) == NULL &&
		(sums = wa_open_sums(source, sysid, &old_size)) != NULL)
	{
		FreeFile(sums);
		size = write_sums(source, sysid, segment_size, made, removed, count, &dropped);
		if (dropped == 0)
			(void) unlink(made);
	}

	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) sysid);
	nulls[4] = 'n';
	if (dropped > 0)
	{
		wa_catalog_begin("dropping checksums of removed WAL");
		known = wa_catalog_call("SELECT walarchive.sums_position($1, $2)", 2, types, values, NULL);
		(void) wa_catalog_call("SELECT walarchive.begin_dropping_sums($1, $2)", 2, types, values, NULL);
		wa_catalog_commit();
		if (WA_FAULT(EXPIRE_SUMS_RENAME, rename(made, path)) != 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not rename file \"%s\" to \"%s\": %m", made, path)));
		sync_directory(cluster);
		if (known == (int64) old_size)
		{
			values[4] = Int64GetDatum((int64) size);
			nulls[4] = ' ';
		}
	}

	wa_catalog_begin("dropping checksums of removed WAL");
	for (int i = 0; i < count; i++)
	{
		char name[WA_WAL_NAME_LEN];

		wa_segment_name(name, removed[i].tli, 0, segment_size);
		first = accumArrayResult(first, CStringGetTextDatum(name), false, TEXTOID, CurrentMemoryContext);
		wa_segment_name(name, removed[i].tli, wa_segment_of(removed[i].to, segment_size), segment_size);
		behind = accumArrayResult(behind, CStringGetTextDatum(name), false, TEXTOID, CurrentMemoryContext);
	}
	values[2] = makeArrayResult(first, CurrentMemoryContext);
	values[3] = makeArrayResult(behind, CurrentMemoryContext);
	(void) wa_catalog_call("SELECT walarchive.finish_dropping_sums($1, $2, $3, $4, $5)", 5, types, values, nulls);
	wa_catalog_commit();
	pfree(removed);
}

/* ---- the step ---- */

bool
wa_remove_expired(const char *source)
{
	Removal r;
	uint32 segment_size;

	if (!next_removal(source, &r))
		return false;
	if (!wa_read_cluster_file(source, r.sysid, &segment_size))
	{
		/* a full pass forgets the cluster if its folder is gone */
		ereport(LOG,
				(errmsg("cluster " UINT64_FORMAT " of source \"%s\" has no cluster.json, nothing of it is removed",
						r.sysid, source)));
		return false;
	}
	if (strcmp(r.what, "journal") == 0)
		journal_removal(source, &r);
	else if (strcmp(r.what, "files") == 0)
		remove_files(source, &r, segment_size);
	else
	{
		Oid types[2] = {TEXTOID, INT8OID};
		Datum values[2];
		int64 done;

		drop_sums(source, r.sysid, segment_size);
		wa_catalog_begin("noting what was removed");
		values[0] = CStringGetTextDatum(source);
		values[1] = Int64GetDatum((int64) r.sysid);
		done = wa_catalog_call("SELECT walarchive.finish_removal($1, $2)", 2, types, values, NULL);
		wa_catalog_commit();
		return done > 0;
	}
	return true;
}

bool
wa_wal_was_removed(const char *source, uint64 sysid, TimeLineID tli, XLogRecPtr start)
{
	Oid types[4] = {TEXTOID, INT8OID, INT4OID, PG_LSNOID};
	Datum values[4];
	bool removed;

	wa_catalog_begin("looking for what has expired");
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) sysid);
	values[2] = Int32GetDatum((int32) tli);
	values[3] = LSNGetDatum(start);
	removed = wa_catalog_call("SELECT walarchive.wal_was_removed($1, $2, $3, $4)", 4, types, values, NULL) != 0;
	wa_catalog_commit();
	return removed;
}

/* ---- what SQL asks ---- */

/* walarchive.backup_folders(source, system_identifier) */
Datum
wa_backup_folders(PG_FUNCTION_ARGS)
{
	char *source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	ArrayBuildState *labels = NULL;
	ListCell *cell;

	wa_require_preload();
	if (!wa_source_name_is_valid(source))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid source name \"%s\"", source)));
	foreach (cell, wa_list_backups(source, (uint64) PG_GETARG_INT64(1), ""))
		labels = accumArrayResult(labels, CStringGetTextDatum((char *) lfirst(cell)), false, TEXTOID,
								  CurrentMemoryContext);
	if (labels == NULL)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(TEXTOID));
	PG_RETURN_DATUM(makeArrayResult(labels, CurrentMemoryContext));
}

/* walarchive.backup_under_way(source) */
Datum
wa_backup_under_way(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = wa_begin_rows(fcinfo, UNDER_WAY_COLUMNS);
	char *source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int entry = wa_find_backup(source);
	WaBackupRequest *request = palloc(sizeof(WaBackupRequest));
	WaBackupStat *stat = palloc(sizeof(WaBackupStat));
	const char *parent;
	Datum values[UNDER_WAY_COLUMNS] = {0};
	bool nulls[UNDER_WAY_COLUMNS] = {0};

	if (entry < 0 || wa_read_backup(entry, request, stat) == 0)
		return (Datum) 0;
	/* how it ended is in its folder, or there is none */
	if (stat->phase == WA_BACKUP_DONE || stat->phase == WA_BACKUP_FAILED)
		return (Datum) 0;
	parent = stat->parent[0] != '\0' ? stat->parent : request->parent;
	values[0] = CStringGetTextDatum(request->label);
	values[1] = Int64GetDatum((int64) stat->system_identifier);
	nulls[1] = (stat->system_identifier == 0);
	values[2] = Int32GetDatum((int32) stat->tli);
	nulls[2] = (stat->tli == 0);
	values[3] = LSNGetDatum(stat->start_lsn);
	nulls[3] = (stat->start_lsn == 0);
	values[4] = CStringGetTextDatum(parent);
	nulls[4] = (!request->incremental || parent[0] == '\0');
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	return (Datum) 0;
}
