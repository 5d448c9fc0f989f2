/*-------------------------------------------------------------------------
 *
 * wal_effects.h
 *	  What a transaction destroyed: relations dropped, truncated or rewritten,
 *	  databases dropped.
 *
 * WAL says which files go at a commit, not why.  The reason is pieced together
 * from the other records of the transaction: which files it made, what it wrote
 * into them first, which relations it locked, whose statistics it dropped.  So
 * every record and event of a stretch of WAL is shown to wa_effects_feed, in
 * order; what it has to remember between them is small and has an upper bound.
 * The rules are in docs/internals.md.
 *
 * Judged by evidence: where it is ambiguous the more alarming kind is said
 * (drop before truncate before rewrite), never nothing.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_WAL_EFFECTS_H
#define WA_WAL_EFFECTS_H

#include "base.h"

#include "decode_protocol.h"
#include "wal_event.h"

/* Room: facts about transactions in progress, and those transactions. */
#define WA_EFFECT_ITEMS 24576
#define WA_EFFECT_XACTS 8192
#define WA_EFFECT_BUCKETS 16384 /* a power of 2 */
#define WA_EFFECT_NEW_INDEXES 32
#define WA_EFFECT_MARKS 8

/* Files, relations and dropped statistics of one transaction that are looked at. */
#define WA_EFFECT_FILES 131072

/* The longest state that wa_effects_save makes, in bytes. */
#define WA_EFFECTS_STATE_MAX (512 + WA_EFFECT_NEW_INDEXES * 16 + WA_EFFECT_XACTS * 16 + WA_EFFECT_ITEMS * 40)

/*
 * A destruction.  'files' and 'relations' are valid during the call only;
 * destruction->files and ->relations say how many there are (not more than
 * WA_EFFECT_FILES, even if the transaction destroyed more).
 *
 * A transaction that never ended, because the server crashed after a DROP
 * DATABASE had removed the files, has the removal's record for its end record,
 * aborted = true and time = 0.
 */
typedef void (*WaEffectsEmit)(void *arg, const WaMsgDestruction *destruction,
							  const WaRelFile *files, const Oid *relations);

/* ---- The rest of the structs is wal_effects.c's own. ---- */

typedef enum WaEffectType
{
	WA_EFFECT_CREATED = 1,     /* a file was made */
	WA_EFFECT_LOCKED,          /* AccessExclusiveLock on relation file.number */
	WA_EFFECT_TRUNCATED,       /* a file was cut to nothing */
	WA_EFFECT_HEAP_TRUNCATED,  /* XLOG_HEAP_TRUNCATE names relation file.number */
	WA_EFFECT_DATABASE_MADE,   /* files of database file.database came */
	WA_EFFECT_DATABASE_MARKED, /* a database was marked as invalid */
	WA_EFFECT_DATABASE_GONE    /* files of database file.database went */
} WaEffectType;

/* What was written first into a file that the transaction made. */
typedef enum WaFirstWrite
{
	WA_FIRST_NONE,
	WA_FIRST_HEAP,  /* rows */
	WA_FIRST_EMPTY, /* a few blocks from number 0 on, as a new index on no rows has */
	WA_FIRST_BUILT  /* anything else: an index on rows, a copy, ... */
} WaFirstWrite;

typedef struct WaEffectItem
{
	uint8 type;       /* WaEffectType */
	uint8 first;      /* WaFirstWrite of CREATED */
	uint16 owner;     /* WaEffects.xact[owner] */
	uint32 next;      /* of the same transaction */
	XLogRecPtr lsn;   /* of the record */
	XLogRecPtr other; /* CREATED: of the first write; TRUNCATED, DATABASE_MARKED, DATABASE_GONE: of the record before */
	WaRelFile file;
	uint32 hash_next; /* CREATED: same bucket */
} WaEffectItem;

typedef struct WaEffectXact
{
	TransactionId xid;
	uint32 hash_next;
	uint32 older; /* by first fact */
	uint32 newer;
	uint32 first; /* items */
	uint32 last;
	uint32 items;
	uint32 unwritten;     /* files made, nothing written into them yet */
	uint32 index_deletes; /* rows deleted from pg_index */
	bool shared_deletes;  /* rows deleted from a shared catalog */
	bool prepared;
	bool cut; /* there was no room for all of its facts */
} WaEffectXact;

