/*-------------------------------------------------------------------------
 *
 * connect.c
 *	  One attempt to connect to the archive host.
 *
 *-------------------------------------------------------------------------
 */
#include "connect.h"

#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "common/string.h"

/* Seconds for a host of the connection string that does not answer. */
#define CONNECT_TIMEOUT "10"

/* SQLSTATEs, or the beginnings of some: lost, a transaction's bad luck, too much at once, locked, starting or stopping. */
static const char *const passing[] = {"08", "40", "53", "55P03", "57P"};

bool
cli_error_passes(const char *sqlstate)
{
	for (int i = 0; i < (int) lengthof(passing); i++)
	{
		if (strncmp(sqlstate, passing[i], strlen(passing[i])) == 0)
			return true;
	}
	return false;
}

/* Finish a connection that was begun, whatever becomes of it; false if it takes too long. */
static bool
finish_connecting(PGconn *conn)
{
	time_t deadline = time(NULL) + atoi(CONNECT_TIMEOUT);
	PostgresPollingStatusType wants = PGRES_POLLING_WRITING;

	while (wants != PGRES_POLLING_OK && wants != PGRES_POLLING_FAILED)
	{
		struct pollfd p = {PQsocket(conn), wants == PGRES_POLLING_READING ? POLLIN : POLLOUT, 0};

		if (time(NULL) >= deadline)
			return false;
		if (poll(&p, 1, 1000) != 0)
			wants = PQconnectPoll(conn);
	}
	return true;
}

/*
 * Does a server that answers refuse us for good?  Before there is a session
 * libpq tells the SQLSTATE only in its text, and only if the verbosity was set
 * between beginning and end of the connecting; so this is one attempt more.  What
 * the first one said may have passed since (a server was starting), so only the
 * second one's errors count.
 */
static bool
is_refused_for_good(const char *const *keywords, const char *const *values)
{
	PGconn *conn = PQconnectStartParams(keywords, values, 1);
	bool refused = false;

	if (conn != NULL && PQstatus(conn) != CONNECTION_BAD)
	{
		(void) PQsetErrorVerbosity(conn, PQERRORS_SQLSTATE);
		if (finish_connecting(conn) && PQstatus(conn) != CONNECTION_OK)
		{
			/* "FATAL:  28P01", a line for each host; libpq's own errors have none */
			for (const char *at = PQerrorMessage(conn); (at = strstr(at, ":  ")) != NULL; at += 3)
			{
				if (strspn(at + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 5 || at[8] != '\n')
					continue;
				refused = !cli_error_passes(at + 3);
				if (!refused)
					break;
			}
			/* libpq itself: the server wants what we have not */
			refused = refused || PQconnectionNeedsPassword(conn);
		}
	}
	PQfinish(conn);
	return refused;
}

/* Is it of no use to try again? */
static bool
is_refusal(const PGconn *conn, const char *const *keywords, const char *const *values)
{
	if (PQconnectionNeedsPassword(conn))
		return true;
	/* who asks for a password answers; one that is wrong is not sent again: accounts are locked for that */
	if (PQconnectionUsedPassword(conn))
		return strstr(PQerrorMessage(conn), "authentication failed") != NULL || is_refused_for_good(keywords, values);
	switch (PQpingParams(keywords, values, 1))
	{
		case PQPING_OK: /* it answers: then it may be about us */
			return is_refused_for_good(keywords, values);
		case PQPING_NO_ATTEMPT: /* the connection string is wrong */
			return true;
		default:
			return false;
	}
}

/* A warning of the server's; what steers a terminal is taken out. */
static void
print_notice(void *arg, const char *message)
{
	char *text = cli_clean_text(pg_strdup(message));

	(void) arg;
	fputs(text, stderr);
	pg_free(text);
}

PGconn *
cli_connect(Archive *archive, ArchiveStatus *status)
{
	/* the password that was typed is kept for later connections */
	CliOptions *options = unconstify(CliOptions *, archive->options);
	bool may_ask = !options->no_password && isatty(STDIN_FILENO);

	if (options->ask_password && options->password == NULL && may_ask)
		options->password = simple_prompt("Password: ", false);
	for (;;)
	{
		const char *keywords[12];
		const char *values[12];
		int n = 0;
		PGconn *conn;

		/* before the connection string, which may say otherwise */
		keywords[n] = "connect_timeout";
		values[n++] = getenv("PGCONNECT_TIMEOUT") != NULL ? NULL : CONNECT_TIMEOUT;
		keywords[n] = "fallback_application_name";
		values[n++] = "walarchive";
		/* a link that is cut without a word is noticed */
		keywords[n] = "keepalives_idle";
		values[n++] = "10";
		keywords[n] = "keepalives_interval";
		values[n++] = "5";
		keywords[n] = "tcp_user_timeout";
		values[n++] = "30000";
		keywords[n] = "dbname";
		values[n++] = options->dbname;
		keywords[n] = "host";
		values[n++] = options->host;
		keywords[n] = "port";
		values[n++] = options->port;
		keywords[n] = "user";
		values[n++] = options->user;
		if (options->password != NULL)
		{
			keywords[n] = "password";
			values[n++] = options->password;
		}
		keywords[n] = NULL;
		values[n] = NULL;

		conn = PQconnectdbParams(keywords, values, 1);
		if (conn == NULL)
		{
			*status = archive_error(archive, ARCHIVE_FAILED, NULL, "out of memory");
			return NULL;
		}
		if (PQstatus(conn) == CONNECTION_OK)
		{
			PGresult *result = NULL;

			(void) PQsetNoticeProcessor(conn, print_notice, NULL);
			/* no notices of the server's between the bytes; nobody else's functions */
			if (PQsendQueryParams(conn, "SELECT pg_catalog.set_config('search_path', '', false), "
										"pg_catalog.set_config('client_min_messages', 'warning', false), "
										"pg_catalog.set_config('bytea_output', 'hex', false), "
										"pg_catalog.set_config('datestyle', 'ISO', false), "
										"pg_catalog.set_config('intervalstyle', 'postgres', false), "
										"pg_catalog.set_config('statement_timeout', '0', false)",
								  0, NULL, NULL, NULL, NULL, 0))
				result = archive_server_answer(archive, conn, 6, ARCHIVE_READ_SILENCE, status);
			else
				archive_error(archive, ARCHIVE_UNREACHABLE, NULL, "%s", PQerrorMessage(conn));
			if (result != NULL)
			{
				PQclear(result);
				return conn;
			}
			*status = ARCHIVE_UNREACHABLE;
			PQfinish(conn);
			return NULL;
		}
		if (PQconnectionNeedsPassword(conn) && options->password == NULL && may_ask)
		{
			PQfinish(conn);
			options->password = simple_prompt("Password: ", false);
			continue;
		}
		*status = is_refusal(conn, keywords, values) ? ARCHIVE_DENIED : ARCHIVE_UNREACHABLE;
		archive_error(archive, *status, NULL, "%s", PQerrorMessage(conn));
		if (PQconnectionNeedsPassword(conn) && options->password == NULL)
			archive_error(archive, *status, "Put the password into a password file (~/.pgpass, mode 0600).", "%s",
						  archive->error);
		PQfinish(conn);
		return NULL;
	}
}
