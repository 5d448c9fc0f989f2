/*-------------------------------------------------------------------------
 *
 * unit_wal.c
 *	  The WAL reader on recorded WAL of each major (test/wal/record.sh), against
 *	  what that major's own pg_waldump says.
 *
 * Its argument is the folder test/wal.  Prints TAP and exits non-zero if a test
 * failed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <dirent.h>
#include <time.h>

#include "../src/base/wal_event.h"

#include "unit.h"

#define MAX_RECORDS 8192
#define BLOCK 8192
#define SEGMENT MB

typedef struct Shown
{
	XLogRecPtr start;
	XLogRecPtr end; /* of its last byte, alignment not included */
	uint32 len;
	uint32 sum;
	TimeLineID tli;
} Shown;

/* A recording: its segments in a row, and the lines about its records. */
typedef struct Recording
{
	int major;
	XLogRecPtr start;
	uint8 *bytes;
	size_t len;
	char **line;
	int lines;
	Shown shown[MAX_RECORDS];
	int records;
} Recording;

static char *
read_file(const char *folder, const char *name, size_t *len)
{
	char path[1024];
	FILE *file;
	char *data;
	long size;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "rb");
	if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0)
	{
		perror(path);
		exit(1);
	}
	rewind(file);
	data = malloc((size_t) size + 1);
	if (fread(data, 1, (size_t) size, file) != (size_t) size)
	{
		perror(path);
		exit(1);
	}
	fclose(file);
	data[size] = '\0';
	*len = (size_t) size;
	return data;
}

static int
compare_segments(const void *a, const void *b)
{
	return strcmp(*(char *const *) a + 8, *(char *const *) b + 8);
}

static void
load(Recording *rec, const char *folder)
{
	char *name[64];
	int names = 0;
	DIR *dir = opendir(folder);
	struct dirent *entry;
	char *text;
	size_t len;

	memset(rec, 0, sizeof(*rec));
	if (dir == NULL)
	{
		perror(folder);
		exit(1);
	}
	while ((entry = readdir(dir)) != NULL)
	{
		if (strlen(entry->d_name) == 24 && names < lengthof(name))
			name[names++] = strdup(entry->d_name);
	}
	closedir(dir);
	qsort(name, names, sizeof(name[0]), compare_segments);

	rec->bytes = calloc(names, SEGMENT);
	for (int i = 0; i < names; i++)
	{
		TimeLineID tli;
		uint64 segno;
		char *data = read_file(folder, name[i], &len);

		CHECK(wa_parse_wal_name(name[i], SEGMENT, &tli, &segno) == WA_FILE_SEGMENT && len <= SEGMENT,
			  "recorded segment");
		if (i == 0)
			rec->start = wa_segment_start(segno, SEGMENT);
		memcpy(rec->bytes + (size_t) i * SEGMENT, data, len);
		rec->len = (size_t) i * SEGMENT + len;
		free(data);
		free(name[i]);
	}

	text = read_file(folder, "records", &len);
	rec->line = calloc(MAX_RECORDS, sizeof(char *));
	for (char *p = strtok(text, "\n"); p != NULL && rec->lines < MAX_RECORDS; p = strtok(NULL, "\n"))
		rec->line[rec->lines++] = p;
}

static uint32
sum_of(const WaWalRecord *record)
{
	uint32 sum = (uint32) record->end_lsn;

	for (uint32 i = 0; i < WA_RECORD_HEADER; i++)
		sum = sum * 31 + record->data[i];
	return sum;
}

/* ---- what pg_waldump would say ---- */

typedef struct Text
{
	char text[16384];
	size_t len;
} Text;

static void add(Text *t, const char *fmt, ...) pg_attribute_printf(2, 3);

static void
add(Text *t, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	t->len += vsnprintf(t->text + t->len, sizeof(t->text) - t->len, fmt, args);
	va_end(args);
	if (t->len >= sizeof(t->text))
		abort();
}

