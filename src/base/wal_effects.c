/*-------------------------------------------------------------------------
 *
 * wal_effects.c
 *	  The facts about transactions in progress from which wal_judge.c tells
 *	  what they destroyed.
 *
 * Facts are kept in a pool of fixed size, a chain for each transaction id that
 * has any; subtransactions have their own and are brought together by the
 * record that ends the transaction.  If the pool is full the transaction whose
 * first fact is oldest is forgotten.
 *
 *-------------------------------------------------------------------------
 */
#include "wal_effects.h"

#define STATE_MAGIC 0x32454157 /* "WAE2" */

/* pg_index; its file has the same number unless VACUUM FULL was run on it */
#define PG_INDEX_FILE 2610
#define GLOBAL_TABLESPACE 1664

/* access/heapam_xlog.h, storage/standbydefs.h, access/xlogrecord.h */
#define HEAP_OPERATION(info) ((info) &0x70)
#define HEAP_DELETE 0x10
#define HEAP_INPLACE 0x70
#define RUNNING_XACTS 0x10
#define BLOCK_HAS_IMAGE 0x10
#define BLOCK_SAME_FILE 0x80
#define IMAGE_HAS_HOLE 0x01
#define IMAGE_COMPRESSED 0x1C
#define DATA_SHORT_ID 255
#define DATA_LONG_ID 254

#define RM_HEAP2 9
#define FORK_MAIN 0
#define FORK_INIT 3

/* A database is marked no further before its row is deleted, in bytes of WAL. */
#define MARK_DISTANCE (64 * 1024 * 1024)

/* More blocks than this in the first record: not an index on no rows. */
#define EMPTY_INDEX_BLOCKS 3

typedef struct StateHeader
{
	uint32 magic;
	uint32 xacts;
	uint32 new_indexes;
	uint32 has_max_time;
	int64 max_time;
	uint64 forgotten;
	uint64 marks;
	WaMark mark[WA_EFFECT_MARKS];
} StateHeader;

typedef struct StateXact
{
	TransactionId xid;
	uint32 items;
	uint32 index_deletes;
	uint32 flags; /* 1 shared_deletes, 2 prepared, 4 cut */
} StateXact;

StaticAssertDecl(sizeof(StateHeader) + WA_EFFECT_NEW_INDEXES * sizeof(WaNewIndex) +
						 WA_EFFECT_XACTS * sizeof(StateXact) +
						 WA_EFFECT_ITEMS * sizeof(WaEffectItem) <=
					 WA_EFFECTS_STATE_MAX,
				 "the state is not longer than promised");

static uint32
bucket_of(uint32 number)
{
	return (number * 2654435761U) >> 18 & (WA_EFFECT_BUCKETS - 1);
}

/* Is 'a' older than 'b'?  Both are normal transaction ids. */
static bool
xid_precedes(TransactionId a, TransactionId b)
{
	return (int32) (a - b) < 0;
}

void
wa_effects_begin(WaEffects *effects)
{
	effects->forgotten = 0;
	effects->has_max_time = false;
	effects->max_time = 0;
	effects->xacts = 0;
	effects->unwritten = 0;
	effects->oldest = effects->newest = WA_NO_EFFECT;
	effects->new_indexes = 0;
	effects->marks = 0;
	for (uint32 i = 0; i < WA_EFFECT_BUCKETS; i++)
		effects->xact_bucket[i] = effects->file_bucket[i] = WA_NO_EFFECT;
	for (uint32 i = 0; i < WA_EFFECT_XACTS; i++)
		effects->xact[i].newer = i + 1 < WA_EFFECT_XACTS ? i + 1 : WA_NO_EFFECT;
	for (uint32 i = 0; i < WA_EFFECT_ITEMS; i++)
		effects->item[i].next = i + 1 < WA_EFFECT_ITEMS ? i + 1 : WA_NO_EFFECT;
	effects->free_xact = effects->free_item = 0;
}

/* ---- the pool ---- */

