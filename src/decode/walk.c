/*-------------------------------------------------------------------------
 *
 * walk.c
 *	  Records in LSN order along a path of timelines.  See walk.h.
 *
 *-------------------------------------------------------------------------
 */
#include "walk.h"

#include <time.h>

/* How often progress is reported: bytes, microseconds. */
#define PROGRESS_BYTES (64 * 1024 * 1024)
#define PROGRESS_TIME 1000000

void *
wa_resize(void *memory, size_t size)
{
	if (size == 0)
	{
		free(memory);
		return NULL;
	}
	return realloc(memory, size);
}

int64
wa_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void
wa_walk_init(WaWalk *walk)
{
	memset(walk, 0, sizeof(*walk));
}

/* ---- does WAL go on behind a place where it seems to end? ---- */

typedef struct Probe
{
	XLogRecPtr found;
} Probe;

static bool
probe_record(void *arg, const WaWalRecord *record)
{
	((Probe *) arg)->found = record->start_lsn;
	return false;
}

/* Looks like the page at 'lsn', as far as that can be told at a glance. */
static bool
page_is_plausible(const char *page, XLogRecPtr lsn)
{
	uint16 magic;
	uint64 addr;

	memcpy(&magic, page, sizeof(magic));
	memcpy(&addr, page + 8, sizeof(addr));
	return addr == lsn && wa_wal_major(magic) != 0;
}

bool
wa_wal_goes_on(const WaWalDir *dir, const WaWalFile *file, uint32 block_size,
			   XLogRecPtr page_lsn, XLogRecPtr *found)
{
	WaReaderOptions options;
	Probe probe = {0};
	char *chunk = malloc(WA_CHUNK_SIZE);
	XLogRecPtr segment_end = file->start + dir->segment_size;
	XLogRecPtr begin = 0; /* of what is in the chunk */
	XLogRecPtr end = 0;
	XLogRecPtr page = page_lsn;

	if (chunk == NULL)
		return false;
	memset(&options, 0, sizeof(options));
	options.segment_size = dir->segment_size;
	options.block_size = block_size;
	options.system_identifier = dir->system_identifier;
	options.prefix_len = WA_RECORD_HEADER;
	options.resize = wa_resize;
	options.record = probe_record;
	options.arg = &probe;

	/*
	 * A reader that begins at a page and fails on a later one has shown that
	 * the pages between begin no record of their own, so the next try is on
	 * that later page: each page is read a bounded number of times.
	 */
	while (page < segment_end && probe.found == 0)
	{
		WaWalReader reader;
		WaReadStatus status;
		XLogRecPtr failed;

		if (page < begin || page >= end)
		{
			ssize_t n = wa_file_read(file, chunk, WA_CHUNK_SIZE, page - file->start);

			if (n <= 0)
				break;
			begin = page;
			end = begin + Min((uint64) n, segment_end - begin);
		}
		if (end - page < WA_SHORT_PAGE_HEADER ||
			!page_is_plausible(chunk + (page - begin), page))
		{
			page += block_size;
			continue;
		}
		wa_reader_begin(&reader, &options, page);
		status = wa_reader_feed(&reader, chunk + (page - begin), end - page);
		while (status == WA_READ_MORE && reader.feed_lsn == end &&
			   end < segment_end && end % block_size == 0)
		{
			ssize_t n = wa_file_read(file, chunk, WA_CHUNK_SIZE, end - file->start);

			if (n <= 0)
				break;
			begin = end;
			end = begin + Min((uint64) n, segment_end - begin);
			status = wa_reader_feed(&reader, chunk, end - begin);
		}
		failed = reader.error.lsn - reader.error.lsn % block_size;
		wa_reader_end(&reader);
		if (status != WA_READ_INVALID && status != WA_READ_END)
			break;
		page = Max(page + block_size, failed);
	}
	free(chunk);
	*found = probe.found;
	return probe.found != 0;
}

