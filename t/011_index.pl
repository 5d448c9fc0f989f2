# A primary works all day: pgbench, two-phase commits, restore points, changed
# settings, a failover.  The archive host is killed in the middle of it, more than
# once.  What its catalog says must be what pg_waldump reads in the very files:
# each commit counted, none of them twice, up to the last one that was flushed.
# Then the decoder dies at one segment, again and again: that segment is set
# aside, said so, and everything behind it is known all the same.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalFaults;

my $host = new_archive_host('archive', start => 0);
start_with_faults($host);
$host->safe_psql('postgres', 'CREATE EXTENSION walarchive');
my $primary = new_primary('primary', conf => "max_prepared_transactions = 10\nautovacuum = off\n");
add_source($host, 'prod', $primary);
my $dir = wal_dir($host, 'prod');

# What pg_waldump says of the records that start in segments of 1 MB, from one
# to another: a hash for each, by name.
sub waldump
{
	my ($first, $last) = @_;
	my %segment;
	my ($out, $err) = run_command([ 'pg_waldump', '-p', $dir, $first, $last ]);
	for my $line (split(/\n/, $out))
	{
		my ($rmgr, $high, $low, $desc) =
		  $line =~ /^rmgr: (\S+)\s+len \(rec\/tot\):\s*\d+\/\s*\d+, tx:\s*\d+, lsn: ([0-9A-F]+)\/([0-9A-F]+), prev \S+, desc: (.*)/
		  or next;
		my $name = substr($first, 0, 8) . sprintf('%08X%08X', hex($high), hex($low) >> 20);
		my $seen = $segment{$name} //= { commits => 0, aborts => 0, records => 0, times => [] };
		my $lsn = sprintf('%X/%X', hex($high), hex($low));
		$seen->{records}++;
		$seen->{first} //= $lsn;
		$seen->{last} = $lsn;
		next unless $rmgr eq 'Transaction';
		next unless $desc =~ /^(COMMIT|ABORT)(_PREPARED)? (?:\d+: )?(\d{4}-[^;]+?)(?:;|$)/;
		$seen->{ $1 eq 'COMMIT' ? 'commits' : 'aborts' }++;
		push @{ $seen->{times} }, $3;
	}
	return \%segment;
}

# Wait until all finished segments of a timeline are decoded, and the open one
# up to the primary's last record.
sub wait_decoded
{
	my ($node) = @_;
	$node->safe_psql('postgres', q(SELECT pg_logical_emit_message(true, 'mark', 'x')));
	my $lsn = wait_archived($host, 'prod', $node);
	my $xid = $node->safe_psql('postgres', 'SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1');
	return wait_for("commit $xid to be decoded",
		sub {
			$host->safe_psql('postgres',
				"SELECT latest_commit_xid::text::bigint FROM walarchive.stat_receiver WHERE source = 'prod'") eq $xid;
		});
}

# --- the last commit is known ---
ok(wait_decoded($primary), 'the latest commit of an idle primary is the latest one that is decoded');
$primary->safe_psql('postgres', 'CREATE TABLE t (i int)');
my $xid = $primary->safe_psql('postgres', 'BEGIN; INSERT INTO t VALUES (1); SELECT pg_current_xact_id(); COMMIT');
ok(wait_for("commit $xid", sub { stat_of($host, 'prod', "coalesce(latest_commit_xid::text, '')") eq $xid }),
	'a commit is known without anybody asking for it');
ok(wait_for('no lag', sub { stat_of($host, 'prod', 'decode_lag_bytes') eq '0' }), 'nothing that is complete waits to be decoded');

# --- a day's work, and kill -9 ---
$primary->command_ok([ 'pgbench', '-i', '-q', '-s', '2', '-p', $primary->port, '-h', $primary->host, 'postgres' ],
	'pgbench tables');
