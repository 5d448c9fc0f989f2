/*-------------------------------------------------------------------------
 *
 * source_check.c
 *	  The SQL functions that try a connection before a source is made or
 *	  changed: every common failure becomes an error with a hint.
 *
 * Runs in the session that asks, and can be cancelled.  Nothing is left on the
 * server: room for a slot is tried with a temporary one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "../base/wal_name.h"
#include "../settings.h"
#include "../state/shmem.h"
#include "../state/source_file.h"
#include "connection.h"
#include "conninfo.h"
#include "memory_limit.h"

/* The newest major whose WAL and protocol have been tested. */
#define NEWEST_TESTED_MAJOR 18

#define CHECK_TIMEOUT_MS 15000

PG_FUNCTION_INFO_V1(wa_check_conninfo);
PG_FUNCTION_INFO_V1(wa_check_connection);

typedef struct CheckRequest
{
	const char *slot_name; /* NULL: none is needed, base backups alone are wanted */
	bool allow_standby;
	uint64 expected; /* system identifier, 0: any */
} CheckRequest;

Datum
wa_check_conninfo(PG_FUNCTION_ARGS)
{
	wa_validate_conninfo(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_VOID();
}

/* WaAcceptServer */
static void
accept_checked_server(void *arg, WaConnection *connection)
{
	const CheckRequest *request = arg;
	const WaServer *server = &connection->server;

	if (request->expected != 0 && server->system_identifier != request->expected)
	{
		*connection->cause = WA_CAUSE_FOREIGN_CLUSTER;
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server has system identifier " UINT64_FORMAT ", the archive belongs to " UINT64_FORMAT,
						server->system_identifier, request->expected)));
	}
	if (server->in_recovery && !request->allow_standby)
	{
		*connection->cause = WA_CAUSE_IN_RECOVERY;
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server is in recovery, and the source wants a primary")));
	}
}

/* Does a receiver of this host hold a slot of that name? */
static bool
slot_is_ours(const char *slot_name)
{
	WaSourceSettings *settings = palloc(sizeof(WaSourceSettings));
	WaSlotControl *control = palloc(sizeof(WaSlotControl));

	for (int i = 0; wa_shared != NULL && i < wa_shared->max_sources; i++)
	{
		char *problem;

		wa_read_control(i, control);
		if (control->in_use &&
			pg_atomic_read_u32(&wa_shared->slot[i].receiver_pid) != 0 &&
			wa_read_source_file(control->name, settings, &problem) &&
			strcmp(settings->slot_name, slot_name) == 0)
			return true;
	}
	return false;
}

/* Can a slot be made here?  A temporary one goes with the connection. */
static void
try_new_slot(WaConnection *connection)
{
	char command[128];
	PGresult *result;

	snprintf(command, sizeof(command),
			 "CREATE_REPLICATION_SLOT \"walarchive_check_%d\" TEMPORARY PHYSICAL",
			 MyProcPid);
	result = wa_exec(connection, command);
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		wa_raise_result(connection, result, WA_CAUSE_SLOT,
						"a replication slot cannot be created");
	PQclear(result);
}

/* Is the slot free?  Only taking it tells. */
static void
try_existing_slot(WaConnection *connection, const char *slot_name)
{
	char command[192];
	PGresult *result;

	snprintf(command, sizeof(command),
			 "START_REPLICATION SLOT \"%s\" %X/%X TIMELINE %u", slot_name,
			 LSN_FORMAT_ARGS(wa_segment_floor(connection->server.flushed,
											  connection->server.segment_size)),
			 connection->server.timeline);
	result = wa_exec(connection, command);
	if (wa_result_is(result, "55006"))
		wa_raise_result(connection, result, WA_CAUSE_SLOT_ACTIVE,
						"the replication slot is in use");
	/* an invalidated slot is made anew by the receiver */
	PQclear(result);
}

static void
check_slot(WaConnection *connection, const char *slot_name)
{
	WaSlotInfo info;

	wa_read_slot(connection, slot_name, &info);
	if (!info.exists)
		try_new_slot(connection);
	else if (!info.physical)
	{
		*connection->cause = WA_CAUSE_SLOT;
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("replication slot \"%s\" is a logical one", slot_name),
				 errhint("Give the source another slot_name.")));
	}
	else if (!slot_is_ours(slot_name))
		try_existing_slot(connection, slot_name);
}

Datum
wa_check_connection(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char *conninfo;
	CheckRequest request;
	WaConnection *volatile connection = NULL;
	WaCause cause = WA_CAUSE_NONE;
	MemoryContext context = CurrentMemoryContext;
	uint64 memory_limit;
	WaServer server;
	Datum values[4];
	bool nulls[4] = {false};

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("conninfo must not be null")));
	conninfo = text_to_cstring(PG_GETARG_TEXT_PP(0));
	request.slot_name = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	request.allow_standby = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	request.expected = PG_ARGISNULL(3) ? 0 : (uint64) PG_GETARG_INT64(3);
	if (request.slot_name != NULL && !wa_slot_name_is_valid(request.slot_name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("replication slot name \"%s\" is not valid", request.slot_name),
				 errhint("Slot names hold up to 63 lower-case letters, digits and underscores.")));
	InitMaterializedSRF(fcinfo, 0);

	/* the session has its own memory, and its limit back when this is over */
	memory_limit = wa_limit_memory(WA_CONNECTION_MEMORY);
	PG_TRY();
	{
		wa_validate_conninfo(conninfo);
		connection = wa_connect(conninfo, request.slot_name ? request.slot_name : "walarchive_backup",
								0, CHECK_TIMEOUT_MS,
								&cause, accept_checked_server, &request);
		if (request.slot_name != NULL)
			check_slot(connection, request.slot_name);
		server = connection->server;
		wa_disconnect(connection);
		wa_restore_memory_limit(memory_limit);
	}
	PG_CATCH();
	{
		ErrorData *error;

		wa_restore_memory_limit(memory_limit);
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		wa_disconnect(connection);
		/* the remedy, and what can be done without the server */
		if (error->hint == NULL && cause != WA_CAUSE_NONE)
			error->hint = psprintf("%s", wa_cause_hint(cause));
		ReThrowError(error);
	}
	PG_END_TRY();

	if (server.version / 10000 > NEWEST_TESTED_MAJOR)
		ereport(WARNING,
				(errmsg("server version %d is newer than what this version of walarchive was tested with",
						server.version / 10000),
				 errdetail("Its WAL is archived, but may not be indexed.")));
	if (server.remote_apply && request.slot_name != NULL)
		ereport(WARNING,
				(errmsg("server runs with synchronous_commit = remote_apply"),
				 errdetail("An archive replays nothing: commits that wait for it would wait for ever."),
				 errhint("Use synchronous_commit = on where an archive is named in synchronous_standby_names.")));
	values[0] = Int64GetDatum((int64) server.system_identifier);
	values[1] = Int32GetDatum(server.version);
	values[2] = Int32GetDatum((int32) server.timeline);
	values[3] = Int32GetDatum((int32) server.segment_size);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	return (Datum) 0;
}
