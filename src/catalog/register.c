/*-------------------------------------------------------------------------
 *
 * register.c
 *	  Second job of the indexer: journal and files -> catalog.
 *
 * Everything is read first, without a transaction, and then entered in
 * transactions of at most WA_BATCH_ROWS rows.  Each may be repeated: a journal
 * line is known by its offset, a segment by its start, so a crash between two
 * transactions leaves nothing but work to be done again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/fd.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "../state/archive_dir.h"
#include "../state/journal.h"
#include "../state/source_file.h"
#include "catalog.h"

#define MAX_CLUSTERS 64

/* A journal line and where it stands. */
typedef struct JournalLine
{
	uint64 offset;
	WaJournalEntry entry;
} JournalLine;

/*
 * Append to an array that is an argument of a query.  Inside a transaction
 * only: the type is looked up.
 */
static void
append(ArrayBuildState **array, Oid type, Datum value, bool isnull)
{
	*array = accumArrayResult(*array, value, isnull, type, CurrentMemoryContext);
}

/* The array as an argument, an empty one if nothing was appended. */
static Datum
array_argument(ArrayBuildState *array, Oid type)
{
	if (array == NULL)
		return PointerGetDatum(construct_empty_array(type));
	return makeArrayResult(array, CurrentMemoryContext);
}

/* Enter 'count' segments and partials of one cluster, in one transaction. */
static void
register_files(const char *source, uint64 sysid, uint32 segment_size,
			   const WaArchiveFile *file, int count)
{
	ArrayBuildState *tli = NULL;
	ArrayBuildState *name = NULL;
	ArrayBuildState *start = NULL;
	ArrayBuildState *size = NULL;
	ArrayBuildState *finished = NULL;
	Oid types[8] = {TEXTOID, INT8OID, INT4OID, INT4ARRAYOID, TEXTARRAYOID,
					PG_LSNARRAYOID, INT8ARRAYOID, BOOLARRAYOID};
	Datum values[8];

	if (count == 0)
		return;
	wa_catalog_begin("registering WAL segments");
	for (int i = 0; i < count; i++)
	{
		char text[WA_WAL_NAME_LEN];

		wa_segment_name(text, file[i].tli, file[i].segno, segment_size);
		append(&tli, INT4OID, Int32GetDatum((int32) file[i].tli), false);
		append(&name, TEXTOID, CStringGetTextDatum(text), false);
		append(&start, PG_LSNOID, LSNGetDatum(wa_segment_start(file[i].segno, segment_size)), false);
		append(&size, INT8OID, Int64GetDatum(file[i].size), false);
		append(&finished, BOOLOID, BoolGetDatum(file[i].kind == WA_FILE_SEGMENT), false);
	}
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) sysid);
	values[2] = Int32GetDatum((int32) segment_size);
	values[3] = array_argument(tli, INT4OID);
	values[4] = array_argument(name, TEXTOID);
	values[5] = array_argument(start, PG_LSNOID);
	values[6] = array_argument(size, INT8OID);
	values[7] = array_argument(finished, BOOLOID);
	(void) wa_catalog_call("SELECT walarchive.register_files($1, $2, $3, $4, $5, $6, $7, $8)",
						   8, types, values, NULL);
	wa_catalog_commit();
}

/* Enter the timelines that have a history file. */
static void
register_timelines(const char *source, uint64 sysid, const TimeLineID *tli,
				   const TimeLineID *parent, const XLogRecPtr *fork_lsn,
				   int count)
{
	ArrayBuildState *tlis = NULL;
	ArrayBuildState *parents = NULL;
	ArrayBuildState *forks = NULL;
	Oid types[5] = {TEXTOID, INT8OID, INT4ARRAYOID, INT4ARRAYOID, PG_LSNARRAYOID};
	Datum values[5];

	if (count == 0)
		return;
	wa_catalog_begin("registering timelines");
	for (int i = 0; i < count; i++)
	{
		append(&tlis, INT4OID, Int32GetDatum((int32) tli[i]), false);
		append(&parents, INT4OID, Int32GetDatum((int32) parent[i]), parent[i] == 0);
		append(&forks, PG_LSNOID, LSNGetDatum(fork_lsn[i]), parent[i] == 0);
	}
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) sysid);
	values[2] = array_argument(tlis, INT4OID);
	values[3] = array_argument(parents, INT4OID);
	values[4] = array_argument(forks, PG_LSNOID);
	(void) wa_catalog_call("SELECT walarchive.register_timelines($1, $2, $3, $4, $5)",
						   5, types, values, NULL);
	wa_catalog_commit();
}

