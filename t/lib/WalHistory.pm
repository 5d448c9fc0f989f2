# Makes the random past of a server: transactions of every kind in concurrent
# sessions, a clock that is set forth and back, restore points, base backups,
# crashes, promotions, servers that were restored to some moment and went on from
# there on a timeline of their own, changed settings, and WAL that was lost.  All
# of it is archived by an archive host.  Every row of the table "log" is the
# transaction that wrote it, and every transaction with a number writes one.
package WalHistory;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;

my $shim = abs_path(dirname(__FILE__) . '/../../test/faults') . '/clock_shim.so';

# A new server and its archive, with one backup.  The name is that of the
# server and of the source.
sub new
{
	my ($class, $host, $name) = @_;
	my $self = bless {
		host => $host, name => $name, backups => {}, points => [], serial => 0, told => [], cache => {},
		work => PostgreSQL::Test::Utils::tempdir() }, $class;

	die "$shim is missing: make -C test/faults" if !-e $shim;
	$self->{clock} = "$self->{work}/clock";
	$self->set_clock(0);
	my $node = $self->{node} = new_primary($name, start => 0, conf => q(
fsync = off
autovacuum = off
checkpoint_timeout = 1h
wal_keep_size = 200MB
min_wal_size = 2MB
max_wal_size = 8MB
wal_sender_timeout = 0
max_prepared_transactions = 20
track_commit_timestamp = on
shared_buffers = 4MB
max_connections = 20
));
	$self->start;
	$self->{major} = int($node->safe_psql('postgres', 'SHOW server_version_num') / 10000);
	if ($self->{major} >= 17)
	{
		$node->safe_psql('postgres', 'ALTER SYSTEM SET summarize_wal = on');
		$node->reload;
	}
	$node->safe_psql('postgres', 'CREATE TABLE log (xid bigint); CREATE TABLE junk (i int, t text)');
	add_source($host, $name, $node);
	$self->{setup_lsn} = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
	return $self;
}

sub host_value
{
	my ($self, $sql) = @_;
	return $self->{host}->safe_psql('postgres', $sql);
}

sub tell
{
	my ($self, $what) = @_;
	push @{ $self->{told} }, $what;
	note("$self->{name}: $what");
	return;
}

# The server's clock is off by so many microseconds.
sub set_clock
{
	my ($self, $offset) = @_;
	if (!-e $self->{clock})
	{
		append_to_file($self->{clock}, "\0" x 8);
	}
	open(my $fh, '+<:raw', $self->{clock}) or die "could not open $self->{clock}: $!";
	print $fh pack('q', $offset);
	close($fh) or die "could not write $self->{clock}: $!";
	$self->{offset} = $offset;
	return;
}

# pg_ctl compares the time of the start with its own
sub start
{
	my ($self) = @_;
	$self->set_clock(0);
	local $ENV{LD_PRELOAD} = join(':', grep { $_ } $ENV{LD_PRELOAD}, $shim);
	local $ENV{WA_CLOCK_FILE} = $self->{clock};
	$self->{node}->start;
	return;
}

# A restore_command over the bare archive directory: finished segments, partial
# ones and histories.
sub restore_command
{
	my ($self) = @_;
	my $wal = wal_dir($self->{host}, $self->{name});
	return qq(cp "$wal/%f" "%p" 2>/dev/null || cp "$wal/%f.partial" "%p" 2>/dev/null);
}

sub archived
{
	my ($self) = @_;
	wait_streaming($self->{host}, $self->{name});
	wait_archived($self->{host}, $self->{name}, $self->{node});
	return;
}

# Until the catalog has all that there is.
sub indexed
{
	my ($self) = @_;
	my $name = $self->{name};
	wait_for("the index of $name", sub { $self->host_value(qq(
			SELECT NOT p.runs_stale AND NOT p.windows_stale
				-- the last record may be there in part
				AND (r.decoded_lsn >= r.flushed_lsn
					 OR EXISTS (SELECT 1 FROM walarchive.decode_progress d
								WHERE d.source = p.source AND d.system_identifier = r.system_identifier
									AND d.timeline = r.received_tli AND r.flushed_lsn < d.need_lsn))
				AND NOT EXISTS (SELECT 1 FROM walarchive.segment s
								WHERE s.source = '$name' AND s.state = 'finished' AND s.decode_state = 'pending')
			FROM walarchive.index_progress p JOIN walarchive.stat_receiver r USING (source)
			WHERE p.source = '$name')) eq 't' })
	  or BAIL_OUT("$name is not indexed: " . $self->host_value(qq(
			SELECT r.state, r.cause, r.flushed_lsn, r.decoded_lsn, r.last_error, p.runs_stale, p.windows_stale
			FROM walarchive.index_progress p JOIN walarchive.stat_receiver r USING (source) WHERE p.source = '$name')));
	return;
}

