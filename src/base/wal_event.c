/*-------------------------------------------------------------------------
 *
 * wal_event.c
 *	  What a WAL record says: its parts, and the events of the index except
 *	  those of transactions (wal_event_xact.c).  See wal_event.h.
 *
 * A record has a right checksum when it comes here, but that does not make it
 * honest: every length is checked against what is there.
 *
 *-------------------------------------------------------------------------
 */
#include "wal_event_internal.h"

/* xlogrecord.h */
#define MAX_BLOCK_ID 32
#define ID_DATA_SHORT 255
#define ID_DATA_LONG 254
#define ID_ORIGIN 253
#define ID_TOPLEVEL_XID 252

#define BLOCK_FORK_MASK 0x0F
#define BLOCK_HAS_IMAGE 0x10
#define BLOCK_HAS_DATA 0x20
#define BLOCK_SAME_REL 0x80

#define IMAGE_HAS_HOLE 0x01
#define IMAGE_APPLY 0x02
#define IMAGE_COMPRESSED 0x1C

/* The headers of a record are never longer than this, its own included. */
#define MAX_HEADERS 1024

/* access/xlog_internal.h, catalog/pg_control.h */
#define XLOG_CHECKPOINT_SHUTDOWN 0x00
#define XLOG_CHECKPOINT_ONLINE 0x10
#define XLOG_SWITCH 0x40
#define XLOG_BACKUP_END 0x50
#define XLOG_PARAMETER_CHANGE 0x60
#define XLOG_RESTORE_POINT 0x70
#define XLOG_FPW_CHANGE 0x80
#define XLOG_END_OF_RECOVERY 0x90
#define XLOG_OVERWRITE_CONTRECORD 0xD0
#define XLOG_CHECKPOINT_REDO 0xE0

#define XLOG_SMGR_CREATE 0x10
#define XLOG_SMGR_TRUNCATE 0x20

#define XLOG_DBASE_CREATE_FILE_COPY 0x00
#define XLOG_DBASE_CREATE_WAL_LOG 0x10
#define XLOG_DBASE_DROP 0x20

#define XLOG_TBLSPC_CREATE 0x00
#define XLOG_TBLSPC_DROP 0x10

#define XLOG_STANDBY_LOCK 0x00

#define XLOG_HEAP_OPMASK 0x70
#define XLOG_HEAP_TRUNCATE 0x30

/* ---- the parts of a record ---- */

static WaRelFile
rel_file(const uint8 *p)
{
	WaRelFile file;

	file.tablespace = wa_get32(p);
	file.database = wa_get32(p + 4);
	file.number = wa_get32(p + 8);
	return file;
}

/*
 * Read the block header behind its id, at '*p'.  'before' is the block header
 * before, or NULL.
 */
static bool
block_header(const uint8 **p, const uint8 *end, const WaBlockRef *before,
			 WaBlockRef *block)
{
	const uint8 *q = *p;
	uint8 flags;

	if (end - q < 3)
		return false;
	flags = q[0];
	block->fork = flags & BLOCK_FORK_MASK;
	block->data_len = wa_get16(q + 1);
	q += 3;
	if (((flags & BLOCK_HAS_DATA) != 0) != (block->data_len > 0))
		return false;

	block->has_image = (flags & BLOCK_HAS_IMAGE) != 0;
	block->apply_image = false;
	block->image_len = 0;
	if (block->has_image)
	{
		uint16 hole_offset;
		uint8 info;

		if (end - q < 5)
			return false;
		block->image_len = wa_get16(q);
		hole_offset = wa_get16(q + 2);
		info = q[4];
		q += 5;
		block->apply_image = (info & IMAGE_APPLY) != 0;
		if (((info & IMAGE_HAS_HOLE) != 0) != (hole_offset != 0))
			return false;
		if ((info & IMAGE_HAS_HOLE) != 0 && (info & IMAGE_COMPRESSED) != 0)
		{
			if (end - q < 2 || wa_get16(q) == 0)
				return false;
			q += 2;
		}
	}

	if ((flags & BLOCK_SAME_REL) == 0)
	{
		if (end - q < 12)
			return false;
		block->file = rel_file(q);
		q += 12;
	}
	else if (before == NULL)
		return false;
	else
		block->file = before->file;
	if (end - q < 4)
		return false;
	block->block = wa_get32(q);
	*p = q + 4;
	return true;
}

