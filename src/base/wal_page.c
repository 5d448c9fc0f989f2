/*-------------------------------------------------------------------------
 *
 * wal_page.c
 *	  Headers of WAL pages, positions in the WAL, and where it ends.
 *
 * The half of the WAL reader that does not look into records: see
 * wal_reader.h, and wal_reader.c for the other half.
 *
 *-------------------------------------------------------------------------
 */
#include "wal_reader_internal.h"

#define MIN_BLOCK_SIZE 1024
#define MAX_BLOCK_SIZE (64 * 1024)

int
wa_wal_major(uint16 magic)
{
	switch (magic)
	{
		case 0xD110:
			return 15;
		case 0xD113:
			return 16;
		case 0xD116:
			return 17;
		case 0xD118:
			return 18;
	}
	return 0;
}

bool
wa_block_size_is_valid(uint32 size)
{
	return size >= MIN_BLOCK_SIZE && size <= MAX_BLOCK_SIZE &&
		   (size & (size - 1)) == 0;
}

const char *
wa_read_long_header(const void *page, size_t len, WaLongHeader *header)
{
	const uint8 *p = page;

	if (len < WA_LONG_PAGE_HEADER)
		return "the file is shorter than a WAL page header";
	header->magic = wa_get16(p + PAGE_MAGIC);
	header->info = wa_get16(p + PAGE_INFO);
	header->tli = wa_get32(p + PAGE_TLI);
	header->page_lsn = wa_get64(p + PAGE_ADDR);
	header->system_identifier = wa_get64(p + PAGE_SYSTEM_IDENTIFIER);
	header->segment_size = wa_get32(p + PAGE_SEGMENT_SIZE);
	header->block_size = wa_get32(p + PAGE_BLOCK_SIZE);
	if (wa_all_zero(p, WA_LONG_PAGE_HEADER))
		return "the page header is zero";
	if ((header->info & INFO_LONG_HEADER) == 0 || (header->info & ~INFO_ALL) != 0)
		return "the page has no long header";
	if (!wa_segment_size_is_valid(header->segment_size))
		return "the page header has an invalid segment size";
	if (!wa_block_size_is_valid(header->block_size))
		return "the page header has an invalid block size";
	if (header->tli == 0)
		return "the page header has no timeline";
	if (header->page_lsn % header->segment_size != 0)
		return "the page header has an address that is not the start of a segment";
	return NULL;
}

/* ---- positions ---- */

uint32
wa_page_header_size(const WaWalReader *r, XLogRecPtr page_lsn)
{
	return page_lsn % r->options.segment_size == 0 ? WA_LONG_PAGE_HEADER : WA_SHORT_PAGE_HEADER;
}

XLogRecPtr
wa_record_end(const WaWalReader *r, XLogRecPtr lsn, uint64 len)
{
	uint64 block = r->options.block_size;
	uint64 in_page = block - WA_SHORT_PAGE_HEADER;
	uint64 in_first = block - WA_LONG_PAGE_HEADER;
	uint64 in_segment = (r->options.segment_size / block - 1) * in_page + in_first;
	uint64 offset = lsn % block;
	uint64 pages;

	/* from here on, 'lsn' is where a page begins and 'len' counts from there */
	lsn -= offset;
	if (offset > 0)
		len += offset - wa_page_header_size(r, lsn);
	if (lsn % r->options.segment_size != 0)
	{
		pages = lsn % r->options.segment_size / block;
		len += in_first + (pages - 1) * in_page;
		lsn -= pages * block;
	}

	lsn += (len - 1) / in_segment * r->options.segment_size;
	len = (len - 1) % in_segment + 1;
	if (len <= in_first)
		return lsn + WA_LONG_PAGE_HEADER + len;
	len -= in_first;
	lsn += block * (1 + (len - 1) / in_page);
	return lsn + WA_SHORT_PAGE_HEADER + (len - 1) % in_page + 1;
}

/* ---- results ---- */

