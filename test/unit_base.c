/*-------------------------------------------------------------------------
 *
 * unit_base.c
 *	  Unit tests of src/base, and the replay of the fuzzers' corpora.
 *
 * Built and run by "make unitcheck".  Prints TAP and exits non-zero if a test
 * failed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "../src/base/flat_json.h"
#include "../src/base/history.h"
#include "../src/base/source_name.h"
#include "../src/base/sum_line.h"
#include "../src/base/wal_name.h"

#include "unit.h"

#define GB ((uint64) 1024 * MB)

/* ---- WAL names ---- */

/* Name, kind and number agree in both directions. */
static void
check_name(uint32 size, TimeLineID tli, uint64 segno, const char *wanted)
{
	char name[WA_WAL_NAME_LEN];
	char partial[WA_WAL_NAME_LEN];
	TimeLineID t = 0;
	uint64 s = 0;

	wa_segment_name(name, tli, segno, size);
	CHECK(strcmp(name, wanted) == 0, wanted);
	CHECK(wa_parse_wal_name(name, size, &t, &s) == WA_FILE_SEGMENT && t == tli && s == segno,
		  "... and back");
	wa_partial_name(partial, tli, segno, size);
	t = s = 0;
	CHECK(wa_parse_wal_name(partial, size, &t, &s) == WA_FILE_PARTIAL && t == tli && s == segno,
		  "... and as a partial");
}

static void
check_other(const char *name, uint32 size)
{
	TimeLineID tli = 42;
	uint64 segno = 43;
	char what[200];

	snprintf(what, sizeof(what), "no WAL file: \"%.100s\"", name);
	CHECK(wa_parse_wal_name(name, size, &tli, &segno) == WA_FILE_OTHER && tli == 42 && segno == 43,
		  what);
}

static void
test_wal_names(void)
{
	static const uint32 sizes[] = {MB, 2 * MB, 16 * MB, 64 * MB, 256 * MB, 1024 * MB};
	char name[WA_WAL_NAME_LEN];
	TimeLineID tli;
	uint64 segno;
	bool good = true;

	/* the last segment of a 4 GB file and the first of the next */
	check_name(MB, 1, 1, "000000010000000000000001");
	check_name(MB, 1, 4095, "000000010000000000000FFF");
	check_name(MB, 1, 4096, "000000010000000100000000");
	check_name(16 * MB, 1, 7, "000000010000000000000007");
	check_name(16 * MB, 1, 255, "0000000100000000000000FF");
	check_name(16 * MB, 1, 256, "000000010000000100000000");
	check_name(16 * MB, 0xFFFFFFFF, 0xABCDEF, "FFFFFFFF0000ABCD000000EF");
	check_name(1024 * MB, 1, 3, "000000010000000000000003");
	check_name(1024 * MB, 1, 4, "000000010000000100000000");
	/* the end of the LSN range */
	check_name(MB, 1, PG_UINT64_MAX / MB, "00000001FFFFFFFF00000FFF");
	check_name(1024 * MB, 1, PG_UINT64_MAX / (1024 * MB), "00000001FFFFFFFF00000003");

	for (size_t i = 0; i < lengthof(sizes); i++)
	{
		uint32 size = sizes[i];
		static const uint64 lsns[] = {0, 1, 0xFFFFFFFF, 0x100000000, 0x100000001,
									  0x2FFFFFFFF, UINT64CONST(0xFFFFFFFFFFFFFFFF)};

		good &= wa_segment_size_is_valid(size);
		for (size_t j = 0; j < lengthof(lsns); j++)
		{
			uint64 lsn = lsns[j];

			segno = wa_segment_of(lsn, size);
			good &= wa_segment_start(segno, size) == wa_segment_floor(lsn, size);
			good &= wa_segment_floor(lsn, size) + wa_segment_offset(lsn, size) == lsn;
			good &= wa_segment_offset(lsn, size) < size;
		}
	}
	CHECK(good, "segments and LSNs agree for all sizes, at 4 GB and at the end of the range");
	CHECK(!wa_segment_size_is_valid(0) && !wa_segment_size_is_valid(MB / 2) &&
			  !wa_segment_size_is_valid(3 * MB) && !wa_segment_size_is_valid(2 * GB) &&
			  !wa_segment_size_is_valid(MB + 1) && !wa_segment_size_is_valid(PG_UINT64_MAX),
		  "segment sizes that initdb does not know are refused");

	wa_history_name(name, 0xA);
	CHECK(strcmp(name, "0000000A.history") == 0, "name of a history file");
	tli = 0;
	CHECK(wa_parse_wal_name(name, MB, &tli, &segno) == WA_FILE_HISTORY && tli == 10, "... and back");

	check_other("", MB);
	check_other(".", MB);
	check_other("..", MB);
	check_other("00000001", MB);
	check_other("0000000100000000000001", MB);
	check_other("000000000000000000000001", MB);        /* timeline 0 */
	check_other("00000000.history", MB);                /* timeline 0 */
	check_other("000000010000000000001000", MB);        /* past the end of its 4 GB file */
	check_other("000000010000000000000100", 16 * MB);   /* likewise */
	check_other("000000010000000000000004", 1024 * MB); /* likewise */
	check_other("0000000a0000000000000001", MB);        /* lower case */
	check_other("0000000a.history", MB);
	check_other("00000001000000000000000g", MB);
	check_other("0000000100000000000000010", MB);
	check_other("000000010000000000000001.", MB);
	check_other("000000010000000000000001.partial.", MB);
	check_other("000000010000000000000001.PARTIAL", MB);
	check_other("000000010000000000000001.partial.unsynced", MB);
	check_other("000000010000000000000001.gz", MB);
	check_other("000000010000000000000001.00000028.backup", MB);
	check_other("00000002.history.tmp", MB);
	check_other("00000002.historyx", MB);
	check_other("walarchive.prepared.1", MB);
	check_other("0x000001000000000000000001", MB);
	check_other("+0000001000000000000000001", MB);
	check_other(" 00000010000000000000001", MB);
	check_other("000000010000000000000001 ", MB);
	check_other("000000010000000000000001\n", MB);
	check_other("../00000010000000000000001", MB);
}

