/*-------------------------------------------------------------------------
 *
 * cause.h
 *	  Why a source is not streaming: each state that a person has to know of,
 *	  with the remedy that the health view and the log show.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_CAUSE_H
#define WA_CAUSE_H

typedef enum WaCause
{
	WA_CAUSE_NONE,
	WA_CAUSE_CONNECTION,         /* no server answers, or the connection broke */
	WA_CAUSE_AUTHENTICATION,     /* refused by password, pg_hba or attribute */
	WA_CAUSE_VERSION,            /* a major that is not supported */
	WA_CAUSE_IN_RECOVERY,        /* a standby, and the source wants a primary */
	WA_CAUSE_OLD_TIMELINE,       /* a former primary came back */
	WA_CAUSE_FOREIGN_CLUSTER,    /* another system identifier */
	WA_CAUSE_SEGMENT_SIZE,       /* the server's segment size changed */
	WA_CAUSE_SLOT_ACTIVE,        /* another process holds the slot */
	WA_CAUSE_SLOT,               /* slot cannot be made or used */
	WA_CAUSE_NO_SENDER,          /* no free walsender */
	WA_CAUSE_WAL_REMOVED,        /* gap, and the source is told to stop at gaps */
	WA_CAUSE_ARCHIVE_AHEAD,      /* server's WAL ends before the archive's */
	WA_CAUSE_UNRELATED_TIMELINE, /* server's history does not pass the archive's */
	WA_CAUSE_CONFLICT,           /* different bytes at the same place */
	WA_CAUSE_DISK_FULL,          /* under walarchive.min_free_space, or ENOSPC */
	WA_CAUSE_SYNC_FAILED,        /* fdatasync or fsync reported an error */
	WA_CAUSE_IO,                 /* any other file error */
	WA_CAUSE_PROTOCOL,           /* the server broke the protocol */
	WA_CAUSE_TIMEOUT,            /* nothing heard for walarchive.receive_timeout */
	WA_CAUSE_SERVER_STOPPED,     /* controlled shutdown of the server */
	WA_CAUSE_NO_WORKER,          /* no free background worker slot */
	WA_CAUSE_SETTINGS,           /* source.json is unreadable or wrong */
	WA_CAUSE_DIRECTORY_IN_USE,   /* another host's receiver writes here */
	WA_CAUSE_OTHER,              /* the receiver failed otherwise: see the log */
} WaCause;

#define WA_NUM_CAUSES (WA_CAUSE_OTHER + 1)

/* Constant, untranslated: the word shown in views, "connection_failed" … */
extern const char *wa_cause_name(WaCause cause);

/* What to do about it, a sentence. */
extern const char *wa_cause_hint(WaCause cause);

/* True where retrying alone cannot mend it: health says critical. */
extern bool wa_cause_is_permanent(WaCause cause);

#endif /* WA_CAUSE_H */
