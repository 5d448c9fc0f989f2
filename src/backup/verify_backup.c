/*-------------------------------------------------------------------------
 *
 * verify_backup.c
 *	  Reads the stored files of a base backup again and checks them: the SQL
 *	  function walarchive.read_backup.
 *
 * It runs in the session, takes no lock, and changes nothing: what it found is
 * entered by walarchive.verify_backup.  A cancellation or crash leaves nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "common/file_utils.h"
#include "common/relpath.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/fd.h"
#include "utils/builtins.h"

#include "../state/archive_dir.h"
#include "../state/backup_file.h"
#include "../state/progress.h"
#include "../state/stat_functions.h"
#include "backup_check.h"

PG_FUNCTION_INFO_V1(wa_read_backup_files);

#define READ_SIZE (256 * 1024)

/* The kernel is asked to forget what was read after so many bytes. */
#define FORGET_SIZE (8 * 1024 * 1024)

/* A stored archive. */
typedef struct Archive
{
	char *name;
	Oid tablespace; /* 0: the main one */
	WaCompressionMethod method;
	bool broken;    /* it could not be read to its end */
	uint64 missing; /* files of the manifest that are not in it */
} Archive;

typedef struct Verification
{
	ReturnSetInfo *rsinfo;
	char folder[MAXPGPATH];
	const char *source;
	uint64 sysid;
	const char *label;
	bool has_info;
	WaBackupInfo info;
	bool has_manifest;
	List *archives;  /* of Archive *, main one last as it was sent */
	Archive *absent; /* the files of all archives that are missing */
	WaProgress progress;
} Verification;

/* A row: a problem of a file. */
static bool
add_problem(void *arg, const char *file, const char *problem)
{
	Verification *v = arg;
	Datum values[2] = {0};
	bool nulls[2] = {false, false};

	nulls[0] = (file == NULL);
	if (file != NULL)
		values[0] = CStringGetTextDatum(wa_clean_text(file));
	values[1] = CStringGetTextDatum(wa_clean_text(problem));
	tuplestore_putvalues(v->rsinfo->setResult, v->rsinfo->setDesc, values, nulls);
	v->progress.damaged++;
	wa_progress_set(&v->progress);
	return true;
}

static void
set_phase(Verification *v, const char *phase, const char *file)
{
	strlcpy(v->progress.phase, phase, sizeof(v->progress.phase));
	strlcpy(v->progress.current_file, file, sizeof(v->progress.current_file));
	wa_progress_set(&v->progress);
}

/* ---- what is in the folder ---- */

/*
 * Is 'name' that of an archive: base.tar or <oid>.tar, with or without the
 * suffix of a compression?
 */
static bool
parse_archive_name(const char *name, Oid *tablespace, WaCompressionMethod *method)
{
	const char *dot = strstr(name, ".tar");
	size_t len;

	if (dot == NULL)
		return false;
	len = dot - name;
	*tablespace = InvalidOid;
	if (len != 4 || strncmp(name, "base", 4) != 0)
	{
		uint64 number = 0;

		if (len == 0 || len > 10 || strspn(name, "0123456789") != len || name[0] == '0')
			return false;
		for (size_t i = 0; i < len; i++)
			number = number * 10 + (name[i] - '0');
		if (number > PG_UINT32_MAX)
			return false;
		*tablespace = (Oid) number;
	}
	for (*method = WA_COMPRESS_NONE; *method <= WA_COMPRESS_ZSTD; (*method)++)
	{
		if (strcmp(dot + 4, wa_compression_suffix(*method)) == 0)
			return true;
	}
	return false;
}

/* backup.json, where it can be read, must be this backup's. */
static void
check_info(Verification *v, const char *known_manifest)
{
	char *problem;

	v->has_info = wa_read_backup_info(v->folder, &v->info, &problem);
	if (!v->has_info)
	{
		add_problem(v, "backup.json", problem);
		return;
	}
	if (v->info.system_identifier != v->sysid)
		add_problem(v, "backup.json",
					psprintf("it is of cluster " UINT64_FORMAT ", in the folder of cluster " UINT64_FORMAT,
							 v->info.system_identifier, v->sysid));
	if (known_manifest != NULL && strcmp(known_manifest, v->info.manifest_sha256) != 0)
		add_problem(v, "backup.json", "its manifest_sha256 is not the one that the catalog has");
}

