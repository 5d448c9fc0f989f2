# The primary's host is lost, a standby is promoted that was a moment behind, and
# customers hold receipts for orders that the new primary has never heard of.
# The archive has confirmed them, so it has to say which they were: each commit,
# no other one, through two failovers.
#
# Meanwhile somebody asks to go back to one of those orders.  The archive is
# receiving the new timeline already, but has not indexed any of it: where the old
# timeline has that order is a place that the new one never came to.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalFaults;

my $quiet = q(
wal_keep_size = 256MB
autovacuum = off
checkpoint_timeout = 1h
max_prepared_transactions = 5
);
my $host = new_archive_host('archive');
my $first = new_primary('first', conf => $quiet);
$first->safe_psql('postgres', 'CREATE TABLE orders (i int); CREATE TABLE archive_of_orders (i int)');
$first->backup('base');
my @standby;
for my $name ('second', 'third')
{
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init_from_backup($first, 'base', has_streaming => 1);
	$node->start;
	push @standby, $node;
}
my ($second, $third) = @standby;
add_source($host, 'prod', $first, conninfo => one_of($first, $second, $third));
my $dir = wal_dir($host, 'prod');

sub value
{
	my ($sql) = @_;
	return $host->safe_psql('postgres', $sql);
}

sub stranded
{
	my ($columns) = @_;
	return value("SELECT $columns FROM walarchive.stranded_commits('prod')");
}

# Until the standby has replayed what the primary has flushed now.
sub wait_replayed
{
	my ($node, $from) = @_;
	my $lsn = $from->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
	wait_for($node->name, sub { $node->safe_psql('postgres', "SELECT pg_last_wal_replay_lsn() >= '$lsn'") eq 't' })
	  or BAIL_OUT($node->name . " does not reach $lsn");
	return;
}

# A commit, and its xid and place.
sub commit
{
	my ($node, $sql) = @_;
	my $xid = $node->safe_psql('postgres', "BEGIN; $sql; SELECT pg_current_xact_id(); COMMIT");
	return $xid;
}

wait_archived($host, 'prod', $first);
ok(wait_for('the catalog', sub { value(q(SELECT count(*) FROM walarchive.timeline)) eq '1' }), 'the catalog has the archive');
value(q(SELECT walarchive.take_backup('prod', label => 'before')));
is(stranded('count(*)'), '0', 'nothing is stranded before a failover');

# --- the archive is ahead of both standbys; the second one is promoted ---
commit($first, 'INSERT INTO orders VALUES (1)');
wait_replayed($_, $first) for $second, $third;
$_->stop for $second, $third;
my @lost = (commit($first, 'INSERT INTO orders VALUES (2)'), commit($first, 'INSERT INTO orders VALUES (3)'));
my $aborted = $first->safe_psql('postgres', 'BEGIN; INSERT INTO orders VALUES (9); SELECT pg_current_xact_id(); ROLLBACK');
switch_wal($first, 2);
push @lost, commit($first, 'DROP TABLE archive_of_orders');
my $prepared = $first->safe_psql('postgres', q(BEGIN; INSERT INTO orders VALUES (4); SELECT pg_current_xact_id(); PREPARE TRANSACTION 'p'));
$first->safe_psql('postgres', q(COMMIT PREPARED 'p'));
push @lost, $prepared;
wait_archived($host, 'prod', $first);
my %time = map { split /\|/ } split /\n/, value(q(SELECT xid, xact_time FROM walarchive.commits('prod')));

