# What has to hold after each round, whatever happened in it.  Everything is asked
# of somebody who is not under test: what was acknowledged of the writers' logs, what
# is in the archived WAL of pg_waldump, what a restore has of PostgreSQL.  Each check
# dies with what it found.
package ChaosChecks;

use strict;
use warnings;

use ChaosCluster;
use ChaosFaults;
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time usleep);
use WalArchive;
use WalFaults;
use WalRestore;

sub new
{
	my ($class, $cluster) = @_;
	return bless { cluster => $cluster, acknowledged => {}, unseen => [], wal => {}, same => {}, counts => {}, memory => {} }, $class;
}

# ---- the logs, and the archived WAL ----

# Take in what the writers have logged.
sub read_logs
{
	my ($self) = @_;
	for my $line ($self->{cluster}{writers}->news)
	{
		die "an id was logged twice: $line->{id}\n" if $self->{acknowledged}{ $line->{id} };
		$self->{acknowledged}{ $line->{id} } = $line;
		$self->{counts}{ $line->{warned} ? 'warned' : 'acknowledged' }++;
		push @{ $self->{unseen} }, $line;
	}
	return;
}

# Read on in a host's archived WAL: commits and aborts of each timeline, in order,
# as [place, transaction, time, is a commit].
sub read_wal
{
	my ($self, $host) = @_;
	# a segment that got its last name meanwhile was not read
	for (1 .. 5)
	{
		my $stage = $self->read_files($host);
		return if !grep { !-e $_ } glob("$stage/*");
	}
	die "the segments of archive $host->{name} don't come to rest\n";
}

# The same of the files as they are called now; returns the folder with links to them,
# since pg_waldump wants names without ".partial".
sub read_files
{
	my ($self, $host) = @_;
	my $stage = "$self->{cluster}{dir}/stage_$host->{name}";
	my %files;

	mkdir($stage);
	unlink(glob("$stage/*"));
	for my $name (wal_files($host->{wal}, partial => 1))
	{
		(my $full = $name) =~ s/\.partial$//;
		next if $name =~ /history$/ || $files{$full} && $name ne $full;
		unlink("$stage/$full");
		symlink("$host->{wal}/$name", "$stage/$full") or die "could not link $full: $!";
		$files{$full} = 1;
	}
	my %timelines = map { hex(substr($_, 0, 8)) => 1 } keys %files;
	for my $timeline (sort { $a <=> $b } keys %timelines)
	{
		my $known = $self->{wal}{ $host->{name} }{$timeline} //= [];
		my %parts = pieces($timeline, sort keys %files);
		for my $from (sort { $a <=> $b } keys %parts)
		{
			my $last = @$known ? $known->[-1][0] : 0;
			next if $last >= $parts{$from};
			$self->dump_wal($stage, $timeline, $last > $from ? $last : $from, $known);
		}
	}
	return $stage;
}

# Runs of segments of a timeline without a hole: first byte => end.
sub pieces
{
	my ($timeline, @names) = @_;
	my (%parts, $from, $end);
	for my $name (@names)
	{
		next if hex(substr($name, 0, 8)) != $timeline;
		my $start = (hex(substr($name, 8, 8)) * 4096 + hex(substr($name, 16, 8))) * 1024 * 1024;
		$from = $start if !defined $end || $end != $start;
		$parts{$from} = $end = $start + 1024 * 1024;
	}
	return %parts;
}

sub position
{
	my ($number) = @_;
	return sprintf('%X/%X', $number / 4294967296, $number % 4294967296);
}

