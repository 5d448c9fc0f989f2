/*-------------------------------------------------------------------------
 *
 * restore_fetch.c
 *	  Brings a base backup, or a chain of them, into the data directory.  See
 *	  restore.h.
 *
 * A thread reads the archive and puts what comes into a ring; the main thread
 * decompresses and takes the tars apart; workers of unpack.h check and write.
 *
 * A single backup goes straight into the data directory.  A chain is unpacked
 * below <data>/walarchive.restore.d, combined by pg_combinebackup, and what comes
 * out is moved up.  global/pg_control is kept in memory all the while.
 *
 *-------------------------------------------------------------------------
 */
#include "restore.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/file_utils.h"
#include "common/logging.h"
#include "common/string.h"

#include "conf_file.h"
#include "unpack.h"

#define STAGING "walarchive.restore.d"

/* What is read at once of a small file. */
#define MAX_SMALL_FILE ((uint64) 1024 * 1024 * 1024)

#define RING_PIECE (256 * 1024)
#define RING_PIECES 64

/* ---- small files ---- */

typedef struct SmallFile
{
	ArchiveRead read;
	bool asked;
	char *text;
	size_t used;
} SmallFile;

static bool
small_next(void *arg, ArchiveRead *read)
{
	SmallFile *file = arg;

	if (file->asked)
		return false;
	file->asked = true;
	*read = file->read;
	return true;
}

static bool
small_data(void *arg, const ArchiveRead *read, uint64 offset, const char *bytes, size_t len)
{
	SmallFile *file = arg;

	if (len > file->read.length - file->used)
		return false;
	memcpy(file->text + file->used, bytes, len);
	file->used += len;
	return true;
}

static const ArchiveFile *
find_file(Restore *restore, const char *label, const char *name)
{
	for (int i = 0; i < restore->nfiles; i++)
	{
		const ArchiveFile *file = &restore->files[i];

		if (file->kind == ARCHIVE_FILE_BACKUP && strcmp(file->label, label) == 0 && strcmp(file->name, name) == 0)
			return file;
	}
	return NULL;
}

char *
restore_read_file(Restore *restore, const char *label, const char *name, size_t *len, int *code)
{
	const ArchiveFile *file = find_file(restore, label, name);
	SmallFile small = {0};
	ArchiveReader reader = {.next = small_next, .data = small_data, .arg = &small};
	ArchiveStatus status;

	if (file == NULL || file->size > MAX_SMALL_FILE)
	{
		pg_log_error(file == NULL ? "backup \"%s\" has no \"%s\"" : "\"%2$s\" of backup \"%1$s\" is too long", label, name);
		*code = EXIT_ARCHIVE;
		return NULL;
	}
	small.read.label = label;
	small.read.name = name;
	small.read.length = file->size;
	small.text = pg_malloc(file->size + 1);
	status = archive_read(restore->archive, &reader);
	if (status != ARCHIVE_OK || small.used != file->size)
	{
		if (status == ARCHIVE_OK || status == ARCHIVE_STOPPED)
		{
			pg_log_error("\"%s\" of backup \"%s\" is not as long as it was", name, label);
			*code = EXIT_ARCHIVE;
		}
		else
			*code = archive_report(restore->archive, status);
		pg_free(small.text);
		return NULL;
	}
	small.text[small.used] = '\0';
	*len = small.used;
	*code = EXIT_DONE;
	return small.text;
}

/* ---- the ring ---- */

typedef struct Piece
{
	int archive; /* which one of the feed */
	size_t len;
	char data[RING_PIECE];
} Piece;

/*
 * Archives of a backup on their way from the reading thread to the main one.
 * The lock covers counters and flags; a piece is its writer's up to 'filled' and
 * its reader's up to 'emptied'.
 */
typedef struct Feed
{
	Restore *restore;
	Archive *archive; /* the thread's own */
	const ArchiveFile **files;
	int nfiles;
	int asked; /* files that were asked for */
	int current;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	Piece *pieces;
	uint64 filled;
	uint64 emptied;
	int finished; /* files that are whole */
	bool ended;
	bool stopped; /* nobody wants more */
	ArchiveStatus status;

	/* the main thread's */
	int reading;
	bool holding; /* a piece is in use */
	uint64 bytes;
	uint64 total;
	double next_progress;
	const char *what;
} Feed;

