# A server that neither answers nor hangs up: a frozen virtual machine, a
# firewall that drops packets.  A receiver without a timeout waits for TCP to
# notice, which takes minutes or hours.  Ours gives the connection up after
# walarchive.receive_timeout, says so, and streams again when the server is
# back, even if a walsender of before still holds the slot.
use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use WalArchive;
use WalFaults;

my $timeout = 4.0;
my $host = new_archive_host('archive',
	conf => "walarchive.receive_timeout = '4s'\nwalarchive.status_interval = '500ms'\n");
my $primary = new_primary('primary', conf => "wal_sender_timeout = 60s\nwal_keep_size = 1GB\n");
add_source($host, 'prod', $primary);
load_segments($primary, 1);
wait_archived($host, 'prod', $primary);
my $wal = wal_dir($host, 'prod');

# Whatever happens, nothing stays frozen.
my @frozen;

sub freeze { push @frozen, @_; is(kill('STOP', @_), scalar @_, 'frozen'); return; }
sub thaw { kill('CONT', @frozen); @frozen = (); return; }
END { kill('CONT', @frozen) if @frozen; }

sub sender_pid
{
	return $primary->safe_psql('postgres',
		"SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'walarchive_prod'");
}

# A time of the journal in seconds since 1970.
sub seconds_of
{
	my ($time) = @_;
	return $host->safe_psql('postgres', "SELECT extract(epoch FROM '$time'::timestamptz)");
}

