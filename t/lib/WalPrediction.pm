# Draws targets on a history, asks plan_restore() where each ends, has PostgreSQL
# recover to it for real, and compares.  See WalHistory for what is recovered.
package WalPrediction;

use strict;
use warnings;

use IPC::Run;
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use WalArchive;

# How recovery has to fail where a plan says no.
my %fatal = (
	before_consistency => qr/requested recovery stop point is before consistent recovery point|recovery ended before configured recovery target|is not a child of this server's history|WAL ends before|before end of online backup|could not locate (a valid|required) checkpoint record|consistent recovery point/,
	unknown_timeline => qr/recovery target timeline \d+ does not exist/,
	backup_not_on_path => qr/is not a child of this server's history|does not contain minimum recovery point|could not locate required checkpoint record/);
my $ended = qr/recovery ended before configured recovery target was reached|WAL ends before (end of online backup|consistent recovery point)|could not locate (a valid|required) checkpoint record|is not a child of this server's history|requested recovery stop point is before consistent recovery point/;

# Options: fetch => a list of restore_commands with @plan@ in them, for some of
# the plans that are feasible; the others copy files from the archive.
sub new
{
	my ($class, $history, %opt) = @_;
	my $self = bless {
		history => $history, port => PostgreSQL::Test::Cluster::get_free_port(), socket => PostgreSQL::Test::Utils::tempdir_short(),
		work => PostgreSQL::Test::Utils::tempdir(), wrong => [], counts => {}, runs => 0, %opt }, $class;
	$self->know;
	return $self;
}

sub value
{
	my ($self, $sql) = @_;
	return $self->{history}->host_value($sql);
}

sub any_of
{
	my (@choice) = @_;
	return $choice[ rand(@choice) ];
}

# What there is to aim at.
sub know
{
	my ($self) = @_;
	my $history = $self->{history};
	my $name = $history->{name};
	my $list = sub { return [ split /\n/, $self->value($_[0]) ] };

	# warnings of holes are not wanted here
	my $quiet = 'SET client_min_messages = error;';
	$self->{timelines} = $list->("SELECT timeline FROM walarchive.timeline WHERE source = '$name' ORDER BY 1");
	$self->{newest} = $self->value("SELECT max(timeline) FROM walarchive.timeline WHERE source = '$name'");
	$self->{backups} = $list->("SELECT label FROM walarchive.backup WHERE source = '$name' AND state <> 'failed' ORDER BY start_lsn, label");
	$self->{commits} = [];
	$self->{records} = [];
	for my $timeline (@{ $self->{timelines} })
	{
		push @{ $self->{commits} }, map { [ split /\|/ ] } @{ $list->("$quiet SELECT start_lsn, end_lsn, xid, xact_time FROM walarchive.commits('$name', timeline => $timeline) ORDER BY start_lsn") };
		push @{ $self->{records} }, map { [ split /\|/ ] } @{ $list->("$quiet SELECT start_lsn, end_lsn FROM walarchive.wal_records('$name', timeline => $timeline)
			WHERE record_type IN ('SWITCH', 'CHECKPOINT_SHUTDOWN', 'CHECKPOINT_ONLINE', 'END_OF_RECOVERY', 'RESTORE_POINT', 'BACKUP_END', 'PREPARE', 'RUNNING_XACTS', 'PARAMETER_CHANGE', 'OVERWRITE_CONTRECORD') ORDER BY start_lsn") };
	}
	$self->{places} = $list->(qq(
		SELECT fork_lsn FROM walarchive.timeline WHERE source = '$name' AND fork_lsn IS NOT NULL
		UNION SELECT unnest(ARRAY[start_lsn, stop_lsn, consistent_lsn]) FROM walarchive.backup WHERE source = '$name' AND start_lsn IS NOT NULL
		UNION SELECT unnest(ARRAY[from_lsn, to_lsn]) FROM walarchive.wal_run WHERE source = '$name'
		UNION SELECT unnest(ARRAY[start_lsn, end_lsn]) FROM walarchive.segment WHERE source = '$name'
		ORDER BY 1));
	my @xids = sort { $a <=> $b } map { $_->[2] } @{ $self->{commits} };
	@{$self}{qw(first_xid last_xid)} = @xids[0, -1];
	return;
}

# A target: the arguments of plan_restore, and the settings of PostgreSQL that
# say the same.
sub draw
{
	my ($self) = @_;
	my (@args, @settings, %target);
	my $what = rand();
	my $commit = any_of(@{ $self->{commits} });
	my $inclusive = rand() < 0.5 ? 'true' : 'false';

	if ($what < 0.35)
	{
		my $off = any_of(0, 0, 0, 1, -1, int(rand(2_000_000)) - 1_000_000);
		$off = -3_600_000_000 if rand() < 0.03;
		$off = 3_600_000_000 if rand() < 0.03;
		my $time = $self->value("SELECT (timestamptz '$commit->[3]' + interval '$off microseconds') AT TIME ZONE 'UTC'") . '+00';
		push @args, "target_time => '$time'";
		push @settings, "recovery_target_time = '$time'";
		@target{qw(kind time)} = ('time', $time);
	}
	elsif ($what < 0.6)
	{
		my $record = any_of($commit, any_of(@{ $self->{records} }) // $commit);
		my $lsn = rand() < 0.7 ? any_of(@$record[0, 1]) : any_of(@{ $self->{places} });
		my $off = any_of(0, 0, 0, 8, -8, 1, -1, int(rand(20_000)) - 10_000);
		$lsn = $self->value("SELECT greatest(pg_lsn '$lsn' - '0/0' + $off, 1) + pg_lsn '0/0'");
		push @args, "target_lsn => '$lsn'";
		push @settings, "recovery_target_lsn = '$lsn'";
		$target{kind} = 'lsn';
	}
	elsif ($what < 0.78)
	{
		# also those of subtransactions, of transactions that never ended, and of none
		my $xid = rand() < 0.6 ? $commit->[2] : $self->{first_xid} + int(rand($self->{last_xid} - $self->{first_xid} + 4));
		push @args, "target_xid => '$xid'";
		push @settings, "recovery_target_xid = '$xid'";
		$target{kind} = 'xid';
	}
	elsif ($what < 0.87)
	{
		my $point = rand() < 0.93 && @{ $self->{history}{points} } ? any_of(@{ $self->{history}{points} }) : 'nobody made it';
		push @args, "target_name => '$point'";
		push @settings, "recovery_target_name = '$point'";
		$inclusive = 'true';
		$target{kind} = 'name';
	}
	elsif ($what < 0.93)
	{
		push @args, 'target_immediate => true';
		push @settings, "recovery_target = 'immediate'";
		$inclusive = 'true';
		$target{kind} = 'immediate';
	}
	else
	{
		$inclusive = 'true';
		$target{kind} = 'end';
	}
	push @args, "inclusive => $inclusive" if $inclusive eq 'false' || rand() < 0.3;
	push @settings, "recovery_target_inclusive = $inclusive";

	my $timeline = $self->{newest};
	if (rand() < 0.6)
	{
		$timeline = rand() < 0.95 ? any_of(@{ $self->{timelines} }) : $self->{newest} + 1;
		push @args, "target_timeline => $timeline";
	}
	push @settings, "recovery_target_timeline = $timeline";
	if (rand() < 0.4)
	{
		$target{backup} = rand() < 0.97 ? any_of(@{ $self->{backups} }) : 'nobody took it';
		push @args, "backup => '$target{backup}'";
	}
	@target{qw(args settings timeline)} = (join(', ', "'$self->{history}{name}'", @args), \@settings, $timeline);
	return \%target;
}

# The row of plan_restore, as a hash.
sub ask
{
	my ($self, $target) = @_;
	return JSON::PP->new->allow_bignum->decode($self->value("SELECT row_to_json(p) FROM walarchive.plan_restore($target->{args}) p"));
}

# Recover from a backup with these settings.  Returns a hash: 'ended' is paused (at
# the target), failed, or promoted (it went on without stopping); what was found
# in the server if it paused, the fatal message if not.
sub recover
{
	my ($self, $label, $settings, %opt) = @_;
	my $history = $self->{history};
	my $n = ++$self->{runs};
	my $data = "$self->{work}/data.$n";
	my $log = "$self->{work}/log.$n";
	my %found = (log => $log);

	# what still reads ahead for the last one may be in the way
	system("rm -rf '$self->{work}'/data.* 2>/dev/null");
	system_or_bail('cp', '-a', '--reflink=auto', $history->unpacked($label), $data);
	my $command = $opt{restore_command} // $history->restore_command;
	$command =~ s/'/''/g;
	$history->auto_conf($data, @$settings, "recovery_target_action = 'pause'", 'hot_standby = on', 'primary_conninfo = \'\'',
		"restore_command = '$command'", "port = $self->{port}", "unix_socket_directories = '$self->{socket}'", "listen_addresses = ''",
		'fsync = off', 'autovacuum = off', 'logging_collector = off', 'log_destination = stderr', "log_line_prefix = ''", 'shared_preload_libraries = \'\'');
	append_to_file("$data/recovery.signal", '');
	$history->lay_forks($data, $opt{timeline}) if $opt{timeline};
	append_to_file($log, '');
	my $server = IPC::Run::start([ 'postgres', '-D', $data ], '<', '/dev/null', '>', '/dev/null', '2>', $log);

	my $limit = time() + $PostgreSQL::Test::Utils::timeout_default;
	my $text = '';
	while (!$found{ended})
	{
		my $running = $server->pumpable;
		$text = slurp_file($log);
		if ($text =~ /^LOG:  pausing at the end of recovery/m) { $found{ended} = 'paused'; }
		elsif ($text =~ /^LOG:  archive recovery complete/m) { $found{ended} = 'promoted'; }
		elsif ($text =~ /hot standby is not possible because of insufficient parameter settings/) { $found{ended} = 'bad settings'; }
		elsif (!$running) { $found{ended} = 'failed'; }
		elsif (time() > $limit) { $found{ended} = 'hung'; }
		else { usleep(10_000); }
	}
	($found{fatal}) = $text =~ /^(?:FATAL|PANIC):  (.*)/m;
	($found{stopping}) = $text =~ /^LOG:  (recovery stopping .*)/m;
	($found{redo_done}) = $text =~ /^LOG:  redo done at (\S+)/m;
	my $psql = sub {
		my ($out, $err) = ('', '');
		IPC::Run::run([ 'psql', '-XAtq', '-h', $self->{socket}, '-p', $self->{port}, '-d', 'postgres', '-c', $_[0] ], '>', \$out, '2>', \$err)
		  or push @{ $found{errors} }, $err;
		chomp $out;
		return $out;
	};
	if ($found{ended} eq 'paused')
	{
		# the answer comes once it takes connections, a moment later at most
		wait_for('connections', sub { slurp_file($log) =~ /^LOG:  database system is ready to accept read-only connections/m });
		@found{qw(lsn xid time xact_time)} = split /\|/, $psql->(q(
			SELECT pg_last_wal_replay_lsn(), c.xid, c.timestamp, pg_last_xact_replay_timestamp() FROM pg_last_committed_xact() c));
		$found{rows} = $psql->(q(SELECT coalesce(string_agg(DISTINCT xid::text, ' ' ORDER BY xid::text), '') FROM log));
		if ($opt{promote})
		{
			$psql->('SELECT pg_wal_replay_resume()');
			wait_for('the promotion', sub { $psql->('SELECT pg_is_in_recovery()') eq 'f' });
			$found{prepared} = $psql->('SELECT string_agg(gid, \' \' ORDER BY gid COLLATE "C") FROM pg_prepared_xacts');
		}
	}
	$server->signal('QUIT') if $server->pumpable;
	$server->finish;
	return \%found;
}

sub wrong
{
	my ($self, $target, $plan, $found, $why) = @_;
	push @{ $self->{wrong} }, $why;
	diag("MISPREDICTION: $why\nplan_restore($target->{args})\nplan: " . JSON::PP->new->canonical->allow_bignum->pretty->encode($plan)
		  . 'PostgreSQL: ' . ($found ? JSON::PP->new->canonical->pretty->encode({ map { $_ => $found->{$_} } grep { $_ !~ /^(rows|log)$/ } keys %$found }) . slurp_tail($found->{log}) : 'not asked')
		  . "the past: " . join('; ', @{ $self->{history}{told} }));
	return;
}

sub slurp_tail
{
	my ($path) = @_;
	my @lines = split /\n/, slurp_file($path);
	splice(@lines, 0, @lines - 25) if @lines > 25;
	return join("\n", @lines, '');
}

# One target: plan it, recover, compare.
sub check
{
	my ($self) = @_;
	my $target = $self->draw;
	my $plan = $self->ask($target);
	my $verdict = $plan->{feasible} ? 'feasible' : $plan->{reason} // 'no reason';

	$self->{counts}{"$target->{kind} $verdict"}++;
	note("plan_restore($target->{args}): $verdict" . ($plan->{feasible} ? ", $plan->{backup}, ends at $plan->{stop_lsn}" : ": $plan->{hint}"));
	if ($plan->{feasible}) { $self->check_feasible($target, $plan); }
	else { $self->check_not_feasible($target, $plan); }
	return;
}

sub check_feasible
{
	my ($self, $target, $plan) = @_;
	my $prepared = $plan->{prepared} // [];
	my $promote = rand() < (@$prepared > 0 ? 0.6 : 0.2);
	my %opt = (promote => $promote, timeline => $plan->{timeline});
	if ($self->{fetch} && rand() < 0.6)
	{
		($opt{restore_command} = any_of(@{ $self->{fetch} })) =~ s/\@plan\@/$plan->{plan_id}/;
		$self->{counts}{'(fetched)'}++;
	}
	my $found = $self->recover($plan->{backup}, [ $plan->{settings} ], %opt);
	my @why;

	if ($found->{ended} ne 'paused')
	{
		@why = ("it is feasible and PostgreSQL says: $found->{ended} " . ($found->{fatal} // ''));
	}
	else
	{
		my $same = sub {
			my ($what, $wanted, $got) = @_;
			push @why, "$what: planned " . ($wanted // 'none') . ', got ' . ($got // 'none') if ($wanted // '') ne ($got // '');
		};
		$same->('end of the last record', $plan->{stop_lsn}, $found->{lsn});
		$same->('last commit', $plan->{last_commit_xid}, $found->{xid});
		$same->('its time', $plan->{last_commit_time}, $self->as_json_time($found->{time}));
		if ($promote)
		{
			# of what was prepared before WAL that is missing nothing is known
			my %wanted = map { $_ => 1 } @$prepared;
			my @got = grep { $wanted{$_} || !$self->{history}{holes} } split / /, $found->{prepared};
			$same->('prepared', join(' ', sort @$prepared), join(' ', sort @got));
		}
		push @why, $self->compare_rows($plan, $found->{rows});
		push @why, @{ $found->{errors} } if $found->{errors};
	}
	$self->wrong($target, $plan, $found, join('; ', @why)) if @why;
	unlink($found->{log});
	return;
}

# As row_to_json() has it.
sub as_json_time
{
	my ($self, $time) = @_;
	return undef if !defined $time || $time eq '';
	return $self->value("SELECT to_jsonb(timestamptz '$time') #>> '{}'");
}

# Every commit from the backup's start to the stop is there, none after it.
sub compare_rows
{
	my ($self, $plan, $rows) = @_;
	my $name = $self->{history}{name};
	my %there = map { $_ => 1 } split / /, $rows // '';
	my @why;
	for my $part ([ 1, "from_lsn => '$plan->{start_lsn}', to_lsn => '$plan->{stop_lsn}'" ], [ 0, "from_lsn => '$plan->{stop_lsn}'" ])
	{
		my ($wanted, $range) = @$part;
		my @xids = split /\n/, $self->value(
			"SET client_min_messages = error; SELECT xid FROM walarchive.commits('$name', timeline => $plan->{timeline}, $range)
			 WHERE kind LIKE 'commit%' AND start_lsn >= '$self->{history}{setup_lsn}'");
		my @bad = grep { ($there{$_} // 0) != $wanted } @xids;
		push @why, ($wanted ? 'missing' : 'too many') . " transactions: @bad" if @bad;
	}
	return @why;
}

sub check_not_feasible
{
	my ($self, $target, $plan) = @_;
	my $reason = $plan->{reason} // '';
	my @backups = grep { $_ ne 'nobody took it' } defined $target->{backup} ? $target->{backup} : (any_of(@{ $self->{backups} }));
	my $history = $self->{history};

	if ($reason =~ /^(not_indexed|search_failed|)$/)
	{
		$self->wrong($target, $plan, undef, "a plan for an archive that is indexed says '$reason'");
		return;
	}
	for my $label (@backups)
	{
		my $found = $self->recover($label, [ $history->hot_standby_settings, @{ $target->{settings} } ], timeline => $target->{timeline});
		if ($found->{ended} eq 'failed')
		{
			my $how = $fatal{$reason} // $ended;
			# one that begins on the path is replayed from, and its end never comes
			$how = qr/$how|$ended|online backup was canceled/
			  if $reason eq 'backup_not_on_path' && $plan->{hint} =~ m{^Backup \Q$label\E runs from ([0-9A-F/]+) to .* leaves that at ([0-9A-F/]+)\.}
			  && $self->value("SELECT '$1'::pg_lsn < '$2'::pg_lsn") eq 't';
			# another timeline's WAL, or none, is where one begins that does not begin on the path
			$how = qr/$how|could not find redo location referenced by checkpoint record/ if !$self->begins_on_path($target, $label);
			$self->wrong($target, $plan, $found, "from $label PostgreSQL fails, but for another reason than $reason: " . ($found->{fatal} // 'none'))
			  if ($found->{fatal} // '') !~ $how;
		}
		elsif ($found->{ended} eq 'promoted' && $target->{kind} eq 'end')
		{
			# without a target it takes what it finds: short of what was asked for
			my $end = $self->value("SELECT max(last_record_lsn) FROM walarchive.segment WHERE source = '$history->{name}' AND timeline = $target->{timeline}");
			$self->wrong($target, $plan, $found, "from $label PostgreSQL came to the end at $found->{redo_done}, and the plan said $reason")
			  if $self->value("SELECT '$found->{redo_done}'::pg_lsn >= '$end'::pg_lsn") eq 't';
		}
		elsif ($found->{ended} eq 'paused' && $reason eq 'damage' && $self->in_damaged($found->{lsn}))
		{
			# a plan rests on nothing of a file that is damaged, also before the first wrong byte
			$self->{counts}{'(before the damage in its segment)'}++;
		}
		elsif ($found->{ended} eq 'paused' && $reason =~ /^(no_backup|backup_unusable|before_consistency|damage|gap)$/ && $self->begins_in_damaged($label))
		{
			# nor behind it
			$self->{counts}{'(from behind the damage in its segment)'}++;
		}
		elsif ($found->{ended} eq 'paused' && $reason eq 'ambiguous_name' && !defined $target->{backup})
		{
			# it takes the first one, and the plan wants to be told
			$self->{counts}{'(first of several)'}++;
		}
		elsif ($found->{ended} eq 'paused' && $target->{kind} eq 'time' && $self->holds_later($target, $label))
		{
			# it stops, with transactions that the target excludes
			$self->{counts}{'(stopped elsewhere)'}++;
		}
		else
		{
			$self->wrong($target, $plan, $found, "from $label PostgreSQL says: $found->{ended} " . ($found->{stopping} // '') . ", and the plan said $reason");
		}
		unlink($found->{log});
	}
	# what it offers instead can be had
	while ($plan->{hint} =~ /(plan_restore\([^()]*\))/g)
	{
		my $offered = $self->value("SELECT feasible FROM walarchive.$1");
		$self->wrong($target, $plan, undef, "what it offers is not feasible: $1") if $offered ne 't';
	}
	return;
}

# Was there, before the backup, the end of a transaction that the target time
# excludes?
sub holds_later
{
	my ($self, $target, $label) = @_;
	my $name = $self->{history}{name};
	my $beyond = (grep { $_ eq 'recovery_target_inclusive = false' } @{ $target->{settings} }) ? '>=' : '>';
	return $self->value(qq(
		SET client_min_messages = error;
		SELECT count(*) > 0
		FROM walarchive.backup b CROSS JOIN LATERAL walarchive.commits('$name', timeline => $target->{timeline}, to_lsn => b.start_lsn) c
		WHERE b.source = '$name' AND b.label = '$label' AND c.xact_time $beyond '$target->{time}')) eq 't';
}

# Does the path to the target's timeline have the place where the backup begins,
# on the backup's timeline?
sub begins_on_path
{
	my ($self, $target, $label) = @_;
	my $name = $self->{history}{name};
	return $self->value(qq(
		SELECT count(*) > 0 FROM walarchive.backup b
			CROSS JOIN LATERAL walarchive.timeline_path(b.source, b.system_identifier, $target->{timeline}) p
		WHERE b.source = '$name' AND b.label = '$label'
			AND p.timeline = b.timeline AND b.start_lsn >= p.begin_lsn AND (p.end_lsn IS NULL OR b.start_lsn < p.end_lsn))) eq 't';
}

# Is this a place in a segment that is damaged?
sub in_damaged
{
	my ($self, $lsn) = @_;
	my $name = $self->{history}{name};
	return $self->value(qq(
		SELECT count(*) > 0 FROM walarchive.damage d JOIN walarchive.segment s USING (source, system_identifier, timeline, start_lsn)
		WHERE d.source = '$name' AND '$lsn'::pg_lsn BETWEEN s.start_lsn AND s.end_lsn)) eq 't';
}

# Does recovery from this backup begin behind the first wrong byte of a segment
# that it needs?
sub begins_in_damaged
{
	my ($self, $label) = @_;
	my $name = $self->{history}{name};
	return $self->value(qq(
		SELECT count(*) > 0 FROM walarchive.backup b
			JOIN walarchive.segment s ON s.source = b.source AND s.system_identifier = b.system_identifier AND s.timeline = b.timeline
				AND b.start_lsn >= s.start_lsn AND b.start_lsn < s.end_lsn
			JOIN walarchive.damage d ON d.source = s.source AND d.system_identifier = s.system_identifier AND d.timeline = s.timeline
				AND d.start_lsn = s.start_lsn AND d.lsn < b.start_lsn
		WHERE b.source = '$name' AND b.label = '$label')) eq 't';
}

sub forget
{
	my ($self) = @_;
	system('rm', '-rf', $self->{work});
	return;
}

1;
