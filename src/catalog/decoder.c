/*-------------------------------------------------------------------------
 *
 * decoder.c
 *	  A running walarchive-decode, as seen by the process that started it.
 *	  See decoder.h.
 *
 * The program lives in a process group of its own, so that a signal to this
 * process and its group does not look like a death over WAL.  It ends when its
 * input is closed; a crash of this process closes it.
 *
 * Nothing that it sends is trusted: it may have been led astray by what it
 * reads.  A message of a wrong length is taken for its death.
 *
 * The list of decoders is this process's own.  What a transaction opened and
 * left open is closed by callbacks when that transaction or subtransaction
 * aborts, or the process exits: a resource owner can't know of such things
 * before PostgreSQL 17.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "../compat.h"
#include "decoder.h"

#define PROGRAM "walarchive-decode"

#define BUFFER_SIZE (128 * 1024)

/* Wait for a killed program so long, in ms, before somebody else has to reap it. */
#define REAP_MS 1000
#define UNREAPED 16

extern char **environ;

struct WaDecoder
{
	struct WaDecoder *next;
	MemoryContext context;  /* holds all of it */
	SubTransactionId subid; /* that opened it; invalid: no transaction */
	pid_t pid;              /* 0: reaped */
	int to;                 /* its standard input, -1: closed */
	int from;               /* its standard output */
	bool dead;
	bool told;
	char death[256];

	/* what it has sent and nobody has taken yet: bytes start to used */
	char *buffer;
	size_t size;
	size_t start;
	size_t used;
	size_t taken;  /* bytes of the message that the caller has, behind start */
	char *aligned; /* a short message, moved to an aligned place */
};

static WaDecoder *decoders = NULL;
static bool callbacks_registered = false;

/* Killed, but not dead when we looked last. */
static pid_t unreaped[UNREAPED];

/* ---- its end ---- */

/* Reap those that took long to die. */
static void
reap_others(void)
{
	for (int i = 0; i < UNREAPED; i++)
	{
		if (unreaped[i] != 0 && waitpid(unreaped[i], NULL, WNOHANG) != 0)
			unreaped[i] = 0;
	}
}

/*
 * Wait for the program's end, but not for ever: one that hangs in the kernel, on
 * a disk or network file system that does not answer, dies when that lets go.
 * Returns false if it is still there.
 */
static bool
reap(WaDecoder *d, int *status, int ms)
{
	for (;;)
	{
		pid_t pid = waitpid(d->pid, status, WNOHANG);

		if (pid == d->pid || (pid < 0 && errno != EINTR))
		{
			if (pid < 0)
				*status = 0;
			d->pid = 0;
			return true;
		}
		if (ms-- <= 0)
			return false;
		pg_usleep(1000);
	}
}

static void
kill_program(WaDecoder *d)
{
	int status;

	if (d->pid == 0)
		return;
	(void) kill(d->pid, SIGKILL);
	if (!reap(d, &status, REAP_MS))
	{
		for (int i = 0; i < UNREAPED; i++)
		{
			if (unreaped[i] == 0)
			{
				unreaped[i] = d->pid;
				break;
			}
		}
		d->pid = 0;
	}
}

static void
close_pipes(WaDecoder *d)
{
	if (d->to >= 0)
	{
		close(d->to);
		ReleaseExternalFD();
	}
	if (d->from >= 0)
	{
		close(d->from);
		ReleaseExternalFD();
	}
	d->to = d->from = -1;
}

/*
 * Its output or input has ended: find out how it died.  'why' is what is known
 * if its exit status says nothing.
 */
static void
bury(WaDecoder *d, const char *why)
{
	int status = 0;
	bool reaped = true;

	d->dead = true;
	close_pipes(d);

	/* the status follows the end of the output, unless it lives on without */
	if (d->pid != 0)
		reaped = reap(d, &status, REAP_MS);
	if (!reaped)
	{
		kill_program(d);
		strlcpy(d->death, why, sizeof(d->death));
	}
	else if (WIFSIGNALED(status))
	{
		int sig = WTERMSIG(status);

		snprintf(d->death, sizeof(d->death), "was terminated by signal %d: %s", sig, pg_strsignal(sig));
		d->told = sig == SIGTERM || sig == SIGINT || sig == SIGHUP;
	}
	else if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
		snprintf(d->death, sizeof(d->death), "exited with exit code %d", WEXITSTATUS(status));
	else
		strlcpy(d->death, why, sizeof(d->death));
}

/* What it sends makes no sense. */
static bool
condemn(WaDecoder *d, const char *why)
{
	kill_program(d);
	close_pipes(d);
	d->dead = true;
	strlcpy(d->death, why, sizeof(d->death));
	return false;
}

