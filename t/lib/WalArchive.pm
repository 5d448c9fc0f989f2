# What the TAP tests share: an archive host, primaries with small segments,
# waiting for conditions, and comparing archives byte by byte.
package WalArchive;

use strict;
use warnings;

use Digest::SHA;
use Exporter 'import';
use File::Basename;
use File::Copy ();
use File::Path qw(make_path);
use IPC::Run;
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(
  new_archive_host new_primary conninfo add_source archive_dir wal_dir
  wait_for wait_streaming wait_timeline start_on_new_timeline wait_archived wait_state wait_cause stat_of
  wal_files same_file read_file_bytes receiver_pid backend_pid
  start_receivewal stop_process make_synchronous
  start_sql sql_done sql_result journal_lines wait_event wait_health
  switch_wal same_wal checksums save_data restore_data copy_wal wait_setting
  shared_segments one_of
  hold_snapshots release_snapshots stop_held wait_crashed
);

# A server on a busy machine starts slowly.
$ENV{PGCTLTIMEOUT} //= $PostgreSQL::Test::Utils::timeout_default;

# An archive host with the extension, started.  Options: sources, directory,
# conf (more lines for postgresql.conf), install_path, start => 0, extension => 0.
sub new_archive_host
{
	my ($name, %opt) = @_;
	my $host = PostgreSQL::Test::Cluster->new($name, install_path => $opt{install_path});
	my $dir = $opt{directory} // PostgreSQL::Test::Utils::tempdir();

	$host->init;
	my $sources = $opt{sources} // 8;
	my $workers = $sources + 8;
	$host->append_conf(
		'postgresql.conf', qq(
shared_preload_libraries = 'walarchive'
walarchive.directory = '$dir'
walarchive.max_sources = $sources
walarchive.min_free_space = 0
max_worker_processes = $workers
restart_after_crash = on
));
	$host->append_conf('postgresql.conf', $opt{conf}) if $opt{conf};
	$host->{wa_directory} = $dir;
	if ($opt{start} // 1)
	{
		$host->start;
		$host->safe_psql('postgres', 'CREATE EXTENSION walarchive')
		  if $opt{extension} // 1;
	}
	return $host;
}

# A primary with 1 MB segments that sends WAL.  What it writes is what the test
# makes it write, but for a snapshot of its transactions now and then.  Options:
# segsize (MB), conf, start => 0.
sub new_primary
{
	my ($name, %opt) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	my $size = $opt{segsize} // 1;

	$node->init(allows_streaming => 1, extra => [ "--wal-segsize=$size", @{ $opt{initdb} // [] } ]);
	$node->append_conf(
		'postgresql.conf', q(
fsync = on
wal_keep_size = 0
max_wal_senders = 20
max_replication_slots = 20
wal_sender_timeout = 10s
autovacuum = off
checkpoint_timeout = 1h
));
	$node->append_conf('postgresql.conf', $opt{conf}) if $opt{conf};
	$node->start if $opt{start} // 1;
	return $node;
}

# Connection string without a database, as add_source wants it.
sub conninfo
{
	my ($node) = @_;
	return 'host=' . $node->host . ' port=' . $node->port;
}

# The same of several nodes, whichever is the primary.
sub one_of
{
	my (@nodes) = @_;
	return 'host=' . join(',', map { $_->host } @nodes) . ' port=' . join(',', map { $_->port } @nodes)
	  . ' target_session_attrs=read-write';
}

# Add a source and wait until it streams (unless wait => 0).
sub add_source
{
	my ($host, $name, $node, %opt) = @_;
	my $conninfo = $opt{conninfo} // conninfo($node);
	my $args = $opt{args} ? ", $opt{args}" : '';

	$host->safe_psql('postgres',
		"SELECT walarchive.add_source('$name', \$\$$conninfo\$\$$args)");
	wait_streaming($host, $name) if $opt{wait} // 1;
	return;
}

# The source's folder.
sub archive_dir
{
	my ($host, $source) = @_;
	return "$host->{wa_directory}/$source";
}

# The WAL folder of its only (or of the given) system identifier.
sub wal_dir
{
	my ($host, $source, $sysid) = @_;
	my $dir = archive_dir($host, $source);
	my @found = grep { -d $_ } glob("$dir/" . ($sysid // '[0-9]*') . '/wal');
	die "no single WAL folder below $dir: @found" if @found != 1;
	return $found[0];
}

# Poll a condition; dies after a generous time.
sub wait_for
{
	my ($what, $condition, $seconds) = @_;
	my $limit = time() + ($seconds // $PostgreSQL::Test::Utils::timeout_default);
	while (!$condition->())
	{
		if (time() > $limit)
		{
			diag("timed out waiting for $what");
			return 0;
		}
		usleep(20_000);
	}
	return 1;
}

# One value of stat_receiver.
sub stat_of
{
	my ($host, $source, $column) = @_;
	return $host->safe_psql('postgres',
		"SELECT $column FROM walarchive.stat_receiver WHERE source = '$source'");
}

sub wait_state
{
	my ($host, $source, $state) = @_;
	wait_for("source $source to be $state",
		sub { stat_of($host, $source, 'state') eq $state })
	  or BAIL_OUT("source $source is not $state but "
		  . stat_of($host, $source, "concat_ws(' | ', state, cause, last_error)"));
	return 1;
}

# (After a failover see wait_timeline: the state is that of the old connection
# until its end has been noticed.)
sub wait_streaming { return wait_state(@_, 'streaming'); }

# Wait until a timeline is streamed.  Then what stat_receiver says is of it.
sub wait_timeline
{
	my ($host, $source, $timeline) = @_;
	wait_for("source $source to stream timeline $timeline",
		sub { stat_of($host, $source, "state = 'streaming' AND received_tli = $timeline") eq 't' })
	  or BAIL_OUT("source $source does not stream timeline $timeline: "
		  . stat_of($host, $source, "concat_ws(' | ', state, received_tli, cause, last_error)"));
	return 1;
}

# Start a server that is down as one that was promoted: what it has of WAL ends its
# timeline, and it goes on on the next one.
sub start_on_new_timeline
{
	my ($node) = @_;
	append_to_file($node->data_dir . '/recovery.signal', '');
	$node->append_conf('postgresql.conf', "restore_command = 'false'\nrecovery_target_timeline = 'current'\n");
	$node->start;
	return wait_for('the new timeline', sub { $node->safe_psql('postgres', 'SELECT pg_is_in_recovery()') eq 'f' });
}

# Wait until a setting that was changed by a reload has come to the postmaster,
# and so to every process that it starts from now on.
sub wait_setting
{
	my ($node, $name, $value) = @_;
	return wait_for("$name to be $value",
		sub { $node->safe_psql('postgres', "SHOW $name") eq $value })
	  || BAIL_OUT("$name is not $value");
}

# Wait for a cause (a word of stat_receiver.cause).
sub wait_cause
{
	my ($host, $source, $cause) = @_;
	return wait_for("source $source to report $cause",
		sub { stat_of($host, $source, "coalesce(cause, '')") eq $cause });
}

# Wait until all WAL that the primary has flushed now is durable in the archive.
sub wait_archived
{
	my ($host, $source, $node) = @_;
	my $lsn = $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
	wait_for("WAL up to $lsn in the archive of $source",
		sub { stat_of($host, $source, "flushed_lsn >= '$lsn'") eq 't' })
	  or BAIL_OUT("archive of $source does not reach $lsn: "
		  . stat_of($host, $source, "concat_ws(' | ', state, cause, flushed_lsn, last_error)"));
	return $lsn;
}

# Names of WAL and history files of a folder, sorted; partials on request.
sub wal_files
{
	my ($dir, %opt) = @_;
	my $re = $opt{partial} ? qr/^([0-9A-F]{24}(\.partial)?|[0-9A-F]{8}\.history)$/ :
	  qr/^([0-9A-F]{24}|[0-9A-F]{8}\.history)$/;
	opendir(my $dh, $dir) or die "could not open $dir: $!";
	my @names = sort grep { /$re/ } readdir($dh);
	closedir($dh);
	return @names;
}

# Copies of the files of a WAL folder under the names that recovery asks for: a
# partial segment under its full name, unless there is a full one.  One may get
# its full name meanwhile.
sub copy_wal
{
	my ($from, $to) = @_;
	foreach my $name (wal_files($from, partial => 1))
	{
		(my $full = $name) =~ s/\.partial$//;
		next if $name ne $full && -e "$from/$full";
		next if File::Copy::copy("$from/$name", "$to/$full");
		File::Copy::copy("$from/$full", "$to/$full") or die "could not copy $name: $!";
	}
	return;
}

sub read_file_bytes
{
	my ($path) = @_;
	open(my $fh, '<:raw', $path) or die "could not open $path: $!";
	local $/ = undef;
	my $bytes = <$fh>;
	close($fh);
	return $bytes;
}

sub same_file
{
	my ($a, $b) = @_;
	return Digest::SHA->new(256)->addfile($a, 'b')->hexdigest eq
	  Digest::SHA->new(256)->addfile($b, 'b')->hexdigest;
}

sub receiver_pid
{
	my ($host, $source) = @_;
	return stat_of($host, $source, 'pid');
}

# The pid of a server process of a type, as pg_stat_activity names it.
sub backend_pid
{
	my ($host, $type) = @_;
	return $host->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = '$type' LIMIT 1");
}

# The background writer logs a snapshot every 15 s if there was WAL since the one
# before, at any moment.  Where a test compares positions it must not: it is
# stopped until release_snapshots or stop_held.  A fast stop would wait for it.
# It must be asleep then: at work it may hold a lock that everybody waits for.
sub hold_snapshots
{
	my ($node) = @_;
	wait_for('the background writer to be stopped while it sleeps', sub {
		my $pid = backend_pid($node, 'background writer');
		return 0 if $pid eq '' || kill('STOP', $pid) != 1;
		my ($event, $late) = ('', 0);
		wait_for('it to be stopped', sub { slurp_file("/proc/$pid/stat") =~ /\) [Tt] / }) or return 0;
		$node->psql('postgres', "SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = $pid",
			stdout => \$event, timeout => 20, timed_out => \$late);
		$node->{wa_held} = $pid;
		return 1 if !$late && $event =~ /^BgWriter/i;
		release_snapshots($node);
		return 0; })
	  or BAIL_OUT('the background writer cannot be stopped');
	return;
}

sub release_snapshots
{
	my ($node) = @_;
	kill('CONT', delete $node->{wa_held});
	return;
}

# An immediate stop of a server whose background writer is held: that one goes
# on, to its end, when it has been told to.
sub stop_held
{
	my ($node) = @_;
	my $held = delete $node->{wa_held};
	my $helper = fork() // die "could not fork: $!";
	if ($helper == 0)
	{
		# SIGQUIT is pending; without /proc the server kills it after 5 s
		for (1 .. 1000)
		{
			open(my $fh, '<', "/proc/$held/status") or last;
			my ($pending) = join('', <$fh>) =~ /^ShdPnd:\s*([0-9a-f]+)/m;
			close($fh);
			if (hex(substr($pending // '0', -4)) & 1 << 2)
			{
				kill('CONT', $held);
				last;
			}
			usleep(10_000);
		}
		# no END blocks: the servers belong to the parent
		require POSIX;
		POSIX::_exit(0);
	}
	$node->stop('immediate');
	waitpid($helper, 0);
	return;
}

# One of a server's processes was killed: wait until the server has noticed, has
# ended all others, and is back.
sub wait_crashed
{
	my ($node, $pid) = @_;
	wait_for("the death of process $pid to be noticed", sub { !kill(0, $pid) })
	  or BAIL_OUT("process $pid is still there");
	wait_for('the server to be back', sub {
		my ($rc, $out) = $node->psql('postgres', 'SELECT 1');
		$rc == 0 && $out eq '1' })
	  or BAIL_OUT('the server does not come back');
	return;
}

# pg_receivewal --synchronous beside us, with a slot of its own.  Returns an
# IPC::Run handle and its directory.
sub start_receivewal
{
	my ($node, %opt) = @_;
	my $dir = $opt{dir} // PostgreSQL::Test::Utils::tempdir();
	my $slot = $opt{slot} // 'receivewal';
	my ($out, $err) = ('', '');

	if ($opt{create} // 1)
	{
		system_or_bail('pg_receivewal', '--create-slot', '--if-not-exists', '-S', $slot,
			'-h', $node->host, '-p', $node->port);
	}
	my $handle = IPC::Run::start(
		[ 'pg_receivewal', '-D', $dir, '-S', $slot, '--synchronous',
			'-h', $node->host, '-p', $node->port ],
		'>', \$out, '2>', \$err);
	return ($handle, $dir);
}

# End a process that the test started and wait until it is gone.
sub stop_process
{
	my ($handle) = @_;
	$handle->signal('TERM');
	$handle->finish;
	return;
}

# Have every commit of the primary wait for these application names.
sub make_synchronous
{
	my ($node, @names) = @_;
	my $list = join(', ', map { qq("$_") } @names);
	$node->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 ($list)'");
	$node->reload;
	wait_for('a synchronous standby',
		sub { $node->safe_psql('postgres',
				q(SELECT count(*) > 0 FROM pg_stat_replication WHERE sync_state IN ('quorum', 'sync'))) eq 't' })
	  or BAIL_OUT('no synchronous standby');
	return;
}

# A psql in the background that runs one script; see sql_done and sql_result.
# It reads and writes files: pipes would need to be pumped.
sub start_sql
{
	my ($node, $sql, %opt) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $session = { dir => $dir };

	append_to_file("$dir/sql", $sql);
	$session->{handle} = IPC::Run::start(
		[ 'psql', '-X', '-A', '-t', '-q', '-v', 'ON_ERROR_STOP=1',
			'-d', $node->connstr($opt{dbname} // 'postgres'), '-f', "$dir/sql" ],
		'<', '/dev/null', '>', "$dir/out", '2>', "$dir/err");
	return $session;
}

# Has it ended?
sub sql_done
{
	my ($session) = @_;
	return !$session->{handle}->pumpable;
}

# Wait for its end; its exit code (and, in a list, its output and errors).
sub sql_result
{
	my ($session) = @_;
	my $dir = $session->{dir};

	wait_for('a psql to end', sub { sql_done($session) })
	  or $session->{handle}->kill_kill;
	$session->{handle}->finish;
	my $code = $session->{handle}->result(0);
	diag(slurp_file("$dir/err")) if $code != 0 && !wantarray;
	return $code unless wantarray;
	chomp(my $out = slurp_file("$dir/out"));
	return ($code, $out, slurp_file("$dir/err"));
}

# The source's journal, a hash for each line, oldest first.
sub journal_lines
{
	my ($host, $source, $kind) = @_;
	my $path = archive_dir($host, $source) . '/journal';
	return () unless -e $path;
	my @lines = map { JSON::PP::decode_json($_) } split(/\n/, read_file_bytes($path));
	return grep { !defined $kind || $_->{kind} eq $kind } @lines;
}

# Wait until the view of events has 'count' of a kind (at least one).
sub wait_event
{
	my ($host, $source, $kind, $count) = @_;
	$count //= 1;
	return wait_for("event $kind of $source in the catalog",
		sub { $host->safe_psql('postgres',
				"SELECT count(*) >= $count FROM walarchive.event WHERE source = '$source' AND kind = '$kind'") eq 't' });
}

# Wait until a check of the source's health has a severity.
sub wait_health
{
	my ($host, $source, $check, $severity) = @_;
	return wait_for("health check $check of $source to be $severity",
		sub { $host->safe_psql('postgres',
				qq(SELECT severity FROM walarchive.health WHERE source = '$source' AND "check" = '$check')) eq $severity });
}

# Write a little and switch segments, 'count' times.  Returns the LSN after it.
sub switch_wal
{
	my ($node, $count) = @_;
	$count //= 1;
	my $switches = "SELECT pg_logical_emit_message(true, 'switch', 'x'); SELECT pg_switch_wal();\n" x $count;
	$node->safe_psql('postgres', $switches);
	return $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
}

# Names that two folders share, finished segments and histories.
sub shared_segments
{
	my ($a, $b) = @_;
	my %there = map { $_ => 1 } wal_files($b);
	return grep { $there{$_} } wal_files($a);
}

# Which of the files that two folders share differ.  Returns their number and
# the names of those that differ.
sub same_wal
{
	my ($a, $b) = @_;
	my @shared = shared_segments($a, $b);
	my @differ = grep { !same_file("$a/$_", "$b/$_") } @shared;
	return (scalar(@shared), join(' ', @differ));
}

# Name and checksum of everything that looks like WAL, as one string.
sub checksums
{
	my ($dir) = @_;
	return join("\n",
		map { "$_ " . Digest::SHA->new(256)->addfile("$dir/$_", 'b')->hexdigest }
		  wal_files($dir, partial => 1));
}

# Keep a copy of a stopped server's data directory, and put it back.
sub save_data
{
	my ($node) = @_;
	my $copy = PostgreSQL::Test::Utils::tempdir() . '/data';
	system_or_bail('cp', '-a', $node->data_dir, $copy);
	return $copy;
}

sub restore_data
{
	my ($node, $copy) = @_;
	system_or_bail('rm', '-rf', $node->data_dir);
	system_or_bail('cp', '-a', $copy, $node->data_dir);
	return;
}

1;
