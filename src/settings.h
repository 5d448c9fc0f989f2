/*-------------------------------------------------------------------------
 *
 * settings.h
 *	  The module's settings (GUCs).  Defined in walarchive.c; the directory
 *	  is in state/archive_dir.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_SETTINGS_H
#define WA_SETTINGS_H

#include "postgres.h"

extern PGDLLIMPORT char *wa_database;      /* walarchive.database */
extern PGDLLIMPORT int wa_max_sources;     /* walarchive.max_sources */
extern PGDLLIMPORT int wa_max_indexers;    /* walarchive.max_indexers */
extern PGDLLIMPORT int wa_status_interval; /* ms */
extern PGDLLIMPORT int wa_receive_timeout; /* ms, 0 disables */
extern PGDLLIMPORT int wa_min_free_space;  /* MB, 0 disables */

/* Background workers besides those of sources and indexers: launcher, observer, upkeep, a base backup. */
#define WA_OTHER_WORKERS 4

#endif /* WA_SETTINGS_H */
