/*-------------------------------------------------------------------------
 *
 * backup_schedule.c
 *	  When the next scheduled base backup is due; see backup_schedule.h.
 *
 *-------------------------------------------------------------------------
 */
#include "backup_schedule.h"
#include "crc32c.h"

#define SECOND INT64CONST(1000000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)

/* What the steps of one decision share. */
typedef struct Clock
{
	bool windowed;
	int start; /* of the window for this source, the jitter included */
	int end;
	WaLocalSecond local_second;
	void *arg;
} Clock;

/* The part of 'range' that belongs to a source: the same for ever. */
static int64
share_of(const char *source, int64 range)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	crc = wa_crc32c(crc, source, strlen(source));
	FIN_CRC32C(crc);
	/* the upper half: a range of years does not overflow */
	return (range >> 16) * (crc >> 16) + (((range & 0xffff) * (crc >> 16)) >> 16);
}

static int
window_length(int start, int end)
{
	return start < end ? end - start : end - start + WA_DAY_SECONDS;
}

static bool
is_open(const Clock *clock, int64 time)
{
	int second;

	if (!clock->windowed)
		return true;
	second = clock->local_second(time, clock->arg);
	if (clock->start < clock->end)
		return second >= clock->start && second < clock->end;
	return second >= clock->start || second < clock->end;
}

/*
 * 'time' is where the window would open if the day had no change of the clock:
 * put right what such a change made of it.  Where the clock skips the opening,
 * the window opens with the time that comes after it, if at all.
 */
static int64
settle(const Clock *clock, int64 time)
{
	int off = clock->local_second(time, clock->arg) - clock->start;
	int64 settled;

	if (off > WA_DAY_SECONDS / 2)
		off -= WA_DAY_SECONDS;
	else if (off < -WA_DAY_SECONDS / 2)
		off += WA_DAY_SECONDS;
	settled = time - off * SECOND;
	return !is_open(clock, settled) && is_open(clock, time) ? time : settled;
}

/* When the window opened last at or before 'time'. */
static int64
last_opening(const Clock *clock, int64 time)
{
	int64 whole = time - time % SECOND;
	int second = clock->local_second(time, clock->arg);
	int ago = (second - clock->start + WA_DAY_SECONDS) % WA_DAY_SECONDS;
	int64 opening = settle(clock, whole - ago * SECOND);

	if (opening > time)
		opening = settle(clock, whole - (ago + WA_DAY_SECONDS) * SECOND);
	return opening;
}

/* When it opens first after 'time'. */
static int64
next_opening(const Clock *clock, int64 time)
{
	int64 whole = time - time % SECOND;
	int second = clock->local_second(time, clock->arg);
	int ahead = (clock->start - second + WA_DAY_SECONDS - 1) % WA_DAY_SECONDS + 1;
	int64 opening = time;

	/* not today if it was before, and not on a day whose change of the clock skips it */
	for (int day = 0; day < 3; day++)
	{
		opening = settle(clock, whole + (ahead + day * WA_DAY_SECONDS) * SECOND);
		if (opening > time && is_open(clock, opening))
			break;
	}
	return opening;
}

/* When a backup is due whose predecessor began at 'last'. */
static int64
due_after(const Clock *clock, int64 last, int64 interval)
{
	int64 due = last + interval;
	int64 opening;

	if (!clock->windowed)
		return due;
	opening = last_opening(clock, due);
	/* soon after an open window it is the same one, opening twice because the clock went back */
	if (opening > last && !(is_open(clock, last) && opening - last <= HOUR))
		return opening;
	return is_open(clock, due) ? due : next_opening(clock, due);
}

static int64
retry_delay(int failures, int64 interval)
{
	int64 delay = interval / 10;
	int64 most = interval;

	if (delay > MINUTE)
		delay = MINUTE;
	if (delay < SECOND)
		delay = SECOND;
	if (most > HOUR)
		most = HOUR;
	for (int i = 1; i < failures && delay < most; i++)
		delay *= 2;
	return delay < most ? delay : most;
}

void
wa_backup_due(const WaBackupSchedule *schedule, const WaBackupPast *past,
			  const char *source, int64 now, WaLocalSecond local_second,
			  void *arg, WaBackupDue *result)
{
	Clock clock;

	memset(&clock, 0, sizeof(clock));
	clock.windowed = schedule->window_start >= 0;
	clock.local_second = local_second;
	clock.arg = arg;
	if (clock.windowed)
	{
		int64 jitter = schedule->jitter / SECOND;
		int half = window_length(schedule->window_start, schedule->window_end) / 2;

		if (jitter > half)
			jitter = half;
		clock.end = schedule->window_end;
		clock.start = (schedule->window_start + (int) share_of(source, jitter)) % WA_DAY_SECONDS;
	}

	result->incremental = false;
	if (past->last_full != 0)
		result->due = due_after(&clock, past->last_full, schedule->full_interval);
	else
	{
		int64 first = schedule->since;

		if (!clock.windowed)
			first += share_of(source, schedule->jitter);
		result->due = is_open(&clock, first) ? first : next_opening(&clock, first);
	}
	if (schedule->incremental_interval != 0 && past->chain && now < result->due)
	{
		int64 due = due_after(&clock, past->last_any, schedule->incremental_interval);

		if (due < result->due)
		{
			result->incremental = true;
			result->due = due;
		}
	}

	result->attempt = result->due > now ? result->due : now;
	if (past->failures > 0 && past->last_failure >= schedule->since)
	{
		int64 interval = result->incremental ? schedule->incremental_interval : schedule->full_interval;
		int64 retry;

		retry = past->last_failure + retry_delay(past->quiet ? 1 : past->failures, interval);
		if (retry > result->attempt)
			result->attempt = retry;
	}
	if (!is_open(&clock, result->attempt))
		result->attempt = next_opening(&clock, result->attempt);

	if (result->attempt <= now)
		result->wait = WA_BACKUP_WAIT_NONE;
	else if (result->due > now)
		result->wait = WA_BACKUP_WAIT_TIME;
	else if (!is_open(&clock, now))
		result->wait = WA_BACKUP_WAIT_WINDOW;
	else
		result->wait = WA_BACKUP_WAIT_RETRY;
}
