/*-------------------------------------------------------------------------
 *
 * wal_event_xact.c
 *	  Ends and prepares of transactions.  See wal_event.h.
 *
 * ParseCommitRecord, ParseAbortRecord and ParsePrepareRecord of xactdesc.c,
 * with every count checked, and for records of which only the beginning is
 * there.
 *
 *-------------------------------------------------------------------------
 */
#include "wal_event_internal.h"

#define XLOG_XACT_COMMIT 0x00
#define XLOG_XACT_PREPARE 0x10
#define XLOG_XACT_ABORT 0x20
#define XLOG_XACT_COMMIT_PREPARED 0x30
#define XLOG_XACT_ABORT_PREPARED 0x40
#define XLOG_XACT_OPMASK 0x70
#define XLOG_XACT_HAS_INFO 0x80

#define HAS_DBINFO (1U << 0)
#define HAS_SUBXACTS (1U << 1)
#define HAS_RELFILES (1U << 2)
#define HAS_INVALS (1U << 3)
#define HAS_TWOPHASE (1U << 4)
#define HAS_ORIGIN (1U << 5)
#define HAS_GID (1U << 7)
#define HAS_DROPPED_STATS (1U << 8)

#define XID_SIZE 4
#define FILE_SIZE 12
#define INVAL_SIZE 16

/* From 18 on an object of the statistics has a number of 64 bits. */
#define STATS_SIZE(major) ((major) >= 18 ? 16 : 12)

#define PREPARE_HEADER 72 /* sizeof(xl_xact_prepare) */

/* What is left of the main data, and of what there is of it. */
typedef struct Cursor
{
	const uint8 *p;
	uint64 there; /* bytes that can be read */
	uint64 full;  /* bytes that the record has: more if it is not complete */
	bool bad;     /* the record says that it is longer than it is */
} Cursor;

/* The next 'len' bytes; NULL if they are not there. */
static const uint8 *
next(Cursor *c, uint64 len)
{
	const uint8 *p = c->p;

	if (len > c->full)
	{
		c->bad = true;
		c->there = c->full = 0;
		return NULL;
	}
	c->full -= len;
	if (len > c->there)
	{
		c->there = 0;
		return NULL;
	}
	c->p += len;
	c->there -= len;
	return p;
}

/* A count and as many elements; the count is 0 if they are not all there. */
static void
next_array(Cursor *c, uint32 element, uint32 *count, const uint8 **array)
{
	const uint8 *p = next(c, 4);
	uint32 n;

	*count = 0;
	*array = NULL;
	if (p == NULL)
		return;
	n = wa_get32(p);
	*array = next(c, (uint64) n * element);
	if (*array != NULL)
		*count = n;
}

/* The same for the arrays of a prepare, whose counts came before. */
static void
next_counted(Cursor *c, uint32 n, uint32 element, uint32 *count, const uint8 **array)
{
	uint64 len = (uint64) n * element;

	*array = next(c, len);
	*count = *array != NULL ? n : 0;
	if (len % 8 != 0)
		next(c, 8 - len % 8);
}

/* Commit and abort, prepared or not: they have the same layout. */
static bool
read_end(Cursor *c, const WaWalRecord *record, WaXact *xact)
{
	uint32 xinfo = 0;
	uint32 invals;
	const uint8 *inval_array;
	bool two_phase;
	const uint8 *p;

	p = next(c, 8);
	if (p != NULL)
		xact->time = (int64) wa_get64(p);
	if ((record->info & XLOG_XACT_HAS_INFO) != 0)
	{
		p = next(c, 4);
		if (p != NULL)
			xinfo = wa_get32(p);
	}
	if ((xinfo & HAS_DBINFO) != 0)
	{
		p = next(c, 8);
		if (p != NULL)
			xact->database = wa_get32(p);
	}
	if ((xinfo & HAS_SUBXACTS) != 0)
		next_array(c, XID_SIZE, &xact->subxacts, &xact->subxact_array);
	if ((xinfo & HAS_RELFILES) != 0)
		next_array(c, FILE_SIZE, &xact->dropped_files, &xact->dropped_file_array);
	if ((xinfo & HAS_DROPPED_STATS) != 0)
		next_array(c, STATS_SIZE(record->major), &xact->dropped_stats, &xact->dropped_stats_array);
	if ((xinfo & HAS_INVALS) != 0)
		next_array(c, INVAL_SIZE, &invals, &inval_array);

	two_phase = (xinfo & HAS_TWOPHASE) != 0;
	if (two_phase)
	{
		p = next(c, 4);
		if (p != NULL)
			xact->xid = wa_get32(p);
		if ((xinfo & HAS_GID) != 0 && c->there > 0)
		{
			uint64 room = Min(c->there, (uint64) WA_GID_LEN);
			const uint8 *nul = memchr(c->p, 0, room);

			if (nul == NULL && (c->there == c->full || room == WA_GID_LEN))
				return false;
			if (nul == NULL)
				c->there = 0;
			else
			{
				strlcpy(xact->gid, (const char *) c->p, WA_GID_LEN);
				next(c, nul + 1 - c->p);
			}
		}
	}
	if ((xinfo & HAS_ORIGIN) != 0)
	{
		p = next(c, 16);
		if (p != NULL)
		{
			xact->origin_lsn = wa_get64(p);
			xact->origin_time = (int64) wa_get64(p + 8);
		}
	}
	return !c->bad;
}

