# What the tests of "walarchive restore" share: running it, and the copies that
# it starts, which are stopped at the end.
package WalRestore;

use strict;
use warnings;

use Exporter 'import';
use Cwd qw(abs_path);
use File::Basename;
use IO::Select;
use IO::Socket::UNIX;
use IPC::Run;
use JSON::PP ();
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;

our @EXPORT = qw(
  walarchive restore_copy copy_sql copy_setting stop_copy forget_copy wait_decoded archive_args take_backup new_place
  with_faults cannot_start start_proxy stop_proxy
);

my %copies;

# Run the client; its exit code, output and errors.
sub walarchive
{
	my (@args) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ 'walarchive', @args ], '<', \undef, '>', \$out, '2>', \$err,
		IPC::Run::timeout(20 * $PostgreSQL::Test::Utils::timeout_default));
	my $code = $? & 127 ? 128 + ($? & 127) : $? >> 8;
	note("walarchive @args: $code\n$out$err");
	return ($code, $out, $err);
}

# How the client finds the archive host.
sub archive_args
{
	my ($host) = @_;
	return ('-h', $host->host, '-p', $host->port, '-d', 'postgres', '--source=prod');
}

# A folder that is not there yet, with a short path.
sub new_place
{
	return PostgreSQL::Test::Utils::tempdir_short() . '/data';
}

# Restore: the exit code, what it says with --json, and its errors.
sub restore_copy
{
	my ($data, @args) = @_;
	# tests that run side by side would choose the same one
	push @args, '--port', PostgreSQL::Test::Cluster::get_free_port()
	  if !grep { /^--(as-primary|port)$/ } @args;
	my ($code, $out, $err) = walarchive('restore', '--json', '-D', $data, @args);
	my $result = $out ne '' ? JSON::PP::decode_json($out) : {};

	$copies{$data} = 1;
	diag($err) if $code != 0 && $result->{feasible} && $ENV{WA_VERBOSE};
	return ($code, $result, $err);
}

# A query on a copy that was started.
sub copy_sql
{
	my ($result, $sql, $dbname) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ 'psql', '-X', '-A', '-t', '-q', '-v', 'ON_ERROR_STOP=1', '-h', $result->{data_directory},
			'-p', $result->{port}, '-d', $dbname // 'postgres', '-c', $sql ], '<', \undef, '>', \$out, '2>', \$err);
	chomp($out);
	diag("$sql: $err") if $err ne '';
	return $out;
}

sub copy_setting
{
	my ($result, $name) = @_;
	return copy_sql($result, "SELECT current_setting('$name')");
}

sub stop_copy
{
	my ($data) = @_;
	system("pg_ctl -D '$data' -m immediate -w stop >/dev/null 2>&1") if -e "$data/postmaster.pid";
	return;
}

# A copy that somebody else takes care of.
sub forget_copy
{
	my ($data) = @_;
	delete $copies{$data};
	return;
}

# Wait until all WAL that the primary has flushed now is archived and known to the catalog.
sub wait_decoded
{
	my ($host, $primary, $source) = @_;
	$source //= 'prod';
	my $lsn = wait_archived($host, $source, $primary);
	wait_for("WAL up to $lsn to be decoded",
		sub { stat_of($host, $source, "decoded_lsn >= '$lsn' OR decode_lag_bytes = 0") eq 't' })
	  or BAIL_OUT("WAL of $source is not decoded");
	return $lsn;
}

# Take a backup and wait until it can be used.
sub take_backup
{
	my ($host, $label, $args) = @_;
	$host->safe_psql('postgres',
		"SET client_min_messages = warning; SELECT walarchive.take_backup('prod', label => '$label'" . ($args ? ", $args" : '') . ')');
	wait_for("backup $label to be usable",
		sub { $host->safe_psql('postgres', "SELECT state FROM walarchive.backup WHERE label = '$label'") eq 'usable' })
	  or BAIL_OUT("backup $label is not usable");
	return;
}

