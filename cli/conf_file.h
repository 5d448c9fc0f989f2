/*-------------------------------------------------------------------------
 *
 * conf_file.h
 *	  Reads and changes PostgreSQL's configuration files, line by line.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_CONF_FILE_H
#define WA_CONF_FILE_H

#include "../src/base/base.h"

#include "lib/stringinfo.h"

#define CONF_NAME_LEN 64

/* One line of a configuration file */
typedef struct ConfLine
{
	char name[CONF_NAME_LEN]; /* in lower case; empty: a comment, or nothing that is understood */
	char *value;              /* without its quotes, malloc'd; NULL with an empty name */
} ConfLine;

/* Take the line in 'text', 'len' bytes without its newline, apart. */
extern void conf_parse_line(const char *text, size_t len, ConfLine *line);
extern void conf_free_line(ConfLine *line);

/* A value in quotes, as the file needs it, is added to 'to'. */
extern void conf_append_quoted(StringInfo to, const char *value);

/*
 * Read a whole file of at most 16 MB into memory, NUL-terminated; NULL with
 * errno if that can't be.  Write one durably, by way of a temporary file.
 */
extern char *conf_read_file(const char *path, size_t *len);
extern bool conf_write_file(const char *path, const char *text, size_t len);

#endif /* WA_CONF_FILE_H */
