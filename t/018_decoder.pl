# The program that reads WAL is fed by strangers, and may die of it at any
# byte.  Nobody but itself may suffer: the session that asked gets an error, the
# server goes on, and no process, descriptor or zombie is left behind; nor when
# the session is cancelled, terminated or killed while the program hangs.  What
# the program says is believed no more than the WAL it reads.
use strict;
use warnings FATAL => 'all';

use Config;
use File::Basename;
use File::Copy;
use File::Path qw(make_path);
use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;

plan skip_all => 'needs /proc' unless -e "/proc/$$/task/$$/children";

my $host = new_archive_host('archive', conf => "walarchive.max_indexers = 1\n");
my $primary = new_primary('primary');
add_source($host, 'prod', $primary);
for my $n (1 .. 6)
{
	$primary->safe_psql('postgres', "CREATE TABLE t$n AS SELECT i, repeat('x', 100) FROM generate_series(1, 5000) i");
	switch_wal($primary);
}
wait_archived($host, 'prod', $primary);

# A session that asks again and again.
my $asking = q(
	DO $$
	BEGIN
		FOR i IN 1 .. 1000000 LOOP
			PERFORM count(*) FROM walarchive.wal_records('prod');
		END LOOP;
	END $$;);

sub children
{
	my ($pid) = @_;
	open(my $fh, '<', "/proc/$pid/task/$pid/children") or return ();
	return split ' ', <$fh> // '';
}

