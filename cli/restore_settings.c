/*-------------------------------------------------------------------------
 *
 * restore_settings.c
 *	  What a restored data directory is told.  See restore_settings.h.
 *
 * A copy of a primary believes that it is the primary: it would archive over
 * the primary's archive, wait for its standbys, run its jobs, take changes from
 * its publications, and write where its settings lead.  So lines that lead
 * out of the data directory, or that are for a recovery, are put in comments,
 * and postgresql.auto.conf, which comes last, overrides the rest.
 *
 * Files are replaced by renames.  Nothing here is undone after a failure: the
 * data directory can't be started by then.
 *
 *-------------------------------------------------------------------------
 */
#include "../src/base/base.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf_file.h"
#include "restore_settings.h"

#define MARK "# walarchive restore: "
#define MAX_DEPTH 10

/* Settings whose values are looked at; what stands last counts. */
enum
{
	SEEN_SHARED_PRELOAD,
	SEEN_SESSION_PRELOAD,
	SEEN_LOCAL_PRELOAD,
	SEEN_SHARED_BUFFERS,
	SEEN_MAX_CONNECTIONS,
	SEEN_MAX_WORKER_PROCESSES,
	SEEN_MAX_WAL_SENDERS,
	SEEN_MAX_PREPARED_TRANSACTIONS,
	SEEN_MAX_LOCKS,
	SEEN_TRACK_COMMIT_TIMESTAMP,
	NSEEN
};

static const char *const seen_names[NSEEN] = {
	"shared_preload_libraries", "session_preload_libraries", "local_preload_libraries", "shared_buffers",
	"max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions",
	"max_locks_per_transaction", "track_commit_timestamp"};

typedef struct Review
{
	const RestoreSettings *settings;
	SettingsNote note;
	void *arg;
	char *problem;
	char *seen[NSEEN];
} Review;

/* What overrides whatever the primary had, unless the copy takes its place. */
typedef struct SafeSetting
{
	const char *name;
	const char *value;
	int since; /* major */
} SafeSetting;

static const SafeSetting safe_settings[] = {
	{"archive_mode", "off", 0},
	{"archive_command", "", 0},
	{"archive_library", "", 0},
	{"archive_cleanup_command", "", 0},
	{"recovery_end_command", "", 0},
	{"recovery_min_apply_delay", "0", 0},
	{"synchronous_standby_names", "", 0},
	{"synchronized_standby_slots", "", 17},
	{"sync_replication_slots", "off", 17},
	{"primary_conninfo", "", 0},
	{"primary_slot_name", "", 0},
	{"hot_standby", "on", 0},
	{"max_logical_replication_workers", "0", 0},
	{"listen_addresses", "localhost", 0},
	{"unix_socket_directories", ".", 0},
	{"ssl", "off", 0},
	{"huge_pages", "try", 0},
	{"logging_collector", "off", 0},
	{"log_destination", "stderr", 0},
	{"log_directory", "log", 0},
	{"timescaledb.max_background_workers", "0", 0},
};

/* Libraries that do nothing on their own that leaves the copy, or without which its data can't be read. */
static const char *const harmless[] = {
	"age", "anon", "auth_delay", "auto_explain", "credcheck", "logerrors", "orioledb", "passwordcheck",
	"pg_hint_plan", "pg_prewarm", "pg_qualstats", "pg_search", "pg_show_plans", "pg_stat_kcache", "pg_stat_monitor",
	"pg_stat_statements", "pg_store_plans", "pg_tde", "pg_track_settings", "pg_wait_sampling", "pgaudit",
	"pgauditlogtofile", "pgsodium", "plpgsql", "plprofiler", "plrust", "sepgsql", "set_user", "supautils",
	"system_stats", "timescaledb", "vector"};

