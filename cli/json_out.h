/*-------------------------------------------------------------------------
 *
 * json_out.h
 *	  JSON for programs (--json), written into a growing text.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_CLI_JSON_OUT_H
#define WA_CLI_JSON_OUT_H

#include "postgres_fe.h"

#include "access/xlogdefs.h"
#include "pqexpbuffer.h"

/*
 * An object or array is begun by '{' or '[' and ended by '}' or ']'; what is
 * inside gets its commas by itself.  'key' is NULL inside of an array and at the
 * outermost level.
 */
extern void cli_json_begin(PQExpBuffer out, const char *key, char bracket);
extern void cli_json_end(PQExpBuffer out, char bracket);

/* NULL is written as null; what is not UTF-8 as it is. */
extern void cli_json_string(PQExpBuffer out, const char *key, const char *value);
extern void cli_json_uint(PQExpBuffer out, const char *key, uint64 value);
extern void cli_json_bool(PQExpBuffer out, const char *key, bool value);

/* As a string; 0 as null. */
extern void cli_json_lsn(PQExpBuffer out, const char *key, XLogRecPtr value);

/* Microseconds since 2000-01-01, as a string in the local time zone with its offset. */
extern void cli_json_time(PQExpBuffer out, const char *key, int64 value);

#endif /* WA_CLI_JSON_OUT_H */
