/*-------------------------------------------------------------------------
 *
 * backup_file.c
 *	  A base backup's folder, backup.json and notes.json.  See backup_file.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/fd.h"
#include "utils/timestamp.h"

#include "../base/flat_json.h"
#include "archive_dir.h"
#include "backup_file.h"
#include "fault_point.h"
#include "journal.h"

#define FORMAT_VERSION 1
#define MAX_INFO_LEN (4 * WA_BACKUP_TABLESPACES_LEN)
#define MAX_NOTES_LEN (16 * WA_BACKUP_NOTE_LEN)

/* ---- paths ---- */

void
wa_backups_path(char *path, const char *source, uint64 sysid)
{
	char dir[MAXPGPATH];

	wa_cluster_path(dir, source, sysid);
	wa_join_path(path, "%s/backup", dir);
}

void
wa_backup_path(char *path, const char *source, uint64 sysid, const char *label,
			   const char *suffix)
{
	char dir[MAXPGPATH];

	/* labels are checked when they enter; a last guard against "../" */
	if (!wa_backup_label_is_valid(label))
		elog(ERROR, "invalid backup label \"%s\"", label);
	wa_backups_path(dir, source, sysid);
	wa_join_path(path, "%s/%s%s", dir, label, suffix);
}

void
wa_backup_file_path(char *path, const char *source, uint64 sysid, const char *label,
					const char *suffix, const char *file)
{
	char dir[MAXPGPATH];

	wa_backup_path(dir, source, sysid, label, suffix);
	wa_join_path(path, "%s/%s", dir, file);
}

/* ---- backup.json ---- */

static void
write_time(WaJsonWriter *w, const char *key, TimestampTz t)
{
	char stamp[WA_UTC_LEN];

	if (TIMESTAMP_IS_NOEND(t))
		strlcpy(stamp, "infinity", sizeof(stamp));
	else
		wa_format_utc(t, stamp, sizeof(stamp));
	wa_json_string(w, key, stamp);
}

static bool
read_time(const char *text, size_t len, const char *key, TimestampTz *t)
{
	char stamp[WA_UTC_LEN];

	if (!wa_json_get_string(text, len, key, stamp, sizeof(stamp)))
		return false;
	if (strcmp(stamp, "infinity") == 0)
	{
		*t = DT_NOEND;
		return true;
	}
	return wa_parse_utc(stamp, t);
}

void
wa_write_backup_info(const char *folder, const WaBackupInfo *info)
{
	char path[MAXPGPATH];
	char *text = palloc(MAX_INFO_LEN);
	WaJsonWriter w;

	wa_json_begin(&w, text, MAX_INFO_LEN);
	wa_json_uint(&w, "format", FORMAT_VERSION);
	wa_json_string(&w, "label", info->label);
	wa_json_uint(&w, "system_identifier", info->system_identifier);
	wa_json_string(&w, "kind", info->incremental ? "incremental" : "full");
	if (info->incremental)
		wa_json_string(&w, "parent", info->parent);
	wa_json_uint(&w, "timeline", info->tli);
	wa_json_lsn(&w, "start_lsn", info->start_lsn);
	wa_json_uint(&w, "stop_timeline", info->stop_tli);
	wa_json_lsn(&w, "stop_lsn", info->stop_lsn);
	wa_json_lsn(&w, "consistent_lsn", info->consistent_lsn);
	write_time(&w, "started_at", info->started_at);
	write_time(&w, "finished_at", info->finished_at);
	wa_json_uint(&w, "server_version", (uint64) info->server_version);
	wa_json_bool(&w, "from_standby", info->from_standby);
	wa_json_string(&w, "compression", info->compression);
	wa_json_string(&w, "checksum_algorithm", info->checksum_algorithm);
	wa_json_string(&w, "manifest_sha256", info->manifest_sha256);
	wa_json_uint(&w, "size", info->size);
	wa_json_uint(&w, "data_size", info->data_size);
	wa_json_uint(&w, "files", info->files);
	wa_json_uint(&w, "checksum_failures", info->checksum_failures);
	wa_json_string(&w, "tablespaces", info->tablespaces ? info->tablespaces : "");
	if (!wa_json_end(&w))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the description of backup \"%s\" is too long", info->label)));
	wa_join_path(path, "%s/backup.json", folder);
	wa_write_file(path, text, w.used);
	pfree(text);
}

