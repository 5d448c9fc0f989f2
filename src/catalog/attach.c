/*-------------------------------------------------------------------------
 *
 * attach.c
 *	  Bringing a directory of pg_receivewal into an archive's layout.
 *
 * The operator moves pg_receivewal's directory to
 * <walarchive.directory>/<name>; its files then lie flat in the source's
 * folder.  Each is looked at before anything is changed: a segment says in the
 * long header of its first page which cluster wrote it and how large segments
 * are.  Then cluster.json is written and the files are renamed to
 * <system identifier>/wal, so nothing is copied and nothing is read twice.
 *
 * A crash in the middle leaves some files here and some there, each whole;
 * calling it again finishes the work.  The folder has no source.json before
 * the end, so no receiver writes to it meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/fd.h"
#include "utils/builtins.h"

#include "../state/archive_dir.h"
#include "../state/fault_point.h"
#include "../state/source_file.h"
#include "catalog.h"

#define MAX_CLUSTERS 64

/*
 * The long header of a segment's first page, of every supported major, in the
 * byte order of this machine; other orders are not understood, as by
 * PostgreSQL itself.
 */
#define LONG_HEADER_LEN 40
#define LONG_HEADER_FLAG 0x0002

typedef struct SegmentHeader
{
	uint16 magic;
	TimeLineID tli;
	XLogRecPtr page_address;
	uint64 sysid;
	uint32 segment_size;
} SegmentHeader;

typedef enum HeaderResult
{
	HEADER_VALID,
	HEADER_EMPTY, /* no WAL yet: a new partial */
	HEADER_INVALID
} HeaderResult;

PG_FUNCTION_INFO_V1(wa_adopt_directory);

/* The server version that writes pages of this magic, 0 if not known. */
static int
version_of_magic(uint16 magic)
{
	switch (magic)
	{
		case 0xD110:
			return 150000;
		case 0xD113:
			return 160000;
		case 0xD116:
			return 170000;
		case 0xD118:
			return 180000;
		default:
			return 0;
	}
}

/* Read the header of the segment file 'path'. */
static HeaderResult
read_header(const char *path, SegmentHeader *header)
{
	char buffer[LONG_HEADER_LEN];
	ssize_t n;
	uint16 info;
	int fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);

	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	n = read(fd, buffer, sizeof(buffer));
	if (n < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read file \"%s\": %m", path)));
	CloseTransientFile(fd);
	memset(header, 0, sizeof(*header));
	if (n == 0)
		return HEADER_EMPTY;
	if (n != sizeof(buffer))
		return HEADER_INVALID;
	memcpy(&header->magic, buffer, sizeof(uint16));
	memcpy(&info, buffer + 2, sizeof(uint16));
	memcpy(&header->tli, buffer + 4, sizeof(uint32));
	memcpy(&header->page_address, buffer + 8, sizeof(uint64));
	memcpy(&header->sysid, buffer + 24, sizeof(uint64));
	memcpy(&header->segment_size, buffer + 32, sizeof(uint32));
	if (header->magic == 0 && header->sysid == 0)
		return HEADER_EMPTY;
	if ((header->magic & 0xFF00) != 0xD100 || (info & LONG_HEADER_FLAG) == 0 ||
		!wa_segment_size_is_valid(header->segment_size) || header->sysid == 0)
		return HEADER_INVALID;
	return HEADER_VALID;
}

/* True for names like 000000010000000000000007.gz and ….lz4.partial. */
static bool
is_compressed_wal(const char *name)
{
	return strlen(name) > 24 && strspn(name, "0123456789ABCDEF") == 24 &&
		   (strncmp(name + 24, ".gz", 3) == 0 || strncmp(name + 24, ".lz4", 4) == 0 ||
			strncmp(name + 24, ".zst", 4) == 0);
}

/*
 * The WAL files that lie flat in 'folder', a List of palloc'd names.  Raises
 * an error for a compressed one.
 */
static List *
list_flat_files(const char *folder)
{
	List *names = NIL;
	DIR *dir = AllocateDir(folder);
	struct dirent *de;

	if (dir == NULL && errno == ENOENT)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FILE),
				 errmsg("there is no folder \"%s\"", folder),
				 errhint("Move the archive's folder, or the directory of a stopped pg_receivewal, there. For a new archive use walarchive.add_source.")));
	while ((de = ReadDir(dir, folder)) != NULL)
	{
		TimeLineID tli;
		uint64 segno;

		CHECK_FOR_INTERRUPTS();
		if (is_compressed_wal(de->d_name))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("file \"%s/%s\" is compressed", folder, de->d_name),
					 errhint("Decompress the files of pg_receivewal first, for example with gunzip or lz4 -d --rm.")));
		if (wa_parse_wal_name(de->d_name, WA_MIN_SEGMENT_SIZE, &tli, &segno) != WA_FILE_OTHER)
			names = lappend(names, pstrdup(de->d_name));
	}
	FreeDir(dir);
	return names;
}

