# A disk that answers a flush with an error.  After a failed fdatasync the
# kernel may forget the bytes while the page cache still shows them, so a
# second fdatasync that succeeds proves nothing: what the failed flush covered
# must not be confirmed, the file is set aside, and the WAL is received again
# into a new one.  The file set aside goes only when its replacement is
# durable.  Directory syncs and renames that fail must not lead to a
# confirmation or a lost segment either.
use strict;
use warnings;

use IPC::Run;
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
$primary->safe_psql('postgres', "INSERT INTO filler VALUES ('x')");
make_synchronous($primary, 'walarchive_prod');
wait_archived($host, 'prod', $primary);
my $wal = wal_dir($host, 'prod');

# A commit in the background that must wait for the archive.
sub commit_in_background
{
	my ($value) = @_;
	my ($out, $err) = ('', '');
	my $handle = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $primary->connstr('postgres'),
			'-c', "INSERT INTO filler VALUES ('$value')" ],
		'>', \$out, '2>', \$err);
	return $handle;
}

sub waiting_commits
{
	return $primary->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
}

# Its WAL may fail to be archived before the commit itself is written.
sub commit_waits
{
	return wait_for('the commit to wait', sub { waiting_commits() == 1 });
}

# What the primary was told to be durable.
sub confirmed
{
	return $primary->safe_psql('postgres',
		"SELECT coalesce(max(flush_lsn), '0/0') FROM pg_stat_replication WHERE application_name = 'walarchive_prod'");
}

sub finish_commit
{
	my ($handle, $what) = @_;
	wait_for("the commit to be confirmed", sub { waiting_commits() == 0 })
	  or BAIL_OUT("$what: the commit is never confirmed");
	$handle->finish;
	is($handle->result(0), 0, "$what: the commit was confirmed afterwards");
	return;
}

sub set_aside
{
	return map { basename_of($_) } glob("$wal/*.unsynced");
}

sub basename_of
{
	my ($path) = @_;
	$path =~ s!.*/!!;
	return $path;
}

# The primary goes on on another timeline, from the middle of a segment.
sub promote_primary
{
	$primary->stop;
	$primary->set_standby_mode;
	$primary->start;
	$primary->promote;
	wait_for('the archive to follow', sub { stat_of($host, 'prod', "received_tli = 2 AND state = 'streaming'") eq 't' })
	  or BAIL_OUT('the archive does not follow');
	return;
}

# Everything is there, durable and equal; nothing is left over.
sub expect_recovery
{
	my ($what) = @_;
	wait_streaming($host, 'prod');
	load_segments($primary, 1);
	$primary->safe_psql('postgres', "INSERT INTO filler VALUES ('x')");
	wait_archived($host, 'prod', $primary);
	cmp_ok(compare_finished($wal, $primary), '>=', 3,
		"$what: finished segments equal the primary's");
	is(join(' ', set_aside()), '', "$what: nothing is set aside any more");
	return;
}

# 1. fdatasync fails again and again
my ($partial) = grep { /\.partial$/ } wal_files($wal, partial => 1);
arm_faults($host, 'fdatasync:EIO:/wal/');
my $before = confirmed();
my $commit = commit_in_background('first');
ok(wait_cause($host, 'prod', 'sync_failed'), 'fdatasync: cause sync_failed');
like(
	stat_of($host, 'prod', 'last_error'),
	qr/^could not sync file ".*": Input\/output error/,
	'fdatasync: the error says so');
is(join(' ', set_aside()), "$partial.unsynced",
	'fdatasync: the file is set aside');
my $held = read_file_bytes("$wal/$partial.unsynced");
my $attempts = stat_of($host, 'prod', 'reconnects');
ok( wait_for('two more attempts',
		sub { stat_of($host, 'prod', "reconnects >= $attempts + 2") eq 't' }),
	'fdatasync: it is tried again');
ok(commit_waits(), 'fdatasync: the commit still waits');
is( $primary->safe_psql('postgres',
		"SELECT restart_lsn <= '$before' FROM pg_replication_slots WHERE slot_name = 'walarchive_prod'"),
	't', 'fdatasync: nothing past the last good flush was confirmed');