static bool
feed_next(void *arg, ArchiveRead *read)
{
	Feed *feed = arg;

	if (feed->asked == feed->nfiles)
		return false;
	memset(read, 0, sizeof(*read));
	read->label = feed->files[feed->asked]->label;
	read->name = feed->files[feed->asked]->name;
	read->length = feed->files[feed->asked]->size;
	feed->asked++;
	return true;
}

static bool
feed_data(void *arg, const ArchiveRead *read, uint64 offset, const char *bytes, size_t len)
{
	Feed *feed = arg;

	while (len > 0)
	{
		size_t n = Min(len, RING_PIECE);
		Piece *piece;
		bool stopped;

		pthread_mutex_lock(&feed->lock);
		while (feed->filled - feed->emptied == RING_PIECES && !feed->stopped)
			pthread_cond_wait(&feed->changed, &feed->lock);
		stopped = feed->stopped;
		pthread_mutex_unlock(&feed->lock);
		if (stopped)
			return false;

		piece = &feed->pieces[feed->filled % RING_PIECES];
		piece->archive = feed->current;
		piece->len = n;
		memcpy(piece->data, bytes, n);
		bytes += n;
		len -= n;

		pthread_mutex_lock(&feed->lock);
		feed->filled++;
		pthread_cond_broadcast(&feed->changed);
		pthread_mutex_unlock(&feed->lock);
	}
	return true;
}

static bool
feed_done(void *arg, const ArchiveRead *read)
{
	Feed *feed = arg;
	bool stopped;

	feed->current++;
	pthread_mutex_lock(&feed->lock);
	feed->finished++;
	stopped = feed->stopped;
	pthread_cond_broadcast(&feed->changed);
	pthread_mutex_unlock(&feed->lock);
	return !stopped;
}

static void *
feed_thread(void *arg)
{
	Feed *feed = arg;
	ArchiveReader reader = {.next = feed_next, .data = feed_data, .done = feed_done, .arg = feed};
	ArchiveStatus status = archive_read(feed->archive, &reader);

	pthread_mutex_lock(&feed->lock);
	feed->status = status;
	feed->ended = true;
	pthread_cond_broadcast(&feed->changed);
	pthread_mutex_unlock(&feed->lock);
	return NULL;
}

static void
show_progress(Feed *feed)
{
	struct timespec now;
	double seconds;
	char done[32];
	char all[32];

	clock_gettime(CLOCK_MONOTONIC, &now);
	seconds = (double) now.tv_sec + (double) now.tv_nsec / 1e9;
	if (seconds < feed->next_progress)
		return;
	feed->next_progress = seconds + 0.2;
	restore_renew(feed->restore);
	restore_progress(feed->restore, "%s: %s of %s (%d%%)", feed->what, restore_size(feed->bytes, done),
					 restore_size(feed->total, all), (int) (100.0 * (double) feed->bytes / (double) Max(1, feed->total)));
}

/* For the other thread, or a signal. */
static void
wait_a_little(Feed *feed)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 200 * 1000 * 1000;
	if (until.tv_nsec >= 1000 * 1000 * 1000)
	{
		until.tv_nsec -= 1000 * 1000 * 1000;
		until.tv_sec++;
	}
	(void) pthread_cond_timedwait(&feed->changed, &feed->lock, &until);
}