/* ---- histories ---- */

static WaHistory history;

static const char *
parse(const char *content, TimeLineID tli)
{
	size_t len = strlen(content);
	/* exactly as long, so that a sanitizer sees a byte read too far */
	char *copy = malloc(len ? len : 1);
	const char *problem;

	memcpy(copy, content, len);
	problem = wa_history_parse(copy, len, tli, &history);
	free(copy);
	return problem;
}

static void
check_refused(const char *content, TimeLineID tli, const char *wanted)
{
	const char *problem = parse(content, tli);
	char what[200];

	snprintf(what, sizeof(what), "history refused: %s", wanted);
	CHECK(problem != NULL && strcmp(problem, wanted) == 0, what);
	if (problem == NULL || strcmp(problem, wanted) != 0)
		printf("# got: %s\n", problem ? problem : "no problem");
}

static void
test_histories(void)
{
	static const char not_a_number[] = "a line does not start with a timeline number";
	static const char no_switch[] = "a timeline number is not followed by a switch point";
	static const char no_lsn[] = "a switch point is not an LSN";
	static const char not_ascending[] = "timeline numbers are not in ascending order below the file's own";
	static const char lsn_not_ascending[] = "switch points are not in ascending order";
	static const char too_many[] = "there are too many timelines";
	static const char no_ancestor[] = "there is no ancestor in it";
	char *big;
	size_t used = 0;

	CHECK(wa_history_parse(NULL, 0, 1, &history) == NULL && history.count == 1 &&
			  history.entry[0].tli == 1 && history.entry[0].begin == 0 && history.entry[0].end == 0,
		  "timeline 1 has no file");
	CHECK(wa_history_timeline_at(&history, 0) == 1 && wa_history_timeline_at(&history, PG_UINT64_MAX) == 1,
		  "... and owns all WAL");

	CHECK(parse("1\t0/3000000\tno recovery target specified\n\n"
				"# a comment\n"
				"3\t1/A0000B8\tbefore 2026-01-01\n",
				5) == NULL,
		  "history with a comment, an empty line and a timeline left out");
	CHECK(history.count == 3, "... three timelines");
	CHECK(history.entry[0].tli == 1 && history.entry[0].begin == 0 && history.entry[0].end == 0x3000000 &&
			  history.entry[1].tli == 3 && history.entry[1].begin == 0x3000000 &&
			  history.entry[1].end == UINT64CONST(0x10A0000B8) &&
			  history.entry[2].tli == 5 && history.entry[2].begin == UINT64CONST(0x10A0000B8) &&
			  history.entry[2].end == 0,
		  "... with their switch points");
	CHECK(wa_history_find(&history, 3) == &history.entry[1] && wa_history_find(&history, 2) == NULL &&
			  wa_history_find(&history, 0) == NULL,
		  "... found by number");
	CHECK(wa_history_timeline_at(&history, 0) == 1 && wa_history_timeline_at(&history, 0x2FFFFFF) == 1 &&
			  wa_history_timeline_at(&history, 0x3000000) == 3 &&
			  wa_history_timeline_at(&history, UINT64CONST(0x10A0000B7)) == 3 &&
			  wa_history_timeline_at(&history, UINT64CONST(0x10A0000B8)) == 5 &&
			  wa_history_timeline_at(&history, PG_UINT64_MAX) == 5,
		  "... at a switch point the child owns the WAL");
	CHECK(parse("1\t0/3000000", 2) == NULL && history.count == 2, "no reason, no newline at the end");
	CHECK(parse("1\t0/3000000\treason\r\n", 2) == NULL && history.count == 2, "line ends of Windows");
	CHECK(parse("  1   0/3000000  reason\n", 2) == NULL && history.count == 2, "blanks instead of tabs");
	CHECK(parse("1\t0/3000000\ta\n2\t0/3000000\tb\n", 3) == NULL && history.count == 3,
		  "a timeline that was left where it was entered");
	CHECK(wa_history_timeline_at(&history, 0x3000000) == 3, "... owns nothing");
	CHECK(parse("4294967294\tFFFFFFFF/FFFFFFFF\tx\n", 0xFFFFFFFF) == NULL &&
			  history.entry[1].begin == PG_UINT64_MAX,
		  "the greatest numbers");

	check_refused("", 2, no_ancestor);
	check_refused("\n\n# nothing\n", 2, no_ancestor);
	check_refused("x\t0/3000000\n", 2, not_a_number);
	check_refused("-1\t0/3000000\n", 2, not_a_number);
	check_refused("0\t0/3000000\n", 2, not_a_number);
	check_refused("4294967296\t0/3000000\n", 2, not_a_number);
	check_refused("99999999999999999999\t0/3000000\n", 2, not_a_number);
	check_refused("1\n", 2, no_switch);
	check_refused("1", 2, no_switch);
	check_refused("1x\t0/3000000\n", 2, no_switch);
	check_refused("1\t\n", 2, no_lsn);
	check_refused("1\t0\n", 2, no_lsn);
	check_refused("1\t0/\n", 2, no_lsn);
	check_refused("1\t/3000000\n", 2, no_lsn);
	check_refused("1\t0/30000000A\n", 2, no_lsn);
	check_refused("1\t0/3000000x\n", 2, no_lsn);
	check_refused("1\t0x0/3000000\n", 2, no_lsn);
	check_refused("1\t0-3000000\n", 2, no_lsn);
	check_refused("1\t0/3000000\n1\t0/4000000\n", 3, not_ascending);
	check_refused("2\t0/3000000\n1\t0/4000000\n", 3, not_ascending);
	check_refused("2\t0/3000000\n", 2, not_ascending);
	check_refused("3\t0/3000000\n", 2, not_ascending);
	check_refused("1\t0/4000000\n2\t0/3000000\n", 3, lsn_not_ascending);
	check_refused("1\t0/0\n", 2, lsn_not_ascending);
	CHECK(wa_history_parse("1\0\t0/3000000\n", 13, 2, &history) != NULL, "a NUL inside a line is refused");

	/* as many as there is room for, and one more */
	big = malloc(WA_MAX_TIMELINES * 32);
	for (int i = 1; i < WA_MAX_TIMELINES; i++)
		used += sprintf(big + used, "%d\t0/%X\tx\n", i, 0x1000000 + i);
	CHECK(wa_history_parse(big, used, WA_MAX_TIMELINES, &history) == NULL && history.count == WA_MAX_TIMELINES,
		  "the greatest number of timelines");
	used += sprintf(big + used, "%d\t0/%X\tx\n", WA_MAX_TIMELINES, 0x1000000 + WA_MAX_TIMELINES);
	big[used] = '\0';
	check_refused(big, WA_MAX_TIMELINES + 1, too_many);
	free(big);
}

