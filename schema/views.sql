-- Views for people and for monitoring.  NULL means unknown.

CREATE VIEW walarchive.stat_receiver AS
SELECT coalesce(s.name, r.source) AS source,
	   r.pid,
	   -- a source that the launcher has not heard of yet
	   coalesce(r.state, CASE WHEN s.state = 'paused' THEN 'paused' WHEN n.full THEN 'waiting' ELSE 'starting' END) AS state,
	   r.sender_host,
	   r.sender_port,
	   coalesce(r.system_identifier, s.system_identifier) AS system_identifier,
	   r.received_tli,
	   r.written_lsn,
	   r.flushed_lsn,
	   r.latest_end_lsn,
	   r.latest_end_time,
	   -- the server's end was said a little earlier than the last flush
	   (CASE WHEN r.latest_end_lsn <= r.flushed_lsn THEN 0
			 WHEN r.latest_end_lsn - r.flushed_lsn > 9223372036854775807 THEN 9223372036854775807
			 ELSE r.latest_end_lsn - r.flushed_lsn END)::bigint AS lag_bytes,
	   -- each counts from the server's writing: the later of the two is what counts
	   greatest(r.flush_lag, r.index_lag) AS lag,
	   r.decoded_lsn,
	   r.decode_lag_bytes,
	   r.latest_commit_lsn,
	   r.latest_commit_xid,
	   r.latest_commit_time,
	   r.segments_completed,
	   r.bytes_received,
	   r.connected_since,
	   r.last_msg_receipt_time,
	   r.reconnects,
	   r.last_error,
	   r.last_error_time,
	   coalesce(r.cause, CASE WHEN r.source IS NULL AND n.full THEN 'no_worker' END) AS cause,
	   r.state_since,
	   r.server_version
FROM walarchive.source s
	FULL JOIN walarchive.receiver_state() r ON r.source = s.name
	-- more sources than the launcher may start receivers for
	CROSS JOIN (SELECT h.sources >= h.max_sources AS "full" FROM walarchive.host_state() h) n;
REVOKE ALL ON TABLE walarchive.stat_receiver FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.stat_receiver TO pg_monitor;

COMMENT ON VIEW walarchive.stat_receiver IS 'live state of each source''s receiver';
COMMENT ON COLUMN walarchive.stat_receiver.source IS 'name of the source';
COMMENT ON COLUMN walarchive.stat_receiver.pid IS 'process of the receiver; NULL: none runs';
COMMENT ON COLUMN walarchive.stat_receiver.state IS 'starting, connecting, catchup, streaming, waiting (retries, see cause), paused, or stopped (the operator has to do something, see cause)';
COMMENT ON COLUMN walarchive.stat_receiver.sender_host IS 'host of the present or last connection';
COMMENT ON COLUMN walarchive.stat_receiver.sender_port IS 'port of the present or last connection';
COMMENT ON COLUMN walarchive.stat_receiver.system_identifier IS 'cluster that is archived';
COMMENT ON COLUMN walarchive.stat_receiver.received_tli IS 'timeline of the WAL received last';
COMMENT ON COLUMN walarchive.stat_receiver.written_lsn IS 'end of the WAL that is written, durable or not';
COMMENT ON COLUMN walarchive.stat_receiver.flushed_lsn IS 'end of the WAL that is durable, and confirmed to the server';
COMMENT ON COLUMN walarchive.stat_receiver.latest_end_lsn IS 'end of the server''s WAL, as it said last';
COMMENT ON COLUMN walarchive.stat_receiver.latest_end_time IS 'when the server said so';
COMMENT ON COLUMN walarchive.stat_receiver.lag_bytes IS 'latest_end_lsn less flushed_lsn';
COMMENT ON COLUMN walarchive.stat_receiver.lag IS 'how long the server has had WAL that is not durable and decoded here; since it was heard last, if it is not heard; 0: nothing is missing';
COMMENT ON COLUMN walarchive.stat_receiver.decoded_lsn IS 'end of the WAL that is decoded, and so checked; NULL: none is yet';
COMMENT ON COLUMN walarchive.stat_receiver.decode_lag_bytes IS 'durable WAL that is not decoded yet, in bytes';
COMMENT ON COLUMN walarchive.stat_receiver.latest_commit_lsn IS 'end of the latest commit that is decoded: up to here can be recovered; NULL: none was seen yet';
COMMENT ON COLUMN walarchive.stat_receiver.latest_commit_xid IS 'transaction of that commit';
COMMENT ON COLUMN walarchive.stat_receiver.latest_commit_time IS 'time of that commit, by the server''s clock';
COMMENT ON COLUMN walarchive.stat_receiver.segments_completed IS 'segments finished since the launcher knows of the source';
COMMENT ON COLUMN walarchive.stat_receiver.bytes_received IS 'WAL received since the launcher knows of the source, in bytes';
COMMENT ON COLUMN walarchive.stat_receiver.connected_since IS 'start of the present connection; NULL: there is none';
COMMENT ON COLUMN walarchive.stat_receiver.last_msg_receipt_time IS 'when the server was heard last';
COMMENT ON COLUMN walarchive.stat_receiver.reconnects IS 'connections made after the first one';
COMMENT ON COLUMN walarchive.stat_receiver.last_error IS 'last error, cured or not';
COMMENT ON COLUMN walarchive.stat_receiver.last_error_time IS 'when it happened';
COMMENT ON COLUMN walarchive.stat_receiver.cause IS 'why it is waiting or stopped; NULL: it is not';
COMMENT ON COLUMN walarchive.stat_receiver.state_since IS 'when the state was entered';
COMMENT ON COLUMN walarchive.stat_receiver.server_version IS 'version of the server, as in server_version_num';

