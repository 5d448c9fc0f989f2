/*-------------------------------------------------------------------------
 *
 * sql_client.c
 *	  A connection that is never waited for.  See sql_client.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#include "../compat.h"
#include "sql_client.h"

/* Keep an error, on one line. */
static void
set_error(WaSql *sql, const char *text)
{
	size_t len = strlcpy(sql->error, text, sizeof(sql->error));

	len = Min(len, sizeof(sql->error) - 1);
	while (len > 0 && (sql->error[len - 1] == '\n' || sql->error[len - 1] == ' '))
		sql->error[--len] = '\0';
	for (char *p = sql->error; *p; p++)
	{
		if ((unsigned char) *p < ' ')
			*p = ' ';
	}
	if (len == 0)
		strlcpy(sql->error, "connection closed by the server", sizeof(sql->error));
}

static WaSqlEvent
fail(WaSql *sql, const char *text)
{
	set_error(sql, text);
	wa_sql_close(sql);
	return WA_SQL_FAILED;
}

static WaSqlEvent
fail_connection(WaSql *sql)
{
	return fail(sql, PQerrorMessage(sql->conn));
}

static void
begin_step(WaSql *sql, WaSqlPhase phase, int timeout_ms)
{
	sql->phase = phase;
	sql->timeout_ms = timeout_ms;
	sql->deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
}

/* What a server says besides has no place in our log. */
static void
ignore_notice(void *arg, const PGresult *result)
{
}

bool
wa_sql_connect(WaSql *sql, const char *const *keyword, const char *const *value,
			   int timeout_ms)
{
	Assert(sql->phase == WA_SQL_CLOSED);
	if (!AcquireExternalFD())
	{
		set_error(sql, "no file descriptor is left for a connection");
		return false;
	}
	sql->conn = PQconnectStartParams(keyword, value, 0);
	if (sql->conn == NULL)
	{
		ReleaseExternalFD();
		set_error(sql, "out of memory");
		return false;
	}
	begin_step(sql, WA_SQL_CONNECTING, timeout_ms);
	if (PQstatus(sql->conn) == CONNECTION_BAD)
	{
		(void) fail_connection(sql);
		return false;
	}
	PQsetNoticeReceiver(sql->conn, ignore_notice, NULL);
	sql->polling = PGRES_POLLING_WRITING;
	return true;
}

bool
wa_sql_send(WaSql *sql, const char *query, int timeout_ms)
{
	int flush;

	Assert(sql->phase == WA_SQL_IDLE);
	if (!PQsendQuery(sql->conn, query) || !PQsetSingleRowMode(sql->conn) ||
		(flush = PQflush(sql->conn)) < 0)
	{
		(void) fail_connection(sql);
		return false;
	}
	sql->flush_pending = flush > 0;
	sql->query_failed = false;
	begin_step(sql, WA_SQL_BUSY, timeout_ms);
	return true;
}

int
wa_sql_events(const WaSql *sql)
{
	switch (sql->phase)
	{
		case WA_SQL_CLOSED:
			return 0;
		case WA_SQL_CONNECTING:
			return sql->polling == PGRES_POLLING_READING ? WL_SOCKET_READABLE : WL_SOCKET_WRITEABLE;
		case WA_SQL_IDLE:
			return WL_SOCKET_READABLE;
		case WA_SQL_BUSY:
			return WL_SOCKET_READABLE | (sql->flush_pending ? WL_SOCKET_WRITEABLE : 0);
	}
	return 0;
}

static WaSqlEvent
advance_connecting(WaSql *sql, int ready)
{
	if (ready != 0)
		sql->polling = PQconnectPoll(sql->conn);
	if (sql->polling == PGRES_POLLING_FAILED || PQstatus(sql->conn) == CONNECTION_BAD)
		return fail_connection(sql);
	if (sql->polling != PGRES_POLLING_OK)
		return WA_SQL_WAIT;
	if (PQsetnonblocking(sql->conn, 1) != 0)
		return fail_connection(sql);
	sql->phase = WA_SQL_IDLE;
	return WA_SQL_CONNECTED;
}

static WaSqlEvent
advance_busy(WaSql *sql, int ready, PGresult **row)
{
	if (sql->flush_pending)
	{
		int flush = PQflush(sql->conn);

		if (flush < 0)
			return fail_connection(sql);
		sql->flush_pending = flush > 0;
	}
	if ((ready & WL_SOCKET_READABLE) && PQconsumeInput(sql->conn) == 0)
		return fail_connection(sql);
	while (!PQisBusy(sql->conn))
	{
		PGresult *result = PQgetResult(sql->conn);

		if (result == NULL)
		{
			if (sql->query_failed)
			{
				wa_sql_close(sql);
				return WA_SQL_FAILED;
			}
			sql->phase = WA_SQL_IDLE;
			return WA_SQL_DONE;
		}
		switch (PQresultStatus(result))
		{
			case PGRES_SINGLE_TUPLE:
				*row = result;
				return WA_SQL_ROW;
			case PGRES_TUPLES_OK:
			case PGRES_COMMAND_OK:
				PQclear(result);
				break;
			default:
			{
				const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

				set_error(sql, primary ? primary : PQresultErrorMessage(result));
				PQclear(result);
				if (PQstatus(sql->conn) == CONNECTION_BAD)
				{
					wa_sql_close(sql);
					return WA_SQL_FAILED;
				}
				/* a COPY would never end by itself */
				if (!sql->query_failed)
					sql->query_failed = true;
				else
				{
					wa_sql_close(sql);
					return WA_SQL_FAILED;
				}
			}
		}
	}
	return WA_SQL_WAIT;
}

WaSqlEvent
wa_sql_advance(WaSql *sql, int ready, PGresult **row)
{
	WaSqlEvent event = WA_SQL_WAIT;
	char text[64];

	switch (sql->phase)
	{
		case WA_SQL_CLOSED:
			return WA_SQL_WAIT;
		case WA_SQL_CONNECTING:
			event = advance_connecting(sql, ready);
			break;
		case WA_SQL_IDLE:
			/* nothing is due, so this is the end of the connection */
			if ((ready & WL_SOCKET_READABLE) &&
				(PQconsumeInput(sql->conn) == 0 || PQstatus(sql->conn) == CONNECTION_BAD))
				return fail_connection(sql);
			return WA_SQL_WAIT;
		case WA_SQL_BUSY:
			event = advance_busy(sql, ready, row);
			break;
	}
	/* also while rows are coming: the whole answer has to come in time */
	if ((event == WA_SQL_WAIT || event == WA_SQL_ROW) && GetCurrentTimestamp() >= sql->deadline)
	{
		if (event == WA_SQL_ROW)
			PQclear(*row);
		snprintf(text, sizeof(text), "%s within %d s",
				 sql->phase == WA_SQL_CONNECTING ? "could not connect" : "the server did not answer",
				 sql->timeout_ms / 1000);
		return fail(sql, text);
	}
	return event;
}

void
wa_sql_close(WaSql *sql)
{
	if (sql->phase == WA_SQL_CLOSED)
		return;
	PQfinish(sql->conn);
	sql->conn = NULL;
	sql->phase = WA_SQL_CLOSED;
	ReleaseExternalFD();
}
