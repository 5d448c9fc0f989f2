-- What the archive holds: an index of the files and of the journal, which are
-- the truth.  Written by the indexer, rebuilt by rescan().

CREATE TABLE walarchive.segment (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	timeline integer NOT NULL,
	name text NOT NULL,
	start_lsn pg_lsn NOT NULL,
	end_lsn pg_lsn NOT NULL,
	state text NOT NULL CHECK (state IN ('finished', 'partial')),
	size bigint NOT NULL,
	registered_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	decode_state text NOT NULL DEFAULT 'pending'
		CHECK (decode_state IN ('pending', 'decoding', 'decoded', 'damaged', 'quarantined', 'unknown')),
	major integer,
	first_record_lsn pg_lsn,
	last_record_lsn pg_lsn,
	read_lsn pg_lsn,
	records bigint,
	first_commit_time timestamptz,
	last_commit_time timestamptz,
	min_commit_time timestamptz,
	max_commit_time timestamptz,
	commits bigint,
	aborts bigint,
	min_xid xid8,
	max_xid xid8,
	checked_at timestamptz,
	sha256 bytea,
	verified_at timestamptz,
	damage_lsn pg_lsn,
	damage_offset bigint,
	damage text,
	PRIMARY KEY (source, system_identifier, timeline, start_lsn)
);
-- what is still to be decoded, and what is wrong: few rows among many
CREATE INDEX segment_pending_idx ON walarchive.segment (source, system_identifier, timeline, start_lsn)
	WHERE decode_state = 'pending';
CREATE INDEX segment_damage_idx ON walarchive.segment (source, system_identifier, timeline, start_lsn)
	WHERE damage IS NOT NULL OR decode_state IN ('damaged', 'quarantined', 'unknown');
-- those whose transactions came before the first checkpoint: also few
CREATE INDEX segment_vague_idx ON walarchive.segment (source, system_identifier, timeline, start_lsn)
	WHERE min_xid IS NULL AND commits + aborts > 0;
-- Which segment holds an LSN, a time, a name: no order of columns serves these
-- intervals, but rows are stored about as they came, and a million of them has a
-- few hundred ranges of pages.  Where many sources share the pages each has few rows.
CREATE INDEX segment_range_idx ON walarchive.segment
	USING brin (start_lsn, end_lsn, name, min_commit_time, max_commit_time,
				(min_xid::text::bigint), (max_xid::text::bigint)) WITH (autosummarize = on);
REVOKE ALL ON TABLE walarchive.segment FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.segment TO pg_monitor;

COMMENT ON TABLE walarchive.segment IS 'WAL segments in the archive, the open one included';
COMMENT ON COLUMN walarchive.segment.source IS 'name of the source';
COMMENT ON COLUMN walarchive.segment.system_identifier IS 'system identifier of the cluster that wrote the WAL';
COMMENT ON COLUMN walarchive.segment.timeline IS 'timeline that the WAL belongs to';
COMMENT ON COLUMN walarchive.segment.name IS 'file name, without .partial';
COMMENT ON COLUMN walarchive.segment.start_lsn IS 'first byte of the segment';
COMMENT ON COLUMN walarchive.segment.end_lsn IS 'first byte after the segment';
COMMENT ON COLUMN walarchive.segment.state IS 'finished; or partial: being received, or the last one of a timeline that was left';
COMMENT ON COLUMN walarchive.segment.size IS 'size of the file in bytes';
COMMENT ON COLUMN walarchive.segment.registered_at IS 'when the catalog learned of it; says nothing about the WAL in it';
COMMENT ON COLUMN walarchive.segment.decode_state IS 'pending: not decoded yet; decoding: in part (the open segment, or its last record goes on in the next one); decoded; damaged: not readable to its end; quarantined: the decoder died on it three times, see rescan; unknown: of a PostgreSQL version that is not known here';
COMMENT ON COLUMN walarchive.segment.major IS 'major version of the server that wrote it; NULL: not decoded';
COMMENT ON COLUMN walarchive.segment.first_record_lsn IS 'first record that starts in it; NULL if there is none or it is not decoded';
COMMENT ON COLUMN walarchive.segment.last_record_lsn IS 'last record that starts in it; NULL if there is none or it is not decoded';
COMMENT ON COLUMN walarchive.segment.read_lsn IS 'end of its last record, where a gap begins in it; NULL where reading has not gone on behind one';
COMMENT ON COLUMN walarchive.segment.records IS 'number of records that start in it; NULL: not decoded';
COMMENT ON COLUMN walarchive.segment.first_commit_time IS 'time of the first commit or abort in it; NULL if there is none or it is not decoded';
COMMENT ON COLUMN walarchive.segment.last_commit_time IS 'time of the last commit or abort in it; NULL if there is none or it is not decoded';
COMMENT ON COLUMN walarchive.segment.min_commit_time IS 'earliest time of a commit or abort in it; times do not always grow with the LSN';
COMMENT ON COLUMN walarchive.segment.max_commit_time IS 'latest time of a commit or abort in it';
COMMENT ON COLUMN walarchive.segment.commits IS 'number of commits; NULL: not decoded';
COMMENT ON COLUMN walarchive.segment.aborts IS 'number of aborts; NULL: not decoded';
COMMENT ON COLUMN walarchive.segment.min_xid IS 'lowest transaction that ended in it; NULL if there is none or it is not decoded';
COMMENT ON COLUMN walarchive.segment.max_xid IS 'highest transaction that ended in it; NULL if there is none or it is not decoded';
COMMENT ON COLUMN walarchive.segment.checked_at IS 'when all records that start in it had been read with their checksums; NULL: not yet';
COMMENT ON COLUMN walarchive.segment.sha256 IS 'SHA-256 of the finished file, as in wal.sha256; NULL: not computed yet';
COMMENT ON COLUMN walarchive.segment.verified_at IS 'when verify() last read the whole file; NULL: never';
COMMENT ON COLUMN walarchive.segment.damage_lsn IS 'first byte that is known to be wrong; NULL: none, or it is not known which';
COMMENT ON COLUMN walarchive.segment.damage_offset IS 'place of that byte in the file';
COMMENT ON COLUMN walarchive.segment.damage IS 'what is wrong with the file; NULL: nothing that is known';