static Archive *
find_archive(Verification *v, Oid tablespace)
{
	ListCell *cell;

	foreach (cell, v->archives)
	{
		Archive *archive = lfirst(cell);

		if (archive->tablespace == tablespace)
			return archive;
	}
	return NULL;
}

/* A name in the folder. */
static void
look_at(Verification *v, const char *name)
{
	char path[MAXPGPATH];
	Archive *archive;
	Archive *other;
	struct stat st;
	Oid tablespace;
	WaCompressionMethod method;
	bool is_archive = parse_archive_name(name, &tablespace, &method);

	wa_backup_file_path(path, v->source, v->sysid, v->label, "", name);
	if (!is_archive && strcmp(name, "backup.json") != 0 && strcmp(name, "notes.json") != 0 &&
		strcmp(name, "backup_manifest") != 0)
	{
		/* what a crash has left of a write of notes.json is no damage */
		if (strncmp(name, "notes.json.", 11) == 0)
			return;
		add_problem(v, name, "it does not belong to the backup");
		return;
	}
	if (lstat(path, &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not stat file \"%s\": %m", path)));
	if (!S_ISREG(st.st_mode))
	{
		add_problem(v, name, "it is not a regular file");
		return;
	}
	if (strcmp(name, "backup_manifest") == 0)
		v->has_manifest = true;
	if (!is_archive)
		return;

	other = find_archive(v, tablespace);
	if (other != NULL || (v->has_info && strcmp(v->info.compression, wa_compression_name(method)) != 0))
	{
		/* two of the same tablespace, or of another compression than all */
		add_problem(v, name, "it does not belong to the backup");
		return;
	}
	archive = palloc(sizeof(Archive));
	archive->name = pstrdup(name);
	archive->tablespace = tablespace;
	archive->method = method;
	archive->broken = false;
	archive->missing = 0;
	v->archives = lappend(v->archives, archive);
	v->progress.bytes_total += st.st_size;
}

static int
archive_cmp(const ListCell *a, const ListCell *b)
{
	const Archive *x = lfirst(a);
	const Archive *y = lfirst(b);

	/* the main one was sent last */
	if ((x->tablespace == 0) != (y->tablespace == 0))
		return x->tablespace == 0 ? 1 : -1;
	return x->tablespace < y->tablespace ? -1 : x->tablespace > y->tablespace;
}

/* The tablespaces of backup.json: each has to have an archive, and none is more. */
static void
check_tablespaces(Verification *v)
{
	const char *suffix = "";
	WaCompressionMethod method;
	ListCell *cell;
	List *wanted = list_make1_oid(InvalidOid);

	if (v->has_info)
	{
		if (wa_compression_from_name(v->info.compression, &method))
			suffix = wa_compression_suffix(method);
		else
			add_problem(v, "backup.json", "its compression is not known");
		for (char *line = v->info.tablespaces; line != NULL && *line != '\0'; line = strchr(line, '\n'))
		{
			char *end;
			unsigned long oid;

			if (*line == '\n')
				line++;
			if (*line == '\0')
				break;
			errno = 0;
			oid = strtoul(line, &end, 10);
			if (end == line || *end != ' ' || errno != 0 || oid == 0 || oid > PG_UINT32_MAX)
			{
				add_problem(v, "backup.json", "its tablespaces are not valid");
				break;
			}
			wanted = lappend_oid(wanted, (Oid) oid);
		}
	}
	foreach (cell, wanted)
	{
		Oid oid = lfirst_oid(cell);

		if (find_archive(v, oid) == NULL)
			add_problem(v, oid == InvalidOid ? psprintf("base.tar%s", suffix) : psprintf("%u.tar%s", oid, suffix),
						"it is missing");
	}
	if (!v->has_info)
		return;
	foreach (cell, v->archives)
	{
		Archive *archive = lfirst(cell);

		if (!list_member_oid(wanted, archive->tablespace))
			add_problem(v, archive->name, "it does not belong to the backup");
	}
}

