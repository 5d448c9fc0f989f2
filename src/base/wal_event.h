/*-------------------------------------------------------------------------
 *
 * wal_event.h
 *	  What a WAL record says: its parts, its names, and the events that the
 *	  archive keeps an index of.
 *
 * Layouts are those of each major's access/xact.h, catalog/pg_control.h,
 * commands/dbcommands_xlog.h, commands/tablespace.h, access/heapam_xlog.h,
 * catalog/storage_xlog.h and storage/standbydefs.h; where they differ the
 * record's major decides.  Arrays are not copied: they point into the record,
 * unaligned, and are read with the functions below.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_WAL_EVENT_H
#define WA_WAL_EVENT_H

#include "base.h"

#include "wal_reader.h"

/* as in every supported major's MAXPGPATH-free fields */
#define WA_GID_LEN 201          /* GIDSIZE and a NUL */
#define WA_RESTORE_POINT_LEN 64 /* MAXFNAMELEN */

/* Resource managers that we look into (access/rmgrlist.h; never renumbered). */
#define WA_RM_XLOG 0
#define WA_RM_XACT 1
#define WA_RM_SMGR 2
#define WA_RM_CLOG 3
#define WA_RM_DBASE 4
#define WA_RM_TBLSPC 5
#define WA_RM_STANDBY 8
#define WA_RM_HEAP 10

/* A relation's storage: RelFileNode until 15, RelFileLocator from 16. */
typedef struct WaRelFile
{
	Oid tablespace;
	Oid database; /* 0: shared */
	Oid number;
} WaRelFile;

#define WA_MAX_BLOCKS 33 /* XLR_MAX_BLOCK_ID + 1 */

typedef struct WaBlockRef
{
	uint8 id;
	uint8 fork;
	WaRelFile file;
	uint32 block;
	bool has_image;
	bool apply_image;
	uint16 image_len; /* bytes in the record */
	uint16 data_len;
} WaBlockRef;

/* The parts that the headers of a record announce (xlogrecord.h). */
typedef struct WaRecordParts
{
	int blocks;
	WaBlockRef block[WA_MAX_BLOCKS];
	uint32 image_bytes;     /* of all block images */
	uint16 origin;          /* replication origin, 0: none */
	TransactionId top_xid;  /* 0: not given */
	const uint8 *main_data; /* NULL if the record is not kept as a whole */
	uint32 main_len;
} WaRecordParts;

/*
 * Take a record apart.  Needs its first 1024 bytes at least (or all of it).
 * Returns false if its headers contradict one another or its length.
 */
extern bool wa_record_parts(const WaWalRecord *record, WaRecordParts *parts);

/* "Heap2" and so on, as pg_waldump says; "custom###" for extensions', "UNKNOWN (n)" else. Into 'name', 'size' bytes. */
extern void wa_rmgr_name(int major, uint8 rmid, char *name, size_t size);

/* The record's type as pg_waldump says it, "INSERT+INIT"; "UNKNOWN (f0)" if unknown. */
extern void wa_record_type(int major, uint8 rmid, uint8 info, char *name,
						   size_t size);

typedef enum WaEventKind
{
	WA_EVENT_NONE,    /* nothing that the index knows */
	WA_EVENT_INVALID, /* such a record, but its content makes no sense */
	WA_EVENT_COMMIT,
	WA_EVENT_ABORT,
	WA_EVENT_PREPARE,
	WA_EVENT_COMMIT_PREPARED,
	WA_EVENT_ABORT_PREPARED,
	WA_EVENT_RESTORE_POINT,
	WA_EVENT_CHECKPOINT, /* shutdown or online */
	WA_EVENT_END_OF_RECOVERY,
	WA_EVENT_PARAMETER_CHANGE,
	WA_EVENT_FPW_CHANGE,
	WA_EVENT_BACKUP_END,
	WA_EVENT_SWITCH,
	WA_EVENT_OVERWRITE_CONTRECORD,
	WA_EVENT_CHECKPOINT_REDO, /* 17 and later */
	WA_EVENT_SMGR_CREATE,
	WA_EVENT_SMGR_TRUNCATE,
	WA_EVENT_HEAP_TRUNCATE, /* wal_level = logical only */
	WA_EVENT_DATABASE_CREATE,
	WA_EVENT_DATABASE_DROP,
	WA_EVENT_TABLESPACE_CREATE,
	WA_EVENT_TABLESPACE_DROP,
	WA_EVENT_LOCK /* AccessExclusiveLocks of transactions (XLOG_STANDBY_LOCK) */
} WaEventKind;

