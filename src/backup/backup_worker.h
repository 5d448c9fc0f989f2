/*-------------------------------------------------------------------------
 *
 * backup_worker.h
 *	  The process that takes a base backup: what its files share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_BACKUP_WORKER_H
#define WA_BACKUP_WORKER_H

#include "postgres.h"

#include "../capture/connection.h"
#include "../state/backup_file.h"
#include "../state/backup_slot.h"
#include "../state/shmem.h"
#include "../state/source_file.h"
#include "backup_check.h"
#include "codec.h"

#define WA_BACKUP_WARNINGS_LEN 2048

/* The one context of a backup worker. */
typedef struct WaBackup
{
	int entry; /* in shared memory */
	WaBackupRequest request;
	WaBackupStat stat;
	WaSourceSettings settings;
	int lock_fd; /* of <source>/backup.lock, -1: not held */

	WaCause cause;    /* of an error of the connection */
	const char *word; /* of any other error: the journal's cause; NULL: that of 'cause' */
	bool retryable;   /* the error is that of a server that has been too quiet */

	WaConnection *connection;
	WaCompression compression;
	WaBackupInfo info;       /* what backup.json will say */
	XLogRecPtr parent_stop;  /* of an incremental one's parent, else 0 */
	char folder[MAXPGPATH];  /* <label>.tmp; empty: not made yet */
	WaBackupCheck *check;    /* of what arrives */
	bool started_journalled; /* the journal has backup_started */
	bool kept;               /* it stands under its name */

	/* warnings of the server while it sent the backup */
	uint64 page_failures;                  /* data pages with a wrong checksum */
	char warnings[WA_BACKUP_WARNINGS_LEN]; /* the first of them, a line each */
	uint64 logged_warnings;                /* of whatever kind */

	uint64 memory_limit; /* of the process, before it was lowered for the connection */
} WaBackup;

/* Raise an error; 'w' is the word that the journal gives as its cause. */
#define wa_backup_error(b, w, ...)     \
	do                                 \
	{                                  \
		(b)->word = (w);               \
		ereport(ERROR, (__VA_ARGS__)); \
	} while (0)

/* --- backup_worker.c --- */

/* The process; bgw_extra is a WaBackupStart. */
extern PGDLLEXPORT void wa_backup_main(Datum main_arg);

/* Show the next phase. */
extern void wa_backup_phase(WaBackup *b, WaBackupPhase phase);

/*
 * Have an indexer look at the disk and the journal.  Returns the count of
 * backups_written that stands for this.
 */
extern uint64 wa_tell_indexer(WaBackup *b);

/*
 * Write a line of the journal: 'kind' backup_started, backup_finished or
 * backup_failed.  A line that can't be written is told in the server's log.
 */
extern void wa_backup_event(WaBackup *b, const char *kind, const char *severity,
							const char *cause, const char *fmt, ...) pg_attribute_printf(5, 6);

/* --- base_backup.c --- */

/*
 * Have the connected server send a base backup and write it to b->folder,
 * checked against its manifest and durable but for the folder itself; fills
 * b->info and calls wa_check_coverage as soon as its start is known.
 */
extern void wa_receive_base_backup(WaBackup *b);

/* --- backup_parent.c --- */

/*
 * For an incremental backup: choose the parent, or check the one that was asked
 * for, and send its manifest to the server.
 */
extern void wa_send_parent(WaBackup *b);

/* --- backup_wal.c --- */

/* Wait a little for the source to be streaming; raises an error where it is not. */
extern void wa_check_streaming(WaBackup *b);

/*
 * Is the WAL from the backup's start on in the archive, or on its way there?
 * Raises an error if not.
 */
extern void wa_check_coverage(WaBackup *b);

/*
 * Has the archive a file for each segment from 'from' to 'to' on the path
 * 'history'?  If not, the first name that is missing is put into 'missing', of
 * WA_WAL_NAME_LEN bytes.
 */
extern bool wa_archived_wal_is_there(WaBackup *b, const WaHistory *history, XLogRecPtr from,
									 XLogRecPtr to, char *missing);

/*
 * Wait until the WAL up to the backup's end is archived and checked, and the
 * catalog says so, if it can, or a cancellation.
 */
extern void wa_wait_for_wal(WaBackup *b);

/*
 * The server's path of timelines, from its own history file; one entry where
 * it has no ancestors.  Raises errors.
 */
extern void wa_server_history(WaBackup *b, WaHistory *history);

#endif /* WA_BACKUP_WORKER_H */
