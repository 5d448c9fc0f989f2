-- Who may do what.
\set SHOW_CONTEXT never
CREATE ROLE regress_wa_nobody;
CREATE ROLE regress_wa_monitor IN ROLE pg_monitor;
CREATE ROLE regress_wa_operator IN ROLE pg_monitor;

-- PUBLIC may nothing
SELECT p.oid::regprocedure AS public_may_execute
FROM pg_proc p
WHERE p.pronamespace = 'walarchive'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE');
SELECT c.oid::regclass AS public_may_read
FROM pg_class c
WHERE c.relnamespace = 'walarchive'::regnamespace AND c.relkind IN ('r', 'v')
	AND (has_table_privilege('public', c.oid, 'SELECT, INSERT, UPDATE, DELETE') OR has_any_column_privilege('public', c.oid, 'SELECT'));
SELECT has_schema_privilege('public', 'walarchive', 'USAGE') AS public_usage;

-- what pg_monitor may
SELECT p.proname AS monitor_may_execute
FROM pg_proc p
WHERE p.pronamespace = 'walarchive'::regnamespace AND has_function_privilege('pg_monitor', p.oid, 'EXECUTE')
ORDER BY p.proname COLLATE "C";
\pset format unaligned
\pset footer off
SELECT c.relname, has_table_privilege('pg_monitor', c.oid, 'SELECT') AS reads,
	   has_any_column_privilege('pg_monitor', c.oid, 'SELECT') AS reads_columns,
	   has_table_privilege('pg_monitor', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') AS writes
FROM pg_class c
WHERE c.relnamespace = 'walarchive'::regnamespace AND c.relkind IN ('r', 'v')
ORDER BY c.relname COLLATE "C";
\pset format aligned
\pset footer on

SET ROLE regress_wa_nobody;
SELECT * FROM walarchive.status;
SELECT walarchive.pause_source('x');
RESET ROLE;

SET ROLE regress_wa_monitor;
SELECT name, slot_name, state FROM walarchive.source;
SELECT conninfo FROM walarchive.source;
SELECT backup_conninfo FROM walarchive.source;
SELECT * FROM walarchive.source;
SELECT count(*) FROM walarchive.stat_receiver;
SELECT count(*) FROM walarchive.status;
SELECT count(*) > 0 AS some FROM walarchive.health;
SELECT count(*) FROM walarchive.segment;
SELECT count(*) FROM walarchive.timeline;
SELECT count(*) FROM walarchive.gap;
SELECT count(*) >= 0 AS any FROM walarchive.event;
SELECT * FROM walarchive.index_progress;
SELECT walarchive.add_source('x', 'host=127.0.0.1 port=1', check_connection => false);
SELECT walarchive.drop_source('x');
SELECT walarchive.rescan('x');
SELECT walarchive.check_connection('host=127.0.0.1', 'x', false, NULL);
SELECT * FROM walarchive.archived_settings('x');
UPDATE walarchive.source SET state = 'paused';
RESET ROLE;

-- EXECUTE is all that an operator needs
GRANT EXECUTE ON FUNCTION walarchive.add_source, walarchive.pause_source, walarchive.alter_source TO regress_wa_operator;
SET ROLE regress_wa_operator;
BEGIN;
SELECT walarchive.add_source('x', 'host=127.0.0.1 port=1', check_connection => false);
SELECT walarchive.pause_source('x');
SELECT walarchive.alter_source('x', on_gap => 'stop');
SELECT name, state, on_gap FROM walarchive.source;
SELECT conninfo FROM walarchive.source;
ROLLBACK;
SELECT walarchive.drop_source('x');
RESET ROLE;

REVOKE EXECUTE ON FUNCTION walarchive.add_source, walarchive.pause_source, walarchive.alter_source FROM regress_wa_operator;
DROP ROLE regress_wa_nobody, regress_wa_monitor, regress_wa_operator;