bool
wa_record_parts(const WaWalRecord *record, WaRecordParts *parts)
{
	const uint8 *p = record->data + WA_RECORD_HEADER;
	const uint8 *end = record->data + record->data_len;
	uint64 announced = 0; /* bytes of data behind the headers */
	bool main_seen = false;

	parts->blocks = 0;
	parts->image_bytes = 0;
	parts->origin = 0;
	parts->top_xid = 0;
	parts->main_data = NULL;
	parts->main_len = 0;
	if (record->data_len < WA_RECORD_HEADER || record->data_len > record->total_len)
		return false;

	/* the main data is the last part, and its header the last header */
	while (!main_seen &&
		   record->total_len - (uint64) (p - record->data) > announced)
	{
		uint8 id;

		if (p >= end)
			return false;
		id = *p++;
		if (id == ID_DATA_SHORT)
		{
			if (end - p < 1)
				return false;
			parts->main_len = *p++;
			announced += parts->main_len;
			main_seen = true;
		}
		else if (id == ID_DATA_LONG)
		{
			if (end - p < 4)
				return false;
			parts->main_len = wa_get32(p);
			p += 4;
			announced += parts->main_len;
			main_seen = true;
		}
		else if (id == ID_ORIGIN)
		{
			if (end - p < 2)
				return false;
			parts->origin = wa_get16(p);
			p += 2;
		}
		else if (id == ID_TOPLEVEL_XID)
		{
			if (end - p < 4)
				return false;
			parts->top_xid = wa_get32(p);
			p += 4;
		}
		else if (id <= MAX_BLOCK_ID)
		{
			WaBlockRef *block = &parts->block[parts->blocks];
			const WaBlockRef *before = parts->blocks > 0 ? block - 1 : NULL;

			if (before != NULL && id <= before->id)
				return false;
			block->id = id;
			if (!block_header(&p, end, before, block))
				return false;
			parts->blocks++;
			parts->image_bytes += block->image_len;
			announced += (uint64) block->image_len + block->data_len;
		}
		else
			return false;
	}
	if (record->total_len - (uint64) (p - record->data) != announced)
		return false;
	if (record->data_len == record->total_len)
		parts->main_data = end - parts->main_len;
	return true;
}

const uint8 *
wa_main_data(const WaWalRecord *record, uint32 *len, uint32 *full)
{
	WaRecordParts parts;
	uint32 start;

	if (!wa_record_parts(record, &parts))
		return NULL;
	*full = parts.main_len;
	start = record->total_len - parts.main_len;
	if (start > record->data_len)
		return NULL;
	*len = record->data_len - start;
	return record->data + start;
}

/* ---- events ---- */

