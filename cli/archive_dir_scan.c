/*-------------------------------------------------------------------------
 *
 * archive_dir_scan.c
 *	  What there is in a bare archive directory: the source's cluster, its
 *	  WAL by name, timelines, backups.
 *
 * Names and contents are as untrusted as any input.  Of the WAL only the last
 * segment of each stretch is read here; what a plan rests on is read before it
 * is called feasible.
 *
 *-------------------------------------------------------------------------
 */
#include "archive_dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../src/base/flat_json.h"
#include "../src/base/restore_path.h"
#include "../src/base/source_name.h"

#define MAX_JSON (256 * 1024)

char *
archive_dir_read_file(const char *path, size_t max, size_t *len)
{
	char *content;
	struct stat st;
	size_t got = 0;
	/* O_NONBLOCK: a FIFO of this name would block us here */
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (uint64) st.st_size > max)
	{
		close(fd);
		errno = EINVAL;
		return NULL;
	}
	content = pg_malloc(st.st_size + 1);
	while (got < (size_t) st.st_size)
	{
		ssize_t n = read(fd, content + got, st.st_size - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
		{
			int error = errno;

			close(fd);
			pg_free(content);
			errno = error;
			return NULL;
		}
		if (n == 0)
			break;
		got += n;
	}
	close(fd);
	content[got] = '\0';
	*len = got;
	return content;
}

