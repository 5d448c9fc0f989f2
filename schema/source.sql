-- Sources: the servers whose WAL is archived.  A row is what the operator
-- says; the indexer writes it to <source>/source.json, which is what runs.

CREATE TABLE walarchive.source (
	name text PRIMARY KEY,
	conninfo text NOT NULL,
	backup_conninfo text,
	slot_name text NOT NULL,
	start_lsn pg_lsn,
	allow_standby boolean NOT NULL DEFAULT false,
	on_gap text NOT NULL DEFAULT 'continue' CHECK (on_gap IN ('continue', 'stop')),
	heartbeat_interval interval CHECK (heartbeat_interval BETWEEN '1 s' AND '7 days'),
	relation_names_interval interval DEFAULT '10 minutes' CHECK (relation_names_interval BETWEEN '10 s' AND '7 days'),
	backup_full_interval interval CHECK (backup_full_interval BETWEEN '10 s' AND '366 days'),
	backup_incremental_interval interval CHECK (backup_incremental_interval BETWEEN '10 s' AND '366 days'),
	backup_window_start time,
	backup_window_end time,
	backup_jitter interval CHECK (backup_jitter BETWEEN '0' AND '366 days'),
	backup_compression text,
	backup_max_rate integer CHECK (backup_max_rate BETWEEN 32 AND 1048576),
	backup_scheduled_at timestamptz,
	state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'dropping')),
	drop_slot boolean NOT NULL DEFAULT false,
	delete_files boolean NOT NULL DEFAULT false,
	system_identifier bigint,
	revision bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	-- a schedule is there or not
	CHECK ((backup_full_interval IS NULL) = (backup_scheduled_at IS NULL)
		   AND (backup_full_interval IS NULL) = (backup_compression IS NULL)
		   AND (backup_window_start IS NULL) = (backup_window_end IS NULL)
		   AND backup_window_start <> backup_window_end
		   AND (backup_full_interval IS NOT NULL OR coalesce(backup_incremental_interval, backup_jitter) IS NULL))
);
SELECT pg_catalog.pg_extension_config_dump('walarchive.source', '');

-- every column but the two connection strings
REVOKE ALL ON TABLE walarchive.source FROM PUBLIC;
GRANT SELECT (name, slot_name, start_lsn, allow_standby, on_gap, heartbeat_interval,
			  relation_names_interval, backup_full_interval, backup_incremental_interval, backup_window_start,
			  backup_window_end, backup_jitter, backup_compression, backup_max_rate, backup_scheduled_at, state, drop_slot, delete_files, system_identifier, revision, created_at) ON TABLE walarchive.source TO pg_monitor;

COMMENT ON TABLE walarchive.source IS
'servers whose WAL is archived; changed by add_source, alter_source, pause_source, resume_source, drop_source, accept_new_cluster and attach_source';
COMMENT ON COLUMN walarchive.source.name IS 'name of the source, of its folder and of a part of its slot';
COMMENT ON COLUMN walarchive.source.conninfo IS 'how the server is reached; readable by superusers alone';
COMMENT ON COLUMN walarchive.source.backup_conninfo IS 'how the server is reached that base backups are taken from, a standby for example; NULL: as in conninfo; readable by superusers alone';
COMMENT ON COLUMN walarchive.source.slot_name IS 'physical replication slot on the server';
COMMENT ON COLUMN walarchive.source.start_lsn IS 'where an empty archive begins; NULL: where the slot or the server''s WAL begins';
COMMENT ON COLUMN walarchive.source.allow_standby IS 'whether a server in recovery may be archived';
COMMENT ON COLUMN walarchive.source.on_gap IS 'continue: record WAL that the server has removed as a gap and go on; stop: wait for the operator';
COMMENT ON COLUMN walarchive.source.heartbeat_interval IS 'an idle server is made to commit this often; NULL: never';
COMMENT ON COLUMN walarchive.source.relation_names_interval IS 'how often the server is asked for the names of its relations; NULL: never';
COMMENT ON COLUMN walarchive.source.backup_full_interval IS 'a full backup is taken this often; NULL: backups are not scheduled';
COMMENT ON COLUMN walarchive.source.backup_incremental_interval IS 'an incremental backup is taken this often; NULL: none';
COMMENT ON COLUMN walarchive.source.backup_window_start IS 'scheduled backups begin at this local time or later; NULL: at any time';
COMMENT ON COLUMN walarchive.source.backup_window_end IS 'and before this one';
COMMENT ON COLUMN walarchive.source.backup_jitter IS 'the sources'' first backups, or the openings of their windows, are spread over so much time';
COMMENT ON COLUMN walarchive.source.backup_compression IS 'of scheduled backups, as take_backup takes it';
COMMENT ON COLUMN walarchive.source.backup_max_rate IS 'of scheduled backups, in kB per second; NULL: no limit';
COMMENT ON COLUMN walarchive.source.backup_scheduled_at IS 'when the schedule was set';
COMMENT ON COLUMN walarchive.source.state IS 'what the operator wants: active, paused or dropping';
COMMENT ON COLUMN walarchive.source.drop_slot IS 'when dropping: whether the slot on the server is dropped as well';
COMMENT ON COLUMN walarchive.source.delete_files IS 'when dropping: whether the archived files are deleted as well';
COMMENT ON COLUMN walarchive.source.system_identifier IS 'cluster that is archived; NULL until the server was reached for the first time';
COMMENT ON COLUMN walarchive.source.revision IS 'grows with every change of settings that the receiver has to know';
COMMENT ON COLUMN walarchive.source.created_at IS 'when the source was added to this catalog';

