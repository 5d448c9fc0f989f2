# Everything that can go wrong while a backup is taken: the attempt is gone and
# its reason is known, what was there before is untouched, WAL keeps flowing, and
# the next backup works.  Nothing half is ever listed as usable, whoever is
# killed and when.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use WalArchive;
use WalFaults;

my $host = new_archive_host('archive', start => 0);
start_with_faults($host);
$host->safe_psql('postgres', 'CREATE EXTENSION walarchive');
my $primary = new_primary('primary', initdb => ['--data-checksums'], conf => "wal_keep_size = 64MB\n");
$primary->safe_psql('postgres', q(
	CREATE TABLE t AS SELECT g AS id, md5(g::text) AS word FROM generate_series(1, 30000) g;
	CREATE TABLE doomed AS SELECT g AS id FROM generate_series(1, 5000) g));
add_source($host, 'prod', $primary);

sub try_backup
{
	my ($args, %opt) = @_;
	my ($code, $out, $err) = $host->psql('postgres',
		($opt{before} ? "$opt{before};" : '') . "SELECT walarchive.take_backup('prod'" . ($args ? ", $args" : '') . ')');
	return ($code, $err);
}

sub backup_row
{
	my ($label, $columns) = @_;
	return $host->safe_psql('postgres', "SELECT $columns FROM walarchive.backup WHERE label = '$label'");
}

# Names in the folder of backups.
sub folders
{
	my ($dir) = glob(archive_dir($host, 'prod') . '/[0-9]*/backup');
	opendir(my $dh, $dir) or die "could not open $dir: $!";
	my @names = sort grep { !/^\.\.?$/ } readdir($dh);
	closedir($dh);
	return @names;
}

# The attempt is gone, in every respect but its reason; 'good' is untouched.
my $sums = '';

sub sums_of_good
{
	my ($dir) = glob(archive_dir($host, 'prod') . '/[0-9]*/backup/good');
	return join(' ', map { Digest::SHA->new(256)->addfile($_, 'b')->hexdigest } sort glob("$dir/*"));
}

