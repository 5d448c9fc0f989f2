/*-------------------------------------------------------------------------
 *
 * restore.c
 *	  walarchive restore: from a base backup and archived WAL to a copy that
 *	  ends where the plan said.
 *
 * The steps, each of which refuses before the next has done anything: the
 * directory, the plan, the backups' descriptions, tablespaces, programs, room;
 * then the backup is unpacked, settings are written, all is made durable, and
 * pg_control gets its place.  With --start the copy is started and compared.
 *
 * A restore that fails, or is interrupted by a signal, removes what it made; one
 * that is killed leaves a directory in which PostgreSQL refuses to start.
 *
 *-------------------------------------------------------------------------
 */
#include "restore.h"

#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/logging.h"
#include "libpq-fe.h"

#include "json_out.h"
#include "restore_settings.h"
#include "target.h"

enum
{
	OPTION_MAPPING = OPTION_OWN,
	OPTION_TABLESPACES,
	OPTION_START,
	OPTION_COPY_PORT,
	OPTION_ACTION,
	OPTION_DRY_RUN,
	OPTION_AS_PRIMARY,
	OPTION_BINDIR,
	OPTION_PRELOAD,
	OPTION_COPY_USER,
	OPTION_NO_CLEAN,
	OPTION_HOLD
};

static const struct option long_options[] = {
	TARGET_LONG_OPTIONS,
	{"pgdata", required_argument, NULL, 'D'},
	{"jobs", required_argument, NULL, 'j'},
	{"tablespace-mapping", required_argument, NULL, OPTION_MAPPING},
	{"tablespaces", required_argument, NULL, OPTION_TABLESPACES},
	{"start", no_argument, NULL, OPTION_START},
	{"port", required_argument, NULL, OPTION_COPY_PORT},
	{"target-action", required_argument, NULL, OPTION_ACTION},
	{"dry-run", no_argument, NULL, OPTION_DRY_RUN},
	{"as-primary", no_argument, NULL, OPTION_AS_PRIMARY},
	{"bindir", required_argument, NULL, OPTION_BINDIR},
	{"preload", required_argument, NULL, OPTION_PRELOAD},
	{"copy-user", required_argument, NULL, OPTION_COPY_USER},
	{"no-clean", no_argument, NULL, OPTION_NO_CLEAN},
	{"hold", required_argument, NULL, OPTION_HOLD},
	{NULL, 0, NULL, 0},
};

/* Set by a signal; the steps look at it where they wait. */
static volatile sig_atomic_t interrupted = 0;

/* ---- talking ---- */

static bool
on_terminal(Restore *restore)
{
	return !restore->common.json && isatty(fileno(stderr));
}

void
restore_say(Restore *restore, const char *fmt, ...)
{
	va_list args;

	if (restore->common.json)
		return;
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
}

