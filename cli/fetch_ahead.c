/*-------------------------------------------------------------------------
 *
 * fetch_ahead.c
 *	  The threads that read WAL ahead of a recovery; fetch_serve.c has the
 *	  process around them.
 *
 * What was asked for comes first, then the segments that follow, into files of
 * the spool.  Only what is whole and checked has its own name there.  What will
 * be another thing when it is asked for, such as the open segment, is not read
 * ahead.
 *
 * A helper reads some of those that follow, so that two segments are checked at
 * a time; if it fails it is over, and the first thread reads them.
 *
 *-------------------------------------------------------------------------
 */
#include "fetch_ahead.h"

#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "../src/base/wal_name.h"

/* So many segments have to be waiting for a helper to begin, and so many to have been delivered. */
#define ENOUGH_FOR_TWO 3
#define ENOUGH_IN_A_ROW 2

/* Attempts where something is wrong that may pass, and the pause between them, seconds. */
#define MAX_ATTEMPTS 3
#define PAUSE 0.5

static void
wake_up(Ahead *ahead)
{
	/* a full pipe wakes as well */
	if (write(ahead->wake[1], "", 1) < 0)
		return;
}

void
spool_path(char *path, const char *name, const char *suffix)
{
	snprintf(path, MAXPGPATH, "%s/%s%s", FETCH_SPOOL, name, suffix);
}

/* A file before it has its name; each reader has its own. */
static void
part_path(char *path, const FetchReader *reader, const Item *item)
{
	spool_path(path, item->name, reader->helper ? ".part2" : ".part");
}

Item *
find_item(Ahead *ahead, const char *name)
{
	for (int i = 0; i < MAX_ITEMS; i++)
	{
		Item *item = &ahead->item[i];

		if (item->state != ITEM_FREE && !item->dropped && strcmp(item->name, name) == 0)
			return item;
	}
	return NULL;
}

Item *
new_item(Ahead *ahead, const char *name)
{
	for (int i = 0; i < MAX_ITEMS; i++)
	{
		Item *item = &ahead->item[i];

		if (item->state != ITEM_FREE)
			continue;
		memset(item, 0, sizeof(*item));
		item->state = ITEM_WAITING;
		item->file.fd = -1;
		item->since = fetch_now();
		strlcpy(item->name, name, sizeof(item->name));
		return item;
	}
	return NULL;
}

/* Nobody waits for this one: it is not worth the disk. */
static void
forget_item(Item *item)
{
	char path[MAXPGPATH];

	if (item->state == ITEM_READY)
	{
		spool_path(path, item->name, "");
		(void) unlink(path);
	}
	item->state = ITEM_FREE;
}

/* Is there room to read ahead? */
static bool
has_room(const Ahead *ahead)
{
	struct statvfs fs;

	return statvfs(FETCH_SPOOL, &fs) == 0 &&
		   (uint64) fs.f_bavail * fs.f_frsize > (uint64) 8 * ahead->layout.segment_size;
}

static uint64
window(const Ahead *ahead)
{
	uint64 segments = ahead->options->ahead / ahead->layout.segment_size;

	return Min(segments, MAX_AHEAD);
}

/* Where the recovery is now: what it has passed, or will not come to, goes. */
static void
move_window(Ahead *ahead, Item *wanted)
{
	if (wanted->tli != ahead->tli || wanted->segno != ahead->current + 1)
	{
		ahead->end = PG_UINT64_MAX;
		ahead->next = wanted->segno + 1;
		ahead->in_a_row = 0;
	}
	else if (wanted->segno >= ahead->end)
		ahead->end = PG_UINT64_MAX;
	if (ahead->next <= wanted->segno)
		ahead->next = wanted->segno + 1;
	ahead->tli = wanted->tli;
	ahead->current = wanted->segno;
	for (int i = 0; i < MAX_ITEMS; i++)
	{
		Item *item = &ahead->item[i];

		if (item->state == ITEM_FREE || !item->segment || item->wanted)
			continue;
		if (item->tli == ahead->tli && item->segno >= ahead->current &&
			item->segno <= ahead->current + window(ahead))
			continue;
		if (item->state == ITEM_READING)
			item->dropped = true;
		else
			forget_item(item);
	}
}

