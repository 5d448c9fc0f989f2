/*-------------------------------------------------------------------------
 *
 * unpack.c
 *	  Unpacks a base backup's archives, checked against its manifest.  See
 *	  unpack.h.
 *
 * A file belongs to one worker from its first byte to its last, so its blocks
 * stay in order and its checksum needs no lock.  Blocks come from a pool: who
 * reads waits when the workers have all of them.  The lock covers the pool, the
 * queues and the first problem; nothing is read or written under it.
 *
 * A crash leaves a folder without global/pg_control (where that is held back),
 * which PostgreSQL refuses to start.
 *
 *-------------------------------------------------------------------------
 */
#include "../src/base/base.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cryptohash.h"
#include "common/sha2.h"

#include "../src/base/crc32c.h"
#include "../src/base/tar_reader.h"
#include "unpack.h"

#define BLOCK_SIZE (256 * 1024)
#define BLOCKS 96
#define MAX_WORKERS 16
#define MAX_CONTROL_LEN (64 * 1024)

/* Larger files are handed to the disk when they are whole, so that the sync at the end finds little to do. */
#define EARLY_WRITE_SIZE (1024 * 1024)

/* A file on its way; with the reader until its last block is queued, then the worker's. */
typedef struct File
{
	char *path;           /* where to write; NULL: nowhere */
	ManifestEntry *entry; /* what it must be */
	int mode;
	bool keep; /* it is pg_control */
	int worker;

	/* the worker's */
	int fd;
	uint64 written;
	pg_cryptohash_ctx *hash;
	pg_crc32c crc;
} File;

typedef struct Block
{
	struct Block *next;
	File *file;
	bool last;
	size_t len;
	char data[BLOCK_SIZE];
} Block;

typedef struct Worker
{
	Unpack *unpack;
	pthread_t thread;
	bool started;
	Block *head;
	Block *tail;
	int queued;
	pthread_cond_t wake;
} Worker;

struct Unpack
{
	ManifestIndex *manifest;
	bool hold_control;
	int nworkers;
	Worker worker[MAX_WORKERS];

	pthread_mutex_t lock;
	pthread_cond_t returned; /* a block came back, or a worker is done */
	Block *blocks;           /* all of them */
	Block *pool;
	int pooled;
	bool stopping;
	bool failed;
	char *problem;
	bool damage; /* it is the backup's */
	uint64 bytes;

	char *control;
	size_t control_len;
	bool group_access;

	/* of the archive that is being read */
	const char *name;
	const char *folder;
	const char *prefix;
	const UnpackSource *source;
	bool source_failed;
	File *file;
	Block *block;
	WaTarReader tar;
};

/* ---- problems ---- */

/* The first problem is the one that is told. */
static void
set_problem(Unpack *unpack, bool damage, const char *text)
{
	pthread_mutex_lock(&unpack->lock);
	if (!unpack->failed)
	{
		unpack->problem = strdup(text);
		unpack->damage = damage;
	}
	unpack->failed = true;
	pthread_cond_broadcast(&unpack->returned);
	pthread_mutex_unlock(&unpack->lock);
}

static void
fail(Unpack *unpack, const char *fmt, ...) pg_attribute_printf(2, 3);

/* This machine can't. */
static void
fail(Unpack *unpack, const char *fmt, ...)
{
	char text[2 * MAXPGPATH];
	int save_errno = errno;
	va_list args;

	va_start(args, fmt);
	errno = save_errno;
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	set_problem(unpack, false, text);
}

static void
damage(Unpack *unpack, const char *fmt, ...) pg_attribute_printf(2, 3);

/* The backup is not what its manifest says. */
static void
damage(Unpack *unpack, const char *fmt, ...)
{
	char text[2 * MAXPGPATH];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	set_problem(unpack, true, text);
}

static bool
has_failed(Unpack *unpack)
{
	bool failed;

	pthread_mutex_lock(&unpack->lock);
	failed = unpack->failed;
	pthread_mutex_unlock(&unpack->lock);
	return failed;
}

bool
unpack_is_damage(const Unpack *unpack)
{
	return unpack->damage;
}

const char *
unpack_problem(const Unpack *unpack)
{
	return unpack->problem;
}

/* ---- workers ---- */

static pg_cryptohash_type
hash_type(WaChecksumAlgorithm algorithm)
{
	switch (algorithm)
	{
		case WA_CHECKSUM_SHA224:
			return PG_SHA224;
		case WA_CHECKSUM_SHA384:
			return PG_SHA384;
		case WA_CHECKSUM_SHA512:
			return PG_SHA512;
		default:
			return PG_SHA256;
	}
}