CREATE TABLE walarchive.timeline (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	timeline integer NOT NULL,
	parent_timeline integer,
	fork_lsn pg_lsn,
	first_lsn pg_lsn,
	last_lsn pg_lsn,
	segments bigint NOT NULL DEFAULT 0,
	bytes bigint NOT NULL DEFAULT 0,
	history_file boolean NOT NULL DEFAULT false,
	promoted_at timestamptz,
	PRIMARY KEY (source, system_identifier, timeline)
);
REVOKE ALL ON TABLE walarchive.timeline FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.timeline TO pg_monitor;

COMMENT ON TABLE walarchive.timeline IS 'timelines of which the archive holds WAL or a history file';
COMMENT ON COLUMN walarchive.timeline.source IS 'name of the source';
COMMENT ON COLUMN walarchive.timeline.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.timeline.timeline IS 'number of the timeline';
COMMENT ON COLUMN walarchive.timeline.parent_timeline IS 'timeline that it forked from; NULL for the first one, or if its history file is missing';
COMMENT ON COLUMN walarchive.timeline.fork_lsn IS 'where it left its parent; NULL like parent_timeline';
COMMENT ON COLUMN walarchive.timeline.first_lsn IS 'start of its first segment in the archive; NULL if there is none';
COMMENT ON COLUMN walarchive.timeline.last_lsn IS 'end of its last finished segment in the archive; NULL if there is none';
COMMENT ON COLUMN walarchive.timeline.segments IS 'number of finished segments';
COMMENT ON COLUMN walarchive.timeline.bytes IS 'size of the finished segments in bytes';
COMMENT ON COLUMN walarchive.timeline.history_file IS 'whether its history file is in the archive';
COMMENT ON COLUMN walarchive.timeline.promoted_at IS 'when the server that began it ended its recovery, as its WAL says; NULL: not decoded';

CREATE TABLE walarchive.gap (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	timeline integer NOT NULL,
	from_lsn pg_lsn NOT NULL,
	to_lsn pg_lsn NOT NULL,
	cause text NOT NULL,
	detected_at timestamptz NOT NULL,
	closed_at timestamptz,
	PRIMARY KEY (source, system_identifier, timeline, from_lsn, to_lsn, cause)
);
REVOKE ALL ON TABLE walarchive.gap FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.gap TO pg_monitor;

COMMENT ON TABLE walarchive.gap IS 'WAL that the archive should hold and does not';
COMMENT ON COLUMN walarchive.gap.source IS 'name of the source';
COMMENT ON COLUMN walarchive.gap.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.gap.timeline IS 'timeline of the missing WAL';
COMMENT ON COLUMN walarchive.gap.from_lsn IS 'first byte that is missing';
COMMENT ON COLUMN walarchive.gap.to_lsn IS 'first byte that is there again';
COMMENT ON COLUMN walarchive.gap.cause IS 'why, as the receiver saw it; missing_file: a file that should lie between others is not there';
COMMENT ON COLUMN walarchive.gap.detected_at IS 'when it was found';
COMMENT ON COLUMN walarchive.gap.closed_at IS 'when the WAL turned up, or was removed by expire() with all before it; NULL while it is missing';

