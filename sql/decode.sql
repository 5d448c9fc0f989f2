-- Questions about ranges of archived WAL: what is refused, what has to be read
-- for an answer, and who may ask.  The catalog is made up; no WAL is read.
\set SHOW_CONTEXT never
\set VERBOSITY default
CREATE ROLE regress_wa_reader;
CREATE ROLE regress_wa_member IN ROLE regress_wa_reader;
CREATE ROLE regress_wa_stranger;

-- before there is anything
SELECT * FROM walarchive.commits('x');
SELECT * FROM walarchive.commits(NULL);
SELECT * FROM walarchive.stranded_commits(NULL);
SELECT * FROM walarchive.stranded_commits('x');
SELECT * FROM walarchive.destructive_commits('x');
SELECT * FROM walarchive.wal_stats('x');
SELECT * FROM walarchive.wal_records('x');
SELECT walarchive.grant_read('x', 'regress_wa_reader');
SELECT walarchive.grant_read(NULL, 'regress_wa_reader');
SELECT walarchive.revoke_read('x', 'regress_wa_reader');
SELECT walarchive.check_read(NULL);

BEGIN;
SELECT walarchive.add_source('x', 'host=127.0.0.1 port=1', check_connection => false);
SAVEPOINT s;
SELECT * FROM walarchive.commits('x');
ROLLBACK TO s;
SELECT * FROM walarchive.destructive_commits('x');
ROLLBACK TO s;

-- Timeline 1 was left at 0/3800000 for 2, that at 0/5480000 for 4; 3 began at
-- 0/5200000 of 2 and came to nothing.  Segments of 1 MB; 0/2000000 to 0/2200000
-- of timeline 1 is missing.
UPDATE walarchive.source SET system_identifier = 7 WHERE name = 'x';
INSERT INTO walarchive.timeline (source, system_identifier, timeline, parent_timeline, fork_lsn, first_lsn)
VALUES ('x', 7, 1, NULL, NULL, '0/1000000'), ('x', 7, 2, 1, '0/3800000', '0/3800000'),
	   ('x', 7, 3, 2, '0/5200000', '0/5200000'), ('x', 7, 4, 2, '0/5480000', '0/5400000');
INSERT INTO walarchive.segment (source, system_identifier, timeline, name, start_lsn, end_lsn, state, size, decode_state, commits, aborts, min_commit_time, max_commit_time)
SELECT 'x', 7, t, 'x' || t || '_' || i, '0/0'::pg_lsn + i * 1048576::numeric, '0/0'::pg_lsn + (i + 1) * 1048576::numeric,
	   'finished', 1048576, 'decoded', 1, 0,
	   '2026-01-01 00:00+00'::timestamptz + i * interval '1 hour', '2026-01-01 00:30+00'::timestamptz + i * interval '1 hour'
FROM (SELECT 1 AS t, i FROM generate_series(16, 57) i WHERE i NOT IN (32, 33)
	  UNION ALL SELECT 2, i FROM generate_series(56, 85) i
	  UNION ALL SELECT 3, i FROM generate_series(82, 83) i
	  UNION ALL SELECT 4, i FROM generate_series(84, 90) i) g;
INSERT INTO walarchive.gap (source, system_identifier, timeline, from_lsn, to_lsn, cause, detected_at)
VALUES ('x', 7, 1, '0/2000000', '0/2200000', 'wal_removed', now());
UPDATE walarchive.segment SET decode_state = 'pending' WHERE timeline = 2 AND start_lsn = '0/4000000';
UPDATE walarchive.segment SET decode_state = 'quarantined' WHERE timeline = 2 AND start_lsn = '0/4200000';
UPDATE walarchive.segment SET decode_state = 'decoding', state = 'partial' WHERE timeline = 4 AND start_lsn = '0/5A00000';
UPDATE walarchive.segment SET min_commit_time = NULL, max_commit_time = NULL, commits = 0 WHERE timeline = 4 AND start_lsn = '0/5700000';
SAVEPOINT s;