WaEffectXact *
wa_effects_find(WaEffects *effects, TransactionId xid)
{
	uint32 at = effects->xact_bucket[bucket_of(xid)];

	while (at != WA_NO_EFFECT && effects->xact[at].xid != xid)
		at = effects->xact[at].hash_next;
	return at == WA_NO_EFFECT ? NULL : &effects->xact[at];
}

static void
unlink_file(WaEffects *effects, uint32 at)
{
	uint32 *link = &effects->file_bucket[bucket_of(effects->item[at].file.number)];

	while (*link != at)
		link = &effects->item[*link].hash_next;
	*link = effects->item[at].hash_next;
}

static void
forget_xact(WaEffects *effects, WaEffectXact *xact)
{
	uint32 me = xact - effects->xact;
	uint32 *link = &effects->xact_bucket[bucket_of(xact->xid)];

	for (uint32 at = xact->first; at != WA_NO_EFFECT; at = effects->item[at].next)
	{
		if (effects->item[at].type == WA_EFFECT_CREATED)
			unlink_file(effects, at);
	}
	if (xact->last != WA_NO_EFFECT)
	{
		effects->item[xact->last].next = effects->free_item;
		effects->free_item = xact->first;
	}
	effects->unwritten -= xact->unwritten;

	while (*link != me)
		link = &effects->xact[*link].hash_next;
	*link = xact->hash_next;
	if (xact->older != WA_NO_EFFECT)
		effects->xact[xact->older].newer = xact->newer;
	else
		effects->oldest = xact->newer;
	if (xact->newer != WA_NO_EFFECT)
		effects->xact[xact->newer].older = xact->older;
	else
		effects->newest = xact->older;
	xact->newer = effects->free_xact;
	effects->free_xact = me;
	effects->xacts--;
}

/* The facts about 'xid', made if there are none yet. */
static WaEffectXact *
need_xact(WaEffects *effects, TransactionId xid)
{
	WaEffectXact *xact = wa_effects_find(effects, xid);
	uint32 me;

	if (xact != NULL)
		return xact;
	if (effects->free_xact == WA_NO_EFFECT)
	{
		forget_xact(effects, &effects->xact[effects->oldest]);
		effects->forgotten++;
	}
	me = effects->free_xact;
	xact = &effects->xact[me];
	effects->free_xact = xact->newer;
	memset(xact, 0, sizeof(*xact));
	xact->xid = xid;
	xact->first = xact->last = WA_NO_EFFECT;
	xact->hash_next = effects->xact_bucket[bucket_of(xid)];
	effects->xact_bucket[bucket_of(xid)] = me;
	xact->older = effects->newest;
	xact->newer = WA_NO_EFFECT;
	if (effects->newest != WA_NO_EFFECT)
		effects->xact[effects->newest].newer = me;
	else
		effects->oldest = me;
	effects->newest = me;
	effects->xacts++;
	return xact;
}

/* A new fact about 'xid', NULL if there is no room for it. */
static WaEffectItem *
add_item(WaEffects *effects, TransactionId xid, WaEffectType type,
		 const WaRelFile *file, XLogRecPtr lsn, XLogRecPtr other)
{
	WaEffectXact *xact = need_xact(effects, xid);
	WaEffectItem *item;
	uint32 at;

	while (effects->free_item == WA_NO_EFFECT)
	{
		WaEffectXact *oldest = &effects->xact[effects->oldest];

		/* a transaction that fills the pool keeps what it has */
		if (oldest == xact)
		{
			if (!xact->cut)
				effects->forgotten++;
			xact->cut = true;
			return NULL;
		}
		forget_xact(effects, oldest);
		effects->forgotten++;
	}
	at = effects->free_item;
	item = &effects->item[at];
	effects->free_item = item->next;
	memset(item, 0, sizeof(*item));
	item->type = type;
	item->lsn = lsn;
	item->owner = xact - effects->xact;
	item->other = other;
	item->file = *file;
	item->next = WA_NO_EFFECT;
	item->hash_next = WA_NO_EFFECT;
	if (xact->last != WA_NO_EFFECT)
		effects->item[xact->last].next = at;
	else
		xact->first = at;
	xact->last = at;
	xact->items++;
	if (type == WA_EFFECT_CREATED)
	{
		item->hash_next = effects->file_bucket[bucket_of(file->number)];
		effects->file_bucket[bucket_of(file->number)] = at;
	}
	return item;
}

