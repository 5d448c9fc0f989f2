/*-------------------------------------------------------------------------
 *
 * observer.c
 *	  The observer: one process that asks all servers, over ordinary
 *	  connections, for what WAL does not say.
 *
 * A heartbeat makes an idle server commit, so that there is always a commit of
 * not long ago to recover to, and the way from commit to catalog is measured.
 * Names of relations are in observer_names.c.
 *
 * Life: started by the launcher when a source wants one of the two, it leaves
 * when none does.  It is attached to no database of ours.  No source waits for
 * another: every connection is a state machine in one event loop.  Streaming
 * does not depend on it in any way, and it asks only servers that a receiver is
 * connected to, at the very address that the receiver found.
 *
 * A crash leaves nothing but lines of relations that are not written; they are
 * learned again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "../compat.h"
#include "conninfo.h"
#include "memory_limit.h"
#include "observer.h"

/* Nothing is due: look at the sources anyway. */
#define NAP_MS 5000

/* What the digests of WA_MAX_KNOWN_NAMES names need, and their hash table beside them. */
#define NAMES_MEMORY (64 * 1024 * 1024)

#define BEAT_TIMEOUT_MS 5000

/* A connection is kept between two heartbeats that are closer together. */
#define BEAT_KEEP_MS 60000

/* A heartbeat that fails is tried at twice the interval, and so on, up to this. */
#define MAX_BEAT_BACKOFF_MS 600000

/* A commit of the server that is later than now is not believed. */
#define MAX_FUTURE_USEC (60 * USECS_PER_SEC)

#define BEAT_SETTINGS                                                 \
	"-c statement_timeout=4s -c lock_timeout=2s -c search_path= "     \
	"-c synchronous_commit=off -c default_transaction_read_only=off " \
	"-c idle_session_timeout=0"

/*
 * Needs no right and writes a commit record alone.  A standby is asked as well,
 * because it may be promoted; it has none to give.
 */
#define BEAT_QUERY                                         \
	"SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() " \
	"THEN pg_catalog.pg_current_xact_id() END"

typedef struct Observer
{
	WaWatch *watch;        /* of each slot */
	MemoryContext context; /* of one turn */
	int asking;            /* sources whose names are being asked for */
} Observer;

bool
wa_observer_connect(const WaWatch *w, WaSql *sql, const char *dbname,
					const char *encoding, const char *application_name, const char *settings,
					int timeout_ms)
{
	const char *keyword[WA_SQL_PARAMETERS];
	const char *value[WA_SQL_PARAMETERS];
	WaSourceSettings *source = palloc(sizeof(WaSourceSettings));
	PQconninfoOption *options;
	char *problem;
	bool ok;

	if (!wa_read_source_file(w->control.name, source, &problem))
	{
		strlcpy(sql->error, problem ? problem : "source.json is missing", sizeof(sql->error));
		return false;
	}
	/* libpq's complaint would quote the string */
	options = PQconninfoParse(source->conninfo, NULL);
	if (options == NULL)
	{
		strlcpy(sql->error, "the connection string is not valid", sizeof(sql->error));
		return false;
	}
	if (dbname == NULL)
		dbname = wa_conninfo_value(options, "dbname");
	wa_sql_parameters(options, w->stat->sender_host, w->stat->sender_addr,
					  w->stat->sender_port, dbname ? dbname : "postgres",
					  encoding, application_name, settings, keyword, value);
	ok = wa_sql_connect(sql, keyword, value, timeout_ms);
	PQconninfoFree(options);
	return ok;
}

/* ---- heartbeats ---- */

static void
beat_failed(WaWatch *w, TimestampTz now, const char *error)
{
	int64 ms = w->control.heartbeat_ms;

	for (int i = 0; i < w->beat_failures && ms < MAX_BEAT_BACKOFF_MS; i++)
		ms *= 2;
	ms = Max(w->control.heartbeat_ms, Min(ms, MAX_BEAT_BACKOFF_MS));
	w->beat_failures = Min(w->beat_failures + 1, 30);
	w->beat_not_before = now + ms * 1000;
	WA_OBSERVED(w,
				strlcpy(observed->heartbeat_error, error, WA_OBSERVER_ERROR_LEN);
				observed->heartbeat_error_time = now;);
}

/* The server's answer: a transaction id, or NULL in recovery. */
static void
beat_answered(WaWatch *w, TimestampTz now, PGresult *row)
{
	uint64 xid = 0;

	if (PQnfields(row) == 1 && !PQgetisnull(row, 0, 0))
		xid = strtou64(PQgetvalue(row, 0, 0), NULL, 10);
	PQclear(row);
	if (xid != 0)
		WA_OBSERVED(w,
					observed->heartbeat_time = now;
					observed->heartbeat_xid = xid;);
}

/* When the server was last seen to commit, by our clock; 0: not known. */
static TimestampTz
last_commit(const WaWatch *w, TimestampTz now)
{
	WaIndexStat index;
	TimestampTz time;

	wa_read_index(w->index, &index);
	if (index.generation != w->control.generation || index.commit_lsn == 0 ||
		index.system_identifier != w->stat->system_identifier)
		return 0;
	time = index.commit_time - w->stat->lag.clock_offset;
	return time > now + MAX_FUTURE_USEC ? 0 : time;
}

