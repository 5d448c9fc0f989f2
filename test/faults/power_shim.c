/*
 * What a loss of power would take: preloaded into a server, it writes down each
 * pwrite() to a file of WAL of an archive, and each fsync() and fdatasync() of one,
 * in the file $WA_POWER_LOG. A test that has killed the server puts zeroes where
 * written bytes were not synced, which is what they replaced, and starts it again.
 *
 * A record has five numbers of eight bytes, in this machine's order: what (1 has
 * been written, 2 a sync begins, 3 it has ended well), the file's inode, and for 1
 * offset and length, for 2 and 3 a number that both share. A sync covers what was
 * written down before it began. Names are not followed: renames are taken to
 * survive.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int log_fd = -1;
static atomic_uint syncs;

static int (*next_fsync)(int);
static int (*next_fdatasync)(int);
static ssize_t (*next_pwrite)(int, const void *, size_t, off_t);

__attribute__((constructor)) static void
open_log(void)
{
	const char *path = getenv("WA_POWER_LOG");
	int fd;

	*(void **) &next_fsync = dlsym(RTLD_NEXT, "fsync");
	*(void **) &next_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
	*(void **) &next_pwrite = dlsym(RTLD_NEXT, "pwrite");
	if (path == NULL || (fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) < 0)
		return;
	/* out of the way of programs that count their files */
	log_fd = fcntl(fd, F_DUPFD_CLOEXEC, 500);
	close(fd);
}

/* Is it a file of WAL?  Its inode, or 0. */
static uint64_t
wal_inode(int fd)
{
	char link[64];
	char path[4096];
	struct stat st;
	ssize_t len;

	if (log_fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, sizeof(path) - 1);
	if (len <= 0)
		return 0;
	path[len] = '\0';
	return strstr(path, "/wal/") != NULL ? st.st_ino : 0;
}

static void
note(uint64_t what, uint64_t inode, uint64_t a, uint64_t b)
{
	uint64_t record[5] = {what, inode, a, b, 0};
	int saved = errno;

	if (syscall(SYS_write, log_fd, record, sizeof(record)) != sizeof(record))
		abort();
	errno = saved;
}

ssize_t
pwrite(int fd, const void *buf, size_t len, off_t offset)
{
	ssize_t n = next_pwrite(fd, buf, len, offset);
	uint64_t inode;

	if (n > 0 && (inode = wal_inode(fd)) != 0)
		note(1, inode, (uint64_t) offset, (uint64_t) n);
	return n;
}

static int
noted_sync(int fd, int (*sync)(int))
{
	uint64_t inode = wal_inode(fd);
	uint64_t number;
	int rc;

	if (inode == 0)
		return sync(fd);
	number = ((uint64_t) getpid() << 32) | atomic_fetch_add(&syncs, 1);
	note(2, inode, number, 0);
	rc = sync(fd);
	if (rc == 0)
		note(3, inode, number, 0);
	return rc;
}

int
fsync(int fd)
{
	return noted_sync(fd, next_fsync);
}

int
fdatasync(int fd)
{
	return noted_sync(fd, next_fdatasync);
}

ssize_t pwrite64(int, const void *, size_t, off_t) __attribute__((alias("pwrite")));
