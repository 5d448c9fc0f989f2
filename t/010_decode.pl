# A team trusts what walarchive says about its WAL: which commits there are,
# when, and what they dropped.  If the decoder read one record differently from
# PostgreSQL, every answer built on it would be a lie.  So pg_waldump of the
# same major judges each record, under every kind of load and setting.  And a
# decoder that crashes over a damaged file, or takes damage for the end, would
# be worse than none.
use strict;
use warnings FATAL => 'all';

use File::Copy;
use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalDecode;

my $major = PostgreSQL::Test::Cluster->new('version')->pg_version->major;

# ---- records of all kinds ----

sub primary
{
	my ($name, $segsize, $conf) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(allows_streaming => 1, extra => ["--wal-segsize=$segsize"]);
	$node->append_conf('postgresql.conf', qq(
fsync = off
autovacuum = off
wal_keep_size = 4GB
max_wal_size = 4GB
max_prepared_transactions = 5
client_min_messages = warning
$conf));
	$node->start;
	return $node;
}

# A bit of everything.  'n' makes the names of this round.
sub load
{
	my ($node, $n) = @_;
	$node->safe_psql('postgres', qq(
		CREATE TABLE t$n (i int PRIMARY KEY, t text, s serial);
		INSERT INTO t$n SELECT i, repeat(md5(i::text), 1 + i % 80) FROM generate_series(1, 800) i;
		CREATE INDEX ON t$n USING gin (to_tsvector('simple', t));
		CREATE INDEX ON t$n USING hash (i);
		CREATE INDEX ON t$n USING brin (i);
		CREATE INDEX ON t$n USING spgist (left(t, 100));
		UPDATE t$n SET t = 'x' WHERE i % 3 = 0;
		DELETE FROM t$n WHERE i % 7 = 0;
		VACUUM t$n;
		VACUUM (FREEZE) t$n;
		VACUUM FULL t$n;
		REINDEX TABLE t$n;
		CREATE UNLOGGED TABLE u$n (i int PRIMARY KEY);
		CREATE TABLE p${n}x AS SELECT generate_series(1, 300) i;
		CREATE MATERIALIZED VIEW m$n AS SELECT i FROM p${n}x LIMIT 10;
		REFRESH MATERIALIZED VIEW m$n;
		ALTER TABLE t$n ALTER i TYPE bigint;
		CREATE TABLE p$n (i int) PARTITION BY RANGE (i);
		CREATE TABLE p${n}_1 PARTITION OF p$n FOR VALUES FROM (1) TO (10);
		BEGIN;
		INSERT INTO p$n VALUES (1);
		SAVEPOINT a;
		INSERT INTO p$n VALUES (2);
		SAVEPOINT b;
		DROP TABLE u$n;
		ROLLBACK TO a;
		INSERT INTO p$n VALUES (3);
		COMMIT;
		BEGIN;
		DROP TABLE p$n;
		SAVEPOINT c;
		DROP MATERIALIZED VIEW m$n;
		PREPARE TRANSACTION 'gone $n';
		COMMIT PREPARED 'gone $n';
		BEGIN;
		TRUNCATE t$n;
		PREPARE TRANSACTION 'kept; $n';
		ROLLBACK PREPARED 'kept; $n';
		TRUNCATE t$n RESTART IDENTITY;
		BEGIN;
		CREATE TABLE v$n (i int);
		INSERT INTO v$n VALUES (1);
		ROLLBACK;
		CREATE DATABASE d$n;
		SELECT lo_from_bytea(0, decode(repeat('ab', 20000), 'hex'));
		SELECT lo_unlink(max(oid)) FROM pg_largeobject_metadata;
		SELECT pg_create_restore_point('round $n');
		SELECT pg_logical_emit_message(true, 'prefix', repeat('y', 1300000));
		SELECT pg_logical_emit_message(false, 'prefix', 'z');
		SELECT pg_switch_wal();
		DROP DATABASE d$n;
		DROP TABLE u$n;
		CHECKPOINT;
		DROP TABLE t$n;
	));
	my @pgbench = ('pgbench', '-h', $node->host, '-p', $node->port);
	$node->command_ok([ @pgbench, '-i', '-q', '-s', 1, 'postgres' ], "pgbench is initialised ($n)");
	$node->command_ok([ @pgbench, '-n', '-c', 2, '-t', 100, 'postgres' ], "pgbench runs ($n)");
	return;
}

