/*-------------------------------------------------------------------------
 *
 * start_position.c
 *	  Where a receiver begins: which cluster, which timelines, which slot,
 *	  which byte; and what to do when the server no longer has that byte.
 *
 * Part of the receiver process.  What is decided here rests on the archive's
 * directory and on the server's own answers, never on assumptions such as "the
 * next timeline is this one plus one".
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>

#include "../base/wal_name.h"
#include "../state/archive_dir.h"
#include "receiver.h"

#define MAX_CLUSTERS 64
#define MAX_HISTORY_LEN (1024 * 1024)

/* ---- the archive ---- */

void
wa_load_archive(WaReceiver *r)
{
	uint64 clusters[MAX_CLUSTERS];
	int n;

	r->system_identifier = r->settings.system_identifier;
	if (r->system_identifier == 0)
	{
		n = wa_list_clusters(r->name, clusters, MAX_CLUSTERS);
		if (n > 1)
			wa_error(r, WA_CAUSE_SETTINGS,
					 errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("source \"%s\" has archives of %d clusters, and its settings do not say which is the current one",
							r->name, n),
					 errhint("Move the folders of the former clusters out of the source's folder, and back when it streams again."));
		if (n == 1)
			r->system_identifier = clusters[0];
	}
	if (r->system_identifier == 0)
		return;
	wa_wal_path(r->wal_dir, r->name, r->system_identifier);
	if (!wa_read_cluster_file(r->name, r->system_identifier, &r->segment_size))
	{
		/* accepted, and not contacted yet */
		r->segment_size = 0;
		return;
	}
	if (!r->ends_known)
	{
		r->cause = WA_CAUSE_IO;
		r->n_ends = wa_scan_archive(r->wal_dir, r->segment_size, r->ends,
									WA_MAX_TIMELINES);
		if (r->n_ends > WA_MAX_TIMELINES)
			wa_error(r, WA_CAUSE_SETTINGS,
					 errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("directory \"%s\" holds WAL of more than %d timelines",
							r->wal_dir, WA_MAX_TIMELINES));
		r->ends_known = true;
	}
}

void
wa_note_end(WaReceiver *r, TimeLineID tli, XLogRecPtr end)
{
	int i;

	if (!r->ends_known)
		return;
	for (i = 0; i < r->n_ends && r->ends[i].tli < tli; i++)
		;
	if (i == r->n_ends || r->ends[i].tli != tli)
	{
		if (r->n_ends == WA_MAX_TIMELINES)
		{
			r->ends_known = false;
			return;
		}
		memmove(&r->ends[i + 1], &r->ends[i],
				(r->n_ends - i) * sizeof(WaTimelineEnd));
		r->n_ends++;
		r->ends[i].tli = tli;
		r->ends[i].end = end;
	}
	else
		r->ends[i].end = Max(r->ends[i].end, end);
}

static const WaTimelineEnd *
find_end(const WaReceiver *r, TimeLineID tli)
{
	for (int i = 0; i < r->n_ends; i++)
	{
		if (r->ends[i].tli == tli)
			return &r->ends[i];
	}
	return NULL;
}

void
wa_accept_server(void *arg, WaConnection *connection)
{
	WaReceiver *r = arg;
	const WaServer *server = &connection->server;

	if (r->system_identifier != 0 &&
		server->system_identifier != r->system_identifier)
	{
		WA_STAT(r, stat->refused_system_identifier = server->system_identifier;);
		wa_error(r, WA_CAUSE_FOREIGN_CLUSTER,
				 errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server has system identifier " UINT64_FORMAT ", the archive of source \"%s\" belongs to " UINT64_FORMAT,
						server->system_identifier, r->name, r->system_identifier));
	}
	if (r->segment_size != 0 && server->segment_size != r->segment_size)
		wa_error(r, WA_CAUSE_SEGMENT_SIZE,
				 errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server has a segment size of %u bytes, the archive of source \"%s\" one of %u",
						server->segment_size, r->name, r->segment_size));
	if (server->in_recovery && !r->settings.allow_standby)
		wa_error(r, WA_CAUSE_IN_RECOVERY,
				 errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server is in recovery, and source \"%s\" wants a primary", r->name));
	if (r->n_ends > 0 && server->timeline < r->ends[r->n_ends - 1].tli)
		wa_error(r, WA_CAUSE_OLD_TIMELINE,
				 errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server is on timeline %u, the archive of source \"%s\" already on timeline %u",
						server->timeline, r->name, r->ends[r->n_ends - 1].tli));
}

