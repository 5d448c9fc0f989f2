-- What relations are called: names that the observer learned from a server's
-- catalogs, entered from the file <source>/<system identifier>/relations; and
-- the observer's live state.

CREATE TABLE walarchive.relation_name (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	database oid NOT NULL,
	database_name text NOT NULL,
	tablespace oid NOT NULL,
	relfilenode oid NOT NULL,
	relation oid NOT NULL,
	kind text NOT NULL,
	name text NOT NULL,
	table_name text NOT NULL,
	learned_at timestamptz NOT NULL,
	PRIMARY KEY (source, system_identifier, database, relfilenode, tablespace, learned_at)
);
REVOKE ALL ON TABLE walarchive.relation_name FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.relation_name TO pg_monitor;

COMMENT ON TABLE walarchive.relation_name IS 'names of the relations that WAL knows by numbers, as the server''s catalogs had them; a row for each mapping that was new or had changed';
COMMENT ON COLUMN walarchive.relation_name.source IS 'name of the source';
COMMENT ON COLUMN walarchive.relation_name.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.relation_name.database IS 'database of the relation, a number of the server''s';
COMMENT ON COLUMN walarchive.relation_name.database_name IS 'name of the database at that time';
COMMENT ON COLUMN walarchive.relation_name.tablespace IS 'tablespace of the relation, a number of the server''s';
COMMENT ON COLUMN walarchive.relation_name.relfilenode IS 'number of the relation''s file, by which WAL knows it; changes with TRUNCATE and rewrites';
COMMENT ON COLUMN walarchive.relation_name.relation IS 'oid of the relation';
COMMENT ON COLUMN walarchive.relation_name.kind IS 'as in pg_class.relkind: r table, m materialized view, S sequence, i index, t TOAST table';
COMMENT ON COLUMN walarchive.relation_name.name IS 'name with schema, quoted where that is needed';
COMMENT ON COLUMN walarchive.relation_name.table_name IS 'the same of the table that an index or a TOAST table belongs to; of others their own name';
COMMENT ON COLUMN walarchive.relation_name.learned_at IS 'when the observer saw it first, by the archive host''s clock';

CREATE TABLE walarchive.database_name (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	database oid NOT NULL,
	name text NOT NULL,
	learned_at timestamptz NOT NULL,
	PRIMARY KEY (source, system_identifier, database, learned_at)
);
REVOKE ALL ON TABLE walarchive.database_name FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.database_name TO pg_monitor;

COMMENT ON TABLE walarchive.database_name IS 'names of databases that WAL knows by numbers; a row for each that was new or had changed';
COMMENT ON COLUMN walarchive.database_name.source IS 'name of the source';
COMMENT ON COLUMN walarchive.database_name.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.database_name.database IS 'number of the database';
COMMENT ON COLUMN walarchive.database_name.name IS 'its name';
COMMENT ON COLUMN walarchive.database_name.learned_at IS 'when the observer saw it first, by the archive host''s clock';

CREATE TABLE walarchive.tablespace_name (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	tablespace oid NOT NULL,
	name text NOT NULL,
	learned_at timestamptz NOT NULL,
	PRIMARY KEY (source, system_identifier, tablespace, learned_at)
);
REVOKE ALL ON TABLE walarchive.tablespace_name FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.tablespace_name TO pg_monitor;

COMMENT ON TABLE walarchive.tablespace_name IS 'names of tablespaces that WAL knows by numbers; a row for each that was new or had changed';
COMMENT ON COLUMN walarchive.tablespace_name.source IS 'name of the source';
COMMENT ON COLUMN walarchive.tablespace_name.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.tablespace_name.tablespace IS 'number of the tablespace';
COMMENT ON COLUMN walarchive.tablespace_name.name IS 'its name';
COMMENT ON COLUMN walarchive.tablespace_name.learned_at IS 'when the observer saw it first, by the archive host''s clock';

CREATE TABLE walarchive.relation_progress (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	file_offset bigint NOT NULL,
	PRIMARY KEY (source, system_identifier)
);
REVOKE ALL ON TABLE walarchive.relation_progress FROM PUBLIC;

COMMENT ON TABLE walarchive.relation_progress IS 'private: how much of each file of names is in the catalog';
COMMENT ON COLUMN walarchive.relation_progress.source IS 'name of the source';
COMMENT ON COLUMN walarchive.relation_progress.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.relation_progress.file_offset IS 'byte of the file up to which it has been read';

