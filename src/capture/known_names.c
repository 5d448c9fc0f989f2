/*-------------------------------------------------------------------------
 *
 * known_names.c
 *	  A cluster's file of names, and what of it is in mind.  See known_names.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>

#include "common/hashfn.h"
#include "utils/memutils.h"

#include "../state/archive_dir.h"
#include "known_names.h"

/* Lines of the file before others get a turn. */
#define LINES_AT_ONCE 5000

#define WRITE_SIZE (256 * 1024)

typedef struct KnownKey
{
	Oid database;    /* 0: a tablespace's name */
	Oid tablespace;  /* 0: a database's name */
	Oid relfilenode; /* 0: one of the two */
} KnownKey;

typedef struct Known
{
	KnownKey key;
	uint32 pass; /* in which it was seen last, 0: in the file alone */
	uint64 digest;
} Known;

WaKnownNames *
wa_known_create(MemoryContext parent, const char *source, uint64 sysid,
				pg_atomic_uint64 *written)
{
	MemoryContext context = AllocSetContextCreate(parent, "walarchive known names",
												  ALLOCSET_DEFAULT_SIZES);
	WaKnownNames *known = MemoryContextAllocZero(context, sizeof(WaKnownNames));
	MemoryContext old = MemoryContextSwitchTo(context);
	HASHCTL ctl = {.keysize = sizeof(KnownKey), .entrysize = sizeof(Known), .hcxt = context};

	known->context = context;
	known->system_identifier = sysid;
	known->written = written;
	wa_relation_path(known->path, source, sysid);
	known->table = hash_create("walarchive names", 1024, &ctl,
							   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	initStringInfo(&known->lines);
	MemoryContextSwitchTo(old);
	return known;
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

/*
 * Keep a line in mind.  True if it says something new.  '*full' is set where
 * there is no room for it.
 */
static bool
remember(WaKnownNames *known, const WaRelationLine *line, bool *full)
{
	KnownKey key = {line->database, line->tablespace, line->relfilenode};
	uint64 digest = digest_of(line);
	bool found;
	Known *entry;

	*full = hash_get_num_entries(known->table) >= WA_MAX_KNOWN_NAMES &&
			hash_search(known->table, &key, HASH_FIND, NULL) == NULL;
	if (*full)
		return false;
	entry = hash_search(known->table, &key, HASH_ENTER, &found);
	entry->pass = known->pass;
	if (found && entry->digest == digest)
		return false;
	entry->digest = digest;
	return true;
}

bool
wa_known_load(WaKnownNames *known)
{
	WaRelationLine *line;
	FILE *file;
	bool full;
	int n = 0;

	if (known->loaded)
		return true;
	file = fopen(known->path, "re");
	if (file == NULL && errno != ENOENT)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", known->path)));
	known->loaded = true;
	if (file == NULL)
		return true;
	line = palloc(sizeof(WaRelationLine));
	if (fseeko(file, (off_t) known->file_size, SEEK_SET) == 0)
	{
		for (; n < LINES_AT_ONCE; n++)
		{
			bool valid;
			uint64 len = wa_relation_read(file, line, &valid);

			if (len == 0)
				break;
			known->file_size += len;
			/* what there is no room for is written again, if it is still true */
			if (valid)
				(void) remember(known, line, &full);
		}
	}
	fclose(file);
	pfree(line);
	known->loaded = n < LINES_AT_ONCE;
	return known->loaded;
}

bool
wa_known_is_stale(const WaKnownNames *known)
{
	struct stat st;

	return (stat(known->path, &st) == 0 ? (uint64) st.st_size : 0) < known->file_size;
}

void
wa_known_begin_pass(WaKnownNames *known)
{
	known->pass = Max(known->pass + 1, 1);
}

bool
wa_known_write(WaKnownNames *known)
{
	uint64 size;

	if (known->lines.len == 0)
		return true;
	size = wa_append_lines(known->path, known->lines.data, known->lines.len);
	if (size == 0)
	{
		int save_errno = errno;

		snprintf(known->error, sizeof(known->error), "could not write file \"%s\": %s",
				 known->path, strerror(save_errno));
		return false;
	}
	known->file_size = size;
	resetStringInfo(&known->lines);
	pg_atomic_fetch_add_u64(known->written, 1);
	return true;
}

bool
wa_known_take(WaKnownNames *known, const WaRelationLine *line)
{
	char text[WA_RELATION_LINE_LEN];
	size_t len;
	bool full;
	bool fresh = remember(known, line, &full);

	if (full)
	{
		/* what may be gone from the server takes no room from what is there */
		wa_known_sweep(known, NULL, NULL);
		fresh = remember(known, line, &full);
	}
	if (full)
		snprintf(known->error, sizeof(known->error),
				 "the server has more than %d relations", WA_MAX_KNOWN_NAMES);
	if (!fresh)
		return !full;
	len = wa_relation_format(line, text, sizeof(text));
	if (len > 0)
		appendBinaryStringInfo(&known->lines, text, (int) len);
	return known->lines.len < WRITE_SIZE || wa_known_write(known);
}

void
wa_known_sweep(WaKnownNames *known, bool (*is_gone)(void *arg, Oid database), void *arg)
{
	HASH_SEQ_STATUS status;
	Known *entry;
	Oid last = InvalidOid;
	bool gone = true;

	hash_seq_init(&status, known->table);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (entry->pass == known->pass)
			continue;
		if (is_gone != NULL && entry->key.relfilenode != 0)
		{
			if (entry->key.database != last)
				gone = is_gone(arg, entry->key.database);
			last = entry->key.database;
			if (!gone)
				continue;
		}
		(void) hash_search(known->table, &entry->key, HASH_REMOVE, NULL);
	}
}
