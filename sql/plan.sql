-- Plans of restores on made-up archives of 1 MB segments; positions are in MB.
-- Each tenth of a megabyte is a record: the first of a segment says nothing, the
-- last is an abort, all others are commits, one every six seconds.  Transactions
-- are numbered by tenths.  Nothing is read of files: walarchive.find_in_wal, which
-- reads the one segment that the catalog has named, is replaced by one that
-- looks into a table.
\set SHOW_CONTEXT never
\set VERBOSITY default
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';

SELECT * FROM walarchive.plan_restore('made-up');
SELECT * FROM walarchive.plan_restore(NULL);
SELECT * FROM walarchive.plan_files(NULL);
SELECT * FROM walarchive.plan_files(4711);
SELECT * FROM walarchive.plan_tablespaces(4711);
SELECT walarchive.renew_plan(4711, '1 h');
SELECT walarchive.renew_plan(4711, NULL);
SELECT walarchive.release_plan(4711);

BEGIN;
INSERT INTO walarchive.source (name, conninfo, slot_name, state, system_identifier)
VALUES ('made-up', 'host=127.0.0.1 port=1', 's', 'paused', 42);
SELECT walarchive.lock_source_index('made-up');
CREATE FUNCTION pg_temp.lsn(mb numeric) RETURNS pg_lsn LANGUAGE sql AS $$ SELECT '0/0'::pg_lsn + trunc(mb * 1048576) $$;
CREATE FUNCTION pg_temp.mb(lsn pg_lsn) RETURNS numeric LANGUAGE sql AS $$ SELECT trim_scale(round((lsn - '0/0') / 1048576, 3)) $$;
CREATE FUNCTION pg_temp.at(minutes numeric) RETURNS timestamptz LANGUAGE sql AS $$ SELECT '2026-01-01 00:00:00Z'::timestamptz + minutes * '1 min'::interval $$;
CREATE TABLE pg_temp.record (tli int, at numeric, kind text, xid bigint, time timestamptz, gid text, PRIMARY KEY (tli, at));
CREATE FUNCTION pg_temp.wal(first_tli int, from_mb numeric, to_mb numeric, skew numeric DEFAULT 0) RETURNS void LANGUAGE sql AS $$
	INSERT INTO pg_temp.record
	SELECT first_tli, n / 10.0, CASE n % 10 WHEN 0 THEN NULL WHEN 9 THEN 'abort' ELSE 'commit' END,
		   n, pg_temp.at(n / 10.0 + skew)
	FROM generate_series(trunc(from_mb * 10)::int, trunc(to_mb * 10)::int - 1) n
$$;
-- what decoding would have made of it
CREATE FUNCTION pg_temp.decode() RETURNS void LANGUAGE sql AS $$
	INSERT INTO walarchive.segment AS s (source, system_identifier, timeline, name, start_lsn, end_lsn, state, size, decode_state, major,
		first_record_lsn, last_record_lsn, records, commits, aborts, first_commit_time, last_commit_time, min_commit_time, max_commit_time, min_xid, max_xid)
	SELECT 'made-up', 42, r.tli, walarchive.segment_file(r.tli, trunc(r.at), 1048576), pg_temp.lsn(trunc(r.at)), pg_temp.lsn(trunc(r.at) + 1), 'finished', 1048576, 'decoded', 15,
		   pg_temp.lsn(min(r.at)), pg_temp.lsn(max(r.at)), count(*), count(*) FILTER (WHERE r.kind ~ 'commit'), count(*) FILTER (WHERE r.kind ~ 'abort'),
		   min(r.time) FILTER (WHERE r.kind IS NOT NULL), max(r.time) FILTER (WHERE r.kind IS NOT NULL),
		   min(r.time) FILTER (WHERE r.kind IS NOT NULL), max(r.time) FILTER (WHERE r.kind IS NOT NULL),
		   min(r.xid)::text::xid8, max(r.xid)::text::xid8
	FROM pg_temp.record r
	GROUP BY r.tli, trunc(r.at)
	ON CONFLICT (source, system_identifier, timeline, start_lsn) DO NOTHING;
	INSERT INTO walarchive.timeline (source, system_identifier, timeline) SELECT DISTINCT 'made-up', 42, tli FROM pg_temp.record ON CONFLICT DO NOTHING;
	INSERT INTO walarchive.decode_progress (source, system_identifier, timeline, next_lsn, need_lsn, resync, exhausted)
	SELECT 'made-up', 42, tli, pg_temp.lsn(max(at) + 0.1), pg_temp.lsn(max(at) + 0.1), false, true FROM pg_temp.record GROUP BY tli
	ON CONFLICT (source, system_identifier, timeline) DO UPDATE SET next_lsn = excluded.next_lsn, need_lsn = excluded.need_lsn;
