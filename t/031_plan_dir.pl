# The archive host is dead, its disk is not.  What the client plans from the bare
# directory is what the archive host would have planned: the same backup, the same
# end to the byte, the same reason where there is no way.  So is what it lists and
# serves.  And what the host's catalog knew of damage the client finds by itself.
use strict;
use warnings FATAL => 'all';

use File::Copy;
use File::Path qw(make_path);
use FindBin;
use lib "$FindBin::RealBin/lib";
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;

my $seed = $ENV{WALARCHIVE_SEED} // 1;
$seed = int(rand(1_000_000)) if $seed eq 'random';
note("seed $seed");
srand($seed);

my $host = new_archive_host('archive');
my $primary = new_primary('primary', conf => q(
autovacuum = off
checkpoint_timeout = 1h
max_prepared_transactions = 10
wal_keep_size = 64MB
));
$primary->safe_psql('postgres', 'CREATE TABLE t (i int)');
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
add_source($host, 'prod', $primary, conninfo => one_of($primary, $standby));
my $wal = wal_dir($host, 'prod');

sub sql { return $host->safe_psql('postgres', $_[0]); }

my $named = 0;
my $gid = 0;

# Transactions of all sorts, restore points, prepared ones that stay open or not.
sub work
{
	my ($node, $rounds, %opt) = @_;
	my $script = '';
	for my $i (1 .. $rounds)
	{
		my $dice = int(rand(10));
		$script .= "INSERT INTO t VALUES ($i);\n" if $dice < 4;
		$script .= "BEGIN; INSERT INTO t VALUES ($i); ROLLBACK;\n" if $dice == 4;
		$script .= "BEGIN; INSERT INTO t VALUES ($i); SAVEPOINT s; INSERT INTO t VALUES ($i); RELEASE s; COMMIT;\n" if $dice == 5;
		$script .= "SELECT pg_create_restore_point('point " . ++$named . "');\n" if $dice == 6;
		$script .= "SELECT pg_create_restore_point('again');\n" if $dice == 7;
		if ($dice == 8 && !$opt{lost})
		{
			$gid++;
			$script .= "BEGIN; INSERT INTO t VALUES ($i); PREPARE TRANSACTION 'p$gid';\n";
			$script .= (rand() < 0.5 ? 'COMMIT' : 'ROLLBACK') . " PREPARED 'p$gid';\n" if rand() < 0.8 || $gid % 4 == 0;
		}
		$script .= "SELECT pg_switch_wal();\n" if $dice == 9;
	}
	$node->safe_psql('postgres', $script);
	return;
}

# labels of their own: the usual ones are a second apart
my $taken = 0;
sub backup { return sql("SELECT walarchive.take_backup('prod', label => 'b" . ++$taken . "')"); }

work($primary, 15);
my @backups = backup();
work($primary, 30);
push @backups, backup();
work($primary, 20);
switch_wal($primary, 2);
work($primary, 10);
$primary->safe_psql('postgres', 'INSERT INTO t VALUES (0)');
switch_wal($primary, 1);
work($primary, 10);
wait_archived($host, 'prod', $primary);
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));

# --- a failover ---
$primary->stop('immediate');
$standby->promote;
wait_for('the archive to follow', sub { stat_of($host, 'prod', "received_tli = 2 AND state = 'streaming'") eq 't' })
  or BAIL_OUT('the archive does not follow');
work($standby, 20);
push @backups, backup();
work($standby, 20);
# a hole, which the last backup is behind of
switch_wal($standby, 3);
my $lost = $standby->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_lsn())');
# nothing is prepared there: the host would remember that, the directory can't
work($standby, 5, lost => 1);
switch_wal($standby, 2);
push @backups, backup();
work($standby, 20);
$standby->safe_psql('postgres', "BEGIN; INSERT INTO t VALUES (0); PREPARE TRANSACTION 'left open'; INSERT INTO t VALUES (1);");
wait_archived($host, 'prod', $standby);
ok(-f "$wal/$lost", 'a segment is there');
unlink("$wal/$lost") or die "$wal/$lost: $!";
sql(q(SELECT walarchive.rescan('prod')));
ok(wait_for('the hole', sub { sql(q(SELECT count(*) FROM walarchive.gap WHERE source = 'prod' AND closed_at IS NULL)) eq '1' }),
	'and now it is lost');
my $end = $standby->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
# all is decoded, and the backups have been looked at
ok(wait_for('the indexer', sub { sql(q(
	SELECT bool_and(state = 'usable') AND count(*) = 4 FROM walarchive.backup WHERE source = 'prod')) eq 't' }), 'all backups are usable')
	or diag(sql(q(SELECT * FROM walarchive.backup WHERE source = 'prod')));
ok(wait_for('the indexer', sub { sql(qq(
	SELECT max(to_lsn) >= '$end' FROM walarchive.wal_run WHERE source = 'prod' AND timeline = 2)) eq 't' }), 'all is indexed');
$standby->stop('immediate');
wait_for('the source to be gone', sub { stat_of($host, 'prod', 'state') ne 'streaming' });
# a snapshot of transactions may have come last
wait_for('the last of it', sub { stat_of($host, 'prod', 'decode_lag_bytes = 0') eq 't' });

# --- the same questions, put to both ---
my @of_host = ('-d', 'postgres', '-h', $host->host, '-p', $host->port);
my @of_dir = ('--archive', $host->{wa_directory});