is(stat_of($host, 'prod', "flushed_lsn <= '$before'"),
	't', 'fdatasync: nor is it shown as durable');
is(join(' ', set_aside()), "$partial.unsynced", 'fdatasync: one file is set aside');
ok(read_file_bytes("$wal/$partial.unsynced") eq $held,
	'fdatasync: the one set aside first, which holds what was confirmed, is kept');

# 2. the disk is well again: another file takes the place
disarm_faults($host);
finish_commit($commit, 'fdatasync');
wait_streaming($host, 'prod');
is(join(' ', set_aside()), "$partial.unsynced",
	'replacement: while it is open the file set aside stays');
ok(-e "$wal/$partial", 'replacement: the WAL was received again');
# and more by now
$held =~ s/\0+\z//;
is(substr(read_file_bytes("$wal/$partial"), 0, length($held)), $held, 'replacement: with the same bytes');
expect_recovery('replacement');
is( failure_count($host, 'prod', 'sync_failed'),
	1, 'replacement: one event, not one per attempt');

# 3. one failure, while segments go by: in a thread or in line
arm_faults($host, 'fdatasync:EIO:/wal/:1');
load_segments($primary, 2);
ok( wait_for('the failure to be noticed',
		sub { failure_count($host, 'prod', 'sync_failed') == 2 }),
	'once: noticed');
expect_recovery('once');
disarm_faults($host);

# and on a slow disk, where several flushes are under way in threads: what came
# after the one that failed is not confirmed either
my $slow_failures = failure_count($host, 'prod', 'sync_failed');
for my $n (1 .. 5)
{
	arm_faults($host, 'delay_fdatasync_us:5000');
	load_segments($primary, 1);
	arm_faults($host, 'delay_fdatasync_us:5000', 'fdatasync:EIO:/wal/:1');
	my @commits = map { commit_in_background("slow $n $_") } 1 .. 5;
	ok( wait_for('the failure to be noticed',
			sub { failure_count($host, 'prod', 'sync_failed') == $slow_failures + $n }),
		"slow disk $n: noticed");
	$_->finish foreach @commits;
	is(scalar(grep { $_->result(0) == 0 } @commits), 5, "slow disk $n: all commits are confirmed afterwards");
	wait_streaming($host, 'prod');
}
disarm_faults($host);
expect_recovery('slow disk');

# 4. the directory cannot be synced: the new names are not durable
arm_faults($host, 'fsync:EIO:/wal$');
$commit = commit_in_background("switch');SELECT pg_switch_wal();INSERT INTO filler VALUES ('after");
ok(wait_cause($host, 'prod', 'sync_failed'), 'directory: cause sync_failed');
$attempts = stat_of($host, 'prod', 'last_error_time');
ok( wait_for('another attempt',
		sub { stat_of($host, 'prod', 'last_error_time') ne $attempts }),
	'directory: it is tried again');
ok(commit_waits(), 'directory: the commit behind the switch waits');
disarm_faults($host);
finish_commit($commit, 'directory');
expect_recovery('directory');

# 5. a name cannot be changed, neither the prepared file's nor the finished one's
foreach my $rule ('rename:EIO:walarchive.prepared', 'rename:EACCES:.partial', 'rename:ENOSPC:.partial')
{
	my ($error) = $rule =~ /:(\w+):/;
	arm_faults($host, $rule);
	$commit = commit_in_background("switch');SELECT pg_switch_wal();INSERT INTO filler VALUES ('after");
	ok( wait_cause($host, 'prod', $error eq 'ENOSPC' ? 'disk_full' : 'io_error'),
		"$rule: cause shown");
	like(stat_of($host, 'prod', 'last_error'), qr/^could not rename file/,
		"$rule: the error says so");
	ok(commit_waits(), "$rule: the commit behind the switch waits");
	disarm_faults($host);
	finish_commit($commit, $rule);
	expect_recovery($rule);
}