$$;
CREATE FUNCTION pg_temp.fork(child int, parent int, at numeric) RETURNS bigint LANGUAGE sql AS $$
	SELECT walarchive.register_timelines('made-up', 42, ARRAY[child], ARRAY[parent], ARRAY[pg_temp.lsn(at)])
$$;
CREATE TABLE pg_temp.folder (label text PRIMARY KEY, info jsonb);
CREATE FUNCTION pg_temp.backup(label text, start numeric, stop numeric, tli int DEFAULT 1, parent text DEFAULT NULL)
RETURNS void LANGUAGE sql AS $$
	INSERT INTO pg_temp.folder VALUES (label, jsonb_build_object('label', label, 'kind', CASE WHEN parent IS NULL THEN 'full' ELSE 'incremental' END,
		'parent', parent, 'timeline', tli, 'start_lsn', pg_temp.lsn(start), 'stop_timeline', tli, 'stop_lsn', pg_temp.lsn(stop),
		'consistent_lsn', pg_temp.lsn(stop), 'started_at', pg_temp.at(start), 'finished_at', pg_temp.at(stop),
		'manifest_sha256', repeat('0', 64), 'size', 1000))
$$;
CREATE FUNCTION pg_temp.refresh() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_temp.decode();
	PERFORM walarchive.register_backups('made-up', 42, (SELECT coalesce(jsonb_agg(f.info), '[]') FROM pg_temp.folder f));
	PERFORM walarchive.windows_changed('made-up', true);
	PERFORM walarchive.refresh_runs('made-up');
	PERFORM walarchive.refresh_windows('made-up');
END
$$;
CREATE OR REPLACE FUNCTION walarchive.find_in_wal(p_source text, p_system_identifier bigint, p_segment_size integer, p_path text, p_from pg_lsn, p_to pg_lsn,
	p_within pg_lsn, p_what text, p_time timestamptz, p_xid xid,
	OUT role text, OUT kind text, OUT timeline integer, OUT start_lsn pg_lsn, OUT end_lsn pg_lsn, OUT prev_lsn pg_lsn, OUT xid xid, OUT xact_time timestamptz, OUT detail text)
RETURNS SETOF pg_catalog.record LANGUAGE sql STABLE AS $$
	WITH path AS (
		SELECT split_part(e.e, ':', 1)::int AS tli, split_part(e.e, ':', 2)::pg_lsn AS begin_lsn,
			   lead(split_part(e.e, ':', 2)::pg_lsn) OVER (ORDER BY e.n) AS next_lsn
		FROM string_to_table(p_path, ',') WITH ORDINALITY AS e (e, n)
	), here AS (
		SELECT r.*, pg_temp.lsn(r.at) AS s, pg_temp.lsn(r.at + 0.1) AS e
		FROM pg_temp.record r
			JOIN path p ON p.tli = r.tli AND pg_temp.lsn(r.at) >= p.begin_lsn AND (p.next_lsn IS NULL OR pg_temp.lsn(r.at) < p.next_lsn)
		WHERE pg_temp.lsn(r.at) >= p_from AND pg_temp.lsn(r.at) < p_to AND pg_temp.lsn(r.at + 0.1) <= p_within
	), match AS (
		SELECT h.* FROM here h
		WHERE CASE p_what WHEN 'record' THEN true
						  WHEN 'time' THEN h.kind ~ 'commit|abort' AND h.time > p_time
						  WHEN 'time_or_equal' THEN h.kind ~ 'commit|abort' AND h.time >= p_time
						  WHEN 'xid' THEN h.kind ~ 'commit|abort' AND h.xid::text::xid = p_xid END
		ORDER BY h.at LIMIT 1
	), before AS (
		SELECT h.* FROM here h WHERE NOT EXISTS (SELECT 1 FROM match m WHERE m.at <= h.at)
	), found AS (
		SELECT 'match' AS role, m.* FROM match m
		UNION ALL
		(SELECT 'last_record', b.* FROM before b ORDER BY b.at DESC LIMIT 1)
		UNION ALL
		(SELECT 'last_xact', b.* FROM before b WHERE b.kind ~ 'commit|abort' ORDER BY b.at DESC LIMIT 1)
		UNION ALL
		(SELECT 'last_commit', b.* FROM before b WHERE b.kind ~ 'commit' ORDER BY b.at DESC LIMIT 1)
		UNION ALL
		SELECT 'prepared', b.* FROM before b
		WHERE b.kind = 'prepare' AND NOT EXISTS (SELECT 1 FROM before f WHERE f.kind ~ ' prepared' AND f.xid = b.xid)
		UNION ALL
		SELECT 'finished', b.* FROM before b
		WHERE b.kind ~ ' prepared' AND NOT EXISTS (SELECT 1 FROM before f WHERE f.kind = 'prepare' AND f.xid = b.xid)
		UNION ALL
		SELECT 'settings', b.* FROM before b WHERE b.kind = 'settings'
	)
	SELECT f.role, f.kind, f.tli, f.s, f.e, pg_temp.lsn(f.at - 0.1), f.xid::text::xid, f.time, f.gid FROM found f
