-- What goes and what stays: expire() on made-up archives of 1 MB segments.
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
CREATE FUNCTION pg_temp.files(timeline int, first int, last int, finished boolean DEFAULT true, cluster bigint DEFAULT 42) RETURNS bigint
LANGUAGE sql AS $$
	SELECT walarchive.register_files('made-up', cluster, 1048576, array_agg(timeline), array_agg(pg_temp.name(timeline, n)),
		array_agg(pg_temp.lsn(n)), array_agg(1048576::bigint), array_agg(finished))
	FROM generate_series(first, last) n
$$;
CREATE FUNCTION pg_temp.fork(timeline int, parent int, mb numeric) RETURNS bigint LANGUAGE sql AS $$
	SELECT walarchive.register_timelines('made-up', 42, ARRAY[timeline], ARRAY[parent], ARRAY[pg_temp.lsn(mb)])
$$;
CREATE FUNCTION pg_temp.backup(label text, timeline int, mb numeric, parent text DEFAULT NULL, state text DEFAULT 'usable', cluster bigint DEFAULT 42)
RETURNS void LANGUAGE sql AS $$
	INSERT INTO walarchive.backup (source, system_identifier, label, kind, parent, state, timeline, start_lsn, stop_timeline, stop_lsn, size)
	VALUES ('made-up', cluster, label, CASE WHEN parent IS NULL THEN 'full' ELSE 'incremental' END, parent, state,
			timeline, pg_temp.lsn(mb), timeline, pg_temp.lsn(mb + 0.25), 1000)
$$;
CREATE FUNCTION pg_temp.expire(keep int, dry_run boolean DEFAULT true, other_clusters boolean DEFAULT false,
	OUT cluster bigint, OUT action text, OUT what text, OUT "from" numeric, OUT "to" numeric, OUT files bigint, OUT bytes bigint, OUT reason text)
RETURNS SETOF record LANGUAGE sql AS $$
	SELECT e.system_identifier, e.action, CASE e.kind WHEN 'backup' THEN e.label ELSE right(e.first_file, 3) || '-' || right(e.last_file, 3) || ' of ' || e.timeline END,
		   pg_temp.mb(e.from_lsn), pg_temp.mb(e.to_lsn), e.files, e.bytes, e.reason
	FROM walarchive.expire('made-up', keep, expire.dry_run, expire.other_clusters) e
$$;

-- ---- refused ----
SAVEPOINT s;
SELECT * FROM walarchive.expire('made-up', 0);
ROLLBACK TO s;
SELECT * FROM walarchive.expire('made-up', NULL);
ROLLBACK TO s;
SELECT * FROM walarchive.expire('nobody', 1);
ROLLBACK TO s;
SELECT * FROM walarchive.expire('nobody', 1, dry_run => false);
ROLLBACK TO s;

-- ---- one timeline ----
SELECT pg_temp.files(1, 1, 99), pg_temp.files(1, 100, 100, false);
-- without a usable backup everything stays
SELECT * FROM pg_temp.expire(1);
SELECT pg_temp.backup('w', 1, 90.5, state => 'waiting'), pg_temp.backup('x', 1, 30.5, state => 'broken');
SELECT * FROM pg_temp.expire(1);
SELECT pg_temp.backup('f1', 1, 10.5), pg_temp.backup('f2', 1, 40.5), pg_temp.backup('f3', 1, 70.5),
	pg_temp.backup('i1', 1, 12.5, 'f1'), pg_temp.backup('i2', 1, 14.5, 'i1'), pg_temp.backup('i3', 1, 16.5, 'f1'),
	pg_temp.backup('j1', 1, 50.5, 'f2'), pg_temp.backup('orphan', 1, 20.5, 'gone');