static WaEventKind
xlog_event(const WaWalRecord *record, const uint8 *data, uint32 len, WaWalEvent *event)
{
	switch (record->info & 0xF0)
	{
		case XLOG_CHECKPOINT_SHUTDOWN:
		case XLOG_CHECKPOINT_ONLINE:
			/*
			 * struct CheckPoint.  From 17 on wal_level stands where there was
			 * padding before, so all offsets are the same.
			 */
			if (len < 88)
				return WA_EVENT_INVALID;
			event->u.checkpoint.shutdown = (record->info & 0xF0) == XLOG_CHECKPOINT_SHUTDOWN;
			event->u.checkpoint.redo_lsn = wa_get64(data);
			event->u.checkpoint.tli = wa_get32(data + 8);
			event->u.checkpoint.prev_tli = wa_get32(data + 12);
			event->u.checkpoint.full_page_writes = data[16] != 0;
			event->u.checkpoint.next_xid = wa_get64(data + 24);
			event->u.checkpoint.oldest_xid = wa_get32(data + 44);
			event->u.checkpoint.time = (int64) wa_get64(data + 64);
			return WA_EVENT_CHECKPOINT;

		case XLOG_SWITCH:
			return WA_EVENT_SWITCH;

		case XLOG_BACKUP_END:
			if (len < 8)
				return WA_EVENT_INVALID;
			event->u.backup_start = wa_get64(data);
			return WA_EVENT_BACKUP_END;

		case XLOG_PARAMETER_CHANGE:
			if (len < 26)
				return WA_EVENT_INVALID;
			event->u.parameters.max_connections = (int) wa_get32(data);
			event->u.parameters.max_worker_processes = (int) wa_get32(data + 4);
			event->u.parameters.max_wal_senders = (int) wa_get32(data + 8);
			event->u.parameters.max_prepared_xacts = (int) wa_get32(data + 12);
			event->u.parameters.max_locks_per_xact = (int) wa_get32(data + 16);
			event->u.parameters.wal_level = (int) wa_get32(data + 20);
			event->u.parameters.wal_log_hints = data[24] != 0;
			event->u.parameters.track_commit_timestamp = data[25] != 0;
			return WA_EVENT_PARAMETER_CHANGE;

		case XLOG_RESTORE_POINT:
			if (len < 8 + WA_RESTORE_POINT_LEN ||
				memchr(data + 8, 0, WA_RESTORE_POINT_LEN) == NULL)
				return WA_EVENT_INVALID;
			event->u.restore_point.time = (int64) wa_get64(data);
			strlcpy(event->u.restore_point.name, (const char *) data + 8, WA_RESTORE_POINT_LEN);
			return WA_EVENT_RESTORE_POINT;

		case XLOG_FPW_CHANGE:
			if (len < 1)
				return WA_EVENT_INVALID;
			event->u.full_page_writes = data[0] != 0;
			return WA_EVENT_FPW_CHANGE;

		case XLOG_END_OF_RECOVERY:
			/* 17 and later append wal_level */
			if (len < 16)
				return WA_EVENT_INVALID;
			event->u.end_of_recovery.time = (int64) wa_get64(data);
			event->u.end_of_recovery.tli = wa_get32(data + 8);
			event->u.end_of_recovery.prev_tli = wa_get32(data + 12);
			return WA_EVENT_END_OF_RECOVERY;

		case XLOG_OVERWRITE_CONTRECORD:
			if (len < 8)
				return WA_EVENT_INVALID;
			event->u.overwritten_lsn = wa_get64(data);
			return WA_EVENT_OVERWRITE_CONTRECORD;

		case XLOG_CHECKPOINT_REDO:
			return record->major >= 17 ? WA_EVENT_CHECKPOINT_REDO : WA_EVENT_NONE;
	}
	return WA_EVENT_NONE;
}

static WaEventKind
smgr_event(uint8 type, const uint8 *data, uint32 len, WaWalEvent *event)
{
	switch (type)
	{
		case XLOG_SMGR_CREATE:
			if (len < 16)
				return WA_EVENT_INVALID;
			event->u.smgr.file = rel_file(data);
			event->u.smgr.block = 0;
			event->u.smgr.flags = (int) wa_get32(data + 12);
			return WA_EVENT_SMGR_CREATE;

		case XLOG_SMGR_TRUNCATE:
			if (len < 20)
				return WA_EVENT_INVALID;
			event->u.smgr.block = wa_get32(data);
			event->u.smgr.file = rel_file(data + 4);
			event->u.smgr.flags = (int) wa_get32(data + 16);
			return WA_EVENT_SMGR_TRUNCATE;
	}
	return WA_EVENT_NONE;
}

static WaEventKind
database_event(uint8 type, const uint8 *data, uint32 len, WaWalEvent *event)
{
	switch (type)
	{
		case XLOG_DBASE_CREATE_FILE_COPY:
		case XLOG_DBASE_CREATE_WAL_LOG:
			if (len < (type == XLOG_DBASE_CREATE_FILE_COPY ? 16 : 8))
				return WA_EVENT_INVALID;
			event->u.object.database = wa_get32(data);
			event->u.object.tablespace = wa_get32(data + 4);
			event->u.object.template_database =
				type == XLOG_DBASE_CREATE_FILE_COPY ? wa_get32(data + 8) : 0;
			return WA_EVENT_DATABASE_CREATE;

		case XLOG_DBASE_DROP:
			if (len < 8 || wa_get32(data + 4) > (len - 8) / 4)
				return WA_EVENT_INVALID;
			event->u.oids.database = wa_get32(data);
			event->u.oids.count = wa_get32(data + 4);
			event->u.oids.array = data + 8;
			event->u.oids.flags = 0;
			return WA_EVENT_DATABASE_DROP;
	}
	return WA_EVENT_NONE;
}

static WaEventKind
tablespace_event(uint8 type, const uint8 *data, uint32 len, WaWalEvent *event)
{
	if (type != XLOG_TBLSPC_CREATE && type != XLOG_TBLSPC_DROP)
		return WA_EVENT_NONE;
	if (len < 4)
		return WA_EVENT_INVALID;
	event->u.object.database = 0;
	event->u.object.tablespace = wa_get32(data);
	event->u.object.template_database = 0;
	event->u.object.path = data + 4;
	event->u.object.path_len = type == XLOG_TBLSPC_CREATE ? (uint32) strnlen((const char *) data + 4, len - 4) : 0;
	return type == XLOG_TBLSPC_CREATE ? WA_EVENT_TABLESPACE_CREATE : WA_EVENT_TABLESPACE_DROP;
}

