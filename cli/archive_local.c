/*-------------------------------------------------------------------------
 *
 * archive_local.c
 *	  WAL segments of an archive host on this very machine, read from its
 *	  directory instead of being sent.
 *
 * What a file is, and whether it may be had, the archive host says all the same.
 * Only a segment whose SHA-256 it knows is read here, and the reader compares:
 * so it does not matter whether the directory that is found under that name is
 * the right one.  A segment that is asked for a second time is sent.
 *
 *-------------------------------------------------------------------------
 */
#include "archive_server.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/hashfn.h"

/* So many names are kept in mind. */
#define MAX_TAKEN 64

typedef struct LocalWal
{
	char folder[MAXPGPATH];  /* empty: it is not here */
	uint32 taken[MAX_TAKEN]; /* hashes of the names of those read lately; 0: none */
	int ntaken;
} LocalWal;

bool
archive_local_is_here(const ServerArchive *server)
{
	return server->local != NULL && server->local->folder[0] != '\0';
}

void
archive_local_free(ServerArchive *server)
{
	pg_free(server->local);
	server->local = NULL;
}

void
archive_local_find(ServerArchive *server)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	LocalWal *local;
	ArchiveStatus status;
	PGresult *result;

	if (server->local != NULL)
		return;
	server->local = local = pg_malloc0(sizeof(LocalWal));
	if (server->base.options->all_sent ||
		getsockname(PQsocket(server->conn), (struct sockaddr *) &address, &len) != 0 || address.ss_family != AF_UNIX)
		return;
	if (!PQsendQueryParams(server->conn, "SELECT pg_catalog.current_setting('walarchive.directory', true)", 0, NULL, NULL, NULL,
						   NULL, 0))
		return;
	result = archive_server_answer(&server->base, server->conn, 1, ARCHIVE_READ_SILENCE, &status);
	if (result != NULL && PQntuples(result) == 1 && !PQgetisnull(result, 0, 0) &&
		PQgetvalue(result, 0, 0)[0] == '/' &&
		snprintf(local->folder, sizeof(local->folder), "%s/%s/" UINT64_FORMAT "/wal", PQgetvalue(result, 0, 0),
				 server->layout.source, server->layout.system_identifier) >= (int) sizeof(local->folder))
		local->folder[0] = '\0';
	PQclear(result);
	/* a folder is searched, not listed */
	if (local->folder[0] != '\0' && access(local->folder, X_OK) != 0)
		local->folder[0] = '\0';
}

/* Was it read here before?  From now on it was. */
static bool
taken_before(LocalWal *local, const char *name)
{
	uint32 hash = hash_bytes((const unsigned char *) name, (int) strlen(name)) | 1;

	for (int i = 0; i < MAX_TAKEN; i++)
	{
		if (local->taken[i] == hash)
			return true;
	}
	local->taken[local->ntaken++ % MAX_TAKEN] = hash;
	return false;
}

int
archive_local_open(ServerArchive *server, const char *name, const WalFileInfo *info)
{
	char path[MAXPGPATH * 2];
	struct stat st;
	int fd;

	if (!archive_local_is_here(server) || info->state != WAL_FILE_PRESENT || info->sha256[0] == '\0' ||
		info->valid != info->size || taken_before(server->local, name))
		return -1;
	snprintf(path, sizeof(path), "%s/%s", server->local->folder, name);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (uint64) st.st_size != info->size))
	{
		close(fd);
		fd = -1;
	}
	return fd;
}
