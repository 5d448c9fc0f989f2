-- The life of a source.  Nothing listens on port 1: its receiver never gets
-- anywhere, and nothing here waits for it.
\set SHOW_CONTEXT never
CREATE EXTENSION walarchive;

-- what was committed has been written to the archive directory
CREATE FUNCTION pg_temp.wait_mirrored() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..600 LOOP
		IF (SELECT catalog_behind = 0 AND catalog_state = 'ok' FROM walarchive.host_state()) THEN
			RETURN 'mirrored';
		END IF;
		PERFORM pg_sleep(0.1);
	END LOOP;
	RETURN 'timeout';
END
$$;
CREATE FUNCTION pg_temp.wait_gone(source text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..600 LOOP
		IF NOT EXISTS (SELECT 1 FROM walarchive.source s WHERE s.name = source)
			AND NOT EXISTS (SELECT 1 FROM walarchive.stat_receiver r WHERE r.source = wait_gone.source) THEN
			RETURN 'gone';
		END IF;
		PERFORM pg_sleep(0.1);
	END LOOP;
	RETURN 'timeout';
END
$$;
CREATE VIEW pg_temp.folder AS
	SELECT f FROM pg_ls_dir(current_setting('walarchive.directory')) f
	WHERE f IN ('alpha', 'beta-2', 'gamma') ORDER BY f;
CREATE VIEW pg_temp.file AS
	SELECT j ->> 'name' AS name, j ->> 'conninfo' AS conninfo, j ->> 'backup_conninfo' AS backup_conninfo, j ->> 'slot_name' AS slot_name,
		   j ->> 'state' AS state, j ->> 'allow_standby' AS allow_standby,
		   j ->> 'stop_at_gap' AS stop_at_gap, j ->> 'heartbeat_interval' AS heartbeat,
		   j ->> 'relation_names_interval' AS names, j ->> 'revision' AS revision
	FROM pg_temp.folder,
		 json(pg_read_file(current_setting('walarchive.directory') || '/' || f || '/source.json')) j;
CREATE VIEW pg_temp.source AS
	SELECT name, slot_name, start_lsn IS NULL AS no_start, allow_standby, on_gap, heartbeat_interval AS heartbeat,
		   relation_names_interval AS names, state, revision
	FROM walarchive.source ORDER BY name;

-- nothing of a transaction that is rolled back
BEGIN;
SELECT walarchive.add_source('gamma', 'host=127.0.0.1 port=1 user=nobody', check_connection => false);
SELECT * FROM pg_temp.source;
ROLLBACK;
SELECT pg_temp.wait_mirrored();
SELECT * FROM pg_temp.source;
SELECT * FROM pg_temp.folder;

-- added
SELECT walarchive.add_source('alpha', 'host=127.0.0.1 port=1 user=nobody', check_connection => false);
SELECT walarchive.add_source('beta-2', 'host=127.0.0.1 port=1 user=nobody', slot_name => 'other_slot',
							 start_lsn => '0/1000000', check_connection => false,
							 allow_standby => true, on_gap => 'stop', heartbeat_interval => '1 min',
							 relation_names_interval => NULL, backup_conninfo => 'host=127.0.0.1 port=1 user=beta');
SELECT * FROM pg_temp.source;
SELECT pg_temp.wait_mirrored();
SELECT * FROM pg_temp.file;
SELECT source FROM walarchive.stat_receiver ORDER BY source;

-- paused, changed, resumed
SELECT walarchive.pause_source('alpha');
SELECT walarchive.pause_source('beta-2');
SELECT walarchive.pause_source('beta-2');
SELECT walarchive.alter_source('alpha', conninfo => 'host=127.0.0.1 port=1 user=somebody', slot_name => 'slot_a',
							   check_connection => false);
SELECT walarchive.alter_source('alpha', backup_conninfo => 'host=127.0.0.1 port=1 user=copier', check_connection => false);
SELECT walarchive.alter_source('beta-2', backup_conninfo => '', check_connection => false);
SELECT walarchive.alter_source('alpha', allow_standby => true, on_gap => 'stop', check_connection => false);
SELECT walarchive.alter_source('alpha', on_gap => 'continue');
-- what the receiver need not know makes no new revision; 0 is off
SELECT walarchive.alter_source('alpha', heartbeat_interval => '2.5 s', relation_names_interval => '1 day');
SELECT walarchive.alter_source('beta-2', heartbeat_interval => '0', relation_names_interval => '10 s');
SELECT * FROM pg_temp.source;
SELECT pg_temp.wait_mirrored();
SELECT * FROM pg_temp.file;

-- backups are scheduled; that makes no new revision either
CREATE VIEW pg_temp.schedule AS
	SELECT source, full_interval AS "full", incremental_interval AS incr, window_start, window_end, jitter, compression,
		   max_rate, scheduled_at <= now() AS past, next_kind, last_full, failures
	FROM walarchive.backup_schedule ORDER BY source;
SELECT walarchive.schedule_backups('alpha', '7 days', incremental_interval => '1 day', window_start => '22:30',
								   window_end => '04:00', jitter => '45 min', compression => 'client-zstd:level=3,workers=2', max_rate => 51200);
SELECT walarchive.schedule_backups('beta-2', '36 hours');
SELECT walarchive.schedule_backups('beta-2', '12 hours', window_start => '24:00', window_end => '12:00:30.7', jitter => '0');
SELECT name, revision FROM walarchive.source ORDER BY name;
SELECT pg_temp.wait_mirrored();
SELECT f, key, value FROM pg_temp.folder,
	json_each_text(json(pg_read_file(current_setting('walarchive.directory') || '/' || f || '/source.json')))
WHERE key LIKE 'backup%' AND key <> 'backup_scheduled_at' ORDER BY f, key COLLATE "C";
DO $$
BEGIN
	FOR i IN 1..600 LOOP
		EXIT WHEN (SELECT count(*) = 2 FROM walarchive.backup_plan());
		PERFORM pg_sleep(0.1);
	END LOOP;
END
$$;
SELECT * FROM pg_temp.schedule;
-- by the time of day
SELECT source, waiting_for IN ('time', 'paused') AS waits FROM walarchive.backup_schedule WHERE source = 'alpha';
SELECT walarchive.unschedule_backups('beta-2');
SELECT walarchive.unschedule_backups('beta-2');
SELECT source FROM pg_temp.schedule;
SELECT walarchive.resume_source('alpha');
SELECT walarchive.resume_source('alpha');
SELECT walarchive.pause_source('alpha');
SELECT * FROM pg_temp.source;

-- dropped, the files kept, and attached again
SELECT walarchive.drop_source('alpha', drop_slot => false);
SELECT pg_temp.wait_gone('alpha');
SELECT * FROM pg_temp.source;
SELECT name, state FROM pg_temp.file;
SELECT walarchive.add_source('alpha', 'host=127.0.0.1 port=1 user=nobody', check_connection => false);
SELECT walarchive.attach_source('alpha', check_connection => false);
-- with its schedule
SELECT source, "full", incr, window_start, window_end, jitter, compression, max_rate, past FROM pg_temp.schedule;
SELECT walarchive.pause_source('alpha');
SELECT pg_temp.wait_mirrored();
SELECT name, conninfo, backup_conninfo, slot_name, on_gap, heartbeat_interval, relation_names_interval, state FROM walarchive.source WHERE name = 'alpha';
SELECT name, state FROM pg_temp.file;

-- dropping the catalog stops no archive: a new one knows it again
DO $$
BEGIN
	FOR i IN 1..600 LOOP
		EXIT WHEN (SELECT indexers = 0 AND catalog_behind = 0 FROM walarchive.host_state());
		PERFORM pg_sleep(0.1);
	END LOOP;
END
$$;
CREATE TABLE pg_temp.old_schedule AS SELECT * FROM pg_temp.schedule;
DROP VIEW pg_temp.schedule, pg_temp.source;
DROP EXTENSION walarchive;
SELECT name, state FROM pg_temp.file;
CREATE EXTENSION walarchive;
SELECT pg_temp.wait_mirrored();
SELECT name, conninfo, backup_conninfo, slot_name, on_gap, heartbeat_interval, relation_names_interval, state FROM walarchive.source ORDER BY name;
SELECT s.source, s.full_interval = o."full" AND s.incremental_interval = o.incr AND s.window_start = o.window_start
	   AND s.window_end = o.window_end AND s.jitter = o.jitter AND s.compression = o.compression AND s.max_rate = o.max_rate AS as_before
FROM walarchive.backup_schedule s LEFT JOIN pg_temp.old_schedule o USING (source);

-- dropped with its files
SELECT walarchive.drop_source('alpha', drop_slot => false, delete_files => true);
SELECT walarchive.drop_source('beta-2', drop_slot => false, delete_files => true);
SELECT pg_temp.wait_gone('alpha');
SELECT pg_temp.wait_gone('beta-2');
SELECT * FROM pg_temp.folder;
SELECT DISTINCT source, kind FROM walarchive.event WHERE kind = 'dropped' ORDER BY source;