static bool
open_file(Unpack *unpack, File *file)
{
	INIT_CRC32C(file->crc);
	if (file->entry->algorithm != WA_CHECKSUM_NONE && file->entry->algorithm != WA_CHECKSUM_CRC32C)
	{
		file->hash = pg_cryptohash_create(hash_type(file->entry->algorithm));
		if (file->hash == NULL || pg_cryptohash_init(file->hash) < 0)
		{
			fail(unpack, "could not compute a checksum");
			return false;
		}
	}
	if (file->path == NULL)
		return true;
	file->fd = open(file->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, file->mode);
	if (file->fd < 0)
		fail(unpack, "could not create file \"%s\": %m", file->path);
	return file->fd >= 0;
}

static bool
write_all(Unpack *unpack, File *file, const char *data, size_t len)
{
	while (len > 0)
	{
		ssize_t n = write(file->fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			if (n == 0)
				errno = ENOSPC;
			fail(unpack, "could not write file \"%s\": %m", file->path);
			return false;
		}
		data += n;
		len -= n;
	}
	return true;
}

/* Is it what the manifest says? */
static bool
judge_file(Unpack *unpack, File *file)
{
	const ManifestEntry *entry = file->entry;
	int len = wa_checksum_length(entry->algorithm);
	uint8 checksum[WA_CHECKSUM_LEN];

	if (file->written != entry->size)
	{
		damage(unpack, "file \"%s\" of the backup has " UINT64_FORMAT " bytes, but " UINT64_FORMAT " in the manifest",
			   entry->path, file->written, entry->size);
		return false;
	}
	if (entry->algorithm == WA_CHECKSUM_NONE)
		return true;
	if (entry->algorithm == WA_CHECKSUM_CRC32C)
	{
		FIN_CRC32C(file->crc);
		memcpy(checksum, &file->crc, sizeof(file->crc));
	}
	else if (pg_cryptohash_final(file->hash, checksum, len) < 0)
	{
		fail(unpack, "could not compute a checksum");
		return false;
	}
	if (memcmp(checksum, entry->checksum, len) != 0)
	{
		damage(unpack, "file \"%s\" of the backup is damaged: its %s checksum is not that of the manifest",
			   entry->path, wa_checksum_name(entry->algorithm));
		return false;
	}
	return true;
}

static void
free_file(File *file)
{
	if (file->fd >= 0)
		close(file->fd);
	if (file->hash != NULL)
		pg_cryptohash_free(file->hash);
	free(file->path);
	free(file);
}

/* pg_control stays in memory */
static bool
keep_bytes(Unpack *unpack, const Block *block)
{
	if (unpack->control_len + block->len > MAX_CONTROL_LEN)
	{
		damage(unpack, "file \"%s\" of the backup is too long", block->file->entry->path);
		return false;
	}
	if (unpack->control == NULL)
		unpack->control = pg_malloc(MAX_CONTROL_LEN);
	memcpy(unpack->control + unpack->control_len, block->data, block->len);
	unpack->control_len += block->len;
	return true;
}

