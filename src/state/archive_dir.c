/*-------------------------------------------------------------------------
 *
 * archive_dir.c
 *	  Paths below walarchive.directory, and durable small files.
 *
 * Syncs are made with fsync itself and not with pg_fsync: the host's own
 * "fsync = off" must not turn an archive's durability off.  A crash leaves at
 * most a file with the suffix ".tmp", which the next write replaces.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "archive_dir.h"
#include "fault_point.h"

const char *
wa_directory_problem(char *buffer, size_t size)
{
	struct stat st;

	if (wa_directory == NULL || wa_directory[0] == '\0')
		strlcpy(buffer, "\"walarchive.directory\" is not set", size);
	else if (stat(wa_directory, &st) != 0)
		snprintf(buffer, size, "could not access \"walarchive.directory\" \"%s\": %s",
				 wa_directory, strerror(errno));
	else if (!S_ISDIR(st.st_mode))
		snprintf(buffer, size, "\"walarchive.directory\" \"%s\" is not a directory",
				 wa_directory);
	else if (access(wa_directory, R_OK | W_OK | X_OK) != 0)
		snprintf(buffer, size, "\"walarchive.directory\" \"%s\" cannot be written: %s",
				 wa_directory, strerror(errno));
	else
	{
		/* symbolic links must not hide that it lies inside */
		char *real_dir = realpath(wa_directory, NULL);
		char *real_data = realpath(DataDir, NULL);
		bool inside = real_dir != NULL && real_data != NULL &&
					  path_is_prefix_of_path(real_data, real_dir);
		bool resolved = real_dir != NULL && real_data != NULL;

		free(real_dir);
		free(real_data);
		if (!resolved)
		{
			snprintf(buffer, size, "could not resolve \"walarchive.directory\" \"%s\"",
					 wa_directory);
			return buffer;
		}
		if (inside)
		{
			snprintf(buffer, size,
					 "\"walarchive.directory\" \"%s\" lies inside the data directory, where pg_upgrade and pg_rewind would remove it",
					 wa_directory);
			return buffer;
		}
		return NULL;
	}
	return buffer;
}

void
wa_join_path(char *path, const char *fmt, ...)
{
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(path, MAXPGPATH, fmt, args);
	va_end(args);
	if (n < 0 || n >= MAXPGPATH)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("path below \"walarchive.directory\" is too long"),
				 errhint("Choose a shorter \"walarchive.directory\".")));
}

void
wa_source_path(char *path, const char *source)
{
	/* names are checked when they enter; a last guard against "../" */
	if (!wa_source_name_is_valid(source))
		elog(ERROR, "invalid source name \"%s\"", source);
	wa_join_path(path, "%s/%s", wa_directory, source);
}

void
wa_source_file_path(char *path, const char *source, const char *file)
{
	if (!wa_source_name_is_valid(source))
		elog(ERROR, "invalid source name \"%s\"", source);
	wa_join_path(path, "%s/%s/%s", wa_directory, source, file);
}

void
wa_cluster_path(char *path, const char *source, uint64 sysid)
{
	if (!wa_source_name_is_valid(source))
		elog(ERROR, "invalid source name \"%s\"", source);
	wa_join_path(path, "%s/%s/" UINT64_FORMAT, wa_directory, source, sysid);
}

void
wa_wal_path(char *path, const char *source, uint64 sysid)
{
	if (!wa_source_name_is_valid(source))
		elog(ERROR, "invalid source name \"%s\"", source);
	wa_join_path(path, "%s/%s/" UINT64_FORMAT "/wal", wa_directory, source, sysid);
}

int
wa_lock_file(const char *path)
{
	int fd;
	int rc;

	fd = WA_FAULT(LOCK_CREATE, open(path, O_RDWR | O_CREAT | O_CLOEXEC, pg_file_create_mode));
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open lock file \"%s\": %m", path)));
	do
	{
		rc = flock(fd, LOCK_EX | LOCK_NB);
	} while (rc != 0 && errno == EINTR);
	if (rc == 0)
		return fd;
	if (errno != EWOULDBLOCK)
	{
		int save_errno = errno;

		close(fd);
		errno = save_errno;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not lock file \"%s\": %m", path)));
	}
	close(fd);
	return -1;
}

/* fsync of a path; directories are opened read-only */
static void
sync_path(const char *path, bool is_dir)
{
	int fd = open(path, (is_dir ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	int rc;

	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open \"%s\": %m", path)));
	rc = WA_FAULT(PARENT_FSYNC, fsync(fd));
	if (rc != 0)
	{
		int save_errno = errno;

		close(fd);
		errno = save_errno;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not fsync \"%s\": %m", path)));
	}
	close(fd);
}

/* The directory part of 'path', into MAXPGPATH bytes. */
static void
parent_of(const char *path, char *parent)
{
	strlcpy(parent, path, MAXPGPATH);
	get_parent_directory(parent);
}

bool
wa_make_directory(const char *path)
{
	char parent[MAXPGPATH];

	if (WA_FAULT(FOLDER_CREATE, mkdir(path, pg_dir_create_mode)) != 0)
	{
		if (errno == EEXIST)
			return false;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create directory \"%s\": %m", path)));
	}
	parent_of(path, parent);
	sync_path(parent, true);
	return true;
}

