/*-------------------------------------------------------------------------
 *
 * sql_client.h
 *	  An ordinary connection that is never waited for: a state machine for a
 *	  process that has many of them and one event loop.
 *
 * Every step has a deadline of its own.  The caller waits for the events that
 * wa_sql_events names and calls wa_sql_advance, also when only time has passed.
 * Name resolution blocks inside libpq: give a numeric address.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_SQL_CLIENT_H
#define WA_SQL_CLIENT_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "libpq-fe.h"

#define WA_SQL_ERROR_LEN 512

typedef enum WaSqlPhase
{
	WA_SQL_CLOSED,
	WA_SQL_CONNECTING,
	WA_SQL_IDLE,
	WA_SQL_BUSY /* a query is under way */
} WaSqlPhase;

typedef enum WaSqlEvent
{
	WA_SQL_WAIT,      /* nothing happened */
	WA_SQL_CONNECTED, /* a query can be sent */
	WA_SQL_ROW,       /* '*row' has one row, to be PQclear'ed; call again */
	WA_SQL_DONE,      /* the query is done; another can be sent */
	WA_SQL_FAILED     /* it is closed, and 'error' says why */
} WaSqlEvent;

/* All zero is a closed one. */
typedef struct WaSql
{
	WaSqlPhase phase;
	PGconn *conn;
	PostgresPollingStatusType polling; /* while connecting */
	bool flush_pending;                /* while busy */
	TimestampTz deadline;              /* of the present step */
	int timeout_ms;
	bool query_failed;
	char error[WA_SQL_ERROR_LEN]; /* one line, of any encoding */
} WaSql;

/*
 * Begin to connect; false if that fails at once, with 'error' set.
 * 'keyword' and 'value' are not needed afterwards.
 */
extern bool wa_sql_connect(WaSql *sql, const char *const *keyword,
						   const char *const *value, int timeout_ms);

/* Send a query whose rows come one by one; false as above, and closed. */
extern bool wa_sql_send(WaSql *sql, const char *query, int timeout_ms);

/* WL_SOCKET_* to wait for, 0 if it is closed. */
extern int wa_sql_events(const WaSql *sql);

/*
 * Go on as far as possible without waiting; 'ready' has the WL_SOCKET_* that
 * occurred.  Raises nothing.
 */
extern WaSqlEvent wa_sql_advance(WaSql *sql, int ready, PGresult **row);

/* Close it; a closed one is allowed. */
extern void wa_sql_close(WaSql *sql);

#endif /* WA_SQL_CLIENT_H */
