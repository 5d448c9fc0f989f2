/*-------------------------------------------------------------------------
 *
 * decode_protocol.h
 *	  What goes between walarchive-decode and the server process that started
 *	  it.
 *
 * The server writes requests to the program's standard input, one flat JSON
 * object (flat_json.h) on a line each; members that do not apply are absent:
 *
 *	 {"do": "index", "directory": "/…/wal", "system_identifier": 7,
 *	  "segment_size": 16777216, "timeline": 1, "from": "0/1000028",
 *	  "to": "0/2000000", "state": "…", …}
 *
 * The program answers each with messages on its standard output: a
 * WaMessageHeader, then 'length' bytes, of which the first are the struct that
 * belongs to the type and the rest its arrays and texts.  The last message of
 * an answer is WA_MSG_END.  First of all, without being asked, it sends
 * WA_MSG_HELLO.  End of file on its input ends the program.
 *
 * Both ends are of one build on one machine: the structs are as the compiler
 * lays them out.  A reader checks every length all the same, for the program
 * may die at any byte, and it reads what strangers have written.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_DECODE_PROTOCOL_H
#define WA_DECODE_PROTOCOL_H

#include "base.h"

#include "wal_event.h"

/* Grows with every change of a struct below or of a request. */
#define WA_DECODE_PROTOCOL 3

/* Longest request line and longest message, in bytes. */
#define WA_REQUEST_LEN (4 * 1024 * 1024)
#define WA_MESSAGE_MAX (16 * 1024 * 1024)

/*
 * Requests ("do"), all of one cluster's wal directory:
 *
 *	 index	decode one timeline from "from" for the catalog: nothing at or after
 *			"to" is read, and only records that start before "until" are shown
 *			(default: "to"); one that starts below "until" may go on above it.
 *			Without "to" the range ends where the files do.  "fork": the start
 *			of the timeline; records below it are its parent's, and not shown.
 *			"at_fork" true: "from" is the start of the timeline.  Reading begins with
 *			its segment: the copy of the parent's records before the fork is checked,
 *			and looked at for what is prepared and open at the fork.
 *			XACT is not sent; RESTORE_POINT, CHECKPOINT, RECOVERY_END,
 *			PARAMETERS, TABLESPACE, DESTRUCTION, FOUND (prepared and finished, but for what was
 *			both in one segment), DAMAGE as met, SEGMENT for each segment
 *			that was touched.  "resync" true: "from" is the start of a segment
 *			whose predecessor is not there: begin with the first record that
 *			starts in it.  "state": what the END before had (hexadecimal).
 *			"time_floor": where there is no state, the latest commit time before
 *			"from" (TimestampTz as a number).
 *			"live" true: below "to" all bytes are WAL that the server has sent;
 *			else the file at the end may be a partial one that ends anywhere.
 *			"careful" true: a PROGRESS with the LSN goes out before each record.
 *	 xacts	XACT for each transaction end
 *	 destructions	DESTRUCTION for each
 *	 records	RECORD for each record
 *	 stats	STATS for each resource manager, once
 *	 find	the first record of a kind ("what": time, time_or_equal, xid, name, record,
 *			or none) and what came before it, as FOUND: the last record, the last end
 *			of a transaction, the last commit; prepared transactions that are open.
 *			"time" (TimestampTz as a number), "xid", "name" of a restore point.  Records that end behind
 *			"within" do not count.
 *	 verify	check files: DAMAGE for each damaged one, FILE for each, PROGRESS
 *	 hash	FILE for each file that is named ("file", once)
 *
 * Those that read ranges (xacts, destructions, records, stats, find) go by "path":
 * "timeline:start-LSN" pairs, oldest first, comma separated, e.g.
 * "1:0/0,2:0/5000028": the timeline that owns the WAL from that LSN on.  A
 * segment is taken from the newest timeline of the path that has entered it
 * (its copy holds the parent's WAL below the fork as well), else from its
 * parent's.  "from" need not be the start of a record: the first record that
 * starts at or after it is the first shown.  "to" is exclusive: the last
 * record shown starts before it; without it the range ends where the files do.
 * No byte from "end" on is looked at, if it is given.  "live" and "careful" are
 * as above, but it is up to "end" that all bytes are WAL.
 *
 * An answer ends at the first thing that is in the way: a missing file
 * (MISSING), damage (DAMAGED), WAL of another major (UNKNOWN).  To go on behind
 * it is a new request.
 */

typedef enum WaMessageType
{
	WA_MSG_HELLO = 1,
	WA_MSG_END,
	WA_MSG_PROGRESS,
	WA_MSG_DAMAGE,
	WA_MSG_SEGMENT,
	WA_MSG_FILE,
	WA_MSG_XACT,
	WA_MSG_DESTRUCTION,
	WA_MSG_RESTORE_POINT,
	WA_MSG_CHECKPOINT,
	WA_MSG_RECOVERY_END,
	WA_MSG_PARAMETERS,
	WA_MSG_TABLESPACE,
	WA_MSG_RECORD,
	WA_MSG_STATS,
	WA_MSG_FOUND
} WaMessageType;

