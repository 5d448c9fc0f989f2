/*-------------------------------------------------------------------------
 *
 * restore_prepare.c
 *	  Before anything is copied: can this machine take the restore?  See
 *	  restore.h.
 *
 * Nothing is changed here.
 *
 *-------------------------------------------------------------------------
 */
#include "restore.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/logging.h"

#include "../src/base/flat_json.h"
#include "../src/base/tar_reader.h"

/* Of a program's output this much is kept, from its end. */
#define OUTPUT_KEPT 8192

/* WAL that lies in pg_wal while it is replayed: max_wal_size by default. */
#define WAL_ROOM ((uint64) 1024 * 1024 * 1024)

/* ---- directories ---- */

/* 1: it has something in it, 0: empty, -1: not there, -2: can't be read (errno) */
static int
look_into(const char *path, bool *unfinished)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int found = 0;

	*unfinished = false;
	if (dir == NULL)
		return errno == ENOENT ? -1 : -2;
	errno = 0;
	while ((entry = readdir(dir)) != NULL)
	{
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		found = 1;
		if (strcmp(entry->d_name, RESTORE_MARKER) == 0)
			*unfinished = true;
	}
	if (errno != 0)
		found = -2;
	closedir(dir);
	return found;
}

/* 'path' is 'dir' or lies below it. */
static bool
is_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return strncmp(path, dir, len) == 0 && (path[len] == '\0' || path[len] == '/' || (len > 0 && dir[len - 1] == '/'));
}

/*
 * The path without links, also where the last parts are not there yet.
 * malloc'd; NULL with errno.
 */
static char *
real_path(const char *path)
{
	char parent[MAXPGPATH];
	char *real = realpath(path, NULL);
	char *above;
	const char *name;

	if (real != NULL || errno != ENOENT)
		return real;
	strlcpy(parent, path, sizeof(parent));
	name = last_dir_separator(path);
	if (name == NULL || name[1] == '\0')
		return NULL;
	get_parent_directory(parent);
	above = real_path(parent[0] ? parent : "/");
	if (above == NULL)
		return NULL;
	real = psprintf("%s%s", strcmp(above, "/") == 0 ? "" : above, name);
	free(above);
	return real;
}

/* A folder that is to be filled: absolute, without links; reported if it can't be. */
static char *
check_target(Restore *restore, const char *what, const char *path, int *code)
{
	bool unfinished;
	char *real = real_path(path);
	int found;

	*code = EXIT_LOCAL;
	if (real == NULL || strlen(real) >= MAXPGPATH - 256)
	{
		if (real != NULL)
			errno = ENAMETOOLONG;
		pg_log_error("could not resolve %s \"%s\": %m", what, path);
		return NULL;
	}
	if (restore->common.archive_dir != NULL)
	{
		char *archive = real_path(restore->common.archive_dir);
		bool inside = archive != NULL && is_below(real, archive);

		free(archive);
		if (inside)
		{
			pg_log_error("%s \"%s\" lies in the archive directory", what, real);
			pg_log_error_hint("Choose one outside of \"%s\".", restore->common.archive_dir);
			return NULL;
		}
	}
	found = look_into(real, &unfinished);
	if (found == -2)
	{
		pg_log_error("could not read %s \"%s\": %m", what, real);
		return NULL;
	}
	if (found == 1)
	{
		pg_log_error("%s \"%s\" is not empty", what, real);
		if (unfinished)
			pg_log_error_hint("It has what an unfinished restore left, and can't be started. Empty it, and try again.");
		else
			pg_log_error_hint("A restore never overwrites anything: choose another directory, or empty this one.");
		return NULL;
	}
	*code = EXIT_DONE;
	return real;
}

int
restore_check_directory(Restore *restore)
{
	int code;
	char *real = check_target(restore, "data directory", restore->data, &code);

	if (real != NULL)
	{
		canonicalize_path(real);
		restore->data = real;
	}
	return code;
}

