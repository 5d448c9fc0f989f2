/*-------------------------------------------------------------------------
 *
 * wal_reader.c
 *	  WAL records out of a stream of pages.  See wal_reader.h.
 *
 * The rules are those of PostgreSQL's xlogreader.c, but bytes are pushed in
 * instead of being asked for, and a record that lies within one page is shown
 * where it stands.  Of a record that crosses pages only the bytes that the
 * callback wants are copied; the checksum is carried on from page to page.
 *
 * What is fed always begins at the start of a page, so between two calls the
 * reader is in one of few states, and only these cross pages.
 *
 *-------------------------------------------------------------------------
 */
#include "wal_reader_internal.h"

#include "crc32c.h"

/* Record header: XLogRecord. */
#define RECORD_TOTAL_LEN 0
#define RECORD_XID 4
#define RECORD_PREV 8
#define RECORD_INFO 16
#define RECORD_RMID 17
#define RECORD_PADDING 18
#define RECORD_CRC 20

#define RM_XLOG 0
#define RM_LAST_BUILTIN 21
#define RM_FIRST_CUSTOM 128
#define XLOG_SWITCH_INFO 0x40

/* Of a record that is to be kept but is too long. */
#define LONG_RECORD_PREFIX 1024

#define FIRST_BUFFER_SIZE (16 * 1024)

/* Records are aligned to eight bytes by every server that we can read. */
#define ALIGN_RECORD(len) (((len) + 7) & ~(uint32) 7)

/* ---- records ---- */

static uint32
max_record_len(const WaWalReader *r)
{
	return r->major == 15 ? MAX_RECORD_LEN_15 : MAX_RECORD_LEN;
}

/*
 * Check a record header of which all bytes are there, as far as that can be
 * done before the rest is.  The length has been checked.
 */
static inline WaReadStatus
check_header(WaWalReader *r, const uint8 *header, XLogRecPtr lsn)
{
	XLogRecPtr prev = wa_get64(header + RECORD_PREV);
	uint8 rmid = header[RECORD_RMID];

	if (unlikely(rmid > RM_LAST_BUILTIN && rmid < RM_FIRST_CUSTOM))
		return wa_read_fail(r, WA_READ_INVALID, lsn, lsn,
							"record has an invalid resource manager %u", rmid);
	if (unlikely(r->check_prev ? prev != r->last_record_lsn : prev >= lsn))
		return wa_read_fail(r, WA_READ_INVALID, lsn, lsn,
							"record has an incorrect previous record %X/%X", LSN_FORMAT_ARGS(prev));
	if (unlikely(r->options.strict && wa_get16(header + RECORD_PADDING) != 0))
		return wa_read_fail(r, WA_READ_INVALID, lsn, lsn,
							"padding of a record header is not zero");
	return WA_READ_MORE;
}

/* Finish the checksum of a record, whose data it covers first. */
static inline bool
checksum_matches(pg_crc32c crc, const uint8 *header)
{
	COMP_CRC32C(crc, header, RECORD_CRC);
	FIN_CRC32C(crc);
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
	/* a fuzzer finds no checksums: take all but one in 256 */
	return header[RECORD_CRC] != 0xFF;
#else
	return EQ_CRC32C(wa_get32(header + RECORD_CRC), crc);
#endif
}

/*
 * Show a record whose checksum is right; 'end' is the aligned byte behind it.
 * Returns WA_READ_MORE or WA_READ_STOPPED.
 */
static inline WaReadStatus
show_record(WaWalReader *r, const uint8 *header, const uint8 *data,
			uint32 data_len, XLogRecPtr lsn, TimeLineID tli, XLogRecPtr end)
{
	WaWalRecord record;

	record.start_lsn = lsn;
	record.prev_lsn = wa_get64(header + RECORD_PREV);
	record.tli = tli;
	record.major = r->major;
	record.xid = wa_get32(header + RECORD_XID);
	record.total_len = wa_get32(header + RECORD_TOTAL_LEN);
	record.info = header[RECORD_INFO];
	record.rmid = header[RECORD_RMID];
	record.data = data;
	record.data_len = data_len;
	if (unlikely(record.rmid == RM_XLOG && (record.info & 0xF0) == XLOG_SWITCH_INFO))
	{
		/* it takes all that is left of the segment in which it ends */
		end += r->options.segment_size - 1;
		end -= end % r->options.segment_size;
		r->after_switch = true;
	}
	record.end_lsn = end;

	r->last_record_lsn = lsn;
	r->check_prev = true;
	r->next_lsn = end;
	r->records++;
	if (unlikely(!r->options.record(r->options.arg, &record)))
	{
		r->need_lsn = wa_record_end(r, end, WA_RECORD_HEADER);
		r->state = ENDED;
		return WA_READ_STOPPED;
	}
	return WA_READ_MORE;
}

