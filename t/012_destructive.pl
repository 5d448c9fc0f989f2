# On Monday somebody asks: "orders is empty, who did that, when, and can we have
# it back as it was a moment before?"  The answer has to name the table, to tell
# a TRUNCATE from a VACUUM FULL that was run by cron (both drop files), and the
# place that it names has to be right to the record: a restore to it has every
# row.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;

my $host = new_archive_host('archive');
my $primary = new_primary('primary', conf => q(
autovacuum = off
max_prepared_transactions = 10
wal_level = replica
checkpoint_timeout = 1h
bgwriter_delay = 10s
));
$primary->backup('base');
# (an observer would be connected to a database, now and then, that is to be
# dropped or copied)
add_source($host, 'prod', $primary, args => "relation_names_interval => '0'");

# What destructive_commits says about SQL that is run as a script: kinds, files
# and relation oids, a line each, in LSN order.
sub run
{
	my ($sql, %opt) = @_;
	my $from = $primary->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
	my ($rc, $out, $err) = $primary->psql($opt{dbname} // 'postgres', $sql, on_error_stop => 0);
	# something behind it, so that all of it is flushed
	$primary->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'end', 'x')");
	my $to = wait_archived($host, 'prod', $primary);
	return ($from, $to);
}

sub kinds
{
	my ($from, $to) = @_;
	return $host->safe_psql('postgres', qq(
		SELECT coalesce(string_agg(kind || CASE WHEN aborted THEN ' aborted' ELSE '' END || ' ' || dropped_files, ', ' ORDER BY n), '')
		FROM walarchive.destructive_commits('prod', from_lsn => '$from', to_lsn => '$to')
			WITH ORDINALITY d (timeline, start_lsn, end_lsn, xid, xact_time, kind, relations, database, dropped_files, aborted, restore_before_lsn, restore_before_time, n)));
}

# The primary's own words.
sub waldump
{
	my ($from, $to) = @_;
	my ($out, $err) = run_command([ 'pg_waldump', '-p', $primary->data_dir . '/pg_wal', '-s', $from, '-e', $to ]);
	return $out;
}

# Run and compare.
sub judge
{
	my ($sql, $wanted, $name, %opt) = @_;
	is(kinds(run($sql, %opt)), $wanted, $name);
	return;
}

# Each relation has got a file of another number than its oid, so that numbers
# alone tell nothing.
sub tables
{
	$primary->psql('postgres', q(
		DROP TABLE IF EXISTS a, b, c, e, plain, child, n, n2, n3 CASCADE;
		CREATE TABLE a (i int PRIMARY KEY, t text);
		INSERT INTO a SELECT g, repeat('y', 50) FROM generate_series(1, 1000) g;
		CREATE TABLE b (i serial PRIMARY KEY, t text);
		INSERT INTO b (t) SELECT repeat('z', 50) FROM generate_series(1, 1000) g;
		CREATE TABLE c (i int);
		INSERT INTO c SELECT generate_series(1, 1000);
		CREATE TABLE e (i int PRIMARY KEY);
		CREATE TABLE plain (i int);
		CREATE VIEW v AS SELECT * FROM a;));
	if (shift)
	{
		$primary->safe_psql('postgres', "VACUUM FULL $_") for qw(a b c e plain);
	}
	return;
}

# --- the proof: what is promised to be before it, is ---

# A copy of the base backup, restored from the archive's files to a target.
my $copies = 0;
sub restore_to
{
	my ($target) = @_;
	my $copy = PostgreSQL::Test::Cluster->new('restored_' . ++$copies);
	my $dir = wal_dir($host, 'prod');
	$copy->init_from_backup($primary, 'base');
	$copy->append_conf('postgresql.conf', qq(
restore_command = 'cp "$dir/%f" "%p"'
$target
recovery_target_timeline = '1'
recovery_target_action = 'promote'
));
	$copy->set_recovery_mode;
	$copy->start;
	$copy->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or BAIL_OUT("$target was not reached");
	return $copy;
}

$primary->safe_psql('postgres', q(
	CREATE TABLE marker (what text);
	CREATE TABLE truncated (i int PRIMARY KEY, t text); INSERT INTO truncated SELECT g, g FROM generate_series(1, 500) g;
	CREATE TABLE dropped (i int PRIMARY KEY, t text); INSERT INTO dropped SELECT g, g FROM generate_series(1, 600) g;
	CREATE TABLE prepared (i int); INSERT INTO prepared SELECT generate_series(1, 700)));
$primary->safe_psql('postgres', 'CREATE DATABASE gone');
$primary->safe_psql('gone', 'CREATE TABLE rows AS SELECT generate_series(1, 800) i');
my %destroy = (
	truncated => 'TRUNCATE truncated',
	dropped => 'DROP TABLE dropped',
	prepared => q(COMMIT PREPARED 'p'),
	gone => 'DROP DATABASE gone');
