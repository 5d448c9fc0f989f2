/*-------------------------------------------------------------------------
 *
 * tar_reader.c
 *	  Takes the tar archives of a base backup apart; see tar_reader.h.
 *
 *-------------------------------------------------------------------------
 */
#include "base.h"

#include "tar_reader.h"
#include "wal_bytes.h"

/* Fields of a ustar header: where and how long. */
#define AT_NAME 0
#define NAME_LEN 100
#define AT_MODE 100
#define AT_SIZE 124
#define AT_MTIME 136
#define AT_CHECKSUM 148
#define CHECKSUM_LEN 8
#define AT_TYPE 156
#define AT_LINK 157
#define AT_MAGIC 257
#define AT_PREFIX 345
#define PREFIX_LEN 155

/* No file is longer; it also keeps sums of sizes from overflowing soon. */
#define MAX_FILE_SIZE ((uint64) 1 << 60)

static bool
fail(WaTarReader *reader, const char *problem)
{
	reader->problem = problem;
	reader->failed = true;
	return false;
}

static bool
call(WaTarReader *reader, WaTarEvent event, const char *data, size_t len)
{
	if (!reader->handler(reader->arg, event, &reader->entry, data, len))
		reader->failed = true;
	return !reader->failed;
}

void
wa_tar_begin(WaTarReader *reader, WaTarHandler handler, void *arg)
{
	memset(reader, 0, sizeof(*reader));
	reader->handler = handler;
	reader->arg = arg;
}

bool
wa_backup_file_path_is_valid(const char *path)
{
	const char *part = path;

	for (;;)
	{
		size_t len = strcspn(part, "/");

		if (len == 0 || (len == 1 && part[0] == '.') || (len == 2 && part[0] == '.' && part[1] == '.'))
			return false;
		part += len;
		if (*part == '\0')
			return true;
		part++;
	}
}

/*
 * A number of 'len' bytes: base 256 where the first byte says so, else octal
 * digits with spaces before and a space or NUL behind.  False: not a number, or
 * too large.
 */
static bool
get_number(const uint8 *p, size_t len, uint64 *number)
{
	uint64 value = 0;
	size_t i = 0;
	bool digits = false;

	if (p[0] & 0x80)
	{
		/* negative numbers have all bits set */
		if (p[0] != 0x80)
			return false;
		for (i = 1; i < len; i++)
		{
			if (value >> 56)
				return false;
			value = value << 8 | p[i];
		}
		*number = value;
		return true;
	}
	while (i < len && p[i] == ' ')
		i++;
	for (; i < len && p[i] >= '0' && p[i] <= '7'; i++)
	{
		if (value >> 61)
			return false;
		value = value << 3 | (p[i] - '0');
		digits = true;
	}
	for (; i < len; i++)
	{
		if (p[i] != ' ' && p[i] != '\0')
			return false;
	}
	*number = value;
	return digits;
}

/* Copy a field that ends with a NUL or with its room. */
static size_t
get_text(char *to, const uint8 *p, size_t room)
{
	size_t len = 0;

	while (len < room && p[len] != '\0')
		len++;
	memcpy(to, p, len);
	to[len] = '\0';
	return len;
}

static bool
checksum_is_right(const uint8 *header)
{
	uint64 wanted;
	uint32 sum = 0;

	if (!get_number(header + AT_CHECKSUM, CHECKSUM_LEN, &wanted))
		return false;
	for (int i = 0; i < WA_TAR_BLOCK; i++)
		sum += i >= AT_CHECKSUM && i < AT_CHECKSUM + CHECKSUM_LEN ? ' ' : header[i];
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
	/* a fuzzer finds no checksums: take all but one in 256 */
	return (wanted & 0xFF) != 0xFF || sum == wanted;
#else
	return sum == wanted;
#endif
}

/* The entry's path from prefix and name; false: it is none. */
static bool
get_path(WaTarEntry *entry, const uint8 *header)
{
	size_t len = 0;

	if (header[AT_PREFIX] != '\0')
	{
		len = get_text(entry->path, header + AT_PREFIX, PREFIX_LEN);
		entry->path[len++] = '/';
	}
	len += get_text(entry->path + len, header + AT_NAME, NAME_LEN);
	/* directories have a slash at their end */
	if (entry->type != WA_TAR_FILE && len > 1 && entry->path[len - 1] == '/')
		entry->path[len - 1] = '\0';
	/* the server writes "./pg_wal/archive_status" */
	if (strncmp(entry->path, "./", 2) == 0)
		memmove(entry->path, entry->path + 2, strlen(entry->path + 2) + 1);
	return wa_backup_file_path_is_valid(entry->path);
}

