/*-------------------------------------------------------------------------
 *
 * plan.c
 *	  walarchive plan: where a recovery would end, or why it can't.
 *
 * Changes nothing, but that with --hold the archive host keeps what the plan
 * needs for so long.
 *
 *-------------------------------------------------------------------------
 */
#include "archive.h"
#include "json_out.h"
#include "target.h"

#include "common/logging.h"

enum
{
	OPTION_HOLD = OPTION_OWN,
	OPTION_FILES
};

static const struct option long_options[] = {
	TARGET_LONG_OPTIONS,
	{"hold", required_argument, NULL, OPTION_HOLD},
	{"files", no_argument, NULL, OPTION_FILES},
	{NULL, 0, NULL, 0},
};

/* Bytes for people. */
static const char *
size_text(uint64 bytes, char *buffer, size_t size)
{
	static const char *const units[] = {"kB", "MB", "GB", "TB"};
	double value = (double) bytes / 1024;
	size_t unit = 0;

	if (bytes < 10240)
	{
		snprintf(buffer, size, UINT64_FORMAT " bytes", bytes);
		return buffer;
	}
	while (value >= 10240 && unit + 1 < lengthof(units))
	{
		value /= 1024;
		unit++;
	}
	snprintf(buffer, size, "%.0f %s", value, units[unit]);
	return buffer;
}

static void
print_line(const char *name, const char *format, ...) pg_attribute_printf(2, 3);

