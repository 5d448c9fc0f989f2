/*-------------------------------------------------------------------------
 *
 * wal_hash.c
 *	  wal.sha256: the checksums of a cluster's finished files; see wal_hash.h.
 *
 * Order: the line is durable, then it is entered in the catalog together with
 * how far the file has been read.  A crash between the two leaves lines that
 * the next call reads.
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
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "../base/flat_json.h"
#include "../base/sum_line.h"
#include "../state/archive_dir.h"
#include "../state/fault_point.h"
#include "../state/journal.h"
#include "wal_hash.h"

/* Priority of a decoder that this file opens. */
#define HASH_NICE 10

/* A file that is to get a checksum, or has got one. */
typedef struct HashFile
{
	char name[WA_WAL_NAME_LEN];
	TimeLineID tli;
	XLogRecPtr start; /* 0: a history */
	int64 size;
	bool has_sum;
	uint8 sha256[WA_SHA256_LEN];
} HashFile;

void
wa_sums_path(char *path, const char *source, uint64 sysid)
{
	char cluster[MAXPGPATH];

	wa_cluster_path(cluster, source, sysid);
	if (snprintf(path, MAXPGPATH, "%s/wal.sha256", cluster) >= MAXPGPATH)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("path below \"walarchive.directory\" is too long")));
}

const char *
wa_sums_problem(const char *source, uint64 sysid)
{
	char path[MAXPGPATH];
	struct stat st;

	wa_sums_path(path, source, sysid);
	if (lstat(path, &st) != 0)
		return errno == ENOENT ? NULL : "could not be looked at";
	if (S_ISDIR(st.st_mode))
		return "is a directory, not a file";
	return S_ISREG(st.st_mode) ? NULL : "is not a regular file";
}

FILE *
wa_open_sums(const char *source, uint64 sysid, uint64 *size)
{
	char path[MAXPGPATH];
	struct stat st;
	FILE *file;

	*size = 0;
	wa_sums_path(path, source, sysid);
	/* a fifo in its place would make us wait for its writer */
	if (lstat(path, &st) != 0)
	{
		if (errno == ENOENT)
			return NULL;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not stat file \"%s\": %m", path)));
	}
	if (!S_ISREG(st.st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("\"%s\" is not a regular file", path)));
	file = AllocateFile(path, PG_BINARY_R);
	if (file == NULL)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	*size = (uint64) st.st_size;
	return file;
}

bool
wa_next_sum(FILE *file, uint64 offset, WaSumLine *line)
{
	char text[WA_SUM_LINE_LEN];
	size_t len = 0;
	int c;

	while ((c = getc(file)) != EOF && c != '\n')
	{
		if (len < sizeof(text))
			text[len] = (char) c;
		len++;
	}
	if (c == EOF)
		return false;
	line->next = offset + len + 1;
	line->valid = len <= sizeof(text) &&
				  wa_read_sum_line(text, len, line->sha256, line->name);
	return true;
}

/* ---- damage ---- */

/* Bytes as text of the database's encoding. */
static text *
text_of(const char *bytes, uint32 len)
{
	return cstring_to_text(wa_clean_text(pnstrdup(bytes, len)));
}

/* A line of the journal, which is entered in the catalog at once. */
static void
journal_file(const char *source, uint64 sysid, const char *kind,
			 const char *severity, TimeLineID tli, XLogRecPtr lsn,
			 const char *message)
{
	WaJournalEntry *e = palloc0(sizeof(WaJournalEntry));
	bool full;

	e->time = GetCurrentTimestamp();
	strlcpy(e->kind, kind, sizeof(e->kind));
	strlcpy(e->severity, severity, sizeof(e->severity));
	strlcpy(e->message, message, sizeof(e->message));
	e->system_identifier = sysid;
	e->tli = tli;
	if (lsn != 0)
	{
		e->has_range = true;
		e->from_lsn = e->to_lsn = lsn;
	}
	if (wa_journal_append(source, e) == 0)
		ereport(WARNING,
				(errcode_for_file_access(),
				 errmsg("could not write to the journal of source \"%s\": %m", source)));
	else
		(void) wa_register_journal(source, &full);
	pfree(e);
}

