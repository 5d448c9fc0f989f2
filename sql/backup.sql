-- Which backups are usable and what can be recovered from them, on made-up
-- archives of 1 MB segments.  Segment n has commits from minute n on, for 30 s;
-- positions are in MB.
\set SHOW_CONTEXT never
SET timezone = 'UTC';

BEGIN;
INSERT INTO walarchive.source (name, conninfo, slot_name, state, system_identifier)
VALUES ('made-up', 'host=127.0.0.1 port=1', 's', 'paused', 42);
SELECT walarchive.lock_source_index('made-up');
CREATE FUNCTION pg_temp.lsn(mb numeric) RETURNS pg_lsn LANGUAGE sql AS $$ SELECT '0/0'::pg_lsn + trunc(mb * 1048576) $$;
CREATE FUNCTION pg_temp.mb(lsn pg_lsn) RETURNS numeric LANGUAGE sql AS $$ SELECT trim_scale(round((lsn - '0/0') / 1048576, 3)) $$;
CREATE FUNCTION pg_temp.at(minutes numeric) RETURNS timestamptz LANGUAGE sql AS $$ SELECT '2026-01-01 00:00:00Z'::timestamptz + minutes * '1 min'::interval $$;
CREATE FUNCTION pg_temp.minute(t timestamptz) RETURNS text LANGUAGE sql AS $$ SELECT to_char(t, 'HH24:MI:SS.US') $$;
-- decoded segments; the clock of the server may be wrong by some minutes
CREATE FUNCTION pg_temp.wal(tli int, first int, last int, skew numeric DEFAULT 0, state text DEFAULT 'decoded') RETURNS void LANGUAGE sql AS $$
	INSERT INTO walarchive.segment AS s (source, system_identifier, timeline, name, start_lsn, end_lsn, state, size, decode_state, major,
		first_record_lsn, last_record_lsn, records, commits, aborts, first_commit_time, last_commit_time, min_commit_time, max_commit_time)
	SELECT 'made-up', 42, tli, upper(lpad(to_hex(tli), 8, '0') || lpad(to_hex(n), 16, '0')), pg_temp.lsn(n), pg_temp.lsn(n + 1), 'finished', 1048576, wal.state, 15,
		pg_temp.lsn(n + 0.01), pg_temp.lsn(n + 0.99), 100, 10, 0, pg_temp.at(n + skew), pg_temp.at(n + 0.5 + skew), pg_temp.at(n + skew), pg_temp.at(n + 0.5 + skew)
	FROM generate_series(first, last) n
	ON CONFLICT (source, system_identifier, timeline, start_lsn) DO UPDATE SET decode_state = excluded.decode_state, damage = NULL;
	INSERT INTO walarchive.timeline (source, system_identifier, timeline) VALUES ('made-up', 42, tli) ON CONFLICT DO NOTHING;
$$;
CREATE FUNCTION pg_temp.cursor(tli int, at numeric) RETURNS void LANGUAGE sql AS $$
	INSERT INTO walarchive.decode_progress (source, system_identifier, timeline, next_lsn, need_lsn, resync, exhausted)
	VALUES ('made-up', 42, tli, pg_temp.lsn(at), pg_temp.lsn(at), false, false)
	ON CONFLICT (source, system_identifier, timeline) DO UPDATE SET next_lsn = excluded.next_lsn
$$;
CREATE FUNCTION pg_temp.fork(child int, parent int, at numeric) RETURNS bigint LANGUAGE sql AS $$
	SELECT walarchive.register_timelines('made-up', 42, ARRAY[child], ARRAY[parent], ARRAY[pg_temp.lsn(at)])
$$;
-- as if its folder had been found
CREATE TABLE pg_temp.folder (label text PRIMARY KEY, info jsonb);
CREATE FUNCTION pg_temp.backup(label text, start numeric, stop numeric, tli int DEFAULT 1, parent text DEFAULT NULL, consistent numeric DEFAULT NULL, stop_tli int DEFAULT NULL)
RETURNS void LANGUAGE sql AS $$
	INSERT INTO pg_temp.folder VALUES (label, jsonb_build_object('label', label, 'kind', CASE WHEN parent IS NULL THEN 'full' ELSE 'incremental' END,
		'parent', parent, 'timeline', tli, 'start_lsn', pg_temp.lsn(start), 'stop_timeline', coalesce(stop_tli, tli), 'stop_lsn', pg_temp.lsn(stop),
		'consistent_lsn', pg_temp.lsn(coalesce(consistent, stop)), 'started_at', pg_temp.at(start), 'finished_at', pg_temp.at(stop),
		'manifest_sha256', repeat('0', 64), 'size', 1000))
