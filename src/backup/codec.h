/*-------------------------------------------------------------------------
 *
 * codec.h
 *	  Compression of a backup's archives: none, gzip, lz4 frames, zstd, as
 *	  streams.
 *
 * A codec is made in the current memory context and goes with it, what the
 * libraries allocated included.  Between wa_codec_begin_* and wa_codec_end it
 * takes no memory of the server's and raises nothing, so it may be used by one
 * thread that is not the server's own.  The sink may raise errors where the
 * caller may.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_CODEC_H
#define WA_CODEC_H

#include "postgres.h"

typedef enum WaCompressionMethod
{
	WA_COMPRESS_NONE,
	WA_COMPRESS_GZIP,
	WA_COMPRESS_LZ4,
	WA_COMPRESS_ZSTD
} WaCompressionMethod;

#define WA_COMPRESSION_DETAIL_LEN 64

/* "[client-|server-]METHOD[:DETAIL]", taken apart */
typedef struct WaCompression
{
	WaCompressionMethod method;
	bool on_server;
	bool has_level;
	int level;   /* where has_level */
	int workers; /* threads, zstd alone; 0: none but the caller's */
	bool long_distance;
	char detail[WA_COMPRESSION_DETAIL_LEN]; /* what stood behind the colon, for the server; or empty */
} WaCompression;

/*
 * Take 'text' apart and check it: METHOD is none, gzip, lz4 or zstd, DETAIL a
 * level, or a list of level=N, workers=N and long[=BOOL].  Returns NULL, or what
 * is wrong (palloc'd, translated) in a form that may stand after "...: ".
 */
extern char *wa_parse_compression(const char *text, WaCompression *compression);

/* "none", "gzip", "lz4", "zstd"; and what a file's name ends with: "", ".gz", ".lz4", ".zst" */
extern const char *wa_compression_name(WaCompressionMethod method);
extern const char *wa_compression_suffix(WaCompressionMethod method);

/* The reverse of wa_compression_name; false: no such method. */
extern bool wa_compression_from_name(const char *name, WaCompressionMethod *method);

/* Takes 'len' bytes of output; false: the codec is to stop. */
typedef bool (*WaCodecSink)(void *arg, const char *data, size_t len);

typedef struct WaCodec WaCodec;

/*
 * A new stream whose output goes to 'sink'.  'compression->on_server' makes no
 * difference.  Raises an error where a library refuses a parameter or there is
 * no memory.
 */
extern WaCodec *wa_codec_begin_compress(const WaCompression *compression, WaCodecSink sink, void *arg);
extern WaCodec *wa_codec_begin_decompress(WaCompressionMethod method, WaCodecSink sink, void *arg);

/*
 * Push 'len' bytes in; say that there are no more.  Return false if the sink
 * said so, or the library: wa_codec_problem then has a message, else it is NULL.
 * Finishing a decompression also fails where the compressed stream is cut off.
 */
extern bool wa_codec_write(WaCodec *codec, const char *data, size_t len);
extern bool wa_codec_finish(WaCodec *codec);
extern const char *wa_codec_problem(const WaCodec *codec);

/* Free it.  Not needed before its memory context goes. */
extern void wa_codec_end(WaCodec *codec);

#endif /* WA_CODEC_H */
