# Nobody knows walarchive any more, the host is gone, and a printed page is all
# that is left: docs/restoring-by-hand.md.  Its commands are run here as they
# stand, with tar, cp and PostgreSQL's own programs: to the end of the archive,
# to a time, with tablespaces, from compressed and incremental backups, and
# along the timeline that a failover has left.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;

# the page's commands, in order: [ what they are for, text ]
my $page = slurp_file("$FindBin::RealBin/../docs/restoring-by-hand.md");
my @blocks;
push @blocks, [ $1 // '', $2 ] while $page =~ /^```sh(?: (\w+))?\n(.*?)^```$/msg;
cmp_ok(scalar(@blocks), '>=', 9, 'the page has commands');

my $host = new_archive_host('archive');
my $primary = new_primary('primary', conf => "autovacuum = off\nwal_keep_size = 100MB\nmax_prepared_transactions = 5\narchive_mode = on\narchive_command = 'true'\n");
my $major = int($primary->safe_psql('postgres', 'SHOW server_version_num') / 10000);
$primary->safe_psql('postgres', 'ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf()') if $major >= 17;
my $space = PostgreSQL::Test::Utils::tempdir_short();
my $bindir = $primary->config_data('--bindir');

sub run_on
{
	my ($sql) = @_;
	return $primary->safe_psql('postgres', $sql);
}
sub take
{
	my ($label, $args) = @_;
	$host->safe_psql('postgres', "SELECT walarchive.take_backup('prod', label => '$label'" . ($args ? ", $args" : '') . ')');
	return;
}

run_on(q(CREATE TABLE t (i int); INSERT INTO t SELECT generate_series(1, 1000)));
add_source($host, 'prod', $primary);
take('first', "compression => 'gzip'");
run_on('INSERT INTO t SELECT generate_series(1001, 2000)');
if ($major >= 17)
{
	take('second', "kind => 'incremental', parent => 'first'");
	run_on('INSERT INTO t VALUES (2001)');
	run_on('DELETE FROM t WHERE i = 2001');
}
my $rows = 2000;
my $time = run_on('SELECT clock_timestamp()');
# what must not be there when it stops at that time
run_on('INSERT INTO t VALUES (-1)');
run_on("CREATE TABLESPACE other LOCATION '$space'");
run_on('CREATE TABLE there (i int) TABLESPACE other');
run_on('INSERT INTO there SELECT generate_series(1, 500)');
take('spaces', "compression => 'none'");
run_on('INSERT INTO there SELECT generate_series(501, 700)');
run_on(q(BEGIN; INSERT INTO t VALUES (-2); PREPARE TRANSACTION 'open one'));
wait_archived($host, 'prod', $primary);

# --- the end of timeline 1, which the next server never sees ---
$primary->stop('fast');
my $before = save_data($primary);
$primary->start;
wait_streaming($host, 'prod');
my $last = run_on('BEGIN; INSERT INTO t VALUES (-3); SELECT pg_current_xact_id(); COMMIT');
my $tail = run_on('SELECT count(*) FROM t');
wait_archived($host, 'prod', $primary);
$primary->stop('immediate');
restore_data($primary, $before);
start_on_new_timeline($primary);
run_on('INSERT INTO t VALUES (-4)') for 1 .. 3;
my $new = run_on('SELECT count(*) FROM t');
isnt($new, $tail, 'the two timelines differ');
# the same places of the timeline before were archived already
wait_for('the new timeline', sub { stat_of($host, 'prod', 'received_tli') eq '2' });
wait_archived($host, 'prod', $primary);
my $wal = wal_dir($host, 'prod');
ok(wait_for('the history', sub { -e "$wal/00000002.history" }), 'the archive has the history');
(my $archive = $wal) =~ s{/wal$}{};

# the host is gone
$host->stop('immediate');
$primary->stop('immediate');
my $all = `cd '$archive' && find . -type f | sort | xargs sha256sum`;

# Follow the page.  'how' are the blocks to take beside those for everybody;
# 'change' is a hash of what is written over in the text.
my $number = 0;
sub follow
{
	my ($backup, $how, %change) = @_;
	my $copy = PostgreSQL::Test::Utils::tempdir_short() . '/copy';
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $script = "set -euo pipefail\nexport PATH='$bindir':\$PATH\n";
	my %wanted = map { $_ => 1 } '', @$how;
	my $sockets = PostgreSQL::Test::Utils::tempdir_short();

	for my $block (@blocks)
	{
		my ($what, $text) = @$block;
		next if !$wanted{$what};
		$text =~ s/^ARCHIVE=.*/ARCHIVE='$archive'/m;
		$text =~ s/^BACKUP=.*/BACKUP='$backup'/m;
		$text =~ s/^COPY=.*/COPY='$copy'/m;
		$text =~ s/^PORT=.*/PORT='$port'/m;
		$text =~ s/^CHAIN="[^"]*"/CHAIN="$change{chain}"/m if $change{chain};
		$text =~ s/^recovery_target_time = .*\n/$change{target}\n/m if $change{target};
		$text =~ s/^recovery_target_timeline = .*/recovery_target_timeline = $change{timeline}/m if $change{timeline};
		# the tests' servers have no place of their own to listen at
		$text .= "echo \"unix_socket_directories = '$sockets'\" >> \$COPY/postgresql.auto.conf\necho \"listen_addresses = ''\" >> \$COPY/postgresql.auto.conf\n"
		  if $text =~ /^port = /m;
		$script .= "$text\n";
	}
	$number++;
	my $file = "$PostgreSQL::Test::Utils::tmp_check/by_hand_$number.sh";
	append_to_file($file, $script);
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run([ 'bash', $file ], '<', '/dev/null', '>', \$out, '2>', \$err);
	ok($ok, "$backup: the commands run") or diag($out, $err, -e "$copy.log" ? slurp_file("$copy.log") : '');
	return { copy => $copy, port => $port, sockets => $sockets, out => $out };
}

