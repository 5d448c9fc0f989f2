/*-------------------------------------------------------------------------
 *
 * verify_sums.c
 *	  Is wal.sha256 what was written into it?  See verify_sums.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"

#include "../state/source_file.h"
#include "verify_sums.h"
#include "wal_hash.h"

/* How often a file that is replaced meanwhile is looked at again. */
#define MAX_TRIES 10

/*
 * Compare lines of wal.sha256 with the catalog's copies.  Returns the number of
 * the first one that differs, -1 if none does.  A line that the catalog should
 * have, for the file was read beyond it, and has not, was another one; unless it
 * is about WAL that expire() had removed.
 */
static int
compare_lines(const char *source, uint64 sysid, uint32 segment_size, const WaSumLine *line,
			  int count, uint64 known)
{
	Oid types[7] = {TEXTOID, INT8OID, TEXTARRAYOID, BYTEAARRAYOID, BOOLARRAYOID, INT4ARRAYOID, PG_LSNARRAYOID};
	Datum values[7];
	ArrayBuildState *array[5] = {NULL};
	int64 wrong;

	if (count == 0)
		return -1;
	wa_catalog_begin("comparing checksums");
	for (int i = 0; i < count; i++)
	{
		bytea *sum = palloc(VARHDRSZ + sizeof(line[i].sha256));
		TimeLineID tli = 0;
		uint64 segno = 0;
		bool segment = (wa_parse_wal_name(line[i].name, segment_size, &tli, &segno) == WA_FILE_SEGMENT);

		SET_VARSIZE(sum, VARHDRSZ + sizeof(line[i].sha256));
		memcpy(VARDATA(sum), line[i].sha256, sizeof(line[i].sha256));
		array[0] = accumArrayResult(array[0], CStringGetTextDatum(line[i].name), false, TEXTOID, CurrentMemoryContext);
		array[1] = accumArrayResult(array[1], PointerGetDatum(sum), false, BYTEAOID, CurrentMemoryContext);
		array[2] = accumArrayResult(array[2], BoolGetDatum(line[i].next <= known), false, BOOLOID, CurrentMemoryContext);
		array[3] = accumArrayResult(array[3], Int32GetDatum((int32) tli), !segment, INT4OID, CurrentMemoryContext);
		array[4] = accumArrayResult(array[4], LSNGetDatum(wa_segment_start(segno, segment_size)), !segment, PG_LSNOID, CurrentMemoryContext);
	}
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) sysid);
	for (int i = 0; i < lengthof(array); i++)
		values[2 + i] = makeArrayResult(array[i], CurrentMemoryContext);
	wrong = wa_catalog_call("SELECT coalesce(pg_catalog.min(l.n), 0) "
							"FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5), "
							"pg_catalog.unnest($6), pg_catalog.unnest($7)) "
							"WITH ORDINALITY AS l (name, sha256, known, timeline, start_lsn, n) "
							"LEFT JOIN walarchive.file_sum f ON f.source OPERATOR(pg_catalog.=) $1 "
							"AND f.system_identifier OPERATOR(pg_catalog.=) $2 AND f.name OPERATOR(pg_catalog.=) l.name "
							"WHERE f.sha256 OPERATOR(pg_catalog.<>) l.sha256 OR (l.known AND f.name IS NULL "
							"AND NOT walarchive.wal_was_removed($1, $2, l.timeline, l.start_lsn))",
							7, types, values, NULL);
	wa_catalog_commit();
	return (int) wrong - 1;
}

/* Up to which byte the catalog has the file; -1: the source is gone. */
static int64
known_size(const char *source, uint64 sysid)
{
	Oid types[2] = {TEXTOID, INT8OID};
	Datum values[2];
	int64 known;

	wa_catalog_begin("comparing checksums");
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) sysid);
	known = wa_catalog_call("SELECT walarchive.sums_position($1, $2)", 2, types, values, NULL);
	wa_catalog_commit();
	return known;
}

