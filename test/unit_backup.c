/*-------------------------------------------------------------------------
 *
 * unit_backup.c
 *	  Unit tests of what reads base backups: tar archives, manifests, pg_control.
 *
 * The argument is the folder test/control: the first 512 bytes of the pg_control
 * of a standby of each major that was shut down, beside what pg_controldata said.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "../src/base/backup_manifest.h"
#include "../src/base/control_file.h"
#include "../src/base/tar_reader.h"
#include "unit.h"

/* ---- pg_control ---- */

static void
test_control(const char *folder)
{
	static const struct
	{
		const char *file;
		uint32 version;
		uint32 catalog;
		uint64 sysid;
		XLogRecPtr checkpoint;
		XLogRecPtr redo;
		XLogRecPtr min_recovery;
		uint32 checksums;
	} known[] = {
		{"15", 1300, 202209061, UINT64CONST(7710651663400938120), 0x110B2F48, 0x110B2F10, 0x110B2FC0, 1},
		{"17", 1700, 202406281, UINT64CONST(7710651933483888613), 0x30BC770, 0x30BC718, 0x30BC7E8, 0},
		{"18", 1800, 202506291, UINT64CONST(7710651985093219174), 0x30BD1F0, 0x30BD198, 0x30BD268, 1},
	};

	for (size_t i = 0; i < lengthof(known); i++)
	{
		char path[MAXPGPATH];
		char name[64];
		uint8 bytes[WA_CONTROL_FILE_READ];
		uint8 *moved = malloc(WA_CONTROL_FILE_READ + 1);
		WaControlFile c;
		FILE *file;
		bool whole;
		bool all_found = true;

		snprintf(path, sizeof(path), "%s/%s", folder, known[i].file);
		file = fopen(path, "rb");
		whole = file != NULL && fread(bytes, 1, sizeof(bytes), file) == sizeof(bytes);
		if (file != NULL)
			fclose(file);
		snprintf(name, sizeof(name), "pg_control of %s is read", known[i].file);
		memcpy(moved + 1, bytes, sizeof(bytes));
		CHECK(whole && wa_read_control_file(moved + 1, sizeof(bytes), &c) == WA_CONTROL_OK, name);
		free(moved);
		CHECK(c.control_version == known[i].version && c.catalog_version == known[i].catalog &&
				  c.system_identifier == known[i].sysid && c.state == 2 &&
				  c.checkpoint == known[i].checkpoint && c.redo == known[i].redo && c.checkpoint_tli == 1 &&
				  c.min_recovery_point == known[i].min_recovery && c.min_recovery_tli == 1 &&
				  c.backup_start_point == 0 && c.backup_end_point == 0 &&
				  c.wal_segment_size == 16 * MB && c.data_checksum_version == known[i].checksums,
			  "... as pg_controldata does");

		CHECK(wa_read_control_file(bytes, sizeof(bytes) - 1, &c) == WA_CONTROL_SHORT, "... and is too short without its last byte");
		/* any bit up to the CRC's end */
		for (int bit = 0; bit < (known[i].version == 1800 ? 296 : 292) * 8; bit += 7)
		{
			WaControlResult result;

			bytes[bit / 8] ^= 1 << bit % 8;
			result = wa_read_control_file(bytes, sizeof(bytes), &c);
			if (result != WA_CONTROL_DAMAGED && !(result == WA_CONTROL_UNKNOWN && bit / 8 >= 8 && bit / 8 < 12))
				all_found = false;
			bytes[bit / 8] ^= 1 << bit % 8;
		}
		CHECK(all_found, "... and any flipped bit is found");
		bytes[8] = 0x01;
		CHECK(wa_read_control_file(bytes, sizeof(bytes), &c) == WA_CONTROL_UNKNOWN, "... and another version is not known");
	}
}

/* ---- tar ---- */

/* What the handler was told, as text; bytes of files are appended as they are. */
static char told[16384];
static size_t told_len;