/* Libraries that act on their own. */
static const struct
{
	const char *name;
	const char *why;
} active[] = {
	{"bdr", "it replicates"},
	{"citus", "it connects to other nodes"},
	{"pg_cron", "it runs jobs"},
	{"pg_failover_slots", "it connects to the primary"},
	{"pg_net", "it sends requests"},
	{"pg_partman_bgw", "it drops and makes partitions"},
	{"pgactive", "it replicates"},
	{"pgautofailover", "it reports to a monitor"},
	{"pglogical", "it replicates"},
	{"repmgr", "it belongs to a cluster"},
	{"spock", "it replicates"},
	{"walarchive", "it would archive the same primaries"}};

static void
failed(Review *review, const char *what, const char *path)
{
	if (review->problem == NULL)
		review->problem = psprintf("could not %s file \"%s\": %m", what, path);
}

static void
tell(Review *review, const char *fmt, ...) pg_attribute_printf(2, 3);

static void
tell(Review *review, const char *fmt, ...)
{
	char text[1024];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	review->note(review->arg, text);
}

static bool
is_recovery_target(const char *name)
{
	return strcmp(name, "recovery_target") == 0 || strncmp(name, "recovery_target_", 16) == 0;
}

/* ---- the files that are there ---- */

/* Path of a file that the file at 'from' names. */
static void
resolve(char *path, const char *from, const char *name)
{
	char *real;

	if (is_absolute_path(name))
		strlcpy(path, name, MAXPGPATH);
	else
	{
		char folder[MAXPGPATH];

		strlcpy(folder, from, sizeof(folder));
		get_parent_directory(folder);
		snprintf(path, MAXPGPATH, "%s/%s", folder, name);
	}
	/* where it really is: neither a link nor ".." makes it look as if it were inside */
	real = realpath(path, NULL);
	if (real != NULL)
		strlcpy(path, real, MAXPGPATH);
	else
		canonicalize_path(path);
	free(real);
}

static bool
is_inside(Review *review, const char *path)
{
	size_t len = strlen(review->settings->data);

	return strncmp(path, review->settings->data, len) == 0 && path[len] == '/';
}

static void review_file(Review *review, const char *path, int depth);

/* Files of an include_dir, ascending. */
static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

static void
review_folder(Review *review, const char *path, int depth)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	char **names = NULL;
	int count = 0;

	if (dir == NULL)
		return;
	while ((entry = readdir(dir)) != NULL)
	{
		size_t len = strlen(entry->d_name);

		if (len < 6 || entry->d_name[0] == '.' || strcmp(entry->d_name + len - 5, ".conf") != 0)
			continue;
		names = pg_realloc(names, (count + 1) * sizeof(char *));
		names[count++] = psprintf("%s/%s", path, entry->d_name);
	}
	closedir(dir);
	if (count > 0)
		qsort(names, count, sizeof(char *), compare_names);
	for (int i = 0; i < count; i++)
	{
		review_file(review, names[i], depth);
		pg_free(names[i]);
	}
	pg_free(names);
}

/* An include: follow it, or NULL; else why it can't stay. */
static const char *
review_include(Review *review, const char *from, const ConfLine *line, int depth)
{
	char path[MAXPGPATH];
	bool folder = strcmp(line->name, "include_dir") == 0;
	bool there;
	struct stat st;

	resolve(path, from, line->value);
	there = stat(path, &st) == 0 && (folder ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode));
	if (!there)
		return strcmp(line->name, "include_if_exists") == 0 ? NULL : "it is not there";
	if (!is_inside(review, path))
		return review->settings->as_primary ? NULL : "it lies outside of the data directory";
	if (depth >= MAX_DEPTH)
		return "includes are nested too deeply";
	if (folder)
		review_folder(review, path, depth + 1);
	else
		review_file(review, path, depth + 1);
	return NULL;
}