-- what is refused
SELECT * FROM walarchive.commits('x', from_lsn => '0/2000001', to_lsn => '0/2000000');
ROLLBACK TO s;
SELECT * FROM walarchive.commits('x', from_time => '2026-01-02 00:00+00', to_time => '2026-01-01 00:00+00');
ROLLBACK TO s;
SELECT * FROM walarchive.commits('x', from_lsn => '0/6000000');
ROLLBACK TO s;
SELECT * FROM walarchive.wal_records('x', to_lsn => '0/6000000');
ROLLBACK TO s;
SELECT * FROM walarchive.wal_stats('x', to_lsn => '0/100000');
ROLLBACK TO s;
SELECT * FROM walarchive.wal_stats('x', to_lsn => '0/0');
ROLLBACK TO s;
SELECT * FROM walarchive.destructive_commits('x', from_lsn => '0/5800000', timeline => 3);
ROLLBACK TO s;
SELECT * FROM walarchive.commits('x', timeline => 5);
ROLLBACK TO s;
SELECT * FROM walarchive.commits('x', timeline => 0);
ROLLBACK TO s;

-- what is to be read
PREPARE plan (pg_lsn, pg_lsn, timestamptz, timestamptz, integer, text) AS
SELECT kind, from_lsn, to_lsn FROM walarchive.plan_read('x', $1, $2, $3, $4, $5, $6);
SELECT DISTINCT path, first_lsn, last_lsn, live FROM walarchive.plan_read('x', NULL, NULL, NULL, NULL, NULL, 'all');
SELECT DISTINCT path, first_lsn, last_lsn, live FROM walarchive.plan_read('x', NULL, NULL, NULL, NULL, 3, 'all');
SELECT DISTINCT path, first_lsn, last_lsn, live FROM walarchive.plan_read('x', NULL, NULL, NULL, NULL, 1, 'all');
EXECUTE plan (NULL, NULL, NULL, NULL, NULL, 'all');
EXECUTE plan ('0/2180000', '0/2280000', NULL, NULL, NULL, 'xacts');
EXECUTE plan ('0/100', '0/1000100', NULL, NULL, NULL, 'all');
EXECUTE plan ('0/5B00000', NULL, NULL, NULL, NULL, 'all');
EXECUTE plan (NULL, NULL, NULL, NULL, NULL, 'destructions');
-- times: 0/3000000 (segment 48) is of midnight of 3 January
EXECUTE plan (NULL, NULL, '2026-01-03 00:10+00', '2026-01-03 01:10+00', NULL, 'xacts');
EXECUTE plan (NULL, NULL, '2026-01-03 00:31+00', '2026-01-03 00:59+00', NULL, 'xacts');
EXECUTE plan (NULL, NULL, '2026-01-02 08:45+00', '2026-01-02 08:50+00', NULL, 'xacts');
EXECUTE plan (NULL, NULL, '2026-01-04 14:00+00', NULL, NULL, 'xacts');
EXECUTE plan (NULL, NULL, NULL, '2026-01-01 17:00+00', NULL, 'xacts');
-- around the forks
EXECUTE plan ('0/3780000', '0/3880000', NULL, NULL, NULL, 'all');
EXECUTE plan (NULL, NULL, '2026-01-03 08:00+00', '2026-01-03 08:10+00', NULL, 'xacts');
EXECUTE plan (NULL, NULL, '2026-01-03 08:00+00', '2026-01-03 08:10+00', 1, 'xacts');
EXECUTE plan (NULL, NULL, '2026-01-04 12:10+00', '2026-01-04 13:10+00', NULL, 'xacts');
DELETE FROM walarchive.segment WHERE timeline = 2 AND start_lsn >= '0/5400000';
EXECUTE plan (NULL, NULL, '2026-01-04 12:10+00', '2026-01-04 12:20+00', NULL, 'xacts');
EXECUTE plan (NULL, NULL, '2026-01-04 10:10+00', '2026-01-04 10:20+00', NULL, 'xacts');
SELECT walarchive.next_archived('x', 7, '1:0/0,2:0/3800000,4:0/5480000', '0/2000000'),
	   walarchive.next_archived('x', 7, '1:0/0,2:0/3800000,4:0/5480000', '0/3800000'),
	   walarchive.next_archived('x', 7, '1:0/0,2:0/3800000,4:0/5480000', '0/5400000'),
	   walarchive.next_archived('x', 7, '1:0/0,2:0/3800000,4:0/5480000', '0/6000000');
