-- Planning a restore: where a recovery will end, or why it can't, from what the
-- catalog knows.  The rules are src/base/restore_plan.c's; here is what they are
-- asked about, and what became of the answers.

-- Plans that were feasible, for plan_files() and for those who carry them out.
CREATE TABLE walarchive.plan (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	segment_size integer NOT NULL,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	created_by text NOT NULL,
	target text NOT NULL,
	backup text NOT NULL,
	chain text[] NOT NULL,
	timeline integer NOT NULL,
	timelines integer[] NOT NULL,
	begins pg_lsn[] NOT NULL,
	start_timeline integer NOT NULL,
	start_lsn pg_lsn NOT NULL,
	consistent_lsn pg_lsn NOT NULL,
	stop_lsn pg_lsn NOT NULL,
	needed_lsn pg_lsn NOT NULL,
	last_commit_xid xid,
	last_commit_time timestamptz,
	last_commit_lsn pg_lsn,
	prepared text[] NOT NULL,
	settings text NOT NULL,
	hold_id bigint,
	CHECK (pg_catalog.cardinality(timelines) = pg_catalog.cardinality(begins))
);
CREATE INDEX plan_created_idx ON walarchive.plan (created_at);
REVOKE ALL ON TABLE walarchive.plan FROM PUBLIC;
REVOKE ALL ON SEQUENCE walarchive.plan_id_seq FROM PUBLIC;

COMMENT ON TABLE walarchive.plan IS 'private: feasible plans of plan_restore(); those of a day ago and older go unless they are held; read restore_plan instead';
COMMENT ON COLUMN walarchive.plan.id IS 'number of the plan';
COMMENT ON COLUMN walarchive.plan.source IS 'name of the source';
COMMENT ON COLUMN walarchive.plan.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.plan.segment_size IS 'size of its WAL segments in bytes';
COMMENT ON COLUMN walarchive.plan.created_at IS 'when it was made';
COMMENT ON COLUMN walarchive.plan.created_by IS 'role that made it';
COMMENT ON COLUMN walarchive.plan.target IS 'what was asked for';
COMMENT ON COLUMN walarchive.plan.backup IS 'the backup that is restored';
COMMENT ON COLUMN walarchive.plan.chain IS 'it and those that it builds on, the full one first';
COMMENT ON COLUMN walarchive.plan.timeline IS 'recovery_target_timeline';
COMMENT ON COLUMN walarchive.plan.timelines IS 'the timelines that lead to it, oldest first';
COMMENT ON COLUMN walarchive.plan.begins IS 'where each was entered, 0/0 for the first';
COMMENT ON COLUMN walarchive.plan.start_timeline IS 'timeline of start_lsn';
COMMENT ON COLUMN walarchive.plan.start_lsn IS 'the backup''s redo point: WAL is read from here on';
COMMENT ON COLUMN walarchive.plan.consistent_lsn IS 'where recovery is consistent';
COMMENT ON COLUMN walarchive.plan.stop_lsn IS 'end of the last record that is replayed';
COMMENT ON COLUMN walarchive.plan.needed_lsn IS 'end of the last record that is read';
COMMENT ON COLUMN walarchive.plan.last_commit_xid IS 'last transaction whose commit is replayed; NULL: none';
COMMENT ON COLUMN walarchive.plan.last_commit_time IS 'time of that commit';
COMMENT ON COLUMN walarchive.plan.last_commit_lsn IS 'end of its record';
COMMENT ON COLUMN walarchive.plan.prepared IS 'prepared transactions that are open at the end';
COMMENT ON COLUMN walarchive.plan.settings IS 'lines for postgresql.auto.conf';
COMMENT ON COLUMN walarchive.plan.hold_id IS 'the hold that keeps its files; NULL: none was asked for';

CREATE VIEW walarchive.restore_plan AS
SELECT p.id AS plan_id, p.source, p.created_at, p.created_by, p.target, p.backup, p.timeline,
	   p.stop_lsn, p.last_commit_xid, p.last_commit_time, h.until AS held_until
FROM walarchive.plan p
	LEFT JOIN walarchive.hold h ON h.id = p.hold_id AND h.until > pg_catalog.now();
REVOKE ALL ON TABLE walarchive.restore_plan FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.restore_plan TO pg_monitor;

COMMENT ON VIEW walarchive.restore_plan IS 'restores that were planned in the last day, or whose files are held';
COMMENT ON COLUMN walarchive.restore_plan.plan_id IS 'number of the plan, for plan_files(), renew_plan() and release_plan()';
COMMENT ON COLUMN walarchive.restore_plan.source IS 'name of the source';
COMMENT ON COLUMN walarchive.restore_plan.created_at IS 'when it was made';
COMMENT ON COLUMN walarchive.restore_plan.created_by IS 'role that made it';
COMMENT ON COLUMN walarchive.restore_plan.target IS 'what was asked for';
COMMENT ON COLUMN walarchive.restore_plan.backup IS 'the backup that is restored';
COMMENT ON COLUMN walarchive.restore_plan.timeline IS 'recovery_target_timeline';
COMMENT ON COLUMN walarchive.restore_plan.stop_lsn IS 'end of the last record that is replayed';
COMMENT ON COLUMN walarchive.restore_plan.last_commit_xid IS 'last transaction whose commit is replayed; NULL: none';
COMMENT ON COLUMN walarchive.restore_plan.last_commit_time IS 'time of that commit';
COMMENT ON COLUMN walarchive.restore_plan.held_until IS 'until then nothing that it needs is expired; NULL: it is not held';