void
wa_prepare_archive(WaReceiver *r)
{
	const WaServer *server = &r->connection->server;

	if (r->segment_size != 0)
		return;
	r->cause = WA_CAUSE_IO;
	wa_write_cluster_file(r->name, server->system_identifier,
						  server->segment_size, server->version);
	r->system_identifier = server->system_identifier;
	r->segment_size = server->segment_size;
	wa_wal_path(r->wal_dir, r->name, r->system_identifier);
	r->n_ends = 0;
	r->ends_known = true;
	wa_receiver_event(r, "cluster", "info", 0, 0, 0, 0, WA_CAUSE_NONE,
					  "archive of cluster " UINT64_FORMAT " begun, segment size %u bytes, server version %d",
					  r->system_identifier, r->segment_size, server->version);
}

/* ---- histories ---- */

/* Keep a history file; one that is there must be the same. */
static void
save_history(WaReceiver *r, TimeLineID tli, const char *content, size_t len)
{
	char name[WA_WAL_NAME_LEN];
	char path[MAXPGPATH * 2];
	char *existing;
	size_t existing_len;

	wa_history_name(name, tli);
	snprintf(path, sizeof(path), "%s/%s", r->wal_dir, name);
	r->cause = WA_CAUSE_IO;
	existing = wa_read_file(path, MAX_HISTORY_LEN, &existing_len);
	if (existing == NULL)
	{
		wa_write_file(path, content, len);
		return;
	}
	if (existing_len != len || memcmp(existing, content, len) != 0)
		wa_error(r, WA_CAUSE_CONFLICT,
				 errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("history of timeline %u differs from what the archive holds", tli),
				 errdetail("The archive holds it in file \"%s\"; nothing was overwritten.", path));
	pfree(existing);
}

static bool
have_history(WaReceiver *r, TimeLineID tli)
{
	char name[WA_WAL_NAME_LEN];
	char path[MAXPGPATH * 2];
	struct stat st;

	wa_history_name(name, tli);
	snprintf(path, sizeof(path), "%s/%s", r->wal_dir, name);
	return stat(path, &st) == 0;
}

void
wa_fetch_histories(WaReceiver *r)
{
	TimeLineID tli = r->connection->server.timeline;
	char *content;
	size_t len;
	const char *problem;

	if (tli == 1)
	{
		(void) wa_history_parse("", 0, 1, &r->history);
		return;
	}
	content = wa_fetch_history(r->connection, tli, &len);
	if (content == NULL)
		wa_error(r, WA_CAUSE_PROTOCOL,
				 errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("server is on timeline %u and does not have its history file", tli),
				 errhint("Copy %08X.history into the server's pg_wal from where it is.", tli));
	problem = wa_history_parse(content, len, tli, &r->history);
	if (problem != NULL)
		wa_error(r, WA_CAUSE_PROTOCOL,
				 errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("history of timeline %u is not valid: %s", tli, problem));
	save_history(r, tli, content, len);

	/* the older ones where the server still has them */
	for (int i = 0; i < r->history.count - 1; i++)
	{
		TimeLineID ancestor = r->history.entry[i].tli;

		if (ancestor == 1 || have_history(r, ancestor))
			continue;
		content = wa_fetch_history(r->connection, ancestor, &len);
		if (content != NULL)
			save_history(r, ancestor, content, len);
	}
}

/* ---- the slot ---- */

XLogRecPtr
wa_ensure_slot(WaReceiver *r)
{
	const char *slot = r->settings.slot_name;
	WaSlotInfo info;

	wa_read_slot(r->connection, slot, &info);
	if (info.exists && !info.physical)
		wa_error(r, WA_CAUSE_SLOT,
				 errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("replication slot \"%s\" is not a physical one", slot),
				 errhint("Give the source another slot_name."));
	if (info.exists && info.restart_lsn != 0)
		return info.restart_lsn;

	/* it was invalidated, or made without reserving WAL */
	if (info.exists)
	{
		wa_drop_slot(r->connection, slot);
		wa_receiver_event(r, "slot_created", "warning", 0, 0, 0, 0, WA_CAUSE_SLOT,
						  "replication slot \"%s\" reserved no WAL and was made anew", slot);
	}
	wa_create_slot(r->connection, slot);
	if (!info.exists)
		wa_receiver_event(r, "slot_created", "info", 0, 0, 0, 0, WA_CAUSE_NONE,
						  "replication slot \"%s\" was created on %s:%d", slot,
						  r->connection->server.host, r->connection->server.port);
	wa_read_slot(r->connection, slot, &info);
	return info.restart_lsn;
}

