/*-------------------------------------------------------------------------
 *
 * connection.h
 *	  Connections to primaries: the only user of libpq in the server, with what
 *	  reads a base backup from one.
 *
 * All waiting is done on the process latch with deadlines, and can be
 * interrupted; name resolution alone can block, inside libpq.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_CONNECTION_H
#define WA_CONNECTION_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "libpq-fe.h"

#include "../base/history.h"
#include "../compat.h"
#include "../state/cause.h"
#include "../state/shmem.h"

/* What a server says of itself. */
typedef struct WaServer
{
	char host[WA_HOST_LEN];
	char addr[WA_ADDR_LEN]; /* numeric, empty for a socket file */
	int port;
	int version; /* PQserverVersion */
	uint64 system_identifier;
	TimeLineID timeline; /* its newest */
	XLogRecPtr flushed;  /* end of its durable WAL */
	uint32 segment_size;
	bool in_recovery;
	bool remote_apply; /* synchronous_commit, as the server is configured */
} WaServer;

typedef struct WaConnection
{
	PGconn *conn;
	WaCause *cause; /* set before an error is raised */
	int timeout_ms; /* for each answer, 0: none */
	WaServer server;
	struct WaitEventSet *wait_set; /* of wa_get_copy_data, NULL: none yet */
	pgsocket wait_socket;          /* the socket in it */
} WaConnection;

/*
 * Decides whether the server of a new connection will do; raises an error if
 * not, with '*cause' set: then the next host of the conninfo is tried.
 */
typedef void (*WaAcceptServer)(void *arg, WaConnection *connection);

/*
 * Connect for physical replication.  The hosts of 'conninfo' are tried in
 * order, each with a deadline of its own; 'application_name' is used unless
 * the string sets one; 'server_timeout_ms' is asked for as wal_sender_timeout
 * (0: the server's own).  The server is identified and then offered to
 * 'accept' (NULL: any will do).  Raises an error if no host will do, which is
 * the last one's, with '*cause' set; the errors of the others in its detail.
 * The connection is palloc'd and is closed by wa_disconnect, or at exit.
 */
extern WaConnection *wa_connect(const char *conninfo,
								const char *application_name,
								int server_timeout_ms, int timeout_ms,
								WaCause *cause, WaAcceptServer accept,
								void *arg);

/* Close; NULL is allowed. */
extern void wa_disconnect(WaConnection *connection);

/*
 * Run a command and return its last result, to be PQclear'ed by the caller.
 * Raises an error only if the connection breaks or the deadline passes; an
 * error of the server is in the result.
 */
extern PGresult *wa_exec(WaConnection *connection, const char *command);

/* Wait for the next result, NULL at the end; else as wa_exec. */
extern PGresult *wa_get_result(WaConnection *connection);

/*
 * Wait for the next message of a COPY from the server: its length, and in
 * '*message' libpq's memory, to be PQfreemem'ed by the caller; -1 at the end of
 * the COPY, whose outcome the next result tells.  Raises an error where the
 * connection breaks, or nothing comes for 'timeout_ms' (0: however long).
 */
extern int wa_get_copy_data(WaConnection *connection, char **message, int timeout_ms);

/* Read what is left of a command's results, so that another can be sent. */
extern void wa_drain_results(WaConnection *connection);

/* Send 'len' bytes of a COPY to the server, or its end. */
extern void wa_put_copy_data(WaConnection *connection, const char *data, int len);
extern void wa_put_copy_end(WaConnection *connection);

/* Ask again for the server's timeline and flushed LSN. */
extern void wa_identify(WaConnection *connection);

/*
 * A server's text for our log and views, palloc'd: lines may end, but nothing
 * steers a terminal, and a session gets it in its own encoding or with '?' in it.
 */
extern char *wa_server_text(const char *text);

/* Raise the server's error in 'result', which is cleared, as 'cause'. */
pg_noreturn extern void wa_raise_result(WaConnection *connection, PGresult *result,
										WaCause cause, const char *action);

/* Raise that the server's answer to 'command' makes no sense. */
pg_noreturn extern void wa_bad_answer(WaConnection *connection, const char *command);

/* True if 'result' is an error with this SQLSTATE, of five characters. */
extern bool wa_result_is(const PGresult *result, const char *sqlstate);

/* Raise the connection's own error, as 'cause'. */
pg_noreturn extern void wa_raise_connection(WaConnection *connection, WaCause cause,
											const char *action);

/*
 * Ask for the history file of timeline 'tli'.  The content is palloc'd, its
 * length in '*len'.  NULL if the server no longer has it.
 */
extern char *wa_fetch_history(WaConnection *connection, TimeLineID tli,
							  size_t *len);

/* A physical slot as READ_REPLICATION_SLOT shows it. */
typedef struct WaSlotInfo
{
	bool exists;
	bool physical;
	XLogRecPtr restart_lsn; /* 0: none, it reserves nothing */
} WaSlotInfo;

extern void wa_read_slot(WaConnection *connection, const char *slot,
						 WaSlotInfo *info);

/* Raise an error with a cause if the slot can't be made or dropped. */
extern void wa_create_slot(WaConnection *connection, const char *slot);
extern void wa_drop_slot(WaConnection *connection, const char *slot);

/*
 * The oldest position from which the server still has all WAL up to its end,
 * on the path 'history', found by pg_ls_waldir over a connection of its own.
 * 0 if the role may not see it, or the answer is of no use.
 */
extern XLogRecPtr wa_oldest_wal(const char *conninfo,
								const WaConnection *connection,
								const WaHistory *history);

#endif /* WA_CONNECTION_H */