static bool
is_directory(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* ---- where it is ---- */

/* A directory as pg_receivewal leaves it: any segment says whose WAL it is. */
static ArchiveStatus
look_at_segments(DirArchive *d, const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *de;
	ArchiveStatus status = ARCHIVE_NOT_FOUND;

	while (dir != NULL && status != ARCHIVE_OK && (de = readdir(dir)) != NULL)
	{
		char file[MAXPGPATH];
		uint8 page[WA_LONG_PAGE_HEADER];
		WaLongHeader header;
		int fd;

		if (strspn(de->d_name, "0123456789ABCDEF") != 24 ||
			(de->d_name[24] != '\0' && strcmp(de->d_name + 24, ".partial") != 0) ||
			snprintf(file, sizeof(file), "%s/%s", path, de->d_name) >= (int) sizeof(file))
			continue;
		fd = open(file, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (read(fd, page, sizeof(page)) == sizeof(page) &&
			wa_read_long_header(page, sizeof(page), &header) == NULL)
		{
			d->system_identifier = header.system_identifier;
			d->segment_size = header.segment_size;
			status = ARCHIVE_OK;
		}
		close(fd);
	}
	if (dir != NULL)
		closedir(dir);
	strlcpy(d->wal_path, path, sizeof(d->wal_path));
	return status;
}

/* The folder of the source's current cluster in the archive directory. */
static ArchiveStatus
find_cluster(DirArchive *d, const char *source_path)
{
	Archive *archive = &d->base;
	char path[MAXPGPATH];
	char cluster[MAXPGPATH];
	char *json;
	size_t len;
	uint64 number = 0;

	snprintf(path, sizeof(path), "%s/source.json", source_path);
	json = archive_dir_read_file(path, MAX_JSON, &len);
	if (json == NULL || !wa_json_valid(json, len) ||
		!wa_json_get_uint(json, len, "system_identifier", &d->system_identifier))
	{
		/* without that file: there may be just one cluster */
		DIR *dir = opendir(source_path);
		struct dirent *de;
		int clusters = 0;

		while (dir != NULL && (de = readdir(dir)) != NULL)
		{
			if (strspn(de->d_name, "0123456789") == strlen(de->d_name) && strlen(de->d_name) <= 20)
			{
				d->system_identifier = strtoull(de->d_name, NULL, 10);
				clusters++;
			}
		}
		if (dir != NULL)
			closedir(dir);
		if (clusters != 1)
		{
			pg_free(json);
			return archive_error(archive, ARCHIVE_NOT_FOUND, NULL, "\"%s\" does not say which cluster the source is",
								 path);
		}
	}
	pg_free(json);
	if (snprintf(cluster, sizeof(cluster), "%s/" UINT64_FORMAT, source_path, d->system_identifier) >= (int) sizeof(cluster) - 32)
		return archive_error(archive, ARCHIVE_FAILED, NULL, "the archive directory's name is too long");
	snprintf(d->wal_path, sizeof(d->wal_path), "%s/wal", cluster);
	snprintf(d->backup_path, sizeof(d->backup_path), "%s/backup", cluster);
	snprintf(d->sums_path, sizeof(d->sums_path), "%s/wal.sha256", cluster);
	snprintf(path, sizeof(path), "%s/cluster.json", cluster);
	json = archive_dir_read_file(path, MAX_JSON, &len);
	if (json != NULL && wa_json_valid(json, len) && wa_json_get_uint(json, len, "segment_size", &number) &&
		wa_segment_size_is_valid(number))
	{
		d->segment_size = (uint32) number;
		if (wa_json_get_uint(json, len, "server_version", &number) && number <= PG_INT32_MAX)
			d->server_version = (int) number;
	}
	pg_free(json);
	if (d->segment_size == 0)
	{
		uint64 sysid = d->system_identifier;

		if (look_at_segments(d, d->wal_path) != ARCHIVE_OK || d->system_identifier != sysid)
			return archive_error(archive, ARCHIVE_NOT_FOUND, NULL, "nothing is archived in \"%s\"", cluster);
	}
	return ARCHIVE_OK;
}

ArchiveStatus
archive_dir_ready(DirArchive *d)
{
	const CliOptions *options = d->base.options;
	char source_path[MAXPGPATH];
	char text[WA_TEXT_LEN];
	ArchiveStatus status;

	if (d->opened)
		return ARCHIVE_OK;
	if (strlen(options->archive_dir) >= MAXPGPATH - 128)
		return archive_error(&d->base, ARCHIVE_FAILED, NULL, "the archive directory's name is too long");
	if (!is_directory(options->archive_dir))
		return archive_error(&d->base, ARCHIVE_NOT_FOUND, NULL, "there is no directory \"%s\"", options->archive_dir);
	if (options->source != NULL && !wa_source_name_is_valid(options->source))
		return archive_error(&d->base, ARCHIVE_NOT_FOUND, NULL, "\"%s\" can't be the name of a source", options->source);
	snprintf(source_path, sizeof(source_path), "%s/%s", options->archive_dir,
			 options->source != NULL ? options->source : "");
	if (options->source != NULL && is_directory(source_path))
		status = find_cluster(d, source_path);
	else
	{
		status = look_at_segments(d, options->archive_dir);
		if (status != ARCHIVE_OK && options->source != NULL)
			return archive_error(&d->base, ARCHIVE_NOT_FOUND, NULL, "there is no source \"%s\" in \"%s\"",
								 options->source, options->archive_dir);
		if (status != ARCHIVE_OK)
			return archive_error(&d->base, ARCHIVE_NOT_FOUND, "Name the source with --source.", "no source is named");
	}
	if (status != ARCHIVE_OK)
		return status;
	if (!wa_dir_open(&d->dir, d->wal_path, d->segment_size, d->system_identifier, text))
		return archive_error(&d->base, ARCHIVE_NOT_FOUND, NULL, "%s", text);
	d->opened = true;
	return ARCHIVE_OK;
}

/* ---- WAL ---- */

static int
compare_segments(const void *a, const void *b)
{
	const DirSegment *x = a;
	const DirSegment *y = b;

	if (x->tli != y->tli)
		return x->tli < y->tli ? -1 : 1;
	if (x->number != y->number)
		return x->number < y->number ? -1 : 1;
	return (int) x->partial - (int) y->partial;
}

int
archive_dir_find_segment(const DirArchive *d, TimeLineID tli, uint64 number)
{
	int lo = 0;
	int hi = d->nsegments;

	while (lo < hi)
	{
		int mid = lo + (hi - lo) / 2;
		const DirSegment *s = &d->segment[mid];

		if (s->tli < tli || (s->tli == tli && s->number < number))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static WaPlanTimeline *
add_timeline(DirArchive *d, TimeLineID tli)
{
	for (int i = 0; i < d->ntimelines; i++)
	{
		if (d->timeline[i].tli == tli)
			return &d->timeline[i];
	}
	d->timeline = pg_realloc(d->timeline, (d->ntimelines + 1) * sizeof(WaPlanTimeline));
	d->timeline[d->ntimelines] = (WaPlanTimeline){tli, 0, 0};
	return &d->timeline[d->ntimelines++];
}

/* A history tells of its timeline, and of the ancestors' ancestors as well. */
static void
add_history(DirArchive *d, const char *name, TimeLineID tli, WaHistory *history)
{
	char path[MAXPGPATH];
	char *content;
	size_t len;

	if (snprintf(path, sizeof(path), "%s/%s", d->wal_path, name) >= (int) sizeof(path))
		return;
	content = archive_dir_read_file(path, DIR_MAX_HISTORY, &len);
	if (content == NULL)
		return;
	/* a damaged one is as good as none: its timeline then has no known parent */
	if (wa_history_parse(content, len, tli, history) == NULL)
	{
		for (int i = 0; i < history->count; i++)
		{
			WaPlanTimeline *t = add_timeline(d, history->entry[i].tli);

			if (i > 0 && t->parent == 0)
			{
				t->parent = history->entry[i - 1].tli;
				t->fork = history->entry[i].begin;
			}
		}
	}
	pg_free(content);
}

static int
compare_timelines(const void *a, const void *b)
{
	const WaPlanTimeline *x = a;
	const WaPlanTimeline *y = b;

	return x->tli < y->tli ? -1 : x->tli > y->tli;
}

static ArchiveStatus
scan_wal(DirArchive *d)
{
	DIR *dir = opendir(d->wal_path);
	WaHistory *history = pg_malloc(sizeof(WaHistory));
	struct dirent *de;
	int room = 0;
	int kept = 0;

	if (dir == NULL)
	{
		pg_free(history);
		return archive_error(&d->base, ARCHIVE_FAILED, NULL, "could not open directory \"%s\": %m", d->wal_path);
	}
	while ((de = readdir(dir)) != NULL)
	{
		TimeLineID tli;
		uint64 number;
		WaWalFileKind kind = wa_parse_wal_name(de->d_name, d->segment_size, &tli, &number);

		if (kind == WA_FILE_HISTORY)
			add_history(d, de->d_name, tli, history);
		if (kind != WA_FILE_SEGMENT && kind != WA_FILE_PARTIAL)
			continue;
		if (d->nsegments == room)
		{
			room = Max(room * 2, 1024);
			d->segment = pg_realloc(d->segment, room * sizeof(DirSegment));
		}
		d->segment[d->nsegments++] = (DirSegment){tli, kind == WA_FILE_PARTIAL, number};
	}
	closedir(dir);
	pg_free(history);
	if (d->nsegments > 0)
		qsort(d->segment, d->nsegments, sizeof(DirSegment), compare_segments);
	for (int i = 0; i < d->nsegments; i++)
	{
		const DirSegment *s = &d->segment[i];

		if (kept > 0 && d->segment[kept - 1].tli == s->tli && d->segment[kept - 1].number == s->number)
			continue;
		if (kept == 0 || d->segment[kept - 1].tli != s->tli)
			(void) add_timeline(d, s->tli);
		d->segment[kept++] = *s;
	}
	d->nsegments = kept;
	d->newest = kept > 0 ? d->segment[kept - 1].tli : 0;
	if (d->ntimelines > 0)
		qsort(d->timeline, d->ntimelines, sizeof(WaPlanTimeline), compare_timelines);
	return ARCHIVE_OK;
}

/* ---- backups ---- */

/* "2026-11-21T15:56:39.133024Z", as the archive writes all its times. */
static bool
read_time(const char *json, size_t len, const char *key, int64 *time)
{
	char text[64];

	return wa_json_get_string(json, len, key, text, sizeof(text)) && strlen(text) == 27 &&
		   strspn(text, "0123456789-T:.Z") == 27 && text[10] == 'T' && text[26] == 'Z' &&
		   cli_parse_time(key, text, time);
}

static bool
read_timeline(const char *json, size_t len, const char *key, TimeLineID *tli)
{
	uint64 number;

	if (!wa_json_get_uint(json, len, key, &number) || number == 0 || number > PG_UINT32_MAX)
		return false;
	*tli = (TimeLineID) number;
	return true;
}

/* backup.json; what is wrong with it, or NULL. */
static const char *
read_backup(const DirArchive *d, const char *json, size_t len, DirBackup *info, WaPlanBackup *b)
{
	char word[64];
	uint64 number = 0;

	if (!wa_json_valid(json, len) || !wa_json_get_uint(json, len, "format", &number))
		return "its backup.json is not valid";
	if (number != 1)
		return "its format is not known to this version of walarchive";
	if (!wa_json_get_string(json, len, "label", word, sizeof(word)) || strcmp(word, info->label) != 0)
		return "its label is not the folder's name";
	if (!wa_json_get_uint(json, len, "system_identifier", &number) || number != d->system_identifier)
		return "it is of another cluster";
	if (!wa_json_get_string(json, len, "kind", word, sizeof(word)))
		return "its kind is missing";
	b->incremental = strcmp(word, "incremental") == 0;
	if (b->incremental &&
		(!wa_json_get_string(json, len, "parent", info->parent, sizeof(info->parent)) ||
		 !wa_backup_label_is_valid(info->parent)))
		return "its parent is missing or invalid";
	if (!read_timeline(json, len, "timeline", &b->tli) || !read_timeline(json, len, "stop_timeline", &b->stop_tli) ||
		!wa_json_get_lsn(json, len, "start_lsn", &b->start_lsn) || b->start_lsn == 0 ||
		!wa_json_get_lsn(json, len, "stop_lsn", &b->stop_lsn) || b->stop_lsn < b->start_lsn ||
		!wa_json_get_lsn(json, len, "consistent_lsn", &b->consistent_lsn) ||
		b->consistent_lsn < b->start_lsn || b->consistent_lsn > b->stop_lsn)
		return "its start or end is missing or invalid";
	if (wa_json_get_string(json, len, "manifest_sha256", info->manifest_sha256, sizeof(info->manifest_sha256)) &&
		strspn(info->manifest_sha256, "0123456789abcdef") != ARCHIVE_SHA256_LEN - 1)
		info->manifest_sha256[0] = '\0';
	if (wa_json_get_uint(json, len, "server_version", &number) && number <= PG_INT32_MAX)
		info->server_version = (int) number;
	(void) wa_json_get_uint(json, len, "size", &b->size);
	b->has_begin_time = read_time(json, len, "started_at", &b->begin_time);
	return NULL;
}

/* Damage that was found before is written beside the backup. */
static bool
is_noted_as_damaged(const char *folder, char *damage, size_t size)
{
	char path[MAXPGPATH];
	char *json;
	size_t len;
	bool found;

	if (snprintf(path, sizeof(path), "%s/notes.json", folder) >= (int) sizeof(path))
		return false;
	json = archive_dir_read_file(path, MAX_JSON, &len);
	if (json == NULL)
		return false;
	found = wa_json_valid(json, len) && wa_json_get_string(json, len, "damage", damage, size) && damage[0] != '\0';
	pg_free(json);
	return found;
}

static int
compare_backups(const void *a, const void *b)
{
	return strcmp(((const DirBackup *) a)->label, ((const DirBackup *) b)->label);
}

static ArchiveStatus
scan_backups(DirArchive *d)
{
	DIR *dir = d->backup_path[0] != '\0' ? opendir(d->backup_path) : NULL;
	struct dirent *de;
	int n = 0;

	if (dir == NULL)
	{
		if (d->backup_path[0] == '\0' || errno == ENOENT)
			return ARCHIVE_OK;
		return archive_error(&d->base, ARCHIVE_FAILED, NULL, "could not open directory \"%s\": %m", d->backup_path);
	}
	while ((de = readdir(dir)) != NULL)
	{
		/* neither what is being taken nor what is being removed has such a name */
		if (!wa_backup_label_is_valid(de->d_name))
			continue;
		d->backup_info = pg_realloc(d->backup_info, (n + 1) * sizeof(DirBackup));
		memset(&d->backup_info[n], 0, sizeof(DirBackup));
		strlcpy(d->backup_info[n++].label, de->d_name, sizeof(d->backup_info[0].label));
	}
	closedir(dir);
	if (n > 0)
		qsort(d->backup_info, n, sizeof(DirBackup), compare_backups);
	d->backup = pg_malloc0(Max(n, 1) * sizeof(WaPlanBackup));
	d->nbackups = n;
	for (int i = 0; i < n; i++)
	{
		DirBackup *info = &d->backup_info[i];
		WaPlanBackup *b = &d->backup[i];
		char folder[MAXPGPATH];
		char path[MAXPGPATH];
		char damage[256];
		char *json;
		size_t len = 0;
		const char *problem = "it has no backup.json";

		b->label = info->label;
		b->parent = info->parent;
		if (snprintf(folder, sizeof(folder), "%s/%s", d->backup_path, info->label) >= (int) sizeof(folder) ||
			snprintf(path, sizeof(path), "%s/backup.json", folder) >= (int) sizeof(path))
			continue;
		json = archive_dir_read_file(path, MAX_JSON, &len);
		if (json != NULL)
			problem = read_backup(d, json, len, info, b);
		pg_free(json);
		if (problem != NULL)
			strlcpy(info->problem, problem, sizeof(info->problem));
		else if (is_noted_as_damaged(folder, damage, sizeof(damage)))
			snprintf(info->problem, sizeof(info->problem), "its files are damaged: %s", damage);
		b->state = WA_PLAN_BACKUP_BROKEN;
		b->no_files = info->problem[0] != '\0';
		b->reason = info->reason;
	}
	return ARCHIVE_OK;
}

void
archive_dir_forget(DirArchive *d)
{
	pg_free(d->segment);
	pg_free(d->timeline);
	pg_free(d->backup_info);
	pg_free(d->backup);
	pg_free(d->run);
	pg_free(d->bad);
	d->segment = NULL;
	d->timeline = NULL;
	d->backup_info = NULL;
	d->backup = NULL;
	d->run = NULL;
	d->bad = NULL;
	d->nsegments = d->ntimelines = d->nbackups = d->nruns = d->nbad = 0;
	d->scanned = false;
}

ArchiveStatus
archive_dir_scan(DirArchive *d, bool again)
{
	ArchiveStatus status = archive_dir_ready(d);

	if (status != ARCHIVE_OK || (d->scanned && !again))
		return status;
	archive_dir_forget(d);
	status = scan_wal(d);
	if (status == ARCHIVE_OK)
		status = scan_backups(d);
	d->scanned = status == ARCHIVE_OK;
	return status;
}

/* ---- stretches of WAL ---- */

static const DirBad *
find_bad(const DirArchive *d, TimeLineID tli, XLogRecPtr start)
{
	for (int i = 0; i < d->nbad; i++)
	{
		if (d->bad[i].tli == tli && d->bad[i].start == start)
			return &d->bad[i];
	}
	return NULL;
}

bool
archive_dir_add_bad(DirArchive *d, TimeLineID tli, XLogRecPtr start, WaRunEnd why)
{
	if (find_bad(d, tli, start) != NULL)
		return false;
	d->bad = pg_realloc(d->bad, (d->nbad + 1) * sizeof(DirBad));
	d->bad[d->nbad++] = (DirBad){tli, start, why};
	return true;
}

static XLogRecPtr
fork_of(const DirArchive *d, TimeLineID tli)
{
	for (int i = 0; i < d->ntimelines; i++)
	{
		if (d->timeline[i].tli == tli)
			return d->timeline[i].fork;
	}
	return 0;
}

/* Does a recovery along a later timeline read the backup's WAL in the copy that this begins with? */
static bool
has_copy(const DirArchive *d, const WaPlanInput *in, const WaPlanBackup *b, WaHistory *path)
{
	for (int i = 0; i < d->ntimelines; i++)
	{
		WaIsland island;

		if (d->timeline[i].tli > b->stop_tli && wa_plan_path(in, d->timeline[i].tli, path) &&
			wa_history_timeline_at(path, b->start_lsn) == b->tli &&
			wa_history_timeline_at(path, Max(b->stop_lsn, b->start_lsn + 1) - 1) == b->stop_tli &&
			wa_island_at(in, path, b->start_lsn, &island) && island.to >= b->stop_lsn)
			return true;
	}
	return false;
}

/* Are a backup's files in order, as far as is known, and is its WAL there, on its own timelines? */
static void
judge_backup(DirArchive *d, const WaPlanInput *in, int i, WaHistory *path)
{
	WaPlanBackup *b = &d->backup[i];
	DirBackup *info = &d->backup_info[i];
	WaIsland island = {0};

	info->reason[0] = '\0';
	b->state = WA_PLAN_BACKUP_BROKEN;
	if (info->problem[0] != '\0')
	{
		strlcpy(info->reason, info->problem, sizeof(info->reason));
		return;
	}
	if (!wa_plan_path(in, b->stop_tli, path) || !wa_island_at(in, path, b->start_lsn, &island))
		snprintf(info->reason, sizeof(info->reason), "its WAL is missing from %X/%X on timeline %u on",
				 LSN_FORMAT_ARGS(b->start_lsn), b->tli);
	else if (island.to >= b->stop_lsn)
		b->state = WA_PLAN_BACKUP_USABLE;
	else if (island.ended_by == WA_RUN_DAMAGE)
		snprintf(info->reason, sizeof(info->reason), "its WAL is damaged at %X/%X on timeline %u",
				 LSN_FORMAT_ARGS(island.to), island.tli);
	else if (island.ended_by == WA_RUN_GAP)
		snprintf(info->reason, sizeof(info->reason), "its WAL is missing from %X/%X on timeline %u on",
				 LSN_FORMAT_ARGS(island.to), island.tli);
	else
	{
		b->state = WA_PLAN_BACKUP_WAITING;
		if (island.ended_by == WA_RUN_UNKNOWN)
			snprintf(info->reason, sizeof(info->reason),
					 "its WAL at %X/%X is of a PostgreSQL version that is not known here and can't be checked",
					 LSN_FORMAT_ARGS(island.to));
		else
			snprintf(info->reason, sizeof(info->reason), "its WAL is there up to %X/%X on timeline %u, and it ends at %X/%X",
					 LSN_FORMAT_ARGS(island.to), island.tli, LSN_FORMAT_ARGS(b->stop_lsn));
	}
	if (b->state != WA_PLAN_BACKUP_USABLE && has_copy(d, in, b, path))
	{
		b->state = WA_PLAN_BACKUP_USABLE;
		info->reason[0] = '\0';
	}
}

ArchiveStatus
archive_dir_find_runs(DirArchive *d)
{
	uint32 size = d->segment_size;
	WaPlanInput in;
	WaHistory *path;
	int room = 0;

	pg_free(d->run);
	d->run = NULL;
	d->nruns = 0;
	for (int i = 0; i < d->nsegments;)
	{
		TimeLineID tli = d->segment[i].tli;
		XLogRecPtr from = wa_segment_start(d->segment[i].number, size);
		const DirBad *bad = find_bad(d, tli, from);
		int next = i + 1;
		WaPlanRun *run;

		if (d->nruns == room)
		{
			room = Max(room * 2, 64);
			d->run = pg_realloc(d->run, room * sizeof(WaPlanRun));
		}
		run = &d->run[d->nruns];
		*run = (WaPlanRun){tli, from, from, WA_RUN_HEAD, 0};
		/* one that is bad at the very beginning makes an empty stretch, which says so */
		if (bad == NULL)
		{
			XLogRecPtr last;
			bool is_bad;
			ArchiveStatus status;

			while (next < d->nsegments && d->segment[next].tli == tli && !d->segment[next - 1].partial &&
				   d->segment[next].number == d->segment[next - 1].number + 1 &&
				   (bad = find_bad(d, tli, wa_segment_start(d->segment[next].number, size))) == NULL)
				next++;
			last = wa_segment_start(d->segment[next - 1].number, size);
			status = archive_dir_find_end(d, tli, fork_of(d, tli), last, &run->to, &is_bad);
			if (status != ARCHIVE_OK)
				return status;
			/* then without that segment */
			if (is_bad)
				continue;
		}
		if (bad != NULL)
		{
			run->to = Min(run->to, bad->start);
			run->ended_by = bad->why;
		}
		else if (next < d->nsegments && d->segment[next].tli == tli)
			run->ended_by = WA_RUN_GAP;
		while (next < d->nsegments && d->segment[next].tli == tli &&
			   find_bad(d, tli, wa_segment_start(d->segment[next].number, size)) != NULL)
			next++;
		if (next < d->nsegments && d->segment[next].tli == tli)
			run->resumes = wa_segment_start(d->segment[next].number, size);
		d->nruns++;
		i = next;
	}

	memset(&in, 0, sizeof(in));
	in.timelines = d->timeline;
	in.ntimelines = d->ntimelines;
	in.segment_size = size;
	in.runs = d->run;
	in.nruns = d->nruns;
	path = pg_malloc(sizeof(WaHistory));
	for (int i = 0; i < d->nbackups; i++)
		judge_backup(d, &in, i, path);
	pg_free(path);
	return ARCHIVE_OK;
}
