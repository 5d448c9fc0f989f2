# The disk of the machine on which a copy is made, or runs, is full, answers with
# errors, or takes half of what it is given.  Whatever call of "walarchive
# restore" that hits, the error names the file, and what is left can't be taken
# for a copy; the next try makes one.  A recovery that asks "walarchive fetch"
# for WAL gets whole files or none, and never hears that there is no more.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalRestore;

my $host = new_archive_host('archive');
my $primary = new_primary('primary');
$primary->safe_psql('postgres', 'CREATE TABLE t (i int)');
add_source($host, 'prod', $primary);
take_backup($host, 'one');
switch_wal($primary, 5);
$primary->safe_psql('postgres', 'INSERT INTO t VALUES (1)');
wait_decoded($host, $primary);
my @archive = archive_args($host);
my %text = (EIO => 'Input/output error', ENOSPC => 'No space left on device', EACCES => 'Permission denied');

# ---- restore ----

my $place = new_place();
for my $rule ('mkdir:ENOSPC:/base', 'open:ENOSPC:/walarchive.restore', 'write:EIO:/walarchive.restore', 'open:EIO:/PG_VERSION',
	'open:ENOSPC:/base/', 'write:EIO:/base/', 'write:ENOSPC:/pg_xact/', 'write:ENOSPC:/postgresql.auto.conf', 'open:EIO:/recovery.signal',
	'write:ENOSPC:/global/pg_control', 'fsync:EIO:/global/pg_control', 'rename:EIO:/global/pg_control')
{
	my ($call, $error) = split /:/, $rule;
	my ($code, $out, $err) = with_faults([$rule], sub { walarchive('restore', '-D', $place, @archive) });
	is($code, 5, "restore, $rule: it fails") or diag($out);
	like($err, qr/error: could not [^\n]*$text{$error}\n(.*\n)*[^\n]*hint: \w/, "restore, $rule: the error says what, and what to do");
	# so that nobody can take it for a copy, and the next one finds room
	ok(!-e $place, "restore, $rule: nothing is left");
}
my ($code, $out, $err) = walarchive('restore', '-D', $place, @archive);
is($code, 0, 'restore: the next try works, in the same place') or diag($err);
my $other = new_place();
($code, $out, $err) = with_faults([ 'write:SHORT:' ], sub { walarchive('restore', '-D', $other, @archive) });
is($code, 0, 'restore, writes that write half: it ends') or diag($err);
# what differs has its own plan, name and port in it
my $differs = `diff -rq -x postgresql.auto.conf -x walarchive.plan "$place" "$other" 2>&1`;
is($differs, '', 'and is the same');
my @lengths = map { -s "$_/postgresql.auto.conf" } $place, $other;
cmp_ok(abs($lengths[0] - $lengths[1]), '<', 100, 'as are its settings');

# ---- fetch ----

my $work = PostgreSQL::Test::Utils::tempdir_short();
my $wal = wal_dir($host, 'prod');
my ($first, @more) = grep { !/history/ } wal_files($wal);
mkdir("$work/pg_wal") or die "mkdir: $!";

sub fetch
{
	my ($rules, @args) = @_;
	my ($out, $said) = ('', '');
	unlink("$work/pg_wal/RECOVERYXLOG");
	with_faults($rules, sub {
			IPC::Run::run([ 'walarchive', 'fetch', @archive, @args, $first, 'pg_wal/RECOVERYXLOG' ],
				'<', '/dev/null', '>', \$out, '2>', \$said, init => sub { chdir($work) or die }) });
	note($said);
	return ($? & 127 ? -1 : $? >> 8, $said);
}

for my $way ([], ['--no-prefetch'], ['--no-local'])
{
	my $how = join(' ', 'fetch', @$way);
	for my $rule ('open:ENOSPC:pgsql_tmp_walarchive', 'write:ENOSPC:pg_wal', 'write:EIO:pg_wal', 'rename:EIO:RECOVERYXLOG')
	{
		my ($error) = $rule =~ /:(\w+):/;
		my ($rc, $said) = fetch([$rule], @$way);
		cmp_ok($rc, '>', 125, "$how, $rule: the recovery is told to stop");
		like($said, qr/$text{$error}/, "$how, $rule: the error says why");
		ok(!-e "$work/pg_wal/RECOVERYXLOG", "$how, $rule: there is no file");
		($rc) = fetch([$rule], @$way, '--mode=standby');
		is($rc, 1, "$how, $rule: a standby is told to try again");
		ok(!-e "$work/pg_wal/RECOVERYXLOG", "$how, $rule: there is no file again");
	}
	my ($rc, $said) = fetch([ 'write:SHORT:pg_wal' ], @$way);
	is($rc, 0, "$how, writes that write half: the file comes") or diag($said);
	ok(same_file("$wal/$first", "$work/pg_wal/RECOVERYXLOG"), "$how, writes that write half: whole");
}

$host->stop;
$primary->stop;
done_testing();
