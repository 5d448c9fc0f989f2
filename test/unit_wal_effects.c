/*-------------------------------------------------------------------------
 *
 * unit_wal_effects.c
 *	  What transactions destroy: cases that a test on a real server can't bring
 *	  about, the state between two pieces, the bounds of memory, and events of
 *	  any content.  The real cases are in t/012_destructive.pl.
 *
 * Prints TAP and exits non-zero if a test failed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "../src/base/wal_effects.h"

#include "unit.h"

static WaEffects *effects;
static XLogRecPtr lsn;
static WaWalRecord record;
static WaWalEvent event;

/* what was said since the last "clear" */
static int said;
static WaMsgDestruction last;
static char words[4096]; /* "drop 1 2;truncate 3;" */

static void
clear(void)
{
	said = 0;
	words[0] = '\0';
	memset(&last, 0, sizeof(last));
}

static void
emit(void *arg, const WaMsgDestruction *d, const WaRelFile *files, const Oid *relations)
{
	static const char *const kinds[] = {"?", "drop", "truncate", "rewrite", "database"};

	said++;
	last = *d;
	snprintf(words + strlen(words), sizeof(words) - strlen(words), "%s", kinds[d->kind]);
	for (uint32 i = 0; i < d->files && i < 20; i++)
		snprintf(words + strlen(words), sizeof(words) - strlen(words), " %u", files[i].number);
	snprintf(words + strlen(words), sizeof(words) - strlen(words), ";");
	/* all that is promised can be read */
	for (uint32 i = 0; i < d->relations; i++)
		tests += relations[i] == 0xFFFFFFF0 && files == NULL;
}

/* The next record, of any kind; 'event' is filled by the caller. */
static void
next_record(TransactionId xid, uint8 rmid, uint8 info, const void *data, uint32 len)
{
	record.prev_lsn = record.start_lsn;
	record.start_lsn = lsn;
	lsn += 64;
	record.end_lsn = lsn;
	record.tli = 1;
	record.major = 17;
	record.xid = xid;
	record.rmid = rmid;
	record.info = info;
	record.data = data;
	record.data_len = record.total_len = len;
	wa_effects_feed(effects, &record, &event, emit, NULL);
	memset(&event, 0, sizeof(event));
}

static void
other_record(TransactionId xid, uint8 rmid, uint8 info, const void *data, uint32 len)
{
	event.kind = WA_EVENT_NONE;
	next_record(xid, rmid, info, data, len);
}

static void
lock(TransactionId xid, Oid relation)
{
	static uint32 array[3];

	array[0] = xid;
	array[1] = 5;
	array[2] = relation;
	event.kind = WA_EVENT_LOCK;
	event.u.locks.count = 1;
	event.u.locks.array = (const uint8 *) array;
	next_record(xid, WA_RM_STANDBY, 0, NULL, 0);
}

static void
create(TransactionId xid, Oid number)
{
	event.kind = WA_EVENT_SMGR_CREATE;
	event.u.smgr.file.tablespace = 1663;
	event.u.smgr.file.database = 5;
	event.u.smgr.file.number = number;
	next_record(xid, WA_RM_SMGR, 0x10, NULL, 0);
}

static void
database(TransactionId xid, WaEventKind kind, Oid number)
{
	event.kind = kind;
	if (kind == WA_EVENT_DATABASE_DROP)
		event.u.oids.database = number;
	else
		event.u.object.database = number;
	next_record(xid, WA_RM_DBASE, 0, NULL, 0);
}

