/*-------------------------------------------------------------------------
 *
 * source_file.c
 *	  source.json and cluster.json.  See source_file.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dirent.h>
#include <sys/stat.h>

#include "nodes/pg_list.h"
#include "storage/fd.h"

#include "../base/flat_json.h"
#include "../base/wal_name.h"
#include "archive_dir.h"
#include "journal.h"
#include "source_file.h"

#define MAX_FILE_LEN (8 * WA_CONNINFO_LEN)

/*
 * Member 'key' in milliseconds, 0: off.  'missing' is what a file without it
 * means; false if it is out of bounds.
 */
static bool
parse_interval(const char *text, size_t len, const char *key, int least,
			   int missing, int *ms)
{
	uint64 value;

	*ms = missing;
	if (!wa_json_get_uint(text, len, key, &value))
		return true;
	if (value != 0 && (value < (uint64) least || value > WA_MAX_INTERVAL_MS))
		return false;
	*ms = (int) value;
	return true;
}

/*
 * The schedule of backups; false if it is none that could be followed.  A file
 * without one is of an older version, or of a source that has none.
 */
static bool
parse_schedule(const char *text, size_t len, WaSourceSettings *settings)
{
	WaBackupSchedule *schedule = &settings->schedule;
	uint64 full,
		value,
		end;
	char stamp[WA_UTC_LEN];

	schedule->window_start = schedule->window_end = -1;
	if (!wa_json_get_uint(text, len, "backup_full_interval", &full))
		return true;
	if (full < WA_MIN_BACKUP_INTERVAL || full > WA_MAX_BACKUP_INTERVAL ||
		!wa_json_get_string(text, len, "backup_scheduled_at", stamp, sizeof(stamp)) ||
		!wa_parse_utc(stamp, &schedule->since))
		return false;
	schedule->full_interval = (int64) full;
	if (wa_json_get_uint(text, len, "backup_incremental_interval", &value))
	{
		if (value < WA_MIN_BACKUP_INTERVAL || value > WA_MAX_BACKUP_INTERVAL)
			return false;
		schedule->incremental_interval = (int64) value;
	}
	if (wa_json_get_uint(text, len, "backup_window_start", &value))
	{
		if (!wa_json_get_uint(text, len, "backup_window_end", &end) ||
			value >= WA_DAY_SECONDS || end >= WA_DAY_SECONDS || value == end)
			return false;
		schedule->window_start = (int) value;
		schedule->window_end = (int) end;
	}
	if (wa_json_get_uint(text, len, "backup_jitter", &value))
	{
		if (value > WA_MAX_BACKUP_INTERVAL)
			return false;
		schedule->jitter = (int64) value;
	}
	if (wa_json_get_uint(text, len, "backup_max_rate", &value))
	{
		if (value < WA_MIN_BACKUP_RATE || value > WA_MAX_BACKUP_RATE)
			return false;
		settings->backup_max_rate = (int) value;
	}
	return wa_json_get_string(text, len, "backup_compression", settings->backup_compression,
							  sizeof(settings->backup_compression));
}

/* Fill 'settings' from the text of a source.json; NULL or what is wrong. */
static const char *
parse_source(const char *source, const char *text, size_t len,
			 WaSourceSettings *settings)
{
	uint64 format;
	char word[32];

	if (!wa_json_valid(text, len))
		return "it is not valid JSON";
	if (!wa_json_get_uint(text, len, "format", &format))
		return "it has no \"format\"";
	if (format != WA_FORMAT_VERSION)
		return "its \"format\" is not known to this version of walarchive";
	if (!wa_json_get_string(text, len, "name", settings->name,
							sizeof(settings->name)) ||
		strcmp(settings->name, source) != 0)
		return "its \"name\" is not the folder's";
	if (!wa_json_get_string(text, len, "conninfo", settings->conninfo,
							sizeof(settings->conninfo)))
		return "it has no \"conninfo\"";
	(void) wa_json_get_string(text, len, "backup_conninfo", settings->backup_conninfo,
							  sizeof(settings->backup_conninfo));
	if (!wa_json_get_string(text, len, "slot_name", settings->slot_name,
							sizeof(settings->slot_name)) ||
		!wa_slot_name_is_valid(settings->slot_name))
		return "its \"slot_name\" is missing or invalid";
	if (!wa_json_get_string(text, len, "state", word, sizeof(word)))
		return "it has no \"state\"";
	if (strcmp(word, "dropped") == 0)
	{
		settings->dropped = true;
		settings->desired = WA_DESIRED_DROPPING;
	}
	else if (!wa_parse_desired_state(word, &settings->desired))
		return "its \"state\" is not known";
	if (!wa_json_get_uint(text, len, "revision", &settings->revision))
		return "it has no \"revision\"";
	(void) wa_json_get_lsn(text, len, "start_lsn", &settings->start_lsn);
	(void) wa_json_get_bool(text, len, "allow_standby", &settings->allow_standby);
	(void) wa_json_get_bool(text, len, "stop_at_gap", &settings->stop_at_gap);
	if (!parse_interval(text, len, "heartbeat_interval", WA_MIN_HEARTBEAT_MS, 0,
						&settings->heartbeat_ms))
		return "its \"heartbeat_interval\" is out of range";
	if (!parse_interval(text, len, "relation_names_interval", WA_MIN_RELATION_NAMES_MS,
						WA_DEFAULT_RELATION_NAMES_MS, &settings->relation_names_ms))
		return "its \"relation_names_interval\" is out of range";
	if (!parse_schedule(text, len, settings))
		return "its schedule of backups is not valid";
	(void) wa_json_get_bool(text, len, "drop_slot", &settings->drop_slot);
	(void) wa_json_get_bool(text, len, "delete_files", &settings->delete_files);
	(void) wa_json_get_uint(text, len, "system_identifier",
							&settings->system_identifier);
	return NULL;
}