/*
 * The folder's name is the label, with or without a suffix; what else is in
 * the file is no more trusted than what is received.  NULL or what is wrong.
 */
static const char *
parse_info(const char *folder, const char *text, size_t len, WaBackupInfo *info)
{
	const char *name = last_dir_separator(folder);
	size_t label_len;
	char word[WA_BACKUP_WORD_LEN];
	uint64 number;

	name = name ? name + 1 : folder;
	if (!wa_json_valid(text, len))
		return "it is not valid JSON";
	if (!wa_json_get_uint(text, len, "format", &number))
		return "it has no \"format\"";
	if (number != FORMAT_VERSION)
		return "its \"format\" is not known to this version of walarchive";
	if (!wa_json_get_string(text, len, "label", info->label, sizeof(info->label)) ||
		!wa_backup_label_is_valid(info->label))
		return "its \"label\" is missing or invalid";
	label_len = strlen(info->label);
	if (strncmp(name, info->label, label_len) != 0 ||
		(name[label_len] != '\0' &&
		 strcmp(name + label_len, WA_BACKUP_RUNNING_SUFFIX) != 0 &&
		 strcmp(name + label_len, WA_BACKUP_DELETED_SUFFIX) != 0))
		return "its \"label\" is not the folder's name";
	if (!wa_json_get_uint(text, len, "system_identifier", &info->system_identifier) ||
		info->system_identifier == 0)
		return "its \"system_identifier\" is missing or invalid";
	if (!wa_json_get_string(text, len, "kind", word, sizeof(word)) ||
		(strcmp(word, "full") != 0 && strcmp(word, "incremental") != 0))
		return "its \"kind\" is missing or not known";
	info->incremental = strcmp(word, "incremental") == 0;
	if (info->incremental &&
		(!wa_json_get_string(text, len, "parent", info->parent, sizeof(info->parent)) ||
		 !wa_backup_label_is_valid(info->parent) || strcmp(info->parent, info->label) == 0))
		return "its \"parent\" is missing or invalid";
	if (!wa_json_get_uint(text, len, "timeline", &number) || number == 0 || number > PG_UINT32_MAX)
		return "its \"timeline\" is missing or invalid";
	info->tli = (TimeLineID) number;
	if (!wa_json_get_uint(text, len, "stop_timeline", &number) || number < info->tli ||
		number > PG_UINT32_MAX)
		return "its \"stop_timeline\" is missing or invalid";
	info->stop_tli = (TimeLineID) number;
	if (!wa_json_get_lsn(text, len, "start_lsn", &info->start_lsn) || info->start_lsn == 0)
		return "its \"start_lsn\" is missing or invalid";
	if (!wa_json_get_lsn(text, len, "stop_lsn", &info->stop_lsn) ||
		info->stop_lsn < info->start_lsn)
		return "its \"stop_lsn\" is missing or invalid";
	if (!wa_json_get_lsn(text, len, "consistent_lsn", &info->consistent_lsn) ||
		info->consistent_lsn < info->start_lsn || info->consistent_lsn > info->stop_lsn)
		return "its \"consistent_lsn\" is missing or invalid";
	if (!read_time(text, len, "started_at", &info->started_at) ||
		!read_time(text, len, "finished_at", &info->finished_at))
		return "its \"started_at\" or \"finished_at\" is missing or invalid";
	if (!wa_json_get_uint(text, len, "server_version", &number) || number > PG_INT32_MAX)
		return "its \"server_version\" is missing or invalid";
	info->server_version = (int) number;
	(void) wa_json_get_bool(text, len, "from_standby", &info->from_standby);
	if (!wa_json_get_string(text, len, "compression", info->compression, sizeof(info->compression)))
		return "it has no \"compression\"";
	if (!wa_json_get_string(text, len, "checksum_algorithm", info->checksum_algorithm,
							sizeof(info->checksum_algorithm)))
		return "it has no \"checksum_algorithm\"";
	if (!wa_json_get_string(text, len, "manifest_sha256", info->manifest_sha256,
							sizeof(info->manifest_sha256)) ||
		strspn(info->manifest_sha256, "0123456789abcdef") != 64)
		return "its \"manifest_sha256\" is missing or invalid";
	(void) wa_json_get_uint(text, len, "size", &info->size);
	(void) wa_json_get_uint(text, len, "data_size", &info->data_size);
	(void) wa_json_get_uint(text, len, "files", &info->files);
	(void) wa_json_get_uint(text, len, "checksum_failures", &info->checksum_failures);
	info->tablespaces = palloc0(WA_BACKUP_TABLESPACES_LEN);
	if (!wa_json_get_string(text, len, "tablespaces", info->tablespaces, WA_BACKUP_TABLESPACES_LEN))
		return "its \"tablespaces\" are missing or too long";
	return NULL;
}