/* UnpackSource.read of the archive number feed->reading */
static ssize_t
feed_read(void *arg, const void **data)
{
	Feed *feed = arg;
	ssize_t result = -1;

	pthread_mutex_lock(&feed->lock);
	if (feed->holding)
	{
		feed->emptied++;
		feed->holding = false;
		pthread_cond_broadcast(&feed->changed);
	}
	for (;;)
	{
		if (feed->emptied < feed->filled)
		{
			Piece *piece = &feed->pieces[feed->emptied % RING_PIECES];

			if (piece->archive != feed->reading)
				result = 0;
			else
			{
				feed->holding = true;
				feed->bytes += piece->len;
				*data = piece->data;
				result = (ssize_t) piece->len;
			}
			break;
		}
		if (feed->finished > feed->reading)
		{
			result = 0;
			break;
		}
		if (feed->ended || restore_interrupted())
			break;
		wait_a_little(feed);
	}
	pthread_mutex_unlock(&feed->lock);
	if (restore_interrupted())
		return -1;
	show_progress(feed);
	return result;
}

/* ---- a backup ---- */

/* "base.tar.zst": 0; "16500.tar": the tablespace's place, from 1 on; -1: no archive; -2: of nothing that is known */
static int
place_of(Restore *restore, const char *name)
{
	const char *dot = strstr(name, ".tar");

	if (dot == NULL)
		return -1;
	if (dot - name == 4 && strncmp(name, "base", 4) == 0)
		return 0;
	for (int i = 0; i < restore->ntablespaces; i++)
	{
		if (strlen(restore->tablespaces[i].oid) == dot - name &&
			strncmp(restore->tablespaces[i].oid, name, dot - name) == 0)
			return i + 1;
	}
	return -2;
}

/* A folder that must be there and is this restore's. */
static bool
make_folder(const char *path, bool *made)
{
	if (made != NULL)
		*made = false;
	if (mkdir(path, 0700) == 0)
	{
		if (made != NULL)
			*made = true;
		return true;
	}
	if (errno == EEXIST)
		return true;
	pg_log_error("could not create directory \"%s\": %m", path);
	return false;
}

/* The same with all that is missing above it. */
static bool
make_folders(const char *path, bool *made)
{
	char above[MAXPGPATH];
	struct stat st;

	strlcpy(above, path, sizeof(above));
	get_parent_directory(above);
	if (above[0] != '\0' && stat(above, &st) != 0 && !make_folders(above, NULL))
		return false;
	return make_folder(path, made);
}

/* The links by which PostgreSQL finds its tablespaces; in the copy of a chain's part that is 'staged' too. */
static bool
link_tablespaces(Restore *restore, const char *data, const char *staged)
{
	for (int i = 0; i < restore->ntablespaces; i++)
	{
		RestoreTablespace *space = &restore->tablespaces[i];
		char path[MAXPGPATH];
		char target[MAXPGPATH];

		snprintf(path, sizeof(path), "%s/pg_tblspc/%s", data, space->oid);
		if (staged == NULL)
			strlcpy(target, space->new_dir, sizeof(target));
		else
			snprintf(target, sizeof(target), "%s/%s", staged, space->oid);
		if (symlink(target, path) != 0)
		{
			pg_log_error("could not create symbolic link \"%s\": %m", path);
			return false;
		}
	}
	return true;
}

/*
 * Unpack one backup into 'data', its tablespaces into 'spaces'/<oid>, or where
 * they belong if that is NULL.
 */
