/*-------------------------------------------------------------------------
 *
 * fetch_ahead.c
 *	  The process that reads WAL ahead of a recovery.
 *
 * The first "walarchive fetch" of a recovery leaves it behind; the others ask it
 * through a socket in its spool.  One thread reads from the archive: what was
 * asked for first, then the segments that follow, into files of the spool; the
 * other one answers.  Only what is whole and checked has its own name there.
 *
 * It goes when the server stops, when the recovery is over, when nobody has
 * asked for a while, or when somebody asks with other options, and takes the
 * spool with it.  A crash leaves the spool without its lock: the next one cleans
 * up.  It holds no descriptor of the server's, so that a log collector is not kept
 * waiting for it.
 *
 * The mutex covers all of struct Ahead but the archive and the files that are
 * being written, which belong to the reading thread.
 *
 *-------------------------------------------------------------------------
 */
#include "fetch.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "../src/base/wal_name.h"

#define FETCH_LOCK FETCH_SPOOL "/lock"

/* Files that are known at a time, and those of them that are read ahead. */
#define MAX_ITEMS 72
#define MAX_AHEAD 64

#define MAX_CLIENTS 8

/* Attempts where something is wrong that may pass, and the pause between them, seconds. */
#define MAX_ATTEMPTS 3
#define PAUSE 0.5

/* Seconds without a request after which it goes; if files are waiting, it is the recovery that takes its time. */
#define IDLE 15
#define IDLE_WITH_FILES 600

/* Seconds to wait for one that is going. */
#define WAIT_FOR_LOCK 3

typedef enum ItemState
{
	ITEM_FREE,
	ITEM_WAITING, /* to be read */
	ITEM_READING,
	ITEM_READY, /* in the spool under its name */
	ITEM_OVER   /* asked for, and not to be had: outcome and text say why */
} ItemState;

typedef struct Item
{
	ItemState state;
	char name[FETCH_NAME_LEN];
	bool segment;
	TimeLineID tli;
	uint64 segno;
	bool wanted;       /* somebody asks for it */
	bool dropped;      /* of READING: nobody will */
	bool useless;      /* of READING: what comes is not kept */
	double since;      /* when it was asked for first */
	double not_before; /* when it is tried again */
	int attempts;
	FetchOutcome outcome;
	char text[FETCH_TEXT_LEN];
	FetchFile file; /* the reading thread's */
} Item;

typedef struct Client
{
	int fd; /* -1: free */
	double since;
	size_t used;
	char request[FETCH_FINGERPRINT_LEN + FETCH_NAME_LEN + 8];
	Item *item; /* that it waits for; NULL: has not asked yet */
} Client;

typedef struct Ahead
{
	const FetchOptions *options;
	const char *fingerprint;
	int home;      /* folder in which the server's commands are started */
	int listener;  /* socket */
	int wake[2];   /* pipe from the reading thread to the other */
	pid_t server;  /* of postmaster.pid; 0: not known */
	bool recovers; /* there was a signal file */

	pthread_mutex_t mutex;
	pthread_cond_t work; /* there may be something to read */
	Archive *archive;
	bool has_layout;
	ArchiveLayout layout;
	Item item[MAX_ITEMS];
	Item *reading[MAX_ITEMS]; /* in the order in which they come */
	int nreading;

	/* the segments that are read ahead: behind the one that was asked for last */
	TimeLineID tli; /* 0: none was */
	uint64 current;
	uint64 next;
	uint64 end; /* not this one and none behind it */

	Client client[MAX_CLIENTS];
	double last_request;
} Ahead;

/* ---- the reading thread ---- */

static void
wake_up(Ahead *ahead)
{
	/* a full pipe wakes as well */
	if (write(ahead->wake[1], "", 1) < 0)
		return;
}

static void
spool_path(char *path, const char *name, const char *suffix)
{
	snprintf(path, MAXPGPATH, "%s/%s%s", FETCH_SPOOL, name, suffix);
}

static Item *
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

static Item *
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

/* A file was asked for: what is it, and where is the recovery now? */
static void
locate(Ahead *ahead, Item *item)
{
	item->segment = wa_parse_wal_name(item->name, ahead->layout.segment_size, &item->tli, &item->segno) == WA_FILE_SEGMENT;
	if (item->segment)
		move_window(ahead, item);
}

