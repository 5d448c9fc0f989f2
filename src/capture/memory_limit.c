/*-------------------------------------------------------------------------
 *
 * memory_limit.c
 *	  How much memory a server can make a process take.  See memory_limit.h.
 *
 * The limit is RLIMIT_DATA, which on Linux covers all private memory that can
 * be written to, so neither shared buffers nor program text.  What a process
 * has when the limit is set depends on the postmaster that it was forked from,
 * and is read from /proc.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "memory_limit.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED
#endif
#endif

/* Bytes of private memory of this process; 0 if nobody says. */
static uint64
private_memory(void)
{
#ifdef SANITIZED
	return 0;
#else
	char text[4096];
	const char *line;
	ssize_t len;
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (len <= 0)
		return 0;
	text[len] = '\0';
	line = strstr(text, "\nVmData:");
	return line != NULL ? strtou64(line + strlen("\nVmData:"), NULL, 10) * 1024 : 0;
#endif
}

uint64
wa_limit_memory(uint64 bytes)
{
	struct rlimit limit;
	uint64 before;
	uint64 now = private_memory();

	if (getrlimit(RLIMIT_DATA, &limit) != 0)
		return 0;
	before = (uint64) limit.rlim_cur;
	if (now > 0 && (limit.rlim_cur == RLIM_INFINITY || before > now + bytes))
	{
		limit.rlim_cur = (rlim_t) (now + bytes);
		(void) setrlimit(RLIMIT_DATA, &limit);
	}
	return before;
}

void
wa_restore_memory_limit(uint64 before)
{
	struct rlimit limit;

	if (before == 0 || getrlimit(RLIMIT_DATA, &limit) != 0)
		return;
	limit.rlim_cur = (rlim_t) before;
	(void) setrlimit(RLIMIT_DATA, &limit);
}
