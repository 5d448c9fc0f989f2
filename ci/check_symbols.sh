#!/usr/bin/env bash
# A loaded module shares one name space with the server and all other modules: every global name of ours begins with
# wa_ or Wa, or is one that PostgreSQL asks for. To be run where the objects were built.
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"

mapfile -t objects < <(find . -name '*.o' -not -path './test/*' | sort)
((${#objects[@]} > 0)) || {
	echo "check_symbols: nothing is built here" >&2
	exit 2
}
strays=$(nm -A -g --defined-only "${objects[@]}" |
	awk '$3 !~ /^(wa_|Wa|pg_finfo_wa_)/ && $3 !~ /^(_PG_init|Pg_magic_func)$/')
if [[ -n $strays ]]; then
	printf 'check_symbols: these do not begin with wa_ or Wa:\n%s\n' "$strays" >&2
	exit 1
fi
echo "$(nm -g --defined-only "${objects[@]}" | grep -c ' [A-Z] ') global names are ours"
