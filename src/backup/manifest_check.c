/*-------------------------------------------------------------------------
 *
 * manifest_check.c
 *	  Compares what the archives of a base backup hold with its manifest.
 *
 * PostgreSQL writes the manifest in the order in which it sends the files, so
 * both are read side by side.  From the first path on that is not the expected
 * one, what is left is compared without regard to order, in as many passes as
 * it takes to hold but a part of the paths in memory at a time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "common/cryptohash.h"
#include "common/hashfn.h"
#include "common/sha2.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/memutils.h"

#include "backup_check_internal.h"

#define READ_SIZE (64 * 1024)

/* Memory of a pass without regard to order, about. */
#define PASS_MEMORY (8 * 1024 * 1024)

/* The manifest's last line, that with its checksum, is shorter. */
#define LAST_LINE_LEN 1024

const char *const wa_backup_not_in_archives = "it is in the manifest, but not in the archives";

/* A file that was found, in memory; its path and checksum follow it. */
typedef struct Found
{
	uint64 size;
	bool matched;
	bool again;       /* it was compared in order, and here it is once more */
	const char *path; /* NUL-terminated */
	const uint8 *checksum;
} Found;

/* Reads the temporary file from some place on. */
typedef struct FoundReader
{
	WaBackupCheck *check;
	uint64 offset; /* of the next record */
	char *buffer;
	size_t used; /* bytes in the buffer */
	size_t at;   /* the next record's */
} FoundReader;

typedef struct Compare
{
	WaBackupCheck *check;
	const char *manifest; /* path of the file */
	WaBackupDifference report;
	void *arg;
	uint64 differences;
	bool stopped; /* no more are wanted */

	FoundReader reader;
	bool in_order;
	uint64 index;       /* files of the manifest so far */
	uint64 rest_index;  /* the first that was not compared in order */
	uint64 rest_offset; /* the first in the temporary file */
	WaManifestReader *parser;
	char *input;

	/* a pass */
	uint32 pass;
	uint32 passes;
	Found **found; /* ascending */
	size_t found_count;
} Compare;

static void
differ(Compare *compare, const char *file, const char *problem)
{
	compare->differences++;
	if (!compare->stopped && !compare->report(compare->arg, file, problem))
		compare->stopped = true;
}

/* ---- the temporary file ---- */

static void
begin_found(FoundReader *reader, uint64 offset)
{
	reader->offset = offset;
	reader->used = 0;
	reader->at = 0;
}

/* Have 'len' bytes at 'at', if there are so many; false: there are none at all. */
static bool
have_found(FoundReader *reader, size_t len)
{
	WaBackupCheck *check = reader->check;

	if (reader->used - reader->at >= len)
		return true;
	memmove(reader->buffer, reader->buffer + reader->at, reader->used - reader->at);
	reader->used -= reader->at;
	reader->at = 0;
	while (reader->used < len)
	{
		ssize_t n = pg_pread(check->spill_fd, reader->buffer + reader->used, READ_SIZE - reader->used,
							 (off_t) (reader->offset + reader->used));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read the temporary file of a backup's check: %m")));
		if (n == 0)
		{
			if (reader->used == 0)
				return false;
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("the temporary file of a backup's check ends too early")));
		}
		reader->used += n;
	}
	CHECK_FOR_INTERRUPTS();
	return true;
}

/*
 * The next file that was found, its path into WA_MANIFEST_PATH_LEN bytes.
 * '*checksum' points into the buffer until the next call.  False: no more.
 */
