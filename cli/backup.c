/*-------------------------------------------------------------------------
 *
 * backup.c
 *	  walarchive backup: have the archive host take a base backup, and watch.
 *
 * The archive host does the work: one connection waits for it, another one asks
 * how far it is.  Ctrl-C cancels the query, and with it the backup.  If this
 * program or the connection dies, the host goes on or gives the backup up as it
 * does with any session that asked for one.
 *
 *-------------------------------------------------------------------------
 */
#include "connect.h"

#include <limits.h>
#include <signal.h>
#include <sys/select.h>
#include <unistd.h>

#include "common/logging.h"

#include "../src/base/backup_label.h"

enum
{
	OPTION_INCREMENTAL = OPTION_OWN,
	OPTION_LABEL,
	OPTION_PARENT,
	OPTION_CHECKPOINT,
	OPTION_COMPRESS,
	OPTION_MAX_RATE,
	OPTION_NO_VERIFY,
	OPTION_MANIFEST,
	OPTION_FROM,
	OPTION_ANNOTATION,
	OPTION_NO_WAIT
};

static const struct option long_options[] = {
	{"incremental", no_argument, NULL, OPTION_INCREMENTAL},
	{"label", required_argument, NULL, OPTION_LABEL},
	{"parent", required_argument, NULL, OPTION_PARENT},
	{"checkpoint", required_argument, NULL, OPTION_CHECKPOINT},
	{"compress", required_argument, NULL, OPTION_COMPRESS},
	{"max-rate", required_argument, NULL, OPTION_MAX_RATE},
	{"no-verify-checksums", no_argument, NULL, OPTION_NO_VERIFY},
	{"manifest-checksums", required_argument, NULL, OPTION_MANIFEST},
	{"from", required_argument, NULL, OPTION_FROM},
	{"annotation", required_argument, NULL, OPTION_ANNOTATION},
	{"no-wait", no_argument, NULL, OPTION_NO_WAIT},
	{NULL, 0, NULL, 0},
};

#define TAKE_QUERY                                                                               \
	"SELECT walarchive.take_backup($1, kind => $2, label => $3, parent => $4, checkpoint => $5," \
	" compression => $6, max_rate => $7, verify_checksums => $8, manifest_checksums => $9,"      \
	" conninfo => $10, annotation => $11, wait => $12)"

#define PROGRESS_QUERY                                                                                                             \
	"SELECT coalesce(label, ''), coalesce(phase, ''),"                                                                             \
	" CASE WHEN phase = 'streaming database files' THEN pg_size_pretty(backup_streamed) END,"                                      \
	" CASE WHEN backup_total > 0 THEN pg_size_pretty(backup_total) END,"                                                           \
	" CASE WHEN backup_total > 0 THEN least(100 * backup_streamed / backup_total, 100)::text END,"                                 \
	" pg_size_pretty((backup_streamed / greatest(extract(epoch FROM clock_timestamp() - phase_since), 1))::bigint),"               \
	" CASE WHEN backup_total > backup_streamed AND backup_streamed > 0"                                                            \
	" THEN date_trunc('second', (clock_timestamp() - phase_since) * (backup_total - backup_streamed) / backup_streamed)::text END" \
	" FROM walarchive.stat_progress_backup WHERE source = $1"

#define RESULT_QUERY                                                                                           \
	"SELECT row_to_json(b), pg_size_pretty(size), date_trunc('second', finished_at - started_at)::text, state" \
	" FROM (SELECT source, label, kind, parent, state, reason, timeline, start_lsn, stop_lsn, started_at,"     \
	" finished_at, size, compression FROM walarchive.backup WHERE source = $1 AND label = $2) b"

static volatile sig_atomic_t interrupted = 0;

static void
on_interrupt(int signo)
{
	(void) signo;
	interrupted++;
}

/* One line that is written over; only on a terminal. */
static void
show_progress(Archive *progress, const char *source)
{
	ArchiveStatus status;
	PGresult *result = archive_server_query(progress, PROGRESS_QUERY, 1, &source, 7, false, &status);

	if (result == NULL)
		return;
	if (PQntuples(result) > 0)
	{
		/* what is shown is one line of words and figures */
		for (int i = 0; i < PQnfields(result); i++)
			cli_clean_text(PQgetvalue(result, 0, i));
		fprintf(stderr, "\r%s: %s", PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 1));
		if (!PQgetisnull(result, 0, 2))
		{
			fprintf(stderr, ", %s", PQgetvalue(result, 0, 2));
			if (!PQgetisnull(result, 0, 3))
				fprintf(stderr, " of %s (%s%%)", PQgetvalue(result, 0, 3), PQgetvalue(result, 0, 4));
			fprintf(stderr, ", %s/s", PQgetvalue(result, 0, 5));
			if (!PQgetisnull(result, 0, 6))
				fprintf(stderr, ", %s left", PQgetvalue(result, 0, 6));
		}
		fputs("\033[K", stderr);
		fflush(stderr);
	}
	PQclear(result);
}

