/*-------------------------------------------------------------------------
 *
 * archive_dir.c
 *	  An archive as a bare directory: for when the archive host is dead, or its
 *	  files are mounted here.
 *
 * WAL is served by the same rules as on the archive host: nothing of a stray
 * timeline, of a parent's segment nothing behind the fork, a partial segment
 * completed with zeros, every history.  "Absent" is said only of what is known
 * not to exist.  A finished file that is read has to be what was archived.
 *
 *-------------------------------------------------------------------------
 */
#include "archive_dir.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Bytes that are read at a time. */
#define PIECE_SIZE (1024 * 1024)

static void
dir_close(Archive *archive)
{
	DirArchive *d = (DirArchive *) archive;

	archive_dir_forget(d);
	archive_dir_forget_sums(d);
	if (d->opened)
		wa_dir_close(&d->dir);
	pg_free(d->path);
	pg_free(d);
}

static Archive *
dir_clone(Archive *archive)
{
	DirArchive *d = (DirArchive *) archive;
	DirArchive *clone = (DirArchive *) archive_dir_open(archive->options);

	if (d->has_plan)
	{
		clone->has_plan = true;
		clone->needed_lsn = d->needed_lsn;
		clone->path = pg_malloc(sizeof(WaHistory));
		*clone->path = *d->path;
	}
	return &clone->base;
}

static ArchiveStatus
dir_layout(Archive *archive, ArchiveLayout *layout)
{
	DirArchive *d = (DirArchive *) archive;
	ArchiveStatus status = archive_dir_scan(d, false);

	if (status != ARCHIVE_OK)
		return status;
	layout->source = pg_strdup(archive->options->source != NULL ? archive->options->source : "");
	layout->system_identifier = d->system_identifier;
	layout->segment_size = d->segment_size;
	layout->timeline = d->newest;
	layout->server_version = d->server_version;
	for (int i = 0; i < d->nbackups && layout->server_version == 0; i++)
		layout->server_version = d->backup_info[i].server_version;
	return ARCHIVE_OK;
}

/* Nothing expires a bare directory's files. */
static ArchiveStatus
dir_renew_plan(Archive *archive, const char *ref, int hold_seconds)
{
	return ARCHIVE_OK;
}

static ArchiveStatus
dir_release_plan(Archive *archive, const char *ref)
{
	return ARCHIVE_OK;
}

static ArchiveStatus
dir_use_plan(Archive *archive, const char *ref)
{
	DirArchive *d = (DirArchive *) archive;

	pg_free(d->path);
	d->path = NULL;
	d->has_plan = false;
	d->needed_lsn = 0;
	if (ref == NULL)
		return ARCHIVE_OK;
	d->path = pg_malloc(sizeof(WaHistory));
	if (!archive_dir_parse_ref(ref, d->path, &d->needed_lsn))
	{
		pg_free(d->path);
		d->path = NULL;
		return archive_error(archive, ARCHIVE_NOT_FOUND, NULL, "\"%s\" is no plan of a bare archive directory", ref);
	}
	d->has_plan = true;
	return ARCHIVE_OK;
}

/* ---- WAL ---- */

static void say(WalFileInfo *info, WalFileState state, const char *format, ...) pg_attribute_printf(3, 4);

static void
say(WalFileInfo *info, WalFileState state, const char *format, ...)
{
	va_list args;

	info->state = state;
	va_start(args, format);
	vsnprintf(info->detail, sizeof(info->detail), format, args);
	va_end(args);
}

