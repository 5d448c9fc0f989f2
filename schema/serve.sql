-- Serving: the archive's files for those who restore from it, over the same
-- connection as everything else.  Who may is said by grant_read(), source by
-- source; src/restore/serve.c decides what is whose.

CREATE FUNCTION walarchive.wal_file(
	source text,
	name text,
	plan_id bigint DEFAULT NULL,
	OUT state text,
	OUT size bigint,
	OUT sha256 text,
	OUT detail text,
	OUT valid_bytes bigint)
RETURNS record
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_wal_file';
REVOKE ALL ON FUNCTION walarchive.wal_file(text, text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.wal_file(text, text, bigint) IS
'what there is of a WAL segment or timeline history, by its name: present; partial (what is flushed of the open segment, then zeros); absent (it is proved that there is none); missing (a hole); damaged; later (the source has it, and it will be archived)';

CREATE FUNCTION walarchive.read_wal(
	source text,
	name text,
	"offset" bigint,
	length integer,
	plan_id bigint DEFAULT NULL)
RETURNS bytea
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_read_wal';
REVOKE ALL ON FUNCTION walarchive.read_wal(text, text, bigint, integer, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.read_wal(text, text, bigint, integer, bigint) IS
'bytes of a WAL segment or timeline history as wal_file() describes it, at most 8 MB at a time; fewer only at its end';

CREATE FUNCTION walarchive.read_backup_file(
	source text,
	label text,
	file text,
	"offset" bigint,
	length integer)
RETURNS bytea
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_read_backup_file';
REVOKE ALL ON FUNCTION walarchive.read_backup_file(text, text, text, bigint, integer) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.read_backup_file(text, text, text, bigint, integer) IS
'bytes of a file of a base backup, at most 8 MB at a time; fewer only at its end';

-- Rows of a few kilobytes, so that no side needs memory for more: what the client uses.
CREATE FUNCTION walarchive.stream_wal(
	source text,
	name text,
	"offset" bigint,
	length bigint,
	plan_id bigint DEFAULT NULL)
RETURNS SETOF bytea
LANGUAGE c VOLATILE ROWS 512
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_stream_wal';
REVOKE ALL ON FUNCTION walarchive.stream_wal(text, text, bigint, bigint, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.stream_wal(text, text, bigint, bigint, bigint) IS
'the same as read_wal() in many rows, in order, and of any length; none of what is not served';

CREATE FUNCTION walarchive.stream_backup_file(
	source text,
	label text,
	file text,
	"offset" bigint,
	length bigint)
RETURNS SETOF bytea
LANGUAGE c VOLATILE ROWS 512
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_stream_backup_file';
REVOKE ALL ON FUNCTION walarchive.stream_backup_file(text, text, text, bigint, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.stream_backup_file(text, text, text, bigint, bigint) IS
'the same as read_backup_file() in many rows, in order, and of any length';

CREATE FUNCTION walarchive.layout_of(
	p_source text,
	OUT system_identifier bigint,
	OUT segment_size integer,
	OUT timeline integer,
	OUT server_version integer)
RETURNS record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT w.system_identifier,
		   coalesce((SELECT (g.end_lsn - g.start_lsn)::integer
					 FROM walarchive.segment g
					 WHERE g.source = w.name AND g.system_identifier = w.system_identifier
					 LIMIT 1), r.segment_size),
		   coalesce(r.received_tli, (SELECT g.timeline
									 FROM walarchive.segment g
									 WHERE g.source = w.name AND g.system_identifier = w.system_identifier
									 ORDER BY g.source DESC, g.system_identifier DESC, g.timeline DESC
									 LIMIT 1)),
		   coalesce(r.server_version, (SELECT b.server_version
									   FROM walarchive.backup b
									   WHERE b.source = w.name AND b.system_identifier = w.system_identifier
										AND b.server_version IS NOT NULL
									   ORDER BY b.started_at DESC
									   LIMIT 1))
	FROM walarchive.source w
		LEFT JOIN walarchive.receiver_state() r ON r.source = w.name AND r.system_identifier = w.system_identifier
	WHERE w.name = p_source
$$;
REVOKE ALL ON FUNCTION walarchive.layout_of(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.layout_of(text) IS
'private: what source_layout() returns';

CREATE FUNCTION walarchive.source_layout(
	source text,
	OUT system_identifier bigint,
	OUT segment_size integer,
	OUT timeline integer,
	OUT server_version integer)
RETURNS record
LANGUAGE c VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wa_source_layout';
REVOKE ALL ON FUNCTION walarchive.source_layout(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.source_layout(text) IS
'what is archived under a source''s name: the cluster''s system identifier, the size of its WAL segments in bytes, the timeline that it is on or was last, and the version of its server as in server_version_num; NULL is what is not known';
