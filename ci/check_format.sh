#!/usr/bin/env bash
# Is every C file formatted as .clang-format says? With --fix, make it so.
set -euo pipefail
cd "$(dirname "$0")/.."

# The style is that of clang-format 14; others differ in small things.
tool=$(command -v clang-format-14 || command -v clang-format || true)
[[ -n $tool ]] || {
	echo "check_format: no clang-format-14 here" >&2
	exit 2
}
version=$("$tool" --version | sed 's/.*version \([0-9]*\).*/\1/')
[[ $version == 14 ]] || {
	echo "check_format: $tool is version $version, the style is defined by 14" >&2
	exit 2
}

mapfile -t files < <(find walarchive.c src test bench cli -type f \( -name '*.c' -o -name '*.h' \) 2>/dev/null | sort)
if [[ ${1:-} == --fix ]]; then
	exec "$tool" -i "${files[@]}"
fi
"$tool" --dry-run -Werror "${files[@]}" || {
	echo "check_format: run ci/check_format.sh --fix" >&2
	exit 1
}
echo "${#files[@]} files are formatted"
