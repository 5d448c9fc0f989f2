-- Removal of what expire() has decided upon: the indexer's part of retention, see
-- src/catalog/expire.c.

-- A line "expired" of the journal: WAL of a timeline before p_to need not be
-- there any more.
CREATE FUNCTION walarchive.note_removed_wal(
	p_source text,
	p_system_identifier bigint,
	p_timeline integer,
	p_to pg_lsn,
	p_at timestamptz)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO walarchive.removed_wal AS w (source, system_identifier, timeline, to_lsn, removed_at)
	VALUES (p_source, p_system_identifier, p_timeline, p_to, p_at)
	ON CONFLICT (source, system_identifier, timeline) DO UPDATE
		SET to_lsn = greatest(w.to_lsn, excluded.to_lsn),
			removed_at = greatest(w.removed_at, excluded.removed_at);
	-- what was missing is not wanted any more
	UPDATE walarchive.gap g
	SET closed_at = p_at
	WHERE g.source = p_source AND g.system_identifier = p_system_identifier AND g.timeline = p_timeline
		AND g.to_lsn <= p_to AND g.closed_at IS NULL;
	DELETE FROM walarchive.divergence d
	WHERE d.source = p_source AND d.system_identifier = p_system_identifier AND d.timeline = p_timeline
		AND d.to_lsn <= p_to;