bool
wa_read_source_file(const char *source, WaSourceSettings *settings,
					char **problem)
{
	char path[MAXPGPATH];
	char *text;
	size_t len;
	const char *wrong;

	if (problem)
		*problem = NULL;
	memset(settings, 0, sizeof(*settings));
	wa_source_file_path(path, source, "source.json");
	text = wa_read_file(path, MAX_FILE_LEN, &len);
	if (text == NULL)
		return false;
	wrong = parse_source(source, text, len, settings);
	pfree(text);
	if (wrong == NULL)
		return true;
	if (problem == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("file \"%s\" is damaged: %s", path, wrong),
				 errhint("walarchive.alter_source writes it anew from the catalog.")));
	*problem = psprintf("file \"%s\" is damaged: %s", path, wrong);
	return false;
}

static void
write_schedule(WaJsonWriter *w, const WaSourceSettings *settings)
{
	const WaBackupSchedule *schedule = &settings->schedule;
	char stamp[WA_UTC_LEN];

	if (schedule->full_interval == 0)
		return;
	wa_json_uint(w, "backup_full_interval", (uint64) schedule->full_interval);
	if (schedule->incremental_interval != 0)
		wa_json_uint(w, "backup_incremental_interval", (uint64) schedule->incremental_interval);
	if (schedule->window_start >= 0)
	{
		wa_json_uint(w, "backup_window_start", (uint64) schedule->window_start);
		wa_json_uint(w, "backup_window_end", (uint64) schedule->window_end);
	}
	if (schedule->jitter != 0)
		wa_json_uint(w, "backup_jitter", (uint64) schedule->jitter);
	wa_json_string(w, "backup_compression", settings->backup_compression);
	if (settings->backup_max_rate != 0)
		wa_json_uint(w, "backup_max_rate", (uint64) settings->backup_max_rate);
	wa_format_utc(schedule->since, stamp, sizeof(stamp));
	wa_json_string(w, "backup_scheduled_at", stamp);
}

void
wa_write_source_file(const WaSourceSettings *settings)
{
	char path[MAXPGPATH];
	char *text = palloc(MAX_FILE_LEN);
	WaJsonWriter w;

	wa_json_begin(&w, text, MAX_FILE_LEN);
	wa_json_uint(&w, "format", WA_FORMAT_VERSION);
	wa_json_string(&w, "name", settings->name);
	wa_json_string(&w, "conninfo", settings->conninfo);
	if (settings->backup_conninfo[0] != '\0')
		wa_json_string(&w, "backup_conninfo", settings->backup_conninfo);
	wa_json_string(&w, "slot_name", settings->slot_name);
	wa_json_string(&w, "state", settings->dropped ? "dropped" : wa_desired_state_name(settings->desired));
	if (settings->start_lsn != 0)
		wa_json_lsn(&w, "start_lsn", settings->start_lsn);
	wa_json_bool(&w, "allow_standby", settings->allow_standby);
	wa_json_bool(&w, "stop_at_gap", settings->stop_at_gap);
	wa_json_uint(&w, "heartbeat_interval", (uint64) settings->heartbeat_ms);
	wa_json_uint(&w, "relation_names_interval", (uint64) settings->relation_names_ms);
	write_schedule(&w, settings);
	if (settings->desired == WA_DESIRED_DROPPING)
	{
		wa_json_bool(&w, "drop_slot", settings->drop_slot);
		wa_json_bool(&w, "delete_files", settings->delete_files);
	}
	if (settings->system_identifier != 0)
		wa_json_uint(&w, "system_identifier", settings->system_identifier);
	wa_json_uint(&w, "revision", settings->revision);
	if (!wa_json_end(&w))
		elog(ERROR, "settings of source \"%s\" are too long", settings->name);

	wa_source_path(path, settings->name);
	(void) wa_make_directory(path);
	wa_source_file_path(path, settings->name, "source.json");
	wa_write_file(path, text, w.used);
	pfree(text);
}

