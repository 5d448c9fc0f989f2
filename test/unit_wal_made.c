/*-------------------------------------------------------------------------
 *
 * unit_wal_made.c
 *	  The WAL reader on WAL that is made here: what servers write seldom, what
 *	  they never write, and other page sizes.
 *
 * Prints TAP and exits non-zero if a test failed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "../src/base/crc32c.h"
#include "../src/base/wal_event.h"

#include "unit.h"
#include "wal_writer.h"

/* A record with so much main data. */
static XLogRecPtr
put(Wal *w, uint8 rmid, uint8 info, const void *data, uint32 len)
{
	uint8 *body = malloc(len + 5);
	XLogRecPtr lsn;

	body[0] = 254;
	memcpy(body + 1, &len, 4);
	memcpy(body + 5, data, len);
	lsn = put_raw(w, rmid, info, body, len + 5, 0);
	free(body);
	return lsn;
}

/* Some record that ends so many bytes before the end of the page. */
static void
fill_page(Wal *w, uint32 left)
{
	static uint8 data[65536];
	uint32 used;

	if (w->len % w->block == 0)
		put_page_header(w, 0, 0);
	used = w->len % w->block;
	put_raw(w, 20, 0, data, w->block - left - used - 24, 0);
}

static void
put_switch(Wal *w)
{
	put_raw(w, WA_RM_XLOG, 0x40, "", 0, 0);
	room(w, (w->segment - w->len % w->segment) % w->segment);
}

/* ---- reading it ---- */

#define MAX_SEEN 20000

typedef struct Seen
{
	int records;
	WaWalRecord record[MAX_SEEN];
	WaWalEvent event; /* of the last */
	int data_wrong;
	int aborted;
	XLogRecPtr aborted_lsn;
	XLogRecPtr aborted_page;
} Seen;

static Seen seen;
static WaWalReader reader;

static bool
see(void *arg, const WaWalRecord *record)
{
	if (seen.records < MAX_SEEN)
		seen.record[seen.records] = *record;
	seen.records++;
	wa_decode_event(record, &seen.event);
	if (record->data_len == record->total_len)
	{
		uint32 crc;

		memcpy(&crc, record->data + 20, 4);
		if (checksum(record->data, record->total_len) != crc)
			seen.data_wrong++;
	}
	return true;
}

static void
see_aborted(void *arg, XLogRecPtr record_lsn, XLogRecPtr page_lsn)
{
	seen.aborted++;
	seen.aborted_lsn = record_lsn;
	seen.aborted_page = page_lsn;
}

static WaReaderOptions
reader_options(const Wal *w)
{
	WaReaderOptions options;

	memset(&options, 0, sizeof(options));
	options.segment_size = w->segment;
	options.block_size = w->block;
	options.system_identifier = SYSTEM_ID;
	options.prefix_len = WA_RECORD_HEADER;
	options.keep = wa_event_record;
	options.resize = resize_memory;
	options.record = see;
	options.aborted = see_aborted;
	return options;
}

static WaReadStatus
read_from(const Wal *w, const WaReaderOptions *options, size_t from, size_t len)
{
	WaReadStatus status;

	memset(&seen, 0, sizeof(seen));
	largest_memory = 0;
	wa_reader_begin(&reader, options, LSN0 + from);
	status = wa_reader_feed(&reader, w->bytes + (reader.feed_lsn - LSN0), len - (reader.feed_lsn - LSN0));
	wa_reader_end(&reader);
	return status;
}

static WaReadStatus
read_wal(const Wal *w, bool strict)
{
	WaReaderOptions options = reader_options(w);

	options.strict = strict;
	return read_from(w, &options, 0, w->len);
}

/* As read_wal, with other bytes at 'at' for this time. */
static WaReadStatus
read_changed(Wal *w, size_t at, const void *bytes, size_t len, bool strict)
{
	uint8 saved[64];
	WaReadStatus status;

	memcpy(saved, w->bytes + at, len);
	memcpy(w->bytes + at, bytes, len);
	status = read_wal(w, strict);
	memcpy(w->bytes + at, saved, len);
	return status;
}

