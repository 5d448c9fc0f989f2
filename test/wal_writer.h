/*-------------------------------------------------------------------------
 *
 * wal_writer.h
 *	  Makes WAL for the unit tests: pages of any size, records of any content.
 *
 * For one source file per program: everything here is static.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_WAL_WRITER_H
#define WA_WAL_WRITER_H

#define SYSTEM_ID UINT64CONST(7012345678901234567)
#define LSN0 (UINT64CONST(0x700000000)) /* of the first page */

typedef struct Wal
{
	uint16 magic;
	uint32 block;
	uint32 segment;
	TimeLineID tli;
	size_t len; /* of what is written */
	size_t size;
	uint8 *bytes;
	XLogRecPtr prev;
} Wal;

static void
begin_wal(Wal *w, uint32 block, uint32 segment)
{
	memset(w, 0, sizeof(*w));
	w->magic = 0xD116;
	w->block = block;
	w->segment = segment;
	w->tli = 1;
}

static uint8 *
room(Wal *w, size_t len)
{
	if (w->len + len > w->size)
	{
		size_t size = Max(2 * w->size, w->len + len + MB);

		w->bytes = realloc(w->bytes, size);
		memset(w->bytes + w->size, 0, size - w->size);
		w->size = size;
	}
	w->len += len;
	return w->bytes + w->len - len;
}

static void
put_page_header(Wal *w, uint16 info, uint32 rem_len)
{
	XLogRecPtr lsn = LSN0 + w->len;
	bool first = w->len % w->segment == 0;
	uint8 *p = room(w, first ? WA_LONG_PAGE_HEADER : WA_SHORT_PAGE_HEADER);
	uint64 system_id = SYSTEM_ID;

	if (first)
		info |= 2;
	memcpy(p, &w->magic, 2);
	memcpy(p + 2, &info, 2);
	memcpy(p + 4, &w->tli, 4);
	memcpy(p + 8, &lsn, 8);
	memcpy(p + 16, &rem_len, 4);
	if (first)
	{
		memcpy(p + 24, &system_id, 8);
		memcpy(p + 32, &w->segment, 4);
		memcpy(p + 36, &w->block, 4);
	}
}

/* Spread 'len' bytes of a record over pages; stop after 'stop' bytes if not 0. */
static XLogRecPtr
put_bytes(Wal *w, const uint8 *p, uint32 len, uint32 stop)
{
	XLogRecPtr lsn;
	uint32 done = 0;

	if (w->len % w->block == 0)
		put_page_header(w, 0, 0);
	lsn = LSN0 + w->len;
	while (done < len)
	{
		uint32 n = Min(len - done, w->block - w->len % w->block);

		memcpy(room(w, n), p + done, n);
		done += n;
		if (stop != 0 && done >= stop)
			return lsn;
		if (done < len)
			put_page_header(w, 1, len - done);
	}
	room(w, (8 - w->len % 8) % 8);
	return lsn;
}

static uint32
checksum(const uint8 *record, uint32 len)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, record + 24, len - 24);
	COMP_CRC32C(crc, record, 20);
	FIN_CRC32C(crc);
	return crc;
}

/* A record of 'len' bytes after its header, which are what they are. */
static XLogRecPtr
put_raw(Wal *w, uint8 rmid, uint8 info, const void *data, uint32 len, uint32 stop)
{
	uint8 *record = calloc(1, 24 + len);
	uint32 total = 24 + len;
	uint32 xid = 1000 + len;
	uint32 crc;
	XLogRecPtr lsn;

	memcpy(record, &total, 4);
	memcpy(record + 4, &xid, 4);
	memcpy(record + 8, &w->prev, 8);
	record[16] = info;
	record[17] = rmid;
	memcpy(record + 24, data, len);
	crc = checksum(record, total);
	memcpy(record + 20, &crc, 4);
	lsn = put_bytes(w, record, total, stop);
	free(record);
	if (stop == 0)
		w->prev = lsn;
	return lsn;
}

#endif /* WA_WAL_WRITER_H */
