# A launcher that hangs: stopped, or waiting for a disk that does not answer.  It is
# there, so nobody starts another, and what streams goes on streaming; but a receiver
# that ends now is not started again, and nobody would know why.  After a minute
# health says so, whatever else it would say of the launcher, and is quiet again when
# the launcher goes on.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalFaults;

my $host = new_archive_host('archive');
my $primary = new_primary('primary');
add_source($host, 'prod', $primary);
wait_archived($host, 'prod', $primary);

# What health says of the launcher.
sub launcher_health
{
	return $host->safe_psql('postgres', q(SELECT concat_ws('|', severity, message, hint) FROM walarchive.health WHERE source IS NULL AND "check" = 'launcher'));
}

my $launcher = $host->safe_psql('postgres', 'SELECT launcher_pid FROM walarchive.host_state()');
is(launcher_health(), 'ok|running', 'it runs');
my $stopped = $launcher;
END { kill('CONT', $stopped) if $stopped; }
is(kill('STOP', $launcher), 1, 'it is stopped');
$primary->safe_psql('postgres', 'CREATE TABLE t (a int)');
wait_archived($host, 'prod', $primary);
my $receiver = receiver_pid($host, 'prod');
is(kill('TERM', $receiver), 1, 'the receiver is ended');
ok(wait_for('the receiver to be gone', sub { process_gone($receiver) }), 'it ends');

my $said;
ok(wait_for('health to tell of it', sub { ($said = launcher_health()) =~ /^critical/ }), 'health tells of it');
like($said, qr/^critical\|the launcher \(process $launcher\) has not looked for (?!00:00:)\d\d:\d\d:\d\d: nothing is started, stopped or started again\|It is frozen/,
	'what is wrong, and what to do');
is(receiver_pid($host, 'prod'), '', 'no receiver was started meanwhile');

is(kill('CONT', $launcher), 1, 'it goes on');
$stopped = undef;
ok(wait_for('health to be quiet', sub { launcher_health() eq 'ok|running' }), 'health is quiet');
wait_streaming($host, 'prod');
$primary->safe_psql('postgres', 'INSERT INTO t VALUES (1)');
wait_archived($host, 'prod', $primary);
is($host->safe_psql('postgres', 'SELECT launcher_pid FROM walarchive.host_state()'), $launcher, 'it is the same launcher');

# one that begins is not blamed for the one before
$host->restart;
unlike(launcher_health(), qr/has not looked/, 'nothing of the kind is said of a server that was started just now');

$host->stop;
$primary->stop;
done_testing();
