# The network between an archive host and the servers: a TCP proxy in a process
# of its own, with a port for each server.  It can refuse, swallow, delay and
# throttle, and cut a connection in the middle of a message.  It is told what to do
# by a file, and says in another one what it has done, so that nobody has to
# believe it.
package ChaosProxy;

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use JSON::PP ();
use POSIX ();
use Time::HiRes qw(time stat);

# servers: a list of paths of their sockets.  dir: a folder of its own.
sub new
{
	my ($class, %opt) = @_;
	my $self = bless { dir => $opt{dir}, serial => 0 }, $class;
	mkdir($self->{dir}) or die "could not make $self->{dir}: $!";
	my @listeners = map { IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp', Listen => 50) // die "could not listen: $@" } @{ $opt{servers} };
	$self->{ports} = [ map { $_->sockport } @listeners ];
	$self->set(mode => 'pass');
	my $parent = $$;
	my $pid = fork() // die "could not fork: $!";
	if ($pid == 0)
	{
		eval { serve($self->{dir}, $parent, \@listeners, $opt{servers}); 1 } or print STDERR "proxy: $@";
		POSIX::_exit(0);
	}
	$self->{pid} = $pid;
	return $self;
}

# Have it do something: mode (pass, refuse, swallow), delay (seconds), rate (bytes
# a second to the archive), cut (1: in the middle of the next long message).
sub set
{
	my ($self, %mode) = @_;
	$mode{serial} = ++$self->{serial};
	open(my $fh, '>', "$self->{dir}/mode.new") or die "could not write: $!";
	print $fh JSON::PP::encode_json(\%mode);
	close($fh) or die "could not write: $!";
	rename("$self->{dir}/mode.new", "$self->{dir}/mode") or die "could not rename: $!";
	return;
}

# What it has done since it was told to: connections, refused, cut, cut_inside,
# swallowed, delayed and throttled (bytes).
sub done
{
	my ($self) = @_;
	open(my $fh, '<', "$self->{dir}/done") or return {};
	my $text = join('', <$fh>);
	my $done = $text eq '' ? {} : JSON::PP::decode_json($text);
	return ($done->{serial} // 0) == $self->{serial} ? $done : {};
}

sub stop
{
	my ($self) = @_;
	return if !$self->{pid};
	kill('KILL', $self->{pid});
	waitpid(delete $self->{pid}, 0);
	return;
}

# ---- the process ----

sub serve
{
	my ($dir, $parent, $listeners, $servers) = @_;
	my $listen = IO::Select->new(@$listeners);
	my (@links, %mode, %done);
	my $mode_seen = '';
	my $told = '';

	local $SIG{PIPE} = 'IGNORE';
	$_->blocking(0) for @$listeners;
	while (getppid() == $parent)
	{
		my $now = time();
		my ($inode, $changed) = (stat("$dir/mode"))[ 1, 9 ];
		if ("$inode $changed" ne $mode_seen)
		{
			$mode_seen = "$inode $changed";
			open(my $fh, '<', "$dir/mode") or die "no mode: $!";
			%mode = %{ JSON::PP::decode_json(join('', <$fh>)) };
			%done = (serial => $mode{serial}, map { $_ => 0 } qw(connections refused cut cut_inside swallowed delayed throttled));
			if ($mode{mode} eq 'refuse')
			{
				$done{cut} += @links / 2;
				close($_->{from}) for @links;
				delete $_->{twin} for @links;
				@links = ();
			}
		}

		# who waits for something: data where we have room, room where we have data
		my $read = IO::Select->new(@$listeners);
		my $write = IO::Select->new;
		my $wait = 0.05;
		for my $link (@links)
		{
			$read->add($link->{from}) if $mode{mode} eq 'swallow' || $link->{held} < 256 * 1024;
			next if !@{ $link->{queue} };
			my $due = $link->{queue}[0]{due} - $now;
			if ($due <= 0) { $write->add($link->{to}); }
			elsif ($due < $wait) { $wait = $due; }
		}
		my ($readable, $writable) = IO::Select::select($read, $write, undef, $wait);
		$now = time();
		my %can_read = map { fileno($_) => 1 } @{ $readable // [] };
		my %can_write = map { fileno($_) => 1 } @{ $writable // [] };

		for my $n (0 .. $#$listeners)
		{
			next if !$can_read{ fileno($listeners->[$n]) };
			my $client = $listeners->[$n]->accept or next;
			my $server = $mode{mode} eq 'refuse' ? undef : IO::Socket::UNIX->new(Peer => $servers->[$n]);
			if (!$server)
			{
				$done{refused}++;
				close($client);
				next;
			}
			$done{connections}++;
			$_->blocking(0) for $client, $server;
			push @links, { from => $client, to => $server, queue => [], held => 0, free_at => 0 };
			push @links, { from => $server, to => $client, queue => [], held => 0, free_at => 0, down => 1, frame => '' };
			$links[-1]{twin} = $links[-2];
			$links[-2]{twin} = $links[-1];
		}

		for my $link (@links)
		{
			next if $link->{over};
			if ($can_read{ fileno($link->{from}) })
			{
				my $n = sysread($link->{from}, my $data, 32768);
				if (!defined $n) { $link->{over} = 1 if !$!{EAGAIN} && !$!{EINTR}; }
				elsif ($n == 0) { $link->{over} = 1; }
				elsif ($mode{mode} eq 'swallow')
				{
					# the connection is no good any more: what was lost can't be sent again
					$done{swallowed} += $n;
					$link->{twin}{deaf} = $link->{deaf} = 1;
				}
				elsif (!$link->{deaf}) { take($link, $data, \%mode, \%done, $now); }
			}
			if (!$link->{over} && @{ $link->{queue} } && $can_write{ fileno($link->{to}) })
			{
				my $part = $link->{queue}[0];
				my $n = syswrite($link->{to}, $part->{data});
				if (defined $n)
				{
					$link->{held} -= $n;
					substr($part->{data}, 0, $n) = '';
					if ($part->{data} eq '')
					{
						$link->{over} = 1 if $part->{last};
						shift @{ $link->{queue} };
					}
				}
				elsif (!$!{EAGAIN} && !$!{EINTR}) { $link->{over} = 1; }
			}
		}
		my @over = grep { $_->{over} || $_->{twin}{over} } @links;
		# what came before an end still arrives
		@over = grep { my $l = $_; $l->{killed} //= $now + ($mode{delay} // 0) + 0.2; !@{ $l->{queue} } && !@{ $l->{twin}{queue} } || $now > $l->{killed} } @over;
		if (@over)
		{
			my %gone = map { ($_ => 1, $_->{twin} => 1) } @over;
			close($_->{from}) for grep { $gone{$_} } @links;
			@links = grep { !$gone{$_} } @links;
			delete $_->{twin} for @over;
		}

		my $text = JSON::PP->new->canonical->encode(\%done);
		if ($text ne $told)
		{
			open(my $fh, '>', "$dir/done.new") or die "could not write: $!";
			print $fh $text;
			close($fh);
			rename("$dir/done.new", "$dir/done");
			$told = $text;
		}
	}
	return;
}

# Data of one direction is to go on, later perhaps, or in part.
sub take
{
	my ($link, $data, $mode, $done, $now) = @_;
	my $last = 0;

	if ($link->{down})
	{
		my $inside = follow($link, $data);
		if ($mode->{cut} && !$done->{cut_inside} && defined $inside)
		{
			$data = substr($data, 0, $inside);
			$done->{cut_inside}++;
			$done->{cut}++;
			$last = 1;
		}
	}
	my $due = $now;
	if ($mode->{delay})
	{
		$due += $mode->{delay};
		$done->{delayed} += length($data);
	}
	if ($mode->{rate} && $link->{down})
	{
		$link->{free_at} = $now if $link->{free_at} < $now;
		$link->{free_at} += length($data) / $mode->{rate};
		$due = $link->{free_at} if $link->{free_at} > $due;
		$done->{throttled} += length($data);
	}
	# in order, whatever the mode was
	my $before = @{ $link->{queue} } ? $link->{queue}[-1]{due} : 0;
	push @{ $link->{queue} }, { data => $data, due => $due > $before ? $due : $before, last => $last };
	$link->{held} += length($data);
	return;
}

# Keep track of the server's messages.  Returns a place in this piece that is
# inside of a long CopyData message, if there is one.
sub follow
{
	my ($link, $data) = @_;
	my $at = 0;
	my $inside;

	while ($at < length($data))
	{
		if ($link->{left})
		{
			my $n = length($data) - $at < $link->{left} ? length($data) - $at : $link->{left};
			$inside //= $at + int($n / 2) if $link->{copy} && $n >= 32;
			$link->{left} -= $n;
			$at += $n;
			next;
		}
		my $n = 5 - length($link->{frame});
		$link->{frame} .= substr($data, $at, $n);
		$at += $n;
		next if length($link->{frame}) < 5;
		my ($type, $length) = unpack('aN', $link->{frame});
		$link->{frame} = '';
		$link->{left} = $length - 4;
		$link->{copy} = $type eq 'd';
	}
	return $inside;
}

1;
