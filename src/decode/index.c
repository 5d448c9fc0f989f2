/*-------------------------------------------------------------------------
 *
 * index.c
 *	  The request "index": what the catalog keeps of the WAL of a timeline.
 *
 * The indexer asks again and again for the next piece, as it arrives.  All that
 * one piece has to know of those before goes through the caller as "state", so
 * that any number of pieces says the same as one.
 *
 *-------------------------------------------------------------------------
 */
#include "request.h"

#include "../base/flat_json.h"
#include "../base/hex.h"
#include "../base/wal_effects.h"

/* The state: this, then what wa_effects_save makes. */
typedef struct IndexState
{
	uint32 protocol; /* WA_DECODE_PROTOCOL */
	TimeLineID tli;
	XLogRecPtr next_lsn;    /* the piece ended here */
	XLogRecPtr last_record; /* start of the last record before it, 0: none */
	uint64 next_xid;        /* of the last checkpoint, 0: none yet */
	XLogRecPtr vague;       /* as in Indexing */
} IndexState;

#define STATE_MAX (sizeof(IndexState) + WA_EFFECTS_STATE_MAX)

/* A transaction that was prepared in the segment that is being read. */
typedef struct Prepared
{
	WaMsgFound found;
	char gid[WA_GID_LEN];
} Prepared;

typedef struct Indexing
{
	WaOutput *out;
	bool careful;
	WaWalk walk;
	WaEffects *effects;
	WaMsgSegment segment; /* the one that is being read */
	WaMsgEnd end;
	XLogRecPtr fork;          /* records that start before are the parent's, 0: none are read */
	XLogRecPtr expected_prev; /* what the first record has to name, 0: anything */
	XLogRecPtr last_record;
	XLogRecPtr progress_lsn;
	uint64 next_xid;
	XLogRecPtr vague; /* start + 1 of a segment with transactions before the first checkpoint, 0: none */
	Prepared *prepared;
	int nprepared;
	int allocated;
} Indexing;

/* ---- sums of a segment ---- */

static void
begin_segment(Indexing *index, XLogRecPtr start)
{
	memset(&index->segment, 0, sizeof(index->segment));
	index->segment.tli = index->walk.path[0].tli;
	index->segment.segment_lsn = start;
}

/* What was prepared and not finished in the part of the segment that was read. */
static void
send_prepared(Indexing *index)
{
	for (int i = 0; i < index->nprepared; i++)
	{
		Prepared *p = &index->prepared[i];

		p->found.gid_len = strlen(p->gid);
		wa_out_message(index->out, WA_MSG_FOUND, &p->found, sizeof(p->found), p->gid, p->found.gid_len);
	}
	index->nprepared = 0;
}

/* The transaction was finished; false: it was not prepared in what was read. */
static bool
forget_prepared(Indexing *index, TransactionId xid)
{
	for (int i = index->nprepared - 1; i >= 0; i--)
	{
		if (index->prepared[i].found.xid == xid)
		{
			index->prepared[i] = index->prepared[--index->nprepared];
			return true;
		}
	}
	return false;
}

static void
note_prepared(Indexing *index, const WaWalRecord *record, const WaXact *xact, bool finished)
{
	WaMsgFound m;

	if (finished && forget_prepared(index, xact->xid))
		return;
	memset(&m, 0, sizeof(m));
	m.role = finished ? WA_FOUND_FINISHED : WA_FOUND_PREPARED;
	m.tli = index->walk.path[0].tli;
	m.start_lsn = record->start_lsn;
	m.end_lsn = record->end_lsn;
	m.prev_lsn = record->prev_lsn;
	m.xid = xact->xid;
	m.time = xact->time;
	if (finished)
	{
		wa_out_message(index->out, WA_MSG_FOUND, &m, sizeof(m), NULL, 0);
		return;
	}
	if (index->nprepared == index->allocated)
	{
		int n = Max(64, index->allocated * 2);
		Prepared *more = realloc(index->prepared, n * sizeof(Prepared));

		if (more == NULL)
		{
			/* told now, and its end as well */
			m.gid_len = strlen(xact->gid);
			wa_out_message(index->out, WA_MSG_FOUND, &m, sizeof(m), xact->gid, m.gid_len);
			return;
		}
		index->prepared = more;
		index->allocated = n;
	}
	index->prepared[index->nprepared].found = m;
	strlcpy(index->prepared[index->nprepared].gid, xact->gid, WA_GID_LEN);
	index->nprepared++;
}

