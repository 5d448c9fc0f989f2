/*-------------------------------------------------------------------------
 *
 * options.h
 *	  What the commands of the client have in common: options, exit codes, and
 *	  the table of commands.
 *
 * A command is a function that gets its own part of the command line, with its
 * name as argv[0], and returns an exit code.  It takes its options one at a time
 * from cli_getopt, which keeps the common ones for itself.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_CLI_OPTIONS_H
#define WA_CLI_OPTIONS_H

#include "postgres_fe.h"

#include "access/xlogdefs.h"
#include "getopt_long.h"

/* Exit codes; over 125 only where "fetch" tells a recovery to stop. */
#define EXIT_DONE 0
#define EXIT_NO 1          /* not feasible; a check failed; a file is proved to be absent */
#define EXIT_USAGE 2       /* bad options or arguments */
#define EXIT_UNREACHABLE 3 /* the archive can't be reached, or refuses us */
#define EXIT_ARCHIVE 4     /* the archive has not what is needed, or it is damaged */
#define EXIT_LOCAL 5       /* this machine: disk, directories, PostgreSQL's programs */

/* Values of a command's own long options begin here. */
#define OPTION_OWN 1000

typedef struct CliOptions
{
	/* connection; NULL: as libpq finds it */
	char *host;
	char *port;
	char *user;
	char *dbname;      /* or a connection string */
	bool no_password;  /* never ask for one */
	bool ask_password; /* ask before the first attempt */
	char *password;    /* what was typed, or NULL */

	char *source;      /* NULL: not given */
	char *archive_dir; /* a bare archive directory; NULL: over a connection */
	bool all_sent;     /* open no files of an archive host on this machine */
	bool json;
	bool verbose;

	/* how long a lost connection is tried again, seconds; 0: not at all */
	int retry_seconds;
	bool patient; /* the first connection is tried again as well */

	/* the longest silence of an archive host that owes an answer, seconds; 0: as is good for the question */
	int timeout_seconds;
} CliOptions;

typedef struct CliCommand
{
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary; /* one line of --help */
	const char *usage;   /* what follows the name: arguments and options */
	const char *help;    /* the command's own options, lines for --help */
} CliCommand;

/*
 * The next option of a command: its own short ones as in getopt, its own long
 * ones ("val" from OPTION_OWN on, or a short one's letter).  -1: no more, and
 * optind is at the first argument.  Common options go to 'common'; --help and
 * --version print and exit; an unknown option is reported and exits.
 */
extern int cli_getopt(int argc, char **argv, const char *own_short, const struct option *own_long,
					  CliOptions *common);

/* What steers a terminal is taken out of a text of somebody else's; lines may end.  Returns the text. */
extern char *cli_clean_text(char *text);

/* Defaults; then walk through cli_getopt. */
extern void cli_default_options(CliOptions *options);

/* Say what is wrong with the command line, and how to get help; returns EXIT_USAGE. */
extern int cli_usage_error(const char *format, ...) pg_attribute_printf(1, 2);

/*
 * Read an option's value: a whole number in [min, max]; an LSN; a timeline or a
 * transaction id; a number of bytes with an optional kB, MB, GB, TB; a time with
 * date, as ISO 8601 has it, in the local time zone unless it ends in an offset
 * or Z.  False: reported already, exit with EXIT_USAGE.
 */
extern bool cli_parse_int(const char *option, const char *text, int min, int max, int *value);
extern bool cli_parse_uint32(const char *option, const char *text, uint32 min, uint32 *value);
extern bool cli_parse_size(const char *option, const char *text, uint64 *value);
extern bool cli_parse_lsn(const char *option, const char *text, XLogRecPtr *value);
extern bool cli_parse_time(const char *option, const char *text, int64 *value);

/*
 * A time for people, in the local time zone with its offset, to the microsecond,
 * such that cli_parse_time and PostgreSQL read the same time again.
 */
#define CLI_TIME_LEN 64
extern const char *cli_time_text(int64 time, char *buffer);

/* ---- commands ---- */

extern const CliCommand cli_commands[];

/* A line for each: defined in the files of the same names. */
extern int cmd_backup(int argc, char **argv);
extern int cmd_check(int argc, char **argv);
extern int cmd_fetch(int argc, char **argv);
extern int cmd_plan(int argc, char **argv);
extern int cmd_restore(int argc, char **argv);
extern int cmd_status(int argc, char **argv);

#endif /* WA_CLI_OPTIONS_H */