/* ---- backups ---- */

/* The tablespaces of the last backup of the chain: "<oid> <path>" a line. */
static bool
take_tablespaces(Restore *restore, char *text)
{
	for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
	{
		RestoreTablespace *space;
		size_t digits = strspn(line, "0123456789");

		if (digits == 0 || digits > 10 || line[digits] != ' ' || line[digits + 1] == '\0')
			return false;
		restore->tablespaces = pg_realloc(restore->tablespaces, (restore->ntablespaces + 1) * sizeof(RestoreTablespace));
		space = &restore->tablespaces[restore->ntablespaces++];
		memset(space, 0, sizeof(*space));
		space->oid = pnstrdup(line, digits);
		space->path = pg_strdup(line + digits + 1);
	}
	return true;
}

static int
read_backup(Restore *restore, RestoreBackup *backup, bool last)
{
	size_t len;
	int code;
	char *text = restore_read_file(restore, backup->label, "backup.json", &len, &code);
	char *spaces;
	char sha256[65] = "";
	uint64 version = 0;

	if (text == NULL)
		return code;
	spaces = pg_malloc(len + 1);
	if (!wa_json_valid(text, len) || !wa_json_get_uint(text, len, "server_version", &version) ||
		!wa_json_get_uint(text, len, "data_size", &backup->data_size) ||
		!wa_json_get_string(text, len, "manifest_sha256", sha256, sizeof(sha256)) ||
		!wa_json_get_string(text, len, "tablespaces", spaces, len + 1) ||
		version < 150000 || version > 1000000 || (last && !take_tablespaces(restore, spaces)))
	{
		pg_log_error("file \"backup.json\" of backup \"%s\" is damaged, or of a newer version of walarchive", backup->label);
		code = EXIT_ARCHIVE;
	}
	backup->server_version = (int) version;
	backup->manifest_sha256 = pg_strdup(sha256);
	pg_free(spaces);
	pg_free(text);
	return code;
}

int
restore_read_backups(Restore *restore)
{
	for (int i = 0; i < restore->nfiles; i++)
	{
		const ArchiveFile *file = &restore->files[i];

		if (file->kind != ARCHIVE_FILE_BACKUP)
			continue;
		if (restore->nchain == 0 || strcmp(restore->chain[restore->nchain - 1].label, file->label) != 0)
		{
			restore->chain = pg_realloc(restore->chain, (restore->nchain + 1) * sizeof(RestoreBackup));
			memset(&restore->chain[restore->nchain], 0, sizeof(RestoreBackup));
			restore->chain[restore->nchain++].label = file->label;
		}
		restore->chain[restore->nchain - 1].size += file->size;
	}
	if (restore->nchain == 0)
	{
		pg_log_error("the plan has no backup");
		return EXIT_ARCHIVE;
	}
	for (int i = 0; i < restore->nchain; i++)
	{
		int code = read_backup(restore, &restore->chain[i], i == restore->nchain - 1);

		if (code != EXIT_DONE)
			return code;
	}
	restore->major = restore->chain[restore->nchain - 1].server_version / 10000;
	return EXIT_DONE;
}

/* ---- tablespaces ---- */

static const char *
mapped_to(Restore *restore, const RestoreTablespace *space)
{
	for (int i = 0; i < restore->nmappings; i++)
	{
		if (strcmp(restore->mappings[i].old_dir, space->oid) == 0 ||
			strcmp(restore->mappings[i].old_dir, space->path) == 0)
		{
			restore->mappings[i].used = true;
			return restore->mappings[i].new_dir;
		}
	}
	if (restore->tablespaces_dir != NULL)
		return psprintf("%s/%s", restore->tablespaces_dir, space->oid);
	return NULL;
}

