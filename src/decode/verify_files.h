/*-------------------------------------------------------------------------
 *
 * verify_files.h
 *	  What the files of "verify" share: a file that was read, what was found
 *	  about it, the files and checksums of a wal directory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_VERIFY_FILES_H
#define WA_VERIFY_FILES_H

#include "../base/base.h"

#include "common/cryptohash.h"

#include "../base/sum_line.h"
#include "../base/wal_name.h"
#include "../base/wal_reader.h"
#include "verify.h"

/* Bytes that are read at a time; a multiple of every page size. */
#define WA_READ_SIZE (1024 * 1024)
#define WA_DAMAGE_TEXT_LEN 512

/* Segments of one request: what bounds the memory for checksums. */
#define WA_VERIFY_MAX_SEGMENTS (256 * 1024)

/* What wal.sha256 says of a file. */
typedef enum WaSumState
{
	WA_SUM_UNKNOWN, /* nothing */
	WA_SUM_GOOD,
	WA_SUM_BAD
} WaSumState;

/* A checksum of wal.sha256. */
typedef struct WaSum
{
	uint64 segno; /* of a history file its timeline */
	uint64 line;  /* the last line for a file counts */
	uint8 sha256[WA_SHA256_LEN];
} WaSum;

/* A file that has been read. */
typedef struct WaChecked
{
	char name[WA_WAL_NAME_LEN];
	TimeLineID tli;
	uint64 segno;
	XLogRecPtr start; /* of the segment, 0 for a history */
	int64 size;
	bool there;
	bool finished;
	WaSumState sum;
	uint8 sha256[WA_SHA256_LEN];

	/* what is wrong, if 'kind' is not 0 */
	int kind;
	XLogRecPtr lsn;
	int64 offset;
	char text[WA_DAMAGE_TEXT_LEN];
} WaChecked;

typedef struct WaVerify
{
	WaSendMessage send;
	char directory[MAXPGPATH];
	char sums_path[MAXPGPATH];
	uint64 sysid;
	uint32 segment_size;
	TimeLineID tli;
	TimeLineID parent;  /* 0: not known */
	XLogRecPtr fork;    /* 0: not known */
	XLogRecPtr flushed; /* 0: not being received */
	XLogRecPtr known;   /* 0: not known */

	WaSum *sum; /* by segno */
	size_t sums;
	size_t sums_allocated;

	uint8 *buffer;
	uint8 *other; /* the parent's bytes */
	pg_cryptohash_ctx *sha;

	WaWalReader reader;
	bool begun;        /* the reader is in use */
	bool chained;      /* it has read all up to where the next file starts */
	uint32 block_size; /* 0: not known yet */

	WaChecked *held;
	int held_count;

	uint64 bytes;
	uint64 shown_bytes; /* at the last PROGRESS */
	uint64 records;
	bool no_memory;
} WaVerify;

/* realloc; 'size' 0 frees. */
extern void *wa_verify_resize(void *memory, size_t size);

/* ---- messages ---- */

extern void wa_verify_progress(WaVerify *v, XLogRecPtr lsn);

/* Send what is wrong with a file; send all that is to be said of it. */
extern void wa_verify_send_damage(WaVerify *v, const WaChecked *c);
extern void wa_verify_send_file(WaVerify *v, const WaChecked *c);

/*
 * Say of a file what is wrong with it, unless something has been said; the
 * same for a byte of its segment.
 */
extern void wa_verify_note(WaChecked *c, WaDamageKind kind, XLogRecPtr lsn,
						   int64 offset, const char *fmt, ...)
	pg_attribute_printf(5, 6);
extern void wa_verify_note_at(WaVerify *v, WaChecked *c, WaDamageKind kind,
							  XLogRecPtr lsn, const char *text);

/* ---- files ---- */

/*
 * Open a file of the directory for reading, and tell its size in bytes.
 * Returns -1 if it is not there, or, with 'problem' (WA_DAMAGE_TEXT_LEN bytes)
 * filled, if it can't be read or is not a file.
 */
extern int wa_verify_open(WaVerify *v, const char *name, int64 *size,
						  char *problem);

/*
 * The same for segment 'segno' of a timeline, finished or else partial; 'name'
 * gets the one that is there.
 */
extern int wa_verify_open_segment(WaVerify *v, TimeLineID tli, uint64 segno,
								  char *name, bool *finished, int64 *size,
								  char *problem);

/* Read 'len' bytes at 'offset'; fewer only at the end of file; -1: errno. */
extern ssize_t wa_verify_read(int fd, void *buffer, size_t len, off_t offset);

/* Are they all zero? */
extern bool wa_verify_all_zero(const uint8 *bytes, size_t len);

/* ---- checksums ---- */

/*
 * Read from wal.sha256 what it says of segments from..to of the timeline, or
 * of all history files.  Lines that are none are passed over: the server looks
 * at the file as such.  False: text says why it can't be read.
 */
extern bool wa_verify_read_sums(WaVerify *v, bool histories, uint64 from,
								uint64 to, char *text, size_t text_size);

/* Compare with what wal.sha256 says of a segment or of a timeline's history. */
extern WaSumState wa_verify_compare(WaVerify *v, uint64 segno, const uint8 *sha256);

/* What its checksum says of a finished segment beside the range. */
extern WaSumState wa_verify_neighbour(WaVerify *v, uint64 segno);

/* ---- verify_history.c ---- */

/* Read a history file and its checksum; NULL with 'c' filled if that fails. */
extern char *wa_verify_read_history(WaVerify *v, TimeLineID tli, WaChecked *c,
									size_t *len);

/* Check it, and send what was found. */
extern void wa_verify_history(WaVerify *v, TimeLineID tli);

#endif /* WA_VERIFY_FILES_H */
