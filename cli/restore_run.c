/*-------------------------------------------------------------------------
 *
 * restore_run.c
 *	  Starts the restored copy, follows its recovery to the target, and
 *	  compares what came out with the plan.  See restore.h.
 *
 * A copy that is safe by default pauses at the target, whatever is to happen
 * there: first it is compared, then promoted or shut down.  Its owner can
 * always connect, because the socket lies in the data directory.  A copy that
 * takes the primary's place does at the target what it is told, and is compared
 * as far as its rules let this program in, and with the history of the timeline
 * that it began.
 *
 * The server is a child of this program until this program ends, and then goes
 * on by itself; an interrupted restore leaves it running.
 *
 *-------------------------------------------------------------------------
 */
#include "restore.h"

#include <dirent.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/logging.h"
#include "libpq-fe.h"

#include "../src/base/wal_name.h"
#include "conf_file.h"
#include "restore_settings.h"

#define POLL_MS 100

/* Longest path of a socket's folder that libpq can connect to. */
#define MAX_SOCKET_DIR 90

/* Of the server's log this much is shown when it fails. */
#define LOG_LINES 12

typedef enum CopyState
{
	COPY_STARTING,
	COPY_RECOVERING, /* connections are possible */
	COPY_PAUSED,
	COPY_OPEN,
	COPY_GONE
} CopyState;

typedef struct Copy
{
	Restore *restore;
	PGconn *conn;
	char *socket_link; /* temporary folder with a link to the data directory; NULL: not needed */
	const char *user;
	CopyState state;
	XLogRecPtr replayed;
	bool has_last_time;
	int64 last_time; /* of the last commit or abort that was replayed */
	int exit_status;
	double began;
	double next_progress;
} Copy;

static double
seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

/* ---- the server ---- */

static bool
start_server(Restore *restore)
{
	char program[MAXPGPATH];
	char log[MAXPGPATH];
	const char *argv[] = {program, "-D", restore->data, NULL};
	int log_fd;

	snprintf(program, sizeof(program), "%s/postgres", restore->programs);
	snprintf(log, sizeof(log), "%s/" RESTORE_LOG, restore->data);
	log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (log_fd < 0)
	{
		pg_log_error("could not create file \"%s\": %m", log);
		return false;
	}
	fflush(NULL);
	restore->postmaster = fork();
	if (restore->postmaster == 0)
	{
		int null = open("/dev/null", O_RDONLY);

		/* it must survive this program's terminal */
		setsid();
		dup2(null, 0);
		dup2(log_fd, 1);
		dup2(log_fd, 2);
		for (int fd = 3; fd < 256; fd++)
			close(fd);
		signal(SIGPIPE, SIG_DFL);
		execv(program, (char *const *) argv);
		fprintf(stderr, "could not run \"%s\": %s\n", program, strerror(errno));
		_exit(127);
	}
	close(log_fd);
	if (restore->postmaster < 0)
	{
		pg_log_error("could not start a process: %m");
		return false;
	}
	restore->started = true;
	return true;
}

static bool
server_is_gone(Copy *copy)
{
	int status;

	if (copy->state == COPY_GONE)
		return true;
	if (waitpid(copy->restore->postmaster, &status, WNOHANG) != copy->restore->postmaster)
		return false;
	copy->exit_status = status;
	copy->state = COPY_GONE;
	return true;
}

/* The lines of the log that say why, and the rest of its end. */
static void
show_log(Restore *restore)
{
	char path[MAXPGPATH];
	size_t len;
	char *text;
	char *at;
	int lines = 0;

	snprintf(path, sizeof(path), "%s/" RESTORE_LOG, restore->data);
	text = conf_read_file(path, &len);
	if (text == NULL)
		return;
	while (len > 0 && text[len - 1] == '\n')
		text[--len] = '\0';
	for (at = text + len; at > text; at--)
	{
		if (at[-1] == '\n' && ++lines == LOG_LINES)
			break;
	}
	pg_log_error_detail("The end of its log, \"%s\":\n%s", path, at);
	pg_free(text);
}