static bool
says(const char *part)
{
	bool ok = strstr(reader.error.message, part) != NULL;

	if (!ok)
		printf("# it says: %s\n", reader.error.message);
	return ok;
}

/* ---- tests ---- */

static void
test_checksum(void)
{
	uint8 *data = malloc(40000);
	uint32 seed = 1;
	int wrong = 0;

	for (int i = 0; i < 40000; i++)
	{
		seed = seed * 1103515245 + 12345;
		data[i] = seed >> 16;
	}
	for (uint32 len = 0; len < 12000; len += len < 800 ? 1 : 61)
	{
		pg_crc32c a = len * 2654435761u;
		pg_crc32c b = a;

		COMP_CRC32C(a, data + len % 13, len);
		if (wa_crc32c(b, data + len % 13, len) != a)
			wrong++;
	}
	CHECK(wrong == 0, "checksums are PostgreSQL's");
	free(data);
}

/* Random records on pages of every size, over segments. */
static void
test_block_sizes(void)
{
	static uint8 data[300000];

	for (uint32 block = 1024; block <= 65536; block *= 2)
	{
		Wal w;
		WaReaderOptions options;
		uint32 seed = block;
		int made = 0;
		int wrong = 0;
		char what[64];
		static XLogRecPtr lsn[4000];

		begin_wal(&w, block, MB);
		while (w.len < 3 * MB + 5000)
		{
			uint32 len;

			seed = seed * 1103515245 + 12345;
			len = (seed >> 8) % 16 == 0 ? (seed >> 12) % sizeof(data) : (seed >> 12) % 3000;
			data[0] = seed >> 24;
			/* every other kept as a whole: tablespaces */
			lsn[made] = put(&w, made % 2 == 0 ? WA_RM_TBLSPC : 20, 0, data, len);
			made++;
		}
		options = reader_options(&w);
		options.strict = true;
		if (read_from(&w, &options, 0, w.len) != WA_READ_MORE || seen.records != made || seen.data_wrong > 0 ||
			reader.next_lsn != LSN0 + w.len || reader.need_lsn < LSN0 + w.len + 24)
			wrong++;
		for (int i = 0; i < Min(made, seen.records); i++)
		{
			WaWalRecord *r = &seen.record[i];

			if (r->start_lsn != lsn[i] || (i > 0 && r->prev_lsn != lsn[i - 1]) || r->major != 17 ||
				(r->rmid == WA_RM_TBLSPC && r->data_len != r->total_len) ||
				(i + 1 < made && r->end_lsn > lsn[i + 1]))
				wrong++;
		}
		/* what it says that it needs is exactly enough */
		for (int i = 0; i < made - 1; i += 7)
		{
			XLogRecPtr need;
			size_t from = (size_t) (lsn[i] - LSN0);
			uint32 total = 24;

			memcpy(&total, w.bytes + from, 4);
			if (from % block + 8 > block || total < 8)
				continue;
			read_from(&w, &options, from, from + 8);
			need = reader.need_lsn;
			if (seen.records != 0 || reader.next_lsn != lsn[i])
				wrong++;
			read_from(&w, &options, from, (size_t) (need - LSN0) - 1);
			if (seen.records != 0)
				wrong++;
			read_from(&w, &options, from, (size_t) (need - LSN0));
			if (seen.records != 1)
				wrong++;
		}
		snprintf(what, sizeof(what), "pages of %u bytes: %d records", block, made);
		CHECK(wrong == 0, what);
		free(w.bytes);
	}
}

