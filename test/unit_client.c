/*-------------------------------------------------------------------------
 *
 * unit_client.c
 *	  Parts of the client without a server: unpacking a backup's archives
 *	  against its manifest, and reviewing a copy's configuration.
 *
 * unit_client FOLDER: works in that folder, which is made and removed.
 *
 *-------------------------------------------------------------------------
 */
#include "../src/base/base.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cryptohash.h"
#include "common/sha2.h"

#include "../cli/conf_file.h"
#include "../cli/restore_settings.h"
#include "../cli/unpack.h"
#include "unit.h"

static const char *top;

/* ---- a backup that is made up ---- */

#define MAX_MADE (4 * MB)

typedef struct Made
{
	char *tar;
	size_t len;
	StringInfoData manifest; /* lines of files */
	int files;
} Made;

static void
sha256_hex(const void *data, size_t len, char *hex)
{
	uint8 digest[PG_SHA256_DIGEST_LENGTH];
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);

	if (pg_cryptohash_init(ctx) < 0 || pg_cryptohash_update(ctx, data, len) < 0 ||
		pg_cryptohash_final(ctx, digest, sizeof(digest)) < 0)
		abort();
	pg_cryptohash_free(ctx);
	for (int i = 0; i < PG_SHA256_DIGEST_LENGTH; i++)
		sprintf(hex + 2 * i, "%02x", digest[i]);
}

static void
add_header(Made *made, const char *path, char type, size_t size, const char *link)
{
	char *header = made->tar + made->len;
	unsigned sum = 0;

	memset(header, 0, 512);
	strcpy(header, path);
	sprintf(header + 100, "%07o", type == '5' ? 0700 : 0600);
	sprintf(header + 108, "%07o", 0);
	sprintf(header + 116, "%07o", 0);
	sprintf(header + 124, "%011o", (unsigned) size);
	sprintf(header + 136, "%011o", 0);
	memset(header + 148, ' ', 8);
	header[156] = type;
	strcpy(header + 157, link);
	memcpy(header + 257, "ustar", 6);
	memcpy(header + 263, "00", 2);
	for (int i = 0; i < 512; i++)
		sum += (unsigned char) header[i];
	sprintf(header + 148, "%06o", sum);
	header[155] = ' ';
	made->len += 512;
}

static void
add_to_manifest(Made *made, const char *path, const char *data, size_t len)
{
	char hex[2 * PG_SHA256_DIGEST_LENGTH + 1];

	sha256_hex(data, len, hex);
	appendStringInfo(&made->manifest,
					 "%s{ \"Path\": \"%s\", \"Size\": %zu, \"Last-Modified\": \"2026-11-21 10:00:00 GMT\", "
					 "\"Checksum-Algorithm\": \"SHA256\", \"Checksum\": \"%s\" }",
					 made->files++ == 0 ? "" : ",\n", path, len, hex);
}

static void
add_bytes(Made *made, const char *path, const char *data, size_t len)
{
	add_header(made, path, '0', len, "");
	memcpy(made->tar + made->len, data, len);
	made->len += len;
	while (made->len % 512 != 0)
		made->tar[made->len++] = 0;
}

static void
add_file(Made *made, const char *path, const char *data, size_t len)
{
	add_bytes(made, path, data, len);
	add_to_manifest(made, path, data, len);
}

static char *
whole_manifest(Made *made, size_t *len)
{
	StringInfoData all;
	char hex[2 * PG_SHA256_DIGEST_LENGTH + 1];

	initStringInfo(&all);
	appendStringInfo(&all, "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n%s\n],\n", made->manifest.data);
	appendStringInfoString(&all, "\"WAL-Ranges\": [\n{ \"Timeline\": 1, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000138\" }\n],\n");
	sha256_hex(all.data, all.len, hex);
	appendStringInfo(&all, "\"Manifest-Checksum\": \"%s\"}\n", hex);
	*len = all.len;
	return all.data;
}

static char *big;