/* A row of a shared catalog is deleted, or (info 0x70) changed in place. */
static void
shared_row(TransactionId xid, uint8 info, uint32 block, uint16 offset)
{
	static uint8 bytes[64];
	uint32 at = WA_RECORD_HEADER;
	uint32 file[3] = {1664, 0, 1262};
	uint8 main_len = info == 0x10 ? 8 : 2;

	memset(bytes, 0, sizeof(bytes));
	at += 4; /* block 0, main fork, no data */
	memcpy(bytes + at, file, 12);
	at += 12;
	memcpy(bytes + at, &block, 4);
	at += 4;
	bytes[at++] = 255;
	bytes[at++] = main_len;
	memcpy(bytes + at + (info == 0x10 ? 4 : 0), &offset, 2);
	at += main_len;
	other_record(xid, WA_RM_HEAP, info, bytes, at);
}

/* Ends a transaction; files are given as the record has them, last first. */
static void
end_xact(TransactionId xid, WaEventKind kind, int64 time, const Oid *dropped, uint32 files,
		 const Oid *gone, uint32 stats)
{
	static WaRelFile file_array[64];
	static uint32 stats_array[64][3];

	event.kind = kind;
	event.u.xact.xid = xid;
	event.u.xact.time = time;
	for (uint32 i = 0; i < files; i++)
	{
		file_array[i].tablespace = 1663;
		file_array[i].database = 5;
		file_array[i].number = dropped[i];
	}
	for (uint32 i = 0; i < stats; i++)
	{
		/* a number below 100 is a database */
		stats_array[i][0] = gone[i] < 100 ? 1 : 2;
		stats_array[i][1] = gone[i] < 100 ? gone[i] : 5;
		stats_array[i][2] = gone[i] < 100 ? 0 : gone[i];
	}
	event.u.xact.dropped_files = files;
	event.u.xact.dropped_file_array = (const uint8 *) file_array;
	event.u.xact.dropped_stats = stats;
	event.u.xact.dropped_stats_array = (const uint8 *) stats_array;
	next_record(xid, WA_RM_XACT, 0, NULL, 0);
}

static void
running(TransactionId oldest)
{
	uint8 bytes[WA_RECORD_HEADER + 26];

	memset(bytes, 0, sizeof(bytes));
	bytes[WA_RECORD_HEADER] = 255;
	bytes[WA_RECORD_HEADER + 1] = 24;
	memcpy(bytes + WA_RECORD_HEADER + 2 + 16, &oldest, 4);
	other_record(0, WA_RM_STANDBY, 0x10, bytes, sizeof(bytes));
}

/* Save the state, forget everything, go on. */
static bool
save_and_load(void)
{
	size_t len = wa_effects_save(effects, NULL, 0);
	char *bytes = malloc(len);
	bool ok;

	ok = len <= WA_EFFECTS_STATE_MAX && wa_effects_save(effects, bytes, len) == len;
	memset(effects, 0x5A, sizeof(*effects));
	ok = wa_effects_load(effects, bytes, len) && ok;
	free(bytes);
	return ok;
}

