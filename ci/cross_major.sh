#!/usr/bin/env bash
# An archive host of one major and primaries of another. Debian only, as root.
#
#   ci/cross_major.sh [--pg-config PATH] [--no-build] [--keep] [index] [backup] [schedule] [HOST:PRIMARY...]
#
#   HOST:PRIMARY       majors of the archive host and of the primary (default: 15:17 15:18 18:15)
#   index, backup, schedule   only these parts (default: all)
#   --pg-config PATH   of the PostgreSQL 15 that stands here (default: /usr/lib/postgresql/15/bin/pg_config)
#   --no-build         take the walarchive that is installed
#   --keep             leave the servers' folders
#
# The judges are the programs of the primary's own major: pg_walinspect and pg_waldump say what is in the WAL, record by
# record, and pg_verifybackup, pg_combinebackup and the server itself whether a backup is one.
#
# 15 is the PostgreSQL of this machine, the others are in folders made by ../shared/tools/pgroot, the ones that
# ci/matrix.sh uses. Servers listen on 127.0.0.1 and end with this script.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=ci/lib.sh
source "$here/ci/lib.sh"

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }

pg_config=/usr/lib/postgresql/15/bin/pg_config build=yes keep=no parts=() pairs=()
while (($# > 0)); do
	case $1 in
	--pg-config) pg_config=${2:?--pg-config needs a path} && shift 2 ;;
	--no-build) build=no && shift ;;
	--keep) keep=yes && shift ;;
	index | backup | schedule) parts+=("$1") && shift ;;
	1[5-8]:1[5-8]) pairs+=("$1") && shift ;;
	-h | --help) usage && exit 0 ;;
	*) usage >&2 && exit 2 ;;
	esac
