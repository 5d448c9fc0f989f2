/*-------------------------------------------------------------------------
 *
 * connect.h
 *	  Connections to the archive host.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_CLI_CONNECT_H
#define WA_CLI_CONNECT_H

#include "postgres_fe.h"

#include "libpq-fe.h"

#include "archive.h"
#include "options.h"

/*
 * One attempt to connect.  A password is asked for on a terminal where one is
 * needed and the options allow it, and is kept in 'options' for the next time.
 * NULL: error and hint of 'archive' say why, '*status' is ARCHIVE_DENIED or
 * ARCHIVE_UNREACHABLE.  The session has a safe search_path and its messages in
 * the server's language.
 */
extern PGconn *cli_connect(Archive *archive, ArchiveStatus *status);

/*
 * The connection of an Archive from archive_server_open, made or made again if
 * it is needed, with retries: for commands that ask the server other things
 * than struct Archive has.  NULL as above.
 */
extern PGconn *archive_server_connection(Archive *archive, ArchiveStatus *status);

/* Seconds of silence: while files are read, and of a query that may have much to do. */
#define ARCHIVE_READ_SILENCE 120
#define ARCHIVE_QUERY_SILENCE 1800

/*
 * Run a query with text parameters on that connection, again after a lost
 * connection if 'repeat' says that twice is as good as once.  The answer has
 * 'columns' columns, as text.  NULL: error and hint of 'archive' are set.  The
 * caller clears the result.
 */
extern PGresult *archive_server_query(Archive *archive, const char *query, int nparams,
									  const char *const *values, int columns, bool repeat,
									  ArchiveStatus *status);

/*
 * Wait until libpq has the next result of what was sent.  After so many seconds
 * (--timeout is asked first) without a byte: ARCHIVE_UNREACHABLE, and the
 * connection has to be closed.
 */
extern ArchiveStatus archive_server_await(Archive *archive, PGconn *conn, int seconds);

/*
 * The answer to one query that was sent: rows of so many columns, and no more of
 * them than a real one has.  NULL, with error and status, is also said of an
 * answer of any other kind; the caller looks whether the connection is still good.
 */
extern PGresult *archive_server_answer(Archive *archive, PGconn *conn, int columns, int seconds,
									   ArchiveStatus *status);

/* Is an error of this SQLSTATE (or of text that begins with one) of the kind that passes by itself? */
extern bool cli_error_passes(const char *sqlstate);

/* What an error of the server's means: by its SQLSTATE. Sets error and hint of 'archive'. */
extern ArchiveStatus archive_server_error(Archive *archive, const PGresult *result);

#endif /* WA_CLI_CONNECT_H */
