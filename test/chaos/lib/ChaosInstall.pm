# Other builds of walarchive, in an installation of their own: a copy of the server's
# programs and libraries, made of links, that is gone with the test.  One with a defect,
# or of another version, which can be put in the place of what is there while servers
# run, as "make install" does.
package ChaosInstall;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename;
use File::Path qw(make_path);
use PostgreSQL::Test::Utils;
use Test::More;

my $top = abs_path(dirname(__FILE__) . '/../../..');

# A folder of PostgreSQL's that pg_config names.
sub folder
{
	my ($which) = @_;
	chomp(my $path = `pg_config --$which`);
	return $path;
}

# Build in a copy of the sources, with more arguments for make and these targets; objects
# of the given sources are made anew.  Returns the copy.
sub build
{
	my ($targets, $sources, @args) = @_;
	my $copy = PostgreSQL::Test::Utils::tempdir() . '/source';
	mkdir($copy) or die "could not make $copy: $!";
	system_or_bail('cp', '-a', (grep { -e $_ } map { "$top/$_" } qw(Makefile walarchive.c walarchive.control META.json schema src cli docs)), $copy);
	# what was built without it, and what only a build makes
	unlink(map { my $stem = "$copy/$_"; $stem =~ s/\.c$//; ("$stem.o", "$stem.bc") } @$sources);
	unlink("$copy/walarchive.so", "$copy/src/decode/walarchive-decode");
	my $log = "$copy/log";
	# what a make that runs the tests was told is not for this one
	delete local @ENV{qw(MAKEFLAGS MAKEOVERRIDES MFLAGS MAKELEVEL)};
	my $quoted = join(' ', map { "'$_'" } @args, @$targets);
	my $rc = system("make -C '$copy' -s with_llvm=no PG_CONFIG='" . folder('bindir') . "/pg_config' $quoted >'$log' 2>&1");
	BAIL_OUT('another build fails: ' . slurp_file($log)) if $rc != 0;
	return $copy;
}

# An installation with all files of the one that is there, but for those that are given:
# pg_config's name of a folder, the file's name below it => the file.  The server
# finds its folders by where its own program lies.
sub make
{
	my (%own) = @_;
	my $root = PostgreSQL::Test::Utils::tempdir();
	my %path = map { $_ => folder($_) } qw(bindir pkglibdir sharedir);
	my $self = bless { root => $root }, __PACKAGE__;

	my ($prefix) = common(@path{qw(bindir pkglibdir sharedir)});
	for my $which (sort keys %path) { $self->{$which} = $root . substr($path{$which}, length($prefix)); }
	$self->{path} = $root . substr(dirname($path{bindir}), length($prefix));
	links($path{bindir}, $self->{bindir});
	links($path{pkglibdir}, $self->{pkglibdir});
	links($path{sharedir}, $self->{sharedir});
	unlink("$self->{sharedir}/extension") or die "could not remove a link: $!";
	links("$path{sharedir}/extension", "$self->{sharedir}/extension");
	# a program that is a link is found where the link leads
	$self->put('bindir', $_, "$path{bindir}/$_") for qw(postgres initdb pg_ctl);
	$self->put(split(/ /, $_), $own{$_}) for sort keys %own;
	return $self;
}

# Put a file in its place at once, whoever uses the one that is there.
sub put
{
	my ($self, $which, $name, $file) = @_;
	my $to = "$self->{$which}/$name";
	system_or_bail('cp', $file, "$to.new");
	rename("$to.new", $to) or die "could not rename $to.new: $!";
	return;
}

sub links
{
	my ($from, $to) = @_;
	make_path($to);
	for my $file (glob("$from/*")) { symlink($file, "$to/" . basename($file)) or die "could not link $file: $!"; }
	return;
}

# The folder that these have in common.
sub common
{
	my ($first, @more) = @_;
	while (grep { index("$_/", "$first/") != 0 } @more) { $first = dirname($first); }
	return $first;
}

# ---- another version ----

# Two versions of walarchive, the one that is in the sources and one that differs in its
# number, with scripts from each to the other; returns so many installations that have the
# first.
sub versions
{
	my ($count) = @_;
	my $control = slurp_file("$top/walarchive.control");
	my ($first) = $control =~ /^default_version = '(.*)'/m or die 'no version in walarchive.control';
	my $second = "$first.1";
	# what knows the version
	my @sources = map { chomp; substr($_, length($top) + 1) } `grep -rl --include='*.c' WALARCHIVE_VERSION '$top/src'`;
	my %files;
	for my $version ($first, $second)
	{
		my $copy = build([ 'walarchive.so', 'src/decode/walarchive-decode', "walarchive--$version.sql" ], \@sources, "EXTVERSION=$version");
		my $other = $version eq $first ? $second : $first;
		append_to_file("$copy/update.sql", "COMMENT ON EXTENSION walarchive IS 'version $version';\nSELECT walarchive.notify_catalog_changed();\n");
		(my $text = $control) =~ s/^default_version = .*$/default_version = '$version'/m;
		append_to_file("$copy/control", $text);
		$files{$version} = { 'pkglibdir walarchive.so' => "$copy/walarchive.so", 'bindir walarchive-decode' => "$copy/src/decode/walarchive-decode",
			"sharedir extension/walarchive--$version.sql" => "$copy/walarchive--$version.sql",
			"sharedir extension/walarchive--$other--$version.sql" => "$copy/update.sql",
			'sharedir extension/walarchive.control' => "$copy/control" };
	}
	my @made = map { make(%{ $files{$first} }) } 1 .. $count;
	for my $self (@made)
	{
		$self->{files} = \%files;
		$self->{other} = { $first => $second, $second => $first };
		$self->{version} = $first;
	}
	return @made;
}

# The other version takes the place of the one that is there; returns its number.
sub swap
{
	my ($self) = @_;
	my $version = $self->{version} = $self->{other}{ $self->{version} };
	my $files = $self->{files}{$version};
	$self->put(split(/ /, $_), $files->{$_}) for sort keys %$files;
	return $version;
}

1;