static void
begin_made(Made *made)
{
	if (big == NULL)
	{
		big = malloc(MB + 77);
		for (int i = 0; i < MB + 77; i++)
			big[i] = (char) (i * 7 + i / 1000);
	}
	made->tar = malloc(MAX_MADE);
	made->len = 0;
	made->files = 0;
	initStringInfo(&made->manifest);
	add_header(made, "global/", '5', 0, "");
	add_header(made, "base/", '5', 0, "");
	add_header(made, "base/1/", '5', 0, "");
	add_file(made, "PG_VERSION", "15\n", 3);
	add_file(made, "base/1/1000", big, MB + 77);
	add_file(made, "base/1/empty", "", 0);
	add_file(made, "tablespace_map", "1 /live\n", 8);
}

static void
end_made(Made *made)
{
	add_file(made, "global/pg_control", big, 8192);
	memset(made->tar + made->len, 0, 1024);
	made->len += 1024;
}

/* ---- unpacking it ---- */

typedef struct Bytes
{
	const char *data;
	size_t len;
	size_t at;
	size_t step;
	size_t fail_at; /* 0: never */
} Bytes;

static ssize_t
read_bytes(void *arg, const void **data)
{
	Bytes *bytes = arg;
	size_t n = Min(bytes->step, bytes->len - bytes->at);

	if (bytes->fail_at != 0 && bytes->at >= bytes->fail_at)
		return -1;
	*data = bytes->data + bytes->at;
	bytes->at += n;
	return (ssize_t) n;
}

static char folder[MAXPGPATH];

static void
new_folder(void)
{
	static int number = 0;

	snprintf(folder, sizeof(folder), "%s/%d", top, ++number);
	if (mkdir(folder, 0700) != 0)
		abort();
}

/* What is wrong, malloc'd; "" nothing, "source" the source. */
static char *
unpack(Made *made, size_t step, size_t fail_at)
{
	Bytes bytes = {.data = made->tar, .len = made->len, .step = step, .fail_at = fail_at};
	UnpackSource source = {.read = read_bytes, .arg = &bytes};
	size_t len;
	char *text = whole_manifest(made, &len);
	char *problem;
	ManifestIndex *manifest = manifest_index_read(text, len, NULL, &problem);
	Unpack *unpack;
	bool ok;
	size_t control_len;

	if (manifest == NULL)
		return problem;
	new_folder();
	unpack = unpack_begin(manifest, 3, true);
	ok = unpack_archive(unpack, "base.tar", folder, "", &source) && unpack_finish(unpack);
	if (ok)
		problem = strdup(unpack_control(unpack, &control_len) != NULL && control_len == 8192 &&
								 memcmp(unpack_control(unpack, &control_len), big, 8192) == 0
							 ? ""
							 : "no pg_control");
	else if (unpack_problem(unpack) == NULL)
		problem = strdup("source");
	else
		problem = psprintf("%s%s", unpack_is_damage(unpack) ? "damage: " : "", unpack_problem(unpack));
	unpack_end(unpack);
	manifest_index_free(manifest);
	free(text);
	return problem;
}

static bool
is_there(const char *name, const char *data, size_t len)
{
	char path[MAXPGPATH];
	size_t is_len;
	char *is;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	is = conf_read_file(path, &is_len);
	return is != NULL && is_len == len && memcmp(is, data, len) == 0;
}