static void
print_line(const char *name, const char *format, ...)
{
	va_list args;

	printf("%-13s ", name);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

/* Text of several lines, each under the first. */
static void
print_lines(const char *name, const char *text)
{
	while (*text != '\0')
	{
		size_t len = strcspn(text, "\n");

		print_line(name, "%.*s", (int) len, text);
		text += len;
		text += strspn(text, "\n");
		name = "";
	}
}

static void
print_plan(const ArchivePlan *plan)
{
	char wal[64];
	char backup[64];
	char time[CLI_TIME_LEN];

	if (!plan->feasible)
	{
		print_line("Feasible:", "no, %s", plan->reason != NULL ? plan->reason : "for no known reason");
		if (plan->hint != NULL)
			print_lines("Hint:", plan->hint);
		return;
	}
	print_line("Feasible:", "yes%s%s", plan->ref != NULL ? ", plan " : "", plan->ref != NULL ? plan->ref : "");
	print_line("Backup:", "%s, %s", plan->backup, size_text(plan->backup_bytes, backup, sizeof(backup)));
	print_line("Timelines:", "%s", plan->timeline_path);
	print_line("WAL:", "%X/%X to %X/%X, " UINT64_FORMAT " segments, %s", LSN_FORMAT_ARGS(plan->start_lsn),
			   LSN_FORMAT_ARGS(plan->stop_lsn), plan->segments, size_text(plan->wal_bytes, wal, sizeof(wal)));
	if (plan->has_commit)
		print_line("Last commit:", "%s, transaction %u, at %X/%X",
				   plan->has_commit_time ? cli_time_text(plan->last_commit_time, time) : "of unknown time",
				   plan->last_commit_xid, LSN_FORMAT_ARGS(plan->last_commit_lsn));
	else
		print_line("Last commit:", "none beyond what the backup has");
	for (int i = 0; i < plan->nprepared; i++)
		print_line(i == 0 ? "Prepared:" : "", "%s is open there", plan->prepared[i]);
	if (plan->settings != NULL)
		print_lines("Settings:", plan->settings);
	if (plan->hint != NULL)
		print_lines("Note:", plan->hint);
}

static const char *
kind_name(ArchiveFileKind kind)
{
	switch (kind)
	{
		case ARCHIVE_FILE_BACKUP:
			return "backup";
		case ARCHIVE_FILE_WAL:
			return "wal";
		case ARCHIVE_FILE_HISTORY:
			return "history";
	}
	return "";
}

static void
print_files(const ArchiveFile *files, int nfiles)
{
	printf("\n%-8s %12s  %s\n", "kind", "bytes", "file");
	for (int i = 0; i < nfiles; i++)
		printf("%-8s %12llu  %s%s%s\n", kind_name(files[i].kind), (unsigned long long) files[i].size,
			   files[i].label != NULL ? files[i].label : "", files[i].label != NULL ? "/" : "", files[i].name);
}

static void
print_json(const ArchivePlan *plan, const ArchiveFile *files, int nfiles)
{
	PQExpBufferData out;

	initPQExpBuffer(&out);
	cli_json_begin(&out, NULL, '{');
	cli_json_bool(&out, "feasible", plan->feasible);
	cli_json_string(&out, "reason", plan->reason);
	cli_json_string(&out, "hint", plan->hint);
	cli_json_string(&out, "plan", plan->ref);
	if (plan->feasible)
	{
		cli_json_string(&out, "backup", plan->backup);
		cli_json_uint(&out, "timeline", plan->timeline);
		cli_json_string(&out, "timeline_path", plan->timeline_path);
		cli_json_lsn(&out, "start_lsn", plan->start_lsn);
		cli_json_lsn(&out, "stop_lsn", plan->stop_lsn);
		if (plan->has_commit)
		{
			cli_json_uint(&out, "last_commit_xid", plan->last_commit_xid);
			cli_json_lsn(&out, "last_commit_lsn", plan->last_commit_lsn);
			if (plan->has_commit_time)
				cli_json_time(&out, "last_commit_time", plan->last_commit_time);
		}
		cli_json_uint(&out, "segments", plan->segments);
		cli_json_uint(&out, "wal_bytes", plan->wal_bytes);
		cli_json_uint(&out, "backup_bytes", plan->backup_bytes);
		cli_json_begin(&out, "prepared", '[');
		for (int i = 0; i < plan->nprepared; i++)
			cli_json_string(&out, NULL, plan->prepared[i]);
		cli_json_end(&out, ']');
		cli_json_string(&out, "settings", plan->settings);
	}
	if (files != NULL)
	{
		cli_json_begin(&out, "files", '[');
		for (int i = 0; i < nfiles; i++)
		{
			cli_json_begin(&out, NULL, '{');
			cli_json_string(&out, "kind", kind_name(files[i].kind));
			cli_json_string(&out, "label", files[i].label);
			cli_json_string(&out, "name", files[i].name);
			cli_json_uint(&out, "timeline", files[i].timeline);
			cli_json_uint(&out, "size", files[i].size);
			cli_json_string(&out, "sha256", files[i].sha256[0] != '\0' ? files[i].sha256 : NULL);
			cli_json_end(&out, '}');
		}
		cli_json_end(&out, ']');
	}
	cli_json_end(&out, '}');
	puts(out.data);
	termPQExpBuffer(&out);
}

int
cmd_plan(int argc, char **argv)
{
	CliOptions options;
	WaRestoreTarget target;
	Archive *archive;
	ArchiveStatus status;
	ArchivePlan plan;
	ArchiveFile *files = NULL;
	int nfiles = 0;
	int hold = 0;
	bool want_files = false;
	int c;

	cli_default_options(&options);
	cli_target_default(&target);
	while ((c = cli_getopt(argc, argv, "", long_options, &options)) != -1)
	{
		bool ok;

		if (cli_target_option(c, optarg, &target, &ok))
		{
			if (!ok)
				return EXIT_USAGE;
		}
		else if (c == OPTION_HOLD)
		{
			if (!cli_parse_int("--hold", optarg, 1, 30 * 24 * 3600, &hold))
				return EXIT_USAGE;
		}
		else if (c == OPTION_FILES)
			want_files = true;
	}
	if (optind < argc)
		return cli_usage_error("there is an argument too many: \"%s\"", argv[optind]);
	if (!cli_target_check(&target))
		return EXIT_USAGE;
	if (options.source == NULL)
		return cli_usage_error("no source is named (--source)");

	memset(&plan, 0, sizeof(plan));
	archive = archive_open(&options);
	status = archive_plan(archive, &target, hold, &plan);
	if (status == ARCHIVE_OK && plan.feasible && want_files)
		status = archive_plan_files(archive, &plan, &files, &nfiles);
	if (status != ARCHIVE_OK)
	{
		int code = archive_report(archive, status);

		archive_close(archive);
		return code;
	}
	if (options.json)
		print_json(&plan, files, nfiles);
	else
	{
		print_plan(&plan);
		if (files != NULL)
			print_files(files, nfiles);
	}
	archive_close(archive);
	return plan.feasible ? EXIT_DONE : EXIT_NO;
}
