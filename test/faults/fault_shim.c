/*-------------------------------------------------------------------------
 *
 * fault_shim.c
 *	  A library for LD_PRELOAD that makes file operations fail, stall or kill
 *	  on command, for the TAP tests.
 *
 * The commands are the lines of the file named by the environment variable
 * WA_FAULT_FILE. It is looked at (stat) on each intercepted call and read
 * again whenever it changed, so a test arms and disarms faults while the
 * servers run. Write it under another name and rename it into place: then no
 * call sees half of it. No file, or an empty one: no faults.
 *
 *	  <call>:<what>:<path substring>:<count>
 *
 * call	  fsync, fdatasync, sync_file_range, read, write (all of write, writev,
 *		  pwrite, pwritev, pwritev2, fallocate, posix_fallocate), open (open,
 *		  openat, creat), rename (rename, renameat, renameat2; both names are
 *		  looked at), link, unlink, ftruncate, mkdir
 * what	  the name of an error (EIO, ENOSPC, EDQUOT, EACCES, EROFS, EMFILE, ...)
 *		  or its number: the call is not made and fails so;
 *		  SHORT: write, pwrite, writev, ... write the first half only;
 *		  KILL: SIGKILL to the calling process before the call;
 *		  KILL_AFTER: the call is made, then SIGKILL;
 *		  STOP: SIGSTOP before the call;
 *		  DELAY=<microseconds>: the call is made that much later;
 *		  DELAY_AFTER=<microseconds>: the call is made and returns that much later
 * path	  part of the path of the file, or its end if a '$' follows; empty or
 *		  left out: every file. A pipe's is "pipe:[number]"
 * count  how often; empty, left out or 0: always
 *
 *	  free:<bytes>:<path substring>		statvfs and fstatvfs report so much room
 *	  delay_<call>_us:<microseconds>	short for <call>:DELAY=<microseconds>
 *
 * A line beginning with # is a comment. The first line that fits decides,
 * except that a DELAY goes on to the following lines. Unknown commands abort the
 * process: a test with a misspelt fault would prove nothing.
 *
 * What it promises to the programs it is loaded into: nothing is allocated
 * and no lock is waited for, so it may be called by several threads and in
 * signal handlers. Counts are shared by all processes forked from the one
 * that loaded it (a postmaster and its children), and begin anew when the
 * file changes. io_uring and raw system calls are not seen.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MAX_RULES 32
#define FILE_MAX 4096
#define COUNTERS 256

typedef enum Call
{
	CALL_NONE,
	CALL_FSYNC,
	CALL_FDATASYNC,
	CALL_SYNC_FILE_RANGE,
	CALL_READ,
	CALL_WRITE,
	CALL_OPEN,
	CALL_RENAME,
	CALL_LINK,
	CALL_UNLINK,
	CALL_FTRUNCATE,
	CALL_MKDIR,
	CALL_FREE
} Call;

static const struct
{
	const char *name;
	Call call;
} call_names[] = {
	{"fsync", CALL_FSYNC},
	{"fdatasync", CALL_FDATASYNC},
	{"sync_file_range", CALL_SYNC_FILE_RANGE},
	{"read", CALL_READ},
	{"write", CALL_WRITE},
	{"open", CALL_OPEN},
	{"rename", CALL_RENAME},
	{"link", CALL_LINK},
	{"unlink", CALL_UNLINK},
	{"ftruncate", CALL_FTRUNCATE},
	{"mkdir", CALL_MKDIR},
	{"free", CALL_FREE},
};

static const struct
{
	const char *name;
	int number;
} error_names[] = {
	{"EIO", EIO},
	{"ENOSPC", ENOSPC},
	{"EDQUOT", EDQUOT},
	{"EACCES", EACCES},
	{"EPERM", EPERM},
	{"EROFS", EROFS},
	{"EMFILE", EMFILE},
	{"ENFILE", ENFILE},
	{"ENOENT", ENOENT},
	{"EEXIST", EEXIST},
	{"EINTR", EINTR},
	{"EAGAIN", EAGAIN},
	{"EFBIG", EFBIG},
	{"EBADF", EBADF},
	{"EINVAL", EINVAL},
	{"ENOTDIR", ENOTDIR},
	{"EOPNOTSUPP", EOPNOTSUPP},
	{"ESTALE", ESTALE},
	{"ETIMEDOUT", ETIMEDOUT},
};

typedef enum Action
{
	ACT_PASS,
	ACT_ERROR,
	ACT_SHORT,
	ACT_KILL,
	ACT_KILL_AFTER,
	ACT_STOP,
	ACT_DELAY,
	ACT_DELAY_AFTER,
	ACT_FREE
} Action;

typedef struct Rule
{
	Call call;
	Action action;
	long long number; /* errno, microseconds or bytes */
	unsigned count;   /* 0: always */
	char path[160];
} Rule;

