/*-------------------------------------------------------------------------
 *
 * protocol.c
 *	  Messages of the streaming replication protocol.  See protocol.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "protocol.h"

/* 'w', start, end of WAL, time */
#define WAL_HEADER_LEN (1 + 8 + 8 + 8)
/* 'k', end of WAL, time, reply requested */
#define KEEPALIVE_LEN (1 + 8 + 8 + 1)

static uint64
get_uint64(const char *p)
{
	uint64 value = 0;

	for (int i = 0; i < 8; i++)
		value = value << 8 | (unsigned char) p[i];
	return value;
}

static void
put_uint64(char *p, uint64 value)
{
	for (int i = 7; i >= 0; i--)
	{
		p[i] = (char) (value & 0xff);
		value >>= 8;
	}
}

void
wa_parse_message(const char *buf, size_t len, WaMessage *message)
{
	memset(message, 0, sizeof(*message));
	message->kind = WA_MESSAGE_INVALID;
	if (len == 0)
		message->problem = "empty message";
	else if (buf[0] == 'w')
	{
		if (len < WAL_HEADER_LEN)
		{
			message->problem = "WAL message shorter than its header";
			return;
		}
		message->kind = WA_MESSAGE_WAL;
		message->start = get_uint64(buf + 1);
		message->server_end = get_uint64(buf + 9);
		message->send_time = (TimestampTz) get_uint64(buf + 17);
		message->data = buf + WAL_HEADER_LEN;
		message->len = len - WAL_HEADER_LEN;
	}
	else if (buf[0] == 'k')
	{
		if (len < KEEPALIVE_LEN)
		{
			message->problem = "keepalive message too short";
			return;
		}
		message->kind = WA_MESSAGE_KEEPALIVE;
		message->server_end = get_uint64(buf + 1);
		message->send_time = (TimestampTz) get_uint64(buf + 9);
		message->reply_requested = buf[17] != 0;
	}
	else
		message->problem = "message of an unknown kind";
}

void
wa_build_status_update(char *buf, XLogRecPtr written, XLogRecPtr flushed,
					   TimestampTz now, bool reply_requested)
{
	buf[0] = 'r';
	put_uint64(buf + 1, written);
	put_uint64(buf + 9, flushed);
	put_uint64(buf + 17, InvalidXLogRecPtr);
	put_uint64(buf + 25, (uint64) now);
	buf[33] = reply_requested ? 1 : 0;
}

bool
wa_parse_lsn(const char *text, XLogRecPtr *lsn)
{
	uint32 hi,
		lo;
	int used = 0;

	if (strspn(text, "0123456789abcdefABCDEF/") != strlen(text) ||
		sscanf(text, "%8X/%8X%n", &hi, &lo, &used) != 2 || text[used] != '\0')
		return false;
	*lsn = (uint64) hi << 32 | lo;
	return true;
}