static void
test_split_headers(void)
{
	int wrong = 0;

	for (uint32 left = 8; left <= 48; left += 8)
	{
		for (uint32 len = 0; len < 40; len++)
		{
			Wal w;
			XLogRecPtr lsn;
			uint8 data[64] = {0};

			begin_wal(&w, 1024, MB);
			fill_page(&w, left);
			lsn = put_raw(&w, 20, 0, data, len, 0);
			put_raw(&w, 20, 0, data, 5, 0);
			if (read_wal(&w, true) != WA_READ_MORE || seen.records != 3 || seen.record[1].start_lsn != lsn ||
				seen.record[1].total_len != 24 + len || seen.record[1].xid != 1000 + len ||
				lsn % 1024 != 1024 - left)
				wrong++;
			free(w.bytes);
		}
	}
	CHECK(wrong == 0, "record headers may be split over pages");
}

/* A crash in the middle of a record, that is never finished. */
static void
test_aborted(void)
{
	static uint8 data[20000];
	uint8 overwrite[16 + 2] = {255, 16};
	WaReaderOptions options;
	Wal w;
	XLogRecPtr good;
	XLogRecPtr lost;
	XLogRecPtr page;
	WaReadStatus status;

	begin_wal(&w, 8192, MB);
	put_raw(&w, 20, 0, data, 100, 0);
	good = w.prev;
	lost = put_raw(&w, 20, 0, data, 20000, 10000);
	CHECK(w.len % 8192 == 0 && w.prev == good, "a record is given up");
	page = LSN0 + w.len;
	status = read_wal(&w, true);
	CHECK(status == WA_READ_MORE && seen.records == 1 && reader.next_lsn == lost && reader.need_lsn > LSN0 + w.len,
		  "... first it is only not complete");

	put_page_header(&w, 8, 0);
	status = read_wal(&w, true);
	CHECK(status == WA_READ_MORE && reader.next_lsn == page && reader.need_lsn == page + 24 + 24,
		  "... until a page says that it never will be");
	memcpy(overwrite + 2, &lost, 8);
	put_raw(&w, WA_RM_XLOG, 0xD0, overwrite, sizeof(overwrite), 0);
	put_raw(&w, 20, 0, data, 50, 0);
	status = read_wal(&w, true);
	CHECK(status == WA_READ_MORE && seen.records == 3 && seen.record[1].prev_lsn == good,
		  "... the records behind it are shown");
	CHECK(seen.aborted == 1 && seen.aborted_lsn == lost && seen.aborted_page == page, "... and it is announced");

	/* begun in the middle of what was given up, or there */
	options = reader_options(&w);
	options.strict = true;
	status = read_from(&w, &options, 8192, w.len);
	CHECK(status == WA_READ_MORE && seen.records == 2 && seen.aborted == 0, "... also if begun within it");
	status = read_from(&w, &options, (size_t) (page - LSN0), w.len);
	CHECK(status == WA_READ_MORE && seen.records == 2, "... or right behind it");
	status = read_from(&w, &options, (size_t) (lost - LSN0), w.len);
	CHECK(status == WA_READ_MORE && seen.records == 2 && seen.aborted == 1, "... or with it");
	options.aborted = NULL;
	status = read_from(&w, &options, 0, (size_t) (page - LSN0) + 24 + 24 + 18);
	CHECK(status == WA_READ_MORE && seen.records == 2 && seen.event.kind == WA_EVENT_OVERWRITE_CONTRECORD &&
			  seen.event.u.overwritten_lsn == lost,
		  "... and the record that says so is understood");
	free(w.bytes);
}

