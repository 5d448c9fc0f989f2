/*-------------------------------------------------------------------------
 *
 * archive_dir.h
 *	  Where things lie below walarchive.directory, and the durable helpers
 *	  for small files there.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_ARCHIVE_DIR_H
#define WA_ARCHIVE_DIR_H

#include "postgres.h"

#include "../base/source_name.h"

/* the GUC walarchive.directory, or an empty string */
extern PGDLLIMPORT char *wa_directory;

/*
 * Check that walarchive.directory is set, absolute, there, writable, and
 * outside the data directory.  Returns NULL, or a message in 'buffer'.
 */
extern const char *wa_directory_problem(char *buffer, size_t size);

/*
 * Paths, into buffers of MAXPGPATH bytes.  Raises an error where the path
 * would be too long.  The first is for all that have no function of their own.
 */
extern void wa_join_path(char *path, const char *fmt, ...) pg_attribute_printf(2, 3);
extern void wa_source_path(char *path, const char *source);
extern void wa_source_file_path(char *path, const char *source, const char *file);
extern void wa_cluster_path(char *path, const char *source, uint64 sysid);
extern void wa_wal_path(char *path, const char *source, uint64 sysid);

/*
 * Take an exclusive lock on file 'path', made if missing, for the life of the
 * calling process; returns the descriptor, or -1 where somebody else holds it.
 * Other failures raise an error.
 */
extern int wa_lock_file(const char *path);

/* Make a directory durably if it is missing; true if it was made. */
extern bool wa_make_directory(const char *path);

/* Replace 'path' with 'content' atomically and durably; raises on failure. */
extern void wa_write_file(const char *path, const char *content, size_t len);

/*
 * Append whole lines to 'path', made if missing, in one write, and make them
 * durable.  A last line that a crash left without newline is ended first.
 * Returns the file's size in bytes after it, or 0 with errno set; raises
 * nothing, and keeps nothing open, so that a removed archive leaves no
 * descriptor behind.
 */
extern uint64 wa_append_lines(const char *path, const char *lines, size_t len);

/*
 * The content of 'path', palloc'd and NUL-terminated, its length in '*len';
 * NULL if the file does not exist.  More than 'limit' bytes is an error.
 */
extern char *wa_read_file(const char *path, size_t limit, size_t *len);

#endif /* WA_ARCHIVE_DIR_H */
