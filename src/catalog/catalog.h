/*-------------------------------------------------------------------------
 *
 * catalog.h
 *	  What the files of src/catalog share: the indexer's transactions, its
 *	  two jobs, and lists of archived files.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_CATALOG_H
#define WA_CATALOG_H

#include "postgres.h"

#include "../state/stat_functions.h"

#include "../base/wal_name.h"
#include "../state/progress.h"
#include "../state/shmem.h"
#include "decoder.h"

/* Rows that one transaction of the indexer writes at most. */
#define WA_BATCH_ROWS 500

/* One file of a cluster's wal directory. */
typedef struct WaArchiveFile
{
	WaWalFileKind kind; /* segment, partial or history */
	TimeLineID tli;
	uint64 segno; /* not for a history */
	int64 size;   /* bytes */
} WaArchiveFile;

typedef struct WaFileList
{
	int64 count;
	int64 allocated;
	WaArchiveFile *file;
} WaFileList;

/* ---- archive_files.c ---- */

/*
 * List the segments, partials and histories of a cluster, ordered by timeline
 * and segment, histories first on their timeline; a partial beside the
 * finished segment of the same name is left out.  The array is palloc'd in the
 * current context.  A missing directory is an empty list; other failures raise
 * an error.
 */
extern void wa_list_wal_files(const char *source, uint64 sysid,
							  uint32 segment_size, WaFileList *list);

/*
 * The parent of timeline 'tli' and where it was left, from the history file in
 * the archive.  False if there is no such file; '*parent' is 0 if its content
 * is damaged or names no parent.
 */
extern bool wa_read_history(const char *source, uint64 sysid, TimeLineID tli,
							TimeLineID *parent, XLogRecPtr *fork_lsn);

/* Size of a file in the wal directory in bytes, -1 if it is missing. */
extern int64 wa_wal_file_size(const char *source, uint64 sysid,
							  const char *name);

/* ---- catalog.c ---- */

/*
 * The settings of a worker that keep it out of other people's way: a commit of
 * the catalog never waits for a standby, a lock is not waited for for ever.
 */
extern void wa_catalog_session(void);

/*
 * Start a transaction of the indexer with SPI and a snapshot; 'activity' is
 * shown in pg_stat_activity.  Commit it; the caller's memory context is
 * current again afterwards.
 */
extern void wa_catalog_begin(const char *activity);
extern void wa_catalog_commit(void);

/*
 * Inside such a transaction run a query that returns one row with one bigint
 * or boolean, and return it.  'nulls' as in SPI_execute_with_args.
 */
extern int64 wa_catalog_call(const char *query, int nargs, Oid *types,
							 Datum *values, const char *nulls);

/*
 * The state of the extension in this database, in a transaction of its own.
 * '*version' gets the installed version, palloc'd, if it is not ours.
 */
extern WaCatalogState wa_catalog_check(char **version);

/* ---- mirror.c ---- */

/*
 * Bring the catalog's table of sources and the files on disk to one state.
 * Raises errors; the caller holds host.mirror_pid.
 */
extern void wa_mirror_sources(void);

/* ---- register.c ---- */

/*
 * Enter what is new of a source in the catalog.  The caller holds the slot's
 * indexer_pid.  '*full' asks for a pass over all files, and is set where the
 * journal or the ring turns out to need one; after an error it says what has
 * to be asked for again.  Raises errors.
 */
extern void wa_register_slot(int slot, const WaSlotControl *control,
							 bool *full, uint64 finished);

/*
 * Enter the journal's new lines.  Returns false if the catalog has no such
 * source.  '*full' is set to true if a line asks for a pass over all files.
 */
extern bool wa_register_journal(const char *source, bool *full);

/* ---- expire.c ---- */

/*
 * Do a piece of what expire() has decided for a source.  The caller holds the
 * slot's indexer_pid.  Returns false if there is nothing left to do, or nothing
 * that could be done now.  Raises errors.
 */
extern bool wa_remove_expired(const char *source);

/*
 * Was the segment that starts at 'start' removed by expire(), so that it is not
 * missing?  In a transaction of its own.
 */
extern bool wa_wal_was_removed(const char *source, uint64 sysid, TimeLineID tli,
							   XLogRecPtr start);

/* ---- relation_names.c ---- */

/*
 * Enter what the files of names have that the catalog has not, if there is
 * anything new or 'full' asks to look.  Raises errors.
 */
extern void wa_register_relations(int slot, const char *source, bool full);

/* ---- backup_rows.c ---- */

/*
 * Enter the backups that are on disk, if there may be new ones or 'full' asks
 * to look; then also remove what a crash has left of others.  Raises errors.
 */
extern void wa_register_backups(int slot, const char *source, bool full);

/*
 * Write the notes and remove the backups that sessions have asked for, if any
 * session has changed anything, or 'full' asks to look.  Raises errors.
 */
extern void wa_backup_chores(int slot, const char *source, bool full);

/* ---- backup_windows.c ---- */

/*
 * Bring the states and windows of the source's backups up to date, if anything
 * changed.  '*decoder' is started where it is NULL and needed, and is NULL
 * again after it died.  Raises errors; the decoder is then to be closed.
 */
extern void wa_refresh_windows(const char *source, WaDecoder **decoder);

/* ---- decode_step.c ---- */

/*
 * Decode one piece of a source's WAL and enter what it says.  The caller holds
 * the slot's indexer_pid.  '*decoder' is started where it is NULL, and is NULL
 * again after it died.  '*progress' is the caller's memory for what is shown of
 * long work, zero at first.  Returns false if there was nothing to do; '*more'
 * says that there may be more at once.  Raises errors; the decoder is then to
 * be closed, and progress to be ended.
 */
extern bool wa_decode_slot(int slot, const WaSlotControl *control,
						   const WaReceiverStat *stat, WaDecoder **decoder,
						   WaProgress *progress, bool *more);

#endif /* WA_CATALOG_H */
