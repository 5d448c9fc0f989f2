/*-------------------------------------------------------------------------
 *
 * stats.h
 *	  Records and bytes by resource manager.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_STATS_H
#define WA_STATS_H

#include "../base/base.h"
#include "../base/wal_event.h"

typedef struct WaRmgrStats
{
	uint64 records;
	uint64 record_bytes; /* without block images */
	uint64 image_bytes;
} WaRmgrStats;

typedef struct WaStats
{
	WaRmgrStats rmgr[PG_UINT8_MAX + 1];
} WaStats;

/*
 * Count a record, of which 1024 bytes at least are there.  False if its headers
 * make no sense.
 */
extern bool wa_stats_count(WaStats *stats, const WaWalRecord *record);

#endif /* WA_STATS_H */
