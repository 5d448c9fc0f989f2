/*-------------------------------------------------------------------------
 *
 * serve_functions.c
 *	  wal_file, read_wal, stream_wal, read_backup_file, stream_backup_file,
 *	  source_layout: the archive's files for those who restore from it.
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

#include "catalog/pg_type.h"
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

/*
 * Bytes in a row of many.  Larger ones cost more than they save: malloc gives
 * such memory back to the system after each row, and gets it anew, zeroed.
 */
#define ROW_LENGTH (32 * 1024)

/* Longest name of a file in a backup's folder. */
#define MAX_FILE_NAME 128

PG_FUNCTION_INFO_V1(wa_wal_file);
PG_FUNCTION_INFO_V1(wa_read_wal);
PG_FUNCTION_INFO_V1(wa_read_backup_file);
PG_FUNCTION_INFO_V1(wa_stream_wal);
PG_FUNCTION_INFO_V1(wa_stream_backup_file);
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

/* 'type' is that of the length: of one row it is limited, of many it is not. */
static void
range_argument(FunctionCallInfo fcinfo, int n, Oid type, int64 *offset, int64 *length)
{
	if (PG_ARGISNULL(n) || PG_ARGISNULL(n + 1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("offset and length must not be null")));
	*offset = PG_GETARG_INT64(n);
	*length = type == INT4OID ? PG_GETARG_INT32(n + 1) : PG_GETARG_INT64(n + 1);
	if (*offset < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("offset must not be negative")));
	if (type == INT4OID && (*length < 0 || *length > WA_SERVE_MAX_LENGTH))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("length must be between 0 and %d", WA_SERVE_MAX_LENGTH)));
	if (*length < 0 || *length > PG_INT64_MAX - *offset)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("length is out of range")));
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

/* An open file of which bytes are read. */
typedef struct OpenFile
{
	int fd;
	char name[MAXPGPATH];
	uint64 size;  /* bytes to be delivered */
	uint64 valid; /* of these, bytes of the file; zeros follow */
	int64 offset; /* of the next row */
	int64 end;
} OpenFile;

/*
 * Bytes of an open file as a bytea, fewer than 'length' only at the end.
 */
static bytea *
read_piece(const OpenFile *file, int64 offset, int64 length)
{
	size_t wanted = (uint64) offset < file->size ? (size_t) Min((uint64) length, file->size - offset) : 0;
	size_t from_file = (uint64) offset < file->valid ? (size_t) Min((uint64) wanted, file->valid - offset) : 0;
	bytea *piece = palloc(VARHDRSZ + wanted);
	size_t got = 0;

	while (got < from_file)
	{
		ssize_t n;

		CHECK_FOR_INTERRUPTS();
		n = pg_pread(file->fd, VARDATA(piece) + got, from_file - got, (off_t) (offset + got));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read file \"%s\": %m", file->name)));
		/* it has become shorter while it was open */
		if (n == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("file \"%s\" ends after " INT64_FORMAT " bytes", file->name, offset + (int64) got)));
		got += n;
	}
	memset(VARDATA(piece) + got, 0, wanted - got);
	SET_VARSIZE(piece, VARHDRSZ + wanted);
	return piece;
}

static void
close_file(Datum arg)
{
	OpenFile *file = (OpenFile *) DatumGetPointer(arg);

	if (file->fd >= 0)
		CloseTransientFile(file->fd);
	file->fd = -1;
}

/* A row, and the file closed. */
static Datum
one_piece(OpenFile *file, int64 offset, int64 length)
{
	bytea *piece = read_piece(file, offset, length);

	close_file(PointerGetDatum(file));
	PG_RETURN_BYTEA_P(piece);
}

/* The next row of many; the file was opened by the first call. */
static Datum
next_piece(FunctionCallInfo fcinfo)
{
	FuncCallContext *call = SRF_PERCALL_SETUP();
	OpenFile *file = call->user_fctx;
	int64 offset = file->offset;

	if (offset >= file->end || (uint64) offset >= file->size)
	{
		ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

		UnregisterExprContextCallback(rsinfo->econtext, close_file, PointerGetDatum(file));
		close_file(PointerGetDatum(file));
		SRF_RETURN_DONE(call);
	}
	file->offset = Min(offset + ROW_LENGTH, file->end);
	SRF_RETURN_NEXT(call, PointerGetDatum(read_piece(file, offset, file->offset - offset)));
}

