/*-------------------------------------------------------------------------
 *
 * wal_files.c
 *	  The files of a wal directory, opened for reading alone.  See
 *	  wal_files.h.
 *
 *-------------------------------------------------------------------------
 */
#include "wal_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef O_DIRECTORY
#define O_DIRECTORY 0
#endif

bool
wa_dir_open(WaWalDir *dir, const char *path, uint32 segment_size,
			uint64 system_identifier, char *text)
{
	memset(dir, 0, sizeof(*dir));
	dir->fd = -1;
	if (strlcpy(dir->path, path, sizeof(dir->path)) >= sizeof(dir->path))
	{
		strlcpy(text, "the directory's name is too long", WA_TEXT_LEN);
		return false;
	}
	dir->segment_size = segment_size;
	dir->system_identifier = system_identifier;
	dir->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir->fd < 0)
	{
		snprintf(text, WA_TEXT_LEN, "could not open directory \"%s\": %s", path, strerror(errno));
		return false;
	}
	return true;
}

void
wa_dir_close(WaWalDir *dir)
{
	if (dir->fd >= 0)
		close(dir->fd);
	dir->fd = -1;
}

WaFileStatus
wa_file_error(int error, const char *what, WaDamage *damage)
{
	snprintf(damage->text, sizeof(damage->text), "%s: %s", what, strerror(error));
	switch (error)
	{
		case EACCES:
		case EPERM:
		case EMFILE:
		case ENFILE:
		case ENOMEM:
		case ENOTDIR:
		case ESTALE:
			/* true of many files at once, or of us; the file may be in order */
			return WA_FILE_FAILED;
	}
	damage->kind = WA_DAMAGE_UNREADABLE;
	return WA_FILE_DAMAGED;
}

