/*-------------------------------------------------------------------------
 *
 * segment_writer.c
 *	  Segment files of one archive.  See segment_writer.h for the contract and
 *	  for what a crash leaves behind.
 *
 * Order of steps at a segment's end: fdatasync of the file, rename to the final
 * name, fsync of the directory: a "finish job".  The next segment's first flush
 * gives the prepared file its ".partial" name and syncs the directory again
 * before any byte in it counts as durable.  A flush of the next segment is not
 * started before the finish job is retired, so the directory never shows the
 * next segment without this one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "storage/fd.h"

#include "../base/wal_name.h"
#include "../compat.h"
#include "../state/fault_point.h"
#include "archive_scan.h"
#include "segment_writer.h"

#define PREPARED_PREFIX "walarchive.prepared"
#define UNSYNCED_SUFFIX ".unsynced"

/*
 * A live stream's first segment is zeroed on the spot, unless that would take
 * long: nobody prepared it, and flushes into room that was only reserved cost
 * more for as long as the segment lasts.
 */
#define MAX_ZERO_FIRST (64 * 1024 * 1024)

/* Existing bytes are compared in pieces of this size. */
#define COMPARE_SIZE (128 * 1024)

/* Write-back is asked for after so many bytes without a flush. */
#define KICK_SIZE (1024 * 1024)

/*
 * A segment that took less than this leaves the page cache when it is
 * finished: where so much comes, its pages are better used for the next.
 */
#define KEEP_CACHED_SEC 10

/* Up to this average a flush is made in line: a hand-over costs as much. */
#define INLINE_USEC 400

#define writer_error(w, c, ...)        \
	do                                 \
	{                                  \
		*(w)->cause = (c);             \
		ereport(ERROR, (__VA_ARGS__)); \
	} while (0)

static WaCause
cause_of_errno(int error)
{
	return error == ENOSPC || error == EDQUOT ? WA_CAUSE_DISK_FULL : WA_CAUSE_IO;
}

/* errno is set */
pg_noreturn static void
file_error(WaSegmentWriter *w, const char *action, const char *path)
{
	*w->cause = cause_of_errno(errno);
	ereport(ERROR,
			(errcode_for_file_access(),
			 errmsg("could not %s \"%s\": %m", action, path)));
	pg_unreachable();
}

static void
write_bytes(WaSegmentWriter *w, WaOpenSegment *segment, uint32 offset,
			const char *data, uint32 len)
{
	while (len > 0)
	{
		ssize_t n;

		errno = 0;
		n = WA_FAULT(SEGMENT_WRITE, pwrite(segment->fd, data, WA_SHORT(len), offset));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			if (errno == 0)
				errno = ENOSPC;
			file_error(w, "write to file", segment->path);
		}
		data += n;
		offset += n;
		len -= n;
	}
}

/* ---- opening ---- */

static void
segment_path(const WaSegmentWriter *w, char *path, TimeLineID tli,
			 uint64 segno, bool partial)
{
	char name[WA_WAL_NAME_LEN];

	if (partial)
		wa_partial_name(name, tli, segno, w->segment_size);
	else
		wa_segment_name(name, tli, segno, w->segment_size);
	snprintf(path, MAXPGPATH, "%s/%s", w->dir, name);
}

static void
prepared_path(const WaSegmentWriter *w, char *path, uint32 number)
{
	snprintf(path, MAXPGPATH, "%s/" PREPARED_PREFIX ".%u", w->dir, number);
}

/*
 * Give a file whose sync failed a name under which it is not written on.
 * Returns false, with errno set, if that can't be done.
 */
static bool
set_aside(const char *path)
{
	char aside[MAXPGPATH * 2];
	struct stat st;
	int rc;

	snprintf(aside, sizeof(aside), "%s" UNSYNCED_SUFFIX, path);
	/* an earlier one holds what was once confirmed: keep the earlier */
	if (stat(aside, &st) == 0)
		rc = WA_FAULT(SET_ASIDE_REMOVE, unlink(path));
	else
		rc = WA_FAULT(SET_ASIDE_RENAME, rename(path, aside));
	return rc == 0 || errno == ENOENT;
}

