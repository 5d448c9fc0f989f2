# A connection to a server that says exactly what came back for each statement:
# rows, warnings, an error, or nothing any more.  psql mixes what it prints, and
# whether a commit was acknowledged, with a warning or without, must not be guessed.
# Speaks the protocol itself, over the server's Unix socket, without passwords.
package ChaosWire;

use strict;
use warnings;

use IO::Select;
use IO::Socket::UNIX;
use Time::HiRes qw(time);

# Connect to the server on a port whose socket lies in a folder.  "give_up" is
# asked now and then while an answer is awaited.  Returns undef if it cannot be.
sub new
{
	my ($class, %opt) = @_;
	my $socket = IO::Socket::UNIX->new(Peer => "$opt{folder}/.s.PGSQL.$opt{port}") or return undef;
	my $self = bless { socket => $socket, buffer => '', give_up => $opt{give_up} // sub { 0 } }, $class;
	my $user = $opt{user} // getpwuid($<);
	my $body = pack('N', 196608) . join('', map { "$_\0" } user => $user, database => $opt{dbname} // 'postgres',
		application_name => $opt{name} // 'chaos', '');

	$self->put(pack('N', length($body) + 4) . $body) or return undef;
	my $answer = $self->answer;
	return $answer->{lost} || defined $answer->{error} ? undef : $self;
}

sub put
{
	my ($self, $bytes) = @_;
	local $SIG{PIPE} = 'IGNORE';
	while ($bytes ne '')
	{
		my $n = syswrite($self->{socket}, $bytes);
		return 0 if !$n;
		substr($bytes, 0, $n) = '';
	}
	return 1;
}

# The next message: its type and body, or nothing if the connection is lost or
# nobody wants to wait any longer.
sub message
{
	my ($self) = @_;
	my $select = IO::Select->new($self->{socket});

	for (;;)
	{
		if (length($self->{buffer}) >= 5)
		{
			my ($type, $length) = unpack('aN', $self->{buffer});
			if (length($self->{buffer}) > $length)
			{
				my $body = substr($self->{buffer}, 5, $length - 4);
				substr($self->{buffer}, 0, $length + 1) = '';
				return ($type, $body);
			}
		}
		if (!$select->can_read(0.1))
		{
			return if $self->{give_up}->();
			next;
		}
		my $n = sysread($self->{socket}, $self->{buffer}, 65536, length($self->{buffer}));
		return if !$n;
	}
	return;
}

# All that comes until the server is ready again.
sub answer
{
	my ($self) = @_;
	my %answer = (rows => [], warnings => [], tags => []);

	while (my ($type, $body) = $self->message)
	{
		if ($type eq 'D') { push @{ $answer{rows} }, columns($body); }
		elsif ($type eq 'C') { push @{ $answer{tags} }, unpack('Z*', $body); }
		elsif ($type eq 'E') { $answer{error} = text_of($body); }
		elsif ($type eq 'N')
		{
			my $text = text_of($body);
			push @{ $answer{warnings} }, $text if $text =~ /^WARNING/;
		}
		elsif ($type eq 'Z')
		{
			$answer{status} = $body;
			return \%answer;
		}
	}
	$answer{lost} = 1;
	close($self->{socket});
	return \%answer;
}

sub query
{
	my ($self, $sql) = @_;
	$self->put('Q' . pack('N', length($sql) + 5) . "$sql\0") or return { lost => 1, rows => [], warnings => [], tags => [] };
	return $self->answer;
}

sub columns
{
	my ($body) = @_;
	my @values;
	my $at = 2;
	for (1 .. unpack('n', $body))
	{
		my $length = unpack('l>', substr($body, $at, 4));
		$at += 4;
		push @values, $length < 0 ? undef : substr($body, $at, $length);
		$at += $length if $length > 0;
	}
	return \@values;
}

# Severity and message of an error or a notice.
sub text_of
{
	my ($body) = @_;
	my %field = map { /^(.)(.*)/s ? ($1 => $2) : () } split /\0/, $body;
	return ($field{V} // '') . ': ' . ($field{M} // '');
}

1;
