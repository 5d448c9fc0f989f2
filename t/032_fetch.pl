# Recoveries and standbys live on what "walarchive fetch" gives them.  They take a
# file that does not exist for the end of the WAL, so the command must say that of
# nothing else: not of a hole, not of a damaged file, not while the archive host
# is down.  Files must come whole, also when the host is killed in the middle; the
# open segment with what is flushed of it; of a timeline that was left nothing
# behind the fork; of strays their histories, and no WAL.
use strict;
use warnings FATAL => 'all';

use Digest::SHA qw(sha256_hex);
use File::Copy;
use File::Path qw(make_path remove_tree);
use FindBin;
use lib "$FindBin::RealBin/lib";
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use POSIX ();
use Test::More;
use WalArchive;
use WalRestore qw(wait_decoded);

my $size = 1024 * 1024;
my $quiet = q(
autovacuum = off
checkpoint_timeout = 1h
);
my $host = new_archive_host('archive');
my $primary = new_primary('primary', conf => $quiet);
$primary->safe_psql('postgres', 'CREATE TABLE t (i int)');
add_source($host, 'prod', $primary);
my $wal = wal_dir($host, 'prod');
$host->safe_psql('postgres', q(
CREATE ROLE restorer LOGIN;
CREATE ROLE stranger LOGIN;
SELECT walarchive.grant_read('prod', 'restorer');
));

sub sql { return $host->safe_psql('postgres', $_[0]); }

# A query as another role: its output, or its error.
sub as_role
{
	my ($role, $query) = @_;
	my ($out, $err) = ('', '');
	$host->psql('postgres', $query, stdout => \$out, stderr => \$err, extra_params => [ '-U', $role ]);
	return $err ne '' ? $err : $out;
}

# What wal_file says of a file.
sub state_of { return as_role('restorer', "SELECT state FROM walarchive.wal_file('prod', '$_[0]')"); }

sub name_of
{
	my ($tli, $segno) = @_;
	return sprintf('%08X%08X%08X', $tli, $segno / 4096, $segno % 4096);
}

sub segment_of
{
	my ($lsn) = @_;
	my ($high, $low) = map { hex } split('/', $lsn);
	return int(($high * 4294967296 + $low) / $size);
}

# Files that the catalog has to know before they are asked for.
sub wait_catalog
{
	my ($name) = @_;
	return wait_for("$name in the catalog", sub {
		sql("SELECT count(*) FROM walarchive.segment WHERE source = 'prod' AND name = '$name' AND state = 'finished' AND sha256 IS NOT NULL") eq '1' });
}

# ---- the command line ----

my $work = PostgreSQL::Test::Utils::tempdir();
make_path("$work/pg_wal");

sub command
{
	my (@more) = @_;
	return ('walarchive', 'fetch', '-h', $host->host, '-p', $host->port, '-U', 'restorer', '-d', 'postgres',
		'--source=prod', @more);
}

# Run it as a recovery does; exit code, and what it said.
my $said;
sub fetch
{
	my ($name, @more) = @_;
	my $out = '';
	$said = '';
	unlink("$work/pg_wal/RECOVERYXLOG");
	IPC::Run::run([ command(@more), $name, 'pg_wal/RECOVERYXLOG' ],
		'<', '/dev/null', '>', \$out, '2>', \$said, init => sub { chdir($work) or die });
	my $code = $? >> 8;
	$code = -1 if $? & 127;
	return $code;
}

sub fetched { return read_file_bytes("$work/pg_wal/RECOVERYXLOG"); }
sub spool_is_gone { return !-e "$_[0]/pg_wal/pgsql_tmp_walarchive"; }

switch_wal($primary, 6);
$primary->safe_psql('postgres', 'INSERT INTO t VALUES (1)');
wait_archived($host, 'prod', $primary);
my @files = grep { /^[0-9A-F]{24}$/ } wal_files($wal);
my $first = $files[0];
my $last = $files[-1];
my $open = name_of(1, segment_of($primary->safe_psql('postgres', 'SELECT pg_current_wal_lsn()')));
ok(wait_catalog($last), 'the catalog knows the files');

