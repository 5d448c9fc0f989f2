# Backups lie in the archive, made by hand from pg_backup_start and a copy, so
# that nothing but the catalog is looked at here.  What recovery_window says of
# them is put to the server itself: it has to accept the times at both ends and
# to refuse those just beyond.  Then everything happens to backups that can: the
# catalog is lost, WAL and backup.json are damaged, parents vanish, a host dies
# with folders half written and half removed.
use strict;
use warnings FATAL => 'all';

use Fcntl qw(:flock);
use File::Path qw(make_path remove_tree);
use FindBin;
use lib "$FindBin::RealBin/lib";
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalFaults qw(stop_indexers start_indexers);
use WalRestore qw(wait_decoded);

my $host = new_archive_host('archive');
my $primary = new_primary('primary');
$primary->safe_psql('postgres', 'CREATE TABLE t (i int)');
add_source($host, 'prod', $primary);
my $wal = wal_dir($host, 'prod');
my $backups = $wal;
$backups =~ s{wal$}{backup};
my $sysid = $primary->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()');

sub sql { return $host->safe_psql('postgres', $_[0]); }

# A refusal: the error and the hint.
sub refusal
{
	my ($out, $err) = ('', '');
	$host->psql('postgres', $_[0], stdout => \$out, stderr => \$err);
	return $err;
}

sub state_of
{
	return sql("SELECT state || coalesce(': ' || reason, '') FROM walarchive.backup WHERE source = 'prod' AND label = '$_[0]'");
}

sub wait_backup
{
	my ($label, $state, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(wait_for("backup $label to be $state", sub { state_of($label) =~ /^$state/ }), $what) or diag(state_of($label));
	return;
}

# Have the files looked at.
sub look { return sql("SELECT walarchive.request_index('prod')"); }

sub write_file
{
	my ($path, $content) = @_;
	open my $fh, '>', $path or die "$path: $!";
	print $fh $content;
	close $fh or die "$path: $!";
	return;
}

# Copy the primary's data with transactions before, during and after it; the
# positions, and the folder of the copy.
sub copy_primary
{
	my ($name) = @_;
	my $copy = $primary->basedir . "/copy_$name";
	my $data = $primary->data_dir;
	my $script = $primary->basedir . "/$name.sql";
	write_file($script, qq{
INSERT INTO t VALUES (1);
SELECT 'START ' || pg_backup_start('$name', true);
INSERT INTO t VALUES (2);
SELECT pg_switch_wal();
INSERT INTO t VALUES (3);
SELECT pg_switch_wal();
\\! cp -a '$data' '$copy'
INSERT INTO t VALUES (4);
SELECT 'STOP ' || lsn || E'\\n' || labelfile FROM pg_backup_stop(false);
INSERT INTO t VALUES (5);
});
	my $out = $primary->safe_psql('postgres', "\\i $script");
	my ($start) = $out =~ /^START (\S+)$/m or die $out;
	my ($stop, $label) = $out =~ /^STOP (\S+)\n(.*)/ms or die $out;
	$label =~ s/\n[^\n]*\z/\n/ unless $label =~ /START TIMELINE: \d+\n\z/;
	$label = join("\n", grep { /^[A-Z ]+: / } split(/\n/, $label)) . "\n";
	unlink("$copy/postmaster.pid", "$copy/postmaster.opts");
	remove_tree("$copy/pg_wal");
	make_path("$copy/pg_wal", { mode => 0700 });
	remove_tree(glob("$copy/pg_replslot/*"));
	write_file("$copy/backup_label", $label);
	return ($start, $stop, $copy);
}

# A backup's folder, as the backup worker leaves it.
sub put_backup
{
	my ($label, $start, $stop, %more) = @_;
	make_path("$backups/$label", { mode => 0700 });
	write_file("$backups/$label/backup_manifest", "{}\n");
	write_file("$backups/$label/base.tar", "not looked at here\n");
	my %info = (
		format => 1, label => $label, kind => 'full', timeline => 1, start_lsn => $start, stop_timeline => 1,
		stop_lsn => $stop, consistent_lsn => $stop, started_at => '2026-01-02T03:04:05.000000Z',
		finished_at => '2026-01-02T03:05:00.000000Z', server_version => 150000, from_standby => JSON::PP::false,
		compression => 'none', checksum_algorithm => 'SHA256', manifest_sha256 => '0' x 64, size => 100, data_size => 90,
		files => 3, checksum_failures => 0, tablespaces => '', %more);
	my $json = JSON::PP->new->canonical->encode(\%info);
	$json =~ s/\}$/,"system_identifier":$sysid}/;
	write_file("$backups/$label/backup.json.new", $json);
	rename("$backups/$label/backup.json.new", "$backups/$label/backup.json") or die $!;
	return;
}

