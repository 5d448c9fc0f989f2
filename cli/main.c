/*-------------------------------------------------------------------------
 *
 * main.c
 *	  walarchive: the client's commands.
 *
 * For where files must move: it needs the archive host's PostgreSQL port, or a
 * bare archive directory, and nothing else.  Each command is a file of its own;
 * what they share is in options.h and archive.h.
 *
 *-------------------------------------------------------------------------
 */
#include "options.h"

#include <signal.h>

#include "common/logging.h"

/* A row for each command; the prototypes are in options.h. */
const CliCommand cli_commands[] = {
	{NULL, NULL, NULL, NULL, NULL},
};

static void
print_commands(void)
{
	printf("walarchive archives the WAL of PostgreSQL servers and restores from it.\n\n"
		   "Usage:\n  walarchive COMMAND [OPTION]...\n\nCommands:\n");
	for (const CliCommand *command = cli_commands; command->name != NULL; command++)
		printf("  %-9s %s\n", command->name, command->summary);
	printf("\n\"walarchive COMMAND --help\" describes a command.\n");
}

int
main(int argc, char **argv)
{
	pg_logging_init("walarchive");
	/* messages of the system and of libpq in the user's language */
	set_pglocale_pgservice(argv[0], PG_TEXTDOMAIN("walarchive"));
	signal(SIGPIPE, SIG_IGN);

	if (argc < 2)
	{
		print_commands();
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-?") == 0 || strcmp(argv[1], "help") == 0)
	{
		print_commands();
		return EXIT_DONE;
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
	{
		puts("walarchive " WALARCHIVE_VERSION);
		return EXIT_DONE;
	}
	for (const CliCommand *command = cli_commands; command->name != NULL; command++)
	{
		if (strcmp(command->name, argv[1]) == 0)
			return command->run(argc - 1, argv + 1);
	}
	return cli_usage_error("there is no command \"%s\"", argv[1]);
}
