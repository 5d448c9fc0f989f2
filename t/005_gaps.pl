# The archive host is off for a week.  Somebody drops "that unused slot", or
# max_slot_wal_keep_size sacrifices it, and the primary recycles WAL that the
# archive needs next.  pg_receivewal would try again every five seconds for
# ever.  The archive must say what is missing, go on with what is there, and
# leave no doubt that a new base backup is due; or stop, if told so.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;

my $host = new_archive_host('archive');
my $primary = new_primary('primary', conf => q(
autovacuum = off
checkpoint_timeout = 1h
min_wal_size = 2MB
max_wal_size = 8MB
));
$primary->safe_psql('postgres', 'CREATE ROLE plain LOGIN REPLICATION');
# the last record before a pause is to be a commit: see padded()
hold_snapshots($primary);

# Let the primary write segments and forget the old ones.
sub lose_wal
{
	switch_wal($primary, 12);
	$primary->safe_psql('postgres', 'CHECKPOINT');
	switch_wal($primary, 2);
	$primary->safe_psql('postgres', 'CHECKPOINT');
	return;
}

sub pause
{
	my ($source) = @_;
	$primary->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'test', 'before the pause')");
	my $lsn = wait_archived($host, $source, $primary);
	$host->safe_psql('postgres', "SELECT walarchive.pause_source('$source')");
	wait_state($host, $source, 'paused');
	wait_for('the slot to be let go', sub {
		$primary->safe_psql('postgres',
			"SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'walarchive_$source'") eq 't' })
	  or BAIL_OUT('the slot stays active');
	is(stat_of($host, $source, "written_lsn >= '$lsn'"), 't', "$source is paused");
	return stat_of($host, $source, 'written_lsn');
}

# Change a setting; returns once all of the server's processes were told.
sub set_config
{
	my ($name, $value) = @_;
	$primary->append_conf('postgresql.conf', "$name = $value");
	$primary->reload;
	wait_setting($primary, $name, $value);
	return;
}

sub resume
{
	my ($source) = @_;
	$host->safe_psql('postgres', "SELECT walarchive.resume_source('$source')");
	return;
}

# The end of an archive that was found by reading its files is that of the last
# byte that is not zero: the padding after the last record does not show (of a
# commit; a snapshot ends in more zeroes).
sub padded
{
	my ($lsn) = @_;
	my ($high, $low) = split('/', $lsn);
	return sprintf('%s/%X', $high, (hex($low) + 7) & ~7);
}

# A gap from 'from' was recorded in each place, and WAL goes on after it.
sub check_gap
{
	my ($source, $from, $what) = @_;
	my $dir = wal_dir($host, $source);

	wait_streaming($host, $source);
	my @gaps = journal_lines($host, $source, 'gap');
	is(scalar(@gaps), 1, "$what: one gap in the journal");
	my ($begin, $to) = @{ $gaps[0] }{qw(from_lsn to_lsn)};
	is_deeply([ @{ $gaps[0] }{qw(severity timeline cause)}, padded($begin) ],
		[ 'critical', 1, 'wal_removed', $from ], "$what: from the archive's end");
	is($primary->safe_psql('postgres', "SELECT '$to'::pg_lsn > '$from'::pg_lsn"), 't', "$what: up to $to");
	ok(wait_event($host, $source, 'gap'), "$what: an event");
	is($host->safe_psql('postgres', qq(
			SELECT timeline, from_lsn, to_lsn, cause, closed_at IS NULL
			FROM walarchive.gap WHERE source = '$source' AND cause = 'wal_removed')),
		"1|$begin|$to|wal_removed|t", "$what: an open gap in the catalog");
	ok(wait_health($host, $source, 'gap', 'critical'), "$what: health is critical");
	like($host->safe_psql('postgres',
			qq(SELECT hint FROM walarchive.health WHERE source = '$source' AND "check" = 'gap')),
		qr/new base backup/, "$what: with the remedy");

	# it goes on with the first segment after the gap
	$primary->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'test', 'after')");
	switch_wal($primary, 1);
	wait_archived($host, $source, $primary);
	my $first = $primary->safe_psql('postgres', "SELECT pg_walfile_name('$to'::pg_lsn + 1)");
	ok(-e "$dir/$first", "$what: the segment $first after the gap is there");
	my ($number, $differ) = same_wal($dir, $primary->data_dir . '/pg_wal');
	is($differ, '', "$what: all is as on the primary");
	my @later = grep { $_ ge $first && /^[0-9A-F]{24}$/ } wal_files($dir);
	is($later[-1], sprintf('00000001%016X', hex(substr($first, 8)) + $#later), "$what: and nothing is missing after it");
	ok(-e "$dir/" . $primary->safe_psql('postgres', "SELECT pg_walfile_name('$from'::pg_lsn)") . '.partial',
		"$what: the partial before the gap is kept");
	# (as soon as the server has read the confirmation)
	ok(wait_for('the slot to follow', sub {
		$primary->safe_psql('postgres',
			"SELECT active, wal_status, restart_lsn >= '$to'::pg_lsn FROM pg_replication_slots WHERE slot_name = 'walarchive_$source'") eq
		  't|reserved|t' }), "$what: the slot holds WAL again");
	return $to;
}

# --- the slot is dropped, and nothing is lost yet ---
add_source($host, 'kept', $primary);
pause('kept');
$primary->safe_psql('postgres', q(SELECT pg_drop_replication_slot('walarchive_kept')));
$primary->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'test', repeat('k', 10000))");
resume('kept');
wait_streaming($host, 'kept');
wait_archived($host, 'kept', $primary);
is_deeply([ journal_lines($host, 'kept', 'gap') ], [], 'a slot dropped with no WAL lost leaves no gap');
is(scalar(journal_lines($host, 'kept', 'slot_created')), 2, 'its new slot is in the journal');
$host->safe_psql('postgres', q(SELECT walarchive.drop_source('kept')));
ok(wait_for('its slot to go', sub {
	$primary->safe_psql('postgres', 'SELECT count(*) FROM pg_replication_slots') eq '0' }), 'dropped again');

