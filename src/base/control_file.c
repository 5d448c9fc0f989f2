/*-------------------------------------------------------------------------
 *
 * control_file.c
 *	  Reads a pg_control of PostgreSQL 15 to 18; see control_file.h.
 *
 * The layout is that of 64-bit servers, in this machine's byte order.  From 15
 * (format 1300, 16 as well) by way of 17 (1700) to 18 (1800) nothing that is
 * read here has moved; 18 has four more bytes before the checksum.
 *
 *-------------------------------------------------------------------------
 */
#include "base.h"

#include "control_file.h"
#include "crc32c.h"
#include "wal_bytes.h"

#define AT_SYSTEM_IDENTIFIER 0
#define AT_CONTROL_VERSION 8
#define AT_CATALOG_VERSION 12
#define AT_STATE 16
#define AT_CHECKPOINT 32
#define AT_REDO 40
#define AT_CHECKPOINT_TLI 48
#define AT_MIN_RECOVERY_POINT 136
#define AT_MIN_RECOVERY_TLI 144
#define AT_BACKUP_START_POINT 152
#define AT_BACKUP_END_POINT 160
#define AT_MAX_ALIGN 204
#define AT_FLOAT_FORMAT 208
#define AT_SEGMENT_SIZE 228
#define AT_CHECKSUM_VERSION 252

/* Where the CRC is, which covers all before it; 0: a format that is not known. */
static size_t
crc_offset(uint32 control_version)
{
	switch (control_version)
	{
		case 1300:
		case 1700:
			return 288;
		case 1800:
			return 292;
		default:
			return 0;
	}
}

WaControlResult
wa_read_control_file(const void *data, size_t len, WaControlFile *control)
{
	const uint8 *p = data;
	double float_format;
	size_t crc_at;
	pg_crc32c crc;

	memset(control, 0, sizeof(*control));
	if (len < WA_CONTROL_FILE_READ)
		return WA_CONTROL_SHORT;
	control->control_version = wa_get32(p + AT_CONTROL_VERSION);
	crc_at = crc_offset(control->control_version);
	if (crc_at == 0)
		return WA_CONTROL_UNKNOWN;

	INIT_CRC32C(crc);
	crc = wa_crc32c(crc, p, crc_at);
	FIN_CRC32C(crc);
#ifndef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
	/* a fuzzer finds no checksums */
	if (!EQ_CRC32C(crc, wa_get32(p + crc_at)))
		return WA_CONTROL_DAMAGED;
#endif
	memcpy(&float_format, p + AT_FLOAT_FORMAT, sizeof(float_format));
	if (wa_get32(p + AT_MAX_ALIGN) != 8 || float_format != 1234567.0)
		return WA_CONTROL_UNKNOWN;

	control->system_identifier = wa_get64(p + AT_SYSTEM_IDENTIFIER);
	control->catalog_version = wa_get32(p + AT_CATALOG_VERSION);
	control->state = wa_get32(p + AT_STATE);
	control->checkpoint = wa_get64(p + AT_CHECKPOINT);
	control->redo = wa_get64(p + AT_REDO);
	control->checkpoint_tli = wa_get32(p + AT_CHECKPOINT_TLI);
	control->min_recovery_point = wa_get64(p + AT_MIN_RECOVERY_POINT);
	control->min_recovery_tli = wa_get32(p + AT_MIN_RECOVERY_TLI);
	control->backup_start_point = wa_get64(p + AT_BACKUP_START_POINT);
	control->backup_end_point = wa_get64(p + AT_BACKUP_END_POINT);
	control->wal_segment_size = wa_get32(p + AT_SEGMENT_SIZE);
	control->data_checksum_version = wa_get32(p + AT_CHECKSUM_VERSION);
	return WA_CONTROL_OK;
}