static void
test_switch(void)
{
	uint8 byte = 1;
	Wal w;
	size_t at;

	begin_wal(&w, 8192, MB);
	put_raw(&w, 20, 0, "abc", 3, 0);
	put_switch(&w);
	put_raw(&w, 20, 0, "abc", 3, 0);
	CHECK(read_wal(&w, true) == WA_READ_MORE && seen.records == 3 &&
			  seen.record[1].end_lsn == LSN0 + MB && seen.record[2].start_lsn == LSN0 + MB + 40,
		  "a switch takes the rest of the segment");

	CHECK(read_changed(&w, 5000, &byte, 1, true) == WA_READ_INVALID && seen.records == 2 &&
			  says("rest of a page") && reader.next_lsn == LSN0 + MB,
		  "the rest of its page is zero");
	CHECK(read_changed(&w, 5000, &byte, 1, false) == WA_READ_MORE && seen.records == 3, "... or not looked at");
	CHECK(read_changed(&w, 500000, &byte, 1, true) == WA_READ_INVALID && says("rest of a segment") &&
			  reader.error.lsn == LSN0 + 500000,
		  "the rest of its segment is zero");
	CHECK(read_changed(&w, 16 * 8192, w.bytes, 24, false) == WA_READ_MORE && seen.records == 3,
		  "... or not looked at, page headers included");

	/* fed in the middle of the emptiness */
	{
		WaReaderOptions options = reader_options(&w);
		int wrong = 0;

		for (size_t len = 8192; len < MB; len += 8192)
		{
			memset(&seen, 0, sizeof(seen));
			wa_reader_begin(&reader, &options, LSN0);
			if (wa_reader_feed(&reader, w.bytes, len) != WA_READ_MORE || reader.next_lsn != LSN0 + MB ||
				reader.need_lsn != LSN0 + MB + 64 ||
				wa_reader_feed(&reader, w.bytes + len, w.len - len) != WA_READ_MORE || seen.records != 3)
				wrong++;
			wa_reader_end(&reader);
		}
		CHECK(wrong == 0, "... in pieces too");
	}
	free(w.bytes);

	/* the switch record itself crosses pages, and one that crosses segments takes the next */
	begin_wal(&w, 8192, MB);
	fill_page(&w, 8);
	put_switch(&w);
	put_raw(&w, 20, 0, "abc", 3, 0);
	CHECK(read_wal(&w, true) == WA_READ_MORE && seen.records == 3 && seen.record[2].start_lsn == LSN0 + MB + 40,
		  "a switch whose header is split");
	at = 8192 + 24 + 24;
	CHECK(read_changed(&w, at, &byte, 1, true) == WA_READ_INVALID && says("rest of a page"), "... and the rest of its page");
	free(w.bytes);

	begin_wal(&w, 8192, MB);
	while (w.len < MB - 8192)
		fill_page(&w, 0);
	fill_page(&w, 16);
	put_switch(&w);
	put_raw(&w, 20, 0, "abc", 3, 0);
	CHECK(read_wal(&w, true) == WA_READ_MORE && seen.record[seen.records - 1].start_lsn == LSN0 + 2 * MB + 40 &&
			  seen.record[seen.records - 2].end_lsn == LSN0 + 2 * MB,
		  "a switch that crosses segments takes all of the second");
	free(w.bytes);
}