# --- the slot is dropped, and WAL is lost; without the right to look ---
add_source($host, 'dropped', $primary);
add_source($host, 'plain', $primary, conninfo => conninfo($primary) . ' user=plain');
my $from = pause('dropped');
my $from_plain = pause('plain');
$primary->safe_psql('postgres', q(
	SELECT pg_drop_replication_slot('walarchive_dropped'), pg_drop_replication_slot('walarchive_plain')));
lose_wal();
my $oldest = $primary->safe_psql('postgres', q(
	SELECT min(name) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'));
resume('dropped');
my $to = check_gap('dropped', $from, 'slot dropped');
is($primary->safe_psql('postgres', "SELECT pg_walfile_name('$to'::pg_lsn + 1)"), $oldest,
	'the gap ends at the oldest WAL that the primary still had');
like(slurp_file($host->logfile), qr/WARNING:.*archive of source "dropped" has a gap from \S+ to \Q$to\E on timeline 1/,
	'the log has a warning');

my ($rc, undef, $err) = $primary->psql('postgres', 'SELECT count(*) FROM pg_ls_waldir()', extra_params => [ '-U', 'plain' ]);
like($err, qr/permission denied for function pg_ls_waldir/, 'the plain role may not list WAL');
resume('plain');
check_gap('plain', $from_plain, 'role without pg_monitor');

# --- the slot is invalidated ---
add_source($host, 'lost', $primary);
$from = pause('lost');
$host->safe_psql('postgres', q(SELECT walarchive.drop_source('dropped'), walarchive.drop_source('plain')));
ok(wait_for('the slots to go', sub {
	$primary->safe_psql('postgres', 'SELECT count(*) FROM pg_replication_slots') eq '1' }), 'one slot is left');
set_config('max_slot_wal_keep_size', '2MB');
lose_wal();
is($primary->safe_psql('postgres', 'SELECT wal_status FROM pg_replication_slots'), 'lost', 'the slot is lost');
resume('lost');
check_gap('lost', $from, 'slot invalidated');
set_config('max_slot_wal_keep_size', '-1');

# --- another week: a second gap in the same archive ---
$from = pause('lost');
$primary->safe_psql('postgres', q(SELECT pg_drop_replication_slot('walarchive_lost')));
lose_wal();
resume('lost');
wait_streaming($host, 'lost');
is(join(' ', map { padded($_->{from_lsn}) } (journal_lines($host, 'lost', 'gap'))[1]), $from, 'a second gap is recorded as well');
wait_event($host, 'lost', 'gap', 2);
is($host->safe_psql('postgres', q(SELECT count(*) FROM walarchive.gap WHERE source = 'lost' AND cause = 'wal_removed')),
	'2', 'both are in the catalog');

# --- told to stop ---
add_source($host, 'stops', $primary, args => "on_gap => 'stop'");
$from = pause('stops');
my $was = checksums(wal_dir($host, 'stops'));
$primary->safe_psql('postgres', q(SELECT pg_drop_replication_slot('walarchive_stops')));
lose_wal();
resume('stops');
ok(wait_cause($host, 'stops', 'wal_removed'), 'told to stop: the cause is wal_removed');
ok(wait_state($host, 'stops', 'stopped'), 'told to stop: the state is stopped');
my ($place) = stat_of($host, 'stops', 'last_error') =~ qr/no longer has the WAL at (\S+)/;
is(padded($place), $from, 'told to stop: the error names the place');
ok(wait_health($host, 'stops', 'receiver', 'critical'), 'told to stop: health is critical');
like($host->safe_psql('postgres', q(SELECT hint FROM walarchive.health WHERE source = 'stops' AND "check" = 'receiver')),
	qr/alter_source\(name, on_gap => 'continue'\)/, 'told to stop: with the remedy');
is(checksums(wal_dir($host, 'stops')), $was, 'told to stop: no WAL came');
is_deeply([ journal_lines($host, 'stops', 'gap') ], [], 'told to stop: no gap is recorded');
$host->safe_psql('postgres', q(SELECT walarchive.alter_source('stops', on_gap => 'continue')));
check_gap('stops', $from, 'told to continue');

release_snapshots($primary);
done_testing();
