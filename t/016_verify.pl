# Disks lie, people move files, and a restore is the wrong time to learn of it.
# Whatever is done to an archived file, verify() must find it and name the file
# and the place: a flipped bit in a record, a header, padding, the tail behind a
# switch, the remains of a record that a crash cut off, a history, the checksums
# themselves; a file cut off, emptied, lengthened, removed, renamed, replaced by
# another cluster's, by a folder, a pipe or a link.  None of it may disturb
# streaming, and a verification that is cancelled keeps what it has done.
use strict;
use warnings FATAL => 'all';

use File::Copy;
use FindBin;
use lib "$FindBin::RealBin/lib";
use IPC::Open2;
use POSIX qw(mkfifo);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use WalArchive;
use WalFaults;

my $segment_size = 1024 * 1024;
my $quiet = q(
wal_keep_size = 512MB
autovacuum = off
checkpoint_timeout = 1h
max_wal_size = 1GB
);

# ---- helpers ----

my $host = new_archive_host('archive', conf => "log_min_messages = warning\n", start => 0);
start_with_faults($host);
$host->safe_psql('postgres', 'CREATE EXTENSION walarchive');

sub sql { return $host->safe_psql('postgres', $_[0]); }

# What verify() finds: a hash by file of "timeline|lsn|offset|problem".
sub verify
{
	my ($args) = @_;
	my %found;
	foreach my $line (split(/\n/, sql("SELECT * FROM walarchive.verify($args)")))
	{
		my ($file, $rest) = split(/\|/, $line, 2);
		fail("$file is named once") if exists $found{$file};
		$found{$file} = $rest;
	}
	return \%found;
}

sub bytes_at
{
	my ($path, $offset, $len) = @_;
	return substr(read_file_bytes($path), $offset, $len);
}

