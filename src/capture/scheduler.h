/*-------------------------------------------------------------------------
 *
 * scheduler.h
 *	  The launcher's part that starts scheduled base backups.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_SCHEDULER_H
#define WA_SCHEDULER_H

#include "postgres.h"

#include "../state/source_file.h"

/* What is remembered of the sources between two wakes; may be lost. */
typedef struct WaScheduler WaScheduler;

/* For 'max_sources' slots, in TopMemoryContext. */
extern WaScheduler *wa_make_scheduler(int max_sources);

/*
 * Look whether a backup of the source in slot 'index' is due, start it if so,
 * and show in the slot what comes next.  Allocates in the current context.
 * Raises no errors but those that end the process: what goes wrong is logged
 * and shown.
 */
extern void wa_schedule_backups(WaScheduler *scheduler, int index,
								const WaSourceSettings *settings, TimestampTz now);

#endif /* WA_SCHEDULER_H */