CREATE VIEW walarchive.health AS
WITH host AS MATERIALIZED (
	SELECT h.* FROM walarchive.host_state() h
), source AS MATERIALIZED (
	SELECT coalesce(s.name, r.source) AS name,
		   coalesce(r.desired, s.state) AS wanted,
		   s.created_at,
		   r.*,
		   (CASE WHEN r.latest_end_lsn <= r.flushed_lsn THEN 0
				 WHEN r.latest_end_lsn - r.flushed_lsn > 9223372036854775807 THEN 9223372036854775807
				 ELSE r.latest_end_lsn - r.flushed_lsn END)::bigint AS lag,
		   r.state IN ('catchup', 'streaming') AS connected,
		   pg_catalog.clock_timestamp() - coalesce(r.state_since, s.created_at) AS state_age
	FROM walarchive.source s
		FULL JOIN walarchive.receiver_state() r ON r.source = s.name
), finding AS (
	-- receiver
	SELECT s.name AS source, 'receiver' AS "check",
		   CASE
			   WHEN s.connected AND s.last_msg_receipt_time
				   < pg_catalog.clock_timestamp() - greatest(2 * pg_catalog.current_setting('walarchive.receive_timeout')::interval, '1 min'::interval)
				   AND pg_catalog.current_setting('walarchive.receive_timeout')::interval > '0'::interval THEN 'critical'
			   WHEN s.connected THEN 'ok'
			   WHEN s.source IS NULL AND h.sources >= h.max_sources THEN 'critical'
			   WHEN s.wanted IN ('paused', 'dropping') THEN 'warning'
			   WHEN s.state = 'stopped' OR s.cause_permanent THEN 'critical'
			   WHEN s.state_age < '30 s'::interval AND s.cause IS NULL THEN 'ok'
			   WHEN s.state_age > '5 min'::interval THEN 'critical'
			   ELSE 'warning'
		   END AS severity,
		   CASE
			   WHEN s.connected AND s.last_msg_receipt_time IS NOT NULL
				   THEN pg_catalog.format('%s, last message of the server at %s', s.state, s.last_msg_receipt_time)
			   WHEN s.source IS NULL AND h.sources >= h.max_sources
				   THEN pg_catalog.format('not archived: there are more sources than walarchive.max_sources (%s)', h.max_sources)
			   WHEN s.wanted = 'paused' THEN 'paused: the server keeps the WAL meanwhile'
			   WHEN s.wanted = 'dropping' THEN pg_catalog.concat_ws(': ', 'being dropped', s.cause, s.last_error)
			   ELSE pg_catalog.concat_ws(': ', coalesce(s.state, 'starting'), s.cause, s.last_error)
		   END AS message,
		   CASE WHEN s.source IS NULL AND h.sources >= h.max_sources
				THEN 'Raise walarchive.max_sources, and max_worker_processes by as much, and restart the server.'
				WHEN s.wanted = 'paused' THEN 'walarchive.resume_source(name) goes on.'
				ELSE s.cause_hint END AS hint
	FROM source s
		CROSS JOIN host h

	UNION ALL
	-- how far behind
	SELECT s.name, 'lag',
		   CASE
			   WHEN s.lag IS NULL OR NOT s.connected THEN 'unknown'
			   WHEN s.lag > greatest(1073741824, 16 * s.segment_size::bigint) THEN 'warning'
			   WHEN s.lag > 0 AND s.flush_lag > '5 min'::interval THEN 'warning'
			   ELSE 'ok'
		   END,
		   CASE
			   WHEN s.lag IS NULL THEN 'the end of the server''s WAL is not known yet'
			   WHEN NOT coalesce(s.connected, false) THEN pg_catalog.format('%s behind when the server was heard last', pg_catalog.pg_size_pretty(s.lag))
			   WHEN s.lag > 0 THEN pg_catalog.format('%s and %s behind the server', pg_catalog.pg_size_pretty(s.lag), pg_catalog.date_trunc('second', s.flush_lag))
			   ELSE '0 bytes behind the server'
		   END,
		   CASE WHEN s.connected AND s.lag > 0 AND (s.lag > 1073741824 OR s.flush_lag > '5 min'::interval)
				THEN 'If this does not shrink, the network or the archive''s disk is slower than the server writes WAL.' END
	FROM source s

	UNION ALL
	-- gaps, as far as the catalog knows; one before a backup harms nothing that comes after it
	SELECT s.name, 'gap',
		   CASE
			   WHEN g.open_gaps > g.passed THEN 'critical'
			   WHEN h.catalog_state <> 'ok' OR s.index_wanted IS NOT false OR p.full_pass_at IS NULL THEN 'unknown'
			   ELSE 'ok'
		   END,
		   CASE
			   WHEN g.open_gaps > g.passed
				   THEN pg_catalog.format('%s gap(s) in the archived WAL, %s missing, the last one on timeline %s because of %s',
										  g.open_gaps, pg_catalog.pg_size_pretty(g.missing), l.timeline, l.cause)
			   WHEN h.catalog_state <> 'ok' OR s.index_wanted IS NOT false OR p.full_pass_at IS NULL THEN 'the catalog has not been compared with the files yet'
			   WHEN g.open_gaps > 0
				   THEN pg_catalog.format('%s gap(s), %s missing, in WAL from before a backup that has been taken since',
										  g.open_gaps, pg_catalog.pg_size_pretty(g.missing))
			   ELSE 'no gap'
		   END,
		   CASE WHEN g.open_gaps > g.passed THEN 'No restore can pass a gap. Take a new base backup; walarchive.gap lists what is missing, and walarchive.rescan closes a gap whose files are put back.' END
	FROM source s
		CROSS JOIN host h
		LEFT JOIN walarchive.index_progress p ON p.source = s.name
		LEFT JOIN LATERAL (SELECT pg_catalog.count(*) AS open_gaps, pg_catalog.sum(g.to_lsn - g.from_lsn) AS missing,
								  -- what a restore needs lies on the backup's timeline behind its start, and on later ones
								  pg_catalog.count(*) FILTER (WHERE EXISTS (
									  SELECT 1
									  FROM walarchive.backup b
										  JOIN walarchive.source c ON c.name = b.source
									  WHERE b.source = g.source AND b.state = 'usable'
										  AND CASE WHEN b.system_identifier = g.system_identifier
												   THEN b.timeline > g.timeline OR (b.timeline = g.timeline AND b.start_lsn >= g.to_lsn)
												   -- a cluster that was left
												   ELSE b.system_identifier = c.system_identifier END)) AS passed
						   FROM walarchive.gap g
						   WHERE g.source = s.name AND g.closed_at IS NULL) g ON true
		LEFT JOIN LATERAL (SELECT g.timeline, g.cause
						   FROM walarchive.gap g
						   WHERE g.source = s.name AND g.closed_at IS NULL
						   ORDER BY g.detected_at DESC LIMIT 1) l ON true

	UNION ALL
	-- base backups of the current cluster: without one no WAL is of any use
	SELECT s.name, 'backup',
		   CASE
			   WHEN h.catalog_state <> 'ok' OR s.index_wanted IS NOT false OR p.full_pass_at IS NULL THEN 'unknown'
			   WHEN b.usable = 0 OR b.broken > 0 OR b.failed_at > b.taken_at THEN 'warning'
			   ELSE 'ok'
		   END,
		   CASE
			   WHEN h.catalog_state <> 'ok' OR s.index_wanted IS NOT false OR p.full_pass_at IS NULL THEN 'the catalog has not been compared with the files yet'
			   WHEN b.usable = 0 AND b.failed_at IS NOT NULL THEN pg_catalog.format('no usable backup; the last attempt failed at %s: %s', b.failed_at, f.reason)
			   WHEN b.usable = 0 AND b.broken > 0 THEN pg_catalog.format('no usable backup; %s broken one(s): %s', b.broken, b.broken_labels[1])
			   WHEN b.usable = 0 AND b.waiting > 0 THEN 'no usable backup yet: one is waiting for its WAL'
			   WHEN b.usable = 0 THEN 'no usable backup'
			   WHEN b.failed_at > b.taken_at THEN pg_catalog.format('the last attempt failed at %s: %s', b.failed_at, f.reason)
			   WHEN b.broken > 0 THEN pg_catalog.format('%s broken backup(s): %s', b.broken,
														pg_catalog.array_to_string(b.broken_labels[1:3], ', ') || CASE WHEN b.broken > 3 THEN ', ...' ELSE '' END)
			   ELSE pg_catalog.format('%s usable backup(s), the last one of %s', b.usable, b.usable_at)
		   END,
		   CASE
			   WHEN h.catalog_state <> 'ok' OR s.index_wanted IS NOT false OR p.full_pass_at IS NULL THEN NULL
			   WHEN b.usable = 0 THEN 'Nothing can be recovered without one. walarchive.take_backup(name) takes one.'
			   WHEN b.failed_at > b.taken_at THEN 'See the server log and walarchive.event, and take it again: walarchive.take_backup(name).'
			   WHEN b.broken > 0 THEN 'walarchive.backup tells why. What is of no use any more can be deleted: walarchive.delete_backup(source, label).'
		   END
	FROM source s
		CROSS JOIN host h
		LEFT JOIN walarchive.index_progress p ON p.source = s.name
		LEFT JOIN walarchive.source c ON c.name = s.name
		LEFT JOIN LATERAL (
			SELECT pg_catalog.count(*) FILTER (WHERE k.state = 'usable') AS usable,
				   pg_catalog.count(*) FILTER (WHERE k.state = 'waiting') AS waiting,
				   pg_catalog.count(*) FILTER (WHERE k.state = 'broken') AS broken,
				   pg_catalog.array_agg(k.label ORDER BY k.started_at DESC) FILTER (WHERE k.state = 'broken') AS broken_labels,
				   pg_catalog.max(k.finished_at) FILTER (WHERE k.state = 'usable') AS usable_at,
				   pg_catalog.max(k.finished_at) FILTER (WHERE k.state <> 'failed') AS taken_at,
				   pg_catalog.max(k.finished_at) FILTER (WHERE k.state = 'failed') AS failed_at
			FROM walarchive.backup k
			WHERE k.source = s.name
				AND k.system_identifier IN (coalesce(c.system_identifier, s.system_identifier), 0)
				AND k.state <> 'deleting'
		) b ON true
		LEFT JOIN LATERAL (SELECT k.reason
						   FROM walarchive.backup k
						   WHERE k.source = s.name AND k.state = 'failed' AND k.finished_at = b.failed_at
						   LIMIT 1) f ON true

	UNION ALL
	-- files that verify() or the indexer found damaged, of the current cluster
	SELECT s.name, 'damage',
		   CASE
			   WHEN d.damaged > 0 THEN 'critical'
			   WHEN h.catalog_state <> 'ok' OR s.index_wanted IS NOT false THEN 'unknown'
			   ELSE 'ok'
		   END,
		   CASE
			   WHEN d.damaged > 0 THEN pg_catalog.format('%s damaged file(s) in the archive: %s', d.damaged,
														 pg_catalog.array_to_string(d.files[1:3], ', ') || CASE WHEN d.damaged > 3 THEN ', ...' ELSE '' END)
			   WHEN h.catalog_state <> 'ok' OR s.index_wanted IS NOT false THEN 'the catalog has not been compared with the files yet'
			   ELSE pg_catalog.format('no damage is known; the files have %s',
									  coalesce('all been read again after ' || v.verified_since, 'never been read again'))
		   END,
		   CASE WHEN d.damaged > 0 THEN 'No restore can pass a damaged file. walarchive.damage and walarchive.segment tell what is wrong. Put a good copy in its place, from another archive or the server, and run walarchive.verify; else take a new base backup.'
				WHEN v.verified_since IS NULL THEN 'walarchive.verify(name) reads all files and checks them.' END
	FROM source s
		CROSS JOIN host h
		LEFT JOIN walarchive.source c ON c.name = s.name
		LEFT JOIN walarchive.verification v ON v.source = s.name AND v.system_identifier = coalesce(c.system_identifier, s.system_identifier)
		LEFT JOIN LATERAL (
			SELECT pg_catalog.count(*) AS damaged, pg_catalog.array_agg(f.file ORDER BY f.file) AS files
			FROM (SELECT g.file FROM walarchive.damage g WHERE g.source = s.name
				  UNION
				  SELECT CASE g.state WHEN 'partial' THEN g.name || '.partial' ELSE g.name END
				  FROM walarchive.segment g
				  WHERE g.source = s.name
					  AND (g.damage IS NOT NULL OR g.decode_state IN ('damaged', 'quarantined'))) f
		) d ON true

	UNION ALL
	-- room in the source's file system
	SELECT s.name, 'disk_space',
		   CASE
			   WHEN s.free_bytes IS NULL THEN 'unknown'
			   WHEN s.free_bytes < h.min_free_bytes THEN 'critical'
			   WHEN s.free_bytes < 2 * h.min_free_bytes THEN 'warning'
			   ELSE 'ok'
		   END,
		   CASE
			   WHEN s.free_bytes IS NULL THEN 'free space could not be read'
			   ELSE pg_catalog.format('%s free', pg_catalog.pg_size_pretty(s.free_bytes))
		   END,
		   CASE WHEN s.free_bytes < 2 * h.min_free_bytes
				THEN 'Receivers stop below walarchive.min_free_space and resume by themselves when there is room again.' END
	FROM source s
		CROSS JOIN host h

	UNION ALL
	-- remote_apply would wait for an apply position that an archive never reports
	SELECT s.name, 'synchronous_commit',
		   CASE
			   WHEN s.server_remote_apply IS NULL THEN 'unknown'
			   WHEN s.server_remote_apply THEN 'warning'
			   ELSE 'ok'
		   END,
		   CASE
			   WHEN s.server_remote_apply IS NULL THEN 'the server has not been asked yet'
			   WHEN s.server_remote_apply THEN 'the server runs with synchronous_commit = remote_apply: as a synchronous standby this archive would make commits wait for ever'
			   ELSE 'the server does not wait for apply'
		   END,
		   CASE WHEN s.server_remote_apply
				THEN 'Use synchronous_commit = on on the server where this archive stands in synchronous_standby_names.' END
	FROM source s

	UNION ALL
	-- names of relations: a convenience, so nothing here is worse than unknown
	SELECT o.source, 'relation_names',
		   CASE
			   WHEN o.relation_names_interval IS NULL THEN 'ok'
			   WHEN o.relation_names_error_time > o.relation_names_time OR o.databases_failed > 0 THEN 'unknown'
			   WHEN o.relation_names_time IS NULL THEN CASE WHEN o.relation_names_error IS NULL AND s.state_age < '5 min'::interval THEN 'ok' ELSE 'unknown' END
			   WHEN o.relation_names_time < pg_catalog.clock_timestamp() - 2 * o.relation_names_interval - '5 min'::interval THEN 'unknown'
			   ELSE 'ok'
		   END,
		   CASE
			   WHEN o.relation_names_interval IS NULL THEN 'the server is not asked for the names of its relations'
			   WHEN o.databases_failed > 0 AND o.relation_names_error_time >= o.relation_names_time
				   THEN pg_catalog.format('%s of %s databases could not be asked for the names of their relations: %s', o.databases_failed, o.databases, o.relation_names_error)
			   WHEN o.relation_names_error_time > coalesce(o.relation_names_time, '-infinity')
				   THEN pg_catalog.format('the server could not be asked for the names of its relations: %s', o.relation_names_error)
			   WHEN o.relation_names_time IS NULL THEN 'the server has not been asked for the names of its relations yet'
			   ELSE pg_catalog.format('%s names were as at %s', o.relations, o.relation_names_time)
		   END,
		   CASE WHEN o.relation_names_error_time >= coalesce(o.relation_names_time, '-infinity')
				THEN 'Drops and truncations are shown with numbers where names are not known. Let the role connect to the databases (pg_hba.conf, CONNECT, a passfile with * for the database), or turn it off: walarchive.alter_source(name, relation_names_interval => ''0''). It is tried again at growing intervals, and at once after walarchive.alter_source(name).' END
	FROM source s
		JOIN walarchive.observer_state() o ON o.source = s.name

	UNION ALL
	-- heartbeats, where they are wanted
	SELECT o.source, 'heartbeat',
		   CASE
			   WHEN o.heartbeat_error_time > greatest(o.heartbeat_time, s.latest_commit_time) THEN 'warning'
			   WHEN o.heartbeat_error_time IS NOT NULL AND greatest(o.heartbeat_time, s.latest_commit_time) IS NULL THEN 'warning'
			   WHEN o.pid IS NULL AND s.connected AND s.state_age > '1 min'::interval THEN 'warning'
			   ELSE 'ok'
		   END,
		   CASE
			   WHEN o.heartbeat_error_time > coalesce(greatest(o.heartbeat_time, s.latest_commit_time), '-infinity')
				   THEN pg_catalog.format('the last heartbeat failed: %s', o.heartbeat_error)
			   WHEN o.pid IS NULL THEN 'the observer does not run'
			   WHEN o.heartbeat_time IS NULL THEN 'no heartbeat was needed yet'
			   ELSE pg_catalog.format('last heartbeat at %s', o.heartbeat_time)
		   END,
		   CASE WHEN o.heartbeat_error_time > coalesce(greatest(o.heartbeat_time, s.latest_commit_time), '-infinity')
				THEN 'While the server is idle its latest commit grows old. Heartbeats need an ordinary connection to the database of the conninfo, else "postgres": see pg_hba.conf there.'
				WHEN o.pid IS NULL THEN 'Raise max_worker_processes if there is no worker free for it.' END
	FROM source s
		JOIN walarchive.observer_state() o ON o.source = s.name
	WHERE o.heartbeat_interval IS NOT NULL

	UNION ALL
	-- scheduled backups, where they are wanted
	SELECT b.source, 'backup_schedule',
		   CASE
			   WHEN b.waiting_for IS NULL THEN 'unknown'
			   WHEN b.waiting_for = 'archive' THEN 'warning'
			   WHEN b.overdue AND b.waiting_for <> 'running' THEN 'warning'
			   ELSE 'ok'
		   END,
		   CASE
			   WHEN b.waiting_for IS NULL THEN 'the launcher has not looked at the schedule of backups yet'
			   WHEN b.waiting_for = 'running' THEN 'a backup is being taken'
			   WHEN b.overdue OR b.waiting_for = 'archive'
				   THEN pg_catalog.format('the %s backup that was due at %s has not begun (%s)%s', b.next_kind, b.next_due, b.waiting_for,
										  CASE WHEN b.failures > 0 OR b.waiting_for IN ('worker', 'archive') THEN ': ' || b.last_error ELSE '' END)
			   ELSE pg_catalog.format('the next %s backup is due at %s', b.next_kind, b.next_due)
		   END,
		   CASE
			   WHEN b.overdue AND b.waiting_for = 'worker' THEN 'Raise max_worker_processes if there is no worker free for it.'
			   WHEN b.overdue AND b.waiting_for = 'paused' THEN 'walarchive.resume_source(name) goes on.'
			   WHEN b.overdue AND b.waiting_for = 'receiver' THEN 'A backup is of no use without its WAL: see the receiver''s check.'
			   WHEN b.overdue AND b.waiting_for = 'window' THEN 'It begins in its window, or at once by walarchive.take_backup.'
			   WHEN b.overdue AND b.waiting_for <> 'running' THEN 'walarchive.backup_schedule and walarchive.backup tell what happened; it is tried again by itself.'
		   END
	FROM (SELECT v.*,
				 -- a part of the interval, an hour at most, is nobody's worry
				 v.next_due + least(CASE v.next_kind WHEN 'full' THEN v.full_interval ELSE v.incremental_interval END / 4, '1 hour'::interval)
				 < pg_catalog.clock_timestamp() AS overdue
		  FROM walarchive.backup_schedule v) b

	UNION ALL
	-- how far what is durable is decoded
	SELECT s.name, 'index',
		   CASE
			   WHEN s.decoded_lsn IS NULL OR s.decode_lag_bytes IS NULL THEN 'unknown'
			   WHEN s.decode_lag_bytes > 1073741824 OR (s.decode_lag_bytes > 0 AND s.index_lag > '5 min'::interval) THEN 'warning'
			   ELSE 'ok'
		   END,
		   CASE
			   WHEN s.decoded_lsn IS NULL OR s.decode_lag_bytes IS NULL THEN 'it is not known yet how far the WAL is decoded'
			   WHEN s.decode_lag_bytes > 0
				   THEN pg_catalog.format('%s and %s of durable WAL are not decoded yet', pg_catalog.pg_size_pretty(s.decode_lag_bytes), pg_catalog.date_trunc('second', s.index_lag))
			   WHEN s.latest_commit_time IS NULL THEN pg_catalog.format('all WAL is decoded up to %s, no commit was among it', s.decoded_lsn)
			   ELSE pg_catalog.format('all WAL is decoded up to %s, the latest commit is of %s', s.decoded_lsn, s.latest_commit_time)
		   END,
		   CASE WHEN s.decode_lag_bytes > 1073741824 OR (s.decode_lag_bytes > 0 AND s.index_lag > '5 min'::interval)
				THEN 'Streaming does not depend on it. walarchive.stat_progress_index shows the work, the server log the errors; walarchive.max_indexers may be raised.' END
	FROM source s

	UNION ALL
	-- is the catalog up to date
	SELECT s.name, 'catalog',
		   CASE
			   WHEN s.source IS NULL OR h.catalog_state <> 'ok' THEN 'unknown'
			   WHEN s.unindexed_segments > 64 THEN 'warning'
			   ELSE 'ok'
		   END,
		   CASE
			   WHEN s.source IS NULL OR h.catalog_state <> 'ok' THEN 'it is not known how far the catalog has come'
			   WHEN s.index_wanted THEN 'a comparison of the catalog with the files is due'
			   ELSE pg_catalog.format('%s segment(s) and %s byte(s) of the journal are not in the catalog yet', s.unindexed_segments, s.unindexed_journal)
		   END,
		   CASE WHEN s.unindexed_segments > 64 THEN 'Streaming does not depend on it. See the server log for the indexer''s errors, and walarchive.max_indexers.' END
	FROM source s
		CROSS JOIN host h

	UNION ALL
	-- the host itself; the launcher looks at least once a second
	SELECT NULL, 'launcher',
		   CASE
			   WHEN h.launcher_idle > '1 min'::interval THEN 'critical'
			   WHEN h.state = 'standby' THEN 'warning'
			   WHEN h.launcher_pid IS NULL THEN 'critical'
			   WHEN h.state IN ('starting', 'running') THEN 'ok'
			   ELSE 'critical'
		   END,
		   CASE
			   WHEN h.launcher_idle > '1 min'::interval
				   THEN pg_catalog.format('the launcher (process %s) has not looked for %s: nothing is started, stopped or started again', h.launcher_pid, pg_catalog.date_trunc('second', h.launcher_idle))
			   WHEN h.state = 'standby' THEN 'this server is in recovery: nothing is archived'
			   WHEN h.launcher_pid IS NULL THEN 'the launcher is not running'
			   ELSE pg_catalog.concat_ws(': ', h.state, h.error)
		   END,
		   CASE
			   WHEN h.launcher_idle > '1 min'::interval
				   THEN 'It is frozen (a signal STOP is ended by a signal CONT), or waits for the disk of walarchive.directory. What streams goes on streaming.'
			   WHEN h.state = 'standby' THEN 'Receivers start when it is promoted.'
			   WHEN h.launcher_pid IS NULL THEN 'It is started again every few seconds; see the server log, and max_worker_processes.'
			   WHEN h.state = 'directory_in_use' THEN 'Another server archives into the same walarchive.directory: give each its own.'
			   WHEN h.state = 'no_directory' THEN 'Set walarchive.directory to a folder that exists, is writable and lies outside the data directory.'
		   END
	FROM host h

	UNION ALL
	SELECT NULL, 'directory',
		   CASE
			   WHEN h.state IN ('no_directory', 'directory_in_use') THEN 'critical'
			   WHEN h.free_bytes IS NULL THEN 'unknown'
			   WHEN h.free_bytes < h.min_free_bytes THEN 'critical'
			   WHEN h.free_bytes < 2 * h.min_free_bytes THEN 'warning'
			   ELSE 'ok'
		   END,
		   CASE
			   WHEN h.state IN ('no_directory', 'directory_in_use') THEN coalesce(h.error, h.state)
			   WHEN h.free_bytes IS NULL THEN 'free space could not be read'
			   ELSE pg_catalog.format('%s free', pg_catalog.pg_size_pretty(h.free_bytes))
		   END,
		   CASE WHEN h.free_bytes < 2 * h.min_free_bytes
				THEN 'Receivers stop below walarchive.min_free_space and resume by themselves when there is room again.' END
	FROM host h

	UNION ALL
	SELECT NULL, 'workers',
		   CASE
			   WHEN EXISTS (SELECT 1 FROM source s WHERE s.cause = 'no_worker') THEN 'critical'
			   WHEN h.workers_allowed < h.workers_needed THEN 'warning'
			   ELSE 'ok'
		   END,
		   pg_catalog.format('%s of %s sources; up to %s background workers are wanted and max_worker_processes is %s',
							 h.sources, h.max_sources, h.workers_needed, h.workers_allowed),
		   CASE WHEN h.workers_allowed < h.workers_needed
				THEN pg_catalog.format('Set max_worker_processes to at least %s, more if other extensions use workers, and restart the server.', h.workers_needed) END
	FROM host h

	UNION ALL
	SELECT NULL, 'catalog',
		   CASE
			   WHEN h.state = 'standby' THEN 'unknown'
			   WHEN h.catalog_state = 'ok' THEN 'ok'
			   WHEN h.catalog_state IN ('version', 'failed') THEN 'critical'
			   ELSE 'unknown'
		   END,
		   CASE h.catalog_state
			   WHEN 'ok' THEN 'the indexer keeps the catalog'
			   WHEN 'version' THEN 'library and extension differ in their version: the catalog is not kept'
			   WHEN 'failed' THEN 'the indexer failed: the catalog is not kept, changes of settings wait'
			   ELSE 'the indexer has not reported yet'
		   END,
		   CASE h.catalog_state
			   WHEN 'version' THEN 'Run ALTER EXTENSION walarchive UPDATE, or restart the server to load the installed library.'
			   WHEN 'failed' THEN 'See the server log. Streaming does not depend on the catalog.'
		   END
	FROM host h
)
SELECT f.source, f."check", f.severity, f.message, f.hint
FROM finding f;
REVOKE ALL ON TABLE walarchive.health FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.health TO pg_monitor;

