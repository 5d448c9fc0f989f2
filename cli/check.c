/*-------------------------------------------------------------------------
 *
 * check.c
 *	  walarchive check: one line and an exit code, for monitoring and probes.
 *
 * Reads the views health and status, and changes nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "connect.h"
#include "json_out.h"

#include "common/logging.h"

/* As Nagios and its kin want them: not the exit codes of the other commands. */
enum
{
	CHECK_OK = 0,
	CHECK_WARNING = 1,
	CHECK_CRITICAL = 2,
	CHECK_UNKNOWN = 3
};

static const char *const words[] = {"OK", "WARNING", "CRITICAL", "UNKNOWN"};

enum
{
	OPTION_FAIL_AT = OPTION_OWN,
	OPTION_IGNORE
};

static const struct option long_options[] = {
	{"fail-at", required_argument, NULL, OPTION_FAIL_AT},
	{"ignore", required_argument, NULL, OPTION_IGNORE},
	{NULL, 0, NULL, 0},
};

#define HEALTH_QUERY                                                                    \
	"SELECT coalesce(source, 'host'), \"check\", severity, message"                     \
	" FROM walarchive.health WHERE ($1::text IS NULL OR source = $1 OR source IS NULL)" \
	" AND \"check\" <> ALL (string_to_array($2, ','))"                                  \
	" ORDER BY array_position(ARRAY['critical', 'warning', 'unknown', 'ok'], severity), source NULLS FIRST, 2"

#define FIGURES_QUERY                                                                        \
	"SELECT source, state, coalesce(extract(epoch FROM lag)::numeric(20,3)::text, 'U'),"     \
	" coalesce(lag_bytes::text, 'U'),"                                                       \
	" coalesce(extract(epoch FROM clock_timestamp() - last_backup_time)::bigint::text, 'U')" \
	" FROM walarchive.status WHERE ($1::text IS NULL OR source = $1) ORDER BY source"

/* Seconds that an archive host may take to answer. */
#define PROBE_SILENCE 30

static int
code_of(const char *severity)
{
	if (strcmp(severity, "ok") == 0)
		return CHECK_OK;
	if (strcmp(severity, "warning") == 0)
		return CHECK_WARNING;
	return strcmp(severity, "critical") == 0 ? CHECK_CRITICAL : CHECK_UNKNOWN;
}

/* Critical is worse than a warning, and that is worse than not to know. */
static int
rank(int code)
{
	static const int ranks[] = {0, 2, 3, 1};

	return ranks[code];
}

/* A line is a line, whatever a message has in it; what follows a bar would be a figure. */
static void
append_line(PQExpBuffer out, const char *text)
{
	while (*text != '\0')
	{
		size_t blanks = strspn(text, " \t\r\n");

		text += blanks;
		if (*text == '\0')
			break;
		if (blanks > 0 && out->len > 0)
			appendPQExpBufferChar(out, ' ');
		appendPQExpBufferChar(out, *text == '|' ? '/' : *text);
		text++;
	}
}

static int
report(const CliOptions *options, int code, const char *text, const char *figures)
{
	if (options->json)
	{
		PQExpBufferData out;

		initPQExpBuffer(&out);
		cli_json_begin(&out, NULL, '{');
		cli_json_string(&out, "result", words[code]);
		cli_json_uint(&out, "code", code);
		cli_json_string(&out, "message", text);
		cli_json_end(&out, '}');
		puts(out.data);
		termPQExpBuffer(&out);
	}
	else
		printf("walarchive %s: %s%s%s\n", words[code], text, figures[0] != '\0' ? " |" : "", figures);
	return code;
}

/* What is not well, the worst first, and a word of what is; returns the code. */
static int
judge(const PGresult *health, const PGresult *figures, int fail_at, PQExpBuffer text)
{
	int code = CHECK_OK;
	int bad = 0;

	for (int row = 0; row < PQntuples(health); row++)
	{
		int here = code_of(PQgetvalue(health, row, 2));

		if (here == CHECK_OK)
			continue;
		if (rank(here) > rank(code))
			code = here;
		appendPQExpBuffer(text, "%s%s %s: ", bad++ > 0 ? "; " : "", PQgetvalue(health, row, 0),
						  PQgetvalue(health, row, 1));
		append_line(text, PQgetvalue(health, row, 3));
	}
	if (bad == 0)
	{
		for (int row = 0; row < PQntuples(figures); row++)
			appendPQExpBuffer(text, "%s%s is %s", row > 0 ? ", " : "", PQgetvalue(figures, row, 0),
							  PQgetvalue(figures, row, 1));
		if (PQntuples(figures) == 0)
			appendPQExpBufferStr(text, "no source yet");
	}
	return rank(code) < rank(fail_at) ? CHECK_OK : code;
}

