/*-------------------------------------------------------------------------
 *
 * slow_sync.c
 *	  A library for LD_PRELOAD that makes each flush of a file under one
 *	  directory take longer, as on a slow disk.
 *
 * WA_SLOW_SYNC_US is how many microseconds each fsync, fdatasync, syncfs
 * and each sync_file_range that waits, takes in addition, and
 * WA_SLOW_SYNC_PATH the directory; files elsewhere are as fast as ever, so
 * that only what a receiver archives is slow and not, say, the catalog of the
 * server that it runs in. Flushes that run at the same time are each delayed
 * by themselves: a device that is far away, not one that is overloaded.
 *
 * A write through a descriptor opened with O_DSYNC or O_SYNC, and one with
 * RWF_DSYNC or RWF_SYNC, is a flush as well. io_uring is not seen; no program
 * that is compared here uses it.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* a copy: servers overwrite their environment to show a process title */
static char slow_path[PATH_MAX];
static size_t slow_path_len;
static long slow_us;

static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_syncfs)(int);
static int (*real_sync_file_range)(int, off_t, off_t, unsigned);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static ssize_t (*real_pwritev2)(int, const struct iovec *, int, off_t, int);

static void __attribute__((constructor))
slow_sync_init(void)
{
	*(void **) &real_fsync = dlsym(RTLD_NEXT, "fsync");
	*(void **) &real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
	*(void **) &real_syncfs = dlsym(RTLD_NEXT, "syncfs");
	*(void **) &real_sync_file_range = dlsym(RTLD_NEXT, "sync_file_range");
	*(void **) &real_write = dlsym(RTLD_NEXT, "write");
	*(void **) &real_pwrite = dlsym(RTLD_NEXT, "pwrite");
	*(void **) &real_pwritev = dlsym(RTLD_NEXT, "pwritev");
	*(void **) &real_pwritev2 = dlsym(RTLD_NEXT, "pwritev2");
	if (getenv("WA_SLOW_SYNC_PATH") != NULL)
		snprintf(slow_path, sizeof(slow_path), "%s", getenv("WA_SLOW_SYNC_PATH"));
	slow_path_len = strlen(slow_path);
	if (getenv("WA_SLOW_SYNC_US") != NULL)
		slow_us = atol(getenv("WA_SLOW_SYNC_US"));
}

static bool
is_slow(int fd)
{
	char link[64];
	char path[PATH_MAX];
	ssize_t len;
	int saved_errno = errno;

	if (slow_us <= 0)
		return false;
	if (slow_path_len == 0)
		return true;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, sizeof(path));
	errno = saved_errno;
	return len >= (ssize_t) slow_path_len && memcmp(path, slow_path, slow_path_len) == 0;
}

/* Sleeps to an absolute time, so that signals do not make it longer. */
static void
wait_for_disk(void)
{
	struct timespec until;
	int saved_errno = errno;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += slow_us % 1000000 * 1000;
	until.tv_sec += slow_us / 1000000 + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
	errno = saved_errno;
}

/* A write is a flush if its descriptor was opened so. */
static bool
writes_through(int fd)
{
	int flags;

	if (slow_us <= 0)
		return false;
	flags = fcntl(fd, F_GETFL);
	return flags >= 0 && (flags & (O_DSYNC | O_SYNC)) != 0 && is_slow(fd);
}

int
fsync(int fd)
{
	int result = real_fsync(fd);

	if (is_slow(fd))
		wait_for_disk();
	return result;
}

int
fdatasync(int fd)
{
	int result = real_fdatasync(fd);

	if (is_slow(fd))
		wait_for_disk();
	return result;
}

int
syncfs(int fd)
{
	int result = real_syncfs(fd);

	if (is_slow(fd))
		wait_for_disk();
	return result;
}

int
sync_file_range(int fd, off_t offset, off_t len, unsigned flags)
{
	int result = real_sync_file_range(fd, offset, len, flags);

	if ((flags & (SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WAIT_AFTER)) != 0 && is_slow(fd))
		wait_for_disk();
	return result;
}

ssize_t
write(int fd, const void *buf, size_t len)
{
	ssize_t result = real_write(fd, buf, len);

	if (writes_through(fd))
		wait_for_disk();
	return result;
}

ssize_t
pwrite(int fd, const void *buf, size_t len, off_t offset)
{
	ssize_t result = real_pwrite(fd, buf, len, offset);

	if (writes_through(fd))
		wait_for_disk();
	return result;
}

ssize_t
pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	ssize_t result = real_pwritev(fd, iov, n, offset);

	if (writes_through(fd))
		wait_for_disk();
	return result;
}

ssize_t
pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	ssize_t result = real_pwritev2(fd, iov, n, offset, flags);

	if (((flags & (RWF_DSYNC | RWF_SYNC)) != 0 && is_slow(fd)) || writes_through(fd))
		wait_for_disk();
	return result;
}

ssize_t pwrite64(int, const void *, size_t, off_t) __attribute__((alias("pwrite")));
ssize_t pwritev64(int, const struct iovec *, int, off_t) __attribute__((alias("pwritev")));
ssize_t pwritev64v2(int, const struct iovec *, int, off_t, int) __attribute__((alias("pwritev2")));
