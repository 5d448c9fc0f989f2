#!/usr/bin/env bash
# walarchive in one minute. On a fresh Debian machine this one command is enough:
#
#   ./quickstart.sh                        an archive host and a sample primary: load, live status, the proof that
#                                          killing the primary under synchronous load loses no acknowledged commit,
#                                          and a table that was dropped, back again in a restored copy
#   ./quickstart.sh --primary CONNINFO     an archive host for a primary of yours: nothing but the replication slot
#                                          walarchive_prod is made there, nothing is loaded, and nothing is killed
#   ./quickstart.sh --clean                stops and removes what was made, and only that (packages stay)
#
#   --dir DIR          where (default: ~/walarchive-quickstart, or /var/tmp/walarchive-quickstart for root)
#   --pg-config PATH   with this PostgreSQL (default: the newest under /usr/lib/postgresql, else Debian's is installed)
#   --seconds N        how long the status is shown live (default: 10)
#
# The servers listen on a Unix socket in that folder only, and stay up afterwards, to look around.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=ci/lib.sh
source "$here/ci/lib.sh"

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }

mode=demo primary_conninfo='' pg_config='' live_seconds=10 dir='' inner=no
while (($# > 0)); do
	case $1 in
	--primary) mode=own && primary_conninfo=${2:?--primary needs a connection string} && shift 2 ;;
	--clean) mode=clean && shift ;;
	--dir) dir=${2:?--dir needs a folder} && shift 2 ;;
	--pg-config) pg_config=${2:?--pg-config needs a path} && shift 2 ;;
	--seconds) live_seconds=${2:?--seconds needs a number} && shift 2 ;;
	--inner) inner=yes && shift ;; # ours: the part that runs as an ordinary user
	-h | --help) usage && exit 0 ;;
	*) usage >&2 && exit 2 ;;
	esac
done
if [[ -z $dir ]]; then
	if [[ $(id -u) == 0 ]]; then dir=/var/tmp/walarchive-quickstart; else dir=$HOME/walarchive-quickstart; fi
fi
dir=$(realpath -m "$dir")
# what this script makes in the folder, and what --clean removes; the marker goes last
entries=(primary archive copy wal proof build socket bin primary.log archive.log load.log restore.log notes)
marker=$dir/.walarchive-quickstart
primary_port=5801 archive_port=5802 copy_port=5803

# runs a command as the owner of the folder
as_owner() {
	if [[ $(id -u) == 0 ]]; then runuser -u "$owner" -- env HOME="$dir" "$@"; else "$@"; fi
}

# Is the folder one that this script made, for this place and by its present owner?
is_ours() {
	[[ -f $marker && ! -L $marker && ! -L $dir && $(sed -n 1p "$marker") == 'made by walarchive quickstart.sh' &&
		$(sed -n 's/^folder //p' "$marker") == "$dir" && $(stat -c %u "$dir") == "$(stat -c %u "$marker")" ]]
}

# --- clean ---
if [[ $mode == clean ]]; then
	[[ -e $dir ]] || {
		say "there is no $dir: nothing to clean"
		exit 0
	}
	is_ours || die "$dir was not made by this script: not touched"
	owner=$(stat -c %U "$dir")
	[[ $(id -u) == 0 || $(id -un) == "$owner" ]] || die "$dir belongs to $owner: run this as $owner or root"
	cd /
	bin=$(sed -n 's/^bin //p' "$marker")
	if grep -q '^own primary' "$marker"; then
		say "dropping the slot walarchive_prod on the primary"
		if ! as_owner "$bin/psql" -X -q -h "$dir/socket" -p "$archive_port" -d postgres -v ON_ERROR_STOP=1 -o /dev/null \
			-c "SELECT walarchive.drop_source('prod', drop_slot => true)" -c "
			DO \$\$ BEGIN
				FOR i IN 1..150 LOOP
					EXIT WHEN NOT EXISTS (SELECT FROM walarchive.source);
					PERFORM pg_sleep(0.1);
					COMMIT;
				END LOOP;
				IF EXISTS (SELECT FROM walarchive.source) THEN RAISE 'it does not answer'; END IF;
			END \$\$"; then
			die "could not drop the slot walarchive_prod, for which the primary keeps WAL. Start the archive host, or drop the slot
       yourself (SELECT pg_drop_replication_slot('walarchive_prod')), delete the line 'own primary' from $marker, and try again"
		fi
	fi
	for server in archive primary copy; do
		if [[ -e $dir/$server/postmaster.pid ]]; then
			say "stopping the $server server"
			as_owner "$bin/pg_ctl" -D "$dir/$server" -m immediate stop >/dev/null || true
		fi
	done
	if grep -q '^installed' "$marker" && [[ -d $dir/build ]]; then
		say "removing the extension's files"
		quietly as_root make -s -C "$dir/build" "PG_CONFIG=$bin/pg_config" uninstall
	fi
	for entry in "${entries[@]}"; do rm -rf "${dir:?}/$entry"; done
	rm -f "$marker"
	rmdir "$dir" 2>/dev/null || say "$dir has files that are not from here: they are left"
	say "clean"
	exit 0
