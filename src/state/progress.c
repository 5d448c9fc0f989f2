/*-------------------------------------------------------------------------
 *
 * progress.c
 *	  How far long work has come; see progress.h.
 *
 * An entry is taken by putting one's pid into it.  The entry of a process that
 * is gone is free: whoever looks for one takes it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "progress.h"
#include "shmem.h"
#include "stat_functions.h"

#define PROGRESS_COLUMNS 13

PG_FUNCTION_INFO_V1(wa_progress_state);

/* This process's entry. */
static WaProgressEntry *my_entry = NULL;
static bool exit_registered = false;

void
wa_progress_init(WaProgressEntry *entries)
{
	for (int i = 0; i < WA_PROGRESS_ENTRIES; i++)
	{
		pg_atomic_init_u32(&entries[i].pid, 0);
		pg_atomic_init_u32(&entries[i].count, 0);
	}
}

static void
progress_exit(int code, Datum arg)
{
	wa_progress_end();
}

static WaProgressEntry *
take_entry(void)
{
	for (int i = 0; i < WA_PROGRESS_ENTRIES; i++)
	{
		WaProgressEntry *entry = &wa_shared->progress[i];
		uint32 holder = pg_atomic_read_u32(&entry->pid);

		if (holder != 0 && holder != (uint32) MyProcPid &&
			BackendPidGetProc((int) holder) != NULL)
			continue;
		if (pg_atomic_compare_exchange_u32(&entry->pid, &holder, (uint32) MyProcPid))
		{
			/* its last holder may have died in the middle of a change */
			if (pg_atomic_read_u32(&entry->count) & 1)
				wa_end_change(&entry->count);
			return entry;
		}
	}
	return NULL;
}

void
wa_progress_begin(WaProgress *progress)
{
	progress->started_at = GetCurrentTimestamp();
	if (wa_shared == NULL)
		return;
	if (my_entry == NULL)
		my_entry = take_entry();
	if (my_entry == NULL)
		return;
	if (!exit_registered)
	{
		before_shmem_exit(progress_exit, (Datum) 0);
		exit_registered = true;
	}
	wa_progress_set(progress);
}

void
wa_progress_set(const WaProgress *progress)
{
	if (my_entry == NULL)
		return;
	wa_begin_change(&my_entry->count);
	my_entry->progress = *progress;
	wa_end_change(&my_entry->count);
}

void
wa_progress_end(void)
{
	WaProgressEntry *entry = my_entry;

	if (entry == NULL)
		return;
	my_entry = NULL;
	wa_begin_change(&entry->count);
	entry->progress.kind = WA_PROGRESS_NONE;
	wa_end_change(&entry->count);
	pg_atomic_write_u32(&entry->pid, 0);
}

/* The word for a kind: that of its view's name. */
static const char *
kind_name(WaProgressKind kind)
{
	switch (kind)
	{
		case WA_PROGRESS_NONE:
			break;
		case WA_PROGRESS_VERIFY:
			return "verify";
		case WA_PROGRESS_INDEX:
			return "index";
		case WA_PROGRESS_VERIFY_BACKUP:
			return "verify_backup";
	}
	return NULL;
}

/* A count, NULL while it is not known. */
static void
set_count(Datum *values, bool *nulls, int n, int64 value)
{
	values[n] = Int64GetDatum(value);
	nulls[n] = (value < 0);
}

/* walarchive.progress_state(): a row for each piece of work under way. */
Datum
wa_progress_state(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = wa_begin_rows(fcinfo, PROGRESS_COLUMNS);

	for (int i = 0; i < WA_PROGRESS_ENTRIES; i++)
	{
		WaProgress p;
		uint32 pid = wa_read_progress(i, &p);
		Datum values[PROGRESS_COLUMNS] = {0};
		bool nulls[PROGRESS_COLUMNS] = {0};

		if (pid == 0 || kind_name(p.kind) == NULL || BackendPidGetProc((int) pid) == NULL)
			continue;
		values[0] = CStringGetTextDatum(kind_name(p.kind));
		values[1] = Int32GetDatum((int32) pid);
		values[2] = CStringGetTextDatum(wa_clean_text(p.source));
		values[3] = Int64GetDatum((int64) p.system_identifier);
		nulls[3] = (p.system_identifier == 0);
		values[4] = CStringGetTextDatum(wa_clean_text(p.phase));
		set_count(values, nulls, 5, p.files_total);
		set_count(values, nulls, 6, p.files_done);
		set_count(values, nulls, 7, p.bytes_total);
		set_count(values, nulls, 8, p.bytes_done);
		values[9] = CStringGetTextDatum(wa_clean_text(p.current_file));
		nulls[9] = (p.current_file[0] == '\0');
		set_count(values, nulls, 10, p.damaged);
		values[11] = TimestampTzGetDatum(p.started_at);
		values[12] = CStringGetTextDatum(wa_clean_text(p.label));
		nulls[12] = (p.label[0] == '\0');
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
