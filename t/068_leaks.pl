# Processes that run for months take a little memory with each message, or each
# record, or each time a connection is made anew, and never give it back.  A
# million messages go through one receiver, more than a million WAL records
# through one indexer and its decoder, and receivers connect a few hundred times:
# none of them has grown since it was warm.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalFaults;
use WalHostile;

plan skip_all => 'there is no /proc that tells the memory of a process' if !-r '/proc/self/status';
plan skip_all => 'a sanitizer keeps what is freed' if $ENV{ASAN_OPTIONS};

# kB that are a process's own; undef if there is none
sub memory_of
{
	my ($pid) = @_;
	open(my $fh, '<', "/proc/$pid/status") or return undef;
	my $text = do { local $/ = undef; <$fh> };
	return defined $text && $text =~ /^RssAnon:\s+(\d+) kB/m ? $1 : undef;
}

# Bytes that its memory contexts have in use, by what it writes into the log; undef if it leaves.
sub used_by
{
	my ($host, $pid) = @_;
	my $at = -s $host->logfile;
	my $used;
	$host->safe_psql('postgres', "SELECT pg_log_backend_memory_contexts($pid)");
	wait_for("process $pid to tell its memory", sub {
			($used) = slurp_file($host->logfile, $at) =~ /\[$pid\].*Grand total: .* (\d+) used/;
			return defined $used || process_gone($pid);
		});
	return $used;
}

# The decoders that an indexer has started.
sub decoders_of
{
	my ($pid) = @_;
	return map { /^\s*(\d+)\s+$pid\s+\S*walarchive-decode/ ? $1 : () } split(/\n/, `ps -A -ww -o pid= -o ppid= -o args=`);
}

# ---- what is sent to the receivers ----

my $from = 0x1300000;
my ($warm_bytes, $wal_bytes, $piece) = (4 * 1024 * 1024, 36 * 1024 * 1024, 64);
my $signal = PostgreSQL::Test::Utils::tempdir() . '/go';

# WAL in pieces of 64 bytes, each with a keepalive: so many messages of each.
sub send_pieces
{
	my ($c, $to) = @_;
	my $select = IO::Select->new($c->{sock});
	my $bytes = pack('Q>*', map { $_ * 2654435761 | 1 } 1 .. $piece / 8);
	my $count = 0;
	my $at = $c->{at} // $c->{start};
	while ($at < $to)
	{
		my $batch = '';
		for (1 .. 1024)
		{
			$batch .= wal_message($at, $bytes, $to) . keepalive_message($to, 0);
			$at += $piece;
			$count += 2;
			last if $at >= $to;
		}
		$c->put($batch);
		# what it says meanwhile has to go somewhere
		$c->listen while length($c->{in}) >= 5 || $select->can_read(0);
	}
	$c->{at} = $c->{sent} = $at;
	$c->hear('sent', $count);
	return;
}

my %mode = (
	many => { flushed => $from + $wal_bytes, stream => sub {
			my ($c) = @_;
			send_pieces($c, $from + $warm_bytes);
			$c->put(keepalive_message($c->{at}, 1));
			my $select = IO::Select->new($c->{sock});
			until (-e $signal) { $c->listen if $select->can_read(0.1); }
			send_pieces($c, $from + $wal_bytes);
			$c->put(keepalive_message($c->{at}, 1));
			$c->listen while 1;
		} },
	# streams a little more each time, for who brings nothing new is not asked again at once, and is gone
	map {
		my $name = "gone$_";
		($name => { flushed => $from + 125 * 8192, stream => sub {
				my ($c) = @_;
				my $n = () = $c->{server}->heard($name, 'connection');
				$c->send_wal($from + ($n > 125 ? 125 : $n) * 8192);
				POSIX::_exit(0);
			} })
	} 1 .. 6);
my $server = WalHostile->new(modes => \%mode);
my $host = new_archive_host('archive', sources => 10, conf => "walarchive.max_indexers = 1\nfsync = off\nlog_line_prefix = '[%p] '\n");

# ---- an indexer ----

my $primary = new_primary('primary', conf => "fsync = off\nsynchronous_commit = off\nwal_keep_size = 1GB\n");
add_source($host, 'prod', $primary, args => 'relation_names_interval => NULL');

# An indexer that has nothing to do leaves: so there is always a little.
my $trickle = start_sql($primary, "DO \$\$ BEGIN LOOP PERFORM pg_create_restore_point('little'); PERFORM pg_sleep(0.1); END LOOP; END \$\$");

