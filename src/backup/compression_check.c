/*-------------------------------------------------------------------------
 *
 * compression_check.c
 *	  What schedule_backups() asks of C: whether take_backup would take this
 *	  compression.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "../state/backup_slot.h"
#include "codec.h"

PG_FUNCTION_INFO_V1(wa_check_compression);

/* walarchive.check_compression(compression) */
Datum
wa_check_compression(PG_FUNCTION_ARGS)
{
	char *wanted = text_to_cstring(PG_GETARG_TEXT_PP(0));
	WaCompression compression;
	char *problem = strlen(wanted) < WA_BACKUP_OPTION_LEN ? wa_parse_compression(wanted, &compression)
														  : pstrdup("it is too long");

	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid compression \"%s\": %s", wanted, problem),
				 errhint("Write it as for pg_basebackup, for example \"zstd\", \"client-zstd:level=3,workers=2\", \"server-lz4\" or \"none\".")));
	PG_RETURN_VOID();
}
