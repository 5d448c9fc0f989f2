/*-------------------------------------------------------------------------
 *
 * stat_functions.c
 *	  SQL functions over shared memory: what the views stat_receiver, status
 *	  and health are made of.
 *
 * They run in ordinary sessions, take no lock and write nothing but the two
 * requests to the indexers: notify_catalog_changed and request_index.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/statvfs.h>

#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "../settings.h"
#include "archive_dir.h"
#include "shmem.h"
#include "stat_functions.h"

#define RECEIVER_STATE_COLUMNS 42

/* With receive_timeout = 0: a server that is silent for longer may be frozen. */
#define DEFAULT_SILENCE_MS 60000
#define HOST_STATE_COLUMNS 14
#define OBSERVER_STATE_COLUMNS 14

PG_FUNCTION_INFO_V1(wa_receiver_state);
PG_FUNCTION_INFO_V1(wa_host_state);
PG_FUNCTION_INFO_V1(wa_observer_state);
PG_FUNCTION_INFO_V1(wa_notify_catalog_changed);
PG_FUNCTION_INFO_V1(wa_request_index);

ReturnSetInfo *
wa_begin_rows(FunctionCallInfo fcinfo, int columns)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	wa_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	if (rsinfo->setDesc->natts != columns)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("library and extension walarchive differ in their version"),
				 errdetail("The loaded library is version %s.", WALARCHIVE_VERSION),
				 errhint("Run ALTER EXTENSION walarchive UPDATE, or restart the server to load the installed library.")));
	return rsinfo;
}

const char *
wa_clean_text(const char *text)
{
	char *copy;

	if (pg_verifymbstr(text, strlen(text), true))
		return text;
	copy = pstrdup(text);
	for (char *p = copy; *p; p++)
	{
		if (IS_HIGHBIT_SET(*p))
			*p = '?';
	}
	return copy;
}

/* Put a value that is NULL where it is not known. */
static void
set_text(Datum *values, bool *nulls, int *n, const char *text)
{
	if (text == NULL || text[0] == '\0')
		nulls[*n] = true;
	else
		values[*n] = CStringGetTextDatum(wa_clean_text(text));
	(*n)++;
}

static void
set_int(Datum *values, bool *nulls, int *n, int value, bool known)
{
	values[*n] = Int32GetDatum(value);
	nulls[*n] = !known;
	(*n)++;
}

static void
set_bigint(Datum *values, bool *nulls, int *n, uint64 value, bool known)
{
	values[*n] = Int64GetDatum((int64) value);
	nulls[*n] = !known;
	(*n)++;
}

static void
set_bool(Datum *values, bool *nulls, int *n, bool value, bool known)
{
	values[*n] = BoolGetDatum(value);
	nulls[*n] = !known;
	(*n)++;
}

static void
set_lsn(Datum *values, bool *nulls, int *n, XLogRecPtr value)
{
	values[*n] = LSNGetDatum(value);
	nulls[*n] = (value == 0);
	(*n)++;
}

static void
set_time(Datum *values, bool *nulls, int *n, TimestampTz value)
{
	values[*n] = TimestampTzGetDatum(value);
	nulls[*n] = (value == 0);
	(*n)++;
}

/* Bytes that are free for us in the file system of 'path'; false: unknown. */
static bool
free_space(const char *path, uint64 *bytes)
{
	struct statvfs fs;

	if (path[0] == '\0' || statvfs(path, &fs) != 0)
		return false;
	*bytes = (uint64) fs.f_bavail * fs.f_frsize;
	return true;
}

static void
set_interval(Datum *values, bool *nulls, int *n, int64 usec, bool known)
{
	Interval *interval = palloc0(sizeof(Interval));

	interval->day = (int32) (usec / USECS_PER_DAY);
	interval->time = usec % USECS_PER_DAY;
	values[*n] = IntervalPGetDatum(interval);
	nulls[*n] = !known;
	(*n)++;
}

/*
 * How long, in microseconds, the server has had WAL that is not durable here.
 * Without a living connection nobody knows what it has: then it is the time
 * since the server was heard.  -1: not known.
 */
