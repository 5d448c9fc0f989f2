/*-------------------------------------------------------------------------
 *
 * archive_dir_walk.c
 *	  The planner's questions about records, answered by reading a bare
 *	  archive directory.
 *
 * Nothing that was read is kept, so memory is bounded however large the archive
 * is: each question is a walk of its own, and what comes last is looked for
 * from behind, a segment at a time.  A walk checks all that it reads.  Where it
 * meets a segment that is bad it notes that, and the plan is made anew.
 *
 *-------------------------------------------------------------------------
 */
#include "archive_dir.h"

typedef enum FindWhat
{
	FIND_TIME,
	FIND_TIME_OR_EQUAL,
	FIND_XID,
	FIND_NAME, /* all of them: the first, and how many */
	FIND_RECORD,
	FIND_LAST_RECORD,
	FIND_LAST_XACT,
	FIND_LAST_COMMIT,
	FIND_NOTHING
} FindWhat;

typedef struct Find
{
	WaWalk *walk;
	FindWhat what;
	int64 time;
	TransactionId xid;
	const char *name;
	XLogRecPtr lsn;
	XLogRecPtr to; /* records that end behind do not count */
	WaPlanRecord *record;
	int found;
	DirGathered *gathered;
	XLogRecPtr upto;
} Find;

/* ---- one record ---- */

static bool
ends_xact(WaEventKind kind)
{
	return kind == WA_EVENT_COMMIT || kind == WA_EVENT_ABORT || kind == WA_EVENT_COMMIT_PREPARED ||
		   kind == WA_EVENT_ABORT_PREPARED;
}

static void
gather_prepared(DirGathered *g, const WaWalEvent *event)
{
	if (event->kind == WA_EVENT_PREPARE)
	{
		if (g->nprepared == g->room)
		{
			g->room = Max(g->room * 2, 16);
			g->prepared = pg_realloc(g->prepared, g->room * sizeof(g->prepared[0]));
		}
		g->prepared[g->nprepared].xid = event->u.xact.xid;
		strlcpy(g->prepared[g->nprepared++].gid, event->u.xact.gid, WA_GID_LEN);
		return;
	}
	for (int i = 0; i < g->nprepared; i++)
	{
		if (g->prepared[i].xid == event->u.xact.xid)
			g->prepared[i--] = g->prepared[--g->nprepared];
	}
}

static void
gather_parameters(DirGathered *g, const WaParameters *p)
{
	WaParameters *all = &g->parameters;

	if (!g->has_parameters || g->before)
		*all = *p;
	g->has_parameters = true;
	all->max_connections = Max(all->max_connections, p->max_connections);
	all->max_worker_processes = Max(all->max_worker_processes, p->max_worker_processes);
	all->max_wal_senders = Max(all->max_wal_senders, p->max_wal_senders);
	all->max_prepared_xacts = Max(all->max_prepared_xacts, p->max_prepared_xacts);
	all->max_locks_per_xact = Max(all->max_locks_per_xact, p->max_locks_per_xact);
}

/* One without a path is in the data directory, wherever that is. */
static void
gather_tablespace(DirGathered *g, const WaWalRecord *record, const WaWalEvent *event)
{
	ArchiveTablespace *space;

	if (g->before || event->u.object.path_len == 0)
		return;
	g->tablespaces = pg_realloc(g->tablespaces, (g->ntablespaces + 1) * sizeof(ArchiveTablespace));
	space = &g->tablespaces[g->ntablespaces++];
	space->oid = psprintf("%u", event->u.object.tablespace);
	space->path = psprintf("%.*s", (int) event->u.object.path_len, (const char *) event->u.object.path);
	space->lsn = record->start_lsn;
}

static void
show(Find *f, const WaWalRecord *record, const WaWalEvent *event)
{
	*f->record = (WaPlanRecord){f->walk->tli, record->start_lsn, record->end_lsn, record->prev_lsn};
	f->record->prepare = event->kind == WA_EVENT_PREPARE;
	if (ends_xact(event->kind))
	{
		f->record->commit = event->kind == WA_EVENT_COMMIT || event->kind == WA_EVENT_COMMIT_PREPARED;
		f->record->xid = event->u.xact.xid;
		f->record->time = event->u.xact.time;
	}
	else if (event->kind == WA_EVENT_RESTORE_POINT)
		f->record->time = event->u.restore_point.time;
}

