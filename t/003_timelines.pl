# Servers are promoted in the middle of a segment, exactly at a segment's end
# (where pg_receivewal retries for ever), twice while nobody looks, and as a
# standby that feeds the archive.  Each time streaming must go on along the
# server's own history, with every history file, and what was archived of the
# old timeline must stay as it is.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;

my $segment_size = 1024 * 1024;
my $quiet = q(
wal_keep_size = 256MB
autovacuum = off
checkpoint_timeout = 1h
);
my $host = new_archive_host('archive');

# A standby of a node, streaming.
sub new_standby
{
	my ($name, $from) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$from->backup($name);
	$node->init_from_backup($from, $name, has_streaming => 1);
	$node->start;
	return $node;
}

sub wait_replayed
{
	my ($standby, $lsn) = @_;
	wait_for("the standby to replay $lsn", sub {
		$standby->safe_psql('postgres', "SELECT pg_last_wal_replay_lsn() >= '$lsn'") eq 't' })
	  or BAIL_OUT('the standby does not follow');
	return;
}

sub histories
{
	my ($folder) = @_;
	return grep { /history/ } wal_files($folder);
}

# The last line of a history file: parent and switch point.
sub last_fork
{
	my ($path) = @_;
	my @lines = grep { /^\d/ } split(/\n/, read_file_bytes($path));
	my ($tli, $lsn) = split(/\t/, $lines[-1]);
	return ($tli, $lsn);
}

sub segment_of
{
	my ($lsn) = @_;
	my ($high, $low) = map { hex } split('/', $lsn);
	return int(($high * 4294967296 + $low) / $segment_size);
}

sub offset_in_segment
{
	my ($lsn) = @_;
	my (undef, $low) = map { hex } split('/', $lsn);
	return $low % $segment_size;
}

sub name_of
{
	my ($tli, $segno) = @_;
	return sprintf('%08X%08X%08X', $tli, $segno / 4096, $segno % 4096);
}

# --- in the middle of a segment; the archive is at the fork ---
my $primary = new_primary('primary', conf => $quiet);
my $standby = new_standby('standby', $primary);
add_source($host, 'middle', $primary, conninfo => one_of($primary, $standby));
my $dir = wal_dir($host, 'middle');
switch_wal($primary, 2);
$primary->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'test', repeat('m', 300000))");
hold_snapshots($primary);
wait_replayed($standby, wait_archived($host, 'middle', $primary));
stop_held($primary);
$standby->promote;
wait_timeline($host, 'middle', 2);
$standby->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'test', 'new timeline')");
switch_wal($standby, 2);
wait_archived($host, 'middle', $standby);

my ($parent, $fork) = last_fork("$dir/00000002.history");
is($parent, 1, 'timeline 2 left timeline 1');
cmp_ok(offset_in_segment($fork), '>', 0, "in the middle of a segment, at $fork");
my $old = name_of(1, segment_of($fork));
my $new = name_of(2, segment_of($fork));
ok(-e "$dir/$old.partial" && !-e "$dir/$old", "the old timeline's last segment stays partial");
ok(-e "$dir/$new", 'the new timeline has its own copy of that segment');
is(substr(read_file_bytes("$dir/$new"), 0, offset_in_segment($fork)),
	substr(read_file_bytes("$dir/$old.partial"), 0, offset_in_segment($fork)),
	'with the same bytes up to the fork');
is((same_wal($dir, $standby->data_dir . '/pg_wal'))[1], '', 'all is as on the new primary');
ok(same_file("$dir/00000002.history", $standby->data_dir . '/pg_wal/00000002.history'),
	'the history is that of the server');
is(stat_of($host, 'middle', 'received_tli'), '2', 'stat_receiver shows the timeline');
ok(wait_for('timeline 2 in the catalog', sub {
	$host->safe_psql('postgres', q(SELECT parent_timeline, fork_lsn, history_file FROM walarchive.timeline WHERE source = 'middle' AND timeline = 2)) eq "1|$fork|t" }),
	'and the catalog its parent and fork');
is_deeply([ map { $_->{severity} } grep { $_->{kind} =~ /divergence|gap/ } journal_lines($host, 'middle') ],
	[], 'neither gap nor divergence is recorded');

# --- exactly at a segment's end ---
# The primary's last record is a switch, so the standby's WAL ends at a
# boundary and the fork lies on it; the archive stands there too.
$primary = new_primary('primary2', conf => $quiet);
$standby = new_standby('standby2', $primary);
add_source($host, 'boundary', $primary, conninfo => one_of($primary, $standby));
$dir = wal_dir($host, 'boundary');
hold_snapshots($primary);
my $end = switch_wal($primary, 3);
wait_replayed($standby, wait_archived($host, 'boundary', $primary));
is(offset_in_segment($end), 0, "WAL ends at a segment's end, $end");
stop_held($primary);
$standby->promote;
wait_timeline($host, 'boundary', 2);
switch_wal($standby, 2);
wait_archived($host, 'boundary', $standby);
($parent, $fork) = last_fork("$dir/00000002.history");
is($fork, $end, 'the fork lies exactly there');
is(join(' ', grep { /^00000001/ && $_ ge name_of(1, segment_of($fork)) } wal_files($dir, partial => 1)),
	'', 'nothing of the old timeline after it');
ok(-e "$dir/" . name_of(1, segment_of($fork) - 1), 'the old timeline ends with a whole segment');
ok(-e "$dir/" . name_of(2, segment_of($fork)), 'the new one begins with the next');
is((same_wal($dir, $standby->data_dir . '/pg_wal'))[1], '', 'all is as on the new primary');
is_deeply([ grep { $_->{kind} =~ /divergence|gap/ } journal_lines($host, 'boundary') ],
	[], 'neither gap nor divergence is recorded');

