-- What the indexer runs to decode: where to go on, and what was found.  Each
-- call is a short transaction of its own; the reading happens between them.

-- The next piece of WAL to be decoded; no row: there is none.  The live
-- timeline, if any, is there up to p_live_lsn, the others as far as their files
-- go.
--
-- A timeline is decoded in the order of its WAL, from where it was left
-- (by_segment false).  Segments below that which turned up later are decoded one
-- by one (by_segment true).
CREATE FUNCTION walarchive.next_decode(
	p_source text,
	p_live_system_identifier bigint,
	p_live_timeline integer,
	p_live_lsn pg_lsn,
	OUT system_identifier bigint,
	OUT timeline integer,
	OUT by_segment boolean,
	OUT from_lsn pg_lsn,
	OUT resync boolean,
	OUT to_lsn pg_lsn,
	OUT until_lsn pg_lsn,
	OUT segment_end pg_lsn,
	OUT live boolean,
	OUT state text,
	OUT time_floor timestamptz,
	OUT failures integer,
	OUT previous_lsn pg_lsn)
RETURNS SETOF record
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	t record;
	p record;
	s record;
	n record;
	is_live boolean;
BEGIN
	IF NOT walarchive.lock_source_index(p_source) THEN
		RETURN;
	END IF;
	FOR t IN
		SELECT l.system_identifier AS cluster, l.timeline AS tli, l.fork_lsn, l.parent_timeline
		FROM walarchive.timeline l
			JOIN walarchive.source c ON c.name = l.source
		WHERE l.source = p_source
		ORDER BY l.system_identifier IS NOT DISTINCT FROM coalesce(p_live_system_identifier, c.system_identifier) DESC,
				 l.system_identifier, l.timeline
	LOOP
		system_identifier := t.cluster;
		timeline := t.tli;
		state := NULL;
		time_floor := NULL;
		failures := 0;
		is_live := (t.cluster = p_live_system_identifier AND t.tli = p_live_timeline) IS TRUE;

		SELECT d.next_lsn, d.need_lsn, d.resync, d.exhausted, d.state, d.failures
		INTO p
		FROM walarchive.decode_progress d
		WHERE d.source = p_source AND d.system_identifier = t.cluster AND d.timeline = t.tli;

		IF p.next_lsn IS NOT NULL THEN
			previous_lsn := p.next_lsn;
			from_lsn := p.next_lsn;
			resync := p.resync;
			state := p.state;
			failures := p.failures;
		ELSE
			previous_lsn := NULL;
			SELECT g.start_lsn, g.end_lsn INTO s
			FROM walarchive.segment g
			WHERE g.source = p_source AND g.system_identifier = t.cluster AND g.timeline = t.tli
			ORDER BY g.start_lsn LIMIT 1;
			CONTINUE WHEN NOT FOUND;
			-- below the fork it is the parent's WAL
			IF t.fork_lsn >= s.start_lsn AND t.fork_lsn < s.end_lsn THEN
				from_lsn := t.fork_lsn;
				resync := false;
			ELSE
				from_lsn := s.start_lsn;
				resync := true;
			END IF;
			-- no time is exact that an earlier commit has passed
			SELECT pg_catalog.max(g.max_commit_time) INTO time_floor
			FROM walarchive.segment g
			WHERE g.source = p_source AND g.system_identifier = t.cluster
				AND g.timeline < t.tli AND g.start_lsn < from_lsn;
		END IF;

		-- the segment to go on in; those that can't be read are passed over
		SELECT g.start_lsn, g.end_lsn, g.state INTO s
		FROM walarchive.segment g
		WHERE g.source = p_source AND g.system_identifier = t.cluster AND g.timeline = t.tli
			AND g.start_lsn >= '0/0'::pg_lsn + greatest(from_lsn - '0/0'::pg_lsn - 1073741824, 0) AND g.end_lsn > from_lsn
			AND g.decode_state NOT IN ('damaged', 'quarantined', 'unknown')
		ORDER BY g.start_lsn LIMIT 1;
		IF FOUND THEN
			IF s.start_lsn > from_lsn THEN
				from_lsn := s.start_lsn;
				resync := true;
			ELSIF (s.state = 'partial' AND p.exhausted)
				OR (s.state = 'finished' AND p.need_lsn > s.end_lsn
					AND NOT EXISTS (SELECT 1 FROM walarchive.segment g
									WHERE g.source = p_source AND g.system_identifier = t.cluster
										AND g.timeline = t.tli AND g.start_lsn = s.end_lsn
										AND g.decode_state NOT IN ('damaged', 'quarantined', 'unknown')))
			THEN
				-- its last record goes on where nothing is: on behind that, if there is more
				SELECT g.start_lsn, g.end_lsn, g.state INTO n
				FROM walarchive.segment g
				WHERE g.source = p_source AND g.system_identifier = t.cluster AND g.timeline = t.tli
					AND g.start_lsn >= s.end_lsn
					AND g.decode_state NOT IN ('damaged', 'quarantined', 'unknown')
				ORDER BY g.start_lsn LIMIT 1;
				IF FOUND THEN
					s := n;
					from_lsn := s.start_lsn;
					resync := true;
				END IF;
			END IF;
		END IF;

		IF s.start_lsn IS NOT NULL AND from_lsn IS NOT NULL
			AND (NOT is_live OR p_live_lsn > from_lsn)
			AND (p.next_lsn IS NULL OR from_lsn <> p.next_lsn
				 OR CASE WHEN is_live THEN p_live_lsn >= p.need_lsn
						 ELSE NOT p.exhausted OR (s.state = 'finished' AND p.need_lsn <= s.end_lsn) END)
		THEN
			by_segment := false;
			segment_end := s.end_lsn;
			-- as far as segments follow one another, 64 MB at a time
			SELECT coalesce(pg_catalog.min(g.end_lsn) FILTER (WHERE g.next_start IS DISTINCT FROM g.end_lsn),
							pg_catalog.max(g.end_lsn)) INTO to_lsn
			FROM (SELECT f.end_lsn, pg_catalog.lead(f.start_lsn) OVER (ORDER BY f.start_lsn) AS next_start
				  FROM (SELECT i.start_lsn, i.end_lsn
						FROM walarchive.segment i
						WHERE i.source = p_source AND i.system_identifier = t.cluster AND i.timeline = t.tli
							AND i.start_lsn >= s.start_lsn AND i.decode_state NOT IN ('damaged', 'quarantined', 'unknown')
						ORDER BY i.start_lsn LIMIT 66) f) g;
			until_lsn := greatest(s.end_lsn, least(to_lsn, s.start_lsn + 67108864::numeric));
			-- what the server has sent ends in this stretch, or behind a gap
			live := is_live AND p_live_lsn <= to_lsn;
			IF live THEN
				to_lsn := p_live_lsn;
				until_lsn := least(until_lsn, p_live_lsn);
			END IF;
			RETURN NEXT;
			RETURN;
		END IF;
	END LOOP;

	-- what turned up below
	SELECT g.system_identifier AS cluster, g.timeline AS tli, g.start_lsn, g.end_lsn, d.next_lsn, d.failures
	INTO s
	FROM walarchive.segment g
		JOIN walarchive.decode_progress d ON d.source = g.source
			AND d.system_identifier = g.system_identifier AND d.timeline = g.timeline
	WHERE g.source = p_source
		AND g.decode_state = 'pending' AND g.state = 'finished'
		AND g.end_lsn <= d.next_lsn
	ORDER BY g.system_identifier, g.timeline, g.start_lsn LIMIT 1;
	IF FOUND THEN
		system_identifier := s.cluster;
		timeline := s.tli;
		by_segment := true;
		live := false;
		from_lsn := s.start_lsn;
		resync := true;
		state := NULL;
		time_floor := NULL;
		failures := s.failures;
		previous_lsn := s.next_lsn;
		segment_end := s.end_lsn;
		until_lsn := s.end_lsn;
		-- its last record may go on in the next one, and a long one further
		SELECT coalesce(pg_catalog.min(g.end_lsn) FILTER (WHERE g.next_start IS DISTINCT FROM g.end_lsn),
						pg_catalog.max(g.end_lsn)) INTO to_lsn
		FROM (SELECT f.end_lsn, pg_catalog.lead(f.start_lsn) OVER (ORDER BY f.start_lsn) AS next_start
			  FROM (SELECT i.start_lsn, i.end_lsn
					FROM walarchive.segment i
					WHERE i.source = p_source AND i.system_identifier = s.cluster AND i.timeline = s.tli
						AND i.start_lsn >= s.start_lsn
					ORDER BY i.start_lsn LIMIT 66) f) g;
		RETURN NEXT;
	END IF;
