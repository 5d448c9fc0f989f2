/*-------------------------------------------------------------------------
 *
 * conf_file.c
 *	  PostgreSQL's configuration files, line by line.  See conf_file.h.
 *
 *-------------------------------------------------------------------------
 */
#include "conf_file.h"

#include <ctype.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILE_LEN (16 * 1024 * 1024)

static bool
is_name_char(char c)
{
	return isalnum((unsigned char) c) || c == '_' || c == '.' || c == '$' || IS_HIGHBIT_SET(c);
}

/* A quoted value: doubled quotes, and backslashes as in C. */
static void
parse_quoted(const char *at, const char *end, char *to)
{
	for (at++; at < end; at++)
	{
		if (*at == '\'')
		{
			if (at + 1 < end && at[1] == '\'')
				at++;
			else
				break;
		}
		else if (*at == '\\' && at + 1 < end)
		{
			at++;
			switch (*at)
			{
				case 'b':
					*to++ = '\b';
					continue;
				case 'f':
					*to++ = '\f';
					continue;
				case 'n':
					*to++ = '\n';
					continue;
				case 'r':
					*to++ = '\r';
					continue;
				case 't':
					*to++ = '\t';
					continue;
				default:
					break;
			}
			if (*at >= '0' && *at <= '7')
			{
				int octal = 0;

				for (int i = 0; i < 3 && at < end && *at >= '0' && *at <= '7'; i++, at++)
					octal = octal * 8 + (*at - '0');
				at--;
				*to++ = (char) octal;
				continue;
			}
		}
		*to++ = *at;
	}
	*to = '\0';
}

void
conf_parse_line(const char *text, size_t len, ConfLine *line)
{
	const char *at = text;
	const char *end = text + len;
	const char *name;

	line->name[0] = '\0';
	line->value = NULL;
	while (at < end && isspace((unsigned char) *at))
		at++;
	name = at;
	while (at < end && is_name_char(*at))
		at++;
	if (at == name || at - name >= CONF_NAME_LEN)
		return;
	for (const char *c = name; c < at; c++)
		line->name[c - name] = (char) tolower((unsigned char) *c);
	line->name[at - name] = '\0';

	while (at < end && isspace((unsigned char) *at))
		at++;
	if (at < end && *at == '=')
		at++;
	while (at < end && isspace((unsigned char) *at))
		at++;
	line->value = pg_malloc(end - at + 1);
	if (at < end && *at == '\'')
		parse_quoted(at, end, line->value);
	else
	{
		const char *start = at;

		while (at < end && !isspace((unsigned char) *at) && *at != '#')
			at++;
		memcpy(line->value, start, at - start);
		line->value[at - start] = '\0';
	}
}

void
conf_free_line(ConfLine *line)
{
	pg_free(line->value);
	line->value = NULL;
}

void
conf_append_quoted(StringInfo to, const char *value)
{
	appendStringInfoChar(to, '\'');
	for (; *value; value++)
	{
		if (*value == '\'' || *value == '\\')
			appendStringInfoChar(to, *value);
		appendStringInfoChar(to, *value);
	}
	appendStringInfoChar(to, '\'');
}

char *
conf_read_file(const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *text = NULL;
	size_t used = 0;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode))
		errno = EINVAL;
	else if (st.st_size > MAX_FILE_LEN)
		errno = EFBIG;
	else
	{
		text = pg_malloc(st.st_size + 1);
		while (used < st.st_size)
		{
			ssize_t n = read(fd, text + used, st.st_size - used);

			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
			{
				pg_free(text);
				text = NULL;
				break;
			}
			if (n == 0)
				break;
			used += n;
		}
		if (text != NULL)
			text[used] = '\0';
	}
	*len = used;
	{
		int save_errno = errno;

		close(fd);
		errno = save_errno;
	}
	return text;
}

static bool
sync_folder_of(const char *path)
{
	char folder[MAXPGPATH];
	int fd;
	int rc;

	strlcpy(folder, path, sizeof(folder));
	get_parent_directory(folder);
	fd = open(folder[0] ? folder : ".", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	rc = fsync(fd);
	close(fd);
	return rc == 0;
}

bool
conf_write_file(const char *path, const char *text, size_t len)
{
	char temporary[MAXPGPATH];
	struct stat st;
	mode_t mode = 0600;
	int fd;

	if (snprintf(temporary, sizeof(temporary), "%s.walarchive.tmp", path) >= (int) sizeof(temporary))
	{
		errno = ENAMETOOLONG;
		return false;
	}
	if (stat(path, &st) == 0)
		mode = st.st_mode & 0777;
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	if (fd < 0)
		return false;
	while (len > 0)
	{
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			if (n == 0)
				errno = ENOSPC;
			break;
		}
		text += n;
		len -= n;
	}
	if (len > 0 || fsync(fd) != 0)
	{
		int save_errno = errno;

		close(fd);
		unlink(temporary);
		errno = save_errno;
		return false;
	}
	return close(fd) == 0 && rename(temporary, path) == 0 && sync_folder_of(path);
}
