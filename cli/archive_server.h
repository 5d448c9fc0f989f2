/*-------------------------------------------------------------------------
 *
 * archive_server.h
 *	  What archive_server.c and archive_stream.c share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_CLI_ARCHIVE_SERVER_H
#define WA_CLI_ARCHIVE_SERVER_H

#include "connect.h"

#include "../src/base/wal_name.h"

#define WAL_FILE_QUERY \
	"SELECT state, size, sha256, detail, valid_bytes FROM walarchive.wal_file($1, $2, plan_id => $3)"
#define READ_WAL_QUERY \
	"SELECT walarchive.stream_wal($1, $2, \"offset\" => $3, length => $4, plan_id => $5)"
#define READ_BACKUP_QUERY \
	"SELECT walarchive.stream_backup_file($1, $2, $3, \"offset\" => $4, length => $5)"

typedef struct ServerArchive
{
	Archive base;
	PGconn *conn;  /* NULL: not connected */
	bool reached;  /* there was a connection, of this archive or of the one that it was made after */
	bool prepared; /* the connection has the statements of archive_stream.c */
	char *plan_ref;
	bool has_layout;
	ArchiveLayout layout;
	struct LocalWal *local; /* archive_local.c; NULL: not looked for yet */
} ServerArchive;

/* How long something has failed already; zero at first. */
typedef struct ArchiveRetry
{
	double since; /* seconds */
	int delay_ms;
} ArchiveRetry;

/* The connection is of no use any more. */
extern void archive_server_lost(ServerArchive *server);

/* Wait before the next attempt; false: that was the last one. */
extern bool archive_server_wait(const ServerArchive *server, ArchiveRetry *retry);

/* Take apart a row of WAL_FILE_QUERY, in text format. */
extern ArchiveStatus archive_server_wal_info(Archive *archive, const PGresult *result, WalFileInfo *info);

/* ---- archive_local.c ---- */

/* Look whether the archive host's files can be opened here; the connection is idle. */
extern void archive_local_find(ServerArchive *server);
extern bool archive_local_is_here(const ServerArchive *server);
extern void archive_local_free(ServerArchive *server);

/*
 * Open a segment of which the archive host knows the checksum, -1: it has to
 * be sent.  What is read of it is to be checked with that.
 */
extern int archive_local_open(ServerArchive *server, const char *name, const WalFileInfo *info);

/* ArchiveMethods.read */
extern ArchiveStatus archive_server_read(Archive *archive, const ArchiveReader *reader);

#endif /* WA_CLI_ARCHIVE_SERVER_H */