/* Without a plan: the way to the newest timeline of which there is WAL. */
static ArchiveStatus
find_path(DirArchive *d)
{
	ArchiveStatus status;
	char name[WA_WAL_NAME_LEN];
	char path[MAXPGPATH];
	char *content = NULL;
	size_t len;

	if (d->path != NULL)
		return ARCHIVE_OK;
	status = archive_dir_scan(d, false);
	if (status != ARCHIVE_OK)
		return status;
	d->path = pg_malloc0(sizeof(WaHistory));
	wa_history_name(name, d->newest);
	if (d->newest > 1 && snprintf(path, sizeof(path), "%s/%s", d->wal_path, name) < (int) sizeof(path))
		content = archive_dir_read_file(path, DIR_MAX_HISTORY, &len);
	if (content == NULL || wa_history_parse(content, len, d->newest, d->path) != NULL)
	{
		memset(d->path, 0, sizeof(WaHistory));
		d->path->count = 1;
		d->path->entry[0].tli = d->newest;
	}
	pg_free(content);
	return ARCHIVE_OK;
}

/* Open a file of WAL; false: 'info' or the status say why not. */
static bool
open_wal(DirArchive *d, WaFileStatus opened, const WaDamage *damage, WalFileInfo *info, ArchiveStatus *status)
{
	*status = ARCHIVE_OK;
	switch (opened)
	{
		case WA_FILE_OK:
		case WA_FILE_UNKNOWN_MAJOR:
			return true;
		case WA_FILE_MISSING:
			return false;
		case WA_FILE_DAMAGED:
			say(info, WAL_FILE_DAMAGED, "\"%s\" %s", damage->name, damage->text);
			return false;
		case WA_FILE_FAILED:
			*status = archive_error(&d->base, ARCHIVE_FAILED, NULL, "\"%s/%s\": %s", d->wal_path, damage->name, damage->text);
			return false;
	}
	return false;
}

static ArchiveStatus
find_history(DirArchive *d, const char *name, TimeLineID tli, WaWalFile *file, WalFileInfo *info)
{
	WaDamage damage;
	ArchiveStatus status;
	WaFileStatus opened = wa_file_open(&d->dir, name, file, &damage);
	int first;

	if (open_wal(d, opened, &damage, info, &status))
	{
		if (file->size == 0 || file->size > DIR_MAX_HISTORY)
		{
			say(info, WAL_FILE_DAMAGED, "history \"%s\" has " INT64_FORMAT " bytes", name, file->size);
			wa_file_close(file);
			return ARCHIVE_OK;
		}
		info->state = WAL_FILE_PRESENT;
		info->size = info->valid = (uint64) file->size;
		return ARCHIVE_OK;
	}
	if (status != ARCHIVE_OK || opened != WA_FILE_MISSING)
		return status;
	if (tli == 1)
	{
		say(info, WAL_FILE_ABSENT, "timeline 1 has no history");
		return ARCHIVE_OK;
	}
	status = archive_dir_scan(d, false);
	if (status != ARCHIVE_OK)
		return status;
	first = archive_dir_find_segment(d, tli, 0);
	if ((d->has_plan && wa_history_find(d->path, tli) != NULL) ||
		(first < d->nsegments && d->segment[first].tli == tli))
		say(info, WAL_FILE_MISSING, "the archive has WAL of timeline %u, but not its history", tli);
	else
		say(info, WAL_FILE_ABSENT, "there is no timeline %u", tli);
	return ARCHIVE_OK;
}

/* Is there a segment of 'tli' that begins in [from, to)? */
static bool
any_segment(const DirArchive *d, TimeLineID tli, XLogRecPtr from, XLogRecPtr to)
{
	int i = archive_dir_find_segment(d, tli, wa_segment_of(from, d->segment_size) + (from % d->segment_size != 0));

	return i < d->nsegments && d->segment[i].tli == tli &&
		   (to == 0 || wa_segment_start(d->segment[i].number, d->segment_size) < to);
}