SELECT * FROM pg_temp.expire(1);
SELECT * FROM pg_temp.expire(2);
-- fewer than asked for: no backup goes, and WAL before the first of them
SELECT * FROM pg_temp.expire(9);
-- a pin, a hold or a wait in a chain keeps all of it
UPDATE walarchive.backup SET pinned_until = 'infinity', pin_note = 'before the merger' WHERE label = 'i2';
SELECT * FROM pg_temp.expire(1) WHERE "from" < 40;
UPDATE walarchive.backup SET pinned_until = '2099-01-01' WHERE label = 'i2';
SELECT * FROM pg_temp.expire(1) WHERE what IN ('f1', 'i2', 'i3');
UPDATE walarchive.backup SET pinned_until = '2000-01-01' WHERE label = 'i2';
UPDATE walarchive.backup SET state = 'waiting' WHERE label = 'i3';
SELECT * FROM pg_temp.expire(1) WHERE what IN ('f1', 'i2', 'i3');
UPDATE walarchive.backup SET state = 'usable' WHERE label = 'i3';
SELECT walarchive.place_hold('made-up', 42, 'a restore', p_label => 'f1') > 0 AS held;
SELECT * FROM pg_temp.expire(1) WHERE what IN ('f1', 'i2', 'i3') OR what LIKE '% of 1';
UPDATE walarchive.hold SET until = now() - interval '1 s';
SELECT * FROM pg_temp.expire(1) WHERE what IN ('f1', 'i2', 'i3') OR what LIKE '% of 1';
-- WAL alone; everything
SELECT walarchive.place_hold('made-up', 42, 'a restore', p_timeline => 1, p_from_lsn => pg_temp.lsn(60.5)) > 0 AS held;
SELECT * FROM pg_temp.expire(1) WHERE what LIKE '% of 1';
DELETE FROM walarchive.hold;
SELECT walarchive.place_hold('made-up', 42, 'moving house') > 0 AS held;
SELECT * FROM pg_temp.expire(1) WHERE what IN ('f1', 'f2') OR what LIKE '% of 1';
SELECT walarchive.release_hold(max(id)), walarchive.release_hold(-1) FROM walarchive.hold;
-- nothing can be held that is not there
SAVEPOINT s;
SELECT walarchive.place_hold('made-up', 42, 'a restore', p_label => 'gone');
ROLLBACK TO s;
-- what is damaged is not usable
UPDATE walarchive.backup SET damage = 'base.tar is missing' WHERE label = 'f3';
SELECT * FROM pg_temp.expire(1) WHERE what IN ('f2', 'f3', 'x') OR what LIKE '% of 1';
UPDATE walarchive.backup SET damage = NULL WHERE label = 'f3';
-- where it is not known what a backup needs
SAVEPOINT s;
UPDATE walarchive.backup SET start_lsn = NULL WHERE label = 'x';
SELECT * FROM pg_temp.expire(1) WHERE what = 'x' OR what LIKE '% of 1';
ROLLBACK TO s;
-- parents in a circle
UPDATE walarchive.backup SET parent = 'i2' WHERE label = 'i1';
SELECT * FROM pg_temp.expire(1) WHERE "from" < 20;
ROLLBACK TO s;

