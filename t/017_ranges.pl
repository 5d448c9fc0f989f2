# An auditor wants every transaction between two and three o'clock, a developer
# wants to know what filled the disk, and the one segment of that hour is on a bad
# sector.  The answers are compared with the primary's own, they do not depend on
# how much of it is indexed, and what can't be answered is said.
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
checkpoint_timeout = 1h
wal_keep_size = 256MB
));
$primary->safe_psql('postgres', 'CREATE EXTENSION pg_walinspect');
add_source($host, 'prod', $primary, args => "relation_names_interval => '10 s'");
my $dir = wal_dir($host, 'prod');

sub value
{
	my ($sql) = @_;
	return $host->safe_psql('postgres', $sql);
}

# Differences of two lists of lines, a few of them.
sub same_lines
{
	my ($got, $wanted, $name) = @_;
	my @got = split /\n/, $got;
	my @wanted = split /\n/, $wanted;
	my $bad = 0;
	for my $i (0 .. (@got > @wanted ? $#got : $#wanted))
	{
		next if ($got[$i] // '') eq ($wanted[$i] // '');
		diag("line $i: got $got[$i]") if defined $got[$i] && $bad < 3;
		diag("line $i: wanted $wanted[$i]") if defined $wanted[$i] && $bad < 3;
		$bad++;
	}
	is($bad, 0, $name . ' (' . scalar(@wanted) . ' lines)');
	cmp_ok(scalar(@wanted), '>', 0, '... some');
	return;
}

# --- WAL of all sorts ---
# a record of the primary's own that is the first of the range
my $from = $primary->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
$primary->safe_psql('postgres', q(
	CREATE TABLE orders (i serial PRIMARY KEY, t text);
	INSERT INTO orders (t) SELECT repeat('x', 100) FROM generate_series(1, 5000);
	CREATE INDEX ON orders USING hash (t);
	CREATE INDEX ON orders USING brin (i);
	UPDATE orders SET t = t || 'y' WHERE i % 3 = 0;
	DELETE FROM orders WHERE i % 5 = 0));
$primary->safe_psql('postgres', 'VACUUM FREEZE orders');
$primary->safe_psql('postgres', 'CHECKPOINT');
$primary->psql('postgres', "BEGIN; INSERT INTO orders (t) VALUES ('s'); SAVEPOINT a; INSERT INTO orders (t) VALUES ('s'); ROLLBACK TO a; COMMIT");
$primary->safe_psql('postgres', 'BEGIN; INSERT INTO orders (t) VALUES (1); ROLLBACK') for 1 .. 3;
$primary->safe_psql('postgres', q(BEGIN; INSERT INTO orders (t) VALUES (1); PREPARE TRANSACTION 'a'));
$primary->safe_psql('postgres', q(BEGIN; INSERT INTO orders (t) VALUES (1); PREPARE TRANSACTION 'b'));
$primary->safe_psql('postgres', q(COMMIT PREPARED 'a'));
$primary->safe_psql('postgres', q(ROLLBACK PREPARED 'b'));
$primary->safe_psql('postgres', 'SELECT lo_from_bytea(0, repeat(\'z\', 5000)::bytea)');
$primary->safe_psql('postgres', "SELECT pg_create_restore_point('here')");
for my $i (1 .. 60)
{
	$primary->safe_psql('postgres', "INSERT INTO orders (t) SELECT repeat('z', 200) FROM generate_series(1, 100)");
	$primary->safe_psql('postgres', "SELECT pg_switch_wal()") if $i % 20 == 0;
}
my $to = $primary->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
$primary->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'end', 'x')");
wait_archived($host, 'prod', $primary);

# --- records and sums, judged by pg_walinspect ---
my $columns = 'start_lsn, end_lsn, prev_lsn, xid, resource_manager, record_type, record_length, main_data_length, fpi_length';
same_lines(value("SELECT $columns FROM walarchive.wal_records('prod', '$from', '$to')"),
	$primary->safe_psql('postgres', "SELECT $columns FROM pg_get_wal_records_info('$from', '$to')"), 'records are those of pg_walinspect');
same_lines(value("SELECT resource_manager, records, record_bytes, fpi_bytes, combined_bytes, round(records_percentage::numeric, 6), round(combined_bytes_percentage::numeric, 6)
				  FROM walarchive.wal_stats('prod', '$from', '$to') ORDER BY 1"),
	$primary->safe_psql('postgres', qq(SELECT "resource_manager/record_type", count, record_size, fpi_size, combined_size, round(count_percentage::numeric, 6), round(combined_size_percentage::numeric, 6)
									   FROM pg_get_wal_stats('$from', '$to', false) WHERE count > 0 ORDER BY 1)), 'sums are those of pg_walinspect');
is(value("SELECT count(*) FROM walarchive.wal_records('prod', '$from', '$to') WHERE timeline <> 1"), '0', 'records have their timeline');
like(value("SELECT description FROM walarchive.wal_records('prod', '$from', '$to') WHERE record_type = 'RESTORE_POINT'"), qr/here/, 'what we know of a record is in words');
like(value("SELECT block_ref FROM walarchive.wal_records('prod', '$from', '$to') WHERE resource_manager = 'Hash' AND block_ref IS NOT NULL LIMIT 1"),
	qr/^blkref #0: rel \d+\/\d+\/\d+ /, 'and its blocks');

# --- commits, judged by pg_waldump ---
my %kind = (COMMIT => 'commit', ABORT => 'abort', COMMIT_PREPARED => 'commit prepared', ABORT_PREPARED => 'abort prepared');
my ($dump) = run_command([ 'pg_waldump', '-r', 'Transaction', '-p', $primary->data_dir . '/pg_wal', '-s', $from, '-e', $to ]);
my @wanted;
for my $line (split /\n/, $dump)
{
	my ($tx, $hi, $lo, $type, $rest) = $line =~ /tx:\s+(\d+), lsn: (\w+)\/0*(\w+), .*desc: (COMMIT_PREPARED|ABORT_PREPARED|COMMIT|ABORT) (.*)/ or next;
	# of a prepared transaction the xid is in the description
	$tx = $1 if $type =~ /PREPARED/ && $rest =~ /^(\d+):/;
	push @wanted, "$hi/$lo|$tx|$kind{$type}";
}
same_lines(value("SELECT start_lsn, xid, kind FROM walarchive.commits('prod', '$from', '$to')"), join("\n", @wanted), 'commits are those of pg_waldump');
my @all = split /\n/, value("SELECT start_lsn, xact_time FROM walarchive.commits('prod', '$from', '$to')");

# --- a part is that part of the whole, indexed or not ---
sub check_windows
{
	my ($name) = @_;
	my $bad = 0;
	my $n = 0;
	for my $i (0, 1, 7, $#all / 2, $#all - 1)
	{
		for my $j (1, 5, $#all)
		{
			my ($a, $b) = (int($i), int($i) + $j);
			$b = $#all if $b > $#all;
			my ($a_lsn, $a_time) = split /\|/, $all[$a];
			my ($b_lsn, $b_time) = split /\|/, $all[$b];
			my $whole = "FROM walarchive.commits('prod') WHERE";
			$bad += value("SELECT array(SELECT start_lsn FROM walarchive.commits('prod', from_lsn => '$a_lsn', to_lsn => '$b_lsn'))
								  = array(SELECT start_lsn $whole start_lsn >= '$a_lsn' AND start_lsn < '$b_lsn')") ne 't';
			$bad += value("SELECT array(SELECT start_lsn FROM walarchive.commits('prod', from_time => '$a_time', to_time => '$b_time'))
								  = array(SELECT start_lsn $whole xact_time BETWEEN '$a_time' AND '$b_time')") ne 't';
			$n += 2;
		}
	}
	is($bad, 0, "$n windows of LSN and time $name");
	return;
}
ok(wait_for('the index', sub {
	value("SELECT count(*) FROM walarchive.segment WHERE state = 'finished' AND decode_state = 'decoded'") == (grep { !/history/ } wal_files($dir)) }), 'all finished segments are indexed');
check_windows('with the index');
my $indexed = value(q(SELECT (count(*) FILTER (WHERE c.kind LIKE 'commit%')) || ' ' || (count(*) FILTER (WHERE c.kind LIKE 'abort%')) || '|' || (SELECT sum(s.commits) || ' ' || sum(s.aborts) FROM walarchive.segment s WHERE s.state = 'finished')
	FROM walarchive.commits('prod', to_lsn => (SELECT max(end_lsn) FROM walarchive.segment WHERE state = 'finished')) c));
is((split /\|/, $indexed)[0], (split /\|/, $indexed)[1], 'the index has counted what commits() shows');

# the same question in a transaction that has made the index forget
my ($rc, $out, $err) = $host->psql('postgres', q(
	BEGIN;
	CREATE TEMP TABLE with_index AS SELECT * FROM walarchive.commits('prod', from_time => '2000-01-01');
	CREATE TEMP TABLE with_index_d AS SELECT * FROM walarchive.destructive_commits('prod');
	UPDATE walarchive.segment SET decode_state = 'pending', min_commit_time = NULL, max_commit_time = NULL;
	DELETE FROM walarchive.destructive_commit;
	SELECT count(*) > 0, count(*) = (SELECT count(*) FROM with_index) FROM walarchive.commits('prod', from_time => '2000-01-01') c JOIN with_index i USING (start_lsn, xid, xact_time, kind);
	SELECT count(*) = (SELECT count(*) FROM with_index_d) FROM walarchive.destructive_commits('prod') c JOIN with_index_d i USING (timeline, start_lsn, end_lsn, xid, xact_time, kind, dropped_files, aborted, restore_before_lsn);
	ROLLBACK));
is($out, "t|t\nt", 'without the index the answers are the same');

# --- names ---
ok(wait_for('names', sub { value(q(SELECT (SELECT count(DISTINCT name) FROM walarchive.relation_name WHERE name IN ('public.orders', 'public.orders_i_seq', 'public.orders_pkey')),
		(SELECT count(*) FROM walarchive.database_name WHERE name = 'postgres'))) eq '3|1' }), 'the observer has learned the names');
my $before = $primary->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
my $orders_oid = $primary->safe_psql('postgres', q(SELECT 'orders'::regclass::oid));
my $filepath = $primary->safe_psql('postgres', q(SELECT pg_relation_filepath('orders')));
$primary->safe_psql('postgres', 'DROP TABLE orders');
switch_wal($primary, 1);
wait_archived($host, 'prod', $primary);
is(value("SELECT kind, relations, database FROM walarchive.destructive_commits('prod', from_lsn => '$before')"), 'drop|{public.orders,public.orders_i_seq}|postgres',
	'"who dropped the table?" is answered with its name');
like(value("SELECT dropped_relations FROM walarchive.commits('prod', from_lsn => '$before') WHERE dropped_relations IS NOT NULL"), qr/public\.orders[,}].*public\.orders_pkey|public\.orders_pkey.*public\.orders[,}]/,
	'commits() has the names as well');
value("BEGIN; DELETE FROM walarchive.relation_name; COMMIT");
like(value("SELECT dropped_relations FROM walarchive.commits('prod', from_lsn => '$before') WHERE dropped_relations IS NOT NULL"), qr/\Q$filepath\E[,}]/,
	'without names it has the paths that pg_waldump has');

# --- a role that may read one source ---
value('CREATE ROLE auditor');
value(q(SELECT walarchive.grant_read('prod', 'auditor')));
is(value(q(SET ROLE auditor; SELECT count(*) > 10 FROM walarchive.commits('prod'))), 't', 'who was granted to read may');
is(value(q(SET ROLE auditor; SELECT count(*) FROM walarchive.destructive_commits('prod'))), value(q(SELECT count(*) FROM walarchive.destructive_commits('prod'))),
	'... and sees the same');

# --- damage and loss are said, and the rest is shown ---
# (one with records behind the place that is damaged, and not the tail of a switch there)
my @names = split /\n/, value(q(SELECT name FROM walarchive.segment WHERE state = 'finished' AND last_record_lsn > start_lsn + 400000 ORDER BY start_lsn));
cmp_ok(scalar(@names), '>', 2, 'there are segments with much in them');
my $victim = $names[ $#names / 2 ];
my $segment_lsn = value("SELECT start_lsn FROM walarchive.segment WHERE name = '$victim'");
my $segment_end = value("SELECT end_lsn FROM walarchive.segment WHERE name = '$victim'");
my $all = value("SELECT count(*) FROM walarchive.commits('prod', to_lsn => '$before')");
my $outside = value("SELECT count(*) FROM walarchive.commits('prod', to_lsn => '$before') WHERE start_lsn < '$segment_lsn' OR start_lsn >= '$segment_end'");
my $bytes = read_file_bytes("$dir/$victim");

my $flipped = $bytes;
substr($flipped, length($bytes) / 4, 1) ^= "\x10";
overwrite("$dir/$victim", $flipped);
($rc, $out, $err) = $host->psql('postgres', "SELECT count(*) FROM walarchive.commits('prod', to_lsn => '$before')");
like($err, qr/WARNING: .*\Q$victim\E.* is damaged at [0-9A-F]+\/[0-9A-F]+.*DETAIL: .*is not shown/s, 'a flipped bit is a warning that names the file and the place');
cmp_ok($out, '>=', $outside - 1, '... what is beside the file is shown');
cmp_ok($out, '<=', $all, '... and no more than there was');
($rc, $out, $err) = $host->psql('postgres', "SELECT sum(records) > 0 FROM walarchive.wal_stats('prod', to_lsn => '$before')");
like($err, qr/is damaged/, 'wal_stats says so too');
is($out, 't', '... and counts the rest');

unlink("$dir/$victim") or die "could not unlink: $!";
($rc, $out, $err) = $host->psql('postgres', "SELECT count(*) FROM walarchive.commits('prod', to_lsn => '$before')");
like($err, qr/WARNING: .*from \Q$segment_lsn\E to \Q$segment_end\E is not in the archive/, 'a missing file is a warning that names the range');
cmp_ok($out, '>=', $outside - 1, '... and the rest is shown');
($rc, $out, $err) = $host->psql('postgres', "SELECT count(*) FROM walarchive.wal_records('prod', from_lsn => '$segment_end', to_lsn => '$before')");
is($err, '', 'outside of it there is no warning');
overwrite("$dir/$victim", $bytes);
is(value("SELECT count(*) FROM walarchive.commits('prod', to_lsn => '$before')"), $all, 'put back, all is there again');

# --- a question can be given up at any time, even when the program hangs ---
my $session = start_sql($host, q(SELECT sum(n) FROM generate_series(1, 100000) g, LATERAL (SELECT count(*) AS n FROM walarchive.wal_records('prod', timeline => CASE WHEN g > 0 THEN 1 END)) r));
my ($backend, $child);
ok(wait_for('a decoder', sub {
	$backend = value(q(SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT sum(n) FROM generate_series%' AND pid <> pg_backend_pid()));
	return 0 unless $backend;
	($child) = split ' ', scalar(`ps -o pid= --ppid $backend` || '');
	# one that is being started yet has its parent wait
	return $child && (readlink("/proc/$child/exe") // '') =~ m{/walarchive-decode$} && kill('STOP', $child) == 1; }), 'the program is stopped');
is(value("SELECT pg_cancel_backend($backend)"), 't', 'the query is cancelled');
my ($code, undef, $said) = sql_result($session);
isnt($code, 0, 'it ends');
like($said, qr/canceling statement/, '... as it should');
ok(wait_for('the end of the program', sub { !kill(0, $child) }), 'and the program with it');

done_testing();

sub overwrite
{
	my ($path, $content) = @_;
	open(my $fh, '>:raw', $path) or die "could not open $path: $!";
	print $fh $content;
	close($fh) or die "could not close $path: $!";
	return;
}