/*
 * Remove what processes that died left of the file at 'path': its name, a pid,
 * and ".tmp".  That of a process that lives is in use.
 */
static void
remove_leftovers(const char *path, const char *parent)
{
	const char *name = path + strlen(parent) + 1;
	size_t len = strlen(name);
	DIR *dir = AllocateDir(parent);
	struct dirent *de;

	while ((de = ReadDir(dir, parent)) != NULL)
	{
		char leftover[MAXPGPATH];
		char *end;
		long pid;

		if (strncmp(de->d_name, name, len) != 0 || de->d_name[len] != '.')
			continue;
		pid = strtol(de->d_name + len + 1, &end, 10);
		if (pid <= 0 || pid > PG_INT32_MAX || strcmp(end, ".tmp") != 0 || kill((pid_t) pid, 0) == 0 || errno != ESRCH)
			continue;
		/* if it can't be, it is in nobody's way */
		wa_join_path(leftover, "%s/%s", parent, de->d_name);
		(void) unlink(leftover);
	}
	FreeDir(dir);
}

void
wa_write_file(const char *path, const char *content, size_t len)
{
	char tmp[MAXPGPATH];
	char parent[MAXPGPATH];
	size_t done = 0;
	int fd;

	parent_of(path, parent);
	remove_leftovers(path, parent);
	/* two processes may write the same file, each its own version */
	wa_join_path(tmp, "%s.%d.tmp", path, (int) getpid());
	fd = WA_FAULT(FILE_CREATE, open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, pg_file_create_mode));
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\": %m", tmp)));
	while (done < len)
	{
		ssize_t n;

		errno = 0;
		n = WA_FAULT(FILE_WRITE, write(fd, content + done, WA_SHORT(len - done)));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			int save_errno = errno ? errno : ENOSPC;

			close(fd);
			(void) WA_FAULT(FILE_REMOVE, unlink(tmp));
			errno = save_errno;
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not write file \"%s\": %m", tmp)));
		}
		done += n;
	}
	if (WA_FAULT(FILE_FSYNC, fsync(fd)) != 0 || close(fd) != 0 || WA_FAULT(FILE_RENAME, rename(tmp, path)) != 0)
	{
		int save_errno = errno;

		(void) WA_FAULT(FILE_REMOVE, unlink(tmp));
		errno = save_errno;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not make file \"%s\" durable: %m", path)));
	}
	sync_path(parent, true);
}

char *
wa_read_file(const char *path, size_t limit, size_t *len)
{
	struct stat st;
	char *content;
	size_t done = 0;
	int fd;

	/* somebody may have put a fifo there */
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return NULL;
	if (fd < 0 || fstat(fd, &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	if (!S_ISREG(st.st_mode) || st.st_size < 0 || (uint64) st.st_size > limit)
	{
		close(fd);
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("\"%s\" is not a file of at most %zu bytes", path, limit)));
	}
	content = palloc(st.st_size + 1);
	while (done < (size_t) st.st_size)
	{
		ssize_t n = read(fd, content + done, st.st_size - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
		{
			int save_errno = errno;

			close(fd);
			errno = save_errno;
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read file \"%s\": %m", path)));
		}
		if (n == 0)
			break;
		done += n;
	}
	close(fd);
	content[done] = '\0';
	*len = done;
	return content;
}

/* Make the directory entry of 'path' durable; false with errno set. */
static bool
sync_parent(const char *path)
{
	char dir[MAXPGPATH];
	int fd;
	int save_errno;
	bool ok;

	strlcpy(dir, path, sizeof(dir));
	get_parent_directory(dir);
	fd = open(dir, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ok = WA_FAULT(LINES_PARENT_FSYNC, fsync(fd)) == 0;
	save_errno = errno;
	close(fd);
	errno = save_errno;
	return ok;
}

uint64
wa_append_lines(const char *path, const char *lines, size_t len)
{
	struct iovec part[2] = {{.iov_base = "\n", .iov_len = 1},
							{.iov_base = unconstify(char *, lines), .iov_len = len}};
	int first = 1;
	struct stat st;
	char last;
	int fd;
	ssize_t n;
	int save_errno;

	fd = WA_FAULT(LINES_CREATE, open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, pg_file_create_mode));
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) != 0)
		goto failed;
	/* end what a crash left unfinished, so that it spoils no other line */
	if (st.st_size > 0 && pread(fd, &last, 1, st.st_size - 1) == 1 && last != '\n')
		first = 0;
	errno = 0;
	n = WA_FAULT(LINES_WRITE, (part[1].iov_len = WA_SHORT(len), writev(fd, part + first, 2 - first)));
	if (n != (ssize_t) len + 1 - first)
	{
		if (errno == 0)
			errno = ENOSPC;
		goto failed;
	}
	if (WA_FAULT(LINES_FSYNC, fsync(fd)) != 0)
		goto failed;
	/* its directory entry, when these were the first lines */
	if (st.st_size == 0 && !sync_parent(path))
		goto failed;
	if (fstat(fd, &st) != 0)
		goto failed;
	close(fd);
	return (uint64) st.st_size;

failed:
	save_errno = errno;
	close(fd);
	errno = save_errno;
	return 0;
}
