/*-------------------------------------------------------------------------
 *
 * flusher.c
 *	  Threads that make system calls for a receiver.  See flusher.h.
 *
 * A flusher belongs to one receiver process.  Its threads end with it; a crash
 * leaves at most a prepared file, which the next receiver removes.
 *
 * What the threads may touch: the members of WaFlusher under its mutex, libc's
 * system call wrappers, nothing else.  No palloc, no ereport, no latch.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include "../state/fault_point.h"
#include "flusher.h"

/* Zeroes are written in pieces of this size, each pushed out at once. */
#define ZERO_CHUNK (256 * 1024)

#define THREAD_STACK_SIZE (128 * 1024)

typedef enum JobState
{
	JOB_FREE,
	JOB_WAITING, /* for a thread */
	JOB_RUNNING,
	JOB_DONE
} JobState;

typedef struct Job
{
	JobState state;
	int fd;
	bool has_finish;
	WaFinishJob finish;
	WaFlushResult result;
} Job;

typedef enum PrepareState
{
	PREPARE_NONE,
	PREPARE_WANTED,
	PREPARE_RUNNING,
	PREPARE_READY,
	PREPARE_FAILED
} PrepareState;

struct WaFlusher
{
	pthread_mutex_t mutex;
	pthread_cond_t work;         /* for the lanes */
	pthread_cond_t prepare_work; /* for the preparing thread */
	bool stop;

	Job job[WA_MAX_LANES]; /* a ring */
	int first;             /* oldest job in flight */
	int in_flight;
	int threads;
	pthread_t thread[WA_MAX_LANES];

	PrepareState prepare;
	bool prepare_thread_started;
	pthread_t prepare_thread;
	char prepare_path[MAXPGPATH];
	uint32 prepare_size;
	bool prepare_zero;
	mode_t prepare_mode;
	int prepare_error;

	int wakeup[2]; /* a pipe, both ends non-blocking */
};

static uint64
now_usec(void)
{
	struct timeval tv;

	gettimeofday(&tv, NULL);
	return (uint64) tv.tv_sec * 1000000 + tv.tv_usec;
}

static int
sync_data(int fd)
{
	/* macOS has it without declaring it, and it does not do what it should */
#ifndef __APPLE__
	return WA_FAULT(SEGMENT_FDATASYNC, fdatasync(fd));
#else
	return WA_FAULT(SEGMENT_FDATASYNC, fsync(fd));
#endif
}

/* Make the system calls of a job; runs in threads and in the receiver. */
static void
run_job(int fd, const WaFinishJob *finish, WaFlushResult *result)
{
	uint64 start = now_usec();

	result->error = 0;
	result->sync_failed = false;
	result->finished = finish != NULL;
	if (sync_data(fd) != 0)
	{
		result->error = errno ? errno : EIO;
		result->sync_failed = true;
	}
	else if (finish != NULL)
	{
		if ((finish->from[0] != '\0' && WA_FAULT(SEGMENT_RENAME, rename(finish->from, finish->to)) != 0) ||
			(finish->next_from[0] != '\0' &&
			 WA_FAULT(SEGMENT_RENAME_TWICE, rename(finish->next_from, finish->next_to)) != 0))
			result->error = errno ? errno : EIO;
		else if (finish->dirfd >= 0 && WA_FAULT(DIRECTORY_FSYNC, fsync(finish->dirfd)) != 0)
		{
			result->error = errno ? errno : EIO;
			result->sync_failed = true;
		}
#ifdef POSIX_FADV_DONTNEED

		/*
		 * The next segments can have this one's pages.  In a stream of
		 * gigabytes that is much cheaper than to find ever new ones, and
		 * nothing else is pushed out of memory.
		 */
		else if (finish->drop_cache)
			(void) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
#endif
	}
	result->usec = (uint32) Min(now_usec() - start, PG_UINT32_MAX);
}

static void
wake_receiver(WaFlusher *flusher)
{
	char byte = 0;

	/* a full pipe is as good as one more byte */
	(void) !write(flusher->wakeup[1], &byte, 1);
}

static void *
lane_main(void *arg)
{
	WaFlusher *flusher = arg;

	pthread_mutex_lock(&flusher->mutex);
	for (;;)
	{
		Job *job = NULL;

		for (int i = 0; i < flusher->in_flight; i++)
		{
			Job *candidate = &flusher->job[(flusher->first + i) % WA_MAX_LANES];

			if (candidate->state == JOB_WAITING)
			{
				job = candidate;
				break;
			}
		}
		if (job == NULL)
		{
			if (flusher->stop)
				break;
			pthread_cond_wait(&flusher->work, &flusher->mutex);
			continue;
		}
		job->state = JOB_RUNNING;
		pthread_mutex_unlock(&flusher->mutex);
		run_job(job->fd, job->has_finish ? &job->finish : NULL, &job->result);
		pthread_mutex_lock(&flusher->mutex);
		job->state = JOB_DONE;
		wake_receiver(flusher);
	}
	pthread_mutex_unlock(&flusher->mutex);
	return NULL;
}