-- ---- it is done ----
SELECT count(*) FROM walarchive.removal_order;
SELECT action, what, reason FROM pg_temp.expire(1, dry_run => false) WHERE action = 'remove';
SELECT label, state, reason FROM walarchive.backup WHERE state = 'deleting' ORDER BY label;
SELECT timeline, pg_temp.mb(to_lsn), journaled_lsn FROM walarchive.removal_order;
-- again: the same
SELECT action, what, reason FROM pg_temp.expire(1, dry_run => false) WHERE action = 'remove';
-- WAL waits for the backups
SELECT * FROM walarchive.next_removal('made-up');
DELETE FROM walarchive.backup WHERE label IN ('f1', 'i1', 'i2', 'i3');
SELECT what, timeline, pg_temp.mb(from_lsn), pg_temp.mb(to_lsn), files FROM walarchive.next_removal('made-up');
DELETE FROM walarchive.backup WHERE state = 'deleting';
SELECT what, timeline, pg_temp.mb(from_lsn), pg_temp.mb(to_lsn), files FROM walarchive.next_removal('made-up');
-- nothing goes before the journal says it
SELECT * FROM walarchive.take_removal('made-up', 42, 1, 10);
-- what is needed since then is taken out of the order
SAVEPOINT s;
INSERT INTO walarchive.hold (source, system_identifier, purpose, timeline, from_lsn) VALUES ('made-up', 42, 'a restore', 1, pg_temp.lsn(5.5));
SELECT what, timeline, pg_temp.mb(from_lsn), pg_temp.mb(to_lsn), files FROM walarchive.next_removal('made-up');
SELECT timeline, pg_temp.mb(to_lsn) FROM walarchive.removal_order;
ROLLBACK TO s;
SELECT walarchive.place_hold('made-up', 42, 'too late', p_timeline => 1, p_from_lsn => pg_temp.lsn(60));
ROLLBACK TO s;
-- the journal's line: what was missing is not wanted any more
INSERT INTO walarchive.gap (source, system_identifier, timeline, from_lsn, to_lsn, cause, detected_at)
VALUES ('made-up', 42, 1, '0/80000', '0/100000', 'wal_removed', now()), ('made-up', 42, 1, pg_temp.lsn(80), pg_temp.lsn(81), 'wal_removed', now());
INSERT INTO walarchive.restore_point VALUES ('made-up', 42, 1, pg_temp.lsn(3.5), pg_temp.lsn(3.6), 'old', now()),
	('made-up', 42, 1, pg_temp.lsn(75.5), pg_temp.lsn(75.6), 'new', now());
INSERT INTO walarchive.tablespace_made VALUES ('made-up', 42, 1, pg_temp.lsn(3.5), 16390, '/old'), ('made-up', 42, 1, pg_temp.lsn(75.5), 16391, '/new');
SELECT walarchive.note_removed_wal('made-up', 42, 1, pg_temp.lsn(70), now());
SELECT walarchive.note_removal_journaled('made-up', 42, 1, pg_temp.lsn(70));
SELECT pg_temp.mb(from_lsn), closed_at IS NOT NULL AS closed FROM walarchive.gap ORDER BY 1;
SELECT what, timeline, pg_temp.mb(from_lsn), pg_temp.mb(to_lsn), files FROM walarchive.next_removal('made-up');
SELECT * FROM walarchive.take_removal('made-up', 42, 1, 3);
SELECT pg_temp.mb(first_lsn) AS first, pg_temp.mb(last_lsn) AS last, segments, bytes / 1048576 AS mb FROM walarchive.timeline;
SELECT what, timeline, pg_temp.mb(from_lsn), pg_temp.mb(to_lsn), files FROM walarchive.next_removal('made-up');
-- a hole in the middle of it is no gap, one behind it is
DELETE FROM walarchive.segment WHERE start_lsn IN (pg_temp.lsn(20), pg_temp.lsn(95));
SELECT walarchive.find_gaps('made-up', 42);
SELECT pg_temp.mb(from_lsn), cause FROM walarchive.gap WHERE cause = 'missing_file';
SELECT count(*), min(take_removal), max(take_removal) FROM walarchive.take_removal('made-up', 42, 1, 1000);
SELECT pg_temp.mb(first_lsn) AS first, pg_temp.mb(last_lsn) AS last, segments FROM walarchive.timeline;
SELECT name FROM walarchive.restore_point;
SELECT location FROM walarchive.tablespace_made;
SELECT what FROM walarchive.next_removal('made-up');
SELECT walarchive.finish_removal('made-up', 42), (SELECT count(*) FROM walarchive.removal_order);
SELECT * FROM walarchive.next_removal('made-up');
SELECT timeline, pg_temp.mb(to_lsn) FROM walarchive.removed_wal;
-- checksums of what is gone
INSERT INTO walarchive.sum_progress VALUES ('made-up', 42, 0);
SELECT walarchive.store_sums('made-up', 42, ARRAY[pg_temp.name(1, 5), pg_temp.name(1, 71)], ARRAY[1, 1],
	ARRAY[pg_temp.lsn(5), pg_temp.lsn(71)], ARRAY['\x01'::bytea, '\x02'], 200);