COMMENT ON VIEW walarchive.health IS 'what is well, what is not, and what to do about it: a row per check of each source and of the host';
COMMENT ON COLUMN walarchive.health.source IS 'name of the source; NULL: the host';
COMMENT ON COLUMN walarchive.health."check" IS 'receiver, lag, gap, backup, damage, disk_space, synchronous_commit, relation_names, heartbeat, backup_schedule, index, catalog; of the host launcher, directory, workers, catalog';
COMMENT ON COLUMN walarchive.health.severity IS 'ok, unknown (it could not be checked, which is not fine), warning or critical';
COMMENT ON COLUMN walarchive.health.message IS 'what was found';
COMMENT ON COLUMN walarchive.health.hint IS 'what to do';

CREATE VIEW walarchive.status AS
SELECT r.source,
	   r.state,
	   w.health,
	   r.cause,
	   r.latest_commit_time,
	   r.latest_commit_xid,
	   r.latest_commit_lsn,
	   r.lag,
	   r.lag_bytes,
	   r.decode_lag_bytes,
	   r.flushed_lsn,
	   r.received_tli AS timeline,
	   r.last_msg_receipt_time,
	   t.segments,
	   pg_catalog.pg_size_pretty(t.bytes) AS size,
	   CASE WHEN i.full_pass_at IS NOT NULL
			THEN (SELECT pg_catalog.count(*) FROM walarchive.gap g
				  WHERE g.source = r.source AND g.closed_at IS NULL) END AS open_gaps,
	   b.last_backup,
	   b.last_backup_time,
	   b.backups,
	   b.recoverable_from,
	   CASE WHEN r.cause IS NOT NULL THEN r.last_error END AS error