static void
add_time(Text *t, int64 us)
{
	time_t seconds = (time_t) (us / 1000000 + 946684800);
	struct tm tm;
	char text[64];

	gmtime_r(&seconds, &tm);
	strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
	add(t, "%s.%06d UTC", text, (int) (us % 1000000));
}

static void
add_file(Text *t, WaRelFile file)
{
	if (file.tablespace == 1664)
		add(t, "global/%u", file.number);
	else
		add(t, "base/%u/%u", file.database, file.number);
}

static void
add_files(Text *t, const char *title, const WaXact *x)
{
	if (x->dropped_files > 0)
		add(t, "; %s:", title);
	for (uint32 i = 0; i < x->dropped_files; i++)
	{
		add(t, " ");
		add_file(t, wa_array_file(x->dropped_file_array, i));
	}
}

static void
add_stats(Text *t, const char *title, const WaXact *x, int major)
{
	if (x->dropped_stats > 0)
		add(t, "; %s:", title);
	for (uint32 i = 0; i < x->dropped_stats; i++)
	{
		WaStatsItem item = wa_array_stats(major, x->dropped_stats_array, i);

		add(t, " %d/%u/" UINT64_FORMAT, item.kind, item.database, item.object);
	}
}

static void
add_subxacts(Text *t, const WaXact *x)
{
	if (x->subxacts > 0)
		add(t, "; subxacts:");
	for (uint32 i = 0; i < x->subxacts; i++)
		add(t, " %u", wa_array_xid(x->subxact_array, i));
}

static void
add_xact(Text *t, const WaWalEvent *e, const WaWalRecord *record, const WaRecordParts *parts)
{
	const WaXact *x = &e->u.xact;

	if (e->kind == WA_EVENT_PREPARE)
	{
		add(t, " gid %s: ", x->gid);
		add_time(t, x->time);
		add_files(t, "rels(commit)", x);
		add_stats(t, "commit dropped stats", x, record->major);
		add_subxacts(t, x);
		return;
	}
	add(t, " ");
	if (e->kind == WA_EVENT_COMMIT_PREPARED || e->kind == WA_EVENT_ABORT_PREPARED)
		add(t, "%u: ", x->xid);
	add_time(t, x->time);
	add_files(t, "rels", x);
	add_subxacts(t, x);
	add_stats(t, "dropped stats", x, record->major);
	if (parts->origin != 0)
	{
		add(t, "; origin: node %u, lsn %X/%X, at ", parts->origin, LSN_FORMAT_ARGS(x->origin_lsn));
		add_time(t, x->origin_time);
	}
}

static const char *
wal_level(int level)
{
	return level == 0 ? "minimal" : level == 1 ? "replica"
											   : "logical";
}

static void
add_oids(Text *t, const WaWalEvent *e, const char *between)
{
	for (uint32 i = 0; i < e->u.oids.count; i++)
		add(t, "%s%u", i > 0 ? between : "", wa_array_oid(e->u.oids.array, i));
}

