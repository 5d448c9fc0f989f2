/*-------------------------------------------------------------------------
 *
 * sum_line.c
 *	  Lines of wal.sha256.
 *
 *-------------------------------------------------------------------------
 */
#include "base.h"

#include "hex.h"
#include "sum_line.h"

static const char hex_digit[] = "0123456789abcdef";

void
wa_write_sum_line(char *line, const uint8 *sha256, const char *name)
{
	char *p = line;

	for (int i = 0; i < WA_SHA256_LEN; i++)
	{
		*p++ = hex_digit[sha256[i] >> 4];
		*p++ = hex_digit[sha256[i] & 15];
	}
	snprintf(p, WA_SUM_LINE_LEN - 2 * WA_SHA256_LEN, "  %s\n", name);
}

bool
wa_read_sum_line(const char *text, size_t len, uint8 *sha256, char *name)
{
	const size_t digits = 2 * WA_SHA256_LEN;
	size_t name_len;
	TimeLineID tli;
	uint64 segno;
	WaWalFileKind kind;

	if (len <= digits + 2 || text[digits] != ' ' ||
		(text[digits + 1] != ' ' && text[digits + 1] != '*'))
		return false;
	name_len = len - digits - 2;
	if (name_len >= WA_WAL_NAME_LEN)
		return false;
	for (int i = 0; i < WA_SHA256_LEN; i++)
	{
		int high = wa_hex_digit(text[2 * i]);
		int low = wa_hex_digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		sha256[i] = (uint8) (high << 4 | low);
	}
	memcpy(name, text + digits + 2, name_len);
	name[name_len] = '\0';
	if (strlen(name) != name_len)
		return false;
	/* the smallest segment size allows the most names */
	kind = wa_parse_wal_name(name, WA_MIN_SEGMENT_SIZE, &tli, &segno);
	return kind == WA_FILE_SEGMENT || kind == WA_FILE_HISTORY;
}