for my $round (1 .. 3)
{
	$primary->safe_psql('postgres', qq(
		BEGIN; INSERT INTO t SELECT generate_series(1, 100); SAVEPOINT a; INSERT INTO t VALUES (0); ROLLBACK TO a; COMMIT;
		BEGIN; INSERT INTO t VALUES (2); ROLLBACK;
		BEGIN; INSERT INTO t VALUES (3); PREPARE TRANSACTION 'p$round'; COMMIT PREPARED 'p$round';
		BEGIN; INSERT INTO t VALUES (4); PREPARE TRANSACTION 'q$round'; ROLLBACK PREPARED 'q$round';
		SELECT pg_create_restore_point('round $round');));
	$primary->command_ok([ 'pgbench', '-n', '-c', '2', '-t', '300', '-p', $primary->port, '-h', $primary->host, 'postgres' ],
		"pgbench, round $round");
	switch_wal($primary, 1);
	if ($round < 3)
	{
		my $old = postmaster_pid($host);
		$host->kill9;
		ok(wait_for('the host to be gone', sub { process_gone($old) }), "the archive host is killed");
		# it starts once the last of its children has gone
		wait_for('the host to start', sub { $host->{_pid} = undef; start_with_faults($host, fail_ok => 1) })
		  or BAIL_OUT('the host does not start');
		wait_streaming($host, 'prod');
	}
}
$primary->append_conf('postgresql.conf', "max_connections = 60\n");
$primary->restart;
wait_streaming($host, 'prod');
switch_wal($primary, 1);
ok(wait_decoded($primary), 'all is decoded after the kills');
my $pending = q(SELECT count(*) FROM walarchive.segment WHERE state = 'finished' AND decode_state <> 'decoded');
ok(wait_for('all finished segments', sub { $host->safe_psql('postgres', $pending) eq '0' }),
	'all finished segments are decoded');

# Compare the catalog with pg_waldump, segment by segment.
sub compare_catalog
{
	my ($what, @names) = @_;
	my @differ;
	my $seen_in = waldump($names[0], $names[-1]);
	for my $name (@names)
	{
		my $seen = $seen_in->{$name};
		my @times = sort @{ $seen->{times} };
		my $expected = join('|', $seen->{first}, $seen->{last}, $seen->{records}, $seen->{commits}, $seen->{aborts},
			@times ? ($seen->{times}[0], $seen->{times}[-1], $times[0], $times[-1]) : ('', '', '', ''));
		my $found = $host->safe_psql('postgres', qq(
			SET timezone = 'UTC';
			SELECT first_record_lsn, last_record_lsn, records, commits, aborts,
				to_char(first_commit_time, 'YYYY-MM-DD HH24:MI:SS.US UTC'), to_char(last_commit_time, 'YYYY-MM-DD HH24:MI:SS.US UTC'),
				to_char(min_commit_time, 'YYYY-MM-DD HH24:MI:SS.US UTC'), to_char(max_commit_time, 'YYYY-MM-DD HH24:MI:SS.US UTC')
			FROM walarchive.segment WHERE source = 'prod' AND name = '$name'));
		# 18 writes the low half of an LSN with zeroes in front
		$found =~ s{/0*([0-9A-F])}{/$1}g;
		push @differ, "$name: pg_waldump $expected, catalog $found" if $expected ne $found;
	}
	is(join("\n", @differ), '', "$what: " . scalar(@names) . ' segments are in the catalog as pg_waldump reads them');
	return;
}
$ENV{TZ} = 'UTC';
my @finished = grep { !/history/ } wal_files($dir);
pop @finished;    # its last record goes on in the open one
cmp_ok(scalar(@finished), '>', 5, 'there is something to compare');
my $list = join(', ', map { "'$_'" } @finished);
ok(wait_for('them in the catalog', sub { $host->safe_psql('postgres',
		"SELECT count(*) FROM walarchive.segment WHERE state = 'finished' AND decode_state = 'decoded' AND name IN ($list)") == @finished }),
	'they are in the catalog');
compare_catalog('after kills', @finished);
is($host->safe_psql('postgres', q(SELECT string_agg(name, ', ' ORDER BY start_lsn) FROM walarchive.restore_point)),
	'round 1, round 2, round 3', 'restore points');
is($host->safe_psql('postgres', q(SELECT max_connections FROM walarchive.parameter_change ORDER BY start_lsn DESC LIMIT 1)),
	'60', 'a changed setting');

# --- a failover: the promoted server's timeline ---
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));
$primary->stop('fast');
$standby->promote;
$host->safe_psql('postgres', "SELECT walarchive.alter_source('prod', conninfo => '" . conninfo($standby) . "')");
ok(wait_for('timeline 2', sub { stat_of($host, 'prod', "coalesce(received_tli, 0)") eq '2' }), 'the archive follows');
ok(wait_decoded($standby), 'the latest commit on the new timeline');
isnt($host->safe_psql('postgres', 'SELECT promoted_at FROM walarchive.timeline WHERE timeline = 2'), '',
	'the promotion is known');
