/*-------------------------------------------------------------------------
 *
 * fuzz_history.c
 *	  Timeline history files from a hostile server: the parser reads within
 *	  its bounds, and what it accepts is a path in ascending order.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "../../src/base/history.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)   \
	do                    \
	{                     \
		if (!(condition)) \
			abort();      \
	} while (0)

/* The first four bytes are the timeline, the rest is its file. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static WaHistory history;
	TimeLineID tli;

	if (size < 4)
		return 0;
	memcpy(&tli, data, 4);
	if (tli == 0)
		return 0;
	if (wa_history_parse((const char *) data + 4, size - 4, tli, &history) != NULL)
		return 0;
	MUST(history.count >= 1 && history.count <= WA_MAX_TIMELINES);
	MUST(history.entry[0].begin == 0);
	MUST(history.entry[history.count - 1].tli == tli && history.entry[history.count - 1].end == 0);
	for (int i = 1; i < history.count; i++)
	{
		const WaTimelineEntry *entry = &history.entry[i];

		MUST(entry->tli > entry[-1].tli && entry->begin == entry[-1].end);
		MUST(entry->end == 0 || entry->end >= entry->begin);
		MUST(wa_history_find(&history, entry->tli) == entry);
		MUST(wa_history_timeline_at(&history, entry->begin) >= entry->tli);
		MUST(wa_history_timeline_at(&history, entry->begin - 1) < entry->tli);
	}
	return 0;
}