bool
wa_read_backup_info(const char *folder, WaBackupInfo *info, char **problem)
{
	char path[MAXPGPATH];
	char *text;
	size_t len;
	const char *wrong;

	*problem = NULL;
	memset(info, 0, sizeof(*info));
	wa_join_path(path, "%s/backup.json", folder);
	text = wa_read_file(path, MAX_INFO_LEN, &len);
	if (text == NULL)
	{
		*problem = psprintf("file \"%s\" is missing", path);
		return false;
	}
	wrong = parse_info(folder, text, len, info);
	pfree(text);
	if (wrong == NULL)
		return true;
	*problem = psprintf("file \"%s\" is damaged: %s", path, wrong);
	return false;
}

/* ---- notes.json ---- */

void
wa_write_backup_notes(const char *folder, const WaBackupNotes *notes)
{
	char path[MAXPGPATH];
	char *text = palloc(MAX_NOTES_LEN);
	WaJsonWriter w;

	wa_json_begin(&w, text, MAX_NOTES_LEN);
	wa_json_uint(&w, "format", FORMAT_VERSION);
	if (notes->pinned_until != 0)
		write_time(&w, "pinned_until", notes->pinned_until);
	if (notes->pin_note[0] != '\0')
		wa_json_string(&w, "pin_note", notes->pin_note);
	if (notes->annotation[0] != '\0')
		wa_json_string(&w, "annotation", notes->annotation);
	if (notes->verified_at != 0)
		write_time(&w, "verified_at", notes->verified_at);
	if (notes->damage[0] != '\0')
		wa_json_string(&w, "damage", notes->damage);
	if (!wa_json_end(&w))
		elog(ERROR, "notes of a backup are too long");
	wa_join_path(path, "%s/notes.json", folder);
	wa_write_file(path, text, w.used);
	pfree(text);
}

bool
wa_read_backup_notes(const char *folder, WaBackupNotes *notes, char **problem)
{
	char path[MAXPGPATH];
	char word[WA_UTC_LEN];
	char *text;
	size_t len;
	uint64 format;
	bool ok;

	*problem = NULL;
	memset(notes, 0, sizeof(*notes));
	wa_join_path(path, "%s/notes.json", folder);
	text = wa_read_file(path, MAX_NOTES_LEN, &len);
	if (text == NULL)
		return true;
	ok = wa_json_valid(text, len) &&
		 wa_json_get_uint(text, len, "format", &format) && format == FORMAT_VERSION;
	if (ok)
	{
		(void) wa_json_get_string(text, len, "pin_note", notes->pin_note, sizeof(notes->pin_note));
		(void) wa_json_get_string(text, len, "annotation", notes->annotation,
								  sizeof(notes->annotation));
		(void) wa_json_get_string(text, len, "damage", notes->damage, sizeof(notes->damage));
		/* a pin that can't be read must not count as none */
		if (wa_json_get_string(text, len, "pinned_until", word, sizeof(word)))
			ok = read_time(text, len, "pinned_until", &notes->pinned_until);
		if (wa_json_get_string(text, len, "verified_at", word, sizeof(word)))
			ok &= read_time(text, len, "verified_at", &notes->verified_at);
	}
	pfree(text);
	if (!ok)
		*problem = psprintf("file \"%s\" is damaged", path);
	return ok;
}

/* ---- folders ---- */

static int
compare_names(const ListCell *a, const ListCell *b)
{
	return strcmp((const char *) lfirst(a), (const char *) lfirst(b));
}