ROLLBACK TO s;

-- what was left behind
SELECT * FROM walarchive.stranded_ranges('x');

-- names
SELECT walarchive.file_path(15, 1663, 5, 16384), walarchive.file_path(18, 1664, 0, 1262), walarchive.file_path(17, 16400, 5, 16385);
INSERT INTO walarchive.relation_name (source, system_identifier, database, database_name, tablespace, relfilenode, relation, kind, name, table_name, learned_at)
VALUES ('x', 7, 5, 'shop', 1663, 100, 100, 'r', 'public.orders', 'public.orders', '2026-01-01'),
	   ('x', 7, 5, 'shop', 1663, 101, 101, 'i', 'public.orders_pkey', 'public.orders', '2026-01-01'),
	   ('x', 7, 5, 'shop', 1663, 102, 102, 't', 'pg_toast.pg_toast_100', 'public.orders', '2026-01-01'),
	   ('x', 7, 5, 'shop', 1663, 103, 103, 'S', 'public.orders_id_seq', 'public.orders_id_seq', '2026-01-01'),
	   ('x', 7, 5, 'shop', 1663, 104, 104, 'i', 'public.customers_idx', 'public.customers', '2026-01-01');
INSERT INTO walarchive.database_name VALUES ('x', 7, 5, 'shop', '2026-01-01');
SELECT walarchive.file_names('x', 7, '{1663,1663,1663}', '{5,5,5}', '{101,999,100}', '2026-02-01');
SELECT walarchive.destroyed_names('x', 7, '{1663,1663,1663,1663,1663}', '{5,5,5,5,5}', '{102,101,103,100,104}', 5, '{}', '2026-02-01');
SELECT walarchive.destroyed_names('x', 7, '{1663,1663}', '{5,5}', '{101,999}', 5, '{}', '2026-02-01') AS index_and_unknown;
SELECT walarchive.destroyed_names('x', 7, '{1663,1663}', '{5,5}', '{801,800}', 5, '{101,100}', '2026-02-01') AS by_oid;
SELECT walarchive.destroyed_names('x', 7, '{1663}', '{5}', '{800}', 5, '{}', '2026-02-01') AS nothing_known;
SELECT walarchive.database_of('x', 7, 5, '2026-02-01'), walarchive.database_of('x', 7, 6, '2026-02-01');

-- what the index knows is not read again
UPDATE walarchive.segment SET decode_state = 'decoded';
INSERT INTO walarchive.destructive_commit
	(source, system_identifier, timeline, start_lsn, end_lsn, kind, xid, xact_time, aborted, database, file_count,
	 file_tablespace, file_database, file_number, relations, first_lsn, restore_before_lsn, restore_before_time)
SELECT 'x', 7, t, l::pg_lsn, l::pg_lsn + 100::numeric, k, '700', '2026-01-02 12:00+00'::timestamptz + n * interval '1 hour', false, 5, 2,
	   '{1663,1663}', '{5,5}', '{100,101}', '{100,101}', l::pg_lsn, l::pg_lsn - 50::numeric, NULL
FROM (VALUES (1, '0/2600000', 'drop', 1), (1, '0/3880000', 'drop', 2), (2, '0/3870000', 'truncate', 3), (2, '0/3870000', 'rewrite', 3),
			 (3, '0/5280000', 'drop', 4), (4, '0/5490000', 'database', 5)) v (t, l, k, n);
