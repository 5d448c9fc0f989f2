/*-------------------------------------------------------------------------
 *
 * restore.h
 *	  What the files of "walarchive restore" share.
 *
 * restore.c has the options and the order of steps; restore_prepare.c looks
 * whether this machine can do it; restore_fetch.c brings the backup;
 * restore_forks.c brings what recovery reads of segments with a fork; and
 * restore_run.c starts the copy, follows its recovery and compares what came
 * out with the plan.
 *
 * Up to restore_place_control the data directory has no global/pg_control, so
 * PostgreSQL refuses to start in it, whatever happens; a file "walarchive.restore"
 * says what it is.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_CLI_RESTORE_H
#define WA_CLI_RESTORE_H

#include "archive.h"

/* In the data directory while it is not whole */
#define RESTORE_MARKER "walarchive.restore"

/* What the server says while it recovers, in the data directory */
#define RESTORE_LOG "restore.log"

/* Seconds for which a plan is held while a restore works, and how often that is renewed */
#define RESTORE_HOLD 3600
#define RESTORE_RENEW 300

typedef struct RestoreTablespace
{
	char *oid;
	char *path;    /* on the primary */
	char *new_dir; /* in the copy */
	bool made;     /* by this restore */
} RestoreTablespace;

/* A backup of the chain, the full one first */
typedef struct RestoreBackup
{
	char *label;
	int server_version; /* as PQserverVersion */
	uint64 data_size;   /* bytes of the tars */
	uint64 size;        /* bytes of the archives as they are stored */
	char *manifest_sha256;
} RestoreBackup;

typedef struct RestoreMapping
{
	char *old_dir; /* or an oid */
	char *new_dir;
	bool used;
} RestoreMapping;

typedef struct Restore
{
	CliOptions common;

	/* what was asked for */
	WaRestoreTarget target;
	char *data; /* absolute */
	RestoreMapping *mappings;
	int nmappings;
	char *tablespaces_dir;
	char *bindir;
	char *preload;
	char *user; /* of the copy, to look at it; NULL: try some */
	const char *target_action;
	int port; /* 0: as it was */
	int jobs;
	bool as_primary;
	bool start;
	bool dry_run;
	bool no_clean;
	int hold_seconds; /* for recovery that is not started here */

	/* what is known */
	Archive *archive;
	ArchivePlan plan;
	ArchiveFile *files;
	int nfiles;
	RestoreBackup *chain;
	int nchain;
	RestoreTablespace *tablespaces;
	int ntablespaces;
	RestoreTablespace *own_spaces; /* made by recovery, in the primary's directories; new_dir is path */
	int nown_spaces;
	int major;
	uint32 segment_size; /* bytes */
	char *programs;      /* folder of PostgreSQL's programs */
	char *libdir;        /* its libraries, NULL: not known */
	char *self;          /* path of this program */

	/* what was done */
	bool made_data; /* the data directory was made here */
	bool touched;   /* there is something in it */
	bool whole;     /* it can be started */
	char *control;  /* pg_control, put in its place last */
	size_t control_len;
	time_t renewed;

	/* what came out */
	bool started;
	pid_t postmaster;
	bool compared;
	bool agrees;
	XLogRecPtr replayed_lsn;
	bool promoted;
	bool paused;
} Restore;

/* ---- restore_prepare.c: each reports what is wrong and returns an exit code ---- */

/* The data directory is one in which a restore may be made: empty, or not there. */
extern int restore_check_directory(Restore *restore);

/* The chain's backup.json files, and what they say of tablespaces. */
extern int restore_read_backups(Restore *restore);

/* Where each tablespace goes. */
extern int restore_map_tablespaces(Restore *restore);

/* PostgreSQL's programs, of the right major. */
extern int restore_find_programs(Restore *restore);

/* There is room for all of it. */
extern int restore_check_space(Restore *restore);

/* A port that nobody listens on. */
extern int restore_free_port(void);

/*
 * Run a program and wait.  'output' gets what it prints on stdout and stderr,
 * malloc'd, at most some kilobytes from its end.  Returns its exit status, -1 if it
 * could not be run.
 */
extern int restore_run_program(const char *const *argv, char **output);

/* ---- restore_fetch.c ---- */

/* A whole file of a backup's folder, malloc'd and NUL-terminated; NULL: reported, '*code' is the exit code. */
extern char *restore_read_file(Restore *restore, const char *label, const char *name, size_t *len,
							   int *code);

/* Bring and unpack the backup or the chain; all but global/pg_control is in its place then. */
extern int restore_fetch_backup(Restore *restore);

/* Put the parents' copies of the segments in which timelines of the path begin into pg_wal. */
extern int restore_lay_forks(Restore *restore);

/* Make all of it durable, then put pg_control into its place. */
extern int restore_place_control(Restore *restore);

/* Remove what was made, after a failure. */
extern void restore_clean(Restore *restore);

/* ---- restore_run.c ---- */

/* Start PostgreSQL, follow it to the target, and compare. */
extern int restore_run(Restore *restore);

/* ---- restore.c ---- */

/* Prolong the plan's hold if it is time. */
extern void restore_renew(Restore *restore);

/* A signal wants it to end. */
extern bool restore_interrupted(void);

/* A line for people: on stderr, not with --json. */
extern void restore_say(Restore *restore, const char *fmt, ...) pg_attribute_printf(2, 3);

/* A line that is drawn again and again on a terminal; NULL: the last one is done with. */
extern void restore_progress(Restore *restore, const char *fmt, ...) pg_attribute_printf(2, 3);
extern void restore_progress_end(Restore *restore);

/* Bytes for people ("1.2 GB"), into a buffer of 32 bytes. */
extern const char *restore_size(uint64 bytes, char *buffer);

#endif /* WA_CLI_RESTORE_H */