$$;
CREATE FUNCTION pg_temp.register(OUT changed bigint, OUT gone text[]) LANGUAGE sql AS $$
	SELECT r.* FROM walarchive.register_backups('made-up', 42, (SELECT coalesce(jsonb_agg(f.info), '[]') FROM pg_temp.folder f)) r
$$;
-- what the indexer does; commits of a backup's first and last segment are made up
CREATE FUNCTION pg_temp.refresh() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	PERFORM walarchive.windows_changed('made-up', true);
	PERFORM walarchive.refresh_runs('made-up');
	LOOP
		SELECT * INTO r FROM walarchive.next_backup_read('made-up', '{}');
		EXIT WHEN NOT FOUND;
		PERFORM walarchive.store_backup_edge('made-up', r.system_identifier, r.label, CASE WHEN r.edge THEN r.to_lsn[cardinality(r.to_lsn)] END,
			pg_temp.at(pg_temp.mb(r.to_lsn[cardinality(r.to_lsn)]) - 0.5), pg_temp.at(pg_temp.mb(r.consistent_lsn) - 0.1),
			r.consistent_lsn + 100, pg_temp.at(pg_temp.mb(r.consistent_lsn) + 0.1));
	END LOOP;
	PERFORM walarchive.refresh_windows('made-up');
END
$$;
CREATE VIEW pg_temp.runs AS
	SELECT timeline AS tli, pg_temp.mb(from_lsn) AS "from", pg_temp.mb(to_lsn) AS "to", ended_by, pg_temp.minute(grown_time) AS grown
	FROM walarchive.wal_run ORDER BY timeline, from_lsn;
CREATE VIEW pg_temp.backups AS
	SELECT label, state, reason FROM walarchive.backup WHERE source = 'made-up' ORDER BY label;
CREATE VIEW pg_temp.windows AS
	SELECT backup, timeline AS tli, pg_temp.mb(first_lsn) AS first, pg_temp.mb(last_lsn) AS last,
		   pg_temp.minute(earliest_target_time) AS earliest, pg_temp.minute(latest_target_time) AS latest, ended_by
	FROM walarchive.recovery_window WHERE source = 'made-up' ORDER BY backup, timeline;
CREATE FUNCTION pg_temp.refused(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	EXECUTE query;
	RETURN 'not refused';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLERRM, nullif(detail, ''), nullif(hint, ''));
END
$$;

-- ---- one timeline ----
SELECT pg_temp.wal(1, 1, 19), pg_temp.wal(1, 20, 20, state => 'decoding'), pg_temp.cursor(1, 20.5);
SELECT pg_temp.backup('a', 2.25, 3.5), pg_temp.backup('b', 10.25, 10.75), pg_temp.backup('c', 20.25, 20.75);
SELECT * FROM pg_temp.register();
SELECT * FROM pg_temp.register();
SELECT pg_temp.refresh();
TABLE pg_temp.runs;
TABLE pg_temp.backups;
TABLE pg_temp.windows;
-- what is read of each: the ends, and what lies between is known by its segments
SELECT n.label, pg_temp.mb(n.from_lsn[1]) AS f1, pg_temp.mb(n.to_lsn[1]) AS t1, pg_temp.mb(n.from_lsn[2]) AS f2, pg_temp.mb(n.to_lsn[2]) AS t2, n.edge, n.path
FROM walarchive.next_backup_read('made-up', '{}') n;
SAVEPOINT s;
UPDATE walarchive.backup SET edge_lsn = NULL, stop_lsn = pg_temp.lsn(9.25), consistent_lsn = pg_temp.lsn(9.25) WHERE label = 'a';
SELECT n.label, pg_temp.mb(n.from_lsn[1]) AS f1, pg_temp.mb(n.to_lsn[1]) AS t1, pg_temp.mb(n.from_lsn[2]) AS f2, pg_temp.mb(n.to_lsn[2]) AS t2,
	pg_temp.minute(n.middle_time) AS middle, n.edge
FROM walarchive.next_backup_read('made-up', '{}') n;
-- while the times are not known none is shown
SELECT * FROM pg_temp.windows WHERE backup = 'a';
ROLLBACK TO s;

