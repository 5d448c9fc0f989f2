/*-------------------------------------------------------------------------
 *
 * shmem.h
 *	  Shared memory: one slot per source, and the state of the host.
 *
 * There is no lock.  A receiver must never wait for anybody, so nobody may be
 * able to hold something that it needs, not even a client stopped by SIGSTOP:
 * each group of fields has one writer, who brackets a change with an odd and
 * an even change count (as PgBackendStatus does), and readers copy until they
 * got one state.  Who writes what:
 *
 *	 slot.control	the launcher alone
 *	 slot.stat		the slot's receiver alone; the launcher while no receiver
 *					is attached (receiver_pid is 0)
 *	 slot.finished	the slot's receiver alone (a ring)
 *	 slot.index		the indexer that holds slot.indexer_pid
 *	 progress		the process whose pid the entry has
 *	 slot.observer	the observer alone
 *	 slot.plan		the launcher alone
 *	 backup			see backup_slot.h
 *	 host			the launcher alone, but for the atomics
 *
 * No field is a pointer.  A slot whose generation changed belongs to another
 * source or to another life of it; a worker that finds another generation
 * than the one it was started for leaves quietly.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_SHMEM_H
#define WA_SHMEM_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "port/atomics.h"

#include "../base/source_name.h"
#include "backup_plan.h"
#include "backup_slot.h"
#include "cause.h"
#include "lag.h"
#include "progress.h"

#define WA_HOST_LEN 256
#define WA_ADDR_LEN 64
#define WA_ERROR_LEN 1024
#define WA_FINISHED_RING 256

typedef enum WaReceiverState
{
	WA_STATE_STARTING,
	WA_STATE_CONNECTING,
	WA_STATE_CATCHUP,
	WA_STATE_STREAMING,
	WA_STATE_WAITING,
	WA_STATE_PAUSED,
	WA_STATE_STOPPED
} WaReceiverState;

/* What the source's settings ask for. */
typedef enum WaDesiredState
{
	WA_DESIRED_ACTIVE,
	WA_DESIRED_PAUSED,
	WA_DESIRED_DROPPING /* drop slot and files, then forget */
} WaDesiredState;

typedef struct WaSlotControl
{
	bool in_use;
	char name[WA_SOURCE_NAME_LEN];
	uint32 generation; /* of this use of the slot */
	uint64 revision;   /* of the settings that the receiver runs with */
	WaDesiredState desired;
	WaCause cause;         /* why the launcher could not start a receiver */
	int heartbeat_ms;      /* as in the settings, for the observer */
	int relation_names_ms; /* 0: off */
	char error[WA_ERROR_LEN];
} WaSlotControl;

typedef struct WaReceiverStat
{
	WaReceiverState state;
	TimestampTz state_since;
	WaCause cause;                 /* why waiting or stopped, else none */
	char last_error[WA_ERROR_LEN]; /* empty: none yet */
	TimestampTz last_error_time;   /* 0: none yet */

	/* the server of the present connection, or of the last */
	char sender_host[WA_HOST_LEN];
	char sender_addr[WA_ADDR_LEN]; /* numeric, empty for a socket file */
	int sender_port;               /* 0: unknown */
	int server_version;            /* PQserverVersion, 0: unknown */
	bool server_in_recovery;
	bool server_remote_apply;          /* its synchronous_commit default */
	TimestampTz connected_since;       /* 0: not connected */
	TimestampTz last_msg_receipt_time; /* 0: none yet */
	uint64 reconnects;                 /* connections made, less the first */

	/* the archive */
	uint64 system_identifier;         /* 0: not known yet */
	uint64 refused_system_identifier; /* 0: none was refused */
	uint32 segment_size;              /* bytes, 0: not known yet */
	TimeLineID received_tli;          /* 0: nothing received yet */
	XLogRecPtr stream_start;          /* of the present stream */
	XLogRecPtr written_lsn;
	XLogRecPtr flushed_lsn;    /* durable and the server's; what is confirmed */
	XLogRecPtr latest_end_lsn; /* end of the server's WAL, as it last said */
	TimestampTz latest_end_time;
	uint64 segments_completed; /* since the receiver's slot was made */
	uint64 bytes_received;
	uint64 flushes;
	uint64 flush_usec;    /* sum of the time that flushes took */
	uint64 journal_bytes; /* size of the journal after our last line */
	WaLag lag;            /* when the server's WAL came to be */
} WaReceiverStat;

