/*-------------------------------------------------------------------------
 *
 * fuzz_tar.c
 *	  Archives of a hostile server: the reader stays within its bounds, its
 *	  events come in order, a file has as many bytes as was said, its name stays
 *	  in the folder, and how the bytes are cut into pieces makes no difference.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

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
	uint64 hash; /* of all that was told, whatever the pieces */
	bool in_entry;
	uint64 bytes;
	uint64 entries;
	uint64 stop_at; /* the entry at which the handler stops; 0: never */
} Seen;

static void
add(Seen *seen, const void *data, size_t len)
{
	const uint8 *p = data;

	while (len-- > 0)
		seen->hash = (seen->hash ^ *p++) * UINT64CONST(1099511628211);
}

static bool
handler(void *arg, WaTarEvent event, const WaTarEntry *entry, const char *data, size_t len)
{
	Seen *seen = arg;

	MUST(memchr(entry->path, 0, sizeof(entry->path)) != NULL && memchr(entry->link, 0, sizeof(entry->link)) != NULL);
	switch (event)
	{
		case WA_TAR_BEGIN:
			MUST(!seen->in_entry);
			MUST(wa_backup_file_path_is_valid(entry->path) && entry->path[0] != '/' &&
				 strncmp(entry->path, "../", 3) != 0 && strstr(entry->path, "/../") == NULL);
			MUST(entry->type == WA_TAR_FILE || entry->size == 0);
			seen->in_entry = true;
			seen->bytes = 0;
			add(seen, entry->path, strlen(entry->path) + 1);
			add(seen, entry->link, strlen(entry->link) + 1);
			add(seen, &entry->size, sizeof(entry->size));
			add(seen, &entry->mtime, sizeof(entry->mtime));
			add(seen, &entry->mode, sizeof(entry->mode));
			add(seen, &entry->type, sizeof(entry->type));
			return ++seen->entries != seen->stop_at;
		case WA_TAR_DATA:
			MUST(seen->in_entry && len > 0);
			seen->bytes += len;
			MUST(seen->bytes <= entry->size);
			add(seen, data, len);
			return true;
		case WA_TAR_END:
			MUST(seen->in_entry && seen->bytes == entry->size);
			seen->in_entry = false;
			return true;
	}
	abort();
}

static bool
run(const char *data, size_t size, size_t piece, Seen *seen, const char **problem)
{
	static WaTarReader reader;
	bool good = true;

	wa_tar_begin(&reader, handler, seen);
	while (size > 0 && good)
	{
		size_t n = Min(piece, size);

		good = wa_tar_push(&reader, data, n);
		data += n;
		size -= n;
	}
	good = wa_tar_finish(&reader) && good;
	MUST(good == !reader.failed);
	MUST(!good || (!seen->in_entry && reader.problem == NULL));
	*problem = reader.problem;
	return good;
}

/* The first byte says how the rest is cut, the second where the handler stops. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Seen whole = {0};
	Seen pieces = {0};
	const char *problems[2];
	bool results[2];

	if (size < 2)
		return 0;
	whole.stop_at = pieces.stop_at = data[1];
	results[0] = run((const char *) data + 2, size - 2, size, &whole, &problems[0]);
	results[1] = run((const char *) data + 2, size - 2, (size_t) data[0] * 3 + 1, &pieces, &problems[1]);
	MUST(results[0] == results[1] && problems[0] == problems[1]);
	MUST(whole.hash == pieces.hash && whole.entries == pieces.entries);
	return 0;
}
