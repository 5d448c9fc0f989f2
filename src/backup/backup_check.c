/*-------------------------------------------------------------------------
 *
 * backup_check.c
 *	  Checks a base backup against its manifest: the archives' side; see
 *	  backup_check.h.  What was found is compared in manifest_check.c.
 *
 * A check belongs to one process.  With a thread of its own, the bytes of an
 * archive go through a ring; the thread alone uncompresses them, computes
 * checksums and writes the temporary file.  All other work is done by the
 * process while the ring is empty and the thread waits, so only the ring is
 * under the mutex.
 *
 * What the thread may touch: the check, whose memory is all there before it
 * starts, the libraries' own memory, and write().  No palloc, no ereport.
 *
 * The thread must not run on while exit() takes the libraries apart under it, so
 * it is also stopped by a callback at the process's exit.  A crash leaves
 * nothing: the temporary file has no name.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "common/cryptohash.h"
#include "common/file_perm.h"
#include "common/sha2.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "../base/crc32c.h"
#include "../state/fault_point.h"
#include "backup_check_internal.h"

/* What the thread may be behind.  More would drive out of the processor's cache what compression works with. */
#define RING_SIZE (1024 * 1024)

/* The thread is woken for so many bytes at least: waking costs as much as checking a few kilobytes. */
#define WAKE_SIZE (128 * 1024)

#define SPILL_BUFFER (64 * 1024)

/* Which of the process's checks has a thread; there is hardly ever more than one. */
static WaBackupCheck *threaded = NULL;
static bool exit_registered = false;

const char *
wa_backup_checksum_name(const char *name)
{
	WaChecksumAlgorithm algorithm;

	return wa_checksum_from_name(name, &algorithm) ? wa_checksum_name(algorithm) : NULL;
}

/* ---- the temporary file ---- */

/* Write out what is buffered; keeps the error for the process. */
static void
flush_spill(WaBackupCheck *check)
{
	const char *p = check->spill_buffer;

	while (check->spill_used > 0 && check->spill_error == 0)
	{
		ssize_t n = WA_FAULT(BACKUP_SPILL_WRITE, write(check->spill_fd, p, WA_SHORT(check->spill_used)));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			check->spill_error = n == 0 || errno == 0 ? ENOSPC : errno;
			break;
		}
		p += n;
		check->spill_used -= n;
		check->spill_size += n;
	}
	check->spill_used = 0;
}

static void
spill(WaBackupCheck *check, const void *data, size_t len)
{
	if (check->spill_used + len > SPILL_BUFFER)
		flush_spill(check);
	memcpy(check->spill_buffer + check->spill_used, data, len);
	check->spill_used += len;
}

static void
open_spill(WaBackupCheck *check, const char *folder)
{
	char path[MAXPGPATH];

	if (snprintf(path, MAXPGPATH, "%s/.check.%d", folder, MyProcPid) >= MAXPGPATH)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("path of a temporary file is too long")));
	(void) unlink(path);
	ReserveExternalFD();
	check->spill_fd = WA_FAULT(BACKUP_SPILL_CREATE, open(path, O_RDWR | O_CREAT | O_EXCL | PG_BINARY | O_CLOEXEC, pg_file_create_mode));
	if (check->spill_fd < 0)
	{
		int error = errno;

		ReleaseExternalFD();
		errno = error;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\": %m", path)));
	}
	(void) unlink(path);
}

/* ---- checksums ---- */

static bool
begin_checksum(WaBackupCheck *check)
{
	if (check->algorithm == WA_CHECKSUM_CRC32C)
		INIT_CRC32C(check->crc);
	return check->hash == NULL || pg_cryptohash_init(check->hash) >= 0;
}

static bool
add_checksum(WaBackupCheck *check, const char *data, size_t len)
{
	if (check->algorithm == WA_CHECKSUM_CRC32C)
		check->crc = wa_crc32c(check->crc, data, len);
	return check->hash == NULL || pg_cryptohash_update(check->hash, (const uint8 *) data, len) >= 0;
}

static bool
end_checksum(WaBackupCheck *check, uint8 *checksum)
{
	if (check->algorithm == WA_CHECKSUM_CRC32C)
	{
		/* in the server's byte order, as the server does */
		FIN_CRC32C(check->crc);
		memcpy(checksum, &check->crc, sizeof(check->crc));
	}
	return check->hash == NULL || pg_cryptohash_final(check->hash, checksum, check->checksum_len) >= 0;
}