-- What the records say.  Rows are known by where their record starts, so that
-- decoding it again adds nothing.

CREATE TABLE walarchive.restore_point (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	timeline integer NOT NULL,
	start_lsn pg_lsn NOT NULL,
	end_lsn pg_lsn NOT NULL,
	name text NOT NULL,
	created_at timestamptz NOT NULL,
	PRIMARY KEY (source, system_identifier, timeline, start_lsn)
);
CREATE INDEX restore_point_name_idx ON walarchive.restore_point (source, name);
REVOKE ALL ON TABLE walarchive.restore_point FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.restore_point TO pg_monitor;

COMMENT ON TABLE walarchive.restore_point IS 'named restore points in the archived WAL';
COMMENT ON COLUMN walarchive.restore_point.source IS 'name of the source';
COMMENT ON COLUMN walarchive.restore_point.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.restore_point.timeline IS 'timeline that it was made on';
COMMENT ON COLUMN walarchive.restore_point.start_lsn IS 'start of its record';
COMMENT ON COLUMN walarchive.restore_point.end_lsn IS 'end of its record, which pg_create_restore_point returned';
COMMENT ON COLUMN walarchive.restore_point.name IS 'its name; a name may have been given more than once';
COMMENT ON COLUMN walarchive.restore_point.created_at IS 'when it was made, by the clock of the server';

CREATE TABLE walarchive.parameter_change (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	timeline integer NOT NULL,
	start_lsn pg_lsn NOT NULL,
	max_connections integer NOT NULL,
	max_worker_processes integer NOT NULL,
	max_wal_senders integer NOT NULL,
	max_prepared_transactions integer NOT NULL,
	max_locks_per_transaction integer NOT NULL,
	wal_level text NOT NULL,
	wal_log_hints boolean NOT NULL,
	track_commit_timestamp boolean NOT NULL,
	PRIMARY KEY (source, system_identifier, timeline, start_lsn)
);
REVOKE ALL ON TABLE walarchive.parameter_change FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.parameter_change TO pg_monitor;

COMMENT ON TABLE walarchive.parameter_change IS 'changes of the server''s settings that a restore has to respect: recovery stops where its own are lower';
COMMENT ON COLUMN walarchive.parameter_change.source IS 'name of the source';
COMMENT ON COLUMN walarchive.parameter_change.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.parameter_change.timeline IS 'timeline of the record';
COMMENT ON COLUMN walarchive.parameter_change.start_lsn IS 'start of the record';
COMMENT ON COLUMN walarchive.parameter_change.max_connections IS 'max_connections from there on';
COMMENT ON COLUMN walarchive.parameter_change.max_worker_processes IS 'max_worker_processes from there on';
COMMENT ON COLUMN walarchive.parameter_change.max_wal_senders IS 'max_wal_senders from there on';
COMMENT ON COLUMN walarchive.parameter_change.max_prepared_transactions IS 'max_prepared_transactions from there on';
COMMENT ON COLUMN walarchive.parameter_change.max_locks_per_transaction IS 'max_locks_per_transaction from there on';
COMMENT ON COLUMN walarchive.parameter_change.wal_level IS 'wal_level from there on';
COMMENT ON COLUMN walarchive.parameter_change.wal_log_hints IS 'wal_log_hints from there on';
COMMENT ON COLUMN walarchive.parameter_change.track_commit_timestamp IS 'track_commit_timestamp from there on';

CREATE TABLE walarchive.destructive_commit (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	timeline integer NOT NULL,
	start_lsn pg_lsn NOT NULL,
	end_lsn pg_lsn NOT NULL,
	kind text NOT NULL CHECK (kind IN ('drop', 'truncate', 'rewrite', 'database')),
	xid xid NOT NULL,
	xact_time timestamptz,
	aborted boolean NOT NULL,
	database oid,
	file_count bigint NOT NULL,
	file_tablespace oid[] NOT NULL,
	file_database oid[] NOT NULL,
	file_number oid[] NOT NULL,
	relations oid[] NOT NULL,
	first_lsn pg_lsn NOT NULL,
	restore_before_lsn pg_lsn,
	restore_before_time timestamptz,
	PRIMARY KEY (source, system_identifier, timeline, start_lsn, kind)
);
REVOKE ALL ON TABLE walarchive.destructive_commit FROM PUBLIC;

