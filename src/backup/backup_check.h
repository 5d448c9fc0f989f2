/*-------------------------------------------------------------------------
 *
 * backup_check.h
 *	  Checks a base backup against its manifest, while it arrives or later.
 *
 * The bytes of each archive are pushed in, as they come or as they are stored.
 * They are uncompressed, taken apart as tar, and each file's checksum is
 * computed, by a thread of the check's own where the caller wants that.  What
 * was found, path, size and checksum of each file, goes to a temporary file, so
 * memory stays the same for millions of files; at the end it is compared with
 * the manifest.
 *
 * The check lives in the current memory context and goes with it, thread,
 * descriptor and temporary file included (that has no name from the start).
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_BACKUP_CHECK_H
#define WA_BACKUP_CHECK_H

#include "postgres.h"

#include "access/xlogdefs.h"

#include "../base/control_file.h"
#include "codec.h"

typedef struct WaBackupCheck WaBackupCheck;

/* What the files themselves said. */
typedef struct WaBackupFacts
{
	uint64 files;      /* regular files in the archives */
	uint64 data_bytes; /* of the archives, uncompressed */

	bool has_control; /* global/pg_control was there, and is valid */
	WaControlFile control;
	const char *backup_label;   /* NUL-terminated, NULL: not there; as long as the check lives */
	const char *tablespace_map; /* the same */

	/* known after wa_backup_check_manifest */
	int manifest_version;
	uint64 manifest_system_identifier; /* 0: a manifest of version 1 has none */
	uint64 manifest_files;
	char manifest_sha256[65]; /* of the whole file, hexadecimal */
	int wal_ranges;           /* one, except over a switch of timelines */
	TimeLineID wal_start_tli; /* of the range that begins first */
	XLogRecPtr wal_start_lsn;
	TimeLineID wal_end_tli; /* of the one that ends last */
	XLogRecPtr wal_end_lsn;
} WaBackupFacts;

/*
 * Begin a check of files with checksums by 'algorithm': NONE, CRC32C, SHA224,
 * SHA256, SHA384 or SHA512, in any case.  'folder' is where the temporary file
 * goes.  'own_thread': uncompressing and checksums are done by a thread.
 * Raises errors.
 */
extern WaBackupCheck *wa_backup_check_begin(const char *folder, const char *algorithm, bool own_thread);

/*
 * The next archive: of the tablespace 'tablespace', 0 for the main one.  Then
 * its bytes, then its end.  They return false once something in the archives is
 * wrong (then or, with a thread, at some later call; at the archive's end at the
 * latest): see wa_backup_check_problem.  After that the archive's further bytes
 * are ignored, and the next one may follow.  Raise errors where the temporary
 * file can't be written.
 */
extern bool wa_backup_check_archive(WaBackupCheck *check, Oid tablespace, WaCompressionMethod method);
extern bool wa_backup_check_data(WaBackupCheck *check, const char *data, size_t len);
extern bool wa_backup_check_archive_end(WaBackupCheck *check);

/*
 * What is wrong with the archive that was begun last: the message, and in '*file'
 * the path in the data directory of the file that was being read, or NULL.
 * Both live until the next archive.
 */
extern const char *wa_backup_check_problem(WaBackupCheck *check, const char **file);

/* The text of one kind of difference, for who wants to tell it from the others. */
extern const char *const wa_backup_not_in_archives;

/*
 * Called for each difference: path of the file in the data directory (NULL: the
 * backup or the manifest as a whole) and what is wrong, both valid during the
 * call alone.  Returns false if no more are wanted.  May raise errors.
 */
typedef bool (*WaBackupDifference)(void *arg, const char *file, const char *problem);

/*
 * Compare all files that were found with the manifest in file 'path', and the
 * manifest with its own checksum.  Returns true if they agree.  To be called
 * once, after the last archive.  Raises errors where the manifest can't be read;
 * can be cancelled.
 */
extern bool wa_backup_check_manifest(WaBackupCheck *check, const char *path, WaBackupDifference report, void *arg);

/* What is known so far, for as long as the check lives. */
extern const WaBackupFacts *wa_backup_check_facts(WaBackupCheck *check);

/* Stop the thread and free everything.  Not needed before the memory context goes. */
extern void wa_backup_check_end(WaBackupCheck *check);

/* The canonical form of a checksum algorithm's name, e.g. "SHA256"; NULL: there is none of that name. */
extern const char *wa_backup_checksum_name(const char *name);

/*
 * The algorithm of a manifest's checksums, as its first file says; "NONE" where
 * there is no such file, or it can't be read so far.
 */
extern const char *wa_backup_manifest_algorithm(const char *path);

#endif /* WA_BACKUP_CHECK_H */
