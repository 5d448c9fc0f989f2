/*-------------------------------------------------------------------------
 *
 * wal_reader.h
 *	  WAL records out of a stream of pages.
 *
 * The caller feeds the bytes of consecutive pages in LSN order; the reader
 * checks every page header, puts together records that cross pages and
 * segments, checks their checksums and hands each to a callback.  It does no
 * I/O.  The page layout is the same in PostgreSQL 15 to 18 (xlog_internal.h,
 * xlogrecord.h), the major is told by the page magic.
 *
 * Everything fed is hostile until checked: no byte outside the buffer is read,
 * memory is bounded by WA_RECORD_KEEP, and each fed byte is looked at a bounded
 * number of times.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_WAL_READER_H
#define WA_WAL_READER_H

#include "base.h"

#include "wal_name.h"

/* The largest record of which everything is kept for the callback, in bytes. */
#define WA_RECORD_KEEP (32 * 1024 * 1024)

/* Record and page headers: SizeOfXLogRecord, SizeOfXLog(Short|Long)PHD. */
#define WA_RECORD_HEADER 24
#define WA_SHORT_PAGE_HEADER 24
#define WA_LONG_PAGE_HEADER 40

#define WA_READ_MESSAGE_LEN 256

/* The long header of a segment's first page. */
typedef struct WaLongHeader
{
	uint16 magic;
	uint16 info;
	TimeLineID tli;
	XLogRecPtr page_lsn;
	uint64 system_identifier;
	uint32 segment_size; /* bytes */
	uint32 block_size;   /* bytes */
} WaLongHeader;

/*
 * The major version (15, 16, ...) whose pages have this magic, 0 if it is not
 * one that we know.
 */
extern int wa_wal_major(uint16 magic);

/*
 * Read a segment's first WA_LONG_PAGE_HEADER bytes.  Returns NULL, or a
 * constant untranslated message that says why they are not a long header:
 * sizes that PostgreSQL does not allow are refused, an unknown magic is not
 * (see wa_wal_major).
 */
extern const char *wa_read_long_header(const void *page, size_t len,
									   WaLongHeader *header);

/* A record whose checksum is right. */
typedef struct WaWalRecord
{
	XLogRecPtr start_lsn;
	XLogRecPtr end_lsn; /* as pg_waldump and pg_walinspect: aligned; of a switch the segment's end */
	XLogRecPtr prev_lsn;
	TimeLineID tli; /* of the page on which it starts */
	int major;      /* 15 to 18 */
	TransactionId xid;
	uint32 total_len; /* bytes, header included */
	uint8 info;
	uint8 rmid;
	const uint8 *data; /* its first 'data_len' bytes, header included; not aligned */
	uint32 data_len;   /* total_len, if it is kept as a whole */
} WaWalRecord;

/*
 * WA_READ_END is said if nothing behind it, as far as it was fed with the same
 * call, is WAL of here: the remainder of a file that is still being written
 * looks like that.  In a finished segment it is damage.
 */
typedef enum WaReadStatus
{
	WA_READ_MORE,    /* all that was fed is used up: feed what follows */
	WA_READ_STOPPED, /* a callback returned false; next_lsn says where to go on */
	WA_READ_END,     /* zeroes, or the remains of older WAL, where a record or a page may start: see error */
	WA_READ_INVALID, /* what was fed is not valid WAL: see error */
	WA_READ_NO_MEMORY
} WaReadStatus;

/* What is wrong, and where. */
typedef struct WaReadError
{
	XLogRecPtr lsn;        /* first byte that is known to be wrong */
	XLogRecPtr record_lsn; /* of the record that is not valid, 0: no record */
	char message[WA_READ_MESSAGE_LEN];
} WaReadError;

typedef struct WaReaderOptions
{
	uint32 segment_size;      /* bytes */
	uint32 block_size;        /* bytes */
	uint64 system_identifier; /* 0: any */

	/*
	 * Padding, the rest of a page or of a segment after a switch must be zero,
	 * as PostgreSQL leaves it.  Recovery does not look at it.
	 */
	bool strict;

	/*
	 * Bytes at the start of each record that the callback wants to see, at
	 * least WA_RECORD_HEADER.  Records for which 'keep' is true are shown as a
	 * whole if they are not longer than WA_RECORD_KEEP, else at least their
	 * first 1024 bytes.  'keep' may be NULL.
	 */
	uint32 prefix_len;
	bool (*keep)(uint8 rmid, uint8 info);

	/* As realloc; 'size' 0 frees. */
	void *(*resize)(void *memory, size_t size);

	/* Called for each record; false stops. */
	bool (*record)(void *arg, const WaWalRecord *record);

	/*
	 * Called where a page says that the record which was being read, at
	 * 'record_lsn', was never finished (XLP_FIRST_IS_OVERWRITE_CONTRECORD); its
	 * remains end at 'page_lsn'.  May be NULL.
	 */
	void (*aborted)(void *arg, XLogRecPtr record_lsn, XLogRecPtr page_lsn);
	void *arg;
} WaReaderOptions;

/* Fields below the line are the reader's own. */
typedef struct WaWalReader
{
	WaReaderOptions options;
	XLogRecPtr feed_lsn;        /* the next byte to be fed */
	XLogRecPtr next_lsn;        /* start of the first record not yet shown: where to restart; 0: not found yet */
	XLogRecPtr need_lsn;        /* the record at next_lsn can't be complete before this byte (and never is, if it was aborted) */
	XLogRecPtr last_record_lsn; /* of the last record shown, 0: none yet */
	uint64 records;             /* shown so far */
	WaReadError error;          /* set with WA_READ_INVALID and WA_READ_END */
	/* ---- */
	int major;
	TimeLineID page_tli;
	XLogRecPtr start_lsn; /* exact start, 0: the first record found */
	int state;
	uint32 skip;   /* bytes of a record that started before, still to be skipped */
	uint32 total;  /* length of the record that is being put together */
	uint32 got;    /* bytes of it so far */
	uint32 wanted; /* bytes of it to keep */
	uint32 crc;
	XLogRecPtr record_lsn;
	TimeLineID record_tli;
	uint8 *buffer;
	size_t buffer_size;
	uint8 header[WA_RECORD_HEADER];
	bool check_prev;
	bool after_switch;
} WaWalReader;

/*
 * Begin at 'lsn'.  If it is the start of a page, the first record that starts
 * on that page or later is the first one shown; else a record starts exactly
 * there, and feeding begins at the start of its page.  'feed_lsn' says where to
 * feed from.  Allocates nothing yet.
 */
extern void wa_reader_begin(WaWalReader *reader, const WaReaderOptions *options,
							XLogRecPtr lsn);

/*
 * Feed 'len' bytes that stand at reader->feed_lsn, which is the start of a
 * page.  A length that is not a multiple of the block size ends the feeding:
 * the WAL that is there ends within that page; records that are complete
 * below that end are shown.  To go on later, begin again at next_lsn (if that
 * is 0, where this reader began).
 */
extern WaReadStatus wa_reader_feed(WaWalReader *reader, const void *bytes,
								   size_t len);

/*
 * After WA_READ_INVALID or WA_READ_END: forget the record and go on at the page
 * 'page_lsn', with the first record that starts there or later.
 */
extern void wa_reader_resync(WaWalReader *reader, XLogRecPtr page_lsn);

/* Free what the reader has allocated. */
extern void wa_reader_end(WaWalReader *reader);

#endif /* WA_WAL_READER_H */