/* A segment of the way that is not there: is that the end? */
static ArchiveStatus
judge_missing(DirArchive *d, const char *name, const WaTimelineEntry *entry, XLogRecPtr start, WalFileInfo *info)
{
	ArchiveStatus status = archive_dir_scan(d, false);
	bool before = false;
	bool behind = false;

	if (status != ARCHIVE_OK)
		return status;
	for (const WaTimelineEntry *e = d->path->entry; e < d->path->entry + d->path->count; e++)
	{
		/* segment 0 has nothing before it */
		if (e < entry || (e == entry && start > 0))
			before |= any_segment(d, e->tli, wa_segment_floor(e->begin, d->segment_size), e < entry ? e->end : start);
		if (e >= entry)
			behind |= any_segment(d, e->tli, e > entry ? 0 : start + d->segment_size, e->end);
	}
	if (before && behind)
		say(info, WAL_FILE_MISSING, "segment \"%s\" is missing in the archive, which goes on behind it", name);
	else if (d->has_plan)
		say(info, WAL_FILE_MISSING, "segment \"%s\", which the plan needs, is missing in the archive", name);
	else if (behind)
		say(info, WAL_FILE_ABSENT, "segment \"%s\" lies before all that is archived", name);
	else
		say(info, WAL_FILE_ABSENT, "segment \"%s\" lies behind the end of the archive", name);
	return ARCHIVE_OK;
}

static ArchiveStatus
find_segment(DirArchive *d, const char *name, TimeLineID tli, uint64 number, WaWalFile *file, WalFileInfo *info)
{
	XLogRecPtr start = wa_segment_start(number, d->segment_size);
	ArchiveStatus status = find_path(d);
	const WaTimelineEntry *entry;
	WaLongHeader header;
	WaFileStatus opened;
	WaDamage damage;

	if (status != ARCHIVE_OK)
		return status;
	entry = wa_history_find(d->path, tli);
	if (entry == NULL)
		say(info, WAL_FILE_ABSENT, "timeline %u is not on the way to timeline %u", tli,
			d->path->entry[d->path->count - 1].tli);
	else if (entry->end != 0 && start >= entry->end)
		say(info, WAL_FILE_ABSENT, "timeline %u was left at %X/%X", tli, LSN_FORMAT_ARGS(entry->end));
	else if (start + d->segment_size <= entry->begin)
		say(info, WAL_FILE_ABSENT, "timeline %u begins at %X/%X", tli, LSN_FORMAT_ARGS(entry->begin));
	else if (d->has_plan && start >= d->needed_lsn)
		say(info, WAL_FILE_ABSENT, "the plan ends at %X/%X", LSN_FORMAT_ARGS(d->needed_lsn));
	if (info->detail[0] != '\0')
		return ARCHIVE_OK;

	opened = wa_segment_open(&d->dir, tli, start, file, &damage);
	if (!open_wal(d, opened, &damage, info, &status))
		return status != ARCHIVE_OK || opened != WA_FILE_MISSING ? status : judge_missing(d, name, entry, start, info);
	info->size = d->segment_size;
	info->valid = Min((uint64) file->size, d->segment_size);
	if (file->partial && file->size < WA_LONG_PAGE_HEADER)
	{
		/* it was just made */
		wa_file_close(file);
		info->size = info->valid = 0;
		return judge_missing(d, name, entry, start, info);
	}
	if (!file->partial && file->size != d->segment_size)
		say(info, WAL_FILE_DAMAGED, "segment \"%s\" has " INT64_FORMAT " bytes instead of %u", name, file->size,
			d->segment_size);
	else if (open_wal(d, wa_segment_header(&d->dir, file, entry->begin, &header, &damage), &damage, info, &status))
	{
		info->state = file->partial ? WAL_FILE_PARTIAL : WAL_FILE_PRESENT;
		/* what a former primary wrote behind the fork is nobody's */
		if (entry->end != 0 && info->valid > entry->end - start)
		{
			info->valid = entry->end - start;
			info->state = WAL_FILE_PARTIAL;
		}
		return ARCHIVE_OK;
	}
	else if (file->partial && info->state == WAL_FILE_DAMAGED && damage.kind == WA_DAMAGE_RECORD && header.magic == 0)
	{
		/* nothing but zeros was written to it yet */
		wa_file_close(file);
		memset(info, 0, sizeof(*info));
		return judge_missing(d, name, entry, start, info);
	}
	wa_file_close(file);
	info->size = info->valid = 0;
	return status;
}

