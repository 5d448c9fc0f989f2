/*-------------------------------------------------------------------------
 *
 * archive_stream.c
 *	  Reading files over a connection, with many requests under way.
 *
 * A file is asked for in pieces, in libpq's pipeline mode: up to MAX_PIECES
 * answers are on their way while one is being used, also those of the next
 * files, so neither the distance nor the number of files costs time.  Each
 * request is a transaction of its own, so that one that fails takes no other
 * with it.
 *
 * After a lost connection what was under way is asked for again, from the first
 * byte on that has not been shown.  A file of the archive does not change, but
 * the open segment grows: what was told of it at first holds, and bytes beyond
 * are zeroed.
 *
 *-------------------------------------------------------------------------
 */
#include "archive_server.h"

#include <unistd.h>

/* Answers that are on their way at most, and bytes of each. */
#define MAX_PIECES 8
#define PIECE_SIZE (64 * 1024 * 1024)

/* An answer of so many bytes has fewer rows. */
#define MAX_RESULTS 100000

/* Zeros at a time. */
#define ZEROS_SIZE (64 * 1024)

/* Files that they belong to at most; the same of an archive host whose files can be opened here. */
#define MAX_FILES 32
#define MAX_LOCAL_FILES 2

/* Bytes of a file here at a time. */
#define LOCAL_PIECE (256 * 1024)

typedef enum PieceKind
{
	PIECE_PREPARE, /* of a statement */
	PIECE_INFO,    /* what is known of a WAL file */
	PIECE_BYTES
} PieceKind;

typedef struct StreamFile
{
	ArchiveRead read;
	bool wal;
	bool known;   /* info is there, and the caller was told */
	bool useless; /* there is nothing to be read of it */
	WalFileInfo info;
	bool asked_info;
	uint64 asked; /* bytes up to here are asked for */
	uint64 shown; /* bytes up to here were shown */
	uint64 end;   /* bytes up to here are to be shown; of WAL a guess until it is known */
} StreamFile;

typedef struct StreamPiece
{
	PieceKind kind;
	uint64 file;   /* number, see Stream.first */
	uint64 offset; /* of the next byte that comes */
	uint64 end;
} StreamPiece;

typedef struct Stream
{
	ServerArchive *server;
	const ArchiveReader *reader;
	uint32 segment_size; /* 0: not known yet */
	PGconn *conn;

	/* files that are being read, numbered from the first on */
	StreamFile file[MAX_FILES];
	uint64 first; /* not whole yet */
	uint64 asking;
	uint64 count; /* the number after the last one */
	bool no_more;

	/* requests under way, in order */
	StreamPiece piece[MAX_PIECES];
	int first_piece;
	int npieces;

	bool progress; /* since the last lost connection something was learned */

	char *zeros;
	char *local; /* for bytes of files here */
} Stream;

static StreamFile *
file_of(Stream *stream, uint64 number)
{
	return &stream->file[number % MAX_FILES];
}

/* ---- asking ---- */

static StreamPiece *
add_piece(Stream *stream, PieceKind kind, uint64 file)
{
	StreamPiece *piece = &stream->piece[(stream->first_piece + stream->npieces++) % MAX_PIECES];

	piece->kind = kind;
	piece->file = file;
	piece->offset = 0;
	piece->end = 0;
	return piece;
}

static ArchiveStatus
send_failed(Stream *stream)
{
	return archive_error(&stream->server->base, ARCHIVE_UNREACHABLE, NULL, "%s", PQerrorMessage(stream->conn));
}

static ArchiveStatus
connect_stream(Stream *stream)
{
	static const struct
	{
		const char *name;
		const char *query;
	} statements[] = {{"info", WAL_FILE_QUERY}, {"wal", READ_WAL_QUERY}, {"backup", READ_BACKUP_QUERY}};
	ArchiveStatus status;

	stream->conn = archive_server_connection(&stream->server->base, &status);
	if (stream->conn == NULL)
		return status;
	if (stream->server->has_layout)
		archive_local_find(stream->server);
	if (!PQenterPipelineMode(stream->conn))
		return send_failed(stream);
	stream->first_piece = 0;
	stream->npieces = 0;
	if (stream->server->prepared)
		return ARCHIVE_OK;
	for (int i = 0; i < (int) lengthof(statements); i++)
	{
		if (!PQsendPrepare(stream->conn, statements[i].name, statements[i].query, 0, NULL) ||
			!PQpipelineSync(stream->conn))
			return send_failed(stream);
		(void) add_piece(stream, PIECE_PREPARE, 0);
	}
	stream->server->prepared = true;
	return ARCHIVE_OK;
}

