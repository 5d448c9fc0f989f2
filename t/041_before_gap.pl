# WAL is lost for good: the archive ends in the middle of a segment, and goes on far
# behind.  A receiver that starts knows its end only as the last byte that is not
# zero, and a record may end in zeros: those that fill it up to a multiple of eight
# bytes, or those of what it logs.  A recovery that comes there finds zeros
# in the file as well, and replays the record.  So what is planned there must be what
# happens: up to that record, and not a byte further.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalRestore qw(archive_args copy_sql new_place restore_copy stop_copy take_backup wait_decoded);

my $host = new_archive_host('archive');
my $primary = new_primary('primary', conf => q(
autovacuum = off
checkpoint_timeout = 1h
min_wal_size = 2MB
max_wal_size = 8MB
));
my @archive = archive_args($host);

sub on_primary { return $primary->safe_psql('postgres', $_[0]); }
sub on_host { return $host->safe_psql('postgres', $_[0]); }
my $rows = q(SELECT string_agg(i::text, ' ' ORDER BY i) FROM t);

on_primary('CREATE TABLE t (i int)');
add_source($host, 'prod', $primary);
# nothing is written that is not written here
hold_snapshots($primary);

# The archive misses what comes now, and goes on behind it.
sub lose_wal
{
	my ($what, $number) = @_;
	on_host(q(SELECT walarchive.pause_source('prod')));
	wait_state($host, 'prod', 'paused');
	ok(wait_for('the slot to be let go', sub {
		on_primary(q(SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'walarchive_prod')) eq 't' }), "$what: the archive is away");
	on_primary(q(SELECT pg_drop_replication_slot('walarchive_prod')));
	switch_wal($primary, 12);
	on_primary('CHECKPOINT');
	switch_wal($primary, 2);
	on_primary('CHECKPOINT');
	on_host(q(SELECT walarchive.resume_source('prod')));
	wait_streaming($host, 'prod');
	ok(wait_event($host, 'prod', 'gap', $number), "$what: there is a gap");
	wait_decoded($host, $primary);
	return;
}

my $lost = 0;
my @cases = (
	{ what => 'commit', kind => 'xid',
		write => sub { on_primary('BEGIN; INSERT INTO t VALUES (1); SELECT pg_current_xact_id(); COMMIT') } },
	{ what => 'message', kind => 'lsn',
		write => sub {
			on_primary('INSERT INTO t VALUES (2)');
			my $begin = on_primary('SELECT pg_current_wal_insert_lsn()');
			on_primary(q(SELECT pg_logical_emit_message(false, 'test', decode(repeat('00', 100), 'hex'))));
			return $begin } });
for my $case (@cases)
{
	take_backup($host, "b$case->{kind}");
	$case->{target} = $case->{write}->();
	$case->{end} = on_primary('SELECT pg_current_wal_insert_lsn()');
	$case->{rows} = on_primary($rows);
	wait_decoded($host, $primary);
	# (a message is not waited for by whoever wrote it)
	ok(wait_for('the last record to be archived', sub { stat_of($host, 'prod', "written_lsn >= '$case->{end}' AND decoded_lsn >= '$case->{end}'") eq 't' }),
		"$case->{what}: it is archived");
	lose_wal($case->{what}, ++$lost);
}
is(on_host(qq(SELECT from_lsn < '$cases[1]{end}'::pg_lsn - 8 FROM walarchive.gap ORDER BY from_lsn DESC LIMIT 1)), 't',
	'to the receiver the gap begins in the middle of the last record');

for my $round ('as it was read while it came', 'as it is read anew')
{
	for my $case (@cases)
	{
		my ($what, $kind, $end) = @$case{qw(what kind end)};
		my $plan;
		ok(wait_for('the plan', sub {
			($plan = on_host("SELECT feasible, stop_lsn, backup FROM walarchive.plan_restore('prod', target_$kind => '$case->{target}')")) eq "t|$end|b$kind" }),
			"$round: $what: the last record before the gap is planned") or diag($plan);
		is(on_host("SELECT feasible, reason FROM walarchive.plan_restore('prod', target_lsn => '$end')"), 'f|gap',
			"$round: $what: nothing behind it is");
		is(on_host("SELECT max(end_lsn) FROM walarchive.wal_records('prod', '$end'::pg_lsn - 256, '$end'::pg_lsn + 8)"), $end, "$round: $what: it is shown");
	}
	on_host(q(SELECT walarchive.rescan('prod'))) if $round =~ /came/;
	wait_decoded($host, $primary);
}
for my $case (@cases)
{
	my ($what, $kind, $end) = @$case{qw(what kind end)};
	my $option = "--to-$kind=$case->{target}";
	for my $from ([ 'the archive host', @archive ], [ 'its directory', '--archive', $host->{wa_directory}, '--source=prod' ])
	{
		my ($where, @from) = @$from;
		my ($code, $result, $err) = restore_copy(new_place(), @from, '--start', '--target-action=pause', $option);
		is($code, 0, "$what, from $where: it is restored") or diag($err);
		ok($result->{agrees}, "$what, from $where: as planned");
		is(copy_sql($result, $rows), $case->{rows}, "$what, from $where: with all that was committed by then");
		stop_copy($result->{data_directory}) if $result->{data_directory};
	}
}

done_testing();