int
wa_reserve_file(const char *path, uint32 size, mode_t mode)
{
	int fd = WA_FAULT(RESERVE_CREATE, open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode));
	int rc;

	if (fd < 0)
		return -1;
#ifdef __linux__
	/* not posix_fallocate, which writes every block where this is missing */
	do
	{
		rc = WA_FAULT(RESERVE_ALLOCATE, fallocate(fd, 0, 0, size));
	} while (rc != 0 && errno == EINTR);
	if (rc != 0 && errno == EOPNOTSUPP)
		rc = WA_FAULT(RESERVE_TRUNCATE, ftruncate(fd, size));
#else
	rc = WA_FAULT(RESERVE_TRUNCATE, ftruncate(fd, size));
#endif
	if (rc != 0)
	{
		int save_errno = errno;

		close(fd);
		(void) WA_FAULT(RESERVE_REMOVE, unlink(path));
		errno = save_errno;
		return -1;
	}
	return fd;
}

/*
 * Returns errno, 0 for success; leaves no file behind a failure.  Gives up when
 * '*stop' becomes true.
 */
static int
prepare_file(const char *path, uint32 size, bool zero, mode_t mode,
			 const volatile bool *stop)
{
	static const char zeroes[ZERO_CHUNK];
	int fd;
	int error = 0;

	if (!zero)
	{
		fd = wa_reserve_file(path, size, mode);
		if (fd < 0)
			return errno ? errno : EIO;
		close(fd);
		return 0;
	}
	fd = WA_FAULT(PREPARE_CREATE, open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode));
	if (fd < 0)
		return errno ? errno : EIO;
	for (uint32 done = 0; done < size && error == 0;)
	{
		ssize_t n;

		if (*stop)
		{
			error = ECANCELED;
			break;
		}
		errno = 0;
		n = WA_FAULT(PREPARE_WRITE, pwrite(fd, zeroes, WA_SHORT(Min(ZERO_CHUNK, size - done)), done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			error = errno ? errno : ENOSPC;
			break;
		}
#ifdef SYNC_FILE_RANGE_WRITE
		/*
		 * Out in small pieces, and wait for each: a flush of the open segment
		 * must not queue behind a whole segment of zeroes.
		 */
		(void) sync_file_range(fd, done, n, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
#endif
		done += (uint32) n;
	}
	/* the size and the extents, once, so that later flushes change neither */
	if (error == 0 && WA_FAULT(PREPARE_FSYNC, fsync(fd)) != 0)
		error = errno ? errno : EIO;
	close(fd);
	if (error != 0)
		(void) WA_FAULT(PREPARE_REMOVE, unlink(path));
	return error;
}

static void *
prepare_main(void *arg)
{
	WaFlusher *flusher = arg;

	pthread_mutex_lock(&flusher->mutex);
	for (;;)
	{
		int error;

		if (flusher->prepare != PREPARE_WANTED)
		{
			if (flusher->stop)
				break;
			pthread_cond_wait(&flusher->prepare_work, &flusher->mutex);
			continue;
		}
		flusher->prepare = PREPARE_RUNNING;
		pthread_mutex_unlock(&flusher->mutex);
		error = prepare_file(flusher->prepare_path, flusher->prepare_size,
							 flusher->prepare_zero, flusher->prepare_mode,
							 &flusher->stop);
		pthread_mutex_lock(&flusher->mutex);
		flusher->prepare_error = error;
		flusher->prepare = error == 0 ? PREPARE_READY : PREPARE_FAILED;
	}
	pthread_mutex_unlock(&flusher->mutex);
	return NULL;
}

/* Start a thread with every signal blocked. */
static void
start_thread(pthread_t *thread, void *(*main)(void *), WaFlusher *flusher)
{
	pthread_attr_t attr;
	sigset_t all;
	sigset_t old;
	int rc;

	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK_SIZE);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(thread, &attr, main, flusher);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (rc != 0)
	{
		errno = rc;
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not create a flush thread: %m")));
	}
}

