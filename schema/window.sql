-- What can be recovered: stretches of WAL without a hole, the backups whose WAL
-- is in them, and from each backup how far each timeline can be followed.
--
-- All of it is derived from segments, gaps, timelines and backups.  Decoding
-- makes the last stretch of its timeline longer at next to no cost
-- (store_decoded); whatever else changes marks it as stale, and the indexer
-- derives it anew.

CREATE TABLE walarchive.wal_run (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	timeline integer NOT NULL,
	from_lsn pg_lsn NOT NULL,
	to_lsn pg_lsn NOT NULL,
	ended_by text NOT NULL CHECK (ended_by IN ('head', 'gap', 'damage', 'unknown', 'pending')),
	grown_time timestamptz,
	PRIMARY KEY (source, system_identifier, timeline, from_lsn)
);
REVOKE ALL ON TABLE walarchive.wal_run FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.wal_run TO pg_monitor;

COMMENT ON TABLE walarchive.wal_run IS 'stretches of archived WAL that were decoded, and so checked, without a hole';
COMMENT ON COLUMN walarchive.wal_run.source IS 'name of the source';
COMMENT ON COLUMN walarchive.wal_run.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.wal_run.timeline IS 'timeline of the WAL';
COMMENT ON COLUMN walarchive.wal_run.from_lsn IS 'start of its first segment; a record''s remains may come first';
COMMENT ON COLUMN walarchive.wal_run.to_lsn IS 'first byte that is not checked';
COMMENT ON COLUMN walarchive.wal_run.ended_by IS
'why it goes no further. head: nothing is archived or decoded beyond; gap; damage (or a segment on which the decoder died); unknown: WAL of a PostgreSQL version that is not known here; pending: the next segment turned up later and is not decoded yet';
COMMENT ON COLUMN walarchive.wal_run.grown_time IS 'private: latest commit or abort time in what was added since backup_window was computed';

CREATE TABLE walarchive.backup_window (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	label text NOT NULL,
	timeline integer NOT NULL,
	run_lsn pg_lsn NOT NULL,
	latest_time timestamptz,
	PRIMARY KEY (source, system_identifier, label, timeline)
);
REVOKE ALL ON TABLE walarchive.backup_window FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.backup_window TO pg_monitor;

COMMENT ON TABLE walarchive.backup_window IS 'private: timelines that each usable backup reaches; read recovery_window instead';
COMMENT ON COLUMN walarchive.backup_window.source IS 'name of the source';
COMMENT ON COLUMN walarchive.backup_window.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.backup_window.label IS 'the backup';
COMMENT ON COLUMN walarchive.backup_window.timeline IS 'a timeline that a restore of it can follow';
COMMENT ON COLUMN walarchive.backup_window.run_lsn IS 'from_lsn of the row of wal_run of this timeline in which the window ends';
COMMENT ON COLUMN walarchive.backup_window.latest_time IS 'latest commit or abort time on the way, but for wal_run.grown_time; NULL: there is none';

-- The timelines that lead to one, oldest first, each with the stretch of WAL
-- that belongs to the way: from begin_lsn (0/0: its first) to end_lsn (NULL:
-- its last).  A timeline whose parent is not known is the first.
CREATE FUNCTION walarchive.timeline_path(
	p_source text,
	p_system_identifier bigint,
	p_timeline integer,
	OUT depth integer,
	OUT timeline integer,
	OUT begin_lsn pg_lsn,
	OUT end_lsn pg_lsn)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH RECURSIVE way AS (
		SELECT 0 AS up, p_timeline AS timeline, t.parent_timeline, t.fork_lsn, NULL::pg_lsn AS end_lsn
		FROM (VALUES (1)) one (n)
			LEFT JOIN walarchive.timeline t ON t.source = p_source
				AND t.system_identifier = p_system_identifier AND t.timeline = p_timeline
		UNION ALL
		SELECT w.up + 1, w.parent_timeline, t.parent_timeline, t.fork_lsn, w.fork_lsn
		FROM way w
			LEFT JOIN walarchive.timeline t ON t.source = p_source
				AND t.system_identifier = p_system_identifier AND t.timeline = w.parent_timeline
		-- timelines only ever come from lower ones, and forks from later places
		WHERE w.parent_timeline < w.timeline AND w.fork_lsn IS NOT NULL
			AND (w.end_lsn IS NULL OR w.fork_lsn <= w.end_lsn)
	)
	SELECT (pg_catalog.max(w.up) OVER () - w.up)::integer, w.timeline,
		   CASE WHEN w.up = pg_catalog.max(w.up) OVER () THEN '0/0'::pg_lsn ELSE w.fork_lsn END,
		   w.end_lsn
	FROM way w
	ORDER BY w.up DESC
$$;
REVOKE ALL ON FUNCTION walarchive.timeline_path(text, bigint, integer) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.timeline_path(text, bigint, integer) IS
'private: the timelines that lead to one, with the stretch of WAL of each';

-- Something changed that the stretches of WAL or the backups' windows depend on.
CREATE FUNCTION walarchive.windows_changed(p_source text, p_runs boolean DEFAULT false)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE walarchive.index_progress p
	SET windows_stale = true, runs_stale = p.runs_stale OR p_runs
	WHERE p.source = p_source AND NOT (p.windows_stale AND (p.runs_stale OR NOT p_runs))
