/*-------------------------------------------------------------------------
 *
 * archive_dir_sums.c
 *	  Is a file of a bare archive directory's WAL what was archived?
 *
 * PostgreSQL takes a record with a wrong checksum for the end of WAL: a recovery
 * that is handed a damaged segment ends there, and may promote.  So a file is
 * looked up in wal.sha256, and whoever reads it compares.  Where there is no line
 * of it, as in a directory that pg_receivewal made, its records are read.
 *
 *-------------------------------------------------------------------------
 */
#include "archive_dir.h"

#include <sys/stat.h>

#include "../src/base/sum_line.h"

/* More than any line has. */
#define LINE_LEN (WA_SUM_LINE_LEN + 2)

/* Lines up to byte 'end' or, with -1, the end of the file; true: there is one of 'name'. */
static bool
find_line(FILE *sums, int64 end, const char *name, uint8 *sha256)
{
	char line[LINE_LEN];
	char found[WA_WAL_NAME_LEN];

	while ((end < 0 || ftello(sums) < end) && fgets(line, sizeof(line), sums) != NULL)
	{
		size_t len = strlen(line);

		/* a line that is still being written has no newline */
		if (len > 0 && line[len - 1] == '\n' && strstr(line, name) != NULL &&
			wa_read_sum_line(line, len - 1, sha256, found) && strcmp(found, name) == 0)
			return true;
	}
	return false;
}

/*
 * The lines are in the order in which segments were finished, and so do recoveries
 * ask: what is looked for is mostly in the line behind the last one found.
 */
static bool
look_up(DirArchive *d, const char *name, uint8 *sha256)
{
	struct stat now;
	struct stat opened;
	int64 from;

	if (d->sums_path[0] == '\0')
		return false;
	/* expire() puts a shorter file in its place */
	if (d->sums != NULL &&
		(stat(d->sums_path, &now) != 0 || fstat(fileno(d->sums), &opened) != 0 || now.st_dev != opened.st_dev ||
		 now.st_ino != opened.st_ino))
	{
		fclose(d->sums);
		d->sums = NULL;
	}
	if (d->sums == NULL)
		d->sums = fopen(d->sums_path, "r");
	if (d->sums == NULL)
		return false;
	from = ftello(d->sums);
	if (from >= 0 && find_line(d->sums, -1, name, sha256))
		return true;
	rewind(d->sums);
	return find_line(d->sums, from, name, sha256);
}

void
archive_dir_find_sum(DirArchive *d, const char *name, WalFileInfo *info)
{
	uint8 sha256[WA_SHA256_LEN];

	if (!look_up(d, name, sha256))
		return;
	for (int i = 0; i < WA_SHA256_LEN; i++)
		snprintf(info->sha256 + 2 * i, 3, "%02x", sha256[i]);
}

void
archive_dir_forget_sums(DirArchive *d)
{
	if (d->sums != NULL)
		fclose(d->sums);
	d->sums = NULL;
}