/*
 * Is each byte of the file 'aside' in the file 'path' as well, durably?  False
 * if that can't be said.
 *
 * To be durable it is written again, the same bytes, and synced.  A sync alone
 * would not tell: who wrote the file may have died before its own, or an earlier
 * one may have failed, here as well, and a kernel that has told of a failure
 * takes those pages for clean, so that the next sync succeeds and does nothing.
 */
static bool
holds_all(WaSegmentWriter *w, const char *path, const char *aside)
{
	const size_t half = COMPARE_SIZE / 2;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	int old_fd = open(aside, O_RDONLY | O_CLOEXEC);
	bool all = fd >= 0 && old_fd >= 0;
	off_t pos = 0;

	while (all)
	{
		ssize_t n = pread(old_fd, w->buffer, half, pos);
		ssize_t there;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			all = n == 0;
			break;
		}
		/* what has no bytes in the other file are zeroes */
		memset(w->buffer + half, 0, n);
		there = pread(fd, w->buffer + half, n, pos);
		all = there >= 0;
		for (ssize_t k = 0; all && k < n; k++)
			all = w->buffer[k] == 0 || w->buffer[k] == w->buffer[half + k];
		if (all && there > 0)
			all = WA_FAULT(SEGMENT_WRITE, pwrite(fd, w->buffer + half, there, pos)) == there;
		pos += n;
	}
	all = all && WA_FAULT(REOPEN_FSYNC, fsync(fd)) == 0;
	if (fd >= 0)
		close(fd);
	if (old_fd >= 0)
		close(old_fd);
	return all;
}

/*
 * Remove files that were set aside and whose replacement is there and durable:
 * a process may have died, or the disk refused, when it was; or their timeline
 * has ended, and nothing will make their segment whole.  Of such a one the file
 * that is ".partial" for ever must hold all, or a tail that the next timeline
 * does not have would be lost.
 */
static void
remove_replaced(WaSegmentWriter *w)
{
	DIR *dir = AllocateDir(w->dir);
	struct dirent *de;

	w->has_unsynced = false;
	while ((de = ReadDirExtended(dir, w->dir, LOG)) != NULL)
	{
		char path[MAXPGPATH * 2];
		char finished[MAXPGPATH * 2];
		char partial[MAXPGPATH * 2];
		struct stat st;
		TimeLineID tli;
		uint64 segno;
		const char *suffix = strstr(de->d_name, ".partial" UNSYNCED_SUFFIX);
		bool replaced;

		if (suffix == NULL)
			continue;
		snprintf(path, sizeof(path), "%s/%s", w->dir, de->d_name);
		snprintf(finished, sizeof(finished), "%s/%.*s", w->dir, (int) (suffix - de->d_name), de->d_name);
		snprintf(partial, sizeof(partial), "%s.partial", finished);
		replaced = stat(finished, &st) == 0 ||
				   (wa_parse_wal_name(strrchr(partial, '/') + 1, w->segment_size, &tli, &segno) == WA_FILE_PARTIAL &&
					tli < w->tli && holds_all(w, partial, path));
		if (!replaced || WA_FAULT(UNSYNCED_REMOVE, unlink(path)) != 0)
			w->has_unsynced = true;
	}
	FreeDir(dir);
}

