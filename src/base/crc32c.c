/*-------------------------------------------------------------------------
 *
 * crc32c.c
 *	  CRC-32C over long stretches of memory.  See crc32c.h.
 *
 * The crc32 instruction of x86 takes eight bytes in each cycle, but has its
 * result three cycles later, and PostgreSQL's loop waits for it.  Checking the
 * WAL of a bulk load takes hardly anything but that time.  So three checksums
 * are made at once, of three neighbouring blocks, and put together.
 *
 * The checksum of a block that is followed by n others bytes is its own times
 * x^8n, modulo the polynomial.  In the reflected order of bits a carry-less
 * product of 32 by 32 bits stands one bit too low, and the crc32 instruction
 * that reduces it multiplies by x^32, so the factor is x^(8n - 33).
 *
 *-------------------------------------------------------------------------
 */
#include "crc32c.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <nmmintrin.h>
#include <wmmintrin.h>

/* Three blocks of so many bytes, and the factors for two and one of them. */
typedef struct Stride
{
	uint32 block;
	uint32 twice; /* x^(16 * block - 33) */
	uint32 once;  /* x^(8 * block - 33) */
} Stride;

static const Stride strides[] = {
	{1024, 0xa51b6135, 0x170076fa},
	{256, 0xdd7e3b0c, 0xb9e02b86},
	{64, 0x0d3b6092, 0x9e4addf8},
};

/* Shorter than this there is nothing to gain. */
#define MIN_LEN (3 * 64)

static uint64
load(const uint8 *p)
{
	uint64 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

__attribute__((target("sse4.2,pclmul"))) static pg_crc32c
crc_interleaved(pg_crc32c crc, const uint8 *p, size_t len)
{
	uint64 a = crc;

	for (int i = 0; i < lengthof(strides); i++)
	{
		size_t block = strides[i].block;
		__m128i twice = _mm_cvtsi32_si128((int) strides[i].twice);
		__m128i once = _mm_cvtsi32_si128((int) strides[i].once);

		while (len >= 3 * block)
		{
			uint64 b = 0;
			uint64 c = 0;
			__m128i product;

			for (const uint8 *end = p + block; p < end; p += 8)
			{
				a = _mm_crc32_u64(a, load(p));
				b = _mm_crc32_u64(b, load(p + block));
				c = _mm_crc32_u64(c, load(p + 2 * block));
			}
			product = _mm_xor_si128(_mm_clmulepi64_si128(_mm_cvtsi64_si128((int64) a), twice, 0),
									_mm_clmulepi64_si128(_mm_cvtsi64_si128((int64) b), once, 0));
			a = c ^ _mm_crc32_u64(0, (uint64) _mm_cvtsi128_si64(product));
			p += 2 * block;
			len -= 3 * block;
		}
	}
	while (len >= 8)
	{
		a = _mm_crc32_u64(a, load(p));
		p += 8;
		len -= 8;
	}
	while (len-- > 0)
		a = _mm_crc32_u8((uint32) a, *p++);
	return (pg_crc32c) a;
}

pg_crc32c
wa_crc32c(pg_crc32c crc, const void *data, size_t len)
{
	if (len >= MIN_LEN &&
		__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul"))
		return crc_interleaved(crc, data, len);
	return COMP_CRC32C(crc, data, len);
}

#else

pg_crc32c
wa_crc32c(pg_crc32c crc, const void *data, size_t len)
{
	return COMP_CRC32C(crc, data, len);
}

#endif