/* what the file was when its rules were read; enough to notice a change */
typedef struct Identity
{
	ino_t ino;
	off_t size;
	struct timespec mtime;
} Identity;

typedef struct Rules
{
	int n;
	uint64_t key; /* of the file's identity, never 0; keeps counts apart */
	Rule rule[MAX_RULES];
} Rules;

/* a copy: servers overwrite their environment to show a process title */
static char fault_file[PATH_MAX];

/*
 * Counts: the upper 40 bits say whose (file and line), the lower 24 how many
 * times the fault has struck. Shared by fork.
 */
static _Atomic uint64_t *counters;

static void
fatal(const char *message, const char *detail)
{
	char line[512];
	int len = snprintf(line, sizeof(line), "fault_shim: %s: %s\n", message, detail);

	if (syscall(SYS_write, 2, line, (size_t) len) < 0)
	{
		/* nobody left to tell */
	}
	_exit(97);
}

static void *
real(const char *name)
{
	void *f = dlsym(RTLD_NEXT, name);

	if (f == NULL)
		fatal("no such function", name);
	return f;
}

/* resolved once, by the constructor: dlsym may allocate */
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_sync_file_range)(int, off_t, off_t, unsigned);
static ssize_t (*real_read)(int, void *, size_t);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static ssize_t (*real_pwritev2)(int, const struct iovec *, int, off_t, int);
static int (*real_fallocate)(int, int, off_t, off_t);
static int (*real_posix_fallocate)(int, off_t, off_t);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_renameat2)(int, const char *, int, const char *, unsigned);
static int (*real_linkat)(int, const char *, int, const char *, int);
static int (*real_unlinkat)(int, const char *, int);
static int (*real_ftruncate)(int, off_t);
static int (*real_mkdir)(const char *, mode_t);
static int (*real_statvfs)(const char *, struct statvfs *);
static int (*real_fstatvfs)(int, struct statvfs *);

static void __attribute__((constructor))
fault_shim_init(void)
{
	/* another library may have called this one before there was an environment */
	if (fault_file[0] == '\0' && getenv("WA_FAULT_FILE") != NULL)
		snprintf(fault_file, sizeof(fault_file), "%s", getenv("WA_FAULT_FILE"));
	if (counters != NULL)
		return;
	*(void **) &real_fsync = real("fsync");
	*(void **) &real_fdatasync = real("fdatasync");
	*(void **) &real_sync_file_range = real("sync_file_range");
	*(void **) &real_read = real("read");
	*(void **) &real_write = real("write");
	*(void **) &real_writev = real("writev");
	*(void **) &real_pwrite = real("pwrite");
	*(void **) &real_pwritev = real("pwritev");
	*(void **) &real_pwritev2 = real("pwritev2");
	*(void **) &real_fallocate = real("fallocate");
	*(void **) &real_posix_fallocate = real("posix_fallocate");
	*(void **) &real_openat = real("openat");
	*(void **) &real_renameat2 = real("renameat2");
	*(void **) &real_linkat = real("linkat");
	*(void **) &real_unlinkat = real("unlinkat");
	*(void **) &real_ftruncate = real("ftruncate");
	*(void **) &real_mkdir = real("mkdir");
	*(void **) &real_statvfs = real("statvfs");
	*(void **) &real_fstatvfs = real("fstatvfs");
	counters = mmap(NULL, COUNTERS * sizeof(uint64_t), PROT_READ | PROT_WRITE,
					MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counters == MAP_FAILED)
		fatal("could not map memory", "counters");
}

