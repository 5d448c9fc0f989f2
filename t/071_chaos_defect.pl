# A test that finds nothing may be blind.  walarchive is built with a defect, WAL is
# confirmed before it is synced, and the chaos harness has to say that acknowledged
# commits are lost; of the build that is installed it must not.  See
# test/chaos/defect.pl.  WA_CHAOS=no: it is left out.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib", "$FindBin::RealBin/../test/chaos/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'WA_CHAOS=no' if ($ENV{WA_CHAOS} // '') eq 'no';
$ENV{WA_CHAOS_SEED} //= 1;
require "$FindBin::RealBin/../test/chaos/defect.pl";