WaReadStatus
wa_read_fail(WaWalReader *r, WaReadStatus status, XLogRecPtr lsn,
			 XLogRecPtr record_lsn, const char *fmt, ...)
{
	va_list args;

	if (r->state != IN_RECORD && r->next_lsn != 0)
		r->need_lsn = wa_record_end(r, r->next_lsn, WA_RECORD_HEADER);
	r->error.lsn = lsn;
	r->error.record_lsn = record_lsn;
	va_start(args, fmt);
	vsnprintf(r->error.message, sizeof(r->error.message), fmt, args);
	va_end(args);
	r->state = status == WA_READ_END ? FAILED_END : FAILED_INVALID;
	return status;
}

/* The record that an error at the start of a page belongs to. */
static XLogRecPtr
open_record(const WaWalReader *r)
{
	return r->state == IN_RECORD ? r->record_lsn : 0;
}

/*
 * Is there WAL after 'lsn', where it seems to end?  'p' to 'end' are the bytes
 * fed from there on.  The pages behind must be empty or remains of an older
 * segment: if not, something in the middle was lost.
 */
static bool
wal_goes_on(const WaWalReader *r, XLogRecPtr lsn, const uint8 *p,
			const uint8 *end, XLogRecPtr *where)
{
	uint32 block = r->options.block_size;
	uint32 segment_size = r->options.segment_size;
	uint32 left = block - (uint32) (lsn % block);

	for (;;)
	{
		uint8 header[WA_SHORT_PAGE_HEADER];

		if (end - p <= left)
			return false;
		p += left;
		lsn += left;
		left = block;
		if (lsn % segment_size == 0 || end - p < WA_SHORT_PAGE_HEADER)
			return false;
		memcpy(header, p, sizeof(header));
		if (wa_all_zero(header, sizeof(header)))
		{
			if (!wa_all_zero(p, Min(end - p, block)))
				break;
		}
		else if (wa_wal_major(wa_get16(header + PAGE_MAGIC)) == 0 ||
				 wa_get64(header + PAGE_ADDR) >= lsn ||
				 wa_get64(header + PAGE_ADDR) % segment_size != lsn % segment_size)
			break;
	}
	*where = lsn;
	return true;
}

WaReadStatus
wa_end_at_zeroes(WaWalReader *r, XLogRecPtr lsn, XLogRecPtr record_lsn,
				 const uint8 *p, const uint8 *end)
{
	uint32 block = r->options.block_size;
	uint32 left = block - (uint32) (lsn % block);
	XLogRecPtr where;

	if (!wa_all_zero(p, Min(end - p, left)))
		return wa_read_fail(r, WA_READ_INVALID, lsn, record_lsn,
							lsn % block == 0 ? "page header is zero, but not the page" : "record length is zero, but not what follows");
	if (wal_goes_on(r, lsn, p, end, &where))
		return wa_read_fail(r, WA_READ_INVALID, lsn, record_lsn,
							"zeroes, but there is WAL again at %X/%X", LSN_FORMAT_ARGS(where));
	return wa_read_fail(r, WA_READ_END, lsn, record_lsn, "zeroes: the WAL ends here");
}

/* ---- pages ---- */