# Wait for receive_timeout and check that it came in time, and is in the journal.
sub expect_timeout
{
	my ($what, $since) = @_;
	# the last message; the next attempt may hear of the server again
	my $heard;
	my $line;
	ok( wait_for('the connection to be given up',
			sub {
				my $last = stat_of($host, 'prod', 'extract(epoch FROM last_msg_receipt_time)');
				($line) = grep { ($_->{cause} // '') eq 'receive_timeout' && seconds_of($_->{time}) > $since } journal_lines($host, 'prod');
				$heard = $last if !$line || !defined $heard;
				return defined $line;
			}),
		"$what: noticed");
	my $seconds = seconds_of($line->{time}) - $heard;
	cmp_ok($seconds, '>=', $timeout - 0.1, "$what: not before the timeout");
	# nobody else would notice for a minute
	cmp_ok($seconds, '<', $timeout + 20,
		sprintf('%s: after the timeout (%.2f s after the last message)', $what, $seconds));
	return;
}

sub expect_recovery
{
	my ($what) = @_;
	wait_streaming($host, 'prod');
	load_segments($primary, 1);
	wait_archived($host, 'prod', $primary);
	cmp_ok(compare_finished($wal, $primary), '>=', 2,
		"$what: streaming again, segments equal the primary's");
	is(stat_of($host, 'prod', 'cause IS NULL'), 't', "$what: no cause is left");
	return;
}

# 0. a server that has nothing to say is not taken for dead
my $reconnects = stat_of($host, 'prod', 'reconnects');
my $heard = stat_of($host, 'prod', 'last_msg_receipt_time');
ok( wait_for('answers to three pings',
		sub { stat_of($host, 'prod',
				"last_msg_receipt_time > '$heard'::timestamptz + interval '6 s'") eq 't' }),
	'idle: the server answers pings');
is(stat_of($host, 'prod', "state || ' ' || reconnects"),
	"streaming $reconnects", 'idle: and the connection stays');

# 1. walsender and postmaster frozen: not even a new connection is answered
my $sender = sender_pid();
my $postmaster = postmaster_pid($primary);
my $since = time();
freeze($sender, $postmaster);
expect_timeout('frozen server', $since);
isnt(stat_of($host, 'prod', 'state'), 'streaming', 'frozen server: it is not called streaming');
thaw();
expect_recovery('frozen server');

# 2. only the walsender is frozen: the server is there, and the slot is held.
# The server asks for the short wal_sender_timeout that we gave it, but a
# stopped process measures no time.
$sender = sender_pid();
$since = time();
freeze($sender);
expect_timeout('frozen walsender', $since);
ok(wait_cause($host, 'prod', 'slot_active'), 'held slot: cause slot_active');
ok(wait_for('the receiver to wait', sub { stat_of($host, 'prod', 'state') eq 'waiting' }),
	'held slot: waiting');
like(stat_of($host, 'prod', 'last_error'), qr/replication slot "walarchive_prod" is active for PID $sender/,
	'held slot: the error names the process');
ok( $host->poll_query_until('postgres',
		q(SELECT severity || '|' || (hint LIKE 'Another walsender holds%') FROM walarchive.health
		  WHERE source = 'prod' AND "check" = 'receiver'),
		'warning|true'), 'held slot: health warns and says what to do');
is( event_count($host, 'prod', qr/"cause": "slot_active"/),
	1, 'held slot: one event, however often it is tried');
thaw();
expect_recovery('held slot');

# 3. a black hole: packets into one direction or both are dropped, nobody hangs up
my $proxy_dir = PostgreSQL::Test::Utils::tempdir_short();
my $proxy_port = $primary->port;
my $proxy_pid = fork() // die "could not fork: $!";
if ($proxy_pid == 0)
{
	run_proxy("$proxy_dir/.s.PGSQL.$proxy_port", $primary->host . '/.s.PGSQL.' . $primary->port,
		"$proxy_dir/hole");
	POSIX::_exit(0);
}
END { kill('KILL', $proxy_pid) if $proxy_pid; }
wait_for('the proxy', sub { -S "$proxy_dir/.s.PGSQL.$proxy_port" }) or BAIL_OUT('no proxy');
$host->safe_psql('postgres',
	"SELECT walarchive.alter_source('prod', conninfo => 'host=$proxy_dir port=$proxy_port')");
ok( wait_for('streaming through the proxy',
		sub { stat_of($host, 'prod', "state = 'streaming' AND sender_host = '$proxy_dir'") eq 't' }),
	'black hole: streaming through a proxy first');
$since = time();
append_to_file("$proxy_dir/hole", '');
expect_timeout('black hole', $since);
my $error_time = stat_of($host, 'prod', 'last_error_time');
ok( wait_for('a connection attempt to end',
		sub { stat_of($host, 'prod', 'last_error_time') ne $error_time }),
	'black hole: an attempt to connect into it ends as well');
$primary->safe_psql('postgres', "INSERT INTO filler VALUES ('x')");
unlink("$proxy_dir/hole");
expect_recovery('black hole');

# Forward connections between two sockets; while the file is there nothing is
# read and nothing is closed.
sub run_proxy
{
	my ($listen_path, $target, $hole) = @_;
	my $listener = IO::Socket::UNIX->new(Local => $listen_path, Listen => 20) or POSIX::_exit(1);
	my $select = IO::Select->new($listener);
	my %peer;

	while (1)
	{
		my @ready = $select->can_read(0.05);
		next if -e $hole;
		foreach my $socket (@ready)
		{
			if ($socket == $listener)
			{
				my $client = $listener->accept or next;
				my $server = IO::Socket::UNIX->new(Peer => $target);
				if (!$server) { close($client); next; }
				@peer{ $client, $server } = ($server, $client);
				$select->add($client, $server);
				next;
			}
			next if !$peer{$socket};
			my $n = sysread($socket, my $data, 65536);
			if ($n)
			{
				my $other = $peer{$socket};
				my $done = 0;
				while ($done < $n)
				{
					my $sent = syswrite($other, $data, $n - $done, $done) or last;
					$done += $sent;
				}
				next if $done == $n;
			}
			# ended: both sides
			my $other = delete $peer{$socket};
			delete $peer{$other};
			$select->remove($socket, $other);
			close($socket);
			close($other);
		}
	}
	return;
}

kill('KILL', $proxy_pid);
waitpid($proxy_pid, 0);
$proxy_pid = 0;
$host->stop;
$primary->stop;
done_testing();