static void
look_at_folder(Verification *v)
{
	struct dirent *entry;
	DIR *dir = AllocateDir(v->folder);

	if (dir == NULL)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open directory \"%s\": %m", v->folder)));
	while ((entry = ReadDir(dir, v->folder)) != NULL)
	{
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			look_at(v, entry->d_name);
	}
	FreeDir(dir);
	list_sort(v->archives, archive_cmp);
	check_tablespaces(v);
	if (!v->has_manifest)
		add_problem(v, "backup_manifest", "it is missing");
	v->progress.files_total = list_length(v->archives);
}

/* ---- reading ---- */

/* Push an archive through the check. */
static void
read_archive(Verification *v, WaBackupCheck *check, Archive *archive)
{
	char path[MAXPGPATH];
	char *buffer = palloc(READ_SIZE);
	const char *problem;
	const char *file;
	off_t offset = 0;
	off_t forgotten = 0;
	int fd;

	wa_backup_file_path(path, v->source, v->sysid, v->label, "", archive->name);
	set_phase(v, "reading archives", archive->name);
	fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	wa_backup_check_archive(check, archive->tablespace, archive->method);
	for (;;)
	{
		ssize_t n;

		CHECK_FOR_INTERRUPTS();
		n = read(fd, buffer, READ_SIZE);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
		{
			/* a disk that can't read is what this is to find */
			add_problem(v, archive->name, psprintf("it could not be read: %m"));
			archive->broken = true;
			break;
		}
		if (n == 0 || !wa_backup_check_data(check, buffer, n))
			break;
		offset += n;
		v->progress.bytes_done += n;
		wa_progress_set(&v->progress);
#ifdef POSIX_FADV_DONTNEED
		/* a backup is larger than what others have in memory */
		if (offset - forgotten >= FORGET_SIZE)
		{
			(void) posix_fadvise(fd, forgotten, offset - forgotten, POSIX_FADV_DONTNEED);
			forgotten = offset;
		}
#endif
	}
	CloseTransientFile(fd);
	pfree(buffer);
	(void) wa_backup_check_archive_end(check);
	problem = wa_backup_check_problem(check, &file);
	/* one that could not be read on has a wrong end as well, of course */
	if (problem != NULL && !archive->broken)
		add_problem(v, archive->name, file != NULL ? psprintf("%s (in \"%s\")", problem, file) : problem);
	if (problem != NULL)
		archive->broken = true;
	v->progress.files_done++;
	wa_progress_set(&v->progress);
}

/* The archive that has, or should have, a file of the data directory. */
static Archive *
archive_of(Verification *v, const char *file)
{
	unsigned int oid = 0;
	Archive *archive;

	if (strncmp(file, "pg_tblspc/", 10) == 0)
		oid = (unsigned int) strtoul(file + 10, NULL, 10);
	archive = find_archive(v, (Oid) oid);
	return archive != NULL ? archive : v->absent;
}

/*
 * A difference from the manifest.  The files that were not reached in an archive
 * are counted: what is wrong with it has been told, and they can be millions.
 */
static bool
add_difference(void *arg, const char *file, const char *problem)
{
	Verification *v = arg;

	if (file != NULL && strcmp(problem, wa_backup_not_in_archives) == 0)
	{
		Archive *archive = archive_of(v, file);

		if (archive->broken)
		{
			archive->missing++;
			return true;
		}
	}
	return add_problem(arg, file, problem);
}

static void
tell_missing(Verification *v)
{
	ListCell *cell;

	foreach (cell, v->archives)
	{
		Archive *archive = lfirst(cell);

		if (archive->missing > 0)
			add_problem(v, archive->name,
						psprintf(UINT64_FORMAT " files of the manifest could not be found in it", archive->missing));
	}
}

