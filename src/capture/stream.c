/*-------------------------------------------------------------------------
 *
 * stream.c
 *	  One stream of WAL: receive, write, flush, confirm.
 *
 * Part of the receiver process.  Reading goes on while flushes are under way;
 * when there is nothing more to read, what was written is flushed at once.  A
 * status message goes out as soon as the durable prefix has grown.
 *
 * What is confirmed: nothing below r->report_from, the end of the archive when
 * the stream began.  The stream starts before it, so by then this server has
 * sent again, and matched, the archive's last bytes; a primary that was rewound
 * to an older state differs there and is found out before it hears of any
 * flushed position.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "../base/wal_name.h"
#include "../compat.h"
#include "../settings.h"
#include "../state/fault_point.h"
#include "protocol.h"
#include "receiver.h"

/* After so many bytes other things get a turn. */
#define RECEIVE_BUDGET (1024 * 1024)

/* ... among which each message counts for so many more. */
#define MESSAGE_COST 64

/*
 * With more than this to come, flushes are left to the segments' ends: nobody
 * waits for positions so far back, and each flush holds up the writing.
 */
#define CATCHUP_SEGMENTS 2

/* ... unless the server is silent for so long. */
#define CATCHUP_FLUSH_MS 100

#define SPACE_CHECK_MS 2000

/* Try to hand all output to the kernel. */
static void
flush_output(WaReceiver *r)
{
	int rc = WA_FAULT(FEEDBACK_FLUSH, PQflush(r->connection->conn));

	if (rc < 0)
		wa_raise_connection(r->connection, WA_CAUSE_CONNECTION,
							"could not send to the server");
	r->send_pending = rc > 0;
}

static void
send_status(WaReceiver *r, bool request_reply)
{
	char message[WA_STATUS_UPDATE_LEN];
	WaSegmentWriter *w = &r->writer;

	/* see the file's header: until then the last positions are repeated */
	if (w->durable >= r->report_from)
	{
		r->sent_written = w->written;
#ifdef WA_DEFECT_CONFIRM_EARLY
		/* never in a build for use: for the proof that the tests would find it */
		r->sent_flushed = w->written;
#else
		r->sent_flushed = w->durable;
#endif
	}
	r->last_status = GetCurrentTimestamp();
	wa_build_status_update(message, r->sent_written, r->sent_flushed,
						   r->last_status, request_reply);
	if (WA_FAULT(FEEDBACK_SEND, PQputCopyData(r->connection->conn, message, sizeof(message))) < 0)
		wa_raise_connection(r->connection, WA_CAUSE_CONNECTION,
							"could not send a status message");
	flush_output(r);
	r->reply_wanted = false;
}

/*
 * What the samples of the lag need not tell of any more: what is durable, and
 * decoded if somebody decodes.  The latter is the indexer's to change, and is
 * looked at without waiting for one state: a wrong answer costs precision.
 */
static XLogRecPtr
done_with(const WaReceiver *r)
{
	XLogRecPtr decoded = r->slot->index.decoded_lsn;

	if (decoded == 0 || r->slot->index.system_identifier != r->system_identifier)
		return r->slot->stat.flushed_lsn;
	return Min(r->slot->stat.flushed_lsn, decoded);
}

static void
publish(WaReceiver *r, uint64 received)
{
	const WaSegmentWriter *w = &r->writer;

	WA_STAT(r,
			stat->written_lsn = w->written;
			if (w->durable >= r->report_from)
				stat->flushed_lsn = w->durable;
			stat->flushes = w->flushes;
			stat->flush_usec = w->flush_usec;
			stat->bytes_received += received;
			stat->last_msg_receipt_time = r->last_received;
			stat->latest_end_time = r->last_received;
			stat->latest_end_lsn = Max(stat->latest_end_lsn, r->server_end);
			if (r->server_time != 0)
				wa_lag_note(&stat->lag, r->server_end, r->server_time, r->last_received, done_with(r)););
	r->server_time = 0;
}

