# What administrators do to an archive host: drop the extension or its
# database, forget to preload the library, set too few worker slots, start the
# host as a standby, in binary-upgrade mode, or twice on one directory.  Each
# time the archive must either go on, or say what is wrong and what to do, and
# go on by itself once that is done.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalFaults;

my $primary = new_primary('primary', conf => "wal_keep_size = 1GB\n");
$primary->safe_psql('postgres', 'CREATE TABLE filler (t text)');

my $host = new_archive_host('archive', extension => 0,
	conf => "walarchive.database = 'wadb'\nwal_level = replica\nmax_wal_senders = 5\n");
my $wal;

# WAL of now arrives, by what lies on the disk.
sub expect_wal
{
	my ($what) = @_;
	my $before = wal_files($wal);
	load_segments($primary, 2);
	return ok(wait_for('new segments', sub { wal_files($wal) >= $before + 2 }),
		"$what: segments arrive");
}

# Server-wide facts, from a database that has the extension.
sub host_state
{
	my ($node, $dbname) = @_;
	return try_psql($node, "SELECT state || '|' || catalog_state FROM walarchive.host_state()",
		dbname => $dbname // 'wadb') // 'down';
}

# A row of health about the host: severity, message and hint.
sub host_health
{
	my ($node, $check, $dbname) = @_;
	return try_psql($node,
		qq(SELECT concat_ws('|', severity, message, hint) FROM walarchive.health WHERE source IS NULL AND "check" = '$check'),
		dbname => $dbname // 'wadb') // 'down';
}

sub receivers
{
	my ($node) = @_;
	return scalar(worker_pids($node, 'walarchive receiver'));
}

# 1. no database, then no extension
ok(wait_for('the launcher', sub { worker_pids($host, 'walarchive launcher') == 1 }),
	'no database: the launcher runs nevertheless');
$host->safe_psql('postgres', 'CREATE DATABASE wadb');
$host->safe_psql('wadb', 'CREATE EXTENSION walarchive');
ok(wait_for('the catalog to be kept', sub { host_state($host) eq 'running|ok' }),
	'extension created: the catalog is kept');
$host->safe_psql('wadb', "SELECT walarchive.add_source('prod', '" . conninfo($primary) . "')");

sub source_state
{
	my ($node, $column) = @_;
	$column //= 'state';
	return try_psql($node, "SELECT $column FROM walarchive.stat_receiver WHERE source = 'prod'",
		dbname => 'wadb') // 'down';
}
ok(wait_for('streaming', sub { source_state($host) eq 'streaming' }), 'the first source streams');
$wal = wal_dir($host, 'prod');
my $pid = source_state($host, 'pid');

# 2. another database has no use for the extension
my ($rc, $out, $err) = $host->psql('postgres', 'CREATE EXTENSION walarchive');
if ($rc == 0)
{
	# it may be made; it must not take the catalog's part
	is(receivers($host), 1, 'extension in another database: still one receiver');
	$host->safe_psql('postgres', 'DROP EXTENSION walarchive');
}
else
{
	like($err, qr/wadb/, 'extension in another database: refused, and the right one is named');
}

# 3. DROP EXTENSION
$host->safe_psql('wadb', 'DROP EXTENSION walarchive');
expect_wal('dropped extension');
is(join(' ', worker_pids($host, 'walarchive receiver')),
	$pid, 'dropped extension: the receiver is the same process');
$host->restart;
ok(wait_for('a receiver', sub { receivers($host) == 1 }),
	'dropped extension: after a restart it runs from the files');
expect_wal('dropped extension, restarted');
$host->safe_psql('wadb', 'CREATE EXTENSION walarchive');
ok(wait_for('the source to be adopted', sub { source_state($host) eq 'streaming' }),
	'created again: the source is adopted');
is( $host->safe_psql('wadb', "SELECT name, conninfo, slot_name, state FROM walarchive.source"),
	'prod|' . conninfo($primary) . '|walarchive_prod|active',
	'created again: with all of its settings');
# which cluster it is comes from the journal
ok( wait_for('the cluster', sub { $host->safe_psql('wadb', 'SELECT system_identifier IS NOT NULL FROM walarchive.source') eq 't' }),
	'created again: its cluster is known');
ok( wait_for('segments in the new catalog',
		sub { ($host->safe_psql('wadb',
					"SELECT count(*) FROM walarchive.segment WHERE state = 'finished'")) >= wal_files($wal) }),
	'created again: the catalog has every segment');
ok( wait_for('the event',
		sub { $host->safe_psql('wadb', "SELECT count(*) FROM walarchive.event WHERE kind = 'adopted'") eq '1' }),
	'created again: an event tells of it');

# 4. DROP DATABASE
# an indexer that has work to do is connected to it
ok(wait_for('the indexer to leave', sub { $host->psql('postgres', 'DROP DATABASE wadb', stderr => \my $said) == 0 }),
	'the database is dropped');
expect_wal('dropped database');
$host->safe_psql('postgres', 'CREATE DATABASE wadb');
$host->safe_psql('wadb', 'CREATE EXTENSION walarchive');
ok(wait_for('the source to be adopted', sub { source_state($host) eq 'streaming' }),
	'database made again: the source is adopted');

# 5. versions
($rc, $out, $err) = $host->psql('wadb', 'ALTER EXTENSION walarchive UPDATE');
is($rc, 0, 'update to the version that it has');
like($err, qr/NOTICE:  version "[\d.]+" of extension "walarchive" is already installed/,
	'update: says that there is nothing to do');
ok(wait_for('the catalog to be kept', sub { host_state($host) eq 'running|ok' }), 'update: all is well');
my $version = $host->safe_psql('wadb', "SELECT extversion FROM pg_extension WHERE extname = 'walarchive'");
$host->safe_psql('wadb', "UPDATE pg_extension SET extversion = '99.0' WHERE extname = 'walarchive'");
expect_wal('version mismatch');
ok(wait_for('the mismatch to be seen', sub { host_state($host) eq 'running|version' }),
	'version mismatch: seen');
is( host_health($host, 'catalog'),
	'critical|library and extension differ in their version: the catalog is not kept|Run ALTER EXTENSION walarchive UPDATE, or restart the server to load the installed library.',
	'version mismatch: health says so and what to do');
is(source_state($host), 'streaming', 'version mismatch: streaming');
$host->safe_psql('wadb', "UPDATE pg_extension SET extversion = '$version' WHERE extname = 'walarchive'");
$host->safe_psql('wadb', "SELECT walarchive.notify_catalog_changed()");
ok(wait_for('the catalog to be kept', sub { host_state($host) eq 'running|ok' }),
	'version mismatch: mended');

# 6. a standby of the archive host, on the same directory (shared storage)
$host->append_conf('pg_hba.conf', "local replication all trust\n");
$host->restart;
ok(wait_for('streaming', sub { source_state($host) eq 'streaming' }), 'before the standby: streaming');
$host->backup('host_backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($host, 'host_backup', has_streaming => 1);
$standby->start;
ok(wait_for('the standby to say so', sub { host_state($standby) =~ /^standby/ }),
	'standby: says that it is one');
is( host_health($standby, 'launcher'),
	'warning|this server is in recovery: nothing is archived|Receivers start when it is promoted.',
	'standby: health says so');
is(receivers($standby), 0, 'standby: receives nothing');
is(source_state($host), 'streaming', 'standby: the host goes on');
$host->stop;
$standby->promote;
ok(wait_for('the promoted host to stream', sub { source_state($standby) eq 'streaming' }),
	'promoted: it begins to stream');
expect_wal('promoted');
$standby->stop;

# 7. two hosts on one directory
$host->start;
ok(wait_for('streaming', sub { source_state($host) eq 'streaming' }), 'first host: streaming');
my $second = new_archive_host('second', directory => $host->{wa_directory},
	conf => "walarchive.database = 'wadb'\n", extension => 0);
$second->safe_psql('postgres', 'CREATE DATABASE wadb');
$second->safe_psql('wadb', 'CREATE EXTENSION walarchive');
ok(wait_for('the second host to refuse', sub { host_state($second) =~ /^directory_in_use/ }),
	'second host: refuses the directory');
is( host_health($second, 'launcher'),
	"critical|directory_in_use: another server uses the archive directory \"$host->{wa_directory}\"|Another server archives into the same walarchive.directory: give each its own.",
	'second host: health says so and what to do');
is(receivers($second), 0, 'second host: no receiver');
is(source_state($host), 'streaming', 'second host: the first one goes on');
# the first one's postmaster is killed: the second must wait for its receivers
my $old = postmaster_pid($host);
$host->kill9;
ok(wait_for('the second host to take over', sub { source_state($second) eq 'streaming' }),
	'second host: takes over when the first is gone');
expect_wal('second host');
is($second->safe_psql('wadb', 'SELECT name FROM walarchive.source'), 'prod',
	'second host: has the source in its catalog');
$second->stop;
ok(wait_for('the first postmaster', sub { process_gone($old) }), 'the first postmaster is gone');
$host->{_pid} = undef;

# 8. too few worker slots
$host->append_conf('postgresql.conf', "max_worker_processes = 4\n");
wait_for('the first host to start', sub { $host->{_pid} = undef; $host->start(fail_ok => 1) });
ok(wait_for('streaming', sub { source_state($host) eq 'streaming' }), 'few workers: one source streams');
for my $n (2 .. 4)
{
	$host->safe_psql('wadb', "SELECT walarchive.add_source('prod$n', '" . conninfo($primary) . "')");
}
ok( wait_for('no worker to be shown',
		sub { $host->safe_psql('wadb',
				"SELECT count(*) >= 1 FROM walarchive.stat_receiver WHERE cause = 'no_worker' AND state = 'waiting'") eq 't' }),
	'few workers: the cause is no_worker');
like(host_health($host, 'workers'),
	qr/^critical\|\d of 8 sources; up to 14 background workers are wanted and max_worker_processes is 4\|Set max_worker_processes to at least 14/,
	'few workers: health says what to set');
expect_wal('few workers');
$host->append_conf('postgresql.conf', "max_worker_processes = 16\n");
$host->restart;
ok( wait_for('all sources to stream',
		sub { $host->safe_psql('wadb',
				"SELECT count(*) FROM walarchive.stat_receiver WHERE state = 'streaming'") eq '4' }),
	'enough workers: all stream');
# fewer sources allowed than there are: which of them run is not said, but
# those that do not are named
$host->append_conf('postgresql.conf', "walarchive.max_sources = 3\n");
$host->restart;
ok( wait_for('three sources to stream',
		sub { $host->safe_psql('wadb',
				"SELECT count(*) FROM walarchive.stat_receiver WHERE state = 'streaming'") eq '3' }),
	'fewer sources allowed: three stream');
is( $host->safe_psql('wadb', "SELECT state, cause FROM walarchive.stat_receiver WHERE state <> 'streaming'"),
	'waiting|no_worker', 'fewer sources allowed: the fourth says why not');
ok( wait_for('the health',
		sub { $host->safe_psql('wadb', qq(SELECT severity, message, hint FROM walarchive.health WHERE "check" = 'receiver' AND severity <> 'ok'))
			  eq 'critical|not archived: there are more sources than walarchive.max_sources (3)|Raise walarchive.max_sources, and max_worker_processes by as much, and restart the server.' }),
	'fewer sources allowed: health says so and what to do');
$host->append_conf('postgresql.conf', "walarchive.max_sources = 8\n");
$host->restart;
ok( wait_for('all sources to stream',
		sub { $host->safe_psql('wadb',
				"SELECT count(*) FROM walarchive.stat_receiver WHERE state = 'streaming'") eq '4' }),
	'enough sources allowed: all stream');
$host->safe_psql('wadb', "SELECT walarchive.drop_source(name, delete_files => true) FROM walarchive.source WHERE name <> 'prod'");
ok(wait_for('the other sources to go', sub { $host->safe_psql('wadb', 'SELECT count(*) FROM walarchive.source') eq '1' }),
	'enough workers: three are dropped');

# not even the launcher
$host->append_conf('postgresql.conf', "max_worker_processes = 0\n");
$host->restart;
is( host_health($host, 'launcher'),
	'critical|the launcher is not running|It is started again every few seconds; see the server log, and max_worker_processes.',
	'no worker at all: health says so');
$host->append_conf('postgresql.conf', "max_worker_processes = 16\n");

# 9. binary-upgrade mode: nothing streams, nothing is written
$host->stop;
my $before = join(' ', map { "$_ " . -M "$wal/$_" } wal_files($wal, partial => 1));
local $ENV{PGHOST} = $host->host;
system_or_bail('pg_ctl', '-w', '-D', $host->data_dir, '-l', $host->logfile, '-o', '-b -p ' . $host->port, 'start');
is(scalar(worker_pids($host, 'walarchive')), 0, 'binary upgrade: no process of ours');
($rc, $out, $err) = $host->psql('wadb', 'SELECT * FROM walarchive.stat_receiver');
like($err, qr/shared_preload_libraries/, 'binary upgrade: live state is not there');
system_or_bail('pg_ctl', '-w', '-D', $host->data_dir, '-m', 'fast', 'stop');
is(join(' ', map { "$_ " . -M "$wal/$_" } wal_files($wal, partial => 1)),
	$before, 'binary upgrade: no file was touched');

# 10. not preloaded
$host->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$host->start;
foreach my $call ("SELECT * FROM walarchive.stat_receiver",
	"SELECT walarchive.add_source('other', '" . conninfo($primary) . "')",
	"SELECT walarchive.pause_source('prod')")
{
	($rc, $out, $err) = $host->psql('wadb', $call);
	isnt($rc, 0, "not preloaded: error of $call");
	like($err, qr/ERROR: .*\n(.*\n)*HINT:  .*shared_preload_libraries/,
		'not preloaded: and a hint');
}
$host->append_conf('postgresql.conf', "shared_preload_libraries = 'walarchive'\n");
$host->restart;
ok(wait_for('streaming', sub { source_state($host) eq 'streaming' }), 'preloaded again: streaming');

# 11. the directory
my $dir = $host->{wa_directory};
$host->stop;
rename($dir, "$dir.away") or die "could not rename $dir: $!";
$host->start;
ok(wait_for('the missing directory', sub { host_state($host) =~ /^no_directory/ }), 'directory missing: seen');
is(host_health($host, 'launcher'),
	"critical|no_directory: could not access \"walarchive.directory\" \"$dir\": No such file or directory|Set walarchive.directory to a folder that exists, is writable and lies outside the data directory.",
	'directory missing: health says so and what to do');
ok(!-e $dir, 'directory missing: it is not made');
rename("$dir.away", $dir) or die "could not rename $dir.away: $!";
ok(wait_for('streaming', sub { source_state($host) eq 'streaming' }),
	'directory back: streaming without a restart');

$host->stop;
chmod(0500, $dir) or die $!;
$host->start;
ok(wait_for('the directory', sub { host_state($host) =~ /^no_directory/ }), 'directory not writable: seen');
like(host_health($host, 'launcher'), qr/cannot be written: Permission denied/,
	'directory not writable: health says so');
chmod(0700, $dir) or die $!;
ok(wait_for('streaming', sub { source_state($host) eq 'streaming' }),
	'directory writable: streaming without a restart');

mkdir($host->data_dir . '/archive') or die $!;
symlink($host->data_dir . '/archive', "$dir.link") or die $!;
foreach my $inside ($host->data_dir . '/archive', "$dir.link")
{
	$host->append_conf('postgresql.conf', "walarchive.directory = '$inside'\n");
	$host->restart;
	ok(wait_for('the directory', sub { host_state($host) =~ /^no_directory/ }),
		'directory inside the data directory: refused');
	like(host_health($host, 'launcher'), qr/lies inside the data directory/,
		'directory inside the data directory: health says so');
}
$host->append_conf('postgresql.conf', "walarchive.directory = ''\n");
$host->restart;
ok(wait_for('the directory', sub { host_state($host) =~ /^no_directory/ }), 'no directory set: seen');
like(host_health($host, 'launcher'), qr/"walarchive\.directory" is not set/, 'no directory set: health says so');

$host->stop;
$primary->stop;
done_testing();