sub ask
{
	my ($server, $sql) = @_;
	my ($out, $err) = run_command([ 'psql', '-XAtq', '-h', $server->{sockets}, '-p', $server->{port}, '-d', 'postgres', '-c', $sql ]);
	return $out;
}

sub end
{
	my ($server) = @_;
	system_or_bail("$bindir/pg_ctl", '-D', $server->{copy}, '-m', 'immediate', '-s', 'stop');
	return;
}

sub promoted
{
	my ($server) = @_;
	return wait_for('the end of recovery', sub { ask($server, 'SELECT pg_is_in_recovery()') eq 'f' });
}

sub paused
{
	my ($server) = @_;
	return wait_for('the target', sub { ask($server, 'SELECT pg_get_wal_replay_pause_state()') eq 'paused' });
}

# --- to the end, with a tablespace ---
my $server = follow('spaces', [ 'full', 'tablespaces', 'check' ]);
ok(promoted($server), 'without a target it becomes a server');
is(ask($server, 'SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM there)'), "$new|700", '... with all that the archive has, the newest timeline\'s');
is(ask($server, q(SELECT string_agg(gid, ' ') FROM pg_prepared_xacts)), 'open one', '... and the prepared transaction');
is(ask($server, q(SELECT substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) >= '00000002')), 't', '... behind timeline 2');
like(ask($server, 'SELECT pg_walfile_name(pg_current_wal_lsn())'), qr/^00000003/, '... on a number that nobody has');
is(ask($server, q(SELECT pg_tablespace_location(oid) LIKE '%/copy.%' FROM pg_tablespace WHERE spcname = 'other')), 't', '... in a folder of its own');
is(ask($server, 'SHOW archive_mode'), 'off', '... and archives nothing');
like($server->{out}, qr/"label":\s*"first"/, 'the backups are shown');
end($server);

# --- to a time, from a compressed backup ---
$server = follow('first', [ 'full', 'check', 'target' ], target => "recovery_target_time = '$time'");
ok(paused($server), 'at its time it waits');
is(ask($server, 'SELECT count(*) FROM t'), $rows, '... with what there was');
like(slurp_file("$server->{copy}.log"), qr/recovery stopping before commit of transaction/, '... and the log says where');
ask($server, 'SELECT pg_wal_replay_resume()');
ok(promoted($server), '... goes on when told');
is(ask($server, 'SELECT count(*) FROM t WHERE i < 0'), '0', '... without what came later');
end($server);

# --- what the failover has left behind ---
$server = follow('spaces', [ 'full', 'tablespaces', 'check', 'target' ], target => "recovery_target_xid = '$last'", timeline => 1);
ok(paused($server), 'on the old timeline it waits');
is(ask($server, 'SELECT count(*) FROM t'), $tail, '... with what the new one has never seen');
is(ask($server, 'SELECT count(*) FROM t WHERE i = -3'), '1', '... to the last commit');
end($server);

# --- incremental ---
SKIP:
{
	skip "PostgreSQL $major has no incremental backups", 1 if $major < 17;
	$server = follow('second', ['incremental', 'target'], chain => 'first second', target => "recovery_target_time = '$time'");
	ok(paused($server), 'an incremental backup is put together');
	is(ask($server, 'SELECT count(*) FROM t'), $rows, 'from an incremental backup, to that time');
	end($server);
}

is(`cd '$archive' && find . -type f | sort | xargs sha256sum`, $all, 'the archive is as it was');

done_testing();
