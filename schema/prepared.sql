-- Prepared transactions that were open at the end of a segment: where a recovery
-- ends, those that are still open keep their locks, and a plan names them.  What
-- was prepared and finished in one segment is not here: to know about the
-- segment in which a recovery ends that is read anyway.

CREATE TABLE walarchive.prepared_xact (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	timeline integer NOT NULL,
	start_lsn pg_lsn NOT NULL,
	xid xid NOT NULL,
	gid text NOT NULL,
	finished_lsn pg_lsn,
	PRIMARY KEY (source, system_identifier, timeline, start_lsn)
);
CREATE INDEX prepared_xact_open_idx ON walarchive.prepared_xact (source, system_identifier, timeline)
	WHERE finished_lsn IS NULL;
-- which were open at a place
CREATE INDEX prepared_xact_range_idx ON walarchive.prepared_xact
	USING gist (pg_catalog.numrange(start_lsn - '0/0'::pg_lsn, finished_lsn - '0/0'::pg_lsn));
REVOKE ALL ON TABLE walarchive.prepared_xact FROM PUBLIC;

COMMENT ON TABLE walarchive.prepared_xact IS 'private: prepared transactions that were open at the end of a segment';
COMMENT ON COLUMN walarchive.prepared_xact.source IS 'name of the source';
COMMENT ON COLUMN walarchive.prepared_xact.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.prepared_xact.timeline IS 'timeline of the record of PREPARE TRANSACTION; of one in the segment in which a timeline begins, before that, the new timeline as well';
COMMENT ON COLUMN walarchive.prepared_xact.start_lsn IS 'start of that record';
COMMENT ON COLUMN walarchive.prepared_xact.xid IS 'the transaction';
COMMENT ON COLUMN walarchive.prepared_xact.gid IS 'its name';
COMMENT ON COLUMN walarchive.prepared_xact.finished_lsn IS 'start of the record of its end on the same timeline; NULL: none is archived';

CREATE TABLE walarchive.prepared_end (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	timeline integer NOT NULL,
	start_lsn pg_lsn NOT NULL,
	xid xid NOT NULL,
	PRIMARY KEY (source, system_identifier, timeline, start_lsn)
);
REVOKE ALL ON TABLE walarchive.prepared_end FROM PUBLIC;

COMMENT ON TABLE walarchive.prepared_end IS 'private: ends of transactions that were prepared on an earlier timeline, or before the archive begins';
COMMENT ON COLUMN walarchive.prepared_end.source IS 'name of the source';
COMMENT ON COLUMN walarchive.prepared_end.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.prepared_end.timeline IS 'timeline of the record';
COMMENT ON COLUMN walarchive.prepared_end.start_lsn IS 'start of the record';
COMMENT ON COLUMN walarchive.prepared_end.xid IS 'the transaction';

CREATE FUNCTION walarchive.store_prepared(
	p_source text,
	p_system_identifier bigint,
	p_timeline integer,
	p_prepared jsonb,
	p_finished jsonb)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	f record;
	begun pg_lsn;
	segment_start pg_lsn;
BEGIN
	INSERT INTO walarchive.prepared_xact (source, system_identifier, timeline, start_lsn, xid, gid)
	SELECT p_source, p_system_identifier, p_timeline, r.start_lsn, r.xid, r.gid
	FROM pg_catalog.jsonb_to_recordset(p_prepared) AS r (start_lsn pg_lsn, xid xid, gid text)
	ON CONFLICT (source, system_identifier, timeline, start_lsn) DO NOTHING;
	FOR f IN
		SELECT r.start_lsn, r.xid
		FROM pg_catalog.jsonb_to_recordset(p_finished) AS r (start_lsn pg_lsn, xid xid)
		ORDER BY r.start_lsn
	LOOP
		SELECT p.start_lsn INTO begun
		FROM walarchive.prepared_xact p
		WHERE p.source = p_source AND p.system_identifier = p_system_identifier AND p.timeline = p_timeline
			AND p.xid = f.xid AND p.finished_lsn IS NULL AND p.start_lsn < f.start_lsn
		ORDER BY p.start_lsn DESC LIMIT 1;
		IF NOT FOUND THEN
			INSERT INTO walarchive.prepared_end (source, system_identifier, timeline, start_lsn, xid)
			VALUES (p_source, p_system_identifier, p_timeline, f.start_lsn, f.xid)
			ON CONFLICT (source, system_identifier, timeline, start_lsn) DO NOTHING;
			CONTINUE;
		END IF;
		SELECT s.start_lsn INTO segment_start
		FROM walarchive.segment s
		WHERE s.source = p_source AND s.system_identifier = p_system_identifier AND s.timeline = p_timeline
			AND s.start_lsn <= f.start_lsn
		ORDER BY s.start_lsn DESC LIMIT 1;
		IF begun >= segment_start THEN
			DELETE FROM walarchive.prepared_xact p
			WHERE p.source = p_source AND p.system_identifier = p_system_identifier AND p.timeline = p_timeline
				AND p.start_lsn = begun;
		ELSE
			UPDATE walarchive.prepared_xact p
			SET finished_lsn = f.start_lsn
			WHERE p.source = p_source AND p.system_identifier = p_system_identifier AND p.timeline = p_timeline
				AND p.start_lsn = begun;
		END IF;
	END LOOP;
