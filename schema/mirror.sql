-- What the indexer runs: catalog <- journal and files, and the two writes of
-- its mirror step.  Each call is one short transaction of the indexer; rescan()
-- runs the same ones in a single transaction.

CREATE FUNCTION walarchive.source_changed()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM walarchive.notify_catalog_changed();
	RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION walarchive.source_changed() FROM PUBLIC;
COMMENT ON FUNCTION walarchive.source_changed() IS
'private: trigger that has every change of the table of sources mirrored to the archive directory';

CREATE TRIGGER source_changed
	AFTER INSERT OR UPDATE OR DELETE ON walarchive.source
	FOR EACH STATEMENT EXECUTE FUNCTION walarchive.source_changed();
COMMENT ON TRIGGER source_changed ON walarchive.source IS
'has every change mirrored to the archive directory at commit';

-- A dump that is restored beside a living archive directory meets the rows
-- that the indexer has made from the files by then.
CREATE FUNCTION walarchive.source_keep_existing()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (SELECT 1 FROM walarchive.source s WHERE s.name = NEW.name) THEN
		RETURN NULL;
	END IF;
	RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION walarchive.source_keep_existing() FROM PUBLIC;
COMMENT ON FUNCTION walarchive.source_keep_existing() IS
'private: trigger that keeps a source which is there already when a dump is restored';

CREATE TRIGGER source_keep_existing
	BEFORE INSERT ON walarchive.source
	FOR EACH ROW EXECUTE FUNCTION walarchive.source_keep_existing();
COMMENT ON TRIGGER source_keep_existing ON walarchive.source IS
'keeps a source which is there already when a dump is restored';

-- Takes the lock under which a source's rows are changed.  False if there is
-- no such source: then there is nothing to index.
CREATE FUNCTION walarchive.lock_source_index(p_source text)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM 1 FROM walarchive.source s WHERE s.name = p_source FOR KEY SHARE;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	INSERT INTO walarchive.index_progress (source) VALUES (p_source)
		ON CONFLICT (source) DO NOTHING;
	PERFORM 1 FROM walarchive.index_progress p WHERE p.source = p_source FOR UPDATE;
	RETURN true;