void
wa_writer_open(WaSegmentWriter *w, const char *dirname, uint32 segment_size,
			   WaCause *cause, WaSegmentFinished finished, void *arg)
{
	DIR *dir;
	struct dirent *de;

	/* but for the suspects, which are the last thing in it */
	memset(w, 0, offsetof(WaSegmentWriter, suspects));
	w->cause = cause;
	w->finished = finished;
	w->arg = arg;
	w->current = -1;
	w->parent_fd = -1;
	w->segment_size = segment_size;
	if (strlcpy(w->dir, dirname, MAXPGPATH) > MAXPGPATH - WA_WAL_NAME_LEN)
		elog(ERROR, "path \"%s\" is too long", dirname);
	w->dirfd = -1;
	w->buffer = palloc(COMPARE_SIZE);

	/* what they hold must not be taken for durable */
	while (w->suspects > 0)
	{
		if (!set_aside(w->suspect[w->suspects - 1]))
			file_error(w, "set aside file", w->suspect[w->suspects - 1]);
		w->suspects--;
	}
	dir = AllocateDir(dirname);
	while ((de = ReadDir(dir, dirname)) != NULL)
	{
		char path[MAXPGPATH * 2];

		if (strncmp(de->d_name, PREPARED_PREFIX, strlen(PREPARED_PREFIX)) == 0)
		{
			snprintf(path, sizeof(path), "%s/%s", dirname, de->d_name);
			if (WA_FAULT(LEFTOVER_REMOVE, unlink(path)) != 0 && errno != ENOENT)
				file_error(w, "remove file", path);
		}
		else if (strstr(de->d_name, UNSYNCED_SUFFIX) != NULL)
			w->has_unsynced = true;
	}
	FreeDir(dir);

	w->flusher = wa_flusher_create(&w->wakeup_fd);
	w->dirfd = open(dirname, O_RDONLY | O_CLOEXEC);
	if (w->dirfd < 0)
	{
		int error = errno;

		wa_writer_close(w);
		errno = error;
		file_error(w, "open directory", dirname);
	}
	/* a name that was there at start may not be durable yet */
	if (WA_FAULT(START_DIRECTORY_FSYNC, fsync(w->dirfd)) != 0)
	{
		int error = errno;

		wa_writer_close(w);
		errno = error;
		*w->cause = WA_CAUSE_SYNC_FAILED;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not fsync directory \"%s\": %m", dirname)));
	}
}

static void
close_segment(WaOpenSegment *segment)
{
	if (!segment->in_use)
		return;
	if (segment->fd >= 0)
		close(segment->fd);
	for (int i = 0; i < WA_MAX_LANES; i++)
	{
		if (segment->lane_fd[i] >= 0)
			close(segment->lane_fd[i]);
	}
	segment->in_use = false;
}

/*
 * Open the segment of 'segno' on the current timeline for writing: the one
 * that is there, the prepared file, or a new one.
 */
static void
open_segment(WaSegmentWriter *w, uint64 segno, bool live)
{
	WaOpenSegment *segment = NULL;
	struct stat st;

	for (int i = 0; i < WA_OPEN_SEGMENTS; i++)
	{
		if (!w->segment[i].in_use)
		{
			segment = &w->segment[i];
			w->current = i;
			break;
		}
	}
	Assert(segment != NULL);
	memset(segment, 0, sizeof(*segment));
	segment->tli = w->tli;
	segment->segno = segno;
	segment->fd = -1;
	for (int i = 0; i < WA_MAX_LANES; i++)
		segment->lane_fd[i] = -1;
	segment->in_use = true;
	segment->opened = time(NULL);

	/* what the archive has already */
	segment_path(w, segment->path, w->tli, segno, false);
	segment->fd = open(segment->path, O_RDWR | O_CLOEXEC);
	if (segment->fd >= 0)
		segment->final_name = true;
	else if (errno != ENOENT)
		file_error(w, "open file", segment->path);
	else
	{
		segment_path(w, segment->path, w->tli, segno, true);
		segment->fd = open(segment->path, O_RDWR | O_CLOEXEC);
		if (segment->fd < 0 && errno != ENOENT)
			file_error(w, "open file", segment->path);
	}
	if (segment->fd >= 0)
	{
		if (fstat(segment->fd, &st) != 0)
			file_error(w, "stat file", segment->path);
		if (st.st_size > w->segment_size ||
			(segment->final_name && st.st_size != w->segment_size))
			writer_error(w, WA_CAUSE_CONFLICT,
						 errcode(ERRCODE_DATA_CORRUPTED),
						 errmsg("file \"%s\" has %lld bytes, a segment of this archive has %u",
								segment->path, (long long) st.st_size, w->segment_size),
						 errhint("Move the file away: it is received again if the server still has the WAL."));
		/* a half-made file, of a full disk for example, gets its size now */
		if (st.st_size < w->segment_size && WA_FAULT(REOPEN_EXTEND, ftruncate(segment->fd, w->segment_size)) != 0)
			file_error(w, "extend file", segment->path);
		segment->known_end = wa_nonzero_end(segment->path, w->segment_size);
		/* it may have been written by a process that never synced it */
		if (WA_FAULT(REOPEN_FSYNC, fsync(segment->fd)) != 0)
		{
			*w->cause = WA_CAUSE_SYNC_FAILED;
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not fsync file \"%s\": %m", segment->path)));
		}
		return;
	}

	/* the file that a thread has made ready; still at it: do without */
	if (w->preparing)
	{
		int error;
		int state = wa_flusher_prepared(w->flusher, &error);

		if (state != 0)
		{
			wa_flusher_prepare_done(w->flusher);
			w->preparing = false;
		}
		if (state > 0)
		{
			prepared_path(w, segment->path, w->prepared_number);
			segment->fd = open(segment->path, O_RDWR | O_CLOEXEC);
			if (segment->fd < 0)
				file_error(w, "open file", segment->path);
		}
	}
	if (segment->fd < 0)
	{
		prepared_path(w, segment->path, ++w->prepare_number);
		segment->fd = wa_reserve_file(segment->path, w->segment_size, pg_file_create_mode);
		if (segment->fd < 0)
			file_error(w, "create file", segment->path);
		if (live && w->first && w->segment_size <= MAX_ZERO_FIRST)
		{
			memset(w->buffer, 0, COMPARE_SIZE);
			for (uint32 offset = 0; offset < w->segment_size; offset += COMPARE_SIZE)
				write_bytes(w, segment, offset, w->buffer, COMPARE_SIZE);
		}
	}
	segment->prepared_name = true;
}