static bool
next_found(FoundReader *reader, char *path, uint64 *size, const uint8 **checksum)
{
	WaFoundHeader header;
	size_t len = sizeof(header);

	if (!have_found(reader, len))
		return false;
	memcpy(&header, reader->buffer + reader->at, sizeof(header));
	if (header.path_len >= WA_MANIFEST_PATH_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the temporary file of a backup's check is damaged")));
	len += header.path_len + reader->check->checksum_len;
	(void) have_found(reader, len);
	memcpy(path, reader->buffer + reader->at + sizeof(header), header.path_len);
	path[header.path_len] = '\0';
	*size = header.size;
	*checksum = (const uint8 *) reader->buffer + reader->at + sizeof(header) + header.path_len;
	reader->at += len;
	reader->offset += len;
	return true;
}

/* ---- a file ---- */

static void
hex(char *to, const uint8 *bytes, int len)
{
	for (int i = 0; i < len; i++)
		sprintf(to + 2 * i, "%02x", bytes[i]);
	to[2 * len] = '\0';
}

/* Compare a file that is in both. */
static void
compare_file(Compare *compare, const WaManifestFile *file, uint64 size, const uint8 *checksum)
{
	WaBackupCheck *check = compare->check;
	char problem[512];

	if (file->size != size)
		snprintf(problem, sizeof(problem), "it has " UINT64_FORMAT " bytes, but " UINT64_FORMAT " in the manifest",
				 size, file->size);
	else if (file->algorithm != check->algorithm)
		snprintf(problem, sizeof(problem), "its checksum in the manifest is of kind %s, not %s",
				 wa_checksum_name(file->algorithm), wa_checksum_name(check->algorithm));
	else if (memcmp(file->checksum, checksum, check->checksum_len) != 0)
	{
		char wanted[2 * WA_CHECKSUM_LEN + 1];
		char is[2 * WA_CHECKSUM_LEN + 1];

		hex(wanted, file->checksum, check->checksum_len);
		hex(is, checksum, check->checksum_len);
		snprintf(problem, sizeof(problem), "its %s checksum is %s, but %s in the manifest",
				 wa_checksum_name(check->algorithm), is, wanted);
	}
	else
		return;
	differ(compare, file->path, problem);
}

/* ---- in order ---- */

static bool
file_in_order(void *arg, const WaManifestFile *file)
{
	Compare *compare = arg;
	char path[WA_MANIFEST_PATH_LEN];
	const uint8 *checksum;
	uint64 size;
	uint64 offset = compare->reader.offset;

	if (compare->in_order)
	{
		if (next_found(&compare->reader, path, &size, &checksum) && strcmp(path, file->path) == 0)
			compare_file(compare, file, size, checksum);
		else
		{
			compare->in_order = false;
			compare->rest_index = compare->index;
			compare->rest_offset = offset;
		}
	}
	compare->index++;
	return compare->in_order && !compare->stopped;
}

static bool
any_range(void *arg, const WaManifestRange *range)
{
	return true;
}

/* ---- without regard to order ---- */

static int
found_cmp(const void *a, const void *b)
{
	const Found *x = *(Found *const *) a;
	const Found *y = *(Found *const *) b;

	return strcmp(x->path, y->path);
}

static bool
in_this_pass(const Compare *compare, const char *path)
{
	return compare->passes == 1 || hash_bytes((const unsigned char *) path, (int) strlen(path)) % compare->passes == compare->pass;
}

/* Read this pass's part of what was found, in the current memory context. */
static void
load_found(Compare *compare)
{
	char path[WA_MANIFEST_PATH_LEN];
	const uint8 *checksum;
	uint64 size;
	size_t room = 1024;
	int checksum_len = compare->check->checksum_len;

	compare->found = palloc(room * sizeof(Found *));
	compare->found_count = 0;
	begin_found(&compare->reader, compare->rest_offset);
	while (next_found(&compare->reader, path, &size, &checksum))
	{
		size_t path_size = strlen(path) + 1;
		Found *found;
		char *copy;

		if (!in_this_pass(compare, path))
			continue;
		if (compare->found_count == room)
		{
			room *= 2;
			compare->found = repalloc_huge(compare->found, room * sizeof(Found *));
		}
		found = palloc(sizeof(Found) + path_size + checksum_len);
		copy = (char *) (found + 1);
		memcpy(copy, path, path_size);
		memcpy(copy + path_size, checksum, checksum_len);
		found->size = size;
		found->matched = false;
		found->again = false;
		found->path = copy;
		found->checksum = (const uint8 *) copy + path_size;
		compare->found[compare->found_count++] = found;
	}
	qsort(compare->found, compare->found_count, sizeof(Found *), found_cmp);
}

static bool
file_in_pass(void *arg, const WaManifestFile *file)
{
	Compare *compare = arg;
	Found key = {.path = file->path};
	Found *key_pointer = &key;
	Found **found;
	bool compared = compare->index++ < compare->rest_index;

	if (!in_this_pass(compare, file->path))
		return true;
	found = bsearch(&key_pointer, compare->found, compare->found_count, sizeof(Found *), found_cmp);
	if (compared)
	{
		if (found != NULL)
			(*found)->again = true;
	}
	else if (found == NULL)
		differ(compare, file->path, wa_backup_not_in_archives);
	else if ((*found)->matched)
		differ(compare, file->path, "it is in the manifest twice");
	else
	{
		(*found)->matched = true;
		compare_file(compare, file, (*found)->size, (*found)->checksum);
	}
	return !compare->stopped;
}

/* ---- the manifest ---- */

/* Read the whole manifest, open at 'fd', through the parser; false: 'parser->problem' if there is one. */
static bool
parse_manifest(Compare *compare, int fd, bool (*file)(void *, const WaManifestFile *),
			   bool (*range)(void *, const WaManifestRange *))
{
	WaManifestHandler handler = {file, range, compare};
	off_t offset = 0;

	compare->index = 0;
	wa_manifest_begin(compare->parser, &handler);
	for (;;)
	{
		ssize_t n = pg_pread(fd, compare->input, READ_SIZE, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read file \"%s\": %m", compare->manifest)));
		if (n == 0)
			return wa_manifest_finish(compare->parser);
		if (!wa_manifest_push(compare->parser, compare->input, n))
			return false;
		offset += n;
		CHECK_FOR_INTERRUPTS();
	}
}

