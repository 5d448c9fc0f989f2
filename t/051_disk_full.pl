# The disk under the archive is full: in the middle of a segment, while the
# next one is being prepared, or short of the reserve that the operator set.
# A receiver that leaves a half-made file behind refuses it for ever ("has
# 8388608 bytes, should be 0 or 16777216"); ours says disk_full while it lasts
# and goes on by itself, with every byte, when there is room again.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalFaults;

my $host = new_archive_host('archive', start => 0);
start_with_faults($host);
$host->safe_psql('postgres', 'CREATE EXTENSION walarchive');
my $primary = new_primary('primary', conf => "wal_keep_size = 1GB\n");
add_source($host, 'prod', $primary);
load_segments($primary, 2);
wait_archived($host, 'prod', $primary);
my $wal = wal_dir($host, 'prod');

# Wait for disk_full and check what is shown meanwhile; %opt: error (pattern).
sub expect_disk_full
{
	my ($what, $error) = @_;
	ok(wait_cause($host, 'prod', 'disk_full'), "$what: cause disk_full");
	# between two attempts, that is
	ok(wait_for('the receiver to wait', sub { stat_of($host, 'prod', 'state') eq 'waiting' }),
		"$what: it waits, and is not stopped");
	like(stat_of($host, 'prod', 'last_error'), $error, "$what: the error says so");
	ok( $host->poll_query_until('postgres',
			q(SELECT severity || '|' || (hint LIKE 'Free space in the file system%')
			  FROM walarchive.health WHERE source = 'prod' AND "check" = 'receiver'),
			'critical|true'),
		"$what: health is critical and says what to do");
	return;
}

# Streaming is back, and all is as on the primary.
sub expect_recovery
{
	my ($what) = @_;
	wait_streaming($host, 'prod');
	# so that there is something in the open segment
	$primary->safe_psql('postgres', "INSERT INTO filler VALUES ('x')");
	wait_archived($host, 'prod', $primary);
	is(stat_of($host, 'prod', 'cause IS NULL'), 't', "$what: no cause is left");
	cmp_ok(compare_finished($wal, $primary), '>=', 4,
		"$what: finished segments equal the primary's");
	is(scalar(grep { /\.partial$/ } wal_files($wal, partial => 1)),
		1, "$what: there is one partial segment");
	return;
}

# 1. in the middle of a segment; one write is cut in half before the disk is full
arm_faults($host, 'write:SHORT:.partial:1', "write:ENOSPC:$wal");
load_segments($primary, 2);
expect_disk_full('write', qr/^could not (write to|create) file .*No space left on device/);
my $flushed = stat_of($host, 'prod', 'flushed_lsn');
load_segments($primary, 1);
my $error_time = stat_of($host, 'prod', 'last_error_time');
wait_for('another attempt',
	sub { stat_of($host, 'prod', 'last_error_time') ne $error_time });
is(stat_of($host, 'prod', "cause || '|' || (flushed_lsn >= '$flushed' AND flushed_lsn < '"
			. $primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()') . "')"),
	'disk_full|true', 'write: still disk_full after the next attempt');
disarm_faults($host);
expect_recovery('write');

# 2. while a segment is being prepared, and nothing else can be made either
arm_faults($host, 'write:ENOSPC:walarchive.prepared');
load_segments($primary, 4);
expect_disk_full('prepare',
	qr/^could not (create|write to) file ".*walarchive\.prepared\.\d+": No space left on device/);
disarm_faults($host);
expect_recovery('prepare');

# 3. the quota is as good as the disk
arm_faults($host, 'write:EDQUOT:walarchive.prepared');
load_segments($primary, 4);
expect_disk_full('quota',
	qr/^could not (create|write to) file ".*walarchive\.prepared\.\d+": Disk quota exceeded/);
disarm_faults($host);
expect_recovery('quota');

# 4. nothing below the archive directory can be written, the journal included
arm_faults($host, "write:ENOSPC:$host->{wa_directory}");
load_segments($primary, 2);
expect_disk_full('journal', qr/No space left on device/);
my $lines = failure_count($host, 'prod', 'disk_full');
is($lines, 3, 'journal: the fourth event could not be written');
disarm_faults($host);
expect_recovery('journal');
wait_for('the event that could not be written',
	sub { failure_count($host, 'prod', 'disk_full') == 4 });
is(failure_count($host, 'prod', 'disk_full'),
	4, 'journal: it was written afterwards, once per change');

# 5. a file half made by a process that died: killed while it prepared one
my $pid = receiver_pid($host, 'prod');
arm_faults($host, 'write:SHORT:walarchive.prepared:1', 'write:KILL:walarchive.prepared:1');
load_segments($primary, 4);
ok(wait_for('the receiver to be killed', sub { process_gone($pid) }),
	'half-made: the receiver was killed while it made a file ready');
ok( poll_psql($host,
		"SELECT state = 'streaming' AND pid <> $pid FROM walarchive.stat_receiver WHERE source = 'prod'"),
	'half-made: streaming again');
disarm_faults($host);
expect_recovery('half-made');

# 6. a partial segment that is too short, as pg_receivewal leaves it
$host->safe_psql('postgres', "SELECT walarchive.pause_source('prod')");
wait_state($host, 'prod', 'paused');
my ($partial) = grep { /\.partial$/ } wal_files($wal, partial => 1);
truncate("$wal/$partial", 512 * 1024) or die "could not truncate $partial: $!";
$host->safe_psql('postgres', "SELECT walarchive.resume_source('prod')");
load_segments($primary, 2);
expect_recovery('short partial');
(my $finished = $partial) =~ s/\.partial$//;
is(-s "$wal/$finished", 1024 * 1024, 'short partial: it became a whole segment');

# 7. the operator's reserve
$host->safe_psql('postgres', "ALTER SYSTEM SET walarchive.min_free_space = '1000TB'");
$host->reload;
expect_disk_full('reserve', qr/less than walarchive\.min_free_space \(1048576000 MB\)/);
is( $host->safe_psql('postgres',
		q(SELECT severity FROM walarchive.health WHERE source = 'prod' AND "check" = 'disk_space')),
	'critical', 'reserve: the check of the room is critical');
load_segments($primary, 1);
$host->safe_psql('postgres', 'ALTER SYSTEM RESET walarchive.min_free_space');
$host->reload;
expect_recovery('reserve');

# 8. the same reserve, and room that shrinks below it while WAL flows
$host->safe_psql('postgres', "ALTER SYSTEM SET walarchive.min_free_space = '100MB'");
$host->reload;
arm_faults($host, "free:52428800:$host->{wa_directory}");
expect_disk_full('room', qr/has 50 MB free, less than walarchive\.min_free_space \(100 MB\)/);
load_segments($primary, 1);
disarm_faults($host);
expect_recovery('room');

# 9. a source that is new: not even its folders can be made
$host->safe_psql('postgres', 'ALTER SYSTEM RESET walarchive.min_free_space');
$host->reload;
arm_faults($host, "mkdir:ENOSPC:$host->{wa_directory}/new/");
add_source($host, 'new', $primary, wait => 0);
ok(wait_cause($host, 'new', 'disk_full'), 'new source: cause disk_full');
like(stat_of($host, 'new', 'last_error'), qr/^could not create directory .*No space left on device/,
	'new source: the error says so');
disarm_faults($host);
wait_streaming($host, 'new');
wait_archived($host, 'new', $primary);
is(stat_of($host, 'new', 'cause IS NULL'), 't', 'new source: it begins by itself');

$host->stop;
$primary->stop;
done_testing();
