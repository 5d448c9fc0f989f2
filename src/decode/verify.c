/*-------------------------------------------------------------------------
 *
 * verify.c
 *	  Is any byte of the archived WAL wrong?
 *
 * A segment is right if it has its size, its header belongs to its name and
 * cluster, each page header and each record in it is right, all that must be
 * zero is, and its SHA-256 is the one in wal.sha256.  The WAL reader goes on
 * from file to file, so that records that cross files and the links from each
 * record to the one before are checked as well.
 *
 * When something is wrong at the seam between two files, the checksum of
 * either may tell which of the two it is; this is why a file whose last record
 * goes on is held back until that record has been seen to its end.
 *
 * Memory: two buffers of WA_READ_SIZE, the header of a record, the checksums of the range asked for.
 *
 *-------------------------------------------------------------------------
 */
#include "../base/base.h"

#include <unistd.h>

#include "common/sha2.h"

#include "../base/flat_json.h"
#include "verify_files.h"

#define PROGRESS_BYTES (64 * 1024 * 1024)

/* Files that may wait for the end of a record: its longest is 1 GB. */
#define MAX_HELD 1100

/* Where a file's reading stands. */
typedef struct FileRead
{
	WaChecked *file;
	int fd;
	int parent_fd; /* the parent's copy below the fork, or -1 */
	char parent_name[WA_WAL_NAME_LEN];
	int64 parent_end;      /* from this offset on the parent's copy is zero, -1: not yet */
	bool parent_differs;   /* there, from parent_end on */
	uint32 limit;          /* bytes of WAL to look at */
	bool tail;             /* WAL may end anywhere */
	bool lost;             /* the reader is not fed any more */
	bool unknown;          /* of a major that we don't know */
	uint64 records_before; /* of the reader, when the file began */
	WaReadError end;       /* where the WAL of a tail ended, if 'ended' */
	bool ended;
	uint64 end_records;
	XLogRecPtr last_record; /* before that end */
	WaReadError seam;       /* error in the first record of the file or one that came in, if 'torn' */
	bool torn;
} FileRead;

static bool
count_record(void *arg, const WaWalRecord *record)
{
	return true;
}

/* ---- the reader ---- */

static void
begin_reader(WaVerify *v, XLogRecPtr lsn)
{
	WaReaderOptions options = {0};

	options.segment_size = v->segment_size;
	options.block_size = v->block_size;
	options.system_identifier = v->sysid;
	options.strict = true;
	options.prefix_len = WA_RECORD_HEADER;
	options.resize = wa_verify_resize;
	options.record = count_record;
	if (v->begun)
	{
		v->records += v->reader.records;
		wa_reader_end(&v->reader);
	}
	wa_reader_begin(&v->reader, &options, lsn);
	v->begun = true;
}

/*
 * Look at a segment's long header.  Returns false if what follows can't be
 * WAL of this file: then 'c' says what is wrong, or 'unknown' is set.
 */
static bool
check_header(WaVerify *v, WaChecked *c, const uint8 *page, size_t len, bool *unknown)
{
	WaLongHeader h;
	const char *message = wa_read_long_header(page, len, &h);
	bool has_fork = v->fork > c->start && v->fork - c->start < v->segment_size;

	*unknown = false;
	if (message != NULL)
	{
		wa_verify_note_at(v, c, WA_DAMAGE_RECORD, c->start, message);
		return false;
	}
	if (h.system_identifier != v->sysid)
		wa_verify_note(c, WA_DAMAGE_FOREIGN, c->start + 24, 24,
					   "belongs to the cluster with system identifier " UINT64_FORMAT, h.system_identifier);
	else if (h.segment_size != v->segment_size)
		wa_verify_note(c, WA_DAMAGE_FOREIGN, c->start + 32, 32,
					   "says that segments have %u bytes", h.segment_size);
	else if (h.page_lsn != c->start)
		wa_verify_note(c, WA_DAMAGE_FOREIGN, c->start + 8, 8,
					   "holds the segment that starts at %X/%X", LSN_FORMAT_ARGS(h.page_lsn));
	else if (v->block_size != 0 && h.block_size != v->block_size)
		wa_verify_note(c, WA_DAMAGE_FOREIGN, c->start + 36, 36,
					   "says that pages have %u bytes, and the files before have %u", h.block_size, v->block_size);
	/* its first page is the parent's where the fork lies behind */
	else if (h.tli != c->tli &&
			 !(h.tli < c->tli && (has_fork || (v->fork == 0 && c->tli > 1))))
		wa_verify_note(c, WA_DAMAGE_FOREIGN, c->start + 4, 4, "belongs to timeline %u", h.tli);
	if (c->kind != 0)
		return false;
	v->block_size = h.block_size;
	*unknown = (wa_wal_major(h.magic) == 0);
	return !*unknown;
}

