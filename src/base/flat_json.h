/*-------------------------------------------------------------------------
 *
 * flat_json.h
 *	  Reader and writer of flat JSON objects: {"name": "text", "n": 1, ...}.
 *
 * This is the format of source.json, cluster.json and of each journal line.
 * Values are strings, numbers, true, false and null; no nesting.  It is read
 * by processes that are attached to no database and by the client, in every
 * host version, which is why it does not use the server's JSON code.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_FLAT_JSON_H
#define WA_FLAT_JSON_H

#include "base.h"

typedef struct WaJsonWriter
{
	char *buffer;
	size_t size;
	size_t used; /* bytes that the whole text needs, no NUL */
	bool first;
} WaJsonWriter;

/*
 * Write into 'buffer' of 'size' bytes.  wa_json_end returns false if the text
 * did not fit; the buffer is NUL-terminated in any case.  A NULL string value
 * is written as null.
 */
extern void wa_json_begin(WaJsonWriter *w, char *buffer, size_t size);
extern void wa_json_string(WaJsonWriter *w, const char *key, const char *value);
extern void wa_json_uint(WaJsonWriter *w, const char *key, uint64 value);
extern void wa_json_bool(WaJsonWriter *w, const char *key, bool value);
extern void wa_json_lsn(WaJsonWriter *w, const char *key, XLogRecPtr value);
extern bool wa_json_end(WaJsonWriter *w);

/*
 * Read members of the object in 'text', 'len' bytes.  Each returns false where
 * the member is absent, null, of another type or too long for 'size' (which
 * includes the NUL).  wa_json_valid checks the whole text first: the getters
 * may be called on a valid text alone.
 */
extern bool wa_json_valid(const char *text, size_t len);
extern bool wa_json_get_string(const char *text, size_t len, const char *key,
							   char *value, size_t size);
extern bool wa_json_get_uint(const char *text, size_t len, const char *key,
							 uint64 *value);
extern bool wa_json_get_bool(const char *text, size_t len, const char *key,
							 bool *value);
extern bool wa_json_get_lsn(const char *text, size_t len, const char *key,
							XLogRecPtr *value);

#endif /* WA_FLAT_JSON_H */