static void
set_action(Rule *rule, const char *what, const char *line)
{
	char *end;

	if (rule->call == CALL_FREE)
	{
		rule->action = ACT_FREE;
		rule->number = strtoll(what, &end, 10);
		if (end == what || *end != '\0')
			fatal("not a number of bytes", line);
		return;
	}
	rule->action = ACT_ERROR;
	if (strcmp(what, "SHORT") == 0)
		rule->action = ACT_SHORT;
	else if (strcmp(what, "KILL") == 0)
		rule->action = ACT_KILL;
	else if (strcmp(what, "KILL_AFTER") == 0)
		rule->action = ACT_KILL_AFTER;
	else if (strcmp(what, "STOP") == 0)
		rule->action = ACT_STOP;
	else if (strncmp(what, "DELAY=", 6) == 0 || strncmp(what, "DELAY_AFTER=", 12) == 0)
	{
		const char *number = strchr(what, '=') + 1;

		rule->action = what[5] == '=' ? ACT_DELAY : ACT_DELAY_AFTER;
		rule->number = strtoll(number, &end, 10);
		if (end == number || *end != '\0')
			fatal("not a number of microseconds", line);
	}
	else
	{
		for (size_t i = 0; i < sizeof(error_names) / sizeof(error_names[0]); i++)
			if (strcmp(what, error_names[i].name) == 0)
				rule->number = error_names[i].number;
		if (rule->number == 0)
			rule->number = strtoll(what, &end, 10);
		if (rule->number <= 0)
			fatal("unknown error or action", line);
	}
}

static Call
call_of(const char *name, size_t len)
{
	for (size_t i = 0; i < sizeof(call_names) / sizeof(call_names[0]); i++)
		if (strlen(call_names[i].name) == len && strncmp(name, call_names[i].name, len) == 0)
			return call_names[i].call;
	return CALL_NONE;
}

/* Reads one line, without its newline, which it cuts into pieces. */
static void
parse_line(char *line, Rules *rules)
{
	char copy[256];
	char *field[4] = {line, NULL, NULL, NULL};
	char delay[64];
	Rule *rule;
	size_t len;

	if (line[0] == '\0' || line[0] == '#')
		return;
	snprintf(copy, sizeof(copy), "%.250s", line);
	if (rules->n >= MAX_RULES)
		fatal("too many rules", copy);
	rule = &rules->rule[rules->n];
	memset(rule, 0, sizeof(*rule));
	for (int i = 1; i < 4 && field[i - 1] != NULL; i++)
	{
		field[i] = strchr(field[i - 1], ':');
		if (field[i] != NULL)
			*field[i]++ = '\0';
	}
	if (field[1] == NULL)
		fatal("expected <call>:<what>[:<path>[:<count>]]", copy);

	len = strlen(field[0]);
	if (len > 9 && strncmp(field[0], "delay_", 6) == 0 && strcmp(field[0] + len - 3, "_us") == 0)
	{
		rule->call = call_of(field[0] + 6, len - 9);
		snprintf(delay, sizeof(delay), "DELAY=%s", field[1]);
		field[1] = delay;
	}
	else
		rule->call = call_of(field[0], len);
	if (rule->call == CALL_NONE)
		fatal("unknown call", copy);
	set_action(rule, field[1], copy);
	if (field[2] != NULL)
	{
		if (strlen(field[2]) >= sizeof(rule->path))
			fatal("path too long", copy);
		strcpy(rule->path, field[2]);
	}
	if (field[3] != NULL)
		rule->count = (unsigned) strtoul(field[3], NULL, 10);
	rules->n++;
}

/*
 * Reads the file anew. A change between the stat and the read is noticed by
 * the next call.
 */
static void
read_rules(const Identity *id, Rules *rules)
{
	char text[FILE_MAX + 1];
	char *line = text;
	char *end;
	size_t len = 0;
	ssize_t got;
	long fd = syscall(SYS_openat, AT_FDCWD, fault_file, O_RDONLY | O_CLOEXEC);

	rules->n = 0;
	if (fd < 0)
		return;
	while (len < FILE_MAX && (got = syscall(SYS_read, fd, text + len, FILE_MAX - len)) > 0)
		len += (size_t) got;
	syscall(SYS_close, fd);
	if (len == FILE_MAX)
		fatal("file is too long", fault_file);
	text[len] = '\0';

	/* FNV-1a over what tells this version of the file from others */
	rules->key = 14695981039346656037ULL;
	rules->key = (rules->key ^ (uint64_t) id->ino) * 1099511628211ULL;
	rules->key = (rules->key ^ (uint64_t) id->size) * 1099511628211ULL;
	rules->key = (rules->key ^ (uint64_t) id->mtime.tv_sec) * 1099511628211ULL;
	rules->key = (rules->key ^ (uint64_t) id->mtime.tv_nsec) * 1099511628211ULL;

	while (*line != '\0')
	{
		end = strchr(line, '\n');
		if (end != NULL)
			*end = '\0';
		parse_line(line, rules);
		if (end == NULL)
			break;
		line = end + 1;
	}
}

