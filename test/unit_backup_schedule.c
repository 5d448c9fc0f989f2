/*-------------------------------------------------------------------------
 *
 * unit_backup_schedule.c
 *	  Unit tests of the decision when a scheduled backup is due.
 *
 * Built and run by "make unitcheck".  Prints TAP and exits non-zero if a test
 * failed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "../src/base/backup_schedule.h"
#include "unit.h"

#define S INT64CONST(1000000)
#define M (60 * S)
#define H (60 * M)
#define D (24 * H)

/* a midnight in UTC, far from 0 */
#define T0 (10000 * D)

/* the night in which clocks go forward at 1:00 UTC, and that in which they go back */
#define SPRING (T0 + 80 * D)
#define AUTUMN (T0 + 300 * D)

static WaBackupSchedule schedule;
static WaBackupPast past;
static WaBackupDue result;

/* a zone east of UTC by '*arg' seconds */
static int
fixed_zone(int64 time, void *arg)
{
	return (int) ((time / S + *(int *) arg) % WA_DAY_SECONDS);
}

/* an hour east, two in summer */
static int
summer_zone(int64 time, void *arg)
{
	int east = (time >= SPRING + H && time < AUTUMN + H) ? 7200 : 3600;

	return (int) ((time / S + east) % WA_DAY_SECONDS);
}

static void
decide(int64 now)
{
	int east = 0;

	wa_backup_due(&schedule, &past, "prod", now, fixed_zone, &east, &result);
}

static void
decide_in(int east, int64 now)
{
	wa_backup_due(&schedule, &past, "prod", now, fixed_zone, &east, &result);
}

static void
decide_summer(int64 now)
{
	wa_backup_due(&schedule, &past, "prod", now, summer_zone, NULL, &result);
}

static void
begin(int64 full, int64 incremental)
{
	memset(&schedule, 0, sizeof(schedule));
	memset(&past, 0, sizeof(past));
	schedule.full_interval = full;
	schedule.incremental_interval = incremental;
	schedule.window_start = schedule.window_end = -1;
	schedule.since = T0;
}

static void
window(int start, int end)
{
	schedule.window_start = start;
	schedule.window_end = end;
}

static bool
is(bool incremental, int64 due, int64 attempt, WaBackupWait wait)
{
	if (result.incremental == incremental && result.due == due &&
		result.attempt == attempt && result.wait == wait)
		return true;
	printf("# %s, due at %.1f s, attempt at %.1f s, wait %d\n",
		   result.incremental ? "incremental" : "full", (double) (result.due - T0) / S,
		   (double) (result.attempt - T0) / S, result.wait);
	return false;
}

static void
test_intervals(void)
{
	begin(D, 0);
	decide(T0);
	CHECK(is(false, T0, T0, WA_BACKUP_WAIT_NONE), "the first backup is due at once");
	decide(T0 + 3 * D);
	CHECK(is(false, T0, T0 + 3 * D, WA_BACKUP_WAIT_NONE), "and stays due");
	past.last_full = past.last_any = T0 + H;
	decide(T0 + D);
	CHECK(is(false, T0 + D + H, T0 + D + H, WA_BACKUP_WAIT_TIME), "then an interval after the start of the last");
	decide(T0 + D + H);
	CHECK(is(false, T0 + D + H, T0 + D + H, WA_BACKUP_WAIT_NONE), "at that very moment");
	decide(T0 + 9 * D);
	CHECK(is(false, T0 + D + H, T0 + 9 * D, WA_BACKUP_WAIT_NONE), "missed runs are due once");
	past.last_full = past.last_any = T0 + 9 * D;
	decide(T0 + 9 * D + S);
	CHECK(is(false, T0 + 10 * D, T0 + 10 * D, WA_BACKUP_WAIT_TIME), "and that is all");
}