/* The fact that a transaction made this file, NULL if none is known. */
static WaEffectItem *
find_file(WaEffects *effects, const WaRelFile *file)
{
	uint32 at = effects->file_bucket[bucket_of(file->number)];

	while (at != WA_NO_EFFECT)
	{
		WaEffectItem *item = &effects->item[at];

		if (item->file.number == file->number &&
			item->file.database == file->database &&
			item->file.tablespace == file->tablespace)
			return item;
		at = item->hash_next;
	}
	return NULL;
}

/* ---- facts ---- */

static void
file_was_made(WaEffects *effects, const WaWalRecord *record, const WaWalEvent *event)
{
	const WaRelFile *file = &event->u.smgr.file;

	if (event->u.smgr.flags != FORK_MAIN && event->u.smgr.flags != FORK_INIT)
		return;
	if (record->xid == 0)
	{
		/*
		 * Before its transaction has an id only an index can be made: all
		 * else takes a lock that is logged first.
		 */
		WaNewIndex *slot;

		if (effects->new_indexes == WA_EFFECT_NEW_INDEXES)
		{
			memmove(&effects->new_index[0], &effects->new_index[1],
					(WA_EFFECT_NEW_INDEXES - 1) * sizeof(WaNewIndex));
			effects->new_indexes--;
		}
		slot = &effects->new_index[effects->new_indexes++];
		slot->database = file->database;
		slot->number = file->number;
		slot->lsn = record->start_lsn;
		return;
	}
	if (find_file(effects, file) == NULL &&
		add_item(effects, record->xid, WA_EFFECT_CREATED, file, record->start_lsn, 0) != NULL)
	{
		wa_effects_find(effects, record->xid)->unwritten++;
		effects->unwritten++;
	}
}

static void
relations_were_locked(WaEffects *effects, const WaWalRecord *record, const WaWalEvent *event)
{
	TransactionId seen = 0;
	bool wanted = true;

	for (uint32 i = 0; i < event->u.locks.count; i++)
	{
		TransactionId xid;
		WaRelFile relation = {0};

		wa_array_lock(event->u.locks.array, i, &xid, &relation.database, &relation.number);
		if (xid == 0)
			continue;

		/*
		 * A record without a transaction repeats the locks of all that run,
		 * for a standby that starts there: news of those only that we have not
		 * heard of.
		 */
		if (record->xid == 0 && xid != seen)
			wanted = wa_effects_find(effects, xid) == NULL;
		seen = xid;
		if (wanted)
			(void) add_item(effects, xid, WA_EFFECT_LOCKED, &relation, record->start_lsn, 0);
	}
}

/* The file of a record's first block, from the headers alone. */
static bool
first_file(const WaWalRecord *record, WaRelFile *file)
{
	const uint8 *data = record->data;
	uint32 at = WA_RECORD_HEADER + 4;

	if (record->data_len < at || data[WA_RECORD_HEADER] >= WA_MAX_BLOCKS)
		return false;
	if (data[WA_RECORD_HEADER + 1] & BLOCK_HAS_IMAGE)
	{
		uint8 image;

		if (record->data_len < at + 5)
			return false;
		image = data[at + 4];
		at += 5;
		if ((image & IMAGE_HAS_HOLE) && (image & IMAGE_COMPRESSED))
			at += 2;
	}
	if ((data[WA_RECORD_HEADER + 1] & BLOCK_SAME_FILE) ||
		record->data_len < at + sizeof(WaRelFile))
		return false;
	memcpy(file, data + at, sizeof(WaRelFile));
	return true;
}