/* What follows the type, as far as it is in the recording. */
static void
describe(Text *t, const WaWalRecord *record, const WaRecordParts *parts)
{
	WaWalEvent e;

	switch (wa_decode_event(record, &e))
	{
		case WA_EVENT_NONE:
		case WA_EVENT_SWITCH:
			break;
		case WA_EVENT_INVALID:
			add(t, " invalid");
			break;
		case WA_EVENT_COMMIT:
		case WA_EVENT_ABORT:
		case WA_EVENT_PREPARE:
		case WA_EVENT_COMMIT_PREPARED:
		case WA_EVENT_ABORT_PREPARED:
			add_xact(t, &e, record, parts);
			break;
		case WA_EVENT_RESTORE_POINT:
			add(t, " %s", e.u.restore_point.name);
			break;
		case WA_EVENT_CHECKPOINT:
			add(t, " redo %X/%X; tli %u; prev tli %u; fpw %s; xid %u:%u; oldest xid %u; %s",
				LSN_FORMAT_ARGS(e.u.checkpoint.redo_lsn), e.u.checkpoint.tli, e.u.checkpoint.prev_tli,
				e.u.checkpoint.full_page_writes ? "true" : "false", (uint32) (e.u.checkpoint.next_xid >> 32),
				(uint32) e.u.checkpoint.next_xid, e.u.checkpoint.oldest_xid,
				e.u.checkpoint.shutdown ? "shutdown" : "online");
			break;
		case WA_EVENT_CHECKPOINT_REDO:
			add(t, " redo");
			break;
		case WA_EVENT_END_OF_RECOVERY:
			add(t, " tli %u; prev tli %u; time ", e.u.end_of_recovery.tli, e.u.end_of_recovery.prev_tli);
			add_time(t, e.u.end_of_recovery.time);
			break;
		case WA_EVENT_PARAMETER_CHANGE:
			add(t, " max_connections=%d max_worker_processes=%d max_wal_senders=%d max_prepared_xacts=%d max_locks_per_xact=%d wal_level=%s wal_log_hints=%s track_commit_timestamp=%s",
				e.u.parameters.max_connections, e.u.parameters.max_worker_processes,
				e.u.parameters.max_wal_senders, e.u.parameters.max_prepared_xacts,
				e.u.parameters.max_locks_per_xact, wal_level(e.u.parameters.wal_level),
				e.u.parameters.wal_log_hints ? "on" : "off",
				e.u.parameters.track_commit_timestamp ? "on" : "off");
			break;
		case WA_EVENT_FPW_CHANGE:
			add(t, " %s", e.u.full_page_writes ? "true" : "false");
			break;
		case WA_EVENT_BACKUP_END:
			add(t, " %X/%X", LSN_FORMAT_ARGS(e.u.backup_start));
			break;
		case WA_EVENT_OVERWRITE_CONTRECORD:
			add(t, " lsn %X/%X", LSN_FORMAT_ARGS(e.u.overwritten_lsn));
			break;
		case WA_EVENT_SMGR_CREATE:
			add(t, " ");
			add_file(t, e.u.smgr.file);
			break;
		case WA_EVENT_SMGR_TRUNCATE:
			add(t, " ");
			add_file(t, e.u.smgr.file);
			add(t, " to %u blocks flags %d", e.u.smgr.block, e.u.smgr.flags);
			break;
		case WA_EVENT_HEAP_TRUNCATE:
			if (record->major >= 16)
			{
				add(t, " flags: [%s], nrelids: %u, relids: [",
					e.u.oids.flags == 2 ? "RESTART_SEQS" : "other", e.u.oids.count);
				add_oids(t, &e, ", ");
				add(t, "]");
			}
			else
			{
				add(t, " %snrelids %u relids ", e.u.oids.flags == 2 ? "restart_seqs " : "", e.u.oids.count);
				add_oids(t, &e, " ");
			}
			break;
		case WA_EVENT_DATABASE_CREATE:
			if (e.u.object.template_database != 0)
				add(t, " copy dir /%u to %u/%u", e.u.object.template_database, e.u.object.tablespace, e.u.object.database);
			else
				add(t, " create dir %u/%u", e.u.object.tablespace, e.u.object.database);
			break;
		case WA_EVENT_DATABASE_DROP:
			add(t, " dir");
			for (uint32 i = 0; i < e.u.oids.count; i++)
				add(t, " %u/%u", wa_array_oid(e.u.oids.array, i), e.u.oids.database);
			break;
		case WA_EVENT_TABLESPACE_CREATE:
			add(t, " %u \"\"", e.u.object.tablespace);
			break;
		case WA_EVENT_TABLESPACE_DROP:
			add(t, " %u", e.u.object.tablespace);
			break;
		case WA_EVENT_LOCK:
			for (uint32 i = 0; i < e.u.locks.count; i++)
			{
				TransactionId xid;
				Oid database;
				Oid relation;

				wa_array_lock(e.u.locks.array, i, &xid, &database, &relation);
				add(t, " xid %u db %u rel %u", xid, database, relation);
			}
			break;
	}
}

