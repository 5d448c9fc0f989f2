# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of bench/run.sh
# The case of bench/run.sh about whole restores. Sourced by it, and uses its functions and variables.

restore_base_gb=${BENCH_RESTORE_BASE_GB:-2} restore_wal_gb=${BENCH_RESTORE_WAL_GB:-4} restore_pairs=${BENCH_RESTORE_PAIRS:-5}
restore_compression=${BENCH_RESTORE_COMPRESSION:-none}
copy_port=5804

have_pgbackrest() { command -v pgbackrest >/dev/null; }
pgbackrest_() { pgbackrest --config="$dir/pgbackrest.conf" --stanza=bench "$@" >>"$dir/pgbackrest.log" 2>&1 || die "pgbackrest $*: $(tail -n 10 "$dir/pgbackrest.log")"; }

# A database of so many GB, a backup of it by either, and so many GB of WAL after that.
restore_prepare() {
	local rows
	say "making a database of $restore_base_gb GB"
	primary -c "CREATE TABLE data (id int, random text, filler text)"
	until [[ $(primary -c "SELECT pg_relation_size('data') >= $restore_base_gb * 1024::numeric ^ 3") == t ]]; do
		rows=$(primary -c "SELECT count(*) FROM data")
		primary -c "INSERT INTO data SELECT g, md5(g::text) || md5((g + 1)::text) || md5((g + 2)::text), repeat('abcd', 24)
			FROM generate_series($rows + 1, $rows + 500000) g"
	done
	primary -c "VACUUM (FREEZE) data"
	level
	if have_pgbackrest; then
		mkdir "$dir/pgbackrest" "$dir/pgbackrest.spool"
		cat >"$dir/pgbackrest.conf" <<-CONF
			[global]
			repo1-path=$dir/pgbackrest
			repo1-retention-full=1
			log-level-file=off
			log-level-console=warn
			lock-path=$dir/pgbackrest.spool
			spool-path=$dir/pgbackrest.spool
			archive-async=y
			process-max=2
			compress-type=$([[ $restore_compression == none ]] && echo none || echo zst)
			start-fast=y
			[bench]
			pg1-path=$dir/primary
			pg1-socket-path=$sockets
			pg1-port=$primary_port
		CONF
		primary -c "ALTER SYSTEM SET archive_mode = on" \
			-c "ALTER SYSTEM SET archive_command = 'pgbackrest --config=$dir/pgbackrest.conf --stanza=bench archive-push %p'"
		stop_server primary
		start_server primary
		pgbackrest_ stanza-create
	else
		say "restore: there is no pgbackrest here to compare with"
	fi
	archive -o /dev/null -c "SELECT walarchive.add_source('restore', '$conninfo')"
	wait_for archive "SELECT count(*) = 1 FROM walarchive.stat_receiver WHERE source = 'restore' AND state = 'streaming'" "the source to stream"
	archive -o /dev/null -c "SET client_min_messages = warning" \
		-c "SELECT walarchive.take_backup('restore', label => 'base', compression => '$restore_compression')"
	if have_pgbackrest; then pgbackrest_ --type=full backup; fi

	say "making $restore_wal_gb GB of WAL"
	restore_from=$(primary -c "SELECT pg_current_wal_lsn()")
	until [[ $(primary -c "SELECT pg_current_wal_lsn() - '$restore_from' >= $restore_wal_gb * 1024::numeric ^ 3") == t ]]; do
		primary -c "INSERT INTO bulk SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, 500000) g" -c "TRUNCATE bulk"
	done
	primary -c "INSERT INTO single VALUES (1, 'the last row')" -o /dev/null -c "SELECT pg_switch_wal()"
	wait_for archive "SELECT decode_lag_bytes = 0 AND flushed_lsn >= '$(primary -c "SELECT pg_current_wal_flush_lsn()")'
		FROM walarchive.stat_receiver WHERE source = 'restore'" "the WAL to be archived and indexed"
	if have_pgbackrest; then
		wait_for primary "SELECT last_archived_wal >= pg_walfile_name('$(primary -c "SELECT pg_current_wal_flush_lsn()")'::pg_lsn - 1)
			FROM pg_stat_archiver" "pgbackrest to have it"
	fi
	restore_cluster=$(dirname "$dir"/wal/restore/*/wal)
	# what a person with cp would do: the open segment under the name that recovery asks for
	mkdir "$dir/opensegment"
	for file in "$restore_cluster"/wal/*.partial; do
		if [[ -e $file ]]; then cp "$file" "$dir/opensegment/$(basename "$file" .partial)"; fi
	done
}
copy_sql() { "$bin/psql" -X -q -At -v ON_ERROR_STOP=1 -h "$1" -p "$copy_port" -d postgres -c "$2"; }
# starts a copy that was made by others, and waits until it has recovered
start_copy() { # restore_command
	printf '%s\n' "port = $copy_port" "archive_mode = off" "restore_command = '$1'" "synchronous_standby_names = ''" >>"$dir/copy/postgresql.auto.conf"
	touch "$dir/copy/recovery.signal"
	"$bin/pg_ctl" -D "$dir/copy" -l "$dir/copy.log" -w -t 3600 start >/dev/null || die "the copy does not start: $(tail -n 20 "$dir/copy.log")"
	until [[ $(copy_sql "$sockets" "SELECT pg_is_in_recovery()" 2>/dev/null) == f ]]; do sleep 0.05; done
}
restore_run() { # ours, untar or pgbackrest; sets "value" to seconds
	local from to base
	sync
	case $1 in
	ours)
		from=$(now)
		"$bin/walarchive" restore --source=restore -h "$sockets" -p "$archive_port" -d postgres -D "$dir/copy" --start \
			--port="$copy_port" >"$dir/restore.log" 2>&1 || die "walarchive restore: $(tail -n 30 "$dir/restore.log")"
		to=$(now)
		[[ $(copy_sql "$dir/copy" "SELECT count(*) FROM single WHERE filler = 'the last row'") == 1 ]] || die "the last row is not in the copy"
		;;
	untar)
		from=$(now)
		mkdir -m 700 "$dir/copy"
		base=$(echo "$restore_cluster"/backup/base/base.tar*)
		tar -xf "$base" -C "$dir/copy"
		rm -f "$dir/copy/tablespace_map"
		start_copy "cp $restore_cluster/wal/%f %p || cp $dir/opensegment/%f %p"
		to=$(now)
		[[ $(copy_sql "$sockets" "SELECT count(*) FROM single WHERE filler = 'the last row'") == 1 ]] || die "the last row is not in the copy"
		;;
	pgbackrest)
		from=$(now)
		mkdir -m 700 "$dir/copy"
		pgbackrest_ --pg1-path="$dir/copy" --type=default restore
		start_copy "pgbackrest --config=$dir/pgbackrest.conf --stanza=bench --pg1-path=$dir/copy archive-get %f %p"
		to=$(now)
		[[ $(copy_sql "$sockets" "SELECT count(*) FROM single WHERE filler = 'the last row'") == 1 ]] || die "the last row is not in the copy"
		;;
	esac
	"$bin/pg_ctl" -D "$dir/copy" -m immediate stop >/dev/null
	rm -rf "$dir/copy" "$dir"/pgbackrest.spool/*
	value=$(difference "$from" "$to")
}
restore() {
	local pair kind line kinds=(ours untar)
	restore_prepare
	if have_pgbackrest; then kinds+=(pgbackrest); fi
	restore_run untar # not counted: brings all into the page cache, as far as it fits
	for ((pair = 1; pair <= restore_pairs; pair++)); do
		line=
		for kind in $(rotate "$pair" "${kinds[@]}"); do
			restore_run "$kind"
			printf '%s %s %s\n' "$pair" "$kind" "$value" >>"$results/restore.raw"
			line+="  $kind $value s;"
		done
		say "restore $pair/$restore_pairs:$line"
	done
	drop_source restore
	rm -rf "$dir/opensegment" "$dir/pgbackrest" "$dir/pgbackrest.spool"
	primary -c "DROP TABLE data" -c "ALTER SYSTEM RESET archive_mode" -c "ALTER SYSTEM RESET archive_command" -c "CHECKPOINT"
	stop_server primary
	start_server primary
}
report_restore() {
	report restore untar "restore, ${restore_base_gb} + ${restore_wal_gb} GB, tar and cp, s" '<' 1.05
	report restore pgbackrest "restore, ${restore_base_gb} + ${restore_wal_gb} GB, pgBackRest, s" '<' 1.00
}
