# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of bench/run.sh
# The case of bench/run.sh about base backups. Sourced by it, and uses its functions and variables.

backup_gb=${BENCH_BACKUP_GB:-5} backup_pairs=${BENCH_BACKUP_PAIRS:-5}
backup_kinds=${BENCH_BACKUP_KINDS:-none client-lz4 client-gzip:level=1 client-zstd client-zstd:workers=2 server-zstd}

# a kind of compression as a part of a file's name
kind_name() { tr ':=,' '---' <<<"$1"; }

backup_prepare() {
	local rows
	say "making a database of $backup_gb GB"
	# half of a row compresses well, half of it hardly
	primary -c "CREATE TABLE data (id int, random text, filler text)"
	until [[ $(primary -c "SELECT pg_relation_size('data') >= $backup_gb * 1024::numeric ^ 3") == t ]]; do
		rows=$(primary -c "SELECT count(*) FROM data")
		primary -c "INSERT INTO data SELECT g, md5(g::text) || md5((g + 1)::text) || md5((g + 2)::text), repeat('abcd', 24)
			FROM generate_series($rows + 1, $rows + 1000000) g"
	done
	primary -c "VACUUM (FREEZE) data"
}
# a source for backups, with its WAL streaming
backup_source() { # sets "run"
	run=$((run + 1))
	archive -o /dev/null -c "SELECT walarchive.add_source('run$run', '$conninfo')"
	wait_for archive "SELECT count(*) = 1 FROM walarchive.stat_receiver WHERE source = 'run$run' AND state = 'streaming'" "run$run to stream"
	wait_indexed "run$run"
}
# The private memory of the backup worker, in MB, the largest that is seen, into a file.
sample_backup_worker() { # file
	local pid kb most=0 postmaster
	postmaster=$(head -n 1 "$dir/archive/postmaster.pid")
	while :; do
		for pid in $(ps -ww -o pid= -o args= --ppid "$postmaster" | sed -n 's/^ *\([0-9]*\) .*walarchive backup.*/\1/p'); do
			kb=$(awk '/^Private_|^Swap:/ {kb += $2} END {print kb + 0}' "/proc/$pid/smaps_rollup" 2>/dev/null || echo 0)
			if ((kb > most)); then
				most=$kb
				awk -v kb="$kb" 'BEGIN {printf "%.1f\n", kb / 1024}' >"$1"
			fi
		done
		sleep 0.1
	done
}
take_ours() { # source, kind of compression
	archive -o /dev/null -c "SET client_min_messages = warning" -c "SELECT walarchive.take_backup('$1', compression => '$2', manifest_checksums => 'SHA256')"
}
take_theirs() { # kind of compression
	"$bin/pg_basebackup" -D "$dir/basebackup" -F tar -X none --no-slot -c fast --compress="$1" --manifest-checksums=SHA256 -d "$conninfo" \
		>>"$dir/basebackup.log" 2>&1 || die "pg_basebackup: $(tail -n 5 "$dir/basebackup.log")"
}
backup_run() { # ours or basebackup, kind of compression; sets "value" to seconds, and "bytes"
	local from to
	level
	case $1 in
	ours)
		backup_source
		sync
		from=$(now)
		take_ours "run$run" "$2"
		to=$(now)
		bytes=$(du -sb "$dir"/wal/"run$run"/*/backup | cut -f 1)
		drop_source "run$run"
		;;
	basebackup)
		sync
		from=$(now)
		take_theirs "$2"
		to=$(now)
		bytes=$(du -sb "$dir/basebackup" | cut -f 1)
		rm -rf "$dir/basebackup"
		;;
	esac
	value=$(difference "$from" "$to")
}
# wall time and memory, for one kind of compression
backup_time() { # kind of compression
	local pair kind line name sampler ours
	name=$(kind_name "$1")
	ours=ours
	[[ $receiver == walarchive ]] || ours=basebackup
	# not counted: brings the data into the page cache, as far as they fit
	if [[ $ours == ours ]]; then
		sample_backup_worker "$dir/worker.mb" &
		sampler=$!
		backup_run ours "$1"
		kill "$sampler"
		wait "$sampler" 2>/dev/null || true
		[[ -s $dir/worker.mb ]] || die "the backup worker was not seen"
		printf '1 %s %s\n' "$name" "$(cat "$dir/worker.mb")" >>"$results/backup-memory.raw"
		rm -f "$dir/worker.mb"
	else
		backup_run basebackup "$1"
	fi
	for ((pair = 1; pair <= backup_pairs; pair++)); do
		line=
		for kind in $(rotate "$pair" ours basebackup); do
			if [[ $kind == ours ]]; then backup_run "$ours" "$1"; else backup_run "$kind" "$1"; fi
			printf '%s %s %s\n' "$pair" "$kind" "$value" >>"$results/backup-$name.raw"
			line+="  $kind $value s, $((bytes / 1048576)) MB;"
		done
		say "backup $1 $pair/$backup_pairs:$line"
	done
}
# Commits that wait for walarchive while backups are taken, one after the other, by either.
backup_commit_run() { # ours or basebackup, kind of compression; sets "tps" and "p999"
	local output source
	level
	start_receiver walarchive
	source=run$run
	wait_indexed "$source"
	rm -f "$dir/enough"
	(
		until [[ -e $dir/enough ]]; do
			if [[ $1 == ours ]]; then
				take_ours "$source" "$2"
			else
				take_theirs "$2"
				rm -rf "$dir/basebackup"
			fi
		done
	) &
	bulk_pid=$!
	sleep 1
	rm -f "$dir"/latency.*
	output=$(pgbench 8 "$seconds" -l --log-prefix="$dir/latency") || die "pgbench during $1: $output"
	touch "$dir/enough"
	wait "$bulk_pid" || die "no backup by $1"
	bulk_pid=0
	stop_receiver walarchive
	tps=$(sed -n 's/^tps = \([0-9.]*\).*/\1/p' <<<"$output")
	[[ -n $tps ]] || die "pgbench during $1: $output"
	p999=$(cat "$dir"/latency.* | awk '{print $3}' | sort -n | awk '{v[NR] = $1} END {printf "%.3f", v[int((NR - 1) * 0.999) + 1] / 1000}')
}
backup_commits() { # kind of compression
	local pair kind line name
	name=$(kind_name "$1")
	for ((pair = 1; pair <= backup_pairs; pair++)); do
		line=
		for kind in $(rotate "$pair" ours basebackup); do
			backup_commit_run "$kind" "$1"
			printf '%s %s %s\n' "$pair" "$kind" "$tps" >>"$results/backup-sync-$name.tps.raw"
			printf '%s %s %s\n' "$pair" "$kind" "$p999" >>"$results/backup-sync-$name.p999.raw"
			line+="  $kind ${tps%.*} tps, p99.9 $p999 ms;"
		done
		say "commits during backups, $1 $pair/$backup_pairs:$line"
	done
}
backup() {
	local kind
	backup_prepare
	for kind in $backup_kinds; do backup_time "$kind"; done
	if [[ $receiver == walarchive ]]; then backup_commits none; fi
	primary -c "DROP TABLE data" -c "CHECKPOINT"
}
report_backup() {
	local kind
	for kind in $backup_kinds; do
		report "backup-$(kind_name "$kind")" basebackup "backup $kind, pg_basebackup, s" '<' 1.05
	done
	report backup-sync-none.tps basebackup "8 clients during backups, pg_basebackup, tps" '>' 0.95
	report backup-sync-none.p999 basebackup "8 clients during backups, pg_basebackup, p99.9 ms" '<' -
	[[ -s $results/backup-memory.raw ]] || return 0
	printf '\n%-46s %10s  %s\n' "" median "[min .. max]  runs  bar"
	for kind in $backup_kinds; do
		report_value backup-memory "$(kind_name "$kind")" "memory of the worker, $kind, MB" 64
	done
}