/* Line 'number' of postmaster.pid, from 1; false: not there (yet). */
static bool
pid_file_line(Restore *restore, int number, char *line, size_t size)
{
	char path[MAXPGPATH];
	size_t len;
	char *text;
	char *at;
	bool found = false;

	snprintf(path, sizeof(path), "%s/postmaster.pid", restore->data);
	text = conf_read_file(path, &len);
	if (text == NULL)
		return false;
	at = text;
	for (int i = 1; at != NULL && i < number; i++)
	{
		at = strchr(at, '\n');
		at = at ? at + 1 : NULL;
	}
	if (at != NULL && strchr(at, '\n') != NULL)
	{
		size_t n = strcspn(at, "\n");

		while (n > 0 && at[n - 1] == ' ')
			n--;
		if (n < size && atol(text) == (long) restore->postmaster)
		{
			memcpy(line, at, n);
			line[n] = '\0';
			found = true;
		}
	}
	pg_free(text);
	return found;
}

/* ---- connections to the copy ---- */

/* Where its socket is, for libpq: NULL if that can't be said. */
static const char *
socket_dir(Copy *copy)
{
	static char dir[MAXPGPATH];
	Restore *restore = copy->restore;
	char line[MAXPGPATH];

	if (!pid_file_line(restore, 5, line, sizeof(line)) || line[0] == '\0')
		return NULL;
	if (is_absolute_path(line))
		strlcpy(dir, line, sizeof(dir));
	else if (strlen(restore->data) + strlen(line) < MAX_SOCKET_DIR)
		snprintf(dir, sizeof(dir), "%s/%s", restore->data, strcmp(line, ".") == 0 ? "" : line);
	else
	{
		/* a path that is short enough */
		if (copy->socket_link == NULL)
		{
			char folder[] = "/tmp/walarchive-XXXXXX";

			if (mkdtemp(folder) == NULL)
				return NULL;
			copy->socket_link = pg_strdup(folder);
			snprintf(dir, sizeof(dir), "%s/data", folder);
			if (symlink(restore->data, dir) != 0)
				return NULL;
		}
		snprintf(dir, sizeof(dir), "%s/data/%s", copy->socket_link, strcmp(line, ".") == 0 ? "" : line);
	}
	return dir;
}

static void
drop_link(Copy *copy)
{
	char path[MAXPGPATH];

	if (copy->socket_link == NULL)
		return;
	snprintf(path, sizeof(path), "%s/data", copy->socket_link);
	(void) unlink(path);
	(void) rmdir(copy->socket_link);
}

static PGconn *
try_user(const char *host, const char *port, const char *user)
{
	const char *keywords[] = {"host", "port", "user", "dbname", "connect_timeout", "application_name",
							  "options", "passfile", "sslmode", "gssencmode", NULL};
	const char *values[] = {host, port, user, "template1", "5", "walarchive restore",
							"-c search_path=pg_catalog -c statement_timeout=10s", "", "disable", "disable", NULL};
	PGconn *conn = PQconnectdbParams(keywords, values, 0);

	if (PQstatus(conn) == CONNECTION_OK)
	{
		/* its log need not have what is asked here again and again; only a superuser may say so */
		PQclear(PQexec(conn, "SET log_statement = none"));
		return conn;
	}
	PQfinish(conn);
	return NULL;
}

