/*-------------------------------------------------------------------------
 *
 * archive_server.c
 *	  An archive over a connection to the archive host.
 *
 * The connection is made when it is needed, and again when it is lost, for as
 * long as the options allow.  What the server answers is as untrusted as any
 * input: sizes and names are checked where they are used.  Reading files is
 * archive_stream.c's.
 *
 *-------------------------------------------------------------------------
 */
#include "archive_server.h"

#include <poll.h>
#include <unistd.h>

#include "datatype/timestamp.h"
#include "portability/instr_time.h"

#include "../src/base/backup_label.h"

/* What a row of an answer takes beside its values, and what all may take: a plan of 40 TB of WAL is less. */
#define ROW_COST 64
#define MAX_ANSWER ((size_t) 512 * 1024 * 1024)

/* No query has as many results. */
#define MAX_RESULTS 16

/* What separates gids in one text. */
#define GID_SEPARATOR '\001'

static void
server_close(Archive *archive)
{
	ServerArchive *server = (ServerArchive *) archive;

	if (server->conn != NULL)
		PQfinish(server->conn);
	archive_local_free(server);
	pg_free(server->plan_ref);
	pg_free(server->layout.source);
	pg_free(server);
}

static Archive *
server_clone(Archive *archive)
{
	ServerArchive *server = (ServerArchive *) archive;
	ServerArchive *clone = (ServerArchive *) archive_server_open(archive->options);

	clone->reached = server->reached;
	if (server->plan_ref != NULL)
		clone->plan_ref = pg_strdup(server->plan_ref);
	if (server->has_layout)
	{
		clone->layout = server->layout;
		clone->layout.source = pg_strdup(server->layout.source);
		clone->has_layout = true;
	}
	return &clone->base;
}

/* ---- connection and queries ---- */

void
archive_server_lost(ServerArchive *server)
{
	if (server->conn != NULL)
		PQfinish(server->conn);
	server->conn = NULL;
	server->prepared = false;
}

static double
seconds_now(void)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	return INSTR_TIME_GET_DOUBLE(now);
}

bool
archive_server_wait(const ServerArchive *server, ArchiveRetry *retry)
{
	double now = seconds_now();

	if (retry->delay_ms == 0)
	{
		retry->since = now;
		retry->delay_ms = 100;
	}
	if (now - retry->since >= server->base.options->retry_seconds)
		return false;
	pg_usleep(retry->delay_ms * 1000L);
	retry->delay_ms = Min(retry->delay_ms * 2, 5000);
	return true;
}

PGconn *
archive_server_connection(Archive *archive, ArchiveStatus *status)
{
	ServerArchive *server = (ServerArchive *) archive;
	ArchiveRetry retry = {0};

	if (server->conn != NULL && PQstatus(server->conn) != CONNECTION_OK)
		archive_server_lost(server);
	while (server->conn == NULL)
	{
		server->conn = cli_connect(archive, status);
		if (server->conn != NULL)
			server->reached = true;
		/* somebody who has typed a wrong port is told at once */
		else if (*status != ARCHIVE_UNREACHABLE || !(server->reached || archive->options->patient) ||
				 !archive_server_wait(server, &retry))
			return NULL;
	}
	return server->conn;
}

ArchiveStatus
archive_server_error(Archive *archive, const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
	const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
	ArchiveStatus status = ARCHIVE_FAILED;

	/* libpq's own, of a lost connection */
	if (state == NULL || message == NULL)
		return archive_error(archive, ARCHIVE_UNREACHABLE, NULL, "%s",
							 PQresultErrorMessage(result)[0] != '\0' ? PQresultErrorMessage(result) : "the connection was lost");
	if (cli_error_passes(state))
		status = ARCHIVE_UNREACHABLE;
	else if (strncmp(state, "28", 2) == 0 || strcmp(state, "42501") == 0)
		status = ARCHIVE_DENIED;
	else if (strcmp(state, "42704") == 0 || strcmp(state, "58P01") == 0 || strcmp(state, "02000") == 0)
		status = ARCHIVE_NOT_FOUND;
	else if (strncmp(state, "XX00", 4) == 0 && state[4] != '0')
		status = ARCHIVE_DAMAGED;
	else if (strcmp(state, "3F000") == 0 || strcmp(state, "42883") == 0 || strcmp(state, "42P01") == 0)
		hint = "Is this the database that has the extension walarchive, in a version that this client knows?";
	if (detail != NULL)
		return archive_error(archive, status, hint, "%s: %s", message, detail);
	return archive_error(archive, status, hint, "%s", message);
}