-- ---- what the planner asks ----

-- One record of a stretch of WAL, and what came before it.  p_what is time,
-- time_or_equal (the first commit or abort later than p_time, or not earlier),
-- xid (of transaction p_xid), record (any), none, or "name" with a blank and the
-- name of a restore point.  Only records that start in
-- [p_from, p_to) and end at or before p_within count.  Roles: match; last_record,
-- last_xact and last_commit before it; prepared (open there); finished (the end of
-- what was prepared before p_from); settings (changed before the match); or a
-- single row "failed" with the reason.
CREATE FUNCTION walarchive.find_in_wal(
	p_source text,
	p_system_identifier bigint,
	p_segment_size integer,
	p_path text,
	p_from pg_lsn,
	p_to pg_lsn,
	p_within pg_lsn,
	p_what text,
	p_time timestamptz,
	p_xid xid,
	OUT role text,
	OUT kind text,
	OUT timeline integer,
	OUT start_lsn pg_lsn,
	OUT end_lsn pg_lsn,
	OUT prev_lsn pg_lsn,
	OUT xid xid,
	OUT xact_time timestamptz,
	OUT detail text)
RETURNS SETOF record
LANGUAGE c STABLE
AS 'MODULE_PATHNAME', 'wa_find_in_wal';
REVOKE ALL ON FUNCTION walarchive.find_in_wal(text, bigint, integer, text, pg_lsn, pg_lsn, pg_lsn, text, timestamptz, xid) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.find_in_wal(text, bigint, integer, text, pg_lsn, pg_lsn, pg_lsn, text, timestamptz, xid) IS
'private: a record of a stretch of archived WAL, and what came before it';

-- The first segment of a path that may hold a commit or abort of that time or
-- later: which of the timelines it is of, counted from 1, and its start.  Each
-- timeline counts from its p_lows to its p_highs.
--
-- Rows lie about in the order of their WAL.  So the first that the scan of a range
-- index comes to is the one, or near it: then it is asked for one before that.
CREATE FUNCTION walarchive.first_segment_by_time(
	p_source text,
	p_system_identifier bigint,
	p_timelines integer[],
	p_lows pg_lsn[],
	p_highs pg_lsn[],
	p_time timestamptz,
	OUT n integer,
	OUT start_lsn pg_lsn)
RETURNS record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_indexscan = off
SET jit = off
AS $$
DECLARE
	first_low CONSTANT pg_lsn := p_lows[1];
	better record;
	bound pg_lsn := p_highs[pg_catalog.cardinality(p_highs)];
	tries integer := 0;
BEGIN
	LOOP
		tries := tries + 1;
		SELECT u.n, s.start_lsn INTO better
		FROM walarchive.segment s
			JOIN ROWS FROM (pg_catalog.unnest(p_timelines), pg_catalog.unnest(p_lows), pg_catalog.unnest(p_highs))
				WITH ORDINALITY AS u (timeline, low, high, n)
				ON s.timeline = u.timeline AND s.end_lsn > u.low AND s.start_lsn < u.high
		WHERE s.source = p_source AND s.system_identifier = p_system_identifier
			AND s.end_lsn > first_low AND s.start_lsn < bound AND s.max_commit_time >= p_time
		LIMIT 1;
		EXIT WHEN NOT FOUND;
		n := better.n;
		start_lsn := better.start_lsn;
		bound := better.start_lsn;
		EXIT WHEN tries = 10;
	END LOOP;
	IF n IS NULL THEN
		RETURN;
	END IF;
	-- in no order after all; or of two timelines that have this segment the one that comes first
	SELECT u.n, s.start_lsn INTO better
	FROM walarchive.segment s
		JOIN ROWS FROM (pg_catalog.unnest(p_timelines), pg_catalog.unnest(p_lows), pg_catalog.unnest(p_highs))
			WITH ORDINALITY AS u (timeline, low, high, n)
			ON s.timeline = u.timeline AND s.end_lsn > u.low AND s.start_lsn < u.high
	WHERE s.source = p_source AND s.system_identifier = p_system_identifier
		AND s.end_lsn > CASE WHEN tries = 10 THEN first_low ELSE bound END AND s.start_lsn <= bound
		AND s.max_commit_time >= p_time
	ORDER BY s.start_lsn, u.n LIMIT 1;
	n := better.n;
	start_lsn := better.start_lsn;