-- decoding goes on: the window grows with it, and what waited is to be looked at
SELECT walarchive.store_decoded('made-up', 42, 1, false, pg_temp.lsn(20.5), pg_temp.lsn(20.7), pg_temp.lsn(20.7), false, false, NULL, NULL, NULL, NULL,
	jsonb_build_object('contiguous', true, 'segments', jsonb_build_array(jsonb_build_object('start_lsn', pg_temp.lsn(20), 'end_lsn', pg_temp.lsn(21),
		'name', 'x', 'major', 15, 'complete', false, 'records', 1, 'commits', 1, 'aborts', 0, 'max_time', pg_temp.at(20.9)))));
SELECT runs_stale, windows_stale FROM walarchive.index_progress WHERE source = 'made-up';
TABLE pg_temp.runs;
TABLE pg_temp.windows;
SELECT walarchive.store_decoded('made-up', 42, 1, false, pg_temp.lsn(20.7), pg_temp.lsn(20.8), pg_temp.lsn(20.8), false, false, NULL, NULL, NULL, NULL, '{"contiguous": true}');
SELECT runs_stale, windows_stale FROM walarchive.index_progress WHERE source = 'made-up';
SELECT pg_temp.refresh();
TABLE pg_temp.backups;
TABLE pg_temp.windows;
-- a time before all others at the end is none that counts; a piece that does not go on is derived anew
SELECT walarchive.store_decoded('made-up', 42, 1, false, pg_temp.lsn(20.8), pg_temp.lsn(20.9), pg_temp.lsn(20.9), false, false, NULL, NULL, NULL, NULL, '{}');
SELECT runs_stale, windows_stale FROM walarchive.index_progress WHERE source = 'made-up';
SELECT pg_temp.refresh();

-- ---- holes ----
-- in front of a backup, in it, behind it
SAVEPOINT s;
DELETE FROM walarchive.segment WHERE start_lsn = pg_temp.lsn(7);
SELECT walarchive.find_gaps('made-up', 42);
SELECT pg_temp.backup('in', 6.5, 8.5);
SELECT * FROM pg_temp.register();
SELECT pg_temp.refresh();
TABLE pg_temp.runs;
TABLE pg_temp.backups;
TABLE pg_temp.windows;
SELECT severity, message FROM walarchive.health WHERE source = 'made-up' AND "check" = 'gap';
-- no backup behind it
SAVEPOINT t;
UPDATE walarchive.backup SET state = 'broken' WHERE label IN ('b', 'c');
UPDATE walarchive.index_progress SET full_pass_at = now();
SELECT severity, message FROM walarchive.health WHERE source = 'made-up' AND "check" = 'gap';
ROLLBACK TO t;
-- the file turns up, and is decoded
SELECT pg_temp.wal(1, 7, 7, state => 'pending'), walarchive.find_gaps('made-up', 42);
SELECT pg_temp.refresh();
SELECT * FROM pg_temp.windows WHERE backup = 'a';
SELECT pg_temp.wal(1, 7, 7);
SELECT pg_temp.refresh();
TABLE pg_temp.backups;
SELECT * FROM pg_temp.windows WHERE backup = 'a';
ROLLBACK TO s;
-- damage, a segment on which the decoder dies, an unknown version
SAVEPOINT s;
SELECT walarchive.store_damage('made-up', 42, 'x', 1, pg_temp.lsn(12), NULL, NULL, 'made up');
TABLE pg_temp.runs;
SELECT pg_temp.refresh();
TABLE pg_temp.windows;
UPDATE walarchive.segment SET damage = NULL, decode_state = 'quarantined' WHERE start_lsn = pg_temp.lsn(12);
UPDATE walarchive.segment SET decode_state = 'unknown' WHERE start_lsn = pg_temp.lsn(2);
SELECT pg_temp.refresh();
TABLE pg_temp.runs;
TABLE pg_temp.backups;
TABLE pg_temp.windows;
ROLLBACK TO s;
-- the WAL before a backup's end was removed by hand
SAVEPOINT s;
DELETE FROM walarchive.segment WHERE start_lsn < pg_temp.lsn(10.5);
SELECT pg_temp.refresh();
TABLE pg_temp.backups;
ROLLBACK TO s;

