/*-------------------------------------------------------------------------
 *
 * backup_manifest.c
 *	  Reads a backup_manifest as its bytes come; see backup_manifest.h.
 *
 * A lexer makes tokens of the bytes, and a parser with one state follows them:
 * the format has a fixed depth, so there is no stack.
 *
 *-------------------------------------------------------------------------
 */
#include "base.h"

#include "backup_manifest.h"
#include "hex.h"
#include "tar_reader.h"

/* ---- checksum algorithms ---- */

static const struct
{
	const char *name;
	int length;
} algorithms[] = {
	{"NONE", 0},
	{"CRC32C", 4},
	{"SHA224", 28},
	{"SHA256", 32},
	{"SHA384", 48},
	{"SHA512", 64},
};

const char *
wa_checksum_name(WaChecksumAlgorithm algorithm)
{
	return algorithms[algorithm].name;
}

int
wa_checksum_length(WaChecksumAlgorithm algorithm)
{
	return algorithms[algorithm].length;
}

bool
wa_checksum_from_name(const char *name, WaChecksumAlgorithm *algorithm)
{
	for (size_t i = 0; i < lengthof(algorithms); i++)
	{
		if (pg_strcasecmp(name, algorithms[i].name) == 0)
		{
			*algorithm = (WaChecksumAlgorithm) i;
			return true;
		}
	}
	return false;
}

/* ---- the parser ---- */

typedef enum Token
{
	TOKEN_STRING,
	TOKEN_NUMBER,
	TOKEN_OBJECT,     /* { */
	TOKEN_OBJECT_END, /* } */
	TOKEN_LIST,       /* [ */
	TOKEN_LIST_END,   /* ] */
	TOKEN_COLON,
	TOKEN_COMMA
} Token;

/* What has to come next. */
typedef enum State
{
	AT_START,
	AT_TOP_NAME,   /* a member's name */
	AT_TOP_COLON,  /* behind it */
	AT_TOP_VALUE,  /* its value */
	AT_TOP_NEXT,   /* a comma or the end */
	AT_LIST_FIRST, /* an item or the list's end */
	AT_LIST_ITEM,  /* an item */
	AT_LIST_NEXT,  /* a comma or the list's end */
	AT_ITEM_NAME,
	AT_ITEM_COLON,
	AT_ITEM_VALUE,
	AT_ITEM_NEXT,
	AT_END
} State;

typedef enum Field
{
	FIELD_VERSION,
	FIELD_SYSTEM_IDENTIFIER,
	FIELD_FILES,
	FIELD_RANGES,
	FIELD_MANIFEST_CHECKSUM,

	FIELD_PATH,
	FIELD_ENCODED_PATH,
	FIELD_SIZE,
	FIELD_LAST_MODIFIED,
	FIELD_ALGORITHM,
	FIELD_CHECKSUM,

	FIELD_TIMELINE,
	FIELD_START_LSN,
	FIELD_END_LSN,

	FIELD_COUNT
} Field;

#define BIT(field) ((uint32) 1 << (field))

static const char *const field_names[FIELD_COUNT] = {
	"PostgreSQL-Backup-Manifest-Version",
	"System-Identifier",
	"Files",
	"WAL-Ranges",
	"Manifest-Checksum",
	"Path",
	"Encoded-Path",
	"Size",
	"Last-Modified",
	"Checksum-Algorithm",
	"Checksum",
	"Timeline",
	"Start-LSN",
	"End-LSN",
};

static bool
fail(WaManifestReader *reader, const char *problem)
{
	reader->problem = problem;
	reader->failed = true;
	return false;
}

/* Bytes of the token's digits into 'to', 'room' bytes; -1: they are none, or too many. */
static int
get_hex(const WaManifestReader *reader, uint8 *to, size_t room)
{
	if (reader->token_len % 2 != 0 || reader->token_len / 2 > room)
		return -1;
	for (size_t i = 0; i < reader->token_len; i += 2)
	{
		int high = wa_hex_digit(reader->token[i]);
		int low = wa_hex_digit(reader->token[i + 1]);

		if (high < 0 || low < 0)
			return -1;
		to[i / 2] = (uint8) (high << 4 | low);
	}
	return (int) (reader->token_len / 2);
}

