/*-------------------------------------------------------------------------
 *
 * codec.c
 *	  Compression of a backup's archives as streams; see codec.h.
 *
 * What the libraries allocate is theirs, not the memory context's: a callback
 * of the context frees it.  A decompression takes one stream or frame: what
 * follows it is an error, for nobody writes more.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <lz4frame.h>
#include <pthread.h>
#include <signal.h>
#include <zlib.h>
#include <zstd.h>

#include "utils/builtins.h"
#include "utils/memutils.h"

#include "../compat.h"
#include "codec.h"

/* Input is handed to the libraries in pieces, so that the output's room is known. */
#define PIECE (128 * 1024)

struct WaCodec
{
	WaCompressionMethod method;
	bool compress;
	bool failed;
	bool ended;          /* decompression: the stream's end was seen */
	bool started;        /* decompression: there was input */
	bool header_pending; /* lz4: the frame's header is still to be made */
	const char *problem; /* constant, or 'message' */
	char message[160];
	WaCodecSink sink;
	void *arg;
	char *output;
	size_t output_size;
	size_t output_used; /* zstd's compression: what waits in 'output' */

	z_stream gzip;
	bool has_gzip;
	LZ4F_compressionContext_t lz4_out;
	LZ4F_decompressionContext_t lz4_in;
	LZ4F_preferences_t lz4_preferences;
	bool has_threads; /* zstd's compression has threads of its own */
	ZSTD_CCtx *zstd_out;
	ZSTD_DCtx *zstd_in;

	MemoryContextCallback callback;
};

static const struct
{
	WaCompressionMethod method;
	const char *name;
	const char *suffix;
} methods[] = {
	{WA_COMPRESS_NONE, "none", ""},
	{WA_COMPRESS_GZIP, "gzip", ".gz"},
	{WA_COMPRESS_LZ4, "lz4", ".lz4"},
	{WA_COMPRESS_ZSTD, "zstd", ".zst"},
};

const char *
wa_compression_name(WaCompressionMethod method)
{
	return methods[method].name;
}

const char *
wa_compression_suffix(WaCompressionMethod method)
{
	return methods[method].suffix;
}

bool
wa_compression_from_name(const char *name, WaCompressionMethod *method)
{
	for (size_t i = 0; i < lengthof(methods); i++)
	{
		if (pg_strcasecmp(name, methods[i].name) == 0)
		{
			*method = methods[i].method;
			return true;
		}
	}
	return false;
}

/* ---- what the user asks for ---- */

/* A whole number with an optional sign; nothing else. */
static bool
parse_number(const char *text, int *number)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (end == text || *end != '\0' || errno != 0 || value < -1000000 || value > 1000000)
		return false;
	*number = (int) value;
	return true;
}

/* Levels of a method. */
static void
level_bounds(WaCompressionMethod method, int *low, int *high)
{
	*low = 1;
	*high = 9;
	if (method == WA_COMPRESS_LZ4)
		*high = 12;
	else if (method == WA_COMPRESS_ZSTD)
	{
		*low = ZSTD_minCLevel();
		*high = ZSTD_maxCLevel();
	}
}

static char *
set_level(WaCompression *compression, const char *value)
{
	int low;
	int high;

	level_bounds(compression->method, &low, &high);
	if (!parse_number(value, &compression->level) || compression->level < low || compression->level > high)
		return psprintf(_("the compression level of %s is a number from %d to %d, not \"%s\""),
						wa_compression_name(compression->method), low, high, value);
	compression->has_level = true;
	return NULL;
}