static void
send_segment(Indexing *index, bool complete)
{
	send_prepared(index);
	index->segment.complete = complete;
	if (index->segment.major == 0)
		index->segment.major = index->walk.major;
	wa_out_message(index->out, WA_MSG_SEGMENT, &index->segment,
				   sizeof(index->segment), NULL, 0);
}

/* All records that start before 'lsn' were shown. */
static void
pass_segments(Indexing *index, XLogRecPtr lsn)
{
	uint32 size = index->walk.dir->segment_size;

	while (lsn >= index->segment.segment_lsn && lsn - index->segment.segment_lsn >= size)
	{
		send_segment(index, true);
		begin_segment(index, index->segment.segment_lsn + size);
	}
}

/* The full transaction id of 'xid', 0 if there was no checkpoint yet. */
static uint64
full_xid(const Indexing *index, TransactionId xid)
{
	int64 full;

	if (index->next_xid == 0 || xid == 0)
		return 0;
	full = (int64) index->next_xid + (int32) (xid - (uint32) index->next_xid);
	return full > 0 ? (uint64) full : 0;
}

static void
count_transaction(Indexing *index, const WaWalRecord *record,
				  const WaWalEvent *event)
{
	WaMsgSegment *s = &index->segment;
	const WaXact *xact = &event->u.xact;
	bool commit = event->kind == WA_EVENT_COMMIT || event->kind == WA_EVENT_COMMIT_PREPARED;
	uint64 xid = full_xid(index, xact->xid);

	if (s->commits + s->aborts == 0)
	{
		s->first_time = s->min_time = s->max_time = xact->time;
	}
	s->last_time = xact->time;
	s->min_time = Min(s->min_time, xact->time);
	s->max_time = Max(s->max_time, xact->time);
	if (commit)
		s->commits++;
	else
		s->aborts++;
	if (xid == 0)
		index->vague = s->segment_lsn + 1;
	/* a range that leaves some out is none */
	if (index->vague == s->segment_lsn + 1)
		s->min_xid = s->max_xid = 0;
	else
	{
		if (s->min_xid == 0 || xid < s->min_xid)
			s->min_xid = xid;
		if (xid > s->max_xid)
			s->max_xid = xid;
	}
	if (commit)
	{
		index->end.commit_lsn = record->end_lsn;
		index->end.commit_xid = xact->xid;
		index->end.commit_time = xact->time;
	}
}

/* ---- messages ---- */

static void
send_restore_point(Indexing *index, const WaWalRecord *record,
				   const WaWalEvent *event)
{
	WaMsgRestorePoint m;

	memset(&m, 0, sizeof(m));
	m.tli = index->walk.tli;
	m.start_lsn = record->start_lsn;
	m.end_lsn = record->end_lsn;
	m.time = event->u.restore_point.time;
	m.name_len = strlen(event->u.restore_point.name);
	wa_out_message(index->out, WA_MSG_RESTORE_POINT, &m, sizeof(m),
				   event->u.restore_point.name, m.name_len);
}

static void
send_checkpoint(Indexing *index, const WaWalRecord *record, const WaWalEvent *event)
{
	WaMsgCheckpoint m;

	memset(&m, 0, sizeof(m));
	m.tli = index->walk.tli;
	m.start_lsn = record->start_lsn;
	m.end_lsn = record->end_lsn;
	m.checkpoint = event->u.checkpoint;
	wa_out_message(index->out, WA_MSG_CHECKPOINT, &m, sizeof(m), NULL, 0);
}