/* Do the pages belong to the timeline of the name? */
static void
check_timelines(WaVerify *v, FileRead *f, const uint8 *bytes, size_t len, uint32 offset)
{
	WaChecked *c = f->file;

	for (size_t at = 0; at + WA_SHORT_PAGE_HEADER <= len; at += v->block_size)
	{
		XLogRecPtr page = c->start + offset + at;
		XLogRecPtr address;
		TimeLineID tli;

		memcpy(&tli, bytes + at + 4, sizeof(tli));
		memcpy(&address, bytes + at + 8, sizeof(address));
		/* what is no page of this place is the reader's business */
		if (address != page || tli == c->tli)
			continue;
		if (tli < c->tli && tli > 0 &&
			(v->fork == 0 ? c->tli > 1 : page < v->fork && v->fork - c->start < v->segment_size))
			continue;
		if (f->tail && tli == 0)
			continue;
		wa_verify_note(c, WA_DAMAGE_FOREIGN, page + 4, offset + at + 4,
					   "its page at %X/%X belongs to timeline %u", LSN_FORMAT_ARGS(page), tli);
		return;
	}
}

/* The reader refuses what it was fed: is that damage, and of which file? */
static void
judge_error(WaVerify *v, FileRead *f)
{
	const WaReadError *e = &v->reader.error;

	if (v->reader.records == f->records_before &&
		(e->lsn < f->file->start || (e->record_lsn != 0 && e->record_lsn < f->file->start) ||
		 e->record_lsn == v->reader.next_lsn))
	{
		/* the first record, or one that came in: the file before may be at fault */
		if (!f->torn)
		{
			f->torn = true;
			f->seam = *e;
		}
		return;
	}
	wa_verify_note_at(v, f->file, WA_DAMAGE_RECORD, e->lsn, e->message);
}

/*
 * Feed what was read of a file, 'len' bytes at 'offset' of it, to the reader.
 */
static void
feed(WaVerify *v, FileRead *f, const uint8 *bytes, size_t len, uint32 offset)
{
	XLogRecPtr start = f->file->start + offset;
	size_t done = 0;

	while (!f->lost && done < len)
	{
		WaReadStatus status = wa_reader_feed(&v->reader, bytes + done, len - done);
		XLogRecPtr wrong;
		size_t next;

		if (status == WA_READ_NO_MEMORY)
		{
			v->no_memory = true;
			f->lost = true;
			return;
		}
		if (f->ended && v->reader.records > f->end_records)
		{
			/* that was not the end of WAL */
			wa_verify_note_at(v, f->file, WA_DAMAGE_RECORD, f->end.lsn, f->end.message);
			f->lost = true;
			return;
		}
		if (status == WA_READ_MORE || status == WA_READ_STOPPED)
			return;

		wrong = v->reader.error.lsn;
		if (!f->tail)
		{
			bool torn = f->torn;

			judge_error(v, f);
			if (f->file->kind != 0 || torn)
			{
				f->lost = true;
				return;
			}
			/* the seam is judged later; the rest of the file now */
		}
		else if (!f->ended)
		{
			f->ended = true;
			f->end = v->reader.error;
			f->end_records = v->reader.records;
			f->last_record = v->reader.last_record_lsn;
		}
		/* on with the first page that starts behind, and is not empty */
		next = done;
		if (wrong >= start && wrong - start >= done)
			next = (wrong - start) / v->block_size * v->block_size;
		if (f->tail || next < done + v->block_size)
			next += v->block_size;
		if (!f->tail && wrong < start)
			next = done;
		while (next < len && wa_verify_all_zero(bytes + next, Min(len - next, v->block_size)))
			next += v->block_size;
		if (next >= len)
		{
			/* nothing more here: wait at the next buffer's start */
			wa_reader_resync(&v->reader, start + TYPEALIGN(v->block_size, len));
			return;
		}
		wa_reader_resync(&v->reader, start + next);
		done = next;
	}
}

