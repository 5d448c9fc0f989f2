# A loss of power of an archive host: its processes are gone at once, and so are the
# bytes of WAL that no sync has covered.  test/faults/power_shim.c has written down
# what was written and synced; what was not synced becomes zeroes again.
package ChaosPower;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename;
use PostgreSQL::Test::Utils;
use WalArchive;

my $shim = abs_path(dirname(__FILE__) . '/../../faults') . '/power_shim.so';

sub shim
{
	die "$shim is missing: make -C test/faults" if !-e $shim;
	return $shim;
}

# Ranges that were written and not synced: inode => [[offset, length], ...].
sub unsynced
{
	my ($log) = @_;
	my (%dirty, %covers);
	my $n = 0;
	return () if !-e $log;
	my $bytes = slurp_file($log);

	for (my $at = 0; $at + 40 <= length($bytes); $at += 40)
	{
		my ($what, $inode, $a, $b) = unpack('Q4', substr($bytes, $at, 32));
		$n++;
		if ($what == 1) { push @{ $dirty{$inode} }, [ $a, $b, $n ]; }
		elsif ($what == 2) { $covers{$a} = $n; }
		else
		{
			my $until = delete $covers{$a};
			$dirty{$inode} = [ grep { $_->[2] > $until } @{ $dirty{$inode} // [] } ];
		}
	}
	return %dirty;
}

# The host is dead: take what the power took.  Returns the number of bytes of WAL.
sub strike
{
	my ($host) = @_;
	my %dirty = unsynced($host->{power});
	my $lost = 0;

	for my $path (map { "$host->{wal}/$_" } wal_files($host->{wal}, partial => 1))
	{
		for my $range (@{ $dirty{ (stat($path))[1] } // [] })
		{
			my ($offset, $length) = @$range;
			open(my $fh, '+<:raw', $path) or die "could not open $path: $!";
			seek($fh, $offset, 0);
			read($fh, my $was, $length);
			$lost += ($was =~ tr/\0//c);
			seek($fh, $offset, 0);
			print $fh "\0" x length($was);
			close($fh) or die "could not write $path: $!";
		}
	}
	unlink($host->{power});
	return $lost;
}

1;
