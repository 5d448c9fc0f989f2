# Would the harness notice?  walarchive is built with a defect that no test of a
# running server can see: WAL is confirmed when it is written, before it is synced.
# Archive hosts with that build lose their power, together with the primary, while
# syncs are under way, and the standby is promoted: commits that were acknowledged are
# nowhere.  In the round before, with the build that is installed, the same fault
# loses nothing.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib", "$FindBin::RealBin/../../t/lib";
use ChaosInstall;
use ChaosRun;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $fault = 'power loss of all and failover';
my $copy = ChaosInstall::build(['walarchive.so'], ['src/capture/stream.c'], 'COPT=-DWA_DEFECT_CONFIRM_EARLY');
my $run = ChaosRun->new(seed => $ENV{WA_CHAOS_SEED} // 1, seconds => 86400, rounds => 2, faults => [$fault],
	installs => { map { $_ => ChaosInstall::make() } qw(a b) },
	before_round => sub { my ($c, $round) = @_; $c->confirm_early("$copy/walarchive.so") if $round == 2 });
my $why = $run->try;
is($run->{round}, 2, "$fault: nothing is lost with the build that is installed") or diag($why);
like($why, qr/acknowledged commits are in no archive/, "$fault: commits are found to be lost with a build that confirms before the sync");

done_testing();
