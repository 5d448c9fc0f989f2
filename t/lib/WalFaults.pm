# What the fault tests share: the preloaded fault library, load that logs what
# was acknowledged, and proof that a restore from the archive has all of it.
package WalFaults;

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename;
use File::Path ();
use IPC::Run;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use WalArchive;

our @EXPORT = qw(
  start_with_faults arm_faults disarm_faults
  try_psql poll_psql postmaster_pid process_gone worker_pids
  start_writers stop_writers acknowledged
  stage_archive restore_from_archive
  compare_finished load_segments event_count failure_count stop_indexers start_indexers
  open_session close_session commits_within
  cpu_seconds restfulness
  install_fault_points fault_point_conf fault_points arm_point change_errno disarm_points
);

# The server's module with fault points: test/faults/build_points.
my $points_module = abs_path(dirname(__FILE__) . '/../../test/faults') . '/points/walarchive.so';

my $shim = abs_path(dirname(__FILE__) . '/../../test/faults') . '/fault_shim.so';

# Start a server whose file operations fail when told so; see
# test/faults/fault_shim.c.  The faults are armed later.  Options are those of
# start, and 'preload': another library; returns what that does.
sub start_with_faults
{
	my ($node, %opt) = @_;
	die "$shim is missing: make -C test/faults" if !-e $shim;
	$node->{wa_fault_file} //= PostgreSQL::Test::Utils::tempdir() . '/faults';
	my $more = delete $opt{preload};
	local $ENV{LD_PRELOAD} = join(':', grep { $_ } $ENV{LD_PRELOAD}, $more, $shim);
	local $ENV{WA_FAULT_FILE} = $node->{wa_fault_file};
	return $node->start(%opt);
}

# Put rules into force, in place of those before.
sub arm_faults
{
	my ($node, @rules) = @_;
	my $file = $node->{wa_fault_file};
	open(my $fh, '>', "$file.new") or die "could not write $file.new: $!";
	print $fh map { "$_\n" } @rules;
	close($fh) or die "could not write $file.new: $!";
	rename("$file.new", $file) or die "could not rename $file.new: $!";
	return;
}

sub disarm_faults
{
	my ($node) = @_;
	unlink($node->{wa_fault_file});
	return;
}

# Run a query on a server that may be down: its output, or undef.
sub try_psql
{
	my ($node, $sql, %opt) = @_;
	my ($out, $err) = ('', '');

	# not by standard input: a server that dies meanwhile leaves a broken pipe
	IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d',
			$node->connstr($opt{dbname} // 'postgres'), '-c', $sql ],
		'<', '/dev/null', '>', \$out, '2>', \$err)
	  or return undef;
	chomp $out;
	return $out;
}

