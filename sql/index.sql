-- Where the decoder goes on, and what becomes of what it found: the catalog's
-- own logic on made-up archives of 1 MB segments.
\set SHOW_CONTEXT never
SET timezone = 'UTC';

BEGIN;
INSERT INTO walarchive.source (name, conninfo, slot_name, state, system_identifier)
VALUES ('made-up', 'host=127.0.0.1 port=1', 's', 'paused', 42);
CREATE FUNCTION pg_temp.lsn(mb numeric) RETURNS pg_lsn LANGUAGE sql AS $$ SELECT '0/0'::pg_lsn + mb * 1048576 $$;
CREATE FUNCTION pg_temp.mb(lsn pg_lsn) RETURNS numeric LANGUAGE sql AS $$ SELECT trim_scale(round((lsn - '0/0') / 1048576, 3)) $$;
CREATE FUNCTION pg_temp.name(timeline int, n int) RETURNS text LANGUAGE sql AS $$
	SELECT upper(lpad(to_hex(timeline), 8, '0') || lpad('', 8, '0') || lpad(to_hex(n), 8, '0'))
$$;
CREATE FUNCTION pg_temp.files(timeline int, first int, last int, finished boolean DEFAULT true) RETURNS bigint
LANGUAGE sql AS $$
	SELECT walarchive.register_files('made-up', 42, 1048576, array_agg(timeline), array_agg(pg_temp.name(timeline, n)),
		array_agg(pg_temp.lsn(n)), array_agg(1048576::bigint), array_agg(finished))
	FROM generate_series(first, last) n
$$;
-- what is to be decoded next, with or without a live timeline up to there
CREATE FUNCTION pg_temp.next(live int DEFAULT NULL, up_to numeric DEFAULT NULL,
	OUT tli int, OUT "from" numeric, OUT resync boolean, OUT until numeric, OUT "to" numeric, OUT live boolean, OUT by_segment boolean)
RETURNS SETOF record LANGUAGE sql AS $$
	SELECT n.timeline, pg_temp.mb(n.from_lsn), n.resync, pg_temp.mb(n.until_lsn), pg_temp.mb(n.to_lsn), n.live, n.by_segment
	FROM walarchive.next_decode('made-up', CASE WHEN next.live IS NOT NULL THEN 42 END, next.live, pg_temp.lsn(up_to)) n
$$;
-- the decoder has come to there; the segments that it went through
CREATE FUNCTION pg_temp.decoded(tli int, next numeric, need numeric, touched int[] DEFAULT '{}', complete boolean DEFAULT true,
	resync boolean DEFAULT false, exhausted boolean DEFAULT false, by_segment boolean DEFAULT false,
	damaged int DEFAULT NULL, decode_state text DEFAULT 'damaged')
RETURNS boolean LANGUAGE sql AS $$
	SELECT walarchive.store_decoded('made-up', 42, tli, by_segment,
		(SELECT d.next_lsn FROM walarchive.decode_progress d WHERE d.timeline = tli),
		pg_temp.lsn(next), pg_temp.lsn(need), resync, exhausted, 'abcd', NULL, NULL, NULL,
		jsonb_build_object(
			'segments', (SELECT coalesce(jsonb_agg(jsonb_build_object('start_lsn', pg_temp.lsn(n), 'end_lsn', pg_temp.lsn(n + 1),
				'name', pg_temp.name(tli, n), 'major', 15, 'complete', complete, 'first_record', pg_temp.lsn(n + 0.25),
				'last_record', pg_temp.lsn(n + 0.5), 'records', 100, 'commits', 10, 'aborts', 1,
				'first_time', '2026-01-01 00:00:00Z'::timestamptz + n * interval '1 h',
				'last_time', '2026-01-01 00:30:00Z'::timestamptz + n * interval '1 h',
				'min_time', '2026-01-01 00:00:00Z'::timestamptz + n * interval '1 h',
				'max_time', '2026-01-01 00:30:00Z'::timestamptz + n * interval '1 h',
				'min_xid', '4294967300', 'max_xid', '4294967310')), '[]') FROM unnest(touched) n),
			'damage', (SELECT coalesce(jsonb_agg(jsonb_build_object('start_lsn', pg_temp.lsn(damaged), 'decode_state', decode_state,
				'damage', 'made up', 'lsn', pg_temp.lsn(damaged + 0.5), 'offset', 524288)), '[]') WHERE damaged IS NOT NULL)))
