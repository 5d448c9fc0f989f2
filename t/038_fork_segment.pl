# A transaction is prepared, and a moment later the primary is lost; the standby
# that is promoted keeps it open.  A year on somebody restores to a day after
# that failover.  PostgreSQL, at the fork, looks for the prepared transaction in
# the old timeline's segment, in pg_wal alone, and dies if it is not there.  The
# restore has to end where it was planned all the same.
#
# The new timeline's first segment begins with a copy of the old one's.  A bit of
# that copy turns: a recovery reads it there, and would end.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalRestore qw(wait_decoded);

my $host = new_archive_host('archive');
my $primary = new_primary('primary', conf => "autovacuum = off\nwal_keep_size = 64MB\nmax_prepared_transactions = 5\n");
my $bindir = $primary->config_data('--bindir');

sub on_primary { return $primary->safe_psql('postgres', $_[0]); }

on_primary('CREATE TABLE t (i int)');
add_source($host, 'prod', $primary);
$host->safe_psql('postgres', q(SELECT walarchive.take_backup('prod', label => 'before')));
on_primary('INSERT INTO t VALUES (1); SELECT pg_switch_wal()');
on_primary(q(BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'over the fork'));
wait_archived($host, 'prod', $primary);
$primary->stop('immediate');
ok(start_on_new_timeline($primary), 'the server goes on on timeline 2');
ok(wait_for('the archive to follow', sub { stat_of($host, 'prod', 'received_tli') eq '2' }), 'the archive follows');
my $xid = on_primary('BEGIN; INSERT INTO t VALUES (3); SELECT pg_current_xact_id(); COMMIT');
on_primary(q(COMMIT PREPARED 'over the fork'; SELECT pg_switch_wal()));
wait_decoded($host, $primary);
my $wal = wal_dir($host, 'prod');
my ($fork) = read_file_bytes("$wal/00000002.history") =~ /^1\t(\S+)/;

# --- with the client ---
for my $target ([ "--to-xid=$xid", '1 3', 'with the transaction still open' ], [ '--to-end', '1 2 3', 'to the end' ])
{
	my ($option, $rows, $name) = @$target;
	my $copy = PostgreSQL::Test::Utils::tempdir_short() . '/copy';
	my ($out, $err) = ('', '');
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	ok(IPC::Run::run([ 'walarchive', 'restore', '-h', $host->host, '-p', $host->port, '-d', 'postgres', '-w', '--source=prod', $option,
				'-D', $copy, '--start', '--target-action=pause', "--port=$port", '--bindir', $bindir ],
			'<', '/dev/null', '>', \$out, '2>', \$err), "$name: it is restored")
	  or diag($out, $err, -e "$copy/restore.log" ? slurp_file("$copy/restore.log") : '');
	like($out, qr/as planned/, "$name: to where it was planned") or diag($out, $err);
	# its socket is in its directory
	my ($got) = run_command([ 'psql', '-XAtq', '-h', $copy, '-p', $port, '-d', 'postgres', '-c', q(SELECT string_agg(i::text, ' ' ORDER BY i) FROM t) ]);
	is($got, $rows, "$name: and what is committed is there");
	my ($old) = glob("$copy/pg_wal/00000001*");
	ok(defined $old, "$name: the old timeline's segment is there") or next;
	my $offset = hex((split '/', $fork)[1]) % (1024 * 1024);
	is(substr(read_file_bytes($old), $offset) =~ tr/\0//c, 0, "$name: with nothing beyond the fork");
	system_or_bail("$bindir/pg_ctl", '-D', $copy, '-m', 'immediate', '-s', 'stop');
}

# --- a bit of the copy: in its first record, behind the header of the page and its own ---
my ($first) = grep { /^00000002[0-9A-F]{16}$/ } wal_files($wal);
my $bytes = read_file_bytes("$wal/$first");
substr($bytes, 40 + 24, 1) ^= "\x10";
open(my $file, '+<:raw', "$wal/$first") or BAIL_OUT("cannot open $first: $!");
print $file $bytes;
close($file) or BAIL_OUT("cannot write $first: $!");
# all is decoded anew
$host->safe_psql('postgres', 'DROP EXTENSION walarchive; CREATE EXTENSION walarchive');
ok(wait_for('the index', sub {
	$host->safe_psql('postgres', qq(SELECT string_agg(decode_state, ' ') FROM walarchive.segment WHERE name = '$first')) eq 'damaged' }),
	'a bit turns in the copy of the old WAL: its segment is damaged');
sub answers
{
	my ($query, $answer) = @_;
	return wait_for("'$answer'", sub { $host->safe_psql('postgres', $query) eq $answer });
}
ok(answers("SELECT feasible, reason, hint LIKE '%damaged at $fork on timeline 2%' FROM walarchive.plan_restore('prod', target_xid => '$xid')", 'f|damage|t'),
	'and no plan leads over it');
ok(answers(q(SELECT feasible, timeline_path FROM walarchive.plan_restore('prod', target_timeline => 1)), 't|1'), 'the old timeline is whole');

done_testing();