static bool
see_record(void *arg, const WaWalRecord *record)
{
	Find *f = arg;
	WaWalEvent event;
	bool match = false;

	if (record->end_lsn > f->to)
		return false;
	event.kind = WA_EVENT_NONE;
	if (wa_event_record(record->rmid, record->info) && wa_decode_event(record, &event) == WA_EVENT_INVALID)
	{
		wa_walk_refuse(f->walk, record, WA_DAMAGE_RECORD, "a record's content makes no sense");
		return false;
	}
	if (f->gathered != NULL && event.kind == WA_EVENT_PARAMETER_CHANGE)
		gather_parameters(f->gathered, &event.u.parameters);
	if (f->gathered != NULL && record->end_lsn <= f->upto &&
		(event.kind == WA_EVENT_PREPARE || event.kind == WA_EVENT_COMMIT_PREPARED || event.kind == WA_EVENT_ABORT_PREPARED))
		gather_prepared(f->gathered, &event);
	if (f->gathered != NULL && record->end_lsn <= f->upto && event.kind == WA_EVENT_TABLESPACE_CREATE)
		gather_tablespace(f->gathered, record, &event);
	switch (f->what)
	{
		case FIND_TIME:
			match = ends_xact(event.kind) && event.u.xact.time > f->time;
			break;
		case FIND_TIME_OR_EQUAL:
			match = ends_xact(event.kind) && event.u.xact.time >= f->time;
			break;
		case FIND_XID:
			match = ends_xact(event.kind) && event.u.xact.xid == f->xid;
			break;
		case FIND_NAME:
			if (event.kind == WA_EVENT_RESTORE_POINT && strcmp(event.u.restore_point.name, f->name) == 0 &&
				f->found++ == 0)
				show(f, record, &event);
			break;
		case FIND_RECORD:
			match = record->start_lsn >= f->lsn;
			break;
		case FIND_LAST_RECORD:
			f->found++;
			show(f, record, &event);
			break;
		case FIND_LAST_XACT:
		case FIND_LAST_COMMIT:
			if (event.kind == WA_EVENT_COMMIT || event.kind == WA_EVENT_COMMIT_PREPARED ||
				(ends_xact(event.kind) && f->what == FIND_LAST_XACT))
			{
				f->found++;
				show(f, record, &event);
			}
			break;
		case FIND_NOTHING:
			break;
	}
	if (!match)
		return true;
	f->found++;
	show(f, record, &event);
	return false;
}

/* ---- walks ---- */

/* The timeline whose file has the segment at 'start' on this path. */
static TimeLineID
file_timeline(const DirArchive *d, const WaHistory *path, XLogRecPtr start)
{
	int i = path->count - 1;

	while (i > 0 && path->entry[i].begin >= start + d->segment_size)
		i--;
	return path->entry[i].tli;
}