/* ---- the seam between files ---- */

/* Send what is held but the last 'keep' files. */
static void
release_held(WaVerify *v, int keep)
{
	int count = v->held_count - keep;

	for (int i = 0; i < count; i++)
		wa_verify_send_file(v, &v->held[i]);
	if (count > 0)
	{
		memmove(v->held, v->held + count, keep * sizeof(WaChecked));
		v->held_count = keep;
	}
}

/*
 * Something is wrong in the record that came into file 'c' or is its first:
 * say of which file it is.  'c' is not among the held ones yet, and its
 * checksum is known.
 */
static void
judge_seam(WaVerify *v, WaChecked *c, const WaReadError *e)
{
	uint64 first = wa_segment_of(e->record_lsn != 0 ? Min(e->record_lsn, c->start - 1) : c->start - 1,
								 v->segment_size);
	WaChecked *suspect = NULL;
	bool blamed = false;

	for (int i = 0; i < v->held_count; i++)
	{
		WaChecked *h = &v->held[i];

		if (h->segno < first || h->tli != c->tli)
			continue;
		if (h->kind != 0)
			blamed = true;
		else if (h->sum == WA_SUM_UNKNOWN && suspect == NULL)
			suspect = h;
	}
	if (c->sum == WA_SUM_BAD || c->kind != 0)
	{
		wa_verify_note_at(v, c, WA_DAMAGE_RECORD, Max(e->lsn, c->start), e->message);
		return;
	}
	if (blamed)
		return;
	/* not among the held: the file before the range was read for its last record only */
	if (v->held_count == 0)
	{
		WaSumState before = c->start > 0 ? wa_verify_neighbour(v, c->segno - 1) : WA_SUM_GOOD;

		if (before == WA_SUM_BAD)
			return; /* said when it is verified itself */
		if (c->sum == WA_SUM_GOOD && before == WA_SUM_UNKNOWN)
		{
			WaChecked other = {0};

			wa_segment_name(other.name, c->tli, c->segno - 1, v->segment_size);
			other.tli = c->tli;
			other.segno = c->segno - 1;
			other.start = c->start - v->segment_size;
			wa_verify_note_at(v, &other, WA_DAMAGE_CONTINUITY, Min(e->lsn, c->start - 1), e->message);
			wa_verify_send_damage(v, &other);
			return;
		}
	}
	if (suspect != NULL && (c->sum == WA_SUM_GOOD || e->lsn < c->start))
		wa_verify_note_at(v, suspect, WA_DAMAGE_CONTINUITY, e->lsn < c->start ? e->lsn : e->record_lsn, e->message);
	else
		wa_verify_note_at(v, c, WA_DAMAGE_CONTINUITY, e->lsn >= c->start ? e->lsn : c->start, e->message);
}

/* Read the file before the range, for the record that comes out of it. */
static void
read_before(WaVerify *v, uint64 segno)
{
	char name[WA_WAL_NAME_LEN];
	char problem[WA_DAMAGE_TEXT_LEN];
	int64 size;
	int fd;
	XLogRecPtr start = wa_segment_start(segno, v->segment_size);
	bool fork_behind = v->fork != 0 && v->fork >= start + v->segment_size &&
					   v->fork - start < 2 * (uint64) v->segment_size;
	WaChecked c = {0};
	uint32 offset = 0;

	c.tli = fork_behind ? v->parent : v->tli;
	c.start = start;
	wa_segment_name(name, c.tli, segno, v->segment_size);
	fd = wa_verify_open(v, name, &size, problem);
	if (fd < 0)
		return;
	while (size == v->segment_size && offset < v->segment_size)
	{
		ssize_t n = wa_verify_read(fd, v->buffer, WA_READ_SIZE, offset);
		bool unknown;

		if (n != WA_READ_SIZE)
			break;
		v->bytes += n;
		if (offset == 0)
		{
			if (!check_header(v, &c, v->buffer, n, &unknown))
				break;
			begin_reader(v, start);
		}
		if (wa_reader_feed(&v->reader, v->buffer, n) != WA_READ_MORE)
			break;
		offset += n;
	}
	close(fd);
	v->chained = (offset == v->segment_size);
}