static void
test_incremental(void)
{
	begin(7 * D, D);
	past.last_full = past.last_any = T0;
	decide(T0 + H);
	CHECK(is(false, T0 + 7 * D, T0 + 7 * D, WA_BACKUP_WAIT_TIME), "nothing to build on: the next is a full one");
	past.chain = true;
	decide(T0 + H);
	CHECK(is(true, T0 + D, T0 + D, WA_BACKUP_WAIT_TIME), "an incremental one comes first");
	decide(T0 + D);
	CHECK(is(true, T0 + D, T0 + D, WA_BACKUP_WAIT_NONE), "it is due");
	past.last_any = T0 + 5 * D;
	decide(T0 + 5 * D + H);
	CHECK(is(true, T0 + 6 * D, T0 + 6 * D, WA_BACKUP_WAIT_TIME), "counted from the last of either kind");
	past.last_any = T0 + 6 * D;
	decide(T0 + 6 * D + H);
	CHECK(is(false, T0 + 7 * D, T0 + 7 * D, WA_BACKUP_WAIT_TIME), "where both fall together it is a full one");
	past.last_any = T0 + 5 * D;
	decide(T0 + 8 * D);
	CHECK(is(false, T0 + 7 * D, T0 + 8 * D, WA_BACKUP_WAIT_NONE), "a full one makes up for both");

	/* no full backup, but something is there to build on: not a chain that we count on */
	past.last_full = 0;
	decide(T0 + D);
	CHECK(is(false, T0, T0 + D, WA_BACKUP_WAIT_NONE), "without a full backup: a full one, now");
}

static void
test_window(void)
{
	begin(D, 0);
	window(3600, 3 * 3600);
	schedule.since = T0 + 12 * H;
	decide(T0 + 12 * H);
	CHECK(is(false, T0 + D + H, T0 + D + H, WA_BACKUP_WAIT_TIME), "the first waits for the window");
	schedule.since = T0 + 2 * H;
	decide(T0 + 2 * H);
	CHECK(is(false, T0 + 2 * H, T0 + 2 * H, WA_BACKUP_WAIT_NONE), "or begins in it");
	decide(T0 + 4 * H);
	CHECK(is(false, T0 + 2 * H, T0 + D + H, WA_BACKUP_WAIT_WINDOW), "missed: the next window");
	decide(T0 + 3 * H);
	CHECK(is(false, T0 + 2 * H, T0 + D + H, WA_BACKUP_WAIT_WINDOW), "its end is not in it");
	decide(T0 + 3 * H - 1);
	CHECK(is(false, T0 + 2 * H, T0 + 3 * H - 1, WA_BACKUP_WAIT_NONE), "the moment before is");

	past.last_full = T0 + H + 5 * S;
	decide(T0 + 4 * H);
	CHECK(is(false, T0 + D + H, T0 + D + H, WA_BACKUP_WAIT_TIME), "a nightly backup does not wander");
	decide(T0 + D + H);
	CHECK(is(false, T0 + D + H, T0 + D + H, WA_BACKUP_WAIT_NONE), "it begins as the window opens");
	past.last_full = T0 + 12 * H;
	decide(T0 + 13 * H);
	CHECK(is(false, T0 + D + H, T0 + D + H, WA_BACKUP_WAIT_TIME), "after one by hand at noon the next night, not that after it");
	decide(T0 + 5 * D);
	CHECK(is(false, T0 + D + H, T0 + 5 * D + H, WA_BACKUP_WAIT_WINDOW), "late and outside of the window");
	past.last_full = T0 + H - 5 * M;
	decide(T0 + H);
	CHECK(is(false, T0 + D + H - D, T0 + H, WA_BACKUP_WAIT_NONE), "one right before the window does not take its place");

	/* shorter than the window */
	begin(H, 0);
	window(22 * 3600, 6 * 3600);
	past.last_full = T0 + 22 * H + 10 * M;
	decide(T0 + 22 * H + 20 * M);
	CHECK(is(false, T0 + 23 * H + 10 * M, T0 + 23 * H + 10 * M, WA_BACKUP_WAIT_TIME), "hourly in a window over midnight");
	past.last_full = T0 + 23 * H + 30 * M;
	decide(T0 + 24 * H + 30 * M);
	CHECK(is(false, T0 + D + 30 * M, T0 + D + 30 * M, WA_BACKUP_WAIT_NONE), "past midnight");
	past.last_full = T0 + D + 5 * H + 30 * M;
	decide(T0 + D + 5 * H + 45 * M);
	CHECK(is(false, T0 + D + 22 * H, T0 + D + 22 * H, WA_BACKUP_WAIT_TIME), "after the window: when it opens again");

	/* the second of the day is local */
	begin(D, 0);
	window(3600, 3 * 3600);
	past.last_full = T0 + H;
	decide_in(19800, T0 + 2 * H);
	CHECK(is(false, T0 + 19 * H + 30 * M, T0 + 19 * H + 30 * M, WA_BACKUP_WAIT_TIME), "1:00 in a zone 5:30 east");
	decide_in(-5 * 3600 + WA_DAY_SECONDS, T0 + 2 * H);
	CHECK(is(false, T0 + 6 * H, T0 + 6 * H, WA_BACKUP_WAIT_TIME), "1:00 in a zone 5:00 west");
	decide(T0 + D + H + S / 2);
	CHECK(is(false, T0 + D + H, T0 + D + H + S / 2, WA_BACKUP_WAIT_NONE), "half a second after the opening");

	/* weekly, with incremental ones every night */
	begin(7 * D, D);
	window(3600, 3 * 3600);
	past.last_full = T0 + H + S;
	past.last_any = T0 + 6 * D + H + S;
	past.chain = true;
	decide(T0 + 6 * D + 2 * H);
	CHECK(is(false, T0 + 7 * D + H, T0 + 7 * D + H, WA_BACKUP_WAIT_TIME), "the week is over: full");
	past.last_any = T0 + 5 * D + H + S;
	decide(T0 + 5 * D + 2 * H);
	CHECK(is(true, T0 + 6 * D + H, T0 + 6 * D + H, WA_BACKUP_WAIT_TIME), "the night before: incremental");
}