$$;
CREATE OR REPLACE FUNCTION walarchive.backup_file_list(source text, system_identifier bigint, label text, OUT name text, OUT size bigint)
RETURNS SETOF pg_catalog.record LANGUAGE sql VOLATILE STRICT AS $$ VALUES ('base.tar.zst', 1000::bigint), ('backup_manifest', 10), ('16500.tar.zst', 100) $$;
CREATE FUNCTION pg_temp.plan(target text DEFAULT '', OUT ok boolean, OUT reason text, OUT backup text, OUT path text, OUT stop numeric, OUT last_xid xid, OUT segments bigint, OUT hint text)
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'SELECT p.feasible, p.reason, p.backup, p.timeline_path, pg_temp.mb(p.stop_lsn), p.last_commit_xid, p.segments, p.hint FROM walarchive.plan_restore(''made-up'''
		|| CASE WHEN target <> '' THEN ', ' || target ELSE '' END || ') p'
	INTO ok, reason, backup, path, stop, last_xid, segments, hint;
END
$$;

-- Timeline 1 was left at 8.5 for 2, that at 12.5 for 3, and 1 at 5 for 4, of
-- which a part is missing.
SELECT pg_temp.wal(1, 1, 11), pg_temp.wal(2, 8.5, 20.4), pg_temp.wal(3, 12.5, 15), pg_temp.wal(4, 5, 7), pg_temp.wal(4, 9, 11);
SELECT pg_temp.decode();
SELECT pg_temp.fork(2, 1, 8.5), pg_temp.fork(3, 2, 12.5), pg_temp.fork(4, 1, 5);
SELECT * FROM pg_temp.plan();
SELECT pg_temp.backup('a', 2, 2.5), pg_temp.backup('b', 6, 6.5, parent => 'a'), pg_temp.backup('c', 10, 10.5, tli => 2);
SELECT pg_temp.refresh();
-- segments' rows are stored in no order here
SELECT timeline, pg_temp.mb(from_lsn) AS "from", pg_temp.mb(to_lsn) AS "to", ended_by, pg_temp.mb(resumes) AS resumes FROM walarchive.plan_runs('made-up', 42, NULL, NULL);

-- ---- the end of the archive: of the newest timeline of which there is WAL, and of others ----
SELECT * FROM pg_temp.plan();
SELECT * FROM pg_temp.plan('target_timeline => 2');
SELECT * FROM pg_temp.plan('target_timeline => 1');
SELECT * FROM pg_temp.plan('target_timeline => 3');
SELECT * FROM pg_temp.plan('target_timeline => 9');

-- ---- times ----
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_time => '2026-01-01 00:11:12Z'$$);
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_time => '2026-01-01 00:11:12Z', inclusive => false$$);
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_time => '2026-01-01 00:11:12.000001Z'$$);
-- the last one in a segment, and the first
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_time => '2026-01-01 00:11:54Z'$$);
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_time => '2026-01-01 00:11:59Z'$$);
-- around a fork, and on the timeline that was left
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_time => '2026-01-01 00:08:29Z'$$);
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_time => '2026-01-01 00:08:31Z'$$);
SELECT * FROM pg_temp.plan($$target_timeline => 1, target_time => '2026-01-01 00:08:31Z'$$);
-- while a backup is taken the one before it serves
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_time => '2026-01-01 00:10:20Z'$$);
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_time => '2026-01-01 00:10:20Z', backup => 'c'$$);
-- before all, and after all
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_time => '2026-01-01 00:00:20Z'$$);
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_time => '2026-01-01 00:20:18Z'$$);
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_time => '2026-01-01 00:20:18Z', inclusive => false$$);
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_time => 'infinity'$$);
-- times that do not grow with the WAL: the first one decides
SAVEPOINT s;
UPDATE pg_temp.record SET time = pg_temp.at(30) WHERE tli = 2 AND at = 13.4;
UPDATE walarchive.segment SET max_commit_time = pg_temp.at(30) WHERE timeline = 2 AND start_lsn = pg_temp.lsn(13);
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_time => '2026-01-01 00:15:00Z'$$);
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_time => '2026-01-01 00:25:00Z'$$);
ROLLBACK TO s;