/* All files of one cluster. */
static void
full_pass_cluster(const char *source, uint64 sysid)
{
	uint32 segment_size;
	WaFileList list;
	WaArchiveFile *batch = palloc(WA_BATCH_ROWS * sizeof(WaArchiveFile));
	TimeLineID tli[WA_BATCH_ROWS];
	TimeLineID parent[WA_BATCH_ROWS];
	XLogRecPtr fork_lsn[WA_BATCH_ROWS];
	int files = 0;
	int histories = 0;
	int64 total = 0;
	Oid types[3] = {TEXTOID, INT8OID, INT8OID};
	Datum values[3];

	if (!wa_read_cluster_file(source, sysid, &segment_size))
	{
		ereport(LOG,
				(errmsg("cluster " UINT64_FORMAT " of source \"%s\" has no cluster.json, its files are not indexed",
						sysid, source)));
		return;
	}
	wa_list_wal_files(source, sysid, segment_size, &list);
	for (int64 i = 0; i < list.count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (list.file[i].kind == WA_FILE_HISTORY)
		{
			if (!wa_read_history(source, sysid, list.file[i].tli,
								 &parent[histories], &fork_lsn[histories]))
				continue;
			tli[histories] = list.file[i].tli;
			if (++histories == WA_BATCH_ROWS)
			{
				register_timelines(source, sysid, tli, parent, fork_lsn, histories);
				histories = 0;
			}
			continue;
		}
		total++;
		batch[files++] = list.file[i];
		if (files == WA_BATCH_ROWS)
		{
			register_files(source, sysid, segment_size, batch, files);
			files = 0;
		}
	}
	register_files(source, sysid, segment_size, batch, files);
	register_timelines(source, sysid, tli, parent, fork_lsn, histories);

	wa_catalog_begin("looking for gaps");
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) sysid);
	values[2] = Int64GetDatum(total);
	(void) wa_catalog_call("SELECT walarchive.finish_full_pass($1, $2, $3)",
						   3, types, values, NULL);
	wa_catalog_commit();
	if (list.file != NULL)
		pfree(list.file);
	pfree(batch);
}

/* All files of all clusters. */
static void
full_pass(const char *source)
{
	uint64 sysids[MAX_CLUSTERS];
	int count = wa_list_clusters(source, sysids, MAX_CLUSTERS);
	ArrayBuildState *clusters = NULL;
	Oid types[2] = {TEXTOID, INT8ARRAYOID};
	Datum values[2];

	count = Min(count, MAX_CLUSTERS);
	for (int i = 0; i < count; i++)
		full_pass_cluster(source, sysids[i]);

	wa_catalog_begin("finishing a pass over all files");
	for (int i = 0; i < count; i++)
		append(&clusters, INT8OID, Int64GetDatum((int64) sysids[i]), false);
	values[0] = CStringGetTextDatum(source);
	values[1] = array_argument(clusters, INT8OID);
	(void) wa_catalog_call("SELECT walarchive.note_full_pass($1, $2)",
						   2, types, values, NULL);
	wa_catalog_commit();
}

/*
 * Enter 'count' lines, and that the journal has been read up to 'to'.
 */
