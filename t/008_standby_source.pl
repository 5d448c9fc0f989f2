# Not every source is a primary with 16 MB segments.  A reporting standby feeds
# the archive so that the primary need not; a warehouse has segments of 1 GB;
# and every primary is shut down for maintenance some day: it waits until the
# archive has all of its WAL, so that wait must be short and "all" must be true.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use WalArchive;

my $host = new_archive_host('archive');
my $quiet = "wal_keep_size = 256MB\nautovacuum = off\ncheckpoint_timeout = 1h\n";

# --- from a standby ---
# (where it has to wait for its walsender, a shutdown takes that long)
my $primary = new_primary('primary', conf => $quiet . "wal_sender_timeout = 150s\n");
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
add_source($host, 'standby', $standby, args => 'allow_standby => true');
my $dir = wal_dir($host, 'standby');
my $end = switch_wal($primary, 3);
$primary->safe_psql('postgres', 'CREATE TABLE t AS SELECT generate_series(1, 10000) i');
$end = $primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
ok(wait_for('WAL by way of the standby', sub { stat_of($host, 'standby', "flushed_lsn >= '$end'") eq 't' }),
	'WAL comes from a standby');
is((same_wal($dir, $primary->data_dir . '/pg_wal'))[1], '', "it is the primary's");
cmp_ok(scalar(wal_files($dir)), '>=', 3, 'some segments of it');
is($standby->safe_psql('postgres', q(SELECT active, restart_lsn IS NOT NULL FROM pg_replication_slots WHERE slot_name = 'walarchive_standby')),
	't|t', 'the slot is on the standby');
is($primary->safe_psql('postgres', 'SELECT count(*) FROM pg_replication_slots'), '0', 'none is on the primary');
is(stat_of($host, 'standby', 'cause'), '', 'no cause');

# the standby restarts, and comes back behind the archive for a moment
$standby->stop('immediate');
$primary->safe_psql('postgres', 'INSERT INTO t SELECT generate_series(1, 10000) i');
$end = switch_wal($primary, 1);
$standby->start;
ok(wait_for('WAL by way of the standby', sub { stat_of($host, 'standby', "flushed_lsn >= '$end'") eq 't' }),
	'a standby that crashed is no reason to stop');
is((same_wal($dir, $primary->data_dir . '/pg_wal'))[1], '', "and all is the primary's");
is_deeply([ journal_lines($host, 'standby', 'gap') ], [], 'without a gap');

# a standby that lags behind what is archived is waited for
$primary->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'test', 'direct')");
$host->safe_psql('postgres', "SELECT walarchive.pause_source('standby')");
wait_state($host, 'standby', 'paused');
$standby->stop;
$host->safe_psql('postgres', "SELECT walarchive.alter_source('standby', conninfo => '" . conninfo($primary) . "', check_connection => false)");
$host->safe_psql('postgres', "SELECT walarchive.resume_source('standby')");
wait_streaming($host, 'standby');
switch_wal($primary, 2);
wait_archived($host, 'standby', $primary);
$standby->append_conf('postgresql.conf', "primary_conninfo = ''\n");
$standby->start;
$host->safe_psql('postgres', "SELECT walarchive.alter_source('standby', conninfo => '" . conninfo($standby) . "', check_connection => false)");
ok(wait_cause($host, 'standby', 'archive_ahead'), 'a standby behind the archive is named');
$standby->adjust_conf('postgresql.conf', 'primary_conninfo', "'" . $primary->connstr . "'");
$standby->reload;
ok(wait_for('WAL by way of the standby', sub {
	stat_of($host, 'standby', "state = 'streaming' AND cause IS NULL") eq 't' }),
	'and taken when it has caught up');
$end = switch_wal($primary, 1);
ok(wait_for('WAL by way of the standby', sub { stat_of($host, 'standby', "flushed_lsn >= '$end'") eq 't' }),
	'WAL comes by way of it again');
$standby->stop;

