/*-------------------------------------------------------------------------
 *
 * wal_event_internal.h
 *	  What wal_event.c and wal_event_xact.c share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_WAL_EVENT_INTERNAL_H
#define WA_WAL_EVENT_INTERNAL_H

#include "wal_bytes.h"
#include "wal_event.h"

/*
 * The main data of a record, as far as it is there: '*len' bytes of '*full'.
 * NULL if the record makes no sense, or if not even its headers are there.
 */
extern const uint8 *wa_main_data(const WaWalRecord *record, uint32 *len, uint32 *full);

/* Is this RM_XACT record an end or a prepare of a transaction? */
extern bool wa_xact_record(uint8 info);

/* Decode such a record. */
extern WaEventKind wa_xact_event(const WaWalRecord *record, WaWalEvent *event);

#endif /* WA_WAL_EVENT_INTERNAL_H */
