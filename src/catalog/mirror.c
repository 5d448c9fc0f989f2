/*-------------------------------------------------------------------------
 *
 * mirror.c
 *	  First job of the indexer: walarchive.source <-> <source>/source.json.
 *
 * Rows win over files; a file without a row makes one, because dropping the
 * catalog must not stop an archive.  Rows are read in one short transaction,
 * files are compared and written outside of any.  A crash in between leaves
 * work that the next pass finds again: nothing is remembered but rows and
 * files.
 *
 * The order of a drop: row "dropping", file "dropping", the receiver drops slot
 * and files and leaves "dropped" or no folder, and only then the row goes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "port/atomics.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "../state/archive_dir.h"
#include "../state/journal.h"
#include "../state/source_file.h"
#include "catalog.h"

/* A row of walarchive.source. */
typedef struct SourceRow
{
	WaSourceSettings settings;
	bool indexed; /* a full pass over its files has been made */
} SourceRow;

enum
{
	COL_NAME = 1,
	COL_CONNINFO,
	COL_SLOT_NAME,
	COL_START_LSN,
	COL_ALLOW_STANDBY,
	COL_ON_GAP,
	COL_STATE,
	COL_DROP_SLOT,
	COL_DELETE_FILES,
	COL_SYSID,
	COL_REVISION,
	COL_INDEXED,
	COL_HEARTBEAT,
	COL_RELATION_NAMES,
	COL_BACKUP_CONNINFO,
	COL_BACKUP_FULL,
	COL_BACKUP_INCREMENTAL,
	COL_BACKUP_WINDOW_START,
	COL_BACKUP_WINDOW_END,
	COL_BACKUP_JITTER,
	COL_BACKUP_COMPRESSION,
	COL_BACKUP_MAX_RATE,
	COL_BACKUP_SCHEDULED_AT
};

/*
 * Copy a text column into 'size' bytes.  False if it does not fit.
 */
static bool
get_text(HeapTuple tuple, TupleDesc desc, int column, char *to, size_t size)
{
	char *value = SPI_getvalue(tuple, desc, column);

	if (value == NULL)
		return false;
	return strlcpy(to, value, size) < size;
}

/* A Datum column, 0 for NULL. */
static Datum
get_datum(HeapTuple tuple, TupleDesc desc, int column)
{
	bool isnull;
	Datum value = SPI_getbinval(tuple, desc, column, &isnull);

	return isnull ? (Datum) 0 : value;
}

/* A column of milliseconds, 0 for NULL; false if it is out of bounds. */
static bool
get_interval(HeapTuple tuple, TupleDesc desc, int column, int least, int *ms)
{
	int64 value = DatumGetInt64(get_datum(tuple, desc, column));

	*ms = (int) value;
	return value == 0 || (value >= least && value <= WA_MAX_INTERVAL_MS);
}

/* The schedule of backups; false if it is none that could be followed. */
static bool
get_schedule(HeapTuple tuple, TupleDesc desc, WaSourceSettings *s)
{
	WaBackupSchedule *schedule = &s->schedule;
	bool windowed = SPI_getvalue(tuple, desc, COL_BACKUP_WINDOW_START) != NULL;

	schedule->window_start = schedule->window_end = -1;
	schedule->full_interval = DatumGetInt64(get_datum(tuple, desc, COL_BACKUP_FULL));
	if (schedule->full_interval == 0)
		return true;
	schedule->incremental_interval = DatumGetInt64(get_datum(tuple, desc, COL_BACKUP_INCREMENTAL));
	if (windowed)
	{
		schedule->window_start = DatumGetInt32(get_datum(tuple, desc, COL_BACKUP_WINDOW_START));
		schedule->window_end = DatumGetInt32(get_datum(tuple, desc, COL_BACKUP_WINDOW_END));
	}
	schedule->jitter = DatumGetInt64(get_datum(tuple, desc, COL_BACKUP_JITTER));
	schedule->since = DatumGetTimestampTz(get_datum(tuple, desc, COL_BACKUP_SCHEDULED_AT));
	s->backup_max_rate = DatumGetInt32(get_datum(tuple, desc, COL_BACKUP_MAX_RATE));
	return schedule->full_interval >= WA_MIN_BACKUP_INTERVAL &&
		   schedule->full_interval <= WA_MAX_BACKUP_INTERVAL &&
		   (schedule->incremental_interval == 0 ||
			(schedule->incremental_interval >= WA_MIN_BACKUP_INTERVAL &&
			 schedule->incremental_interval <= WA_MAX_BACKUP_INTERVAL)) &&
		   (!windowed ||
			(schedule->window_start >= 0 && schedule->window_start < WA_DAY_SECONDS &&
			 schedule->window_end >= 0 && schedule->window_end < WA_DAY_SECONDS &&
			 schedule->window_start != schedule->window_end)) &&
		   schedule->jitter >= 0 && schedule->jitter <= WA_MAX_BACKUP_INTERVAL &&
		   (s->backup_max_rate == 0 ||
			(s->backup_max_rate >= WA_MIN_BACKUP_RATE && s->backup_max_rate <= WA_MAX_BACKUP_RATE)) &&
		   get_text(tuple, desc, COL_BACKUP_COMPRESSION, s->backup_compression,
					sizeof(s->backup_compression));
}