static void
test_clock_changes(void)
{
	begin(D, 0);
	window(4 * 3600, 6 * 3600);
	past.last_full = SPRING - D + 3 * H + S; /* 4:00 in winter */
	decide_summer(SPRING);
	CHECK(is(false, SPRING + 2 * H, SPRING + 2 * H, WA_BACKUP_WAIT_TIME), "4:00 on the day of 23 hours");
	past.last_full = AUTUMN - D + 2 * H + S; /* 4:00 in summer */
	decide_summer(AUTUMN);
	CHECK(is(false, AUTUMN + 3 * H, AUTUMN + 3 * H, WA_BACKUP_WAIT_TIME), "4:00 on the day of 25 hours");

	/* 2:30 is not there in spring, and there twice in autumn: once is enough */
	window(2 * 3600 + 1800, 5 * 3600);
	past.last_full = SPRING - D + H + 30 * M + S;
	decide_summer(SPRING);
	CHECK(result.due >= SPRING + 30 * M && result.due <= SPRING + H + 30 * M && !result.incremental,
		  "2:30 that is skipped: about then");
	decide_summer(result.due);
	CHECK(result.wait == WA_BACKUP_WAIT_NONE, "and the window is open then");
	past.last_full = result.due;
	decide_summer(result.due + 2 * H);
	CHECK(is(false, SPRING + D + 30 * M, SPRING + D + 30 * M, WA_BACKUP_WAIT_TIME), "and once");
	past.last_full = AUTUMN - D + 30 * M + S;
	decide_summer(AUTUMN);
	CHECK(result.due == AUTUMN + 30 * M || result.due == AUTUMN + H + 30 * M, "2:30 that is there twice");
	past.last_full = result.due + S;
	for (int64 now = result.due + M; now < AUTUMN + 20 * H; now += M)
	{
		decide_summer(now);
		if (result.wait != WA_BACKUP_WAIT_TIME)
			break;
	}
	CHECK(is(false, AUTUMN + D + H + 30 * M, AUTUMN + D + H + 30 * M, WA_BACKUP_WAIT_TIME), "counts once");

	/* the change moves midnight */
	window(15 * 60, 3 * 3600);
	past.last_full = AUTUMN - D + 22 * H + 30 * M; /* 0:30 in summer */
	decide_summer(AUTUMN);
	CHECK(is(false, AUTUMN + 23 * H + 15 * M, AUTUMN + 23 * H + 15 * M, WA_BACKUP_WAIT_TIME), "0:15 after the day of 25 hours");
	window(23 * 3600 + 45 * 60, 2 * 3600);
	past.last_full = SPRING - D + 22 * H + 50 * M; /* 23:50 in winter */
	decide_summer(SPRING);
	CHECK(is(false, SPRING + 21 * H + 45 * M, SPRING + 21 * H + 45 * M, WA_BACKUP_WAIT_TIME), "23:45 at the end of the day of 23 hours");
	schedule.full_interval = 2 * D;
	past.last_full = AUTUMN - 26 * H;
	decide_summer(AUTUMN - 3 * H);
	CHECK(is(false, AUTUMN - 2 * H - 15 * M, AUTUMN - 2 * H - 15 * M, WA_BACKUP_WAIT_TIME), "23:45 before the day of 25 hours");
	schedule.full_interval = D;
	window(15 * 60, 3 * 3600);
	past.last_full = SPRING - 4 * H;
	decide_summer(SPRING - 2 * H);
	CHECK(is(false, SPRING - 45 * M, SPRING - 45 * M, WA_BACKUP_WAIT_TIME), "0:15 on the day of 23 hours");
	window(2 * 3600 + 1800, 5 * 3600);
	past.last_full = SPRING - 3 * D;
	decide_summer(SPRING);
	CHECK(result.attempt == SPRING + H + 30 * M && result.wait == WA_BACKUP_WAIT_WINDOW, "2:30 that is skipped: an hour later by the clock");
	window(23 * 3600 + 45 * 60, 2 * 3600);

	/* missed, and the next opening lies behind the change */
	past.last_full = SPRING - 3 * D;
	decide_summer(SPRING + 30 * M + 1 * H);
	CHECK(result.attempt == SPRING + 21 * H + 45 * M && result.wait == WA_BACKUP_WAIT_WINDOW, "the next opening on that day");
	window(15 * 60, 1 * 3600);
	decide_summer(AUTUMN);
	CHECK(result.attempt == AUTUMN + 23 * H + 15 * M && result.wait == WA_BACKUP_WAIT_WINDOW, "and on the other one");
}