/* Have a thread make the next file ready, unless one is. */
static void
prepare_next(WaSegmentWriter *w, bool zero)
{
	char path[MAXPGPATH];

	if (w->preparing)
		return;
	w->prepared_number = ++w->prepare_number;
	prepared_path(w, path, w->prepared_number);
	wa_flusher_prepare(w->flusher, path, w->segment_size, zero, pg_file_create_mode);
	w->preparing = true;
}

void
wa_writer_begin(WaSegmentWriter *w, TimeLineID tli, XLogRecPtr start,
				TimeLineID parent, XLogRecPtr fork)
{
	Assert(wa_segment_offset(start, w->segment_size) == 0);
	for (int i = 0; i < WA_OPEN_SEGMENTS; i++)
		close_segment(&w->segment[i]);
	w->current = -1;
	if (w->parent_fd >= 0)
		close(w->parent_fd);
	w->parent_fd = -1;
	w->parent_end = 0;
	w->finishing = false;
	w->first = true;
	w->tli = tli;
	w->written = w->durable = w->dispatched = w->kicked = start;
	if (w->has_unsynced)
		remove_replaced(w);
	if (w->synced_tli != tli || start < w->synced_from || start > w->synced_to)
	{
		w->synced_tli = tli;
		w->synced_from = w->synced_to = start;
	}

	if (parent != 0 && fork > start)
	{
		char path[MAXPGPATH];
		uint64 segno = wa_segment_of(start, w->segment_size);

		/* the parent's copy, if the archive has it */
		segment_path(w, path, parent, segno, false);
		w->parent_fd = open(path, O_RDONLY | O_CLOEXEC);
		if (w->parent_fd < 0)
		{
			segment_path(w, path, parent, segno, true);
			w->parent_fd = open(path, O_RDONLY | O_CLOEXEC);
		}
		if (w->parent_fd < 0)
		{
			if (errno != ENOENT)
				file_error(w, "open file", path);
			return;
		}
		w->parent_end = Min(fork, start + wa_nonzero_end(path, w->segment_size));
	}
}

/* ---- writing ---- */

/* Raise the error of two different bytes at one place. */
pg_noreturn static void
conflict(WaSegmentWriter *w, XLogRecPtr lsn, const char *path)
{
	*w->cause = WA_CAUSE_CONFLICT;
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("WAL of timeline %u at %X/%X differs from what the archive holds",
					w->tli, LSN_FORMAT_ARGS(lsn)),
			 errdetail("The archive holds it in file \"%s\"; nothing was overwritten.",
					   path)));
	pg_unreachable();
}

