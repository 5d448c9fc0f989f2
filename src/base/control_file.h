/*-------------------------------------------------------------------------
 *
 * control_file.h
 *	  Reads a pg_control of PostgreSQL 15 to 18, whatever the host's major.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_CONTROL_FILE_H
#define WA_CONTROL_FILE_H

#include "base.h"

/* The file's size; what counts are its first WA_CONTROL_FILE_READ bytes. */
#define WA_CONTROL_FILE_SIZE 8192
#define WA_CONTROL_FILE_READ 512

/* what of DBState matters here: values of the file */
#define WA_CONTROL_IN_ARCHIVE_RECOVERY 5
#define WA_CONTROL_IN_PRODUCTION 6

typedef struct WaControlFile
{
	uint64 system_identifier;
	uint32 control_version; /* 1300, 1700 or 1800 */
	uint32 catalog_version;
	uint32 state; /* DBState */
	XLogRecPtr checkpoint;
	XLogRecPtr redo; /* of that checkpoint */
	uint32 checkpoint_tli;
	XLogRecPtr min_recovery_point; /* 0: none, a primary's */
	uint32 min_recovery_tli;
	XLogRecPtr backup_start_point;
	XLogRecPtr backup_end_point;
	uint32 wal_segment_size;
	uint32 data_checksum_version;
} WaControlFile;

typedef enum WaControlResult
{
	WA_CONTROL_OK,
	WA_CONTROL_SHORT,   /* too few bytes */
	WA_CONTROL_UNKNOWN, /* of a version, byte order or alignment that is not known */
	WA_CONTROL_DAMAGED  /* the checksum is wrong */
} WaControlResult;

/* Read 'len' bytes at 'data', which need no alignment. */
extern WaControlResult wa_read_control_file(const void *data, size_t len, WaControlFile *control);

#endif /* WA_CONTROL_FILE_H */
