/*-------------------------------------------------------------------------
 *
 * range_read.h
 *	  Reading ranges of archived WAL for SQL functions: who may, what there is,
 *	  and what stands in the way.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_RANGE_READ_H
#define WA_RANGE_READ_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"

#include "decoder.h"

/*
 * Raise an error unless the current user may read the archived WAL of 'source':
 * a superuser, or a member of a role that walarchive.grant_read has named.
 */
extern void wa_check_read_allowed(const char *source);

/*
 * Connect to SPI with the rights of the extension's owner, and the way back.  An
 * error in between is put right by the transaction's abort.
 */
extern void wa_become_owner(Oid *saved_user, int *saved_context);
extern void wa_become_user(Oid saved_user, int saved_context);

/* What a function was asked for. */
typedef struct WaRangeArgs
{
	char *source;
	XLogRecPtr from_lsn; /* 0: open */
	XLogRecPtr to_lsn;   /* 0: open */
	bool has_from_time;
	bool has_to_time;
	TimestampTz from_time;
	TimestampTz to_time;
	TimeLineID tli; /* 0: the newest */
} WaRangeArgs;

/* The range that is being read. */
typedef struct WaRangePiece
{
	uint64 sysid;
	uint32 segment_size; /* bytes */
	char *path;          /* as in decode_protocol.h */
	XLogRecPtr from_lsn;
	XLogRecPtr to_lsn;
	XLogRecPtr first_lsn; /* of the path's archived WAL */
	XLogRecPtr last_lsn;
	bool live;
} WaRangePiece;

typedef struct WaRangeReader WaRangeReader;

/*
 * Shown each message of the type that was asked for.  Memory that it allocates
 * is freed after it.
 */
typedef void (*WaRangeCallback)(WaRangeReader *reader,
								const WaRangePiece *piece,
								const WaDecoderMessage *message, void *arg);

/*
 * Begin: checks that the current user may read 'source', connects to SPI, and
 * goes on with the rights of the extension's owner.  The calling function's
 * search_path is set to a safe one in its definition.  If an error is raised
 * later the transaction's abort puts all of that right.
 */
extern WaRangeReader *wa_range_begin(const char *source);
extern void wa_range_end(WaRangeReader *reader);

/*
 * Ask walarchive-decode "what" ("xacts", ...) for what has to be read of the
 * range; 'plan' is the last argument of walarchive.plan_read.  'warm_up' segments
 * before each piece are read as well, if they are archived.  What can't be read
 * is a WARNING, and reading goes on behind it.
 */
extern void wa_range_read(WaRangeReader *reader, const WaRangeArgs *args,
						  const char *plan, const char *what, uint32 warm_up,
						  WaMessageType wanted, WaRangeCallback callback,
						  void *arg);

#endif /* WA_RANGE_READ_H */