static void
read_exactly(WaSegmentWriter *w, int fd, const char *path, size_t len, off_t offset)
{
	size_t done = 0;

	while (done < len)
	{
		ssize_t n = pread(fd, w->buffer + done, len - done, offset + done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			if (n == 0)
				errno = EIO;
			file_error(w, "read file", path);
		}
		done += n;
	}
}

/*
 * Compare bytes with those that are there.  Returns true if they have to be
 * written because zeroes stand in their place.
 */
static bool
compare_existing(WaSegmentWriter *w, WaOpenSegment *segment, uint32 offset,
				 const char *data, uint32 len)
{
	read_exactly(w, segment->fd, segment->path, len, offset);
	if (memcmp(w->buffer, data, len) == 0)
		return false;
	for (uint32 i = 0; i < len; i++)
	{
		if (w->buffer[i] != data[i] && w->buffer[i] != 0)
			conflict(w, wa_segment_start(segment->segno, w->segment_size) + offset + i,
					 segment->path);
	}
	return true;
}

/* Fill in the renames and syncs that go with the current segment's flush. */
static bool
fill_finish_job(WaSegmentWriter *w, WaOpenSegment *segment, bool full,
				WaFinishJob *job)
{
	memset(job, 0, sizeof(*job));
	job->dirfd = w->dirfd;
	job->drop_cache = full && time(NULL) - segment->opened < KEEP_CACHED_SEC;
	if (segment->prepared_name)
	{
		strlcpy(job->from, segment->path, MAXPGPATH);
		segment_path(w, job->to, segment->tli, segment->segno, true);
		if (full)
		{
			strlcpy(job->next_from, job->to, MAXPGPATH);
			segment_path(w, job->next_to, segment->tli, segment->segno, false);
		}
		return true;
	}
	if (full && !segment->final_name)
	{
		strlcpy(job->from, segment->path, MAXPGPATH);
		segment_path(w, job->to, segment->tli, segment->segno, false);
		return true;
	}
	return full;
}

/* The descriptor with which the next job syncs: each lane needs its own. */
static int
lane_fd(WaSegmentWriter *w, WaOpenSegment *segment)
{
	int lane = wa_flusher_next_lane(w->flusher);

	if (segment->lane_fd[lane] < 0)
	{
		segment->lane_fd[lane] = open(segment->path, O_RDWR | O_CLOEXEC);
		if (segment->lane_fd[lane] < 0)
			file_error(w, "open file", segment->path);
	}
	return segment->lane_fd[lane];
}

/* Account for a flush that returned; raises an error if it failed. */
static void
take_result(WaSegmentWriter *w, const WaFlushResult *result)
{
	WaOpenSegment *segment = &w->segment[result->tag];

	if (result->error != 0)
	{
		*w->cause = result->sync_failed ? WA_CAUSE_SYNC_FAILED : cause_of_errno(result->error);
		errno = result->error;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg(result->sync_failed ? "could not sync file \"%s\": %m" : "could not rename file \"%s\": %m", segment->path)));
	}
	w->durable = Max(w->durable, result->lsn);
	w->synced_to = Max(w->synced_to, result->lsn);
	w->flushes++;
	w->flush_usec += result->usec;
	/* renames and directory syncs say nothing of a flush */
	if (!result->finished)
		w->average_usec = w->average_usec == 0 ? result->usec : (uint32) ((w->average_usec * UINT64CONST(15) + result->usec) / 16);
	if (result->finished)
	{
		bool full = wa_segment_offset(result->lsn, w->segment_size) == 0 &&
					wa_segment_of(result->lsn, w->segment_size) == segment->segno + 1;

		w->finishing = false;
		if (segment->prepared_name)
		{
			segment->prepared_name = false;
			segment_path(w, segment->path, segment->tli, segment->segno, true);
		}
		if (full)
		{
			TimeLineID tli = segment->tli;
			uint64 segno = segment->segno;
			bool was_final = segment->final_name;

			close_segment(segment);
			if (w->current == (int) result->tag)
				w->current = -1;
			if (w->has_unsynced)
			{
				char path[MAXPGPATH];

				/* its replacement is durable */
				segment_path(w, path, tli, segno, true);
				strlcat(path, UNSYNCED_SUFFIX, sizeof(path));
				(void) WA_FAULT(UNSYNCED_REMOVE, unlink(path));
			}
			w->finished(w->arg, tli, segno, was_final);
		}
	}
}

