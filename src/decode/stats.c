/*-------------------------------------------------------------------------
 *
 * stats.c
 *	  Records and bytes by resource manager.  See stats.h.
 *
 *-------------------------------------------------------------------------
 */
#include "stats.h"

bool
wa_stats_count(WaStats *stats, const WaWalRecord *record)
{
	WaRmgrStats *s = &stats->rmgr[record->rmid];
	WaRecordParts parts;

	if (!wa_record_parts(record, &parts))
		return false;
	s->records++;
	s->record_bytes += record->total_len - parts.image_bytes;
	s->image_bytes += parts.image_bytes;
	return true;
}
