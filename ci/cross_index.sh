# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of ci/cross_major.sh
# The part "index" of ci/cross_major.sh, and what the other part has in common with it. Sourced by it.

# An archive host of this pair, and a primary with a source named "prod".
make_pair() { # segment size of the primary in MB, then lines of its configuration
	local segment=$1
	shift
	make_server primary "$primary_major" "$segment" "max_wal_senders = 10" "max_replication_slots = 10" "wal_keep_size = 10GB" \
		"max_prepared_transactions = 5" "client_min_messages = warning" "$@"
	at "$host_major" mkdir -m 700 "${work_of[$host_major]}/archive"
	make_server host "$host_major" 16 "shared_preload_libraries = 'walarchive'" "walarchive.directory = '${work_of[$host_major]}/archive'" \
		"max_worker_processes = 24" "walarchive.min_free_space = 0" "client_min_messages = warning"
	value host "CREATE EXTENSION walarchive"
	# the observer, too, meets a catalog of another major
	sql host -o /dev/null -c "SELECT walarchive.add_source('prod', 'host=127.0.0.1 port=${port_of[primary]} user=postgres dbname=postgres',
		relation_names_interval => '10 s')"
	wait_for host "SELECT state = 'streaming' FROM walarchive.stat_receiver WHERE source = 'prod'" "the stream"
}

# all that the primary has written is durable and decoded
wait_indexed() {
	local lsn
	sql primary -o /dev/null -c "SELECT pg_logical_emit_message(true, 'end', 'x')"
	lsn=$(value primary "SELECT pg_current_wal_flush_lsn()")
	wait_for host "SELECT s.state = 'streaming' AND s.flushed_lsn >= '$lsn' AND s.decode_lag_bytes = 0 AND NOT r.index_wanted
			AND r.unindexed_segments = 0 AND r.unindexed_journal = 0
		FROM walarchive.stat_receiver s JOIN walarchive.receiver_state() r USING (source) WHERE s.source = 'prod'" "the index to reach $lsn"
}

# A bit of everything. The number makes the names of this round.
load() { # number, wal_compression
	local n=$1
	sql primary -o /dev/null -c "ALTER SYSTEM SET wal_compression = $2" -c "SELECT pg_reload_conf()" -c "CHECKPOINT"
	sql primary -o /dev/null <<-SQL
		SHOW wal_compression;
		CREATE TABLE t$n (i int PRIMARY KEY, t text, s serial);
		INSERT INTO t$n SELECT i, repeat(md5(i::text), 1 + i % 80) FROM generate_series(1, 800) i;
		CREATE INDEX ON t$n USING gin (to_tsvector('simple', t));
		CREATE INDEX ON t$n USING gist (point(i, i));
		CREATE INDEX ON t$n USING hash (i);
		CREATE INDEX ON t$n USING brin (i);
		CREATE INDEX ON t$n USING spgist (left(t, 100));
		UPDATE t$n SET t = 'x' WHERE i % 3 = 0;
		DELETE FROM t$n WHERE i % 7 = 0;
		VACUUM (FREEZE) t$n;
		REINDEX TABLE t$n;
		ALTER TABLE t$n ALTER i TYPE bigint;
		CREATE UNLOGGED TABLE u$n (i int PRIMARY KEY);
		CREATE TABLE p$n (i int) PARTITION BY RANGE (i);
		CREATE TABLE p${n}_1 PARTITION OF p$n FOR VALUES FROM (1) TO (10);
		CREATE MATERIALIZED VIEW m$n AS SELECT i FROM t$n LIMIT 10;
		REFRESH MATERIALIZED VIEW m$n;
		BEGIN;
		INSERT INTO p$n VALUES (1);
		SAVEPOINT a;
		INSERT INTO p$n VALUES (2);
		SAVEPOINT b;
		DROP TABLE u$n;
		ROLLBACK TO a;
		INSERT INTO p$n VALUES (3);
		COMMIT;
		BEGIN;
		DROP TABLE p$n;
		SAVEPOINT c;
		DROP MATERIALIZED VIEW m$n;
		PREPARE TRANSACTION 'gone $n';
		COMMIT PREPARED 'gone $n';
		BEGIN;
		CREATE TABLE v$n (i int);
		INSERT INTO v$n VALUES (1);
		TRUNCATE t$n;
		PREPARE TRANSACTION 'kept; $n';
		ROLLBACK PREPARED 'kept; $n';
		BEGIN;
		CREATE TABLE v$n (i int);
		INSERT INTO v$n VALUES (1);
		ROLLBACK;
		SELECT lo_from_bytea(0, decode(repeat('ab', 20000), 'hex'));
		SELECT lo_unlink(max(oid)) FROM pg_largeobject_metadata;
		CREATE SEQUENCE q$n;
		SELECT nextval('q$n');
		SELECT pg_create_restore_point('round $n, $2');
		SELECT pg_logical_emit_message(true, 'prefix', repeat('y', 1300000));
		SELECT pg_switch_wal();
		DROP TABLE u$n;
	SQL
	at "$primary_major" pgbench -h 127.0.0.1 -p "${port_of[primary]}" -U postgres -i -q postgres >/dev/null 2>&1
	at "$primary_major" pgbench -h 127.0.0.1 -p "${port_of[primary]}" -U postgres -n -c 2 -t 50 postgres >/dev/null 2>&1
}

