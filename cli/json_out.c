/*-------------------------------------------------------------------------
 *
 * json_out.c
 *	  JSON for programs, written into a growing text.
 *
 *-------------------------------------------------------------------------
 */
#include "json_out.h"

#include "options.h"

static void
append_quoted(PQExpBuffer out, const char *text)
{
	appendPQExpBufferChar(out, '"');
	for (const char *p = text; *p != '\0'; p++)
	{
		switch (*p)
		{
			case '"':
				appendPQExpBufferStr(out, "\\\"");
				break;
			case '\\':
				appendPQExpBufferStr(out, "\\\\");
				break;
			case '\n':
				appendPQExpBufferStr(out, "\\n");
				break;
			case '\t':
				appendPQExpBufferStr(out, "\\t");
				break;
			default:
				if ((unsigned char) *p < 0x20)
					appendPQExpBuffer(out, "\\u%04x", (unsigned char) *p);
				else
					appendPQExpBufferChar(out, *p);
		}
	}
	appendPQExpBufferChar(out, '"');
}

/* What comes before a value: a comma, unless it is the first, and its key. */
static void
append_key(PQExpBuffer out, const char *key)
{
	char last = out->len > 0 ? out->data[out->len - 1] : '\0';

	if (last != '\0' && last != '{' && last != '[' && last != '\n')
		appendPQExpBufferStr(out, ", ");
	if (key != NULL)
	{
		append_quoted(out, key);
		appendPQExpBufferStr(out, ": ");
	}
}

void
cli_json_begin(PQExpBuffer out, const char *key, char bracket)
{
	append_key(out, key);
	appendPQExpBufferChar(out, bracket);
}

void
cli_json_end(PQExpBuffer out, char bracket)
{
	appendPQExpBufferChar(out, bracket);
}

void
cli_json_string(PQExpBuffer out, const char *key, const char *value)
{
	append_key(out, key);
	if (value == NULL)
		appendPQExpBufferStr(out, "null");
	else
		append_quoted(out, value);
}

void
cli_json_uint(PQExpBuffer out, const char *key, uint64 value)
{
	append_key(out, key);
	appendPQExpBuffer(out, UINT64_FORMAT, value);
}

void
cli_json_bool(PQExpBuffer out, const char *key, bool value)
{
	append_key(out, key);
	appendPQExpBufferStr(out, value ? "true" : "false");
}

void
cli_json_lsn(PQExpBuffer out, const char *key, XLogRecPtr value)
{
	char text[32];

	snprintf(text, sizeof(text), "%X/%X", LSN_FORMAT_ARGS(value));
	cli_json_string(out, key, value == InvalidXLogRecPtr ? NULL : text);
}

void
cli_json_time(PQExpBuffer out, const char *key, int64 value)
{
	char text[CLI_TIME_LEN];

	cli_json_string(out, key, cli_time_text(value, text));
}
