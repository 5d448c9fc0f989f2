/*-------------------------------------------------------------------------
 *
 * journal.c
 *	  The journal of a source.  See journal.h.
 *
 * Several processes may append: see wa_append_lines.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "../base/flat_json.h"
#include "archive_dir.h"
#include "journal.h"

void
wa_format_utc(TimestampTz t, char *buf, size_t size)
{
	int64 usec = t + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	time_t sec = (time_t) (usec / USECS_PER_SEC);
	struct tm tm;
	char day[32];

	gmtime_r(&sec, &tm);
	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf, size, "%s.%06dZ", day, (int) (usec % USECS_PER_SEC));
}

bool
wa_parse_utc(const char *text, TimestampTz *t)
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

	wa_format_utc(entry->time, stamp, sizeof(stamp));
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
	if (entry->label[0] != '\0')
		wa_json_string(&w, "label", entry->label);
	if (entry->backup_kind[0] != '\0')
		wa_json_string(&w, "backup_kind", entry->backup_kind);
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
	char line[WA_JOURNAL_LINE_LEN];
	size_t len;

	if (!wa_source_name_is_valid(source) ||
		snprintf(path, sizeof(path), "%s/%s/journal", wa_directory, source) >= sizeof(path) ||
		!format_line(entry, line, &len))
	{
		errno = EINVAL;
		return 0;
	}
	return wa_append_lines(path, line, len);
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
		!wa_parse_utc(stamp, &entry->time) ||
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
	/* it may become part of a path */
	if (wa_json_get_string(line, len, "label", entry->label, sizeof(entry->label)) &&
		!wa_backup_label_is_valid(entry->label))
		return offset;
	(void) wa_json_get_string(line, len, "backup_kind", entry->backup_kind,
							  sizeof(entry->backup_kind));
	*valid = true;
	return offset;
}