static ArchiveStatus
not_understood(Archive *archive)
{
	return archive_error(archive, ARCHIVE_FAILED, "Is it of the same version as this client?",
						 "the archive host's answer is not understood");
}

ArchiveStatus
archive_server_await(Archive *archive, PGconn *conn, int seconds)
{
	int silence = 0;

	if (archive->options->timeout_seconds > 0)
		seconds = archive->options->timeout_seconds;
	while (PQisBusy(conn))
	{
		struct pollfd p = {PQsocket(conn), POLLIN, 0};
		/* what a library of encryption has in store does not make the socket readable */
		int rc = poll(&p, 1, 1000);

		if (rc < 0 && errno == EINTR)
			continue;
		if (rc == 0 && ++silence >= seconds)
			return archive_error(archive, ARCHIVE_UNREACHABLE, NULL, "nothing was heard from the archive host for %d s", seconds);
		if (rc > 0)
			silence = 0;
		if (rc < 0 || PQconsumeInput(conn) == 0)
			return archive_error(archive, ARCHIVE_UNREACHABLE, NULL, "%s", PQerrorMessage(conn));
		/* three: the rest of a piece that was decrypted at once is larger than libpq's room for it */
		for (int i = 0; i < 2 && rc > 0 && (PQsslInUse(conn) || PQgssEncInUse(conn)) && PQisBusy(conn); i++)
			(void) PQconsumeInput(conn);
	}
	return ARCHIVE_OK;
}

/* Add rows to '*all', whose size is '*taken'. */
static ArchiveStatus
take_rows(Archive *archive, const PGresult *result, int columns, PGresult **all, size_t *taken)
{
	bool ok = true;

	if (PQnfields(result) != columns)
		return not_understood(archive);
	if (*all == NULL)
		*all = PQcopyResult(result, PG_COPYRES_ATTRS);
	for (int row = 0; row < PQntuples(result) && ok && *all != NULL; row++)
	{
		int to = PQntuples(*all);

		*taken += ROW_COST;
		for (int i = 0; i < columns && ok; i++)
		{
			bool null = PQgetisnull(result, row, i);

			if (PQfformat(result, i) != 0)
				return not_understood(archive);
			*taken += PQgetlength(result, row, i);
			ok = PQsetvalue(*all, to, i, null ? NULL : PQgetvalue(result, row, i), null ? -1 : PQgetlength(result, row, i));
		}
		if (*taken > MAX_ANSWER)
			return archive_error(archive, ARCHIVE_FAILED, NULL, "the archive host's answer does not end");
	}
	if (!ok || *all == NULL)
		return archive_error(archive, ARCHIVE_FAILED, NULL, "out of memory");
	return ARCHIVE_OK;
}

PGresult *
archive_server_answer(Archive *archive, PGconn *conn, int columns, int seconds, ArchiveStatus *status)
{
	PGresult *all = NULL;
	size_t taken = 0;
	int results = 0;
	bool failed = false; /* there is an error of the server's, and its end is awaited */

	(void) PQsetSingleRowMode(conn);
	*status = ARCHIVE_OK;
	for (;;)
	{
		ArchiveStatus now = archive_server_await(archive, conn, seconds);
		PGresult *result = now == ARCHIVE_OK ? PQgetResult(conn) : NULL;

		if (result == NULL)
		{
			if (now != ARCHIVE_OK)
				*status = now;
			break;
		}
		if (PQresultStatus(result) != PGRES_SINGLE_TUPLE && ++results > MAX_RESULTS)
			now = archive_error(archive, ARCHIVE_FAILED, NULL, "the archive host's answer does not end");
		else if (PQresultStatus(result) == PGRES_SINGLE_TUPLE || PQresultStatus(result) == PGRES_TUPLES_OK)
			now = take_rows(archive, result, columns, &all, &taken);
		else if (PQresultStatus(result) == PGRES_FATAL_ERROR)
		{
			/* the first one tells why */
			if (!failed)
				*status = archive_server_error(archive, result);
			failed = true;
		}
		else
			now = not_understood(archive);
		PQclear(result);
		if (now != ARCHIVE_OK)
		{
			*status = now;
			break;
		}
	}
	if (*status == ARCHIVE_OK && all == NULL)
		*status = not_understood(archive);
	if (*status == ARCHIVE_OK)
		return all;
	PQclear(all);
	return NULL;
}

