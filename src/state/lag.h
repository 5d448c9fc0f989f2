/*-------------------------------------------------------------------------
 *
 * lag.h
 *	  How long ago the server's WAL went beyond a position: lag in time.
 *
 * A receiver notes the end of the server's WAL with the server's clock, at each
 * batch of messages, in a few samples that span the whole backlog.  Samples are
 * merged where there are too many, so the lag of a large backlog is rounded
 * (up, by a fraction of itself).  Nothing here waits, allocates or raises.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_LAG_H
#define WA_LAG_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"

#define WA_LAG_SAMPLES 64

/* Positions from the sample before up to 'lsn' were there from 'time' on. */
typedef struct WaLagSample
{
	XLogRecPtr lsn;
	TimestampTz time; /* of the server's clock */
} WaLagSample;

typedef struct WaLag
{
	int count;
	int64 clock_offset;      /* server's clock less ours, in microseconds */
	TimestampTz offset_time; /* when it was learned, by our clock; 0: never */
	WaLagSample sample[WA_LAG_SAMPLES];
} WaLag;

/*
 * Note that the server's WAL ended at 'end' at 'server_time' by its clock,
 * which reached us at 'now' by ours.  Positions up to 'done' are of no interest
 * any more.  A time that is absurd counts as now.
 */
extern void wa_lag_note(WaLag *lag, XLogRecPtr end, TimestampTz server_time,
						TimestampTz now, XLogRecPtr done);

/*
 * The same at the start of a connection, when the server has not told its time
 * yet: what was there before is known from now on.
 */
extern void wa_lag_begin(WaLag *lag, XLogRecPtr end, TimestampTz now,
						 XLogRecPtr done);

/* The server's clock at 'now' of ours, as far as it is known. */
extern TimestampTz wa_lag_server_clock(const WaLag *lag, TimestampTz now);

/*
 * For how long, at 'now' by our clock, there has been WAL beyond 'position', in
 * microseconds; 0 if there is none that we have heard of.
 */
extern int64 wa_lag_behind(const WaLag *lag, XLogRecPtr position, TimestampTz now);

/*
 * True if nothing between 'decoded', where the next record is looked for, and
 * 'flushed' can be a record: page headers at most.
 */
extern bool wa_nothing_to_decode(XLogRecPtr decoded, XLogRecPtr flushed);

#endif /* WA_LAG_H */
