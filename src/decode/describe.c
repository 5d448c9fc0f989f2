/*-------------------------------------------------------------------------
 *
 * describe.c
 *	  Records in words, as pg_waldump has them.  See describe.h.
 *
 *-------------------------------------------------------------------------
 */
#include "describe.h"

#include <time.h>

/* Seconds from 1970 to 2000 */
#define POSTGRES_EPOCH INT64CONST(946684800)

/* A list is cut when the text has become so long, in bytes. */
#define LONG_TEXT (256 * 1024)

#define GLOBAL_TABLESPACE 1664
#define DEFAULT_TABLESPACE 1663

void
wa_describe_time(int64 time, char *text)
{
	int64 seconds = time / 1000000;
	int micros = (int) (time % 1000000);
	time_t t;
	struct tm tm;
	char date[32];
	char zone[16];

	if (micros < 0)
	{
		micros += 1000000;
		seconds--;
	}
	t = (time_t) (seconds + POSTGRES_EPOCH);
	if (localtime_r(&t, &tm) == NULL)
	{
		snprintf(text, WA_TIME_LEN, INT64_FORMAT " microseconds", time);
		return;
	}
	strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
	strftime(zone, sizeof(zone), "%Z", &tm);
	snprintf(text, WA_TIME_LEN, "%s.%06d %s", date, micros, zone);
}

/* PG_VERSION and CATALOG_VERSION_NO of each major, as tablespaces' folders are named */
static const char *
tablespace_version(int major)
{
	switch (major)
	{
		case 15:
			return "PG_15_202209061";
		case 16:
			return "PG_16_202307071";
		case 17:
			return "PG_17_202406281";
		case 18:
			return "PG_18_202506291";
	}
	return "PG";
}

void
wa_describe_file(StringInfo out, int major, const WaRelFile *file)
{
	if (file->tablespace == GLOBAL_TABLESPACE)
		appendStringInfo(out, "global/%u", file->number);
	else if (file->tablespace == DEFAULT_TABLESPACE)
		appendStringInfo(out, "base/%u/%u", file->database, file->number);
	else
		appendStringInfo(out, "pg_tblspc/%u/%s/%u/%u", file->tablespace,
						 tablespace_version(major), file->database, file->number);
}

/* True, once "..." was written, if no more of a list is to be. */
static bool
long_enough(StringInfo out)
{
	if (out->len < LONG_TEXT)
		return false;
	appendStringInfoString(out, " ...");
	return true;
}

static void
describe_xact(StringInfo out, const WaWalRecord *record, const WaWalEvent *event)
{
	const WaXact *x = &event->u.xact;
	char time[WA_TIME_LEN];
	bool prepare = event->kind == WA_EVENT_PREPARE;

	if (prepare)
		appendStringInfo(out, "gid %s: ", x->gid);
	else if (event->kind == WA_EVENT_COMMIT_PREPARED || event->kind == WA_EVENT_ABORT_PREPARED)
		appendStringInfo(out, "%u: ", x->xid);
	wa_describe_time(x->time, time);
	appendStringInfoString(out, time);
	if (x->incomplete)
	{
		appendStringInfoString(out, "; (the record is too long to be kept)");
		return;
	}
	if (x->dropped_files > 0)
	{
		appendStringInfo(out, "; rels%s:", prepare ? "(commit)" : "");
		for (uint32 i = 0; i < x->dropped_files && !long_enough(out); i++)
		{
			WaRelFile file = wa_array_file(x->dropped_file_array, i);

			appendStringInfoChar(out, ' ');
			wa_describe_file(out, record->major, &file);
		}
	}
	if (x->subxacts > 0)
	{
		appendStringInfoString(out, "; subxacts:");
		for (uint32 i = 0; i < x->subxacts && !long_enough(out); i++)
			appendStringInfo(out, " %u", wa_array_xid(x->subxact_array, i));
	}
	if (x->dropped_stats > 0)
	{
		appendStringInfo(out, "; %sdropped stats:", prepare ? "commit " : "");
		for (uint32 i = 0; i < x->dropped_stats && !long_enough(out); i++)
		{
			WaStatsItem item = wa_array_stats(record->major, x->dropped_stats_array, i);

			appendStringInfo(out, " %d/%u/" UINT64_FORMAT, item.kind, item.database, item.object);
		}
	}
	if (x->origin_lsn != 0)
	{
		wa_describe_time(x->origin_time, time);
		appendStringInfo(out, "; origin: lsn %X/%X, at %s", LSN_FORMAT_ARGS(x->origin_lsn), time);
	}
}

static void
describe_checkpoint(StringInfo out, const WaCheckpoint *c)
{
	char text[32];
	struct tm tm;
	time_t t = (time_t) c->time;

	text[0] = '\0';
	if (localtime_r(&t, &tm) != NULL)
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S %Z", &tm);
	appendStringInfo(out, "redo %X/%X; tli %u; prev tli %u; fpw %s; xid %u:%u; oldest xid %u; at %s; %s",
					 LSN_FORMAT_ARGS(c->redo_lsn), c->tli, c->prev_tli, c->full_page_writes ? "true" : "false",
					 (uint32) (c->next_xid >> 32), (uint32) c->next_xid, c->oldest_xid, text,
					 c->shutdown ? "shutdown" : "online");
}

