/*-------------------------------------------------------------------------
 *
 * relation_file.c
 *	  What the relations of a cluster were called.  See relation_file.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "../base/flat_json.h"
#include "archive_dir.h"
#include "journal.h"
#include "relation_file.h"

void
wa_relation_path(char *path, const char *source, uint64 sysid)
{
	char dir[MAXPGPATH];

	wa_cluster_path(dir, source, sysid);
	if (snprintf(path, MAXPGPATH, "%s/relations", dir) >= MAXPGPATH)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("path \"%s/relations\" is too long", dir)));
}

size_t
wa_relation_format(const WaRelationLine *line, char *buffer, size_t size)
{
	char stamp[WA_UTC_LEN];
	char kind[2] = {line->kind, '\0'};
	WaJsonWriter w;

	if (size < 2)
		return 0;
	wa_format_utc(line->time, stamp, sizeof(stamp));
	wa_json_begin(&w, buffer, size - 1);
	wa_json_string(&w, "time", stamp);
	if (line->line != WA_LINE_TABLESPACE)
	{
		wa_json_uint(&w, "database", line->database);
		wa_json_string(&w, "database_name", line->database_name);
	}
	if (line->line != WA_LINE_DATABASE)
		wa_json_uint(&w, "tablespace", line->tablespace);
	if (line->line == WA_LINE_TABLESPACE)
		wa_json_string(&w, "tablespace_name", line->name);
	if (line->line == WA_LINE_RELATION)
	{
		wa_json_uint(&w, "relfilenode", line->relfilenode);
		wa_json_uint(&w, "oid", line->relation);
		wa_json_string(&w, "kind", kind);
		wa_json_string(&w, "name", line->name);
		wa_json_string(&w, "table", line->table);
	}
	if (!wa_json_end(&w))
		return 0;
	buffer[w.used] = '\n';
	return w.used + 1;
}

static bool
get_oid(const char *text, size_t len, const char *key, Oid *oid)
{
	uint64 value;

	if (!wa_json_get_uint(text, len, key, &value) || value == 0 || value > PG_UINT32_MAX)
		return false;
	*oid = (Oid) value;
	return true;
}

/* Fill 'line' from its text; false if it is not one of ours. */
static bool
parse_line(const char *text, size_t len, WaRelationLine *line)
{
	char stamp[64];
	char kind[2];

	memset(line, 0, sizeof(*line));
	if (!wa_json_valid(text, len) ||
		!wa_json_get_string(text, len, "time", stamp, sizeof(stamp)) ||
		!wa_parse_utc(stamp, &line->time))
		return false;
	if (wa_json_get_string(text, len, "tablespace_name", line->name, WA_OBJECT_NAME_LEN))
	{
		line->line = WA_LINE_TABLESPACE;
		return get_oid(text, len, "tablespace", &line->tablespace);
	}
	if (!get_oid(text, len, "database", &line->database) ||
		!wa_json_get_string(text, len, "database_name", line->database_name,
							sizeof(line->database_name)))
		return false;
	line->line = WA_LINE_DATABASE;
	if (!get_oid(text, len, "relfilenode", &line->relfilenode))
		return true;
	line->line = WA_LINE_RELATION;
	if (!get_oid(text, len, "tablespace", &line->tablespace) ||
		!get_oid(text, len, "oid", &line->relation) ||
		!wa_json_get_string(text, len, "kind", kind, sizeof(kind)) ||
		!wa_json_get_string(text, len, "name", line->name, sizeof(line->name)) ||
		!wa_json_get_string(text, len, "table", line->table, sizeof(line->table)))
		return false;
	line->kind = kind[0];
	return line->kind >= 'A' && line->kind <= 'z';
}

uint64
wa_relation_read(FILE *file, WaRelationLine *line, bool *valid)
{
	char text[WA_RELATION_LINE_LEN];
	uint64 read = 0;
	size_t len = 0;
	int c;

	*valid = false;
	while ((c = getc(file)) != EOF && c != '\n')
	{
		read++;
		if (len < sizeof(text))
			text[len++] = (char) c;
	}
	if (c == EOF)
		return 0;
	*valid = read == len && parse_line(text, len, line);
	return read + 1;
}