static void
store_journal(const char *source, uint64 from, uint64 to,
			  const JournalLine *line, int count)
{
	enum
	{
		OFFSET,
		OCCURRED_AT,
		KIND,
		SEVERITY,
		MESSAGE,
		SYSID,
		TLI,
		PARENT,
		FROM_LSN,
		TO_LSN,
		CAUSE,
		LABEL,
		BACKUP_KIND,
		COLUMNS
	};
	static const Oid type[COLUMNS] = {
		INT8OID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID, INT8OID, INT4OID,
		INT4OID, PG_LSNOID, PG_LSNOID, TEXTOID, TEXTOID, TEXTOID};
	static const Oid array_type[COLUMNS] = {
		INT8ARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
		TEXTARRAYOID, INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, PG_LSNARRAYOID,
		PG_LSNARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID};
	ArrayBuildState *column[COLUMNS] = {0};
	Oid types[3 + COLUMNS] = {TEXTOID, INT8OID, INT8OID};
	Datum values[3 + COLUMNS];

	wa_catalog_begin("registering events");
	for (int i = 0; i < count; i++)
	{
		const WaJournalEntry *e = &line[i].entry;
		Datum value[COLUMNS];
		bool null[COLUMNS] = {0};

		value[OFFSET] = Int64GetDatum((int64) line[i].offset);
		value[OCCURRED_AT] = TimestampTzGetDatum(e->time);
		value[KIND] = CStringGetTextDatum(wa_clean_text(e->kind));
		value[SEVERITY] = CStringGetTextDatum(wa_clean_text(e->severity));
		value[MESSAGE] = CStringGetTextDatum(wa_clean_text(e->message));
		value[SYSID] = Int64GetDatum((int64) e->system_identifier);
		null[SYSID] = (e->system_identifier == 0);
		value[TLI] = Int32GetDatum((int32) e->tli);
		null[TLI] = (e->tli == 0);
		value[PARENT] = Int32GetDatum((int32) e->parent);
		null[PARENT] = (e->parent == 0);
		value[FROM_LSN] = LSNGetDatum(e->from_lsn);
		value[TO_LSN] = LSNGetDatum(e->to_lsn);
		null[FROM_LSN] = null[TO_LSN] = !e->has_range;
		value[CAUSE] = CStringGetTextDatum(wa_clean_text(e->cause));
		null[CAUSE] = (e->cause[0] == '\0');
		value[LABEL] = CStringGetTextDatum(e->label);
		null[LABEL] = (e->label[0] == '\0');
		value[BACKUP_KIND] = CStringGetTextDatum(wa_clean_text(e->backup_kind));
		null[BACKUP_KIND] = (e->backup_kind[0] == '\0');
		for (int c = 0; c < COLUMNS; c++)
			append(&column[c], type[c], value[c], null[c]);
	}
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) from);
	values[2] = Int64GetDatum((int64) to);
	for (int c = 0; c < COLUMNS; c++)
	{
		types[3 + c] = array_type[c];
		values[3 + c] = array_argument(column[c], type[c]);
	}
	(void) wa_catalog_call("SELECT walarchive.register_journal($1, $2, $3, $4, $5, $6, "
						   "$7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
						   3 + COLUMNS, types, values, NULL);
	wa_catalog_commit();
}

/* Lines after which files other than the newest ones may have changed. */
static bool
asks_for_full_pass(const WaJournalEntry *entry)
{
	static const char *const kind[] = {"timeline", "divergence", "gap",
									   "suspect_file", "cluster"};

	for (int i = 0; i < lengthof(kind); i++)
	{
		if (strcmp(entry->kind, kind[i]) == 0)
			return true;
	}
	return false;
}

bool
wa_register_journal(const char *source, bool *full)
{
	char path[MAXPGPATH];
	int64 position;
	uint64 from;
	uint64 offset;
	uint64 next;
	FILE *file;
	struct stat st;
	JournalLine *line;
	int count = 0;
	Oid types[1] = {TEXTOID};
	Datum values[1];

	wa_catalog_begin("reading the state of the catalog");
	values[0] = CStringGetTextDatum(source);
	position = wa_catalog_call("SELECT walarchive.journal_position($1)", 1, types,
							   values, NULL);
	wa_catalog_commit();
	if (position < 0)
		return false;

	wa_source_file_path(path, source, "journal");
	file = AllocateFile(path, PG_BINARY_R);
	if (file == NULL)
	{
		if (errno == ENOENT)
			return true;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	}
	/* shorter than what was read: another journal than that */
	if (fstat(fileno(file), &st) == 0 && st.st_size < position)
		position = 0;
	from = offset = (uint64) position;
	line = palloc(WA_BATCH_ROWS * sizeof(JournalLine));
	for (;;)
	{
		bool valid;

		CHECK_FOR_INTERRUPTS();
		next = wa_journal_read(file, offset, &line[count].entry, &valid);
		if (next != 0 && valid)
		{
			line[count].offset = offset;
			if (asks_for_full_pass(&line[count].entry))
				*full = true;
			count++;
		}
		if (count == WA_BATCH_ROWS || (next == 0 && offset != from))
		{
			uint64 to = next != 0 ? next : offset;

			/* a transaction's end would close the file: remember, and reopen */
			FreeFile(file);
			store_journal(source, from, to, line, count);
			from = to;
			count = 0;
			if (next == 0)
				break;
			file = AllocateFile(path, PG_BINARY_R);
			if (file == NULL)
				break;
		}
		else if (next == 0)
		{
			FreeFile(file);
			break;
		}
		offset = next;
	}
	pfree(line);
	return true;
}