/* ---- ends of a walk ---- */

static void
finish(WaWalk *w, WaDecodeResult result, const WaWalReader *reader)
{
	w->result = result;
	if (reader != NULL)
	{
		w->next_lsn = reader->next_lsn;
		w->need_lsn = reader->need_lsn;
	}
	if (w->stopped_at != 0)
	{
		w->next_lsn = w->stopped_at;
		w->need_lsn = w->stopped_at + WA_RECORD_HEADER;
	}
	if (w->next_lsn < w->from)
		w->next_lsn = w->from;
	if (w->need_lsn < w->next_lsn)
		w->need_lsn = w->next_lsn + 1;
}

static void
finish_damaged(WaWalk *w)
{
	w->result = WA_DECODE_DAMAGED;
	w->next_lsn = w->damage.segment_lsn + w->dir->segment_size;
	w->need_lsn = w->next_lsn + 1;
	snprintf(w->text, sizeof(w->text), "file \"%s\": %s", w->damage.name, w->damage.text);
}

static void
finish_failed(WaWalk *w, const WaWalReader *reader, const char *text)
{
	finish(w, WA_DECODE_FAILED, reader);
	strlcpy(w->text, text, sizeof(w->text));
}

/* ---- records ---- */

/* The timeline of the path that owns the WAL at 'lsn', which never goes back. */
static inline void
set_owner(WaWalk *w, XLogRecPtr lsn)
{
	while (unlikely(w->owner + 1 < w->path_len && w->path[w->owner + 1].begin <= lsn))
		w->owner++;
	w->tli = w->path[w->owner].tli;
}

static bool
walk_record(void *arg, const WaWalRecord *record)
{
	WaWalk *w = arg;

	if (unlikely(record->start_lsn < w->from))
		return true;
	if (unlikely((w->until != 0 && record->start_lsn >= w->until) ||
				 (w->limit != 0 && record->start_lsn >= w->limit)))
	{
		w->stopped_at = record->start_lsn;
		return false;
	}
	set_owner(w, record->start_lsn);
	w->records++;
	return w->record(w->arg, record);
}

static void
walk_aborted(void *arg, XLogRecPtr record_lsn, XLogRecPtr page_lsn)
{
	WaWalk *w = arg;

	if (w->aborted != NULL && record_lsn >= w->from)
		w->aborted(w->arg, record_lsn, page_lsn);
}

void
wa_walk_refuse(WaWalk *w, const WaWalRecord *record, WaDamageKind kind,
			   const char *why)
{
	wa_damage_at(w->dir, w->tli, record->start_lsn, kind, &w->damage);
	strlcpy(w->damage.text, why, sizeof(w->damage.text));
	w->refused_at = record->start_lsn;
}

/* ---- segments ---- */

/* Is progress due? */
static void
count_bytes(WaWalk *w, const WaWalReader *reader, size_t n)
{
	w->bytes += n;
	if (w->progress == NULL)
		return;
	if (w->bytes - w->progress_bytes < PROGRESS_BYTES &&
		wa_clock() - w->progress_time < PROGRESS_TIME)
		return;
	w->progress_bytes = w->bytes;
	w->progress_time = wa_clock();
	w->progress(w->arg, Max(reader->next_lsn, w->from), w->bytes);
}

/*
 * Open the segment of the newest timeline of the path that has entered it.
 * '*entry' is set to the timeline that has it.
 */
static WaFileStatus
open_segment(WaWalk *w, XLogRecPtr start, WaWalFile *file, int *entry)
{
	XLogRecPtr end = start + w->dir->segment_size;

	for (int i = w->path_len - 1; i >= 0; i--)
	{
		WaFileStatus status;

		if (w->path[i].begin >= end)
			continue;
		status = wa_segment_open(w->dir, w->path[i].tli, start, file, &w->damage);
		if (status != WA_FILE_MISSING)
		{
			*entry = i;
			return status;
		}
		/* the parent holds nothing of this segment that is on the path */
		if (w->path[i].begin <= start)
			break;
	}
	return WA_FILE_MISSING;
}