/* Read [from, to) of the path for 'f'. */
static WaSearchStatus
walk_range(DirArchive *d, const WaHistory *path, XLogRecPtr from, XLogRecPtr to, Find *f, char *text)
{
	WaWalk *walk = pg_malloc(sizeof(WaWalk));
	WaPathEntry *entry = pg_malloc(path->count * sizeof(WaPathEntry));
	WaSearchStatus status = WA_SEARCH_NONE;

	for (int i = 0; i < path->count; i++)
		entry[i] = (WaPathEntry){path->entry[i].tli, path->entry[i].begin};
	wa_walk_init(walk);
	walk->dir = &d->dir;
	walk->path = entry;
	walk->path_len = path->count;
	walk->from = from;
	walk->until = to;
	walk->keep = wa_event_record;
	walk->record = see_record;
	walk->arg = f;
	f->walk = walk;
	f->to = to;
	wa_walk(walk);
	switch (walk->result)
	{
		case WA_DECODE_DONE:
			break;
		case WA_DECODE_MISSING:
			/* behind the last record there need be nothing */
			if (walk->missing_lsn + d->segment_size >= to)
				break;
			snprintf(text, WA_PLAN_TEXT_LEN, "%s", walk->text);
			status = WA_SEARCH_FAILED;
			break;
		case WA_DECODE_DAMAGED:
		case WA_DECODE_UNKNOWN:
		{
			bool damaged = walk->result == WA_DECODE_DAMAGED;
			XLogRecPtr start = damaged ? walk->damage.segment_lsn : walk->next_lsn;
			TimeLineID tli = damaged ? walk->damage.tli : file_timeline(d, path, start);

			snprintf(text, WA_PLAN_TEXT_LEN, "%s", walk->text);
			(void) archive_dir_add_bad(d, tli, start, damaged ? WA_RUN_DAMAGE : WA_RUN_UNKNOWN);
			status = WA_SEARCH_FAILED;
			break;
		}
		default:
			snprintf(text, WA_PLAN_TEXT_LEN, "could not read WAL: %s", walk->text);
			status = WA_SEARCH_FAILED;
	}
	pg_free(entry);
	pg_free(walk);
	if (status == WA_SEARCH_NONE && f->found > 0)
		status = WA_SEARCH_FOUND;
	return status;
}

/* The same from behind, a segment at a time: for what comes last. */
static WaSearchStatus
walk_back(DirArchive *d, const WaPlanRange *range, Find *f, char *text)
{
	XLogRecPtr to = range->to;

	while (to > range->from)
	{
		XLogRecPtr from = Max(wa_segment_floor(to - 1, d->segment_size), range->from);
		/* records that start here may end behind */
		WaSearchStatus status = walk_range(d, range->path, from, range->to, f, text);

		if (status != WA_SEARCH_NONE)
			return status;
		to = from;
	}
	return WA_SEARCH_NONE;
}

static WaSearchStatus
find_time(void *arg, const WaPlanRange *range, int64 time, bool or_equal, WaPlanRecord *record, char *text)
{
	Find f = {.what = or_equal ? FIND_TIME_OR_EQUAL : FIND_TIME, .time = time, .record = record};

	return walk_range(arg, range->path, range->from, range->to, &f, text);
}

static WaSearchStatus
find_xid(void *arg, const WaPlanRange *range, TransactionId xid, WaPlanRecord *record, char *text)
{
	Find f = {.what = FIND_XID, .xid = xid, .record = record};

	return walk_range(arg, range->path, range->from, range->to, &f, text);
}

static WaSearchStatus
find_name(void *arg, const WaPlanRange *range, const char *name, WaPlanRecord *record, int *count, char *text)
{
	Find f = {.what = FIND_NAME, .name = name, .record = record};
	WaSearchStatus status = walk_range(arg, range->path, range->from, range->to, &f, text);

	*count = f.found;
	return status;
}

static WaSearchStatus
find_record(void *arg, const WaPlanRange *range, XLogRecPtr lsn, WaPlanRecord *record, char *text)
{
	DirArchive *d = arg;
	Find f = {.what = FIND_RECORD, .lsn = lsn, .record = record};

	if (lsn >= range->to)
		return WA_SEARCH_NONE;
	return walk_range(d, range->path, Max(range->from, wa_segment_floor(lsn, d->segment_size)), range->to, &f, text);
}

static WaSearchStatus
find_last_record(void *arg, const WaPlanRange *range, WaPlanRecord *record, char *text)
{
	Find f = {.what = FIND_LAST_RECORD, .record = record};

	return walk_back(arg, range, &f, text);
}

static WaSearchStatus
find_last_xact(void *arg, const WaPlanRange *range, bool commits, WaPlanRecord *record, char *text)
{
	Find f = {.what = commits ? FIND_LAST_COMMIT : FIND_LAST_XACT, .record = record};

	return walk_back(arg, range, &f, text);
}

