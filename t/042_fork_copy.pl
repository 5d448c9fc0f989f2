# A failover, and the archive's last file of the old timeline goes bad.  The new
# timeline's first file begins with the same WAL, and a recovery along it reads that
# and never asks for the old one.  So a backup that a standby gave in that very
# segment can be restored, the settings that were changed there hold for the copy,
# and whoever wants to go to a place before the failover is told what that means.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalRestore qw(archive_args copy_sql new_place restore_copy stop_copy take_backup wait_decoded);

my $segment_size = 1024 * 1024;
my $host = new_archive_host('archive');
my $primary = new_primary('primary', conf => "autovacuum = off\nwal_keep_size = 64MB\ncheckpoint_timeout = 1h\nmax_connections = 30\n");
my @archive = archive_args($host);
my @directory = ('--archive', $host->{wa_directory}, '--source=prod');
my $rows = q(SELECT string_agg(i::text, ' ' ORDER BY i) FROM t);

sub on_primary { return $primary->safe_psql('postgres', $_[0]); }
sub on_host { return $host->safe_psql('postgres', $_[0]); }
sub insert { return on_primary("BEGIN; INSERT INTO t VALUES ($_[0]); SELECT pg_current_xact_id(); COMMIT"); }

sub answers
{
	my ($query, $answer, $name) = @_;
	my $got = '';
	ok(wait_for("'$answer'", sub { ($got = on_host($query)) eq $answer }), $name) or diag($got);
	return;
}

on_primary('CREATE TABLE t (i int)');
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "max_connections = 60\n");
$standby->start;
add_source($host, 'prod', $primary);
take_backup($host, 'first');

sub connections
{
	my ($number) = @_;
	$primary->stop;
	$primary->append_conf('postgresql.conf', "max_connections = $number\n");
	$primary->start;
	wait_streaming($host, 'prod');
	return;
}
connections(40);
switch_wal($primary, 1);

# --- all of this lies in one segment: the backup is taken after a record that is hit later ---
my $hit = on_primary('SELECT pg_current_wal_insert_lsn()');
insert(1);
on_primary('CHECKPOINT');
my $replayed = on_primary('SELECT pg_current_wal_flush_lsn()');
ok(wait_for('the standby', sub { $standby->safe_psql('postgres', "SELECT pg_last_wal_replay_lsn() >= '$replayed'") eq 't' }), 'a standby follows');
$standby->safe_psql('postgres', 'CHECKPOINT');
insert(2);
take_backup($host, 'inside', "conninfo => '" . conninfo($standby) . "'");
my $late = insert(3);
connections(50);
insert(4);
wait_archived($host, 'prod', $primary);
$standby->stop;
$primary->stop('immediate');
ok(start_on_new_timeline($primary), 'the server goes on on timeline 2');
wait_timeline($host, 'prod', 2);
my $new = insert(5);
on_primary('SELECT pg_switch_wal()');
wait_decoded($host, $primary);
my $fork = '';
ok(wait_for('the fork', sub { ($fork = on_host('SELECT fork_lsn FROM walarchive.timeline WHERE timeline = 2')) ne '' }), 'the catalog knows the fork');
is(on_host(qq(SELECT div('$hit'::pg_lsn - '0/0', $segment_size) = div('$fork'::pg_lsn - '0/0', $segment_size)
	AND start_lsn > '$hit' AND stop_lsn < '$fork' FROM walarchive.backup WHERE label = 'inside')), 't', 'the backup lies in the segment of the fork');

# --- the old timeline's file of it goes bad ---
my $wal = wal_dir($host, 'prod');
my $name = on_host("SELECT walarchive.segment_file(1, div('$hit'::pg_lsn - '0/0', $segment_size), $segment_size)");
my ($file) = grep { -e } "$wal/$name", "$wal/$name.partial";
ok(defined $file, 'it is there') or BAIL_OUT("there is no $name");
my $offset = on_host("SELECT mod('$hit'::pg_lsn - '0/0', $segment_size)");
my $bytes = read_file_bytes($file);
substr($bytes, $offset + 40, 1) ^= "\x01";
chmod(0600, $file);
open(my $fh, '+<:raw', $file) or BAIL_OUT("cannot open $file: $!");
print $fh $bytes;
close($fh) or BAIL_OUT("cannot write $file: $!");
on_host('DROP EXTENSION walarchive; CREATE EXTENSION walarchive');
answers("SELECT decode_state FROM walarchive.segment WHERE timeline = 2 ORDER BY start_lsn LIMIT 1", 'decoded', 'all is read anew');
answers(qq(SELECT max(to_lsn) <= '$hit'::pg_lsn + 4096 FROM walarchive.wal_run WHERE timeline = 1), 't', 'the old timeline can be read up to there');