CREATE FUNCTION walarchive.relation_lines(
	source text,
	system_identifier bigint,
	from_offset bigint,
	max_lines integer,
	OUT next_offset bigint,
	OUT learned_at timestamptz,
	OUT database oid,
	OUT database_name text,
	OUT tablespace oid,
	OUT tablespace_name text,
	OUT relfilenode oid,
	OUT relation oid,
	OUT kind text,
	OUT name text,
	OUT table_name text)
RETURNS SETOF record
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'wa_relation_lines';
REVOKE ALL ON FUNCTION walarchive.relation_lines(text, bigint, bigint, integer) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.relation_lines(text, bigint, bigint, integer) IS
'private: lines of a cluster''s file of names from a byte on, from the start if there are not so many; of one that is not valid next_offset alone';

-- One batch.  Entering a line again does no harm, so a file that has begun anew
-- is read from its start.
CREATE FUNCTION walarchive.register_relations(p_source text, p_system_identifier bigint, p_max_lines integer)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	position bigint;
	lines bigint;
	to_offset bigint;
BEGIN
	IF NOT walarchive.lock_source_index(p_source) THEN
		RETURN -1;
	END IF;
	SELECT p.file_offset INTO position
	FROM walarchive.relation_progress p
	WHERE p.source = p_source AND p.system_identifier = p_system_identifier;

	WITH line AS MATERIALIZED (
		SELECT l.* FROM walarchive.relation_lines(p_source, p_system_identifier, coalesce(position, 0), p_max_lines) l
	), relations AS (
		INSERT INTO walarchive.relation_name
			(source, system_identifier, database, database_name, tablespace, relfilenode, relation,
			 kind, name, table_name, learned_at)
		SELECT p_source, p_system_identifier, l.database, l.database_name, l.tablespace, l.relfilenode, l.relation,
			   l.kind, l.name, l.table_name, l.learned_at
		FROM line l
		WHERE l.relfilenode IS NOT NULL
		ON CONFLICT DO NOTHING
	), databases AS (
		INSERT INTO walarchive.database_name (source, system_identifier, database, name, learned_at)
		SELECT p_source, p_system_identifier, l.database, l.database_name, l.learned_at
		FROM line l
		WHERE l.relfilenode IS NULL AND l.database IS NOT NULL
		ON CONFLICT DO NOTHING
	), tablespaces AS (
		INSERT INTO walarchive.tablespace_name (source, system_identifier, tablespace, name, learned_at)
		SELECT p_source, p_system_identifier, l.tablespace, l.tablespace_name, l.learned_at
		FROM line l
		WHERE l.tablespace_name IS NOT NULL
		ON CONFLICT DO NOTHING
	)
	SELECT pg_catalog.count(*), pg_catalog.max(l.next_offset) INTO lines, to_offset FROM line l;

	IF lines > 0 THEN
		INSERT INTO walarchive.relation_progress AS p (source, system_identifier, file_offset)
		VALUES (p_source, p_system_identifier, to_offset)
		ON CONFLICT (source, system_identifier) DO UPDATE SET file_offset = excluded.file_offset;
	END IF;
	RETURN lines;
END
$$;
REVOKE ALL ON FUNCTION walarchive.register_relations(text, bigint, integer) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.register_relations(text, bigint, integer) IS
'private: enter the next lines of a cluster''s file of names; returns how many were read, -1 if the source is gone';

CREATE FUNCTION walarchive.forget_relations(p_source text, p_clusters bigint[] DEFAULT '{}')
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM walarchive.relation_name n WHERE n.source = p_source AND n.system_identifier <> ALL (p_clusters);
	DELETE FROM walarchive.database_name n WHERE n.source = p_source AND n.system_identifier <> ALL (p_clusters);
	DELETE FROM walarchive.tablespace_name n WHERE n.source = p_source AND n.system_identifier <> ALL (p_clusters);
	DELETE FROM walarchive.relation_progress n WHERE n.source = p_source AND n.system_identifier <> ALL (p_clusters);
	RETURN true;