/* Take the part from 'from' to before 'to' (or the end) out of 'line'. */
static void
cut(char *line, const char *from, const char *to)
{
	char *a = strstr(line, from);
	char *b;

	if (a == NULL)
		return;
	b = strstr(a + strlen(from), to);
	if (b == NULL)
		*a = '\0';
	else
		memmove(a, b, strlen(b) + 1);
}

/* What a recorded line says that we do not decode. */
static void
normalize(char *line)
{
	if (strstr(line, " XLOG ") != NULL && strstr(line, " CHECKPOINT_REDO") != NULL)
		strcpy(strstr(line, "CHECKPOINT_REDO") + strlen("CHECKPOINT_REDO"), " redo");
	else if (strstr(line, " XLOG ") != NULL && strstr(line, " CHECKPOINT_") != NULL)
	{
		cut(line, "; wal_level", "; xid");
		cut(line, "; oid ", "; oldest xid ");
		cut(line, " in DB", "; oldest running");
		cut(line, "; oldest running", "; shutdown");
		cut(line, "; oldest running", "; online");
		if (strstr(line, "online") == NULL && strstr(line, "shutdown") == NULL)
			strcat(line, "; online");
	}
	else if (strstr(line, " END_OF_RECOVERY ") != NULL)
		cut(line, "; wal_level", "; ");
	else if (strstr(line, " Transaction ") != NULL)
	{
		cut(line, "; sync", ";");
		cut(line, "; rels(abort):", "; ");
		cut(line, "; abort dropped stats:", "; ");
	}
	else if (strstr(line, " copy dir ") != NULL)
	{
		char *dir = strstr(line, " copy dir ") + strlen(" copy dir ");
		char *slash = strchr(dir, '/');

		memmove(dir, slash, strlen(slash) + 1);
	}
}

/* Names and times that pg_waldump does not show. */
static bool
is_named(const WaWalRecord *record)
{
	WaWalEvent e;

	switch (wa_decode_event(record, &e))
	{
		case WA_EVENT_PREPARE:
			return strcmp(e.u.xact.gid, "first") == 0 && e.u.xact.subxacts == 1 && e.u.xact.database == 5;
		case WA_EVENT_COMMIT_PREPARED:
			return strcmp(e.u.xact.gid, "first") == 0 && e.u.xact.database == 5;
		case WA_EVENT_ABORT_PREPARED:
			return strcmp(e.u.xact.gid, "second, with a longer name") == 0 && e.u.xact.database == 5;
		case WA_EVENT_RESTORE_POINT:
			/* both in 2026 or later: one from 2000 on, the other from 1970 on */
			return e.u.restore_point.time / 1000000 > 820000000;
		case WA_EVENT_CHECKPOINT:
			return e.u.checkpoint.time > 1767000000;
		default:
			return false;
	}
}

/* ---- passes over a recording ---- */

typedef struct Pass
{
	Recording *rec;
	bool compare; /* with the lines, and remember what was shown */
	int first;    /* record with which it has to begin */
	int seen;
	int wrong;
	int named; /* of what pg_waldump does not say */
	int stop_after;
} Pass;