typedef struct WaMessageHeader
{
	uint32 length; /* bytes that follow */
	uint32 type;   /* WaMessageType */
} WaMessageHeader;

typedef struct WaMsgHello
{
	uint32 protocol;  /* WA_DECODE_PROTOCOL */
	char version[32]; /* WALARCHIVE_VERSION */
} WaMsgHello;

/* How a request ended. */
typedef enum WaDecodeResult
{
	WA_DECODE_DONE,    /* up to "to", or to the last complete record before it */
	WA_DECODE_MISSING, /* the segment missing_lsn is not there; next_lsn may be a record that goes on in it */
	WA_DECODE_DAMAGED, /* a DAMAGE was sent; next_lsn is the start of the segment behind it: resync there */
	WA_DECODE_UNKNOWN, /* WAL of a major that we do not know, from next_lsn, the start of a segment, on */
	WA_DECODE_FAILED,  /* a file could not be read, no memory, a bad request: see text */
} WaDecodeResult;

/* followed by text_len bytes of text, then state_len bytes of state */
typedef struct WaMsgEnd
{
	uint32 result;          /* WaDecodeResult */
	XLogRecPtr next_lsn;    /* start of the first record not shown: where to go on */
	XLogRecPtr need_lsn;    /* which can't be whole before this byte is there */
	XLogRecPtr missing_lsn; /* MISSING: start of the segment whose file is not there; else 0 */
	uint64 bytes;           /* read */
	uint64 records;
	XLogRecPtr commit_lsn; /* end of the last commit (prepared ones too) met, 0: none */
	TransactionId commit_xid;
	int64 commit_time;
	uint32 text_len;
	uint32 state_len;
} WaMsgEnd;

typedef struct WaMsgProgress
{
	XLogRecPtr lsn;
	uint64 bytes; /* read since the request */
} WaMsgProgress;

typedef enum WaDamageKind
{
	WA_DAMAGE_RECORD = 1, /* checksum, length, page header, ...: what follows in the file is not trusted */
	WA_DAMAGE_PADDING,    /* a byte that must be zero is not; recovery does not look at it */
	WA_DAMAGE_HASH,       /* the SHA-256 differs */
	WA_DAMAGE_SIZE,       /* truncated or too long */
	WA_DAMAGE_FOREIGN,    /* of another cluster, timeline or place than its name says */
	WA_DAMAGE_MISSING,    /* not there */
	WA_DAMAGE_HISTORY,    /* a history file that makes no sense or contradicts the WAL */
	WA_DAMAGE_UNREADABLE, /* an I/O error */
	WA_DAMAGE_CONTINUITY  /* does not go on where the file before it ended */
} WaDamageKind;

/* followed by name_len bytes of the file's name and text_len of a message */
typedef struct WaMsgDamage
{
	uint32 kind;
	TimeLineID tli;
	XLogRecPtr segment_lsn; /* start of the segment; 0 for a history file */
	XLogRecPtr lsn;         /* first wrong byte, 0: not known */
	int64 offset;           /* of it in the file, -1: not known */
	uint32 name_len;
	uint32 text_len;
} WaMsgDamage;

/*
 * What the records say that start in one segment; of a timeline's first
 * segment those from its fork on.  If a request went through a part of the
 * segment only, of that part: the sums are to be added.
 */
typedef struct WaMsgSegment
{
	TimeLineID tli;
	XLogRecPtr segment_lsn;
	XLogRecPtr first_record; /* 0: no record starts in it */
	XLogRecPtr last_record;
	uint64 records;
	uint64 commits; /* prepared ones that are committed included */
	uint64 aborts;
	int64 first_time; /* of commits and aborts; valid if there are some */
	int64 last_time;
	int64 min_time;
	int64 max_time;
	uint64 min_xid; /* full transaction ids of transactions that ended; epoch guessed from the last checkpoint, 0: not known */
	uint64 max_xid;
	int32 major;   /* 15 ... */
	bool complete; /* all records that start in it were shown by this request or those before */
} WaMsgSegment;

/* of "verify" and "hash"; followed by name_len bytes of the name */
typedef struct WaMsgFile
{
	TimeLineID tli;
	XLogRecPtr segment_lsn; /* 0 for a history file */
	int64 size;
	bool finished;
	bool damaged;  /* a DAMAGE of it was sent */
	bool has_hash; /* wal.sha256 had one to compare with (verify) */
	uint8 sha256[32];
	uint32 name_len;
} WaMsgFile;

