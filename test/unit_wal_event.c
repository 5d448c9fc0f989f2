/*-------------------------------------------------------------------------
 *
 * unit_wal_event.c
 *	  What is said about records: contents that contradict themselves, and the
 *	  names of all types against those of each major's pg_waldump.
 *
 * Its argument is the folder test/wal.  With two more, a path and a major, it
 * writes there a segment with a record of each type, for test/wal/types.sh.
 * Prints TAP and exits non-zero if a test failed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "../src/base/wal_event.h"
#include "port/pg_crc32c.h"

#include "unit.h"
#include "wal_writer.h"

static WaWalEvent event;

static WaEventKind
event_of(int major, uint8 rmid, uint8 info, const void *data, uint32 len)
{
	static uint8 bytes[4096];
	WaWalRecord record;

	memset(&record, 0, sizeof(record));
	memset(bytes, 0, sizeof(bytes));
	bytes[24] = 254;
	memcpy(bytes + 25, &len, 4);
	memcpy(bytes + 29, data, len);
	record.major = major;
	record.rmid = rmid;
	record.info = info;
	record.xid = 77;
	record.data = bytes;
	record.data_len = record.total_len = 29 + len;
	return wa_decode_event(&record, &event);
}

/* Contents that contradict themselves. */
static void
test_events(void)
{
	uint8 data[512];
	uint32 v;
	WaXact *x = &event.u.xact;
	int wrong = 0;

	/* a commit with everything, cut off anywhere: 8 time, 4 xinfo, 8 database, 4 + 8 subxacts, 4 + 12 files, 4 + 16 stats, 4 + 16 inval, 4 xid, 4 gid, 16 origin */
	memset(data, 0, sizeof(data));
	v = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x80 | 0x100;
	memcpy(data + 8, &v, 4);
	v = 2;
	memcpy(data + 20, &v, 4);
	v = 1;
	memcpy(data + 32, &v, 4);
	memcpy(data + 48, &v, 4);
	memcpy(data + 64, &v, 4); /* of an item of 12 bytes */
	v = 4711;
	memcpy(data + 84, &v, 4);
	memcpy(data + 88, "abc", 4);
	v = 123;
	memcpy(data + 92, &v, 4);
	CHECK(event_of(17, WA_RM_XACT, 0xB0, data, 108) == WA_EVENT_COMMIT_PREPARED && x->xid == 4711 &&
			  strcmp(x->gid, "abc") == 0 && x->subxacts == 2 && x->dropped_files == 1 && x->dropped_stats == 1 &&
			  x->origin_lsn == 123 && !x->incomplete,
		  "a commit with all that there is");
	for (uint32 len = 0; len < 108; len++)
	{
		if (event_of(17, WA_RM_XACT, 0xB0, data, len) != WA_EVENT_INVALID)
			wrong++;
	}
	CHECK(wrong == 0, "... cut off anywhere is none");
	for (int at = 20; at <= 64; at += at == 20 ? 12 : 16)
	{
		uint32 saved;

		memcpy(&saved, data + at, 4);
		for (v = 0x80000000; v != 0; v = v == 0x80000000 ? 0xffffffff : v == 0xffffffff ? 0x40000001
																						: 0)
		{
			memcpy(data + at, &v, 4);
			if (event_of(17, WA_RM_XACT, 0xB0, data, 108) != WA_EVENT_INVALID)
				wrong++;
		}
		memcpy(data + at, &saved, 4);
	}
	CHECK(wrong == 0, "... nor one with other counts");
	v = 0;
	memcpy(data + 8, &v, 4);
	CHECK(event_of(17, WA_RM_XACT, 0xB0, data, 108) == WA_EVENT_INVALID, "a prepared one needs the transaction");
	CHECK(event_of(17, WA_RM_XACT, 0x80, data, 108) == WA_EVENT_COMMIT && x->xid == 77, "... another one has it");

	/* an item of dropped statistics has 16 bytes from 18 on */
	v = 0x100;
	memcpy(data + 8, &v, 4);
	v = 1;
	memcpy(data + 12, &v, 4);
	for (v = 0; v < 4; v++)
	{
		uint32 n = v + 7;

		memcpy(data + 16 + v * 4, &n, 4);
	}
	event_of(18, WA_RM_XACT, 0x80, data, 32);
	CHECK(x->dropped_stats == 1 && wa_array_stats(18, x->dropped_stats_array, 0).object == (UINT64CONST(10) << 32 | 9),
		  "statistics with numbers of 64 bits");
	CHECK(event_of(18, WA_RM_XACT, 0x80, data, 31) == WA_EVENT_INVALID, "... and only so");
	event_of(17, WA_RM_XACT, 0x80, data, 28);
	CHECK(x->dropped_stats == 1 && wa_array_stats(17, x->dropped_stats_array, 0).object == 9 &&
			  wa_array_stats(17, x->dropped_stats_array, 0).kind == 7,
		  "... of 32 bits before");

	memset(data, 'x', sizeof(data));
	CHECK(event_of(15, WA_RM_XLOG, 0x70, data, 72) == WA_EVENT_INVALID, "a restore point's name ends");
	data[8 + 63] = 0;
	CHECK(event_of(15, WA_RM_XLOG, 0x70, data, 72) == WA_EVENT_RESTORE_POINT &&
			  strlen(event.u.restore_point.name) == 63,
		  "... within its field");
	CHECK(event_of(15, WA_RM_XLOG, 0xE0, data, 4) == WA_EVENT_NONE && event_of(17, WA_RM_XLOG, 0xE0, data, 4) == WA_EVENT_CHECKPOINT_REDO,
		  "CHECKPOINT_REDO came with 17");
	CHECK(event_of(17, 10, 0x30, data, 12) == WA_EVENT_INVALID && event_of(17, 4, 0x20, data, 40) == WA_EVENT_INVALID &&
			  event_of(17, 8, 0, data, 40) == WA_EVENT_INVALID && event_of(17, 0, 0, data, 87) == WA_EVENT_INVALID &&
			  event_of(17, 2, 0x20, data, 19) == WA_EVENT_INVALID && event_of(17, 5, 0, data, 3) == WA_EVENT_INVALID &&
			  event_of(17, 0, 0x60, data, 25) == WA_EVENT_INVALID && event_of(17, 0, 0x80, data, 0) == WA_EVENT_INVALID,
		  "other contents that make no sense");
}

