# A machine dies in the middle of a commit.  The receiver, the archive host's
# postmaster and the primary's postmaster are killed with SIGKILL at random
# moments, 20 times, while clients commit synchronously.  No commit that a
# client was told of may be missing from a restore from the archive, the open
# segment included, and streaming has to be back within 3 s of the killed
# server accepting connections again.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use WalArchive;
use WalFaults;

my $kills = 20;
my $limit = 3.0;
my $seed = $ENV{WA_SEED} // int(time() * 1000) % 1_000_000;
srand($seed);
diag("seed $seed (set WA_SEED to repeat)");

my $host = new_archive_host('archive');
my $primary = new_primary('primary', conf => "checkpoint_timeout = 30s\nautovacuum = on\n");
add_source($host, 'prod', $primary);
$primary->backup('base');
$primary->safe_psql('postgres',
	"CREATE TABLE written (id bigserial PRIMARY KEY, filler text)");
make_synchronous($primary, 'walarchive_prod');

my $writers = start_writers($primary, 4);
wait_for('first acknowledged commits', sub { acknowledged($writers) >= 20 })
  or BAIL_OUT('no commit was acknowledged');

# each kind several times, in random order
my @kinds = map { (qw(receiver archive primary))[ $_ % 3 ] } 0 .. $kills - 1;
for my $i (reverse 1 .. $#kinds)
{
	my $j = int(rand($i + 1));
	@kinds[ $i, $j ] = @kinds[ $j, $i ];
}

# Start a server whose postmaster was killed, as soon as its children are gone.
sub start_again
{
	my ($node) = @_;
	wait_for('the killed server to start again',
		sub {
			# a start that failed takes the dead postmaster's pid for its own
			$node->{_pid} = undef;
			return $node->start(fail_ok => 1);
		})
	  or BAIL_OUT('a killed server does not start');
	return;
}

# One look at the receiver: pid, state and reconnects, undef if the host is down.
sub look
{
	my $row = try_psql($host,
		"SELECT coalesce(pid, 0), state, coalesce(reconnects, 0)
		 FROM walarchive.stat_receiver WHERE source = 'prod'");
	return if !defined $row || $row eq '';
	return split /\|/, $row;
}

my %worst = (receiver => 0, archive => 0, primary => 0);
my $acked_before = 0;
foreach my $n (1 .. $kills)
{
	my $kind = $kinds[ $n - 1 ];
	my ($pid, $state, $reconnects) = look();
	my $new_pid;

	# the moment is random; nothing is waited for
	usleep(int(rand(700_000)));
	my ($up, $back, $effect);
	if ($kind eq 'receiver')
	{
		is(kill('KILL', $pid), 1, "kill $n: receiver $pid");
	}
	elsif ($kind eq 'archive')
	{
		my $old = postmaster_pid($host);
		$host->kill9;
		start_again($host);
		$effect = postmaster_pid($host) != $old;
		ok($effect, "kill $n: archive host has another postmaster");
	}
	else
	{
		my $old = postmaster_pid($primary);
		$primary->kill9;
		start_again($primary);
		$up = time();
		$effect = postmaster_pid($primary) != $old;
		ok($effect, "kill $n: primary has another postmaster");
	}
	wait_for("streaming after kill $n of the $kind",
		sub {
			($new_pid, my $new_state, my $new_reconnects) = look();
			return 0 if !defined $new_pid;
			# the crash has not been noticed yet
			return 0 if $kind ne 'primary' && $new_pid == $pid;
			return 0 if $kind eq 'primary' && $new_reconnects == $reconnects;
			$up //= time();
			$back = time();
			return $new_state eq 'streaming' && $new_pid != 0;
		})
	  or BAIL_OUT("streaming does not come back after the $kind was killed");
	# a primary's death is no reason for the receiver to die
	($kind eq 'primary' ? \&is : \&isnt)->($new_pid, $pid, "kill $n: pid of the receiver");
	my $seconds = $back - $up;
	$worst{$kind} = $seconds if $seconds > $worst{$kind};
	cmp_ok($seconds, '<', $limit,
		sprintf('kill %d (%s): streaming again after %.2f s', $n, $kind, $seconds));

	# commits go on
	wait_for("commits after kill $n", sub { acknowledged($writers) > $acked_before })
	  or BAIL_OUT('commits do not go on');
	$acked_before = acknowledged($writers);
}
diag(sprintf('longest time to streaming: receiver %.2f s, archive host %.2f s, primary %.2f s',
		@worst{qw(receiver archive primary)}));

stop_writers($writers);
my @ids = acknowledged($writers);
cmp_ok(scalar @ids, '>', 100, scalar(@ids) . ' commits were acknowledged');

# as the archive stands when both are gone
my $wal = wal_dir($host, 'prod');
$host->stop('immediate');
$primary->stop('immediate');
my $restored = restore_from_archive('restored', $primary, 'base', $wal);
my %have = map { $_ => 1 }
  split /\n/, $restored->safe_psql('postgres', 'SELECT id FROM written');
my @missing = grep { !$have{$_} } @ids;
is(scalar @missing, 0, 'no acknowledged commit is missing from the restored archive')
  or diag("missing: @missing[0 .. ($#missing > 20 ? 20 : $#missing)]");
$restored->stop;

done_testing();
