-- Verification: checksums of files, damage that was found, and progress of
-- long work.

CREATE FUNCTION walarchive.progress_state(
	OUT kind text,
	OUT pid integer,
	OUT source text,
	OUT system_identifier bigint,
	OUT phase text,
	OUT files_total bigint,
	OUT files_done bigint,
	OUT bytes_total bigint,
	OUT bytes_done bigint,
	OUT current_file text,
	OUT damaged bigint,
	OUT started_at timestamptz)
RETURNS SETOF record
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'wa_progress_state';
REVOKE ALL ON FUNCTION walarchive.progress_state() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION walarchive.progress_state() TO pg_monitor;
COMMENT ON FUNCTION walarchive.progress_state() IS
'private: long work that is under way; read stat_progress_verify and stat_progress_index instead';

CREATE VIEW walarchive.stat_progress_verify AS
SELECT p.pid, p.source, p.system_identifier, p.phase, p.files_total, p.files_done,
	   p.bytes_total, p.bytes_done, p.current_file, p.damaged, p.started_at
FROM walarchive.progress_state() p
WHERE p.kind = 'verify';
REVOKE ALL ON TABLE walarchive.stat_progress_verify FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.stat_progress_verify TO pg_monitor;

COMMENT ON VIEW walarchive.stat_progress_verify IS 'verifications that are under way';
COMMENT ON COLUMN walarchive.stat_progress_verify.pid IS 'process of the upkeep worker';
COMMENT ON COLUMN walarchive.stat_progress_verify.source IS 'name of the source';
COMMENT ON COLUMN walarchive.stat_progress_verify.system_identifier IS 'cluster whose files are verified';
COMMENT ON COLUMN walarchive.stat_progress_verify.phase IS 'listing files, comparing checksums, verifying histories, or verifying segments';
COMMENT ON COLUMN walarchive.stat_progress_verify.files_total IS 'files to verify; NULL while they are being listed';
COMMENT ON COLUMN walarchive.stat_progress_verify.files_done IS 'files verified';
COMMENT ON COLUMN walarchive.stat_progress_verify.bytes_total IS 'size of the files to verify; NULL while they are being listed';
COMMENT ON COLUMN walarchive.stat_progress_verify.bytes_done IS 'bytes verified';
COMMENT ON COLUMN walarchive.stat_progress_verify.current_file IS 'file that is being read; NULL: none';
COMMENT ON COLUMN walarchive.stat_progress_verify.damaged IS 'damaged files found';
COMMENT ON COLUMN walarchive.stat_progress_verify.started_at IS 'when the verification began';

CREATE VIEW walarchive.stat_progress_index AS
SELECT p.pid, p.source, p.system_identifier, p.phase, p.files_total, p.files_done,
	   p.bytes_total, p.bytes_done, p.current_file, p.started_at
FROM walarchive.progress_state() p
WHERE p.kind = 'index';
REVOKE ALL ON TABLE walarchive.stat_progress_index FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.stat_progress_index TO pg_monitor;

COMMENT ON VIEW walarchive.stat_progress_index IS 'indexers that are catching up with a source''s WAL';
COMMENT ON COLUMN walarchive.stat_progress_index.pid IS 'process of the indexer';
COMMENT ON COLUMN walarchive.stat_progress_index.source IS 'name of the source';
COMMENT ON COLUMN walarchive.stat_progress_index.system_identifier IS 'cluster whose WAL is indexed';
COMMENT ON COLUMN walarchive.stat_progress_index.phase IS 'what the indexer is at';
COMMENT ON COLUMN walarchive.stat_progress_index.files_total IS 'files to index; NULL: not known';
COMMENT ON COLUMN walarchive.stat_progress_index.files_done IS 'files indexed; NULL: not known';
COMMENT ON COLUMN walarchive.stat_progress_index.bytes_total IS 'bytes to index; NULL: not known';
COMMENT ON COLUMN walarchive.stat_progress_index.bytes_done IS 'bytes indexed; NULL: not known';
COMMENT ON COLUMN walarchive.stat_progress_index.current_file IS 'file that is being read; NULL: none';
COMMENT ON COLUMN walarchive.stat_progress_index.started_at IS 'when this work began';
