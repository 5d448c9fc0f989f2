# What is put under faults: a primary and a hot standby, which change places, and
# two archive hosts, either of which a commit waits for.  Starting, killing,
# promoting and rebuilding them, and waiting until all is quiet.
package ChaosCluster;

use strict;
use warnings;

use ChaosPower;
use ChaosProxy;
use ChaosWriters;
use Cwd qw(abs_path);
use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time usleep);
use WalArchive;
use WalFaults;

my $clock_shim = abs_path(dirname(__FILE__) . '/../../faults') . '/clock_shim.so';
my $patience = 300;
# several in one process get names of their own
my $clusters = 0;

# Options: seed; installs (of each archive host, if they have their own).
sub new
{
	my ($class, %opt) = @_;
	my $self = bless { %opt, dir => PostgreSQL::Test::Utils::tempdir(), timeline => 1, forks => {}, holes => {} }, $class;
	die "$clock_shim is missing: make -C test/faults" if !-e $clock_shim;

	$self->{tag} = $clusters++ ? "_$clusters" : '';
	$self->{clock} = "$self->{dir}/clock";
	append_to_file($self->{clock}, "\0" x 8);
	$self->make_primary;
	$self->make_standby;
	$self->{primary} = $self->{one};
	$self->{standby} = $self->{two};
	$self->{hosts} = { map { $_ => $self->make_host($_) } qw(a b) };
	$self->sql($self->{primary}, 'CREATE EXTENSION amcheck;
		CREATE TABLE written (id bigint PRIMARY KEY, length int, payload text, xid bigint DEFAULT txid_current());
		CREATE INDEX ON written (xid)');
	for my $name (qw(a b))
	{
		my $host = $self->{hosts}{$name};
		$self->sql($host->{node}, "SELECT walarchive.add_source('prod', '" . $self->source_conninfo($host) . "', slot_name => 'archive_$name')");
		$self->until("archive $name streams", sub { ($self->ask($host->{node}, "SELECT state FROM walarchive.stat_receiver") // '') eq 'streaming' });
		# the tests look at what is decoded from the first record on
		($host->{wal}) = glob("$host->{directory}/prod/[0-9]*/wal");
	}
	# set in the file, so that a server has it from its first commit on
	for my $node (@{$self}{qw(one two)})
	{
		$node->append_conf('postgresql.conf', "synchronous_standby_names = 'ANY 1 (archive_a, archive_b)'");
		$self->{conf}{ $node->name } = slurp_file($node->data_dir . '/postgresql.conf');
		$node->reload;
	}
	$self->until('commits wait for an archive',
		sub { ($self->ask($self->{primary}, q(SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum')) // '') eq '2' });
	$self->backup($_) for qw(a b);

	$self->{writers} = ChaosWriters->new(dir => "$self->{dir}/writers", seed => $self->{seed});
	$self->aim;
	$self->{writers}->pause;
	$self->{writers}->start;
	return $self;
}

sub make_primary
{
	my ($self) = @_;
	my $node = $self->{one} = new_primary("one$self->{tag}", start => 0, conf => q(
shared_buffers = 8MB
max_connections = 40
max_wal_senders = 12
wal_keep_size = 64MB
min_wal_size = 2MB
max_wal_size = 64MB
checkpoint_timeout = 30s
autovacuum = on
autovacuum_naptime = 5s
track_commit_timestamp = on
hot_standby = on
wal_sender_timeout = 5s
wal_receiver_timeout = 5s
wal_retrieve_retry_interval = 200ms
restart_after_crash = on
timezone = 'UTC'
log_line_prefix = '%m [%p] %b '
));
	$self->start($node);
	$node->backup('first');
	return;
}

sub make_standby
{
	my ($self) = @_;
	my $node = $self->{two} = PostgreSQL::Test::Cluster->new("two$self->{tag}");
	$node->init_from_backup($self->{one}, 'first', has_streaming => 1);
	# each can follow the other; what stands here wins over what was copied
	$self->{follow} = { one => "primary_conninfo = '" . conninfo($node) . " application_name=standby'\n",
		two => "primary_conninfo = '" . conninfo($self->{one}) . " application_name=standby'\n" };
	$node->append_conf('postgresql.conf', $self->{follow}{two});
	$self->{one}->append_conf('postgresql.conf', $self->{follow}{one});
	$self->start($node);
	return;
}

sub make_host
{
	my ($self, $name) = @_;
	my $directory = "$self->{dir}/archive_$name";
	my $install = $self->{installs}{$name};
	my $node = PostgreSQL::Test::Cluster->new("archive_$name$self->{tag}", $install ? (install_path => $install->{path}) : ());

	mkdir($directory, 0700) or die "could not make $directory: $!";
	$node->init;
	$node->append_conf('postgresql.conf', qq(
shared_preload_libraries = 'walarchive'
walarchive.directory = '$directory'
walarchive.max_sources = 2
walarchive.min_free_space = 0
walarchive.receive_timeout = 4s
walarchive.status_interval = 1s
max_worker_processes = 10
max_connections = 20
shared_buffers = 16MB
restart_after_crash = on
fsync = on
timezone = 'UTC'
));
	my $host = { name => $name, node => $node, install => $install, directory => $directory, power => "$self->{dir}/power_" . $node->name };
	$host->{proxy} = ChaosProxy->new(dir => "$self->{dir}/net_$name",
		servers => [ map { $_->host . '/.s.PGSQL.' . $_->port } @{$self}{qw(one two)} ]);
	$self->start($node);
	$self->sql($node, 'CREATE EXTENSION walarchive');
	return $host;
}

sub source_conninfo
{
	my ($self, $host) = @_;
	my $user = getpwuid($<);
	return 'host=127.0.0.1,127.0.0.1 port=' . join(',', @{ $host->{proxy}{ports} })
	  . " user=$user sslmode=disable gssencmode=disable connect_timeout=3 target_session_attrs=read-write";
}

# ---- asking ----

# One value, undef if the server does not answer.
sub ask
{
	my ($self, $node, $sql) = @_;
	local $ENV{PGCONNECT_TIMEOUT} = 5;
	local $ENV{PGOPTIONS} = '-c statement_timeout=30s';
	my ($out, $err) = ('', '');
	my $limit = IPC::Run::timeout(60);
	my $ok = eval { IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-c', $sql ],
			'<', '/dev/null', '>', \$out, '2>', \$err, $limit) };
	$self->{last_error} = $err;
	return undef if !$ok;
	chomp $out;
	return $out;
}

# The same of a server that has to answer.
sub sql
{
	my ($self, $node, $sql) = @_;
	my $answer = $self->ask($node, $sql);
	die $node->name . ": $sql: $self->{last_error}" if !defined $answer;
	return $answer;
}

# Wait for a condition, or die.  The last things may say what is wrong, and that it
# takes so many seconds longer.
sub until
{
	my ($self, $what, $condition, $why, $longer) = @_;
	my $seconds = $patience + ($longer // 0);
	my $limit = time() + $seconds;
	until ($condition->())
	{
		die "waited $seconds s in vain: $what" . ($why ? ': ' . $why->() : '') . "\n" if time() > $limit;
		usleep(50_000);
	}
	return 1;
}

# What a host says of its only source.
sub stat
{
	my ($self, $host, $column) = @_;
	return $self->ask($host->{node}, "SELECT $column FROM walarchive.stat_receiver WHERE source = 'prod'");
}

# What a host's health says that is not fine: "check severity: message" by line.
sub complaints
{
	my ($self, $host) = @_;
	return $self->ask($host->{node}, q(SELECT "check" || ' ' || severity || ': ' || message FROM walarchive.health WHERE severity <> 'ok' ORDER BY 1));
}

# ---- processes ----

sub start
{
	my ($self, $node) = @_;
	my $is_host = $node->name =~ /^archive/;
	$self->set_clock(0) if !$is_host;
	# as long as a child of a killed one is there, it can't be
	$self->until($node->name . ' starts', sub {
		$node->{_pid} = undef;
		if ($is_host)
		{
			local $ENV{WA_POWER_LOG} = "$self->{dir}/power_" . $node->name;
			return start_with_faults($node, fail_ok => 1, preload => ChaosPower::shim());
		}
		local $ENV{LD_PRELOAD} = $clock_shim;
		local $ENV{WA_CLOCK_FILE} = $self->{clock};
		return $node->start(fail_ok => 1);
	}, sub { slurp_tail($node->logfile) });
	return;
}

# The archive hosts, which have installations of their own, get this library, which
# confirms WAL before it is synced.
sub confirm_early
{
	my ($self, $library) = @_;
	for my $host (values %{ $self->{hosts} })
	{
		$host->{install}->put('pkglibdir', 'walarchive.so', $library);
		$self->until("archive $host->{name} stops", sub { $host->{node}->stop('fast', fail_ok => 1) });
		$self->start($host->{node});
		$self->until("archive $host->{name} streams", sub { ($self->stat($host, 'state') // '') eq 'streaming' });
	}
	$self->{confirms_early} = 1;
	return;
}

sub slurp_tail
{
	my ($path) = @_;
	my @lines = split /\n/, slurp_file($path);
	return join("\n", @lines > 15 ? @lines[ -15 .. -1 ] : @lines);
}

# SIGKILL to a postmaster; returns when it and its children are gone.
sub kill_server
{
	my ($self, $node) = @_;
	my $pid = postmaster_pid($node);
	my @children = children($pid);
	$node->kill9;
	$self->until($node->name . ' is dead', sub { !grep { !process_gone($_) } $pid, @children });
	return $pid;
}

sub children
{
	my ($pid) = @_;
	return map { /^\s*(\d+)\s+$pid\s*$/ ? $1 : () } split /\n/, `ps -A -o pid= -o ppid=`;
}

sub set_clock
{
	my ($self, $offset) = @_;
	open(my $fh, '+<:raw', $self->{clock}) or die "could not open $self->{clock}: $!";
	print $fh pack('q', $offset);
	close($fh) or die "could not write $self->{clock}: $!";
	return;
}

# The pid of a walarchive process of a host, undef if there is none.
sub worker
{
	my ($self, $host, $kind) = @_;
	my ($pid) = worker_pids($host->{node}, "walarchive $kind");
	return $pid;
}

# ---- changing places ----

sub aim
{
	my ($self) = @_;
	$self->{writers}->aim($self->{primary}->host, $self->{primary}->port);
	return;
}

# Promote the standby, and have the writers go there.  The former primary is down, or
# believes that it still is one.
sub promote
{
	my ($self) = @_;
	my ($old, $new) = @{$self}{qw(primary standby)};
	my $parent = $self->{timeline};
	$self->sql($new, 'SELECT pg_promote(true, 120)') eq 't' or die "promotion of " . $new->name . " fails\n";
	$self->until('the promoted server takes writes', sub { ($self->ask($new, 'SELECT pg_is_in_recovery()') // 't') eq 'f' });
	$self->{timeline} = hex(substr($self->sql($new, 'SELECT pg_walfile_name(pg_current_wal_insert_lsn())'), 0, 8));
	my $history = slurp_file($new->data_dir . sprintf('/pg_wal/%08X.history', $self->{timeline}));
	my ($fork) = $history =~ /^$parent\t(\S+)/m or die "no fork of timeline $parent in: $history";
	$self->{forks}{$parent} = { lsn => number($fork), child => $self->{timeline} };
	@{$self}{qw(primary standby)} = ($new, $old);
	$self->aim;
	return;
}

# A position as a number.
sub number
{
	my ($high, $low) = $_[0] =~ m{^([0-9A-F]+)/([0-9A-F]+)$}i or die "no position: $_[0]";
	return hex($high) * 4294967296 + hex($low);
}

# Make the standby from the primary as it is now.
sub rebuild
{
	my ($self) = @_;
	my $node = $self->{standby};
	my $data = $node->data_dir;

	$self->kill_server($node) if $node->{_pid};
	$self->until('a base backup for the standby', sub {
		system_log('rm', '-rf', $data);
		!system_log('pg_basebackup', '-D', $data, '-c', 'fast', '-h', $self->{primary}->host, '-p', $self->{primary}->port, '--no-sync') });
	open(my $fh, '>', "$data/postgresql.conf") or die "could not write: $!";
	print $fh $self->{conf}{ $node->name };
	close($fh);
	append_to_file("$data/standby.signal", '');
	$self->start($node);
	$self->{rebuilt}++;
	return;
}

# ---- backups, and quiet ----

sub backup
{
	my ($self, $name, $args) = @_;
	my $node = $self->{hosts}{$name}{node};
	$self->{backups}++;
	local $ENV{PGOPTIONS} = '-c client_min_messages=warning';
	return $node->psql('postgres', q(SELECT walarchive.take_backup('prod', checkpoint => 'fast') ) . ($args // ''), timeout => $patience);
}

# Everything runs, all WAL is archived, decoded and replayed, and nobody complains.
# Returns what the wait was about.
sub quiet
{
	my ($self) = @_;
	my $since = time();
	my $why = '';
	my $lsn = $self->until_answer($self->{primary}, 'SELECT pg_current_wal_flush_lsn()');
	my %tried;
	$self->until('all is quiet', sub {
		$why = '';
		for my $name (qw(a b))
		{
			my $host = $self->{hosts}{$name};
			my $answer = $self->stat($host, "concat_ws('|', state = 'streaming' AND received_tli = $self->{timeline} AND flushed_lsn >= '$lsn'
				AND (decoded_lsn >= '$lsn' OR decode_lag_bytes = 0), state, received_tli, flushed_lsn, decoded_lsn, cause, last_error)");
			if (!defined $answer || $answer !~ /^t/)
			{
				$why = "archive $name, up to $lsn on $self->{timeline}: " . ($answer // "no answer: $self->{last_error}");
				return 0;
			}
			my $complaints = $self->complaints($host);
			next if defined $complaints && $complaints eq '';
			$why = "archive $name complains: " . ($complaints // $self->{last_error});
			# a backup that failed, or WAL that is missing behind the last one, is mended by another
			if (($complaints // '') =~ /^(backup|gap) /m && time() - $since > 2 && ($tried{$name} // 0) < time() - 10)
			{
				$tried{$name} = time();
				$self->backup($name);
			}
			return 0;
		}
		my $standby = $self->ask($self->{standby}, "SELECT pg_last_wal_replay_lsn() >= '$lsn' AND EXISTS (SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming')");
		return 1 if defined $standby && $standby eq 't';
		$why = 'the standby: ' . ($standby // "no answer: $self->{last_error}");
		if (time() - $since > 5 && !$tried{standby} && slurp_tail($self->{standby}->logfile) =~ /has already been removed|forked off|not in this server's history|unexpected timeline/)
		{
			$tried{standby} = 1;
			$self->rebuild;
		}
		return 0;
	}, sub { $why });
	return;
}

sub until_answer
{
	my ($self, $node, $sql) = @_;
	my $answer;
	$self->until($node->name . ' answers', sub { defined($answer = $self->ask($node, $sql)) }, sub { $self->{last_error} });
	return $answer;
}

sub stop
{
	my ($self) = @_;
	$self->{writers}->stop if $self->{writers};
	$_->{proxy}->stop for values %{ $self->{hosts} // {} };
	return;
}

1;
