/*-------------------------------------------------------------------------
 *
 * plan_find.c
 *	  What planning a restore reads of the archive's files: one record of a
 *	  stretch of WAL, and sizes.
 *
 * Private SQL functions, called with the rights of the extension's owner by
 * plan_input.c and schema/plan.sql.  walarchive-decode does the reading; one
 * serves all questions of a plan.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dirent.h>
#include <sys/stat.h>

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "../base/flat_json.h"
#include "../base/wal_name.h"
#include "../state/archive_dir.h"
#include "../state/backup_file.h"
#include "../state/stat_functions.h"
#include "catalog.h"
#include "plan_internal.h"

#define FOUND_COLUMNS 9
#define FILE_COLUMNS 2
#define REQUEST_LEN (128 * 1024)

/*
 * The program that serves the plan that is being made, NULL: none is, or it was
 * not needed yet.  An abort closes it (decoder.c), and the callbacks forget it.
 */
static WaDecoder *plan_decoder = NULL;
static bool plan_under_way = false;
static bool callbacks_registered = false;

PG_FUNCTION_INFO_V1(wa_find_in_wal);
PG_FUNCTION_INFO_V1(wa_backup_file_list);
PG_FUNCTION_INFO_V1(wa_history_size);

static char *
source_argument(FunctionCallInfo fcinfo)
{
	char *source = text_to_cstring(PG_GETARG_TEXT_PP(0));

	if (!wa_source_name_is_valid(source))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid source name \"%s\"", source)));
	return source;
}

/* ---- the program ---- */

static void
forget_decoder(void)
{
	plan_decoder = NULL;
	plan_under_way = false;
}

static void
xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PARALLEL_ABORT)
		forget_decoder();
}

static void
subxact_callback(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		forget_decoder();
}

void
wa_plan_decoder_begin(void)
{
	if (!callbacks_registered)
	{
		RegisterXactCallback(xact_callback, NULL);
		RegisterSubXactCallback(subxact_callback, NULL);
		callbacks_registered = true;
	}
	wa_plan_decoder_end();
	plan_under_way = true;
}

void
wa_plan_decoder_end(void)
{
	wa_decoder_close(plan_decoder);
	forget_decoder();
}

static WaDecoder *
get_decoder(void)
{
	if (plan_decoder == NULL)
		plan_decoder = wa_decoder_open(0);
	return plan_decoder;
}

/* ---- a record ---- */

static const char *
role_name(uint32 role)
{
	switch ((WaFoundRole) role)
	{
		case WA_FOUND_MATCH:
			return "match";
		case WA_FOUND_LAST_RECORD:
			return "last_record";
		case WA_FOUND_LAST_XACT:
			return "last_xact";
		case WA_FOUND_LAST_COMMIT:
			return "last_commit";
		case WA_FOUND_PREPARED:
			return "prepared";
		case WA_FOUND_FINISHED:
			return "finished";
		case WA_FOUND_SETTINGS:
			return "settings";
	}
	return NULL;
}

static const char *
kind_name(uint32 kind)
{
	switch ((WaEventKind) kind)
	{
		case WA_EVENT_COMMIT:
			return "commit";
		case WA_EVENT_ABORT:
			return "abort";
		case WA_EVENT_PREPARE:
			return "prepare";
		case WA_EVENT_COMMIT_PREPARED:
			return "commit prepared";
		case WA_EVENT_ABORT_PREPARED:
			return "abort prepared";
		case WA_EVENT_RESTORE_POINT:
			return "restore point";
		default:
			return NULL;
	}
}

