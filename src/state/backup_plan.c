/*-------------------------------------------------------------------------
 *
 * backup_plan.c
 *	  Scheduled backups in SQL.  See backup_plan.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "backup_plan.h"
#include "shmem.h"
#include "stat_functions.h"

#define PLAN_COLUMNS 11

PG_FUNCTION_INFO_V1(wa_backup_plan);

const char *
wa_plan_wait_name(WaPlanWait wait)
{
	switch (wait)
	{
		case WA_PLAN_STARTING:
			return "starting";
		case WA_PLAN_TIME:
			return "time";
		case WA_PLAN_WINDOW:
			return "window";
		case WA_PLAN_RETRY:
			return "retry";
		case WA_PLAN_RUNNING:
			return "running";
		case WA_PLAN_PAUSED:
			return "paused";
		case WA_PLAN_RECEIVER:
			return "receiver";
		case WA_PLAN_NO_WORKER:
			return "worker";
		case WA_PLAN_UNREADABLE:
			return "archive";
	}
	return "unknown";
}

static void
set_time(Datum *values, bool *nulls, int n, TimestampTz time)
{
	values[n] = TimestampTzGetDatum(time);
	nulls[n] = (time == 0);
}

/* walarchive.backup_plan(): of each source with a schedule that the launcher knows */
Datum
wa_backup_plan(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = wa_begin_rows(fcinfo, PLAN_COLUMNS);
	WaSlotControl *control = palloc(sizeof(WaSlotControl));
	WaBackupPlan *plan = palloc(sizeof(WaBackupPlan));

	for (int i = 0; i < wa_shared->max_sources; i++)
	{
		Datum values[PLAN_COLUMNS] = {0};
		bool nulls[PLAN_COLUMNS] = {0};

		wa_read_control(i, control);
		if (!control->in_use || !wa_source_name_is_valid(control->name))
			continue;
		wa_read_plan(i, plan);
		if (plan->generation != control->generation || !plan->scheduled)
			continue;
		values[0] = CStringGetTextDatum(control->name);
		values[1] = CStringGetTextDatum(plan->incremental ? "incremental" : "full");
		nulls[1] = (plan->due == 0);
		set_time(values, nulls, 2, plan->due);
		set_time(values, nulls, 3, plan->attempt);
		values[4] = CStringGetTextDatum(wa_plan_wait_name(plan->wait));
		set_time(values, nulls, 5, plan->last_full);
		set_time(values, nulls, 6, plan->last_incremental);
		set_time(values, nulls, 7, plan->last_failure);
		values[8] = Int32GetDatum(plan->failures);
		values[9] = CStringGetTextDatum(wa_clean_text(plan->last_error));
		nulls[9] = (plan->last_error[0] == '\0');
		values[10] = TimestampTzGetDatum(plan->since);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
