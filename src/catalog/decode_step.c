/*-------------------------------------------------------------------------
 *
 * decode_step.c
 *	  WAL -> walarchive-decode -> catalog, a piece at a time.
 *
 * The catalog says where to go on (walarchive.next_decode).  The program reads
 * the files and says what is in them; while it does, no transaction is open.
 * Then what it found and how far it came are entered in one transaction
 * (walarchive.store_decoded), so that a crash at any point leaves a piece that
 * is decoded again, never one that counts twice.
 *
 * The program's death is nobody else's.  It is started again and asked for the
 * same piece, now carefully, so that it says which record it has come to; when
 * it has died three times at one, that record's segment is quarantined and the
 * next one goes on.  A death by SIGTERM counts nothing: that is somebody who
 * shuts the machine down.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "../base/flat_json.h"
#include "../state/archive_dir.h"
#include "../state/journal.h"
#include "../state/source_file.h"
#include "catalog.h"
#include "decode_found.h"

/* What is added to the decoder's priority: the receivers come first. */
#define DECODER_NICE 10

/* Deaths at one record after which its segment is left. */
#define MAX_DEATHS 3

/* With more than this found, in bytes, the piece is taken in smaller ones. */
#define MAX_FOUND (16 * 1024 * 1024)

/* Pieces from this size on, in bytes, are shown as long work. */
#define LONG_WORK (32 * 1024 * 1024)

/* A row of walarchive.next_decode. */
typedef struct Work
{
	uint64 sysid;
	TimeLineID tli;
	bool by_segment;
	XLogRecPtr from;
	bool resync;
	XLogRecPtr to;
	XLogRecPtr until;
	XLogRecPtr segment_end;
	bool live;
	char *state;
	bool has_floor;
	TimestampTz floor;
	int failures;
	bool has_previous;
	XLogRecPtr previous;
	uint32 segment_size;
} Work;

/* ---- where to go on ---- */

static Datum
column(int n, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, n, isnull);
}

static XLogRecPtr
lsn_column(int n)
{
	bool isnull;
	Datum value = column(n, &isnull);

	return isnull ? InvalidXLogRecPtr : DatumGetLSN(value);
}

/* The next piece; false if there is none. */
static bool
find_work(const char *source, const WaReceiverStat *stat, Work *work)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid types[4] = {TEXTOID, INT8OID, INT4OID, PG_LSNOID};
	Datum values[4];
	char nulls[4] = {' ', ' ', ' ', ' '};
	bool found;
	bool isnull;
	int rc;

	memset(work, 0, sizeof(*work));
	wa_catalog_begin("looking for WAL to decode");
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) stat->system_identifier);
	values[2] = Int32GetDatum((int32) stat->received_tli);
	values[3] = LSNGetDatum(stat->flushed_lsn);
	if (stat->system_identifier == 0 || stat->received_tli == 0 ||
		stat->received_tli > PG_INT32_MAX || stat->flushed_lsn == 0)
		nulls[1] = nulls[2] = nulls[3] = 'n';
	rc = SPI_execute_with_args("SELECT system_identifier, timeline, by_segment, from_lsn, resync, to_lsn, "
							   "until_lsn, segment_end, live, state, time_floor, failures, previous_lsn "
							   "FROM walarchive.next_decode($1, $2, $3, $4)",
							   4, types, values, nulls, false, 1);
	if (rc != SPI_OK_SELECT)
		elog(ERROR, "query of the indexer failed: %s", SPI_result_code_string(rc));
	found = SPI_processed == 1;
	if (found)
	{
		Datum state;
		Datum floor;

		work->sysid = (uint64) DatumGetInt64(column(1, &isnull));
		work->tli = (TimeLineID) DatumGetInt32(column(2, &isnull));
		work->by_segment = DatumGetBool(column(3, &isnull));
		work->from = lsn_column(4);
		work->resync = DatumGetBool(column(5, &isnull));
		work->to = lsn_column(6);
		work->until = lsn_column(7);
		work->segment_end = lsn_column(8);
		work->live = DatumGetBool(column(9, &isnull));
		state = column(10, &isnull);
		if (!isnull)
			work->state = MemoryContextStrdup(caller, TextDatumGetCString(state));
		floor = column(11, &isnull);
		work->has_floor = !isnull;
		if (!isnull)
			work->floor = DatumGetTimestampTz(floor);
		work->failures = DatumGetInt32(column(12, &isnull));
		if (isnull)
			work->failures = 0;
		work->previous = lsn_column(13);
		(void) column(13, &isnull);
		work->has_previous = !isnull;
	}
	wa_catalog_commit();
	return found;
}