# 6. while the receiver is being told to leave: whoever comes next finds the
# file set aside, and the reason in the journal
$primary->safe_psql('postgres', "INSERT INTO filler VALUES ('x')");
# flushes are slow, so threads make them
arm_faults($host, 'delay_fdatasync_us:5000');
load_segments($primary, 1);
$primary->safe_psql('postgres', "INSERT INTO filler VALUES ('x')");
my $suspects = event_count($host, 'prod', qr/"kind": "suspect_file"/);
my $leaving = receiver_pid($host, 'prod');
arm_faults($host, 'delay_fdatasync_us:1000000', 'fdatasync:EIO:/wal/');
$commit = commit_in_background('leaving');
ok(commit_waits(), 'leaving: a flush is under way');
$host->safe_psql('postgres', "SELECT walarchive.pause_source('prod')");
ok(wait_for('the receiver to leave', sub { process_gone($leaving) }), 'leaving: the receiver leaves');
wait_state($host, 'prod', 'paused');
cmp_ok(scalar(set_aside()), '==', 1, 'leaving: the file is set aside');
cmp_ok(event_count($host, 'prod', qr/"kind": "suspect_file"/), '>', $suspects, 'leaving: the journal says so');
disarm_faults($host);
$host->safe_psql('postgres', "SELECT walarchive.resume_source('prod')");
finish_commit($commit, 'leaving');
expect_recovery('leaving');

# 7. all finished segments are in the catalog, failures or not
my $files = grep { !/history$/ } wal_files($wal);
ok( $host->poll_query_until('postgres',
		"SELECT count(*) FROM walarchive.segment WHERE source = 'prod' AND state = 'finished'", "$files"),
	'each finished segment is in the catalog');

# Another receiver looks at what is there.
sub begin_again
{
	$host->safe_psql('postgres', "SELECT walarchive.pause_source('prod')");
	wait_state($host, 'prod', 'paused');
	$host->safe_psql('postgres', "SELECT walarchive.resume_source('prod')");
	wait_streaming($host, 'prod');
	return;
}

# 8. the timeline ends in the segment whose file was set aside: it will never be
# finished, so the file goes as soon as the one that stays partial has all of it
arm_faults($host, 'fdatasync:EIO:/wal/:1');
$primary->safe_psql('postgres', "INSERT INTO filler VALUES ('x')");
ok(wait_for('a file to be set aside', sub { scalar(set_aside()) == 1 }), 'timeline: a file is set aside');
disarm_faults($host);
wait_streaming($host, 'prod');
$primary->safe_psql('postgres', "INSERT INTO filler VALUES ('x')");
my ($aside) = set_aside();
(my $last = $aside) =~ s/\.unsynced$//;
# another one, with something that no other file has
my $tail = read_file_bytes("$wal/$aside");
substr($tail, -9) = 'the tail!';
promote_primary();
ok(wait_for('the file to go', sub { !-e "$wal/$aside" }), 'timeline: it goes');
ok(-e "$wal/$last", 'timeline: what was received again stays');
is(join(' ', set_aside()), '', 'timeline: nothing is set aside any more');
append_to_file("$wal/$aside", $tail);
my $kept = read_file_bytes("$wal/$last");
begin_again();
ok(-e "$wal/$aside" && read_file_bytes("$wal/$aside") eq $tail, 'timeline: a file with more than that is kept');

# 9. the file that stays partial can't be synced; the next sync of it would succeed and
# prove nothing, so that it is written again first
unlink("$wal/$aside") or die "could not remove $aside: $!";
append_to_file("$wal/$aside", read_file_bytes("$wal/$last"));
arm_faults($host, "fsync:EIO:$last\$");
begin_again();
ok(-e "$wal/$aside", 'timeline: what was set aside stays while the other file cannot be synced');
arm_faults($host, "write:EIO:$last\$");
begin_again();
ok(-e "$wal/$aside", 'timeline: and while that cannot be written again');
disarm_faults($host);
begin_again();
ok(wait_for('the file to go', sub { !-e "$wal/$aside" }), 'timeline: it goes when that was written and synced');
ok(read_file_bytes("$wal/$last") eq $kept, 'timeline: the other file has the same bytes');

$host->stop;
$primary->stop;
done_testing();
