/*-------------------------------------------------------------------------
 *
 * fuzz_manifest.c
 *	  Manifests of a hostile server: the reader stays within its bounds, tells
 *	  nothing that is not valid, and how the bytes are cut into pieces makes no
 *	  difference.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "../../src/base/backup_manifest.h"
#include "../../src/base/tar_reader.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)   \
	do                    \
	{                     \
		if (!(condition)) \
			abort();      \
	} while (0)

typedef struct Seen
{
	uint64 hash; /* of all that was told */
	uint64 files;
	uint64 ranges;
} Seen;

static void
add(Seen *seen, const void *data, size_t len)
{
	const uint8 *p = data;

	while (len-- > 0)
		seen->hash = (seen->hash ^ *p++) * UINT64CONST(1099511628211);
}

static bool
one_file(void *arg, const WaManifestFile *file)
{
	Seen *seen = arg;

	MUST(memchr(file->path, 0, sizeof(file->path)) != NULL);
	MUST(wa_backup_file_path_is_valid(file->path));
	MUST(file->size <= PG_INT64_MAX);
	MUST(file->algorithm >= WA_CHECKSUM_NONE && file->algorithm <= WA_CHECKSUM_SHA512);
	MUST(file->checksum_len == wa_checksum_length(file->algorithm));
	add(seen, file->path, strlen(file->path) + 1);
	add(seen, &file->size, sizeof(file->size));
	add(seen, file->checksum, file->checksum_len);
	seen->files++;
	return true;
}

static bool
one_range(void *arg, const WaManifestRange *range)
{
	Seen *seen = arg;

	MUST(range->tli != 0 && range->end >= range->start);
	add(seen, range, sizeof(*range));
	seen->ranges++;
	return true;
}

static bool
run(const char *data, size_t size, size_t piece, Seen *seen, const char **problem)
{
	static WaManifestReader reader;
	WaManifestHandler handler = {one_file, one_range, seen};
	bool good = true;

	wa_manifest_begin(&reader, &handler);
	while (size > 0 && good)
	{
		size_t n = Min(piece, size);

		good = wa_manifest_push(&reader, data, n);
		data += n;
		size -= n;
	}
	good = wa_manifest_finish(&reader) && good;
	MUST(good == (reader.problem == NULL) && good == !reader.failed);
	MUST(!good || (reader.version >= 1 && reader.version <= 2 && reader.files == seen->files));
	add(seen, &reader.line, sizeof(reader.line));
	*problem = reader.problem;
	return good;
}

/* The first byte says how the rest is cut. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Seen whole = {0};
	Seen pieces = {0};
	const char *problems[2];
	bool results[2];

	if (size < 1)
		return 0;
	results[0] = run((const char *) data + 1, size - 1, size, &whole, &problems[0]);
	results[1] = run((const char *) data + 1, size - 1, (size_t) data[0] + 1, &pieces, &problems[1]);
	MUST(results[0] == results[1] && problems[0] == problems[1]);
	MUST(whole.hash == pieces.hash && whole.files == pieces.files && whole.ranges == pieces.ranges);
	return 0;
}
