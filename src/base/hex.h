/*-------------------------------------------------------------------------
 *
 * hex.h
 *	  Hexadecimal digits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_HEX_H
#define WA_HEX_H

#include "base.h"

/* Value of a hexadecimal digit of either case, -1: it is none. */
static inline int
wa_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

#endif /* WA_HEX_H */
