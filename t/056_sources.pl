# Everyday steering: sources come, change, pause, go and come back, directories
# of pg_receivewal are adopted, and a catalog is rebuilt from the files, all
# without a restart.  Nothing may be left behind that holds WAL back on a
# primary without a word, no file may be lost that was to be kept, and what a
# transaction takes back must not have happened.
use strict;
use warnings;

use File::Copy;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalFaults;

my $host = new_archive_host('archive');
my $primary = new_primary('primary', conf => "wal_keep_size = 1GB\n");
my $other = new_primary('other', conf => "wal_keep_size = 1GB\n");
my $postmaster = postmaster_pid($host);
load_segments($primary, 1);

sub source_row
{
	my ($name, $columns) = @_;
	return $host->safe_psql('postgres', "SELECT $columns FROM walarchive.source WHERE name = '$name'");
}

sub slots
{
	my ($node) = @_;
	return $node->safe_psql('postgres', "SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_replication_slots");
}

sub wait_gone
{
	my ($name) = @_;
	return wait_for("source $name to be gone", sub { source_row($name, 'count(*)') eq '0' });
}

# What the catalog has of a source, to compare before and after.
sub catalog
{
	my ($name) = @_;
	return $host->safe_psql('postgres',
		"SELECT timeline, name, start_lsn, end_lsn, state, size FROM walarchive.segment WHERE source = '$name' ORDER BY 1, 3;
		 SELECT timeline, parent_timeline, fork_lsn, first_lsn, last_lsn, segments, bytes FROM walarchive.timeline WHERE source = '$name' ORDER BY 1;
		 SELECT kind, severity, message, timeline, from_lsn, to_lsn, cause FROM walarchive.event WHERE source = '$name' AND journal_offset IS NOT NULL ORDER BY journal_offset;
		 SELECT timeline, from_lsn, to_lsn, cause FROM walarchive.gap WHERE source = '$name' AND closed_at IS NULL ORDER BY 1, 2");
}

# The catalog has all finished segments of a source.
sub wait_indexed
{
	my ($name) = @_;
	my $files = wal_files(wal_dir($host, $name));
	return $host->poll_query_until('postgres',
		"SELECT (SELECT count(*) = $files FROM walarchive.segment WHERE source = '$name' AND state = 'finished')
		 AND (SELECT unindexed_segments + unindexed_journal = 0 AND NOT index_wanted FROM walarchive.receiver_state() WHERE source = '$name')");
}

# 1. a transaction that is rolled back leaves nothing
my ($rc, $out, $err) = $host->psql('postgres',
	"BEGIN; SELECT walarchive.add_source('ghost', '" . conninfo($primary) . "'); ROLLBACK;");
is($rc, 0, 'rolled back: no error');
add_source($host, 'prod', $primary);    # whoever was to come first has come by now
is(source_row('ghost', 'count(*)'), '0', 'rolled back: no source');
ok(!-e archive_dir($host, 'ghost'), 'rolled back: no folder');
is(slots($primary), 'walarchive_prod', 'rolled back: no slot');

# 2. add, in a transaction with another
$host->safe_psql('postgres',
	"BEGIN; SELECT walarchive.add_source('a', '" . conninfo($primary) . "', slot_name => 'my_slot');
	 SELECT walarchive.add_source('b-2', '" . conninfo($other) . "'); COMMIT");
wait_streaming($host, $_) foreach (qw(a b-2));
is(slots($primary), 'my_slot walarchive_prod', 'added: slots on the first primary');
is(slots($other), 'walarchive_b_2', 'added: slot on the second');
is($host->safe_psql('postgres', 'SELECT count(DISTINCT pid) FROM walarchive.stat_receiver'),
	'3', 'added: a receiver each');

# 3. alter
my $pid = receiver_pid($host, 'prod');
$host->safe_psql('postgres', "SELECT walarchive.alter_source('prod', slot_name => 'second_slot')");
ok( wait_for('the new slot in use',
		sub { $primary->safe_psql('postgres', "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'second_slot' AND active") eq '1' }),
	'altered: it streams over another slot');
wait_streaming($host, 'prod');
isnt(receiver_pid($host, 'prod'), $pid, 'altered: by a new receiver');
is(slots($primary), 'my_slot second_slot walarchive_prod', 'altered: the old slot stays, as documented');
# (the walsender of before may still be ending)
ok( wait_for('it to be let go',
		sub { $primary->safe_psql('postgres', "SELECT active FROM pg_replication_slots WHERE slot_name = 'walarchive_prod'") eq 'f' }),
	'altered: and nobody uses it');
$primary->safe_psql('postgres', "SELECT pg_drop_replication_slot('walarchive_prod')");
$host->safe_psql('postgres',
	"SELECT walarchive.alter_source('prod', conninfo => '" . conninfo($primary) . " application_name=renamed')");
ok( wait_for('the new name',
		sub { $primary->safe_psql('postgres', "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'renamed'") eq '1' }),
	'altered: it connects with another conninfo');
wait_streaming($host, 'prod');
($rc, $out, $err) = $host->psql('postgres',
	"SELECT walarchive.alter_source('prod', conninfo => '" . conninfo($other) . "')");
like($err, qr/ERROR: .*system identifier/, 'altered: another cluster is refused');
is(stat_of($host, 'prod', 'state'), 'streaming', 'altered: and streaming was not disturbed');

# 4. pause, resume, under load
my $writers = start_writers($primary, 2);
for my $n (1 .. 5)
{
	$host->safe_psql('postgres', "SELECT walarchive.pause_source('prod')");
	wait_state($host, 'prod', 'paused');
	is(stat_of($host, 'prod', 'pid IS NULL'), 't', "paused $n: no receiver") if $n == 1;
	load_segments($primary, 1);
	$host->safe_psql('postgres', "SELECT walarchive.resume_source('prod')");
	load_segments($primary, 1);
	wait_streaming($host, 'prod');
}
stop_writers($writers);
wait_archived($host, 'prod', $primary);
cmp_ok(compare_finished(wal_dir($host, 'prod'), $primary), '>=', 10,
	"resumed: finished segments equal the primary's");
ok(wait_indexed('prod'), 'resumed: each of them is in the catalog, though receivers were stopped in the middle');
is($host->safe_psql('postgres', "SELECT count(*) FROM walarchive.gap WHERE source = 'prod'"), '0', 'resumed: no gap');
$host->safe_psql('postgres', "SELECT walarchive.pause_source('prod')");
wait_state($host, 'prod', 'paused');
$host->restart;
$postmaster = postmaster_pid($host);
ok(wait_for('the source after a restart', sub { stat_of($host, 'prod', 'state') eq 'paused' && stat_of($host, 'a', 'state') eq 'streaming' }),
	'paused: stays so over a restart');
is($host->safe_psql('postgres', q(SELECT severity || '|' || hint FROM walarchive.health WHERE source = 'prod' AND "check" = 'receiver')),
	'warning|walarchive.resume_source(name) goes on.', 'paused: health warns');
$host->safe_psql('postgres', "SELECT walarchive.resume_source('prod')");
wait_streaming($host, 'prod');

# 5. drop: slot and files in all four ways
foreach my $drop_slot (qw(true false))
{
	foreach my $delete_files (qw(true false))
	{
		my $what = "drop_slot $drop_slot, delete_files $delete_files";
		add_source($host, 'gone', $other);
		load_segments($other, 1);
		wait_archived($host, 'gone', $other);
		my $gone_pid = receiver_pid($host, 'gone');
		my $files = checksum_of(wal_dir($host, 'gone'));
		$host->safe_psql('postgres',
			"SELECT walarchive.drop_source('gone', drop_slot => $drop_slot, delete_files => $delete_files)");
		ok(wait_gone('gone'), "$what: the source goes");
		ok(wait_for('its receiver', sub { process_gone($gone_pid) }), "$what: its receiver has gone");
		is(slots($other), $drop_slot eq 'true' ? 'walarchive_b_2' : 'walarchive_b_2 walarchive_gone', "$what: slots");
		is(join(' ', glob("$host->{wa_directory}/.deleted*")), '', "$what: nothing is left half deleted");
		if ($delete_files eq 'true')
		{
			ok(!-e archive_dir($host, 'gone'), "$what: the files are gone");
		}
		else
		{
			is(checksum_of(wal_dir($host, 'gone')), $files, "$what: the files are kept as they were");
			($rc, $out, $err) = $host->psql('postgres',
				"SELECT walarchive.add_source('gone', '" . conninfo($other) . "')");
			like($err, qr/already holds an archive.*\n(.*\n)*HINT:  .*attach_source/,
				"$what: the name is not taken by another archive");
			# re-adding it
			$host->safe_psql('postgres', "SELECT walarchive.attach_source('gone')");
			wait_streaming($host, 'gone');
			load_segments($other, 1);
			wait_archived($host, 'gone', $other);
			cmp_ok(compare_finished(wal_dir($host, 'gone'), $other), '>=', 2,
				"$what: attached again, finished segments equal the primary's");
			ok(wait_indexed('gone'), "$what: and the catalog has them");
			$host->safe_psql('postgres', "SELECT walarchive.drop_source('gone', delete_files => true)");
			ok(wait_gone('gone'), "$what: dropped for good");
		}
		$other->safe_psql('postgres', "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'walarchive_gone'");
	}
}

sub checksum_of
{
	my ($dir) = @_;
	return join(' ', map { "$_:" . Digest::SHA->new(256)->addfile("$dir/$_", 'b')->hexdigest } wal_files($dir));
}

# 6. drop while the primary is unreachable
add_source($host, 'lost', $other);
load_segments($other, 1);
wait_archived($host, 'lost', $other);
$other->stop('immediate');
ok(wait_cause($host, 'lost', 'connection_failed'), 'unreachable: seen');
$host->safe_psql('postgres', "SELECT walarchive.drop_source('lost')");
ok(wait_gone('lost'), 'unreachable: the source goes nevertheless');
is(event_count($host, 'lost', qr/"severity": "warning".*replication slot \\"walarchive_lost\\" could not be dropped/),
	1, 'unreachable: a warning tells of the slot that is left');
ok( $host->poll_query_until('postgres',
		"SELECT count(*) FROM walarchive.event WHERE source = 'lost' AND severity = 'warning' AND message LIKE '%could not be dropped%'", '1'),
	'unreachable: in the catalog too, though the source is gone');
$other->start;
is(slots($other), 'walarchive_b_2 walarchive_lost', 'unreachable: it is left indeed');
wait_streaming($host, 'b-2');

# 7. a directory of pg_receivewal
my ($receivewal, $rw_dir) = start_receivewal($primary, slot => 'receivewal');
load_segments($primary, 3);
wait_for('pg_receivewal to have three segments', sub { wal_files($rw_dir) >= 3 }) or BAIL_OUT('pg_receivewal does not work');
stop_process($receivewal);
my @theirs = wal_files($rw_dir);
mkdir(archive_dir($host, 'adopted'), 0700) or die $!;
foreach my $name (wal_files($rw_dir, partial => 1))
{
	copy("$rw_dir/$name", archive_dir($host, 'adopted') . "/$name") or die "could not copy $name: $!";
}
load_segments($primary, 2);
$host->safe_psql('postgres',
	"SELECT walarchive.attach_source('adopted', '" . conninfo($primary) . "', slot_name => 'receivewal')");
wait_streaming($host, 'adopted');
load_segments($primary, 1);
wait_archived($host, 'adopted', $primary);
my $adopted = wal_dir($host, 'adopted');
is(scalar(grep { same_file("$rw_dir/$_", "$adopted/$_") } @theirs),
	scalar(@theirs), 'pg_receivewal: its segments are kept as they were');
my @finished = wal_files($adopted);
is(compare_finished($adopted, $primary, @finished), scalar(@finished),
	"pg_receivewal: all segments equal the primary's");
cmp_ok(scalar(wal_files($adopted)), '>=', @theirs + 3, 'pg_receivewal: streaming went on');
ok(wait_indexed('adopted'), 'pg_receivewal: the catalog has them all');
is($host->safe_psql('postgres', "SELECT count(*) FROM walarchive.gap WHERE source = 'adopted'"), '0', 'pg_receivewal: no gap');

# 8. the catalog is an index of the files
# the open segment among them: a snapshot of transactions must not be its first record, just now
$primary->safe_psql('postgres', "INSERT INTO filler VALUES ('x')");
wait_archived($host, 'prod', $primary);
ok( wait_for('the open segment',
		sub { $host->safe_psql('postgres', "SELECT count(*) FROM walarchive.segment WHERE source = 'prod' AND state = 'partial'") eq '1' }),
	'rescan: the open segment is known');
ok(wait_indexed('prod'), 'rescan: the catalog is up to date before');
my $before = catalog('prod');
my $rows = $host->safe_psql('postgres', "SELECT count(*) FROM walarchive.segment WHERE source = 'prod'");
$host->safe_psql('postgres',
	"DELETE FROM walarchive.segment; DELETE FROM walarchive.timeline; DELETE FROM walarchive.gap; DELETE FROM walarchive.event; DELETE FROM walarchive.index_progress");
is($host->safe_psql('postgres', "SELECT segments FROM walarchive.rescan('prod')"), $rows, 'rescan: finds each segment');
is(catalog('prod'), $before, 'rescan: segments, timelines, events and gaps are as before');
is($host->safe_psql('postgres', "SELECT segments FROM walarchive.rescan('prod')"), $rows, 'rescan: once more');
is(catalog('prod'), $before, 'rescan: changes nothing');

# 9. a segment in the middle is deleted behind our back
my $wal = wal_dir($host, 'prod');
my @names = wal_files($wal);
my $victim = $names[ @names / 2 ];
my $range = $host->safe_psql('postgres', "SELECT timeline, start_lsn, end_lsn, 'missing_file' FROM walarchive.segment WHERE source = 'prod' AND name = '$victim'");
rename("$wal/$victim", "$host->{wa_directory}/../$victim.away") or die "could not move $victim: $!";
is($host->safe_psql('postgres', "SELECT gaps FROM walarchive.rescan('prod')"), '1', 'deleted segment: rescan finds one gap');
is($host->safe_psql('postgres',
		"SELECT timeline, from_lsn, to_lsn, cause FROM walarchive.gap WHERE source = 'prod' AND closed_at IS NULL"),
	$range, 'deleted segment: the gap is where it was');
is($host->safe_psql('postgres', q(SELECT severity FROM walarchive.health WHERE source = 'prod' AND "check" = 'gap')),
	'critical', 'deleted segment: health is critical');
is($host->safe_psql('postgres', "SELECT health || '|' || open_gaps FROM walarchive.status WHERE source = 'prod'"),
	'critical|1', 'deleted segment: the status shows it');
rename("$host->{wa_directory}/../$victim.away", "$wal/$victim") or die "could not move $victim back: $!";
is($host->safe_psql('postgres', "SELECT gaps FROM walarchive.rescan('prod')"), '0', 'segment put back: no gap any more');
ok( wait_for('the segments to be decoded again',
		sub { $host->safe_psql('postgres', q(SELECT open_gaps, (SELECT string_agg(h."check", ', ') FROM walarchive.health h WHERE h.source = s.source AND h.severity <> 'ok')
				FROM walarchive.status s WHERE s.source = 'prod')) eq '0|backup' }),
	'segment put back: all is well, but for a backup that nobody took');

# 10. the whole folder goes: a new archive is begun, and not in silence
$pid = receiver_pid($host, 'prod');
my $old_first = $names[0];
rename(archive_dir($host, 'prod'), "$host->{wa_directory}/../prod.away") or die "could not move the folder: $!";
# the receiver notices at the end of its segment, the launcher when it looks
load_segments($primary, 2);
ok( wait_for('an archive that was begun anew',
		sub {
			my @dirs = glob(archive_dir($host, 'prod') . '/[0-9]*/wal');
			return @dirs == 1 && wal_files($dirs[0]) >= 1 && receiver_pid($host, 'prod') ne $pid
			  && stat_of($host, 'prod', 'state') eq 'streaming';
		}),
	'folder gone: an archive is begun anew');
ok( $host->poll_query_until('postgres',
		"SELECT count(*) FROM walarchive.event WHERE source = 'prod' AND kind = 'archive_lost' AND severity = 'critical'", '1'),
	'folder gone: a critical event tells of it');
ok( $host->poll_query_until('postgres',
		"SELECT count(*) FROM walarchive.segment WHERE source = 'prod' AND name = '$old_first'", '0'),
	'folder gone: the catalog does not claim to have what is gone');

is(postmaster_pid($host), $postmaster, 'all of this without a restart but the one');
$host->stop;
$primary->stop;
$other->stop;
done_testing();
