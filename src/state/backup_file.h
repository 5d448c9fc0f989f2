/*-------------------------------------------------------------------------
 *
 * backup_file.h
 *	  A base backup's folder, and backup.json in it: what is known of the
 *	  backup, on disk, for a rebuild of the catalog and for people.
 *
 * <source>/<system identifier>/backup/<label>/ holds backup.json,
 * backup_manifest, base.tar and a tar for each further tablespace, compressed
 * or not.  The folder is <label>.tmp while the backup is taken: it gets its
 * name, durably, when all that is in it is durable and was checked against the
 * manifest.  It is renamed to <label>.deleted before anything in it is removed.
 * So what stands under <label> is whole.  notes.json beside backup.json has
 * what people said of the backup; it is written by the indexer.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_BACKUP_FILE_H
#define WA_BACKUP_FILE_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"

#include "../base/backup_label.h"
#include "../base/source_name.h"

#define WA_BACKUP_WORD_LEN 32
#define WA_BACKUP_NOTE_LEN 1024
#define WA_BACKUP_TABLESPACES_LEN 32768

/* backup.json */
typedef struct WaBackupInfo
{
	char label[WA_BACKUP_LABEL_LEN];
	uint64 system_identifier;
	bool incremental;
	char parent[WA_BACKUP_LABEL_LEN]; /* empty: a full backup */
	TimeLineID tli;                   /* where it starts */
	XLogRecPtr start_lsn;             /* its redo point: WAL is needed from here on */
	TimeLineID stop_tli;
	XLogRecPtr stop_lsn;       /* as the server reported it */
	XLogRecPtr consistent_lsn; /* recovery is consistent here; before stop_lsn, where a standby said so */
	TimestampTz started_at;    /* by the archive host's clock */
	TimestampTz finished_at;
	int server_version; /* as PQserverVersion */
	bool from_standby;
	char compression[WA_BACKUP_WORD_LEN];        /* of the stored files: none, gzip, lz4 or zstd */
	char checksum_algorithm[WA_BACKUP_WORD_LEN]; /* of the manifest: SHA256, CRC32C, ... */
	char manifest_sha256[65];                    /* of the whole file backup_manifest, hexadecimal */
	uint64 size;                                 /* bytes on disk */
	uint64 data_size;                            /* bytes of the tars, unpacked */
	uint64 files;                                /* in the manifest */
	uint64 checksum_failures;                    /* data pages, where these were tolerated */
	char *tablespaces;                           /* "<oid> <path>" a line, palloc'd; empty: none but the default ones */
} WaBackupInfo;

/* notes.json */
typedef struct WaBackupNotes
{
	TimestampTz pinned_until;            /* 0: not pinned; DT_NOEND: for ever */
	char pin_note[WA_BACKUP_NOTE_LEN];   /* empty: none */
	char annotation[WA_BACKUP_NOTE_LEN]; /* empty: none */
	TimestampTz verified_at;             /* 0: never */
	char damage[WA_BACKUP_NOTE_LEN];     /* found by reading it again; empty: none */
} WaBackupNotes;

/*
 * Paths, into buffers of MAXPGPATH bytes: the folder of all backups of a
 * cluster, of one with a suffix ("" for none), and of a file in that one.
 */
extern void wa_backups_path(char *path, const char *source, uint64 sysid);
extern void wa_backup_path(char *path, const char *source, uint64 sysid,
						   const char *label, const char *suffix);
extern void wa_backup_file_path(char *path, const char *source, uint64 sysid,
								const char *label, const char *suffix, const char *file);

/*
 * Write backup.json into the folder at 'folder' durably.  Reading returns
 * false, with a palloc'd message in '*problem', if the file is missing or not
 * valid.
 */
extern void wa_write_backup_info(const char *folder, const WaBackupInfo *info);
extern bool wa_read_backup_info(const char *folder, WaBackupInfo *info, char **problem);

/* The same for notes.json; a missing file is notes without anything in them. */
extern void wa_write_backup_notes(const char *folder, const WaBackupNotes *notes);
extern bool wa_read_backup_notes(const char *folder, WaBackupNotes *notes, char **problem);

/*
 * Names of the folders below backup/ that end in 'suffix' ("" for whole
 * backups), without it: a List of palloc'd strings, ascending.
 */
extern struct List *wa_list_backups(const char *source, uint64 sysid, const char *suffix);

/*
 * Rename a whole or unfinished backup to <label>.deleted, durably, and remove
 * that; goes on with what a crash has left.  Removing can be interrupted by a
 * cancellation and repeated.  Raises errors.
 */
extern void wa_remove_backup(const char *source, uint64 sysid, const char *label);

/*
 * The two steps of that for one form of a backup.  Dooming renames the folder
 * with 'suffix' to <label>.deleted, durably, after it has removed what a crash
 * left there of another one; it does nothing where the folder is gone.  Then
 * the doomed one is removed.
 */
extern void wa_doom_backup(const char *source, uint64 sysid, const char *label,
						   const char *suffix);
extern void wa_remove_doomed_backup(const char *source, uint64 sysid, const char *label);

#endif /* WA_BACKUP_FILE_H */