static void
send_recovery_end(Indexing *index, const WaWalRecord *record, TimeLineID tli,
				  TimeLineID prev_tli, int64 time)
{
	WaMsgRecoveryEnd m;

	memset(&m, 0, sizeof(m));
	m.start_lsn = record->start_lsn;
	m.tli = tli;
	m.prev_tli = prev_tli;
	m.time = time;
	wa_out_message(index->out, WA_MSG_RECOVERY_END, &m, sizeof(m), NULL, 0);
}

static void
send_parameters(Indexing *index, const WaWalRecord *record, const WaWalEvent *event)
{
	WaMsgParameters m;

	memset(&m, 0, sizeof(m));
	m.tli = index->walk.tli;
	m.start_lsn = record->start_lsn;
	m.end_lsn = record->end_lsn;
	m.parameters = event->u.parameters;
	wa_out_message(index->out, WA_MSG_PARAMETERS, &m, sizeof(m), NULL, 0);
}

/* One without a path lies in the data directory, wherever that is. */
static void
send_tablespace(Indexing *index, const WaWalRecord *record, const WaWalEvent *event)
{
	WaMsgTablespace m;

	if (event->u.object.path_len == 0)
		return;
	memset(&m, 0, sizeof(m));
	m.tli = index->walk.tli;
	m.start_lsn = record->start_lsn;
	m.tablespace = event->u.object.tablespace;
	/* no server makes a longer one */
	m.path_len = Min(event->u.object.path_len, MAXPGPATH);
	wa_out_message(index->out, WA_MSG_TABLESPACE, &m, sizeof(m), event->u.object.path, m.path_len);
}

static void
send_destruction(void *arg, const WaMsgDestruction *destruction,
				 const WaRelFile *files, const Oid *relations)
{
	Indexing *index = arg;
	WaMsgDestruction m = *destruction;
	size_t files_len = m.files * sizeof(*files);
	size_t relations_len = m.relations * sizeof(*relations);

	m.tli = index->walk.tli;
	wa_out_begin(index->out, WA_MSG_DESTRUCTION, sizeof(m) + files_len + relations_len);
	wa_out_bytes(index->out, &m, sizeof(m));
	wa_out_bytes(index->out, files, files_len);
	wa_out_bytes(index->out, relations, relations_len);
}

/* ---- records ---- */

static void
careful_progress(Indexing *index, XLogRecPtr lsn)
{
	if (!index->careful || index->progress_lsn == lsn)
		return;
	index->progress_lsn = lsn;
	wa_out_progress(index->out, lsn, index->walk.bytes);
}

/*
 * A record of the parent's, in the copy of it that the timeline begins with.
 * It counts for the parent; but the copy is what a recovery reads, so its
 * checksum matters.  What was prepared in this segment and is open at the fork
 * is told of this timeline: the parent may have finished it behind the fork in
 * the same segment, and then its rows don't say that it ever was.
 */
static void
index_parents_record(Indexing *index, const WaWalRecord *record)
{
	WaWalEvent event;

	if (!wa_event_record(record->rmid, record->info))
		return;
	memset(&event, 0, sizeof(event));
	(void) wa_decode_event(record, &event);
	if (event.kind == WA_EVENT_PREPARE)
		note_prepared(index, record, &event.u.xact, false);
	else if (event.kind == WA_EVENT_COMMIT_PREPARED || event.kind == WA_EVENT_ABORT_PREPARED)
		(void) forget_prepared(index, event.u.xact.xid);
}

