/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  The one place for differences between the versions of the host.
 *
 * Everything is given under its newest name.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_COMPAT_H
#define WA_COMPAT_H

#include "postgres.h"

#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/memutils.h"

#if PG_VERSION_NUM < 150000
#error "walarchive needs PostgreSQL 15 or newer"
#endif

#if PG_VERSION_NUM < 170000
/* 17 replaced MyProc->pgprocno by a global, and added the accessor */
#define MyProcNumber (MyProc->pgprocno)
#ifndef GetPGProcByNumber
#define GetPGProcByNumber(n) (&ProcGlobal->allProcs[(n)])
#endif
#endif

/* 18 put the specifier before the declaration, and dropped the old macro */
#if PG_VERSION_NUM < 180000
#define pg_noreturn __attribute__((noreturn))
#endif

/* 17 gave wait event sets a resource owner instead of a memory context */
#if PG_VERSION_NUM >= 170000
#define wa_create_wait_event_set(n) CreateWaitEventSet(NULL, (n))
#else
#define wa_create_wait_event_set(n) CreateWaitEventSet(TopMemoryContext, (n))
#endif

#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif

#endif /* WA_COMPAT_H */