/*
 * Enter the segments that became whole since the last pass, and the open one.
 * Returns false if some have been overwritten in the ring: then only a pass
 * over all files finds them.
 */
static bool
register_ring(int slot, const char *source, uint64 finished,
			  const WaReceiverStat *stat)
{
	WaSourceSlot *shared = &wa_shared->slot[slot];
	uint64 indexed = pg_atomic_read_u64(&shared->indexed_finished);
	WaFinishedSegment ring[WA_FINISHED_RING];
	WaArchiveFile file[WA_FINISHED_RING + 1];
	uint64 sysid = 0;
	uint32 segment_size = 0;
	char name[WA_WAL_NAME_LEN];
	int count = 0;

	if (indexed > finished || finished - indexed > WA_FINISHED_RING)
		return false;
	for (uint64 n = indexed; n < finished; n++)
		ring[n - indexed] = shared->finished[n % WA_FINISHED_RING];
	pg_read_barrier();
	/* the entry that is being written now may be the oldest that we copied */
	if (finished > indexed &&
		pg_atomic_read_u64(&shared->finished_count) - indexed >= WA_FINISHED_RING)
		return false;

	for (uint64 n = 0; n < finished - indexed; n++)
	{
		if (ring[n].system_identifier != sysid)
		{
			register_files(source, sysid, segment_size, file, count);
			count = 0;
			sysid = ring[n].system_identifier;
			if (!wa_read_cluster_file(source, sysid, &segment_size))
				return false;
		}
		file[count].kind = WA_FILE_SEGMENT;
		file[count].tli = ring[n].tli;
		file[count].segno = ring[n].segno;
		wa_segment_name(name, ring[n].tli, ring[n].segno, segment_size);
		file[count].size = wa_wal_file_size(source, sysid, name);
		/* the same segment again, or gone already */
		if (file[count].size < 0 || file[count].tli > PG_INT32_MAX)
			continue;
		for (int i = 0; i < count; i++)
		{
			if (file[i].tli == file[count].tli && file[i].segno == file[count].segno)
			{
				file[count].size = -1;
				break;
			}
		}
		if (file[count].size >= 0)
			count++;
	}

	if (stat->segment_size != 0 && stat->system_identifier != 0 &&
		stat->flushed_lsn != 0 && stat->received_tli != 0 && stat->received_tli <= PG_INT32_MAX)
	{
		WaArchiveFile open_file = {WA_FILE_PARTIAL, stat->received_tli,
								   wa_segment_of(stat->flushed_lsn - 1, stat->segment_size), 0};

		if (stat->system_identifier != sysid)
		{
			register_files(source, sysid, segment_size, file, count);
			count = 0;
			sysid = stat->system_identifier;
			segment_size = stat->segment_size;
		}
		wa_partial_name(name, open_file.tli, open_file.segno, segment_size);
		open_file.size = wa_wal_file_size(source, sysid, name);
		if (open_file.size >= 0 &&
			(count == 0 || file[count - 1].tli != open_file.tli ||
			 file[count - 1].segno != open_file.segno))
			file[count++] = open_file;
	}
	register_files(source, sysid, segment_size, file, count);
	return true;
}

void
wa_register_slot(int slot, const WaSlotControl *control, bool *full,
				 uint64 finished)
{
	const char *source = control->name;
	WaReceiverStat *stat = palloc(sizeof(WaReceiverStat));

	if (!wa_register_journal(source, full))
	{
		/*
		 * No such source in the catalog: made from its file by the next mirror
		 * step, which then asks for a full pass; or dropped.
		 */
		if (control->desired != WA_DESIRED_DROPPING)
			pg_atomic_fetch_add_u64(&wa_shared->host.catalog_changes, 1);
		return;
	}
	wa_read_stat(slot, stat);
	if (*full || !register_ring(slot, source, finished, stat))
	{
		*full = true;
		full_pass(source);
	}

	if (stat->system_identifier != 0)
	{
		Oid types[2] = {TEXTOID, INT8OID};
		Datum values[2];

		wa_catalog_begin("registering the cluster");
		values[0] = CStringGetTextDatum(source);
		values[1] = Int64GetDatum((int64) stat->system_identifier);
		(void) wa_catalog_call("SELECT walarchive.learn_cluster($1, $2)", 2, types,
							   values, NULL);
		wa_catalog_commit();
	}
	wa_register_relations(slot, source, *full);
	pfree(stat);
}
