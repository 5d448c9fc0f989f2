/*-------------------------------------------------------------------------
 *
 * fetch.c
 *	  walarchive fetch: the restore_command.
 *
 * PostgreSQL takes an exit code from 1 to 125 for "there is no such file", and
 * ends its recovery there; a greater one stops the recovery.  So 1 is said of a
 * file that is proved to be absent; everything else, also what goes wrong in this
 * program itself, is over 125.  A standby is another matter: it asks again and
 * again, and would be shut down by a code over 125, so with --mode=standby
 * everything but success is 1.
 *
 * The file comes from the process that reads ahead (fetch_ahead.c), which is
 * started if there is none; with --no-prefetch it is read here.
 *
 *-------------------------------------------------------------------------
 */
#include "fetch.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/logging.h"
#include "getopt_long.h"
#include "portability/instr_time.h"

#define DEFAULT_AHEAD (UINT64CONST(256) * 1024 * 1024)

/* How often somebody who reads ahead is looked for or started. */
#define MAX_ASKING 5

/* Attempts where something is wrong that may pass. */
#define MAX_ATTEMPTS 3

/* What this process exits with where nobody has thought of it. */
static int last_exit_code = FETCH_STOP;
static bool exit_is_meant = false;

/* pg_malloc and others exit with 1, which would mean that the WAL ends here. */
static void
guard_exit(void)
{
	if (!exit_is_meant)
		_exit(last_exit_code);
}

double
fetch_now(void)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	return INSTR_TIME_GET_DOUBLE(now);
}

FetchOutcome
fetch_judge(const FetchOptions *options, const WalFileInfo *info, char *text)
{
	strlcpy(text, info->detail, FETCH_TEXT_LEN);
	switch (info->state)
	{
		case WAL_FILE_PRESENT:
		case WAL_FILE_PARTIAL:
			return FETCH_HERE;
		case WAL_FILE_ABSENT:
			return FETCH_ABSENT;
		case WAL_FILE_LATER:
			/* a standby asks again by itself */
			return options->standby ? FETCH_ABSENT : FETCH_WAIT;
		case WAL_FILE_MISSING:
		case WAL_FILE_DAMAGED:
			return FETCH_RETRY;
	}
	return FETCH_FAILED;
}

FetchOutcome
fetch_judge_error(ArchiveStatus status)
{
	switch (status)
	{
		case ARCHIVE_FAILED:
		case ARCHIVE_DAMAGED:
			return FETCH_RETRY;
		default:
			/* of a lost connection all attempts were made already */
			return FETCH_FAILED;
	}
}

int
fetch_exit_code(const FetchOptions *options, FetchOutcome outcome)
{
	if (outcome == FETCH_HERE)
		return EXIT_DONE;
	return outcome == FETCH_ABSENT || options->standby ? EXIT_NO : FETCH_STOP;
}

/* ---- one file, here ---- */

typedef struct DirectRead
{
	const FetchOptions *options;
	const char *name;
	const char *path;
	ArchiveLayout layout;
	bool asked;
	FetchFile file;
	FetchOutcome outcome;
	bool local;
	char text[FETCH_TEXT_LEN];
} DirectRead;

static bool
direct_next(void *arg, ArchiveRead *read)
{
	DirectRead *direct = arg;

	if (direct->asked)
		return false;
	direct->asked = true;
	memset(read, 0, sizeof(*read));
	read->name = direct->name;
	return true;
}

static bool
direct_begin(void *arg, const ArchiveRead *read, const WalFileInfo *info)
{
	DirectRead *direct = arg;

	direct->outcome = fetch_judge(direct->options, info, direct->text);
	if (direct->outcome == FETCH_HERE)
	{
		direct->outcome = FETCH_RETRY;
		return fetch_file_begin(&direct->file, read->name, direct->path, &direct->layout, info, direct->text);
	}
	return true;
}

static bool
direct_data(void *arg, const ArchiveRead *read, uint64 offset, const char *bytes, size_t len)
{
	DirectRead *direct = arg;

	return fetch_file_write(&direct->file, bytes, len, &direct->local, direct->text);
}

static bool
direct_done(void *arg, const ArchiveRead *read)
{
	DirectRead *direct = arg;

	if (direct->file.fd >= 0 && fetch_file_end(&direct->file, &direct->local, direct->text))
		direct->outcome = FETCH_HERE;
	return true;
}

/*
 * Read a file to 'target' in the present folder; a name of this process's in
 * between.  Returns the exit code, having said what there is to say.
 */
