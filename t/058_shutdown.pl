# Stopping the archive host for maintenance must not take long, whatever is
# under way, and must leave nothing to repair; stopping the primary must hand
# over all of its WAL first, and not wait for an archive that is not there.
# Settings change by reload.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use WalArchive;
use WalFaults;

my $host = new_archive_host('archive');
my $primary = new_primary('primary', conf => "wal_keep_size = 1GB\n");
add_source($host, 'prod', $primary);
load_segments($primary, 1);
my $wal = wal_dir($host, 'prod');

# Less than the time after which what is frozen would be given up, which is 30 s;
# more than a busy machine takes.
my $limit = 25;

# An orderly end is seen first, and then that nobody answers.
sub wait_down
{
	return wait_for('the end of the primary to be seen',
		sub { stat_of($host, 'prod', "cause IN ('server_stopped', 'connection_failed')") eq 't' });
}

# 1. the host is stopped under load, several times
my $writers = start_writers($primary, 3);
my $log_offset = -s $host->logfile;
foreach my $mode (qw(fast smart fast))
{
	my $acked = acknowledged($writers);
	wait_for('load', sub { acknowledged($writers) > $acked + 50 });
	my @pids = (receiver_pid($host, 'prod'), worker_pids($host, 'walarchive launcher'));
	my $start = time();
	$host->stop($mode);
	my $seconds = time() - $start;
	cmp_ok($seconds, '<', $limit, sprintf('%s shutdown under load takes %.2f s', $mode, $seconds));
	is(scalar(grep { process_gone($_) } @pids), 2, 'and our processes are gone');
	$host->start;
	wait_streaming($host, 'prod');
}
stop_writers($writers);
wait_archived($host, 'prod', $primary);
my @finished = wal_files($wal);
is(compare_finished($wal, $primary, @finished), scalar(@finished), "all segments equal the primary's");
my $log = slurp_file($host->logfile, $log_offset);
unlike($log, qr/PANIC|server process|terminated by signal|exited with exit code [^01]/, 'no process crashed');
unlike($log, qr/database system was not properly shut down/, 'and the host was shut down cleanly');

# 2. stopped while nothing answers: the primary is gone, or frozen
$primary->stop;
ok(wait_down(), 'the primary is down');
my $start = time();
$host->stop;
cmp_ok(time() - $start, '<', $limit, 'shutdown while the receiver waits to connect again');
$host->start;
$primary->start;
wait_streaming($host, 'prod');
my $frozen = postmaster_pid($primary);
my $sender = $primary->safe_psql('postgres', "SELECT active_pid FROM pg_replication_slots");
kill('STOP', $sender, $frozen);
$start = time();
$host->stop;
cmp_ok(time() - $start, '<', $limit, 'shutdown while the primary is frozen');
kill('CONT', $sender, $frozen);
$host->start;
wait_streaming($host, 'prod');

# 3. the primary is stopped under load: all of its WAL is received first
$writers = start_writers($primary, 3);
my $acked = acknowledged($writers);
wait_for('load', sub { acknowledged($writers) > $acked + 50 });
append_to_file("$writers->{dir}/stop", '');
$primary->stop('fast');
stop_writers($writers);
my $control = `pg_controldata -D '@{[ $primary->data_dir ]}'`;
my ($checkpoint) = $control =~ /^Latest checkpoint location:\s+(\S+)/m;
ok(wait_down(), 'stopped primary: seen');
ok(wait_for('the checkpoint', sub { stat_of($host, 'prod', "flushed_lsn > '$checkpoint'") eq 't' }),
	'stopped primary: its shutdown checkpoint is in the archive');
ok(event_count($host, 'prod', qr/"cause": "server_stopped"/) >= 1,
	'stopped primary: it was an orderly end');
ok(wait_for('the receiver to wait', sub { stat_of($host, 'prod', 'state') eq 'waiting' }),
	'stopped primary: waiting');

# 4. and without an archive host the primary stops as well
$primary->start;
wait_streaming($host, 'prod');
$host->stop;
$start = time();
$primary->stop('fast');
cmp_ok(time() - $start, '<', $limit, 'the primary stops without the archive host');
$primary->start;
$host->start;
wait_streaming($host, 'prod');

# 5. settings change by reload, in the launcher and in receivers that stream
my $pid = receiver_pid($host, 'prod');
$host->safe_psql('postgres', "ALTER SYSTEM SET walarchive.status_interval = '100ms'");
$host->reload;
my $first = $primary->safe_psql('postgres', 'SELECT reply_time FROM pg_stat_replication');
ok( $primary->poll_query_until('postgres',
		"SELECT reply_time > '$first'::timestamptz AND reply_time > now() - interval '1 s' FROM pg_stat_replication"),
	'reload: status messages come more often');
$host->safe_psql('postgres', "ALTER SYSTEM SET walarchive.receive_timeout = '3s'");
$host->reload;
my $heard = stat_of($host, 'prod', 'last_msg_receipt_time');
ok( wait_for('pings',
		sub { stat_of($host, 'prod', "last_msg_receipt_time > '$heard'::timestamptz + interval '3 s'") eq 't' }),
	'reload: a shorter timeout leads to pings');
is(receiver_pid($host, 'prod'), $pid, 'reload: the receiver is the same');
is(stat_of($host, 'prod', 'state'), 'streaming', 'reload: and streams');

$host->stop;
$primary->stop;
done_testing();
