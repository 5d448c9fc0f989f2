/*-------------------------------------------------------------------------
 *
 * fetch_file.c
 *	  A WAL segment or history on its way: written under another name, and
 *	  checked before it gets its own.
 *
 * What recovery does with a file that is not what its name says ranges from
 * stopping to promoting early.  So the header of every page has to be of this
 * place, the first one of this cluster, and all of it must have the checksum that
 * the archive host knows.  The records' own checksums are recovery's to check.
 *
 *-------------------------------------------------------------------------
 */
#include "fetch_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/sha2.h"

#include "../src/base/wal_bytes.h"
#include "../src/base/wal_name.h"
#include "../src/base/wal_reader.h"

/* Longer ones are refused by the archive, too. */
#define MAX_HISTORY_LEN (1024 * 1024)

/* Larger writes cost less: the file system then takes memory in larger pieces. */
#define BUFFER_LEN (256 * 1024)

static void
close_file(FetchFile *file)
{
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
	pg_cryptohash_free(file->sha256);
	file->sha256 = NULL;
	pg_free(file->history);
	file->history = NULL;
	pg_free(file->buffer);
	file->buffer = NULL;
}

void
fetch_file_drop(FetchFile *file)
{
	if (file->fd >= 0)
		(void) unlink(file->path);
	close_file(file);
}

static bool
drop_with_error(FetchFile *file, const char *what, char *text)
{
	snprintf(text, FETCH_TEXT_LEN, "could not %s file \"%s\": %s", what, file->path, strerror(errno));
	fetch_file_drop(file);
	return false;
}

bool
fetch_file_begin(FetchFile *file, const char *name, const char *path, const ArchiveLayout *layout,
				 const WalFileInfo *info, char *text)
{
	uint64 segno = 0;

	memset(file, 0, sizeof(*file));
	file->fd = -1;
	strlcpy(file->path, path, sizeof(file->path));
	file->info = *info;
	file->system_identifier = layout->system_identifier;
	file->segment_size = layout->segment_size;
	file->segment = wa_parse_wal_name(name, layout->segment_size, &file->tli, &segno) == WA_FILE_SEGMENT;
	file->start = file->segment ? wa_segment_start(segno, layout->segment_size) : 0;
	if (file->segment ? info->size != layout->segment_size : (info->size == 0 || info->size > MAX_HISTORY_LEN))
	{
		snprintf(text, FETCH_TEXT_LEN, "file \"%s\" has " UINT64_FORMAT " bytes in the archive", name, info->size);
		return false;
	}
	(void) unlink(path);
	file->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
	if (file->fd < 0)
		return drop_with_error(file, "create", text);
	if (!file->segment)
		file->history = pg_malloc(info->size);
	if (info->sha256[0] != '\0')
	{
		file->sha256 = pg_cryptohash_create(PG_SHA256);
		if (file->sha256 == NULL || pg_cryptohash_init(file->sha256) < 0)
		{
			snprintf(text, FETCH_TEXT_LEN, "could not compute checksums");
			fetch_file_drop(file);
			return false;
		}
	}
	return true;
}

/* The headers of the pages that begin in these bytes; NULL, or what is wrong. */
static const char *
check_pages(FetchFile *file, const char *bytes, size_t len)
{
	uint64 offset = file->written;

	if (offset == 0)
	{
		WaLongHeader header;
		const char *problem = wa_read_long_header(bytes, len, &header);

		if (problem != NULL)
			return problem;
		if (header.system_identifier != file->system_identifier)
			return "it is of another cluster";
		if (header.segment_size != file->segment_size)
			return "its segment size is another one";
		if (header.page_lsn != file->start)
			return "its first page is of another place";
		if (header.tli > file->tli)
			return "its first page is of another timeline";
		file->block_size = header.block_size;
		file->magic = header.magic;
	}
	if (file->block_size == 0)
		return NULL;
	/* behind a switch, and behind what is flushed, there are only zeros */
	for (size_t at = (size_t) ((file->block_size - offset % file->block_size) % file->block_size);
		 at + WA_SHORT_PAGE_HEADER <= len; at += file->block_size)
	{
		const char *page = bytes + at;
		uint16 magic;
		TimeLineID tli;
		XLogRecPtr lsn;

		memcpy(&magic, page, sizeof(magic));
		memcpy(&tli, page + 4, sizeof(tli));
		memcpy(&lsn, page + 8, sizeof(lsn));
		if (magic == file->magic && lsn == file->start + offset + at && tli <= file->tli)
			continue;
		if (!wa_all_zero((const uint8 *) page, WA_SHORT_PAGE_HEADER))
			return "a page's header is of another place, timeline or version";
	}
	return NULL;
}