void
wa_record_damage(const char *source, uint64 sysid, const WaMsgDamage *body,
				 const char *rest)
{
	Oid types[8] = {TEXTOID, INT8OID, TEXTOID, INT4OID, PG_LSNOID, PG_LSNOID, INT8OID, TEXTOID};
	Datum values[8];
	char nulls[9] = "        ";
	char *name = pnstrdup(rest, body->name_len);
	char *problem = pnstrdup(rest + body->name_len, body->text_len);
	bool news;

	wa_catalog_begin("noting a damaged file");
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) sysid);
	values[2] = PointerGetDatum(text_of(rest, body->name_len));
	values[3] = Int32GetDatum((int32) body->tli);
	values[4] = LSNGetDatum(body->segment_lsn);
	values[5] = LSNGetDatum(body->lsn);
	values[6] = Int64GetDatum(body->offset);
	values[7] = PointerGetDatum(text_of(rest + body->name_len, body->text_len));
	nulls[3] = body->tli == 0 ? 'n' : ' ';
	/* segment 0 is never archived: WAL starts in segment 1 */
	nulls[4] = body->segment_lsn == 0 ? 'n' : ' ';
	nulls[5] = body->lsn == 0 ? 'n' : ' ';
	nulls[6] = body->offset < 0 ? 'n' : ' ';
	news = wa_catalog_call("SELECT walarchive.store_damage($1, $2, $3, $4, $5, $6, $7, $8)",
						   8, types, values, nulls) != 0;
	wa_catalog_commit();
	if (news)
	{
		char *message = psprintf("file %s %s", name, problem);

		if (strncmp(problem, "is ", 3) != 0 && strncmp(problem, "has ", 4) != 0)
			message = psprintf("file %s: %s", name, problem);
		ereport(WARNING,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("archive of source \"%s\": %s", source, message)));
		journal_file(source, sysid, "damage", "critical", body->tli, body->lsn, message);
		pfree(message);
	}
	pfree(name);
	pfree(problem);
}

void
wa_record_sums_damage(const char *source, uint64 sysid, int64 offset,
					  const char *problem)
{
	WaMsgDamage damage = {0};
	char *rest = psprintf("wal.sha256%s", problem);

	damage.kind = WA_DAMAGE_HASH;
	damage.offset = offset;
	damage.name_len = strlen("wal.sha256");
	damage.text_len = strlen(problem);
	wa_record_damage(source, sysid, &damage, rest);
	pfree(rest);
}

void
wa_journal_repaired(const char *source, uint64 sysid, Datum names)
{
	Datum *name;
	bool *isnull;
	int count;

	deconstruct_array(DatumGetArrayTypeP(names), TEXTOID, -1, false, TYPALIGN_INT,
					  &name, &isnull, &count);
	for (int i = 0; i < count; i++)
	{
		if (!isnull[i])
			journal_file(source, sysid, "damage_gone", "info", 0, 0,
						 psprintf("file %s: no damage is left", TextDatumGetCString(name[i])));
	}
}

/* ---- the catalog ---- */

/*
 * Enter checksums, and that the file has been read up to 'offset', in one
 * transaction.
 */
static void
store_sums(const char *source, uint64 sysid, const HashFile *file, int count,
		   uint64 offset)
{
	Oid types[7] = {TEXTOID, INT8OID, TEXTARRAYOID, INT4ARRAYOID, PG_LSNARRAYOID, BYTEAARRAYOID, INT8OID};
	Datum values[7];
	ArrayBuildState *array[4] = {NULL};

	wa_catalog_begin("entering checksums");
	for (int i = 0; i < count; i++)
	{
		bytea *sum;

		if (!file[i].has_sum)
			continue;
		sum = palloc(VARHDRSZ + WA_SHA256_LEN);
		SET_VARSIZE(sum, VARHDRSZ + WA_SHA256_LEN);
		memcpy(VARDATA(sum), file[i].sha256, WA_SHA256_LEN);
		array[0] = accumArrayResult(array[0], CStringGetTextDatum(file[i].name), false, TEXTOID, CurrentMemoryContext);
		array[1] = accumArrayResult(array[1], Int32GetDatum((int32) file[i].tli), false, INT4OID, CurrentMemoryContext);
		array[2] = accumArrayResult(array[2], LSNGetDatum(file[i].start), file[i].start == 0, PG_LSNOID, CurrentMemoryContext);
		array[3] = accumArrayResult(array[3], PointerGetDatum(sum), false, BYTEAOID, CurrentMemoryContext);
	}
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) sysid);
	for (int i = 0; i < 4; i++)
	{
		static const Oid element[] = {TEXTOID, INT4OID, PG_LSNOID, BYTEAOID};

		values[2 + i] = array[i] != NULL ? makeArrayResult(array[i], CurrentMemoryContext)
										 : PointerGetDatum(construct_empty_array(element[i]));
	}
	values[6] = Int64GetDatum((int64) offset);
	(void) wa_catalog_call("SELECT walarchive.store_sums($1, $2, $3, $4, $5, $6, $7)",
						   7, types, values, NULL);
	wa_catalog_commit();
}

