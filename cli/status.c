/*-------------------------------------------------------------------------
 *
 * status.c
 *	  walarchive status: each source at a glance, what is not well, and backups
 *	  that are being taken; --watch redraws.
 *
 * Reads the views status, health and stat_progress_backup, and changes nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "connect.h"

#include <unistd.h>

#include "common/logging.h"
#include "pqexpbuffer.h"

enum
{
	OPTION_WATCH = OPTION_OWN
};

static const struct option long_options[] = {
	{"watch", optional_argument, NULL, OPTION_WATCH},
	{NULL, 0, NULL, 0},
};

/* Of one source, $1, or of all. */
#define OF_SOURCE "($1::text IS NULL OR source = $1)"

#define SOURCES_QUERY                                                                            \
	"SELECT source, state, health, coalesce(date_trunc('second', lag)::text, '') AS lag,"        \
	" coalesce(pg_size_pretty(lag_bytes), '') AS behind,"                                        \
	" coalesce(date_trunc('second', latest_commit_time)::text, '') AS \"latest commit\","        \
	" coalesce(timeline::text, '') AS timeline, coalesce(size, '') AS size,"                     \
	" coalesce(last_backup, 'none') AS \"last backup\", coalesce(backups::text, '') AS backups," \
	" coalesce(date_trunc('second', recoverable_from)::text, '') AS \"recoverable from\""        \
	" FROM walarchive.status WHERE " OF_SOURCE " ORDER BY source"

#define PROBLEMS_QUERY                                                                     \
	"SELECT severity, coalesce(source, 'host'), \"check\", message, coalesce(hint, '')"    \
	" FROM walarchive.health WHERE severity <> 'ok' AND (" OF_SOURCE " OR source IS NULL)" \
	" ORDER BY array_position(ARRAY['critical', 'warning', 'unknown'], severity), source NULLS FIRST, 3"

#define BACKUPS_QUERY                                                                                         \
	"SELECT source, coalesce(label, ''), coalesce(phase, ''), coalesce(pg_size_pretty(backup_streamed), '')," \
	" coalesce(pg_size_pretty(backup_total), '?'),"                                                           \
	" CASE WHEN backup_total > 0 THEN least(100 * backup_streamed / backup_total, 100)::text ELSE '' END"     \
	" FROM walarchive.stat_progress_backup WHERE " OF_SOURCE " ORDER BY source"

#define JSON_QUERY                                                                                                    \
	"SELECT json_build_object("                                                                                       \
	"'sources', (SELECT coalesce(json_agg(s ORDER BY s.source), '[]') FROM walarchive.status s WHERE " OF_SOURCE ")," \
	"'health', (SELECT coalesce(json_agg(h ORDER BY h.source NULLS FIRST, h.\"check\"), '[]')"                        \
	" FROM walarchive.health h WHERE " OF_SOURCE " OR source IS NULL),"                                               \
	"'backups_running', (SELECT coalesce(json_agg(b ORDER BY b.source), '[]')"                                        \
	" FROM walarchive.stat_progress_backup b WHERE " OF_SOURCE "))"

/* A result as a table whose columns are as wide as they have to be. */
static void
append_table(PQExpBuffer out, const PGresult *result)
{
	int columns = PQnfields(result);
	int rows = PQntuples(result);

	/* row -1 is the heading */
	for (int row = -1; row < rows; row++)
	{
		for (int column = 0; column < columns; column++)
		{
			size_t width = strlen(PQfname(result, column));
			const char *text = row < 0 ? PQfname(result, column) : PQgetvalue(result, row, column);

			for (int other = 0; other < rows; other++)
				width = Max(width, (size_t) PQgetlength(result, other, column));
			if (column + 1 == columns)
				appendPQExpBuffer(out, "%s\n", text);
			else
				appendPQExpBuffer(out, "%-*s  ", (int) width, text);
		}
	}
}

static void
append_problems(PQExpBuffer out, const PGresult *result)
{
	for (int row = 0; row < PQntuples(result); row++)
	{
		appendPQExpBuffer(out, "%s%-8s  %s %s: %s\n", row == 0 ? "\n" : "", PQgetvalue(result, row, 0),
						  PQgetvalue(result, row, 1), PQgetvalue(result, row, 2), PQgetvalue(result, row, 3));
		if (PQgetlength(result, row, 4) > 0)
			appendPQExpBuffer(out, "          %s\n", PQgetvalue(result, row, 4));
	}
	if (PQntuples(result) == 0)
		appendPQExpBufferStr(out, "\nAll is well.\n");
}

