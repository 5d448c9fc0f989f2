/*-------------------------------------------------------------------------
 *
 * observer_names.c
 *	  What the relations of a server are called: part of the observer.
 *
 * A pass asks one database for the list of databases and tablespaces, then
 * one database after another for its relations, each with one light query.
 * What is new or has changed becomes a line of the file <cluster>/relations
 * (relation_file.h); the indexer enters the lines in the catalog.
 *
 * What the file says is kept in mind (known_names.h), so that a server where
 * nothing changes costs no write; it is forgotten whenever a line could not be
 * written.
 *
 * A database that refuses is left out, and asked at growing intervals, so as not
 * to fill its server's log.
 *
 * All that a server says is checked: numbers, lengths, encoding, how much.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "nodes/pg_list.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "known_names.h"
#include "observer.h"

/* Servers that are asked at the same time. */
#define MAX_ASKING 4

#define MAX_DATABASES 10000

/* Rows of an answer before others get a turn. */
#define ROWS_AT_ONCE 2000

#define CONNECT_TIMEOUT_MS 10000
#define QUERY_TIMEOUT_MS 60000

/* After a first failure; then the interval, and twice that, up to the last. */
#define FIRST_RETRY_MS 60000
#define MAX_BACKOFF_MS (24 * 3600 * 1000)

#define SETTINGS                                                        \
	"-c statement_timeout=50s -c lock_timeout=2s -c search_path= "      \
	"-c default_transaction_read_only=on -c quote_all_identifiers=off " \
	"-c jit=off"

#define APPLICATION_NAME "walarchive relation names"

/*
 * What there is: of the cluster, of each database, of each tablespace.  Asked
 * without an encoding: a name has that of the database where it was given.
 */
#define LIST_QUERY                                                                 \
	"SELECT 's', 0::pg_catalog.oid, system_identifier::pg_catalog.text, false, 0 " \
	"FROM pg_catalog.pg_control_system() "                                         \
	"UNION ALL SELECT 'd', oid, datname, datallowconn, encoding "                  \
	"FROM pg_catalog.pg_database "                                                 \
	"UNION ALL SELECT 't', oid, spcname, false, 0 FROM pg_catalog.pg_tablespace"
#define LIST_COLUMNS 5

/* A database without an encoding: it would refuse to give UTF-8. */
#define NO_ENCODING "SQL_ASCII"

/*
 * The user's relations that have files.  An index belongs to its table, and the
 * TOAST table and its index to the table that they serve.
 */
#define RELATION_QUERY                                                                          \
	"SELECT c.oid, CASE c.reltablespace WHEN 0 THEN d.dattablespace ELSE c.reltablespace END, " \
	"c.relfilenode, c.relkind, "                                                                \
	"pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), "           \
	"pg_catalog.quote_ident(m.nspname) || '.' || pg_catalog.quote_ident(t.relname) "            \
	"FROM pg_catalog.pg_class c "                                                               \
	"JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "                                 \
	"JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database() "               \
	"LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid "                                  \
	"LEFT JOIN pg_catalog.pg_class h ON h.oid = i.indrelid "                                    \
	"LEFT JOIN pg_catalog.pg_class o ON o.reltoastrelid <> 0 AND o.reltoastrelid = "            \
	"CASE WHEN c.relkind = 't' THEN c.oid WHEN h.relkind = 't' THEN h.oid END "                 \
	"JOIN pg_catalog.pg_class t ON t.oid = coalesce(o.oid, h.oid, c.oid) "                      \
	"JOIN pg_catalog.pg_namespace m ON m.oid = t.relnamespace "                                 \
	"WHERE c.oid >= 16384 AND c.relfilenode <> 0 AND c.relpersistence <> 't' "                  \
	"AND c.relkind IN ('r', 'm', 'S', 'i', 't')"
#define RELATION_COLUMNS 6

typedef enum NamesPhase
{
	NAMES_IDLE,
	NAMES_LOADING,  /* reading the file */
	NAMES_LISTING,  /* connecting for, and reading, the list of databases */
	NAMES_RELATIONS /* the same for the relations of a database */
} NamesPhase;

