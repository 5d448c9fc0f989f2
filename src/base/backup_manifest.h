/*-------------------------------------------------------------------------
 *
 * backup_manifest.h
 *	  Reads a backup_manifest, version 1 (PostgreSQL 15 and 16) or 2 (17 on), as
 *	  its bytes come.
 *
 * Memory does not grow with the manifest.  Nothing that such a file never has
 * is passed over: an unknown member, a missing one, one that is there twice.
 * The manifest's own checksum is told, not checked: that is for who has the
 * bytes and a SHA-256.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_BACKUP_MANIFEST_H
#define WA_BACKUP_MANIFEST_H

#include "base.h"

/* A path in the data directory, with its NUL: as MAXPGPATH of any server. */
#define WA_MANIFEST_PATH_LEN 1024

/* Bytes of the longest checksum, SHA512 */
#define WA_CHECKSUM_LEN 64

typedef enum WaChecksumAlgorithm
{
	WA_CHECKSUM_NONE,
	WA_CHECKSUM_CRC32C,
	WA_CHECKSUM_SHA224,
	WA_CHECKSUM_SHA256,
	WA_CHECKSUM_SHA384,
	WA_CHECKSUM_SHA512
} WaChecksumAlgorithm;

typedef struct WaManifestFile
{
	char path[WA_MANIFEST_PATH_LEN];
	uint64 size;
	WaChecksumAlgorithm algorithm;
	int checksum_len; /* bytes; 0 with WA_CHECKSUM_NONE */
	uint8 checksum[WA_CHECKSUM_LEN];
} WaManifestFile;

typedef struct WaManifestRange
{
	uint32 tli;
	XLogRecPtr start;
	XLogRecPtr end;
} WaManifestRange;

typedef struct WaManifestHandler
{
	/* Called in the manifest's order; false to stop. */
	bool (*file)(void *arg, const WaManifestFile *file);
	bool (*range)(void *arg, const WaManifestRange *range);
	void *arg;
} WaManifestHandler;

/* Longest token: a path as hexadecimal digits. */
#define WA_MANIFEST_TOKEN_LEN (2 * WA_MANIFEST_PATH_LEN)

typedef struct WaManifestReader
{
	/* results; valid when wa_manifest_finish has returned true, the version from the first file on */
	int version;
	uint64 system_identifier; /* 0 in version 1 */
	uint8 checksum[32];       /* the manifest's own: SHA-256 of all lines but the last */
	uint64 files;

	const char *problem; /* constant text; NULL: none */
	uint64 line;         /* of the input, from 1: where a problem is */
	bool failed;         /* by a problem or by the handler */

	/* private */
	WaManifestHandler handler;
	int state;
	int lexer;
	int field;
	uint32 top_seen;
	uint32 item_seen;
	bool in_files;
	WaManifestFile file;
	WaManifestRange range;
	uint32 unicode; /* of an escape */
	int unicode_digits;
	uint32 surrogate; /* first half of a pair, 0: none */
	size_t token_len;
	char token[WA_MANIFEST_TOKEN_LEN];
} WaManifestReader;

extern void wa_manifest_begin(WaManifestReader *reader, const WaManifestHandler *handler);

/*
 * Push 'len' bytes.  Returns false once there is a problem, or the handler said
 * so ('problem' is NULL then); nothing more happens after that.
 */
extern bool wa_manifest_push(WaManifestReader *reader, const char *data, size_t len);

/* The end has come; false if the manifest is not whole. */
extern bool wa_manifest_finish(WaManifestReader *reader);

/*
 * "NONE", "SHA256"; the reverse, in any case, false: there is none of that
 * name; bytes of such a checksum.
 */
extern const char *wa_checksum_name(WaChecksumAlgorithm algorithm);
extern bool wa_checksum_from_name(const char *name, WaChecksumAlgorithm *algorithm);
extern int wa_checksum_length(WaChecksumAlgorithm algorithm);

#endif /* WA_BACKUP_MANIFEST_H */
