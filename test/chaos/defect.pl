# Would the harness notice?  walarchive is built with a defect that no test of a
# running server can see: WAL is confirmed when it is written, before it is synced.
# An archive host with that build loses its power, together with the primary, and
# the standby is promoted: commits that were acknowledged are nowhere.  The very
# same faults pass with the build that is installed.
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
my $seed = $ENV{WA_CHAOS_SEED} // 1;

my $copy = ChaosInstall::build(['walarchive.so'], ['src/capture/stream.c'], 'COPT=-DWA_DEFECT_CONFIRM_EARLY');
my $install = ChaosInstall::make('pkglibdir walarchive.so' => "$copy/walarchive.so")->{path};
is(ChaosRun->new(seed => $seed, seconds => 600, rounds => 1, faults => [$fault])->try, '', "$fault: nothing is lost with the build that is installed");
my $why = '';
my $rounds = 0;
# whether a commit comes between write and sync is chance
while ($why eq '' && $rounds < 5)
{
	$why = ChaosRun->new(seed => $seed + ++$rounds, seconds => 600, rounds => 1, faults => [$fault], install_path => $install)->try;
}
like($why, qr/acknowledged commits are in no archive/, "$fault: with a build that confirms before the sync, commits are found to be lost (run $rounds)");

done_testing();