END
$$;
REVOKE ALL ON FUNCTION walarchive.next_decode(text, bigint, integer, pg_lsn) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.next_decode(text, bigint, integer, pg_lsn) IS
'private: the next piece of a source''s WAL to be decoded; no row: there is none';

-- Enter what was found between p_from and p_next.  False if the source is gone
-- or somebody else has decoded it meanwhile: then nothing is entered.
--
-- p_found: {"segments": [...], "restore_points": [...], "parameters": [...],
-- "recoveries": [...], "destructions": [...], "prepared": [...], "finished": [...],
-- "tablespaces": [...], "damage": [...]}
CREATE FUNCTION walarchive.store_decoded(
	p_source text,
	p_system_identifier bigint,
	p_timeline integer,
	p_by_segment boolean,
	p_previous pg_lsn,
	p_next pg_lsn,
	p_need pg_lsn,
	p_resync boolean,
	p_exhausted boolean,
	p_state text,
	p_commit_lsn pg_lsn,
	p_commit_xid xid,
	p_commit_time timestamptz,
	p_found jsonb)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	known pg_lsn;
	resynced boolean;
	grown timestamptz;
	f record;
BEGIN
	IF NOT walarchive.lock_source_index(p_source) THEN
		RETURN false;
	END IF;
	SELECT d.next_lsn, d.resync INTO known, resynced
	FROM walarchive.decode_progress d
	WHERE d.source = p_source AND d.system_identifier = p_system_identifier AND d.timeline = p_timeline;
	IF known IS DISTINCT FROM p_previous THEN
		RETURN false;
	END IF;

	FOR f IN
		SELECT r.*
		FROM pg_catalog.jsonb_to_recordset(p_found -> 'segments')
			 AS r (start_lsn pg_lsn, end_lsn pg_lsn, name text, major integer, complete boolean,
				   first_record pg_lsn, last_record pg_lsn, records bigint, commits bigint, aborts bigint,
				   first_time timestamptz, last_time timestamptz, min_time timestamptz, max_time timestamptz,
				   min_xid text, max_xid text)
	LOOP
		INSERT INTO walarchive.segment AS s
			(source, system_identifier, timeline, name, start_lsn, end_lsn, state, size,
			 decode_state, major, first_record_lsn, last_record_lsn, records, commits, aborts,
			 first_commit_time, last_commit_time, min_commit_time, max_commit_time, min_xid, max_xid, checked_at)
		VALUES (p_source, p_system_identifier, p_timeline, f.name, f.start_lsn, f.end_lsn, 'partial',
				f.end_lsn - f.start_lsn,
				CASE WHEN f.complete THEN 'decoded' ELSE 'decoding' END, f.major,
				f.first_record, f.last_record, f.records, f.commits, f.aborts,
				f.first_time, f.last_time, f.min_time, f.max_time, f.min_xid::xid8, f.max_xid::xid8,
				CASE WHEN f.complete THEN pg_catalog.clock_timestamp() END)
		ON CONFLICT (source, system_identifier, timeline, start_lsn) DO UPDATE
		SET decode_state = excluded.decode_state,
			major = excluded.major,
			first_record_lsn = coalesce(CASE WHEN s.decode_state = 'decoding' THEN s.first_record_lsn END, excluded.first_record_lsn),
			last_record_lsn = coalesce(excluded.last_record_lsn, CASE WHEN s.decode_state = 'decoding' THEN s.last_record_lsn END),
			records = excluded.records + CASE WHEN s.decode_state = 'decoding' THEN s.records ELSE 0 END,
			commits = excluded.commits + CASE WHEN s.decode_state = 'decoding' THEN s.commits ELSE 0 END,
			aborts = excluded.aborts + CASE WHEN s.decode_state = 'decoding' THEN s.aborts ELSE 0 END,
			first_commit_time = coalesce(CASE WHEN s.decode_state = 'decoding' THEN s.first_commit_time END, excluded.first_commit_time),
			last_commit_time = coalesce(excluded.last_commit_time, CASE WHEN s.decode_state = 'decoding' THEN s.last_commit_time END),
			min_commit_time = least(CASE WHEN s.decode_state = 'decoding' THEN s.min_commit_time END, excluded.min_commit_time),
			max_commit_time = greatest(CASE WHEN s.decode_state = 'decoding' THEN s.max_commit_time END, excluded.max_commit_time),
			min_xid = least(CASE WHEN s.decode_state = 'decoding' THEN s.min_xid END, excluded.min_xid),
			max_xid = greatest(CASE WHEN s.decode_state = 'decoding' THEN s.max_xid END, excluded.max_xid),
			checked_at = excluded.checked_at,
			read_lsn = NULL;
		grown := greatest(grown, f.max_time);
	END LOOP;

	UPDATE walarchive.segment s
	SET decode_state = r.decode_state,
		damage = r.damage,
		damage_lsn = r.lsn,
		damage_offset = r."offset",
		checked_at = NULL
	FROM pg_catalog.jsonb_to_recordset(p_found -> 'damage')
		 AS r (start_lsn pg_lsn, decode_state text, damage text, lsn pg_lsn, "offset" bigint)
	WHERE s.source = p_source
		AND s.system_identifier = p_system_identifier
		AND s.timeline = p_timeline
		AND s.start_lsn = r.start_lsn;

	INSERT INTO walarchive.restore_point
		(source, system_identifier, timeline, start_lsn, end_lsn, name, created_at)
	SELECT p_source, p_system_identifier, p_timeline, r.start_lsn, r.end_lsn, r.name, r."time"
	FROM pg_catalog.jsonb_to_recordset(p_found -> 'restore_points')
		 AS r (start_lsn pg_lsn, end_lsn pg_lsn, name text, "time" timestamptz)
	ON CONFLICT (source, system_identifier, timeline, start_lsn) DO NOTHING;

	INSERT INTO walarchive.tablespace_made (source, system_identifier, timeline, start_lsn, tablespace, location)
	SELECT p_source, p_system_identifier, p_timeline, r.start_lsn, r.tablespace, r.location
	FROM pg_catalog.jsonb_to_recordset(p_found -> 'tablespaces') AS r (start_lsn pg_lsn, tablespace oid, location text)
	ON CONFLICT (source, system_identifier, timeline, start_lsn) DO NOTHING;

	IF p_found ? 'prepared' OR p_found ? 'finished' THEN
		PERFORM walarchive.store_prepared(p_source, p_system_identifier, p_timeline,
										  p_found -> 'prepared', p_found -> 'finished');
	END IF;

	INSERT INTO walarchive.parameter_change
		(source, system_identifier, timeline, start_lsn, max_connections, max_worker_processes,
		 max_wal_senders, max_prepared_transactions, max_locks_per_transaction, wal_level,
		 wal_log_hints, track_commit_timestamp)
	SELECT p_source, p_system_identifier, p_timeline, r.start_lsn, r.max_connections, r.max_worker_processes,
		   r.max_wal_senders, r.max_prepared_transactions, r.max_locks_per_transaction, r.wal_level,
		   r.wal_log_hints, r.track_commit_timestamp
	FROM pg_catalog.jsonb_to_recordset(p_found -> 'parameters')
		 AS r (start_lsn pg_lsn, max_connections integer, max_worker_processes integer, max_wal_senders integer,
			   max_prepared_transactions integer, max_locks_per_transaction integer, wal_level text,
			   wal_log_hints boolean, track_commit_timestamp boolean)
	ON CONFLICT (source, system_identifier, timeline, start_lsn) DO NOTHING;

	UPDATE walarchive.timeline t
	SET promoted_at = r."time",
		parent_timeline = coalesce(t.parent_timeline, r.parent)
	FROM pg_catalog.jsonb_to_recordset(p_found -> 'recoveries')
		 AS r (timeline integer, parent integer, "time" timestamptz)
	WHERE t.source = p_source
		AND t.system_identifier = p_system_identifier
		AND t.timeline = r.timeline
		AND t.promoted_at IS NULL;

	INSERT INTO walarchive.destructive_commit
		(source, system_identifier, timeline, start_lsn, end_lsn, kind, xid, xact_time, aborted, database,
		 file_count, file_tablespace, file_database, file_number, relations, first_lsn,
		 restore_before_lsn, restore_before_time)
	SELECT p_source, p_system_identifier, p_timeline, r.start_lsn, r.end_lsn, r.kind, r.xid, r."time", r.aborted,
		   r.database, r.file_count, r.tablespaces, r.databases, r.numbers, r.relations, r.first_lsn,
		   r.restore_before_lsn, r.restore_before_time
	FROM pg_catalog.jsonb_to_recordset(p_found -> 'destructions')
		 AS r (start_lsn pg_lsn, end_lsn pg_lsn, kind text, xid xid, "time" timestamptz, aborted boolean,
			   database oid, file_count bigint, tablespaces oid[], databases oid[], numbers oid[],
			   relations oid[], first_lsn pg_lsn, restore_before_lsn pg_lsn, restore_before_time timestamptz)
	ON CONFLICT (source, system_identifier, timeline, start_lsn, kind) DO NOTHING;

	IF p_by_segment THEN
		-- what the neighbours hold of its first record is not looked at again
		UPDATE walarchive.segment s
		SET decode_state = 'decoded', checked_at = pg_catalog.clock_timestamp()
		WHERE s.source = p_source AND s.system_identifier = p_system_identifier AND s.timeline = p_timeline
			AND s.end_lsn = p_next AND s.decode_state IN ('pending', 'decoding');
		UPDATE walarchive.decode_progress d
		SET failures = 0, failed_lsn = NULL
		WHERE d.source = p_source AND d.system_identifier = p_system_identifier
			AND d.timeline = p_timeline AND d.failures > 0;
		PERFORM walarchive.windows_changed(p_source, true);
		RETURN true;
	END IF;

	-- before a gap: what can be read is its last record too, with zeros that the gap is said to begin with
	IF NOT (p_found -> 'contiguous')::boolean THEN
		UPDATE walarchive.segment s
		SET read_lsn = p_previous
		WHERE s.source = p_source AND s.system_identifier = p_system_identifier AND s.timeline = p_timeline
			AND s.start_lsn >= '0/0'::pg_lsn + greatest(p_previous - '0/0'::pg_lsn - 1073741824, 0)
			AND s.start_lsn <= p_previous AND s.end_lsn > p_previous AND s.end_lsn <= p_next
			AND s.state = 'partial' AND s.decode_state = 'decoding';
	END IF;

	-- a segment that was left for good keeps what could be read of it
	UPDATE walarchive.segment s
	SET decode_state = 'decoded', checked_at = pg_catalog.clock_timestamp()
	WHERE s.source = p_source AND s.system_identifier = p_system_identifier AND s.timeline = p_timeline
		AND s.start_lsn >= '0/0'::pg_lsn + greatest(p_previous - '0/0'::pg_lsn - 2147483648, 0)
		AND s.end_lsn <= p_next
		AND s.state = 'finished'
		AND s.decode_state = 'decoding';

	INSERT INTO walarchive.decode_progress AS d
		(source, system_identifier, timeline, next_lsn, need_lsn, resync, exhausted, state,
		 commit_lsn, commit_xid, commit_time)
	-- a segment that nobody writes to may be written to again, by the next byte on
	VALUES (p_source, p_system_identifier, p_timeline, p_next,
			CASE WHEN p_exhausted AND (SELECT s.state = 'partial'
									   FROM walarchive.segment s
									   WHERE s.source = p_source AND s.system_identifier = p_system_identifier
										AND s.timeline = p_timeline AND s.start_lsn <= p_next
									   ORDER BY s.start_lsn DESC LIMIT 1)
				 THEN least(p_need, p_next + 1::numeric) ELSE p_need END,
			p_resync, p_exhausted, p_state,
			p_commit_lsn, p_commit_xid, p_commit_time)
	ON CONFLICT (source, system_identifier, timeline) DO UPDATE
		SET next_lsn = excluded.next_lsn,
			need_lsn = excluded.need_lsn,
			resync = excluded.resync,
			exhausted = excluded.exhausted,
			state = excluded.state,
			commit_lsn = coalesce(excluded.commit_lsn, d.commit_lsn),
			commit_xid = coalesce(excluded.commit_xid, d.commit_xid),
			commit_time = coalesce(excluded.commit_time, d.commit_time),
			failures = 0,
			failed_lsn = NULL;

	-- what was checked without a hole grows; everything else is derived anew
	IF (p_found -> 'contiguous')::boolean AND NOT resynced AND NOT p_resync AND NOT p_found ? 'damage' THEN
		UPDATE walarchive.wal_run r
		SET to_lsn = p_next,
			ended_by = 'head',
			grown_time = greatest(r.grown_time, grown)
		WHERE r.source = p_source AND r.system_identifier = p_system_identifier AND r.timeline = p_timeline
			AND r.from_lsn = (SELECT pg_catalog.max(l.from_lsn) FROM walarchive.wal_run l
							  WHERE l.source = p_source AND l.system_identifier = p_system_identifier
								AND l.timeline = p_timeline AND l.from_lsn <= p_previous)
			AND r.to_lsn = p_previous;
		IF NOT FOUND THEN
			PERFORM walarchive.windows_changed(p_source, true);
		ELSIF EXISTS (SELECT 1 FROM walarchive.backup b
					  WHERE b.source = p_source AND b.system_identifier = p_system_identifier
						AND (b.state = 'waiting' OR (b.state = 'usable' AND b.first_commit_lsn IS NULL))
						AND b.stop_timeline >= p_timeline
						AND CASE WHEN b.state = 'waiting' THEN b.stop_lsn > p_previous AND b.stop_lsn <= p_next
								 ELSE b.stop_lsn <= p_next AND b.stop_timeline = p_timeline AND grown IS NOT NULL END) THEN
			PERFORM walarchive.windows_changed(p_source);
		END IF;
	ELSE
		PERFORM walarchive.windows_changed(p_source, true);
	END IF;
	RETURN true;
