/*-------------------------------------------------------------------------
 *
 * connection.c
 *	  Connections to primaries.  See connection.h.
 *
 * Used by receivers, and by sessions that check a connection.  A connection
 * ends with its process at the latest.  Secrets: a connection string is never
 * quoted in a message, and libpq's complaint about a malformed one, which
 * quotes parts of it, is not passed on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "../base/wal_name.h"
#include "../compat.h"
#include "connection.h"
#include "conninfo.h"
#include "protocol.h"

/* For each host, where the conninfo sets no connect_timeout. */
#define DEFAULT_CONNECT_TIMEOUT_MS 10000

#define MAX_KEYWORDS 80

/* No command has as many results. */
#define MAX_RESULTS 16

/* ---- waiting ---- */

static long
ms_until(TimestampTz deadline)
{
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
}

static TimestampTz
deadline_after(int ms)
{
	return ms > 0 ? TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms) : DT_NOEND;
}

/*
 * Wait for the connection's socket, for an interrupt or for the deadline.
 * Returns false if the deadline has passed.
 */
static bool
wait_for_socket(PGconn *conn, int events, TimestampTz deadline)
{
	long ms = TIMESTAMP_IS_NOEND(deadline) ? 60000 : ms_until(deadline);
	int rc;

	if (ms <= 0 && !TIMESTAMP_IS_NOEND(deadline))
		return false;
	rc = WaitLatchOrSocket(MyLatch,
						   WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | WL_TIMEOUT | events,
						   PQsocket(conn), ms, PG_WAIT_EXTENSION);
	if (rc & WL_LATCH_SET)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

/* ---- errors ---- */

static bool
contains(const char *text, const char *part)
{
	return strstr(text, part) != NULL;
}

/*
 * libpq gives no SQLSTATE for a refused connection, so the text decides.  A
 * server with other messages than English is classified as unreachable, and
 * its message is shown all the same.
 */
static WaCause
classify_connect_error(const char *text)
{
	if (contains(text, "password authentication failed") ||
		contains(text, "no password supplied") ||
		contains(text, "no pg_hba.conf entry") ||
		contains(text, "pg_hba.conf rejects") ||
		contains(text, "authentication failed") ||
		contains(text, "must be superuser or replication role") ||
		contains(text, "permission denied to start WAL sender") ||
		contains(text, "is not permitted to log in") ||
		contains(text, "role \"") ||
		contains(text, "certificate"))
		return WA_CAUSE_AUTHENTICATION;
	if (contains(text, "number of requested standby connections exceeds") ||
		contains(text, "too many clients") ||
		contains(text, "too many connections") ||
		contains(text, "remaining connection slots"))
		return WA_CAUSE_NO_SENDER;
	if (contains(text, "session is read-only") ||
		contains(text, "server is in hot standby mode"))
		return WA_CAUSE_IN_RECOVERY;
	return WA_CAUSE_CONNECTION;
}

char *
wa_server_text(const char *text)
{
	char *copy = pchomp(text);
	bool valid = pg_verifymbstr(copy, strlen(copy), true);

	for (char *p = copy; *p; p++)
	{
		if (!valid && IS_HIGHBIT_SET(*p))
			*p = '?';
		else if (((unsigned char) *p < ' ' && *p != '\n' && *p != '\t') || *p == 0x7f)
			*p = ' ';
	}
	return copy;
}

void
wa_raise_connection(WaConnection *connection, WaCause cause, const char *action)
{
	char *text = wa_server_text(PQerrorMessage(connection->conn));

	*connection->cause = cause;
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("%s: %s", action,
					text[0] != '\0' ? text : "connection closed by the server")));
	pg_unreachable();
}