-- ---- forks of forks ----
-- 1 --- 15.5 > 2 --- 22.25 > 3
--       \--- 18.5 (a tail that was left) > 4
DELETE FROM pg_temp.folder WHERE label = 'c';
SELECT * FROM pg_temp.register();
SELECT pg_temp.wal(2, 15, 25), pg_temp.fork(2, 1, 15.5), pg_temp.cursor(2, 26),
	   pg_temp.wal(3, 22, 24), pg_temp.fork(3, 2, 22.25), pg_temp.cursor(3, 25),
	   pg_temp.wal(4, 18, 19), pg_temp.fork(4, 1, 18.5), pg_temp.cursor(4, 20);
SELECT pg_temp.backup('d', 17.25, 17.5, 2), pg_temp.backup('tail', 16.25, 16.5, 1),
	   pg_temp.backup('new', 23.25, 23.5, 3), pg_temp.backup('across', 14.5, 16.5, 1, stop_tli => 2),
	   pg_temp.backup('standby', 14.5, 15.75, 1, consistent => 15.25);
SELECT * FROM pg_temp.register();
SELECT pg_temp.refresh();
TABLE pg_temp.runs;
TABLE pg_temp.backups;
TABLE pg_temp.windows;
SELECT * FROM walarchive.timeline_path('made-up', 42, 3);
-- a timeline whose first segment is missing is not come to
SAVEPOINT s;
DELETE FROM walarchive.segment WHERE timeline = 3 AND start_lsn = pg_temp.lsn(22);
SELECT pg_temp.refresh();
TABLE pg_temp.windows;
ROLLBACK TO s;
-- the new primary's clock is five minutes behind: what the old one did last counts until it has caught up
SAVEPOINT s;
UPDATE walarchive.segment SET max_commit_time = max_commit_time - '5 min'::interval WHERE timeline >= 2;
SELECT pg_temp.refresh();
SELECT * FROM pg_temp.windows WHERE backup IN ('a', 'd');
DELETE FROM walarchive.segment WHERE timeline = 2 AND start_lsn > pg_temp.lsn(17);
SELECT pg_temp.cursor(2, 18);
SELECT pg_temp.refresh();
SELECT * FROM pg_temp.windows WHERE backup IN ('a', 'd') AND tli = 2;
ROLLBACK TO s;
-- where a timeline comes from is not known
SAVEPOINT s;
UPDATE walarchive.timeline SET parent_timeline = NULL, fork_lsn = NULL WHERE timeline = 2;
SELECT pg_temp.refresh();
TABLE pg_temp.backups;
SELECT * FROM pg_temp.windows WHERE backup IN ('a', 'd');
-- nonsense in a history file ends nothing but itself
UPDATE walarchive.timeline SET parent_timeline = 4, fork_lsn = pg_temp.lsn(18.5) WHERE timeline = 3;
UPDATE walarchive.timeline SET parent_timeline = 3, fork_lsn = pg_temp.lsn(18.5) WHERE timeline = 4;
SELECT pg_temp.refresh();
SELECT count(*) FROM pg_temp.windows;
ROLLBACK TO s;