FROM walarchive.stat_receiver r
	LEFT JOIN walarchive.index_progress i ON i.source = r.source
	LEFT JOIN LATERAL (SELECT (pg_catalog.array_agg(k.label ORDER BY k.finished_at DESC))[1] AS last_backup,
							  pg_catalog.max(k.finished_at) AS last_backup_time,
							  CASE WHEN i.full_pass_at IS NOT NULL THEN pg_catalog.count(*) END AS backups,
							  (pg_catalog.array_agg(k.first_commit_time ORDER BY k.consistent_lsn))[1] AS recoverable_from
					   FROM walarchive.backup k
					   WHERE k.source = r.source AND k.state = 'usable'
						   AND k.system_identifier = r.system_identifier) b ON true
	LEFT JOIN (SELECT t.source, pg_catalog.sum(t.segments)::bigint AS segments, pg_catalog.sum(t.bytes)::bigint AS bytes
			   FROM walarchive.timeline t
			   GROUP BY t.source) t ON t.source = r.source
	LEFT JOIN (SELECT h.source,
					  CASE pg_catalog.max(CASE h.severity WHEN 'critical' THEN 3 WHEN 'warning' THEN 2 WHEN 'unknown' THEN 1 ELSE 0 END)
						  WHEN 3 THEN 'critical' WHEN 2 THEN 'warning' WHEN 1 THEN 'unknown' ELSE 'ok' END AS health
			   FROM walarchive.health h
			   -- a comfort that many roles are not allowed: no reason to wake anybody
			   WHERE h."check" <> 'relation_names'
			   GROUP BY h.source) w ON w.source = r.source;