/* A whole header has come. */
static bool
read_header(WaTarReader *reader)
{
	WaTarEntry *entry = &reader->entry;
	const uint8 *header = reader->header;
	uint64 mode;

	reader->used = 0;
	if (wa_all_zero(header, WA_TAR_BLOCK))
	{
		reader->zero_blocks++;
		return true;
	}
	if (reader->zero_blocks > 0)
		return fail(reader, "the archive goes on after its end");
	if (memcmp(header + AT_MAGIC, "ustar", 6) != 0)
		return fail(reader, "this is no tar header");
	if (!checksum_is_right(header))
		return fail(reader, "the checksum of a tar header is wrong");

	memset(entry, 0, sizeof(*entry));
	switch (header[AT_TYPE])
	{
		case '0':
		case '\0':
			entry->type = WA_TAR_FILE;
			break;
		case '5':
			entry->type = WA_TAR_DIRECTORY;
			break;
		case '2':
			entry->type = WA_TAR_SYMLINK;
			break;
		default:
			return fail(reader, "an entry of the archive is neither file, directory nor symbolic link");
	}
	if (!get_path(entry, header))
		return fail(reader, "the name of an entry of the archive is not valid");
	if (!get_number(header + AT_SIZE, 12, &entry->size) || entry->size > MAX_FILE_SIZE ||
		(entry->type != WA_TAR_FILE && entry->size != 0))
		return fail(reader, "the size of an entry of the archive is not valid");
	if (!get_number(header + AT_MODE, 8, &mode) || mode > 07777 * 8 ||
		!get_number(header + AT_MTIME, 12, &entry->mtime))
		return fail(reader, "the mode or time of an entry of the archive is not valid");
	entry->mode = (uint32) mode;
	get_text(entry->link, header + AT_LINK, WA_TAR_LINK_LEN - 1);

	reader->left = entry->size;
	reader->padding = (WA_TAR_BLOCK - entry->size % WA_TAR_BLOCK) % WA_TAR_BLOCK;
	reader->in_entry = true;
	return call(reader, WA_TAR_BEGIN, NULL, 0);
}

/* Take what belongs to the entry; the number of bytes taken is added to '*taken'. */
static bool
read_entry(WaTarReader *reader, const char *data, size_t len, size_t *taken)
{
	size_t n = (size_t) Min(reader->left, (uint64) len);

	if (n > 0)
	{
		reader->left -= n;
		if (!call(reader, WA_TAR_DATA, data, n))
			return false;
		*taken += n;
		data += n;
		len -= n;
	}
	if (reader->left > 0)
		return true;
	n = Min((size_t) reader->padding, len);
	if (!wa_all_zero((const uint8 *) data, n))
		return fail(reader, "the padding after a file is not zero");
	reader->padding -= (uint32) n;
	*taken += n;
	if (reader->padding > 0)
		return true;
	reader->in_entry = false;
	return call(reader, WA_TAR_END, NULL, 0);
}

bool
wa_tar_push(WaTarReader *reader, const char *data, size_t len)
{
	while (!reader->failed)
	{
		size_t taken = 0;

		/* an entry without bytes ends at once */
		if (reader->in_entry)
			read_entry(reader, data, len, &taken);
		else if (len > 0)
		{
			taken = Min(len, WA_TAR_BLOCK - reader->used);
			memcpy(reader->header + reader->used, data, taken);
			reader->used += taken;
			if (reader->used == WA_TAR_BLOCK)
				read_header(reader);
		}
		else
			break;
		data += taken;
		len -= taken;
		if (len == 0 && (!reader->in_entry || reader->left > 0 || reader->padding > 0))
			break;
	}
	return !reader->failed;
}

bool
wa_tar_finish(WaTarReader *reader)
{
	if (reader->failed)
		return false;
	if (reader->in_entry || reader->used > 0 || reader->zero_blocks < 2)
		return fail(reader, "the archive ends too early");
	return true;
}