-- ---- chains ----
SELECT pg_temp.backup('i1', 11.25, 11.5, parent => 'b'), pg_temp.backup('i2', 12.25, 12.5, parent => 'i1'), pg_temp.backup('i3', 17.75, 17.9, 2, parent => 'd');
SELECT * FROM pg_temp.register();
SELECT pg_temp.refresh();
SELECT * FROM pg_temp.backups WHERE label IN ('b', 'i1', 'i2', 'i3');
SELECT walarchive.backup_verified('made-up', 42, 'b', 'base.tar: made up');
SELECT * FROM pg_temp.backups WHERE label IN ('b', 'i1', 'i2', 'i3');
SELECT walarchive.backup_verified('made-up', 42, 'b', NULL);
SELECT * FROM pg_temp.backups WHERE label IN ('b', 'i1', 'i2', 'i3');
-- only a parent's files are built on: the WAL that a restore of the parent itself needs is not read
SAVEPOINT s;
UPDATE walarchive.segment SET decode_state = 'damaged', damage = 'made up' WHERE timeline = 1 AND start_lsn = pg_temp.lsn(10);
SELECT pg_temp.refresh();
SELECT * FROM pg_temp.backups WHERE label IN ('b', 'i1', 'i2', 'i3');
ROLLBACK TO s;
-- a folder that is gone, and another backup under the name of one
SAVEPOINT s;
DELETE FROM pg_temp.folder WHERE label = 'i1';
SELECT * FROM pg_temp.register();
SELECT pg_temp.refresh();
SELECT * FROM pg_temp.backups WHERE label IN ('b', 'i1', 'i2', 'i3');
SELECT pg_temp.backup('i1', 14.25, 14.5);
SELECT * FROM pg_temp.register();
SELECT pg_temp.refresh();
SELECT * FROM pg_temp.backups WHERE label IN ('b', 'i1', 'i2', 'i3');
DELETE FROM pg_temp.folder WHERE label = 'i1';
SELECT pg_temp.backup('i1', 11.75, 12.75);
SELECT * FROM pg_temp.register();
SELECT pg_temp.refresh();
SELECT * FROM pg_temp.backups WHERE label IN ('b', 'i1', 'i2', 'i3');
ROLLBACK TO s;
-- backup.json that can't be read
UPDATE pg_temp.folder SET info = '{"label": "i1", "problem": "file is damaged"}' WHERE label = 'i1';
SELECT * FROM pg_temp.register();
SELECT pg_temp.refresh();
SELECT * FROM pg_temp.backups WHERE label IN ('b', 'i1', 'i2', 'i3');
SELECT kind, parent, pg_temp.mb(start_lsn) AS start FROM walarchive.backup WHERE label = 'i1';
UPDATE pg_temp.folder SET info = (SELECT f.info || '{"label": "i1", "kind": "incremental", "parent": "b"}' FROM pg_temp.folder f WHERE f.label = 'b') WHERE label = 'i1';
UPDATE pg_temp.folder SET info = info || jsonb_build_object('start_lsn', pg_temp.lsn(11.25), 'stop_lsn', pg_temp.lsn(11.5), 'consistent_lsn', pg_temp.lsn(11.5)) WHERE label = 'i1';
SELECT * FROM pg_temp.register();
SELECT pg_temp.refresh();
SELECT * FROM pg_temp.backups WHERE label IN ('b', 'i1', 'i2', 'i3');

-- ---- notes ----
SELECT walarchive.pin_backup('made-up', 'b', 'infinity', 'why'), walarchive.pin_backup('made-up', 'a', '2100-01-01 00:00Z'),
	   walarchive.annotate_backup('made-up', 'b', 'what');
SELECT label, pinned_until, pin_note, annotation, notes_revision, notes_written FROM walarchive.backup WHERE label IN ('a', 'b') ORDER BY label;
-- the folder does not have them yet, and does not take them back; then it does
SELECT * FROM pg_temp.register();
SELECT label, what, revision FROM walarchive.backup_chores('made-up');
SELECT walarchive.backup_notes_written('made-up', 42, 'b', 4), walarchive.backup_notes_written('made-up', 42, 'a', 1);
UPDATE pg_temp.folder SET info = info || '{"pinned_until": "infinity", "pin_note": "why", "annotation": "what"}' WHERE label = 'b';
UPDATE pg_temp.folder SET info = info || '{"pinned_until": "2100-01-01 00:00Z"}' WHERE label = 'a';
SELECT * FROM pg_temp.register();
-- a file that lost its pin gets it again, a row that did not know of one as well
UPDATE pg_temp.folder SET info = info - 'pinned_until' - 'pin_note' WHERE label = 'b';
UPDATE pg_temp.folder SET info = info || '{"pinned_until": "infinity", "pin_note": "who"}' WHERE label = 'i1';
UPDATE pg_temp.folder SET info = info || '{"notes_problem": "notes.json is damaged"}' WHERE label = 'i2';
SELECT changed FROM pg_temp.register();
SELECT label, pinned_until, pin_note, annotation FROM walarchive.backup WHERE label IN ('a', 'b', 'i1', 'i2') ORDER BY label;
SELECT label, what, revision FROM walarchive.backup_chores('made-up');
SELECT walarchive.unpin_backup('made-up', 'i2');
SELECT pg_temp.refused($$SELECT walarchive.pin_backup('made-up', 'b', '2000-01-01')$$),
	   pg_temp.refused($$SELECT walarchive.pin_backup('made-up', 'b', note => repeat('x', 1001))$$),
	   pg_temp.refused($$SELECT walarchive.pin_backup('made-up', 'zz')$$),
	   pg_temp.refused($$SELECT walarchive.unpin_backup('nobody', 'b')$$),
	   pg_temp.refused($$SELECT walarchive.annotate_backup('made-up', NULL, 'x')$$) \gx