# --- the backup ---
answers(q(SELECT state, reason FROM walarchive.backup WHERE label = 'inside'), 'usable|', 'a backup in it is usable');
answers(q(SELECT timeline, last_lsn > first_lsn FROM walarchive.recovery_window WHERE backup = 'inside'), '2|t', '... along the timeline that has a copy of its WAL');
answers(qq(SELECT feasible, backup, timeline FROM walarchive.plan_restore('prod', target_xid => '$new')), 't|inside|2', 'it is what is planned from');
is(on_host(q(SELECT feasible FROM walarchive.plan_restore('prod', target_timeline => 1, backup => 'inside'))), 'f', '... not along the old timeline');
for my $from ([ 'the archive host', @archive ], [ 'its directory', @directory ])
{
	my ($where, @from) = @$from;
	my ($code, $result, $err) = restore_copy(new_place(), @from, '--start', '--target-action=pause', "--to-xid=$new");
	is($code, 0, "from $where: it is restored") or diag($err);
	is($result->{backup}, 'inside', "from $where: from the same backup");
	ok($result->{agrees}, "from $where: as planned");
	is(copy_sql($result, $rows), '1 2 3 4 5', "from $where: with all that was committed by then");
	stop_copy($result->{data_directory}) if $result->{data_directory};
}

# --- the settings: those of the last change, whichever file that is in ---
my $settings = on_host(qq(SELECT settings FROM walarchive.plan_restore('prod', target_xid => '$new')));
like($settings, qr/^max_connections = 50$/m, 'what was set in that segment is planned with');
like(on_host(qq(SELECT settings FROM walarchive.plan_restore('prod', target_xid => '$late'))), qr/^max_connections = 40$/m, '... not before its place');
{
	my $data = new_place();
	my ($code, $result, $err) = restore_copy($data, @archive, "--to-xid=$new");
	is($code, 0, 'a copy that is started by hand: it is restored') or diag($err);
	# with the plan's settings, and no more
	append_to_file("$data/postgresql.auto.conf", "recovery_target_action = pause\n$settings");
	system("pg_ctl -D '$data' -l '$data/log' -w start >'$data.ctl' 2>&1") == 0
	  or diag(slurp_file("$data/log"));
	$result->{data_directory} = $data;
	ok(wait_for('the pause', sub { slurp_file("$data/log") =~ /pausing at the end of recovery|FATAL|insufficient/ }), '... it comes to an end');
	unlike(slurp_file("$data/log"), qr/insufficient parameter settings/, '... which is not for its settings');
	is(copy_sql($result, $rows), '1 2 3 4 5', '... and it has all that was committed by then');
	stop_copy($data);
}

# --- back to before the failover ---
my $detour = qr/timeline 1's own WAL can't be read up to there, so recovery goes along timeline 2/i;
for my $from ([ 'the archive host', @archive ], [ 'its directory', @directory ])
{
	my ($where, @from) = @$from;
	my ($code, $result, $err) = restore_copy(new_place(), @from, '--start', '--target-action=promote', "--to-xid=$late");
	is($code, 0, "before the fork, from $where: it is restored") or diag($err);
	ok($result->{agrees}, "before the fork, from $where: as planned");
	like($result->{hint}, $detour, "before the fork, from $where: along the new timeline, and what that means is told");
	is(copy_sql($result, $rows), '1 2 3', "before the fork, from $where: with what was committed by then");
	my ($first, $second) = slurp_file("$result->{data_directory}/pg_wal/00000003.history") =~ /^1\t(\S+).*^2\t(\S+)/ms;
	is($first, $fork, "before the fork, from $where: PostgreSQL writes that it has left the new timeline") or next;
	is(on_host("SELECT '$second'::pg_lsn < '$first'::pg_lsn"), 't', "before the fork, from $where: ... before that began");
	stop_copy($result->{data_directory});
}
like(on_host(qq(SELECT walarchive.plan_report('prod', target_xid => '$late'))), qr/^  note +$detour/m, 'a report tells it');
unlike(on_host(qq(SELECT hint FROM walarchive.plan_restore('prod', target_xid => '$new'))), $detour, 'nothing of it where the new timeline is come to');

done_testing();