static int
unpack_backup(Restore *restore, const RestoreBackup *backup, const char *data, const char *spaces)
{
	Feed feed = {.restore = restore};
	UnpackSource source = {.read = feed_read, .arg = &feed};
	ManifestIndex *manifest;
	Unpack *unpack;
	pthread_t thread;
	char path[MAXPGPATH];
	char *problem;
	char *text;
	size_t len;
	int code;
	bool ok = true;

	text = restore_read_file(restore, backup->label, "backup_manifest", &len, &code);
	if (text == NULL)
		return code;
	manifest = manifest_index_read(text, len, backup->manifest_sha256, &problem);
	if (manifest == NULL)
	{
		pg_log_error("the manifest of backup \"%s\" is damaged: %s", backup->label, problem);
		pg_log_error_hint("Restore from another backup: --backup=LABEL.");
		return EXIT_ARCHIVE;
	}
	snprintf(path, sizeof(path), "%s/backup_manifest", data);
	if (spaces != NULL && !conf_write_file(path, text, len))
	{
		pg_log_error("could not write file \"%s\": %m", path);
		return EXIT_LOCAL;
	}
	pg_free(text);

	feed.what = psprintf("backup %s", backup->label);
	feed.files = pg_malloc(restore->nfiles * sizeof(ArchiveFile *));
	for (int i = 0; i < restore->nfiles; i++)
	{
		const ArchiveFile *file = &restore->files[i];

		if (file->kind != ARCHIVE_FILE_BACKUP || strcmp(file->label, backup->label) != 0 ||
			place_of(restore, file->name) == -1)
			continue;
		/* the data directory's own first: it has the folders in which links are made */
		feed.files[feed.nfiles++] = file;
		feed.total += file->size;
		if (place_of(restore, file->name) == 0)
		{
			memmove(feed.files + 1, feed.files, (feed.nfiles - 1) * sizeof(ArchiveFile *));
			feed.files[0] = file;
		}
	}
	pthread_mutex_init(&feed.lock, NULL);
	pthread_cond_init(&feed.changed, NULL);
	feed.pieces = pg_malloc(RING_PIECES * sizeof(Piece));
	feed.archive = archive_clone(restore->archive);
	unpack = unpack_begin(manifest, restore->jobs, spaces == NULL);
	errno = pthread_create(&thread, NULL, feed_thread, &feed);
	if (errno != 0)
	{
		pg_log_error("could not start a thread: %m");
		return EXIT_LOCAL;
	}

	for (feed.reading = 0; feed.reading < feed.nfiles && ok; feed.reading++)
	{
		const char *name = feed.files[feed.reading]->name;
		int place = place_of(restore, name);
		char folder[MAXPGPATH];
		char prefix[64] = "";

		if (place == 0)
			strlcpy(folder, data, sizeof(folder));
		else if (place > 0)
		{
			RestoreTablespace *space = &restore->tablespaces[place - 1];

			snprintf(prefix, sizeof(prefix), "pg_tblspc/%s/", space->oid);
			if (spaces == NULL)
				strlcpy(folder, space->new_dir, sizeof(folder));
			else
				snprintf(folder, sizeof(folder), "%s/%s", spaces, space->oid);
			ok = spaces == NULL ? make_folders(folder, &space->made) : make_folder(folder, NULL);
		}
		else
		{
			pg_log_error("backup \"%s\" has \"%s\", but no such tablespace", backup->label, name);
			ok = false;
		}
		code = EXIT_LOCAL;
		ok = ok && unpack_archive(unpack, name, folder, prefix, &source);
	}
	ok = ok && unpack_finish(unpack);

	pthread_mutex_lock(&feed.lock);
	feed.stopped = true;
	pthread_cond_broadcast(&feed.changed);
	pthread_mutex_unlock(&feed.lock);
	pthread_join(thread, NULL);
	restore_progress_end(restore);

	if (ok)
	{
		const char *control = unpack_control(unpack, &len);

		code = EXIT_DONE;
		if (spaces == NULL && control != NULL)
		{
			restore->control = pg_malloc(len);
			memcpy(restore->control, control, len);
			restore->control_len = len;
		}
		if (unpack_group_access(unpack) && chmod(data, 0750) != 0)
		{
			pg_log_error("could not change permissions of \"%s\": %m", data);
			code = EXIT_LOCAL;
		}
	}
	else if (unpack_problem(unpack) != NULL)
	{
		pg_log_error("%s", unpack_problem(unpack));
		if (unpack_is_damage(unpack))
		{
			pg_log_error_hint("Backup \"%s\" is damaged. Restore from another one: --backup=LABEL.", backup->label);
			code = EXIT_ARCHIVE;
		}
	}
	else if (feed.status != ARCHIVE_OK)
		code = archive_report(feed.archive, feed.status);

	unpack_end(unpack);
	manifest_index_free(manifest);
	archive_close(feed.archive);
	pthread_mutex_destroy(&feed.lock);
	pthread_cond_destroy(&feed.changed);
	pg_free(feed.pieces);
	pg_free(feed.files);
	return code;
}

/* ---- a chain ---- */