void
locate(Ahead *ahead, Item *item)
{
	item->segment = wa_parse_wal_name(item->name, ahead->layout.segment_size, &item->tli, &item->segno) == WA_FILE_SEGMENT;
	if (item->segment)
		move_window(ahead, item);
}

/*
 * Is there more to be read ahead than the first reader has at hand?  Not for a
 * standby that asks for the next segment again and again until it is there.
 */
static bool
enough_for_two(const Ahead *ahead)
{
	return ahead->tli != 0 && ahead->has_layout && ahead->in_a_row >= ENOUGH_IN_A_ROW &&
		   ahead->next + ENOUGH_FOR_TWO <= Min(ahead->end, ahead->current + window(ahead) + 1);
}

/* The next file to be read, NULL: none at present; *until gets when there may be one, 0: not known. */
static Item *
choose_item(Ahead *ahead, bool helper, double *until)
{
	double now = fetch_now();
	Item *best = NULL;

	*until = 0;
	for (int i = 0; i < MAX_ITEMS && !helper; i++)
	{
		Item *item = &ahead->item[i];

		if (item->state != ITEM_WAITING)
			continue;
		if (item->not_before > now)
		{
			if (*until == 0 || item->not_before < *until)
				*until = item->not_before;
		}
		else if (best == NULL || (item->wanted && !best->wanted) ||
				 (item->wanted == best->wanted && item->since < best->since))
			best = item;
	}
	if (best != NULL || ahead->tli == 0 || !ahead->has_layout)
		return best;
	while (ahead->next < ahead->end && ahead->next <= ahead->current + window(ahead) && has_room(ahead))
	{
		char name[WA_WAL_NAME_LEN];

		wa_segment_name(name, ahead->tli, ahead->next, ahead->layout.segment_size);
		if (find_item(ahead, name) == NULL)
		{
			best = new_item(ahead, name);
			if (best == NULL)
				return NULL;
			best->segment = true;
			best->tli = ahead->tli;
			best->segno = ahead->next;
		}
		ahead->next++;
		if (best != NULL)
			return best;
	}
	return NULL;
}

static bool
ahead_next(void *arg, ArchiveRead *read)
{
	FetchReader *reader = arg;
	Ahead *ahead = reader->ahead;
	double until;
	Item *item;

	pthread_mutex_lock(&ahead->mutex);
	item = choose_item(ahead, reader->helper, &until);
	if (item != NULL)
	{
		item->state = ITEM_READING;
		item->useless = false;
		item->dropped = false;
		item->outcome = FETCH_RETRY;
		item->text[0] = '\0';
		item->file.fd = -1;
		reader->reading[reader->nreading++] = item;
		memset(read, 0, sizeof(*read));
		read->name = item->name;
		read->tag = item;
	}
	pthread_mutex_unlock(&ahead->mutex);
	return item != NULL;
}

static bool
ahead_begin(void *arg, const ArchiveRead *read, const WalFileInfo *info)
{
	FetchReader *reader = arg;
	Ahead *ahead = reader->ahead;
	Item *item = read->tag;
	bool wanted;

	pthread_mutex_lock(&ahead->mutex);
	item->outcome = fetch_judge(ahead->options, info, item->text);
	wanted = item->wanted;
	/* what will be another thing when it is asked for is asked for again then */
	if (!wanted && (item->outcome != FETCH_HERE || (info->state == WAL_FILE_PARTIAL && ahead->options->plan == NULL)))
	{
		item->useless = true;
		if (item->segment && item->tli == ahead->tli)
			ahead->end = Min(ahead->end, item->segno);
	}
	if (item->outcome != FETCH_HERE)
		item->useless = true;
	pthread_mutex_unlock(&ahead->mutex);
	if (item->dropped)
		return false;
	if (!item->useless)
	{
		char path[MAXPGPATH];

		part_path(path, reader, item);
		item->outcome = FETCH_RETRY;
		if (!fetch_file_begin(&item->file, item->name, path, &ahead->layout, info, item->text))
			item->useless = true;
	}
	return true;
}