/* The reader found something that is not WAL, or the end of it. */
static void
not_valid(WaWalk *w, const WaWalReader *reader, const WaWalFile *file)
{
	uint32 block = reader->options.block_size;
	XLogRecPtr error = reader->error.lsn;
	XLogRecPtr behind = Max(error - error % block + block, reader->feed_lsn);
	XLogRecPtr found = 0;

	/* behind what is wanted */
	if (w->until != 0 && reader->next_lsn >= w->until)
	{
		finish(w, WA_DECODE_DONE, reader);
		return;
	}

	/*
	 * What lies behind a switch can't be told from a hole when reading begins
	 * in the midst of it: begin with the segment.
	 */
	if (reader->next_lsn == 0 && w->begin % w->dir->segment_size != 0)
	{
		w->begin = wa_segment_floor(w->from, w->dir->segment_size);
		w->again = true;
		return;
	}
	if (file->partial && !w->live &&
		!wa_wal_goes_on(w->dir, file, block, Max(behind, file->start), &found))
	{
		finish(w, WA_DECODE_DONE, reader);
		strlcpy(w->text, reader->error.message, sizeof(w->text));
		return;
	}

	wa_damage_at(w->dir, file->tli, error, WA_DAMAGE_RECORD, &w->damage);
	if (found != 0)
		snprintf(w->damage.text, sizeof(w->damage.text), "%s, but WAL goes on at %X/%X",
				 reader->error.message, LSN_FORMAT_ARGS(found));
	else
		strlcpy(w->damage.text, reader->error.message, sizeof(w->damage.text));
	finish_damaged(w);
}

/*
 * Feed the open segment from where the reader stands up to 'bound'.  Returns
 * false if the walk has ended.
 */
static bool
feed_segment(WaWalk *w, WaWalReader *reader, const WaWalFile *file,
			 XLogRecPtr bound)
{
	while (reader->feed_lsn < bound)
	{
		uint64 len = Min(bound - reader->feed_lsn, WA_CHUNK_SIZE);
		ssize_t n;

		/* most of what lies behind the range need not be read */
		if (w->until > reader->feed_lsn)
		{
			uint64 wanted = w->until - reader->feed_lsn + reader->options.block_size - 1;

			len = Min(len, wanted - wanted % reader->options.block_size);
		}
		n = wa_file_read(file, w->chunk, len, reader->feed_lsn - file->start);
		if (n < 0)
		{
			int error = errno;

			wa_damage_at(w->dir, file->tli, reader->feed_lsn, WA_DAMAGE_UNREADABLE, &w->damage);
			if (wa_file_error(error, "could not read file", &w->damage) == WA_FILE_FAILED)
				finish_failed(w, reader, w->damage.text);
			else
				finish_damaged(w);
			return false;
		}
		if ((uint64) n < len)
		{
			finish_failed(w, reader, "a file became shorter while it was read");
			return false;
		}
		switch (wa_reader_feed(reader, w->chunk, n))
		{
			case WA_READ_MORE:
				break;
			case WA_READ_STOPPED:
				if (w->refused_at != 0)
					finish_damaged(w);
				else if (w->limit != 0 && w->stopped_at >= w->limit)
					return true;
				else
					finish(w, WA_DECODE_DONE, reader);
				return false;
			case WA_READ_END:
			case WA_READ_INVALID:
				not_valid(w, reader, file);
				return false;
			case WA_READ_NO_MEMORY:
				finish_failed(w, reader, "out of memory");
				return false;
		}
		w->major = reader->major;
		count_bytes(w, reader, n);

		/* nothing that is wanted is left, unless a record from before goes on */
		if (w->until != 0 && reader->feed_lsn >= w->until &&
			(reader->next_lsn == 0 || reader->next_lsn >= w->until))
		{
			finish(w, WA_DECODE_DONE, reader);
			return false;
		}
	}
	return true;
}

