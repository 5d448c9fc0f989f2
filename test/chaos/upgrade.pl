# The archive hosts are upgraded, and go back, while commits wait for them and other
# things break: the files of another version take the place of those that are there,
# the server is restarted, ALTER EXTENSION UPDATE is run.  All that has to hold after
# any round holds after these.
#
# WA_CHAOS_SEED, WA_CHAOS_SECONDS, WA_CHAOS_ROUNDS, WA_CHAOS_RESULTS: as for chaos.pl.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib", "$FindBin::RealBin/../../t/lib";
use ChaosInstall;
use ChaosRun;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{WA_CHAOS_SEED} // 1;
diag("WA_CHAOS_SEED=$seed");
my ($one, $other) = ChaosInstall::versions(2);
my $run = ChaosRun->new(seed => $seed, seconds => $ENV{WA_CHAOS_SECONDS} // 200, rounds => $ENV{WA_CHAOS_ROUNDS}, results => $ENV{WA_CHAOS_RESULTS},
	faults => [ 'extension upgraded', 'pg_switch_wal storm', 'SIGKILL of the receiver', 'backup meanwhile' ],
	installs => { a => $one, b => $other });
my $done = eval { $run->run; 1 };
ok($done, "seed $seed: nothing that was acknowledged is lost, and all is as it should be") or diag($@);
done_testing();