static bool
index_record(void *arg, const WaWalRecord *record)
{
	Indexing *index = arg;
	WaMsgSegment *s = &index->segment;
	WaWalEvent event;

	careful_progress(index, record->start_lsn);
	if (unlikely(record->start_lsn < index->fork))
	{
		index_parents_record(index, record);
		return true;
	}
	if (unlikely(index->expected_prev != 0))
	{
		XLogRecPtr prev = index->expected_prev;

		index->expected_prev = 0;
		if (record->prev_lsn != prev)
		{
			char why[WA_TEXT_LEN];

			snprintf(why, sizeof(why), "record at %X/%X follows the one at %X/%X, but the last one was at %X/%X",
					 LSN_FORMAT_ARGS(record->start_lsn), LSN_FORMAT_ARGS(record->prev_lsn), LSN_FORMAT_ARGS(prev));
			wa_walk_refuse(&index->walk, record, WA_DAMAGE_CONTINUITY, why);
			return false;
		}
	}

	/* after a resync, segments may have held nothing but a longer record */
	pass_segments(index, record->start_lsn);

	event.kind = WA_EVENT_NONE;
	if (wa_event_record(record->rmid, record->info))
	{
		/* parts of it are sent, padding and all */
		memset(&event, 0, sizeof(event));
		(void) wa_decode_event(record, &event);
	}
	if (event.kind == WA_EVENT_INVALID)
	{
		wa_walk_refuse(&index->walk, record, WA_DAMAGE_RECORD,
					   "a record has a right checksum, but makes no sense");
		return false;
	}
	switch (event.kind)
	{
		case WA_EVENT_COMMIT_PREPARED:
		case WA_EVENT_ABORT_PREPARED:
			note_prepared(index, record, &event.u.xact, true);
			count_transaction(index, record, &event);
			break;
		case WA_EVENT_COMMIT:
		case WA_EVENT_ABORT:
			count_transaction(index, record, &event);
			break;
		case WA_EVENT_PREPARE:
			note_prepared(index, record, &event.u.xact, false);
			break;
		case WA_EVENT_RESTORE_POINT:
			send_restore_point(index, record, &event);
			break;
		case WA_EVENT_CHECKPOINT:
			index->next_xid = event.u.checkpoint.next_xid;
			send_checkpoint(index, record, &event);
			break;
		case WA_EVENT_END_OF_RECOVERY:
			send_recovery_end(index, record, event.u.end_of_recovery.tli,
							  event.u.end_of_recovery.prev_tli, event.u.end_of_recovery.time);
			break;
		case WA_EVENT_PARAMETER_CHANGE:
			send_parameters(index, record, &event);
			break;
		case WA_EVENT_TABLESPACE_CREATE:
			send_tablespace(index, record, &event);
			break;
		default:
			break;
	}
	wa_effects_feed(index->effects, record, &event, send_destruction, index);

	if (s->records++ == 0)
	{
		s->first_record = record->start_lsn;
		s->major = record->major;
	}
	s->last_record = record->start_lsn;
	index->last_record = record->start_lsn;
	pass_segments(index, record->end_lsn);
	careful_progress(index, record->end_lsn);
	return true;
}

/* The record at 'record_lsn' was given up by the server; nothing of it counts. */
static void
index_aborted(void *arg, XLogRecPtr record_lsn, XLogRecPtr page_lsn)
{
	Indexing *index = arg;

	pass_segments(index, record_lsn);
	pass_segments(index, page_lsn);
}

static void
index_progress(void *arg, XLogRecPtr lsn, uint64 bytes)
{
	wa_out_progress(((Indexing *) arg)->out, lsn, bytes);
}

/* ---- the request ---- */

/* Decode hexadecimal digits in place; the number of bytes, -1 if they are none. */
static ssize_t
decode_hex(char *text)
{
	size_t len = strlen(text);

	if (len % 2 != 0)
		return -1;
	for (size_t i = 0; i < len; i += 2)
	{
		int hi = wa_hex_digit(text[i]);
		int lo = wa_hex_digit(text[i + 1]);

		if (hi < 0 || lo < 0)
			return -1;
		text[i / 2] = (char) (hi << 4 | lo);
	}
	return len / 2;
}

/*
 * Take up the state of the request, if it has one.  One that another version
 * has made is as good as none.  False if there is no memory.
 */
static bool
load_state(Indexing *index, const WaRequest *request, bool resync)
{
	size_t size = 2 * STATE_MAX + 1;
	char *hex = malloc(size);
	uint64 floor;
	bool loaded = false;

	if (hex == NULL)
		return false;
	if (wa_json_get_string(request->text, request->len, "state", hex, size))
	{
		ssize_t len = decode_hex(hex);
		IndexState state;

		if (len >= (ssize_t) sizeof(state))
		{
			memcpy(&state, hex, sizeof(state));
			if (state.protocol == WA_DECODE_PROTOCOL &&
				wa_effects_load(index->effects, hex + sizeof(state), len - sizeof(state)))
			{
				loaded = true;
				index->next_xid = state.next_xid;
				index->vague = state.vague;
				if (!resync && state.next_lsn == index->walk.from)
					index->expected_prev = index->last_record = state.last_record;
			}
		}
	}
	free(hex);
	if (loaded)
		return true;

	wa_effects_begin(index->effects);
	floor = wa_request_uint(request, "time_floor");
	if (floor != 0)
	{
		index->effects->has_max_time = true;
		index->effects->max_time = (int64) floor;
	}
	return true;
}

