-- Verification: checksums of files, damage that was found, and progress of
-- long work.

-- What wal.sha256 says, with those lines that it has lost.
CREATE TABLE walarchive.file_sum (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	name text NOT NULL,
	sha256 bytea NOT NULL,
	in_file boolean NOT NULL DEFAULT true,
	PRIMARY KEY (source, system_identifier, name)
);
CREATE INDEX file_sum_lost_idx ON walarchive.file_sum (source, system_identifier, name) WHERE NOT in_file;
REVOKE ALL ON TABLE walarchive.file_sum FROM PUBLIC;

COMMENT ON TABLE walarchive.file_sum IS 'private: checksums of finished files, as in wal.sha256';
COMMENT ON COLUMN walarchive.file_sum.source IS 'name of the source';
COMMENT ON COLUMN walarchive.file_sum.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.file_sum.name IS 'name of a finished segment or of a history file';
COMMENT ON COLUMN walarchive.file_sum.sha256 IS 'its SHA-256, taken when its records had been checked';
COMMENT ON COLUMN walarchive.file_sum.in_file IS 'whether wal.sha256 has it; if it was lost there it is written again';

CREATE TABLE walarchive.sum_progress (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	file_offset bigint NOT NULL,
	PRIMARY KEY (source, system_identifier)
);
REVOKE ALL ON TABLE walarchive.sum_progress FROM PUBLIC;

COMMENT ON TABLE walarchive.sum_progress IS 'private: how much of each wal.sha256 is in the catalog';
COMMENT ON COLUMN walarchive.sum_progress.source IS 'name of the source';
COMMENT ON COLUMN walarchive.sum_progress.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.sum_progress.file_offset IS 'byte of wal.sha256 up to which it has been read';

CREATE TABLE walarchive.damage (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	file text NOT NULL,
	timeline integer,
	start_lsn pg_lsn,
	lsn pg_lsn,
	file_offset bigint,
	problem text NOT NULL,
	found_at timestamptz NOT NULL,
	seen_at timestamptz NOT NULL,
	PRIMARY KEY (source, system_identifier, file)
);
REVOKE ALL ON TABLE walarchive.damage FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.damage TO pg_monitor;

COMMENT ON TABLE walarchive.damage IS 'archived files that are damaged or missing, as verify() found them; a file that it finds right again leaves';
COMMENT ON COLUMN walarchive.damage.source IS 'name of the source';
COMMENT ON COLUMN walarchive.damage.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.damage.file IS 'name of the file';
COMMENT ON COLUMN walarchive.damage.timeline IS 'its timeline; NULL: it belongs to none';
COMMENT ON COLUMN walarchive.damage.start_lsn IS 'first byte of the segment; NULL: it is no segment';
COMMENT ON COLUMN walarchive.damage.lsn IS 'first byte that is known to be wrong; NULL: it is not known which';
COMMENT ON COLUMN walarchive.damage.file_offset IS 'place of that byte in the file';
COMMENT ON COLUMN walarchive.damage.problem IS 'what is wrong';
COMMENT ON COLUMN walarchive.damage.found_at IS 'when this was found first';
COMMENT ON COLUMN walarchive.damage.seen_at IS 'when it was seen last';

CREATE TABLE walarchive.verification (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	started_at timestamptz NOT NULL,
	finished_at timestamptz NOT NULL,
	verified_since timestamptz NOT NULL,
	files bigint NOT NULL,
	bytes bigint NOT NULL,
	damaged bigint NOT NULL,
	PRIMARY KEY (source, system_identifier)
);
REVOKE ALL ON TABLE walarchive.verification FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.verification TO pg_monitor;

COMMENT ON TABLE walarchive.verification IS 'the last verification of each cluster that went through all of its files';
COMMENT ON COLUMN walarchive.verification.source IS 'name of the source';
COMMENT ON COLUMN walarchive.verification.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.verification.started_at IS 'when it began';
COMMENT ON COLUMN walarchive.verification.finished_at IS 'when it ended';
COMMENT ON COLUMN walarchive.verification.verified_since IS 'every file that was there has been read after this time';
COMMENT ON COLUMN walarchive.verification.files IS 'files that it read; the others had been read before, within older_than';
COMMENT ON COLUMN walarchive.verification.bytes IS 'bytes that it read';
COMMENT ON COLUMN walarchive.verification.damaged IS 'damaged files that it found';