/* ---- ask ---- */

/* The request, palloc'd. */
static char *
make_request(const char *source, const Work *work)
{
	WaJsonWriter w;
	char directory[MAXPGPATH];
	size_t size = 4 * MAXPGPATH + 1024 + (work->state != NULL ? strlen(work->state) : 0);
	char *request = palloc(size);

	wa_wal_path(directory, source, work->sysid);
	wa_json_begin(&w, request, size);
	wa_json_string(&w, "do", "index");
	wa_json_string(&w, "directory", directory);
	wa_json_uint(&w, "system_identifier", work->sysid);
	wa_json_uint(&w, "segment_size", work->segment_size);
	wa_json_uint(&w, "timeline", work->tli);
	wa_json_lsn(&w, "from", work->from);
	wa_json_lsn(&w, "until", work->until);
	wa_json_lsn(&w, "to", work->to);
	wa_json_bool(&w, "resync", work->resync);
	/* the first piece of a timeline whose fork is known */
	wa_json_bool(&w, "at_fork", !work->has_previous && !work->resync);
	wa_json_bool(&w, "live", work->live);
	wa_json_bool(&w, "careful", work->failures > 0);
	if (work->state != NULL)
		wa_json_string(&w, "state", work->state);
	/* what came before a segment by itself is not looked up: then no time is exact */
	else if (work->by_segment)
		wa_json_uint(&w, "time_floor", PG_INT64_MAX);
	else if (work->has_floor && work->floor > 0)
		wa_json_uint(&w, "time_floor", (uint64) work->floor);
	if (!wa_json_end(&w))
		elog(ERROR, "request to the decoder is too long");
	return request;
}

typedef enum AnswerResult
{
	ANSWER_WHOLE,
	ANSWER_DIED,
	ANSWER_TOO_LARGE
} AnswerResult;

/* Ask, and gather what comes back. */
static AnswerResult
gather(WaDecoder *decoder, const char *source, const Work *work, WaFound *found)
{
	WaDecoderMessage m;

	wa_found_init(found);
	found->at = work->from;
	if (!wa_decoder_request(decoder, make_request(source, work)))
		return ANSWER_DIED;
	while (wa_decoder_next(decoder, &m))
	{
		switch (m.type)
		{
			case WA_MSG_PROGRESS:
				found->at = ((const WaMsgProgress *) m.body)->lsn;
				break;
			case WA_MSG_SEGMENT:
				wa_found_segment(found, work->tli, work->segment_size, m.body);
				break;
			case WA_MSG_DAMAGE:
			{
				const WaMsgDamage *damage = m.body;

				wa_found_damage(found, damage->segment_lsn, "damaged", damage->lsn, damage->offset,
								wa_clean_text(pnstrdup(m.rest + damage->name_len, damage->text_len)));
				break;
			}
			case WA_MSG_RESTORE_POINT:
				wa_found_restore_point(found, m.body, m.rest);
				break;
			case WA_MSG_TABLESPACE:
				wa_found_tablespace(found, m.body, m.rest);
				break;
			case WA_MSG_PARAMETERS:
				wa_found_parameters(found, m.body);
				break;
			case WA_MSG_RECOVERY_END:
				wa_found_recovery_end(found, m.body);
				break;
			case WA_MSG_DESTRUCTION:
				wa_found_destruction(found, m.body, m.rest);
				break;
			case WA_MSG_FOUND:
				wa_found_prepared(found, m.body, m.rest);
				break;
			case WA_MSG_END:
				found->end = *(const WaMsgEnd *) m.body;
				found->text = wa_clean_text(pnstrdup(m.rest, found->end.text_len));
				found->state = palloc(2 * (size_t) found->end.state_len + 1);
				hex_encode(m.rest + found->end.text_len, found->end.state_len, found->state);
				found->state[2 * (size_t) found->end.state_len] = '\0';
				return ANSWER_WHOLE;
			default:
				break;
		}
		if (wa_found_size(found) > MAX_FOUND && work->until - work->from > work->segment_size)
			return ANSWER_TOO_LARGE;
	}
	return ANSWER_DIED;
}