/* The token, decimal digits, as a number. */
static bool
get_uint(const WaManifestReader *reader, uint64 limit, uint64 *number)
{
	uint64 value = 0;

	if (reader->token_len == 0)
		return false;
	for (size_t i = 0; i < reader->token_len; i++)
	{
		int digit = reader->token[i] - '0';

		if (digit < 0 || digit > 9 || value > (PG_UINT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*number = value;
	return value <= limit;
}

/* The token as an LSN, "16/B374D848". */
static bool
get_lsn(const WaManifestReader *reader, XLogRecPtr *lsn)
{
	uint32 half[2] = {0, 0};
	int digits = 0;
	int part = 0;

	for (size_t i = 0; i < reader->token_len; i++)
	{
		char c = reader->token[i];
		int value = wa_hex_digit(c);

		if (c == '/' && part == 0 && digits > 0)
		{
			part = 1;
			digits = 0;
			continue;
		}
		if (value < 0 || ++digits > 8)
			return false;
		half[part] = half[part] << 4 | (uint32) value;
	}
	*lsn = (XLogRecPtr) half[0] << 32 | half[1];
	return part == 1 && digits > 0;
}

static bool
get_path(WaManifestReader *reader)
{
	char *path = reader->file.path;
	size_t len = reader->token_len;

	if (reader->field == FIELD_ENCODED_PATH)
	{
		int bytes = get_hex(reader, (uint8 *) path, WA_MANIFEST_PATH_LEN - 1);

		if (bytes < 0)
			return fail(reader, "an encoded path is not valid");
		len = (size_t) bytes;
	}
	else if (len >= WA_MANIFEST_PATH_LEN)
		return fail(reader, "a path is too long");
	else
		memcpy(path, reader->token, len);
	path[len] = '\0';
	if (strlen(path) != len || !wa_backup_file_path_is_valid(path))
		return fail(reader, "a path is not valid");
	return true;
}

/* The value of a member of the top object, a token. */
static bool
top_value(WaManifestReader *reader, Token token)
{
	uint64 number;

	reader->state = AT_TOP_NEXT;
	if (token != (reader->field == FIELD_MANIFEST_CHECKSUM ? TOKEN_STRING : TOKEN_NUMBER))
		return fail(reader, "a value is of the wrong type");
	switch (reader->field)
	{
		case FIELD_VERSION:
			if (!get_uint(reader, 2, &number) || number == 0)
				return fail(reader, "the manifest's version is not known");
			reader->version = (int) number;
			return true;
		case FIELD_SYSTEM_IDENTIFIER:
			if (reader->version < 2 || !get_uint(reader, PG_UINT64_MAX, &reader->system_identifier))
				return fail(reader, "the system identifier is not valid");
			return true;
		default:
			if (get_hex(reader, reader->checksum, sizeof(reader->checksum)) != sizeof(reader->checksum))
				return fail(reader, "the manifest's checksum is not valid");
			return true;
	}
}

/* The value of a member of a file or range. */
static bool
item_value(WaManifestReader *reader, Token token)
{
	WaManifestFile *file = &reader->file;
	uint64 number;

	reader->state = AT_ITEM_NEXT;
	if (token != (reader->field == FIELD_SIZE || reader->field == FIELD_TIMELINE ? TOKEN_NUMBER : TOKEN_STRING))
		return fail(reader, "a value is of the wrong type");
	switch (reader->field)
	{
		case FIELD_PATH:
		case FIELD_ENCODED_PATH:
			return get_path(reader);
		case FIELD_SIZE:
			if (!get_uint(reader, PG_INT64_MAX, &file->size))
				return fail(reader, "a file's size is not valid");
			return true;
		case FIELD_LAST_MODIFIED:
			return true;
		case FIELD_ALGORITHM:
			reader->token[Min(reader->token_len, WA_MANIFEST_TOKEN_LEN - 1)] = '\0';
			if (strlen(reader->token) != reader->token_len || !wa_checksum_from_name(reader->token, &file->algorithm))
				return fail(reader, "a checksum algorithm is not known");
			return true;
		case FIELD_CHECKSUM:
			file->checksum_len = get_hex(reader, file->checksum, sizeof(file->checksum));
			if (file->checksum_len < 0)
				return fail(reader, "a file's checksum is not valid");
			return true;
		case FIELD_TIMELINE:
			if (!get_uint(reader, PG_UINT32_MAX, &number) || number == 0)
				return fail(reader, "a timeline is not valid");
			reader->range.tli = (uint32) number;
			return true;
		case FIELD_START_LSN:
		default:
			if (!get_lsn(reader, reader->field == FIELD_START_LSN ? &reader->range.start : &reader->range.end))
				return fail(reader, "an LSN is not valid");
			return true;
	}
}

/* A member's name: which of first..last it is. */
static bool
member_name(WaManifestReader *reader, Token token, Field first, Field last, uint32 *seen)
{
	if (token != TOKEN_STRING)
		return fail(reader, "this is not valid JSON");
	for (Field field = first; field <= last; field++)
	{
		if (strlen(field_names[field]) != reader->token_len ||
			memcmp(field_names[field], reader->token, reader->token_len) != 0)
			continue;
		if (*seen & BIT(field))
			return fail(reader, "a member is there twice");
		*seen |= BIT(field);
		reader->field = field;
		return true;
	}
	return fail(reader, "a member is not known");
}

/* A member of the top object has been named: they have an order. */
static bool
check_top_order(WaManifestReader *reader)
{
	if (reader->top_seen & BIT(FIELD_MANIFEST_CHECKSUM) && reader->field != FIELD_MANIFEST_CHECKSUM)
		return fail(reader, "the manifest goes on after its checksum");
	if (!(reader->top_seen & BIT(FIELD_VERSION)))
		return fail(reader, "the manifest does not begin with its version");
	return true;
}

/* A file or range is complete. */
static bool
end_item(WaManifestReader *reader)
{
	const WaManifestFile *file = &reader->file;
	uint32 seen = reader->item_seen;

	reader->state = AT_LIST_NEXT;
	if (!reader->in_files)
	{
		if (seen != (BIT(FIELD_TIMELINE) | BIT(FIELD_START_LSN) | BIT(FIELD_END_LSN)))
			return fail(reader, "a WAL range lacks a member");
		if (reader->range.end < reader->range.start)
			return fail(reader, "a WAL range ends before it starts");
		if (!reader->handler.range(reader->handler.arg, &reader->range))
			reader->failed = true;
		return !reader->failed;
	}
	if (!(seen & BIT(FIELD_PATH)) == !(seen & BIT(FIELD_ENCODED_PATH)))
		return fail(reader, "a file has no path, or two");
	if (!(seen & BIT(FIELD_SIZE)))
		return fail(reader, "a file has no size");
	if (!(seen & BIT(FIELD_ALGORITHM)) != !(seen & BIT(FIELD_CHECKSUM)) ||
		file->checksum_len != wa_checksum_length(file->algorithm))
		return fail(reader, "a file's checksum does not fit its algorithm");
	reader->files++;
	if (!reader->handler.file(reader->handler.arg, file))
		reader->failed = true;
	return !reader->failed;
}

static bool
take_token(WaManifestReader *reader, Token token)
{
	switch ((State) reader->state)
	{
		case AT_START:
			if (token != TOKEN_OBJECT)
				break;
			reader->state = AT_TOP_NAME;
			return true;
		case AT_TOP_NAME:
			reader->state = AT_TOP_COLON;
			return member_name(reader, token, FIELD_VERSION, FIELD_MANIFEST_CHECKSUM, &reader->top_seen) &&
				   check_top_order(reader);
		case AT_TOP_COLON:
			if (token != TOKEN_COLON)
				break;
			reader->state = AT_TOP_VALUE;
			return true;
		case AT_TOP_VALUE:
			if (reader->field != FIELD_FILES && reader->field != FIELD_RANGES)
				return top_value(reader, token);
			if (token != TOKEN_LIST)
				break;
			reader->in_files = reader->field == FIELD_FILES;
			reader->state = AT_LIST_FIRST;
			return true;
		case AT_TOP_NEXT:
			if (token == TOKEN_COMMA)
				reader->state = AT_TOP_NAME;
			else if (token == TOKEN_OBJECT_END)
				reader->state = AT_END;
			else
				break;
			return true;
		case AT_LIST_FIRST:
		case AT_LIST_ITEM:
			if (token == TOKEN_LIST_END && reader->state == AT_LIST_FIRST)
			{
				reader->state = AT_TOP_NEXT;
				return true;
			}
			if (token != TOKEN_OBJECT)
				break;
			reader->state = AT_ITEM_NAME;
			reader->item_seen = 0;
			memset(&reader->range, 0, sizeof(reader->range));
			reader->file.path[0] = '\0';
			reader->file.size = 0;
			reader->file.algorithm = WA_CHECKSUM_NONE;
			reader->file.checksum_len = 0;
			return true;
		case AT_LIST_NEXT:
			if (token == TOKEN_COMMA)
				reader->state = AT_LIST_ITEM;
			else if (token == TOKEN_LIST_END)
				reader->state = AT_TOP_NEXT;
			else
				break;
			return true;
		case AT_ITEM_NAME:
			reader->state = AT_ITEM_COLON;
			return member_name(reader, token, reader->in_files ? FIELD_PATH : FIELD_TIMELINE,
							   reader->in_files ? FIELD_CHECKSUM : FIELD_END_LSN, &reader->item_seen);
		case AT_ITEM_COLON:
			if (token != TOKEN_COLON)
				break;
			reader->state = AT_ITEM_VALUE;
			return true;
		case AT_ITEM_VALUE:
			return item_value(reader, token);
		case AT_ITEM_NEXT:
			if (token == TOKEN_COMMA)
				reader->state = AT_ITEM_NAME;
			else if (token == TOKEN_OBJECT_END)
				return end_item(reader);
			else
				break;
			return true;
		case AT_END:
			return fail(reader, "the manifest goes on after its end");
	}
	return fail(reader, "this is not valid JSON");
}

/* ---- the lexer ---- */

typedef enum Lexer
{
	LEX_BETWEEN,
	LEX_NUMBER,
	LEX_STRING,
	LEX_ESCAPE, /* after a backslash */
	LEX_UNICODE /* after \u */
} Lexer;

static bool
add_byte(WaManifestReader *reader, char c)
{
	if (reader->token_len >= WA_MANIFEST_TOKEN_LEN)
		return fail(reader, "a value is too long");
	reader->token[reader->token_len++] = c;
	return true;
}

/* Add a character of a \u escape, as UTF-8. */
static bool
add_unicode(WaManifestReader *reader, uint32 c)
{
	if (reader->surrogate != 0)
	{
		if (c < 0xDC00 || c > 0xDFFF)
			return fail(reader, "half a character in a text");
		c = 0x10000 + ((reader->surrogate - 0xD800) << 10) + (c - 0xDC00);
		reader->surrogate = 0;
	}
	else if (c >= 0xD800 && c <= 0xDBFF)
	{
		reader->surrogate = c;
		return true;
	}
	else if (c == 0 || (c >= 0xDC00 && c <= 0xDFFF))
		return fail(reader, "half a character in a text");

	if (c < 0x80)
		return add_byte(reader, (char) c);
	if (c < 0x800)
		return add_byte(reader, (char) (0xC0 | c >> 6)) && add_byte(reader, (char) (0x80 | (c & 0x3F)));
	if (c < 0x10000)
		return add_byte(reader, (char) (0xE0 | c >> 12)) && add_byte(reader, (char) (0x80 | (c >> 6 & 0x3F))) &&
			   add_byte(reader, (char) (0x80 | (c & 0x3F)));
	return add_byte(reader, (char) (0xF0 | c >> 18)) && add_byte(reader, (char) (0x80 | (c >> 12 & 0x3F))) &&
		   add_byte(reader, (char) (0x80 | (c >> 6 & 0x3F))) && add_byte(reader, (char) (0x80 | (c & 0x3F)));
}

static bool
lex_escape(WaManifestReader *reader, char c)
{
	static const char from[] = "\"\\/bfnrt";
	static const char to[] = "\"\\/\b\f\n\r\t";
	const char *found = c == '\0' ? NULL : strchr(from, c);

	if (c == 'u')
	{
		reader->lexer = LEX_UNICODE;
		reader->unicode = 0;
		reader->unicode_digits = 0;
		return true;
	}
	if (found == NULL || reader->surrogate != 0)
		return fail(reader, "an escape in a text is not valid");
	reader->lexer = LEX_STRING;
	return add_byte(reader, to[found - from]);
}

static bool
lex_unicode(WaManifestReader *reader, char c)
{
	int value = wa_hex_digit(c);

	if (value < 0)
		return fail(reader, "an escape in a text is not valid");
	reader->unicode = reader->unicode << 4 | (uint32) value;
	if (++reader->unicode_digits < 4)
		return true;
	reader->lexer = LEX_STRING;
	return add_unicode(reader, reader->unicode);
}

static bool
lex_string(WaManifestReader *reader, char c)
{
	if (c == '\\')
	{
		reader->lexer = LEX_ESCAPE;
		return true;
	}
	if (reader->surrogate != 0)
		return fail(reader, "half a character in a text");
	if (c == '"')
	{
		reader->lexer = LEX_BETWEEN;
		return take_token(reader, TOKEN_STRING);
	}
	if ((unsigned char) c < ' ')
		return fail(reader, "a control character in a text");
	return add_byte(reader, c);
}

static bool
lex_between(WaManifestReader *reader, char c)
{
	reader->token_len = 0;
	switch (c)
	{
		case '{':
			return take_token(reader, TOKEN_OBJECT);
		case '}':
			return take_token(reader, TOKEN_OBJECT_END);
		case '[':
			return take_token(reader, TOKEN_LIST);
		case ']':
			return take_token(reader, TOKEN_LIST_END);
		case ':':
			return take_token(reader, TOKEN_COLON);
		case ',':
			return take_token(reader, TOKEN_COMMA);
		case '"':
			reader->lexer = LEX_STRING;
			return true;
		case ' ':
		case '\t':
		case '\r':
		case '\n':
			return true;
		default:
			if (c < '0' || c > '9')
				return fail(reader, "this is not valid JSON");
			reader->lexer = LEX_NUMBER;
			return add_byte(reader, c);
	}
}

void
wa_manifest_begin(WaManifestReader *reader, const WaManifestHandler *handler)
{
	memset(reader, 0, sizeof(*reader));
	reader->handler = *handler;
	reader->line = 1;
	reader->state = AT_START;
	reader->lexer = LEX_BETWEEN;
}

bool
wa_manifest_push(WaManifestReader *reader, const char *data, size_t len)
{
	for (size_t i = 0; i < len && !reader->failed; i++)
	{
		char c = data[i];

		switch ((Lexer) reader->lexer)
		{
			case LEX_NUMBER:
				if (c >= '0' && c <= '9')
				{
					add_byte(reader, c);
					break;
				}
				reader->lexer = LEX_BETWEEN;
				if (take_token(reader, TOKEN_NUMBER))
					lex_between(reader, c);
				break;
			case LEX_STRING:
				lex_string(reader, c);
				break;
			case LEX_ESCAPE:
				lex_escape(reader, c);
				break;
			case LEX_UNICODE:
				lex_unicode(reader, c);
				break;
			case LEX_BETWEEN:
				lex_between(reader, c);
				break;
		}
		if (c == '\n' && !reader->failed)
			reader->line++;
	}
	return !reader->failed;
}

bool
wa_manifest_finish(WaManifestReader *reader)
{
	uint32 wanted = BIT(FIELD_VERSION) | BIT(FIELD_FILES) | BIT(FIELD_RANGES) | BIT(FIELD_MANIFEST_CHECKSUM);

	if (reader->failed)
		return false;
	if (reader->state != AT_END || reader->lexer != LEX_BETWEEN)
		return fail(reader, "the manifest ends too early");
	if (reader->version >= 2)
		wanted |= BIT(FIELD_SYSTEM_IDENTIFIER);
	if ((reader->top_seen & wanted) != wanted)
		return fail(reader, "the manifest lacks a member");
	return true;
}
