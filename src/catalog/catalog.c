/*-------------------------------------------------------------------------
 *
 * catalog.c
 *	  The indexer's transactions: the only place that starts one, and what is
 *	  asked of the extension before its tables are touched.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "pgstat.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "../state/fault_point.h"
#include "catalog.h"

/* The memory context of the caller of wa_catalog_begin. */
static MemoryContext caller_context = NULL;

void
wa_catalog_session(void)
{
	static const char *const setting[][2] = {
		{"search_path", ""},
		/* what a crash loses is made again from the files: no flush for it */
		{"synchronous_commit", "off"},
		/* a circle of locks that we close is ours to open, at once */
		{"deadlock_timeout", "10ms"},
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"row_security", "off"},
		{"jit", "off"},
	};

	char lock_timeout[32];

	/*
	 * One that somebody else closes while we wait, such as DROP EXTENSION, is
	 * looked for by them after deadlock_timeout: we have given up by then.
	 */
	snprintf(lock_timeout, sizeof(lock_timeout), "%dms", Max(Min(DeadlockTimeout / 10 * 8, 10000), 1));

	for (int i = 0; i < lengthof(setting); i++)
		SetConfigOption(setting[i][0], setting[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("lock_timeout", lock_timeout, PGC_SUSET, PGC_S_OVERRIDE);
}

void
wa_catalog_begin(const char *activity)
{
	int rc;

	caller_context = CurrentMemoryContext;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	rc = SPI_connect();
	if (rc != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed: %s", SPI_result_code_string(rc));
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, activity);
}

void
wa_catalog_commit(void)
{
	SPI_finish();
	PopActiveSnapshot();
	WA_FAULT_RAISE(CATALOG_COMMIT);
	CommitTransactionCommand();
	WA_FAULT_DONE();
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(caller_context);
}

int64
wa_catalog_call(const char *query, int nargs, Oid *types, Datum *values,
				const char *nulls)
{
	int rc;
	bool isnull;
	Datum value;
	Oid type;

	rc = SPI_execute_with_args(query, nargs, types, values, nulls, false, 0);
	if (rc != SPI_OK_SELECT)
		elog(ERROR, "query of the indexer failed: %s", SPI_result_code_string(rc));
	if (SPI_processed != 1)
		elog(ERROR, "query of the indexer returned " UINT64_FORMAT " rows",
			 (uint64) SPI_processed);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (isnull)
		elog(ERROR, "query of the indexer returned null");
	type = SPI_gettypeid(SPI_tuptable->tupdesc, 1);
	return type == BOOLOID ? (int64) DatumGetBool(value) : DatumGetInt64(value);
}

WaCatalogState
wa_catalog_check(char **version)
{
	WaCatalogState state = WA_CATALOG_OK;
	char *installed = NULL;
	int rc;

	*version = NULL;
	wa_catalog_begin("checking the extension");
	rc = SPI_execute("SELECT extversion FROM pg_catalog.pg_extension "
					 "WHERE extname OPERATOR(pg_catalog.=) 'walarchive'",
					 true, 1);
	if (rc != SPI_OK_SELECT)
		elog(ERROR, "query of the indexer failed: %s", SPI_result_code_string(rc));
	if (SPI_processed == 0)
		state = WA_CATALOG_NO_EXTENSION;
	else
	{
		char *text = SPI_getvalue(SPI_tuptable->vals[0],
								  SPI_tuptable->tupdesc, 1);

		if (strcmp(text, WALARCHIVE_VERSION) != 0)
		{
			state = WA_CATALOG_VERSION;
			installed = MemoryContextStrdup(caller_context, text);
		}
	}
	wa_catalog_commit();
	*version = installed;
	return state;
}