typedef struct WaEffectOrder
{
	XLogRecPtr lsn;
	uint32 at;
} WaEffectOrder;

typedef struct WaEffectKey
{
	Oid key;
	uint32 at;
} WaEffectKey;

typedef struct WaNewIndex
{
	Oid database;
	Oid number;
	XLogRecPtr lsn;
} WaNewIndex;

/* A row of a shared catalog that was changed in place, at once. */
typedef struct WaMark
{
	XLogRecPtr lsn;
	XLogRecPtr prev_lsn;
	Oid number; /* of the file */
	uint32 block;
	uint16 offset; /* of the row, 0: not known */
} WaMark;

typedef struct WaEffects
{
	uint64 forgotten; /* transactions of which something was forgotten for lack of room */
	bool has_max_time;
	int64 max_time; /* of the commits and aborts so far */

	/* ---- */
	uint32 xacts;
	uint32 unwritten; /* sum over the transactions */
	uint32 oldest;
	uint32 newest;
	uint32 free_xact;
	uint32 free_item;
	uint32 xact_bucket[WA_EFFECT_BUCKETS];
	uint32 file_bucket[WA_EFFECT_BUCKETS];
	WaEffectXact xact[WA_EFFECT_XACTS];
	WaEffectItem item[WA_EFFECT_ITEMS];

	/* indexes that were made without a lock on their table, a ring */
	uint32 new_indexes;
	WaNewIndex new_index[WA_EFFECT_NEW_INDEXES];

	/* the latest changes in place, oldest first */
	uint32 marks;
	WaMark mark[WA_EFFECT_MARKS];

	/* scratch of one judgement */
	WaEffectKey made[WA_EFFECT_ITEMS];    /* files made, by number */
	WaEffectKey locked[WA_EFFECT_ITEMS];  /* relations locked, by OID */
	WaEffectOrder order[WA_EFFECT_ITEMS]; /* all items, in the order of their records */
	WaEffectKey dropped[WA_EFFECT_FILES]; /* files dropped, by number */
	WaEffectKey gone[WA_EFFECT_FILES];    /* relations whose statistics go, by OID */
	Oid gone_oid[WA_EFFECT_FILES];        /* the same in their order */
	uint8 gone_why[WA_EFFECT_FILES];
	uint8 dropped_why[WA_EFFECT_FILES];
	WaRelFile files[WA_EFFECT_FILES];
	Oid relations[WA_EFFECT_FILES];
} WaEffects;

/*
 * Begin with nothing known.  The struct is large (WA_EFFECTS_STATE_MAX is only
 * its state): the caller allocates it, zeroed or not, and frees it as it likes.
 */
extern void wa_effects_begin(WaEffects *effects);

/*
 * The next record, and what wa_decode_event said about it.  Destructions go to
 * 'emit' when the record ends their transaction.
 *
 * The reader must show 1024 bytes of each record at least, and whole those for
 * which wa_event_record is true.
 */
extern void wa_effects_feed(WaEffects *effects, const WaWalRecord *record,
							const WaWalEvent *event, WaEffectsEmit emit, void *arg);

/*
 * The state between two records as bytes, to go on later: written into 'bytes'
 * if 'size' is enough for it.  Returns its length, at most WA_EFFECTS_STATE_MAX.
 */
extern size_t wa_effects_save(const WaEffects *effects, void *bytes, size_t size);

/*
 * Begin with a saved state.  False, with nothing known, if it is not one;
 * 'len' 0 is as wa_effects_begin.
 */
extern bool wa_effects_load(WaEffects *effects, const void *bytes, size_t len);

/* ---- between wal_effects.c and wal_judge.c ---- */

#define WA_NO_EFFECT PG_UINT32_MAX

/* The facts about 'xid', NULL if there are none. */
extern WaEffectXact *wa_effects_find(WaEffects *effects, TransactionId xid);

/*
 * A transaction has ended with 'event' (COMMIT, ABORT, or of a prepared one):
 * say what it destroyed.  Its facts are still there.
 */
extern void wa_judge_transaction(WaEffects *effects, const WaWalRecord *record,
								 const WaWalEvent *event, WaEffectsEmit emit,
								 void *arg);

#endif /* WA_WAL_EFFECTS_H */