static void
check_unpack(void)
{
	Made made;
	char *problem;
	static const size_t steps[] = {1, 511, 4096, 300000, MAX_MADE};

	for (int i = 0; i < lengthof(steps); i++)
	{
		begin_made(&made);
		end_made(&made);
		problem = unpack(&made, steps[i], 0);
		CHECK(strcmp(problem, "") == 0, problem[0] ? problem : "a whole backup is unpacked");
		CHECK(is_there("base/1/1000", big, MB + 77) && is_there("PG_VERSION", "15\n", 3) && is_there("base/1/empty", "", 0),
			  "its files are as they were");
		CHECK(!is_there("global/pg_control", big, 8192), "pg_control is held back");
		CHECK(!is_there("tablespace_map", "1 /live\n", 8), "what leads to the primary is left out");
	}

	/* each block with one bit turned: everything that counts is noticed */
	begin_made(&made);
	end_made(&made);
	{
		int missed = 0;

		for (size_t at = 0; at < made.len; at += (at > 8192 && at < MB ? 65536 + 13 : 97))
		{
			made.tar[at] ^= 4;
			problem = unpack(&made, 65536, 0);
			made.tar[at] ^= 4;
			/* owners, and times, of a header are nobody's business, but its checksum is */
			if (strncmp(problem, "damage: ", 8) != 0)
				missed++;
			free(problem);
		}
		CHECK(missed == 0, "a changed bit is found wherever it is");
	}
	{
		int missed = 0;

		for (size_t len = made.len - 1024; len > 0; len = len * 2 / 3)
		{
			size_t whole = made.len;

			made.len = len;
			problem = unpack(&made, 65536, 0);
			made.len = whole;
			if (strncmp(problem, "damage: ", 8) != 0)
				missed++;
			free(problem);
		}
		CHECK(missed == 0, "and an archive that is cut off");
	}
	problem = unpack(&made, 4096, 500000);
	CHECK(strcmp(problem, "source") == 0, "a source that fails is no damage");

	begin_made(&made);
	add_bytes(&made, "stranger", "x", 1);
	end_made(&made);
	problem = unpack(&made, 4096, 0);
	CHECK(strstr(problem, "\"stranger\", which is not in the manifest") != NULL, problem);

	begin_made(&made);
	add_bytes(&made, "PG_VERSION", "15\n", 3);
	end_made(&made);
	problem = unpack(&made, 4096, 0);
	CHECK(strstr(problem, "was there before") != NULL, problem);

	begin_made(&made);
	add_to_manifest(&made, "base/1/2000", "x", 1);
	end_made(&made);
	problem = unpack(&made, 4096, 0);
	CHECK(strstr(problem, "\"base/1/2000\" is in the manifest") != NULL, problem);

	begin_made(&made);
	add_header(&made, "base/1/link", '2', 0, "/etc/passwd");
	end_made(&made);
	problem = unpack(&made, 4096, 0);
	CHECK(strstr(problem, "symbolic link") != NULL, problem);

	begin_made(&made);
	add_header(&made, "pg_tblspc/16384", '2', 0, "/live");
	end_made(&made);
	problem = unpack(&made, 4096, 0);
	CHECK(strcmp(problem, "") == 0 && !is_there("pg_tblspc/16384", "", 0), "links to tablespaces are not made");

	begin_made(&made);
	add_bytes(&made, "../outside", "x", 1);
	end_made(&made);
	problem = unpack(&made, 4096, 0);
	CHECK(strncmp(problem, "damage: ", 8) == 0, problem);

	/* a folder where a file is to go: this machine's trouble */
	begin_made(&made);
	add_header(&made, "base/1/3000/", '5', 0, "");
	add_file(&made, "base/1/3000", "x", 1);
	end_made(&made);
	problem = unpack(&made, 4096, 0);
	CHECK(strncmp(problem, "could not create file", 21) == 0, problem);
}

static void
check_manifest(void)
{
	Made made;
	size_t len;
	char *text;
	char *problem;
	int missed = 0;

	begin_made(&made);
	end_made(&made);
	text = whole_manifest(&made, &len);
	for (size_t at = 0; at < len - 1; at++)
	{
		ManifestIndex *index;

		text[at] ^= 1;
		index = manifest_index_read(text, len, NULL, &problem);
		/* hexadecimal digits may be of either case */
		if (index != NULL)
			missed++;
		text[at] ^= 1;
	}
	CHECK(missed == 0, "a changed bit of the manifest is found wherever it is");
	CHECK(manifest_index_read(text, len, "0000000000000000000000000000000000000000000000000000000000000000", &problem) == NULL &&
			  strstr(problem, "SHA-256") != NULL,
		  "another manifest than that of the backup");
}

/* ---- configuration ---- */

static bool
line_is(const char *text, const char *name, const char *value)
{
	ConfLine line;

	conf_parse_line(text, strlen(text), &line);
	return strcmp(line.name, name) == 0 && (value == NULL ? line.value == NULL : line.value != NULL && strcmp(line.value, value) == 0);
}