# Poll a query on a server that may be down until it returns what is wanted.
sub poll_psql
{
	my ($node, $sql, $wanted, $seconds) = @_;
	$wanted //= 't';
	my $last;
	my $ok = wait_for($sql,
		sub { $last = try_psql($node, $sql); defined $last && $last eq $wanted },
		$seconds);
	diag('last answer: ' . ($last // 'none')) if !$ok;
	return $ok;
}

sub postmaster_pid
{
	my ($node) = @_;
	my ($pid) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
	return $pid;
}

# True once there is no such process; a zombie is none.
sub process_gone
{
	my ($pid) = @_;
	open(my $fh, '<', "/proc/$pid/stat") or return 1;
	my $line = <$fh> // '';
	close($fh);
	return $line eq '' || $line =~ /\) [ZX] /;
}

# The pids of a server's processes whose title begins with this.  A worker
# without a database is not in pg_stat_activity.
sub worker_pids
{
	my ($node, $title) = @_;
	my $postmaster = postmaster_pid($node);
	my @pids;
	foreach my $line (split /\n/, `ps -A -ww -o pid= -o ppid= -o args=`)
	{
		push @pids, $1 if $line =~ /^\s*(\d+)\s+$postmaster\s+postgres: (?:\S+: )?\Q$title\E\b/;
	}
	return @pids;
}

# Have no indexer run until start_indexers: none is left, and one that is
# started all the same leaves at once.
sub stop_indexers
{
	my ($host) = @_;
	$host->safe_psql('postgres', 'ALTER SYSTEM SET walarchive.max_indexers = 0');
	$host->reload;
	wait_setting($host, 'walarchive.max_indexers', 0);
	wait_for('the indexers to leave', sub { !worker_pids($host, 'walarchive indexer') })
	  or BAIL_OUT('an indexer does not leave');
	return;
}

sub start_indexers
{
	my ($host) = @_;
	$host->safe_psql('postgres', 'ALTER SYSTEM RESET walarchive.max_indexers');
	$host->reload;
	return;
}

# Writers that insert rows into table "written" one by one, and log the id of
# each insert that was acknowledged.  They reconnect until told to stop.
sub start_writers
{
	my ($node, $count) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my @pids;

	$node->safe_psql('postgres',
		"CREATE TABLE IF NOT EXISTS written (id bigserial PRIMARY KEY, filler text)");
	open(my $fh, '>', "$dir/script.sql") or die $!;
	# psql prints a row only when the commit was acknowledged
	print $fh "INSERT INTO written (filler) VALUES (repeat('x', 300)) RETURNING id;\n" x 500;
	close($fh);
	my $connstr = $node->connstr('postgres');
	my $parent = $$;
	for my $n (1 .. $count)
	{
		my $pid = fork() // die "could not fork: $!";
		if ($pid == 0)
		{
			# a test that died must not leave us behind
			while (!-e "$dir/stop" && getppid() == $parent)
			{
				system("psql -XAtq -v ON_ERROR_STOP=1 -d '$connstr' -f '$dir/script.sql' >>'$dir/log.$n' 2>>'$dir/err.$n'") == 0
				  or usleep(50_000);
			}
			# no END blocks: the servers belong to the parent
			require POSIX;
			POSIX::_exit(0);
		}
		push @pids, $pid;
	}
	return { dir => $dir, pids => \@pids };
}

sub stop_writers
{
	my ($writers) = @_;
	append_to_file("$writers->{dir}/stop", '');
	waitpid($_, 0) for @{ $writers->{pids} };
	return;
}

# The ids that were acknowledged; a last line without newline was not.
sub acknowledged
{
	my ($writers) = @_;
	my @ids;
	foreach my $log (glob("$writers->{dir}/log.*"))
	{
		push @ids, (slurp_file($log) =~ /^(\d+)\n/mg);
	}
	return @ids;
}

# A copy of a WAL folder as restore_command wants it: the partial segments
# under their full names, where there is no full one.
sub stage_archive
{
	my ($wal_dir) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir();

	copy_wal($wal_dir, $dir);
	return $dir;
}

# Recover a backup of a node from an archived WAL folder to the end; returns
# the promoted node.
sub restore_from_archive
{
	my ($name, $node, $backup, $wal_dir) = @_;
	my $staged = stage_archive($wal_dir);
	my $restored = PostgreSQL::Test::Cluster->new($name);

	$restored->init_from_backup($node, $backup);
	$restored->append_conf(
		'postgresql.conf', qq(
restore_command = 'cp "$staged/%f" "%p"'
synchronous_standby_names = ''
shared_preload_libraries = ''
));
	# ALTER SYSTEM of the original wins over postgresql.conf
	unlink($restored->data_dir . '/postgresql.auto.conf');
	$restored->set_recovery_mode;
	$restored->start;
	$restored->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()')
	  or die 'recovery does not end';
	return $restored;
}

# Compare each finished segment of an archive, or those that are given, with the
# primary's own file.  Returns how many were compared, dies at a difference.
sub compare_finished
{
	my ($wal_dir, $node, @names) = @_;
	my $compared = 0;

	@names = wal_files($wal_dir) if !@names;
	foreach my $name (@names)
	{
		my $own = $node->data_dir . "/pg_wal/$name";
		next if !-e $own;
		die "$name differs from the primary's" if !same_file("$wal_dir/$name", $own);
		$compared++;
	}
	return $compared;
}

# Have the primary fill so many segments with data.
sub load_segments
{
	my ($node, $count) = @_;
	$node->safe_psql('postgres',
		'CREATE TABLE IF NOT EXISTS filler (t text)');
	for (1 .. $count)
	{
		$node->safe_psql('postgres',
			"INSERT INTO filler SELECT repeat('y', 900) FROM generate_series(1, 400);
			 SELECT pg_switch_wal()");
	}
	return;
}

# A session that has run some SQL and stays open, for what it holds.
sub open_session
{
	my ($node, $sql, %opt) = @_;
	my $session = { in => "$sql\n\\echo it is done\n", out => '', err => '' };

	$session->{handle} = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d',
			$node->connstr($opt{dbname} // 'postgres'), '-f', '-' ],
		'<', \$session->{in}, '>', \$session->{out}, '2>', \$session->{err});
	wait_for("a session to run $sql",
		sub { $session->{handle}->pump_nb; $session->{out} =~ /^it is done$/m })
	  or die "session did not run $sql: $session->{err}";
	return $session;
}

sub close_session
{
	my ($session) = @_;
	$session->{in} .= "\\q\n";
	$session->{handle}->finish;
	return;
}

# One commit on a primary; the seconds it took, or undef if it took more than
# the limit (it is cancelled then).
sub commits_within
{
	my ($node, $seconds) = @_;
	my $start = time();
	my $limit = int($seconds * 1000);
	my ($rc) = $node->psql('postgres',
		"SET statement_timeout = $limit; INSERT INTO filler VALUES ('commit')",
		timeout => $seconds + 5, timed_out => \my $timed_out);
	my $took = time() - $start;
	# a commit that is cancelled while it waits for a standby ends with a warning
	return if $timed_out || $rc != 0 || $took > $seconds;
	return $took;
}

# How many lines of a source's journal match, read from the file itself.
sub event_count
{
	my ($host, $source, $re) = @_;
	my $journal = archive_dir($host, $source) . '/journal';
	return 0 if !-e $journal;
	my @hits = grep { /$re/ } split /\n/, slurp_file($journal);
	return scalar @hits;
}

# How often a source's journal says that it does not stream because of this.  An
# attempt may find that the walsender of the one before is still ending, and have
# the slot: what it says of that, and the same cause once more, is no other failure.
sub failure_count
{
	my ($host, $source, $cause) = @_;
	my ($count, $last, $held) = (0, '', 0);
	foreach my $line (journal_lines($host, $source, 'state'))
	{
		my $now = $line->{cause} // '';
		if ($now eq 'slot_active') { $held = 1; next; }
		$count++ if $now eq $cause && !($held && $last eq $cause);
		($last, $held) = ($now, 0);
	}
	return $count;
}

# CPU time of processes, all threads, in seconds.
sub cpu_seconds
{
	my (@pids) = @_;
	my $ticks = 0;
	foreach my $pid (@pids)
	{
		my ($rest) = slurp_file("/proc/$pid/stat") =~ /.*\) (.*)/s;
		my @field = split / /, $rest;
		$ticks += $field[11] + $field[12];
	}
	return $ticks / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

# Do processes that have nothing to do sleep?  While $window runs, which has
# to return once each of them was woken a few times, one that sleeps in between
# goes to sleep as often as it is woken, and needs little CPU for each time; one
# that spins never does, one that polls does so more often.  A busy machine
# adds nothing to the first, and the time that passed bounds the second.
#
# Returns, of the worst process: CPU milliseconds for each time that it went to
# sleep, and how often it did for each time of $interval seconds that passed.
# The better of several windows counts: something real may happen in one.
sub restfulness
{
	my ($pids, $interval, $window) = @_;
	my ($best_cpu, $best_wakes);

	for (1 .. 3)
	{
		my $start = time();
		my %cpu = map { $_ => cpu_seconds($_) } @$pids;
		my %sleeps = map { $_ => sleeps_of($_) } @$pids;
		$window->();
		my ($worst_cpu, $worst_wakes) = (0, 0);
		foreach my $pid (@$pids)
		{
			my $sleeps = sleeps_of($pid) - $sleeps{$pid};
			my $ms = 1000 * (cpu_seconds($pid) - $cpu{$pid}) / ($sleeps || 1);
			my $wakes = $sleeps / ((time() - $start) / $interval + 1);
			$worst_cpu = $ms if $ms > $worst_cpu;
			$worst_wakes = $wakes if $wakes > $worst_wakes;
		}
		$best_cpu = $worst_cpu if !defined $best_cpu || $worst_cpu < $best_cpu;
		$best_wakes = $worst_wakes if !defined $best_wakes || $worst_wakes < $best_wakes;
	}
	return ($best_cpu, $best_wakes);
}

# How often a process has gone to sleep of its own will.
sub sleeps_of
{
	my ($pid) = @_;
	my ($count) = slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m;
	return $count;
}

# A copy of PostgreSQL's programs, for install_path of a node, whose walarchive is
# the module with fault points: what the tests use otherwise stays as it is.
sub install_fault_points
{
	die "$points_module is missing: test/faults/build_points" if !-e $points_module;
	my $root = PostgreSQL::Test::Utils::tempdir() . '/pg';
	my %dir;
	foreach my $what (qw(bindir pkglibdir sharedir))
	{
		chomp($dir{$what} = `pg_config --$what`);
		File::Path::make_path($root . dirname($dir{$what}));
	}
	# programs find the rest from where they are, so they can't be links
	system_or_bail('cp', '-a', $dir{bindir}, "$root$dir{bindir}");
	symlink($dir{sharedir}, "$root$dir{sharedir}") or die "could not link $dir{sharedir}: $!";
	File::Path::make_path("$root$dir{pkglibdir}");
	foreach my $file (glob("$dir{pkglibdir}/*"))
	{
		my $name = basename($file);
		my $target = $name eq 'walarchive.so' ? $points_module : $file;
		# the programs may lie in the same folder
		next if -e "$root$dir{pkglibdir}/$name";
		symlink($target, "$root$dir{pkglibdir}/$name") or die "could not link $file: $!";
	}
	return $root . dirname($dir{bindir});
}

# The line of postgresql.conf with which a host arms its points.
sub fault_point_conf
{
	my $file = PostgreSQL::Test::Utils::tempdir() . '/points';
	return ($file, "walarchive.fault_file = '$file'\n");
}

# The points of a file: name => { number, passed, struck }.  The form of an entry
# is described in src/state/fault_point.c.
sub fault_points
{
	my ($file) = @_;
	my %point;
	my $bytes = slurp_file($file);
	for (my $n = 0; $n * 64 < length($bytes); $n++)
	{
		my ($name, undef, undef, undef, undef, undef, $passed, $struck) = unpack('Z36 L7', substr($bytes, $n * 64, 64));
		$point{$name} = { number => $n, passed => $passed, struck => $struck };
	}
	return %point;
}

my %point_action = (fail => 1, short => 2, kill => 3, kill_after => 4, rest => 5);

# Arm a point: what it does ("fail" with errno, "short", "kill", "kill_after",
# "rest" for ms), how often (count; always if not given), after how many passes
# (skip).  Returns how often it has struck before.
sub arm_point
{
	my ($file, $name, $action, %opt) = @_;
	my %point = fault_points($file);
	my $point = $point{$name} // die "there is no fault point $name";
	my $at = $point->{number} * 64;

	# the action goes first when it is taken away, and comes last
	write_at($file, $at + 36, pack('L', 0));
	write_at($file, $at + 40, pack('L4', $opt{errno} // 0, $opt{skip} // 0, $opt{count} // 0xffffffff, $opt{ms} // 0));
	write_at($file, $at + 36, pack('L', $point_action{$action} // die "what is $action?"));
	return $point->{struck};
}

# Have an armed point fail with another error from now on, without a moment in
# which it does not fail.  Returns how often it has struck before.
sub change_errno
{
	my ($file, $name, $errno) = @_;
	my %point = fault_points($file);

	write_at($file, $point{$name}{number} * 64 + 40, pack('L', $errno));
	return $point{$name}{struck};
}

sub disarm_points
{
	my ($file) = @_;
	my %point = fault_points($file);
	write_at($file, $_->{number} * 64 + 36, pack('L', 0)) foreach values %point;
	return;
}

sub write_at
{
	my ($file, $offset, $bytes) = @_;
	open(my $fh, '+<:raw', $file) or die "could not open $file: $!";
	sysseek($fh, $offset, 0) or die "could not seek in $file: $!";
	syswrite($fh, $bytes) == length($bytes) or die "could not write $file: $!";
	close($fh);
	return;
}

1;
