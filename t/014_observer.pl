# "Which table was that?"  An operator who restores to the moment before a DROP
# reads names, not relfilenodes; and on a quiet night he wants to restore to "an
# hour ago" although nobody committed anything.  The observer provides for both
# over ordinary connections, and those are what goes wrong: a server hangs, a
# database refuses, the password is missing.  Then the one source must do without,
# must say so, and nothing else may notice.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;

my $quiet = "autovacuum = off\ncheckpoint_timeout = 1h\n";
my $primary = new_primary('primary', conf => $quiet . "log_connections = on\n");
my $host = new_archive_host('archive');

sub value
{
	my ($sql) = @_;
	return $host->safe_psql('postgres', $sql);
}

sub observed
{
	my ($source, $column) = @_;
	return value("SELECT $column FROM walarchive.stat_observer WHERE source = '$source'");
}

sub health
{
	my ($source, $check) = @_;
	return value(qq(SELECT severity FROM walarchive.health WHERE source = '$source' AND "check" = '$check'));
}

# What the catalog calls the relation that has this file now.
sub name_of
{
	my ($source, $node, $dbname, $relation) = @_;
	my $numbers = $node->safe_psql($dbname,
		"SELECT d.oid || ',' || coalesce(nullif(c.reltablespace, 0), d.dattablespace) || ',' || c.relfilenode
		 FROM pg_class c, pg_database d WHERE c.oid = '$relation'::regclass AND d.datname = current_database()");
	return value("SELECT concat_ws(' ', r.kind, r.name, r.table_name) FROM walarchive.source s, walarchive.relation_of(s.name, s.system_identifier, $numbers) r WHERE s.name = '$source'");
}

sub wait_name
{
	my ($what, $wanted, @relation) = @_;
	my $got;
	return ok(wait_for($what, sub { ($got = name_of(@relation)) eq $wanted }), $what) || diag("got $got");
}

sub relations_file
{
	my ($source) = @_;
	my ($file) = glob(archive_dir($host, $source) . '/[0-9]*/relations');
	return $file;
}

# All names that are on disk are in the catalog.
sub wait_entered
{
	my ($source) = @_;
	return wait_for('the names to be in the catalog', sub { value(
			"SELECT coalesce(max(file_offset), 0) FROM walarchive.relation_progress WHERE source = '$source'") >= -s relations_file($source) });
}

# A pass that began after now has ended: with other settings all begins anew.
sub wait_pass
{
	my ($source) = @_;
	my $before = value('SELECT clock_timestamp()');
	value("SELECT walarchive.alter_source('$source')");
	ok( wait_for('a pass', sub { value(
				"SELECT relation_names_time > connected_since AND connected_since > '$before' FROM walarchive.stat_observer o JOIN walarchive.stat_receiver r USING (source) WHERE source = '$source'") eq 't' }),
		'a pass over the names');
	wait_entered($source);
	return;
}

# --- names ---
$primary->safe_psql('postgres', q{
	CREATE DATABASE "Other db";
	CREATE SCHEMA "My Schema";
	CREATE TABLE orders (id serial PRIMARY KEY, note text);
	CREATE TABLE "My Schema"."Or""ders" (id int);
	CREATE MATERIALIZED VIEW sums AS SELECT count(*) FROM orders;
	CREATE TABLE parts (i int) PARTITION BY RANGE (i);
	CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
});
$primary->safe_psql('Other db', 'CREATE TABLE invoices (i int PRIMARY KEY)');
$primary->safe_psql('postgres', q(CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0; CREATE DATABASE raw ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0));
$primary->safe_psql('latin', qq(SET client_encoding = 'UTF8'; CREATE TABLE "b\xc3\xbccher" (i int)));
$primary->safe_psql('raw', qq(CREATE TABLE "b\xfccher" (i int)));
add_source($host, 'prod', $primary, args => "relation_names_interval => '10 s'");
wait_name('a table', 'r public.orders public.orders', 'prod', $primary, 'postgres', 'orders');
# (it comes in pieces, so wait for all)
ok(wait_for('a pass', sub { observed('prod', 'relation_names_time IS NOT NULL') eq 't' }) && wait_entered('prod'), 'and all others');
is(name_of('prod', $primary, 'postgres', 'orders_pkey'), 'i public.orders_pkey public.orders', 'its index');
is(name_of('prod', $primary, 'postgres', 'orders_id_seq'), 'S public.orders_id_seq public.orders_id_seq', 'its sequence');
my $toast = $primary->safe_psql('postgres', q(SELECT reltoastrelid::regclass FROM pg_class WHERE relname = 'orders'));
is(name_of('prod', $primary, 'postgres', $toast), "t $toast public.orders", 'its TOAST table');
my $toast_index = $primary->safe_psql('postgres', "SELECT indexrelid::regclass FROM pg_index WHERE indrelid = '$toast'::regclass");
is(name_of('prod', $primary, 'postgres', $toast_index), "i $toast_index public.orders", 'the index of that');
is( name_of('prod', $primary, 'postgres', '"My Schema"."Or""ders"'),
	'r "My Schema"."Or""ders" "My Schema"."Or""ders"', 'names that have to be quoted');
is(name_of('prod', $primary, 'postgres', 'sums'), 'm public.sums public.sums', 'a materialized view');
is(name_of('prod', $primary, 'postgres', 'parts_1'), 'r public.parts_1 public.parts_1', 'a partition');
wait_name('another database', 'r public.invoices public.invoices', 'prod', $primary, 'Other db', 'invoices');
is( value(q(SELECT string_agg(name, ',' ORDER BY name) FROM walarchive.database_name WHERE source = 'prod')),
	'Other db,latin,postgres,raw,template0,template1', 'databases by name, also those that nobody may connect to');
is( value(q(SELECT string_agg(name, ',' ORDER BY name) FROM walarchive.tablespace_name WHERE source = 'prod')),
	'pg_default,pg_global', 'tablespaces by name');
ok( wait_for('another encoding',
		sub { value(q(SELECT count(*) FROM walarchive.relation_name WHERE database_name = 'latin' AND convert_to(name, 'UTF8') = '\x7075626c69632e2262c3bc6368657222')) eq '1' }),
	'names come in UTF-8');
ok( wait_for('no encoding',
		sub { value(q(SELECT count(*) FROM walarchive.relation_name WHERE database_name = 'raw' AND name = 'public."b?cher"')) eq '1' }),
	'bytes that are no UTF-8 do no harm');
is(value(q(SELECT count(*) FROM walarchive.relation_name WHERE relation < 16384)), '0', "no relation of the system's");
ok(wait_health($host, 'prod', 'relation_names', 'ok'), 'health is ok');
is(observed('prod', 'relation_names_error'), '', 'no error');
is(observed('prod', 'databases || $$|$$ || databases_failed'), '5|0', 'databases are counted');

# --- changes ---
my $was = $primary->safe_psql('postgres', q(SELECT relfilenode FROM pg_class WHERE relname = 'orders'));
wait_pass('prod');
my $size = -s relations_file('prod');
wait_pass('prod');
is(-s relations_file('prod'), $size, 'where nothing changes nothing is written');
$primary->safe_psql('postgres', 'TRUNCATE orders; ALTER TABLE "My Schema"."Or""ders" RENAME TO plain; DROP TABLE parts');
wait_name('truncated: the new file has the name', 'r public.orders public.orders', 'prod', $primary, 'postgres', 'orders');
is( value("SELECT count(*) FROM walarchive.relation_name WHERE relfilenode = $was AND name = 'public.orders'"), '1',
	'and so has the old one');
wait_name('renamed', 'r "My Schema".plain "My Schema".plain', 'prod', $primary, 'postgres', '"My Schema".plain');
my ($numbers, $seen) = split /\|/, value(
	q(SELECT concat_ws(',', quote_literal(source), system_identifier, database, tablespace, relfilenode), max(learned_at)
	  FROM walarchive.relation_name WHERE name LIKE '%plain' GROUP BY 1));
is( value("SELECT name FROM walarchive.relation_of($numbers, '$seen'::timestamptz - interval '1 us')"), '"My Schema"."Or""ders"',
	'at an earlier time it has the earlier name');
is(value("SELECT name FROM walarchive.relation_of($numbers, '$seen')"), '"My Schema".plain', 'at that time the new one');
is(value("SELECT name FROM walarchive.relation_of($numbers, '2000-01-01')"), '"My Schema"."Or""ders"',
	'before all, the first that is known');
is(value("SELECT r IS NULL FROM walarchive.relation_of('prod', 1, 2, 3, 4) r"), 't', 'a relation nobody knows: NULLs');
# (the observer may be connected to it just then)
wait_for('a database to be renamed', sub { ($primary->psql('postgres', 'ALTER DATABASE "Other db" RENAME TO third'))[0] == 0 });
ok(wait_for('the new name', sub { value(q(SELECT count(*) FROM walarchive.database_name WHERE name = 'third')) eq '1' }),
	'a database renamed');

# --- the file is what remains ---
my $all = 'SELECT count(*), sum(hashtext(n::text)) FROM walarchive.relation_name n';
wait_pass('prod');
my $names = value($all);
$size = -s relations_file('prod');
$host->restart;
wait_streaming($host, 'prod');
wait_pass('prod');
is(-s relations_file('prod'), $size, 'after a restart all is known from the file: nothing is written again');
is(value($all), $names, 'and the catalog is as it was');
value('SELECT walarchive.rescan($$prod$$)');
ok(wait_for('the names', sub { value($all) eq $names }), 'rescan reads the file again');
value('DROP EXTENSION walarchive');
value('CREATE EXTENSION walarchive');
ok(wait_for('the names', sub { value($all) eq $names }), 'a new catalog has all the names');
# what a crash in the middle of a line leaves
append_to_file(relations_file('prod'), '{"time": "2026-');
$primary->safe_psql('postgres', 'CREATE TABLE after_crash (i int)');
wait_name('half a line at the end spoils no other', 'r public.after_crash public.after_crash', 'prod', $primary, 'postgres', 'after_crash');

# --- a database that refuses ---
my $hba = $primary->data_dir . '/pg_hba.conf';
my $rules = slurp_file($hba);
sub set_rules
{
	my ($first) = @_;
	open(my $fh, '>', $hba) or die $!;
	print $fh "$first\n$rules";
	close($fh);
	$primary->reload;
	# nobody is refused any more
	wait_for('the rules', sub { !grep { ($primary->psql($_, 'SELECT 1'))[0] != 0 } qw(postgres third) }) if $first eq '';
}
set_rules("local third all reject");
$primary->safe_psql('postgres', 'CREATE TABLE still (i int)');
ok(wait_health($host, 'prod', 'relation_names', 'unknown'), 'a database refuses: health is unknown');
like( value(q(SELECT message FROM walarchive.health WHERE source = 'prod' AND "check" = 'relation_names')),
	qr/^1 of 5 databases could not be asked .*"third".*pg_hba\.conf/, 'and says which, and why');
wait_name('the others are asked all the same', 'r public.still public.still', 'prod', $primary, 'postgres', 'still');
is(stat_of($host, 'prod', 'state'), 'streaming', 'and streaming goes on');
# attempts are fewer than passes
my $refused = sub { my $log = slurp_file($primary->logfile); return scalar(() = $log =~ /FATAL: .*pg_hba\.conf.*third/g); };
my $attempts = $refused->();
for my $pass (1 .. 3)
{
	my $before = observed('prod', 'relation_names_time');
	ok(wait_for('a pass', sub { observed('prod', "relation_names_time > '$before'") eq 't' }), "pass $pass without it");
}
cmp_ok($refused->() - $attempts, '<=', 2, 'it is asked less often than the others');
is(health('prod', 'relation_names'), 'unknown', 'health still says so');
set_rules('');
value(q(SELECT walarchive.alter_source('prod')));
ok(wait_health($host, 'prod', 'relation_names', 'ok'), 'alter_source has it tried at once');

set_rules("local postgres all reject");
value(q(SELECT walarchive.alter_source('prod')));
ok(wait_health($host, 'prod', 'relation_names', 'unknown'), 'the first database refuses: health is unknown');
set_rules('');
value(q(SELECT walarchive.alter_source('prod', relation_names_interval => '0')));
ok(wait_health($host, 'prod', 'relation_names', 'ok'), 'turned off: health has nothing against it');
ok(wait_for('the observer to leave', sub { value('SELECT count(*) FROM walarchive.stat_observer WHERE pid IS NOT NULL') eq '0' }),
	'nobody wants it: the observer leaves');

# --- heartbeats ---
my $next_xid = sub { my ($node) = @_; return $node->safe_psql('postgres', 'SELECT pg_snapshot_xmax(pg_current_snapshot())'); };
my $xid = $next_xid->($primary);
my $pid = receiver_pid($host, 'prod');
wait_archived($host, 'prod', $primary);
is(observed('prod', 'heartbeat_time'), '', 'off: no heartbeat');
value(q(SELECT walarchive.alter_source('prod', heartbeat_interval => '1 s')));
ok(wait_for('heartbeats', sub { observed('prod', "coalesce(heartbeat_xid >= '@{[ $xid + 2 ]}', false)") eq 't' }),
	'an idle primary commits');
is(receiver_pid($host, 'prod'), $pid, 'the receiver was not restarted');
cmp_ok($next_xid->($primary), '>', $xid, "they are the server's transactions");
ok(wait_for('them in the archive', sub { stat_of($host, 'prod', "coalesce(latest_commit_xid::text::bigint >= $xid, false)") eq 't' }),
	'they are the latest commit of the archive');
# the server commits more often than that: no heartbeat
value(q(SELECT walarchive.alter_source('prod', heartbeat_interval => '12 s')));
my $busy = start_sql($primary, 'DO $$ BEGIN FOR i IN 1..36 LOOP PERFORM pg_current_xact_id(); COMMIT; PERFORM pg_sleep(0.5); END LOOP; END $$;');
$xid = $next_xid->($primary);
# (some commits, and so seconds, later no heartbeat of before is under way)
ok(wait_for('commits', sub { stat_of($host, 'prod', "latest_commit_xid::text::bigint > $xid + 5") eq 't' }), 'a server that commits');
my $last_beat = observed('prod', 'heartbeat_time');
is(sql_result($busy), 0, '... for longer than the interval');
is(observed('prod', 'heartbeat_time'), $last_beat, 'is sent no heartbeat');
ok(wait_for('heartbeats', sub { observed('prod', "heartbeat_time > '$last_beat'") eq 't' }), 'idle again: it is');
value(q(SELECT walarchive.alter_source('prod', heartbeat_interval => '1 s')));
# the connection of the last beat, many seconds before, may still be there: one that lasts is seen at two beats
my $beats_by_one = 0;
ok(wait_for('a connection that is kept', sub {
	my $at = sub { return $primary->safe_psql('postgres', q(SELECT pid, backend_start FROM pg_stat_activity WHERE application_name = 'walarchive heartbeat')) };
	my ($before, $time) = ($at->(), observed('prod', 'heartbeat_time'));
	return 0 if $before eq '';
	wait_for('another heartbeat', sub { observed('prod', "heartbeat_time > '$time'") eq 't' }) or return 0;
	return $at->() eq $before && ++$beats_by_one >= 2; }),
	'with a short interval the connection is kept');
ok(wait_health($host, 'prod', 'heartbeat', 'ok'), 'health is ok');
# the archive as the only synchronous standby, and frozen: commits wait for it,
# a heartbeat must not
make_synchronous($primary, 'walarchive_prod');
$pid = receiver_pid($host, 'prod');
kill 'STOP', $pid;
my $beat = observed('prod', 'heartbeat_xid');
ok(wait_for('heartbeats', sub { observed('prod', "heartbeat_xid > '$beat'") eq 't' }), 'no heartbeat waits for the archive');
kill 'CONT', $pid;
$primary->safe_psql('postgres', 'ALTER SYSTEM RESET synchronous_standby_names');
$primary->reload;

# --- one hangs, the other does not wait ---
my $second = new_primary('second', conf => $quiet);
add_source($host, 'second', $second, args => "heartbeat_interval => '1 s', relation_names_interval => '10 s'");
ok(wait_for('heartbeats', sub { observed('second', 'heartbeat_xid IS NOT NULL') eq 't' }), 'two sources');
# the connection of its heartbeats, and any other that takes the place of one that
# was just being left
my %frozen;
sub freeze_heartbeats
{
	for my $backend (split /\n/, $primary->safe_psql('postgres', q(SELECT pid FROM pg_stat_activity WHERE application_name = 'walarchive heartbeat' AND state = 'idle')))
	{
		kill('STOP', $backend) if !$frozen{$backend}++;
	}
	return %frozen > 0;
}
ok(wait_for('a connection', \&freeze_heartbeats), 'one hangs');
$beat = observed('second', 'heartbeat_xid');
ok(wait_for('heartbeats', sub { observed('second', "heartbeat_xid >= '@{[ $beat + 3 ]}'") eq 't' }),
	'a server that hangs does not delay another');
# (the next one may come through at once, over a connection that is not frozen)
my $why = '';
ok(wait_for('health', sub {
	$why = observed('prod', 'heartbeat_error');
	return 1 if $why ne '' && health('prod', 'heartbeat') eq 'warning';
	freeze_heartbeats();
	return 0; }), 'and is found out');
like($why, qr/did not answer within 5 s/, 'with the reason');
kill 'CONT', keys %frozen;
ok(wait_health($host, 'prod', 'heartbeat', 'ok'), 'it goes on by itself');

# --- a standby has no commits of its own ---
$second->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($second, 'base', has_streaming => 1);
$standby->start;
value(q(SELECT walarchive.alter_source('second', heartbeat_interval => '0')));
add_source($host, 'standby', $standby, args => "allow_standby => true, heartbeat_interval => '1 s', relation_names_interval => '10 s'");
ok( wait_for('a connection',
		sub { $standby->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE application_name = 'walarchive heartbeat')) eq '1' }),
	'a standby is asked');
