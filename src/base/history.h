/*-------------------------------------------------------------------------
 *
 * history.h
 *	  Timeline history: which timelines a timeline descends from, and where
 *	  it left each.
 *
 * The file format is the one of PostgreSQL's timeline.c: a line per ancestor,
 * oldest first, "<timeline> <tab> <switch LSN> <tab> <reason>"; empty lines
 * and lines that start with '#' are skipped.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_HISTORY_H
#define WA_HISTORY_H

#include "base.h"

/* A history with more ancestors than this is refused as damaged. */
#define WA_MAX_TIMELINES 1024

typedef struct WaTimelineEntry
{
	TimeLineID tli;
	XLogRecPtr begin; /* where it was entered, 0 for the first */
	XLogRecPtr end;   /* where it was left, 0 for the newest */
} WaTimelineEntry;

/* The path of timelines that leads to the last entry, oldest first. */
typedef struct WaHistory
{
	int count;
	WaTimelineEntry entry[WA_MAX_TIMELINES];
} WaHistory;

/*
 * Parse the content of timeline 'tli''s history file, 'len' bytes, not
 * necessarily NUL-terminated.  'history' gets the ancestors and, last, 'tli'
 * itself.  Timeline 1 has no file: pass len 0.  Returns NULL, or a constant
 * untranslated message that says what is wrong with the content.
 */
extern const char *wa_history_parse(const char *content, size_t len,
									TimeLineID tli, WaHistory *history);

/* The entry of 'tli', or NULL if the path does not pass through it. */
extern const WaTimelineEntry *wa_history_find(const WaHistory *history,
											  TimeLineID tli);

/*
 * The timeline that owns the WAL at 'lsn' on this path: at a switch point the
 * child.
 */
extern TimeLineID wa_history_timeline_at(const WaHistory *history,
										 XLogRecPtr lsn);

#endif /* WA_HISTORY_H */
