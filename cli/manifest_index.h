/*-------------------------------------------------------------------------
 *
 * manifest_index.h
 *	  A base backup's manifest in memory: what each file has to be.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_MANIFEST_INDEX_H
#define WA_MANIFEST_INDEX_H

#include "../src/base/backup_manifest.h"


typedef struct ManifestEntry
{
	const char *path; /* in the data directory */
	uint64 size;
	WaChecksumAlgorithm algorithm;
	const uint8 *checksum; /* wa_checksum_length(algorithm) bytes */
	bool seen;             /* for who goes through the archives */
} ManifestEntry;

typedef struct ManifestIndex
{
	ManifestEntry *entries; /* in the manifest's order */
	uint64 count;
	uint64 bytes;             /* of all files */
	uint64 system_identifier; /* 0: not in the manifest, which is one of PostgreSQL 15 or 16 */

	/* private */
	uint64 room;
	uint32 *buckets; /* index in 'entries' plus one; 0: none */
	uint32 mask;
} ManifestIndex;

/*
 * Read the manifest in 'text', 'len' bytes.  Its own checksum is checked, and
 * that of the whole against 'sha256' (64 hexadecimal digits) unless that is
 * NULL.  Returns NULL, with a message (malloc'd) of what is wrong in
 * '*problem'.
 */
extern ManifestIndex *manifest_index_read(const char *text, size_t len, const char *sha256,
										  char **problem);

/* The entry of that path, NULL if there is none. */
extern ManifestEntry *manifest_index_find(const ManifestIndex *index, const char *path);

extern void manifest_index_free(ManifestIndex *index);

#endif /* WA_MANIFEST_INDEX_H */