# Compare a server's pg_wal as a whole with pg_waldump; returns its bounds.
sub judge
{
	my ($node, $what) = @_;
	my $dir = $node->data_dir . '/pg_wal';
	my $end = $node->safe_psql('postgres', 'SELECT pg_switch_wal(); SELECT pg_current_wal_lsn()');
	$end = (split /\n/, $end)[0];
	$node->stop;
	my ($first) = wal_files($dir);
	my $size = -s "$dir/$first";
	my $start = lsn_text(hex(substr($first, 8, 8)) * 4096 * 1024 * 1024 + hex(substr($first, 16)) * $size + 40);

	my ($theirs, $e1) = output_of('pg_waldump', '-p', $dir, '-s', $start, '-e', $end);
	my ($ours, $e2, $code) = output_of('walarchive-decode', '--start', $start, '--end', $end, $dir);
	is($e2, '', "$what: no complaint");
	is($code, 0, "$what: exit code 0");
	same_records($ours, $theirs, $what);

	# the same by resource manager
	($theirs) = output_of('pg_waldump', '--stats', '-p', $dir, '-s', $start, '-e', $end);
	my ($stats) = output_of('walarchive-decode', '--format=stats', '--start', $start, '--end', $end, $dir);
	is(stats_of($stats), stats_of($theirs), "$what: statistics");

	# and each commit and abort once
	my ($xacts) = output_of('walarchive-decode', '--format=xacts', '--start', $start, '--end', $end, $dir);
	is(scalar(() = $xacts =~ /^\S+ timeline 1, (?:commit|abort)/mg),
		scalar(() = $ours =~ /, desc: (?:COMMIT|ABORT)/g), "$what: transactions");
	return ($dir, $start, $end, $size);
}

sub stats_of
{
	my ($text) = @_;
	return join("\n", map { s/\(.*?\)//gr =~ s/\s+/ /gr } grep { /^\w+ +[1-9][0-9]* +\(/ } split /\n/, $text);
}

my @compression = ('off', 'pglz');
my ($config) = output_of('pg_config', '--configure');
push @compression, 'lz4' if $config =~ /--with-lz4/;
push @compression, 'zstd' if $config =~ /--with-zstd/;

my $one = primary('one', 1, "wal_level = replica\nwal_log_hints = on\n");
my $round = 0;
for my $compression (@compression)
{
	$round++;
	my $full = $compression eq 'pglz' ? 'off' : 'on';
	$one->safe_psql('postgres', "ALTER SYSTEM SET wal_compression = $compression");
	$one->safe_psql('postgres', "ALTER SYSTEM SET full_page_writes = $full");
	$one->reload;
	$one->safe_psql('postgres', 'CHECKPOINT');
	load($one, $round);
}
my ($dir, $start, $end, $size) = judge($one, 'wal_level replica, segments of 1 MB');

my $logical = primary('logical', 16, "wal_level = logical\ntrack_commit_timestamp = on\n");
load($logical, 1);
judge($logical, 'wal_level logical, segments of 16 MB');

# ---- a record that a crash cut off ----

my $torn = primary('torn', 1, '');
$torn->safe_psql('postgres', 'CREATE TABLE filler (i int, t text)');
my ($begun, $last) = ('', '');
for (1 .. 20)
{
	$begun = $torn->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_insert_lsn())');
	$torn->safe_psql('postgres', q(SELECT pg_logical_emit_message(true, 'torn', repeat('t', 900000))));
	$last = $torn->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_insert_lsn())');
	last if $begun ne $last;
}
isnt($begun, $last, 'a record goes on in the next segment');
$torn->stop('immediate');
unlink($torn->data_dir . "/pg_wal/$last") or die "could not unlink $last: $!";
$torn->start;
$torn->safe_psql('postgres', 'INSERT INTO filler VALUES (1)');
my ($torn_dir, $torn_start, $torn_end) = judge($torn, 'a torn record');
my ($torn_lines) = output_of('walarchive-decode', '--start', $torn_start, '--end', $torn_end, $torn_dir);
like($torn_lines, qr/OVERWRITE_CONTRECORD/, 'it was overwritten');