/* A database of the server. */
typedef struct Database
{
	Oid oid;
	char name[WA_OBJECT_NAME_LEN];
	bool allows;  /* connections */
	bool encoded; /* it has an encoding */
	bool asked;   /* in this pass */
	int failures; /* in a row */
	TimestampTz not_before;
	char error[128]; /* why it failed */
} Database;

struct WaNames
{
	MemoryContext context;
	NamesPhase phase;
	WaSql sql;
	TimestampTz due;
	int failures;

	WaKnownNames *known; /* of the cluster; NULL: begin anew */

	/* the pass under way */
	uint64 told_identifier;            /* by the server */
	List *databases;                   /* of Database, the one connected to first */
	List *before;                      /* those of the pass before, for their failures */
	int next;                          /* in databases, that is asked or is to be */
	char error[WA_OBSERVER_ERROR_LEN]; /* the first database that failed */
	int failed;
};

/* ---- memory ---- */

static WaNames *
get_names(WaWatch *w)
{
	if (w->names == NULL)
	{
		MemoryContext context = AllocSetContextCreate(TopMemoryContext, "walarchive names",
													  ALLOCSET_DEFAULT_SIZES);

		w->names = MemoryContextAllocZero(context, sizeof(WaNames));
		w->names->context = context;
	}
	return w->names;
}

void
wa_names_forget(WaWatch *w)
{
	if (w->names == NULL)
		return;
	wa_sql_close(&w->names->sql);
	/* a hash table has a context of its own, which is a child of ours */
	MemoryContextDelete(w->names->context);
	w->names = NULL;
}

static void
forget_known(WaNames *names)
{
	if (names->known != NULL)
		MemoryContextDelete(names->known->context);
	names->known = NULL;
}

static Database *
find_database(List *databases, Oid oid)
{
	ListCell *lc;

	foreach (lc, databases)
	{
		Database *database = lfirst(lc);

		if (database->oid == oid)
			return database;
	}
	return NULL;
}

/* A relation that the pass has not seen: is it gone, or was nobody asked? */
static bool
is_gone(void *arg, Oid oid)
{
	const Database *database = find_database(arg, oid);

	return database == NULL || database->asked;
}

/* Hand a result of known_names.c on: false with sql.error set. */
static bool
check_known(WaNames *names, bool ok)
{
	if (!ok)
		strlcpy(names->sql.error, names->known->error, sizeof(names->sql.error));
	return ok;
}

/* Write what is new; the indexers hear of it. */
static bool
write_lines(WaNames *names)
{
	bool ok = wa_known_write(names->known);

	wa_wake_launcher();
	return check_known(names, ok);
}

/* ---- a pass ---- */

WaSql *
wa_names_connection(const WaWatch *w)
{
	return w->names != NULL && w->names->sql.phase != WA_SQL_CLOSED ? &w->names->sql : NULL;
}

/* The wait after so many failures before this one. */
static int64
backoff_ms(const WaWatch *w, int failures)
{
	int64 ms = w->control.relation_names_ms;

	if (failures == 0)
		return Min(ms, FIRST_RETRY_MS);
	for (int i = 1; i < failures && ms < MAX_BACKOFF_MS; i++)
		ms *= 2;
	return Max(w->control.relation_names_ms, Min(ms, MAX_BACKOFF_MS));
}

static void
end_pass(WaNames *names)
{
	wa_sql_close(&names->sql);
	names->phase = NAMES_IDLE;
	list_free_deep(names->before);
	names->before = NIL;
}

void
wa_names_failed(WaWatch *w, TimestampTz now, const char *error)
{
	WaNames *names = w->names;

	if (names == NULL || names->phase == NAMES_IDLE)
		return;
	/* lines that are not written are in mind already */
	if (names->known != NULL && names->known->lines.len > 0)
		forget_known(names);
	names->due = now + backoff_ms(w, names->failures) * 1000;
	names->failures = Min(names->failures + 1, 30);
	WA_OBSERVED(w,
				strlcpy(observed->names_error, error, WA_OBSERVER_ERROR_LEN);
				observed->names_error_time = now;);
	end_pass(names);
}

