# A DBA asks whether 14:03:07 can be had, is told yes, works for four hours to
# get there, and lands elsewhere; or is told no, although it could have been had.
# So servers are given random pasts: commits, aborts, prepared transactions,
# clocks that go back, promotions, forks of forks, lost WAL.  Targets of every
# kind are drawn on them and planned, and each plan is put to PostgreSQL itself.
# Where the plan says yes, recovery has to end at the very record and with the
# very commits foretold; where it says no, PostgreSQL must fail, for that reason.
#
# WA_PREDICTION_TARGETS=1000 draws so many (60 by default), on as many pasts as
# that takes.  WA_PREDICTION_SEED=n (1 by default, so that two runs of all tests
# can be compared; "random" for any) repeats what is drawn; what happens in the
# servers' concurrent sessions is not repeated to the byte.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalHistory;
use WalPrediction;

my $targets = $ENV{WA_PREDICTION_TARGETS} // 60;
my $seed = $ENV{WA_PREDICTION_SEED} // 1;
$seed = time() % 1_000_000 if $seed eq 'random';
my $events = $ENV{WA_PREDICTION_EVENTS} // 4;
diag("WA_PREDICTION_SEED=$seed");
srand($seed);

my $host = new_archive_host('archive', sources => 2, conf => "fsync = off\n");
my $done = 0;
my $wrong = 0;
my %counts;
for (my $n = 1; $done < $targets; $n++)
{
	my $history = WalHistory->new($host, "past$n");
	$history->make($events);
	my $fetch = 'walarchive fetch -w -d postgres -h ' . $host->host . ' -p ' . $host->port . " --source=past$n --plan=\@plan\@";
	my $prediction = WalPrediction->new($history, fetch => [ qq($fetch --no-prefetch %f "%p"), qq($fetch --ahead=4MB %f "%p") ]);

	# most of them on the archive as it is, some on one with damage
	my $left = $targets - $done;
	my $here = $left < 60 ? $left : 60;
	for my $i (1 .. $here)
	{
		if ($i == int($here * 0.85) && $history->damage)
		{
			$history->indexed;
			$prediction->know;
		}
		$prediction->check;
		$done++;
	}
	$wrong += @{ $prediction->{wrong} };
	$counts{$_} += $prediction->{counts}{$_} for keys %{ $prediction->{counts} };
	is(scalar(@{ $prediction->{wrong} }), 0, "past $n: $here targets ended as planned (seed $seed)") or diag(join("\n", @{ $prediction->{wrong} }));
	$history->forget;
	$prediction->forget;
	$host->safe_psql('postgres', "SELECT walarchive.drop_source('past$n', drop_slot => false, delete_files => true)");
}
note(join("\n", map { "$counts{$_} $_" } sort keys %counts));
my $feasible = 0;
my $not = 0;
for my $what (keys %counts)
{
	next if $what =~ /^\(/;
	if ($what =~ / feasible$/) { $feasible += $counts{$what}; }
	else { $not += $counts{$what}; }
}
is($wrong, 0, "$done targets, $feasible of them feasible and $not not: no misprediction");
cmp_ok($feasible, '>', 0, 'some could be had');
cmp_ok($not, '>', 0, 'some could not');

done_testing();