# A plan to a transaction: whether it is feasible, on which timeline, why not, and
# whether it speaks of a timeline that is not indexed.
sub plan_to
{
	my ($xid, $args) = @_;
	return value("SELECT feasible, timeline, coalesce(reason, ''), coalesce(hint, '') LIKE '%imeline 2 is being received and is not indexed%'
		FROM walarchive.plan_restore('prod', target_xid => '$xid'" . ($args // '') . ')');
}
ok(wait_for('a plan', sub { plan_to($lost[0]) eq 't|1||f' }), 'a restore to one of them can be planned') or diag(plan_to($lost[0]));
stop_indexers($host);
$first->stop('immediate');

$second->append_conf('postgresql.conf', "primary_conninfo = ''");
$second->start;
$second->promote;
wait_timeline($host, 'prod', 2);
is(plan_to($lost[0]), 't|1||t', 'right after the failover a plan says that there is a timeline which it knows nothing of');
is(value("SELECT walarchive.plan_report('prod', target_xid => '$lost[0]') LIKE '%imeline 2 is being received and is not indexed%'"), 't', '... and so does its report');
is(plan_to($lost[0], ', target_timeline => 1'), 't|1||f', '... but who names the old timeline knows that');
is(value(qq(SELECT clock_timestamp() AS begun \\gset
		SELECT p.plan_id FROM walarchive.plan_restore('prod', target_xid => '$lost[0]') p \\gset
		SELECT clock_timestamp() - :'begun' >= interval '2.5 s')), 't', '... having waited for the index');
start_indexers($host);
ok(wait_for('the plan', sub { plan_to($lost[0]) eq 'f|2|not_ancestor|f' }), 'the new timeline never came to where the old one has it') or diag(plan_to($lost[0]));
my @kept = (commit($second, 'INSERT INTO orders VALUES (5)'));
switch_wal($second, 1);
wait_archived($host, 'prod', $second);
ok(wait_for('the second timeline in the catalog', sub {
	value(q(SELECT count(*) = 1 FROM walarchive.timeline WHERE timeline = 2 AND parent_timeline = 1 AND fork_lsn IS NOT NULL)) eq 't' }),
	'the catalog knows the new timeline');
my ($fork) = read_file_bytes("$dir/00000002.history") =~ /^1\t(\S+)/;

# what switch_wal committed between is stranded as well
my @rows = map { [ split /\|/ ] } split /\n/, stranded(q(xid, timeline, kind, fork_lsn, successor_timeline, start_lsn >= fork_lsn, xact_time, coalesce(dropped_relations::text, '')));
my %row = map { $_->[0] => $_ } @rows;
is(join(' ', grep { !$row{$_} } @lost), '', 'all commits that were acknowledged and lost are listed');
is(scalar(@rows), @lost + 2, '... with those that emptied messages, and no others');
is(join(' ', grep { "@$_[1,3,4,5]" ne "1 $fork 2 t" } @rows), '', '... with the fork and the timeline that followed');
is($row{$prepared}[2], 'commit prepared', 'a prepared transaction is among them');
is(join(' ', grep { $row{$_}[6] ne $time{$_} } @lost), '', 'with their times');
like($row{ $lost[2] }[7], qr/\{(base\/\d+\/\d+|public.archive_of_orders)\}/, 'and what they dropped');
ok(!$row{$aborted}, 'what was rolled back was never acknowledged');

# the default of commits is the path that counts, a timeline is that timeline's
is(value("SELECT count(*) FROM walarchive.commits('prod') WHERE timeline = 1 AND start_lsn >= '$fork'"), '0',
	'commits() follows the new timeline');
is(value("SELECT count(*) FROM walarchive.commits('prod', timeline => 1) WHERE start_lsn >= '$fork' AND xid IN ('" . join("', '", @lost) . "')"), scalar(@lost),
	'... and the old one when it is asked for');
is(value("SELECT count(*) FROM walarchive.commits('prod', from_lsn => '$fork') WHERE xid = '$kept[0]' AND timeline = 2"), '1',
	'the new primary\'s commits are there');

# --- the second one is lost in the same way; the third is promoted, from before both ---
$second->stop('immediate');
$third->append_conf('postgresql.conf', "primary_conninfo = ''");
# its own history would be timeline 2 as well: give it the file, as a shared archive does
system_or_bail('cp', "$dir/00000002.history", $third->data_dir . '/pg_wal/');
$third->append_conf('postgresql.conf', "recovery_target_timeline = '1'");
$third->start;
$third->promote;
like($third->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_lsn())'), qr/^00000003/, 'the third server is on timeline 3');
wait_timeline($host, 'prod', 3);
commit($third, 'INSERT INTO orders VALUES (6)');
switch_wal($third, 1);
wait_archived($host, 'prod', $third);
ok(wait_for('the third timeline in the catalog', sub {
	value(q(SELECT count(*) = 1 FROM walarchive.timeline WHERE timeline = 3 AND parent_timeline = 1 AND fork_lsn IS NOT NULL)) eq 't' }),
	'the catalog knows the third timeline');
my ($fork3) = read_file_bytes("$dir/00000003.history") =~ /^1\t(\S+)/;
# the same xids were used on both
my %all = map { $_ => 1 } split /\n/, stranded(q(timeline || ' ' || xid || ' ' || successor_timeline));
is(join(' ', grep { !$all{"1 $_ 3"} } @lost), '', 'what the first primary had is still stranded');
ok($all{"2 $kept[0] 3"}, 'and now what the second one had');
is(stranded(qq(bool_and(fork_lsn = least('$fork'::pg_lsn, '$fork3')))), 't', 'all of it since the place where the third left');

# --- gone from the disk: said, not passed over ---
my $victim;
ok(wait_for('a segment', sub { ($victim) = grep { /^00000001/ && value("SELECT start_lsn > '$fork3' FROM walarchive.segment WHERE name = '$_' AND timeline = 1 UNION ALL SELECT false LIMIT 1") eq 't' } wal_files($dir); $victim }),
	'there is a whole segment beyond the fork');
rename("$dir/$victim", "$dir/../$victim") or die "could not rename: $!";
my ($rc, $out, $err) = $host->psql('postgres', q(SELECT count(*) FROM walarchive.stranded_commits('prod')));
like($err, qr/WARNING: .*is not in the archive/, 'a missing segment is a warning');
rename("$dir/../$victim", "$dir/$victim") or die "could not rename: $!";

done_testing();