static void
try_connect(Copy *copy)
{
	char port[32];
	char status[32];
	const char *host;
	struct passwd *pw = getpwuid(geteuid());
	const char *users[] = {copy->restore->user, copy->user, "postgres", pw ? pw->pw_name : NULL, getenv("PGUSER")};

	/* it says when connections make sense */
	if (!pid_file_line(copy->restore, 8, status, sizeof(status)) ||
		(strcmp(status, "ready") != 0 && strcmp(status, "standby") != 0))
		return;
	host = socket_dir(copy);
	if (host == NULL || !pid_file_line(copy->restore, 4, port, sizeof(port)))
		return;
	for (int i = 0; i < (int) lengthof(users) && copy->conn == NULL; i++)
	{
		if (users[i] != NULL && (i == 0 || copy->restore->user == NULL))
			copy->conn = try_user(host, port, users[i]);
		if (copy->conn != NULL)
			copy->user = users[i];
	}
}

/* ---- where it is ---- */

static XLogRecPtr
parse_lsn(const char *text)
{
	uint32 high;
	uint32 low;

	if (sscanf(text, "%X/%X", &high, &low) != 2)
		return InvalidXLogRecPtr;
	return (uint64) high << 32 | low;
}

static void
look(Copy *copy)
{
	static const char query[] =
		"SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn(), "
		"(extract(epoch FROM pg_last_xact_replay_timestamp() - timestamptz '2000-01-01 00:00:00+00') * 1000000)::bigint, "
		"CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() = 'paused' END";
	PGresult *result;

	if (server_is_gone(copy))
		return;
	if (copy->conn == NULL)
		try_connect(copy);
	if (copy->conn == NULL)
		return;
	result = PQexec(copy->conn, query);
	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
	{
		copy->state = PQgetvalue(result, 0, 0)[0] == 'f'   ? COPY_OPEN
					  : PQgetvalue(result, 0, 3)[0] == 't' ? COPY_PAUSED
														   : COPY_RECOVERING;
		if (!PQgetisnull(result, 0, 1))
			copy->replayed = parse_lsn(PQgetvalue(result, 0, 1));
		copy->has_last_time = !PQgetisnull(result, 0, 2);
		if (copy->has_last_time)
			copy->last_time = strtoll(PQgetvalue(result, 0, 2), NULL, 10);
	}
	else if (PQstatus(copy->conn) != CONNECTION_OK)
	{
		PQfinish(copy->conn);
		copy->conn = NULL;
	}
	PQclear(result);
}

/* Before connections are possible, the title of the process that replays says which segment it is at. */
static XLogRecPtr
segment_of_title(Copy *copy)
{
#ifdef __linux__
	char path[64];
	char children[4096];
	FILE *file;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int) copy->restore->postmaster,
			 (int) copy->restore->postmaster);
	file = fopen(path, "r");
	if (file == NULL)
		return InvalidXLogRecPtr;
	n = fread(children, 1, sizeof(children) - 1, file);
	children[n] = '\0';
	fclose(file);
	for (char *pid = strtok(children, " "); pid != NULL; pid = strtok(NULL, " "))
	{
		char title[256];
		char *name;

		snprintf(path, sizeof(path), "/proc/%d/cmdline", atoi(pid));
		file = fopen(path, "r");
		if (file == NULL)
			continue;
		n = fread(title, 1, sizeof(title) - 1, file);
		title[n] = '\0';
		fclose(file);
		name = strstr(title, "recovering ");
		if (strstr(title, "startup") != NULL && name != NULL)
		{
			char segment[WA_WAL_NAME_LEN];
			TimeLineID tli;
			uint64 segno;

			strlcpy(segment, name + 11, 25);
			if (wa_parse_wal_name(segment, copy->restore->segment_size, &tli, &segno) == WA_FILE_SEGMENT)
				return wa_segment_start(segno, copy->restore->segment_size);
		}
	}
#endif
	return InvalidXLogRecPtr;
}