static bool
any_file(void *arg, const WaManifestFile *file)
{
	return true;
}

static bool
note_range(void *arg, const WaManifestRange *range)
{
	Compare *compare = arg;
	WaBackupFacts *facts = &compare->check->facts;

	if (facts->wal_ranges == 0 || range->start < facts->wal_start_lsn ||
		(range->start == facts->wal_start_lsn && range->tli < facts->wal_start_tli))
	{
		facts->wal_start_tli = range->tli;
		facts->wal_start_lsn = range->start;
	}
	if (facts->wal_ranges == 0 || range->end > facts->wal_end_lsn ||
		(range->end == facts->wal_end_lsn && range->tli > facts->wal_end_tli))
	{
		facts->wal_end_tli = range->tli;
		facts->wal_end_lsn = range->end;
	}
	facts->wal_ranges++;
	return true;
}

/* SHA-256 of the first 'size' bytes of 'fd'. */
static void
hash_manifest(Compare *compare, int fd, uint64 size, uint8 *sha256)
{
	pg_cryptohash_ctx *hash = wa_backup_check_hash(compare->check, PG_SHA256);
	uint64 offset = 0;

	if (pg_cryptohash_init(hash) < 0)
		elog(ERROR, "could not compute a checksum");
	while (offset < size)
	{
		ssize_t n = pg_pread(fd, compare->input, (size_t) Min(size - offset, (uint64) READ_SIZE), (off_t) offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 n < 0 ? errmsg("could not read file \"%s\": %m", compare->manifest)
						   : errmsg("file \"%s\" has become shorter", compare->manifest)));
		if (pg_cryptohash_update(hash, (const uint8 *) compare->input, n) < 0)
			elog(ERROR, "could not compute a checksum");
		offset += n;
		CHECK_FOR_INTERRUPTS();
	}
	if (pg_cryptohash_final(hash, sha256, PG_SHA256_DIGEST_LENGTH) < 0)
		elog(ERROR, "could not compute a checksum");
	wa_backup_check_free_hash(compare->check, hash);
}

/* Length of all lines but the last, which has the checksum of the others; 0: there is no such line. */
static uint64
checked_length(Compare *compare, int fd, uint64 size)
{
	size_t len = (size_t) Min(size, (uint64) LAST_LINE_LEN);
	ssize_t n = pg_pread(fd, compare->input, len, (off_t) (size - len));

	if (n != (ssize_t) len || len < 2 || compare->input[len - 1] != '\n')
		return 0;
	for (size_t i = len - 1; i > 0; i--)
	{
		if (compare->input[i - 1] == '\n')
			return size - len + i;
	}
	return 0;
}

/* Is the manifest a whole one with a right checksum?  Without a whole one there is nothing to compare. */
static bool
check_manifest_itself(Compare *compare, int fd)
{
	WaBackupFacts *facts = &compare->check->facts;
	uint8 sha256[PG_SHA256_DIGEST_LENGTH];
	struct stat st;
	uint64 length;

	if (fstat(fd, &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not stat file \"%s\": %m", compare->manifest)));
	hash_manifest(compare, fd, (uint64) st.st_size, sha256);
	hex(facts->manifest_sha256, sha256, sizeof(sha256));
	if (!parse_manifest(compare, fd, any_file, note_range))
	{
		char problem[256];

		snprintf(problem, sizeof(problem), "backup_manifest can't be read: %s (line " UINT64_FORMAT ")",
				 compare->parser->problem, compare->parser->line);
		differ(compare, NULL, problem);
		return false;
	}
	facts->manifest_version = compare->parser->version;
	facts->manifest_system_identifier = compare->parser->system_identifier;
	facts->manifest_files = compare->parser->files;
	length = checked_length(compare, fd, (uint64) st.st_size);
	hash_manifest(compare, fd, length, sha256);
	if (length == 0 || memcmp(sha256, compare->parser->checksum, sizeof(sha256)) != 0)
		differ(compare, NULL, "backup_manifest is not what its own checksum says");
	return true;
}