fi

# --- the outer part: packages, build, install, then the rest as an ordinary user ---
if [[ $inner == no ]]; then
	if is_ours; then die "$dir is there already: ./quickstart.sh --clean removes it"; fi
	[[ ! -e $dir ]] || die "$dir exists and was not made by this script: give another place with --dir"
	((${#dir} <= 80)) || die "the path $dir is too long for a Unix socket: give a shorter place with --dir"
	[[ -n $pg_config ]] || find_or_install_postgres
	command -v apt-get >/dev/null && install_packages gcc make libc6-dev libarchive-dev libzstd-dev liblz4-dev zlib1g-dev
	bin=$("$pg_config" --bindir)
	owner=$(ordinary_user)
	mkdir -p "${dir%/*}"
	mkdir -m 700 "$dir"
	printf '%s\n' 'made by walarchive quickstart.sh' "folder $dir" "bin $bin" >"$marker"
	mkdir "$dir/build"
	copy_checkout "$here" "$dir/build"
	# is the extension there already, it is not ours to remove
	new=no
	[[ -e $("$pg_config" --pkglibdir)/walarchive.so ]] || new=yes
	if [[ $(id -u) == 0 ]]; then chown -R "$owner:" "$dir"; fi
	say "building and installing walarchive for $("$pg_config" --version)"
	cd "$dir/build"
	quietly as_owner make -s -j "$(nproc)" "PG_CONFIG=$pg_config"
	if [[ -w $("$pg_config" --pkglibdir) ]]; then
		quietly make -s "PG_CONFIG=$pg_config" install
	else
		quietly as_root make -s "PG_CONFIG=$pg_config" install
	fi
	[[ $new == no ]] || echo installed >>"$marker"
	arguments=(--inner --dir "$dir" --pg-config "$pg_config" --seconds "$live_seconds")
	[[ $mode == demo ]] || arguments+=(--primary "$primary_conninfo")
	if [[ $(id -u) == 0 ]]; then
		exec runuser -u "$owner" -- env HOME="$dir" bash "$dir/build/quickstart.sh" "${arguments[@]}"
	fi
	exec bash "$dir/build/quickstart.sh" "${arguments[@]}"
fi

# --- the inner part ---
is_ours || die "$dir is not ours"
cd "$dir"
bin=$("$pg_config" --bindir)
umask 077
mkdir -m 700 socket wal proof

archive() { "$bin/psql" -X -q -At -v ON_ERROR_STOP=1 -h "$dir/socket" -p "$archive_port" -d postgres "$@"; }
primary() { "$bin/psql" -X -q -At -v ON_ERROR_STOP=1 -h "$dir/socket" -p "$primary_port" -d postgres "$@"; }

make_server() { # name, port, then lines of configuration
	local name=$1 port=$2
	shift 2
	"$bin/initdb" -A trust -E UTF8 --locale=C -D "$dir/$name" >"$name.log" 2>&1 || die "initdb: $(cat "$name.log")"
	printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$dir/socket'" "port = $port" "$@" >>"$name/postgresql.conf"
	start_server "$name"
}
start_server() {
	"$bin/pg_ctl" -D "$dir/$1" -l "$dir/$1.log" -w start >/dev/null 2>&1 || die "the $1 server does not start: $(tail -n 20 "$1.log")"
}
wait_for() { # primary or archive, query that is to answer "t", what for
	local until=$((SECONDS + 60))
	until [[ $("$1" -c "$2") == t ]]; do
		((SECONDS < until)) || die "waited a minute for $3. The archive host says:
$(archive -x -c 'SELECT * FROM walarchive.health' || true)
$(tail -n 20 "$dir/archive.log")"
		sleep 0.1
	done
}

# the status, drawn over itself each second if this is a terminal
show_status() { # for so many seconds
	local second text lines=0
	for ((second = 1; second <= $1; second++)); do
		text=$(archive --no-align -P format=aligned -P expanded=on -P border=0 -P tuples_only=on -c "
			SELECT s.source, s.state, s.health, s.error, s.flushed_lsn AS \"durable up to\",
				   concat_ws(', ', 'transaction ' || s.latest_commit_xid, s.latest_commit_time) AS \"latest recoverable commit\",
				   concat_ws(', ', s.lag, pg_size_pretty(s.lag_bytes)) AS behind, pg_size_pretty(r.bytes_received) AS received,
				   r.segments_completed AS \"segments finished\", s.size, s.open_gaps AS \"open gaps\"
			FROM walarchive.status s JOIN walarchive.stat_receiver r USING (source)" | sed 's/^/    /; s/[[:space:]]*$//')
		if [[ -t 1 ]]; then
			((lines == 0)) || printf '\e[%dA\e[J' "$lines"
			printf '%s\n' "$text"
			lines=$(wc -l <<<"$text")
		elif ((second % 5 == 1)); then
			printf '%s\n\n' "$text"
		fi
		sleep 1
	done
}

say "starting the archive host"
make_server archive "$archive_port" "shared_preload_libraries = 'walarchive'" "walarchive.directory = '$dir/wal'" "max_worker_processes = 24"
archive -c "CREATE EXTENSION walarchive"

if [[ $mode == own ]]; then
	say "adding your primary as the source 'prod'"
	# the connection string goes through a variable of psql, not through a shell's or SQL's quotes
	archive -v "conninfo=$primary_conninfo" -o /dev/null <<<"SELECT walarchive.add_source('prod', :'conninfo')"
	echo 'own primary' >>"$marker"
	wait_for archive "SELECT state IN ('catchup', 'streaming') FROM walarchive.stat_receiver WHERE source = 'prod'" "the first bytes"
	show_status "$live_seconds"
	cat <<EOF

Your primary's WAL is streamed into $dir/wal/prod.
To make the archive a synchronous standby, on the primary:
    ALTER SYSTEM SET synchronous_standby_names = 'walarchive_prod';  SELECT pg_reload_conf();
    (and RESET it before --clean: commits would wait for an archive that is gone)
Look around:      $bin/psql -h $dir/socket -p $archive_port -d postgres -c 'TABLE walarchive.status'
When done:        ./quickstart.sh --clean --dir $dir
EOF
	exit 0
fi

say "starting a sample primary"
make_server primary "$primary_port" "max_wal_size = 4GB"
say "adding it as the source 'prod':  SELECT walarchive.add_source('prod', 'host=$dir/socket port=$primary_port ...')"
primary -c "CREATE TABLE orders AS SELECT id, now() - id * interval '1 min' AS ordered_at FROM generate_series(1, 1000) id"
archive -o /dev/null -c "SELECT walarchive.add_source('prod', 'host=$dir/socket port=$primary_port dbname=postgres',
	relation_names_interval => '10 seconds')"
wait_for archive "SELECT state = 'streaming' FROM walarchive.stat_receiver WHERE source = 'prod'" "the archive to stream"

say "taking a base backup:  SELECT walarchive.take_backup('prod')"
backup=$(archive -c "SET client_min_messages = warning" -c "SELECT walarchive.take_backup('prod', compression => 'zstd')")
wait_for archive "SELECT state = 'usable' FROM walarchive.backup WHERE label = '$backup'" "the backup"

say "a pgbench load, and TABLE walarchive.status while it runs:"
"$bin/pgbench" -i -q -s 5 -h "$dir/socket" -p "$primary_port" postgres >load.log 2>&1
"$bin/pgbench" -c 4 -j 2 -T "$live_seconds" -h "$dir/socket" -p "$primary_port" postgres >>load.log 2>&1 &
load=$!
show_status "$live_seconds"
wait "$load" || die "pgbench failed: $(tail -n 5 load.log)"

say "making the archive a synchronous standby: no commit is acknowledged before it is durable there"
primary -o /dev/null -c "CREATE TABLE proof (id bigint GENERATED ALWAYS AS IDENTITY, client int, at timestamptz DEFAULT clock_timestamp())" \
	-c "ALTER SYSTEM SET synchronous_standby_names = 'walarchive_prod'" -c "SELECT pg_reload_conf()"
wait_for primary "SELECT count(*) = 1 FROM pg_stat_replication WHERE application_name = 'walarchive_prod' AND sync_state = 'sync'" \
	"the archive to be synchronous"
primary -P format=aligned -P tuples_only=off -P footer=off \
	-c "SELECT application_name, state, sync_state, flush_lsn FROM pg_stat_replication" | sed '/^$/d; s/^/    /'

clients=8
say "$clients clients commit, and write down the transaction id of each commit once it was acknowledged"
from_lsn=$(primary -c "SELECT pg_current_wal_insert_lsn()")
for ((client = 1; client <= clients; client++)); do
	# psql prints the row when the server has reported the end of the command, which is after the wait for the archive
	{ yes "INSERT INTO proof (client) VALUES ($client) RETURNING pg_current_xact_id(), id;" 2>/dev/null || true; } |
		primary >"proof/acknowledged.$client" 2>/dev/null &
done
sleep 4
postmaster=$(sed -n 1p primary/postmaster.pid)
mapfile -t processes < <(awk -v parent="$postmaster" '$4 == parent {print $1}' /proc/[0-9]*/stat 2>/dev/null)
say "kill -9 of the primary, all $((${#processes[@]} + 1)) processes of it, in the midst of that"
kill -9 "$postmaster" "${processes[@]}" 2>/dev/null || true
wait
for ((i = 0; i < 100; i++)); do # a new server takes a process that is dead but not yet reaped for a live one
	kill -0 "$postmaster" 2>/dev/null || break
	sleep 0.1
done
cat proof/acknowledged.* | sort -t '|' -n >proof/acknowledged
acknowledged=$(wc -l <proof/acknowledged)
((acknowledged > 0)) || die "no commit was acknowledged: see primary.log"
last=$(tail -n 1 proof/acknowledged | cut -d '|' -f 1)
say "$acknowledged commits had been acknowledged, the last one of transaction $last"

say "is it in the archive? Its WAL, read by pg_waldump from the archive's files alone:"
wal=$(find "$dir/wal/prod" -type d -name wal)
mkdir proof/wal
for file in "$wal"/*; do
	name=$(basename "$file")
	# the segment that is being written is as good as any up to where it was flushed
	if [[ ${name%.partial} =~ ^[0-9A-F]{24}$ ]]; then cp "$file" "proof/wal/${name%.partial}"; fi
done
# it ends with an error where the WAL ends
"$bin/pg_waldump" -p proof/wal -s "$from_lsn" -r Transaction >proof/records 2>proof/records.end || true
grep -E "tx: +$last, .*COMMIT" proof/records | sed 's/^/    /' || die "the COMMIT of transaction $last is NOT in the archive"
sed -nE 's/.*tx: +([0-9]+), .* COMMIT .*/\1/p' proof/records | sort >proof/archived
cut -d '|' -f 1 proof/acknowledged | sort >proof/wanted
not_there=$(comm -23 proof/wanted proof/archived | wc -l)
((not_there == 0)) || die "$not_there acknowledged commits are NOT in the archive: comm -23 $dir/proof/wanted $dir/proof/archived"
say "${bold}all $acknowledged acknowledged commits are in the archive${plain}"
wait_for archive "SELECT decoded_lsn >= flushed_lsn OR decode_lag_bytes = 0 FROM walarchive.stat_receiver WHERE source = 'prod'" "the rest to be decoded"
say "the catalog knows them as well: $(archive -c "SELECT 'the latest recoverable commit is transaction ' || latest_commit_xid FROM walarchive.status")"
say "and every byte is still right: $(archive -c "SELECT count(*) || ' damaged files' FROM walarchive.verify('prod')")"

say "starting the primary again: the archive comes back by itself"
start_server primary
wait_for archive "SELECT state = 'streaming' FROM walarchive.stat_receiver WHERE source = 'prod'" "the archive to stream again"
wait_for primary "SELECT count(*) = 1 FROM pg_stat_replication WHERE application_name = 'walarchive_prod' AND sync_state = 'sync'" \
	"the archive to be synchronous again"
primary -o /dev/null -c "INSERT INTO proof (client) VALUES (0)"
show_status 1

wait_for archive "SELECT count(*) > 0 FROM walarchive.relation_name WHERE name = 'public.orders'" "the names of relations"
orders=$(primary -c "SELECT count(*) FROM orders")
say "and now a table of $orders rows is dropped by mistake on the primary:  DROP TABLE orders"
primary -c "DROP TABLE orders"
dropped=$(primary -c "SELECT pg_current_wal_flush_lsn()")
wait_for archive "SELECT decoded_lsn >= '$dropped' OR decode_lag_bytes = 0 FROM walarchive.stat_receiver WHERE source = 'prod'" \
	"the drop to be decoded"
say "what was lost, when, and where to restore to before it:  SELECT * FROM walarchive.destructive_commits('prod')"
archive -P format=aligned -P expanded=on -P tuples_only=off -c "
	SELECT kind, relations, database, xid, xact_time, restore_before_lsn, restore_before_time
	FROM walarchive.destructive_commits('prod') WHERE kind = 'drop' ORDER BY start_lsn DESC LIMIT 1" | sed '/^$/d; s/^/    /'
before=$(archive -c "SELECT restore_before_lsn FROM walarchive.destructive_commits('prod') WHERE kind = 'drop' ORDER BY start_lsn DESC LIMIT 1")
say "where a restore to just before it will end, known before a byte is copied:  SELECT * FROM walarchive.plan_undo('prod', 'public.orders')"
archive -P format=aligned -P expanded=on -P tuples_only=off -c "
	SELECT feasible, backup, timeline_path, start_lsn, stop_lsn, last_commit_xid, last_commit_time, segments, pg_size_pretty(wal_bytes) AS wal, hint
	FROM walarchive.plan_undo('prod', 'public.orders')" | sed '/^$/d; s/^/    /'
say "the restore, in one command:  walarchive restore --source=prod --to-lsn=$before --start -D $dir/copy"
"$bin/walarchive" restore -h "$dir/socket" -p "$archive_port" -d postgres --source=prod --to-lsn="$before" --start --port="$copy_port" \
	-D "$dir/copy" >restore.log 2>&1 || die "the restore failed: $(cat restore.log)"
sed 's/^/    /' restore.log
found=$("$bin/psql" -X -q -At -v ON_ERROR_STOP=1 -h "$dir/copy" -p "$copy_port" -d postgres -c "SELECT count(*) FROM orders")
[[ $found == "$orders" ]] || die "the copy has $found rows of $orders"
say "${bold}the copy has all $found rows of the table that was dropped${plain}"

cat <<EOF

All of them are up, to look around:
    the archive host   $bin/psql -h $dir/socket -p $archive_port -d postgres     TABLE walarchive.status;  TABLE walarchive.health;  SELECT * FROM walarchive.commits('prod');
    the primary        $bin/psql -h $dir/socket -p $primary_port -d postgres
    the copy           $bin/psql -h $dir/copy -p $copy_port -d postgres
    the archive        $wal
When done:             ./quickstart.sh --clean$([[ $dir == "$HOME/walarchive-quickstart" || $dir == /var/tmp/walarchive-quickstart ]] || echo " --dir $dir")
EOF