/* A line that leads elsewhere, or is for a recovery: why it can't stay, or NULL. */
static const char *
review_line(Review *review, const char *path, const ConfLine *line, int depth)
{
	bool as_primary = review->settings->as_primary;

	if (strcmp(line->name, "include") == 0 || strcmp(line->name, "include_if_exists") == 0 ||
		strcmp(line->name, "include_dir") == 0)
		return review_include(review, path, line, depth);
	if (is_recovery_target(line->name))
		return "";
	if (strcmp(line->name, "data_directory") == 0)
	{
		char target[MAXPGPATH];

		resolve(target, path, line->value);
		return strcmp(target, review->settings->data) == 0 ? NULL : "it is another data directory";
	}
	if (strcmp(line->name, "hba_file") == 0 || strcmp(line->name, "ident_file") == 0)
	{
		if (!as_primary)
			return "the copy has its own";
		return access(line->value, R_OK) == 0 ? NULL : "it is not there";
	}
	if (strcmp(line->name, "external_pid_file") == 0 && !as_primary)
		return "";
	for (int i = 0; i < NSEEN; i++)
	{
		if (strcmp(line->name, seen_names[i]) == 0)
		{
			pg_free(review->seen[i]);
			review->seen[i] = pg_strdup(line->value);
		}
	}
	return NULL;
}

/* The file's text with the lines in comments that can't stay, in 'to'; true if there are any. */
static bool
review_text(Review *review, const char *path, const char *text, size_t len, int depth, StringInfo to)
{
	const char *end = text + len;
	bool changed = false;

	while (text < end)
	{
		const char *newline = memchr(text, '\n', end - text);
		const char *stop = newline ? newline : end;
		const char *why = NULL;
		ConfLine line;

		conf_parse_line(text, stop - text, &line);
		if (line.name[0] != '\0')
			why = review_line(review, path, &line, depth);
		if (why != NULL)
		{
			changed = true;
			appendStringInfoString(to, MARK);
			if (why[0] != '\0')
				tell(review, "setting left out: %s = '%s' (%s)", line.name, line.value, why);
		}
		appendBinaryStringInfo(to, text, stop - text);
		appendStringInfoChar(to, '\n');
		conf_free_line(&line);
		text = newline ? newline + 1 : end;
	}
	return changed;
}

static void
review_file(Review *review, const char *path, int depth)
{
	size_t len;
	char *text = conf_read_file(path, &len);
	StringInfoData changed;

	if (text == NULL)
	{
		failed(review, "read", path);
		return;
	}
	initStringInfo(&changed);
	if (review_text(review, path, text, len, depth, &changed) &&
		!conf_write_file(path, changed.data, changed.len))
		failed(review, "write", path);
	pfree(changed.data);
	pg_free(text);
}

/* ---- what is decided from them ---- */

static void
add_setting(StringInfo to, const char *name, const char *value)
{
	appendStringInfo(to, "%s = ", name);
	conf_append_quoted(to, value);
	appendStringInfoChar(to, '\n');
}

static bool
is_installed(const RestoreSettings *settings, const char *library)
{
	char path[MAXPGPATH];

	if (settings->libdir == NULL)
		return true;
	if (is_absolute_path(library))
		snprintf(path, sizeof(path), "%s", library);
	else
		snprintf(path, sizeof(path), "%s/%s", settings->libdir,
				 strncmp(library, "$libdir/", 8) == 0 ? library + 8 : library);
	if (access(path, R_OK) == 0)
		return true;
	strlcat(path, DLSUFFIX, sizeof(path));
	return access(path, R_OK) == 0;
}