-- ---- deletion ----
SELECT pg_temp.refused($$SELECT walarchive.delete_backup('made-up', 'b')$$),
	   pg_temp.refused($$SELECT walarchive.delete_backup('made-up', 'a')$$) \gx
INSERT INTO walarchive.hold (source, system_identifier, purpose, label) VALUES ('made-up', 42, 'a restore', 'd');
SELECT walarchive.delete_backup('made-up', 'i3');
SELECT pg_temp.refused($$SELECT walarchive.delete_backup('made-up', 'd')$$),
	   pg_temp.refused($$SELECT walarchive.delete_backup('made-up', 'i3')$$),
	   pg_temp.refused($$SELECT walarchive.pin_backup('made-up', 'i3')$$) \gx
SELECT label, state, replace(reason, session_user, 'me') AS reason FROM pg_temp.backups WHERE label = 'i3';
-- its folder is there still: it stays on its way out
SELECT * FROM pg_temp.register();
SELECT pg_temp.refresh();
SELECT label, state FROM pg_temp.backups WHERE label = 'i3';
SELECT count(*) FROM pg_temp.windows WHERE backup = 'i3';
SELECT label, what FROM walarchive.backup_chores('made-up') WHERE what <> 'notes';
DELETE FROM pg_temp.folder WHERE label = 'i3';
SELECT walarchive.backup_removed('made-up', 42, 'i3'), walarchive.backup_removed('made-up', 42, 'i3') AS again;
SELECT * FROM pg_temp.backups WHERE label = 'i3';
SELECT pg_temp.refused($$SELECT walarchive.drop_source('made-up', delete_files => true)$$);

-- ---- attempts that failed ----
SELECT walarchive.register_journal('made-up', 0, 400, '{0,100,200,300}', ARRAY[pg_temp.at(30), pg_temp.at(31), pg_temp.at(32), pg_temp.at(33)],
	'{backup_started,backup_failed,backup_failed,backup_failed}', '{info,warning,warning,warning}', '{begun,"the disk is full","no connection","not this one"}',
	'{42,42,NULL,42}', '{NULL,1,NULL,NULL}', '{NULL,NULL,NULL,NULL}', ARRAY[NULL, pg_temp.lsn(19), NULL, NULL], ARRAY[NULL, pg_temp.lsn(19), NULL, NULL],
	'{NULL,NULL,NULL,NULL}', '{f1,f1,f2,b}', '{full,full,incremental,full}');
SELECT label, kind, state, reason, pg_temp.mb(start_lsn) AS start, pg_temp.minute(started_at) AS began, pg_temp.minute(finished_at) AS failed
FROM walarchive.backup WHERE label IN ('f1', 'f2', 'b') ORDER BY label;
SELECT pg_temp.refused($$SELECT walarchive.pin_backup('made-up', 'f1')$$);
SELECT walarchive.delete_backup('made-up', 'f1');
SELECT label, what FROM walarchive.backup_chores('made-up') WHERE label = 'f1';
-- the next attempt under the same name succeeds
SELECT pg_temp.backup('f2', 24.25, 24.5, 3);
SELECT changed FROM pg_temp.register();
SELECT pg_temp.refresh();
SELECT * FROM pg_temp.backups WHERE label = 'f2';
-- no more than 20 are kept
SELECT walarchive.register_journal('made-up', 400, 5000, array_agg(400 + 100 * n::bigint), array_agg(pg_temp.at(40 + n)), array_agg('backup_failed'), array_agg('warning'),
	array_agg('no'), array_agg(42::bigint), array_agg(NULL::int), array_agg(NULL::int), array_agg(NULL::pg_lsn), array_agg(NULL::pg_lsn), array_agg(NULL::text),
	array_agg('g' || n), array_agg('full'))
FROM generate_series(1, 30) n;
SELECT count(*), min(finished_at) FROM walarchive.backup WHERE state = 'failed';

-- ---- nothing of a dropped source stays ----
UPDATE walarchive.source SET state = 'dropping' WHERE name = 'made-up';
SELECT walarchive.forget_source('made-up', (SELECT revision FROM walarchive.source WHERE name = 'made-up'));
SELECT (SELECT count(*) FROM walarchive.backup) + (SELECT count(*) FROM walarchive.backup_window) + (SELECT count(*) FROM walarchive.wal_run) AS "left";
ROLLBACK;