void
wa_raise_result(WaConnection *connection, PGresult *result, WaCause cause,
				const char *action)
{
	const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
	char *text = wa_server_text(primary ? primary : PQerrorMessage(connection->conn));
	char *more = detail ? wa_server_text(detail) : NULL;

	if (text[0] == '\0')
		text = psprintf("unexpected result %s", PQresStatus(PQresultStatus(result)));
	PQclear(result);
	*connection->cause = cause;
	ereport(ERROR,
			(errcode(cause == WA_CAUSE_PROTOCOL ? ERRCODE_PROTOCOL_VIOLATION : ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("%s: %s", action, text),
			 more ? errdetail("%s", more) : 0));
	pg_unreachable();
}

bool
wa_result_is(const PGresult *result, const char *sqlstate)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	return state != NULL && strcmp(state, sqlstate) == 0;
}

/* ---- connecting ---- */

void
wa_disconnect(WaConnection *connection)
{
	if (connection == NULL || connection->conn == NULL)
		return;
	if (connection->wait_set != NULL)
		FreeWaitEventSet(connection->wait_set);
	connection->wait_set = NULL;
	PQfinish(connection->conn);
	connection->conn = NULL;
	ReleaseExternalFD();
}

/* Quoting inside the "options" parameter: spaces and backslashes. */
static char *
build_options(const char *given, int server_timeout_ms)
{
	if (server_timeout_ms <= 0)
		return given ? pstrdup(given) : NULL;
	/* the user's come last and win */
	return psprintf("-c wal_sender_timeout=%d %s", server_timeout_ms,
					given ? given : "");
}

/* libpq would write what a server says besides into our log as it is. */
static void
ignore_notice(void *arg, const PGresult *result)
{
}

/* Connect to one host; raises an error if that fails. */
static void
connect_host(WaConnection *connection, PQconninfoOption *options,
			 const WaHostList *hosts, int host, const char *target_session_attrs,
			 const char *application_name, int server_timeout_ms)
{
	const char *keyword[MAX_KEYWORDS];
	const char *value[MAX_KEYWORDS];
	int n = 0;
	int timeout_ms = DEFAULT_CONNECT_TIMEOUT_MS;
	const char *timeout = wa_conninfo_value(options, "connect_timeout");
	TimestampTz deadline;
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;
	const char *name;

	/*
	 * A server that is gone without a word is to be noticed also where nothing
	 * has to be heard of it for long: before a backup's first byte.  What the
	 * conninfo says comes later and wins.
	 */
	keyword[n] = "keepalives_idle";
	value[n++] = "30";
	keyword[n] = "keepalives_interval";
	value[n++] = "10";
	keyword[n] = "keepalives_count";
	value[n++] = "6";
	for (PQconninfoOption *o = options; o->keyword != NULL; o++)
	{
		if (o->val == NULL || n >= MAX_KEYWORDS - 8 ||
			strcmp(o->keyword, "host") == 0 ||
			strcmp(o->keyword, "hostaddr") == 0 ||
			strcmp(o->keyword, "port") == 0 ||
			strcmp(o->keyword, "options") == 0 ||
			strcmp(o->keyword, "service") == 0 ||
			strcmp(o->keyword, "replication") == 0 ||
			strcmp(o->keyword, "dbname") == 0 ||
			strcmp(o->keyword, "load_balance_hosts") == 0 ||
			strcmp(o->keyword, "target_session_attrs") == 0 ||
			strcmp(o->keyword, "application_name") == 0 ||
			strcmp(o->keyword, "fallback_application_name") == 0)
			continue;
		keyword[n] = o->keyword;
		value[n++] = o->val;
	}
#define SET(k, v)             \
	do                        \
	{                         \
		if ((v) != NULL)      \
		{                     \
			keyword[n] = (k); \
			value[n++] = (v); \
		}                     \
	} while (0)
	SET("host", hosts->host[host]);
	SET("hostaddr", hosts->hostaddr[host]);
	SET("port", hosts->port[host]);
	SET("options", build_options(wa_conninfo_value(options, "options"), server_timeout_ms));
	SET("target_session_attrs", target_session_attrs);
	name = wa_conninfo_value(options, "application_name");
	SET("application_name", name ? name : application_name);
	SET("replication", "true");
	/* as walreceiver does: the key under which a passfile is looked up */
	SET("dbname", "replication");
#undef SET
	keyword[n] = NULL;
	value[n] = NULL;

	if (timeout != NULL)
	{
		int seconds = atoi(timeout);

		timeout_ms = seconds > 0 && seconds < 3600 ? seconds * 1000 : 0;
	}
	deadline = deadline_after(timeout_ms);

	if (!AcquireExternalFD())
	{
		*connection->cause = WA_CAUSE_OTHER;
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("no file descriptor is left for a connection"),
				 errhint("Raise max_files_per_process or the operating system's limit.")));
	}
	connection->conn = PQconnectStartParams(keyword, value, 0);
	if (connection->conn == NULL)
	{
		ReleaseExternalFD();
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	(void) PQsetNoticeReceiver(connection->conn, ignore_notice, NULL);
	if (PQstatus(connection->conn) != CONNECTION_BAD)
	{
		for (;;)
		{
			int events;

			if (status == PGRES_POLLING_OK || status == PGRES_POLLING_FAILED)
				break;
			events = status == PGRES_POLLING_READING ? WL_SOCKET_READABLE : WL_SOCKET_WRITEABLE;
			if (!wait_for_socket(connection->conn, events, deadline))
			{
				*connection->cause = WA_CAUSE_CONNECTION;
				ereport(ERROR,
						(errcode(ERRCODE_CONNECTION_FAILURE),
						 errmsg("could not connect within %d s", timeout_ms / 1000)));
			}
			status = PQconnectPoll(connection->conn);
		}
	}
	if (PQstatus(connection->conn) != CONNECTION_OK)
	{
		char *text = wa_server_text(PQerrorMessage(connection->conn));

		*connection->cause = classify_connect_error(text);
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("%s", text)));
	}
	if (PQsetnonblocking(connection->conn, 1) != 0)
		wa_raise_connection(connection, WA_CAUSE_CONNECTION, "could not set the connection up");
}