pg_cryptohash_ctx *
wa_backup_check_hash(WaBackupCheck *check, pg_cryptohash_type type)
{
	ResourceOwner before = CurrentResourceOwner;
	pg_cryptohash_ctx *hash = NULL;

	CurrentResourceOwner = check->owner;
	PG_TRY();
	{
		hash = pg_cryptohash_create(type);
	}
	PG_FINALLY();
	{
		CurrentResourceOwner = before;
	}
	PG_END_TRY();
	if (hash == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	check->hashes[check->hashes[0] == NULL ? 0 : 1] = hash;
	return hash;
}

void
wa_backup_check_free_hash(WaBackupCheck *check, pg_cryptohash_ctx *hash)
{
	for (int i = 0; i < lengthof(check->hashes); i++)
	{
		if (check->hashes[i] == hash)
			check->hashes[i] = NULL;
	}
	pg_cryptohash_free(hash);
}

/* The context for the files' checksums, if they need one. */
static void
create_hash(WaBackupCheck *check)
{
	switch (check->algorithm)
	{
		case WA_CHECKSUM_NONE:
		case WA_CHECKSUM_CRC32C:
			break;
		case WA_CHECKSUM_SHA224:
			check->hash = wa_backup_check_hash(check, PG_SHA224);
			break;
		case WA_CHECKSUM_SHA256:
			check->hash = wa_backup_check_hash(check, PG_SHA256);
			break;
		case WA_CHECKSUM_SHA384:
			check->hash = wa_backup_check_hash(check, PG_SHA384);
			break;
		case WA_CHECKSUM_SHA512:
			check->hash = wa_backup_check_hash(check, PG_SHA512);
			break;
	}
}

/* ---- what an archive holds ---- */

static bool
archive_fails(WaBackupCheck *check, const char *problem)
{
	if (check->problem[0] == '\0')
	{
		strlcpy(check->problem, problem, sizeof(check->problem));
		if (check->tar.in_entry)
			strlcpy(check->problem_file, check->path, sizeof(check->problem_file));
	}
	return false;
}

/* The file whose content is kept, where 'path' is one. */
static WaKeptFile *
kept_file(WaBackupCheck *check, const char *path)
{
	static const char *const names[WA_KEPT_FILES] = {"global/pg_control", "backup_label", "tablespace_map"};

	for (int i = 0; i < WA_KEPT_FILES; i++)
	{
		if (strcmp(path, names[i]) == 0)
			return &check->kept[i];
	}
	return NULL;
}

static bool
begin_file(WaBackupCheck *check, const WaTarEntry *entry)
{
	int len;

	if (check->tablespace != InvalidOid)
		len = snprintf(check->path, sizeof(check->path), "pg_tblspc/%u/%s", check->tablespace, entry->path);
	else
		len = snprintf(check->path, sizeof(check->path), "%s", entry->path);
	check->path_len = (uint16) len;
	if (entry->type != WA_TAR_FILE)
		return true;
	check->keep = kept_file(check, check->path);
	if (check->keep != NULL)
	{
		check->keep->len = 0;
		check->keep->present = entry->size < WA_KEPT_SIZE;
	}
	if (!begin_checksum(check))
		return archive_fails(check, "could not compute a checksum");
	return true;
}

static bool
end_file(WaBackupCheck *check, const WaTarEntry *entry)
{
	WaFoundHeader header;
	uint8 checksum[WA_CHECKSUM_LEN];

	if (entry->type != WA_TAR_FILE)
		return true;
	check->keep = NULL;
	check->facts.files++;
	if (!end_checksum(check, checksum))
		return archive_fails(check, "could not compute a checksum");
	header.size = entry->size;
	header.path_len = check->path_len;
	spill(check, &header, sizeof(header));
	spill(check, check->path, check->path_len);
	spill(check, checksum, check->checksum_len);
	return check->spill_error == 0;
}

static bool
tar_event(void *arg, WaTarEvent event, const WaTarEntry *entry, const char *data, size_t len)
{
	WaBackupCheck *check = arg;
	WaKeptFile *keep = check->keep;

	switch (event)
	{
		case WA_TAR_BEGIN:
			return begin_file(check, entry);
		case WA_TAR_DATA:
			if (keep != NULL && keep->present && keep->len + len < WA_KEPT_SIZE)
			{
				memcpy(keep->data + keep->len, data, len);
				keep->len += len;
			}
			return add_checksum(check, data, len) || archive_fails(check, "could not compute a checksum");
		case WA_TAR_END:
			return end_file(check, entry);
	}
	return false;
}

/* The codec's sink: bytes of the tar. */
static bool
tar_bytes(void *arg, const char *data, size_t len)
{
	WaBackupCheck *check = arg;

	check->facts.data_bytes += len;
	if (!wa_tar_push(&check->tar, data, len))
		return archive_fails(check, check->tar.problem != NULL ? check->tar.problem : "the archive could not be read");
	return true;
}

/* Compressed bytes of the archive, in thread or process. */
static void
take_bytes(WaBackupCheck *check, const char *data, size_t len)
{
	if (check->problem[0] != '\0' || check->spill_error != 0)
		return;
	if (!wa_codec_write(check->codec, data, len) && wa_codec_problem(check->codec) != NULL)
		archive_fails(check, wa_codec_problem(check->codec));
}

/* ---- the thread ---- */

static void *
thread_main(void *arg)
{
	WaBackupCheck *check = arg;

	pthread_mutex_lock(&check->mutex);
	while (!check->stop)
	{
		size_t at;
		size_t len;

		if (check->ring_used == 0)
		{
			pthread_cond_wait(&check->filled, &check->mutex);
			continue;
		}
		at = check->ring_at;
		len = Min(check->ring_used, RING_SIZE - at);
		/* a bit at a time, so that there soon is room again */
		len = Min(len, RING_SIZE / 8);
		pthread_mutex_unlock(&check->mutex);
		take_bytes(check, check->ring + at, len);
		pthread_mutex_lock(&check->mutex);
		check->ring_at = (at + len) % RING_SIZE;
		check->ring_used -= len;
		check->failed = check->problem[0] != '\0' || check->spill_error != 0;
		pthread_cond_signal(&check->emptied);
	}
	pthread_mutex_unlock(&check->mutex);
	return NULL;
}

static void
stop_thread(WaBackupCheck *check)
{
	if (!check->has_thread)
		return;
	pthread_mutex_lock(&check->mutex);
	check->stop = true;
	pthread_cond_signal(&check->filled);
	pthread_mutex_unlock(&check->mutex);
	pthread_join(check->thread, NULL);
	check->has_thread = false;
	if (threaded == check)
		threaded = NULL;
}

static void
stop_at_exit(int code, Datum arg)
{
	if (threaded != NULL)
		stop_thread(threaded);
}

static void
stop_callback(void *arg)
{
	stop_thread(arg);
}

/*
 * Have the context's going stop the thread before anything that was made up to
 * now goes: callbacks are called in the reverse of the order in which they were
 * registered.  That is also why nothing of the thread's is in a child context.
 */
static void
stop_thread_first(WaBackupCheck *check)
{
	MemoryContextCallback *callback;

	if (!check->has_thread)
		return;
	callback = MemoryContextAlloc(check->context, sizeof(MemoryContextCallback));
	callback->func = stop_callback;
	callback->arg = check;
	MemoryContextRegisterResetCallback(check->context, callback);
}

/* Start the thread; without one the process does the work itself. */
static void
start_thread(WaBackupCheck *check)
{
	sigset_t all;
	sigset_t before;

	/* the callback at exit knows of one */
	if (threaded != NULL)
		return;
	if (!exit_registered)
	{
		before_shmem_exit(stop_at_exit, (Datum) 0);
		exit_registered = true;
	}
	check->ring = palloc(RING_SIZE);
	pthread_mutex_init(&check->mutex, NULL);
	pthread_cond_init(&check->filled, NULL);
	pthread_cond_init(&check->emptied, NULL);
	/* signals are for the process's own thread alone */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	check->has_thread = pthread_create(&check->thread, NULL, thread_main, check) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (check->has_thread)
		threaded = check;
}

/* Wait until the thread has taken all that there was; it waits then. */
static void
drain(WaBackupCheck *check)
{
	if (!check->has_thread)
		return;
	pthread_mutex_lock(&check->mutex);
	pthread_cond_signal(&check->filled);
	while (check->ring_used > 0)
		pthread_cond_wait(&check->emptied, &check->mutex);
	pthread_mutex_unlock(&check->mutex);
}

/* Put bytes into the ring; false if something was wrong before. */
static bool
feed_thread(WaBackupCheck *check, const char *data, size_t len)
{
	bool failed;

	pthread_mutex_lock(&check->mutex);
	while (len > 0 && !check->failed)
	{
		size_t at = (check->ring_at + check->ring_used) % RING_SIZE;
		size_t n = Min(len, RING_SIZE - check->ring_used);

		n = Min(n, RING_SIZE - at);
		if (n == 0)
		{
			pthread_cond_wait(&check->emptied, &check->mutex);
			continue;
		}
		/* the thread does not look beyond ring_used */
		pthread_mutex_unlock(&check->mutex);
		memcpy(check->ring + at, data, n);
		pthread_mutex_lock(&check->mutex);
		check->ring_used += n;
		data += n;
		len -= n;
		if (check->ring_used >= WAKE_SIZE)
			pthread_cond_signal(&check->filled);
	}
	failed = check->failed;
	pthread_mutex_unlock(&check->mutex);
	return !failed;
}

/* ---- the check ---- */

/* Give back what is not memory of the context. */
static void
release(void *arg)
{
	WaBackupCheck *check = arg;

	stop_thread(check);
	for (int i = 0; i < lengthof(check->hashes); i++)
	{
		if (check->hashes[i] != NULL)
			pg_cryptohash_free(check->hashes[i]);
		check->hashes[i] = NULL;
	}
	if (check->owner != NULL)
		ResourceOwnerDelete(check->owner);
	check->owner = NULL;
	if (check->spill_fd >= 0)
	{
		(void) close(check->spill_fd);
		ReleaseExternalFD();
	}
	check->spill_fd = -1;
}

WaBackupCheck *
wa_backup_check_begin(const char *folder, const char *algorithm, bool own_thread)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "walarchive backup check", ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);
	WaBackupCheck *check = palloc0(sizeof(WaBackupCheck));

	check->context = context;
	check->spill_fd = -1;
	if (!wa_checksum_from_name(algorithm, &check->algorithm))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("checksum algorithm \"%s\" is not known", algorithm)));
	check->checksum_len = wa_checksum_length(check->algorithm);
	check->spill_buffer = palloc(SPILL_BUFFER);
	for (int i = 0; i < WA_KEPT_FILES; i++)
		check->kept[i].data = palloc0(WA_KEPT_SIZE);
	check->callback.func = release;
	check->callback.arg = check;
	MemoryContextRegisterResetCallback(context, &check->callback);
	check->owner = ResourceOwnerCreate(NULL, "walarchive backup check");
	open_spill(check, folder);
	create_hash(check);
	if (own_thread)
		start_thread(check);
	MemoryContextSwitchTo(before);
	return check;
}