static void
check_lines(void)
{
	StringInfoData quoted;

	CHECK(line_is("port = 5432", "port", "5432"), "a plain line");
	CHECK(line_is("  PORT 5432 # mine", "port", "5432"), "without an equals sign, in capitals");
	CHECK(line_is("archive_command='test ! -f /a''b/%f'", "archive_command", "test ! -f /a'b/%f"), "a quote in quotes");
	CHECK(line_is("a.b = 'x\\'y\\n\\101#'", "a.b", "x'y\nA#"), "backslashes");
	CHECK(line_is("# port = 1", "", NULL) && line_is("", "", NULL) && line_is("= 1", "", NULL), "no setting");
	CHECK(line_is("include 'a.conf'", "include", "a.conf"), "an include");
	CHECK(line_is("x = 'never ends", "x", "never ends"), "a quote that is not closed");
	initStringInfo(&quoted);
	appendStringInfoString(&quoted, "x = ");
	conf_append_quoted(&quoted, "it's a \\ %f");
	CHECK(line_is(quoted.data, "x", "it's a \\ %f"), "what is quoted is read again");
}

static StringInfoData notes;

static void
take_note(void *arg, const char *text)
{
	appendStringInfo(&notes, "%s\n", text);
}

static void
put(const char *name, const char *text)
{
	char path[MAXPGPATH];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	if (!conf_write_file(path, text, strlen(text)))
		abort();
}

static char *
get(const char *name)
{
	char path[MAXPGPATH];
	size_t len;
	char *text;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	text = conf_read_file(path, &len);
	return text ? text : strdup("");
}

/* The last value that stands in a file for a setting, NULL: none. */
static char *
value_of(const char *name, const char *setting)
{
	char *found = NULL;
	char *text = get(name);

	for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
	{
		ConfLine parsed;

		conf_parse_line(line, strlen(line), &parsed);
		if (strcmp(parsed.name, setting) == 0)
			found = parsed.value;
	}
	return found;
}

static bool
has(const char *name, const char *setting, const char *value)
{
	char *is = value_of(name, setting);

	return value == NULL ? is == NULL : is != NULL && strcmp(is, value) == 0;
}