/* Take one message; returns the number of WAL bytes in it. */
static size_t
take_message(WaReceiver *r, const char *buf, int len)
{
	WaMessage message;

	wa_parse_message(buf, len, &message);
	switch (message.kind)
	{
		case WA_MESSAGE_WAL:
			if (message.start != r->writer.written)
				wa_error(r, WA_CAUSE_PROTOCOL,
						 errcode(ERRCODE_PROTOCOL_VIOLATION),
						 errmsg("server sent WAL at %X/%X where %X/%X was due",
								LSN_FORMAT_ARGS(message.start),
								LSN_FORMAT_ARGS(r->writer.written)));
			if (message.start + message.len < message.start)
				wa_error(r, WA_CAUSE_PROTOCOL,
						 errcode(ERRCODE_PROTOCOL_VIOLATION),
						 errmsg("server sent WAL past the last possible position"));
			r->server_end = Max(message.server_end, message.start + message.len);
			r->server_time = message.send_time;
			wa_writer_write(&r->writer, message.data, message.len,
							r->server_end - (message.start + message.len));
			return message.len;
		case WA_MESSAGE_KEEPALIVE:
			r->server_end = message.server_end;
			r->server_time = message.send_time;
			if (message.reply_requested)
				r->reply_wanted = true;
			return 0;
		case WA_MESSAGE_INVALID:
			break;
	}
	wa_error(r, WA_CAUSE_PROTOCOL,
			 errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("server broke the replication protocol: %s", message.problem));
	return 0;
}

/*
 * Take the messages that are there, up to a budget.  Returns true if there was
 * nothing more; '*ended' is set when the server has ended the COPY.
 */
static bool
receive_available(WaReceiver *r, bool *ended)
{
	PGconn *conn = r->connection->conn;
	size_t received = 0;
	size_t taken = 0;
	bool heard = false;
	bool drained = false;

	*ended = false;
	/* messages without WAL count as well: a server may send them without end */
	while (taken < RECEIVE_BUDGET)
	{
		char *buf;
		int len = PQgetCopyData(conn, &buf, 1);

		if (len == 0)
		{
			if (PQconsumeInput(conn) == 0)
				wa_raise_connection(r->connection, WA_CAUSE_CONNECTION,
									"connection to the server was lost");
			len = PQgetCopyData(conn, &buf, 1);
		}
		if (len == 0)
		{
			drained = true;
			break;
		}
		if (len == -1)
		{
			*ended = true;
			break;
		}
		if (len < -1)
			wa_raise_connection(r->connection, WA_CAUSE_CONNECTION,
								"could not receive from the server");
		heard = true;
		taken += len + MESSAGE_COST;

		/* freed by end_connection if an error is raised */
		r->message = buf;
		received += take_message(r, buf, len);
		r->message = NULL;
		PQfreemem(buf);
	}
	if (heard)
	{
		r->last_received = GetCurrentTimestamp();
		r->ping_sent = false;
		publish(r, received);
	}
	return drained;
}

/* Milliseconds until something is due; raises the timeout error. */
static long
do_what_is_due(WaReceiver *r)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = TimestampTzPlusMilliseconds(r->last_status, wa_status_interval);

	if (wa_receive_timeout > 0)
	{
		TimestampTz timeout = TimestampTzPlusMilliseconds(r->last_received, wa_receive_timeout);
		TimestampTz ping = TimestampTzPlusMilliseconds(r->last_received, wa_receive_timeout / 2);

		if (now >= timeout)
			wa_error(r, WA_CAUSE_TIMEOUT,
					 errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("nothing was heard from the server for %d ms", wa_receive_timeout));
		if (now >= ping && !r->ping_sent)
		{
			r->ping_sent = true;
			send_status(r, true);
		}
		next = Min(next, r->ping_sent ? timeout : ping);
	}
	if (now >= TimestampTzPlusMilliseconds(r->last_status, wa_status_interval))
	{
		send_status(r, false);
		next = Min(next, TimestampTzPlusMilliseconds(r->last_status, wa_status_interval));
	}
	if (now >= TimestampTzPlusMilliseconds(r->last_space_check, SPACE_CHECK_MS))
	{
		r->last_space_check = now;
		wa_check_space(r);
	}
	next = Min(next, TimestampTzPlusMilliseconds(now, 60000));
	return Max(1, TimestampDifferenceMilliseconds(now, next));
}

/*
 * Sleep until the socket, a flush, the latch or a deadline wakes us.  Returns
 * false if it was the deadline.
 */
