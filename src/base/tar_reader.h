/*-------------------------------------------------------------------------
 *
 * tar_reader.h
 *	  Takes the tar archives of a base backup apart as their bytes come.
 *
 * What PostgreSQL writes is understood, and nothing else: ustar headers, files,
 * directories and symbolic links, sizes in octal or base 256, two blocks of
 * zeroes at the end.  Anything that a backup's archive never has (other types,
 * names that leave the folder, a wrong checksum of a header, padding that is
 * not zero) is a problem.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_TAR_READER_H
#define WA_TAR_READER_H

#include "base.h"

#define WA_TAR_BLOCK 512

/* Prefix of 155, a slash, a name of 100, a NUL. */
#define WA_TAR_PATH_LEN 257
#define WA_TAR_LINK_LEN 101

typedef enum WaTarType
{
	WA_TAR_FILE,
	WA_TAR_DIRECTORY,
	WA_TAR_SYMLINK
} WaTarType;

typedef struct WaTarEntry
{
	WaTarType type;
	char path[WA_TAR_PATH_LEN]; /* relative; without "./" before or a slash behind it, no "." or ".." in it */
	char link[WA_TAR_LINK_LEN]; /* where a symbolic link leads, as it is */
	uint64 size;                /* in bytes; 0 unless a file */
	uint32 mode;
	uint64 mtime; /* seconds since 1970 */
} WaTarEntry;

typedef enum WaTarEvent
{
	WA_TAR_BEGIN, /* an entry's header was read */
	WA_TAR_DATA,  /* bytes of a file */
	WA_TAR_END    /* the entry is whole */
} WaTarEvent;

/* 'data' and 'len' with WA_TAR_DATA alone.  Returns false to stop. */
typedef bool (*WaTarHandler)(void *arg, WaTarEvent event, const WaTarEntry *entry, const char *data, size_t len);

typedef struct WaTarReader
{
	WaTarHandler handler;
	void *arg;
	const char *problem; /* constant text; NULL: none */
	bool failed;         /* by a problem or by the handler */
	bool in_entry;       /* between WA_TAR_BEGIN and WA_TAR_END: 'entry' is valid */
	WaTarEntry entry;
	uint64 left;    /* of the file's bytes */
	uint32 padding; /* bytes of zeroes that follow */
	int zero_blocks;
	size_t used; /* bytes of 'header' that are there */
	uint8 header[WA_TAR_BLOCK];
} WaTarReader;

/* Begin an archive; may be called again for the next. */
extern void wa_tar_begin(WaTarReader *reader, WaTarHandler handler, void *arg);

/*
 * Push 'len' bytes.  Returns false once there is a problem, or the handler said
 * so ('problem' is NULL then); nothing more happens after that.
 */
extern bool wa_tar_push(WaTarReader *reader, const char *data, size_t len);

/* The archive's end has come; false if it is not whole. */
extern bool wa_tar_finish(WaTarReader *reader);

/*
 * True for a path that may stand in a backup: relative, of non-empty parts,
 * none of them "." or "..", without a slash at its end.
 */
extern bool wa_backup_file_path_is_valid(const char *path);

#endif /* WA_TAR_READER_H */