# ---- timelines ----

my $left = primary('left', 1, '');
$left->backup('base');
my $right = PostgreSQL::Test::Cluster->new('right');
$right->init_from_backup($left, 'base', has_streaming => 1);
$right->start;
$left->safe_psql('postgres', 'CREATE TABLE a AS SELECT generate_series(1, 20000) i');
$left->wait_for_catchup($right, 'replay', $left->lsn('insert'));
$right->promote;
$left->stop;
$right->safe_psql('postgres', 'CREATE TABLE b AS SELECT generate_series(1, 20000) i');
my $newest = $right->safe_psql('postgres', 'SELECT pg_switch_wal()');
$right->stop;
my $right_dir = $right->data_dir . '/pg_wal';
my ($history) = slurp_file("$right_dir/00000002.history") =~ /^1\t(\S+)\t/m;
my ($first) = wal_files($right_dir);
my $from = lsn_text(hex(substr($first, 16)) * 1024 * 1024 + 40);
my ($parent) = output_of('pg_waldump', '-p', $left->data_dir . '/pg_wal', '-s', $from, '-e', $history);
my ($child) = output_of('pg_waldump', '-p', $right_dir, '-t', 2, '-s', $history, '-e', $newest);
my ($both, $both_err, $both_code) =
  output_of('walarchive-decode', '-s', $from, '-e', $newest, $right_dir);
same_records($both, $parent . $child, 'a path of two timelines by its history file');
is("$both_code$both_err", '0', '... without complaint');
my ($by_path) = output_of('walarchive-decode', '-p', "1:0/0,2:$history", '-s', $from, '-e', $newest, $right_dir);
is($by_path, $both, 'the same by a path');
my ($of_child) = output_of('walarchive-decode', '-f', 'xacts', '-s', $from, '-e', $newest, $right_dir);
like($of_child, qr/timeline 1, commit.*timeline 2, commit/s, 'transactions name the timeline that owns them');

# ---- the protocol: any number of pieces says the same as one ----

my $decode = WalDecode->start('--nice', 5);
is($decode->{hello}{type}, 'HELLO', 'it says hello');