static void
test_failures(void)
{
	static const int minutes[] = {1, 2, 4, 8, 16, 32, 60, 60, 60};

	begin(D, 0);
	past.last_full = T0 - D;
	for (int i = 0; i < lengthof(minutes); i++)
	{
		char what[64];

		past.failures = i + 1;
		past.last_failure = T0 + H;
		decide(T0 + H + S);
		snprintf(what, sizeof(what), "failure %d: %d minutes", i + 1, minutes[i]);
		CHECK(is(false, T0, T0 + H + minutes[i] * M, WA_BACKUP_WAIT_RETRY), what);
	}
	past.failures = 1000000;
	decide(T0 + 2 * H);
	CHECK(is(false, T0, T0 + 2 * H, WA_BACKUP_WAIT_NONE), "however often: again after an hour");
	past.quiet = true;
	decide(T0 + H + M);
	CHECK(is(false, T0, T0 + H + M, WA_BACKUP_WAIT_NONE), "a quiet standby is asked every minute");
	past.quiet = false;

	/* what happened before the schedule was set is forgotten */
	schedule.since = T0 + H + 1;
	decide(T0 + H + S);
	CHECK(is(false, T0, T0 + H + S, WA_BACKUP_WAIT_NONE), "a new schedule forgets the failures");
	schedule.since = T0;

	/* not due: a failed backup by hand delays nothing that is due later */
	past.last_full = T0;
	past.failures = 3;
	past.last_failure = T0 + H;
	decide(T0 + 2 * H);
	CHECK(is(false, T0 + D, T0 + D, WA_BACKUP_WAIT_TIME), "not due, for all failures");

	/* the retry may not leave the window */
	begin(D, 0);
	window(3600, 3 * 3600);
	past.last_full = T0 - D + H;
	past.failures = 6;
	past.last_failure = T0 + 2 * H + 50 * M;
	decide(T0 + 2 * H + 51 * M);
	CHECK(is(false, T0 + H, T0 + D + H, WA_BACKUP_WAIT_RETRY), "a retry after the window: the next one");
	past.failures = 3;
	decide(T0 + 2 * H + 51 * M);
	CHECK(is(false, T0 + H, T0 + 2 * H + 54 * M, WA_BACKUP_WAIT_RETRY), "a retry in the window");

	/* short intervals */
	begin(10 * S, 0);
	past.last_full = T0;
	past.last_failure = T0 + 20 * S;
	past.failures = 1;
	decide(T0 + 20 * S);
	CHECK(is(false, T0 + 10 * S, T0 + 21 * S, WA_BACKUP_WAIT_RETRY), "a tenth of a short interval");
	past.failures = 50;
	decide(T0 + 20 * S);
	CHECK(is(false, T0 + 10 * S, T0 + 30 * S, WA_BACKUP_WAIT_RETRY), "and the interval at most");
}

/* When the first backup of source 'name' is due. */
static int64
due_of(const char *name)
{
	int east = 0;

	wa_backup_due(&schedule, &past, name, T0, fixed_zone, &east, &result);
	return result.due;
}