/* A folder in which a tablespace may lie, in new_dir: not in the copy itself, nor in another one's. */
static int
check_space(Restore *restore, RestoreTablespace *space, const char *new_dir)
{
	const RestoreTablespace *lists[] = {restore->tablespaces, restore->own_spaces};
	const int counts[] = {restore->ntablespaces, restore->nown_spaces};
	int code;

	space->new_dir = check_target(restore, "directory of a tablespace", new_dir, &code);
	if (space->new_dir == NULL)
		return code;
	if (is_below(space->new_dir, restore->data) || is_below(restore->data, space->new_dir))
	{
		pg_log_error("tablespace directory \"%s\" and data directory \"%s\" lie in one another",
					 space->new_dir, restore->data);
		return EXIT_USAGE;
	}
	for (int l = 0; l < (int) lengthof(lists); l++)
	{
		for (int i = 0; i < counts[l]; i++)
		{
			const RestoreTablespace *other = &lists[l][i];

			if (other == space || other->new_dir == NULL)
				continue;
			if (is_below(space->new_dir, other->new_dir) || is_below(other->new_dir, space->new_dir))
			{
				pg_log_error("tablespaces %s and %s can't both be in \"%s\"", other->oid, space->oid, space->new_dir);
				return EXIT_USAGE;
			}
		}
	}
	return EXIT_DONE;
}

/* Is it said that this tablespace may lie where it does on the primary? */
static bool
mapped_to_itself(Restore *restore, const ArchiveTablespace *space, const char *path)
{
	for (int i = 0; i < restore->nmappings; i++)
	{
		RestoreMapping *mapping = &restore->mappings[i];

		if (strcmp(mapping->new_dir, path) == 0 &&
			(strcmp(mapping->old_dir, space->oid) == 0 || strcmp(mapping->old_dir, path) == 0))
		{
			mapping->used = true;
			return true;
		}
	}
	return false;
}

/*
 * A tablespace that the WAL makes: PostgreSQL takes its directory from the
 * record, and puts its link in the place of any other.  On the primary's machine
 * that is the primary's own directory.  So it has to be said that it may be
 * used, and it has to be empty.
 */
static int
check_own_space(Restore *restore, const ArchiveTablespace *made, bool *refused)
{
	char *path = pg_strdup(made->path);
	RestoreTablespace *space;

	canonicalize_path(path);
	if (!mapped_to_itself(restore, made, path))
	{
		pg_log_error("recovery makes tablespace %s at %X/%X in \"%s\" itself, as on the primary", made->oid,
					 LSN_FORMAT_ARGS(made->lsn), path);
		*refused = true;
		return EXIT_DONE;
	}
	for (int i = 0; i < restore->nown_spaces; i++)
	{
		/* made once more, after it was dropped */
		if (strcmp(restore->own_spaces[i].path, path) == 0)
			return EXIT_DONE;
	}
	for (int i = 0; i < restore->ntablespaces; i++)
	{
		/* made while the backup began, and so both in it and in the WAL */
		if (strcmp(restore->tablespaces[i].oid, made->oid) == 0 && strcmp(restore->tablespaces[i].path, path) == 0 &&
			restore->tablespaces[i].new_dir != NULL)
		{
			char *real = real_path(path);
			bool same = real != NULL && strcmp(real, restore->tablespaces[i].new_dir) == 0;

			free(real);
			if (same)
				return EXIT_DONE;
		}
	}
	restore->own_spaces = pg_realloc(restore->own_spaces, (restore->nown_spaces + 1) * sizeof(RestoreTablespace));
	space = &restore->own_spaces[restore->nown_spaces++];
	*space = (RestoreTablespace){.oid = made->oid, .path = path};
	return check_space(restore, space, path);
}