/* Go on with the heartbeat of a source; when to look again. */
static TimestampTz
advance_beat(WaWatch *w, TimestampTz now)
{
	TimestampTz due;
	int ready = w->beat_ready;
	bool was_idle = w->beat.phase == WA_SQL_IDLE;

	w->beat_ready = 0;
	if (w->control.heartbeat_ms == 0)
	{
		wa_sql_close(&w->beat);
		return DT_NOEND;
	}
	for (;;)
	{
		PGresult *row = NULL;

		switch (wa_sql_advance(&w->beat, ready, &row))
		{
			case WA_SQL_ROW:
				beat_answered(w, now, row);
				ready = 0;
				continue;
			case WA_SQL_DONE:
				w->beat_done = now;
				w->beat_failures = 0;
				if (w->control.heartbeat_ms >= BEAT_KEEP_MS)
					wa_sql_close(&w->beat);
				break;
			case WA_SQL_CONNECTED:
				if (!wa_sql_send(&w->beat, BEAT_QUERY, BEAT_TIMEOUT_MS))
					beat_failed(w, now, w->beat.error);
				break;
			case WA_SQL_FAILED:
				/* an idle one may go: the next heartbeat connects anew */
				if (!was_idle)
					beat_failed(w, now, w->beat.error);
				break;
			case WA_SQL_WAIT:
				break;
		}
		break;
	}
	if (w->beat.phase == WA_SQL_CONNECTING || w->beat.phase == WA_SQL_BUSY)
		return w->beat.deadline;

	due = Max(w->beat_done, last_commit(w, now)) + w->control.heartbeat_ms * INT64CONST(1000);
	due = Max(due, w->beat_not_before);
	if (due > now)
		return due;
	if (w->beat.phase == WA_SQL_IDLE)
	{
		if (wa_sql_send(&w->beat, BEAT_QUERY, BEAT_TIMEOUT_MS))
			return w->beat.deadline;
		/* it had gone meanwhile: at once over a new one */
	}
	if (wa_observer_connect(w, &w->beat, NULL, "UTF8", "walarchive heartbeat", BEAT_SETTINGS, BEAT_TIMEOUT_MS))
		return w->beat.deadline;
	beat_failed(w, now, w->beat.error);
	return w->beat_not_before;
}

/* ---- sources ---- */

static void
stop_watching(WaWatch *w)
{
	int index = w->index;
	WaSourceSlot *slot = w->slot;

	wa_sql_close(&w->beat);
	wa_names_forget(w);
	memset(w, 0, sizeof(*w));
	w->index = index;
	w->slot = slot;
}

/* Begin anew with a server: what is open leads elsewhere, what failed may do. */
static void
start_again(WaWatch *w)
{
	wa_sql_close(&w->beat);
	w->beat_not_before = 0;
	w->beat_failures = 0;
	wa_names_restart(w);
}

/* Is there a server that can be asked? */
static bool
has_server(const WaWatch *w)
{
	return pg_atomic_read_u32(&w->slot->receiver_pid) != 0 &&
		   (w->stat->state == WA_STATE_STREAMING || w->stat->state == WA_STATE_CATCHUP) &&
		   w->stat->connected_since != 0 && w->stat->system_identifier != 0;
}

/*
 * The receiver may have found another server, behind the same address or
 * another one: what is open leads to the one before.
 */
static void
follow_receiver(WaWatch *w, TimestampTz now)
{
	const WaReceiverStat *stat = w->stat;

	if (w->connected_since == stat->connected_since)
		return;
	w->connected_since = stat->connected_since;
	wa_sql_close(&w->beat);
	if (wa_names_connection(w) != NULL)
		wa_names_failed(w, now, "the receiver has another connection");
	/* another server may answer where this one refused */
	if (strcmp(w->host, stat->sender_host) != 0 || strcmp(w->addr, stat->sender_addr) != 0 ||
		w->port != stat->sender_port)
		start_again(w);
	strlcpy(w->host, stat->sender_host, sizeof(w->host));
	strlcpy(w->addr, stat->sender_addr, sizeof(w->addr));
	w->port = stat->sender_port;
}

/*
 * Take over what the launcher says of a slot.  False if its source wants
 * nothing of the observer.
 */
static bool
look_at_settings(WaWatch *w)
{
	WaSlotControl control;

	wa_read_control(w->index, &control);
	if (!control.in_use || control.desired != WA_DESIRED_ACTIVE ||
		!wa_source_name_is_valid(control.name) ||
		(control.heartbeat_ms == 0 && control.relation_names_ms == 0))
	{
		if (w->active)
			stop_watching(w);
		return false;
	}
	if (w->active && w->control.generation != control.generation)
		stop_watching(w);
	if (w->active &&
		(w->control.revision != control.revision ||
		 w->control.heartbeat_ms != control.heartbeat_ms ||
		 w->control.relation_names_ms != control.relation_names_ms))
		start_again(w);
	w->control = control;
	w->active = true;
	return true;
}

