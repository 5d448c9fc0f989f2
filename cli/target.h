/*-------------------------------------------------------------------------
 *
 * target.h
 *	  Options that say where to recover to, of "plan" and "restore" alike.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_CLI_TARGET_H
#define WA_CLI_TARGET_H

#include "postgres_fe.h"

#include "../src/base/restore_plan.h"
#include "options.h"

enum
{
	OPTION_TO_TIME = OPTION_OWN + 500,
	OPTION_TO_LSN,
	OPTION_TO_XID,
	OPTION_TO_NAME,
	OPTION_TO_IMMEDIATE,
	OPTION_TO_END,
	OPTION_EXCLUSIVE,
	OPTION_TIMELINE,
	OPTION_BACKUP
};

/* Rows for a command's table of long options. */
#define TARGET_LONG_OPTIONS                                       \
	{"to-time", required_argument, NULL, OPTION_TO_TIME},         \
		{"to-lsn", required_argument, NULL, OPTION_TO_LSN},       \
		{"to-xid", required_argument, NULL, OPTION_TO_XID},       \
		{"to-name", required_argument, NULL, OPTION_TO_NAME},     \
		{"to-immediate", no_argument, NULL, OPTION_TO_IMMEDIATE}, \
		{"to-end", no_argument, NULL, OPTION_TO_END},             \
		{"exclusive", no_argument, NULL, OPTION_EXCLUSIVE},       \
		{"timeline", required_argument, NULL, OPTION_TIMELINE},   \
	{                                                             \
		"backup", required_argument, NULL, OPTION_BACKUP          \
	}

#define TARGET_USAGE                                                             \
	"[--to-time=TIME | --to-lsn=LSN | --to-xid=XID | --to-name=NAME |\n"         \
	"                  --to-immediate | --to-end] [--exclusive] [--timeline=N] " \
	"[--backup=LABEL]"

#define TARGET_HELP                                                                              \
	"Where to recover to:\n"                                                                     \
	"      --to-time=TIME        just before the first commit later than this\n"                 \
	"      --to-lsn=LSN          the first record that starts there or later\n"                  \
	"      --to-xid=XID          the end of this transaction\n"                                  \
	"      --to-name=NAME        a restore point\n"                                              \
	"      --to-immediate        where the backup is consistent\n"                               \
	"      --to-end              all that is archived, as of now (default)\n"                    \
	"      --exclusive           stop just before the time, LSN or transaction, not after it\n"  \
	"      --timeline=N          along this timeline (default: the one that the source is on)\n" \
	"      --backup=LABEL        from this base backup (default: the newest that serves)\n"

/* No target was given yet; then walk through cli_target_option. */
extern void cli_target_default(WaRestoreTarget *target);

/*
 * Take option 'c' if it is one of these.  '*ok' is false if its value is not
 * good, or if there are two targets: reported already, exit with EXIT_USAGE.
 * Returns whether it was one of these.
 */
extern bool cli_target_option(int c, const char *value, WaRestoreTarget *target, bool *ok);

/* All options were seen: do they fit together?  False: reported already. No target means the end. */
extern bool cli_target_check(WaRestoreTarget *target);

#endif /* WA_CLI_TARGET_H */
