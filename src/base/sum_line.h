/*-------------------------------------------------------------------------
 *
 * sum_line.h
 *	  Lines of wal.sha256, as sha256sum writes and checks them: 64 hexadecimal
 *	  digits, two spaces, the name of a file in wal/.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_SUM_LINE_H
#define WA_SUM_LINE_H

#include "base.h"

#include "wal_name.h"

#define WA_SHA256_LEN 32

/* Room for a line with its newline and a NUL. */
#define WA_SUM_LINE_LEN (2 * WA_SHA256_LEN + 2 + WA_WAL_NAME_LEN + 2)

/* Write a line, newline and NUL included, into WA_SUM_LINE_LEN bytes. */
extern void wa_write_sum_line(char *line, const uint8 *sha256, const char *name);

/*
 * Read the line in 'text', 'len' bytes without its newline, into 'sha256' and
 * 'name' (WA_WAL_NAME_LEN bytes).  False if it is none, or names something
 * that can't be a finished segment or a history file: nothing else is ever in
 * there.
 */
extern bool wa_read_sum_line(const char *text, size_t len, uint8 *sha256,
							 char *name);

#endif /* WA_SUM_LINE_H */
