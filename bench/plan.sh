#!/usr/bin/env bash
# How long plan_restore takes in a large archive: BENCH_SEGMENTS (1,000,000) segments of 16 MB, BENCH_BACKUPS (1,000) and
# BENCH_TIMELINES (50). All but the last are made up in the catalog (catalog.sql). The last timeline is a real one, of a
# primary whose WAL was made to begin behind them, with a real backup and segments full of records, which plans
# read. The bar is 50 ms.
#
# walarchive has to be installed; PG_CONFIG says where (pg_config).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$("${PG_CONFIG:-pg_config}" --bindir)
segments=${BENCH_SEGMENTS:-1000000} backups=${BENCH_BACKUPS:-1000} timelines=${BENCH_TIMELINES:-50}
runs=${BENCH_LOOKUPS:-21} bar=50

if [[ $(id -u) == 0 ]]; then
	echo "plan.sh: a server does not run as root" >&2
	exit 2
fi
dir=$(mktemp -d "${TMPDIR:-/var/tmp}/walarchive-plan.XXXXXX")
clean() {
	local status=$?
	"$bin/pg_ctl" -D "$dir/primary" -m immediate stop >/dev/null 2>&1 || true
	"$bin/pg_ctl" -D "$dir/archive" -m immediate stop >/dev/null 2>&1 || true
	if ((status == 0)); then rm -rf "$dir"; else echo "plan.sh: everything is left in $dir" >&2; fi
}
trap clean EXIT
die() {
	echo "plan.sh: $*" >&2
	exit 1
}
primary() { "$bin/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$dir" -p 5811 -d postgres "$@"; }
archive() { "$bin/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$dir" -p 5812 -d postgres "$@"; }
wait_for() { # program, query, what
	local n
	for ((n = 0; n < 6000; n++)); do
		if [[ $("$1" -c "$2") == t ]]; then return; fi
		sleep 0.05
	done
	die "waited in vain for $3"
}

# --- a primary on timeline $timelines, behind the made-up segments ---
"$bin/initdb" -D "$dir/primary" -A trust -N >"$dir/initdb.log" 2>&1 || die "initdb: $(tail -n 3 "$dir/initdb.log")"
"$bin/initdb" -D "$dir/archive" -A trust -N >"$dir/initdb.log" 2>&1 || die "initdb: $(tail -n 3 "$dir/initdb.log")"
number=$((segments + 16))
"$bin/pg_resetwal" -D "$dir/primary" -l "$(printf '%08X%08X%08X' "$timelines" $((number / 256)) $((number % 256)))" >/dev/null
for ((n = 1; n < timelines; n++)); do
	# where catalog.sql begins the next one
	first=$(((segments * n + timelines - 1) / timelines))
	at=$((first * 16777216))
	printf '%d\t%X/%X\tmade up\n' "$n" $((at >> 32)) $((at & 0xFFFFFFFF))
done >"$dir/primary/pg_wal/$(printf '%08X' "$timelines").history"
cat >>"$dir/primary/postgresql.conf" <<-END
	port = 5811
	unix_socket_directories = '$dir'
	listen_addresses = ''
	max_wal_size = 8GB
	checkpoint_timeout = 1h
	autovacuum = off
	synchronous_commit = off
END
mkdir "$dir/wal"
cat >>"$dir/archive/postgresql.conf" <<-END
	port = 5812
	unix_socket_directories = '$dir'
	listen_addresses = ''
	shared_preload_libraries = 'walarchive'
	walarchive.directory = '$dir/wal'
	shared_buffers = 512MB
	max_wal_size = 8GB
	max_worker_processes = 16
END
"$bin/pg_ctl" -w -D "$dir/primary" -l "$dir/primary.log" start >/dev/null || die "the primary: $(tail -n 3 "$dir/primary.log")"
"$bin/pg_ctl" -w -D "$dir/archive" -l "$dir/archive.log" start >/dev/null || die "the archive host: $(tail -n 3 "$dir/archive.log")"
archive -c "CREATE EXTENSION walarchive"
archive -o /dev/null -c "SELECT walarchive.add_source('prod', 'host=$dir port=5811')"
wait_for archive "SELECT count(*) = 1 FROM walarchive.stat_receiver WHERE state = 'streaming'" "the source to stream"