/* Offset of the row that a DELETE or INPLACE record is about, 0: not known. */
static uint16
row_offset(const WaRecordParts *parts, uint32 at)
{
	uint16 offset = 0;

	if (parts->main_data != NULL && parts->main_len >= at + sizeof(offset))
		memcpy(&offset, parts->main_data + at, sizeof(offset));
	return offset;
}

/* A row of a shared catalog is changed in place, which no abort undoes. */
static void
row_was_marked(WaEffects *effects, const WaWalRecord *record)
{
	WaRelFile file;
	WaRecordParts parts;
	WaMark *mark;

	if (!first_file(record, &file) || file.tablespace != GLOBAL_TABLESPACE ||
		!wa_record_parts(record, &parts))
		return;
	if (effects->marks == WA_EFFECT_MARKS)
	{
		memmove(&effects->mark[0], &effects->mark[1], (WA_EFFECT_MARKS - 1) * sizeof(WaMark));
		effects->marks--;
	}
	mark = &effects->mark[effects->marks++];
	memset(mark, 0, sizeof(*mark));
	mark->lsn = record->start_lsn;
	mark->prev_lsn = record->prev_lsn;
	mark->number = file.number;
	mark->block = parts.block[0].block;
	mark->offset = row_offset(&parts, 0);
}

/*
 * Rows of two kinds of catalogs are of interest when they are deleted: those of
 * pg_index, because that tells an index from a table, and those of shared
 * catalogs, because DROP DATABASE deletes some and a failed CREATE DATABASE
 * does not.  Before it deletes the row of a database it marks it as invalid, in
 * place and without a transaction id.
 */
static void
row_was_deleted(WaEffects *effects, const WaWalRecord *record)
{
	WaRelFile file;
	WaRecordParts parts;
	uint16 offset;

	if (record->xid == 0 || !first_file(record, &file))
		return;
	if (file.number == PG_INDEX_FILE && file.database != 0)
		need_xact(effects, record->xid)->index_deletes++;
	if (file.tablespace != GLOBAL_TABLESPACE || !wa_record_parts(record, &parts))
		return;
	need_xact(effects, record->xid)->shared_deletes = true;
	offset = row_offset(&parts, sizeof(TransactionId));
	for (uint32 i = effects->marks; i > 0; i--)
	{
		WaMark *mark = &effects->mark[i - 1];

		if (mark->number == file.number && mark->block == parts.block[0].block &&
			(mark->offset == offset || mark->offset == 0 || offset == 0) &&
			record->start_lsn - mark->lsn < MARK_DISTANCE)
		{
			(void) add_item(effects, record->xid, WA_EFFECT_DATABASE_MARKED, &file, mark->lsn,
							mark->prev_lsn);
			return;
		}
	}
}

/* Note what is written first into files that the transaction has made. */
static void
note_writes(WaEffects *effects, const WaWalRecord *record)
{
	WaRecordParts parts;

	if (!wa_record_parts(record, &parts))
		return;
	for (int i = 0; i < parts.blocks; i++)
	{
		WaBlockRef *block = &parts.block[i];
		WaEffectItem *item;
		int blocks = 0;
		bool from_zero = false;

		if (block->fork != FORK_MAIN && block->fork != FORK_INIT)
			continue;
		item = find_file(effects, &block->file);
		if (item == NULL || item->first != WA_FIRST_NONE)
			continue;
		for (int j = 0; j < parts.blocks; j++)
		{
			if (memcmp(&parts.block[j].file, &block->file, sizeof(WaRelFile)) != 0)
				continue;
			blocks++;
			from_zero |= (parts.block[j].block == 0);
		}
		if (record->rmid == WA_RM_HEAP || record->rmid == RM_HEAP2)
			item->first = WA_FIRST_HEAP;
		else if (from_zero && blocks <= EMPTY_INDEX_BLOCKS)
			item->first = WA_FIRST_EMPTY;
		else
			item->first = WA_FIRST_BUILT;
		item->other = record->start_lsn;
		effects->xact[item->owner].unwritten--;
		effects->unwritten--;
	}
}