/* NULL where the row holds something that no function would have put there. */
static SourceRow *
make_row(HeapTuple tuple, TupleDesc desc)
{
	SourceRow *row = palloc0(sizeof(SourceRow));
	WaSourceSettings *s = &row->settings;
	char word[32];
	Datum value;

	if (!get_text(tuple, desc, COL_NAME, s->name, sizeof(s->name)) ||
		!wa_source_name_is_valid(s->name) ||
		!get_text(tuple, desc, COL_CONNINFO, s->conninfo, sizeof(s->conninfo)) ||
		!get_text(tuple, desc, COL_SLOT_NAME, s->slot_name, sizeof(s->slot_name)) ||
		!wa_slot_name_is_valid(s->slot_name) ||
		!get_text(tuple, desc, COL_STATE, word, sizeof(word)) ||
		!wa_parse_desired_state(word, &s->desired) ||
		!get_text(tuple, desc, COL_ON_GAP, word, sizeof(word)) ||
		!get_interval(tuple, desc, COL_HEARTBEAT, WA_MIN_HEARTBEAT_MS, &s->heartbeat_ms) ||
		!get_interval(tuple, desc, COL_RELATION_NAMES, WA_MIN_RELATION_NAMES_MS,
					  &s->relation_names_ms) ||
		!get_text(tuple, desc, COL_BACKUP_CONNINFO, s->backup_conninfo, sizeof(s->backup_conninfo)) ||
		!get_schedule(tuple, desc, s))
		return NULL;
	s->stop_at_gap = (strcmp(word, "stop") == 0);
	value = get_datum(tuple, desc, COL_START_LSN);
	s->start_lsn = value ? DatumGetLSN(value) : 0;
	s->allow_standby = DatumGetBool(get_datum(tuple, desc, COL_ALLOW_STANDBY));
	s->drop_slot = DatumGetBool(get_datum(tuple, desc, COL_DROP_SLOT));
	s->delete_files = DatumGetBool(get_datum(tuple, desc, COL_DELETE_FILES));
	value = get_datum(tuple, desc, COL_SYSID);
	s->system_identifier = value ? (uint64) DatumGetInt64(value) : 0;
	s->revision = (uint64) DatumGetInt64(get_datum(tuple, desc, COL_REVISION));
	row->indexed = DatumGetBool(get_datum(tuple, desc, COL_INDEXED));
	return row;
}

/* All rows, in the caller's memory context. */
static List *
read_rows(void)
{
	MemoryContext context = CurrentMemoryContext;
	List *rows = NIL;
	int rc;

	wa_catalog_begin("reading the sources");
	rc = SPI_execute("SELECT s.name, s.conninfo, s.slot_name, s.start_lsn, s.allow_standby, "
					 "s.on_gap, s.state, s.drop_slot, s.delete_files, s.system_identifier, "
					 "s.revision, EXISTS (SELECT 1 FROM walarchive.index_progress p "
					 "WHERE p.source OPERATOR(pg_catalog.=) s.name AND p.full_pass_at IS NOT NULL), "
					 "(1000 OPERATOR(pg_catalog.*) EXTRACT(epoch FROM s.heartbeat_interval))::bigint, "
					 "(1000 OPERATOR(pg_catalog.*) EXTRACT(epoch FROM s.relation_names_interval))::bigint, "
					 "COALESCE(s.backup_conninfo, ''::text), "
					 "(1000000 OPERATOR(pg_catalog.*) EXTRACT(epoch FROM s.backup_full_interval))::bigint, "
					 "(1000000 OPERATOR(pg_catalog.*) EXTRACT(epoch FROM s.backup_incremental_interval))::bigint, "
					 "EXTRACT(epoch FROM s.backup_window_start)::integer, "
					 "EXTRACT(epoch FROM s.backup_window_end)::integer, "
					 "(1000000 OPERATOR(pg_catalog.*) EXTRACT(epoch FROM s.backup_jitter))::bigint, "
					 "s.backup_compression, s.backup_max_rate, s.backup_scheduled_at "
					 "FROM walarchive.source s",
					 true, 0);
	if (rc != SPI_OK_SELECT)
		elog(ERROR, "query of the indexer failed: %s", SPI_result_code_string(rc));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		SourceRow *row = make_row(SPI_tuptable->vals[i], SPI_tuptable->tupdesc);

		if (row != NULL)
			rows = lappend(rows, row);
		else
			ereport(LOG,
					(errmsg("row %d of table walarchive.source is not valid and is ignored",
							(int) i + 1),
					 errhint("Change sources by the functions of walarchive alone.")));
		MemoryContextSwitchTo(old);
	}
	wa_catalog_commit();
	return rows;
}

