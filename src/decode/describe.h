/*-------------------------------------------------------------------------
 *
 * describe.h
 *	  Records in words, as pg_waldump has them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_DESCRIBE_H
#define WA_DESCRIBE_H

#include "../base/base.h"
#include "../base/wal_event.h"

#include "lib/stringinfo.h"

/* Room for a time as PostgreSQL's timestamptz_to_str writes it. */
#define WA_TIME_LEN 64

/* 'time' is microseconds since 2000-01-01 UTC; written in the local time zone. */
extern void wa_describe_time(int64 time, char *text);

/* The path of a relation's main fork below the data directory, "base/5/16384". */
extern void wa_describe_file(StringInfo out, int major, const WaRelFile *file);

/*
 * What the event says; nothing for WA_EVENT_NONE.  Long lists are cut with
 * "...".
 */
extern void wa_describe_event(StringInfo out, const WaWalRecord *record,
							  const WaWalEvent *event);

/* "blkref #0: rel 1663/5/16384 blk 3 FPW, blkref #1: ..." */
extern void wa_describe_blocks(StringInfo out, const WaRecordParts *parts);

#endif /* WA_DESCRIBE_H */
