#!/usr/bin/env bash
# The other majors and the other compiler. Debian only, as root.
#
#   ci/matrix.sh [MAJOR...]        default: 15 17 18
#
# 15 is compiled with clang here (test.sh has run its tests, compiled with gcc). For each other major a folder with that
# PostgreSQL in it is made under $WALARCHIVE_ROOTS (default /var/tmp; kept, and used again by the next run); in it
# walarchive is compiled with clang and with gcc, without a warning, installed, and all tests run but those of the fault
# points, which walk through the same calls on every major. Then ci/cross_major.sh
# has a 15 archive primaries of these majors, and an 18 archive one of 15.
# The folders are made by ../shared/tools/pgroot beside the checkout; PGROOT names another place.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=ci/lib.sh
source "$here/ci/lib.sh"

pgroot=${PGROOT:-$here/../shared/tools/pgroot}
roots=${WALARCHIVE_ROOTS:-/var/tmp}
majors=("$@")
((${#majors[@]} > 0)) || majors=(15 17 18)
[[ $(id -u) == 0 ]] || die "needs root: it makes folders with other PostgreSQL versions in them"
[[ -x $pgroot ]] || die "there is no $pgroot (PGROOT names another place)"

# Run inside a folder, or here: compiles with the clang that this PostgreSQL was built for. The flags that PGXS passes
# are gcc's, so clang is told not to complain of those; what the server's own headers are not free of is left out.
# shellcheck disable=SC2016
clang_build='
set -euo pipefail
cd "$1"
printf "include Makefile\nprint-clang:\n\t@echo \$(CLANG)\n" >print-clang.mk
clang=$(make -s -f print-clang.mk PG_CONFIG="$2" print-clang)
make -s -j "$(nproc)" PG_CONFIG="$2" with_llvm=no CC="$clang" COPT="-Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare
	-Wno-missing-field-initializers -Wno-ignored-attributes -Wno-unknown-warning-option -Wno-ignored-optimization-argument
	-Wno-unused-command-line-argument"
echo "compiled with $clang, no warnings"'
clang_build=${clang_build//$'\n\t'/ }

failed=()
for major in "${majors[@]}"; do
	started=$SECONDS
	if [[ $major == 15 ]]; then
		say "PostgreSQL 15: compiling with clang"
		copy=$(mktemp -d "${TMPDIR:-/var/tmp}/walarchive-clang.XXXXXX")
		copy_checkout "$here" "$copy"
		bash -c "$clang_build" - "$copy" /usr/lib/postgresql/15/bin/pg_config || failed+=("15 (clang)")
		rm -rf "$copy"
		continue
	fi

	root=$roots/pg$major
	exec {lock}>"$root.lock"
	flock "$lock" # two runs on one machine take turns
	say "PostgreSQL $major: folder $root"
	make_root "$pgroot" "$major" "$root"
	copy=$(mktemp -d "$root/var/tmp/walarchive-matrix.XXXXXX")
	copy_checkout "$here" "$copy"
	inside=${copy#"$root"}
	pg_config=/usr/lib/postgresql/$major/bin/pg_config

	say "PostgreSQL $major: compiling with clang"
	cp -r "$copy" "$copy.clang"
	PGROOT_USER=root "$pgroot" run "$root" /bin/bash -c "$clang_build" - "$inside.clang" "$pg_config" || failed+=("$major (clang)")
	rm -rf "$copy.clang"

	say "PostgreSQL $major: tests"
	# the chaos runs, minutes long, are test.sh's on the first major alone; test/chaos/run does them on any
	PGROOT_USER=root "$pgroot" run "$root" /usr/bin/env -u TMPDIR PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root FAULT_POINTS=no \
		WA_CHAOS=no \
		"$inside/test.sh" --pg-config "$pg_config" --werror --only symbols --only unit --only regress --only tap ||
		failed+=("$major")
	rm -rf "$copy"
	exec {lock}>&-
	say "PostgreSQL $major: $(((SECONDS - started) / 60)) min $(((SECONDS - started) % 60)) s"
done

pairs=()
for major in "${majors[@]}"; do
	case $major in
	17) pairs+=(15:17) ;;
	18) pairs+=(15:18 18:15) ;;
	esac
done
if ((${#pairs[@]} > 0)); then
	say "one major archives another: ${pairs[*]}"
	PGROOT=$pgroot WALARCHIVE_ROOTS=$roots "$here/ci/cross_major.sh" "${pairs[@]}" || failed+=("one major by another")
fi

if ((${#failed[@]} > 0)); then
	echo "matrix: failed on $(printf '%s, ' "${failed[@]}" | sed 's/, $//')"
	exit 1
fi
echo "matrix: all well on ${majors[*]}"