/* What was known of the directory may be out of date: the host may go on archiving. */
static ArchiveStatus
find_segment_now(DirArchive *d, const char *name, TimeLineID tli, uint64 number, WaWalFile *file, WalFileInfo *info)
{
	bool fresh = !d->scanned;
	ArchiveStatus status = find_segment(d, name, tli, number, file, info);

	if (status != ARCHIVE_OK || fresh || (info->state != WAL_FILE_ABSENT && info->state != WAL_FILE_MISSING))
		return status;
	if (!d->has_plan)
	{
		pg_free(d->path);
		d->path = NULL;
	}
	status = archive_dir_scan(d, true);
	if (status != ARCHIVE_OK)
		return status;
	memset(info, 0, sizeof(*info));
	return find_segment(d, name, tli, number, file, info);
}

/* Find and open a file of WAL; file->fd is -1 if nothing is to be read. */
static ArchiveStatus
find_wal(DirArchive *d, const char *name, WaWalFile *file, WalFileInfo *info)
{
	ArchiveStatus status = archive_dir_ready(d);
	TimeLineID tli;
	uint64 number;

	memset(info, 0, sizeof(*info));
	memset(file, 0, sizeof(*file));
	file->fd = -1;
	if (status != ARCHIVE_OK)
		return status;
	switch (wa_parse_wal_name(name, d->segment_size, &tli, &number))
	{
		case WA_FILE_HISTORY:
			return find_history(d, name, tli, file, info);
		case WA_FILE_SEGMENT:
			return find_segment_now(d, name, tli, number, file, info);
		default:
			return archive_error(&d->base, ARCHIVE_NOT_FOUND, NULL,
								 "\"%s\" is not the name of a WAL segment or a timeline history", name);
	}
}

static ArchiveStatus
dir_wal_file(Archive *archive, const char *name, WalFileInfo *info)
{
	WaWalFile file;
	ArchiveStatus status = find_wal((DirArchive *) archive, name, &file, info);

	wa_file_close(&file);
	return status;
}

/* ---- reading ---- */

/* Show bytes [offset, end) of the file, those from 'valid' on as zeros. */
static ArchiveStatus
show_bytes(DirArchive *d, const ArchiveReader *reader, const ArchiveRead *read, int fd, uint64 offset,
		   uint64 valid, uint64 end, char *buffer)
{
	while (offset < end)
	{
		size_t len = Min(end - offset, PIECE_SIZE);
		size_t wanted = offset < valid ? Min((uint64) len, valid - offset) : 0;
		size_t got = 0;

		while (got < wanted)
		{
			ssize_t n = pread(fd, buffer + got, wanted - got, (off_t) (offset + got));

			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
				return archive_error(&d->base, ARCHIVE_DAMAGED, NULL, "could not read file \"%s\": %m", read->name);
			if (n == 0)
				return archive_error(&d->base, ARCHIVE_DAMAGED, NULL, "file \"%s\" ends after " UINT64_FORMAT " bytes",
									 read->name, offset + got);
			got += n;
		}
		memset(buffer + got, 0, len - got);
		if (!reader->data(reader->arg, read, offset, buffer, len))
			return ARCHIVE_STOPPED;
		offset += len;
	}
	return ARCHIVE_OK;
}

/*
 * A file that was finished has its checksum, which the reader compares; of one
 * without, and where only a part counts, the records are looked at.  What an
 * open one holds may end anywhere.
 */
static ArchiveStatus
check_wal(DirArchive *d, const WaWalFile *file, WalFileInfo *info)
{
	if (file->fd < 0 || file->partial)
		return ARCHIVE_OK;
	if (info->state == WAL_FILE_PRESENT)
		archive_dir_find_sum(d, file->name, info);
	if (info->sha256[0] != '\0' || file->tli == 0)
		return ARCHIVE_OK;
	return archive_dir_check_segment(d, file->tli, file->start, file->start + info->valid, info);
}

