# The faults.  Each has a name, says what it needs for itself (claims), begins, is
# shown to have had its effect, is noticed where the documentation says that it is,
# and ends.  "begin" returns a hash of its own state; what has no "effect" is its own
# effect.  A fault that had none ends the run: a harness that only believes
# it did something proves nothing.
package ChaosFaults;

use strict;
use warnings;

use ChaosPower;
use ChaosTable;
use ChaosWire;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time usleep);
use WalArchive;
use WalFaults;
use WalRestore;

# Is a process stopped?
sub is_stopped
{
	my ($pid) = @_;
	open(my $fh, '<', "/proc/$pid/stat") or return 0;
	return (<$fh> // '') =~ /\) [Tt] /;
}

# What health says of a host is not fine in a check, or there is nobody to say anything.
sub host_tells
{
	my ($c, $host, $check, $severity) = @_;
	my $of = $check eq 'launcher' ? 'source IS NULL' : q(source = 'prod');
	my $answer = $c->ask($host->{node}, qq(SELECT severity FROM walarchive.health WHERE "check" = '$check' AND $of));
	return !defined $answer || $answer ne 'ok' && (!$severity || $answer eq $severity);
}

# ---- processes are killed, and stopped ----

# A worker of an archive host: its death is a crash of the host's server.
sub kill_worker
{
	my ($kind) = @_;
	return {
		name => "SIGKILL of the $kind", claims => ['host'],
		begin => sub {
			my ($c, $host) = @_;
			my $pid;
			# an indexer comes and goes
			$c->until("a $kind of archive $host->{name}", sub { defined($pid = $c->worker($host, $kind)) && kill('KILL', $pid) });
			return { pid => $pid };
		},
		effect => sub { my ($c, $host, $s) = @_; return process_gone($s->{pid}) },
		end => sub {
			my ($c, $host, $s) = @_;
			# it is back, or was not needed any more
			$c->until("the launcher of archive $host->{name} is back", sub { my $pid = $c->worker($host, 'launcher'); defined $pid && $pid != $s->{pid} });
		} };
}

sub stop_worker
{
	my ($kind) = @_;
	return {
		name => "SIGSTOP of the $kind", claims => ['host'],
		begin => sub {
			my ($c, $host) = @_;
			my $pid;
			$c->until("a $kind of archive $host->{name}", sub { defined($pid = $c->worker($host, $kind)) && kill('STOP', $pid) });
			return { pid => $pid };
		},
		effect => sub { my ($c, $host, $s) = @_; return is_stopped($s->{pid}) },
		end => sub { my ($c, $host, $s) = @_; kill('CONT', $s->{pid}) } };
}

my @processes = (
	(map { kill_worker($_) } 'receiver', 'indexer', 'launcher', 'observer'),
	(map { stop_worker($_) } 'receiver', 'indexer', 'launcher'),
	{
		name => 'SIGKILL of the archive postmaster', claims => ['host'],
		begin => sub { my ($c, $host) = @_; return { pid => $c->kill_server($host->{node}) } },
		effect => sub { my ($c, $host, $s) = @_; return process_gone($s->{pid}) && !defined $c->ask($host->{node}, 'SELECT 1') },
		told => sub { my ($c, $host) = @_; return host_tells($c, $host, 'receiver') },
		end => sub { my ($c, $host) = @_; $c->start($host->{node}) } },
	{
		name => 'SIGSTOP of the archive postmaster', claims => ['host'],
		begin => sub { my ($c, $host) = @_; my $pid = postmaster_pid($host->{node}); kill('STOP', $pid); return { pid => $pid } },
		effect => sub { my ($c, $host, $s) = @_; return is_stopped($s->{pid}) },
		# nobody answers who asks for it
		told => sub { my ($c, $host) = @_; return host_tells($c, $host, 'receiver') },
		end => sub { my ($c, $host, $s) = @_; kill('CONT', $s->{pid}) } },
	{
		name => 'SIGKILL of the primary', claims => ['servers'],
		begin => sub { my ($c) = @_; return { pid => $c->kill_server($c->{primary}) } },
		effect => sub { my ($c, $host, $s) = @_; return process_gone($s->{pid}) },
		told => sub { my ($c) = @_; return !grep { !host_tells($c, $_, 'receiver') } values %{ $c->{hosts} } },
		end => sub { my ($c) = @_; $c->start($c->{primary}) } },
	{
		name => 'SIGSTOP of the primary', claims => ['servers'],
		begin => sub {
			my ($c) = @_;
			my $postmaster = postmaster_pid($c->{primary});
			my @pids = ($postmaster, ChaosCluster::children($postmaster));
			kill('STOP', @pids);
			return { pids => \@pids };
		},
		effect => sub { my ($c, $host, $s) = @_; return is_stopped($s->{pids}[0]) },
		told => sub { my ($c) = @_; return !grep { !host_tells($c, $_, 'receiver') } values %{ $c->{hosts} } },
		end => sub { my ($c, $host, $s) = @_; kill('CONT', @{ $s->{pids} }) } },
	{
		name => 'SIGKILL of the standby', claims => ['servers'],
		begin => sub { my ($c) = @_; return { pid => $c->kill_server($c->{standby}) } },
		effect => sub { my ($c, $host, $s) = @_; return process_gone($s->{pid}) },
		end => sub { my ($c) = @_; $c->start($c->{standby}) } },
	{
		name => 'SIGSTOP of the standby', claims => ['servers'],
		begin => sub {
			my ($c) = @_;
			my $postmaster = postmaster_pid($c->{standby});
			my @pids = ($postmaster, ChaosCluster::children($postmaster));
			kill('STOP', @pids);
			return { pids => \@pids };
		},
		effect => sub { my ($c, $host, $s) = @_; return is_stopped($s->{pids}[0]) },
		end => sub { my ($c, $host, $s) = @_; kill('CONT', @{ $s->{pids} }) } },
);

# ---- as long as health waits before it speaks ----

# A frozen process says nothing of itself.  Health speaks when the server has not been
# heard for a minute, when the launcher has not looked for one, and when what is durable
# has not been decoded for five.
sub long_freeze
{
	my ($kind, $check, $severity, $period, $seconds) = @_;
	return {
		name => "$kind frozen for more than $period", claims => [ 'servers', 'host', 'net', 'disk' ], flow => 1, slow => $seconds,
		begin => sub {
			my ($c, $host) = @_;
			my $pid;
			$c->until("a $kind of archive $host->{name}", sub { defined($pid = $c->worker($host, $kind)) && kill('STOP', $pid) });
			return { pid => $pid };
		},
		effect => sub { my ($c, $host, $s) = @_; return is_stopped($s->{pid}) },
		told => sub { my ($c, $host) = @_; return host_tells($c, $host, $check, $severity) },
		end => sub { my ($c, $host, $s) = @_; kill('CONT', $s->{pid}) } };
}

my @frozen = (
	long_freeze('receiver', 'receiver', 'critical', 'a minute', 60),
	long_freeze('launcher', 'launcher', 'critical', 'a minute', 60),
	long_freeze('indexer', 'index', 'warning', 'five minutes', 300));

# ---- the network ----

sub network
{
	my ($name, $mode, $count, %more) = @_;
	return {
		name => $name, claims => [ 'net', 'disk' ], flow => 1,
		begin => sub { my ($c, $host) = @_; $host->{proxy}->set(mode => 'pass', %$mode); return {} },
		effect => sub { my ($c, $host) = @_; return ($host->{proxy}->done->{$count} // 0) > 0 },
		end => sub { my ($c, $host) = @_; $host->{proxy}->set(mode => 'pass') },
		%more };
}

my $told = sub { my ($c, $host) = @_; return host_tells($c, $host, 'receiver') };
my @network = (
	network('network cut', { mode => 'refuse' }, 'cut', told => $told),
	network('network swallows', { mode => 'swallow' }, 'swallowed', told => $told),
	network('network delayed', { delay => 0.3 }, 'delayed'),
	network('network throttled', { rate => 20_000 }, 'throttled'),
	network('cut inside of a message', { cut => 1 }, 'cut_inside'),
);

# ---- the disk ----

my @disk = (
	{
		name => 'archive disk full', claims => [ 'host', 'disk' ], flow => 1,
		begin => sub { my ($c, $host) = @_; arm_faults($host->{node}, 'write:SHORT:.partial:1', "write:ENOSPC:$host->{directory}"); return {} },
		effect => sub { my ($c, $host) = @_; return ($c->stat($host, "coalesce(cause, '')") // '') eq 'disk_full' },
		told => sub { my ($c, $host) = @_; return host_tells($c, $host, 'receiver', 'critical') },
		# so that segments have to be made
		load => sub { my ($c) = @_; switch_quietly($c) },
		end => sub { my ($c, $host) = @_; disarm_faults($host->{node}) } },
	{
		name => 'archive disk slow', claims => ['disk'], flow => 1,
		begin => sub { my ($c, $host) = @_; arm_faults($host->{node}, 'fdatasync:DELAY=400000:/wal/', 'fsync:DELAY=200000:/wal', 'write:DELAY=20000:.partial'); return {} },
		effect => sub { my ($c, $host) = @_; return ($c->stat($host, 'written_lsn > flushed_lsn') // '') eq 't' },
		end => sub { my ($c, $host) = @_; disarm_faults($host->{node}) } },
	{
		name => 'archive disk fails to sync', claims => [ 'host', 'disk' ], flow => 1,
		begin => sub {
			my ($c, $host) = @_;
			my $errors = count_errors($host);
			arm_faults($host->{node}, 'fdatasync:EIO:.partial:1');
			return { errors => $errors };
		},
		effect => sub { my ($c, $host, $s) = @_; return count_errors($host) > $s->{errors} },
		end => sub { my ($c, $host) = @_; disarm_faults($host->{node}) } },
);

sub count_errors
{
	my ($host) = @_;
	my $journal = "$host->{directory}/prod/journal";
	my @hits = grep { /could not be made durable|Input\/output error/ } split /\n/, slurp_file($journal);
	return scalar @hits;
}

sub switch_quietly
{
	my ($c) = @_;
	# the commit of a message that is not transactional waits for nobody
	$c->ask($c->{primary}, "SET synchronous_commit = local; SELECT pg_logical_emit_message(false, 'chaos', 'x'); SELECT pg_switch_wal()");
	return;
}

# ---- power ----

# Each sync takes its time, so that there is something to lose when the host is dead.
sub slow_syncs
{
	my ($host) = @_;
	arm_faults($host->{node}, 'fdatasync:DELAY=1200000:/wal/');
	return;
}

# The same for archives that confirm before the sync: none ends any more, so that whatever
# is acknowledged from here on is surely lost with the power.
sub hold_syncs
{
	my ($c) = @_;
	my @hosts = values %{ $c->{hosts} };
	my $flushes = sub { my ($host) = @_; return $c->ask($host->{node}, 'SELECT flushes FROM walarchive.receiver_state()') // 0 };
	# A receiver makes quick flushes itself, and would wait for the first of these as well.
	# The second that ends was begun after this, and has told it to leave them to threads.
	arm_faults($_->{node}, 'fdatasync:DELAY=300000:/wal/') for @hosts;
	for my $host (@hosts)
	{
		my $before = $flushes->($host);
		$c->until("flushes of archive $host->{name} are made by threads", sub { $flushes->($host) >= $before + 2 });
	}
	# all of a segment to write in: at its end the receiver waits for the syncs
	$c->{writers}->pause;
	$c->until('the writers pause', sub { $c->{writers}->idle });
	switch_quietly($c);
	arm_faults($_->{node}, 'fdatasync:DELAY=3600000000:/wal/') for @hosts;
	$c->{writers}->resume;
	return;
}

my @power = (
	{
		name => 'power loss of an archive host', claims => [ 'host', 'disk' ], flow => 1,
		begin => sub {
			my ($c, $host) = @_;
			my $lost = 0;
			# at some moments nothing is on its way to the disk
			for (1 .. 10)
			{
				slow_syncs($host);
				$c->until('something is not synced', sub { ($c->stat($host, 'written_lsn > flushed_lsn') // '') eq 't' });
				$c->kill_server($host->{node});
				disarm_faults($host->{node});
				$lost = ChaosPower::strike($host);
				last if $lost > 0;
				$c->start($host->{node});
				$c->until('streaming again', sub { ($c->stat($host, 'state') // '') eq 'streaming' });
			}
			return { lost => $lost };
		},
		effect => sub { my ($c, $host, $s) = @_; return $s->{lost} > 0 },
		end => sub { my ($c, $host) = @_; $c->start($host->{node}) } },
	{
		name => 'power loss of all and failover', claims => [ 'servers', 'host', 'other host', 'net', 'other net', 'disk', 'other disk', 'writers' ],
		begin => sub {
			my ($c) = @_;
			my $was = $c->{timeline};
			my @hosts = values %{ $c->{hosts} };
			$c->kill_server($c->{standby});
			if ($c->{confirms_early}) { hold_syncs($c); }
			else { slow_syncs($_) for @hosts; }
			commits_without_standby($c);
			usleep(int(rand(500_000)));
			# at once, as far as that goes: the archives first, since nobody may hear more of them
			my @pids = map { my $pid = postmaster_pid($_->{node}); ($pid, ChaosCluster::children($pid)) } @hosts;
			kill('STOP', @pids);
			$c->kill_server($c->{primary});
			kill('KILL', @pids);
			my $lost = 0;
			for my $host (@hosts)
			{
				$host->{node}->{_pid} = undef;
				disarm_faults($host->{node});
			}
			$c->until('the archive hosts are dead', sub { !grep { !process_gone($_) } @pids });
			$lost += ChaosPower::strike($_) for @hosts;
			$c->start($c->{standby});
			$c->promote;
			return { was => $was, lost => $lost, pids => \@pids };
		},
		effect => sub { my ($c, $host, $s) = @_; return $c->{timeline} > $s->{was} && !grep { !process_gone($_) } @{ $s->{pids} } },
		end => sub {
			my ($c) = @_;
			$c->start($_->{node}) for values %{ $c->{hosts} };
			$c->rebuild;
		} },
);

# ---- failovers ----

my @failover = (
	{
		name => 'failover', claims => ['servers'],
		begin => sub {
			my ($c) = @_;
			my $was = $c->{timeline};
			$c->kill_server($c->{primary});
			$c->promote;
			return { was => $was };
		},
		effect => sub { my ($c, $host, $s) = @_; return $c->{timeline} > $s->{was} },
		end => sub { my ($c) = @_; $c->rebuild } },
	{
		# one of the archives has to be well, or there are no commits
		name => 'failover with the archive ahead', claims => [ 'servers', 'net', 'other net', 'other host', 'other disk', 'writers' ],
		begin => sub {
			my ($c) = @_;
			my $was = $c->{timeline};
			$c->kill_server($c->{standby});
			commits_without_standby($c);
			usleep(int(rand(500_000)));
			$c->kill_server($c->{primary});
			$c->start($c->{standby});
			$c->promote;
			return { was => $was };
		},
		effect => sub {
			my ($c, $host, $s) = @_;
			return $c->{timeline} > $s->{was} && grep { grep { $_->{kind} eq 'divergence' && $_->{timeline} == $s->{was} } journal($_) } values %{ $c->{hosts} };
		},
		told => sub {
			my ($c, $host, $s) = @_;
			return grep { ($c->ask($_->{node}, "SELECT count(*) FROM walarchive.event WHERE kind = 'divergence' AND severity = 'critical' AND timeline = $s->{was}") // 0) > 0 } values %{ $c->{hosts} };
		},
		end => sub { my ($c) = @_; $c->rebuild } },
	{
		name => 'failover with the archive behind', claims => [ 'servers', 'host', 'other host', 'net', 'other net', 'disk', 'other disk' ],
		begin => sub {
			my ($c) = @_;
			my $was = $c->{timeline};
			my @pids = map { $c->worker($_, 'receiver') } values %{ $c->{hosts} };
			kill('STOP', @pids);
			# nobody confirms, and the standby goes on receiving
			my $flushed = $c->sql($c->{primary}, q(SELECT max(flush_lsn) FROM pg_stat_replication WHERE application_name LIKE 'archive%'));
			switch_quietly($c);
			my $lsn = $c->sql($c->{primary}, 'SELECT pg_current_wal_flush_lsn()');
			$c->until('the standby is ahead', sub { ($c->ask($c->{standby}, "SELECT pg_last_wal_receive_lsn() >= '$lsn' AND '$lsn'::pg_lsn > '$flushed'") // '') eq 't' });
			$c->kill_server($c->{primary});
			$c->promote;
			kill('CONT', @pids);
			return { was => $was, stopped => scalar(@pids) };
		},
		effect => sub { my ($c, $host, $s) = @_; return $c->{timeline} > $s->{was} && $s->{stopped} == 2 },
		end => sub { my ($c) = @_; $c->rebuild } },
	{
		name => 'double failover', claims => ['servers'],
		begin => sub {
			my ($c) = @_;
			my $was = $c->{timeline};
			$c->kill_server($c->{primary});
			$c->promote;
			$c->rebuild;
			$c->until('the new standby follows', sub { ($c->ask($c->{standby}, q(SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming')) // '') eq '1' });
			usleep(int(rand(300_000)));
			$c->kill_server($c->{primary});
			$c->promote;
			return { was => $was };
		},
		effect => sub { my ($c, $host, $s) = @_; return $c->{timeline} >= $s->{was} + 2 },
		end => sub { my ($c) = @_; $c->rebuild } },
	{
		name => 'split brain', claims => [ 'servers', 'net', 'other net', 'host', 'other host', 'disk', 'other disk' ],
		begin => sub {
			my ($c) = @_;
			my $was = $c->{timeline};
			$c->kill_server($c->{primary});
			$c->promote;
			for my $host (values %{ $c->{hosts} })
			{
				$c->until("archive $host->{name} follows", sub { ($c->stat($host, "state = 'streaming' AND received_tli = $c->{timeline}") // '') eq 't' },
					sub { $c->stat($host, "concat_ws(' | ', state, received_tli, cause, last_error)") // 'no answer' });
			}
			# it does not know that it is over
			my $old = $c->{standby};
			$c->start($old);
			return { was => $was, old => $old };
		},
		effect => sub {
			my ($c, $host, $s) = @_;
			my $limit = time() + 3;
			my $wire = ChaosWire->new(folder => $s->{old}->host, port => $s->{old}->port, name => 'split brain', give_up => sub { time() > $limit }) or return 0;
			my $begun = $wire->query("BEGIN; INSERT INTO written (id, length, payload) VALUES (-$c->{timeline}, 0, ''); SELECT pg_is_in_recovery()");
			($begun->{rows}[0][0] // '') eq 'f' or die "the former primary is not one: " . ($begun->{error} // 'no answer') . "\n";
			my $done = $wire->query('COMMIT');
			# it would have to wait for an archive, and none is there for it
			die "the former primary has acknowledged a commit\n" if $done->{status} && !@{ $done->{warnings} };
			for my $archive (values %{ $c->{hosts} })
			{
				die "archive $archive->{name} follows the former primary\n"
				  if ($c->stat($archive, 'received_tli') // $c->{timeline}) ne $c->{timeline};
			}
			return 1;
		},
		end => sub { my ($c) = @_; $c->rebuild } },
);

# The standby is dead: wait for commits that it does not have.  The first that a writer
# logs may have been under way before.
sub commits_without_standby
{
	my ($c) = @_;
	my %before = $c->{writers}->lines;
	$c->until('commits that the standby does not have', sub { my %now = $c->{writers}->lines; (grep { $now{$_} >= $before{$_} + 2 } keys %now) >= 3 });
	return;
}

# The journal's lines of a host, as hashes.
sub journal
{
	my ($host) = @_;
	return map { JSON::PP::decode_json($_) } slurp_file("$host->{directory}/prod/journal") =~ /^(\{.*\})$/mg;
}

# ---- the slot ----

my @slots = (
	{
		name => 'slot dropped', claims => [ 'servers', 'net', 'host', 'writers' ],
		begin => sub {
			my ($c, $host) = @_;
			my $before = grep { $_->{kind} eq 'slot_created' } journal($host);
			my $slot = "archive_$host->{name}";
			# the receiver is faster than we are, unless it can't come
			$host->{proxy}->set(mode => 'refuse');
			$c->until("slot $slot is free", sub { ($c->ask($c->{primary}, "SELECT active FROM pg_replication_slots WHERE slot_name = '$slot'") // '') eq 'f' });
			$c->sql($c->{primary}, "SELECT pg_drop_replication_slot('$slot')");
			$host->{proxy}->set(mode => 'pass');
			return { before => $before };
		},
		effect => sub { my ($c, $host, $s) = @_; return grep({ $_->{kind} eq 'slot_created' } journal($host)) > $s->{before} },
		end => sub { } },
	{
		# the other archive has to be well: what both lose because the operator limits what
		# slots keep is gone, and a confirmation of what comes after it releases those
		# who still waited
		name => 'slot invalidated', claims => [ 'servers', 'net', 'host', 'disk', 'other net', 'other host', 'other disk', 'load' ],
		begin => sub {
			my ($c, $host) = @_;
			my $before = grep { $_->{kind} eq 'gap' } journal($host);
			my $slot = "archive_$host->{name}";
			$host->{proxy}->set(mode => 'refuse');
			$c->until("slot $slot is free", sub { ($c->ask($c->{primary}, "SELECT active FROM pg_replication_slots WHERE slot_name = '$slot'") // '') eq 'f' });
			settings($c, max_slot_wal_keep_size => '2MB', wal_keep_size => '0', max_wal_size => '4MB');
			$c->until("slot $slot is lost", sub {
				switch_quietly($c) for 1 .. 5;
				$c->until('the other slot moves on', sub { ($c->ask($c->{primary}, "SELECT pg_current_wal_lsn() - restart_lsn < 1500000 FROM pg_replication_slots WHERE slot_name LIKE 'archive%' AND slot_name <> '$slot'") // '') eq 't' });
				$c->ask($c->{primary}, 'CHECKPOINT');
				($c->ask($c->{primary}, "SELECT wal_status FROM pg_replication_slots WHERE slot_name = '$slot'") // '') eq 'lost' });
			settings($c, max_slot_wal_keep_size => undef, wal_keep_size => undef, max_wal_size => undef);
			$host->{proxy}->set(mode => 'pass');
			return { before => $before };
		},
		effect => sub { my ($c, $host, $s) = @_; return grep({ $_->{kind} eq 'gap' } journal($host)) > $s->{before} },
		told => sub { my ($c, $host) = @_; return host_tells($c, $host, 'gap', 'critical') },
		end => sub { } },
);

# Change the primary's settings, or put them back.
sub settings
{
	my ($c, %set) = @_;
	for my $name (sort keys %set)
	{
		$c->sql($c->{primary}, defined $set{$name} ? "ALTER SYSTEM SET $name = '$set{$name}'" : "ALTER SYSTEM RESET $name");
	}
	$c->sql($c->{primary}, 'SELECT pg_reload_conf()');
	for my $name (grep { defined $set{$_} } keys %set)
	{
		$c->until("$name is set", sub { ($c->ask($c->{primary}, "SHOW $name") // '') eq $set{$name} });
	}
	return;
}

# ---- what runs beside, and the operator ----

# A command in the background, with its output in a file.
sub background
{
	my ($c, @command) = @_;
	my $out = "$c->{dir}/output." . ++$c->{outputs};
	return { out => $out, handle => IPC::Run::start(\@command, '<', '/dev/null', '>', $out, '2>', "$out.err") };
}

sub ended
{
	my ($c, $s) = @_;
	$c->until('what runs beside ends', sub { !$s->{handle}->pumpable });
	$s->{handle}->finish;
	return $s->{handle}->result(0);
}

# The worker that takes a backup, in the middle of it.
sub signal_backup
{
	my ($signal, $effect) = @_;
	return {
		name => "SIG$signal of the backup worker", claims => [ 'backup', 'host', 'servers', 'net' ], last => 1,
		begin => sub {
			my ($c, $host) = @_;
			my $s = background($c, 'psql', '-XAtq', '-d', $host->{node}->connstr('postgres'), '-c', q(SELECT walarchive.take_backup('prod', max_rate => 2000)));
			$c->until('a backup worker', sub { defined($s->{pid} = $c->worker($host, 'backup')) || !$s->{handle}->pumpable }, sub { slurp_file("$s->{out}.err") });
			die 'a backup does not start: ' . slurp_file("$s->{out}.err") if !defined $s->{pid};
			usleep(int(rand(1_000_000)));
			kill($signal, $s->{pid});
			return $s;
		},
		effect => $effect,
		end => sub { my ($c, $host, $s) = @_; kill('CONT', $s->{pid}) if $signal eq 'STOP'; ended($c, $s) } };
}

my @beside = (
	{
		name => 'backup meanwhile', claims => ['backup'], last => 1,
		begin => sub {
			my ($c, $host) = @_;
			my $s = background($c, 'psql', '-XAtq', '-d', $host->{node}->connstr('postgres'), '-c', q(SELECT walarchive.take_backup('prod', max_rate => 8000)));
			return $s;
		},
		# it runs, or was refused because something else is under way
		effect => sub { my ($c, $host, $s) = @_; return !$s->{handle}->pumpable || ($c->ask($host->{node}, 'SELECT count(*) FROM walarchive.stat_progress_backup') // 0) > 0 || defined $c->worker($host, 'backup') },
		end => sub { my ($c, $host, $s) = @_; ended($c, $s) } },
	signal_backup('KILL', sub { my ($c, $host, $s) = @_; return process_gone($s->{pid}) }),
	signal_backup('STOP', sub { my ($c, $host, $s) = @_; return is_stopped($s->{pid}) }),
	{
		name => 'restore meanwhile', claims => ['restore'], last => 1,
		begin => sub {
			my ($c, $host) = @_;
			my $data = new_place();
			my $s = background($c, 'walarchive', 'restore', '-D', $data, '-h', $host->{node}->host, '-p', $host->{node}->port, '-d', 'postgres', '--source=prod',
				'--retry=20', '--start', '--target-action=shutdown', '--port', PostgreSQL::Test::Cluster::get_free_port());
			$s->{data} = $data;
			return $s;
		},
		effect => sub { my ($c, $host, $s) = @_; return -e $s->{data} || !$s->{handle}->pumpable },
		end => sub {
			my ($c, $host, $s) = @_;
			my $code = ended($c, $s);
			my $said = slurp_file($s->{out}) . slurp_file("$s->{out}.err");
			# whatever was done to the host: it is there as planned, or it says that it is not, and none is left running
			die "a restore beside faults has ended elsewhere than planned: $said\n" if $said =~ /it is a defect/;
			die "a restore says it is done and nothing is there: $said\n" if $code == 0 && !-e "$s->{data}/PG_VERSION";
			# one that failed before its recovery has left nothing that can be started
			die "a restore failed ($code) and can be started: $said\n" if $code != 0 && -e "$s->{data}/global/pg_control" && !-e "$s->{data}/walarchive.restore" && $said !~ /recover/;
			stop_copy($s->{data});
			system_log('rm', '-rf', $s->{data});
		} },
	{
		name => 'pg_switch_wal storm', claims => ['load'], flow => 1, last => 1,
		begin => sub {
			my ($c) = @_;
			return background($c, 'psql', '-XAtq', '-d', $c->{primary}->connstr('postgres'), '-c', 'SET synchronous_commit = local',
				map { ('-c', q(SELECT pg_logical_emit_message(false, 'storm', repeat('x', 2000)); SELECT pg_switch_wal())) } 1 .. 30);
		},
		effect => sub { my ($c, $host, $s) = @_; return $s->{out} && (-s $s->{out} || !$s->{handle}->pumpable) },
		end => sub { my ($c, $host, $s) = @_; ended($c, $s) } },
	{
		# a server whose clock is set back sleeps that much longer in a base backup with a bounded rate
		name => 'clock stepped', claims => [ 'servers', 'clock', 'backup', 'other backup' ],
		begin => sub {
			my ($c) = @_;
			my $offset = (rand() < 0.5 ? -1 : 1) * (1 + int(rand(600))) * 1_000_000;
			$c->set_clock($offset);
			return { offset => $offset };
		},
		effect => sub {
			my ($c, $host, $s) = @_;
			my $now = $c->ask($c->{primary}, 'SELECT extract(epoch FROM clock_timestamp())') // return 0;
			return abs($now - time() - $s->{offset} / 1_000_000) < 0.9;
		},
		end => sub { my ($c) = @_; $c->set_clock(0) } },
);

# ---- files, and the catalog ----

# A finished segment of a host, an old one.
sub victim
{
	my ($c, $host) = @_;
	my @names = grep { !/history$/ } wal_files($host->{wal});
	return undef if @names < 4;
	return $names[ rand(@names - 2) ];
}

sub verify
{
	my ($c, $host) = @_;
	my $answer;
	# one at a time, and not while the host comes up
	$c->until("archive $host->{name} is verified", sub { defined($answer = $c->ask($host->{node}, q(SELECT file || ' ' || problem FROM walarchive.verify('prod')))) }, sub { $c->{last_error} });
	return $answer;
}

sub file_fault
{
	my ($name, $do) = @_;
	return {
		name => $name, claims => [ 'host', 'disk', 'net', 'files', 'backup', 'restore' ],
		begin => sub {
			my ($c, $host) = @_;
			my $file;
			$c->until('there are a few segments', sub { defined($file = victim($c, $host)) || do { switch_quietly($c); 0 } });
			my $kept = "$c->{dir}/kept_$file";
			system_log('cp', '-p', "$host->{wal}/$file", $kept) == 0 or die "could not keep $file\n";
			$do->("$host->{wal}/$file");
			return { file => $file, kept => $kept };
		},
		effect => sub { my ($c, $host, $s) = @_; return verify($c, $host) =~ /\Q$s->{file}\E/ },
		told => sub { my ($c, $host) = @_; return host_tells($c, $host, 'damage', 'critical') },
		end => sub {
			my ($c, $host, $s) = @_;
			system_log('cp', '-p', $s->{kept}, "$host->{wal}/$s->{file}.tmp") == 0 && rename("$host->{wal}/$s->{file}.tmp", "$host->{wal}/$s->{file}") or die "could not put $s->{file} back\n";
			unlink($s->{kept});
			my $left = verify($c, $host);
			die "verify still finds, after $s->{file} was put back: $left\n" if $left =~ /\Q$s->{file}\E/;
		} };
}

my @files = (
	file_fault('archive file damaged', sub {
		my ($path) = @_;
		open(my $fh, '+<:raw', $path) or die "could not open $path: $!";
		# in a record: the first of a page begins behind the page's header
		seek($fh, 40 + 8192 * int(rand(2)), 0);
		read($fh, my $bytes, 8);
		seek($fh, -8, 1);
		print $fh $bytes ^ ("\x5a" x 8);
		close($fh) or die "could not write $path: $!";
	}),
	file_fault('archive file deleted', sub { my ($path) = @_; unlink($path) or die "could not remove $path: $!" }),
	{
		name => 'catalog dropped and rebuilt', claims => [ 'host', 'disk', 'backup', 'restore' ],
		begin => sub {
			my ($c, $host) = @_;
			my $summary = q(SELECT string_agg(name, ' ' ORDER BY name) FROM walarchive.segment WHERE state = 'finished');
			my $before = $c->sql($host->{node}, $summary);
			$c->until('the extension is dropped', sub { defined $c->ask($host->{node}, 'DROP EXTENSION walarchive CASCADE') }, sub { $c->{last_error} });
			my $gone = !defined $c->ask($host->{node}, 'SELECT 1 FROM walarchive.health');
			usleep(int(rand(1_000_000)));
			$c->until('the extension is back', sub { defined $c->ask($host->{node}, 'CREATE EXTENSION walarchive') }, sub { $c->{last_error} });
			return { before => $before, gone => $gone, summary => $summary };
		},
		effect => sub { my ($c, $host, $s) = @_; return $s->{gone} },
		end => sub {
			my ($c, $host, $s) = @_;
			$c->until('the source is adopted', sub { ($c->ask($host->{node}, q(SELECT count(*) FROM walarchive.source)) // '') eq '1' });
			$c->until('a rescan', sub { defined $c->ask($host->{node}, q(SELECT walarchive.rescan('prod'))) }, sub { $c->{last_error} });
			my %now = map { $_ => 1 } split / /, $c->sql($host->{node}, $s->{summary});
			my @lost = grep { !$now{$_} } split / /, $s->{before};
			die "segments that the rebuilt catalog does not know: @lost\n" if @lost;
		} },
);

# ---- another version ----

# What the host's server has loaded and what its catalog is of.
sub catalog_check
{
	my ($c, $host) = @_;
	return $c->ask($host->{node}, q(SELECT severity || ' ' || message FROM walarchive.health WHERE "check" = 'catalog' AND source IS NULL)) // '';
}

# Files, restart, ALTER EXTENSION: as the README says.  Streaming goes on in between.
my @upgrade = (
	{
		name => 'extension upgraded', claims => [ 'servers', 'host', 'disk', 'net', 'backup', 'restore' ], slow => 60,
		begin => sub {
			my ($c, $host) = @_;
			my $install = $host->{install} or die "the archive hosts have no installations of their own: test/chaos/run --upgrade\n";
			my $version = $install->swap;
			usleep(int(rand(1_000_000)));
			$c->until("archive $host->{name} stops", sub { $host->{node}->stop('fast', fail_ok => 1) });
			$c->start($host->{node});
			$c->until("health of archive $host->{name} tells of two versions", sub { catalog_check($c, $host) =~ /^critical .*version/ }, sub { catalog_check($c, $host) });
			my $lsn = $c->sql($c->{primary}, 'SELECT pg_current_wal_lsn()');
			$c->until("archive $host->{name} streams meanwhile", sub { ($c->stat($host, "state = 'streaming' AND flushed_lsn > '$lsn'") // '') eq 't' });
			usleep(int(rand(1_000_000)));
			$c->sql($host->{node}, 'ALTER EXTENSION walarchive UPDATE');
			return { version => $version };
		},
		effect => sub {
			my ($c, $host, $s) = @_;
			my $now = $c->ask($host->{node}, q(SELECT extversion FROM pg_extension WHERE extname = 'walarchive')) // '';
			return $now eq $s->{version} && catalog_check($c, $host) =~ /^ok/;
		},
		end => sub { } },
);

my %fault = map { $_->{name} => $_ } @upgrade, @processes, @frozen, @network, @disk, @power, @failover, @slots, @beside, @files;

for my $name (keys %fault) { die "$name is not described in ChaosTable.pm" if !defined ChaosTable::done($name); }

sub names { return sort keys %fault; }

sub named { my ($name) = @_; return $fault{$name} // die "there is no fault \"$name\"\n"; }

1;