# Restore a copy to a target, without walarchive: whether PostgreSQL got there.
my $restores = 0;
sub restored
{
	my ($copy, $setting) = @_;
	my $node = PostgreSQL::Test::Cluster->new('restored' . ++$restores);
	mkdir($node->basedir);
	system_or_bail('cp', '-a', $copy, $node->data_dir);
	$node->append_conf('postgresql.conf',
			"port = " . $node->port . "\nunix_socket_directories = '" . $node->host . "'\nlisten_addresses = ''\n"
		  . "restore_command = 'cp \"$wal/%f\" \"%p\" 2>/dev/null || cp \"$wal/%f.partial\" \"%p\"'\n"
		  . "recovery_target_timeline = 1\nrecovery_target_action = 'shutdown'\narchive_mode = off\nlogging_collector = off\n$setting\n");
	write_file($node->data_dir . '/recovery.signal', '');
	# with this action it shuts down at its target
	run_log([ 'pg_ctl', '-D', $node->data_dir, '-l', $node->logfile, '-w', '-t', '60', 'start' ]);
	wait_for('the restored server to be gone', sub { !-e $node->data_dir . '/postmaster.pid' });
	my $log = slurp_file($node->logfile);
	$node->clean_node;
	return 'reached' if $log =~ /shutdown at recovery target/;
	return 'too late' if $log =~ /recovery ended before configured recovery target was reached/;
	return 'too early' if $log =~ /requested recovery stop point is before consistent recovery point/;
	return $log;
}

# --- a backup, and its window ---
$primary->safe_psql('postgres', 'INSERT INTO t VALUES (0)');
my ($start, $stop, $copy) = copy_primary('first');
wait_decoded($host, $primary);
put_backup('first', $start, $stop);
look();
wait_backup('first', 'usable', 'a backup whose WAL is archived and checked is usable');
$primary->safe_psql('postgres', "INSERT INTO t VALUES ($_)") for 6 .. 8;
my $head = wait_archived($host, 'prod', $primary);
ok(wait_for('the window to grow',
		sub { sql("SELECT last_lsn >= '$head' FROM walarchive.recovery_window WHERE backup = 'first'") eq 't' }),
	'its window grows with the archive');
my $commits = "FROM walarchive.commits('prod', from_lsn => '$start') c";
is( sql(q(SELECT timeline, first_lsn, ended_by FROM walarchive.recovery_window WHERE source = 'prod')),
	"1|$stop|archive head", 'where it begins, and that it ends with the archive');
is( sql(q(SELECT earliest_target_time FROM walarchive.recovery_window)),
	sql("SELECT max(xact_time) $commits WHERE start_lsn < '$stop'"),
	'the earliest time is that of the last commit before the backup was consistent');
is( sql(q(SELECT latest_target_time FROM walarchive.recovery_window)),
	sql("SELECT max(xact_time) - interval '1 microsecond' $commits"),
	'the latest time is just before the last commit');
is( sql(q(SELECT first_commit_lsn, first_commit_time FROM walarchive.backup)),
	sql("SELECT end_lsn, xact_time $commits WHERE start_lsn >= '$stop' AND kind = 'commit' ORDER BY start_lsn LIMIT 1"),
	'the first commit after it is known');
is(sql(q(SELECT severity FROM walarchive.health WHERE source = 'prod' AND "check" = 'backup')), 'ok', 'health: there is a backup');
is(sql(q(SELECT last_backup, backups, recoverable_from IS NOT NULL FROM walarchive.status)), 'first|1|t', 'status shows it');

# --- PostgreSQL is of the same opinion ---
my ($earliest, $latest, $too_early, $too_late) = split(/\|/, sql(q(
	SELECT earliest_target_time, latest_target_time, earliest_target_time - interval '1 microsecond', latest_target_time + interval '1 microsecond'
	FROM walarchive.recovery_window)));
is(restored($copy, "recovery_target_time = '$earliest'"), 'reached', 'PostgreSQL reaches the earliest time');
is(restored($copy, "recovery_target_time = '$too_early'"), 'too early', 'and nothing before it');
is(restored($copy, "recovery_target_time = '$latest'"), 'reached', 'PostgreSQL reaches the latest time');
is(restored($copy, "recovery_target_time = '$too_late'"), 'too late', 'and nothing after it');
remove_tree($copy);

# --- pins and notes ---
sql(q(SELECT walarchive.pin_backup('prod', 'first', note => 'before the "big" change')));
sql(q(SELECT walarchive.annotate_backup('prod', 'first', 'all is well')));
ok(wait_for('notes.json',
		sub { -e "$backups/first/notes.json" && sql('SELECT notes_revision = notes_written FROM walarchive.backup') eq 't' }),
	'notes are written to the folder');
