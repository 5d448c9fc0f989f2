# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of bench/run.sh
# The cases of bench/run.sh about the index: decode, index, catalog. Sourced by it, and uses its functions and variables.

decode_mb=${BENCH_DECODE_MB:-1024} segments=${BENCH_SEGMENTS:-1000000} backups=${BENCH_BACKUPS:-1000} lookups=${BENCH_LOOKUPS:-21}

# --- decode: walarchive-decode --format=stats against pg_waldump --stats ---
decode_program() {
	local candidate
	for candidate in "$bin/walarchive-decode" "$("$pg_config" --libdir)/walarchive-decode" "$("$pg_config" --pkglibdir)/walarchive-decode"; do
		if [[ -x $candidate ]]; then echo "$candidate" && return; fi
	done
	die "walarchive-decode is not installed beside $bin/postgres"
}
# has the primary write WAL of one kind, and copies its full segments into $dir/decode.KIND
decode_prepare() { # bulk or pgbench
	local from to file kept=$dir/decode.$1
	say "making $decode_mb MB of WAL of kind $1"
	level
	[[ $1 != pgbench ]] || "$bin/pgbench" -h "$sockets" -p "$primary_port" -i -q -s 20 postgres >"$dir/pgbench.init" 2>&1 ||
		die "pgbench -i: $(tail -n 5 "$dir/pgbench.init")"
	primary -o /dev/null -c "SELECT pg_create_physical_replication_slot('bench_keep', true)" -c "CHECKPOINT" -c "SELECT pg_switch_wal()"
	from=$(primary -c "SELECT pg_walfile_name(pg_current_wal_lsn())")
	local start
	start=$(primary -c "SELECT pg_current_wal_lsn()")
	until [[ $(primary -c "SELECT pg_current_wal_lsn() - '$start' >= $decode_mb * 1024::numeric ^ 2") == t ]]; do
		if [[ $1 == bulk ]]; then
			primary -c "INSERT INTO bulk SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, 500000) g" -c "TRUNCATE bulk"
		else
			# the same records as with it on, only sooner
			PGOPTIONS='-c synchronous_commit=off' "$bin/pgbench" -n -h "$sockets" -p "$primary_port" -c 4 -j 2 -T 5 postgres >"$dir/pgbench.log" 2>&1 ||
				die "pgbench: $(tail -n 5 "$dir/pgbench.log")"
		fi
	done
	primary -o /dev/null -c "SELECT pg_switch_wal()"
	to=$(primary -c "SELECT pg_walfile_name(pg_current_wal_lsn())")
	mkdir "$kept"
	for file in "$dir"/primary/pg_wal/[0-9A-F]*; do
		file=${file##*/}
		# where it was switched it stands in the segment's last byte or in the next one: both are skipped
		if [[ ${#file} == 24 && $file > $from && $file < $to ]]; then cp "$dir/primary/pg_wal/$file" "$kept/"; fi
	done
	[[ -n $(ls "$kept") ]] || die "BENCH_DECODE_MB is too little for one full segment"
	primary -o /dev/null -c "SELECT pg_drop_replication_slot('bench_keep')"
	[[ $1 != pgbench ]] || primary -c "DROP TABLE pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers"
	primary -c "CHECKPOINT"
}
decode_run() { # kind of reader, kind of WAL; prints seconds
	local kept=$dir/decode.$2 from to first last
	first=$(find "$kept" -type f | sort | head -n 1) last=$(find "$kept" -type f | sort | tail -n 1)
	# the last processor: interrupts tend to the first
	local one_core=(taskset -c "$(($(nproc) - 1))")
	from=$(now)
	case $1 in
	walarchive) "${one_core[@]}" "$decoder" --format=stats "$kept" >"$dir/decode.walarchive" 2>"$dir/decode.err" ;;
	waldump)
		"${one_core[@]}" "$bin/pg_waldump" --stats --path="$kept" "${first##*/}" "${last##*/}" >"$dir/decode.waldump" 2>"$dir/decode.err"
		;;
	esac || die "$1: $(tail -n 5 "$dir/decode.err")"
	to=$(now)
	difference "$from" "$to"
}
# The sum of a table of either's: the number after "Total".
decode_records() { sed -n 's/^Total *\([0-9][0-9]*\).*/\1/p' "$1"; }
decode() {
	local kind reader pair value line ours
	ours=walarchive
	[[ $receiver == walarchive ]] || ours=waldump
	[[ $ours == waldump ]] || decoder=$(decode_program)
	for kind in bulk pgbench; do
		decode_prepare "$kind"
		# not counted: both read all of it into the page cache; and they must have seen the same
		value=$(decode_run waldump "$kind")
		value=$(decode_run "$ours" "$kind")
		[[ $(decode_records "$dir/decode.waldump") == "$(decode_records "$dir/decode.$ours")" ]] ||
			die "pg_waldump counts $(decode_records "$dir/decode.waldump") records and walarchive-decode $(decode_records "$dir/decode.$ours")"
		for ((pair = 1; pair <= pairs; pair++)); do
			line=
			for reader in $(rotate "$pair" ours waldump); do
				if [[ $reader == ours ]]; then value=$(decode_run "$ours" "$kind"); else value=$(decode_run "$reader" "$kind"); fi
				printf '%s %s %s\n' "$pair" "$reader" "$value" >>"$results/decode-$kind.raw"
				line+="  $reader $value s"
			done
			say "decode $kind $(du -sm "$dir/decode.$kind" | cut -f 1) MB $pair/$pairs:$line"
		done
		rm -rf "$dir/decode.$kind"
	done
}

# --- index: what it costs that the catalog is kept ---
set_indexers() { # a number, or default
	archive -c "ALTER SYSTEM SET walarchive.max_indexers = $1" -c "SELECT pg_reload_conf()" >/dev/null ||
		die "walarchive.max_indexers cannot be $1"
}
without_indexers() {
	set_indexers 0
	wait_for archive "SELECT indexers = 0 FROM walarchive.host_state()" "the indexers to leave"
}
# all that a source's receiver has is in the catalog
wait_indexed() { # source
	wait_for archive "SELECT NOT r.index_wanted AND r.unindexed_segments = 0 AND r.unindexed_journal = 0 AND s.decode_lag_bytes = 0
		FROM walarchive.receiver_state() r JOIN walarchive.stat_receiver s USING (source) WHERE r.source = '$1'" "the index of $1"
}
# A source whose server can't be reached yet: what precedes the streaming does not count, and the indexer, which hands
# settings to receivers, can be switched off meanwhile. The gate is a name of the primary's socket.
gate_port=5804
add_gated_source() { # start_lsn
	run=$((run + 1))
	archive -o /dev/null -c "SELECT walarchive.add_source('run$run', '${conninfo/port=$primary_port/port=$gate_port}',
		start_lsn => '$1', check_connection => false)"
	wait_for archive "SELECT count(*) = 1 FROM walarchive.stat_receiver WHERE source = 'run$run' AND last_error IS NOT NULL" "the receiver"
}
open_gate() { ln -s ".s.PGSQL.$primary_port" "$sockets/.s.PGSQL.$gate_port"; }
close_gate() { rm -f "$sockets/.s.PGSQL.$gate_port"; }
wait_caught_up() { # prints the seconds since it was connected
	archive -c "
		DO \$\$
		BEGIN
			WHILE NOT EXISTS (SELECT FROM walarchive.stat_receiver
							  WHERE source = 'run$run' AND flushed_lsn >= '$catchup_to')
			LOOP
				IF clock_timestamp() > now() + interval '10 min' THEN
					RAISE 'source run$run does not catch up';
				END IF;
				PERFORM pg_sleep(0.01);
			END LOOP;
		END \$\$" -c "SELECT round(extract(epoch FROM clock_timestamp() - connected_since), 3)
		FROM walarchive.receiver_state() WHERE source = 'run$run' AND reconnects = 0"
}
index_catchup_run() { # ours or off; sets "value"
	sync
	add_gated_source "$catchup_from"
	if [[ $1 == off ]]; then without_indexers; fi
	open_gate
	value=$(wait_caught_up)
	[[ -n $value ]] || die "the connection of run$run was lost meanwhile"
	close_gate
	set_indexers DEFAULT
	# dropping needs the server, for the slot
	open_gate
	drop_source "run$run"
	close_gate
}
# The private memory of an indexer and of its children, in kB, the largest at this moment.
indexer_memory() {
	local pid child kb most=0 postmaster
	postmaster=$(head -n 1 "$dir/archive/postmaster.pid")
	while read -r pid; do
		kb=0
		for child in "$pid" $(ps -o pid= --ppid "$pid"); do
			kb=$((kb + $(awk '/^Private_|^Swap:/ {kb += $2} END {print kb + 0}' "/proc/$child/smaps_rollup" 2>/dev/null || echo 0)))
		done
		((kb <= most)) || most=$kb
	done < <(ps -ww -o pid= -o args= --ppid "$postmaster" | sed -n 's/^ *\([0-9]*\) .*walarchive indexer.*/\1/p')
	echo "$most"
}
# Peak memory while an archive of BENCH_GB is catalogued, and how long that takes after the last byte was received.
index_memory() {
	local sampler from to
	sync
	add_gated_source "$catchup_from"
	(while :; do
		indexer_memory
		sleep 0.05
	done) >"$dir/indexer.kb" &
	sampler=$!
	open_gate
	value=$(wait_caught_up)
	from=$(now)
	wait_indexed "run$run"
	to=$(now)
	kill "$sampler"
	wait "$sampler" 2>/dev/null || true
	sort -n "$dir/indexer.kb" | tail -n 1 | awk '{printf "1 peak %.1f\n", $1 / 1024}' >>"$results/index-memory.raw"
	printf '1 rest %s\n' "$(difference "$from" "$to")" >>"$results/index-rest.raw"
	drop_source "run$run"
	close_gate
}
index() {
	local pair kind line
	catchup_prepare
	index_catchup_run ours # not counted: brings the WAL into the page cache
	for ((pair = 1; pair <= pairs; pair++)); do
		line=
		for kind in $(rotate "$pair" ours off); do
			index_catchup_run "$kind"
			printf '%s %s %s\n' "$pair" "$kind" "$value" >>"$results/index-catchup.raw"
			line+="  $kind $value s"
		done
		say "index-catchup $pair/$pairs:$line"
	done
	index_memory
	catchup_finish
	commits index-sync8 8 alone off
}

# --- catalog: answers out of a large one ---
# One look at it, in a session of its own, as a person or a probe does it: planning and execution in ms.
look_up() { # label, query
	local plan
	plan=$(archive -c "EXPLAIN (ANALYZE, TIMING off, FORMAT text) $2") || die "$1: $2"
	awk -v label="$1" '/^(Planning|Execution) Time:/ {ms += $3} END {printf "1 %s %.3f\n", label, ms}' <<<"$plan" >>"$results/catalog.raw"
	printf '%s\n%s\n\n' "-- $2" "$plan" >>"$results/catalog.plans"
}
catalog_views() {
	local view
	for view in status health recovery_window; do
		if [[ $(archive -c "SELECT to_regclass('walarchive.$view') IS NOT NULL") == t ]]; then echo "$view"; fi
	done
}
catalog() {
	local source n view at lsn time name
	start_receiver walarchive
	source=run$run
	wait_indexed "$source"
	# else it would look for the files
	without_indexers
	say "entering $segments segments in the catalog"
	quietly "$bin/psql" -X -q -h "$sockets" -p "$archive_port" -d postgres -v "source=$source" -v "segments=$segments" -v "backups=$backups" -f "$dir/checkout/bench/catalog.sql"
	[[ $(archive -c "SELECT sum(segments) >= 0.99 * $segments FROM walarchive.timeline WHERE source = '$source'") == t ]] || die "the segments are not there"
	for ((n = 1; n <= lookups; n++)); do
		for view in $(catalog_views); do look_up "$view" "SELECT * FROM walarchive.$view"; done
		# somewhere else each time
		at=$((1 + (n * 7919 * 104729) % (segments - 1)))
		IFS='|' read -r lsn time name < <(archive -c "SELECT start_lsn + 4711, first_commit_time + '1 s'::interval, name
			FROM walarchive.segment WHERE source = '$source' AND decode_state = 'decoded' AND start_lsn = '0/0'::pg_lsn + $at * 16777216::numeric AND sha256 IS NOT NULL")
		look_up segment_of_lsn "SELECT * FROM walarchive.segment WHERE source = '$source' AND start_lsn <= '$lsn' AND end_lsn > '$lsn'"
		look_up segment_by_name "SELECT * FROM walarchive.segment WHERE source = '$source' AND name = '$name'"
		look_up segments_around_time "SELECT * FROM walarchive.segment WHERE source = '$source' AND min_commit_time <= '$time' AND max_commit_time >= '$time'"
		look_up restore_point_by_name "SELECT * FROM walarchive.restore_point WHERE source = '$source' AND name = 'release $n'"
		look_up events_of_an_hour "SELECT * FROM walarchive.event WHERE source = '$source' AND occurred_at BETWEEN '$time' AND '$time'::timestamptz + '1 h'::interval"
		look_up damaged_segments "SELECT * FROM walarchive.segment WHERE source = '$source' AND damage IS NOT NULL"
	done
	say "catalog: $(du -sm "$dir/archive/base" | cut -f 1) MB on disk; the plans are in catalog.plans"
	set_indexers DEFAULT
	stop_receiver walarchive
}

# --- the report ---
# One line of something that is measured by itself: the median, its range, and whether it is under the bar (or -).
report_value() { # raw file, kind, label, bar
	[[ -s $results/$1.raw ]] || return 0
	awk -v kind="$2" '$2 == kind {print $3}' "$results/$1.raw" | sort -n | awk -v label="$3" -v bar="$4" '
		{v[NR] = $1}
		END {
			if (NR == 0) exit
			m = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2
			printf "%-46s %10.2f  [%.2f .. %.2f] %4d  %-8s %s\n", label, m, v[1], v[NR], NR, bar == "-" ? "" : "<= " bar, bar == "-" ? "" : m <= bar ? "reached" : "MISSED"
		}'
}
report_index() {
	report decode-bulk waldump "decode bulk load, pg_waldump --stats, s" '<' 0.667
	report decode-pgbench waldump "decode pgbench, pg_waldump --stats, s" '<' 0.667
	report index-catchup off "catch-up on $gb GB, indexer off, s" '<' 1.15
	report index-sync8.tps off "8 clients, indexer off, tps" '>' 0.90
	report index-sync8.p999 off "8 clients, indexer off, p99.9 ms" '<' -
	[[ -s $results/index-memory.raw || -s $results/catalog.raw ]] || return 0
	printf '\n%-46s %10s  %s\n' "" median "[min .. max]  runs  bar"
	report_value index-memory peak "private memory of indexer and decoder, MB" 64
	report_value index-rest rest "index complete after the last byte, s" -
	[[ -s $results/catalog.raw ]] || return 0
	local label
	while read -r label; do
		report_value catalog "$label" "$segments segments, ${label//_/ }, ms" 50
	done < <(awk '!seen[$2]++ {print $2}' "$results/catalog.raw")
}
