/*-------------------------------------------------------------------------
 *
 * segment_writer.h
 *	  Segment files of one archive: the only place that opens, writes, syncs
 *	  and renames WAL.
 *
 * Bytes are handed over in LSN order.  Where the archive already holds bytes
 * they are compared, never overwritten by different ones.  What is durable is
 * known only through 'durable', which grows as flushes return.
 *
 * A crash leaves: finished segments under their final names, one ".partial",
 * files whose name starts with "walarchive.prepared" (removed at the next
 * start; no byte in one was ever confirmed), and ".unsynced" files whose sync
 * failed (kept until the segment was received again and is durable, or until
 * its timeline has ended and the ".partial" file holds all that is in it).
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_SEGMENT_WRITER_H
#define WA_SEGMENT_WRITER_H

#include "postgres.h"

#include "../state/cause.h"
#include "flusher.h"

/* Segments that can be open at once: the current, and some being finished. */
#define WA_OPEN_SEGMENTS 4

typedef struct WaOpenSegment
{
	bool in_use;
	TimeLineID tli;
	uint64 segno;
	char path[MAXPGPATH]; /* its present name */
	bool prepared_name;   /* not yet renamed to ".partial" */
	bool final_name;      /* it was a finished segment when opened */
	uint32 known_end;     /* bytes below were there when it was opened */
	time_t opened;        /* when we opened it */
	int fd;
	int lane_fd[WA_MAX_LANES]; /* -1: not opened yet */
} WaOpenSegment;

/*
 * Called when a segment is whole, durable, and under its final name.  'again':
 * it had that name already when it was opened, which somebody may have been
 * told of or not.
 */
typedef void (*WaSegmentFinished)(void *arg, TimeLineID tli, uint64 segno,
								  bool again);

typedef struct WaSegmentWriter
{
	WaCause *cause; /* set before an error is raised */
	WaSegmentFinished finished;
	void *arg;

	char dir[MAXPGPATH];
	int dirfd;
	uint32 segment_size;
	WaFlusher *flusher;
	int wakeup_fd; /* readable when a flush is done */

	TimeLineID tli;
	XLogRecPtr written;    /* end of what was handed over */
	XLogRecPtr durable;    /* end of the durable prefix */
	XLogRecPtr dispatched; /* end of what the flushes under way cover */
	bool finishing;        /* a finish job is under way */

	WaOpenSegment segment[WA_OPEN_SEGMENTS];
	int current;           /* index, -1: none */
	int parent_fd;         /* of the timeline's first segment, or -1 */
	XLogRecPtr parent_end; /* bytes below must equal the parent's */

	bool first;     /* no segment of this stream was opened yet */
	bool preparing; /* a next file was asked for and not taken */
	uint32 prepare_number;
	uint32 prepared_number;
	XLogRecPtr kicked; /* write-back was asked for up to here */
	bool has_unsynced; /* there are ".unsynced" files */
	char *buffer;      /* for comparing */

	uint64 flushes;
	uint64 flush_usec;
	uint32 average_usec; /* moving average of a flush */

	/* what this process has written and synced itself; kept from one opening to the next, as the following */
	TimeLineID synced_tli;
	XLogRecPtr synced_from;
	XLogRecPtr synced_to;

	/* files that could not be set aside */
	int suspects;
	char suspect[WA_OPEN_SEGMENTS][MAXPGPATH];
} WaSegmentWriter;

/*
 * Open the archive in 'dir' for writing, with the segment size in bytes.
 * Removes prepared files left by a crash and syncs the directory.  '*cause' is
 * set whenever a function of this file raises an error; one of this function
 * leaves nothing open.  '*w' is zeroes at first, and afterwards what
 * wa_writer_close left.
 */
extern void wa_writer_open(WaSegmentWriter *w, const char *dir,
						   uint32 segment_size, WaCause *cause,
						   WaSegmentFinished finished, void *arg);

/*
 * Begin to receive timeline 'tli' at 'start', the first byte of a segment.
 * 'parent' and 'fork' name the timeline that it left and where (0: none):
 * below the fork the new file must equal the parent's.  Removes files that were
 * set aside and are replaced.
 */
extern void wa_writer_begin(WaSegmentWriter *w, TimeLineID tli,
							XLogRecPtr start, TimeLineID parent,
							XLogRecPtr fork);

/*
 * Take the next 'len' bytes.  'lag' is how many bytes the server has beyond
 * them: while it is large, room is reserved instead of zeroed.
 */
extern void wa_writer_write(WaSegmentWriter *w, const char *data, size_t len,
							uint64 lag);

/* True if something was written that no flush under way covers. */
extern bool wa_writer_needs_flush(const WaSegmentWriter *w);

/* How many flushes at once pay on this disk. */
extern int wa_writer_lanes(const WaSegmentWriter *w);

/*
 * Flush what was written: here and now if 'inline_ok' and nothing is under
 * way, else in a thread, if a lane is free.  Returns true if 'durable' moved.
 */
extern bool wa_writer_flush(WaSegmentWriter *w, bool inline_ok);

/* Take the results of flushes that are done.  True if 'durable' moved. */
extern bool wa_writer_poll(WaSegmentWriter *w);

/* Wait for all flushes, and flush the rest: then durable = written. */
extern void wa_writer_finish(WaSegmentWriter *w);

/*
 * Forget the files without syncing; waits for the threads.  For the error
 * path: raises nothing.  If 'sync_failed', or if one of the flushes under way
 * has failed, the open files are set aside under names with ".unsynced"; those
 * that can't be now are when the archive is opened again.  Returns true if so.
 */
extern bool wa_writer_abandon(WaSegmentWriter *w, bool sync_failed);

/* Close all and free; after wa_writer_finish or wa_writer_abandon. */
extern void wa_writer_close(WaSegmentWriter *w);

#endif /* WA_SEGMENT_WRITER_H */
