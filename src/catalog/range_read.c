/*-------------------------------------------------------------------------
 *
 * range_read.c
 *	  Reading ranges of archived WAL for SQL functions.
 *
 * Lives in a session, for the time of one function.  The session's user may be
 * anybody who was granted to read a source; the catalog is asked with the rights
 * of its owner, whom the process becomes after the check.  Memory is bounded:
 * pieces of the plan and messages of the program are taken one at a time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "../base/flat_json.h"
#include "../state/archive_dir.h"
#include "../state/shmem.h"
#include "../state/stat_functions.h"
#include "catalog.h"
#include "range_read.h"

#define REQUEST_LEN (64 * 1024)
#define PLAN_ROWS 100

PG_FUNCTION_INFO_V1(wa_check_read);

struct WaRangeReader
{
	Oid saved_user;
	int saved_context;
	char *source;
	WaDecoder *decoder;    /* started when it is needed first */
	MemoryContext context; /* of all of this */
	MemoryContext message; /* reset after each message */
	XLogRecPtr warned_to;  /* what was missing was said up to here */
	XLogRecPtr damage_lsn; /* of the last damage that was sent, 0: none */
	char *damage;
};

/* ---- who may ---- */

/* The owner of the table of grants, who owns all of the extension. */
static Oid
extension_owner(void)
{
	Oid table = get_relname_relid("read_grant", get_namespace_oid("walarchive", false));
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("library and extension walarchive differ in their version"),
				 errdetail("The loaded library is version %s.", WALARCHIVE_VERSION),
				 errhint("Run ALTER EXTENSION walarchive UPDATE, or restart the server to load the installed library.")));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

void
wa_become_owner(Oid *saved_user, int *saved_context)
{
	Oid owner = extension_owner();

	GetUserIdAndSecContext(saved_user, saved_context);
	SetUserIdAndSecContext(owner, *saved_context | SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

void
wa_become_user(Oid saved_user, int saved_context)
{
	SPI_finish();
	SetUserIdAndSecContext(saved_user, saved_context);
}

/* Inside SPI: may 'user' read the source? */
static bool
is_granted(const char *source, Oid user)
{
	Oid types[] = {TEXTOID, OIDOID};
	Datum values[] = {CStringGetTextDatum(source), ObjectIdGetDatum(user)};

	if (SPI_execute_with_args("SELECT 1 FROM walarchive.read_grant g "
							  "WHERE g.source OPERATOR(pg_catalog.=) $1 "
							  "AND pg_catalog.pg_has_role($2, g.grantee::pg_catalog.oid, 'USAGE')",
							  2, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "query of the grants failed");
	return SPI_processed > 0;
}

static void
refuse(const char *source)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to read the archived WAL of source \"%s\"", source),
			 errhint("walarchive.grant_read('%s', role) grants it.", source)));
}

void
wa_check_read_allowed(const char *source)
{
	Oid user = GetUserId();
	Oid saved_user;
	int saved_context;
	bool granted;

	if (superuser_arg(user))
		return;
	wa_become_owner(&saved_user, &saved_context);
	granted = is_granted(source, user);
	wa_become_user(saved_user, saved_context);
	if (!granted)
		refuse(source);
}

