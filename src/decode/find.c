/*-------------------------------------------------------------------------
 *
 * find.c
 *	  The request "find": one record of a range, and what came before it.
 *
 * A plan of a recovery asks for the record at which it stops.  What was replayed
 * last before that, which prepared transactions are open there, and which settings
 * of the server were changed, comes with the same reading.
 *
 *-------------------------------------------------------------------------
 */
#include "request.h"

#include "../base/flat_json.h"
#include "../base/wal_event.h"

typedef struct Prepared
{
	WaMsgFound found;
	char gid[WA_GID_LEN];
} Prepared;

typedef struct Find
{
	WaOutput *out;
	WaWalk walk;
	WaMsgEnd end;

	/* what is looked for */
	bool by_time;
	bool or_equal;
	bool by_xid;
	bool by_name;
	bool any; /* the first record */
	int64 time;
	TransactionId xid;
	char name[256];
	XLogRecPtr within; /* 0: no bound */

	/* what came by; role 0: none */
	WaMsgFound match;
	WaMsgFound last_record;
	WaMsgFound last_xact;
	WaMsgFound last_commit;
	Prepared *prepared;
	int nprepared;
	int allocated;
	bool no_memory;
} Find;

static bool
find_event(uint8 rmid, uint8 info)
{
	return (rmid == WA_RM_XACT || rmid == WA_RM_XLOG) && wa_event_record(rmid, info);
}

static void
fill(WaMsgFound *m, WaFoundRole role, const Find *find, const WaWalRecord *record,
	 const WaWalEvent *event)
{
	memset(m, 0, sizeof(*m));
	m->role = role;
	m->kind = event->kind;
	m->tli = find->walk.tli;
	m->start_lsn = record->start_lsn;
	m->end_lsn = record->end_lsn;
	m->prev_lsn = record->prev_lsn;
	if (event->kind == WA_EVENT_RESTORE_POINT)
	{
		m->xid = record->xid;
		m->time = event->u.restore_point.time;
	}
	else if (event->kind != WA_EVENT_NONE)
	{
		m->xid = event->u.xact.xid;
		m->time = event->u.xact.time;
	}
	else
		m->xid = record->xid;
}

/* Returns false if there is no memory. */
static bool
note_prepared(Find *find, const WaWalRecord *record, const WaWalEvent *event)
{
	Prepared *p;

	if (find->nprepared == find->allocated)
	{
		int n = Max(64, find->allocated * 2);

		p = realloc(find->prepared, n * sizeof(Prepared));
		if (p == NULL)
			return false;
		find->prepared = p;
		find->allocated = n;
	}
	p = &find->prepared[find->nprepared++];
	fill(&p->found, WA_FOUND_PREPARED, find, record, event);
	strlcpy(p->gid, event->u.xact.gid, sizeof(p->gid));
	return true;
}

/* It ends here; one that began before the range is told at once. */
static void
note_finished(Find *find, const WaWalRecord *record, const WaWalEvent *event)
{
	WaMsgFound m;

	for (int i = find->nprepared - 1; i >= 0; i--)
	{
		if (find->prepared[i].found.xid == event->u.xact.xid)
		{
			find->prepared[i] = find->prepared[--find->nprepared];
			return;
		}
	}
	fill(&m, WA_FOUND_FINISHED, find, record, event);
	wa_out_message(find->out, WA_MSG_FOUND, &m, sizeof(m), NULL, 0);
}

static void
tell_settings(Find *find, const WaWalRecord *record, const WaWalEvent *event)
{
	const WaParameters *p = &event->u.parameters;
	WaMsgFound m;
	char text[128];

	memset(&m, 0, sizeof(m));
	m.role = WA_FOUND_SETTINGS;
	m.kind = WA_EVENT_NONE;
	m.tli = find->walk.tli;
	m.start_lsn = record->start_lsn;
	m.end_lsn = record->end_lsn;
	m.prev_lsn = record->prev_lsn;
	/* what is negative is no setting */
	m.gid_len = snprintf(text, sizeof(text), "%d %d %d %d %d", Max(p->max_connections, 0), Max(p->max_worker_processes, 0),
						 Max(p->max_wal_senders, 0), Max(p->max_prepared_xacts, 0), Max(p->max_locks_per_xact, 0));
	wa_out_message(find->out, WA_MSG_FOUND, &m, sizeof(m), text, m.gid_len);
}

static bool
is_match(const Find *find, const WaWalEvent *event, bool ends)
{
	if (find->any)
		return true;
	if (find->by_name)
		return event->kind == WA_EVENT_RESTORE_POINT && strcmp(event->u.restore_point.name, find->name) == 0;
	if (!ends)
		return false;
	if (find->by_time)
		return event->u.xact.time > find->time || (find->or_equal && event->u.xact.time == find->time);
	return find->by_xid && event->u.xact.xid == find->xid;
}

