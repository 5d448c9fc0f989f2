# At night the primary's host vanishes from the network without a word: packets
# are swallowed, nobody refuses a connection.  A standby is promoted, which
# never had the slot and lacks the last commits that the archive had already
# confirmed.  Then the old primary is switched on again.  The archive has to
# find the new primary by itself, keep what only it knows, say so, and never
# follow the old one back.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;

my $quiet = q(
wal_keep_size = 256MB
autovacuum = off
checkpoint_timeout = 1h
log_replication_commands = on
);
my $host = new_archive_host('archive');

# A black hole: the kernel accepts for it, and nobody ever answers.
my $hole = IO::Socket::INET->new(
	LocalAddr => '127.0.0.1', Proto => 'tcp', Listen => 50) or die "no socket: $@";

my $primary = new_primary('primary', conf => $quiet);
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

# --- a black hole before the primary, and a standby ---
my $conninfo = 'host=127.0.0.1,' . $standby->host . ',' . $primary->host
  . ' port=' . $hole->sockport . ',' . $standby->port . ',' . $primary->port
  . ' connect_timeout=3 target_session_attrs=read-write';
# (it costs its connect_timeout; without one nobody would ever look behind it)
add_source($host, 'prod', $primary, conninfo => $conninfo);
is(stat_of($host, 'prod', 'sender_port'), $primary->port, 'the primary was found behind it');
my $dir = wal_dir($host, 'prod');

# --- without target_session_attrs a standby is refused by our own check ---
add_source($host, 'plain', $primary, conninfo => 'host=' . $standby->host . ',' . $primary->host
	  . ' port=' . $standby->port . ',' . $primary->port);
is(stat_of($host, 'plain', 'sender_port'), $primary->port,
	'a standby is passed over where the source wants a primary');
my ($rc, $out, $err) = $host->psql('postgres',
	"SELECT walarchive.add_source('standby', '" . conninfo($standby) . "')");
like($err, qr/server is in recovery, and the source wants a primary.*HINT:.*allow_standby/s,
	'a standby alone is refused, with a hint');

# --- the standby falls behind, and the archive gets ahead of it ---
switch_wal($primary, 1);
$primary->safe_psql('postgres', 'CREATE TABLE acknowledged (i int); INSERT INTO acknowledged VALUES (1)');
wait_archived($host, 'prod', $primary);
my $base = $primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
ok(wait_for('the standby', sub { $standby->safe_psql('postgres', "SELECT pg_last_wal_replay_lsn() >= '$base'") eq 't' }),
	'the standby has the first row');
make_synchronous($primary, 'walarchive_prod');
$standby->stop;
$standby->append_conf('postgresql.conf', "primary_conninfo = ''\n");
$primary->safe_psql('postgres', 'INSERT INTO acknowledged SELECT i FROM generate_series(2, 1000) i');
switch_wal($primary, 3);
$host->safe_psql('postgres', "SELECT walarchive.pause_source('plain')");
wait_state($host, 'plain', 'paused');
hold_snapshots($primary);
$primary->safe_psql('postgres', "INSERT INTO acknowledged VALUES (1001)");
my $ahead = wait_archived($host, 'prod', $primary);
stop_held($primary);
my $was = checksums($dir);

# --- the promoted server does not have them, nor the slot ---
$standby->start;
$standby->promote;
ok(wait_timeline($host, 'prod', 2), 'the promoted server was found');
is(stat_of($host, 'prod', 'sender_port'), $standby->port, 'it streams from there');
is(stat_of($host, 'prod', 'received_tli'), '2', 'on the new timeline');
is($standby->safe_psql('postgres',
		q(SELECT active, restart_lsn IS NOT NULL FROM pg_replication_slots WHERE slot_name = 'walarchive_prod')),
	't|t', 'the slot was made there');
my @made = grep { $_->{message} =~ /was created/ } journal_lines($host, 'prod', 'slot_created');
is(scalar(@made), 2, 'both slots that were made are in the journal');
like($made[-1]{message}, qr/:${\ $standby->port}$/, 'with the server');

$standby->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'test', 'new primary')");
switch_wal($standby, 2);
wait_archived($host, 'prod', $standby);
my ($fork) = read_file_bytes("$dir/00000002.history") =~ /^1\t(\S+)/;
cmp_ok($standby->safe_psql('postgres', "SELECT '$fork'::pg_lsn < '$ahead'::pg_lsn"), 'eq', 't',
	"the fork at $fork lies before the archive's end at $ahead");
my @divergence = journal_lines($host, 'prod', 'divergence');
is(scalar(@divergence), 1, 'one divergence is recorded');
is_deeply([ @{ $divergence[0] }{qw(severity timeline from_lsn to_lsn)} ],
	[ 'critical', 1, $fork, $ahead ], 'with the range that only the archive has');