# Flip a bit of a byte.
sub flip
{
	my ($path, $offset, $bit) = @_;
	open(my $fh, '+<:raw', $path) or die "could not open $path: $!";
	seek($fh, $offset, 0);
	read($fh, my $byte, 1);
	seek($fh, $offset, 0);
	print $fh chr(ord($byte) ^ (1 << ($bit // 0)));
	close($fh);
	return;
}

sub name_of
{
	my ($tli, $segno) = @_;
	return sprintf('%08X%08X%08X', $tli, $segno / 4096, $segno % 4096);
}

sub segno_of { return hex(substr($_[0], 8, 8)) * 4096 + hex(substr($_[0], 16, 8)); }

sub lsn_of
{
	my ($file, $offset) = @_;
	my $lsn = segno_of($file) * $segment_size + ($offset // 0);
	return sprintf('%X/%X', $lsn >> 32, $lsn & 0xFFFFFFFF);
}

sub offset_of
{
	my ($lsn) = @_;
	return hex((split('/', $lsn))[1]) % $segment_size;
}

# Records that start in a file, as pg_waldump sees them: [offset, length].
sub records_of
{
	my ($dir, $file) = @_;
	my ($out, $err) = run_command([ 'pg_waldump', "$dir/$file" ]);
	my @records;
	foreach (split(/\n/, $out))
	{
		push @records, [ offset_of($2), $1 ] if m{len \(rec/tot\):\s*\d+/\s*(\d+), .* lsn: ([0-9A-F/]+),};
	}
	return @records;
}

# All finished files have their checksums, in the file and in the catalog.
sub wait_sums
{
	my ($source, $dir) = @_;
	wait_for("checksums of $source", sub {
		my %line = -e "$dir/../wal.sha256" ? map { $_ => 1 } slurp_file("$dir/../wal.sha256") =~ /^[0-9a-f]{64}  (\S+)\n/mg : ();
		return !grep { !$line{$_} } wal_files($dir); })
	  or BAIL_OUT("not all files of $source got checksums");
	wait_for("checksums of $source in the catalog", sub {
		sql("SELECT count(*) FROM walarchive.segment WHERE source = '$source' AND state = 'finished' AND sha256 IS NULL") eq '0' })
	  or BAIL_OUT("not all segments of $source have checksums in the catalog");
	return;
}

sub sums_agree
{
	my ($dir) = @_;
	return system("cd '$dir' && sha256sum --quiet --strict -c ../wal.sha256 >/dev/null 2>&1") == 0;
}

# Decoders that this host's upkeep workers have started, and that are stopped:
# [pid, pid of the worker].
sub stopped_decoders
{
	my %upkeep = map { $_ => 1 } worker_pids($host, 'walarchive upkeep');
	my @found;
	foreach my $path (glob('/proc/[0-9]*/stat'))
	{
		open(my $fh, '<', $path) or next;
		my $stat = <$fh>;
		close($fh);
		next unless defined $stat && $stat =~ /^(\d+) \(walarchive-deco\) T (\d+)/;
		push @found, [ $1, $2 ] if $upkeep{$2};
	}
	return @found;
}

# Start verify() in the background.  Its decoder stops before it opens the first
# of some files, and when it goes on before the next of them.  Returns session,
# pid of the decoder and of the worker.
sub start_stopped
{
	my ($args, @files) = @_;
	my $decoder;

	arm_faults($host, map("open:STOP:$_\$:1", @files));
	my $session = start_sql($host, "SELECT * FROM walarchive.verify($args)");
	wait_for('a decoder to stop', sub { ($decoder) = stopped_decoders(); $decoder || sql_done($session) });
	BAIL_OUT('verification was done without its decoder having stopped') unless $decoder;
	# (each decoder counts for itself: the next one is not to stop)
	disarm_faults($host) if @files == 1;
	wait_for('progress', sub {
		sql("SELECT count(*) FROM walarchive.stat_progress_verify WHERE phase = 'verifying segments' AND files_done < files_total") eq '1' })
	  or BAIL_OUT('verification shows no progress');
	return ($session, @$decoder);
}

# ---- an archive with all there is: two timelines, switches, records that go on
# in the next file, the remains of one that a crash cut off ----

my $primary = new_primary('primary', conf => $quiet);
my $standby = PostgreSQL::Test::Cluster->new('standby');
my $other = new_primary('other', conf => $quiet);

# WAL of a certain length, and a commit behind it: without one nobody says when
# the server flushes the rest of it.
sub message
{
	my ($node, $kb) = @_;
	$node->safe_psql('postgres', "SELECT pg_logical_emit_message(false, 'test', string_agg(md5(i::text), '')) FROM generate_series(1, $kb * 32) i; "
			. q(SELECT pg_logical_emit_message(true, 'test', 'flush')));
	return;
}

add_source($host, 'other', $other);
add_source($host, 'prod', $primary, conninfo => one_of($primary, $standby));
my $dir = wal_dir($host, 'prod');

$primary->safe_psql('postgres', 'CREATE TABLE t AS SELECT i, md5(i::text) AS m FROM generate_series(1, 30000) i');
message($primary, 500) for 1 .. 12;
switch_wal($primary, 2);

# As in PostgreSQL's own test of overwritten records: a record goes on in the
# next segment, the server crashes, and that segment is lost.
wait_archived($host, 'prod', $primary);
sql("SELECT walarchive.pause_source('prod')");
wait_state($host, 'prod', 'paused');
switch_wal($primary, 1);
message($primary, 700);
my $torn = $primary->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_insert_lsn())');
my $torn_from = $primary->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
message($primary, 700);
my $lost = $primary->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_insert_lsn())');
isnt($lost, $torn, 'a record goes on in the next segment');
$primary->stop('immediate');
unlink($primary->data_dir . "/pg_wal/$lost") or die "could not remove $lost: $!";
$primary->start;
like(slurp_file($primary->logfile), qr/redo done/, 'the primary recovered');
sql("SELECT walarchive.resume_source('prod')");
wait_streaming($host, 'prod');
switch_wal($primary, 1);
wait_archived($host, 'prod', $primary);

$primary->backup('base');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
# in a segment of its own, which the standby's timeline leaves
switch_wal($primary, 1);
message($primary, 300);
my $flushed = wait_archived($host, 'prod', $primary);
wait_for('the standby to follow', sub {
	$standby->safe_psql('postgres', "SELECT pg_last_wal_replay_lsn() >= '$flushed'") eq 't' });
$primary->stop('immediate');
$standby->promote;
wait_timeline($host, 'prod', 2);
# what is archived is to be what is said below, and no more
hold_snapshots($_) for $standby, $other;
message($standby, 500) for 1 .. 20;
switch_wal($standby, 3);
wait_archived($host, 'prod', $standby);
switch_wal($other, 2);
wait_archived($host, 'other', $other);

# ---- checksums ----

wait_sums('prod', $dir);
wait_sums('other', wal_dir($host, 'other'));
ok(sums_agree($dir), 'sha256sum agrees with wal.sha256');
is(sql("SELECT count(*) FROM walarchive.segment s WHERE source = 'prod' AND state = 'finished' AND encode(sha256, 'hex') <> "
		. "(SELECT l[1] FROM regexp_matches(pg_read_file('$dir/../wal.sha256'), '([0-9a-f]{64})  ' || s.name) l)"),
	'0', 'and the catalog with both');
like(slurp_file("$dir/../wal.sha256"), qr/^[0-9a-f]{64}  00000002\.history$/m, 'the history has one');
unlike(slurp_file("$dir/../wal.sha256"), qr/partial/, 'partial segments have none');

# ---- all is well ----

is_deeply(verify("'prod'"), {}, 'a whole archive: nothing is found');
is_deeply(verify("'other'"), {}, 'and another');
ok(wait_for('health', sub { sql(q(SELECT severity, message ~ 'read again after' FROM walarchive.health WHERE source = 'prod' AND "check" = 'damage')) eq
	'ok|t' }), 'health says when it was verified');
is(sql("SELECT count(*) FROM walarchive.segment WHERE source = 'prod' AND verified_at IS NULL AND (state = 'finished' OR timeline = 1)"), '0',
	'each segment says it, too');
is(sql("SELECT files > 20, bytes > 20 * 1048576, damaged FROM walarchive.verification WHERE source = 'prod'"),
	't|t|0', 'what was read');
is(sql('SELECT count(*) FROM walarchive.stat_progress_verify'), '0', 'no progress is shown any more');

# ---- whatever is done to a file ----
# (the indexer would enter in the catalog what it meets meanwhile)

sub set_indexers
{
	my ($number) = @_;
	$host->safe_psql('postgres', "ALTER SYSTEM SET walarchive.max_indexers = $number");
	$host->reload;
	wait_setting($host, 'walarchive.max_indexers', $number);
	return if $number > 0;
	# the launcher may be about to start one all the same
	my $absent = 0;
	wait_for('the indexers to leave', sub {
		$absent = worker_pids($host, 'walarchive indexer') == 0 ? $absent + 1 : 0;
		return $absent >= 20; })
	  or BAIL_OUT('indexers do not leave');
	return;
}
set_indexers(0);

my @files = grep { /^[0-9A-F]{24}$/ } wal_files($dir);
my @second = grep { /^00000002/ } @files;
my ($partial) = grep { /^00000001.*partial/ } wal_files($dir, partial => 1);
BAIL_OUT('the first timeline does not end within a segment') unless defined $partial;
my $keep = PostgreSQL::Test::Utils::tempdir();
system_or_bail('cp', '-a', "$dir/.", $keep);
system_or_bail('cp', '-a', "$dir/../wal.sha256", "$keep/../wal.sha256.kept");

# Put one file (or all of them) back as it was.
sub repair
{
	foreach my $name (@_)
	{
		if ($name eq 'wal.sha256')
		{
			system_or_bail('cp', '-a', "$keep/../wal.sha256.kept", "$dir/../wal.sha256");
			next;
		}
		system_or_bail('rm', '-rf', "$dir/$name");
		system_or_bail('cp', '-a', "$keep/$name", "$dir/$name");
	}
	return;
}

my $victim = $second[8];
my @records = records_of($dir, $victim);
# one in the middle of the file, long enough to have data, in the middle of a page
my ($record) = grep { $_->[0] > 300000 && $_->[1] >= 60 && $_->[0] % 8192 < 8192 - 60 } @records;
BAIL_OUT("no record of $victim will do") unless defined $record;
my $page = 8192 * 5;
# a record whose length is not a multiple of 8, that does not end at a page's end
my ($padded_file, $padded);
foreach my $file (@files)
{
	($padded) = grep { $_->[1] % 8 != 0 && $_->[1] < 1000 && $_->[0] % 8192 > 100 && $_->[0] % 8192 < 6000 } records_of($dir, $file);
	$padded_file = $file;
	last if $padded;
}
my $switched = $second[-1];
my $aborted_offset = offset_of($torn_from) + 5000;
# (not in a page's header)
$aborted_offset += 24 if $aborted_offset % 8192 < 24;
my ($foreign) = grep { /^[0-9A-F]{24}$/ } wal_files(wal_dir($host, 'other'));

my @cases = (
	[ 'a record', $victim, sub { flip("$dir/$_[0]", $record->[0] + 30) },
		qr/^2\|\Q@{[ lsn_of($victim, $record->[0]) ]}\E\|$record->[0]\|record has a wrong checksum/ ],
	[ 'a page header', $victim, sub { flip("$dir/$_[0]", $page + 9) },
		qr/^2\|\Q@{[ lsn_of($victim, $page + 8) ]}\E\|@{[ $page + 8 ]}\|/ ],
	[ "a page's timeline", $victim, sub { flip("$dir/$_[0]", $page + 4) },
		qr/^2\|[0-9A-F\/]+\|4096\d\|/ ],
	[ 'the padding behind a record', $padded_file, sub { flip("$dir/$_[0]", $padded->[0] + $padded->[1]) },
		qr/\|@{[ $padded->[0] + $padded->[1] ]}\|/ ],
	[ 'the tail behind a switch', $switched, sub { flip("$dir/$_[0]", $segment_size - 100) },
		qr/^2\|\Q@{[ lsn_of($switched, $segment_size - 100) ]}\E\|@{[ $segment_size - 100 ]}\|/ ],
	[ 'what a crash left of a record', $torn, sub { flip("$dir/$_[0]", $aborted_offset) },
		qr/^1\|\|\|its SHA-256 differs/ ],
	[ 'the system identifier', $victim, sub { flip("$dir/$_[0]", 24) }, qr/^2\|[^|]*\|24\|.*system identifier/ ],
	[ 'the magic', $victim, sub { flip("$dir/$_[0]", 1, 5) }, qr/^2\|/ ],
	[ 'a history', '00000002.history', sub { flip("$dir/$_[0]", 4, 1) }, qr/^2\|\|/ ],
	[ "a history's reason", '00000002.history', sub { flip("$dir/$_[0]", (-s "$dir/$_[0]") - 3) }, qr/^2\|\|\|.*SHA-256/ ],
	[ 'the checksums', 'wal.sha256', sub { flip("$dir/../wal.sha256", 200) }, qr/^\|\|\d+\|/ ],
	[ 'the name in a line of the checksums', 'wal.sha256', sub { flip("$dir/../wal.sha256", 88) }, qr/^\|\|0\|/ ],
	[ 'a partial segment of a timeline that was left', $partial, sub { flip("$dir/$_[0]", 100000) },
		qr/^1\|[0-9A-F\/]+\|\d+\|/ ],
	[ 'truncated', $victim, sub { truncate("$dir/$_[0]", 54321) },
		qr/^2\|\Q@{[ lsn_of($victim, 54321) ]}\E\|54321\|is cut off/ ],
	[ 'emptied', $victim, sub { truncate("$dir/$_[0]", 0) }, qr/^2\|.*\|0\|is empty/ ],
	[ 'lengthened', $victim, sub { append_to_file("$dir/$_[0]", 'x') }, qr/^2\|[^|]*\|$segment_size\|has 1048577 bytes/ ],
	[ 'a history emptied', '00000002.history', sub { truncate("$dir/$_[0]", 0) }, qr/^2\|\|.*empty/ ],
	[ 'removed', $victim, sub { unlink("$dir/$_[0]") }, qr/^2\|\Q@{[ lsn_of($victim) ]}\E\|\|is missing/ ],
	[ 'the first segment removed', $files[0], sub { unlink("$dir/$_[0]") }, qr/^1\|.*is missing/ ],
	[ 'the last segment of a timeline removed', $second[-1], sub { unlink("$dir/$_[0]") }, qr/^2\|.*is missing/ ],
	[ 'a history removed', '00000002.history', sub { unlink("$dir/$_[0]") }, qr/^2\|\|\|is missing/ ],
	[ 'zeroes', $victim, sub { open(my $fh, '>', "$dir/$_[0]"); truncate($fh, $segment_size) }, qr/^2\|[^|]*\|0\|/ ],
	[ "another cluster's file", $victim, sub { copy(wal_dir($host, 'other') . "/$foreign", "$dir/$_[0]") }, qr/^2\|.*system identifier/ ],
	[ "another segment's bytes", $victim, sub { copy("$dir/$second[9]", "$dir/$_[0]") }, qr/^2\|.*holds the segment that starts at/ ],
	[ "the parent's file", $victim, sub { copy("$dir/$files[2]", "$dir/$_[0]") }, qr/^2\|/ ],
	[ 'a folder', $victim, sub { unlink("$dir/$_[0]"); mkdir("$dir/$_[0]") }, qr/^2\|\|\|is a directory/ ],
	[ 'a pipe', $victim, sub { unlink("$dir/$_[0]"); mkfifo("$dir/$_[0]", 0600) }, qr/^2\|\|\|is not a regular file/ ],
	[ 'a link', $victim, sub { unlink("$dir/$_[0]"); symlink("$keep/$_[0]", "$dir/$_[0]") }, qr/^2\|\|\|is a symbolic link/ ],
	[ 'a pipe for a history', '00000002.history', sub { unlink("$dir/$_[0]"); mkfifo("$dir/$_[0]", 0600) }, qr/^2\|\|\|is not a regular file/ ],
);
foreach my $case (@cases)
{
	my ($what, $file, $damage, $expected) = @$case;

	$damage->($file);
	my $found = verify("'prod'");
	my $rest = delete $found->{$file};
	like($rest // 'nothing', $expected, "$what: found at the right place");
	is_deeply($found, {}, "$what: and nothing else");
	repair($file);
}

# a file that is renamed is missing, and the new name a stranger
rename("$dir/$victim", "$dir/my.copy") or die $!;
my ($rc, $out, $err) = $host->psql('postgres', q(SELECT * FROM walarchive.verify('prod')));
like($out, qr/^$victim\|2\|[^|]*\|\|is missing$/, 'renamed: it is missing');
like($err, qr/NOTICE: .*my\.copy/, 'and its new name is told');
rename("$dir/my.copy", "$dir/$victim") or die $!;
# or to another segment's name
rename("$dir/$second[-1]", "$dir/" . name_of(2, segno_of($second[-1]) + 100)) or die $!;
my $found = verify("'prod'");
like($found->{ $second[-1] } // '', qr/is missing/, 'renamed to another segment: it is missing');
like($found->{ name_of(2, segno_of($second[-1]) + 100) } // '', qr/holds the segment that starts at/, 'and does not pass for the other');
unlink("$dir/" . name_of(2, segno_of($second[-1]) + 100));
repair($second[-1]);

is_deeply(verify("'prod'"), {}, 'repaired: nothing is found any more');
is(sql("SELECT count(*) FROM walarchive.damage"), '0', 'no damage is noted');
is(sql("SELECT count(*) FROM walarchive.segment WHERE damage IS NOT NULL"), '0', 'at no segment either');
set_indexers(2);

# ---- what is said about it, and what goes on meanwhile ----

flip("$dir/$victim", $record->[0] + 30);
unlink("$dir/$files[1]");
verify("'prod'");
is(sql(q(SELECT severity, message FROM walarchive.health WHERE source = 'prod' AND "check" = 'damage')),
	"critical|2 damaged file(s) in the archive: $files[1], $victim", 'health names the files');
is(sql(q(SELECT severity FROM walarchive.health WHERE source = 'other' AND "check" = 'damage')), 'ok', 'other sources are well');
is(sql("SELECT damage_lsn, damage_offset, damage FROM walarchive.segment WHERE source = 'prod' AND name = '$victim'"),
	lsn_of($victim, $record->[0]) . "|$record->[0]|record has a wrong checksum", 'the segment says where');
my @told = map { $_->{message} } journal_lines($host, 'prod', 'damage');
verify("'prod'");
is(join("\n", map { $_->{message} } journal_lines($host, 'prod', 'damage')), join("\n", @told), 'what is known already is no event');
ok(wait_event($host, 'prod', 'damage', scalar(@told)), 'the catalog has the events');
is(sql("SELECT count(*) FROM walarchive.event WHERE source = 'prod' AND kind = 'damage'"), scalar(@told), 'and no others');
ok((grep { $_->{message} =~ /$victim: record has a wrong checksum/ && $_->{severity} eq 'critical' } journal_lines($host, 'prod', 'damage')),
	'the journal has it');
message($standby, 100);
wait_archived($host, 'prod', $standby);
is(stat_of($host, 'prod', 'state'), 'streaming', 'streaming goes on');
repair($victim, $files[1]);
is_deeply(verify("'prod'"), {}, 'repaired');
# (unknown while files and catalog are being compared)
ok(wait_for('health', sub { sql(q(SELECT severity FROM walarchive.health WHERE source = 'prod' AND "check" = 'damage')) eq 'ok' }), 'health is well again');
ok(wait_event($host, 'prod', 'damage_gone'), 'an event says so');

# ---- ranges ----

flip("$dir/$victim", $record->[0] + 30);
is_deeply([ keys %{ verify("'prod', timeline => 2") } ], [$victim], 'one timeline: found');
is_deeply(verify("'prod', timeline => 1"), {}, 'the other: nothing');
is_deeply(verify("'prod', to_lsn => '" . lsn_of($victim) . "'"), {}, 'below it: nothing');
is_deeply(verify("'prod', from_lsn => '" . lsn_of($second[9]) . "'"), {}, 'above it: nothing');
is_deeply([ keys %{ verify("'prod', from_lsn => '" . lsn_of($victim, 500000) . "', to_lsn => '" . lsn_of($victim, 500001) . "'") } ],
	[$victim], 'a byte of it: the whole file is read');
is(sql(q(SELECT severity FROM walarchive.health WHERE source = 'prod' AND "check" = 'damage')), 'critical',
	'a verification of something else clears nothing');
repair($victim);
is_deeply(verify("'prod'"), {}, 'repaired');

# ---- incremental ----

is_deeply(verify("'prod', older_than => '1 hour'"), {}, 'verified lately: well');
cmp_ok(sql("SELECT files FROM walarchive.verification WHERE source = 'prod'"), '<', 8, 'and only what is unfinished was read');
flip("$dir/$victim", $record->[0] + 30);
is_deeply(verify("'prod', older_than => '1 hour'"), {}, 'a damage since then is not looked for');
is_deeply([ keys %{ verify("'prod', older_than => '0'") } ], [$victim], 'but it is where all is due');
is_deeply([ keys %{ verify("'prod', older_than => '1 hour'") } ], [$victim], 'what is known as damaged is read each time');
repair($victim);
is_deeply(verify("'prod', older_than => '1 hour'"), {}, 'and found well when it is');

# ---- who may, and what makes no sense ----

sub error_of
{
	my ($args, $role) = @_;
	my (undef, undef, $error) = $host->psql('postgres', ($role ? "SET ROLE $role; " : '') . "SELECT * FROM walarchive.verify($args)");
	return $error;
}
sql('CREATE ROLE reader IN ROLE pg_monitor');
like(error_of("'prod'", 'reader'), qr/permission denied/, 'pg_monitor may not');
sql('CREATE ROLE granted');
sql("SELECT walarchive.grant_read('prod', 'granted')");
unlike(error_of("'prod'", 'granted'), qr/ERROR/, 'who may read the source may');
like(error_of("'other'", 'granted'), qr/permission denied to read the archived WAL of source "other"/, 'but that one alone');
like(error_of("'nobody'"), qr/source "nobody" does not exist/, 'an unknown source');
like(error_of("'../prod'"), qr/source "..\/prod" does not exist/, 'a path');
like(error_of('NULL'), qr/must not be null/, 'no name');
like(error_of("'prod', from_lsn => '0/5000000', to_lsn => '0/4000000'"), qr/from_lsn must be below to_lsn/, 'a range that is none');
like(error_of("'prod', timeline => -1"), qr/invalid timeline -1/, 'a timeline that is none');
like(error_of("'prod', older_than => '-1 day'"), qr/older_than must not be negative/, 'an age that is none');

# ---- progress, cancellation, and decoders that die ----

SKIP:
{
	skip 'no /proc here', 21 unless -e '/proc/self/stat';

	my $started = sql('SELECT clock_timestamp()');
	my ($session, $decoder, $worker) = start_stopped("'prod'", @second[ 2 .. $#second - 1 ]);
	is(sql("SELECT pid = $worker, source, phase, files_total > 20, files_done >= 0, files_done < files_total, "
			. "bytes_total > 20 * 1048576, bytes_done < bytes_total, damaged, started_at > '$started', system_identifier IS NOT NULL "
			. 'FROM walarchive.stat_progress_verify'),
		't|prod|verifying segments|t|t|t|t|t|0|t|t', 'progress is shown');
	like(error_of("'prod'"), qr/source "prod" is being verified already/, 'a second one has to wait');
	is_deeply(verify("'other'"), {}, 'another source does not');
	message($standby, 100);
	wait_archived($host, 'prod', $standby);
	is(stat_of($host, 'prod', 'state'), 'streaming', 'streaming does not wait');

	# what is right is entered every second: let some time go by, then a few files
	my $done = "SELECT count(*) FROM walarchive.segment WHERE source = 'prod' AND verified_at > '$started'";
	my $kept = 0;
	for my $try (1 .. $#second - 4)
	{
		usleep(1_200_000);
		my $at = sql('SELECT files_done FROM walarchive.stat_progress_verify');
		kill('CONT', $decoder);
		wait_for('answers to be read', sub { sql('SELECT files_done FROM walarchive.stat_progress_verify') > $at });
		wait_for('the next stop', sub { stopped_decoders() > 0 });
		last if ($kept = sql($done)) > 0;
	}
	cmp_ok($kept, '>', 0, 'some files are entered');
	my $unfinished = !sql_done($session);
	ok($unfinished, 'and it is not done');
	sql(q(SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT * FROM walarchive.verify%' AND pid <> pg_backend_pid()));
	my ($code, undef, $error) = sql_result($session);
	isnt($code, 0, 'cancelled');
	like($error, qr/canceling statement due to user request/, 'it says so');
	ok(wait_for('the worker to leave', sub { !kill(0, $worker) }), 'the worker leaves');
	ok(wait_for('its decoder to end', sub { !kill(0, $decoder) }), 'with its decoder, though that was stopped');
	cmp_ok(sql($done), '>=', $kept, 'what was verified is kept');
	is(sql('SELECT count(*) FROM walarchive.stat_progress_verify'), '0', 'no progress is shown');
	disarm_faults($host);
	is_deeply(verify("'prod'"), {}, 'the next one finds all well');

	# the worker is ended
	($session, $decoder, $worker) = start_stopped("'prod'", $second[8]);
	sql("SELECT pg_terminate_backend($worker)");
	($code, undef, $error) = sql_result($session);
	like($error, qr/terminating background worker|ended before it was done/, 'a worker that is ended: an error');
	ok(wait_for('its decoder to end', sub { !kill(0, $decoder) }), 'its decoder ends with it');

	# its decoder dies: another one goes on
	($session, $decoder, $worker) = start_stopped("'prod'", $second[8]);
	kill('KILL', $decoder);
	($code, my $output) = sql_result($session);
	is($code, 0, 'a decoder that dies is replaced');
	is($output, '', 'and nothing is said to be damaged');

	# three die at one file: it is left, and the rest goes on
	arm_faults($host, "open:KILL:$victim\$");
	# its neighbours' records go on in it, or come from it
	my %near = map { $_ => 1 } @second[ 7 .. 9 ];
	is(join(' ', grep { !$near{$_} } sort keys %{ $found = verify("'prod'") }), '', 'three that die at one file: nothing else is reported');
	like($found->{$victim} // '', qr/walarchive-decode died on it 3 times: it was terminated by signal 9/, '... and why');
	disarm_faults($host);
	is_deeply(verify("'prod'"), {}, 'until it can be read');

	# one that is told to end says nothing about the file
	($session, $decoder, $worker) = start_stopped("'prod'", $second[8]);
	kill('TERM', $decoder);
	kill('CONT', $decoder);
	($code, undef, $error) = sql_result($session);
	like($error, qr/walarchive-decode was told to end/, 'a decoder that is told to end: an error');
	disarm_faults($host);
}

# ---- lost lines of wal.sha256 are written again ----

# (whose next round may come at any moment)
set_indexers(0);
unlink("$dir/../wal.sha256");
$found = verify("'prod'");
like($found->{'wal.sha256'} // '', qr/is missing/, 'wal.sha256 is missing');
set_indexers(2);
switch_wal($standby, 1);
wait_archived($host, 'prod', $standby);
wait_sums('prod', $dir);
ok(sums_agree($dir), 'it is written again from the catalog');
is_deeply(verify("'prod'"), {}, 'and all is well');

# a line that a crash cut off
append_to_file("$dir/../wal.sha256", '0123456789abcdef');
switch_wal($standby, 1);
wait_archived($host, 'prod', $standby);
wait_sums('prod', $dir);
ok(sums_agree($dir), 'a torn line is cut off');
is_deeply(verify("'prod'"), {}, 'and all is well');

# the catalog is made anew from the files
sql('DROP EXTENSION walarchive');
sql('CREATE EXTENSION walarchive');
wait_for('the source to be adopted', sub { sql('SELECT count(*) FROM walarchive.source') eq '2' });
wait_sums('prod', $dir);
is_deeply(verify("'prod'"), {}, 'a new catalog knows the checksums');
flip("$dir/$torn", $aborted_offset);
is_deeply([ keys %{ verify("'prod'") } ], [$torn], 'and finds what only they can tell');
repair($torn);

# ---- a bit anywhere in a file ----

# Talks to walarchive-decode itself.
my $sysid = (split('/', $dir))[-2];
my $bindir = $host->config_data('--bindir');
my $pid = open2(my $from, my $to, "$bindir/walarchive-decode", '--server');
binmode($from);

sub read_bytes
{
	my ($len) = @_;
	my $bytes = '';
	while (length($bytes) < $len)
	{
		my $n = sysread($from, $bytes, $len - length($bytes), length($bytes));
		die 'walarchive-decode has ended' unless $n;
	}
	return $bytes;
}

sub next_message
{
	my ($len, $type) = unpack('LL', read_bytes(8));
	return ($type, read_bytes($len));
}

# Names of the damaged files between two segments.
sub ask_decoder
{
	my ($tli, $first, $last) = @_;
	my $size = $segment_size;
	my @named;
	printf $to "{\"do\": \"verify\", \"directory\": \"%s\", \"sums\": \"%s/../wal.sha256\", \"system_identifier\": %s, "
	  . "\"segment_size\": %d, \"timeline\": %d, \"from\": \"%s\", \"to\": \"%s\"}\n",
	  $dir, $dir, $sysid, $size, $tli, lsn_of(name_of($tli, $first)), lsn_of(name_of($tli, $last + 1));
	$to->flush;
	while (1)
	{
		my ($type, $body) = next_message();
		if ($type == 4)
		{
			my ($kind, undef, undef, undef, undef, $name_len) = unpack('LLQQqLL', $body);
			push @named, substr($body, 40, $name_len);
		}
		last if $type == 2;
	}
	return "@named";
}

my ($hello) = next_message();
is($hello, 1, 'walarchive-decode says hello');
my $first = segno_of($second[4]);
is(ask_decoder(2, $first, $first + 4), '', 'five files without damage');
srand(16);
my $missed = 0;
my $flips = 250;
for (1 .. $flips)
{
	my $file = name_of(2, $first + int(rand(5)));
	my ($offset, $bit) = (int(rand($segment_size)), int(rand(8)));

	flip("$dir/$file", $offset, $bit);
	my $named = ask_decoder(2, $first, $first + 4);
	if ($named ne $file)
	{
		$missed++;
		diag("bit $bit of byte $offset of $file: found in '$named'");
	}
	flip("$dir/$file", $offset, $bit);
}
is($missed, 0, "each of $flips bits is found, in the right file");
is(ask_decoder(2, $first, $first + 4), '', 'and they are all back');
close($to);
waitpid($pid, 0);

release_snapshots($_) for $standby, $other;
$standby->stop;
$other->stop;
$host->stop;
done_testing();
