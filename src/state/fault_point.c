/*-------------------------------------------------------------------------
 *
 * fault_point.c
 *	  What the fault points of a test build do.  Empty in an ordinary one.
 *
 * The setting walarchive.fault_file, which only such a build has, names a file
 * that the postmaster makes, unless it is there, and maps: an entry of 64
 * bytes for each point, in this machine's byte order.  Whoever writes to the
 * file arms and disarms points while the servers run, whoever reads it sees
 * what was passed.  It is not in shared memory, because a process that dies
 * has the server start that anew; and counts must outlive it.
 *
 * Members of an entry, by offset:
 *
 *	 0	 name, zero-terminated; written by us at start
 *	 36	 action; 0: none, 1: fail, 2: write half only, 3: SIGKILL to the process
 *		 before the call, 4: the same after it, 5: rest before it.  To be
 *		 written last
 *	 40	 errno, for 1
 *	 44	 so many times the point is passed before it strikes; counted down
 *	 48	 so many times it strikes; counted down
 *	 52	 milliseconds, for 5
 *	 56	 times it was passed; counted up
 *	 60	 times it struck; counted up
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fault_point.h"

#ifdef WA_FAULT_POINTS

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "port/atomics.h"
#include "utils/guc.h"

typedef enum FaultAction
{
	ACTION_NONE,
	ACTION_FAIL,
	ACTION_SHORT,
	ACTION_KILL,
	ACTION_KILL_AFTER,
	ACTION_REST
} FaultAction;

typedef struct FaultEntry
{
	char name[36];
	volatile uint32 action;
	volatile int32 error;
	pg_atomic_uint32 skip;
	pg_atomic_uint32 count;
	volatile uint32 rest_ms;
	pg_atomic_uint32 passed;
	pg_atomic_uint32 struck;
} FaultEntry;

StaticAssertDecl(sizeof(FaultEntry) == 64, "the tests know the size of an entry");

#define WA_FAULT_POINT_STRING(symbol, name) name,
static const char *const point_names[] = {WA_FAULT_POINT_LIST(WA_FAULT_POINT_STRING)};

static char *fault_file = NULL;
static FaultEntry *entries = NULL; /* of the postmaster, inherited by all its children */

/* of the call that this thread is making */
static __thread bool cut_short;
static __thread bool kill_after;

void
wa_fault_init(void)
{
	Size size = sizeof(FaultEntry) * WA_FAULT_POINT_COUNT;
	int fd;

	DefineCustomStringVariable("walarchive.fault_file",
							   "File by which fault points are armed.",
							   "Only in libraries that are built for tests.",
							   &fault_file, "", PGC_POSTMASTER, 0, NULL, NULL, NULL);
	if (fault_file == NULL || fault_file[0] == '\0')
		return;
	fd = open(fault_file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, size) != 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", fault_file)));
	entries = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (entries == MAP_FAILED)
		ereport(FATAL,
				(errmsg("could not map file \"%s\": %m", fault_file)));
	close(fd);
	for (int i = 0; i < WA_FAULT_POINT_COUNT; i++)
		strlcpy(entries[i].name, point_names[i], sizeof(entries[i].name));
}

/* Count one down; false if there is none left. */
static bool
take_one(pg_atomic_uint32 *number)
{
	uint32 old = pg_atomic_read_u32(number);

	while (old > 0 && !pg_atomic_compare_exchange_u32(number, &old, old - 1))
		;
	return old > 0;
}

static void
kill_process(void)
{
	kill(getpid(), SIGKILL);
	/* it may take a moment, and not one more system call is to be made */
	for (;;)
		pause();
}

bool
wa_fault_before(WaFaultPoint point)
{
	FaultEntry *entry;

	cut_short = kill_after = false;
	if (entries == NULL)
		return false;
	entry = &entries[point];
	(void) pg_atomic_fetch_add_u32(&entry->passed, 1);
	if (entry->action == ACTION_NONE || take_one(&entry->skip) || !take_one(&entry->count))
		return false;
	(void) pg_atomic_fetch_add_u32(&entry->struck, 1);
	switch (entry->action)
	{
		case ACTION_FAIL:
			errno = entry->error;
			return true;
		case ACTION_SHORT:
			cut_short = true;
			break;
		case ACTION_KILL:
			kill_process();
			break;
		case ACTION_KILL_AFTER:
			kill_after = true;
			break;
		case ACTION_REST:
			/* a signal may end it early, which is as good */
			usleep(entry->rest_ms * 1000);
			break;
		default:
			break;
	}
	return false;
}

ssize_t
wa_fault_after(ssize_t result)
{
	if (kill_after)
		kill_process();
	cut_short = false;
	return result;
}

size_t
wa_fault_length(size_t len)
{
	return cut_short && len > 1 ? len / 2 : len;
}

void
wa_fault_raise(WaFaultPoint point)
{
	if (wa_fault_before(point))
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("fault point \"%s\": %m", point_names[point])));
}

#endif /* WA_FAULT_POINTS */