static void
put_found(ReturnSetInfo *rsinfo, const WaMsgFound *m, const char *gid)
{
	Datum values[FOUND_COLUMNS] = {0};
	bool nulls[FOUND_COLUMNS] = {0};
	const char *role = role_name(m->role);
	const char *kind = kind_name(m->kind);

	if (role == NULL)
		return;
	values[0] = CStringGetTextDatum(role);
	nulls[1] = (kind == NULL);
	if (kind != NULL)
		values[1] = CStringGetTextDatum(kind);
	values[2] = Int32GetDatum((int32) m->tli);
	values[3] = LSNGetDatum(m->start_lsn);
	values[4] = LSNGetDatum(m->end_lsn);
	values[5] = LSNGetDatum(m->prev_lsn);
	values[6] = TransactionIdGetDatum(m->xid);
	/* any number: it is compared, and shown only where it is a time */
	values[7] = TimestampTzGetDatum(m->time);
	nulls[7] = (kind == NULL);
	nulls[8] = (m->gid_len == 0);
	if (m->gid_len > 0)
		values[8] = CStringGetTextDatum(wa_clean_text(pnstrdup(gid, m->gid_len)));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static void
put_failed(ReturnSetInfo *rsinfo, const char *text)
{
	Datum values[FOUND_COLUMNS] = {0};
	bool nulls[FOUND_COLUMNS];

	memset(nulls, true, sizeof(nulls));
	nulls[0] = nulls[8] = false;
	values[0] = CStringGetTextDatum("failed");
	values[8] = CStringGetTextDatum(wa_clean_text(text));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static char *
find_request(FunctionCallInfo fcinfo, const char *source)
{
	char *request = palloc(REQUEST_LEN);
	uint64 sysid = (uint64) PG_GETARG_INT64(1);
	char *what = text_to_cstring(PG_GETARG_TEXT_PP(7));
	char directory[MAXPGPATH];
	WaJsonWriter w;

	wa_wal_path(directory, source, sysid);
	wa_json_begin(&w, request, REQUEST_LEN);
	wa_json_string(&w, "do", "find");
	wa_json_string(&w, "directory", directory);
	wa_json_uint(&w, "system_identifier", sysid);
	wa_json_uint(&w, "segment_size", (uint32) PG_GETARG_INT32(2));
	wa_json_string(&w, "path", text_to_cstring(PG_GETARG_TEXT_PP(3)));
	wa_json_lsn(&w, "from", PG_GETARG_LSN(4));
	wa_json_lsn(&w, "to", PG_GETARG_LSN(5));
	/* what is asked about was read before: up to there all is WAL */
	wa_json_lsn(&w, "within", PG_GETARG_LSN(6));
	wa_json_lsn(&w, "end", PG_GETARG_LSN(6));
	wa_json_bool(&w, "live", true);
	if (strncmp(what, "name ", 5) == 0)
	{
		wa_json_string(&w, "what", "name");
		wa_json_string(&w, "name", what + 5);
	}
	else
		wa_json_string(&w, "what", what);
	if (!PG_ARGISNULL(8))
		wa_json_uint(&w, "time", (uint64) PG_GETARG_TIMESTAMPTZ(8));
	if (!PG_ARGISNULL(9))
		wa_json_uint(&w, "xid", PG_GETARG_TRANSACTIONID(9));
	if (!wa_json_end(&w))
		elog(ERROR, "request to walarchive-decode is too long");
	return request;
}

/* Put what the answer says; returns NULL, or why it could not be had. */
static const char *
take_answer(WaDecoder *decoder, ReturnSetInfo *rsinfo, uint32 segment_size)
{
	WaDecoderMessage m;
	const char *damage = NULL;

	while (wa_decoder_next(decoder, &m))
	{
		if (m.type == WA_MSG_FOUND)
			put_found(rsinfo, m.body, m.rest);
		else if (m.type == WA_MSG_DAMAGE)
		{
			const WaMsgDamage *d = m.body;

			damage = psprintf("WAL file \"%s\" is damaged now: %s", pnstrdup(m.rest, d->name_len),
							  pnstrdup(m.rest + d->name_len, d->text_len));
		}
		else if (m.type == WA_MSG_END)
		{
			const WaMsgEnd *end = m.body;

			switch ((WaDecodeResult) end->result)
			{
				case WA_DECODE_DONE:
					return NULL;
				case WA_DECODE_MISSING:
					return psprintf("the WAL file of the segment at %X/%X is not there any more",
									LSN_FORMAT_ARGS(end->missing_lsn));
				case WA_DECODE_DAMAGED:
					return damage != NULL ? damage : "a WAL file is damaged now";
				case WA_DECODE_UNKNOWN:
					return psprintf("WAL at %X/%X is of a PostgreSQL version that is not known here",
									LSN_FORMAT_ARGS(end->next_lsn));
				default:
					return pnstrdup(m.rest, end->text_len);
			}
		}
	}
	return psprintf("walarchive-decode %s", wa_decoder_death(decoder, NULL));
}

/* walarchive.find_in_wal(source, system_identifier, segment_size, path, from, to, within, what, time, xid) */
Datum
wa_find_in_wal(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = wa_begin_rows(fcinfo, FOUND_COLUMNS);
	char *source;
	WaDecoder *decoder;
	const char *problem;

	for (int i = 0; i < 8; i++)
	{
		if (PG_ARGISNULL(i))
			elog(ERROR, "argument %d of find_in_wal must not be null", i + 1);
	}
	source = source_argument(fcinfo);
	decoder = get_decoder();
	if (wa_decoder_request(decoder, find_request(fcinfo, source)))
		problem = take_answer(decoder, rsinfo, (uint32) PG_GETARG_INT32(2));
	else
		problem = psprintf("walarchive-decode %s", wa_decoder_death(decoder, NULL));
	/* one that died is of no use to the next question */
	if (problem != NULL || !plan_under_way)
	{
		plan_decoder = NULL;
		wa_decoder_close(decoder);
	}
	if (problem != NULL)
		put_failed(rsinfo, problem);
	return (Datum) 0;
}

/* ---- files ---- */

/* What a restore reads of a backup's folder. */
static bool
belongs_to_backup(const char *name)
{
	size_t len = strlen(name);

	if (strcmp(name, "backup_manifest") == 0 || strcmp(name, "backup.json") == 0)
		return true;
	if (len > 0 && strspn(name, "0123456789") == 0 && strncmp(name, "base.", 5) != 0)
		return false;
	return strstr(name, ".tar") != NULL;
}

/* walarchive.backup_file_list(source, system_identifier, label) */
Datum
wa_backup_file_list(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = wa_begin_rows(fcinfo, FILE_COLUMNS);
	char *source = source_argument(fcinfo);
	char *label = text_to_cstring(PG_GETARG_TEXT_PP(2));
	char folder[MAXPGPATH];
	DIR *dir;
	struct dirent *de;

	if (!wa_backup_label_is_valid(label))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid label of a backup \"%s\"", label)));
	wa_backup_path(folder, source, (uint64) PG_GETARG_INT64(1), label, "");
	dir = AllocateDir(folder);
	while ((de = ReadDir(dir, folder)) != NULL)
	{
		char path[MAXPGPATH * 2];
		struct stat st;
		Datum values[FILE_COLUMNS];
		bool nulls[FILE_COLUMNS] = {0};

		if (!belongs_to_backup(de->d_name))
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, de->d_name);
		if (lstat(path, &st) != 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not stat file \"%s\": %m", path)));
		if (!S_ISREG(st.st_mode))
			continue;
		values[0] = CStringGetTextDatum(de->d_name);
		values[1] = Int64GetDatum((int64) st.st_size);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	FreeDir(dir);
	return (Datum) 0;
}

/* walarchive.history_size(source, system_identifier, timeline) */
Datum
wa_history_size(PG_FUNCTION_ARGS)
{
	char *source = source_argument(fcinfo);
	char name[WA_WAL_NAME_LEN];
	int64 size;

	wa_require_preload();
	wa_history_name(name, (TimeLineID) PG_GETARG_INT32(2));
	size = wa_wal_file_size(source, (uint64) PG_GETARG_INT64(1), name);
	if (size < 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(size);
}
