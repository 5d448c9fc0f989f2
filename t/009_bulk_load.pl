# A nightly load writes hundreds of megabytes while customers commit.  A
# receiver that flushes only when there is nothing more to read (as
# pg_receivewal does) confirms one commit per segment or so, and everybody else
# waits for the load to end.  Ours reads on while a flush is under way: commits
# go through one after the other, and segments end without holding them up.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;

my $primary = new_primary('primary', conf => q(
max_wal_size = 4GB
autovacuum = off
));
my $host = new_archive_host('archive');
add_source($host, 'prod', $primary);
make_synchronous($primary, 'walarchive_prod');
$primary->safe_psql('postgres', q(
	CREATE TABLE bulk (id int, filler text);
	CREATE TABLE small (id int, loading bool);
));
my $from = $primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');

# the load itself does not wait for the archive, so nothing slows it down; it
# goes on until the commits are done, within reason
my $load = start_sql($primary, q(
	SET synchronous_commit = local;
	SET application_name = 'load';
	DO $$
	BEGIN
		FOR i IN 1 .. 4000 LOOP
			EXIT WHEN i > 400 AND (SELECT count(*) FROM small) >= 100;
			INSERT INTO bulk SELECT g, repeat('x', 1000) FROM generate_series(1, 1000) g;
		END LOOP;
	END $$;
));
$primary->poll_query_until('postgres',
	"SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'load' AND state = 'active'")
  or BAIL_OUT('the load does not run');

# each commit notes whether the load was still running when the one before it
# had been acknowledged
my $commits = start_sql($primary, q(
	SELECT format('INSERT INTO small SELECT %s, count(*) > 0 FROM pg_stat_activity WHERE application_name = ''load'' AND state = ''active''', n)
	FROM generate_series(1, 100) n \gexec
));
is(scalar(sql_result($commits)), 0, 'a hundred synchronous commits are acknowledged');
is(scalar(sql_result($load)), 0, 'the load ends well');
my $during = $primary->safe_psql('postgres', 'SELECT count(*) FROM small WHERE loading');
note("$during of 100 commits began while the load was running");
cmp_ok($during, '>=', 50, 'commits go through one after the other while the load runs');

wait_archived($host, 'prod', $primary);
$primary->safe_psql('postgres', 'SELECT pg_switch_wal()');
wait_for('the last segment to be finished',
	sub { stat_of($host, 'prod', 'segments_completed') >= 400 })
  or BAIL_OUT('segments are not finished');
my $load_bytes = $primary->safe_psql('postgres', "SELECT (pg_current_wal_flush_lsn() - '$from')::bigint");
cmp_ok($load_bytes, '>', 400 * 1024 * 1024, 'the load wrote more than 400 segments');
my ($shared, $differ) = same_wal(wal_dir($host, 'prod'), $primary->data_dir . '/pg_wal');
cmp_ok($shared, '>=', 20, 'the primary still has enough of them to compare');
is($differ, '', 'and they are the same');

done_testing();