static WaEventKind
heap_event(const uint8 *data, uint32 len, WaWalEvent *event)
{
	/* xl_heap_truncate: three bytes of padding behind the flags */
	if (len < 12 || wa_get32(data + 4) > (len - 12) / 4)
		return WA_EVENT_INVALID;
	event->u.oids.database = wa_get32(data);
	event->u.oids.count = wa_get32(data + 4);
	event->u.oids.flags = data[8];
	event->u.oids.array = data + 12;
	return WA_EVENT_HEAP_TRUNCATE;
}

static WaEventKind
lock_event(const uint8 *data, uint32 len, WaWalEvent *event)
{
	if (len < 4 || wa_get32(data) > (len - 4) / 12)
		return WA_EVENT_INVALID;
	event->u.locks.count = wa_get32(data);
	event->u.locks.array = data + 4;
	return WA_EVENT_LOCK;
}

bool
wa_event_record(uint8 rmid, uint8 info)
{
	uint8 type = info & 0xF0;

	switch (rmid)
	{
		case WA_RM_XLOG:
			switch (type)
			{
				case XLOG_CHECKPOINT_SHUTDOWN:
				case XLOG_CHECKPOINT_ONLINE:
				case XLOG_SWITCH:
				case XLOG_BACKUP_END:
				case XLOG_PARAMETER_CHANGE:
				case XLOG_RESTORE_POINT:
				case XLOG_FPW_CHANGE:
				case XLOG_END_OF_RECOVERY:
				case XLOG_OVERWRITE_CONTRECORD:
				case XLOG_CHECKPOINT_REDO:
					return true;
			}
			return false;
		case WA_RM_XACT:
			return wa_xact_record(info);
		case WA_RM_SMGR:
		case WA_RM_DBASE:
		case WA_RM_TBLSPC:
			return true;
		case WA_RM_STANDBY:
			return type == XLOG_STANDBY_LOCK;
		case WA_RM_HEAP:
			return (info & XLOG_HEAP_OPMASK) == XLOG_HEAP_TRUNCATE;
	}
	return false;
}

WaEventKind
wa_decode_event(const WaWalRecord *record, WaWalEvent *event)
{
	const uint8 *data;
	uint32 len;
	uint32 full;
	uint8 type = record->info & 0xF0;

	event->kind = WA_EVENT_NONE;
	if (!wa_event_record(record->rmid, record->info))
		return WA_EVENT_NONE;
	if (record->rmid == WA_RM_XACT)
		return event->kind = wa_xact_event(record, event);

	/*
	 * Others are short, but for lists of locks, of relations and of
	 * tablespaces that are longer than anything a server can make.
	 */
	data = wa_main_data(record, &len, &full);
	if (data == NULL || len < full)
		return event->kind = WA_EVENT_INVALID;
	switch (record->rmid)
	{
		case WA_RM_XLOG:
			event->kind = xlog_event(record, data, len, event);
			break;
		case WA_RM_SMGR:
			event->kind = smgr_event(type, data, len, event);
			break;
		case WA_RM_DBASE:
			event->kind = database_event(type, data, len, event);
			break;
		case WA_RM_TBLSPC:
			event->kind = tablespace_event(type, data, len, event);
			break;
		case WA_RM_STANDBY:
			event->kind = lock_event(data, len, event);
			break;
		case WA_RM_HEAP:
			event->kind = heap_event(data, len, event);
			break;
	}
	return event->kind;
}

/* ---- arrays ---- */

TransactionId
wa_array_xid(const uint8 *array, uint32 i)
{
	return wa_get32(array + (size_t) i * 4);
}

Oid
wa_array_oid(const uint8 *array, uint32 i)
{
	return wa_get32(array + (size_t) i * 4);
}

WaRelFile
wa_array_file(const uint8 *array, uint32 i)
{
	return rel_file(array + (size_t) i * 12);
}

void
wa_array_lock(const uint8 *array, uint32 i, TransactionId *xid, Oid *database,
			  Oid *relation)
{
	const uint8 *p = array + (size_t) i * 12;

	*xid = wa_get32(p);
	*database = wa_get32(p + 4);
	*relation = wa_get32(p + 8);
}
