/*-------------------------------------------------------------------------
 *
 * front.c
 *	  The program "walarchive": asks the process that reads ahead for a file,
 *	  and leaves everything else to the client proper.
 *
 * A recovery starts a restore_command for each segment.  Loading libpq and what
 * it needs takes longer than copying one; asking takes no time.  So this program
 * is linked with nothing but the C library, and becomes "walarchive-client",
 * which lies beside it, where that is not enough.
 *
 *-------------------------------------------------------------------------
 */
#include "fetch_link.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef PATH_MAX
#define PATH_MAX 4096
#endif

#define CLIENT "walarchive-client"

/* Returns only if it fails. */
static void
become_client(char **argv)
{
	char path[PATH_MAX];
	const char *self = argv[0];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	char *slash;

	if (n > 0)
		path[n] = '\0';
	else
		snprintf(path, sizeof(path), "%s", self);
	slash = strrchr(path, '/');
	if (slash != NULL && (size_t) (slash + 1 - path) + sizeof(CLIENT) <= sizeof(path))
	{
		strcpy(slash + 1, CLIENT);
		execv(path, argv);
	}
	else
		execvp(CLIENT, argv);
	fprintf(stderr, "walarchive: could not execute %s: %s\n", slash != NULL ? path : CLIENT, strerror(errno));
}

int
main(int argc, char **argv)
{
	FetchRequest request;

	if (argc > 3 && strcmp(argv[1], "fetch") == 0 && fetch_find_request(argc - 1, argv + 1, &request))
	{
		char message[FETCH_MESSAGE_LEN];
		int back;
		const char *target = fetch_enter(request.path, &back);
		int code = target != NULL ? fetch_ask(&request, target, message) : FETCH_NOBODY;

		if (code != FETCH_NOBODY)
		{
			if (message[0] != '\0')
				fprintf(stderr, "walarchive: %s\n", message);
			return code;
		}
		fetch_leave(back);
	}
	become_client(argv);
	return FETCH_STOP;
}
