# The whole story, once: a primary under all kinds of load, archived by us and
# by pg_receivewal side by side; a base backup in the midst of it; every process
# of the primary killed at once and its data directory deleted; restored in its
# place from what is archived, the open segment included.  Everything is there:
# the dumps are equal, and so are both archives.  Then all of it again, on the
# timeline that the restored primary began.
#
# WA_GOLDEN_FULL=1 in the environment: a million rows of pgbench, 512 MB more,
# and 100 tables of 10,000 rows.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalRestore;

my $full = $ENV{WA_GOLDEN_FULL};
my ($scale, $megabytes, $tables, $rows) = $full ? (10, 512, 100, 10_000) : (1, 12, 10, 1000);

my $host = new_archive_host('archive');
my $primary = new_primary('primary', segsize => $full ? 16 : 1,
	conf => "wal_keep_size = 4GB\nmax_wal_size = 256MB\nautovacuum = off\nmax_connections = 30\n");
add_source($host, 'prod', $primary);
my ($receivewal, $their_dir) = start_receivewal($primary);
# no commit is acknowledged before both have it; the tests' environment names the application
my $theirs = $ENV{PGAPPNAME} // 'pg_receivewal';
make_both_synchronous();
wait_for('both archives to be synchronous',
	sub { $primary->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync')) eq '2' })
  or BAIL_OUT('they are not');

sub make_both_synchronous
{
	$primary->safe_psql('postgres', qq(ALTER SYSTEM SET synchronous_standby_names = '2 (walarchive_prod, "$theirs")'));
	$primary->reload;
	return;
}

# A row with the time, again and again, until it is told to stop.
sub start_inserter
{
	return start_sql($primary, "SET application_name = 'inserter';\n"
		  . "INSERT INTO moments DEFAULT VALUES; SELECT pg_sleep(0.1);\n" x 20_000);
}

sub stop_inserter
{
	my ($session) = @_;
	$primary->safe_psql('postgres', q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'inserter'));
	wait_for('the inserter to end', sub { sql_done($session) });
	$session->{handle}->finish;
	return;
}

# pg_dumpall, without the lines that differ each time
sub dump_all
{
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'pg_dumpall', '-h', $primary->host, '-p', $primary->port ], '>', \$out, '2>', \$err)
	  or BAIL_OUT("pg_dumpall: $err");
	$out =~ s/^\\(un)?restrict .*\n//mg;
	return $out;
}

# The load of one round, with a backup in the midst of it.
sub load
{
	my ($round) = @_;
	my $inserter = start_inserter();
	if ($round == 1)
	{
		system_or_bail('pgbench', '-i', '-q', '-s', $scale, '-h', $primary->host, '-p', $primary->port, 'postgres');
	}
	my $bench = IPC::Run::start([ 'pgbench', '-n', '-c', 2, '-t', $full ? 2000 : 200, '-h', $primary->host, '-p', $primary->port, 'postgres' ],
		'>', "$PostgreSQL::Test::Utils::log_path/pgbench.$round", '2>&1');
	take_backup($host, "round_$round", "compression => 'zstd'") if $round == 1;
	$primary->safe_psql('postgres', "CREATE TABLE bulk_$round AS SELECT g AS id, repeat(md5(g::text), 30) AS text "
		  . "FROM generate_series(1, $megabytes * 1000) g");
	my @sessions;
	for my $part (0 .. 3)
	{
		push @sessions, start_sql($primary, join('', map {
			"CREATE TABLE many_${round}_$_ AS SELECT g AS id, md5((g * $_)::text) AS word FROM generate_series(1, $rows) g;\n"
		} grep { $_ % 4 == $part } 1 .. $tables));
	}
	is(sql_result($_), 0, "round $round: tables are made") for @sessions;
	$bench->finish;
	stop_inserter($inserter);
	return;
}

# Kill all of it, at one blow.  PostgreSQL takes a zombie's lock files for those of a server that runs.
sub kill_primary
{
	my $postmaster = (split /\n/, slurp_file($primary->data_dir . '/postmaster.pid'))[0];
	my @children = map { /^\s*(\d+)\s*$/ ? $1 : () } split(/\n/, `ps -o pid= --ppid $postmaster`);
	kill('KILL', $postmaster, @children);
	wait_for('its processes to be gone', sub { !grep { kill(0, $_) } $postmaster, @children });
	$primary->{_pid} = undef;
	system_or_bail('rm', '-rf', $primary->data_dir);
	return;
}

