# A primary is lost, or somebody needs its data as of yesterday.  One command on
# any machine makes a copy that ends where the plan said, and leaves the primary
# and its surroundings alone: it does not archive over the archive, wait for
# standbys, load what acts on its own, open the primary's data directory or its
# tablespaces.  Whatever goes wrong on the way, what is left can't be started.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalRestore;

my $host = new_archive_host('archive');
my $primary = new_primary('primary');
my $major = int($primary->safe_psql('postgres', 'SHOW server_version_num') / 10000);
my $outside = PostgreSQL::Test::Utils::tempdir_short();
my $space = PostgreSQL::Test::Utils::tempdir_short();

# settings of a primary that a copy must not have; most of them wait for a restart that never comes
append_to_file("$outside/more.conf", "work_mem = '5MB'\n");
$primary->append_conf('postgresql.conf', "summarize_wal = on\n") if $major >= 17;
$primary->reload;
$primary->safe_psql('postgres', "CREATE TABLESPACE other LOCATION '$space'");
$primary->safe_psql('postgres', q(
	CREATE TABLE here AS SELECT g AS id, md5(g::text) AS word FROM generate_series(1, 10000) g;
	CREATE TABLE there TABLESPACE other AS SELECT g AS id, md5(g::text) AS word FROM generate_series(1, 10000) g;
	CREATE TABLE steps (step text, at timestamptz DEFAULT clock_timestamp(), xid xid8 DEFAULT pg_current_xact_id())));
my $space_oid = $primary->safe_psql('postgres', "SELECT oid FROM pg_tablespace WHERE spcname = 'other'");
add_source($host, 'prod', $primary);
my $primary_data = $primary->data_dir;
$primary->append_conf('postgresql.conf', qq(
archive_mode = on
archive_command = 'touch $outside/archived'
shared_preload_libraries = 'pg_stat_statements, walarchive, not_there'
session_preload_libraries = 'not_there_either'
data_directory = '$primary_data'
external_pid_file = '$outside/pid'
include '$outside/more.conf'
recovery_target_name = 'nonsense'
shared_buffers = '900000GB'
log_directory = '$outside'
max_connections = 20
recovery_min_apply_delay = '1h'
));
$primary->safe_psql('postgres', q(ALTER SYSTEM SET recovery_end_command = 'touch /nowhere/at/all'));
take_backup($host, 'first', "compression => 'zstd'");

sub step
{
	my ($name) = @_;
	return $primary->safe_psql('postgres', "INSERT INTO steps (step) VALUES ('$name') RETURNING xid");
}
my $xid_one = step('one');
my $lsn_one = $primary->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
my $time_one = $primary->safe_psql('postgres', 'SELECT clock_timestamp()');
switch_wal($primary, 2);
step('two');
$primary->safe_psql('postgres', "SELECT pg_create_restore_point('point')");
step('three');
$primary->safe_psql('postgres', 'UPDATE here SET word = upper(word); UPDATE there SET word = upper(word)');
wait_decoded($host, $primary);

my @archive = archive_args($host);
my @copy = (@archive, '--start', '--tablespace-mapping', "$space=@{[ new_place() ]}");
sub copy_args { return (@archive, '--tablespaces', PostgreSQL::Test::Utils::tempdir_short() . '/spaces', '--start', @_); }

sub steps { return copy_sql($_[0], "SELECT string_agg(step, ' ' ORDER BY at) FROM steps"); }

# --- to the end ---
my $data = new_place();
my ($code, $result, $err) = restore_copy($data, @copy);
is($code, 0, 'a restore to the end') or diag($err);
ok($result->{done} && $result->{compared} && $result->{agrees}, 'it was compared with the plan, and agrees');
is($result->{replayed_lsn}, $result->{stop_lsn}, 'it ended where it should');
is($result->{state}, 'promoted', 'it is open');
is(steps($result), 'one two three', 'it has all rows');
is(copy_sql($result, q(SELECT count(*) FROM here JOIN there USING (id) WHERE here.word = upper(md5(id::text)) AND here.word = there.word)),
	10000, 'and their last values, also in the tablespace');
