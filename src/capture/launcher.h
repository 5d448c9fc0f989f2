/*-------------------------------------------------------------------------
 *
 * launcher.h
 *	  The launcher process.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_LAUNCHER_H
#define WA_LAUNCHER_H

#include "postgres.h"

/* Called by _PG_init while preloading. */
extern void wa_register_launcher(void);

extern PGDLLEXPORT void wa_launcher_main(Datum main_arg);

#endif /* WA_LAUNCHER_H */