static bool
tar_told(void *arg, WaTarEvent event, const WaTarEntry *entry, const char *data, size_t len)
{
	static const char types[] = "fdl";

	switch (event)
	{
		case WA_TAR_BEGIN:
			told_len += sprintf(told + told_len, "%c %s %s %llu %o %llu{", types[entry->type], entry->path, entry->link,
								(unsigned long long) entry->size, entry->mode, (unsigned long long) entry->mtime);
			break;
		case WA_TAR_DATA:
			/* of a large file the beginning is enough */
			if (told_len + len < sizeof(told) / 2)
			{
				memcpy(told + told_len, data, len);
				told_len += len;
			}
			break;
		case WA_TAR_END:
			told_len += sprintf(told + told_len, "}");
			break;
	}
	told[told_len] = '\0';
	return arg == NULL || strstr(told, arg) == NULL;
}

static char archive[64 * 1024];
static size_t archive_len;

/* Give the header at 'header' its checksum. */
static void
sum_header(char *header)
{
	unsigned int sum = 0;

	memset(header + 148, ' ', 8);
	for (int i = 0; i < WA_TAR_BLOCK; i++)
		sum += (unsigned char) header[i];
	sprintf(header + 148, "%06o", sum);
}

/* Add an entry to the archive; returns its header. */
static char *
add_entry(char type, const char *name, const char *link, const char *content)
{
	char *header = archive + archive_len;
	size_t len = strlen(content);

	memset(header, 0, WA_TAR_BLOCK);
	strncpy(header, name, 100);
	strcpy(header + 100, "0000600");
	sprintf(header + 124, "%011o", (unsigned) len);
	sprintf(header + 136, "%011o", 1700000000u);
	header[156] = type;
	strncpy(header + 157, link, 100);
	memcpy(header + 257, "ustar\00000", 8);
	sum_header(header);
	archive_len += WA_TAR_BLOCK;
	memset(archive + archive_len, 0, TYPEALIGN(WA_TAR_BLOCK, len));
	memcpy(archive + archive_len, content, len);
	archive_len += TYPEALIGN(WA_TAR_BLOCK, len);
	return header;
}

static void
add_zeroes(size_t len)
{
	memset(archive + archive_len, 0, len);
	archive_len += len;
}

/* Push the archive in pieces; returns the problem, "" if there is none, "stopped" if the handler stopped. */
static const char *
read_archive(size_t piece, const char *stop_at)
{
	static WaTarReader reader;
	bool good = true;

	told_len = 0;
	told[0] = '\0';
	wa_tar_begin(&reader, tar_told, unconstify(char *, stop_at));
	for (size_t at = 0; at < archive_len && good; at += piece)
		good = wa_tar_push(&reader, archive + at, Min(piece, archive_len - at));
	good = wa_tar_finish(&reader) && good;
	return good ? "" : reader.problem != NULL ? reader.problem
											  : "stopped";
}

/* An archive of one file whose header was changed must be refused with 'problem'. */
static void
check_refused(char *header, const char *problem)
{
	const char *is;

	sum_header(header);
	add_zeroes(1024);
	is = read_archive(512, NULL);
	CHECK(strcmp(is, problem) == 0, problem);
	if (strcmp(is, problem) != 0)
		printf("# got \"%s\"\n", is);
	archive_len = 0;
}