void
wa_names_restart(WaWatch *w)
{
	WaNames *names = w->names;
	ListCell *lc;

	if (names == NULL)
		return;
	if (names->phase != NAMES_IDLE)
	{
		if (names->known != NULL && names->known->lines.len > 0)
			forget_known(names);
		end_pass(names);
	}
	names->due = 0;
	names->failures = 0;
	foreach (lc, names->databases)
	{
		Database *database = lfirst(lc);

		database->failures = 0;
		database->not_before = 0;
	}
}

static void
begin_pass(WaNames *names)
{
	/* the failures of those before are looked up when the list has come */
	list_free_deep(names->before);
	names->before = names->databases;
	names->databases = NIL;
	names->next = 0;
	names->failed = 0;
	names->error[0] = '\0';
	names->told_identifier = 0;
}

static void
finish_pass(WaWatch *w, WaNames *names, TimestampTz now)
{
	int asked = 0;
	ListCell *lc;

	foreach (lc, names->databases)
		asked += ((Database *) lfirst(lc))->allows;
	wa_known_sweep(names->known, is_gone, names->databases);
	names->failures = 0;
	names->due = now + w->control.relation_names_ms * INT64CONST(1000);
	WA_OBSERVED(
		w,
		observed->names_time = now;
		observed->databases = asked;
		observed->databases_failed = names->failed;
		observed->relations = (uint64) hash_get_num_entries(names->known->table);
		if (names->failed > 0) {
			strlcpy(observed->names_error, names->error, WA_OBSERVER_ERROR_LEN);
			observed->names_error_time = now;
		});
	end_pass(names);
}

/* ---- what the server says ---- */

static bool
get_oid(const PGresult *row, int column, Oid *oid)
{
	const char *text = PQgetvalue(row, 0, column);
	char *end;
	unsigned long long value;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	value = strtoull(text, &end, 10);
	*oid = (Oid) value;
	return errno == 0 && *end == '\0' && value > 0 && value <= PG_UINT32_MAX;
}

/*
 * A text of the server, UTF-8 as was asked for: what is not becomes '?', as it
 * comes from a database without an encoding.  False if it is too long.
 */
static bool
get_text(const PGresult *row, int column, char *to, size_t size)
{
	const char *text = PQgetvalue(row, 0, column);
	size_t len = strlcpy(to, text, size);

	if (len == 0 || len >= size)
		return false;
	if (!pg_verify_mbstr(PG_UTF8, to, (int) len, true))
	{
		for (char *p = to; *p; p++)
		{
			if (IS_HIGHBIT_SET(*p))
				*p = '?';
		}
	}
	return true;
}

/* True if a row has so many columns, and all of them values. */
static bool
is_whole(const PGresult *row, int columns)
{
	if (PQntuples(row) != 1 || PQnfields(row) != columns)
		return false;
	for (int i = 0; i < columns; i++)
	{
		if (PQgetisnull(row, 0, i))
			return false;
	}
	return true;
}

static bool
bad_answer(WaNames *names)
{
	strlcpy(names->sql.error, "the server's answer is not valid", sizeof(names->sql.error));
	return false;
}