static void
show_progress(Copy *copy)
{
	Restore *restore = copy->restore;
	const ArchivePlan *plan = &restore->plan;
	XLogRecPtr at = copy->replayed;
	double now = seconds_now();
	double part;
	char left[64] = "";

	if (now < copy->next_progress)
		return;
	copy->next_progress = now + 0.5;
	restore_renew(restore);
	if (at == InvalidXLogRecPtr)
		at = segment_of_title(copy);
	if (at <= plan->start_lsn || plan->stop_lsn <= plan->start_lsn)
	{
		restore_progress(restore, "recovery: starting");
		return;
	}
	part = Min(1.0, (double) (at - plan->start_lsn) / (double) (plan->stop_lsn - plan->start_lsn));
	if (part > 0.02 && part < 1.0)
	{
		long seconds = (long) ((now - copy->began) * (1 - part) / part + 0.5);

		snprintf(left, sizeof(left), ", about %ld:%02ld left", seconds / 60, seconds % 60);
	}
	restore_progress(restore, "recovery: at %X/%X of %X/%X (%d%%)%s", LSN_FORMAT_ARGS(at),
					 LSN_FORMAT_ARGS(plan->stop_lsn), (int) (100 * part), left);
}

/* ---- comparing ---- */

/* What the copy says of the transaction of the plan's last commit; 0: can't be asked. */
static char
commit_status(Copy *copy)
{
	/* the epoch is that of the next transaction, or the one before */
	static const char query[] =
		"SELECT pg_xact_status((CASE WHEN x.full > x.next THEN x.full - 4294967296 ELSE x.full END)::text::xid8) "
		"FROM (SELECT n.next, (n.next / 4294967296) * 4294967296 + $1::bigint AS full "
		"FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next) n) x";
	char xid[16];
	const char *values[] = {xid};
	PGresult *result;
	char status = 0;

	snprintf(xid, sizeof(xid), "%u", copy->restore->plan.last_commit_xid);
	result = PQexecParams(copy->conn, query, 1, NULL, values, NULL, NULL, 0);
	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1 && !PQgetisnull(result, 0, 0))
		status = PQgetvalue(result, 0, 0)[0];
	PQclear(result);
	return status;
}

static bool
differs(const char *fmt, ...) pg_attribute_printf(1, 2);

static bool
differs(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	pg_log_generic_v(PG_LOG_ERROR, PG_LOG_PRIMARY, fmt, args);
	va_end(args);
	pg_log_error_hint("The copy is not what was planned. Keep it and its log, and report this: it is a defect.");
	return false;
}

/* With a connection: is it where the plan says, with the plan's last commit? */
static bool
compare_connected(Copy *copy)
{
	Restore *restore = copy->restore;
	const ArchivePlan *plan = &restore->plan;

	restore->compared = true;
	restore->replayed_lsn = copy->replayed;
	if (copy->replayed != plan->stop_lsn)
		return differs("recovery ended at %X/%X, but %X/%X was planned", LSN_FORMAT_ARGS(copy->replayed),
					   LSN_FORMAT_ARGS(plan->stop_lsn));
	if (plan->has_commit)
	{
		char status = commit_status(copy);

		if (status != 0 && status != 'c')
			return differs("transaction %u is not committed in the copy, as was planned", plan->last_commit_xid);
	}
	return true;
}

/*
 * Where the newest timeline of the copy began, as its history says: the end of
 * the recovery.  0: there is none that this recovery made.
 */
static XLogRecPtr
promoted_at(Restore *restore)
{
	char path[MAXPGPATH];
	DIR *dir;
	struct dirent *entry;
	TimeLineID newest = 0;
	char name[WA_WAL_NAME_LEN];
	size_t len;
	char *text;
	WaHistory *history;
	XLogRecPtr result = InvalidXLogRecPtr;

	snprintf(path, sizeof(path), "%s/pg_wal", restore->data);
	dir = opendir(path);
	if (dir == NULL)
		return InvalidXLogRecPtr;
	while ((entry = readdir(dir)) != NULL)
	{
		TimeLineID tli;
		uint64 segno;

		if (wa_parse_wal_name(entry->d_name, restore->segment_size, &tli, &segno) == WA_FILE_HISTORY && tli > newest)
			newest = tli;
	}
	closedir(dir);
	if (newest <= restore->plan.timeline)
		return InvalidXLogRecPtr;
	wa_history_name(name, newest);
	snprintf(path, sizeof(path), "%s/pg_wal/%s", restore->data, name);
	text = conf_read_file(path, &len);
	if (text == NULL)
		return InvalidXLogRecPtr;
	history = pg_malloc(sizeof(WaHistory));
	if (wa_history_parse(text, len, newest, history) == NULL && history->count > 1 &&
		history->entry[history->count - 2].tli == restore->plan.timeline)
		result = history->entry[history->count - 1].begin;
	pg_free(history);
	pg_free(text);
	return result;
}

