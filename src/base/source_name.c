/*-------------------------------------------------------------------------
 *
 * source_name.c
 *	  What a source may be called.  See source_name.h.
 *
 *-------------------------------------------------------------------------
 */
#include "source_name.h"

bool
wa_source_name_is_valid(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len >= WA_SOURCE_NAME_LEN)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		char c = name[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
			  (i > 0 && (c == '_' || c == '-'))))
			return false;
	}
	return true;
}

bool
wa_slot_name_is_valid(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len >= WA_SLOT_NAME_LEN)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		char c = name[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'))
			return false;
	}
	return true;
}

void
wa_default_slot_name(char *slot, const char *name)
{
	snprintf(slot, WA_SLOT_NAME_LEN, "walarchive_%s", name);
	for (char *p = slot; *p; p++)
	{
		if (*p == '-')
			*p = '_';
	}
}