static bool
current_is_full(const WaSegmentWriter *w)
{
	return w->current >= 0 &&
		   w->written == wa_segment_start(w->segment[w->current].segno + 1, w->segment_size);
}

/* Block until the oldest flush is done, and take its result. */
static void
wait_for_flush(WaSegmentWriter *w)
{
	WaFlushResult result;

	while (!wa_flusher_retire(w->flusher, &result))
	{
		struct pollfd pfd = {.fd = w->wakeup_fd, .events = POLLIN};

		(void) poll(&pfd, 1, 1000);
		wa_flusher_clear_wakeup(w->flusher);
	}
	take_result(w, &result);
}

/* Start the flush of all that was written into the current segment. */
static void
start_flush(WaSegmentWriter *w)
{
	WaOpenSegment *segment = &w->segment[w->current];
	WaFinishJob job;
	bool has_job;

	has_job = fill_finish_job(w, segment, current_is_full(w), &job);
	wa_flusher_start(w->flusher, lane_fd(w, segment), w->written, w->current,
					 has_job ? &job : NULL);
	w->dispatched = w->written;
	w->finishing = has_job;
}

void
wa_writer_write(WaSegmentWriter *w, const char *data, size_t len, uint64 lag)
{
	while (len > 0)
	{
		WaOpenSegment *segment;
		uint32 offset;
		uint32 n;

		if (current_is_full(w))
		{
			/* the next byte is the next segment's: finish this one aside */
			if (w->dispatched < w->written)
			{
				while (w->finishing ||
					   wa_flusher_in_flight(w->flusher) == WA_MAX_LANES)
					wait_for_flush(w);
				if (w->current >= 0)
					start_flush(w);
			}
			w->current = -1;
		}
		if (w->current < 0)
		{
			int open_segments = 0;

			for (int i = 0; i < WA_OPEN_SEGMENTS; i++)
				open_segments += w->segment[i].in_use ? 1 : 0;
			while (open_segments == WA_OPEN_SEGMENTS)
			{
				wait_for_flush(w);
				open_segments = 0;
				for (int i = 0; i < WA_OPEN_SEGMENTS; i++)
					open_segments += w->segment[i].in_use ? 1 : 0;
			}
			open_segment(w, wa_segment_of(w->written, w->segment_size),
						 lag < w->segment_size);
			w->first = false;
			prepare_next(w, lag < w->segment_size);
		}

		segment = &w->segment[w->current];
		offset = wa_segment_offset(w->written, w->segment_size);
		n = (uint32) Min(len, w->segment_size - offset);
		if (w->written < w->parent_end)
		{
			n = Min(n, COMPARE_SIZE);
			n = (uint32) Min(n, w->parent_end - w->written);
			read_exactly(w, w->parent_fd, "the parent timeline's segment", n, offset);
			if (memcmp(w->buffer, data, n) != 0)
				conflict(w, w->written, "the parent timeline's segment");
		}
		if (offset < segment->known_end)
		{
			n = Min(n, COMPARE_SIZE);
			n = Min(n, segment->known_end - offset);
			if (w->written < w->synced_to)
				n = (uint32) Min(n, w->synced_to - w->written);
			/*
			 * What another process has written is written again even if it is
			 * the same: that process may have been killed after a sync failed
			 * and before the file was set aside, and a kernel that has told of a
			 * failure takes those pages for clean.
			 */
			if (compare_existing(w, segment, offset, data, n) ||
				(!segment->final_name && w->written >= w->synced_to))
				write_bytes(w, segment, offset, data, n);
		}
		else
			write_bytes(w, segment, offset, data, n);
		w->written += n;
		data += n;
		len -= n;

#ifdef SYNC_FILE_RANGE_WRITE
		/* keep the disk busy, so that the flush finds little to do */
		if (w->written - w->kicked >= KICK_SIZE)
		{
			uint32 from = w->kicked < wa_segment_start(segment->segno, w->segment_size) ? 0 : wa_segment_offset(w->kicked, w->segment_size);

			(void) sync_file_range(segment->fd, from, offset + n - from,
								   SYNC_FILE_RANGE_WRITE);
			w->kicked = w->written;
		}
#endif
	}
}