/* followed by the dropped files (WaRelFile each), and gid_len bytes */
typedef struct WaMsgXact
{
	uint32 kind; /* WaEventKind: COMMIT, ABORT, COMMIT_PREPARED, ABORT_PREPARED */
	TimeLineID tli;
	XLogRecPtr start_lsn;
	XLogRecPtr end_lsn;
	XLogRecPtr prev_lsn;
	TransactionId xid;
	int64 time;
	Oid database;
	uint32 subxacts;
	uint32 dropped_files; /* of the transaction */
	uint32 files;         /* that follow: all, unless the message would be too long */
	uint32 gid_len;
} WaMsgXact;

typedef enum WaDestructionKind
{
	WA_DESTRUCTION_DROP = 1,
	WA_DESTRUCTION_TRUNCATE,
	WA_DESTRUCTION_REWRITE,
	WA_DESTRUCTION_DATABASE
} WaDestructionKind;

/*
 * One kind of what one transaction destroyed; followed by 'files' WaRelFile
 * and 'relations' Oids (of relations, known from dropped statistics or locks;
 * 0 where it is not).
 */
typedef struct WaMsgDestruction
{
	uint32 kind; /* WaDestructionKind */
	TimeLineID tli;
	XLogRecPtr start_lsn; /* of the transaction's end record */
	XLogRecPtr end_lsn;
	XLogRecPtr first_lsn;          /* of the first irreversible record */
	XLogRecPtr restore_before_lsn; /* of the record before that */
	TransactionId xid;
	int64 time;
	int64 restore_before_time; /* valid if has_time */
	bool has_time;
	bool aborted; /* the transaction aborted, the files were gone already */
	Oid database; /* of DATABASE the one that is gone */
	uint32 files;
	uint32 relations;
} WaMsgDestruction;

/* followed by name_len bytes */
typedef struct WaMsgRestorePoint
{
	TimeLineID tli;
	XLogRecPtr start_lsn;
	XLogRecPtr end_lsn;
	int64 time;
	uint32 name_len;
} WaMsgRestorePoint;

typedef struct WaMsgCheckpoint
{
	TimeLineID tli; /* of the WAL in which it stands */
	XLogRecPtr start_lsn;
	XLogRecPtr end_lsn;
	WaCheckpoint checkpoint;
} WaMsgCheckpoint;

typedef struct WaMsgRecoveryEnd
{
	XLogRecPtr start_lsn;
	TimeLineID tli;
	TimeLineID prev_tli;
	int64 time;
} WaMsgRecoveryEnd;

typedef struct WaMsgParameters
{
	TimeLineID tli;
	XLogRecPtr start_lsn;
	XLogRecPtr end_lsn;
	WaParameters parameters;
} WaMsgParameters;

/* one that was made; followed by path_len bytes of its directory's path */
typedef struct WaMsgTablespace
{
	TimeLineID tli;
	XLogRecPtr start_lsn;
	Oid tablespace;
	uint32 path_len;
} WaMsgTablespace;

/* followed by the texts */
typedef struct WaMsgRecord
{
	TimeLineID tli;
	XLogRecPtr start_lsn;
	XLogRecPtr end_lsn;
	XLogRecPtr prev_lsn;
	TransactionId xid;
	uint32 total_len;
	uint32 main_len;
	uint32 image_bytes;
	uint8 rmid;
	uint8 info;
	uint32 rmgr_len;        /* resource manager's name */
	uint32 type_len;        /* record type's name */
	uint32 description_len; /* what we know of it, may be empty */
	uint32 blocks_len;      /* block references as pg_waldump writes them */
} WaMsgRecord;

/* followed by name_len bytes of the resource manager's name */
typedef struct WaMsgStats
{
	uint8 rmid;
	uint64 records;
	uint64 record_bytes; /* without block images */
	uint64 image_bytes;
	uint32 name_len;
} WaMsgStats;

typedef enum WaFoundRole
{
	WA_FOUND_MATCH = 1,
	WA_FOUND_LAST_RECORD, /* before the match, or of the range */
	WA_FOUND_LAST_XACT,
	WA_FOUND_LAST_COMMIT,
	WA_FOUND_PREPARED, /* prepared in the range and not finished before the match */
	WA_FOUND_FINISHED, /* the end of one that was prepared before the range */
	WA_FOUND_SETTINGS  /* changed before the match; its text: five numbers, in the order of WaParameters */
} WaFoundRole;

/* followed by gid_len bytes: the gid of a prepared transaction, or a text */
typedef struct WaMsgFound
{
	uint32 role; /* WaFoundRole */
	uint32 kind; /* WaEventKind */
	TimeLineID tli;
	XLogRecPtr start_lsn;
	XLogRecPtr end_lsn;
	XLogRecPtr prev_lsn;
	TransactionId xid;
	int64 time; /* of transactions */
	uint32 gid_len;
} WaMsgFound;

#endif /* WA_DECODE_PROTOCOL_H */
