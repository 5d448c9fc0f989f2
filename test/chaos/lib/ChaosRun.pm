# A run: rounds of faults drawn from a seed until the time is over, checks after
# each, and what to print in the end.  Dies at the first thing that is wrong,
# with the seed, the round and the faults in the message.
package ChaosRun;

use strict;
use warnings;

use ChaosChecks;
use ChaosCluster;
use ChaosFaults;
use Digest::MD5 qw(md5_hex);
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

# Claims that are of a host; all others are of the whole.
my %of_host = map { $_ => 1 } qw(host net disk backup restore files);
my $restore_every = 4;

# Options: seed, seconds, faults (names; all if not given), rounds (at most),
# results (a file that lines of JSON are added to), installs (of each archive host, as
# ChaosInstall makes them), before_round (called with the cluster and the round's number).
sub new
{
	my ($class, %opt) = @_;
	my $self = bless { %opt, started => time(), round => 0, counts => {} }, $class;
	$self->{faults} = [ grep { !ChaosFaults::named($_)->{slow} } ChaosFaults::names() ] if !@{ $self->{faults} // [] };
	ChaosFaults::named($_) for @{ $self->{faults} };
	srand($self->{seed});
	return $self;
}

# All of it.
sub run
{
	my ($self) = @_;
	my $done = eval {
		$self->{cluster} = ChaosCluster->new(seed => $self->{seed}, installs => $self->{installs});
		$self->{checks} = ChaosChecks->new($self->{cluster});
		note(sprintf('%.0f s: all is set up', time() - $self->{started}));
		$self->one_round while time() - $self->{started} < $self->{seconds} && $self->{round} < ($self->{rounds} // 1e9);
		$self->final;
		1;
	};
	my $why = $done ? '' : $@;
	$self->{cluster}->stop if $self->{cluster};
	$self->report($why);
	die "seed $self->{seed}, round $self->{round}, faults: @{[ join(', ', @{ $self->{now} // [] }) ]}: $why" if !$done;
	return;
}

# The same; returns what is wrong, '' if nothing is.
sub try
{
	my ($self) = @_;
	my $why = eval { $self->run; 1 } ? '' : $@;
	for my $node (map { $self->{cluster}{$_} } qw(one two)) { $node->teardown_node if $node; }
	$_->{node}->teardown_node for values %{ $self->{cluster}{hosts} // {} };
	return $why;
}

# ---- one round ----

# A number of a sequence that only the seed determines: what else is random depends on
# how often somebody had to ask, and the faults of a seed are to be the same again.
sub random
{
	my ($self, $below) = @_;
	return hex(substr(md5_hex("$self->{seed} " . ++$self->{drawn}), 0, 8)) / 4294967296 * $below;
}

# One to three faults that do not need the same thing, each with a host.
sub draw
{
	my ($self) = @_;
	my $wanted = 1 + int($self->random(3));
	my (@drawn, %taken);

	for (1 .. 20)
	{
		last if @drawn == $wanted;
		my $fault = ChaosFaults::named($self->next_name);
		my ($host, $other) = $self->random(1) < 0.5 ? qw(a b) : qw(b a);
		my @claims = map { my $claim = $_; $claim =~ s/^other // ? "$claim $other" : $of_host{$claim} ? "$claim $host" : $claim } @{ $fault->{claims} };
		next if grep { $taken{$_} } @claims;
		$taken{$_} = 1 for @claims;
		$self->{pack} = [ grep { $_ ne $fault->{name} } @{ $self->{pack} } ];
		push @drawn, { fault => $fault, name => $fault->{name}, host => $host, own => { map { $_ => 1 } @claims } };
	}
	# what can be seen only while WAL flows comes first
	return sort { ($b->{fault}{flow} // 0) <=> ($a->{fault}{flow} // 0) } @drawn;
}

# Every fault comes once before one comes again.
sub next_name
{
	my ($self) = @_;
	$self->{pack} = [ @{ $self->{faults} } ] if !@{ $self->{pack} // [] };
	return $self->{pack}[ $self->random(scalar @{ $self->{pack} }) ];
}

sub one_round
{
	my ($self) = @_;
	my $c = $self->{cluster};
	my @drawn = $self->draw;
	my $since = time();

	$self->{round}++;
	$self->{before_round}->($c, $self->{round}) if $self->{before_round};
	$self->{now} = [ map { "$_->{name} ($_->{host})" } @drawn ];
	note(sprintf('%.0f s, round %d: %s', time() - $self->{started}, $self->{round}, join(', ', @{ $self->{now} })));
	$c->{writers}->resume;
	$self->alive('before the faults');
	for my $one (@drawn)
	{
		usleep(int(rand(700_000)));
		$one->{begun} = time();
		$one->{state} = $one->{fault}{begin}->($c, $c->{hosts}{ $one->{host} });
		$c->until("$one->{name} to have an effect", sub {
			return 1 if !$one->{fault}{effect} || $one->{fault}{effect}->($c, $c->{hosts}{ $one->{host} }, $one->{state});
			$one->{fault}{load}->($c) if $one->{fault}{load};
			return 0;
		});
		$self->{counts}{ $one->{name} }{times}++;
	}
	usleep(int(rand(rand() < 0.2 ? 6_000_000 : 1_500_000)));
	for my $one (@drawn)
	{
		next if !$one->{fault}{told} || grep { $_ != $one && $self->hides($_, $one) } @drawn;
		$c->until("health to tell of $one->{name}", sub { $one->{fault}{told}->($c, $c->{hosts}{ $one->{host} }, $one->{state}) },
			sub { join('; ', map { $c->complaints($_) // $c->{last_error} } values %{ $c->{hosts} }) }, $one->{fault}{slow});
		$self->{counts}{ $one->{name} }{told}++;
	}
	while (@drawn)
	{
		# what runs beside ends by itself, once it is let
		my @next = grep { !$drawn[$_]{fault}{last} } 0 .. $#drawn;
		@next = 0 .. $#drawn if !@next;
		my ($one) = splice(@drawn, $next[ rand(@next) ], 1);
		$one->{fault}{end}->($c, $c->{hosts}{ $one->{host} }, $one->{state});
		$self->{counts}{ $one->{name} }{seconds} += time() - $one->{begun};
		usleep(int(rand(300_000)));
	}
	$self->alive('after the faults');
	$self->check;
	my $seconds = time() - $since;
	pass(sprintf('round %d, %.0f s: %s', $self->{round}, $seconds, join(', ', @{ $self->{now} })));
	$self->result(kind => 'round', round => $self->{round}, seconds => 0 + sprintf('%.1f', $seconds), faults => $self->{now});
	return;
}

# May one fault be why nothing is said of another?
sub hides
{
	my ($self, $one, $other) = @_;
	return 1 if $one->{own}{servers} || $other->{own}{servers};
	return $one->{host} eq $other->{host};
}

# Nothing counts before every writer writes, each receiver streams, and the standby follows.
sub alive
{
	my ($self, $when) = @_;
	my $c = $self->{cluster};
	my @dead = $c->{writers}->dead;
	die "writers @dead have ended\n" if @dead;
	my %before = $c->{writers}->sizes;
	my @silent;
	$c->until("each writer writes $when", sub {
		my %now = $c->{writers}->sizes;
		return !(@silent = grep { $now{$_} == $before{$_} } sort keys %now);
	}, sub { "not writers @silent; " . $self->look });
	return if $when =~ /^after/;
	for my $host (values %{ $c->{hosts} })
	{
		my $state = $c->stat($host, 'state') // 'no answer';
		die "archive $host->{name} is $state before the faults\n" if $state ne 'streaming';
	}
	return;
}

# How things are, for a message.
sub look
{
	my ($self) = @_;
	my $c = $self->{cluster};
	my $hosts = join('; ', map { "archive $_->{name}: " . ($c->stat($_, "concat_ws(' | ', state, received_tli, flushed_lsn, cause, last_error)") // "no answer: $c->{last_error}") } map { $c->{hosts}{$_} } qw(a b));
	my $primary = $c->ask($c->{primary}, q(SELECT string_agg(concat_ws(' ', application_name, state, sync_state, flush_lsn), ', ') FROM pg_stat_replication)) // "no answer: $c->{last_error}";
	return "$hosts; primary " . $c->{primary}->name . ", timeline $c->{timeline}: $primary";
}

sub check
{
	my ($self) = @_;
	my $c = $self->{cluster};
	my $checks = $self->{checks};

	$c->{writers}->pause;
	$c->until('the writers pause', sub { $c->{writers}->idle });
	$c->quiet;
	$checks->nothing_lost;
	$checks->same_bytes;
	$checks->no_leftovers;
	$self->restores if $self->{round} % $restore_every == 0;
	return;
}

# A restore to the end, and to a moment, each from one of the archives.
sub restores
{
	my ($self) = @_;
	my ($one, $other) = map { $self->{cluster}{hosts}{$_} } rand() < 0.5 ? qw(a b) : qw(b a);
	$self->{checks}->restore($one, 'end');
	my $time = $self->{checks}->random_time($other);
	$self->{checks}->restore($other, $time) if defined $time;
	return;
}

sub final
{
	my ($self) = @_;
	$self->{now} = ['the last checks'];
	my $c = $self->{cluster};
	$self->check;
	$self->{checks}->restore($c->{hosts}{$_}, 'end') for qw(a b);
	for my $name (qw(a b))
	{
		my @found = split /\n/, $c->sql($c->{hosts}{$name}{node}, q(SELECT file || ': ' || problem FROM walarchive.verify('prod')));
		# WAL that every server had removed before the archive could have it is missing, and known to be
		@found = grep { !/missing/ } @found if grep { $_->{kind} eq 'gap' } ChaosFaults::journal($c->{hosts}{$name});
		die "archive $name is damaged: @found\n" if @found;
	}
	return;
}

# ---- what is said of it ----

sub result
{
	my ($self, %line) = @_;
	return if !$self->{results};
	open(my $fh, '>>', $self->{results}) or die "could not open $self->{results}: $!";
	print $fh JSON::PP->new->canonical->encode({ seed => 0 + $self->{seed}, %line }) . "\n";
	close($fh);
	return;
}

# The table of faults, ready for a page of documentation.
sub report
{
	my ($self, $why) = @_;
	my $seconds = time() - $self->{started};
	my $counts = $self->{checks} ? $self->{checks}{counts} : {};
	my $total = 0;
	$total += $_->{times} // 0 for values %{ $self->{counts} };
	my $lost = $why =~ /acknowledged commits are in no archive|missing:/ ? 'see below' : 'nothing';
	note('| fault | times | times that health had to tell, and did | what was lost |');
	note('|---|---|---|---|');
	for my $name (sort keys %{ $self->{counts} })
	{
		my $count = $self->{counts}{$name};
		note(sprintf('| %s | %d | %s | %s |', $name, $count->{times} // 0, $count->{told} // '', $lost));
	}
	note(sprintf('seed %d: %.0f s, %d rounds, %d faults; %s', $self->{seed}, $seconds, $self->{round}, $total,
			join(', ', map { "$counts->{$_} $_" } sort keys %$counts)));
	note('most memory of a process of its own: ' . join(', ', map { "$_ $self->{checks}{memory}{$_} kB" } sort keys %{ $self->{checks}{memory} })) if $self->{checks};
	$self->result(kind => 'run', seconds => 0 + sprintf('%.1f', $seconds), rounds => $self->{round}, faults => $total,
		by_kind => { map { $_ => $self->{counts}{$_}{times} // 0 } keys %{ $self->{counts} } },
		told => { map { $_ => $self->{counts}{$_}{told} } grep { $self->{counts}{$_}{told} } keys %{ $self->{counts} } },
		memory => $self->{checks} ? $self->{checks}{memory} : {}, counts => $counts, failed => $why, now => $why eq '' ? [] : $self->{now});
	return;
}

1;