/* Memory for a file that is read in many rows; it is closed at the end, whatever that is. */
static OpenFile *
begin_stream(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	FuncCallContext *call;
	OpenFile *file;

	if (rsinfo == NULL || !IsA(rsinfo, ReturnSetInfo) || (rsinfo->allowedModes & SFRM_ValuePerCall) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in context that cannot accept a set")));
	call = SRF_FIRSTCALL_INIT();
	file = MemoryContextAllocZero(call->multi_call_memory_ctx, sizeof(OpenFile));
	file->fd = -1;
	call->user_fctx = file;
	RegisterExprContextCallback(rsinfo->econtext, close_file, PointerGetDatum(file));
	return file;
}

/*
 * A WAL file of these arguments: source, name, ..., plan.  One that is not served
 * raises an error, or, where that is only to be expected, has no bytes.
 */
static void
open_wal(FunctionCallInfo fcinfo, bool missing_ok, OpenFile *file)
{
	char *source = text_argument(fcinfo, 0, "name of the source");
	char *name = text_argument(fcinfo, 1, "name of the file");
	WaRangeReader *reader = wa_range_begin(source);
	WaServed served;

	wa_serve_find(source, name, plan_argument(fcinfo, 4, source), false, &served);
	wa_range_end(reader);
	if (served.fd < 0 && !missing_ok)
		ereport(ERROR,
				(errcode(served.state == WA_SERVE_DAMAGED ? ERRCODE_DATA_CORRUPTED : ERRCODE_UNDEFINED_FILE),
				 errmsg("WAL file \"%s\" of source \"%s\" can't be read", name, source),
				 errdetail_internal("%s.", wa_clean_text(served.detail))));
	file->fd = served.fd;
	strlcpy(file->name, name, sizeof(file->name));
	file->size = served.fd >= 0 ? served.size : 0;
	file->valid = served.fd >= 0 ? served.valid : 0;
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
	OpenFile file;
	int64 offset;
	int64 length;

	range_argument(fcinfo, 2, INT4OID, &offset, &length);
	open_wal(fcinfo, false, &file);
	return one_piece(&file, offset, length);
}

/* walarchive.stream_wal(source, name, offset, length, plan_id) */
Datum
wa_stream_wal(PG_FUNCTION_ARGS)
{
	if (SRF_IS_FIRSTCALL())
	{
		OpenFile *file = begin_stream(fcinfo);
		int64 length;

		range_argument(fcinfo, 2, INT8OID, &file->offset, &length);
		file->end = file->offset + length;
		/* it may have been asked for together with what wal_file says of it */
		open_wal(fcinfo, true, file);
	}
	return next_piece(fcinfo);
}

/* Can a file in a backup's folder be called so? */
static bool
is_file_name(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len < MAX_FILE_NAME && name[0] != '.' &&
		   strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == len;
}

/* A backup's file of these arguments: source, label, file, ... */
static void
open_backup_file(FunctionCallInfo fcinfo, OpenFile *open_file)
{
	char *source = text_argument(fcinfo, 0, "name of the source");
	char *label = text_argument(fcinfo, 1, "label of the backup");
	char *file = text_argument(fcinfo, 2, "name of the file");
	WaRangeReader *reader = wa_range_begin(source);
	uint64 sysid = wa_serve_cluster(source);
	uint64 of_label = wa_serve_backup_cluster(source, label);
	char *path = open_file->name;
	struct stat st;

	wa_range_end(reader);
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
	open_file->fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | PG_BINARY);
	if (open_file->fd < 0 && errno == ENOENT)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FILE),
				 errmsg("backup \"%s\" of source \"%s\" has no file \"%s\"", label, source, file)));
	if (open_file->fd < 0 || fstat(open_file->fd, &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	if (!S_ISREG(st.st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a regular file", path)));
	open_file->size = open_file->valid = (uint64) st.st_size;
}

/* walarchive.read_backup_file(source, label, file, offset, length) */
Datum
wa_read_backup_file(PG_FUNCTION_ARGS)
{
	OpenFile file;
	int64 offset;
	int64 length;

	range_argument(fcinfo, 3, INT4OID, &offset, &length);
	open_backup_file(fcinfo, &file);
	return one_piece(&file, offset, length);
}

/* walarchive.stream_backup_file(source, label, file, offset, length) */
Datum
wa_stream_backup_file(PG_FUNCTION_ARGS)
{
	if (SRF_IS_FIRSTCALL())
	{
		OpenFile *file = begin_stream(fcinfo);
		int64 length;

		range_argument(fcinfo, 3, INT8OID, &file->offset, &length);
		file->end = file->offset + length;
		open_backup_file(fcinfo, file);
	}
	return next_piece(fcinfo);
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