static bool
see(void *arg, const WaWalRecord *record)
{
	Pass *pass = arg;
	Recording *rec = pass->rec;
	int i = pass->first + pass->seen++;

	if (pass->compare)
	{
		static Text t;
		static char wanted[16384];
		char rmgr[64];
		char type[64];
		WaRecordParts parts;
		Shown *shown = &rec->shown[i];

		if (i >= rec->lines)
		{
			pass->wrong++;
			return true;
		}
		shown->start = record->start_lsn;
		shown->end = record->end_lsn - (8 - record->total_len % 8) % 8;
		if (record->rmid == WA_RM_XLOG && (record->info & 0xF0) == 0x40)
			shown->end = record->start_lsn + record->total_len;
		shown->len = record->total_len;
		shown->sum = sum_of(record);
		shown->tli = record->tli;
		rec->records = i + 1;

		wa_rmgr_name(record->major, record->rmid, rmgr, sizeof(rmgr));
		wa_record_type(record->major, record->rmid, record->info, type, sizeof(type));
		t.len = 0;
		if (!wa_record_parts(record, &parts))
			add(&t, "without parts: ");
		add(&t, "%X/%08X %X/%08X %u/%u %s %u %s", LSN_FORMAT_ARGS(record->start_lsn), LSN_FORMAT_ARGS(record->prev_lsn),
			record->total_len - parts.image_bytes, record->total_len, rmgr, record->xid, type);
		describe(&t, record, &parts);
		if (is_named(record))
			pass->named |= 1 << (record->rmid == WA_RM_XACT ? 8 + ((record->info >> 4) & 7) : record->info >> 4);
		strlcpy(wanted, rec->line[i], sizeof(wanted));
		normalize(wanted);
		if (strcmp(wanted, t.text) != 0 || record->major != rec->major)
		{
			if (pass->wrong++ < 5)
				printf("# wanted: %s\n# got:    %s\n", wanted, t.text);
		}
	}
	else if (i >= rec->records || record->start_lsn != rec->shown[i].start ||
			 sum_of(record) != rec->shown[i].sum || record->tli != rec->shown[i].tli)
		pass->wrong++;
	return pass->seen != pass->stop_after;
}

static void
options_for(WaReaderOptions *options, Pass *pass)
{
	memset(options, 0, sizeof(*options));
	options->segment_size = SEGMENT;
	options->block_size = BLOCK;
	options->strict = true;
	options->prefix_len = 1024;
	options->keep = wa_event_record;
	options->resize = resize_memory;
	options->record = see;
	options->arg = pass;
}

/* Feed from 'start' to 'end' in pieces of so many bytes. */
static WaReadStatus
feed(WaWalReader *reader, Pass *pass, XLogRecPtr start, XLogRecPtr end, size_t piece)
{
	WaReaderOptions options;
	WaReadStatus status = WA_READ_MORE;

	options_for(&options, pass);
	wa_reader_begin(reader, &options, start);
	while (status == WA_READ_MORE && reader->feed_lsn < end)
		status = wa_reader_feed(reader, pass->rec->bytes + (reader->feed_lsn - pass->rec->start),
								(size_t) Min((uint64) piece, end - reader->feed_lsn));
	return status;
}

static void
test_records(Recording *rec)
{
	Pass pass = {rec, true};
	WaWalReader reader;
	WaReadStatus status = feed(&reader, &pass, rec->start, rec->start + rec->len, 256 * 1024);
	char what[128];
	Shown *last = &rec->shown[rec->records - 1];

	snprintf(what, sizeof(what), "%d: %d records are as pg_waldump says", rec->major, rec->lines);
	CHECK(pass.wrong == 0 && pass.seen == rec->lines && rec->lines > 1000, what);
	CHECK(status == WA_READ_MORE && reader.last_record_lsn == last->start,
		  "... to where the recording is cut off");
	CHECK(reader.next_lsn >= last->end && reader.need_lsn > rec->start + rec->len &&
			  reader.feed_lsn == rec->start + rec->len && reader.records == rec->lines,
		  "... and the reader says where that is");
	CHECK(pass.named == (1 << 0 | 1 << 1 | 1 << 7 | 1 << (8 + 1) | 1 << (8 + 3) | 1 << (8 + 4)),
		  "names of prepared transactions, times of a restore point and of checkpoints");
	wa_reader_end(&reader);
}

static void
test_pieces(Recording *rec)
{
	static const size_t pieces[] = {BLOCK, 3 * BLOCK, 64 * MB};
	int wrong = 0;

	for (size_t i = 0; i < lengthof(pieces); i++)
	{
		Pass pass = {rec};
		WaWalReader reader;

		if (feed(&reader, &pass, rec->start, rec->start + rec->len, pieces[i]) != WA_READ_MORE ||
			pass.wrong > 0 || pass.seen != rec->records)
			wrong++;
		wa_reader_end(&reader);
	}
	CHECK(wrong == 0, "pieces of any size show the same");
}

