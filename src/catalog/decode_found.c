/*-------------------------------------------------------------------------
 *
 * decode_found.c
 *	  Messages of the decoder as rows for the catalog, see decode_found.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "decode_found.h"

/* Files of one transaction that the catalog keeps; their number it always does. */
#define MAX_FILES 10000

static const char *const found_name[FOUND_KINDS] = {
	"segments", "damage", "restore_points", "parameters", "recoveries", "destructions",
	"prepared", "finished", "tablespaces"};

void
wa_found_init(WaFound *found)
{
	memset(found, 0, sizeof(*found));
	for (int i = 0; i < FOUND_KINDS; i++)
		initStringInfo(&found->list[i]);
}

void
wa_found_reset(WaFound *found)
{
	memset(&found->end, 0, sizeof(found->end));
	for (int i = 0; i < FOUND_KINDS; i++)
		resetStringInfo(&found->list[i]);
	found->state = NULL;
	found->damage[0] = '\0';
}

size_t
wa_found_size(const WaFound *found)
{
	size_t size = 0;

	for (int i = 0; i < FOUND_KINDS; i++)
		size += found->list[i].len;
	return size;
}

char *
wa_found_json(const WaFound *found)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfo(&json, "{\"contiguous\":%s", found->contiguous ? "true" : "false");
	for (int i = 0; i < FOUND_KINDS; i++)
	{
		if (found->list[i].len > 0)
			appendStringInfo(&json, ",\"%s\":[%s]",
							 found_name[i], found->list[i].data);
	}
	appendStringInfoChar(&json, '}');
	return json.data;
}

/* Begin an object in a list, and write its members. */
static StringInfo
begin_object(WaFound *found, WaFoundKind kind)
{
	StringInfo s = &found->list[kind];

	if (s->len > 0)
		appendStringInfoChar(s, ',');
	appendStringInfoChar(s, '{');
	return s;
}

static void
member(StringInfo s, const char *name)
{
	if (s->data[s->len - 1] != '{')
		appendStringInfoChar(s, ',');
	appendStringInfo(s, "\"%s\":", name);
}

static void
text_member(StringInfo s, const char *name, const char *value)
{
	member(s, name);
	escape_json(s, value);
}

static void
number_member(StringInfo s, const char *name, uint64 value)
{
	member(s, name);
	appendStringInfo(s, UINT64_FORMAT, value);
}

static void
bool_member(StringInfo s, const char *name, bool value)
{
	member(s, name);
	appendStringInfoString(s, value ? "true" : "false");
}

/* An LSN that is 0 where there is none. */
static void
lsn_member(StringInfo s, const char *name, XLogRecPtr value)
{
	member(s, name);
	if (value == InvalidXLogRecPtr)
		appendStringInfoString(s, "null");
	else
		appendStringInfo(s, "\"%X/%X\"", LSN_FORMAT_ARGS(value));
}

/* A time out of a record: anything is possible. */
static void
time_member(StringInfo s, const char *name, bool known, int64 value)
{
	member(s, name);
	if (!known || !IS_VALID_TIMESTAMP(value))
		appendStringInfoString(s, "null");
	else
		appendStringInfo(s, "\"%s\"",
						 DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(value))));
}

void
wa_found_segment(WaFound *found, TimeLineID tli, uint32 segment_size,
				 const WaMsgSegment *m)
{
	StringInfo s = begin_object(found, FOUND_SEGMENTS);
	char name[WA_WAL_NAME_LEN];
	bool ends = m->commits + m->aborts > 0;

	wa_segment_name(name, tli, wa_segment_of(m->segment_lsn, segment_size), segment_size);
	text_member(s, "name", name);
	/* 0/0 is a place here, not an unknown one */
	member(s, "start_lsn");
	appendStringInfo(s, "\"%X/%X\"", LSN_FORMAT_ARGS(m->segment_lsn));
	lsn_member(s, "end_lsn", m->segment_lsn + segment_size);
	number_member(s, "major", m->major);
	bool_member(s, "complete", m->complete);
	lsn_member(s, "first_record", m->first_record);
	lsn_member(s, "last_record", m->last_record);
	number_member(s, "records", m->records);
	number_member(s, "commits", m->commits);
	number_member(s, "aborts", m->aborts);
	time_member(s, "first_time", ends, m->first_time);
	time_member(s, "last_time", ends, m->last_time);
	time_member(s, "min_time", ends, m->min_time);
	time_member(s, "max_time", ends, m->max_time);
	if (ends && m->min_xid != 0)
	{
		member(s, "min_xid");
		appendStringInfo(s, "\"" UINT64_FORMAT "\"", m->min_xid);
		member(s, "max_xid");
		appendStringInfo(s, "\"" UINT64_FORMAT "\"", m->max_xid);
	}
	appendStringInfoChar(s, '}');
}

void
wa_found_damage(WaFound *found, XLogRecPtr segment_lsn, const char *decode_state,
				XLogRecPtr lsn, int64 offset, const char *text)
{
	StringInfo s = begin_object(found, FOUND_DAMAGE);

	member(s, "start_lsn");
	appendStringInfo(s, "\"%X/%X\"", LSN_FORMAT_ARGS(segment_lsn));
	text_member(s, "decode_state", decode_state);
	text_member(s, "damage", text);
	lsn_member(s, "lsn", lsn);
	if (offset >= 0)
		number_member(s, "offset", (uint64) offset);
	appendStringInfoChar(s, '}');
	if (found->damage[0] == '\0')
	{
		strlcpy(found->damage, text, sizeof(found->damage));
		found->damage_lsn = lsn;
	}
}

