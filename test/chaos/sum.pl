# Adds up the lines that runs of the chaos harness wrote: time, faults by kind, what
# health told, and what was lost.  Arguments: the files.  With --page FILE first,
# what stands in FILE between the lines "<!-- chaos -->" and "<!-- /chaos -->" is
# replaced by it.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use ChaosTable;
use JSON::PP ();

my $page;
(undef, $page) = splice(@ARGV, 0, 2) if @ARGV && $ARGV[0] eq '--page';

my (%times, %told, %lost, %counts, %memory, @failed);
my ($runs, $seconds, $rounds, $total) = (0, 0, 0, 0);
while (my $text = <>)
{
	my $line = JSON::PP::decode_json($text);
	next if $line->{kind} ne 'run';
	$runs++;
	$seconds += $line->{seconds};
	$rounds += $line->{rounds};
	$total += $line->{faults};
	# three were called otherwise once
	$times{ s/^failover, archive/failover with the archive/r =~ s/all, failover/all and failover/r } += $line->{by_kind}{$_} for keys %{ $line->{by_kind} };
	$told{$_} += $line->{told}{$_} for keys %{ $line->{told} // {} };
	$counts{$_} += $line->{counts}{$_} for keys %{ $line->{counts} };
	for (keys %{ $line->{memory} // {} }) { $memory{$_} = $line->{memory}{$_} if $line->{memory}{$_} > ($memory{$_} // 0); }
	next if $line->{failed} eq '';
	push @failed, "seed $line->{seed}: $line->{failed}";
	next if $line->{failed} !~ /acknowledged commits are in no archive|missing:/;
	for (@{ $line->{now} // [] }) { $lost{$1} = $line->{failed} if /^(.*) \([ab]\)$/; }
}

sub thousands
{
	my $number = reverse($_[0] // 0);
	$number =~ s/(\d{3})(?=\d)/$1,/g;
	return scalar reverse $number;
}

my $out = sprintf("%d runs, %.1f hours, %s rounds, %s faults. %s commits were acknowledged, and each was looked for and found; a failover had left %s of them behind, which\n"
	  . "were named and restored. %s copies were restored, with %s rows; the bytes of %s pairs of files of the two archives were compared.\n",
	$runs, $seconds / 3600, map { thousands($_) } $rounds, $total, @counts{qw(checked stranded restores rows compared)});
$out .= 'The most memory of its own that a process had: ' . join(', ', map { sprintf('%s %.1f MB', s/ prod$//r, $memory{$_} / 1024) } sort keys %memory) . ".\n" if %memory;
$out .= "\n| fault | what is done | times | health told | what was lost |\n|---|---|--:|--:|---|\n";
for my $name (ChaosTable::names())
{
	next if !$times{$name};
	$out .= sprintf("| %s | %s | %s | %s | %s |\n", $name, ChaosTable::done($name), thousands($times{$name}), $told{$name} // '', $lost{$name} // 'nothing');
}

if (defined $page)
{
	open(my $in, '<', $page) or die "could not open $page: $!\n";
	my $text = do { local $/ = undef; <$in> };
	$text =~ s/(<!-- chaos -->\n).*?(<!-- \/chaos -->)/$1$out$2/s or die "$page has no place for it\n";
	open(my $fh, '>', $page) or die "could not write $page: $!\n";
	print $fh $text;
	close($fh) or die "could not write $page: $!\n";
}
else
{
	print $out;
}
print STDERR "\n", map { "FAILED: $_\n" =~ s/\n+\z/\n/r } @failed if @failed;
exit(@failed && !defined $page ? 1 : 0);