/* Why a preloaded library is left out; NULL: it is not. */
static const char *
library_problem(const RestoreSettings *settings, const char *library, bool shared)
{
	const char *name = last_dir_separator(library);
	char plain[MAXPGPATH];
	char *suffix;

	strlcpy(plain, name ? name + 1 : library, sizeof(plain));
	suffix = strstr(plain, DLSUFFIX);
	if (suffix != NULL && suffix[strlen(DLSUFFIX)] == '\0')
		*suffix = '\0';
	if (!is_installed(settings, library))
		return "it is not installed here";
	if (!shared)
		return NULL;
	for (int i = 0; i < lengthof(active); i++)
	{
		if (strcmp(plain, active[i].name) == 0)
			return active[i].why;
	}
	for (int i = 0; i < lengthof(harmless); i++)
	{
		if (strcmp(plain, harmless[i]) == 0)
			return NULL;
	}
	return "what it does in a copy is not known";
}

/* Libraries that stay, as a value; true if any goes. */
static bool
review_libraries(Review *review, int setting, StringInfo to)
{
	bool changed = false;
	char *list = pg_strdup(review->seen[setting]);

	for (char *at = list; at != NULL;)
	{
		char *comma = strchr(at, ',');
		char *name = at;
		const char *why;
		size_t len;

		if (comma != NULL)
			*comma = '\0';
		at = comma ? comma + 1 : NULL;
		name += strspn(name, " \t\"");
		len = strlen(name);
		while (len > 0 && strchr(" \t\"", name[len - 1]) != NULL)
			name[--len] = '\0';
		if (len == 0)
			continue;
		why = library_problem(review->settings, name, setting == SEEN_SHARED_PRELOAD);
		if (why == NULL)
			appendStringInfo(to, "%s%s", to->len > 0 ? ", " : "", name);
		else
		{
			changed = true;
			tell(review, "library left out of %s: %s (%s)", seen_names[setting], name, why);
		}
	}
	pg_free(list);
	return changed;
}

static void
add_libraries(Review *review, StringInfo to)
{
	for (int i = SEEN_SHARED_PRELOAD; i <= SEEN_LOCAL_PRELOAD; i++)
	{
		StringInfoData kept;

		if (i == SEEN_SHARED_PRELOAD && review->settings->preload != NULL)
		{
			add_setting(to, seen_names[i], review->settings->preload);
			continue;
		}
		if (review->seen[i] == NULL)
			continue;
		initStringInfo(&kept);
		if (review_libraries(review, i, &kept))
			add_setting(to, seen_names[i], kept.data);
		pfree(kept.data);
	}
}

/* Bytes of a setting such as shared_buffers; 0: not understood. */
static uint64
memory_bytes(const char *value)
{
	char *unit;
	double number = strtod(value, &unit);

	if (number <= 0)
		return 0;
	unit += strspn(unit, " ");
	if (*unit == '\0')
		return (uint64) (number * 8192);
	if (strcmp(unit, "B") == 0)
		return (uint64) number;
	if (strcmp(unit, "kB") == 0)
		return (uint64) (number * 1024);
	if (strcmp(unit, "MB") == 0)
		return (uint64) (number * 1024 * 1024);
	if (strcmp(unit, "GB") == 0)
		return (uint64) (number * 1024 * 1024 * 1024);
	if (strcmp(unit, "TB") == 0)
		return (uint64) (number * 1024 * 1024 * 1024 * 1024);
	return 0;
}

static void
add_memory(Review *review, StringInfo to)
{
	const char *value = review->seen[SEEN_SHARED_BUFFERS];
	uint64 memory = (uint64) sysconf(_SC_PHYS_PAGES) * (uint64) sysconf(_SC_PAGESIZE);

	if (value == NULL || memory == 0 || memory_bytes(value) <= memory / 2)
		return;
	tell(review, "shared_buffers is %s on the primary, this machine has " UINT64_FORMAT " MB: the copy gets 128MB",
		 value, memory / (1024 * 1024));
	add_setting(to, "shared_buffers", "128MB");
}

/*
 * The plan's lines: targets as they are; what hot standby needs only where the
 * files have less.
 */
