/*-------------------------------------------------------------------------
 *
 * verify_files.c
 *	  Files and checksums of a wal directory for "verify"; see verify_files.h.
 *
 * Whatever lies in the place of a file is neither followed nor waited for.
 *
 *-------------------------------------------------------------------------
 */
#include "../base/base.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "verify_files.h"

void *
wa_verify_resize(void *memory, size_t size)
{
	if (size == 0)
	{
		free(memory);
		return NULL;
	}
	return realloc(memory, size);
}

/* ---- messages ---- */

void
wa_verify_progress(WaVerify *v, XLogRecPtr lsn)
{
	WaMsgProgress m = {0};

	m.lsn = lsn;
	m.bytes = v->bytes;
	v->shown_bytes = v->bytes;
	v->send(WA_MSG_PROGRESS, &m, sizeof(m), NULL, 0);
}

void
wa_verify_send_damage(WaVerify *v, const WaChecked *c)
{
	WaMsgDamage m = {0};
	char rest[WA_WAL_NAME_LEN + WA_DAMAGE_TEXT_LEN];

	m.kind = c->kind;
	m.tli = c->tli;
	m.segment_lsn = c->start;
	m.lsn = c->lsn;
	m.offset = c->offset;
	m.name_len = strlen(c->name);
	m.text_len = strlen(c->text);
	memcpy(rest, c->name, m.name_len);
	memcpy(rest + m.name_len, c->text, m.text_len);
	v->send(WA_MSG_DAMAGE, &m, sizeof(m), rest, m.name_len + m.text_len);
}

/* All that is to be said of a file. */
void
wa_verify_send_file(WaVerify *v, const WaChecked *c)
{
	WaMsgFile m = {0};

	if (c->kind != 0)
		wa_verify_send_damage(v, c);
	if (!c->there)
		return;
	m.tli = c->tli;
	m.segment_lsn = c->start;
	m.size = c->size;
	m.finished = c->finished;
	m.damaged = (c->kind != 0);
	m.has_hash = (c->sum != WA_SUM_UNKNOWN);
	memcpy(m.sha256, c->sha256, sizeof(m.sha256));
	m.name_len = strlen(c->name);
	v->send(WA_MSG_FILE, &m, sizeof(m), c->name, m.name_len);
}

/* Say of a file what is wrong with it, unless something has been said. */
void
wa_verify_note(WaChecked *c, WaDamageKind kind, XLogRecPtr lsn, int64 offset, const char *fmt, ...)
	pg_attribute_printf(5, 6);

void
wa_verify_note(WaChecked *c, WaDamageKind kind, XLogRecPtr lsn, int64 offset, const char *fmt, ...)
{
	va_list args;

	if (c->kind != 0)
		return;
	c->kind = kind;
	c->lsn = lsn;
	c->offset = offset;
	va_start(args, fmt);
	vsnprintf(c->text, sizeof(c->text), fmt, args);
	va_end(args);
}

/* The same for a byte of the segment. */
void
wa_verify_note_at(WaVerify *v, WaChecked *c, WaDamageKind kind, XLogRecPtr lsn, const char *text)
{
	bool inside = lsn >= c->start && lsn - c->start < v->segment_size;

	wa_verify_note(c, kind, lsn, inside ? (int64) (lsn - c->start) : -1, "%s", text);
}

/* ---- files ---- */

/*
 * Open a file of the directory for reading.  Returns -1 with errno if it is not
 * there, -1 with 'problem' filled if it can't be read or is not a file.
 */
int
wa_verify_open(WaVerify *v, const char *name, int64 *size, char *problem)
{
	char path[MAXPGPATH + WA_WAL_NAME_LEN];
	struct stat st;
	int fd;

	problem[0] = '\0';
	snprintf(path, sizeof(path), "%s/%s", v->directory, name);
	/* neither follow a link nor wait for the writer of a fifo */
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
	{
		if (errno == ELOOP)
			snprintf(problem, WA_DAMAGE_TEXT_LEN, "is a symbolic link, not a file");
		else if (errno == ENXIO)
			snprintf(problem, WA_DAMAGE_TEXT_LEN, "is not a regular file");
		else if (errno != ENOENT)
			snprintf(problem, WA_DAMAGE_TEXT_LEN, "could not be opened: %s", strerror(errno));
		return -1;
	}
	if (fstat(fd, &st) != 0)
		snprintf(problem, WA_DAMAGE_TEXT_LEN, "could not be looked at: %s", strerror(errno));
	else if (S_ISDIR(st.st_mode))
		snprintf(problem, WA_DAMAGE_TEXT_LEN, "is a directory, not a file");
	else if (!S_ISREG(st.st_mode))
		snprintf(problem, WA_DAMAGE_TEXT_LEN, "is not a regular file");
	if (problem[0] != '\0')
	{
		close(fd);
		return -1;
	}
	*size = st.st_size;
	return fd;
}

