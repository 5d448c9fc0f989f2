/*-------------------------------------------------------------------------
 *
 * replay.c
 *	  Runs a fuzz target on the files that are named on the command line, so
 *	  that its corpus is a regression test where there is no libFuzzer.
 *
 *-------------------------------------------------------------------------
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
	{
		FILE *file = fopen(argv[i], "rb");
		long size;
		uint8_t *data;

		if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0)
		{
			perror(argv[i]);
			return 1;
		}
		rewind(file);
		data = malloc(size > 0 ? (size_t) size : 1);
		if (data == NULL || fread(data, 1, (size_t) size, file) != (size_t) size)
		{
			perror(argv[i]);
			return 1;
		}
		fclose(file);
		LLVMFuzzerTestOneInput(data, (size_t) size);
		free(data);
	}
	printf("# %s: %d inputs replayed\n", argv[0], argc - 1);
	return argc > 1 ? 0 : 1;
}
