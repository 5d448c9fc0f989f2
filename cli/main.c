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

#include "target.h"

#include <signal.h>

#include "common/logging.h"

/* A row for each command; the prototypes are in options.h. */
const CliCommand cli_commands[] = {
	{"backup", cmd_backup, "take a base backup",
	 "--source=NAME [OPTION]...",
	 "      --incremental         what has changed since another backup (PostgreSQL 17 or newer)\n"
	 "      --parent=LABEL        since this one\n"
	 "      --label=LABEL         what to call it (default: the time)\n"
	 "      --checkpoint=HOW      fast (default) or spread\n"
	 "      --compress=METHOD     none (default), gzip, lz4 or zstd, as pg_basebackup takes it\n"
	 "      --max-rate=BYTES      at most so many bytes per second, such as 50MB\n"
	 "      --no-verify-checksums pages with a wrong checksum do not fail the backup\n"
	 "      --manifest-checksums=ALGORITHM\n"
	 "      --from=CONNSTR        from another server of the same cluster, such as a standby\n"
	 "      --annotation=TEXT     a note\n"
	 "      --no-wait             return at once\n"},
	{"check", cmd_check, "one line and an exit code, for monitoring and probes",
	 "[--source=NAME] [--fail-at=SEVERITY] [--ignore=CHECK]...",
	 "      --fail-at=SEVERITY    warning or critical: what is less bad exits with 0\n"
	 "      --ignore=CHECK        leave out a check of the view health; may be repeated\n"
	 "\nThis command's exit codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN (also: could not ask).\n"},
	{"fetch", cmd_fetch, "the restore_command: a WAL segment or timeline history for a recovery",
	 "--source=NAME [OPTION]... %f %p",
	 "      --mode=MODE           restore (default): what goes wrong stops the recovery, with an exit code over 125;\n"
	 "                            standby: it is asked for again later, so the exit code is 1\n"
	 "      --plan=ID             serve what this plan needs, and nothing else\n"
	 "      --ahead=SIZE          read so much ahead (default: 256MB)\n"
	 "      --no-prefetch         read one file, and leave no process behind\n"
	 "      --no-local            have all bytes sent, also by an archive host on this machine\n"
	 "\nThis command exits with 1 if it is proved that there is no such file, so that recovery ends there.\n"},
	{"plan", cmd_plan, "where a recovery would end, or why it can't",
	 "--source=NAME " TARGET_USAGE "\n"
	 "                  [--hold=SECONDS] [--files]",
	 TARGET_HELP
	 "\nThe plan:\n"
	 "      --files               list the files that it needs\n"
	 "      --hold=SECONDS        have the archive host keep them for so long\n"},
	{"restore", cmd_restore, "restore a copy that ends where it was planned to",
	 "--source=NAME -D DIR " TARGET_USAGE "\n                  [OPTION]...",
	 TARGET_HELP
	 "\nThe copy:\n"
	 "  -D, --pgdata=DIR          its data directory: empty, or not there yet\n"
	 "      --tablespace-mapping=OLDDIR=NEWDIR\n"
	 "                            where a tablespace goes; its OID may stand for OLDDIR\n"
	 "      --tablespaces=DIR     all others go to DIR/OID\n"
	 "      --start               start it, follow its recovery, and compare it with the plan\n"
	 "      --port=PORT           its port (default: a free one from 5433 on)\n"
	 "      --target-action=WHAT  at the target: promote (default), pause or shutdown\n"
	 "      --as-primary          keep the primary's settings: it takes the primary's place\n"
	 "      --preload=LIBRARIES   its shared_preload_libraries (default: those that are harmless)\n"
	 "      --copy-user=NAME      role to look at it with (default: postgres, or yours)\n"
	 "      --bindir=DIR          PostgreSQL's programs, of the backup's major\n"
	 "      --hold=SECONDS        without --start: how long the archive keeps what recovery needs (default: a day)\n"
	 "  -j, --jobs=N              threads that check and write (default: 2)\n"
	 "      --dry-run             plan and check, but copy nothing\n"
	 "      --no-clean            leave what was made when something fails\n"},
	{"status", cmd_status, "each source at a glance, and what is not well",
	 "[--source=NAME] [--watch[=SECONDS]]",
	 "      --watch[=SECONDS]     show it again and again (default: every 2 seconds)\n"},
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
