/*-------------------------------------------------------------------------
 *
 * backup_slot.h
 *	  Base backups that are being taken: what was asked for, and how far the
 *	  worker has come.
 *
 * Shared memory has a few entries.  Who wants a backup (a session, or the
 * launcher for one that is due) claims one by an atomic change of 'holder',
 * fills 'request', and starts a worker that is given the entry's number and
 * generation.  From then on the worker is the holder and alone writes 'stat',
 * bracketed by 'count'.  When it leaves, 'stat' stays, with the outcome in it, until
 * whoever asked has read it ('asker' is 0 then), or is gone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_BACKUP_SLOT_H
#define WA_BACKUP_SLOT_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "port/atomics.h"

#include "../base/backup_label.h"
#include "../base/source_name.h"

#define WA_BACKUP_ENTRIES 16
#define WA_BACKUP_CONNINFO_LEN 4096
#define WA_BACKUP_ERROR_LEN 1024
#define WA_BACKUP_OPTION_LEN 64

typedef struct WaBackupRequest
{
	char source[WA_SOURCE_NAME_LEN];
	char label[WA_BACKUP_LABEL_LEN]; /* always set: the default is made by who asks */
	bool incremental;
	char parent[WA_BACKUP_LABEL_LEN];              /* empty: the newest usable one */
	bool fast_checkpoint;                          /* else spread */
	char compression[WA_BACKUP_OPTION_LEN];        /* as pg_basebackup --compress: [client-|server-]method[:detail] */
	char manifest_checksums[WA_BACKUP_OPTION_LEN]; /* SHA256, ... */
	int max_rate;                                  /* kB/s, 0: no limit */
	bool tolerate_checksum_failures;
	bool scheduled;                        /* by the launcher */
	char conninfo[WA_BACKUP_CONNINFO_LEN]; /* empty: the source's backup_conninfo, else its conninfo */
	char annotation[1024];
} WaBackupRequest;

typedef enum WaBackupPhase
{
	WA_BACKUP_STARTING,
	WA_BACKUP_CHECKPOINT, /* waiting for checkpoint to finish */
	WA_BACKUP_ESTIMATING, /* estimating backup size */
	WA_BACKUP_MANIFEST,   /* sending the parent's manifest */
	WA_BACKUP_STREAMING,  /* streaming database files */
	WA_BACKUP_SYNCING,    /* checking and making durable */
	WA_BACKUP_WAITING,    /* taken; waiting for its WAL to be archived and checked */
	WA_BACKUP_DONE,
	WA_BACKUP_FAILED
} WaBackupPhase;

typedef struct WaBackupStat
{
	WaBackupPhase phase;
	uint64 system_identifier; /* 0: not known yet */
	TimestampTz started_at;
	TimestampTz phase_since;
	int64 bytes_total; /* -1: not known */
	int64 bytes_done;  /* of the tars, unpacked, as pg_stat_progress_basebackup.backup_streamed */
	int64 bytes_written;
	int tablespaces_total; /* -1: not known */
	int tablespaces_done;
	TimeLineID tli;
	XLogRecPtr start_lsn; /* 0: not known yet */
	XLogRecPtr stop_lsn;  /* 0: not known yet */
	char parent[WA_BACKUP_LABEL_LEN];
	int sqlstate;                    /* WA_BACKUP_FAILED, or WA_BACKUP_DONE with an error: the wait was ended early */
	bool retryable;                  /* WA_BACKUP_FAILED: the server is too quiet for an incremental backup */
	char error[WA_BACKUP_ERROR_LEN]; /* WA_BACKUP_FAILED: why */
	char error_hint[WA_BACKUP_ERROR_LEN];
} WaBackupStat;

typedef struct WaBackupEntry
{
	pg_atomic_uint32 holder;     /* pid: who asks, then the worker; 0: free, if 'asker' is 0 as well */
	pg_atomic_uint32 asker;      /* pid of the session that waits for the outcome, 0: nobody */
	pg_atomic_uint32 generation; /* of this use of the entry */
	pg_atomic_uint32 worker_pid; /* 0: it has not begun, or has left */
	pg_atomic_uint32 cancel;     /* not 0: the worker is to give up */
	pg_atomic_uint32 count;      /* change count of the next two */
	WaBackupRequest request;
	WaBackupStat stat;
} WaBackupEntry;

/* What a worker is started with, in bgw_extra. */
typedef struct WaBackupStart
{
	int entry;
	uint32 generation;
	uint32 holder; /* who started it */
} WaBackupStart;

/* Called when shared memory is made. */
extern void wa_backup_slots_init(WaBackupEntry *entries);

/*
 * Claim an entry for a backup of 'request->source' and start its worker.
 * Returns the entry's number, or -1 with a palloc'd message (and hint) where
 * one of that source runs already, no entry is free, or no worker could be
 * started.  'wait': the caller is the asker, and gives the entry back with
 * wa_backup_forget.
 */
extern int wa_start_backup(const WaBackupRequest *request, bool wait,
						   char **problem, char **hint);
extern void wa_backup_forget(int entry);

/*
 * The worker's side: become the holder of its entry, false where nobody waits
 * for it there any more; and leave it, with 'stat' as the outcome.
 */
extern bool wa_hold_backup(const WaBackupStart *start);
extern void wa_leave_backup(int entry);

/* Have the worker of an entry give up; harmless if there is none. */
extern void wa_cancel_backup_entry(int entry);

/* The entry of the running backup of 'source', or -1. */
extern int wa_find_backup(const char *source);

/*
 * Copy one consistent state; returns the holder's pid, 0: it has left.  Either
 * may be NULL.
 */
extern uint32 wa_read_backup(int entry, WaBackupRequest *request, WaBackupStat *stat);

/* Show '*stat'; the worker alone. */
extern void wa_show_backup(int entry, const WaBackupStat *stat);

/* Constant, untranslated words, those of pg_stat_progress_basebackup where it has them. */
extern const char *wa_backup_phase_name(WaBackupPhase phase);

#endif /* WA_BACKUP_SLOT_H */
