/*-------------------------------------------------------------------------
 *
 * fetch_loop.c
 *	  Asks for files as a recovery does, one after the other, and replays
 *	  nothing: how long does delivery take?
 *
 *	  fetch_loop FOLDER COMMAND < names
 *
 * COMMAND is a restore_command with %f and %p.  It is run in FOLDER, with
 * pg_wal/RECOVERYXLOG as the target; each file must have the size of the first
 * one.  Prints the seconds for all of them.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TARGET "pg_wal/RECOVERYXLOG"

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}

int
main(int argc, char **argv)
{
	char name[128];
	double started = now();
	off_t size = 0;

	if (argc != 3 || chdir(argv[1]) != 0)
	{
		fprintf(stderr, "usage: fetch_loop FOLDER COMMAND < names\n");
		return 2;
	}
	while (fgets(name, sizeof(name), stdin) != NULL)
	{
		char command[8192];
		size_t used = 0;
		struct stat st;

		name[strcspn(name, "\n")] = '\0';
		for (const char *p = argv[2]; *p != '\0'; p++)
		{
			const char *text = p[0] == '%' && p[1] == 'f' ? name : p[0] == '%' && p[1] == 'p' ? TARGET
																							  : NULL;

			if (used + sizeof(name) + sizeof(TARGET) >= sizeof(command))
				return 2;
			if (text == NULL)
				command[used++] = *p;
			else
			{
				used += (size_t) sprintf(command + used, "%s", text);
				p++;
			}
		}
		command[used] = '\0';
		(void) unlink(TARGET);
		if (system(command) != 0 || stat(TARGET, &st) != 0 || (size != 0 && st.st_size != size))
		{
			fprintf(stderr, "fetch_loop: %s did not come\n", name);
			return 1;
		}
		size = st.st_size;
	}
	printf("%.3f\n", now() - started);
	return 0;
}
