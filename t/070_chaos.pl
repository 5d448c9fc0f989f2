# Everything breaks at once.  Two archive hosts confirm the commits of a primary
# with a standby, writers log what was acknowledged, and processes are killed and
# frozen, networks cut, disks filled, clocks set, servers promoted, power lost, as
# a seed says.  Nothing that was acknowledged may be missing afterwards, whatever
# happened together.  This is the short run, with the same faults each time;
# test/chaos/README.md tells of the long ones, and of the checks.
#
# WA_CHAOS_SEED, WA_CHAOS_SECONDS: another run.  WA_CHAOS=no: none.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib", "$FindBin::RealBin/../test/chaos/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'WA_CHAOS=no' if ($ENV{WA_CHAOS} // '') eq 'no';
$ENV{WA_CHAOS_SEED} //= 29;
$ENV{WA_CHAOS_SECONDS} //= 180;
$ENV{WA_CHAOS_ROUNDS} //= 12;
require "$FindBin::RealBin/../test/chaos/chaos.pl";