static bool
ahead_data(void *arg, const ArchiveRead *read, uint64 offset, const char *bytes, size_t len)
{
	Ahead *ahead = ((FetchReader *) arg)->ahead;
	Item *item = read->tag;
	bool dropped;
	bool local;

	pthread_mutex_lock(&ahead->mutex);
	dropped = item->dropped;
	pthread_mutex_unlock(&ahead->mutex);
	if (dropped)
		return false;
	if (!item->useless && !fetch_file_write(&item->file, bytes, len, &local, item->text))
		item->useless = true;
	return true;
}

/* A file that is no longer being read.  Its place in the order is given up. */
static void
leave_reading(FetchReader *reader, Item *item)
{
	int n = 0;

	for (int i = 0; i < reader->nreading; i++)
	{
		if (reader->reading[i] != item)
			reader->reading[n++] = reader->reading[i];
	}
	reader->nreading = n;
}

/* What came of it; inside the mutex. */
static void
settle(FetchReader *reader, Item *item)
{
	Ahead *ahead = reader->ahead;
	double now = fetch_now();
	const FetchOptions *options = ahead->options;

	leave_reading(reader, item);
	if (item->dropped)
		item->state = ITEM_FREE;
	else if (item->outcome == FETCH_HERE && !item->useless)
		item->state = ITEM_READY;
	else if (!item->wanted)
	{
		/* no more of it until somebody asks */
		if (item->segment && item->tli == ahead->tli)
			ahead->end = Min(ahead->end, item->segno);
		item->state = ITEM_FREE;
	}
	else if (item->outcome == FETCH_HERE ||
			 (item->outcome == FETCH_WAIT && now - item->since < options->common.retry_seconds) ||
			 (item->outcome == FETCH_RETRY && ++item->attempts < MAX_ATTEMPTS))
	{
		/* it may have been asked for only after it turned out to be useless */
		item->not_before = item->outcome == FETCH_HERE ? 0 : now + PAUSE;
		item->state = ITEM_WAITING;
	}
	else
		item->state = ITEM_OVER;
	wake_up(ahead);
}

static bool
ahead_done(void *arg, const ArchiveRead *read)
{
	FetchReader *reader = arg;
	Ahead *ahead = reader->ahead;
	Item *item = read->tag;
	bool whole;
	bool local;

	whole = !item->useless && fetch_file_end(&item->file, &local, item->text);
	pthread_mutex_lock(&ahead->mutex);
	if (whole)
	{
		char from[MAXPGPATH];
		char to[MAXPGPATH];

		part_path(from, reader, item);
		spool_path(to, item->name, "");
		/* of one that was dropped the other reader may have made another */
		if (item->dropped)
			(void) unlink(from);
		else if (rename(from, to) == 0)
			item->outcome = FETCH_HERE;
		else
		{
			snprintf(item->text, sizeof(item->text), "could not rename file \"%s\": %s", from, strerror(errno));
			item->useless = true;
		}
	}
	settle(reader, item);
	pthread_mutex_unlock(&ahead->mutex);
	return true;
}