/* A row of the list; false with an error. */
static bool
take_list_row(WaNames *names, const PGresult *row, TimestampTz now)
{
	WaRelationLine *line = palloc0(sizeof(WaRelationLine));
	MemoryContext old;
	Database *database;
	Database *before;
	char kind;

	if (!is_whole(row, LIST_COLUMNS))
		return bad_answer(names);
	line->time = now;
	kind = PQgetvalue(row, 0, 0)[0];
	if (kind == 's')
		names->told_identifier = strtou64(PQgetvalue(row, 0, 2), NULL, 10);
	/* it comes first: nothing of another server is taken for one of this */
	if (names->told_identifier != names->known->system_identifier)
	{
		snprintf(names->sql.error, sizeof(names->sql.error),
				 "the server has system identifier " UINT64_FORMAT ", not " UINT64_FORMAT,
				 names->told_identifier, names->known->system_identifier);
		return false;
	}
	if (kind == 's')
		return true;
	if (kind == 't')
	{
		line->line = WA_LINE_TABLESPACE;
		if (!get_oid(row, 1, &line->tablespace) ||
			!get_text(row, 2, line->name, WA_OBJECT_NAME_LEN))
			return bad_answer(names);
		return check_known(names, wa_known_take(names->known, line));
	}
	line->line = WA_LINE_DATABASE;
	if (!get_oid(row, 1, &line->database) ||
		!get_text(row, 2, line->database_name, sizeof(line->database_name)) ||
		list_length(names->databases) >= MAX_DATABASES)
		return bad_answer(names);

	old = MemoryContextSwitchTo(names->context);
	database = palloc0(sizeof(Database));
	database->oid = line->database;
	/* as the server wrote it: it is asked for by this name */
	strlcpy(database->name, PQgetvalue(row, 0, 2), sizeof(database->name));
	database->allows = PQgetvalue(row, 0, 3)[0] == 't';
	before = find_database(names->before, database->oid);
	if (before != NULL)
	{
		database->failures = before->failures;
		database->not_before = before->not_before;
		strlcpy(database->error, before->error, sizeof(database->error));
	}
	database->encoded = strcmp(PQgetvalue(row, 0, 4), "0") != 0;
	names->databases = lappend(names->databases, database);
	MemoryContextSwitchTo(old);
	return check_known(names, wa_known_take(names->known, line));
}

/* A relation; false with an error. */
static bool
take_relation_row(WaNames *names, const PGresult *row, TimestampTz now)
{
	const Database *database = list_nth(names->databases, names->next);
	WaRelationLine line;

	memset(&line, 0, sizeof(line));
	line.line = WA_LINE_RELATION;
	line.time = now;
	line.database = database->oid;
	strlcpy(line.database_name, database->name, sizeof(line.database_name));
	if (!pg_verify_mbstr(PG_UTF8, line.database_name, (int) strlen(line.database_name), true))
		strlcpy(line.database_name, "?", sizeof(line.database_name));
	if (!is_whole(row, RELATION_COLUMNS) ||
		!get_oid(row, 0, &line.relation) || !get_oid(row, 1, &line.tablespace) ||
		!get_oid(row, 2, &line.relfilenode) ||
		!get_text(row, 4, line.name, sizeof(line.name)) ||
		!get_text(row, 5, line.table, sizeof(line.table)))
		return bad_answer(names);
	line.kind = PQgetvalue(row, 0, 3)[0];
	if (strchr("rmSit", line.kind) == NULL || line.kind == '\0')
		return bad_answer(names);
	return check_known(names, wa_known_take(names->known, &line));
}

/* ---- from database to database ---- */

/*
 * The database that was asked, or was to be, did not answer.  The others are
 * asked all the same.
 */
static void
database_failed(WaWatch *w, WaNames *names, TimestampTz now)
{
	Database *database = list_nth(names->databases, names->next);

	wa_sql_close(&names->sql);
	database->failures = Min(database->failures + 1, 30);
	database->not_before = now + backoff_ms(w, database->failures) * 1000;
	strlcpy(database->error, names->sql.error, sizeof(database->error));
	if (names->failed++ == 0)
		snprintf(names->error, sizeof(names->error), "database \"%s\": %s",
				 database->name, names->sql.error);
	names->next++;
}

/*
 * Connect to the next database that can be asked; false if there is none left.
 * What was gathered up to here is written.
 */
static bool
next_database(WaWatch *w, WaNames *names, TimestampTz now)
{
	for (; names->next < list_length(names->databases);)
	{
		Database *database = list_nth(names->databases, names->next);

		if (!database->allows)
		{
			names->next++;
			continue;
		}
		if (now < database->not_before)
		{
			/* still refused, as far as we know */
			if (names->failed++ == 0)
				snprintf(names->error, sizeof(names->error), "database \"%s\": %s",
						 database->name, database->error);
			names->next++;
			continue;
		}
		if (wa_observer_connect(w, &names->sql, database->name,
								database->encoded ? "UTF8" : NO_ENCODING,
								APPLICATION_NAME, SETTINGS, CONNECT_TIMEOUT_MS))
			return true;
		database_failed(w, names, now);
	}
	return false;
}