/* One "keyword=value" or "keyword" of a detail. */
static char *
set_option(WaCompression *compression, char *option)
{
	char *value = strchr(option, '=');

	if (value != NULL)
		*value++ = '\0';
	if (strcmp(option, "level") == 0 && value != NULL)
		return set_level(compression, value);
	if (strcmp(option, "workers") == 0 && value != NULL)
	{
		if (compression->method != WA_COMPRESS_ZSTD)
			return psprintf(_("compression method %s has no workers"), wa_compression_name(compression->method));
		if (!parse_number(value, &compression->workers) || compression->workers < 0 || compression->workers > 200)
			return psprintf(_("the number of compression workers is 0 to 200, not \"%s\""), value);
		return NULL;
	}
	if (strcmp(option, "long") == 0)
	{
		if (compression->method != WA_COMPRESS_ZSTD)
			return psprintf(_("compression method %s has no long-distance mode"), wa_compression_name(compression->method));
		compression->long_distance = true;
		if (value != NULL && !parse_bool(value, &compression->long_distance))
			return psprintf(_("compression option \"long\" is on or off, not \"%s\""), value);
		return NULL;
	}
	return psprintf(_("\"%s\" is no compression option"), option);
}

char *
wa_parse_compression(const char *text, WaCompression *compression)
{
	const char *method = text;
	const char *colon = strchr(text, ':');
	char *name;
	char *list;
	char *next;

	memset(compression, 0, sizeof(*compression));
	if (strncmp(method, "client-", 7) == 0)
		method += 7;
	else if (strncmp(method, "server-", 7) == 0)
	{
		method += 7;
		compression->on_server = true;
	}
	name = colon != NULL ? pnstrdup(method, colon - method) : pstrdup(method);
	if (!wa_compression_from_name(name, &compression->method))
		return psprintf(_("\"%s\" is no compression method"), name);
	if (compression->method == WA_COMPRESS_NONE)
		compression->on_server = false;
	if (colon == NULL)
		return NULL;
	if (compression->method == WA_COMPRESS_NONE)
		return pstrdup(_("compression method none takes no options"));
	if (strlen(colon + 1) >= WA_COMPRESSION_DETAIL_LEN)
		return pstrdup(_("the compression options are too long"));
	strlcpy(compression->detail, colon + 1, WA_COMPRESSION_DETAIL_LEN);
	if (compression->detail[0] == '\0')
		return pstrdup(_("there are no compression options behind the colon"));

	/* a number alone is a level */
	if (strspn(compression->detail, "-0123456789") == strlen(compression->detail))
		return set_level(compression, compression->detail);
	list = pstrdup(compression->detail);
	for (char *option = list; option != NULL; option = next)
	{
		char *problem;

		next = strchr(option, ',');
		if (next != NULL)
			*next++ = '\0';
		problem = set_option(compression, option);
		if (problem != NULL)
			return problem;
	}
	return NULL;
}

/* ---- streams ---- */

static void
free_libraries(void *arg)
{
	WaCodec *codec = arg;

	if (codec->has_gzip)
	{
		if (codec->compress)
			deflateEnd(&codec->gzip);
		else
			inflateEnd(&codec->gzip);
		codec->has_gzip = false;
	}
	if (codec->lz4_out != NULL)
		LZ4F_freeCompressionContext(codec->lz4_out);
	codec->lz4_out = NULL;
	if (codec->lz4_in != NULL)
		LZ4F_freeDecompressionContext(codec->lz4_in);
	codec->lz4_in = NULL;
	ZSTD_freeCCtx(codec->zstd_out);
	codec->zstd_out = NULL;
	ZSTD_freeDCtx(codec->zstd_in);
	codec->zstd_in = NULL;
}

static WaCodec *
new_codec(WaCompressionMethod method, bool compress, WaCodecSink sink, void *arg)
{
	WaCodec *codec = palloc0(sizeof(WaCodec));

	codec->method = method;
	codec->compress = compress;
	codec->sink = sink;
	codec->arg = arg;
	codec->callback.func = free_libraries;
	codec->callback.arg = codec;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &codec->callback);
	return codec;
}

pg_noreturn static void
no_codec(WaCodec *codec, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OUT_OF_MEMORY),
			 errmsg("could not set up %s compression", wa_compression_name(codec->method)),
			 detail != NULL ? errdetail_internal("%s", detail) : 0));
}

