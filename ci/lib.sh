# shellcheck shell=bash
# What test.sh, quickstart.sh and bench/run.sh have in common. Sourced, never run.

if [[ -t 2 ]]; then bold=$'\e[1m' red=$'\e[31m' plain=$'\e[0m'; else bold='' red='' plain=''; fi

# says what is being done / ends with what is wrong
say() { printf '%s==>%s %s\n' "$bold" "$plain" "$*" >&2; }
die() {
	printf '%serror:%s %s\n' "$red" "$plain" "$*" >&2
	exit 1
}

# runs a command as root
as_root() {
	if [[ $(id -u) == 0 ]]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "needs root for: $* (run this as root, or install sudo)"
	fi
}

# runs a command and shows its output only if it fails
quietly() {
	local log rc=0
	log=$(mktemp "${TMPDIR:-/tmp}/walarchive-log.XXXXXX")
	"$@" >"$log" 2>&1 || rc=$?
	if ((rc != 0)); then
		printf '%s\n' "failed: $*" >&2
		tail -n 60 "$log" >&2
	fi
	rm -f "$log"
	return "$rc"
}

# The ordinary user for servers and tests, since PostgreSQL refuses to run as root: the present one, or "postgres",
# or a system user made for this.
ordinary_user() {
	if [[ $(id -u) != 0 ]]; then
		id -un
	elif id -u postgres >/dev/null 2>&1; then
		echo postgres
	else
		id -u walarchive >/dev/null 2>&1 || useradd --system --no-create-home --shell /usr/sbin/nologin walarchive
		echo walarchive
	fi
}

# installs the Debian packages that are missing; never lets them create or start a cluster
install_packages() {
	local package missing=() switch=/etc/postgresql-common/createcluster.d/walarchive.conf rc=0
	for package; do
		[[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == *' installed' ]] || missing+=("$package")
	done
	((${#missing[@]} > 0)) || return 0
	say "installing packages: ${missing[*]}"
	as_root mkdir -p "${switch%/*}"
	echo 'create_main_cluster = false' | as_root tee "$switch" >/dev/null
	if [[ -z ${apt_is_fresh:-} ]]; then
		quietly as_root apt-get update && apt_is_fresh=yes || rc=$?
	fi
	((rc != 0)) || quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" || rc=$?
	as_root rm -f "$switch"
	((rc == 0)) || die "could not install: ${missing[*]}"
}

# The pg_config to build with: of the newest server with headers here, after installing Debian's own if there is none.
# Sets "pg_config".
find_or_install_postgres() {
	local major candidate
	pg_config=
	for candidate in /usr/lib/postgresql/*/bin/pg_config; do
		[[ -x $candidate && -x ${candidate%/*}/postgres && -e $("$candidate" --pgxs) ]] || continue
		major=$("$candidate" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
		((major >= 15)) && pg_config=$candidate
	done
	[[ -z $pg_config ]] || return 0
	command -v apt-get >/dev/null ||
		die "found no PostgreSQL server with headers; install one (15 or newer) and give its pg_config: --pg-config PATH"
	quietly as_root apt-get update || die "apt-get update failed"
	apt_is_fresh=yes
	major=$(apt-cache depends postgresql | sed -n 's/^ *Depends: postgresql-\([0-9]*\)$/\1/p' | head -n 1)
	[[ -n $major ]] || die "this system has no package named postgresql"
	((major >= 15)) || die "this system's PostgreSQL is $major; walarchive needs 15 or newer (see apt.postgresql.org)"
	install_packages "postgresql-$major" "postgresql-client-$major" "postgresql-server-dev-$major"
	pg_config=/usr/lib/postgresql/$major/bin/pg_config
}

# copies the checkout's sources, without history and build output, into a folder
copy_checkout() {
	local from=$1 to=$2
	tar -C "$from" --exclude=./.git --exclude=./tmp_check --exclude=./quickstart.d --exclude=./bench/results \
		--exclude='*.o' --exclude='*.so' --exclude='*.a' --exclude='*.bc' --exclude='./walarchive--0*.sql' --exclude=./src/decode/walarchive-decode \
		--exclude=./cli/walarchive --exclude=./cli/walarchive-client -cf - . |
		tar -C "$to" -xf -
}

# a folder of pgroot's, with the packages that walarchive and its tests need besides PostgreSQL's; one of an earlier run may
# lack some, and its package lists may have passed their date
make_root() { # pgroot, major, folder
	local pgroot=$1 major=$2 root=$3 packages=(libarchive-dev libzstd-dev liblz4-dev zlib1g-dev zstd lz4) package missing=()
	PGROOT_PACKAGES=$(IFS=,; echo "${packages[*]}") "$pgroot" make "$major" "$root"
	for package in "${packages[@]}"; do
		PGROOT_USER=root "$pgroot" run "$root" dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' || missing+=("$package")
	done
	((${#missing[@]} > 0)) || return 0
	PGROOT_USER=root "$pgroot" run "$root" apt-get -qq -o Acquire::Check-Valid-Until=false update >/dev/null 2>&1 || true
	PGROOT_USER=root "$pgroot" run "$root" /usr/bin/env DEBIAN_FRONTEND=noninteractive apt-get install -yqq --no-install-recommends \
		"${missing[@]}" >/dev/null 2>&1 || die "could not install in $root: ${missing[*]}"
}
