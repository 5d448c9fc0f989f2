# An operator adds a first source and expects what pg_receivewal would have
# given: the slot holds WAL from the first moment, files are private, there is
# one partial file, and every interruption is made good.  And more: on an idle
# primary pg_receivewal leaves the end of a segment unconfirmed until its
# status interval is over; a commit must never wait for an interval.
use strict;
use warnings FATAL => 'all';

use File::Find;
use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;

# No interval may help: status messages come hourly, nobody pings.
my $host = new_archive_host('archive',
	conf => "walarchive.status_interval = '1h'\nwalarchive.receive_timeout = 0\n");
my $primary = new_primary('primary', conf => q(
wal_keep_size = 256MB
wal_sender_timeout = 0
autovacuum = off
checkpoint_timeout = 1h
log_replication_commands = on
));
my $pg_wal = $primary->data_dir . '/pg_wal';

sub start_of
{
	my ($lsn) = @_;
	return $primary->safe_psql('postgres', "SELECT pg_walfile_name('$lsn')");
}

sub partials
{
	my ($dir) = @_;
	return grep { /partial/ } wal_files($dir, partial => 1);
}

# --- the first source ---
switch_wal($primary, 2);
add_source($host, 'prod', $primary);
my $dir = wal_dir($host, 'prod');

like(slurp_file($primary->logfile),
	qr/CREATE_REPLICATION_SLOT "walarchive_prod" PHYSICAL \(RESERVE_WAL\)/,
	'the slot reserves WAL from its creation on');
is($primary->safe_psql('postgres',
		q(SELECT slot_type, temporary, active, restart_lsn IS NOT NULL FROM pg_replication_slots)),
	'physical|f|t|t', 'one permanent slot, in use, with a restart_lsn');
# (the connection with which add_source looked may still be ending)
ok(wait_for('one connection', sub {
	$primary->safe_psql('postgres', 'SELECT application_name FROM pg_stat_replication') eq 'walarchive_prod' }),
	'the application name is the name of the slot');

