/*-------------------------------------------------------------------------
 *
 * relation_file.h
 *	  <source>/<system identifier>/relations: what the relations of a cluster
 *	  were called when the observer looked.
 *
 * WAL knows relations by numbers.  The file is append-only; a line is a flat
 * JSON object that ends in a newline, and is there for each mapping that was
 * new or had changed:
 *	 {"time": "2026-01-02T03:04:05.678901Z", "database": 5, "database_name": "app",
 *	  "tablespace": 1663, "relfilenode": 16390, "oid": 16384, "kind": "r",
 *	  "name": "public.orders", "table": "public.orders"}
 *	 {"time": "…", "database": 5, "database_name": "app"}
 *	 {"time": "…", "tablespace": 16500, "tablespace_name": "fast"}
 * A last line without newline is what a crash left: readers ignore it, the next
 * writer ends it.  Only the observer writes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_RELATION_FILE_H
#define WA_RELATION_FILE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "../base/source_name.h"

/*
 * An identifier has 63 bytes in its server's encoding; in UTF-8 and quoted it
 * can have several times that, and two of them make a relation's name.
 */
#define WA_OBJECT_NAME_LEN 256
#define WA_RELATION_NAME_LEN 1056
#define WA_RELATION_LINE_LEN 16384

typedef enum WaRelationLineKind
{
	WA_LINE_RELATION,
	WA_LINE_DATABASE,  /* database and database_name alone */
	WA_LINE_TABLESPACE /* tablespace, and its name in 'name' */
} WaRelationLineKind;

typedef struct WaRelationLine
{
	WaRelationLineKind line;
	TimestampTz time; /* when it was learned, by our clock */
	Oid database;
	char database_name[WA_OBJECT_NAME_LEN];
	Oid tablespace; /* never 0 for a relation */
	Oid relfilenode;
	Oid relation;
	char kind;                        /* as pg_class.relkind */
	char name[WA_RELATION_NAME_LEN];  /* with schema, quoted where needed */
	char table[WA_RELATION_NAME_LEN]; /* that an index or a TOAST table serves */
} WaRelationLine;

/* The file's path, into MAXPGPATH bytes; raises where it would be too long. */
extern void wa_relation_path(char *path, const char *source, uint64 sysid);

/*
 * Write a line, newline included, into 'buffer'; its length, or 0 if it does
 * not fit into 'size' bytes.
 */
extern size_t wa_relation_format(const WaRelationLine *line, char *buffer, size_t size);

/*
 * Read the line at which 'file' stands.  Returns its length in bytes with the
 * newline, or 0 at the end (or at an unfinished last line).  One that is not
 * valid sets '*valid' to false and is to be skipped.
 */
extern uint64 wa_relation_read(FILE *file, WaRelationLine *line, bool *valid);

#endif /* WA_RELATION_FILE_H */