static bool
ask_info(Stream *stream, uint64 number)
{
	StreamFile *file = file_of(stream, number);
	const char *values[] = {stream->server->base.options->source, file->read.name, stream->server->plan_ref};

	(void) add_piece(stream, PIECE_INFO, number);
	file->asked_info = true;
	return PQsendQueryPrepared(stream->conn, "info", 3, values, NULL, NULL, 0) && PQpipelineSync(stream->conn);
}

static bool
ask_bytes(Stream *stream, uint64 number)
{
	StreamFile *file = file_of(stream, number);
	StreamPiece *piece = add_piece(stream, PIECE_BYTES, number);
	const char *source = stream->server->base.options->source;
	char offset[32];
	char length[32];
	int sent;

	piece->offset = file->asked;
	file->asked += Min(file->end - file->asked, PIECE_SIZE);
	piece->end = file->asked;
	snprintf(offset, sizeof(offset), UINT64_FORMAT, piece->offset);
	snprintf(length, sizeof(length), UINT64_FORMAT, piece->end - piece->offset);
	if (file->wal)
	{
		const char *values[] = {source, file->read.name, offset, length, stream->server->plan_ref};

		sent = PQsendQueryPrepared(stream->conn, "wal", 5, values, NULL, NULL, 1);
	}
	else
	{
		const char *values[] = {source, file->read.label, file->read.name, offset, length};

		sent = PQsendQueryPrepared(stream->conn, "backup", 5, values, NULL, NULL, 1);
	}
	return sent && PQpipelineSync(stream->conn);
}

/* Take the next file from the caller. */
static void
add_file(Stream *stream)
{
	StreamFile *file = file_of(stream, stream->count);
	TimeLineID tli;
	uint64 segno;

	memset(file, 0, sizeof(*file));
	if (!stream->reader->next(stream->reader->arg, &file->read))
	{
		stream->no_more = true;
		return;
	}
	file->wal = (file->read.label == NULL);
	if (!file->wal)
	{
		file->known = true;
		file->shown = file->asked = file->read.offset;
		file->end = file->read.offset + file->read.length;
	}
	else if (wa_parse_wal_name(file->read.name, stream->segment_size, &tli, &segno) == WA_FILE_SEGMENT)
		file->end = stream->segment_size;
	else
		file->end = PIECE_SIZE;
	stream->count++;
}

/* Have as much under way as is good. */
static ArchiveStatus
ask(Stream *stream)
{
	bool local = archive_local_is_here(stream->server);

	while (stream->npieces < MAX_PIECES)
	{
		StreamFile *file;

		if (stream->asking == stream->count)
		{
			if (stream->no_more || stream->count - stream->first >= (local ? MAX_LOCAL_FILES : MAX_FILES))
				break;
			add_file(stream);
			continue;
		}
		file = file_of(stream, stream->asking);
		if (file->wal && !file->asked_info && !file->known)
		{
			if (!ask_info(stream, stream->asking))
				return send_failed(stream);
		}
		/* where the bytes come from depends on what is said of it */
		else if (local && !file->known)
			stream->asking++;
		else if (file->asked < file->end)
		{
			if (!ask_bytes(stream, stream->asking))
				return send_failed(stream);
		}
		else
			stream->asking++;
	}
	return ARCHIVE_OK;
}

/* ---- answers ---- */

/* Files that are whole are done. */
static ArchiveStatus
finish_files(Stream *stream)
{
	const ArchiveReader *reader = stream->reader;

	while (stream->first < stream->count)
	{
		StreamFile *file = file_of(stream, stream->first);

		if (!file->known || (!file->useless && file->shown < file->end))
			break;
		stream->first++;
		if (stream->asking < stream->first)
			stream->asking = stream->first;
		if (reader->done != NULL && !reader->done(reader->arg, &file->read))
			return ARCHIVE_STOPPED;
	}
	return ARCHIVE_OK;
}

static bool
show(Stream *stream, StreamFile *file, const char *bytes, size_t len)
{
	uint64 offset = file->shown;

	file->shown += len;
	stream->progress = true;
	return stream->reader->data(stream->reader->arg, &file->read, offset, bytes, len);
}

/* Zeros up to the end of the file, for bytes that were asked for but are not to be used. */
static bool
show_zeros(Stream *stream, StreamFile *file, uint64 up_to)
{
	if (stream->zeros == NULL)
		stream->zeros = pg_malloc0(ZEROS_SIZE);
	while (file->shown < up_to)
	{
		if (!show(stream, file, stream->zeros, (size_t) Min(up_to - file->shown, ZEROS_SIZE)))
			return false;
	}
	return true;
}