/* ---- ends of transactions ---- */

/* A transaction will never end: the server crashed. */
static void
xact_was_lost(WaEffects *effects, WaEffectXact *xact, const WaWalRecord *record,
			  WaEffectsEmit emit, void *arg)
{
	const WaEffectItem *mark = NULL;

	for (uint32 at = xact->first; at != WA_NO_EFFECT; at = effects->item[at].next)
	{
		WaEffectItem *item = &effects->item[at];
		WaMsgDestruction d = {0};

		if (item->type == WA_EFFECT_DATABASE_MARKED)
			mark = item;
		if (item->type != WA_EFFECT_DATABASE_GONE || !xact->shared_deletes)
			continue;
		d.kind = WA_DESTRUCTION_DATABASE;
		d.tli = record->tli;
		d.start_lsn = d.end_lsn = item->lsn;
		d.first_lsn = mark ? mark->lsn : item->lsn;
		d.restore_before_lsn = mark ? mark->other : item->other;
		d.xid = xact->xid;
		d.aborted = true;
		d.database = item->file.database;
		emit(arg, &d, NULL, NULL);
	}
	forget_xact(effects, xact);
}

/*
 * No transaction older than 'oldest' runs any more (0: none at all but prepared
 * ones).
 */
static void
forget_ended(WaEffects *effects, TransactionId oldest, const WaWalRecord *record,
			 WaEffectsEmit emit, void *arg)
{
	uint32 at = effects->oldest;

	while (at != WA_NO_EFFECT)
	{
		WaEffectXact *xact = &effects->xact[at];

		at = xact->newer;
		if (oldest != 0 ? xid_precedes(xact->xid, oldest) : !xact->prepared)
			xact_was_lost(effects, xact, record, emit, arg);
	}
}

/* The oldest running transaction, of a record of running transactions; 0: unknown. */
static TransactionId
oldest_running(const WaWalRecord *record)
{
	/* xcnt, subxcnt, subxid_overflow, nextXid, oldestRunningXid */
	uint32 at = WA_RECORD_HEADER;
	TransactionId oldest;

	if (record->data_len < at + 2)
		return 0;
	if (record->data[at] == DATA_SHORT_ID)
		at += 2;
	else if (record->data[at] == DATA_LONG_ID)
		at += 5;
	else
		return 0;
	at += 16;
	if (record->data_len < at + sizeof(oldest))
		return 0;
	memcpy(&oldest, record->data + at, sizeof(oldest));
	return oldest >= 3 ? oldest : 0;
}

static void
transaction_ended(WaEffects *effects, const WaWalRecord *record, const WaWalEvent *event,
				  WaEffectsEmit emit, void *arg)
{
	const WaXact *xact = &event->u.xact;

	wa_judge_transaction(effects, record, event, emit, arg);
	for (uint32 i = 0; effects->xacts > 0 && i <= xact->subxacts; i++)
	{
		TransactionId xid = i == 0 ? xact->xid : wa_array_xid(xact->subxact_array, i - 1);
		WaEffectXact *known = wa_effects_find(effects, xid);

		if (known != NULL)
			forget_xact(effects, known);
	}
	if (!effects->has_max_time || xact->time > effects->max_time)
	{
		effects->has_max_time = true;
		effects->max_time = xact->time;
	}
}

static void
transaction_was_prepared(WaEffects *effects, const WaXact *xact)
{
	for (uint32 i = 0; i <= xact->subxacts; i++)
	{
		TransactionId xid = i == 0 ? xact->xid : wa_array_xid(xact->subxact_array, i - 1);
		WaEffectXact *known = wa_effects_find(effects, xid);

		if (known != NULL)
			known->prepared = true;
	}
}