static void
test_databases(void)
{
	XLogRecPtr mark;
	Oid gone = 42;

	/* committed, with a mark before */
	clear();
	shared_row(0, 0x70, 3, 7);
	mark = record.start_lsn;
	shared_row(700, 0x10, 3, 7);
	database(700, WA_EVENT_DATABASE_DROP, 42);
	CHECK(save_and_load(), "the state of a DROP DATABASE");
	end_xact(700, WA_EVENT_COMMIT, 1000, NULL, 0, &gone, 1);
	CHECK(strcmp(words, "database;") == 0 && last.database == 42 && last.first_lsn == mark &&
			  last.restore_before_lsn == mark - 64 && !last.has_time && !last.aborted,
		  "DROP DATABASE begins where the database is marked");

	/* another row in place between */
	clear();
	shared_row(0, 0x70, 3, 7);
	mark = record.start_lsn;
	shared_row(0, 0x70, 3, 8);
	shared_row(0, 0x70, 4, 7);
	shared_row(701, 0x10, 3, 7);
	database(701, WA_EVENT_DATABASE_DROP, 42);
	end_xact(701, WA_EVENT_ABORT, 1001, NULL, 0, NULL, 0);
	CHECK(strcmp(words, "database;") == 0 && last.aborted && last.first_lsn == mark && last.database == 42,
		  "a DROP DATABASE that aborts has happened all the same");

	/* cut off by a crash */
	clear();
	shared_row(702, 0x10, 9, 7);
	database(702, WA_EVENT_DATABASE_DROP, 43);
	mark = record.start_lsn;
	running(702);
	CHECK(said == 0, "a DROP DATABASE that still runs is not told");
	CHECK(save_and_load(), "... its state");
	event.kind = WA_EVENT_END_OF_RECOVERY;
	next_record(0, WA_RM_XLOG, 0, NULL, 0);
	CHECK(strcmp(words, "database;") == 0 && last.aborted && last.first_lsn == mark &&
			  last.start_lsn == mark && last.time == 0 && last.xid == 702 && last.database == 43,
		  "one that a crash cut off is told when recovery ends");
	CHECK(effects->xacts == 0, "... and forgotten");
	clear();
	shared_row(703, 0x10, 9, 7);
	database(703, WA_EVENT_DATABASE_DROP, 43);
	running(704);
	CHECK(strcmp(words, "database;") == 0 && last.aborted, "... or when it is seen not to run");

	/* what is none */
	clear();
	database(704, WA_EVENT_DATABASE_CREATE, 44);
	database(704, WA_EVENT_DATABASE_DROP, 44);
	end_xact(704, WA_EVENT_ABORT, 1002, NULL, 0, NULL, 0);
	database(705, WA_EVENT_DATABASE_DROP, 45);
	end_xact(705, WA_EVENT_ABORT, 1003, NULL, 0, NULL, 0);
	database(0, WA_EVENT_DATABASE_DROP, 46);
	database(706, WA_EVENT_DATABASE_DROP, 46);
	end_xact(706, WA_EVENT_COMMIT, 1004, NULL, 0, NULL, 0);
	CHECK(said == 0, "a failed CREATE DATABASE and a moved database are no losses");
}

static void
test_times(void)
{
	Oid file = 1000;

	wa_effects_begin(effects);
	clear();
	end_xact(800, WA_EVENT_COMMIT, 5000, &file, 1, &file, 1);
	CHECK(last.has_time && last.restore_before_time == 4999, "the first commit has a time before it");
	end_xact(801, WA_EVENT_ABORT, 7000, NULL, 0, NULL, 0);
	end_xact(802, WA_EVENT_COMMIT, 6000, &file, 1, &file, 1);
	CHECK(!last.has_time, "none if an abort before it was later");
	end_xact(803, WA_EVENT_COMMIT, 7000, &file, 1, &file, 1);
	CHECK(!last.has_time, "... or at the same time");
	CHECK(save_and_load(), "the latest time is kept");
	end_xact(804, WA_EVENT_COMMIT, 7000, &file, 1, &file, 1);
	CHECK(!last.has_time, "... over pieces");
	end_xact(805, WA_EVENT_COMMIT_PREPARED, 7001, &file, 1, &file, 1);
	CHECK(last.has_time && last.restore_before_time == 7000, "a later one has a time again");
}