int
restore_map_tablespaces(Restore *restore)
{
	bool missing = false;
	bool refused = false;
	int code;

	for (int i = 0; i < restore->ntablespaces; i++)
	{
		RestoreTablespace *space = &restore->tablespaces[i];
		const char *new_dir = mapped_to(restore, space);

		if (new_dir == NULL)
		{
			pg_log_error("there is no place for tablespace %s, which is in \"%s\" on the primary", space->oid, space->path);
			missing = true;
			continue;
		}
		code = check_space(restore, space, new_dir);
		if (code != EXIT_DONE)
			return code;
	}
	for (int i = 0; i < restore->plan.ntablespaces; i++)
	{
		code = check_own_space(restore, &restore->plan.tablespaces[i], &refused);
		if (code != EXIT_DONE)
			return code;
	}
	if (missing)
		pg_log_error_hint("Say where they go: --tablespace-mapping=OLDDIR=NEWDIR for each, or --tablespaces=DIR for all. "
						  "The primary's own directory is taken only if it is named, and empty.");
	if (refused)
		pg_log_error_hint("PostgreSQL takes this directory from the WAL, and no mapping changes that. Restore to a place before it, "
						  "or from a backup that was taken after it; or, where nobody else uses the directory, "
						  "say that it may be used: --tablespace-mapping=DIR=DIR.");
	if (missing || refused)
		return EXIT_USAGE;
	for (int i = 0; i < restore->nmappings; i++)
	{
		if (!restore->mappings[i].used)
		{
			pg_log_error("the backup has no tablespace \"%s\"", restore->mappings[i].old_dir);
			return EXIT_USAGE;
		}
	}
	return EXIT_DONE;
}

/* ---- programs ---- */