-- ---- places ----
SELECT * FROM pg_temp.plan(format('target_timeline => 2, target_lsn => %L', pg_temp.lsn(11.2)));
SELECT * FROM pg_temp.plan(format('target_timeline => 2, target_lsn => %L, inclusive => false', pg_temp.lsn(11.2)));
SELECT * FROM pg_temp.plan(format('target_timeline => 2, target_lsn => %L', pg_temp.lsn(11.25)));
SELECT * FROM pg_temp.plan(format('target_timeline => 2, target_lsn => %L', pg_temp.lsn(8.5)));
SELECT * FROM pg_temp.plan(format('target_timeline => 2, target_lsn => %L', pg_temp.lsn(8.4)));
SELECT * FROM pg_temp.plan(format('target_timeline => 2, target_lsn => %L', pg_temp.lsn(20.3)));
SELECT * FROM pg_temp.plan(format('target_timeline => 2, target_lsn => %L', pg_temp.lsn(20.4)));
SELECT * FROM pg_temp.plan(format('target_timeline => 2, target_lsn => %L', pg_temp.lsn(1.5)));
SELECT * FROM pg_temp.plan(format('target_timeline => 2, target_lsn => %L', pg_temp.lsn(10.2)));
SELECT * FROM pg_temp.plan(format('target_timeline => 4, target_lsn => %L', pg_temp.lsn(6.2)));
SELECT * FROM pg_temp.plan(format('target_timeline => 4, target_lsn => %L', pg_temp.lsn(8)));
SELECT * FROM pg_temp.plan(format('target_timeline => 4, target_lsn => %L', pg_temp.lsn(10)));

-- ---- transactions ----
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_xid => '112'$$);
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_xid => '112', inclusive => false$$);
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_xid => '119'$$);
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_xid => '4711'$$);
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_xid => '15'$$);
SELECT * FROM pg_temp.plan($$target_timeline => 3, target_xid => '172'$$);
-- of another epoch; and where the epoch is not known
SAVEPOINT s;
UPDATE walarchive.segment SET min_xid = (min_xid::text::bigint + 4294967296)::text::xid8, max_xid = (max_xid::text::bigint + 4294967296)::text::xid8 WHERE timeline = 2;
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_xid => '112'$$);
UPDATE walarchive.segment SET min_xid = NULL, max_xid = NULL WHERE timeline = 2 AND start_lsn <= pg_temp.lsn(11);
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_xid => '112'$$);
ROLLBACK TO s;

-- ---- restore points ----
INSERT INTO walarchive.restore_point VALUES
	('made-up', 42, 2, pg_temp.lsn(14), pg_temp.lsn(14.1), 'release', pg_temp.at(14)),
	('made-up', 42, 3, pg_temp.lsn(14), pg_temp.lsn(14.1), 'elsewhere', pg_temp.at(14)),
	('made-up', 42, 1, pg_temp.lsn(10), pg_temp.lsn(10.1), 'left', pg_temp.at(10)),
	('made-up', 42, 2, pg_temp.lsn(15), pg_temp.lsn(15.1), 'twice', pg_temp.at(15)),
	('made-up', 42, 2, pg_temp.lsn(17), pg_temp.lsn(17.1), 'twice', pg_temp.at(17));
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_name => 'release'$$);
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_name => 'elsewhere'$$);
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_name => 'left'$$);
SELECT * FROM pg_temp.plan($$target_timeline => 1, target_name => 'left'$$);
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_name => 'twice'$$);
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_name => 'twice', backup => 'c'$$);
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_name => 'it''s \ "not" there'$$);

-- ---- consistency ----
SELECT * FROM pg_temp.plan('target_timeline => 2, target_immediate => true');
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_immediate => true, backup => 'b'$$);

