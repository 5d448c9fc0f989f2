#!/usr/bin/env bash
# Builds the fuzz targets with AddressSanitizer and UBSan, and runs each for so many seconds (60).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
seconds=${1:-60}
pg_config=${PG_CONFIG:-pg_config}
build=test/fuzz/build
mkdir -p "$build"
# shellcheck disable=SC2054
flags=(-g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -Wno-ignored-attributes -D_GNU_SOURCE -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
	"-I$("$pg_config" --includedir-server)" "-I$("$pg_config" --includedir)" "-I$("$pg_config" --includedir)/internal")
libs=("-L$("$pg_config" --pkglibdir)" "-L$("$pg_config" --libdir)" -lpgcommon -lpgport)
for target in history flat_json wal_name message wal tar manifest control; do
	if [[ $target == message ]]; then
		sources=(src/capture/protocol.c)
	else
		sources=(-DFRONTEND src/base/*.c)
	fi
	# pages of up to 8 kB need more room
	max_len=4096
	[[ $target == wal ]] && max_len=24600
	[[ $target == tar ]] && max_len=16384
	clang "${flags[@]}" -o "$build/$target" "test/fuzz/fuzz_$target.c" "${sources[@]}" "${libs[@]}"
	mkdir -p "$build/new_$target"
	"$build/$target" -max_total_time="$seconds" -max_len="$max_len" -print_final_stats=1 -artifact_prefix="$build/" \
		"$build/new_$target" "test/fuzz/corpus/$target"
done