static void
add_plan_settings(Review *review, StringInfo to)
{
	const char *at = review->settings->plan_settings;

	while (at != NULL && *at != '\0')
	{
		size_t len = strcspn(at, "\n");
		ConfLine line;

		conf_parse_line(at, len, &line);
		if (line.name[0] != '\0')
		{
			bool known = strncmp(line.name, "recovery_target", strlen("recovery_target")) == 0;
			bool enough = false;

			for (int i = SEEN_MAX_CONNECTIONS; i <= SEEN_TRACK_COMMIT_TIMESTAMP; i++)
			{
				known = known || strcmp(line.name, seen_names[i]) == 0;
				if (strcmp(line.name, seen_names[i]) == 0 && review->seen[i] != NULL)
					enough = i == SEEN_TRACK_COMMIT_TIMESTAMP ? pg_strcasecmp(review->seen[i], line.value) == 0
															  : atol(review->seen[i]) >= atol(line.value);
			}
			/* commands and libraries are not for an archive host to say */
			if (!known && review->problem == NULL)
				review->problem = psprintf("the plan's settings have \"%s\", which is none of a recovery's target", line.name);
			if (!enough)
				add_setting(to, line.name, line.value);
		}
		conf_free_line(&line);
		at += len;
		if (*at == '\n')
			at++;
	}
}

static bool
is_safe_setting(const char *name)
{
	for (int i = 0; i < lengthof(safe_settings); i++)
	{
		if (strcmp(name, safe_settings[i].name) == 0)
			return true;
	}
	return false;
}

static void
write_auto_conf(Review *review)
{
	const RestoreSettings *settings = review->settings;
	char path[MAXPGPATH];
	StringInfoData text;
	StringInfoData kept;
	size_t len;
	char *old;

	snprintf(path, sizeof(path), "%s/postgresql.auto.conf", settings->data);
	initStringInfo(&text);
	initStringInfo(&kept);
	old = conf_read_file(path, &len);
	if (old == NULL && errno != ENOENT)
	{
		failed(review, "read", path);
		return;
	}
	if (old != NULL)
		(void) review_text(review, path, old, len, MAX_DEPTH, &text);
	pg_free(old);

	/* what is said again below is no longer of use */
	for (char *at = text.data; *at != '\0';)
	{
		size_t n = strcspn(at, "\n");
		ConfLine line;

		conf_parse_line(at, n, &line);
		if (line.name[0] != '\0' &&
			(strcmp(line.name, "restore_command") == 0 ||
			 (!settings->as_primary && (is_safe_setting(line.name) || strcmp(line.name, "port") == 0))))
			appendStringInfoString(&kept, MARK);
		appendBinaryStringInfo(&kept, at, (int) n);
		appendStringInfoChar(&kept, '\n');
		conf_free_line(&line);
		at += n;
		if (*at == '\n')
			at++;
	}

	appendStringInfo(&kept, "\n" MARK "where to stop, and where the WAL is\n");
	add_plan_settings(review, &kept);
	add_setting(&kept, "restore_command", settings->restore_command);
	add_setting(&kept, "recovery_target_action", settings->target_action);
	if (settings->port != 0)
	{
		char port[16];

		snprintf(port, sizeof(port), "%d", settings->port);
		add_setting(&kept, "port", port);
	}
	if (!settings->as_primary)
	{
		char *name = psprintf("restored from %s", settings->source);

		appendStringInfo(&kept, "\n" MARK "so that the copy leaves the primary and its surroundings alone\n");
		for (int i = 0; i < lengthof(safe_settings); i++)
		{
			if (settings->major >= safe_settings[i].since)
				add_setting(&kept, safe_settings[i].name, safe_settings[i].value);
		}
		add_setting(&kept, "cluster_name", name);
		add_libraries(review, &kept);
		add_memory(review, &kept);
		pg_free(name);
	}
	else if (settings->preload != NULL)
		add_setting(&kept, "shared_preload_libraries", settings->preload);
	if (!conf_write_file(path, kept.data, kept.len))
		failed(review, "write", path);
	pfree(text.data);
	pfree(kept.data);
}

