-- Verification of base backups: their stored files are read again.

-- One backup's files.  p_manifest_sha256: what the catalog has; NULL: nothing.
CREATE FUNCTION walarchive.read_backup(
	p_source text,
	p_system_identifier bigint,
	p_label text,
	p_manifest_sha256 text,
	OUT file text,
	OUT problem text)
RETURNS SETOF record
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'wa_read_backup_files';
REVOKE ALL ON FUNCTION walarchive.read_backup(text, bigint, text, text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.read_backup(text, bigint, text, text) IS
'private: read a backup''s files and check them; a row for each problem';

CREATE FUNCTION walarchive.verify_backup(
	source text,
	label text,
	parents boolean DEFAULT false,
	OUT backup text,
	OUT file text,
	OUT problem text)
RETURNS SETOF record
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
	current_identifier bigint;
	b walarchive.backup;
	cluster bigint;
	wanted text := label;
	problems bigint;
	first_problem text;
	done text[] := '{}';
	damages text[] := '{}';
BEGIN
	IF source IS NULL OR label IS NULL THEN
		RAISE EXCEPTION 'name of the source and label of the backup must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	SELECT s.system_identifier INTO current_identifier FROM walarchive.source s WHERE s.name = source;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'source "%" does not exist', source
			USING ERRCODE = 'undefined_object',
				HINT = 'The table walarchive.source lists the sources.';
	END IF;

	-- no lock is held while files are read: it takes as long as it takes
	LOOP
		SELECT k.* INTO b
		FROM walarchive.backup k
		WHERE k.source = verify_backup.source AND k.label = wanted
			AND (cluster IS NULL OR k.system_identifier = cluster)
		ORDER BY k.system_identifier IS NOT DISTINCT FROM current_identifier DESC, k.started_at DESC
		LIMIT 1;
		IF NOT FOUND OR b.state IN ('failed', 'deleting') THEN
			IF wanted <> label THEN
				backup := wanted;
				file := NULL;
				problem := 'this backup, on which the others build, is not there any more';
				RETURN NEXT;
				EXIT;
			END IF;
			RAISE EXCEPTION 'source "%" has no backup "%"', source, label
				USING ERRCODE = 'undefined_object',
					DETAIL = CASE b.state WHEN 'failed' THEN 'It failed: nothing is left of it.'
										  WHEN 'deleting' THEN 'It is being deleted.'
										  ELSE 'There is none of this label.' END,
					HINT = 'The table walarchive.backup lists the backups.';
		END IF;
		cluster := b.system_identifier;
		backup := wanted;
		problems := 0;
		first_problem := NULL;
		FOR file, problem IN
			SELECT r.file, r.problem
			FROM walarchive.read_backup(source, cluster, wanted, b.manifest_sha256) r
		LOOP
			problems := problems + 1;
			first_problem := coalesce(first_problem, concat_ws(': ', file, problem));
			RETURN NEXT;
		END LOOP;
		done := done || wanted;
		damages := damages || CASE WHEN problems > 1 THEN format('%s (and %s more)', "left"(first_problem, 150), problems - 1)
								   ELSE first_problem END;
		EXIT WHEN NOT coalesce(parents, false) OR b.parent IS NULL OR b.parent = ANY (done);
		wanted := b.parent;
	END LOOP;

	FOR i IN 1 .. cardinality(done) LOOP
		PERFORM walarchive.backup_verified(source, cluster, done[i], damages[i]);
	END LOOP;
END
$$;
REVOKE ALL ON FUNCTION walarchive.verify_backup(text, text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.verify_backup(text, text, boolean) IS
'read the stored files of a backup, and on request of those that it builds on, and check each against the manifest; a row for each problem, none if all is well';

CREATE VIEW walarchive.stat_progress_verify_backup AS
SELECT p.pid, p.source, p.system_identifier, p.label, p.phase, p.files_total, p.files_done,
	   p.bytes_total, p.bytes_done, p.current_file, p.damaged, p.started_at
FROM walarchive.progress_state() p
WHERE p.kind = 'verify_backup';
REVOKE ALL ON TABLE walarchive.stat_progress_verify_backup FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.stat_progress_verify_backup TO pg_monitor;

COMMENT ON VIEW walarchive.stat_progress_verify_backup IS 'verifications of base backups that are under way';
COMMENT ON COLUMN walarchive.stat_progress_verify_backup.pid IS 'process of the session';
COMMENT ON COLUMN walarchive.stat_progress_verify_backup.source IS 'name of the source';
COMMENT ON COLUMN walarchive.stat_progress_verify_backup.system_identifier IS 'cluster that the backup is of';
COMMENT ON COLUMN walarchive.stat_progress_verify_backup.label IS 'the backup';
COMMENT ON COLUMN walarchive.stat_progress_verify_backup.phase IS 'listing files, reading archives, or comparing with the manifest';
COMMENT ON COLUMN walarchive.stat_progress_verify_backup.files_total IS 'stored archives of the backup';
COMMENT ON COLUMN walarchive.stat_progress_verify_backup.files_done IS 'archives that have been read';
COMMENT ON COLUMN walarchive.stat_progress_verify_backup.bytes_total IS 'size of the archives as they are stored';
COMMENT ON COLUMN walarchive.stat_progress_verify_backup.bytes_done IS 'bytes read';
COMMENT ON COLUMN walarchive.stat_progress_verify_backup.current_file IS 'archive that is being read; NULL: none';
COMMENT ON COLUMN walarchive.stat_progress_verify_backup.damaged IS 'problems found';
COMMENT ON COLUMN walarchive.stat_progress_verify_backup.started_at IS 'when the verification of this backup began';
