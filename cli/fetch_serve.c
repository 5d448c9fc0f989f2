/*-------------------------------------------------------------------------
 *
 * fetch_serve.c
 *	  The process that reads WAL ahead of a recovery: its life, and its answers.
 *
 * The first "walarchive fetch" of a recovery leaves it behind; the others ask it
 * through a socket in its spool.  Other threads read from the archive
 * (fetch_ahead.c), this one answers.
 *
 * It goes when the server stops, when the recovery is over, when nobody has
 * asked for a while, or when somebody asks with other options, and takes the
 * spool with it.  A crash leaves the spool without its lock: the next one cleans
 * up.  It holds no descriptor of the server's, so that a log collector is not kept
 * waiting for it.
 *
 *-------------------------------------------------------------------------
 */
#include "fetch_ahead.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define FETCH_LOCK FETCH_SPOOL "/lock"

/* Seconds without a request after which it goes; if files are waiting, it is the recovery that takes its time. */
#define IDLE 15
#define IDLE_WITH_FILES 600

/* Seconds for a client to say what it wants, and to wait for a process that is going. */
#define WAIT_FOR_REQUEST 10
#define WAIT_FOR_LOCK 3

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
		if (item->segment)
			ahead->in_a_row = item->state == ITEM_READY ? ahead->in_a_row + 1 : 0;
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
	pthread_cond_broadcast(&ahead->work);
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
		if (client->item == NULL ? fetch_now() - client->since > WAIT_FOR_REQUEST
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
	Archive *archive = archive_open(&options->common);
	bool reads = true;
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
	pthread_mutex_init(&ahead.mutex, NULL);
	pthread_cond_init(&ahead.work, NULL);
	/* the threads that read are not to be interrupted */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	for (int i = 0; i < FETCH_READERS; i++)
	{
		ahead.reader[i].ahead = &ahead;
		ahead.reader[i].helper = i > 0;
		ahead.reader[i].archive = i > 0 ? archive_clone(archive) : archive;
	}
	if (pipe(ahead.wake) != 0 || fcntl(ahead.wake[0], F_SETFL, O_NONBLOCK) != 0 ||
		fcntl(ahead.wake[1], F_SETFL, O_NONBLOCK) != 0)
		reads = false;
	for (int i = 0; i < FETCH_READERS && reads; i++)
	{
		pthread_t thread;

		/* it goes without helpers */
		if (pthread_create(&thread, NULL, read_ahead, &ahead.reader[i]) != 0 && i == 0)
			reads = false;
	}
	if (reads)
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