/*
 * Up to which byte the catalog has the file; -1: the source is gone.
 */
static int64
sums_position(const char *source, uint64 sysid)
{
	Oid types[2] = {TEXTOID, INT8OID};
	Datum values[2];
	int64 position;

	wa_catalog_begin("looking for checksums");
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) sysid);
	position = wa_catalog_call("SELECT walarchive.sums_position($1, $2)", 2, types, values, NULL);
	wa_catalog_commit();
	return position;
}

static void
reset_sums(const char *source, uint64 sysid)
{
	Oid types[2] = {TEXTOID, INT8OID};
	Datum values[2];

	wa_catalog_begin("looking for checksums");
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) sysid);
	(void) wa_catalog_call("SELECT walarchive.reset_sums($1, $2)", 2, types, values, NULL);
	wa_catalog_commit();
}

/* Rows of a query with name, timeline, start_lsn, size, sha256 as HashFiles. */
static int
query_files(const char *query, const char *source, uint64 sysid, int limit,
			HashFile *file)
{
	Oid types[3] = {TEXTOID, INT8OID, INT4OID};
	Datum values[3];
	int count;

	wa_catalog_begin("looking for files without checksums");
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) sysid);
	values[2] = Int32GetDatum(limit);
	if (SPI_execute_with_args(query, 3, types, values, NULL, false, limit) != SPI_OK_SELECT)
		elog(ERROR, "query of the indexer failed");
	count = (int) SPI_processed;
	for (int i = 0; i < count; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool isnull;
		Datum value;

		memset(&file[i], 0, sizeof(HashFile));
		value = SPI_getbinval(row, desc, 1, &isnull);
		if (!isnull)
			strlcpy(file[i].name, TextDatumGetCString(value), sizeof(file[i].name));
		value = SPI_getbinval(row, desc, 2, &isnull);
		file[i].tli = isnull ? 0 : (TimeLineID) DatumGetInt32(value);
		value = SPI_getbinval(row, desc, 3, &isnull);
		file[i].start = isnull ? 0 : DatumGetLSN(value);
		value = SPI_getbinval(row, desc, 4, &isnull);
		file[i].size = isnull ? 0 : DatumGetInt64(value);
		value = SPI_getbinval(row, desc, 5, &isnull);
		if (!isnull && VARSIZE_ANY_EXHDR(DatumGetByteaPP(value)) == WA_SHA256_LEN)
		{
			memcpy(file[i].sha256, VARDATA_ANY(DatumGetByteaPP(value)), WA_SHA256_LEN);
			file[i].has_sum = true;
		}
	}
	wa_catalog_commit();
	return count;
}

/* ---- the file ---- */

/*
 * Enter lines behind byte 'offset', a batch of them.  Returns whether there
 * were some.
 */
static bool
read_lines(const char *source, uint64 sysid, uint32 segment_size, uint64 offset)
{
	HashFile *file = palloc(WA_BATCH_ROWS * sizeof(HashFile));
	int count = 0;
	uint64 start = offset;
	uint64 size;
	WaSumLine line;
	FILE *sums = wa_open_sums(source, sysid, &size);

	if (sums == NULL)
		return false;
	if (fseeko(sums, (off_t) offset, SEEK_SET) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read checksums of source \"%s\": %m", source)));
	while (count < WA_BATCH_ROWS && offset < size && wa_next_sum(sums, offset, &line))
	{
		uint64 segno = 0;
		HashFile *f = &file[count];

		offset = line.next;
		if (!line.valid)
			continue;
		memset(f, 0, sizeof(*f));
		switch (wa_parse_wal_name(line.name, segment_size, &f->tli, &segno))
		{
			case WA_FILE_SEGMENT:
				f->start = wa_segment_start(segno, segment_size);
				break;
			case WA_FILE_HISTORY:
				break;
			default:
				continue;
		}
		if (f->tli > PG_INT32_MAX)
			continue;
		strlcpy(f->name, line.name, sizeof(f->name));
		memcpy(f->sha256, line.sha256, WA_SHA256_LEN);
		f->has_sum = true;
		count++;
	}
	FreeFile(sums);
	if (offset != start)
		store_sums(source, sysid, file, count, offset);
	pfree(file);
	return offset != start;
}

