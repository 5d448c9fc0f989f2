/*-------------------------------------------------------------------------
 *
 * ranges.c
 *	  The requests "xacts", "destructions", "records" and "stats": what the
 *	  WAL of a range says, along a path of timelines.
 *
 *-------------------------------------------------------------------------
 */
#include "describe.h"
#include "request.h"
#include "stats.h"

#include "../base/wal_effects.h"

typedef struct Range
{
	WaOutput *out;
	bool careful;
	WaWalk walk;
	WaEffects *effects;   /* of destructions */
	WaStats stats;        /* of stats */
	StringInfoData words; /* of records */
	StringInfoData blocks;
	WaMsgEnd end;
} Range;

static bool
xact_event(uint8 rmid, uint8 info)
{
	return rmid == WA_RM_XACT && wa_event_record(rmid, info);
}

static void
careful_progress(Range *range, const WaWalRecord *record)
{
	if (range->careful)
		wa_out_progress(range->out, record->start_lsn, range->walk.bytes);
}

static bool
refuse(Range *range, const WaWalRecord *record)
{
	wa_walk_refuse(&range->walk, record, WA_DAMAGE_RECORD,
				   "a record has a right checksum, but makes no sense");
	return false;
}

/* ---- xacts ---- */

static void
send_xact(Range *range, const WaWalRecord *record, const WaWalEvent *event)
{
	const WaXact *x = &event->u.xact;
	WaMsgXact m;
	size_t files_len;

	memset(&m, 0, sizeof(m));
	m.kind = event->kind;
	m.tli = range->walk.tli;
	m.start_lsn = record->start_lsn;
	m.end_lsn = record->end_lsn;
	m.prev_lsn = record->prev_lsn;
	m.xid = x->xid;
	m.time = x->time;
	m.database = x->database;
	m.subxacts = x->subxacts;
	m.dropped_files = x->dropped_files;
	m.gid_len = strlen(x->gid);
	m.files = x->incomplete ? 0 : x->dropped_files;
	m.files = Min(m.files, (WA_MESSAGE_MAX - sizeof(m) - m.gid_len) / sizeof(WaRelFile));
	files_len = m.files * sizeof(WaRelFile);
	wa_out_begin(range->out, WA_MSG_XACT, sizeof(m) + files_len + m.gid_len);
	wa_out_bytes(range->out, &m, sizeof(m));
	for (uint32 i = 0; i < m.files; i++)
	{
		WaRelFile file = wa_array_file(x->dropped_file_array, i);

		wa_out_bytes(range->out, &file, sizeof(file));
	}
	wa_out_bytes(range->out, x->gid, m.gid_len);
}

static bool
xact_record(void *arg, const WaWalRecord *record)
{
	Range *range = arg;
	WaWalEvent event;
	const WaXact *x = &event.u.xact;

	careful_progress(range, record);
	if (!xact_event(record->rmid, record->info))
		return true;
	switch (wa_decode_event(record, &event))
	{
		case WA_EVENT_INVALID:
			return refuse(range, record);
		case WA_EVENT_COMMIT:
		case WA_EVENT_COMMIT_PREPARED:
			range->end.commit_lsn = record->end_lsn;
			range->end.commit_xid = x->xid;
			range->end.commit_time = x->time;
			send_xact(range, record, &event);
			break;
		case WA_EVENT_ABORT:
		case WA_EVENT_ABORT_PREPARED:
			send_xact(range, record, &event);
			break;
		default:
			break;
	}
	return true;
}

/* ---- destructions ---- */

static void
send_destruction(void *arg, const WaMsgDestruction *destruction,
				 const WaRelFile *files, const Oid *relations)
{
	Range *range = arg;
	WaMsgDestruction m = *destruction;
	size_t files_len = m.files * sizeof(*files);
	size_t relations_len = m.relations * sizeof(*relations);

	m.tli = range->walk.tli;
	wa_out_begin(range->out, WA_MSG_DESTRUCTION, sizeof(m) + files_len + relations_len);
	wa_out_bytes(range->out, &m, sizeof(m));
	wa_out_bytes(range->out, files, files_len);
	wa_out_bytes(range->out, relations, relations_len);
}

static bool
destruction_record(void *arg, const WaWalRecord *record)
{
	Range *range = arg;
	WaWalEvent event;

	careful_progress(range, record);
	event.kind = WA_EVENT_NONE;
	if (wa_event_record(record->rmid, record->info) &&
		wa_decode_event(record, &event) == WA_EVENT_INVALID)
		return refuse(range, record);
	wa_effects_feed(range->effects, record, &event, send_destruction, range);
	return true;
}

/* ---- records ---- */