# Many records of each kind, of which an indexer hears by the segment and one by
# one, and who has taken them: the process and its decoder, and what they have.
my $round = 0;
sub take_records
{
	my ($messages, $points) = @_;
	$round++;
	$primary->safe_psql('postgres', "
		SELECT count(pg_logical_emit_message(false, 'l', 'x')) FROM generate_series(1, $messages);
		SELECT count(pg_create_restore_point('$round ' || n)) FROM generate_series(1, $points) n");
	wait_for('the records to be indexed',
		sub { $host->safe_psql('postgres', "SELECT count(*) FROM walarchive.restore_point WHERE name LIKE '$round %'") eq $points })
	  or BAIL_OUT('the records are not indexed');
	my ($indexer) = worker_pids($host, 'walarchive indexer') or return undef;
	my ($decoder) = decoders_of($indexer) or return undef;
	my %took = (indexer => $indexer, decoder => $decoder, memory => memory_of($indexer), decoder_memory => memory_of($decoder));
	$took{used} = used_by($host, $indexer);
	return (grep { !defined $_ } values %took) ? undef : \%took;
}

# One that did leave, on a machine that stood still, is no witness.
my ($warm, $last);
for (1 .. 5)
{
	# plans are made anew some times before they are kept
	take_records(200_000, 4000) for (1 .. 2);
	$warm = take_records(200_000, 4000) or next;
	for (1 .. 5) { $last = take_records(200_000, 4000); }
	last if $last && $last->{indexer} == $warm->{indexer} && $last->{decoder} == $warm->{decoder};
	undef $last;
	note('the indexer has left');
}
ok($last, 'indexer: one process took more than a million records') or BAIL_OUT('no indexer stays');
note("indexer: $warm->{used} bytes, $warm->{memory} kB, then $last->{used} bytes, $last->{memory} kB; decoder: $warm->{decoder_memory}, then $last->{decoder_memory} kB");
cmp_ok($last->{used} - $warm->{used}, '<', 1024 * 1024, 'indexer: what it uses does not grow with what it reads');
cmp_ok($last->{memory} - $warm->{memory}, '<', 32 * 1024, 'indexer: nor what it takes from the system');
cmp_ok($last->{decoder_memory} - $warm->{decoder_memory}, '<', 1024, 'decoder: its memory does not grow with what it reads');

# ---- a receiver ----

$host->safe_psql('postgres', join(';', map { "SELECT walarchive.add_source('$_', \$\$" . $server->conninfo($_) . '$$, check_connection => false, relation_names_interval => NULL)' } sort keys %mode));
wait_for('the receiver to be warm', sub { $server->confirmed('many') >= $from + $warm_bytes }) or BAIL_OUT('nothing is confirmed');
my $pid = receiver_pid($host, 'many');
my $before = memory_of($pid);
append_to_file($signal, '');
wait_for('the receiver to have all', sub { $server->confirmed('many') >= $from + $wal_bytes }) or BAIL_OUT('not all is confirmed');
my $after = memory_of($pid);
is(receiver_pid($host, 'many'), $pid, 'receiver: one process took them all');
my ($first, $second) = $server->heard('many', 'sent');
cmp_ok($second, '>=', 1_000_000, 'receiver: a million messages');
note("receiver: $before kB after $first messages, $after kB after $second more");
cmp_ok($after - $before, '<', 1024, 'receiver: its memory does not grow with messages');

# ---- connections made anew ----

sub connections { my ($name) = @_; return scalar($server->heard($name, 'connection')); }
my @gone = map { "gone$_" } 1 .. 6;
my %has;
foreach my $name (@gone)
{
	wait_for("some connections of $name", sub { connections($name) >= 15 }) or BAIL_OUT("$name does not come back");
	$has{$name} = { pid => receiver_pid($host, $name), from => connections($name) };
	$has{$name}{memory} = memory_of($has{$name}{pid});
}
foreach my $name (@gone)
{
	my $is = $has{$name};
	wait_for("many connections of $name", sub { connections($name) >= $is->{from} + 50 }) or BAIL_OUT("$name does not come back");
	is(receiver_pid($host, $name), $is->{pid}, "$name: it is the same process");
	my $now = memory_of($is->{pid});
	note("$name: $is->{memory} kB, then $now kB");
	cmp_ok($now - $is->{memory}, '<', 512, "$name: its memory does not grow with each connection");
}

$host->stop;
$primary->stop;
$server->stop;
done_testing();
