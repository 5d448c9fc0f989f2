/*-------------------------------------------------------------------------
 *
 * flat_json.c
 *	  Reader and writer of flat JSON objects.  See flat_json.h.
 *
 *-------------------------------------------------------------------------
 */
#include "flat_json.h"
#include "hex.h"

static void
put(WaJsonWriter *w, const char *text, size_t len)
{
	if (w->used < w->size)
	{
		size_t room = w->size - w->used;

		memcpy(w->buffer + w->used, text, len < room ? len : room);
	}
	w->used += len;
}

static void
put_quoted(WaJsonWriter *w, const char *value)
{
	put(w, "\"", 1);
	for (const unsigned char *p = (const unsigned char *) value; *p; p++)
	{
		char escape[8];

		if (*p == '"' || *p == '\\')
		{
			escape[0] = '\\';
			escape[1] = (char) *p;
			put(w, escape, 2);
		}
		else if (*p < 0x20 || *p == 0x7f)
		{
			snprintf(escape, sizeof(escape), "\\u%04x", *p);
			put(w, escape, 6);
		}
		else
			put(w, (const char *) p, 1);
	}
	put(w, "\"", 1);
}

static void
put_key(WaJsonWriter *w, const char *key)
{
	if (!w->first)
		put(w, ", ", 2);
	w->first = false;
	put_quoted(w, key);
	put(w, ": ", 2);
}

void
wa_json_begin(WaJsonWriter *w, char *buffer, size_t size)
{
	w->buffer = buffer;
	w->size = size;
	w->used = 0;
	w->first = true;
	put(w, "{", 1);
}

void
wa_json_string(WaJsonWriter *w, const char *key, const char *value)
{
	put_key(w, key);
	if (value == NULL)
		put(w, "null", 4);
	else
		put_quoted(w, value);
}

void
wa_json_uint(WaJsonWriter *w, const char *key, uint64 value)
{
	char text[32];
	int len = snprintf(text, sizeof(text), UINT64_FORMAT, value);

	put_key(w, key);
	put(w, text, len);
}

void
wa_json_bool(WaJsonWriter *w, const char *key, bool value)
{
	put_key(w, key);
	put(w, value ? "true" : "false", value ? 4 : 5);
}

void
wa_json_lsn(WaJsonWriter *w, const char *key, XLogRecPtr value)
{
	char text[32];

	snprintf(text, sizeof(text), "%X/%X", LSN_FORMAT_ARGS(value));
	wa_json_string(w, key, text);
}

bool
wa_json_end(WaJsonWriter *w)
{
	bool fits;

	put(w, "}", 1);
	fits = w->used < w->size;
	w->buffer[fits ? w->used : w->size - 1] = '\0';
	return fits;
}

/* ---- reading ---- */

typedef struct Cursor
{
	const char *p;
	const char *end;
} Cursor;

static void
skip_space(Cursor *c)
{
	while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' ||
							 *c->p == '\n' || *c->p == '\r'))
		c->p++;
}

static bool
take_char(Cursor *c, char expected)
{
	skip_space(c);
	if (c->p >= c->end || *c->p != expected)
		return false;
	c->p++;
	return true;
}

/*
 * A quoted string.  Its text goes to 'out' unless that is NULL; '*too_long' is
 * set where it has no room for it.  A NUL in a string is refused.
 */
static bool
take_string(Cursor *c, char *out, size_t size, bool *too_long)
{
	size_t n = 0;

	if (!take_char(c, '"'))
		return false;
	for (;;)
	{
		unsigned char ch;

		if (c->p >= c->end)
			return false;
		ch = (unsigned char) *c->p++;
		if (ch == '"')
			break;
		if (ch < 0x20)
			return false;
		if (ch == '\\')
		{
			if (c->p >= c->end)
				return false;
			ch = (unsigned char) *c->p++;
			switch (ch)
			{
				case '"':
				case '\\':
				case '/':
					break;
				case 'b':
					ch = '\b';
					break;
				case 'f':
					ch = '\f';
					break;
				case 'n':
					ch = '\n';
					break;
				case 'r':
					ch = '\r';
					break;
				case 't':
					ch = '\t';
					break;
				case 'u':
				{
					int v = 0;

					if (c->end - c->p < 4)
						return false;
					for (int i = 0; i < 4; i++)
					{
						int digit = wa_hex_digit(*c->p++);

						if (digit < 0)
							return false;
						v = v * 16 + digit;
					}
					/* we write other characters as they are */
					if (v == 0 || v > 0x7f)
						return false;
					ch = (unsigned char) v;
				}
				break;
				default:
					return false;
			}
		}
		if (out != NULL)
		{
			if (n + 1 >= size)
				*too_long = true;
			else
				out[n++] = (char) ch;
		}
	}
	if (out != NULL && size > 0)
		out[n] = '\0';
	return true;
}

