/*-------------------------------------------------------------------------
 *
 * archive_dir.h
 *	  What the files of the bare-directory implementation share:
 *	  archive_dir.c serves files, archive_dir_scan.c knows what there is,
 *	  archive_dir_walk.c reads WAL, archive_dir_sums.c has its checksums,
 *	  archive_dir_plan.c plans.
 *
 * Nothing is ever written.  The directory is that of an archive host, which may
 * be dead or alive, or one as pg_receivewal leaves it, without backups.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_CLI_ARCHIVE_DIR_H
#define WA_CLI_ARCHIVE_DIR_H

#include "archive.h"

#include "../src/base/backup_label.h"
#include "../src/base/wal_event.h"
#include "../src/base/wal_name.h"
#include "../src/decode/walk.h"

/* A file that is longer is no history. */
#define DIR_MAX_HISTORY (1024 * 1024)

typedef struct DirSegment
{
	TimeLineID tli;
	bool partial;
	uint64 number;
} DirSegment;

/* Why a segment that is there is of no use; found by reading it. */
typedef struct DirBad
{
	TimeLineID tli;
	XLogRecPtr start;
	WaRunEnd why;
} DirBad;

typedef struct DirBackup
{
	char label[WA_BACKUP_LABEL_LEN];
	char parent[WA_BACKUP_LABEL_LEN];
	char manifest_sha256[ARCHIVE_SHA256_LEN];
	char problem[384]; /* of its files; empty: none is known */
	char reason[384];  /* why it is not usable; empty: it is */
	int server_version;
} DirBackup;

typedef struct DirArchive
{
	Archive base;

	/* where it is; read when it is first needed */
	bool opened;
	char wal_path[MAXPGPATH];
	char backup_path[MAXPGPATH]; /* empty: it has none */
	char sums_path[MAXPGPATH];   /* empty: it has none */
	FILE *sums;                  /* NULL: not open */
	uint64 system_identifier;
	uint32 segment_size; /* bytes */
	int server_version;  /* 0: not known */
	WaWalDir dir;        /* open */

	/* what there is; read when it is first needed, and again for each plan */
	bool scanned;
	DirSegment *segment; /* by timeline and number; a finished one rather than its partial */
	int nsegments;
	WaPlanTimeline *timeline; /* by number */
	int ntimelines;
	TimeLineID newest; /* the highest of which there is WAL */
	DirBackup *backup_info;
	WaPlanBackup *backup; /* at the same index; the strings are those of backup_info */
	int nbackups;

	/* stretches of WAL: by their names and ends, less what is known to be bad */
	WaPlanRun *run;
	int nruns;
	DirBad *bad;
	int nbad;

	/* the plan in use */
	bool has_plan;
	WaHistory *path;
	XLogRecPtr needed_lsn; /* 0: no plan */
} DirArchive;

/* ---- archive_dir_scan.c ---- */

/* Find the source's cluster and open its wal directory, once. */
extern ArchiveStatus archive_dir_ready(DirArchive *d);

/* Read what there is: names of WAL, histories, backups; 'again' even if that was done before. */
extern ArchiveStatus archive_dir_scan(DirArchive *d, bool again);
extern void archive_dir_forget(DirArchive *d);

/*
 * Derive the stretches of WAL, and from them what the backups are good for.
 * Reads the last segment of each stretch.
 */
extern ArchiveStatus archive_dir_find_runs(DirArchive *d);

/* From now on the segment at 'start' counts as bad; false: it did already. */
extern bool archive_dir_add_bad(DirArchive *d, TimeLineID tli, XLogRecPtr start, WaRunEnd why);

/* Index of the first segment of 'tli' whose number is not lower; nsegments or one of another timeline: there is none. */
extern int archive_dir_find_segment(const DirArchive *d, TimeLineID tli, uint64 number);

/* Read a whole small file: pg_malloc'd, NUL-terminated, or NULL with errno. */
extern char *archive_dir_read_file(const char *path, size_t max, size_t *len);

/* ---- archive_dir_walk.c ---- */

/* What reading a stretch has to say beside the records asked for. */
typedef struct DirGathered
{
	bool before; /* reading what comes before the plan: of parameters the last ones count */
	int nprepared;
	int room;
	struct DirPrepared
	{
		TransactionId xid;
		char gid[WA_GID_LEN];
	} * prepared;
	bool has_parameters;
	WaParameters parameters; /* of each the largest */
	int ntablespaces;
	ArchiveTablespace *tablespaces; /* that are made */
} DirGathered;

/* Answers the planner's questions, by reading; WaPlanSearch.arg is the DirArchive. */
extern void archive_dir_search(DirArchive *d, WaPlanSearch *search);

/*
 * Read records that start in [from, to) of the path and check them all.
 * 'gathered' gets what those say that end at or before 'upto' (may be NULL).
 * WA_SEARCH_NONE: all is well.  WA_SEARCH_FAILED: a segment is bad and was
 * noted, or 'text' says what is in the way.
 */
extern WaSearchStatus archive_dir_check(DirArchive *d, const WaPlanRange *range, XLogRecPtr upto,
										DirGathered *gathered, char *text);

/* How far the WAL of timeline 'tli' goes that begins with its segment at 'start'. */
extern ArchiveStatus archive_dir_find_end(DirArchive *d, TimeLineID tli, XLogRecPtr begin,
										  XLogRecPtr start, XLogRecPtr *end, bool *bad);

/*
 * Read the records of the segment at 'start' in the file of timeline 'tli', which
 * is on the path in use, up to 'until'.  If one is damaged, 'info' gets that
 * state, and how.
 */
extern ArchiveStatus archive_dir_check_segment(DirArchive *d, TimeLineID tli, XLogRecPtr start, XLogRecPtr until,
											   WalFileInfo *info);

/* ---- archive_dir_sums.c ---- */

/* Put what wal.sha256 has of the finished file 'name' into 'info'; nothing if it has no line. */
extern void archive_dir_find_sum(DirArchive *d, const char *name, WalFileInfo *info);
extern void archive_dir_forget_sums(DirArchive *d);

/* ---- archive_dir_plan.c ---- */

extern ArchiveStatus archive_dir_plan(Archive *archive, const WaRestoreTarget *target,
									  int hold_seconds, ArchivePlan *plan);
extern ArchiveStatus archive_dir_plan_files(Archive *archive, const ArchivePlan *plan,
											ArchiveFile **files, int *nfiles);

/*
 * A plan of a bare directory is named by what it says: "1-2@0/5000028-0/7123456"
 * is the path of timelines with the places where each was entered, and the end
 * of the WAL that is needed.
 */
extern char *archive_dir_plan_ref(const WaRestorePlan *plan);
extern bool archive_dir_parse_ref(const char *ref, WaHistory *path, XLogRecPtr *needed_lsn);

#endif /* WA_CLI_ARCHIVE_DIR_H */
