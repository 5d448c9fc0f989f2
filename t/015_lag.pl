# How far behind is the archive, in seconds?  An operator looks at that number
# when the network is slow, when a process hangs, and on a quiet Sunday.  It must
# grow when the archive does not get, or cannot make durable, what the server
# writes, also where nobody tells it that there is anything to get; it must go
# back to nothing when all has come; and it must not frighten anybody on Sunday.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalFaults;

my $primary = new_primary('primary', conf => "autovacuum = off\ncheckpoint_timeout = 1h\nwal_keep_size = 256MB\n");
my $host = new_archive_host('archive', conf => "walarchive.receive_timeout = 8s\n", start => 0);
start_with_faults($host);
$host->safe_psql('postgres', 'CREATE EXTENSION walarchive');
add_source($host, 'prod', $primary);

# seconds behind, and bytes
sub behind
{
	return $host->safe_psql('postgres',
		"SELECT extract(epoch FROM lag), lag_bytes FROM walarchive.stat_receiver WHERE source = 'prod'");
}

sub wait_lag
{
	my ($what, $condition) = @_;
	return ok(wait_for($what, sub { stat_of($host, 'prod', $condition) eq 't' }), $what);
}

sub lag_health
{
	return $host->safe_psql('postgres',
		q(SELECT severity FROM walarchive.health WHERE source = 'prod' AND "check" = 'lag'));
}

# --- idle ---
wait_archived($host, 'prod', $primary);
wait_lag('idle: no lag', "lag = '0' AND lag_bytes = 0");
is(lag_health(), 'ok', 'idle: no alarm');
# (a snapshot of the background writer may come at any moment)
ok( wait_for('status', sub { $host->safe_psql('postgres',
		q(SELECT s.lag = r.lag AND s.lag_bytes = r.lag_bytes AND s.lag = '0' FROM walarchive.status s JOIN walarchive.stat_receiver r USING (source))) eq
	't' }), 'status says the same');
# many pings later nothing has changed: the server said that it has no more
my $seen = stat_of($host, 'prod', 'last_msg_receipt_time');
ok( wait_for('signs of life',
		sub { stat_of($host, 'prod', "last_msg_receipt_time > '$seen'::timestamptz + interval '10 s'") eq 't' }),
	'idle for longer than receive_timeout');
wait_lag('and still no lag', "lag = '0'");
is(stat_of($host, 'prod', 'reconnects'), '0', 'on the first connection');

# --- decoded as well ---
my $xid = $primary->safe_psql('postgres', 'BEGIN; CREATE TABLE c (i int); SELECT txid_current(); COMMIT');
wait_archived($host, 'prod', $primary);
wait_lag('the latest commit is known', "latest_commit_xid = '$xid'");
wait_lag('all is decoded', "decode_lag_bytes = 0 AND lag = '0'");
is(stat_of($host, 'prod', "latest_commit_lsn <= decoded_lsn AND clock_timestamp() - latest_commit_time BETWEEN '0' AND '10 min'"), 't',
	'with its time and place');
ok(wait_for('status', sub { $host->safe_psql('postgres', q(SELECT latest_commit_xid, decode_lag_bytes FROM walarchive.status WHERE source = 'prod')) eq
	"$xid|0" }), 'status says the same');
ok(wait_health($host, 'prod', 'index', 'ok'), 'health is ok');
# a switch of segments leaves nothing to decode, and page headers are no WAL
switch_wal($primary, 3);
wait_archived($host, 'prod', $primary);
wait_lag('after a switch all is decoded', "decode_lag_bytes = 0 AND lag = '0'");
# nobody decodes: what is durable is behind all the same
my $lock = open_session($host, 'BEGIN; LOCK TABLE walarchive.index_progress;');
$primary->safe_psql('postgres', 'INSERT INTO c VALUES (1)');
wait_lag('the catalog is locked: decoding lags', "decode_lag_bytes > 0 AND lag > '1 s' AND lag_bytes = 0");
close_session($lock);
wait_lag('unlocked: it catches up', "decode_lag_bytes = 0 AND lag = '0'");

# --- a receiver that hangs: nobody says that there is more ---
my $pid = receiver_pid($host, 'prod');
kill 'STOP', $pid;
$primary->safe_psql('postgres', 'CREATE TABLE t (i int)');
wait_lag('frozen receiver: lag appears', "lag > '8 s'");
my $before = (split /\|/, behind())[0];
wait_lag('frozen receiver: lag grows', "extract(epoch FROM lag) > $before");
kill 'CONT', $pid;
wait_archived($host, 'prod', $primary);
wait_lag('thawed: lag goes', "lag = '0' AND lag_bytes = 0");

# --- a slow disk: WAL comes, and is not durable; the server's clock says since when ---
arm_faults($host, 'fdatasync:DELAY=2500000:/wal/');
# it writes until it is told that this was seen
$primary->safe_psql('postgres', 'CREATE TABLE seen ()');
my $writer = start_sql($primary, "DO \$\$ BEGIN WHILE NOT EXISTS (SELECT FROM seen) LOOP INSERT INTO t VALUES (1); COMMIT; PERFORM pg_sleep(0.03); END LOOP; END \$\$;");
wait_lag('slow disk: lag, on a living connection',
	"lag > '1 s' AND lag_bytes > 0 AND state IN ('streaming', 'catchup') AND clock_timestamp() - last_msg_receipt_time < lag");
$primary->safe_psql('postgres', 'INSERT INTO seen DEFAULT VALUES');
disarm_faults($host);
is(sql_result($writer), 0, 'slow disk: the server was not held up');
wait_archived($host, 'prod', $primary);
wait_lag('fast again: lag goes', "lag = '0' AND lag_bytes = 0");

# --- a source that is paused ---
$host->safe_psql('postgres', "SELECT walarchive.pause_source('prod')");
wait_state($host, 'prod', 'paused');
$primary->safe_psql('postgres', 'INSERT INTO t SELECT generate_series(1, 1000)');
wait_lag('paused: lag appears', "lag > '2 s'");
is(lag_health(), 'unknown', 'paused: nobody knows');
$host->safe_psql('postgres', "SELECT walarchive.resume_source('prod')");
wait_streaming($host, 'prod');
wait_archived($host, 'prod', $primary);
wait_lag('resumed: lag goes', "lag = '0' AND lag_bytes = 0");

# --- a connection that hangs ---
my $sender;
wait_for('one walsender', sub { ($sender = $primary->safe_psql('postgres', 'SELECT pid FROM pg_stat_replication')) =~ /^\d+$/ });
kill 'STOP', $sender;
$primary->safe_psql('postgres', 'INSERT INTO t SELECT generate_series(1, 1000)');
wait_lag('frozen walsender: lag appears', "lag > '3 s'");
kill 'CONT', $sender;
wait_streaming($host, 'prod');
wait_archived($host, 'prod', $primary);
wait_lag('thawed: lag goes', "lag = '0' AND lag_bytes = 0");

# --- a server that is down ---
$primary->stop('immediate');
wait_lag('server down: lag grows', "lag > '2 s'");
$primary->start;
wait_streaming($host, 'prod');
wait_archived($host, 'prod', $primary);
wait_lag('server up: lag goes', "lag = '0' AND lag_bytes = 0");

done_testing();