/* The rest of the files, without regard to order. */
static void
compare_rest(Compare *compare, int fd)
{
	uint64 rest = compare->check->spill_size - compare->rest_offset;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "walarchive backup check pass", ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);

	compare->passes = (uint32) (rest / PASS_MEMORY) + 1;
	for (compare->pass = 0; compare->pass < compare->passes && !compare->stopped; compare->pass++)
	{
		MemoryContextReset(context);
		load_found(compare);
		if (!parse_manifest(compare, fd, file_in_pass, any_range) && compare->parser->problem != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("file \"%s\" has changed while it was read", compare->manifest)));
		for (size_t i = 0; i < compare->found_count && !compare->stopped; i++)
		{
			Found *found = compare->found[i];

			if (found->again || (i > 0 && strcmp(found->path, compare->found[i - 1]->path) == 0))
				differ(compare, found->path, "it is in the archives twice");
			else if (!found->matched && (i + 1 == compare->found_count || strcmp(found->path, compare->found[i + 1]->path) != 0))
				differ(compare, found->path, "it is in the archives, but not in the manifest");
		}
	}
	MemoryContextSwitchTo(before);
	MemoryContextDelete(context);
}

/* What the manifest does not say: whether pg_control is there, whole, and of that cluster. */
static void
check_control(Compare *compare)
{
	WaBackupCheck *check = compare->check;
	WaKeptFile *kept = &check->kept[WA_KEPT_CONTROL];
	WaControlFile control;
	char problem[256];

	if (!check->main_archive_seen || compare->differences > 0)
		return;
	if (!kept->present)
	{
		differ(compare, "global/pg_control", "it is not in the archives");
		return;
	}
	switch (wa_read_control_file(kept->data, kept->len, &control))
	{
		case WA_CONTROL_SHORT:
			differ(compare, "global/pg_control", "it is too short");
			break;
		case WA_CONTROL_DAMAGED:
			differ(compare, "global/pg_control", "the checksum in it is wrong");
			break;
		case WA_CONTROL_UNKNOWN:
			break;
		case WA_CONTROL_OK:
			if (check->facts.manifest_system_identifier == 0 ||
				check->facts.manifest_system_identifier == control.system_identifier)
				break;
			snprintf(problem, sizeof(problem), "it is of cluster " UINT64_FORMAT ", the manifest of " UINT64_FORMAT,
					 control.system_identifier, check->facts.manifest_system_identifier);
			differ(compare, "global/pg_control", problem);
			break;
	}
}

bool
wa_backup_check_manifest(WaBackupCheck *check, const char *path, WaBackupDifference report, void *arg)
{
	MemoryContext before = MemoryContextSwitchTo(check->context);
	Compare *compare = palloc0(sizeof(Compare));
	struct stat st;
	int fd;

	(void) wa_backup_check_facts(check); /* waits for the thread */
	compare->check = check;
	compare->manifest = path;
	compare->report = report;
	compare->arg = arg;
	compare->reader.check = check;
	compare->reader.buffer = palloc(READ_SIZE);
	compare->input = palloc(READ_SIZE);
	compare->parser = palloc(sizeof(WaManifestReader));

	/* a fifo in its place would make us wait for its writer */
	if (lstat(path, &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not stat file \"%s\": %m", path)));
	if (!S_ISREG(st.st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("\"%s\" is not a regular file", path)));
	fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));

	if (check_manifest_itself(compare, fd) && !compare->stopped)
	{
		char found_path[WA_MANIFEST_PATH_LEN];
		const uint8 *checksum;
		uint64 size;
		uint64 offset;

		begin_found(&compare->reader, 0);
		compare->in_order = true;
		if (!parse_manifest(compare, fd, file_in_order, any_range) && compare->parser->problem != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("file \"%s\" has changed while it was read", path)));
		/* files beyond the manifest's last one */
		offset = compare->reader.offset;
		if (compare->in_order && !compare->stopped && next_found(&compare->reader, found_path, &size, &checksum))
		{
			compare->in_order = false;
			compare->rest_index = compare->index;
			compare->rest_offset = offset;
		}
		if (!compare->in_order && !compare->stopped)
			compare_rest(compare, fd);
		check_control(compare);
	}
	CloseTransientFile(fd);
	MemoryContextSwitchTo(before);
	return compare->differences == 0;
}

/* ---- what a manifest says of itself ---- */

static bool
first_file(void *arg, const WaManifestFile *file)
{
	*(WaChecksumAlgorithm *) arg = file->algorithm;
	return false;
}

const char *
wa_backup_manifest_algorithm(const char *path)
{
	WaChecksumAlgorithm algorithm = WA_CHECKSUM_NONE;
	WaManifestHandler handler = {first_file, any_range, &algorithm};
	WaManifestReader *parser = palloc(sizeof(WaManifestReader));
	char *input = palloc(READ_SIZE);
	struct stat st;
	ssize_t n;
	int fd;

	wa_manifest_begin(parser, &handler);
	if (lstat(path, &st) == 0 && S_ISREG(st.st_mode))
	{
		fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
		if (fd >= 0)
		{
			while ((n = read(fd, input, READ_SIZE)) > 0 && wa_manifest_push(parser, input, n))
				;
			CloseTransientFile(fd);
		}
	}
	pfree(input);
	pfree(parser);
	return wa_checksum_name(algorithm);
}