isnt(copy_sql($result, "SELECT pg_tablespace_location($space_oid)"), $space, 'which is not that of the primary');
for my $setting (
	[ 'archive_mode', 'off' ], [ 'archive_command', '(disabled)' ], [ 'shared_preload_libraries', 'pg_stat_statements' ],
	[ 'session_preload_libraries', '' ], [ 'work_mem', '4MB' ], [ 'external_pid_file', '' ], [ 'log_directory', 'log' ],
	[ 'max_logical_replication_workers', '0' ], [ 'recovery_end_command', '' ], [ 'recovery_min_apply_delay', '0' ],
	[ 'primary_conninfo', '' ], [ 'listen_addresses', 'localhost' ], [ 'shared_buffers', '128MB' ],
	[ 'restore_command', '' ], [ 'cluster_name', 'restored from prod' ])
{
	is(copy_setting($result, $setting->[0]), $setting->[1], "setting $setting->[0] of the copy");
}
is(copy_setting($result, 'data_directory'), $data, 'its data directory is its own');
ok(copy_setting($result, 'max_connections') >= $primary->safe_psql('postgres', 'SHOW max_connections'),
	'as many connections as the WAL needs');
ok(!-e "$outside/archived" && !-e "$outside/pid", 'nothing was done outside of it');
isnt(copy_setting($result, 'port'), $primary->port, 'it has a port of its own');
is(copy_sql($result, 'SELECT count(*) FROM pg_replication_slots'), '0', 'and no slots');
unlike(slurp_file("$data/postgresql.auto.conf"), qr/^recovery_target/m, 'what was for the recovery alone is gone');
ok(!-e "$data/walarchive.restore", 'and so is the mark of an unfinished restore');
is((stat($data))[2] & 07777, 0700, 'the directory is its owner\'s');
is($primary->safe_psql('postgres', 'SELECT count(*) FROM steps'), '3', 'the primary goes on');
is($host->safe_psql('postgres', "SELECT count(*) FROM walarchive.hold WHERE source = 'prod' AND until > now()"), '0',
	'nothing is held any more');
stop_copy($data);

# --- to other places, and what happens there ---
for my $case (
	[ 'a transaction', [ '--to-xid', $xid_one ], 'one' ],
	[ 'before a transaction', [ '--to-xid', $xid_one, '--exclusive' ], '' ],
	[ 'a time', [ '--to-time', $time_one ], 'one' ],
	[ 'an LSN', [ '--to-lsn', $lsn_one, '--exclusive' ], 'one' ],
	[ 'a restore point', [ '--to-name', 'point' ], 'one two' ],
	[ 'where the backup is consistent', ['--to-immediate'], '' ])
{
	my ($what, $args, $expected) = @$case;
	my $place = new_place();
	($code, $result, $err) = restore_copy($place, copy_args(@$args, '--target-action=pause'));
	is($code, 0, "a restore to $what") or diag($err);
	ok($result->{agrees}, "$what: as planned");
	is($result->{state}, 'paused', "$what: paused there");
	is(copy_sql($result, 'SELECT pg_is_in_recovery()'), 't', "$what: and not open");
	is(steps($result), $expected, "$what: with these rows");
	stop_copy($place);
}

# shut down at the target: the owner starts it later
$data = new_place();
($code, $result, $err) = restore_copy($data, copy_args('--to-name', 'point', '--target-action=shutdown'));
is($code, 0, 'a restore that shuts down at the target') or diag($err);
ok($result->{agrees}, 'as planned');
ok(!-e "$data/postmaster.pid", 'it is down');

# not started at all: what it needs is held, and it recovers when it is started
$data = new_place();
($code, $result, $err) = restore_copy($data, grep { $_ ne '--start' } copy_args('--to-name', 'point'));
is($code, 0, 'a restore that is not started') or diag($err);
is($host->safe_psql('postgres', "SELECT held_until > now() + interval '20 hours' FROM walarchive.restore_plan WHERE plan_id = $result->{plan}"), 't',
	'what its recovery needs is held');