static int
fetch_direct(const FetchOptions *options, const char *name, const char *target)
{
	Archive *archive = archive_open(&options->common);
	DirectRead direct;
	ArchiveReader reader = {direct_next, direct_begin, direct_data, direct_done, &direct};
	double started = fetch_now();
	int attempts = 0;
	char path[MAXPGPATH];
	int code;

	snprintf(path, sizeof(path), "%s.%d", FETCH_SPOOL, (int) getpid());
	for (;;)
	{
		ArchiveStatus status;

		memset(&direct, 0, sizeof(direct));
		direct.options = options;
		direct.name = name;
		direct.path = path;
		direct.file.fd = -1;
		direct.outcome = FETCH_FAILED;
		status = archive_use_plan(archive, options->plan);
		if (status == ARCHIVE_OK)
			status = archive_layout(archive, &direct.layout);
		if (status == ARCHIVE_OK)
			status = archive_read(archive, &reader);
		fetch_file_drop(&direct.file);
		if (status != ARCHIVE_OK && status != ARCHIVE_STOPPED)
		{
			direct.outcome = fetch_judge_error(status);
			strlcpy(direct.text, archive->error, sizeof(direct.text));
		}
		if (direct.outcome == FETCH_HERE && rename(path, target) != 0)
		{
			snprintf(direct.text, sizeof(direct.text), "could not rename file \"%s\" to \"%s\": %s", path, target,
					 strerror(errno));
			(void) unlink(path);
			direct.outcome = FETCH_FAILED;
		}
		if (direct.outcome == FETCH_RETRY && ++attempts >= MAX_ATTEMPTS)
			direct.outcome = FETCH_FAILED;
		if (direct.outcome == FETCH_WAIT && fetch_now() - started >= options->common.retry_seconds)
			direct.outcome = FETCH_FAILED;
		if (direct.outcome != FETCH_WAIT && direct.outcome != FETCH_RETRY)
			break;
		pg_usleep(500 * 1000);
	}
	code = fetch_exit_code(options, direct.outcome);
	if (code != EXIT_DONE && direct.outcome == FETCH_ABSENT)
		pg_log_info("%s: %s", name, direct.text);
	else if (code != EXIT_DONE)
		pg_log_error("%s: %s", name, direct.text);
	archive_close(archive);
	return code;
}

/* ---- the command ---- */

/* Is it called with an argument that decides about exit codes, or asks for help? */
static void
look_ahead(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
	{
		if (strcmp(argv[i], "--mode=standby") == 0 ||
			(i + 1 < argc && strcmp(argv[i], "--mode") == 0 && strcmp(argv[i + 1], "standby") == 0))
			last_exit_code = EXIT_NO;
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-?") == 0 || strcmp(argv[i], "--version") == 0 ||
			strcmp(argv[i], "-V") == 0)
			exit_is_meant = true;
	}
	if (!exit_is_meant)
		atexit(guard_exit);
}

static int
run(int argc, char **argv)
{
	static const struct option own[] = {
		{"mode", required_argument, NULL, OPTION_OWN},
		{"plan", required_argument, NULL, OPTION_OWN + 1},
		{"ahead", required_argument, NULL, OPTION_OWN + 2},
		{"no-prefetch", no_argument, NULL, OPTION_OWN + 3},
		{"no-local", no_argument, NULL, OPTION_OWN + 4},
		{NULL, 0, NULL, 0},
	};
	FetchOptions options;
	FetchRequest request;
	char **given = pg_malloc((argc + 1) * sizeof(char *));
	char text[FETCH_TEXT_LEN] = "";
	char message[FETCH_MESSAGE_LEN];
	const char *target;
	int name_at = 0;
	int back;
	int c;

	/* getopt changes their order */
	memcpy(given, argv, (argc + 1) * sizeof(char *));
	memset(&options, 0, sizeof(options));
	cli_default_options(&options.common);
	options.common.retry_seconds = -1;
	options.common.patient = true;
	options.common.no_password = true;
	options.ahead = DEFAULT_AHEAD;
	while ((c = cli_getopt(argc, argv, "", own, &options.common)) != -1)
	{
		switch (c)
		{
			case OPTION_OWN:
				if (strcmp(optarg, "restore") != 0 && strcmp(optarg, "standby") != 0)
					return cli_usage_error("option --mode is restore or standby, not \"%s\"", optarg);
				options.standby = strcmp(optarg, "standby") == 0;
				break;
			case OPTION_OWN + 1:
				options.plan = optarg;
				break;
			case OPTION_OWN + 2:
				if (!cli_parse_size("--ahead", optarg, &options.ahead))
					return EXIT_USAGE;
				break;
			case OPTION_OWN + 3:
				options.no_prefetch = true;
				break;
			case OPTION_OWN + 4:
				options.common.all_sent = true;
				break;
		}
	}
	if (options.common.retry_seconds < 0)
		options.common.retry_seconds = options.standby ? 5 : 60;
	/* nobody is there to be asked */
	options.common.ask_password = false;
	options.common.no_password = true;
	if (argc - optind != 2)
		return cli_usage_error("fetch takes the name of a file and where to put it: %%f %%p");
	if (options.common.source == NULL)
		return cli_usage_error("fetch needs the name of the source: --source");
	request.name = argv[optind];
	request.path = argv[optind + 1];
	if (!fetch_is_wal_name(request.name))
		return cli_usage_error("\"%s\" is not the name of a WAL segment or a timeline history", request.name);
	for (name_at = 1; given[name_at] != request.name;)
		name_at++;
	fetch_fingerprint(argc, given, name_at, given[name_at + 1] == request.path ? name_at + 1 : 0,
					  request.fingerprint);

	target = fetch_enter(request.path, &back);
	if (target == NULL || target[0] == '\0')
	{
		pg_log_error("could not change to the folder of \"%s\": %s", request.path,
					 target == NULL ? strerror(errno) : "it names no file");
		return fetch_exit_code(&options, FETCH_FAILED);
	}
	for (int i = 0; i < MAX_ASKING && !options.no_prefetch; i++)
	{
		int code = fetch_ask(&request, target, message);

		if (code != FETCH_NOBODY)
		{
			if (message[0] != '\0')
				pg_log_info("%s", message);
			return code;
		}
		if (!fetch_start_ahead(&options, request.fingerprint, back, text))
			break;
	}
	if (text[0] != '\0')
		pg_log_warning("%s; reading without a process that reads ahead", text);
	return fetch_direct(&options, request.name, target);
}

int
cmd_fetch(int argc, char **argv)
{
	int code;

	look_ahead(argc, argv);
	code = run(argc, argv);
	if (code == EXIT_USAGE)
		code = last_exit_code;
	exit_is_meant = true;
	return code;
}
