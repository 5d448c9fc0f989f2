/*-------------------------------------------------------------------------
 *
 * backup_functions.c
 *	  SQL functions that ask for a base backup, wait for it, cancel it and show
 *	  how far it is.
 *
 * The backup is taken by a worker; the session that asked only waits, and can
 * be cancelled at any time, which cancels the backup as well.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "../capture/conninfo.h"
#include "../compat.h"
#include "../state/archive_dir.h"
#include "../state/backup_file.h"
#include "../state/shmem.h"
#include "../state/source_file.h"
#include "../state/stat_functions.h"
#include "backup_check.h"
#include "codec.h"

#define STATE_COLUMNS 18

/* A line of progress comes this often while files stream. */
#define NOTICE_MS 10000

/* How long a cancelled session waits for the worker to clean up. */
#define CLEAN_UP_MS 5000

/* What PostgreSQL takes for MAX_RATE, kB/s. */
#define MIN_RATE 32
#define MAX_RATE 1048576

PG_FUNCTION_INFO_V1(wa_take_backup);
PG_FUNCTION_INFO_V1(wa_cancel_backup);
PG_FUNCTION_INFO_V1(wa_backup_state);

/* ---- the request ---- */

/* Argument 'n' as a string of less than 'size' bytes; false if it is NULL. */
static bool
get_text_arg(FunctionCallInfo fcinfo, int n, const char *name, char *value, size_t size)
{
	char *given;

	if (PG_ARGISNULL(n))
		return false;
	given = text_to_cstring(PG_GETARG_TEXT_PP(n));
	if (strlen(given) >= size)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is too long: it may have %zu bytes", name, size - 1)));
	strlcpy(value, given, size);
	return true;
}

static void
need_text_arg(FunctionCallInfo fcinfo, int n, const char *name, char *value, size_t size)
{
	if (!get_text_arg(fcinfo, n, name, value, size))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
}

static void
check_label(const char *label)
{
	if (!wa_backup_label_is_valid(label))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid backup label \"%s\"", label),
				 errhint("A label has 1 to %d characters of A-Z, a-z, 0-9, \"_\", \"-\" and \".\", the first a letter or digit; it does not end in \"%s\" or \"%s\".",
						 WA_BACKUP_LABEL_LEN - 1, WA_BACKUP_RUNNING_SUFFIX, WA_BACKUP_DELETED_SUFFIX)));
}

/* The time in UTC, and F for full or I for incremental. */
static void
make_label(WaBackupRequest *request)
{
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(request->label, sizeof(request->label),
			 request->incremental ? "%Y%m%dT%H%M%SI" : "%Y%m%dT%H%M%SF", &tm);
}

static void
check_host(void)
{
	WaHostState state;
	char error[WA_ERROR_LEN];
	TimestampTz start;

	wa_require_preload();
	wa_read_host(&state, error, &start);
	if (state != WA_HOST_RUNNING && state != WA_HOST_STARTING)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this server does not archive at the moment"),
				 error[0] != '\0' ? errdetail("%s.", error) : 0,
				 errhint("See walarchive.health.")));
}

static void
check_source(const char *source)
{
	WaSourceSettings *settings = palloc(sizeof(WaSourceSettings));
	char *problem = NULL;

	if (wa_source_name_is_valid(source) && wa_read_source_file(source, settings, &problem) && !settings->dropped)
	{
		pfree(settings);
		return;
	}
	if (problem)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("%s", problem)));
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("source \"%s\" does not exist", source),
			 errhint("The table walarchive.source lists the sources.")));
}

static void
read_request(FunctionCallInfo fcinfo, WaBackupRequest *request)
{
	char word[WA_BACKUP_OPTION_LEN];
	WaCompression compression;
	char *problem;

	memset(request, 0, sizeof(*request));
	need_text_arg(fcinfo, 0, "source", request->source, sizeof(request->source));
	check_source(request->source);

	need_text_arg(fcinfo, 1, "kind", word, sizeof(word));
	request->incremental = strcmp(word, "incremental") == 0;
	if (!request->incremental && strcmp(word, "full") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown kind of backup \"%s\"", word),
				 errhint("A backup is \"full\" or \"incremental\".")));
	if (!get_text_arg(fcinfo, 2, "label", request->label, sizeof(request->label)))
		make_label(request);
	check_label(request->label);
	if (get_text_arg(fcinfo, 3, "parent", request->parent, sizeof(request->parent)))
	{
		check_label(request->parent);
		if (!request->incremental)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a full backup has no parent")));
	}

	need_text_arg(fcinfo, 4, "checkpoint", word, sizeof(word));
	request->fast_checkpoint = strcmp(word, "fast") == 0;
	if (!request->fast_checkpoint && strcmp(word, "spread") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown kind of checkpoint \"%s\"", word),
				 errhint("A checkpoint is \"fast\" or \"spread\".")));
	need_text_arg(fcinfo, 5, "compression", request->compression, sizeof(request->compression));
	problem = wa_parse_compression(request->compression, &compression);
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid compression \"%s\": %s", request->compression, problem)));
	if (!PG_ARGISNULL(6))
	{
		request->max_rate = PG_GETARG_INT32(6);
		if (request->max_rate < MIN_RATE || request->max_rate > MAX_RATE)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("max_rate must be between %d and %d kB per second", MIN_RATE, MAX_RATE)));
	}
	request->tolerate_checksum_failures = !PG_ARGISNULL(7) && !PG_GETARG_BOOL(7);
	need_text_arg(fcinfo, 8, "manifest_checksums", request->manifest_checksums, sizeof(request->manifest_checksums));
	if (wa_backup_checksum_name(request->manifest_checksums) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown checksum algorithm \"%s\"", request->manifest_checksums),
				 errhint("Known are SHA224, SHA256, SHA384, SHA512, CRC32C and NONE.")));
	if (get_text_arg(fcinfo, 9, "conninfo", request->conninfo, sizeof(request->conninfo)))
		wa_validate_conninfo(request->conninfo);
	(void) get_text_arg(fcinfo, 11, "annotation", request->annotation, sizeof(request->annotation));
}