static bool
find_record(void *arg, const WaWalRecord *record)
{
	Find *find = arg;
	WaWalEvent event;
	bool commit;
	bool ends;

	if (find->within != 0 && record->end_lsn > find->within)
		return false;
	event.kind = WA_EVENT_NONE;
	if ((find->by_name ? wa_event_record(record->rmid, record->info) : find_event(record->rmid, record->info)) &&
		wa_decode_event(record, &event) == WA_EVENT_INVALID)
	{
		wa_walk_refuse(&find->walk, record, WA_DAMAGE_RECORD,
					   "a record has a right checksum, but makes no sense");
		return false;
	}
	if (event.kind == WA_EVENT_PARAMETER_CHANGE)
		tell_settings(find, record, &event);
	/* of the other resource managers restore points alone */
	if (record->rmid != WA_RM_XACT && (event.kind != WA_EVENT_RESTORE_POINT || !find->by_name))
		event.kind = WA_EVENT_NONE;
	commit = event.kind == WA_EVENT_COMMIT || event.kind == WA_EVENT_COMMIT_PREPARED;
	ends = commit || event.kind == WA_EVENT_ABORT || event.kind == WA_EVENT_ABORT_PREPARED;
	if (is_match(find, &event, ends))
	{
		fill(&find->match, WA_FOUND_MATCH, find, record, &event);
		return false;
	}
	fill(&find->last_record, WA_FOUND_LAST_RECORD, find, record, &event);
	if (ends)
		fill(&find->last_xact, WA_FOUND_LAST_XACT, find, record, &event);
	if (commit)
		fill(&find->last_commit, WA_FOUND_LAST_COMMIT, find, record, &event);
	if (event.kind == WA_EVENT_PREPARE && !note_prepared(find, record, &event))
	{
		find->no_memory = true;
		return false;
	}
	if (event.kind == WA_EVENT_COMMIT_PREPARED || event.kind == WA_EVENT_ABORT_PREPARED)
		note_finished(find, record, &event);
	return true;
}

static void
send_found(Find *find, const WaMsgFound *m)
{
	if (m->role != 0)
		wa_out_message(find->out, WA_MSG_FOUND, m, sizeof(*m), NULL, 0);
}

void
wa_serve_find(const WaRequest *request)
{
	char what[32];
	WaPathEntry *path;
	WaWalDir dir;
	Find find;

	memset(&find, 0, sizeof(find));
	if (!wa_json_get_string(request->text, request->len, "what", what, sizeof(what)))
		what[0] = '\0';
	find.or_equal = strcmp(what, "time_or_equal") == 0;
	find.by_time = find.or_equal || strcmp(what, "time") == 0;
	find.by_xid = strcmp(what, "xid") == 0;
	find.any = strcmp(what, "record") == 0;
	find.by_name = strcmp(what, "name") == 0 &&
				   wa_json_get_string(request->text, request->len, "name", find.name, sizeof(find.name));
	if (!find.by_time && !find.by_xid && !find.by_name && !find.any && strcmp(what, "none") != 0)
	{
		wa_request_failed(request, "the request does not say what to find");
		return;
	}
	find.time = (int64) wa_request_uint(request, "time");
	find.xid = (TransactionId) wa_request_uint(request, "xid");
	find.within = wa_request_lsn(request, "within");
	if (!wa_request_range(request, &dir, &find.walk, &path))
		return;
	find.out = request->out;
	find.walk.prefix_len = WA_RECORD_HEADER;
	find.walk.keep = find.by_name ? wa_event_record : find_event;
	find.walk.record = find_record;
	find.walk.arg = &find;
	wa_walk(&find.walk);
	if (find.no_memory)
	{
		find.walk.result = WA_DECODE_FAILED;
		strlcpy(find.walk.text, "out of memory", sizeof(find.walk.text));
	}
	if (find.walk.result == WA_DECODE_DAMAGED)
		wa_out_damage(find.out, &find.walk.damage);
	send_found(&find, &find.match);
	send_found(&find, &find.last_record);
	send_found(&find, &find.last_xact);
	send_found(&find, &find.last_commit);
	for (int i = 0; i < find.nprepared; i++)
	{
		Prepared *p = &find.prepared[i];

		p->found.gid_len = strlen(p->gid);
		wa_out_message(find.out, WA_MSG_FOUND, &p->found, sizeof(p->found), p->gid, p->found.gid_len);
	}
	wa_request_end(request, &find.walk, &find.end, NULL, 0);
	wa_dir_close(&dir);
	free(find.prepared);
	free(path);
}