static void
test_tar(void)
{
	static const char wanted[] = "f backup_label  5 600 1700000000{START}"
								 "d pg_wal/archive_status  0 600 1700000000{}"
								 "l pg_tblspc/16384 /ts 0 600 1700000000{}"
								 "f base/1/empty  0 600 1700000000{}"
								 "f global/pg_control  3 600 1700000000{abc}";
	static const size_t pieces[] = {1, 7, 511, 512, 513, 1000, sizeof(archive)};
	static const char *const bad_names[] = {"", "/etc/passwd", "..", "a/../b", "a//b", "./", "a/./b", "a/..", "../x", ".//x", "a/"};
	const char invalid_name[] = "the name of an entry of the archive is not valid";
	const char invalid_size[] = "the size of an entry of the archive is not valid";
	char long_name[101];
	char *header;
	bool same = true;

	add_entry('0', "backup_label", "", "START");
	add_entry('5', "./pg_wal/archive_status/", "", "");
	add_entry('2', "pg_tblspc/16384", "/ts", "");
	add_entry('0', "base/1/empty", "", "");
	add_entry('\0', "global/pg_control", "", "abc");
	add_zeroes(1024);
	for (size_t i = 0; i < lengthof(pieces); i++)
		same = same && strcmp(read_archive(pieces[i], NULL), "") == 0 && strcmp(told, wanted) == 0;
	CHECK(same, "an archive is read, however it is cut");
	CHECK(strcmp(read_archive(100, "16384"), "stopped") == 0, "the handler can stop it");
	add_zeroes(512 * 17);
	CHECK(strcmp(read_archive(100, NULL), "") == 0, "more zeroes at the end are fine");

	/* any flipped bit of an archive is found, but those of a file's content */
	{
		bool found = true;

		archive_len = 0;
		add_entry('0', "a", "", "x");
		add_zeroes(1024);
		for (size_t bit = 0; bit < archive_len * 8; bit++)
		{
			if (bit / 8 == WA_TAR_BLOCK)
				continue;
			/* case and spaces of the checksum's own field are free */
			if (bit / 8 >= 148 && bit / 8 < 156)
				continue;
			archive[bit / 8] ^= 1 << bit % 8;
			found = found && strcmp(read_archive(512, NULL), "") != 0;
			archive[bit / 8] ^= 1 << bit % 8;
		}
		CHECK(found, "a flipped bit of what is not content is found");
		for (size_t len = 0; len < 2560; len++)
		{
			archive_len = len;
			found = found && (len >= 2048 || strcmp(read_archive(512, NULL), "the archive ends too early") == 0);
		}
		CHECK(found, "an archive that is cut anywhere is found");
	}

	archive_len = 0;
	memset(long_name, 'n', 100);
	long_name[100] = '\0';
	header = add_entry('0', long_name, "", "abc");
	memset(header + 345, 'p', 155);
	sum_header(header);
	add_zeroes(1024);
	CHECK(strcmp(read_archive(512, NULL), "") == 0 && strlen(told) > 256 && strstr(told, "pn") == NULL && strstr(told, "p/n") != NULL,
		  "the longest name");

	archive_len = 0;
	header = add_entry('0', "big", "", "");
	memset(header + 124, 0, 12);
	header[124] = (char) 0x80;
	header[131] = 3; /* 3 << 32 */
	sum_header(header);
	CHECK(strcmp(read_archive(512, NULL), "the archive ends too early") == 0 && strstr(told, "big  12884901888 ") != NULL,
		  "a size in base 256");
	archive_len = 0;
	header = add_entry('0', "big", "", "");
	memset(header + 124, 0xFF, 12);
	check_refused(header, invalid_size);
	header = add_entry('0', "big", "", "");
	memset(header + 125, 0xFF, 11);
	header[124] = (char) 0x80;
	check_refused(header, invalid_size);
	header = add_entry('0', "big", "", "");
	memcpy(header + 124, "7777777777x ", 12);
	check_refused(header, invalid_size);
	header = add_entry('5', "dir", "", "");
	header[134] = '1';
	check_refused(header, invalid_size);
	header = add_entry('0', "big", "", "");
	memset(header + 100, 'x', 8);
	check_refused(header, "the mode or time of an entry of the archive is not valid");
	for (size_t i = 0; i < lengthof(bad_names); i++)
		check_refused(add_entry('0', bad_names[i], "", "abc"), invalid_name);
	check_refused(add_entry('3', "dev", "", ""), "an entry of the archive is neither file, directory nor symbolic link");
	check_refused(add_entry('L', "././@LongLink", "", ""), "an entry of the archive is neither file, directory nor symbolic link");
	header = add_entry('0', "a", "", "");
	memcpy(header + 257, "ustar  ", 8);
	check_refused(header, "this is no tar header");
	add_zeroes(512);
	check_refused(add_entry('0', "a", "", ""), "the archive goes on after its end");
}