/* ---- flat JSON ---- */

static bool
valid(const char *text)
{
	size_t len = strlen(text);
	char *copy = malloc(len ? len : 1);
	bool result;

	memcpy(copy, text, len);
	result = wa_json_valid(copy, len);
	free(copy);
	return result;
}

static void
check_invalid(const char *text)
{
	char what[200];

	snprintf(what, sizeof(what), "not valid: %.100s", text);
	CHECK(!valid(text), what);
}

static void
test_flat_json(void)
{
	char buffer[512];
	char value[64];
	WaJsonWriter w;
	uint64 number = 0;
	XLogRecPtr lsn = 0;
	bool flag = false;
	size_t len;
	static const char hostile[] = "quote \" backslash \\ newline \n tab \t bell \a delete \x7f end";
	const char *text;

	wa_json_begin(&w, buffer, sizeof(buffer));
	wa_json_string(&w, "name", "prod");
	wa_json_string(&w, "hostile", hostile);
	wa_json_string(&w, "utf", "Zürich €");
	wa_json_string(&w, "none", NULL);
	wa_json_uint(&w, "number", PG_UINT64_MAX);
	wa_json_bool(&w, "yes", true);
	wa_json_bool(&w, "no", false);
	wa_json_lsn(&w, "lsn", UINT64CONST(0x10000ABCD));
	CHECK(wa_json_end(&w), "an object is written");
	len = strlen(buffer);
	CHECK(len == w.used && wa_json_valid(buffer, len), "... and valid");
	CHECK(strchr(buffer, '\n') == NULL, "... on one line");
	CHECK(wa_json_get_string(buffer, len, "name", value, sizeof(value)) && strcmp(value, "prod") == 0,
		  "... a string comes back");
	CHECK(wa_json_get_string(buffer, len, "hostile", value, sizeof(value)) && strcmp(value, hostile) == 0,
		  "... a string with everything in it");
	CHECK(wa_json_get_string(buffer, len, "utf", value, sizeof(value)) && strcmp(value, "Zürich €") == 0,
		  "... a string in UTF-8");
	CHECK(!wa_json_get_string(buffer, len, "none", value, sizeof(value)), "... null is no string");
	CHECK(wa_json_get_uint(buffer, len, "number", &number) && number == PG_UINT64_MAX,
		  "... the greatest number");
	CHECK(wa_json_get_bool(buffer, len, "yes", &flag) && flag, "... true");
	CHECK(wa_json_get_bool(buffer, len, "no", &flag) && !flag, "... false");
	CHECK(wa_json_get_lsn(buffer, len, "lsn", &lsn) && lsn == UINT64CONST(0x10000ABCD), "... an LSN");
	CHECK(!wa_json_get_string(buffer, len, "absent", value, sizeof(value)) &&
			  !wa_json_get_uint(buffer, len, "absent", &number) &&
			  !wa_json_get_bool(buffer, len, "absent", &flag) &&
			  !wa_json_get_lsn(buffer, len, "absent", &lsn),
		  "... what is absent is not found");
	CHECK(!wa_json_get_uint(buffer, len, "name", &number) && !wa_json_get_bool(buffer, len, "name", &flag) &&
			  !wa_json_get_lsn(buffer, len, "name", &lsn) &&
			  !wa_json_get_string(buffer, len, "number", value, sizeof(value)) &&
			  !wa_json_get_uint(buffer, len, "yes", &number) && !wa_json_get_bool(buffer, len, "number", &flag),
		  "... nor what is of another type");
	CHECK(wa_json_get_string(buffer, len, "name", value, 5) && !wa_json_get_string(buffer, len, "name", value, 4),
		  "... a string has to fit, with its NUL");

	/* a buffer that is too small, for every size */
	for (size_t size = 1; size < 40; size++)
	{
		char *small = malloc(size);
		bool fits;

		wa_json_begin(&w, small, size);
		wa_json_string(&w, "a", "bcdef");
		wa_json_uint(&w, "n", 12345);
		fits = wa_json_end(&w);
		if (fits != (size > w.used) || strlen(small) >= size || (fits && !wa_json_valid(small, strlen(small))))
			CHECK(false, "a buffer that is too small");
		free(small);
	}
	CHECK(w.used == 26, "buffers that are too small, and how much it takes");

	CHECK(valid("{}") && valid(" { } ") && valid("{\"a\":1}") && valid("{\"a\" : null , \"b\":true}\n"),
		  "spacing does not matter");
	text = "{\"a\": \"\\u0041\\/\\b\\f\\n\\r\\t\"}";
	CHECK(wa_json_get_string(text, strlen(text), "a", value, sizeof(value)) && strcmp(value, "A/\b\f\n\r\t") == 0,
		  "all escapes are read");
	text = "{\"a\": 1, \"a\": 2}";
	CHECK(wa_json_get_uint(text, strlen(text), "a", &number) && number == 1, "of two members the first counts");
	text = "{\"b\": \"\\\"a\\\": 7\", \"a\": 8}";
	CHECK(wa_json_get_uint(text, strlen(text), "a", &number) && number == 8, "a name inside a string is none");
	text = "{\"aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggggggggg\": 1, \"a\": 2}";
	CHECK(valid(text) && wa_json_get_uint(text, strlen(text), "a", &number) && number == 2, "a name that is too long is passed");

	check_invalid("");
	check_invalid(" ");
	check_invalid("{");
	check_invalid("}");
	check_invalid("[]");
	check_invalid("null");
	check_invalid("{\"a\"}");
	check_invalid("{\"a\":}");
	check_invalid("{\"a\":1,}");
	check_invalid("{,}");
	check_invalid("{\"a\":1 \"b\":2}");
	check_invalid("{\"a\":1}x");
	check_invalid("{\"a\":1}{}");
	check_invalid("{a:1}");
	check_invalid("{'a':1}");
	check_invalid("{\"a\":truex}");
	check_invalid("{\"a\":TRUE}");
	check_invalid("{\"a\":nul}");
	check_invalid("{\"a\":{}}");
	check_invalid("{\"a\":[1]}");
	check_invalid("{\"a\":\"b}");
	check_invalid("{\"a\":\"\\\"}");
	check_invalid("{\"a\":\"\\x41\"}");
	check_invalid("{\"a\":\"\\u00\"}");
	check_invalid("{\"a\":\"\\u004g\"}");
	check_invalid("{\"a\":\"\\u0000\"}"); /* would end the string */
	check_invalid("{\"a\":\"\\u20ac\"}"); /* we write it as it is */
	check_invalid("{\"a\":\"b\nc\"}");
	check_invalid("{\"a\":-}");
	check_invalid("{\"a\":+1}");
	check_invalid("{\"a\":1-2}");
	check_invalid("{\"a\":E}");
	check_invalid("{\"a\":.5}");
	check_invalid("{\"a\":1.}");
	check_invalid("{\"a\":1e}");
	check_invalid("{\"a\":01}");
	CHECK(!wa_json_valid("{\"a\":\"b\0c\"}", 11), "a NUL inside a string is refused");
	CHECK(valid("{\"a\":0,\"b\":-1,\"c\":1.5,\"d\":1e9,\"e\":-2.5E-3,\"f\":10}"), "numbers of every form");

	text = "{\"a\": 18446744073709551616, \"b\": -1, \"c\": 1.0, \"d\": 99999999999999999999999}";
	CHECK(!wa_json_get_uint(text, strlen(text), "a", &number) && !wa_json_get_uint(text, strlen(text), "b", &number) &&
			  !wa_json_get_uint(text, strlen(text), "c", &number) && !wa_json_get_uint(text, strlen(text), "d", &number),
		  "numbers that are none of ours");
	text = "{\"a\": \"-1/0\", \"b\": \"0/ 1\", \"c\": \"0x1/1\", \"d\": \"123456789/0\", \"e\": \"1/2/3\", \"f\": \"\", \"g\": \"1\", \"h\": \"+1/1\", \"i\": \" 1/1\"}";
	{
		static const char keys[] = "abcdefghi";

		for (const char *key = keys; *key; key++)
		{
			char name[2] = {*key, '\0'};
			char what[32];

			snprintf(what, sizeof(what), "no LSN: member %c", *key);
			CHECK(!wa_json_get_lsn(text, strlen(text), name, &lsn), what);
		}
	}

	/* every truncation of a good text is refused and read without a fault */
	text = "{\"name\": \"a\\\"b\", \"n\": 17, \"t\": true, \"lsn\": \"1/2\"}";
	flag = true;
	for (size_t n = 0; n < strlen(text); n++)
	{
		char *copy = malloc(n ? n : 1);

		memcpy(copy, text, n);
		flag &= !wa_json_valid(copy, n);
		(void) wa_json_get_uint(copy, n, "n", &number);
		(void) wa_json_get_string(copy, n, "name", value, sizeof(value));
		(void) wa_json_get_lsn(copy, n, "lsn", &lsn);
		free(copy);
	}
	CHECK(flag, "no truncated text is valid");
}