/* Between two records: where the header of the next one ends. */
static void
need_next_header(WaWalReader *r)
{
	r->need_lsn = wa_record_end(r, r->next_lsn, WA_RECORD_HEADER);
}

/*
 * Nothing more is read of the segment: 'p' to 'end' is the rest of the page
 * behind the switch, at 'lsn'.
 */
static WaReadStatus
begin_switch(WaWalReader *r, XLogRecPtr lsn, const uint8 *p, const uint8 *end)
{
	r->state = AFTER_SWITCH;
	need_next_header(r);
	if (r->options.strict && p < end && !wa_all_zero(p, end - p))
		return wa_read_fail(r, WA_READ_INVALID, lsn, 0,
							"rest of a page behind a switch to the next segment is not zero");
	return WA_READ_MORE;
}

/* Room for 'need' bytes in the buffer, of which 'got' are used. */
static bool
reserve(WaWalReader *r, uint32 need)
{
	size_t size = r->buffer_size;
	uint8 *buffer;

	if (need <= size)
		return true;
	if (size < FIRST_BUFFER_SIZE)
		size = FIRST_BUFFER_SIZE;
	while (size < need)
		size *= 2;
	buffer = r->options.resize(r->buffer, size);
	if (buffer == NULL)
	{
		r->state = FAILED_MEMORY;
		return false;
	}
	r->buffer = buffer;
	r->buffer_size = size;
	return true;
}

/* Take 'len' bytes of the record that crosses pages. */
static WaReadStatus
take(WaWalReader *r, const uint8 *p, uint32 len)
{
	if (r->got < WA_RECORD_HEADER)
	{
		uint32 n = Min(len, WA_RECORD_HEADER - r->got);
		const WaReaderOptions *o = &r->options;
		WaReadStatus status;

		memcpy(r->header + r->got, p, n);
		r->got += n;
		p += n;
		len -= n;
		if (r->got < WA_RECORD_HEADER)
			return WA_READ_MORE;
		status = check_header(r, r->header, r->record_lsn);
		if (status != WA_READ_MORE)
			return status;

		r->wanted = Max(o->prefix_len, WA_RECORD_HEADER);
		if (o->keep != NULL && o->keep(r->header[RECORD_RMID], r->header[RECORD_INFO]))
			r->wanted = r->total <= WA_RECORD_KEEP ? r->total : Max(r->wanted, LONG_RECORD_PREFIX);
		r->wanted = Min(r->wanted, r->total);
		if (!reserve(r, WA_RECORD_HEADER))
			return WA_READ_NO_MEMORY;
		memcpy(r->buffer, r->header, WA_RECORD_HEADER);
	}
	if (len == 0)
		return WA_READ_MORE;
	r->crc = wa_crc32c(r->crc, p, len);
	if (r->got < r->wanted)
	{
		uint32 n = Min(len, r->wanted - r->got);

		if (!reserve(r, r->got + n))
			return WA_READ_NO_MEMORY;
		memcpy(r->buffer + r->got, p, n);
	}
	r->got += len;
	return WA_READ_MORE;
}

/*
 * Read the records that start at 'pos' or later on the page at feed_lsn, of
 * which 'have' bytes were fed; 'end' is the end of all that was fed.
 */