int
cmd_check(int argc, char **argv)
{
	CliOptions options;
	Archive *archive;
	ArchiveStatus status;
	PGresult *health = NULL;
	PGresult *figures = NULL;
	PQExpBufferData text;
	PQExpBufferData numbers;
	PQExpBufferData ignored;
	const char *values[2];
	int fail_at = CHECK_UNKNOWN;
	int code = CHECK_UNKNOWN;
	int c;

	initPQExpBuffer(&text);
	initPQExpBuffer(&numbers);
	initPQExpBuffer(&ignored);
	cli_default_options(&options);
	/* a probe that waits is worse than one that says so */
	options.retry_seconds = 0;
	options.timeout_seconds = PROBE_SILENCE;
	options.no_password = true;
	while ((c = cli_getopt(argc, argv, "", long_options, &options)) != -1)
	{
		if (c == OPTION_FAIL_AT)
		{
			if (strcmp(optarg, "critical") == 0)
				fail_at = CHECK_CRITICAL;
			else if (strcmp(optarg, "warning") == 0)
				fail_at = CHECK_WARNING;
			else if (strcmp(optarg, "unknown") == 0)
				fail_at = CHECK_UNKNOWN;
			else
			{
				(void) cli_usage_error("option --fail-at takes unknown, warning or critical, not \"%s\"", optarg);
				return CHECK_UNKNOWN;
			}
		}
		else if (c == OPTION_IGNORE)
			appendPQExpBuffer(&ignored, "%s%s", ignored.len > 0 ? "," : "", optarg);
	}
	if (optind < argc || options.archive_dir != NULL)
	{
		if (optind < argc)
			(void) cli_usage_error("there is an argument too many: \"%s\"", argv[optind]);
		else
			(void) cli_usage_error("a bare archive directory has no health: only an archive host does");
		return CHECK_UNKNOWN;
	}

	archive = archive_open(&options);
	values[0] = options.source;
	values[1] = ignored.data;
	health = archive_server_query(archive, HEALTH_QUERY, 2, values, 4, true, &status);
	if (health != NULL)
		figures = archive_server_query(archive, FIGURES_QUERY, 1, values, 5, true, &status);
	if (figures == NULL)
	{
		append_line(&text, archive->error);
		code = report(&options, CHECK_UNKNOWN, text.data, "");
	}
	else if (options.source != NULL && PQntuples(figures) == 0)
	{
		appendPQExpBuffer(&text, "there is no source \"%s\"", options.source);
		code = report(&options, CHECK_UNKNOWN, text.data, "");
	}
	else
	{
		for (int row = 0; row < PQntuples(figures); row++)
			appendPQExpBuffer(&numbers, " '%s lag'=%s%s '%s lag_bytes'=%s%s '%s backup_age'=%s%s",
							  PQgetvalue(figures, row, 0), PQgetvalue(figures, row, 2),
							  *PQgetvalue(figures, row, 2) == 'U' ? "" : "s",
							  PQgetvalue(figures, row, 0), PQgetvalue(figures, row, 3),
							  *PQgetvalue(figures, row, 3) == 'U' ? "" : "B",
							  PQgetvalue(figures, row, 0), PQgetvalue(figures, row, 4),
							  *PQgetvalue(figures, row, 4) == 'U' ? "" : "s");
		code = judge(health, figures, fail_at, &text);
		code = report(&options, code, text.data, numbers.data);
	}
	PQclear(health);
	PQclear(figures);
	archive_close(archive);
	termPQExpBuffer(&text);
	termPQExpBuffer(&numbers);
	termPQExpBuffer(&ignored);
	return code;
}