void
wa_decoder_close(WaDecoder *d)
{
	if (d == NULL)
		return;
	for (WaDecoder **p = &decoders; *p != NULL; p = &(*p)->next)
	{
		if (*p == d)
		{
			*p = d->next;
			break;
		}
	}
	close_pipes(d);
	kill_program(d);
	MemoryContextDelete(d->context);
}

/* ---- callbacks ---- */

static void
close_all(int code, Datum arg)
{
	while (decoders != NULL)
		wa_decoder_close(decoders);
}

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
			close_all(0, (Datum) 0);
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PREPARE:
			/* one that outlives its transaction is nobody's in particular */
			for (WaDecoder *d = decoders; d != NULL; d = d->next)
				d->subid = InvalidSubTransactionId;
			break;
		default:
			break;
	}
}

static void
subxact_callback(SubXactEvent event, SubTransactionId subid,
				 SubTransactionId parent, void *arg)
{
	WaDecoder *next;

	for (WaDecoder *d = decoders; d != NULL; d = next)
	{
		next = d->next;
		if (d->subid != subid)
			continue;
		if (event == SUBXACT_EVENT_ABORT_SUB)
			wa_decoder_close(d);
		else if (event == SUBXACT_EVENT_COMMIT_SUB)
			d->subid = parent;
	}
}

/* ---- its start ---- */

/*
 * A pipe; both ends are closed by an exec.  'ours' does not block.  False, with
 * errno, if there can't be one.
 */
static bool
make_pipe(int fd[2], int ours)
{
	if (pipe(fd) != 0)
		return false;
	for (int i = 0; i < 2; i++)
		(void) fcntl(fd[i], F_SETFD, FD_CLOEXEC);
	(void) fcntl(fd[ours], F_SETFL, O_NONBLOCK);
#ifdef F_SETPIPE_SZ
	/* fewer wake-ups; what is allowed is enough */
	(void) fcntl(fd[ours], F_SETPIPE_SZ, 256 * 1024);
#endif
	return true;
}

/* Returns 0 or an errno. */
static int
spawn(WaDecoder *d, const char *path, int nice_by, int its_in, int its_out)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	sigset_t all;
	sigset_t none;
	char by[16];
	char parent[16];
	char *argv[] = {PROGRAM, "--server", "--nice", by, "--parent", parent, NULL};
	int error;

	snprintf(by, sizeof(by), "%d", nice_by);
	snprintf(parent, sizeof(parent), "%d", MyProcPid);
	sigfillset(&all);
	sigemptyset(&none);
	if ((error = posix_spawn_file_actions_init(&files)) != 0)
		return error;
	if ((error = posix_spawnattr_init(&attributes)) != 0)
	{
		posix_spawn_file_actions_destroy(&files);
		return error;
	}
	if ((error = posix_spawn_file_actions_adddup2(&files, its_in, STDIN_FILENO)) == 0 &&
		(error = posix_spawn_file_actions_adddup2(&files, its_out, STDOUT_FILENO)) == 0 &&
		(error = posix_spawnattr_setsigdefault(&attributes, &all)) == 0 &&
		(error = posix_spawnattr_setsigmask(&attributes, &none)) == 0 &&
		(error = posix_spawnattr_setpgroup(&attributes, 0)) == 0 &&
		(error = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK |
														   POSIX_SPAWN_SETPGROUP)) == 0)
		error = posix_spawn(&d->pid, path, &files, &attributes, argv, environ);
	if (error != 0)
		d->pid = 0;
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&files);
	return error;
}

/* The first message: is it a program of our own version? */
static void
expect_hello(WaDecoder *d, const char *path)
{
	WaDecoderMessage message;
	const WaMsgHello *hello;

	if (!wa_decoder_next(d, &message))
	{
		char *death = pstrdup(d->death);

		wa_decoder_close(d);
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("program \"%s\" could not be started: it %s", path, death),
				 errhint("The server's log may say more.")));
	}
	hello = message.body;
	if (message.type != WA_MSG_HELLO || hello->protocol != WA_DECODE_PROTOCOL ||
		strncmp(hello->version, WALARCHIVE_VERSION, sizeof(hello->version)) != 0)
	{
		char version[sizeof(hello->version)] = "?";

		if (message.type == WA_MSG_HELLO)
			strlcpy(version, hello->version, sizeof(version));
		wa_decoder_close(d);
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("program \"%s\" is of another version than the loaded library", path),
				 errdetail("The program is of version %s, the library of version %s.", version, WALARCHIVE_VERSION),
				 errhint("Restart the server after an installation of walarchive, or install it again.")));
	}
}