/* Raise what the temporary file's writing has met. */
static void
check_spill(WaBackupCheck *check)
{
	if (check->spill_error == 0)
		return;
	errno = check->spill_error;
	ereport(ERROR,
			(errcode_for_file_access(),
			 errmsg("could not write the temporary file of a backup's check: %m")));
}

bool
wa_backup_check_archive(WaBackupCheck *check, Oid tablespace, WaCompressionMethod method)
{
	MemoryContext before;

	drain(check);
	check_spill(check);
	before = MemoryContextSwitchTo(check->context);
	if (check->codec != NULL)
		wa_codec_end(check->codec);
	check->codec = NULL;
	check->tablespace = tablespace;
	check->failed = false;
	check->problem[0] = '\0';
	check->problem_file[0] = '\0';
	check->keep = NULL;
	if (tablespace == InvalidOid)
		check->main_archive_seen = true;
	wa_tar_begin(&check->tar, tar_event, check);
	check->codec = wa_codec_begin_decompress(method, tar_bytes, check);
	stop_thread_first(check);
	MemoryContextSwitchTo(before);
	return true;
}

bool
wa_backup_check_data(WaBackupCheck *check, const char *data, size_t len)
{
	if (len == 0)
		return true;
	if (check->has_thread)
	{
		if (feed_thread(check, data, len))
			return true;
		drain(check);
	}
	else
		take_bytes(check, data, len);
	check_spill(check);
	return check->problem[0] == '\0';
}