List *
wa_list_source_files(void)
{
	List *names = NIL;
	DIR *dir = AllocateDir(wa_directory);
	struct dirent *de;

	while ((de = ReadDir(dir, wa_directory)) != NULL)
	{
		char path[MAXPGPATH];
		struct stat st;

		if (!wa_source_name_is_valid(de->d_name))
			continue;
		wa_source_file_path(path, de->d_name, "source.json");
		if (stat(path, &st) == 0)
			names = lappend(names, pstrdup(de->d_name));
	}
	FreeDir(dir);
	return names;
}

static int
compare_uint64(const void *a, const void *b)
{
	uint64 x = *(const uint64 *) a;
	uint64 y = *(const uint64 *) b;

	return x < y ? -1 : x > y;
}

int
wa_list_clusters(const char *source, uint64 *sysids, int max)
{
	char path[MAXPGPATH];
	DIR *dir;
	struct dirent *de;
	int n = 0;

	wa_source_path(path, source);
	dir = AllocateDir(path);
	if (dir == NULL && errno == ENOENT)
		return 0;
	while ((de = ReadDir(dir, path)) != NULL)
	{
		size_t len = strlen(de->d_name);
		uint64 sysid;
		struct stat st;
		char file[MAXPGPATH];

		if (len < 1 || len > 20 || strspn(de->d_name, "0123456789") != len)
			continue;
		sysid = strtou64(de->d_name, NULL, 10);
		wa_cluster_path(file, source, sysid);
		if (stat(file, &st) != 0 || !S_ISDIR(st.st_mode))
			continue;
		if (n < max)
			sysids[n] = sysid;
		n++;
	}
	FreeDir(dir);
	qsort(sysids, Min(n, max), sizeof(uint64), compare_uint64);
	return n;
}

bool
wa_read_cluster_file(const char *source, uint64 sysid, uint32 *segment_size)
{
	char dir[MAXPGPATH];
	char path[MAXPGPATH];
	char *text;
	size_t len;
	uint64 size;

	wa_cluster_path(dir, source, sysid);
	snprintf(path, sizeof(path), "%s/cluster.json", dir);
	text = wa_read_file(path, MAX_FILE_LEN, &len);
	if (text == NULL)
		return false;
	if (!wa_json_valid(text, len) ||
		!wa_json_get_uint(text, len, "segment_size", &size) ||
		!wa_segment_size_is_valid(size))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("file \"%s\" is damaged", path),
				 errdetail("It must be a JSON object with a valid \"segment_size\"."),
				 errhint("Write the cluster's wal_segment_size in bytes into it, for example {\"segment_size\": 16777216}.")));
	pfree(text);
	*segment_size = (uint32) size;
	return true;
}

void
wa_write_cluster_file(const char *source, uint64 sysid, uint32 segment_size,
					  int server_version)
{
	char dir[MAXPGPATH];
	char path[MAXPGPATH];
	char text[256];
	WaJsonWriter w;

	wa_json_begin(&w, text, sizeof(text));
	wa_json_uint(&w, "format", WA_FORMAT_VERSION);
	wa_json_uint(&w, "system_identifier", sysid);
	wa_json_uint(&w, "segment_size", segment_size);
	wa_json_uint(&w, "server_version", server_version);
	(void) wa_json_end(&w);

	wa_source_path(path, source);
	(void) wa_make_directory(path);
	wa_cluster_path(dir, source, sysid);
	(void) wa_make_directory(dir);
	wa_wal_path(path, source, sysid);
	(void) wa_make_directory(path);
	snprintf(path, sizeof(path), "%s/cluster.json", dir);
	wa_write_file(path, text, w.used);
}
