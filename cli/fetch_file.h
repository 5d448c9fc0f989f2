/*-------------------------------------------------------------------------
 *
 * fetch_file.h
 *	  A WAL segment or history on its way: written under another name, and
 *	  checked before it gets its own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_CLI_FETCH_FILE_H
#define WA_CLI_FETCH_FILE_H

#include "postgres_fe.h"

#include "common/cryptohash.h"

#include "archive.h"

#define FETCH_TEXT_LEN 1024

typedef struct FetchFile
{
	int fd; /* -1: not open */
	char path[MAXPGPATH];
	WalFileInfo info;
	bool segment;
	TimeLineID tli;
	XLogRecPtr start; /* of a segment */
	uint64 system_identifier;
	uint32 segment_size;
	uint64 written;
	char *buffer; /* of bytes that are not in the file yet */
	size_t buffered;
	uint32 block_size; /* 0: the first page has not come yet */
	uint16 magic;
	pg_cryptohash_ctx *sha256;
	char *history; /* content of a history */
} FetchFile;

/*
 * Begin to write what 'info' says of file 'name' to a new file at 'path', which
 * is removed first if it is there.  'text' (FETCH_TEXT_LEN bytes) gets what is
 * wrong where one of these returns false; the file is gone then.
 */
extern bool fetch_file_begin(FetchFile *file, const char *name, const char *path,
							 const ArchiveLayout *layout, const WalFileInfo *info, char *text);

/* The next bytes.  '*local' is set if it is this machine that is in trouble. */
extern bool fetch_file_write(FetchFile *file, const char *bytes, size_t len, bool *local, char *text);

/* All has come: is it what it should be?  Closes the file. */
extern bool fetch_file_end(FetchFile *file, bool *local, char *text);

/* Away with it. */
extern void fetch_file_drop(FetchFile *file);

#endif /* WA_CLI_FETCH_FILE_H */
