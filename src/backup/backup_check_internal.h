/*-------------------------------------------------------------------------
 *
 * backup_check_internal.h
 *	  What backup_check.c and manifest_check.c share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_BACKUP_CHECK_INTERNAL_H
#define WA_BACKUP_CHECK_INTERNAL_H

#include "postgres.h"

#include <pthread.h>

#include "common/cryptohash.h"
#include "port/pg_crc32c.h"
#include "utils/palloc.h"
#include "utils/resowner.h"

#include "../base/backup_manifest.h"
#include "../base/tar_reader.h"
#include "backup_check.h"

/* Files whose content is kept, if it is less than WA_KEPT_SIZE bytes. */
#define WA_KEPT_CONTROL 0
#define WA_KEPT_LABEL 1
#define WA_KEPT_MAP 2
#define WA_KEPT_FILES 3
#define WA_KEPT_SIZE (64 * 1024)

typedef struct WaKeptFile
{
	bool present;
	size_t len;
	char *data; /* zeroes behind it */
} WaKeptFile;

/* A file in the temporary file: this, its path, its checksum. */
typedef struct WaFoundHeader
{
	uint64 size;
	uint64 path_len;
} WaFoundHeader;

struct WaBackupCheck
{
	MemoryContext context;
	MemoryContextCallback callback;
	ResourceOwner owner;          /* of the SHA contexts alone */
	pg_cryptohash_ctx *hashes[2]; /* those that there are */
	WaChecksumAlgorithm algorithm;
	int checksum_len;
	WaBackupFacts facts;
	WaKeptFile kept[WA_KEPT_FILES];
	bool main_archive_seen;

	/* the archive that is being read */
	Oid tablespace;
	WaCodec *codec;
	WaTarReader tar;
	char path[WA_MANIFEST_PATH_LEN]; /* of the entry, in the data directory */
	uint16 path_len;
	WaKeptFile *keep;        /* where its content goes, or NULL */
	pg_cryptohash_ctx *hash; /* NULL: the algorithm is none of the SHA family */
	pg_crc32c crc;
	char problem[256]; /* empty: none */
	char problem_file[WA_MANIFEST_PATH_LEN];

	/* the temporary file */
	int spill_fd;
	int spill_error; /* errno; 0: none */
	char *spill_buffer;
	size_t spill_used;
	uint64 spill_size;

	/* the thread; the mutex covers what follows it */
	bool has_thread;
	pthread_t thread;
	char *ring;
	pthread_mutex_t mutex;
	pthread_cond_t filled;
	pthread_cond_t emptied;
	bool stop;
	bool failed; /* 'problem' or 'spill_error' is set */
	size_t ring_at;
	size_t ring_used;
};

/*
 * A SHA context that no transaction or portal owns; raises an error if there is
 * no memory.  The check frees it if nobody else has.
 */
extern pg_cryptohash_ctx *wa_backup_check_hash(WaBackupCheck *check, pg_cryptohash_type type);
extern void wa_backup_check_free_hash(WaBackupCheck *check, pg_cryptohash_ctx *hash);

#endif /* WA_BACKUP_CHECK_INTERNAL_H */