CREATE FUNCTION walarchive.check_source_name(name text)
RETURNS void
LANGUAGE c IMMUTABLE
AS 'MODULE_PATHNAME', 'wa_check_source_name';
REVOKE ALL ON FUNCTION walarchive.check_source_name(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.check_source_name(text) IS
'private: raise an error if this is not a possible name of a source';

CREATE FUNCTION walarchive.check_slot_name(slot_name text)
RETURNS void
LANGUAGE c IMMUTABLE
AS 'MODULE_PATHNAME', 'wa_check_slot_name';
REVOKE ALL ON FUNCTION walarchive.check_slot_name(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.check_slot_name(text) IS
'private: raise an error if this is not a possible name of a replication slot';

CREATE FUNCTION walarchive.default_slot_name(name text)
RETURNS text
LANGUAGE c IMMUTABLE STRICT
AS 'MODULE_PATHNAME', 'wa_slot_name_of';
REVOKE ALL ON FUNCTION walarchive.default_slot_name(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.default_slot_name(text) IS
'private: the slot name of a source that was given none';

CREATE FUNCTION walarchive.archive_folder_in_use(name text)
RETURNS boolean
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'wa_archive_folder_in_use';
REVOKE ALL ON FUNCTION walarchive.archive_folder_in_use(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.archive_folder_in_use(text) IS
'private: whether a source''s folder holds settings or WAL';

CREATE FUNCTION walarchive.archived_settings(
	name text,
	OUT conninfo text,
	OUT slot_name text,
	OUT start_lsn pg_lsn,
	OUT allow_standby boolean,
	OUT on_gap text,
	OUT system_identifier bigint,
	OUT revision bigint,
	OUT heartbeat_interval interval,
	OUT relation_names_interval interval,
	OUT backup_conninfo text,
	OUT backup_full_interval interval,
	OUT backup_incremental_interval interval,
	OUT backup_window_start time,
	OUT backup_window_end time,
	OUT backup_jitter interval,
	OUT backup_compression text,
	OUT backup_max_rate integer,
	OUT backup_scheduled_at timestamptz)
RETURNS SETOF record
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'wa_archived_settings';
REVOKE ALL ON FUNCTION walarchive.archived_settings(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.archived_settings(text) IS
'private: the settings in a source''s folder, an interval of 0 for what is off; no row if there are none';

CREATE FUNCTION walarchive.adopt_directory(name text, system_identifier bigint)
RETURNS bigint
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'wa_adopt_directory';
REVOKE ALL ON FUNCTION walarchive.adopt_directory(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.adopt_directory(text, bigint) IS
'private: bring a directory of pg_receivewal into an archive''s layout; returns the cluster that is continued, NULL if the folder holds no WAL';

CREATE FUNCTION walarchive.archive_clusters(
	source text,
	OUT system_identifier bigint,
	OUT segment_size integer)
RETURNS SETOF record
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'wa_archive_clusters';
REVOKE ALL ON FUNCTION walarchive.archive_clusters(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.archive_clusters(text) IS
'private: the clusters in a source''s folder';

CREATE FUNCTION walarchive.archive_files(
	source text,
	system_identifier bigint,
	OUT kind text,
	OUT timeline integer,
	OUT name text,
	OUT start_lsn pg_lsn,
	OUT size bigint,
	OUT parent_timeline integer,
	OUT fork_lsn pg_lsn)
RETURNS SETOF record
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'wa_archive_files';
REVOKE ALL ON FUNCTION walarchive.archive_files(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.archive_files(text, bigint) IS
'private: the segment, partial and history files of a cluster in a source''s folder';

CREATE FUNCTION walarchive.archive_file_exists(source text, system_identifier bigint, name text)
RETURNS boolean
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'wa_archive_file_exists';
REVOKE ALL ON FUNCTION walarchive.archive_file_exists(text, bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.archive_file_exists(text, bigint, text) IS
'private: whether a segment is in the archive, finished or partial';

CREATE FUNCTION walarchive.journal_lines(
	source text,
	from_offset bigint,
	OUT line_offset bigint,
	OUT next_offset bigint,
	OUT occurred_at timestamptz,
	OUT kind text,
	OUT severity text,
	OUT message text,
	OUT system_identifier bigint,
	OUT timeline integer,
	OUT parent integer,
	OUT from_lsn pg_lsn,
	OUT to_lsn pg_lsn,
	OUT cause text,
	OUT label text,
	OUT backup_kind text)
RETURNS SETOF record
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'wa_journal_lines';
REVOKE ALL ON FUNCTION walarchive.journal_lines(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.journal_lines(text, bigint) IS
'private: the lines of a source''s journal from a byte on';
