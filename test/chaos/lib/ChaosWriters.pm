# Concurrent writers, a process each.  Every one inserts a row in a transaction of
# its own, waits a random time, and so on, on whatever server is the primary.  What
# COMMIT returned for is logged as a line of JSON, after it has returned:
#
#	{"id":3000000017,"xid":812,"timeline":2,"time":1763770000.123456,"warned":0}
#
# "warned" says that the server gave up waiting for an archive: such a commit is
# promised to nobody.  What was not answered is not logged.
package ChaosWriters;

use strict;
use warnings;

use ChaosWire;
use JSON::PP ();
use POSIX ();
use Time::HiRes qw(time usleep);

sub new
{
	my ($class, %opt) = @_;
	my $self = bless { count => $opt{count} // 8, dir => $opt{dir}, seed => $opt{seed}, offsets => {}, pids => [] }, $class;
	mkdir($self->{dir}) or die "could not make $self->{dir}: $!";
	return $self;
}

# Where they write: the folder of the socket, and the port.
sub aim
{
	my ($self, $folder, $port) = @_;
	replace("$self->{dir}/target", "$folder $port");
	return;
}

sub replace
{
	my ($path, $text) = @_;
	open(my $fh, '>', "$path.new") or die "could not write $path: $!";
	print $fh $text;
	close($fh) or die "could not write $path: $!";
	rename("$path.new", $path) or die "could not rename $path: $!";
	return;
}

sub start
{
	my ($self) = @_;
	my $parent = $$;
	for my $n (1 .. $self->{count})
	{
		my $pid = fork() // die "could not fork: $!";
		if ($pid == 0)
		{
			srand($self->{seed} * 100 + $n);
			eval { $self->write_on($n, $parent); 1 } or print STDERR "writer $n: $@";
			# no END blocks: the servers belong to the parent
			POSIX::_exit(0);
		}
		push @{ $self->{pids} }, $pid;
	}
	return;
}

sub flagged
{
	my ($self, $flag) = @_;
	return -e "$self->{dir}/$flag";
}

sub set_flag
{
	my ($self, $flag, $on) = @_;
	if ($on) { replace("$self->{dir}/$flag", ''); }
	else { unlink("$self->{dir}/$flag"); }
	return;
}

# The life of a writer.
sub write_on
{
	my ($self, $n, $parent) = @_;
	my $over = sub { $self->flagged('stop') || getppid() != $parent };
	my $serial = 0;
	my ($target, $wire, $timeline) = ('');

	open(my $log, '>>', "$self->{dir}/log.$n") or die "could not open a log: $!";
	until ($over->())
	{
		if ($self->flagged('pause'))
		{
			undef $wire;
			$self->set_flag("idle.$n", 1);
			usleep(20_000) while $self->flagged('pause') && !$over->();
			$self->set_flag("idle.$n", 0);
			next;
		}
		open(my $fh, '<', "$self->{dir}/target") or die "no target: $!";
		my $now = <$fh>;
		close($fh);
		undef $wire if $now ne $target;
		$target = $now;
		if (!$wire)
		{
			my ($folder, $port) = split / /, $target;
			# who is frozen may never answer
			my $limit = time() + 5;
			my $connecting = sub { $over->() || time() > $limit };
			$wire = ChaosWire->new(folder => $folder, port => $port, name => "writer $n", give_up => $connecting);
			my $answer = $wire && $wire->query('SELECT CASE WHEN pg_is_in_recovery() THEN 0 ELSE ('
				  . q{('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int) END});
			$timeline = $answer && $answer->{status} ? $answer->{rows}[0][0] : 0;
			if (!$timeline)
			{
				undef $wire;
				usleep(50_000);
				next;
			}
			# a commit may have to wait long; then it is asked whether there is another primary
			$wire->{give_up} = sub { $over->() || $self->has_moved($target) };
		}
		my $id = $n * 1_000_000_000 + ++$serial;
		my $length = rand() < 0.05 ? int(rand(60_000)) : 20 + int(rand(600));
		my $begun = $wire->query("BEGIN; INSERT INTO written (id, length, payload) VALUES ($id, $length, left(repeat(md5('$id'), "
			  . (1 + int($length / 32)) . "), $length)) RETURNING xid");
		if (($begun->{status} // '') eq 'T')
		{
			my $done = $wire->query('COMMIT');
			if (($done->{status} // '') eq 'I' && !defined $done->{error} && "@{ $done->{tags} }" eq 'COMMIT')
			{
				my $warned = (grep { /synchronous replication/ } @{ $done->{warnings} }) ? 1 : 0;
				syswrite($log, sprintf(qq({"id":%d,"xid":%d,"timeline":%d,"time":%.6f,"warned":%d}\n),
						$id, $begun->{rows}[0][0], $timeline, time(), $warned));
			}
			else { undef $wire; }
		}
		else { undef $wire; }
		usleep(5_000 + int(rand(rand() < 0.1 ? 500_000 : 120_000)));
	}
	return;
}

sub has_moved
{
	my ($self, $target) = @_;
	open(my $fh, '<', "$self->{dir}/target") or return 0;
	return <$fh> ne $target;
}

# New lines of the logs: a list of hashes.  Half a line is left for later.
sub news
{
	my ($self) = @_;
	my @lines;
	for my $n (1 .. $self->{count})
	{
		open(my $fh, '<', "$self->{dir}/log.$n") or next;
		seek($fh, $self->{offsets}{$n} // 0, 0);
		while (my $line = <$fh>)
		{
			last if $line !~ /\n\z/;
			$self->{offsets}{$n} += length($line);
			push @lines, { writer => $n, %{ JSON::PP::decode_json($line) } };
		}
		close($fh);
	}
	return @lines;
}

# Bytes of each log: who has written?
sub sizes
{
	my ($self) = @_;
	return map { $_ => (-s "$self->{dir}/log.$_") // 0 } 1 .. $self->{count};
}

# Lines of each log.
sub lines
{
	my ($self) = @_;
	return map { $_ => scalar(() = slurp("$self->{dir}/log.$_") =~ /\n/g) } 1 .. $self->{count};
}

sub slurp
{
	my ($path) = @_;
	open(my $fh, '<', $path) or return '';
	local $/ = undef;
	return <$fh> // '';
}

# Those that do not run.
sub dead
{
	my ($self) = @_;
	return grep { waitpid($_, POSIX::WNOHANG()) != 0 } @{ $self->{pids} };
}

sub pause { my ($self) = @_; $self->set_flag('pause', 1); return; }

sub resume { my ($self) = @_; $self->set_flag('pause', 0); return; }

sub idle
{
	my ($self) = @_;
	return !grep { !$self->flagged("idle.$_") } 1 .. $self->{count};
}

sub stop
{
	my ($self) = @_;
	return if !-d $self->{dir};
	$self->set_flag('stop', 1);
	waitpid($_, 0) for @{ $self->{pids} };
	$self->{pids} = [];
	return;
}

1;
