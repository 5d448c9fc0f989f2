/*-------------------------------------------------------------------------
 *
 * unit.h
 *	  TAP output of the unit tests, and memory for the WAL reader.
 *
 * For one source file per program: everything here is static.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_UNIT_H
#define WA_UNIT_H

static int tests = 0;
static int failures = 0;

static void
report(bool ok, const char *what, int line)
{
	tests++;
	if (!ok)
		failures++;
	printf("%s %d - ", ok ? "ok" : "not ok", tests);
	/* a test's name is one line */
	for (; *what; what++)
		putchar((unsigned char) *what < ' ' ? ' ' : *what);
	putchar('\n');
	if (!ok)
		printf("# failed at line %d\n", line);
}

#define CHECK(condition, what) report((condition), (what), __LINE__)

#define MB (1024 * 1024)

/* The WAL reader's memory; 'largest_memory' is the most that it ever had. */
static size_t largest_memory = 0;

static void *resize_memory(void *memory, size_t size) pg_attribute_unused();

static void *
resize_memory(void *memory, size_t size)
{
	if (size > largest_memory)
		largest_memory = size;
	if (size == 0)
	{
		free(memory);
		return NULL;
	}
	return realloc(memory, size);
}

#endif /* WA_UNIT_H */