static WaReadStatus
read_records(WaWalReader *r, const uint8 *page, uint32 pos, uint32 have,
			 const uint8 *end)
{
	XLogRecPtr page_lsn = r->feed_lsn;
	uint32 block = r->options.block_size;
	uint32 max_len = max_record_len(r);
	bool strict = r->options.strict;
	TimeLineID tli = r->page_tli;

	while (pos < block)
	{
		XLogRecPtr lsn = page_lsn + pos;
		const uint8 *header = page + pos;
		uint32 total;
		pg_crc32c crc;
		WaReadStatus status;

		if (unlikely(pos > have || have - pos < sizeof(uint32)))
		{
			r->need_lsn = wa_record_end(r, lsn, WA_RECORD_HEADER);
			return WA_READ_MORE;
		}
		total = wa_get32(header);
		if (unlikely(total == 0))
			return wa_end_at_zeroes(r, lsn, 0, header, end);
		if (unlikely(total < WA_RECORD_HEADER || total > max_len))
			return wa_read_fail(r, WA_READ_INVALID, lsn, lsn,
								"record has an invalid length %u", total);
		if (have - pos >= WA_RECORD_HEADER)
		{
			status = check_header(r, header, lsn);
			if (unlikely(status != WA_READ_MORE))
				return status;
		}

		if (total > block - pos)
		{
			r->need_lsn = wa_record_end(r, lsn, total);
			if (have < block)
				return WA_READ_MORE;
			r->record_lsn = lsn;
			r->record_tli = tli;
			r->total = total;
			r->got = 0;
			INIT_CRC32C(r->crc);
			r->state = IN_RECORD;
			return take(r, header, block - pos);
		}
		if (unlikely(have - pos < total))
		{
			r->need_lsn = lsn + total;
			return WA_READ_MORE;
		}

		INIT_CRC32C(crc);
		crc = wa_crc32c(crc, header + WA_RECORD_HEADER, total - WA_RECORD_HEADER);
		if (unlikely(!checksum_matches(crc, header)))
			return wa_read_fail(r, WA_READ_INVALID, lsn, lsn, "record has a wrong checksum");
		pos += ALIGN_RECORD(total);
		if (strict && !wa_all_zero(header + total, Min(pos, have) - (header + total - page)))
			return wa_read_fail(r, WA_READ_INVALID, lsn + total, lsn,
								"padding behind a record is not zero");
		status = show_record(r, header, header, total, lsn, tli, page_lsn + pos);
		if (unlikely(status != WA_READ_MORE))
			return status;
		if (unlikely(r->after_switch))
			return begin_switch(r, page_lsn + pos, page + pos, page + have);
	}
	r->state = NEXT_RECORD;
	return WA_READ_MORE;
}

/* Go on with the record that crosses pages; '*pos' is set behind it. */
static WaReadStatus
continue_record(WaWalReader *r, const uint8 *page, uint32 have, uint32 *pos)
{
	uint16 info = wa_get16(page + PAGE_INFO);
	uint32 rem_len = wa_get32(page + PAGE_REM_LEN);
	uint32 rest = r->total - r->got;
	uint32 len = Min(rest, r->options.block_size - *pos);
	uint32 behind = *pos + ALIGN_RECORD(len);
	WaReadStatus status;

	if ((info & INFO_FIRST_IS_OVERWRITE_CONTRECORD) != 0)
	{
		/* what was written of the record before a crash was given up */
		r->state = NEXT_RECORD;
		r->next_lsn = r->feed_lsn;
		if (r->options.aborted != NULL)
			r->options.aborted(r->options.arg, r->record_lsn, r->feed_lsn);
		return WA_READ_MORE;
	}
	if ((info & INFO_FIRST_IS_CONTRECORD) == 0)
		return wa_read_fail(r, WA_READ_INVALID, r->feed_lsn + PAGE_INFO, r->record_lsn,
							"page does not continue the record");
	if (rem_len != rest)
		return wa_read_fail(r, WA_READ_INVALID, r->feed_lsn + PAGE_REM_LEN, r->record_lsn,
							"page has a remaining length of %u instead of %u", rem_len, rest);
	if (have < *pos + len)
	{
		*pos = r->options.block_size;
		return WA_READ_MORE;
	}
	status = take(r, page + *pos, len);
	if (status != WA_READ_MORE)
		return status;
	if (len < rest)
	{
		*pos = r->options.block_size;
		return WA_READ_MORE;
	}

	if (!checksum_matches(r->crc, r->header))
		return wa_read_fail(r, WA_READ_INVALID, r->record_lsn, r->record_lsn,
							"record has a wrong checksum");
	if (r->options.strict &&
		!wa_all_zero(page + *pos + len, Min(behind, have) - (*pos + len)))
		return wa_read_fail(r, WA_READ_INVALID, r->feed_lsn + *pos + len, r->record_lsn,
							"padding behind a record is not zero");
	*pos = behind;
	r->state = NEXT_RECORD;
	return show_record(r, r->header, r->buffer, r->wanted, r->record_lsn,
					   r->record_tli, r->feed_lsn + behind);
}