void
wa_effects_feed(WaEffects *effects, const WaWalRecord *record, const WaWalEvent *event,
				WaEffectsEmit emit, void *arg)
{
	WaRelFile file = {0};

	switch (event->kind)
	{
		case WA_EVENT_COMMIT:
		case WA_EVENT_ABORT:
		case WA_EVENT_COMMIT_PREPARED:
		case WA_EVENT_ABORT_PREPARED:
			transaction_ended(effects, record, event, emit, arg);
			return;
		case WA_EVENT_PREPARE:
			if (effects->xacts > 0)
				transaction_was_prepared(effects, &event->u.xact);
			return;
		case WA_EVENT_SMGR_CREATE:
			file_was_made(effects, record, event);
			return;
		case WA_EVENT_SMGR_TRUNCATE:
			if (record->xid != 0 && event->u.smgr.block == 0)
				(void) add_item(effects, record->xid, WA_EFFECT_TRUNCATED, &event->u.smgr.file,
								record->start_lsn, record->prev_lsn);
			return;
		case WA_EVENT_HEAP_TRUNCATE:
			file.database = event->u.oids.database;
			for (uint32 i = 0; record->xid != 0 && i < event->u.oids.count; i++)
			{
				file.number = wa_array_oid(event->u.oids.array, i);
				(void) add_item(effects, record->xid, WA_EFFECT_HEAP_TRUNCATED, &file,
								record->start_lsn, 0);
			}
			return;
		case WA_EVENT_DATABASE_CREATE:
			file.database = event->u.object.database;
			if (record->xid != 0)
				(void) add_item(effects, record->xid, WA_EFFECT_DATABASE_MADE, &file,
								record->start_lsn, 0);
			return;
		case WA_EVENT_DATABASE_DROP:
			file.database = event->u.oids.database;
			if (record->xid != 0)
				(void) add_item(effects, record->xid, WA_EFFECT_DATABASE_GONE, &file,
								record->start_lsn, record->prev_lsn);
			return;
		case WA_EVENT_LOCK:
			relations_were_locked(effects, record, event);
			return;
		case WA_EVENT_CHECKPOINT:
			if (event->u.checkpoint.shutdown && effects->xacts > 0)
				forget_ended(effects, 0, record, emit, arg);
			return;
		case WA_EVENT_END_OF_RECOVERY:
			if (effects->xacts > 0)
				forget_ended(effects, 0, record, emit, arg);
			return;
		default:
			break;
	}

	if (record->rmid == WA_RM_HEAP && HEAP_OPERATION(record->info) == HEAP_DELETE)
		row_was_deleted(effects, record);
	else if (record->rmid == WA_RM_HEAP && HEAP_OPERATION(record->info) == HEAP_INPLACE)
		row_was_marked(effects, record);
	if (effects->xacts == 0)
		return;
	if (record->rmid == WA_RM_STANDBY && (record->info & 0xF0) == RUNNING_XACTS)
	{
		TransactionId oldest = oldest_running(record);

		if (oldest != 0)
			forget_ended(effects, oldest, record, emit, arg);
	}
	else if (effects->unwritten > 0 && record->xid != 0)
	{
		WaEffectXact *xact = wa_effects_find(effects, record->xid);

		if (xact != NULL && xact->unwritten > 0)
			note_writes(effects, record);
	}
}

/* ---- the state as bytes ---- */

