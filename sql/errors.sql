-- What is refused, and what is said about it.
\set SHOW_CONTEXT never

-- names
SELECT walarchive.add_source(NULL, 'host=127.0.0.1 port=1', check_connection => false);
SELECT walarchive.add_source('', 'host=127.0.0.1 port=1', check_connection => false);
SELECT walarchive.add_source('Prod', 'host=127.0.0.1 port=1', check_connection => false);
SELECT walarchive.add_source('../x', 'host=127.0.0.1 port=1', check_connection => false);
SELECT walarchive.add_source('-x', 'host=127.0.0.1 port=1', check_connection => false);
SELECT walarchive.add_source(repeat('x', 53), 'host=127.0.0.1 port=1', check_connection => false);
SELECT walarchive.add_source('x', 'host=127.0.0.1 port=1', slot_name => 'No-Slot', check_connection => false);

-- other arguments
SELECT walarchive.add_source('x', NULL, check_connection => false);
SELECT walarchive.add_source('x', 'host=127.0.0.1 port=1', check_connection => NULL);
SELECT walarchive.add_source('x', 'host=127.0.0.1 port=1', check_connection => false, allow_standby => NULL);
SELECT walarchive.add_source('x', 'host=127.0.0.1 port=1', check_connection => false, on_gap => NULL);
SELECT walarchive.add_source('x', 'host=127.0.0.1 port=1', check_connection => false, on_gap => 'maybe');

SELECT walarchive.add_source('x', 'host=127.0.0.1 port=1', check_connection => false, heartbeat_interval => '0.5 s');
SELECT walarchive.add_source('x', 'host=127.0.0.1 port=1', check_connection => false, heartbeat_interval => '8 days');
SELECT walarchive.add_source('x', 'host=127.0.0.1 port=1', check_connection => false, relation_names_interval => '-1 s');

-- connection strings; how libpq says it differs between versions
\set VERBOSITY sqlstate
SELECT walarchive.add_source('x', 'no such option', check_connection => false);
SELECT walarchive.add_source('x', 'host=127.0.0.1 password=secret', check_connection => false);
SELECT walarchive.add_source('x', 'postgres://somebody:secret@127.0.0.1/', check_connection => false);
SELECT walarchive.add_source('x', 'host=127.0.0.1 port=1 user=nobody');
\set VERBOSITY default

-- sources that are not there
SELECT walarchive.alter_source('x', on_gap => 'stop');
SELECT walarchive.alter_source(NULL, on_gap => 'stop');
SELECT walarchive.pause_source('x');
SELECT walarchive.pause_source(NULL);
SELECT walarchive.resume_source('x');
SELECT walarchive.drop_source('x');
SELECT walarchive.drop_source('x', drop_slot => NULL);
SELECT walarchive.accept_new_cluster('x');
SELECT walarchive.rescan('x');
SELECT walarchive.rescan(NULL);

-- there already, too many, being dropped
BEGIN;
SELECT walarchive.add_source('x', 'host=127.0.0.1 port=1', check_connection => false);
SAVEPOINT s;
SELECT walarchive.add_source('x', 'host=127.0.0.1 port=1', check_connection => false);
ROLLBACK TO s;
SELECT walarchive.alter_source('x', on_gap => 'maybe');
ROLLBACK TO s;
SELECT walarchive.alter_source('x', slot_name => 'No');
ROLLBACK TO s;
SELECT walarchive.alter_source('x', check_connection => NULL);
ROLLBACK TO s;
SELECT walarchive.alter_source('x', relation_names_interval => '9 s');
ROLLBACK TO s;
SELECT walarchive.accept_new_cluster('x');
ROLLBACK TO s;
SELECT walarchive.add_source('x' || i, 'host=127.0.0.1 port=1', check_connection => false) FROM generate_series(1, 4) i;
ROLLBACK TO s;
SELECT walarchive.drop_source('x');
SELECT walarchive.drop_source('x', drop_slot => false, delete_files => true);
SELECT name, state, drop_slot, delete_files, revision FROM walarchive.source;
SAVEPOINT s;
SELECT walarchive.resume_source('x');
ROLLBACK TO s;
SELECT walarchive.add_source('x', 'host=127.0.0.1 port=1', check_connection => false);
ROLLBACK;

-- schedules of backups
BEGIN;
SELECT walarchive.add_source('x', 'host=127.0.0.1 port=1', check_connection => false);
SAVEPOINT s;
SELECT walarchive.schedule_backups('nobody', '1 day');
ROLLBACK TO s;
SELECT walarchive.unschedule_backups('nobody');
ROLLBACK TO s;
SELECT walarchive.schedule_backups('x', NULL);
ROLLBACK TO s;
SELECT walarchive.schedule_backups('x', '9 s');
ROLLBACK TO s;
SELECT walarchive.schedule_backups('x', '367 days');
ROLLBACK TO s;
SELECT walarchive.schedule_backups('x', '1 day', incremental_interval => '-1 day');
ROLLBACK TO s;
SELECT walarchive.schedule_backups('x', '1 day', incremental_interval => '1 day');
ROLLBACK TO s;
SELECT walarchive.schedule_backups('x', '1 day', window_start => '1:00');
ROLLBACK TO s;
SELECT walarchive.schedule_backups('x', '1 day', window_start => '0:00', window_end => '24:00');
ROLLBACK TO s;
SELECT walarchive.schedule_backups('x', '1 day', jitter => '-1 s');
ROLLBACK TO s;
SELECT walarchive.schedule_backups('x', '1 day', compression => 'bzip2');
ROLLBACK TO s;
SELECT walarchive.schedule_backups('x', '1 day', compression => 'zstd:level=3 extra');
ROLLBACK TO s;
SELECT walarchive.schedule_backups('x', '1 day', max_rate => 31);
ROLLBACK TO s;
-- another server for backups
SELECT walarchive.alter_source('x', backup_conninfo => 'host=db2 password=secret');
ROLLBACK TO s;
SELECT walarchive.add_source('y', 'host=127.0.0.1 port=1', check_connection => false, backup_conninfo => 'host db2');
ROLLBACK;

-- folders that cannot be attached
\set VERBOSITY terse
SELECT walarchive.attach_source(NULL);
SELECT walarchive.attach_source('x', check_connection => false);
SELECT regexp_replace(current_setting('walarchive.directory'), '.*/', '') AS directory;
\set VERBOSITY default

-- the extension in another database
CREATE DATABASE regress_wa_other;
\c regress_wa_other
CREATE EXTENSION walarchive;
\c contrib_regression
DROP DATABASE regress_wa_other;
