/*-------------------------------------------------------------------------
 *
 * history.c
 *	  Parser of timeline history files.  See history.h.
 *
 * The content comes over the network or from a disk: every line is checked,
 * and a file that breaks a rule is refused whole.
 *
 *-------------------------------------------------------------------------
 */
#include "history.h"

/* Hexadecimal digits at '*p' before 'end', at most 'max'; advances '*p'. */
static bool
take_number(const char **p, const char *end, int base, int max, uint64 *value)
{
	uint64 v = 0;
	int n = 0;

	for (; *p < end && n < max; (*p)++, n++)
	{
		int c = (unsigned char) **p;
		int digit;

		if (c >= '0' && c <= '9')
			digit = c - '0';
		else if (base == 16 && c >= 'a' && c <= 'f')
			digit = c - 'a' + 10;
		else if (base == 16 && c >= 'A' && c <= 'F')
			digit = c - 'A' + 10;
		else
			break;
		v = v * base + digit;
	}
	*value = v;
	return n > 0;
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

const char *
wa_history_parse(const char *content, size_t len, TimeLineID tli,
				 WaHistory *history)
{
	const char *end = content + len;
	const char *p = content;
	XLogRecPtr begin = 0;
	TimeLineID last = 0;

	history->count = 0;
	while (p < end)
	{
		const char *eol = memchr(p, '\n', end - p);
		uint64 number,
			hi,
			lo;

		if (eol == NULL)
			eol = end;
		while (p < eol && is_blank(*p))
			p++;
		if (p == eol || *p == '#')
		{
			p = eol < end ? eol + 1 : end;
			continue;
		}
		if (!take_number(&p, eol, 10, 10, &number) || number == 0 ||
			number > PG_UINT32_MAX)
			return "a line does not start with a timeline number";
		if (p == eol || !is_blank(*p))
			return "a timeline number is not followed by a switch point";
		while (p < eol && is_blank(*p))
			p++;
		if (!take_number(&p, eol, 16, 8, &hi) || p == eol || *p++ != '/' ||
			!take_number(&p, eol, 16, 8, &lo))
			return "a switch point is not an LSN";
		if (p < eol && !is_blank(*p))
			return "a switch point is not an LSN";
		if (number <= last || number >= tli)
			return "timeline numbers are not in ascending order below the file's own";
		/* one place is kept for the timeline itself */
		if (history->count >= WA_MAX_TIMELINES - 1)
			return "there are too many timelines";
		if ((hi << 32 | lo) < begin || (hi << 32 | lo) == 0)
			return "switch points are not in ascending order";
		history->entry[history->count].tli = (TimeLineID) number;
		history->entry[history->count].begin = begin;
		history->entry[history->count].end = hi << 32 | lo;
		history->count++;
		begin = hi << 32 | lo;
		last = (TimeLineID) number;
		p = eol < end ? eol + 1 : end;
	}
	if (tli > 1 && history->count == 0)
		return "there is no ancestor in it";
	history->entry[history->count].tli = tli;
	history->entry[history->count].begin = begin;
	history->entry[history->count].end = 0;
	history->count++;
	return NULL;
}

const WaTimelineEntry *
wa_history_find(const WaHistory *history, TimeLineID tli)
{
	for (int i = 0; i < history->count; i++)
	{
		if (history->entry[i].tli == tli)
			return &history->entry[i];
	}
	return NULL;
}

TimeLineID
wa_history_timeline_at(const WaHistory *history, XLogRecPtr lsn)
{
	for (int i = history->count - 1; i > 0; i--)
	{
		if (lsn >= history->entry[i].begin)
			return history->entry[i].tli;
	}
	return history->entry[0].tli;
}