sub dump_wal
{
	my ($self, $stage, $timeline, $from, $known) = @_;
	my ($out, $err) = ('', '');
	local $ENV{TZ} = 'UTC';
	# it ends with an error where the WAL ends
	IPC::Run::run([ 'pg_waldump', '-p', $stage, '-t', $timeline, '-s', position($from), '-r', 'Transaction' ], '>', \$out, '2>', \$err);
	for my $line (split /\n/, $out)
	{
		my ($xid, $place, $what, $time) = $line =~ m{tx: *(\d+), lsn: (\S+), prev \S+, desc: (COMMIT|ABORT) (\d+-\d+-\d+ \d+:\d+:\d+\.?\d*)} or next;
		my $number = ChaosCluster::number($place);
		next if @$known && $number <= $known->[-1][0];
		push @$known, [ $number, $xid, $time, $what eq 'COMMIT' ? 1 : 0 ];
	}
	return;
}

# Where the way to the present timeline leaves another one, undef if it does not go there.
sub left_at
{
	my ($self, $timeline) = @_;
	my $fork = $self->{cluster}{forks}{$timeline};
	return $fork ? $fork->{lsn} : undef;
}

# All commits and aborts on the way to a timeline: what the archives have between
# them, for one may have a gap that its base backup covers.
sub path
{
	my ($self, $timeline) = @_;
	my $forks = $self->{cluster}{forks};
	my %parent = map { $forks->{$_}{child} => $_ } keys %$forks;
	my @way = ($timeline);
	unshift @way, $parent{ $way[0] } while $parent{ $way[0] };
	my @records;
	for my $n (0 .. $#way)
	{
		my $end = $n < $#way ? $forks->{ $way[$n] }{lsn} : undef;
		my $begin = $n > 0 ? $forks->{ $way[ $n - 1 ] }{lsn} : 0;
		my %at = map { $_->[0] => $_ } map { @{ $self->{wal}{$_}{ $way[$n] } // [] } } qw(a b);
		push @records, map { [ @{ $at{$_} }, $way[$n] ] } sort { $a <=> $b } grep { $_ >= $begin && (!defined $end || $_ < $end) } keys %at;
	}
	return @records;
}

# ---- nothing acknowledged is missing ----

# Each new acknowledged commit is in the WAL of an archive, and either on the way to
# where the primary is now, or named by stranded_commits.
sub nothing_lost
{
	my ($self) = @_;
	my $cluster = $self->{cluster};
	my @hosts = map { $cluster->{hosts}{$_} } qw(a b);
	my (@missing, %stranded);

	$self->read_logs;
	$self->read_wal($_) for @hosts;
	my %place;
	for my $host (@hosts)
	{
		my $wal = $self->{wal}{ $host->{name} };
		for my $timeline (keys %$wal)
		{
			$place{ $host->{name} }{$timeline}{ $_->[1] } = $_->[0] for grep { $_->[3] } @{ $wal->{$timeline} };
		}
	}
	for my $line (@{ $self->{unseen} })
	{
		next if $line->{warned};
		my @has = grep { defined $place{ $_->{name} }{ $line->{timeline} }{ $line->{xid} } } @hosts;
		if (!@has)
		{
			push @missing, "$line->{id} (transaction $line->{xid} of timeline $line->{timeline})";
			next;
		}
		my $at = $line->{place} = $place{ $has[0]{name} }{ $line->{timeline} }{ $line->{xid} };
		my $left = $self->left_at($line->{timeline});
		push @{ $stranded{ $line->{timeline} } }, [ $line, \@has ] if defined $left && $at >= $left;
	}
	die @missing . " acknowledged commits are in no archive: @missing[0 .. ($#missing > 5 ? 5 : $#missing)]\n" if @missing;
	$self->{counts}{checked} += @{ $self->{unseen} };
	$self->{unseen} = [];
	$self->stranded(\%stranded) if %stranded;
	return;
}

# What a failover left behind is named, by the archive that has it.
sub stranded
{
	my ($self, $lost) = @_;
	for my $timeline (sort keys %$lost)
	{
		my %named;
		for my $host (map { $self->{cluster}{hosts}{$_} } qw(a b))
		{
			my $rows = $self->{cluster}->sql($host->{node}, "SET client_min_messages = error; SELECT timeline || ' ' || xid FROM walarchive.stranded_commits('prod')");
			$named{ $host->{name} }{$_} = 1 for split /\n/, $rows;
		}
		for my $case (@{ $lost->{$timeline} })
		{
			my ($line, $has) = @$case;
			$line->{stranded} = 1;
			$self->{counts}{stranded}++;
			for my $host (@$has)
			{
				die "archive $host->{name} has commit $line->{xid} of timeline $timeline, which the failover lost, and does not name it\n"
				  if !$named{ $host->{name} }{"$timeline $line->{xid}"};
			}
		}
		# and it can be had
		my ($furthest) = sort { $self->end_of($b, $timeline) <=> $self->end_of($a, $timeline) } values %{ $self->{cluster}{hosts} };
		$self->restore($furthest, 'end', timeline => $timeline);
	}
	return;
}

sub end_of
{
	my ($self, $host, $timeline) = @_;
	my $wal = $self->{wal}{ $host->{name} }{$timeline};
	return $wal && @$wal ? $wal->[-1][0] : 0;
}

# ---- of two archives one's WAL is the beginning of the other's ----

sub same_bytes
{
	my ($self) = @_;
	my ($a, $b) = map { $self->{cluster}{hosts}{$_}{wal} } qw(a b);
	my %b = map { $_ => 1 } wal_files($b, partial => 1);
	for my $name (wal_files($a, partial => 1))
	{
		(my $full = $name) =~ s/\.partial$//;
		my ($other) = grep { $b{$_} } $full, "$full.partial" or next;
		my $key = join(' ', map { join(' ', (stat($_))[ 1, 9 ]) } "$a/$name", "$b/$other");
		next if $name eq $full && $other eq $full && $self->{same}{$full} && $self->{same}{$full} eq $key;
		my ($x, $y) = map { bytes("$_/$full") } $a, $b;
		my $n = length($x) < length($y) ? length($x) : length($y);
		die "$name of archive a and $other of archive b differ\n" if substr($x, 0, $n) ne substr($y, 0, $n);
		$self->{same}{$full} = $key;
		$self->{counts}{compared}++;
	}
	return;
}

# What is written of a segment, which may be open; and may get its last name while we look.
sub bytes
{
	my ($path) = @_;
	for (1 .. 3)
	{
		return read_file_bytes($path) if -e $path;
		open(my $fh, '<:raw', "$path.partial") or next;
		my $bytes = do { local $/ = undef; <$fh> };
		close($fh);
		$bytes =~ s/\0+\z//;
		return $bytes;
	}
	die "there is no $path any more\n";
}

# ---- a restore ----

# Restore from a host: 'end', or a time.  The copy has to end as planned, to have each
# row that was logged up to there and none of later, and to be sound.
sub restore
{
	my ($self, $host, $target, %opt) = @_;
	my $cluster = $self->{cluster};
	my $timeline = $opt{timeline} // $cluster->{timeline};
	my $data = new_place();
	my @args = ('-h', $host->{node}->host, '-p', $host->{node}->port, '-d', 'postgres', '--source=prod', '--start');
	push @args, "--timeline=$timeline" if $opt{timeline};
	push @args, "--to-time=$target+00" if $target ne 'end';
	my $what = "restore from archive $host->{name} to $target on timeline $timeline";

	my ($code, $result, $err) = restore_copy($data, @args);
	die "$what: exit code $code: " . ($result->{hint} // '') . " $err\n" if $code != 0;
	die "$what: it was not compared with the plan, or does not agree\n" if !$result->{compared} || !$result->{agrees};
	my @path = $self->path($timeline);
	# PostgreSQL's rule: before the first commit or abort that is later, from the backup's start on
	my $stop;
	if ($target ne 'end')
	{
		my $start = ChaosCluster::number($cluster->sql($host->{node}, "SELECT start_lsn FROM walarchive.backup WHERE label = '$result->{backup}'"));
		my ($first) = grep { $_->[0] >= $start && $_->[2] gt $target } @path;
		die "$what: nothing is later, and it was done all the same\n" if !$first;
		$stop = $first->[0];
	}
	my %there = map { split /\|/ } split /\n/, copy_sql($result, 'SELECT id, xid FROM written');
	my (%wanted, @missing, @too_many);
	for my $record (@path)
	{
		next if !$record->[3] || defined $stop && $record->[0] >= $stop;
		$wanted{"$record->[4] $record->[1]"} = 1;
	}
	for my $line (values %{ $self->{acknowledged} })
	{
		my $due = $wanted{"$line->{timeline} $line->{xid}"};
		push @missing, $line->{id} if $due && !$there{ $line->{id} };
		push @too_many, $line->{id} if !$due && $there{ $line->{id} };
		# the end holds everything that was promised and not left behind
		push @missing, "$line->{id} (not in the WAL)" if $target eq 'end' && !$opt{timeline} && !$due && !$line->{warned} && !$line->{stranded};
	}
	# a row that nobody has logged is of a commit whose answer was lost; where neither archive
	# has WAL, because no server had it any more, it may have come with the base backup
	my %xids = map { $_->[1] => 1 } grep { $wanted{"$_->[4] $_->[1]"} } @path;
	push @too_many, grep { !$self->{acknowledged}{$_} && !$xids{ $there{$_} } } keys %there if !$self->gap_of_both;
	die "$what: missing: @missing[0 .. ($#missing > 5 ? 5 : $#missing)]\n" if @missing;
	die "$what: too many: @too_many[0 .. ($#too_many > 5 ? 5 : $#too_many)]\n" if @too_many;
	die "$what: there is nothing in it\n" if !%there;
	my $wrong = copy_sql($result, q(SELECT count(*) FROM written WHERE payload IS DISTINCT FROM left(repeat(md5(id::text), 1 + length / 32), length)));
	die "$what: $wrong rows have another payload\n" if $wrong ne '0';
	my $checked = copy_sql($result, q(SELECT count(*) FROM (SELECT bt_index_check(i.indexrelid, i.indrelid = 'written'::regclass)
		FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
		WHERE a.amname = 'btree' AND i.indisvalid AND c.relpersistence = 'p' OFFSET 0) x));
	die "$what: indexes are not sound\n" if $checked !~ /^[1-9]/;
	my $heap = copy_sql($result, q(SELECT string_agg(msg, '; ') FROM verify_heapam('written')));
	die "$what: the table is not sound: $heap\n" if $heap ne '';
	system_log('pg_ctl', '-D', $data, '-m', 'immediate', 'stop') == 0 or die "$what: the copy does not stop\n";
	forget_copy($data);
	system_log('rm', '-rf', $data);
	$self->{counts}{restores}++;
	$self->{counts}{rows} += keys %there;
	return;
}

# Is there WAL that neither archive has?
sub gap_of_both
{
	my ($self) = @_;
	my ($a, $b) = map { [ map { [ ChaosCluster::number($_->{from_lsn}), ChaosCluster::number($_->{to_lsn}) ] }
		  grep { $_->{kind} eq 'gap' } ChaosFaults::journal($self->{cluster}{hosts}{$_}) ] } qw(a b);
	return scalar grep { my $one = $_; grep { $one->[0] < $_->[1] && $_->[0] < $one->[1] } @$b } @$a;
}

# A random moment of the log that can be had: after the newest backup, before the last commit.
sub random_time
{
	my ($self, $host) = @_;
	my $from = $self->{cluster}->sql($host->{node}, "SELECT max(consistent_lsn) FROM walarchive.backup WHERE state = 'usable'");
	return undef if $from eq '';
	my $start = ChaosCluster::number($from);
	my @path = $self->path($self->{cluster}{timeline});
	my $newest = '';
	for (@path) { $newest = $_->[2] if $_->[0] < $start && $_->[2] gt $newest; }
	my @later = grep { $_->[0] >= $start && $_->[2] gt $newest } @path;
	return undef if @later < 3;
	my $time = $later[ rand(@later - 2) ][2];
	# a time after which nothing later comes can't be reached
	return (grep { $_->[2] gt $time } @later) ? $time : undef;
}

# ---- nothing is left over ----

sub no_leftovers
{
	my ($self) = @_;
	my $cluster = $self->{cluster};
	my $slots = $cluster->sql($cluster->{primary}, q(SELECT string_agg(slot_name || ' ' || active, ' ' ORDER BY slot_name) FROM pg_replication_slots WHERE NOT temporary));
	die "slots on the primary: $slots\n" if $slots ne 'archive_a true archive_b true';
	for my $host (map { $cluster->{hosts}{$_} } qw(a b))
	{
		my $why;
		$cluster->until("archive $host->{name} has nothing left over", sub {
			return 1 if !defined($why = $self->left_over($host));
			# what a failed sync has set aside goes when its segment is whole and durable
			ChaosFaults::switch_quietly($cluster) if $why =~ /\.unsynced/;
			return 0;
		}, sub { $why });
		$self->memory($host);
	}
	return;
}

# What is there that should not be, undef if there is nothing.
sub left_over
{
	my ($self, $host) = @_;
	opendir(my $dh, $host->{wal}) or die "could not open $host->{wal}: $!";
	my @strange = grep { !/^([0-9A-F]{24}(\.partial)?|[0-9A-F]{8}\.history|\.\.?|walarchive\.prepared\.\d+)$/ } readdir($dh);
	closedir($dh);
	# a timeline that has ended gets no whole segment any more
	@strange = grep { !/\.partial\.unsynced$/ || hex(substr($_, 0, 8)) == $self->{cluster}{timeline} } @strange;
	return "files @strange" if @strange;
	my %full = map { $_ => 1 } wal_files($host->{wal});
	my @twice = grep { /^(.*)\.partial$/ && $full{$1} } wal_files($host->{wal}, partial => 1);
	return "partial and finished: @twice" if @twice;
	my @half = glob("$host->{wal}/../backup/*.tmp");
	return "half a backup: @half" if @half;
	for my $case ([ launcher => 1, 1 ], [ 'receiver prod' => 1, 1 ], [ observer => 0, 1 ], [ backup => 0, 0 ], [ indexer => 0, 2 ])
	{
		my ($kind, $least, $most) = @$case;
		my @pids = worker_pids($host->{node}, "walarchive $kind");
		return scalar(@pids) . " processes walarchive $kind" if @pids < $least || @pids > $most;
	}
	return undef;
}

# Memory of its own of each of the host's processes: bounded, whatever came, and of one
# that lives on not more than it had when it had been through a few rounds.
sub memory
{
	my ($self, $host) = @_;
	my %bound = (launcher => 16, 'receiver prod' => 16, observer => 16, indexer => 64);
	for my $kind (sort keys %bound)
	{
		for my $pid (worker_pids($host->{node}, "walarchive $kind"))
		{
			open(my $fh, '<', "/proc/$pid/status") or next;
			my ($kb) = join('', <$fh>) =~ /^RssAnon:\s+(\d+)/m or next;
			$self->{memory}{$kind} = $kb if $kb > ($self->{memory}{$kind} // 0);
			die "walarchive $kind of archive $host->{name} has $kb kB of memory\n" if $kb > $bound{$kind} * 1024;
			my $life = $self->{lives}{"$host->{name} $pid"} //= { rounds => 0 };
			$life->{first} = $kb if ++$life->{rounds} == 3;
			my $grown = defined $life->{first} ? $kb - $life->{first} : 0;
			$self->{grown}{$kind} = $grown if $grown > ($self->{grown}{$kind} // -1) && defined $life->{first};
			die "walarchive $kind of archive $host->{name} has grown by $grown kB in $life->{rounds} rounds\n" if $grown > $bound{$kind} * 256;
		}
	}
	return;
}

1;