/*
 * Append lines and make them durable.  Returns the file's size afterwards.
 */
static uint64
append_lines(const char *source, uint64 sysid, const HashFile *file, int count)
{
	char path[MAXPGPATH];
	char parent[MAXPGPATH];
	StringInfoData lines;
	struct stat st;
	int fd;
	off_t end;
	size_t done = 0;
	bool made;
	char last = '\n';

	initStringInfo(&lines);
	for (int i = 0; i < count; i++)
	{
		char line[WA_SUM_LINE_LEN];

		if (!file[i].has_sum)
			continue;
		wa_write_sum_line(line, file[i].sha256, file[i].name);
		appendStringInfoString(&lines, line);
	}

	wa_sums_path(path, source, sysid);
	made = (lstat(path, &st) != 0);
	fd = WA_FAULT(SUMS_CREATE, OpenTransientFilePerm(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | PG_BINARY, pg_file_create_mode));
	if (fd < 0 || fstat(fd, &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	if (!S_ISREG(st.st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("\"%s\" is not a regular file", path)));
	/* what a crash left of a line is cut off */
	end = st.st_size;
	while (end > 0)
	{
		if (pread(fd, &last, 1, end - 1) != 1)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read file \"%s\": %m", path)));
		if (last == '\n')
			break;
		end--;
	}
	if (end != st.st_size && WA_FAULT(SUMS_TRUNCATE, ftruncate(fd, end)) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not truncate file \"%s\": %m", path)));
	while (done < lines.len)
	{
		ssize_t n;

		errno = 0;
		n = WA_FAULT(SUMS_WRITE, pwrite(fd, lines.data + done, WA_SHORT(lines.len - done), end + done));
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
		done += n;
	}
	/* the host's own fsync = off is not for the archive */
	if (WA_FAULT(SUMS_FSYNC, fsync(fd)) != 0 || CloseTransientFile(fd) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not fsync file \"%s\": %m", path)));
	if (made)
	{
		wa_cluster_path(parent, source, sysid);
		fd = OpenTransientFile(parent, O_RDONLY);
		if (fd < 0 || WA_FAULT(SUMS_PARENT_FSYNC, fsync(fd)) != 0 || CloseTransientFile(fd) != 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not fsync directory \"%s\": %m", parent)));
	}
	end += lines.len;
	pfree(lines.data);
	return (uint64) end;
}

/* ---- checksums ---- */

/* Ask the decoder for a file's; false if it died. */
static bool
hash_file(const char *source, uint64 sysid, uint32 segment_size,
		  WaDecoder *decoder, HashFile *file)
{
	char request[MAXPGPATH + 512];
	char path[MAXPGPATH];
	WaJsonWriter w;
	WaDecoderMessage m;
	WaMsgDamage *damage = NULL;

	wa_wal_path(path, source, sysid);
	wa_json_begin(&w, request, sizeof(request));
	/* a history is small: it is looked at before it is blessed */
	wa_json_string(&w, "do", file->start == 0 ? "verify" : "hash");
	wa_json_string(&w, "directory", path);
	wa_json_uint(&w, "system_identifier", sysid);
	wa_json_uint(&w, "segment_size", segment_size);
	if (file->start == 0)
		wa_json_uint(&w, "history", file->tli);
	else
		wa_json_string(&w, "file", file->name);
	if (!wa_json_end(&w))
		elog(ERROR, "request is too long");
	if (!wa_decoder_request(decoder, request))
		return false;
	for (;;)
	{
		if (!wa_decoder_next(decoder, &m))
			return false;
		if (m.type == WA_MSG_DAMAGE)
		{
			/* entered when the answer has been read */
			damage = palloc(sizeof(WaMsgDamage) + m.rest_len);
			memcpy(damage, m.body, sizeof(WaMsgDamage));
			memcpy((char *) (damage + 1), m.rest, m.rest_len);
		}
		else if (m.type == WA_MSG_FILE)
		{
			const WaMsgFile *f = m.body;

			memcpy(file->sha256, f->sha256, WA_SHA256_LEN);
			file->has_sum = !f->damaged;
		}
		else if (m.type == WA_MSG_END)
		{
			const WaMsgEnd *end = m.body;

			if (end->result == WA_DECODE_FAILED)
				ereport(ERROR,
						(errmsg("could not compute the checksum of file \"%s\" of source \"%s\": %s",
								file->name, source, pnstrdup(m.rest, end->text_len))));
			break;
		}
	}
	if (damage != NULL)
	{
		file->has_sum = false;
		wa_record_damage(source, sysid, damage, (char *) (damage + 1));
		pfree(damage);
	}
	return true;
}