static bool
wait_for_work(WaReceiver *r, long ms)
{
	PGconn *conn = r->connection->conn;
	WaitEvent event;
	int events = WL_SOCKET_READABLE | (r->send_pending ? WL_SOCKET_WRITEABLE : 0);

	/* libpq may have opened another socket */
	if (r->wait_set == NULL || r->wait_socket != PQsocket(conn))
	{
		if (r->wait_set)
			FreeWaitEventSet(r->wait_set);
		r->wait_set = wa_create_wait_event_set(4);
		AddWaitEventToSet(r->wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		AddWaitEventToSet(r->wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
		AddWaitEventToSet(r->wait_set, WL_SOCKET_READABLE, r->writer.wakeup_fd, NULL, NULL);
		r->wait_socket = PQsocket(conn);
		r->socket_position = AddWaitEventToSet(r->wait_set, events, r->wait_socket, NULL, NULL);
	}
	else
		ModifyWaitEvent(r->wait_set, r->socket_position, events, NULL);

	if (WaitEventSetWait(r->wait_set, ms, &event, 1, PG_WAIT_EXTENSION) == 0)
		return false;
	if (event.events & WL_LATCH_SET)
		ResetLatch(MyLatch);

	/*
	 * The byte of a flush whose result was taken before it was read: with none
	 * under way nobody else reads it, and it would wake us for ever.
	 */
	else if (event.fd == r->writer.wakeup_fd)
		wa_flusher_clear_wakeup(r->writer.flusher);
	return true;
}

/* A command's result that ends a stream without COPY, or after it. */
static WaStreamEnd
take_end(WaReceiver *r, PGresult *result, TimeLineID *next_tli, XLogRecPtr *next_lsn)
{
	uint64 tli = 0;
	char *end;
	bool valid;

	switch (PQresultStatus(result))
	{
		case PGRES_COMMAND_OK:
			PQclear(result);
			return WA_END_STOPPED;
		case PGRES_TUPLES_OK:
			break;
		default:
			if (wa_result_is(result, "58P01"))
			{
				PQclear(result);
				wa_drain_results(r->connection);
				return WA_END_REMOVED;
			}
			if (PQstatus(r->connection->conn) == CONNECTION_BAD)
			{
				PQclear(result);
				wa_raise_connection(r->connection, WA_CAUSE_CONNECTION,
									"connection to the server was lost");
			}
			wa_raise_result(r->connection, result,
							wa_result_is(result, "55006") ? WA_CAUSE_SLOT_ACTIVE : wa_result_is(result, "55000") ? WA_CAUSE_SLOT
																			   : wa_result_is(result, "57P01")   ? WA_CAUSE_CONNECTION
																												 : WA_CAUSE_PROTOCOL,
							"streaming failed");
	}

	/* the switch: next timeline and where it begins */
	valid = PQntuples(result) == 1 && PQnfields(result) >= 2 &&
			wa_parse_lsn(PQgetvalue(result, 0, 1), next_lsn);
	if (valid)
	{
		tli = strtou64(PQgetvalue(result, 0, 0), &end, 10);
		valid = *end == '\0' && tli <= PG_UINT32_MAX;
	}
	PQclear(result);
	if (!valid || tli <= r->writer.tli || *next_lsn > r->writer.written)
		wa_error(r, WA_CAUSE_PROTOCOL,
				 errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("server ended timeline %u at %X/%X with a switch that is not possible",
						r->writer.tli, LSN_FORMAT_ARGS(r->writer.written)));
	*next_tli = (TimeLineID) tli;
	wa_drain_results(r->connection);
	return WA_END_TIMELINE;
}

/* The server has ended the COPY: make all durable, answer, read why. */
static WaStreamEnd
end_stream(WaReceiver *r, TimeLineID *next_tli, XLogRecPtr *next_lsn)
{
	PGresult *result;

	wa_writer_finish(&r->writer);
	publish(r, 0);
	result = wa_get_result(r->connection);
	if (result == NULL)
		wa_raise_connection(r->connection, WA_CAUSE_CONNECTION,
							"connection to the server was lost");
	if (PQresultStatus(result) == PGRES_COPY_IN)
	{
		PQclear(result);
		send_status(r, false);
		if (PQputCopyEnd(r->connection->conn, NULL) < 0)
			wa_raise_connection(r->connection, WA_CAUSE_CONNECTION,
								"could not end the stream");
		result = wa_get_result(r->connection);
		if (result == NULL)
			wa_raise_connection(r->connection, WA_CAUSE_CONNECTION,
								"connection to the server was lost");
	}
	return take_end(r, result, next_tli, next_lsn);
}

WaStreamEnd
wa_stream(WaReceiver *r, TimeLineID tli, XLogRecPtr start,
		  TimeLineID *next_tli, XLogRecPtr *next_lsn)
{
	const WaTimelineEntry *entry = wa_history_find(&r->history, tli);
	WaSegmentWriter *w = &r->writer;
	char command[256];
	PGresult *result;
	TimeLineID parent = 0;
	XLogRecPtr fork = 0;
	bool live = false;
	bool silent = false;

	if (entry != NULL && entry > r->history.entry)
	{
		parent = entry[-1].tli;
		fork = entry->begin;
	}
	r->cause = WA_CAUSE_IO;
	wa_writer_begin(w, tli, start, parent, fork);

	snprintf(command, sizeof(command),
			 "START_REPLICATION SLOT \"%s\" %X/%X TIMELINE %u",
			 r->settings.slot_name, LSN_FORMAT_ARGS(start), tli);
	result = wa_exec(r->connection, command);
	if (PQresultStatus(result) != PGRES_COPY_BOTH)
		return take_end(r, result, next_tli, next_lsn);
	PQclear(result);

	r->server_end = 0;
	r->server_time = 0;
	r->last_received = r->last_status = r->last_space_check = GetCurrentTimestamp();
	r->ping_sent = r->reply_wanted = false;
	WA_STAT(r,
			stat->received_tli = tli;
			stat->stream_start = start;
			stat->written_lsn = start;
			stat->latest_end_lsn = r->connection->server.flushed;
			stat->latest_end_time = r->last_received;
			stat->last_msg_receipt_time = r->last_received;
			wa_lag_begin(&stat->lag, stat->latest_end_lsn, r->last_received, done_with(r)););
	wa_set_state(r, WA_STATE_CATCHUP);
	/* nothing to match: what the stream starts at is confirmed at once */
	send_status(r, false);

	for (;;)
	{
		bool ended;
		bool drained;
		bool grown;
		bool behind;
		long ms;

		CHECK_FOR_INTERRUPTS();
		/* a stream that never pauses never waits, which is where it is noticed */
		if (!PostmasterIsAlive())
			proc_exit(1);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}

		drained = receive_available(r, &ended);
		/* the server's last word: no status message can follow it */
		if (ended)
			return end_stream(r, next_tli, next_lsn);
		grown = wa_writer_poll(w);
#ifdef WA_DEFECT_CONFIRM_EARLY
		grown |= w->written > r->sent_flushed;
#endif
		behind = r->server_end > w->written &&
				 r->server_end - w->written > CATCHUP_SEGMENTS * (uint64) r->segment_size;
		if (!behind || silent || r->reply_wanted)
			grown |= wa_writer_flush(w, drained);
		if (r->send_pending)
			flush_output(r);
		if (grown)
		{
			/* the server's clients wait for this, nobody for the other */
			send_status(r, false);
			publish(r, 0);
		}
		else if (r->reply_wanted && !wa_writer_needs_flush(w) &&
				 wa_flusher_in_flight(w->flusher) == 0)
			send_status(r, false);

		/*
		 * Streaming means that what was there when we connected is durable: a
		 * disk that fails each flush must not look well in between.
		 */
		if (drained && !live && w->written >= r->server_end && r->server_end != 0 &&
			w->durable >= Max(r->report_from, r->connection->server.flushed))
		{
			live = true;
			wa_set_state(r, WA_STATE_STREAMING);
		}
		ms = do_what_is_due(r);
		silent = false;
		/* while a flush was under way more has come: look before sleeping */
		if (drained && !grown)
		{
			if (behind && wa_writer_needs_flush(w))
				silent = !wait_for_work(r, Min(ms, CATCHUP_FLUSH_MS));
			else
				(void) wait_for_work(r, ms);
		}
	}
}
