/*-------------------------------------------------------------------------
 *
 * upkeep.c
 *	  The upkeep worker, and verify(), which has it work.
 *
 * A session that calls verify() makes a shared memory segment with the job and
 * a queue, starts a worker for it, and reads from the queue what is found.  The
 * worker is attached to walarchive.database; it commits as it goes, which a
 * session's own transaction could not.  It never restarts by itself.
 *
 * The end of the session's statement, by cancellation or otherwise, ends the
 * worker; the end of the worker, by whatever, is an error in the session.  What
 * was entered in the catalog until then stays.
 *
 * One worker at a time verifies a source: it holds a lock of the session kind
 * on the source's name (as an object of the table of segments) for its life.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/namespace.h"
#include "commands/dbcommands.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/shm_mq.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "../compat.h"
#include "../settings.h"
#include "catalog.h"
#include "range_read.h"
#include "upkeep.h"
#include "verify_run.h"

#define QUEUE_SIZE 65536
#define VERIFY_COLUMNS 5
#define MESSAGE_LEN 1024

/* What the session asks for; the queue follows. */
typedef struct UpkeepJob
{
	WaVerifyJob verify;
	Oid database;
} UpkeepJob;

typedef enum ReplyKind
{
	REPLY_DAMAGE,
	REPLY_NOTICE,
	REPLY_ERROR,
	REPLY_DONE
} ReplyKind;

/* What the worker answers. */
typedef struct Reply
{
	ReplyKind kind;
	TimeLineID tli; /* DAMAGE */
	XLogRecPtr lsn;
	int64 offset;
	char file[WA_WAL_NAME_LEN];
	int sqlstate; /* ERROR */
	char message[MESSAGE_LEN];
	char detail[MESSAGE_LEN];
	char hint[MESSAGE_LEN];
} Reply;

PG_FUNCTION_INFO_V1(wa_verify_source);

/* ---- the worker ---- */

static shm_mq_handle *reply_queue = NULL;

/* Leaves, quietly, where nobody waits for answers any more. */
static void
send_reply(const Reply *reply)
{
	if (shm_mq_send(reply_queue, sizeof(Reply), reply, false, true) != SHM_MQ_SUCCESS)
	{
		ereport(LOG,
				(errmsg("walarchive upkeep leaves: the session that wanted it is gone")));
		proc_exit(1);
	}
}

static void
report_damage(void *arg, const WaMsgDamage *damage, const char *rest)
{
	Reply *reply = palloc0(sizeof(Reply));

	reply->kind = REPLY_DAMAGE;
	reply->tli = damage->tli;
	reply->lsn = damage->lsn;
	reply->offset = damage->offset;
	strlcpy(reply->file, pnstrdup(rest, damage->name_len), sizeof(reply->file));
	strlcpy(reply->message, pnstrdup(rest + damage->name_len, damage->text_len), sizeof(reply->message));
	send_reply(reply);
	pfree(reply);
}

static void
report_notice(void *arg, const char *message)
{
	Reply *reply = palloc0(sizeof(Reply));

	reply->kind = REPLY_NOTICE;
	strlcpy(reply->message, message, sizeof(reply->message));
	send_reply(reply);
	pfree(reply);
}

/*
 * Make sure that nobody else verifies this source; for this process's life.
 */
static void
lock_source(const char *source)
{
	Oid schema;
	Oid table;
	LOCKTAG tag;
	LockAcquireResult result;

	wa_catalog_begin("locking the source");
	schema = get_namespace_oid("walarchive", false);
	table = get_relname_relid("segment", schema);
	if (!OidIsValid(table))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table walarchive.segment does not exist")));
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, table,
					   hash_bytes((const unsigned char *) source, strlen(source)), 0);
	/* those are released at any exit, the server's own only at that of a transaction */
	tag.locktag_lockmethodid = USER_LOCKMETHOD;
	result = LockAcquire(&tag, ExclusiveLock, true, true);
	wa_catalog_commit();
	if (result == LOCKACQUIRE_NOT_AVAIL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("source \"%s\" is being verified already", source),
				 errhint("walarchive.stat_progress_verify shows how far it is.")));
}