sub state_of
{
	my ($pid) = @_;
	open(my $fh, '<', "/proc/$pid/stat") or return '';
	my ($state) = (<$fh> // '') =~ /^\d+ \(.*\) (\S)/;
	return $state // '';
}

# A program that has begun to read WAL has started properly.
sub is_reading
{
	my ($pid) = @_;
	return grep { (readlink($_) // '') =~ m{/wal/} } glob("/proc/$pid/fd/*");
}

# Its backend, and its program, stopped.
sub catch_program
{
	my ($backend, $program);
	ok(wait_for('the session', sub {
				$backend = $host->safe_psql('postgres',
					q(SELECT pid FROM pg_stat_activity WHERE query LIKE '%wal_records%' AND pid <> pg_backend_pid() AND state = 'active'));
				return $backend =~ /^\d+$/;
			}), 'a session asks');
	ok(wait_for('its program', sub {
				($program) = children($backend);
				return $program && is_reading($program) && kill('STOP', $program) && state_of($program) =~ /[Tt]/;
			}), '... and its program hangs');
	return ($backend, $program);
}

sub is_gone
{
	my ($pid, $what) = @_;
	ok(wait_for("the end of $pid", sub { state_of($pid) eq '' }), $what);
	return;
}

# ---- the program dies ----

my $session = start_sql($host, $asking);
my ($backend, $program) = catch_program();
is((split ' ', slurp_file("/proc/$program/stat"))[4], $program, 'it has a process group of its own');
my @open = map { readlink($_) // () } grep { !m{/2$} } glob("/proc/$program/fd/*"); # 2 is the server's log
is(scalar(grep { m{^/} && !m{^/dev/|/wal$|/wal/} } @open), 0, 'it holds no files of the server') or diag("@open");
kill('SEGV', $program);
kill('CONT', $program);
my ($code, $out, $err) = sql_result($session);
isnt($code, 0, 'a program that crashes is an error');
like($err, qr/walarchive-decode was terminated by signal 11/, '... which says so');
is_gone($program, '... and no zombie is left');
is($host->safe_psql('postgres', 'SELECT 1'), '1', 'the server goes on');

# ---- the session is cancelled, terminated, killed ----

$session = start_sql($host, $asking);
($backend, $program) = catch_program();
$host->safe_psql('postgres', "SELECT pg_cancel_backend($backend)");
($code, $out, $err) = sql_result($session);
like($err, qr/canceling statement due to user request/, 'cancelled while the program hangs');
is_gone($program, '... which ends with it');

$session = start_sql($host, $asking);
($backend, $program) = catch_program();
$host->safe_psql('postgres', "SELECT pg_terminate_backend($backend)");
sql_result($session);
is_gone($program, 'terminated: the program ends with it');

$session = start_sql($host, $asking);
($backend, $program) = catch_program();
kill('KILL', $backend);
kill('CONT', $program);
sql_result($session);
is_gone($program, 'killed: the program ends with it');
wait_crashed($host, $backend);

# ---- nothing is left behind ----

# errors are caught within a transaction, a hundred times
my $caught = q(
	SET client_min_messages = error;
	DO $$
	DECLARE failed int := 0;
	BEGIN
		PERFORM count(*) FROM walarchive.wal_records('prod');
		FOR i IN 1 .. 100 LOOP
			BEGIN
				PERFORM 1 / (start_lsn - start_lsn)::int FROM walarchive.wal_records('prod') LIMIT 1;
			EXCEPTION WHEN division_by_zero THEN failed := failed + 1;
			END;
			BEGIN
				PERFORM set_config('statement_timeout', '1ms', true);
				PERFORM count(*) FROM walarchive.wal_records('prod');
			EXCEPTION WHEN query_canceled THEN failed := failed + 1;
			END;
			PERFORM set_config('statement_timeout', '0', true);
		END LOOP;
		RAISE EXCEPTION 'failed %', failed;
	EXCEPTION WHEN raise_exception THEN
		PERFORM set_config('walarchive_test.failed', SQLERRM, false);
	END $$;
	SELECT current_setting('walarchive_test.failed');
	SELECT pg_backend_pid();
	SELECT count(*) FROM pg_ls_dir('/proc/' || pg_backend_pid() || '/fd');
	SELECT pg_sleep(600););
my $before = $host->safe_psql('postgres', q(SELECT count(*) FROM pg_ls_dir('/proc/' || pg_backend_pid() || '/fd')));
$session = start_sql($host, $caught);
my @said;
ok(wait_for('a hundred failures', sub { @said = split /\n/, slurp_file("$session->{dir}/out"); return @said >= 3 || sql_done($session) }),
	'a session catches its errors');
like($said[0] // '', qr/^failed \d+/, '... all of them');
cmp_ok($said[2] // 1000, '<', $before + 20, 'no descriptors are left');
is(join(' ', children($said[1] // 0)), '', 'nor programs, nor zombies');
$host->safe_psql('postgres', "SELECT pg_terminate_backend($said[1])");
sql_result($session);

# ---- a program that lies ----

# The server's programs once more, in a folder laid out as theirs is, so that
# what is beside them can be another one.
my ($bindir, $pkglibdir, $sharedir) = map { chomp(my $d = `pg_config --$_`); $d } qw(bindir pkglibdir sharedir);
my $root = $bindir;
$root = dirname($root) until index($pkglibdir, "$root/") == 0 && index($sharedir, "$root/") == 0;
my $copy = PostgreSQL::Test::Utils::tempdir();
for my $dir ($pkglibdir, $sharedir)
{
	my $there = $copy . substr($dir, length($root));
	make_path(dirname($there));
	symlink($dir, $there) or die "could not link $there: $!" unless -e $there;
}
my $bin = $copy . substr($bindir, length($root));
make_path($bin);
for my $name (qw(postgres pg_ctl))
{
	copy("$bindir/$name", "$bin/$name") or die "could not copy $name: $!";
	chmod(0755, "$bin/$name");
}
my ($version) = slurp_file("$FindBin::RealBin/../Makefile") =~ /^EXTVERSION = (\S+)/m;
my ($protocol) = slurp_file("$FindBin::RealBin/../src/base/decode_protocol.h") =~ /WA_DECODE_PROTOCOL (\d+)/;
my $hello = "syswrite(STDOUT, pack('L L L Z32', 36, 1, $protocol, '$version'));";
my @lies = (
	[ 'no program', undef, qr/could not start program ".*walarchive-decode": No such file/ ],
	[ 'one that does not start', 'exit 3;', qr/could not be started: it exited with exit code 3/ ],
	[ 'another version', "syswrite(STDOUT, pack('L L L Z32', 36, 1, $protocol, '0.0.1')); sleep 600;", qr/is of another version/ ],
	[ 'another protocol', "syswrite(STDOUT, pack('L L L Z32', 36, 1, $protocol + 1, '$version')); sleep 600;", qr/is of another version/ ],
	[ 'no protocol', 'print "Hello, world, this is no protocol at all\n"; sleep 600;', qr/sent a message that/ ],
	[ 'an endless message', "$hello <STDIN>; syswrite(STDOUT, pack('L L', 0xFFFFFFF0, 13)); sleep 600;", qr/sent a message that is too long/ ],
	[ 'an unknown message', "$hello <STDIN>; syswrite(STDOUT, pack('L L Q', 8, 77, 0)); sleep 600;", qr/sent a message that makes no sense/ ],
	[ 'lengths that do not fit', "$hello <STDIN>; syswrite(STDOUT, pack('L L x88 L4', 104, 13, 1000, 1, 1, 1)); sleep 600;", qr/sent a message that makes no sense/ ],
	[ 'half a message', "$hello <STDIN>; syswrite(STDOUT, pack('L L Q', 16, 3, 0)); exit 0;", qr/closed its output/ ],
	[ 'an end without an answer', "$hello <STDIN>; exit 0;", qr/closed its output/ ]);
sub install
{
	my ($body) = @_;
	unlink("$bin/walarchive-decode");
	return if !defined $body;
	open(my $fh, '>', "$bin/walarchive-decode.new") or die "could not write a program: $!";
	print $fh "#!$Config{perlpath}\n\$| = 1;\n$body\n";
	close($fh);
	chmod(0755, "$bin/walarchive-decode.new");
	rename("$bin/walarchive-decode.new", "$bin/walarchive-decode");
	return;
}
$host->stop;
{
	local $ENV{PATH} = "$bin:$ENV{PATH}";
	$host->start;
}
for my $lie (@lies)
{
	my ($what, $body, $re) = @$lie;
	install($body);
	my ($rc, $stdout, $stderr) = $host->psql('postgres', q(SELECT count(*) FROM walarchive.wal_records('prod')));
	isnt($rc, 0, "$what: an error");
	like($stderr, $re, "$what: it says so");
}

# streaming never cared
$primary->safe_psql('postgres', 'CREATE TABLE meanwhile AS SELECT 1');
ok(wait_archived($host, 'prod', $primary), 'streaming goes on meanwhile');

# the right one again
copy("$bindir/walarchive-decode", "$bin/walarchive-decode.new");
chmod(0755, "$bin/walarchive-decode.new");
rename("$bin/walarchive-decode.new", "$bin/walarchive-decode");
cmp_ok($host->safe_psql('postgres', q(SELECT count(*) FROM walarchive.wal_records('prod'))), '>', 100,
	'and with the right program all is well');

$host->stop;
$primary->stop;
done_testing();
