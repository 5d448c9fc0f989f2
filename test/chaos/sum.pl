# Adds up the lines that runs of the chaos harness wrote: time, faults by kind, and
# what was lost.  Arguments: the files.
use strict;
use warnings;

use JSON::PP ();

my (%faults, %counts, @failed);
my ($runs, $seconds, $rounds, $total) = (0, 0, 0, 0);
while (my $text = <>)
{
	my $line = JSON::PP::decode_json($text);
	next if $line->{kind} ne 'run';
	$runs++;
	$seconds += $line->{seconds};
	$rounds += $line->{rounds};
	$total += $line->{faults};
	$faults{$_} += $line->{by_kind}{$_} for keys %{ $line->{by_kind} };
	$counts{$_} += $line->{counts}{$_} for keys %{ $line->{counts} };
	push @failed, "seed $line->{seed}: $line->{failed}" if $line->{failed} ne '';
}
printf("%d runs, %.1f hours, %d rounds, %d faults\n\n", $runs, $seconds / 3600, $rounds, $total);
print "| fault | times |\n|---|---|\n";
print "| $_ | $faults{$_} |\n" for sort keys %faults;
print "\n", join("\n", map { "$_: $counts{$_}" } sort keys %counts), "\n";
print "\nFAILED: $_\n" for @failed;
exit(@failed ? 1 : 0);
