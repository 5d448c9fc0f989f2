/*-------------------------------------------------------------------------
 *
 * backup_wal.c
 *	  A base backup and the archived WAL that it needs: is it there, is it
 *	  coming, and when has it come.
 *
 * What is known of the WAL is read from shared memory and from the names in
 * the archive's folder: this process is attached to no database.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "../base/wal_name.h"
#include "../settings.h"
#include "../state/archive_dir.h"
#include "../state/shmem.h"
#include "backup_worker.h"

/* How long a source may be connecting, or be behind on an older timeline. */
#define PATIENCE_MS 20000

/* More segments than this are not looked at one by one. */
#define MAX_SEGMENTS_LOOKED_AT 100000

/* How long the catalog is waited for. */
#define ROW_MS 10000

#define MAX_HISTORY_LEN (1024 * 1024)

/* Sleep for 'ms' unless something happens; interrupts are taken. */
static void
nap(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/* The source's receiver as it is now; raises an error where there is none. */
static void
read_receiver(WaBackup *b, WaSlotControl *control, WaReceiverStat *stat)
{
	int slot = wa_find_slot(b->request.source);

	if (slot < 0)
		wa_backup_error(b, "not_streaming",
						errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("source \"%s\" is not archived by this server", b->request.source),
						errhint("A backup is of use only with the WAL that is written while it is taken: see walarchive.health."));
	wa_read_control(slot, control);
	wa_read_stat(slot, stat);
}

static bool
is_streaming(const WaReceiverStat *stat)
{
	return stat->state == WA_STATE_STREAMING || stat->state == WA_STATE_CATCHUP;
}

void
wa_check_streaming(WaBackup *b)
{
	TimestampTz limit = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PATIENCE_MS);
	WaSlotControl *control = palloc(sizeof(WaSlotControl));
	WaReceiverStat *stat = palloc(sizeof(WaReceiverStat));

	for (;;)
	{
		read_receiver(b, control, stat);
		if (is_streaming(stat) && stat->system_identifier != 0)
			break;
		if (control->desired != WA_DESIRED_ACTIVE || stat->state == WA_STATE_STOPPED ||
			GetCurrentTimestamp() >= limit)
			wa_backup_error(b, "not_streaming",
							errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("source \"%s\" is not streaming: it is %s", b->request.source,
								   control->desired == WA_DESIRED_ACTIVE ? wa_receiver_state_name(stat->state) : wa_desired_state_name(control->desired)),
							stat->cause != WA_CAUSE_NONE ? errdetail("%s", stat->last_error) : 0,
							errhint("A backup is of use only with the WAL that is written while it is taken: see walarchive.health."));
		nap(100);
	}
	pfree(control);
	pfree(stat);
}

/* ---- timelines ---- */

/* The path that leads to 'tli', by a history file in the archive; false if it is missing or damaged. */
static bool
read_archived_history(WaBackup *b, TimeLineID tli, WaHistory *history)
{
	char dir[MAXPGPATH];
	char path[MAXPGPATH];
	char name[WA_WAL_NAME_LEN];
	char *text;
	size_t len;
	bool ok;

	if (tli == 1)
		return wa_history_parse("", 0, 1, history) == NULL;
	wa_wal_path(dir, b->request.source, b->info.system_identifier);
	wa_history_name(name, tli);
	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path))
		return false;
	text = wa_read_file(path, MAX_HISTORY_LEN, &len);
	if (text == NULL)
		return false;
	ok = wa_history_parse(text, len, tli, history) == NULL;
	pfree(text);
	return ok;
}

void
wa_server_history(WaBackup *b, WaHistory *history)
{
	TimeLineID tli = b->connection->server.timeline;
	const char *problem;
	char *text = NULL;
	size_t len = 0;

	if (tli > 1)
	{
		text = wa_fetch_history(b->connection, tli, &len);
		if (text == NULL)
			wa_backup_error(b, "timeline",
							errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("the server lacks the history file of its timeline %u", tli));
	}
	problem = wa_history_parse(text ? text : "", len, tli, history);
	if (problem != NULL)
		wa_backup_error(b, "protocol_violation",
						errcode(ERRCODE_PROTOCOL_VIOLATION),
						errmsg("the server's history file of timeline %u is not valid: %s", tli, problem));
	if (text)
		pfree(text);
}

/* ---- is it there ---- */

/* Is the segment in the archive, whole or being received? */
static bool
have_segment(const char *dir, TimeLineID tli, uint64 segno, uint32 segment_size)
{
	char path[MAXPGPATH];
	char name[WA_WAL_NAME_LEN];
	struct stat st;

	wa_segment_name(name, tli, segno, segment_size);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (stat(path, &st) == 0)
		return true;
	wa_partial_name(name, tli, segno, segment_size);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return stat(path, &st) == 0;
}