static bool
same_schedule(const WaSourceSettings *row, const WaSourceSettings *file)
{
	return row->schedule.full_interval == file->schedule.full_interval &&
		   row->schedule.incremental_interval == file->schedule.incremental_interval &&
		   row->schedule.window_start == file->schedule.window_start &&
		   row->schedule.window_end == file->schedule.window_end &&
		   row->schedule.jitter == file->schedule.jitter &&
		   row->schedule.since == file->schedule.since &&
		   strcmp(row->backup_compression, file->backup_compression) == 0 &&
		   row->backup_max_rate == file->backup_max_rate;
}

/* Whether what runs is what the row says. */
static bool
same_settings(const WaSourceSettings *row, const WaSourceSettings *file)
{
	return strcmp(row->conninfo, file->conninfo) == 0 &&
		   strcmp(row->backup_conninfo, file->backup_conninfo) == 0 &&
		   strcmp(row->slot_name, file->slot_name) == 0 &&
		   row->start_lsn == file->start_lsn &&
		   row->allow_standby == file->allow_standby &&
		   row->stop_at_gap == file->stop_at_gap &&
		   row->heartbeat_ms == file->heartbeat_ms &&
		   row->relation_names_ms == file->relation_names_ms &&
		   same_schedule(row, file) &&
		   row->desired == file->desired &&
		   (row->desired != WA_DESIRED_DROPPING ||
			(row->drop_slot == file->drop_slot &&
			 row->delete_files == file->delete_files)) &&
		   row->system_identifier == file->system_identifier &&
		   row->revision == file->revision;
}

/*
 * Somebody removed a source's folder, or the file system with it is not
 * mounted: an archive is begun anew, which must not happen without a word.
 */
static void
report_lost_archive(const WaSourceSettings *settings)
{
	static const char message[] = "the source's folder was missing and was made anew: what it held is gone unless it is put back";
	WaJournalEntry *entry = palloc0(sizeof(WaJournalEntry));

	entry->time = GetCurrentTimestamp();
	strlcpy(entry->kind, "archive_lost", sizeof(entry->kind));
	strlcpy(entry->severity, "critical", sizeof(entry->severity));
	strlcpy(entry->message, message, sizeof(entry->message));
	entry->system_identifier = settings->system_identifier;
	(void) wa_journal_append(settings->name, entry);
	pfree(entry);
	ereport(WARNING,
			(errmsg("archive of source \"%s\": %s", settings->name, message),
			 errhint("Take a new base backup, or stop the server, put the folder back, and start it again.")));
}

/* Remove a row whose dropping is done. */
static void
forget_source(const WaSourceSettings *row)
{
	Oid types[2] = {TEXTOID, INT8OID};
	Datum values[2];

	wa_catalog_begin("removing a dropped source");
	values[0] = CStringGetTextDatum(row->name);
	values[1] = Int64GetDatum((int64) row->revision);
	(void) wa_catalog_call("SELECT walarchive.forget_source($1, $2)", 2, types, values, NULL);
	wa_catalog_commit();
}

/* Step 1 and 3 of docs/internals.md: a row and what its file says. */
static void
mirror_row(const SourceRow *row)
{
	const WaSourceSettings *settings = &row->settings;
	WaSourceSettings *file = palloc(sizeof(WaSourceSettings));
	char *problem;
	bool there = wa_read_source_file(settings->name, file, &problem);
	bool lost;
	int slot;

	if (problem != NULL)
		ereport(LOG,
				(errmsg("%s", problem),
				 errdetail("It is written anew from the catalog.")));
	if (settings->desired == WA_DESIRED_DROPPING)
	{
		char path[MAXPGPATH];
		struct stat st;

		if (there && file->dropped && file->revision == settings->revision)
		{
			bool full = false;

			/* what its journal tells of the end */
			(void) wa_register_journal(settings->name, &full);
			forget_source(settings);
			pfree(file);
			return;
		}
		wa_source_path(path, settings->name);
		if (!there && problem == NULL && stat(path, &st) != 0 && errno == ENOENT)
		{
			/* the files were deleted, or it never came to have any */
			forget_source(settings);
			pfree(file);
			return;
		}
	}
	/* the catalog has seen its files, and now there are not even settings */
	lost = !there && problem == NULL && row->indexed;
	if (!there || file->dropped || !same_settings(settings, file))
		wa_write_source_file(settings);
	pfree(file);
	if (lost)
		report_lost_archive(settings);

	/* a new catalog beside an old archive, or the other way round */
	slot = row->indexed && !lost ? -1 : wa_find_slot(settings->name);
	if (slot >= 0)
		pg_atomic_write_u32(&wa_shared->slot[slot].index_wanted, 1);
}

