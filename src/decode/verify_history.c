/*-------------------------------------------------------------------------
 *
 * verify_history.c
 *	  Timeline history files for "verify": their checksum, their content, and
 *	  whether they agree with one another.
 *
 *-------------------------------------------------------------------------
 */
#include "../base/base.h"

#include <unistd.h>

#include "../base/history.h"
#include "verify_files.h"

#define MAX_HISTORY_LEN (1024 * 1024)

/* ---- history files ---- */

/* Read a history file; NULL with 'c' filled if that is not possible. */
char *
wa_verify_read_history(WaVerify *v, TimeLineID tli, WaChecked *c, size_t *len)
{
	char problem[WA_DAMAGE_TEXT_LEN];
	char *content;
	ssize_t n;
	int fd;

	c->tli = tli;
	c->finished = true;
	wa_history_name(c->name, tli);
	fd = wa_verify_open(v, c->name, &c->size, problem);
	if (fd < 0)
	{
		if (problem[0] != '\0')
			wa_verify_note(c, WA_DAMAGE_UNREADABLE, 0, -1, "%s", problem);
		else
			wa_verify_note(c, WA_DAMAGE_MISSING, 0, -1, "is missing");
		return NULL;
	}
	c->there = true;
	if (c->size > MAX_HISTORY_LEN)
	{
		wa_verify_note(c, WA_DAMAGE_HISTORY, 0, MAX_HISTORY_LEN, "is too long for a history file");
		close(fd);
		return NULL;
	}
	content = wa_verify_resize(NULL, c->size + 1);
	if (content == NULL)
	{
		v->no_memory = true;
		close(fd);
		return NULL;
	}
	n = wa_verify_read(fd, content, c->size, 0);
	if (n < 0)
		wa_verify_note(c, WA_DAMAGE_UNREADABLE, 0, -1, "could not be read: %s", strerror(errno));
	close(fd);
	if (n < 0)
	{
		wa_verify_resize(content, 0);
		return NULL;
	}
	*len = n;
	v->bytes += n;
	if (pg_cryptohash_init(v->sha) >= 0 && pg_cryptohash_update(v->sha, (uint8 *) content, n) >= 0 &&
		pg_cryptohash_final(v->sha, c->sha256, sizeof(c->sha256)) >= 0)
		c->sum = wa_verify_compare(v, tli, c->sha256);
	return content;
}

/* Does each ancestor's own history say the same? */
static void
compare_histories(WaVerify *v, WaChecked *c, const WaHistory *history, WaHistory *other)
{
	for (int i = history->count - 2; i > 0; i--)
	{
		WaChecked a = {0};
		size_t len;
		char *content = wa_verify_read_history(v, history->entry[i].tli, &a, &len);
		const char *message;
		bool same;

		if (content == NULL)
			continue;
		message = wa_history_parse(content, len, a.tli, other);
		wa_verify_resize(content, 0);
		/* that one is reported itself */
		if (message != NULL || a.sum == WA_SUM_BAD)
			continue;
		same = (other->count == i + 1);
		for (int j = 0; same && j < i; j++)
			same = other->entry[j].tli == history->entry[j].tli &&
				   other->entry[j].end == history->entry[j].end;
		if (!same && (c->sum != WA_SUM_GOOD || a.sum == WA_SUM_GOOD))
		{
			wa_verify_note(c, WA_DAMAGE_HISTORY, 0, -1, "contradicts %s", a.name);
			return;
		}
	}
}

void
wa_verify_history(WaVerify *v, TimeLineID tli)
{
	WaChecked c = {0};
	WaHistory *history = wa_verify_resize(NULL, 2 * sizeof(WaHistory));
	size_t len;
	char *content;
	const char *message;

	wa_verify_progress(v, 0);
	if (history == NULL)
	{
		v->no_memory = true;
		return;
	}
	content = wa_verify_read_history(v, tli, &c, &len);
	if (content != NULL)
	{
		message = wa_history_parse(content, len, tli, history);
		if (len == 0)
			wa_verify_note(&c, WA_DAMAGE_HISTORY, 0, 0, "is empty");
		else if (message != NULL)
			wa_verify_note(&c, WA_DAMAGE_HISTORY, 0, -1, "%s", message);
		else if (history->count < 2)
			wa_verify_note(&c, WA_DAMAGE_HISTORY, 0, -1, "names no parent");
		else
			compare_histories(v, &c, history, history + 1);
		if (c.sum == WA_SUM_BAD)
			wa_verify_note(&c, WA_DAMAGE_HASH, 0, -1, "its SHA-256 differs from the one in wal.sha256");
		wa_verify_resize(content, 0);
	}
	wa_verify_resize(history, 0);
	if (!v->no_memory)
		wa_verify_send_file(v, &c);
}