$primary->safe_psql('postgres', q(BEGIN; DROP TABLE prepared; PREPARE TRANSACTION 'p'));
for my $what (qw(truncated dropped prepared gone))
{
	$primary->safe_psql('postgres', "INSERT INTO marker VALUES ('before $what')");
	$primary->safe_psql('postgres', $destroy{$what});
	$primary->safe_psql('postgres', "INSERT INTO marker VALUES ('after $what')");
}
switch_wal($primary, 2);
my $proof_end = wait_archived($host, 'prod', $primary);
my @found = map { [ split /\|/ ] } split /\n/, $host->safe_psql('postgres', qq(
	SELECT kind, restore_before_lsn, restore_before_time, xact_time IS NOT NULL AND restore_before_lsn < start_lsn
	FROM walarchive.destructive_commits('prod')));
is(join(' ', map { $_->[0] } @found), 'truncate drop drop database', 'what was destroyed, in order');
is(join('', map { $_->[3] } @found), 'tttt', '... with times, and places before');
for my $case (
	[ 'truncated', "recovery_target_lsn = '$found[0][1]'", 500 ],
	[ 'truncated', "recovery_target_time = '$found[0][2]'", 500 ],
	[ 'dropped', "recovery_target_lsn = '$found[1][1]'", 600 ],
	[ 'dropped', "recovery_target_time = '$found[1][2]'", 600 ],
	[ 'prepared', "recovery_target_lsn = '$found[2][1]'", 700 ],
	[ 'gone', "recovery_target_lsn = '$found[3][1]'", 800 ])
{
	my ($what, $target, $rows) = @$case;
	my $copy = restore_to($target);
	$copy->safe_psql('postgres', q(ROLLBACK PREPARED 'p')) if $what eq 'prepared';
	is($copy->safe_psql($what eq 'gone' ? ('gone', 'SELECT count(*) FROM rows') : ('postgres', "SELECT count(*) FROM $what")),
		$rows, "$what has all of its rows at $target");
	is($copy->safe_psql('postgres', "SELECT string_agg(what, ', ') FROM marker WHERE what LIKE '% $what'"), "before $what",
		'... and nothing that came later');
	$copy->stop('immediate');
	$copy->clean_node;
}