COMMENT ON TABLE walarchive.destructive_commit IS 'private: transactions that dropped, truncated or rewrote relations or dropped a database; read destructive_commits() instead';
COMMENT ON COLUMN walarchive.destructive_commit.source IS 'name of the source';
COMMENT ON COLUMN walarchive.destructive_commit.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.destructive_commit.timeline IS 'timeline of the transaction''s end';
COMMENT ON COLUMN walarchive.destructive_commit.start_lsn IS 'start of the record of the transaction''s end';
COMMENT ON COLUMN walarchive.destructive_commit.end_lsn IS 'end of that record';
COMMENT ON COLUMN walarchive.destructive_commit.kind IS 'drop, truncate, rewrite (nothing is lost) or database';
COMMENT ON COLUMN walarchive.destructive_commit.xid IS 'the transaction';
COMMENT ON COLUMN walarchive.destructive_commit.xact_time IS 'when it ended, by the clock of the server; NULL: the record has no possible time';
COMMENT ON COLUMN walarchive.destructive_commit.aborted IS 'whether it aborted after what it dropped was gone';
COMMENT ON COLUMN walarchive.destructive_commit.database IS 'database that it ran in, or that is gone; NULL: not known';
COMMENT ON COLUMN walarchive.destructive_commit.file_count IS 'number of files of relations that are gone';
COMMENT ON COLUMN walarchive.destructive_commit.file_tablespace IS 'tablespaces of those files, the first 10000';
COMMENT ON COLUMN walarchive.destructive_commit.file_database IS 'databases of those files; 0: shared';
COMMENT ON COLUMN walarchive.destructive_commit.file_number IS 'numbers of those files';
COMMENT ON COLUMN walarchive.destructive_commit.relations IS 'the relations, where the WAL says which';
COMMENT ON COLUMN walarchive.destructive_commit.first_lsn IS 'start of the first record that can''t be undone';
COMMENT ON COLUMN walarchive.destructive_commit.restore_before_lsn IS 'start of the record before that: the target of a restore';
COMMENT ON COLUMN walarchive.destructive_commit.restore_before_time IS 'a time that as the target of a restore ends at the same place; NULL: there is none';

CREATE TABLE walarchive.divergence (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	timeline integer NOT NULL,
	from_lsn pg_lsn NOT NULL,
	to_lsn pg_lsn NOT NULL,
	detected_at timestamptz NOT NULL,
	PRIMARY KEY (source, system_identifier, timeline, from_lsn)
);
REVOKE ALL ON TABLE walarchive.divergence FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.divergence TO pg_monitor;

COMMENT ON TABLE walarchive.divergence IS 'archived WAL that the promoted server does not have; stranded_commits() tells what is in it';
COMMENT ON COLUMN walarchive.divergence.source IS 'name of the source';
COMMENT ON COLUMN walarchive.divergence.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.divergence.timeline IS 'timeline that was left';
COMMENT ON COLUMN walarchive.divergence.from_lsn IS 'where the server''s history leaves it';
COMMENT ON COLUMN walarchive.divergence.to_lsn IS 'end of its archived WAL when this was found';
COMMENT ON COLUMN walarchive.divergence.detected_at IS 'when it was found';

CREATE TABLE walarchive.event (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	source text NOT NULL,
	occurred_at timestamptz NOT NULL,
	kind text NOT NULL,
	severity text NOT NULL,
	message text,
	system_identifier bigint,
	timeline integer,
	from_lsn pg_lsn,
	to_lsn pg_lsn,
	cause text,
	label text,
	journal_offset bigint
);
CREATE UNIQUE INDEX event_journal_idx ON walarchive.event (source, journal_offset);
CREATE INDEX event_time_idx ON walarchive.event (occurred_at);
REVOKE ALL ON TABLE walarchive.event FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.event TO pg_monitor;
REVOKE ALL ON SEQUENCE walarchive.event_id_seq FROM PUBLIC;
GRANT SELECT ON SEQUENCE walarchive.event_id_seq TO pg_monitor;