/* An object whose statistics a transaction drops: xl_xact_stats_item. */
typedef struct WaStatsItem
{
	int kind; /* PgStat_Kind: 1 database, 2 relation, 3 function, 4 replication slot, ... as in that major */
	Oid database;
	uint64 object;
} WaStatsItem;

typedef struct WaXact
{
	TransactionId xid; /* of a two-phase record that of the prepared transaction */
	int64 time;        /* TimestampTz: microseconds since 2000-01-01 UTC */
	Oid database;      /* 0: not given */
	uint32 subxacts;
	const uint8 *subxact_array;
	uint32 dropped_files;
	const uint8 *dropped_file_array;
	uint32 dropped_stats;
	const uint8 *dropped_stats_array;
	char gid[WA_GID_LEN]; /* empty: none given */
	XLogRecPtr origin_lsn;
	int64 origin_time;
	bool incomplete; /* longer than WA_RECORD_KEEP: the arrays and what follows may be missing */
} WaXact;

typedef struct WaParameters
{
	int max_connections;
	int max_worker_processes;
	int max_wal_senders;
	int max_prepared_xacts;
	int max_locks_per_xact;
	int wal_level; /* 0 minimal, 1 replica, 2 logical */
	bool wal_log_hints;
	bool track_commit_timestamp;
} WaParameters;

typedef struct WaCheckpoint
{
	bool shutdown;
	XLogRecPtr redo_lsn;
	TimeLineID tli;
	TimeLineID prev_tli;
	bool full_page_writes;
	uint64 next_xid; /* full transaction id */
	TransactionId oldest_xid;
	int64 time; /* pg_time_t: seconds since 1970 */
} WaCheckpoint;

typedef struct WaWalEvent
{
	WaEventKind kind;
	union
	{
		WaXact xact; /* COMMIT ... ABORT_PREPARED */
		struct
		{
			int64 time; /* TimestampTz */
			char name[WA_RESTORE_POINT_LEN];
		} restore_point;
		WaCheckpoint checkpoint;
		struct
		{
			int64 time; /* TimestampTz */
			TimeLineID tli;
			TimeLineID prev_tli;
		} end_of_recovery;
		WaParameters parameters;
		bool full_page_writes;      /* FPW_CHANGE */
		XLogRecPtr backup_start;    /* BACKUP_END */
		XLogRecPtr overwritten_lsn; /* OVERWRITE_CONTRECORD */
		struct
		{
			WaRelFile file;
			uint32 block; /* TRUNCATE: first block that goes */
			int flags;    /* TRUNCATE: 1 heap, 2 visibility map, 4 free space map; CREATE: the fork */
		} smgr;
		struct
		{
			Oid database;
			uint32 count;
			const uint8 *array; /* Oids, see wa_array_oid */
			uint8 flags;        /* HEAP_TRUNCATE: 1 cascade, 2 restart sequences */
		} oids;                 /* HEAP_TRUNCATE: relations; DATABASE_DROP: tablespaces */
		struct
		{
			Oid database;
			Oid tablespace;        /* also TABLESPACE_CREATE and _DROP */
			Oid template_database; /* CREATE by file copy, else 0 */
			const uint8 *path;     /* TABLESPACE_CREATE: of its directory, path_len bytes; empty: it is in the data directory */
			uint32 path_len;
		} object;
		struct
		{
			uint32 count;
			const uint8 *array; /* see wa_array_lock */
		} locks;
	} u;
} WaWalEvent;

/*
 * Which records wa_decode_event has to see as a whole: for WaReaderOptions.keep.
 * Not those of RM_XLOG and RM_HEAP that only carry page images or tuples.
 */
extern bool wa_event_record(uint8 rmid, uint8 info);

/* Say what the record means for the index; 'event' is filled. */
extern WaEventKind wa_decode_event(const WaWalRecord *record, WaWalEvent *event);

/* Element 'i' of an array of the event (smaller than its count). */
extern TransactionId wa_array_xid(const uint8 *array, uint32 i);
extern Oid wa_array_oid(const uint8 *array, uint32 i);
extern WaRelFile wa_array_file(const uint8 *array, uint32 i);
extern WaStatsItem wa_array_stats(int major, const uint8 *array, uint32 i);
extern void wa_array_lock(const uint8 *array, uint32 i, TransactionId *xid,
						  Oid *database, Oid *relation);

#endif /* WA_WAL_EVENT_H */