/* ---- the parts of a record ---- */

static uint8 part_bytes[2048];
static uint32 part_len;

static void
add_part(const void *bytes, uint32 len)
{
	memcpy(part_bytes + part_len, bytes, len);
	part_len += len;
}

/* Are these headers, with so many bytes of data behind them, a record? */
static bool
parts_of(uint32 data, uint32 missing, WaRecordParts *parts)
{
	WaWalRecord record;

	memset(&record, 0, sizeof(record));
	record.major = 17;
	record.data = part_bytes;
	record.total_len = part_len + data;
	record.data_len = record.total_len - missing;
	return wa_record_parts(&record, parts);
}

static void
begin_parts(void)
{
	memset(part_bytes, 0, sizeof(part_bytes));
	part_len = WA_RECORD_HEADER;
}

static void
test_parts(void)
{
	/* id, fork and flags, length of data, image (length, hole, info, hole's length), file, block */
	static const uint8 first[] = {0, 0x30, 3, 0, 9, 0, 7, 0, 0x01 | 0x02 | 0x04, 5, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0};
	static const uint8 second[] = {2, 0x80 | 1, 0, 0, 8, 0, 0, 0};
	static const uint8 origin[] = {253, 6, 0};
	static const uint8 top[] = {252, 77, 0, 0, 0};
	static const uint8 main_short[] = {255, 10};
	static const uint8 no_such_id[] = {33, 0, 0, 0};
	WaRecordParts parts;
	uint32 headers;
	int wrong = 0;

	begin_parts();
	CHECK(parts_of(0, 0, &parts) && parts.blocks == 0 && parts.main_len == 0, "a record of nothing");
	CHECK(!parts_of(1, 0, &parts), "... and of a byte that is nothing");

	begin_parts();
	add_part(first, sizeof(first));
	add_part(second, sizeof(second));
	add_part(origin, sizeof(origin));
	add_part(top, sizeof(top));
	add_part(main_short, sizeof(main_short));
	headers = part_len;
	CHECK(parts_of(22, 0, &parts) && parts.blocks == 2 && parts.image_bytes == 9 && parts.origin == 6 &&
			  parts.top_xid == 77 && parts.main_len == 10 && parts.main_data == part_bytes + headers + 12,
		  "a record of all parts");
	CHECK(parts.block[0].id == 0 && parts.block[0].fork == 0 && parts.block[0].file.tablespace == 1 &&
			  parts.block[0].file.database == 2 && parts.block[0].file.number == 3 && parts.block[0].block == 4 &&
			  parts.block[0].has_image && parts.block[0].apply_image && parts.block[0].image_len == 9 &&
			  parts.block[0].data_len == 3,
		  "... its first block");
	CHECK(parts.block[1].id == 2 && parts.block[1].fork == 1 && parts.block[1].file.number == 3 &&
			  parts.block[1].file.tablespace == 1 && parts.block[1].block == 8 && !parts.block[1].has_image &&
			  !parts.block[1].apply_image && parts.block[1].data_len == 0,
		  "... and its second, of the same relation");
	CHECK(parts_of(22, 22, &parts) && parts.main_data == NULL && parts.main_len == 10, "... of which only the headers are there");
	for (uint32 missing = 1; missing <= headers - WA_RECORD_HEADER; missing++)
	{
		if (parts_of(22, 22 + missing, &parts))
			wrong++;
	}
	/* with some data less, what is left of the headers may pass for it */
	for (uint32 data = 11; data < 60; data++)
	{
		if (data != 22 && parts_of(data, 0, &parts))
			wrong++;
	}
	CHECK(wrong == 0, "... but not of less, nor of more data than was announced");

	part_bytes[WA_RECORD_HEADER + sizeof(first)] = 0;
	CHECK(!parts_of(22, 0, &parts), "blocks are in order");
	part_bytes[WA_RECORD_HEADER + sizeof(first)] = 2;
	part_bytes[WA_RECORD_HEADER + 1] = 0x10;
	CHECK(!parts_of(22, 0, &parts) && !parts_of(19, 0, &parts), "a block without data has no length of it");
	part_bytes[WA_RECORD_HEADER + 1] = 0x30;
	part_bytes[WA_RECORD_HEADER + 6] = 0;
	CHECK(!parts_of(22, 0, &parts), "an image with a hole says where");
	part_bytes[WA_RECORD_HEADER + 6] = 7;
	part_bytes[WA_RECORD_HEADER + 9] = 0;
	CHECK(!parts_of(22, 0, &parts), "... and how large it is");

	begin_parts();
	add_part(second, sizeof(second));
	CHECK(!parts_of(0, 0, &parts), "the first block can't be of the same relation");
	begin_parts();
	add_part(no_such_id, sizeof(no_such_id));
	CHECK(!parts_of(0, 0, &parts), "a part that does not exist");
}

