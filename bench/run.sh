#!/usr/bin/env bash
# Compares walarchive with pg_receivewal and with a hot standby, side by side on this machine, and prints ratios.
# bench/README.md says what is measured and how.
#
#   bench/run.sh [--pg-config PATH] [--no-build] [catchup] [sync] [bulk] [slow] [decode] [index] [catalog] [plan] [backup] [restore] [fetch]   (default: all)
#
#   BENCH_GB=4             WAL to catch up on
#   BENCH_PAIRS=9          alternating pairs of each comparison
#   BENCH_SECONDS=10       length of each pgbench run (after BENCH_WARMUP=1)
#   BENCH_CLIENTS="1 8 32" numbers of clients of the synchronous commits
#   BENCH_BULK_CLIENTS=4   clients that commit beside the bulk load
#   BENCH_SLOW_US=2000     what a flush takes longer on the slow disk
#   BENCH_DECODE_MB=1024   WAL to decode, of each kind
#   BENCH_SEGMENTS=1000000 segments in the catalog
#   BENCH_BACKUPS=1000     backups in it, and BENCH_TIMELINES=50, for plans
#   BENCH_LOOKUPS=21       how often each is looked up, or planned
#   BENCH_BACKUP_GB=5      size of the database that base backups are taken of
#   BENCH_BACKUP_PAIRS=5   alternating pairs of each kind of backup
#   BENCH_BACKUP_KINDS="none client-zstd"   kinds of compression (default: six)
#   BENCH_RESTORE_BASE_GB=2   size of the database that is restored
#   BENCH_RESTORE_WAL_GB=4    WAL that is replayed after that
#   BENCH_RESTORE_PAIRS=5     alternating restores of each kind; with pgBackRest, if it is installed
#   BENCH_FETCH_GB=2       WAL that is delivered to a recovery
#   BENCH_FETCH_PAIRS=5    alternating deliveries of each kind
#   BENCH_FETCH_DELAY_US=5000   how far away the distant archive host is, each way
#   BENCH_DIR=...          an empty folder for servers and archives (default: a new one under $TMPDIR or /var/tmp)
#   BENCH_KEEP=1           leave that folder, with the servers' logs
#   BENCH_RECEIVER=pg_receivewal   run that in the place of walarchive too: shows the noise of this machine
#
# --no-build: take the walarchive that is installed. Raw numbers are left in bench/results/.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=../ci/lib.sh
source "$here/ci/lib.sh"

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }

pg_config='' build=yes inner=no scenarios=()
while (($# > 0)); do
	case $1 in
	--pg-config) pg_config=${2:?--pg-config needs a path} && shift 2 ;;
	--no-build) build=no && shift ;;
	--inner) inner=yes && shift ;; # ours: the part that runs as an ordinary user
	catchup | sync | bulk | slow | decode | index | catalog | plan | backup | restore | fetch) scenarios+=("$1") && shift ;;
	-h | --help) usage && exit 0 ;;
	*) usage >&2 && exit 2 ;;
	esac