typedef struct WaFinishedSegment
{
	uint64 system_identifier;
	TimeLineID tli;
	uint64 segno;
} WaFinishedSegment;

/* How far the newest timeline's WAL is decoded: it is checked up to here. */
typedef struct WaIndexStat
{
	uint32 generation;        /* of the slot's use that it belongs to; else it says nothing */
	uint64 system_identifier; /* 0: nothing is decoded yet */
	TimeLineID tli;
	XLogRecPtr decoded_lsn;   /* start of the first record not decoded yet */
	XLogRecPtr need_lsn;      /* it can't be before this byte is durable */
	XLogRecPtr commit_lsn;    /* end of the latest commit's record, 0: none seen yet */
	TransactionId commit_xid; /* valid if commit_lsn is not 0, as the next */
	TimestampTz commit_time;
} WaIndexStat;

#define WA_OBSERVER_ERROR_LEN 512

/* What the observer has done for a source. */
typedef struct WaObserverStat
{
	uint32 generation;                /* of the slot's use that it belongs to; else it says nothing */
	TimestampTz heartbeat_time;       /* last commit that it made on the server, 0: none */
	uint64 heartbeat_xid;             /* its full transaction id */
	TimestampTz heartbeat_error_time; /* 0: none */
	char heartbeat_error[WA_OBSERVER_ERROR_LEN];
	TimestampTz names_time;       /* last time that it asked all databases, 0: never */
	int databases;                /* that allow connections, at that time */
	int databases_failed;         /* of which it could not ask so many */
	uint64 relations;             /* whose names are known */
	TimestampTz names_error_time; /* 0: none */
	char names_error[WA_OBSERVER_ERROR_LEN];
} WaObserverStat;

typedef struct WaSourceSlot
{
	/* written by the launcher */
	pg_atomic_uint32 control_count;
	WaSlotControl control;

	/* set by the receiver at start, cleared at exit */
	pg_atomic_uint32 receiver_pid;

	pg_atomic_uint32 stat_count;
	WaReceiverStat stat;

	/*
	 * The segments that became whole last: entry n % WA_FINISHED_RING is
	 * valid for finished_count - WA_FINISHED_RING <= n < finished_count.
	 */
	pg_atomic_uint64 finished_count;
	WaFinishedSegment finished[WA_FINISHED_RING];

	/* the indexer's part */
	pg_atomic_uint32 indexer_pid;      /* who works on this source, 0: nobody */
	pg_atomic_uint64 indexed_finished; /* finished_count at the last pass */
	pg_atomic_uint64 indexed_journal;  /* journal_bytes at the last pass */
	pg_atomic_uint32 index_wanted;     /* a full pass is due (start, rescan) */
	pg_atomic_uint32 index_count;
	WaIndexStat index;

	pg_atomic_uint32 observer_count;
	WaObserverStat observer;
	pg_atomic_uint64 names_written; /* grows when the file of names does */
	pg_atomic_uint64 names_indexed; /* names_written at the last pass */

	pg_atomic_uint64 backups_written;  /* grows when a backup worker has written to disk and journal */
	pg_atomic_uint64 backups_indexed;  /* backups_written at the last pass */
	pg_atomic_uint64 backups_judged;   /* backups_indexed when it was last said which backups are usable */
	pg_atomic_uint64 backups_mirrored; /* host.catalog_changes when notes and removals of backups were last looked for */

	pg_atomic_uint32 plan_count;
	WaBackupPlan plan; /* of scheduled backups */
} WaSourceSlot;

/* Why no receiver is started at all, or why the catalog is not kept. */
typedef enum WaHostState
{
	WA_HOST_STARTING,
	WA_HOST_RUNNING,
	WA_HOST_STANDBY,         /* this server is in recovery */
	WA_HOST_NO_DIRECTORY,    /* walarchive.directory is unset or unusable */
	WA_HOST_DIRECTORY_IN_USE /* another server holds its lock */
} WaHostState;

