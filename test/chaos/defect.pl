# Would the harness notice?  walarchive is built with a defect that no test of a
# running server can see: WAL is confirmed when it is written, before it is synced.
# An archive host with that build loses its power, together with the primary, and
# the standby is promoted: commits that were acknowledged are nowhere.  The very
# same faults pass with the build that is installed.
#
# The defective build is in a copy of the server's programs and libraries, made of
# links, and is gone with the test.
use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use FindBin;
use lib "$FindBin::RealBin/lib", "$FindBin::RealBin/../../t/lib";
use ChaosRun;
use File::Basename;
use File::Path qw(make_path);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $fault = 'power loss of all and failover';
my $seed = $ENV{WA_CHAOS_SEED} // 1;

# A folder of PostgreSQL's that pg_config names.
sub folder
{
	my ($which) = @_;
	chomp(my $path = `pg_config --$which`);
	return $path;
}

# Build with the defect, from a copy of the sources; returns the library.
sub build
{
	my $copy = PostgreSQL::Test::Utils::tempdir() . '/source';
	my $top = abs_path(dirname(__FILE__) . '/../..');
	mkdir($copy) or die "could not make $copy: $!";
	system_or_bail('cp', '-a', (grep { -e $_ } map { "$top/$_" } qw(Makefile walarchive.c walarchive.control META.json schema src cli)), $copy);
	# what was built without it, and what only a build makes
	unlink("$copy/src/capture/stream.o", "$copy/src/capture/stream.bc", "$copy/walarchive.so");
	my $log = "$copy/log";
	my $rc = system("make -C '$copy' -s with_llvm=no PG_CONFIG='" . folder('bindir') . "/pg_config' COPT=-DWA_DEFECT_CONFIRM_EARLY walarchive.so >'$log' 2>&1");
	BAIL_OUT('the defective build fails: ' . slurp_file($log)) if $rc != 0;
	return "$copy/walarchive.so";
}

# An installation that differs in one library.  The server finds its folders by where
# its own program lies.
sub install
{
	my ($library) = @_;
	my $root = PostgreSQL::Test::Utils::tempdir();
	my %path = map { $_ => folder($_) } qw(bindir pkglibdir sharedir);
	my ($prefix) = common($path{bindir}, $path{pkglibdir}, $path{sharedir});
	for my $which (qw(bindir pkglibdir))
	{
		my $there = $root . substr($path{$which}, length($prefix));
		make_path($there);
		for my $file (glob("$path{$which}/*"))
		{
			my $name = basename($file);
			next if $name eq 'walarchive.so';
			# a program that is a link is found where the link leads
			if ($name =~ /^(postgres|initdb|pg_ctl)$/) { system_or_bail('cp', $file, "$there/$name"); }
			else { symlink($file, "$there/$name") or die "could not link $name: $!"; }
		}
		system_or_bail('cp', $library, "$there/walarchive.so") if $which eq 'pkglibdir';
	}
	my $share = $root . substr($path{sharedir}, length($prefix));
	make_path(dirname($share));
	symlink($path{sharedir}, $share) or die "could not link $share: $!";
	return $root . substr(dirname($path{bindir}), length($prefix));
}

# The folder that these have in common.
sub common
{
	my ($first, @more) = @_;
	while (grep { index("$_/", "$first/") != 0 } @more) { $first = dirname($first); }
	return $first;
}

my $install = install(build());
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