PGresult *
archive_server_query(Archive *archive, const char *query, int nparams, const char *const *values,
					 int columns, bool repeat, ArchiveStatus *status)
{
	ServerArchive *server = (ServerArchive *) archive;
	ArchiveRetry retry = {0};

	for (;;)
	{
		PGconn *conn = archive_server_connection(archive, status);
		PGresult *result;

		if (conn == NULL)
			return NULL;
		if (PQsendQueryParams(conn, query, nparams, NULL, values, NULL, NULL, 0))
			result = archive_server_answer(archive, conn, columns, ARCHIVE_QUERY_SILENCE, status);
		else
		{
			result = NULL;
			*status = archive_error(archive, ARCHIVE_UNREACHABLE, NULL, "%s", PQerrorMessage(conn));
		}
		if (result != NULL)
			return result;
		if (PQstatus(conn) != CONNECTION_OK)
			*status = ARCHIVE_UNREACHABLE;
		/* whatever there is to come of this answer, nobody wants it */
		if (*status == ARCHIVE_UNREACHABLE || PQtransactionStatus(conn) != PQTRANS_IDLE)
			archive_server_lost(server);
		if (*status != ARCHIVE_UNREACHABLE || !repeat || !archive_server_wait(server, &retry))
			return NULL;
	}
}

/* A query about this source, which has to be named. */
static PGresult *
source_query(Archive *archive, const char *query, int nparams, const char *const *values,
			 int columns, ArchiveStatus *status)
{
	if (archive->options->source == NULL)
	{
		*status = archive_error(archive, ARCHIVE_NOT_FOUND, "Name it with --source; the view walarchive.status lists them.",
								"no source is named");
		return NULL;
	}
	return archive_server_query(archive, query, nparams, values, columns, true, status);
}

/* ---- values ---- */

static char *
text_value(const PGresult *result, int row, int column)
{
	return PQgetisnull(result, row, column) ? NULL : cli_clean_text(pg_strdup(PQgetvalue(result, row, column)));
}

static uint64
number_value(const PGresult *result, int row, int column)
{
	return PQgetisnull(result, row, column) ? 0 : strtoull(PQgetvalue(result, row, column), NULL, 10);
}

static XLogRecPtr
lsn_value(const PGresult *result, int row, int column)
{
	uint32 high;
	uint32 low;

	if (PQgetisnull(result, row, column) || sscanf(PQgetvalue(result, row, column), "%X/%X", &high, &low) != 2)
		return 0;
	return (uint64) high << 32 | low;
}

static bool
bool_value(const PGresult *result, int row, int column)
{
	return !PQgetisnull(result, row, column) && PQgetvalue(result, row, column)[0] == 't';
}

static void
sha256_value(const PGresult *result, int row, int column, char *sha256)
{
	const char *value = PQgetisnull(result, row, column) ? "" : PQgetvalue(result, row, column);

	/* anything else is no checksum */
	if (strlen(value) != ARCHIVE_SHA256_LEN - 1 || strspn(value, "0123456789abcdef") != strlen(value))
		value = "";
	strlcpy(sha256, value, ARCHIVE_SHA256_LEN);
}

/* ---- what is archived ---- */

