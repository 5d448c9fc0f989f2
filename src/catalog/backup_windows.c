/*-------------------------------------------------------------------------
 *
 * backup_windows.c
 *	  Which backups are usable, and what can be recovered from each.
 *
 * All of that is derived in SQL (schema/window.sql) from segments, timelines
 * and backups; what segments alone do not say, which commits came before a
 * backup was consistent and which after, is read from its WAL here, between
 * two transactions.  The caller holds the source's claim, so nothing is decoded
 * meanwhile.  A crash leaves it marked as stale, and it is done again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "../base/flat_json.h"
#include "../base/wal_event.h"
#include "../state/archive_dir.h"
#include "catalog.h"

/* What is added to the decoder's priority: the receivers come first. */
#define DECODER_NICE 10

#define MAX_PIECES 2

/* A row of walarchive.next_backup_read, and what was read. */
typedef struct BackupRead
{
	uint64 sysid;
	char *label;
	char *path;
	uint32 segment_size;
	XLogRecPtr consistent;
	XLogRecPtr from[MAX_PIECES];
	XLogRecPtr to[MAX_PIECES];
	int pieces;
	bool edge; /* else only the first commit is wanted */

	bool has_time; /* a commit or abort was among it */
	TimestampTz time;
	bool has_earliest; /* before it was consistent */
	TimestampTz earliest;
	XLogRecPtr first_lsn; /* end of the first commit after that, 0: none */
	TimestampTz first_time;
} BackupRead;

static void
later(bool *has, TimestampTz *time, TimestampTz other)
{
	if (!*has || other > *time)
		*time = other;
	*has = true;
}

static int
lsn_array(Datum value, XLogRecPtr *lsn)
{
	Datum *elements;
	int count;

	deconstruct_array(DatumGetArrayTypeP(value), PG_LSNOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
					  &elements, NULL, &count);
	if (count > MAX_PIECES)
		elog(ERROR, "too many pieces of WAL to be read");
	for (int i = 0; i < count; i++)
		lsn[i] = DatumGetLSN(elements[i]);
	return count;
}

/* The next piece of work; false if there is none. */
static bool
find_read(const char *source, List *skip, BackupRead *read)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid types[2] = {TEXTOID, TEXTARRAYOID};
	Datum values[2];
	Datum *labels;
	bool found;
	int n = 0;
	ListCell *lc;

	memset(read, 0, sizeof(*read));
	wa_catalog_begin("looking for WAL of backups to read");
	values[0] = CStringGetTextDatum(source);
	labels = palloc((list_length(skip) + 1) * sizeof(Datum));
	foreach (lc, skip)
		labels[n++] = CStringGetTextDatum((char *) lfirst(lc));
	values[1] = PointerGetDatum(construct_array(labels, n, TEXTOID, -1, false, TYPALIGN_INT));
	if (SPI_execute_with_args("SELECT system_identifier, label, path, segment_size, consistent_lsn, from_lsn, "
							  "to_lsn, middle_time, edge FROM walarchive.next_backup_read($1, $2)",
							  2, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "query of the indexer failed");
	found = SPI_processed == 1;
	if (found)
	{
		HeapTuple row = SPI_tuptable->vals[0];
		TupleDesc desc = SPI_tuptable->tupdesc;
		Datum value;
		bool isnull;

		read->sysid = (uint64) DatumGetInt64(SPI_getbinval(row, desc, 1, &isnull));
		read->label = MemoryContextStrdup(caller, SPI_getvalue(row, desc, 2));
		read->path = MemoryContextStrdup(caller, SPI_getvalue(row, desc, 3));
		read->segment_size = (uint32) DatumGetInt32(SPI_getbinval(row, desc, 4, &isnull));
		read->consistent = DatumGetLSN(SPI_getbinval(row, desc, 5, &isnull));
		read->pieces = lsn_array(SPI_getbinval(row, desc, 6, &isnull), read->from);
		if (lsn_array(SPI_getbinval(row, desc, 7, &isnull), read->to) != read->pieces)
			elog(ERROR, "pieces of WAL to be read make no sense");
		value = SPI_getbinval(row, desc, 8, &isnull);
		if (!isnull)
		{
			/* what lies between the pieces comes before the backup is consistent */
			later(&read->has_time, &read->time, DatumGetTimestampTz(value));
			later(&read->has_earliest, &read->earliest, DatumGetTimestampTz(value));
		}
		read->edge = DatumGetBool(SPI_getbinval(row, desc, 9, &isnull));
	}
	wa_catalog_commit();
	return found;
}

static void
note_xact(BackupRead *read, const WaMsgXact *x)
{
	if (!IS_VALID_TIMESTAMP(x->time))
		return;
	later(&read->has_time, &read->time, x->time);
	if (x->start_lsn < read->consistent)
		later(&read->has_earliest, &read->earliest, x->time);
	else if (read->first_lsn == 0 &&
			 (x->kind == WA_EVENT_COMMIT || x->kind == WA_EVENT_COMMIT_PREPARED))
	{
		read->first_lsn = x->end_lsn;
		read->first_time = x->time;
	}
}