List *
wa_list_backups(const char *source, uint64 sysid, const char *suffix)
{
	char path[MAXPGPATH];
	size_t suffix_len = strlen(suffix);
	List *names = NIL;
	DIR *dir;
	struct dirent *de;

	wa_backups_path(path, source, sysid);
	dir = AllocateDir(path);
	if (dir == NULL && errno == ENOENT)
		return NIL;
	while ((de = ReadDir(dir, path)) != NULL)
	{
		size_t len = strlen(de->d_name);
		char name[WA_BACKUP_LABEL_LEN];
		char file[MAXPGPATH];
		struct stat st;

		if (len <= suffix_len || len - suffix_len >= sizeof(name) ||
			strcmp(de->d_name + len - suffix_len, suffix) != 0)
			continue;
		memcpy(name, de->d_name, len - suffix_len);
		name[len - suffix_len] = '\0';
		if (!wa_backup_label_is_valid(name))
			continue;
		wa_backup_path(file, source, sysid, name, suffix);
		if (lstat(file, &st) == 0 && S_ISDIR(st.st_mode))
			names = lappend(names, pstrdup(name));
	}
	FreeDir(dir);
	list_sort(names, compare_names);
	return names;
}

/* What is in the folder at 'path', and the folder; never through a link. */
static void
remove_tree(const char *path)
{
	List *names = NIL;
	ListCell *lc;
	DIR *dir = AllocateDir(path);
	struct dirent *de;

	check_stack_depth();
	while ((de = ReadDir(dir, path)) != NULL)
	{
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			names = lappend(names, pstrdup(de->d_name));
	}
	FreeDir(dir);
	foreach (lc, names)
	{
		char file[MAXPGPATH];
		struct stat st;

		CHECK_FOR_INTERRUPTS();
		wa_join_path(file, "%s/%s", path, (char *) lfirst(lc));
		if (lstat(file, &st) == 0 && S_ISDIR(st.st_mode))
			remove_tree(file);
		else if (WA_FAULT(BACKUP_REMOVE_FILE, unlink(file)) != 0 && errno != ENOENT)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not remove file \"%s\": %m", file)));
	}
	list_free_deep(names);
	if (WA_FAULT(BACKUP_REMOVE_FOLDER, rmdir(path)) != 0 && errno != ENOENT)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not remove directory \"%s\": %m", path)));
}

static bool
is_folder(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Make a change of the entries of the folder at 'path' durable. */
static void
sync_folder(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int rc = fd < 0 ? -1 : WA_FAULT(BACKUP_DOOM_FSYNC, fsync(fd));
	int save_errno = errno;

	if (fd >= 0)
		close(fd);
	errno = save_errno;
	if (rc != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not fsync directory \"%s\": %m", path)));
}

void
wa_remove_doomed_backup(const char *source, uint64 sysid, const char *label)
{
	char parent[MAXPGPATH];
	char doomed[MAXPGPATH];

	wa_backup_path(doomed, source, sysid, label, WA_BACKUP_DELETED_SUFFIX);
	if (!is_folder(doomed))
		return;
	/* whoever gave it that name may have died, or failed, before that was durable */
	wa_backups_path(parent, source, sysid);
	sync_folder(parent);
	remove_tree(doomed);
}

void
wa_doom_backup(const char *source, uint64 sysid, const char *label, const char *suffix)
{
	char parent[MAXPGPATH];
	char path[MAXPGPATH];
	char doomed[MAXPGPATH];

	wa_backup_path(path, source, sysid, label, suffix);
	if (!is_folder(path))
		return;
	wa_remove_doomed_backup(source, sysid, label);
	wa_backups_path(parent, source, sysid);
	wa_backup_path(doomed, source, sysid, label, WA_BACKUP_DELETED_SUFFIX);
	if (WA_FAULT(BACKUP_DOOM_RENAME, rename(path, doomed)) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not rename directory \"%s\": %m", path)));
	sync_folder(parent);
}

void
wa_remove_backup(const char *source, uint64 sysid, const char *label)
{
	wa_remove_doomed_backup(source, sysid, label);
	wa_doom_backup(source, sysid, label, WA_BACKUP_RUNNING_SUFFIX);
	wa_remove_doomed_backup(source, sysid, label);
	wa_doom_backup(source, sysid, label, "");
	wa_remove_doomed_backup(source, sysid, label);
}