static ArchiveStatus
server_layout(Archive *archive, ArchiveLayout *layout)
{
	ServerArchive *server = (ServerArchive *) archive;
	const char *values[] = {archive->options->source};
	ArchiveStatus status;
	PGresult *result;

	if (!server->has_layout)
	{
		result = source_query(archive, "SELECT system_identifier, segment_size, timeline, server_version "
									   "FROM walarchive.source_layout($1)",
							  1, values, 4, &status);
		if (result == NULL)
			return status;
		if (PQntuples(result) != 1 || PQgetisnull(result, 0, 0) ||
			!wa_segment_size_is_valid(number_value(result, 0, 1)))
		{
			PQclear(result);
			return archive_error(archive, ARCHIVE_NOT_FOUND, NULL, "nothing is archived of source \"%s\" yet",
								 archive->options->source);
		}
		server->layout.source = pg_strdup(archive->options->source);
		server->layout.system_identifier = number_value(result, 0, 0);
		server->layout.segment_size = (uint32) number_value(result, 0, 1);
		server->layout.timeline = (TimeLineID) number_value(result, 0, 2);
		server->layout.server_version = (int) number_value(result, 0, 3);
		server->has_layout = true;
		PQclear(result);
	}
	*layout = server->layout;
	layout->source = pg_strdup(server->layout.source);
	return ARCHIVE_OK;
}

/* ---- plans ---- */

static void
split_gids(char *text, ArchivePlan *plan)
{
	plan->prepared = pg_malloc0((strlen(text) + 1) * sizeof(char *));
	for (char *gid = text; gid != NULL;)
	{
		char *end = strchr(gid, GID_SEPARATOR);

		if (end != NULL)
			*end++ = '\0';
		plan->prepared[plan->nprepared++] = cli_clean_text(pg_strdup(gid));
		gid = end;
	}
}

/* What a feasible plan's recovery makes of its own. */
static ArchiveStatus
plan_tablespaces(Archive *archive, ArchivePlan *plan)
{
	const char *values[] = {plan->ref};
	ArchiveStatus status;
	PGresult *result;

	result = archive_server_query(archive, "SELECT tablespace, location, start_lsn FROM walarchive.plan_tablespaces($1)", 1,
								  values, 3, true, &status);
	if (result == NULL)
		return status;
	plan->tablespaces = pg_malloc0((PQntuples(result) + 1) * sizeof(ArchiveTablespace));
	for (int i = 0; i < PQntuples(result); i++)
		plan->tablespaces[plan->ntablespaces++] =
			(ArchiveTablespace){pg_strdup(PQgetvalue(result, i, 0)), pg_strdup(PQgetvalue(result, i, 1)), lsn_value(result, i, 2)};
	PQclear(result);
	return ARCHIVE_OK;
}

