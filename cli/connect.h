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

/*
 * Run a query with text parameters and results on that connection, again after
 * a lost connection if 'repeat' says that twice is as good as once.  NULL: error
 * and hint of 'archive' are set.  The caller clears the result.
 */
extern PGresult *archive_server_query(Archive *archive, const char *query, int nparams,
									  const char *const *values, bool repeat,
									  ArchiveStatus *status);

/* What an error of the server's means: by its SQLSTATE. Sets error and hint of 'archive'. */
extern ArchiveStatus archive_server_error(Archive *archive, const PGresult *result);

#endif /* WA_CLI_CONNECT_H */
