-- What the indexer runs to keep the table of backups: catalog <- folders and
-- journal, notes -> folders, and the removal of folders.

CREATE FUNCTION walarchive.archive_backups(source text, system_identifier bigint)
RETURNS jsonb
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'wa_archive_backups';
REVOKE ALL ON FUNCTION walarchive.archive_backups(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.archive_backups(text, bigint) IS
'private: the backups in a cluster''s folder, as register_backups wants them';

CREATE FUNCTION walarchive.backup_in_use(source text, system_identifier bigint, label text)
RETURNS boolean
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'wa_backup_in_use';
REVOKE ALL ON FUNCTION walarchive.backup_in_use(text, bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.backup_in_use(text, bigint, text) IS
'private: whether a backup that builds on this one is being taken';

CREATE FUNCTION walarchive.backup_running(source text)
RETURNS boolean
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'wa_backup_running';
REVOKE ALL ON FUNCTION walarchive.backup_running(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.backup_running(text) IS
'private: whether a backup of this source is being taken';

-- Bring the rows of a cluster's backups in line with the folders that are there.
-- "gone" are those whose folders somebody has removed.
CREATE FUNCTION walarchive.register_backups(
	p_source text,
	p_system_identifier bigint,
	p_found jsonb,
	OUT changed bigint,
	OUT gone text[])
RETURNS record
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	changed := -1;
	gone := '{}';
	IF NOT walarchive.lock_source_index(p_source) THEN
		RETURN;
	END IF;

	INSERT INTO walarchive.backup AS b
		(source, system_identifier, label, kind, parent, state, reason, timeline, start_lsn, stop_timeline,
		 stop_lsn, consistent_lsn, started_at, finished_at, server_version, from_standby, compression,
		 checksum_algorithm, manifest_sha256, size, data_size, files, checksum_failures, tablespaces,
		 pinned_until, pin_note, annotation, verified_at, damage, info_problem)
	SELECT p_source, p_system_identifier, f.label, coalesce(f.kind, 'full'), f.parent,
		   'waiting', 'it has not been looked at yet', f.timeline, f.start_lsn, f.stop_timeline,
		   f.stop_lsn, f.consistent_lsn, f.started_at, f.finished_at, f.server_version, f.from_standby, f.compression,
		   f.checksum_algorithm, f.manifest_sha256, f.size, f.data_size, f.files, f.checksum_failures, nullif(f.tablespaces, ''),
		   -- what can't be read may have been a pin
		   CASE WHEN f.notes_problem IS NULL THEN f.pinned_until ELSE 'infinity' END,
		   coalesce(f.notes_problem, f.pin_note), f.annotation, f.verified_at, f.damage, f.problem
	FROM pg_catalog.jsonb_to_recordset(p_found)
		 AS f (label text, problem text, kind text, parent text, timeline integer, start_lsn pg_lsn,
			   stop_timeline integer, stop_lsn pg_lsn, consistent_lsn pg_lsn, started_at timestamptz,
			   finished_at timestamptz, server_version integer, from_standby boolean, compression text,
			   checksum_algorithm text, manifest_sha256 text, size bigint, data_size bigint, files bigint,
			   checksum_failures bigint, tablespaces text, notes_problem text, pinned_until timestamptz,
			   pin_note text, annotation text, verified_at timestamptz, damage text)
	ON CONFLICT (source, system_identifier, label) DO UPDATE
		SET info_problem = excluded.info_problem,
			-- without a readable backup.json what was known stays
			kind = CASE WHEN excluded.info_problem IS NULL THEN excluded.kind ELSE b.kind END,
			parent = CASE WHEN excluded.info_problem IS NULL THEN excluded.parent ELSE b.parent END,
			timeline = coalesce(excluded.timeline, b.timeline),
			start_lsn = coalesce(excluded.start_lsn, b.start_lsn),
			stop_timeline = coalesce(excluded.stop_timeline, b.stop_timeline),
			stop_lsn = coalesce(excluded.stop_lsn, b.stop_lsn),
			consistent_lsn = coalesce(excluded.consistent_lsn, b.consistent_lsn),
			started_at = coalesce(excluded.started_at, b.started_at),
			finished_at = coalesce(excluded.finished_at, b.finished_at),
			server_version = coalesce(excluded.server_version, b.server_version),
			from_standby = coalesce(excluded.from_standby, b.from_standby),
			compression = coalesce(excluded.compression, b.compression),
			checksum_algorithm = coalesce(excluded.checksum_algorithm, b.checksum_algorithm),
			manifest_sha256 = coalesce(excluded.manifest_sha256, b.manifest_sha256),
			size = coalesce(excluded.size, b.size),
			data_size = coalesce(excluded.data_size, b.data_size),
			files = coalesce(excluded.files, b.files),
			checksum_failures = coalesce(excluded.checksum_failures, b.checksum_failures),
			tablespaces = coalesce(excluded.tablespaces, b.tablespaces),
			-- an attempt that failed, and then one of the same name that did not
			state = CASE WHEN b.state = 'failed' THEN excluded.state ELSE b.state END,
			reason = CASE WHEN b.state = 'failed' THEN excluded.reason ELSE b.reason END,
			-- another backup than before
			edge_lsn = CASE WHEN excluded.start_lsn = b.start_lsn AND excluded.stop_lsn = b.stop_lsn THEN b.edge_lsn END,
			edge_time = CASE WHEN excluded.start_lsn = b.start_lsn AND excluded.stop_lsn = b.stop_lsn THEN b.edge_time END,
			earliest_target_time = CASE WHEN excluded.start_lsn = b.start_lsn AND excluded.stop_lsn = b.stop_lsn THEN b.earliest_target_time END,
			first_commit_lsn = CASE WHEN excluded.start_lsn = b.start_lsn AND excluded.stop_lsn = b.stop_lsn THEN b.first_commit_lsn END,
			first_commit_time = CASE WHEN excluded.start_lsn = b.start_lsn AND excluded.stop_lsn = b.stop_lsn THEN b.first_commit_time END,
			-- notes that are not in the file yet win; else what either has stays, and both get it
			pinned_until = CASE WHEN b.notes_revision = b.notes_written THEN greatest(b.pinned_until, excluded.pinned_until) ELSE b.pinned_until END,
			pin_note = CASE WHEN b.notes_revision = b.notes_written AND b.pinned_until IS NULL THEN excluded.pin_note ELSE b.pin_note END,
			annotation = CASE WHEN b.notes_revision = b.notes_written THEN coalesce(b.annotation, excluded.annotation) ELSE b.annotation END,
			verified_at = CASE WHEN b.notes_revision = b.notes_written THEN greatest(b.verified_at, excluded.verified_at) ELSE b.verified_at END,
			damage = CASE WHEN b.notes_revision = b.notes_written THEN coalesce(b.damage, excluded.damage) ELSE b.damage END,
			notes_revision = b.notes_revision
				+ CASE WHEN b.notes_revision = b.notes_written
							AND (b.pinned_until, b.pin_note, b.annotation, b.verified_at, b.damage)
								IS DISTINCT FROM
								(excluded.pinned_until, excluded.pin_note, excluded.annotation, excluded.verified_at, excluded.damage)
							THEN 1 ELSE 0 END
		WHERE b.state = 'failed'
			OR (b.info_problem, b.kind, b.parent, b.manifest_sha256, b.start_lsn, b.stop_lsn, b.consistent_lsn, b.timeline,
				b.stop_timeline, b.finished_at, b.size)
			   IS DISTINCT FROM
			   (excluded.info_problem, CASE WHEN excluded.info_problem IS NULL THEN excluded.kind ELSE b.kind END,
				CASE WHEN excluded.info_problem IS NULL THEN excluded.parent ELSE b.parent END,
				coalesce(excluded.manifest_sha256, b.manifest_sha256),
				coalesce(excluded.start_lsn, b.start_lsn), coalesce(excluded.stop_lsn, b.stop_lsn),
				coalesce(excluded.consistent_lsn, b.consistent_lsn), coalesce(excluded.timeline, b.timeline),
				coalesce(excluded.stop_timeline, b.stop_timeline), coalesce(excluded.finished_at, b.finished_at),
				coalesce(excluded.size, b.size))
			OR (b.notes_revision = b.notes_written
				AND (b.pinned_until, b.pin_note, b.annotation, b.verified_at, b.damage)
					IS DISTINCT FROM
					(excluded.pinned_until, excluded.pin_note, excluded.annotation, excluded.verified_at, excluded.damage));
	GET DIAGNOSTICS changed = ROW_COUNT;

	-- those on their way out are forgotten when that is done
	WITH missing AS (
		DELETE FROM walarchive.backup b
		WHERE b.source = p_source AND b.system_identifier = p_system_identifier
			AND b.state NOT IN ('failed', 'deleting')
			AND NOT EXISTS (SELECT 1 FROM pg_catalog.jsonb_to_recordset(p_found) AS f (label text)
							WHERE f.label = b.label)
		RETURNING b.label
	)
	SELECT coalesce(pg_catalog.array_agg(m.label ORDER BY m.label), '{}') INTO gone FROM missing m;
	changed := changed + pg_catalog.cardinality(gone);
	IF changed > 0 THEN
		PERFORM walarchive.windows_changed(p_source);
	END IF;
END
$$;
REVOKE ALL ON FUNCTION walarchive.register_backups(text, bigint, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.register_backups(text, bigint, jsonb) IS
'private: enter a cluster''s backups in the catalog; returns how many rows changed, -1 if the source is gone';

-- A line of the journal about a backup.
CREATE FUNCTION walarchive.register_backup_line(
	p_source text,
	p_kind text,
	p_occurred_at timestamptz,
	p_message text,
	p_system_identifier bigint,
	p_timeline integer,
	p_from_lsn pg_lsn,
	p_label text,
	p_backup_kind text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- one that failed before it knew the cluster
	p_system_identifier := coalesce(p_system_identifier,
									(SELECT s.system_identifier FROM walarchive.source s WHERE s.name = p_source), 0);
	IF p_kind = 'backup_failed' THEN
		INSERT INTO walarchive.backup AS b
			(source, system_identifier, label, kind, state, reason, timeline, start_lsn, started_at, finished_at)
		VALUES (p_source, p_system_identifier, p_label,
				CASE WHEN p_backup_kind = 'incremental' THEN 'incremental' ELSE 'full' END, 'failed', p_message,
				p_timeline, p_from_lsn,
				(SELECT pg_catalog.max(e.occurred_at) FROM walarchive.event e
				 WHERE e.source = p_source AND e.kind = 'backup_started' AND e.label = p_label
					AND e.occurred_at <= p_occurred_at),
				p_occurred_at)
		ON CONFLICT (source, system_identifier, label) DO UPDATE
			SET kind = excluded.kind,
				reason = excluded.reason,
				timeline = excluded.timeline,
				start_lsn = excluded.start_lsn,
				started_at = excluded.started_at,
				finished_at = excluded.finished_at
			WHERE b.state = 'failed' AND b.finished_at <= excluded.finished_at;
		-- what failed long ago is of no use to anybody; the journal has it
		DELETE FROM walarchive.backup b
		WHERE b.source = p_source AND b.state = 'failed'
			AND b.finished_at < (SELECT k.finished_at FROM walarchive.backup k
								 WHERE k.source = p_source AND k.state = 'failed'
								 ORDER BY k.finished_at DESC OFFSET 19 LIMIT 1);
	ELSIF p_kind = 'backup_deleted' THEN
		DELETE FROM walarchive.backup b
		WHERE b.source = p_source AND b.system_identifier = p_system_identifier
			AND b.label = p_label AND b.state = 'failed' AND b.finished_at <= p_occurred_at;
	END IF;
END
$$;
REVOKE ALL ON FUNCTION walarchive.register_backup_line(text, text, timestamptz, text, bigint, integer, pg_lsn, text, text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.register_backup_line(text, text, timestamptz, text, bigint, integer, pg_lsn, text, text) IS
'private: enter what a line of the journal says of a backup';

-- What is to be done to the folders of a source's backups, whose rows have
-- changed.  "what" is notes, delete, or forget: a failed attempt has no folder.
CREATE FUNCTION walarchive.backup_chores(
	p_source text,
	OUT system_identifier bigint,
	OUT label text,
	OUT what text,
	OUT revision bigint,
	OUT pinned_until timestamptz,
	OUT pin_note text,
	OUT annotation text,
	OUT verified_at timestamptz,
	OUT damage text,
	OUT reason text)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT b.system_identifier, b.label,
		   CASE WHEN b.state <> 'deleting' THEN 'notes'
				WHEN b.manifest_sha256 IS NULL AND b.info_problem IS NULL THEN 'forget'
				ELSE 'delete' END,
		   b.notes_revision, b.pinned_until, b.pin_note, b.annotation, b.verified_at, b.damage, b.reason
	FROM walarchive.backup b
	WHERE b.source = p_source
		AND (b.state = 'deleting' OR (b.notes_revision <> b.notes_written AND b.state <> 'failed'))
	-- what builds on another goes before it
	ORDER BY b.start_lsn DESC, b.label
$$;
REVOKE ALL ON FUNCTION walarchive.backup_chores(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.backup_chores(text) IS
'private: notes of backups to be written, and backups to be removed';

CREATE FUNCTION walarchive.backup_notes_written(
	p_source text,
	p_system_identifier bigint,
	p_label text,
	p_revision bigint)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE walarchive.backup b
	SET notes_written = p_revision
	WHERE b.source = p_source AND b.system_identifier = p_system_identifier AND b.label = p_label
		AND b.notes_revision >= p_revision;
	RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION walarchive.backup_notes_written(text, bigint, text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.backup_notes_written(text, bigint, text, bigint) IS
'private: note that notes.json has what the row had at this revision';

CREATE FUNCTION walarchive.backup_removed(
	p_source text,
	p_system_identifier bigint,
	p_label text)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT walarchive.lock_source_index(p_source) THEN
		RETURN false;
	END IF;
	DELETE FROM walarchive.backup b
	WHERE b.source = p_source AND b.system_identifier = p_system_identifier AND b.label = p_label
		AND b.state = 'deleting';
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	PERFORM walarchive.windows_changed(p_source);
	RETURN true;
END
$$;
REVOKE ALL ON FUNCTION walarchive.backup_removed(text, bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.backup_removed(text, bigint, text) IS
'private: forget a backup whose folder is gone; false if it was forgotten already';

-- The stored files of a backup were read again.  p_damage: what is wrong with
-- them, NULL: nothing.
CREATE FUNCTION walarchive.backup_verified(
	p_source text,
	p_system_identifier bigint,
	p_label text,
	p_damage text)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT walarchive.lock_source_index(p_source) THEN
		RETURN false;
	END IF;
	UPDATE walarchive.backup b
	SET verified_at = CASE WHEN p_damage IS NULL THEN pg_catalog.clock_timestamp() ELSE b.verified_at END,
		damage = pg_catalog."left"(p_damage, 200),
		notes_revision = b.notes_revision + 1
	WHERE b.source = p_source AND b.system_identifier = p_system_identifier AND b.label = p_label
		AND b.state IN ('waiting', 'usable', 'broken');
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	PERFORM walarchive.judge_backups(p_source, p_system_identifier);
	PERFORM walarchive.windows_changed(p_source);
	PERFORM walarchive.notify_catalog_changed();
	RETURN true;
END
$$;
REVOKE ALL ON FUNCTION walarchive.backup_verified(text, bigint, text, text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.backup_verified(text, bigint, text, text) IS
'private: note what reading a backup''s files again has shown; false if the backup is gone';

CREATE FUNCTION walarchive.forget_backups(p_source text, p_keep bigint[])
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	DELETE FROM walarchive.backup_window w
	WHERE w.source = p_source AND w.system_identifier <> ALL (p_keep);
	DELETE FROM walarchive.wal_run r
	WHERE r.source = p_source AND r.system_identifier <> ALL (p_keep);
	-- an attempt may have failed before its cluster was known
	DELETE FROM walarchive.backup b
	WHERE b.source = p_source AND b.system_identifier <> ALL (p_keep)
		AND NOT (b.system_identifier = 0 AND pg_catalog.cardinality(p_keep) > 0);
$$;
REVOKE ALL ON FUNCTION walarchive.forget_backups(text, bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.forget_backups(text, bigint[]) IS
'private: forget the backups of clusters that are gone, and what was derived of them';
