/*-------------------------------------------------------------------------
 *
 * archive.h
 *	  An archive as the client sees it: over a connection to the archive host,
 *	  or a bare archive directory.
 *
 * One struct Archive serves one thread at a time; archive_clone makes another
 * one for another thread.  Nothing here prints: a call that fails returns a
 * status and leaves a message, and perhaps a hint, in the Archive.  Memory is
 * pg_malloc'd, so running out of it ends the program.
 *
 * Times are TimestampTz as a number: microseconds since 2000-01-01 UTC.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_CLI_ARCHIVE_H
#define WA_CLI_ARCHIVE_H

#include "postgres_fe.h"

#include "../src/base/restore_plan.h"
#include "options.h"

/* Bytes that one request asks for at most; the server refuses more. */
#define ARCHIVE_PIECE (8 * 1024 * 1024)

/* SHA-256 in hexadecimal, with its NUL; empty: not known */
#define ARCHIVE_SHA256_LEN 65

typedef enum ArchiveStatus
{
	ARCHIVE_OK,
	ARCHIVE_STOPPED,     /* a callback said so */
	ARCHIVE_NOT_FOUND,   /* no such source, backup, file or plan */
	ARCHIVE_DENIED,      /* password, privileges, conninfo: asking again does not help */
	ARCHIVE_UNREACHABLE, /* after the retries that the options allow */
	ARCHIVE_DAMAGED,     /* it is there, but not as it should be */
	ARCHIVE_FAILED       /* anything else: out of disk, an error of the server's, a newer version */
} ArchiveStatus;

typedef struct ArchiveLayout
{
	char *source;
	uint64 system_identifier;
	uint32 segment_size; /* bytes */
	TimeLineID timeline; /* that the source is on, or was last; 0: not known */
	int server_version;  /* of the source, as PQserverVersion; 0: not known */
} ArchiveLayout;

/* A tablespace that recovery makes anew, in the directory that it has on the primary. */
typedef struct ArchiveTablespace
{
	char *oid;
	char *path;
	XLogRecPtr lsn; /* of the record */
} ArchiveTablespace;

/* A plan; texts are NULL where there is nothing to say. */
typedef struct ArchivePlan
{
	char *ref; /* names the plan in later calls and in "fetch --plan"; NULL: not feasible */
	bool feasible;
	char *reason; /* a word, as wa_plan_reason_name */
	char *hint;   /* sentences: what is in the way, and what would do */
	char *backup; /* label */
	TimeLineID timeline;
	char *timeline_path;
	XLogRecPtr start_lsn;
	XLogRecPtr stop_lsn; /* end of the last record that is replayed */
	bool has_commit;     /* the next three are set */
	TransactionId last_commit_xid;
	bool has_commit_time;
	int64 last_commit_time;
	XLogRecPtr last_commit_lsn; /* end of the commit's record */
	uint64 segments;
	uint64 wal_bytes;
	uint64 backup_bytes;
	int nprepared;
	char **prepared; /* gids of transactions that are open at the stop */
	int ntablespaces;
	ArchiveTablespace *tablespaces;
	char *settings; /* lines for postgresql.auto.conf, without restore_command */
} ArchivePlan;

typedef enum ArchiveFileKind
{
	ARCHIVE_FILE_BACKUP,
	ARCHIVE_FILE_WAL,
	ARCHIVE_FILE_HISTORY
} ArchiveFileKind;

typedef struct ArchiveFile
{
	ArchiveFileKind kind;
	char *label; /* of a backup's file; else NULL */
	char *name;
	TimeLineID timeline;
	uint64 size;                     /* bytes to be delivered */
	char sha256[ARCHIVE_SHA256_LEN]; /* of them, empty: not known, or only a part counts */
} ArchiveFile;

typedef enum WalFileState
{
	WAL_FILE_PRESENT,
	WAL_FILE_PARTIAL, /* flushed bytes, then zeros up to the segment's size */
	WAL_FILE_ABSENT,  /* proved: recovery may take it for the end */
	WAL_FILE_MISSING, /* a hole, or not known to be absent */
	WAL_FILE_DAMAGED,
	WAL_FILE_LATER /* not archived yet, but the source goes on there */
} WalFileState;

/* What is known of a file before its first byte: a segment or a history. */
typedef struct WalFileInfo
{
	WalFileState state;
	uint64 size;  /* bytes to be delivered */
	uint64 valid; /* of these, bytes of WAL; zeros follow */
	char sha256[ARCHIVE_SHA256_LEN];
	char detail[512]; /* for people; may be empty */
} WalFileInfo;

/*
 * One stretch of a file.  Of WAL and histories all that there is is read: label
 * is NULL, offset 0, and length is ignored.
 */
typedef struct ArchiveRead
{
	const char *label; /* the backup whose file it is; NULL: WAL or a history */
	const char *name;
	uint64 offset; /* bytes */
	uint64 length; /* bytes */
	void *tag;     /* the caller's */
} ArchiveRead;