static bool
any_record(void *arg, const WaWalRecord *record)
{
	Range *range = arg;
	WaWalEvent event;
	WaRecordParts parts;
	WaMsgRecord m;
	char rmgr[64];
	char type[64];

	careful_progress(range, record);
	event.kind = WA_EVENT_NONE;
	if (!wa_record_parts(record, &parts) ||
		(wa_event_record(record->rmid, record->info) &&
		 wa_decode_event(record, &event) == WA_EVENT_INVALID))
		return refuse(range, record);

	wa_rmgr_name(record->major, record->rmid, rmgr, sizeof(rmgr));
	wa_record_type(record->major, record->rmid, record->info, type, sizeof(type));
	resetStringInfo(&range->words);
	wa_describe_event(&range->words, record, &event);
	resetStringInfo(&range->blocks);
	wa_describe_blocks(&range->blocks, &parts);

	memset(&m, 0, sizeof(m));
	m.tli = range->walk.tli;
	m.start_lsn = record->start_lsn;
	m.end_lsn = record->end_lsn;
	m.prev_lsn = record->prev_lsn;
	m.xid = record->xid;
	m.total_len = record->total_len;
	m.main_len = parts.main_len;
	m.image_bytes = parts.image_bytes;
	m.rmid = record->rmid;
	m.info = record->info;
	m.rmgr_len = strlen(rmgr);
	m.type_len = strlen(type);
	m.description_len = range->words.len;
	m.blocks_len = range->blocks.len;
	wa_out_begin(range->out, WA_MSG_RECORD,
				 sizeof(m) + m.rmgr_len + m.type_len + m.description_len + m.blocks_len);
	wa_out_bytes(range->out, &m, sizeof(m));
	wa_out_bytes(range->out, rmgr, m.rmgr_len);
	wa_out_bytes(range->out, type, m.type_len);
	wa_out_bytes(range->out, range->words.data, m.description_len);
	wa_out_bytes(range->out, range->blocks.data, m.blocks_len);
	return true;
}

/* ---- stats ---- */

static bool
stats_record(void *arg, const WaWalRecord *record)
{
	Range *range = arg;

	careful_progress(range, record);
	if (!wa_stats_count(&range->stats, record))
		return refuse(range, record);
	return true;
}

static void
send_stats(Range *range)
{
	for (int i = 0; i <= PG_UINT8_MAX; i++)
	{
		const WaRmgrStats *s = &range->stats.rmgr[i];
		WaMsgStats m;
		char name[64];

		if (s->records == 0)
			continue;
		wa_rmgr_name(range->walk.major, i, name, sizeof(name));
		memset(&m, 0, sizeof(m));
		m.rmid = i;
		m.records = s->records;
		m.record_bytes = s->record_bytes;
		m.image_bytes = s->image_bytes;
		m.name_len = strlen(name);
		wa_out_message(range->out, WA_MSG_STATS, &m, sizeof(m), name, m.name_len);
	}
}

/* ---- the requests ---- */

static void
range_progress(void *arg, XLogRecPtr lsn, uint64 bytes)
{
	wa_out_progress(((Range *) arg)->out, lsn, bytes);
}

/* Serve a request whose records go to 'record'. */
static void
serve(const WaRequest *request, Range *range, uint32 prefix_len,
	  bool (*keep)(uint8 rmid, uint8 info),
	  bool (*record)(void *arg, const WaWalRecord *record))
{
	WaPathEntry *path;
	WaWalDir dir;

	if (!wa_request_range(request, &dir, &range->walk, &path))
		return;
	range->out = request->out;
	range->careful = wa_request_bool(request, "careful");
	range->walk.prefix_len = prefix_len;
	range->walk.keep = keep;
	range->walk.record = record;
	range->walk.progress = range_progress;
	range->walk.arg = range;
	if (range->careful)
		wa_out_progress(range->out, range->walk.from, 0);
	wa_walk(&range->walk);
	if (range->walk.result == WA_DECODE_DAMAGED)
		wa_out_damage(range->out, &range->walk.damage);
	if (record == stats_record)
		send_stats(range);
	wa_request_end(request, &range->walk, &range->end, NULL, 0);
	wa_dir_close(&dir);
	free(path);
}

void
wa_serve_xacts(const WaRequest *request)
{
	Range range;

	memset(&range, 0, sizeof(range));
	serve(request, &range, WA_RECORD_HEADER, xact_event, xact_record);
}

void
wa_serve_destructions(const WaRequest *request)
{
	Range range;

	memset(&range, 0, sizeof(range));
	range.effects = malloc(sizeof(WaEffects));
	if (range.effects == NULL)
	{
		wa_request_failed(request, "out of memory");
		return;
	}
	wa_effects_begin(range.effects);
	serve(request, &range, 1024, wa_event_record, destruction_record);
	free(range.effects);
}

void
wa_serve_records(const WaRequest *request)
{
	Range range;

	memset(&range, 0, sizeof(range));
	initStringInfo(&range.words);
	initStringInfo(&range.blocks);
	serve(request, &range, 1024, wa_event_record, any_record);
	pfree(range.words.data);
	pfree(range.blocks.data);
}

void
wa_serve_stats(const WaRequest *request)
{
	Range range;

	memset(&range, 0, sizeof(range));
	serve(request, &range, 1024, NULL, stats_record);
}
