/*-------------------------------------------------------------------------
 *
 * verify_run.h
 *	  A verification: the work that the upkeep worker does for verify().
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_VERIFY_RUN_H
#define WA_VERIFY_RUN_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"

#include "../base/source_name.h"
#include "../base/decode_protocol.h"

typedef struct WaVerifyJob
{
	char source[WA_SOURCE_NAME_LEN];
	XLogRecPtr from_lsn; /* 0: from the first */
	XLogRecPtr to_lsn;   /* 0: to the last */
	TimeLineID tli;      /* 0: all */
	TimestampTz before;  /* only what was not verified since; 0: all */
} WaVerifyJob;

/* Called for each damaged file; 'rest' as in WaMsgDamage. */
typedef void (*WaVerifyReport)(void *arg, const WaMsgDamage *damage,
							   const char *rest);

/* Called with something that the person who asked should know, not damage. */
typedef void (*WaVerifyNotice)(void *arg, const char *message);

/*
 * Verify the files of the source's current cluster.  What is found is entered
 * in the catalog as it is found, in short transactions: an end at any time
 * leaves what has been done.  Not inside a transaction.  Raises errors.
 */
extern void wa_run_verification(const WaVerifyJob *job, WaVerifyReport report,
								WaVerifyNotice notice, void *arg);

#endif /* WA_VERIFY_RUN_H */
