/*-------------------------------------------------------------------------
 *
 * lag.c
 *	  Lag in time.  See lag.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "lag.h"

/* Samples are at least so far apart. */
#define SAMPLE_USEC (100 * 1000)

/* The least delayed message of so long a time says how clocks differ. */
#define OFFSET_WINDOW_USEC (60 * USECS_PER_SEC)

/* Clocks that differ by more are not believed. */
#define MAX_OFFSET_USEC (3650 * USECS_PER_DAY)

/* A long header is 40 bytes; blocks of WAL have at least 1 kB. */
#define MAX_PAGE_HEADER 40
#define MIN_WAL_BLOCK 1024

/* Forget what is done with, or else merge samples in pairs. */
static void
make_room(WaLag *lag, XLogRecPtr done)
{
	int first = 0;
	int kept;

	while (first < lag->count && lag->sample[first].lsn <= done)
		first++;
	if (first > 0)
	{
		lag->count -= first;
		memmove(lag->sample, lag->sample + first, lag->count * sizeof(WaLagSample));
		return;
	}
	kept = lag->count / 2;
	for (int i = 0; i < kept; i++)
	{
		lag->sample[i].time = lag->sample[2 * i].time;
		lag->sample[i].lsn = lag->sample[2 * i + 1].lsn;
	}
	lag->count = kept;
}

/* Positions up to 'end' are there since 'time' of the server's clock. */
static void
add_sample(WaLag *lag, XLogRecPtr end, TimestampTz time, XLogRecPtr done)
{
	WaLagSample *last;

	/* another server, or another life of it, that has less WAL */
	while (lag->count > 0 && lag->sample[lag->count - 1].lsn > end)
		lag->count--;
	last = lag->count > 0 ? &lag->sample[lag->count - 1] : NULL;
	if (last != NULL && last->lsn >= end)
		return;
	if (last != NULL && last->lsn > done && time >= last->time &&
		time < last->time + SAMPLE_USEC)
	{
		last->lsn = end;
		return;
	}
	if (lag->count == WA_LAG_SAMPLES)
		make_room(lag, done);
	lag->sample[lag->count].lsn = end;
	lag->sample[lag->count].time = time;
	lag->count++;
}

void
wa_lag_begin(WaLag *lag, XLogRecPtr end, TimestampTz now, XLogRecPtr done)
{
	add_sample(lag, end, wa_lag_server_clock(lag, now), done);
}

void
wa_lag_note(WaLag *lag, XLogRecPtr end, TimestampTz server_time,
			TimestampTz now, XLogRecPtr done)
{
	if (server_time < now - MAX_OFFSET_USEC || server_time > now + MAX_OFFSET_USEC)
		server_time = now;
	if (lag->offset_time == 0 || server_time - now >= lag->clock_offset ||
		now < lag->offset_time || now > lag->offset_time + OFFSET_WINDOW_USEC)
	{
		lag->clock_offset = server_time - now;
		lag->offset_time = now;
	}

	add_sample(lag, end, server_time, done);
}

TimestampTz
wa_lag_server_clock(const WaLag *lag, TimestampTz now)
{
	return now + lag->clock_offset;
}

int64
wa_lag_behind(const WaLag *lag, XLogRecPtr position, TimestampTz now)
{
	/* a copy that was torn by a change must not lead out of the array */
	int count = Max(0, Min(lag->count, WA_LAG_SAMPLES));

	for (int i = 0; i < count; i++)
	{
		if (lag->sample[i].lsn > position)
			return Max(0, wa_lag_server_clock(lag, now) - lag->sample[i].time);
	}
	return 0;
}

bool
wa_nothing_to_decode(XLogRecPtr decoded, XLogRecPtr flushed)
{
	if (decoded >= flushed)
		return true;
	return decoded % MIN_WAL_BLOCK == 0 && flushed - decoded <= MAX_PAGE_HEADER;
}
