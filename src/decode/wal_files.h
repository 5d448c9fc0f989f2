/*-------------------------------------------------------------------------
 *
 * wal_files.h
 *	  The files of a wal directory, opened for reading alone.
 *
 * Nothing found in the directory is trusted: only names that are formed here
 * are opened, and only regular files; neither a link nor a FIFO of that name
 * leads anywhere or blocks.  A file may be renamed (".partial" to its final
 * name) or grow while it is read, but never shrinks or is overwritten in what
 * the archive has confirmed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_WAL_FILES_H
#define WA_WAL_FILES_H

#include "../base/base.h"
#include "../base/decode_protocol.h"
#include "../base/wal_reader.h"

#define WA_TEXT_LEN 512

/* Bytes that are read at a time; a multiple of every block size. */
#define WA_CHUNK_SIZE (256 * 1024)

typedef struct WaWalDir
{
	int fd;
	uint32 segment_size;      /* bytes */
	uint64 system_identifier; /* 0: any */
	bool follow_links;        /* for people, who know what they link to */
	char path[MAXPGPATH];
} WaWalDir;

typedef struct WaWalFile
{
	int fd; /* -1: not open */
	bool partial;
	TimeLineID tli;
	XLogRecPtr start; /* of the segment */
	int64 size;       /* bytes, when it was opened */
	char name[WA_WAL_NAME_LEN];
} WaWalFile;

/* Something wrong with a file: what a WaMsgDamage says. */
typedef struct WaDamage
{
	WaDamageKind kind;
	TimeLineID tli;
	XLogRecPtr segment_lsn;
	XLogRecPtr lsn; /* first wrong byte, 0: not known */
	int64 offset;   /* -1: not known */
	char name[WA_WAL_NAME_LEN];
	char text[WA_TEXT_LEN];
} WaDamage;

typedef enum WaFileStatus
{
	WA_FILE_OK,
	WA_FILE_MISSING,
	WA_FILE_DAMAGED, /* 'damage' says how */
	WA_FILE_UNKNOWN_MAJOR /* in order, but of a major that we don't know */,
	WA_FILE_FAILED /* the system refused: damage->text says why; says nothing about the file */
} WaFileStatus;

/*
 * Open directory 'path' for a cluster's WAL.  Returns false with a message in
 * 'text' (WA_TEXT_LEN bytes).
 */
extern bool wa_dir_open(WaWalDir *dir, const char *path, uint32 segment_size,
						uint64 system_identifier, char *text);
extern void wa_dir_close(WaWalDir *dir);

/*
 * Open the file 'name' of the directory, whatever it holds.  'name' must not
 * hold a slash.  Sets fd, size and name of 'file', and of 'damage' kind, text
 * and name.
 */
extern WaFileStatus wa_file_open(const WaWalDir *dir, const char *name,
								 WaWalFile *file, WaDamage *damage);

/*
 * Open the segment that starts at 'start' of timeline 'tli': the finished file,
 * else the partial one.
 */
extern WaFileStatus wa_segment_open(const WaWalDir *dir, TimeLineID tli,
									XLogRecPtr start, WaWalFile *file,
									WaDamage *damage);

/*
 * Read the header of the segment's first page and compare it with the file's
 * name and the directory's cluster.  'begin' is where the file's timeline was
 * entered, 0 if that is not known.  'exact' is set from a segment's 'start'.
 */
extern WaFileStatus wa_segment_header(const WaWalDir *dir,
									  const WaWalFile *file, XLogRecPtr begin,
									  WaLongHeader *header, WaDamage *damage);

/*
 * Read 'len' bytes at 'offset', fewer only at the end of the file.  Returns the
 * number, or -1 with errno.
 */
extern ssize_t wa_file_read(const WaWalFile *file, void *buffer, size_t len,
							int64 offset);

extern void wa_file_close(WaWalFile *file);

/*
 * Fill 'damage' about the segment that 'lsn' is in, of timeline 'tli'; the
 * name is that of the file that is there.  The first wrong byte is 'lsn'.
 */
extern void wa_damage_at(const WaWalDir *dir, TimeLineID tli, XLogRecPtr lsn,
						 WaDamageKind kind, WaDamage *damage);

/* What an error of open or read says: damage of the file, or our own trouble. */
extern WaFileStatus wa_file_error(int error, const char *what,
								  WaDamage *damage);

#endif /* WA_WAL_FILES_H */