static WaSumsState
check_sums_once(const char *source, uint64 sysid, int64 known, int64 *offset, char *text,
				size_t size)
{
	const char *problem = wa_sums_problem(source, sysid);
	WaSumsState state = WA_SUMS_GOOD;
	WaSumLine *line;
	uint64 *start;
	uint32 segment_size;
	uint64 file_size;
	uint64 at = 0;
	bool more = true;
	FILE *sums;

	*offset = -1;
	if (problem != NULL)
	{
		strlcpy(text, problem, size);
		return WA_SUMS_UNREADABLE;
	}
	sums = wa_open_sums(source, sysid, &file_size);
	if (sums == NULL)
	{
		if (known <= 0)
			return WA_SUMS_GOOD;
		strlcpy(text, "is missing", size);
		return WA_SUMS_DAMAGED;
	}
	FreeFile(sums);
	if (file_size < (uint64) Max(known, 0))
	{
		*offset = (int64) file_size;
		snprintf(text, size, "is shorter than the " INT64_FORMAT " bytes that were written", known);
		return WA_SUMS_DAMAGED;
	}

	if (!wa_read_cluster_file(source, sysid, &segment_size))
		segment_size = WA_MIN_SEGMENT_SIZE;
	line = palloc(WA_BATCH_ROWS * sizeof(WaSumLine));
	start = palloc(WA_BATCH_ROWS * sizeof(uint64));
	while (state == WA_SUMS_GOOD && more)
	{
		int count = 0;
		int bad;

		CHECK_FOR_INTERRUPTS();
		/* a file does not stay open over a transaction */
		sums = wa_open_sums(source, sysid, &file_size);
		more = sums != NULL && fseeko(sums, (off_t) at, SEEK_SET) == 0;
		while (more && state == WA_SUMS_GOOD && count < WA_BATCH_ROWS)
		{
			more = at < file_size && wa_next_sum(sums, at, &line[count]);
			if (!more)
				break;
			start[count] = at;
			at = line[count].next;
			if (!line[count].valid)
			{
				state = WA_SUMS_DAMAGED;
				*offset = (int64) start[count];
				snprintf(text, size, "has a line that is no checksum");
			}
			else
				count++;
		}
		if (sums != NULL)
			FreeFile(sums);
		bad = compare_lines(source, sysid, segment_size, line, count, (uint64) Max(known, 0));
		if (bad >= 0)
		{
			state = WA_SUMS_DAMAGED;
			*offset = (int64) start[bad];
			snprintf(text, size, "has a line for %s that was not written so", line[bad].name);
		}
	}
	pfree(line);
	pfree(start);
	return state;
}

WaSumsState
wa_check_sums(const char *source, uint64 sysid, int64 *offset, char *text,
			  size_t size)
{
	/* the indexer may replace the file meanwhile by one without removed files */
	for (int tries = 0;; tries++)
	{
		int64 known = known_size(source, sysid);
		WaSumsState state = check_sums_once(source, sysid, known, offset, text, size);

		if (state == WA_SUMS_GOOD || tries >= MAX_TRIES || known_size(source, sysid) == known)
			return state;
	}
}

bool
wa_catalog_has_sum(const char *source, uint64 sysid, const char *name, const uint8 *sha256)
{
	Oid types[4] = {TEXTOID, INT8OID, TEXTOID, BYTEAOID};
	Datum values[4];
	bytea *sum = palloc(VARHDRSZ + 32);
	bool found;

	SET_VARSIZE(sum, VARHDRSZ + 32);
	memcpy(VARDATA(sum), sha256, 32);
	wa_catalog_begin("comparing checksums");
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) sysid);
	values[2] = CStringGetTextDatum(name);
	values[3] = PointerGetDatum(sum);
	found = wa_catalog_call("SELECT EXISTS (SELECT 1 FROM walarchive.file_sum f "
							"WHERE f.source OPERATOR(pg_catalog.=) $1 AND f.system_identifier OPERATOR(pg_catalog.=) $2 "
							"AND f.name OPERATOR(pg_catalog.=) $3 AND f.sha256 OPERATOR(pg_catalog.=) $4)",
							4, types, values, NULL) != 0;
	wa_catalog_commit();
	return found;
}
