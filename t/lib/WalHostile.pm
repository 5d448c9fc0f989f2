# A server that speaks the replication protocol well enough to be archived, and
# then misbehaves in one way, for the tests of what a receiver, a backup worker,
# an observer or a client takes from a server.
#
# The user name of a connection says how: it is the name of a mode, and a mode
# is a hash of what is different.  So one server serves many sources, each with
# another fault, at a time.  Each connection is a process of its own; what the
# server hears of a client is appended to a file for each mode.
package WalHostile;

use strict;
use warnings;

use Exporter 'import';
use IO::Select;
use IO::Socket::UNIX;
use POSIX ();
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time sleep);

our @EXPORT;
BEGIN { @EXPORT = qw(
  message row_description data_row rows_answer error_answer command_complete ready
  copy_data wal_message keepalive_message lsn_text wal_bytes tar_member
); }

our $SEGMENT = 1024 * 1024;

# ---- messages ----

sub message
{
	my ($type, $body) = @_;
	return $type . pack('N', length($body) + 4) . $body;
}

sub row_description
{
	my (@names) = @_;
	return message('T', pack('n', scalar @names)
		  . join('', map { "$_\0" . pack('NnNnNn', 0, 0, 25, 0xffff, 0xffffffff, 0) } @names));
}

# undef is NULL
sub data_row
{
	my (@values) = @_;
	return message('D', pack('n', scalar @values)
		  . join('', map { defined $_ ? pack('N', length $_) . $_ : pack('N', 0xffffffff) } @values));
}