/* Wait for the answer of a query that was sent; NULL: error and status of 'archive' are set. */
static PGresult *
wait_for_answer(Archive *archive, PGconn *conn, Archive *progress, const char *source,
				ArchiveStatus *status)
{
	PGresult *result;
	bool cancelled = false;

	for (;;)
	{
		int fd = PQsocket(conn);
		struct timeval timeout = {0, 500000};
		fd_set set;

		if (fd < 0 || fd >= FD_SETSIZE || PQconsumeInput(conn) == 0)
			break;
		if (!PQisBusy(conn))
			break;
		if (interrupted > 0 && !cancelled)
		{
			PGcancel *cancel = PQgetCancel(conn);
			char error[256];

			if (cancel != NULL && !PQcancel(cancel, error, sizeof(error)))
				pg_log_warning("could not cancel: %s", error);
			PQfreeCancel(cancel);
			cancelled = true;
		}
		if (interrupted > 1)
			exit(EXIT_NO);
		FD_ZERO(&set);
		FD_SET(fd, &set);
		if (select(fd + 1, &set, NULL, NULL, &timeout) == 0 && progress != NULL)
			show_progress(progress, source);
	}
	if (progress != NULL)
	{
		fputs("\r\033[K", stderr);
		fflush(stderr);
	}
	result = archive_server_answer(archive, conn, 1, ARCHIVE_READ_SILENCE, status);
	if (result == NULL && PQstatus(conn) != CONNECTION_OK)
		*status = archive_error(archive, ARCHIVE_UNREACHABLE,
								"\"walarchive status\" shows whether the backup goes on.",
								"the connection was lost: %s", PQerrorMessage(conn));
	if (result != NULL && (PQntuples(result) != 1 || !wa_backup_label_is_valid(PQgetvalue(result, 0, 0))))
	{
		*status = archive_error(archive, ARCHIVE_FAILED, "\"walarchive status\" shows whether there is a backup.",
								"the archive host's answer is not understood");
		PQclear(result);
		result = NULL;
	}
	return result;
}

/* Label, or all that is known of it. */
static void
print_backup(Archive *archive, const char *label)
{
	const char *values[2] = {archive->options->source, label};
	ArchiveStatus status;
	PGresult *result = archive_server_query(archive, RESULT_QUERY, 2, values, 4, true, &status);

	for (int i = 0; result != NULL && PQntuples(result) > 0 && i < PQnfields(result); i++)
		cli_clean_text(PQgetvalue(result, 0, i));
	if (archive->options->json && result != NULL && PQntuples(result) > 0)
		puts(PQgetvalue(result, 0, 0));
	else if (archive->options->json)
		printf("{\"label\": \"%s\"}\n", label);
	else
	{
		puts(label);
		if (result != NULL && PQntuples(result) > 0 && isatty(STDERR_FILENO))
			fprintf(stderr, "%s in %s, %s\n", PQgetvalue(result, 0, 1), PQgetvalue(result, 0, 2),
					PQgetvalue(result, 0, 3));
	}
	PQclear(result);
}

int
cmd_backup(int argc, char **argv)
{
	CliOptions options;
	Archive *archive;
	Archive *progress = NULL;
	ArchiveStatus status = ARCHIVE_UNREACHABLE;
	PGconn *conn;
	PGresult *result = NULL;
	const char *values[12] = {
		NULL, "full", NULL, NULL, "fast", "none", NULL, "true", "SHA256", NULL, NULL, "true"};
	int code = EXIT_DONE;
	int c;

	cli_default_options(&options);
	while ((c = cli_getopt(argc, argv, "", long_options, &options)) != -1)
	{
		switch (c)
		{
			case OPTION_INCREMENTAL:
				values[1] = "incremental";
				break;
			case OPTION_LABEL:
				values[2] = optarg;
				break;
			case OPTION_PARENT:
				values[1] = "incremental";
				values[3] = optarg;
				break;
			case OPTION_CHECKPOINT:
				values[4] = optarg;
				break;
			case OPTION_COMPRESS:
				values[5] = optarg;
				break;
			case OPTION_MAX_RATE:
			{
				uint64 bytes;

				if (!cli_parse_size("--max-rate", optarg, &bytes))
					return EXIT_USAGE;
				/* the server takes kB */
				if (bytes < 1024 || bytes / 1024 > INT_MAX)
					return cli_usage_error("option --max-rate takes bytes per second, from 1kB on, not \"%s\"", optarg);
				values[6] = psprintf("%d", (int) (bytes / 1024));
				break;
			}
			case OPTION_NO_VERIFY:
				values[7] = "false";
				break;
			case OPTION_MANIFEST:
				values[8] = optarg;
				break;
			case OPTION_FROM:
				values[9] = optarg;
				break;
			case OPTION_ANNOTATION:
				values[10] = optarg;
				break;
			case OPTION_NO_WAIT:
				values[11] = "false";
				break;
		}
	}
	if (optind < argc)
		return cli_usage_error("there is an argument too many: \"%s\"", argv[optind]);
	if (options.archive_dir != NULL)
		return cli_usage_error("only an archive host takes backups, not a bare archive directory");
	if (options.source == NULL)
		return cli_usage_error("no source is named (--source)");
	values[0] = options.source;

	archive = archive_open(&options);
	conn = archive_server_connection(archive, &status);
	if (conn != NULL)
	{
		if (isatty(STDERR_FILENO) && !options.json && strcmp(values[11], "true") == 0)
			progress = archive_clone(archive);
		signal(SIGINT, on_interrupt);
		if (PQsendQueryParams(conn, TAKE_QUERY, lengthof(values), NULL, values, NULL, NULL, 0) != 0)
			result = wait_for_answer(archive, conn, progress, options.source, &status);
		else
			status = archive_error(archive, ARCHIVE_UNREACHABLE, NULL, "%s", PQerrorMessage(conn));
		signal(SIGINT, SIG_DFL);
	}
	if (result != NULL)
		print_backup(archive, PQgetvalue(result, 0, 0));
	else
		code = archive_report(archive, status);
	PQclear(result);
	if (progress != NULL)
		archive_close(progress);
	archive_close(archive);
	return code;
}