ok(wait_event($host, 'prod', 'divergence'), 'the catalog has the event');
is($host->safe_psql('postgres',
		q(SELECT timeline, from_lsn, to_lsn, severity FROM walarchive.event WHERE kind = 'divergence' AND source = 'prod')),
	"1|$fork|$ahead|critical", 'with the same range');
is_deeply([ journal_lines($host, 'prod', 'gap') ], [], 'no gap is recorded');

# what was there before is there still, byte for byte
my %now = map { split(/ /) } split(/\n/, checksums($dir));
my %old = map { split(/ /) } split(/\n/, $was);
is(join(' ', grep { ($now{$_} // '') ne $old{$_} } sort keys %old), '',
	'the acknowledged tail is kept, nothing was changed or removed');
is((same_wal($dir, $standby->data_dir . '/pg_wal'))[1] =~ s/\b00000001\S+ ?//gr, '',
	'the new timeline is as on the new primary');
# pg_waldump reads the kept tail to its end
my ($last) = sort { $b cmp $a } grep { /^00000001/ } keys %now;
my $tail = PostgreSQL::Test::Utils::tempdir();
(my $whole = $last) =~ s/\.partial//;
system_or_bail('cp', "$dir/$last", "$tail/$whole");
my ($dumped) = run_command([ 'pg_waldump', '-r', 'Transaction', "$tail/$whole" ]);
like($dumped, qr/COMMIT/, 'the last acknowledged commit is in the kept tail');

# --- a second connection does not record it a second time ---
my $pid = receiver_pid($host, 'prod');
kill 'TERM', $pid;
ok(wait_for('a new receiver', sub {
	stat_of($host, 'prod', "state = 'streaming' AND pid <> $pid") eq 't' }), 'a new receiver runs');
$standby->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'test', 'again')");
wait_archived($host, 'prod', $standby);
is(scalar(journal_lines($host, 'prod', 'divergence')), 1, 'the divergence is recorded once');

# --- the former primary comes back, first in the list ---
my $both = one_of($primary, $standby);
$host->safe_psql('postgres', "SELECT walarchive.alter_source('prod', conninfo => '$both', check_connection => false)");
$primary->start;
wait_archived($host, 'prod', $standby);
$host->restart;
wait_streaming($host, 'prod');
is(stat_of($host, 'prod', 'sender_port'), $standby->port,
	'the former primary accepts writes, is first in the list, and is passed over');
is(stat_of($host, 'prod', 'received_tli'), '2', 'the archive stays on the new timeline');
my %later = map { split(/ /) } split(/\n/, checksums($dir));
is(join(' ', grep { /^00000001/ && ($later{$_} // '') ne $now{$_} } sort keys %now), '',
	'nothing of the old timeline was touched');

# --- alone, it is refused and named ---
$host->safe_psql('postgres',
	"SELECT walarchive.alter_source('prod', conninfo => '" . conninfo($primary) . "', check_connection => false)");
ok(wait_cause($host, 'prod', 'older_timeline'), 'the former primary alone is refused with a cause');
like(stat_of($host, 'prod', 'last_error'), qr/server is on timeline 1, .* already on timeline 2/, 'and an error');
is(stat_of($host, 'prod', 'state'), 'waiting', 'the source waits');
ok(wait_health($host, 'prod', 'receiver', 'critical'), 'and health is critical');
like($host->safe_psql('postgres', q(SELECT hint FROM walarchive.health WHERE source = 'prod' AND "check" = 'receiver')),
	qr/former primary/, 'with the remedy');
# the archive looks at it again and again, so a connection may be there
is($primary->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_replication
		WHERE application_name = 'walarchive_prod' AND (state <> 'startup' OR write_lsn IS NOT NULL OR flush_lsn IS NOT NULL))),
	'0', 'it gets no confirmation');
$host->safe_psql('postgres',
	"SELECT walarchive.alter_source('prod', conninfo => '$both', check_connection => false)");
wait_streaming($host, 'prod');
is(stat_of($host, 'prod', 'cause'), '', 'with the new primary in the list it streams again');

# --- a rebuilt archive of the former primary's timeline finds the fork later ---
# 'plain' was paused before the fork, and behind it.
$host->safe_psql('postgres',
	"SELECT walarchive.alter_source('plain', conninfo => '" . conninfo($standby) . "', check_connection => false)");
$host->safe_psql('postgres', "SELECT walarchive.resume_source('plain')");
wait_streaming($host, 'plain');
is(stat_of($host, 'plain', 'received_tli'), '2', 'a source that was paused meanwhile follows, too');

done_testing();