bool
wa_backup_check_archive_end(WaBackupCheck *check)
{
	drain(check);
	check_spill(check);
	if (check->problem[0] == '\0' && !wa_codec_finish(check->codec))
		archive_fails(check, wa_codec_problem(check->codec) != NULL ? wa_codec_problem(check->codec) : "the archive could not be read");
	if (check->problem[0] == '\0' && !wa_tar_finish(&check->tar))
		archive_fails(check, check->tar.problem != NULL ? check->tar.problem : "the archive could not be read");
	flush_spill(check);
	check_spill(check);
	return check->problem[0] == '\0';
}

const char *
wa_backup_check_problem(WaBackupCheck *check, const char **file)
{
	drain(check);
	*file = check->problem_file[0] != '\0' ? check->problem_file : NULL;
	return check->problem[0] != '\0' ? check->problem : NULL;
}

const WaBackupFacts *
wa_backup_check_facts(WaBackupCheck *check)
{
	WaBackupFacts *facts = &check->facts;
	WaKeptFile *control = &check->kept[WA_KEPT_CONTROL];

	drain(check);
	facts->has_control = control->present &&
						 wa_read_control_file(control->data, control->len, &facts->control) == WA_CONTROL_OK;
	/* the buffers are zeroed and larger than what is kept in them */
	facts->backup_label = check->kept[WA_KEPT_LABEL].present ? check->kept[WA_KEPT_LABEL].data : NULL;
	facts->tablespace_map = check->kept[WA_KEPT_MAP].present ? check->kept[WA_KEPT_MAP].data : NULL;
	return facts;
}

void
wa_backup_check_end(WaBackupCheck *check)
{
	MemoryContextDelete(check->context);
}
