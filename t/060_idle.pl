# A receiver that spins.  The threads that flush wake the receiver through a
# pipe.  A flush that ends just after the pipe was looked at, and whose result is
# taken all the same, leaves its byte behind; with nothing more to flush nobody
# would read it, and the receiver would use a whole core until the next flush.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalFaults;

my $host = new_archive_host('archive', start => 0, conf => "walarchive.status_interval = 100ms\n");
start_with_faults($host);
$host->safe_psql('postgres', 'CREATE EXTENSION walarchive');
# a primary that writes nothing by itself
my $primary = new_primary('primary', conf => "autovacuum = off\nbgwriter_delay = 10s\n");
add_source($host, 'prod', $primary);
$primary->safe_psql('postgres', 'CREATE TABLE t (a int)');
wait_archived($host, 'prod', $primary);
my $pid = receiver_pid($host, 'prod');

sub some_statuses
{
	my $from = $primary->safe_psql('postgres', 'SELECT max(reply_time) FROM pg_stat_replication');
	$primary->poll_query_until('postgres',
		"SELECT max(reply_time) > '$from'::timestamptz + interval '500 ms' FROM pg_stat_replication")
	  or die 'the receiver sends no status messages';
	return;
}

# Flushes slow enough to be left to a thread, and to have a status message fall
# due meanwhile; the look at the pipe that comes with it lasts until the flush
# is done.
arm_faults($host, 'fdatasync:DELAY=300000:/wal/', 'read:DELAY_AFTER=500000:pipe');
for my $n (1 .. 3)
{
	$primary->safe_psql('postgres', "INSERT INTO t VALUES ($n)");
	wait_archived($host, 'prod', $primary);
}
disarm_faults($host);
my ($cpu_ms, $wakes) = restfulness([$pid], 0.1, \&some_statuses);
cmp_ok($cpu_ms, '<=', 10, 'hardly any CPU for each wake-up');
cmp_ok($wakes, '<=', 4, 'few wake-ups');
is(receiver_pid($host, 'prod'), $pid, 'it is the same receiver');

$host->stop;
$primary->stop;
done_testing();