static void
test_ends(void)
{
	uint8 byte = 1;
	Wal w;
	size_t end;
	uint64 addr;

	begin_wal(&w, 8192, MB);
	for (int i = 0; i < 5; i++)
		fill_page(&w, 0);
	put_raw(&w, 20, 0, "abc", 3, 0);
	end = w.len;
	room(&w, MB - w.len);

	CHECK(read_wal(&w, true) == WA_READ_END && reader.error.lsn == LSN0 + end && reader.error.record_lsn == 0 &&
			  reader.next_lsn == LSN0 + end && says("ends here"),
		  "zeroes in a page are the end");
	CHECK(read_changed(&w, end + 100, &byte, 1, false) == WA_READ_INVALID && says("record length is zero"),
		  "... but not if something follows in the page");
	CHECK(read_changed(&w, 7 * 8192 + 100, &byte, 1, false) == WA_READ_INVALID && says("WAL again"),
		  "... or in a later one");
	addr = LSN0 + 8 * 8192;
	memcpy(w.bytes + 8 * 8192, w.bytes + 8192, 24);
	memcpy(w.bytes + 8 * 8192 + 8, &addr, 8);
	CHECK(read_wal(&w, false) == WA_READ_INVALID && says("WAL again"), "... nor if the WAL goes on later");
	addr -= 16 * (uint64) MB;
	memcpy(w.bytes + 8 * 8192 + 8, &addr, 8);
	CHECK(read_wal(&w, false) == WA_READ_END, "pages of a segment file that was used before are no such WAL");
	free(w.bytes);

	/* at the start of a page */
	begin_wal(&w, 8192, MB);
	for (int i = 0; i < 5; i++)
		fill_page(&w, 0);
	end = w.len;
	room(&w, 8192 * 3);
	CHECK(read_wal(&w, true) == WA_READ_END && reader.error.lsn == LSN0 + end && reader.next_lsn == LSN0 + end,
		  "empty pages are the end");
	CHECK(read_changed(&w, end + 100, &byte, 1, false) == WA_READ_INVALID && says("page header is zero"),
		  "... if they are empty");
	memcpy(w.bytes + end, w.bytes + 8192, 8192);
	addr = LSN0 + end - 5 * (uint64) MB;
	memcpy(w.bytes + end + 8, &addr, 8);
	CHECK(read_wal(&w, true) == WA_READ_END && reader.error.lsn == LSN0 + end && says("older WAL"), "an older page is the end");
	memcpy(w.bytes + end + 8192, w.bytes + 8192, 8192);
	addr = LSN0 + end + 8192;
	memcpy(w.bytes + end + 8192 + 8, &addr, 8);
	CHECK(read_wal(&w, true) == WA_READ_INVALID && says("WAL again"), "... but not if newer ones follow");
	addr = LSN0 + end + 5 * (uint64) MB;
	memcpy(w.bytes + end + 8, &addr, 8);
	CHECK(read_wal(&w, true) == WA_READ_INVALID && says("has the address"), "a page from the future is none");
	addr = LSN0 + end - 8192;
	memcpy(w.bytes + end + 8, &addr, 8);
	memset(w.bytes + end + 8192, 0, 8192);
	CHECK(read_wal(&w, true) == WA_READ_INVALID && says("has the address"), "... nor one from elsewhere in a segment");
	free(w.bytes);

	/* within a record */
	begin_wal(&w, 8192, MB);
	{
		static uint8 data[20000];
		XLogRecPtr lsn = put_raw(&w, 20, 0, data, sizeof(data), 10000);

		room(&w, 8192 * 2);
		CHECK(read_wal(&w, true) == WA_READ_END && reader.next_lsn == lsn && reader.error.record_lsn == lsn,
			  "a record that ends with the WAL");
	}
	free(w.bytes);
}