/* ---- the start ---- */

/* Has the archive a segment, finished or with a partial's name still? */
static bool
segment_exists(WaReceiver *r, TimeLineID tli, uint64 segno)
{
	char name[WA_WAL_NAME_LEN];
	char path[MAXPGPATH * 2];
	struct stat st;

	wa_segment_name(name, tli, segno, r->segment_size);
	snprintf(path, sizeof(path), "%s/%s", r->wal_dir, name);
	if (stat(path, &st) == 0)
		return true;
	wa_partial_name(name, tli, segno, r->segment_size);
	snprintf(path, sizeof(path), "%s/%s", r->wal_dir, name);
	return stat(path, &st) == 0;
}

static void
add_start(WaStartPlan *plan, TimeLineID tli, XLogRecPtr lsn)
{
	for (int i = 0; i < plan->count; i++)
	{
		if (plan->start[i].tli == tli && plan->start[i].lsn == lsn)
			return;
	}
	plan->start[plan->count].tli = tli;
	plan->start[plan->count].lsn = lsn;
	plan->count++;
}

/* Record what the archive holds that is not on the server's path. */
static void
record_divergences(WaReceiver *r, int common)
{
	const WaTimelineEntry *entry = &r->history.entry[common];
	const WaTimelineEnd *end = find_end(r, entry->tli);

	/* once the present timeline is being archived, this has been recorded */
	if (common == r->history.count - 1 ||
		r->diverged_from == r->connection->server.timeline)
		return;
	r->diverged_from = r->connection->server.timeline;
	if (entry->end != 0 && end->end > entry->end &&
		find_end(r, r->history.entry[common + 1].tli) == NULL)
		wa_receiver_event(r, "divergence", "critical", entry->tli, 0,
						  entry->end, end->end, WA_CAUSE_NONE,
						  "timeline %u was left at %X/%X, and the archive holds it up to %X/%X: what lies between was acknowledged by the former primary and is not on the present one; it is kept",
						  entry->tli, LSN_FORMAT_ARGS(entry->end),
						  LSN_FORMAT_ARGS(end->end));
	/* whole timelines that the server's path does not pass through */
	for (int i = 0; i < r->n_ends; i++)
	{
		if (r->ends[i].tli > entry->tli &&
			wa_history_find(&r->history, r->ends[i].tli) == NULL)
			wa_receiver_event(r, "divergence", "critical", r->ends[i].tli, 0,
							  0, r->ends[i].end, WA_CAUSE_NONE,
							  "the server's history does not pass through timeline %u, which the archive holds up to %X/%X; it is kept",
							  r->ends[i].tli, LSN_FORMAT_ARGS(r->ends[i].end));
	}
}

