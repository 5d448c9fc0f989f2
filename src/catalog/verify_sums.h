/*-------------------------------------------------------------------------
 *
 * verify_sums.h
 *	  Is wal.sha256 what was written into it?  The catalog has a copy of each
 *	  line to compare with.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_VERIFY_SUMS_H
#define WA_VERIFY_SUMS_H

#include "catalog.h"

typedef enum WaSumsState
{
	WA_SUMS_GOOD,       /* or it is not there and need not be */
	WA_SUMS_DAMAGED,    /* a line is wrong, or it is missing */
	WA_SUMS_UNREADABLE, /* something that is no file is in its place */
} WaSumsState;

/*
 * Look at wal.sha256 of a cluster.  If something is wrong, 'text' ('size'
 * bytes) says what, and '*offset' at which byte, or is -1.  A last line without
 * newline is none, as in a crash.  Not inside a transaction.  Raises errors.
 */
extern WaSumsState wa_check_sums(const char *source, uint64 sysid,
								 int64 *offset, char *text, size_t size);

/*
 * A file's checksum, 32 bytes, is another than the one in wal.sha256: is it the
 * one that the catalog has?  Not inside a transaction.  Raises errors.
 */
extern bool wa_catalog_has_sum(const char *source, uint64 sysid,
							   const char *name, const uint8 *sha256);

#endif /* WA_VERIFY_SUMS_H */
