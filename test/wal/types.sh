#!/usr/bin/env bash
# Records how a major's pg_waldump names all types of records, for test/unit_wal_event.c.
#
#   test/wal/types.sh BINDIR SEGMENT >test/wal/<major>/types
#
# SEGMENT is written by "test/unit_wal_event test/wal 000000010000000700000000 <major>". A line is the resource manager,
# the upper bits of xl_info, and the names: 10 80 Heap/INSERT+INIT
set -euo pipefail
bin=${1:?BINDIR} segment=${2:?SEGMENT}
{ "$bin/pg_waldump" --stats=record -p "$(dirname "$segment")" "$(basename "$segment")" 2>/dev/null || true; } | perl -ne '
	# type, number of records, their length: 26 bytes, the type and one each; commits and so on appear twice, with 0x80 and without
	my ($rmgr, $type, $n, $size) = m{^(\S+)/(.*?)\s+(\d+) \(.*?\)\s+(\d+) \(} or next;
	$id++ if defined $last && $rmgr ne $last;
	$last = $rmgr;
	my $rmid = $rmgr =~ /^custom(\d+)$/ ? $1 : $id // 0;
	my $bits = ($size - 27 * $n - ($n - 1) * 8) / $n;
	for (map { $bits + 8 * $_ } 0 .. $n - 1) {
		# of a single record it says all bits
		$type =~ s/\(\w+\)/sprintf "(%x)", $_ << 4/e;
		printf "%d %x %s/%s\n", $rmid, $_ << 4, $rmgr, $type;
	}'