WaDecoder *
wa_decoder_open(int nice_by)
{
	char path[MAXPGPATH];
	char *slash;
	MemoryContext context;
	WaDecoder *d;
	int in[2];
	int out[2];
	int error;

	if (!callbacks_registered)
	{
		RegisterXactCallback(xact_callback, NULL);
		RegisterSubXactCallback(subxact_callback, NULL);
		before_shmem_exit(close_all, (Datum) 0);
		callbacks_registered = true;
	}
	reap_others();

	strlcpy(path, my_exec_path, sizeof(path));
	slash = last_dir_separator(path);
	if (slash == NULL || strlcpy(slash + 1, PROGRAM, sizeof(path) - (slash + 1 - path)) >= sizeof(path) - (slash + 1 - path))
		ereport(ERROR, (errmsg("the path of program \"%s\" is too long", PROGRAM)));

	context = AllocSetContextCreate(TopMemoryContext, "walarchive decoder", ALLOCSET_SMALL_SIZES);
	d = MemoryContextAllocZero(context, sizeof(WaDecoder));
	d->context = context;
	d->to = d->from = -1;
	d->size = BUFFER_SIZE;
	d->buffer = MemoryContextAlloc(context, d->size);
	d->aligned = MemoryContextAlloc(context, BUFFER_SIZE);
	d->subid = IsTransactionState() ? GetCurrentSubTransactionId() : InvalidSubTransactionId;
	d->next = decoders;
	decoders = d;

	/* two descriptors that fd.c does not know */
	for (int i = 0; i < 2; i++)
	{
		if (!AcquireExternalFD())
		{
			if (i == 1)
				ReleaseExternalFD();
			wa_decoder_close(d);
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
					 errmsg("could not start program \"%s\": too many open files", path)));
		}
	}
	if (!make_pipe(in, 1))
		error = errno;
	else
	{
		d->to = in[1];
		error = make_pipe(out, 0) ? 0 : errno;
		if (error != 0)
			close(in[0]);
		else
			d->from = out[0];
	}
	if (error != 0)
	{
		/* wa_decoder_close counts those that it closes */
		for (int i = (d->to >= 0) + (d->from >= 0); i < 2; i++)
			ReleaseExternalFD();
		wa_decoder_close(d);
		errno = error;
		ereport(ERROR,
				(errcode_for_socket_access(),
				 errmsg("could not create a pipe: %m")));
	}

	error = spawn(d, path, nice_by, in[0], out[1]);
	close(in[0]);
	close(out[1]);
	if (error != 0)
	{
		wa_decoder_close(d);
		errno = error;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not start program \"%s\": %m", path),
				 error == ENOENT ? errhint("It is installed beside the server's programs by \"make install\".") : 0));
	}
	expect_hello(d, path);
	return d;
}

/* ---- requests and messages ---- */

/* Wait until its pipe can be read or written. */
static void
wait_for(WaDecoder *d, uint32 event)
{
	int rc = WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | event,
							   event == WL_SOCKET_READABLE ? d->from : d->to, -1L,
							   PG_WAIT_EXTENSION);

	if (rc & WL_LATCH_SET)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

bool
wa_decoder_request(WaDecoder *d, const char *request)
{
	size_t len = strlen(request);
	size_t sent = 0;

	if (len + 1 > WA_REQUEST_LEN)
		elog(ERROR, "request to " PROGRAM " is too long");
	if (memchr(request, '\n', len) != NULL)
		elog(ERROR, "request to " PROGRAM " is more than a line");
	if (d->dead)
		return false;
	while (sent <= len)
	{
		ssize_t n;

		if (sent < len)
			n = write(d->to, request + sent, len - sent);
		else
			n = write(d->to, "\n", 1);
		if (n > 0)
			sent += n;
		else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			wait_for(d, WL_SOCKET_WRITEABLE);
		else if (n < 0 && errno != EINTR)
		{
			CHECK_FOR_INTERRUPTS();
			bury(d, "closed its input");
			return false;
		}
	}
	return true;
}

/* Have 'need' bytes from start on in the buffer.  False: it died first. */
static bool
fill(WaDecoder *d, size_t need)
{
	while (d->used - d->start < need)
	{
		ssize_t n;

		if (d->size - d->start < need)
		{
			memmove(d->buffer, d->buffer + d->start, d->used - d->start);
			d->used -= d->start;
			d->start = 0;
			if (d->size < need)
			{
				d->buffer = repalloc(d->buffer, need);
				d->size = need;
			}
		}
		n = read(d->from, d->buffer + d->used, d->size - d->used);
		if (n > 0)
			d->used += n;
		else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			wait_for(d, WL_SOCKET_READABLE);
		else if (n == 0 || errno != EINTR)
		{
			/* if we are to end, that is why */
			CHECK_FOR_INTERRUPTS();
			bury(d, n == 0 ? "closed its output" : "could not be read from");
			return false;
		}
	}
	return true;
}