void
wa_found_restore_point(WaFound *found, const WaMsgRestorePoint *m, const char *name)
{
	StringInfo s;

	/* made up by whoever wrote the record: nothing to restore to by time */
	if (!IS_VALID_TIMESTAMP(m->time))
		return;
	s = begin_object(found, FOUND_RESTORE_POINTS);
	lsn_member(s, "start_lsn", m->start_lsn);
	lsn_member(s, "end_lsn", m->end_lsn);
	text_member(s, "name", wa_clean_text(pnstrdup(name, m->name_len)));
	time_member(s, "time", true, m->time);
	appendStringInfoChar(s, '}');
}

void
wa_found_tablespace(WaFound *found, const WaMsgTablespace *m, const char *path)
{
	StringInfo s = begin_object(found, FOUND_TABLESPACES);

	lsn_member(s, "start_lsn", m->start_lsn);
	number_member(s, "tablespace", m->tablespace);
	text_member(s, "location", wa_clean_text(pnstrdup(path, m->path_len)));
	appendStringInfoChar(s, '}');
}

void
wa_found_parameters(WaFound *found, const WaMsgParameters *m)
{
	static const char *const wal_level[] = {"minimal", "replica", "logical"};
	const WaParameters *p = &m->parameters;
	StringInfo s;

	if (p->wal_level < 0 || p->wal_level >= lengthof(wal_level))
		return;
	s = begin_object(found, FOUND_PARAMETERS);
	lsn_member(s, "start_lsn", m->start_lsn);
	number_member(s, "max_connections", Max(p->max_connections, 0));
	number_member(s, "max_worker_processes", Max(p->max_worker_processes, 0));
	number_member(s, "max_wal_senders", Max(p->max_wal_senders, 0));
	number_member(s, "max_prepared_transactions", Max(p->max_prepared_xacts, 0));
	number_member(s, "max_locks_per_transaction", Max(p->max_locks_per_xact, 0));
	text_member(s, "wal_level", wal_level[p->wal_level]);
	bool_member(s, "wal_log_hints", p->wal_log_hints);
	bool_member(s, "track_commit_timestamp", p->track_commit_timestamp);
	appendStringInfoChar(s, '}');
}

void
wa_found_recovery_end(WaFound *found, const WaMsgRecoveryEnd *m)
{
	StringInfo s;

	if (m->tli == 0 || m->tli > PG_INT32_MAX || m->prev_tli >= m->tli ||
		m->prev_tli == 0)
		return;
	s = begin_object(found, FOUND_RECOVERIES);
	number_member(s, "timeline", m->tli);
	number_member(s, "parent", m->prev_tli);
	time_member(s, "time", true, m->time);
	appendStringInfoChar(s, '}');
}

void
wa_found_prepared(WaFound *found, const WaMsgFound *m, const char *gid)
{
	StringInfo s;

	if (m->role != WA_FOUND_PREPARED && m->role != WA_FOUND_FINISHED)
		return;
	s = begin_object(found, m->role == WA_FOUND_PREPARED ? FOUND_PREPARED : FOUND_FINISHED);
	lsn_member(s, "start_lsn", m->start_lsn);
	member(s, "xid");
	appendStringInfo(s, "\"%u\"", m->xid);
	if (m->role == WA_FOUND_PREPARED)
		text_member(s, "gid", wa_clean_text(pnstrdup(gid, m->gid_len)));
	appendStringInfoChar(s, '}');
}

void
wa_found_destruction(WaFound *found, const WaMsgDestruction *m, const char *rest)
{
	static const char *const kind[] = {"", "drop", "truncate", "rewrite", "database"};
	static const char *const column_name[] = {"tablespaces", "databases", "numbers"};
	uint32 files = Min(m->files, MAX_FILES);
	const char *relations = rest + (size_t) m->files * sizeof(WaRelFile);
	uint32 n = Min(m->relations, MAX_FILES);
	StringInfo s;

	if (m->kind < WA_DESTRUCTION_DROP || m->kind > WA_DESTRUCTION_DATABASE)
		return;
	s = begin_object(found, FOUND_DESTRUCTIONS);
	lsn_member(s, "start_lsn", m->start_lsn);
	lsn_member(s, "end_lsn", m->end_lsn);
	text_member(s, "kind", kind[m->kind]);
	/* a type without a cast from numbers */
	member(s, "xid");
	appendStringInfo(s, "\"%u\"", m->xid);
	time_member(s, "time", true, m->time);
	bool_member(s, "aborted", m->aborted);
	if (m->database != InvalidOid)
		number_member(s, "database", m->database);
	number_member(s, "file_count", m->files);
	for (int c = 0; c < 3; c++)
	{
		member(s, column_name[c]);
		appendStringInfoChar(s, '[');
		for (uint32 i = 0; i < files; i++)
		{
			WaRelFile file;

			memcpy(&file, rest + i * sizeof(file), sizeof(file));
			appendStringInfo(s, "%s%u", i > 0 ? "," : "",
							 c == 0 ? file.tablespace : c == 1 ? file.database
															   : file.number);
		}
		appendStringInfoChar(s, ']');
	}
	member(s, "relations");
	appendStringInfoChar(s, '[');
	for (uint32 i = 0; i < n; i++)
	{
		Oid relation;

		memcpy(&relation, relations + i * sizeof(Oid), sizeof(Oid));
		appendStringInfo(s, "%s%u", i > 0 ? "," : "", relation);
	}
	appendStringInfoChar(s, ']');
	lsn_member(s, "first_lsn", m->first_lsn);
	lsn_member(s, "restore_before_lsn", m->restore_before_lsn);
	time_member(s, "restore_before_time", m->has_time, m->restore_before_time);
	appendStringInfoChar(s, '}');
}
