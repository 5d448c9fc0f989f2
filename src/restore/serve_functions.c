/*-------------------------------------------------------------------------
 *
 * serve_functions.c
 *	  wal_file, read_wal, read_backup_file, source_layout: the archive's files
 *	  for those who restore from it.
 *
 * They run as the caller, check that the source may be read, and touch nothing
 * but files below its folder: names are checked before they are part of a path,
 * links are not followed, and only regular files are opened.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"

#include "../base/backup_label.h"
#include "../catalog/range_read.h"
#include "../state/archive_dir.h"
#include "../state/backup_file.h"
#include "../state/stat_functions.h"
#include "serve.h"

#define WAL_FILE_COLUMNS 5
#define LAYOUT_COLUMNS 4

/* Longest name of a file in a backup's folder. */
#define MAX_FILE_NAME 128

PG_FUNCTION_INFO_V1(wa_wal_file);
PG_FUNCTION_INFO_V1(wa_read_wal);
PG_FUNCTION_INFO_V1(wa_read_backup_file);
PG_FUNCTION_INFO_V1(wa_source_layout);

/* ---- arguments ---- */

static char *
text_argument(FunctionCallInfo fcinfo, int n, const char *what)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", what)));
	return text_to_cstring(PG_GETARG_TEXT_PP(n));
}

static void
range_argument(FunctionCallInfo fcinfo, int n, int64 *offset, int32 *length)
{
	if (PG_ARGISNULL(n) || PG_ARGISNULL(n + 1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("offset and length must not be null")));
	*offset = PG_GETARG_INT64(n);
	*length = PG_GETARG_INT32(n + 1);
	if (*offset < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("offset must not be negative")));
	if (*length < 0 || *length > WA_SERVE_MAX_LENGTH)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("length must be between 0 and %d", WA_SERVE_MAX_LENGTH)));
}

/* The plan that is named by argument 'n', NULL if none is. */
static WaServePlan *
plan_argument(FunctionCallInfo fcinfo, int n, const char *source)
{
	WaServePlan *plan;

	if (PG_ARGISNULL(n))
		return NULL;
	plan = palloc(sizeof(WaServePlan));
	wa_serve_plan(source, PG_GETARG_INT64(n), plan);
	return plan;
}

/* ---- reading ---- */

/*
 * Bytes of an open file as a bytea: 'valid' bytes of it count, zeros follow up
 * to 'size'.  Fewer than 'length' only at the end.  Closes the file.
 */
static bytea *
read_piece(int fd, const char *name, uint64 size, uint64 valid, int64 offset, int32 length)
{
	size_t wanted = (uint64) offset < size ? (size_t) Min((uint64) length, size - offset) : 0;
	size_t from_file = (uint64) offset < valid ? (size_t) Min((uint64) wanted, valid - offset) : 0;
	bytea *piece = palloc(VARHDRSZ + wanted);
	size_t got = 0;

	while (got < from_file)
	{
		ssize_t n;

		CHECK_FOR_INTERRUPTS();
		n = pg_pread(fd, VARDATA(piece) + got, from_file - got, (off_t) (offset + got));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read file \"%s\": %m", name)));
		if (n == 0)
			break;
		got += n;
	}
	memset(VARDATA(piece) + got, 0, wanted - got);
	if (CloseTransientFile(fd) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not close file \"%s\": %m", name)));
	/* it has become shorter while it was open */
	if (got < from_file)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("file \"%s\" ends after " INT64_FORMAT " bytes", name, offset + (int64) got)));
	SET_VARSIZE(piece, VARHDRSZ + wanted);
	return piece;
}

/* ---- functions ---- */

