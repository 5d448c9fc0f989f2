/*
 * A clock that can be set wrong: preloaded into a server, it adds to what
 * gettimeofday() says the microseconds that the file $WA_CLOCK_FILE holds (eight
 * bytes, this machine's order; it may be written at any time).  Times of commits
 * then go forth and back, as those of a server do whose clock is corrected.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset;

__attribute__((constructor)) static void
map_offset(void)
{
	const char *path = getenv("WA_CLOCK_FILE");
	void *map;
	int fd;

	if (path == NULL || (fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return;
	map = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		offset = map;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	struct timespec now;
	int64_t us;

	(void) tz;
	if (clock_gettime(CLOCK_REALTIME, &now) != 0)
		return -1;
	us = (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000 + (offset != NULL ? *offset : 0);
	tv->tv_sec = us / 1000000;
	tv->tv_usec = us % 1000000;
	return 0;
}
