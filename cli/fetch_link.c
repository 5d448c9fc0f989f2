/*-------------------------------------------------------------------------
 *
 * fetch_link.c
 *	  How "walarchive fetch" asks the process that reads ahead.
 *
 * A request is three lines: fingerprint, name, end.  While the file is not there
 * yet the answer is dots, so that silence means that nobody is alive; then comes
 * the exit code, a space and a message.  With code 0 the file lies in the spool
 * under its own name, and the asker moves it to its place.
 *
 *-------------------------------------------------------------------------
 */
#include "fetch_link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Whoever reads ahead sends a dot each second. */
#define SILENCE_MS 30000

bool
fetch_is_wal_name(const char *name)
{
	size_t digits = strspn(name, "0123456789ABCDEF");

	return (digits == 24 && name[24] == '\0') || (digits == 8 && strcmp(name + 8, ".history") == 0);
}

void
fetch_fingerprint(int argc, char **argv, int name, int path, char *fingerprint)
{
	uint64_t hash = UINT64_C(14695981039346656037);

	for (int i = 0; i < argc; i++)
	{
		const char *text = i == 0 ? WALARCHIVE_VERSION : argv[i];

		if (i > 0 && (i == name || i == path))
			continue;
		for (const char *p = text;; p++)
		{
			hash = (hash ^ (unsigned char) *p) * UINT64_C(1099511628211);
			if (*p == '\0')
				break;
		}
	}
	snprintf(fingerprint, FETCH_FINGERPRINT_LEN, "%016llx", (unsigned long long) hash);
}

bool
fetch_find_request(int argc, char **argv, FetchRequest *request)
{
	int name = 0;

	for (int i = 1; i < argc; i++)
	{
		if (strcmp(argv[i], "--no-prefetch") == 0)
			return false;
		if (!fetch_is_wal_name(argv[i]))
			continue;
		if (name != 0)
			return false;
		name = i;
	}
	if (name == 0 || name + 1 == argc || argv[name + 1][0] == '-' || argv[name + 1][0] == '\0')
		return false;
	/* the value of an option that comes before it */
	if (argv[name - 1][0] == '-' && name > 1 && strcmp(argv[name - 1], "--") != 0 && strchr(argv[name - 1], '=') == NULL)
		return false;
	request->name = argv[name];
	request->path = argv[name + 1];
	fetch_fingerprint(argc, argv, name, name + 1, request->fingerprint);
	return true;
}

const char *
fetch_enter(const char *path, int *back)
{
	const char *slash = strrchr(path, '/');
	char *folder;
	int rc;

	*back = -1;
	if (slash == NULL)
		return path;
	*back = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*back < 0)
		return NULL;
	folder = strndup(path, slash == path ? 1 : (size_t) (slash - path));
	rc = folder != NULL ? chdir(folder) : -1;
	free(folder);
	if (rc != 0)
	{
		fetch_leave(*back);
		*back = -1;
		return NULL;
	}
	return slash + 1;
}

void
fetch_leave(int back)
{
	int saved = errno;

	if (back >= 0)
	{
		if (fchdir(back) != 0)
		{
			/* it was ours a moment ago; what follows finds no file then */
		}
		close(back);
	}
	errno = saved;
}

static bool
send_all(int fd, const char *text, size_t len)
{
	while (len > 0)
	{
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		text += n;
		len -= (size_t) n;
	}
	return true;
}

/* The answer without its dots, up to the end; false: there is none, or not in time. */
static bool
read_answer(int fd, char *answer, size_t size)
{
	size_t used = 0;

	for (;;)
	{
		struct pollfd p = {fd, POLLIN, 0};
		ssize_t n;
		int rc = poll(&p, 1, SILENCE_MS);

		if (rc < 0 && errno == EINTR)
			continue;
		if (rc <= 0 || used + 1 >= size)
			return false;
		n = recv(fd, answer + used, size - 1 - used, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		if (n == 0)
			break;
		if (used == 0)
		{
			size_t dots = 0;

			while (dots < (size_t) n && answer[dots] == '.')
				dots++;
			memmove(answer, answer + dots, (size_t) n - dots);
			n -= (ssize_t) dots;
		}
		used += (size_t) n;
	}
	answer[used] = '\0';
	/* cut off in the middle */
	return used > 0 && answer[used - 1] == '\n';
}

int
fetch_ask(const FetchRequest *request, const char *target, char *message)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char text[FETCH_FINGERPRINT_LEN + FETCH_NAME_LEN + 8];
	char answer[FETCH_MESSAGE_LEN];
	char from[sizeof(FETCH_SPOOL) + FETCH_NAME_LEN + 1];
	char *end;
	long code;
	int fd;
	int len;

	message[0] = '\0';
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return FETCH_NOBODY;
	strcpy(address.sun_path, FETCH_SOCKET);
	len = snprintf(text, sizeof(text), "%s\n%s\n.\n", request->fingerprint, request->name);
	if (len >= (int) sizeof(text) || connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		!send_all(fd, text, (size_t) len) || !read_answer(fd, answer, sizeof(answer)))
	{
		close(fd);
		return FETCH_NOBODY;
	}
	close(fd);
	answer[strcspn(answer, "\n")] = '\0';
	code = strtol(answer, &end, 10);
	if (end == answer || (*end != ' ' && *end != '\0') || code < FETCH_NOBODY || code > 255)
		return FETCH_NOBODY;
	if (code == 0)
	{
		snprintf(from, sizeof(from), "%s/%s", FETCH_SPOOL, request->name);
		/* a file that is gone was taken by somebody else */
		if (rename(from, target) != 0)
			return FETCH_NOBODY;
	}
	else if (*end == ' ')
		snprintf(message, FETCH_MESSAGE_LEN, "%s", end + 1);
	return (int) code;
}
