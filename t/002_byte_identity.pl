# A team has pg_receivewal's archives and tools around them.  It runs
# walarchive beside pg_receivewal for a month, then compares: under every kind
# of load and after a failover, each finished segment and each history file
# must have the same name and the same bytes, or nobody will switch over.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;

my $host = new_archive_host('archive');
my $primary = new_primary('primary', conf => "wal_keep_size = 4GB\nmax_wal_size = 1GB\nautovacuum = on\nmax_connections = 30\n");

# Both begin in the same segment.
$primary->safe_psql('postgres', q(
	SELECT pg_create_physical_replication_slot('receivewal', true),
		   pg_create_physical_replication_slot('walarchive_prod', true)));
my ($receivewal, $theirs) = start_receivewal($primary);

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "primary_slot_name = 'standby'\n");
$primary->safe_psql('postgres', q(SELECT pg_create_physical_replication_slot('standby', true)));
$standby->start;

add_source($host, 'prod', $primary, conninfo => one_of($primary, $standby));
my $ours = wal_dir($host, 'prod');

# Everything at once; returns when all is committed.
sub load
{
	my ($node, $scale, $switches) = @_;
	my @sessions;

	my $rows = 20000 * $scale;
	push @sessions, start_sql($node, qq(
		CREATE TABLE IF NOT EXISTS bulk (i int, t text);
		COPY bulk (i) FROM PROGRAM 'seq 1 $rows';
		INSERT INTO bulk SELECT i, repeat('x', 50) FROM generate_series(1, $rows) i;
	));
	for my $session (0 .. 3)
	{
		push @sessions, start_sql($node, join('', map {
			"CREATE TABLE many_${scale}_${session}_$_ AS SELECT i, repeat('y', 20) AS t FROM generate_series(1, 1000) i;\n"
			  . "CREATE INDEX ON many_${scale}_${session}_$_ (i);\n"
			  . "UPDATE many_${scale}_${session}_$_ SET t = 'z' WHERE i % 3 = 0;\n"
		} 1 .. 25));
	}
	push @sessions, start_sql($node, "SELECT pg_logical_emit_message(true, 'switch', 'x');\nSELECT pg_switch_wal();\n" x $switches);
	$node->command_ok([ 'pgbench', '-h', $node->host, '-p', $node->port, '-i', '-q', '-s', $scale, 'postgres' ],
		'pgbench is initialised during other load');
	$node->command_ok([ 'pgbench', '-h', $node->host, '-p', $node->port, '-n', '-c', 4, '-t', 200 * $scale, 'postgres' ],
		'pgbench runs');
	is(join(' ', map { scalar(sql_result($_)) } @sessions), '0 0 0 0 0 0', 'all other load was committed');
	return;
}

# End the present segment and wait until both archives have it.  Returns its name.
sub settle
{
	my ($node) = @_;
	my $last = $node->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_lsn())');
	switch_wal($node, 1);
	my $past = $node->safe_psql('postgres', q(
		SELECT pg_logical_emit_message(true, 'after', 'x')));
	ok(wait_for("$last in both archives",
		sub { -e "$ours/$last" && -e "$theirs/$last" }), "both archives have $last");
	wait_archived($host, 'prod', $node);
	return $last;
}

# Autovacuum may go on meanwhile, and one archive be a segment ahead of the other:
# what both have to have are the files up to one segment.
sub compare
{
	my ($when, $last) = @_;
	my @ours = grep { $_ le $last } wal_files($ours);
	my @theirs = grep { $_ le $last } wal_files($theirs);

	is_deeply(\@ours, \@theirs, "$when: the same names");
	my ($number, $differ) = same_wal($ours, $theirs);
	is($differ, '', "$when: the same bytes in $number files");
	return $number;
}

# --- on the first timeline ---
load($primary, 5, 350);
cmp_ok(compare('after the load', settle($primary)), '>', 350, 'enough segments');

# --- the standby takes over ---
ok(wait_for('the standby to have all', sub {
	$primary->safe_psql('postgres',
		q(SELECT replay_lsn = pg_current_wal_flush_lsn() FROM pg_stat_replication WHERE application_name = 'standby')) eq 't' }),
	'the standby has all WAL');
stop_process($receivewal);
$primary->stop('fast');
$standby->promote;
is($standby->safe_psql('postgres', 'SELECT pg_is_in_recovery()'), 'f', 'the standby is promoted');

# pg_receivewal needs its slot there; ours is made by the receiver
$standby->safe_psql('postgres', q(SELECT pg_create_physical_replication_slot('receivewal', true)));
($receivewal) = start_receivewal($standby, dir => $theirs, create => 0);
wait_timeline($host, 'prod', 2);
load($standby, 2, 50);
cmp_ok(compare('after the promotion', settle($standby)), '>', 400, 'and more segments');
ok(-e "$ours/00000002.history", 'with the history of the new timeline');

# what either keeps of the timeline that was left
my ($left) = grep { /^00000001.*partial$/ } wal_files($theirs, partial => 1);
is_deeply([ grep { /^00000001.*partial$/ } wal_files($ours, partial => 1) ], [$left],
	"the old timeline's last segment stays partial, as with pg_receivewal");
ok(same_file("$ours/$left", "$theirs/$left"), 'and has the same bytes');
is($standby->safe_psql('postgres', q(SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'walarchive_prod' AND active)),
	'1', 'the slot was made on the promoted server');
stop_process($receivewal);

done_testing();