void
archive_dir_search(DirArchive *d, WaPlanSearch *search)
{
	search->arg = d;
	search->time = find_time;
	search->xid = find_xid;
	search->name = find_name;
	search->record = find_record;
	search->last_record = find_last_record;
	search->last_xact = find_last_xact;
}

WaSearchStatus
archive_dir_check(DirArchive *d, const WaPlanRange *range, XLogRecPtr upto, DirGathered *gathered, char *text)
{
	Find f = {.what = FIND_NOTHING, .gathered = gathered, .upto = upto};

	return walk_range(d, range->path, range->from, range->to, &f, text);
}

/* ---- ends ---- */

static bool
see_any(void *arg, const WaWalRecord *record)
{
	return true;
}

ArchiveStatus
archive_dir_find_end(DirArchive *d, TimeLineID tli, XLogRecPtr begin, XLogRecPtr start, XLogRecPtr *end,
					 bool *bad)
{
	WaWalk *walk = pg_malloc(sizeof(WaWalk));
	WaPathEntry entry = {tli, begin};
	ArchiveStatus status = ARCHIVE_OK;

	wa_walk_init(walk);
	walk->dir = &d->dir;
	walk->path = &entry;
	walk->path_len = 1;
	walk->from = Max(start, begin);
	walk->until = start + d->segment_size;
	walk->record = see_any;
	wa_walk(walk);
	*bad = false;
	*end = Min(walk->next_lsn, walk->until);
	switch (walk->result)
	{
		case WA_DECODE_DONE:
		case WA_DECODE_MISSING:
			break;
		case WA_DECODE_DAMAGED:
		case WA_DECODE_UNKNOWN:
			/* the record that goes on in the next segment is not whole: that is not this one's fault */
			if (walk->result == WA_DECODE_DAMAGED && walk->damage.segment_lsn != start)
				break;
			*bad = true;
			(void) archive_dir_add_bad(d, tli, start, walk->result == WA_DECODE_DAMAGED ? WA_RUN_DAMAGE : WA_RUN_UNKNOWN);
			break;
		default:
			status = archive_error(&d->base, ARCHIVE_FAILED, NULL, "could not read \"%s\": %s", d->wal_path, walk->text);
	}
	pg_free(walk);
	return status;
}

ArchiveStatus
archive_dir_check_segment(DirArchive *d, TimeLineID tli, XLogRecPtr start, XLogRecPtr until, WalFileInfo *info)
{
	WaWalk *walk = pg_malloc(sizeof(WaWalk));
	WaPathEntry *entry = pg_malloc(d->path->count * sizeof(WaPathEntry));
	ArchiveStatus status = ARCHIVE_OK;

	wa_walk_init(walk);
	/* up to this timeline: of a segment that more than one has entered the newest one's file would be read */
	do
	{
		const WaTimelineEntry *from = &d->path->entry[walk->path_len];

		entry[walk->path_len++] = (WaPathEntry){from->tli, from->begin};
	} while (entry[walk->path_len - 1].tli != tli && walk->path_len < d->path->count);
	walk->dir = &d->dir;
	walk->path = entry;
	walk->from = start;
	walk->until = until;
	/* behind a fork there may be anything */
	walk->end = until < start + d->segment_size ? until : 0;
	walk->record = see_any;
	wa_walk(walk);
	switch (walk->result)
	{
		case WA_DECODE_DONE:
		case WA_DECODE_MISSING:
		case WA_DECODE_UNKNOWN:
			break;
		case WA_DECODE_DAMAGED:
			/* if the last one goes on in the next segment, that is found when it is asked for */
			if (walk->damage.segment_lsn != start)
				break;
			info->state = WAL_FILE_DAMAGED;
			snprintf(info->detail, sizeof(info->detail), "\"%s\" is damaged at %X/%X: %s", walk->damage.name,
					 LSN_FORMAT_ARGS(walk->damage.lsn != 0 ? walk->damage.lsn : start), walk->damage.text);
			break;
		default:
			status = archive_error(&d->base, ARCHIVE_FAILED, NULL, "could not read \"%s\": %s", d->wal_path, walk->text);
	}
	pg_free(entry);
	pg_free(walk);
	return status;
}
