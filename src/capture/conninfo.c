/*-------------------------------------------------------------------------
 *
 * conninfo.c
 *	  Connection strings.  See conninfo.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "conninfo.h"

void
wa_validate_conninfo(const char *conninfo)
{
	char *err = NULL;
	PQconninfoOption *options = PQconninfoParse(conninfo, &err);
	const char *secret = NULL;
	const char *ours = NULL;

	if (options == NULL)
	{
		PQfreemem(err);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errhidestmt(true),
				 errmsg("invalid connection string"),
				 errdetail("It is not repeated here because it may hold a secret."),
				 errhint("Write it as libpq expects, for example 'host=db1,db2 user=archiver target_session_attrs=read-write'.")));
	}
	for (PQconninfoOption *o = options; o->keyword != NULL; o++)
	{
		if (o->val == NULL || o->val[0] == '\0')
			continue;
		if (strcmp(o->keyword, "password") == 0 ||
			strcmp(o->keyword, "sslpassword") == 0 ||
			strcmp(o->keyword, "oauth_client_secret") == 0 ||
			strcmp(o->keyword, "scram_client_key") == 0 ||
			strcmp(o->keyword, "scram_server_key") == 0)
			secret = o->keyword;
		if (strcmp(o->keyword, "replication") == 0)
			ours = o->keyword;
	}
	PQconninfoFree(options);
	if (secret)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errhidestmt(true),
				 errmsg("connection string must not hold a password"),
				 errdetail("Statements are logged, and settings are stored on disk and in the catalog."),
				 errhint("Use a passfile (\"passfile=…\", or .pgpass of the server's operating system user), a service file, or a client certificate.")));
	if (ours)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("connection string must not set \"%s\"", ours),
				 errhint("walarchive sets it by itself.")));
}

/* Split a comma-separated list; empty members are NULL. */
static int
split_list(const char *text, char **out)
{
	char *copy;
	int n = 0;

	if (text == NULL || text[0] == '\0')
		return 0;
	copy = pstrdup(text);
	while (n < WA_MAX_HOSTS)
	{
		char *comma = strchr(copy, ',');

		if (comma)
			*comma = '\0';
		out[n++] = copy[0] != '\0' ? copy : NULL;
		if (comma == NULL)
			break;
		copy = comma + 1;
	}
	return n;
}

const char *
wa_conninfo_value(PQconninfoOption *options, const char *keyword)
{
	for (PQconninfoOption *o = options; o->keyword != NULL; o++)
	{
		if (strcmp(o->keyword, keyword) == 0)
			return o->val != NULL && o->val[0] != '\0' ? o->val : NULL;
	}
	return NULL;
}

/*
 * The options of 'conninfo'.  Where a service file may name the hosts, libpq
 * is made to resolve it, by starting and giving up a connection.
 */
PQconninfoOption *
wa_parse_conninfo(const char *conninfo)
{
	char *err = NULL;
	PQconninfoOption *options = PQconninfoParse(conninfo, &err);

	if (options == NULL)
	{
		PQfreemem(err);
		wa_validate_conninfo(conninfo); /* raises the error */
	}
	if (wa_conninfo_value(options, "service") != NULL || getenv("PGSERVICE") != NULL)
	{
		PGconn *conn = PQconnectStart(conninfo);
		PQconninfoOption *resolved = conn ? PQconninfo(conn) : NULL;

		if (resolved != NULL)
		{
			PQconninfoFree(options);
			options = resolved;
		}
		PQfinish(conn);
	}
	return options;
}

void
wa_list_hosts(PQconninfoOption *options, WaHostList *hosts)
{
	int n_host = split_list(wa_conninfo_value(options, "host"), hosts->host);
	int n_addr = split_list(wa_conninfo_value(options, "hostaddr"), hosts->hostaddr);
	int n_port = split_list(wa_conninfo_value(options, "port"), hosts->port);

	hosts->count = Max(1, Max(n_host, n_addr));
	/* libpq is given one host at a time and can't complain */
	if ((n_host > 0 && n_addr > 0 && n_host != n_addr) ||
		(n_port > 1 && n_port != hosts->count))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("connection string names %d hosts, %d addresses and %d ports",
						n_host, n_addr, n_port),
				 errhint("Give each host an address, or none, and either one port for all or one for each.")));
	for (int i = n_host; i < hosts->count; i++)
		hosts->host[i] = NULL;
	for (int i = n_addr; i < hosts->count; i++)
		hosts->hostaddr[i] = NULL;
	/* one port serves all hosts */
	for (int i = n_port; i < hosts->count; i++)
		hosts->port[i] = n_port == 1 ? hosts->port[0] : NULL;
}

/* Options that wa_sql_parameters sets, or that are of no use there. */
static bool
is_set_for_sql(const char *keyword)
{
	static const char *const ours[] = {
		"host", "hostaddr", "port", "dbname", "replication", "options",
		"application_name", "fallback_application_name", "client_encoding",
		"target_session_attrs", "load_balance_hosts"};

	for (int i = 0; i < lengthof(ours); i++)
	{
		if (strcmp(keyword, ours[i]) == 0)
			return true;
	}
	return false;
}

void
wa_sql_parameters(PQconninfoOption *options, const char *host, const char *addr,
				  int port, const char *dbname, const char *encoding,
				  const char *application_name,
				  const char *settings, const char **keyword, const char **value)
{
	const char *given = wa_conninfo_value(options, "options");
	int n = 0;

	for (PQconninfoOption *o = options; o->keyword != NULL; o++)
	{
		if (o->val == NULL || o->val[0] == '\0' || is_set_for_sql(o->keyword) ||
			n >= WA_SQL_PARAMETERS - 9)
			continue;
		keyword[n] = o->keyword;
		value[n++] = o->val;
	}
#define SET(k, v)             \
	do                        \
	{                         \
		if ((v)[0] != '\0')   \
		{                     \
			keyword[n] = (k); \
			value[n++] = (v); \
		}                     \
	} while (0)
	SET("host", host);
	SET("hostaddr", addr);
	SET("port", psprintf("%d", port));
	SET("dbname", dbname);
	SET("application_name", application_name);
	SET("client_encoding", encoding);
	SET("target_session_attrs", "any");
	/* ours come last and win */
	SET("options", psprintf("%s %s", given ? given : "", settings));
#undef SET
	keyword[n] = NULL;
	value[n] = NULL;
}