COMMENT ON TABLE walarchive.event IS 'what happened to the sources, from their journals; the events of a dropped source stay';
COMMENT ON COLUMN walarchive.event.id IS 'number of the event in this catalog';
COMMENT ON COLUMN walarchive.event.source IS 'name of the source';
COMMENT ON COLUMN walarchive.event.occurred_at IS 'when it happened';
COMMENT ON COLUMN walarchive.event.kind IS 'connected, disconnected, state, slot_created, timeline, divergence, gap, gap_closed, suspect_file, cluster, adopted, archive_lost, dropped, backup_started, backup_finished, backup_failed, backup_deleted, backup_lost, ...';
COMMENT ON COLUMN walarchive.event.severity IS 'info, warning or critical';
COMMENT ON COLUMN walarchive.event.message IS 'what happened, for a person';
COMMENT ON COLUMN walarchive.event.system_identifier IS 'cluster that it is about, if any';
COMMENT ON COLUMN walarchive.event.timeline IS 'timeline that it is about, if any';
COMMENT ON COLUMN walarchive.event.from_lsn IS 'start of the WAL that it is about, if any';
COMMENT ON COLUMN walarchive.event.to_lsn IS 'end of the WAL that it is about, if any';
COMMENT ON COLUMN walarchive.event.cause IS 'cause of a state or a gap';
COMMENT ON COLUMN walarchive.event.label IS 'backup that it is about, if any';
COMMENT ON COLUMN walarchive.event.journal_offset IS 'byte of the source''s journal where it stands; NULL: not in a journal, or in that of an earlier source of the same name';

-- How far the indexer has come.  No row: nothing is indexed yet, so that an
-- empty catalog asks for a full pass by itself.
CREATE TABLE walarchive.index_progress (
	source text PRIMARY KEY,
	journal_offset bigint NOT NULL DEFAULT 0,
	full_pass_at timestamptz,
	runs_stale boolean NOT NULL DEFAULT true,
	windows_stale boolean NOT NULL DEFAULT true
);
REVOKE ALL ON TABLE walarchive.index_progress FROM PUBLIC;

COMMENT ON TABLE walarchive.index_progress IS 'private: how much of each source''s journal and files is in the catalog';
COMMENT ON COLUMN walarchive.index_progress.source IS 'name of the source';
COMMENT ON COLUMN walarchive.index_progress.journal_offset IS 'byte of the journal up to which it has been read';
COMMENT ON COLUMN walarchive.index_progress.full_pass_at IS 'when the whole directory was last compared with the catalog; NULL: never';
COMMENT ON COLUMN walarchive.index_progress.runs_stale IS 'whether wal_run is to be derived anew';
COMMENT ON COLUMN walarchive.index_progress.windows_stale IS 'whether states and windows of backups are to be derived anew';

-- Where the decoder goes on in each timeline.
CREATE TABLE walarchive.decode_progress (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	timeline integer NOT NULL,
	next_lsn pg_lsn NOT NULL,
	need_lsn pg_lsn NOT NULL,
	resync boolean NOT NULL,
	exhausted boolean NOT NULL,
	state text,
	commit_lsn pg_lsn,
	commit_xid xid,
	commit_time timestamptz,
	failures integer NOT NULL DEFAULT 0,
	failed_lsn pg_lsn,
	PRIMARY KEY (source, system_identifier, timeline)
);
REVOKE ALL ON TABLE walarchive.decode_progress FROM PUBLIC;

COMMENT ON TABLE walarchive.decode_progress IS 'private: how far each timeline is decoded';
COMMENT ON COLUMN walarchive.decode_progress.source IS 'name of the source';
COMMENT ON COLUMN walarchive.decode_progress.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.decode_progress.timeline IS 'the timeline';
COMMENT ON COLUMN walarchive.decode_progress.next_lsn IS 'start of the first record that is not decoded yet';
COMMENT ON COLUMN walarchive.decode_progress.need_lsn IS 'before this byte is there it can''t be';
COMMENT ON COLUMN walarchive.decode_progress.resync IS 'next_lsn is the start of a segment whose predecessor is not readable: a record''s remains come first';
COMMENT ON COLUMN walarchive.decode_progress.exhausted IS 'all that the files hold is decoded; a pass over all files looks again';
COMMENT ON COLUMN walarchive.decode_progress.state IS 'what the decoder remembers of transactions in progress';
COMMENT ON COLUMN walarchive.decode_progress.commit_lsn IS 'end of the latest commit that was decoded';
COMMENT ON COLUMN walarchive.decode_progress.commit_xid IS 'its transaction';
COMMENT ON COLUMN walarchive.decode_progress.commit_time IS 'its time, by the clock of the server';
COMMENT ON COLUMN walarchive.decode_progress.failures IS 'how often the decoder died at failed_lsn, one after the other';
COMMENT ON COLUMN walarchive.decode_progress.failed_lsn IS 'the record at which it died last; NULL: it did not';