WaReadStatus
wa_check_page(WaWalReader *r, const uint8 *p, const uint8 *end)
{
	XLogRecPtr lsn = r->feed_lsn;
	const WaReaderOptions *o = &r->options;
	uint16 magic = wa_get16(p + PAGE_MAGIC);
	uint16 info = wa_get16(p + PAGE_INFO);
	TimeLineID tli = wa_get32(p + PAGE_TLI);
	XLogRecPtr addr = wa_get64(p + PAGE_ADDR);
	uint32 rem_len = wa_get32(p + PAGE_REM_LEN);
	bool first = lsn % o->segment_size == 0;
	XLogRecPtr record = open_record(r);
	int major = wa_wal_major(magic);

	if (magic == 0 && wa_all_zero(p, first ? WA_LONG_PAGE_HEADER : WA_SHORT_PAGE_HEADER))
		return wa_end_at_zeroes(r, lsn, record, p, end);
	if (major == 0)
		return wa_read_fail(r, WA_READ_INVALID, lsn, record,
							"page magic %04X is not that of a known PostgreSQL version", magic);
	if (r->major != 0 && major != r->major)
		return wa_read_fail(r, WA_READ_INVALID, lsn, record,
							"page magic %04X is that of PostgreSQL %d, but the WAL before is of PostgreSQL %d",
							magic, major, r->major);
	if ((info & ~INFO_ALL) != 0)
		return wa_read_fail(r, WA_READ_INVALID, lsn + PAGE_INFO, record,
							"page has unknown info bits %04X", info);

	/* a segment file that is used again still has its old pages */
	if (addr < lsn && addr % o->segment_size == lsn % o->segment_size)
	{
		XLogRecPtr where;

		if (wal_goes_on(r, lsn, p, end, &where))
			return wa_read_fail(r, WA_READ_INVALID, lsn + PAGE_ADDR, record,
								"page has the address %X/%X, but there is WAL again at %X/%X",
								LSN_FORMAT_ARGS(addr), LSN_FORMAT_ARGS(where));
		return wa_read_fail(r, WA_READ_END, lsn, record,
							"page of older WAL, with the address %X/%X: the WAL ends here",
							LSN_FORMAT_ARGS(addr));
	}
	if (addr != lsn)
		return wa_read_fail(r, WA_READ_INVALID, lsn + PAGE_ADDR, record,
							"page has the address %X/%X", LSN_FORMAT_ARGS(addr));
	if (((info & INFO_LONG_HEADER) != 0) != first)
		return wa_read_fail(r, WA_READ_INVALID, lsn + PAGE_INFO, record,
							first ? "first page of a segment has no long header" : "page in the middle of a segment has a long header");
	if (first)
	{
		if (o->system_identifier != 0 &&
			wa_get64(p + PAGE_SYSTEM_IDENTIFIER) != o->system_identifier)
			return wa_read_fail(r, WA_READ_INVALID, lsn + PAGE_SYSTEM_IDENTIFIER, record,
								"WAL of another cluster: its system identifier is " UINT64_FORMAT " instead of " UINT64_FORMAT,
								wa_get64(p + PAGE_SYSTEM_IDENTIFIER), o->system_identifier);
		if (wa_get32(p + PAGE_SEGMENT_SIZE) != o->segment_size)
			return wa_read_fail(r, WA_READ_INVALID, lsn + PAGE_SEGMENT_SIZE, record,
								"page header has segment size %u instead of %u",
								wa_get32(p + PAGE_SEGMENT_SIZE), o->segment_size);
		if (wa_get32(p + PAGE_BLOCK_SIZE) != o->block_size)
			return wa_read_fail(r, WA_READ_INVALID, lsn + PAGE_BLOCK_SIZE, record,
								"page header has block size %u instead of %u",
								wa_get32(p + PAGE_BLOCK_SIZE), o->block_size);
	}
	if (tli == 0 || tli < r->page_tli)
		return wa_read_fail(r, WA_READ_INVALID, lsn + PAGE_TLI, record,
							"page has timeline %u after timeline %u", tli, r->page_tli);
	if ((info & INFO_FIRST_IS_CONTRECORD) != 0 && (info & INFO_FIRST_IS_OVERWRITE_CONTRECORD) != 0)
		return wa_read_fail(r, WA_READ_INVALID, lsn + PAGE_INFO, record,
							"page both continues a record and gives it up");
	if (rem_len > MAX_RECORD_LEN_15)
		return wa_read_fail(r, WA_READ_INVALID, lsn + PAGE_REM_LEN, record,
							"page has an invalid remaining length %u", rem_len);
	if ((info & INFO_FIRST_IS_CONTRECORD) != 0 && rem_len == 0)
		return wa_read_fail(r, WA_READ_INVALID, lsn + PAGE_REM_LEN, record,
							"page continues a record, but has no remaining length");
	if (o->strict)
	{
		if ((info & INFO_FIRST_IS_CONTRECORD) == 0 && rem_len != 0)
			return wa_read_fail(r, WA_READ_INVALID, lsn + PAGE_REM_LEN, record,
								"page continues no record, but has a remaining length of %u", rem_len);
		if (!wa_all_zero(p + PAGE_PADDING, PAGE_PADDING_LEN))
			return wa_read_fail(r, WA_READ_INVALID, lsn + PAGE_PADDING, record,
								"padding of a page header is not zero");
	}
	r->major = major;
	r->page_tli = tli;
	return WA_READ_MORE;
}
