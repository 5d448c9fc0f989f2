/*-------------------------------------------------------------------------
 *
 * delay_proxy.c
 *	  A connection to a distant server: what is read from either side comes out
 *	  at the other one so much later, at any speed.
 *
 *	  delay_proxy PORT SOCKET MICROSECONDS
 *
 * listens on 127.0.0.1 and connects to a Unix socket for each connection.  Ends
 * with its standard input.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONNECTIONS 64
#define CHUNK (256 * 1024)

/* Bytes on their way in one direction at most, as a link's buffers are finite: at 5 ms that is 12 GB/s. */
#define MAX_BYTES (64 * 1024 * 1024)

/*
 * So long it rests between two looks, in microseconds.  A server sends 8 kB at a time, and on a machine that is shared
 * with it a proxy that woke for each of them would be what is measured.  2 GB/s come by in each connection.
 */
#define REST 100

/* Chunks that are kept for the next time, so that their memory is not got and cleared again and again. */
#define MAX_SPARE 256

typedef struct Chunk
{
	struct Chunk *next;
	int64_t due;
	size_t len; /* 0: the end */
	size_t done;
	char bytes[CHUNK];
} Chunk;

typedef struct Direction
{
	int from;
	int to;
	Chunk *first;
	Chunk *last;
	size_t bytes; /* on their way */
	int ended;    /* nothing more is read */
	int closed;
} Direction;

/* Two directions for each connection. */
static Direction direction[2 * MAX_CONNECTIONS];
static Chunk *spare;
static int spares;

static int64_t
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void
die(const char *what)
{
	fprintf(stderr, "delay_proxy: %s: %s\n", what, strerror(errno));
	exit(1);
}

static Chunk *
get_chunk(void)
{
	Chunk *chunk = spare;

	if (chunk != NULL)
	{
		spare = chunk->next;
		spares--;
	}
	else
		chunk = malloc(sizeof(Chunk));
	if (chunk == NULL)
		die("malloc");
	return chunk;
}

static void
put_chunk(Chunk *chunk)
{
	if (spares == MAX_SPARE)
	{
		free(chunk);
		return;
	}
	chunk->next = spare;
	spare = chunk;
	spares++;
}

/* Read what there is; 0: the connection is broken. */
static int
read_chunk(Direction *d, int64_t due)
{
	Chunk *chunk;
	ssize_t n;

	/* several small pieces that came at about the same time are one */
	if (d->last != NULL && d->last->len > 0 && d->last->len < CHUNK / 2 && due - d->last->due < 100)
	{
		n = recv(d->from, d->last->bytes + d->last->len, CHUNK - d->last->len, 0);
		if (n > 0)
		{
			d->last->len += (size_t) n;
			d->bytes += (size_t) n;
		}
		if (n != 0)
			return n > 0 || errno == EAGAIN || errno == EINTR;
	}
	chunk = get_chunk();
	n = recv(d->from, chunk->bytes, CHUNK, 0);
	if (n < 0)
	{
		put_chunk(chunk);
		return errno == EAGAIN || errno == EINTR;
	}
	chunk->next = NULL;
	chunk->due = due;
	chunk->len = (size_t) n;
	chunk->done = 0;
	if (d->last != NULL)
		d->last->next = chunk;
	else
		d->first = chunk;
	d->last = chunk;
	d->bytes += (size_t) n;
	d->ended = n == 0;
	return 1;
}

static void
add_connection(int client, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int server = socket(AF_UNIX, SOCK_STREAM, 0);
	int one = 1;

	if (strlen(path) >= sizeof(address.sun_path))
		die("path of the socket");
	strcpy(address.sun_path, path);
	if (server < 0 || connect(server, (struct sockaddr *) &address, sizeof(address)) != 0)
	{
		close(client);
		close(server);
		return;
	}
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	fcntl(client, F_SETFL, O_NONBLOCK);
	fcntl(server, F_SETFL, O_NONBLOCK);
	for (int i = 0; i < MAX_CONNECTIONS; i++)
	{
		Direction *d = &direction[2 * i];

		if (d[0].from >= 0)
			continue;
		for (int j = 0; j < 2; j++)
		{
			memset(&d[j], 0, sizeof(Direction));
			d[j].from = j == 0 ? client : server;
			d[j].to = j == 0 ? server : client;
		}
		return;
	}
	close(client);
	close(server);
}

