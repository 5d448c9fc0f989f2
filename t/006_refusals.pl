# A restore drill goes wrong: the copy is started with the production settings
# and reaches the archive, under the same name, with the same identifier.  Or
# somebody puts the primary back to last night's state and lets it run.  What
# answers at the source's address is then not the server whose WAL is in the
# archive.  Nothing that is archived may be overwritten, and no commit of the
# impostor may be released because of what the archive had confirmed to the
# real one: the server believes whatever a standby reports.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;

my $quiet = q(
wal_keep_size = 256MB
autovacuum = off
checkpoint_timeout = 1h
);
my $host = new_archive_host('archive');

# The journal says why, and has no other reason.
sub journal_causes
{
	my ($source) = @_;
	return join(' ', map { $_->{cause} // '-' } journal_lines($host, $source, 'state'));
}

# --- another cluster under the same address ---
my $primary = new_primary('primary', conf => $quiet);
add_source($host, 'foreign', $primary);
switch_wal($primary, 2);
wait_archived($host, 'foreign', $primary);
my $dir = wal_dir($host, 'foreign');
my $sysid = stat_of($host, 'foreign', 'system_identifier');
$primary->stop;
ok(wait_cause($host, 'foreign', 'connection_failed'), 'the primary is down');
my $was = checksums($dir);

# a new initdb in the same place
my $other = new_primary('other', conf => $quiet, start => 0);
my $kept = save_data($primary);
my $conf = slurp_file($primary->data_dir . '/postgresql.conf');
restore_data($primary, $other->data_dir);
unlink($primary->data_dir . '/postgresql.conf');
append_to_file($primary->data_dir . '/postgresql.conf', $conf);
$primary->start;
my $new_sysid = $primary->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()');
isnt($new_sysid, $sysid, 'another cluster answers');
ok(wait_cause($host, 'foreign', 'foreign_cluster'), 'a foreign cluster is refused');
ok(wait_state($host, 'foreign', 'stopped'), 'the source is stopped');
like(stat_of($host, 'foreign', 'last_error'), qr/$new_sysid.*$sysid/, 'the error names both identifiers');
like($host->safe_psql('postgres', q(SELECT hint FROM walarchive.health WHERE source = 'foreign' AND "check" = 'receiver')),
	qr/accept_new_cluster/, 'the hint names the way on');
ok(wait_health($host, 'foreign', 'receiver', 'critical'), 'health is critical');
is(checksums($dir), $was, 'nothing in the archive was touched');
is($primary->safe_psql('postgres', 'SELECT count(*) FROM pg_replication_slots'), '0', 'no slot was made there');

# add_source would have said so, too
my ($rc, $out, $err) = $host->psql('postgres',
	"SELECT walarchive.alter_source('foreign', conninfo => '" . conninfo($primary) . " connect_timeout=5')");
like($err, qr/server has system identifier $new_sysid, the archive belongs to $sysid/, 'alter_source refuses it');

$host->safe_psql('postgres', q(SELECT walarchive.accept_new_cluster('foreign')));
wait_streaming($host, 'foreign');
switch_wal($primary, 2);
wait_archived($host, 'foreign', $primary);
is(stat_of($host, 'foreign', 'system_identifier'), $new_sysid, 'accepted, it is archived');
my $new_dir = wal_dir($host, 'foreign', $new_sysid);
cmp_ok(scalar(wal_files($new_dir)), '>=', 2, 'in a folder of its own');
is((same_wal($new_dir, $primary->data_dir . '/pg_wal'))[1], '', 'with its bytes');
is(checksums($dir), $was, 'and the old archive is as it was');
($rc, $out, $err) = $host->psql('postgres', q(SELECT walarchive.accept_new_cluster('foreign')));
like($err, qr/no new cluster was refused/, 'there is nothing more to accept');

# the old cluster is the foreign one now
$primary->stop;
restore_data($primary, $kept);
$primary->start;
ok(wait_cause($host, 'foreign', 'foreign_cluster'), 'the cluster that was left is refused now');
$primary->stop;

# --- the segment size changed ---
my $sized = new_primary('sized', conf => $quiet);
add_source($host, 'sized', $sized);
switch_wal($sized, 2);
wait_archived($host, 'sized', $sized);
$dir = wal_dir($host, 'sized');
$sized->stop;
$was = checksums($dir);
system_or_bail('pg_resetwal', '--wal-segsize=2', $sized->data_dir);
$sized->append_conf('postgresql.conf', "min_wal_size = 4MB\n");
$sized->start;
ok(wait_cause($host, 'sized', 'segment_size_changed'), 'a changed segment size is refused');
ok(wait_state($host, 'sized', 'stopped'), 'and the source is stopped');
like(stat_of($host, 'sized', 'last_error'), qr/2097152 bytes.*1048576/, 'the error names both sizes');
is(checksums($dir), $was, 'nothing in the archive was touched');
$sized->stop;

# --- split brain: a copy of the data directory runs separately ---
my $real = new_primary('real', conf => $quiet);
add_source($host, 'split', $real);
switch_wal($real, 1);
wait_archived($host, 'split', $real);
$dir = wal_dir($host, 'split');
$real->stop;
my $copy = save_data($real);
$real->start;
wait_streaming($host, 'split');
$real->safe_psql('postgres', 'CREATE TABLE real (i int); INSERT INTO real SELECT generate_series(1, 1000)');
switch_wal($real, 2);
$real->safe_psql('postgres', 'INSERT INTO real VALUES (0)');
my $end = wait_archived($host, 'split', $real);
$real->stop('immediate');
ok(wait_cause($host, 'split', 'connection_failed'), 'the real server is down');
$was = checksums($dir);

# it is not seen until it has written more than the archive holds
$host->safe_psql('postgres', q(SELECT walarchive.pause_source('split')));
wait_state($host, 'split', 'paused');
restore_data($real, $copy);
$real->append_conf('postgresql.conf', "synchronous_standby_names = 'walarchive_split'\n");
$real->start;
# (it is the checkpointer that tells sessions to wait; now it has begun)
$real->safe_psql('postgres', 'CHECKPOINT');
$real->safe_psql('postgres', 'SET synchronous_commit = local; CREATE TABLE copy AS SELECT repeat(md5(i::text), 10) AS t FROM generate_series(1, 20000) i');
is($real->safe_psql('postgres', "SELECT pg_current_wal_flush_lsn() > '$end'"), 't',
	'the copy wrote past the end of the archive');
$host->safe_psql('postgres', q(SELECT walarchive.resume_source('split')));
my $waiting = start_sql($real, 'CREATE TABLE must_wait (i int)');
ok(wait_cause($host, 'split', 'wal_conflict'), 'the copy is found out by its bytes');
ok(wait_state($host, 'split', 'stopped'), 'and the source is stopped');
like(stat_of($host, 'split', 'last_error'), qr/WAL of timeline 1 at \S+ differs from what the archive holds/, 'with an error');
ok(wait_health($host, 'split', 'receiver', 'critical'), 'health is critical');
like($host->safe_psql('postgres', q(SELECT hint FROM walarchive.health WHERE source = 'split' AND "check" = 'receiver')),
	qr/two servers wrote the same timeline/, 'with the remedy');
is(checksums($dir), $was, 'nothing was overwritten, nothing was added');
ok(wait_for('the commit to wait', sub {
	$real->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep')) eq '1' }),
	'a synchronous commit of the copy waits');

# It goes on trying, and never confirms anything: watch some attempts, the
# first of a new receiver.
sub watch_attempts
{
	my ($node, $source, $from, $session) = @_;
	my ($bad, $attempts) = (0, 0);
	my $last = stat_of($host, $source, 'last_error_time');

	$host->safe_psql('postgres', "SELECT walarchive.alter_source('$source', on_gap => 'continue')");

	wait_for('more attempts', sub {
		my $confirmed = $node->safe_psql('postgres',
			"SELECT count(*) FROM pg_stat_replication WHERE flush_lsn >= '$from' OR write_lsn >= '$from'");
		$bad++ if $confirmed ne '0' || sql_done($session);
		my $now = stat_of($host, $source, 'last_error_time');
		$attempts++ if $now ne $last;
		$last = $now;
		return $attempts >= 3;
	});
	return "$attempts attempts, $bad confirmations";
}
my $commit = $real->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
is(watch_attempts($real, 'split', $commit, $waiting), '3 attempts, 0 confirmations',
	'nothing is confirmed by later attempts');
ok(!sql_done($waiting), 'the commit still waits');
$real->stop('immediate');
my ($code) = sql_result($waiting);

# --- a rewound primary, behind the archive ---
my $node = new_primary('rewound', conf => $quiet);
add_source($host, 'rewound', $node);
switch_wal($node, 1);
wait_archived($host, 'rewound', $node);
$dir = wal_dir($host, 'rewound');
$node->stop;
$copy = save_data($node);
$node->start;
wait_streaming($host, 'rewound');
make_synchronous($node, 'walarchive_rewound');
$node->safe_psql('postgres', 'CREATE TABLE later (t text); INSERT INTO later SELECT repeat(md5(i::text), 10) FROM generate_series(1, 100) i');
$end = wait_archived($host, 'rewound', $node);
$node->stop('immediate');
ok(wait_cause($host, 'rewound', 'connection_failed'), 'the primary is down');
$was = checksums($dir);
my $right = save_data($node);

restore_data($node, $copy);
$node->append_conf('postgresql.conf', "synchronous_standby_names = 'walarchive_rewound'\n");
$node->start;
$node->safe_psql('postgres', 'CHECKPOINT');
$waiting = start_sql($node, 'CREATE TABLE must_wait (i int)');
ok(wait_for('the commit to wait', sub {
	$node->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep')) eq '1' }),
	'a commit of the rewound primary waits for the archive');
$commit = $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
is($node->safe_psql('postgres', "SELECT '$commit'::pg_lsn < '$end'"), 't',
	"it lies at $commit, before the archive's end at $end");
ok(wait_cause($host, 'rewound', 'archive_ahead'), 'the rewound primary is found out');
like(stat_of($host, 'rewound', 'last_error'), qr/server's WAL ends at .* holds timeline 1 up to/, 'with an error');
ok(wait_health($host, 'rewound', 'receiver', 'critical'), 'health is critical');
is(watch_attempts($node, 'rewound', $commit, $waiting), '3 attempts, 0 confirmations',
	'nothing is confirmed that an earlier incarnation had flushed');
ok(!sql_done($waiting), 'the commit still waits');
is(checksums($dir), $was, 'nothing was overwritten');

# It writes on asynchronously until it is past the archive's end, by
# so little that all is sent before it hears of the refusal: a position that
# was confirmed at the connection's start would release the commit.
$node->safe_psql('postgres', q(
	SET synchronous_commit = local;
	CREATE TABLE past AS SELECT repeat(md5((-i)::text), 10) AS t FROM generate_series(1, 200) i;
));
is($node->safe_psql('postgres', "SELECT pg_current_wal_flush_lsn() > '$end'"), 't', 'then it is past the end of the archive');
$commit = $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
ok(wait_cause($host, 'rewound', 'wal_conflict'), 'now its bytes tell');
ok(wait_state($host, 'rewound', 'stopped'), 'and the source is stopped');
is(watch_attempts($node, 'rewound', '0/2', $waiting), '3 attempts, 0 confirmations',
	'still nothing is confirmed');
ok(!sql_done($waiting), 'and the first commit still waits');
is(checksums($dir), $was, 'nothing was overwritten, nothing was added');
$node->stop('immediate');
($code) = sql_result($waiting);

# --- the right state is put back: streaming resumes by itself ---
restore_data($node, $right);
$node->start;
wait_streaming($host, 'rewound');
is($node->psql('postgres', 'CREATE TABLE on_the_right_server (i int)', timeout => $PostgreSQL::Test::Utils::timeout_default), 0,
	'commits of the right server are confirmed again');
ok(index(journal_causes('rewound'), 'archive_ahead wal_conflict') >= 0, 'the journal tells the story');

done_testing();
