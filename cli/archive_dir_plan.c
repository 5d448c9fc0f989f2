/*-------------------------------------------------------------------------
 *
 * archive_dir_plan.c
 *	  Plans made from a bare archive directory, by the same planner as on the
 *	  archive host.
 *
 * At first it is taken for granted that WAL which is there is in order.  All
 * that a feasible plan reads is then read and checked.  Each segment that turns
 * out to be bad, there or while the planner looked for something, is noted, and
 * the plan is made anew: so it ends after as many rounds as there are such
 * segments.
 *
 *-------------------------------------------------------------------------
 */
#include "archive_dir.h"

#include <dirent.h>
#include <sys/stat.h>
#include <time.h>

#include "datatype/timestamp.h"
#include "pqexpbuffer.h"

#include "../src/base/restore_path.h"
#include "../src/base/sum_line.h"

/* Segments before the plan's that are read for what was prepared there, and for settings. */
#define LOOK_BACK 64

/* Files of a backup's folder that a restore reads; anything else there is not the backup's. */
#define FILE_NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

/* ---- names of plans ---- */

char *
archive_dir_plan_ref(const WaRestorePlan *plan)
{
	PQExpBufferData ref;

	initPQExpBuffer(&ref);
	for (int i = 0; i < plan->path.count; i++)
	{
		const WaTimelineEntry *e = &plan->path.entry[i];

		if (i > 0)
			appendPQExpBuffer(&ref, "-%u@%X/%X", e->tli, LSN_FORMAT_ARGS(e->begin));
		else
			appendPQExpBuffer(&ref, "%u", e->tli);
	}
	appendPQExpBuffer(&ref, "-%X/%X", LSN_FORMAT_ARGS(plan->needed_lsn));
	return ref.data;
}

bool
archive_dir_parse_ref(const char *ref, WaHistory *path, XLogRecPtr *needed_lsn)
{
	const char *p = ref;
	uint32 tli;
	uint32 high;
	uint32 low;
	int used;

	if (strspn(ref, "0123456789ABCDEF@/-") != strlen(ref))
		return false;
	memset(path, 0, sizeof(*path));
	used = 0;
	if (sscanf(p, "%10u%n", &tli, &used) != 1 || used == 0 || tli == 0)
		return false;
	path->entry[path->count++].tli = tli;
	for (p += used; *p == '-'; p += used)
	{
		WaTimelineEntry *e = &path->entry[path->count];

		used = 0;
		p++;
		if (sscanf(p, "%10u@%8X/%8X%n", &tli, &high, &low, &used) == 3 && used > 0)
		{
			e->tli = tli;
			e->begin = (uint64) high << 32 | low;
			if (path->count == WA_MAX_TIMELINES - 1 || tli <= e[-1].tli || e->begin < e[-1].begin || e->begin == 0)
				return false;
			e[-1].end = e->begin;
			path->count++;
			continue;
		}
		used = 0;
		if (sscanf(p, "%8X/%8X%n", &high, &low, &used) != 2 || used == 0 || p[used] != '\0')
			return false;
		*needed_lsn = (uint64) high << 32 | low;
		return *needed_lsn != 0;
	}
	return false;
}

/* ---- texts ---- */

/* In quotes as postgresql.conf wants them. */
static void
append_setting(PQExpBuffer out, const char *name, const char *value)
{
	appendPQExpBuffer(out, "%s = '", name);
	for (const char *p = value; *p != '\0'; p++)
	{
		if (*p == '\'' || *p == '\\')
			appendPQExpBufferChar(out, *p);
		if ((unsigned char) *p < ' ')
			appendPQExpBuffer(out, "\\%03o", (unsigned char) *p);
		else
			appendPQExpBufferChar(out, *p);
	}
	appendPQExpBufferStr(out, "'\n");
}