sub is_gone
{
	my ($label, $reason, $cause) = @_;
	ok(wait_for("$label to be entered as failed", sub { backup_row($label, 'state') eq 'failed' }),
		"$label: the catalog says that it failed") or diag(backup_row($label, '*'));
	like(backup_row($label, 'reason'), $reason, "$label: and why");
	my ($line) = grep { ($_->{label} // '') eq $label } journal_lines($host, 'prod', 'backup_failed');
	is($line->{cause}, $cause, "$label: so does the journal") if $cause;
	is(join(' ', grep { /^\Q$label\E/ } folders()), '', "$label: its files are gone");
	is(sums_of_good(), $sums, "$label: the backup from before is untouched");
	is(backup_row('good', 'state'), 'usable', "$label: and usable");
	return;
}

# Start one that takes long, and wait until files stream.
sub start_slow
{
	my ($label, $args) = @_;
	my $session = start_sql($host,
		"SELECT walarchive.take_backup('prod', label => '$label', max_rate => 2000" . ($args ? ", $args" : '') . ')');
	wait_for("$label to stream", sub { $host->safe_psql('postgres',
			"SELECT count(*) FROM walarchive.stat_progress_backup WHERE label = '$label' AND backup_streamed > 0 AND phase = 'streaming database files'") eq '1' })
	  or BAIL_OUT("$label does not stream");
	return $session;
}

my ($code, $err) = try_backup("label => 'good'");
is($code, 0, 'a backup is taken') or diag($err);
wait_for('it to be usable', sub { backup_row('good', 'state') eq 'usable' });
$sums = sums_of_good();

# --- what is refused at once ---
for my $case (
	[ "label => 'good'", qr/has a backup "good" already/ ],
	[ "label => '../evil'", qr/invalid backup label/ ],
	[ "kind => 'differential'", qr/unknown kind of backup/ ],
	[ "compression => 'rar'", qr/invalid compression "rar"/ ],
	[ "manifest_checksums => 'MD5'", qr/unknown checksum algorithm/ ],
	[ "max_rate => 1", qr/max_rate must be between/ ],
	[ "parent => 'good'", qr/a full backup has no parent/ ],
	[ "conninfo => 'host=x password=secret'", qr/password/ ])
{
	($code, $err) = try_backup($case->[0]);
	ok($code != 0 && $err =~ $case->[1], "refused: $case->[0]") or diag($err);
	unlike($err, qr/secret/, 'and no secret is told') if $case->[0] =~ /secret/;
}
like(($host->psql('postgres', "SELECT walarchive.take_backup('nobody')"))[2], qr/source "nobody" does not exist/, 'an unknown source');

# --- the server ---
($code, $err) = try_backup("label => 'nowhere', conninfo => 'host=/nonexistent'");
like($err, qr/failed: connection to server/, 'no server: the error says so');
is_gone('nowhere', qr/connection to server/, 'connection_failed');
my $other = new_primary('other');
($code, $err) = try_backup("label => 'foreign', conninfo => '" . conninfo($other) . "'");
is_gone('foreign', qr/system identifier/, 'foreign_cluster');
$other->stop('immediate');

# --- cancelled ---
my $session = start_slow('interrupted');
$host->safe_psql('postgres', q(SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%interrupted%' AND pid <> pg_backend_pid()));
# it does not wait for ever until that is so
like((sql_result($session))[2], qr/user request.*"interrupted" (was cancelled, and nothing of it is left|is being cancelled)/s,
	'a cancelled session is told what became of it');
is_gone('interrupted', qr/cancelled/, 'cancelled');
($code, $err) = try_backup("label => 'timeout', max_rate => 32", before => "SET statement_timeout = '3s'");
like($err, qr/statement timeout/, 'so is one that takes too long');
wait_for('its worker to leave', sub { $host->safe_psql('postgres', 'SELECT count(*) FROM walarchive.stat_progress_backup') eq '0' });
ok(!grep({ /^timeout/ } folders()), 'and nothing of it is left');

$session = start_slow('asked');
($code, $err) = try_backup('');
like($err, qr/a backup of source "prod" is being taken already: "asked"/, 'a second backup of the source is refused');
is($host->safe_psql('postgres', "SELECT walarchive.cancel_backup('prod')"), 't', 'cancel_backup finds it');
isnt((sql_result($session))[0], 0, 'and the session that waits for it gets an error');
is_gone('asked', qr/cancelled/, 'cancelled');
wait_for('its worker to leave', sub { $host->safe_psql('postgres', 'SELECT count(*) FROM walarchive.stat_progress_backup') eq '0' });
is($host->safe_psql('postgres', "SELECT walarchive.cancel_backup('prod')"), 'f', 'cancel_backup finds none');

$session = start_slow('orphan');
$host->safe_psql('postgres', q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%orphan%' AND pid <> pg_backend_pid()));
sql_result($session);
is_gone('orphan', qr/cancelled/, 'cancelled');

# --- the connection breaks ---
$session = start_slow('cut');
$primary->safe_psql('postgres', q(SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name = 'walarchive_backup'));
like((sql_result($session))[2], qr/backup "cut" of source "prod" failed/, 'a cut connection is an error');
is_gone('cut', qr/terminating connection|connection/);

# --- the disk ---
arm_faults($host, 'write:ENOSPC:full.tmp/base');
($code, $err) = try_backup("label => 'full'");
like($err, qr/No space left on device/, 'a full disk is an error');
disarm_faults($host);
is_gone('full', qr/No space left/, 'disk_full');
arm_faults($host, 'fsync:EIO:unsynced.tmp/base');
($code, $err) = try_backup("label => 'unsynced'");
like($err, qr/could not fsync/, 'a sync that fails is an error');
disarm_faults($host);
is_gone('unsynced', qr/could not fsync/, 'sync_failed');
arm_faults($host, 'rename:EIO:nameless$');
($code, $err) = try_backup("label => 'nameless'");
like($err, qr/could not rename/, 'without a name there is no backup');
disarm_faults($host);
ok(wait_for('nameless', sub { backup_row('nameless', 'state') eq 'failed' }), 'nameless: failed');
$host->safe_psql('postgres', "SELECT walarchive.rescan('prod')");
ok(wait_for('it to be cleared away', sub { join(' ', folders()) eq 'good' }), 'nameless: its folder is gone as soon as it can be');
$host->append_conf('postgresql.conf', "walarchive.min_free_space = '1GB'\n");
arm_faults($host, 'free:1085000000:');
$host->reload;
wait_setting($host, 'walarchive.min_free_space', '1GB');
wait_streaming($host, 'prod');
($code, $err) = try_backup("label => 'toobig'");
like($err, qr/MB free above walarchive.min_free_space/, 'a backup that will not fit is refused when its size is known');
disarm_faults($host);
$host->append_conf('postgresql.conf', "walarchive.min_free_space = 0\n");
$host->reload;
wait_setting($host, 'walarchive.min_free_space', 0);
is_gone('toobig', qr/min_free_space/, 'disk_full');
is(stat_of($host, 'prod', 'state'), 'streaming', 'WAL keeps flowing');

# --- WAL that is not there, or does not come ---
$host->safe_psql('postgres', "SELECT walarchive.pause_source('prod')");
wait_state($host, 'prod', 'paused');
($code, $err) = try_backup("label => 'paused'");
like($err, qr/source "prod" is not streaming: it is paused/, 'without WAL there is no backup');
$host->safe_psql('postgres', "SELECT walarchive.resume_source('prod')");
wait_streaming($host, 'prod');

stop_indexers($host);
$session = start_sql($host, "SELECT walarchive.take_backup('prod', label => 'unchecked')");
ok(wait_for('it to wait', sub { $host->safe_psql('postgres',
			q(SELECT phase FROM walarchive.stat_progress_backup)) eq 'waiting for wal archiving to finish' }),
	'while nobody checks the WAL, a backup waits');
$host->safe_psql('postgres', q(SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%unchecked%' AND pid <> pg_backend_pid()));
like((sql_result($session))[2], qr/Backup "unchecked" is whole and is kept/, 'a session that does not wait any longer is told that it is kept');
is(join(' ', folders()), 'good unchecked', 'and it is');
start_indexers($host);
ok(wait_for('it to be usable', sub { backup_row('unchecked', 'state') eq 'usable' }), 'when the WAL has been checked it is usable');

# --- damaged pages ---
my $file = $primary->safe_psql('postgres', "SELECT pg_relation_filepath('doomed')");
$primary->safe_psql('postgres', 'CHECKPOINT');
$primary->stop;
open(my $fh, '+<:raw', $primary->data_dir . "/$file") or die "could not open $file: $!";
seek($fh, 8192 + 100, 0);
print $fh 'damaged';
close($fh);
$primary->start;
wait_streaming($host, 'prod');
($code, $err) = try_backup("label => 'damaged'");
like($err, qr/damaged data pages/, 'damaged pages fail the backup');
like($err, qr/\Q$file\E/, 'and are named');
is_gone('damaged', qr/damaged data pages.*\Q$file\E/s, 'checksum_failure');
($code, $err) = try_backup("label => 'tolerant', verify_checksums => false");
is($code, 0, 'unless told otherwise') or diag($err);
wait_for('its row', sub { backup_row('tolerant', 'count(*)') eq '1' });
is(backup_row('tolerant', 'checksum_failures'), '1', 'they are counted then');
$primary->safe_psql('postgres', 'DROP TABLE doomed; CHECKPOINT');

# --- the host is stopped in an orderly way ---
start_slow('stopped', 'wait => false');
$host->stop('fast');
is(join(' ', grep { /^stopped/ } folders()), '', 'a host that stops leaves nothing half');
$host->start;
wait_streaming($host, 'prod');
is_gone('stopped', qr/being stopped/, 'host_stopped');

# --- kill -9, of anybody, at any moment ---
sub usable_are_whole
{
	my ($what) = @_;
	my @bad;
	for my $label (split /\n/, $host->safe_psql('postgres', q(SELECT label FROM walarchive.backup WHERE state IN ('usable', 'waiting'))))
	{
		my ($folder) = glob(archive_dir($host, 'prod') . "/[0-9]*/backup/$label");
		my $data = PostgreSQL::Test::Utils::tempdir();
		push(@bad, $label), next if !defined $folder;
		system("tar -x -C $data -f $folder/base.tar && cp $folder/backup_manifest $data/ && pg_verifybackup -n -q $data") == 0
		  or push @bad, $label;
		system('rm', '-rf', $data);
	}
	is(join(' ', @bad), '', "$what: what is usable is whole");
	return;
}
srand(42);
for my $round (1 .. 10)
{
	my $victim = (qw(worker host primary))[ $round % 3 ];
	my $slow = start_sql($host, "SELECT walarchive.take_backup('prod', label => 'round_$round', max_rate => 20000)");
	usleep(int(rand(2_000_000)));
	my ($pid) = $victim eq 'worker' ? worker_pids($host, 'walarchive backup') : postmaster_pid($victim eq 'host' ? $host : $primary);
	kill('KILL', $pid) if $pid;
	sql_result($slow);
	if ($victim eq 'host')
	{
		wait_for('the postmaster to be gone', sub { process_gone($pid) });
		# its processes leave as soon as they notice
		wait_for('the host to start', sub { $host->{_pid} = undef; $host->start(fail_ok => 1) });
	}
	elsif ($victim eq 'primary')
	{
		wait_for('the postmaster to be gone', sub { process_gone($pid) });
		wait_for('the primary to start', sub { $primary->{_pid} = undef; $primary->start(fail_ok => 1) });
	}
	# a session may hear of its worker's death before the postmaster does
	wait_for('streaming', sub { (try_psql($host, "SELECT state FROM walarchive.stat_receiver WHERE source = 'prod'") // '') eq 'streaming' });
	ok(wait_for('leftovers to go', sub { !grep { /\.(tmp|deleted)$/ } folders() }), "$round, $victim: no leftover");
	ok(wait_for('it to be decided', sub { (try_psql($host,
				"SELECT count(*) FROM walarchive.backup WHERE label = 'round_$round' AND state IN ('usable', 'failed')") // '') eq '1'
			  || !defined $pid || !grep { ($_->{label} // '') eq "round_$round" } journal_lines($host, 'prod') }),
		"$round, $victim: the catalog knows how it ended");
}
usable_are_whole('after ten kills');
is(sums_of_good(), $sums, 'the first backup is untouched');
($code, $err) = try_backup("label => 'after_kills'");
is($code, 0, 'and another can be taken') or diag($err);

# --- a promotion ---
my $standby = PostgreSQL::Test::Cluster->new('standby');
$primary->backup('for_standby');
$standby->init_from_backup($primary, 'for_standby', has_streaming => 1);
$standby->append_conf('postgresql.conf', "wal_keep_size = 64MB\n");
$standby->start;
my $standby_conninfo = conninfo($standby);
wait_for('the standby', sub { $standby->safe_psql('postgres', "SELECT pg_last_wal_replay_lsn() >= '"
		  . $primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()') . "'") eq 't' });

# its last restartpoint lies back: the WAL from there on has to be in the archive
switch_wal($primary, 4);
wait_archived($host, 'prod', $primary);
wait_for('the standby', sub { $standby->safe_psql('postgres', "SELECT pg_last_wal_replay_lsn() >= '"
		  . $primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()') . "'") eq 't' });
my $wal = wal_dir($host, 'prod');
my $lost = (wal_files($wal))[-2];
wait_for('nobody to read it any more', sub { $host->safe_psql('postgres',
		"SELECT count(*) FROM walarchive.segment WHERE name = '$lost' AND sha256 IS NOT NULL") eq '1' });
rename("$wal/$lost", "$wal/kept_elsewhere") or die "rename: $!";
($code, $err) = try_backup("label => 'gap', conninfo => '$standby_conninfo'");
rename("$wal/kept_elsewhere", "$wal/$lost") or die "rename: $!";
like($err, qr/the archive lacks WAL that the backup needs: .*\Q$lost\E/, 'WAL that the backup needs is missing: that is seen when it starts');
is_gone('gap', qr/lacks WAL/, 'not_archived');

$session = start_slow('promoted', "conninfo => '$standby_conninfo'");
$standby->promote;
like((sql_result($session))[2], qr/promoted/, 'a promotion of the standby is noticed');
is_gone('promoted', qr/promoted/);

# the other server goes on alone: its WAL is not archived here
$standby->safe_psql('postgres', 'CREATE TABLE elsewhere (i int); CHECKPOINT');
($code, $err) = try_backup("label => 'elsewhere', conninfo => '$standby_conninfo'");
like($err, qr/on timeline 2, and the archive of source "prod" is on timeline 1/, 'WAL that is not archived: no backup');
is_gone('elsewhere', qr/timeline/, 'not_archived');

# --- a failover in the middle ---
$host->safe_psql('postgres', "SELECT walarchive.alter_source('prod', conninfo => '" . one_of($primary, $standby) . "')");
wait_streaming($host, 'prod');
$session = start_slow('failover');
$primary->stop('immediate');
isnt((sql_result($session))[0], 0, 'a failover ends the backup');
wait_for('the archive to follow', sub { stat_of($host, 'prod', "received_tli = 2 AND state = 'streaming'") eq 't' })
  or BAIL_OUT('the archive does not follow: ' . stat_of($host, 'prod', "concat_ws(' ', state, cause, last_error)"));
is_gone('failover', qr/./);
($code, $err) = try_backup("label => 'new_timeline'");
is($code, 0, 'on the new timeline a backup is taken') or diag($err);
ok(wait_for('it to be usable', sub { backup_row('new_timeline', 'state, timeline') eq 'usable|2' }), 'and usable');

done_testing();
