/*-------------------------------------------------------------------------
 *
 * journal.c
 *	  The journal of a source.  See journal.h.
 *
 * Several processes may append: a line goes out in one write with O_APPEND.
 * Nothing is kept open between two lines, so that a removed archive leaves no
 * descriptor behind.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "../base/flat_json.h"
#include "archive_dir.h"
#include "journal.h"

/* ISO 8601 in UTC with microseconds, whatever TimeZone is. */
static void
format_time(TimestampTz t, char *buf, size_t size)
{
	int64 usec = t + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	time_t sec = (time_t) (usec / USECS_PER_SEC);
	struct tm tm;
	char day[32];

	gmtime_r(&sec, &tm);
	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf, size, "%s.%06dZ", day, (int) (usec % USECS_PER_SEC));
}

static bool
parse_time(const char *text, TimestampTz *t)
{
	int year,
		month,
		day,
		hour,
		minute,
		sec,
		usec,
		used = 0;

	if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%6dZ%n", &year, &month, &day,
			   &hour, &minute, &sec, &usec, &used) != 7 ||
		used != 27 ||
		text[used] != '\0' || month < 1 || month > 12 || day < 1 || day > 31)
		return false;
	*t = ((TimestampTz) date2j(year, month, day) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY +
		 ((hour * 60 + minute) * 60 + sec) * USECS_PER_SEC + usec;
	return true;
}

static bool
format_line(const WaJournalEntry *entry, char *line, size_t *len)
{
	WaJsonWriter w;
	char stamp[64];

	format_time(entry->time, stamp, sizeof(stamp));
	wa_json_begin(&w, line, WA_JOURNAL_LINE_LEN - 1);
	wa_json_string(&w, "time", stamp);
	wa_json_string(&w, "kind", entry->kind);
	wa_json_string(&w, "severity", entry->severity);
	wa_json_string(&w, "message", entry->message);
	if (entry->system_identifier != 0)
		wa_json_uint(&w, "system_identifier", entry->system_identifier);
	if (entry->tli != 0)
		wa_json_uint(&w, "timeline", entry->tli);
	if (entry->parent != 0)
		wa_json_uint(&w, "parent", entry->parent);
	if (entry->has_range)
	{
		wa_json_lsn(&w, "from_lsn", entry->from_lsn);
		wa_json_lsn(&w, "to_lsn", entry->to_lsn);
	}
	if (entry->cause[0] != '\0')
		wa_json_string(&w, "cause", entry->cause);
	if (!wa_json_end(&w))
		return false;
	line[w.used] = '\n';
	*len = w.used + 1;
	return true;
}

uint64
wa_journal_append(const char *source, const WaJournalEntry *entry)
{
	char path[MAXPGPATH];
	char buffer[WA_JOURNAL_LINE_LEN + 1];
	char *line = buffer + 1;
	size_t len;
	struct stat st;
	char last;
	int fd;
	ssize_t n;
	int save_errno;

	if (!wa_source_name_is_valid(source) ||
		snprintf(path, sizeof(path), "%s/%s/journal", wa_directory, source) >= sizeof(path) ||
		!format_line(entry, line, &len))
	{
		errno = EINVAL;
		return 0;
	}
	fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, pg_file_create_mode);
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) != 0)
		goto failed;
	/* end what a crash left unfinished, so that it spoils no other line */
	if (st.st_size > 0 && pread(fd, &last, 1, st.st_size - 1) == 1 && last != '\n')
	{
		buffer[0] = '\n';
		line = buffer;
		len++;
	}
	errno = 0;
	n = write(fd, line, len);
	if (n != (ssize_t) len)
	{
		if (errno == 0)
			errno = ENOSPC;
		goto failed;
	}
	if (fsync(fd) != 0)
		goto failed;
	/* its directory entry, when this was the first line */
	if (st.st_size == 0)
	{
		char dir[MAXPGPATH];
		int dirfd;

		snprintf(dir, sizeof(dir), "%s/%s", wa_directory, source);
		dirfd = open(dir, O_RDONLY | O_CLOEXEC);
		if (dirfd < 0)
			goto failed;
		if (fsync(dirfd) != 0)
		{
			save_errno = errno;
			close(dirfd);
			errno = save_errno;
			goto failed;
		}
		close(dirfd);
	}
	if (fstat(fd, &st) != 0)
		goto failed;
	close(fd);
	return (uint64) st.st_size;

failed:
	save_errno = errno;
	close(fd);
	errno = save_errno;
	return 0;
}

uint64
wa_journal_read(FILE *file, uint64 offset, WaJournalEntry *entry, bool *valid)
{
	char line[WA_JOURNAL_LINE_LEN];
	char stamp[64];
	uint64 number;
	size_t len = 0;
	bool too_long = false;
	int c;

	*valid = false;
	if (fseeko(file, (off_t) offset, SEEK_SET) != 0)
		return 0;
	while ((c = getc(file)) != EOF && c != '\n')
	{
		offset++;
		if (len < sizeof(line))
			line[len++] = (char) c;
		else
			too_long = true;
	}
	if (c == EOF)
		return 0;
	offset++;

	memset(entry, 0, sizeof(*entry));
	if (too_long || !wa_json_valid(line, len) ||
		!wa_json_get_string(line, len, "time", stamp, sizeof(stamp)) ||
		!parse_time(stamp, &entry->time) ||
		!wa_json_get_string(line, len, "kind", entry->kind, sizeof(entry->kind)) ||
		!wa_json_get_string(line, len, "severity", entry->severity,
							sizeof(entry->severity)) ||
		!wa_json_get_string(line, len, "message", entry->message,
							sizeof(entry->message)))
		return offset;
	(void) wa_json_get_uint(line, len, "system_identifier",
							&entry->system_identifier);
	if (wa_json_get_uint(line, len, "timeline", &number))
		entry->tli = (TimeLineID) number;
	if (wa_json_get_uint(line, len, "parent", &number))
		entry->parent = (TimeLineID) number;
	entry->has_range =
		wa_json_get_lsn(line, len, "from_lsn", &entry->from_lsn) &&
		wa_json_get_lsn(line, len, "to_lsn", &entry->to_lsn);
	(void) wa_json_get_string(line, len, "cause", entry->cause,
							  sizeof(entry->cause));
	*valid = true;
	return offset;
}