like(read_file_bytes("$backups/first/notes.json"), qr/"infinity".*before the \\"big\\" change.*all is well/, 'all of them');
like(refusal(q(SELECT walarchive.delete_backup('prod', 'first'))), qr/it is pinned: before the "big" change/, 'a pinned backup is not deleted');
like(refusal(q(SELECT walarchive.pin_backup('prod', 'first', until => now()))), qr/until must be in the future/, 'a pin ends in the future');
like(refusal(q(SELECT walarchive.pin_backup('prod', 'nope'))), qr/has no backup "nope"/, 'a label that is not there');

# --- the catalog is lost ---
sql('DROP EXTENSION walarchive CASCADE');
ok(-e "$backups/first/backup.json", 'dropping the catalog leaves the files');
sql('CREATE EXTENSION walarchive');
ok(wait_for('the source', sub { sql(q(SELECT count(*) FROM walarchive.source WHERE name = 'prod')) eq '1' }), 'the source is adopted');
wait_backup('first', 'usable', 'a new catalog knows the backup');
is(sql(q(SELECT pinned_until, pin_note, annotation FROM walarchive.backup)), 'infinity|before the "big" change|all is well',
	'and its notes');
ok(wait_for('the window', sub { sql(qq(SELECT latest_target_time = '$latest' AND earliest_target_time = '$earliest'
			FROM walarchive.recovery_window)) eq 't' }), 'and its window');
sql(q(SELECT walarchive.rescan('prod')));
is(sql(q(SELECT pin_note FROM walarchive.backup)), 'before the "big" change', 'rescan keeps what is noted');
wait_backup('first', 'usable', 'and after it the WAL is checked again');

# --- chains ---
($start, $stop, $copy) = copy_primary('second');
remove_tree($copy);
put_backup('second', $start, $stop, kind => 'incremental', parent => 'first');
($start, $stop, $copy) = copy_primary('third');
remove_tree($copy);
put_backup('third', $start, $stop, kind => 'incremental', parent => 'second');
look();
wait_backup('third', 'usable', 'a chain is usable');
sql(q(SELECT walarchive.unpin_backup('prod', 'first')));
like(refusal(q(SELECT walarchive.delete_backup('prod', 'first'))), qr/incremental backups build on it.*second/s,
	'what others build on is not deleted');
rename("$backups/second", "$backups/elsewhere.d") or die $!;
rename("$backups/elsewhere.d", $primary->basedir . '/elsewhere') or die $!;
look();
wait_backup('third', 'broken: its parent second is missing', 'without its parent it is broken');
ok(wait_event($host, 'prod', 'backup_lost'), 'that a folder vanished is an event');
is(sql(q(SELECT severity, message FROM walarchive.health WHERE source = 'prod' AND "check" = 'backup')),
	'warning|1 broken backup(s): third', 'health warns of it');
rename($primary->basedir . '/elsewhere', "$backups/second") or die $!;
look();
wait_backup('third', 'usable', 'put back, all is well');

# --- backup.json is damaged ---
my $good = read_file_bytes("$backups/second/backup.json");
write_file("$backups/second/backup.json", substr($good, 0, 50));
look();
wait_backup('second', 'broken: file .*backup.json. is damaged', 'a damaged backup.json');
wait_backup('third', 'broken: its parent second is broken', 'breaks the chain');
write_file("$backups/second/backup.json", $good);
look();
wait_backup('third', 'usable', 'mended, all is well');

# --- WAL of a backup is damaged ---
my $segment = sql(q(SELECT s.name FROM walarchive.segment s JOIN walarchive.backup b ON b.label = 'second'
	WHERE s.start_lsn <= b.start_lsn AND s.end_lsn > b.start_lsn));
switch_wal($primary);
wait_archived($host, 'prod', $primary);
ok(wait_for('its checksum', sub { sql("SELECT count(*) FROM walarchive.segment WHERE name = '$segment' AND sha256 IS NOT NULL") eq '1' }),
	'the segment is finished');
my $bytes = read_file_bytes("$wal/$segment");
my $bad = $bytes;
substr($bad, 8192 + 100, 1) = chr(ord(substr($bad, 8192 + 100, 1)) ^ 1);
write_file("$wal/$segment", $bad);
sql(q(SELECT * FROM walarchive.verify('prod')));
wait_backup('second', 'broken: its WAL is damaged', 'verify finds damaged WAL, and the backup is broken');
ok(wait_for('its window', sub {
		sql(q(SELECT string_agg(backup || ' ' || ended_by, ', ') FROM walarchive.recovery_window WHERE backup IN ('first', 'second'))) eq 'first damage' }),
	'the window of the one before ends there, and this one has none');