/*
 * Look at the flat file 'name' and compare it with what the others said: sets
 * '*known' from the first segment that has a header.
 */
static void
check_flat_file(const char *folder, const char *name, SegmentHeader *known,
				char *known_name)
{
	char path[MAXPGPATH];
	SegmentHeader header;
	TimeLineID tli;
	uint64 segno;
	WaWalFileKind kind = wa_parse_wal_name(name, WA_MIN_SEGMENT_SIZE, &tli, &segno);
	HeaderResult result;
	struct stat st;

	if (kind == WA_FILE_HISTORY)
		return;
	if (snprintf(path, sizeof(path), "%s/%s", folder, name) >= sizeof(path))
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("path of file \"%s\" is too long", name)));
	result = read_header(path, &header);
	if (result == HEADER_EMPTY && kind == WA_FILE_PARTIAL)
		return;
	if (result != HEADER_VALID)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("file \"%s\" is not a WAL segment", path),
				 errdetail("Its first page has no valid long header."),
				 errhint("Move the file away; rescan and the receiver find out whether it is missed.")));
	if (known->sysid == 0)
	{
		*known = header;
		strlcpy(known_name, name, WA_WAL_NAME_LEN);
	}
	if (header.sysid != known->sysid)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("folder \"%s\" holds WAL of different clusters", folder),
				 errdetail("\"%s\" was written by system " UINT64_FORMAT ", \"%s\" by " UINT64_FORMAT ".",
						   known_name, known->sysid, name, header.sysid),
				 errhint("Give each cluster a folder of its own.")));
	if (header.segment_size != known->segment_size)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("folder \"%s\" holds WAL segments of different sizes", folder),
				 errdetail("The segment size is %u bytes in \"%s\" and %u bytes in \"%s\".",
						   known->segment_size, known_name, header.segment_size, name)));
	if (wa_parse_wal_name(name, header.segment_size, &tli, &segno) == WA_FILE_OTHER ||
		header.tli > tli ||
		header.page_address != wa_segment_start(segno, header.segment_size))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("file \"%s\" holds another segment than its name says", path)));
	if (stat(path, &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not stat file \"%s\": %m", path)));
	if (kind == WA_FILE_SEGMENT && st.st_size != header.segment_size)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("file \"%s\" has %lld bytes instead of %u", path,
						(long long) st.st_size, header.segment_size),
				 errhint("Move the file away; rescan and the receiver find out whether it is missed.")));
}

/* Make a file's content, or a directory's entries, durable. */
static void
sync_entry(const char *path, bool is_dir)
{
	int fd = OpenTransientFile(path, (is_dir ? O_RDONLY : O_RDWR) | PG_BINARY);

	if (fd < 0 || WA_FAULT(ATTACH_FSYNC, fsync(fd)) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not fsync \"%s\": %m", path)));
	CloseTransientFile(fd);
}

/* Move the flat files to the cluster's wal directory, durably. */
static void
move_flat_files(const char *source, const char *folder, uint64 sysid,
				List *names)
{
	char wal[MAXPGPATH];
	ListCell *lc;

	wa_wal_path(wal, source, sysid);
	foreach (lc, names)
	{
		char *name = (char *) lfirst(lc);
		char from[MAXPGPATH];
		char to[MAXPGPATH];
		struct stat st;

		CHECK_FOR_INTERRUPTS();
		if (snprintf(from, sizeof(from), "%s/%s", folder, name) >= sizeof(from) ||
			snprintf(to, sizeof(to), "%s/%s", wal, name) >= sizeof(to))
			ereport(ERROR,
					(errcode(ERRCODE_NAME_TOO_LONG),
					 errmsg("path of file \"%s\" is too long", name)));
		if (lstat(to, &st) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_FILE),
					 errmsg("file \"%s\" exists both in \"%s\" and in \"%s\"", name, folder, wal),
					 errhint("Compare the two and move one of them away.")));
		/* pg_receivewal may have been run with --no-sync */
		sync_entry(from, false);
		if (WA_FAULT(ATTACH_RENAME, rename(from, to)) != 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not rename file \"%s\" to \"%s\": %m", from, to)));
	}
	sync_entry(wal, true);
	sync_entry(folder, true);
}