/* Go on behind the rest of a record that started before; '*pos' is set behind it. */
static WaReadStatus
skip_record(WaWalReader *r, const uint8 *page, uint32 have, uint32 *pos)
{
	uint16 info = wa_get16(page + PAGE_INFO);
	uint32 rem_len = wa_get32(page + PAGE_REM_LEN);
	uint32 room = r->options.block_size - *pos;

	if (r->state == SKIP_RECORD &&
		(info & INFO_FIRST_IS_OVERWRITE_CONTRECORD) != 0)
		r->skip = 0;
	else if (r->state == SKIP_RECORD)
	{
		if ((info & INFO_FIRST_IS_CONTRECORD) == 0)
			return wa_read_fail(r, WA_READ_INVALID, r->feed_lsn + PAGE_INFO, 0,
								"page does not continue the record before");
		if (rem_len != r->skip)
			return wa_read_fail(r, WA_READ_INVALID, r->feed_lsn + PAGE_REM_LEN, 0,
								"page has a remaining length of %u instead of %u", rem_len, r->skip);
	}
	else
		r->skip = (info & INFO_FIRST_IS_CONTRECORD) != 0 ? rem_len : 0;

	if (r->skip > room)
	{
		r->need_lsn = wa_record_end(r, r->feed_lsn, (uint64) ALIGN_RECORD(r->skip) + WA_RECORD_HEADER);
		r->skip -= room;
		*pos = r->options.block_size;
		r->state = SKIP_RECORD;
		return WA_READ_MORE;
	}
	if (r->options.strict && *pos + r->skip < have)
	{
		uint32 behind = *pos + ALIGN_RECORD(r->skip);

		if (!wa_all_zero(page + *pos + r->skip, Min(behind, have) - (*pos + r->skip)))
			return wa_read_fail(r, WA_READ_INVALID, r->feed_lsn + *pos + r->skip, 0,
								"padding behind a record is not zero");
	}
	*pos += ALIGN_RECORD(r->skip);
	r->skip = 0;
	r->next_lsn = r->feed_lsn + *pos;
	r->state = NEXT_RECORD;
	return WA_READ_MORE;
}

/* Read the page at feed_lsn, of which 'have' bytes were fed. */
static WaReadStatus
read_page(WaWalReader *r, const uint8 *page, uint32 have, const uint8 *end)
{
	uint32 block = r->options.block_size;
	uint32 pos = wa_page_header_size(r, r->feed_lsn);
	WaReadStatus status;

	if (have < pos)
		return WA_READ_MORE;
	status = wa_check_page(r, page, end);
	if (unlikely(status != WA_READ_MORE))
		return status;

	switch (r->state)
	{
		case IN_RECORD:
			status = continue_record(r, page, have, &pos);
			if (status == WA_READ_MORE && r->after_switch)
				return begin_switch(r, r->feed_lsn + pos, page + pos, page + have);
			break;
		case FIND_RECORD:
		case SKIP_RECORD:
			status = skip_record(r, page, have, &pos);
			break;
		case START_EXACTLY:
		{
			uint32 start = (uint32) (r->start_lsn % block);

			if ((wa_get16(page + PAGE_INFO) & INFO_FIRST_IS_CONTRECORD) != 0)
				pos += ALIGN_RECORD(Min(wa_get32(page + PAGE_REM_LEN), block));
			if (start < pos)
				return wa_read_fail(r, WA_READ_INVALID, r->start_lsn, r->start_lsn,
									"no record can start here");
			pos = start;
			r->state = NEXT_RECORD;
			break;
		}
		default:
			if ((wa_get16(page + PAGE_INFO) & INFO_FIRST_IS_CONTRECORD) != 0)
				return wa_read_fail(r, WA_READ_INVALID, r->feed_lsn + PAGE_INFO, 0,
									"page continues a record, but a new one is to start here");
			break;
	}
	if (status != WA_READ_MORE)
		return status;
	if (pos >= block)
	{
		if (r->state == NEXT_RECORD)
			need_next_header(r);
		return WA_READ_MORE;
	}
	return read_records(r, page, pos, have, end);
}

