-- Base backups are taken by workers; these functions ask for one, cancel it and
-- show how far it is.

CREATE FUNCTION walarchive.take_backup(
	source text,
	kind text DEFAULT 'full',
	label text DEFAULT NULL,
	parent text DEFAULT NULL,
	checkpoint text DEFAULT 'fast',
	compression text DEFAULT 'none',
	max_rate integer DEFAULT NULL,
	verify_checksums boolean DEFAULT true,
	manifest_checksums text DEFAULT 'SHA256',
	conninfo text DEFAULT NULL,
	wait boolean DEFAULT true,
	annotation text DEFAULT NULL)
RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'wa_take_backup';
REVOKE ALL ON FUNCTION walarchive.take_backup(text, text, text, text, text, text, integer, boolean, text, text, boolean, text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.take_backup(text, text, text, text, text, text, integer, boolean, text, text, boolean, text) IS
'take a base backup of a source, and wait until its WAL is archived and checked, too, unless told not to; returns its label';

CREATE FUNCTION walarchive.cancel_backup(source text)
RETURNS boolean
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'wa_cancel_backup';
REVOKE ALL ON FUNCTION walarchive.cancel_backup(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.cancel_backup(text) IS
'have the backup that is being taken of a source given up; false if there is none';

CREATE FUNCTION walarchive.backup_state(
	OUT pid integer,
	OUT source text,
	OUT label text,
	OUT kind text,
	OUT parent text,
	OUT scheduled boolean,
	OUT system_identifier bigint,
	OUT phase text,
	OUT backup_total bigint,
	OUT backup_streamed bigint,
	OUT bytes_written bigint,
	OUT tablespaces_total bigint,
	OUT tablespaces_streamed bigint,
	OUT timeline bigint,
	OUT start_lsn pg_lsn,
	OUT stop_lsn pg_lsn,
	OUT started_at timestamptz,
	OUT phase_since timestamptz)
RETURNS SETOF record
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED ROWS 16
AS 'MODULE_PATHNAME', 'wa_backup_state';
REVOKE ALL ON FUNCTION walarchive.backup_state() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION walarchive.backup_state() TO pg_monitor;
COMMENT ON FUNCTION walarchive.backup_state() IS
'private: base backups that are being taken; read stat_progress_backup instead';

CREATE VIEW walarchive.stat_progress_backup AS
SELECT b.pid, b.source, b.label, b.kind, b.parent, b.scheduled, b.system_identifier, b.phase, b.backup_total,
	b.backup_streamed, b.tablespaces_total, b.tablespaces_streamed, b.bytes_written, b.timeline, b.start_lsn,
	b.stop_lsn, b.started_at, b.phase_since
FROM walarchive.backup_state() b;
REVOKE ALL ON TABLE walarchive.stat_progress_backup FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.stat_progress_backup TO pg_monitor;
COMMENT ON VIEW walarchive.stat_progress_backup IS 'base backups that are being taken: one row for each worker';
COMMENT ON COLUMN walarchive.stat_progress_backup.pid IS 'process ID of the worker';
COMMENT ON COLUMN walarchive.stat_progress_backup.source IS 'name of the source';
COMMENT ON COLUMN walarchive.stat_progress_backup.label IS 'what the backup will be called';
COMMENT ON COLUMN walarchive.stat_progress_backup.kind IS 'full or incremental';
COMMENT ON COLUMN walarchive.stat_progress_backup.parent IS 'label of the backup that an incremental one builds on; NULL: none, or not chosen yet';
COMMENT ON COLUMN walarchive.stat_progress_backup.scheduled IS 'whether it was started by the schedule';
COMMENT ON COLUMN walarchive.stat_progress_backup.system_identifier IS 'system identifier of the cluster; NULL: not known yet';
COMMENT ON COLUMN walarchive.stat_progress_backup.phase IS
'initializing, sending the parent''s manifest, waiting for checkpoint to finish, estimating backup size, streaming database files, checking and syncing files, waiting for wal archiving to finish';
COMMENT ON COLUMN walarchive.stat_progress_backup.backup_total IS 'bytes that will be streamed, as the server estimates; NULL: not known yet';
COMMENT ON COLUMN walarchive.stat_progress_backup.backup_streamed IS 'bytes that the server has streamed, uncompressed';
COMMENT ON COLUMN walarchive.stat_progress_backup.tablespaces_total IS 'tablespaces that will be streamed; NULL: not known yet';
COMMENT ON COLUMN walarchive.stat_progress_backup.tablespaces_streamed IS 'tablespaces that are here';
COMMENT ON COLUMN walarchive.stat_progress_backup.bytes_written IS 'bytes written to the archive, compressed where asked';
COMMENT ON COLUMN walarchive.stat_progress_backup.timeline IS 'timeline on which it starts; NULL: not known yet';
COMMENT ON COLUMN walarchive.stat_progress_backup.start_lsn IS 'where it starts; NULL: not known yet';
COMMENT ON COLUMN walarchive.stat_progress_backup.stop_lsn IS 'where it ends; NULL: not known yet';
COMMENT ON COLUMN walarchive.stat_progress_backup.started_at IS 'when it was asked for';
COMMENT ON COLUMN walarchive.stat_progress_backup.phase_since IS 'when the present phase began';