/*
 * Files that are read one after the other, with requests for what comes next
 * under way while bytes arrive, so that a distant archive costs no time for
 * each file.  Strings of an ArchiveRead have to live until its 'done'.
 *
 * next    fills in the next read; false: that was the last one
 * begin   WAL alone: what is known of it; 'data' follows only if it is present
 *         or partial
 * data    bytes in order, without a gap, from 'offset' of the file on
 * done    all of it has been shown
 *
 * begin, data and done return false to stop all (ARCHIVE_STOPPED).  After a
 * lost connection reading goes on where it stopped.  begin and done may be NULL.
 */
typedef struct ArchiveReader
{
	bool (*next)(void *arg, ArchiveRead *read);
	bool (*begin)(void *arg, const ArchiveRead *read, const WalFileInfo *info);
	bool (*data)(void *arg, const ArchiveRead *read, uint64 offset, const char *bytes, size_t len);
	bool (*done)(void *arg, const ArchiveRead *read);
	void *arg;
} ArchiveReader;

typedef struct Archive Archive;

/* What an implementation provides; see the functions of the same names. */
typedef struct ArchiveMethods
{
	Archive *(*clone)(Archive *archive);
	void (*close)(Archive *archive);
	ArchiveStatus (*layout)(Archive *archive, ArchiveLayout *layout);
	ArchiveStatus (*plan)(Archive *archive, const WaRestoreTarget *target, int hold_seconds,
						  ArchivePlan *plan);
	ArchiveStatus (*plan_files)(Archive *archive, const ArchivePlan *plan, ArchiveFile **files,
								int *nfiles);
	ArchiveStatus (*renew_plan)(Archive *archive, const char *ref, int hold_seconds);
	ArchiveStatus (*release_plan)(Archive *archive, const char *ref);
	ArchiveStatus (*use_plan)(Archive *archive, const char *ref);
	ArchiveStatus (*wal_file)(Archive *archive, const char *name, WalFileInfo *info);
	ArchiveStatus (*read)(Archive *archive, const ArchiveReader *reader);
} ArchiveMethods;

/* The beginning of each implementation's struct. */
struct Archive
{
	const ArchiveMethods *methods;
	const CliOptions *options;
	char *error; /* message of the last call that failed, no newline; never NULL then */
	char *hint;  /* what to do about it; may be NULL */
};

/*
 * Open the archive that the options name; the connection is made with the first
 * call that needs it.  The options must outlive it.  Never NULL, prints nothing.
 */
extern Archive *archive_open(const CliOptions *options);

/* Another one of the same archive, with the same plan in use, for another thread. */
extern Archive *archive_clone(Archive *archive);
extern void archive_close(Archive *archive);

/* What is archived under the source's name. */
extern ArchiveStatus archive_layout(Archive *archive, ArchiveLayout *layout);

/*
 * Plan a recovery.  A target that is not feasible is ARCHIVE_OK, with
 * plan->feasible false.  With hold_seconds > 0 what a feasible plan needs is
 * held against expiry for that time.
 */
extern ArchiveStatus archive_plan(Archive *archive, const WaRestoreTarget *target,
								  int hold_seconds, ArchivePlan *plan);

/* The exact files of a feasible plan, in order, pg_malloc'd. */
extern ArchiveStatus archive_plan_files(Archive *archive, const ArchivePlan *plan,
										ArchiveFile **files, int *nfiles);

/* Prolong or end a plan's hold; nothing to do for a bare directory. */
extern ArchiveStatus archive_renew_plan(Archive *archive, const char *ref, int hold_seconds);
extern ArchiveStatus archive_release_plan(Archive *archive, const char *ref);

/*
 * From now on WAL is served as this plan needs it: of a parent's segment only
 * what lies before the fork, no timeline that is not on its path, nothing
 * beyond the segment in which it ends.  NULL: no plan.
 */
extern ArchiveStatus archive_use_plan(Archive *archive, const char *ref);

/* What is known of WAL segment or history 'name'. */
extern ArchiveStatus archive_wal_file(Archive *archive, const char *name, WalFileInfo *info);

/* Read files; see ArchiveReader. */
extern ArchiveStatus archive_read(Archive *archive, const ArchiveReader *reader);

/* Set message and hint of an Archive (hint may be NULL); returns 'status'.  For the implementations. */
extern ArchiveStatus archive_error(Archive *archive, ArchiveStatus status, const char *hint,
								   const char *format, ...) pg_attribute_printf(4, 5);

/* Print the message of a call that failed, and its hint, to stderr; returns the program's exit code for it. */
extern int archive_report(const Archive *archive, ArchiveStatus status);

/* ---- the implementations ---- */

extern Archive *archive_server_open(const CliOptions *options);
extern Archive *archive_dir_open(const CliOptions *options);

#endif /* WA_CLI_ARCHIVE_H */
