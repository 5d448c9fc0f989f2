-- Who may read the archived WAL of which source; the table is decode.sql's, whose
-- functions ask it.

CREATE FUNCTION walarchive.reading_functions()
RETURNS SETOF regprocedure
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT p.oid::regprocedure
	FROM pg_catalog.pg_proc p
	WHERE p.pronamespace = 'walarchive'::regnamespace
		AND p.proname IN ('commits', 'destructive_commits', 'stranded_commits', 'wal_stats', 'wal_records', 'verify',
						  'wal_file', 'read_wal', 'read_backup_file', 'stream_wal', 'stream_backup_file', 'source_layout',
						  'plan_restore', 'plan_report', 'plan_undo', 'plan_files', 'plan_tablespaces', 'renew_plan', 'release_plan')
$$;
REVOKE ALL ON FUNCTION walarchive.reading_functions() FROM PUBLIC;
COMMENT ON FUNCTION walarchive.reading_functions() IS
'private: the functions that grant_read() opens';

CREATE FUNCTION walarchive.grant_read(source text, grantee regrole)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	f regprocedure;
BEGIN
	IF grant_read.source IS NULL OR grant_read.grantee IS NULL THEN
		RAISE EXCEPTION 'source and grantee must not be null' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF NOT EXISTS (SELECT 1 FROM walarchive.source s WHERE s.name = grant_read.source AND s.state <> 'dropping') THEN
		RAISE EXCEPTION 'source "%" does not exist', grant_read.source
			USING ERRCODE = 'undefined_object',
				HINT = 'The table walarchive.source lists the sources.';
	END IF;
	IF NOT EXISTS (SELECT 1 FROM pg_catalog.pg_roles r WHERE r.oid = grant_read.grantee) THEN
		RAISE EXCEPTION 'role % does not exist', grant_read.grantee USING ERRCODE = 'undefined_object';
	END IF;
	INSERT INTO walarchive.read_grant (source, grantee) VALUES (grant_read.source, grant_read.grantee)
		ON CONFLICT DO NOTHING;
	EXECUTE pg_catalog.format('GRANT USAGE ON SCHEMA walarchive TO %s', grant_read.grantee);
	FOR f IN SELECT r.f FROM walarchive.reading_functions() r (f) LOOP
		EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %s', f, grant_read.grantee);
	END LOOP;
END
$$;
REVOKE ALL ON FUNCTION walarchive.grant_read(text, regrole) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.grant_read(text, regrole) IS
'let a role, and its members, read all that is archived of one source: by commits(), destructive_commits(), stranded_commits(), wal_stats() and wal_records(), verify(), plan_restore(), and as files, backups included, for restores and standbys';

CREATE FUNCTION walarchive.revoke_read(source text, grantee regrole)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	f regprocedure;
BEGIN
	DELETE FROM walarchive.read_grant g
	WHERE g.source = revoke_read.source AND g.grantee = revoke_read.grantee;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'role % has not been granted to read source "%"', revoke_read.grantee, revoke_read.source
			USING ERRCODE = 'undefined_object',
				HINT = 'The table walarchive.read_grant lists what is granted.';
	END IF;
	-- USAGE of the schema may be wanted for other things
	IF NOT EXISTS (SELECT 1 FROM walarchive.read_grant g WHERE g.grantee = revoke_read.grantee)
		AND EXISTS (SELECT 1 FROM pg_catalog.pg_roles r WHERE r.oid = revoke_read.grantee)
	THEN
		FOR f IN SELECT r.f FROM walarchive.reading_functions() r (f) LOOP
			EXECUTE pg_catalog.format('REVOKE EXECUTE ON FUNCTION %s FROM %s', f, revoke_read.grantee);
		END LOOP;
	END IF;
END
$$;
REVOKE ALL ON FUNCTION walarchive.revoke_read(text, regrole) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.revoke_read(text, regrole) IS
'take back what grant_read() gave';
