# One archive host for a fleet.  64 sources must all stream, cost little memory
# each, and next to no CPU while nothing happens: a receiver that wakes up to
# look whether there is something to do multiplies by 64.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use WalArchive;
use WalFaults;

my $sources = 64;
my $host = new_archive_host('archive', sources => $sources, conf => "max_connections = 20\nwalarchive.status_interval = 1s\n");
my @primaries = map {
	new_primary("primary$_",
		conf => "max_wal_senders = 40\nmax_replication_slots = 40\nwal_keep_size = 512MB\nautovacuum = off\n")
} (1, 2);

# all in one transaction
$host->safe_psql('postgres', join('',
		"BEGIN;\n",
		(map { "SELECT walarchive.add_source('s$_', '" . conninfo($primaries[ $_ % 2 ]) . "');\n" } 1 .. $sources),
		"COMMIT;\n"));
ok( wait_for('all sources to stream',
		sub { $host->safe_psql('postgres',
				"SELECT count(*) FROM walarchive.stat_receiver WHERE state = 'streaming'") eq $sources }),
	"all $sources sources stream");

# WAL of both primaries reaches all
load_segments($_, 3) foreach @primaries;
my @ends = map { $_->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()') } @primaries;
ok( wait_for('all archives to hold the WAL',
		sub { $host->safe_psql('postgres',
				"SELECT count(*) FROM walarchive.stat_receiver
				 WHERE flushed_lsn >= CASE WHEN substr(source, 2)::int % 2 = 0 THEN '$ends[0]'::pg_lsn ELSE '$ends[1]'::pg_lsn END") eq $sources }),
	'all archives hold the WAL');
my $compared = 0;
$compared += compare_finished(wal_dir($host, "s$_"), $primaries[ $_ % 2 ]) >= 3 ? 1 : 0 foreach (1 .. $sources);
is($compared, $sources, "finished segments equal the primaries' everywhere");
ok( wait_for('the catalog',
		sub { $host->safe_psql('postgres',
				"SELECT count(*) FROM walarchive.receiver_state() WHERE unindexed_segments = 0 AND unindexed_journal = 0 AND NOT index_wanted") eq $sources }),
	'the catalog has caught up with all');

# memory
my @receivers = split /\n/, $host->safe_psql('postgres',
	"SELECT pid FROM walarchive.stat_receiver WHERE pid IS NOT NULL");
is(scalar @receivers, $sources, 'a receiver each');
my ($most, $sum) = (0, 0);
foreach my $pid (@receivers)
{
	my $kb = 0;
	my $rollup = slurp_file("/proc/$pid/smaps_rollup");
	$kb += $_ foreach $rollup =~ /^Private_(?:Dirty|Clean):\s+(\d+) kB/mg;
	$most = $kb if $kb > $most;
	$sum += $kb;
}
cmp_ok($most, '>', 0, 'memory could be measured');
cmp_ok($most, '<', 16 * 1024, sprintf('private memory of a receiver: at most %.1f MB, on average %.1f MB', $most / 1024, $sum / $sources / 1024));

# CPU: nothing happens but the status messages of one a second
my ($launcher) = worker_pids($host, 'walarchive launcher');

# returns when every receiver has sent a few of them
sub some_statuses
{
	foreach my $primary (@primaries)
	{
		my $from = $primary->safe_psql('postgres', 'SELECT max(reply_time) FROM pg_stat_replication');
		$primary->poll_query_until('postgres',
			"SELECT count(*) = $sources / 2 AND min(reply_time) > '$from'::timestamptz + interval '2.5 s' FROM pg_stat_replication")
		  or die 'receivers send no status messages';
	}
	return;
}
my $start = time();
my $cpu = cpu_seconds($launcher, @receivers);
my ($cpu_ms, $wakes) = restfulness([ $launcher, @receivers ], 1, \&some_statuses);
note(sprintf('idle: %d receivers and the launcher use %.2f %% of a core',
		$sources, 100 * (cpu_seconds($launcher, @receivers) - $cpu) / (time() - $start)));
cmp_ok($cpu_ms, '<=', 10, 'idle: hardly any CPU for each wake-up');
cmp_ok($wakes, '<=', 4, 'idle: few wake-ups');

# and all are back after a restart
$host->restart;
ok( wait_for('all sources to stream again',
		sub { $host->safe_psql('postgres',
				"SELECT count(*) FROM walarchive.stat_receiver WHERE state = 'streaming'") eq $sources }),
	"all $sources sources stream after a restart");

# one more is refused with a hint
my ($rc, $out, $err) = $host->psql('postgres',
	"SELECT walarchive.add_source('toomany', '" . conninfo($primaries[0]) . "')");
like($err, qr/ERROR:  no more than 64 sources are allowed\nHINT:  Raise walarchive\.max_sources/,
	'one more is refused');

$host->stop;
$_->stop foreach @primaries;
done_testing();