/*
 * The rules now in force, or NULL if there are none.
 *
 * Each thread keeps its own copy, so that none waits for another; a signal
 * handler that strikes while its thread's copy is being read gets no faults.
 */
static const Rules *
current_rules(void)
{
	static _Thread_local Identity known __attribute__((tls_model("initial-exec")));
	static _Thread_local Rules rules __attribute__((tls_model("initial-exec")));
	static _Thread_local volatile bool reading __attribute__((tls_model("initial-exec")));
	struct stat st;
	Identity id = {0};

	if (counters == NULL)
		fault_shim_init();
	if (fault_file[0] == '\0' || reading)
		return NULL;
	if (syscall(SYS_newfstatat, AT_FDCWD, fault_file, &st, 0) != 0)
	{
		known = id;
		return NULL;
	}
	id.ino = st.st_ino;
	id.size = st.st_size;
	id.mtime = st.st_mtim;
	if (memcmp(&id, &known, sizeof(id)) != 0)
	{
		reading = true;
		read_rules(&id, &rules);
		known = id;
		reading = false;
	}
	return rules.n > 0 ? &rules : NULL;
}

/* Takes one of the strikes that rule number "i" still has, if any. */
static bool
strike(const Rules *rules, int i)
{
	uint64_t key = (rules->key ^ (uint64_t) (i + 1)) * 1099511628211ULL;
	uint64_t owner = key & ~0xFFFFFFULL;
	_Atomic uint64_t *counter = &counters[(key >> 7) % COUNTERS];
	uint64_t old;
	uint64_t used;

	if (rules->rule[i].count == 0)
		return true;
	old = atomic_load(counter);
	do
	{
		used = (old & ~0xFFFFFFULL) == owner ? old & 0xFFFFFFULL : 0;
		if (used >= rules->rule[i].count)
			return false;
	} while (!atomic_compare_exchange_weak(counter, &old, owner | (used + 1)));
	return true;
}

static void
path_of_fd(int fd, char *path)
{
	char link[64];
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
	path[len < 0 ? 0 : len] = '\0';
}

static bool
path_fits(const char *name, const char *wanted)
{
	size_t len = strlen(wanted);
	size_t name_len;

	if (name == NULL)
		return false;
	if (wanted[len - 1] != '$')
		return strstr(name, wanted) != NULL;
	name_len = strlen(name);
	return name_len >= len - 1 && strncmp(name + name_len - (len - 1), wanted, len - 1) == 0;
}

static void
rest(long long microseconds)
{
	struct timespec pause;

	pause.tv_sec = microseconds / 1000000;
	pause.tv_nsec = microseconds % 1000000 * 1000;
	while (nanosleep(&pause, &pause) != 0 && errno == EINTR)
		;
}

/*
 * What is to happen to this call. Delays, stops and kills before the call are
 * done here; "number" gets the errno or the number of bytes. The file is given
 * by "fd", or by its names if that is negative.
 */
static Action
decide(Call call, int fd, const char *name, const char *other_name, long long *number)
{
	int saved_errno = errno;
	const Rules *rules = current_rules();
	Action result = ACT_PASS;
	char path[PATH_MAX] = "";
	bool looked_up = false;

	for (int i = 0; rules != NULL && i < rules->n && result == ACT_PASS; i++)
	{
		const Rule *rule = &rules->rule[i];

		if (rule->call != call)
			continue;
		if (rule->path[0] != '\0')
		{
			if (fd >= 0 && !looked_up)
			{
				path_of_fd(fd, path);
				name = path;
				looked_up = true;
			}
			if (!path_fits(name, rule->path) && !path_fits(other_name, rule->path))
				continue;
		}
		if (!strike(rules, i))
			continue;
		*number = rule->number;
		switch (rule->action)
		{
			case ACT_DELAY:
				rest(rule->number);
				break;
			case ACT_KILL:
				syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
				break;
			case ACT_STOP:
				syscall(SYS_kill, syscall(SYS_getpid), SIGSTOP);
				break;
			default:
				result = rule->action;
				break;
		}
	}
	errno = saved_errno;
	return result;
}