-- ---- backups ----
SELECT * FROM pg_temp.plan($$target_timeline => 2, backup => 'a'$$);
SELECT * FROM pg_temp.plan($$target_timeline => 2, backup => 'nowhere'$$);
SELECT * FROM pg_temp.plan($$target_timeline => 1, backup => 'c'$$);
SELECT * FROM pg_temp.plan(format($$target_timeline => 2, backup => 'c', target_lsn => %L$$, pg_temp.lsn(9)));
SAVEPOINT s;
DELETE FROM pg_temp.folder WHERE label = 'a';
SELECT pg_temp.refresh();
SELECT * FROM pg_temp.plan(format('target_timeline => 2, target_lsn => %L', pg_temp.lsn(9)));
SELECT * FROM pg_temp.plan(format($$target_timeline => 2, backup => 'b', target_lsn => %L$$, pg_temp.lsn(9)));
ROLLBACK TO s;
-- only the files of a parent are read
UPDATE walarchive.segment SET decode_state = 'damaged', damage = 'made up' WHERE timeline = 1 AND start_lsn = pg_temp.lsn(2);
SELECT pg_temp.refresh();
SELECT * FROM pg_temp.plan(format('target_timeline => 2, target_lsn => %L', pg_temp.lsn(9)));
SELECT * FROM pg_temp.plan(format($$target_timeline => 2, backup => 'a', target_lsn => %L$$, pg_temp.lsn(9)));
ROLLBACK TO s;
UPDATE walarchive.backup SET state = 'broken', reason = 'its files are damaged: made up' WHERE label = 'b';
SELECT * FROM pg_temp.plan(format('target_timeline => 2, target_lsn => %L', pg_temp.lsn(9)));
SELECT * FROM pg_temp.plan(format($$target_timeline => 2, backup => 'b', target_lsn => %L$$, pg_temp.lsn(9)));
ROLLBACK TO s;

-- one that lies where timeline 1 was left for 2, in a file that can't be read: along 2 recovery reads the copy that 2 begins with
SELECT pg_temp.backup('d', 8.1, 8.3), pg_temp.backup('e', 7.1, 8.2);
UPDATE walarchive.segment SET decode_state = 'damaged', damage = 'made up', damage_lsn = start_lsn, last_record_lsn = NULL, records = 0, commits = 0, aborts = 0,
	min_commit_time = NULL, max_commit_time = NULL, min_xid = NULL, max_xid = NULL
WHERE timeline = 1 AND start_lsn = pg_temp.lsn(8);
SELECT pg_temp.refresh();
SELECT label, state, reason FROM walarchive.backup ORDER BY label;
SELECT backup, timeline, pg_temp.mb(first_lsn) AS first, pg_temp.mb(last_lsn) AS last, ended_by FROM walarchive.recovery_window ORDER BY 1, 2;
SELECT * FROM pg_temp.plan(format('target_timeline => 2, target_lsn => %L', pg_temp.lsn(9.2)));
SELECT * FROM pg_temp.plan(format($$target_timeline => 2, backup => 'e', target_lsn => %L$$, pg_temp.lsn(9.2)));
SELECT * FROM pg_temp.plan(format('target_timeline => 2, target_lsn => %L', pg_temp.lsn(8.3)));
SELECT * FROM pg_temp.plan(format('target_timeline => 1, target_lsn => %L', pg_temp.lsn(8.3)));
SELECT * FROM pg_temp.plan(format($$target_timeline => 1, backup => 'd', target_lsn => %L$$, pg_temp.lsn(9.2)));
-- settings that were changed there: at their place between those that the catalog knows
INSERT INTO walarchive.parameter_change VALUES
	('made-up', 42, 1, pg_temp.lsn(3), 50, 8, 10, 0, 64, 'replica', false, false),
	('made-up', 42, 2, pg_temp.lsn(11), 100, 9, 10, 20, 64, 'replica', false, false);
UPDATE pg_temp.record SET kind = 'settings', gid = '400 8 10 0 64' WHERE tli = 1 AND at = 8.2;
SELECT settings FROM walarchive.plan_restore('made-up', target_timeline => 2, target_lsn => pg_temp.lsn(9.2));
SELECT settings FROM walarchive.plan_restore('made-up', target_timeline => 2, target_lsn => pg_temp.lsn(8.1), backup => 'b');
SELECT settings FROM walarchive.plan_restore('made-up', target_timeline => 2, target_lsn => pg_temp.lsn(11.2), backup => 'c');
SAVEPOINT r;
-- what was left later has no copy of it, nor has one that can't be read itself
UPDATE walarchive.timeline SET fork_lsn = pg_temp.lsn(8.2) WHERE timeline = 2;
SELECT pg_temp.refresh();
SELECT label, state, reason FROM walarchive.backup ORDER BY label;
ROLLBACK TO r;
UPDATE walarchive.segment SET decode_state = 'damaged', damage = 'made up', damage_lsn = pg_temp.lsn(8.0) WHERE timeline = 2 AND start_lsn = pg_temp.lsn(8);
SELECT pg_temp.refresh();
SELECT label, state, reason FROM walarchive.backup ORDER BY label;
ROLLBACK TO s;

