/*-------------------------------------------------------------------------
 *
 * base.h
 *	  What every file of src/base starts from.
 *
 * Code in src/base knows no server process, no connection and no catalog.  It
 * is compiled into the server module, into the client programs and into the
 * unit tests, so it allocates nothing and reports errors in return values.
 *
 * Copyright (c) 2026, walarchive contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_BASE_H
#define WA_BASE_H

#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "access/xlogdefs.h"

#endif /* WA_BASE_H */