static void
test_hostile(void)
{
	static const uint32 lengths[] = {1, 8, 23, 1020 * MB + 1, 0x3fffffff, 0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff};
	static uint8 data[70000];
	int wrong = 0;
	Wal w;
	XLogRecPtr lsn;
	size_t at;
	uint32 v32;
	uint64 v64;
	uint16 v16;
	uint32 saved_len;
	WaReaderOptions options;

	begin_wal(&w, 8192, MB);
	put_raw(&w, 20, 0, data, 100, 0);
	lsn = put_raw(&w, WA_RM_TBLSPC, 0, data, 70000, 0);
	put_raw(&w, 20, 0, data, 100, 0);
	at = (size_t) (lsn - LSN0);
	CHECK(read_wal(&w, true) == WA_READ_MORE && seen.records == 3 && largest_memory <= 140048, "WAL to be damaged");

	for (size_t i = 0; i < lengthof(lengths); i++)
	{
		if (read_changed(&w, at, &lengths[i], 4, false) != WA_READ_INVALID || seen.records != 1 ||
			reader.error.record_lsn != lsn || reader.next_lsn != lsn || !says("invalid length"))
			wrong++;
	}
	CHECK(wrong == 0, "lengths that no record has");
	v32 = 1020 * MB;
	CHECK(read_changed(&w, at, &v32, 4, false) == WA_READ_INVALID && says("remaining length") && largest_memory <= 16384,
		  "a length that it does not have costs no memory");
	w.bytes[at + 17] = 22;
	CHECK(read_wal(&w, false) == WA_READ_INVALID && says("resource manager"), "no such resource manager");
	w.bytes[at + 17] = 127;
	CHECK(read_wal(&w, false) == WA_READ_INVALID && says("resource manager"), "... nor this one");
	w.bytes[at + 17] = 128;
	CHECK(read_wal(&w, false) == WA_READ_INVALID && says("checksum"), "... but one of an extension");
	w.bytes[at + 17] = WA_RM_TBLSPC;
	v64 = LSN0;
	CHECK(read_changed(&w, at + 8, &v64, 8, false) == WA_READ_INVALID && says("previous record") && reader.error.lsn == lsn,
		  "a record before that is not there");
	{
		Wal future;

		begin_wal(&future, 8192, MB);
		future.prev = LSN0 + 40;
		put_raw(&future, 20, 0, data, 100, 0);
		CHECK(read_wal(&future, false) == WA_READ_INVALID && says("previous record"), "... or that is not before");
		free(future.bytes);
	}
	v32 = 99;
	CHECK(read_changed(&w, 40 + 4, &v32, 4, false) == WA_READ_INVALID && says("checksum") && seen.records == 0 &&
			  reader.error.lsn == LSN0 + 40 && reader.error.record_lsn == LSN0 + 40,
		  "a changed record");
	CHECK(read_changed(&w, 3 * 8192 + 500, "x", 1, false) == WA_READ_INVALID && says("checksum") && seen.records == 1 &&
			  reader.error.lsn == lsn,
		  "a changed record over pages");

	/* page headers; first of a record that began before */
	at = 3 * 8192;
	v32 = 5;
	memcpy(&saved_len, w.bytes + at + 16, 4);
	memcpy(w.bytes + at + 16, &v32, 4);
	options = reader_options(&w);
	CHECK(read_from(&w, &options, 2 * 8192, w.len) == WA_READ_INVALID && says("remaining length of 5"),
		  "the rest of a record that began before has its length too");
	memcpy(w.bytes + at + 16, &saved_len, 4);
	CHECK(read_from(&w, &options, 2 * 8192, w.len) == WA_READ_MORE && seen.records == 1, "... as it should");
	at = 2 * 8192;
	CHECK(read_changed(&w, at + 2, "\0", 1, false) == WA_READ_INVALID && says("does not continue"), "a page that does not continue");
	v32 = 5;
	CHECK(read_changed(&w, at + 16, &v32, 4, false) == WA_READ_INVALID && says("remaining length") && reader.error.record_lsn == lsn,
		  "... or with another record");
	CHECK(read_changed(&w, at + 2, "\x09", 1, false) == WA_READ_INVALID && says("gives it up"), "... or that is of two minds");
	CHECK(read_changed(&w, at + 2, "\x03", 1, false) == WA_READ_INVALID && says("long header"), "a long header in the middle");
	CHECK(read_changed(&w, at + 2, "\x11", 1, false) == WA_READ_INVALID && says("info bits"), "unknown info bits");
	v16 = 0xD118;
	CHECK(read_changed(&w, at, &v16, 2, false) == WA_READ_INVALID && says("PostgreSQL 17") && says("PostgreSQL 18"), "another version in between");
	v16 = 0xD999;
	CHECK(read_changed(&w, at, &v16, 2, false) == WA_READ_INVALID && says("D999"), "an unknown version");
	CHECK(read_changed(&w, 20, "x", 1, true) == WA_READ_INVALID && says("padding of a page"), "padding of a page header");
	CHECK(read_changed(&w, 20, "x", 1, false) == WA_READ_MORE && seen.records == 3, "... which recovery does not look at");
	CHECK(read_changed(&w, 40 + 124, "x", 1, true) == WA_READ_INVALID && says("padding behind"), "padding of a record");
	CHECK(read_changed(&w, 40 + 124, "x", 1, false) == WA_READ_MORE && seen.records == 3, "... which recovery does not look at");
	CHECK(read_changed(&w, 16, "x", 1, true) == WA_READ_INVALID && says("continues no record"), "a remaining length of nothing");
	v64 = SYSTEM_ID + 1;
	CHECK(read_changed(&w, 24, &v64, 8, false) == WA_READ_INVALID && says("another cluster"), "another cluster");
	v32 = 16 * MB;
	CHECK(read_changed(&w, 32, &v32, 4, false) == WA_READ_INVALID && says("segment size"), "another segment size");
	v32 = 4096;
	CHECK(read_changed(&w, 36, &v32, 4, false) == WA_READ_INVALID && says("block size"), "another block size");
	CHECK(read_changed(&w, 2, "\0", 1, false) == WA_READ_INVALID && says("no long header"), "a short header at the start");
	v32 = 0;
	CHECK(read_changed(&w, at + 4, &v32, 4, false) == WA_READ_INVALID && says("timeline 0 after timeline 1"), "a timeline that goes back");

	/* and on after the damage */
	{
		uint8 saved = w.bytes[at + 500];
		WaReadStatus status;

		memset(&seen, 0, sizeof(seen));
		w.bytes[at + 500] ^= 1;
		wa_reader_begin(&reader, &options, LSN0);
		status = wa_reader_feed(&reader, w.bytes, w.len);
		CHECK(status == WA_READ_INVALID && wa_reader_feed(&reader, w.bytes, w.len) == WA_READ_INVALID, "damage ends the reading");
		wa_reader_resync(&reader, LSN0 + at + 8192);
		CHECK(reader.feed_lsn == LSN0 + at + 8192 && reader.next_lsn == 0, "... until told to go on");
		status = wa_reader_feed(&reader, w.bytes + at + 8192, w.len - at - 8192);
		CHECK(status == WA_READ_MORE && seen.records == 2 && seen.record[1].total_len == 124, "... with the next record");
		wa_reader_end(&reader);
		w.bytes[at + 500] = saved;
	}
	free(w.bytes);
}

