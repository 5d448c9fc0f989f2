# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of bench/run.sh and bench/index.sh
# The case of bench/run.sh about plan_restore in a large archive. Sourced by it, and uses its functions and variables.
#
# All segments, backups and timelines but the last are made up in the catalog (catalog.sql). The last timeline is a real
# one, of a primary whose WAL was made to begin behind them, with a real backup and segments full of records, which plans
# read. Both servers are of this case alone.

plan_backups=${BENCH_BACKUPS:-1000} plan_timelines=${BENCH_TIMELINES:-50}
behind_port=5806 large_port=5807

behind() { "$bin/psql" -X -q -At -v ON_ERROR_STOP=1 -h "$sockets" -p "$behind_port" -d postgres "$@"; }
large() { "$bin/psql" -X -q -At -v ON_ERROR_STOP=1 -h "$sockets" -p "$large_port" -d postgres "$@"; }
behind_pgbench() { quietly timeout 600 "$bin/pgbench" -h "$sockets" -p "$behind_port" "$@" postgres; }

plan_prepare() {
	local number n first at end
	# a primary on the last timeline, behind the made-up segments
	make_server behind $behind_port "shared_buffers = 512MB" "synchronous_commit = off"
	number=$((segments + 16))
	"$bin/pg_resetwal" -D "$dir/behind" -l "$(printf '%08X%08X%08X' "$plan_timelines" $((number / 256)) $((number % 256)))" >/dev/null
	for ((n = 1; n < plan_timelines; n++)); do
		# where catalog.sql begins the next one
		first=$(((segments * n + plan_timelines - 1) / plan_timelines))
		at=$((first * 16777216))
		printf '%d\t%X/%X\tmade up\n' "$n" $((at >> 32)) $((at & 0xFFFFFFFF))
	done >"$dir/behind/pg_wal/$(printf '%08X' "$plan_timelines").history"
	mkdir -m 700 "$dir/large_wal"
	make_server large $large_port "shared_preload_libraries = 'walarchive'" "walarchive.directory = '$dir/large_wal'" \
		"shared_buffers = 512MB" "max_worker_processes = 16"
	start_server behind
	start_server large
	large -c "CREATE EXTENSION walarchive"
	large -o /dev/null -c "SELECT walarchive.add_source('prod', 'host=$sockets port=$behind_port user=$(id -un) dbname=postgres')"
	wait_for large "SELECT count(*) = 1 FROM walarchive.stat_receiver WHERE state = 'streaming'" "the source to stream"

	# WAL to be read: small transactions, and a backup in between
	behind_pgbench -i -q -s 10
	behind -o /dev/null -c CHECKPOINT
	large -o /dev/null -c "SET client_min_messages = warning" -c "SELECT walarchive.take_backup('prod', label => 'real')"
	behind_pgbench -n -c 4 -T 5
	behind -o /dev/null -c "SELECT pg_create_restore_point('half')"
	behind_pgbench -n -c 4 -T 5
	wait_for large "SELECT state = 'usable' FROM walarchive.backup WHERE label = 'real'" "the backup to be usable"
	# what a server goes on to write would be waited for
	stop_server behind
	wait_for large "SELECT count(*) = 0 FROM walarchive.stat_receiver WHERE state IN ('streaming', 'catchup')" "the source to stop"
	# all that was received is decoded, and what can be recovered is derived from it
	wait_for large "SELECT decode_lag_bytes = 0 FROM walarchive.stat_receiver WHERE source = 'prod'" "all of it to be indexed"
	wait_for large "SELECT NOT (runs_stale OR windows_stale) FROM walarchive.index_progress WHERE source = 'prod'" \
		"what can be recovered"
	# else they would look for the files
	large -o /dev/null -c "ALTER SYSTEM SET walarchive.max_indexers = 0" -c "SELECT pg_reload_conf()"
	wait_for large "SELECT indexers = 0 FROM walarchive.host_state()" "the indexers to leave"
	say "entering $segments segments, $plan_backups backups and $plan_timelines timelines in the catalog"
	quietly "$bin/psql" -X -q -h "$sockets" -p "$large_port" -d postgres -v source=prod -v "segments=$segments" \
		-v "backups=$((plan_backups - 1))" -v "timelines=$plan_timelines" -v behind=15 -f "$dir/checkout/bench/catalog.sql"
	[[ $(large -c "SELECT count(*) >= $segments AND count(DISTINCT timeline) = $plan_timelines FROM walarchive.segment") == t ]] ||
		die "the segments are not there"
	[[ $(large -c "SELECT count(*) = $plan_backups FROM walarchive.backup WHERE state = 'usable'") == t ]] || die "the backups are not usable"
}
plan_kind() { # label, arguments, expected reason
	local n ms reason
	for ((n = 1; n <= lookups; n++)); do
		# each in a session of its own, as a person asks
		read -r ms reason < <(large -c "DO \$\$ DECLARE a timestamptz := clock_timestamp(); r text; BEGIN
			SELECT coalesce(p.reason, 'feasible') INTO r FROM walarchive.plan_restore('prod', $2) p;
			RAISE WARNING '%|%', extract(epoch FROM clock_timestamp() - a) * 1000, r; END \$\$" 2>&1 |
			sed -n 's/^.*WARNING:  \([0-9.]*\)|\(.*\)$/\1 \2/p')
		[[ $reason == "$3" ]] || die "plan_restore, $1: $reason"
		printf '1 %s %s\n' "$1" "$ms" >>"$results/plan.raw"
	done
}
plan() {
	local lsn xid time
	plan_prepare
	IFS='|' read -r lsn xid time < <(large -c "SELECT start_lsn, xid, xact_time FROM walarchive.commits('prod',
		from_lsn => (SELECT consistent_lsn FROM walarchive.backup WHERE label = 'real')) ORDER BY start_lsn DESC OFFSET 100 LIMIT 1")
	say "planning"
	plan_kind end_of_the_archive "target_timeline => $plan_timelines" feasible
	plan_kind time "target_time => '$time'" feasible
	plan_kind time_exclusive "target_time => '$time', inclusive => false" feasible
	plan_kind lsn "target_lsn => '$lsn'" feasible
	plan_kind transaction "target_xid => '$xid'" feasible
	plan_kind transaction_that_is_nowhere "target_xid => '3000000000'" unknown_xid
	plan_kind restore_point "target_name => 'half'" feasible
	plan_kind restore_point_that_is_nowhere "target_name => 'nowhere'" unknown_name
	plan_kind consistency "target_immediate => true, backup => 'real'" feasible
	plan_kind time_after_all_commits "target_time => 'infinity'" past_last_commit
	stop_server large
	rm -rf "$dir/large" "$dir/large_wal" "$dir/behind"
}
report_plan() {
	local label
	[[ -s $results/plan.raw ]] || return 0
	printf '\n%-46s %10s  %s\n' "" median "[min .. max]  runs  bar"
	while read -r label; do
		report_value plan "$label" "plan in $segments segments, ${label//_/ }, ms" 50
	done < <(awk '!seen[$2]++ {print $2}' "$results/plan.raw")
}