/* ---- names of sources ---- */

static void
test_source_names(void)
{
	static const char *good[] = {"a", "0", "prod", "prod-2", "prod_2", "a-", "a_",
								 "a234567890123456789012345678901234567890123456789012"};
	static const char *bad[] = {"", "-a", "_a", "A", "prod.1", "a b", "a/b", "..", ".", ".a", "a/../b",
								"ä", "a\n", "a'b", "a\"b", "a\\b", "%s", "~",
								"a2345678901234567890123456789012345678901234567890123"};
	char slot[WA_SLOT_NAME_LEN];
	char what[128];

	for (size_t i = 0; i < lengthof(good); i++)
	{
		snprintf(what, sizeof(what), "source name: %s", good[i]);
		wa_default_slot_name(slot, good[i]);
		CHECK(wa_source_name_is_valid(good[i]) && wa_slot_name_is_valid(slot), what);
	}
	for (size_t i = 0; i < lengthof(bad); i++)
	{
		snprintf(what, sizeof(what), "no source name: number %d", (int) i);
		CHECK(!wa_source_name_is_valid(bad[i]), what);
	}
	wa_default_slot_name(slot, "prod-2_x");
	CHECK(strcmp(slot, "walarchive_prod_2_x") == 0, "slot name of a source");
	CHECK(wa_slot_name_is_valid("_") && wa_slot_name_is_valid("0a_") &&
			  wa_slot_name_is_valid("s23456789012345678901234567890123456789012345678901234567890123"),
		  "slot names");
	CHECK(!wa_slot_name_is_valid("") && !wa_slot_name_is_valid("a-b") && !wa_slot_name_is_valid("A") &&
			  !wa_slot_name_is_valid("a\"b") && !wa_slot_name_is_valid("a b") &&
			  !wa_slot_name_is_valid("s234567890123456789012345678901234567890123456789012345678901234"),
		  "no slot names");
}

