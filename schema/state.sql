-- Live state, from shared memory and from the file system.  Private functions
-- under the views; pg_monitor may run them because a view runs its functions
-- with the rights of the reader.

CREATE FUNCTION walarchive.receiver_state(
	OUT source text,
	OUT desired text,
	OUT pid integer,
	OUT state text,
	OUT state_since timestamptz,
	OUT cause text,
	OUT cause_hint text,
	OUT cause_permanent boolean,
	OUT sender_host text,
	OUT sender_port integer,
	OUT server_version integer,
	OUT server_in_recovery boolean,
	OUT server_remote_apply boolean,
	OUT system_identifier bigint,
	OUT refused_system_identifier bigint,
	OUT segment_size integer,
	OUT received_tli integer,
	OUT written_lsn pg_lsn,
	OUT flushed_lsn pg_lsn,
	OUT latest_end_lsn pg_lsn,
	OUT latest_end_time timestamptz,
	OUT segments_completed bigint,
	OUT bytes_received bigint,
	OUT flushes bigint,
	OUT flush_time double precision,
	OUT connected_since timestamptz,
	OUT last_msg_receipt_time timestamptz,
	OUT reconnects bigint,
	OUT last_error text,
	OUT last_error_time timestamptz,
	OUT revision bigint,
	OUT unindexed_segments bigint,
	OUT unindexed_journal bigint,
	OUT index_wanted boolean,
	OUT free_bytes bigint,
	OUT decoded_lsn pg_lsn,
	OUT latest_commit_lsn pg_lsn,
	OUT latest_commit_xid xid,
	OUT latest_commit_time timestamptz,
	OUT flush_lag interval,
	OUT decode_lag_bytes bigint,
	OUT index_lag interval)
RETURNS SETOF record
-- few rows: with the default of 1000 the planner finds the views worth compiling, which takes seconds
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED ROWS 16
AS 'MODULE_PATHNAME', 'wa_receiver_state';
REVOKE ALL ON FUNCTION walarchive.receiver_state() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION walarchive.receiver_state() TO pg_monitor;
COMMENT ON FUNCTION walarchive.receiver_state() IS
'private: live state of each source that the launcher knows; read stat_receiver instead';

CREATE FUNCTION walarchive.host_state(
	OUT state text,
	OUT error text,
	OUT launcher_pid integer,
	OUT launcher_start timestamptz,
	OUT launcher_idle interval,
	OUT catalog_state text,
	OUT catalog_behind bigint,
	OUT indexers integer,
	OUT sources integer,
	OUT max_sources integer,
	OUT workers_needed integer,
	OUT workers_allowed integer,
	OUT free_bytes bigint,
	OUT min_free_bytes bigint)
RETURNS SETOF record
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED ROWS 1
AS 'MODULE_PATHNAME', 'wa_host_state';
REVOKE ALL ON FUNCTION walarchive.host_state() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION walarchive.host_state() TO pg_monitor;
COMMENT ON FUNCTION walarchive.host_state() IS
'private: live state of the launcher, the indexers and the directory; read health instead';

CREATE FUNCTION walarchive.notify_catalog_changed()
RETURNS void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'wa_notify_catalog_changed';
REVOKE ALL ON FUNCTION walarchive.notify_catalog_changed() FROM PUBLIC;
COMMENT ON FUNCTION walarchive.notify_catalog_changed() IS
'private: have the sources'' settings written to the archive directory when this transaction commits';

CREATE FUNCTION walarchive.request_index(source text)
RETURNS void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'wa_request_index';
REVOKE ALL ON FUNCTION walarchive.request_index(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.request_index(text) IS
'private: have an indexer look at all of a source''s files';