/* Step 2: a file that no row speaks of. */
static void
adopt_file(const char *name)
{
	WaSourceSettings *file = palloc(sizeof(WaSourceSettings));
	char *problem;
	Oid types[14] = {TEXTOID, TEXTOID, TEXTOID, PG_LSNOID, BOOLOID, TEXTOID,
					 TEXTOID, BOOLOID, BOOLOID, INT8OID, INT8OID, INT4OID, INT4OID, TEXTOID};
	Datum values[14];
	char nulls[14];
	bool adopted;
	int slot;

	if (!wa_read_source_file(name, file, &problem))
	{
		if (problem != NULL)
			ereport(LOG,
					(errmsg("%s", problem),
					 errdetail("The catalog has no source of this name, so the folder is left alone.")));
		pfree(file);
		return;
	}
	if (file->dropped)
	{
		/* an archive that was kept: attach_source goes on with it */
		pfree(file);
		return;
	}

	wa_catalog_begin("adopting a source from its files");
	memset(nulls, ' ', sizeof(nulls));
	values[0] = CStringGetTextDatum(file->name);
	values[1] = CStringGetTextDatum(file->conninfo);
	values[2] = CStringGetTextDatum(file->slot_name);
	values[3] = LSNGetDatum(file->start_lsn);
	if (file->start_lsn == 0)
		nulls[3] = 'n';
	values[4] = BoolGetDatum(file->allow_standby);
	values[5] = CStringGetTextDatum(file->stop_at_gap ? "stop" : "continue");
	values[6] = CStringGetTextDatum(wa_desired_state_name(file->desired));
	values[7] = BoolGetDatum(file->drop_slot);
	values[8] = BoolGetDatum(file->delete_files);
	values[9] = Int64GetDatum((int64) file->system_identifier);
	if (file->system_identifier == 0)
		nulls[9] = 'n';
	values[10] = Int64GetDatum((int64) file->revision);
	values[11] = Int32GetDatum(file->heartbeat_ms);
	values[12] = Int32GetDatum(file->relation_names_ms);
	values[13] = CStringGetTextDatum(file->backup_conninfo);
	adopted = wa_catalog_call("SELECT walarchive.adopt_source($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
							  14, types, values, nulls) != 0;
	wa_catalog_commit();

	if (adopted)
	{
		WaJournalEntry *entry = palloc0(sizeof(WaJournalEntry));

		entry->time = GetCurrentTimestamp();
		strlcpy(entry->kind, "adopted", sizeof(entry->kind));
		strlcpy(entry->severity, "info", sizeof(entry->severity));
		strlcpy(entry->message,
				"the catalog did not know this source: made from the settings in its folder",
				sizeof(entry->message));
		if (wa_journal_append(name, entry) == 0)
			ereport(LOG,
					(errcode_for_file_access(),
					 errmsg("could not write the journal of source \"%s\": %m", name)));
		pfree(entry);
		ereport(LOG,
				(errmsg("source \"%s\" was adopted from its folder", name)));
	}
	slot = wa_find_slot(name);
	if (slot >= 0)
		pg_atomic_write_u32(&wa_shared->slot[slot].index_wanted, 1);
	pfree(file);
}

void
wa_mirror_sources(void)
{
	List *rows;
	List *files;
	ListCell *lc;

	/*
	 * Files before rows: a source that is added in between then has a row, and
	 * is not taken for a file without one.
	 */
	files = wa_list_source_files();
	rows = read_rows();
	foreach (lc, rows)
	{
		CHECK_FOR_INTERRUPTS();
		mirror_row((SourceRow *) lfirst(lc));
	}
	foreach (lc, files)
	{
		char *name = (char *) lfirst(lc);
		bool known = false;
		ListCell *row;

		CHECK_FOR_INTERRUPTS();
		foreach (row, rows)
		{
			if (strcmp(((SourceRow *) lfirst(row))->settings.name, name) == 0)
			{
				known = true;
				break;
			}
		}
		if (!known)
			adopt_file(name);
	}
}