static PGresult *
get_result(WaConnection *connection, TimestampTz deadline)
{
	for (;;)
	{
		int flush = PQflush(connection->conn);

		if (flush < 0)
			wa_raise_connection(connection, WA_CAUSE_CONNECTION, "could not send to the server");
		if (flush == 0 && !PQisBusy(connection->conn))
			break;
		if (!wait_for_socket(connection->conn,
							 WL_SOCKET_READABLE | (flush > 0 ? WL_SOCKET_WRITEABLE : 0),
							 deadline))
		{
			*connection->cause = WA_CAUSE_TIMEOUT;
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("the server did not answer within %d ms", connection->timeout_ms)));
		}
		if (PQconsumeInput(connection->conn) == 0)
			wa_raise_connection(connection, WA_CAUSE_CONNECTION, "connection to the server was lost");
	}
	return PQgetResult(connection->conn);
}

PGresult *
wa_get_result(WaConnection *connection)
{
	return get_result(connection, deadline_after(connection->timeout_ms));
}

static void
check_results(WaConnection *connection, int results)
{
	if (results <= MAX_RESULTS)
		return;
	*connection->cause = WA_CAUSE_PROTOCOL;
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("the server's answer to a command does not end")));
}

void
wa_drain_results(WaConnection *connection)
{
	TimestampTz deadline = deadline_after(connection->timeout_ms);
	PGresult *result;

	for (int results = 1; (result = get_result(connection, deadline)) != NULL; results++)
	{
		PQclear(result);
		check_results(connection, results);
	}
}