# What the archive says of a range of one timeline, and what the primary's own programs do.
judge() { # timeline, from, to, what
	local tli=$1 from=$2 to=$3 what=$4 dir columns blocks ours theirs
	dir=$(outside "$primary_major") ours=$dir/ours theirs=$dir/theirs
	# what describes a record, and the blocks that it touches
	blocks="(SELECT string_agg(m[1], ', ') FROM regexp_matches(replace(block_ref, ' fork main', ''), 'rel (\d+/\d+/\d+(?: fork \w+)? blk \d+)', 'g') m)"
	columns="start_lsn, end_lsn, prev_lsn, xid, resource_manager, record_type, record_length, main_data_length, fpi_length, $blocks"
	value host "SELECT $columns FROM walarchive.wal_records('prod', '$from', '$to', $tli)" >"$ours"
	value primary "SELECT $columns FROM pg_get_wal_records_info('$from', '$to')" >"$theirs"
	same "$what: records are those of pg_walinspect" "$ours" "$theirs"

	value host "SELECT resource_manager, records, record_bytes, fpi_bytes, combined_bytes FROM walarchive.wal_stats('prod', '$from', '$to', $tli)
		ORDER BY resource_manager COLLATE \"C\"" >"$ours"
	value primary "SELECT \"resource_manager/record_type\", count, record_size, fpi_size, combined_size FROM pg_get_wal_stats('$from', '$to', false)
		WHERE count > 0 ORDER BY \"resource_manager/record_type\" COLLATE \"C\"" >"$theirs"
	same "$what: sums are those of pg_walinspect" "$ours" "$theirs"

	# without names there are the paths that pg_waldump has, too
	sql host -c "BEGIN" -c "DELETE FROM walarchive.relation_name" -c "SELECT start_lsn, xid, kind,
		to_char(xact_time, 'YYYY-MM-DD HH24:MI:SS.US') || ' UTC', array_to_string(dropped_relations, ' ')
		FROM walarchive.commits('prod', '$from', '$to', timeline => $tli)" -c "ROLLBACK" >"$ours"
	# shellcheck disable=SC2016
	at "$primary_major" pg_waldump -t "$tli" -p "${work_of[$primary_major]}/primary/pg_wal" -s "$from" -e "$to" -r Transaction | perl -ne '
		my ($xid, $hi, $lo, $type, $rest) = /tx:\s+(\d+), lsn: (\w+)\/0*(\w+), .*?desc: (COMMIT_PREPARED|ABORT_PREPARED|COMMIT|ABORT) (.*)/ or next;
		# of a prepared transaction the number is in the description
		$xid = $1 if $type =~ /PREPARED/ && $rest =~ /^(\d+):/;
		my ($time) = $rest =~ /(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \S+?)(?:;|$)/;
		my ($rels) = $rest =~ /; rels: ([^;]*)/;
		# what an abort takes away was made in the same transaction: no loss
		$rels = "" if $type =~ /ABORT/;
		print join("|", "$hi/$lo", $xid, lc($type) =~ tr/_/ /r, $time, $rels // ""), "\n"' | sed 's/ *$//' >"$theirs"
	same "$what: commits, their times and what they dropped are those of pg_waldump" "$ours" "$theirs"

	value host "SELECT start_lsn, name FROM walarchive.restore_point WHERE source = 'prod' AND timeline = $tli AND start_lsn >= '$from' AND start_lsn < '$to'
		ORDER BY start_lsn" >"$ours"
	at "$primary_major" pg_waldump -t "$tli" -p "${work_of[$primary_major]}/primary/pg_wal" -s "$from" -e "$to" -r XLOG |
		perl -ne '/lsn: (\w+)\/0*(\w+), .*desc: RESTORE_POINT (.*)/ and print "$1/$2|$3\n"' >"$theirs"
	same "$what: restore points are those of pg_waldump" "$ours" "$theirs"
}

cross_index() {
	local from middle to fork start_2 before kinds compression n=0 archive
	make_pair 1 "wal_level = replica"
	archive=$(outside "$host_major")/archive/prod
	value primary "CREATE EXTENSION pg_walinspect"
	is "the server's version is known" "$(value host "SELECT server_version / 10000 FROM walarchive.stat_receiver")" "$primary_major"
	# a record of the server's own is the first of the range
	from=$(value primary "SELECT pg_current_wal_insert_lsn()")
	for compression in off pglz lz4 zstd; do
		n=$((n + 1))
		load "$n" "$compression"
		if [[ $n == 2 ]]; then
			# a crash, and settings that a restore has to respect
			sql primary -o /dev/null -c "ALTER SYSTEM SET wal_level = logical" -c "ALTER SYSTEM SET max_connections = 123" \
				-c "CREATE TABLE crash AS SELECT generate_series(1, 1000) i"
			stop primary immediate
			start primary
		fi
	done

	# who did it, and what was it
	sql primary -c "CREATE TABLE orders (i int)" -c "INSERT INTO orders VALUES (1)" -c "CREATE TABLE lines (i int)" \
		-c "INSERT INTO lines VALUES (1)" -c "CREATE TABLE kept AS SELECT 1 AS i" -c "CREATE DATABASE gone"
	wait_for host "SELECT count(*) = 2 FROM walarchive.relation_name WHERE name IN ('public.orders', 'public.lines')" "the names of relations"
	before=$(value primary "SELECT pg_current_wal_insert_lsn()")
	sql primary -c "DROP TABLE orders" -c "TRUNCATE lines" -c "VACUUM FULL kept" \
		-c "DROP DATABASE gone WITH (FORCE)" # the observer may be looking at it
	middle=$(value primary "SELECT pg_current_wal_insert_lsn()")
	wait_indexed
	kinds=$(value host "SELECT string_agg(concat_ws(' ', kind, array_to_string(relations, ' ')), ', ' ORDER BY start_lsn)
		FROM walarchive.destructive_commits('prod', from_lsn => '$before', to_lsn => '$middle') WHERE kind <> 'rewrite'")
	is "what was lost has its kind and its name" "${kinds/%database*/database}" "drop public.orders, truncate public.lines, database"
	is "a rewrite is no loss" "$(value host "SELECT count(*) FROM walarchive.destructive_commits('prod', from_lsn => '$before', to_lsn => '$middle')
		WHERE kind = 'rewrite'")" 1
	judge 1 "$from" "$middle" "timeline 1"

	# the same server goes on as a promoted one
	stop primary
	at "$primary_major" touch "${work_of[$primary_major]}/primary/standby.signal"
	start primary
	at "$primary_major" pg_ctl -D "${work_of[$primary_major]}/primary" -t 300 -w promote >/dev/null
	wait_for host "SELECT state = 'streaming' AND received_tli = 2 FROM walarchive.stat_receiver WHERE source = 'prod'" "timeline 2"
	load 5 zstd
	load 6 pglz
	to=$(value primary "SELECT pg_current_wal_insert_lsn()")
	wait_indexed
	fork=$(awk '$1 == 1 {print $2; exit}' "$(outside "$primary_major")/primary/pg_wal/00000002.history")
	start_2=$(value host "SELECT fork_lsn FROM walarchive.timeline WHERE source = 'prod' AND timeline = 2 AND parent_timeline = 1 AND promoted_at IS NOT NULL")
	is "the fork is that of the history file" "$start_2" "$fork"
	judge 2 "$fork" "$to" "timeline 2"

	# the catalog as a whole
	wait_for host "SELECT count(*) = 0 FROM walarchive.segment WHERE state = 'finished' AND sha256 IS NULL" "the checksums"
	is "every segment is decoded, and of major $primary_major" \
		"$(value host "SELECT DISTINCT decode_state, major FROM walarchive.segment WHERE state = 'finished'")" "decoded|$primary_major"
	is "segments follow one another" "$(value host "SELECT count(*) FROM (SELECT start_lsn, lag(end_lsn) OVER (PARTITION BY timeline ORDER BY start_lsn) AS last
		FROM walarchive.segment) s WHERE last <> start_lsn")|$(value host "SELECT count(*) FROM walarchive.gap")" "0|0"
	is "they are all those of the archive" "$(value host "SELECT name FROM walarchive.segment WHERE state = 'finished' ORDER BY name COLLATE \"C\"" | sha256sum)" \
		"$(find "$archive" -path '*/wal/*' -printf '%f\n' | grep -xE '[0-9A-F]{24}' | LC_ALL=C sort | sha256sum)"
	is "their sums are those of commits()" "$(value host "SELECT sum(commits) || ' ' || sum(aborts) FROM walarchive.segment WHERE timeline = 1")" \
		"$(value host "SELECT count(*) FILTER (WHERE kind LIKE 'commit%') || ' ' || count(*) FILTER (WHERE kind LIKE 'abort%') FROM walarchive.commits('prod', timeline => 1)")"
	is "the change of settings" "$(value host "SELECT wal_level, max_connections FROM walarchive.parameter_change WHERE start_lsn > '$from' ORDER BY start_lsn DESC LIMIT 1")" "logical|123"
	# the server's stop, above, is the last that timeline 1 has
	is "the latest commit is that of the WAL" "$(value host "SELECT latest_commit_xid FROM walarchive.status WHERE source = 'prod'")" \
		"$(value host "SELECT xid FROM walarchive.commits('prod') WHERE kind LIKE 'commit%' ORDER BY start_lsn DESC LIMIT 1")"
	is "nothing is damaged" "$(value host "SELECT * FROM walarchive.verify('prod')")" ""
	wait_for host "SELECT count(*) = 0 FROM walarchive.health
		WHERE source = 'prod' AND severity NOT IN ('ok', 'unknown') AND \"check\" NOT LIKE 'backup%'" "the health to be well"
	good "and health says so"

	# and out of the files alone
	archive=$(outside "$host_major")
	n=$(value host "SELECT count(*) FROM walarchive.segment WHERE state = 'finished'")
	index_as_text "$n" >"$archive/ours"
	sql host -o /dev/null -c "SELECT * FROM walarchive.rescan('prod')"
	wait_indexed
	wait_for host "SELECT count(*) = 0 FROM walarchive.segment WHERE state = 'finished' AND decode_state <> 'decoded'" "the new index"
	index_as_text "$n" >"$archive/theirs"
	same "a rebuilt catalog is the same" "$archive/theirs" "$archive/ours"
}
index_as_text() { # how many segments
	value host "SELECT timeline, name, major, first_record_lsn, last_record_lsn, records, commits, aborts, first_commit_time, last_commit_time, min_xid, max_xid
		FROM walarchive.segment WHERE state = 'finished' ORDER BY timeline, start_lsn LIMIT $1"
}