END
$$;
REVOKE ALL ON FUNCTION walarchive.forget_relations(text, bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.forget_relations(text, bigint[]) IS
'private: forget the names of a source''s relations, but of the clusters given';

CREATE FUNCTION walarchive.relation_of(
	source text,
	system_identifier bigint,
	database oid,
	tablespace oid,
	relfilenode oid,
	at timestamptz DEFAULT NULL,
	OUT relation oid,
	OUT kind text,
	OUT name text,
	OUT table_name text)
RETURNS record
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT n.relation, n.kind, n.name, n.table_name
	FROM walarchive.relation_name n
	WHERE n.source = relation_of.source
		AND n.system_identifier = relation_of.system_identifier
		AND n.database = relation_of.database
		AND n.tablespace = relation_of.tablespace
		AND n.relfilenode = relation_of.relfilenode
	-- the last one learned by then; one that was learned later is better than none
	ORDER BY n.learned_at <= coalesce(relation_of.at, 'infinity') DESC,
			 CASE WHEN n.learned_at <= coalesce(relation_of.at, 'infinity') THEN n.learned_at END DESC,
			 n.learned_at
	LIMIT 1
$$;
REVOKE ALL ON FUNCTION walarchive.relation_of(text, bigint, oid, oid, oid, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION walarchive.relation_of(text, bigint, oid, oid, oid, timestamptz) TO pg_monitor;
COMMENT ON FUNCTION walarchive.relation_of(text, bigint, oid, oid, oid, timestamptz) IS
'the relation that a file number stood for at a time (default: the latest); NULLs if its name was never learned';

CREATE FUNCTION walarchive.observer_state(
	OUT source text,
	OUT pid integer,
	OUT heartbeat_interval interval,
	OUT heartbeat_time timestamptz,
	OUT heartbeat_xid xid8,
	OUT heartbeat_error text,
	OUT heartbeat_error_time timestamptz,
	OUT relation_names_interval interval,
	OUT relation_names_time timestamptz,
	OUT databases integer,
	OUT databases_failed integer,
	OUT relations bigint,
	OUT relation_names_error text,
	OUT relation_names_error_time timestamptz)
RETURNS SETOF record
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED ROWS 16
AS 'MODULE_PATHNAME', 'wa_observer_state';
REVOKE ALL ON FUNCTION walarchive.observer_state() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION walarchive.observer_state() TO pg_monitor;
COMMENT ON FUNCTION walarchive.observer_state() IS
'private: what the observer has done for each source; read stat_observer instead';

CREATE VIEW walarchive.stat_observer AS
SELECT o.source,
	   o.pid,
	   o.heartbeat_interval,
	   o.heartbeat_time,
	   o.heartbeat_xid,
	   o.heartbeat_error,
	   o.heartbeat_error_time,
	   o.relation_names_interval,
	   o.relation_names_time,
	   o.databases,
	   o.databases_failed,
	   o.relations,
	   o.relation_names_error,
	   o.relation_names_error_time
FROM walarchive.observer_state() o;
REVOKE ALL ON TABLE walarchive.stat_observer FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.stat_observer TO pg_monitor;

COMMENT ON VIEW walarchive.stat_observer IS 'live state of heartbeats and names of relations, for each source';
COMMENT ON COLUMN walarchive.stat_observer.source IS 'name of the source';
COMMENT ON COLUMN walarchive.stat_observer.pid IS 'process of the observer, the same for all sources; NULL: it does not run';
COMMENT ON COLUMN walarchive.stat_observer.heartbeat_interval IS 'an idle server is made to commit this often; NULL: never';
COMMENT ON COLUMN walarchive.stat_observer.heartbeat_time IS 'when the observer made the server commit last; NULL: not since the archive host was started';
COMMENT ON COLUMN walarchive.stat_observer.heartbeat_xid IS 'transaction of that commit';
COMMENT ON COLUMN walarchive.stat_observer.heartbeat_error IS 'why a heartbeat failed last';
COMMENT ON COLUMN walarchive.stat_observer.heartbeat_error_time IS 'when that was';
COMMENT ON COLUMN walarchive.stat_observer.relation_names_interval IS 'how often the server is asked for the names of its relations; NULL: never';
COMMENT ON COLUMN walarchive.stat_observer.relation_names_time IS 'when it was asked last, all of its databases; NULL: not since the archive host was started';
COMMENT ON COLUMN walarchive.stat_observer.databases IS 'databases that allow connections, at that time';
COMMENT ON COLUMN walarchive.stat_observer.databases_failed IS 'of which so many could not be asked';
COMMENT ON COLUMN walarchive.stat_observer.relations IS 'relations, databases and tablespaces whose names are known';
COMMENT ON COLUMN walarchive.stat_observer.relation_names_error IS 'why the server, or the first database that failed, could not be asked last';
COMMENT ON COLUMN walarchive.stat_observer.relation_names_error_time IS 'when that was';