int
restore_run_program(const char *const *argv, char **output)
{
	int pipes[2];
	pid_t pid;
	char *text = pg_malloc(2 * OUTPUT_KEPT + 1);
	size_t used = 0;
	int status;

	*output = NULL;
	if (pipe(pipes) != 0)
		return -1;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
	{
		int null = open("/dev/null", O_RDONLY);

		if (null >= 0)
			dup2(null, 0);
		dup2(pipes[1], 1);
		dup2(pipes[1], 2);
		for (int fd = 3; fd < 256; fd++)
			close(fd);
		execv(argv[0], (char *const *) argv);
		fprintf(stderr, "could not run \"%s\": %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	close(pipes[1]);
	if (pid < 0)
	{
		close(pipes[0]);
		pg_free(text);
		return -1;
	}
	for (;;)
	{
		ssize_t n = read(pipes[0], text + used, 2 * OUTPUT_KEPT - used);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		used += n;
		if (used == 2 * OUTPUT_KEPT)
		{
			memmove(text, text + OUTPUT_KEPT, OUTPUT_KEPT);
			used = OUTPUT_KEPT;
		}
	}
	close(pipes[0]);
	while (used > 0 && text[used - 1] == '\n')
		used--;
	text[used] = '\0';
	*output = text;
	while (waitpid(pid, &status, 0) < 0)
	{
		if (errno != EINTR)
			return -1;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The major of the server in 'dir', 0: there is none. */
static int
major_of(const char *dir)
{
	char path[MAXPGPATH];
	const char *argv[] = {path, "-V", NULL};
	char *output;
	int major = 0;

	snprintf(path, sizeof(path), "%s/postgres", dir);
	if (access(path, X_OK) != 0)
		return 0;
	if (restore_run_program(argv, &output) == 0 && strncmp(output, "postgres (PostgreSQL) ", 22) == 0)
		major = atoi(output + 22);
	pg_free(output);
	return major;
}

static bool
try_programs(Restore *restore, const char *dir)
{
	if (major_of(dir) != restore->major)
		return false;
	restore->programs = pg_strdup(dir);
	return true;
}

static bool
search_programs(Restore *restore)
{
	static const char *const places[] = {"/usr/lib/postgresql/%d/bin", "/usr/pgsql-%d/bin", "/usr/local/pgsql-%d/bin",
										 "/usr/local/opt/postgresql@%d/bin", "/opt/homebrew/opt/postgresql@%d/bin",
										 "/usr/local/pgsql/bin"};
	char dir[MAXPGPATH];
	const char *path = getenv("PATH");

	/* beside this program */
	if (restore->self != NULL)
	{
		strlcpy(dir, restore->self, sizeof(dir));
		get_parent_directory(dir);
		if (try_programs(restore, dir))
			return true;
	}
	while (path != NULL && *path != '\0')
	{
		size_t len = strcspn(path, ":");

		if (len > 0 && len < sizeof(dir))
		{
			memcpy(dir, path, len);
			dir[len] = '\0';
			if (try_programs(restore, dir))
				return true;
		}
		path += len + (path[len] == ':');
	}
	for (int i = 0; i < (int) lengthof(places); i++)
	{
		/* the last one has no place for the major */
		if (strstr(places[i], "%d") == NULL)
			strlcpy(dir, places[i], sizeof(dir));
		else
		{
			const char *at = strstr(places[i], "%d");

			snprintf(dir, sizeof(dir), "%.*s%d%s", (int) (at - places[i]), places[i], restore->major, at + 2);
		}
		if (try_programs(restore, dir))
			return true;
	}
	return false;
}

/* Where PostgreSQL's libraries are. */
static void
find_libraries(Restore *restore)
{
	char path[MAXPGPATH];
	const char *argv[] = {path, "--pkglibdir", NULL};
	static const char *const places[] = {"lib", "lib/postgresql"};
	char *output;

	snprintf(path, sizeof(path), "%s/pg_config", restore->programs);
	if (access(path, X_OK) == 0 && restore_run_program(argv, &output) == 0 && output[0] == '/')
	{
		restore->libdir = output;
		return;
	}
	for (int i = 0; i < (int) lengthof(places); i++)
	{
		char dir[MAXPGPATH];

		strlcpy(dir, restore->programs, sizeof(dir));
		get_parent_directory(dir);
		snprintf(path, sizeof(path), "%s/%s/plpgsql%s", dir, places[i], DLSUFFIX);
		if (access(path, R_OK) == 0)
		{
			restore->libdir = psprintf("%s/%s", dir, places[i]);
			return;
		}
	}
}

int
restore_find_programs(Restore *restore)
{
	if (restore->bindir != NULL)
	{
		int major = major_of(restore->bindir);

		if (major != restore->major)
		{
			if (major == 0)
				pg_log_error("there is no PostgreSQL server in \"%s\"", restore->bindir);
			else
				pg_log_error("the server in \"%s\" is PostgreSQL %d, but the backup is one of PostgreSQL %d",
							 restore->bindir, major, restore->major);
			return EXIT_LOCAL;
		}
		restore->programs = restore->bindir;
	}
	else if (!search_programs(restore))
	{
		pg_log_error("this machine has no PostgreSQL %d, of which the backup is", restore->major);
		pg_log_error_hint("Install the server of that major (Debian: postgresql-%d), or say where it is: --bindir=DIR.",
						  restore->major);
		return EXIT_LOCAL;
	}
	find_libraries(restore);
	if (restore->nchain > 1)
	{
		char path[MAXPGPATH];

		snprintf(path, sizeof(path), "%s/pg_combinebackup", restore->programs);
		if (access(path, X_OK) != 0)
		{
			pg_log_error("there is no pg_combinebackup in \"%s\", which incremental backups need", restore->programs);
			return EXIT_LOCAL;
		}
	}
	return EXIT_DONE;
}

/* ---- room ---- */

const char *
restore_size(uint64 bytes, char *buffer)
{
	static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB"};
	double size = (double) bytes;
	int unit = 0;

	while (size >= 1024 && unit < (int) lengthof(units) - 1)
	{
		size /= 1024;
		unit++;
	}
	snprintf(buffer, 32, unit == 0 ? "%.0f %s" : "%.1f %s", size, units[unit]);
	return buffer;
}

/* The file system on which 'path' is, or will be. */
static bool
file_system(const char *path, struct stat *st, struct statvfs *fs)
{
	char there[MAXPGPATH];

	strlcpy(there, path, sizeof(there));
	while (stat(there, st) != 0)
	{
		if (errno != ENOENT || there[0] == '\0' || strcmp(there, "/") == 0)
			return false;
		get_parent_directory(there);
		if (there[0] == '\0')
			strlcpy(there, "/", sizeof(there));
	}
	return statvfs(there, fs) == 0;
}

/* Is the file an archive of tablespace 'oid'? */
static bool
is_archive_of(const ArchiveFile *file, const char *oid)
{
	size_t len = strlen(oid);

	return strncmp(file->name, oid, len) == 0 && strncmp(file->name + len, ".tar", 4) == 0;
}

int
restore_check_space(Restore *restore)
{
	int n = restore->ntablespaces + 1;
	uint64 *needed = pg_malloc0(n * sizeof(uint64));
	uint64 staged = 0;
	int code = EXIT_DONE;

	/* what the tars of each place hold: their part of the whole, as they are stored */
	for (int i = 0; i < restore->nchain; i++)
	{
		RestoreBackup *backup = &restore->chain[i];

		for (int f = 0; f < restore->nfiles; f++)
		{
			const ArchiveFile *file = &restore->files[f];
			uint64 bytes;
			int place = 0;

			if (file->kind != ARCHIVE_FILE_BACKUP || strcmp(file->label, backup->label) != 0)
				continue;
			for (int t = 0; t < restore->ntablespaces; t++)
			{
				if (is_archive_of(file, restore->tablespaces[t].oid))
					place = t + 1;
			}
			bytes = (uint64) ((double) backup->data_size * ((double) file->size / (double) Max(1, backup->size)));
			/* a chain is first unpacked in the data directory; its result is as large as the full backup, at least */
			if (restore->nchain > 1)
				staged += bytes;
			if (restore->nchain == 1 || i == 0)
				needed[place] += bytes;
		}
	}
	needed[0] += staged + Min(restore->plan.wal_bytes, WAL_ROOM);

	for (int i = 0; i < n && code == EXIT_DONE; i++)
	{
		const char *path = i == 0 ? restore->data : restore->tablespaces[i - 1].new_dir;
		struct stat st;
		struct statvfs fs;
		uint64 all = 0;
		char has_text[32];
		char needs_text[32];

		if (!file_system(path, &st, &fs))
		{
			pg_log_error("could not look at the file system of \"%s\": %m", path);
			code = EXIT_LOCAL;
			break;
		}
		for (int j = 0; j < n; j++)
		{
			struct stat other;
			struct statvfs unused;

			if (file_system(j == 0 ? restore->data : restore->tablespaces[j - 1].new_dir, &other, &unused) &&
				other.st_dev == st.st_dev)
				all += needed[j];
		}
		if ((uint64) fs.f_bavail * fs.f_frsize >= all)
			continue;
		pg_log_error("there is too little room for \"%s\": %s are free, about %s are needed", path,
					 restore_size((uint64) fs.f_bavail * fs.f_frsize, has_text), restore_size(all, needs_text));
		code = EXIT_LOCAL;
	}
	pg_free(needed);
	return code;
}

/* ---- ports ---- */

int
restore_free_port(void)
{
	for (int port = 5433; port < 5533; port++)
	{
		struct sockaddr_in address;
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		int one = 1;
		bool is_free;

		if (fd < 0)
			return 5433;
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		memset(&address, 0, sizeof(address));
		address.sin_family = AF_INET;
		address.sin_port = htons((uint16) port);
		address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		is_free = bind(fd, (struct sockaddr *) &address, sizeof(address)) == 0;
		close(fd);
		if (is_free)
			return port;
	}
	return 5433;
}
