/*-------------------------------------------------------------------------
 *
 * source_functions.c
 *	  What add_source, alter_source and attach_source ask of C: names, and
 *	  what already lies in a source's folder.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dirent.h>

#include "fmgr.h"
#include "funcapi.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "../state/archive_dir.h"
#include "../state/source_file.h"
#include "../state/stat_functions.h"
#include "catalog.h"

#define SETTINGS_COLUMNS 18

PG_FUNCTION_INFO_V1(wa_check_source_name);
PG_FUNCTION_INFO_V1(wa_check_slot_name);
PG_FUNCTION_INFO_V1(wa_slot_name_of);
PG_FUNCTION_INFO_V1(wa_archive_folder_in_use);
PG_FUNCTION_INFO_V1(wa_archived_settings);

/* walarchive.check_source_name(name) */
Datum
wa_check_source_name(PG_FUNCTION_ARGS)
{
	char *name;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name of the source must not be null")));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (!wa_source_name_is_valid(name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid source name \"%s\"", name),
				 errhint("A name has 1 to %d characters of a-z, 0-9, \"_\" and \"-\", the first a letter or digit.",
						 WA_SOURCE_NAME_LEN - 1)));
	PG_RETURN_VOID();
}

/* walarchive.check_slot_name(slot_name) */
Datum
wa_check_slot_name(PG_FUNCTION_ARGS)
{
	char *name;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name of the replication slot must not be null")));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (!wa_slot_name_is_valid(name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid replication slot name \"%s\"", name),
				 errhint("A slot name has 1 to %d characters of a-z, 0-9 and \"_\".",
						 WA_SLOT_NAME_LEN - 1)));
	PG_RETURN_VOID();
}

/* walarchive.default_slot_name(name); the name has been checked */
Datum
wa_slot_name_of(PG_FUNCTION_ARGS)
{
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char slot[WA_SLOT_NAME_LEN];

	wa_default_slot_name(slot, name);
	PG_RETURN_TEXT_P(cstring_to_text(slot));
}

/*
 * walarchive.archive_folder_in_use(name): whether the source's folder holds
 * settings, a cluster's folder or WAL.
 */
Datum
wa_archive_folder_in_use(PG_FUNCTION_ARGS)
{
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char problem[WA_ERROR_LEN];
	char path[MAXPGPATH];
	DIR *dir;
	struct dirent *de;
	bool in_use = false;

	wa_require_preload();
	if (wa_directory_problem(problem, sizeof(problem)) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the archive directory cannot be used"),
				 errdetail("%s.", problem),
				 errhint("Set walarchive.directory to a folder that exists, is writable and lies outside the data directory, and restart the server.")));
	wa_source_path(path, name);
	dir = AllocateDir(path);
	if (dir == NULL && errno == ENOENT)
		PG_RETURN_BOOL(false);
	while (!in_use && (de = ReadDir(dir, path)) != NULL)
	{
		TimeLineID tli;
		uint64 segno;
		size_t len = strlen(de->d_name);

		in_use = strcmp(de->d_name, "source.json") == 0 ||
				 strcmp(de->d_name, "journal") == 0 ||
				 strspn(de->d_name, "0123456789") == len ||
				 wa_parse_wal_name(de->d_name, WA_MIN_SEGMENT_SIZE, &tli, &segno) != WA_FILE_OTHER;
	}
	FreeDir(dir);
	PG_RETURN_BOOL(in_use);
}

/* An interval of milliseconds. */
static Datum
interval_of_ms(int ms)
{
	Interval *interval = palloc0(sizeof(Interval));

	interval->time = (TimeOffset) ms * 1000;
	return IntervalPGetDatum(interval);
}

/* The columns of the schedule of backups, from 'n' on; NULL where there is none. */
static void
set_schedule(const WaSourceSettings *s, Datum *values, bool *nulls, int n)
{
	const WaBackupSchedule *schedule = &s->schedule;
	int64 usec[3] = {schedule->full_interval, schedule->incremental_interval, schedule->jitter};
	int column[3] = {n, n + 1, n + 4};

	if (schedule->full_interval == 0)
	{
		memset(nulls + n, true, 8 * sizeof(bool));
		return;
	}
	for (int i = 0; i < 3; i++)
	{
		Interval *interval = palloc0(sizeof(Interval));

		/* days read better, and mean the same here */
		interval->day = (int32) (usec[i] / USECS_PER_DAY);
		interval->time = usec[i] % USECS_PER_DAY;
		values[column[i]] = IntervalPGetDatum(interval);
		nulls[column[i]] = (usec[i] == 0 && i > 0);
	}
	values[n + 2] = TimeADTGetDatum((TimeADT) schedule->window_start * USECS_PER_SEC);
	values[n + 3] = TimeADTGetDatum((TimeADT) schedule->window_end * USECS_PER_SEC);
	nulls[n + 2] = nulls[n + 3] = (schedule->window_start < 0);
	values[n + 5] = CStringGetTextDatum(s->backup_compression);
	values[n + 6] = Int32GetDatum(s->backup_max_rate);
	nulls[n + 6] = (s->backup_max_rate == 0);
	values[n + 7] = TimestampTzGetDatum(schedule->since);
}

/* walarchive.archived_settings(name): of source.json, no row if there is none */
Datum
wa_archived_settings(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = wa_begin_rows(fcinfo, SETTINGS_COLUMNS);
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	WaSourceSettings *s = palloc(sizeof(WaSourceSettings));
	char *problem;
	Datum values[SETTINGS_COLUMNS] = {0};
	bool nulls[SETTINGS_COLUMNS] = {0};

	if (!wa_read_source_file(name, s, &problem))
	{
		if (problem != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("%s", problem),
					 errhint("If the folder was renamed, give it its old name. Otherwise remove the file and give all settings to walarchive.attach_source.")));
		return (Datum) 0;
	}
	values[0] = CStringGetTextDatum(s->conninfo);
	values[1] = CStringGetTextDatum(s->slot_name);
	values[2] = LSNGetDatum(s->start_lsn);
	nulls[2] = (s->start_lsn == 0);
	values[3] = BoolGetDatum(s->allow_standby);
	values[4] = CStringGetTextDatum(s->stop_at_gap ? "stop" : "continue");
	values[5] = Int64GetDatum((int64) s->system_identifier);
	nulls[5] = (s->system_identifier == 0);
	values[6] = Int64GetDatum((int64) s->revision);
	values[7] = interval_of_ms(s->heartbeat_ms);
	values[8] = interval_of_ms(s->relation_names_ms);
	values[9] = CStringGetTextDatum(s->backup_conninfo);
	nulls[9] = (s->backup_conninfo[0] == '\0');
	set_schedule(s, values, nulls, 10);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	return (Datum) 0;
}