/* ---- into the catalog ---- */

/*
 * Enter what was found.  The next piece begins at 'next'.  False if the
 * catalog has moved on without us.
 */
static bool
store(const char *source, const Work *work, const WaFound *found, XLogRecPtr next,
	  XLogRecPtr need, bool resync, bool exhausted)
{
	Oid types[14] = {TEXTOID, INT8OID, INT4OID, BOOLOID, PG_LSNOID, PG_LSNOID, PG_LSNOID, BOOLOID,
					 BOOLOID, TEXTOID, PG_LSNOID, XIDOID, TIMESTAMPTZOID, JSONBOID};
	Datum values[14];
	char nulls[14];
	bool commit = found->end.commit_lsn != 0 && IS_VALID_TIMESTAMP(found->end.commit_time);
	bool stored;

	wa_catalog_begin("entering what WAL says");
	memset(nulls, ' ', sizeof(nulls));
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) work->sysid);
	values[2] = Int32GetDatum((int32) work->tli);
	values[3] = BoolGetDatum(work->by_segment);
	values[4] = LSNGetDatum(work->previous);
	nulls[4] = work->has_previous ? ' ' : 'n';
	values[5] = LSNGetDatum(next);
	values[6] = LSNGetDatum(need);
	values[7] = BoolGetDatum(resync);
	values[8] = BoolGetDatum(exhausted);
	values[9] = CStringGetTextDatum(found->state != NULL ? found->state : "");
	nulls[9] = found->state != NULL && found->state[0] != '\0' ? ' ' : 'n';
	values[10] = LSNGetDatum(found->end.commit_lsn);
	values[11] = TransactionIdGetDatum(found->end.commit_xid);
	values[12] = TimestampTzGetDatum(found->end.commit_time);
	nulls[10] = nulls[11] = nulls[12] = commit ? ' ' : 'n';
	values[13] = DirectFunctionCall1(jsonb_in, CStringGetDatum(wa_found_json(found)));
	stored = wa_catalog_call("SELECT walarchive.store_decoded($1, $2, $3, $4, $5, $6, $7, $8, $9, "
							 "$10, $11, $12, $13, $14)",
							 14, types, values, nulls) != 0;
	wa_catalog_commit();
	return stored;
}

/* A segment turned out to be unreadable: an event, in the log and the journal. */
static void
tell_damage(const char *source, const Work *work, const char *message, XLogRecPtr lsn)
{
	WaJournalEntry *entry = palloc0(sizeof(WaJournalEntry));
	bool full = false;

	ereport(WARNING,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("archived WAL of source \"%s\" is damaged: %s", source, message),
			 errhint("No restore passes this place. walarchive.verify tells more; put a good copy of the file there, if there is one, and run walarchive.rescan.")));
	entry->time = GetCurrentTimestamp();
	strlcpy(entry->kind, "damage", sizeof(entry->kind));
	strlcpy(entry->severity, "critical", sizeof(entry->severity));
	strlcpy(entry->message, message, sizeof(entry->message));
	entry->system_identifier = work->sysid;
	entry->tli = work->tli;
	if (lsn != 0)
	{
		entry->has_range = true;
		entry->from_lsn = lsn;
		entry->to_lsn = lsn;
	}
	(void) wa_journal_append(source, entry);
	(void) wa_register_journal(source, &full);
	pfree(entry);
}

/*
 * The decoder died.  True if that was once too often: 'found' then says so of
 * the segment.
 */
