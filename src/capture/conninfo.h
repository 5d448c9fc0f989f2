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

/*
 * Parameters of an ordinary connection to database 'dbname' of the server that
 * a receiver is connected to at 'host', 'addr' (numeric, or empty) and 'port',
 * so that no name has to be resolved.  The rest is taken from 'options', which
 * has to live as long as the arrays; a service that it names is left to libpq.
 * 'encoding' is the client's.
 * 'settings' are server settings in the form of PGOPTIONS.  'keyword' and
 * 'value' have room for WA_SQL_PARAMETERS; some values are palloc'd.
 */
#define WA_SQL_PARAMETERS 80

extern void wa_sql_parameters(PQconninfoOption *options, const char *host,
							  const char *addr, int port, const char *dbname,
							  const char *encoding,
							  const char *application_name,
							  const char *settings, const char **keyword,
							  const char **value);

/* The hosts to try, in order; parts are palloc'd. */
extern void wa_list_hosts(PQconninfoOption *options, WaHostList *hosts);

#endif /* WA_CONNINFO_H */
