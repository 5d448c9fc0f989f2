/*-------------------------------------------------------------------------
 *
 * human.c
 *	  walarchive-decode on the command line: archived WAL for a person's eyes,
 *	  of any major, without a server.
 *
 * What is wrong with the WAL goes to standard error and into the exit code;
 * what can be read behind it is shown all the same.
 *
 *-------------------------------------------------------------------------
 */
#include "human.h"

#include <dirent.h>
#include <getopt.h>
#include <libgen.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../base/history.h"
#include "describe.h"
#include "request.h"
#include "stats.h"

/* Largest history file, in bytes */
#define HISTORY_MAX (1024 * 1024)

typedef enum Format
{
	FORMAT_TEXT,
	FORMAT_STATS,
	FORMAT_XACTS
} Format;

typedef struct Human
{
	Format format;
	TimeLineID timeline; /* 0: the newest */
	XLogRecPtr start;
	XLogRecPtr end; /* 0: none */
	bool has_path;
	WaPathEntry path[WA_MAX_PATH];
	int path_len;
	int code; /* to exit with */
	WaWalk walk;
	WaStats stats;
	XLogRecPtr first; /* of stats */
	XLogRecPtr last;
	StringInfoData line;
} Human;

/* A segment that is there. */
typedef struct Found
{
	XLogRecPtr start;
	TimeLineID tli;
} Found;

typedef struct FoundList
{
	Found *item;
	size_t count;
	size_t size;
} FoundList;

static void
usage(FILE *to)
{
	fputs("walarchive-decode shows what archived WAL of PostgreSQL 15 to 18 says, and checks it.\n\n"
		  "Usage:\n"
		  "  walarchive-decode [OPTION]... DIRECTORY-OR-FILE...\n\n"
		  "Of a directory, the records of one timeline and of those it descends from; of a file,\n"
		  "those that start in it.\n\n"
		  "Options:\n"
		  "  -f, --format=text    a line for each record, as pg_waldump prints it (default)\n"
		  "               stats   records and bytes by resource manager\n"
		  "               xacts   a line for each commit and abort\n"
		  "  -t, --timeline=N     timeline (default: the newest in the directory)\n"
		  "  -p, --path=PATH      path of timelines, as \"1:0/0,2:0/5000028\", instead of that in the history file\n"
		  "  -s, --start=LSN      begin with the first record at or after this place\n"
		  "  -e, --end=LSN        end before the first record at or after this place\n"
		  "  -V, --version        print the version\n"
		  "  -h, --help           print this\n\n"
		  "Exit status is 0 if all is well, 1 if WAL is damaged, missing or can't be read, 2 if the\n"
		  "command makes no sense.\n",
		  to);
}

static void complain(Human *h, const char *fmt, ...) pg_attribute_printf(2, 3);