/* Say in the session why it ends, as well as in the log. */
static void
send_error(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	ErrorData *error = CopyErrorData();
	Reply *reply = palloc0(sizeof(Reply));

	MemoryContextSwitchTo(old);
	reply->kind = REPLY_ERROR;
	reply->sqlstate = error->sqlerrcode;
	strlcpy(reply->message, error->message ? error->message : "", sizeof(reply->message));
	strlcpy(reply->detail, error->detail ? error->detail : "", sizeof(reply->detail));
	strlcpy(reply->hint, error->hint ? error->hint : "", sizeof(reply->hint));
	(void) shm_mq_send(reply_queue, sizeof(Reply), reply, true, true);
}

/*
 * Entry point of the worker.  'main_arg' is the handle of the segment with the
 * job.
 */
void
wa_upkeep_main(Datum main_arg)
{
	dsm_segment *segment;
	UpkeepJob *job;
	shm_mq *queue;
	MemoryContext context;
	Reply *done;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	segment = dsm_attach(DatumGetUInt32(main_arg));
	if (segment == NULL)
		proc_exit(0); /* the session is gone */
	dsm_pin_mapping(segment);
	job = (UpkeepJob *) dsm_segment_address(segment);
	queue = (shm_mq *) ((char *) job + MAXALIGN(sizeof(UpkeepJob)));
	shm_mq_set_sender(queue, MyProc);
	reply_queue = shm_mq_attach(queue, segment, NULL);

	if (wa_shared == NULL || IsBinaryUpgrade || RecoveryInProgress())
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(job->database, InvalidOid, 0);
	wa_catalog_session();
	/* what a person asked for is not given up so soon */
	SetConfigOption("lock_timeout", "10s", PGC_SUSET, PGC_S_OVERRIDE);
	pgstat_report_appname("walarchive upkeep");
	context = AllocSetContextCreate(TopMemoryContext, "walarchive upkeep", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);

	PG_TRY();
	{
		lock_source(job->verify.source);
		wa_run_verification(&job->verify, report_damage, report_notice, NULL);
	}
	PG_CATCH();
	{
		send_error();
		PG_RE_THROW();
	}
	PG_END_TRY();

	done = palloc0(sizeof(Reply));
	done->kind = REPLY_DONE;
	send_reply(done);
	proc_exit(0);
}

/* ---- the session ---- */

/* End the worker when the statement ends before it has. */
static void
end_worker(int code, Datum arg)
{
	TerminateBackgroundWorker((BackgroundWorkerHandle *) DatumGetPointer(arg));
}

static BackgroundWorkerHandle *
start_worker(dsm_segment *segment, const char *source)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

	memset(&worker, 0, sizeof(worker));
	snprintf(worker.bgw_name, BGW_MAXLEN, "walarchive upkeep %s", source);
	strlcpy(worker.bgw_type, "walarchive upkeep", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strcpy(worker.bgw_library_name, "walarchive");
	strcpy(worker.bgw_function_name, WA_UPKEEP_FUNCTION);
	worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(segment));
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("there is no free background worker for the verification"),
				 errhint("Raise \"max_worker_processes\".")));
	return handle;
}

/* Raise the error that the worker ended with. */
static void
raise_error(const Reply *reply)
{
	ereport(ERROR,
			(errcode(reply->sqlstate != 0 ? reply->sqlstate : ERRCODE_INTERNAL_ERROR),
			 errmsg_internal("%s", reply->message),
			 reply->detail[0] != '\0' ? errdetail_internal("%s", reply->detail) : 0,
			 reply->hint[0] != '\0' ? errhint("%s", reply->hint) : 0));
}