/* Begun anew at each record, and at each page. */
static void
test_restarts(Recording *rec)
{
	XLogRecPtr end = rec->start + rec->len;
	WaWalReader reader;
	int wrong = 0;
	int first = 0;

	for (int i = 0; i < rec->records; i++)
	{
		Pass pass = {rec};

		pass.first = i;
		pass.stop_after = Min(3, rec->records - i);
		if (feed(&reader, &pass, rec->shown[i].start, end, BLOCK) != WA_READ_STOPPED ||
			pass.wrong > 0 || pass.seen != pass.stop_after)
			wrong++;
		if (i + pass.stop_after < rec->records && reader.next_lsn > rec->shown[i + pass.stop_after].start)
			wrong++;
		wa_reader_end(&reader);
	}
	CHECK(wrong == 0, "begun at each record, it shows that and the next ones");

	wrong = 0;
	for (XLogRecPtr page = rec->start; page < end; page += BLOCK)
	{
		Pass pass = {rec};
		WaReadStatus status;

		while (first < rec->records && rec->shown[first].start < page)
			first++;
		pass.first = first;
		pass.stop_after = 1;
		status = feed(&reader, &pass, page, end, BLOCK);
		/* the pages that a switch leaves empty are an end of the WAL */
		if (status == WA_READ_END)
		{
			if (pass.seen > 0 || rec->bytes[page - rec->start] != 0)
				wrong++;
		}
		else if (pass.wrong > 0 || pass.seen != (first < rec->records ? 1 : 0) ||
				 status != (pass.seen > 0 ? WA_READ_STOPPED : WA_READ_MORE))
			wrong++;
		wa_reader_end(&reader);
	}
	CHECK(wrong == 0, "begun at each page, it shows the first record from there on");
}

/* The page in the recording from which a record crosses two page boundaries. */
static int
interesting(Recording *rec)
{
	for (int i = 0; i < rec->records; i++)
	{
		XLogRecPtr page = rec->shown[i].start / BLOCK * BLOCK;

		if (rec->shown[i].end > page + BLOCK && rec->shown[i].end < page + 2 * BLOCK &&
			page > rec->start)
			return i;
	}
	return -1;
}

/* Cut off after any byte, all complete records are shown and no other. */
static void
test_truncation(Recording *rec)
{
	int i = interesting(rec);
	XLogRecPtr start = rec->shown[i].start / BLOCK * BLOCK;
	int first = 0;
	int wrong = 0;

	while (rec->shown[first].start < start)
		first++;
	for (XLogRecPtr cut_at = start + 1; cut_at <= start + 3 * BLOCK; cut_at++)
	{
		Pass pass = {rec};
		WaWalReader reader;
		WaReadStatus status;
		int complete = first;
		size_t len = (size_t) (cut_at - start);
		/* memory of its own, for what checks accesses */
		uint8 *copy = malloc(len);
		WaReaderOptions options;

		while (rec->shown[complete].end <= cut_at)
			complete++;
		pass.first = first;
		memcpy(copy, rec->bytes + (start - rec->start), len);
		options_for(&options, &pass);
		wa_reader_begin(&reader, &options, start);
		status = wa_reader_feed(&reader, copy, len);
		if (status != WA_READ_MORE || pass.wrong > 0 || pass.seen != complete - first ||
			reader.need_lsn <= cut_at || reader.need_lsn > Max(rec->shown[complete].end, cut_at + 64))
		{
			if (wrong++ == 0)
				printf("# cut at %X/%X: status %d, %d of %d records, need %X/%X\n", LSN_FORMAT_ARGS(cut_at),
					   status, pass.seen, complete - first, LSN_FORMAT_ARGS(reader.need_lsn));
		}
		/* what it says that it needs is enough for the next record, once its length is known */
		wa_reader_end(&reader);
		free(copy);
	}
	CHECK(wrong == 0, "cut off after each byte, the complete records are shown");
}

