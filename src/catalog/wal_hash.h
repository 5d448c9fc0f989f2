/*-------------------------------------------------------------------------
 *
 * wal_hash.h
 *	  wal.sha256: the checksums of a cluster's finished files.
 *
 * The file lies beside wal/; a line is as sha256sum writes it, so that
 * "cd wal && sha256sum -c ../wal.sha256" checks them without walarchive.  It is
 * appended to, by the indexer that holds the source's claim, and never
 * changed.  A last line without newline is what a crash left: it is cut off
 * before the next one is written.
 *
 * The catalog has a copy of each line (walarchive.file_sum).  A file that has
 * lost lines, or was lost, is read again, and gets what the catalog has.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_WAL_HASH_H
#define WA_WAL_HASH_H

#include "catalog.h"
#include "decoder.h"

typedef enum WaHashResult
{
	WA_HASH_NOTHING, /* every file that may have a checksum has one */
	WA_HASH_SOME,    /* some work was done: call again */
	WA_HASH_DIED     /* the decoder died: close it, and call again with another */
} WaHashResult;

/*
 * Do a piece of the work for one cluster: enter lines of wal.sha256 that the
 * catalog has not, or compute the checksums of finished files that have none,
 * append their lines, make them durable and enter them.  A piece ends after
 * 'max_files' files (up to WA_BATCH_ROWS), 'max_bytes' read or 'max_ms', what
 * comes first, but never before one file.  'decoder' is asked for nothing else
 * meanwhile; NULL: one is opened if it is needed, and left in '*decoder'.
 *
 * Segments get one when all their records have been checked, histories when
 * they can be read as such; damage that is met is entered in the catalog and
 * the journal.
 *
 * Not inside a transaction.  Raises errors.
 */
extern WaHashResult wa_hash_finished(const char *source, uint64 sysid,
									 uint32 segment_size, WaDecoder **decoder,
									 int max_files, int64 max_bytes,
									 int max_ms);

/* ---- what verification shares with it ---- */

/* Path of wal.sha256, into MAXPGPATH bytes. */
extern void wa_sums_path(char *path, const char *source, uint64 sysid);

/*
 * What is wrong with it as a file, a constant message; NULL if it can be read
 * or is not there.
 */
extern const char *wa_sums_problem(const char *source, uint64 sysid);

/* Enter damage of wal.sha256 itself; offset -1: not known. */
extern void wa_record_sums_damage(const char *source, uint64 sysid, int64 offset,
								  const char *problem);

/* A line of it. */
typedef struct WaSumLine
{
	uint64 next; /* byte at which the next one starts */
	bool valid;
	char name[WA_WAL_NAME_LEN];
	uint8 sha256[32];
} WaSumLine;

/*
 * Open wal.sha256 for reading, and tell its size in bytes; NULL if there is
 * none.  Close it with FreeFile.  Something else in its place raises an error
 * of ERRCODE_DATA_CORRUPTED.
 */
extern FILE *wa_open_sums(const char *source, uint64 sysid, uint64 *size);

/*
 * Read the next line, which starts at byte 'offset'.  False at the end of the
 * file, and at a last line without newline.
 */
extern bool wa_next_sum(FILE *file, uint64 offset, WaSumLine *line);

/*
 * Enter damage of a file in the catalog, in a transaction of its own, and, if
 * it is news, in the journal.  'body' and 'rest' are those of a DAMAGE.
 */
extern void wa_record_damage(const char *source, uint64 sysid,
							 const WaMsgDamage *body, const char *rest);

/*
 * Note in the journal that files are right again, an array of text.
 */
extern void wa_journal_repaired(const char *source, uint64 sysid, Datum names);

#endif /* WA_WAL_HASH_H */