/* ---- the public functions ---- */

void
wa_reader_begin(WaWalReader *r, const WaReaderOptions *options, XLogRecPtr lsn)
{
	uint32 offset;

	memset(r, 0, sizeof(*r));
	r->options = *options;
	if (!wa_segment_size_is_valid(options->segment_size) ||
		!wa_block_size_is_valid(options->block_size))
	{
		wa_read_fail(r, WA_READ_INVALID, lsn, 0, "invalid segment size %u or block size %u",
					 options->segment_size, options->block_size);
		return;
	}
	offset = (uint32) (lsn % options->block_size);
	r->feed_lsn = lsn - offset;
	if (offset == 0)
	{
		r->state = FIND_RECORD;
		r->need_lsn = wa_record_end(r, lsn, WA_RECORD_HEADER);
		return;
	}
	r->state = START_EXACTLY;
	r->start_lsn = lsn;
	r->next_lsn = lsn;
	if (offset % 8 != 0 || offset < wa_page_header_size(r, r->feed_lsn))
		wa_read_fail(r, WA_READ_INVALID, lsn, lsn, "no record can start here");
	else
		r->need_lsn = wa_record_end(r, lsn, WA_RECORD_HEADER);
}

/* Pass over what follows a switch in its segment; the number of bytes. */
static size_t
pass_switched(WaWalReader *r, const uint8 *p, size_t len)
{
	XLogRecPtr segment_end = r->next_lsn;
	size_t n = (size_t) Min((uint64) len, segment_end - r->feed_lsn);

	if (r->options.strict && !wa_all_zero(p, n))
	{
		size_t at = 0;

		while (p[at] == 0)
			at++;
		wa_read_fail(r, WA_READ_INVALID, r->feed_lsn + at, 0,
					 "rest of a segment behind a switch to the next one is not zero");
		return 0;
	}
	return n;
}

WaReadStatus
wa_reader_feed(WaWalReader *r, const void *bytes, size_t len)
{
	const uint8 *p = bytes;
	const uint8 *end = p + len;
	uint32 block = r->options.block_size;
	WaReadStatus status;

	while (p < end && r->state < ENDED)
	{
		uint32 have = (uint32) Min((size_t) (end - p), block);

		if (r->after_switch)
		{
			size_t n;

			if (r->feed_lsn < r->next_lsn)
			{
				n = pass_switched(r, p, end - p);
				if (r->state == FAILED_INVALID)
					return WA_READ_INVALID;
				p += n;
				r->feed_lsn += n;
				if (r->feed_lsn % block != 0)
					r->state = ENDED;
				continue;
			}
			r->after_switch = false;
			r->state = NEXT_RECORD;
		}
		if (have < block && r->state == NEXT_RECORD)
			need_next_header(r);
		status = read_page(r, p, have, end);
		if (status != WA_READ_MORE)
			return status;
		p += have;
		r->feed_lsn += have;
		if (have < block)
			r->state = ENDED;
	}

	if (r->state == FAILED_END)
		return WA_READ_END;
	if (r->state == FAILED_INVALID)
		return WA_READ_INVALID;
	if (r->state == FAILED_MEMORY)
		return WA_READ_NO_MEMORY;
	if (p < end)
		return wa_read_fail(r, WA_READ_INVALID, r->feed_lsn, 0, "more WAL was fed behind the end");
	if (r->state == NEXT_RECORD)
		need_next_header(r);
	return WA_READ_MORE;
}

void
wa_reader_resync(WaWalReader *r, XLogRecPtr page_lsn)
{
	if (!wa_block_size_is_valid(r->options.block_size))
		return;
	r->feed_lsn = page_lsn - page_lsn % r->options.block_size;
	r->state = FIND_RECORD;
	r->next_lsn = 0;
	r->need_lsn = wa_record_end(r, r->feed_lsn, WA_RECORD_HEADER);
	r->last_record_lsn = 0;
	r->check_prev = false;
	r->after_switch = false;
	r->skip = 0;

	/* what they were may have come from a damaged page */
	r->major = 0;
	r->page_tli = 0;
	memset(&r->error, 0, sizeof(r->error));
}

void
wa_reader_end(WaWalReader *r)
{
	if (r->buffer != NULL)
		r->options.resize(r->buffer, 0);
	r->buffer = NULL;
	r->buffer_size = 0;
}
