/* walarchive: the SQL surface.  Joined from schema/ by the Makefile. */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION walarchive" to load this file. \quit

-- The catalog lives in one database of the archive host: the one that the
-- indexer connects to.
DO $$
DECLARE
	wanted text := pg_catalog.current_setting('walarchive.database', true);
BEGIN
	IF wanted IS NULL THEN
		RAISE EXCEPTION 'walarchive must be loaded by shared_preload_libraries'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'Add walarchive to shared_preload_libraries and restart the server.';
	END IF;
	IF wanted OPERATOR(pg_catalog.<>) pg_catalog.current_database()::pg_catalog.text THEN
		RAISE EXCEPTION 'extension walarchive can only be created in database "%"', wanted
			USING ERRCODE = 'object_not_in_prerequisite_state',
				DETAIL = 'The catalog of the archive is kept in the database that walarchive.database names.',
				HINT = pg_catalog.format('Create the extension in database "%s", or set walarchive.database to "%s" and restart the server.',
										 wanted, pg_catalog.current_database());
	END IF;
END
$$;

COMMENT ON SCHEMA walarchive IS
'WAL archive of PostgreSQL servers: its sources, what it holds, and how it is doing';
GRANT USAGE ON SCHEMA walarchive TO pg_monitor;
