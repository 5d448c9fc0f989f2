/*-------------------------------------------------------------------------
 *
 * conninfo.h
 *	  Connection strings: checked, resolved, and split into hosts.
 *
 * A connection string is never quoted in a message, nor is libpq's complaint
 * about a malformed one, which quotes parts of it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_CONNINFO_H
#define WA_CONNINFO_H

#include "postgres.h"

#include "libpq-fe.h"

#define WA_MAX_HOSTS 64

typedef struct WaHostList
{
	int count;
	char *host[WA_MAX_HOSTS]; /* NULL: libpq's default */
	char *hostaddr[WA_MAX_HOSTS];
	char *port[WA_MAX_HOSTS];
} WaHostList;

/*
 * Check a connection string without connecting.  Raises an error, which never
 * quotes the string, if it cannot be parsed, holds a password, or sets what
 * walarchive sets itself.
 */
extern void wa_validate_conninfo(const char *conninfo);

/*
 * The options of 'conninfo', those of a service file included, to be freed by
 * PQconninfoFree.  Raises the error of wa_validate_conninfo.
 */
extern PQconninfoOption *wa_parse_conninfo(const char *conninfo);

/* The value of an option, NULL if it is absent or empty. */
extern const char *wa_conninfo_value(PQconninfoOption *options,
									 const char *keyword);

/* The hosts to try, in order; parts are palloc'd. */
extern void wa_list_hosts(PQconninfoOption *options, WaHostList *hosts);

#endif /* WA_CONNINFO_H */
