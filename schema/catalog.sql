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
	first_commit_time timestamptz,
	last_commit_time timestamptz,
	commits bigint,
	aborts bigint,
	min_xid xid8,
	max_xid xid8,
	checked_at timestamptz,
	PRIMARY KEY (source, system_identifier, timeline, start_lsn)
);
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
COMMENT ON COLUMN walarchive.segment.first_commit_time IS 'time of the first commit or abort in it; NULL if there is none or it is not decoded';
COMMENT ON COLUMN walarchive.segment.last_commit_time IS 'time of the last commit or abort in it; NULL if there is none or it is not decoded';
COMMENT ON COLUMN walarchive.segment.commits IS 'number of commits; NULL: not decoded';
COMMENT ON COLUMN walarchive.segment.aborts IS 'number of aborts; NULL: not decoded';
COMMENT ON COLUMN walarchive.segment.min_xid IS 'lowest transaction that ended in it; NULL if there is none or it is not decoded';
COMMENT ON COLUMN walarchive.segment.max_xid IS 'highest transaction that ended in it; NULL if there is none or it is not decoded';
COMMENT ON COLUMN walarchive.segment.checked_at IS 'when its records were last read with their checksums; NULL: never';

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
COMMENT ON COLUMN walarchive.gap.closed_at IS 'when the WAL turned up; NULL while it is missing';

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
COMMENT ON COLUMN walarchive.event.kind IS 'connected, disconnected, state, slot_created, timeline, divergence, gap, gap_closed, suspect_file, cluster, adopted, archive_lost, dropped, ...';
COMMENT ON COLUMN walarchive.event.severity IS 'info, warning or critical';
COMMENT ON COLUMN walarchive.event.message IS 'what happened, for a person';
COMMENT ON COLUMN walarchive.event.system_identifier IS 'cluster that it is about, if any';
COMMENT ON COLUMN walarchive.event.timeline IS 'timeline that it is about, if any';
COMMENT ON COLUMN walarchive.event.from_lsn IS 'start of the WAL that it is about, if any';
COMMENT ON COLUMN walarchive.event.to_lsn IS 'end of the WAL that it is about, if any';
COMMENT ON COLUMN walarchive.event.cause IS 'cause of a state or a gap';
COMMENT ON COLUMN walarchive.event.journal_offset IS 'byte of the source''s journal where it stands; NULL: not in a journal, or in that of an earlier source of the same name';

-- How far the indexer has come.  No row: nothing is indexed yet, so that an
-- empty catalog asks for a full pass by itself.
CREATE TABLE walarchive.index_progress (
	source text PRIMARY KEY,
	journal_offset bigint NOT NULL DEFAULT 0,
	full_pass_at timestamptz
);
REVOKE ALL ON TABLE walarchive.index_progress FROM PUBLIC;

COMMENT ON TABLE walarchive.index_progress IS 'private: how much of each source''s journal and files is in the catalog';
COMMENT ON COLUMN walarchive.index_progress.source IS 'name of the source';
COMMENT ON COLUMN walarchive.index_progress.journal_offset IS 'byte of the journal up to which it has been read';
COMMENT ON COLUMN walarchive.index_progress.full_pass_at IS 'when the whole directory was last compared with the catalog; NULL: never';