/* Ambiguous: the more alarming. */
static void
test_doubt(void)
{
	Oid files[] = {2001, 2000};
	Oid gone[] = {3000, 3001};

	wa_effects_begin(effects);
	clear();
	end_xact(810, WA_EVENT_COMMIT, 1, files, 2, NULL, 0);
	CHECK(strcmp(words, "truncate 2000 2001;") == 0, "files that go without any reason known: a truncate");
	clear();
	end_xact(811, WA_EVENT_COMMIT, 2, files, 2, gone, 2);
	CHECK(strcmp(words, "drop 2000 2001;") == 0, "with relations that go: a drop");
	clear();
	end_xact(812, WA_EVENT_ABORT, 3, files, 2, gone, 2);
	CHECK(said == 0, "an abort drops what it made");
	clear();
	lock(813, 2000);
	create(813, 2100);
	lock(813, 2001);
	create(813, 2101);
	event.kind = WA_EVENT_PREPARE;
	event.u.xact.xid = 813;
	next_record(813, WA_RM_XACT, 0, NULL, 0);
	event.kind = WA_EVENT_CHECKPOINT;
	event.u.checkpoint.shutdown = true;
	next_record(0, WA_RM_XLOG, 0, NULL, 0);
	CHECK(effects->xacts == 1 && save_and_load(), "a prepared transaction outlives a restart");
	end_xact(813, WA_EVENT_COMMIT_PREPARED, 4, files, 2, NULL, 0);
	CHECK(strcmp(words, "truncate 2000 2001;") == 0 && last.relations == 2, "... and is told when it is committed");
}

static void
test_bounds(void)
{
	Oid files[] = {5000};
	Oid gone[] = {900000};
	char *bytes;
	size_t len;

	/* more transactions than there is room for: the oldest are forgotten */
	wa_effects_begin(effects);
	clear();
	for (uint32 i = 0; i < WA_EFFECT_XACTS + 100; i++)
		lock(10000 + i, 5000);
	CHECK(effects->xacts == WA_EFFECT_XACTS && effects->forgotten == 100, "the oldest transactions are forgotten, and counted");
	CHECK(wa_effects_find(effects, 10000) == NULL && wa_effects_find(effects, 10100) != NULL, "... these and no others");
	CHECK(save_and_load() && effects->xacts == WA_EFFECT_XACTS && effects->forgotten == 100, "a full state is saved and loaded");
	running(10000 + WA_EFFECT_XACTS + 100);
	CHECK(effects->xacts == 0, "all of them end");

	/* one transaction that fills the pool */
	for (uint32 i = 0; i < 2 * WA_EFFECT_ITEMS; i++)
		lock(30000, 100000 + i);
	CHECK(effects->xacts == 1 && effects->forgotten == 101, "a transaction that fills the pool keeps what fits");
	CHECK(save_and_load(), "... also when it is saved");
	lock(30001, 1);
	CHECK(wa_effects_find(effects, 30001) != NULL && wa_effects_find(effects, 30000) == NULL, "the next one has room");
	clear();
	end_xact(30000, WA_EVENT_COMMIT, 1, files, 1, gone, 1);
	CHECK(strcmp(words, "drop 5000;") == 0, "what was forgotten is told all the same");

	/* states that are none */
	lock(30002, 1);
	create(30002, 7);
	len = wa_effects_save(effects, NULL, 0);
	bytes = malloc(len + 1);
	wa_effects_save(effects, bytes, len);
	bytes[len] = 0;
	CHECK(!wa_effects_load(effects, bytes, len + 1) && effects->xacts == 0, "a state with something behind it is refused");
	for (size_t cut = 1; cut < len; cut++)
	{
		if (wa_effects_load(effects, bytes, cut))
		{
			CHECK(false, "a state that is cut off is refused");
			break;
		}
	}
	for (size_t at = 0; at < len; at++)
	{
		for (int bit = 0; bit < 8; bit++)
		{
			bytes[at] ^= 1 << bit;
			if (wa_effects_load(effects, bytes, len))
			{
				running(40000);
				(void) save_and_load();
			}
			bytes[at] ^= 1 << bit;
		}
	}
	CHECK(wa_effects_load(effects, bytes, len), "a state with flipped bits harms nobody");
	CHECK(wa_effects_load(effects, NULL, 0) && effects->xacts == 0, "no state is a beginning");
	free(bytes);
}

/* ---- events of any content ---- */

static uint64 seed = 88172645463325252;

static uint32
any(uint32 below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32) (seed >> 11) % below;
}