# wal_level replica and logical; first files and later ones
for my $round ([ 'replica', 0 ], [ 'replica', 1 ], [ 'logical', 1 ])
{
	my ($level, $moved) = @$round;
	note "wal_level = $level, " . ($moved ? 'later' : 'first') . ' files';
	if ($level eq 'logical' && $primary->safe_psql('postgres', 'SHOW wal_level') ne 'logical')
	{
		$primary->append_conf('postgresql.conf', "wal_level = logical");
		$primary->restart;
		wait_streaming($host, 'prod');
	}

	# --- truncates ---
	tables($moved);
	judge('TRUNCATE c', 'truncate 1', 'TRUNCATE of a table without indexes');
	judge('TRUNCATE a', 'truncate 4', 'TRUNCATE with index and TOAST');
	judge('TRUNCATE b RESTART IDENTITY', 'truncate 5', 'TRUNCATE RESTART IDENTITY');
	tables($moved);
	judge('TRUNCATE a, b, c', 'truncate 9', 'TRUNCATE of several tables');
	tables($moved);
	judge(q(CREATE TABLE child (i int REFERENCES a); INSERT INTO child VALUES (1)), '', 'CREATE TABLE');
	judge('TRUNCATE a CASCADE', 'truncate 5', 'TRUNCATE CASCADE');
	judge('BEGIN; TRUNCATE c; INSERT INTO c VALUES (1); COMMIT', 'truncate 1', 'TRUNCATE and rows anew');
	judge('BEGIN; SAVEPOINT x; TRUNCATE c; SAVEPOINT y; INSERT INTO c VALUES (2); RELEASE y; RELEASE x; COMMIT',
		'truncate 1', 'TRUNCATE after a savepoint');
	judge('BEGIN; INSERT INTO c VALUES (3); SAVEPOINT x; TRUNCATE c; ROLLBACK TO x; COMMIT', '', 'TRUNCATE that was rolled back to a savepoint');
	judge('BEGIN; TRUNCATE c; ROLLBACK', '', 'TRUNCATE that was rolled back');
	judge('BEGIN; CREATE TABLE n (i int PRIMARY KEY); INSERT INTO n VALUES (1); TRUNCATE n; COMMIT', 'truncate 1',
		'TRUNCATE in the transaction that made the table');
	judge('BEGIN; SAVEPOINT x; CREATE TABLE n2 (i int); RELEASE x; SAVEPOINT y; INSERT INTO n2 VALUES (1); RELEASE y; TRUNCATE n2; COMMIT',
		'truncate 1', 'the same with savepoints between');
	judge('BEGIN; CREATE TABLE n3 (i int PRIMARY KEY); TRUNCATE n3; INSERT INTO n3 VALUES (1); COMMIT', '',
		'nothing is lost where nothing was');

	# --- rewrites ---
	tables($moved);
	judge('REINDEX INDEX a_pkey', 'rewrite 1', 'REINDEX INDEX');
	judge('REINDEX TABLE a', 'rewrite 2', 'REINDEX TABLE');
	judge('REINDEX TABLE e', 'rewrite 1', 'REINDEX of an empty table');
	judge('REINDEX TABLE CONCURRENTLY a', 'rewrite 2', 'REINDEX TABLE CONCURRENTLY');
	judge('REINDEX INDEX CONCURRENTLY a_pkey', 'rewrite 1', 'REINDEX INDEX CONCURRENTLY');
	judge('VACUUM FULL a', 'rewrite 4', 'VACUUM FULL');
	judge('VACUUM FULL e', 'rewrite 2', 'VACUUM FULL of an empty table');
	judge('VACUUM FULL pg_description', 'rewrite 4', 'VACUUM FULL of a catalog');
	judge('VACUUM FULL pg_class', 'rewrite 4', 'VACUUM FULL of a mapped catalog');
	judge('VACUUM FULL pg_database', 'rewrite 5', 'VACUUM FULL of a shared catalog');
	judge('CLUSTER a USING a_pkey', 'rewrite 4', 'CLUSTER');
	judge('DROP VIEW v', '', 'a view has nothing to lose');
	judge('ALTER TABLE a ALTER i TYPE bigint', 'rewrite 4', 'ALTER TYPE of an indexed column');
	judge('ALTER TABLE e ALTER i TYPE bigint', 'rewrite 2', 'the same of an empty table');
	judge('ALTER TABLE c ADD x float DEFAULT random()', 'rewrite 1', 'ADD COLUMN that rewrites');
	judge('ALTER TABLE a SET UNLOGGED; ALTER TABLE a SET LOGGED', 'rewrite 4, rewrite 4', 'SET UNLOGGED and back');
	judge('ALTER SEQUENCE b_i_seq RESTART 5', 'rewrite 1', 'ALTER SEQUENCE');
	judge('CREATE MATERIALIZED VIEW m AS SELECT * FROM a; CREATE UNIQUE INDEX ON m (i)', '', 'CREATE MATERIALIZED VIEW');
	judge('REFRESH MATERIALIZED VIEW m', 'rewrite 4', 'REFRESH MATERIALIZED VIEW');
	judge('REFRESH MATERIALIZED VIEW CONCURRENTLY m', '', 'REFRESH MATERIALIZED VIEW CONCURRENTLY');

	# --- drops ---
	judge('DROP MATERIALIZED VIEW m', 'drop 4', 'DROP MATERIALIZED VIEW');
	judge('DROP TABLE c', 'drop 1', 'DROP TABLE');
	judge('DROP TABLE b', 'drop 5', 'DROP TABLE with index, TOAST and sequence');
	judge('CREATE INDEX ai ON a (t)', '', 'CREATE INDEX');
	judge('DROP INDEX ai', 'drop 1', 'DROP INDEX');
	judge('CREATE TABLE p (i int, t text) PARTITION BY RANGE (i); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9); '
		  . 'CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (9) TO (20); INSERT INTO p SELECT g FROM generate_series(0, 19) g',
		'', 'partitions');
	judge('TRUNCATE p', 'truncate 6', 'TRUNCATE of partitions');
	judge('DROP TABLE p', 'drop 6', 'DROP TABLE of partitions');
	judge('CREATE SCHEMA s; CREATE TABLE s.a (i serial PRIMARY KEY); CREATE VIEW s.v AS SELECT * FROM s.a; '
		  . q(CREATE FUNCTION s.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; SELECT s.f(); DROP SCHEMA s CASCADE), 'drop 3', 'DROP SCHEMA CASCADE');
	judge('CREATE ROLE r; CREATE TABLE o (i int); ALTER TABLE o OWNER TO r; DROP OWNED BY r; DROP ROLE r', 'drop 1', 'DROP OWNED');
	judge('BEGIN; CREATE TABLE q AS SELECT * FROM a; DROP TABLE plain; COMMIT', 'drop 1', 'CREATE TABLE AS and DROP of another');
	judge('BEGIN; CREATE TABLE w (t text PRIMARY KEY); INSERT INTO w VALUES (1); DROP TABLE w; COMMIT', '', 'a table that came and went');
	judge(q(BEGIN; DROP TABLE q; PREPARE TRANSACTION 'x'), '', 'a prepared DROP TABLE');
	judge(q(CHECKPOINT; COMMIT PREPARED 'x'), 'drop 3', '... that is committed');
	judge(q(BEGIN; DROP TABLE e; PREPARE TRANSACTION 'y'; ROLLBACK PREPARED 'y'), '', 'a prepared DROP TABLE that is rolled back');
	judge('CREATE TEMP TABLE x (i int PRIMARY KEY, t text); INSERT INTO x VALUES (1); TRUNCATE x; DROP TABLE x; '
		  . 'BEGIN; CREATE TEMP TABLE y (i int) ON COMMIT DROP; INSERT INTO y VALUES (1); COMMIT', '', 'temporary tables');
	judge('CREATE TABLE tail AS SELECT g, repeat(\'x\', 200) FROM generate_series(1, 2000) g; DELETE FROM tail WHERE g > 10; VACUUM tail', '',
		'VACUUM that shortens a table');

	# --- mixtures ---
	tables($moved);
	judge('BEGIN; DROP VIEW v; DROP TABLE c; ALTER TABLE a ALTER i TYPE bigint; COMMIT', 'drop 1, rewrite 4', 'DROP TABLE and ALTER TYPE');
	tables($moved);
	judge(q(BEGIN; DROP VIEW v; ALTER TABLE a ALTER t TYPE varchar(20) USING 'x'; DROP TABLE b; COMMIT), 'drop 5, rewrite 4',
		'ALTER TYPE and DROP TABLE');
	tables($moved);
	judge('BEGIN; TRUNCATE c; DROP TABLE a CASCADE; REINDEX TABLE b; COMMIT', 'drop 4, truncate 1, rewrite 2', 'TRUNCATE, DROP TABLE and REINDEX');
	tables($moved);
	judge('BEGIN; DROP VIEW v; TRUNCATE b; CREATE TEMP TABLE x (i int); DROP TABLE x; COMMIT', 'truncate 4', 'TRUNCATE beside drops of nothing');
	tables($moved);
	judge('BEGIN; CLUSTER a USING a_pkey; DROP TABLE c; TRUNCATE b; COMMIT', 'drop 1, truncate 4, rewrite 4', 'CLUSTER, DROP TABLE and TRUNCATE');
	judge('BEGIN; TRUNCATE plain; DROP TABLE plain; COMMIT', 'drop 1', 'TRUNCATE and DROP TABLE of one table');
}

