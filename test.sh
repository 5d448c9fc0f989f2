#!/usr/bin/env bash
# Builds walarchive, installs it, and runs all of its tests. On a fresh Debian machine this one command is enough.
#
#   ./test.sh [--pg-config PATH] [--only unit|regress|tap|format|symbols]... [--jobs N] [--werror] [--keep]
#
#   --pg-config PATH   build for this PostgreSQL (default: the newest under /usr/lib/postgresql, else Debian's is installed)
#   --only WHAT        only these tests; may be given more than once
#   --jobs N           so many TAP files at a time (default: 2)
#   --werror           warnings are errors (default if CI=true)
#   --keep             keep the folder in which everything was built and run, even if all went well
#   TESTS='t/001*.pl'  in the environment: only these TAP files
#   FAULT_POINTS=no    in the environment: without those that want the module compiled once more, with fault points
#
# As root, packages that are missing are installed, and the tests run as the user postgres; otherwise sudo is used for
# what needs root. Nothing is written into the checkout: it is copied to a new folder under $TMPDIR (or /var/tmp). The
# distribution's own clusters are neither created, started nor touched.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=ci/lib.sh
source "$here/ci/lib.sh"

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }

pg_config='' only=() jobs=2 keep=no werror=no
[[ ${CI:-} == true ]] && werror=yes
while (($# > 0)); do
	case $1 in
	--pg-config) pg_config=${2:?--pg-config needs a path} && shift 2 ;;
	--only) only+=("${2:?--only needs a name}") && shift 2 ;;
	--jobs) jobs=${2:?--jobs needs a number} && shift 2 ;;
	--werror) werror=yes && shift ;;
	--keep) keep=yes && shift ;;
	-h | --help) usage && exit 0 ;;
	*) usage >&2 && exit 2 ;;
	esac
done
for what in "${only[@]}"; do
	case $what in unit | regress | tap | format | symbols) ;; *) die "--only knows unit, regress, tap, format and symbols, not $what" ;; esac
done
wanted() {
	local what
	((${#only[@]} > 0)) || return 0
	for what in "${only[@]}"; do [[ $what == "$1" ]] && return 0; done
	return 1
}

# --- packages ---
if [[ -z $pg_config ]]; then
	find_or_install_postgres
fi
[[ -x $pg_config ]] || die "there is no $pg_config"
[[ -e $("$pg_config" --pgxs) ]] || die "$pg_config belongs to a PostgreSQL without PGXS: its -dev or -devel package is missing"
if command -v apt-get >/dev/null; then
	packages=(gcc make perl libc6-dev libarchive-dev libzstd-dev liblz4-dev zlib1g-dev)
	wanted tap && packages+=(libipc-run-perl zstd lz4)
	if wanted format && [[ -n $(apt-cache policy clang-format-14 2>/dev/null) ]]; then packages+=(clang-format-14); fi
	if wanted symbols; then packages+=(binutils); fi
	install_packages "${packages[@]}"
fi

# --- a copy, owned by an ordinary user ---
user=$(ordinary_user)
work=$(mktemp -d "${TMPDIR:-/var/tmp}/walarchive-test.XXXXXX")
copy_checkout "$here" "$work"
mkdir "$work/logs"
if [[ $(id -u) == 0 ]]; then chown -R "$user:" "$work"; fi
as_user() {
	if [[ $(id -u) == 0 ]]; then
		runuser -u "$user" -- env HOME="$work" "$@"
	else
		"$@"
	fi
}
cd "$work"
say "PostgreSQL $("$pg_config" --version | cut -d' ' -f2), user $user, folder $work"

passed=0 failed=0
finish() {
	local rc=$?
	trap - EXIT
	if [[ $keep == no ]] && ((rc == 0)); then
		cd / && rm -rf "$work"
	else
		say "everything is left in $work"
	fi
	exit "$rc"
}
trap finish EXIT
trap 'exit 130' INT TERM

# --- build and install ---
make=(make -s "PG_CONFIG=$pg_config")
if [[ $werror == yes ]]; then
	# what the server's own headers are not free of is left out
	make+=("COPT=-Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers")
fi
say "building"
as_user "${make[@]}" -j "$(nproc)" >logs/build 2>&1 || {
	cat logs/build
	die "the build failed"
}
cat logs/build
pkglibdir=$("$pg_config" --pkglibdir)
say "installing into $pkglibdir"
if [[ $(id -u) != 0 && -w $pkglibdir && -w $("$pg_config" --sharedir)/extension ]]; then
	quietly "${make[@]}" install
else
	quietly as_root "${make[@]}" install
fi

# a step that is one test: its name, what it takes, and that it passed or not
step() {
	local name=$1
	shift
	say "$name"
	if as_user "$@" >"logs/$name" 2>&1; then
		tail -n 1 "logs/$name"
		passed=$((passed + 1))
	else
		cat "logs/$name"
		failed=$((failed + 1))
	fi
}

if wanted format; then
	rc=0
	say "format"
	bash ci/check_format.sh >logs/format 2>&1 || rc=$?
	tail -n 40 logs/format
	# 2: no clang-format 14 on this system
	case $rc in 0) passed=$((passed + 1)) ;; 2) say "format: skipped" ;; *) failed=$((failed + 1)) ;; esac