/*
 * The record at the end of the range goes on: is its rest right?  What the
 * next file itself is worth is asked when it is verified.
 */
static void
read_behind(WaVerify *v, uint64 segno)
{
	char name[WA_WAL_NAME_LEN];
	char problem[WA_DAMAGE_TEXT_LEN];
	bool finished;
	int64 size;
	int fd;
	XLogRecPtr start = wa_segment_start(segno, v->segment_size);
	uint32 limit = v->segment_size;
	uint32 offset = 0;
	WaChecked next = {0};

	fd = wa_verify_open_segment(v, v->tli, segno, name, &finished, &size, problem);
	if (fd < 0)
		return;
	if (!finished)
		limit = v->flushed > start ? Min(v->flushed - start, limit) : 0;
	strlcpy(next.name, name, sizeof(next.name));
	next.tli = v->tli;
	next.segno = segno;
	next.start = start;
	while (offset < limit && v->reader.next_lsn < start)
	{
		ssize_t n = wa_verify_read(fd, v->buffer, Min(WA_READ_SIZE, limit - offset), offset);
		WaReadStatus status;
		bool unknown;

		if (n <= 0)
			break;
		v->bytes += n;
		if (offset == 0 && !check_header(v, &next, v->buffer, n, &unknown))
			break;
		status = wa_reader_feed(&v->reader, v->buffer, n);
		if (status == WA_READ_INVALID || status == WA_READ_END)
		{
			const WaReadError *e = &v->reader.error;
			WaChecked *last = v->held_count > 0 ? &v->held[v->held_count - 1] : NULL;

			if (v->reader.next_lsn >= start || last == NULL)
				break;
			next.sum = finished ? wa_verify_neighbour(v, segno) : WA_SUM_UNKNOWN;
			/* if neither is known to be good, the next one is asked when it is its turn */
			if (next.sum == WA_SUM_GOOD || (next.sum == WA_SUM_UNKNOWN && e->lsn < start))
				judge_seam(v, &next, e);
			break;
		}
		if (status != WA_READ_MORE || n % v->block_size != 0)
			break;
		offset += n;
	}
	close(fd);
}

/* ---- a segment ---- */

/* Compare what lies below the fork with the parent's copy of it. */
static void
compare_parent(WaVerify *v, FileRead *f, const uint8 *bytes, size_t len, uint32 offset)
{
	uint32 below = v->fork - f->file->start;
	size_t wanted = offset >= below ? 0 : Min(len, below - offset);
	ssize_t n;

	if (f->parent_fd < 0 || f->parent_differs || wanted == 0)
		return;
	n = wa_verify_read(f->parent_fd, v->other, wanted, offset);
	if (n <= 0 || (f->parent_end < 0 && memcmp(bytes, v->other, n) == 0))
		return;
	for (ssize_t i = 0; i < n; i++)
	{
		if (f->parent_end < 0 && bytes[i] != v->other[i])
			f->parent_end = offset + i;
		/* its copy may end before the fork; but then all behind is zero */
		if (f->parent_end >= 0 && v->other[i] != 0)
		{
			f->parent_differs = true;
			return;
		}
	}
}

/* Below the fork the file and its parent's copy differ: which of them is wrong? */
static void
judge_parent(WaVerify *v, FileRead *f)
{
	WaChecked *c = f->file;
	WaChecked parent = {0};

	if (c->sum != WA_SUM_GOOD)
	{
		wa_verify_note(c, WA_DAMAGE_CONTINUITY, c->start + f->parent_end, f->parent_end,
					   "differs from %s below the fork at %X/%X", f->parent_name, LSN_FORMAT_ARGS(v->fork));
		return;
	}
	strlcpy(parent.name, f->parent_name, sizeof(parent.name));
	parent.tli = v->parent;
	parent.start = c->start;
	wa_verify_note(&parent, WA_DAMAGE_CONTINUITY, c->start + f->parent_end, f->parent_end,
				   "differs from %s below the fork at %X/%X", c->name, LSN_FORMAT_ARGS(v->fork));
	wa_verify_send_damage(v, &parent);
}

