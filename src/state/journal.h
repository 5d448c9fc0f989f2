/*-------------------------------------------------------------------------
 *
 * journal.h
 *	  The journal of a source: an append-only file of what WAL does not say.
 *
 * A line is a flat JSON object that ends in a newline:
 *	 {"time": "2026-01-02T03:04:05.678901Z", "kind": "gap", "severity": "critical",
 *	  "message": "…", "system_identifier": 7, "timeline": 1, "from_lsn": "0/0",
 *	  "to_lsn": "0/0", "cause": "wal_removed", "label": "…", "backup_kind": "full"}
 * Members that do not apply are absent.  A last line without newline is what a
 * crash left: readers ignore it, the next writer ends it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_JOURNAL_H
#define WA_JOURNAL_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"

#include "../base/backup_label.h"
#include "../base/source_name.h"

#define WA_JOURNAL_LINE_LEN 4096
#define WA_JOURNAL_MESSAGE_LEN 1024

/*
 * ISO 8601 in UTC with microseconds, whatever TimeZone is: into WA_UTC_LEN
 * bytes, and back; false if 'text' is anything else.
 */
#define WA_UTC_LEN 64
extern void wa_format_utc(TimestampTz t, char *buf, size_t size);
extern bool wa_parse_utc(const char *text, TimestampTz *t);

/*
 * Kinds that the receiver writes:
 *	 state (a cause came or went), slot_created, timeline (streaming went on to
 *	 'timeline' at 'from_lsn'; the one before in 'parent'), divergence (the
 *	 archive's tail on 'timeline' from 'from_lsn' to 'to_lsn' is not on the
 *	 server's path), gap, suspect_file (a sync failed), cluster (first contact
 *	 with a system identifier), dropped.
 * The indexer adds: adopted, archive_lost (the folder was missing).
 * The backup worker adds: backup_started, backup_finished, backup_failed, with
 * 'label' and 'backup_kind'; the range is that of the backup's WAL, from_lsn
 * alone known where both are equal.
 */
typedef struct WaJournalEntry
{
	TimestampTz time;
	char kind[32];
	char severity[16]; /* info, warning or critical */
	char message[WA_JOURNAL_MESSAGE_LEN];
	uint64 system_identifier; /* 0: does not apply */
	TimeLineID tli;           /* 0: does not apply */
	TimeLineID parent;        /* 0: does not apply */
	XLogRecPtr from_lsn;      /* valid if has_range */
	XLogRecPtr to_lsn;
	bool has_range;
	char cause[32];                  /* empty: does not apply */
	char label[WA_BACKUP_LABEL_LEN]; /* of a backup; empty: does not apply */
	char backup_kind[16];            /* full or incremental; empty: does not apply */
} WaJournalEntry;

/*
 * Append a line to the journal of 'source' and make it durable.  Returns the
 * journal's size after it, in bytes, or 0 where it could not be written, with
 * errno set; raises nothing.
 */
extern uint64 wa_journal_append(const char *source, const WaJournalEntry *entry);

/*
 * Read the line at byte 'offset' of the open journal.  Returns the offset of
 * the next line, or 0 at the end (or at an unfinished last line).  A line that
 * is not valid sets '*valid' to false and is to be skipped.
 */
extern uint64 wa_journal_read(FILE *file, uint64 offset,
							  WaJournalEntry *entry, bool *valid);

#endif /* WA_JOURNAL_H */