REVOKE ALL ON TABLE walarchive.status FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.status TO pg_monitor;

COMMENT ON VIEW walarchive.status IS 'each source at a glance';
COMMENT ON COLUMN walarchive.status.source IS 'name of the source';
COMMENT ON COLUMN walarchive.status.state IS 'state of the receiver, as in stat_receiver';
COMMENT ON COLUMN walarchive.status.health IS 'worst severity of the source''s checks in the view health, but for relation_names';
COMMENT ON COLUMN walarchive.status.cause IS 'why it is waiting or stopped; NULL: it is not';
COMMENT ON COLUMN walarchive.status.latest_commit_time IS 'time of the latest commit that can be recovered; NULL: none was decoded yet';
COMMENT ON COLUMN walarchive.status.latest_commit_xid IS 'transaction of that commit';
COMMENT ON COLUMN walarchive.status.latest_commit_lsn IS 'end of that commit''s record';
COMMENT ON COLUMN walarchive.status.lag IS 'how long the server has had WAL that is not durable and decoded here; since it was heard last, if it is not heard; 0: nothing is missing';
COMMENT ON COLUMN walarchive.status.lag_bytes IS 'WAL of the server that is not durable here yet, in bytes';
COMMENT ON COLUMN walarchive.status.decode_lag_bytes IS 'durable WAL that is not decoded yet, in bytes';
COMMENT ON COLUMN walarchive.status.flushed_lsn IS 'end of the durable and confirmed WAL';
COMMENT ON COLUMN walarchive.status.timeline IS 'timeline of the WAL received last';
COMMENT ON COLUMN walarchive.status.last_msg_receipt_time IS 'when the server was heard last';
COMMENT ON COLUMN walarchive.status.segments IS 'finished segments in the archive, of all clusters and timelines';
COMMENT ON COLUMN walarchive.status.size IS 'size of the finished segments';
COMMENT ON COLUMN walarchive.status.open_gaps IS 'gaps in the archived WAL; NULL: not compared yet';
COMMENT ON COLUMN walarchive.status.last_backup IS 'label of the newest usable backup of the present cluster; NULL: there is none';
COMMENT ON COLUMN walarchive.status.last_backup_time IS 'when it was finished';
COMMENT ON COLUMN walarchive.status.backups IS 'usable backups of the present cluster; NULL: not compared yet';
COMMENT ON COLUMN walarchive.status.recoverable_from IS 'time of the first commit after the oldest of them: see recovery_window; NULL: none yet';
COMMENT ON COLUMN walarchive.status.error IS 'the error behind the cause';

-- from here on the catalog can be kept: archives that are running already are
-- adopted now
SELECT walarchive.notify_catalog_changed();
