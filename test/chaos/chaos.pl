# Everything breaks at once, for as long as it is given.  A primary with a hot
# standby, two archive hosts of which each commit waits for one, writers; faults of
# processes, networks, disks, clocks, slots and files are drawn from a seed, up to
# three at a time, and failovers between them.  After each round: no commit that
# was acknowledged is missing, the archives hold the same bytes, what was left behind
# by a failover is named, restores end where their plans say, nothing is left over,
# and health is quiet.  See README.md in this folder.
#
# WA_CHAOS_SEED, WA_CHAOS_SECONDS (of faults and checks), WA_CHAOS_FAULTS (names,
# by comma), WA_CHAOS_ROUNDS, WA_CHAOS_RESULTS (a file).
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib", "$FindBin::RealBin/../../t/lib";
use ChaosRun;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{WA_CHAOS_SEED} // int(rand(1_000_000));
diag("WA_CHAOS_SEED=$seed");
my $run = ChaosRun->new(seed => $seed, seconds => $ENV{WA_CHAOS_SECONDS} // 200, rounds => $ENV{WA_CHAOS_ROUNDS},
	faults => [ split /\s*,\s*/, $ENV{WA_CHAOS_FAULTS} // '' ], results => $ENV{WA_CHAOS_RESULTS});
my $done = eval { $run->run; 1 };
ok($done, "seed $seed: nothing that was acknowledged is lost, and all is as it should be") or diag($@);
done_testing();
