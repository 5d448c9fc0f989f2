/*-------------------------------------------------------------------------
 *
 * observer_names.c
 *	  What the relations of a server are called: part of the observer.
 *
 * A pass asks one database for the list of databases and tablespaces, and then
 * one database after another for its relations, each with one light query.
 * What is new or has changed becomes a line of the file <cluster>/relations
 * (relation_file.h); the indexer enters the lines in the catalog.
 *
 * What the file says is remembered as a digest for each mapping, so that a
 * server where nothing changes costs no write.  The memory is made from the
 * file before the first pass, forgotten whenever a line could not be written,
 * and cleared of what is gone after a pass; so it has as many entries as there
 * are relations, and no more than MAX_KNOWN.
 *
 * A database that refuses is left out, and asked at growing intervals, so as not
 * to fill its server's log.
 *
 * All that a server says is checked: numbers, lengths, encoding, how much.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "nodes/pg_list.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "../state/archive_dir.h"
#include "../state/relation_file.h"
#include "observer.h"

/* Servers that are asked at the same time. */
#define MAX_ASKING 4

/* Mappings that are remembered, of one server; 50 bytes each. */
#define MAX_KNOWN 500000
#define MAX_DATABASES 10000

/* Before others get a turn: rows of an answer, lines of the file. */
#define ROWS_AT_ONCE 2000
#define LINES_AT_ONCE 5000

#define WRITE_SIZE (256 * 1024)

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

/* What there is: of the cluster, of each database, of each tablespace. */
#define LIST_QUERY                                                                     \
	"SELECT 's', 0::pg_catalog.oid, system_identifier::pg_catalog.text, false, false " \
	"FROM pg_catalog.pg_control_system() "                                             \
	"UNION ALL SELECT 'd', oid, datname, datallowconn, "                               \
	"datname = pg_catalog.current_database() FROM pg_catalog.pg_database "             \
	"UNION ALL SELECT 't', oid, spcname, false, false FROM pg_catalog.pg_tablespace"
#define LIST_COLUMNS 5

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
	NAMES_LOADING,  /* reading the file into memory */
	NAMES_LISTING,  /* connecting for, and reading, the list of databases */
	NAMES_RELATIONS /* the same for the relations of a database */
} NamesPhase;

/* A mapping that the file has. */
typedef struct KnownKey
{
	Oid database;    /* 0: a tablespace's name */
	Oid tablespace;  /* 0: a database's name */
	Oid relfilenode; /* 0: one of the two */
} KnownKey;

typedef struct Known
{
	KnownKey key;
	uint32 pass; /* in which it was seen last */
	uint64 digest;
} Known;

/* A database of the server. */
typedef struct Database
{
	Oid oid;
	char name[WA_OBJECT_NAME_LEN];
	bool allows;  /* connections */
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

	/* what the file has */
	uint64 system_identifier; /* of the cluster that 'known' is about */
	HTAB *known;              /* NULL: not loaded */
	bool loaded;
	uint64 file_size; /* that we have read or written */

	/* the pass under way */
	uint32 pass;
	uint64 told_identifier;            /* by the server */
	List *databases;                   /* of Database, the one connected to first */
	List *before;                      /* those of the pass before, for their failures */
	int next;                          /* in databases, that is asked or is to be */
	StringInfoData lines;              /* to be written */
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
		hash_destroy(names->known);
	names->known = NULL;
	names->loaded = false;
	names->file_size = 0;
}

