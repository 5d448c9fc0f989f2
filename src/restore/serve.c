/*-------------------------------------------------------------------------
 *
 * serve.c
 *	  Which of the archive's WAL is whose: what a recovery is told about a
 *	  file before it gets the first byte.
 *
 * A recovery takes a segment that does not exist for the end of the WAL, and
 * promotes.  So "absent" is said only of what is known not to exist: a timeline
 * that is not on the way, a place before or behind all that is archived.  A hole,
 * a damaged file, or one that is on its way are something else.
 *
 * Without a plan the way is the one that leads to the timeline that the source
 * is on: WAL of stray timelines, and what a former primary wrote behind a fork,
 * is not served.  Histories are, all of them, so that whoever promotes a copy
 * sees which numbers are taken.
 *
 * The files are the truth.  The catalog is asked for what they do not show: what
 * is damaged, checksums, and which segments there are before and behind a place,
 * for which a directory of a million files would have to be read.
 *
 * It runs in the session of whoever asks, and changes nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/fd.h"

#include "../base/wal_name.h"
#include "../base/wal_reader.h"
#include "../state/archive_dir.h"
#include "../state/shmem.h"
#include "../state/source_file.h"
#include "serve.h"

#define MAX_HISTORY_LEN (1024 * 1024)

/* Segments behind a missing one for which the directory is looked at: the catalog may be a little late. */
#define LOOK_AHEAD 4

typedef struct ServeContext
{
	const char *source;
	uint64 sysid;
	uint32 segment_size;
	XLogRecPtr needed_lsn; /* of a plan; 0: none */
	char directory[MAXPGPATH];
	bool connected; /* the receiver is, and stat is about this cluster */
	bool has_stat;
	WaReceiverStat stat;
	TimeLineID newest; /* of the way */
	WaHistory *path;
} ServeContext;

const char *
wa_serve_state_name(WaServeState state)
{
	static const char *const names[] = {"present", "partial", "absent", "missing", "damaged", "later"};

	return names[state];
}

static void
say(WaServed *served, WaServeState state, const char *format, ...) pg_attribute_printf(3, 4);

static void
say(WaServed *served, WaServeState state, const char *format, ...)
{
	va_list args;

	served->state = state;
	va_start(args, format);
	vsnprintf(served->detail, sizeof(served->detail), format, args);
	va_end(args);
}

/* ---- files ---- */

/*
 * Open a file of the wal directory.  Returns the descriptor, -1 if there is no
 * such file, or -2 if it is there and can't be served: served->detail says why.
 */
static int
open_file(const ServeContext *c, const char *name, int64 *size, WaServed *served)
{
	char path[MAXPGPATH];
	struct stat st;
	int fd;

	if (snprintf(path, sizeof(path), "%s/%s", c->directory, name) >= (int) sizeof(path))
		elog(ERROR, "path of \"%s\" is too long", name);
	/* O_NONBLOCK: a FIFO of this name would block us here */
	fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | PG_BINARY);
	if (fd < 0)
	{
		if (errno == ENOENT)
			return -1;
		if (errno == ELOOP)
		{
			say(served, WA_SERVE_DAMAGED, "\"%s\" is a symbolic link, not a file", name);
			return -2;
		}
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	}
	if (fstat(fd, &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not stat file \"%s\": %m", path)));
	if (!S_ISREG(st.st_mode))
	{
		CloseTransientFile(fd);
		say(served, WA_SERVE_DAMAGED, "\"%s\" is not a regular file", name);
		return -2;
	}
	*size = st.st_size;
	return fd;
}

/* The finished segment, else the partial one. */
static int
open_segment(const ServeContext *c, TimeLineID tli, uint64 segno, int64 *size, bool *partial,
			 WaServed *served)
{
	char name[WA_WAL_NAME_LEN];
	int fd = -1;

	/* a partial file that is gone may just have got its final name */
	for (int i = 0; i < 3 && fd == -1; i++)
	{
		*partial = (i == 1);
		if (*partial)
			wa_partial_name(name, tli, segno, c->segment_size);
		else
			wa_segment_name(name, tli, segno, c->segment_size);
		fd = open_file(c, name, size, served);
	}
	return fd;
}