void
wa_choose_start(WaReceiver *r, XLogRecPtr slot_lsn, WaStartPlan *plan)
{
	const WaServer *server = &r->connection->server;
	const WaTimelineEnd *end = NULL;
	const WaTimelineEntry *entry;
	XLogRecPtr floor;
	int i;

	memset(plan, 0, sizeof(*plan));
	if (r->n_ends == 0)
	{
		XLogRecPtr lsn = r->settings.start_lsn != 0 ? r->settings.start_lsn : slot_lsn != 0 ? slot_lsn
																							: server->flushed;

		if (lsn > server->flushed)
			wa_error(r, WA_CAUSE_ARCHIVE_AHEAD,
					 errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("start_lsn %X/%X of source \"%s\" is ahead of the server's WAL, which ends at %X/%X",
							LSN_FORMAT_ARGS(lsn), r->name, LSN_FORMAT_ARGS(server->flushed)));
		plan->archived = wa_segment_floor(lsn, r->segment_size);
		plan->archived_tli = wa_history_timeline_at(&r->history, lsn);
		add_start(plan, plan->archived_tli, plan->archived);
		return;
	}

	/* the newest timeline on the server's path of which the archive has WAL */
	for (i = r->history.count - 1; i >= 0; i--)
	{
		end = find_end(r, r->history.entry[i].tli);
		if (end != NULL)
			break;
	}
	if (end == NULL)
		wa_error(r, WA_CAUSE_UNRELATED_TIMELINE,
				 errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the history of the server's timeline %u does not pass through any timeline of the archive of source \"%s\"",
						server->timeline, r->name));
	entry = &r->history.entry[i];
	record_divergences(r, i);

	plan->archived = entry->end != 0 ? Min(end->end, entry->end) : end->end;
	plan->archived_tli = wa_history_timeline_at(&r->history, plan->archived);
	if (plan->archived > server->flushed && !server->in_recovery)
		wa_error(r, WA_CAUSE_ARCHIVE_AHEAD,
				 errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server's WAL ends at %X/%X, the archive of source \"%s\" holds timeline %u up to %X/%X",
						LSN_FORMAT_ARGS(server->flushed), r->name, entry->tli,
						LSN_FORMAT_ARGS(plan->archived)));

	/*
	 * Begin where there is something to compare: in the segment of the last
	 * archived byte, which at a boundary is the one before.  Only if the
	 * server does not have that any more, at the boundary itself.  That one
	 * may have all of its bytes and not its final name yet, which it gets then.
	 */
	floor = wa_segment_floor(plan->archived, r->segment_size);
	if (floor == plan->archived && floor > 0 &&
		segment_exists(r, entry->tli, wa_segment_of(floor - 1, r->segment_size)))
		add_start(plan, entry->tli, floor - r->segment_size);
	add_start(plan, floor == plan->archived ? plan->archived_tli : entry->tli, floor);
	if (plan->start[0].lsn > server->flushed)
		wa_error(r, WA_CAUSE_ARCHIVE_AHEAD,
				 errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server's WAL ends at %X/%X, the archive of source \"%s\" holds timeline %u up to %X/%X",
						LSN_FORMAT_ARGS(server->flushed), r->name, entry->tli,
						LSN_FORMAT_ARGS(plan->archived)));
}

void
wa_pass_gap(WaReceiver *r, WaStartPlan *plan)
{
	XLogRecPtr from = plan->archived;
	XLogRecPtr oldest;

	if (r->settings.stop_at_gap)
		wa_error(r, WA_CAUSE_WAL_REMOVED,
				 errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server no longer has the WAL at %X/%X that the archive of source \"%s\" needs next",
						LSN_FORMAT_ARGS(from), r->name));

	oldest = wa_oldest_wal(r->settings.conninfo, r->connection, &r->history);
	if (oldest <= from)
	{
		WaSlotInfo info;

		/* the server knows best: a new slot stands at the oldest safe place */
		wa_drop_slot(r->connection, r->settings.slot_name);
		wa_create_slot(r->connection, r->settings.slot_name);
		wa_read_slot(r->connection, r->settings.slot_name, &info);
		oldest = wa_segment_floor(info.restart_lsn, r->segment_size);
	}
	if (oldest <= from)
		wa_error(r, WA_CAUSE_WAL_REMOVED,
				 errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server refuses the WAL at %X/%X that the archive of source \"%s\" needs next, and does not say what it has",
						LSN_FORMAT_ARGS(from), r->name),
				 errhint("Grant the role pg_monitor on the server, so that pg_ls_waldir can be asked."));

	memset(plan, 0, sizeof(*plan));
	plan->archived = oldest;
	plan->archived_tli = wa_history_timeline_at(&r->history, oldest);
	add_start(plan, plan->archived_tli, oldest);
	wa_receiver_event(r, "gap", "critical", plan->archived_tli, 0, from, oldest,
					  WA_CAUSE_WAL_REMOVED,
					  "WAL from %X/%X to %X/%X is missing: the server no longer had it; take a new base backup",
					  LSN_FORMAT_ARGS(from), LSN_FORMAT_ARGS(oldest));
	ereport(WARNING,
			(errmsg("archive of source \"%s\" has a gap from %X/%X to %X/%X on timeline %u",
					r->name, LSN_FORMAT_ARGS(from), LSN_FORMAT_ARGS(oldest),
					plan->archived_tli),
			 errdetail("The server no longer had this WAL."),
			 errhint("Take a new base backup: no recovery can pass the gap.")));
}
