/*-------------------------------------------------------------------------
 *
 * archive_scan.c
 *	  How far the archive in a WAL folder reaches.  See archive_scan.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/fd.h"

#include "../base/wal_name.h"
#include "archive_scan.h"

/* Files are read from the end in pieces of this size. */
#define READ_SIZE (128 * 1024)

typedef struct ScanTimeline
{
	TimeLineID tli;
	bool has_segment;
	uint64 last_segment; /* the highest finished one */
	bool has_partial;
	uint64 partial;          /* the highest partial above it … */
	bool has_partial_before; /* … and whether the one below is there */
} ScanTimeline;

uint32
wa_nonzero_end(const char *path, uint32 limit)
{
	static char buffer[READ_SIZE];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	off_t pos;
	uint32 end = 0;

	if (fd < 0 || fstat(fd, &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	if (st.st_size > limit)
	{
		close(fd);
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("file \"%s\" is longer than a segment", path),
				 errdetail("It has %lld bytes, a segment of this archive has %u.",
						   (long long) st.st_size, limit)));
	}
	/* from the end: the tail of a partial is zeroes */
	for (pos = st.st_size; pos > 0 && end == 0;)
	{
		size_t n = Min((off_t) sizeof(buffer), pos);
		ssize_t got = pread(fd, buffer, n, pos - n);

		if (got != (ssize_t) n)
		{
			int save_errno = got < 0 ? errno : EIO;

			close(fd);
			errno = save_errno;
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read file \"%s\": %m", path)));
		}
		for (size_t i = n; i > 0; i--)
		{
			if (buffer[i - 1] != 0)
			{
				end = (uint32) (pos - n + i);
				break;
			}
		}
		pos -= n;
	}
	close(fd);
	return end;
}

static ScanTimeline *
scan_timeline(ScanTimeline **all, int *count, int *room, TimeLineID tli)
{
	ScanTimeline *t;

	for (int i = 0; i < *count; i++)
	{
		if ((*all)[i].tli == tli)
			return &(*all)[i];
	}
	if (*count == *room)
	{
		*room *= 2;
		*all = repalloc(*all, *room * sizeof(ScanTimeline));
	}
	t = &(*all)[(*count)++];
	memset(t, 0, sizeof(*t));
	t->tli = tli;
	return t;
}

static int
compare_ends(const void *a, const void *b)
{
	TimeLineID x = ((const WaTimelineEnd *) a)->tli;
	TimeLineID y = ((const WaTimelineEnd *) b)->tli;

	return x < y ? -1 : x > y;
}

int
wa_scan_archive(const char *dirname, uint32 segment_size, WaTimelineEnd *ends,
				int max)
{
	int room = 8;
	int count = 0;
	ScanTimeline *all = palloc(room * sizeof(ScanTimeline));
	DIR *dir = AllocateDir(dirname);
	struct dirent *de;
	int n = 0;

	while ((de = ReadDir(dir, dirname)) != NULL)
	{
		TimeLineID tli;
		uint64 segno;
		WaWalFileKind kind = wa_parse_wal_name(de->d_name, segment_size, &tli, &segno);
		ScanTimeline *t;

		if (kind != WA_FILE_SEGMENT && kind != WA_FILE_PARTIAL)
			continue;
		t = scan_timeline(&all, &count, &room, tli);
		if (kind == WA_FILE_SEGMENT)
		{
			t->last_segment = t->has_segment ? Max(t->last_segment, segno) : segno;
			t->has_segment = true;
		}
		else
		{
			/*
			 * Two neighbours can both be partial after a crash on a file
			 * system that does not order renames: then the lower one counts.
			 * A lone lower one is what a gap left.
			 */
			if (!t->has_partial || segno > t->partial)
			{
				t->has_partial_before = t->has_partial && t->partial + 1 == segno;
				t->partial = segno;
			}
			else if (segno + 1 == t->partial)
				t->has_partial_before = true;
			t->has_partial = true;
		}
	}
	FreeDir(dir);

	for (int i = 0; i < count && n < max; i++)
	{
		ScanTimeline *t = &all[i];
		WaTimelineEnd *end = &ends[n++];

		end->tli = t->tli;
		if (t->has_partial && (!t->has_segment || t->partial > t->last_segment))
		{
			uint64 segno = t->partial;
			char name[WA_WAL_NAME_LEN];
			char path[MAXPGPATH];

			if (t->has_partial_before &&
				(!t->has_segment || segno - 1 > t->last_segment))
				segno--;
			wa_partial_name(name, t->tli, segno, segment_size);
			snprintf(path, sizeof(path), "%s/%s", dirname, name);
			end->end = wa_segment_start(segno, segment_size) +
					   wa_nonzero_end(path, segment_size);
		}
		else
		{
			end->end = wa_segment_start(t->last_segment + 1, segment_size);
		}
	}
	pfree(all);
	qsort(ends, n, sizeof(WaTimelineEnd), compare_ends);
	return count;
}