/* Does the first page say that it is what its name says?  Else served->detail says what is wrong. */
static bool
check_header(const ServeContext *c, int fd, const char *name, TimeLineID tli, XLogRecPtr start,
			 WaServed *served)
{
	uint8 page[WA_LONG_PAGE_HEADER];
	WaLongHeader header;
	const char *problem = NULL;
	ssize_t n = pg_pread(fd, page, sizeof(page), 0);

	if (n < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read file \"%s/%s\": %m", c->directory, name)));
	problem = wa_read_long_header(page, (size_t) n, &header);
	if (problem == NULL && header.system_identifier != c->sysid)
		problem = "it is of another cluster";
	else if (problem == NULL && header.segment_size != c->segment_size)
		problem = "its segment size is another one";
	else if (problem == NULL && header.page_lsn != start)
		problem = "its first page is of another place";
	else if (problem == NULL && header.tli > tli)
		problem = "its first page is of another timeline";
	if (problem != NULL)
		say(served, WA_SERVE_DAMAGED, "segment \"%s\" is damaged: %s", name, problem);
	return problem == NULL;
}

/* ---- the way ---- */

/* The history of the newest timeline; a timeline without one has no known ancestors. */
static void
read_path(ServeContext *c)
{
	char name[WA_WAL_NAME_LEN];
	char path[MAXPGPATH];
	char *content = NULL;
	size_t len = 0;

	c->path = palloc0(sizeof(WaHistory));
	if (c->newest > 1)
	{
		wa_history_name(name, c->newest);
		if (snprintf(path, sizeof(path), "%s/%s", c->directory, name) < (int) sizeof(path))
			content = wa_read_file(path, MAX_HISTORY_LEN, &len);
		if (content != NULL && wa_history_parse(content, len, c->newest, c->path) == NULL)
		{
			pfree(content);
			return;
		}
	}
	c->path->count = 1;
	c->path->entry[0].tli = c->newest;
	c->path->entry[0].begin = 0;
	c->path->entry[0].end = 0;
}

static void
make_context(ServeContext *c, const char *source, const WaServePlan *plan)
{
	int slot;

	memset(c, 0, sizeof(*c));
	c->source = source;
	c->sysid = plan != NULL ? plan->sysid : wa_serve_cluster(source);
	if (c->sysid == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("nothing is archived of source \"%s\" yet", source)));
	wa_wal_path(c->directory, source, c->sysid);
	if (plan != NULL)
		c->segment_size = plan->segment_size;
	else if (!wa_read_cluster_file(source, c->sysid, &c->segment_size))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("nothing is archived of source \"%s\" yet", source)));
	slot = wa_find_slot(source);
	if (slot >= 0)
	{
		wa_read_stat(slot, &c->stat);
		c->has_stat = (c->stat.system_identifier == c->sysid && c->stat.received_tli != 0);
		c->connected = c->has_stat && c->stat.connected_since != 0;
	}
	if (plan != NULL)
	{
		c->path = unconstify(WaHistory *, &plan->path);
		c->newest = c->path->entry[c->path->count - 1].tli;
		c->needed_lsn = plan->needed_lsn;
		return;
	}
	c->newest = c->has_stat ? c->stat.received_tli : wa_serve_newest(source, c->sysid);
	read_path(c);
}

/* ---- histories ---- */

static void
find_history(const ServeContext *c, const char *name, TimeLineID tli, WaServed *served)
{
	int64 size = 0;
	int fd = open_file(c, name, &size, served);

	if (fd == -2)
		return;
	if (fd >= 0 && (size == 0 || size > MAX_HISTORY_LEN))
	{
		CloseTransientFile(fd);
		say(served, WA_SERVE_DAMAGED, "history \"%s\" has " INT64_FORMAT " bytes", name, size);
		return;
	}
	if (fd >= 0)
	{
		served->state = WA_SERVE_PRESENT;
		served->fd = fd;
		served->size = served->valid = (uint64) size;
		return;
	}
	if (tli == 1)
		say(served, WA_SERVE_ABSENT, "timeline 1 has no history");
	else if (wa_history_find(c->path, tli) != NULL || (c->has_stat && c->stat.received_tli == tli) ||
			 wa_serve_any_segment(c->source, c->sysid, tli, 0, 0))
		say(served, WA_SERVE_MISSING, "the archive has WAL of timeline %u, but not its history", tli);
	else
		say(served, WA_SERVE_ABSENT, "there is no timeline %u", tli);
}