switch_wal($standby, 2);
wait_archived($host, 'prod', $standby);
my $catalogued = q(SELECT count(*) FROM walarchive.segment WHERE state = 'finished');
ok( wait_for('timeline 2',
		sub { $host->safe_psql('postgres', $catalogued) == (grep { !/history/ } wal_files($dir)) && $host->safe_psql('postgres', $pending) eq '0' }),
	'its segments are decoded');

# --- rescan makes the same again ---
my $all = q(SELECT string_agg(s::text, E'\n' ORDER BY s.timeline, s.start_lsn) FROM (
	SELECT timeline, name, start_lsn, decode_state, first_record_lsn, last_record_lsn, records, commits, aborts, first_commit_time,
		last_commit_time, min_commit_time, max_commit_time, min_xid, max_xid
	FROM walarchive.segment WHERE state = 'finished') s);
my $before = $host->safe_psql('postgres', $all);
$host->safe_psql('postgres', q(SELECT walarchive.rescan('prod')));
ok(wait_for('all to be decoded again', sub { $host->safe_psql('postgres', $pending) eq '0' }), 'rescan decodes all again');
is($host->safe_psql('postgres', $all), $before, 'and finds the same');

# --- the decoder dies in one segment ---
switch_wal($standby, 1);
wait_archived($host, 'prod', $standby);
my $victim = (grep { !/history/ } wal_files($dir))[-1];
ok(wait_for('the victim', sub { $host->safe_psql('postgres', $catalogued) == (grep { !/history/ } wal_files($dir)) && $host->safe_psql('postgres', $pending) eq '0' }),
	'a segment to die in is there');
arm_faults($host, "open:KILL:$victim\$");
$host->safe_psql('postgres', q(SELECT walarchive.rescan('prod')));
my $state = qq(SELECT decode_state FROM walarchive.segment WHERE name = '$victim');
ok(wait_for('quarantine', sub { $host->safe_psql('postgres', $state) eq 'quarantined' }),
	'three deaths: the segment is quarantined');
like($host->safe_psql('postgres', "SELECT damage FROM walarchive.segment WHERE name = '$victim'"),
	qr/the decoder died 3 times at this record, .*signal 9/, 'and says why');
ok(wait_event($host, 'prod', 'damage'), 'there is an event');
switch_wal($standby, 2);
ok(wait_decoded($standby), 'what comes behind is decoded');
is($host->safe_psql('postgres', q(SELECT count(*) FROM walarchive.segment WHERE decode_state = 'quarantined')), '1',
	'nothing else is set aside');
is(stat_of($host, 'prod', 'state'), 'streaming', 'streaming never noticed');
disarm_faults($host);
$host->safe_psql('postgres', q(SELECT walarchive.rescan('prod')));
ok(wait_for('rescan', sub { $host->safe_psql('postgres', $pending) eq '0' }), 'rescan tries it again, and now it is read');
is($host->safe_psql('postgres', 'SELECT count(*) FROM walarchive.segment WHERE damage IS NOT NULL'), '0',
	'nothing is said against it any more');

# --- a flipped bit ---
switch_wal($standby, 1);
wait_archived($host, 'prod', $standby);
my $bad = (grep { !/history/ } wal_files($dir))[-1];
ok(wait_for('the segment', sub { $host->safe_psql('postgres', $catalogued) == (grep { !/history/ } wal_files($dir)) && $host->safe_psql('postgres', $pending) eq '0' }),
	'a segment to damage is there');
my $good = read_file_bytes("$dir/$bad");
my $offset = 8192 * 0 + 100;
open(my $fh, '+<:raw', "$dir/$bad") or die $!;
seek($fh, $offset, 0);
print $fh chr(ord(substr($good, $offset, 1)) ^ 4);
close($fh);
$host->safe_psql('postgres', q(SELECT walarchive.rescan('prod')));
ok(wait_for('damage', sub { $host->safe_psql('postgres', "SELECT decode_state FROM walarchive.segment WHERE name = '$bad'") eq 'damaged' }),
	'a damaged segment is known as such');
isnt($host->safe_psql('postgres', "SELECT damage FROM walarchive.segment WHERE name = '$bad'"), '', 'with the reason');
ok(wait_decoded($standby), 'what comes behind is decoded all the same');

done_testing();
