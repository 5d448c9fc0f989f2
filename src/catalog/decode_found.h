/*-------------------------------------------------------------------------
 *
 * decode_found.h
 *	  What a piece of WAL holds, on its way from the decoder to the catalog.
 *
 * The lists become one JSON object, the argument p_found of
 * walarchive.store_decoded.  Everything in a message is out of WAL and may be
 * anything: times that PostgreSQL would not take are left out, texts are made
 * valid.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_DECODE_FOUND_H
#define WA_DECODE_FOUND_H

#include "postgres.h"

#include "lib/stringinfo.h"

#include "../base/decode_protocol.h"

typedef enum WaFoundKind
{
	FOUND_SEGMENTS,
	FOUND_DAMAGE,
	FOUND_RESTORE_POINTS,
	FOUND_PARAMETERS,
	FOUND_RECOVERIES,
	FOUND_DESTRUCTIONS,
	FOUND_PREPARED,
	FOUND_FINISHED,
	FOUND_TABLESPACES,
	FOUND_KINDS
} WaFoundKind;

/* What a piece holds: the members of p_found, as JSON arrays without brackets. */
typedef struct WaFound
{
	StringInfoData list[FOUND_KINDS];
	bool contiguous; /* it goes on where the piece before ended */
	WaMsgEnd end;
	const char *text;  /* of the end */
	char *state;       /* the same */
	XLogRecPtr at;     /* where the decoder said last that it was */
	char damage[1024]; /* for a person; empty: none */
	XLogRecPtr damage_lsn;
} WaFound;

/* Make '*found' empty, in the current memory context. */
extern void wa_found_init(WaFound *found);

/* Forget what was found, but not where the decoder was. */
extern void wa_found_reset(WaFound *found);

/* Bytes gathered so far. */
extern size_t wa_found_size(const WaFound *found);

/* All lists as a JSON object, palloc'd. */
extern char *wa_found_json(const WaFound *found);

/*
 * Add what a message says.  'name' and 'rest' are the bytes behind its struct.
 * 'decode_state' is what becomes of the segment's; an 'offset' below 0 is not
 * known.
 */
extern void wa_found_segment(WaFound *found, TimeLineID tli, uint32 segment_size,
							 const WaMsgSegment *m);
extern void wa_found_damage(WaFound *found, XLogRecPtr segment_lsn,
							const char *decode_state, XLogRecPtr lsn,
							int64 offset, const char *text);
extern void wa_found_restore_point(WaFound *found, const WaMsgRestorePoint *m,
								   const char *name);
extern void wa_found_tablespace(WaFound *found, const WaMsgTablespace *m, const char *path);
extern void wa_found_parameters(WaFound *found, const WaMsgParameters *m);
extern void wa_found_recovery_end(WaFound *found, const WaMsgRecoveryEnd *m);
extern void wa_found_prepared(WaFound *found, const WaMsgFound *m, const char *gid);
extern void wa_found_destruction(WaFound *found, const WaMsgDestruction *m,
								 const char *rest);

#endif /* WA_DECODE_FOUND_H */
