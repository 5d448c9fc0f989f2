/*-------------------------------------------------------------------------
 *
 * archive.c
 *	  What the two implementations of struct Archive have in common.
 *
 *-------------------------------------------------------------------------
 */
#include "archive.h"

#include "common/logging.h"
#include "pqexpbuffer.h"

Archive *
archive_open(const CliOptions *options)
{
	return options->archive_dir != NULL ? archive_dir_open(options) : archive_server_open(options);
}

Archive *
archive_clone(Archive *archive)
{
	return archive->methods->clone(archive);
}

void
archive_close(Archive *archive)
{
	if (archive == NULL)
		return;
	pg_free(archive->error);
	pg_free(archive->hint);
	archive->methods->close(archive);
}

ArchiveStatus
archive_layout(Archive *archive, ArchiveLayout *layout)
{
	memset(layout, 0, sizeof(*layout));
	return archive->methods->layout(archive, layout);
}

ArchiveStatus
archive_plan(Archive *archive, const WaRestoreTarget *target, int hold_seconds, ArchivePlan *plan)
{
	memset(plan, 0, sizeof(*plan));
	return archive->methods->plan(archive, target, hold_seconds, plan);
}

ArchiveStatus
archive_plan_files(Archive *archive, const ArchivePlan *plan, ArchiveFile **files, int *nfiles)
{
	*files = NULL;
	*nfiles = 0;
	return archive->methods->plan_files(archive, plan, files, nfiles);
}

ArchiveStatus
archive_renew_plan(Archive *archive, const char *ref, int hold_seconds)
{
	return archive->methods->renew_plan(archive, ref, hold_seconds);
}

ArchiveStatus
archive_release_plan(Archive *archive, const char *ref)
{
	return archive->methods->release_plan(archive, ref);
}

ArchiveStatus
archive_use_plan(Archive *archive, const char *ref)
{
	return archive->methods->use_plan(archive, ref);
}

ArchiveStatus
archive_wal_file(Archive *archive, const char *name, WalFileInfo *info)
{
	memset(info, 0, sizeof(*info));
	return archive->methods->wal_file(archive, name, info);
}

ArchiveStatus
archive_read(Archive *archive, const ArchiveReader *reader)
{
	return archive->methods->read(archive, reader);
}

ArchiveStatus
archive_error(Archive *archive, ArchiveStatus status, const char *hint, const char *format, ...)
{
	PQExpBufferData text;
	va_list args;
	int needed;

	initPQExpBuffer(&text);
	do
	{
		va_start(args, format);
		needed = vsnprintf(text.data, text.maxlen, format, args);
		va_end(args);
		if (needed < 0 || !enlargePQExpBuffer(&text, (size_t) needed + 1))
			break;
	} while ((size_t) needed >= text.maxlen);
	text.data[text.maxlen - 1] = '\0';
	cli_clean_text(text.data);
	for (size_t len = strlen(text.data); len > 0 && (text.data[len - 1] == '\n' || text.data[len - 1] == ' '); len--)
		text.data[len - 1] = '\0';
	/* the new text may be made of the old one */
	hint = hint != NULL ? cli_clean_text(pg_strdup(hint)) : NULL;
	pg_free(archive->error);
	pg_free(archive->hint);
	archive->error = pg_strdup(text.data);
	archive->hint = unconstify(char *, hint);
	termPQExpBuffer(&text);
	return status;
}

int
archive_report(const Archive *archive, ArchiveStatus status)
{
	if (status == ARCHIVE_OK || status == ARCHIVE_STOPPED)
		return EXIT_DONE;
	pg_log_error("%s", archive->error);
	if (archive->hint != NULL)
		pg_log_error_hint("%s", archive->hint);
	return (status == ARCHIVE_DENIED || status == ARCHIVE_UNREACHABLE) ? EXIT_UNREACHABLE : EXIT_ARCHIVE;
}