/* Take the worker's answers until it is done. */
static void
read_replies(shm_mq_handle *queue, ReturnSetInfo *rsinfo)
{
	for (;;)
	{
		Size size;
		void *data;
		const Reply *reply;
		Datum values[VERIFY_COLUMNS];
		bool nulls[VERIFY_COLUMNS] = {0};

		/* serves interrupts while it waits */
		if (shm_mq_receive(queue, &size, &data, false) != SHM_MQ_SUCCESS || size != sizeof(Reply))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("the worker that verified ended before it was done"),
					 errdetail("What it had verified until then is noted in the catalog."),
					 errhint("See the server log.")));
		reply = data;
		switch (reply->kind)
		{
			case REPLY_DAMAGE:
				values[0] = CStringGetTextDatum(wa_clean_text(reply->file));
				values[1] = Int32GetDatum((int32) reply->tli);
				nulls[1] = (reply->tli == 0);
				values[2] = LSNGetDatum(reply->lsn);
				nulls[2] = (reply->lsn == 0);
				values[3] = Int64GetDatum(reply->offset);
				nulls[3] = (reply->offset < 0);
				values[4] = CStringGetTextDatum(wa_clean_text(reply->message));
				tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
				break;
			case REPLY_NOTICE:
				ereport(NOTICE, (errmsg_internal("%s", reply->message)));
				break;
			case REPLY_ERROR:
				raise_error(reply);
				break;
			case REPLY_DONE:
				return;
		}
	}
}

/* The arguments of verify(), checked. */
static void
read_arguments(FunctionCallInfo fcinfo, WaVerifyJob *job)
{
	char *source;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name of the source must not be null")));
	source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (!wa_source_name_is_valid(source))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("source \"%s\" does not exist", source),
				 errhint("The table walarchive.source lists the sources.")));
	strlcpy(job->source, source, sizeof(job->source));
	if (!PG_ARGISNULL(1))
		job->from_lsn = PG_GETARG_LSN(1);
	if (!PG_ARGISNULL(2))
	{
		job->to_lsn = PG_GETARG_LSN(2);
		if (job->to_lsn <= job->from_lsn)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("from_lsn must be below to_lsn")));
	}
	if (!PG_ARGISNULL(3))
	{
		if (PG_GETARG_INT32(3) <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid timeline %d", PG_GETARG_INT32(3))));
		job->tli = (TimeLineID) PG_GETARG_INT32(3);
	}
	if (!PG_ARGISNULL(4))
	{
		TimestampTz now = GetCurrentTimestamp();

		job->before = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
															  TimestampTzGetDatum(now),
															  PG_GETARG_DATUM(4)));
		if (job->before > now)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("older_than must not be negative")));
	}
}

/* walarchive.verify(source, from_lsn, to_lsn, timeline, older_than) */
Datum
wa_verify_source(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = wa_begin_rows(fcinfo, VERIFY_COLUMNS);
	UpkeepJob *job;
	shm_mq *queue;
	shm_mq_handle *mqh;
	dsm_segment *segment;
	BackgroundWorkerHandle *worker;
	WaVerifyJob asked = {0};
	const char *database = get_database_name(MyDatabaseId);

	read_arguments(fcinfo, &asked);
	if (database == NULL || strcmp(database, wa_database) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the catalog is kept in database \"%s\"", wa_database),
				 errhint("Connect to it, or set \"walarchive.database\" to this one.")));
	wa_check_read_allowed(asked.source);
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this server is in recovery: nothing is archived, and nothing can be verified")));

	segment = dsm_create(MAXALIGN(sizeof(UpkeepJob)) + QUEUE_SIZE, 0);
	job = (UpkeepJob *) dsm_segment_address(segment);
	memset(job, 0, sizeof(UpkeepJob));
	job->verify = asked;
	job->database = MyDatabaseId;
	queue = shm_mq_create((char *) job + MAXALIGN(sizeof(UpkeepJob)), QUEUE_SIZE);
	shm_mq_set_receiver(queue, MyProc);
	worker = start_worker(segment, asked.source);
	PG_ENSURE_ERROR_CLEANUP(end_worker, PointerGetDatum(worker));
	{
		mqh = shm_mq_attach(queue, segment, worker);
		read_replies(mqh, rsinfo);
	}
	PG_END_ENSURE_ERROR_CLEANUP(end_worker, PointerGetDatum(worker));
	shm_mq_detach(mqh);
	dsm_detach(segment);
	return (Datum) 0;
}