fi
if wanted symbols; then step symbols bash ci/check_symbols.sh; fi
if wanted unit; then step unit "${make[@]}" unitcheck; fi

if wanted regress; then
	say "regress"
	rc=0
	as_user "${make[@]}" installcheck TAP_TESTS= >logs/regress 2>&1 || rc=$?
	# 15 writes "test name ... ok", 16 and newer "ok 1 - name"
	good=$(grep -cE '^(ok |(test|    ) *[a-z_0-9]+ +\.\.\. ok)' logs/regress || true)
	bad=$(grep -cE '^(not ok |(test|    ) *[a-z_0-9]+ +\.\.\. FAILED)' logs/regress || true)
	if ((rc != 0 && bad == 0)); then bad=1; fi
	passed=$((passed + good)) failed=$((failed + bad))
	grep -E '^(ok |not ok |(test|    ) *[a-z_0-9]+ +\.\.\. )' logs/regress || true
	if ((rc != 0)); then
		if [[ -s regression.diffs ]]; then cat regression.diffs; else tail -n 40 logs/regress; fi
		if [[ -e tmp_check/regress/log/postmaster.log ]]; then
			echo "--- end of the server's log"
			tail -n 40 tmp_check/regress/log/postmaster.log
		fi
		mkdir logs/regress.d # the TAP tests clear tmp_check
		cp tmp_check/regress/log/* logs/regress.d/ 2>/dev/null || true
	fi
fi

# the end of what each failed TAP file and its servers had to say
show_tap_failures() {
	local test name log
	for test; do
		name=$(basename "$test" .pl)
		for log in "tmp_check/log/regress_log_$name" "tmp_check/log/$name"_*.log; do
			[[ -e $log ]] || continue
			echo "--- end of $log"
			case $log in *regress_log*) tail -n 60 "$log" ;; *) tail -n 25 "$log" ;; esac
		done
	done
}

if wanted tap; then
	say "tap"
	tests=()
	# shellcheck disable=SC2206 # a pattern, to be expanded
	tests=(${TESTS:-t/*.pl})
	if [[ ! -e ${tests[0]} ]]; then
		say "tap: no tests are named ${TESTS:-t/*.pl}"
		[[ -z ${TESTS:-} ]] || failed=$((failed + 1))
	else
		as_user make -s -C test/faults >logs/faults 2>&1 || {
			cat logs/faults
			die "the fault injection library does not build"
		}
		mapfile -t with_points < <(grep -l install_fault_points "${tests[@]}")
		if [[ ${FAULT_POINTS:-yes} == no ]] && ((${#with_points[@]} > 0)); then
			mapfile -t tests < <(grep -L install_fault_points "${tests[@]}")
			say "tap: without ${with_points[*]}"
		elif ((${#with_points[@]} > 0)); then
			as_user test/faults/build_points "$pg_config" >logs/points 2>&1 || {
				cat logs/points
				die "the module with fault points does not build"
			}
		fi
		rc=0
		# a condition that comes about in the end is waited for, however slow the machine is
		as_user env "PROVE_TESTS=${tests[*]}" "PG_TEST_TIMEOUT_DEFAULT=${PG_TEST_TIMEOUT_DEFAULT:-300}" "${make[@]}" installcheck REGRESS= "PROVE_FLAGS=--jobs $jobs --timer" \
			"PROVE_TESTS=${tests[*]}" 2>&1 | tee logs/tap || rc=${PIPESTATUS[0]}
		mapfile -t bad_tests < <(sed -nE 's#^(t/[^ ]+\.pl) +\((Wstat|.*Failed).*#\1#p' logs/tap | sort -u)
		bad=${#bad_tests[@]}
		if ((rc != 0 && bad == 0)); then bad=1; fi
		passed=$((passed + ${#tests[@]} - bad)) failed=$((failed + bad))
		show_tap_failures "${bad_tests[@]}"
	fi
fi

echo "$passed passed, $failed failed"
((failed == 0))