/* A promoted copy: its new timeline begins where recovery ended. */
static bool
compare_promoted(Copy *copy)
{
	Restore *restore = copy->restore;
	XLogRecPtr at = promoted_at(restore);

	restore->promoted = true;
	if (at == InvalidXLogRecPtr)
		return true;
	restore->compared = true;
	restore->replayed_lsn = at;
	if (at != restore->plan.stop_lsn)
		return differs("the copy's timeline begins at %X/%X, but %X/%X was planned", LSN_FORMAT_ARGS(at),
					   LSN_FORMAT_ARGS(restore->plan.stop_lsn));
	return true;
}

/* ---- the end ---- */

static bool
wait_for(Copy *copy, CopyState state)
{
	for (;;)
	{
		look(copy);
		if (copy->state == state)
			return true;
		if (copy->state == COPY_GONE)
			return false;
		pg_usleep(POLL_MS * 1000L);
	}
}

/* The segment that the server could not get, by its log; false: that was not the trouble. */
static bool
missed_segment(Restore *restore, XLogRecPtr *start)
{
	static const char says[] = "could not restore file \"";
	char path[MAXPGPATH];
	size_t len;
	char *text;
	bool found = false;

	snprintf(path, sizeof(path), "%s/" RESTORE_LOG, restore->data);
	text = conf_read_file(path, &len);
	for (char *at = text; at != NULL && (at = strstr(at, says)) != NULL;)
	{
		char name[WA_WAL_NAME_LEN];
		TimeLineID tli;
		uint64 segno;

		at += strlen(says);
		strlcpy(name, at, Min(sizeof(name), strcspn(at, "\"") + 1));
		if (wa_parse_wal_name(name, restore->segment_size, &tli, &segno) == WA_FILE_SEGMENT)
		{
			*start = wa_segment_start(segno, restore->segment_size);
			found = true;
		}
	}
	pg_free(text);
	return found;
}

/* Where a restore could still go to: shortly before the segment that can't be had. */
static void
suggest_target(Restore *restore)
{
	XLogRecPtr bad;

	if (!missed_segment(restore, &bad))
		return;
	for (uint64 back = XLOG_BLCKSZ; back <= 64 * XLOG_BLCKSZ && bad - back > restore->plan.start_lsn; back *= 2)
	{
		WaRestoreTarget target = {.kind = WA_TARGET_LSN, .inclusive = true, .lsn = bad - back, .timeline = restore->plan.timeline, .backup = restore->plan.backup};
		ArchivePlan plan;
		char time[CLI_TIME_LEN];

		if (archive_plan(restore->archive, &target, 0, &plan) != ARCHIVE_OK || !plan.feasible || plan.stop_lsn > bad)
			continue;
		if (plan.has_commit)
			pg_log_error_hint("What lies before that segment can be restored: --to-lsn=%X/%X, with transaction %u%s%s as its last commit.",
							  LSN_FORMAT_ARGS(target.lsn), plan.last_commit_xid, plan.has_commit_time ? " of " : "",
							  plan.has_commit_time ? cli_time_text(plan.last_commit_time, time) : "");
		else
			pg_log_error_hint("What lies before that segment can be restored: --to-lsn=%X/%X.", LSN_FORMAT_ARGS(target.lsn));
		return;
	}
}