static ArchiveStatus
read_wal(DirArchive *d, const ArchiveReader *reader, const ArchiveRead *read, char *buffer)
{
	WaWalFile file;
	WalFileInfo info;
	ArchiveStatus status = find_wal(d, read->name, &file, &info);

	if (status == ARCHIVE_OK)
		status = check_wal(d, &file, &info);
	if (status == ARCHIVE_OK && info.state == WAL_FILE_DAMAGED)
		wa_file_close(&file);
	if (status == ARCHIVE_OK && reader->begin != NULL && !reader->begin(reader->arg, read, &info))
		status = ARCHIVE_STOPPED;
	if (status == ARCHIVE_OK && file.fd >= 0)
		status = show_bytes(d, reader, read, file.fd, 0, info.valid, info.size, buffer);
	wa_file_close(&file);
	return status;
}

static ArchiveStatus
read_backup(DirArchive *d, const ArchiveReader *reader, const ArchiveRead *read, char *buffer)
{
	ArchiveStatus status = archive_dir_ready(d);
	char path[MAXPGPATH];
	struct stat st;
	int fd;

	if (status != ARCHIVE_OK)
		return status;
	if (d->backup_path[0] == '\0' || !wa_backup_label_is_valid(read->label))
		return archive_error(&d->base, ARCHIVE_NOT_FOUND, NULL, "there is no backup \"%s\"", read->label);
	if (read->name[0] == '\0' || read->name[0] == '.' || strchr(read->name, '/') != NULL ||
		snprintf(path, sizeof(path), "%s/%s/%s", d->backup_path, read->label, read->name) >= (int) sizeof(path))
		return archive_error(&d->base, ARCHIVE_NOT_FOUND, NULL, "\"%s\" is not the name of a backup's file", read->name);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return archive_error(&d->base, errno == ENOENT ? ARCHIVE_NOT_FOUND : ARCHIVE_FAILED, NULL,
							 "could not open file \"%s\": %m", path);
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		status = archive_error(&d->base, ARCHIVE_DAMAGED, NULL, "\"%s\" is not a regular file", path);
	else
		status = show_bytes(d, reader, read, fd, read->offset, (uint64) st.st_size, read->offset + read->length, buffer);
	close(fd);
	return status;
}

static ArchiveStatus
dir_read(Archive *archive, const ArchiveReader *reader)
{
	DirArchive *d = (DirArchive *) archive;
	char *buffer = pg_malloc(PIECE_SIZE);
	ArchiveStatus status = ARCHIVE_OK;
	ArchiveRead read;

	for (;;)
	{
		memset(&read, 0, sizeof(read));
		if (!reader->next(reader->arg, &read))
			break;
		if (read.label != NULL)
			status = read_backup(d, reader, &read, buffer);
		else
			status = read_wal(d, reader, &read, buffer);
		if (status == ARCHIVE_OK && reader->done != NULL && !reader->done(reader->arg, &read))
			status = ARCHIVE_STOPPED;
		if (status != ARCHIVE_OK)
			break;
	}
	pg_free(buffer);
	return status;
}

static const ArchiveMethods dir_methods = {
	.clone = dir_clone,
	.close = dir_close,
	.layout = dir_layout,
	.plan = archive_dir_plan,
	.plan_files = archive_dir_plan_files,
	.renew_plan = dir_renew_plan,
	.release_plan = dir_release_plan,
	.use_plan = dir_use_plan,
	.wal_file = dir_wal_file,
	.read = dir_read,
};

Archive *
archive_dir_open(const CliOptions *options)
{
	DirArchive *d = pg_malloc0(sizeof(DirArchive));

	d->base.methods = &dir_methods;
	d->base.options = options;
	return &d->base;
}
