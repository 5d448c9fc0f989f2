/*-------------------------------------------------------------------------
 *
 * manifest_index.c
 *	  A base backup's manifest in memory.  See manifest_index.h.
 *
 *-------------------------------------------------------------------------
 */
#include "../src/base/base.h"

#include "common/cryptohash.h"
#include "common/hashfn.h"
#include "common/sha2.h"

#include "../src/base/tar_reader.h"
#include "manifest_index.h"

/* So many files are taken for a manifest that is no manifest. */
#define MAX_FILES (64 * 1024 * 1024)

static void
to_hex(char *to, const uint8 *bytes, int len)
{
	for (int i = 0; i < len; i++)
		sprintf(to + 2 * i, "%02x", bytes[i]);
	to[2 * len] = '\0';
}

static bool
add_file(void *arg, const WaManifestFile *file)
{
	ManifestIndex *index = arg;
	ManifestEntry *entry;
	uint8 *checksum;

	if (index->count >= MAX_FILES || !wa_backup_file_path_is_valid(file->path))
		return false;
	if (index->count == index->room)
	{
		index->room = Max(1024, index->room * 2);
		index->entries = pg_realloc(index->entries, index->room * sizeof(ManifestEntry));
	}
	entry = &index->entries[index->count++];
	entry->path = pg_strdup(file->path);
	entry->size = file->size;
	entry->algorithm = file->algorithm;
	checksum = pg_malloc(Max(1, file->checksum_len));
	memcpy(checksum, file->checksum, file->checksum_len);
	entry->checksum = checksum;
	entry->seen = false;
	index->bytes += file->size;
	return true;
}

/* Which WAL it needs is the plan's business. */
static bool
skip_range(void *arg, const WaManifestRange *range)
{
	return true;
}

static uint32
hash_path(const char *path)
{
	return hash_bytes((const unsigned char *) path, (int) strlen(path));
}

/* Puts all entries into the table; returns the path that is there twice, or NULL. */
static const char *
build_table(ManifestIndex *index)
{
	uint32 size = 1024;

	while (size < 2 * index->count)
		size *= 2;
	index->mask = size - 1;
	index->buckets = pg_malloc0(size * sizeof(uint32));
	for (uint64 i = 0; i < index->count; i++)
	{
		const char *path = index->entries[i].path;
		uint32 at = hash_path(path) & index->mask;

		for (; index->buckets[at] != 0; at = (at + 1) & index->mask)
		{
			if (strcmp(index->entries[index->buckets[at] - 1].path, path) == 0)
				return path;
		}
		index->buckets[at] = (uint32) i + 1;
	}
	return NULL;
}

/* SHA-256 of 'len' bytes; false: the library failed. */
static bool
sha256_of(const char *data, size_t len, uint8 *result)
{
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);
	bool ok = ctx != NULL && pg_cryptohash_init(ctx) >= 0 &&
			  pg_cryptohash_update(ctx, (const uint8 *) data, len) >= 0 &&
			  pg_cryptohash_final(ctx, result, PG_SHA256_DIGEST_LENGTH) >= 0;

	if (ctx != NULL)
		pg_cryptohash_free(ctx);
	return ok;
}

ManifestIndex *
manifest_index_read(const char *text, size_t len, const char *sha256, char **problem)
{
	ManifestIndex *index = pg_malloc0(sizeof(ManifestIndex));
	WaManifestReader *reader = pg_malloc0(sizeof(WaManifestReader));
	WaManifestHandler handler = {.file = add_file, .range = skip_range, .arg = index};
	uint8 digest[PG_SHA256_DIGEST_LENGTH];
	char is[2 * PG_SHA256_DIGEST_LENGTH + 1];
	const char *twice;
	size_t last;

	*problem = NULL;
	if (!sha256_of(text, len, digest))
		*problem = pg_strdup("could not compute a checksum");
	else if (to_hex(is, digest, sizeof(digest)), sha256 != NULL && strcmp(is, sha256) != 0)
		*problem = psprintf("its SHA-256 is %s, but should be %s", is, sha256);
	else
	{
		wa_manifest_begin(reader, &handler);
		if (!wa_manifest_push(reader, text, len) || !wa_manifest_finish(reader))
			*problem = psprintf("line " UINT64_FORMAT ": %s", reader->line,
								reader->problem ? reader->problem : "there is a path that can't be");
	}
	if (*problem == NULL)
	{
		/* the last line has the checksum of all before */
		last = len;
		while (last > 0 && text[last - 1] == '\n')
			last--;
		while (last > 0 && text[last - 1] != '\n')
			last--;
		if (!sha256_of(text, last, digest) || memcmp(digest, reader->checksum, sizeof(digest)) != 0)
			*problem = pg_strdup("its own checksum is wrong");
		else if ((twice = build_table(index)) != NULL)
			*problem = psprintf("it has the file \"%s\" twice", twice);
		index->system_identifier = reader->system_identifier;
	}
	pg_free(reader);
	if (*problem == NULL)
		return index;
	manifest_index_free(index);
	return NULL;
}

ManifestEntry *
manifest_index_find(const ManifestIndex *index, const char *path)
{
	uint32 at = hash_path(path) & index->mask;

	for (; index->buckets[at] != 0; at = (at + 1) & index->mask)
	{
		ManifestEntry *entry = &index->entries[index->buckets[at] - 1];

		if (strcmp(entry->path, path) == 0)
			return entry;
	}
	return NULL;
}

void
manifest_index_free(ManifestIndex *index)
{
	for (uint64 i = 0; i < index->count; i++)
	{
		pg_free(unconstify(char *, index->entries[i].path));
		pg_free(unconstify(uint8 *, index->entries[i].checksum));
	}
	pg_free(index->entries);
	pg_free(index->buckets);
	pg_free(index);
}