ok(wait_for('names', sub { observed('standby', 'relation_names_time IS NOT NULL') eq 't' }), 'it has names');
is(observed('standby', 'concat(heartbeat_xid, heartbeat_error)'), '', 'but no heartbeat, and no error');
ok(wait_health($host, 'standby', 'heartbeat', 'ok'), 'health is ok');
my $log = slurp_file($standby->logfile);
unlike($log, qr/recovery is in progress|during recovery/, 'nor is there an error in its log');
$second->stop('immediate');
$standby->promote;
ok(wait_for('heartbeats', sub { observed('standby', 'heartbeat_xid IS NOT NULL') eq 't' }),
	'promoted: heartbeats begin');

# --- settings of sources are kept on disk ---
is( value(q(SELECT string_agg(concat_ws(' ', name, heartbeat_interval, relation_names_interval), ',' ORDER BY name) FROM walarchive.source)),
	'prod 00:00:01,second 00:00:10,standby 00:00:01 00:00:10', 'settings');
value('DROP EXTENSION walarchive');
value('CREATE EXTENSION walarchive');
ok( wait_for('settings',
		sub { value(q(SELECT string_agg(concat_ws(' ', name, heartbeat_interval, relation_names_interval), ',' ORDER BY name) FROM walarchive.source)) eq
				'prod 00:00:01,second 00:00:10,standby 00:00:01 00:00:10' }),
	'a new catalog has the settings');

# --- dropped: nothing remains ---
value(q(SELECT walarchive.drop_source('second', drop_slot => false, delete_files => true)));
ok(wait_for('the names to go', sub { value(q(SELECT count(*) FROM walarchive.relation_name WHERE source = 'second')
		. q( OR EXISTS (SELECT 1 FROM walarchive.source s WHERE s.name = 'second'))) eq '0' }), 'a dropped source leaves no names');

done_testing();