/* Read 'len' bytes at 'offset'; fewer only at the end of file; -1: errno. */
ssize_t
wa_verify_read(int fd, void *buffer, size_t len, off_t offset)
{
	size_t done = 0;

	while (done < len)
	{
		ssize_t n = pread(fd, (char *) buffer + done, len - done, offset + done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		done += n;
	}
	return done;
}

/* Open segment 'segno' of a timeline under either name; as open_file. */
int
wa_verify_open_segment(WaVerify *v, TimeLineID tli, uint64 segno, char *name, bool *finished,
					   int64 *size, char *problem)
{
	/* a partial may get its final name between two looks */
	for (int i = 0; i < 2; i++)
	{
		int fd;

		*finished = true;
		wa_segment_name(name, tli, segno, v->segment_size);
		fd = wa_verify_open(v, name, size, problem);
		if (fd >= 0 || problem[0] != '\0')
			return fd;
		*finished = false;
		wa_partial_name(name, tli, segno, v->segment_size);
		fd = wa_verify_open(v, name, size, problem);
		if (fd >= 0 || problem[0] != '\0')
			return fd;
	}
	*finished = true;
	wa_segment_name(name, tli, segno, v->segment_size);
	return -1;
}

bool
wa_verify_all_zero(const uint8 *bytes, size_t len)
{
	return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

/* ---- checksums ---- */

static int
compare_sums(const void *a, const void *b)
{
	const WaSum *x = a;
	const WaSum *y = b;

	return x->segno < y->segno ? -1 : x->segno > y->segno;
}

/* Lines for one file in their order: the last counts. */
static int
compare_lines(const void *a, const void *b)
{
	const WaSum *x = a;
	const WaSum *y = b;

	if (x->segno != y->segno)
		return compare_sums(a, b);
	return x->line < y->line ? -1 : x->line > y->line;
}

/* Sort them for bsearch; of several for one file the last one is kept. */
static void
sort_sums(WaVerify *v)
{
	size_t kept = 0;

	if (v->sums == 0)
		return;
	qsort(v->sum, v->sums, sizeof(WaSum), compare_lines);
	for (size_t i = 1; i < v->sums; i++)
	{
		if (v->sum[i].segno != v->sum[kept].segno)
			kept++;
		v->sum[kept] = v->sum[i];
	}
	v->sums = kept + 1;
}

/*
 * Read from wal.sha256 what it says of segments from..to of the timeline, or
 * of all history files.  Lines that are none are passed over: the server looks
 * at the file as such.  False: text says why it can't be read.
 */
bool
wa_verify_read_sums(WaVerify *v, bool histories, uint64 from, uint64 to, char *text, size_t text_size)
{
	FILE *file;
	char line[1024];
	struct stat st;
	int fd;

	if (v->sums_path[0] == '\0')
		return true;
	fd = open(v->sums_path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return true;
	if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (file = fdopen(fd, "r")) == NULL)
	{
		snprintf(text, text_size, "could not read file \"%s\"", v->sums_path);
		if (fd >= 0)
			close(fd);
		return false;
	}
	while (fgets(line, sizeof(line), file) != NULL)
	{
		size_t len = strlen(line);
		uint8 sha256[WA_SHA256_LEN];
		char name[WA_WAL_NAME_LEN];
		WaWalFileKind kind;
		TimeLineID tli;
		uint64 segno = 0;

		if (len == 0 || line[len - 1] != '\n' ||
			!wa_read_sum_line(line, len - 1, sha256, name))
			continue;
		kind = wa_parse_wal_name(name, v->segment_size, &tli, &segno);
		if (histories)
		{
			if (kind != WA_FILE_HISTORY)
				continue;
			segno = tli;
		}
		else if (kind != WA_FILE_SEGMENT || tli != v->tli || segno < from || segno > to)
			continue;
		if (v->sums == v->sums_allocated)
		{
			size_t allocated = Max(1024, v->sums_allocated * 2);
			WaSum *sum = allocated > 8 * WA_VERIFY_MAX_SEGMENTS ? NULL : wa_verify_resize(v->sum, allocated * sizeof(WaSum));

			if (sum == NULL)
			{
				fclose(file);
				snprintf(text, text_size, "out of memory for the lines of \"%s\"", v->sums_path);
				return false;
			}
			v->sum = sum;
			v->sums_allocated = allocated;
		}
		v->sum[v->sums].segno = segno;
		v->sum[v->sums].line = v->sums;
		memcpy(v->sum[v->sums].sha256, sha256, sizeof(sha256));
		v->sums++;
	}
	if (ferror(file))
	{
		snprintf(text, text_size, "could not read file \"%s\": %s", v->sums_path, strerror(errno));
		fclose(file);
		return false;
	}
	fclose(file);
	sort_sums(v);
	return true;
}

WaSumState
wa_verify_compare(WaVerify *v, uint64 segno, const uint8 *sha256)
{
	WaSum key = {.segno = segno};
	const WaSum *s = v->sums == 0 ? NULL : bsearch(&key, v->sum, v->sums, sizeof(WaSum), compare_sums);

	if (s == NULL)
		return WA_SUM_UNKNOWN;
	return memcmp(s->sha256, sha256, WA_SHA256_LEN) == 0 ? WA_SUM_GOOD : WA_SUM_BAD;
}

/* What its checksum says of a finished segment beside the range. */
WaSumState
wa_verify_neighbour(WaVerify *v, uint64 segno)
{
	char name[WA_WAL_NAME_LEN];
	char problem[WA_DAMAGE_TEXT_LEN];
	uint8 sha256[WA_SHA256_LEN];
	int64 size;
	off_t offset = 0;
	ssize_t n;
	int fd;
	bool ok;

	wa_segment_name(name, v->tli, segno, v->segment_size);
	fd = wa_verify_open(v, name, &size, problem);
	if (fd < 0)
		return WA_SUM_UNKNOWN;
	ok = pg_cryptohash_init(v->sha) >= 0;
	while (ok && (n = wa_verify_read(fd, v->other, WA_READ_SIZE, offset)) != 0)
	{
		ok = n > 0 && offset <= v->segment_size && pg_cryptohash_update(v->sha, v->other, n) >= 0;
		offset += n;
	}
	ok = ok && pg_cryptohash_final(v->sha, sha256, sizeof(sha256)) >= 0;
	close(fd);
	return ok ? wa_verify_compare(v, segno, sha256) : WA_SUM_UNKNOWN;
}
