# Somebody holds a lock on the catalog, a process that reads or writes it is
# frozen, its tablespace is full: none of it is the primary's fault, so none of
# it may hold up a commit there.  A receiver that runs SQL, or waits for
# anybody who does, fails this.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use WalArchive;
use WalFaults;

# what is in the way does not go by itself: a busy machine may take its time
my $limit = 60;
my $host = new_archive_host('archive',
	start => 0, conf => "max_prepared_transactions = 5\nwalarchive.max_indexers = 1\n");
start_with_faults($host);
$host->safe_psql('postgres', 'CREATE EXTENSION walarchive');
my $primary = new_primary('primary', conf => "wal_keep_size = 1GB\n");
add_source($host, 'prod', $primary);
load_segments($primary, 1);
make_synchronous($primary, 'walarchive_prod');
wait_archived($host, 'prod', $primary);
my $wal = wal_dir($host, 'prod');

my $all_tables = $host->safe_psql('postgres',
	q(SELECT string_agg(format('walarchive.%I', c.relname), ', ' ORDER BY c.relname)
	  FROM pg_class c WHERE c.relnamespace = 'walarchive'::regnamespace AND c.relkind = 'r'));
my $number_of_tables = split(/, /, $all_tables);
like($all_tables, qr/walarchive\.$_\b/, "$_ is among the tables of the catalog")
  foreach qw(event gap index_progress segment source timeline);

# A commit is confirmed in time, and segments are switched, by what the primary
# alone can see.
sub expect_commits
{
	my ($what) = @_;
	my $took = commits_within($primary, $limit);
	ok(defined $took, sprintf("$what: a commit is confirmed%s", defined $took ? sprintf(' (%.3f s)', $took) : ''));
	my $before = wal_files($wal);
	load_segments($primary, 3);
	ok( wait_for('finished segments', sub { wal_files($wal) >= $before + 3 }, $limit),
		"$what: segments are finished");
	return;
}

# The walsender that serves us, for what can be seen without the catalog.
sub sender
{
	return $primary->safe_psql('postgres',
		"SELECT coalesce(max(pid), 0) FROM pg_stat_replication WHERE application_name = 'walarchive_prod' AND state = 'streaming'");
}

# After a trouble the catalog has every finished segment.
sub expect_catalog
{
	my ($what) = @_;
	my $files = grep { !/history$/ } wal_files($wal);
	ok( $host->poll_query_until('postgres',
			"SELECT count(*) >= $files FROM walarchive.segment WHERE state = 'finished'"),
		"$what: the catalog is up to date afterwards");
	return;
}

# 1. every table of the catalog is locked, and what each new backend reads too
my $receiver = receiver_pid($host, 'prod');
my $session = open_session($host,
	"BEGIN; LOCK TABLE $all_tables IN ACCESS EXCLUSIVE MODE; LOCK TABLE pg_proc, pg_class IN ACCESS EXCLUSIVE MODE;");
expect_commits('locked');

# ... and the receiver goes: another one has to start without reading anything
my $sender = sender();
is(kill('TERM', $receiver), 1, 'locked: receiver terminated');
ok(wait_for('another receiver', sub { my $now = sender(); $now != 0 && $now != $sender }),
	'locked: another receiver streams');
ok(wait_for('the old receiver', sub { process_gone($receiver) }), 'locked: the old receiver is gone');
expect_commits('locked, new receiver');
close_session($session);
expect_catalog('locked');

# 2. locks that outlive the host's restart
$host->safe_psql('postgres',
	"BEGIN; LOCK TABLE $all_tables IN ACCESS EXCLUSIVE MODE; PREPARE TRANSACTION 'locks'");