static void
append_backups(PQExpBuffer out, const PGresult *result)
{
	for (int row = 0; row < PQntuples(result); row++)
	{
		appendPQExpBuffer(out, "%sbackup %s of %s: %s", row == 0 ? "\n" : "", PQgetvalue(result, row, 1),
						  PQgetvalue(result, row, 0), PQgetvalue(result, row, 2));
		if (PQgetlength(result, row, 3) > 0)
			appendPQExpBuffer(out, ", %s of %s", PQgetvalue(result, row, 3), PQgetvalue(result, row, 4));
		if (PQgetlength(result, row, 5) > 0)
			appendPQExpBuffer(out, " (%s%%)", PQgetvalue(result, row, 5));
		appendPQExpBufferChar(out, '\n');
	}
}

/* All that is shown, once. */
static ArchiveStatus
look(Archive *archive, PQExpBuffer out)
{
	const char *source = archive->options->source;
	void (*const append[])(PQExpBuffer, const PGresult *) = {append_table, append_problems, append_backups};
	const char *const query[] = {SOURCES_QUERY, PROBLEMS_QUERY, BACKUPS_QUERY};
	const int columns[] = {11, 5, 6};
	ArchiveStatus status;

	if (archive->options->json)
	{
		PGresult *result = archive_server_query(archive, JSON_QUERY, 1, &source, 1, true, &status);

		if (result == NULL)
			return status;
		if (PQntuples(result) > 0)
			appendPQExpBuffer(out, "%s\n", PQgetvalue(result, 0, 0));
		PQclear(result);
	}
	for (size_t i = 0; !archive->options->json && i < lengthof(query); i++)
	{
		PGresult *result = archive_server_query(archive, query[i], 1, &source, columns[i], true, &status);

		if (result == NULL)
			return status;
		if (i == 0 && PQntuples(result) == 0)
		{
			PQclear(result);
			if (source != NULL)
				return archive_error(archive, ARCHIVE_NOT_FOUND, "\"walarchive status\" shows all sources.",
									 "there is no source \"%s\"", source);
			appendPQExpBufferStr(out, "There is no source yet: see walarchive.add_source().\n");
			continue;
		}
		append[i](out, result);
		PQclear(result);
	}
	return ARCHIVE_OK;
}

int
cmd_status(int argc, char **argv)
{
	CliOptions options;
	Archive *archive;
	ArchiveStatus status;
	PQExpBufferData out;
	bool redraw = isatty(STDOUT_FILENO);
	int watch = 0;
	int code;
	int c;

	cli_default_options(&options);
	while ((c = cli_getopt(argc, argv, "", long_options, &options)) != -1)
	{
		if (c == OPTION_WATCH)
		{
			watch = 2;
			if (optarg != NULL && !cli_parse_int("--watch", optarg, 1, 24 * 3600, &watch))
				return EXIT_USAGE;
		}
	}
	if (optind < argc)
		return cli_usage_error("there is an argument too many: \"%s\"", argv[optind]);
	if (options.archive_dir != NULL)
		return cli_usage_error("a bare archive directory has no status: only an archive host does");

	/* whoever watches wants to see at once that nothing comes any more */
	if (watch > 0)
		options.retry_seconds = 0;
	archive = archive_open(&options);
	initPQExpBuffer(&out);
	for (;;)
	{
		resetPQExpBuffer(&out);
		status = look(archive, &out);
		if (watch > 0 && redraw)
			fputs("\033[H\033[J", stdout);
		if (status == ARCHIVE_OK)
		{
			fputs(cli_clean_text(out.data), stdout);
			code = EXIT_DONE;
		}
		else
			code = archive_report(archive, status);
		fflush(stdout);
		if (watch == 0 || ferror(stdout) || (status != ARCHIVE_OK && status != ARCHIVE_UNREACHABLE))
			break;
		if (!redraw && !options.json)
			putchar('\n');
		pg_usleep(watch * 1000000L);
	}
	termPQExpBuffer(&out);
	archive_close(archive);
	return code;
}