/* walarchive.check_read(source) */
Datum
wa_check_read(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name of the source must not be null")));
	wa_check_read_allowed(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_VOID();
}

/* ---- reading ---- */

WaRangeReader *
wa_range_begin(const char *source)
{
	WaRangeReader *reader = palloc0(sizeof(WaRangeReader));
	Oid user = GetUserId();

	wa_require_preload();
	reader->source = pstrdup(source);
	reader->context = CurrentMemoryContext;
	reader->message = AllocSetContextCreate(CurrentMemoryContext, "walarchive message",
											ALLOCSET_DEFAULT_SIZES);
	wa_become_owner(&reader->saved_user, &reader->saved_context);
	if (!superuser_arg(user) && !is_granted(source, user))
		refuse(source);
	return reader;
}

void
wa_range_end(WaRangeReader *reader)
{
	wa_decoder_close(reader->decoder);
	wa_become_user(reader->saved_user, reader->saved_context);
	MemoryContextDelete(reader->message);
	pfree(reader);
}

/* Say once that WAL is not there. */
static void
warn_missing(WaRangeReader *reader, XLogRecPtr from, XLogRecPtr to)
{
	from = Max(from, reader->warned_to);
	if (from >= to)
		return;
	reader->warned_to = to;
	ereport(WARNING,
			(errmsg("WAL of source \"%s\" from %X/%X to %X/%X is not in the archive",
					reader->source, LSN_FORMAT_ARGS(from), LSN_FORMAT_ARGS(to)),
			 errhint("walarchive.gap lists what is missing. What it holds is not shown.")));
}

/* Say that WAL is there and can't be read, for the reason that the plan gives. */
static void
warn_unreadable(WaRangeReader *reader, const char *kind, XLogRecPtr from, XLogRecPtr to)
{
	if (strcmp(kind, "gap") == 0)
		warn_missing(reader, from, to);
	else if (strcmp(kind, "quarantined") == 0)
		ereport(WARNING,
				(errmsg("WAL of source \"%s\" from %X/%X to %X/%X is not read: the decoder died on it three times",
						reader->source, LSN_FORMAT_ARGS(from), LSN_FORMAT_ARGS(to)),
				 errhint("walarchive.rescan('%s') has it tried again.", reader->source)));
	else
		ereport(WARNING,
				(errmsg("WAL of source \"%s\" from %X/%X to %X/%X is of a PostgreSQL version that is not known here",
						reader->source, LSN_FORMAT_ARGS(from), LSN_FORMAT_ARGS(to))));
}

/* Where WAL goes on at or after 'lsn', 0: nowhere. */
static XLogRecPtr
next_archived(WaRangeReader *reader, const WaRangePiece *piece, XLogRecPtr lsn)
{
	Oid types[] = {TEXTOID, INT8OID, TEXTOID, PG_LSNOID};
	Datum values[] = {CStringGetTextDatum(reader->source), Int64GetDatum((int64) piece->sysid),
					  CStringGetTextDatum(piece->path), LSNGetDatum(lsn)};
	MemoryContext caller = CurrentMemoryContext;
	XLogRecPtr next = 0;
	bool isnull;

	if (SPI_execute_with_args("SELECT walarchive.next_archived($1, $2, $3, $4)", 4, types, values,
							  NULL, true, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "query of the catalog failed");
	MemoryContextSwitchTo(caller);
	values[0] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
		next = DatumGetLSN(values[0]);
	SPI_freetuptable(SPI_tuptable);
	return next;
}

static void
raise_death(WaRangeReader *reader)
{
	ereport(ERROR,
			(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
			 errmsg("walarchive-decode %s", wa_decoder_death(reader->decoder, NULL)),
			 errdetail("It was reading WAL of source \"%s\".", reader->source)));
}

static void
send_request(WaRangeReader *reader, const WaRangePiece *piece, const char *what, XLogRecPtr from)
{
	char *request = palloc(REQUEST_LEN);
	char directory[MAXPGPATH];
	WaJsonWriter w;

	wa_wal_path(directory, reader->source, piece->sysid);
	wa_json_begin(&w, request, REQUEST_LEN);
	wa_json_string(&w, "do", what);
	wa_json_string(&w, "directory", directory);
	wa_json_uint(&w, "system_identifier", piece->sysid);
	wa_json_uint(&w, "segment_size", piece->segment_size);
	wa_json_string(&w, "path", piece->path);
	wa_json_lsn(&w, "from", from);
	wa_json_lsn(&w, "to", piece->to_lsn);
	if (piece->live)
	{
		wa_json_lsn(&w, "end", piece->last_lsn);
		/* a partial file before the last one ends where it ends */
		wa_json_bool(&w, "live", piece->to_lsn == piece->last_lsn);
	}
	if (!wa_json_end(&w))
		elog(ERROR, "request to walarchive-decode is too long");
	if (!wa_decoder_request(reader->decoder, request))
		raise_death(reader);
	pfree(request);
}

/* Remember what a DAMAGE says until it is known where reading goes on. */
static void
note_damage(WaRangeReader *reader, const WaDecoderMessage *message)
{
	const WaMsgDamage *d = message->body;
	char *name = pnstrdup(message->rest, d->name_len);
	char *text = pnstrdup(message->rest + d->name_len, d->text_len);

	reader->damage_lsn = d->lsn != 0 ? d->lsn : d->segment_lsn;
	reader->damage = MemoryContextStrdup(reader->context,
										 psprintf("file \"%s\" is damaged at %X/%X: %s", name,
												  LSN_FORMAT_ARGS(reader->damage_lsn), text));
}

/*
 * Read the answer to a request from 'from' on.  Returns where to go on, the end
 * of the piece or later if there is nothing more.
 */
static XLogRecPtr
read_answer(WaRangeReader *reader, const WaRangePiece *piece, XLogRecPtr from,
			WaMessageType wanted, WaRangeCallback callback, void *arg)
{
	WaDecoderMessage message;
	WaMsgEnd end;
	XLogRecPtr next;
	MemoryContext old = MemoryContextSwitchTo(reader->message);

	for (;;)
	{
		MemoryContextReset(reader->message);
		if (!wa_decoder_next(reader->decoder, &message))
			raise_death(reader);
		if (message.type == wanted)
			callback(reader, piece, &message, arg);
		else if (message.type == WA_MSG_DAMAGE)
			note_damage(reader, &message);
		else if (message.type == WA_MSG_END)
			break;
	}
	end = *(const WaMsgEnd *) message.body;
	switch ((WaDecodeResult) end.result)
	{
		case WA_DECODE_DONE:
			next = piece->to_lsn;
			break;
		case WA_DECODE_MISSING:
			/* what the catalog knows to be missing was said already */
			next = end.missing_lsn >= piece->to_lsn ? piece->to_lsn : next_archived(reader, piece, end.missing_lsn + piece->segment_size);
			if (next == 0 || next > piece->to_lsn)
				next = piece->to_lsn;
			warn_missing(reader, Max(end.missing_lsn, piece->from_lsn), next);
			break;
		case WA_DECODE_DAMAGED:
			next = end.next_lsn;
			if (next > piece->from_lsn)
				ereport(WARNING,
						(errmsg("WAL of source \"%s\": %s", reader->source,
								reader->damage ? wa_clean_text(reader->damage) : "a file is damaged"),
						 errdetail("What is between %X/%X and %X/%X is not shown.",
								   LSN_FORMAT_ARGS(Max(reader->damage_lsn, from)), LSN_FORMAT_ARGS(next))));
			break;
		case WA_DECODE_UNKNOWN:
			next = end.next_lsn + piece->segment_size - end.next_lsn % piece->segment_size;
			warn_unreadable(reader, "unknown", end.next_lsn, next);
			break;
		case WA_DECODE_FAILED:
		default:
			ereport(ERROR,
					(errcode(ERRCODE_IO_ERROR),
					 errmsg("could not read the archived WAL of source \"%s\"", reader->source),
					 errdetail("%s.", wa_clean_text(pnstrdup(message.rest, end.text_len)))));
	}
	if (next <= from)
		elog(ERROR, "walarchive-decode does not get beyond %X/%X", LSN_FORMAT_ARGS(from));
	MemoryContextSwitchTo(old);
	return next;
}

static void
read_piece(WaRangeReader *reader, const WaRangePiece *piece, const char *what, uint32 warm_up,
		   WaMessageType wanted, WaRangeCallback callback, void *arg)
{
	XLogRecPtr from = piece->from_lsn;

	if (warm_up > 0)
	{
		XLogRecPtr bytes = (XLogRecPtr) warm_up * piece->segment_size;

		from = from > bytes ? from - bytes : 0;
		from = Max(from, piece->first_lsn);
		from = Min(from, piece->from_lsn);
	}
	if (reader->decoder == NULL)
		reader->decoder = wa_decoder_open(0);
	while (from < piece->to_lsn)
	{
		CHECK_FOR_INTERRUPTS();
		send_request(reader, piece, what, from);
		from = read_answer(reader, piece, from, wanted, callback, arg);
	}
}

/* The columns of a row of walarchive.plan_read. */
static void
read_plan_row(HeapTuple row, TupleDesc desc, char **kind, WaRangePiece *piece)
{
	bool isnull;

	*kind = SPI_getvalue(row, desc, 1);
	piece->from_lsn = DatumGetLSN(SPI_getbinval(row, desc, 2, &isnull));
	piece->to_lsn = DatumGetLSN(SPI_getbinval(row, desc, 3, &isnull));
	piece->sysid = (uint64) DatumGetInt64(SPI_getbinval(row, desc, 4, &isnull));
	piece->segment_size = (uint32) DatumGetInt32(SPI_getbinval(row, desc, 5, &isnull));
	piece->path = SPI_getvalue(row, desc, 6);
	piece->first_lsn = DatumGetLSN(SPI_getbinval(row, desc, 7, &isnull));
	piece->last_lsn = DatumGetLSN(SPI_getbinval(row, desc, 8, &isnull));
	piece->live = DatumGetBool(SPI_getbinval(row, desc, 9, &isnull));
}

void
wa_range_read(WaRangeReader *reader, const WaRangeArgs *args, const char *plan, const char *what,
			  uint32 warm_up, WaMessageType wanted, WaRangeCallback callback, void *arg)
{
	Oid types[] = {TEXTOID, PG_LSNOID, PG_LSNOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, TEXTOID};
	Datum values[7];
	char nulls[7];
	Portal portal;

	values[0] = CStringGetTextDatum(args->source);
	nulls[0] = ' ';
	values[1] = LSNGetDatum(args->from_lsn);
	nulls[1] = args->from_lsn == 0 ? 'n' : ' ';
	values[2] = LSNGetDatum(args->to_lsn);
	nulls[2] = args->to_lsn == 0 ? 'n' : ' ';
	values[3] = TimestampTzGetDatum(args->from_time);
	nulls[3] = args->has_from_time ? ' ' : 'n';
	values[4] = TimestampTzGetDatum(args->to_time);
	nulls[4] = args->has_to_time ? ' ' : 'n';
	values[5] = Int32GetDatum((int32) args->tli);
	nulls[5] = args->tli == 0 ? 'n' : ' ';
	values[6] = CStringGetTextDatum(plan);
	nulls[6] = ' ';

	portal = SPI_cursor_open_with_args(NULL,
									   "SELECT p.* FROM walarchive.plan_read($1, $2, $3, $4, $5, $6, $7) p",
									   7, types, values, nulls, true, 0);
	for (;;)
	{
		SPITupleTable *rows;
		uint64 count;

		SPI_cursor_fetch(portal, true, PLAN_ROWS);
		rows = SPI_tuptable;
		count = SPI_processed;
		for (uint64 i = 0; i < count; i++)
		{
			WaRangePiece piece;
			char *kind;

			read_plan_row(rows->vals[i], rows->tupdesc, &kind, &piece);
			if (strcmp(kind, "read") == 0)
				read_piece(reader, &piece, what, warm_up, wanted, callback, arg);
			else
				warn_unreadable(reader, kind, piece.from_lsn, piece.to_lsn);
			pfree(kind);
			pfree(piece.path);
		}
		SPI_freetuptable(rows);
		if (count == 0)
			break;
	}
	SPI_cursor_close(portal);
}