/* walarchive.wal_file(source, name, plan_id) */
Datum
wa_wal_file(PG_FUNCTION_ARGS)
{
	char *source = text_argument(fcinfo, 0, "name of the source");
	char *name = text_argument(fcinfo, 1, "name of the file");
	WaRangeReader *reader = wa_range_begin(source);
	Datum values[WAL_FILE_COLUMNS];
	bool nulls[WAL_FILE_COLUMNS] = {0};
	TupleDesc tupdesc;
	WaServed served;

	wa_serve_find(source, name, plan_argument(fcinfo, 2, source), true, &served);
	if (served.fd >= 0)
		CloseTransientFile(served.fd);
	wa_range_end(reader);

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE || tupdesc->natts != WAL_FILE_COLUMNS)
		elog(ERROR, "walarchive.wal_file is declared in another way");
	values[0] = CStringGetTextDatum(wa_serve_state_name(served.state));
	values[1] = Int64GetDatum((int64) served.size);
	values[2] = CStringGetTextDatum(served.sha256);
	values[3] = CStringGetTextDatum(wa_clean_text(served.detail));
	values[4] = Int64GetDatum((int64) served.valid);
	nulls[1] = nulls[4] = (served.state != WA_SERVE_PRESENT && served.state != WA_SERVE_PARTIAL);
	nulls[2] = (served.sha256[0] == '\0');
	nulls[3] = (served.detail[0] == '\0');
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}

/* walarchive.read_wal(source, name, offset, length, plan_id) */
Datum
wa_read_wal(PG_FUNCTION_ARGS)
{
	char *source = text_argument(fcinfo, 0, "name of the source");
	char *name = text_argument(fcinfo, 1, "name of the file");
	WaRangeReader *reader = wa_range_begin(source);
	WaServed served;
	int64 offset;
	int32 length;

	range_argument(fcinfo, 2, &offset, &length);
	wa_serve_find(source, name, plan_argument(fcinfo, 4, source), false, &served);
	wa_range_end(reader);
	if (served.fd < 0)
		ereport(ERROR,
				(errcode(served.state == WA_SERVE_DAMAGED ? ERRCODE_DATA_CORRUPTED : ERRCODE_UNDEFINED_FILE),
				 errmsg("WAL file \"%s\" of source \"%s\" can't be read", name, source),
				 errdetail_internal("%s.", wa_clean_text(served.detail))));
	PG_RETURN_BYTEA_P(read_piece(served.fd, name, served.size, served.valid, offset, length));
}

/* Can a file in a backup's folder be called so? */
static bool
is_file_name(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len < MAX_FILE_NAME && name[0] != '.' &&
		   strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == len;
}

/* walarchive.read_backup_file(source, label, file, offset, length) */
Datum
wa_read_backup_file(PG_FUNCTION_ARGS)
{
	char *source = text_argument(fcinfo, 0, "name of the source");
	char *label = text_argument(fcinfo, 1, "label of the backup");
	char *file = text_argument(fcinfo, 2, "name of the file");
	WaRangeReader *reader = wa_range_begin(source);
	uint64 sysid = wa_serve_cluster(source);
	uint64 of_label = wa_serve_backup_cluster(source, label);
	char path[MAXPGPATH];
	struct stat st;
	int64 offset;
	int32 length;
	int fd;

	wa_range_end(reader);
	range_argument(fcinfo, 3, &offset, &length);
	if (!wa_backup_label_is_valid(label))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("\"%s\" is not the label of a backup", label)));
	if (!is_file_name(file))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("\"%s\" is not the name of a backup's file", file)));
	/* one that the catalog does not know can be there all the same */
	wa_backup_file_path(path, source, of_label != 0 ? of_label : sysid, label, "", file);
	fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | PG_BINARY);
	if (fd < 0 && errno == ENOENT)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FILE),
				 errmsg("backup \"%s\" of source \"%s\" has no file \"%s\"", label, source, file)));
	if (fd < 0 || fstat(fd, &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	if (!S_ISREG(st.st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a regular file", path)));
	PG_RETURN_BYTEA_P(read_piece(fd, path, (uint64) st.st_size, (uint64) st.st_size, offset, length));
}

/* walarchive.source_layout(source) */
Datum
wa_source_layout(PG_FUNCTION_ARGS)
{
	char *source = text_argument(fcinfo, 0, "name of the source");
	WaRangeReader *reader = wa_range_begin(source);
	Datum values[LAYOUT_COLUMNS];
	bool nulls[LAYOUT_COLUMNS];
	TupleDesc tupdesc;

	(void) wa_serve_cluster(source);
	wa_serve_layout(source, values, nulls, LAYOUT_COLUMNS);
	wa_range_end(reader);
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE || tupdesc->natts != LAYOUT_COLUMNS)
		elog(ERROR, "walarchive.source_layout is declared in another way");
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}