static void
take_block(Unpack *unpack, const Block *block)
{
	File *file = block->file;

	if (file->fd < 0 && file->written == 0 && !open_file(unpack, file))
		return;
	if (file->entry->algorithm == WA_CHECKSUM_CRC32C)
		file->crc = wa_crc32c(file->crc, block->data, block->len);
	else if (file->hash != NULL &&
			 pg_cryptohash_update(file->hash, (const uint8 *) block->data, block->len) < 0)
	{
		fail(unpack, "could not compute a checksum");
		return;
	}
	if (file->path != NULL && !write_all(unpack, file, block->data, block->len))
		return;
	if (file->keep && !keep_bytes(unpack, block))
		return;
	file->written += block->len;
	if (!block->last)
		return;

#ifdef __linux__
	if (file->fd >= 0 && file->written >= EARLY_WRITE_SIZE)
		(void) sync_file_range(file->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
#endif
	if (file->fd >= 0)
	{
		int rc = close(file->fd);

		file->fd = -1;
		if (rc != 0)
		{
			fail(unpack, "could not close file \"%s\": %m", file->path);
			return;
		}
	}
	(void) judge_file(unpack, file);
}

static void *
work(void *arg)
{
	Worker *worker = arg;
	Unpack *unpack = worker->unpack;

	pthread_mutex_lock(&unpack->lock);
	for (;;)
	{
		Block *block = worker->head;
		bool failed = unpack->failed;
		File *done = NULL;

		if (block == NULL)
		{
			if (unpack->stopping)
				break;
			pthread_cond_wait(&worker->wake, &unpack->lock);
			continue;
		}
		worker->head = block->next;
		if (worker->head == NULL)
			worker->tail = NULL;
		pthread_mutex_unlock(&unpack->lock);

		if (!failed)
			take_block(unpack, block);
		if (block->last)
			done = block->file;

		pthread_mutex_lock(&unpack->lock);
		worker->queued--;
		unpack->bytes += block->len;
		block->next = unpack->pool;
		unpack->pool = block;
		unpack->pooled++;
		pthread_cond_signal(&unpack->returned);
		if (done != NULL)
		{
			pthread_mutex_unlock(&unpack->lock);
			free_file(done);
			pthread_mutex_lock(&unpack->lock);
		}
	}
	pthread_mutex_unlock(&unpack->lock);
	return NULL;
}

/* ---- the reader ---- */

/* A block from the pool; NULL once something has failed. */
static Block *
get_block(Unpack *unpack, File *file)
{
	Block *block = NULL;

	pthread_mutex_lock(&unpack->lock);
	while (unpack->pool == NULL && !unpack->failed)
		pthread_cond_wait(&unpack->returned, &unpack->lock);
	if (!unpack->failed)
	{
		block = unpack->pool;
		unpack->pool = block->next;
		unpack->pooled--;
	}
	pthread_mutex_unlock(&unpack->lock);
	if (block != NULL)
	{
		block->next = NULL;
		block->file = file;
		block->last = false;
		block->len = 0;
	}
	return block;
}

static void
put_block(Unpack *unpack, Block *block)
{
	Worker *worker = &unpack->worker[block->file->worker];

	pthread_mutex_lock(&unpack->lock);
	if (worker->tail != NULL)
		worker->tail->next = block;
	else
		worker->head = block;
	worker->tail = block;
	worker->queued++;
	pthread_cond_signal(&worker->wake);
	pthread_mutex_unlock(&unpack->lock);
}

static int
least_busy(Unpack *unpack)
{
	int best = 0;

	pthread_mutex_lock(&unpack->lock);
	for (int i = 1; i < unpack->nworkers; i++)
	{
		if (unpack->worker[i].queued < unpack->worker[best].queued)
			best = i;
	}
	pthread_mutex_unlock(&unpack->lock);
	return best;
}

/* What a restore makes anew, or must not have: where tablespaces were, that this was a standby. */
static bool
is_left_out(const char *path)
{
	return strcmp(path, "tablespace_map") == 0 || strcmp(path, "standby.signal") == 0 ||
		   strcmp(path, "recovery.signal") == 0;
}

static bool
begin_file(Unpack *unpack, const WaTarEntry *entry)
{
	char path[WA_MANIFEST_PATH_LEN];
	ManifestEntry *wanted;
	File *file;

	if (snprintf(path, sizeof(path), "%s%s", unpack->prefix, entry->path) >= (int) sizeof(path))
	{
		damage(unpack, "archive \"%s\" has a path that is too long", unpack->name);
		return false;
	}
	wanted = manifest_index_find(unpack->manifest, path);
	if (wanted == NULL || wanted->seen)
	{
		damage(unpack, wanted == NULL ? "archive \"%s\" has the file \"%s\", which is not in the manifest" : "archive \"%s\" has the file \"%s\", which was there before",
			   unpack->name, path);
		return false;
	}
	if (wanted->size != entry->size)
	{
		damage(unpack, "file \"%s\" of the backup has " UINT64_FORMAT " bytes, but " UINT64_FORMAT " in the manifest",
			   path, entry->size, wanted->size);
		return false;
	}
	wanted->seen = true;

	file = pg_malloc0(sizeof(File));
	file->entry = wanted;
	file->fd = -1;
	file->mode = 0600 | (entry->mode & 0040);
	file->worker = least_busy(unpack);
	file->keep = unpack->hold_control && strcmp(path, "global/pg_control") == 0;
	if (!file->keep && !is_left_out(path))
		file->path = psprintf("%s/%s", unpack->folder, entry->path);
	unpack->file = file;
	unpack->block = get_block(unpack, file);
	return unpack->block != NULL;
}

static bool
make_folder(Unpack *unpack, const WaTarEntry *entry)
{
	char path[MAXPGPATH];
	struct stat st;

	if (snprintf(path, sizeof(path), "%s/%s", unpack->folder, entry->path) >= (int) sizeof(path))
	{
		damage(unpack, "archive \"%s\" has a path that is too long", unpack->name);
		return false;
	}
	if (entry->mode & 0040)
		unpack->group_access = true;
	if (mkdir(path, 0700 | (entry->mode & 0050)) == 0)
		return true;
	if (errno == EEXIST && lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
		return true;
	fail(unpack, "could not create directory \"%s\": %m", path);
	return false;
}

static bool
take_data(Unpack *unpack, const char *data, size_t len)
{
	while (len > 0)
	{
		size_t n = Min(len, BLOCK_SIZE - unpack->block->len);

		memcpy(unpack->block->data + unpack->block->len, data, n);
		unpack->block->len += n;
		data += n;
		len -= n;
		if (len > 0)
		{
			put_block(unpack, unpack->block);
			unpack->block = get_block(unpack, unpack->file);
			if (unpack->block == NULL)
				return false;
		}
	}
	return true;
}

static bool
take_entry(void *arg, WaTarEvent event, const WaTarEntry *entry, const char *data, size_t len)
{
	Unpack *unpack = arg;

	/* links to tablespaces are made by who knows where they go */
	if (entry->type == WA_TAR_SYMLINK)
	{
		if (strncmp(entry->path, "pg_tblspc/", 10) == 0)
			return true;
		damage(unpack, "archive \"%s\" has a symbolic link \"%s\"", unpack->name, entry->path);
		return false;
	}
	if (entry->type == WA_TAR_DIRECTORY)
		return event != WA_TAR_BEGIN || make_folder(unpack, entry);
	switch (event)
	{
		case WA_TAR_BEGIN:
			return begin_file(unpack, entry);
		case WA_TAR_DATA:
			return take_data(unpack, data, len);
		case WA_TAR_END:
			unpack->block->last = true;
			put_block(unpack, unpack->block);
			unpack->block = NULL;
			unpack->file = NULL;
			return true;
	}
	return true;
}

/* libarchive asks for more of the compressed bytes */
static la_ssize_t
read_compressed(struct archive *archive, void *arg, const void **data)
{
	Unpack *unpack = arg;
	ssize_t n = unpack->source->read(unpack->source->arg, data);

	if (n < 0)
	{
		unpack->source_failed = true;
		archive_set_error(archive, EIO, "the archive could not be read");
	}
	return n;
}

/* Decompress: the tar is for libarchive but bytes. */
static bool
read_filtered(Unpack *unpack)
{
	struct archive *archive = archive_read_new();
	struct archive_entry *entry;
	bool ok = false;

	if (archive == NULL || archive_read_support_filter_gzip(archive) < ARCHIVE_WARN ||
		archive_read_support_filter_lz4(archive) < ARCHIVE_WARN ||
		archive_read_support_filter_zstd(archive) < ARCHIVE_WARN ||
		archive_read_support_format_raw(archive) != ARCHIVE_OK)
		fail(unpack, "libarchive lacks what is needed for \"%s\"", unpack->name);
	else if (archive_read_open(archive, unpack, NULL, read_compressed, NULL) != ARCHIVE_OK ||
			 archive_read_next_header(archive, &entry) != ARCHIVE_OK)
	{
		if (!unpack->source_failed)
			damage(unpack, "archive \"%s\" can't be read: %s", unpack->name, archive_error_string(archive));
	}
	else
	{
		for (;;)
		{
			const void *data;
			size_t len;
			la_int64_t offset;
			int rc = archive_read_data_block(archive, &data, &len, &offset);

			if (rc == ARCHIVE_EOF)
			{
				ok = true;
				break;
			}
			if (rc != ARCHIVE_OK)
			{
				if (!unpack->source_failed)
					damage(unpack, "archive \"%s\" can't be read: %s", unpack->name, archive_error_string(archive));
				break;
			}
			if (!wa_tar_push(&unpack->tar, data, len))
				break;
		}
	}
	if (archive != NULL)
		archive_read_free(archive);
	return ok;
}

static bool
read_plain(Unpack *unpack)
{
	const void *data;
	ssize_t n;

	while ((n = unpack->source->read(unpack->source->arg, &data)) > 0)
	{
		if (!wa_tar_push(&unpack->tar, data, n))
			return false;
	}
	if (n < 0)
		unpack->source_failed = true;
	return n == 0;
}

static bool
ends_with(const char *text, const char *end)
{
	size_t len = strlen(text);
	size_t end_len = strlen(end);

	return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

bool
unpack_archive(Unpack *unpack, const char *name, const char *folder, const char *prefix,
			   const UnpackSource *source)
{
	bool ok;

	unpack->name = name;
	unpack->folder = folder;
	unpack->prefix = prefix;
	unpack->source = source;
	unpack->source_failed = false;
	wa_tar_begin(&unpack->tar, take_entry, unpack);
	ok = ends_with(name, ".tar") ? read_plain(unpack) : read_filtered(unpack);
	ok = ok && wa_tar_finish(&unpack->tar);
	if (!ok && !unpack->source_failed && !has_failed(unpack))
		damage(unpack, "archive \"%s\" is damaged: %s", name,
			   unpack->tar.problem ? unpack->tar.problem : "it is no tar archive");
	return ok && !has_failed(unpack);
}

/* ---- begin and end ---- */

Unpack *
unpack_begin(ManifestIndex *manifest, int workers, bool hold_control)
{
	Unpack *unpack = pg_malloc0(sizeof(Unpack));

	unpack->manifest = manifest;
	unpack->hold_control = hold_control;
	unpack->nworkers = Max(1, Min(workers, MAX_WORKERS));
	pthread_mutex_init(&unpack->lock, NULL);
	pthread_cond_init(&unpack->returned, NULL);
	unpack->blocks = pg_malloc(BLOCKS * sizeof(Block));
	for (int i = 0; i < BLOCKS; i++)
	{
		unpack->blocks[i].next = unpack->pool;
		unpack->pool = &unpack->blocks[i];
	}
	unpack->pooled = BLOCKS;
	for (int i = 0; i < unpack->nworkers; i++)
	{
		Worker *worker = &unpack->worker[i];
		int rc;

		worker->unpack = unpack;
		pthread_cond_init(&worker->wake, NULL);
		rc = pthread_create(&worker->thread, NULL, work, worker);
		if (rc == 0)
			worker->started = true;
		else if (i == 0)
		{
			errno = rc;
			fail(unpack, "could not start a thread: %m");
		}
		else
		{
			unpack->nworkers = i;
			break;
		}
	}
	return unpack;
}

bool
unpack_finish(Unpack *unpack)
{
	pthread_mutex_lock(&unpack->lock);
	while (unpack->pooled < BLOCKS && !unpack->failed)
		pthread_cond_wait(&unpack->returned, &unpack->lock);
	pthread_mutex_unlock(&unpack->lock);
	for (uint64 i = 0; i < unpack->manifest->count && !has_failed(unpack); i++)
	{
		if (!unpack->manifest->entries[i].seen)
			damage(unpack, "file \"%s\" is in the manifest of the backup, but not in its archives",
				   unpack->manifest->entries[i].path);
	}
	return !has_failed(unpack);
}

uint64
unpack_bytes(Unpack *unpack)
{
	uint64 bytes;

	pthread_mutex_lock(&unpack->lock);
	bytes = unpack->bytes;
	pthread_mutex_unlock(&unpack->lock);
	return bytes;
}

const char *
unpack_control(const Unpack *unpack, size_t *len)
{
	*len = unpack->control_len;
	return unpack->control;
}

bool
unpack_group_access(const Unpack *unpack)
{
	return unpack->group_access;
}

void
unpack_end(Unpack *unpack)
{
	pthread_mutex_lock(&unpack->lock);
	unpack->stopping = true;
	for (int i = 0; i < unpack->nworkers; i++)
		pthread_cond_signal(&unpack->worker[i].wake);
	pthread_mutex_unlock(&unpack->lock);
	for (int i = 0; i < unpack->nworkers; i++)
	{
		if (unpack->worker[i].started)
			pthread_join(unpack->worker[i].thread, NULL);
		pthread_cond_destroy(&unpack->worker[i].wake);
	}

	/* with a problem, the file that was being read may be nobody's */
	if (unpack->file != NULL)
		free_file(unpack->file);
	pthread_cond_destroy(&unpack->returned);
	pthread_mutex_destroy(&unpack->lock);
	free(unpack->problem);
	pg_free(unpack->control);
	pg_free(unpack->blocks);
	pg_free(unpack);
}
