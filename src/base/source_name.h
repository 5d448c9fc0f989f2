/*-------------------------------------------------------------------------
 *
 * source_name.h
 *	  What a source may be called: its name is a folder and part of a slot.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_SOURCE_NAME_H
#define WA_SOURCE_NAME_H

#include "base.h"

/* with the NUL; "walarchive_" and the name must fit a replication slot's 63 */
#define WA_SOURCE_NAME_LEN 53
#define WA_SLOT_NAME_LEN 64

/*
 * True for 1 to 52 characters of a-z, 0-9, '_' and '-', the first a letter or
 * digit.  Upper case is refused: some file systems fold it.
 */
extern bool wa_source_name_is_valid(const char *name);

/* True for the names that PostgreSQL allows for a slot (slot.c). */
extern bool wa_slot_name_is_valid(const char *name);

/* "walarchive_<name>" with '-' as '_', into WA_SLOT_NAME_LEN bytes. */
extern void wa_default_slot_name(char *slot, const char *name);

#endif /* WA_SOURCE_NAME_H */