/* The end of every call: kills or rests after it, if told so. */
static void
after(Action action, long long number)
{
	int saved_errno = errno;

	if (action == ACT_KILL_AFTER)
		syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
	else if (action == ACT_DELAY_AFTER)
		rest(number);
	errno = saved_errno;
}

/* A call that returns -1 and sets errno; SHORT has no meaning for it. */
#define WITH_FAULTS(call, fd, name, other_name, expression)                        \
	do                                                                             \
	{                                                                              \
		long long wa_number = 0;                                                   \
		Action wa_action = decide((call), (fd), (name), (other_name), &wa_number); \
		__typeof__(expression) wa_result;                                          \
                                                                                   \
		if (wa_action == ACT_ERROR)                                                \
		{                                                                          \
			errno = (int) wa_number;                                               \
			return -1;                                                             \
		}                                                                          \
		wa_result = (expression);                                                  \
		after(wa_action, wa_number);                                               \
		return wa_result;                                                          \
	} while (0)

int
fsync(int fd)
{
	WITH_FAULTS(CALL_FSYNC, fd, NULL, NULL, real_fsync(fd));
}

int
fdatasync(int fd)
{
	WITH_FAULTS(CALL_FDATASYNC, fd, NULL, NULL, real_fdatasync(fd));
}

int
sync_file_range(int fd, off_t offset, off_t len, unsigned flags)
{
	WITH_FAULTS(CALL_SYNC_FILE_RANGE, fd, NULL, NULL, real_sync_file_range(fd, offset, len, flags));
}

/*
 * Writes, given as vectors or as one buffer. A short one writes the first
 * half of the buffer, or of the vectors (at least one).
 */
#define WITH_WRITE_FAULTS(fd, whole, half)                                   \
	do                                                                       \
	{                                                                        \
		long long wa_number = 0;                                             \
		Action wa_action = decide(CALL_WRITE, (fd), NULL, NULL, &wa_number); \
		ssize_t wa_result;                                                   \
                                                                             \
		if (wa_action == ACT_ERROR)                                          \
		{                                                                    \
			errno = (int) wa_number;                                         \
			return -1;                                                       \
		}                                                                    \
		wa_result = wa_action == ACT_SHORT ? (half) : (whole);               \
		after(wa_action, wa_number);                                         \
		return wa_result;                                                    \
	} while (0)

#define HALF(n) ((n) > 1 ? (n) / 2 : (n))

ssize_t
read(int fd, void *buf, size_t len)
{
	if (real_read == NULL)
		fault_shim_init();
	WITH_FAULTS(CALL_READ, fd, NULL, NULL, real_read(fd, buf, len));
}

ssize_t
write(int fd, const void *buf, size_t len)
{
	if (real_write == NULL)
		fault_shim_init();
	WITH_WRITE_FAULTS(fd, real_write(fd, buf, len), real_write(fd, buf, HALF(len)));
}

ssize_t
writev(int fd, const struct iovec *iov, int n)
{
	WITH_WRITE_FAULTS(fd, real_writev(fd, iov, n), real_writev(fd, iov, HALF(n)));
}

ssize_t
pwrite(int fd, const void *buf, size_t len, off_t offset)
{
	WITH_WRITE_FAULTS(fd, real_pwrite(fd, buf, len, offset), real_pwrite(fd, buf, HALF(len), offset));
}

ssize_t
pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	WITH_WRITE_FAULTS(fd, real_pwritev(fd, iov, n, offset), real_pwritev(fd, iov, HALF(n), offset));
}

ssize_t
pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	WITH_WRITE_FAULTS(fd, real_pwritev2(fd, iov, n, offset, flags), real_pwritev2(fd, iov, HALF(n), offset, flags));
}

int
fallocate(int fd, int mode, off_t offset, off_t len)
{
	WITH_FAULTS(CALL_WRITE, fd, NULL, NULL, real_fallocate(fd, mode, offset, len));
}

/* returns the error instead of setting errno */
int
posix_fallocate(int fd, off_t offset, off_t len)
{
	long long number = 0;
	Action action = decide(CALL_WRITE, fd, NULL, NULL, &number);
	int result;

	if (action == ACT_ERROR)
		return (int) number;
	result = real_posix_fallocate(fd, offset, len);
	after(action, number);
	return result;
}

static int
open_with_faults(int dir, const char *path, int flags, mode_t mode)
{
	if (real_openat == NULL)
		fault_shim_init();
	WITH_FAULTS(CALL_OPEN, -1, path, NULL, real_openat(dir, path, flags, mode));
}

