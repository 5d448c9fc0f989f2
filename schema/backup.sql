-- Base backups.  A row for each one that is there, made from the backup.json in
-- its folder, and for each attempt that failed, made from the journal.

CREATE TABLE walarchive.backup (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	label text NOT NULL,
	kind text NOT NULL CHECK (kind IN ('full', 'incremental')),
	parent text,
	state text NOT NULL CHECK (state IN ('waiting', 'usable', 'broken', 'failed', 'deleting')),
	reason text,
	timeline integer,
	start_lsn pg_lsn,
	stop_timeline integer,
	stop_lsn pg_lsn,
	consistent_lsn pg_lsn,
	started_at timestamptz,
	finished_at timestamptz,
	server_version integer,
	from_standby boolean,
	compression text,
	checksum_algorithm text,
	manifest_sha256 text,
	size bigint,
	data_size bigint,
	files bigint,
	checksum_failures bigint,
	tablespaces text,
	earliest_target_time timestamptz,
	first_commit_lsn pg_lsn,
	first_commit_time timestamptz,
	pinned_until timestamptz,
	pin_note text,
	annotation text,
	verified_at timestamptz,
	damage text,
	info_problem text,
	edge_lsn pg_lsn,
	edge_time timestamptz,
	notes_revision bigint NOT NULL DEFAULT 0,
	notes_written bigint NOT NULL DEFAULT 0,
	PRIMARY KEY (source, system_identifier, label)
);
CREATE INDEX backup_start_idx ON walarchive.backup (source, system_identifier, timeline, start_lsn);
-- few rows among many, asked for with each piece of WAL that is decoded
CREATE INDEX backup_open_idx ON walarchive.backup (source, system_identifier)
	WHERE state = 'waiting' OR (state = 'usable' AND first_commit_lsn IS NULL);
REVOKE ALL ON TABLE walarchive.backup FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.backup TO pg_monitor;

COMMENT ON TABLE walarchive.backup IS 'base backups in the archive, and attempts that failed';
COMMENT ON COLUMN walarchive.backup.source IS 'name of the source';
COMMENT ON COLUMN walarchive.backup.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.backup.label IS 'its name, and that of its folder';
COMMENT ON COLUMN walarchive.backup.kind IS 'full or incremental';
COMMENT ON COLUMN walarchive.backup.parent IS 'label of the backup that an incremental one builds on';
COMMENT ON COLUMN walarchive.backup.state IS
'waiting: its WAL is not archived and checked up to its end yet; usable; broken: a restore of it would fail, see reason; failed: the attempt, nothing is left of it; deleting: on its way out';
COMMENT ON COLUMN walarchive.backup.reason IS 'why it is waiting, broken or failed';
COMMENT ON COLUMN walarchive.backup.timeline IS 'timeline on which it starts';
COMMENT ON COLUMN walarchive.backup.start_lsn IS 'its redo point: a restore needs WAL from here on';
COMMENT ON COLUMN walarchive.backup.stop_timeline IS 'timeline on which it ends';
COMMENT ON COLUMN walarchive.backup.stop_lsn IS 'where it ends, as the server reported';
COMMENT ON COLUMN walarchive.backup.consistent_lsn IS 'where recovery from it is consistent: no earlier target can be reached';
COMMENT ON COLUMN walarchive.backup.started_at IS 'when it was begun, by the clock of the archive host';
COMMENT ON COLUMN walarchive.backup.finished_at IS 'when its files were whole, checked and durable; of a failed attempt: when it failed';
COMMENT ON COLUMN walarchive.backup.server_version IS 'version of the server, as in server_version_num';
COMMENT ON COLUMN walarchive.backup.from_standby IS 'whether it was taken from a server in recovery';
COMMENT ON COLUMN walarchive.backup.compression IS 'how its files are compressed: none, gzip, lz4 or zstd';
COMMENT ON COLUMN walarchive.backup.checksum_algorithm IS 'of the manifest';
COMMENT ON COLUMN walarchive.backup.manifest_sha256 IS 'SHA-256 of the file backup_manifest';
COMMENT ON COLUMN walarchive.backup.size IS 'bytes on disk';
COMMENT ON COLUMN walarchive.backup.data_size IS 'bytes of its tars, unpacked';
COMMENT ON COLUMN walarchive.backup.files IS 'files in its manifest';
COMMENT ON COLUMN walarchive.backup.checksum_failures IS 'data pages with a wrong checksum, where these were tolerated';
COMMENT ON COLUMN walarchive.backup.tablespaces IS 'oid and path of each further tablespace, a line each';
COMMENT ON COLUMN walarchive.backup.earliest_target_time IS
'the latest commit time before consistent_lsn: no recovery_target_time before it can be reached; NULL: there is no such commit, or it is not known yet';
COMMENT ON COLUMN walarchive.backup.first_commit_lsn IS 'end of the first commit record after consistent_lsn; NULL: none yet';
COMMENT ON COLUMN walarchive.backup.first_commit_time IS 'time of that commit';
COMMENT ON COLUMN walarchive.backup.pinned_until IS 'it is neither expired nor deleted before; infinity: never; NULL: not pinned';
COMMENT ON COLUMN walarchive.backup.pin_note IS 'why it is pinned';
COMMENT ON COLUMN walarchive.backup.annotation IS 'what somebody noted of it';
COMMENT ON COLUMN walarchive.backup.verified_at IS 'when its files were last read again and found right; NULL: not since it was taken';
COMMENT ON COLUMN walarchive.backup.damage IS 'what was found wrong with its files; NULL: nothing';
COMMENT ON COLUMN walarchive.backup.info_problem IS 'private: why its backup.json can''t be read; NULL: it can';
COMMENT ON COLUMN walarchive.backup.edge_lsn IS 'private: up to here its WAL was looked at transaction by transaction: the end of a segment, or of what was decoded then';
COMMENT ON COLUMN walarchive.backup.edge_time IS 'private: the latest commit or abort time between start_lsn and edge_lsn';
COMMENT ON COLUMN walarchive.backup.notes_revision IS 'private: grows when pin or annotation change';
COMMENT ON COLUMN walarchive.backup.notes_written IS 'private: the revision that notes.json has';
