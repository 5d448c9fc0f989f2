/*-------------------------------------------------------------------------
 *
 * known_names.h
 *	  A cluster's file of names, and what of it the observer has in mind: so
 *	  that a line is written only for what is new.
 *
 * Part of the observer.  A mapping is remembered as a digest.  The memory is
 * made from the file, a part at a time; it is bounded, and cleared of what is
 * gone from the server after each pass.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_KNOWN_NAMES_H
#define WA_KNOWN_NAMES_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "port/atomics.h"
#include "utils/hsearch.h"

#include "../state/relation_file.h"

/* Mappings that are remembered, of one server; 50 bytes each. */
#define WA_MAX_KNOWN_NAMES 500000

#define WA_KNOWN_ERROR_LEN 512

typedef struct WaKnownNames
{
	MemoryContext context; /* with all that belongs to it */
	char path[MAXPGPATH];
	uint64 system_identifier;
	HTAB *table;
	uint64 file_size; /* that was read or written */
	bool loaded;
	uint32 pass;               /* 0: while it is loaded */
	StringInfoData lines;      /* to be written */
	pg_atomic_uint64 *written; /* grows with each write */
	char error[WA_KNOWN_ERROR_LEN];
} WaKnownNames;

/*
 * Begin with nothing in mind.  '*written' is counted up when the file grows.
 * Freed by deleting 'context', which is a child of 'parent'.
 */
extern WaKnownNames *wa_known_create(MemoryContext parent, const char *source,
									 uint64 sysid, pg_atomic_uint64 *written);

/*
 * Read on in the file; true when all of it is in mind.  Raises an error if it
 * can't be opened.
 */
extern bool wa_known_load(WaKnownNames *known);

/* True if the file has lost lines since: what is in mind is not in it. */
extern bool wa_known_is_stale(const WaKnownNames *known);

/* A new pass over the server begins: nothing is seen yet. */
extern void wa_known_begin_pass(WaKnownNames *known);

/*
 * The server says what is in 'line'; if that is new it will be written.  False
 * if there is no room, or if writing failed, with 'error' set.
 */
extern bool wa_known_take(WaKnownNames *known, const WaRelationLine *line);

/*
 * Write what is to be written, durably.  After false, with 'error' set, what is
 * in mind is not in the file: begin anew.
 */
extern bool wa_known_write(WaKnownNames *known);

/*
 * Forget what the pass has not seen: databases and tablespaces that are gone,
 * and relations of those databases for which 'is_gone' says so.
 */
extern void wa_known_sweep(WaKnownNames *known,
						   bool (*is_gone)(void *arg, Oid database), void *arg);

#endif /* WA_KNOWN_NAMES_H */