/* Records that are longer than what is kept. */
static void
test_long(void)
{
	uint32 subxacts = 9 * MB; /* 36 MB */
	uint32 len = 8 + 4 + 8 + 4 + subxacts * 4;
	uint8 *data = calloc(1, len);
	int64 time = INT64CONST(812345678901234);
	uint32 xinfo = 1 | 2;
	Oid database = 5;
	Wal w;

	memcpy(data, &time, 8);
	memcpy(data + 8, &xinfo, 4);
	memcpy(data + 12, &database, 4);
	memcpy(data + 20, &subxacts, 4);
	for (uint32 i = 0; i < subxacts; i++)
		memcpy(data + 24 + (size_t) i * 4, &i, 4);
	begin_wal(&w, 8192, 16 * MB);
	put(&w, WA_RM_XACT, 0x80, data, len);
	CHECK(read_wal(&w, true) == WA_READ_MORE && seen.records == 1 && largest_memory <= 16384 &&
			  seen.record[0].data_len == 1024 && seen.event.kind == WA_EVENT_COMMIT &&
			  seen.event.u.xact.time == time && seen.event.u.xact.database == 5 &&
			  seen.event.u.xact.incomplete && seen.event.u.xact.subxacts == 0,
		  "of a commit that is too long, what comes first");
	free(w.bytes);

	/* just short enough */
	subxacts = (WA_RECORD_KEEP - 24 - 5 - 24) / 4;
	memcpy(data + 20, &subxacts, 4);
	begin_wal(&w, 8192, 16 * MB);
	put(&w, WA_RM_XACT, 0x80, data, 24 + subxacts * 4);
	CHECK(read_wal(&w, true) == WA_READ_MORE && seen.records == 1 && seen.event.kind == WA_EVENT_COMMIT &&
			  !seen.event.u.xact.incomplete && seen.event.u.xact.subxacts == subxacts && seen.data_wrong == 0 &&
			  largest_memory <= 2 * WA_RECORD_KEEP,
		  "the longest that is kept");
	free(w.bytes);
	free(data);
}

int
main(void)
{
	test_checksum();
	test_block_sizes();
	test_split_headers();
	test_aborted();
	test_switch();
	test_ends();
	test_hostile();
	test_long();
	printf("1..%d\n", tests);
	return failures == 0 ? 0 : 1;
}