static bool
count_death(const char *source, const Work *work, WaFound *found, WaDecoder *decoder)
{
	bool told;
	const char *how = wa_decoder_death(decoder, &told);
	XLogRecPtr at = Max(found->at, work->from);
	XLogRecPtr segment = work->segment_end - work->segment_size;
	Oid types[6] = {TEXTOID, INT8OID, INT4OID, PG_LSNOID, BOOLOID, PG_LSNOID};
	Datum values[6];
	int64 deaths;
	char *message;

	ereport(LOG,
			(errmsg("decoder of source \"%s\" %s", source, how),
			 errdetail("It was at %X/%X on timeline %u.", LSN_FORMAT_ARGS(at), work->tli)));
	if (told)
		return false;
	/* while it is not careful it does not say where it is */
	if (work->failures == 0)
		at = work->from;
	wa_catalog_begin("counting a death of the decoder");
	values[0] = CStringGetTextDatum(source);
	values[1] = Int64GetDatum((int64) work->sysid);
	values[2] = Int32GetDatum((int32) work->tli);
	values[3] = LSNGetDatum(work->from);
	values[4] = BoolGetDatum(work->resync);
	values[5] = LSNGetDatum(at);
	deaths = wa_catalog_call("SELECT walarchive.note_decoder_death($1, $2, $3, $4, $5, $6)",
							 6, types, values, NULL);
	wa_catalog_commit();
	if (deaths < MAX_DEATHS)
		return false;
	message = psprintf("the decoder died %d times at this record, the last time it %s", MAX_DEATHS, how);
	wa_found_reset(found);
	wa_found_damage(found, segment, "quarantined", at, (int64) (at - segment), message);
	return true;
}

/*
 * Show how far the source's newest timeline is decoded.  'end' is what has just
 * been decoded of it, NULL to ask the catalog.
 */
static void
publish(int slot, const WaSlotControl *control, const WaReceiverStat *stat,
		const Work *work, const WaMsgEnd *end)
{
	WaSourceSlot *shared = &wa_shared->slot[slot];
	WaIndexStat index;

	wa_read_index(slot, &index);
	if (end != NULL && index.generation == control->generation &&
		index.system_identifier == work->sysid && index.tli == work->tli)
	{
		index.decoded_lsn = end->next_lsn;
		index.need_lsn = end->need_lsn;
		if (end->commit_lsn != 0)
		{
			index.commit_lsn = end->commit_lsn;
			index.commit_xid = end->commit_xid;
			index.commit_time = end->commit_time;
		}
	}
	else
	{
		Oid types[3] = {TEXTOID, INT8OID, INT4OID};
		Datum values[3];
		char nulls[3] = {' ', ' ', ' '};
		bool isnull;
		int rc;

		memset(&index, 0, sizeof(index));
		index.generation = control->generation;
		index.system_identifier = stat->system_identifier;
		index.tli = stat->received_tli;
		wa_catalog_begin("reading how far WAL is decoded");
		values[0] = CStringGetTextDatum(control->name);
		values[1] = Int64GetDatum((int64) stat->system_identifier);
		values[2] = Int32GetDatum((int32) stat->received_tli);
		if (stat->system_identifier == 0 || stat->received_tli == 0 ||
			stat->received_tli > PG_INT32_MAX)
			nulls[1] = nulls[2] = 'n';
		rc = SPI_execute_with_args("SELECT system_identifier, timeline, next_lsn, need_lsn, commit_lsn, commit_xid, commit_time "
								   "FROM walarchive.decoded_position($1, $2, $3)",
								   3, types, values, nulls, true, 1);
		if (rc != SPI_OK_SELECT)
			elog(ERROR, "query of the indexer failed: %s", SPI_result_code_string(rc));
		if (SPI_processed == 1)
		{
			index.system_identifier = (uint64) DatumGetInt64(column(1, &isnull));
			index.tli = (TimeLineID) DatumGetInt32(column(2, &isnull));
			index.decoded_lsn = lsn_column(3);
			index.need_lsn = lsn_column(4);
			index.commit_lsn = lsn_column(5);
			if (index.commit_lsn != 0)
			{
				index.commit_xid = DatumGetTransactionId(column(6, &isnull));
				index.commit_time = DatumGetTimestampTz(column(7, &isnull));
			}
		}
		wa_catalog_commit();
	}
	wa_begin_change(&shared->index_count);
	shared->index = index;
	wa_end_change(&shared->index_count);
}

/*
 * Show a long piece of work in stat_progress_index.  What is new of a live
 * timeline is none: it never has an end.
 */