/* ---- segments ---- */

static bool
any_on_disk(const ServeContext *c, TimeLineID tli, uint64 segno)
{
	char path[MAXPGPATH];
	char name[WA_WAL_NAME_LEN];

	for (int i = 1; i <= LOOK_AHEAD; i++)
	{
		for (int partial = 0; partial < 2; partial++)
		{
			if (partial)
				wa_partial_name(name, tli, segno + i, c->segment_size);
			else
				wa_segment_name(name, tli, segno + i, c->segment_size);
			if (snprintf(path, sizeof(path), "%s/%s", c->directory, name) < (int) sizeof(path) &&
				access(path, F_OK) == 0)
				return true;
		}
	}
	return false;
}

/* A segment of the way that is not there, or not yet: is that the end? */
static void
judge_missing(const ServeContext *c, const char *name, int n, uint64 segno, WaServed *served)
{
	XLogRecPtr start = wa_segment_start(segno, c->segment_size);
	TimeLineID tli = c->path->entry[n].tli;
	bool before = false;
	bool behind = false;

	if (c->needed_lsn == 0 && c->connected && tli == c->stat.received_tli && c->stat.latest_end_lsn > start &&
		c->stat.flushed_lsn <= start)
	{
		say(served, WA_SERVE_LATER, "segment \"%s\" is not archived yet, the source's WAL has come to %X/%X",
			name, LSN_FORMAT_ARGS(c->stat.latest_end_lsn));
		return;
	}
	if (c->has_stat && tli == c->stat.received_tli && c->stat.flushed_lsn > start + c->segment_size)
		behind = true;
	if (any_on_disk(c, tli, segno))
		behind = true;
	for (int i = 0; i < c->path->count; i++)
	{
		const WaTimelineEntry *entry = &c->path->entry[i];

		/* 0 would be no bound */
		if (i <= n && !before && start > 0)
			before = wa_serve_any_segment(c->source, c->sysid, entry->tli, wa_segment_floor(entry->begin, c->segment_size),
										  i < n ? entry->end : start);
		if (i >= n && !behind)
			behind = wa_serve_any_segment(c->source, c->sysid, entry->tli, i > n ? 0 : start + c->segment_size, entry->end);
	}
	if (before && behind)
		say(served, WA_SERVE_MISSING, "segment \"%s\" is missing in the archive, which goes on behind it", name);
	else if (!wa_serve_catalog_is_whole(c->source))
		say(served, WA_SERVE_MISSING, "segment \"%s\" is not there, but the archive's files are not all in the catalog yet", name);
	else if (c->needed_lsn != 0)
		say(served, WA_SERVE_MISSING, "segment \"%s\", which the plan needs, is missing in the archive", name);
	else if (behind)
		say(served, WA_SERVE_ABSENT, "segment \"%s\" lies before all that is archived", name);
	else
		say(served, WA_SERVE_ABSENT, "segment \"%s\" lies behind the end of the archive", name);
}

/* Of an open partial segment so many bytes are the server's and durable. */
static uint64
partial_bytes(const ServeContext *c, TimeLineID tli, XLogRecPtr start, int64 size)
{
	uint64 bytes = Min((uint64) size, c->segment_size);

	/* a receiver has come further, or the file is of a timeline that was left */
	if (!c->has_stat || tli != c->stat.received_tli || c->stat.flushed_lsn >= start + c->segment_size)
		return bytes;
	return c->stat.flushed_lsn > start ? Min(bytes, c->stat.flushed_lsn - start) : 0;
}