size_t
wa_effects_save(const WaEffects *effects, void *bytes, size_t size)
{
	StateHeader header = {0};
	size_t need = sizeof(header) + effects->new_indexes * sizeof(WaNewIndex);
	char *to = bytes;

	for (uint32 x = effects->oldest; x != WA_NO_EFFECT; x = effects->xact[x].newer)
		need += sizeof(StateXact) + effects->xact[x].items * sizeof(WaEffectItem);
	if (need > size)
		return need;

	header.magic = STATE_MAGIC;
	header.xacts = effects->xacts;
	header.new_indexes = effects->new_indexes;
	header.has_max_time = effects->has_max_time;
	header.max_time = effects->max_time;
	header.forgotten = effects->forgotten;
	header.marks = effects->marks;
	memcpy(header.mark, effects->mark, effects->marks * sizeof(WaMark));
	memcpy(to, &header, sizeof(header));
	to += sizeof(header);
	memcpy(to, effects->new_index, effects->new_indexes * sizeof(WaNewIndex));
	to += effects->new_indexes * sizeof(WaNewIndex);
	for (uint32 x = effects->oldest; x != WA_NO_EFFECT; x = effects->xact[x].newer)
	{
		const WaEffectXact *xact = &effects->xact[x];
		StateXact saved = {0};

		saved.xid = xact->xid;
		saved.items = xact->items;
		saved.index_deletes = xact->index_deletes;
		saved.flags = (xact->shared_deletes ? 1 : 0) | (xact->prepared ? 2 : 0) |
					  (xact->cut ? 4 : 0);
		memcpy(to, &saved, sizeof(saved));
		to += sizeof(saved);
		for (uint32 at = xact->first; at != WA_NO_EFFECT; at = effects->item[at].next)
		{
			WaEffectItem item = effects->item[at];

			item.next = item.hash_next = 0;
			memcpy(to, &item, sizeof(item));
			to += sizeof(item);
		}
	}
	return need;
}

bool
wa_effects_load(WaEffects *effects, const void *bytes, size_t len)
{
	const char *from = bytes;
	const char *end = from + len;
	StateHeader header;

	wa_effects_begin(effects);
	if (len == 0)
		return true;
	if (len < sizeof(header))
		return false;
	memcpy(&header, from, sizeof(header));
	from += sizeof(header);
	if (header.magic != STATE_MAGIC || header.xacts > WA_EFFECT_XACTS ||
		header.new_indexes > WA_EFFECT_NEW_INDEXES || header.marks > WA_EFFECT_MARKS ||
		end - from < header.new_indexes * sizeof(WaNewIndex))
		return false;
	memcpy(effects->new_index, from, header.new_indexes * sizeof(WaNewIndex));
	from += header.new_indexes * sizeof(WaNewIndex);
	for (uint32 x = 0; x < header.xacts; x++)
	{
		StateXact saved;
		WaEffectXact *xact;

		if (end - from < sizeof(saved))
			goto invalid;
		memcpy(&saved, from, sizeof(saved));
		from += sizeof(saved);
		if (saved.items > WA_EFFECT_ITEMS || end - from < saved.items * sizeof(WaEffectItem))
			goto invalid;
		xact = need_xact(effects, saved.xid);
		xact->index_deletes = saved.index_deletes;
		xact->shared_deletes = (saved.flags & 1) != 0;
		xact->prepared = (saved.flags & 2) != 0;
		xact->cut = (saved.flags & 4) != 0;
		for (uint32 i = 0; i < saved.items; i++)
		{
			WaEffectItem item;
			WaEffectItem *added;

			memcpy(&item, from, sizeof(item));
			from += sizeof(item);
			if (item.type < WA_EFFECT_CREATED || item.type > WA_EFFECT_DATABASE_GONE ||
				item.first > WA_FIRST_BUILT)
				goto invalid;
			added = add_item(effects, saved.xid, item.type, &item.file, item.lsn, item.other);
			if (added == NULL)
				goto invalid;
			added->first = item.first;
			if (item.type == WA_EFFECT_CREATED && item.first == WA_FIRST_NONE)
			{
				xact->unwritten++;
				effects->unwritten++;
			}
		}
	}
	if (from != end)
		goto invalid;
	effects->new_indexes = header.new_indexes;
	effects->marks = (uint32) header.marks;
	memcpy(effects->mark, header.mark, sizeof(effects->mark));
	effects->has_max_time = (header.has_max_time != 0);
	effects->max_time = header.max_time;
	effects->forgotten = header.forgotten;
	return true;

invalid:
	wa_effects_begin(effects);
	return false;
}