/* Go on with one source; when to look again. */
static TimestampTz
advance_source(Observer *o, WaWatch *w, TimestampTz now)
{
	WaReceiverStat *stat = palloc(sizeof(WaReceiverStat));
	TimestampTz next;

	wa_read_stat(w->index, stat);
	w->stat = stat;
	if (!has_server(w))
	{
		wa_sql_close(&w->beat);
		if (wa_names_connection(w) != NULL)
			wa_names_failed(w, now, "the receiver lost its connection");
		return DT_NOEND;
	}
	follow_receiver(w, now);
	next = advance_beat(w, now);
	return Min(next, wa_names_advance(w, now, &o->asking));
}

/*
 * The same, whatever happens: an error is this source's alone, and a reason to
 * try later.
 */
static TimestampTz
advance_safely(Observer *o, WaWatch *w, TimestampTz now)
{
	volatile TimestampTz next = now + INT64CONST(1000) * NAP_MS;

	PG_TRY();
	{
		next = advance_source(o, w, now);
	}
	PG_CATCH();
	{
		ErrorData *error;

		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(o->context);
		error = CopyErrorData();
		FlushErrorState();
		LWLockReleaseAll();
		ereport(LOG,
				(errmsg("observer of source \"%s\" failed: %s", w->control.name, error->message)));
		wa_sql_close(&w->beat);
		beat_failed(w, now, error->message);
		wa_names_failed(w, now, error->message);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	w->stat = NULL;
	return next;
}

/* ---- the process ---- */

static void
leave(int code, Datum arg)
{
	Observer *o = (Observer *) DatumGetPointer(arg);

	for (int i = 0; i < wa_shared->max_sources; i++)
		stop_watching(&o->watch[i]);
	pg_atomic_write_u32(&wa_shared->host.observer_pid, 0);
	wa_wake_launcher();
}

/* Sleep until a connection, the latch or time asks for attention. */
static void
wait_for_work(Observer *o, TimestampTz next)
{
	int max = wa_shared->max_sources;
	WaitEventSet *set = wa_create_wait_event_set(2 * max + 2);
	WaitEvent *event = palloc((2 * max + 2) * sizeof(WaitEvent));
	long ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next);
	int count;

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (int i = 0; i < max; i++)
	{
		WaWatch *w = &o->watch[i];
		WaSql *names = wa_names_connection(w);

		if (wa_sql_events(&w->beat) != 0)
			AddWaitEventToSet(set, wa_sql_events(&w->beat), PQsocket(w->beat.conn),
							  NULL, &w->beat_ready);
		if (names != NULL && wa_sql_events(names) != 0)
			AddWaitEventToSet(set, wa_sql_events(names), PQsocket(names->conn),
							  NULL, &w->names_ready);
	}
	count = WaitEventSetWait(set, Min(ms, NAP_MS), event, 2 * max + 2, PG_WAIT_EXTENSION);
	for (int i = 0; i < count; i++)
	{
		if (event[i].user_data != NULL)
			*(int *) event[i].user_data = event[i].events;
	}
	FreeWaitEventSet(set);
}

/* Entry point of the worker.  'main_arg' is not used. */
void
wa_observer_main(Datum main_arg)
{
	Observer *o;
	uint32 none = 0;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	if (wa_shared == NULL)
		proc_exit(0);
	/* names that are known stay in memory, those of every source */
	(void) wa_limit_memory(WA_CONNECTION_MEMORY + wa_shared->max_sources * (uint64) NAMES_MEMORY);
	o = MemoryContextAllocZero(TopMemoryContext, sizeof(Observer));
	o->watch = MemoryContextAllocExtended(TopMemoryContext,
										  wa_shared->max_sources * sizeof(WaWatch),
										  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	o->context = AllocSetContextCreate(TopMemoryContext, "walarchive observer",
									   ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < wa_shared->max_sources; i++)
	{
		o->watch[i].index = i;
		o->watch[i].slot = &wa_shared->slot[i];
	}
	if (!pg_atomic_compare_exchange_u32(&wa_shared->host.observer_pid, &none, MyProcPid))
		proc_exit(0);
	pg_atomic_write_u32(&wa_shared->host.observer_procno, MyProcNumber);
	before_shmem_exit(leave, PointerGetDatum(o));

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		TimestampTz next = now + INT64CONST(1000) * NAP_MS;
		bool wanted = false;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		MemoryContextSwitchTo(o->context);
		MemoryContextReset(o->context);
		o->asking = 0;
		for (int i = 0; i < wa_shared->max_sources; i++)
			o->asking += wa_names_connection(&o->watch[i]) != NULL;
		for (int i = 0; i < wa_shared->max_sources; i++)
		{
			TimestampTz due;

			if (!look_at_settings(&o->watch[i]))
				continue;
			wanted = true;
			due = advance_safely(o, &o->watch[i], now);
			next = Min(next, due);
		}
		if (!wanted)
			proc_exit(0);
		wait_for_work(o, next);
	}
}