static void
check_settings(void)
{
	RestoreSettings settings = {
		.data = folder,
		.source = "prod",
		.plan_settings = "recovery_target_timeline = '1'\nrecovery_target_lsn = '0/3000028'\nmax_connections = 200\nmax_wal_senders = 5\n",
		.restore_command = "'/a b/walarchive' fetch %f %p",
		.target_action = "pause",
		.port = 5433,
		.major = 15};
	char *problem;
	char *before;

	new_folder();
	initStringInfo(&notes);
	mkdir(psprintf("%s/conf.d", folder), 0700);
	put("conf.d/a.conf", "work_mem = '5MB'\nhba_file = '/etc/hba'\n");
	put("postgresql.conf",
		"max_connections = 100\nmax_wal_senders = 10\ndata_directory = '/live'\ninclude '/etc/live.conf'\ninclude_dir 'conf.d'\n"
		"include_if_exists 'not_there'\nshared_preload_libraries = 'pg_stat_statements,\"pg_cron\", /x/unheard.so'\n"
		"recovery_target_xid = '5'\nexternal_pid_file = '/run/live.pid'\nshared_buffers = 900000GB\n");
	{
		/* beside the data directory: somebody else's */
		char *path = psprintf("%s/outside.conf", top);

		if (!conf_write_file(path, "data_directory = '/x'\n", 22))
			abort();
	}
	put("linked.conf", "");
	unlink(psprintf("%s/linked.conf", folder));
	if (symlink("../outside.conf", psprintf("%s/linked.conf", folder)) != 0)
		abort();
	put("conf.d/b.conf", "include '../../outside.conf'\ninclude '../linked.conf'\n");
	put("postgresql.auto.conf", "primary_conninfo = 'host=live'\nrecovery_target_name = 'x'\nport = 5432\n");
	put("pg_hba.conf", "host all all all reject\n");
	CHECK(restore_write_settings(&settings, take_note, NULL, &problem), "a copy's settings are written");
	CHECK(has("postgresql.conf", "data_directory", NULL) && has("postgresql.conf", "include", NULL) &&
			  has("postgresql.conf", "recovery_target_xid", NULL) && has("postgresql.conf", "external_pid_file", NULL) &&
			  has("conf.d/a.conf", "hba_file", NULL),
		  "lines that lead elsewhere are in comments");
	{
		size_t len;

		CHECK(strcmp(conf_read_file(psprintf("%s/outside.conf", top), &len), "data_directory = '/x'\n") == 0 &&
				  has("conf.d/b.conf", "include", NULL),
			  "files outside are not read, and never written");
	}
	CHECK(has("postgresql.conf", "max_connections", "100") && has("conf.d/a.conf", "work_mem", "5MB"), "others stay");
	CHECK(has("postgresql.auto.conf", "recovery_target_lsn", "0/3000028") && has("postgresql.auto.conf", "recovery_target_name", NULL),
		  "one target");
	CHECK(has("postgresql.auto.conf", "max_connections", "200") && has("postgresql.auto.conf", "max_wal_senders", NULL),
		  "what hot standby needs, where there is less");
	CHECK(has("postgresql.auto.conf", "primary_conninfo", "") && has("postgresql.auto.conf", "archive_mode", "off") &&
			  has("postgresql.auto.conf", "port", "5433") && has("postgresql.auto.conf", "max_logical_replication_workers", "0"),
		  "the copy keeps away");
	CHECK(has("postgresql.auto.conf", "sync_replication_slots", NULL), "no setting of a later major");
	CHECK(has("postgresql.auto.conf", "shared_preload_libraries", "pg_stat_statements"), "harmless libraries alone");
	CHECK(has("postgresql.auto.conf", "shared_buffers", "128MB"), "memory that is there");
	CHECK(has("postgresql.auto.conf", "restore_command", "'/a b/walarchive' fetch %f %p"), "restore_command");
	CHECK(strstr(notes.data, "pg_cron (it runs jobs)") && strstr(notes.data, "/x/unheard.so") && strstr(notes.data, "/live"),
		  "what was left out is told");
	before = get("pg_hba.conf");
	CHECK(strstr(before, "local all all trust\n") < strstr(before, "host all all all reject\n"), "its owner gets in");
	CHECK(access(psprintf("%s/recovery.signal", folder), F_OK) == 0, "it will recover");
	CHECK(restore_end_settings(folder, &problem), "after the recovery");
	CHECK(has("postgresql.auto.conf", "recovery_target_lsn", NULL) && has("postgresql.auto.conf", "restore_command", NULL) &&
			  has("postgresql.auto.conf", "recovery_target_action", NULL) && has("postgresql.auto.conf", "archive_mode", "off"),
		  "what was for it alone is gone, the rest stays");

	/* in the primary's place, without a configuration of its own */
	new_folder();
	settings.as_primary = true;
	settings.port = 0;
	CHECK(restore_write_settings(&settings, take_note, NULL, &problem), "a new primary's settings");
	CHECK(has("postgresql.auto.conf", "archive_mode", NULL) && has("postgresql.auto.conf", "port", NULL) &&
			  has("postgresql.auto.conf", "max_wal_senders", "5") && strstr(get("pg_hba.conf"), "trust") == NULL &&
			  access(psprintf("%s/postgresql.conf", folder), F_OK) == 0,
		  "nothing but the recovery, and what it needs");
}

int
main(int argc, char **argv)
{
	if (argc != 2 || mkdir(argv[1], 0700) != 0)
	{
		fprintf(stderr, "usage: unit_client FOLDER, which is not there yet\n");
		return 2;
	}
	top = realpath(argv[1], NULL);
	check_lines();
	check_settings();
	check_manifest();
	check_unpack();
	printf("1..%d\n", tests);
	return rmtree(top, true) && failures == 0 ? 0 : 1;
}