PGresult *
wa_exec(WaConnection *connection, const char *command)
{
	TimestampTz deadline = deadline_after(connection->timeout_ms);
	PGresult *volatile last = NULL;

	if (!PQsendQuery(connection->conn, command))
		wa_raise_connection(connection, WA_CAUSE_CONNECTION, "could not send a command");
	PG_TRY();
	{
		for (int results = 1;; results++)
		{
			PGresult *result = get_result(connection, deadline);

			if (result == NULL)
				break;
			/* START_REPLICATION without COPY completes twice: the rows count */
			if (last != NULL && PQresultStatus(last) == PGRES_TUPLES_OK &&
				PQresultStatus(result) == PGRES_COMMAND_OK)
				PQclear(result);
			else
			{
				PQclear(last);
				last = result;
				if (PQresultStatus(last) == PGRES_COPY_BOTH ||
					PQresultStatus(last) == PGRES_COPY_IN ||
					PQresultStatus(last) == PGRES_COPY_OUT ||
					PQstatus(connection->conn) == CONNECTION_BAD)
					break;
			}
			check_results(connection, results);
		}
	}
	PG_CATCH();
	{
		/* libpq's memory, which ends with no context: a server could have it grow with each attempt */
		PQclear(last);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (last == NULL)
		wa_raise_connection(connection, WA_CAUSE_CONNECTION, "the server gave no answer");
	return last;
}

/*
 * As wait_for_socket, for what waits once a few kilobytes: making a set of
 * events takes longer than to read them.
 */
static bool
wait_for_copy(WaConnection *connection, TimestampTz deadline)
{
	long ms = TIMESTAMP_IS_NOEND(deadline) ? 60000 : ms_until(deadline);
	WaitEvent event;

	if (ms <= 0 && !TIMESTAMP_IS_NOEND(deadline))
		return false;
	if (connection->wait_set == NULL || connection->wait_socket != PQsocket(connection->conn))
	{
		if (connection->wait_set != NULL)
			FreeWaitEventSet(connection->wait_set);
		connection->wait_set = wa_create_wait_event_set(3);
		AddWaitEventToSet(connection->wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		AddWaitEventToSet(connection->wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
		connection->wait_socket = PQsocket(connection->conn);
		AddWaitEventToSet(connection->wait_set, WL_SOCKET_READABLE, connection->wait_socket, NULL, NULL);
	}
	if (WaitEventSetWait(connection->wait_set, ms, &event, 1, PG_WAIT_EXTENSION) == 1 &&
		(event.events & WL_LATCH_SET))
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return true;
}

int
wa_get_copy_data(WaConnection *connection, char **message, int timeout_ms)
{
	TimestampTz deadline = DT_NOEND;

	/* what has come already is read without waiting for it, and without asking for the time */
	for (bool wait = false;; wait = true)
	{
		int len = PQgetCopyData(connection->conn, message, 1);

		if (len > 0 || len == -1)
			return len;
		if (len < -1)
			wa_raise_connection(connection, WA_CAUSE_CONNECTION, "could not receive data");
		if (wait && TIMESTAMP_IS_NOEND(deadline))
			deadline = deadline_after(timeout_ms);
		if (wait && !wait_for_copy(connection, deadline))
		{
			*connection->cause = WA_CAUSE_TIMEOUT;
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("the server has sent nothing for %d s", timeout_ms / 1000)));
		}
		if (PQconsumeInput(connection->conn) == 0)
			wa_raise_connection(connection, WA_CAUSE_CONNECTION, "connection to the server was lost");
	}
}

/* Have libpq send what it holds. */
static void
flush_copy(WaConnection *connection)
{
	TimestampTz deadline = deadline_after(connection->timeout_ms);
	int rc;

	while ((rc = PQflush(connection->conn)) != 0)
	{
		if (rc < 0)
			wa_raise_connection(connection, WA_CAUSE_CONNECTION, "could not send to the server");
		if (!wait_for_socket(connection->conn, WL_SOCKET_READABLE | WL_SOCKET_WRITEABLE, deadline))
		{
			*connection->cause = WA_CAUSE_TIMEOUT;
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("the server took nothing for %d ms", connection->timeout_ms)));
		}
		/* it may have an error to say, and takes no more before that is read */
		if (PQconsumeInput(connection->conn) == 0)
			wa_raise_connection(connection, WA_CAUSE_CONNECTION, "connection to the server was lost");
	}
}