/* ---- lines of wal.sha256 ---- */

static void
test_sum_lines(void)
{
	static const char digits[] = "00ff0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab";
	static const char *const good[] = {"  000000010000000000000007", " *0000000A00000001000000FF", "  00000002.history"};
	static const char *const bad[] = {
		"", "  ", " 000000010000000000000007", "   000000010000000000000007", "\t 000000010000000000000007",
		"  000000010000000000000007.partial", "  ../000000010000000000000007", "  00000001000000000000000g",
		"  00000002.history.000000000000000000000000000000000000000000000000000000000000000000000000000000"};
	uint8 sha256[WA_SHA256_LEN];
	char name[WA_WAL_NAME_LEN];
	char line[256];
	char written[WA_SUM_LINE_LEN];

	for (size_t i = 0; i < lengthof(good); i++)
	{
		snprintf(line, sizeof(line), "%s%s", digits, good[i]);
		CHECK(wa_read_sum_line(line, strlen(line), sha256, name) && strcmp(name, good[i] + 2) == 0 &&
				  sha256[0] == 0 && sha256[1] == 0xff && sha256[31] == 0xab,
			  line);
		wa_write_sum_line(written, sha256, name);
		CHECK(strncmp(written, digits, 64) == 0 && strncmp(written + 64, "  ", 2) == 0 &&
				  strcmp(written + strlen(written) - 1, "\n") == 0 && strlen(written) == strlen(line) + 1,
			  "it is written as it was");
	}
	for (size_t i = 0; i < lengthof(bad); i++)
	{
		snprintf(line, sizeof(line), "%s%s", digits, bad[i]);
		CHECK(!wa_read_sum_line(line, strlen(line), sha256, name), line);
	}
	snprintf(line, sizeof(line), "%s%s", digits, good[0]);
	CHECK(!wa_read_sum_line(line, 60, sha256, name), "a sum that is cut off");
	line[10] = 'g';
	CHECK(!wa_read_sum_line(line, strlen(line), sha256, name), "a digit that is none");
	line[10] = 'A';
	CHECK(wa_read_sum_line(line, strlen(line), sha256, name) && sha256[5] == 0xA7, "a capital digit");
	line[70] = '\0';
	CHECK(!wa_read_sum_line(line, 66 + 24, sha256, name), "a zero byte in the name");
}

int
main(void)
{
	test_wal_names();
	test_histories();
	test_flat_json();
	test_source_names();
	test_sum_lines();
	printf("1..%d\n", tests);
	return failures == 0 ? 0 : 1;
}
