/*-------------------------------------------------------------------------
 *
 * source_file.h
 *	  source.json and cluster.json: a source's settings and what is known of
 *	  its clusters, on disk, for processes that are attached to no database.
 *
 * source.json is what the launcher and the receivers go by.  It is written by
 * the indexer from the catalog, never by a receiver.  cluster.json lies in a
 * system identifier's folder and is written once, by the first receiver.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_SOURCE_FILE_H
#define WA_SOURCE_FILE_H

#include "../base/backup_schedule.h"
#include "shmem.h"

#define WA_CONNINFO_LEN 4096
#define WA_FORMAT_VERSION 1

/* Bounds of the observer's intervals, and what a file that names none means. */
#define WA_MIN_HEARTBEAT_MS 1000
#define WA_MIN_RELATION_NAMES_MS 10000
#define WA_MAX_INTERVAL_MS (7 * 24 * 3600 * 1000)
#define WA_DEFAULT_RELATION_NAMES_MS 600000

/* Bounds of the intervals of scheduled backups, in microseconds, and of their speed in kB/s. */
#define WA_MIN_BACKUP_INTERVAL (10 * USECS_PER_SEC)
#define WA_MAX_BACKUP_INTERVAL (366 * USECS_PER_DAY)
#define WA_MIN_BACKUP_RATE 32
#define WA_MAX_BACKUP_RATE 1048576

typedef struct WaSourceSettings
{
	char name[WA_SOURCE_NAME_LEN];
	char conninfo[WA_CONNINFO_LEN];
	char backup_conninfo[WA_CONNINFO_LEN]; /* where base backups are taken; empty: conninfo */
	char slot_name[WA_SLOT_NAME_LEN];
	XLogRecPtr start_lsn;                          /* 0: where the slot or the server begins */
	bool allow_standby;                            /* a server in recovery will do */
	bool stop_at_gap;                              /* else a gap is recorded and passed over */
	int heartbeat_ms;                              /* commit on an idle server this often, 0: never */
	int relation_names_ms;                         /* ask for names of relations, 0: never */
	WaBackupSchedule schedule;                     /* of backups, 'since' a TimestampTz; no full_interval: none */
	char backup_compression[WA_BACKUP_OPTION_LEN]; /* of scheduled ones, as take_backup takes it */
	int backup_max_rate;                           /* of scheduled ones, kB/s, 0: no limit */
	WaDesiredState desired;
	bool drop_slot;           /* when dropping */
	bool delete_files;        /* when dropping */
	uint64 system_identifier; /* of the current cluster, 0: any */
	uint64 revision;          /* grows with every change that a receiver has to know */
	bool dropped;             /* dropping is done; the files were kept */
} WaSourceSettings;

/*
 * Read <source>/source.json.  Returns false if there is none.  A file that is
 * not valid raises an error of ERRCODE_DATA_CORRUPTED, or, where 'problem' is
 * given, returns false with a palloc'd message there.
 */
extern bool wa_read_source_file(const char *source, WaSourceSettings *settings,
								char **problem);

/* Write it atomically and durably; makes the source's folder. */
extern void wa_write_source_file(const WaSourceSettings *settings);

/* Names of the folders that have a source.json: a List of palloc'd strings. */
extern struct List *wa_list_source_files(void);

/*
 * The clusters of a source: returns how many there are and, in 'sysids', at
 * most 'max' of them, ascending.
 */
extern int wa_list_clusters(const char *source, uint64 *sysids, int max);

/*
 * Read or write <source>/<system identifier>/cluster.json: the segment size
 * in bytes, and the server version when it was made.  Reading returns false
 * if the file is missing.  Writing makes the folders, wal/ included.
 */
extern bool wa_read_cluster_file(const char *source, uint64 sysid,
								 uint32 *segment_size);
extern void wa_write_cluster_file(const char *source, uint64 sysid,
								  uint32 segment_size, int server_version);

#endif /* WA_SOURCE_FILE_H */