static ArchiveStatus
server_plan(Archive *archive, const WaRestoreTarget *target, int hold_seconds, ArchivePlan *plan)
{
	char time[CLI_TIME_LEN];
	char lsn[32];
	char xid[16];
	char tli[16];
	char hold[32];
	const char *values[10] = {NULL};
	ArchiveStatus status;
	PGresult *result;
	char *gids;

	values[0] = archive->options->source;
	if (target->kind == WA_TARGET_TIME)
		values[1] = cli_time_text(target->time, time);
	if (target->kind == WA_TARGET_LSN)
	{
		snprintf(lsn, sizeof(lsn), "%X/%X", LSN_FORMAT_ARGS(target->lsn));
		values[2] = lsn;
	}
	if (target->kind == WA_TARGET_XID)
	{
		snprintf(xid, sizeof(xid), "%u", target->xid);
		values[3] = xid;
	}
	if (target->kind == WA_TARGET_NAME)
		values[4] = target->name;
	values[5] = target->kind == WA_TARGET_IMMEDIATE ? "true" : "false";
	if (target->timeline != 0)
	{
		snprintf(tli, sizeof(tli), "%u", target->timeline);
		values[6] = tli;
	}
	values[7] = target->inclusive ? "true" : "false";
	values[8] = target->backup;
	if (hold_seconds > 0)
	{
		snprintf(hold, sizeof(hold), "%d seconds", hold_seconds);
		values[9] = hold;
	}
	result = source_query(archive,
						  "SELECT plan_id, feasible, reason, hint, backup, timeline, timeline_path, start_lsn, stop_lsn, "
						  "last_commit_xid, (EXTRACT(epoch FROM last_commit_time) * 1000000)::pg_catalog.int8, "
						  "last_commit_lsn, segments, wal_bytes, backup_bytes, "
						  "CASE WHEN pg_catalog.cardinality(prepared) > 0 THEN pg_catalog.array_to_string(prepared, E'\\x01') END, "
						  "settings "
						  "FROM walarchive.plan_restore($1, target_time => $2, target_lsn => $3, target_xid => $4, "
						  "target_name => $5, target_immediate => $6, target_timeline => $7, inclusive => $8, "
						  "backup => $9, hold => $10)",
						  lengthof(values), values, 17, &status);
	if (result == NULL)
		return status;
	if (PQntuples(result) != 1)
	{
		PQclear(result);
		return archive_error(archive, ARCHIVE_FAILED, NULL, "plan_restore has returned no plan");
	}
	plan->ref = text_value(result, 0, 0);
	plan->feasible = bool_value(result, 0, 1) && plan->ref != NULL;
	plan->reason = text_value(result, 0, 2);
	plan->hint = text_value(result, 0, 3);
	plan->backup = text_value(result, 0, 4);
	plan->timeline = (TimeLineID) number_value(result, 0, 5);
	plan->timeline_path = text_value(result, 0, 6);
	plan->start_lsn = lsn_value(result, 0, 7);
	plan->stop_lsn = lsn_value(result, 0, 8);
	plan->has_commit = !PQgetisnull(result, 0, 9);
	plan->last_commit_xid = (TransactionId) number_value(result, 0, 9);
	plan->has_commit_time = !PQgetisnull(result, 0, 10);
	if (plan->has_commit_time)
		plan->last_commit_time = strtoll(PQgetvalue(result, 0, 10), NULL, 10) -
								 (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	plan->last_commit_lsn = lsn_value(result, 0, 11);
	plan->segments = number_value(result, 0, 12);
	plan->wal_bytes = number_value(result, 0, 13);
	plan->backup_bytes = number_value(result, 0, 14);
	gids = PQgetisnull(result, 0, 15) ? NULL : pg_strdup(PQgetvalue(result, 0, 15));
	if (gids != NULL)
		split_gids(gids, plan);
	pg_free(gids);
	plan->settings = text_value(result, 0, 16);
	PQclear(result);
	if (plan->feasible && (plan->timeline == 0 || plan->stop_lsn == 0 || plan->settings == NULL || plan->timeline_path == NULL ||
						   plan->backup == NULL || !wa_backup_label_is_valid(plan->backup) ||
						   strspn(plan->ref, "0123456789") != strlen(plan->ref)))
		return not_understood(archive);
	return plan->feasible ? plan_tablespaces(archive, plan) : ARCHIVE_OK;
}

static ArchiveStatus
server_plan_files(Archive *archive, const ArchivePlan *plan, ArchiveFile **files, int *nfiles)
{
	const char *values[] = {plan->ref};
	ArchiveStatus status;
	PGresult *result;
	ArchiveFile *all;
	int n;

	result = archive_server_query(archive, "SELECT kind, label, name, timeline, size, sha256 "
										   "FROM walarchive.plan_files($1) ORDER BY ord",
								  1, values, 6, true, &status);
	if (result == NULL)
		return status;
	n = PQntuples(result);
	all = pg_malloc0(Max(n, 1) * sizeof(ArchiveFile));
	for (int i = 0; i < n; i++)
	{
		const char *kind = PQgetvalue(result, i, 0);

		all[i].kind = strcmp(kind, "backup") == 0    ? ARCHIVE_FILE_BACKUP
					  : strcmp(kind, "history") == 0 ? ARCHIVE_FILE_HISTORY
													 : ARCHIVE_FILE_WAL;
		all[i].label = text_value(result, i, 1);
		all[i].name = text_value(result, i, 2);
		if (all[i].name == NULL || all[i].name[0] == '\0' ||
			(all[i].kind == ARCHIVE_FILE_BACKUP ? all[i].label == NULL || !wa_backup_label_is_valid(all[i].label)
												: all[i].label != NULL) ||
			(all[i].kind == ARCHIVE_FILE_WAL && strcmp(kind, "wal") != 0))
		{
			PQclear(result);
			return not_understood(archive);
		}
		all[i].timeline = (TimeLineID) number_value(result, i, 3);
		all[i].size = number_value(result, i, 4);
		sha256_value(result, i, 5, all[i].sha256);
	}
	PQclear(result);
	*files = all;
	*nfiles = n;
	return ARCHIVE_OK;
}

static ArchiveStatus
server_renew_plan(Archive *archive, const char *ref, int hold_seconds)
{
	char hold[32];
	const char *values[] = {ref, hold};
	ArchiveStatus status;

	snprintf(hold, sizeof(hold), "%d seconds", hold_seconds);
	PQclear(archive_server_query(archive, "SELECT walarchive.renew_plan($1, $2)", 2, values, 1, true, &status));
	return status;
}

static ArchiveStatus
server_release_plan(Archive *archive, const char *ref)
{
	const char *values[] = {ref};
	ArchiveStatus status;

	PQclear(archive_server_query(archive, "SELECT walarchive.release_plan($1)", 1, values, 1, true, &status));
	return status;
}

static ArchiveStatus
server_use_plan(Archive *archive, const char *ref)
{
	ServerArchive *server = (ServerArchive *) archive;

	if (ref != NULL && (ref[0] == '\0' || strlen(ref) > 18 || strspn(ref, "0123456789") != strlen(ref)))
		return archive_error(archive, ARCHIVE_NOT_FOUND, NULL, "\"%s\" is no plan's number", ref);
	pg_free(server->plan_ref);
	server->plan_ref = ref != NULL ? pg_strdup(ref) : NULL;
	return ARCHIVE_OK;
}

/* ---- WAL ---- */

ArchiveStatus
archive_server_wal_info(Archive *archive, const PGresult *result, WalFileInfo *info)
{
	static const char *const states[] = {"present", "partial", "absent", "missing", "damaged", "later"};

	memset(info, 0, sizeof(*info));
	if (PQntuples(result) == 1 && PQnfields(result) == 5 && !PQgetisnull(result, 0, 0))
	{
		for (int i = 0; i < (int) lengthof(states); i++)
		{
			if (strcmp(PQgetvalue(result, 0, 0), states[i]) != 0)
				continue;
			info->state = (WalFileState) i;
			info->size = number_value(result, 0, 1);
			info->valid = Min(number_value(result, 0, 4), info->size);
			sha256_value(result, 0, 2, info->sha256);
			strlcpy(info->detail, PQgetisnull(result, 0, 3) ? "" : PQgetvalue(result, 0, 3), sizeof(info->detail));
			cli_clean_text(info->detail);
			return ARCHIVE_OK;
		}
	}
	return not_understood(archive);
}

static ArchiveStatus
server_wal_file(Archive *archive, const char *name, WalFileInfo *info)
{
	ServerArchive *server = (ServerArchive *) archive;
	const char *values[] = {archive->options->source, name, server->plan_ref};
	ArchiveStatus status;
	PGresult *result;

	result = source_query(archive, WAL_FILE_QUERY, 3, values, 5, &status);
	if (result == NULL)
		return status;
	status = archive_server_wal_info(archive, result, info);
	PQclear(result);
	return status;
}

static const ArchiveMethods server_methods = {
	.clone = server_clone,
	.close = server_close,
	.layout = server_layout,
	.plan = server_plan,
	.plan_files = server_plan_files,
	.renew_plan = server_renew_plan,
	.release_plan = server_release_plan,
	.use_plan = server_use_plan,
	.wal_file = server_wal_file,
	.read = archive_server_read,
};

Archive *
archive_server_open(const CliOptions *options)
{
	ServerArchive *server = pg_malloc0(sizeof(ServerArchive));

	server->base.methods = &server_methods;
	server->base.options = options;
	return &server->base;
}