write_file("$wal/$segment", $bytes);
sql(q(SELECT * FROM walarchive.verify('prod')));
wait_backup('second', 'usable', 'put back and verified, it is usable again');

# --- deletion, with a crash in the middle of it ---
stop_indexers($host);
sql(q(SELECT walarchive.delete_backup('prod', 'third')));
is(sql(q(SELECT state FROM walarchive.backup WHERE label = 'third')), 'deleting', 'a deletion is written down first');
ok(-e "$backups/third", 'and the files are there still');
$host->stop('immediate');
# as if it had died while it removed them, and while it took another one
rename("$backups/third", "$backups/third.deleted") or die $!;
make_path("$backups/fourth.tmp");
write_file("$backups/fourth.tmp/base.tar", 'half');
make_path("$backups/fifth.deleted");
write_file("$backups/fifth.deleted/base.tar", 'half');
$host->append_conf('postgresql.auto.conf', 'walarchive.max_indexers = 2');
# one that is being taken has the lock: then nothing is touched
open my $lock, '>>', archive_dir($host, 'prod') . '/backup.lock' or die $!;
flock($lock, LOCK_EX) or die $!;
$host->start;
ok(wait_for('the rest to be removed', sub { !-e "$backups/third.deleted" && !-e "$backups/fifth.deleted" }), 'half removed folders go');
ok(wait_for('the row', sub { state_of('third') eq '' }), 'and the row with them');
ok(-e "$backups/fourth.tmp", 'while a backup is taken its folder stays');
close $lock;
look();
ok(wait_for('the leftover', sub { !-e "$backups/fourth.tmp" && !-e "$backups/fourth.tmp.deleted" && !-e "$backups/fourth.deleted" }),
	'what is left of an attempt goes');
wait_backup('fourth', 'failed: interrupted by a crash', 'and the attempt is listed as failed');
is(sql(q(SELECT severity, message ~ 'the last attempt failed' FROM walarchive.health WHERE source = 'prod' AND "check" = 'backup')),
	'warning|t', 'health says so');
is(scalar(journal_lines($host, 'prod', 'backup_deleted')), 1, 'the journal has the deletion');
sql(q(SELECT walarchive.rescan('prod')));
is(sql(q(SELECT string_agg(label || ' ' || (state = 'failed')::text, ', ' ORDER BY label) FROM walarchive.backup)),
	'first false, fourth true, second false', 'a rescan finds the same');
sql(q(SELECT walarchive.delete_backup('prod', 'fourth')));
ok(wait_for('the failed one', sub { state_of('fourth') eq '' }), 'a failed attempt can be deleted');
sql(q(SELECT walarchive.rescan('prod')));
is(state_of('fourth'), '', 'for good');

# --- a folder that is another cluster's ---
put_backup('stray', $start, $stop);
my $json = read_file_bytes("$backups/stray/backup.json");
$json =~ s/"system_identifier":\d+/"system_identifier":42/;
write_file("$backups/stray/backup.json", $json);
look();
wait_backup('stray', 'broken: backup.json is of the cluster 42', 'a backup of another cluster is no backup');
sql(q(SELECT walarchive.delete_backup('prod', 'stray')));
ok(wait_for('the folder', sub { !-e "$backups/stray" }), 'and can be deleted');

# --- one that was really taken ---
is(sql(q(SELECT walarchive.take_backup('prod', label => 'taken'))), 'taken', 'a backup is taken');
wait_backup('taken', 'usable', 'and usable');
ok(wait_for('its window', sub {
		sql(q(SELECT first_lsn = (SELECT consistent_lsn FROM walarchive.backup WHERE label = 'taken') FROM walarchive.recovery_window WHERE backup = 'taken')) eq 't' }),
	'and has a window');
sql(q(SELECT walarchive.delete_backup('prod', 'taken')));
ok(wait_for('the folder', sub { !-e "$backups/taken" && !-e "$backups/taken.deleted" && state_of('taken') eq '' }), 'deleted, it is gone');

# --- dropped with its files ---
sql(q(SELECT walarchive.pin_backup('prod', 'first')));
like(refusal(q(SELECT walarchive.drop_source('prod', delete_files => true))), qr/pinned/, 'pinned backups keep the files of a source');
sql(q(SELECT walarchive.unpin_backup('prod', 'first')));
sql(q(SELECT walarchive.drop_source('prod', delete_files => true)));
ok(wait_for('the source to go', sub { sql('SELECT count(*) FROM walarchive.source') eq '0' }), 'dropped');
is(sql('SELECT (SELECT count(*) FROM walarchive.backup) + (SELECT count(*) FROM walarchive.backup_window) + (SELECT count(*) FROM walarchive.wal_run)'),
	'0', 'nothing of it is left in the catalog');
done_testing();