-- ---- what is wrong with WAL ----
UPDATE walarchive.segment SET decode_state = 'damaged', damage = 'made up', damage_lsn = pg_temp.lsn(14.3) WHERE timeline = 2 AND start_lsn = pg_temp.lsn(14);
SELECT pg_temp.refresh();
SELECT * FROM pg_temp.plan('target_timeline => 2');
SELECT * FROM pg_temp.plan(format('target_timeline => 2, target_lsn => %L', pg_temp.lsn(16)));
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_time => '2026-01-01 00:16:00Z'$$);
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_xid => '165'$$);
UPDATE walarchive.segment SET decode_state = 'quarantined', damage = NULL WHERE timeline = 2 AND start_lsn = pg_temp.lsn(14);
SELECT pg_temp.refresh();
SELECT * FROM pg_temp.plan(format('target_timeline => 2, target_lsn => %L', pg_temp.lsn(16)));
UPDATE walarchive.segment SET decode_state = 'unknown' WHERE timeline = 2 AND start_lsn = pg_temp.lsn(14);
SELECT pg_temp.refresh();
SELECT * FROM pg_temp.plan(format('target_timeline => 2, target_lsn => %L', pg_temp.lsn(16)));
UPDATE walarchive.segment SET decode_state = 'pending' WHERE timeline = 2 AND start_lsn = pg_temp.lsn(14);
SELECT pg_temp.refresh();
SELECT * FROM pg_temp.plan(format('target_timeline => 2, target_lsn => %L', pg_temp.lsn(16)));
ROLLBACK TO s;
-- what can't be read now is neither there nor not there
CREATE OR REPLACE FUNCTION walarchive.find_in_wal(p_source text, p_system_identifier bigint, p_segment_size integer, p_path text, p_from pg_lsn, p_to pg_lsn,
	p_within pg_lsn, p_what text, p_time timestamptz, p_xid xid,
	OUT role text, OUT kind text, OUT timeline integer, OUT start_lsn pg_lsn, OUT end_lsn pg_lsn, OUT prev_lsn pg_lsn, OUT xid xid, OUT xact_time timestamptz, OUT detail text)
RETURNS SETOF pg_catalog.record LANGUAGE sql STABLE AS $$ SELECT 'failed', NULL, NULL::int, NULL::pg_lsn, NULL::pg_lsn, NULL::pg_lsn, NULL::xid, NULL::timestamptz, 'the disk is on fire' $$;
SELECT * FROM pg_temp.plan($$target_timeline => 2, target_time => '2026-01-01 00:11:12Z'$$);
ROLLBACK TO s;

-- ---- what is refused ----
SELECT * FROM walarchive.plan_restore('made-up', target_time => now(), target_xid => '1');
ROLLBACK TO s;
SELECT * FROM walarchive.plan_restore('made-up', target_immediate => true, target_name => 'x');
ROLLBACK TO s;
SELECT * FROM walarchive.plan_restore('made-up', target_timeline => 0);
ROLLBACK TO s;
SELECT * FROM walarchive.plan_restore('made-up', inclusive => NULL);
ROLLBACK TO s;
SELECT * FROM walarchive.plan_restore('made-up', target_timeline => 2, hold => '0 s');
ROLLBACK TO s;

-- ---- prepared transactions, settings ----
UPDATE pg_temp.record SET kind = 'prepare', gid = 'in the last segment' WHERE tli = 2 AND at = 13;
SELECT walarchive.store_prepared('made-up', 42, 1, jsonb_build_array(
	jsonb_build_object('start_lsn', pg_temp.lsn(3), 'xid', '30', 'gid', 'never ended'),
	jsonb_build_object('start_lsn', pg_temp.lsn(4), 'xid', '40', 'gid', 'ended on 2'),
	jsonb_build_object('start_lsn', pg_temp.lsn(4.1), 'xid', '41', 'gid', 'ended on 1 before'),
	jsonb_build_object('start_lsn', pg_temp.lsn(4.2), 'xid', '42', 'gid', 'ended on 1 behind')), NULL);
SELECT walarchive.store_prepared('made-up', 42, 1, NULL, jsonb_build_array(
	jsonb_build_object('start_lsn', pg_temp.lsn(7), 'xid', '41'), jsonb_build_object('start_lsn', pg_temp.lsn(9), 'xid', '42')));