/*
 * Is a message what its type asks for?  'rest' is set to the bytes behind the
 * struct.
 */
static bool
message_is_valid(uint32 type, const void *body, size_t len, size_t *rest)
{
	size_t size;
	uint64 wanted = 0;

	switch ((WaMessageType) type)
	{
#define BODY(msg_type, struct_type, expression) \
	case msg_type:                              \
	{                                           \
		const struct_type *m = body;            \
		size = sizeof(*m);                      \
		if (len < size)                         \
			return false;                       \
		wanted = expression;                    \
		break;                                  \
	}
		BODY(WA_MSG_HELLO, WaMsgHello, m->version[sizeof(m->version) - 1] == 0 ? 0 : UINT64_MAX)
		BODY(WA_MSG_END, WaMsgEnd, m->result <= WA_DECODE_FAILED ? (uint64) m->text_len + m->state_len : UINT64_MAX)
		BODY(WA_MSG_PROGRESS, WaMsgProgress, 0)
		BODY(WA_MSG_DAMAGE, WaMsgDamage, (uint64) m->name_len + m->text_len)
		BODY(WA_MSG_SEGMENT, WaMsgSegment, 0)
		BODY(WA_MSG_FILE, WaMsgFile, m->name_len)
		BODY(WA_MSG_XACT, WaMsgXact, (uint64) m->files * sizeof(WaRelFile) + m->gid_len)
		BODY(WA_MSG_DESTRUCTION, WaMsgDestruction, (uint64) m->files * sizeof(WaRelFile) + (uint64) m->relations * sizeof(Oid))
		BODY(WA_MSG_RESTORE_POINT, WaMsgRestorePoint, m->name_len)
		BODY(WA_MSG_TABLESPACE, WaMsgTablespace, m->path_len)
		BODY(WA_MSG_CHECKPOINT, WaMsgCheckpoint, 0)
		BODY(WA_MSG_RECOVERY_END, WaMsgRecoveryEnd, 0)
		BODY(WA_MSG_PARAMETERS, WaMsgParameters, 0)
		BODY(WA_MSG_RECORD, WaMsgRecord, (uint64) m->rmgr_len + m->type_len + m->description_len + m->blocks_len)
		BODY(WA_MSG_STATS, WaMsgStats, m->name_len)
		BODY(WA_MSG_FOUND, WaMsgFound, m->gid_len)
#undef BODY
		default:
			return false;
	}
	*rest = len - size;
	return wanted == len - size;
}

bool
wa_decoder_next(WaDecoder *d, WaDecoderMessage *message)
{
	WaMessageHeader header;
	const char *body;
	size_t rest;

	CHECK_FOR_INTERRUPTS();
	if (d->dead)
		return false;
	d->start += d->taken;
	d->taken = 0;
	if (d->start == d->used)
		d->start = d->used = 0;

	if (!fill(d, sizeof(header)))
		return false;
	memcpy(&header, d->buffer + d->start, sizeof(header));
	if (header.length > WA_MESSAGE_MAX)
		return condemn(d, "sent a message that is too long");
	if (!fill(d, sizeof(header) + header.length))
		return false;

	body = d->buffer + d->start + sizeof(header);
	if (body != (const char *) MAXALIGN(body))
	{
		if (header.length <= BUFFER_SIZE)
			body = memcpy(d->aligned, body, header.length);
		else
		{
			memmove(d->buffer, d->buffer + d->start, d->used - d->start);
			d->used -= d->start;
			d->start = 0;
			body = d->buffer + sizeof(header);
		}
	}
	if (!message_is_valid(header.type, body, header.length, &rest))
		return condemn(d, "sent a message that makes no sense");
	d->taken = sizeof(header) + header.length;

	message->type = (WaMessageType) header.type;
	message->body = body;
	message->rest = body + (header.length - rest);
	message->rest_len = (uint32) rest;
	return true;
}

const char *
wa_decoder_death(WaDecoder *d, bool *told)
{
	if (told != NULL)
		*told = d->told;
	return d->death;
}

int
wa_decoder_pid(WaDecoder *d)
{
	return (int) d->pid;
}

void
wa_decoder_raise(WaDecoder *d)
{
	char *death = pstrdup(d->death);

	wa_decoder_close(d);
	ereport(ERROR,
			(errcode(ERRCODE_SYSTEM_ERROR),
			 errmsg("program \"%s\" failed: it %s", PROGRAM, death),
			 errhint("The server's log may say more.")));
}
