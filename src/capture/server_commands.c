/*-------------------------------------------------------------------------
 *
 * server_commands.c
 *	  What a primary is asked over a replication connection beside streaming:
 *	  histories of timelines, and slots.  See connection.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "../base/wal_name.h"
#include "../compat.h"
#include "connection.h"
#include "protocol.h"

/* A history file of a real server has a line of a few dozen bytes a switch. */
#define MAX_HISTORY_LEN (1024 * 1024)

char *
wa_fetch_history(WaConnection *connection, TimeLineID tli, size_t *len)
{
	char command[64];
	char name[WA_WAL_NAME_LEN];
	PGresult *result;
	char *content;

	snprintf(command, sizeof(command), "TIMELINE_HISTORY %u", tli);
	result = wa_exec(connection, command);
	if (wa_result_is(result, "58P01"))
	{
		PQclear(result);
		return NULL;
	}
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		wa_raise_result(connection, result, WA_CAUSE_PROTOCOL, command);
	wa_history_name(name, tli);
	if (PQntuples(result) != 1 || PQnfields(result) != 2 ||
		strcmp(PQgetvalue(result, 0, 0), name) != 0 ||
		PQgetlength(result, 0, 1) <= 0 ||
		PQgetlength(result, 0, 1) > MAX_HISTORY_LEN)
	{
		PQclear(result);
		wa_bad_answer(connection, command);
	}
	*len = PQgetlength(result, 0, 1);
	content = palloc(*len + 1);
	memcpy(content, PQgetvalue(result, 0, 1), *len);
	content[*len] = '\0';
	PQclear(result);
	return content;
}

void
wa_read_slot(WaConnection *connection, const char *slot, WaSlotInfo *info)
{
	char command[128];
	PGresult *result;

	memset(info, 0, sizeof(*info));
	snprintf(command, sizeof(command), "READ_REPLICATION_SLOT \"%s\"", slot);
	result = wa_exec(connection, command);
	/* a logical slot is refused as a feature that is not supported */
	if (wa_result_is(result, "0A000") || wa_result_is(result, "55000"))
	{
		info->exists = true;
		PQclear(result);
		return;
	}
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		wa_raise_result(connection, result, WA_CAUSE_SLOT, "could not read the replication slot");
	if (PQntuples(result) != 1 || PQnfields(result) < 3)
	{
		PQclear(result);
		wa_bad_answer(connection, "READ_REPLICATION_SLOT");
	}
	if (!PQgetisnull(result, 0, 0))
	{
		info->exists = true;
		info->physical = strcmp(PQgetvalue(result, 0, 0), "physical") == 0;
		if (!PQgetisnull(result, 0, 1) &&
			!wa_parse_lsn(PQgetvalue(result, 0, 1), &info->restart_lsn))
		{
			PQclear(result);
			wa_bad_answer(connection, "READ_REPLICATION_SLOT");
		}
	}
	PQclear(result);
}

void
wa_create_slot(WaConnection *connection, const char *slot)
{
	char command[128];
	PGresult *result;

	snprintf(command, sizeof(command),
			 "CREATE_REPLICATION_SLOT \"%s\" PHYSICAL (RESERVE_WAL)", slot);
	result = wa_exec(connection, command);
	/* somebody else made it in the meantime */
	if (wa_result_is(result, "42710") || PQresultStatus(result) == PGRES_TUPLES_OK)
	{
		PQclear(result);
		return;
	}
	wa_raise_result(connection, result, WA_CAUSE_SLOT, "could not create the replication slot");
}

void
wa_drop_slot(WaConnection *connection, const char *slot)
{
	char command[128];
	PGresult *result;

	snprintf(command, sizeof(command), "DROP_REPLICATION_SLOT \"%s\" WAIT", slot);
	result = wa_exec(connection, command);
	if (PQresultStatus(result) == PGRES_COMMAND_OK || wa_result_is(result, "42704"))
	{
		PQclear(result);
		return;
	}
	wa_raise_result(connection, result,
					wa_result_is(result, "55006") ? WA_CAUSE_SLOT_ACTIVE : WA_CAUSE_SLOT,
					"could not drop the replication slot");
}