/* ---- manifests ---- */

#define SHA "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define HEAD "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n"
#define FILE_A "{ \"Path\": \"a\", \"Size\": 1, \"Last-Modified\": \"\", \"Checksum-Algorithm\": \"SHA256\", \"Checksum\": \"" SHA "\" }"
#define RANGES "],\n\"WAL-Ranges\": [\n{ \"Timeline\": 1, \"Start-LSN\": \"16/B374D848\", \"End-LSN\": \"17/0\" }\n],\n"
#define TAIL "\"Manifest-Checksum\": \"" SHA "\"}\n"

static bool
manifest_file(void *arg, const WaManifestFile *file)
{
	told_len += sprintf(told + told_len, "%s %llu %s %d;", file->path, (unsigned long long) file->size,
						wa_checksum_name(file->algorithm), file->checksum_len > 0 ? file->checksum[0] : -1);
	return arg == NULL || strcmp(arg, file->path) != 0;
}

static bool
manifest_range(void *arg, const WaManifestRange *range)
{
	told_len += sprintf(told + told_len, "%u %X/%X %X/%X;", range->tli, LSN_FORMAT_ARGS(range->start), LSN_FORMAT_ARGS(range->end));
	return true;
}

static WaManifestReader reader;

static const char *
read_manifest(const char *text, size_t len, size_t piece, char *stop_at)
{
	WaManifestHandler handler = {manifest_file, manifest_range, stop_at};
	bool good = true;

	told_len = 0;
	told[0] = '\0';
	wa_manifest_begin(&reader, &handler);
	for (size_t at = 0; at < len && good; at += piece)
		good = wa_manifest_push(&reader, text + at, Min(piece, len - at));
	good = wa_manifest_finish(&reader) && good;
	return good ? "" : reader.problem != NULL ? reader.problem
											  : "stopped";
}

static void
check_manifest(const char *text, const char *problem)
{
	const char *is = read_manifest(text, strlen(text), 50, NULL);

	CHECK(strcmp(is, problem) == 0, problem[0] ? problem : "a manifest is read");
	if (strcmp(is, problem) != 0)
		printf("# got \"%s\" in line %d\n", is, (int) reader.line);
}

/* A manifest of one file with these members. */
static void
check_file(const char *members, const char *problem)
{
	char *text = malloc(strlen(members) + 4096);

	sprintf(text, HEAD "{ %s }\n" RANGES TAIL, members);
	check_manifest(text, problem);
	free(text);
}