static void
drop_connection(Direction *pair)
{
	close(pair[0].from);
	close(pair[0].to);
	for (int j = 0; j < 2; j++)
	{
		while (pair[j].first != NULL)
		{
			Chunk *chunk = pair[j].first;

			pair[j].first = chunk->next;
			put_chunk(chunk);
		}
		pair[j].from = -1;
	}
}

/* Write what is due; 0: the connection is broken. */
static int
write_due(Direction *d, int64_t now)
{
	while (d->first != NULL && d->first->due <= now)
	{
		Chunk *chunk = d->first;

		if (chunk->len == 0)
		{
			shutdown(d->to, SHUT_WR);
			d->closed = 1;
		}
		else
		{
			ssize_t n = send(d->to, chunk->bytes + chunk->done, chunk->len - chunk->done, MSG_NOSIGNAL);

			if (n < 0 && (errno == EAGAIN || errno == EINTR))
				return 1;
			if (n < 0)
				return 0;
			chunk->done += (size_t) n;
			d->bytes -= (size_t) n;
			if (chunk->done < chunk->len)
				return 1;
		}
		d->first = chunk->next;
		if (d->first == NULL)
			d->last = NULL;
		put_chunk(chunk);
	}
	return 1;
}

int
main(int argc, char **argv)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	int one = 1;
	int64_t delay;
	int64_t looked = 0;

	if (argc != 4)
	{
		fprintf(stderr, "usage: delay_proxy PORT SOCKET MICROSECONDS\n");
		return 2;
	}
	address.sin_port = htons((uint16_t) atoi(argv[1]));
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	delay = atoll(argv[3]);
	for (int i = 0; i < 2 * MAX_CONNECTIONS; i++)
		direction[i].from = -1;
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (listener < 0 || bind(listener, (struct sockaddr *) &address, sizeof(address)) != 0 || listen(listener, 16) != 0)
		die("listen");
	for (;;)
	{
		struct pollfd p[2 + 2 * MAX_CONNECTIONS];
		int64_t now = now_us();
		struct timespec wait = {3600, 0};
		int64_t next = -1;

		p[0] = (struct pollfd){STDIN_FILENO, POLLIN, 0};
		p[1] = (struct pollfd){listener, POLLIN, 0};
		for (int i = 0; i < 2 * MAX_CONNECTIONS; i++)
		{
			Direction *d = &direction[i];
			Direction *back = &direction[i ^ 1];

			p[2 + i] = (struct pollfd){d->from, 0, 0};
			if (d->from < 0)
				continue;
			if (!d->ended && d->bytes < MAX_BYTES)
				p[2 + i].events |= POLLIN;
			/* this direction's source is where the other one goes to */
			if (back->first != NULL && back->first->due <= now)
				p[2 + i].events |= POLLOUT;
			if (d->first != NULL && d->first->due > now && (next < 0 || d->first->due < next))
				next = d->first->due;
			if (p[2 + i].events == 0)
				p[2 + i].fd = -1;
		}
		if (next >= 0)
			wait = (struct timespec){(next - now) / 1000000, (next - now) % 1000000 * 1000};
		if (ppoll(p, 2 + 2 * MAX_CONNECTIONS, &wait, NULL) < 0 && errno != EINTR)
			die("poll");
		now = now_us();
		if (now - looked < REST)
		{
			wait = (struct timespec){0, (REST - (now - looked)) * 1000};
			nanosleep(&wait, NULL);
			now = now_us();
		}
		looked = now;
		if (p[0].revents != 0 && read(STDIN_FILENO, &one, 1) <= 0)
			return 0;
		if (p[1].revents != 0)
		{
			int client = accept(listener, NULL, NULL);

			if (client >= 0)
				add_connection(client, argv[2]);
		}
		for (int i = 0; i < MAX_CONNECTIONS; i++)
		{
			Direction *pair = &direction[2 * i];
			int good = 1;

			if (pair[0].from < 0)
				continue;
			for (int j = 0; j < 2 && good; j++)
			{
				if (p[2 + 2 * i + j].fd >= 0 && (p[2 + 2 * i + j].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && !pair[j].ended)
					good = read_chunk(&pair[j], now + delay);
				if (good)
					good = write_due(&pair[j], now);
			}
			if (!good || (pair[0].closed && pair[1].closed))
				drop_connection(pair);
		}
	}
}