# ---- what happens in it ----

# Statements of one session.
sub script
{
	my ($self, $statements) = @_;
	my $sql = '';
	my @open;
	my $log = 'INSERT INTO log SELECT pg_current_xact_id()::text::bigint;';

	for (1 .. $statements)
	{
		my $n = ++$self->{serial};
		my $what = int(rand(100));
		if ($what < 40) { $sql .= "$log\n"; }
		elsif ($what < 48) { $sql .= "BEGIN; $log INSERT INTO junk VALUES ($n, repeat('r', 50)); ROLLBACK;\n"; }
		elsif ($what < 56)
		{
			my $end = rand() < 0.2 ? 'ROLLBACK' : 'COMMIT';
			$sql .= "BEGIN; $log SAVEPOINT a; INSERT INTO junk VALUES ($n, 'a'); "
			  . (rand() < 0.5 ? 'ROLLBACK TO a; ' : '')
			  . "SAVEPOINT b; INSERT INTO junk VALUES ($n, 'b'); RELEASE b; $end;\n";
		}
		elsif ($what < 64)
		{
			$sql .= "BEGIN; $log PREPARE TRANSACTION 'g$n';\n";
			push @open, "g$n";
		}
		elsif ($what < 72)
		{
			my $gid = shift @open // shift @{ $self->{left_open} } // next;
			$sql .= (rand() < 0.7 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$gid';\n";
		}
		elsif ($what < 76)
		{
			# some names are given twice
			my $point = 'p' . (rand() < 0.3 ? $n % 3 : $n);
			$sql .= "SELECT pg_create_restore_point('$point');\n";
			push @{ $self->{points} }, $point;
		}
		elsif ($what < 80) { $sql .= "BEGIN; $log SELECT pg_sleep(0.02); COMMIT;\n"; }
		elsif ($what < 83) { $sql .= "BEGIN; $log CREATE TABLE t$n (i int); COMMIT;\n"; }
		elsif ($what < 85) { $sql .= "BEGIN; $log DROP TABLE IF EXISTS t" . int(rand($n)) . "; COMMIT;\n"; }
		elsif ($what < 95) { $sql .= "SELECT pg_logical_emit_message(false, 'x', repeat('m', " . int(rand(60000)) . "));\n"; }
		elsif ($what < 98) { $sql .= "SELECT pg_switch_wal();\n"; }
		elsif ($what < 99) { $sql .= "CHECKPOINT;\n"; }
		else { $sql .= "BEGIN; $log TRUNCATE junk; COMMIT;\n"; }
	}
	push @{ $self->{left_open} }, @open;
	return $sql;
}

# Two sessions at the same time.
sub work
{
	my ($self) = @_;
	my @sessions;
	for (1 .. 2)
	{
		my $sql = $self->script(10 + int(rand(30)));
		# what fails, fails: a prepared transaction may not be there on this timeline
		push @sessions, start_sql($self->{node}, "\\set ON_ERROR_STOP off\n$sql");
	}
	sql_result($_) for @sessions;
	$self->tell('work');
	return;
}

sub clock
{
	my ($self) = @_;
	my $offset = int(rand(6_000_000)) - 3_000_000;
	$self->set_clock($offset);
	$self->tell("the clock is off by $offset us");
	return;
}

sub backup
{
	my ($self, %opt) = @_;
	my $label = 'b' . (1 + keys %{ $self->{backups} });
	my $args = '';

	$self->archived;
	if ($self->{major} >= 17 && keys %{ $self->{backups} } && rand() < 0.5 && !$opt{full})
	{
		$args = ", kind => 'incremental'";
	}
	# meanwhile work is done
	my $busy = start_sql($self->{node}, "\\set ON_ERROR_STOP off\n" . $self->script(40));
	my ($code, $out, $err) = $self->{host}->psql('postgres', "SELECT walarchive.take_backup('$self->{name}', label => '$label'$args)");
	if ($code != 0 && $args)
	{
		# not every history has a parent for one
		$args = '';
		($code, $out, $err) = $self->{host}->psql('postgres', "SELECT walarchive.take_backup('$self->{name}', label => '$label')");
	}
	sql_result($busy);
	BAIL_OUT("no backup of $self->{name}: $err") if $code != 0;
	wait_for("backup $label", sub {
		$self->host_value("SELECT state FROM walarchive.backup WHERE source = '$self->{name}' AND label = '$label'") eq 'usable' })
	  or BAIL_OUT("backup $label of $self->{name} is not usable: "
		  . $self->host_value("SELECT concat_ws(' ', state, reason) FROM walarchive.backup WHERE source = '$self->{name}' AND label = '$label'"));
	$self->{backups}{$label} = 1;
	$self->tell("backup $label$args");
	return $label;
}

sub crash
{
	my ($self) = @_;
	$self->{node}->stop('immediate');
	$self->start;
	$self->tell('a crash');
	return;
}

# Settings that a hot standby must not have smaller.
sub settings
{
	my ($self) = @_;
	my $node = $self->{node};
	my $connections = 15 + int(rand(30));
	$node->safe_psql('postgres', "ALTER SYSTEM SET max_connections = $connections");
	$node->safe_psql('postgres', 'ALTER SYSTEM SET max_worker_processes = ' . (8 + int(rand(10))));
	$node->stop('fast');
	$self->start;
	$self->tell("max_connections = $connections");
	return;
}

sub go_on_alone
{
	my ($self, $what) = @_;
	$self->start;
	my $node = $self->{node};
	wait_for('the end of recovery', sub { $node->safe_psql('postgres', 'SELECT pg_is_in_recovery()') eq 'f' })
	  or BAIL_OUT("$self->{name}: recovery does not end: $what");
	# not by pg_control, which hears of it at the next checkpoint
	my $timeline = hex(substr($node->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_lsn())'), 0, 8));
	wait_timeline($self->{host}, $self->{name}, $timeline);
	$self->archived;
	$self->tell("$what: timeline $timeline");
	return;
}

# The same server on a new timeline.
sub promotion
{
	my ($self) = @_;
	my $node = $self->{node};
	$self->archived;
	$node->stop(rand() < 0.5 ? 'immediate' : 'fast');
	# its own WAL may go a little further than the archive, by what was never flushed
	my $wal = wal_dir($self->{host}, $self->{name});
	$self->auto_conf($node->data_dir, "recovery_target_timeline = 'current'",
		qq{restore_command = 'case %f in *.history) cp "$wal/%f" "%p" ;; *) false ;; esac'});
	append_to_file($node->data_dir . '/recovery.signal', '');
	$self->go_on_alone('promoted');
	return;
}

# A copy, recovered to somewhere in the past, goes on in the place of the server.
sub restored
{
	my ($self) = @_;
	my $node = $self->{node};
	my $name = $self->{name};
	$self->archived;
	$self->indexed;
	# along the last timeline that has it
	my @choice = split /\n/, $self->host_value(qq(
		SELECT w.backup, c.timeline, c.start_lsn, max(w.timeline)
		FROM walarchive.recovery_window w CROSS JOIN LATERAL walarchive.commits('$name', timeline => w.timeline, from_lsn => w.first_lsn, to_lsn => w.last_lsn) c
		WHERE w.source = '$name' AND c.kind = 'commit'
		GROUP BY w.backup, c.timeline, c.start_lsn
		ORDER BY c.timeline, c.start_lsn, w.backup));
	return $self->promotion if !@choice;
	my ($label, $own, $lsn, $along) = split /\|/, $choice[ rand(@choice) ];
	# PostgreSQL writes no sound history where a recovery along another timeline than the commit's own is promoted
	my $timeline = $self->host_value(qq(SELECT timeline FROM walarchive.plan_restore('$name', target_lsn => '$lsn', target_timeline => $along, backup => '$label')));
	BAIL_OUT("$name: a restore of $label to $lsn on timeline $own, along timeline $along, is planned along timeline $timeline") if $timeline ne $own;
	my $data = $self->unpacked($label);

	$node->stop('immediate');
	system_or_bail('rm', '-rf', $node->data_dir);
	system_or_bail('cp', '-a', $data, $node->data_dir);
	$self->auto_conf($node->data_dir, $self->hot_standby_settings, "recovery_target_timeline = $timeline", "recovery_target_lsn = '$lsn'",
		"recovery_target_action = 'promote'", 'restore_command = \'' . $self->restore_command . '\'');
	append_to_file($node->data_dir . '/recovery.signal', '');
	$self->lay_forks($node->data_dir, $timeline);
	$self->go_on_alone("restored from $label to $lsn on timeline $timeline");
	return;
}

# The last timeline of it that is archived has a hole.
sub gap
{
	my ($self) = @_;
	my $name = $self->{name};
	my $node = $self->{node};
	if (rand() < 0.5)
	{
		# the server has removed WAL
		$self->archived;
		$self->host_value("SELECT walarchive.pause_source('$name')");
		wait_state($self->{host}, $name, 'paused');
		wait_for('the slot to be let go', sub { $node->safe_psql('postgres', 'SELECT count(*) FROM pg_replication_slots WHERE active') eq '0' });
		$node->safe_psql('postgres', 'SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots');
		$node->safe_psql('postgres', 'ALTER SYSTEM SET wal_keep_size = 0');
		$node->reload;
		wait_setting($node, 'wal_keep_size', '0');
		$self->work;
		for (1 .. 2)
		{
			$node->safe_psql('postgres', join(';', ("SELECT pg_logical_emit_message(false, 'x', 'y'); SELECT pg_switch_wal()") x 12));
			$node->safe_psql('postgres', 'CHECKPOINT');
		}
		$node->safe_psql('postgres', 'ALTER SYSTEM RESET wal_keep_size');
		$node->reload;
		$self->host_value("SELECT walarchive.resume_source('$name')");
		wait_streaming($self->{host}, $name);
		wait_event($self->{host}, $name, 'gap');
		$self->{holes} = 1;
		$self->tell('a gap');
	}
	else
	{
		# somebody has removed a file
		$self->archived;
		$self->indexed;
		my $dir = wal_dir($self->{host}, $name);
		my @files = grep { /^[0-9A-F]{24}$/ } wal_files($dir);
		pop @files;
		return if !@files;
		my $file = $files[ rand(@files) ];
		unlink("$dir/$file") or die "could not remove $file: $!";
		$self->host_value("SELECT walarchive.rescan('$name')");
		wait_for('the hole to be known', sub { $self->host_value("SELECT count(*) FROM walarchive.segment WHERE source = '$name' AND name = '$file'") eq '0' });
		$self->{holes} = 1;
		$self->tell("$file was removed");
	}
	return;
}

# A byte of a record is wrong, and verify() has found it.
sub damage
{
	my ($self) = @_;
	my $name = $self->{name};
	my $dir = wal_dir($self->{host}, $name);
	my @commits = split /\n/, $self->host_value(qq(
		SELECT s.name, c.start_lsn - s.start_lsn
		FROM walarchive.commits('$name') c JOIN walarchive.segment s ON s.source = '$name' AND s.timeline = c.timeline
			AND s.state = 'finished' AND c.start_lsn > s.start_lsn + 64 AND c.end_lsn + 64 < s.end_lsn AND c.start_lsn < s.end_lsn
			AND s.system_identifier = (SELECT system_identifier FROM walarchive.source WHERE name = '$name')
		ORDER BY c.start_lsn));
	return 0 if !@commits;
	my ($file, $offset) = split /\|/, $commits[ rand(@commits) ];
	my $bytes = read_file_bytes("$dir/$file");
	# in the record's checksummed header
	substr($bytes, $offset + 17, 1) ^= "\x01";
	chmod(0600, "$dir/$file");
	open(my $fh, '>:raw', "$dir/$file") or die "could not open $dir/$file: $!";
	print $fh $bytes;
	close($fh) or die "could not write $dir/$file: $!";
	$self->{host}->psql('postgres', "SELECT * FROM walarchive.verify('$name')");
	wait_for('the damage to be known', sub { $self->host_value("SELECT count(*) > 0 FROM walarchive.damage WHERE source = '$name'") eq 't' })
	  or BAIL_OUT("the damage in $file at $offset is not known");
	$self->{holes} = 1;
	$self->tell("$file is damaged at $offset");
	return 1;
}

# A whole past: two backups at least, and 'events' things besides.
sub make
{
	my ($self, $events) = @_;
	my @rest = ('promotion', 'restored', 'restored', 'crash', 'settings', 'gap', 'backup');
	my @plan = ('promotion', 'restored');
	push @plan, $rest[ rand(@rest) ] while @plan < $events;
	@plan = map { $_->[1] } sort { $a->[0] <=> $b->[0] } map { [ rand(), $_ ] } @plan;
	splice(@plan, 1 + int(rand(@plan)), 0, 'backup');

	$self->work;
	$self->backup(full => 1);
	for my $what (@plan)
	{
		$self->clock if rand() < 0.6;
		$self->work;
		$self->$what;
		$self->work if rand() < 0.7;
	}
	$self->clock if rand() < 0.6;
	$self->work;
	$self->archived;
	# how it ends: it runs on, or not
	my $end = int(rand(3));
	if ($end > 0)
	{
		$self->{node}->stop($end == 1 ? 'fast' : 'immediate');
		wait_for('the end to be seen', sub { stat_of($self->{host}, $self->{name}, 'state') ne 'streaming' });
		$self->tell('stopped, ' . ($end == 1 ? 'fast' : 'immediate'));
	}
	$self->indexed;
	return;
}

# ---- the server's files ----

# Targets that a server had when it was restored itself are still there.
sub auto_conf
{
	my ($self, $data, @lines) = @_;
	system_or_bail('sed', '-i', '/^recovery_target/d', "$data/postgresql.auto.conf");
	append_to_file("$data/postgresql.auto.conf", join("\n", '', @lines, ''));
	return;
}

# As large as any history makes them.
sub hot_standby_settings
{
	return ('max_connections = 60', 'max_worker_processes = 30', 'max_prepared_transactions = 20', 'max_wal_senders = 20',
		'max_locks_per_transaction = 64');
}

# The parent's copy of each segment in which a timeline on the way begins, up to
# there.  Recovery reads the child's; but for a transaction that was prepared in
# it, before the fork, and is still open then, a hot standby looks into the
# parent's, in pg_wal alone, and fails if it is not there.
sub lay_forks
{
	my ($self, $data, $timeline) = @_;
	my $wal = wal_dir($self->{host}, $self->{name});
	my $size = 1024 * 1024;
	my $history = sprintf('%s/%08X.history', $wal, $timeline);
	return if !-e $history;
	my $text = read_file_bytes($history);
	while ($text =~ /^(\d+)\t([0-9A-F]+)\/([0-9A-F]+)/mg)
	{
		my ($parent, $high, $low) = ($1, hex($2), hex($3));
		my $name = sprintf('%08X%08X%08X', $parent, $high, int($low / $size));
		my ($file) = grep { -e } "$wal/$name", "$wal/$name.partial";
		next if !defined $file || $low % $size == 0;
		my $bytes = substr(read_file_bytes($file), 0, $low % $size);
		append_to_file("$data/pg_wal/$name", $bytes . "\0" x ($size - length($bytes)));
		chmod(0600, "$data/pg_wal/$name");
	}
	return;
}

# The data directory in a backup, unpacked once, by tar alone.
sub unpacked
{
	my ($self, $label) = @_;
	my $host = $self->{host};
	return $self->{cache}{$label} if $self->{cache}{$label};

	my ($folder) = glob(archive_dir($host, $self->{name}) . "/[0-9]*/backup/$label");
	my $dir = "$self->{work}/$label";
	my ($parent) = $self->host_value("SELECT coalesce(parent, '') FROM walarchive.backup WHERE source = '$self->{name}' AND label = '$label'");
	my $to = $parent eq '' ? $dir : "$dir.increment";
	mkdir($to, 0700) or die "could not make $to: $!";
	system_or_bail('tar', '-xf', "$folder/base.tar", '-C', $to);
	system_or_bail('cp', "$folder/backup_manifest", "$to/backup_manifest");
	if ($parent ne '')
	{
		my @chain = ($to);
		for (my $link = $parent; $link ne '';)
		{
			$self->unpacked($link);
			my $own = "$self->{work}/$link.increment";
			unshift @chain, -d $own ? $own : $self->{cache}{$link};
			$link = $self->host_value("SELECT coalesce(parent, '') FROM walarchive.backup WHERE source = '$self->{name}' AND label = '$link'");
		}
		system_or_bail('pg_combinebackup', '-o', $dir, @chain);
	}
	chmod(0700, $dir);
	unlink("$dir/standby.signal", "$dir/recovery.signal");
	$self->{cache}{$label} = $dir;
	return $dir;
}

# The server goes, and with it what was unpacked.
sub forget
{
	my ($self) = @_;
	$self->{node}->stop('immediate', fail_ok => 1);
	system('rm', '-rf', $self->{work}, $self->{node}->data_dir);
	return;
}

1;