$primary->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'test', 'one')");
wait_archived($host, 'prod', $primary);
is(scalar(partials($dir)), 1, 'exactly one partial file');
switch_wal($primary, 3);
$primary->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'test', 'more')");
wait_archived($host, 'prod', $primary);
is_deeply([ partials($dir) ],
	[ start_of($primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()')) . '.partial' ],
	'and still one after switches, of the present segment');

my (@wrong, $entries);
find({ no_chdir => 1, wanted => sub {
	# (an indexer or observer may have renamed it meanwhile)
	my $mode = ((lstat($_))[2] // return) & 07777;
	$entries++;
	push @wrong, sprintf('%s %o', $_, $mode) if $mode != (-d _ ? 0700 : 0600);
} }, archive_dir($host, 'prod'));
is("@wrong", '', 'all directories are 0700 and all files 0600');
cmp_ok($entries, '>', 7, 'and there were some');

# --- stat_receiver ---
# (what was flushed and what the server said last agree when all has come)
my $row = '';
wait_for('the row of stat_receiver', sub { ($row = $host->safe_psql('postgres', q(
	SELECT r.state, r.sender_host = ) . "'" . $primary->host . "'" . q(, r.sender_port = ) . $primary->port . q(,
		   r.received_tli, r.lag_bytes, r.segments_completed >= 3, r.bytes_received > 3 * 1048576,
		   r.connected_since < now(), r.last_msg_receipt_time <= clock_timestamp(), r.reconnects,
		   r.last_error IS NULL, r.last_error_time IS NULL, r.cause IS NULL,
		   r.written_lsn = r.flushed_lsn, r.latest_end_lsn = r.flushed_lsn, r.latest_end_time <= clock_timestamp(),
		   r.state_since <= now()
	FROM walarchive.stat_receiver r))) =~ /^streaming\|t\|t\|1\|0\|.*\|t\|t\|t\|t$/ });
is($row, 'streaming|t|t|1|0|t|t|t|t|0|t|t|t|t|t|t|t', 'stat_receiver');
ok(kill(0, receiver_pid($host, 'prod')), 'its pid is that of a process');
is($host->safe_psql('postgres', 'SELECT count(*) FROM pg_locks WHERE pid = ' . receiver_pid($host, 'prod')),
	'0', 'which holds no lock');
is(stat_of($host, 'prod', 'system_identifier'),
	$primary->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()'),
	'stat_receiver shows the system identifier');
is(stat_of($host, 'prod', 'server_version'),
	$primary->safe_psql('postgres', 'SHOW server_version_num'), 'and the version');
ok(wait_for('the end of the WAL', sub {
	stat_of($host, 'prod', 'flushed_lsn') eq $primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()') }),
	'and the flushed position is the end of the WAL');

# --- confirmed in one flush ---
# Not one that comes with the next WAL either: the background writer, which logs
# a snapshot every 15 s, writes none now.
hold_snapshots($primary);
my $arrived = 0;
for my $i (1 .. 10)
{
	my $lsn = switch_wal($primary);
	$arrived++ if wait_for("switch $i at $lsn to be confirmed", sub {
		$primary->safe_psql('postgres',
			"SELECT flush_lsn >= '$lsn' AND flush_lsn = sent_lsn FROM pg_stat_replication") eq 't' });
}
is($arrived, 10, 'the end of a segment is confirmed at once, ten times');

make_synchronous($primary, 'walarchive_prod');
my @codes;
for my $i (1 .. 5)
{
	my ($rc, $out, $err) = $primary->psql('postgres',
		"CREATE TABLE lone_$i (i int)", timeout => $PostgreSQL::Test::Utils::timeout_default);
	push @codes, "$rc$err";
	# the commit's record is the last thing before the segment's end
	($rc, $out, $err) = $primary->psql('postgres',
		"BEGIN; INSERT INTO lone_$i VALUES (1); SELECT pg_switch_wal(); COMMIT", timeout => $PostgreSQL::Test::Utils::timeout_default);
	push @codes, "$rc$err";
}
is(join(' ', @codes), join(' ', (0) x 10),
	'lone synchronous commits on an idle primary return');
$primary->safe_psql('postgres', 'ALTER SYSTEM RESET synchronous_standby_names');
$primary->reload;
release_snapshots($primary);

# --- what was interrupted is made good ---
for my $how (qw(pause restart kill))
{
	wait_archived($host, 'prod', $primary);
	$primary->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'test', 'before')");
	wait_archived($host, 'prod', $primary);
	my ($partial) = partials($dir);
	(my $name = $partial) =~ s/\.partial$//;
	my $killed;

	if ($how eq 'pause')
	{
		$host->safe_psql('postgres', "SELECT walarchive.pause_source('prod')");
		wait_state($host, 'prod', 'paused');
		ok(wait_for('the slot to be let go', sub {
			$primary->safe_psql('postgres', 'SELECT active FROM pg_replication_slots') eq 'f' }),
			'a paused source holds no connection');
	}
	elsif ($how eq 'restart') { $host->stop; }
	else
	{
		$killed = receiver_pid($host, 'prod');
		kill 'KILL', $killed;
	}
	$primary->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'test', repeat('x', 100000))");
	switch_wal($primary, 2);
	$primary->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'test', 'after')");
	if ($how eq 'pause')
	{
		is_deeply([ partials($dir) ], [$partial], 'nothing is received while paused');
		$host->safe_psql('postgres', "SELECT walarchive.resume_source('prod')");
	}
	elsif ($how eq 'restart') { $host->start; }
	else { wait_crashed($host, $killed); }
	wait_streaming($host, 'prod');
	wait_archived($host, 'prod', $primary);
	ok(-e "$dir/$name" && !-e "$dir/$partial", "after $how: the earlier partial was completed");
	ok(same_file("$dir/$name", "$pg_wal/$name"), "after $how: its bytes are the primary's");
	is(scalar(partials($dir)), 1, "after $how: one partial");
}
my ($number, $differ) = same_wal($dir, $pg_wal);
cmp_ok($number, '>', 20, 'many segments to compare with the primary\'s own');
is($differ, '', 'all finished segments equal the primary\'s');
my @names = wal_files($dir);
is(scalar(grep { !-e "$dir/$_" } map { sprintf('00000001%08X%08X', $_ / 4096, $_ % 4096) }
	(hex(substr($names[0], 16)) .. hex(substr($names[-1], 16)))), 0, 'no segment is missing');

# --- where an empty archive begins ---
my $reserved = $primary->safe_psql('postgres',
	q(SELECT lsn FROM pg_create_physical_replication_slot('walarchive_slot', true)));
my $first = $primary->safe_psql('postgres',
	q(SELECT pg_walfile_name(restart_lsn) FROM pg_replication_slots WHERE slot_name = 'walarchive_slot'));
switch_wal($primary, 3);
add_source($host, 'slot', $primary);
wait_archived($host, 'slot', $primary);
is((wal_files(wal_dir($host, 'slot')))[0], $first,
	"an archive with a slot begins in the segment of the slot's restart_lsn ($reserved)");

my $start = $primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn() + 100');
$primary->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'test', repeat('x', 1000))");
switch_wal($primary, 3);
$primary->safe_psql('postgres', 'CHECKPOINT');
add_source($host, 'given', $primary, args => "start_lsn => '$start'");
wait_archived($host, 'given', $primary);
is((wal_files(wal_dir($host, 'given')))[0], start_of($start),
	'an archive with start_lsn begins in its segment');

add_source($host, 'both', $primary,
	args => "slot_name => 'walarchive_mine', start_lsn => '$start'",
	conninfo => conninfo($primary) . ' application_name=another');
wait_archived($host, 'both', $primary);
is($primary->safe_psql('postgres',
		q(SELECT r.application_name FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid WHERE s.slot_name = 'walarchive_mine')),
	'another', 'slot_name and the application_name of the conninfo are used');
for my $source (qw(slot given both))
{
	($number, $differ) = same_wal(wal_dir($host, $source), $pg_wal);
	is($differ, '', "the archive $source equals the primary's WAL");
	cmp_ok($number, '>=', 3, "and has $number segments");
}

# --- it is gone when it is dropped ---
$host->safe_psql('postgres', "SELECT walarchive.drop_source('both', delete_files => true)");
ok(wait_for('the source to go', sub {
	$host->safe_psql('postgres', "SELECT count(*) FROM walarchive.source WHERE name = 'both'") eq '0' }),
	'a dropped source goes');
ok(!-e archive_dir($host, 'both'), 'with its files');
is($primary->safe_psql('postgres', q(SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'walarchive_mine')),
	'0', 'and its slot');

done_testing();