/*
 * Read one segment.  Returns false if the walk has ended.  'begun' says
 * whether 'reader' has begun; it begins with the first segment.
 */
static bool
walk_segment(WaWalk *w, WaWalReader *reader, bool *begun, XLogRecPtr start,
			 const WaReaderOptions *defaults)
{
	uint32 segment_size = w->dir->segment_size;
	XLogRecPtr segment_end = start + segment_size;
	XLogRecPtr bound;
	WaWalFile file;
	WaLongHeader header;
	WaFileStatus status;
	int entry = 0;

	status = open_segment(w, start, &file, &entry);
	if (status == WA_FILE_OK)
	{
		/* the first bytes may lie beyond what we may look at */
		if (w->end != 0 && w->end - start < WA_LONG_PAGE_HEADER)
		{
			finish(w, WA_DECODE_DONE, *begun ? reader : NULL);
			wa_file_close(&file);
			return false;
		}
		status = wa_segment_header(w->dir, &file, w->path[entry].begin, &header, &w->damage);
	}
	switch (status)
	{
		case WA_FILE_OK:
			break;
		case WA_FILE_MISSING:
			finish(w, *begun && w->end == 0 && w->until == 0 ? WA_DECODE_DONE : WA_DECODE_MISSING,
				   *begun ? reader : NULL);
			w->missing_lsn = start;
			if (w->result == WA_DECODE_MISSING)
			{
				char name[WA_WAL_NAME_LEN];

				set_owner(w, start);
				wa_segment_name(name, w->tli, wa_segment_of(start, segment_size), segment_size);
				snprintf(w->text, sizeof(w->text), "file \"%s\" is not there", name);
			}
			return false;
		case WA_FILE_UNKNOWN_MAJOR:
			w->result = WA_DECODE_UNKNOWN;
			w->next_lsn = start;
			w->need_lsn = start + WA_LONG_PAGE_HEADER;
			snprintf(w->text, sizeof(w->text), "file \"%s\": %s", file.name, w->damage.text);
			wa_file_close(&file);
			return false;
		case WA_FILE_FAILED:
			finish(w, WA_DECODE_FAILED, *begun ? reader : NULL);
			snprintf(w->text, sizeof(w->text), "file \"%s\": %s", w->damage.name, w->damage.text);
			wa_file_close(&file);
			return false;
		case WA_FILE_DAMAGED:

			/*
			 * A partial file that was just made, or of which only zeroes were
			 * written, is where the WAL ends.
			 */
			if (file.fd >= 0 && file.partial && !w->live &&
				(w->damage.kind == WA_DAMAGE_SIZE || w->damage.kind == WA_DAMAGE_RECORD))
			{
				XLogRecPtr found;

				if (!wa_wal_goes_on(w->dir, &file, *begun ? reader->options.block_size : XLOG_BLCKSZ,
									start, &found))
				{
					finish(w, WA_DECODE_DONE, *begun ? reader : NULL);
					snprintf(w->text, sizeof(w->text), "file \"%s\": %s", file.name, w->damage.text);
					wa_file_close(&file);
					return false;
				}
			}
			wa_file_close(&file);
			finish_damaged(w);
			return false;
	}

	if (!*begun)
	{
		WaReaderOptions options = *defaults;

		options.block_size = header.block_size;
		if (w->begin == 0)
			w->begin = w->exact ? w->from : w->from - w->from % header.block_size;
		wa_reader_begin(reader, &options, w->begin);
		*begun = true;
	}
	else if (reader->options.block_size != header.block_size)
	{
		wa_damage_at(w->dir, file.tli, start, WA_DAMAGE_FOREIGN, &w->damage);
		w->damage.lsn += 36;
		w->damage.offset = 36;
		snprintf(w->damage.text, sizeof(w->damage.text), "has block size %u instead of %u",
				 header.block_size, reader->options.block_size);
		wa_file_close(&file);
		finish_damaged(w);
		return false;
	}

	/* nor would recovery take it */
	if (file.size > segment_size)
	{
		wa_damage_at(w->dir, file.tli, start, WA_DAMAGE_SIZE, &w->damage);
		w->damage.lsn = segment_end;
		w->damage.offset = segment_size;
		snprintf(w->damage.text, sizeof(w->damage.text), "has " INT64_FORMAT " bytes, more than a segment",
				 file.size);
		wa_file_close(&file);
		finish_damaged(w);
		return false;
	}

	/* how far it may be read */
	bound = segment_end;
	if (file.size < segment_size)
		bound = start + file.size;
	if (w->end != 0 && w->end < bound)
		bound = w->end;
	w->limit = 0;
	if (entry + 1 < w->path_len && w->path[entry + 1].begin < segment_end)
	{
		w->limit = w->path[entry + 1].begin;
		bound = Min(bound, w->limit);
	}

	if (!feed_segment(w, reader, &file, bound))
	{
		wa_file_close(&file);
		return false;
	}
	if (w->limit != 0 && (bound == w->limit || w->stopped_at != 0))
	{
		char name[WA_WAL_NAME_LEN];

		finish(w, WA_DECODE_MISSING, reader);
		w->missing_lsn = start;
		wa_segment_name(name, w->path[entry + 1].tli, wa_segment_of(start, segment_size), segment_size);
		snprintf(w->text, sizeof(w->text), "file \"%s\" is not there", name);
		wa_file_close(&file);
		return false;
	}
	if (bound < segment_end)
	{
		if (bound == w->end || (file.partial && !w->live))
			finish(w, WA_DECODE_DONE, reader);
		else
		{
			wa_damage_at(w->dir, file.tli, bound, WA_DAMAGE_SIZE, &w->damage);
			snprintf(w->damage.text, sizeof(w->damage.text), "has only " INT64_FORMAT " bytes", file.size);
			finish_damaged(w);
		}
		wa_file_close(&file);
		return false;
	}
	wa_file_close(&file);
	return true;
}