# --- controlled shutdown ---
# The last record of a primary is its shutdown checkpoint.
sub shut_down
{
	my ($source, $node, $what) = @_;
	my $folder = wal_dir($host, $source);
	my $stopped = sub {
		return scalar(grep { ($_->{cause} // '') eq 'server_stopped' } journal_lines($host, $source, 'state'));
	};
	my $before = $stopped->();
	my $begin = time();

	$node->stop('fast');
	my $took = time() - $begin;
	cmp_ok($took, '<', 50, sprintf('%s: the shutdown does not wait for long', $what));
	my ($control) = run_command([ 'pg_controldata', $node->data_dir ]);
	my ($checkpoint) = $control =~ /^Latest checkpoint location:\s+(\S+)/m;
	like($control, qr/^Database cluster state:\s+shut down$/m, "$what: it is complete");
	ok(wait_for('the journal', sub { $stopped->() == $before + 1 }),
		"$what: the cause is server_stopped");

	# the record itself is in the archive, whole
	my $copy = PostgreSQL::Test::Utils::tempdir();
	for my $name (wal_files($folder, partial => 1))
	{
		next if $name =~ /history/;
		(my $whole = $name) =~ s/\.partial//;
		system_or_bail('cp', "$folder/$name", "$copy/$whole");
	}
	my ($dump) = run_command([ 'pg_waldump', '-p', $copy, '-s', $checkpoint, '-n', 1 ]);
	like($dump, qr/CHECKPOINT_SHUTDOWN redo \Q$checkpoint\E;/, "$what: its last record, at $checkpoint, is archived");
	return;
}

add_source($host, 'stopped', $primary);
# some times: the server's last words come in one message, or in several
for my $i (1 .. 5)
{
	shut_down('stopped', $primary, "idle $i");
	$primary->start;
	wait_streaming($host, 'stopped');
}
wait_archived($host, 'stopped', $primary);
is(stat_of($host, 'stopped', 'cause'), '', 'streaming again, no cause is left');

# under load, right after a burst
my @load = map { start_sql($primary,
	"CREATE TABLE burst_$_ AS SELECT i, repeat('x', 100) FROM generate_series(1, 100000) i;") } 1 .. 2;
sql_result($_) for @load;
shut_down('stopped', $primary, 'after a burst');
is((same_wal(wal_dir($host, 'stopped'), $primary->data_dir . '/pg_wal'))[1], '', "after a burst: all is the primary's");

# as the synchronous standby, too
$primary->start;
wait_streaming($host, 'stopped');
make_synchronous($primary, 'walarchive_stopped');
$primary->safe_psql('postgres', 'CREATE TABLE synchronous (i int)');
shut_down('stopped', $primary, 'synchronous');

# --- segment sizes ---
for my $size (16, 64)
{
	my $node = new_primary("size$size", segsize => $size, conf => "autovacuum = off\nwal_keep_size = 1GB\nmin_wal_size = ${\ (2 * $size)}MB\n");
	add_source($host, "size$size", $node);
	my $wal = wal_dir($host, "size$size");
	$node->safe_psql('postgres', "CREATE TABLE t AS SELECT i, repeat('x', 1000) FROM generate_series(1, 10000) i");
	switch_wal($node, 3);
	$node->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'test', 'x')");
	wait_archived($host, "size$size", $node);
	my @names = wal_files($wal);
	my ($number, $differ) = same_wal($wal, $node->data_dir . '/pg_wal');
	cmp_ok($number, '>=', 3, "$size MB: segments are finished");
	is($differ, '', "$size MB: they are the primary's");
	is(join(' ', map { (-s "$wal/$_") / 1048576 } wal_files($wal, partial => 1)),
		join(' ', ($size) x (@names + 1)), "$size MB: each has that size");
	is($host->safe_psql('postgres', "SELECT segment_size FROM walarchive.receiver_state() WHERE source = 'size$size'"),
		$size * 1048576, "$size MB: the source knows");
	# continued by a new receiver
	kill 'TERM', receiver_pid($host, "size$size");
	switch_wal($node, 1);
	$node->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'test', 'x')");
	wait_archived($host, "size$size", $node);
	is((same_wal($wal, $node->data_dir . '/pg_wal'))[1], '', "$size MB: after a restart of the receiver, too");
	$node->stop;
	$host->safe_psql('postgres', "SELECT walarchive.drop_source('size$size', drop_slot => false, delete_files => true)");
}

my $big = new_primary('big', segsize => 1024, conf => "autovacuum = off\nmin_wal_size = 2GB\nmax_wal_size = 4GB\nwal_init_zero = off\nwal_keep_size = 4GB\n");
add_source($host, 'big', $big);
$dir = wal_dir($host, 'big');
$big->safe_psql('postgres', "CREATE TABLE t AS SELECT i, repeat('x', 1000) FROM generate_series(1, 1000) i");
wait_archived($host, 'big', $big);
my ($partial) = wal_files($dir, partial => 1);
is(-s "$dir/$partial", 1 << 30, '1 GB: the partial has its size');
switch_wal($big, 1);
$big->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'test', 'x')");
wait_archived($host, 'big', $big);
my ($finished) = wal_files($dir);
is("$finished.partial", $partial, '1 GB: the segment is finished');
my ($number, $differ) = same_wal($dir, $big->data_dir . '/pg_wal');
is("$number:$differ", '1:', "1 GB: it is the primary's");
$big->stop('immediate');

done_testing();