static void
make_known(WaNames *names, uint64 sysid)
{
	HASHCTL ctl = {.keysize = sizeof(KnownKey), .entrysize = sizeof(Known), .hcxt = names->context};

	forget_known(names);
	names->known = hash_create("walarchive names", 1024, &ctl,
							   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	names->system_identifier = sysid;
}

static uint64
digest_text(const char *text, uint64 seed)
{
	return DatumGetUInt64(hash_any_extended((const unsigned char *) text, (int) strlen(text), seed));
}

/* A digest of what a line says of its key. */
static uint64
digest_of(const WaRelationLine *line)
{
	uint64 seed = (uint64) line->relation << 8 | (unsigned char) line->kind;

	switch (line->line)
	{
		case WA_LINE_DATABASE:
			return digest_text(line->database_name, 1);
		case WA_LINE_TABLESPACE:
			return digest_text(line->name, 1);
		case WA_LINE_RELATION:
			return digest_text(line->table, digest_text(line->name, seed));
	}
	return 0;
}

/* Forget what the present pass has not seen, to make room for what it sees. */
static void
evict(WaNames *names)
{
	HASH_SEQ_STATUS status;
	Known *known;

	hash_seq_init(&status, names->known);
	while ((known = hash_seq_search(&status)) != NULL)
	{
		if (known->pass != names->pass)
			(void) hash_search(names->known, &known->key, HASH_REMOVE, NULL);
	}
}

/*
 * Remember a line.  True if it says something new.  '*full' is set where there
 * is no room for it.
 */
static bool
remember(WaNames *names, const WaRelationLine *line, bool *full)
{
	KnownKey key = {line->database, line->tablespace, line->relfilenode};
	uint64 digest = digest_of(line);
	bool found;
	Known *known;

	if (hash_get_num_entries(names->known) >= MAX_KNOWN &&
		hash_search(names->known, &key, HASH_FIND, NULL) == NULL)
	{
		*full = true;
		return false;
	}
	known = hash_search(names->known, &key, HASH_ENTER, &found);
	known->pass = names->phase == NAMES_LOADING ? 0 : names->pass;
	if (found && known->digest == digest)
		return false;
	known->digest = digest;
	return true;
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

/* After a pass: what was there before and was not seen in it is gone. */
static void
sweep(WaNames *names)
{
	HASH_SEQ_STATUS status;
	Known *known;
	Oid last = InvalidOid;
	Database *database = NULL;

	hash_seq_init(&status, names->known);
	while ((known = hash_seq_search(&status)) != NULL)
	{
		if (known->pass == names->pass)
			continue;
		if (known->key.database != 0 && known->key.relfilenode != 0)
		{
			if (known->key.database != last)
				database = find_database(names->databases, known->key.database);
			last = known->key.database;
			/* not asked: nothing is known of it */
			if (database != NULL && !database->asked)
				continue;
		}
		(void) hash_search(names->known, &known->key, HASH_REMOVE, NULL);
	}
}

/* ---- the file ---- */

/* Read on in the file; true when all of it is in memory. */
static bool
load_some(WaWatch *w, WaNames *names)
{
	WaRelationLine *line = palloc(sizeof(WaRelationLine));
	char path[MAXPGPATH];
	FILE *file;
	bool full = false;
	int n;

	wa_relation_path(path, w->control.name, names->system_identifier);
	file = fopen(path, "re");
	if (file == NULL)
	{
		if (errno == ENOENT)
			return true;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	}
	if (fseeko(file, (off_t) names->file_size, SEEK_SET) != 0)
	{
		fclose(file);
		return true;
	}
	for (n = 0; n < LINES_AT_ONCE; n++)
	{
		bool valid;
		uint64 len = wa_relation_read(file, line, &valid);

		if (len == 0)
			break;
		names->file_size += len;
		if (valid)
			(void) remember(names, line, &full);
	}
	fclose(file);
	pfree(line);
	return n < LINES_AT_ONCE;
}

/* Somebody took lines away: what memory says is not in the file. */
static bool
file_has_shrunk(const WaWatch *w, const WaNames *names)
{
	char path[MAXPGPATH];
	struct stat st;

	wa_relation_path(path, w->control.name, names->system_identifier);
	return (stat(path, &st) == 0 ? (uint64) st.st_size : 0) < names->file_size;
}

/* Write the lines that were gathered; false with names->sql.error set. */
static bool
write_lines(WaWatch *w, WaNames *names)
{
	char path[MAXPGPATH];
	uint64 size;

	if (names->lines.len == 0)
		return true;
	wa_relation_path(path, w->control.name, names->system_identifier);
	size = wa_append_lines(path, names->lines.data, names->lines.len);
	if (size == 0)
	{
		int save_errno = errno;

		/* what memory says is not in the file */
		forget_known(names);
		snprintf(names->sql.error, sizeof(names->sql.error),
				 "could not write file \"%s\": %s", path, strerror(save_errno));
		return false;
	}
	names->file_size = size;
	resetStringInfo(&names->lines);
	pg_atomic_fetch_add_u64(&w->slot->names_written, 1);
	wa_wake_launcher();
	return true;
}

/* Take a line: remember and gather it if it is new. */
static bool
take_line(WaWatch *w, WaNames *names, WaRelationLine *line)
{
	char text[WA_RELATION_LINE_LEN];
	size_t len;
	bool full = false;
	bool fresh = remember(names, line, &full);

	if (full)
	{
		/* what is gone from the server takes no room from what is there */
		full = false;
		evict(names);
		fresh = remember(names, line, &full);
	}
	if (!fresh)
	{
		if (full)
			snprintf(names->sql.error, sizeof(names->sql.error),
					 "the server has more than %d relations", MAX_KNOWN);
		return !full;
	}
	len = wa_relation_format(line, text, sizeof(text));
	if (len > 0)
		appendBinaryStringInfo(&names->lines, text, (int) len);
	return names->lines.len < WRITE_SIZE || write_lines(w, names);
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
	if (names->lines.data != NULL)
		pfree(names->lines.data);
	memset(&names->lines, 0, sizeof(names->lines));
	list_free_deep(names->before);
	names->before = NIL;
}

void
wa_names_failed(WaWatch *w, TimestampTz now, const char *error)
{
	WaNames *names = w->names;

	if (names == NULL || names->phase == NAMES_IDLE)
		return;
	/* lines that are not written may be known already */
	if (names->lines.len > 0)
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
		if (names->lines.len > 0)
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
	MemoryContext old = MemoryContextSwitchTo(names->context);

	initStringInfo(&names->lines);
	MemoryContextSwitchTo(old);
	/* the failures of those before are looked up when the list has come */
	list_free_deep(names->before);
	names->before = names->databases;
	names->databases = NIL;
	names->pass++;
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
	sweep(names);
	names->failures = 0;
	names->due = now + w->control.relation_names_ms * INT64CONST(1000);
	WA_OBSERVED(
		w,
		observed->names_time = now;
		observed->databases = asked;
		observed->databases_failed = names->failed;
		observed->relations = (uint64) hash_get_num_entries(names->known);
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
take_list_row(WaWatch *w, WaNames *names, const PGresult *row, TimestampTz now)
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
	if (names->told_identifier != names->system_identifier)
	{
		snprintf(names->sql.error, sizeof(names->sql.error),
				 "the server has system identifier " UINT64_FORMAT ", not " UINT64_FORMAT,
				 names->told_identifier, names->system_identifier);
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
		return take_line(w, names, line);
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
	/* the one that we are connected to comes first */
	names->databases = PQgetvalue(row, 0, 4)[0] == 't' ? lcons(database, names->databases) : lappend(names->databases, database);
	MemoryContextSwitchTo(old);
	return take_line(w, names, line);
}

/* A relation; false with an error. */
static bool
take_relation_row(WaWatch *w, WaNames *names, const PGresult *row, TimestampTz now)
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
	return take_line(w, names, &line);
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
	database->not_before = now + backoff_ms(w, database->failures) * 1000;
	database->failures = Min(database->failures + 1, 30);
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
		if (wa_observer_connect(w, &names->sql, database->name, APPLICATION_NAME,
								SETTINGS, CONNECT_TIMEOUT_MS))
			return true;
		database_failed(w, names, now);
	}
	return false;
}

/* The list is whole. */
static bool
list_done(WaWatch *w, WaNames *names)
{
	if (!write_lines(w, names))
		return false;
	names->phase = NAMES_RELATIONS;
	if (names->databases == NIL)
		return bad_answer(names);
	return true;
}

/* A database has said all: its lines are written before the next is asked. */
static bool
database_done(WaWatch *w, WaNames *names)
{
	Database *database = list_nth(names->databases, names->next);

	database->asked = true;
	database->failures = 0;
	database->not_before = 0;
	names->next++;
	wa_sql_close(&names->sql);
	return write_lines(w, names);
}

/* Begin a pass where one is due; when to look again. */
static TimestampTz
start_if_due(WaWatch *w, WaNames *names, TimestampTz now, int *running)
{
	if (now < names->due)
		return names->due;
	if (*running >= MAX_ASKING)
		return now + 200 * 1000;
	if (names->known == NULL || names->system_identifier != w->stat->system_identifier ||
		file_has_shrunk(w, names))
		make_known(names, w->stat->system_identifier);
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
		if (!names->loaded && !load_some(w, names))
			return 0;
		names->loaded = true;
		names->phase = NAMES_LISTING;
		if (!wa_observer_connect(w, &names->sql, NULL, APPLICATION_NAME, SETTINGS, CONNECT_TIMEOUT_MS))
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
				ok = listing ? take_list_row(w, names, row, now) : take_relation_row(w, names, row, now);
				PQclear(row);
				if (!ok)
					return fail_pass(w, names, now);
				break;
			case WA_SQL_DONE:
				if (!(listing ? list_done(w, names) : database_done(w, names)))
					return fail_pass(w, names, now);
				/* the first database is asked over the connection that is there */
				if (listing)
					ok = wa_sql_send(&names->sql, RELATION_QUERY, QUERY_TIMEOUT_MS);
				else if (!next_database(w, names, now))
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
			if (listing && names->phase == NAMES_LISTING)
				return fail_pass(w, names, now);
			database_failed(w, names, now);
			if (!write_lines(w, names))
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