END
$$;
REVOKE ALL ON FUNCTION walarchive.lock_source_index(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.lock_source_index(text) IS
'private: lock a source''s part of the catalog; false if the source is gone';

CREATE FUNCTION walarchive.register_files(
	p_source text,
	p_system_identifier bigint,
	p_segment_size integer,
	p_timeline integer[],
	p_name text[],
	p_start_lsn pg_lsn[],
	p_size bigint[],
	p_finished boolean[])
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- a growing table has no statistics to go by: always by its index
SET enable_seqscan = off
AS $$
DECLARE
	added bigint;
BEGIN
	IF NOT walarchive.lock_source_index(p_source) THEN
		RETURN -1;
	END IF;

	-- a timeline's counters grow by what is new among its finished segments
	WITH file AS (
		SELECT f.*
		FROM ROWS FROM (pg_catalog.unnest(p_timeline), pg_catalog.unnest(p_name),
						pg_catalog.unnest(p_start_lsn), pg_catalog.unnest(p_size),
						pg_catalog.unnest(p_finished))
			 AS f (timeline, name, start_lsn, size, finished)
	), stored AS (
		INSERT INTO walarchive.segment AS s
			(source, system_identifier, timeline, name, start_lsn, end_lsn, state, size)
		SELECT p_source, p_system_identifier, f.timeline, f.name, f.start_lsn,
			   f.start_lsn + p_segment_size::numeric,
			   CASE WHEN f.finished THEN 'finished' ELSE 'partial' END, f.size
		FROM file f
		-- what is known already is not even locked: a full pass costs no write
		WHERE coalesce((SELECT k.state = 'partial' AND (f.finished OR k.size <> f.size)
						FROM walarchive.segment k
						WHERE k.source = p_source
							AND k.system_identifier = p_system_identifier
							AND k.timeline = f.timeline
							AND k.start_lsn = f.start_lsn), true)
		ON CONFLICT (source, system_identifier, timeline, start_lsn) DO UPDATE
			SET state = excluded.state,
				size = excluded.size,
				registered_at = excluded.registered_at,
				-- the decoder has gone on behind what was there of it then
				decode_state = CASE WHEN excluded.state = 'finished' AND s.decode_state = 'decoding'
										AND EXISTS (SELECT 1 FROM walarchive.decode_progress d
													WHERE d.source = s.source
														AND d.system_identifier = s.system_identifier
														AND d.timeline = s.timeline
														AND d.next_lsn >= s.end_lsn) THEN 'pending'
									ELSE s.decode_state END
			WHERE s.state = 'partial'
				AND (excluded.state = 'finished' OR excluded.size <> s.size)
		RETURNING s.timeline, s.start_lsn, s.end_lsn, s.size, s.state
	), grown AS (
		SELECT t.timeline,
			   pg_catalog.min(t.start_lsn) AS first_lsn,
			   pg_catalog.max(t.end_lsn) FILTER (WHERE t.state = 'finished') AS last_lsn,
			   pg_catalog.count(*) FILTER (WHERE t.state = 'finished') AS segments,
			   coalesce(pg_catalog.sum(t.size) FILTER (WHERE t.state = 'finished'), 0)::bigint AS bytes
		FROM stored t
		GROUP BY t.timeline
	), counted AS (
		INSERT INTO walarchive.timeline AS t
			(source, system_identifier, timeline, first_lsn, last_lsn, segments, bytes)
		SELECT p_source, p_system_identifier, g.timeline, g.first_lsn, g.last_lsn, g.segments, g.bytes
		FROM grown g
		ON CONFLICT (source, system_identifier, timeline) DO UPDATE
			SET first_lsn = least(t.first_lsn, excluded.first_lsn),
				last_lsn = greatest(t.last_lsn, excluded.last_lsn),
				segments = t.segments + excluded.segments,
				bytes = t.bytes + excluded.bytes
		RETURNING 1
	)
	SELECT pg_catalog.count(*) INTO added FROM stored;
	RETURN added;
END
$$;
REVOKE ALL ON FUNCTION walarchive.register_files(text, bigint, integer, integer[], text[], pg_lsn[], bigint[], boolean[]) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.register_files(text, bigint, integer, integer[], text[], pg_lsn[], bigint[], boolean[]) IS
'private: enter segment files in the catalog; returns how many were new or changed, -1 if the source is gone';

CREATE FUNCTION walarchive.register_timelines(
	p_source text,
	p_system_identifier bigint,
	p_timeline integer[],
	p_parent integer[],
	p_fork_lsn pg_lsn[])
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	stored bigint;
BEGIN
	IF NOT walarchive.lock_source_index(p_source) THEN
		RETURN -1;
	END IF;
	INSERT INTO walarchive.timeline AS t
		(source, system_identifier, timeline, parent_timeline, fork_lsn, history_file)
	SELECT p_source, p_system_identifier, f.timeline, f.parent, f.fork_lsn, true
	FROM ROWS FROM (pg_catalog.unnest(p_timeline), pg_catalog.unnest(p_parent),
					pg_catalog.unnest(p_fork_lsn)) AS f (timeline, parent, fork_lsn)
	ON CONFLICT (source, system_identifier, timeline) DO UPDATE
		SET parent_timeline = coalesce(excluded.parent_timeline, t.parent_timeline),
			fork_lsn = coalesce(excluded.fork_lsn, t.fork_lsn),
			history_file = true;
	GET DIAGNOSTICS stored = ROW_COUNT;
	RETURN stored;
END
$$;
REVOKE ALL ON FUNCTION walarchive.register_timelines(text, bigint, integer[], integer[], pg_lsn[]) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.register_timelines(text, bigint, integer[], integer[], pg_lsn[]) IS
'private: enter timelines whose history files are there; returns how many, -1 if the source is gone';

CREATE FUNCTION walarchive.register_journal(
	p_source text,
	p_from_offset bigint,
	p_to_offset bigint,
	p_offset bigint[],
	p_occurred_at timestamptz[],
	p_kind text[],
	p_severity text[],
	p_message text[],
	p_system_identifier bigint[],
	p_timeline integer[],
	p_parent integer[],
	p_from_lsn pg_lsn[],
	p_to_lsn pg_lsn[],
	p_cause text[],
	p_label text[] DEFAULT NULL,
	p_backup_kind text[] DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	line record;
	known bigint;
	entered bigint := 0;
BEGIN
	IF NOT walarchive.lock_source_index(p_source) THEN
		RETURN -1;
	END IF;
	SELECT p.journal_offset INTO known FROM walarchive.index_progress p WHERE p.source = p_source;
	IF p_from_offset = 0 AND known > 0 THEN
		-- a new journal: the old events stay, and belong to none
		UPDATE walarchive.event e SET journal_offset = NULL
		WHERE e.source = p_source AND e.journal_offset IS NOT NULL;
	ELSIF known <> p_from_offset THEN
		-- somebody else (rescan) has read on meanwhile
		RETURN 0;
	END IF;

	FOR line IN
		SELECT j.*
		FROM ROWS FROM (pg_catalog.unnest(p_offset), pg_catalog.unnest(p_occurred_at),
						pg_catalog.unnest(p_kind), pg_catalog.unnest(p_severity),
						pg_catalog.unnest(p_message), pg_catalog.unnest(p_system_identifier),
						pg_catalog.unnest(p_timeline), pg_catalog.unnest(p_parent),
						pg_catalog.unnest(p_from_lsn), pg_catalog.unnest(p_to_lsn),
						pg_catalog.unnest(p_cause), pg_catalog.unnest(p_label),
						pg_catalog.unnest(p_backup_kind))
			 AS j (journal_offset, occurred_at, kind, severity, message, system_identifier,
				   timeline, parent, from_lsn, to_lsn, cause, label, backup_kind)
		ORDER BY j.journal_offset
	LOOP
		INSERT INTO walarchive.event
			(source, occurred_at, kind, severity, message, system_identifier, timeline,
			 from_lsn, to_lsn, cause, label, journal_offset)
		VALUES (p_source, line.occurred_at, line.kind, line.severity, line.message,
				line.system_identifier, line.timeline, line.from_lsn, line.to_lsn,
				line.cause, line.label, line.journal_offset)
		ON CONFLICT (source, journal_offset) DO NOTHING;
		entered := entered + 1;

		IF line.label IS NOT NULL THEN
			PERFORM walarchive.register_backup_line(p_source, line.kind, line.occurred_at, line.message,
													line.system_identifier, line.timeline, line.from_lsn,
													line.label, line.backup_kind);
		END IF;
		CONTINUE WHEN line.system_identifier IS NULL OR line.timeline IS NULL;

		IF line.kind = 'gap' AND line.from_lsn < line.to_lsn THEN
			INSERT INTO walarchive.gap AS g
				(source, system_identifier, timeline, from_lsn, to_lsn, cause, detected_at)
			VALUES (p_source, line.system_identifier, line.timeline, line.from_lsn, line.to_lsn,
					coalesce(line.cause, 'wal_removed'), line.occurred_at)
			ON CONFLICT (source, system_identifier, timeline, from_lsn, to_lsn, cause)
				DO UPDATE SET closed_at = NULL, detected_at = excluded.detected_at;
		ELSIF line.kind = 'gap_closed' THEN
			UPDATE walarchive.gap g
			SET closed_at = line.occurred_at
			WHERE g.source = p_source
				AND g.system_identifier = line.system_identifier
				AND g.timeline = line.timeline
				AND g.from_lsn >= line.from_lsn
				AND g.to_lsn <= line.to_lsn
				AND g.closed_at IS NULL;
		ELSIF line.kind = 'expired' AND line.to_lsn IS NOT NULL THEN
			PERFORM walarchive.note_removed_wal(p_source, line.system_identifier, line.timeline,
												line.to_lsn, line.occurred_at);
		ELSIF line.kind = 'timeline' THEN
			-- at least that the timeline exists and where it came from
			INSERT INTO walarchive.timeline AS t
				(source, system_identifier, timeline, parent_timeline, fork_lsn)
			VALUES (p_source, line.system_identifier, line.timeline, line.parent,
					CASE WHEN line.parent IS NOT NULL THEN line.from_lsn END)
			ON CONFLICT (source, system_identifier, timeline) DO UPDATE
				SET parent_timeline = coalesce(t.parent_timeline, excluded.parent_timeline),
					fork_lsn = coalesce(t.fork_lsn, excluded.fork_lsn);
		ELSIF line.kind = 'divergence' AND line.from_lsn < line.to_lsn THEN
			INSERT INTO walarchive.divergence AS d
				(source, system_identifier, timeline, from_lsn, to_lsn, detected_at)
			VALUES (p_source, line.system_identifier, line.timeline, line.from_lsn, line.to_lsn, line.occurred_at)
			ON CONFLICT (source, system_identifier, timeline, from_lsn) DO UPDATE
				SET to_lsn = greatest(d.to_lsn, excluded.to_lsn);
		END IF;
	END LOOP;

	UPDATE walarchive.index_progress p
	SET journal_offset = p_to_offset
	WHERE p.source = p_source;
	RETURN entered;
END
$$;
REVOKE ALL ON FUNCTION walarchive.register_journal(text, bigint, bigint, bigint[], timestamptz[], text[], text[], text[], bigint[], integer[], integer[], pg_lsn[], pg_lsn[], text[], text[], text[]) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.register_journal(text, bigint, bigint, bigint[], timestamptz[], text[], text[], text[], bigint[], integer[], integer[], pg_lsn[], pg_lsn[], text[], text[], text[]) IS
'private: enter lines of a source''s journal; returns how many, -1 if the source is gone';

-- Compare the gaps of a cluster with the holes between its segments.  A gap
-- that segments cover by now is closed, a hole that no gap explains is one.
--
-- A partial segment counts as there where it is its timeline's last one, or
-- where a gap starts in it: what it holds ends there.  A timeline's WAL is
-- wanted up to the segment of its fork, which the child has as well.
CREATE FUNCTION walarchive.find_gaps(p_source text, p_system_identifier bigint)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_gaps bigint;
BEGIN
	UPDATE walarchive.gap g
	SET closed_at = pg_catalog.clock_timestamp()
	WHERE g.source = p_source
		AND g.system_identifier = p_system_identifier
		AND g.closed_at IS NULL
		AND (SELECT pg_catalog.sum(least(s.end_lsn, g.to_lsn) - greatest(s.start_lsn, g.from_lsn))
			 FROM walarchive.segment s
			 WHERE s.source = g.source
				AND s.system_identifier = g.system_identifier
				AND s.timeline = g.timeline
				AND s.state = 'finished'
				AND s.start_lsn < g.to_lsn
				AND s.end_lsn > g.from_lsn) >= g.to_lsn - g.from_lsn;

	WITH open_gap AS MATERIALIZED (
		-- gaps that are known, and what was removed because nobody needed it
		SELECT k.timeline,
			   pg_catalog.range_agg(pg_catalog.numrange(k.from_lsn - '0/0'::pg_lsn, k.to_lsn - '0/0'::pg_lsn)) AS missing
		FROM (SELECT g.timeline, g.from_lsn, g.to_lsn
			  FROM walarchive.gap g
			  WHERE g.source = p_source
				AND g.system_identifier = p_system_identifier
				AND g.closed_at IS NULL
			  UNION ALL
			  SELECT w.timeline, '0/0', w.to_lsn
			  FROM walarchive.removed_wal w
			  WHERE w.source = p_source
				AND w.system_identifier = p_system_identifier) k
		GROUP BY k.timeline
	), present AS (
		SELECT s.timeline, s.start_lsn, s.end_lsn
		FROM walarchive.segment s
		WHERE s.source = p_source
			AND s.system_identifier = p_system_identifier
			AND (s.state = 'finished'
				 OR EXISTS (SELECT 1 FROM walarchive.gap g
							WHERE g.source = p_source
								AND g.system_identifier = p_system_identifier
								AND g.timeline = s.timeline
								AND g.from_lsn >= s.start_lsn
								AND g.from_lsn < s.end_lsn)
				 OR NOT EXISTS (SELECT 1 FROM walarchive.segment n
								WHERE n.source = p_source
									AND n.system_identifier = p_system_identifier
									AND n.timeline = s.timeline
									AND n.start_lsn > s.start_lsn))
	), fork AS (
		-- the start of the segment of a timeline's fork, and its parent
		SELECT t.timeline, t.parent_timeline,
			   '0/0'::pg_lsn + (pg_catalog.div(t.fork_lsn - '0/0'::pg_lsn, z.size) * z.size) AS wanted
		FROM walarchive.timeline t
			CROSS JOIN LATERAL (SELECT s.end_lsn - s.start_lsn AS size
								FROM walarchive.segment s
								WHERE s.source = p_source
									AND s.system_identifier = p_system_identifier
								LIMIT 1) z
		WHERE t.source = p_source
			AND t.system_identifier = p_system_identifier
			AND t.fork_lsn IS NOT NULL
	), bound AS (
		-- segments in order, and the places where WAL is wanted: from the fork's
		-- segment on, and on the parent up to there
		SELECT p.timeline, p.start_lsn, p.end_lsn FROM present p
		UNION ALL
		SELECT f.timeline, f.wanted, f.wanted
		FROM fork f
		WHERE EXISTS (SELECT 1 FROM walarchive.segment s
					  WHERE s.source = p_source
						AND s.system_identifier = p_system_identifier
						AND s.timeline = f.timeline)
			AND EXISTS (SELECT 1 FROM walarchive.segment s
						WHERE s.source = p_source
							AND s.system_identifier = p_system_identifier
							AND s.timeline = f.parent_timeline)
		UNION ALL
		SELECT f.parent_timeline, f.wanted, f.wanted
		FROM fork f
		WHERE EXISTS (SELECT 1 FROM walarchive.segment s
					  WHERE s.source = p_source
						AND s.system_identifier = p_system_identifier
						AND s.timeline = f.timeline)
	), step AS (
		SELECT b.timeline, b.start_lsn AS to_lsn,
			   pg_catalog.max(b.end_lsn) OVER (PARTITION BY b.timeline ORDER BY b.start_lsn, b.end_lsn
											   ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS from_lsn
		FROM bound b
	), hole AS (
		SELECT s.timeline,
			   pg_catalog.unnest(pg_catalog.nummultirange(pg_catalog.numrange(s.from_lsn - '0/0'::pg_lsn, s.to_lsn - '0/0'::pg_lsn))
								 - coalesce(o.missing, '{}'::nummultirange)) AS missing
		FROM step s
			LEFT JOIN open_gap o ON o.timeline = s.timeline
		WHERE s.from_lsn < s.to_lsn
	)
	INSERT INTO walarchive.gap AS g
		(source, system_identifier, timeline, from_lsn, to_lsn, cause, detected_at)
	SELECT p_source, p_system_identifier, h.timeline,
		   '0/0'::pg_lsn + pg_catalog.lower(h.missing), '0/0'::pg_lsn + pg_catalog.upper(h.missing),
		   'missing_file', pg_catalog.clock_timestamp()
	FROM hole h
	ON CONFLICT (source, system_identifier, timeline, from_lsn, to_lsn, cause)
		DO UPDATE SET closed_at = NULL, detected_at = excluded.detected_at;
	GET DIAGNOSTICS found_gaps = ROW_COUNT;
	RETURN found_gaps;
END
$$;
REVOKE ALL ON FUNCTION walarchive.find_gaps(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.find_gaps(text, bigint) IS
'private: record the holes between a cluster''s segments and close the gaps that are filled; returns how many are new';

-- The end of a full pass over a cluster's directory, which held p_files
-- segments, partial ones included.
CREATE FUNCTION walarchive.finish_full_pass(
	p_source text,
	p_system_identifier bigint,
	p_files bigint)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	gone bigint := 0;
BEGIN
	IF NOT walarchive.lock_source_index(p_source) THEN
		RETURN -1;
	END IF;

	-- only where the numbers differ is it worth to ask for each file
	IF (SELECT pg_catalog.count(*) FROM walarchive.segment s
		WHERE s.source = p_source AND s.system_identifier = p_system_identifier) <> p_files
	THEN
		DELETE FROM walarchive.segment s
		WHERE s.source = p_source
			AND s.system_identifier = p_system_identifier
			AND NOT walarchive.archive_file_exists(s.source, s.system_identifier, s.name);
		GET DIAGNOSTICS gone = ROW_COUNT;
	END IF;

	WITH counted AS (
		SELECT s.timeline,
			   pg_catalog.min(s.start_lsn) AS first_lsn,
			   pg_catalog.max(s.end_lsn) FILTER (WHERE s.state = 'finished') AS last_lsn,
			   pg_catalog.count(*) FILTER (WHERE s.state = 'finished') AS segments,
			   coalesce(pg_catalog.sum(s.size) FILTER (WHERE s.state = 'finished'), 0)::bigint AS bytes
		FROM walarchive.segment s
		WHERE s.source = p_source AND s.system_identifier = p_system_identifier
		GROUP BY s.timeline
	)
	UPDATE walarchive.timeline t
	SET first_lsn = c.first_lsn,
		last_lsn = c.last_lsn,
		segments = coalesce(c.segments, 0),
		bytes = coalesce(c.bytes, 0)
	FROM walarchive.timeline o
		LEFT JOIN counted c ON c.timeline = o.timeline
	WHERE o.source = p_source
		AND o.system_identifier = p_system_identifier
		AND t.source = o.source
		AND t.system_identifier = o.system_identifier
		AND t.timeline = o.timeline
		AND (t.first_lsn, t.last_lsn, t.segments, t.bytes)
			IS DISTINCT FROM (c.first_lsn, c.last_lsn, coalesce(c.segments, 0), coalesce(c.bytes, 0));

	-- what was read to its end may have grown
	UPDATE walarchive.decode_progress d
	SET exhausted = false
	WHERE d.source = p_source AND d.system_identifier = p_system_identifier AND d.exhausted;

	IF gone > 0 THEN
		-- nothing may be promised that rests on them
		PERFORM walarchive.derive_runs(p_source, p_system_identifier);
		PERFORM walarchive.judge_backups(p_source, p_system_identifier);
		PERFORM walarchive.windows_changed(p_source, true);
	END IF;
	-- holes, or where a timeline comes from
	IF walarchive.find_gaps(p_source, p_system_identifier) > 0
		OR EXISTS (SELECT 1 FROM walarchive.timeline t
				   WHERE t.source = p_source AND t.system_identifier = p_system_identifier
					AND t.parent_timeline IS NOT NULL) THEN
		PERFORM walarchive.windows_changed(p_source, true);
	END IF;
	RETURN gone;
END
$$;
REVOKE ALL ON FUNCTION walarchive.finish_full_pass(text, bigint, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.finish_full_pass(text, bigint, bigint) IS
'private: forget files that are gone, count again, find gaps; returns how many are gone, -1 if the source is gone';

-- The end of a full pass over all clusters of a source.
CREATE FUNCTION walarchive.note_full_pass(p_source text, p_clusters bigint[])
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT walarchive.lock_source_index(p_source) THEN
		RETURN false;
	END IF;
	DELETE FROM walarchive.segment s
	WHERE s.source = p_source AND s.system_identifier <> ALL (p_clusters);
	DELETE FROM walarchive.timeline t
	WHERE t.source = p_source AND t.system_identifier <> ALL (p_clusters);
	PERFORM walarchive.forget_verified(p_source, p_clusters);
	PERFORM walarchive.forget_retention(p_source, p_clusters);
	DELETE FROM walarchive.decode_progress d
	WHERE d.source = p_source AND d.system_identifier <> ALL (p_clusters);
	DELETE FROM walarchive.restore_point r
	WHERE r.source = p_source AND r.system_identifier <> ALL (p_clusters);
	DELETE FROM walarchive.tablespace_made r
	WHERE r.source = p_source AND r.system_identifier <> ALL (p_clusters);
	DELETE FROM walarchive.parameter_change r
	WHERE r.source = p_source AND r.system_identifier <> ALL (p_clusters);
	DELETE FROM walarchive.prepared_xact r
	WHERE r.source = p_source AND r.system_identifier <> ALL (p_clusters);
	DELETE FROM walarchive.prepared_end r
	WHERE r.source = p_source AND r.system_identifier <> ALL (p_clusters);
	DELETE FROM walarchive.destructive_commit r
	WHERE r.source = p_source AND r.system_identifier <> ALL (p_clusters);
	PERFORM walarchive.forget_backups(p_source, p_clusters);
	UPDATE walarchive.index_progress p
	SET full_pass_at = pg_catalog.clock_timestamp()
	WHERE p.source = p_source;
	RETURN true;
END
$$;
REVOKE ALL ON FUNCTION walarchive.note_full_pass(text, bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.note_full_pass(text, bigint[]) IS
'private: forget clusters whose folders are gone, and remember that all files were seen';

-- What the indexer needs to know before it reads a journal.
CREATE FUNCTION walarchive.journal_position(p_source text)
RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN s.name IS NULL THEN -1 ELSE coalesce(p.journal_offset, 0) END
	FROM (VALUES (p_source)) AS w (name)
		LEFT JOIN walarchive.source s ON s.name = w.name
		LEFT JOIN walarchive.index_progress p ON p.source = w.name
$$;
REVOKE ALL ON FUNCTION walarchive.journal_position(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.journal_position(text) IS
'private: byte up to which a source''s journal has been read, -1 if there is no such source';

CREATE FUNCTION walarchive.learn_cluster(p_source text, p_system_identifier bigint)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- asked first, because even an update of no row has the settings mirrored
	IF NOT EXISTS (SELECT 1 FROM walarchive.source s
				   WHERE s.name = p_source AND s.system_identifier IS NULL) THEN
		RETURN false;
	END IF;
	-- the receiver knows it already: no new revision, which would restart it
	UPDATE walarchive.source s
	SET system_identifier = p_system_identifier
	WHERE s.name = p_source AND s.system_identifier IS NULL;
	RETURN true;
END
$$;
REVOKE ALL ON FUNCTION walarchive.learn_cluster(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.learn_cluster(text, bigint) IS
'private: remember the cluster that a source''s receiver met first';

CREATE FUNCTION walarchive.adopt_source(
	p_name text,
	p_conninfo text,
	p_slot_name text,
	p_start_lsn pg_lsn,
	p_allow_standby boolean,
	p_on_gap text,
	p_state text,
	p_drop_slot boolean,
	p_delete_files boolean,
	p_system_identifier bigint,
	p_revision bigint,
	p_heartbeat_ms integer,
	p_relation_names_ms integer,
	p_backup_conninfo text)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO walarchive.source
		(name, conninfo, slot_name, start_lsn, allow_standby, on_gap, state,
		 drop_slot, delete_files, system_identifier, revision,
		 heartbeat_interval, relation_names_interval, backup_conninfo,
		 backup_full_interval, backup_incremental_interval, backup_window_start, backup_window_end,
		 backup_jitter, backup_compression, backup_max_rate, backup_scheduled_at)
	SELECT p_name, p_conninfo, p_slot_name, p_start_lsn, p_allow_standby, p_on_gap, p_state,
			p_drop_slot, p_delete_files, p_system_identifier, p_revision,
			nullif(p_heartbeat_ms, 0) * '1 ms'::interval, nullif(p_relation_names_ms, 0) * '1 ms'::interval,
			nullif(p_backup_conninfo, ''),
			a.backup_full_interval, a.backup_incremental_interval, a.backup_window_start, a.backup_window_end,
			a.backup_jitter, a.backup_compression, a.backup_max_rate, a.backup_scheduled_at
	FROM walarchive.archived_settings(p_name) a
	ON CONFLICT (name) DO NOTHING;
	RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION walarchive.adopt_source(text, text, text, pg_lsn, boolean, text, text, boolean, boolean, bigint, bigint, integer, integer, text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.adopt_source(text, text, text, pg_lsn, boolean, text, text, boolean, boolean, bigint, bigint, integer, integer, text) IS
'private: make a source from the settings in its archive directory; false if it is there already';

-- All that was decoded; the segments' own columns are their rows' business.
CREATE FUNCTION walarchive.forget_decoded(p_source text)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	DELETE FROM walarchive.decode_progress d WHERE d.source = p_source;
	DELETE FROM walarchive.restore_point r WHERE r.source = p_source;
	DELETE FROM walarchive.tablespace_made r WHERE r.source = p_source;
	DELETE FROM walarchive.parameter_change r WHERE r.source = p_source;
	DELETE FROM walarchive.prepared_xact r WHERE r.source = p_source;
	DELETE FROM walarchive.prepared_end r WHERE r.source = p_source;
	DELETE FROM walarchive.destructive_commit r WHERE r.source = p_source;
	DELETE FROM walarchive.divergence r WHERE r.source = p_source;
$$;
REVOKE ALL ON FUNCTION walarchive.forget_decoded(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.forget_decoded(text) IS
'private: remove what was decoded of a source''s WAL';

CREATE FUNCTION walarchive.forget_source(p_source text, p_revision bigint)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	files_deleted boolean;
BEGIN
	DELETE FROM walarchive.source s
	WHERE s.name = p_source AND s.state = 'dropping' AND s.revision = p_revision
	RETURNING s.delete_files INTO files_deleted;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	DELETE FROM walarchive.segment s WHERE s.source = p_source;
	DELETE FROM walarchive.timeline t WHERE t.source = p_source;
	DELETE FROM walarchive.gap g WHERE g.source = p_source;
	PERFORM walarchive.forget_decoded(p_source);
	PERFORM walarchive.forget_verified(p_source, '{}');
	PERFORM walarchive.forget_backups(p_source, '{}');
	PERFORM walarchive.forget_retention(p_source, '{}');
	DELETE FROM walarchive.index_progress p WHERE p.source = p_source;
	PERFORM walarchive.forget_relations(p_source);
	-- else the last line of the journal tells it
	IF files_deleted THEN
		INSERT INTO walarchive.event (source, occurred_at, kind, severity, message)
		VALUES (p_source, pg_catalog.clock_timestamp(), 'dropped', 'info', 'the source and its files were dropped');
	END IF;
	RETURN true;
END
$$;
REVOKE ALL ON FUNCTION walarchive.forget_source(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.forget_source(text, bigint) IS
'private: remove a source whose dropping is done; false if its settings have changed since';