done
((${#scenarios[@]} > 0)) || scenarios=(catchup sync bulk slow decode index catalog plan backup restore fetch)

gb=${BENCH_GB:-4} pairs=${BENCH_PAIRS:-9} seconds=${BENCH_SECONDS:-10} warmup=${BENCH_WARMUP:-1}
client_counts=${BENCH_CLIENTS:-1 8 32} bulk_clients=${BENCH_BULK_CLIENTS:-4} slow_us=${BENCH_SLOW_US:-2000}
receiver=${BENCH_RECEIVER:-walarchive}

# --- the outer part: build, install, then the inner part as an ordinary user ---
if [[ $inner == no ]]; then
	[[ -n $pg_config ]] || find_or_install_postgres
	user=$(ordinary_user)
	dir=${BENCH_DIR:-$(mktemp -d "${TMPDIR:-/var/tmp}/walarchive-bench.XXXXXX")}
	mkdir -p "$dir"
	[[ -z $(ls -A "$dir") ]] || die "$dir is not empty"
	mkdir "$dir/checkout" "$dir/results"
	copy_checkout "$here" "$dir/checkout"
	if [[ $(id -u) == 0 ]]; then chown -R "$user:" "$dir"; fi
	as_user() {
		if [[ $(id -u) == 0 ]]; then runuser -u "$user" -- env HOME="$dir" "$@"; else "$@"; fi
	}
	cd "$dir/checkout"
	if [[ $build == yes && $receiver == walarchive ]]; then
		command -v apt-get >/dev/null && install_packages gcc make libc6-dev libarchive-dev libzstd-dev liblz4-dev zlib1g-dev
		say "building and installing walarchive"
		quietly as_user make -s -j "$(nproc)" "PG_CONFIG=$pg_config"
		if [[ -w $("$pg_config" --pkglibdir) ]]; then
			quietly make -s "PG_CONFIG=$pg_config" install
		else
			quietly as_root make -s "PG_CONFIG=$pg_config" install
		fi
	fi
	rc=0
	as_user env "BENCH_DIR=$dir" bash "$dir/checkout/bench/run.sh" --inner --pg-config "$pg_config" "${scenarios[@]}" || rc=$?
	results=$here/bench/results/$(date +%Y%m%d-%H%M%S)
	mkdir -p "$results" && cp "$dir"/results/* "$results"/ && say "raw numbers: $results"
	if ((rc == 0)) && [[ -z ${BENCH_KEEP:-} ]]; then cd / && rm -rf "$dir"; else say "servers' folders and logs are left in $dir"; fi
	exit "$rc"
fi

# --- the inner part ---
dir=$(realpath "${BENCH_DIR:?}")
results=$dir/results
bin=$("$pg_config" --bindir)
primary_port=5801 archive_port=5802 standby_port=5803 # on sockets in a folder of our own
sockets=$(mktemp -d "${TMPDIR:-/tmp}/wabench.XXXXXX")
conninfo="host=$sockets port=$primary_port user=$(id -un) dbname=postgres"
run=0 # numbers the runs: every one has fresh names
receiver_pid=0 bulk_pid=0 slow=no

primary() { "$bin/psql" -X -q -At -v ON_ERROR_STOP=1 -h "$sockets" -p "$primary_port" -d postgres "$@"; }
archive() { "$bin/psql" -X -q -At -v ON_ERROR_STOP=1 -h "$sockets" -p "$archive_port" -d postgres "$@"; }

cleanup() {
	local rc=$? server
	trap - EXIT
	((receiver_pid == 0)) || kill "$receiver_pid" 2>/dev/null || true
	((bulk_pid == 0)) || kill "$bulk_pid" 2>/dev/null || true
	for server in primary archive standby copy behind large; do
		if [[ -e $dir/$server/postmaster.pid ]]; then "$bin/pg_ctl" -D "$dir/$server" -m immediate stop >/dev/null || true; fi
	done
	rm -rf "$sockets"
	exit "$rc"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

make_server() { # name, port, then lines of configuration
	local name=$1 port=$2
	shift 2
	"$bin/initdb" -N -A trust -E UTF8 --locale=C -D "$dir/$name" >"$dir/$name.initdb" 2>&1 || die "initdb: $(cat "$dir/$name.initdb")"
	printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$sockets'" "port = $port" \
		"autovacuum = off" "checkpoint_timeout = 1h" "max_wal_size = 200GB" "log_checkpoints = off" "$@" \
		>>"$dir/$name/postgresql.conf"
}
start_server() { # name, then what to put into its environment
	local name=$1
	shift
	env "$@" "$bin/pg_ctl" -D "$dir/$name" -l "$dir/$name.log" -w start >/dev/null || die "$name does not start: $(tail -n 20 "$dir/$name.log")"
}
stop_server() { "$bin/pg_ctl" -D "$dir/$1" -m fast -w stop >/dev/null; }

# waits for a query on the primary or the archive host to answer "t"
wait_for() { # primary or archive, query, what for
	local until=$((SECONDS + 900))
	until [[ $("$1" -c "$2") == t ]]; do
		((SECONDS < until)) || die "waited a quarter of an hour for: $3"
		sleep 0.05
	done
}
now() { echo "${EPOCHREALTIME/,/.}"; }
difference() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.3f", b - a}'; }

# what to put into the environment of a receiver that keeps its files in folder $1
disk_of() {
	[[ $slow == no ]] || printf '%s\n' "LD_PRELOAD=$dir/slow_sync.so" "WA_SLOW_SYNC_US=$slow_us" "WA_SLOW_SYNC_PATH=$1"
}
restart_archive_host() {
	local disk
	[[ $receiver == walarchive ]] || return 0
	if [[ -e $dir/archive/postmaster.pid ]]; then stop_server archive; fi
	mapfile -t disk < <(disk_of "$dir/wal")
	start_server archive "${disk[@]}"
}
# the kinds of receivers: walarchive, off (the same without an indexer), recv (pg_receivewal --synchronous), standby, local (none)
start_receiver() { # kind; sets "application"
	local disk
	run=$((run + 1))
	case $1 in
	walarchive | off)
		application=walarchive_run$run
		archive -o /dev/null -c "SELECT walarchive.add_source('run$run', '$conninfo')"
		;;
	recv)
		application=recv_run$run
		mkdir "$dir/recv"
		mapfile -t disk < <(disk_of "$dir/recv")
		primary -o /dev/null -c "SELECT pg_create_physical_replication_slot('$application', true)"
		env "${disk[@]}" "$bin/pg_receivewal" -D "$dir/recv" -S "$application" --synchronous --no-loop \
			-d "$conninfo application_name=$application" >>"$dir/recv.log" 2>&1 &
		receiver_pid=$!
		;;
	standby)
		application=standby
		start_server standby
		;;
	local)
		application=''
		return 0
		;;
	esac
	wait_for primary "SELECT count(*) = 1 FROM pg_stat_replication WHERE application_name = '$application'
		AND state = 'streaming' AND flush_lsn >= pg_current_wal_flush_lsn()" "$1 to stream"
	primary -c "ALTER SYSTEM SET synchronous_standby_names = '$application'" -c "SELECT pg_reload_conf()" >/dev/null
	wait_for primary "SELECT count(*) = 1 FROM pg_stat_replication WHERE application_name = '$application' AND sync_state = 'sync'" \
		"$1 to be the synchronous standby"
	if [[ $1 == off ]]; then without_indexers; fi
}
stop_receiver() { # kind
	primary -c "ALTER SYSTEM SET synchronous_standby_names = ''" -c "SELECT pg_reload_conf()" >/dev/null
	wait_for primary "SELECT count(*) = 0 FROM pg_stat_replication WHERE sync_state = 'sync'" "commits to be local again"
	case $1 in
	walarchive | off)
		[[ $1 == walarchive ]] || set_indexers DEFAULT
		drop_source "run$run"
		;;
	recv)
		kill -INT "$receiver_pid" || die "pg_receivewal is gone: $(tail -n 5 "$dir/recv.log")"
		wait "$receiver_pid" 2>/dev/null || true
		receiver_pid=0
		rm -rf "$dir/recv"
		wait_for primary "SELECT NOT active FROM pg_replication_slots WHERE slot_name = '$application'" "the slot to be released"
		primary -o /dev/null -c "SELECT pg_drop_replication_slot('$application')"
		;;
	standby) stop_server standby ;;
	local) ;;
	esac
}
drop_source() {
	archive -o /dev/null -c "SELECT walarchive.drop_source('$1', drop_slot => true, delete_files => true)"
	wait_for archive "SELECT count(*) = 0 FROM walarchive.source WHERE name = '$1'" "source $1 to be gone"
	rm -rf "$dir/wal/$1"
}
level() { # the same state before each run
	primary -c "TRUNCATE single, bulk" -c "CHECKPOINT"
	sync
}

# --- scenarios; each appends a line per run to a file of raw numbers: pair, kind, value ---
kind_of_ours() { if [[ $receiver == walarchive ]]; then echo walarchive; else echo "$1"; fi; }

# the order changes from pair to pair
rotate() { # pair, kinds...
	local n=$1 i
	shift
	for ((i = 0; i < $#; i++)); do
		local k=$((1 + (i + n) % $#))
		echo "${!k}"
	done
}

catchup_run() { # kind: walarchive, slot, no-sync, ours=...
	local from to disk
	run=$((run + 1))
	sync
	case $1 in
	walarchive)
		from=$(now)
		archive -o /dev/null -c "SELECT walarchive.add_source('run$run', '$conninfo', start_lsn => '$catchup_from')" -c "
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
			END \$\$"
		to=$(now)
		drop_source "run$run"
		;;
	slot | no-sync)
		primary -o /dev/null -c "SELECT pg_copy_physical_replication_slot('bench_keep', 'catchup_run$run')"
		mkdir "$dir/recv"
		mapfile -t disk < <(disk_of "$dir/recv")
		local options=(-S "catchup_run$run")
		[[ $1 == slot ]] || options+=(--no-sync)
		from=$(now)
		env "${disk[@]}" "$bin/pg_receivewal" -D "$dir/recv" "${options[@]}" --no-loop --endpos="$catchup_endpos" -d "$conninfo" \
			>>"$dir/recv.log" 2>&1 || die "pg_receivewal: $(tail -n 5 "$dir/recv.log")"
		to=$(now)
		rm -rf "$dir/recv"
		wait_for primary "SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'catchup_run$run'" "the slot to be released"
		primary -o /dev/null -c "SELECT pg_drop_replication_slot('catchup_run$run')"
		;;
	esac
	difference "$from" "$to"
}
catchup_prepare() {
	say "making $gb GB of WAL"
	level
	primary -o /dev/null -c "SELECT pg_switch_wal()" -c "CHECKPOINT" -c "SELECT pg_create_physical_replication_slot('bench_keep', true)"
	# receivers begin at the start of the slot's segment
	catchup_from=$(primary -c "SELECT '0/0'::pg_lsn + floor((restart_lsn - '0/0') / 16777216) * 16777216
		FROM pg_replication_slots WHERE slot_name = 'bench_keep'")
	until [[ $(primary -c "SELECT pg_current_wal_lsn() - '$catchup_from' >= $gb * 1024::numeric ^ 3") == t ]]; do
		primary -c "INSERT INTO bulk SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, 500000) g" -c "TRUNCATE bulk"
	done
	primary -o /dev/null -c "SELECT pg_switch_wal()" -c "INSERT INTO bulk VALUES (1, 'on the next segment')"
	catchup_to=$(primary -c "SELECT '0/0'::pg_lsn + floor((pg_current_wal_lsn() - '0/0') / 16777216) * 16777216")
	# pg_receivewal ends when it is past this, which it finds at the end of a segment
	catchup_endpos=$(primary -c "SELECT '$catchup_to'::pg_lsn - 1")
}
catchup_finish() { primary -o /dev/null -c "SELECT pg_drop_replication_slot('bench_keep')" -c "CHECKPOINT"; }
catchup() { # name of the raw file, kinds besides ours
	local file=$results/$1.raw pair kind value line ours
	shift
	ours=$(kind_of_ours slot)
	catchup_prepare
	value=$(catchup_run "$1") # not counted: brings the WAL into the page cache
	for ((pair = 1; pair <= pairs; pair++)); do
		line=
		for kind in $(rotate "$pair" ours "$@"); do
			if [[ $kind == ours ]]; then value=$(catchup_run "$ours"); else value=$(catchup_run "$kind"); fi
			run=$((run + 1)) # the one in the subshell is lost
			printf '%s %s %s\n' "$pair" "$kind" "$value" >>"$file"
			line+="  $kind $value s"
		done
		say "$(basename "$file" .raw) $pair/$pairs:$line"
	done
	catchup_finish
}

pgbench() { # clients, seconds, further options
	local clients=$1 time=$2
	shift 2
	timeout $((time + 120)) "$bin/pgbench" -n -M prepared -h "$sockets" -p "$primary_port" -f "$dir/single.sql" -c "$clients" \
		-j "$((clients < 2 ? 1 : 2))" -T "$time" "$@" postgres 2>&1
}
commit_run() { # kind, clients, bulk or alone: sets "tps" and "p999" (ms)
	local kind=$1 clients=$2 load=$3 output
	level
	start_receiver "$kind"
	if [[ $load == bulk ]]; then
		# shellcheck disable=SC2016
		(while :; do
			echo "INSERT INTO bulk SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, 500000) g;"
			echo "TRUNCATE bulk;"
		done | primary >"$dir/bulk.log" 2>&1) &
		bulk_pid=$!
		sleep 1
	fi
	((warmup == 0)) || pgbench "$clients" "$warmup" >/dev/null
	rm -f "$dir"/latency.*
	output=$(pgbench "$clients" "$seconds" -l --log-prefix="$dir/latency") || die "pgbench with $kind: $output"
	if [[ $load == bulk ]]; then
		primary -o /dev/null -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%bulk%' AND pid <> pg_backend_pid()"
		wait "$bulk_pid" 2>/dev/null || true
		bulk_pid=0
	fi
	stop_receiver "$kind"
	tps=$(sed -n 's/^tps = \([0-9.]*\).*/\1/p' <<<"$output")
	[[ -n $tps ]] || die "pgbench with $kind: $output"
	p999=$(cat "$dir"/latency.* | awk '{print $3}' | sort -n | awk '{v[NR] = $1} END {printf "%.3f", v[int((NR - 1) * 0.999) + 1] / 1000}')
}
commits() { # name of the raw files, clients, bulk or alone, kinds besides ours
	local name=$1 clients=$2 load=$3 pair kind line ours
	shift 3
	ours=$(kind_of_ours recv)
	for ((pair = 1; pair <= pairs; pair++)); do
		line=
		for kind in $(rotate "$pair" ours "$@"); do
			if [[ $kind == ours ]]; then commit_run "$ours" "$clients" "$load"; else commit_run "$kind" "$clients" "$load"; fi
			printf '%s %s %s\n' "$pair" "$kind" "$tps" >>"$results/$name.tps.raw"
			printf '%s %s %s\n' "$pair" "$kind" "$p999" >>"$results/$name.p999.raw"
			line+="  $kind ${tps%.*} tps, p99.9 $p999 ms;"
		done
		say "$name $pair/$pairs:$line"
	done
}

# shellcheck source=index.sh
source "$dir/checkout/bench/index.sh"
# shellcheck source=plan.sh
source "$dir/checkout/bench/plan.sh"
# shellcheck source=backup.sh
source "$dir/checkout/bench/backup.sh"
# shellcheck source=restore.sh
source "$dir/checkout/bench/restore.sh"
# shellcheck source=fetch.sh
source "$dir/checkout/bench/fetch.sh"

# --- the report ---
# One line: median of both and of the ratio pair by pair, its range and quartiles, and whether it is on the right side of the bar.
report() { # raw file, the other kind, label, < or >, bar (or -)
	[[ -s $results/$1.raw ]] || return 0
	awk -v other="$2" -v label="$3" -v sense="$4" -v bar="$5" -v noise="$([[ $receiver == walarchive ]] || echo noise)" '
		function sort_values(v, n,   i, j, t) {
			for (i = 2; i <= n; i++) for (j = i; j > 1 && v[j - 1] > v[j]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
		}
		function quantile(v, n, q,   at, low) {
			at = 1 + (n - 1) * q; low = int(at)
			return low >= n ? v[n] : v[low] + (at - low) * (v[low + 1] - v[low])
		}
		$2 == "ours" { ours[$1] = $3 }
		$2 == other { theirs[$1] = $3 }
		END {
			for (pair in ours) if (pair in theirs && theirs[pair] > 0) {
				n++; a[n] = ours[pair]; b[n] = theirs[pair]; r[n] = a[n] / b[n]
			}
			if (n == 0) exit
			sort_values(a, n); sort_values(b, n); sort_values(r, n)
			m = quantile(r, n, 0.5)
			if (noise != "") bar = "-"
			verdict = bar == "-" ? "" : ((sense == "<" ? m <= bar : m >= bar) ? "reached" : "MISSED")
			printf "%-46s %10.2f %10.2f %7.3f  [%.3f .. %.3f]  %.3f-%.3f %4d  %-8s %s\n", label, quantile(a, n, 0.5), quantile(b, n, 0.5),
				m, r[1], r[n], quantile(r, n, 0.25), quantile(r, n, 0.75), n, bar == "-" ? "" : sense "= " bar, verdict
		}' "$results/$1.raw"
}
report_all() {
	local clients
	printf '\n%s, %s, %s CPUs, kernel %s, file system %s\n' "$("$bin/postgres" --version)" \
		"$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" "$(uname -r)" "$(stat -f -c %T "$dir")"
	printf 'pg_test_fsync, fdatasync of one 8 kB write: %s\n' \
		"$("$bin/pg_test_fsync" -s 1 -f "$dir/fsync-test" 2>/dev/null | sed -n 's/^ *fdatasync *//p' | head -n 1)"
	[[ $receiver == walarchive ]] || echo "NOISE: pg_receivewal was run in the place of walarchive"
	printf '\n%-46s %10s %10s %7s  %s\n' "" "$receiver" other ratio "[min .. max]  quartiles  pairs  bar"
	report catchup slot "catch-up on $gb GB, pg_receivewal, s" '<' 0.33
	report catchup no-sync "catch-up on $gb GB, pg_receivewal --no-sync, s" '<' 0.75
	for clients in $client_counts; do
		report "sync$clients.tps" recv "$clients clients, pg_receivewal --synchronous, tps" '>' "$([[ $clients == 1 ]] && echo 1.00 || echo 1.10)"
		report "sync$clients.tps" standby "$clients clients, hot standby, tps" '>' 1.00
		report "sync$clients.tps" "local" "$clients clients, local commits only, tps" '>' -
	done
	report bulk.p999 recv "bulk load, pg_receivewal --synchronous, p99.9 ms" '<' 0.60
	report bulk.tps recv "bulk load, pg_receivewal --synchronous, tps" '>' -
	report slow-catchup slot "slow disk, catch-up, pg_receivewal, s" '<' 0.40
	report slow-sync32.tps recv "slow disk, 32 clients, pg_receivewal, tps" '>' 1.30
	report slow-bulk.p999 recv "slow disk, bulk load, pg_receivewal, p99.9 ms" '<' 0.50
	report slow-bulk.tps recv "slow disk, bulk load, pg_receivewal, tps" '>' -
	report_index
	report_backup
	report_restore
	report_fetch
	report_plan
}

say "making a primary$([[ $receiver == walarchive ]] && echo ", an archive host") and a standby in $dir"
make_server primary $primary_port "shared_buffers = 512MB" "min_wal_size = 2GB" "max_wal_senders = 10" "max_replication_slots = 10"
start_server primary
primary -c "CREATE TABLE single (id int, filler text)" -c "CREATE TABLE bulk (id int, filler text)"
echo "INSERT INTO single VALUES (:client_id, 'one row of a hundred bytes or so, as many applications write them, one to a transaction');" >"$dir/single.sql"
if [[ $receiver == walarchive ]]; then
	mkdir -m 700 "$dir/wal"
	make_server archive $archive_port "shared_preload_libraries = 'walarchive'" "walarchive.directory = '$dir/wal'" "max_worker_processes = 24"
	restart_archive_host
	archive -c "CREATE EXTENSION walarchive"
fi
for scenario in "${scenarios[@]}"; do
	case $scenario in
	catchup) catchup catchup slot no-sync ;;
	sync)
		"$bin/pg_basebackup" -D "$dir/standby" -R -C -S standby -c fast -d "$conninfo application_name=standby"
		sed -i "s/^port = .*/port = $standby_port/" "$dir/standby/postgresql.conf"
		for clients in $client_counts; do commits "sync$clients" "$clients" alone recv standby "local"; done
		primary -o /dev/null -c "SELECT pg_drop_replication_slot('standby')"
		rm -rf "$dir/standby"
		;;
	bulk) commits bulk "$bulk_clients" bulk recv ;;
	slow)
		"${CC:-cc}" -O2 -fPIC -shared -o "$dir/slow_sync.so" "$dir/checkout/bench/slow_sync.c" -ldl
		slow=yes
		restart_archive_host
		catchup slow-catchup slot
		commits slow-sync32 32 alone recv
		commits slow-bulk "$bulk_clients" bulk recv
		slow=no
		restart_archive_host
		;;
	decode) decode ;;
	backup) backup ;;
	index | catalog | plan | restore | fetch)
		if [[ $receiver == walarchive ]]; then "$scenario"; else say "$scenario: there is nothing to compare with"; fi
		;;
	esac
done
report_all
