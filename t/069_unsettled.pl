# The archive host crashes while WAL flows, and comes back.  The receiver reads
# the open segment once more and fills in what is not there yet, and the indexer
# reads the same file meanwhile: zeroes, and WAL behind them.  It must not cry
# damage, which would end every recovery window there, of a segment that is
# whole a moment later.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use WalArchive;
use WalFaults;

my $host = new_archive_host('archive', start => 0);
start_with_faults($host);
$host->safe_psql('postgres', 'CREATE EXTENSION walarchive');
my $primary = new_primary('primary', conf => "wal_keep_size = 256MB\n");
$primary->safe_psql('postgres', 'CREATE TABLE t (i int, filler text)');
add_source($host, 'prod', $primary);
switch_wal($primary, 1);
wait_archived($host, 'prod', $primary);

# WAL that is archived and not indexed, all in the open segment
stop_indexers($host);
my $from = $primary->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
$primary->safe_psql('postgres', "INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(1, 1000) i");
my $to = wait_archived($host, 'prod', $primary);
is($primary->safe_psql('postgres', "SELECT pg_walfile_name('$from') = pg_walfile_name('$to')"), 't', 'the WAL lies in one segment');
my $wal = wal_dir($host, 'prod');
my ($partial) = grep { /partial$/ } wal_files($wal, partial => 1);

# they may work again when the host is back
$host->safe_psql('postgres', 'ALTER SYSTEM RESET walarchive.max_indexers');
$host->stop('immediate');

# a page in the middle of it never came to the disk
my $middle = $primary->safe_psql('postgres', "SELECT ((('$from'::pg_lsn - '0/0') + ('$to'::pg_lsn - '$from'::pg_lsn) / 2)::bigint % 1048576) / 8192 * 8192");
open(my $fh, '+<:raw', "$wal/$partial") or die "could not open $partial: $!";
seek($fh, $middle, 0);
print $fh "\0" x 8192;
close($fh) or die "could not write $partial: $!";

# the receiver stands still before it writes the page that is missing
arm_faults($host, 'write:STOP:.partial:1');
start_with_faults($host);
my $pid;
ok(wait_for('the receiver to be about to write', sub {
	$pid = receiver_pid($host, 'prod');
	return 0 if ($pid // '') eq '';
	open(my $stat, '<', "/proc/$pid/stat") or return 0;
	return (<$stat> // '') =~ /\) [Tt] /; }), 'the receiver stands still before a page that it has to fill in');
is(stat_of($host, 'prod', 'flushed_lsn IS NULL'), 't', 'and has not said yet how far the archive is');

my $damage = q(SELECT count(*) FROM walarchive.segment WHERE source = 'prod' AND decode_state = 'damaged');
# an indexer that takes it for damage does so at its first look
my $limit = time() + 3;
usleep(50_000) while time() < $limit && $host->safe_psql('postgres', $damage) eq '0';
is($host->safe_psql('postgres', $damage), '0', 'the indexer does not call it damage');

# Nor may one that has heard of the zeroes from its decoder when the receiver is far
# beyond them: what the decoder says it gets late.
my $answers;
ok(wait_for('a decoder', sub {
	my ($indexer) = worker_pids($host, 'walarchive indexer') or return 0;
	my ($decoder) = map { /^\s*(\d+)\s+$indexer\s.*walarchive-decode/ ? $1 : () } split /\n/, `ps -A -o pid= -o ppid= -o args=`;
	return defined $decoder && (readlink("/proc/$decoder/fd/1") // '') =~ /(\[\d+\])/ && ($answers = $1); }), 'the segment is read again and again');
arm_faults($host, "read:DELAY_AFTER=3000000:$answers");
usleep(1_000_000);
disarm_faults($host);
kill('CONT', $pid);
wait_streaming($host, 'prod');
$primary->safe_psql('postgres', 'INSERT INTO t VALUES (0)');
my $end = wait_archived($host, 'prod', $primary);
ok(wait_for('the index', sub { stat_of($host, 'prod', "decoded_lsn >= '$end' OR decode_lag_bytes = 0") eq 't' }), 'all of it is indexed when it is whole');
is($host->safe_psql('postgres', $damage), '0', 'and nothing is damaged');
is($host->safe_psql('postgres', q(SELECT count(*) FROM walarchive.event WHERE kind = 'damage')), '0', 'nor was it ever said to be');
ok(wait_health($host, 'prod', 'damage', 'ok'), 'health says so');
is($host->safe_psql('postgres', q(SELECT string_agg(file, ' ') FROM walarchive.verify('prod'))), '', 'and verify');

$host->stop;
$primary->stop;
done_testing();
