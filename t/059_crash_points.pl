# The receiver dies between two system calls: after the data is durable and
# before the file has its name, after the name and before the directory is
# durable, with a file half made.  At each such point a kill must cost nothing:
# streaming is back, no segment is missing, twice there, or different, and the
# commits that waited are confirmed afterwards.
use strict;
use warnings;

use FindBin;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalFaults;

my $host = new_archive_host('archive', start => 0);
# what is written and synced, in the order of time
my $power_log = PostgreSQL::Test::Utils::tempdir() . '/power';
{
	local $ENV{WA_POWER_LOG} = $power_log;
	start_with_faults($host, preload => "$FindBin::RealBin/../test/faults/power_shim.so");
}
$host->safe_psql('postgres', 'CREATE EXTENSION walarchive');
my $primary = new_primary('primary', conf => "wal_keep_size = 1GB\n");
add_source($host, 'prod', $primary);
load_segments($primary, 1);
make_synchronous($primary, 'walarchive_prod');
my $wal = wal_dir($host, 'prod');

my @points = (
	'open:KILL:walarchive.prepared:1',
	'open:KILL_AFTER:walarchive.prepared:1',
	'write:KILL_AFTER:walarchive.prepared:1',
	'fsync:KILL_AFTER:walarchive.prepared:1',
	'rename:KILL:walarchive.prepared:1',
	'rename:KILL_AFTER:walarchive.prepared:1',
	'write:KILL:.partial:1',
	'write:KILL_AFTER:.partial:1',
	'fdatasync:KILL:.partial:1',
	'fdatasync:KILL_AFTER:.partial:1',
	'rename:KILL:.partial:1',
	'rename:KILL_AFTER:.partial:1',
	'fsync:KILL:/wal$:1',
	'fsync:KILL_AFTER:/wal$:1');

foreach my $point (@points)
{
	my $pid = receiver_pid($host, 'prod');
	arm_faults($host, $point);
	# in the background, because it waits for the archive
	my $load = start_load($primary,
		# segments that end in the middle of a record, and segments that end in zeroes
		"INSERT INTO filler SELECT repeat('z', 900) FROM generate_series(1, 1200);
		 INSERT INTO filler SELECT repeat('z', 900) FROM generate_series(1, 400);
		 SELECT pg_switch_wal();\n" x 2 . "INSERT INTO filler VALUES ('$point');\n");
	ok(wait_for('the receiver to be killed', sub { process_gone($pid) }),
		"$point: the receiver was killed");
	$load->finish;
	is($load->result(0), 0, "$point: the commits are confirmed afterwards");
	disarm_faults($host);
	poll_psql($host,
		"SELECT state = 'streaming' AND pid <> $pid FROM walarchive.stat_receiver WHERE source = 'prod'")
	  or BAIL_OUT("$point: streaming does not come back");
	wait_archived($host, 'prod', $primary);
	my @finished = wal_files($wal);
	is(compare_finished($wal, $primary, @finished), scalar(@finished),
		"$point: finished segments equal the primary's");
}

# A kernel tells of a failed write once.  A process that dies before it has drawn
# the consequence leaves a file that looks well and syncs well, and is not on disk.
$primary->safe_psql('postgres', 'SELECT pg_switch_wal()');
$primary->safe_psql('postgres', q(INSERT INTO filler SELECT repeat('y', 900) FROM generate_series(1, 300)));
wait_archived($host, 'prod', $primary);
my $pid = receiver_pid($host, 'prod');
arm_faults($host, 'fdatasync:EIO:.partial:1', 'rename:KILL:.unsynced:1');
my $load = start_load($primary, "INSERT INTO filler VALUES ('unsynced');\n");
ok(wait_for('the receiver to be killed', sub { process_gone($pid) }), 'a sync fails, and the receiver is killed before it sets the file aside');
my $since = -s $power_log;
$load->finish;
is($load->result(0), 0, '... the commit is confirmed afterwards');
disarm_faults($host);
poll_psql($host, "SELECT state = 'streaming' AND pid <> $pid FROM walarchive.stat_receiver WHERE source = 'prod'")
  or BAIL_OUT('streaming does not come back');
my $end = wait_archived($host, 'prod', $primary);
my $name = $primary->safe_psql('postgres', "SELECT pg_walfile_name('$end')");
my $length = hex((split('/', $end))[1]) % (1024 * 1024);
cmp_ok($length, '>', 300 * 900, '... of a segment with much before it');
is(synced_since($since, (stat("$wal/$name.partial"))[1], $length), $length,
	'... once all that the dead process had written was written again, and synced');

# How many of the first bytes of a file were written, and synced thereafter.
sub synced_since
{
	my ($from, $inode, $length) = @_;
	my $bytes = substr(slurp_file($power_log), $from);
	my $written = my $synced = "\0" x $length;
	my %begun;
	for (my $at = 0; $at + 40 <= length($bytes); $at += 40)
	{
		my ($what, $of, $a, $b) = unpack('Q4', substr($bytes, $at, 32));
		next if $of != $inode;
		if ($what == 1 && $a < $length)
		{
			my $n = $a + $b > $length ? $length - $a : $b;
			substr($written, $a, $n) = "\1" x $n;
		}
		elsif ($what == 2) { $begun{$a} = $written; }
		elsif ($what == 3) { $synced |= $begun{$a} if defined $begun{$a}; }
	}
	return $synced =~ tr/\1//;
}

# psql on a file: it runs on while nobody feeds it
sub start_load
{
	my ($node, $sql) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/load.sql';
	append_to_file($file, $sql);
	return IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', $file ],
		'>', '/dev/null');
}

# no hole, and nothing left over
my @names = wal_files($wal);
my ($first, $last) = map { hex(substr($_, 8, 8)) * 4096 + hex(substr($_, 16, 8)) } @names[ 0, -1 ];
is($last - $first + 1, scalar @names, 'finished segments follow one another');
my @partials = grep { /partial/ } wal_files($wal, partial => 1);
is(scalar @partials, 1, 'one partial segment');
opendir(my $dh, $wal) or die $!;
my @strange = grep { !/^([0-9A-F]{24}(\.partial)?|\.\.?|walarchive\.prepared\.\d+)$/ } readdir($dh);
closedir($dh);
is("@strange", '', 'no other file is left');
ok( $host->poll_query_until('postgres',
		"SELECT count(*) FROM walarchive.segment WHERE source = 'prod' AND state = 'finished'", scalar(@names)),
	'the catalog has each finished segment');
is($host->safe_psql('postgres', 'SELECT count(*) FROM walarchive.gap'), '0', 'and knows of no gap');

$host->stop;
$primary->stop;
done_testing();
