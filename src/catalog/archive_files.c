/*-------------------------------------------------------------------------
 *
 * archive_files.c
 *	  Reading the archive directory for the catalog: lists of WAL files,
 *	  histories, the journal; in C for the indexer and as SQL functions for
 *	  rescan().
 *
 * Nothing here writes.  A file that vanishes while the directory is read was
 * renamed or removed by somebody whose news come by another way: it is left
 * out.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dirent.h>
#include <sys/stat.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "../base/history.h"
#include "../state/archive_dir.h"
#include "../state/journal.h"
#include "../state/source_file.h"
#include "../state/stat_functions.h"
#include "catalog.h"

#define MAX_HISTORY_LEN (1024 * 1024)
#define MAX_CLUSTERS 64
#define FILE_COLUMNS 7
#define CLUSTER_COLUMNS 2
#define JOURNAL_COLUMNS 14

PG_FUNCTION_INFO_V1(wa_archive_files);
PG_FUNCTION_INFO_V1(wa_archive_clusters);
PG_FUNCTION_INFO_V1(wa_archive_file_exists);
PG_FUNCTION_INFO_V1(wa_journal_lines);

/* By timeline, history first, segment, finished before partial. */
static int
compare_files(const void *a, const void *b)
{
	const WaArchiveFile *x = a;
	const WaArchiveFile *y = b;
	bool x_history = (x->kind == WA_FILE_HISTORY);
	bool y_history = (y->kind == WA_FILE_HISTORY);

	if (x->tli != y->tli)
		return x->tli < y->tli ? -1 : 1;
	if (x_history != y_history)
		return x_history ? -1 : 1;
	if (x->segno != y->segno)
		return x->segno < y->segno ? -1 : 1;
	return (int) x->kind - (int) y->kind;
}

static void
add_file(WaFileList *list, const WaArchiveFile *file)
{
	if (list->count == list->allocated)
	{
		list->allocated = Max(1024, list->allocated * 2);
		if (list->file == NULL)
			list->file = MemoryContextAllocHuge(CurrentMemoryContext,
												list->allocated * sizeof(WaArchiveFile));
		else
			list->file = repalloc_huge(list->file,
									   list->allocated * sizeof(WaArchiveFile));
	}
	list->file[list->count++] = *file;
}

void
wa_list_wal_files(const char *source, uint64 sysid, uint32 segment_size,
				  WaFileList *list)
{
	char path[MAXPGPATH];
	DIR *dir;
	struct dirent *de;
	int64 kept = 0;

	memset(list, 0, sizeof(*list));
	wa_wal_path(path, source, sysid);
	dir = AllocateDir(path);
	if (dir == NULL && errno == ENOENT)
		return;
	while ((de = ReadDir(dir, path)) != NULL)
	{
		WaArchiveFile file = {0};

		CHECK_FOR_INTERRUPTS();
		file.kind = wa_parse_wal_name(de->d_name, segment_size, &file.tli, &file.segno);
		/* the catalog's timelines are integers, as PostgreSQL's own are */
		if (file.kind == WA_FILE_OTHER || file.tli > PG_INT32_MAX)
			continue;
		file.size = wa_wal_file_size(source, sysid, de->d_name);
		if (file.size < 0)
			continue;
		add_file(list, &file);
	}
	FreeDir(dir);

	if (list->count > 1)
		qsort(list->file, list->count, sizeof(WaArchiveFile), compare_files);
	for (int64 i = 0; i < list->count; i++)
	{
		WaArchiveFile *last = kept > 0 ? &list->file[kept - 1] : NULL;

		if (list->file[i].kind == WA_FILE_PARTIAL && last != NULL &&
			last->kind == WA_FILE_SEGMENT && last->tli == list->file[i].tli &&
			last->segno == list->file[i].segno)
			continue;
		list->file[kept++] = list->file[i];
	}
	list->count = kept;
}

bool
wa_read_history(const char *source, uint64 sysid, TimeLineID tli,
				TimeLineID *parent, XLogRecPtr *fork_lsn)
{
	char dir[MAXPGPATH];
	char path[MAXPGPATH];
	char name[WA_WAL_NAME_LEN];
	char *content;
	size_t len;
	WaHistory *history;

	*parent = 0;
	*fork_lsn = 0;
	wa_history_name(name, tli);
	wa_wal_path(dir, source, sysid);
	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path))
		return false;
	content = wa_read_file(path, MAX_HISTORY_LEN, &len);
	if (content == NULL)
		return false;
	history = palloc(sizeof(WaHistory));
	if (wa_history_parse(content, len, tli, history) == NULL && history->count > 1)
	{
		*parent = history->entry[history->count - 2].tli;
		*fork_lsn = history->entry[history->count - 2].end;
	}
	pfree(history);
	pfree(content);
	return true;
}

int64
wa_wal_file_size(const char *source, uint64 sysid, const char *name)
{
	char dir[MAXPGPATH];
	char path[MAXPGPATH];
	struct stat st;

	wa_wal_path(dir, source, sysid);
	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path) ||
		stat(path, &st) != 0 || !S_ISREG(st.st_mode))
		return -1;
	return (int64) st.st_size;
}

/* The name of a source that a function was given, checked. */
static char *
source_argument(FunctionCallInfo fcinfo, int n)
{
	char *source = text_to_cstring(PG_GETARG_TEXT_PP(n));

	if (!wa_source_name_is_valid(source))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid source name \"%s\"", source)));
	return source;
}