/* ---- waiting ---- */

/* Gives up a backup whose asker leaves; also the exit callback. */
static void
abandon(int code, Datum arg)
{
	int entry = DatumGetInt32(arg);

	if (pg_atomic_read_u32(&wa_shared->backup[entry].asker) != (uint32) MyProcPid)
		return;
	wa_cancel_backup_entry(entry);
	wa_backup_forget(entry);
}

static void
tell_progress(const WaBackupStat *stat)
{
	if (stat->phase == WA_BACKUP_STREAMING && stat->bytes_total > 0)
		ereport(NOTICE,
				(errmsg("%s: %lld of about %lld MB (%d%%), tablespace %d of %d",
						wa_backup_phase_name(stat->phase),
						(long long) (stat->bytes_done / (1024 * 1024)),
						(long long) (stat->bytes_total / (1024 * 1024)),
						(int) Min(100, stat->bytes_done * 100.0 / stat->bytes_total),
						Min(stat->tablespaces_done + 1, stat->tablespaces_total),
						stat->tablespaces_total)));
	else
		ereport(NOTICE, (errmsg("%s", wa_backup_phase_name(stat->phase))));
}

/* Until the worker has left; raises the error of an interrupt. */
static void
wait_for_worker(int entry, WaBackupStat *stat)
{
	WaBackupPhase told = WA_BACKUP_STARTING;
	TimestampTz told_at = GetCurrentTimestamp();

	for (;;)
	{
		uint32 holder = wa_read_backup(entry, NULL, stat);

		if (holder == 0)
			return;
		if (stat->phase != WA_BACKUP_DONE && stat->phase != WA_BACKUP_FAILED &&
			(stat->phase != told ||
			 TimestampDifferenceExceeds(told_at, GetCurrentTimestamp(), NOTICE_MS)))
		{
			tell_progress(stat);
			told = stat->phase;
			told_at = GetCurrentTimestamp();
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 200, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * The session was interrupted: cancel the backup, wait a little until that is
 * done, and add to the error what became of it.
 */
pg_noreturn static void
give_up(int entry, const char *label, MemoryContext context)
{
	WaBackupStat *stat;
	ErrorData *error;
	uint32 holder;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	HOLD_INTERRUPTS();
	wa_cancel_backup_entry(entry);
	stat = palloc(sizeof(WaBackupStat));
	for (int waited = 0;; waited += 20)
	{
		holder = wa_read_backup(entry, NULL, stat);
		if (holder == 0 || waited >= CLEAN_UP_MS)
			break;
		(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 20, PG_WAIT_EXTENSION);
	}
	wa_backup_forget(entry);
	RESUME_INTERRUPTS();
	if (error->detail == NULL)
	{
		if (stat->phase == WA_BACKUP_DONE || stat->phase == WA_BACKUP_WAITING)
			error->detail = psprintf("Backup \"%s\" is whole and is kept; only the wait for its WAL was given up.", label);
		else if (stat->phase == WA_BACKUP_FAILED)
			error->detail = psprintf("Backup \"%s\" was cancelled, and nothing of it is left.", label);
		else
			error->detail = psprintf("Backup \"%s\" is being cancelled.", label);
	}
	ReThrowError(error);
	pg_unreachable();
}

/* The worker has left: raise its error, if it has one. */
static void
raise_outcome(const WaBackupRequest *request, const WaBackupStat *stat)
{
	const char *hint = stat->error_hint;
	char *error = pstrdup(wa_clean_text(stat->error));
	char *detail = strchr(error, '\n');

	if (stat->phase == WA_BACKUP_DONE && stat->error[0] == '\0')
		return;
	if (detail)
		*detail++ = '\0';
	if (stat->phase == WA_BACKUP_DONE)
		ereport(ERROR,
				(errcode(stat->sqlstate ? stat->sqlstate : ERRCODE_QUERY_CANCELED),
				 errmsg("the wait for the WAL of backup \"%s\" was given up: %s", request->label, error),
				 errdetail("Backup \"%s\" is whole and is kept.", request->label)));
	ereport(ERROR,
			(errcode(stat->sqlstate ? stat->sqlstate : ERRCODE_INTERNAL_ERROR),
			 errmsg("backup \"%s\" of source \"%s\" failed: %s", request->label, request->source,
					error[0] != '\0' ? error : "its worker ended"),
			 detail ? errdetail("%s", detail) : 0,
			 hint[0] != '\0' ? errhint("%s", wa_clean_text(hint)) : 0));
}

/* walarchive.take_backup(source, kind, ...): its label */
Datum
wa_take_backup(PG_FUNCTION_ARGS)
{
	WaBackupRequest *request = palloc(sizeof(WaBackupRequest));
	WaBackupStat *stat = palloc(sizeof(WaBackupStat));
	bool wait = PG_ARGISNULL(10) || PG_GETARG_BOOL(10);
	MemoryContext context = CurrentMemoryContext;
	char *problem;
	char *hint;
	int entry;

	check_host();
	read_request(fcinfo, request);
	entry = wa_start_backup(request, wait, &problem, &hint);
	if (entry < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("%s", problem), errhint("%s", hint)));
	if (wait)
	{
		before_shmem_exit(abandon, Int32GetDatum(entry));
		PG_TRY();
		{
			wait_for_worker(entry, stat);
		}
		PG_CATCH();
		{
			cancel_before_shmem_exit(abandon, Int32GetDatum(entry));
			give_up(entry, request->label, context);
		}
		PG_END_TRY();
		cancel_before_shmem_exit(abandon, Int32GetDatum(entry));
		wa_backup_forget(entry);
		raise_outcome(request, stat);
	}
	PG_RETURN_TEXT_P(cstring_to_text(request->label));
}

/* walarchive.cancel_backup(source): whether there was one */
Datum
wa_cancel_backup(PG_FUNCTION_ARGS)
{
	char *source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int entry;

	wa_require_preload();
	entry = wa_find_backup(source);
	if (entry >= 0)
		wa_cancel_backup_entry(entry);
	PG_RETURN_BOOL(entry >= 0);
}

/* ---- progress ---- */

static void
set_number(Datum *values, bool *nulls, int n, int64 value)
{
	values[n] = Int64GetDatum(value);
	nulls[n] = value < 0;
}

/* walarchive.backup_state(): a row for each backup that is being taken */
Datum
wa_backup_state(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = wa_begin_rows(fcinfo, STATE_COLUMNS);
	WaBackupRequest *request = palloc(sizeof(WaBackupRequest));
	WaBackupStat *s = palloc(sizeof(WaBackupStat));

	for (int i = 0; i < WA_BACKUP_ENTRIES; i++)
	{
		Datum values[STATE_COLUMNS] = {0};
		bool nulls[STATE_COLUMNS] = {0};
		uint32 holder = wa_read_backup(i, request, s);

		if (holder == 0 || s->phase == WA_BACKUP_DONE || s->phase == WA_BACKUP_FAILED)
			continue;
		values[0] = Int32GetDatum((int32) holder);
		values[1] = CStringGetTextDatum(request->source);
		values[2] = CStringGetTextDatum(request->label);
		values[3] = CStringGetTextDatum(request->incremental ? "incremental" : "full");
		values[4] = CStringGetTextDatum(s->parent);
		nulls[4] = s->parent[0] == '\0';
		values[5] = BoolGetDatum(request->scheduled);
		values[6] = Int64GetDatum((int64) s->system_identifier);
		nulls[6] = s->system_identifier == 0;
		values[7] = CStringGetTextDatum(wa_backup_phase_name(s->phase));
		set_number(values, nulls, 8, s->bytes_total);
		set_number(values, nulls, 9, s->bytes_done);
		set_number(values, nulls, 10, s->bytes_written);
		set_number(values, nulls, 11, s->tablespaces_total);
		set_number(values, nulls, 12, s->tablespaces_done);
		set_number(values, nulls, 13, s->tli == 0 ? -1 : (int64) s->tli);
		values[14] = LSNGetDatum(s->start_lsn);
		nulls[14] = s->start_lsn == 0;
		values[15] = LSNGetDatum(s->stop_lsn);
		nulls[15] = s->stop_lsn == 0;
		values[16] = TimestampTzGetDatum(s->started_at);
		values[17] = TimestampTzGetDatum(s->phase_since);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