void
wa_put_copy_data(WaConnection *connection, const char *data, int len)
{
	if (PQputCopyData(connection->conn, data, len) != 1)
		wa_raise_connection(connection, WA_CAUSE_CONNECTION, "could not send to the server");
	flush_copy(connection);
}

void
wa_put_copy_end(WaConnection *connection)
{
	if (PQputCopyEnd(connection->conn, NULL) != 1)
		wa_raise_connection(connection, WA_CAUSE_CONNECTION, "could not send to the server");
	flush_copy(connection);
}

/* One row of at least 'fields' non-null fields, or an error. */
static PGresult *
exec_row(WaConnection *connection, const char *command, int fields)
{
	PGresult *result = wa_exec(connection, command);

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		wa_raise_result(connection, result, WA_CAUSE_PROTOCOL, command);
	if (PQntuples(result) != 1 || PQnfields(result) < fields)
	{
		PQclear(result);
		*connection->cause = WA_CAUSE_PROTOCOL;
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("the server's answer to %s has another shape than expected", command)));
	}
	return result;
}

void
wa_bad_answer(WaConnection *connection, const char *command)
{
	*connection->cause = WA_CAUSE_PROTOCOL;
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("the server's answer to %s is not valid", command)));
}

static bool
parse_decimal(const char *text, uint64 max, uint64 *value)
{
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	*value = strtou64(text, &end, 10);
	return errno == 0 && *end == '\0' && *value <= max;
}

void
wa_identify(WaConnection *connection)
{
	PGresult *result = exec_row(connection, "IDENTIFY_SYSTEM", 3);
	uint64 tli = 0;
	bool ok;

	ok = parse_decimal(PQgetvalue(result, 0, 0), PG_UINT64_MAX,
					   &connection->server.system_identifier) &&
		 connection->server.system_identifier != 0 &&
		 parse_decimal(PQgetvalue(result, 0, 1), PG_UINT32_MAX, &tli) && tli > 0 &&
		 wa_parse_lsn(PQgetvalue(result, 0, 2), &connection->server.flushed);
	PQclear(result);
	if (!ok)
		wa_bad_answer(connection, "IDENTIFY_SYSTEM");
	connection->server.timeline = (TimeLineID) tli;
}

/* wal_segment_size as SHOW prints it: "16MB", "1GB", "65536kB" */
static bool
parse_segment_size(const char *text, uint32 *size)
{
	uint64 number;
	char digits[16];
	size_t n = strspn(text, "0123456789");

	if (n == 0 || n > 10)
		return false;
	memcpy(digits, text, n);
	digits[n] = '\0';
	if (!parse_decimal(digits, PG_UINT32_MAX, &number))
		return false;
	if (strcmp(text + n, "kB") == 0)
		number *= 1024;
	else if (strcmp(text + n, "MB") == 0)
		number *= 1024 * 1024;
	else if (strcmp(text + n, "GB") == 0)
		number *= 1024 * 1024 * 1024;
	else if (strcmp(text + n, "B") != 0 && text[n] != '\0')
		return false;
	*size = (uint32) number;
	return number <= WA_MAX_SEGMENT_SIZE && wa_segment_size_is_valid(number);
}