void
restore_progress(Restore *restore, const char *fmt, ...)
{
	va_list args;

	if (!on_terminal(restore))
		return;
	fputs("\r\033[K", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fflush(stderr);
}

void
restore_progress_end(Restore *restore)
{
	if (on_terminal(restore))
		fputs("\r\033[K", stderr);
}

static void
note_setting(void *arg, const char *text)
{
	restore_say(arg, "  %s", text);
}

/* ---- the plan ---- */

void
restore_renew(Restore *restore)
{
	time_t now = time(NULL);

	if (restore->plan.ref == NULL || now - restore->renewed < RESTORE_RENEW)
		return;
	restore->renewed = now;
	/* a copy that recovers goes on without this program */
	if (archive_renew_plan(restore->archive, restore->plan.ref,
						   restore->started ? Max(RESTORE_HOLD, restore->hold_seconds) : RESTORE_HOLD) != ARCHIVE_OK)
		pg_log_warning("could not prolong the hold on what the restore needs: %s", restore->archive->error);
}

static int
make_plan(Restore *restore)
{
	ArchiveLayout layout;
	ArchiveStatus status = archive_layout(restore->archive, &layout);

	if (status == ARCHIVE_OK)
	{
		restore->segment_size = layout.segment_size;
		restore->renewed = time(NULL);
		status = archive_plan(restore->archive, &restore->target, restore->dry_run ? 0 : RESTORE_HOLD, &restore->plan);
	}
	if (status == ARCHIVE_OK && !restore->plan.feasible)
	{
		pg_log_error("\"%s\" can't be restored to there: %s", restore->common.source,
					 restore->plan.reason ? restore->plan.reason : "for no known reason");
		if (restore->plan.hint != NULL)
			pg_log_error_hint("%s", restore->plan.hint);
		return EXIT_NO;
	}
	if (status == ARCHIVE_OK)
		status = archive_plan_files(restore->archive, &restore->plan, &restore->files, &restore->nfiles);
	return status == ARCHIVE_OK ? EXIT_DONE : archive_report(restore->archive, status);
}

static void
show_plan(Restore *restore)
{
	const ArchivePlan *plan = &restore->plan;
	char backup[32];
	char wal[32];
	char time[CLI_TIME_LEN];

	restore_say(restore, "restoring \"%s\" from backup %s (%s) and %s of WAL", restore->common.source, plan->backup,
				restore_size(plan->backup_bytes, backup), restore_size(plan->wal_bytes, wal));
	restore_say(restore, "  timeline %s, WAL from %X/%X up to %X/%X", plan->timeline_path ? plan->timeline_path : "?",
				LSN_FORMAT_ARGS(plan->start_lsn), LSN_FORMAT_ARGS(plan->stop_lsn));
	if (plan->has_commit)
		restore_say(restore, "  last commit: transaction %u%s%s", plan->last_commit_xid, plan->has_commit_time ? " at " : "",
					plan->has_commit_time ? cli_time_text(plan->last_commit_time, time) : "");
	for (int i = 0; i < plan->nprepared; i++)
		restore_say(restore, "  prepared transaction \"%s\" is open there", plan->prepared[i]);
}

/* ---- restore_command ---- */

/* One word of a shell's command in restore_command, where '%' has a meaning as well. */
static void
add_word(PQExpBuffer to, const char *option, const char *value)
{
	appendPQExpBuffer(to, " %s'", option);
	for (; *value; value++)
	{
		if (*value == '\'')
			appendPQExpBufferStr(to, "'\\''");
		else if (*value == '%')
			appendPQExpBufferStr(to, "%%");
		else
			appendPQExpBufferChar(to, *value);
	}
	appendPQExpBufferChar(to, '\'');
}

/* This program, for the recovery to call. */
static char *
program_path(char *path)
{
	ssize_t n = readlink("/proc/self/exe", path, MAXPGPATH - 1);

	if (n > 0)
	{
		/* its front is faster, and lies beside it */
		static const char client[] = "-client";
		char front[MAXPGPATH];

		path[n] = '\0';
		strlcpy(front, path, sizeof(front));
		if (n > (ssize_t) strlen(client) && strcmp(path + n - strlen(client), client) == 0)
		{
			front[n - strlen(client)] = '\0';
			if (access(front, X_OK) == 0)
				strlcpy(path, front, MAXPGPATH);
		}
	}
	else if (find_my_exec("walarchive", path) < 0)
		strlcpy(path, "walarchive", MAXPGPATH);
	return path;
}

/* Is it a connection string, rather than the name of a database? */
static bool
is_connection_string(const char *dbname)
{
	return dbname != NULL && (strchr(dbname, '=') != NULL || strncmp(dbname, "postgresql://", 13) == 0 ||
							  strncmp(dbname, "postgres://", 11) == 0);
}

/* Does it matter for who is reached, and how safely? */
static bool
says_how_to_connect(const PQconninfoOption *option)
{
	static const char *const others[] = {"password", "application_name", "client_encoding", "options"};

	for (int i = 0; i < (int) lengthof(others); i++)
	{
		if (strcmp(option->keyword, others[i]) == 0)
			return false;
	}
	return true;
}

/*
 * What was typed, and what libpq took from the environment, as one connection
 * string: what is in the string that was given counts more than the environment.
 * Empty: nothing of all that was given.
 */
static char *
connection_string(const CliOptions *common)
{
	PQconninfoOption *known = PQconndefaults();
	bool is_string = is_connection_string(common->dbname);
	PQconninfoOption *parts = is_string ? PQconninfoParse(common->dbname, NULL) : NULL;
	PQExpBufferData string;

	initPQExpBuffer(&string);
	for (PQconninfoOption *o = known; o != NULL && o->keyword != NULL; o++)
	{
		const char *value = NULL;

		for (PQconninfoOption *part = parts; part != NULL && part->keyword != NULL; part++)
		{
			if (strcmp(part->keyword, o->keyword) == 0)
				value = part->val;
		}
		if (strcmp(o->keyword, "host") == 0 && common->host != NULL)
			value = common->host;
		if (strcmp(o->keyword, "port") == 0 && common->port != NULL)
			value = common->port;
		if (strcmp(o->keyword, "user") == 0 && common->user != NULL)
			value = common->user;
		if (strcmp(o->keyword, "dbname") == 0 && common->dbname != NULL && !is_string)
			value = common->dbname;
		if (value == NULL && o->envvar != NULL && says_how_to_connect(o))
			value = getenv(o->envvar);
		if (value == NULL || *value == '\0')
			continue;
		appendPQExpBuffer(&string, "%s%s='", string.len > 0 ? " " : "", o->keyword);
		for (; *value; value++)
		{
			if (*value == '\'' || *value == '\\')
				appendPQExpBufferChar(&string, '\\');
			appendPQExpBufferChar(&string, *value);
		}
		appendPQExpBufferChar(&string, '\'');
	}
	PQconninfoFree(parts);
	PQconninfoFree(known);
	return string.data;
}

/* What the recovery will call; it knows neither this program's environment nor what was typed. */
static char *
restore_command(Restore *restore)
{
	const CliOptions *common = &restore->common;
	PQExpBufferData command;

	initPQExpBuffer(&command);
	add_word(&command, "", restore->self);
	appendPQExpBufferStr(&command, " fetch --mode=restore -w");
	add_word(&command, "--source=", common->source);
	add_word(&command, "--plan=", restore->plan.ref);
	if (common->archive_dir != NULL)
		add_word(&command, "--archive=", common->archive_dir);
	else
	{
		char *string = connection_string(common);

		if (*string != '\0')
			add_word(&command, "--dbname=", string);
		pg_free(string);
	}
	appendPQExpBufferStr(&command, " %f %p");
	return command.data + strspn(command.data, " ");
}

/* A password may be in the command line, or typed; the recovery's own calls need it in a file. */
static int
check_password(Restore *restore)
{
	const char *dbname = restore->common.dbname;
	char *problem = NULL;
	PQconninfoOption *parts;
	bool found = false;

	if (restore->common.archive_dir != NULL)
		return EXIT_DONE;
	if (is_connection_string(dbname))
	{
		parts = PQconninfoParse(dbname, &problem);
		for (int i = 0; parts != NULL && parts[i].keyword != NULL; i++)
		{
			if (strcmp(parts[i].keyword, "password") == 0 && parts[i].val != NULL)
				found = true;
		}
		PQconninfoFree(parts);
		PQfreemem(problem);
	}
	if (found)
	{
		pg_log_error("the connection string has a password, which would stand in the copy's restore_command");
		pg_log_error_hint("Put it into a password file (~/.pgpass), and leave it out here.");
		return EXIT_USAGE;
	}
	return EXIT_DONE;
}

static void
warn_password(Restore *restore)
{
	if (restore->common.archive_dir == NULL && restore->common.password != NULL && !restore->start)
		pg_log_warning("recovery will need the password that was typed: put it into a password file (~/.pgpass)");
}

/* ---- steps ---- */

static int
write_settings(Restore *restore)
{
	RestoreSettings settings = {
		.data = restore->data,
		.source = restore->common.source,
		.plan_settings = restore->plan.settings,
		.restore_command = restore_command(restore),
		.target_action = restore->target_action,
		.as_primary = restore->as_primary,
		.port = restore->port,
		.major = restore->major,
		.preload = restore->preload,
		.libdir = restore->libdir};
	char *problem;

	/* one that is compared stops first */
	if (restore->start && !restore->as_primary)
		settings.target_action = "pause";
	restore_say(restore, restore->as_primary ? "the copy keeps the primary's settings"
											 : "the copy's settings keep it away from the primary (--as-primary keeps them)");
	if (restore_write_settings(&settings, note_setting, restore, &problem))
		return EXIT_DONE;
	pg_log_error("%s", problem);
	return EXIT_LOCAL;
}

/* PostgreSQL's own opinion of the configuration. */
static int
check_settings(Restore *restore)
{
	char program[MAXPGPATH];
	const char *argv[] = {program, "-D", restore->data, "-C", "port", NULL};
	char *output;
	int status;

	snprintf(program, sizeof(program), "%s/postgres", restore->programs);
	status = restore_run_program(argv, &output);
	if (status != 0)
	{
		pg_log_error("PostgreSQL does not take the copy's configuration");
		if (output != NULL && output[0] != '\0')
			pg_log_error_detail("It says: %s", output);
		return EXIT_LOCAL;
	}
	pg_free(output);
	return EXIT_DONE;
}

/* The first one ends the restore in order, the second at once. */
static void
on_signal(int signo)
{
	interrupted = signo;
	signal(signo, SIG_DFL);
}

bool
restore_interrupted(void)
{
	return interrupted != 0;
}

static int
do_restore(Restore *restore)
{
	int code;

	code = check_password(restore);
	if (code == EXIT_DONE)
		code = restore_check_directory(restore);
	if (code == EXIT_DONE)
		code = make_plan(restore);
	if (code == EXIT_DONE)
	{
		show_plan(restore);
		code = restore_read_backups(restore);
	}
	if (code == EXIT_DONE)
		code = restore_map_tablespaces(restore);
	if (code == EXIT_DONE)
		code = restore_find_programs(restore);
	if (code == EXIT_DONE)
		code = restore_check_space(restore);
	if (code != EXIT_DONE || restore->dry_run)
		return code;

	if (restore->port == 0 && !restore->as_primary)
		restore->port = restore_free_port();
	code = restore_fetch_backup(restore);
	if (code == EXIT_DONE)
		code = restore_lay_forks(restore);
	if (code == EXIT_DONE)
		code = write_settings(restore);
	if (code == EXIT_DONE)
		code = check_settings(restore);
	if (code == EXIT_DONE && restore_interrupted())
		code = EXIT_LOCAL;
	if (code == EXIT_DONE)
		code = restore_place_control(restore);
	if (code != EXIT_DONE)
	{
		if (restore_interrupted())
			pg_log_error("the restore was interrupted");
		else if (code == EXIT_LOCAL && restore->touched && !restore->whole)
			pg_log_error_hint("See to the disk of this machine, its free space and rights, or choose another directory; then restore again.");
		restore_clean(restore);
		return code;
	}
	warn_password(restore);

	if (restore->start)
	{
		/* from here on the copy is whole, and goes on without us */
		signal(SIGINT, SIG_DFL);
		signal(SIGTERM, SIG_DFL);
		signal(SIGHUP, SIG_DFL);
		code = restore_run(restore);
	}
	return code;
}

/* ---- results ---- */

static void
print_json(Restore *restore, int code)
{
	const ArchivePlan *plan = &restore->plan;
	PQExpBufferData out;

	initPQExpBuffer(&out);
	cli_json_begin(&out, NULL, '{');
	cli_json_string(&out, "source", restore->common.source);
	cli_json_string(&out, "data_directory", restore->data);
	cli_json_bool(&out, "done", code == EXIT_DONE);
	cli_json_bool(&out, "dry_run", restore->dry_run);
	cli_json_bool(&out, "feasible", plan->feasible);
	cli_json_string(&out, "reason", plan->reason);
	cli_json_string(&out, "hint", plan->hint);
	cli_json_string(&out, "plan", plan->ref);
	if (plan->feasible)
	{
		cli_json_string(&out, "backup", plan->backup);
		cli_json_uint(&out, "timeline", plan->timeline);
		cli_json_lsn(&out, "stop_lsn", plan->stop_lsn);
		if (plan->has_commit)
		{
			cli_json_uint(&out, "last_commit_xid", plan->last_commit_xid);
			if (plan->has_commit_time)
				cli_json_time(&out, "last_commit_time", plan->last_commit_time);
		}
	}
	if (restore->port != 0)
		cli_json_uint(&out, "port", restore->port);
	cli_json_bool(&out, "started", restore->started);
	if (restore->started)
	{
		cli_json_bool(&out, "compared", restore->compared);
		cli_json_bool(&out, "agrees", restore->agrees);
		cli_json_lsn(&out, "replayed_lsn", restore->replayed_lsn);
		cli_json_string(&out, "state", restore->promoted ? "promoted" : restore->paused        ? "paused"
																	: restore->postmaster == 0 ? "shut down"
																							   : "recovering");
	}
	cli_json_end(&out, '}');
	puts(out.data);
	termPQExpBuffer(&out);
}

static void
print_result(Restore *restore)
{
	const ArchivePlan *plan = &restore->plan;
	char time[CLI_TIME_LEN];

	if (restore->dry_run)
	{
		printf("nothing was copied (--dry-run): the restore can be done\n");
		return;
	}
	if (!restore->started)
	{
		printf("\"%s\" is ready; start it, and it recovers up to %X/%X:\n", restore->data, LSN_FORMAT_ARGS(plan->stop_lsn));
		printf("    %s/pg_ctl -D '%s' start\n", restore->programs, restore->data);
		printf("What it needs is kept in the archive for %d hours (--hold).\n", Max(1, restore->hold_seconds / 3600));
		return;
	}
	if (restore->agrees)
		printf("recovery ended at %X/%X, as planned", LSN_FORMAT_ARGS(restore->replayed_lsn));
	else
		printf("recovery has ended");
	if (plan->has_commit && restore->agrees)
		printf("; the last commit is transaction %u%s%s", plan->last_commit_xid, plan->has_commit_time ? " at " : "",
			   plan->has_commit_time ? cli_time_text(plan->last_commit_time, time) : "");
	putchar('\n');
	if (restore->promoted)
		printf("the copy is open");
	else if (restore->paused)
		printf("the copy is paused there and can be read; SELECT pg_promote() opens it");
	else
		printf("the copy was shut down");
	if (restore->postmaster != 0 && restore->port != 0 && !restore->as_primary)
		printf(": psql -h '%s' -p %d", restore->data, restore->port);
	putchar('\n');
}

/* ---- the command line ---- */

static void
add_mapping(Restore *restore, const char *value)
{
	RestoreMapping *mapping;
	const char *equals = value;

	/* "\=" is an equals sign in a name, as pg_basebackup has it */
	while (*equals != '\0' && (*equals != '=' || (equals > value && equals[-1] == '\\')))
		equals++;
	if (*equals == '\0' || equals == value || equals[1] != '/' ||
		(value[0] != '/' && strspn(value, "0123456789") != equals - value))
		exit(cli_usage_error("--tablespace-mapping takes OLDDIR=NEWDIR, both absolute, or OID=NEWDIR, not \"%s\"", value));
	restore->mappings = pg_realloc(restore->mappings, (restore->nmappings + 1) * sizeof(RestoreMapping));
	mapping = &restore->mappings[restore->nmappings++];
	mapping->used = false;
	mapping->old_dir = pg_malloc(equals - value + 1);
	mapping->new_dir = pg_strdup(equals + 1);
	{
		char *to = mapping->old_dir;

		for (const char *from = value; from < equals; from++)
		{
			if (*from != '\\' || from[1] != '=')
				*to++ = *from;
		}
		*to = '\0';
	}
	if (mapping->old_dir[0] == '/')
		canonicalize_path(mapping->old_dir);
	canonicalize_path(mapping->new_dir);
}

static bool
parse_options(Restore *restore, int argc, char **argv)
{
	int c;

	while ((c = cli_getopt(argc, argv, "D:j:", long_options, &restore->common)) != -1)
	{
		bool ok = true;

		if (cli_target_option(c, optarg, &restore->target, &ok))
		{
			if (!ok)
				return false;
			continue;
		}
		switch (c)
		{
			case 'D':
				restore->data = pg_strdup(optarg);
				break;
			case 'j':
				ok = cli_parse_int("--jobs", optarg, 1, 16, &restore->jobs);
				break;
			case OPTION_MAPPING:
				add_mapping(restore, optarg);
				break;
			case OPTION_TABLESPACES:
				restore->tablespaces_dir = make_absolute_path(optarg);
				break;
			case OPTION_START:
				restore->start = true;
				break;
			case OPTION_COPY_PORT:
				ok = cli_parse_int("--port", optarg, 1, 65535, &restore->port);
				break;
			case OPTION_ACTION:
				if (strcmp(optarg, "pause") != 0 && strcmp(optarg, "promote") != 0 && strcmp(optarg, "shutdown") != 0)
				{
					(void) cli_usage_error("--target-action takes promote, pause or shutdown, not \"%s\"", optarg);
					return false;
				}
				restore->target_action = pg_strdup(optarg);
				break;
			case OPTION_DRY_RUN:
				restore->dry_run = true;
				break;
			case OPTION_AS_PRIMARY:
				restore->as_primary = true;
				break;
			case OPTION_BINDIR:
				restore->bindir = make_absolute_path(optarg);
				break;
			case OPTION_PRELOAD:
				restore->preload = pg_strdup(optarg);
				break;
			case OPTION_COPY_USER:
				restore->user = pg_strdup(optarg);
				break;
			case OPTION_NO_CLEAN:
				restore->no_clean = true;
				break;
			case OPTION_HOLD:
				ok = cli_parse_int("--hold", optarg, 1, 30 * 24 * 3600, &restore->hold_seconds);
				break;
		}
		if (!ok)
			return false;
	}
	if (optind < argc)
	{
		(void) cli_usage_error("there is an argument too many: \"%s\"", argv[optind]);
		return false;
	}
	if (!cli_target_check(&restore->target))
		return false;
	if (restore->common.source == NULL)
	{
		(void) cli_usage_error("no source is named (--source)");
		return false;
	}
	if (restore->data == NULL)
	{
		(void) cli_usage_error("no data directory is named (-D)");
		return false;
	}
	return true;
}

int
cmd_restore(int argc, char **argv)
{
	Restore *restore = pg_malloc0(sizeof(Restore));
	char self[MAXPGPATH];
	int code;

	cli_default_options(&restore->common);
	cli_target_default(&restore->target);
	restore->target_action = "promote";
	restore->jobs = 2;
	restore->hold_seconds = 24 * 3600;
	if (!parse_options(restore, argc, argv))
		return EXIT_USAGE;
	if (geteuid() == 0)
	{
		pg_log_error("a restore can't be made as root");
		pg_log_error_hint("Run it as the user who will run PostgreSQL: the files are to be that user's.");
		return EXIT_USAGE;
	}
	restore->data = make_absolute_path(restore->data);
	if (restore->common.archive_dir != NULL)
		restore->common.archive_dir = make_absolute_path(restore->common.archive_dir);
	restore->self = program_path(self);

	umask(0027);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGHUP, on_signal);
	restore->archive = archive_open(&restore->common);
	code = do_restore(restore);

	/* what a copy that is not open yet needs is held on; for the rest it was enough */
	if (restore->plan.ref != NULL && !restore->dry_run)
	{
		ArchiveStatus status;

		if (restore->whole && !restore->promoted && (code == EXIT_DONE || restore->started))
			status = archive_renew_plan(restore->archive, restore->plan.ref, restore->hold_seconds);
		else
			status = archive_release_plan(restore->archive, restore->plan.ref);
		if (status != ARCHIVE_OK)
			pg_log_warning("could not %s the hold on what the restore needs: %s",
						   restore->whole && !restore->promoted ? "prolong" : "end", restore->archive->error);
	}
	if (restore->common.json)
		print_json(restore, code);
	else if (code == EXIT_DONE)
		print_result(restore);
	archive_close(restore->archive);
	return code;
}