SELECT walarchive.finish_dropping_sums('made-up', 42, ARRAY[pg_temp.name(1, 0)], ARRAY[pg_temp.name(1, 70)], 100);
INSERT INTO walarchive.file_sum VALUES ('made-up', 42, pg_temp.name(1, 69), '\x03'), ('made-up', 42, pg_temp.name(1, 70), '\x04'),
	('made-up', 42, pg_temp.name(2, 5), '\x05'), ('made-up', 42, '00000001.history', '\x06');
SELECT walarchive.finish_dropping_sums('made-up', 42, ARRAY[pg_temp.name(1, 0)], ARRAY[pg_temp.name(1, 70)], NULL);
SELECT name FROM walarchive.file_sum ORDER BY name;
SELECT file_offset FROM walarchive.sum_progress;

-- ---- forks of forks ----
DELETE FROM walarchive.segment;
DELETE FROM walarchive.timeline;
DELETE FROM walarchive.backup;
DELETE FROM walarchive.removed_wal;
-- 1 was left at 50.5 for 2, 2 at 80.5 for 4; 3 left 1 at 30.5 and leads nowhere; each has a tail
SELECT pg_temp.files(1, 1, 54), pg_temp.files(1, 55, 55, false), pg_temp.files(3, 30, 33), pg_temp.files(3, 34, 34, false),
	pg_temp.files(2, 50, 82), pg_temp.files(2, 83, 83, false), pg_temp.files(4, 80, 99), pg_temp.files(4, 100, 100, false);
SELECT pg_temp.fork(2, 1, 50.5), pg_temp.fork(3, 1, 30.5), pg_temp.fork(4, 2, 80.5);
SELECT pg_temp.backup('a', 1, 10.5), pg_temp.backup('b', 1, 40.5), pg_temp.backup('c', 2, 60.5), pg_temp.backup('d', 4, 90.5);
-- a parent's WAL that a kept child's path needs stays
SELECT * FROM pg_temp.expire(2);
SELECT * FROM pg_temp.expire(3);
SELECT * FROM pg_temp.expire(4) WHERE action = 'remove';
-- with the last one alone the old timelines go, their partial segments too, but for what is not older
SELECT * FROM pg_temp.expire(1);
-- one that was taken on a tail is none that counts, however new it looks, nor is it a reason to keep less
SELECT pg_temp.backup('tail', 2, 81.5), pg_temp.backup('tail3', 3, 32.5);
SELECT * FROM pg_temp.expire(1) WHERE what IN ('c', 'd', 'tail', 'tail3');
SELECT * FROM pg_temp.expire(2) WHERE what IN ('b', 'c', 'd', 'tail', 'tail3');
SELECT * FROM pg_temp.expire(2) WHERE what LIKE '% of %';
-- a pinned one on a timeline that leads nowhere keeps that timeline, and no other
UPDATE walarchive.backup SET pinned_until = 'infinity' WHERE label = 'tail3';
SELECT * FROM pg_temp.expire(2) WHERE what LIKE '% of %';
UPDATE walarchive.backup SET pinned_until = NULL;
DELETE FROM walarchive.backup WHERE label LIKE 'tail%';
-- where it is not known what a timeline came from, nothing that it may lead to goes
SAVEPOINT s;
UPDATE walarchive.timeline SET parent_timeline = NULL, fork_lsn = NULL WHERE timeline = 2;
SELECT * FROM pg_temp.expire(2);
ROLLBACK TO s;
UPDATE walarchive.timeline SET parent_timeline = NULL, fork_lsn = NULL WHERE timeline = 4;
SELECT * FROM pg_temp.expire(1);
ROLLBACK TO s;
-- a promoted server whose WAL has not come yet: backups behind its fork do not count
SELECT pg_temp.fork(5, 4, 85.5);
SELECT * FROM pg_temp.expire(1) WHERE what NOT LIKE '% of %';
ROLLBACK TO s;
-- gone from all timelines, there is no gap between what is left
SELECT count(*) FROM pg_temp.expire(1, dry_run => false);
DELETE FROM walarchive.backup WHERE state = 'deleting';
SELECT timeline, pg_temp.mb(to_lsn) FROM walarchive.removal_order ORDER BY timeline;
DO $$
DECLARE
	r record;