static void
complain(Human *h, const char *fmt, ...)
{
	va_list args;

	fflush(stdout);
	fputs("walarchive-decode: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	h->code = Max(h->code, 1);
}

/* ---- records ---- */

static bool
senseless(Human *h, const WaWalRecord *record)
{
	wa_walk_refuse(&h->walk, record, WA_DAMAGE_RECORD,
				   "a record has a right checksum, but makes no sense");
	return false;
}

static bool
text_record(void *arg, const WaWalRecord *record)
{
	Human *h = arg;
	WaWalEvent event;
	WaRecordParts parts;
	char rmgr[64];
	char type[64];

	event.kind = WA_EVENT_NONE;
	if (!wa_record_parts(record, &parts) ||
		(wa_event_record(record->rmid, record->info) &&
		 wa_decode_event(record, &event) == WA_EVENT_INVALID))
		return senseless(h, record);
	wa_rmgr_name(record->major, record->rmid, rmgr, sizeof(rmgr));
	wa_record_type(record->major, record->rmid, record->info, type, sizeof(type));
	printf("rmgr: %-11s len (rec/tot): %6u/%6u, tx: %10u, lsn: %X/%08X, prev %X/%08X, desc: %s ",
		   rmgr, record->total_len - parts.image_bytes, record->total_len, record->xid,
		   LSN_FORMAT_ARGS(record->start_lsn), LSN_FORMAT_ARGS(record->prev_lsn), type);
	resetStringInfo(&h->line);
	wa_describe_event(&h->line, record, &event);
	if (parts.blocks > 0)
	{
		appendStringInfoString(&h->line, ", ");
		wa_describe_blocks(&h->line, &parts);
	}
	puts(h->line.data);
	return true;
}

static bool
stats_record(void *arg, const WaWalRecord *record)
{
	Human *h = arg;

	if (h->first == 0)
		h->first = record->start_lsn;
	h->last = record->end_lsn;
	return wa_stats_count(&h->stats, record) || senseless(h, record);
}

static bool
xact_record(void *arg, const WaWalRecord *record)
{
	Human *h = arg;
	WaWalEvent event;
	const char *kind;

	if (record->rmid != WA_RM_XACT || !wa_event_record(record->rmid, record->info))
		return true;
	switch (wa_decode_event(record, &event))
	{
		case WA_EVENT_INVALID:
			return senseless(h, record);
		case WA_EVENT_COMMIT:
			kind = "commit";
			break;
		case WA_EVENT_ABORT:
			kind = "abort";
			break;
		case WA_EVENT_COMMIT_PREPARED:
			kind = "commit prepared";
			break;
		case WA_EVENT_ABORT_PREPARED:
			kind = "abort prepared";
			break;
		default:
			return true;
	}
	resetStringInfo(&h->line);
	wa_describe_event(&h->line, record, &event);
	printf("%X/%08X timeline %u, %s of %u: %s\n", LSN_FORMAT_ARGS(record->start_lsn), h->walk.tli,
		   kind, event.u.xact.xid, h->line.data);
	return true;
}

static bool
xact_or_nothing(uint8 rmid, uint8 info)
{
	return rmid == WA_RM_XACT && wa_event_record(rmid, info);
}

/* ---- statistics ---- */

static double
percent(uint64 part, uint64 whole)
{
	return whole > 0 ? 100.0 * part / whole : 0;
}

/* The table that pg_waldump --stats prints. */
static void
print_stats(const Human *h)
{
	WaRmgrStats sum = {0};

	for (int i = 0; i <= PG_UINT8_MAX; i++)
	{
		sum.records += h->stats.rmgr[i].records;
		sum.record_bytes += h->stats.rmgr[i].record_bytes;
		sum.image_bytes += h->stats.rmgr[i].image_bytes;
	}
	printf("WAL statistics between %X/%X and %X/%X:\n", LSN_FORMAT_ARGS(h->first), LSN_FORMAT_ARGS(h->last));
	printf("%-27s %20s %8s %20s %8s %20s %8s %20s %8s\n"
		   "%-27s %20s %8s %20s %8s %20s %8s %20s %8s\n",
		   "Type", "N", "(%)", "Record size", "(%)", "FPI size", "(%)", "Combined size", "(%)",
		   "----", "-", "---", "-----------", "---", "--------", "---", "-------------", "---");
	for (int i = 0; i <= PG_UINT8_MAX; i++)
	{
		const WaRmgrStats *s = &h->stats.rmgr[i];
		char name[64];

		if (s->records == 0)
			continue;
		wa_rmgr_name(h->walk.major, i, name, sizeof(name));
		printf("%-27s %20llu (%6.02f) %20llu (%6.02f) %20llu (%6.02f) %20llu (%6.02f)\n", name,
			   (unsigned long long) s->records, percent(s->records, sum.records),
			   (unsigned long long) s->record_bytes, percent(s->record_bytes, sum.record_bytes),
			   (unsigned long long) s->image_bytes, percent(s->image_bytes, sum.image_bytes),
			   (unsigned long long) (s->record_bytes + s->image_bytes),
			   percent(s->record_bytes + s->image_bytes, sum.record_bytes + sum.image_bytes));
	}
	printf("%-27s %20s %8s %20s %8s %20s %8s %20s\n", "", "--------", "", "--------", "", "--------", "", "--------");
	printf("%-27s %20llu %8s %20llu [%5.02f%%] %20llu [%5.02f%%] %20llu [100%%]\n", "Total",
		   (unsigned long long) sum.records, "",
		   (unsigned long long) sum.record_bytes, percent(sum.record_bytes, sum.record_bytes + sum.image_bytes),
		   (unsigned long long) sum.image_bytes, percent(sum.image_bytes, sum.record_bytes + sum.image_bytes),
		   (unsigned long long) (sum.record_bytes + sum.image_bytes));
}

/* ---- what is there ---- */

static int
compare_found(const void *a, const void *b)
{
	const Found *x = a;
	const Found *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return x->tli < y->tli ? -1 : x->tli > y->tli;
}

/* The segment size, and the cluster, that the file's first page names. */
static bool
learn_cluster(WaWalDir *dir, const char *name)
{
	WaWalFile file;
	WaDamage damage;
	WaLongHeader header;
	uint8 page[WA_LONG_PAGE_HEADER];
	bool good;

	if (wa_file_open(dir, name, &file, &damage) != WA_FILE_OK)
		return false;
	good = wa_file_read(&file, page, sizeof(page), 0) == sizeof(page) &&
		   wa_read_long_header(page, sizeof(page), &header) == NULL;
	wa_file_close(&file);
	if (good)
	{
		dir->segment_size = header.segment_size;
		dir->system_identifier = header.system_identifier;
	}
	return good;
}

/*
 * List the segments of the directory.  Learns its segment size and cluster from
 * the first file that tells them.  False if there is nothing to read.
 */
static bool
list_segments(Human *h, WaWalDir *dir, FoundList *list)
{
	DIR *d = opendir(dir->path);
	struct dirent *entry;
	char(*name)[WA_WAL_NAME_LEN] = NULL;
	size_t names = 0;
	size_t size = 0;

	memset(list, 0, sizeof(*list));
	if (d == NULL)
	{
		complain(h, "could not open directory \"%s\": %s", dir->path, strerror(errno));
		return false;
	}
	while ((errno = 0, entry = readdir(d)) != NULL)
	{
		TimeLineID tli;
		uint64 segno;
		WaWalFileKind kind;

		/* any size will do to tell a segment's name, the smallest allows all */
		kind = wa_parse_wal_name(entry->d_name, WA_MIN_SEGMENT_SIZE, &tli, &segno);
		if (kind != WA_FILE_SEGMENT && kind != WA_FILE_PARTIAL)
			continue;
		if (names == size)
		{
			size = Max(2 * size, 1024);
			name = pg_realloc(name, size * sizeof(*name));
		}
		strlcpy(name[names++], entry->d_name, WA_WAL_NAME_LEN);
		if (dir->segment_size == 0)
			(void) learn_cluster(dir, entry->d_name);
	}
	if (errno != 0)
		complain(h, "could not read directory \"%s\": %s", dir->path, strerror(errno));
	closedir(d);
	if (dir->segment_size == 0)
	{
		complain(h, names == 0 ? "directory \"%s\" holds no WAL" : "directory \"%s\" holds no WAL that can be read",
				 dir->path);
		pg_free(name);
		return false;
	}
	list->item = pg_malloc(names * sizeof(Found));
	for (size_t i = 0; i < names; i++)
	{
		TimeLineID tli;
		uint64 segno;

		if (wa_parse_wal_name(name[i], dir->segment_size, &tli, &segno) == WA_FILE_OTHER)
			continue;
		list->item[list->count].tli = tli;
		list->item[list->count++].start = wa_segment_start(segno, dir->segment_size);
	}
	pg_free(name);
	qsort(list->item, list->count, sizeof(Found), compare_found);
	return true;
}

/* The path to timeline 'tli', by its history file if that is there. */
static bool
find_path(Human *h, const WaWalDir *dir, TimeLineID tli)
{
	WaHistory *history = pg_malloc(sizeof(WaHistory));
	char *content = pg_malloc(HISTORY_MAX);
	char name[WA_WAL_NAME_LEN];
	WaWalFile file;
	WaDamage damage;
	const char *problem = NULL;

	h->path_len = 1;
	h->path[0].tli = tli;
	h->path[0].begin = 0;
	wa_history_name(name, tli);
	switch (tli == 1 ? WA_FILE_MISSING : wa_file_open(dir, name, &file, &damage))
	{
		case WA_FILE_MISSING:
			break;
		case WA_FILE_OK:
		{
			ssize_t n = wa_file_read(&file, content, HISTORY_MAX, 0);

			if (n < 0)
				problem = strerror(errno);
			else
				problem = wa_history_parse(content, n, tli, history);
			wa_file_close(&file);
			if (problem == NULL)
			{
				h->path_len = history->count;
				for (int i = 0; i < history->count; i++)
				{
					h->path[i].tli = history->entry[i].tli;
					h->path[i].begin = history->entry[i].begin;
				}
			}
			break;
		}
		default:
			problem = damage.text;
			break;
	}
	if (problem != NULL)
		complain(h, "history file \"%s\": %s", name, problem);
	pg_free(content);
	pg_free(history);
	return problem == NULL;
}

/* Is the segment one that a walk along the path would open? */
static bool
on_path(const Human *h, const WaWalDir *dir, const Found *found)
{
	for (int i = 0; i < h->path_len; i++)
	{
		if (h->path[i].tli == found->tli)
			return h->path[i].begin < found->start + dir->segment_size &&
				   (i + 1 == h->path_len || h->path[i + 1].begin > found->start);
	}
	return false;
}

/* Start of the first segment of the path at or after 'lsn', 0 if there is none. */
static XLogRecPtr
next_segment(const Human *h, const WaWalDir *dir, const FoundList *list,
			 XLogRecPtr lsn)
{
	for (size_t i = 0; i < list->count; i++)
	{
		if (list->item[i].start >= lsn && on_path(h, dir, &list->item[i]))
			return list->item[i].start;
	}
	return 0;
}

/* ---- walks ---- */

static void
walk(Human *h, const WaWalDir *dir, XLogRecPtr from, XLogRecPtr until)
{
	int major = h->walk.major;

	wa_walk_init(&h->walk);
	h->walk.major = major;
	h->walk.dir = dir;
	h->walk.path = h->path;
	h->walk.path_len = h->path_len;
	h->walk.from = from;
	h->walk.until = until;
	h->walk.prefix_len = 1024;
	h->walk.keep = wa_event_record;
	h->walk.record = text_record;
	if (h->format == FORMAT_STATS)
	{
		h->walk.keep = NULL;
		h->walk.record = stats_record;
	}
	else if (h->format == FORMAT_XACTS)
	{
		h->walk.keep = xact_or_nothing;
		h->walk.record = xact_record;
	}
	h->walk.arg = h;
	wa_walk(&h->walk);
}

static void
show_directory(Human *h, const char *path)
{
	WaWalDir dir;
	FoundList list;
	char text[WA_TEXT_LEN];
	XLogRecPtr from;

	if (!wa_dir_open(&dir, path, 0, 0, text))
	{
		complain(h, "%s", text);
		return;
	}
	dir.follow_links = true;
	if (!list_segments(h, &dir, &list))
	{
		wa_dir_close(&dir);
		return;
	}
	if (!h->has_path)
	{
		TimeLineID tli = h->timeline;

		for (size_t i = 0; i < list.count && h->timeline == 0; i++)
			tli = Max(tli, list.item[i].tli);
		if (!find_path(h, &dir, tli))
		{
			pg_free(list.item);
			wa_dir_close(&dir);
			return;
		}
	}

	from = h->start;
	if (next_segment(h, &dir, &list, 0) == 0)
	{
		complain(h, "directory \"%s\" holds no WAL of timeline %u", path, h->path[h->path_len - 1].tli);
		from = 0;
	}
	else if (from == 0)
		from = next_segment(h, &dir, &list, 0);
	while (from != 0)
	{
		XLogRecPtr behind = 0; /* where to go on */
		XLogRecPtr missing;

		walk(h, &dir, from, h->end);
		switch (h->walk.result)
		{
			case WA_DECODE_DONE:
			case WA_DECODE_MISSING:
				if (h->walk.result == WA_DECODE_DONE && h->end != 0 && h->walk.next_lsn >= h->end)
					break;
				missing = h->walk.missing_lsn;
				if (missing == 0)
					missing = wa_segment_floor(h->walk.next_lsn, dir.segment_size) + dir.segment_size;
				behind = next_segment(h, &dir, &list, missing);
				if (behind != 0 && (h->end == 0 || behind < h->end))
					complain(h, "WAL from %X/%X to %X/%X is not in directory \"%s\"",
							 LSN_FORMAT_ARGS(h->walk.next_lsn), LSN_FORMAT_ARGS(behind), path);
				else
				{
					behind = 0;
					if (h->end != 0)
						complain(h, "WAL ends at %X/%X in directory \"%s\"",
								 LSN_FORMAT_ARGS(h->walk.next_lsn), path);
				}
				break;
			case WA_DECODE_DAMAGED:
				complain(h, "file \"%s\": at %X/%X, offset " INT64_FORMAT ": %s", h->walk.damage.name,
						 LSN_FORMAT_ARGS(h->walk.damage.lsn), h->walk.damage.offset, h->walk.damage.text);
				behind = next_segment(h, &dir, &list, h->walk.next_lsn);
				break;
			case WA_DECODE_UNKNOWN:
				complain(h, "%s", h->walk.text);
				behind = next_segment(h, &dir, &list, h->walk.next_lsn + dir.segment_size);
				break;
			case WA_DECODE_FAILED:
				complain(h, "%s", h->walk.text);
				break;
		}
		if (h->end != 0 && behind >= h->end)
			break;
		from = behind;
	}
	pg_free(list.item);
	wa_dir_close(&dir);
}

static void
show_file(Human *h, const char *path)
{
	char *dir_part = pg_strdup(path);
	char *base_part = pg_strdup(path);
	const char *name = basename(base_part);
	WaWalDir dir;
	char text[WA_TEXT_LEN];
	TimeLineID tli;
	uint64 segno;
	XLogRecPtr start;
	XLogRecPtr end;
	WaWalFileKind kind = wa_parse_wal_name(name, WA_MIN_SEGMENT_SIZE, &tli, &segno);

	if (kind != WA_FILE_SEGMENT && kind != WA_FILE_PARTIAL)
		complain(h, "\"%s\" is not the name of a WAL segment", name);
	else if (!wa_dir_open(&dir, dirname(dir_part), 0, 0, text))
		complain(h, "%s", text);
	else
	{
		dir.follow_links = true;
		if (!learn_cluster(&dir, name))
		{
			struct stat st;

			if (fstatat(dir.fd, name, &st, 0) != 0)
				complain(h, "could not stat file \"%s\": %s", path, strerror(errno));
			else
				complain(h, "file \"%s\": at offset 0: it does not begin with a WAL page", path);
		}
		else if (wa_parse_wal_name(name, dir.segment_size, &tli, &segno) == WA_FILE_OTHER)
			complain(h, "file \"%s\": its name is not possible for segments of %u bytes", path, dir.segment_size);
		else
		{
			start = wa_segment_start(segno, dir.segment_size);
			end = start + dir.segment_size;
			if (!h->has_path)
			{
				h->path_len = 1;
				h->path[0].tli = tli;
				h->path[0].begin = 0;
			}
			if (h->end == 0 || h->end > start)
				walk(h, &dir, Max(start, h->start), h->end != 0 ? Min(end, h->end) : end);
			if (h->walk.result == WA_DECODE_DAMAGED)
				complain(h, "file \"%s\": at %X/%X, offset " INT64_FORMAT ": %s", h->walk.damage.name,
						 LSN_FORMAT_ARGS(h->walk.damage.lsn), h->walk.damage.offset, h->walk.damage.text);
			else if (h->walk.result == WA_DECODE_UNKNOWN || h->walk.result == WA_DECODE_FAILED)
				complain(h, "%s", h->walk.text);
			else if (h->walk.result == WA_DECODE_MISSING)
			{
				int code = h->code;

				/* that is no fault of this file */
				complain(h, "the record at %X/%X goes on in a file that is not there",
						 LSN_FORMAT_ARGS(h->walk.next_lsn));
				h->code = code;
			}
		}
		wa_dir_close(&dir);
	}
	pg_free(base_part);
	pg_free(dir_part);
}

/* ---- the command line ---- */

/* Says what is wrong with an option; returns the exit code. */
static int
bad_option(const char *option, const char *value, const char *wanted)
{
	fprintf(stderr, "walarchive-decode: %s is not \"%s\" but %s\n", option, value, wanted);
	fprintf(stderr, "Try \"walarchive-decode --help\".\n");
	return 2;
}

int
wa_human_main(int argc, char **argv)
{
	static const struct option options[] = {
		{"format", required_argument, NULL, 'f'},
		{"timeline", required_argument, NULL, 't'},
		{"path", required_argument, NULL, 'p'},
		{"start", required_argument, NULL, 's'},
		{"end", required_argument, NULL, 'e'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0}};
	static Human h;
	int option;

	/* to getopt that is the same as an unknown option */
	if (argc > 1 && strcmp(argv[1], "-?") == 0)
	{
		usage(stdout);
		return 0;
	}

	while ((option = getopt_long(argc, argv, ":f:t:p:s:e:Vh", options, NULL)) != -1)
	{
		char *end;

		switch (option)
		{
			case 'f':
				if (strcmp(optarg, "text") == 0)
					h.format = FORMAT_TEXT;
				else if (strcmp(optarg, "stats") == 0)
					h.format = FORMAT_STATS;
				else if (strcmp(optarg, "xacts") == 0)
					h.format = FORMAT_XACTS;
				else
					return bad_option("--format", optarg, "text, stats or xacts");
				break;
			case 't':
				errno = 0;
				h.timeline = (TimeLineID) strtoul(optarg, &end, 10);
				if (errno != 0 || end == optarg || *end != '\0' || h.timeline == 0)
					return bad_option("--timeline", optarg, "a number from 1 on");
				break;
			case 'p':
				h.path_len = wa_parse_path(optarg, h.path);
				h.has_path = h.path_len > 0;
				if (!h.has_path)
					return bad_option("--path", optarg, "timelines in ascending order, as 1:0/0,2:0/5000028");
				break;
			case 's':
				if (!wa_parse_lsn(optarg, &h.start))
					return bad_option("--start", optarg, "an LSN, as 0/5000028");
				break;
			case 'e':
				if (!wa_parse_lsn(optarg, &h.end) || h.end == 0)
					return bad_option("--end", optarg, "an LSN, as 0/5000028");
				break;
			case 'V':
				printf("walarchive-decode (walarchive) %s\n", WALARCHIVE_VERSION);
				return 0;
			case 'h':
				usage(stdout);
				return 0;
			default:
				fprintf(stderr, option == ':' ? "walarchive-decode: option \"%s\" needs a value\n" : "walarchive-decode: there is no option \"%s\"\n", argv[optind - 1]);
				fprintf(stderr, "Try \"walarchive-decode --help\".\n");
				return 2;
		}
	}
	if (optind == argc)
	{
		fprintf(stderr, "walarchive-decode: name a directory or files with WAL\n");
		fprintf(stderr, "Try \"walarchive-decode --help\".\n");
		return 2;
	}
	if (h.end != 0 && h.start >= h.end)
	{
		fprintf(stderr, "walarchive-decode: --start is not before --end\n");
		return 2;
	}

	initStringInfo(&h.line);
	for (int i = optind; i < argc; i++)
	{
		struct stat st;

		if (stat(argv[i], &st) != 0)
			complain(&h, "could not stat \"%s\": %s", argv[i], strerror(errno));
		else if (S_ISDIR(st.st_mode))
			show_directory(&h, argv[i]);
		else
			show_file(&h, argv[i]);
	}
	if (h.format == FORMAT_STATS)
		print_stats(&h);
	if (fflush(stdout) != 0 || ferror(stdout))
	{
		fprintf(stderr, "walarchive-decode: could not write: %s\n", strerror(errno));
		return 1;
	}
	return h.code;
}