# The same while the receiver is connected all the time: it streams from a
# standby whose WAL ends at a boundary when it is promoted.
$primary = $standby;
$standby = new_standby('standby3', $primary);
add_source($host, 'connected', $standby, args => 'allow_standby => true');
$dir = wal_dir($host, 'connected');
hold_snapshots($primary);
$end = switch_wal($primary, 2);
wait_replayed($standby, $end);
ok(wait_for('the archive to have it', sub { stat_of($host, 'connected', "flushed_lsn >= '$end'") eq 't' }),
	'the archive follows a standby');
my $reconnects = stat_of($host, 'connected', 'reconnects');
stop_held($primary);
$standby->promote;
switch_wal($standby, 2);
wait_archived($host, 'connected', $standby);
is(stat_of($host, 'connected', 'received_tli'), '3', 'followed to timeline 3');
is(stat_of($host, 'connected', 'reconnects'), $reconnects, 'on the same connection');
($parent, $fork) = last_fork("$dir/00000003.history");
is($fork, $end, 'the fork lies at the boundary');
ok(-e "$dir/00000002.history", 'the history of the timeline before is there, too');
is((same_wal($dir, $standby->data_dir . '/pg_wal'))[1], '', 'all is as on the new primary');

# --- a cascade: the standby follows, and the archive with it ---
my $top = $standby;
my $middle = new_standby('standby4', $top);
my $bottom = PostgreSQL::Test::Cluster->new('standby5');
$middle->backup('bottom');
$bottom->init_from_backup($middle, 'bottom', has_streaming => 1);
$bottom->start;
add_source($host, 'cascade', $bottom, args => 'allow_standby => true');
$dir = wal_dir($host, 'cascade');
$top->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'test', repeat('c', 10000))");
$end = $top->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
ok(wait_for('the cascade', sub { stat_of($host, 'cascade', "flushed_lsn >= '$end'") eq 't' }),
	'WAL comes down the cascade');
$top->stop('immediate');
$middle->promote;
$middle->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'test', 'timeline 4')");
$end = switch_wal($middle, 2);
ok(wait_for('the cascade', sub { stat_of($host, 'cascade', "flushed_lsn >= '$end'") eq 't' }),
	'and after the promotion above it');
is(stat_of($host, 'cascade', 'received_tli'), '4', 'on the timeline that the standby followed to');
is((same_wal($dir, $middle->data_dir . '/pg_wal'))[1], '', 'all is as on the new primary');
is_deeply([ histories($dir) ], [ histories($bottom->data_dir . '/pg_wal') ],
	'with all histories that the standby has');
is((histories($dir))[-1], '00000004.history', 'the newest among them');
$bottom->stop;

# --- several promotions while nobody looks ---
# (a slot begins at the last checkpoint: one of this timeline)
$middle->safe_psql('postgres', 'CHECKPOINT');
add_source($host, 'several', $middle);
$dir = wal_dir($host, 'several');
$middle->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'test', 'before')");
my $archived = wait_archived($host, 'several', $middle);
$host->safe_psql('postgres', "SELECT walarchive.pause_source('several')");
wait_state($host, 'several', 'paused');
my @kept = map { [ $_, read_file_bytes("$dir/$_") ] } grep { /partial/ } wal_files($dir, partial => 1);
is(scalar(@kept), 1, 'one partial is left');
for (1 .. 3)
{
	switch_wal($middle, 1);
	$middle->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'test', repeat('p', 1000))");
	$middle->stop;
	$middle->set_standby_mode;
	$middle->start;
	$middle->promote;
}
$host->safe_psql('postgres', "SELECT walarchive.resume_source('several')");
wait_streaming($host, 'several');
my $node = $middle;
switch_wal($node, 1);
wait_archived($host, 'several', $node);
is(stat_of($host, 'several', 'received_tli'), '7', 'three timelines were passed');
is_deeply([ histories($dir) ], [ map { sprintf('%08X.history', $_) } 3 .. 7 ],
	'all histories are there, that from before the archive began, too');
is_deeply([ histories($middle->data_dir . '/pg_wal') ], [ histories($dir) ],
	'they are those of the server');
is_deeply([ grep { $_->{kind} =~ /divergence|gap/ } journal_lines($host, 'several') ],
	[], 'neither gap nor divergence is recorded');
is((same_wal($dir, $node->data_dir . '/pg_wal'))[1], '', 'all is as on the last primary');
my %seen = map { (substr($_, 0, 8) => 1) } grep { !/history/ } wal_files($dir, partial => 1);
is(join(' ', sort keys %seen), '00000004 00000005 00000006 00000007', 'and WAL of each timeline');
my @missing;
my ($low, $high) = (segment_of($archived), segment_of($node->safe_psql('postgres', 'SELECT pg_current_wal_lsn()')));
for my $segno ($low .. $high - 1)
{
	push @missing, $segno unless grep { -e "$dir/" . name_of($_, $segno) } 4 .. 7;
}
is("@missing", '', "a whole segment for each place from $low to $high");
my ($name, $bytes) = @{ $kept[0] };
$name =~ s/\.partial// unless -e "$dir/$name";
(my $data = $bytes) =~ s/\0+$//;
is(substr(read_file_bytes("$dir/$name"), 0, length($data)), $data,
	'what was archived before the pause is as it was');

done_testing();
