/*-------------------------------------------------------------------------
 *
 * restore_settings.h
 *	  What a restored data directory is told: where to stop, and to leave the
 *	  primary and its surroundings alone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_RESTORE_SETTINGS_H
#define WA_RESTORE_SETTINGS_H

#include "../src/base/base.h"

typedef struct RestoreSettings
{
	const char *data;            /* the data directory */
	const char *source;          /* its source's name */
	const char *plan_settings;   /* lines of the plan: recovery_target_... and what hot standby needs */
	const char *restore_command; /* as a value, unquoted */
	const char *target_action;   /* pause, promote or shutdown */
	bool as_primary;             /* keep what the primary had */
	int port;                    /* 0: as it was */
	int major;                   /* of PostgreSQL */
	const char *preload;         /* libraries for shared_preload_libraries, NULL: choose */
	const char *libdir;          /* where this machine has PostgreSQL's libraries, NULL: not known */
} RestoreSettings;

/* Something that whoever restores should know; called with a line of text. */
typedef void (*SettingsNote)(void *arg, const char *text);

/*
 * Review the configuration files of the data directory, and write what the
 * restored copy needs to postgresql.auto.conf, recovery.signal included.
 * Returns false with a message (malloc'd) in '*problem' if a file can't be
 * read or written.
 */
extern bool restore_write_settings(const RestoreSettings *settings, SettingsNote note, void *arg,
								   char **problem);

/*
 * After the recovery has ended: takes out what was for it alone.  The rest
 * stays.
 */
extern bool restore_end_settings(const char *data, char **problem);

#endif /* WA_RESTORE_SETTINGS_H */