static void
describe_parameters(StringInfo out, const WaParameters *p)
{
	static const char *const levels[] = {"minimal", "replica", "logical"};

	appendStringInfo(out, "max_connections=%d max_worker_processes=%d max_wal_senders=%d max_prepared_xacts=%d "
						  "max_locks_per_xact=%d wal_level=%s wal_log_hints=%s track_commit_timestamp=%s",
					 p->max_connections, p->max_worker_processes, p->max_wal_senders, p->max_prepared_xacts,
					 p->max_locks_per_xact, p->wal_level >= 0 && p->wal_level < 3 ? levels[p->wal_level] : "?",
					 p->wal_log_hints ? "on" : "off", p->track_commit_timestamp ? "on" : "off");
}

void
wa_describe_event(StringInfo out, const WaWalRecord *record, const WaWalEvent *event)
{
	char time[WA_TIME_LEN];

	switch (event->kind)
	{
		case WA_EVENT_NONE:
		case WA_EVENT_SWITCH:
		case WA_EVENT_CHECKPOINT_REDO:
			break;
		case WA_EVENT_INVALID:
			appendStringInfoString(out, "(makes no sense)");
			break;
		case WA_EVENT_COMMIT:
		case WA_EVENT_ABORT:
		case WA_EVENT_PREPARE:
		case WA_EVENT_COMMIT_PREPARED:
		case WA_EVENT_ABORT_PREPARED:
			describe_xact(out, record, event);
			break;
		case WA_EVENT_RESTORE_POINT:
			appendStringInfoString(out, event->u.restore_point.name);
			break;
		case WA_EVENT_CHECKPOINT:
			describe_checkpoint(out, &event->u.checkpoint);
			break;
		case WA_EVENT_END_OF_RECOVERY:
			wa_describe_time(event->u.end_of_recovery.time, time);
			appendStringInfo(out, "tli %u; prev tli %u; time %s", event->u.end_of_recovery.tli,
							 event->u.end_of_recovery.prev_tli, time);
			break;
		case WA_EVENT_PARAMETER_CHANGE:
			describe_parameters(out, &event->u.parameters);
			break;
		case WA_EVENT_FPW_CHANGE:
			appendStringInfoString(out, event->u.full_page_writes ? "true" : "false");
			break;
		case WA_EVENT_BACKUP_END:
			appendStringInfo(out, "%X/%X", LSN_FORMAT_ARGS(event->u.backup_start));
			break;
		case WA_EVENT_OVERWRITE_CONTRECORD:
			appendStringInfo(out, "lsn %X/%X", LSN_FORMAT_ARGS(event->u.overwritten_lsn));
			break;
		case WA_EVENT_SMGR_CREATE:
			wa_describe_file(out, record->major, &event->u.smgr.file);
			if (event->u.smgr.flags != 0)
				appendStringInfo(out, " fork %d", event->u.smgr.flags);
			break;
		case WA_EVENT_SMGR_TRUNCATE:
			wa_describe_file(out, record->major, &event->u.smgr.file);
			appendStringInfo(out, " to %u blocks flags %d", event->u.smgr.block, event->u.smgr.flags);
			break;
		case WA_EVENT_HEAP_TRUNCATE:
			if ((event->u.oids.flags & 1) != 0)
				appendStringInfoString(out, "cascade ");
			if ((event->u.oids.flags & 2) != 0)
				appendStringInfoString(out, "restart_seqs ");
			appendStringInfo(out, "nrelids %u relids", event->u.oids.count);
			for (uint32 i = 0; i < event->u.oids.count && !long_enough(out); i++)
				appendStringInfo(out, " %u", wa_array_oid(event->u.oids.array, i));
			break;
		case WA_EVENT_DATABASE_CREATE:
			if (event->u.object.template_database != 0)
				appendStringInfo(out, "copy of database %u to %u/%u", event->u.object.template_database,
								 event->u.object.tablespace, event->u.object.database);
			else
				appendStringInfo(out, "create dir %u/%u", event->u.object.tablespace, event->u.object.database);
			break;
		case WA_EVENT_DATABASE_DROP:
			appendStringInfoString(out, "dir");
			for (uint32 i = 0; i < event->u.oids.count && !long_enough(out); i++)
				appendStringInfo(out, " %u/%u", wa_array_oid(event->u.oids.array, i), event->u.oids.database);
			break;
		case WA_EVENT_TABLESPACE_CREATE:
		case WA_EVENT_TABLESPACE_DROP:
			appendStringInfo(out, "%u", event->u.object.tablespace);
			break;
		case WA_EVENT_LOCK:
			for (uint32 i = 0; i < event->u.locks.count && !long_enough(out); i++)
			{
				TransactionId xid;
				Oid database;
				Oid relation;

				wa_array_lock(event->u.locks.array, i, &xid, &database, &relation);
				appendStringInfo(out, "%sxid %u db %u rel %u", i > 0 ? " " : "", xid, database, relation);
			}
			break;
	}
}

void
wa_describe_blocks(StringInfo out, const WaRecordParts *parts)
{
	static const char *const forks[] = {"main", "fsm", "vm", "init"};

	for (int i = 0; i < parts->blocks; i++)
	{
		const WaBlockRef *b = &parts->block[i];

		appendStringInfo(out, "%sblkref #%u: rel %u/%u/%u", i > 0 ? ", " : "", b->id, b->file.tablespace,
						 b->file.database, b->file.number);
		if (b->fork > 0)
			appendStringInfo(out, " fork %s", b->fork < lengthof(forks) ? forks[b->fork] : "?");
		appendStringInfo(out, " blk %u", b->block);
		if (b->has_image)
			appendStringInfoString(out, b->apply_image ? " FPW" : " FPW for WAL verification");
	}
}