/* Move what pg_combinebackup made up into the data directory; pg_control is taken out of it first. */
static int
move_up(Restore *restore, const char *from)
{
	char path[MAXPGPATH];
	DIR *dir;
	struct dirent *entry;
	int code = EXIT_DONE;

	snprintf(path, sizeof(path), "%s/global/pg_control", from);
	restore->control = conf_read_file(path, &restore->control_len);
	if (restore->control == NULL || unlink(path) != 0)
	{
		pg_log_error("could not take file \"%s\": %m", path);
		return EXIT_LOCAL;
	}
	dir = opendir(from);
	if (dir == NULL)
	{
		pg_log_error("could not open directory \"%s\": %m", from);
		return EXIT_LOCAL;
	}
	while (code == EXIT_DONE && (entry = readdir(dir)) != NULL)
	{
		char target[MAXPGPATH];

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", from, entry->d_name);
		/* what led to the primary's tablespaces; the links are there */
		if (strcmp(entry->d_name, "tablespace_map") == 0 || strcmp(entry->d_name, "standby.signal") == 0)
		{
			(void) unlink(path);
			continue;
		}
		snprintf(target, sizeof(target), "%s/%s", restore->data, entry->d_name);
		if (rename(path, target) != 0)
		{
			pg_log_error("could not rename \"%s\" to \"%s\": %m", path, target);
			code = EXIT_LOCAL;
		}
	}
	closedir(dir);
	return code;
}

static int
combine(Restore *restore, const char *staging)
{
	const char **argv = pg_malloc0((restore->nchain + 2 * restore->ntablespaces + 8) * sizeof(char *));
	int n = 0;
	char *out = psprintf("%s/out", staging);
	char *output;
	int status;

	argv[n++] = psprintf("%s/pg_combinebackup", restore->programs);
	argv[n++] = "--no-sync";
	/* files that are taken over as they are need no copy; the parts are removed afterwards */
	if (restore->major >= 18)
		argv[n++] = "--link";
	for (int i = 0; i < restore->ntablespaces; i++)
	{
		RestoreTablespace *space = &restore->tablespaces[i];

		if (!make_folders(space->new_dir, &space->made))
			return EXIT_LOCAL;
		argv[n++] = "-T";
		argv[n++] = psprintf("%s/%d.spaces/%s=%s", staging, restore->nchain - 1, space->oid, space->new_dir);
	}
	argv[n++] = "-o";
	argv[n++] = out;
	for (int i = 0; i < restore->nchain; i++)
		argv[n++] = psprintf("%s/%d", staging, i);

	restore_say(restore, "combining %d backups", restore->nchain);
	status = restore_run_program(argv, &output);
	if (status != 0)
	{
		pg_log_error("pg_combinebackup could not combine the chain of backup \"%s\"", restore->plan.backup);
		if (output != NULL && output[0] != '\0')
			pg_log_error_detail("It said: %s", output);
		return EXIT_LOCAL;
	}
	pg_free(output);
	return move_up(restore, out);
}

static int
fetch_chain(Restore *restore)
{
	char staging[MAXPGPATH];
	int code = EXIT_DONE;

	snprintf(staging, sizeof(staging), "%s/" STAGING, restore->data);
	if (!make_folder(staging, NULL))
		return EXIT_LOCAL;
	for (int i = 0; i < restore->nchain && code == EXIT_DONE; i++)
	{
		char *data = psprintf("%s/%d", staging, i);
		char *spaces = psprintf("%s/%d.spaces", staging, i);

		if (!make_folder(data, NULL) || !make_folder(spaces, NULL))
			return EXIT_LOCAL;
		code = unpack_backup(restore, &restore->chain[i], data, spaces);
		if (code == EXIT_DONE && !link_tablespaces(restore, data, spaces))
			code = EXIT_LOCAL;
		pg_free(data);
		pg_free(spaces);
	}
	if (code == EXIT_DONE)
		code = combine(restore, staging);
	if (code == EXIT_DONE && !rmtree(staging, true))
	{
		pg_log_error("could not remove directory \"%s\"", staging);
		code = EXIT_LOCAL;
	}
	return code;
}