static mode_t
mode_of(int flags, va_list args)
{
	return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;
}

int
open(const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = mode_of(flags, args);
	va_end(args);
	return open_with_faults(AT_FDCWD, path, flags, mode);
}

int
openat(int dir, const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = mode_of(flags, args);
	va_end(args);
	return open_with_faults(dir, path, flags, mode);
}

int
creat(const char *path, mode_t mode)
{
	return open_with_faults(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int
rename(const char *from, const char *to)
{
	WITH_FAULTS(CALL_RENAME, -1, from, to, real_renameat2(AT_FDCWD, from, AT_FDCWD, to, 0));
}

int
renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	WITH_FAULTS(CALL_RENAME, -1, from, to, real_renameat2(from_dir, from, to_dir, to, 0));
}

int
renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
	WITH_FAULTS(CALL_RENAME, -1, from, to, real_renameat2(from_dir, from, to_dir, to, flags));
}

int
link(const char *from, const char *to)
{
	WITH_FAULTS(CALL_LINK, -1, from, to, real_linkat(AT_FDCWD, from, AT_FDCWD, to, 0));
}

int
linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
	WITH_FAULTS(CALL_LINK, -1, from, to, real_linkat(from_dir, from, to_dir, to, flags));
}

int
unlink(const char *path)
{
	WITH_FAULTS(CALL_UNLINK, -1, path, NULL, real_unlinkat(AT_FDCWD, path, 0));
}

int
unlinkat(int dir, const char *path, int flags)
{
	WITH_FAULTS(CALL_UNLINK, -1, path, NULL, real_unlinkat(dir, path, flags));
}

int
ftruncate(int fd, off_t len)
{
	WITH_FAULTS(CALL_FTRUNCATE, fd, NULL, NULL, real_ftruncate(fd, len));
}

int
mkdir(const char *path, mode_t mode)
{
	WITH_FAULTS(CALL_MKDIR, -1, path, NULL, real_mkdir(path, mode));
}

static void
set_room(struct statvfs *vfs, long long bytes)
{
	vfs->f_bavail = vfs->f_bfree = (fsblkcnt_t) bytes / (vfs->f_frsize > 0 ? vfs->f_frsize : 1);
}

int
statvfs(const char *path, struct statvfs *vfs)
{
	long long number = 0;
	Action action = decide(CALL_FREE, -1, path, NULL, &number);
	int result = real_statvfs(path, vfs);

	if (result == 0 && action == ACT_FREE)
		set_room(vfs, number);
	return result;
}

int
fstatvfs(int fd, struct statvfs *vfs)
{
	long long number = 0;
	Action action = decide(CALL_FREE, fd, NULL, NULL, &number);
	int result = real_fstatvfs(fd, vfs);

	if (result == 0 && action == ACT_FREE)
		set_room(vfs, number);
	return result;
}

/*
 * The names that programs built for large files use. On the 64-bit systems
 * that this library is for they are the same functions.
 */
#if __SIZEOF_POINTER__ != 8
#error "fault_shim is for 64-bit systems"
#endif
ssize_t pwrite64(int, const void *, size_t, off_t) __attribute__((alias("pwrite")));
ssize_t pwritev64(int, const struct iovec *, int, off_t) __attribute__((alias("pwritev")));
ssize_t pwritev64v2(int, const struct iovec *, int, off_t, int) __attribute__((alias("pwritev2")));
int fallocate64(int, int, off_t, off_t) __attribute__((alias("fallocate")));
int posix_fallocate64(int, off_t, off_t) __attribute__((alias("posix_fallocate")));
/* what -D_FORTIFY_SOURCE makes of calls without a mode */
int
__open_2(const char *path, int flags)
{
	return open_with_faults(AT_FDCWD, path, flags, 0);
}

int
__openat_2(int dir, const char *path, int flags)
{
	return open_with_faults(dir, path, flags, 0);
}

int open64(const char *, int, ...) __attribute__((alias("open")));
int openat64(int, const char *, int, ...) __attribute__((alias("openat")));
int creat64(const char *, mode_t) __attribute__((alias("creat")));
int ftruncate64(int, off_t) __attribute__((alias("ftruncate")));
int statvfs64(const char *, struct statvfs64 *) __attribute__((alias("statvfs")));
int fstatvfs64(int, struct statvfs64 *) __attribute__((alias("fstatvfs")));