$$;
CREATE VIEW pg_temp.segments AS
	SELECT timeline AS tli, pg_temp.mb(start_lsn) AS start, state, decode_state, records, commits, aborts, min_xid, max_xid,
		   to_char(min_commit_time, 'HH24:MI') AS min, to_char(max_commit_time, 'HH24:MI') AS max, checked_at IS NOT NULL AS checked, damage
	FROM walarchive.segment ORDER BY timeline, start_lsn;

-- nothing there, nothing to do
SELECT * FROM pg_temp.next();

-- files of a timeline that nobody sends: to their end, 64 MB at a time
SELECT pg_temp.files(1, 1, 100);
SELECT * FROM pg_temp.next();
SELECT pg_temp.decoded(1, 65.25, 65.25, ARRAY[1, 2]);
SELECT * FROM pg_temp.next();
-- the last record goes on where nothing is: no use in trying again
SELECT pg_temp.decoded(1, 100.9, 101.1, ARRAY[100], false, exhausted => true);
SELECT * FROM pg_temp.next();
-- then it comes
SELECT pg_temp.files(1, 101, 102);
SELECT * FROM pg_temp.next();
SELECT pg_temp.decoded(1, 102.5, 102.6, ARRAY[100, 101], exhausted => true);
SELECT * FROM pg_temp.segments WHERE start IN (1, 2, 100, 101, 102);
-- a piece is entered once
SELECT walarchive.store_decoded('made-up', 42, 1, false, pg_temp.lsn(65.25), pg_temp.lsn(80), pg_temp.lsn(80), false, false, NULL,
	NULL, NULL, NULL, '{}') AS stored;

-- what turned up below is decoded by itself, one by one
UPDATE walarchive.segment SET decode_state = 'decoded' WHERE decode_state = 'pending';
DELETE FROM walarchive.segment WHERE start_lsn IN (pg_temp.lsn(10), pg_temp.lsn(11));
SELECT pg_temp.files(1, 10, 11);
SELECT * FROM pg_temp.next();
SELECT pg_temp.decoded(1, 11, 11, ARRAY[10], by_segment => true);
SELECT * FROM pg_temp.next();
-- one in which no record starts
SELECT pg_temp.decoded(1, 12, 12, by_segment => true);
SELECT * FROM pg_temp.next();
SELECT * FROM pg_temp.segments WHERE start IN (10, 11);

-- the server sends: up to what is durable, and only if that suffices
SELECT * FROM pg_temp.next(1, 102.55);
SELECT * FROM pg_temp.next(1, 102.9);
SELECT pg_temp.files(1, 103, 103, false);
SELECT * FROM pg_temp.next(1, 103.1);
SELECT pg_temp.decoded(1, 103.1, 103.2, ARRAY[102]), pg_temp.decoded(1, 103.2, 103.25, ARRAY[103], false), pg_temp.decoded(1, 103.3, 103.4, ARRAY[103], false);
SELECT * FROM pg_temp.segments WHERE start >= 102;
SELECT * FROM pg_temp.next(1, 103.3);

-- a gap: what is left of the open segment, and on behind it
SELECT pg_temp.files(1, 106, 106, false);
SELECT * FROM pg_temp.next(1, 106.5);
SELECT pg_temp.decoded(1, 103.3, 103.4, exhausted => true);
SELECT * FROM pg_temp.next(1, 106.5);
SELECT pg_temp.decoded(1, 106.5, 106.6, ARRAY[106], false);
SELECT * FROM pg_temp.next(1, 106.5);
-- the gap is closed
SELECT pg_temp.files(1, 103, 105);
SELECT * FROM pg_temp.next(1, 106.5);

-- damage, and a segment that kills the decoder: on with the next one
SELECT pg_temp.files(1, 106, 108);
SELECT * FROM pg_temp.next(1, 109);
SELECT pg_temp.decoded(1, 107, 107, damaged => 106, resync => true);
SELECT * FROM pg_temp.next(1, 109);
SELECT walarchive.note_decoder_death('made-up', 42, 1, pg_temp.lsn(107), true, pg_temp.lsn(107.5)) AS deaths,
	   walarchive.note_decoder_death('made-up', 42, 1, pg_temp.lsn(107), true, pg_temp.lsn(107.75)) AS elsewhere,
	   walarchive.note_decoder_death('made-up', 42, 1, pg_temp.lsn(107), true, pg_temp.lsn(107.75)) AS again;
