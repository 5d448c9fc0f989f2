-- The surface: what there is, that all of it is described, and the catalog's
-- own logic on made-up archives.
\set SHOW_CONTEXT never

-- columns, unaligned so that a new object is one new line
\pset format unaligned
\pset footer off
SELECT c.relname, c.relkind, string_agg(a.attname, ', ' ORDER BY a.attnum) AS columns
FROM pg_class c
	JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'walarchive'::regnamespace AND c.relkind IN ('r', 'v')
GROUP BY c.relname, c.relkind ORDER BY c.relname COLLATE "C";

-- functions
SELECT p.proname, pg_get_function_identity_arguments(p.oid) AS arguments, p.prosecdef AS definer
FROM pg_proc p
WHERE p.pronamespace = 'walarchive'::regnamespace
ORDER BY p.proname COLLATE "C";
\pset format aligned
\pset footer on

-- everything belongs to the extension and has a comment
SELECT c.oid::regclass AS relation_without_comment
FROM pg_class c
WHERE c.relnamespace = 'walarchive'::regnamespace AND c.relkind IN ('r', 'v')
	AND obj_description(c.oid, 'pg_class') IS NULL;
SELECT c.oid::regclass AS relation, a.attname AS column_without_comment
FROM pg_class c
	JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'walarchive'::regnamespace AND c.relkind IN ('r', 'v')
	AND col_description(c.oid, a.attnum) IS NULL;