static void
test_anything(void)
{
	Oid files[64];
	Oid gone[64];
	uint64 told = 0;

	wa_effects_begin(effects);
	for (int i = 0; i < 300000; i++)
	{
		TransactionId xid = 3 + any(50);
		Oid number = 100 + any(40);
		uint32 subxacts[8];

		clear();
		switch (any(14))
		{
			case 0:
			case 1:
			case 2:
				lock(xid, number);
				break;
			case 3:
			case 4:
				create(any(9) == 0 ? 0 : xid, number);
				break;
			case 5:
				event.kind = WA_EVENT_SMGR_TRUNCATE;
				event.u.smgr.file.tablespace = 1663;
				event.u.smgr.file.database = 5;
				event.u.smgr.file.number = number;
				next_record(xid, WA_RM_SMGR, 0x20, NULL, 0);
				break;
			case 6:
				database(xid, any(2) ? WA_EVENT_DATABASE_DROP : WA_EVENT_DATABASE_CREATE, 10 + any(3));
				break;
			case 7:
				shared_row(any(4) ? xid : 0, any(2) ? 0x10 : 0x70, any(3), any(3));
				break;
			case 8:
				running(3 + any(60));
				break;
			case 9:
				subxacts[0] = number;
				event.kind = WA_EVENT_HEAP_TRUNCATE;
				event.u.oids.count = 1;
				event.u.oids.array = (const uint8 *) subxacts;
				next_record(xid, WA_RM_HEAP, 0x30, NULL, 0);
				break;
			case 10:
				if (any(20) == 0)
				{
					event.kind = any(2) ? WA_EVENT_CHECKPOINT : WA_EVENT_END_OF_RECOVERY;
					event.u.checkpoint.shutdown = any(2);
					next_record(0, WA_RM_XLOG, 0, NULL, 0);
				}
				else if (any(50) == 0 && !save_and_load())
					CHECK(false, "a state is saved and loaded");
				break;
			case 11:
			{
				/* a record that refers to a block; its headers may be nonsense */
				uint8 bytes[60];

				for (int j = 0; j < sizeof(bytes); j++)
					bytes[j] = any(256);
				bytes[WA_RECORD_HEADER] = any(3) ? 0 : any(256);
				other_record(xid, any(2) ? WA_RM_HEAP : 11, any(256), bytes, WA_RECORD_HEADER + any(30));
				break;
			}
			default:
			{
				static const WaEventKind ends[] = {WA_EVENT_COMMIT, WA_EVENT_COMMIT, WA_EVENT_ABORT,
												   WA_EVENT_COMMIT_PREPARED, WA_EVENT_ABORT_PREPARED, WA_EVENT_PREPARE};
				uint32 n = any(20);
				uint32 m = any(20);

				for (uint32 j = 0; j < n; j++)
					files[j] = 100 + any(40);
				for (uint32 j = 0; j < m; j++)
					gone[j] = any(20) ? 100 + any(40) : 10 + any(3);
				for (int j = 0; j < lengthof(subxacts); j++)
					subxacts[j] = 3 + any(50);
				event.u.xact.subxacts = any(lengthof(subxacts) + 1);
				event.u.xact.subxact_array = (const uint8 *) subxacts;
				end_xact(xid, ends[any(lengthof(ends))], any(100000), files, n, gone, m);
				break;
			}
		}
		told += said;
	}
	CHECK(told > 1000, "events of any content are survived");
	running(3 + 200);
	CHECK(effects->xacts == 0 && effects->unwritten == 0, "... and nothing of them remains");
}

int
main(int argc, char **argv)
{
	effects = malloc(sizeof(WaEffects));
	memset(effects, 0x5A, sizeof(*effects));
	wa_effects_begin(effects);
	lsn = UINT64CONST(0x100000000);
	other_record(699, 11, 0, NULL, 0);
	test_databases();
	test_times();
	test_doubt();
	test_bounds();
	test_anything();
	printf("1..%d\n", tests);
	free(effects);
	return failures > 0;
}