BEGIN
	LOOP
		SELECT * INTO r FROM walarchive.next_removal('made-up');
		EXIT WHEN r.what = 'sums';
		PERFORM walarchive.note_removed_wal('made-up', 42, r.timeline, r.to_lsn, now());
		PERFORM walarchive.note_removal_journaled('made-up', 42, r.timeline, r.to_lsn);
		PERFORM walarchive.take_removal('made-up', 42, r.timeline, 7);
	END LOOP;
END
$$;
SELECT walarchive.finish_removal('made-up', 42), walarchive.find_gaps('made-up', 42);
SELECT timeline, min(pg_temp.mb(start_lsn)), max(pg_temp.mb(start_lsn)), count(*) FROM walarchive.segment GROUP BY 1 ORDER BY 1;
SELECT timeline, pg_temp.mb(first_lsn), segments, history_file FROM walarchive.timeline ORDER BY 1;
ROLLBACK TO s;
-- a timeline of which the beginning is gone, while its parent has older WAL
UPDATE walarchive.backup SET pinned_until = 'infinity' WHERE label = 'tail3';
SELECT pg_temp.backup('e', 3, 31.5);
UPDATE walarchive.backup SET pinned_until = 'infinity' WHERE label = 'e';
SELECT count(*) FROM pg_temp.expire(1, dry_run => false);
DELETE FROM walarchive.backup WHERE state = 'deleting';
DO $$
DECLARE
	r record;
BEGIN
	LOOP
		SELECT * INTO r FROM walarchive.next_removal('made-up');
		EXIT WHEN r.what = 'sums';
		PERFORM walarchive.note_removed_wal('made-up', 42, r.timeline, r.to_lsn, now());
		PERFORM walarchive.note_removal_journaled('made-up', 42, r.timeline, r.to_lsn);
		PERFORM walarchive.take_removal('made-up', 42, r.timeline, 7);
	END LOOP;
END
$$;
SELECT walarchive.find_gaps('made-up', 42);
SELECT timeline, min(pg_temp.mb(start_lsn)), max(pg_temp.mb(start_lsn)), count(*) FROM walarchive.segment GROUP BY 1 ORDER BY 1;
ROLLBACK TO s;

-- ---- a former cluster ----
SELECT pg_temp.files(1, 1, 5, true, 41), pg_temp.files(1, 6, 6, false, 41), pg_temp.backup('old', 1, 2.5, cluster => 41);
SELECT * FROM pg_temp.expire(1) WHERE cluster = 41;
SELECT * FROM pg_temp.expire(9, other_clusters => true) WHERE cluster = 41;
SELECT * FROM pg_temp.expire(1, other_clusters => true) WHERE cluster = 41;
UPDATE walarchive.backup SET pinned_until = 'infinity' WHERE label = 'old';
SELECT * FROM pg_temp.expire(1, other_clusters => true) WHERE cluster = 41;

-- nothing of a dropped source stays
SELECT count(*) FROM pg_temp.expire(1, dry_run => false);
SELECT walarchive.place_hold('made-up', 42, 'a restore') > 0 AS held;
UPDATE walarchive.source SET state = 'dropping' WHERE name = 'made-up';
SELECT walarchive.forget_source('made-up', (SELECT revision FROM walarchive.source WHERE name = 'made-up'));
SELECT (SELECT count(*) FROM walarchive.hold) + (SELECT count(*) FROM walarchive.removal_order) + (SELECT count(*) FROM walarchive.removed_wal) AS "left";
ROLLBACK;