# Both archives have the same files, and the same bytes in them; a file that is
# still open counts up to where both have received it.
sub compare_archives
{
	my ($round) = @_;
	my $our_dir = wal_dir($host, 'prod');
	my @ours = wal_files($our_dir, partial => 1);
	my @theirs = wal_files($their_dir, partial => 1);
	is("@ours", "@theirs", "round $round: both archives have the same files");
	my @differ;
	for my $name (grep { -e "$their_dir/$_" } @ours)
	{
		next if same_file("$our_dir/$name", "$their_dir/$name");
		my ($a, $b) = (read_file_bytes("$our_dir/$name"), read_file_bytes("$their_dir/$name"));
		($a, $b) = map { my $r = reverse $_; $r =~ s/\A\0+//; scalar reverse $r } $a, $b;
		my $len = length($a) < length($b) ? length($a) : length($b);
		push @differ, $name if $name !~ /partial$/ || substr($a, 0, $len) ne substr($b, 0, $len);
	}
	is("@differ", '', "round $round: with the same bytes");
	return;
}

sub flushed_everywhere
{
	my $lsn = $primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
	return $primary->safe_psql('postgres', "SELECT count(*) FROM pg_stat_replication WHERE flush_lsn >= '$lsn'") eq '2';
}

# no sequence: the next value is ahead after a crash
$primary->safe_psql('postgres', 'CREATE TABLE moments (at timestamptz DEFAULT clock_timestamp())');
for my $round (1, 2)
{
	load($round);
	my $before = dump_all();
	my $last = $primary->safe_psql('postgres', 'SELECT max(at) FROM moments');
	isnt($last, '', "round $round: rows were inserted");
	wait_for('both archives to have all', \&flushed_everywhere);
	kill_primary();
	wait_for('the archive to have noticed', sub { stat_of($host, 'prod', 'state') ne 'streaming' });
	compare_archives($round);
	stop_process($receivewal);

	# all that is archived is decoded: then the end is known
	wait_for('the WAL to be decoded', sub { stat_of($host, 'prod', 'decode_lag_bytes = 0') eq 't' });
	my ($code, $result, $err) = restore_copy($primary->data_dir, archive_args($host), '--as-primary', '--start', '--backup', 'round_1');
	is($code, 0, "round $round: restored in its place") or diag($err);
	BAIL_OUT('no primary') if $code != 0;
	forget_copy($primary->data_dir);
	ok($result->{compared} && $result->{agrees}, "round $round: as planned");
	$primary->_update_pid(1);
	# nobody is there yet to wait for
	$primary->safe_psql('postgres', q(SET synchronous_commit = local; ALTER SYSTEM RESET synchronous_standby_names));
	$primary->reload;

	is($primary->safe_psql('postgres', 'SELECT max(at) FROM moments'), $last, "round $round: the last row is there");
	my $after = dump_all();
	ok($after eq $before, "round $round: the dumps are equal");
	if ($after ne $before)
	{
		append_to_file("$PostgreSQL::Test::Utils::log_path/before.$round", $before);
		append_to_file("$PostgreSQL::Test::Utils::log_path/after.$round", $after);
		diag(`diff '$PostgreSQL::Test::Utils::log_path/before.$round' '$PostgreSQL::Test::Utils::log_path/after.$round' | head -20`);
	}
	last if $round == 2;

	# on, on the timeline that it began
	wait_streaming($host, 'prod');
	($receivewal) = start_receivewal($primary, dir => $their_dir);
	wait_for('both to stream again',
		sub { $primary->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming')) eq '2' })
	  or BAIL_OUT('they do not');
	is($primary->safe_psql('postgres', 'SELECT timeline_id FROM pg_control_checkpoint()') > 1
		  || $primary->safe_psql('postgres', q(SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))) eq '00000002', 1,
		'the restored primary is on a timeline of its own');
	make_both_synchronous();
}

done_testing();