static void
test_jitter(void)
{
	int64 least = D;
	int64 most = 0;
	bool same = true;
	bool inside = true;

	begin(D, 0);
	schedule.jitter = H;
	for (int i = 0; i < 100; i++)
	{
		char name[32];
		int64 shift;

		snprintf(name, sizeof(name), "source_%d", i);
		shift = due_of(name) - T0;
		least = Min(least, shift);
		most = Max(most, shift);
		same &= due_of(name) - T0 == shift;
	}
	CHECK(least >= 0 && most < H, "the jitter is kept to");
	CHECK(least < H / 5 && most > H * 4 / 5, "and used");
	CHECK(same, "a source has the same share for ever");
	past.last_full = T0;
	CHECK(due_of("source_1") == T0 + D, "it does not make intervals longer");
	past.last_full = 0;
	schedule.jitter = 366 * D;
	CHECK(due_of("source_1") >= T0 && due_of("source_1") < T0 + 366 * D, "a jitter of a year");

	/* windows open at different times, in their first half */
	window(23 * 3600, 3600);
	schedule.jitter = 10 * H;
	least = D;
	most = 0;
	for (int i = 0; i < 100; i++)
	{
		char name[32];
		int64 shift;
		int east = 0;

		snprintf(name, sizeof(name), "source_%d", i);
		schedule.since = T0 + 12 * H;
		shift = due_of(name) - (T0 + 23 * H);
		least = Min(least, shift);
		most = Max(most, shift);
		wa_backup_due(&schedule, &past, name, T0 + 23 * H + shift - 1, fixed_zone, &east, &result);
		inside &= result.wait == WA_BACKUP_WAIT_TIME;
		wa_backup_due(&schedule, &past, name, T0 + 23 * H + shift, fixed_zone, &east, &result);
		inside &= result.wait == WA_BACKUP_WAIT_NONE;
		wa_backup_due(&schedule, &past, name, T0 + 25 * H - 1, fixed_zone, &east, &result);
		inside &= result.wait == WA_BACKUP_WAIT_NONE;
		wa_backup_due(&schedule, &past, name, T0 + 25 * H, fixed_zone, &east, &result);
		inside &= result.wait == WA_BACKUP_WAIT_WINDOW;
	}
	CHECK(least >= 0 && least < 15 * M && most > 45 * M && most <= H, "windows open over their first half");
	CHECK(inside, "and end together");
}

/* The same numbers on every run, from 0 to 'n' - 1. */
static int64
draw(int64 n)
{
	static uint64 seed = 12345;

	seed = seed * UINT64CONST(6364136223846793005) + UINT64CONST(1442695040888963407);
	return (int64) (seed >> 33) % n;
}

/* Whatever the settings, each decision is one that can be acted on. */
static void
test_any(void)
{
	bool ok = true;
	for (int i = 0; i < 200000 && ok; i++)
	{
		int64 now;

		begin((10 + draw(400000)) * S, draw(2) ? (10 + draw(100000)) * S : 0);
		schedule.since = T0 + draw(400 * 86400) * S;
		now = schedule.since + draw(10 * 86400) * S + draw(1000000);
		if (draw(3))
		{
			window((int) draw(WA_DAY_SECONDS), (int) draw(WA_DAY_SECONDS));
			if (schedule.window_start == schedule.window_end)
				continue;
		}
		schedule.jitter = draw(2) ? draw(100000) * S : 0;
		if (draw(4))
			past.last_any = past.last_full = now - draw(500000) * S;
		past.chain = past.last_full != 0 && draw(2);
		if (past.chain)
			past.last_any = past.last_full + draw((now - past.last_full) / S + 1) * S;
		past.failures = (int) draw(4);
		past.last_failure = now - draw(10000) * S;
		decide_summer(now);
		ok = result.attempt >= now && result.attempt >= result.due &&
			 (result.wait == WA_BACKUP_WAIT_NONE) == (result.attempt == now) &&
			 (past.last_full == 0 || result.due > past.last_full) &&
			 (!result.incremental || result.due > past.last_any) &&
			 result.attempt < now + 900000 * S;
		if (!ok)
			printf("# round %d: now %.6f, full %.6f, any %.6f, window %d-%d\n", i, (double) now / S,
				   (double) past.last_full / S, (double) past.last_any / S,
				   schedule.window_start, schedule.window_end);
		/* what is announced comes true */
		if (ok && result.wait != WA_BACKUP_WAIT_NONE)
		{
			WaBackupDue before = result;

			decide_summer(before.attempt);
			ok = result.wait == WA_BACKUP_WAIT_NONE &&
				 (result.incremental == before.incremental || !result.incremental);
			if (!ok)
				printf("# round %d: announced for %.6f, then %d until %.6f\n", i,
					   (double) before.attempt / S, result.wait, (double) result.attempt / S);
		}
	}
	CHECK(ok, "200000 schedules");
}

int
main(void)
{
	test_intervals();
	test_incremental();
	test_window();
	test_clock_changes();
	test_failures();
	test_jitter();
	test_any();
	printf("1..%d\n", tests);
	return failures != 0;
}