/* ---- names of all record types ---- */

/* A segment with a record of each type; its main data are as many bytes as the type plus one. */
static void
write_types(const char *path, int major)
{
	Wal w;
	FILE *file;
	static uint8 zero[16];

	begin_wal(&w, 8192, MB);
	w.magic = major == 15 ? 0xD110 : major == 17 ? 0xD116
												 : 0xD118;
	for (int rmid = 0; rmid <= 255; rmid++)
	{
		for (int type = 0; type < 16; type++)
		{
			uint8 body[2 + 16] = {255, type + 1};

			if ((rmid > 21 && rmid < 128) || (rmid > 128 && rmid < 255))
				continue;
			/* a switch would be the end of the segment */
			if (rmid == WA_RM_XLOG && type == 4)
				continue;
			memcpy(body + 2, zero, type + 1);
			put_raw(&w, rmid, type << 4, body, 2 + type + 1, 0);
		}
	}
	room(&w, MB - w.len % MB);
	file = fopen(path, "wb");
	if (file == NULL || fwrite(w.bytes, 1, w.len, file) != w.len || fclose(file) != 0)
	{
		perror(path);
		exit(1);
	}
	free(w.bytes);
}

static void
test_types(const char *folder, int major)
{
	char path[1024];
	char line[256];
	FILE *file;
	int lines = 0;
	int wrong = 0;
	char what[64];

	snprintf(path, sizeof(path), "%s/%d/types", folder, major);
	file = fopen(path, "r");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
	{
		int rmid;
		unsigned info;
		int at;
		char got[128];
		char type[64];

		line[strcspn(line, "\n")] = '\0';
		if (sscanf(line, "%d %x %n", &rmid, &info, &at) != 2)
		{
			wrong++;
			continue;
		}
		wa_rmgr_name(major, rmid, got, sizeof(got));
		wa_record_type(major, rmid, info, type, sizeof(type));
		strlcat(got, "/", sizeof(got));
		strlcat(got, type, sizeof(got));
		if (strcmp(line + at, got) != 0 && wrong++ < 5)
			printf("# wanted %s, got %s\n", line, got);
		lines++;
	}
	if (file != NULL)
		fclose(file);
	snprintf(what, sizeof(what), "%d: names of all types of records", major);
	CHECK(wrong == 0 && lines > 300, what);
}

int
main(int argc, char **argv)
{
	const char *folder = argc > 1 ? argv[1] : "test/wal";

	if (argc > 3)
	{
		write_types(argv[2], atoi(argv[3]));
		return 0;
	}
	test_events();
	test_parts();
	test_types(folder, 15);
	test_types(folder, 17);
	test_types(folder, 18);
	printf("1..%d\n", tests);
	return failures == 0 ? 0 : 1;
}
