# walarchive-decode for TAP tests: its protocol as src/base/decode_protocol.h
# states it, and its lines compared with pg_waldump's.
package WalDecode;

use strict;
use warnings;

use Exporter 'import';
use IPC::Open2;
use JSON::PP ();
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(lsn_number lsn_text output_of parse_lines same_records);

# ---- the protocol ----

# in the order of WaMessageType
my @type = qw(NONE HELLO END PROGRESS DAMAGE SEGMENT FILE XACT DESTRUCTION RESTORE_POINT CHECKPOINT RECOVERY_END
  PARAMETERS TABLESPACE RECORD STATS FOUND);

# The structs as a 64-bit compiler lays them out.
my %struct = (
	HELLO => [ 'L Z32', qw(protocol version) ],
	END => [
		'L x4 Q Q Q Q Q Q L x4 q L L',
		qw(result next_lsn need_lsn missing_lsn bytes records commit_lsn commit_xid commit_time text_len state_len)
	],
	PROGRESS => [ 'Q Q', qw(lsn bytes) ],
	DAMAGE => [ 'L L Q Q q L L', qw(kind tli segment_lsn lsn offset name_len text_len) ],
	SEGMENT => [
		'L x4 Q Q Q Q Q Q q q q q Q Q l C x3',
		qw(tli segment_lsn first_record last_record records commits aborts first_time last_time min_time max_time
		  min_xid max_xid major complete)
	],
	XACT => [
		'L L Q Q Q L x4 q L L L L L x4',
		qw(kind tli start_lsn end_lsn prev_lsn xid time database subxacts dropped_files files gid_len)
	],
	RECORD => [
		'L x4 Q Q Q L L L L C C x2 L L L L x4',
		qw(tli start_lsn end_lsn prev_lsn xid total_len main_len image_bytes rmid info rmgr_len type_len
		  description_len blocks_len)
	],
	FOUND => [ 'L L L x4 Q Q Q L x4 q L x4', qw(role kind tli start_lsn end_lsn prev_lsn xid time gid_len) ],
	STATS => [ 'C x7 Q Q Q L x4', qw(rmid records record_bytes image_bytes name_len) ],
	RESTORE_POINT => [ 'L x4 Q Q q L x4', qw(tli start_lsn end_lsn time name_len) ],
);

sub lsn_number
{
	my ($hi, $lo) = split m{/}, shift;
	return hex($hi) << 32 | hex($lo);
}

sub lsn_text
{
	my ($lsn) = @_;
	return sprintf('%X/%X', $lsn >> 32, $lsn & 0xFFFFFFFF);
}

# Start the program as the server does.
sub start
{
	my ($class, @options) = @_;
	my $self = bless {}, $class;
	$self->{pid} = open2($self->{from}, $self->{to}, 'walarchive-decode', '--server', @options);
	binmode $_ for $self->{from}, $self->{to};
	$self->{to}->autoflush(1);
	$self->{hello} = $self->message;
	return $self;
}

sub bytes
{
	my ($self, $len) = @_;
	my $bytes = '';
	while (length($bytes) < $len)
	{
		my $n = read($self->{from}, $bytes, $len - length($bytes), length($bytes));
		return undef unless $n;
	}
	return $bytes;
}

# The next message as a hash with its "type"; what follows the struct is
# "rest".  undef at the end of the output.
sub message
{
	my ($self) = @_;
	my $header = $self->bytes(8);
	return undef unless defined $header;
	my ($len, $type) = unpack('L L', $header);
	my $body = $self->bytes($len);
	return undef unless defined $body;
	my $name = $type[$type] // die "message of unknown type $type";
	my %m = (type => $name, body => $body);
	if (my $s = $struct{$name})
	{
		my ($template, @members) = @$s;
		my $size = length(pack($template, (0) x @members));
		@m{@members} = unpack($template, $body);
		$m{rest} = substr($body, $size);
	}
	$m{text} = substr($m{rest}, $m{name_len}) if $name eq 'DAMAGE';
	$m{name} = substr($m{rest}, 0, $m{name_len}) if exists $m{name_len};
	if ($name eq 'END')
	{
		$m{text} = substr($m{rest}, 0, $m{text_len});
		$m{state} = unpack('H*', substr($m{rest}, $m{text_len}, $m{state_len}));
	}
	return \%m;
}

# Send a line.
sub send_line
{
	my ($self, $line) = @_;
	print { $self->{to} } "$line\n";
	return;
}

# Ask, and return all messages of the answer; PROGRESS is left out.
sub ask
{
	my ($self, %request) = @_;
	my @answer;
	$_ = $_ ? JSON::PP::true : JSON::PP::false for grep { defined } @request{ grep { exists $request{$_} } qw(live careful resync) };
	$self->send_line(JSON::PP->new->canonical->encode(\%request));
	do
	{
		my $m = $self->message // die "walarchive-decode is gone";
		push @answer, $m if $m->{type} ne 'PROGRESS';
	} until (@answer && $answer[-1]{type} eq 'END');
	return @answer;
}

# End it by closing its input; returns the exit status.
sub stop
{
	my ($self) = @_;
	close($self->{to});
	waitpid($self->{pid}, 0);
	return $?;
}

# ---- its lines ----

# Standard output, standard error and exit code of a command.
sub output_of
{
	my (@command) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run(\@command, '>', \$out, '2>', \$err);
	return ($out, $err, $? >> 8);
}

# What must be the same in a line of ours and of pg_waldump.
sub parse_lines
{
	my ($text) = @_;
	my @records;
	for my $line (grep { !/^first record is after/ } split /\n/, $text)
	{
		my ($head, $type, $desc) =
		  $line =~ /^(rmgr: .*, prev [0-9A-F]+\/[0-9A-F]+, )desc: (\S+(?: \([0-9a-f]+\))?) ?(.*)$/
		  or die "cannot parse: $line";
		my @blocks = $desc =~ /(blkref #\d+: rel \d+\/\d+\/\d+(?: fork \w+)? blk \d+(?: FPW(?: for WAL verification)?)?)/g;
		my $said = '';
		if ($head =~ /^rmgr: Transaction/ && $type =~ /^(COMMIT|ABORT|PREPARE)/)
		{
			# "gid ...:" or the xid of a prepared transaction; time; lists
			my ($lead, $time) = $desc =~ /^(.*?)(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \S+?)(?:;|$)/
			  or die "no time: $line";
			my ($rels) = $desc =~ /; rels(?:\(commit\))?:([^;]*)/;
			my ($subxacts) = $desc =~ /; subxacts:([^;]*)/;
			my ($stats) = $desc =~ /; (?:commit )?dropped stats:([^;]*)/;
			$said = join('|', $lead, $time, map { $_ // '-' } $rels, $subxacts, $stats);
			$said =~ s/\s+$//;
		}
		push @records, join("\n", $head, $type, @blocks, $said);
	}
	return @records;
}

# The same records, of which there are some?
sub same_records
{
	my ($ours, $theirs, $what) = @_;
	my @a = parse_lines($ours);
	my @b = parse_lines($theirs);
	my $n = 0;
	$n++ while $n < @a && $n < @b && $a[$n] eq $b[$n];
	if ($n == @a && $n == @b && $n > 0)
	{
		pass("$what: $n records");
		return 1;
	}
	diag("record $n\nours:   " . ($a[$n] // 'none') . "\ntheirs: " . ($b[$n] // 'none'));
	fail($what . ': ' . @a . ' records of ours, ' . @b . ' of pg_waldump');
	return 0;
}

1;