static int64
flush_lag(const WaReceiverStat *stat, bool has_receiver, TimestampTz now)
{
	int64 limit = (wa_receive_timeout > 0 ? wa_receive_timeout : DEFAULT_SILENCE_MS) * INT64CONST(1000);
	int64 silence = Max(0, now - stat->last_msg_receipt_time);
	bool connected = has_receiver && stat->connected_since != 0;
	int64 lag = 0;

	if (stat->last_msg_receipt_time == 0 || stat->flushed_lsn == 0)
		return -1;
	if (stat->flushed_lsn < stat->latest_end_lsn)
		lag = wa_lag_behind(&stat->lag, stat->flushed_lsn, now);
	return connected && silence <= limit ? lag : Max(lag, silence);
}

/* What is decoded, and how far that is behind what is durable. */
static void
set_index_columns(Datum *values, bool *nulls, int *n, const WaIndexStat *index,
				  const WaReceiverStat *stat, bool known, bool has_receiver)
{
	TimestampTz now = GetCurrentTimestamp();
	bool has_commit = known && index->commit_lsn != 0;
	bool behind = known && !wa_nothing_to_decode(index->decoded_lsn, stat->flushed_lsn);
	int64 lag = flush_lag(stat, has_receiver, now);

	set_lsn(values, nulls, n, known ? index->decoded_lsn : 0);
	set_lsn(values, nulls, n, has_commit ? index->commit_lsn : 0);
	values[*n] = TransactionIdGetDatum(index->commit_xid);
	nulls[(*n)++] = !has_commit;
	values[*n] = TimestampTzGetDatum(index->commit_time);
	nulls[(*n)++] = !has_commit;
	set_interval(values, nulls, n, lag, lag >= 0);
	set_bigint(values, nulls, n, behind ? stat->flushed_lsn - index->decoded_lsn : 0,
			   known && stat->flushed_lsn != 0);
	set_interval(values, nulls, n,
				 behind ? wa_lag_behind(&stat->lag, index->decoded_lsn, now) : 0,
				 known && stat->flushed_lsn != 0);
}

/* One row of receiver_state(), from the slot's copies. */
static void
receiver_row(int slot, uint32 pid, const WaSlotControl *control, const WaReceiverStat *stat,
			 const WaIndexStat *index, Datum *values, bool *nulls)
{
	WaSourceSlot *shared = &wa_shared->slot[slot];
	/* the launcher's reason counts while there is no receiver to have one */
	bool launcher_cause = (pid == 0 && control->cause != WA_CAUSE_NONE);
	WaCause cause = launcher_cause ? control->cause : stat->cause;
	bool has_cause = (cause != WA_CAUSE_NONE);
	bool connected_once = (stat->server_version != 0);
	uint64 finished = pg_atomic_read_u64(&shared->finished_count);
	uint64 indexed_finished = pg_atomic_read_u64(&shared->indexed_finished);
	uint64 indexed_journal = pg_atomic_read_u64(&shared->indexed_journal);
	uint64 free_bytes = 0;
	bool free_known;
	char path[MAXPGPATH];
	int n = 0;

	wa_source_path(path, control->name);
	free_known = free_space(path, &free_bytes);

	set_text(values, nulls, &n, control->name);
	set_text(values, nulls, &n, wa_desired_state_name(control->desired));
	set_int(values, nulls, &n, (int) pid, pid != 0);
	set_text(values, nulls, &n, wa_receiver_state_name(stat->state));
	set_time(values, nulls, &n, stat->state_since);
	set_text(values, nulls, &n, has_cause ? wa_cause_name(cause) : NULL);
	set_text(values, nulls, &n, has_cause ? wa_cause_hint(cause) : NULL);
	set_bool(values, nulls, &n, has_cause && wa_cause_is_permanent(cause), true);
	set_text(values, nulls, &n, stat->sender_host);
	set_int(values, nulls, &n, stat->sender_port, stat->sender_port != 0);
	set_int(values, nulls, &n, stat->server_version, connected_once);
	set_bool(values, nulls, &n, stat->server_in_recovery, connected_once);
	set_bool(values, nulls, &n, stat->server_remote_apply, connected_once);
	set_bigint(values, nulls, &n, stat->system_identifier,
			   stat->system_identifier != 0);
	set_bigint(values, nulls, &n, stat->refused_system_identifier,
			   stat->refused_system_identifier != 0);
	set_int(values, nulls, &n, (int) stat->segment_size, stat->segment_size != 0);
	set_int(values, nulls, &n, (int) stat->received_tli, stat->received_tli != 0);
	set_lsn(values, nulls, &n, stat->written_lsn);
	set_lsn(values, nulls, &n, stat->flushed_lsn);
	set_lsn(values, nulls, &n, stat->latest_end_lsn);
	set_time(values, nulls, &n, stat->latest_end_time);
	set_bigint(values, nulls, &n, stat->segments_completed, true);
	set_bigint(values, nulls, &n, stat->bytes_received, true);
	set_bigint(values, nulls, &n, stat->flushes, true);
	values[n++] = Float8GetDatum((double) stat->flush_usec / 1000.0);
	set_time(values, nulls, &n, stat->connected_since);
	set_time(values, nulls, &n, stat->last_msg_receipt_time);
	set_bigint(values, nulls, &n, stat->reconnects, true);
	set_text(values, nulls, &n,
			 launcher_cause && control->error[0] ? control->error : stat->last_error);
	set_time(values, nulls, &n, stat->last_error_time);
	set_bigint(values, nulls, &n, control->revision, true);
	set_bigint(values, nulls, &n, finished - Min(finished, indexed_finished), true);
	set_bigint(values, nulls, &n,
			   stat->journal_bytes - Min(stat->journal_bytes, indexed_journal), true);
	set_bool(values, nulls, &n, pg_atomic_read_u32(&shared->index_wanted) != 0, true);
	set_bigint(values, nulls, &n, free_bytes, free_known);
	set_index_columns(values, nulls, &n, index, stat,
					  index->generation == control->generation &&
						  index->system_identifier != 0 && index->decoded_lsn != 0 &&
						  index->system_identifier == stat->system_identifier,
					  pid != 0);
	Assert(n == RECEIVER_STATE_COLUMNS);
}