/* Read a segment, 'size' bytes, that is open. */
static void
read_segment(WaVerify *v, FileRead *f)
{
	WaChecked *c = f->file;
	bool hash = c->finished;
	uint32 offset = 0;
	uint32 size = Min(c->size, v->segment_size);

	if (hash && pg_cryptohash_init(v->sha) < 0)
		hash = false;
	while (offset < size && (hash || offset < f->limit))
	{
		ssize_t n = wa_verify_read(f->fd, v->buffer, Min(WA_READ_SIZE, size - offset), offset);
		size_t len;

		if (n <= 0)
		{
			if (n < 0)
				wa_verify_note(c, WA_DAMAGE_UNREADABLE, c->start + offset, offset, "could not be read: %s", strerror(errno));
			else
				wa_verify_note(c, WA_DAMAGE_SIZE, c->start + offset, offset, "became shorter while it was read");
			f->lost = true;
			hash = false;
			break;
		}
		v->bytes += n;
		if (hash && pg_cryptohash_update(v->sha, v->buffer, n) < 0)
			hash = false;

		len = offset < f->limit ? Min((size_t) n, f->limit - offset) : 0;
		if (len > 0 && offset == 0)
		{
			if (f->tail && wa_verify_all_zero(v->buffer, Min(len, WA_LONG_PAGE_HEADER)))
				f->lost = true; /* nothing has been received into it */
			else if (!check_header(v, c, v->buffer, len, &f->unknown))
				f->lost = true;
			else
			{
				if (!v->chained)
					begin_reader(v, c->start);
				f->records_before = v->reader.records;
			}
		}
		if (len > 0 && !f->lost)
		{
			check_timelines(v, f, v->buffer, len, offset);
			compare_parent(v, f, v->buffer, len, offset);
			feed(v, f, v->buffer, len, offset);
		}
		offset += n;
		if (v->bytes - v->shown_bytes >= PROGRESS_BYTES)
			wa_verify_progress(v, c->start + offset - 1);
	}
	if (hash && offset == size && pg_cryptohash_final(v->sha, c->sha256, sizeof(c->sha256)) >= 0)
		c->sum = wa_verify_compare(v, c->segno, c->sha256);
	else if (c->finished)
		wa_verify_note(c, WA_DAMAGE_UNREADABLE, 0, -1, "its SHA-256 could not be computed");
}

/* Check segment 'segno' of the timeline. */
static void
check_segment(WaVerify *v, uint64 segno)
{
	WaChecked c = {0};
	FileRead f = {0};
	char problem[WA_DAMAGE_TEXT_LEN];
	bool crosses;

	c.tli = v->tli;
	c.segno = segno;
	c.start = wa_segment_start(segno, v->segment_size);
	wa_verify_progress(v, c.start);
	f.file = &c;
	f.parent_fd = -1;
	f.parent_end = -1;
	f.fd = wa_verify_open_segment(v, v->tli, segno, c.name, &c.finished, &c.size, problem);
	if (f.fd < 0)
	{
		if (problem[0] != '\0')
			wa_verify_note(&c, WA_DAMAGE_UNREADABLE, 0, -1, "%s", problem);
		else
			wa_verify_note(&c, WA_DAMAGE_MISSING, c.start, -1, "is missing");
		release_held(v, 0);
		wa_verify_send_damage(v, &c);
		v->chained = false;
		return;
	}
	c.there = true;

	/* how much of it is WAL */
	f.limit = v->segment_size;
	if (!c.finished)
	{
		f.tail = !(v->flushed > c.start && v->flushed - c.start <= v->segment_size);
		if (!f.tail)
			f.limit = v->flushed - c.start;
		else if (v->flushed != 0 && v->flushed <= c.start)
			f.limit = 0;
		else
			f.limit = Min(c.size, v->segment_size);
	}
	if (c.size > v->segment_size)
		wa_verify_note(&c, WA_DAMAGE_SIZE, c.start + v->segment_size, v->segment_size,
					   "has " INT64_FORMAT " bytes instead of %u", c.size, v->segment_size);
	else if (c.size == 0 && f.limit > 0)
		wa_verify_note(&c, WA_DAMAGE_SIZE, c.start, 0, "is empty");
	else if (c.size < f.limit)
		wa_verify_note(&c, WA_DAMAGE_SIZE, c.start + c.size, c.size,
					   "is cut off after " INT64_FORMAT " of %u bytes", c.size, f.limit);
	if (c.kind != 0)
		f.lost = true;

	if (v->parent != 0 && v->fork > c.start && v->fork - c.start < v->segment_size)
	{
		bool finished;
		int64 size;

		f.parent_fd = wa_verify_open_segment(v, v->parent, segno, f.parent_name, &finished, &size, problem);
	}
	if (!v->chained && c.kind == 0 && segno > 0 && f.limit > 0 && v->held_count == 0)
		read_before(v, segno - 1);

	read_segment(v, &f);
	close(f.fd);
	if (f.parent_fd >= 0)
		close(f.parent_fd);

	if (f.torn)
		judge_seam(v, &c, &f.seam);
	if (f.parent_differs)
		judge_parent(v, &f);
	if (c.sum == WA_SUM_BAD)
		wa_verify_note(&c, WA_DAMAGE_HASH, 0, -1,
					   "its SHA-256 differs from the one in wal.sha256");
	if (f.tail && !f.unknown && v->known >= c.start && v->known - c.start < v->segment_size &&
		(f.limit == 0 || !v->begun || (f.ended ? f.last_record : v->reader.last_record_lsn) < v->known))
	{
		XLogRecPtr at = f.ended ? f.end.lsn : c.start;

		if (f.limit > 0)
			wa_verify_note_at(v, &c, WA_DAMAGE_RECORD, at, "its WAL ends before the last record that the catalog knows");
	}
	v->chained = v->begun && !f.lost && !f.unknown && f.limit == v->segment_size &&
				 v->reader.feed_lsn == c.start + v->segment_size;

	/* is the last record a whole one? */
	crosses = v->chained && v->reader.next_lsn != 0 && v->reader.next_lsn < c.start + v->segment_size;
	if (v->held_count == MAX_HELD || !crosses)
		release_held(v, 0);
	else if (v->reader.next_lsn >= c.start)
		release_held(v, 0);
	if (crosses && v->held_count < MAX_HELD)
		v->held[v->held_count++] = c;
	else
		wa_verify_send_file(v, &c);
}