ok(-e "$data/recovery.signal", 'it will recover');
command_ok([ 'pg_ctl', '-D', $data, '-l', "$data/log.of.start", '-w', 'start' ], 'its owner starts it');
wait_for('it to be open', sub { copy_sql($result, 'SELECT pg_is_in_recovery()') eq 'f' });
is(steps($result), 'one two', 'and it has what it should');
stop_copy($data);

# it takes the primary's place
$data = new_place();
($code, $result, $err) = restore_copy($data, copy_args('--as-primary', '--port', PostgreSQL::Test::Cluster::get_free_port(),
	'--preload', ''));
isnt($code, 0, 'with settings that this machine does not take');
like($err, qr/PostgreSQL does not take|PostgreSQL has ended/, 'that is what is said');
stop_copy($data);

# --- a path that is too long for a socket ---
$data = PostgreSQL::Test::Utils::tempdir() . '/' . ('long' x 30) . '/data';
($code, $result, $err) = restore_copy($data, copy_args('--target-action=shutdown'));
is($code, 0, 'a restore to a long path') or diag($err);
ok($result->{agrees}, 'is compared all the same');

# --- refusals: each before anything is made ---
sub refused
{
	my ($what, $expected_code, $message, @args) = @_;
	my $place = new_place();
	($code, $result, $err) = restore_copy($place, @args);
	is($code, $expected_code, "$what: exit code");
	like($err, $message, "$what: the message");
	ok(!-e $place, "$what: nothing was made");
	return;
}
my @other = ('-h', $host->host, '-p', $host->port, '-d', 'postgres');
refused('a source that is not there', 4, qr/"nobody"/, @other, '--source=nobody');
refused('a tablespace without a place', 2, qr/tablespace $space_oid.*\Q$space\E.*HINT|hint: .*--tablespace-mapping/s, @archive);
refused('a tablespace over the live one', 5, qr/\Q$space\E" is not empty/, @archive, '--tablespace-mapping', "$space=$space");
refused('a tablespace that the backup has not', 2, qr{no tablespace "/not/there"}, @archive, '--tablespaces', "$outside/spaces",
	'--tablespace-mapping', '/not/there=/somewhere');
refused('a target that is not there', 1, qr/unknown_xid|xid/, @archive, '--to-xid', 4000000);
refused('a backup that is not there', 1, qr/backup/, @archive, '--backup', 'nothing');
refused('an archive host that is not there', 3, qr/./, '-h', $outside, '-p', 1, '-d', 'postgres', '--source=prod', '--retry=0');
refused('a password in the connection string', 2, qr/password file/, '-d', "host=$outside password=secret", '--source=prod');
refused('an unknown action', 2, qr/--target-action/, @archive, '--target-action=nothing');

my $fake = PostgreSQL::Test::Utils::tempdir();
append_to_file("$fake/postgres", "#!/bin/sh\necho 'postgres (PostgreSQL) 12.3'\n");
chmod(0755, "$fake/postgres");
refused('programs of another major', 5, qr/PostgreSQL 12, but the backup is one of PostgreSQL $major/, @archive,
	'--tablespaces', "$outside/spaces", '--bindir', $fake);
refused('no programs', 5, qr/no PostgreSQL server in/, @archive, '--tablespaces', "$outside/spaces", '--bindir', $outside);

$data = PostgreSQL::Test::Utils::tempdir_short();
append_to_file("$data/precious", 'data');
($code, $result, $err) = restore_copy($data, copy_args());
is($code, 5, 'a directory that is not empty');
like($err, qr/is not empty/, 'is refused');
is(slurp_file("$data/precious"), 'data', 'and left as it is');
($code, $result, $err) = restore_copy("$host->{wa_directory}/prod/copy", '--archive', $host->{wa_directory}, '--source=prod');
isnt($code, 0, 'a directory in the archive is refused');

my $closed = PostgreSQL::Test::Utils::tempdir();
mkdir("$closed/closed", 0500) or die "mkdir: $!";
($code, $result, $err) = restore_copy("$closed/closed/data", copy_args());
is($code, 5, 'a directory that can\'t be made');
like($err, qr/could not create directory ".*closed.data": Permission denied/, 'is named');
mkdir("$closed/secret", 0000) or die "mkdir: $!";
($code, $result, $err) = restore_copy("$closed/secret", copy_args());
is($code, 5, 'a directory that can\'t be read');
like($err, qr/"\S*secret": Permission denied/, 'is named');
chmod(0700, "$closed/closed", "$closed/secret");

# --dry-run makes nothing, and holds nothing
$data = new_place();
($code, $result, $err) = restore_copy($data, copy_args('--dry-run'));
is($code, 0, '--dry-run') or diag($err);
ok($result->{feasible} && !-e $data, 'plans, checks, and makes nothing');

# --- a backup that is damaged ---
my ($folder) = glob(archive_dir($host, 'prod') . '/[0-9]*/backup/first');
my $base = "$folder/base.tar.zst";
my $good = read_file_bytes($base);
my $bad = $good;
# (so much that it matters: a single bit may lead to the same bytes in another place)
substr($bad, length($bad) / 2, 64) = "\xff" x 64;
open(my $fh, '+<:raw', $base) or die "could not open $base: $!";
print $fh $bad;
close($fh);
$data = new_place();
($code, $result, $err) = restore_copy($data, copy_args());
is($code, 4, 'a damaged backup');
like($err, qr/damaged|can't be read/, 'is found out');
like($err, qr/--backup=LABEL/, 'with what to do');
ok(!-e $data, 'and nothing is left');
($code, $result, $err) = restore_copy($data, copy_args('--no-clean'));
ok(-e "$data/walarchive.restore" && !-e "$data/global/pg_control", 'unless that is wanted: then it is no data directory');
command_fails([ 'postgres', '-D', $data, '-p', '1' ], 'in which PostgreSQL does not start');
($code, $result, $err) = restore_copy($data, copy_args());
like($err, qr/unfinished restore/, 'and which the next restore knows');
open($fh, '+<:raw', $base) or die "could not open $base: $!";
print $fh $good;
close($fh);

# --- a segment of the archive that is damaged after it was indexed ---
my $wal = wal_dir($host, 'prod');
# not the last one, which is looked at again when the first bytes of the next arrive
my $segment = (wal_files($wal))[-3];
my $whole = read_file_bytes("$wal/$segment");
my $torn = $whole;
substr($torn, 9000, 400) = "\xff" x 400;
open($fh, '+<:raw', "$wal/$segment") or die "could not open $segment: $!";
print $fh $torn;
close($fh);
$data = new_place();
($code, $result, $err) = restore_copy($data, copy_args());
isnt($code, 0, 'a damaged segment of WAL is not taken for the end');
like($err, qr/$segment/, 'it is named');
my ($last_good) = $err =~ /--to-lsn=([0-9A-F\/]+)/;
ok(defined $last_good, 'and what can still be restored') or diag($err);
ok(!$result->{agrees}, 'nobody says that the copy is what was planned');
stop_copy($data);
if (defined $last_good)
{
	$data = new_place();
	($code, $result, $err) = restore_copy($data, copy_args('--to-lsn', $last_good));
	ok($code == 0 && $result->{agrees}, 'which is so') or diag($err);
	stop_copy($data);
}
open($fh, '+<:raw', "$wal/$segment") or die "could not open $segment: $!";
print $fh $whole;
close($fh);

# --- killed at any point, and a full disk ---
for my $point ('write:KILL:/PG_VERSION', 'write:KILL:postgresql.auto.conf', 'open:KILL:recovery.signal', 'rename:KILL:global/pg_control')
{
	my $place = new_place();
	($code) = with_faults([$point], sub { walarchive('restore', '-D', $place, copy_args()) });
	isnt($code, 0, "$point: killed");
	ok(-e "$place/walarchive.restore", "$point: it is marked as not whole");
	cannot_start($place, $point);
}
$data = new_place();
($code, $result, $err) = with_faults([ 'write:ENOSPC:base/' ], sub { restore_copy($data, copy_args()) });
is($code, 5, 'a full disk');
like($err, qr/could not write file ".*base.*No space left on device/, 'is named');
ok(!-e $data, 'and nothing is left');
$data = new_place();
($code, $result, $err) = with_faults([ 'free:1000000:' ], sub { restore_copy($data, copy_args()) });
is($code, 5, 'too little room');
like($err, qr/too little room .* 976.0 kB are free, about .* MB are needed/, 'is seen before anything is copied');
ok(!-e $data, 'and nothing was made');

# --- the connection is lost in the middle of the backup ---
my $proxy = start_proxy($host, 1_500_000);
$data = new_place();
($code, $result, $err) = restore_copy($data, '-h', $proxy, '-p', $host->port, '-d', 'postgres', '--source=prod', '--start',
	'--tablespaces', PostgreSQL::Test::Utils::tempdir_short() . '/spaces');
ok(-e "$proxy/cut", 'the connection was cut');
is($code, 0, 'the restore goes on where it was') or diag($err);
ok($result->{agrees}, 'and ends as planned');
stop_copy($data);

# --- nobody is let in without a password ---
$host->safe_psql('postgres', "CREATE ROLE reader LOGIN PASSWORD 'secret'");
my $hba = slurp_file($host->data_dir . '/pg_hba.conf');
append_to_file($host->data_dir . '/pg_hba.new', "local all reader scram-sha-256\nhostssl all all all scram-sha-256\n$hba");
rename($host->data_dir . '/pg_hba.new', $host->data_dir . '/pg_hba.conf') or die "rename: $!";
$host->reload;
# a connection of before the reload would be let in
wait_for('the rules to be in force', sub {
	!IPC::Run::run([ 'psql', '-X', '-w', '-h', $host->host, '-p', $host->port, '-U', 'reader', '-d', 'postgres', '-c', 'SELECT 1' ],
		'<', \undef, '>', \my $out, '2>', \my $said) }) or BAIL_OUT('everybody is let in');
refused('a role that needs a password', 3, qr/password/, @archive, '-U', 'reader', '-w');
{
	local $ENV{PGPASSWORD} = 'secret';
	refused('a role that may not read the source', 3, qr/./, @archive, '-U', 'reader', '-w');
}

# --- incremental backups ---
SKIP:
{
	skip "PostgreSQL $major has no incremental backups", 1 if $major < 17;
	$primary->safe_psql('postgres', 'UPDATE here SET word = lower(word) WHERE id < 100');
	take_backup($host, 'second', "kind => 'incremental', compression => 'lz4'");
	$primary->safe_psql('postgres', 'UPDATE there SET word = lower(word) WHERE id > 9900');
	take_backup($host, 'third', "kind => 'incremental'");
	step('four');
	wait_decoded($host, $primary);
	$data = new_place();
	($code, $result, $err) = restore_copy($data, copy_args('--backup', 'third'));
	is($code, 0, 'a chain of backups is restored') or diag($err);
	ok($result->{agrees}, 'as planned');
	is(steps($result), 'one two three four', 'it has all rows');
	is(copy_sql($result, q(SELECT count(*) FROM here WHERE word = lower(word) UNION ALL SELECT count(*) FROM there WHERE word = lower(word))),
		"99\n100", 'and the changes in between');
	ok(!-e "$data/walarchive.restore.d", 'and nothing of the parts is left');
	stop_copy($data);
}

# --- a backup without configuration, as Debian's clusters have it elsewhere ---
my $conf = PostgreSQL::Test::Utils::tempdir();
$primary->adjust_conf('postgresql.conf', $_, undef)
  for 'archive_mode', 'archive_command', 'shared_preload_libraries', 'session_preload_libraries', 'data_directory', 'external_pid_file',
  'recovery_target_name', 'shared_buffers', 'log_directory', 'recovery_min_apply_delay';
$primary->stop;
for my $file ('postgresql.conf', 'pg_hba.conf', 'pg_ident.conf')
{
	system_or_bail('mv', "$primary_data/$file", "$conf/$file");
}
system_or_bail('pg_ctl', '-D', $primary_data, '-l', $primary->logfile, '-w', '-o',
	"-c config_file=$conf/postgresql.conf -c hba_file=$conf/pg_hba.conf -c ident_file=$conf/pg_ident.conf", 'start');
wait_streaming($host, 'prod');
take_backup($host, 'bare');
step('five');
wait_decoded($host, $primary);
$data = new_place();
($code, $result, $err) = restore_copy($data, copy_args('--backup', 'bare'));
is($code, 0, 'a backup without postgresql.conf is restored') or diag($err);
ok($result->{agrees}, 'as planned');
like(steps($result), qr/ five$/, 'it has all rows');
stop_copy($data);

# --- a tablespace that was made after the backup: recovery knows no other place for it than the primary's ---
my $xid_five = $primary->safe_psql('postgres', q(SELECT xid FROM steps WHERE step = 'five'));
my $late = PostgreSQL::Test::Utils::tempdir_short() . '/late';
mkdir($late) or die "mkdir: $!";
$primary->safe_psql('postgres', "CREATE TABLESPACE late LOCATION '$late'");
$primary->safe_psql('postgres', 'CREATE TABLE later TABLESPACE late AS SELECT generate_series(1, 1000) AS id');
step('six');
wait_decoded($host, $primary);
my $in_its_place = qr/recovery makes tablespace \d+ at \S+ in "\Q$late\E" itself.*hint: .*--tablespace-mapping=DIR=DIR/s;
my @bare = ('--backup', 'bare', '--start', '--tablespaces', PostgreSQL::Test::Utils::tempdir_short() . '/spaces');
refused('a tablespace that recovery makes', 2, $in_its_place, @archive, @bare);
refused('... wherever it is to go', 2, $in_its_place, @archive, @bare, '--tablespace-mapping', "$late=$outside/late");
refused('... over the live one', 5, qr/\Q$late\E" is not empty/, @archive, @bare, '--tablespace-mapping', "$late=$late");
($code, $result, $err) = restore_copy(new_place(), @archive, @bare, '--to-xid', $xid_five, '--dry-run');
is($code, 0, 'what comes before it can be restored') or diag($err);
my ($plan_code, $plan) = walarchive('plan', @archive, '--backup', 'bare');
like($plan, qr/Recovery makes a tablespace in "\Q$late\E" itself/, 'a plan tells of it');

# --- the archive host is dead: from its directory ---
$host->stop('immediate');
@archive = ('--archive', $host->{wa_directory}, '--source=prod');
$data = new_place();
($code, $result, $err) = restore_copy($data, @archive, @bare, '--to-xid', $xid_five);
is($code, 0, 'a restore from a bare archive directory') or diag($err);
ok($result->{agrees}, 'as planned');
like(steps($result), qr/ five$/, 'it has all rows');
stop_copy($data);
refused('a bare archive directory and a tablespace that recovery makes', 2, $in_its_place, @archive, '--backup', 'bare',
	'--tablespaces', "$outside/spaces");
($plan_code, $plan) = walarchive('plan', @archive, '--backup', 'bare');
like($plan, qr/Recovery makes a tablespace in "\Q$late\E" itself/, 'a plan tells of it, too');

# on another machine, where there is no such directory
system('pg_ctl', '-D', $primary_data, '-m', 'immediate', 'stop');
rename($late, "$late.primary") or die "rename: $!";
@bare = ('--backup', 'bare', '--start', '--tablespaces', PostgreSQL::Test::Utils::tempdir_short() . '/spaces',
	'--tablespace-mapping', "$late=$late");
$data = new_place();
($code, $result, $err) = with_faults([ 'write:ENOSPC:base/' ], sub { restore_copy($data, @archive, @bare) });
is($code, 5, 'a full disk');
ok(!-e $data && !-e $late, 'and nothing is left, of that tablespace either');
($code, $result, $err) = restore_copy($data, @archive, @bare);
is($code, 0, 'a tablespace that recovery makes where it may') or diag($err);
ok($result->{agrees}, 'as planned');
like(steps($result), qr/ five six$/, 'with all rows');
is(copy_sql($result, 'SELECT count(*) FROM later'), '1000', '... also in that tablespace');
is(copy_sql($result, q(SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'late')), $late, 'which is where the WAL has it');
stop_copy($data);

done_testing();