/*
 * walarchive.receiver_state(): a row for each source that has a slot in shared
 * memory.
 */
Datum
wa_receiver_state(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = wa_begin_rows(fcinfo, RECEIVER_STATE_COLUMNS);
	WaSlotControl *control = palloc(sizeof(WaSlotControl));
	WaReceiverStat *stat = palloc(sizeof(WaReceiverStat));
	WaIndexStat index;

	for (int i = 0; i < wa_shared->max_sources; i++)
	{
		Datum values[RECEIVER_STATE_COLUMNS] = {0};
		bool nulls[RECEIVER_STATE_COLUMNS] = {0};
		uint32 pid;

		wa_read_control(i, control);
		if (!control->in_use || !wa_source_name_is_valid(control->name))
			continue;
		/* in this order: what is said is by this receiver or a later one */
		pid = pg_atomic_read_u32(&wa_shared->slot[i].receiver_pid);
		pg_read_barrier();
		wa_read_stat(i, stat);
		wa_read_index(i, &index);
		receiver_row(i, pid, control, stat, &index, values, nulls);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

static const char *
host_state_name(WaHostState state)
{
	switch (state)
	{
		case WA_HOST_STARTING:
			return "starting";
		case WA_HOST_RUNNING:
			return "running";
		case WA_HOST_STANDBY:
			return "standby";
		case WA_HOST_NO_DIRECTORY:
			return "no_directory";
		case WA_HOST_DIRECTORY_IN_USE:
			return "directory_in_use";
	}
	return NULL;
}

static const char *
catalog_state_name(WaCatalogState state)
{
	switch (state)
	{
		case WA_CATALOG_UNKNOWN:
			return "unknown";
		case WA_CATALOG_OK:
			return "ok";
		case WA_CATALOG_NO_EXTENSION:
			return "no_extension";
		case WA_CATALOG_VERSION:
			return "version";
		case WA_CATALOG_FAILED:
			return "failed";
	}
	return NULL;
}

/* walarchive.host_state(): one row about launcher, indexers and directory. */
Datum
wa_host_state(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = wa_begin_rows(fcinfo, HOST_STATE_COLUMNS);
	WaSlotControl *control = palloc(sizeof(WaSlotControl));
	WaHost *host = &wa_shared->host;
	Datum values[HOST_STATE_COLUMNS] = {0};
	bool nulls[HOST_STATE_COLUMNS] = {0};
	WaHostState state;
	char error[WA_ERROR_LEN];
	TimestampTz start;
	uint32 launcher = pg_atomic_read_u32(&host->launcher_pid);
	int64 launcher_idle = wa_since_launcher_look();
	uint64 mirrored = pg_atomic_read_u64(&host->catalog_mirrored);
	uint64 changes = pg_atomic_read_u64(&host->catalog_changes);
	uint64 free_bytes = 0;
	bool free_known = free_space(wa_directory ? wa_directory : "", &free_bytes);
	int sources = 0;
	int n = 0;

	for (int i = 0; i < wa_shared->max_sources; i++)
	{
		wa_read_control(i, control);
		if (control->in_use)
			sources++;
	}
	wa_read_host(&state, error, &start);

	set_text(values, nulls, &n, host_state_name(state));
	set_text(values, nulls, &n, error);
	set_int(values, nulls, &n, (int) launcher, launcher != 0);
	set_time(values, nulls, &n, start);
	set_interval(values, nulls, &n, launcher_idle, launcher != 0);
	set_text(values, nulls, &n,
			 catalog_state_name((WaCatalogState) pg_atomic_read_u32(&host->catalog_state)));
	set_bigint(values, nulls, &n, changes - Min(changes, mirrored), true);
	set_int(values, nulls, &n, (int) pg_atomic_read_u32(&host->indexers), true);
	set_int(values, nulls, &n, sources, true);
	set_int(values, nulls, &n, wa_shared->max_sources, true);
	set_int(values, nulls, &n, wa_max_sources + wa_max_indexers + WA_OTHER_WORKERS, true);
	set_int(values, nulls, &n, max_worker_processes, true);
	set_bigint(values, nulls, &n, free_bytes, free_known);
	set_bigint(values, nulls, &n, (uint64) wa_min_free_space * 1024 * 1024, true);
	Assert(n == HOST_STATE_COLUMNS);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	return (Datum) 0;
}

/* walarchive.observer_state(): a row for each source in shared memory. */
Datum
wa_observer_state(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = wa_begin_rows(fcinfo, OBSERVER_STATE_COLUMNS);
	WaSlotControl *control = palloc(sizeof(WaSlotControl));
	WaObserverStat *stat = palloc(sizeof(WaObserverStat));
	uint32 pid = pg_atomic_read_u32(&wa_shared->host.observer_pid);

	for (int i = 0; i < wa_shared->max_sources; i++)
	{
		Datum values[OBSERVER_STATE_COLUMNS] = {0};
		bool nulls[OBSERVER_STATE_COLUMNS] = {0};
		bool asked;
		int n = 0;

		wa_read_control(i, control);
		if (!control->in_use || !wa_source_name_is_valid(control->name))
			continue;
		wa_read_observer(i, stat);
		/* of another source that had this slot */
		if (stat->generation != control->generation)
			memset(stat, 0, sizeof(*stat));
		asked = stat->names_time != 0;
		set_text(values, nulls, &n, control->name);
		set_int(values, nulls, &n, (int) pid, pid != 0);
		set_interval(values, nulls, &n, control->heartbeat_ms * INT64CONST(1000),
					 control->heartbeat_ms != 0);
		set_time(values, nulls, &n, stat->heartbeat_time);
		values[n] = FullTransactionIdGetDatum(FullTransactionIdFromU64(stat->heartbeat_xid));
		nulls[n++] = (stat->heartbeat_xid == 0);
		set_text(values, nulls, &n, stat->heartbeat_error);
		set_time(values, nulls, &n, stat->heartbeat_error_time);
		set_interval(values, nulls, &n, control->relation_names_ms * INT64CONST(1000),
					 control->relation_names_ms != 0);
		set_time(values, nulls, &n, stat->names_time);
		set_int(values, nulls, &n, stat->databases, asked);
		set_int(values, nulls, &n, stat->databases_failed, asked);
		set_bigint(values, nulls, &n, stat->relations, asked);
		set_text(values, nulls, &n, stat->names_error);
		set_time(values, nulls, &n, stat->names_error_time);
		Assert(n == OBSERVER_STATE_COLUMNS);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* walarchive.notify_catalog_changed(): at commit, for the mirror step. */
Datum
wa_notify_catalog_changed(PG_FUNCTION_ARGS)
{
	wa_catalog_changed_at_commit();
	PG_RETURN_VOID();
}

/*
 * walarchive.request_index(source): a pass over all files.  At once: it waits
 * for the caller's lock on the source's part of the catalog.
 */
Datum
wa_request_index(PG_FUNCTION_ARGS)
{
	char *source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int slot;

	wa_require_preload();
	slot = wa_find_slot(source);
	if (slot >= 0)
	{
		pg_atomic_write_u32(&wa_shared->slot[slot].index_wanted, 1);
		wa_wake_launcher();
	}
	PG_RETURN_VOID();
}
