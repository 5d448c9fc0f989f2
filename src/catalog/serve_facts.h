/*-------------------------------------------------------------------------
 *
 * serve_facts.h
 *	  What the catalog has to say when archived files are served.
 *
 * All of it is called between wa_range_begin and wa_range_end, which have
 * checked that the user may read the source.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_SERVE_FACTS_H
#define WA_SERVE_FACTS_H

#include "postgres.h"

#include "../base/history.h"

/* What a plan has to do with the files that are served for it. */
typedef struct WaServePlan
{
	uint64 sysid;
	uint32 segment_size;   /* bytes */
	XLogRecPtr needed_lsn; /* bytes below are read */
	WaHistory path;
} WaServePlan;

typedef struct WaServeSegment
{
	bool known;
	const char *damage; /* palloc'd; NULL: nothing is known to be wrong */
	XLogRecPtr damage_lsn;
	char sha256[65]; /* of the finished file, empty: not known */
} WaServeSegment;

/*
 * The source's present cluster, 0: not known yet.  Raises an error if there is
 * no such source.
 */
extern uint64 wa_serve_cluster(const char *source);

/* Read a plan.  Raises an error if this source has none of that number. */
extern void wa_serve_plan(const char *source, int64 plan_id, WaServePlan *plan);

/* The newest timeline of which WAL is archived, 0: none. */
extern TimeLineID wa_serve_newest(const char *source, uint64 sysid);

extern void wa_serve_segment(const char *source, uint64 sysid, TimeLineID tli, XLogRecPtr start,
							 WaServeSegment *segment);

/*
 * Are segments of a timeline archived that start in [from, to)?  'to' 0: open.
 */
extern bool wa_serve_any_segment(const char *source, uint64 sysid, TimeLineID tli, XLogRecPtr from,
								 XLogRecPtr to);

/*
 * Is every file that was in the archive some time ago in the catalog?  Not
 * before its first look at all files.
 */
extern bool wa_serve_catalog_is_whole(const char *source);

/* The cluster that a backup is of, 0: the catalog has no such backup that is whole. */
extern uint64 wa_serve_backup_cluster(const char *source, const char *label);

/* What source_layout() returns of a source; "nulls" as in SPI. */
extern void wa_serve_layout(const char *source, Datum *values, bool *nulls, int columns);

#endif /* WA_SERVE_FACTS_H */
