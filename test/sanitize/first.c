/*
 * Preloaded with AddressSanitizer into programs that were built without it: it is
 * initialized before all other libraries (-z initfirst), and has ASan be ready. Otherwise
 * that happens at the first malloc, and some library's initialization calls malloc while
 * the C library holds a lock that ASan's needs, for the text of an error: for ever.
 */
#include <stdlib.h>

static void *volatile block;

__attribute__((constructor)) static void
first(void)
{
	block = malloc(1);
	free(block);
}