/* Read one piece; false if that was not possible. */
static bool
read_piece(const char *source, BackupRead *read, int n, WaDecoder **decoder)
{
	char directory[MAXPGPATH];
	size_t size = 4 * MAXPGPATH + 1024 + strlen(read->path);
	char *request = palloc(size);
	WaDecoderMessage m;
	WaJsonWriter w;

	wa_wal_path(directory, source, read->sysid);
	wa_json_begin(&w, request, size);
	wa_json_string(&w, "do", "xacts");
	wa_json_string(&w, "directory", directory);
	wa_json_uint(&w, "system_identifier", read->sysid);
	wa_json_uint(&w, "segment_size", read->segment_size);
	wa_json_string(&w, "path", read->path);
	wa_json_lsn(&w, "from", read->from[n]);
	wa_json_lsn(&w, "to", read->to[n]);
	/* inside a segment it is where decoding has come to: no more is there */
	if (read->to[n] % read->segment_size != 0)
	{
		wa_json_lsn(&w, "end", read->to[n]);
		wa_json_bool(&w, "live", true);
	}
	if (!wa_json_end(&w))
		elog(ERROR, "request to the decoder is too long");
	if (*decoder == NULL)
		*decoder = wa_decoder_open(DECODER_NICE);
	if (wa_decoder_request(*decoder, request))
	{
		while (wa_decoder_next(*decoder, &m))
		{
			if (m.type == WA_MSG_XACT)
				note_xact(read, m.body);
			else if (m.type == WA_MSG_END)
			{
				const WaMsgEnd *end = m.body;

				if ((WaDecodeResult) end->result == WA_DECODE_DONE)
					return true;
				ereport(LOG,
						(errmsg("WAL of backup \"%s\" of source \"%s\" could not be read from %X/%X to %X/%X",
								read->label, source, LSN_FORMAT_ARGS(read->from[n]),
								LSN_FORMAT_ARGS(read->to[n])),
						 errdetail("%s", wa_clean_text(pnstrdup(m.rest, end->text_len)))));
				return false;
			}
		}
	}
	ereport(LOG,
			(errmsg("decoder of source \"%s\" %s", source, wa_decoder_death(*decoder, NULL)),
			 errdetail("It was reading WAL of backup \"%s\".", read->label)));
	wa_decoder_close(*decoder);
	*decoder = NULL;
	return false;
}

static void
store_read(const char *source, const BackupRead *read)
{
	Oid types[8] = {TEXTOID, INT8OID, TEXTOID, PG_LSNOID, TIMESTAMPTZOID, TIMESTAMPTZOID, PG_LSNOID, TIMESTAMPTZOID};
	Datum values[8];
	char nulls[8];

	wa_catalog_begin("entering what the WAL of a backup says");
	memset(nulls, ' ', sizeof(nulls));
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) read->sysid);
	values[2] = CStringGetTextDatum(read->label);
	values[3] = LSNGetDatum(read->to[read->pieces - 1]);
	nulls[3] = read->edge ? ' ' : 'n';
	values[4] = TimestampTzGetDatum(read->time);
	nulls[4] = read->has_time ? ' ' : 'n';
	values[5] = TimestampTzGetDatum(read->earliest);
	nulls[5] = read->has_earliest ? ' ' : 'n';
	values[6] = LSNGetDatum(read->first_lsn);
	values[7] = TimestampTzGetDatum(read->first_time);
	nulls[6] = nulls[7] = read->first_lsn != 0 ? ' ' : 'n';
	(void) wa_catalog_call("SELECT walarchive.store_backup_edge($1, $2, $3, $4, $5, $6, $7, $8)",
						   8, types, values, nulls);
	wa_catalog_commit();
}

void
wa_refresh_windows(const char *source, WaDecoder **decoder)
{
	Oid types[1] = {TEXTOID};
	Datum values[1];
	bool stale;
	List *skip = NIL;

	wa_catalog_begin("looking at backups");
	values[0] = CStringGetTextDatum(source);
	stale = wa_catalog_call("SELECT walarchive.refresh_runs($1)", 1, types, values, NULL) != 0;
	wa_catalog_commit();
	if (!stale)
		return;

	for (;;)
	{
		BackupRead read;
		bool whole = true;

		CHECK_FOR_INTERRUPTS();
		if (!find_read(source, skip, &read))
			break;
		for (int i = 0; i < read.pieces && whole; i++)
			whole = read_piece(source, &read, i, decoder);
		if (whole)
			store_read(source, &read);
		/* what can't be read now, or said nothing, is left for the next time */
		if (!whole || (!read.edge && read.first_lsn == 0))
			skip = lappend(skip, read.label);
	}

	wa_catalog_begin("deriving what can be recovered");
	values[0] = CStringGetTextDatum(source);
	(void) wa_catalog_call("SELECT walarchive.refresh_windows($1)", 1, types, values, NULL);
	wa_catalog_commit();
}