$$;
REVOKE ALL ON FUNCTION walarchive.windows_changed(text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.windows_changed(text, boolean) IS
'private: have the windows of a source''s backups, and perhaps its stretches of WAL, derived anew';

-- Derive the stretches of a cluster's WAL from its segments.
--
-- A stretch is made of segments that follow one another, are decoded and not
-- known to be damaged.  The last one may be decoded in part: up to the cursor of
-- its timeline if that stands there, else up to where the cursor was before it
-- went on behind a gap.
CREATE FUNCTION walarchive.derive_runs(p_source text, p_system_identifier bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
BEGIN
	DELETE FROM walarchive.wal_run r
	WHERE r.source = p_source AND r.system_identifier = p_system_identifier;

	INSERT INTO walarchive.wal_run
		(source, system_identifier, timeline, from_lsn, to_lsn, ended_by)
	WITH seg AS (
		SELECT s.timeline, s.start_lsn, s.end_lsn, s.decode_state, s.damage,
			   -- nothing after it was read: the cursor has gone on behind a gap
			   coalesce(s.read_lsn, s.last_record_lsn, s.start_lsn) AS read_lsn,
			   s.decode_state IN ('decoded', 'decoding') AND s.damage IS NULL AS good
		FROM walarchive.segment s
		WHERE s.source = p_source AND s.system_identifier = p_system_identifier
	), edge AS (
		-- the segments at which a stretch begins or ends
		SELECT e.*
		FROM (SELECT s.*,
					 s.good AND (pg_catalog.lag(s.good) OVER w AND pg_catalog.lag(s.decode_state) OVER w = 'decoded'
								 AND pg_catalog.lag(s.end_lsn) OVER w = s.start_lsn) IS NOT TRUE AS first,
					 s.good AND (pg_catalog.lead(s.good) OVER w AND s.decode_state = 'decoded'
								 AND pg_catalog.lead(s.start_lsn) OVER w = s.end_lsn) IS NOT TRUE AS last,
					 pg_catalog.lead(s.start_lsn) OVER w AS next_start,
					 pg_catalog.lead(s.decode_state) OVER w AS next_state,
					 pg_catalog.lead(s.damage) OVER w AS next_damage
			  FROM seg s
			  WINDOW w AS (PARTITION BY s.timeline ORDER BY s.start_lsn)) e
		WHERE e.first OR e.last
	), run AS (
		SELECT e.timeline,
			   -- a stretch of one segment is both
			   CASE WHEN e.first THEN e.start_lsn ELSE pg_catalog.lag(e.start_lsn) OVER w END AS from_lsn,
			   e.start_lsn AS last_start, e.end_lsn AS last_end, e.decode_state, e.read_lsn,
			   e.next_start, e.next_state, e.next_damage, e.last
		FROM edge e
		WINDOW w AS (PARTITION BY e.timeline ORDER BY e.start_lsn)
	), ended AS (
		SELECT r.*, d.next_lsn AS cursor,
			   CASE
				   -- the cursor may stand behind the header of a page, or in a segment in which no record starts
				   WHEN d.next_lsn >= r.last_start AND d.next_lsn <= r.last_end THEN d.next_lsn
				   WHEN r.decode_state = 'decoded' AND NOT d.resync AND d.next_lsn > r.last_end
					   AND d.next_lsn - r.last_end <= r.last_end - r.last_start
					   AND (r.next_start IS NULL OR (r.next_start = r.last_end AND r.next_damage IS NULL
													 AND r.next_state IN ('pending', 'decoding'))) THEN d.next_lsn
				   WHEN r.decode_state = 'decoded' THEN r.last_end
				   ELSE r.read_lsn
			   END AS to_lsn
		FROM run r
			LEFT JOIN walarchive.decode_progress d ON d.source = p_source
				AND d.system_identifier = p_system_identifier AND d.timeline = r.timeline
		WHERE r.last
	)
	SELECT p_source, p_system_identifier, e.timeline, e.from_lsn, e.to_lsn,
		   CASE
			   WHEN e.next_start = e.last_end AND (e.next_damage IS NOT NULL OR e.next_state IN ('damaged', 'quarantined')) THEN 'damage'
			   WHEN e.next_start = e.last_end AND e.next_state = 'unknown' THEN 'unknown'
			   WHEN EXISTS (SELECT 1 FROM walarchive.gap g
							WHERE g.source = p_source AND g.system_identifier = p_system_identifier
								AND g.timeline = e.timeline AND g.closed_at IS NULL
								AND g.from_lsn <= e.last_end AND g.to_lsn > e.to_lsn) THEN 'gap'
			   WHEN e.to_lsn = e.cursor THEN 'head'
			   WHEN e.next_start > e.last_end THEN 'gap'
			   WHEN e.next_start = e.last_end AND e.next_state = 'pending' THEN 'pending'
			   WHEN e.next_start IS NOT NULL THEN 'gap'
			   ELSE 'head'
		   END
	FROM ended e;
END
$$;
REVOKE ALL ON FUNCTION walarchive.derive_runs(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.derive_runs(text, bigint) IS
'private: derive the stretches of a cluster''s WAL from its segments';

-- At a fork the child's file of the segment begins with a copy of its parent's
-- WAL, and whoever recovers along the child reads that.  The stretches of checked
-- WAL that begin with such a copy of what p_timeline, or a timeline that leads to
-- it, has from p_at up to p_to: of timelines that left it there or later.
CREATE FUNCTION walarchive.fork_copies(
	p_source text,
	p_system_identifier bigint,
	p_timeline integer,
	p_at pg_lsn,
	p_to pg_lsn)
RETURNS SETOF walarchive.wal_run
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT r.*
	FROM walarchive.timeline t
		JOIN walarchive.wal_run r ON r.source = t.source AND r.system_identifier = t.system_identifier
			AND r.timeline = t.timeline AND r.from_lsn <= p_at AND r.to_lsn >= p_to
	WHERE t.source = p_source AND t.system_identifier = p_system_identifier
		AND t.timeline >= p_timeline AND t.fork_lsn > p_at AND t.fork_lsn >= p_to
		-- both lie in one segment
		AND EXISTS (SELECT 1 FROM walarchive.segment s
					WHERE s.source = t.source AND s.system_identifier = t.system_identifier AND s.timeline = t.timeline
						AND s.start_lsn <= p_at AND s.end_lsn >= t.fork_lsn)
		AND EXISTS (SELECT 1 FROM walarchive.timeline_path(p_source, p_system_identifier, t.timeline) w
					WHERE w.timeline = p_timeline AND (w.end_lsn IS NULL OR w.end_lsn >= p_to))
	ORDER BY r.timeline
$$;
REVOKE ALL ON FUNCTION walarchive.fork_copies(text, bigint, integer, pg_lsn, pg_lsn) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.fork_copies(text, bigint, integer, pg_lsn, pg_lsn) IS
'private: stretches of checked WAL that begin with a copy of a part of another timeline''s';

-- What of the way from p_from on p_timeline to p_to on p_to_timeline is not in
-- stretches of checked WAL: the first such place, and why.  No row: all of it
-- is.  p_to NULL: up to the fork only, or anything of the last timeline.  What
-- a later timeline has a copy of is there.
CREATE FUNCTION walarchive.first_hole(
	p_source text,
	p_system_identifier bigint,
	p_timeline integer,
	p_from pg_lsn,
	p_to_timeline integer,
	p_to pg_lsn,
	OUT timeline integer,
	OUT lsn pg_lsn,
	OUT ended_by text)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	w record;
	r walarchive.wal_run;
	low pg_lsn;
	high pg_lsn;
	begun boolean := false;
BEGIN
	FOR w IN
		SELECT p.* FROM walarchive.timeline_path(p_source, p_system_identifier, p_to_timeline) p
		WHERE p_timeline <> p_to_timeline
		UNION ALL
		-- how the only one that counts was come to does not matter
		SELECT 0, p_timeline, '0/0', NULL WHERE p_timeline = p_to_timeline
	LOOP
		IF NOT begun THEN
			CONTINUE WHEN w.timeline <> p_timeline;
			begun := true;
			low := p_from;
			-- it was left before
			IF w.end_lsn < p_from THEN
				timeline := w.timeline;
				lsn := w.end_lsn;
				ended_by := 'fork';
				RETURN NEXT;
				RETURN;
			END IF;
		ELSE
			low := w.begin_lsn;
		END IF;
		high := coalesce(w.end_lsn, p_to, low);
		-- a backup that begins at the very fork needs nothing of the parent
		CONTINUE WHEN w.end_lsn IS NOT NULL AND low >= high;
		SELECT n.* INTO r
		FROM walarchive.wal_run n
		WHERE n.source = p_source AND n.system_identifier = p_system_identifier
			AND n.timeline = w.timeline AND n.from_lsn <= low
		ORDER BY n.from_lsn DESC LIMIT 1;
		CONTINUE WHEN r.to_lsn >= high;
		CONTINUE WHEN EXISTS (SELECT 1 FROM walarchive.fork_copies(p_source, p_system_identifier, p_to_timeline,
																   greatest(low, r.to_lsn), high));
		IF r.to_lsn IS NULL OR r.to_lsn < low THEN
			timeline := w.timeline;
			lsn := low;
			-- nothing is there, or it is behind what was read
			ended_by := CASE WHEN EXISTS (SELECT 1 FROM walarchive.wal_run n
										  WHERE n.source = p_source AND n.system_identifier = p_system_identifier
											AND n.timeline = w.timeline AND n.from_lsn > low)
									 OR EXISTS (SELECT 1 FROM walarchive.wal_run n
												WHERE n.source = p_source AND n.system_identifier = p_system_identifier
													AND n.timeline > w.timeline AND n.from_lsn > high)
							 THEN coalesce(nullif(r.ended_by, 'head'), 'gap') ELSE coalesce(r.ended_by, 'head') END;
			RETURN NEXT;
			RETURN;
		END IF;
		timeline := w.timeline;
		lsn := r.to_lsn;
		ended_by := r.ended_by;
		RETURN NEXT;
		RETURN;
	END LOOP;
	IF NOT begun THEN
		timeline := p_timeline;
		lsn := p_from;
		ended_by := 'history';
		RETURN NEXT;
	END IF;
END
$$;
REVOKE ALL ON FUNCTION walarchive.first_hole(text, bigint, integer, pg_lsn, integer, pg_lsn) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.first_hole(text, bigint, integer, pg_lsn, integer, pg_lsn) IS
'private: the first place on a way through timelines where checked WAL is missing; no row: nothing is';

-- Say of each backup of a cluster whether a restore of it could succeed.
CREATE FUNCTION walarchive.judge_backups(p_source text, p_system_identifier bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
DECLARE
	b walarchive.backup;
	h record;
	p jsonb;
	new_state text;
	new_reason text;
	chain_problem text;
	-- what was found of those that came before, by label
	seen jsonb := '{}';
BEGIN
	-- one builds on what began before
	FOR b IN
		SELECT k.* FROM walarchive.backup k
		WHERE k.source = p_source AND k.system_identifier = p_system_identifier
			AND k.state IN ('waiting', 'usable', 'broken')
		ORDER BY k.start_lsn NULLS FIRST, k.started_at, k.label
	LOOP
		new_state := 'usable';
		new_reason := NULL;
		IF b.info_problem IS NOT NULL OR b.start_lsn IS NULL THEN
			new_state := 'broken';
			new_reason := coalesce(b.info_problem, 'it has no backup.json');
		ELSIF b.damage IS NOT NULL THEN
			new_state := 'broken';
			new_reason := 'its files are damaged: ' || b.damage;
		ELSE
			SELECT f.* INTO h
			FROM walarchive.first_hole(p_source, p_system_identifier, b.timeline, b.start_lsn, b.stop_timeline, b.stop_lsn) f;
			IF FOUND THEN
				new_state := CASE WHEN h.ended_by IN ('gap', 'damage', 'fork') THEN 'broken' ELSE 'waiting' END;
				new_reason := CASE h.ended_by
					WHEN 'gap' THEN pg_catalog.format('its WAL is missing from %s on timeline %s on', h.lsn, h.timeline)
					WHEN 'damage' THEN pg_catalog.format('its WAL is damaged at %s on timeline %s', h.lsn, h.timeline)
					WHEN 'fork' THEN pg_catalog.format('timeline %s was left at %s, before the backup''s start', h.timeline, h.lsn)
					WHEN 'history' THEN pg_catalog.format('how timeline %s comes from timeline %s is not known', b.stop_timeline, b.timeline)
					WHEN 'unknown' THEN pg_catalog.format('its WAL at %s is of a PostgreSQL version that is not known here and can''t be checked', h.lsn)
					ELSE pg_catalog.format('its WAL is checked up to %s on timeline %s, and it ends at %s', h.lsn, h.timeline, b.stop_lsn)
				END;
			END IF;
		END IF;
		chain_problem := NULL;
		IF b.kind = 'incremental' THEN
			p := seen -> b.parent;
			IF p IS NULL THEN
				chain_problem := pg_catalog.format('its parent %s is missing', coalesce(b.parent, '(unknown)'));
			ELSIF (p ->> 'stop_lsn')::pg_lsn > b.start_lsn OR (p ->> 'timeline')::integer > b.timeline THEN
				chain_problem := pg_catalog.format('%s is another backup than its parent of that name', b.parent);
			-- only its files are built on: the WAL that a restore of the parent itself would need is not read
			ELSIF NOT (p ->> 'files')::boolean THEN
				chain_problem := pg_catalog.format('its parent %s is broken', b.parent);
			END IF;
		END IF;
		IF chain_problem IS NOT NULL AND new_state <> 'broken' THEN
			new_state := 'broken';
			new_reason := chain_problem;
		END IF;
		seen := seen || pg_catalog.jsonb_build_object(b.label, pg_catalog.jsonb_build_object(
			'files', b.info_problem IS NULL AND b.start_lsn IS NOT NULL AND b.damage IS NULL AND chain_problem IS NULL,
			'stop_lsn', b.stop_lsn, 'timeline', b.stop_timeline));
		IF (b.state, b.reason) IS DISTINCT FROM (new_state, new_reason) THEN
			UPDATE walarchive.backup u
			SET state = new_state, reason = new_reason
			WHERE u.source = b.source AND u.system_identifier = b.system_identifier AND u.label = b.label;
		END IF;
	END LOOP;
END
$$;
REVOKE ALL ON FUNCTION walarchive.judge_backups(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.judge_backups(text, bigint) IS
'private: say of each backup of a cluster whether it is usable, and why not';

-- Up to where backups' WAL is to be looked at transaction by transaction: by
-- segments alone it is not known which commits came before a backup, and which
-- after it.  A row is one backup and the pieces to be read, at most two; what
-- lies between them is known from its segments (middle_time).
CREATE FUNCTION walarchive.next_backup_read(
	p_source text,
	p_skip text[],
	OUT system_identifier bigint,
	OUT label text,
	OUT path text,
	OUT segment_size integer,
	OUT consistent_lsn pg_lsn,
	OUT from_lsn pg_lsn[],
	OUT to_lsn pg_lsn[],
	OUT middle_time timestamptz,
	OUT edge boolean)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	zero CONSTANT pg_lsn := '0/0';
	b walarchive.backup;
	r walarchive.wal_run;
	s record;
	edge_end pg_lsn;
	head_end pg_lsn;
	tail_start pg_lsn;
BEGIN
	FOR b IN
		SELECT k.* FROM walarchive.backup k
		WHERE k.source = p_source AND k.state = 'usable' AND k.label <> ALL (p_skip)
		ORDER BY k.started_at DESC, k.label
	LOOP
		SELECT n.* INTO r
		FROM walarchive.wal_run n
		WHERE n.source = b.source AND n.system_identifier = b.system_identifier
			AND n.timeline = b.stop_timeline AND n.from_lsn < b.stop_lsn AND n.to_lsn >= b.stop_lsn
		ORDER BY n.from_lsn DESC LIMIT 1;
		IF NOT FOUND THEN
			SELECT n.* INTO r
			FROM walarchive.fork_copies(b.source, b.system_identifier, b.stop_timeline, b.stop_lsn - 1, b.stop_lsn) n LIMIT 1;
			CONTINUE WHEN NOT FOUND;
		END IF;
		IF segment_size IS NULL OR system_identifier IS DISTINCT FROM b.system_identifier THEN
			SELECT g.end_lsn - g.start_lsn INTO segment_size
			FROM walarchive.segment g
			WHERE g.source = b.source AND g.system_identifier = b.system_identifier
				AND g.timeline = b.stop_timeline
			ORDER BY g.start_lsn LIMIT 1;
			CONTINUE WHEN NOT FOUND;
		END IF;
		system_identifier := b.system_identifier;
		label := b.label;
		consistent_lsn := b.consistent_lsn;
		edge_end := least(r.to_lsn, zero + pg_catalog.ceil((b.consistent_lsn - zero) / segment_size) * segment_size);

		-- the end of what was looked at is no segment's, and there is more by now
		edge := b.edge_lsn IS NULL OR b.edge_lsn < edge_end;
		IF edge THEN
			tail_start := zero + pg_catalog.div(b.consistent_lsn - zero, segment_size) * segment_size;
			head_end := zero + (pg_catalog.div(b.start_lsn - zero, segment_size) + 1) * segment_size;
			middle_time := NULL;
			IF b.timeline = b.stop_timeline AND tail_start > head_end THEN
				from_lsn := ARRAY[b.start_lsn, tail_start];
				to_lsn := ARRAY[head_end, edge_end];
				SELECT pg_catalog.max(g.max_commit_time) INTO middle_time
				FROM walarchive.segment g
				WHERE g.source = b.source AND g.system_identifier = b.system_identifier
					AND g.timeline = b.timeline AND g.start_lsn >= head_end AND g.start_lsn < tail_start;
			ELSE
				from_lsn := ARRAY[b.start_lsn];
				to_lsn := ARRAY[edge_end];
			END IF;
		ELSE
			CONTINUE WHEN b.first_commit_lsn IS NOT NULL;
			-- the first commit came later
			SELECT g.start_lsn, g.end_lsn INTO s
			FROM walarchive.segment g
			WHERE g.source = b.source AND g.system_identifier = b.system_identifier
				AND g.timeline = r.timeline AND g.start_lsn >= b.edge_lsn AND g.start_lsn < r.to_lsn
				AND g.commits > 0
			ORDER BY g.start_lsn LIMIT 1;
			CONTINUE WHEN NOT FOUND;
			from_lsn := ARRAY[s.start_lsn];
			to_lsn := ARRAY[least(s.end_lsn, r.to_lsn)];
			middle_time := NULL;
		END IF;
		path := (SELECT pg_catalog.string_agg(w.timeline || ':' || w.begin_lsn, ',' ORDER BY w.depth)
				 FROM walarchive.timeline_path(b.source, b.system_identifier, r.timeline) w);
		RETURN NEXT;
		RETURN;
	END LOOP;
END
$$;
REVOKE ALL ON FUNCTION walarchive.next_backup_read(text, text[]) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.next_backup_read(text, text[]) IS
'private: WAL of a backup, but for those to be skipped, that is to be read for the times of its commits; no row: there is none';

CREATE FUNCTION walarchive.store_backup_edge(
	p_source text,
	p_system_identifier bigint,
	p_label text,
	p_edge_lsn pg_lsn,
	p_edge_time timestamptz,
	p_earliest_time timestamptz,
	p_first_commit_lsn pg_lsn,
	p_first_commit_time timestamptz)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE walarchive.backup b
	SET edge_lsn = coalesce(p_edge_lsn, b.edge_lsn),
		edge_time = CASE WHEN p_edge_lsn IS NOT NULL THEN p_edge_time ELSE b.edge_time END,
		earliest_target_time = CASE WHEN p_edge_lsn IS NOT NULL THEN p_earliest_time ELSE b.earliest_target_time END,
		first_commit_lsn = coalesce(b.first_commit_lsn, p_first_commit_lsn),
		first_commit_time = coalesce(b.first_commit_time, p_first_commit_time)
	WHERE b.source = p_source AND b.system_identifier = p_system_identifier AND b.label = p_label;
	RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION walarchive.store_backup_edge(text, bigint, text, pg_lsn, timestamptz, timestamptz, pg_lsn, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.store_backup_edge(text, bigint, text, pg_lsn, timestamptz, timestamptz, pg_lsn, timestamptz) IS
'private: enter what the WAL of a backup says; false if the backup is gone';

-- The windows of a cluster's usable backups.
--
-- PostgreSQL takes a time as target if some commit or abort on the way, from the
-- backup's start on, is later than it.  So the latest such time on the way is
-- what counts, and times need not grow with the WAL.  Only what certainly lies
-- on the way is counted: of a segment in which a timeline was left nothing,
-- unless all its records came before.
CREATE FUNCTION walarchive.derive_windows(p_source text, p_system_identifier bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
BEGIN
	WITH RECURSIVE t AS MATERIALIZED (
		SELECT l.timeline, l.parent_timeline, l.fork_lsn
		FROM walarchive.timeline l
		WHERE l.source = p_source AND l.system_identifier = p_system_identifier
	), r AS MATERIALIZED (
		SELECT n.timeline, n.from_lsn, n.to_lsn
		FROM walarchive.wal_run n
		WHERE n.source = p_source AND n.system_identifier = p_system_identifier
	), b AS MATERIALIZED (
		SELECT k.label, k.stop_timeline AS timeline, k.consistent_lsn, k.edge_lsn, k.edge_time,
			   k.earliest_target_time, r.from_lsn AS run_lsn, r.to_lsn
		FROM walarchive.backup k
			JOIN r ON r.timeline = k.stop_timeline AND r.from_lsn < k.stop_lsn AND r.to_lsn >= k.stop_lsn
		WHERE k.source = p_source AND k.system_identifier = p_system_identifier
			AND k.state = 'usable'
		UNION ALL
		-- recovery reads its WAL in the files of timelines that began there
		SELECT k.label, c.timeline, k.consistent_lsn, k.edge_lsn, k.edge_time,
			   k.earliest_target_time, c.from_lsn, c.to_lsn
		FROM walarchive.backup k
			CROSS JOIN LATERAL walarchive.fork_copies(p_source, p_system_identifier, k.stop_timeline, k.stop_lsn - 1, k.stop_lsn) c
		WHERE k.source = p_source AND k.system_identifier = p_system_identifier
			AND k.state = 'usable'
			AND NOT EXISTS (SELECT 1 FROM r WHERE r.timeline = k.stop_timeline AND r.from_lsn < k.stop_lsn AND r.to_lsn >= k.stop_lsn)
	), fork AS MATERIALIZED (
		-- where a timeline's WAL goes on in a stretch of a child's
		SELECT t.parent_timeline AS timeline, t.timeline AS child, t.fork_lsn AS lsn,
			   r.from_lsn AS run_lsn, r.to_lsn, s.start_lsn AS segment_lsn,
			   CASE WHEN s.last_record_lsn < t.fork_lsn THEN s.max_commit_time END AS segment_time
		FROM t
			JOIN r ON r.timeline = t.timeline AND r.from_lsn <= t.fork_lsn AND r.to_lsn >= t.fork_lsn
			LEFT JOIN LATERAL (SELECT g.start_lsn, g.end_lsn, g.last_record_lsn, g.max_commit_time
							   FROM walarchive.segment g
							   WHERE g.source = p_source AND g.system_identifier = p_system_identifier
								AND g.timeline = t.parent_timeline AND g.start_lsn < t.fork_lsn
							   ORDER BY g.start_lsn DESC LIMIT 1) s ON s.end_lsn >= t.fork_lsn
		WHERE t.parent_timeline < t.timeline
	), cut AS (
		SELECT b.timeline, b.edge_lsn AS lsn FROM b WHERE b.edge_lsn IS NOT NULL
		UNION
		SELECT f.timeline, f.segment_lsn FROM fork f WHERE f.segment_lsn IS NOT NULL
		UNION
		SELECT f.timeline, f.lsn FROM fork f
		UNION
		SELECT f.child, f.lsn FROM fork f
		UNION
		SELECT b.timeline, b.to_lsn FROM b
		UNION
		SELECT f.child, f.to_lsn FROM fork f
	), piece AS MATERIALIZED (
		-- the latest time of the segments that start between two such places
		SELECT c.timeline, c.lsn, x.time
		FROM (SELECT c.timeline, c.lsn, pg_catalog.lead(c.lsn) OVER (PARTITION BY c.timeline ORDER BY c.lsn) AS next_lsn
			  FROM cut c) c
			CROSS JOIN LATERAL (SELECT pg_catalog.max(g.max_commit_time) AS time
								FROM walarchive.segment g
								WHERE g.source = p_source AND g.system_identifier = p_system_identifier
									AND g.timeline = c.timeline AND g.start_lsn >= c.lsn AND g.start_lsn < c.next_lsn) x
		WHERE x.time IS NOT NULL
	), own AS MATERIALIZED (
		-- of a timeline that was come to by a fork: up to the end of the stretch, and up to each place where it was left
		SELECT f.child AS timeline, f.run_lsn, e.child AS next, greatest(
				   (SELECT pg_catalog.max(p.time) FROM piece p
					WHERE p.timeline = f.child AND p.lsn >= f.lsn AND p.lsn < e.end_lsn),
				   -- the segment of the fork is decoded from there on
				   (SELECT g.max_commit_time FROM walarchive.segment g
					WHERE g.source = p_source AND g.system_identifier = p_system_identifier
						AND g.timeline = f.child AND g.start_lsn < f.lsn AND g.end_lsn > f.lsn
						AND (e.child IS NULL OR g.start_lsn < e.end_lsn)),
				   e.time) AS time
		FROM fork f
			CROSS JOIN LATERAL (SELECT NULL::integer AS child, f.to_lsn AS end_lsn, NULL::timestamptz AS time
								UNION ALL
								SELECT n.child, coalesce(n.segment_lsn, n.lsn), n.segment_time
								FROM fork n
								WHERE n.timeline = f.child AND n.lsn >= f.lsn AND n.run_lsn <= f.to_lsn) e
	), beyond AS (
		-- from each timeline that was come to by a fork to those that can be come to from there; what the
		-- ones that are left again have until then
		SELECT f.child AS first, f.run_lsn AS first_run, f.child AS timeline, f.run_lsn, f.to_lsn, f.lsn AS entry_lsn,
			   NULL::timestamptz AS before
		FROM fork f
		UNION ALL
		SELECT w.first, w.first_run, f.child, f.run_lsn, f.to_lsn, f.lsn,
			   greatest(w.before,
						(SELECT o.time FROM own o WHERE o.timeline = w.timeline AND o.run_lsn = w.run_lsn AND o.next = f.child LIMIT 1))
		FROM beyond w
			-- the child's copy of the segment has what the parent has before the fork
			JOIN fork f ON f.timeline = w.timeline AND f.lsn >= w.entry_lsn AND f.run_lsn <= w.to_lsn
	), reach AS MATERIALIZED (
		SELECT w.first, w.first_run, w.timeline, w.run_lsn,
			   greatest(w.before,
						(SELECT o.time FROM own o WHERE o.timeline = w.timeline AND o.run_lsn = w.run_lsn AND o.next IS NULL LIMIT 1)) AS time
		FROM beyond w
	), leave AS MATERIALIZED (
		-- where a backup's own timeline is left, with what it has before that
		SELECT b.label, f.child, f.run_lsn,
			   greatest(b.earliest_target_time,
						CASE WHEN b.edge_lsn <= f.lsn
							 THEN greatest(b.edge_time, f.segment_time,
										   (SELECT pg_catalog.max(p.time) FROM piece p
											WHERE p.timeline = b.timeline AND p.lsn >= b.edge_lsn
												AND p.lsn < coalesce(f.segment_lsn, f.lsn))) END) AS time
		FROM b
			JOIN fork f ON f.timeline = b.timeline AND f.lsn >= b.consistent_lsn AND f.run_lsn <= b.to_lsn
	), derived AS MATERIALIZED (
		SELECT DISTINCT ON (d.label, d.timeline) d.*
		FROM (SELECT b.label, b.timeline, b.run_lsn,
					 greatest(b.earliest_target_time, b.edge_time,
							  (SELECT pg_catalog.max(p.time) FROM piece p
							   WHERE p.timeline = b.timeline AND p.lsn >= b.edge_lsn AND p.lsn < b.to_lsn)) AS time
			  FROM b
			  UNION ALL
			  SELECT l.label, w.timeline, w.run_lsn, greatest(l.time, w.time)
			  FROM leave l
				  JOIN reach w ON w.first = l.child AND w.first_run = l.run_lsn) d
		ORDER BY d.label, d.timeline, d.run_lsn
	), change AS MATERIALIZED (
		-- mostly a few of many
		SELECT coalesce(d.label, o.label) AS label, coalesce(d.timeline, o.timeline) AS timeline,
			   d.run_lsn, d.time
		FROM derived d
			FULL JOIN (SELECT w.label, w.timeline, w.run_lsn, w.latest_time
					   FROM walarchive.backup_window w
					   WHERE w.source = p_source AND w.system_identifier = p_system_identifier) o
				ON o.label = d.label AND o.timeline = d.timeline
		WHERE (d.run_lsn, d.time) IS DISTINCT FROM (o.run_lsn, o.latest_time)
	), gone AS (
		DELETE FROM walarchive.backup_window w
		USING change c
		WHERE w.source = p_source AND w.system_identifier = p_system_identifier
			AND w.label = c.label AND w.timeline = c.timeline AND c.run_lsn IS NULL
	)
	INSERT INTO walarchive.backup_window
		(source, system_identifier, label, timeline, run_lsn, latest_time)
	SELECT p_source, p_system_identifier, c.label, c.timeline, c.run_lsn, c.time
	FROM change c
	WHERE c.run_lsn IS NOT NULL
	ON CONFLICT (source, system_identifier, label, timeline) DO UPDATE
		SET run_lsn = excluded.run_lsn, latest_time = excluded.latest_time;

	-- all of it is counted now
	UPDATE walarchive.wal_run n
	SET grown_time = NULL
	WHERE n.source = p_source AND n.system_identifier = p_system_identifier AND n.grown_time IS NOT NULL;
END
$$;
REVOKE ALL ON FUNCTION walarchive.derive_windows(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.derive_windows(text, bigint) IS
'private: derive how far each usable backup of a cluster reaches';

-- The two halves of bringing all that up to date; between them the indexer
-- reads what next_backup_read wants.  The first returns whether anything is
-- stale.
CREATE FUNCTION walarchive.refresh_runs(p_source text)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	stale record;
	cluster bigint;
BEGIN
	-- nothing is locked for a look
	SELECT p.runs_stale, p.windows_stale INTO stale
	FROM walarchive.index_progress p WHERE p.source = p_source;
	IF NOT FOUND OR NOT (stale.runs_stale OR stale.windows_stale)
		OR NOT walarchive.lock_source_index(p_source) THEN
		RETURN false;
	END IF;
	FOR cluster IN
		SELECT t.system_identifier FROM walarchive.timeline t WHERE t.source = p_source
		UNION
		SELECT b.system_identifier FROM walarchive.backup b WHERE b.source = p_source
		UNION
		SELECT r.system_identifier FROM walarchive.wal_run r WHERE r.source = p_source
	LOOP
		IF stale.runs_stale THEN
			PERFORM walarchive.derive_runs(p_source, cluster);
		END IF;
		PERFORM walarchive.judge_backups(p_source, cluster);
	END LOOP;
	UPDATE walarchive.index_progress p
	SET runs_stale = false, windows_stale = true
	WHERE p.source = p_source;
	RETURN true;
END
$$;
REVOKE ALL ON FUNCTION walarchive.refresh_runs(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.refresh_runs(text) IS
'private: derive stretches of WAL and states of backups anew if something changed; returns whether it did';

CREATE FUNCTION walarchive.refresh_windows(p_source text)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	cluster bigint;
BEGIN
	IF NOT walarchive.lock_source_index(p_source) THEN
		RETURN false;
	END IF;
	DELETE FROM walarchive.backup_window w
	WHERE w.source = p_source
		AND NOT EXISTS (SELECT 1 FROM walarchive.backup b
						WHERE b.source = w.source AND b.system_identifier = w.system_identifier AND b.state = 'usable');
	FOR cluster IN
		SELECT DISTINCT b.system_identifier FROM walarchive.backup b WHERE b.source = p_source
	LOOP
		PERFORM walarchive.derive_windows(p_source, cluster);
	END LOOP;
	UPDATE walarchive.index_progress p SET windows_stale = p.runs_stale WHERE p.source = p_source;
	RETURN true;
END
$$;
REVOKE ALL ON FUNCTION walarchive.refresh_windows(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.refresh_windows(text) IS
'private: derive the windows of a source''s backups anew';

-- ---- for people ----

CREATE VIEW walarchive.recovery_window AS
SELECT b.source,
	   b.system_identifier,
	   b.label AS backup,
	   b.kind,
	   w.timeline,
	   b.consistent_lsn AS first_lsn,
	   r.to_lsn AS last_lsn,
	   b.first_commit_lsn,
	   b.first_commit_time,
	   -- without a commit between its start and its consistency any time will do
	   CASE WHEN l.latest >= coalesce(b.earliest_target_time, '-infinity')
			THEN coalesce(b.earliest_target_time, '-infinity') END AS earliest_target_time,
	   CASE WHEN l.latest >= coalesce(b.earliest_target_time, '-infinity')
			THEN l.latest END AS latest_target_time,
	   CASE r.ended_by
		   WHEN 'head' THEN CASE WHEN EXISTS (SELECT 1 FROM walarchive.timeline c
											  WHERE c.source = b.source AND c.system_identifier = b.system_identifier
												AND c.parent_timeline = w.timeline) THEN 'fork' ELSE 'archive head' END
		   WHEN 'pending' THEN 'not decoded'
		   WHEN 'unknown' THEN 'unknown version'
		   ELSE r.ended_by
	   END AS ended_by
FROM walarchive.backup_window w
	JOIN walarchive.backup b ON b.source = w.source
		AND b.system_identifier = w.system_identifier
		AND b.label = w.label
		AND b.state = 'usable'
	JOIN walarchive.wal_run r ON r.source = w.source
		AND r.system_identifier = w.system_identifier
		AND r.timeline = w.timeline
		AND r.from_lsn = w.run_lsn
	-- a target has to be earlier than a commit
	CROSS JOIN LATERAL (SELECT CASE WHEN b.edge_lsn IS NOT NULL
									THEN greatest(w.latest_time, r.grown_time) - '1 microsecond'::interval END AS latest) l
WHERE r.to_lsn >= b.consistent_lsn;
REVOKE ALL ON TABLE walarchive.recovery_window FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.recovery_window TO pg_monitor;

COMMENT ON VIEW walarchive.recovery_window IS
'what can be recovered: from each usable backup, along each timeline that it reaches';
COMMENT ON COLUMN walarchive.recovery_window.source IS 'name of the source';
COMMENT ON COLUMN walarchive.recovery_window.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.recovery_window.backup IS 'label of the backup';
COMMENT ON COLUMN walarchive.recovery_window.kind IS 'full or incremental';
COMMENT ON COLUMN walarchive.recovery_window.timeline IS 'recovery_target_timeline: WAL of the timelines that lead to it is part of the window';
COMMENT ON COLUMN walarchive.recovery_window.first_lsn IS 'first LSN that can be recovered to: where the backup is consistent';
COMMENT ON COLUMN walarchive.recovery_window.last_lsn IS 'end of the checked WAL on that way';
COMMENT ON COLUMN walarchive.recovery_window.first_commit_lsn IS 'end of the first commit after first_lsn, on the backup''s own timeline; NULL: none yet';
COMMENT ON COLUMN walarchive.recovery_window.first_commit_time IS 'time of that commit';
COMMENT ON COLUMN walarchive.recovery_window.earliest_target_time IS 'earliest recovery_target_time that can be reached; -infinity: any; NULL: none can, or it is not known yet';
COMMENT ON COLUMN walarchive.recovery_window.latest_target_time IS 'latest recovery_target_time that PostgreSQL accepts: just before the latest commit or abort; NULL like earliest_target_time';
COMMENT ON COLUMN walarchive.recovery_window.ended_by IS
'what ends the window: archive head (it grows), fork (the timeline was left), gap, damage, not decoded (a file that turned up later), unknown version';