static void
find_segment(const ServeContext *c, const char *name, TimeLineID tli, uint64 segno, bool full,
			 WaServed *served)
{
	XLogRecPtr start = wa_segment_start(segno, c->segment_size);
	const WaTimelineEntry *entry = wa_history_find(c->path, tli);
	bool partial = false;
	int64 size = 0;
	int fd;

	if (entry == NULL)
	{
		if (c->newest == 0)
			say(served, WA_SERVE_MISSING, "the archive's timelines are not known yet");
		else
			say(served, WA_SERVE_ABSENT, "timeline %u is not on the way to timeline %u, which %s on", tli, c->newest,
				c->needed_lsn != 0 ? "the plan ends" : "the source is");
		return;
	}
	if (entry->end != 0 && start >= entry->end)
	{
		say(served, WA_SERVE_ABSENT, "timeline %u was left at %X/%X", tli, LSN_FORMAT_ARGS(entry->end));
		return;
	}
	if (start + c->segment_size <= entry->begin)
	{
		say(served, WA_SERVE_ABSENT, "timeline %u begins at %X/%X", tli, LSN_FORMAT_ARGS(entry->begin));
		return;
	}
	if (c->needed_lsn != 0 && start >= c->needed_lsn)
	{
		say(served, WA_SERVE_ABSENT, "the plan ends at %X/%X", LSN_FORMAT_ARGS(c->needed_lsn));
		return;
	}
	fd = open_segment(c, tli, segno, &size, &partial, served);
	if (fd == -2)
		return;
	served->size = c->segment_size;
	served->valid = 0;
	if (fd >= 0)
		served->valid = partial ? partial_bytes(c, tli, start, size) : c->segment_size;
	if (served->valid == 0)
	{
		if (fd >= 0)
			CloseTransientFile(fd);
		served->size = 0;
		if (full)
			judge_missing(c, name, entry - c->path->entry, segno, served);
		else
			say(served, WA_SERVE_MISSING, "segment \"%s\" is not in the archive", name);
		return;
	}
	served->state = served->valid < c->segment_size ? WA_SERVE_PARTIAL : WA_SERVE_PRESENT;
	if (!partial && size != c->segment_size)
		say(served, WA_SERVE_DAMAGED, "segment \"%s\" has " INT64_FORMAT " bytes instead of %u", name, size,
			c->segment_size);
	else if (full && check_header(c, fd, name, tli, start, served))
	{
		WaServeSegment segment;

		wa_serve_segment(c->source, c->sysid, tli, start, &segment);
		/* recovery would take the first wrong record for the end */
		if (segment.damage != NULL && (entry->end == 0 || segment.damage_lsn < entry->end) &&
			(c->needed_lsn == 0 || segment.damage_lsn < c->needed_lsn))
			say(served, WA_SERVE_DAMAGED, "segment \"%s\" is damaged at %X/%X: %s", name,
				LSN_FORMAT_ARGS(segment.damage_lsn), segment.damage);
		else if (!partial)
			strlcpy(served->sha256, segment.sha256, sizeof(served->sha256));
	}
	if (served->state == WA_SERVE_DAMAGED)
	{
		CloseTransientFile(fd);
		served->size = served->valid = 0;
		return;
	}
	served->fd = fd;
	/* what a former primary wrote behind the fork is nobody's */
	if (entry->end != 0 && served->valid > entry->end - start)
	{
		served->valid = entry->end - start;
		served->sha256[0] = '\0';
	}
	if (served->state == WA_SERVE_PARTIAL)
		say(served, WA_SERVE_PARTIAL, "flushed up to %X/%X", LSN_FORMAT_ARGS(start + served->valid));
}

void
wa_serve_find(const char *source, const char *name, const WaServePlan *plan, bool full, WaServed *served)
{
	ServeContext *c = palloc(sizeof(ServeContext));
	TimeLineID tli = 0;
	uint64 segno = 0;
	WaWalFileKind kind;

	memset(served, 0, sizeof(*served));
	served->fd = -1;
	make_context(c, source, plan);
	kind = wa_parse_wal_name(name, c->segment_size, &tli, &segno);
	if (kind == WA_FILE_HISTORY)
		find_history(c, name, tli, served);
	else if (kind == WA_FILE_SEGMENT)
		find_segment(c, name, tli, segno, full, served);
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("\"%s\" is not the name of a WAL segment or a timeline history", name)));
	if (plan == NULL)
		pfree(c->path);
	pfree(c);
}
