/*-------------------------------------------------------------------------
 *
 * target.c
 *	  Options that say where to recover to.
 *
 *-------------------------------------------------------------------------
 */
#include "target.h"

#include "access/transam.h"

/* No kind of target has this number: none was given. */
#define TARGET_NOT_GIVEN ((WaTargetKind) -1)

void
cli_target_default(WaRestoreTarget *target)
{
	memset(target, 0, sizeof(*target));
	target->kind = TARGET_NOT_GIVEN;
	target->inclusive = true;
}

bool
cli_target_option(int c, const char *value, WaRestoreTarget *target, bool *ok)
{
	WaTargetKind kind;

	*ok = true;
	switch (c)
	{
		case OPTION_TO_TIME:
			kind = WA_TARGET_TIME;
			*ok = cli_parse_time("--to-time", value, &target->time);
			break;
		case OPTION_TO_LSN:
			kind = WA_TARGET_LSN;
			*ok = cli_parse_lsn("--to-lsn", value, &target->lsn);
			break;
		case OPTION_TO_XID:
			kind = WA_TARGET_XID;
			*ok = cli_parse_uint32("--to-xid", value, FirstNormalTransactionId, &target->xid);
			break;
		case OPTION_TO_NAME:
			kind = WA_TARGET_NAME;
			target->name = pg_strdup(value);
			break;
		case OPTION_TO_IMMEDIATE:
			kind = WA_TARGET_IMMEDIATE;
			break;
		case OPTION_TO_END:
			kind = WA_TARGET_END;
			break;
		case OPTION_EXCLUSIVE:
			target->inclusive = false;
			return true;
		case OPTION_TIMELINE:
			*ok = cli_parse_uint32("--timeline", value, 1, &target->timeline);
			return true;
		case OPTION_BACKUP:
			target->backup = pg_strdup(value);
			return true;
		default:
			return false;
	}
	if (*ok && target->kind != TARGET_NOT_GIVEN)
	{
		(void) cli_usage_error("there is more than one target");
		*ok = false;
	}
	target->kind = kind;
	return true;
}

bool
cli_target_check(WaRestoreTarget *target)
{
	if (!target->inclusive && target->kind != WA_TARGET_TIME &&
		target->kind != WA_TARGET_LSN && target->kind != WA_TARGET_XID)
	{
		(void) cli_usage_error("--exclusive goes with --to-time, --to-lsn or --to-xid");
		return false;
	}
	if (target->kind == TARGET_NOT_GIVEN)
		target->kind = WA_TARGET_END;
	return true;
}
