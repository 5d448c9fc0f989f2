# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of bench/run.sh
# The case of bench/run.sh about the delivery of WAL to a recovery. Sourced by it, and uses its functions and variables.

fetch_gb=${BENCH_FETCH_GB:-2} fetch_pairs=${BENCH_FETCH_PAIRS:-5} fetch_delay=${BENCH_FETCH_DELAY_US:-5000}
fetch_port=5805

fetch_prepare() {
	local from
	archive -o /dev/null -c "SELECT walarchive.add_source('fetch', '$conninfo')"
	wait_for archive "SELECT count(*) = 1 FROM walarchive.stat_receiver WHERE source = 'fetch' AND state = 'streaming'" "the source to stream"
	say "making $fetch_gb GB of WAL"
	from=$(primary -c "SELECT pg_current_wal_lsn()")
	until [[ $(primary -c "SELECT pg_current_wal_lsn() - '$from' >= $fetch_gb * 1024::numeric ^ 3") == t ]]; do
		primary -c "INSERT INTO bulk SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, 500000) g" -c "TRUNCATE bulk"
	done
	primary -o /dev/null -c "SELECT pg_switch_wal()"
	wait_for archive "SELECT decode_lag_bytes = 0 AND flushed_lsn >= '$(primary -c "SELECT pg_current_wal_flush_lsn()")'
		FROM walarchive.stat_receiver WHERE source = 'fetch'" "the WAL to be archived and indexed"
	wait_for archive "SELECT count(*) = 0 FROM walarchive.segment WHERE source = 'fetch' AND state = 'finished' AND sha256 IS NULL" \
		"checksums of all of it"
	fetch_wal=$(echo "$dir"/wal/fetch/*/wal)
	(cd "$fetch_wal" && printf '%s\n' ????????????????????????) >"$dir/fetch.names"
	fetch_command="$bin/walarchive fetch --source=fetch -d postgres"
	for tool in delay_proxy fetch_loop; do
		"${CC:-cc}" -O2 -D_GNU_SOURCE -o "$dir/$tool" "$dir/checkout/bench/$tool.c"
	done
	mkdir -p "$dir/fetched/pg_wal"
	mkfifo "$dir/proxy.end"
	"$dir/delay_proxy" "$fetch_port" "$sockets/.s.PGSQL.$archive_port" "$fetch_delay" <"$dir/proxy.end" &
	exec 9>"$dir/proxy.end"
}
fetch_run() { # cp, ours, sent, directory, distant or single; sets "value" to seconds
	local command
	case $1 in
	cp) command="cp $fetch_wal/%f %p" ;;
	ours) command="$fetch_command -h $sockets -p $archive_port %f %p" ;;
	sent) command="$fetch_command -h $sockets -p $archive_port --no-local %f %p" ;;
	directory) command="$fetch_command --archive=$dir/wal %f %p" ;;
	distant) command="$fetch_command -h 127.0.0.1 -p $fetch_port %f %p" ;;
	single) command="$fetch_command -h 127.0.0.1 -p $fetch_port --no-prefetch %f %p" ;;
	esac
	sync
	value=$("$dir/fetch_loop" "$dir/fetched" "$command" <"$dir/fetch.names") || die "fetching by $1"
	rm -rf "$dir/fetched/pg_wal"
	mkdir "$dir/fetched/pg_wal"
}
fetch() {
	local pair kind other line
	fetch_prepare
	fetch_run cp # not counted: brings the files into the page cache, as far as they fit
	for ((pair = 1; pair <= fetch_pairs; pair++)); do
		line=
		for kind in $(rotate "$pair" ours cp sent directory); do
			fetch_run "$kind"
			for other in sent directory; do
				if [[ $kind == "$other" ]]; then printf '%s ours %s\n' "$pair" "$value" >>"$results/fetch-$other.raw"; fi
				if [[ $kind == cp ]]; then printf '%s cp %s\n' "$pair" "$value" >>"$results/fetch-$other.raw"; fi
			done
			printf '%s %s %s\n' "$pair" "$kind" "$value" >>"$results/fetch.raw"
			line+="  $kind $value s;"
		done
		for kind in $(rotate "$pair" distant single); do
			fetch_run "$kind"
			# as a speed, so that more is better
			printf '%s %s %s\n' "$pair" "$([[ $kind == distant ]] && echo ours || echo single)" \
				"$(awk -v s="$value" -v files="$(wc -l <"$dir/fetch.names")" 'BEGIN {printf "%.3f", files / s}')" >>"$results/fetch-distant.raw"
			line+="  $kind $value s;"
		done
		say "fetch $pair/$fetch_pairs:$line"
	done
	exec 9>&-
	drop_source fetch
	rm -rf "$dir/fetched"
}
report_fetch() {
	report fetch cp "delivery of $fetch_gb GB, cp from a local folder, s" '<' 1.00
	report fetch-sent cp "the same, all bytes sent (--no-local), s" '<' -
	report fetch-directory cp "the same, from an archive directory, s" '<' 1.00
	report fetch-distant single "$((fetch_delay / 1000)) ms away, one file at a time, files/s" '>' 5.00
}