$host->stop;
start_with_faults($host);
is( $host->safe_psql('postgres',
		"SELECT count(*) FROM pg_locks l WHERE l.mode = 'AccessExclusiveLock' AND l.granted
		 AND l.virtualtransaction LIKE '-1/%'"),
	$number_of_tables, 'restart: the locks are still held');
ok( wait_for('streaming after the restart',
		sub { $host->safe_psql('postgres',
				"SELECT state FROM walarchive.receiver_state() WHERE source = 'prod'") eq 'streaming' }),
	'restart: streaming begins without the catalog');
expect_commits('restart');
$host->stop('immediate');
start_with_faults($host);
expect_commits('crash restart');
my ($rc, $out, $err) = $host->psql('postgres',
	"SET lock_timeout = '100ms'; SELECT * FROM walarchive.stat_receiver");
like($err, qr/canceling statement due to lock timeout/, 'restart: only readers of the catalog wait');
$host->safe_psql('postgres', "COMMIT PREPARED 'locks'");
expect_catalog('restart');

# 3. a frozen indexer
my $indexer = 0;
ok( wait_for('an indexer at work',
		sub {
			load_segments($primary, 1);
			$indexer = try_psql($host,
				"SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE backend_type = 'walarchive indexer'") // 0;
			return $indexer != 0 && kill('STOP', $indexer) == 1;
		}),
	'frozen indexer: an indexer is stopped');
ok(wait_for('the indexer to stop', sub { slurp_file("/proc/$indexer/stat") =~ /\) T / }),
	'frozen indexer: it does not run');
expect_commits('frozen indexer');
$sender = sender();
# no query: the indexer may have been stopped while it held a lock of the server's
($receiver) = worker_pids($host, 'walarchive receiver');
kill('TERM', $receiver);
ok(wait_for('another receiver', sub { my $now = sender(); $now != 0 && $now != $sender }),
	'frozen indexer: another receiver streams');
expect_commits('frozen indexer, new receiver');
kill('CONT', $indexer);
expect_catalog('frozen indexer');

# 4. a client frozen at any instruction of reading the live state
my ($loop_in, $loop_out, $loop_err) = (
	"SELECT pg_backend_pid();
	 DO \$\$ BEGIN LOOP PERFORM count(*) FROM walarchive.stat_receiver; PERFORM count(*) FROM walarchive.health; END LOOP; END \$\$;\n",
	'', '');
my $loop = IPC::Run::start([ 'psql', '-XAtq', '-d', $host->connstr('postgres'), '-f', '-' ],
	'<', \$loop_in, '>', \$loop_out, '2>', \$loop_err);
wait_for('the reader to begin', sub { $loop->pump_nb; $loop_out =~ /^\d+$/m }) or BAIL_OUT($loop_err);
my ($reader) = $loop_out =~ /^(\d+)$/m;
my $stops = 0;
my $confirmed = 0;
my $slowest = 0;
for (1 .. 30)
{
	# at a random instruction
	usleep(int(rand(20_000)));
	$stops++ if kill('STOP', $reader) == 1;
	my $took = commits_within($primary, $limit);
	$confirmed++ if defined $took;
	$slowest = $took if defined $took && $took > $slowest;
	kill('CONT', $reader);
}
is($stops, 30, 'frozen reader: stopped 30 times');
is($confirmed, 30, sprintf('frozen reader: 30 commits confirmed meanwhile (slowest %.3f s)', $slowest));
kill('STOP', $reader);
expect_commits('frozen reader');
# unless it was stopped while it held a lock of the server's: then once more
my $seen = '';
ok( wait_for('another reader',
		sub {
			my $late;
			kill('STOP', $reader);
			$host->psql('postgres', "SELECT state FROM walarchive.stat_receiver WHERE source = 'prod'",
				stdout => \$seen, timeout => 20, timed_out => \$late);
			kill('CONT', $reader);
			usleep(int(rand(20_000)));
			return !$late && $seen eq 'streaming';
		}),
	'frozen reader: another reader is not held up');
$host->safe_psql('postgres', "SELECT pg_terminate_backend($reader, 5000)");
$loop->finish;

# 5. the tablespace under the catalog is full
arm_faults($host, 'write:ENOSPC:/base/');
my $events = $host->safe_psql('postgres', 'SELECT count(*) FROM walarchive.segment');
expect_commits('full tablespace');
($rc, $out, $err) = $host->psql('postgres', 'CREATE TABLE no_room AS SELECT repeat(g::text, 100) FROM generate_series(1, 10000) g');
like($err, qr/No space left on device/, 'full tablespace: it is full indeed');
expect_commits('full tablespace, again');
is($host->safe_psql('postgres', "SELECT state FROM walarchive.receiver_state()"),
	'streaming', 'full tablespace: streaming');
disarm_faults($host);
expect_catalog('full tablespace');

my @finished = wal_files($wal);
is(compare_finished($wal, $primary, @finished), scalar(@finished), "all segments equal the primary's");
$host->stop;
$primary->stop;
done_testing();