static void
test_manifest(void)
{
	static const char whole[] =
		"{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": 7710651663400938120,\n\"Files\": [\n" FILE_A ",\n"
		"{ \"Encoded-Path\": \"62ff\", \"Size\": 0, \"Last-Modified\": \"\", \"Checksum-Algorithm\": \"crc32c\", \"Checksum\": \"0A000000\" },\n"
		"{ \"Path\": \"\\u00e4\\\"\\\\\\/\\ud83d\\ude00\\n\", \"Size\": 9223372036854775807, \"Last-Modified\": \"\" }\n" RANGES TAIL;
	static const char wanted[] = "a 1 SHA256 227;b\xff 0 CRC32C 10;\xc3\xa4\"\\/\xf0\x9f\x98\x80\n 9223372036854775807 NONE -1;"
								 "1 16/B374D848 17/0;";
	char long_path[WA_MANIFEST_PATH_LEN + 100];
	char text[3 * WA_MANIFEST_PATH_LEN];
	bool same = true;
	bool cut = true;

	for (size_t piece = 1; piece <= sizeof(whole); piece++)
		same = same && strcmp(read_manifest(whole, sizeof(whole) - 1, piece, NULL), "") == 0 && strcmp(told, wanted) == 0 &&
			   reader.version == 2 && reader.system_identifier == UINT64CONST(7710651663400938120) && reader.files == 3 &&
			   reader.checksum[0] == 0xe3 && reader.checksum[31] == 0x55;
	CHECK(same, "a manifest of version 2 is read, however it is cut");
	for (size_t len = 0; len < sizeof(whole) - 2; len++)
		cut = cut && strcmp(read_manifest(whole, len, 100, NULL), "the manifest ends too early") == 0;
	CHECK(cut, "a manifest that is cut anywhere is found");
	CHECK(strcmp(read_manifest(whole, sizeof(whole) - 1, 9, "a"), "stopped") == 0 && strcmp(told, "a 1 SHA256 227;") == 0,
		  "the handler can stop it");

	check_manifest(HEAD FILE_A "\n" RANGES TAIL, "");
	CHECK(reader.system_identifier == 0 && reader.version == 1, "... of version 1 without a system identifier");
	check_manifest(HEAD RANGES TAIL, "");
	check_manifest(HEAD FILE_A "\n" RANGES TAIL "{", "the manifest goes on after its end");
	check_manifest(HEAD FILE_A "\n" RANGES "\"Manifest-Checksum\": \"" SHA "\", \"Files\": []}", "a member is there twice");
	check_manifest(HEAD "],\n\"Manifest-Checksum\": \"" SHA "\", \"WAL-Ranges\": []}", "the manifest goes on after its checksum");
	check_manifest(HEAD RANGES "\"Manifest-Checksum\": \"e3b0\"}", "the manifest's checksum is not valid");
	check_manifest(HEAD "]}", "the manifest lacks a member");
	check_manifest("{ \"Files\": []}", "the manifest does not begin with its version");
	check_manifest("{ \"PostgreSQL-Backup-Manifest-Version\": 3, ", "the manifest's version is not known");
	check_manifest("{ \"PostgreSQL-Backup-Manifest-Version\": \"1\", ", "a value is of the wrong type");
	check_manifest("{ \"PostgreSQL-Backup-Manifest-Version\": 1, \"System-Identifier\": 7, ", "the system identifier is not valid");
	check_manifest("{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"Files\": [\n" RANGES TAIL, "the manifest lacks a member");
	check_manifest("{ \"PostgreSQL-Backup-Manifest-Version\": 1, \"Comment\": 7, ", "a member is not known");
	check_manifest(HEAD FILE_A ",\n" RANGES TAIL, "this is not valid JSON");
	check_manifest(HEAD FILE_A FILE_A RANGES TAIL, "this is not valid JSON");
	check_manifest(HEAD "[] " RANGES TAIL, "this is not valid JSON");
	check_manifest("[", "this is not valid JSON");
	check_manifest("{ x", "this is not valid JSON");
	check_manifest("", "the manifest ends too early");

	check_file("\"Path\": \"a\", \"Size\": 1", "");
	check_file("\"Size\": 1", "a file has no path, or two");
	check_file("\"Path\": \"a\", \"Encoded-Path\": \"61\", \"Size\": 1", "a file has no path, or two");
	check_file("\"Path\": \"a\"", "a file has no size");
	check_file("\"Path\": \"a\", \"Size\": 1, \"Size\": 1", "a member is there twice");
	check_file("\"Path\": \"a\", \"Size\": 9223372036854775808", "a file's size is not valid");
	check_file("\"Path\": \"a\", \"Size\": 99999999999999999999", "a file's size is not valid");
	check_file("\"Path\": \"a\", \"Size\": -1", "this is not valid JSON");
	check_file("\"Path\": \"a\", \"Size\": \"1\"", "a value is of the wrong type");
	check_file("\"Path\": \"../a\", \"Size\": 1", "a path is not valid");
	check_file("\"Path\": \"/a\", \"Size\": 1", "a path is not valid");
	check_file("\"Path\": \"\", \"Size\": 1", "a path is not valid");
	check_file("\"Encoded-Path\": \"6100\", \"Size\": 1", "a path is not valid");
	check_file("\"Encoded-Path\": \"616\", \"Size\": 1", "an encoded path is not valid");
	check_file("\"Encoded-Path\": \"6g\", \"Size\": 1", "an encoded path is not valid");
	check_file("\"Path\": \"a\\u0000\", \"Size\": 1", "half a character in a text");
	check_file("\"Path\": \"a\\ud83d\", \"Size\": 1", "half a character in a text");
	check_file("\"Path\": \"a\\ude00\", \"Size\": 1", "half a character in a text");
	check_file("\"Path\": \"a\\ud83d\\n\", \"Size\": 1", "an escape in a text is not valid");
	check_file("\"Path\": \"a\\x\", \"Size\": 1", "an escape in a text is not valid");
	check_file("\"Path\": \"a\\u00g0\", \"Size\": 1", "an escape in a text is not valid");
	check_file("\"Path\": \"a\n\", \"Size\": 1", "a control character in a text");
	check_file("\"Path\": \"a\", \"Size\": 1, \"Checksum\": \"00\"", "a file's checksum does not fit its algorithm");
	check_file("\"Path\": \"a\", \"Size\": 1, \"Checksum-Algorithm\": \"SHA256\"", "a file's checksum does not fit its algorithm");
	check_file("\"Path\": \"a\", \"Size\": 1, \"Checksum-Algorithm\": \"SHA256\", \"Checksum\": \"00\"", "a file's checksum does not fit its algorithm");
	check_file("\"Path\": \"a\", \"Size\": 1, \"Checksum-Algorithm\": \"MD5\", \"Checksum\": \"00\"", "a checksum algorithm is not known");
	check_file("\"Path\": \"a\", \"Size\": 1, \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"0000000x\"", "a file's checksum is not valid");
	check_file("\"Path\": \"a\", \"Size\": 1, \"Timeline\": 1", "a member is not known");

	memset(long_path, 'p', sizeof(long_path));
	long_path[WA_MANIFEST_PATH_LEN - 1] = '\0';
	sprintf(text, "\"Path\": \"%s\", \"Size\": 1", long_path);
	check_file(text, "");
	long_path[WA_MANIFEST_PATH_LEN - 1] = 'p';
	long_path[WA_MANIFEST_PATH_LEN] = '\0';
	sprintf(text, "\"Path\": \"%s\", \"Size\": 1", long_path);
	check_file(text, "a path is too long");
	memset(text, 'p', sizeof(text));
	memcpy(text, "\"Path\": \"", 9);
	text[sizeof(text) - 1] = '\0';
	check_file(text, "a value is too long");

	check_manifest(HEAD "],\n\"WAL-Ranges\": [ {\"Timeline\": 1} ],\n" TAIL, "a WAL range lacks a member");
	check_manifest(HEAD "],\n\"WAL-Ranges\": [ {\"Timeline\": 0} ],\n" TAIL, "a timeline is not valid");
	check_manifest(HEAD "],\n\"WAL-Ranges\": [ {\"Timeline\": 1, \"Start-LSN\": \"1/1\", \"End-LSN\": \"1/0\"} ],\n" TAIL,
				   "a WAL range ends before it starts");
	for (int i = 0; i < 6; i++)
	{
		static const char *const lsns[] = {"", "1", "1/", "/1", "1/2/3", "123456789/0"};

		sprintf(text, HEAD "],\n\"WAL-Ranges\": [ {\"Start-LSN\": \"%s\"} ],\n" TAIL, lsns[i]);
		check_manifest(text, "an LSN is not valid");
	}
}

static void
test_algorithms(void)
{
	WaChecksumAlgorithm algorithm;

	CHECK(wa_checksum_from_name("sha512", &algorithm) && algorithm == WA_CHECKSUM_SHA512 && wa_checksum_length(algorithm) == 64,
		  "names of algorithms in any case");
	CHECK(!wa_checksum_from_name("", &algorithm) && !wa_checksum_from_name("SHA", &algorithm) && !wa_checksum_from_name("SHA2566", &algorithm),
		  "names of none");
}

int
main(int argc, char **argv)
{
	if (argc != 2)
		return 1;
	test_control(argv[1]);
	test_tar();
	test_manifest();
	test_algorithms();
	printf("1..%d\n", tests);
	return failures == 0 ? 0 : 1;
}