END
$$;
REVOKE ALL ON FUNCTION walarchive.store_prepared(text, bigint, integer, jsonb, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.store_prepared(text, bigint, integer, jsonb, jsonb) IS
'private: enter prepared transactions and their ends';

-- Those that are open at a place, which is the start of a segment, on a path.
CREATE FUNCTION walarchive.open_prepared(
	p_source text,
	p_system_identifier bigint,
	p_timelines integer[],
	p_begins pg_lsn[],
	p_lsn pg_lsn,
	OUT xid xid,
	OUT gid text)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
	WITH size AS (
		SELECT g.end_lsn - g.start_lsn AS bytes
		FROM walarchive.segment g
		WHERE g.source = p_source AND g.system_identifier = p_system_identifier
		LIMIT 1
	), way AS (
		SELECT u.timeline, u.begin_lsn, u.n, least(p_begins[u.n + 1], p_lsn) AS end_lsn, p_begins[u.n + 1] AS fork_lsn
		FROM ROWS FROM (pg_catalog.unnest(p_timelines), pg_catalog.unnest(p_begins)) WITH ORDINALITY AS u (timeline, begin_lsn, n)
		WHERE u.begin_lsn < p_lsn
	), path AS MATERIALIZED (
		-- what was prepared in the segment of a fork is the child's, whose copy of it ends with the fork
		SELECT w.timeline, w.begin_lsn, w.n, w.end_lsn,
			   w.begin_lsn - (w.begin_lsn - '0/0'::pg_lsn) % z.bytes AS low_lsn,
			   CASE WHEN w.fork_lsn < p_lsn THEN w.fork_lsn - (w.fork_lsn - '0/0'::pg_lsn) % z.bytes ELSE p_lsn END AS high_lsn
		FROM way w, size z
	)
	SELECT p.xid, p.gid
	FROM path t
		CROSS JOIN LATERAL (SELECT x.* FROM walarchive.prepared_xact x
							WHERE x.source = p_source AND x.system_identifier = p_system_identifier
								AND x.timeline = t.timeline AND x.start_lsn >= t.low_lsn AND x.start_lsn < t.high_lsn
								-- ended where the path leaves the timeline, or behind that
								AND pg_catalog.numrange(x.start_lsn - '0/0'::pg_lsn, x.finished_lsn - '0/0'::pg_lsn)
									@> (t.end_lsn - '0/0'::pg_lsn - 1)) p
	-- their ends may be in WAL that is missing: then nothing is known of them
	WHERE NOT EXISTS (SELECT 1 FROM path l
					  WHERE l.n >= t.n
						AND NOT EXISTS (SELECT 1 FROM walarchive.wal_run r
										WHERE r.source = p_source AND r.system_identifier = p_system_identifier
											AND r.timeline = l.timeline
											-- the child's copy of the segment with the fork is there from its start on
											AND (r.to_lsn >= l.end_lsn
												 OR EXISTS (SELECT 1 FROM path c JOIN walarchive.wal_run k ON k.source = p_source
																AND k.system_identifier = p_system_identifier AND k.timeline = c.timeline
															WHERE c.n = l.n + 1 AND k.from_lsn <= r.to_lsn AND k.to_lsn >= l.end_lsn))
											AND r.from_lsn <= CASE WHEN l.n = t.n THEN p.start_lsn ELSE l.begin_lsn END))
		AND NOT EXISTS (SELECT 1 FROM path l
						JOIN walarchive.prepared_end e ON e.source = p_source
							AND e.system_identifier = p_system_identifier AND e.timeline = l.timeline
							AND e.start_lsn >= l.begin_lsn AND e.start_lsn < l.end_lsn
					  WHERE l.n > t.n AND e.xid = p.xid)
$$;
REVOKE ALL ON FUNCTION walarchive.open_prepared(text, bigint, integer[], pg_lsn[], pg_lsn) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.open_prepared(text, bigint, integer[], pg_lsn[], pg_lsn) IS
'private: prepared transactions that are open at the start of a segment, on a path of timelines';

-- What the records said of WAL that is removed goes with it, but for what may
-- still be open on a timeline that left this one meanwhile.
CREATE FUNCTION walarchive.remove_prepared(p_source text, p_system_identifier bigint, p_timeline integer, p_to pg_lsn)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	DELETE FROM walarchive.prepared_xact p
	WHERE p.source = p_source AND p.system_identifier = p_system_identifier AND p.timeline = p_timeline
		AND p.start_lsn < p_to AND p.finished_lsn < p_to
		AND NOT EXISTS (SELECT 1 FROM walarchive.timeline t
						WHERE t.source = p_source AND t.system_identifier = p_system_identifier
							AND t.parent_timeline = p_timeline AND t.fork_lsn > p.start_lsn AND t.fork_lsn <= p.finished_lsn)
$$;
REVOKE ALL ON FUNCTION walarchive.remove_prepared(text, bigint, integer, pg_lsn) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.remove_prepared(text, bigint, integer, pg_lsn) IS
'private: forget prepared transactions whose WAL is removed';