typedef enum WaCatalogState
{
	WA_CATALOG_UNKNOWN, /* no indexer has reported yet */
	WA_CATALOG_OK,
	WA_CATALOG_NO_EXTENSION, /* not in walarchive.database */
	WA_CATALOG_VERSION,      /* extension and library differ */
	WA_CATALOG_FAILED        /* the indexer failed: see the log */
} WaCatalogState;

typedef struct WaHost
{
	pg_atomic_uint32 count; /* change count of the next three */
	WaHostState state;
	char error[WA_ERROR_LEN];
	TimestampTz launcher_start;

	pg_atomic_uint32 launcher_pid; /* 0: not running */
	pg_atomic_uint32 launcher_procno;
	pg_atomic_uint64 launcher_look; /* when it began to look last, see wa_note_launcher_look */

	/*
	 * Bumped by a session at the commit of a change to the catalog; the
	 * indexer stores what it had seen before it read the catalog.
	 */
	pg_atomic_uint64 catalog_changes;
	pg_atomic_uint64 catalog_mirrored;
	pg_atomic_uint32 catalog_state; /* WaCatalogState */
	pg_atomic_uint32 indexers;      /* running indexer workers */
	pg_atomic_uint32 mirror_pid;    /* the indexer that mirrors settings, or 0 */
	pg_atomic_uint32 observer_pid;  /* 0: not running */
	pg_atomic_uint32 observer_procno;
} WaHost;

typedef struct WaShared
{
	WaHost host;
	WaProgressEntry progress[WA_PROGRESS_ENTRIES];
	WaBackupEntry backup[WA_BACKUP_ENTRIES];
	int max_sources;
	WaSourceSlot slot[FLEXIBLE_ARRAY_MEMBER];
} WaShared;

/* NULL if the library was not preloaded. */
extern PGDLLIMPORT WaShared *wa_shared;

/* Called by _PG_init while preloading: installs the two shared memory hooks. */
extern void wa_shmem_init(void);

/* True if shared memory is there; else an error that says to preload. */
extern void wa_require_preload(void);

/* Copy 'size' bytes that are changed under 'count': one consistent state. */
extern void wa_read_consistent(pg_atomic_uint32 *count, void *to, const void *from, Size size);

/* Copy one consistent state. */
extern void wa_read_control(int slot, WaSlotControl *control);
extern void wa_read_stat(int slot, WaReceiverStat *stat);
extern void wa_read_index(int slot, WaIndexStat *index);
extern uint32 wa_read_progress(int entry, WaProgress *progress); /* returns the pid, 0: free */
extern void wa_read_observer(int slot, WaObserverStat *stat);
extern void wa_read_plan(int slot, WaBackupPlan *plan);
extern void wa_read_host(WaHostState *state, char *error, TimestampTz *start);

/*
 * Has WAL become durable since the indexers looked last that lets them decode
 * another record of the live timeline?  Of copies of one slot's parts.
 */
extern bool wa_decode_is_due(const WaSlotControl *control,
							 const WaReceiverStat *stat, const WaIndexStat *index);

/*
 * Bracket a change, by the one writer.  Between the two calls nothing may
 * raise an error.
 */
extern void wa_begin_change(pg_atomic_uint32 *count);
extern void wa_end_change(pg_atomic_uint32 *count);

/* The slot of the source called 'name', or -1. */
extern int wa_find_slot(const char *name);

/*
 * The launcher begins to look at what there is, which it does at least once a
 * second: written down on a clock that nobody sets.  And how long ago that was, in
 * microseconds; it means nothing while there is no launcher.
 */
extern void wa_note_launcher_look(void);
extern int64 wa_since_launcher_look(void);

/* Wake the launcher, or the observer; harmless while there is none. */
extern void wa_wake_launcher(void);
extern void wa_wake_observer(void);

/*
 * Have the catalog mirrored to the sources' files when the present
 * transaction commits, and the launcher woken; nothing if it aborts.
 */
extern void wa_catalog_changed_at_commit(void);

/* Constant, untranslated words for views. */
extern const char *wa_receiver_state_name(WaReceiverState state);
extern const char *wa_desired_state_name(WaDesiredState desired);
extern bool wa_parse_desired_state(const char *name, WaDesiredState *desired);

#endif /* WA_SHMEM_H */
