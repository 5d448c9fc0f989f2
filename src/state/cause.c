/*-------------------------------------------------------------------------
 *
 * cause.c
 *	  Names and remedies of the causes.  See cause.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "cause.h"

typedef struct CauseText
{
	const char *name;
	bool permanent;
	const char *hint;
} CauseText;

static const CauseText cause_text[WA_NUM_CAUSES] = {
	[WA_CAUSE_NONE] = {"none", false, ""},
	[WA_CAUSE_CONNECTION] = {"connection_failed", false,
							 "Check that the server runs and that its host name, port and network can be reached from the archive host; streaming resumes by itself."},
	[WA_CAUSE_AUTHENTICATION] = {"authentication_failed", true,
								 "Check the password in the passfile or service file of the server's operating system user (or the client certificate: sslcert, sslkey, sslrootcert), the \"replication\" line in the primary's pg_hba.conf, and that the role has the REPLICATION attribute."},
	[WA_CAUSE_VERSION] = {"version_unsupported", true,
						  "Primaries from PostgreSQL 15 on can be archived."},
	[WA_CAUSE_IN_RECOVERY] = {"server_in_recovery", true,
							  "List all nodes in the conninfo so that the primary is found, or set allow_standby => true to stream from a standby."},
	[WA_CAUSE_OLD_TIMELINE] = {"older_timeline", true,
							   "The server is a former primary that was left behind by a failover: rebuild it with pg_rewind or a new base backup, and point the source at the present primary."},
	[WA_CAUSE_FOREIGN_CLUSTER] = {"foreign_cluster", true,
								  "Point the source at the right cluster. If it is the same database after pg_upgrade or a new initdb, run walarchive.accept_new_cluster(name): a new archive is begun beside the old one."},
	[WA_CAUSE_SEGMENT_SIZE] = {"segment_size_changed", true,
							   "Segments of two sizes cannot follow one another in one archive. If the server was re-initialised or changed by pg_resetwal, make a new source for it."},
	[WA_CAUSE_SLOT_ACTIVE] = {"slot_active", false,
							  "Another walsender holds the replication slot. If it is a dead connection, the primary releases it after wal_sender_timeout; if it is another program, give the source another slot_name."},
	[WA_CAUSE_SLOT] = {"slot_unusable", true,
					   "The slot must be physical and wal_level at least replica; raise max_replication_slots on the primary if none is free."},
	[WA_CAUSE_NO_SENDER] = {"no_free_walsender", true,
							"Raise max_wal_senders (or max_connections, or the role's connection limit) on the primary, or stop a connection that is no longer needed. Where max_wal_senders is 0, set wal_level = replica, too, and restart the primary."},
	[WA_CAUSE_WAL_REMOVED] = {"wal_removed", true,
							  "The server no longer has the WAL that the archive needs next, and the source stops at gaps. To go on and record the gap: walarchive.alter_source(name, on_gap => 'continue'); take a new base backup afterwards."},
	[WA_CAUSE_ARCHIVE_AHEAD] = {"archive_ahead", true,
								"The server's WAL ends before the archive's on the same timeline: it was restored to an older state, or is a lagging standby. A lagging standby catches up by itself. A rewound primary has another history: archive it as a new source."},
	[WA_CAUSE_UNRELATED_TIMELINE] = {"unrelated_timeline", true,
									 "The server's timeline history does not pass through the archive's timeline. If this server is now the right one, archive it as a new source."},
	[WA_CAUSE_CONFLICT] = {"wal_conflict", true,
						   "The server sends other bytes than the archive holds at the same place: two servers wrote the same timeline (split brain, or a restored primary). Nothing was overwritten. Find out which server is the right one; archive the other as a new source."},
	[WA_CAUSE_DISK_FULL] = {"disk_full", true,
							"Free space in the file system of walarchive.directory, or lower walarchive.min_free_space; streaming resumes by itself."},
	[WA_CAUSE_SYNC_FAILED] = {"sync_failed", true,
							  "The disk reported an error for data that was not confirmed yet. The WAL is received again into a new file; check the disk and the kernel log."},
	[WA_CAUSE_IO] = {"io_error", true,
					 "Check the file system of walarchive.directory: rights, owner, mount, kernel log."},
	[WA_CAUSE_PROTOCOL] = {"protocol_violation", false,
						   "The server, or something between, sent what the replication protocol does not allow."},
	[WA_CAUSE_TIMEOUT] = {"receive_timeout", false,
						  "Nothing was heard from the server for walarchive.receive_timeout: check it and the network between; streaming resumes by itself."},
	[WA_CAUSE_SERVER_STOPPED] = {"server_stopped", false,
								 "The server was shut down in an orderly way; all its WAL was received. Streaming resumes when it is back."},
	[WA_CAUSE_NO_WORKER] = {"no_worker", true,
							"No background worker is free: raise max_worker_processes (needs a restart)."},
	[WA_CAUSE_SETTINGS] = {"bad_settings", true,
						   "Correct the source with walarchive.alter_source; a damaged source.json is written anew from the catalog by it."},
	[WA_CAUSE_DIRECTORY_IN_USE] = {"directory_in_use", true,
								   "Another server's receiver still writes this source's archive: two archive hosts must not share one walarchive.directory."},
	[WA_CAUSE_OTHER] = {"failed", false,
						"The server log of the archive host says more."},
};

const char *
wa_cause_name(WaCause cause)
{
	return (unsigned) cause < WA_NUM_CAUSES ? cause_text[cause].name : "failed";
}

const char *
wa_cause_hint(WaCause cause)
{
	return (unsigned) cause < WA_NUM_CAUSES ? cause_text[cause].hint : "";
}

bool
wa_cause_is_permanent(WaCause cause)
{
	return (unsigned) cause < WA_NUM_CAUSES && cause_text[cause].permanent;
}
