/*-------------------------------------------------------------------------
 *
 * walarchive.c
 *	  The front door: settings, shared memory and launcher registration.
 *
 * Loaded by shared_preload_libraries into the postmaster, and by CREATE
 * EXTENSION or a function call into a session.  Only the former makes shared
 * memory and starts the launcher; in the latter the SQL functions say that the
 * library has to be preloaded.
 *
 * Copyright (c) 2026, walarchive contributors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/guc.h"

#include "src/capture/launcher.h"
#include "src/settings.h"
#include "src/state/archive_dir.h"
#include "src/state/fault_point.h"
#include "src/state/shmem.h"

PG_MODULE_MAGIC;

char *wa_directory = NULL;
char *wa_database = NULL;
int wa_max_sources = 16;
int wa_max_indexers = 2;
int wa_status_interval = 10000;
int wa_receive_timeout = 30000;
int wa_min_free_space = 512;

PGDLLEXPORT void _PG_init(void);

/*
 * Checked at start and in each session's own way: a directory inside the data
 * directory is refused where it is used, because DataDir is not known yet
 * when the configuration is read.
 */
static bool
check_directory(char **newval, void **extra, GucSource source)
{
	if (*newval != NULL && (*newval)[0] != '\0' && !is_absolute_path(*newval))
	{
		GUC_check_errdetail("\"walarchive.directory\" must be an absolute path.");
		return false;
	}
	if (*newval != NULL)
		canonicalize_path(*newval);
	return true;
}

static void
define_settings(void)
{
	DefineCustomStringVariable("walarchive.directory",
							   "Folder in which the archives of all sources are kept.",
							   "Required, absolute, and outside the data directory.",
							   &wa_directory, "", PGC_POSTMASTER, 0,
							   check_directory, NULL, NULL);
	DefineCustomStringVariable("walarchive.database",
							   "Database that holds the extension and its catalog.",
							   NULL, &wa_database, "postgres", PGC_POSTMASTER, 0,
							   NULL, NULL, NULL);
	DefineCustomIntVariable("walarchive.max_sources",
							"Maximum number of sources.",
							"Each running source uses a background worker: see max_worker_processes.",
							&wa_max_sources, 16, 1, 1024, PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("walarchive.max_indexers",
							"Maximum number of workers that keep the catalog.",
							"0: none; WAL is archived, and neither decoded nor catalogued.", &wa_max_indexers, 2, 0, 64, PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("walarchive.status_interval",
							"Longest time between two status messages to a server.",
							"Flushed WAL is confirmed at once, independently of this.",
							&wa_status_interval, 10000, 100, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("walarchive.receive_timeout",
							"Time without any message after which a connection is given up.",
							"At half of it the server is asked for a sign of life.  0 disables it.",
							&wa_receive_timeout, 30000, 0, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("walarchive.min_free_space",
							"Receivers stop while the archive's file system has less room than this.",
							"0 disables it.",
							&wa_min_free_space, 512, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MB, NULL, NULL, NULL);
#ifdef WA_FAULT_POINTS
	wa_fault_init();
#endif
	MarkGUCPrefixReserved("walarchive");
}

void
_PG_init(void)
{
	/* pg_upgrade starts both servers: nothing may stream or write then */
	if (IsBinaryUpgrade)
		return;
	if (!process_shared_preload_libraries_in_progress)
		return;

	define_settings();
	wa_shmem_init();
	wa_register_launcher();

	if (max_worker_processes < wa_max_sources + wa_max_indexers + WA_OTHER_WORKERS)
		ereport(LOG,
				(errmsg("max_worker_processes is too low for walarchive.max_sources"),
				 errdetail("%d sources, %d indexers, a launcher, an observer, an upkeep worker and a base backup need %d background workers, and \"max_worker_processes\" is %d.",
						   wa_max_sources, wa_max_indexers,
						   wa_max_sources + wa_max_indexers + WA_OTHER_WORKERS, max_worker_processes),
				 errhint("Set \"max_worker_processes\" to at least %d, more if other extensions use workers.",
						 wa_max_sources + wa_max_indexers + WA_OTHER_WORKERS)));
}
