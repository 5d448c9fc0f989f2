/*-------------------------------------------------------------------------
 *
 * relation_names.c
 *	  <cluster>/relations -> walarchive.relation_name and its like.
 *
 * Part of the indexer.  The file is read in batches, each entered in a
 * transaction of its own together with the position reached, so a crash leaves
 * work to be done and nothing to be repaired.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "../state/relation_file.h"
#include "../state/source_file.h"
#include "catalog.h"

#define MAX_CLUSTERS 64

/* Lines that one transaction enters at most. */
#define BATCH_LINES 2000

#define LINE_COLUMNS 11

PG_FUNCTION_INFO_V1(wa_relation_lines);

/* Forget the clusters whose folders are gone. */
static void
forget_others(const char *source, const uint64 *sysids, int count)
{
	Datum *element = palloc(Max(count, 1) * sizeof(Datum));
	Oid types[2] = {TEXTOID, INT8ARRAYOID};
	Datum values[2];

	wa_catalog_begin("forgetting names of relations");
	for (int i = 0; i < count; i++)
		element[i] = Int64GetDatum((int64) sysids[i]);
	values[0] = CStringGetTextDatum(source);
	values[1] = PointerGetDatum(construct_array(element, count, INT8OID, sizeof(int64),
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	(void) wa_catalog_call("SELECT walarchive.forget_relations($1, $2)", 2, types, values, NULL);
	wa_catalog_commit();
	pfree(element);
}

void
wa_register_relations(int slot, const char *source, bool full)
{
	WaSourceSlot *shared = &wa_shared->slot[slot];
	uint64 written = pg_atomic_read_u64(&shared->names_written);
	uint64 sysids[MAX_CLUSTERS];
	int count;

	if (!full && written == pg_atomic_read_u64(&shared->names_indexed))
		return;
	count = Min(wa_list_clusters(source, sysids, MAX_CLUSTERS), MAX_CLUSTERS);
	for (int i = 0; i < count; i++)
	{
		int64 lines;

		do
		{
			Oid types[3] = {TEXTOID, INT8OID, INT4OID};
			Datum values[3];

			CHECK_FOR_INTERRUPTS();
			wa_catalog_begin("registering names of relations");
			values[0] = CStringGetTextDatum(source);
			values[1] = Int64GetDatum((int64) sysids[i]);
			values[2] = Int32GetDatum(BATCH_LINES);
			lines = wa_catalog_call("SELECT walarchive.register_relations($1, $2, $3)",
									3, types, values, NULL);
			wa_catalog_commit();
		} while (lines > 0);
	}
	if (full)
		forget_others(source, sysids, count);
	pg_atomic_write_u64(&shared->names_indexed, written);
}

/*
 * A name of the file, which is UTF-8, in the database's encoding; '?' for what
 * that does not have.
 */
static Datum
name_datum(const char *name)
{
	char *copy;

	if (GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII)
		return CStringGetTextDatum(wa_clean_text(name));
	copy = pstrdup(name);
	for (char *p = copy; *p; p++)
	{
		if (IS_HIGHBIT_SET(*p))
			*p = '?';
	}
	return CStringGetTextDatum(copy);
}

/* walarchive.relation_lines(source, system_identifier, from_offset, max_lines) */
Datum
wa_relation_lines(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = wa_begin_rows(fcinfo, LINE_COLUMNS);
	char *source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	uint64 sysid = (uint64) PG_GETARG_INT64(1);
	int64 offset = PG_GETARG_INT64(2);
	int max_lines = PG_GETARG_INT32(3);
	WaRelationLine *line = palloc(sizeof(WaRelationLine));
	char path[MAXPGPATH];
	struct stat st;
	FILE *file;

	wa_relation_path(path, source, sysid);
	file = AllocateFile(path, PG_BINARY_R);
	if (file == NULL)
	{
		if (errno == ENOENT)
			return (Datum) 0;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	}
	/* shorter than what was read: another file than that */
	if (offset < 0 || (fstat(fileno(file), &st) == 0 && st.st_size < offset))
		offset = 0;
	if (fseeko(file, (off_t) offset, SEEK_SET) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not seek in file \"%s\": %m", path)));
	for (int n = 0; n < max_lines; n++)
	{
		Datum values[LINE_COLUMNS] = {0};
		bool nulls[LINE_COLUMNS];
		bool valid;
		uint64 len = wa_relation_read(file, line, &valid);

		CHECK_FOR_INTERRUPTS();
		if (len == 0)
			break;
		offset += (int64) len;
		memset(nulls, true, sizeof(nulls));
#define SET(column, datum)        \
	do                            \
	{                             \
		values[column] = (datum); \
		nulls[column] = false;    \
	} while (0)
		SET(0, Int64GetDatum(offset));
		if (valid)
		{
			SET(1, TimestampTzGetDatum(line->time));
			if (line->line != WA_LINE_TABLESPACE)
			{
				SET(2, ObjectIdGetDatum(line->database));
				SET(3, name_datum(line->database_name));
			}
			if (line->line != WA_LINE_DATABASE)
				SET(4, ObjectIdGetDatum(line->tablespace));
			if (line->line == WA_LINE_TABLESPACE)
				SET(5, name_datum(line->name));
			if (line->line == WA_LINE_RELATION)
			{
				SET(6, ObjectIdGetDatum(line->relfilenode));
				SET(7, ObjectIdGetDatum(line->relation));
				SET(8, PointerGetDatum(cstring_to_text_with_len(&line->kind, 1)));
				SET(9, name_datum(line->name));
				SET(10, name_datum(line->table));
			}
		}
#undef SET
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	FreeFile(file);
	return (Datum) 0;
}