END
$$;
REVOKE ALL ON FUNCTION walarchive.store_decoded(text, bigint, integer, boolean, pg_lsn, pg_lsn, pg_lsn, boolean, boolean, text, pg_lsn, xid, timestamptz, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.store_decoded(text, bigint, integer, boolean, pg_lsn, pg_lsn, pg_lsn, boolean, boolean, text, pg_lsn, xid, timestamptz, jsonb) IS
'private: enter what a piece of WAL says; false if the source is gone or the piece was decoded by somebody else';

-- The decoder died at this record.  Returns how often it has, one time after
-- the other, without getting further.
CREATE FUNCTION walarchive.note_decoder_death(
	p_source text,
	p_system_identifier bigint,
	p_timeline integer,
	p_start pg_lsn,
	p_resync boolean,
	p_lsn pg_lsn)
RETURNS bigint
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO walarchive.decode_progress AS d
		(source, system_identifier, timeline, next_lsn, need_lsn, resync, exhausted, failures, failed_lsn)
	VALUES (p_source, p_system_identifier, p_timeline, p_start, '0/0', p_resync, false, 1, p_lsn)
	ON CONFLICT (source, system_identifier, timeline) DO UPDATE
		SET failures = CASE WHEN d.failed_lsn = p_lsn THEN d.failures + 1 ELSE 1 END,
			failed_lsn = p_lsn
	RETURNING failures::bigint
$$;
REVOKE ALL ON FUNCTION walarchive.note_decoder_death(text, bigint, integer, pg_lsn, boolean, pg_lsn) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.note_decoder_death(text, bigint, integer, pg_lsn, boolean, pg_lsn) IS
'private: count a death of the decoder at one record';

-- The latest commit known of the timeline that is shown as the source's own.
CREATE FUNCTION walarchive.decoded_position(
	p_source text,
	p_system_identifier bigint,
	p_timeline integer,
	OUT system_identifier bigint,
	OUT timeline integer,
	OUT next_lsn pg_lsn,
	OUT need_lsn pg_lsn,
	OUT commit_lsn pg_lsn,
	OUT commit_xid xid,
	OUT commit_time timestamptz)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT d.system_identifier, d.timeline, d.next_lsn, d.need_lsn,
		   coalesce(d.commit_lsn, b.commit_lsn), coalesce(d.commit_xid, b.commit_xid), coalesce(d.commit_time, b.commit_time)
	FROM walarchive.decode_progress d
		JOIN walarchive.source c ON c.name = d.source
		LEFT JOIN walarchive.timeline t ON t.source = d.source
			AND t.system_identifier = d.system_identifier
			AND t.timeline = d.timeline
		-- on a new timeline the parent's last one before the fork, if that is its last
		LEFT JOIN walarchive.decode_progress b ON b.source = d.source
			AND b.system_identifier = d.system_identifier
			AND b.timeline = t.parent_timeline
			AND b.commit_lsn <= t.fork_lsn
	WHERE d.source = p_source
		AND d.system_identifier = coalesce(p_system_identifier, c.system_identifier)
		AND d.timeline = coalesce(p_timeline, (SELECT pg_catalog.max(n.timeline) FROM walarchive.decode_progress n
											   WHERE n.source = p_source
												AND n.system_identifier = d.system_identifier))
$$;
REVOKE ALL ON FUNCTION walarchive.decoded_position(text, bigint, integer) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.decoded_position(text, bigint, integer) IS
'private: how far a source''s newest timeline is decoded, and the latest commit there';