/* walarchive.archive_files(source, system_identifier) */
Datum
wa_archive_files(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = wa_begin_rows(fcinfo, FILE_COLUMNS);
	char *source = source_argument(fcinfo, 0);
	uint64 sysid = (uint64) PG_GETARG_INT64(1);
	uint32 segment_size;
	WaFileList list;

	if (!wa_read_cluster_file(source, sysid, &segment_size))
		return (Datum) 0;
	wa_list_wal_files(source, sysid, segment_size, &list);
	for (int64 i = 0; i < list.count; i++)
	{
		WaArchiveFile *file = &list.file[i];
		Datum values[FILE_COLUMNS] = {0};
		bool nulls[FILE_COLUMNS] = {0};
		char name[WA_WAL_NAME_LEN];
		TimeLineID parent = 0;
		XLogRecPtr fork_lsn = 0;

		CHECK_FOR_INTERRUPTS();
		if (file->kind == WA_FILE_HISTORY)
		{
			wa_history_name(name, file->tli);
			(void) wa_read_history(source, sysid, file->tli, &parent, &fork_lsn);
			values[0] = CStringGetTextDatum("history");
			nulls[3] = true;
		}
		else
		{
			wa_segment_name(name, file->tli, file->segno, segment_size);
			values[0] = CStringGetTextDatum(file->kind == WA_FILE_SEGMENT ? "segment" : "partial");
			values[3] = LSNGetDatum(wa_segment_start(file->segno, segment_size));
		}
		values[1] = Int32GetDatum((int32) file->tli);
		values[2] = CStringGetTextDatum(name);
		values[4] = Int64GetDatum(file->size);
		values[5] = Int32GetDatum((int32) parent);
		values[6] = LSNGetDatum(fork_lsn);
		nulls[5] = nulls[6] = (parent == 0);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* walarchive.archive_clusters(source): those whose segment size is known */
Datum
wa_archive_clusters(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = wa_begin_rows(fcinfo, CLUSTER_COLUMNS);
	char *source = source_argument(fcinfo, 0);
	uint64 sysids[MAX_CLUSTERS];
	int count = wa_list_clusters(source, sysids, MAX_CLUSTERS);

	for (int i = 0; i < Min(count, MAX_CLUSTERS); i++)
	{
		Datum values[CLUSTER_COLUMNS];
		bool nulls[CLUSTER_COLUMNS] = {0};
		uint32 segment_size;

		if (!wa_read_cluster_file(source, sysids[i], &segment_size))
			continue;
		values[0] = Int64GetDatum((int64) sysids[i]);
		values[1] = Int32GetDatum((int32) segment_size);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* walarchive.archive_file_exists(source, system_identifier, name) */
Datum
wa_archive_file_exists(PG_FUNCTION_ARGS)
{
	char *source;
	uint64 sysid = (uint64) PG_GETARG_INT64(1);
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(2));
	TimeLineID tli;
	uint64 segno;
	char partial[WA_WAL_NAME_LEN];

	wa_require_preload();
	source = source_argument(fcinfo, 0);
	/* never a path: the most lenient segment size is enough to see that */
	if (wa_parse_wal_name(name, WA_MIN_SEGMENT_SIZE, &tli, &segno) != WA_FILE_SEGMENT)
		PG_RETURN_BOOL(false);
	snprintf(partial, sizeof(partial), "%s.partial", name);
	PG_RETURN_BOOL(wa_wal_file_size(source, sysid, name) >= 0 ||
				   wa_wal_file_size(source, sysid, partial) >= 0);
}

/* walarchive.journal_lines(source, from_offset): the lines that are valid */
Datum
wa_journal_lines(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = wa_begin_rows(fcinfo, JOURNAL_COLUMNS);
	char *source = source_argument(fcinfo, 0);
	uint64 offset = (uint64) PG_GETARG_INT64(1);
	uint64 next;
	char path[MAXPGPATH];
	FILE *file;
	WaJournalEntry *e = palloc(sizeof(WaJournalEntry));
	bool valid;

	wa_source_file_path(path, source, "journal");
	file = AllocateFile(path, PG_BINARY_R);
	if (file == NULL)
	{
		if (errno == ENOENT)
			return (Datum) 0;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	}
	for (; (next = wa_journal_read(file, offset, e, &valid)) != 0; offset = next)
	{
		Datum values[JOURNAL_COLUMNS] = {0};
		bool nulls[JOURNAL_COLUMNS] = {0};

		CHECK_FOR_INTERRUPTS();
		if (!valid)
			continue;
		values[0] = Int64GetDatum((int64) offset);
		values[1] = Int64GetDatum((int64) next);
		values[2] = TimestampTzGetDatum(e->time);
		values[3] = CStringGetTextDatum(wa_clean_text(e->kind));
		values[4] = CStringGetTextDatum(wa_clean_text(e->severity));
		values[5] = CStringGetTextDatum(wa_clean_text(e->message));
		values[6] = Int64GetDatum((int64) e->system_identifier);
		nulls[6] = (e->system_identifier == 0);
		values[7] = Int32GetDatum((int32) e->tli);
		nulls[7] = (e->tli == 0);
		values[8] = Int32GetDatum((int32) e->parent);
		nulls[8] = (e->parent == 0);
		values[9] = LSNGetDatum(e->from_lsn);
		values[10] = LSNGetDatum(e->to_lsn);
		nulls[9] = nulls[10] = !e->has_range;
		values[11] = CStringGetTextDatum(wa_clean_text(e->cause));
		nulls[11] = (e->cause[0] == '\0');
		values[12] = CStringGetTextDatum(e->label);
		nulls[12] = (e->label[0] == '\0');
		values[13] = CStringGetTextDatum(wa_clean_text(e->backup_kind));
		nulls[13] = (e->backup_kind[0] == '\0');
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	FreeFile(file);
	return (Datum) 0;
}
