-- Reading the WAL itself: commits, what they destroyed, statistics, records.
--
-- The five functions are C and run with the rights of whoever calls them, which
-- is how they know whether this role was granted to read this source; only then
-- do they ask the private functions below, with the rights of their owner.

CREATE TABLE walarchive.read_grant (
	source text NOT NULL REFERENCES walarchive.source (name) ON DELETE CASCADE,
	grantee regrole NOT NULL,
	granted_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	PRIMARY KEY (source, grantee)
);
SELECT pg_catalog.pg_extension_config_dump('walarchive.read_grant', '');
REVOKE ALL ON TABLE walarchive.read_grant FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.read_grant TO pg_monitor;

COMMENT ON TABLE walarchive.read_grant IS 'who may read the archived WAL of which source, beside superusers; see grant_read()';
COMMENT ON COLUMN walarchive.read_grant.source IS 'name of the source';
COMMENT ON COLUMN walarchive.read_grant.grantee IS 'role that may, and its members';
COMMENT ON COLUMN walarchive.read_grant.granted_at IS 'when it was granted';

CREATE FUNCTION walarchive.check_read(source text)
RETURNS void
LANGUAGE c STABLE
AS 'MODULE_PATHNAME', 'wa_check_read';
REVOKE ALL ON FUNCTION walarchive.check_read(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.check_read(text) IS
'private: raise an error if the current role may not read the archived WAL of this source';

-- ---- what is there ----

-- The path of timelines that leads to a timeline, oldest first, and where each
-- was entered.  Raises an error if there is no such source, cluster or timeline.
CREATE FUNCTION walarchive.archived_path(
	p_source text,
	p_timeline integer,
	OUT system_identifier bigint,
	OUT segment_size integer,
	OUT timelines integer[],
	OUT begins pg_lsn[],
	OUT first_lsn pg_lsn,
	OUT last_lsn pg_lsn,
	OUT live boolean)
RETURNS record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t walarchive.timeline;
	s walarchive.segment;
	ends pg_lsn;
	flushed pg_lsn;
BEGIN
	SELECT c.system_identifier INTO system_identifier FROM walarchive.source c WHERE c.name = p_source;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'source "%" does not exist', p_source
			USING ERRCODE = 'undefined_object',
				HINT = 'The table walarchive.source lists the sources.';
	END IF;
	SELECT g.end_lsn - g.start_lsn INTO segment_size
	FROM walarchive.segment g
	WHERE g.source = p_source AND g.system_identifier = archived_path.system_identifier
	LIMIT 1;
	IF segment_size IS NULL THEN
		RAISE EXCEPTION 'the catalog has no WAL of source "%" yet', p_source
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'walarchive.stat_receiver shows what its receiver does.';
	END IF;

	IF p_timeline IS NULL THEN
		SELECT g.* INTO s
		FROM walarchive.segment g
		WHERE g.source = p_source AND g.system_identifier = archived_path.system_identifier
		ORDER BY g.timeline DESC LIMIT 1;
		p_timeline := s.timeline;
	ELSIF NOT EXISTS (SELECT 1 FROM walarchive.segment g
					  WHERE g.source = p_source AND g.system_identifier = archived_path.system_identifier
						AND g.timeline = p_timeline) THEN
		RAISE EXCEPTION 'no WAL of timeline % of source "%" is archived', p_timeline, p_source
			USING ERRCODE = 'invalid_parameter_value',
				HINT = (SELECT pg_catalog.format('There is WAL of timelines %s.', pg_catalog.string_agg(l.timeline::text, ', ' ORDER BY l.timeline))
						FROM walarchive.timeline l
						WHERE l.source = p_source AND l.system_identifier = archived_path.system_identifier
							AND l.first_lsn IS NOT NULL);
	END IF;

	timelines := ARRAY[p_timeline];
	begins := ARRAY['0/0'::pg_lsn];
	LOOP
		SELECT l.* INTO t
		FROM walarchive.timeline l
		WHERE l.source = p_source AND l.system_identifier = archived_path.system_identifier
			AND l.timeline = timelines[1];
		EXIT WHEN t.parent_timeline IS NULL OR t.fork_lsn IS NULL OR t.parent_timeline >= t.timeline
			OR pg_catalog.cardinality(timelines) >= 1024;
		begins[1] := t.fork_lsn;
		EXIT WHEN pg_catalog.cardinality(begins) > 1 AND begins[1] > begins[2];
		timelines := t.parent_timeline || timelines;
		begins := '0/0'::pg_lsn || begins;
	END LOOP;

	FOR i IN 1 .. pg_catalog.cardinality(timelines) LOOP
		ends := begins[i + 1];
		SELECT g.* INTO s
		FROM walarchive.segment g
		WHERE g.source = p_source AND g.system_identifier = archived_path.system_identifier
			AND g.timeline = timelines[i] AND (g.start_lsn < ends OR ends IS NULL) AND g.end_lsn > begins[i]
		ORDER BY g.start_lsn LIMIT 1;
		IF FOUND THEN
			first_lsn := s.start_lsn;
			EXIT;
		END IF;
	END LOOP;
	SELECT g.* INTO s
	FROM walarchive.segment g
	WHERE g.source = p_source AND g.system_identifier = archived_path.system_identifier
		AND g.timeline = p_timeline
	ORDER BY g.start_lsn DESC LIMIT 1;
	last_lsn := s.end_lsn;

	-- what the server has sent of the open segment, and no more
	SELECT r.flushed_lsn INTO flushed
	FROM walarchive.receiver_state() r
	WHERE r.source = p_source AND r.system_identifier = archived_path.system_identifier
		AND r.received_tli = p_timeline AND r.flushed_lsn > '0/0';
	live := flushed IS NOT NULL;
	IF live THEN
		last_lsn := greatest(flushed, CASE WHEN s.state = 'finished' THEN s.end_lsn ELSE s.start_lsn END);
	END IF;
END
$$;
REVOKE ALL ON FUNCTION walarchive.archived_path(text, integer) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.archived_path(text, integer) IS
'private: the timelines that lead to a timeline (default: the newest) of a source''s present cluster, and what is archived of them';

-- What has to be read to answer a question about a range, in LSN order, and
-- what can't be read, for a warning.  p_what is
--
--	all				each record is wanted
--	xacts			only segments that may have ends of transactions in the times
--	destructions	only segments that are not decoded yet
--
-- A row of kind "read" is a range to be read, of kind "gap", "quarantined" or
-- "unknown" one that can't be.
CREATE FUNCTION walarchive.plan_read(
	p_source text,
	p_from_lsn pg_lsn,
	p_to_lsn pg_lsn,
	p_from_time timestamptz,
	p_to_time timestamptz,
	p_timeline integer,
	p_what text,
	OUT kind text,
	OUT from_lsn pg_lsn,
	OUT to_lsn pg_lsn,
	OUT system_identifier bigint,
	OUT segment_size integer,
	OUT path text,
	OUT first_lsn pg_lsn,
	OUT last_lsn pg_lsn,
	OUT live boolean)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	zero CONSTANT pg_lsn := '0/0';
	p record;
	low pg_lsn;
	high pg_lsn;
	stretch_begin pg_lsn;
	stretch_end pg_lsn;
	wanted nummultirange := '{}';
	found_ranges nummultirange;
	holes nummultirange := '{}';
	last_segment pg_lsn;
	by_time boolean := p_what = 'xacts' AND (p_from_time IS NOT NULL OR p_to_time IS NOT NULL);
	h record;
BEGIN
	p := walarchive.archived_path(p_source, p_timeline);
	IF p_from_lsn > p_to_lsn THEN
		RAISE EXCEPTION 'from_lsn % is after to_lsn %', p_from_lsn, p_to_lsn
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF p_from_time > p_to_time THEN
		RAISE EXCEPTION 'from_time % is after to_time %', p_from_time, p_to_time
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF p_from_lsn > p.last_lsn OR p_to_lsn > p.last_lsn THEN
		RAISE EXCEPTION '% % is beyond the archived WAL of source "%"',
				CASE WHEN p_from_lsn > p.last_lsn THEN 'from_lsn' ELSE 'to_lsn' END,
				CASE WHEN p_from_lsn > p.last_lsn THEN p_from_lsn ELSE p_to_lsn END, p_source
			USING ERRCODE = 'invalid_parameter_value',
				HINT = pg_catalog.format('Up to timeline %s its WAL is archived from %s to %s.',
										 p.timelines[pg_catalog.cardinality(p.timelines)], p.first_lsn, p.last_lsn);
	END IF;
	IF p_to_lsn < p.first_lsn THEN
		RAISE EXCEPTION 'to_lsn % is before the archived WAL of source "%"', p_to_lsn, p_source
			USING ERRCODE = 'invalid_parameter_value',
				HINT = pg_catalog.format('Up to timeline %s its WAL is archived from %s to %s.',
										 p.timelines[pg_catalog.cardinality(p.timelines)], p.first_lsn, p.last_lsn);
	END IF;
	system_identifier := p.system_identifier;
	segment_size := p.segment_size;
	first_lsn := p.first_lsn;
	last_lsn := p.last_lsn;
	live := p.live;
	path := (SELECT pg_catalog.string_agg(u.t || ':' || u.b, ',' ORDER BY u.n)
			 FROM ROWS FROM (pg_catalog.unnest(p.timelines), pg_catalog.unnest(p.begins)) WITH ORDINALITY u (t, b, n));
	low := greatest(p.first_lsn, p_from_lsn);
	high := least(p.last_lsn, p_to_lsn);
	IF p_from_lsn < p.first_lsn THEN
		kind := 'gap';
		from_lsn := p_from_lsn;
		to_lsn := p.first_lsn;
		RETURN NEXT;
	END IF;

	FOR i IN 1 .. pg_catalog.cardinality(p.timelines) LOOP
		stretch_begin := greatest(p.begins[i], low);
		stretch_end := least(p.begins[i + 1], high);
		CONTINUE WHEN stretch_begin >= stretch_end;

		-- what is known to be missing or unreadable
		FOR h IN
			-- (the last record before a gap may end in zeros that the receiver took for the end)
			SELECT 'gap' AS kind,
				   least(g.to_lsn, greatest(g.from_lsn, (SELECT s.read_lsn
														 FROM walarchive.segment s
														 WHERE s.source = p_source AND s.system_identifier = p.system_identifier
															AND s.timeline = p.timelines[i] AND s.start_lsn <= g.from_lsn
															AND s.end_lsn > g.from_lsn
														 ORDER BY s.start_lsn DESC LIMIT 1))) AS from_lsn,
				   g.to_lsn
			FROM walarchive.gap g
			WHERE g.source = p_source AND g.system_identifier = p.system_identifier
				AND g.timeline = p.timelines[i] AND g.closed_at IS NULL
				AND g.from_lsn < stretch_end AND g.to_lsn > stretch_begin
			UNION ALL
			SELECT s.decode_state, s.start_lsn, s.end_lsn
			FROM walarchive.segment s
			WHERE s.source = p_source AND s.system_identifier = p.system_identifier
				AND s.timeline = p.timelines[i]
				AND s.decode_state IN ('quarantined', 'unknown')
				AND (s.damage IS NOT NULL OR s.decode_state IN ('damaged', 'quarantined', 'unknown'))
				AND s.start_lsn < stretch_end AND s.end_lsn > stretch_begin
			ORDER BY 2
		LOOP
			h.from_lsn := greatest(h.from_lsn, stretch_begin);
			h.to_lsn := least(h.to_lsn, stretch_end);
			holes := holes + pg_catalog.nummultirange(pg_catalog.numrange(h.from_lsn - zero, h.to_lsn - zero));
			-- what surely lies before or after the times is not missed
			IF by_time AND (
				(SELECT s.min_commit_time FROM walarchive.segment s
				 WHERE s.source = p_source AND s.system_identifier = p.system_identifier
					AND s.timeline = p.timelines[i] AND s.start_lsn >= h.to_lsn
					AND s.decode_state = 'decoded' AND s.min_commit_time IS NOT NULL
				 ORDER BY s.start_lsn LIMIT 1) < p_from_time
				OR (SELECT s.max_commit_time FROM walarchive.segment s
					WHERE s.source = p_source AND s.system_identifier = p.system_identifier
						AND s.timeline = p.timelines[i] AND s.end_lsn <= h.from_lsn
						AND s.decode_state = 'decoded' AND s.max_commit_time IS NOT NULL
					ORDER BY s.start_lsn DESC LIMIT 1) > p_to_time)
			THEN
				CONTINUE;
			END IF;
			kind := h.kind;
			from_lsn := h.from_lsn;
			to_lsn := h.to_lsn;
			RETURN NEXT;
		END LOOP;

		IF p_what = 'all' OR (p_what = 'xacts' AND NOT by_time) THEN
			wanted := wanted + pg_catalog.nummultirange(pg_catalog.numrange(stretch_begin - zero, stretch_end - zero));
			CONTINUE;
		END IF;
		SELECT pg_catalog.range_agg(pg_catalog.numrange(greatest(s.start_lsn, stretch_begin) - zero, least(s.end_lsn, stretch_end) - zero))
		INTO found_ranges
		FROM walarchive.segment s
		WHERE s.source = p_source AND s.system_identifier = p.system_identifier
			AND s.timeline = p.timelines[i]
			AND s.end_lsn > stretch_begin AND s.start_lsn < stretch_end
			AND (s.decode_state <> 'decoded'
				 OR (p_what = 'xacts'
					 AND (p_from_time IS NULL OR s.max_commit_time >= p_from_time)
					 AND (p_to_time IS NULL OR s.min_commit_time <= p_to_time)));
		wanted := wanted + coalesce(found_ranges, '{}');

		-- what only the child's copy of the fork's segment has, it does not count
		IF i > 1 AND NOT EXISTS (SELECT 1 FROM walarchive.segment s
								 WHERE s.source = p_source AND s.system_identifier = p.system_identifier
									AND s.timeline = p.timelines[i - 1]
									AND s.start_lsn <= p.begins[i] AND s.end_lsn >= p.begins[i]) THEN
			SELECT s.start_lsn INTO last_segment
			FROM walarchive.segment s
			WHERE s.source = p_source AND s.system_identifier = p.system_identifier
				AND s.timeline = p.timelines[i] AND s.start_lsn < p.begins[i] AND s.end_lsn > p.begins[i];
			IF FOUND AND greatest(last_segment, low) < least(p.begins[i], high) THEN
				wanted := wanted + pg_catalog.nummultirange(pg_catalog.numrange(greatest(last_segment, low) - zero, least(p.begins[i], high) - zero));
			END IF;
		END IF;
	END LOOP;

	-- what is so new that the catalog does not have it
	SELECT s.end_lsn INTO last_segment
	FROM walarchive.segment s
	WHERE s.source = p_source AND s.system_identifier = p.system_identifier
		AND s.timeline = p.timelines[pg_catalog.cardinality(p.timelines)]
	ORDER BY s.start_lsn DESC LIMIT 1;
	IF greatest(last_segment, low) < high THEN
		wanted := wanted + pg_catalog.nummultirange(pg_catalog.numrange(greatest(last_segment, low) - zero, high - zero));
	END IF;

	kind := 'read';
	FOR from_lsn, to_lsn IN
		SELECT zero + pg_catalog.lower(r.r), zero + pg_catalog.upper(r.r)
		FROM pg_catalog.unnest(wanted - holes) AS r (r)
		ORDER BY 1
	LOOP
		RETURN NEXT;
	END LOOP;
END
$$;
REVOKE ALL ON FUNCTION walarchive.plan_read(text, pg_lsn, pg_lsn, timestamptz, timestamptz, integer, text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.plan_read(text, pg_lsn, pg_lsn, timestamptz, timestamptz, integer, text) IS
'private: which WAL has to be read for a range, and which can''t be';

-- Where WAL goes on, along a path, at a segment that starts at p_lsn or later.
CREATE FUNCTION walarchive.next_archived(p_source text, p_system_identifier bigint, p_path text, p_lsn pg_lsn)
RETURNS pg_lsn
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
	SELECT pg_catalog.min(n.start_lsn)
	FROM (SELECT pg_catalog.split_part(e.e, ':', 1)::integer AS timeline,
				 pg_catalog.split_part(e.e, ':', 2)::pg_lsn AS begin_lsn,
				 pg_catalog.lead(pg_catalog.split_part(e.e, ':', 2)::pg_lsn) OVER (ORDER BY e.n) AS end_lsn
		  FROM pg_catalog.string_to_table(p_path, ',') WITH ORDINALITY AS e (e, n)) p
		CROSS JOIN LATERAL (SELECT s.start_lsn FROM walarchive.segment s
							WHERE s.source = p_source AND s.system_identifier = p_system_identifier
								AND s.timeline = p.timeline
								AND s.start_lsn >= p_lsn AND s.end_lsn > p.begin_lsn
								AND (p.end_lsn IS NULL OR s.start_lsn < p.end_lsn)
							ORDER BY s.start_lsn LIMIT 1) n
$$;
REVOKE ALL ON FUNCTION walarchive.next_archived(text, bigint, text, pg_lsn) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.next_archived(text, bigint, text, pg_lsn) IS
'private: start of the first archived segment at or after a place, NULL if there is none';

-- ---- names ----

-- The path of a relation's file, as pg_waldump of the server's version has it.
CREATE FUNCTION walarchive.file_path(p_major integer, p_tablespace oid, p_database oid, p_number oid)
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE p_tablespace
			   WHEN 1664 THEN pg_catalog.format('global/%s', p_number)
			   WHEN 1663 THEN pg_catalog.format('base/%s/%s', p_database, p_number)
			   ELSE pg_catalog.format('pg_tblspc/%s/%s/%s/%s', p_tablespace,
									  CASE p_major
										  WHEN 15 THEN 'PG_15_202209061'
										  WHEN 16 THEN 'PG_16_202307071'
										  WHEN 17 THEN 'PG_17_202406281'
										  WHEN 18 THEN 'PG_18_202506291'
										  ELSE 'PG'
									  END, p_database, p_number)
		   END
$$;
REVOKE ALL ON FUNCTION walarchive.file_path(integer, oid, oid, oid) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.file_path(integer, oid, oid, oid) IS
'private: path of a relation''s file below the data directory';

-- The major version of the server that wrote the newest WAL.
CREATE FUNCTION walarchive.archived_major(p_source text, p_system_identifier bigint)
RETURNS integer
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(
		(SELECT s.major FROM walarchive.segment s
		 WHERE s.source = p_source AND s.system_identifier = p_system_identifier AND s.major IS NOT NULL
		 ORDER BY s.source DESC, s.system_identifier DESC, s.timeline DESC, s.start_lsn DESC LIMIT 1),
		(SELECT r.server_version / 10000 FROM walarchive.receiver_state() r WHERE r.source = p_source))
$$;
REVOKE ALL ON FUNCTION walarchive.archived_major(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.archived_major(text, bigint) IS
'private: major version of the server that wrote a cluster''s WAL';

-- Names of files, in their order; the path where the name is not known.
CREATE FUNCTION walarchive.file_names(
	p_source text,
	p_system_identifier bigint,
	p_tablespaces oid[],
	p_databases oid[],
	p_numbers oid[],
	p_at timestamptz)
RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT pg_catalog.array_agg(coalesce(r.name, walarchive.file_path(m.major, f.tablespace, f.database, f.number)) ORDER BY f.n)
	FROM (SELECT walarchive.archived_major(p_source, p_system_identifier) AS major OFFSET 0) m
		CROSS JOIN ROWS FROM (pg_catalog.unnest(p_tablespaces), pg_catalog.unnest(p_databases), pg_catalog.unnest(p_numbers))
			WITH ORDINALITY AS f (tablespace, database, number, n)
		CROSS JOIN LATERAL walarchive.relation_of(p_source, p_system_identifier, f.database, f.tablespace, f.number, p_at) r
$$;
REVOKE ALL ON FUNCTION walarchive.file_names(text, bigint, oid[], oid[], oid[], timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.file_names(text, bigint, oid[], oid[], oid[], timestamptz) IS
'private: names of relations from the numbers of their files';

-- For a person: tables first; indexes and TOAST tables only where their table
-- is not named; paths for what no name is known of.
CREATE FUNCTION walarchive.destroyed_names(
	p_source text,
	p_system_identifier bigint,
	p_tablespaces oid[],
	p_databases oid[],
	p_numbers oid[],
	p_database oid,
	p_relations oid[],
	p_at timestamptz)
RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH file AS (
		SELECT f.*, r.relation, r.kind, r.name, r.table_name
		FROM ROWS FROM (pg_catalog.unnest(p_tablespaces), pg_catalog.unnest(p_databases), pg_catalog.unnest(p_numbers))
				WITH ORDINALITY AS f (tablespace, database, number, n)
			CROSS JOIN LATERAL walarchive.relation_of(p_source, p_system_identifier, f.database, f.tablespace, f.number, p_at) r
	), known AS (
		SELECT DISTINCT ON (k.relation) k.relation, k.kind, k.name, k.table_name
		FROM (SELECT f.relation, f.kind, f.name, f.table_name, 0 AS rank
			  FROM file f
			  WHERE f.relation IS NOT NULL
			  UNION ALL
			  -- a relation whose present file nobody has seen may be known by its oid
			  SELECT n.relation, n.kind, n.name, n.table_name, 1
			  FROM pg_catalog.unnest(p_relations) AS o (oid)
				CROSS JOIN LATERAL (SELECT n.relation, n.kind, n.name, n.table_name
									FROM walarchive.relation_name n
									WHERE n.source = p_source AND n.system_identifier = p_system_identifier
										AND n.database = p_database AND n.relation = o.oid
									ORDER BY n.learned_at <= coalesce(p_at, 'infinity') DESC,
											 CASE WHEN n.learned_at <= coalesce(p_at, 'infinity') THEN n.learned_at END DESC,
											 n.learned_at
									LIMIT 1) n) k
		ORDER BY k.relation, k.rank
	), shown AS (
		SELECT k.name, CASE WHEN k.kind IN ('i', 't') THEN 3 WHEN k.kind = 'S' THEN 2 ELSE 1 END AS rank
		FROM known k
		WHERE k.kind NOT IN ('i', 't') OR NOT EXISTS (SELECT 1 FROM known t
													   WHERE t.name = k.table_name AND t.kind NOT IN ('i', 't'))
		UNION ALL
		SELECT walarchive.file_path(walarchive.archived_major(p_source, p_system_identifier), f.tablespace, f.database, f.number), 4
		FROM file f
		WHERE f.relation IS NULL
			AND (SELECT pg_catalog.count(*) FROM known) < (SELECT pg_catalog.count(*) FROM file)
	)
	SELECT pg_catalog.array_agg(s.name ORDER BY s.rank, s.name) FROM shown s
$$;
REVOKE ALL ON FUNCTION walarchive.destroyed_names(text, bigint, oid[], oid[], oid[], oid, oid[], timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.destroyed_names(text, bigint, oid[], oid[], oid[], oid, oid[], timestamptz) IS
'private: what a transaction destroyed, for a person';

CREATE FUNCTION walarchive.database_of(p_source text, p_system_identifier bigint, p_database oid, p_at timestamptz)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce((SELECT n.name
					 FROM walarchive.database_name n
					 WHERE n.source = p_source AND n.system_identifier = p_system_identifier AND n.database = p_database
					 ORDER BY n.learned_at <= coalesce(p_at, 'infinity') DESC,
							  CASE WHEN n.learned_at <= coalesce(p_at, 'infinity') THEN n.learned_at END DESC,
							  n.learned_at
					 LIMIT 1), p_database::text)
$$;
REVOKE ALL ON FUNCTION walarchive.database_of(text, bigint, oid, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.database_of(text, bigint, oid, timestamptz) IS
'private: name of a database, or its number';

-- ---- the functions ----

-- "timeline" is an argument and a column.
CREATE FUNCTION walarchive.commits(
	source text,
	from_lsn pg_lsn DEFAULT NULL,
	to_lsn pg_lsn DEFAULT NULL,
	from_time timestamptz DEFAULT NULL,
	to_time timestamptz DEFAULT NULL,
	INOUT timeline integer DEFAULT NULL,
	OUT start_lsn pg_lsn,
	OUT end_lsn pg_lsn,
	OUT xid xid,
	OUT xact_time timestamptz,
	OUT kind text,
	OUT dropped_relations text[])
RETURNS SETOF record
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_commits';
REVOKE ALL ON FUNCTION walarchive.commits(text, pg_lsn, pg_lsn, timestamptz, timestamptz, integer) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.commits(text, pg_lsn, pg_lsn, timestamptz, timestamptz, integer) IS
'commits and aborts in the archived WAL of a source, in LSN order; default: all on the way to its newest timeline';

CREATE FUNCTION walarchive.read_destructions(
	source text,
	from_lsn pg_lsn,
	to_lsn pg_lsn,
	from_time timestamptz,
	to_time timestamptz,
	INOUT timeline integer,
	OUT start_lsn pg_lsn,
	OUT end_lsn pg_lsn,
	OUT xid xid,
	OUT xact_time timestamptz,
	OUT kind text,
	OUT aborted boolean,
	OUT database oid,
	OUT file_count bigint,
	OUT file_tablespace oid[],
	OUT file_database oid[],
	OUT file_number oid[],
	OUT relations oid[],
	OUT restore_before_lsn pg_lsn,
	OUT restore_before_time timestamptz,
	OUT decoded_from pg_lsn)
RETURNS SETOF record
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_read_destructions';
REVOKE ALL ON FUNCTION walarchive.read_destructions(text, pg_lsn, pg_lsn, timestamptz, timestamptz, integer) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.read_destructions(text, pg_lsn, pg_lsn, timestamptz, timestamptz, integer) IS
'private: destructive transactions in the part of a range that is not in the catalog yet';

-- The latest time of a commit or abort on a path below a place; NULL: not known.
CREATE FUNCTION walarchive.time_floor(p_source text, p_system_identifier bigint, p_timelines integer[], p_begins pg_lsn[], p_lsn pg_lsn)
RETURNS timestamptz
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN pg_catalog.bool_and(s.decode_state = 'decoded') IS NOT false
				THEN coalesce(pg_catalog.max(s.max_commit_time), '-infinity') END
	FROM ROWS FROM (pg_catalog.unnest(p_timelines), pg_catalog.unnest(p_begins)) WITH ORDINALITY AS p (timeline, begin_lsn, n)
		JOIN walarchive.segment s ON s.source = p_source AND s.system_identifier = p_system_identifier
			AND s.timeline = p.timeline
			AND s.end_lsn > p.begin_lsn
			AND s.start_lsn < least(p_begins[p.n + 1], p_lsn)
$$;
REVOKE ALL ON FUNCTION walarchive.time_floor(text, bigint, integer[], pg_lsn[], pg_lsn) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.time_floor(text, bigint, integer[], pg_lsn[], pg_lsn) IS
'private: latest time of a commit or abort before a place; NULL: not known';

CREATE FUNCTION walarchive.find_destructions(
	p_source text,
	p_from_lsn pg_lsn,
	p_to_lsn pg_lsn,
	p_from_time timestamptz,
	p_to_time timestamptz,
	p_timeline integer,
	OUT timeline integer,
	OUT start_lsn pg_lsn,
	OUT end_lsn pg_lsn,
	OUT xid xid,
	OUT xact_time timestamptz,
	OUT kind text,
	OUT relations text[],
	OUT database text,
	OUT dropped_files bigint,
	OUT aborted boolean,
	OUT restore_before_lsn pg_lsn,
	OUT restore_before_time timestamptz)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p record;
BEGIN
	p := walarchive.archived_path(p_source, p_timeline);
	RETURN QUERY
	WITH fresh AS MATERIALIZED (
		SELECT r.* FROM walarchive.read_destructions(p_source, p_from_lsn, p_to_lsn, p_from_time, p_to_time, p_timeline) r
	), found AS (
		SELECT d.timeline, d.start_lsn, d.end_lsn, d.xid, d.xact_time, d.kind, d.aborted, d.database, d.file_count,
			   d.file_tablespace, d.file_database, d.file_number, d.relations, d.restore_before_lsn, d.restore_before_time
		FROM ROWS FROM (pg_catalog.unnest(p.timelines), pg_catalog.unnest(p.begins)) WITH ORDINALITY AS t (timeline, begin_lsn, n)
			JOIN walarchive.destructive_commit d ON d.source = p_source
				AND d.system_identifier = p.system_identifier
				AND d.timeline = t.timeline
				AND d.start_lsn >= t.begin_lsn
				AND (p.begins[t.n + 1] IS NULL OR d.start_lsn < p.begins[t.n + 1])
		WHERE (p_from_lsn IS NULL OR d.start_lsn >= p_from_lsn)
			AND (p_to_lsn IS NULL OR d.start_lsn < p_to_lsn)
			AND (p_from_time IS NULL OR d.xact_time >= p_from_time)
			AND (p_to_time IS NULL OR d.xact_time <= p_to_time)
		UNION ALL
		SELECT f.timeline, f.start_lsn, f.end_lsn, f.xid, f.xact_time, f.kind, f.aborted, f.database, f.file_count,
			   f.file_tablespace, f.file_database, f.file_number, f.relations, f.restore_before_lsn,
			   -- exact only if no commit before was later
			   CASE WHEN f.restore_before_time IS NOT NULL
						AND walarchive.time_floor(p_source, p.system_identifier, p.timelines, p.begins, f.decoded_from) < f.xact_time
					THEN f.restore_before_time END
		FROM fresh f
		WHERE NOT EXISTS (SELECT 1 FROM walarchive.destructive_commit d
						  WHERE d.source = p_source
							AND d.system_identifier = p.system_identifier
							AND d.timeline = f.timeline
							AND d.start_lsn = f.start_lsn
							AND d.kind = f.kind)
	)
	SELECT f.timeline, f.start_lsn, f.end_lsn, f.xid,
		   -- a transaction that a crash ended has no time
		   CASE WHEN f.xact_time <> '2000-01-01 00:00:00+00' THEN f.xact_time END,
		   f.kind,
		   CASE WHEN f.kind <> 'database'
				THEN walarchive.destroyed_names(p_source, p.system_identifier, f.file_tablespace, f.file_database,
												f.file_number, f.database, f.relations, f.xact_time) END,
		   CASE WHEN f.database <> 0 THEN walarchive.database_of(p_source, p.system_identifier, f.database, f.xact_time) END,
		   f.file_count, f.aborted, f.restore_before_lsn, f.restore_before_time
	FROM found f
	ORDER BY f.start_lsn,
			 CASE f.kind WHEN 'database' THEN 1 WHEN 'drop' THEN 2 WHEN 'truncate' THEN 3 ELSE 4 END;
END
$$;
REVOKE ALL ON FUNCTION walarchive.find_destructions(text, pg_lsn, pg_lsn, timestamptz, timestamptz, integer) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.find_destructions(text, pg_lsn, pg_lsn, timestamptz, timestamptz, integer) IS
'private: what destructive_commits() shows';

CREATE FUNCTION walarchive.destructive_commits(
	source text,
	from_lsn pg_lsn DEFAULT NULL,
	to_lsn pg_lsn DEFAULT NULL,
	from_time timestamptz DEFAULT NULL,
	to_time timestamptz DEFAULT NULL,
	INOUT timeline integer DEFAULT NULL,
	OUT start_lsn pg_lsn,
	OUT end_lsn pg_lsn,
	OUT xid xid,
	OUT xact_time timestamptz,
	OUT kind text,
	OUT relations text[],
	OUT database text,
	OUT dropped_files bigint,
	OUT aborted boolean,
	OUT restore_before_lsn pg_lsn,
	OUT restore_before_time timestamptz)
RETURNS SETOF record
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_destructive_commits';
REVOKE ALL ON FUNCTION walarchive.destructive_commits(text, pg_lsn, pg_lsn, timestamptz, timestamptz, integer) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.destructive_commits(text, pg_lsn, pg_lsn, timestamptz, timestamptz, integer) IS
'transactions that dropped, truncated or rewrote relations or dropped a database, and where a restore has to end to be before them';

-- WAL that the newest timeline does not descend from: the rest of timelines on
-- its path behind the place where they were left, and timelines beside it.
CREATE FUNCTION walarchive.stranded_ranges(
	p_source text,
	OUT timeline integer,
	OUT from_lsn pg_lsn,
	OUT fork_lsn pg_lsn,
	OUT successor_timeline integer)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p record;
	t record;
	parent walarchive.timeline;
	current integer;
	at integer;
BEGIN
	p := walarchive.archived_path(p_source, NULL);
	FOR t IN
		SELECT l.timeline, l.fork_lsn
		FROM walarchive.timeline l
		WHERE l.source = p_source AND l.system_identifier = p.system_identifier
		ORDER BY l.timeline
	LOOP
		timeline := t.timeline;
		at := pg_catalog.array_position(p.timelines, t.timeline);
		IF at IS NOT NULL THEN
			CONTINUE WHEN at = pg_catalog.cardinality(p.timelines);
			fork_lsn := p.begins[at + 1];
			from_lsn := fork_lsn;
			successor_timeline := p.timelines[at + 1];
		ELSE
			from_lsn := coalesce(t.fork_lsn, '0/0');
			fork_lsn := t.fork_lsn;
			successor_timeline := p.timelines[pg_catalog.cardinality(p.timelines)];
			current := t.timeline;
			LOOP
				SELECT l.* INTO parent
				FROM walarchive.timeline l
				WHERE l.source = p_source AND l.system_identifier = p.system_identifier AND l.timeline = current;
				EXIT WHEN parent.parent_timeline IS NULL OR parent.parent_timeline >= current;
				at := pg_catalog.array_position(p.timelines, parent.parent_timeline);
				IF at IS NOT NULL THEN
					fork_lsn := least(parent.fork_lsn, p.begins[at + 1]);
					successor_timeline := p.timelines[least(at + 1, pg_catalog.cardinality(p.timelines))];
					EXIT;
				END IF;
				current := parent.parent_timeline;
			END LOOP;
		END IF;
		IF EXISTS (SELECT 1 FROM walarchive.segment s
				   WHERE s.source = p_source AND s.system_identifier = p.system_identifier
					AND s.timeline = t.timeline AND s.end_lsn > stranded_ranges.from_lsn) THEN
			from_lsn := greatest(from_lsn, (SELECT pg_catalog.min(s.start_lsn) FROM walarchive.segment s
											WHERE s.source = p_source AND s.system_identifier = p.system_identifier
												AND s.timeline = t.timeline));
			RETURN NEXT;
		END IF;
	END LOOP;
END
$$;
REVOKE ALL ON FUNCTION walarchive.stranded_ranges(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.stranded_ranges(text) IS
'private: archived WAL that the newest timeline does not descend from';

CREATE FUNCTION walarchive.stranded_commits(
	source text,
	OUT timeline integer,
	OUT start_lsn pg_lsn,
	OUT end_lsn pg_lsn,
	OUT xid xid,
	OUT xact_time timestamptz,
	OUT kind text,
	OUT dropped_relations text[],
	OUT fork_lsn pg_lsn,
	OUT successor_timeline integer)
RETURNS SETOF record
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_stranded_commits';
REVOKE ALL ON FUNCTION walarchive.stranded_commits(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.stranded_commits(text) IS
'commits that a former primary had made and its successor does not have, as far as they are archived';

CREATE FUNCTION walarchive.wal_stats(
	source text,
	from_lsn pg_lsn DEFAULT NULL,
	to_lsn pg_lsn DEFAULT NULL,
	timeline integer DEFAULT NULL,
	OUT resource_manager text,
	OUT records bigint,
	OUT records_percentage double precision,
	OUT record_bytes bigint,
	OUT record_bytes_percentage double precision,
	OUT fpi_bytes bigint,
	OUT fpi_bytes_percentage double precision,
	OUT combined_bytes bigint,
	OUT combined_bytes_percentage double precision)
RETURNS SETOF record
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_wal_stats';
REVOKE ALL ON FUNCTION walarchive.wal_stats(text, pg_lsn, pg_lsn, integer) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.wal_stats(text, pg_lsn, pg_lsn, integer) IS
'records and bytes by resource manager, as pg_get_wal_stats of pg_walinspect, for archived WAL of any version';

CREATE FUNCTION walarchive.wal_records(
	source text,
	from_lsn pg_lsn DEFAULT NULL,
	to_lsn pg_lsn DEFAULT NULL,
	INOUT timeline integer DEFAULT NULL,
	OUT start_lsn pg_lsn,
	OUT end_lsn pg_lsn,
	OUT prev_lsn pg_lsn,
	OUT xid xid,
	OUT resource_manager text,
	OUT record_type text,
	OUT record_length bigint,
	OUT main_data_length bigint,
	OUT fpi_length bigint,
	OUT description text,
	OUT block_ref text)
RETURNS SETOF record
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_wal_records';
REVOKE ALL ON FUNCTION walarchive.wal_records(text, pg_lsn, pg_lsn, integer) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.wal_records(text, pg_lsn, pg_lsn, integer) IS
'WAL records, as pg_get_wal_records_info of pg_walinspect, for archived WAL of any version';
