/*-------------------------------------------------------------------------
 *
 * plan_internal.h
 *	  What plan_input.c, plan_search.c and plan_store.c share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_PLAN_INTERNAL_H
#define WA_PLAN_INTERNAL_H

#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/pg_lsn.h"

#include "plan_input.h"
#include "range_read.h"

/* What a reading of a piece of WAL came by. */
typedef struct WaPlanFound
{
	bool valid;
	TimeLineID tli;  /* of the path that was read, where the reading ended: below that paths to it are the same */
	XLogRecPtr seen; /* end of what was looked at, a match included */
	XLogRecPtr from; /* records that start here or later */
	XLogRecPtr upto; /* and before this place were looked at */
	bool has_match;
	bool match_ends;     /* it ends a transaction */
	bool match_finishes; /* that was prepared */
	WaPlanRecord match;
	bool has_last[3]; /* record, xact, commit */
	WaPlanRecord last[3];
	List *prepared; /* WaPlanPrepared */
	List *finished; /* the same, gid NULL */
	List *settings; /* WaPlanSettings */
	char *failed;   /* why it could not be read; NULL: it was */
} WaPlanFound;

/* So many readings are kept. */
#define WA_PLAN_READINGS 8

typedef struct WaPlanPrepared
{
	TransactionId xid;
	char *gid;
} WaPlanPrepared;

/* The server's settings were changed here. */
typedef struct WaPlanSettings
{
	XLogRecPtr start_lsn;
	char *text; /* as find_in_wal tells them */
} WaPlanSettings;

typedef struct WaPlanPlace
{
	TimeLineID tli;
	XLogRecPtr start; /* of a segment */
} WaPlanPlace;

typedef enum WaPlanLast
{
	WA_LAST_RECORD,
	WA_LAST_XACT,
	WA_LAST_COMMIT
} WaPlanLast;

struct WaPlanCatalog
{
	WaRangeReader *reader;
	MemoryContext caller;
	MemoryContext context; /* of what is read of the catalog for one plan */
	char *user;            /* who asked */
	char *source;
	uint64 sysid;
	uint32 segment_size;
	XLogRecPtr live_lsn;      /* received and flushed of the newest timeline, 0: nothing is being received */
	XLogRecPtr live_at_start; /* the same when it was opened */
	TimeLineID newest_at_start;
	TimeLineID received_tli;   /* the receiver's, 0: it has not begun yet */
	TimestampTz waiting_since; /* for the indexer, 0: not yet */
	bool just_opened;          /* the source was looked at, under the present snapshot */
	bool lagged;               /* what was read lacks some of that */
	WaPlanInput input;
	XLogRecPtr within;                      /* records that end behind don't count in the search that is being made */
	WaPlanFound *found;                     /* the last reading */
	WaPlanFound readings[WA_PLAN_READINGS]; /* it and those before */
	int nreadings;                          /* made so far */
	TransactionId places_of;                /* the transaction that was looked for, 0: none */
	WaPlanPlace *places;                    /* segments that may have its end */
	int64 nplaces;
};

/* plan_find.c: one walarchive-decode serves all questions in between */
extern void wa_plan_decoder_begin(void);
extern void wa_plan_decoder_end(void);

/* plan_input.c */
extern void wa_plan_query(const char *query, int nargs, Oid *types, Datum *values, const char *nulls);

/* Columns of its rows; NULL is 0 or false. */
static inline XLogRecPtr
wa_plan_lsn(HeapTuple row, TupleDesc desc, int column)
{
	bool isnull;
	Datum value = SPI_getbinval(row, desc, column, &isnull);

	return isnull ? InvalidXLogRecPtr : DatumGetLSN(value);
}

static inline int64
wa_plan_int(HeapTuple row, TupleDesc desc, int column)
{
	bool isnull;
	Datum value = SPI_getbinval(row, desc, column, &isnull);

	if (isnull)
		return 0;
	return SPI_gettypeid(desc, column) == INT8OID ? DatumGetInt64(value) : DatumGetInt32(value);
}

static inline bool
wa_plan_bool(HeapTuple row, TupleDesc desc, int column)
{
	bool isnull;
	Datum value = SPI_getbinval(row, desc, column, &isnull);

	return !isnull && DatumGetBool(value);
}

/* plan_search.c */
extern void wa_plan_search_init(WaPlanCatalog *catalog);

/* Did a reading see the same WAL that this path has there? */
extern bool wa_plan_is_of_path(const WaPlanFound *found, const WaHistory *path);

/*
 * The part [*low, *high) of a range of which the rows of entry 'i' of the path do
 * not tell all: where a timeline was left its own copy of the segment can't be
 * read up to the fork, but the next one's can.  False: there is none.
 */
extern bool wa_plan_unlisted(WaPlanCatalog *catalog, const WaPlanRange *range, int i, XLogRecPtr *low, XLogRecPtr *high);

/*
 * Read the records of a path that start in [from, to) and end at or before
 * 'within'; the result is in catalog->found, until the next plan.  'what' is as
 * in walarchive.find_in_wal.
 */
extern void wa_plan_find(WaPlanCatalog *catalog, const WaHistory *path, XLogRecPtr from, XLogRecPtr to,
						 XLogRecPtr within, const char *what, int64 time, TransactionId xid);

#endif /* WA_PLAN_INTERNAL_H */