/*
 * Bytes of a file that can be opened here.  If that ends early, the rest is
 * asked for.
 */
static ArchiveStatus
read_here(Stream *stream, StreamFile *file)
{
	int fd = archive_local_open(stream->server, file->read.name, &file->info);
	bool go_on = true;

	if (fd < 0)
		return ARCHIVE_OK;
	if (stream->local == NULL)
		stream->local = pg_malloc(LOCAL_PIECE);
	while (go_on && file->shown < file->end)
	{
		ssize_t n = pread(fd, stream->local, (size_t) Min(file->end - file->shown, LOCAL_PIECE), (off_t) file->shown);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		go_on = show(stream, file, stream->local, (size_t) n);
	}
	close(fd);
	file->asked = file->shown;
	return go_on ? ARCHIVE_OK : ARCHIVE_STOPPED;
}

static ArchiveStatus
take_info(Stream *stream, const PGresult *result, StreamFile *file)
{
	ArchiveStatus status = archive_server_wal_info(&stream->server->base, result, &file->info);
	const ArchiveReader *reader = stream->reader;

	if (status != ARCHIVE_OK)
		return status;
	if (file->info.size > WA_MAX_SEGMENT_SIZE)
		return archive_error(&stream->server->base, ARCHIVE_FAILED, NULL, "the archive host's answer is not understood");
	file->known = true;
	stream->progress = true;
	if (file->info.state == WAL_FILE_PRESENT || file->info.state == WAL_FILE_PARTIAL)
		file->end = file->info.size;
	else
		file->useless = true;
	if (file->useless || file->asked > file->end)
		file->asked = file->end;
	if (reader->begin != NULL && !reader->begin(reader->arg, &file->read, &file->info))
		return ARCHIVE_STOPPED;
	if (!file->useless && file->asked == 0)
		status = read_here(stream, file);
	return status;
}

/* The next bytes of a piece. */
static ArchiveStatus
take_bytes(Stream *stream, const char *bytes, size_t len, StreamPiece *piece, StreamFile *file)
{
	uint64 offset = piece->offset;
	size_t valid;

	piece->offset += len;
	/* there is less of the file than was asked for, or this is told again */
	if (offset >= file->end || offset != file->shown)
		return ARCHIVE_OK;
	len = (size_t) Min(len, file->end - offset);
	valid = len;
	if (file->wal && offset + len > file->info.valid)
		valid = file->info.valid > offset ? (size_t) (file->info.valid - offset) : 0;
	if (valid > 0 && !show(stream, file, bytes, valid))
		return ARCHIVE_STOPPED;
	if (valid < len && !show_zeros(stream, file, offset + len))
		return ARCHIVE_STOPPED;
	return ARCHIVE_OK;
}

/* Rows of bytes: one, or all that there are if libpq could not be told otherwise. */
static ArchiveStatus
take_rows(Stream *stream, const PGresult *result, StreamPiece *piece, StreamFile *file)
{
	ArchiveStatus status = ARCHIVE_OK;

	for (int i = 0; i < PQntuples(result) && status == ARCHIVE_OK; i++)
	{
		if (PQnfields(result) != 1 || PQgetisnull(result, i, 0) || PQfformat(result, 0) != 1 ||
			(uint64) PQgetlength(result, i, 0) > piece->end - piece->offset)
			return archive_error(&stream->server->base, ARCHIVE_FAILED, NULL, "the archive host's answer is not understood");
		status = take_bytes(stream, PQgetvalue(result, i, 0), (size_t) PQgetlength(result, i, 0), piece, file);
	}
	if (status == ARCHIVE_OK && PQresultStatus(result) == PGRES_TUPLES_OK && piece->offset < Min(piece->end, file->end))
		return archive_error(&stream->server->base, ARCHIVE_DAMAGED, NULL,
							 "\"%s\" ends after " UINT64_FORMAT " bytes, at least " UINT64_FORMAT " were expected",
							 file->read.name, piece->offset, Min(piece->end, file->end));
	return status;
}

/*
 * The answer to the oldest request.  An error of the server's about a file of
 * which nothing is to be had any more is none.
 */