SELECT failures FROM walarchive.next_decode('made-up', 42, 1, pg_temp.lsn(109));
SELECT pg_temp.decoded(1, 108, 108, damaged => 107, decode_state => 'quarantined', resync => true);
SELECT failures FROM walarchive.next_decode('made-up', 42, 1, pg_temp.lsn(109));
SELECT * FROM pg_temp.next(1, 109);
SELECT * FROM pg_temp.segments WHERE start >= 103;

-- a new timeline begins at its fork
SELECT walarchive.register_timelines('made-up', 42, ARRAY[2], ARRAY[1], ARRAY[pg_temp.lsn(108.5)]);
SELECT pg_temp.files(2, 108, 108, false);
SELECT pg_temp.decoded(1, 109, 109, ARRAY[108], exhausted => true);
SELECT * FROM pg_temp.next(2, 108.75);
SELECT * FROM pg_temp.next();
SELECT pg_temp.decoded(2, 108.75, 108.76, ARRAY[108], false);
SELECT * FROM pg_temp.next(2, 108.75);
SELECT timeline, pg_temp.mb(next_lsn) FROM walarchive.decoded_position('made-up', NULL, NULL);
-- one that begins with a whole segment of its own
SELECT walarchive.register_timelines('made-up', 42, ARRAY[3], ARRAY[2], ARRAY[pg_temp.lsn(109)]);
SELECT pg_temp.files(3, 109, 109, false);
SELECT * FROM pg_temp.next(3, 109.5);

-- what the records say
SELECT walarchive.store_decoded('made-up', 42, 3, false, NULL, pg_temp.lsn(109.5), pg_temp.lsn(109.5), false, false, NULL,
	pg_temp.lsn(109.25), '77', '2026-01-02 03:04:05Z', jsonb_build_object(
	'restore_points', jsonb_build_array(jsonb_build_object('start_lsn', '0/6D40000', 'end_lsn', '0/6D40060', 'name', 'before', 'time', '2026-01-02 03:04:05Z')),
	'parameters', jsonb_build_array(jsonb_build_object('start_lsn', '0/6D41000', 'max_connections', 200, 'max_worker_processes', 8,
		'max_wal_senders', 10, 'max_prepared_transactions', 0, 'max_locks_per_transaction', 64, 'wal_level', 'logical',
		'wal_log_hints', false, 'track_commit_timestamp', true)),
	'tablespaces', jsonb_build_array(jsonb_build_object('start_lsn', '0/6D41800', 'tablespace', 16390, 'location', E'/srv/\\ \'odd')),
	'recoveries', jsonb_build_array(jsonb_build_object('timeline', 3, 'parent', 2, 'time', '2026-01-02 03:00:00Z')),
	'destructions', jsonb_build_array(jsonb_build_object('start_lsn', '0/6D42000', 'end_lsn', '0/6D42100', 'kind', 'drop', 'xid', '4000000000',
		'time', '2026-01-02 03:04:05Z', 'aborted', false, 'database', 5, 'file_count', 2, 'tablespaces', jsonb_build_array(1663, 1663),
		'databases', jsonb_build_array(5, 5), 'numbers', jsonb_build_array(16384, 16387), 'relations', jsonb_build_array(16384),
		'first_lsn', '0/6D42000', 'restore_before_lsn', '0/6D41F00', 'restore_before_time', NULL))));
SELECT timeline, name, created_at FROM walarchive.restore_point;
SELECT timeline, tablespace, location FROM walarchive.tablespace_made;
SELECT timeline, max_connections, wal_level, track_commit_timestamp FROM walarchive.parameter_change;
SELECT timeline, parent_timeline, promoted_at FROM walarchive.timeline WHERE promoted_at IS NOT NULL;
SELECT timeline, kind, xid, database, file_count, file_tablespace, file_number, relations, restore_before_time FROM walarchive.destructive_commit;
SELECT timeline, commit_xid, commit_time FROM walarchive.decoded_position('made-up', 42, 3);

-- nothing of a dropped source stays
UPDATE walarchive.source SET state = 'dropping' WHERE name = 'made-up';
SELECT walarchive.forget_source('made-up', (SELECT revision FROM walarchive.source WHERE name = 'made-up'));
SELECT (SELECT count(*) FROM walarchive.segment) + (SELECT count(*) FROM walarchive.decode_progress) + (SELECT count(*) FROM walarchive.restore_point) + (SELECT count(*) FROM walarchive.tablespace_made)
	+ (SELECT count(*) FROM walarchive.parameter_change) + (SELECT count(*) FROM walarchive.destructive_commit) AS "left";
ROLLBACK;