SELECT walarchive.store_prepared('made-up', 42, 2, NULL, jsonb_build_array(jsonb_build_object('start_lsn', pg_temp.lsn(12), 'xid', '40')));
-- in one segment: not kept
SELECT walarchive.store_prepared('made-up', 42, 2, jsonb_build_array(jsonb_build_object('start_lsn', pg_temp.lsn(14.1), 'xid', '50', 'gid', 'short')), NULL);
SELECT walarchive.store_prepared('made-up', 42, 2, NULL, jsonb_build_array(jsonb_build_object('start_lsn', pg_temp.lsn(14.2), 'xid', '50')));
SELECT timeline, xid, gid, pg_temp.mb(finished_lsn) AS finished FROM walarchive.prepared_xact ORDER BY start_lsn;
INSERT INTO walarchive.parameter_change VALUES
	('made-up', 42, 1, pg_temp.lsn(1), 50, 8, 10, 0, 64, 'replica', false, false),
	('made-up', 42, 1, pg_temp.lsn(3), 200, 8, 10, 0, 64, 'replica', false, false),
	('made-up', 42, 2, pg_temp.lsn(11), 100, 9, 10, 20, 64, 'replica', false, false),
	('made-up', 42, 2, pg_temp.lsn(18), 300, 9, 10, 20, 64, 'replica', false, false);
SELECT prepared, settings, hint FROM walarchive.plan_restore('made-up', target_timeline => 2, target_lsn => pg_temp.lsn(13.3));
SELECT prepared, settings FROM walarchive.plan_restore('made-up', target_timeline => 2, target_lsn => pg_temp.lsn(11.3));
SELECT prepared, settings FROM walarchive.plan_restore('made-up', target_timeline => 1, target_lsn => pg_temp.lsn(8.2));
SELECT prepared FROM walarchive.plan_restore('made-up', target_timeline => 1, target_lsn => pg_temp.lsn(10.2));
SELECT settings FROM walarchive.plan_restore('made-up', target_timeline => 2, target_time => '2026-01-01 01:11:12.5+01', backup => 'c');
SELECT settings FROM walarchive.plan_restore('made-up', target_timeline => 2, target_xid => '112', inclusive => false, backup => 'c');
SELECT settings FROM walarchive.plan_restore('made-up', target_timeline => 2, target_immediate => true, backup => 'c');
UPDATE walarchive.restore_point SET name = E'it''s \\ odd\n' WHERE name = 'release';
SELECT settings FROM walarchive.plan_restore('made-up', target_timeline => 2, target_name => E'it''s \\ odd\n');

-- ---- for people ----
SELECT regexp_replace(walarchive.plan_report('made-up', target_timeline => 2, target_time => '2026-01-01 00:11:12Z'), 'plan_files\(\d+\)', 'plan_files(n)') AS report;
SELECT walarchive.plan_report('made-up', target_timeline => 2, target_time => '2026-01-01 00:20:18Z') AS report;
SELECT walarchive.plan_report('made-up', target_timeline => 9) AS report;