static void
show_progress(const char *source, const Work *work, WaProgress *progress)
{
	uint64 step = work->until - work->from;

	/* of another source */
	if (strcmp(progress->source, source) != 0)
		progress->kind = WA_PROGRESS_NONE;
	if (progress->kind == WA_PROGRESS_NONE)
	{
		Oid types[1] = {TEXTOID};
		Datum values[1];

		if (step < LONG_WORK)
			return;
		memset(progress, 0, sizeof(*progress));
		progress->kind = WA_PROGRESS_INDEX;
		strlcpy(progress->source, source, sizeof(progress->source));
		strlcpy(progress->phase, "decoding", sizeof(progress->phase));
		wa_catalog_begin("counting the WAL to decode");
		values[0] = CStringGetTextDatum(source);
		progress->files_total = wa_catalog_call("SELECT pg_catalog.count(*) FROM walarchive.segment s "
												"WHERE s.source = $1 AND s.decode_state = 'pending'",
												1, types, values, NULL);
		wa_catalog_commit();
		progress->bytes_total = progress->files_total * (int64) work->segment_size;
		wa_progress_begin(progress);
	}
	progress->system_identifier = work->sysid;
	wa_segment_name(progress->current_file, work->tli,
					wa_segment_of(work->from, work->segment_size), work->segment_size);
	wa_progress_set(progress);
}

/* A piece is done. */
static void
advance_progress(const Work *work, XLogRecPtr next, bool more, WaProgress *progress)
{
	if (progress->kind == WA_PROGRESS_NONE)
		return;
	if (!more)
	{
		progress->kind = WA_PROGRESS_NONE;
		wa_progress_end();
		return;
	}
	if (next > work->from)
		progress->bytes_done += (int64) (next - work->from);
	progress->files_done = progress->bytes_done / work->segment_size;
	/* WAL comes in meanwhile */
	progress->bytes_total = Max(progress->bytes_total, progress->bytes_done);
	progress->files_total = Max(progress->files_total, progress->files_done);
	wa_progress_set(progress);
}

/*
 * May a place have been read while the receiver was writing it?  Behind the durable
 * end of its stream it compares and writes at any moment, so that a page which
 * was read before it was written is followed by one that was read afterwards:
 * zeroes with WAL behind them.  A piece with that in it is read where it is not
 * known yet how far the receiver is, as after a crash.  'before' is what was known
 * when the piece was asked for, and only what was durable then has been at rest: by
 * now the receiver may be far beyond.
 */
static bool
is_being_written(int slot, const Work *work, const WaReceiverStat *before, XLogRecPtr lsn)
{
	WaReceiverStat *now;
	bool was_here = before->system_identifier == work->sysid && before->received_tli == work->tli;
	bool is_here;
	bool streams;
	bool moved;
	bool result;

	if (was_here && lsn < before->flushed_lsn)
		return false;
	now = palloc(sizeof(WaReceiverStat));
	wa_read_stat(slot, now);
	is_here = now->system_identifier == work->sysid && now->received_tli == work->tli;
	streams = now->state == WA_STATE_CATCHUP || now->state == WA_STATE_STREAMING;
	moved = now->connected_since != before->connected_since ||
			now->stream_start != before->stream_start || now->written_lsn != before->written_lsn;
	if (is_here)
		result = (streams || moved) && lsn >= wa_segment_floor(now->stream_start, work->segment_size);
	else
		/* it has gone on to another timeline meanwhile */
		result = was_here;
	pfree(now);
	return result;
}