/* A time in UTC, whatever the time zone here is. */
static const char *
utc_text(int64 time, char *buffer, size_t size)
{
	int64 seconds = time / USECS_PER_SEC;
	int micros = (int) (time % USECS_PER_SEC);
	time_t unix_time;
	struct tm tm;
	char day[32];
	char fraction[16] = "";

	if (micros < 0)
	{
		seconds--;
		micros += USECS_PER_SEC;
	}
	unix_time = (time_t) (seconds + (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY);
	if (gmtime_r(&unix_time, &tm) == NULL)
		return "";
	strftime(day, sizeof(day), "%Y-%m-%d %H:%M:%S", &tm);
	if (micros != 0)
	{
		snprintf(fraction, sizeof(fraction), ".%06d", micros);
		for (size_t len = strlen(fraction); fraction[len - 1] == '0'; len--)
			fraction[len - 1] = '\0';
	}
	snprintf(buffer, size, "%s%s+00", day, fraction);
	return buffer;
}

static char *
settings_text(const WaRestorePlan *plan, const WaRestoreTarget *target, const DirGathered *gathered)
{
	PQExpBufferData out;
	char value[64];
	bool inclusive = true;

	initPQExpBuffer(&out);
	switch (plan->set_kind)
	{
		case WA_TARGET_TIME:
			append_setting(&out, "recovery_target_time", utc_text(target->time, value, sizeof(value)));
			break;
		case WA_TARGET_LSN:
			snprintf(value, sizeof(value), "%X/%X", LSN_FORMAT_ARGS(plan->set_lsn));
			append_setting(&out, "recovery_target_lsn", value);
			break;
		case WA_TARGET_XID:
			snprintf(value, sizeof(value), "%u", target->xid);
			append_setting(&out, "recovery_target_xid", value);
			break;
		case WA_TARGET_NAME:
			append_setting(&out, "recovery_target_name", target->name);
			inclusive = false;
			break;
		case WA_TARGET_IMMEDIATE:
			append_setting(&out, "recovery_target", "immediate");
			inclusive = false;
			break;
		case WA_TARGET_END:
			inclusive = false;
			break;
	}
	if (inclusive)
		append_setting(&out, "recovery_target_inclusive", plan->set_inclusive ? "on" : "off");
	snprintf(value, sizeof(value), "%u", plan->timeline);
	append_setting(&out, "recovery_target_timeline", value);
	if (gathered->has_parameters)
	{
		const WaParameters *p = &gathered->parameters;

		appendPQExpBuffer(&out, "max_connections = %d\nmax_worker_processes = %d\nmax_wal_senders = %d\n",
						  p->max_connections, p->max_worker_processes, p->max_wal_senders);
		appendPQExpBuffer(&out, "max_prepared_transactions = %d\nmax_locks_per_transaction = %d\n",
						  p->max_prepared_xacts, p->max_locks_per_xact);
	}
	return out.data;
}

static char *
path_text(const WaRestorePlan *plan)
{
	PQExpBufferData out;
	bool begun = false;

	initPQExpBuffer(&out);
	for (int i = 0; i < plan->path.count; i++)
	{
		const WaTimelineEntry *e = &plan->path.entry[i];

		if (!begun && e->tli != plan->start_tli && plan->start_tli != 0)
			continue;
		if (begun)
			appendPQExpBuffer(&out, " -> %u at %X/%X", e->tli, LSN_FORMAT_ARGS(e->begin));
		else
			appendPQExpBuffer(&out, "%u", e->tli);
		begun = true;
	}
	return out.data;
}

/* A target as options of this program. */
static void
append_near(PQExpBuffer out, const WaPlanNear *near, const WaRestoreTarget *target)
{
	char value[64];

	switch (near->kind)
	{
		case WA_TARGET_TIME:
			appendPQExpBuffer(out, "--to-time='%s'", utc_text(near->time, value, sizeof(value)));
			break;
		case WA_TARGET_LSN:
			appendPQExpBuffer(out, "--to-lsn=%X/%X", LSN_FORMAT_ARGS(near->lsn));
			break;
		case WA_TARGET_IMMEDIATE:
			appendPQExpBufferStr(out, "--to-immediate");
			break;
		default:
			appendPQExpBufferStr(out, "--to-end");
			break;
	}
	if (!near->inclusive && (near->kind == WA_TARGET_TIME || near->kind == WA_TARGET_LSN))
		appendPQExpBufferStr(out, " --exclusive");
	if (target->timeline != 0)
		appendPQExpBuffer(out, " --timeline=%u", target->timeline);
	if (near->backup != NULL && (near->kind == WA_TARGET_IMMEDIATE || target->backup != NULL))
		appendPQExpBuffer(out, " --backup=%s", near->backup);
}

static char *
hint_text(const WaRestorePlan *plan, const WaRestoreTarget *target, const DirGathered *gathered)
{
	char detour[WA_PLAN_TEXT_LEN];
	PQExpBufferData out;

	initPQExpBuffer(&out);
	if (plan->feasible)
	{
		if (wa_plan_detour(plan, detour, sizeof(detour)))
			appendPQExpBuffer(&out, "%c%s.", pg_toupper((unsigned char) detour[0]), detour + 1);
		if (gathered->nprepared > 0)
			appendPQExpBuffer(&out, "%sPrepared transactions are open there and keep their locks until COMMIT PREPARED or ROLLBACK PREPARED.",
							  out.len > 0 ? " " : "");
		if (!plan->has_commit)
			appendPQExpBuffer(&out, "%sNo commit is replayed: what there is comes with the backup.", out.len > 0 ? " " : "");
		for (int i = 0; i < gathered->ntablespaces; i++)
			appendPQExpBuffer(&out, "%s\"%s\"%s",
							  i > 0 ? ", " : out.len > 0 ? " Recovery makes a tablespace in "
														 : "Recovery makes a tablespace in ",
							  gathered->tablespaces[i].path, i + 1 == gathered->ntablespaces ? " itself, as its WAL says." : "");
	}
	else
	{
		appendPQExpBuffer(&out, "%c%s.", pg_toupper((unsigned char) plan->text[0]), plan->text[0] != '\0' ? plan->text + 1 : "");
		if (plan->before.valid)
		{
			appendPQExpBufferStr(&out, " The nearest target before it that can be reached: ");
			append_near(&out, &plan->before, target);
			appendPQExpBufferChar(&out, '.');
		}
		if (plan->after.valid)
		{
			appendPQExpBufferStr(&out, " The nearest target after it that can be reached: ");
			append_near(&out, &plan->after, target);
			appendPQExpBufferChar(&out, '.');
		}
	}
	if (out.len == 0)
	{
		termPQExpBuffer(&out);
		return NULL;
	}
	return out.data;
}

/* ---- the plan ---- */

static void
forget_tablespaces(DirGathered *gathered)
{
	for (int i = 0; i < gathered->ntablespaces; i++)
	{
		pg_free(gathered->tablespaces[i].oid);
		pg_free(gathered->tablespaces[i].path);
	}
	gathered->ntablespaces = 0;
}

static void
forget_gathered(DirGathered *gathered)
{
	forget_tablespaces(gathered);
	pg_free(gathered->tablespaces);
	pg_free(gathered->prepared);
}

/* Read all that a feasible plan reads, and a little before. */
static WaSearchStatus
check_plan(DirArchive *d, const WaPlanInput *in, WaRestorePlan *plan, DirGathered *gathered)
{
	WaPlanRange range = {&plan->path, 0, plan->start_lsn};
	uint64 first = wa_segment_of(plan->start_lsn, d->segment_size);
	WaIsland island;
	char text[WA_PLAN_TEXT_LEN];
	int nbad = d->nbad;

	gathered->nprepared = 0;
	gathered->has_parameters = false;
	forget_tablespaces(gathered);
	gathered->before = true;
	/* what was prepared before a hole may have ended in it: nothing is known of that */
	if (wa_island_at(in, &plan->path, plan->start_lsn, &island))
	{
		range.from = Max(island.from, wa_segment_start(first > LOOK_BACK ? first - LOOK_BACK : 0, d->segment_size));
		/* what is damaged there is no concern of the plan's */
		if (range.from < range.to && archive_dir_check(d, &range, range.to, gathered, text) == WA_SEARCH_FAILED)
			d->nbad = nbad;
	}
	gathered->before = false;
	range.from = plan->start_lsn;
	range.to = plan->needed_lsn;
	return archive_dir_check(d, &range, plan->stop_lsn, gathered, plan->text);
}

/* Plan, and check what the plan rests on, as often as something bad turns up. */
static ArchiveStatus
make_plan(DirArchive *d, const WaRestoreTarget *target, WaPlanInput *in, WaRestorePlan *plan,
		  DirGathered *gathered)
{
	for (;;)
	{
		ArchiveStatus status;
		int nbad = d->nbad;

		status = archive_dir_find_runs(d);
		if (status != ARCHIVE_OK)
			return status;
		nbad = d->nbad;
		memset(in, 0, sizeof(*in));
		in->timelines = d->timeline;
		in->ntimelines = d->ntimelines;
		in->newest = d->newest;
		in->segment_size = d->segment_size;
		in->runs = d->run;
		in->nruns = d->nruns;
		in->backups = d->backup;
		in->nbackups = d->nbackups;
		archive_dir_search(d, &in->search);
		if (wa_plan_restore(in, target, plan) && check_plan(d, in, plan, gathered) == WA_SEARCH_FAILED)
		{
			plan->feasible = false;
			plan->reason = WA_PLAN_SEARCH_FAILED;
		}
		if (plan->reason != WA_PLAN_SEARCH_FAILED)
			return ARCHIVE_OK;
		if (d->nbad == nbad)
			return archive_error(&d->base, ARCHIVE_FAILED, NULL, "%s", plan->text);
	}
}

/* What is offered has to be as sure as a plan. */
static ArchiveStatus
check_near(DirArchive *d, const WaRestoreTarget *target, WaPlanNear *near)
{
	WaRestoreTarget t = {near->kind, near->inclusive};
	WaRestorePlan *plan;
	DirGathered gathered = {0};
	WaPlanInput in;
	ArchiveStatus status;

	if (!near->valid)
		return ARCHIVE_OK;
	t.time = near->time;
	t.lsn = near->lsn;
	t.timeline = target->timeline;
	t.backup = near->backup;
	plan = pg_malloc0(sizeof(WaRestorePlan));
	status = make_plan(d, &t, &in, plan, &gathered);
	near->valid = plan->feasible;
	forget_gathered(&gathered);
	pg_free(plan);
	return status;
}

static int
compare_gids(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

static void
fill_plan(DirArchive *d, const WaRestoreTarget *target, const WaRestorePlan *plan, const DirGathered *gathered,
		  ArchivePlan *out)
{
	out->feasible = plan->feasible;
	out->hint = hint_text(plan, target, gathered);
	out->timeline = plan->timeline;
	if (plan->path.count > 0)
		out->timeline_path = path_text(plan);
	if (plan->backup >= 0)
		out->backup = pg_strdup(d->backup[plan->backup].label);
	if (!plan->feasible)
	{
		out->reason = pg_strdup(wa_plan_reason_name(plan->reason));
		return;
	}
	out->ref = archive_dir_plan_ref(plan);
	out->start_lsn = plan->start_lsn;
	out->stop_lsn = plan->stop_lsn;
	out->has_commit = plan->has_commit;
	if (plan->has_commit)
	{
		out->last_commit_xid = plan->last_commit.xid;
		out->has_commit_time = true;
		out->last_commit_time = plan->last_commit.time;
		out->last_commit_lsn = plan->last_commit.end_lsn;
	}
	out->segments = wa_segment_of(plan->needed_lsn - 1, d->segment_size) - wa_segment_of(plan->start_lsn, d->segment_size) + 1;
	out->wal_bytes = plan->needed_lsn - plan->start_lsn;
	for (int i = 0; i < plan->nchain; i++)
		out->backup_bytes += d->backup[plan->chain[i]].size;
	out->prepared = pg_malloc0((gathered->nprepared + 1) * sizeof(char *));
	for (int i = 0; i < gathered->nprepared; i++)
		out->prepared[out->nprepared++] = pg_strdup(gathered->prepared[i].gid);
	qsort(out->prepared, out->nprepared, sizeof(char *), compare_gids);
	out->tablespaces = pg_malloc0((gathered->ntablespaces + 1) * sizeof(ArchiveTablespace));
	for (int i = 0; i < gathered->ntablespaces; i++)
	{
		const ArchiveTablespace *space = &gathered->tablespaces[i];

		out->tablespaces[out->ntablespaces++] = (ArchiveTablespace){pg_strdup(space->oid), pg_strdup(space->path), space->lsn};
	}
	out->settings = settings_text(plan, target, gathered);
}

ArchiveStatus
archive_dir_plan(Archive *archive, const WaRestoreTarget *target, int hold_seconds, ArchivePlan *out)
{
	DirArchive *d = (DirArchive *) archive;
	WaRestorePlan *plan = pg_malloc0(sizeof(WaRestorePlan));
	DirGathered gathered = {0};
	WaPlanInput in;
	ArchiveStatus status = archive_dir_scan(d, true);
	int nbad;

	do
	{
		if (status == ARCHIVE_OK)
			status = make_plan(d, target, &in, plan, &gathered);
		nbad = d->nbad;
		if (status == ARCHIVE_OK && !plan->feasible)
			status = check_near(d, target, &plan->before);
		if (status == ARCHIVE_OK && !plan->feasible)
			status = check_near(d, target, &plan->after);
		/* what turned up there may say more about the target as well */
	} while (status == ARCHIVE_OK && d->nbad != nbad);
	if (status == ARCHIVE_OK)
		fill_plan(d, target, plan, &gathered, out);
	forget_gathered(&gathered);
	pg_free(plan);
	return status;
}

/* ---- the files of a plan ---- */

typedef struct FileList
{
	ArchiveFile *file;
	int n;
	int room;
} FileList;

static ArchiveFile *
add_file(FileList *list, ArchiveFileKind kind, const char *name, uint64 size)
{
	ArchiveFile *file;

	if (list->n == list->room)
	{
		list->room = Max(list->room * 2, 64);
		list->file = pg_realloc(list->file, list->room * sizeof(ArchiveFile));
	}
	file = &list->file[list->n++];
	memset(file, 0, sizeof(*file));
	file->kind = kind;
	file->name = pg_strdup(name);
	file->size = size;
	return file;
}

/* The manifest first, then the archives by name. */
static int
compare_files(const void *a, const void *b)
{
	const ArchiveFile *x = a;
	const ArchiveFile *y = b;
	bool first = strcmp(x->name, "backup_manifest") == 0;

	if (first != (strcmp(y->name, "backup_manifest") == 0))
		return first ? -1 : 1;
	return strcmp(x->name, y->name);
}

static ArchiveStatus
list_backup(DirArchive *d, const DirBackup *backup, FileList *list)
{
	char folder[MAXPGPATH];
	struct dirent *de;
	int before = list->n;
	DIR *dir;

	if (snprintf(folder, sizeof(folder), "%s/%s", d->backup_path, backup->label) >= (int) sizeof(folder))
		return archive_error(&d->base, ARCHIVE_FAILED, NULL, "the archive directory's name is too long");
	dir = opendir(folder);
	if (dir == NULL)
		return archive_error(&d->base, ARCHIVE_NOT_FOUND, NULL, "could not open directory \"%s\": %m", folder);
	while ((de = readdir(dir)) != NULL)
	{
		char path[MAXPGPATH];
		struct stat st;
		ArchiveFile *file;
		bool manifest = strcmp(de->d_name, "backup_manifest") == 0;

		if (de->d_name[0] == '.' || strspn(de->d_name, FILE_NAME_CHARACTERS) != strlen(de->d_name) ||
			(!manifest && strcmp(de->d_name, "backup.json") != 0 && strstr(de->d_name, ".tar") == NULL) ||
			snprintf(path, sizeof(path), "%s/%s", folder, de->d_name) >= (int) sizeof(path) ||
			lstat(path, &st) != 0 || !S_ISREG(st.st_mode))
			continue;
		file = add_file(list, ARCHIVE_FILE_BACKUP, de->d_name, (uint64) st.st_size);
		file->label = pg_strdup(backup->label);
		if (manifest)
			strlcpy(file->sha256, backup->manifest_sha256, sizeof(file->sha256));
	}
	closedir(dir);
	if (list->n > before)
		qsort(list->file + before, list->n - before, sizeof(ArchiveFile), compare_files);
	return ARCHIVE_OK;
}

/* Checksums of finished segments, by the archive's own list; a plan's files of WAL are in order of their names. */
static void
add_checksums(const DirArchive *d, ArchiveFile *file, int n)
{
	FILE *sums = d->sums_path[0] != '\0' ? fopen(d->sums_path, "r") : NULL;
	char line[256];

	while (sums != NULL && fgets(line, sizeof(line), sums) != NULL)
	{
		uint8 sha256[WA_SHA256_LEN];
		char name[WA_WAL_NAME_LEN];
		size_t len = strlen(line);
		int lo = 0;
		int hi = n;

		if (len == 0 || line[len - 1] != '\n' || !wa_read_sum_line(line, len - 1, sha256, name))
			continue;
		while (lo < hi)
		{
			int mid = lo + (hi - lo) / 2;

			if (strcmp(file[mid].name, name) < 0)
				lo = mid + 1;
			else
				hi = mid;
		}
		if (lo < n && strcmp(file[lo].name, name) == 0)
		{
			for (int i = 0; i < WA_SHA256_LEN; i++)
				snprintf(file[lo].sha256 + 2 * i, 3, "%02x", sha256[i]);
		}
	}
	if (sums != NULL)
		fclose(sums);
}

ArchiveStatus
archive_dir_plan_files(Archive *archive, const ArchivePlan *plan, ArchiveFile **files, int *nfiles)
{
	DirArchive *d = (DirArchive *) archive;
	ArchiveStatus status = archive_dir_scan(d, false);
	FileList list = {0};
	WaHistory *path;
	XLogRecPtr needed_lsn;
	const char *chain[WA_MAX_CHAIN];
	int nchain = 0;
	int wal;

	if (status != ARCHIVE_OK)
		return status;
	path = pg_malloc(sizeof(WaHistory));
	if (plan->ref == NULL || !archive_dir_parse_ref(plan->ref, path, &needed_lsn))
	{
		pg_free(path);
		return archive_error(archive, ARCHIVE_NOT_FOUND, NULL, "\"%s\" is no plan of a bare archive directory",
							 plan->ref != NULL ? plan->ref : "");
	}

	/* the chain, the full backup first */
	for (const char *label = plan->backup; label != NULL && nchain < WA_MAX_CHAIN;)
	{
		const char *next = NULL;

		for (int i = 0; i < d->nbackups; i++)
		{
			if (strcmp(d->backup[i].label, label) == 0 && d->backup[i].incremental)
				next = d->backup[i].parent;
		}
		chain[nchain++] = label;
		label = next;
	}
	while (nchain > 0 && status == ARCHIVE_OK)
	{
		DirBackup *backup = NULL;

		nchain--;
		for (int i = 0; i < d->nbackups; i++)
		{
			if (strcmp(d->backup[i].label, chain[nchain]) == 0)
				backup = &d->backup_info[i];
		}
		if (backup == NULL)
			status = archive_error(archive, ARCHIVE_NOT_FOUND, NULL, "there is no backup %s", chain[nchain]);
		else
			status = list_backup(d, backup, &list);
	}

	for (int i = path->count - 1; i >= 0 && status == ARCHIVE_OK; i--)
	{
		char name[WA_WAL_NAME_LEN];
		char file[MAXPGPATH];
		struct stat st;

		wa_history_name(name, path->entry[i].tli);
		if (snprintf(file, sizeof(file), "%s/%s", d->wal_path, name) < (int) sizeof(file) && lstat(file, &st) == 0 &&
			S_ISREG(st.st_mode))
			add_file(&list, ARCHIVE_FILE_HISTORY, name, (uint64) st.st_size)->timeline = path->entry[i].tli;
	}

	/* of each segment the newest timeline that has entered it: that is what recovery asks for first */
	wal = list.n;
	for (int i = 0; i < path->count && status == ARCHIVE_OK; i++)
	{
		const WaTimelineEntry *e = &path->entry[i];
		uint64 number = wa_segment_of(Max(e->begin, plan->start_lsn), d->segment_size);
		uint64 end = wa_segment_of(needed_lsn - 1, d->segment_size) + 1;

		if (i + 1 < path->count)
			end = Min(end, wa_segment_of(e->end, d->segment_size));
		for (; number < end; number++)
		{
			char name[WA_WAL_NAME_LEN];

			wa_segment_name(name, e->tli, number, d->segment_size);
			add_file(&list, ARCHIVE_FILE_WAL, name, d->segment_size)->timeline = e->tli;
		}
	}
	if (status == ARCHIVE_OK)
		add_checksums(d, list.file + wal, list.n - wal);
	pg_free(path);
	*files = list.file;
	*nfiles = list.n;
	return status;
}