SELECT p.oid::regprocedure AS function_without_comment
FROM pg_proc p
WHERE p.pronamespace = 'walarchive'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL;
SELECT c.oid::regclass AS relation_of_nobody
FROM pg_class c
WHERE c.relnamespace = 'walarchive'::regnamespace AND c.relkind IN ('r', 'v')
	AND NOT EXISTS (SELECT 1 FROM pg_depend d
					WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e');

-- nobody's search_path changes what a function does
SELECT p.oid::regprocedure AS function_without_search_path
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace = 'walarchive'::regnamespace AND l.lanname <> 'c'
	AND NOT coalesce(p.proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false);

-- the table of sources is in a dump
SELECT unnest(extconfig)::regclass FROM pg_extension WHERE extname = 'walarchive';

-- the host
SELECT "check", severity, hint FROM walarchive.health WHERE source IS NULL ORDER BY "check" COLLATE "C";

-- a made-up archive of 1 MB segments; offsets instead of LSNs, which differ in
-- form between versions
BEGIN;
INSERT INTO walarchive.source (name, conninfo, slot_name, state) VALUES ('made-up', 'host=127.0.0.1 port=1', 's', 'paused');
CREATE FUNCTION pg_temp.name(timeline int, n int) RETURNS text LANGUAGE sql AS $$
	SELECT upper(lpad(to_hex(timeline), 8, '0') || lpad('', 8, '0') || lpad(to_hex(n), 8, '0'))
$$;
CREATE FUNCTION pg_temp.files(timeline int, first int, last int, finished boolean DEFAULT true) RETURNS bigint
LANGUAGE sql AS $$
	SELECT walarchive.register_files('made-up', 42, 1048576, array_agg(timeline), array_agg(pg_temp.name(timeline, n)),
		array_agg('0/0'::pg_lsn + n * 1048576), array_agg(1048576::bigint), array_agg(finished))
	FROM generate_series(first, last) n
$$;
CREATE VIEW pg_temp.gaps AS
	SELECT timeline, trunc((from_lsn - '0/0') / 1048576, 1) AS "from", trunc((to_lsn - '0/0') / 1048576, 1) AS "to", cause,
		   closed_at IS NOT NULL AS closed
	FROM walarchive.gap ORDER BY timeline, from_lsn, cause;
CREATE VIEW pg_temp.timelines AS
	SELECT timeline, parent_timeline AS parent, trunc((fork_lsn - '0/0') / 1048576, 2) AS fork,
		   trunc((first_lsn - '0/0') / 1048576) AS first, trunc((last_lsn - '0/0') / 1048576) AS last, segments, bytes, history_file
	FROM walarchive.timeline ORDER BY timeline;

-- whole, the open segment at the end
SELECT pg_temp.files(1, 1, 10), pg_temp.files(1, 11, 11, false), pg_temp.files(1, 1, 10) AS again;
SELECT walarchive.find_gaps('made-up', 42);
TABLE pg_temp.gaps;
TABLE pg_temp.timelines;

-- the open segment is finished; the next ones are missing
SELECT pg_temp.files(1, 11, 11), pg_temp.files(1, 14, 15);
SELECT walarchive.find_gaps('made-up', 42), walarchive.find_gaps('made-up', 42) AS again;
TABLE pg_temp.gaps;
TABLE pg_temp.timelines;

-- they turn up
SELECT pg_temp.files(1, 12, 13);
SELECT walarchive.find_gaps('made-up', 42);
TABLE pg_temp.gaps;

-- a fork within segment 15, of which the new timeline has a copy
SELECT walarchive.register_timelines('made-up', 42, '{2}', '{1}', ARRAY['0/0'::pg_lsn + 15.5 * 1048576]);
SELECT pg_temp.files(2, 15, 20);
SELECT walarchive.find_gaps('made-up', 42);
TABLE pg_temp.timelines;

-- a fork from which the first segments are missing
SELECT walarchive.register_timelines('made-up', 42, '{3}', '{2}', ARRAY['0/0'::pg_lsn + 19.5 * 1048576]);
SELECT pg_temp.files(3, 21, 22);
SELECT walarchive.find_gaps('made-up', 42);
TABLE pg_temp.gaps;

-- a gap from the journal explains a hole, the partial segment in which it
-- starts included
SELECT pg_temp.files(3, 23, 23, false), pg_temp.files(3, 30, 31);
SELECT walarchive.register_journal('made-up', 0, 200, '{0,100}', '{2026-01-01 00:00+00,2026-01-01 00:01+00}',
	'{connected,gap}', '{info,critical}', '{hello,"WAL was removed"}', '{NULL,42}', '{NULL,3}', '{NULL,NULL}',
	ARRAY[NULL, '0/0'::pg_lsn + 23.5 * 1048576], ARRAY[NULL, '0/0'::pg_lsn + 30 * 1048576], '{NULL,wal_removed}');
SELECT walarchive.find_gaps('made-up', 42);
SELECT * FROM pg_temp.gaps WHERE timeline = 3;
SELECT kind, severity, message, timeline, cause, journal_offset FROM walarchive.event WHERE source = 'made-up' ORDER BY id;
-- the same lines again are not read again; a line that says it is closed
SELECT walarchive.register_journal('made-up', 0, 200, '{0}', '{2026-01-01 00:00+00}', '{connected}', '{info}', '{hello}',
	'{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}') IS NOT NULL AS new_journal;
SELECT walarchive.register_journal('made-up', 100, 300, '{100}', '{2026-01-01 00:02+00}', '{gap_closed}', '{info}', '{closed}',
	'{42}', '{3}', '{NULL}', ARRAY['0/0'::pg_lsn + 23 * 1048576], ARRAY['0/0'::pg_lsn + 30 * 1048576], '{NULL}') AS wrong_offset;
SELECT walarchive.register_journal('made-up', 200, 300, '{200}', '{2026-01-01 00:02+00}', '{gap_closed}', '{info}', '{closed}',
	'{42}', '{3}', '{NULL}', ARRAY['0/0'::pg_lsn + 23 * 1048576], ARRAY['0/0'::pg_lsn + 30 * 1048576], '{NULL}');
SELECT * FROM pg_temp.gaps WHERE timeline = 3;

-- files that are gone are forgotten when the numbers differ
SELECT walarchive.finish_full_pass('made-up', 42, 5) AS gone;
SELECT count(*) FROM walarchive.segment;
TABLE pg_temp.timelines;
SELECT walarchive.note_full_pass('made-up', '{}');
SELECT count(*) FROM walarchive.timeline;

-- how it looks from outside before anybody has connected
SELECT "check", severity, message FROM walarchive.health WHERE source = 'made-up' AND "check" <> 'disk_space' ORDER BY "check" COLLATE "C";
SELECT source, pid, state, system_identifier, lag_bytes, flushed_lsn, last_error FROM walarchive.stat_receiver;
SELECT source, state, health, segments, size, open_gaps FROM walarchive.status;

-- a source that is not there
SELECT walarchive.register_timelines('nobody', 42, '{2}', '{1}', '{0/0}');
ROLLBACK;