WaFlusher *
wa_flusher_create(int *wakeup_fd)
{
	WaFlusher *flusher = malloc(sizeof(WaFlusher));

	if (flusher == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	memset(flusher, 0, sizeof(*flusher));
	if (pipe(flusher->wakeup) != 0)
	{
		free(flusher);
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create a pipe: %m")));
	}
	for (int i = 0; i < 2; i++)
	{
		(void) fcntl(flusher->wakeup[i], F_SETFL, O_NONBLOCK);
		(void) fcntl(flusher->wakeup[i], F_SETFD, FD_CLOEXEC);
	}
	pthread_mutex_init(&flusher->mutex, NULL);
	pthread_cond_init(&flusher->work, NULL);
	pthread_cond_init(&flusher->prepare_work, NULL);
	*wakeup_fd = flusher->wakeup[0];
	return flusher;
}

void
wa_flusher_destroy(WaFlusher *flusher)
{
	if (flusher == NULL)
		return;
	pthread_mutex_lock(&flusher->mutex);
	flusher->stop = true;
	pthread_cond_broadcast(&flusher->work);
	pthread_cond_broadcast(&flusher->prepare_work);
	pthread_mutex_unlock(&flusher->mutex);
	for (int i = 0; i < flusher->threads; i++)
		pthread_join(flusher->thread[i], NULL);
	if (flusher->prepare_thread_started)
		pthread_join(flusher->prepare_thread, NULL);
	close(flusher->wakeup[0]);
	close(flusher->wakeup[1]);
	pthread_mutex_destroy(&flusher->mutex);
	pthread_cond_destroy(&flusher->work);
	pthread_cond_destroy(&flusher->prepare_work);
	free(flusher);
}

int
wa_flusher_in_flight(const WaFlusher *flusher)
{
	/* only the receiver changes it */
	return flusher->in_flight;
}

int
wa_flusher_next_lane(const WaFlusher *flusher)
{
	return (flusher->first + flusher->in_flight) % WA_MAX_LANES;
}

void
wa_flusher_start(WaFlusher *flusher, int fd, XLogRecPtr lsn, uint64 tag,
				 const WaFinishJob *finish)
{
	Job *job;

	Assert(flusher->in_flight < WA_MAX_LANES);
	/* one thread for each job that can be under way, made as they are needed */
	if (flusher->threads <= flusher->in_flight)
	{
		start_thread(&flusher->thread[flusher->threads], lane_main, flusher);
		flusher->threads++;
	}

	pthread_mutex_lock(&flusher->mutex);
	job = &flusher->job[wa_flusher_next_lane(flusher)];
	job->fd = fd;
	job->has_finish = finish != NULL;
	if (finish != NULL)
		job->finish = *finish;
	job->result.lsn = lsn;
	job->result.tag = tag;
	job->state = JOB_WAITING;
	flusher->in_flight++;
	pthread_cond_signal(&flusher->work);
	pthread_mutex_unlock(&flusher->mutex);
}

void
wa_flusher_run(int fd, XLogRecPtr lsn, uint64 tag, const WaFinishJob *finish,
			   WaFlushResult *result)
{
	result->lsn = lsn;
	result->tag = tag;
	run_job(fd, finish, result);
}

bool
wa_flusher_retire(WaFlusher *flusher, WaFlushResult *result)
{
	Job *job;
	bool done;

	if (flusher->in_flight == 0)
		return false;
	pthread_mutex_lock(&flusher->mutex);
	job = &flusher->job[flusher->first];
	done = job->state == JOB_DONE;
	if (done)
	{
		*result = job->result;
		job->state = JOB_FREE;
		flusher->first = (flusher->first + 1) % WA_MAX_LANES;
		flusher->in_flight--;
	}
	pthread_mutex_unlock(&flusher->mutex);
	return done;
}

void
wa_flusher_clear_wakeup(WaFlusher *flusher)
{
	char buf[64];

	while (read(flusher->wakeup[0], buf, sizeof(buf)) == sizeof(buf))
		;
}

void
wa_flusher_prepare(WaFlusher *flusher, const char *path, uint32 size,
				   bool zero, mode_t mode)
{
	if (!flusher->prepare_thread_started)
	{
		start_thread(&flusher->prepare_thread, prepare_main, flusher);
		flusher->prepare_thread_started = true;
	}
	pthread_mutex_lock(&flusher->mutex);
	Assert(flusher->prepare == PREPARE_NONE);
	strlcpy(flusher->prepare_path, path, MAXPGPATH);
	flusher->prepare_size = size;
	flusher->prepare_zero = zero;
	flusher->prepare_mode = mode;
	flusher->prepare = PREPARE_WANTED;
	pthread_cond_signal(&flusher->prepare_work);
	pthread_mutex_unlock(&flusher->mutex);
}

int
wa_flusher_prepared(WaFlusher *flusher, int *error)
{
	int state;

	pthread_mutex_lock(&flusher->mutex);
	*error = flusher->prepare_error;
	switch (flusher->prepare)
	{
		case PREPARE_READY:
			state = 1;
			break;
		case PREPARE_FAILED:
			state = -1;
			break;
		default:
			state = 0;
			break;
	}
	pthread_mutex_unlock(&flusher->mutex);
	return state;
}

void
wa_flusher_prepare_done(WaFlusher *flusher)
{
	pthread_mutex_lock(&flusher->mutex);
	Assert(flusher->prepare == PREPARE_READY || flusher->prepare == PREPARE_FAILED);
	flusher->prepare = PREPARE_NONE;
	pthread_mutex_unlock(&flusher->mutex);
}