END
$$;
REVOKE ALL ON FUNCTION walarchive.first_segment_by_time(text, bigint, integer[], pg_lsn[], pg_lsn[], timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.first_segment_by_time(text, bigint, integer[], pg_lsn[], pg_lsn[], timestamptz) IS
'private: the first segment of a path that may hold a commit or abort of a time or later';

-- All segments of a cluster that may hold the end of a transaction, of which 32
-- bits are known.
CREATE FUNCTION walarchive.segments_by_xid(
	p_source text,
	p_system_identifier bigint,
	p_xid xid,
	OUT timeline integer,
	OUT start_lsn pg_lsn)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
	epoch CONSTANT bigint := 4294967296;
	low bigint;
	high bigint;
	full_xid bigint;
BEGIN
	SELECT s.min_xid::text::bigint INTO low
	FROM walarchive.segment s
	WHERE s.source = p_source AND s.system_identifier = p_system_identifier AND s.min_xid IS NOT NULL
	ORDER BY s.source, s.system_identifier, s.timeline, s.start_lsn LIMIT 1;
	SELECT s.max_xid::text::bigint INTO high
	FROM walarchive.segment s
	WHERE s.source = p_source AND s.system_identifier = p_system_identifier AND s.max_xid IS NOT NULL
	ORDER BY s.source DESC, s.system_identifier DESC, s.timeline DESC, s.start_lsn DESC LIMIT 1;
	FOR full_xid IN
		SELECT e.e * epoch + p_xid::text::bigint
		FROM pg_catalog.generate_series(greatest(low / epoch - 1, 0), high / epoch + 1) AS e (e)
	LOOP
		RETURN QUERY
		SELECT s.timeline, s.start_lsn
		FROM walarchive.segment s
		WHERE s.source = p_source AND s.system_identifier = p_system_identifier
			AND s.min_xid::text::bigint <= full_xid AND s.max_xid::text::bigint >= full_xid;
	END LOOP;
	-- up to the first checkpoint that was read nothing is known of the upper half
	RETURN QUERY
	SELECT s.timeline, s.start_lsn
	FROM walarchive.segment s
	WHERE s.source = p_source AND s.system_identifier = p_system_identifier
		AND s.min_xid IS NULL AND s.commits + s.aborts > 0;
END
$$;
REVOKE ALL ON FUNCTION walarchive.segments_by_xid(text, bigint, xid) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.segments_by_xid(text, bigint, xid) IS
'private: the segments that may hold the end of a transaction';

-- The last segment of a timeline, between two places, in which a record starts,
-- or the end of a transaction ("xact"), or a commit.
CREATE FUNCTION walarchive.last_segment_with(
	p_source text,
	p_system_identifier bigint,
	p_timeline integer,
	p_from pg_lsn,
	p_to pg_lsn,
	p_what text)
RETURNS pg_lsn
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
	SELECT s.start_lsn
	FROM walarchive.segment s
	WHERE s.source = p_source AND s.system_identifier = p_system_identifier AND s.timeline = p_timeline
		-- no segment is larger
		AND s.start_lsn >= '0/0'::pg_lsn + greatest(p_from - '0/0'::pg_lsn - 1073741824, 0) AND s.end_lsn > p_from
		AND s.start_lsn < p_to
		AND CASE p_what WHEN 'record' THEN s.records WHEN 'xact' THEN s.commits + s.aborts ELSE s.commits END > 0
	ORDER BY s.start_lsn DESC LIMIT 1
$$;
REVOKE ALL ON FUNCTION walarchive.last_segment_with(text, bigint, integer, pg_lsn, pg_lsn, text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.last_segment_with(text, bigint, integer, pg_lsn, pg_lsn, text) IS
'private: the last segment in which a record, the end of a transaction or a commit starts';

-- Where the last record starts that is known of a timeline's segments which start
-- between two places; NULL: none is.
CREATE FUNCTION walarchive.last_known_record(
	p_source text,
	p_system_identifier bigint,
	p_timeline integer,
	p_from pg_lsn,
	p_to pg_lsn)
RETURNS pg_lsn
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
	SELECT s.last_record_lsn
	FROM walarchive.segment s
	WHERE s.source = p_source AND s.system_identifier = p_system_identifier AND s.timeline = p_timeline
		AND s.start_lsn >= p_from AND s.start_lsn < p_to AND s.last_record_lsn IS NOT NULL
	ORDER BY s.start_lsn DESC LIMIT 1
$$;
REVOKE ALL ON FUNCTION walarchive.last_known_record(text, bigint, integer, pg_lsn, pg_lsn) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.last_known_record(text, bigint, integer, pg_lsn, pg_lsn) IS
'private: where the last record starts that is known of segments of a timeline';

-- The stretches of checked WAL, and why each ends.
CREATE FUNCTION walarchive.plan_runs(
	p_source text,
	p_system_identifier bigint,
	p_live_timeline integer,
	p_live_lsn pg_lsn,
	OUT timeline integer,
	OUT from_lsn pg_lsn,
	OUT to_lsn pg_lsn,
	OUT ended_by text,
	OUT resumes pg_lsn)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT r.timeline, r.from_lsn, r.to_lsn,
		   CASE
			   WHEN r.ended_by = 'damage' AND EXISTS (SELECT 1 FROM walarchive.segment s
													   WHERE s.source = r.source AND s.system_identifier = r.system_identifier
														AND s.timeline = r.timeline AND s.decode_state = 'quarantined'
														AND s.start_lsn <= r.to_lsn AND s.end_lsn > r.to_lsn) THEN 'quarantined'
			   -- what is there and not read yet
			   WHEN r.ended_by = 'head' AND (p.runs_stale
											 OR (r.timeline = p_live_timeline AND d.next_lsn = r.to_lsn AND p_live_lsn >= d.need_lsn)
											 OR EXISTS (SELECT 1 FROM walarchive.segment s
														WHERE s.source = r.source AND s.system_identifier = r.system_identifier
															AND s.timeline = r.timeline AND s.start_lsn >= r.to_lsn
															AND s.decode_state = 'pending' AND s.state = 'finished'
															-- not what has come since it was asked
															AND (s.timeline <> p_live_timeline OR p_live_lsn IS NULL OR s.start_lsn < p_live_lsn))) THEN 'pending'
			   ELSE r.ended_by
		   END,
		   pg_catalog.lead(r.from_lsn) OVER (PARTITION BY r.timeline ORDER BY r.from_lsn)
	FROM (SELECT w.source, w.system_identifier, w.timeline, w.from_lsn, w.to_lsn, w.ended_by
		  FROM walarchive.wal_run w
		  WHERE w.source = p_source AND w.system_identifier = p_system_identifier
		  UNION ALL
		  -- a timeline that begins with damage
		  SELECT p_source, p_system_identifier, t.timeline, s.start_lsn, s.start_lsn, 'damage'
		  FROM walarchive.timeline t
			  CROSS JOIN LATERAL (SELECT f.start_lsn, f.decode_state, f.damage
								  FROM walarchive.segment f
								  WHERE f.source = p_source AND f.system_identifier = p_system_identifier
									AND f.timeline = t.timeline
								  ORDER BY f.start_lsn LIMIT 1) s
		  WHERE t.source = p_source AND t.system_identifier = p_system_identifier AND t.fork_lsn IS NOT NULL
			AND (s.damage IS NOT NULL OR s.decode_state IN ('damaged', 'quarantined'))) r
		LEFT JOIN walarchive.index_progress p ON p.source = r.source
		LEFT JOIN walarchive.decode_progress d ON d.source = r.source
			AND d.system_identifier = r.system_identifier AND d.timeline = r.timeline
	ORDER BY r.timeline, r.from_lsn
$$;
REVOKE ALL ON FUNCTION walarchive.plan_runs(text, bigint, integer, pg_lsn) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.plan_runs(text, bigint, integer, pg_lsn) IS
'private: the stretches of checked WAL of a cluster, for the planner';

-- Is there news of the newest timeline that the catalog will know in a moment?
CREATE FUNCTION walarchive.index_lags(
	p_source text,
	p_system_identifier bigint,
	p_timeline integer,
	p_lsn pg_lsn)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce((SELECT p.runs_stale OR p.windows_stale FROM walarchive.index_progress p WHERE p.source = p_source), true)
		OR coalesce((SELECT p_lsn >= d.need_lsn AND p_lsn - d.next_lsn < 256 * 1048576
					 FROM walarchive.decode_progress d
					 WHERE d.source = p_source AND d.system_identifier = p_system_identifier
						AND d.timeline = p_timeline), p_lsn IS NOT NULL)
		-- after a failover: WAL of a timeline that the catalog does not know yet
		OR EXISTS (SELECT 1 FROM walarchive.receiver_state() r
				   WHERE r.source = p_source AND r.system_identifier = p_system_identifier
					   AND r.received_tli > p_timeline AND r.flushed_lsn > '0/0'
					   AND NOT EXISTS (SELECT 1 FROM walarchive.decode_progress d
									   WHERE d.source = p_source AND d.system_identifier = p_system_identifier
										   AND d.timeline = r.received_tli AND d.need_lsn > r.flushed_lsn))
$$;
REVOKE ALL ON FUNCTION walarchive.index_lags(text, bigint, integer, pg_lsn) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.index_lags(text, bigint, integer, pg_lsn) IS
'private: whether the catalog is about to learn more of WAL that is there up to a place';

-- Settings of the server that a recovery has to have at least, from what its WAL
-- says between the two places, and what was the last said before; a row for each
-- that is known.  p_more_lsns and p_more_values are changes of which there is no
-- row, because they were read in a copy of WAL that a timeline begins with.  What
-- was changed in WAL that is missing before p_start is not known: nobody can read
-- it, and only the backup's pg_control tells.
CREATE FUNCTION walarchive.plan_parameters(
	p_source text,
	p_system_identifier bigint,
	p_timelines integer[],
	p_begins pg_lsn[],
	p_start pg_lsn,
	p_stop pg_lsn,
	p_more_lsns pg_lsn[],
	p_more_values text[],
	OUT name text,
	OUT value integer)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH change AS (
		SELECT c.start_lsn, c.max_connections, c.max_worker_processes, c.max_wal_senders, c.max_prepared_transactions,
			   c.max_locks_per_transaction
		FROM ROWS FROM (pg_catalog.unnest(p_timelines), pg_catalog.unnest(p_begins)) WITH ORDINALITY AS t (timeline, begin_lsn, n)
			JOIN walarchive.parameter_change c ON c.source = p_source
				AND c.system_identifier = p_system_identifier AND c.timeline = t.timeline
				AND c.start_lsn >= t.begin_lsn
				AND (p_begins[t.n + 1] IS NULL OR c.start_lsn < p_begins[t.n + 1])
				AND c.start_lsn < p_stop
		UNION ALL
		SELECT m.start_lsn, v.v[1], v.v[2], v.v[3], v.v[4], v.v[5]
		FROM ROWS FROM (pg_catalog.unnest(p_more_lsns), pg_catalog.unnest(p_more_values)) AS m (start_lsn, value)
			CROSS JOIN LATERAL (SELECT pg_catalog.string_to_array(m.value, ' ')::integer[] AS v) v
		WHERE m.start_lsn < p_stop
	), counted AS (
		-- those that hold at the start, and all that come after
		SELECT c.* FROM change c
		WHERE c.start_lsn >= p_start
			OR c.start_lsn = (SELECT pg_catalog.max(b.start_lsn) FROM change b WHERE b.start_lsn < p_start)
	)
	SELECT v.name, pg_catalog.max(v.value)
	FROM counted c
		CROSS JOIN LATERAL (VALUES (1, 'max_connections', c.max_connections),
								   (2, 'max_worker_processes', c.max_worker_processes),
								   (3, 'max_wal_senders', c.max_wal_senders),
								   (4, 'max_prepared_transactions', c.max_prepared_transactions),
								   (5, 'max_locks_per_transaction', c.max_locks_per_transaction)) AS v (n, name, value)
	GROUP BY v.n, v.name
	ORDER BY v.n
$$;
REVOKE ALL ON FUNCTION walarchive.plan_parameters(text, bigint, integer[], pg_lsn[], pg_lsn, pg_lsn, pg_lsn[], text[]) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.plan_parameters(text, bigint, integer[], pg_lsn[], pg_lsn, pg_lsn, pg_lsn[], text[]) IS
'private: settings that a recovery has to have at least';

-- ---- plans ----

CREATE FUNCTION walarchive.store_plan(
	p_source text,
	p_system_identifier bigint,
	p_segment_size integer,
	p_created_by text,
	p_target text,
	p_chain text[],
	p_timelines integer[],
	p_begins pg_lsn[],
	p_start_timeline integer,
	p_start_lsn pg_lsn,
	p_consistent_lsn pg_lsn,
	p_stop_lsn pg_lsn,
	p_needed_lsn pg_lsn,
	p_last_commit_xid xid,
	p_last_commit_time timestamptz,
	p_last_commit_lsn pg_lsn,
	p_prepared text[],
	p_settings text,
	p_hold interval)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	plan_id bigint;
	hold bigint;
	label text := p_chain[pg_catalog.cardinality(p_chain)];
BEGIN
	DELETE FROM walarchive.plan p
	WHERE p.created_at < pg_catalog.now() - '1 day'::interval
		AND NOT EXISTS (SELECT 1 FROM walarchive.hold h WHERE h.id = p.hold_id AND h.until > pg_catalog.now());
	INSERT INTO walarchive.plan
		(source, system_identifier, segment_size, created_by, target, backup, chain, timeline, timelines, begins,
		 start_timeline, start_lsn, consistent_lsn, stop_lsn, needed_lsn, last_commit_xid, last_commit_time,
		 last_commit_lsn, prepared, settings)
	VALUES (p_source, p_system_identifier, p_segment_size, p_created_by, p_target, label, p_chain,
			p_timelines[pg_catalog.cardinality(p_timelines)], p_timelines, p_begins,
			p_start_timeline, p_start_lsn, p_consistent_lsn, p_stop_lsn, p_needed_lsn, p_last_commit_xid, p_last_commit_time,
			p_last_commit_lsn, p_prepared, p_settings)
	RETURNING id INTO plan_id;
	IF p_hold IS NOT NULL THEN
		PERFORM walarchive.hold_plan(plan_id, p_hold);
	END IF;
	RETURN plan_id;
END
$$;
REVOKE ALL ON FUNCTION walarchive.store_plan(text, bigint, integer, text, text, text[], integer[], pg_lsn[], integer, pg_lsn, pg_lsn, pg_lsn, pg_lsn, xid, timestamptz, pg_lsn, text[], text, interval) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.store_plan(text, bigint, integer, text, text, text[], integer[], pg_lsn[], integer, pg_lsn, pg_lsn, pg_lsn, pg_lsn, xid, timestamptz, pg_lsn, text[], text, interval) IS
'private: keep a plan, and perhaps hold what it needs; returns its number';

CREATE FUNCTION walarchive.hold_plan(p_id bigint, p_hold interval)
RETURNS timestamptz
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p walarchive.plan;
	ends timestamptz := pg_catalog.now() + p_hold;
BEGIN
	IF p_hold IS NULL OR ends <= pg_catalog.now() THEN
		RAISE EXCEPTION 'hold must be longer than nothing' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	SELECT l.* INTO p FROM walarchive.plan l WHERE l.id = p_id FOR UPDATE;
	UPDATE walarchive.hold h SET until = ends
	WHERE h.id = p.hold_id AND h.until > pg_catalog.now();
	IF NOT FOUND THEN
		-- one that is over may have cost files: a backup that is gone is an error here
		UPDATE walarchive.plan l
		SET hold_id = walarchive.place_hold(p.source, p.system_identifier, pg_catalog.format('restore plan %s', p_id),
											p_label => p.backup, p_until => ends)
		WHERE l.id = p_id;
	END IF;
	RETURN ends;
END
$$;
REVOKE ALL ON FUNCTION walarchive.hold_plan(bigint, interval) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.hold_plan(bigint, interval) IS
'private: keep what a plan needs from being removed, from now on for a time';

CREATE FUNCTION walarchive.drop_plan_hold(p_id bigint)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	hold bigint;
BEGIN
	SELECT l.hold_id INTO hold FROM walarchive.plan l WHERE l.id = p_id FOR UPDATE;
	UPDATE walarchive.plan l SET hold_id = NULL WHERE l.id = p_id;
	RETURN coalesce(walarchive.release_hold(hold), false);
END
$$;
REVOKE ALL ON FUNCTION walarchive.drop_plan_hold(bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.drop_plan_hold(bigint) IS
'private: end the hold of a plan; false if it had none';

CREATE FUNCTION walarchive.segment_file(p_timeline integer, p_number numeric, p_segment_size integer)
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT pg_catalog.upper(pg_catalog.lpad(pg_catalog.to_hex(p_timeline), 8, '0')
							|| pg_catalog.lpad(pg_catalog.to_hex((pg_catalog.div(p_number, pg_catalog.div(4294967296, p_segment_size)))::bigint), 8, '0')
							|| pg_catalog.lpad(pg_catalog.to_hex((p_number % pg_catalog.div(4294967296, p_segment_size))::bigint), 8, '0'))
$$;
REVOKE ALL ON FUNCTION walarchive.segment_file(integer, numeric, integer) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.segment_file(integer, numeric, integer) IS
'private: file name of a WAL segment';

-- Files of a backup's folder that a restore reads, and of a history.
CREATE FUNCTION walarchive.backup_file_list(source text, system_identifier bigint, label text, OUT name text, OUT size bigint)
RETURNS SETOF record
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'wa_backup_file_list';
REVOKE ALL ON FUNCTION walarchive.backup_file_list(text, bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.backup_file_list(text, bigint, text) IS
'private: the files of a backup''s folder';

CREATE FUNCTION walarchive.history_size(source text, system_identifier bigint, timeline integer)
RETURNS bigint
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'wa_history_size';
REVOKE ALL ON FUNCTION walarchive.history_size(text, bigint, integer) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.history_size(text, bigint, integer) IS
'private: size of a timeline''s history file in bytes; NULL: there is none';

CREATE FUNCTION walarchive.files_of_plan(
	p_id bigint,
	OUT ord bigint,
	OUT kind text,
	OUT label text,
	OUT name text,
	OUT timeline integer,
	OUT size bigint,
	OUT sha256 text)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
	zero CONSTANT pg_lsn := '0/0';
	p walarchive.plan;
	first_number numeric;
	last_number numeric;
	own_end numeric;
BEGIN
	SELECT l.* INTO p FROM walarchive.plan l WHERE l.id = p_id;
	ord := 0;
	kind := 'backup';
	FOR label, name, size, sha256 IN
		SELECT c.label, f.name, f.size, CASE WHEN f.name = 'backup_manifest' THEN b.manifest_sha256 END
		FROM pg_catalog.unnest(p.chain) WITH ORDINALITY AS c (label, n)
			JOIN walarchive.backup b ON b.source = p.source AND b.system_identifier = p.system_identifier AND b.label = c.label
			CROSS JOIN LATERAL walarchive.backup_file_list(p.source, p.system_identifier, c.label) f
		ORDER BY c.n, f.name <> 'backup_manifest', f.name
	LOOP
		ord := ord + 1;
		RETURN NEXT;
	END LOOP;

	kind := 'history';
	label := NULL;
	sha256 := NULL;
	FOR timeline, size IN
		SELECT t.timeline, h.size
		FROM pg_catalog.unnest(p.timelines) AS t (timeline)
			CROSS JOIN LATERAL (SELECT walarchive.history_size(p.source, p.system_identifier, t.timeline) AS size) h
		WHERE h.size IS NOT NULL
		ORDER BY t.timeline DESC
	LOOP
		ord := ord + 1;
		name := pg_catalog.upper(pg_catalog.lpad(pg_catalog.to_hex(timeline), 8, '0')) || '.history';
		RETURN NEXT;
	END LOOP;

	-- of each segment the newest timeline that has entered it: that is what recovery asks for first
	kind := 'wal';
	size := p.segment_size;
	FOR i IN 1 .. pg_catalog.cardinality(p.timelines) LOOP
		timeline := p.timelines[i];
		first_number := greatest(pg_catalog.div(p.begins[i] - zero, p.segment_size), pg_catalog.div(p.start_lsn - zero, p.segment_size));
		last_number := pg_catalog.div(p.needed_lsn - zero - 1, p.segment_size);
		IF i < pg_catalog.cardinality(p.timelines) THEN
			last_number := least(last_number, pg_catalog.div(p.begins[i + 1] - zero, p.segment_size) - 1);
		END IF;
		FOR name, sha256 IN
			SELECT walarchive.segment_file(p.timelines[i], n.n, p.segment_size),
				   CASE WHEN s.state = 'finished' THEN pg_catalog.encode(s.sha256, 'hex') END
			FROM pg_catalog.generate_series(first_number, last_number) AS n (n)
				LEFT JOIN walarchive.segment s ON s.source = p.source AND s.system_identifier = p.system_identifier
					AND s.timeline = p.timelines[i] AND s.start_lsn = zero + n.n * p.segment_size
			ORDER BY n.n
		LOOP
			ord := ord + 1;
			RETURN NEXT;
		END LOOP;
	END LOOP;
END
$$;
REVOKE ALL ON FUNCTION walarchive.files_of_plan(bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.files_of_plan(bigint) IS
'private: what plan_files() shows';

-- ---- the functions ----

-- A type of its own, because "backup" is an argument and a column.
CREATE TYPE walarchive.planned_restore AS (
	plan_id bigint,
	feasible boolean,
	reason text,
	hint text,
	backup text,
	timeline integer,
	timeline_path text,
	start_lsn pg_lsn,
	stop_lsn pg_lsn,
	last_commit_xid xid,
	last_commit_time timestamptz,
	last_commit_lsn pg_lsn,
	segments bigint,
	wal_bytes bigint,
	backup_bytes bigint,
	prepared text[],
	settings text
);
COMMENT ON TYPE walarchive.planned_restore IS 'a restore as plan_restore() foresees it';
COMMENT ON COLUMN walarchive.planned_restore.plan_id IS 'number of the plan, for plan_files(); NULL: not feasible, or made in a transaction that may not write';
COMMENT ON COLUMN walarchive.planned_restore.feasible IS 'whether recovery would end as described';
COMMENT ON COLUMN walarchive.planned_restore.reason IS 'why not, in a word';
COMMENT ON COLUMN walarchive.planned_restore.hint IS 'why not, with numbers, and the nearest targets that are feasible; of a feasible plan what is to be known of it, if anything';
COMMENT ON COLUMN walarchive.planned_restore.backup IS 'the backup that is restored';
COMMENT ON COLUMN walarchive.planned_restore.timeline IS 'recovery_target_timeline';
COMMENT ON COLUMN walarchive.planned_restore.timeline_path IS 'the timelines that are gone through, from the backup''s on';
COMMENT ON COLUMN walarchive.planned_restore.start_lsn IS 'WAL is read from here on';
COMMENT ON COLUMN walarchive.planned_restore.stop_lsn IS 'end of the last record that is replayed';
COMMENT ON COLUMN walarchive.planned_restore.last_commit_xid IS 'last transaction whose commit is replayed from WAL; NULL: none, what there is comes with the backup';
COMMENT ON COLUMN walarchive.planned_restore.last_commit_time IS 'time of that commit';
COMMENT ON COLUMN walarchive.planned_restore.last_commit_lsn IS 'end of its record';
COMMENT ON COLUMN walarchive.planned_restore.segments IS 'WAL files that are read';
COMMENT ON COLUMN walarchive.planned_restore.wal_bytes IS 'bytes of WAL that are read';
COMMENT ON COLUMN walarchive.planned_restore.backup_bytes IS 'bytes of the backup''s files, and of those that it builds on';
COMMENT ON COLUMN walarchive.planned_restore.prepared IS 'prepared transactions that are open where recovery ends; they keep their locks until somebody ends them';
COMMENT ON COLUMN walarchive.planned_restore.settings IS 'lines for postgresql.auto.conf, without restore_command';

CREATE FUNCTION walarchive.plan_restore(
	source text,
	target_time timestamptz DEFAULT NULL,
	target_lsn pg_lsn DEFAULT NULL,
	target_xid xid DEFAULT NULL,
	target_name text DEFAULT NULL,
	target_immediate boolean DEFAULT false,
	target_timeline integer DEFAULT NULL,
	inclusive boolean DEFAULT true,
	backup text DEFAULT NULL,
	hold interval DEFAULT NULL)
RETURNS walarchive.planned_restore
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_plan_restore_row';
REVOKE ALL ON FUNCTION walarchive.plan_restore(text, timestamptz, pg_lsn, xid, text, boolean, integer, boolean, text, interval) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.plan_restore(text, timestamptz, pg_lsn, xid, text, boolean, integer, boolean, text, interval) IS
'say where a recovery to a target will end, or why it can''t; default: the end of what is archived';

CREATE FUNCTION walarchive.plan_report(
	source text,
	target_time timestamptz DEFAULT NULL,
	target_lsn pg_lsn DEFAULT NULL,
	target_xid xid DEFAULT NULL,
	target_name text DEFAULT NULL,
	target_immediate boolean DEFAULT false,
	target_timeline integer DEFAULT NULL,
	inclusive boolean DEFAULT true,
	backup text DEFAULT NULL,
	hold interval DEFAULT NULL)
RETURNS text
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_plan_report';
REVOKE ALL ON FUNCTION walarchive.plan_report(text, timestamptz, pg_lsn, xid, text, boolean, integer, boolean, text, interval) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.plan_report(text, timestamptz, pg_lsn, xid, text, boolean, integer, boolean, text, interval) IS
'plan_restore() as text for people';

CREATE FUNCTION walarchive.plan_files(
	plan_id bigint,
	OUT ord bigint,
	OUT kind text,
	OUT label text,
	OUT name text,
	OUT timeline integer,
	OUT size bigint,
	OUT sha256 text)
RETURNS SETOF record
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_files_of_plan';
REVOKE ALL ON FUNCTION walarchive.plan_files(bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.plan_files(bigint) IS
'the files that a plan needs, in order: those of the backup and of what it builds on, histories, WAL';

CREATE FUNCTION walarchive.renew_plan(plan_id bigint, hold interval)
RETURNS timestamptz
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_renew_plan';
REVOKE ALL ON FUNCTION walarchive.renew_plan(bigint, interval) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.renew_plan(bigint, interval) IS
'keep what a plan needs from being removed, from now on for a time; returns until when';

CREATE FUNCTION walarchive.release_plan(plan_id bigint)
RETURNS boolean
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_release_plan';
REVOKE ALL ON FUNCTION walarchive.release_plan(bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.release_plan(bigint) IS
'end the hold of a plan; false if there was none';

-- What somebody has destroyed, and the plan that ends just before it.  All is
-- done with the rights of whoever calls it.
CREATE FUNCTION walarchive.plan_undo(
	source text,
	relation text DEFAULT NULL,
	commit_lsn pg_lsn DEFAULT NULL,
	from_time timestamptz DEFAULT NULL,
	to_time timestamptz DEFAULT NULL,
	target_timeline integer DEFAULT NULL,
	backup text DEFAULT NULL,
	hold interval DEFAULT NULL)
RETURNS walarchive.planned_restore
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	d record;
	plan walarchive.planned_restore;
	look_from timestamptz;
	what text;
BEGIN
	IF (plan_undo.relation IS NULL) = (plan_undo.commit_lsn IS NULL) THEN
		RAISE EXCEPTION 'either a relation or commit_lsn has to be given'
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'walarchive.destructive_commits() lists what was destroyed.';
	END IF;
	-- names take time: what has just happened is looked at first
	FOREACH look_from IN ARRAY CASE
			WHEN plan_undo.commit_lsn IS NOT NULL THEN ARRAY[NULL::timestamptz]
			WHEN plan_undo.from_time IS NOT NULL THEN ARRAY[plan_undo.from_time]
			ELSE ARRAY[pg_catalog.now() - '1 day'::interval, pg_catalog.now() - '30 days'::interval, NULL] END
	LOOP
		IF plan_undo.commit_lsn IS NOT NULL THEN
			SELECT c.* INTO d
			FROM walarchive.destructive_commits(plan_undo.source, from_lsn => plan_undo.commit_lsn,
												to_lsn => plan_undo.commit_lsn + 1, timeline => plan_undo.target_timeline) c
			ORDER BY c.restore_before_lsn LIMIT 1;
			IF NOT FOUND THEN
				SELECT c.* INTO d
				FROM walarchive.destructive_commits(plan_undo.source, to_lsn => plan_undo.commit_lsn,
													timeline => plan_undo.target_timeline) c
				WHERE c.end_lsn = plan_undo.commit_lsn
				ORDER BY c.restore_before_lsn LIMIT 1;
			END IF;
		ELSE
			SELECT c.* INTO d
			FROM walarchive.destructive_commits(plan_undo.source, from_time => look_from, to_time => plan_undo.to_time,
												timeline => plan_undo.target_timeline) c
			WHERE (c.kind <> 'rewrite' AND plan_undo.relation = ANY (c.relations))
				OR (c.kind <> 'rewrite' AND pg_catalog.strpos(plan_undo.relation, '.') = 0
					AND EXISTS (SELECT 1 FROM pg_catalog.unnest(c.relations) AS r (name)
								WHERE r.name = 'public.' || plan_undo.relation))
				OR (c.kind = 'database' AND c.database = plan_undo.relation)
			ORDER BY c.start_lsn DESC LIMIT 1;
		END IF;
		EXIT WHEN d.start_lsn IS NOT NULL;
	END LOOP;
	IF d.start_lsn IS NULL THEN
		IF plan_undo.commit_lsn IS NOT NULL THEN
			RAISE EXCEPTION 'no destructive transaction of source "%" ends at %', plan_undo.source, plan_undo.commit_lsn
				USING ERRCODE = 'no_data_found',
					HINT = pg_catalog.format('SELECT * FROM walarchive.destructive_commits(%L) lists them.', plan_undo.source);
		END IF;
		RAISE EXCEPTION 'no transaction that dropped or truncated "%" is archived of source "%"', plan_undo.relation, plan_undo.source
			USING ERRCODE = 'no_data_found',
				HINT = pg_catalog.format('Names are as in walarchive.destructive_commits(%L), such as public.orders.', plan_undo.source);
	END IF;
	IF d.restore_before_lsn IS NULL THEN
		RAISE EXCEPTION 'it is not known where transaction % began to destroy something', d.xid
			USING ERRCODE = 'object_not_in_prerequisite_state',
				DETAIL = 'No record before it is archived.';
	END IF;
	plan := walarchive.plan_restore(plan_undo.source, target_lsn => d.restore_before_lsn,
									target_timeline => plan_undo.target_timeline,
									backup => plan_undo.backup, hold => plan_undo.hold);
	what := pg_catalog.format('Just before transaction %s%s: %s of %s.', d.xid,
							  coalesce(' of ' || d.xact_time::text, ''), d.kind,
							  CASE WHEN d.kind = 'database' THEN coalesce(d.database, '(unknown)')
								   ELSE coalesce(pg_catalog.array_to_string(d.relations[1:5], ', ')
												 || CASE WHEN pg_catalog.cardinality(d.relations) > 5 THEN ', ...' ELSE '' END, '(unknown)') END);
	plan.hint := pg_catalog.concat_ws(' ', what, plan.hint);
	RETURN plan;
END
$$;
REVOKE ALL ON FUNCTION walarchive.plan_undo(text, text, pg_lsn, timestamptz, timestamptz, integer, text, interval) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.plan_undo(text, text, pg_lsn, timestamptz, timestamptz, integer, text, interval) IS
'the plan that ends just before a relation (or database) was last dropped or truncated, or before a row of destructive_commits()';