done
((${#parts[@]} > 0)) || parts=(index backup schedule)
((${#pairs[@]} > 0)) || pairs=(15:17 15:18 18:15)

pgroot=${PGROOT:-$here/../shared/tools/pgroot}
roots=${WALARCHIVE_ROOTS:-/var/tmp}
[[ $(id -u) == 0 ]] || die "needs root: other PostgreSQL versions are in folders of their own"
[[ -x $pgroot ]] || die "there is no $pgroot (PGROOT names another place)"
[[ -x $pg_config ]] || die "there is no $pg_config"
here_user=$(ordinary_user)
psql=$("$pg_config" --bindir)/psql
export TZ=UTC PGTZ=UTC # pg_waldump's times and ours, compared as text

# --- nodes: "host" and "primary", and "copy", what was restored of it. Each has a major, a folder and a port. ---
declare -A major_of port_of
passed=0 failed=0 work_dirs=() nodes=() locks=()

# the folder that a major's file names begin at; nothing: the machine's own
root_of() { # major
	[[ $1 == 15 ]] || echo "$roots/pg$1"
}
bin_of() { # major
	if [[ $1 == 15 ]]; then "$pg_config" --bindir; else echo "/usr/lib/postgresql/$1/bin"; fi
}
# Runs a command where a major is at home, as the user of its servers; the folder's lock must not outlive us in a server.
at() { # major, command...
	local major=$1 lock
	shift
	(
		cd /
		for lock in "${locks[@]}"; do exec {lock}>&-; done
		if [[ $major == 15 ]]; then
			exec runuser -u "$here_user" -- env -u TMPDIR LC_ALL=C.UTF-8 "PATH=$(bin_of 15):/usr/bin:/bin" "$@"
		else
			exec "$pgroot" run "$(root_of "$major")" /usr/bin/env -u TMPDIR LC_ALL=C.UTF-8 \
				"PATH=$(bin_of "$major"):/usr/sbin:/usr/bin:/sbin:/bin" "$@"
		fi
	)
}
# the folder for a pair's servers, archives and copies, as seen by a major's own programs
declare -A work_of
make_work_dir() { # major
	local dir
	dir=$(mktemp -d "$(root_of "$1")/var/tmp/walarchive-cross.XXXXXX")
	work_dirs+=("$dir")
	work_of[$1]=${dir#"$(root_of "$1")"}
	if [[ $1 == 15 ]]; then
		chown "$here_user:" "$dir"
	else
		PGROOT_USER=root "$pgroot" run "$(root_of "$1")" /bin/chown postgres: "${work_of[$1]}"
	fi
}
# the same folder, as seen from here
outside() { # major
	echo "$(root_of "$1")${work_of[$1]}"
}

sql() { # node, psql's further arguments
	local node=$1
	shift
	"$psql" -X -q -At -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "${port_of[$node]}" -U postgres -d "${database:-postgres}" "$@"
}
value() { sql "$1" -c "$2"; } # node, query

free_port() {
	local port
	while :; do
		port=$((20000 + RANDOM % 12000))
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
	done
	echo "$port"
}
configure() { # node, then lines of configuration
	local node=$1
	shift
	port_of[$node]=$(free_port)
	{
		printf '%s\n' "listen_addresses = '127.0.0.1'" "unix_socket_directories = ''" "port = ${port_of[$node]}" "timezone = 'UTC'" \
			"fsync = off" "autovacuum = off" "max_wal_size = 4GB" "checkpoint_timeout = 1h" "$@"
	} | at "${major_of[$node]}" tee -a "${work_of[${major_of[$node]}]}/$node/postgresql.conf" >/dev/null
}
start() { # node
	local major=${major_of[$1]}
	at "$major" pg_ctl -D "${work_of[$major]}/$1" -l "${work_of[$major]}/$1.log" -t 300 -w start >/dev/null ||
		die "$1 ($major) does not start: $(tail -n 20 "$(outside "$major")/$1.log")"
}
stop() { # node, mode
	at "${major_of[$1]}" pg_ctl -D "${work_of[${major_of[$1]}]}/$1" -m "${2:-fast}" -t 300 -w stop >/dev/null
}
make_server() { # node, major, segment size in MB, then lines of configuration
	local node=$1 major=$2 segment=$3
	shift 3
	major_of[$node]=$major
	nodes+=("$node")
	at "$major" initdb -N -A trust -U postgres -E UTF8 --locale=C "--wal-segsize=$segment" -k -D "${work_of[$major]}/$node" >/dev/null
	configure "$node" "$@"
	start "$node"
}

stop_all() {
	local node
	for node in "${nodes[@]}"; do
		if [[ -e $(outside "${major_of[$node]}")/$node/postmaster.pid ]]; then stop "$node" immediate || true; fi
	done
	nodes=()
}
clean_up() {
	local dir
	stop_all
	for dir in "${work_dirs[@]}"; do
		if [[ $keep == yes ]]; then say "left: $dir"; else rm -rf "$dir"; fi
	done
	work_dirs=()
}
finish() {
	local rc=$?
	trap - EXIT
	if ((rc != 0)) && [[ -n ${major_of[host]:-} && -n ${work_of[${major_of[host]}]:-} ]]; then
		echo "--- end of the archive host's log"
		tail -n 30 "$(outside "${major_of[host]}")/host.log" || true
	fi
	clean_up
	exit "$rc"
}
trap finish EXIT
trap 'exit 130' INT TERM

wait_for() { # node, query that answers t, what for
	local until=$((SECONDS + 300))
	until [[ $(value "$1" "$2") == t ]]; do
		((SECONDS < until)) || die "waited five minutes for $3: $(value host "SELECT concat_ws(' | ', state, cause, last_error, flushed_lsn, decoded_lsn) FROM walarchive.stat_receiver")"
		sleep 0.1
	done
}

# --- verdicts ---
good() {
	passed=$((passed + 1))
	echo "ok - $*"
}
bad() {
	failed=$((failed + 1))
	echo "not ok - $*"
}
# two files of lines are the same, and there are some
same() { # what, ours, theirs
	local lines
	lines=$(wc -l <"$3")
	if ((lines > 0)) && cmp -s "$2" "$3"; then
		good "$1 ($lines)"
	else
		bad "$1 ($lines; < ours, > theirs)"
		diff "$2" "$3" | head -n 10 || true
	fi
}
is() { # what, got, wanted
	if [[ $2 == "$3" ]]; then good "$1"; else bad "$1: $2 (not: $3)"; fi
}

# shellcheck source=ci/cross_index.sh
source "$here/ci/cross_index.sh"
# shellcheck source=ci/cross_backup.sh
source "$here/ci/cross_backup.sh"
# shellcheck source=ci/cross_schedule.sh
source "$here/ci/cross_schedule.sh"

install_walarchive() { # major
	local copy
	copy=$(mktemp -d "$(root_of "$1")/var/tmp/walarchive-build.XXXXXX")
	copy_checkout "$here" "$copy"
	say "PostgreSQL $1: building and installing walarchive"
	if [[ $1 == 15 ]]; then
		quietly make -s -C "$copy" -j "$(nproc)" with_llvm=no "PG_CONFIG=$pg_config" install
	else
		PGROOT_USER=root quietly "$pgroot" run "$(root_of "$1")" /usr/bin/env -u TMPDIR PATH=/usr/sbin:/usr/bin:/sbin:/bin \
			make -s -C "${copy#"$(root_of "$1")"}" -j "$(nproc)" with_llvm=no "PG_CONFIG=/usr/lib/postgresql/$1/bin/pg_config" install
	fi
	rm -rf "$copy"
}

# what a person would unpack backups with
[[ " ${parts[*]} " != *" backup "* ]] || install_packages zstd lz4

is_built=()
for pair in "${pairs[@]}"; do
	started=$SECONDS host_major=${pair%:*} primary_major=${pair#*:}
	for major in $(printf '%s\n' "$host_major" "$primary_major" | sort -u); do
		if [[ $major != 15 ]]; then
			exec {lock}>"$(root_of "$major").lock"
			flock "$lock" # the folders are the same as those of other runs
			locks+=("$lock")
			make_root "$pgroot" "$major" "$(root_of "$major")"
		fi
		make_work_dir "$major"
	done
	if [[ $build == yes && " ${is_built[*]} " != *" $host_major "* ]]; then
		install_walarchive "$host_major"
		is_built+=("$host_major")
	fi
	for part in "${parts[@]}"; do
		say "PostgreSQL $host_major archives PostgreSQL $primary_major: $part"
		"cross_$part"
		stop_all
		for major in $(printf '%s\n' "$host_major" "$primary_major" | sort -u); do
			[[ $keep == yes ]] || find "$(outside "$major")" -mindepth 1 -delete
		done
	done
	clean_up
	for lock in "${locks[@]}"; do exec {lock}>&-; done
	locks=()
	say "$pair: $(((SECONDS - started) / 60)) min $(((SECONDS - started) % 60)) s"
done

echo "cross_major: $passed passed, $failed failed"
((failed == 0))
