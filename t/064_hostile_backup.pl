# The server that a base backup is taken from, or that is asked for the names of
# its relations, is broken or not who it should be.  The backup fails and says
# why, nothing of it stays, nothing is written beside it; the observer goes on
# with the other sources.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalFaults;
use WalHostile;

my ($from, $flushed) = (0x1300000, 0x1308000);
my $sysid = '7000000000000000001';

# A result set, with rows of so many columns.
sub result
{
	my ($columns, @rows) = @_;
	return row_description(map { "c$_" } 1 .. $columns) . join('', map { data_row(@$_) } @rows) . command_complete('SELECT');
}

my $start = result(2, [ lsn_text($from + 0x1000), 1 ]);
my $tablespaces = result(3, [ undef, undef, 10 ]);
my $copy = message('H', pack('Cn', 0, 0));
my $end = message('c', '') . result(2, [ lsn_text($from + 0x2000), 1 ]) . command_complete('BASE_BACKUP') . ready();

sub archive { my ($name, $path) = @_; return copy_data("n$name\0" . ($path // '') . "\0"); }
sub data { return copy_data("d$_[0]"); }

my $tar_end = "\0" x 1024;
my $base = archive('base.tar');
my $manifest = copy_data('m') . data('{ "PostgreSQL-Backup-Manifest-Version": 1, "Files": [] }');

my @backups = (
	[ p_null => result(2, [ undef, undef ]), qr/a position is missing/ ],
	[ p_junk => result(2, [ '0/1;', 1 ]), qr/a position is missing/ ],
	[ p_tli => result(2, [ '0/1301000', '-1' ]), qr/a timeline is missing/ ],
	[ p_few => result(1, ['0/1301000']), qr/a position is missing/ ],
	[ p_old => result(2, [ '0/100', 1 ]) . $tablespaces, qr/the archive lacks WAL|where the archive's timeline/ ],
	[ s_none => $start . result(3), qr/the list of tablespaces is missing/ ],
	[ s_two => $start . result(3, [ undef, undef, 1 ], [ undef, undef, 1 ]), qr/two main tablespaces/ ],
	[ s_size => $start . result(3, [ undef, undef, '-5' ]), qr/a size is not a number/ ],
	[ s_big => $start . result(3, [ undef, undef, '99999999999999999999' ]), qr/a size is not a number/ ],
	[ s_path => $start . result(3, [ undef, undef, 1 ], [ '../../x', '/x', 1 ]), qr/a tablespace has no number/ ],
	[ s_twice => $start . result(3, [ undef, undef, 1 ], [ 16400, '/x', 1 ], [ 16400, '/y', 1 ]), qr/a tablespace is announced twice/ ],
	[ s_nomain => $start . result(3, [ 16400, '/x', 1 ]), qr/the main tablespace is missing/ ],
	[ s_huge => $start . result(3, [ undef, undef, '800000000000' ]), qr/MB free above/ ],
	[ c_in => $start . $tablespaces . message('G', pack('Cn', 0, 0)), qr/no data follow/ ],
	[ n_up => $start . $tablespaces . $copy . archive('../../../base.tar'), qr/an archive is of no tablespace/ ],
	[ n_abs => $start . $tablespaces . $copy . archive('/tmp/base.tar'), qr/an archive is of no tablespace/ ],
	[ n_long => $start . $tablespaces . $copy . archive('x' x 100_000), qr/an archive is of no tablespace/ ],
	[ n_open => $start . $tablespaces . $copy . copy_data('nbase.tar'), qr/an archive's name has no end/ ],
	[ n_twice => $start . $tablespaces . $copy . $base . data(tar_member('a', 'b') . $tar_end) . $base, qr/comes twice/ ],
	[ d_early => $start . $tablespaces . $copy . data('x'), qr/data without an archive/ ],
	[ k_odd => $start . $tablespaces . $copy . copy_data('zzz'), qr/a message of another kind/ ],
	[ k_prog => $start . $tablespaces . $copy . copy_data('p123'), qr/a progress report of another length/ ],
	[ m_twice => $start . $tablespaces . $copy . $base . data(tar_member('a', 'b') . $tar_end) . $manifest . copy_data('m'), qr/a second manifest/ ],
	[ m_after => $start . $tablespaces . $copy . $base . data($tar_end) . $manifest . $base, qr/an archive follows the manifest/ ],
	[ m_none => $start . $tablespaces . $copy . $base . data(tar_member('a', 'b') . $tar_end) . $end, qr/there is no manifest/ ],
	[ m_junk => $start . $tablespaces . $copy . $base . data(tar_member('a', 'b') . $tar_end) . copy_data('m') . data("\xff\0{{{" x 100) . $end,
		qr/does not agree with its manifest|manifest/ ],
	[ m_empty => $start . $tablespaces . $copy . $base . data(tar_member('a', 'b') . $tar_end) . $manifest . $end, qr/manifest/ ],
	[ t_cut => $start . $tablespaces . $copy . $base . data(substr(tar_member('a', 'b' x 1000), 0, 700)) . $manifest . $end, qr/damaged|manifest/ ],
	[ t_junk => $start . $tablespaces . $copy . $base . data('garbage' x 1000) . $manifest . $end, qr/damaged/ ],
	[ t_size => $start . $tablespaces . $copy . $base . data(tar_member('a' , '') =~ s/^(.{124}).{11}/${1}77777777777/sr) . $manifest . $end, qr/damaged/ ],
	[ t_up => $start . $tablespaces . $copy . $base . data(tar_member('../../../evil', 'b') . $tar_end) . $manifest . $end, qr/damaged|manifest/ ],
	[ t_abs => $start . $tablespaces . $copy . $base . data(tar_member('/tmp/evil', 'b') . $tar_end) . $manifest . $end, qr/damaged|manifest/ ],
	[ e_back => $start . $tablespaces . $copy . $base . data(tar_member('a', 'b') . $tar_end) . $manifest . message('c', '') . result(2, [ '0/1', 1 ]), qr/it ends before it starts/ ],
	[ e_text => error_answer('XX000', "%n%s\e[2J\nforged"), qr/the server could not give the backup: %n%s/ ],
	[ e_drop => sub { my ($c) = @_; $c->put($start . $tablespaces . $copy . $base . data('x' x 100)); POSIX::_exit(0); }, qr/lost|closed|could not receive/ ],
);
my %mode = map { my $b = $_; $b->[0] => { answer => { BASE_BACKUP => sub { my ($c) = @_; ref($b->[1]) ? $b->[1]->($c) : $c->put($b->[1]); $c->silence; } } } } @backups;
$mode{other} = { system_identifier => '7000000000000000002' };
$mode{plain} = {};

# What is said to the observer, and what it says of it.
my @names = (
	[ o_error => error_answer('42501', "no %s%n\e[1m \xff"), qr/no %s%n/ ],
	[ o_few => result(1, ['s']) . ready(), qr/answer is not valid/ ],
	[ o_null => result(5, [ 's', undef, undef, undef, undef ]) . ready(), qr/answer is not valid/ ],
	[ o_other => result(5, [ 's', 1, '7000000000000000002', 'f', 0 ]) . ready(), qr/has system identifier 7000000000000000002/ ],
	[ o_early => result(5, [ 'd', 5, 'postgres', 't', 6 ]) . ready(), qr/has system identifier 0/ ],
	[ o_long => result(5, [ 's', 1, $sysid, 'f', 0 ], [ 'd', 5, 'x' x 10_000, 't', 6 ]) . ready(), qr/answer is not valid/ ],
	[ o_oid => result(5, [ 's', 1, $sysid, 'f', 0 ], [ 'd', '-1', 'x', 't', 6 ]) . ready(), qr/answer is not valid/ ],
	[ o_copy => message('H', pack('Cn', 0, 0)), qr/./ ],
	[ o_junk => "\x01\x02\x03\x04\x05\x06\x07" x 100, qr/./ ],
	[ o_gone => sub { POSIX::_exit(0) }, qr/./ ],
);
# the settings that a connection of the observer asks for are not its question
$mode{ $_->[0] } = { sql => $_->[1] } foreach (@names);

my $server = WalHostile->new(modes => \%mode);
my $host = new_archive_host('archive', sources => 20, conf => "max_worker_processes = 40\n");
my $honest = new_primary('honest', conf => "wal_keep_size = 1GB\n");

add_source($host, 'honest', $honest, args => "relation_names_interval => '10 seconds'");
add_source($host, 'plain', $honest, conninfo => $server->conninfo('plain'), args => 'check_connection => false, relation_names_interval => NULL');
my $receiver = receiver_pid($host, 'honest');
my ($path) = map { s{/wal$}{}r } wal_dir($host, 'plain');

# ---- backups ----

foreach (@backups, [ other => undef, qr/system identifier 7000000000000000002/ ])
{
	my ($name, undef, $error) = @$_;
	my ($rc, $out, $err) = $host->psql('postgres',
		"SET statement_timeout = '120s'; SELECT walarchive.take_backup('plain', label => '$name', conninfo => \$c\$" . $server->conninfo($name) . '$c$)');
	isnt($rc, 0, "$name: the backup fails");
	like($err, $error, "$name: and says why");
	unlike($err, qr/\e/, "$name: in plain words");
}
is(join(' ', map { s{.*/}{}r } glob("$path/backup/*")), '', 'nothing of the backups is left');
is(join(' ', sort map { s{.*/}{}r } glob("$path/* " . archive_dir($host, 'plain') . '/*')),
	"$sysid backup backup.lock cluster.json journal receiver.lock source.json wal", 'nor anything beside them');
is(join(' ', sort map { s{.*/}{}r } glob("$host->{wa_directory}/*")), 'honest host.lock plain', 'nor beside the source');
is($host->safe_psql('postgres', "SELECT count(*) FROM walarchive.backup WHERE state <> 'failed'"), '0', 'the catalog has none that is not a failed one');

# ---- the observer ----

$host->safe_psql('postgres', join('', map { "SELECT walarchive.add_source('$_->[0]', \$c\$" . $server->conninfo($_->[0])
		  . "\$c\$, check_connection => false, relation_names_interval => '10 seconds');\n" } @names));
foreach (@names)
{
	my ($name, undef, $error) = @$_;
	my $last = '';
	ok(wait_for("an error of the names of $name", sub {
				$last = $host->safe_psql('postgres', "SELECT coalesce(relation_names_error, '') FROM walarchive.stat_observer WHERE source = '$name'");
				return $last =~ $error;
			}), "$name: no names, and it is said why") or diag($last);
}
$honest->safe_psql('postgres', 'CREATE TABLE after_all (a integer)');
ok(wait_for('the name of a new table', sub {
			$host->safe_psql('postgres', "SELECT count(*) FROM walarchive.relation_name WHERE source = 'honest' AND name = 'public.after_all'") > 0;
		}), 'the names of an honest source are learned all the same');
is(receiver_pid($host, 'honest'), $receiver, "its receiver is the same");
my $log = slurp_file($host->logfile);
unlike($log, qr/\e/, 'nothing in the log steers a terminal');
unlike($log, qr/PANIC|was terminated by signal/, 'no process has crashed');
$host->stop;
$honest->stop;
$server->stop;
done_testing();
