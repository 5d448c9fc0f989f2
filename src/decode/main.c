/*-------------------------------------------------------------------------
 *
 * main.c
 *	  walarchive-decode: reads archived WAL, for the server or for a person.
 *
 * The server starts it with --server and talks to it as decode_protocol.h
 * says.  It reads what strangers have written, which is why it is a program of
 * its own: attached to no shared memory, it can crash nobody but itself.  It
 * opens files for reading only and writes nothing but its output; a crash or
 * SIGKILL leaves nothing behind.  It ends with its input, and on Linux with the
 * process that started it.
 *
 *-------------------------------------------------------------------------
 */
#include "human.h"
#include "request.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

#include "../base/flat_json.h"
#include "verify.h"

/* Longest name of a request */
#define DO_LEN 32

/* The process's only output; the requests of verify.c are given no argument. */
static WaOutput output;

/* ---- requests that verify.c serves ---- */

static void
send_message(WaMessageType type, const void *body, size_t body_len,
			 const void *rest, size_t rest_len)
{
	wa_out_message(&output, type, body, body_len, rest, rest_len);
	if (type == WA_MSG_PROGRESS)
		wa_out_flush(&output);
}

static void
serve_files(const WaRequest *request,
			void (*check)(const char *, size_t, WaSendMessage, WaMsgEnd *, char *, size_t))
{
	WaMsgEnd end;
	char text[WA_TEXT_LEN];

	memset(&end, 0, sizeof(end));
	text[0] = '\0';
	check(request->text, request->len, send_message, &end, text, sizeof(text));
	end.text_len = strlen(text);
	wa_out_message(request->out, WA_MSG_END, &end, sizeof(end), text, end.text_len);
}

static void
serve_verify(const WaRequest *request)
{
	serve_files(request, wa_verify);
}

static void
serve_hash(const WaRequest *request)
{
	serve_files(request, wa_hash);
}

/* ---- the request loop ---- */

static const struct
{
	const char *name;
	WaServe serve;
} requests[] = {
	{"index", wa_serve_index},
	{"xacts", wa_serve_xacts},
	{"destructions", wa_serve_destructions},
	{"records", wa_serve_records},
	{"stats", wa_serve_stats},
	{"find", wa_serve_find},
	{"verify", serve_verify},
	{"hash", serve_hash},
};

/* Give way to others, on the CPU and at the disk. */
static void
be_nice(int by)
{
	if (by <= 0)
		return;
	(void) setpriority(PRIO_PROCESS, 0, Min(getpriority(PRIO_PROCESS, 0) + by, 19));
#if defined(__linux__) && defined(SYS_ioprio_set)
	/* IOPRIO_WHO_PROCESS, us, IOPRIO_CLASS_BE with the lowest level; "idle" may mean never */
	(void) syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 7);
#endif
}

/*
 * Be a child that outlives nothing and holds nothing: what the server process
 * had open has come with the exec where it was not marked close-on-exec.
 */
static void
detach(pid_t parent)
{
#ifdef __linux__
	(void) prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent && parent != 0)
		exit(0);
#ifdef SYS_close_range
	if (syscall(SYS_close_range, 3, ~0U, 0) == 0)
		return;
#endif
#endif
	for (int fd = 3; fd < 1024; fd++)
		(void) close(fd);
}

static void
serve_line(WaOutput *out, const char *line, size_t len)
{
	WaRequest request = {line, len, out};
	char what[DO_LEN];

	out->careful = false;
	if (!wa_json_valid(line, len))
		wa_request_failed(&request, "the request is not a flat JSON object");
	else if (!wa_json_get_string(line, len, "do", what, sizeof(what)))
		wa_request_failed(&request, "the request does not say what to do");
	else
	{
		size_t i = 0;

		while (i < lengthof(requests) && strcmp(requests[i].name, what) != 0)
			i++;
		if (i < lengthof(requests))
			requests[i].serve(&request);
		else
			wa_request_failed(&request, "the request asks for something unknown");
	}
	wa_out_flush(out);
}

/* Answer requests until the input ends.  Returns the exit code. */
static int
serve(void)
{
	WaOutput *out = &output;
	WaMsgHello hello;
	char *line = NULL;
	size_t size = 0;
	size_t used = 0;

	out->fd = STDOUT_FILENO;
	memset(&hello, 0, sizeof(hello));
	hello.protocol = WA_DECODE_PROTOCOL;
	strlcpy(hello.version, WALARCHIVE_VERSION, sizeof(hello.version));
	wa_out_message(out, WA_MSG_HELLO, &hello, sizeof(hello), NULL, 0);
	wa_out_flush(out);

	for (;;)
	{
		char *newline = used > 0 ? memchr(line, '\n', used) : NULL;
		ssize_t n;

		if (newline != NULL)
		{
			size_t len = newline - line;

			serve_line(out, line, len);
			used -= len + 1;
			memmove(line, newline + 1, used);
			continue;
		}
		if (used == size)
		{
			char *larger;

			if (size >= WA_REQUEST_LEN)
			{
				fprintf(stderr, "walarchive-decode: a request is too long\n");
				return 2;
			}
			size = Max(2 * size, 64 * 1024);
			larger = realloc(line, size);
			if (larger == NULL)
			{
				fprintf(stderr, "walarchive-decode: out of memory\n");
				return 2;
			}
			line = larger;
		}
		n = read(STDIN_FILENO, line + used, size - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		used += n;
	}
	free(line);
	return 0;
}

/*
 * "--server", then "--nice" and "--parent" with a number each.  Not for people,
 * so not in the help.
 */
static int
server_main(int argc, char **argv)
{
	int by = 0;
	pid_t parent = 0;

	for (int i = 2; i < argc; i++)
	{
		if (strcmp(argv[i], "--nice") == 0 && i + 1 < argc)
			by = atoi(argv[++i]);
		else if (strcmp(argv[i], "--parent") == 0 && i + 1 < argc)
			parent = (pid_t) atoi(argv[++i]);
		else
		{
			fprintf(stderr, "walarchive-decode: --server does not know \"%s\"\n", argv[i]);
			return 2;
		}
	}
	(void) signal(SIGPIPE, SIG_DFL);
	detach(parent);
	be_nice(by);
	return serve();
}

int
main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--server") == 0)
		return server_main(argc, argv);
	return wa_human_main(argc, argv);
}