static int
failed_recovery(Copy *copy)
{
	Restore *restore = copy->restore;

	restore_progress_end(restore);
	pg_log_error("PostgreSQL has ended before the target was reached");
	show_log(restore);
	suggest_target(restore);
	pg_log_error_hint("When the cause is gone, start it again: it goes on where it was.");
	return EXIT_LOCAL;
}

/* At the target and as planned: what now? */
static int
at_target(Copy *copy)
{
	Restore *restore = copy->restore;
	char *problem;

	if (strcmp(restore->target_action, "pause") == 0)
	{
		restore->paused = true;
		return EXIT_DONE;
	}
	if (strcmp(restore->target_action, "shutdown") == 0)
	{
		PQfinish(copy->conn);
		copy->conn = NULL;
		kill(restore->postmaster, SIGINT);
		while (!server_is_gone(copy))
			pg_usleep(POLL_MS * 1000L);
		restore->postmaster = 0;
		return EXIT_DONE;
	}
	restore_progress(restore, "recovery: at the target; opening the copy");
	PQclear(PQexec(copy->conn, "SELECT pg_promote(false)"));
	if (!wait_for(copy, COPY_OPEN))
		return failed_recovery(copy);
	if (!compare_promoted(copy))
	{
		restore->agrees = false;
		return EXIT_NO;
	}
	if (!restore_end_settings(restore->data, &problem))
		pg_log_warning("%s", problem);
	else
		kill(restore->postmaster, SIGHUP);
	return EXIT_DONE;
}

/* Follow until it pauses, is open, or is gone. */
static int
follow(Copy *copy)
{
	Restore *restore = copy->restore;
	char status[32];
	char *problem;

	for (;;)
	{
		look(copy);
		if (copy->state == COPY_PAUSED || copy->state == COPY_OPEN || copy->state == COPY_GONE)
			break;
		/* it doesn't let us in: a copy that is open can be told by its own file */
		if (copy->conn == NULL && restore->as_primary && pid_file_line(restore, 8, status, sizeof(status)) &&
			strcmp(status, "ready") == 0)
		{
			copy->state = COPY_OPEN;
			break;
		}
		show_progress(copy);
		pg_usleep(POLL_MS * 1000L);
	}
	if (copy->state == COPY_GONE)
	{
		/* a recovery that was to end so */
		if (restore->as_primary && strcmp(restore->target_action, "shutdown") == 0 &&
			WIFEXITED(copy->exit_status) && WEXITSTATUS(copy->exit_status) == 0)
		{
			restore->postmaster = 0;
			return EXIT_DONE;
		}
		return failed_recovery(copy);
	}
	if (copy->conn != NULL)
	{
		restore->agrees = compare_connected(copy);
		if (!restore->agrees)
			return EXIT_NO;
	}
	if (copy->state == COPY_PAUSED)
		return at_target(copy);

	/* it has opened itself */
	restore->agrees = compare_promoted(copy) && restore->compared;
	if (restore->compared && !restore->agrees)
		return EXIT_NO;
	if (!restore->compared)
		pg_log_warning("the copy could not be compared with the plan: it lets nobody in whom this program knows");
	if (!restore_end_settings(restore->data, &problem))
		pg_log_warning("%s", problem);
	else
		kill(restore->postmaster, SIGHUP);
	return EXIT_DONE;
}

int
restore_run(Restore *restore)
{
	Copy copy = {.restore = restore, .began = seconds_now()};
	int code;

	if (!start_server(restore))
		return EXIT_LOCAL;
	restore->renewed = 0;
	restore_renew(restore);
	code = follow(&copy);
	restore_progress_end(restore);
	if (copy.conn != NULL)
		PQfinish(copy.conn);
	drop_link(&copy);
	return code;
}