/* ---- requests ---- */

static bool
begin_request(WaVerify *v, const char *request, size_t len, WaSendMessage send,
			  char *text, size_t text_size)
{
	uint64 number;

	memset(v, 0, sizeof(*v));
	v->send = send;
	if (!wa_json_get_string(request, len, "directory", v->directory, sizeof(v->directory)) ||
		!wa_json_get_uint(request, len, "segment_size", &number) ||
		!wa_segment_size_is_valid(number))
	{
		snprintf(text, text_size, "the request lacks \"directory\" or \"segment_size\"");
		return false;
	}
	v->segment_size = (uint32) number;
	(void) wa_json_get_uint(request, len, "system_identifier", &v->sysid);
	(void) wa_json_get_string(request, len, "sums", v->sums_path, sizeof(v->sums_path));
	v->buffer = wa_verify_resize(NULL, WA_READ_SIZE);
	v->other = wa_verify_resize(NULL, WA_READ_SIZE);
	v->held = wa_verify_resize(NULL, MAX_HELD * sizeof(WaChecked));
	v->sha = pg_cryptohash_create(PG_SHA256);
	if (v->buffer == NULL || v->other == NULL || v->held == NULL || v->sha == NULL)
	{
		snprintf(text, text_size, "out of memory");
		return false;
	}
	return true;
}

static void
end_request(WaVerify *v, WaMsgEnd *end, char *text, size_t text_size)
{
	if (v->begun)
	{
		v->records += v->reader.records;
		wa_reader_end(&v->reader);
	}
	if (v->sha != NULL)
		pg_cryptohash_free(v->sha);
	free(v->buffer);
	free(v->other);
	free(v->held);
	free(v->sum);
	if (v->no_memory)
	{
		end->result = WA_DECODE_FAILED;
		snprintf(text, text_size, "out of memory");
	}
	end->bytes = v->bytes;
	end->records = v->records;
}