# --- WAL to be read: small transactions, and a backup in between ---
"$bin/pgbench" -h "$dir" -p 5811 -i -q -s 10 postgres >"$dir/pgbench.log" 2>&1 || die "pgbench: $(tail -n 3 "$dir/pgbench.log")"
primary -o /dev/null -c CHECKPOINT
archive -o /dev/null -c "SET client_min_messages = warning" -c "SELECT walarchive.take_backup('prod', label => 'real')"
"$bin/pgbench" -h "$dir" -p 5811 -n -c 4 -T 5 postgres >"$dir/pgbench.log" 2>&1 || die "pgbench: $(tail -n 3 "$dir/pgbench.log")"
primary -o /dev/null -c "SELECT pg_create_restore_point('half')"
"$bin/pgbench" -h "$dir" -p 5811 -n -c 4 -T 5 postgres >"$dir/pgbench.log" 2>&1 || die "pgbench: $(tail -n 3 "$dir/pgbench.log")"
sleep 1
wait_for archive "SELECT state = 'usable' FROM walarchive.backup WHERE label = 'real'" "the backup to be usable"
# all is decoded: what a server goes on to write would be waited for
"$bin/pg_ctl" -D "$dir/primary" -m fast stop >/dev/null
wait_for archive "SELECT count(*) = 0 FROM walarchive.stat_receiver WHERE state IN ('streaming', 'catchup')" "the source to stop"
sleep 3
archive -o /dev/null -c "ALTER SYSTEM SET walarchive.max_indexers = 0" -c "SELECT pg_reload_conf()"
wait_for archive "SELECT indexers = 0 FROM walarchive.host_state()" "the indexers to leave"
archive -o /dev/null -v source=prod -v "segments=$segments" -v "backups=$((backups - 1))" -v "timelines=$timelines" -v behind=15 -f "$here/catalog.sql"
archive -o /dev/null -F ' ' -c "SELECT count(*), count(DISTINCT timeline) FROM walarchive.segment" -c "SELECT count(*) FROM walarchive.backup WHERE state = 'usable'"

# --- plans ---
IFS='|' read -r lsn xid time < <(archive -c "SELECT start_lsn, xid, xact_time FROM walarchive.commits('prod',
	from_lsn => (SELECT consistent_lsn FROM walarchive.backup WHERE label = 'real')) ORDER BY start_lsn DESC OFFSET 100 LIMIT 1")
plan() { # label, arguments, expected
	local n ms feasible
	for ((n = 1; n <= runs; n++)); do
		read -r ms feasible < <(archive -c "DO \$\$ DECLARE a timestamptz := clock_timestamp(); f boolean; r text; BEGIN
			SELECT p.feasible, p.reason INTO f, r FROM walarchive.plan_restore('prod', $2) p;
			RAISE WARNING '%|%', extract(epoch FROM clock_timestamp() - a) * 1000, coalesce(r, 'feasible'); END \$\$" 2>&1 |
			sed -n 's/^.*WARNING:  \([0-9.]*\)|\(.*\)$/\1 \2/p')
		[[ $feasible == "$3" ]] || die "$1: $feasible"
		echo "$ms"
	done | sort -n | awk -v label="$1" -v bar="$bar" '{v[NR] = $1} END {
		m = v[int((NR + 1) / 2)]
		printf "%-40s %8.1f ms  [%.1f .. %.1f]  %3d  <= %d  %s\n", label, m, v[1], v[NR], NR, bar, m <= bar ? "reached" : "MISSED"}'
}
plan "end of the archive" "target_timeline => $timelines" feasible
plan "time" "target_time => '$time'" feasible
plan "time, exclusive" "target_time => '$time', inclusive => false" feasible
plan "lsn" "target_lsn => '$lsn'" feasible
plan "transaction" "target_xid => '$xid'" feasible
plan "transaction that is nowhere" "target_xid => '3000000000'" unknown_xid
plan "restore point" "target_name => 'half'" feasible
plan "restore point that is nowhere" "target_name => 'nowhere'" unknown_name
plan "consistency" "target_immediate => true, backup => 'real'" feasible
plan "time after all commits" "target_time => 'infinity'" past_last_commit