/*
 * Is it a change that PostgreSQL does not look at either?  'at' is its place in
 * a page.
 */
static bool
unchecked(const uint8 *page, size_t at, int bit, bool strict)
{
	uint16 info;

	memcpy(&info, page + 2, sizeof(info));
	/* XLP_BKP_REMOVED, and a given up record where there is none */
	if (at == 2 && bit == 2)
		return true;
	if (at == 2 && bit == 3 && (info & 1) == 0)
		return true;
	if (strict)
		return false;
	/* padding of the header, and the length of what is not continued */
	return (at >= 20 && at < 24) || (at >= 16 && at < 20 && (info & 1) == 0);
}

/* In two pages; the record that is not complete before them is begun with, for its checksum. */
static void
test_bit_flips(Recording *rec, bool strict)
{
	XLogRecPtr start = rec->shown[interesting(rec)].start / BLOCK * BLOCK;
	XLogRecPtr end = start + 3 * BLOCK;
	int first = 0;
	int all = 0;
	int tolerated = 0;
	int wrong = 0;

	while (rec->shown[first + 1].start < start)
		first++;
	while (rec->shown[first + all].end <= end)
		all++;

	for (XLogRecPtr at = start; at < start + 2 * BLOCK; at++)
	{
		uint8 *byte = rec->bytes + (at - rec->start);
		size_t in_page = at % BLOCK;

		for (int bit = 0; bit < 8; bit++)
		{
			Pass pass = {rec};
			WaReaderOptions options;
			WaWalReader reader;
			WaReadStatus status;
			bool padding = false;

			pass.first = first;
			options_for(&options, &pass);
			options.strict = strict;
			wa_reader_begin(&reader, &options, rec->shown[first].start);
			*byte ^= 1 << bit;
			status = wa_reader_feed(&reader, rec->bytes + (reader.feed_lsn - rec->start), end - reader.feed_lsn);
			*byte ^= 1 << bit;
			wa_reader_end(&reader);

			if (status == WA_READ_MORE && pass.wrong == 0 && pass.seen == all)
			{
				for (int i = first; i < first + all && !padding; i++)
					padding = at >= rec->shown[i].end && at < (rec->shown[i].end + 7) / 8 * 8;
				if (unchecked(byte - in_page, in_page, bit, strict) || (padding && !strict))
					tolerated++;
				else if (wrong++ < 5)
					printf("# not found: byte %d bit %d\n", (int) (at - start), bit);
			}
			else if (pass.wrong > 0 && (in_page < 4 || in_page >= 8 || status != WA_READ_INVALID))
			{
				/* a later timeline is only found out on the next page */
				if (wrong++ < 5)
					printf("# shown in spite of a change: byte %d bit %d\n", (int) (at - start), bit);
			}
		}
	}
	CHECK(wrong == 0 && tolerated > 0,
		  strict ? "each changed bit is found" : "each changed bit that PostgreSQL checks is found");
}

int
main(int argc, char **argv)
{
	static const int majors[] = {15, 17, 18};
	static Recording rec;

	for (size_t i = 0; i < lengthof(majors); i++)
	{
		char folder[1024];

		snprintf(folder, sizeof(folder), "%s/%d", argc > 1 ? argv[1] : "test/wal", majors[i]);
		load(&rec, folder);
		rec.major = majors[i];
		test_records(&rec);
		test_pieces(&rec);
		test_restarts(&rec);
		test_truncation(&rec);
		test_bit_flips(&rec, true);
		test_bit_flips(&rec, false);
		free(rec.bytes);
	}
	CHECK(largest_memory <= 64 * 1024, "no more memory than the longest record needs");
	printf("1..%d\n", tests);
	return failures == 0 ? 0 : 1;
}
