/*-------------------------------------------------------------------------
 *
 * observer.h
 *	  The observer process: heartbeats and names of relations.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_OBSERVER_H
#define WA_OBSERVER_H

#include "postgres.h"

#include "../state/shmem.h"
#include "../state/source_file.h"
#include "sql_client.h"

typedef struct WaNames WaNames;

/* What the observer knows of a source; one per slot, all zero if not watched. */
typedef struct WaWatch
{
	int index; /* of the slot in shared memory */
	WaSourceSlot *slot;
	bool active;
	WaSlotControl control;      /* as of this turn */
	const WaReceiverStat *stat; /* of this turn alone */
	/* of the receiver's connection that ours follow */
	TimestampTz connected_since;
	char host[WA_HOST_LEN];
	char addr[WA_ADDR_LEN];
	int port;

	WaSql beat;
	TimestampTz beat_done;       /* by our clock; 0: never */
	TimestampTz beat_not_before; /* back-off */
	int beat_failures;
	int beat_ready; /* events that occurred */

	WaNames *names; /* NULL: nothing is known or done */
	int names_ready;
} WaWatch;

/* Change the observer's part of a slot. */
#define WA_OBSERVED(w, ...)                                  \
	do                                                       \
	{                                                        \
		WaObserverStat *observed = &(w)->slot->observer;     \
		wa_begin_change(&(w)->slot->observer_count);         \
		if (observed->generation != (w)->control.generation) \
		{                                                    \
			memset(observed, 0, sizeof(*observed));          \
			observed->generation = (w)->control.generation;  \
		}                                                    \
		__VA_ARGS__                                          \
		wa_end_change(&(w)->slot->observer_count);           \
	} while (0)

/* --- observer.c --- */

extern PGDLLEXPORT void wa_observer_main(Datum main_arg);

/*
 * Begin an ordinary connection to database 'dbname' (NULL: the conninfo's, else
 * "postgres") of the server that the source's receiver is connected to, which is
 * to speak in 'encoding'.  False with sql->error set where that fails at once.
 */
extern bool wa_observer_connect(const WaWatch *w, WaSql *sql, const char *dbname,
								const char *encoding,
								const char *application_name,
								const char *settings, int timeout_ms);

/* --- observer_names.c --- */

/*
 * Go on with the names of a source's relations, as far as is possible without
 * waiting.  '*running' counts the sources that are asked at the moment.
 * Returns when it wants to be called at the latest, 0: at once.
 */
extern TimestampTz wa_names_advance(WaWatch *w, TimestampTz now, int *running);

/* The connection to be waited for, NULL if there is none. */
extern WaSql *wa_names_connection(const WaWatch *w);

/* The pass under way has failed for the reason 'error'. */
extern void wa_names_failed(WaWatch *w, TimestampTz now, const char *error);

/* Settings or server have changed: begin anew, at once. */
extern void wa_names_restart(WaWatch *w);

/* Give everything back. */
extern void wa_names_forget(WaWatch *w);

#endif /* WA_OBSERVER_H */
