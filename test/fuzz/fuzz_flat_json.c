/*-------------------------------------------------------------------------
 *
 * fuzz_flat_json.c
 *	  source.json, cluster.json and journal lines that somebody has damaged:
 *	  reading stays within bounds, and a string that was read is written and
 *	  read again unchanged.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "../../src/base/flat_json.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)   \
	do                    \
	{                     \
		if (!(condition)) \
			abort();      \
	} while (0)

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *) data;
	char value[256];
	char again[256];
	char written[8 * 256];
	uint64 number;
	bool flag;
	XLogRecPtr lsn;
	bool valid = wa_json_valid(text, size);
	bool got_string = wa_json_get_string(text, size, "a", value, sizeof(value));
	bool got_number = wa_json_get_uint(text, size, "a", &number);
	bool got_flag = wa_json_get_bool(text, size, "a", &flag);
	WaJsonWriter w;

	MUST((got_string ? 1 : 0) + (got_number ? 1 : 0) + (got_flag ? 1 : 0) <= 1);
	if (wa_json_get_lsn(text, size, "a", &lsn))
	{
		MUST(got_string);
		wa_json_begin(&w, written, sizeof(written));
		wa_json_lsn(&w, "a", lsn);
		MUST(wa_json_end(&w));
		MUST(wa_json_get_lsn(written, strlen(written), "a", &number) && number == lsn);
	}
	if (got_string)
	{
		wa_json_begin(&w, written, sizeof(written));
		wa_json_string(&w, "a", value);
		MUST(wa_json_end(&w));
		MUST(wa_json_valid(written, strlen(written)));
		MUST(wa_json_get_string(written, strlen(written), "a", again, sizeof(again)));
		MUST(strcmp(value, again) == 0);
	}
	if (got_number)
	{
		wa_json_begin(&w, written, sizeof(written));
		wa_json_uint(&w, "a", number);
		MUST(wa_json_end(&w));
	}
	if (valid)
	{
		/* a short room for the value is no danger */
		(void) wa_json_get_string(text, size, "a", value, 1);
		(void) wa_json_get_string(text, size, "", value, sizeof(value));
	}
	return 0;
}