WaFileStatus
wa_file_open(const WaWalDir *dir, const char *name, WaWalFile *file,
			 WaDamage *damage)
{
	struct stat st;
	WaFileStatus status;

	file->fd = -1;
	file->size = 0;
	strlcpy(file->name, name, sizeof(file->name));
	memset(damage, 0, sizeof(*damage));
	damage->offset = -1;
	strlcpy(damage->name, name, sizeof(damage->name));

	/* O_NONBLOCK: a FIFO of this name would block us here */
	file->fd = openat(dir->fd, name,
					  O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | (dir->follow_links ? 0 : O_NOFOLLOW));
	if (file->fd < 0)
	{
		int error = errno;

		if (error == ENOENT)
			return WA_FILE_MISSING;
		if (error == ELOOP && !dir->follow_links)
		{
			damage->kind = WA_DAMAGE_UNREADABLE;
			strlcpy(damage->text, "is a symbolic link, not a file", sizeof(damage->text));
			return WA_FILE_DAMAGED;
		}
		return wa_file_error(error, "could not open file", damage);
	}
	if (fstat(file->fd, &st) != 0)
		status = wa_file_error(errno, "could not stat file", damage);
	else if (!S_ISREG(st.st_mode))
	{
		damage->kind = WA_DAMAGE_UNREADABLE;
		strlcpy(damage->text, S_ISDIR(st.st_mode) ? "is a directory, not a file" : "is not a regular file",
				sizeof(damage->text));
		status = WA_FILE_DAMAGED;
	}
	else
	{
		file->size = st.st_size;
#if defined(POSIX_FADV_SEQUENTIAL)
		(void) posix_fadvise(file->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
#endif
		return WA_FILE_OK;
	}
	wa_file_close(file);
	return status;
}

WaFileStatus
wa_segment_open(const WaWalDir *dir, TimeLineID tli, XLogRecPtr start,
				WaWalFile *file, WaDamage *damage)
{
	uint64 segno = wa_segment_of(start, dir->segment_size);
	char name[WA_WAL_NAME_LEN];
	WaFileStatus status = WA_FILE_MISSING;

	/* a partial file that is gone may just have got its final name */
	for (int i = 0; i < 3 && status == WA_FILE_MISSING; i++)
	{
		if (i == 1)
			wa_partial_name(name, tli, segno, dir->segment_size);
		else
			wa_segment_name(name, tli, segno, dir->segment_size);
		status = wa_file_open(dir, name, file, damage);
		file->partial = i == 1;
	}
	file->tli = tli;
	file->start = start;
	damage->tli = tli;
	damage->segment_lsn = start;
	return status;
}

ssize_t
wa_file_read(const WaWalFile *file, void *buffer, size_t len, int64 offset)
{
	size_t got = 0;

	while (got < len)
	{
		ssize_t n = pread(file->fd, (char *) buffer + got, len - got, offset + got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		got += n;
	}
	return got;
}

void
wa_file_close(WaWalFile *file)
{
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
}

void
wa_damage_at(const WaWalDir *dir, TimeLineID tli, XLogRecPtr lsn,
			 WaDamageKind kind, WaDamage *damage)
{
	uint64 segno = wa_segment_of(lsn, dir->segment_size);
	struct stat st;

	memset(damage, 0, sizeof(*damage));
	damage->kind = kind;
	damage->tli = tli;
	damage->segment_lsn = wa_segment_floor(lsn, dir->segment_size);
	damage->lsn = lsn;
	damage->offset = wa_segment_offset(lsn, dir->segment_size);
	wa_segment_name(damage->name, tli, segno, dir->segment_size);
	if (fstatat(dir->fd, damage->name, &st, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT)
	{
		char partial[WA_WAL_NAME_LEN];

		wa_partial_name(partial, tli, segno, dir->segment_size);
		if (fstatat(dir->fd, partial, &st, AT_SYMLINK_NOFOLLOW) == 0)
			strlcpy(damage->name, partial, sizeof(damage->name));
	}
}

/*
 * Is the page behind the first one of an unknown major, too?  A header that
 * stands alone with its magic is damaged.
 */
static bool
magic_is_repeated(const WaWalFile *file, const WaLongHeader *header)
{
	uint16 magic;

	if (wa_file_read(file, &magic, sizeof(magic), header->block_size) != sizeof(magic))
		return true;
	return magic == header->magic || magic == 0;
}

WaFileStatus
wa_segment_header(const WaWalDir *dir, const WaWalFile *file, XLogRecPtr begin,
				  WaLongHeader *header, WaDamage *damage)
{
	uint8 page[WA_LONG_PAGE_HEADER];
	ssize_t n;
	const char *problem;

	wa_damage_at(dir, file->tli, file->start, WA_DAMAGE_FOREIGN, damage);
	strlcpy(damage->name, file->name, sizeof(damage->name));
	n = wa_file_read(file, page, sizeof(page), 0);
	if (n < 0)
		return wa_file_error(errno, "could not read file", damage);
	if (n < (ssize_t) sizeof(page))
	{
		damage->kind = WA_DAMAGE_SIZE;
		damage->lsn += n;
		damage->offset = n;
		if (n == 0)
			strlcpy(damage->text, "is empty", sizeof(damage->text));
		else
			snprintf(damage->text, sizeof(damage->text), "has only %zd bytes", n);
		return WA_FILE_DAMAGED;
	}
	problem = wa_read_long_header(page, sizeof(page), header);
	if (problem != NULL)
	{
		damage->kind = WA_DAMAGE_RECORD;
		strlcpy(damage->text, problem, sizeof(damage->text));
		return WA_FILE_DAMAGED;
	}
	if (dir->system_identifier != 0 && header->system_identifier != dir->system_identifier)
	{
		damage->lsn += 24;
		snprintf(damage->text, sizeof(damage->text),
				 "is of another cluster: its system identifier is " UINT64_FORMAT " instead of " UINT64_FORMAT,
				 header->system_identifier, dir->system_identifier);
	}
	else if (header->segment_size != dir->segment_size)
	{
		damage->lsn += 32;
		snprintf(damage->text, sizeof(damage->text), "has segment size %u instead of %u",
				 header->segment_size, dir->segment_size);
	}
	else if (header->page_lsn != file->start)
	{
		damage->lsn += 8;
		snprintf(damage->text, sizeof(damage->text), "begins at %X/%X by its page header, not at %X/%X",
				 LSN_FORMAT_ARGS(header->page_lsn), LSN_FORMAT_ARGS(file->start));
	}
	else if (header->tli > file->tli ||
			 (header->tli < file->tli && begin != 0 && file->start >= begin))
	{
		damage->lsn += 4;
		snprintf(damage->text, sizeof(damage->text), "is of timeline %u by its page header", header->tli);
	}
	else if (wa_wal_major(header->magic) != 0)
		return WA_FILE_OK;
	else if (magic_is_repeated(file, header))
	{
		snprintf(damage->text, sizeof(damage->text),
				 "page magic %04X is not that of a known PostgreSQL version", header->magic);
		return WA_FILE_UNKNOWN_MAJOR;
	}
	else
	{
		damage->kind = WA_DAMAGE_RECORD;
		snprintf(damage->text, sizeof(damage->text),
				 "page magic %04X is not that of a known PostgreSQL version, nor that of the next page", header->magic);
	}
	damage->offset = wa_segment_offset(damage->lsn, dir->segment_size);
	return WA_FILE_DAMAGED;
}