# Run something while file operations of the client fail as these rules say; see
# test/faults/fault_shim.c.
sub with_faults
{
	my ($rules, $what) = @_;
	my $shim = abs_path(dirname(__FILE__) . '/../../test/faults') . '/fault_shim.so';
	die "$shim is missing: make -C test/faults" if !-e $shim;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/faults';
	append_to_file($file, join('', map { "$_\n" } @$rules));
	local $ENV{LD_PRELOAD} = join(':', grep { $_ } $ENV{LD_PRELOAD}, $shim);
	local $ENV{WA_FAULT_FILE} = $file;
	return $what->();
}

# PostgreSQL refuses to start in what a restore left.
sub cannot_start
{
	my ($data, $what) = @_;
	my $log = PostgreSQL::Test::Utils::tempdir() . '/log';
	# it must not be for anything but what is missing
	chmod(0700, $data);
	my $code = system("pg_ctl -D '$data' -l '$log' -w -t 60 start >'$log.ctl' 2>&1");
	isnt($code, 0, "$what: PostgreSQL does not start") or stop_copy($data);
	note(slurp_file($log)) if -e $log;
	return;
}

# A proxy on a socket in a folder of its own, that hangs up once, after so many
# bytes to the client; or each time.  Returns the folder; the port is that of the
# server.
my %proxies;

sub start_proxy
{
	my ($node, $bytes, $each) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir_short();
	my $name = '.s.PGSQL.' . $node->port;
	my $pid = fork() // die "could not fork: $!";
	if ($pid == 0)
	{
		run_proxy("$dir/$name", $node->host . "/$name", $bytes, "$dir/cut", $each);
		POSIX::_exit(0);
	}
	$proxies{$dir} = $pid;
	wait_for('the proxy', sub { -S "$dir/$name" }) or BAIL_OUT('no proxy');
	return $dir;
}

sub stop_proxy
{
	my ($dir) = @_;
	my $pid = delete $proxies{$dir} or return;
	kill('KILL', $pid);
	waitpid($pid, 0);
	return;
}

sub run_proxy
{
	my ($path, $server, $bytes, $cut, $each) = @_;
	my $listener = IO::Socket::UNIX->new(Local => $path, Listen => 10) or die "could not listen: $!";
	my $select = IO::Select->new($listener);
	my (%other, %is_server);
	for (;;)
	{
		for my $socket ($select->can_read)
		{
			if ($socket == $listener)
			{
				my $client = $listener->accept or next;
				my $upstream = IO::Socket::UNIX->new(Peer => $server);
				if (!$upstream) { close($client); next; }
				@other{ fileno($client), fileno($upstream) } = ($upstream, $client);
				$is_server{ fileno($upstream) } = 1;
				$select->add($client, $upstream);
				next;
			}
			my $peer = $other{ fileno($socket) } or next;
			my $n = sysread($socket, my $data, 65536);
			if ($n && $is_server{ fileno($socket) } && defined $bytes)
			{
				$bytes -= $n;
				if ($bytes < 0)
				{
					# what comes before is delivered
					syswrite($peer, $data, $n + $bytes) if $n + $bytes > 0;
					$n = 0;
					$bytes = $each ? 0 : undef;
					open(my $mark, '>', $cut);
				}
			}
			if ($n)
			{
				my $at = 0;
				while ($at < $n)
				{
					my $done = syswrite($peer, $data, $n - $at, $at);
					last if !defined $done;
					$at += $done;
				}
				next;
			}
			for my $end ($socket, $peer)
			{
				delete $other{ fileno($end) };
				delete $is_server{ fileno($end) };
				$select->remove($end);
				close($end);
			}
		}
	}
	return;
}

END
{
	my $code = $?;
	stop_copy($_) for keys %copies;
	kill('KILL', $_) for values %proxies;
	$? = $code;
}

1;
