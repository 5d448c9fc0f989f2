/*-------------------------------------------------------------------------
 *
 * wal_name.h
 *	  Names of WAL segments, partial segments and history files, and the
 *	  arithmetic between LSNs and segments.
 *
 * The rules are those of access/xlog_internal.h; they stand here again because
 * that header needs a whole server or frontend environment, and because names
 * found in a directory are input that has to be checked.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_WAL_NAME_H
#define WA_WAL_NAME_H

#include "base.h"

/* "000000010000000000000007.partial" and the terminating NUL */
#define WA_WAL_NAME_LEN 64

#define WA_MIN_SEGMENT_SIZE (1024 * 1024)
#define WA_MAX_SEGMENT_SIZE (1024 * 1024 * 1024)

typedef enum WaWalFileKind
{
	WA_FILE_OTHER,   /* not a name of ours */
	WA_FILE_SEGMENT, /* a finished segment */
	WA_FILE_PARTIAL, /* a segment that is still being received */
	WA_FILE_HISTORY  /* a timeline history file */
} WaWalFileKind;

/* True for the sizes that initdb --wal-segsize allows, in bytes. */
extern bool wa_segment_size_is_valid(uint64 segment_size);

/* The number of the segment that holds 'lsn'. */
extern uint64 wa_segment_of(XLogRecPtr lsn, uint32 segment_size);

/* The LSN of the first byte of segment number 'segno'. */
extern XLogRecPtr wa_segment_start(uint64 segno, uint32 segment_size);

/* 'lsn' rounded down to the start of its segment. */
extern XLogRecPtr wa_segment_floor(XLogRecPtr lsn, uint32 segment_size);

/* Bytes from the start of its segment to 'lsn'. */
extern uint32 wa_segment_offset(XLogRecPtr lsn, uint32 segment_size);

/*
 * Write a file name into 'name', which has room for WA_WAL_NAME_LEN bytes.
 */
extern void wa_segment_name(char *name, TimeLineID tli, uint64 segno,
							uint32 segment_size);
extern void wa_partial_name(char *name, TimeLineID tli, uint64 segno,
							uint32 segment_size);
extern void wa_history_name(char *name, TimeLineID tli);

/*
 * Say what file 'name' is.  For segments and partials '*tli' and '*segno' are
 * set, for history files '*tli'; upper-case hexadecimal digits only, a
 * timeline of zero or a segment number past the end of its 4 GB file is
 * WA_FILE_OTHER.  Nothing is written for WA_FILE_OTHER.
 */
extern WaWalFileKind wa_parse_wal_name(const char *name, uint32 segment_size,
									   TimeLineID *tli, uint64 *segno);

#endif /* WA_WAL_NAME_H */
