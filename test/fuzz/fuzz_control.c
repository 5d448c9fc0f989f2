/*-------------------------------------------------------------------------
 *
 * fuzz_control.c
 *	  The pg_control in a hostile server's backup: read within its bounds.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "../../src/base/control_file.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	WaControlFile control;
	WaControlResult result = wa_read_control_file(data, size, &control);

	if ((result == WA_CONTROL_SHORT) != (size < WA_CONTROL_FILE_READ))
		abort();
	if (result == WA_CONTROL_OK && control.control_version != 1300 && control.control_version != 1700 &&
		control.control_version != 1800)
		abort();
	return 0;
}
