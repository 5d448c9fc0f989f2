/*-------------------------------------------------------------------------
 *
 * fuzz_wal_name.c
 *	  File names found in a directory: what is taken for a WAL file has exactly
 *	  the name that we would give it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "../../src/base/source_name.h"
#include "../../src/base/wal_name.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)   \
	do                    \
	{                     \
		if (!(condition)) \
			abort();      \
	} while (0)

/* The first byte chooses the segment size. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char name[WA_WAL_NAME_LEN];
	char *input;
	uint32 segment_size;
	TimeLineID tli = 0;
	uint64 segno = 0;

	if (size < 1)
		return 0;
	segment_size = (uint32) WA_MIN_SEGMENT_SIZE << (data[0] % 11);
	MUST(wa_segment_size_is_valid(segment_size));
	input = malloc(size);
	memcpy(input, data + 1, size - 1);
	input[size - 1] = '\0';

	switch (wa_parse_wal_name(input, segment_size, &tli, &segno))
	{
		case WA_FILE_OTHER:
			MUST(tli == 0 && segno == 0);
			break;
		case WA_FILE_SEGMENT:
			wa_segment_name(name, tli, segno, segment_size);
			MUST(tli != 0 && strcmp(name, input) == 0);
			MUST(wa_segment_of(wa_segment_start(segno, segment_size), segment_size) == segno);
			break;
		case WA_FILE_PARTIAL:
			wa_partial_name(name, tli, segno, segment_size);
			MUST(tli != 0 && strcmp(name, input) == 0);
			break;
		case WA_FILE_HISTORY:
			wa_history_name(name, tli);
			MUST(tli != 0 && strcmp(name, input) == 0);
			break;
	}
	if (wa_source_name_is_valid(input))
	{
		char slot[WA_SLOT_NAME_LEN];

		MUST(strchr(input, '/') == NULL && strchr(input, '.') == NULL);
		wa_default_slot_name(slot, input);
		MUST(wa_slot_name_is_valid(slot));
	}
	free(input);
	return 0;
}