bool
wa_writer_needs_flush(const WaSegmentWriter *w)
{
	return w->written > w->dispatched;
}

int
wa_writer_lanes(const WaSegmentWriter *w)
{
	if (w->average_usec <= INLINE_USEC)
		return 1;
	return Min(WA_MAX_LANES, 1 + (int) (w->average_usec / INLINE_USEC));
}

bool
wa_writer_flush(WaSegmentWriter *w, bool inline_ok)
{
	if (!wa_writer_needs_flush(w) || w->current < 0)
		return false;
	if (inline_ok && wa_flusher_in_flight(w->flusher) == 0 &&
		w->average_usec <= INLINE_USEC)
	{
		WaOpenSegment *segment = &w->segment[w->current];
		WaFinishJob job;
		WaFlushResult result;
		bool has_job = fill_finish_job(w, segment, current_is_full(w), &job);

		w->dispatched = w->written;
		wa_flusher_run(segment->fd, w->written, w->current, has_job ? &job : NULL, &result);
		take_result(w, &result);
		return true;
	}
	/* names change under a finish job: what comes after has to wait for it */
	if (!w->finishing && wa_flusher_in_flight(w->flusher) < wa_writer_lanes(w))
		start_flush(w);
	return false;
}

bool
wa_writer_poll(WaSegmentWriter *w)
{
	XLogRecPtr before = w->durable;
	WaFlushResult result;

	if (wa_flusher_in_flight(w->flusher) == 0)
		return false;
	wa_flusher_clear_wakeup(w->flusher);
	while (wa_flusher_retire(w->flusher, &result))
		take_result(w, &result);
	return w->durable > before;
}

void
wa_writer_finish(WaSegmentWriter *w)
{
	while (wa_flusher_in_flight(w->flusher) > 0)
		wait_for_flush(w);
	while (wa_writer_needs_flush(w) && w->current >= 0)
	{
		start_flush(w);
		wait_for_flush(w);
	}
}

bool
wa_writer_abandon(WaSegmentWriter *w, bool sync_failed)
{
	WaFlushResult result;

	while (w->flusher != NULL && wa_flusher_in_flight(w->flusher) > 0)
	{
		struct pollfd pfd = {.fd = w->wakeup_fd, .events = POLLIN};

		(void) poll(&pfd, 1, 1000);
		wa_flusher_clear_wakeup(w->flusher);
		/* that of a job which nobody waits for any more counts as well */
		while (wa_flusher_retire(w->flusher, &result))
			sync_failed = sync_failed || (result.error != 0 && result.sync_failed);
	}
	if (!sync_failed)
		return false;
	w->synced_tli = 0;
	for (int i = 0; i < WA_OPEN_SEGMENTS; i++)
	{
		WaOpenSegment *segment = &w->segment[i];

		if (segment->in_use && !segment->final_name && !segment->prepared_name &&
			!set_aside(segment->path) && w->suspects < WA_OPEN_SEGMENTS)
			strlcpy(w->suspect[w->suspects++], segment->path, MAXPGPATH);
	}
	/* if that fails: nothing is written before it has been done at the next start */
	if (w->dirfd >= 0)
		(void) WA_FAULT(SET_ASIDE_FSYNC, fsync(w->dirfd));
	return true;
}

void
wa_writer_close(WaSegmentWriter *w)
{
	for (int i = 0; i < WA_OPEN_SEGMENTS; i++)
		close_segment(&w->segment[i]);
	wa_flusher_destroy(w->flusher);
	w->flusher = NULL;
	if (w->parent_fd >= 0)
		close(w->parent_fd);
	w->parent_fd = -1;
	if (w->dirfd >= 0)
		close(w->dirfd);
	w->dirfd = -1;
	if (w->buffer)
		pfree(w->buffer);
	w->buffer = NULL;
}