/*
 * cluster.json of a cluster folder that has none, from a segment in it.
 */
static void
complete_cluster(const char *source, uint64 sysid)
{
	char wal[MAXPGPATH];
	DIR *dir;
	struct dirent *de;
	uint32 segment_size;
	SegmentHeader header;
	bool found = false;

	if (wa_read_cluster_file(source, sysid, &segment_size))
		return;
	wa_wal_path(wal, source, sysid);
	dir = AllocateDir(wal);
	if (dir == NULL && errno == ENOENT)
		return;
	while (!found && (de = ReadDir(dir, wal)) != NULL)
	{
		char path[MAXPGPATH];
		TimeLineID tli;
		uint64 segno;

		if (wa_parse_wal_name(de->d_name, WA_MIN_SEGMENT_SIZE, &tli, &segno) != WA_FILE_SEGMENT ||
			snprintf(path, sizeof(path), "%s/%s", wal, de->d_name) >= sizeof(path))
			continue;
		found = read_header(path, &header) == HEADER_VALID && header.sysid == sysid;
	}
	FreeDir(dir);
	if (found)
		wa_write_cluster_file(source, sysid, header.segment_size,
							  version_of_magic(header.magic));
}

/*
 * walarchive.adopt_directory(name, system_identifier)
 *
 * 'system_identifier' names the cluster to go on with, NULL if the folder is
 * to say; returns it, or NULL if there is no cluster in the folder yet.
 */
Datum
wa_adopt_directory(PG_FUNCTION_ARGS)
{
	char *source;
	uint64 wanted = PG_ARGISNULL(1) ? 0 : (uint64) PG_GETARG_INT64(1);
	char folder[MAXPGPATH];
	List *names;
	ListCell *lc;
	SegmentHeader known = {0};
	char known_name[WA_WAL_NAME_LEN] = "";
	uint64 sysids[MAX_CLUSTERS];
	int count;
	bool there = false;

	wa_require_preload();
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	wa_source_path(folder, source);
	names = list_flat_files(folder);
	foreach (lc, names)
	{
		CHECK_FOR_INTERRUPTS();
		check_flat_file(folder, (char *) lfirst(lc), &known, known_name);
	}
	if (names != NIL)
	{
		uint64 sysid = known.sysid != 0 ? known.sysid : wanted;
		uint32 segment_size;

		if (sysid == 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the files in folder \"%s\" do not say which cluster they belong to", folder),
					 errdetail("There is no segment with WAL in it among them."),
					 errhint("Move them away and use walarchive.add_source.")));
		if (wanted != 0 && wanted != sysid)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the WAL in folder \"%s\" was written by another cluster", folder),
					 errdetail("Its system identifier is " UINT64_FORMAT ", not " UINT64_FORMAT ".",
							   sysid, wanted)));
		if (!wa_read_cluster_file(source, sysid, &segment_size))
		{
			if (known.sysid == 0)
				ereport(ERROR,
						(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						 errmsg("the files in folder \"%s\" do not say how large segments are", folder),
						 errhint("Move them away and use walarchive.add_source.")));
			wa_write_cluster_file(source, sysid, known.segment_size,
								  version_of_magic(known.magic));
		}
		else if (known.sysid != 0 && segment_size != known.segment_size)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the WAL in folder \"%s\" has another segment size than the archive", folder)));
		move_flat_files(source, folder, sysid, names);
		if (wanted == 0)
			wanted = sysid;
	}

	count = Min(wa_list_clusters(source, sysids, MAX_CLUSTERS), MAX_CLUSTERS);
	for (int i = 0; i < count; i++)
	{
		complete_cluster(source, sysids[i]);
		there |= (sysids[i] == wanted);
	}
	if (wanted != 0 && !there && count > 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("folder \"%s\" holds no cluster " UINT64_FORMAT, folder, wanted)));
	if (wanted == 0 && count > 1)
		ereport(ERROR,
				(errcode(ERRCODE_AMBIGUOUS_PARAMETER),
				 errmsg("folder \"%s\" holds the WAL of several clusters", folder),
				 errhint("Name the one to go on with: system_identifier => ...")));
	if (wanted == 0 && count == 1)
		wanted = sysids[0];
	if (wanted == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) wanted);
}