bool
wa_archived_wal_is_there(WaBackup *b, const WaHistory *history, XLogRecPtr from, XLogRecPtr to, char *missing)
{
	uint32 size = b->connection->server.segment_size;
	uint64 first = wa_segment_of(from, size);
	uint64 last = wa_segment_of(to > 0 ? to - 1 : 0, size);
	char dir[MAXPGPATH];

	wa_wal_path(dir, b->request.source, b->info.system_identifier);
	for (uint64 i = first; i <= last && i - first < MAX_SEGMENTS_LOOKED_AT; i++)
	{
		XLogRecPtr end = Min(wa_segment_start(i + 1, size), to);
		/* a segment with a switch in it has the child's name, and the parent's too */
		TimeLineID tli = wa_history_timeline_at(history, Max(from, end - 1));

		CHECK_FOR_INTERRUPTS();
		if (!have_segment(dir, tli, i, size))
		{
			wa_segment_name(missing, tli, i, size);
			return false;
		}
	}
	return true;
}

void
wa_check_coverage(WaBackup *b)
{
	TimestampTz limit = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PATIENCE_MS);
	WaSlotControl *control = palloc(sizeof(WaSlotControl));
	WaReceiverStat *stat = palloc(sizeof(WaReceiverStat));
	WaHistory *history = palloc(sizeof(WaHistory));
	char name[WA_WAL_NAME_LEN];

	/* after a failover the archive may be about to follow */
	for (;;)
	{
		read_receiver(b, control, stat);
		if (stat->system_identifier == b->info.system_identifier &&
			stat->received_tli >= b->info.tli)
			break;
		if (control->desired != WA_DESIRED_ACTIVE || stat->state == WA_STATE_STOPPED ||
			(stat->system_identifier != 0 && stat->system_identifier != b->info.system_identifier) ||
			GetCurrentTimestamp() >= limit)
			wa_backup_error(b, "not_archived",
							errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("the backup starts on timeline %u, and the archive of source \"%s\" is on timeline %u",
								   b->info.tli, b->request.source, stat->received_tli),
							errhint("Take the backup from a server whose WAL is archived."));
		nap(100);
	}

	if (!read_archived_history(b, stat->received_tli, history) ||
		wa_history_find(history, b->info.tli) == NULL ||
		wa_history_timeline_at(history, b->info.start_lsn) != b->info.tli)
		wa_backup_error(b, "not_archived",
						errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the backup starts at %X/%X on timeline %u, where the archive's timeline %u does not come from",
							   LSN_FORMAT_ARGS(b->info.start_lsn), b->info.tli, stat->received_tli),
						errhint("Take the backup from a server whose WAL is archived."));

	/* up to what was received, which may still lie before it */
	if (!wa_archived_wal_is_there(b, history, b->info.start_lsn, stat->flushed_lsn, name))
		wa_backup_error(b, "not_archived",
						errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the archive lacks WAL that the backup needs: it starts at %X/%X, and segment \"%s\" is missing",
							   LSN_FORMAT_ARGS(b->info.start_lsn), name),
						errhint("If the backup is taken from a standby, wait until that has made a restartpoint after the gap, or take it from the primary."));
	pfree(control);
	pfree(stat);
	pfree(history);
}

/* ---- has it come ---- */

static bool
wal_has_come(WaBackup *b, WaHistory *history)
{
	int slot = wa_find_slot(b->request.source);
	WaSlotControl control;
	WaIndexStat index;
	const WaTimelineEntry *entry;

	if (slot < 0)
		return false;
	wa_read_control(slot, &control);
	wa_read_index(slot, &index);
	if (index.generation != control.generation ||
		index.system_identifier != b->info.system_identifier ||
		index.decoded_lsn < b->info.stop_lsn)
		return false;
	if (index.tli == b->info.stop_tli)
		return true;
	/* a switch came after the backup's end, or the archive went elsewhere */
	if (index.tli < b->info.stop_tli || !read_archived_history(b, index.tli, history))
		return false;
	entry = wa_history_find(history, b->info.stop_tli);
	return entry != NULL && entry->end >= b->info.stop_lsn;
}

/*
 * What comes next may need the backup's row, and that it is called usable.  The
 * backup is good without it: a catalog that is locked or broken is not waited
 * for any longer than ROW_MS.
 */
static void
wait_for_row(WaBackup *b)
{
	TimestampTz limit = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ROW_MS);
	uint64 written = wa_tell_indexer(b);
	int slot;

	while ((slot = wa_find_slot(b->request.source)) >= 0 &&
		   pg_atomic_read_u64(&wa_shared->slot[slot].backups_judged) < written &&
		   wa_max_indexers > 0 && GetCurrentTimestamp() < limit)
		nap(20);
}

void
wa_wait_for_wal(WaBackup *b)
{
	WaHistory *history = palloc(sizeof(WaHistory));

	while (!wal_has_come(b, history))
		nap(50);
	pfree(history);
	wait_for_row(b);
}