/* Set a parameter of a zstd compression. */
static void
set_zstd(WaCodec *codec, ZSTD_cParameter parameter, int value)
{
	size_t result = ZSTD_CCtx_setParameter(codec->zstd_out, parameter, value);

	if (ZSTD_isError(result))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("could not set up zstd compression"),
				 errdetail_internal("%s", ZSTD_getErrorName(result)),
				 parameter == ZSTD_c_nbWorkers ? errhint("The zstd library of this host may have been built without threads.") : 0));
}

WaCodec *
wa_codec_begin_compress(const WaCompression *compression, WaCodecSink sink, void *arg)
{
	WaCodec *codec = new_codec(compression->method, true, sink, arg);

	switch (codec->method)
	{
		case WA_COMPRESS_NONE:
			return codec;
		case WA_COMPRESS_GZIP:
			/* 16: with a gzip header */
			if (deflateInit2(&codec->gzip, compression->has_level ? compression->level : Z_DEFAULT_COMPRESSION,
							 Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
				no_codec(codec, codec->gzip.msg);
			codec->has_gzip = true;
			codec->output_size = PIECE;
			break;
		case WA_COMPRESS_LZ4:
		{
			LZ4F_errorCode_t result = LZ4F_createCompressionContext(&codec->lz4_out, LZ4F_VERSION);

			if (LZ4F_isError(result))
				no_codec(codec, LZ4F_getErrorName(result));
			codec->lz4_preferences.frameInfo.blockSizeID = LZ4F_max256KB;
			codec->lz4_preferences.frameInfo.contentChecksumFlag = LZ4F_contentChecksumEnabled;
			codec->lz4_preferences.compressionLevel = compression->has_level ? compression->level : 0;
			codec->header_pending = true;
			codec->output_size = Max(LZ4F_compressBound(PIECE, &codec->lz4_preferences), LZ4F_HEADER_SIZE_MAX);
			break;
		}
		case WA_COMPRESS_ZSTD:
			codec->zstd_out = ZSTD_createCCtx();
			if (codec->zstd_out == NULL)
				no_codec(codec, NULL);
			set_zstd(codec, ZSTD_c_compressionLevel, compression->has_level ? compression->level : ZSTD_CLEVEL_DEFAULT);
			set_zstd(codec, ZSTD_c_checksumFlag, 1);
			codec->has_threads = compression->workers > 0;
			if (codec->has_threads)
				set_zstd(codec, ZSTD_c_nbWorkers, compression->workers);
			if (compression->long_distance)
				set_zstd(codec, ZSTD_c_enableLongDistanceMatching, 1);
			codec->output_size = ZSTD_CStreamOutSize();
			break;
	}
	codec->output = palloc(codec->output_size);
	return codec;
}

WaCodec *
wa_codec_begin_decompress(WaCompressionMethod method, WaCodecSink sink, void *arg)
{
	WaCodec *codec = new_codec(method, false, sink, arg);

	switch (codec->method)
	{
		case WA_COMPRESS_NONE:
			return codec;
		case WA_COMPRESS_GZIP:
			if (inflateInit2(&codec->gzip, 15 + 16) != Z_OK)
				no_codec(codec, codec->gzip.msg);
			codec->has_gzip = true;
			codec->output_size = PIECE;
			break;
		case WA_COMPRESS_LZ4:
		{
			LZ4F_errorCode_t result = LZ4F_createDecompressionContext(&codec->lz4_in, LZ4F_VERSION);

			if (LZ4F_isError(result))
				no_codec(codec, LZ4F_getErrorName(result));
			codec->output_size = 2 * PIECE;
			break;
		}
		case WA_COMPRESS_ZSTD:
			codec->zstd_in = ZSTD_createDCtx();
			if (codec->zstd_in == NULL)
				no_codec(codec, NULL);
			codec->output_size = ZSTD_DStreamOutSize();
			break;
	}
	codec->output = palloc(codec->output_size);
	return codec;
}

/* Fail; 'detail' is the library's word for it, copied, or NULL. */
static bool
fail(WaCodec *codec, const char *what, const char *detail)
{
	codec->failed = true;
	if (detail != NULL)
		snprintf(codec->message, sizeof(codec->message), "%s (%s)", what, detail);
	else
		strlcpy(codec->message, what, sizeof(codec->message));
	codec->problem = codec->message;
	return false;
}

/* Hand over 'len' bytes of the output buffer. */
static bool
emit(WaCodec *codec, size_t len)
{
	if (len > 0 && !codec->sink(codec->arg, codec->output, len))
		codec->failed = true;
	return !codec->failed;
}

/* gzip in both directions; 'flush' is Z_FINISH at the end of a compression. */
static bool
run_gzip(WaCodec *codec, const char *data, size_t len, int flush)
{
	z_stream *z = &codec->gzip;

	z->next_in = (Bytef *) data;
	z->avail_in = (uInt) len;
	for (;;)
	{
		int result;

		z->next_out = (Bytef *) codec->output;
		z->avail_out = (uInt) codec->output_size;
		result = codec->compress ? deflate(z, flush) : inflate(z, Z_NO_FLUSH);
		if (result == Z_STREAM_ERROR || result == Z_DATA_ERROR || result == Z_MEM_ERROR || result == Z_NEED_DICT)
			return fail(codec, codec->compress ? "could not compress" : "the gzip data is damaged", z->msg);
		if (!emit(codec, codec->output_size - z->avail_out))
			return false;
		if (result == Z_STREAM_END)
		{
			codec->ended = true;
			return z->avail_in == 0 ? true : fail(codec, "there is data after the end of the gzip data", NULL);
		}
		/* with room left in the output, all that there was has been taken */
		if (z->avail_out > 0 && z->avail_in == 0 && flush != Z_FINISH)
			return true;
		if (result == Z_BUF_ERROR)
			return z->avail_in == 0 ? true : fail(codec, "the gzip data is damaged", NULL);
	}
}

/* The beginning of an lz4 frame, once. */
static bool
begin_lz4(WaCodec *codec)
{
	size_t result;

	if (!codec->header_pending)
		return true;
	codec->header_pending = false;
	result = LZ4F_compressBegin(codec->lz4_out, codec->output, codec->output_size, &codec->lz4_preferences);
	if (LZ4F_isError(result))
		return fail(codec, "could not compress", LZ4F_getErrorName(result));
	return emit(codec, result);
}

static bool
compress_lz4(WaCodec *codec, const char *data, size_t len)
{
	size_t result;

	if (!begin_lz4(codec))
		return false;
	result = LZ4F_compressUpdate(codec->lz4_out, codec->output, codec->output_size, data, len, NULL);
	if (LZ4F_isError(result))
		return fail(codec, "could not compress", LZ4F_getErrorName(result));
	return emit(codec, result);
}

static bool
decompress_lz4(WaCodec *codec, const char *data, size_t len)
{
	size_t filled;

	do
	{
		size_t taken = len;
		size_t result;

		filled = codec->output_size;
		if (codec->ended)
			return fail(codec, "there is data after the end of the lz4 data", NULL);
		result = LZ4F_decompress(codec->lz4_in, codec->output, &filled, data, &taken, NULL);
		if (LZ4F_isError(result))
			return fail(codec, "the lz4 data is damaged", LZ4F_getErrorName(result));
		data += taken;
		len -= taken;
		if (!emit(codec, filled))
			return false;
		/* 0: the frame is whole */
		if (result == 0)
		{
			codec->ended = true;
			filled = 0;
		}
		/* a full buffer may mean that there is more inside */
	} while (len > 0 || filled == codec->output_size);
	return true;
}

static bool
compress_zstd(WaCodec *codec, const char *data, size_t len, ZSTD_EndDirective directive)
{
	ZSTD_inBuffer in = {data, len, 0};
	size_t left;

	do
	{
		/* what comes out of little input is gathered: each write costs */
		ZSTD_outBuffer out = {codec->output, codec->output_size, codec->output_used};
		sigset_t all;
		sigset_t before;

		/* zstd starts its threads in here, and they inherit what is blocked */
		if (codec->has_threads)
		{
			sigfillset(&all);
			pthread_sigmask(SIG_SETMASK, &all, &before);
		}
		left = ZSTD_compressStream2(codec->zstd_out, &out, &in, directive);
		if (codec->has_threads)
			pthread_sigmask(SIG_SETMASK, &before, NULL);
		if (ZSTD_isError(left))
			return fail(codec, "could not compress", ZSTD_getErrorName(left));
		codec->output_used = out.pos;
		if (out.pos == out.size || directive == ZSTD_e_end)
		{
			codec->output_used = 0;
			if (!emit(codec, out.pos))
				return false;
		}
	} while (directive == ZSTD_e_end ? left > 0 : in.pos < in.size);
	return true;
}

static bool
decompress_zstd(WaCodec *codec, const char *data, size_t len)
{
	ZSTD_inBuffer in = {data, len, 0};
	ZSTD_outBuffer out;

	do
	{
		size_t result;

		out = (ZSTD_outBuffer){codec->output, codec->output_size, 0};
		if (codec->ended)
			return fail(codec, "there is data after the end of the zstd data", NULL);
		result = ZSTD_decompressStream(codec->zstd_in, &out, &in);
		if (ZSTD_isError(result))
			return fail(codec, "the zstd data is damaged", ZSTD_getErrorName(result));
		if (!emit(codec, out.pos))
			return false;
		/* 0: the frame is whole */
		if (result == 0)
		{
			codec->ended = true;
			out.pos = 0;
		}
	} while (in.pos < in.size || out.pos == out.size);
	return true;
}

bool
wa_codec_write(WaCodec *codec, const char *data, size_t len)
{
	while (len > 0 && !codec->failed)
	{
		size_t piece = codec->method == WA_COMPRESS_NONE ? len : Min(len, PIECE);

		codec->started = true;
		switch (codec->method)
		{
			case WA_COMPRESS_NONE:
				if (!codec->sink(codec->arg, data, piece))
					codec->failed = true;
				break;
			case WA_COMPRESS_GZIP:
				if (codec->ended)
					fail(codec, "there is data after the end of the gzip data", NULL);
				else
					run_gzip(codec, data, piece, Z_NO_FLUSH);
				break;
			case WA_COMPRESS_LZ4:
				if (codec->compress)
					compress_lz4(codec, data, piece);
				else
					decompress_lz4(codec, data, piece);
				break;
			case WA_COMPRESS_ZSTD:
				if (codec->compress)
					compress_zstd(codec, data, piece, ZSTD_e_continue);
				else
					decompress_zstd(codec, data, piece);
				break;
		}
		data += piece;
		len -= piece;
	}
	return !codec->failed;
}

bool
wa_codec_finish(WaCodec *codec)
{
	if (codec->failed || codec->method == WA_COMPRESS_NONE)
		return !codec->failed;
	if (!codec->compress)
	{
		if (!codec->ended)
			return fail(codec, codec->started ? "the compressed data ends too early" : "there is no compressed data", NULL);
		return true;
	}
	switch (codec->method)
	{
		case WA_COMPRESS_NONE:
			break;
		case WA_COMPRESS_GZIP:
			return run_gzip(codec, NULL, 0, Z_FINISH);
		case WA_COMPRESS_LZ4:
		{
			size_t result;

			if (!begin_lz4(codec))
				return false;
			result = LZ4F_compressEnd(codec->lz4_out, codec->output, codec->output_size, NULL);
			if (LZ4F_isError(result))
				return fail(codec, "could not compress", LZ4F_getErrorName(result));
			return emit(codec, result);
		}
		case WA_COMPRESS_ZSTD:
			return compress_zstd(codec, NULL, 0, ZSTD_e_end);
	}
	return true;
}

const char *
wa_codec_problem(const WaCodec *codec)
{
	return codec->problem;
}

void
wa_codec_end(WaCodec *codec)
{
	free_libraries(codec);
	if (codec->output != NULL)
		pfree(codec->output);
	codec->output = NULL;
	/* the rest stays for the context's callback */
}