/* Digits from '*p' on; false if there is none. */
static bool
take_digits(const char **p, const char *end)
{
	const char *start = *p;

	while (*p < end && **p >= '0' && **p <= '9')
		(*p)++;
	return *p > start;
}

/* Are the 'len' bytes at 'p' a number of JSON? */
static bool
is_number(const char *p, size_t len)
{
	const char *end = p + len;

	if (p < end && *p == '-')
		p++;
	if (p < end && *p == '0')
		p++;
	else if (!take_digits(&p, end))
		return false;
	if (p < end && *p == '.')
	{
		p++;
		if (!take_digits(&p, end))
			return false;
	}
	if (p < end && (*p == 'e' || *p == 'E'))
	{
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		if (!take_digits(&p, end))
			return false;
	}
	return p == end;
}

/* A number, true, false or null as it stands. */
static bool
take_word(Cursor *c, const char **start, size_t *len)
{
	skip_space(c);
	*start = c->p;
	while (c->p < c->end && ((*c->p >= '0' && *c->p <= '9') ||
							 (*c->p >= 'a' && *c->p <= 'z') ||
							 *c->p == '-' || *c->p == '+' || *c->p == '.' ||
							 *c->p == 'E'))
		c->p++;
	*len = c->p - *start;
	if (*len == 0)
		return false;
	if ((*start)[0] >= 'a')
		return (*len == 4 && memcmp(*start, "true", 4) == 0) ||
			   (*len == 5 && memcmp(*start, "false", 5) == 0) ||
			   (*len == 4 && memcmp(*start, "null", 4) == 0);
	return is_number(*start, *len);
}

/*
 * Walk the object.  With 'key' NULL the whole is checked; else the value of
 * 'key' is returned: as a string in 'value', or as a word.
 */
static bool
walk(const char *text, size_t len, const char *key,
	 char *value, size_t size, const char **word, size_t *word_len)
{
	Cursor c = {text, text + len};

	if (!take_char(&c, '{'))
		return false;
	if (!take_char(&c, '}'))
	{
		do
		{
			char name[64];
			bool too_long = false;
			bool wanted;

			if (!take_string(&c, name, sizeof(name), &too_long) ||
				!take_char(&c, ':'))
				return false;
			wanted = key != NULL && !too_long && strcmp(name, key) == 0;
			skip_space(&c);
			if (c.p < c.end && *c.p == '"')
			{
				too_long = false;
				if (!take_string(&c, wanted ? value : NULL, size, &too_long))
					return false;
				if (wanted)
					return value != NULL && !too_long;
			}
			else
			{
				const char *start;
				size_t n;

				if (!take_word(&c, &start, &n))
					return false;
				if (wanted)
				{
					if (word == NULL)
						return false;
					*word = start;
					*word_len = n;
					return true;
				}
			}
		} while (take_char(&c, ','));
		if (!take_char(&c, '}'))
			return false;
	}
	skip_space(&c);
	return key == NULL && c.p == c.end;
}

bool
wa_json_valid(const char *text, size_t len)
{
	return walk(text, len, NULL, NULL, 0, NULL, NULL);
}

bool
wa_json_get_string(const char *text, size_t len, const char *key,
				   char *value, size_t size)
{
	return walk(text, len, key, value, size, NULL, NULL);
}

bool
wa_json_get_uint(const char *text, size_t len, const char *key, uint64 *value)
{
	const char *word;
	size_t n;
	uint64 v = 0;

	if (!walk(text, len, key, NULL, 0, &word, &n) || n == 0 || n > 20)
		return false;
	for (size_t i = 0; i < n; i++)
	{
		if (word[i] < '0' || word[i] > '9')
			return false;
		if (v > (PG_UINT64_MAX - (uint64) (word[i] - '0')) / 10)
			return false;
		v = v * 10 + (uint64) (word[i] - '0');
	}
	*value = v;
	return true;
}

bool
wa_json_get_bool(const char *text, size_t len, const char *key, bool *value)
{
	const char *word;
	size_t n;

	if (!walk(text, len, key, NULL, 0, &word, &n))
		return false;
	if (n == 4 && memcmp(word, "true", 4) == 0)
		*value = true;
	else if (n == 5 && memcmp(word, "false", 5) == 0)
		*value = false;
	else
		return false;
	return true;
}

bool
wa_json_get_lsn(const char *text, size_t len, const char *key,
				XLogRecPtr *value)
{
	char buf[32];
	uint32 hi,
		lo;
	int used = 0;

	if (!walk(text, len, key, buf, sizeof(buf), NULL, NULL))
		return false;
	/* sscanf alone would take blanks, signs and "0x" as well */
	if (strspn(buf, "0123456789abcdefABCDEF/") != strlen(buf) ||
		sscanf(buf, "%8X/%8X%n", &hi, &lo, &used) != 2 || buf[used] != '\0')
		return false;
	*value = (uint64) hi << 32 | lo;
	return true;
}
