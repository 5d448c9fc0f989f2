/*-------------------------------------------------------------------------
 *
 * fuzz_message.c
 *	  Messages of the replication protocol from a hostile server: what is taken
 *	  from one lies inside it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "../../src/capture/protocol.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)   \
	do                    \
	{                     \
		if (!(condition)) \
			abort();      \
	} while (0)

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *buf = (const char *) data;
	WaMessage message;
	char status[WA_STATUS_UPDATE_LEN];
	char *text;
	XLogRecPtr lsn;
	unsigned sum = 0;

	wa_parse_message(buf, size, &message);
	switch (message.kind)
	{
		case WA_MESSAGE_WAL:
			MUST(message.problem == NULL);
			MUST(message.data >= buf && message.data + message.len == buf + size);
			for (size_t i = 0; i < message.len; i++)
				sum += (unsigned char) message.data[i];
			break;
		case WA_MESSAGE_KEEPALIVE:
			MUST(message.problem == NULL && message.data == NULL && message.len == 0);
			break;
		case WA_MESSAGE_INVALID:
			MUST(message.problem != NULL);
			break;
	}
	wa_build_status_update(status, message.start, message.server_end, message.send_time, sum % 2 == 0);
	MUST(status[0] == 'r');

	text = malloc(size + 1);
	memcpy(text, data, size);
	text[size] = '\0';
	if (wa_parse_lsn(text, &lsn))
		MUST(strlen(text) <= 17 && strchr(text, '/') != NULL);
	free(text);
	return 0;
}