/* ---- files that have to be there ---- */

static void
make_file(Review *review, const char *name, const char *text)
{
	char path[MAXPGPATH];

	snprintf(path, sizeof(path), "%s/%s", review->settings->data, name);
	if (access(path, F_OK) != 0 && !conf_write_file(path, text, strlen(text)))
		failed(review, "write", path);
}

/* Whoever owns the data directory may always connect: the socket lies in it. */
static void
write_hba(Review *review)
{
	static const char first[] = MARK "the socket lies in the data directory, which is its owner's alone\n"
									 "local all all trust\n";
	static const char rest[] = "host all all 127.0.0.1/32 scram-sha-256\n"
							   "host all all ::1/128 scram-sha-256\n";
	char path[MAXPGPATH];
	StringInfoData text;
	size_t len;
	char *old;

	snprintf(path, sizeof(path), "%s/pg_hba.conf", review->settings->data);
	old = conf_read_file(path, &len);
	if (old == NULL && errno != ENOENT)
	{
		failed(review, "read", path);
		return;
	}
	initStringInfo(&text);
	if (!review->settings->as_primary)
		appendStringInfoString(&text, first);
	else if (old == NULL)
		appendStringInfoString(&text, "local all all peer\n");
	appendStringInfoString(&text, old ? old : rest);
	if ((old == NULL || !review->settings->as_primary) && !conf_write_file(path, text.data, text.len))
		failed(review, "write", path);
	pg_free(old);
	pfree(text.data);
}

bool
restore_write_settings(const RestoreSettings *settings, SettingsNote note, void *arg, char **problem)
{
	Review review = {.settings = settings, .note = note, .arg = arg};
	char path[MAXPGPATH];

	snprintf(path, sizeof(path), "%s/postgresql.conf", settings->data);
	if (access(path, F_OK) != 0)
	{
		tell(&review, "the backup has no postgresql.conf: the copy gets one with the defaults and what recovery needs");
		make_file(&review, "postgresql.conf",
				  "# The backup has no postgresql.conf: the primary keeps it elsewhere.  This one\n"
				  "# has the defaults; what recovery needs is in postgresql.auto.conf.\n");
	}
	review_file(&review, path, 0);
	if (review.problem == NULL)
		write_auto_conf(&review);
	if (review.problem == NULL)
		write_hba(&review);
	make_file(&review, "pg_ident.conf", "");
	make_file(&review, "recovery.signal", "");
	for (int i = 0; i < NSEEN; i++)
		pg_free(review.seen[i]);
	*problem = review.problem;
	return review.problem == NULL;
}

bool
restore_end_settings(const char *data, char **problem)
{
	char path[MAXPGPATH];
	StringInfoData text;
	size_t len;
	char *old;
	bool ok;

	*problem = NULL;
	snprintf(path, sizeof(path), "%s/postgresql.auto.conf", data);
	old = conf_read_file(path, &len);
	if (old == NULL)
	{
		*problem = psprintf("could not read file \"%s\": %m", path);
		return false;
	}
	initStringInfo(&text);
	for (char *at = old; *at != '\0';)
	{
		size_t n = strcspn(at, "\n");
		ConfLine line;

		conf_parse_line(at, n, &line);
		if (!is_recovery_target(line.name) && strcmp(line.name, "restore_command") != 0 &&
			strncmp(at, MARK "where to stop", strlen(MARK "where to stop")) != 0)
		{
			appendBinaryStringInfo(&text, at, (int) n);
			appendStringInfoChar(&text, '\n');
		}
		conf_free_line(&line);
		at += n;
		if (*at == '\n')
			at++;
	}
	ok = conf_write_file(path, text.data, text.len);
	if (!ok)
		*problem = psprintf("could not write file \"%s\": %m", path);
	pfree(text.data);
	pg_free(old);
	return ok;
}
