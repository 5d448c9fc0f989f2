# Somebody has to go back in time, and asks first where he would arrive.  The
# archive has a life of transactions, prepared ones over several segments, restore
# points and a table that was dropped; what plan_restore() says of
# each of them must be what the WAL says, while more of it is streaming in.  What a
# plan holds stays although it is expired.  In the end one of the plans is carried
# out with tar and cp, and PostgreSQL ends where it was promised, with the prepared
# transactions that were named.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalRestore qw(wait_decoded);

# what is freed is overwritten at once, so that nothing is shown that was freed
$ENV{MALLOC_PERTURB_} = 165;
my $host = new_archive_host('archive');
delete $ENV{MALLOC_PERTURB_};
my $primary = new_primary('primary', conf => "max_prepared_transactions = 10\nautovacuum = off\n");
add_source($host, 'prod', $primary, args => q(relation_names_interval => '10 s'));

sub sql { return $host->safe_psql('postgres', $_[0]); }

# A plan as a hash.
sub planned
{
	my ($args, $function) = @_;
	my $call = ($function // 'plan_restore') . "('prod'" . ($args ? ", $args" : '') . ')';
	my @columns = qw(plan_id feasible reason hint backup timeline timeline_path start_lsn stop_lsn last_commit_xid
	  last_commit_lsn segments wal_bytes backup_bytes prepared settings);
	my %p;
	@p{@columns} = split(/\x01/, sql("SELECT concat_ws(E'\\x01', "
			. join(', ', map { "coalesce(p.$_\::text, '')" } @columns) . ") FROM walarchive.$call p"), -1);
	$p{feasible} = substr($p{feasible}, 0, 1);
	return \%p;
}

sub take
{
	my ($label, $args) = @_;
	sql("SELECT walarchive.take_backup('prod', label => '$label', compression => 'none'" . ($args ? ", $args" : '') . ')');
	return wait_for("$label to be usable", sub { sql("SELECT state FROM walarchive.backup WHERE label = '$label'") eq 'usable' });
}

sub commit
{
	my ($what) = @_;
	my ($xid) = $primary->safe_psql('postgres', "BEGIN; $what; SELECT pg_current_xact_id()::xid; COMMIT") =~ /(\d+)\s*$/;
	return $xid;
}

# --- before there is a backup ---
$primary->safe_psql('postgres', 'CREATE TABLE t (i int); CREATE TABLE orders AS SELECT generate_series(1, 1000) AS id');
ok(wait_for('WAL in the catalog', sub { sql(q(SELECT count(*) > 0 FROM walarchive.wal_run WHERE source = 'prod')) eq 't' }),
	'something is indexed');
my $p = planned();
is("$p->{feasible} $p->{reason}", 'f no_backup', 'nothing can be recovered without a backup');
is($p->{plan_id}, '', 'what is not feasible has no number');
my $long = 'x' x 20_000;
like(sql("SELECT walarchive.plan_report('prod', target_name => '$long')"), qr/^Restore of source "prod" to .*$long.*: not feasible \(\w+\)\n  why +no restore point .*\n  see +SELECT .*;$/,
	'a report is whole, however long');
ok(take('first'), 'a backup');

ok(wait_for('the name of orders', sub { sql(q(SELECT count(*) FROM walarchive.relation_name WHERE name = 'public.orders')) ne '0' }),
	'names are known');

# --- a life ---
my @xids;
my $in_the_middle;
for my $i (1 .. 5)
{
	push @xids, commit("INSERT INTO t VALUES ($i)");
	$primary->safe_psql('postgres', "BEGIN; INSERT INTO t VALUES (0); ROLLBACK; SELECT pg_create_restore_point('point $i')");
}
my $lost = $primary->safe_psql('postgres', q(
	BEGIN; INSERT INTO t VALUES (100); PREPARE TRANSACTION 'long';
	BEGIN; INSERT INTO t VALUES (101); PREPARE TRANSACTION 'short'; COMMIT PREPARED 'short'));
switch_wal($primary);
$primary->safe_psql('postgres', q(BEGIN; INSERT INTO t VALUES (102); PREPARE TRANSACTION 'it''s "odd"'));
$in_the_middle = commit('INSERT INTO t VALUES (6)');
switch_wal($primary);
commit('INSERT INTO t VALUES (7)');
$primary->safe_psql('postgres', "COMMIT PREPARED 'long'; CHECKPOINT");
my $before_drop = commit('INSERT INTO t VALUES (8)');
my $drop = commit('DROP TABLE orders');
my $after_drop = commit('INSERT INTO t VALUES (9)');

# --- each commit and abort in the archive, by its number and its place ---
wait_decoded($host, $primary);
$p = planned();
is("$p->{feasible} $p->{last_commit_xid}", "t $after_drop", 'the end of the archive is what has been committed last');
my @commits = map { [ split(/\|/) ] } split(/\n/,
	sql("SELECT xid, start_lsn, end_lsn, kind, xact_time FROM walarchive.commits('prod', from_lsn => (SELECT consistent_lsn FROM walarchive.backup))"));
ok(@commits > 15, 'there are commits: ' . scalar(@commits));
my ($wrong, $last) = ('', '');
for my $c (@commits)
{
	my ($xid, $start, $end, $kind, $time) = @$c;
	my $is_commit = $kind =~ /commit/;
	my $in = planned("target_xid => '$xid'");
	my $out = planned("target_xid => '$xid', inclusive => false");
	my $at = planned("target_lsn => '$start'");
	$wrong .= "$xid: $in->{feasible} $in->{stop_lsn} $in->{hint}\n"
	  if $in->{stop_lsn} ne $end || $in->{last_commit_xid} ne ($is_commit ? $xid : $last);
	# what was committed before may have come with the backup
	$wrong .= "$xid exclusive: $out->{feasible} $out->{last_commit_xid}, not $last; $out->{hint}\n"
	  if $out->{feasible} ne 't' || ($last ne '' && $out->{last_commit_xid} ne $last);
	$wrong .= "$xid by $start: $at->{stop_lsn}\n" if $at->{stop_lsn} ne $end;
	$last = $xid if $is_commit;
}
is($wrong, '', 'each commit and abort can be reached, and left out');

# by time: between two commits of different times recovery ends after the first
$wrong = '';
my $checked = 0;
for my $i (0 .. $#commits - 1)
{
	my ($c, $n) = @commits[ $i, $i + 1 ];
	my $expected = sql("SELECT xid FROM walarchive.commits('prod', from_lsn => (SELECT start_lsn FROM walarchive.backup), to_lsn => '$n->[1]')
		WHERE kind LIKE 'commit%' ORDER BY start_lsn DESC LIMIT 1");
	next if sql("SELECT '$n->[4]'::timestamptz <= (SELECT max(xact_time) FROM walarchive.commits('prod', to_lsn => '$n->[1]'))") eq 't';
	my $by = planned("target_time => '$n->[4]'::timestamptz - interval '1 us'");
	my $exclusive = planned("target_time => '$n->[4]', inclusive => false");
	$checked++;
	$wrong .= "$n->[4]: $by->{last_commit_xid}, $exclusive->{last_commit_xid}, not $expected; $by->{hint}\n"
	  if $by->{last_commit_xid} ne $expected || $exclusive->{last_commit_xid} ne $expected;
}
is($wrong, '', 'each commit can be left out by time');
ok($checked > 10, "times that were looked at: $checked");

for my $i (1 .. 5)
{
	$p = planned("target_name => 'point $i'");
	is("$p->{feasible} $p->{last_commit_xid} $p->{stop_lsn}",
		"t $xids[$i - 1] " . sql("SELECT end_lsn FROM walarchive.restore_point WHERE name = 'point $i'"), "restore point $i");
}
$p = planned(q(target_name => 'nowhere'));
is("$p->{feasible} $p->{reason}", 'f unknown_name', 'a name that is not there');
$p = planned("target_time => '$commits[-1][4]'");
is("$p->{feasible} $p->{reason}", 'f past_last_commit', 'nothing is later than the last commit');
like($p->{hint}, qr/before it that can be reached: no target \(the end of the archive\)/, 'the end of the archive is offered instead')
  or diag($p->{hint});
$p = planned("target_time => '2020-01-01'");
is("$p->{feasible} $p->{reason}", 'f no_backup', 'nothing is that old');
my ($offered) = $p->{hint} =~ /after it[^:]*: (.*)\.$/;
is(planned($offered)->{feasible}, 't', "what is offered can be had: $offered") or diag($p->{hint});
$p = planned(q(target_lsn => 'FFFFFFFF/0'));
is("$p->{feasible} $p->{reason}", 'f not_archived', 'a place that is not archived');

# --- prepared transactions ---
is(planned("target_xid => '$in_the_middle'")->{prepared}, q({"it's \"odd\"",long}),
	'prepared transactions that are open there, over segments');
is(planned()->{prepared}, q({"it's \"odd\""}), 'and at the end');
is(planned("target_name => 'point 5'")->{prepared}, '{}', 'not before they were prepared');
like(planned("target_xid => '$in_the_middle'")->{hint}, qr/ROLLBACK PREPARED/, 'what to do about them');

# --- what was dropped ---
$p = planned(q('public.orders'), 'plan_undo');
is("$p->{feasible} $p->{last_commit_xid}", "t $before_drop", 'a dropped table: the plan ends just before') or diag($p->{hint});
like($p->{hint}, qr/Just before transaction $drop .*drop of /, 'and says of what');

# --- while more is streaming in ---
my $busy = start_sql($primary, q(DO $$ BEGIN FOR i IN 1 .. 1000000 LOOP
	INSERT INTO t VALUES (i); COMMIT; IF i % 50 = 0 THEN PERFORM pg_sleep(0.01); END IF; END LOOP; END $$));
my $feasible = 0;
for my $i (1 .. 20)
{
	my $mark = commit("INSERT INTO t VALUES (-$i)");
	wait_archived($host, 'prod', $primary);
	# a plan waits for the indexer, but not for ever
	my $asked = sub {
		my ($target) = @_;
		my $found;
		wait_for('the indexer', sub { $found = planned($target); $found->{reason} ne 'not_indexed' });
		note("$found->{reason} $found->{hint}") if $found->{feasible} ne 't';
		return $found->{feasible} eq 't';
	};
	$feasible++ if $asked->() && $asked->("target_xid => '$mark'");
}
is($feasible, 20, 'what is archived can be planned for at once, however busy the server is');
$primary->safe_psql('postgres', 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE $$DO%$$ AND pid <> pg_backend_pid()');
sql_done($busy);

# --- the files ---
$p = planned("target_xid => '$in_the_middle', hold => '1 h'");
my @files = map { [ split(/\|/, $_, -1) ] } split(/\n/,
	sql("SELECT kind, label, name, timeline, size, sha256 FROM walarchive.plan_files($p->{plan_id})"));
my ($folder) = glob(archive_dir($host, 'prod') . '/[0-9]*/backup/first');
is(join(' ', map { $_->[2] } grep { $_->[0] eq 'backup' } @files), 'backup_manifest backup.json base.tar', 'files of the backup');
is((grep { $_->[2] eq 'base.tar' } @files)[0][4], -s "$folder/base.tar", 'their size');
my @wal = map { $_->[2] } grep { $_->[0] eq 'wal' } @files;
is(scalar(@wal), $p->{segments}, 'as many WAL files as the plan says');
is(join(' ', grep { !-e wal_dir($host, 'prod') . "/$_" } @wal), '', 'all of them are there');
is($wal[0], sql("SELECT name FROM walarchive.segment WHERE '$p->{start_lsn}' >= start_lsn AND '$p->{start_lsn}' < end_lsn"), 'from the first one on');

# --- what is held stays ---
ok(take('second'), 'another backup');
commit('INSERT INTO t VALUES (10)');
sql(q(SELECT count(*) FROM walarchive.expire('prod', 1, dry_run => false)));
ok(sql(q(SELECT count(*) FROM walarchive.backup WHERE label = 'first')) eq '1' && -d $folder,
	'a backup that a plan holds is not expired');
is(sql("SELECT held_until > now() FROM walarchive.restore_plan WHERE plan_id = $p->{plan_id}"), 't', 'the hold is seen');

# --- carry it out, by hand ---
my $copy = PostgreSQL::Test::Cluster->new('copy');
my $data = $copy->data_dir;
system_or_bail('rm', '-rf', $data);
mkdir($data, 0700) or die "mkdir: $!";
system_or_bail('tar', '-x', '-C', $data, '-f', "$folder/base.tar");
my $wal_dir = wal_dir($host, 'prod');
$copy->append_conf('postgresql.conf', "port = " . $copy->port . "\nunix_socket_directories = '" . $copy->host . "'\nlisten_addresses = ''\n"
	  . "restore_command = 'cp \"$wal_dir/%f\" \"%p\"'\narchive_mode = off\nrecovery_target_action = pause\nhot_standby = on\n");
$copy->append_conf('postgresql.conf', $p->{settings});
$copy->append_conf('recovery.signal', '');
$copy->start;
ok(wait_for('the end of recovery', sub { $copy->safe_psql('postgres', 'SELECT pg_get_wal_replay_pause_state()') eq 'paused' }), 'recovery ends');
is($copy->safe_psql('postgres', 'SELECT pg_last_wal_replay_lsn()'), $p->{stop_lsn}, 'where it was promised');
$copy->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
ok(wait_for('the copy to be promoted', sub { $copy->safe_psql('postgres', 'SELECT pg_is_in_recovery()') eq 'f' }), 'it is promoted');
is($copy->safe_psql('postgres', 'SELECT array_agg(gid ORDER BY gid COLLATE "C") FROM pg_prepared_xacts'), $p->{prepared}, 'with the prepared transactions that were named');
is($copy->safe_psql('postgres', "SELECT max(i) FROM t WHERE i BETWEEN 0 AND 50"), '6', 'and the rows of that moment');
$copy->stop;

is(sql("SELECT walarchive.release_plan($p->{plan_id})"), 't', 'the hold is released');
sql(q(SELECT count(*) FROM walarchive.expire('prod', 1, dry_run => false)));
ok(wait_for('the backup to go', sub { !-d $folder }), 'then the backup goes');
is(sql(q(SELECT count(*) FROM walarchive.backup WHERE label = 'first')), '0', 'out of the catalog as well')
  if wait_for('its row to go', sub { sql(q(SELECT count(*) FROM walarchive.backup WHERE label = 'first')) eq '0' });
my ($code, $out, $err) = $host->psql('postgres', "SELECT walarchive.renew_plan($p->{plan_id}, '1 h')");
like($err, qr/has no backup "first"/, 'a plan that was not held can be past renewing');

done_testing();