sub command_complete { return message('C', ($_[0] // 'OK') . "\0"); }
sub ready { return message('Z', 'I'); }

# A whole answer of rows, each an array.
sub rows_answer
{
	my (@rows) = @_;
	my $columns = @rows ? scalar(@{ $rows[0] }) : 3;
	return row_description(map { "c$_" } 1 .. $columns) . join('', map { data_row(@$_) } @rows)
	  . command_complete('SELECT') . ready();
}

sub error_answer
{
	my ($state, $text, $severity) = @_;
	$severity //= 'ERROR';
	return message('E', "S$severity\0V$severity\0C$state\0M$text\0\0") . ready();
}

sub copy_data { return message('d', $_[0]); }

sub wal_message
{
	my ($lsn, $bytes, $end) = @_;
	return copy_data('w' . pack('Q>Q>q>', $lsn, $end // $lsn + length($bytes), server_time()) . $bytes);
}

sub keepalive_message
{
	my ($end, $reply, $time) = @_;
	return copy_data('k' . pack('Q>q>C', $end, $time // server_time(), $reply ? 1 : 0));
}

# Microseconds since 2000, as the protocol counts.
sub server_time { return int((time() - 946684800) * 1_000_000); }

sub lsn_text { return sprintf('%X/%X', $_[0] >> 32, $_[0] & 0xffffffff); }

# WAL of this server: no record in it is one, but each byte has its place.
sub wal_bytes
{
	my ($lsn, $len) = @_;
	my $first = $lsn >> 3;
	my $count = ($len >> 3) + 2;
	my $bytes = pack("Q>$count", map { ($first + $_) * 2654435761 | 1 } 0 .. $count - 1);
	return substr($bytes, $lsn & 7, $len);
}

# A member of a tar, with its header; 'size' is said instead of the content's.
sub tar_member
{
	my ($name, $content, $type, $link, $prefix, $size) = @_;
	my $header = pack('a100a8a8a8a12a12a8aa100a6a2a32a32a8a8a155a12', $name, '0000600', '0000000', '0000000',
		sprintf('%011o', $size // length($content)), '00000000000', ' ' x 8, $type // '0', $link // '', 'ustar', '00', 'x', 'x', '', '', $prefix // '', '');
	substr($header, 124, 12) = "\x80" . pack('x3Q>', $size) if defined $size && $size >= 1 << 33;
	substr($header, 148, 8) = sprintf("%06o\0 ", unpack('%32C*', $header));
	return $header . $content . "\0" x ((512 - length($content) % 512) % 512);
}

# ---- the server ----

# Start it.  Options: modes (a hash of modes, see below), system_identifier,
# timeline, from and flushed (where its WAL begins and ends).
sub new
{
	my ($class, %opt) = @_;
	my $self = bless {
		dir => PostgreSQL::Test::Utils::tempdir_short(),
		log => PostgreSQL::Test::Utils::tempdir(),
		port => 65000,
		system_identifier => '7000000000000000001',
		timeline => 1,
		from => 0x1300000,
		flushed => 0x1308000,
		%opt
	}, $class;
	my $path = "$self->{dir}/.s.PGSQL.$self->{port}";
	my $listener = IO::Socket::UNIX->new(Local => $path, Listen => 200)
	  or die "could not listen on $path: $!";
	my $pid = fork();
	die "could not fork: $!" unless defined $pid;
	if ($pid == 0)
	{
		# neither the test's own end nor its output is ours
		$SIG{CHLD} = 'IGNORE';
		$SIG{PIPE} = 'IGNORE';
		$SIG{TERM} = 'DEFAULT';
		setpgrp(0, 0);
		eval { $self->serve($listener); };
		POSIX::_exit(1);
	}
	$self->{pid} = $pid;
	close($listener);
	return $self;
}

# The process group, with all connections.
sub stop
{
	my ($self) = @_;
	return unless $self->{pid};
	kill('KILL', -$self->{pid}) or kill('KILL', $self->{pid});
	waitpid($self->{pid}, 0);
	delete $self->{pid};
	return;
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $@);
	$self->stop;
	return;
}

sub conninfo
{
	my ($self, $mode) = @_;
	return "host=$self->{dir} port=$self->{port} user=$mode connect_timeout="
	  . ($self->{modes}{$mode}{connect_timeout} // 60);
}

# What was heard over connections of a mode: lines of a word and a value.
sub heard
{
	my ($self, $mode, $word) = @_;
	my $path = "$self->{log}/$mode";
	return () unless -e $path;
	return map { /^\Q$word\E (.*)/ ? $1 : () } split(/\n/, slurp_file($path));
}

# The furthest position that a receiver has confirmed.
sub confirmed
{
	my ($self, $mode) = @_;
	my $max = 0;
	foreach ($self->heard($mode, 'flushed')) { $max = $_ if $_ > $max; }
	return $max;
}

sub serve
{
	my ($self, $listener) = @_;
	my $test = getppid();
	my $select = IO::Select->new($listener);
	while (1)
	{
		# a test that is killed takes us with it
		POSIX::_exit(0) if getppid() != $test;
		next unless $select->can_read(1);
		my $sock = $listener->accept or next;
		my $pid = fork();
		if (defined $pid && $pid == 0)
		{
			close($listener);
			my $connection = WalHostile::Connection->new($self, $sock);
			$connection->hear('error', $@) unless eval { $connection->run; 1 };
			close($sock);
			POSIX::_exit(0);
		}
		close($sock);
	}
	return;
}

# ---- one connection ----
#
# What a mode may have: a code reference gets the connection, and sends what it
# wants; a string is sent as it is.
#   startup       instead of the answer to the startup packet
#   parameters    a hash, instead of those that are reported
#   answer        a hash: the first word of a command => what is sent
#   stream        after CopyBothResponse, before all WAL and keepalives; a reference
#                 that returns 'ended' has ended the COPY
#   sql           the answer to any query over a connection without replication
#   extended      the same for a query over the extended protocol
#   system_identifier, timeline, from, flushed
package WalHostile::Connection;

use Time::HiRes qw(time sleep);

BEGIN { WalHostile->import; }

sub new
{
	my ($class, $server, $sock) = @_;
	return bless { server => $server, sock => $sock, in => '' }, $class;
}

sub setting
{
	my ($self, $name) = @_;
	return $self->{mode}{$name} // $self->{server}{$name};
}

sub hear
{
	my ($self, $word, $value) = @_;
	open(my $fh, '>>', "$self->{server}{log}/$self->{name}") or return;
	syswrite($fh, "$word $value\n");
	close($fh);
	return;
}

# Ends the process when nobody listens any more.
sub put
{
	my ($self, $bytes) = @_;
	my $at = 0;
	if (defined $self->{left})
	{
		# the mode cuts the connection at a byte
		$bytes = substr($bytes, 0, $self->{left});
		$self->{left} -= length($bytes);
	}
	while ($at < length($bytes))
	{
		my $n = syswrite($self->{sock}, $bytes, length($bytes) - $at, $at);
		POSIX::_exit(0) unless defined $n && $n > 0;
		$at += $n;
	}
	POSIX::_exit(0) if defined $self->{left} && $self->{left} == 0;
	return;
}

# Bytes of the client, or the end of the process with its connection.
sub get
{
	my ($self, $len) = @_;
	while (length($self->{in}) < $len)
	{
		my $n = sysread($self->{sock}, $self->{in}, 65536, length($self->{in}));
		POSIX::_exit(0) unless defined $n && $n > 0;
	}
	return substr($self->{in}, 0, $len, '');
}

# The next message of the client: type and body.
sub get_message
{
	my ($self) = @_;
	my ($type, $len) = unpack('aN', $self->get(5));
	POSIX::_exit(0) if $type eq 'X';
	return ($type, $self->get($len - 4));
}

# Say nothing more; end with the client.
sub silence
{
	my ($self) = @_;
	$self->get_message while 1;
}

sub give
{
	my ($self, $what) = @_;
	return $what->($self) if ref($what) eq 'CODE';
	$self->put($what);
	return;
}

sub run
{
	my ($self) = @_;
	my %startup;
	while (1)
	{
		my ($len) = unpack('N', $self->get(4));
		my $body = $self->get($len - 4);
		my ($code) = unpack('N', $body);
		if ($code == 80877103 || $code == 80877104)
		{
			# no encryption
			$self->put('N');
			next;
		}
		POSIX::_exit(0) if $code == 80877102;
		%startup = split(/\0/, substr($body, 4));
		last;
	}
	$self->{name} = $startup{user};
	$self->{replication} = exists $startup{replication};
	$self->{mode} = $self->{server}{modes}{ $startup{user} } // {};
	$self->hear('connection', $self->{replication} ? 'replication' : 'sql');
	$self->{mode}{begin}->($self) if $self->{mode}{begin};
	if (defined $self->{mode}{startup})
	{
		$self->give($self->{mode}{startup});
		$self->silence;
	}
	my %parameters = (
		server_version => '15.4', server_encoding => 'UTF8', client_encoding => 'UTF8',
		in_hot_standby => 'off', default_transaction_read_only => 'off',
		standard_conforming_strings => 'on', integer_datetimes => 'on',
		%{ $self->{mode}{parameters} // {} });
	$self->put(message('R', pack('N', 0))
		  . join('', map { message('S', "$_\0$parameters{$_}\0") } sort keys %parameters)
		  . message('K', pack('NN', $$, 1)) . ready());
	while (1)
	{
		my ($type, $body) = $self->get_message;
		if ($type eq 'Q')
		{
			$body =~ s/\0$//;
			$self->command($body);
		}
		elsif ($type =~ /[PBDESC]/)
		{
			$self->{mode}{extended} ? $self->{mode}{extended}->($self, $type, $body) : POSIX::_exit(0);
		}
	}
}

sub command
{
	my ($self, $command) = @_;
	my ($word) = $command =~ /^(\w+)/;
	my ($tli, $flushed) = ($self->setting('timeline'), $self->setting('flushed'));
	my $answer = $self->{mode}{answer}{$command} // $self->{mode}{answer}{$word};

	$self->hear('command', $command) if $command =~ /^[A-Z_]+ ?/;
	if (!$self->{replication} && defined $self->{mode}{sql})
	{
		$self->{command} = $command;
		return $self->give($self->{mode}{sql});
	}
	if (defined $answer)
	{
		$self->{command} = $command;
		return $self->give($answer);
	}
	return $self->put(rows_answer([ $self->setting('system_identifier'), $tli, lsn_text($flushed), undef ]))
	  if $word eq 'IDENTIFY_SYSTEM';
	return $self->put(rows_answer(['1MB'])) if $command eq 'SHOW wal_segment_size';
	return $self->put(rows_answer(['on'])) if $word eq 'SHOW';
	return $self->put(rows_answer([ 'physical', lsn_text($self->setting('from')), $tli ]))
	  if $word eq 'READ_REPLICATION_SLOT';
	return $self->put(rows_answer([ 'slot', lsn_text($self->setting('from')), undef, undef ]))
	  if $word eq 'CREATE_REPLICATION_SLOT';
	return $self->put(command_complete('DROP') . ready()) if $word eq 'DROP_REPLICATION_SLOT';
	return $self->put(error_answer('58P01', 'no such history')) if $word eq 'TIMELINE_HISTORY';
	return $self->stream($command) if $word eq 'START_REPLICATION';
	return $self->put(error_answer('42601', 'syntax error'));
}

# Into COPY, and what the mode sends then; else all WAL, and keepalives.
sub stream
{
	my ($self, $command) = @_;
	my ($hi, $lo) = $command =~ m{ ([0-9A-F]+)/([0-9A-F]+)};
	my $start = hex($hi) << 32 | hex($lo);

	$self->{start} = $start;
	$self->put(message('W', pack('Cn', 0, 0)));
	return if defined $self->{mode}{stream} && ($self->give($self->{mode}{stream}) // '') eq 'ended';
	$self->honest;
	return;
}

# Send the WAL up to a position (the end without one).
sub send_wal
{
	my ($self, $to) = @_;
	my $flushed = $self->setting('flushed');
	my $at = $self->{sent} // $self->{start};

	$to //= $flushed;
	while ($at < $to)
	{
		my $n = $to - $at > 65536 ? 65536 : $to - $at;
		$self->put(wal_message($at, wal_bytes($at, $n), $flushed));
		$at += $n;
	}
	$self->{sent} = $at;
	return;
}

# Behave, and write down what is confirmed.
sub honest
{
	my ($self) = @_;

	$self->send_wal;
	$self->put(keepalive_message($self->setting('flushed'), 1));
	$self->listen while 1;
	return;
}

# Take one message of the client's; answer if it asks for it.
sub listen
{
	my ($self) = @_;
	my ($type, $body) = $self->get_message;
	if ($type eq 'd' && substr($body, 0, 1) eq 'r')
	{
		my ($written, $flushed, $applied, $time, $ping) = unpack('xQ>Q>Q>q>C', $body);
		$self->hear('flushed', $flushed);
		$self->put(keepalive_message($self->{sent} // $self->{start}, 0)) if $ping;
	}
	elsif ($type eq 'c')
	{
		$self->put(message('c', '') . command_complete('START_STREAMING') . ready());
		$self->silence;
	}
	return;
}

# Read what the client sends until a position is confirmed.
sub wait_confirmed
{
	my ($self, $lsn) = @_;
	while (1)
	{
		my ($type, $body) = $self->get_message;
		next unless $type eq 'd' && substr($body, 0, 1) eq 'r';
		my $flushed = unpack('x9Q>', $body);
		$self->hear('flushed', $flushed);
		return if $flushed >= $lsn;
	}
}

1;
