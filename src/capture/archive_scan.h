/*-------------------------------------------------------------------------
 *
 * archive_scan.h
 *	  How far the archive in a WAL folder reaches, on each timeline.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_ARCHIVE_SCAN_H
#define WA_ARCHIVE_SCAN_H

#include "postgres.h"

#include "access/xlogdefs.h"

/* How a timeline's archive ends; see wa_scan_archive. */
typedef struct WaTimelineEnd
{
	TimeLineID tli;
	XLogRecPtr end; /* end of the bytes that are there */
} WaTimelineEnd;

/*
 * Scan the WAL folder 'dir': the end of each timeline's WAL goes to 'ends',
 * ascending by timeline, at most 'max'; returns how many there are.
 * Directories and names are not trusted: other files are ignored, a partial
 * longer than a segment raises an error.
 */
extern int wa_scan_archive(const char *dir, uint32 segment_size,
						   WaTimelineEnd *ends, int max);

/*
 * End of the bytes in file 'path' that are not zero, an offset; 'limit' is the
 * segment size.  A longer file, or one that cannot be read, raises an error.
 */
extern uint32 wa_nonzero_end(const char *path, uint32 limit);

#endif /* WA_ARCHIVE_SCAN_H */