/* The list is whole: what is new in it is written. */
static bool
list_done(WaNames *names)
{
	names->phase = NAMES_RELATIONS;
	wa_sql_close(&names->sql);
	return write_lines(names);
}

/* A database has said all: its lines are written before the next is asked. */
static bool
database_done(WaNames *names)
{
	Database *database = list_nth(names->databases, names->next);

	database->asked = true;
	database->failures = 0;
	database->not_before = 0;
	names->next++;
	wa_sql_close(&names->sql);
	return write_lines(names);
}

/* Begin a pass where one is due; when to look again. */
static TimestampTz
start_if_due(WaWatch *w, WaNames *names, TimestampTz now, int *running)
{
	if (now < names->due)
		return names->due;
	if (*running >= MAX_ASKING)
		return now + 200 * 1000;
	if (names->known != NULL &&
		(names->known->system_identifier != w->stat->system_identifier ||
		 wa_known_is_stale(names->known)))
		forget_known(names);
	if (names->known == NULL)
		names->known = wa_known_create(names->context, w->control.name,
									   w->stat->system_identifier, &w->slot->names_written);
	begin_pass(names);
	names->phase = NAMES_LOADING;
	(*running)++;
	return 0;
}

/* The pass has come to an end that is a failure, for the reason in sql.error. */
static TimestampTz
fail_pass(WaWatch *w, WaNames *names, TimestampTz now)
{
	char error[WA_SQL_ERROR_LEN];

	strlcpy(error, names->sql.error, sizeof(error));
	wa_names_failed(w, now, error);
	return names->due;
}

TimestampTz
wa_names_advance(WaWatch *w, TimestampTz now, int *running)
{
	WaNames *names;
	int ready = w->names_ready;

	w->names_ready = 0;
	if (w->control.relation_names_ms == 0)
	{
		wa_names_forget(w);
		return DT_NOEND;
	}
	names = get_names(w);
	if (names->phase == NAMES_IDLE)
		return start_if_due(w, names, now, running);
	if (names->phase == NAMES_LOADING)
	{
		if (!wa_known_load(names->known))
			return 0;
		wa_known_begin_pass(names->known);
		names->phase = NAMES_LISTING;
		if (!wa_observer_connect(w, &names->sql, NULL, NO_ENCODING, APPLICATION_NAME, SETTINGS, CONNECT_TIMEOUT_MS))
			return fail_pass(w, names, now);
		return names->sql.deadline;
	}

	for (int rows = 0; rows < ROWS_AT_ONCE; rows++)
	{
		bool listing = names->phase == NAMES_LISTING;
		PGresult *row = NULL;
		bool ok = true;

		switch (wa_sql_advance(&names->sql, ready, &row))
		{
			case WA_SQL_WAIT:
				return names->sql.deadline;
			case WA_SQL_CONNECTED:
				ok = wa_sql_send(&names->sql, listing ? LIST_QUERY : RELATION_QUERY, QUERY_TIMEOUT_MS);
				break;
			case WA_SQL_ROW:
				ok = listing ? take_list_row(names, row, now) : take_relation_row(names, row, now);
				PQclear(row);
				if (!ok)
					return fail_pass(w, names, now);
				break;
			case WA_SQL_DONE:
				if (!(listing ? list_done(names) : database_done(names)))
					return fail_pass(w, names, now);
				if (!next_database(w, names, now))
				{
					finish_pass(w, names, now);
					return names->due;
				}
				break;
			case WA_SQL_FAILED:
				ok = false;
				break;
		}
		if (!ok)
		{
			if (listing)
				return fail_pass(w, names, now);
			database_failed(w, names, now);
			if (!write_lines(names))
				return fail_pass(w, names, now);
			if (!next_database(w, names, now))
			{
				finish_pass(w, names, now);
				return names->due;
			}
		}
		ready = 0;
	}
	return 0;
}
