/*-------------------------------------------------------------------------
 *
 * output.c
 *	  Messages of walarchive-decode.  See output.h.
 *
 *-------------------------------------------------------------------------
 */
#include "output.h"

#include <unistd.h>

static void
write_all(WaOutput *out, const char *p, size_t len)
{
	while (len > 0)
	{
		ssize_t n = write(out->fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			exit(2);
		p += n;
		len -= n;
	}
}

void
wa_out_flush(WaOutput *out)
{
	write_all(out, out->buffer, out->used);
	out->used = 0;
}

void
wa_out_bytes(WaOutput *out, const void *bytes, size_t len)
{
	if (out->used + len > sizeof(out->buffer))
	{
		wa_out_flush(out);
		if (len > sizeof(out->buffer))
		{
			write_all(out, bytes, len);
			out->rest -= len;
			return;
		}
	}
	if (len > 0)
		memcpy(out->buffer + out->used, bytes, len);
	out->used += len;
	out->rest -= len;
	if (out->careful && out->rest == 0)
		wa_out_flush(out);
}

void
wa_out_begin(WaOutput *out, WaMessageType type, size_t len)
{
	WaMessageHeader header;

	header.length = (uint32) len;
	header.type = type;
	out->rest = sizeof(header) + len;
	wa_out_bytes(out, &header, sizeof(header));
}

void
wa_out_message(WaOutput *out, WaMessageType type, const void *body,
			   size_t body_len, const void *rest, size_t rest_len)
{
	wa_out_begin(out, type, body_len + rest_len);
	wa_out_bytes(out, body, body_len);
	if (rest_len > 0)
		wa_out_bytes(out, rest, rest_len);
}

void
wa_out_damage(WaOutput *out, const WaDamage *damage)
{
	WaMsgDamage m;

	memset(&m, 0, sizeof(m));
	m.kind = damage->kind;
	m.tli = damage->tli;
	m.segment_lsn = damage->segment_lsn;
	m.lsn = damage->lsn;
	m.offset = damage->offset;
	m.name_len = strlen(damage->name);
	m.text_len = strlen(damage->text);
	wa_out_begin(out, WA_MSG_DAMAGE, sizeof(m) + m.name_len + m.text_len);
	wa_out_bytes(out, &m, sizeof(m));
	wa_out_bytes(out, damage->name, m.name_len);
	wa_out_bytes(out, damage->text, m.text_len);
}

/* Progress is to be seen at once. */
void
wa_out_progress(WaOutput *out, XLogRecPtr lsn, uint64 bytes)
{
	WaMsgProgress m;

	memset(&m, 0, sizeof(m));
	m.lsn = lsn;
	m.bytes = bytes;
	wa_out_message(out, WA_MSG_PROGRESS, &m, sizeof(m), NULL, 0);
	wa_out_flush(out);
}
