/*-------------------------------------------------------------------------
 *
 * wal_bytes.h
 *	  Numbers in WAL: in the byte order of the server, and not aligned.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_WAL_BYTES_H
#define WA_WAL_BYTES_H

#include "base.h"

static inline uint16
wa_get16(const uint8 *p)
{
	uint16 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint32
wa_get32(const uint8 *p)
{
	uint32 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint64
wa_get64(const uint8 *p)
{
	uint64 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline bool
wa_all_zero(const uint8 *p, size_t len)
{
	while (len >= sizeof(uint64))
	{
		if (wa_get64(p) != 0)
			return false;
		p += sizeof(uint64);
		len -= sizeof(uint64);
	}
	while (len-- > 0)
	{
		if (*p++ != 0)
			return false;
	}
	return true;
}

#endif /* WA_WAL_BYTES_H */