-- ---- plans that are kept, and their holds ----
SELECT plan_id AS plan FROM walarchive.plan_restore('made-up', target_timeline => 3, target_lsn => pg_temp.lsn(13.3), backup => 'b', hold => '1 h') \gset
SELECT source, created_by = current_user AS mine, target, backup, timeline, pg_temp.mb(stop_lsn) AS stop, last_commit_xid, held_until - now() AS held FROM walarchive.restore_plan WHERE plan_id = :plan;
SELECT purpose = format('restore plan %s', :plan) AS purpose, label, until - now() AS until FROM walarchive.hold;
-- what recovery asks for: of the segment of a fork the child's
SELECT kind, label, name, timeline, size, sha256 FROM walarchive.plan_files(:plan) ORDER BY ord;
-- what recovery makes of its own: on the plan's way, from its start to its stop
INSERT INTO walarchive.tablespace_made
SELECT 'made-up', 42, t, pg_temp.lsn(m), 16000 + m, format('/made/%s', t)
FROM generate_series(1, 3) t, generate_series(1, 20) m;
SELECT timeline_path, pg_temp.mb(start_lsn) AS start, pg_temp.mb(stop_lsn) AS stop, hint
FROM walarchive.plan_restore('made-up', target_timeline => 3, target_lsn => pg_temp.lsn(13.3), backup => 'b');
SELECT tablespace, location, pg_temp.mb(start_lsn) FROM walarchive.plan_tablespaces(:plan);
SELECT walarchive.renew_plan(:plan, '2 h') - now() AS held;
SELECT count(*), max(until) - now() AS until FROM walarchive.hold;
SELECT walarchive.renew_plan(:plan, '-1 s');
ROLLBACK TO s;
SELECT plan_id AS plan FROM walarchive.plan_restore('made-up', target_timeline => 2, backup => 'b') \gset
SELECT held_until FROM walarchive.restore_plan WHERE plan_id = :plan;
SELECT walarchive.release_plan(:plan);
SELECT walarchive.renew_plan(:plan, '1 d') - now() AS held;
SELECT walarchive.release_plan(:plan), count(*) FROM walarchive.hold;
SELECT count(*) FROM walarchive.hold;
-- nothing is kept in a transaction that may not write
SAVEPOINT r;
SET transaction_read_only = on;
SELECT feasible, plan_id FROM walarchive.plan_restore('made-up', target_timeline => 2);
SELECT * FROM walarchive.plan_restore('made-up', target_timeline => 2, hold => '1 h');
ROLLBACK TO r;
-- those of yesterday go, unless they are held
UPDATE walarchive.plan SET created_at = now() - '2 days'::interval;
SELECT walarchive.renew_plan(:plan, '1 h') IS NOT NULL;
SELECT feasible FROM walarchive.plan_restore('made-up', target_timeline => 2);
SELECT count(*) FROM walarchive.plan;
UPDATE walarchive.hold SET until = now() - '1 min'::interval;
SELECT feasible FROM walarchive.plan_restore('made-up', target_timeline => 2);
SELECT count(*), bool_and(created_at > now() - '1 hour'::interval) FROM walarchive.plan;

-- ---- who may ----
CREATE ROLE regress_wa_planner;
SET ROLE regress_wa_planner;
SELECT feasible FROM walarchive.plan_restore('made-up', target_timeline => 2);
ROLLBACK TO s;
CREATE ROLE regress_wa_planner;
SELECT walarchive.grant_read('made-up', 'regress_wa_planner');
SET ROLE regress_wa_planner;
SELECT feasible, plan_id IS NOT NULL AS kept FROM walarchive.plan_restore('made-up', target_timeline => 2);
SELECT plan_id AS mine FROM walarchive.plan_restore('made-up', target_timeline => 2) \gset
SELECT (SELECT count(*) > 0 FROM walarchive.plan_files(:mine)) AS files, (SELECT count(*) FROM walarchive.plan_tablespaces(:mine)) AS tablespaces;
RESET ROLE;
SELECT created_by, max(id) AS plan FROM walarchive.plan GROUP BY created_by ORDER BY max(id) DESC LIMIT 1 \gset
SELECT :'created_by';
SELECT walarchive.revoke_read('made-up', 'regress_wa_planner');
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA walarchive TO regress_wa_planner;
SET ROLE regress_wa_planner;
SAVEPOINT r;
SELECT walarchive.renew_plan(:plan, '1 h');
ROLLBACK TO r;
SELECT count(*) FROM walarchive.plan_files(:plan);
ROLLBACK TO s;

-- ---- undo ----
INSERT INTO walarchive.destructive_commit (source, system_identifier, timeline, start_lsn, end_lsn, kind, xid, xact_time, aborted, database, file_count,
	file_tablespace, file_database, file_number, relations, first_lsn, restore_before_lsn, restore_before_time)
VALUES ('made-up', 42, 4, pg_temp.lsn(6.3), pg_temp.lsn(6.4), 'drop', '63', pg_temp.at(6.3), false, 5, 1, '{1663}', '{5}', '{16384}', '{16384}', pg_temp.lsn(6.3), pg_temp.lsn(6.2), NULL);
SELECT feasible, pg_temp.mb(stop_lsn) AS stop, last_commit_xid, hint FROM walarchive.plan_undo('made-up', commit_lsn => pg_temp.lsn(6.3));
SELECT feasible, pg_temp.mb(stop_lsn) AS stop, last_commit_xid, hint FROM walarchive.plan_undo('made-up', commit_lsn => pg_temp.lsn(6.4));
SELECT feasible, pg_temp.mb(stop_lsn) AS stop, last_commit_xid, hint FROM walarchive.plan_undo('made-up', 'base/5/16384');
SAVEPOINT r;
SELECT * FROM walarchive.plan_undo('made-up', 'public.orders');
ROLLBACK TO r;
SELECT * FROM walarchive.plan_undo('made-up', commit_lsn => pg_temp.lsn(6.5));
ROLLBACK TO r;
SELECT * FROM walarchive.plan_undo('made-up');
ROLLBACK;