/* xl_xact_prepare and what follows, each part aligned to eight bytes. */
static bool
read_prepare(Cursor *c, const WaWalRecord *record, WaXact *xact)
{
	const uint8 *header = next(c, PREPARE_HEADER);
	const uint8 *gid;
	uint32 gid_len;
	uint32 ignored;
	const uint8 *ignored_array;
	uint32 stats = STATS_SIZE(record->major);

	if (header == NULL)
		return !c->bad;
	xact->xid = wa_get32(header + 8);
	xact->database = wa_get32(header + 12);
	xact->time = (int64) wa_get64(header + 16);
	xact->origin_lsn = wa_get64(header + 56);
	xact->origin_time = (int64) wa_get64(header + 64);

	/* its NUL is counted */
	next_counted(c, wa_get16(header + 54), 1, &gid_len, &gid);
	if (gid != NULL)
	{
		if (gid_len == 0 || gid_len >= WA_GID_LEN || gid[gid_len - 1] != '\0')
			return false;
		strlcpy(xact->gid, (const char *) gid, WA_GID_LEN);
	}
	next_counted(c, wa_get32(header + 28), XID_SIZE, &xact->subxacts, &xact->subxact_array);
	next_counted(c, wa_get32(header + 32), FILE_SIZE, &xact->dropped_files, &xact->dropped_file_array);
	next_counted(c, wa_get32(header + 36), FILE_SIZE, &ignored, &ignored_array);
	next_counted(c, wa_get32(header + 40), stats, &xact->dropped_stats, &xact->dropped_stats_array);
	return !c->bad;
}

bool
wa_xact_record(uint8 info)
{
	switch (info & XLOG_XACT_OPMASK)
	{
		case XLOG_XACT_COMMIT:
		case XLOG_XACT_PREPARE:
		case XLOG_XACT_ABORT:
		case XLOG_XACT_COMMIT_PREPARED:
		case XLOG_XACT_ABORT_PREPARED:
			return true;
	}
	return false;
}

WaEventKind
wa_xact_event(const WaWalRecord *record, WaWalEvent *event)
{
	WaXact *xact = &event->u.xact;
	WaEventKind kind = WA_EVENT_NONE;
	uint32 len;
	uint32 full;
	Cursor c;
	bool valid;

	memset(xact, 0, sizeof(*xact));
	xact->xid = record->xid;
	xact->incomplete = record->data_len < record->total_len;
	c.bad = false;
	switch (record->info & XLOG_XACT_OPMASK)
	{
		case XLOG_XACT_COMMIT:
			kind = WA_EVENT_COMMIT;
			break;
		case XLOG_XACT_ABORT:
			kind = WA_EVENT_ABORT;
			break;
		case XLOG_XACT_PREPARE:
			kind = WA_EVENT_PREPARE;
			break;
		case XLOG_XACT_COMMIT_PREPARED:
			kind = WA_EVENT_COMMIT_PREPARED;
			xact->xid = 0;
			break;
		case XLOG_XACT_ABORT_PREPARED:
			kind = WA_EVENT_ABORT_PREPARED;
			xact->xid = 0;
			break;
	}

	c.p = wa_main_data(record, &len, &full);
	if (c.p == NULL)
		return WA_EVENT_INVALID;
	c.there = len;
	c.full = full;
	valid = kind == WA_EVENT_PREPARE ? read_prepare(&c, record, xact) : read_end(&c, record, xact);
	if (valid && !xact->incomplete && xact->xid == 0 &&
		(kind == WA_EVENT_COMMIT_PREPARED || kind == WA_EVENT_ABORT_PREPARED))
		valid = false;
	return valid ? kind : WA_EVENT_INVALID;
}

WaStatsItem
wa_array_stats(int major, const uint8 *array, uint32 i)
{
	const uint8 *p = array + (size_t) i * STATS_SIZE(major);
	WaStatsItem item;

	item.kind = (int) wa_get32(p);
	item.database = wa_get32(p + 4);
	item.object = wa_get32(p + 8);
	if (major >= 18)
		item.object |= (uint64) wa_get32(p + 12) << 32;
	return item;
}