static void
send_end(Indexing *index, const WaRequest *request)
{
	WaWalk *w = &index->walk;
	char *state = malloc(STATE_MAX);
	size_t len = 0;

	/* what was read of the last segment, and the one where it became wrong */
	if (index->segment.records > 0 ||
		(w->result == WA_DECODE_DAMAGED && w->damage.segment_lsn == index->segment.segment_lsn))
		send_segment(index, false);
	if (w->result == WA_DECODE_DAMAGED)
	{
		if (w->damage.segment_lsn != index->segment.segment_lsn)
		{
			begin_segment(index, w->damage.segment_lsn);
			send_segment(index, false);
		}
		wa_out_damage(index->out, &w->damage);
	}

	if (state == NULL)
	{
		w->result = WA_DECODE_FAILED;
		strlcpy(w->text, "out of memory", sizeof(w->text));
	}
	else
	{
		IndexState s;

		memset(&s, 0, sizeof(s));
		s.protocol = WA_DECODE_PROTOCOL;
		s.tli = w->path[0].tli;
		s.next_lsn = w->next_lsn;
		if (w->result != WA_DECODE_DAMAGED && w->result != WA_DECODE_UNKNOWN)
			s.last_record = index->last_record;
		s.next_xid = index->next_xid;
		s.vague = index->vague;
		memcpy(state, &s, sizeof(s));
		len = sizeof(s) + wa_effects_save(index->effects, state + sizeof(s), STATE_MAX - sizeof(s));
	}
	wa_request_end(request, w, &index->end, state, len);
	free(state);
}

void
wa_serve_index(const WaRequest *request)
{
	WaWalDir dir;
	WaPathEntry path;
	Indexing index;
	XLogRecPtr from = wa_request_lsn(request, "from");
	bool resync = wa_request_bool(request, "resync");

	memset(&path, 0, sizeof(path));
	path.tli = (TimeLineID) wa_request_uint(request, "timeline");
	path.begin = wa_request_lsn(request, "fork");
	if (path.tli == 0)
	{
		wa_request_failed(request, "the request names no timeline");
		return;
	}
	if (!wa_request_dir(request, &dir))
		return;

	memset(&index, 0, sizeof(index));
	index.out = request->out;
	index.careful = wa_request_bool(request, "careful");
	wa_walk_init(&index.walk);
	index.walk.dir = &dir;
	index.walk.path = &path;
	index.walk.path_len = 1;
	index.walk.from = Max(from, path.begin);
	index.walk.exact = true;
	index.walk.end = wa_request_lsn(request, "to");
	index.walk.until = wa_request_lsn(request, "until");
	index.walk.live = wa_request_bool(request, "live");
	index.walk.prefix_len = 1024;
	index.walk.keep = wa_event_record;
	index.walk.record = index_record;
	index.walk.aborted = index_aborted;
	index.walk.progress = index.careful ? NULL : index_progress;
	index.walk.arg = &index;
	begin_segment(&index, wa_segment_floor(index.walk.from, dir.segment_size));
	if (wa_request_bool(request, "at_fork"))
	{
		index.fork = index.walk.from;
		index.walk.from = index.segment.segment_lsn;
	}

	index.effects = malloc(sizeof(WaEffects));
	if (index.effects == NULL || !load_state(&index, request, resync))
		wa_request_failed(request, "out of memory");
	else
	{
		careful_progress(&index, index.walk.from);
		wa_walk(&index.walk);
		send_end(&index, request);
	}
	free(index.effects);
	free(index.prepared);
	wa_dir_close(&dir);
}
