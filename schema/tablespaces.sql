-- Tablespaces that were made, as the WAL tells: replaying such a record makes the
-- tablespace in the primary's own directory, whatever a restore has done with
-- those that came with its backup.  So whoever restores has to know of them
-- before recovery starts.

CREATE TABLE walarchive.tablespace_made (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	timeline integer NOT NULL,
	start_lsn pg_lsn NOT NULL,
	tablespace oid NOT NULL,
	location text NOT NULL,
	PRIMARY KEY (source, system_identifier, timeline, start_lsn)
);
REVOKE ALL ON TABLE walarchive.tablespace_made FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.tablespace_made TO pg_monitor;

COMMENT ON TABLE walarchive.tablespace_made IS 'tablespaces that were made, in the archived WAL; not those without a directory of their own';
COMMENT ON COLUMN walarchive.tablespace_made.source IS 'name of the source';
COMMENT ON COLUMN walarchive.tablespace_made.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.tablespace_made.timeline IS 'timeline that it was made on';
COMMENT ON COLUMN walarchive.tablespace_made.start_lsn IS 'start of its record';
COMMENT ON COLUMN walarchive.tablespace_made.tablespace IS 'oid of the tablespace';
COMMENT ON COLUMN walarchive.tablespace_made.location IS 'its directory on the primary';

-- Those of a stretch of a path, in order.
CREATE FUNCTION walarchive.tablespaces_made(
	p_source text,
	p_system_identifier bigint,
	p_timelines integer[],
	p_begins pg_lsn[],
	p_start pg_lsn,
	p_stop pg_lsn,
	OUT tablespace oid,
	OUT location text,
	OUT start_lsn pg_lsn)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT m.tablespace, m.location, m.start_lsn
	FROM ROWS FROM (pg_catalog.unnest(p_timelines), pg_catalog.unnest(p_begins)) WITH ORDINALITY AS t (timeline, begin_lsn, n)
		JOIN walarchive.tablespace_made m ON m.source = p_source
			AND m.system_identifier = p_system_identifier AND m.timeline = t.timeline
			AND m.start_lsn >= greatest(t.begin_lsn, p_start)
			AND m.start_lsn < least(p_begins[t.n + 1], p_stop)
	ORDER BY m.start_lsn
$$;
REVOKE ALL ON FUNCTION walarchive.tablespaces_made(text, bigint, integer[], pg_lsn[], pg_lsn, pg_lsn) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.tablespaces_made(text, bigint, integer[], pg_lsn[], pg_lsn, pg_lsn) IS
'private: tablespaces that a recovery makes anew';

CREATE FUNCTION walarchive.plan_tablespaces(
	plan_id bigint,
	OUT tablespace oid,
	OUT location text,
	OUT start_lsn pg_lsn)
RETURNS SETOF record
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_tablespaces_of_plan';
REVOKE ALL ON FUNCTION walarchive.plan_tablespaces(bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.plan_tablespaces(bigint) IS
'tablespaces that the recovery of a plan makes anew, each in the directory that it has on the primary';
