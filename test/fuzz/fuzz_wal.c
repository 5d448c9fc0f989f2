/*-------------------------------------------------------------------------
 *
 * fuzz_wal.c
 *	  Pages of WAL that somebody else may have written: what the reader shows
 *	  lies within what was fed, it shows the same however the bytes come in and
 *	  wherever it is started anew, and nothing in a record leads out of it.
 *
 * The first four bytes are options, the rest are pages.  Built so that
 * checksums are not looked at (FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION), else
 * no changed record would be looked into.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "../../src/base/wal_event.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)   \
	do                    \
	{                     \
		if (!(condition)) \
			abort();      \
	} while (0)

#define MAX_RECORDS 4096

typedef struct Seen
{
	uint32 records;
	XLogRecPtr lsn[MAX_RECORDS];
	uint32 sum[MAX_RECORDS];
	uint32 stop_after; /* 0: never */
	size_t fed;
	size_t limit; /* of memory, 0: none */
} Seen;

static uint32
sum_of(const uint8 *p, size_t len)
{
	uint32 sum = 0;

	for (size_t i = 0; i < len; i++)
		sum = sum * 31 + p[i];
	return sum;
}

static size_t memory_limit;
static size_t memory_fed;

static void *
resize(void *memory, size_t size)
{
	if (size == 0)
	{
		free(memory);
		return NULL;
	}
	MUST(size <= 16 * 1024 || size <= 2 * memory_fed);
	if (memory_limit != 0 && size > memory_limit)
		return NULL;
	return realloc(memory, size);
}

/* Everything that an event points to can be read. */
static uint32
read_event(const WaWalRecord *record, const WaWalEvent *event)
{
	uint32 sum = 0;
	TransactionId xid;
	Oid database;
	Oid relation;

	switch (event->kind)
	{
		case WA_EVENT_COMMIT:
		case WA_EVENT_ABORT:
		case WA_EVENT_PREPARE:
		case WA_EVENT_COMMIT_PREPARED:
		case WA_EVENT_ABORT_PREPARED:
			for (uint32 i = 0; i < event->u.xact.subxacts; i++)
				sum += wa_array_xid(event->u.xact.subxact_array, i);
			for (uint32 i = 0; i < event->u.xact.dropped_files; i++)
				sum += wa_array_file(event->u.xact.dropped_file_array, i).number;
			for (uint32 i = 0; i < event->u.xact.dropped_stats; i++)
				sum += (uint32) wa_array_stats(record->major, event->u.xact.dropped_stats_array, i).object;
			MUST(strlen(event->u.xact.gid) < WA_GID_LEN);
			MUST(event->u.xact.incomplete == (record->data_len < record->total_len));
			break;
		case WA_EVENT_RESTORE_POINT:
			MUST(strlen(event->u.restore_point.name) < WA_RESTORE_POINT_LEN);
			break;
		case WA_EVENT_HEAP_TRUNCATE:
		case WA_EVENT_DATABASE_DROP:
			for (uint32 i = 0; i < event->u.oids.count; i++)
				sum += wa_array_oid(event->u.oids.array, i);
			break;
		case WA_EVENT_LOCK:
			for (uint32 i = 0; i < event->u.locks.count; i++)
			{
				wa_array_lock(event->u.locks.array, i, &xid, &database, &relation);
				sum += relation;
			}
			break;
		default:
			break;
	}
	return sum;
}

static bool
see(void *arg, const WaWalRecord *record)
{
	Seen *seen = arg;
	WaRecordParts parts;
	WaWalEvent event;
	char rmgr[64];
	char type[64];
	uint32 images = 0;

	MUST(record->data_len >= WA_RECORD_HEADER && record->data_len <= record->total_len);
	MUST(record->start_lsn < record->end_lsn && record->prev_lsn < record->start_lsn);
	MUST(record->end_lsn % 8 == 0 && record->major >= 15 && record->major <= 18);
	if (seen->records < MAX_RECORDS)
	{
		seen->lsn[seen->records] = record->start_lsn;
		seen->sum[seen->records] = sum_of(record->data, WA_RECORD_HEADER) + (uint32) record->end_lsn;
	}
	seen->records++;
	(void) sum_of(record->data, record->data_len);

	if (wa_record_parts(record, &parts))
	{
		MUST(parts.blocks >= 0 && parts.blocks <= WA_MAX_BLOCKS);
		for (int i = 0; i < parts.blocks; i++)
			images += parts.block[i].image_len;
		MUST(images == parts.image_bytes && (uint64) images + parts.main_len <= record->total_len);
		MUST((parts.main_data != NULL) == (record->data_len == record->total_len));
		if (parts.main_data != NULL)
			MUST(parts.main_data + parts.main_len == record->data + record->data_len);
	}
	if (wa_decode_event(record, &event) != WA_EVENT_NONE)
	{
		MUST(wa_event_record(record->rmid, record->info));
		(void) read_event(record, &event);
	}
	MUST(event.kind != WA_EVENT_INVALID || wa_event_record(record->rmid, record->info));
	wa_rmgr_name(record->major, record->rmid, rmgr, sizeof(rmgr));
	wa_record_type(record->major, record->rmid, record->info, type, sizeof(type));
	MUST(rmgr[0] != '\0' && type[0] != '\0');
	return seen->stop_after == 0 || seen->records < seen->stop_after;
}

static void
aborted(void *arg, XLogRecPtr record_lsn, XLogRecPtr page_lsn)
{
	MUST(record_lsn < page_lsn);
}

