/*-------------------------------------------------------------------------
 *
 * request.c
 *	  What the requests to walarchive-decode have in common.
 *
 *-------------------------------------------------------------------------
 */
#include "request.h"

#include <ctype.h>

#include "../base/flat_json.h"

/* A path of so many timelines as text. */
#define PATH_LEN (WA_MAX_PATH * 32)

XLogRecPtr
wa_request_lsn(const WaRequest *request, const char *key)
{
	XLogRecPtr value;

	return wa_json_get_lsn(request->text, request->len, key, &value) ? value : 0;
}

uint64
wa_request_uint(const WaRequest *request, const char *key)
{
	uint64 value;

	return wa_json_get_uint(request->text, request->len, key, &value) ? value : 0;
}

bool
wa_request_bool(const WaRequest *request, const char *key)
{
	bool value;

	return wa_json_get_bool(request->text, request->len, key, &value) && value;
}

bool
wa_request_dir(const WaRequest *request, WaWalDir *dir)
{
	char path[MAXPGPATH];
	char text[WA_TEXT_LEN];
	uint64 segment_size = wa_request_uint(request, "segment_size");

	if (!wa_json_get_string(request->text, request->len, "directory", path, sizeof(path)))
		wa_request_failed(request, "the request names no directory");
	else if (!wa_segment_size_is_valid(segment_size))
		wa_request_failed(request, "the request has no valid segment size");
	else if (!wa_dir_open(dir, path, (uint32) segment_size,
						  wa_request_uint(request, "system_identifier"), text))
		wa_request_failed(request, text);
	else
		return true;
	return false;
}

/* A number at '*p'; advances it.  No sign, no blank. */
static bool
take_number(const char **p, int base, uint64 *value)
{
	char *end;

	if (!isxdigit((unsigned char) **p))
		return false;
	errno = 0;
	*value = strtou64(*p, &end, base);
	if (errno != 0 || end == *p || *value > PG_UINT32_MAX)
		return false;
	*p = end;
	return true;
}

static bool
take_lsn(const char **p, XLogRecPtr *lsn)
{
	uint64 hi;
	uint64 lo;

	if (!take_number(p, 16, &hi) || *(*p)++ != '/' || !take_number(p, 16, &lo))
		return false;
	*lsn = hi << 32 | lo;
	return true;
}

bool
wa_parse_lsn(const char *text, XLogRecPtr *lsn)
{
	return take_lsn(&text, lsn) && *text == '\0';
}

int
wa_parse_path(const char *text, WaPathEntry *path)
{
	int n = 0;

	for (;;)
	{
		uint64 tli;

		if (n == WA_MAX_PATH || !take_number(&text, 10, &tli) || tli == 0 ||
			*text++ != ':' || !take_lsn(&text, &path[n].begin))
			return 0;
		path[n].tli = (TimeLineID) tli;
		if (n > 0 && (path[n].tli <= path[n - 1].tli || path[n].begin < path[n - 1].begin))
			return 0;
		n++;
		if (*text == '\0')
			return n;
		if (*text++ != ',')
			return 0;
	}
}

bool
wa_request_range(const WaRequest *request, WaWalDir *dir, WaWalk *walk, WaPathEntry **path)
{
	char *text = malloc(PATH_LEN);
	int path_len = 0;
	bool opened = false;

	*path = malloc(sizeof(WaPathEntry) * WA_MAX_PATH);
	if (*path == NULL || text == NULL)
		wa_request_failed(request, "out of memory");
	else if (!wa_json_get_string(request->text, request->len, "path", text, PATH_LEN) ||
			 (path_len = wa_parse_path(text, *path)) == 0)
		wa_request_failed(request, "the request has no valid path of timelines");
	else if (wa_request_dir(request, dir))
	{
		walk->dir = dir;
		walk->path = *path;
		walk->path_len = path_len;
		walk->from = wa_request_lsn(request, "from");
		walk->until = wa_request_lsn(request, "to");
		walk->end = wa_request_lsn(request, "end");
		walk->live = wa_request_bool(request, "live");
		opened = true;
	}
	free(text);
	if (!opened)
	{
		free(*path);
		*path = NULL;
	}
	return opened;
}

void
wa_request_failed(const WaRequest *request, const char *text)
{
	WaMsgEnd end;

	memset(&end, 0, sizeof(end));
	end.result = WA_DECODE_FAILED;
	end.next_lsn = wa_request_lsn(request, "from");
	end.text_len = strlen(text);
	wa_out_message(request->out, WA_MSG_END, &end, sizeof(end), text, end.text_len);
}

void
wa_request_end(const WaRequest *request, const WaWalk *walk, WaMsgEnd *end,
			   const void *state, size_t state_len)
{
	end->result = walk->result;
	end->next_lsn = walk->next_lsn;
	end->need_lsn = walk->need_lsn;
	end->missing_lsn = walk->result == WA_DECODE_MISSING ? walk->missing_lsn : 0;
	end->bytes = walk->bytes;
	end->records = walk->records;
	end->text_len = strlen(walk->text);
	end->state_len = state_len;
	wa_out_begin(request->out, WA_MSG_END, sizeof(*end) + end->text_len + state_len);
	wa_out_bytes(request->out, end, sizeof(*end));
	wa_out_bytes(request->out, walk->text, end->text_len);
	if (state_len > 0)
		wa_out_bytes(request->out, state, state_len);
}