static ArchiveStatus
take_answer(Stream *stream)
{
	StreamPiece piece = stream->piece[stream->first_piece];
	StreamFile *file = file_of(stream, piece.file);
	ArchiveStatus status = ARCHIVE_OK;
	PGresult *result;
	uint64 bytes = 0;
	int results = 0;

	/* a row at a time; if that can't be it is more at a time */
	if (piece.kind == PIECE_BYTES)
		(void) PQsetSingleRowMode(stream->conn);
	for (;;)
	{
		bool unwanted = piece.file < stream->first || file->useless;

		if (status == ARCHIVE_OK)
			status = archive_server_await(&stream->server->base, stream->conn, ARCHIVE_READ_SILENCE);
		result = status == ARCHIVE_OK ? PQgetResult(stream->conn) : NULL;
		if (result == NULL)
			break;
		for (int i = 0; i < PQntuples(result) && PQnfields(result) > 0; i++)
			bytes += (uint64) PQgetlength(result, i, 0);
		if (++results > MAX_RESULTS || bytes > 2 * PIECE_SIZE)
		{
			PQclear(result);
			return archive_error(&stream->server->base, ARCHIVE_FAILED, NULL, "the archive host's answer does not end");
		}
		switch (PQresultStatus(result))
		{
			case PGRES_SINGLE_TUPLE:
			case PGRES_TUPLES_OK:
			case PGRES_COMMAND_OK:
				if (piece.kind == PIECE_PREPARE || unwanted)
					break;
				if (piece.kind == PIECE_BYTES)
					status = take_rows(stream, result, &piece, file);
				else
				{
					status = take_info(stream, result, file);
					/* its bytes were put off */
					if (file->asked < file->end && piece.file < stream->asking)
						stream->asking = piece.file;
				}
				break;
			default:
				if (PQstatus(stream->conn) != CONNECTION_OK)
					status = send_failed(stream);
				else if (piece.kind != PIECE_BYTES || (!unwanted && piece.offset < file->end))
					status = archive_server_error(&stream->server->base, result);
				break;
		}
		PQclear(result);
	}
	if (PQstatus(stream->conn) != CONNECTION_OK && status == ARCHIVE_OK)
		status = send_failed(stream);
	if (status != ARCHIVE_OK)
		return status;
	/* the end of its transaction */
	status = archive_server_await(&stream->server->base, stream->conn, ARCHIVE_READ_SILENCE);
	if (status != ARCHIVE_OK)
		return status;
	result = PQgetResult(stream->conn);
	if (PQresultStatus(result) != PGRES_PIPELINE_SYNC)
		status = send_failed(stream);
	PQclear(result);
	stream->first_piece = (stream->first_piece + 1) % MAX_PIECES;
	stream->npieces--;
	return status;
}

/*
 * Be done with the connection.  What is still under way may be much: then it is
 * not waited for.
 */
static void
leave(Stream *stream)
{
	if (stream->npieces > 0 || PQstatus(stream->conn) != CONNECTION_OK || !PQexitPipelineMode(stream->conn))
		archive_server_lost(stream->server);
}

/* Ask again for what was lost on its way. */
static void
start_again(Stream *stream)
{
	archive_server_lost(stream->server);
	stream->progress = false;
	stream->asking = stream->first;
	for (uint64 i = stream->first; i < stream->count; i++)
	{
		StreamFile *file = file_of(stream, i);

		file->asked = file->useless ? file->end : file->shown;
		file->asked_info = file->known;
	}
}

ArchiveStatus
archive_server_read(Archive *archive, const ArchiveReader *reader)
{
	Stream *stream = pg_malloc0(sizeof(Stream));
	ArchiveRetry retry = {0};
	ArchiveLayout layout = {0};
	ArchiveStatus status;

	stream->server = (ServerArchive *) archive;
	stream->reader = reader;
	status = archive_layout(archive, &layout);
	pg_free(layout.source);
	stream->segment_size = layout.segment_size;
	while (status == ARCHIVE_OK)
	{
		status = connect_stream(stream);
		while (status == ARCHIVE_OK)
		{
			status = ask(stream);
			if (status != ARCHIVE_OK || stream->npieces == 0)
				break;
			status = take_answer(stream);
			if (status == ARCHIVE_OK)
			{
				/* a host that comes back only to go again is not a host */
				if (stream->progress)
					memset(&retry, 0, sizeof(retry));
				status = finish_files(stream);
			}
		}
		/* an empty file has no answers */
		if (status == ARCHIVE_OK)
			status = finish_files(stream);
		if (status != ARCHIVE_UNREACHABLE)
		{
			if (stream->conn != NULL)
				leave(stream);
			break;
		}
		if (!archive_server_wait(stream->server, &retry))
		{
			archive_server_lost(stream->server);
			break;
		}
		start_again(stream);
		status = ARCHIVE_OK;
	}
	pg_free(stream->zeros);
	pg_free(stream->local);
	pg_free(stream);
	return status;
}