/* What backup.json says beside what the files do. */
static void
compare_info(Verification *v, const WaBackupFacts *facts)
{
	const WaBackupInfo *info = &v->info;

	if (!v->has_info || facts->manifest_version == 0)
		return;
	if (strcmp(info->manifest_sha256, facts->manifest_sha256) != 0)
		add_problem(v, "backup_manifest", "it is not the file that the backup was stored with: its SHA-256 is another");
	if (facts->has_control && facts->control.system_identifier != v->sysid)
		add_problem(v, "global/pg_control",
					psprintf("it is of cluster " UINT64_FORMAT, facts->control.system_identifier));
	if (facts->wal_ranges > 0 &&
		(info->start_lsn != facts->wal_start_lsn || info->tli != facts->wal_start_tli ||
		 info->stop_lsn != facts->wal_end_lsn || info->stop_tli != facts->wal_end_tli))
		add_problem(v, "backup.json",
					psprintf("it says that the backup goes from %X/%X on timeline %u to %X/%X on timeline %u, the manifest says from %X/%X on timeline %u to %X/%X on timeline %u",
							 LSN_FORMAT_ARGS(info->start_lsn), info->tli, LSN_FORMAT_ARGS(info->stop_lsn), info->stop_tli,
							 LSN_FORMAT_ARGS(facts->wal_start_lsn), facts->wal_start_tli,
							 LSN_FORMAT_ARGS(facts->wal_end_lsn), facts->wal_end_tli));
}

/* Where the check's temporary file goes: not into the archive. */
static const char *
temporary_folder(void)
{
	const char *folder = "base/" PG_TEMP_FILES_DIR;

	if (MakePGDirectory(folder) != 0 && errno != EEXIST)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create directory \"%s\": %m", folder)));
	return folder;
}

/* All of the work; not inlined into a function with PG_TRY. */
static pg_noinline void
verify(Verification *v, const char *known_manifest)
{
	char manifest[MAXPGPATH];
	WaBackupCheck *check;
	ListCell *cell;

	v->absent = palloc0(sizeof(Archive));
	v->absent->broken = true;
	check_info(v, known_manifest);
	look_at_folder(v);
	wa_backup_file_path(manifest, v->source, v->sysid, v->label, "", "backup_manifest");
	check = wa_backup_check_begin(temporary_folder(),
								  v->has_manifest ? wa_backup_manifest_algorithm(manifest) : "NONE", true);
	foreach (cell, v->archives)
		read_archive(v, check, lfirst(cell));
	set_phase(v, "comparing with the manifest", "");
	if (v->has_manifest)
		(void) wa_backup_check_manifest(check, manifest, add_difference, v);
	tell_missing(v);
	compare_info(v, wa_backup_check_facts(check));
	wa_backup_check_end(check);
}

/* walarchive.read_backup(source, system_identifier, label, manifest_sha256) */
Datum
wa_read_backup_files(PG_FUNCTION_ARGS)
{
	Verification *v = palloc0(sizeof(Verification));
	char *known_manifest;
	struct stat st;

	v->rsinfo = wa_begin_rows(fcinfo, 2);
	for (int i = 0; i < 3; i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("source, system identifier and label must not be null")));
	}
	v->source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	v->sysid = (uint64) PG_GETARG_INT64(1);
	v->label = text_to_cstring(PG_GETARG_TEXT_PP(2));
	known_manifest = PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3));
	if (!wa_source_name_is_valid(v->source) || !wa_backup_label_is_valid(v->label))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid name of a source or label of a backup")));
	wa_backup_path(v->folder, v->source, v->sysid, v->label, "");
	if (stat(v->folder, &st) != 0 && errno == ENOENT)
	{
		add_problem(v, NULL, "its folder is missing");
		return (Datum) 0;
	}

	v->progress.kind = WA_PROGRESS_VERIFY_BACKUP;
	strlcpy(v->progress.source, v->source, sizeof(v->progress.source));
	strlcpy(v->progress.label, v->label, sizeof(v->progress.label));
	strlcpy(v->progress.phase, "listing files", sizeof(v->progress.phase));
	v->progress.system_identifier = v->sysid;
	v->progress.files_total = -1;
	wa_progress_begin(&v->progress);
	PG_TRY();
	{
		verify(v, known_manifest);
	}
	PG_FINALLY();
	{
		wa_progress_end();
	}
	PG_END_TRY();

	/* one that was removed meanwhile is not damaged */
	if (stat(v->folder, &st) != 0 && errno == ENOENT)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("backup \"%s\" of source \"%s\" was removed while it was read", v->label, v->source)));
	return (Datum) 0;
}