/* Feed the pages at 'lsn' in pieces, each in memory of its own. */
static WaReadStatus
run(WaWalReader *reader, const WaReaderOptions *options, XLogRecPtr start,
	XLogRecPtr lsn, const uint8 *pages, size_t len, size_t piece)
{
	WaReadStatus status = WA_READ_MORE;
	size_t done;

	wa_reader_begin(reader, options, start);
	MUST(reader->feed_lsn >= lsn && reader->feed_lsn - lsn <= len);
	done = (size_t) (reader->feed_lsn - lsn);
	memory_fed = 0;
	while (done < len && status == WA_READ_MORE)
	{
		size_t n = Min(piece, len - done);
		uint8 *copy = malloc(n);

		memcpy(copy, pages + done, n);
		memory_fed += n;
		status = wa_reader_feed(reader, copy, n);
		free(copy);
		done += n;
		if (status == WA_READ_MORE)
		{
			MUST(reader->feed_lsn == lsn + done);
			MUST(reader->need_lsn > reader->feed_lsn);
		}
		if (reader->next_lsn != 0 && status != WA_READ_NO_MEMORY)
			MUST(reader->need_lsn > reader->next_lsn || options->block_size == 0);
	}
	if (status == WA_READ_END || status == WA_READ_INVALID)
	{
		MUST(reader->error.message[0] != '\0');
		MUST(reader->error.lsn >= lsn && reader->error.lsn <= lsn + len);
		MUST(wa_reader_feed(reader, pages, 1) == status);
	}
	wa_reader_end(reader);
	return status;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static Seen whole;
	static Seen again;
	WaReaderOptions options;
	WaWalReader reader;
	WaReadStatus status;
	WaReadStatus status2;
	WaLongHeader header;
	XLogRecPtr lsn;
	XLogRecPtr next;
	XLogRecPtr error;
	const uint8 *pages;
	size_t piece;

	if (size < 4 + WA_SHORT_PAGE_HEADER)
		return 0;
	pages = data + 4;
	size -= 4;
	memset(&options, 0, sizeof(options));
	options.segment_size = 1024 * 1024;
	options.block_size = 1024U << (data[0] & 3);
	options.strict = (data[0] & 4) != 0;
	options.keep = (data[0] & 8) != 0 ? wa_event_record : NULL;
	options.prefix_len = (data[0] & 16) != 0 ? 1024 : data[2];
	options.resize = resize;
	options.record = see;
	options.aborted = (data[0] & 32) != 0 ? aborted : NULL;
	memory_limit = (data[0] & 64) != 0 ? 32 * 1024 : 0;
	piece = options.block_size * (size_t) (1 + data[1] % 8);

	memcpy(&lsn, pages + 8, sizeof(lsn));
	if (wa_read_long_header(pages, size, &header) == NULL)
	{
		options.segment_size = header.segment_size;
		options.system_identifier = header.system_identifier;
	}
	lsn -= lsn % options.block_size;
	if (lsn > PG_UINT64_MAX - PG_UINT32_MAX)
		return 0;

	memset(&whole, 0, sizeof(whole));
	options.arg = &whole;
	status = run(&reader, &options, lsn, lsn, pages, size, (size + options.block_size) / options.block_size * options.block_size);
	next = reader.next_lsn;
	error = reader.error.lsn;
	MUST(reader.records == whole.records);

	/* in pieces: what is behind the end of one can't be seen, so a hole may look like the end */
	memset(&again, 0, sizeof(again));
	options.arg = &again;
	status2 = run(&reader, &options, lsn, lsn, pages, size, piece);
	MUST(again.records == whole.records && reader.next_lsn == next);
	MUST(status2 == status || (status == WA_READ_INVALID && status2 == WA_READ_END));
	MUST(memcmp(again.sum, whole.sum, sizeof(whole.sum)) == 0);
	if (status2 == status && (status == WA_READ_INVALID || status == WA_READ_END))
		MUST(reader.error.lsn == error || piece < size);

	/* from one of its records: less is known of what was before, so at least as much is shown */
	if (whole.records > 0)
	{
		uint32 first = data[3] % Min(whole.records, MAX_RECORDS);
		uint32 n = Min(whole.records, MAX_RECORDS) - first;

		memset(&again, 0, sizeof(again));
		run(&reader, &options, whole.lsn[first], lsn, pages, size, piece);
		MUST(again.records >= whole.records - first);
		MUST(memcmp(again.sum, whole.sum + first, n * sizeof(whole.sum[0])) == 0);

		/* and stopped in the middle, it says where to go on */
		memset(&again, 0, sizeof(again));
		again.stop_after = first + 1;
		status2 = run(&reader, &options, lsn, lsn, pages, size, piece);
		MUST(status2 == WA_READ_STOPPED && again.records == first + 1);
		if (first + 1 < Min(whole.records, MAX_RECORDS))
			MUST(reader.next_lsn <= whole.lsn[first + 1]);
	}

	/* every byte of a damaged stream may be the start of a good one */
	if (status == WA_READ_INVALID)
	{
		memset(&again, 0, sizeof(again));
		wa_reader_begin(&reader, &options, lsn);
		memory_fed = size;
		(void) wa_reader_feed(&reader, pages, size);
		for (size_t page = options.block_size; page < size; page += options.block_size)
		{
			wa_reader_resync(&reader, lsn + page);
			MUST(reader.feed_lsn == lsn + page);
			(void) wa_reader_feed(&reader, pages + page, size - page);
		}
		wa_reader_end(&reader);
	}
	return 0;
}
