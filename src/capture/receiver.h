/*-------------------------------------------------------------------------
 *
 * receiver.h
 *	  The receiver process: what its files share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_RECEIVER_H
#define WA_RECEIVER_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "storage/latch.h"

#include "../base/history.h"
#include "../state/journal.h"
#include "../state/shmem.h"
#include "../state/source_file.h"
#include "archive_scan.h"
#include "connection.h"
#include "segment_writer.h"

/* Where a stream may begin. */
typedef struct WaStart
{
	TimeLineID tli;
	XLogRecPtr lsn; /* the first byte of a segment */
} WaStart;

#define WA_MAX_STARTS 2

/* What is known before a stream begins; made by wa_choose_start. */
typedef struct WaStartPlan
{
	int count;
	WaStart start[WA_MAX_STARTS]; /* to be tried in this order */
	XLogRecPtr archived;          /* end of the archive on the server's path */
	TimeLineID archived_tli;      /* the timeline that owns it there */
} WaStartPlan;

/* The one context of a receiver process. */
typedef struct WaReceiver
{
	int index; /* of its slot in shared memory */
	WaSourceSlot *slot;
	char name[WA_SOURCE_NAME_LEN];
	WaSourceSettings settings;
	MemoryContext context; /* of one connection */
	int lock_fd;

	WaCause cause;               /* of the error being raised */
	WaCause reported;            /* what the log and the journal know */
	int failures;                /* in a row, for the back-off */
	TimestampTz streaming_since; /* 0: this connection is not */
	TimeLineID furthest_tli;     /* what any connection has made durable */
	XLogRecPtr furthest_lsn;
	bool dropping; /* the slot is to be dropped: failures are those of that */
	bool ever_connected;
	List *unwritten; /* journal lines to be written (TopMemoryContext) */

	/* the archive */
	uint64 system_identifier; /* of the current cluster, 0: none yet */
	uint32 segment_size;      /* 0: none yet */
	char wal_dir[MAXPGPATH];
	bool ends_known; /* else the directory has to be scanned */
	int n_ends;
	WaTimelineEnd ends[WA_MAX_TIMELINES];
	TimeLineID diverged_from; /* for which divergences were recorded last */

	/* the connection */
	WaConnection *connection;
	WaHistory history; /* the server's path of timelines */
	WaSegmentWriter writer;
	bool writer_open;
	WaitEventSet *wait_set;
	pgsocket wait_socket; /* that wait_set was made for */
	int socket_position;  /* in wait_set */

	/* the stream */
	XLogRecPtr report_from; /* nothing is confirmed below: see receiver.c */
	XLogRecPtr sent_written;
	XLogRecPtr sent_flushed;
	XLogRecPtr server_end;
	TimestampTz server_time; /* by the server's clock, when it sent that */
	TimestampTz last_received;
	TimestampTz last_status;
	TimestampTz last_space_check;
	bool ping_sent;
	bool reply_wanted; /* the server asked for a status message */
	bool send_pending; /* libpq could not send all */
	char *message;     /* being taken apart, libpq's memory */
} WaReceiver;

/* Raise an error with a cause. */
#define wa_error(r, c, ...)            \
	do                                 \
	{                                  \
		(r)->cause = (c);              \
		ereport(ERROR, (__VA_ARGS__)); \
	} while (0)

/* Change the receiver's part of shared memory. */
#define WA_STAT(r, ...)                          \
	do                                           \
	{                                            \
		WaReceiverStat *stat = &(r)->slot->stat; \
		wa_begin_change(&(r)->slot->stat_count); \
		__VA_ARGS__                              \
		wa_end_change(&(r)->slot->stat_count);   \
	} while (0)

/* --- receiver.c --- */

/* The process.  'main_arg' is the slot, bgw_extra names source and generation. */
extern PGDLLEXPORT void wa_receiver_main(Datum main_arg);

/* What bgw_extra holds. */
typedef struct WaReceiverStart
{
	uint32 generation;
	char name[WA_SOURCE_NAME_LEN];
} WaReceiverStart;

extern void wa_set_state(WaReceiver *r, WaReceiverState state);

/*
 * Write an event to the journal.  'severity' is info, warning or critical; a
 * zero timeline and equal LSNs do not apply.  A line that can't be written is
 * kept and tried again.
 */
extern void wa_receiver_event(WaReceiver *r, const char *kind,
							  const char *severity, TimeLineID tli,
							  TimeLineID parent, XLogRecPtr from,
							  XLogRecPtr to, WaCause cause,
							  const char *fmt, ...) pg_attribute_printf(9, 10);

/* Raise an error of WA_CAUSE_DISK_FULL if the file system has too little room. */
extern void wa_check_space(WaReceiver *r);

/* --- start_position.c --- */

/* Learn from the disk which cluster is archived and how it ends. */
extern void wa_load_archive(WaReceiver *r);

/* WaAcceptServer: is this the archive's cluster, and in the right role? */
extern void wa_accept_server(void *arg, WaConnection *connection);

/* First contact: make the archive's folders for the connected cluster. */
extern void wa_prepare_archive(WaReceiver *r);

/* Fetch the history files that are missing, and set r->history. */
extern void wa_fetch_histories(WaReceiver *r);

/* Make sure that the slot is there and reserves WAL; its position, or 0. */
extern XLogRecPtr wa_ensure_slot(WaReceiver *r);

extern void wa_choose_start(WaReceiver *r, XLogRecPtr slot_lsn, WaStartPlan *plan);

/* The server lacks the WAL at plan->archived: record the gap, plan anew. */
extern void wa_pass_gap(WaReceiver *r, WaStartPlan *plan);

/* Remember that 'tli' is now archived up to 'end'. */
extern void wa_note_end(WaReceiver *r, TimeLineID tli, XLogRecPtr end);

/* --- stream.c --- */

typedef enum WaStreamEnd
{
	WA_END_TIMELINE, /* the server switched: see next_* */
	WA_END_STOPPED,  /* the server was shut down */
	WA_END_REMOVED   /* the server no longer has the WAL */
} WaStreamEnd;

/*
 * Receive timeline 'tli' from 'start' until it ends.  For WA_END_TIMELINE the
 * next timeline and the switch point are returned.  All else raises an error.
 */
extern WaStreamEnd wa_stream(WaReceiver *r, TimeLineID tli, XLogRecPtr start,
							 TimeLineID *next_tli, XLogRecPtr *next_lsn);

#endif /* WA_RECEIVER_H */