# Without what names the plan, and the sentences.
sub planned
{
	my ($where, @options) = @_;
	my ($out, $err);
	my $rc = IPC::Run::run([ 'walarchive', 'plan', '--json', '--files', '--source', 'prod', @$where, @options ], '>', \$out, '2>', \$err) ? 0 : $? >> 8;
	return { error => $err, code => $rc } if $rc > 1;
	my $plan = decode_json($out);
	delete $plan->{plan};
	delete $plan->{hint};
	$plan->{code} = $rc;
	return $plan;
}

my @xacts = map { [ split /\|/ ] } map { split /\n/, sql(qq(
	SELECT start_lsn, end_lsn, xid, xact_time AT TIME ZONE 'UTC' FROM walarchive.commits('prod', timeline => $_))) } 1, 2;
my @lsns = map { $_->[0], $_->[1] } @xacts;
my %kinds = (feasible => 0);
my $bad = 0;
for my $n (1 .. ($ENV{WALARCHIVE_TARGETS} // 150))
{
	my $xact = $xacts[ int(rand(@xacts)) ];
	my $kind = int(rand(8));
	my @target;
	if ($kind < 2)
	{
		my $time = $xact->[3];
		$time =~ s/(\d)$/($1 + 1) % 10/e if rand() < 0.3;
		@target = ("--to-time=${time}Z");
	}
	elsif ($kind < 4) { @target = ('--to-lsn=' . $lsns[ int(rand(@lsns)) ]); }
	elsif ($kind == 4) { @target = ('--to-xid=' . ($xact->[2] + (rand() < 0.1 ? 1 : 0))); }
	elsif ($kind == 5) { @target = ('--to-name=' . (rand() < 0.2 ? 'again' : 'point ' . (1 + int(rand($named + 1))))); }
	elsif ($kind == 6) { @target = ('--to-immediate'); }
	else { @target = ('--to-end'); }
	push @target, '--exclusive' if $kind < 5 && rand() < 0.4;
	push @target, '--timeline=' . (1 + int(rand(3))) if rand() < 0.4;
	push @target, '--backup=' . ($backups[ int(rand(@backups)) ]) if rand() < 0.4;

	my $of_host = planned(\@of_host, @target);
	my $of_dir = planned(\@of_dir, @target);
	$kinds{ $of_host->{feasible} ? 'feasible' : $of_host->{reason} // 'error' }++;
	next if JSON::PP->new->canonical->encode($of_host) eq JSON::PP->new->canonical->encode($of_dir) && !$of_host->{error};
	if ($bad++ < 5)
	{
		diag("@target");
		is_deeply($of_dir, $of_host, 'the same plan');
	}
}
note(join ', ', map { "$_: $kinds{$_}" } sort keys %kinds);
is($bad, 0, 'the plans are the same');
cmp_ok($kinds{feasible}, '>=', 20, 'many are feasible');
cmp_ok(scalar(keys %kinds), '>=', 5, 'others are not, for several reasons');

# --- the host is dead ---
my $alive = planned(\@of_host, '--to-end', '--timeline=1');
$host->stop('immediate');
my $dead = planned(\@of_dir, '--to-end', '--timeline=1');
is_deeply($dead, $alive, 'a plan without the host');
ok($dead->{feasible}, 'to the end of the first timeline');

# --- damage ---
# a commit's checksum, in a segment that the plan needs, but not the first
my %needed = map { $_->{name} => 1 } grep { $_->{kind} eq 'wal' && $_->{name} =~ /^00000001/ } @{ $dead->{files} };
delete $needed{ (sort keys %needed)[0] };
my ($victim, $place);
for my $lsn (map { $_->[0] } @xacts)
{
	my ($high, $low) = map { hex } split m{/}, $lsn;
	my $name = sprintf('00000001%08X%08X', $high, $low >> 20);
	($victim, $place) = ($name, $low & 0xFFFFF) if $needed{$name} && -f "$wal/$name";
}
ok($victim, 'several segments are needed');
open my $fh, '+<', "$wal/$victim" or die $!;
binmode $fh;
my $before;
seek $fh, $place + 20, 0;
read $fh, $before, 4;
seek $fh, $place + 20, 0;
print $fh ($before ^ "\x01\x01\x01\x01");
close $fh;
my $damaged = planned(\@of_dir, '--to-end', '--timeline=1');
ok(!$damaged->{feasible}, 'not with a damaged segment on the way');
is($damaged->{reason}, 'damage', 'for that reason');
my ($out, $err);
IPC::Run::run([ 'walarchive', 'plan', '--source', 'prod', @of_dir, '--to-end', '--timeline=1' ], '>', \$out, '2>', \$err);
like($out, qr/damaged at /, 'which is told');
my ($offer) = $out =~ /before it that can be reached: (--to-lsn=\S+)/ or diag($out);
ok($offer, 'and what would do');
$offer =~ s/\.$// if $offer;
ok(planned(\@of_dir, $offer // '--to-lsn=0/0', '--timeline=1')->{feasible}, 'does');

# --- as pg_receivewal leaves it ---
my $plain = PostgreSQL::Test::Utils::tempdir();
copy($_, $plain) or die $! for glob("$wal/*");
is(planned([ '--archive', $plain ], '--to-end')->{reason}, 'no_backup', 'a directory of WAL alone has no backup to begin with');
ok(planned([ '--archive', "$plain/none" ], '--to-end')->{error}, 'a directory that is not there');

done_testing();
