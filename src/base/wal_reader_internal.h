/*-------------------------------------------------------------------------
 *
 * wal_reader_internal.h
 *	  What wal_reader.c and wal_page.c share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_WAL_READER_INTERNAL_H
#define WA_WAL_READER_INTERNAL_H

#include "wal_bytes.h"
#include "wal_reader.h"

/* Page headers: XLogPageHeaderData and XLogLongPageHeaderData. */
#define PAGE_MAGIC 0
#define PAGE_INFO 2
#define PAGE_TLI 4
#define PAGE_ADDR 8
#define PAGE_REM_LEN 16
#define PAGE_PADDING 20
#define PAGE_PADDING_LEN 4
#define PAGE_SYSTEM_IDENTIFIER 24
#define PAGE_SEGMENT_SIZE 32
#define PAGE_BLOCK_SIZE 36

#define INFO_FIRST_IS_CONTRECORD 0x0001
#define INFO_LONG_HEADER 0x0002
#define INFO_FIRST_IS_OVERWRITE_CONTRECORD 0x0008
#define INFO_ALL 0x000F

/*
 * XLogRecordMaxSize came with 16; before, a record was as long as could be
 * allocated (MaxAllocSize).
 */
#define MAX_RECORD_LEN (1020 * 1024 * 1024)
#define MAX_RECORD_LEN_15 0x3fffffff

/* Reader states: what stands at the start of the next page. */
enum
{
	FIND_RECORD,   /* the first page: perhaps the rest of a record */
	START_EXACTLY, /* the first page: a record begins at start_lsn */
	NEXT_RECORD,   /* a record begins behind the page header */
	SKIP_RECORD,   /* the rest of a record of which we have not seen the start */
	IN_RECORD,     /* the rest of a record */
	AFTER_SWITCH,  /* nothing until the segment's end */
	ENDED,         /* the last page was not whole, or a callback stopped us */
	FAILED_END,    /* WA_READ_END was returned */
	FAILED_INVALID,
	FAILED_MEMORY
};

/* True for the sizes that PostgreSQL can be built with, in bytes. */
extern bool wa_block_size_is_valid(uint32 size);

/* Bytes of the header of the page at 'page_lsn'. */
extern uint32 wa_page_header_size(const WaWalReader *r, XLogRecPtr page_lsn);

/*
 * The byte behind 'len' bytes of record that begin at 'lsn', with the headers
 * of the pages between.  'len' is not 0.
 */
extern XLogRecPtr wa_record_end(const WaWalReader *r, XLogRecPtr lsn, uint64 len);

/*
 * Set the reader's error and its state; returns 'status', which is
 * WA_READ_END or WA_READ_INVALID.
 */
extern WaReadStatus wa_read_fail(WaWalReader *r, WaReadStatus status, XLogRecPtr lsn,
								 XLogRecPtr record_lsn, const char *fmt, ...) pg_attribute_printf(5, 6);

/*
 * Nothing but zeroes where a record or, at a page's start, a page may begin?
 * 'p' to 'end' is what was fed from 'lsn' on.
 */
extern WaReadStatus wa_end_at_zeroes(WaWalReader *r, XLogRecPtr lsn, XLogRecPtr record_lsn,
									 const uint8 *p, const uint8 *end);

/*
 * Check the header of the page at feed_lsn; 'p' to 'end' is what was fed from
 * there on, at least the header.  WA_READ_MORE if it is all right.
 */
extern WaReadStatus wa_check_page(WaWalReader *r, const uint8 *p, const uint8 *end);

#endif /* WA_WAL_READER_INTERNAL_H */