WaHashResult
wa_hash_finished(const char *source, uint64 sysid, uint32 segment_size,
				 WaDecoder **decoder, int max_files, int64 max_bytes, int max_ms)
{
	TimestampTz begun = GetCurrentTimestamp();
	int limit = Max(1, Min(max_files, WA_BATCH_ROWS));
	WaHashResult result = WA_HASH_SOME;
	HashFile *file;
	int64 bytes = 0;
	int64 position;
	uint64 size;
	uint64 end;
	FILE *sums;
	int count;
	int unknown = 0;
	int done;

	/* the catalog has all that the file has, before anything is added */
	position = sums_position(source, sysid);
	if (position < 0)
		return WA_HASH_NOTHING;
	if (wa_sums_problem(source, sysid) != NULL)
	{
		wa_record_sums_damage(source, sysid, -1, wa_sums_problem(source, sysid));
		return WA_HASH_NOTHING;
	}
	sums = wa_open_sums(source, sysid, &size);
	if (sums != NULL)
		FreeFile(sums);
	if (size < (uint64) position)
	{
		reset_sums(source, sysid);
		return WA_HASH_SOME;
	}
	if (size > (uint64) position &&
		read_lines(source, sysid, segment_size, (uint64) position))
		return WA_HASH_SOME;

	/* what the file has lost */
	file = palloc(2 * WA_BATCH_ROWS * sizeof(HashFile));
	count = query_files("SELECT f.name, NULL::integer, NULL::pg_lsn, NULL::bigint, f.sha256 "
						"FROM walarchive.file_sum f "
						"WHERE f.source OPERATOR(pg_catalog.=) $1 AND f.system_identifier OPERATOR(pg_catalog.=) $2 "
						"AND NOT f.in_file LIMIT $3",
						source, sysid, WA_BATCH_ROWS, file);
	if (count > 0)
	{
		/* the catalog is told when the lines are read */
		(void) append_lines(source, sysid, file, count);
		pfree(file);
		return WA_HASH_SOME;
	}

	count = query_files("SELECT h.name, h.timeline, h.start_lsn, h.size, h.known "
						"FROM walarchive.files_to_hash($1, $2, $3) h",
						source, sysid, limit, file);
	if (count == 0)
	{
		pfree(file);
		return WA_HASH_NOTHING;
	}
	/* those with a checksum that is known need no line */
	for (int i = 0; i < count; i++)
	{
		if (!file[i].has_sum)
			file[unknown++] = file[i];
	}
	count = unknown;
	for (done = 0; done < count; done++)
	{
		CHECK_FOR_INTERRUPTS();
		if (done > 0 && (bytes >= max_bytes ||
						 TimestampDifferenceExceeds(begun, GetCurrentTimestamp(), max_ms)))
			break;
		if (*decoder == NULL)
			*decoder = wa_decoder_open(HASH_NICE);
		if (!hash_file(source, sysid, segment_size, *decoder, &file[done]))
		{
			result = WA_HASH_DIED;
			break;
		}
		bytes += file[done].size;
	}
	if (done > 0)
	{
		end = append_lines(source, sysid, file, done);
		store_sums(source, sysid, file, done, end);
	}
	pfree(file);
	return result;
}
