/*-------------------------------------------------------------------------
 *
 * restore_forks.c
 *	  The parents' copies of the segments in which timelines begin.
 *
 * Recovery reads the child's copy of such a segment, which has the same bytes up
 * to the fork.  But where a transaction was prepared in it before the fork, and
 * is open there, a hot standby looks for it in the parent's, in pg_wal alone,
 * and recovery fails with "requested WAL segment ... has already been removed".
 * So they are put there beforehand, with zeros from the fork on.
 *
 * A crash leaves a file in a directory that is no database yet.
 *
 *-------------------------------------------------------------------------
 */
#include "restore.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/logging.h"

#include "../src/base/wal_name.h"

/* No history is longer: a line for each of WA_MAX_TIMELINES. */
#define MAX_HISTORY (1024 * 1024)

typedef struct ForkFile
{
	const char *name;
	bool asked;
	bool found;
	int fd;     /* a segment is written, -1: text is wanted */
	char *text; /* a history */
	size_t used;
	bool failed; /* reported already */
} ForkFile;

static bool
fork_next(void *arg, ArchiveRead *read)
{
	ForkFile *file = arg;

	if (file->asked)
		return false;
	file->asked = true;
	memset(read, 0, sizeof(*read));
	read->name = file->name;
	return true;
}

static bool
fork_begin(void *arg, const ArchiveRead *read, const WalFileInfo *info)
{
	ForkFile *file = arg;

	(void) read;
	file->found = info->state == WAL_FILE_PRESENT || info->state == WAL_FILE_PARTIAL;
	return true;
}

static bool
fork_data(void *arg, const ArchiveRead *read, uint64 offset, const char *bytes, size_t len)
{
	ForkFile *file = arg;

	if (file->fd < 0)
	{
		if (len > MAX_HISTORY - file->used)
			return false;
		memcpy(file->text + file->used, bytes, len);
		file->used += len;
		return true;
	}
	while (len > 0)
	{
		ssize_t n = pwrite(file->fd, bytes, len, (off_t) offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			if (n == 0)
				errno = ENOSPC;
			pg_log_error("could not write WAL segment \"%s\": %m", read->name);
			file->failed = true;
			return false;
		}
		bytes += n;
		len -= n;
		offset += n;
	}
	return true;
}

static int
read_one(Archive *archive, ForkFile *file)
{
	ArchiveReader reader = {.next = fork_next, .begin = fork_begin, .data = fork_data, .arg = file};
	ArchiveStatus status = archive_read(archive, &reader);

	if (file->failed)
		return EXIT_LOCAL;
	return status == ARCHIVE_OK ? EXIT_DONE : archive_report(archive, status);
}

/* One segment of a parent's; what is not archived is left out, for most recoveries do without. */
static int
lay_segment(Restore *restore, Archive *archive, TimeLineID tli, XLogRecPtr fork)
{
	char name[WA_WAL_NAME_LEN];
	char path[MAXPGPATH];
	ForkFile file = {.name = name};
	int code;

	wa_segment_name(name, tli, wa_segment_of(fork, restore->segment_size), restore->segment_size);
	snprintf(path, sizeof(path), "%s/pg_wal/%s", restore->data, name);
	file.fd = open(path, O_CREAT | O_EXCL | O_WRONLY | PG_BINARY, S_IRUSR | S_IWUSR);
	if (file.fd < 0)
	{
		pg_log_error("could not create file \"%s\": %m", path);
		return EXIT_LOCAL;
	}
	code = read_one(archive, &file);
	if (close(file.fd) != 0 && code == EXIT_DONE)
	{
		pg_log_error("could not write file \"%s\": %m", path);
		code = EXIT_LOCAL;
	}
	if (code != EXIT_DONE || !file.found)
		unlink(path);
	return code;
}

int
restore_lay_forks(Restore *restore)
{
	const ArchivePlan *plan = &restore->plan;
	char name[WA_WAL_NAME_LEN];
	ForkFile file = {.name = name, .fd = -1};
	WaHistory *history;
	Archive *archive;
	int code;

	if (plan->timeline <= 1)
		return EXIT_DONE;
	archive = archive_clone(restore->archive);
	code = archive_report(archive, archive_use_plan(archive, plan->ref));
	history = pg_malloc(sizeof(WaHistory));
	file.text = pg_malloc(MAX_HISTORY);
	wa_history_name(name, plan->timeline);
	if (code == EXIT_DONE)
		code = read_one(archive, &file);
	/* the plan rests on the history: if it is gone or damaged, recovery itself says so */
	if (code == EXIT_DONE && file.found &&
		wa_history_parse(file.text, file.used, plan->timeline, history) == NULL)
	{
		for (int i = 0; i + 1 < history->count && code == EXIT_DONE; i++)
		{
			XLogRecPtr fork = history->entry[i].end;

			if (fork > plan->start_lsn && fork <= plan->stop_lsn && fork % restore->segment_size != 0)
				code = lay_segment(restore, archive, history->entry[i].tli, fork);
		}
	}
	pg_free(file.text);
	pg_free(history);
	archive_close(archive);
	return code;
}