END
$$;
REVOKE ALL ON FUNCTION walarchive.note_removed_wal(text, bigint, integer, pg_lsn, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.note_removed_wal(text, bigint, integer, pg_lsn, timestamptz) IS
'private: enter that WAL of a timeline was removed';

-- Was this segment removed by expire()?  Then it is not missing.
CREATE FUNCTION walarchive.wal_was_removed(p_source text, p_system_identifier bigint, p_timeline integer, p_start_lsn pg_lsn)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (SELECT 1 FROM walarchive.removed_wal w
				   WHERE w.source = p_source AND w.system_identifier = p_system_identifier
					AND w.timeline = p_timeline AND p_start_lsn < w.to_lsn)
$$;
REVOKE ALL ON FUNCTION walarchive.wal_was_removed(text, bigint, integer, pg_lsn) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.wal_was_removed(text, bigint, integer, pg_lsn) IS
'private: whether a segment may be missing because expire() had it removed';

-- How far an order may be carried out now.  What backups on their way out need
-- waits for them.  What somebody has come to need since it was decided is taken
-- out of the order.  Called with the source's part of the catalog locked.
CREATE FUNCTION walarchive.removal_limit(p_source text, p_system_identifier bigint, p_timeline integer)
RETURNS pg_lsn
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ordered pg_lsn;
	kept pg_lsn;
BEGIN
	SELECT w.from_lsn INTO kept
	FROM walarchive.wal_kept(p_source, p_system_identifier,
							 ARRAY(SELECT b.label FROM walarchive.backup b
								   WHERE b.source = p_source AND b.system_identifier = p_system_identifier
									AND b.state = 'deleting')) w
	WHERE w.timeline = p_timeline;
	UPDATE walarchive.removal_order o
	SET to_lsn = least(o.to_lsn, coalesce(kept, '0/0'))
	WHERE o.source = p_source AND o.system_identifier = p_system_identifier AND o.timeline = p_timeline
	RETURNING o.to_lsn INTO ordered;
	SELECT w.from_lsn INTO kept
	FROM walarchive.wal_kept(p_source, p_system_identifier, '{}') w
	WHERE w.timeline = p_timeline;
	RETURN least(ordered, coalesce(kept, '0/0'));
END
$$;
REVOKE ALL ON FUNCTION walarchive.removal_limit(text, bigint, integer) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.removal_limit(text, bigint, integer) IS
'private: up to where an order of expire() may be carried out now';

-- What is to be done next for a source: "journal" a line that says what goes,
-- remove "files", or drop the lines of removed files from wal.sha256 ("sums").
-- No row: there is nothing to do, or the source's index is locked by somebody
-- who may be about to need the files; the next turn asks again.
CREATE FUNCTION walarchive.next_removal(
	p_source text,
	OUT what text,
	OUT system_identifier bigint,
	OUT timeline integer,
	OUT from_lsn pg_lsn,
	OUT to_lsn pg_lsn,
	OUT files bigint)
RETURNS SETOF record
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	o walarchive.removal_order;
	partial_from integer;
	up_to pg_lsn;
	done bigint;
BEGIN
	IF NOT EXISTS (SELECT 1 FROM walarchive.removal_order r WHERE r.source = p_source)
		OR NOT walarchive.lock_source_index(p_source)
	THEN
		RETURN;
	END IF;
	FOR o IN
		SELECT r.* FROM walarchive.removal_order r
		WHERE r.source = p_source
		ORDER BY r.system_identifier, r.timeline
	LOOP
		system_identifier := o.system_identifier;
		timeline := o.timeline;
		up_to := walarchive.removal_limit(p_source, o.system_identifier, o.timeline);
		partial_from := walarchive.open_timeline(p_source, o.system_identifier);
		-- they are counted for the journal, once
		SELECT g.start_lsn, g.end_lsn, 1 INTO from_lsn, to_lsn, files
		FROM walarchive.segment g
		WHERE g.source = p_source AND g.system_identifier = o.system_identifier AND g.timeline = o.timeline
			AND g.start_lsn < least(up_to, o.journaled_lsn) AND g.end_lsn <= least(up_to, o.journaled_lsn)
			AND (g.state = 'finished' OR walarchive.partial_was_left(g.source, g.system_identifier, g.timeline, g.end_lsn, partial_from))
			AND o.journaled_lsn IS NOT NULL
		ORDER BY g.start_lsn LIMIT 1;
		IF FOUND THEN
			what := 'files';
			RETURN NEXT;
			RETURN;
		END IF;
		SELECT pg_catalog.min(g.start_lsn), pg_catalog.max(g.end_lsn), pg_catalog.count(*) INTO from_lsn, to_lsn, files
		FROM walarchive.segment g
		WHERE g.source = p_source AND g.system_identifier = o.system_identifier AND g.timeline = o.timeline
			AND g.start_lsn < up_to AND g.end_lsn <= up_to
			AND (g.state = 'finished' OR walarchive.partial_was_left(g.source, g.system_identifier, g.timeline, g.end_lsn, partial_from));
		IF files > 0 THEN
			what := 'journal';
			RETURN NEXT;
			RETURN;
		END IF;
		IF EXISTS (SELECT 1 FROM walarchive.removal_order r
				   WHERE r.source = p_source AND r.system_identifier = o.system_identifier AND r.timeline = o.timeline
					AND (r.to_lsn > up_to
						 OR EXISTS (SELECT 1 FROM walarchive.segment g
									WHERE g.source = p_source AND g.system_identifier = o.system_identifier
										AND g.timeline = o.timeline AND g.start_lsn < r.to_lsn AND g.end_lsn <= r.to_lsn)))
		THEN
			-- for a backup on its way out, or until it is seen that nobody writes to it
			CONTINUE;
		END IF;
		done := coalesce(done, o.system_identifier);
	END LOOP;
	IF done IS NOT NULL THEN
		what := 'sums';
		system_identifier := done;
		timeline := NULL;
		from_lsn := NULL;
		to_lsn := NULL;
		files := NULL;
		RETURN NEXT;
	END IF;
END
$$;
REVOKE ALL ON FUNCTION walarchive.next_removal(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.next_removal(text) IS
'private: what is to be done next of what expire() has decided for a source';

-- The journal says it.
CREATE FUNCTION walarchive.note_removal_journaled(p_source text, p_system_identifier bigint, p_timeline integer, p_to pg_lsn)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE walarchive.removal_order o
	SET journaled_lsn = greatest(o.journaled_lsn, p_to)
	WHERE o.source = p_source AND o.system_identifier = p_system_identifier AND o.timeline = p_timeline;
	RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION walarchive.note_removal_journaled(text, bigint, integer, pg_lsn) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.note_removal_journaled(text, bigint, integer, pg_lsn) IS
'private: note that the journal says which WAL of a timeline goes';

-- The next files to be removed, the oldest, and out of the catalog.  The caller
-- removes them before it commits: a crash in between leaves rows, and the files
-- that are gone by then are no obstacle when it is done again.
CREATE FUNCTION walarchive.take_removal(
	p_source text,
	p_system_identifier bigint,
	p_timeline integer,
	p_limit integer,
	OUT name text)
RETURNS SETOF text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	up_to pg_lsn;
	partial_from integer;
	taken pg_lsn;
BEGIN
	IF NOT walarchive.lock_source_index(p_source) THEN
		RETURN;
	END IF;
	SELECT least(walarchive.removal_limit(p_source, p_system_identifier, p_timeline), o.journaled_lsn) INTO up_to
	FROM walarchive.removal_order o
	WHERE o.source = p_source AND o.system_identifier = p_system_identifier AND o.timeline = p_timeline
		AND o.journaled_lsn IS NOT NULL;
	partial_from := walarchive.open_timeline(p_source, p_system_identifier);
	SELECT pg_catalog.max(t.end_lsn) INTO taken
	FROM (SELECT g.end_lsn
		  FROM walarchive.segment g
		  WHERE g.source = p_source AND g.system_identifier = p_system_identifier AND g.timeline = p_timeline
			AND g.start_lsn < up_to AND g.end_lsn <= up_to
			AND (g.state = 'finished' OR walarchive.partial_was_left(g.source, g.system_identifier, g.timeline, g.end_lsn, partial_from))
		  ORDER BY g.start_lsn LIMIT p_limit) t;
	IF taken IS NULL THEN
		RETURN;
	END IF;

	FOR name IN
		WITH gone AS (
			DELETE FROM walarchive.segment g
			WHERE g.source = p_source AND g.system_identifier = p_system_identifier AND g.timeline = p_timeline
				AND g.start_lsn < taken AND g.end_lsn <= taken
				AND (g.state = 'finished' OR walarchive.partial_was_left(g.source, g.system_identifier, g.timeline, g.end_lsn, partial_from))
			RETURNING g.name, g.start_lsn, g.state, g.size
		), damages AS (
			DELETE FROM walarchive.damage d
			USING gone g
			WHERE d.source = p_source AND d.system_identifier = p_system_identifier
				AND d.file IN (g.name, g.name || '.partial')
		), counted AS (
			UPDATE walarchive.timeline t
			SET segments = t.segments - c.segments,
				bytes = t.bytes - c.bytes
			FROM (SELECT pg_catalog.count(*) AS segments, coalesce(pg_catalog.sum(g.size), 0)::bigint AS bytes
				  FROM gone g WHERE g.state = 'finished') c
			WHERE t.source = p_source AND t.system_identifier = p_system_identifier AND t.timeline = p_timeline
		)
		SELECT g.name FROM gone g ORDER BY g.start_lsn
	LOOP
		RETURN NEXT;
	END LOOP;

	-- a new statement, which sees that they are gone
	UPDATE walarchive.timeline t
	SET first_lsn = (SELECT g.start_lsn FROM walarchive.segment g
					 WHERE g.source = p_source AND g.system_identifier = p_system_identifier AND g.timeline = p_timeline
					 ORDER BY g.start_lsn LIMIT 1),
		last_lsn = (SELECT g.end_lsn FROM walarchive.segment g
					WHERE g.source = p_source AND g.system_identifier = p_system_identifier AND g.timeline = p_timeline
						AND g.state = 'finished'
					ORDER BY g.start_lsn DESC LIMIT 1)
	WHERE t.source = p_source AND t.system_identifier = p_system_identifier AND t.timeline = p_timeline;
	PERFORM walarchive.windows_changed(p_source, true);
	-- what the records said goes with them
	DELETE FROM walarchive.restore_point r
	WHERE r.source = p_source AND r.system_identifier = p_system_identifier AND r.timeline = p_timeline AND r.start_lsn < taken;
	DELETE FROM walarchive.tablespace_made r
	WHERE r.source = p_source AND r.system_identifier = p_system_identifier AND r.timeline = p_timeline AND r.start_lsn < taken;
	-- the last change before holds where the WAL begins now
	DELETE FROM walarchive.parameter_change r
	WHERE r.source = p_source AND r.system_identifier = p_system_identifier AND r.timeline = p_timeline AND r.start_lsn < taken
		AND EXISTS (SELECT 1 FROM walarchive.parameter_change l
					WHERE l.source = p_source AND l.system_identifier = p_system_identifier AND l.timeline = p_timeline
						AND l.start_lsn > r.start_lsn AND l.start_lsn < taken);
	PERFORM walarchive.remove_prepared(p_source, p_system_identifier, p_timeline, taken);
	DELETE FROM walarchive.destructive_commit r
	WHERE r.source = p_source AND r.system_identifier = p_system_identifier AND r.timeline = p_timeline AND r.start_lsn < taken;
END
$$;
REVOKE ALL ON FUNCTION walarchive.take_removal(text, bigint, integer, integer) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.take_removal(text, bigint, integer, integer) IS
'private: take the next files that expire() has decided upon out of the catalog, for the caller to remove';

-- Orders of a cluster of which nothing is left to do are done.
CREATE FUNCTION walarchive.finish_removal(p_source text, p_system_identifier bigint)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	done bigint;
BEGIN
	IF NOT walarchive.lock_source_index(p_source) THEN
		RETURN -1;
	END IF;
	DELETE FROM walarchive.removal_order o
	WHERE o.source = p_source AND o.system_identifier = p_system_identifier
		AND NOT EXISTS (SELECT 1 FROM walarchive.segment g
						WHERE g.source = p_source AND g.system_identifier = p_system_identifier AND g.timeline = o.timeline
							AND g.end_lsn <= o.to_lsn);
	GET DIAGNOSTICS done = ROW_COUNT;
	RETURN done;
END
$$;
REVOKE ALL ON FUNCTION walarchive.finish_removal(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.finish_removal(text, bigint) IS
'private: forget the orders of expire() that are carried out; returns how many';

-- wal.sha256 is going to be replaced: until it is known again how far the
-- catalog has it, it is read from its start.
CREATE FUNCTION walarchive.begin_dropping_sums(p_source text, p_system_identifier bigint)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- not to be lost in a crash after the file has been replaced
	PERFORM pg_catalog.set_config('synchronous_commit', 'local', true);
	IF NOT walarchive.lock_source_index(p_source) THEN
		RETURN false;
	END IF;
	UPDATE walarchive.sum_progress p SET file_offset = 0
	WHERE p.source = p_source AND p.system_identifier = p_system_identifier;
	RETURN true;
END
$$;
REVOKE ALL ON FUNCTION walarchive.begin_dropping_sums(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.begin_dropping_sums(text, bigint) IS
'private: note that wal.sha256 is going to be replaced by a shorter one';

-- It was replaced: names from p_first on and before p_behind are no longer in it,
-- unless such a file is there.  The catalog has all of its p_size bytes, or it is
-- not known (NULL).
CREATE FUNCTION walarchive.finish_dropping_sums(
	p_source text,
	p_system_identifier bigint,
	p_first text[],
	p_behind text[],
	p_size bigint)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	dropped bigint;
BEGIN
	IF NOT walarchive.lock_source_index(p_source) THEN
		RETURN -1;
	END IF;
	DELETE FROM walarchive.file_sum f
	USING ROWS FROM (pg_catalog.unnest(p_first), pg_catalog.unnest(p_behind)) AS r (first, behind)
	WHERE f.source = p_source AND f.system_identifier = p_system_identifier
		AND f.name >= r.first COLLATE "C" AND f.name < r.behind COLLATE "C"
		AND pg_catalog.length(f.name) = 24
		AND NOT EXISTS (SELECT 1 FROM walarchive.segment g
						WHERE g.source = p_source AND g.system_identifier = p_system_identifier AND g.name = f.name);
	GET DIAGNOSTICS dropped = ROW_COUNT;
	IF p_size IS NOT NULL THEN
		UPDATE walarchive.sum_progress p SET file_offset = p_size
		WHERE p.source = p_source AND p.system_identifier = p_system_identifier;
	END IF;
	RETURN dropped;
END
$$;
REVOKE ALL ON FUNCTION walarchive.finish_dropping_sums(text, bigint, text[], text[], bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.finish_dropping_sums(text, bigint, text[], text[], bigint) IS
'private: forget checksums whose lines were taken out of wal.sha256; returns how many';

-- Forget the clusters of a source that are not in p_keep.
CREATE FUNCTION walarchive.forget_retention(p_source text, p_keep bigint[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM walarchive.hold h WHERE h.source = p_source AND h.system_identifier <> ALL (p_keep);
	DELETE FROM walarchive.plan l WHERE l.source = p_source AND l.system_identifier <> ALL (p_keep);
	DELETE FROM walarchive.removed_wal w WHERE w.source = p_source AND w.system_identifier <> ALL (p_keep);
	DELETE FROM walarchive.removal_order o WHERE o.source = p_source AND o.system_identifier <> ALL (p_keep);
END
$$;
REVOKE ALL ON FUNCTION walarchive.forget_retention(text, bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.forget_retention(text, bigint[]) IS
'private: forget holds and removals of clusters that are gone';