/* To the file, and into its checksum. */
static bool
put_bytes(FetchFile *file, const char *bytes, size_t len, bool *local, char *text)
{
	size_t done = 0;

	*local = true;
	if (file->sha256 != NULL && pg_cryptohash_update(file->sha256, (const uint8 *) bytes, len) < 0)
	{
		snprintf(text, FETCH_TEXT_LEN, "could not compute checksums");
		fetch_file_drop(file);
		return false;
	}
	while (done < len)
	{
		ssize_t n = write(file->fd, bytes + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			if (n == 0)
				errno = ENOSPC;
			return drop_with_error(file, "write", text);
		}
		done += (size_t) n;
	}
	*local = false;
	return true;
}

bool
fetch_file_write(FetchFile *file, const char *bytes, size_t len, bool *local, char *text)
{
	*local = false;
	if (file->written + len > file->info.size)
	{
		snprintf(text, FETCH_TEXT_LEN, "more bytes than expected");
		fetch_file_drop(file);
		return false;
	}
	if (file->segment)
	{
		const char *problem = check_pages(file, bytes, len);

		if (problem != NULL)
		{
			snprintf(text, FETCH_TEXT_LEN, "%s", problem);
			fetch_file_drop(file);
			return false;
		}
	}
	else
		memcpy(file->history + file->written, bytes, len);
	file->written += len;
	while (len > 0)
	{
		size_t n = Min(len, BUFFER_LEN - file->buffered);

		if (file->buffered == 0 && len >= BUFFER_LEN)
			return put_bytes(file, bytes, len, local, text);
		if (file->buffer == NULL)
			file->buffer = pg_malloc(BUFFER_LEN);
		memcpy(file->buffer + file->buffered, bytes, n);
		file->buffered += n;
		bytes += n;
		len -= n;
		if (file->buffered == BUFFER_LEN)
		{
			file->buffered = 0;
			if (!put_bytes(file, file->buffer, BUFFER_LEN, local, text))
				return false;
		}
	}
	return true;
}

bool
fetch_file_end(FetchFile *file, bool *local, char *text)
{
	*local = false;
	if (file->written != file->info.size)
	{
		snprintf(text, FETCH_TEXT_LEN, UINT64_FORMAT " bytes instead of " UINT64_FORMAT, file->written,
				 file->info.size);
		fetch_file_drop(file);
		return false;
	}
	if (file->buffered > 0 && !put_bytes(file, file->buffer, file->buffered, local, text))
		return false;
	if (file->sha256 != NULL)
	{
		uint8 digest[PG_SHA256_DIGEST_LENGTH];
		char hex[ARCHIVE_SHA256_LEN];

		if (pg_cryptohash_final(file->sha256, digest, sizeof(digest)) < 0)
			hex[0] = '\0';
		for (int i = 0; i < PG_SHA256_DIGEST_LENGTH; i++)
			snprintf(hex + 2 * i, 3, "%02x", digest[i]);
		if (strcmp(hex, file->info.sha256) != 0)
		{
			snprintf(text, FETCH_TEXT_LEN, "its SHA-256 is %s instead of %s", hex, file->info.sha256);
			fetch_file_drop(file);
			return false;
		}
	}
	if (!file->segment)
	{
		WaHistory *history = pg_malloc(sizeof(WaHistory));
		const char *problem = wa_history_parse(file->history, file->info.size, file->tli, history);

		pg_free(history);
		if (problem != NULL)
		{
			snprintf(text, FETCH_TEXT_LEN, "%s", problem);
			fetch_file_drop(file);
			return false;
		}
	}
	if (close(file->fd) != 0)
	{
		*local = true;
		file->fd = -1;
		(void) unlink(file->path);
		snprintf(text, FETCH_TEXT_LEN, "could not close file \"%s\": %s", file->path, strerror(errno));
		close_file(file);
		return false;
	}
	file->fd = -1;
	close_file(file);
	return true;
}