void
wa_walk(WaWalk *w)
{
	WaReaderOptions options;
	WaWalReader reader;
	bool begun = false;
	XLogRecPtr start = wa_segment_floor(w->from, w->dir->segment_size);

	memset(&options, 0, sizeof(options));
	options.segment_size = w->dir->segment_size;
	options.system_identifier = w->dir->system_identifier;
	options.strict = w->strict;
	options.prefix_len = Max(w->prefix_len, WA_RECORD_HEADER);
	options.keep = w->keep;
	options.resize = wa_resize;
	options.record = walk_record;
	options.aborted = walk_aborted;
	options.arg = w;

	memset(&reader, 0, sizeof(reader));
	w->next_lsn = w->from;
	w->need_lsn = w->from + 1;
	w->result = WA_DECODE_DONE;
	w->progress_time = wa_clock();
	set_owner(w, w->from);
	if (w->until != 0 && w->from >= w->until)
		return;
	w->chunk = malloc(WA_CHUNK_SIZE);
	if (w->chunk == NULL)
	{
		finish_failed(w, NULL, "out of memory");
		return;
	}

	for (;;)
	{
		if ((w->end != 0 && start >= w->end) || start < w->from - w->from % w->dir->segment_size)
		{
			/* the second: the last segment that can be numbered was read */
			finish(w, WA_DECODE_DONE, begun ? &reader : NULL);
			break;
		}
		if (walk_segment(w, &reader, &begun, start, &options))
			start += w->dir->segment_size;
		else if (!w->again)
			break;
		else
		{
			w->again = false;
			wa_reader_end(&reader);
			begun = false;
			start = w->begin;
		}
	}
	if (begun)
		wa_reader_end(&reader);
	free(w->chunk);
	w->chunk = NULL;
}