static void
describe_server(WaConnection *connection)
{
	PGconn *conn = connection->conn;
	WaServer *server = &connection->server;
	const char *host = PQhost(conn);
	const char *value;
	PGresult *result;

	strlcpy(server->host, host && host[0] ? host : "", sizeof(server->host));
	value = PQhostaddr(conn);
	strlcpy(server->addr, value ? value : "", sizeof(server->addr));
	value = PQport(conn);
	server->port = value ? atoi(value) : 0;
	server->version = PQserverVersion(conn);
	if (server->version < 150000)
	{
		*connection->cause = WA_CAUSE_VERSION;
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("server version %d.%d is not supported",
						server->version / 10000, server->version % 10000),
				 errhint("%s", wa_cause_hint(WA_CAUSE_VERSION))));
	}
	value = PQparameterStatus(conn, "in_hot_standby");
	server->in_recovery = value != NULL && strcmp(value, "on") == 0;
	wa_identify(connection);

	result = exec_row(connection, "SHOW wal_segment_size", 1);
	if (!parse_segment_size(PQgetvalue(result, 0, 0), &server->segment_size))
	{
		PQclear(result);
		wa_bad_answer(connection, "SHOW wal_segment_size");
	}
	PQclear(result);
	result = exec_row(connection, "SHOW synchronous_commit", 1);
	server->remote_apply = strcmp(PQgetvalue(result, 0, 0), "remote_apply") == 0;
	PQclear(result);
}

WaConnection *
wa_connect(const char *conninfo, const char *application_name,
		   int server_timeout_ms, int timeout_ms, WaCause *cause,
		   WaAcceptServer accept, void *arg)
{
	PQconninfoOption *options = wa_parse_conninfo(conninfo);
	WaConnection *connection = palloc0(sizeof(WaConnection));
	WaHostList *hosts = palloc0(sizeof(WaHostList));
	const char *attrs = wa_conninfo_value(options, "target_session_attrs");
	MemoryContext context = CurrentMemoryContext;
	char *earlier = NULL;
	bool prefer = attrs != NULL && strcmp(attrs, "prefer-standby") == 0;
	int tries;

	connection->cause = cause;
	connection->timeout_ms = timeout_ms;
	*cause = WA_CAUSE_SETTINGS;
	wa_list_hosts(options, hosts);
	*cause = WA_CAUSE_OTHER;
	tries = prefer ? 2 * hosts->count : hosts->count;
	for (int i = 0; i < tries; i++)
	{
		volatile int host = i % hosts->count;
		volatile bool connected = false;

		PG_TRY();
		{
			connect_host(connection, options, hosts, host,
						 !prefer ? attrs : i < hosts->count ? "standby"
															: "any",
						 application_name, server_timeout_ms);
			describe_server(connection);
			if (accept)
				accept(arg, connection);
			connected = true;
		}
		PG_CATCH();
		{
			ErrorData *error;

			wa_disconnect(connection);
			MemoryContextSwitchTo(context);
			error = CopyErrorData();
			/* an interrupt is no reason to try the next host */
			if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || i == tries - 1)
			{
				FlushErrorState();
				PQconninfoFree(options);
				if (earlier != NULL && error->sqlerrcode != ERRCODE_QUERY_CANCELED)
					error->detail = psprintf("%s%s%s", error->detail ? error->detail : "",
											 error->detail ? "\n" : "", earlier);
				ReThrowError(error);
			}
			FlushErrorState();
			earlier = psprintf("%s%sHost \"%s\": %s", earlier ? earlier : "",
							   earlier ? "\n" : "",
							   hosts->host[host] ? hosts->host[host] : hosts->hostaddr[host] ? hosts->hostaddr[host]
																							 : "",
							   error->message);
		}
		PG_END_TRY();
		if (connected)
			break;
	}
	PQconninfoFree(options);
	return connection;
}

/* ---- what a server still has ---- */

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/*
 * Walk down from the segment of 'end' while the file of each segment is there
 * under the name that the path gives it.
 */
