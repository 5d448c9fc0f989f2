/*-------------------------------------------------------------------------
 *
 * wal_name.c
 *	  Names of WAL segments, partial segments and history files.
 *
 * Pure functions.  See wal_name.h for the contract.
 *
 *-------------------------------------------------------------------------
 */
#include "wal_name.h"

bool
wa_segment_size_is_valid(uint64 segment_size)
{
	return segment_size >= WA_MIN_SEGMENT_SIZE &&
		   segment_size <= WA_MAX_SEGMENT_SIZE &&
		   (segment_size & (segment_size - 1)) == 0;
}

uint64
wa_segment_of(XLogRecPtr lsn, uint32 segment_size)
{
	return lsn / segment_size;
}

XLogRecPtr
wa_segment_start(uint64 segno, uint32 segment_size)
{
	return segno * segment_size;
}

XLogRecPtr
wa_segment_floor(XLogRecPtr lsn, uint32 segment_size)
{
	return lsn - lsn % segment_size;
}

uint32
wa_segment_offset(XLogRecPtr lsn, uint32 segment_size)
{
	return (uint32) (lsn % segment_size);
}

void
wa_segment_name(char *name, TimeLineID tli, uint64 segno, uint32 segment_size)
{
	uint64 per_file = UINT64CONST(0x100000000) / segment_size;

	snprintf(name, WA_WAL_NAME_LEN, "%08X%08X%08X", tli,
			 (uint32) (segno / per_file), (uint32) (segno % per_file));
}

void
wa_partial_name(char *name, TimeLineID tli, uint64 segno, uint32 segment_size)
{
	wa_segment_name(name, tli, segno, segment_size);
	strcpy(name + 24, ".partial");
}

void
wa_history_name(char *name, TimeLineID tli)
{
	snprintf(name, WA_WAL_NAME_LEN, "%08X.history", tli);
}

/* Eight upper-case hexadecimal digits at 'p', as PostgreSQL writes them. */
static bool
parse_hex8(const char *p, uint32 *value)
{
	uint32 v = 0;

	for (int i = 0; i < 8; i++)
	{
		if (p[i] >= '0' && p[i] <= '9')
			v = v << 4 | (uint32) (p[i] - '0');
		else if (p[i] >= 'A' && p[i] <= 'F')
			v = v << 4 | (uint32) (p[i] - 'A' + 10);
		else
			return false;
	}
	*value = v;
	return true;
}

WaWalFileKind
wa_parse_wal_name(const char *name, uint32 segment_size,
				  TimeLineID *tli, uint64 *segno)
{
	size_t len = strlen(name);
	uint64 per_file = UINT64CONST(0x100000000) / segment_size;
	uint32 t,
		log,
		seg;

	if (len < 8 || !parse_hex8(name, &t) || t == 0)
		return WA_FILE_OTHER;
	if (strcmp(name + 8, ".history") == 0)
	{
		*tli = t;
		return WA_FILE_HISTORY;
	}
	if (len < 24 || !parse_hex8(name + 8, &log) || !parse_hex8(name + 16, &seg))
		return WA_FILE_OTHER;
	if (seg >= per_file)
		return WA_FILE_OTHER;
	if (name[24] != '\0' && strcmp(name + 24, ".partial") != 0)
		return WA_FILE_OTHER;
	*tli = t;
	*segno = (uint64) log * per_file + seg;
	return name[24] == '\0' ? WA_FILE_SEGMENT : WA_FILE_PARTIAL;
}