CREATE INDEX segment_unhashed_idx ON walarchive.segment (source, system_identifier, timeline, start_lsn)
	WHERE sha256 IS NULL AND state = 'finished';

CREATE FUNCTION walarchive.history_name(timeline integer)
RETURNS text
LANGUAGE sql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT pg_catalog.upper(pg_catalog.lpad(pg_catalog.to_hex(timeline), 8, '0')) || '.history'
$$;
REVOKE ALL ON FUNCTION walarchive.history_name(integer) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.history_name(integer) IS
'private: name of a timeline''s history file';

-- Where reading wal.sha256 goes on; -1 if the source is gone.
CREATE FUNCTION walarchive.sums_position(p_source text, p_system_identifier bigint)
RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN s.name IS NULL THEN -1 ELSE coalesce(p.file_offset, 0) END
	FROM (VALUES (p_source)) AS w (name)
		LEFT JOIN walarchive.source s ON s.name = w.name
		LEFT JOIN walarchive.sum_progress p ON p.source = w.name AND p.system_identifier = p_system_identifier
$$;
REVOKE ALL ON FUNCTION walarchive.sums_position(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.sums_position(text, bigint) IS
'private: byte up to which a wal.sha256 has been read, -1 if there is no such source';

-- wal.sha256 is shorter than it was: it is read again from its start, and what
-- it has lost is written into it again.
CREATE FUNCTION walarchive.reset_sums(p_source text, p_system_identifier bigint)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT walarchive.lock_source_index(p_source) THEN
		RETURN false;
	END IF;
	UPDATE walarchive.file_sum f SET in_file = false
	WHERE f.source = p_source AND f.system_identifier = p_system_identifier AND f.in_file;
	DELETE FROM walarchive.sum_progress p
	WHERE p.source = p_source AND p.system_identifier = p_system_identifier;
	RETURN true;
END
$$;
REVOKE ALL ON FUNCTION walarchive.reset_sums(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.reset_sums(text, bigint) IS
'private: have a wal.sha256 read again from its start; false if the source is gone';

-- Enter lines of wal.sha256, which has been read up to p_offset.  A checksum
-- that is known is never replaced: which of two is right is for verify() to say.
CREATE FUNCTION walarchive.store_sums(
	p_source text,
	p_system_identifier bigint,
	p_name text[],
	p_timeline integer[],
	p_start_lsn pg_lsn[],
	p_sha256 bytea[],
	p_offset bigint)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	stored bigint;
BEGIN
	IF NOT walarchive.lock_source_index(p_source) THEN
		RETURN -1;
	END IF;
	INSERT INTO walarchive.file_sum AS f (source, system_identifier, name, sha256)
	SELECT DISTINCT ON (l.name) p_source, p_system_identifier, l.name, l.sha256
	FROM ROWS FROM (pg_catalog.unnest(p_name), pg_catalog.unnest(p_sha256), pg_catalog.unnest(p_timeline),
					pg_catalog.unnest(p_start_lsn)) WITH ORDINALITY AS l (name, sha256, timeline, start_lsn, n)
	-- lines of files that expire() had removed may be left
	WHERE NOT (walarchive.wal_was_removed(p_source, p_system_identifier, l.timeline, l.start_lsn)
			   AND NOT EXISTS (SELECT 1 FROM walarchive.segment g
							   WHERE g.source = p_source AND g.system_identifier = p_system_identifier
								AND g.timeline = l.timeline AND g.start_lsn = l.start_lsn))
	ORDER BY l.name, l.n DESC
	ON CONFLICT (source, system_identifier, name) DO UPDATE SET in_file = true
		WHERE NOT f.in_file AND f.sha256 = excluded.sha256;
	GET DIAGNOSTICS stored = ROW_COUNT;
	UPDATE walarchive.segment s
	SET sha256 = f.sha256
	FROM ROWS FROM (pg_catalog.unnest(p_name), pg_catalog.unnest(p_timeline), pg_catalog.unnest(p_start_lsn))
			AS l (name, timeline, start_lsn)
		JOIN walarchive.file_sum f ON f.source = p_source AND f.system_identifier = p_system_identifier AND f.name = l.name
	WHERE s.source = p_source AND s.system_identifier = p_system_identifier
		AND s.timeline = l.timeline AND s.start_lsn = l.start_lsn
		AND s.state = 'finished' AND s.sha256 IS DISTINCT FROM f.sha256;
	INSERT INTO walarchive.sum_progress AS o (source, system_identifier, file_offset)
	VALUES (p_source, p_system_identifier, p_offset)
	ON CONFLICT (source, system_identifier) DO UPDATE SET file_offset = excluded.file_offset;
	RETURN stored;
END
$$;
REVOKE ALL ON FUNCTION walarchive.store_sums(text, bigint, text[], integer[], pg_lsn[], bytea[], bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.store_sums(text, bigint, text[], integer[], pg_lsn[], bytea[], bigint) IS
'private: enter lines of wal.sha256 in the catalog; returns how many were new, -1 if the source is gone';

-- The finished files that have no checksum and may get one: segments whose
-- records have been checked (or are of a major that we don't know), histories.
-- A segment that was registered anew gets the one that is known.
CREATE FUNCTION walarchive.files_to_hash(
	p_source text,
	p_system_identifier bigint,
	p_limit integer,
	OUT name text,
	OUT timeline integer,
	OUT start_lsn pg_lsn,
	OUT size bigint,
	OUT known bytea)
RETURNS SETOF record
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
	IF NOT walarchive.lock_source_index(p_source) THEN
		RETURN;
	END IF;
	start_lsn := NULL;
	size := NULL;
	FOR name, timeline IN
		SELECT walarchive.history_name(t.timeline), t.timeline
		FROM walarchive.timeline t
		WHERE t.source = p_source AND t.system_identifier = p_system_identifier AND t.history_file
			AND NOT EXISTS (SELECT 1 FROM walarchive.file_sum f
							WHERE f.source = p_source AND f.system_identifier = p_system_identifier
								AND f.name = walarchive.history_name(t.timeline))
			AND NOT EXISTS (SELECT 1 FROM walarchive.damage d
							WHERE d.source = p_source AND d.system_identifier = p_system_identifier
								AND d.file = walarchive.history_name(t.timeline))
		LIMIT p_limit
	LOOP
		RETURN NEXT;
	END LOOP;
	FOR name, timeline, start_lsn, size IN
		SELECT s.name, s.timeline, s.start_lsn, s.size
		FROM walarchive.segment s
		WHERE s.source = p_source AND s.system_identifier = p_system_identifier
			AND s.sha256 IS NULL AND s.state = 'finished'
			AND s.decode_state IN ('decoded', 'unknown') AND s.damage IS NULL
		ORDER BY s.timeline, s.start_lsn
		LIMIT p_limit
	LOOP
		known := NULL;
		SELECT f.sha256 INTO known
		FROM walarchive.file_sum f
		WHERE f.source = p_source AND f.system_identifier = p_system_identifier AND f.name = files_to_hash.name;
		IF known IS NOT NULL THEN
			UPDATE walarchive.segment s SET sha256 = known
			WHERE s.source = p_source AND s.system_identifier = p_system_identifier
				AND s.timeline = files_to_hash.timeline AND s.start_lsn = files_to_hash.start_lsn;
		END IF;
		RETURN NEXT;
	END LOOP;
END
$$;
REVOKE ALL ON FUNCTION walarchive.files_to_hash(text, bigint, integer) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.files_to_hash(text, bigint, integer) IS
'private: finished files that have no checksum yet; those with a known one have been given that';

-- Files were read and nothing is wrong with them.  Returns those of which
-- damage was known.
CREATE FUNCTION walarchive.store_verified(
	p_source text,
	p_system_identifier bigint,
	p_file text[],
	p_timeline integer[],
	p_start_lsn pg_lsn[])
RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	repaired text[];
	mended boolean;
BEGIN
	IF NOT walarchive.lock_source_index(p_source) THEN
		RETURN NULL;
	END IF;
	-- what could not be decoded is decoded again
	SELECT pg_catalog.bool_or(s.decode_state = 'damaged') INTO mended
	FROM ROWS FROM (pg_catalog.unnest(p_timeline), pg_catalog.unnest(p_start_lsn)) AS l (timeline, start_lsn)
		JOIN walarchive.segment s ON s.source = p_source AND s.system_identifier = p_system_identifier
			AND s.timeline = l.timeline AND s.start_lsn = l.start_lsn;
	UPDATE walarchive.segment s
	SET verified_at = pg_catalog.clock_timestamp(),
		decode_state = CASE WHEN s.decode_state = 'damaged' THEN 'pending' ELSE s.decode_state END,
		damage = NULL,
		damage_lsn = NULL,
		damage_offset = NULL
	FROM ROWS FROM (pg_catalog.unnest(p_timeline), pg_catalog.unnest(p_start_lsn)) AS l (timeline, start_lsn)
	WHERE s.source = p_source AND s.system_identifier = p_system_identifier
		AND s.timeline = l.timeline AND s.start_lsn = l.start_lsn;
	-- finished or partial, it is the same segment
	WITH gone AS (
		DELETE FROM walarchive.damage d
		USING pg_catalog.unnest(p_file) AS l (file)
		WHERE d.source = p_source AND d.system_identifier = p_system_identifier
			AND d.file IN (l.file, pg_catalog.replace(l.file, '.partial', ''), l.file || '.partial')
		RETURNING d.file
	)
	SELECT pg_catalog.array_agg(g.file) INTO repaired FROM gone g;
	IF mended OR repaired IS NOT NULL THEN
		PERFORM walarchive.windows_changed(p_source, true);
		PERFORM walarchive.request_index(p_source);
	END IF;
	RETURN coalesce(repaired, '{}');
END
$$;
REVOKE ALL ON FUNCTION walarchive.store_verified(text, bigint, text[], integer[], pg_lsn[]) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.store_verified(text, bigint, text[], integer[], pg_lsn[]) IS
'private: note that files are right; returns those that were known as damaged, NULL if the source is gone';

-- A file is damaged.  Returns whether that is new, or another damage than
-- before.
CREATE FUNCTION walarchive.store_damage(
	p_source text,
	p_system_identifier bigint,
	p_file text,
	p_timeline integer,
	p_start_lsn pg_lsn,
	p_lsn pg_lsn,
	p_offset bigint,
	p_problem text)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	before walarchive.damage;
	told boolean;
BEGIN
	IF NOT walarchive.lock_source_index(p_source) THEN
		RETURN false;
	END IF;
	-- the indexer has told it already
	SELECT s.damage_lsn IS NOT DISTINCT FROM p_lsn INTO told
	FROM walarchive.segment s
	WHERE s.source = p_source AND s.system_identifier = p_system_identifier
		AND s.timeline = p_timeline AND s.start_lsn = p_start_lsn AND s.damage IS NOT NULL;
	UPDATE walarchive.segment s
	SET verified_at = pg_catalog.clock_timestamp(),
		damage = p_problem,
		damage_lsn = p_lsn,
		damage_offset = p_offset
	WHERE s.source = p_source AND s.system_identifier = p_system_identifier
		AND s.timeline = p_timeline AND s.start_lsn = p_start_lsn;
	SELECT d.* INTO before
	FROM walarchive.damage d
	WHERE d.source = p_source AND d.system_identifier = p_system_identifier AND d.file = p_file
	FOR UPDATE;
	INSERT INTO walarchive.damage AS d
		(source, system_identifier, file, timeline, start_lsn, lsn, file_offset, problem, found_at, seen_at)
	VALUES (p_source, p_system_identifier, p_file, p_timeline, p_start_lsn, p_lsn, p_offset, p_problem,
			pg_catalog.clock_timestamp(), pg_catalog.clock_timestamp())
	ON CONFLICT (source, system_identifier, file) DO UPDATE
		SET lsn = excluded.lsn,
			file_offset = excluded.file_offset,
			problem = excluded.problem,
			seen_at = excluded.seen_at,
			found_at = CASE WHEN d.problem = excluded.problem AND d.lsn IS NOT DISTINCT FROM excluded.lsn
							THEN d.found_at ELSE excluded.found_at END;
	IF p_start_lsn IS NOT NULL THEN
		-- nothing may be promised that rests on it
		DELETE FROM walarchive.wal_run r
		WHERE r.source = p_source AND r.system_identifier = p_system_identifier AND r.timeline = p_timeline
			AND r.from_lsn = p_start_lsn;
		UPDATE walarchive.wal_run r
		SET to_lsn = p_start_lsn, ended_by = 'damage'
		WHERE r.source = p_source AND r.system_identifier = p_system_identifier AND r.timeline = p_timeline
			AND r.from_lsn < p_start_lsn AND r.to_lsn > p_start_lsn;
		PERFORM walarchive.windows_changed(p_source, true);
		-- what lies beyond it is a stretch of its own, also where no more WAL comes
		PERFORM walarchive.request_index(p_source);
	END IF;
	RETURN told IS NOT TRUE AND (before.problem IS DISTINCT FROM p_problem OR before.lsn IS DISTINCT FROM p_lsn);
END
$$;
REVOKE ALL ON FUNCTION walarchive.store_damage(text, bigint, text, integer, pg_lsn, pg_lsn, bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.store_damage(text, bigint, text, integer, pg_lsn, pg_lsn, bigint, text) IS
'private: note that a file is damaged; returns whether that is news';

-- A verification of all files has come to its end.  Damage of files that are
-- no part of the archive any more leaves; returns their names.
CREATE FUNCTION walarchive.finish_verification(
	p_source text,
	p_system_identifier bigint,
	p_started timestamptz,
	p_since timestamptz,
	p_files bigint,
	p_bytes bigint,
	p_damaged bigint)
RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	gone text[];
BEGIN
	IF NOT walarchive.lock_source_index(p_source) THEN
		RETURN NULL;
	END IF;
	WITH left_over AS (
		DELETE FROM walarchive.damage d
		WHERE d.source = p_source AND d.system_identifier = p_system_identifier AND d.seen_at < p_started
		RETURNING d.file
	)
	SELECT pg_catalog.array_agg(l.file) INTO gone FROM left_over l;
	INSERT INTO walarchive.verification AS v
		(source, system_identifier, started_at, finished_at, verified_since, files, bytes, damaged)
	VALUES (p_source, p_system_identifier, p_started, pg_catalog.clock_timestamp(), p_since, p_files, p_bytes, p_damaged)
	ON CONFLICT (source, system_identifier) DO UPDATE
		SET started_at = excluded.started_at,
			finished_at = excluded.finished_at,
			verified_since = excluded.verified_since,
			files = excluded.files,
			bytes = excluded.bytes,
			damaged = excluded.damaged;
	RETURN coalesce(gone, '{}');
END
$$;
REVOKE ALL ON FUNCTION walarchive.finish_verification(text, bigint, timestamptz, timestamptz, bigint, bigint, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.finish_verification(text, bigint, timestamptz, timestamptz, bigint, bigint, bigint) IS
'private: note the end of a verification; returns files whose damage is of no account any more, NULL if the source is gone';

-- Forget the clusters of a source that are not in p_keep.
CREATE FUNCTION walarchive.forget_verified(p_source text, p_keep bigint[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM walarchive.file_sum f WHERE f.source = p_source AND f.system_identifier <> ALL (p_keep);
	DELETE FROM walarchive.sum_progress p WHERE p.source = p_source AND p.system_identifier <> ALL (p_keep);
	DELETE FROM walarchive.damage d WHERE d.source = p_source AND d.system_identifier <> ALL (p_keep);
	DELETE FROM walarchive.verification v WHERE v.source = p_source AND v.system_identifier <> ALL (p_keep);
END
$$;
REVOKE ALL ON FUNCTION walarchive.forget_verified(text, bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.forget_verified(text, bigint[]) IS
'private: forget checksums and damage of clusters that are gone';

CREATE FUNCTION walarchive.verify(
	source text,
	from_lsn pg_lsn DEFAULT NULL,
	to_lsn pg_lsn DEFAULT NULL,
	timeline integer DEFAULT NULL,
	older_than interval DEFAULT NULL,
	OUT file text,
	OUT timeline integer,
	OUT lsn pg_lsn,
	OUT file_offset bigint,
	OUT problem text)
RETURNS SETOF record
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'wa_verify_source';
REVOKE ALL ON FUNCTION walarchive.verify(text, pg_lsn, pg_lsn, integer, interval) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.verify(text, pg_lsn, pg_lsn, integer, interval) IS
'read archived WAL again and check it; a row for each damaged or missing file, none if all is well';

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
	OUT started_at timestamptz,
	OUT label text)
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