static XLogRecPtr
walk_down(const WaHistory *history, XLogRecPtr end, uint32 segment_size,
		  char **names, int count)
{
	uint64 segno = wa_segment_of(end > 0 ? end - 1 : 0, segment_size);
	XLogRecPtr oldest = 0;

	qsort(names, count, sizeof(char *), compare_names);
	for (;; segno--)
	{
		char name[WA_WAL_NAME_LEN];
		char *key = name;

		/* a segment with a switch in it has the child's name */
		wa_segment_name(name,
						wa_history_timeline_at(history,
											   Min(wa_segment_start(segno + 1, segment_size), end) - 1),
						segno, segment_size);
		if (count == 0 ||
			bsearch(&key, names, count, sizeof(char *), compare_names) == NULL)
			break;
		oldest = wa_segment_start(segno, segment_size);
		if (segno == 0)
			break;
	}
	return oldest;
}

XLogRecPtr
wa_oldest_wal(const char *conninfo, const WaConnection *connection,
			  const WaHistory *history)
{
	PQconninfoOption *options = wa_parse_conninfo(conninfo);
	WaCause cause = WA_CAUSE_NONE;
	WaConnection sql = {.cause = &cause, .timeout_ms = connection->timeout_ms};
	const char *dbname = wa_conninfo_value(options, "dbname");
	const char *keyword[MAX_KEYWORDS];
	const char *value[MAX_KEYWORDS];
	int n = 0;
	char port[16];
	PGresult *result;
	XLogRecPtr oldest = 0;
	TimestampTz deadline = deadline_after(DEFAULT_CONNECT_TIMEOUT_MS);
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;

	for (PQconninfoOption *o = options; o->keyword != NULL; o++)
	{
		if (o->val == NULL || n >= MAX_KEYWORDS - 5 ||
			strcmp(o->keyword, "host") == 0 || strcmp(o->keyword, "hostaddr") == 0 ||
			strcmp(o->keyword, "port") == 0 || strcmp(o->keyword, "dbname") == 0 ||
			strcmp(o->keyword, "service") == 0 ||
			strcmp(o->keyword, "replication") == 0)
			continue;
		keyword[n] = o->keyword;
		value[n++] = o->val;
	}
	/* the very server of the replication connection */
	snprintf(port, sizeof(port), "%d", connection->server.port);
	keyword[n] = "host";
	value[n++] = connection->server.host;
	keyword[n] = "port";
	value[n++] = port;
	keyword[n] = "dbname";
	value[n++] = dbname ? dbname : "postgres";
	keyword[n] = NULL;
	value[n] = NULL;

	if (!AcquireExternalFD())
	{
		PQconninfoFree(options);
		return 0;
	}
	sql.conn = PQconnectStartParams(keyword, value, 0);
	PQconninfoFree(options);
	if (sql.conn == NULL)
	{
		ReleaseExternalFD();
		return 0;
	}
	(void) PQsetNoticeReceiver(sql.conn, ignore_notice, NULL);
	while (PQstatus(sql.conn) != CONNECTION_BAD &&
		   status != PGRES_POLLING_OK && status != PGRES_POLLING_FAILED &&
		   wait_for_socket(sql.conn, status == PGRES_POLLING_READING ? WL_SOCKET_READABLE : WL_SOCKET_WRITEABLE, deadline))
		status = PQconnectPoll(sql.conn);
	if (status != PGRES_POLLING_OK)
	{
		wa_disconnect(&sql);
		return 0;
	}
	PG_TRY();
	{
		result = wa_exec(&sql,
						 "SELECT name FROM pg_catalog.pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'");
		if (PQresultStatus(result) == PGRES_TUPLES_OK && PQnfields(result) == 1)
		{
			int count = PQntuples(result);
			char **names = palloc(Max(count, 1) * sizeof(char *));

			for (int i = 0; i < count; i++)
				names[i] = pstrdup(PQgetvalue(result, i, 0));
			oldest = walk_down(history, connection->server.flushed,
							   connection->server.segment_size, names, count);
		}
		PQclear(result);
	}
	PG_FINALLY();
	{
		wa_disconnect(&sql);
	}
	PG_END_TRY();
	return oldest;
}
