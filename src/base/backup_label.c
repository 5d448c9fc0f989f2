/*-------------------------------------------------------------------------
 *
 * backup_label.c
 *	  What a base backup may be called; see backup_label.h.
 *
 *-------------------------------------------------------------------------
 */
#include "backup_label.h"

static bool
ends_with(const char *text, size_t len, const char *suffix)
{
	size_t n = strlen(suffix);

	return len >= n && memcmp(text + len - n, suffix, n) == 0;
}

static bool
is_alnum(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool
wa_backup_label_is_valid(const char *label)
{
	size_t len = strlen(label);

	if (len == 0 || len >= WA_BACKUP_LABEL_LEN || !is_alnum(label[0]))
		return false;
	for (size_t i = 0; i < len; i++)
	{
		if (!is_alnum(label[i]) && strchr("_-.", label[i]) == NULL)
			return false;
	}
	return !ends_with(label, len, WA_BACKUP_RUNNING_SUFFIX) &&
		   !ends_with(label, len, WA_BACKUP_DELETED_SUFFIX);
}