bool
wa_decode_slot(int slot, const WaSlotControl *control,
			   const WaReceiverStat *stat, WaDecoder **decoder,
			   WaProgress *progress, bool *more)
{
	const char *source = control->name;
	Work work;
	WaFound found;
	AnswerResult answer;
	XLogRecPtr next;
	XLogRecPtr need;
	bool resync = false;
	bool exhausted = false;
	bool shown;

	*more = false;
	if (!find_work(source, stat, &work))
	{
		WaSourceSlot *shared = &wa_shared->slot[slot];

		advance_progress(&work, 0, false, progress);
		publish(slot, control, stat, NULL, NULL);
		/* what there is now does not suffice: not again before there is more */
		wa_begin_change(&shared->index_count);
		shared->index.need_lsn = Max(shared->index.need_lsn, stat->flushed_lsn + 1);
		wa_end_change(&shared->index_count);
		return false;
	}
	if (!wa_read_cluster_file(source, work.sysid, &work.segment_size))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("cluster " UINT64_FORMAT " of source \"%s\" has no cluster.json", work.sysid, source)));
	/* after a death one segment at a time, so that it is known which is left */
	if (work.failures > 0)
		work.until = Min(work.until, work.segment_end);
	show_progress(source, &work, progress);
	for (;;)
	{
		if (*decoder == NULL)
			*decoder = wa_decoder_open(DECODER_NICE);
		answer = gather(*decoder, source, &work, &found);
		if (answer != ANSWER_TOO_LARGE)
			break;
		wa_decoder_close(*decoder);
		*decoder = NULL;
		work.until = Min(work.until, work.segment_end);
	}

	*more = true;
	next = found.end.next_lsn;
	need = found.end.need_lsn;
	if (answer == ANSWER_DIED)
	{
		bool given_up = count_death(source, &work, &found, *decoder);

		wa_decoder_close(*decoder);
		*decoder = NULL;
		if (!given_up)
			return true;
		next = need = work.segment_end;
		resync = true;
	}
	else
	{
		switch ((WaDecodeResult) found.end.result)
		{
			case WA_DECODE_DONE:
				if (next < work.from)
					next = work.from;
				if (next < work.until)
				{
					/* the files end here, or what is durable does */
					exhausted = !work.live;
					*more = false;
					/*
					 * A record that the server gave up in a crash never becomes whole:
					 * look again when there is twice as much of it.
					 */
					need = Min(need, work.to + Max(work.segment_size, work.to - next));
					if (!work.live && next == work.from)
						need = Max(need, work.until + 1);
				}
				/* its first record is still to be found, perhaps further on */
				resync = work.resync && next == work.from;
				if (resync && work.until >= work.segment_end)
				{
					next = need = work.segment_end;
					exhausted = false;
					*more = true;
				}
				break;
			case WA_DECODE_DAMAGED:
				if (!work.live &&
					is_being_written(slot, &work, stat, found.damage_lsn != 0 ? found.damage_lsn : next))
				{
					/* nothing is entered: it is read again, soon up to what is durable */
					*more = false;
					return true;
				}
				need = next;
				resync = true;
				break;
			case WA_DECODE_UNKNOWN:
				wa_found_damage(&found, wa_segment_floor(next, work.segment_size), "unknown", 0, -1,
								found.text[0] != '\0' ? found.text : "of a PostgreSQL version that is not known here");
				next = need = wa_segment_floor(next, work.segment_size) + work.segment_size;
				resync = true;
				found.damage[0] = '\0';
				break;
			case WA_DECODE_MISSING:
				/* the catalog knows a file that is gone: compare the two */
				pg_atomic_write_u32(&wa_shared->slot[slot].index_wanted, 1);
				exhausted = true;
				need = Max(need, work.until + 1);
				*more = false;
				break;
			case WA_DECODE_FAILED:
			default:
				ereport(ERROR,
						(errcode(ERRCODE_INTERNAL_ERROR),
						 errmsg("decoder failed at %X/%X: %s", LSN_FORMAT_ARGS(next), found.text)));
		}
	}
	if (work.by_segment)
		next = work.segment_end;
	found.contiguous = work.has_previous && work.from == work.previous && !work.resync && !work.by_segment;
	advance_progress(&work, next, *more, progress);
	if (!store(source, &work, &found, next, need, resync, exhausted))
		return true;
	if (found.damage[0] != '\0')
	{
		char name[WA_WAL_NAME_LEN];
		uint64 segno = wa_segment_of(found.damage_lsn != 0 ? found.damage_lsn : work.from, work.segment_size);

		wa_segment_name(name, work.tli, segno, work.segment_size);
		tell_damage(source, &work,
					found.damage_lsn != 0
						? psprintf("segment %s at %X/%X: %s", name, LSN_FORMAT_ARGS(found.damage_lsn), found.damage)
						: psprintf("segment %s: %s", name, found.damage),
					found.damage_lsn);
	}
	shown = !work.by_segment && work.sysid == stat->system_identifier && work.tli == stat->received_tli;
	if (shown)
	{
		found.end.next_lsn = next;
		found.end.need_lsn = need;
		if (!IS_VALID_TIMESTAMP(found.end.commit_time))
			found.end.commit_lsn = 0;
		publish(slot, control, stat, &work, &found.end);
	}
	else if (!*more || stat->system_identifier == 0)
		publish(slot, control, stat, NULL, NULL);
	return true;
}