# --- databases ---
for my $strategy ('file_copy', 'wal_log')
{
	judge("CREATE DATABASE d STRATEGY $strategy", '', "CREATE DATABASE STRATEGY $strategy");
	judge('CREATE TABLE x (i int PRIMARY KEY)', '', '... with a table', dbname => 'd');
	my ($from, $to) = run('DROP DATABASE d');
	is(kinds($from, $to), 'database 0', '... and DROP DATABASE');
	is( $host->safe_psql('postgres', qq(
			SELECT restore_before_lsn < start_lsn AND restore_before_time IS NULL AND xact_time IS NOT NULL
			FROM walarchive.destructive_commits('prod', '$from', '$to'))),
		't', '... whose files go before its commit');
}
my $tablespace = PostgreSQL::Test::Utils::tempdir();
judge("CREATE TABLESPACE ts LOCATION '$tablespace'", '', 'CREATE TABLESPACE');
judge('CREATE DATABASE d', '', 'CREATE DATABASE');
judge('ALTER DATABASE d SET TABLESPACE ts', '', 'ALTER DATABASE SET TABLESPACE');
judge('CREATE TABLE x AS SELECT generate_series(1, 1000) i; ALTER TABLE x SET TABLESPACE pg_default', 'rewrite 1', 'ALTER TABLE SET TABLESPACE', dbname => 'd');
judge('CREATE TABLE y (i int); ALTER TABLE y SET TABLESPACE pg_default', 'rewrite 1', '... of an empty table', dbname => 'd');
judge('DROP DATABASE d', 'database 0', 'DROP DATABASE in two tablespaces');
judge('DROP TABLESPACE ts', '', 'DROP TABLESPACE');

# a copy that fails half-way is cleaned up by the record that drops a database
judge('CREATE DATABASE unreadable', '', 'a template');
my $file = $primary->data_dir . '/' . $primary->safe_psql('unreadable', 'CREATE TABLE x AS SELECT 1; CHECKPOINT; SELECT pg_relation_filepath(\'x\')');
chmod(0, $file) == 1 or die "could not chmod $file: $!";
SKIP:
{
	skip 'root reads any file', 2 if $> == 0;
	for my $strategy ('file_copy', 'wal_log')
	{
		my ($from, $to) = run("CREATE DATABASE copy TEMPLATE unreadable STRATEGY $strategy");
		is(kinds($from, $to), '', "a CREATE DATABASE STRATEGY $strategy that fails is no loss");
		like(waldump($from, $to), qr/Database .* DROP/, '... although its files are dropped');
	}
}
chmod(0600, $file);

done_testing();