void
wa_verify(const char *request, size_t len, WaSendMessage send, WaMsgEnd *end,
		  char *text, size_t text_size)
{
	WaVerify v;
	uint64 number;
	XLogRecPtr from = 0;
	XLogRecPtr to = 0;
	bool ok;

	memset(end, 0, sizeof(*end));
	text[0] = '\0';
	ok = begin_request(&v, request, len, send, text, text_size);
	if (ok && wa_json_get_uint(request, len, "history", &number))
	{
		ok = number > 0 && number <= PG_UINT32_MAX && wa_verify_read_sums(&v, true, 0, 0, text, text_size);
		if (ok)
		{
			wa_verify_history(&v, (TimeLineID) number);
		}
	}
	else if (ok)
	{
		uint64 first;
		uint64 last;

		ok = wa_json_get_uint(request, len, "timeline", &number) && number > 0 && number <= PG_UINT32_MAX &&
			 wa_json_get_lsn(request, len, "from", &from) && wa_json_get_lsn(request, len, "to", &to) &&
			 from < to && from % v.segment_size == 0 && to % v.segment_size == 0 &&
			 (to - from) / v.segment_size <= WA_VERIFY_MAX_SEGMENTS;
		if (!ok)
			snprintf(text, text_size, "the request has no valid \"timeline\", \"from\" and \"to\"");
		else
		{
			v.tli = (TimeLineID) number;
			if (wa_json_get_uint(request, len, "parent", &number) && number <= PG_UINT32_MAX)
				v.parent = (TimeLineID) number;
			(void) wa_json_get_lsn(request, len, "fork", &v.fork);
			(void) wa_json_get_lsn(request, len, "flushed", &v.flushed);
			(void) wa_json_get_lsn(request, len, "known", &v.known);
			first = from / v.segment_size;
			last = to / v.segment_size;
			/* those beside the range may be asked for, too */
			ok = wa_verify_read_sums(&v, false, first == 0 ? 0 : first - 1, last, text, text_size);
		}
		if (ok)
		{
			for (uint64 segno = first; segno < last && !v.no_memory; segno++)
				check_segment(&v, segno);
			if (v.held_count > 0 && v.chained && !v.no_memory)
				read_behind(&v, last);
			if (!v.no_memory)
				release_held(&v, 0);
			end->next_lsn = to;
		}
	}
	end->result = ok ? WA_DECODE_DONE : WA_DECODE_FAILED;
	end_request(&v, end, text, text_size);
}

void
wa_hash(const char *request, size_t len, WaSendMessage send, WaMsgEnd *end,
		char *text, size_t text_size)
{
	WaVerify v;
	WaChecked c = {0};
	WaWalFileKind kind = WA_FILE_OTHER;
	bool ok;

	memset(end, 0, sizeof(*end));
	text[0] = '\0';
	ok = begin_request(&v, request, len, send, text, text_size);
	if (ok)
	{
		if (wa_json_get_string(request, len, "file", c.name, sizeof(c.name)))
			kind = wa_parse_wal_name(c.name, v.segment_size, &c.tli, &c.segno);
		ok = (kind == WA_FILE_SEGMENT || kind == WA_FILE_HISTORY);
		if (!ok)
			snprintf(text, text_size, "the request has no valid \"file\"");
	}
	if (ok && kind == WA_FILE_HISTORY)
	{
		size_t content_len;
		char *content = wa_verify_read_history(&v, c.tli, &c, &content_len);

		if (content != NULL)
			wa_verify_resize(content, 0);
	}
	else if (ok)
	{
		FileRead f = {0};
		char problem[WA_DAMAGE_TEXT_LEN];

		c.start = wa_segment_start(c.segno, v.segment_size);
		c.finished = true;
		f.file = &c;
		f.parent_fd = -1;
		f.fd = wa_verify_open(&v, c.name, &c.size, problem);
		if (f.fd < 0 && problem[0] != '\0')
			wa_verify_note(&c, WA_DAMAGE_UNREADABLE, 0, -1, "%s", problem);
		else if (f.fd < 0)
			wa_verify_note(&c, WA_DAMAGE_MISSING, c.start, -1, "is missing");
		else
		{
			c.there = true;
			if (c.size != v.segment_size)
				wa_verify_note(&c, WA_DAMAGE_SIZE, 0, -1, "has " INT64_FORMAT " bytes instead of %u", c.size, v.segment_size);
			else
				read_segment(&v, &f);
			close(f.fd);
		}
	}
	if (ok && !v.no_memory)
		wa_verify_send_file(&v, &c);
	end->result = ok ? WA_DECODE_DONE : WA_DECODE_FAILED;
	end_request(&v, end, text, text_size);
}
