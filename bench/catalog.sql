-- A catalog of :segments segments of 16 MB for source :'source', on :timelines
-- timelines (2) of the same length, a segment every ten seconds, as decoding
-- and verify() would have filled it, and of :backups base backups; :behind (0) more segments
-- follow.  What the source has of its own stays.
\set ON_ERROR_STOP on
\if :{?timelines}
\else
\set timelines 2
\endif
\if :{?behind}
\else
\set behind 0
\endif
BEGIN;
-- minutes if each row were flushed by itself; nothing of it needs to last
SET LOCAL synchronous_commit = off;

INSERT INTO walarchive.segment
	(source, system_identifier, timeline, name, start_lsn, end_lsn, state, size, registered_at,
	 decode_state, major, first_record_lsn, last_record_lsn, records,
	 first_commit_time, last_commit_time, min_commit_time, max_commit_time,
	 commits, aborts, min_xid, max_xid, checked_at, sha256, verified_at)
SELECT c.name, c.system_identifier, t.timeline,
	   upper(lpad(to_hex(t.timeline), 8, '0') || lpad(to_hex(n / 256), 8, '0') || lpad(to_hex(n % 256), 8, '0')),
	   t.start_lsn, t.start_lsn + 16777216, 'finished', 16777216, t.filled,
	   'decoded', 15, t.start_lsn + 40 + n % 8000 / 8 * 8, t.start_lsn + 16777216 - 8 - n % 800 / 8 * 8, 90000 + n % 20000,
	   t.filled - '10 s'::interval, t.filled, t.filled - '10.1 s'::interval, t.filled + '0.1 s'::interval,
	   9000 + n % 2000, n % 7, (100000000 + n * 1000::bigint)::text::xid8, (100000000 + n * 1000::bigint + 999)::text::xid8,
	   t.filled, sha256(int4send(n)), CASE WHEN n % 20 <> 0 THEN t.filled + '1 day'::interval END
FROM walarchive.source c
	CROSS JOIN generate_series(1, :segments + :behind) n
	CROSS JOIN LATERAL (SELECT least(:timelines, 1 + n::bigint * :timelines / :segments)::integer AS timeline,
							   '0/0'::pg_lsn + n * 16777216::numeric AS start_lsn,
							   now() - (:segments + :behind + 600 - n) * '10 s'::interval AS filled) t
WHERE c.name = :'source'
ON CONFLICT DO NOTHING;

INSERT INTO walarchive.timeline AS t
	(source, system_identifier, timeline, parent_timeline, fork_lsn, first_lsn, last_lsn, segments, bytes, history_file, promoted_at)
SELECT s.source, s.system_identifier, s.timeline, CASE WHEN s.timeline > 1 THEN s.timeline - 1 END, CASE WHEN s.timeline > 1 THEN min(s.start_lsn) END,
	   min(s.start_lsn), max(s.end_lsn), count(*), sum(s.size), s.timeline > 1, CASE WHEN s.timeline > 1 THEN min(s.min_commit_time) END
FROM walarchive.segment s
WHERE s.source = :'source' AND s.state = 'finished'
GROUP BY s.source, s.system_identifier, s.timeline
ON CONFLICT (source, system_identifier, timeline) DO UPDATE
SET last_lsn = excluded.last_lsn, segments = excluded.segments, bytes = excluded.bytes;

-- gaps that are closed, and what else gathers over the years
INSERT INTO walarchive.gap (source, system_identifier, timeline, from_lsn, to_lsn, cause, detected_at, closed_at)
SELECT s.source, s.system_identifier, s.timeline, s.start_lsn, s.end_lsn, 'missing_file', s.checked_at, s.checked_at + '1 h'::interval
FROM walarchive.segment s
WHERE s.source = :'source' AND s.decode_state = 'decoded' AND (s.start_lsn - '0/0'::pg_lsn) % (16777216 * 10000::numeric) = 0;

INSERT INTO walarchive.restore_point (source, system_identifier, timeline, start_lsn, end_lsn, name, created_at)
SELECT s.source, s.system_identifier, s.timeline, s.first_record_lsn, s.first_record_lsn + 104, 'release ' || row_number() OVER (), s.checked_at
FROM walarchive.segment s
WHERE s.source = :'source' AND s.decode_state = 'decoded' AND (s.start_lsn - '0/0'::pg_lsn) % (16777216 * 100::numeric) = 0
ON CONFLICT DO NOTHING;

INSERT INTO walarchive.destructive_commit
	(source, system_identifier, timeline, start_lsn, end_lsn, kind, xid, xact_time, aborted, database, file_count,
	 file_tablespace, file_database, file_number, relations, first_lsn, restore_before_lsn, restore_before_time)
SELECT s.source, s.system_identifier, s.timeline, s.last_record_lsn, s.last_record_lsn + 200,
	   (array['drop', 'truncate', 'rewrite'])[1 + s.records % 3], (s.records % 1000000)::text::xid, s.last_commit_time, false, 5, 3,
	   '{1663,1663,1663}', '{5,5,5}', '{16384,16387,16388}', '{16384}', s.last_record_lsn, s.last_record_lsn - 100, s.last_commit_time - '1 us'::interval
FROM walarchive.segment s
WHERE s.source = :'source' AND s.decode_state = 'decoded' AND (s.start_lsn - '0/0'::pg_lsn) % (16777216 * 10::numeric) = 0
ON CONFLICT DO NOTHING;

-- a backup every so often, of which every seventh is a full one
INSERT INTO walarchive.backup
	(source, system_identifier, label, kind, parent, state, timeline, start_lsn, stop_timeline, stop_lsn, consistent_lsn,
	 started_at, finished_at, server_version, from_standby, compression, checksum_algorithm, manifest_sha256,
	 size, data_size, files, checksum_failures, edge_lsn, edge_time, earliest_target_time, first_commit_lsn, first_commit_time)
SELECT s.source, s.system_identifier, 'backup' || b.n, CASE WHEN b.n % 7 = 0 THEN 'full' ELSE 'incremental' END,
	   CASE WHEN b.n % 7 <> 0 THEN 'backup' || b.n - 1 END, 'waiting', s.timeline, s.start_lsn + 4096, s.timeline,
	   s.start_lsn + 8192, s.start_lsn + 8192, s.min_commit_time, s.max_commit_time, 150000, false, 'zstd', 'SHA256', repeat('0', 64),
	   1e9, 4e9, 2000, 0, s.end_lsn, s.max_commit_time, s.min_commit_time, s.start_lsn + 9000, s.first_commit_time
FROM generate_series(0, :backups - 1) b (n)
	JOIN walarchive.segment s ON s.source = :'source' AND s.decode_state = 'decoded'
		AND s.start_lsn = '0/0'::pg_lsn + (1 + b.n * (:segments / :backups)) * 16777216::numeric;

INSERT INTO walarchive.event (source, occurred_at, kind, severity, message)
SELECT :'source', now() - n * '15 min'::interval, 'state', 'warning', 'connection to the server was lost'
FROM generate_series(1, :segments / 10) n;

-- as the indexer does
SELECT walarchive.windows_changed(:'source', true);
\timing on
SELECT walarchive.refresh_runs(:'source');
SELECT walarchive.refresh_windows(:'source');
\timing off
COMMIT;

-- as autovacuum would
VACUUM (ANALYZE) walarchive.segment, walarchive.timeline, walarchive.gap, walarchive.restore_point,
	walarchive.destructive_commit, walarchive.event, walarchive.backup, walarchive.backup_window, walarchive.wal_run, walarchive.source, walarchive.index_progress, walarchive.decode_progress;