note 'what there is';
is(state_of($first), 'present', 'a segment');
is(as_role('restorer', "SELECT size, valid_bytes, sha256 FROM walarchive.wal_file('prod', '$first')"),
	"$size|$size|" . sha256_hex(read_file_bytes("$wal/$first")), 'with size and checksum');
is(state_of($open), 'partial', 'the open segment');
is(state_of(name_of(1, segment_of("1/0"))), 'absent', 'nothing behind the end');
is(state_of(name_of(1, 0)), 'absent', 'nothing before the beginning');
is(state_of(name_of(2, 1)), 'absent', 'no other timeline');
is(state_of('00000002.history'), 'absent', 'nor a history of one');
is(state_of('00000001.history'), 'absent', 'nor one of the first');
like(state_of($_), qr/is not the name of a WAL segment/, "\"$_\" is no name")
  for ('', '../../../../etc/passwd', "$first.partial", lc(name_of(10, 1)), '00000001.history2', "$first/");
like(as_role('stranger', "SELECT * FROM walarchive.wal_file('prod', '$first')"), qr/permission denied/, 'not for everybody');
like(as_role('stranger', "SELECT walarchive.read_wal('prod', '$first', 0, 10)"), qr/permission denied/, 'neither its bytes');
like(as_role('restorer', "SELECT * FROM walarchive.wal_file('other', '$first')"), qr/permission denied/, 'and of one source alone');
is(as_role('restorer', "SELECT system_identifier, segment_size, timeline FROM walarchive.source_layout('prod')"),
	$primary->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()') . "|$size|1", 'what the source is like');
is(as_role('restorer', "SELECT encode(walarchive.read_wal('prod', '$first', 100, 20), 'hex')"),
	unpack('H*', substr(read_file_bytes("$wal/$first"), 100, 20)), 'bytes of a file');
is(as_role('restorer', "SELECT length(walarchive.read_wal('prod', '$first', $size - 5, 100))"), 5, 'up to its end');
is(as_role('restorer', "SELECT length(walarchive.read_wal('prod', '$first', 1::bigint << 40, 100))"), 0, 'nothing behind it');
like(as_role('restorer', "SELECT walarchive.read_wal('prod', '$first', 0, 8388609)"), qr/length must be between/, 'not too much at a time');
like(as_role('restorer', "SELECT walarchive.read_wal('prod', '$first', -1, 1)"), qr/must not be negative/, 'no offset below 0');
like(as_role('restorer', "SELECT walarchive.read_wal('prod', '" . name_of(2, 1) . "', 0, 1)"), qr/timeline 2 is not on the way/, 'and the reason if it is not served');
like(as_role('restorer', "SELECT walarchive.wal_file('prod', '$first', 12345)"), qr/no plan 12345/, 'a plan has to exist');

note 'one file after the other';
for my $name (@files)
{
	is(fetch($name), 0, "$name comes") or diag($said);
	is(fetched(), read_file_bytes("$wal/$name"), 'as it is in the archive');
}
# more may come meanwhile: a snapshot of transactions
my $flushed = hex((split('/', stat_of($host, 'prod', 'flushed_lsn')))[1]) % $size;
my $there = substr(read_file_bytes("$wal/$open.partial"), 0, $flushed);
is(fetch($open), 0, 'the open one comes');
my $bytes = fetched();
is(length($bytes), $size, 'as a whole segment');
is(substr($bytes, 0, length($there)), $there, 'with what is flushed');
(my $got = $bytes) =~ s/\0+\z//;
is($got, substr(read_file_bytes("$wal/$open.partial"), 0, length($got)), 'and zeros behind it');
$primary->safe_psql('postgres', 'INSERT INTO t VALUES (2)');
wait_archived($host, 'prod', $primary);
is(fetch($open), 0, 'once more');
isnt(fetched(), $bytes, 'with what has come meanwhile');
is(fetch(name_of(1, segment_of("1/0"))), 1, 'exit code 1 for what is proved to be absent');
like($said, qr/behind the end of the archive/, 'with a word about it');
ok(!-e "$work/pg_wal/RECOVERYXLOG", 'and no file');
is(fetch('00000002.history'), 1, 'the same for a history');
ok(-e "$work/pg_wal/pgsql_tmp_walarchive/socket", 'somebody reads ahead');
is(fetch($files[1], '--no-prefetch'), 0, 'it goes without');
is(fetched(), read_file_bytes("$wal/$files[1]"), 'as well');
is(fetch($files[2], '--ahead=0'), 0, 'other options are another process');
is(fetch($files[1], '--ahead=1MB'), 0, 'and again');
ok(-e "$work/pg_wal/pgsql_tmp_walarchive/socket", 'which reads ahead again');
remove_tree("$work/pg_wal/pgsql_tmp_walarchive");
is(fetch($files[3], '--ahead=1MB'), 0, 'its folder may go at any time');
is(fetched(), read_file_bytes("$wal/$files[3]"), 'nothing is wrong with it');

note 'the archive host is on this machine: what it knows the checksum of is not sent';
sql("ALTER ROLE restorer SET log_statement = 'all'");
# Did it send bytes of segments?
sub bytes_were_sent
{
	my ($name, @more) = @_;
	my $from = -s $host->logfile;

	is(fetch($name, @more), 0, "$name comes: @more") or diag($said);
	my $log = substr(slurp_file($host->logfile), $from);
	like($log, qr/execute info: .*walarchive\.wal_file/, 'the host was asked about it');
	return $log =~ /execute wal: / ? 1 : 0;
}
for my $how ('--no-prefetch', '--ahead=2MB')
{
	is(bytes_were_sent($files[1], $how), 0, 'and sent nothing');
	is(bytes_were_sent($files[1], $how, '--no-local'), 1, 'unless it has to');
	is(bytes_were_sent($open, $how), 1, 'or it has no checksum');
}
for my $name (@files)
{
	is(fetch($name, '--no-local'), 0, "$name is sent") or diag($said);
	is(fetched(), read_file_bytes("$wal/$name"), 'as it is in the archive');
}
sql('ALTER ROLE restorer RESET log_statement');

note 'what must stop a recovery';
my $hole = $files[3];
sub damage_file
{
	my ($name, $how) = @_;
	copy("$wal/$name", "$work/saved") or die;
	$how->("$wal/$name");
	return;
}
sub mend_file
{
	my ($name) = @_;
	unlink("$wal/$name");
	copy("$work/saved", "$wal/$name") or die;
	return;
}
sub must_stop
{
	my ($name, $what, $state, $message) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(state_of($name), $state, "$what: $state");
	cmp_ok(fetch($name, '--no-prefetch'), '>', 125, 'the recovery stops');
	like($said, $message, 'and says why');
	cmp_ok(fetch($name), '>', 125, 'the same where somebody reads ahead');
	like($said, $message, 'and says why');
	is(fetch($name, '--mode=standby'), 1, 'a standby asks again');
	ok(!-e "$work/pg_wal/RECOVERYXLOG", 'no file comes');
	return;
}
damage_file($hole, sub { unlink($_[0]) });
must_stop($hole, 'a file is gone', 'missing', qr/is missing in the archive/);
mend_file($hole);
damage_file($hole, sub { truncate($_[0], 5000) });
must_stop($hole, 'a file is cut off', 'damaged', qr/has 5000 bytes instead of $size/);
mend_file($hole);
damage_file($hole, sub { unlink($_[0]); symlink("$work/saved", $_[0]) or die });
must_stop($hole, 'a link', 'damaged', qr/is a symbolic link/);
mend_file($hole);
damage_file($hole, sub { unlink($_[0]); POSIX::mkfifo($_[0], 0600) or die });
must_stop($hole, 'a FIFO', 'damaged', qr/not a regular file/);
mend_file($hole);
damage_file($hole, sub { open(my $fh, '+<', $_[0]) or die; seek($fh, 24, 0); print $fh 'foreign'; close($fh) });
must_stop($hole, 'a file of another cluster', 'damaged', qr/of another cluster/);
mend_file($hole);
# behind the first page, so that only the checksum tells
damage_file($hole, sub { open(my $fh, '+<', $_[0]) or die; seek($fh, 500_000, 0); print $fh 'flipped'; close($fh) });
is(state_of($hole), 'present', 'flipped bytes, which nobody has looked at');
cmp_ok(fetch($hole, '--no-prefetch'), '>', 125, 'the recovery stops');
like($said, qr/SHA-256 is/, 'and says why');
cmp_ok(fetch($hole, '--no-prefetch', '--no-local'), '>', 125, 'the same if it is sent');
like($said, qr/SHA-256 is/, 'for the same reason');
cmp_ok(fetch($hole), '>', 125, 'the same where somebody reads ahead');
mend_file($hole);
is(fetch($hole), 0, 'all is well again');
is(fetched(), read_file_bytes("$wal/$hole"), 'as it was');

note 'what is wrong with the command line, or with who runs it';
for my $case ([ 'no source', '--source=none' ], [ 'no such mode', '--mode=always' ], [ 'no such option', '--quickly' ],
	[ 'no such plan', '--plan=77' ], [ 'no number', '--plan=x' ], [ 'nobody there', '-p', '1', '--retry=0' ],
	[ 'no such role', '-U', 'nobody_here' ], [ 'a role that may not', '-U', 'stranger' ], [ 'no such database', '-d', 'nowhere' ])
{
	my ($what, @more) = @$case;
	cmp_ok(fetch($first, @more), '>', 125, "$what: the recovery stops");
	like($said, qr/./, 'with a message');
	is(fetch($first, @more, '--mode=standby'), 1, 'a standby goes on') unless $more[0] eq '--mode=always';
}
cmp_ok(fetch('backup_label'), '>', 125, 'a name that is none');

note 'the archive host is away for a moment';
$host->stop('immediate');
my @bare = ('--archive', $host->{wa_directory});
for my $how ([], ['--no-prefetch'])
{
	is(fetch($first, @bare, @$how), 0, "its directory will do: @$how");
	is(fetched(), read_file_bytes("$wal/$first"), 'for a segment');
	is(fetch($open, @bare, @$how), 0, 'for the open one');
	ok(length(fetched()) == $size && substr(fetched(), 0, length($there)) eq $there, 'with what is there of it');
	is(fetch(name_of(1, segment_of("1/0")), @bare, @$how), 1, 'and to say what is absent');
	is(fetch('00000002.history', @bare, @$how), 1, 'a history, too');
	rename("$wal/$hole", "$work/saved2") or die;
	cmp_ok(fetch($hole, @bare, @$how), '>', 125, 'a hole is something else');
	is(fetch($hole, @bare, @$how, '--mode=standby'), 1, 'but for a standby');
	rename("$work/saved2", "$wal/$hole") or die;
	# in a record: a recovery would take that for the end
	my $sums = "$wal/../wal.sha256";
	damage_file($hole, sub { open(my $fh, '+<', $_[0]) or die; seek($fh, 66, 0); print $fh 'flipped'; close($fh) });
	cmp_ok(fetch($hole, @bare, @$how), '>', 125, 'flipped bytes are no WAL either');
	like($said, qr/$hole.*SHA-256 is/, 'and it says why');
	rename($sums, "$sums.away") or die;
	is(fetch($files[1], @bare, @$how), 0, 'without a list of checksums');
	is(fetched(), read_file_bytes("$wal/$files[1]"), 'a segment comes');
	cmp_ok(fetch($hole, @bare, @$how), '>', 125, 'but not one with a damaged record');
	like($said, qr/$hole.*damaged at .*wrong checksum/, 'and it says where');
	rename("$sums.away", $sums) or die;
	mend_file($hole);
	is(fetch($hole, @bare, @$how), 0, 'all is well again');
}
cmp_ok(fetch($first, '--archive', "$work/none"), '>', 125, 'a directory that is not there is something else as well');
cmp_ok(fetch($first, '--retry=1'), '>', 125, 'down for longer than it is tried again');
is(fetch($first, '--mode=standby', '--retry=0'), 1, 'a standby does not wait');
# A recovery that asks while it can't be answered, and gets it once that has passed.
sub asks_until
{
	my ($passes, $test) = @_;
	my $err = '';
	unlink("$work/pg_wal/RECOVERYXLOG");
	remove_tree("$work/pg_wal/pgsql_tmp_walarchive");
	my $handle = IPC::Run::start([ command(), $first, 'pg_wal/RECOVERYXLOG' ], '<', '/dev/null', '2>', \$err,
		init => sub { chdir($work) or die });
	ok(wait_for('somebody to ask', sub { -e "$work/pg_wal/pgsql_tmp_walarchive/socket" }), 'a recovery waits');
	$passes->();
	ok($handle->finish, $test) or diag($err);
	is(-e "$work/pg_wal/RECOVERYXLOG" ? fetched() : '', read_file_bytes("$wal/$first"), 'and gets what it needs');
}
asks_until(sub { $host->start }, 'until the host is back');
wait_streaming($host, 'prod');
# a host that answers, and has no place
sql('ALTER ROLE restorer CONNECTION LIMIT 0');
my $log = -s $host->logfile;
asks_until(sub {
	ok(wait_for('it to be sent away', sub {
		my $n = () = substr(slurp_file($host->logfile), $log) =~ /too many connections for role "restorer"/g;
		return $n > 6 }), 'and asks again');
	sql('ALTER ROLE restorer CONNECTION LIMIT -1') }, 'until the host has place');

# ---- recoveries ----

sql(q(SET client_min_messages = warning; SELECT walarchive.take_backup('prod')));

my $restore = join(' ', map { /[= ]/ ? "'$_'" : $_ } command());
my $copies = 0;

# A copy of the primary of now, not started.
$primary->backup('base', backup_options => [ '--checkpoint=fast' ]);
sub new_copy
{
	my (%opt) = @_;
	my $node = PostgreSQL::Test::Cluster->new('copy' . ++$copies);
	my $options = $opt{options} // '';

	$node->init_from_backup($opt{from} // $primary, 'base');
	# nothing but what fetch brings
	remove_tree($node->data_dir . '/pg_wal');
	mkdir($node->data_dir . '/pg_wal', 0700);
	$restore =~ s/'/''/g if $restore !~ /''/;
	$node->append_conf('postgresql.conf', qq(
restore_command = '$restore $options %f %p'
recovery_target_timeline = '@{[ $opt{timeline} // 'current' ]}'
recovery_target_action = 'promote'
max_connections = 20
));
	$node->append_conf('postgresql.conf', $opt{conf}) if $opt{conf};
	$node->append_conf($opt{standby} ? 'standby.signal' : 'recovery.signal', '');
	return $node;
}
sub recovered
{
	my ($node) = @_;
	return wait_for('recovery to end', sub { $node->safe_psql('postgres', 'SELECT pg_is_in_recovery()') eq 'f' });
}
my $rows = 2;
sub load
{
	my ($segments) = @_;
	for (1 .. $segments)
	{
		$rows++;
		$primary->safe_psql('postgres', "INSERT INTO t VALUES ($rows); SELECT pg_switch_wal()");
	}
	$rows++;
	$primary->safe_psql('postgres', "INSERT INTO t VALUES ($rows)");
	wait_archived($host, 'prod', $primary);
	return;
}

note 'to the end of the archive, the open segment included';
load(12);
# names of timelines that nobody archives: numbers that are taken all the same
for my $tli (2, 3)
{
	append_to_file("$wal/0000000$tli.history", "1\t0/1000000\tby hand\n");
}
copy("$wal/$last", "$wal/" . name_of(3, segment_of('0/1000000'))) or die;
is(state_of('00000003.history'), 'present', 'the history of a stray timeline');
is(state_of(name_of(3, segment_of('0/1000000'))), 'absent', 'none of its WAL');
my $copy = new_copy();
$copy->start;
ok(recovered($copy), 'a copy recovers');
is($copy->safe_psql('postgres', 'SELECT count(*), max(i) FROM t'), "$rows|$rows", 'and has all that was committed');
is(hex(substr($copy->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_insert_lsn())'), 0, 8)), 4, 'on a timeline whose number is free');
ok(wait_for('the spool to go', sub { spool_is_gone($copy->data_dir) }), 'who read ahead is gone, and the spool with it');
$copy->stop;

note 'connections are lost all the time';
load(20);
$copy = new_copy(options => '--ahead=4MB --no-local');
$copy->start;
my $killed = 0;
ok(wait_for('recovery to end', sub {
	$killed += sql(q(SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'restorer'));
	return $copy->safe_psql('postgres', 'SELECT pg_is_in_recovery()') eq 'f' }), "a copy recovers over $killed lost connections");
is($copy->safe_psql('postgres', 'SELECT count(*), max(i) FROM t'), "$rows|$rows", 'and has all that was committed');
$copy->stop;

note 'a hole is not the end';
$hole = name_of(1, segment_of($primary->safe_psql('postgres', 'SELECT pg_current_wal_lsn()')) - 3);
wait_decoded($host, $primary);
wait_catalog($hole);
damage_file($hole, sub { unlink($_[0]) });
$copy = new_copy();
ok(!$copy->start(fail_ok => 1) || wait_for('the copy to stop', sub { !-e $copy->data_dir . '/postmaster.pid' }),
	'the copy does not come up');
like(slurp_file($copy->logfile), qr/"$hole"? ?.*is missing in the archive/, 'and says why');
unlike(slurp_file($copy->logfile), qr/archive recovery complete/, 'it is not promoted');
$copy->_update_pid(0);
mend_file($hole);

note 'a standby lives on the archive';
# with "latest" it would follow them
unlink(map { "$wal/0000000$_.history" } 2, 3);
unlink("$wal/" . name_of(3, segment_of('0/1000000')));
my $standby = new_copy(standby => 1, options => '--mode=standby', timeline => 'latest', conf => q(
wal_retrieve_retry_interval = 100ms
primary_conninfo = ') . conninfo($primary) . q('
));
$standby->start;
sub caught_up
{
	my ($node, $count) = @_;
	return wait_for("$count rows", sub { $node->safe_psql('postgres', 'SELECT count(*) FROM t') eq $count });
}
ok(caught_up($standby, $rows), 'it has everything');
ok(wait_for('it to stream', sub { $primary->safe_psql('postgres', "SELECT count(*) FROM pg_stat_replication WHERE application_name = '" . $standby->name . "' AND state = 'streaming'") eq '1' }), 'and streams');
$standby->stop;
load(8);
my $gone = name_of(1, segment_of($primary->safe_psql('postgres', 'SELECT pg_current_wal_lsn()')) - 8);
# it goes when the archive has told that it has it
ok(wait_for('a checkpoint', sub {
	$primary->safe_psql('postgres', 'CHECKPOINT');
	return !-e $primary->data_dir . "/pg_wal/$gone" }), 'WAL that the standby needs is no longer on the primary');
$standby->start;
ok(caught_up($standby, $rows), 'it comes from the archive');
$standby->stop;
load(1);
$primary->stop('immediate');
$standby->start;
ok(caught_up($standby, $rows), 'with the primary dead, the open segment comes as well');
is($standby->safe_psql('postgres', 'SELECT pg_is_in_recovery()'), 't', 'it waits for more');
$host->stop('immediate');
my $offset = -s $standby->logfile;
ok(wait_for('it to ask in vain', sub { substr(slurp_file($standby->logfile), $offset) =~ /connection to server/ }), 'the archive host is away, too');
is($standby->safe_psql('postgres', 'SELECT pg_is_in_recovery()'), 't', 'it waits');
$host->start;
# with nobody there the open segment is read as if it were the last
ok(wait_for('the indexer', sub { sql(q(SELECT exhausted FROM walarchive.decode_progress WHERE source = 'prod' AND timeline = 1)) eq 't' }),
	'all that there is has been read');

note 'behind a fork there is another timeline';
# what the old primary has, and the new one has not
$primary->start;
wait_streaming($host, 'prod');
my $before = $primary->safe_psql('postgres', 'SELECT pg_current_wal_lsn()');
$standby->stop;
$primary->safe_psql('postgres', 'INSERT INTO t VALUES (-1)');
wait_decoded($host, $primary);
$primary->stop('immediate');
$standby->append_conf('postgresql.conf', "restore_command = ''\nprimary_conninfo = ''\n");
$standby->start;
$standby->promote;
$standby->safe_psql('postgres', 'INSERT INTO t VALUES (-2)');
my $tli = hex(substr($standby->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_insert_lsn())'), 0, 8));
is($tli, 2, 'a standby that sees no histories is promoted');
unlink("$wal/00000002.history");
sql("SELECT walarchive.alter_source('prod', conninfo => '" . conninfo($standby) . "')");
# (the position is the old timeline's until the new one is streamed)
wait_timeline($host, 'prod', 2);
my $forked_lsn = wait_archived($host, 'prod', $standby);
my ($fork) = read_file_bytes("$wal/00000002.history") =~ /^1\t(\S+)/m;
my $parent = name_of(1, segment_of($fork));
my $child = name_of(2, segment_of($fork));
my $fork_offset = hex((split('/', $fork))[1]) % $size;
ok(substr(read_file_bytes(-e "$wal/$parent" ? "$wal/$parent" : "$wal/$parent.partial"), $fork_offset, 100) =~ /[^\0]/,
	'the archive has what the old primary wrote behind the fork');
is(as_role('restorer', "SELECT valid_bytes FROM walarchive.wal_file('prod', '$parent')"), $fork_offset, 'it is not served');
ok(wait_for('both timelines in the catalog', sub {
	sql(q(SELECT count(*) FROM walarchive.timeline WHERE source = 'prod' AND timeline = 2 AND parent_timeline = 1)) eq '1' }), 'the catalog knows the fork');
ok(wait_for('both to be indexed', sub {
	sql(qq(SELECT max(to_lsn) >= '$forked_lsn' FROM walarchive.wal_run WHERE source = 'prod' AND timeline = 2)) eq 't' }), 'and has read both');
my $plan1 = sql(q(SELECT plan_id FROM walarchive.plan_restore('prod', target_timeline => 1)));
my $plan2 = sql(q(SELECT plan_id FROM walarchive.plan_restore('prod', target_timeline => 2)));
sub planned { return as_role('restorer', "SELECT state || coalesce(' ' || valid_bytes, '') FROM walarchive.wal_file('prod', '$_[1]', $_[0])"); }
like(planned($plan1, $parent), qr/^(partial|present) (\d+)$/, 'a plan that ends on the old timeline has its last segment');
cmp_ok((split(' ', planned($plan1, $parent)))[1], '>', $fork_offset, 'with what lies behind the fork');
is(planned($plan1, $child), 'absent', 'and nothing of the new one');
like(planned($plan2, $parent), qr/ $fork_offset$/, 'one that ends on the new one has it up to the fork');
like(planned($plan2, $child), qr/^(partial|present) /, 'and the new one');
is(planned($plan2, name_of(2, segment_of($fork) + 20)), 'absent', 'nothing behind its end');
like(planned($plan2, '00000002.history'), qr/^present /, 'and the histories');
is(planned($plan2, '00000001.history'), 'absent', 'those that there are');
is(fetch($parent, "--plan=$plan1"), 0, 'it comes for the one');
ok(substr(fetched(), $fork_offset, 100) =~ /[^\0]/, 'as it is');
is(fetch($child, "--plan=$plan1"), 1, 'but not the new timeline');
is(fetch($parent), 0, 'the old timeline\'s segment comes');
ok(substr(fetched(), $fork_offset) !~ /[^\0]/, 'with zeros behind the fork');
is(state_of(name_of(1, segment_of($fork) + 1)), 'absent', 'nothing of it later on');
is(state_of($child), 'partial', 'the new one goes on');
$copy = new_copy(timeline => 2);
$copy->start;
ok(recovered($copy), 'a copy recovers over the fork');
is($copy->safe_psql('postgres', 'SELECT count(*) FILTER (WHERE i = -1), count(*) FILTER (WHERE i = -2) FROM t'), '0|1', 'with the new primary\'s rows');
$copy->stop;

# the child's copy of the fork's segment is gone
$standby->safe_psql('postgres', 'SELECT pg_switch_wal()');
switch_wal($standby, 1);
wait_decoded($host, $standby);
wait_catalog($child);
damage_file($child, sub { unlink($_[0]) });
is(state_of($child), 'missing', 'without its first segment the new timeline is not to be had');
$copy = new_copy(timeline => 2);
ok(!$copy->start(fail_ok => 1) || wait_for('the copy to stop', sub { !-e $copy->data_dir . '/postmaster.pid' }),
	'a copy does not take the old timeline\'s instead');
unlike(slurp_file($copy->logfile), qr/archive recovery complete/, 'it is not promoted');
$copy->_update_pid(0);

done_testing();
