/*-------------------------------------------------------------------------
 *
 * backup_plan.h
 *	  What the launcher says of a source's scheduled backups, in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_BACKUP_PLAN_H
#define WA_BACKUP_PLAN_H

#include "postgres.h"

#include "datatype/timestamp.h"

#define WA_PLAN_ERROR_LEN 1024

/* Why no backup begins now. */
typedef enum WaPlanWait
{
	WA_PLAN_STARTING,   /* one does */
	WA_PLAN_TIME,       /* none is due */
	WA_PLAN_WINDOW,     /* due; outside of its window */
	WA_PLAN_RETRY,      /* due; the last attempt failed a short while ago */
	WA_PLAN_RUNNING,    /* one runs, scheduled or not */
	WA_PLAN_PAUSED,     /* the source is not active */
	WA_PLAN_RECEIVER,   /* its WAL is not streamed, so no backup could become usable */
	WA_PLAN_NO_WORKER,  /* none could be started, see the error */
	WA_PLAN_UNREADABLE, /* what there is could not be read, see the error */
} WaPlanWait;

/* Times are 0 where they are not known. */
typedef struct WaBackupPlan
{
	uint32 generation; /* of the slot's use that it belongs to; else it says nothing */
	bool scheduled;    /* else the source has no schedule, and nothing below counts */
	TimestampTz since; /* when the schedule that this follows from was set */
	WaPlanWait wait;
	bool incremental;             /* the kind of the next one */
	TimestampTz due;              /* when it should begin, or should have begun; 0: nothing was decided yet */
	TimestampTz attempt;          /* when it can begin, as far as is known; 0: unknown */
	TimestampTz last_full;        /* start of the latest one that is there */
	TimestampTz last_incremental; /* the same */
	TimestampTz last_failure;     /* end of the latest attempt that failed */
	int failures;                 /* in a row, up to now */
	char last_error[WA_PLAN_ERROR_LEN];
} WaBackupPlan;

/* A constant, untranslated word for views. */
extern const char *wa_plan_wait_name(WaPlanWait wait);

#endif /* WA_BACKUP_PLAN_H */