/* Reading has ended before all that was asked for had come. */
static void
settle_rest(FetchReader *reader, ArchiveStatus status)
{
	Ahead *ahead = reader->ahead;
	bool failed = status != ARCHIVE_OK && status != ARCHIVE_STOPPED;
	Item *culprit = failed && !reader->helper && reader->nreading > 0 ? reader->reading[0] : NULL;

	while (reader->nreading > 0)
	{
		Item *item = reader->reading[0];

		fetch_file_drop(&item->file);
		item->useless = true;
		if (item == culprit)
		{
			item->outcome = fetch_judge_error(status);
			strlcpy(item->text, reader->archive->error, sizeof(item->text));
		}
		else if (item->wanted)
			item->outcome = FETCH_HERE; /* nothing is wrong with it: once more */
		else
			item->dropped = true;
		settle(reader, item);
	}
	/* it has not come to any file */
	for (int i = 0; failed && !reader->helper && culprit == NULL && i < MAX_ITEMS; i++)
	{
		Item *item = &ahead->item[i];

		if (item->state != ITEM_WAITING || !item->wanted)
			continue;
		item->useless = true;
		item->outcome = fetch_judge_error(status);
		strlcpy(item->text, reader->archive->error, sizeof(item->text));
		settle(reader, item);
	}
	/* nothing is read ahead of a request any more, until there is one */
	if (failed && !reader->helper)
		ahead->end = 0;
	/* what a helper leaves is for the first one */
	else if (failed || status == ARCHIVE_STOPPED)
		ahead->next = ahead->current + 1;
	pthread_cond_broadcast(&ahead->work);
}

/*
 * What the archive is like; only then can the names of segments be read, also of
 * those that were asked for already.
 */
static ArchiveStatus
learn_layout(FetchReader *reader)
{
	Ahead *ahead = reader->ahead;
	ArchiveLayout layout;
	ArchiveStatus status = archive_layout(reader->archive, &layout);

	if (status != ARCHIVE_OK)
		return status;
	pthread_mutex_lock(&ahead->mutex);
	ahead->layout = layout;
	ahead->has_layout = true;
	for (int i = 0; i < MAX_ITEMS; i++)
	{
		if (ahead->item[i].state != ITEM_FREE)
			locate(ahead, &ahead->item[i]);
	}
	pthread_cond_broadcast(&ahead->work);
	pthread_mutex_unlock(&ahead->mutex);
	return ARCHIVE_OK;
}

void *
read_ahead(void *arg)
{
	FetchReader *reader = arg;
	Ahead *ahead = reader->ahead;
	ArchiveReader callbacks = {ahead_next, ahead_begin, ahead_data, ahead_done, reader};
	ArchiveStatus status;

	do
	{
		bool has_work = false;

		pthread_mutex_lock(&ahead->mutex);
		while (!has_work)
		{
			double until = 0;

			if (reader->helper ? enough_for_two(ahead) : choose_item(ahead, false, &until) != NULL)
				has_work = true;
			else if (until != 0)
			{
				struct timespec ts;
				double delay = Max(until - fetch_now(), 0.01);

				clock_gettime(CLOCK_REALTIME, &ts);
				ts.tv_sec += (time_t) delay;
				ts.tv_nsec += (long) ((delay - (time_t) delay) * 1e9);
				if (ts.tv_nsec >= 1000000000)
				{
					ts.tv_sec++;
					ts.tv_nsec -= 1000000000;
				}
				pthread_cond_timedwait(&ahead->work, &ahead->mutex, &ts);
			}
			else
				pthread_cond_wait(&ahead->work, &ahead->mutex);
		}
		pthread_mutex_unlock(&ahead->mutex);

		status = archive_use_plan(reader->archive, ahead->options->plan);
		if (status == ARCHIVE_OK && !ahead->has_layout)
			status = learn_layout(reader);
		if (status == ARCHIVE_OK)
			status = archive_read(reader->archive, &callbacks);
		pthread_mutex_lock(&ahead->mutex);
		settle_rest(reader, status);
		pthread_mutex_unlock(&ahead->mutex);
	} while (!reader->helper || status == ARCHIVE_OK || status == ARCHIVE_STOPPED);
	return NULL;
}