\set VERBOSITY terse
SELECT timeline, start_lsn, kind, relations, database, dropped_files, aborted, restore_before_lsn, restore_before_time
FROM walarchive.destructive_commits('x', from_lsn => '0/2300000');
SELECT timeline, start_lsn, kind FROM walarchive.destructive_commits('x', from_lsn => '0/2300000', timeline => 3);
SELECT timeline, start_lsn, kind FROM walarchive.destructive_commits('x', from_time => '2026-01-02 13:00+00', to_time => '2026-01-02 15:00+00', from_lsn => '0/2300000');
SELECT timeline, start_lsn, kind FROM walarchive.destructive_commits('x', from_lsn => '0/2300000', to_lsn => '0/3870000');
SELECT count(*) FROM walarchive.destructive_commits('x');
\set VERBOSITY default
ROLLBACK TO s;

-- who may
SET LOCAL ROLE regress_wa_reader;
SELECT count(*) FROM walarchive.commits('x');
ROLLBACK TO s;
GRANT USAGE ON SCHEMA walarchive TO regress_wa_stranger;
GRANT EXECUTE ON FUNCTION walarchive.commits, walarchive.destructive_commits, walarchive.stranded_commits, walarchive.wal_stats, walarchive.wal_records, walarchive.check_read TO regress_wa_stranger;
SAVEPOINT s;
SET LOCAL ROLE regress_wa_stranger;
SELECT count(*) FROM walarchive.commits('x');
ROLLBACK TO s;
SET LOCAL ROLE regress_wa_stranger;
SELECT count(*) FROM walarchive.destructive_commits('x');
ROLLBACK TO s;
SET LOCAL ROLE regress_wa_stranger;
SELECT count(*) FROM walarchive.stranded_commits('x');
ROLLBACK TO s;
SET LOCAL ROLE regress_wa_stranger;
SELECT count(*) FROM walarchive.wal_stats('x');
ROLLBACK TO s;
SET LOCAL ROLE regress_wa_stranger;
SELECT count(*) FROM walarchive.wal_records('nothing');
ROLLBACK TO s;
SET LOCAL ROLE regress_wa_stranger;
SELECT walarchive.check_read('x');
ROLLBACK TO s;
UPDATE walarchive.segment SET decode_state = 'decoded';
SELECT walarchive.grant_read('x', 'regress_wa_reader');
SELECT walarchive.grant_read('x', 'regress_wa_reader');
SELECT source, grantee FROM walarchive.read_grant;
SAVEPOINT s;
SET LOCAL ROLE regress_wa_member;
SELECT count(*) FROM walarchive.destructive_commits('x', from_lsn => '0/2300000');
SELECT current_user, current_setting('search_path');
SAVEPOINT t;
SELECT * FROM walarchive.read_grant;
ROLLBACK TO t;
SELECT count(*) FROM walarchive.commits('y');
ROLLBACK TO t;
-- after an error the rights are the caller's again
SELECT count(*) FROM walarchive.commits('x', from_lsn => '0/6000000');
ROLLBACK TO t;
SELECT current_user;
SELECT walarchive.grant_read('x', 'regress_wa_member');
ROLLBACK TO s;
SELECT walarchive.revoke_read('x', 'regress_wa_reader');
SELECT has_function_privilege('regress_wa_member', p.oid, 'EXECUTE') AS still_may FROM pg_proc p WHERE p.oid = ANY (SELECT walarchive.reading_functions()) AND has_function_privilege('regress_wa_member', p.oid, 'EXECUTE');
-- a new source of the same name has nothing of the old one's
SELECT walarchive.grant_read('x', 'regress_wa_reader');
DELETE FROM walarchive.source WHERE name = 'x';
SELECT count(*) FROM walarchive.read_grant;
ROLLBACK;

DROP ROLE regress_wa_reader, regress_wa_member, regress_wa_stranger;