sub index_in_pieces
{
	my (@points) = @_;
	my (%segment, @other, $state);
	my $at = $start =~ s/28$/00/r;
	for my $point (@points)
	{
		my @answer = $decode->ask(
			do => 'index', directory => $dir, segment_size => $size, timeline => 1,
			from => $at, to => lsn_text($point), live => 1,
			(defined $state ? (state => $state) : (resync => 1)));
		my $done = pop @answer;
		die "result $done->{result}: $done->{text}" if $done->{result} != 0;
		$at = lsn_text($done->{next_lsn});
		$state = $done->{state};
		for my $m (@answer)
		{
			if ($m->{type} ne 'SEGMENT')
			{
				push @other, "$m->{type} " . unpack('H*', $m->{body});
				next;
			}
			my $s = $segment{ $m->{segment_lsn} } //= { min_time => undef, map { $_ => 0 } qw(records commits aborts complete max_xid) };
			if ($m->{records})
			{
				$s->{first_record} //= $m->{first_record};
				$s->{last_record} = $m->{last_record};
			}
			if ($m->{commits} + $m->{aborts})
			{
				$s->{first_time} //= $m->{first_time};
				$s->{last_time} = $m->{last_time};
				$s->{min_time} = $m->{min_time} if !defined $s->{min_time} || $m->{min_time} < $s->{min_time};
				$s->{max_time} = $m->{max_time} if !defined $s->{max_time} || $m->{max_time} > $s->{max_time};
			}
			$s->{$_} += $m->{$_} for qw(records commits aborts);
			$s->{min_xid} = $m->{min_xid} if $m->{min_xid} && (!$s->{min_xid} || $m->{min_xid} < $s->{min_xid});
			$s->{max_xid} = $m->{max_xid} if $m->{max_xid} > $s->{max_xid};
			$s->{complete} = 1 if $m->{complete};
		}
	}
	my @lines = map {
		my $s = $segment{$_};
		"$_: " . join(', ', map { "$_ " . ($s->{$_} // '-') } sort keys %$s);
	} sort { $a <=> $b } keys %segment;
	return join("\n", @lines, @other, "next $at", "state $state");
}

my ($low, $high) = (lsn_number($start) - 40, lsn_number($end));
my $whole = index_in_pieces($high);
like($whole, qr/RESTORE_POINT/, 'index sends restore points');
like($whole, qr/DESTRUCTION/, '... destructions');
like($whole, qr/CHECKPOINT/, '... checkpoints');
is(scalar(() = $whole =~ /complete 1/g), ($high + $size - 1 - $low) >> 20,
	'... and completes each segment, the last one by its switch');
srand(4711);
for my $pieces (2, 7, 40, 300)
{
	my @points = sort { $a <=> $b } map { $low + int(rand($high - $low)) } 1 .. $pieces;
	is(index_in_pieces(@points, $high), $whole, "$pieces pieces say the same as one");
}

# the sums are those of pg_waldump
my ($lines) = output_of('pg_waldump', '-p', $dir, '-s', $start, '-e', $end);
my ($commits, $records) = (0, 0);
$commits += $_ for $whole =~ /, commits (\d+)/g;
$records += $_ for $whole =~ /, records (\d+)/g;
is($records, scalar(() = $lines =~ /^rmgr/mg), 'records of all segments');
is($commits, scalar(() = $lines =~ /desc: COMMIT/g), 'commits of all segments');

# ranges
my %range = (directory => $dir, segment_size => $size, path => '1:0/0', from => $start, to => $end);
my @xacts = $decode->ask(do => 'xacts', %range);
is(scalar(grep { $_->{type} eq 'XACT' } @xacts), scalar(() = $lines =~ /desc: (?:COMMIT|ABORT)/g), 'xacts sends each transaction');
ok((grep { $_->{type} eq 'XACT' && $_->{files} > 0 && length($_->{rest}) == 12 * $_->{files} + $_->{gid_len} } @xacts),
	'... with the files that it dropped');
my @records = $decode->ask(do => 'records', %range);
is(scalar(grep { $_->{type} eq 'RECORD' } @records), $records, 'records sends each record');
my @stats = $decode->ask(do => 'stats', %range);
my $counted = 0;
$counted += $_->{records} for grep { $_->{type} eq 'STATS' } @stats;
is($counted, $records, 'stats counts each record');

# a range in the middle: the first record at or after its start, the last before its end
my @starts = map { lsn_number($_) } $lines =~ /, lsn: ([^,]+),/g;
for (1 .. 20)
{
	my ($a, $b) = sort { $a <=> $b } map { $low + int(rand($high - $low)) } 1 .. 2;
	my @part = grep { $_->{type} eq 'RECORD' } $decode->ask(do => 'records', %range, from => lsn_text($a), to => lsn_text($b));
	my @wanted = grep { $_ >= $a && $_ < $b } @starts;
	ok("@{[map { $_->{start_lsn} } @part]}" eq "@wanted",
		'records from ' . lsn_text($a) . ' to ' . lsn_text($b) . ': ' . @wanted . ' and ' . @part);
}

# ... also where it begins in what a switch has left empty
my ($switch) = $lines =~ /, lsn: ([^,]+), [^\n]*desc: SWITCH/;
my $tail = (lsn_number($switch) & ~($size - 1)) + $size - 20000;
my ($next) = grep { $_ > $tail } @starts;
my ($shown) = $decode->ask(do => 'records', %range, from => lsn_text($tail));
is($shown->{start_lsn}, $next, 'the first record behind a switch');

# requests that make no sense are answered, and the next one is served
$decode->send_line('not JSON');
is($decode->message->{result}, 4, 'a line that is no JSON');
for my $bad ({ do => 'fly' }, { do => 'index' }, { do => 'index', timeline => 1, directory => $dir, segment_size => 17 },
	{ do => 'index', timeline => 1, directory => "$dir/none", segment_size => $size },
	{ do => 'xacts', directory => $dir, segment_size => $size, path => '2:0/0,1:0/0' })
{
	my ($answer) = $decode->ask(%$bad);
	is($answer->{result}, 4, "refused: $answer->{text}");
}
is(index_in_pieces($high), $whole, 'and index is served again');
is($decode->stop, 0, 'it ends with its input');

# ---- files that are not right ----

my $copy = PostgreSQL::Test::Utils::tempdir();

# The segments of $dir once more, to be damaged.
sub fresh
{
	unlink(grep { !-d } glob("$copy/*"));
	copy("$dir/$_", "$copy/$_") or die "could not copy $_: $!" for wal_files($dir);
	return;
}

sub patch
{
	my ($file, $offset, $bytes) = @_;
	open(my $fh, '+<:raw', "$copy/$file") or die "could not open $file: $!";
	seek($fh, $offset, 0);
	print $fh $bytes;
	close($fh);
	return;
}

sub complains
{
	my ($what, $re, $file) = @_;
	my ($out, $err, $code) = output_of('walarchive-decode', '--end', $end, $copy);
	like($err, $re, "$what: the file and the reason are named");
	is($code, 1, "$what: exit code 1");
	my @a = parse_lines($out);
	cmp_ok(scalar(@a), '<', $records, "$what: less than all records");
	cmp_ok(scalar(@a), '>', $records / 2, "$what: what follows is shown");
	return;
}

my @segments = wal_files($dir);

# A segment that is full of records, none of them large, and without a switch.
sub full_of_records
{
	my ($name) = @_;
	my ($from, $prev, $longest, $n) = (hex(substr($name, 16)) * $size, hex(substr($name, 16)) * $size, 0, 0);
	for my $start ((grep { $_ >= $from && $_ < $from + $size } @starts), $from + $size)
	{
		$longest = $start - $prev if $start - $prev > $longest;
		$prev = $start;
		$n++;
	}
	return $n > 100 && $longest < 50000;
}
my ($victim) = grep { full_of_records($_) } @segments[ 4 .. $#segments - 1 ];
BAIL_OUT('no segment is full of records') unless defined $victim;
fresh();
my $bytes = read_file_bytes("$copy/$victim");
# in the checksum of a record, and not in a page's header
my ($flip) = map { $_ % $size + 20 } grep { $_ >= hex(substr($victim, 16)) * $size + 300000 && $_ % 8192 <= 8192 - 24 } @starts;
patch($victim, $flip, chr(ord(substr($bytes, $flip, 1)) ^ 4));
complains('a flipped bit', qr/file "$victim": at \S+, offset \d+: \w/);

fresh();
truncate("$copy/$victim", 300000);
complains('a truncated file', qr/file "$victim": at \S+, offset 300000: has only 300000 bytes/);

fresh();
truncate("$copy/$victim", 0);
complains('an empty file', qr/file "$victim": at \S+, offset 0: is empty/);

fresh();
patch($victim, 0, join('', map { chr(int(rand(256))) } 1 .. $size));
complains('garbage', qr/file "$victim": at \S+, offset 0: /);

fresh();
open(my $more, '>>', "$copy/$victim") or die;
print $more 'x';
close($more);
complains('a file that is too long', qr/file "$victim": .*has 1048577 bytes/);

fresh();
unlink("$copy/$victim");
complains('a missing file', qr/WAL from \S+ to \S+ is not in directory/);

fresh();
copy("$copy/$segments[5]", "$copy/$victim");
complains('another segment under this name', qr/file "$victim": .*begins at/);

fresh();
patch($victim, 24, pack('Q', 42));
complains('a file of another cluster', qr/file "$victim": .*is of another cluster/);

fresh();
patch($victim, 0, pack('S', 0xD200));
complains('a first page of an unknown major', qr/file "$victim": .*D200/);

fresh();
unlink("$copy/$victim");
mkdir("$copy/$victim");
complains('a directory', qr/file "$victim": .*is a directory/);
rmdir("$copy/$victim");

fresh();
unlink("$copy/$victim");
mkfifo_or_skip("$copy/$victim") and complains('a FIFO', qr/file "$victim": .*is not a regular file/);

sub mkfifo_or_skip
{
	require POSIX;
	return POSIX::mkfifo(shift, 0600);
}

# ---- the protocol on files that are not right ----

$decode = WalDecode->start;
my $segno = hex(substr($victim, 16));
my $at = $segno * $size;
my %index = (do => 'index', directory => $copy, segment_size => $size, timeline => 1, resync => 1, live => 1,
	from => lsn_text($low), to => lsn_text($high));

sub result
{
	my (%change) = @_;
	my @answer = $decode->ask(%index, %change);
	return ($answer[-1], grep { $_->{type} eq 'DAMAGE' } @answer);
}

fresh();
patch($victim, $flip, chr(ord(substr($bytes, $flip, 1)) ^ 4));
my ($stop, $damage) = result();
is($stop->{result}, 2, 'damage ends index');
is($damage->{name}, $victim, '... names the file');
is($damage->{segment_lsn}, $at, '... its segment');
is($stop->{next_lsn}, $at + $size, '... and where to go on');
my @behind = $decode->ask(%index, from => lsn_text($stop->{next_lsn}), state => $stop->{state});
is($behind[-1]{result}, 0, 'index goes on behind it');
is(lsn_text($behind[-1]{next_lsn}), lsn_text(($high + $size - 1 & ~($size - 1))), '... to the end of the last switch');

# where every byte is looked at: no flip of a record or page header is missed
my $missed = 0;
my $tries = 60;
for my $try (1 .. $tries)
{
	fresh() if $try == 1;
	my $offset = int(rand($size));
	my $bit = 1 << int(rand(8));
	patch($victim, $offset, chr(ord(substr($bytes, $offset, 1)) ^ $bit));
	($stop) = result(from => lsn_text($at));
	my ($lost) = result(from => lsn_text($at), do => 'records', path => '1:0/0');
	$missed++ if $stop->{result} == 0 && $stop->{records} != $lost->{records};
	patch($victim, $offset, substr($bytes, $offset, 1));
	die "decoder says $stop->{result}: $stop->{text}" unless $stop->{result} == 0 || $stop->{result} == 2;
}
is($missed, 0, "index and records see the same after each of $tries flips");

fresh();
unlink("$copy/$victim");
($stop) = result();
is($stop->{result}, 1, 'a missing file ends index');
is($stop->{missing_lsn}, $at, '... and is named');
cmp_ok($stop->{next_lsn}, '<=', $at, '... and where to go on is not behind it');

# The last file of a timeline that was left: WAL ends anywhere in it.  Zeroes in
# place of zeroes cut nothing off: a record that ends in them is still whole.
my $cut = 500000;
$cut++ while substr($bytes, $cut, 1) eq "\0";
fresh();
unlink("$copy/$_") for grep { $_ gt $victim } @segments;
rename("$copy/$victim", "$copy/$victim.partial");
patch("$victim.partial", $cut, "\0" x ($size - $cut));
($stop, $damage) = result(live => 0, to => lsn_text($at + $size));
is($stop->{result}, 0, 'zeroes in a partial file are the end of the WAL');
ok(!$damage, '... and no damage');
cmp_ok($stop->{next_lsn}, '<=', $at + $cut, '... before the first of them');
my $wal_end = $stop->{next_lsn};
($stop) = result(to => lsn_text($at + $size));
is($stop->{result}, 2, 'but damage where the server had sent more');
($stop) = result(to => lsn_text($wal_end));
is("$stop->{result} $stop->{next_lsn}", "0 $wal_end", 'no byte from "to" on is looked at');

# not the end, if WAL goes on behind: half a page is zero in the middle
patch("$victim.partial", $cut, substr($bytes, $cut));
($stop) = result(live => 0, to => lsn_text($at + $size));
my $read_to = $stop->{next_lsn};
my $hole = 20;
$hole++ while substr($bytes, 8192 * $hole + 4096, 4096) !~ /[^\0]/;
patch("$victim.partial", 8192 * $hole + 4096, "\0" x 4096);
($stop, $damage) = result(live => 0, to => lsn_text($at + $size));
is($stop->{result}, 2, 'a hole in a partial file is damage');
like($damage->{text}, qr/WAL goes on at/, '... because WAL goes on behind it');
cmp_ok($read_to, '>', $at + $cut, 'without the hole all of it was read');
truncate("$copy/$victim.partial", $cut);
patch("$victim.partial", 8192 * $hole, substr($bytes, 8192 * $hole, 8192));
($stop, $damage) = result(live => 0, to => lsn_text($at + $size));
is($stop->{result}, 0, 'a short partial file is the end of the WAL');
truncate("$copy/$victim.partial", 0);
($stop, $damage) = result(live => 0, to => lsn_text($at + $size));
is($stop->{result}, 0, 'so is an empty one');

# links lead nowhere
unlink("$copy/$victim.partial");
symlink("$dir/$victim", "$copy/$victim");
($stop, $damage) = result();
like($damage->{text}, qr/symbolic link/, 'a link is not followed');
$decode->stop;

# ---- people ----

command_like([ 'walarchive-decode', '--version' ], qr/^walarchive-decode \(walarchive\) \d/, '--version');
command_like([ 'walarchive-decode', '--help' ], qr/Usage:/, '--help');
my %refused = (
	'nothing to read' => [],
	'an unknown format' => [ '--format=xml', $dir ],
	'an unknown option' => [ '--fly', $dir ],
	'no LSN' => [ '--start', 'here', $dir ],
	'no timeline' => [ '--timeline', '0', $dir ],
	'a path that goes back' => [ '--path', '2:0/0,1:0/0', $dir ],
	'an end before the start' => [ '--start', '0/2000', '--end', '0/1000', $dir ]);
for my $what (sort keys %refused)
{
	my ($out, $err, $code) = output_of('walarchive-decode', @{ $refused{$what} });
	is($code, 2, "$what: exit code 2");
	like($err, qr/^walarchive-decode: /, "$what: a message");
}
my ($out, $err, $code) = output_of('walarchive-decode', "$dir/none");
is($code, 1, 'a directory that is not there: exit code 1');
like($err, qr/could not stat/, '... and a message');
($out, $err, $code) = output_of('walarchive-decode', $PostgreSQL::Test::Utils::tmp_check);
like($err, qr/holds no WAL/, 'a directory without WAL');

# a file by itself: the records that start in it
($out, $err, $code) = output_of('walarchive-decode', "$dir/$victim");
is($code, 0, 'one file: exit code 0');
my ($their_part) = output_of('pg_waldump', '-p', $dir, '-s', lsn_text($at + 40), '-e', $end);
my @in_file = grep { my ($l) = /, lsn: ([^,]+),/; defined $l && lsn_number($l) < $at + $size } split /\n/, $their_part;
same_records($out, join("\n", @in_file), 'one file');

done_testing();