/* The next file to be read, NULL: none at present; *until gets when there may be one, 0: not known. */
static Item *
choose_item(Ahead *ahead, double *until)
{
	double now = fetch_now();
	Item *best = NULL;

	*until = 0;
	for (int i = 0; i < MAX_ITEMS; i++)
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
	Ahead *ahead = arg;
	double until;
	Item *item;

	pthread_mutex_lock(&ahead->mutex);
	item = choose_item(ahead, &until);
	if (item != NULL)
	{
		item->state = ITEM_READING;
		item->useless = false;
		item->dropped = false;
		item->outcome = FETCH_RETRY;
		item->text[0] = '\0';
		item->file.fd = -1;
		ahead->reading[ahead->nreading++] = item;
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
	Ahead *ahead = arg;
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

		spool_path(path, item->name, ".part");
		item->outcome = FETCH_RETRY;
		if (!fetch_file_begin(&item->file, item->name, path, &ahead->layout, info, item->text))
			item->useless = true;
	}
	return true;
}

static bool
ahead_data(void *arg, const ArchiveRead *read, uint64 offset, const char *bytes, size_t len)
{
	Ahead *ahead = arg;
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
leave_reading(Ahead *ahead, Item *item)
{
	int n = 0;

	for (int i = 0; i < ahead->nreading; i++)
	{
		if (ahead->reading[i] != item)
			ahead->reading[n++] = ahead->reading[i];
	}
	ahead->nreading = n;
}

/* What came of it; inside the mutex. */
static void
settle(Ahead *ahead, Item *item)
{
	double now = fetch_now();
	const FetchOptions *options = ahead->options;

	leave_reading(ahead, item);
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
	Ahead *ahead = arg;
	Item *item = read->tag;
	bool here = false;
	bool local;

	if (!item->useless && fetch_file_end(&item->file, &local, item->text))
	{
		char from[MAXPGPATH];
		char to[MAXPGPATH];

		spool_path(from, item->name, ".part");
		spool_path(to, item->name, "");
		here = rename(from, to) == 0;
		if (!here)
			snprintf(item->text, sizeof(item->text), "could not rename file \"%s\": %s", from, strerror(errno));
	}
	pthread_mutex_lock(&ahead->mutex);
	if (here)
	{
		item->outcome = FETCH_HERE;
		if (item->dropped)
		{
			char path[MAXPGPATH];

			spool_path(path, item->name, "");
			(void) unlink(path);
		}
	}
	settle(ahead, item);
	pthread_mutex_unlock(&ahead->mutex);
	return true;
}

/* Reading has ended before all that was asked for had come. */
static void
settle_rest(Ahead *ahead, ArchiveStatus status)
{
	bool failed = status != ARCHIVE_OK && status != ARCHIVE_STOPPED;
	Item *culprit = ahead->nreading > 0 ? ahead->reading[0] : NULL;

	while (ahead->nreading > 0)
	{
		Item *item = ahead->reading[0];

		fetch_file_drop(&item->file);
		item->useless = true;
		if (failed && item == culprit)
		{
			item->outcome = fetch_judge_error(status);
			strlcpy(item->text, ahead->archive->error, sizeof(item->text));
		}
		else if (item->wanted)
			item->outcome = FETCH_HERE; /* nothing is wrong with it: once more */
		else
			item->dropped = true;
		settle(ahead, item);
	}
	/* it has not come to any file */
	for (int i = 0; failed && culprit == NULL && i < MAX_ITEMS; i++)
	{
		Item *item = &ahead->item[i];

		if (item->state != ITEM_WAITING || !item->wanted)
			continue;
		item->useless = true;
		item->outcome = fetch_judge_error(status);
		strlcpy(item->text, ahead->archive->error, sizeof(item->text));
		settle(ahead, item);
	}
	/* nothing is read ahead of a request any more, until there is one */
	if (failed)
		ahead->end = 0;
	else if (status == ARCHIVE_STOPPED)
		ahead->next = ahead->current + 1;
}

/*
 * What the archive is like; only then can the names of segments be read, also of
 * those that were asked for already.
 */
static ArchiveStatus
learn_layout(Ahead *ahead)
{
	ArchiveLayout layout;
	ArchiveStatus status = archive_layout(ahead->archive, &layout);

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
	pthread_mutex_unlock(&ahead->mutex);
	return ARCHIVE_OK;
}

static void *
read_ahead(void *arg)
{
	Ahead *ahead = arg;
	ArchiveReader reader = {ahead_next, ahead_begin, ahead_data, ahead_done, ahead};

	for (;;)
	{
		ArchiveStatus status;
		bool has_work = false;

		pthread_mutex_lock(&ahead->mutex);
		while (!has_work)
		{
			double until;
			Item *item = choose_item(ahead, &until);

			if (item != NULL)
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

		status = archive_use_plan(ahead->archive, ahead->options->plan);
		if (status == ARCHIVE_OK && !ahead->has_layout)
			status = learn_layout(ahead);
		if (status == ARCHIVE_OK)
			status = archive_read(ahead->archive, &reader);
		pthread_mutex_lock(&ahead->mutex);
		settle_rest(ahead, status);
		pthread_mutex_unlock(&ahead->mutex);
	}
	return NULL;
}

/* ---- the answering thread ---- */

static void
close_client(Client *client)
{
	close(client->fd);
	client->fd = -1;
	client->item = NULL;
}

static void
answer(Client *client, int code, const char *name, const char *text)
{
	char line[FETCH_MESSAGE_LEN];
	int len;

	if (text[0] != '\0')
		len = snprintf(line, sizeof(line) - 1, "%d %s: %s", code, name, text);
	else
		len = snprintf(line, sizeof(line) - 1, "%d", code);
	len = Min(len, (int) sizeof(line) - 2);
	for (int i = 0; i < len; i++)
	{
		if (line[i] == '\n')
			line[i] = ' ';
	}
	line[len] = '\n';
	(void) send(client->fd, line, len + 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	close_client(client);
}

/* Answer those whose file's fate is known; inside the mutex. */
static void
answer_clients(Ahead *ahead)
{
	for (int i = 0; i < MAX_CLIENTS; i++)
	{
		Client *client = &ahead->client[i];
		Item *item = client->item;

		if (client->fd < 0 || item == NULL || (item->state != ITEM_READY && item->state != ITEM_OVER))
			continue;
		/* the asker moves the file away */
		answer(client, fetch_exit_code(ahead->options, item->outcome), item->name,
			   item->state == ITEM_READY ? "" : item->text);
		item->state = ITEM_FREE;
		for (int j = 0; j < MAX_CLIENTS; j++)
		{
			/* two for one file: the other one asks again */
			if (ahead->client[j].fd >= 0 && ahead->client[j].item == item)
				close_client(&ahead->client[j]);
		}
	}
}

/* A whole request has come; false: this is not the one to ask, and it goes. */
static bool
take_request(Ahead *ahead, Client *client)
{
	char *name = strchr(client->request, '\n');
	char *end = name != NULL ? strchr(name + 1, '\n') : NULL;
	Item *item;

	if (end == NULL)
	{
		close_client(client);
		return true;
	}
	*name++ = '\0';
	*end = '\0';
	if (strcmp(client->request, ahead->fingerprint) != 0)
	{
		answer(client, FETCH_NOBODY, name, "");
		return false;
	}
	if (!fetch_is_wal_name(name))
	{
		close_client(client);
		return true;
	}
	ahead->last_request = fetch_now();
	item = find_item(ahead, name);
	/* told already, to somebody who has gone meanwhile */
	if (item != NULL && item->state == ITEM_OVER)
	{
		item->state = ITEM_FREE;
		item = NULL;
	}
	if (item == NULL)
		item = new_item(ahead, name);
	if (item == NULL)
	{
		close_client(client);
		return true;
	}
	if (!item->wanted)
	{
		item->wanted = true;
		item->since = ahead->last_request;
	}
	client->item = item;
	if (ahead->has_layout)
		locate(ahead, item);
	pthread_cond_signal(&ahead->work);
	return true;
}

static void
accept_client(Ahead *ahead)
{
	int fd = accept(ahead->listener, NULL, NULL);

	if (fd < 0)
		return;
	(void) fcntl(fd, F_SETFL, O_NONBLOCK);
	(void) fcntl(fd, F_SETFD, FD_CLOEXEC);
	for (int i = 0; i < MAX_CLIENTS; i++)
	{
		Client *client = &ahead->client[i];

		if (client->fd >= 0)
			continue;
		memset(client, 0, sizeof(*client));
		client->fd = fd;
		client->since = fetch_now();
		return;
	}
	close(fd);
}

/* False: somebody asks with other options. */
static bool
read_client(Ahead *ahead, Client *client)
{
	ssize_t n = recv(client->fd, client->request + client->used, sizeof(client->request) - 1 - client->used, 0);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	if (n <= 0 || client->item != NULL)
	{
		/* it has gone; the file stays for the next time */
		close_client(client);
		return true;
	}
	client->used += (size_t) n;
	client->request[client->used] = '\0';
	if (client->used >= 3 && strcmp(client->request + client->used - 3, "\n.\n") == 0)
		return take_request(ahead, client);
	if (client->used + 1 >= sizeof(client->request))
		close_client(client);
	return true;
}

/* The first line of postmaster.pid, 0: there is none. */
static pid_t
server_pid(int home)
{
	int fd = openat(home, "postmaster.pid", O_RDONLY | O_CLOEXEC);
	char text[32];
	ssize_t n;

	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	return (pid_t) atoi(text);
}

static bool
signal_file(int home)
{
	return faccessat(home, "recovery.signal", F_OK, 0) == 0 || faccessat(home, "standby.signal", F_OK, 0) == 0;
}

/* Is it time to go? */
static bool
is_over(const Ahead *ahead)
{
	double idle = fetch_now() - ahead->last_request;
	bool waiting = false;
	struct stat st;

	if (ahead->server != 0 && (server_pid(ahead->home) != ahead->server || kill(ahead->server, 0) != 0))
		return true;
	/* somebody has removed the folder: nobody finds us any more */
	if (stat(FETCH_SOCKET, &st) != 0)
		return true;
	for (int i = 0; i < MAX_CLIENTS; i++)
	{
		if (ahead->client[i].fd >= 0)
			return false;
	}
	if (ahead->recovers && !signal_file(ahead->home))
		return true;
	for (int i = 0; i < MAX_ITEMS; i++)
		waiting = waiting || ahead->item[i].state == ITEM_READY;
	return idle > (waiting ? IDLE_WITH_FILES : IDLE);
}

/* Dots say that somebody is alive. */
static void
tick(Ahead *ahead)
{
	for (int i = 0; i < MAX_CLIENTS; i++)
	{
		Client *client = &ahead->client[i];

		if (client->fd < 0)
			continue;
		if (client->item == NULL ? fetch_now() - client->since > 10
								 : (send(client->fd, ".", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN))
			close_client(client);
	}
}

static void
serve(Ahead *ahead)
{
	double last_tick = fetch_now();

	for (;;)
	{
		struct pollfd p[MAX_CLIENTS + 2];
		Client *who[MAX_CLIENTS + 2];
		int n = 2;
		bool stay = true;

		p[0].fd = ahead->listener;
		p[1].fd = ahead->wake[0];
		for (int i = 0; i < MAX_CLIENTS; i++)
		{
			if (ahead->client[i].fd < 0)
				continue;
			who[n] = &ahead->client[i];
			p[n++].fd = ahead->client[i].fd;
		}
		for (int i = 0; i < n; i++)
		{
			p[i].events = POLLIN;
			p[i].revents = 0;
		}
		if (poll(p, n, 1000) < 0 && errno != EINTR)
			return;
		pthread_mutex_lock(&ahead->mutex);
		if (p[0].revents != 0)
			accept_client(ahead);
		if (p[1].revents != 0)
		{
			char drain[64];

			while (read(ahead->wake[0], drain, sizeof(drain)) == sizeof(drain))
				;
		}
		for (int i = 2; i < n && stay; i++)
		{
			if (p[i].revents != 0 && who[i]->fd == p[i].fd)
				stay = read_client(ahead, who[i]);
		}
		answer_clients(ahead);
		if (stay && fetch_now() - last_tick >= 1)
		{
			last_tick = fetch_now();
			tick(ahead);
			stay = !is_over(ahead);
		}
		pthread_mutex_unlock(&ahead->mutex);
		if (!stay)
			return;
	}
}

/* ---- beginning and end ---- */

/* Remove what is in the spool, but for the lock. */
static void
clean_spool(void)
{
	DIR *dir = opendir(FETCH_SPOOL);
	struct dirent *entry;

	if (dir == NULL)
		return;
	while ((entry = readdir(dir)) != NULL)
	{
		char path[MAXPGPATH];

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 || strcmp(entry->d_name, "lock") == 0)
			continue;
		spool_path(path, entry->d_name, "");
		(void) unlink(path);
	}
	closedir(dir);
}

/*
 * The lock of the spool, which is made if it is missing: a descriptor, -1 with
 * a reason in 'text', or -2 if somebody else holds it.
 */
static int
lock_spool(char *text)
{
	double started = fetch_now();

	for (;;)
	{
		struct stat st;
		struct stat of_name;
		int fd;

		if (mkdir(FETCH_SPOOL, S_IRWXU) != 0 && errno != EEXIST)
			break;
		if (lstat(FETCH_SPOOL, &st) != 0)
			continue;
		if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())
		{
			errno = ENOTDIR;
			break;
		}
		fd = open(FETCH_LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
		if (fd < 0 && errno == ENOENT)
			continue;
		if (fd < 0)
			break;
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		{
			/* the one before may have removed it meanwhile */
			if (fstat(fd, &st) == 0 && stat(FETCH_LOCK, &of_name) == 0 && st.st_ino == of_name.st_ino &&
				st.st_dev == of_name.st_dev)
				return fd;
			close(fd);
			continue;
		}
		close(fd);
		if (fetch_now() - started > WAIT_FOR_LOCK)
			return -2;
		pg_usleep(20 * 1000);
	}
	snprintf(text, FETCH_TEXT_LEN, "could not use folder \"%s\": %s", FETCH_SPOOL, strerror(errno));
	return -1;
}

static int
open_listener(char *text)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	strlcpy(address.sun_path, FETCH_SOCKET, sizeof(address.sun_path));
	if (fd >= 0 && bind(fd, (struct sockaddr *) &address, sizeof(address)) == 0 && listen(fd, MAX_CLIENTS) == 0)
		return fd;
	snprintf(text, FETCH_TEXT_LEN, "could not listen on \"%s\": %s", FETCH_SOCKET, strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

/* The process's life. */
static void
live(const FetchOptions *options, const char *fingerprint, int home, int lock, int listener)
{
	static Ahead ahead;
	pthread_t thread;
	sigset_t all;
	int null = open("/dev/null", O_RDWR);

	(void) setsid();
	for (int i = 0; i < 3; i++)
		(void) dup2(null, i);
	for (int fd = 3; fd < 1024; fd++)
	{
		if (fd != home && fd != lock && fd != listener)
			close(fd);
	}
	ahead.options = options;
	ahead.fingerprint = fingerprint;
	ahead.home = home;
	ahead.listener = listener;
	ahead.last_request = fetch_now();
	for (int i = 0; i < MAX_CLIENTS; i++)
		ahead.client[i].fd = -1;
	ahead.server = home >= 0 ? server_pid(home) : 0;
	ahead.recovers = home >= 0 && signal_file(home);
	ahead.archive = archive_open(&options->common);
	pthread_mutex_init(&ahead.mutex, NULL);
	pthread_cond_init(&ahead.work, NULL);
	/* the reading thread is not to be interrupted */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	if (pipe(ahead.wake) == 0 && fcntl(ahead.wake[0], F_SETFL, O_NONBLOCK) == 0 &&
		fcntl(ahead.wake[1], F_SETFL, O_NONBLOCK) == 0 && pthread_create(&thread, NULL, read_ahead, &ahead) == 0)
	{
		sigset_t some;

		sigemptyset(&some);
		sigaddset(&some, SIGTERM);
		sigaddset(&some, SIGINT);
		pthread_sigmask(SIG_UNBLOCK, &some, NULL);
		serve(&ahead);
	}
	/* who asks from now on finds nobody */
	close(listener);
	pthread_mutex_lock(&ahead.mutex);
	clean_spool();
	(void) unlink(FETCH_LOCK);
	(void) rmdir(FETCH_SPOOL);
	_exit(0);
}

bool
fetch_start_ahead(const FetchOptions *options, const char *fingerprint, int home, char *text)
{
	int lock;
	int listener;
	pid_t pid;

	lock = lock_spool(text);
	if (lock == -2)
		return true;
	if (lock < 0)
		return false;
	clean_spool();
	listener = open_listener(text);
	if (listener < 0)
	{
		close(lock);
		return false;
	}
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		live(options, fingerprint, home, lock, listener);
	if (pid < 0)
		snprintf(text, FETCH_TEXT_LEN, "could not start a process: %s", strerror(errno));
	close(listener);
	close(lock);
	return pid > 0;
}
