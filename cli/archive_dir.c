/*-------------------------------------------------------------------------
 *
 * archive_dir.c
 *	  An archive as a bare directory.
 *
 *-------------------------------------------------------------------------
 */
#include "archive.h"

#include "common/logging.h"

Archive *
archive_dir_open(const CliOptions *options)
{
	pg_fatal("--archive is not known to this build");
}