/* ---- all of it ---- */

int
restore_fetch_backup(Restore *restore)
{
	static const char marker[] = "A restore into this directory is under way, or has failed. PostgreSQL can't be started in it.\n";
	char path[MAXPGPATH];
	int code;

	if (!make_folders(restore->data, &restore->made_data))
		return EXIT_LOCAL;
	if (chmod(restore->data, 0700) != 0)
	{
		pg_log_error("could not change permissions of \"%s\": %m", restore->data);
		return EXIT_LOCAL;
	}
	restore->touched = true;
	snprintf(path, sizeof(path), "%s/" RESTORE_MARKER, restore->data);
	if (!conf_write_file(path, marker, strlen(marker)))
	{
		pg_log_error("could not write file \"%s\": %m", path);
		return EXIT_LOCAL;
	}
	if (restore->nchain > 1)
		code = fetch_chain(restore);
	else
	{
		code = unpack_backup(restore, &restore->chain[0], restore->data, NULL);
		if (code == EXIT_DONE && !link_tablespaces(restore, restore->data, NULL))
			code = EXIT_LOCAL;
	}
	for (int i = 0; i < restore->nown_spaces && code == EXIT_DONE; i++)
	{
		/* recovery wants it to be there */
		if (!make_folders(restore->own_spaces[i].new_dir, &restore->own_spaces[i].made))
			code = EXIT_LOCAL;
	}
	if (code == EXIT_DONE && restore->control == NULL)
	{
		pg_log_error("backup \"%s\" has no global/pg_control", restore->plan.backup);
		code = EXIT_ARCHIVE;
	}
	return code;
}

/* All that was written on the file system of 'path'. */
static bool
sync_all(const char *path)
{
#ifdef __linux__
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool ok = fd >= 0 && syncfs(fd) == 0;

	if (!ok)
		pg_log_error("could not sync \"%s\": %m", path);
	if (fd >= 0)
		close(fd);
	return ok;
#else
	fsync_dir_recurse(path);
	return true;
#endif
}

int
restore_place_control(Restore *restore)
{
	char path[MAXPGPATH];
	char marker[MAXPGPATH];

	if (!sync_all(restore->data))
		return EXIT_LOCAL;
	for (int i = 0; i < restore->ntablespaces; i++)
	{
		if (!sync_all(restore->tablespaces[i].new_dir))
			return EXIT_LOCAL;
	}
	snprintf(path, sizeof(path), "%s/global/pg_control", restore->data);
	if (!conf_write_file(path, restore->control, restore->control_len))
	{
		pg_log_error("could not write file \"%s\": %m", path);
		return EXIT_LOCAL;
	}
	restore->whole = true;
	snprintf(marker, sizeof(marker), "%s/" RESTORE_MARKER, restore->data);
	if (unlink(marker) != 0)
	{
		pg_log_error("could not remove file \"%s\": %m", marker);
		return EXIT_LOCAL;
	}
	return EXIT_DONE;
}

void
restore_clean(Restore *restore)
{
	if (!restore->touched || restore->whole)
		return;
	if (restore->no_clean)
	{
		pg_log_info("what was restored so far is left in \"%s\"; it can't be started", restore->data);
		return;
	}
	if (!rmtree(restore->data, restore->made_data))
		pg_log_warning("could not remove all of \"%s\"", restore->data);
	for (int i = 0; i < restore->ntablespaces; i++)
	{
		struct stat st;

		if (restore->tablespaces[i].new_dir != NULL && stat(restore->tablespaces[i].new_dir, &st) == 0 &&
			!rmtree(restore->tablespaces[i].new_dir, restore->tablespaces[i].made))
			pg_log_warning("could not remove all of \"%s\"", restore->tablespaces[i].new_dir);
	}
	for (int i = 0; i < restore->nown_spaces; i++)
	{
		/* nothing was put into it */
		if (restore->own_spaces[i].made && rmdir(restore->own_spaces[i].new_dir) != 0)
			pg_log_warning("could not remove directory \"%s\": %m", restore->own_spaces[i].new_dir);
	}
}
