# Between the message that brings WAL and the one that confirms it lie some fifty
# system calls, and each of them can fail, do half of its work, or be the last
# that a process makes.  This walks through all of them, by name, in a build of
# the module in which each is a fault point (src/state/fault_point.h): each fails
# with EIO and with ENOSPC, writes write half, and at each the process is killed.
# With commits that wait for the archive: none is confirmed before its WAL is
# durable, nothing is lost, nothing is left over, and streaming is back by itself.
use strict;
use warnings FATAL => 'all';

use Digest::SHA;
use Errno qw(EIO ENOSPC EOPNOTSUPP);
use File::Find ();
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use Time::HiRes qw(time usleep);
use WalFaults;

# ---- no call without a point ----

# What makes, changes or removes files, or tells the primary or the catalog.
my $calls = qr/\b(p?write|p?writev|f(?:data)?sync|rename(?:at)?|unlink(?:at)?|ftruncate|(?:posix_)?fallocate|mkdir|rmdir|link|rmtree|
	pg_p?write(?!_barrier)\w*|pg_f(?:data)?sync\w*|durable_\w+|fsync_fname\w*|MakePGDirectory|PQputCopy(?:Data|End)|CommitTransactionCommand|
	(?:open|OpenTransientFile\w*)\s*\((?=[^;]*O_CREAT)|AllocateFile\s*\((?=[^;]*"[wa])|fwrite|fputs|fprintf)(?:\s*\(|(?<=\())/x;

# Those that need none, and why.
my %without = (
	'src/capture/flusher.c write' => 'wakes this process, by a pipe',
	'src/capture/connection.c PQputCopyData' => 'sends a manifest for an incremental backup',
	'src/capture/connection.c PQputCopyEnd' => 'as above',
	'src/capture/stream.c PQputCopyEnd' => 'answers the end of a timeline, and confirms nothing',
	'src/capture/launcher.c rmtree' => 'removes what nobody can see any more',
	'src/capture/receiver.c rmtree' => 'as above',
	'src/capture/receiver.c fsync_fname_ext' => 'says how a removal went; it is done again at the next start',
	'src/catalog/decoder.c write' => 'asks a program, by a pipe',
	'src/catalog/expire.c unlink' => 'a temporary file that the next run replaces',
	'src/backup/backup_check.c unlink' => 'a file that only this process has, and will have no name',
	'src/backup/verify_backup.c MakePGDirectory' => 'the folder of temporary files of the host',
	'src/state/archive_dir.c unlink' => 'what dead processes left; it is in nobody\'s way');

my @bare;
my %used;
my $top = "$FindBin::RealBin/..";
foreach my $path (map { glob("$top/src/$_/*.c") } qw(capture state catalog backup restore))
{
	next if $path =~ m!/fault_point\.c$!;
	my $text = slurp_file($path);
	(my $name = $path) =~ s!^\Q$top\E/!!;
	$text =~ s!/\*.*?\*/! !gs;
	$text =~ s!"(?:[^"\\\n]|\\.)*"!""!g if $text !~ /AllocateFile/;
	$used{$1}++ while $text =~ /\bWA_FAULT(?:_RAISE)?\((\w+)/g;
	while ($text =~ /$calls/g)
	{
		my ($call, $before) = ($1, substr($text, 0, $-[0]));
		$call =~ s/\s*\(.*//s;
		next if $without{"$name $call"};
		# the point is in the same statement; a commit's is the statement before
		my ($statement) = $before =~ /((?:[^;{}]*;\s*)?[^;{}]*)\z/;
		$statement =~ s/\A[^;]*;//s if $call ne 'CommitTransactionCommand';
		push @bare, "$name: $call" if $statement !~ /\bWA_FAULT/;
	}
}
is(join(', ', @bare), '', 'each call that changes the archive has a fault point');

# ---- servers ----

my ($points, $conf) = fault_point_conf();
my $host = new_archive_host('archive', install_path => install_fault_points(), conf => $conf);
my $primary = new_primary('primary', conf => "wal_keep_size = 2GB\n");
# a timeline with a history
$primary->stop;
$primary->set_standby_mode;
$primary->start;
$primary->promote;
$primary->safe_psql('postgres', 'CREATE TABLE filler (t text)');
add_source($host, 'prod', $primary);
load_segments($primary, 1);
wait_archived($host, 'prod', $primary);
my $wal = wal_dir($host, 'prod');
(my $cluster = $wal) =~ s!/wal$!!;
make_synchronous($primary, 'walarchive_prod');
# what is confirmed is compared with where WAL ended before
hold_snapshots($primary);

my %known = fault_points($points);
is_deeply(
	[ sort map { my $symbol = uc; $symbol =~ tr/-/_/; $symbol } keys %known ],
	[ sort keys %used ],
	'each point of the module is in its source, and the other way round');

# ---- what brings the servers to a point ----

my $row = "INSERT INTO filler VALUES ('x');\n";
my $segment = "INSERT INTO filler SELECT repeat('y', 900) FROM generate_series(1, 400);\nSELECT pg_switch_wal();\n";

# one after the other, whatever the host is going through
sub steer
{
	my ($sql, $check) = @_;
	wait_for($sql, sub { defined try_psql($host, $sql) }) or BAIL_OUT("the host does not run $sql");
	poll_psql($host, $check) or BAIL_OUT("$sql has no effect") if $check;
	return;
}

sub pause
{
	steer("SELECT walarchive.pause_source('prod')",
		"SELECT state = 'paused' FROM walarchive.stat_receiver WHERE source = 'prod'");
	return;
}

sub resume { return steer("SELECT walarchive.resume_source('prod')"); }

# What is committed afterwards goes over another connection.
sub reconnect
{
	my $pids = $primary->safe_psql('postgres',
		"SELECT string_agg(pid::text, ',') FROM pg_stat_replication WHERE application_name = 'walarchive_prod'");
	$primary->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM unnest(ARRAY[$pids]::int[]) pid");
	wait_for('the old connection to end', sub { $primary->safe_psql('postgres',
				"SELECT count(*) FROM pg_stat_activity WHERE pid IN ($pids)") eq '0' }) or BAIL_OUT('a walsender does not end')
	  if $pids ne '';
	return;
}

sub is_back
{
	poll_psql($host, "SELECT state = 'streaming' FROM walarchive.stat_receiver WHERE source = 'prod'")
	  or BAIL_OUT('streaming does not come back');
	wait_for('the primary to know', sub { $primary->safe_psql('postgres',
				"SELECT count(*) FROM pg_stat_replication WHERE application_name = 'walarchive_prod' AND state = 'streaming'") eq '1' })
	  or BAIL_OUT('the primary does not stream');
	return;
}

# The order may have come through though its answer did not.
sub drop_other
{
	return steer("SELECT walarchive.drop_source(name, delete_files => true) FROM walarchive.source WHERE name = 'other'");
}

# A flush fails once; streaming goes on in another file.
sub one_set_aside
{
	my $struck = arm_point($points, 'segment-fdatasync', 'fail', errno => EIO, count => 1);
	$primary->safe_psql('postgres', $row);
	wait_for('a flush to fail', sub { strikes('segment-fdatasync') > $struck }) or BAIL_OUT('no flush fails');
	disarm_points($points);
	is_back();
	my @aside = glob("$wal/*.unsynced");
	die 'nothing is set aside' if !@aside;
	return;
}

sub other_is_gone
{
	wait_for('source other to be gone', sub {
		!-e archive_dir($host, 'other') && (try_psql($host, "SELECT count(*) FROM walarchive.source WHERE name = 'other'") // '') eq '0' })
	  or BAIL_OUT('source other is not gone');
	wait_for('its slot to be gone', sub { $primary->safe_psql('postgres',
				"SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'walarchive_other'") eq '0' });
	return;
}

my $other = conninfo($primary);

# more WAL than there is in a few segments, at once, when the receiver is back
sub fall_behind
{
	pause();
	$primary->safe_psql('postgres',
		"SET synchronous_commit = local; INSERT INTO filler SELECT repeat('y', 900) FROM generate_series(1, 4000)");
	return;
}

sub forget_history
{
	unlink("$wal/00000002.history") or die "could not remove history: $!";
	return;
}

# before: what is done before the point is armed; with: other points that have to
# fail for it; act: what passes it; then: what is done when it is disarmed.  All
# of it with commits that wait for prod.  What a trigger comes down to can depend
# on who is faster (whether the file that is made ready is), so unless it has
# "single" it is pulled again until the point was passed.
my $slow_flush = [ 'segment-fdatasync', 'rest', ms => 300 ];
my $nothing_ready = [ 'prepare-create', 'fail', errno => EIO ];
my %trigger = (
	commit => { act => sub { start_sql($primary, $row) } },
	segments => { act => sub { start_sql($primary, $segment x 2 . $row) } },
	# the open segment's file has its name
	reconnect => { before => sub { $primary->safe_psql('postgres', $row) },
		act => sub { reconnect(); start_sql($primary, $row) } },
	history => { before => \&forget_history, act => sub { reconnect(); start_sql($primary, $row) } },
	restart => { before => \&pause, act => sub { resume(); start_sql($primary, $row) } },
	# a file that a full disk has left, of a segment of which little was confirmed
	cut => {
		before => sub {
			$primary->safe_psql('postgres', $segment . $row);
			pause();
			my @partial = grep { /\.partial$/ } wal_files($wal, partial => 1);
			truncate("$wal/$partial[-1]", 64 * 1024) or die "could not truncate $partial[-1]: $!";
		},
		act => sub { resume(); start_sql($primary, $row) } },
	# a segment is whole before it is flushed for the first time
	whole => { before => \&fall_behind, act => sub { resume(); start_sql($primary, $row) }, with => [$slow_flush], again => 1 },
	# a file is wanted, and none was made ready
	behind => { before => \&fall_behind, act => sub { resume(); start_sql($primary, $row) }, with => [$nothing_ready], again => 1 },
	no_fallocate => { before => \&fall_behind, act => sub { resume(); start_sql($primary, $row) }, again => 1,
		with => [ $nothing_ready, [ 'reserve-allocate', 'fail', errno => EOPNOTSUPP ] ] },
	no_room_to_reserve => { before => \&fall_behind, act => sub { resume(); start_sql($primary, $row) }, again => 1,
		with => [ $nothing_ready, [ 'reserve-allocate', 'fail', errno => ENOSPC, count => 1 ] ] },
	no_room_to_prepare => { act => sub { start_sql($primary, $segment x 2 . $row) },
		with => [ [ 'prepare-write', 'fail', errno => ENOSPC, count => 1 ] ] },
	# a flush fails; afterwards its file is set aside
	# (what was set aside before has its replacement)
	unsynced => { before => sub { $primary->safe_psql('postgres', $segment . $row) }, act => sub { start_sql($primary, $row) },
		with => [ [ 'segment-fdatasync', 'fail', errno => EIO, count => 1 ] ],
		then => sub { $primary->safe_psql('postgres', $segment) } },
	# another one, while the first file is still there
	unsynced_again => { before => sub { $primary->safe_psql('postgres', $segment . $row); one_set_aside() },
		act => sub { start_sql($primary, $row) },
		with => [ [ 'segment-fdatasync', 'fail', errno => EIO, count => 1 ] ],
		then => sub { $primary->safe_psql('postgres', $segment) } },
	replaced => {
		before => sub { $primary->safe_psql('postgres', $segment . $row); one_set_aside() },
		act => sub { start_sql($primary, $segment . $row) },
		then => \&reconnect, single => 1 },
	no_room_for_history => { before => \&forget_history, act => sub { reconnect(); start_sql($primary, $row) },
		with => [ [ 'file-write', 'fail', errno => ENOSPC, count => 1 ] ], single => 1 },
	add => { act => sub { steer("SELECT walarchive.add_source('other', \$\$$other\$\$) WHERE NOT EXISTS (SELECT FROM walarchive.source WHERE name = 'other')");
			start_sql($primary, $row) },
		then => sub {
			poll_psql($host, "SELECT state = 'streaming' FROM walarchive.stat_receiver WHERE source = 'other'")
			  or BAIL_OUT('source other does not stream');
			drop_other();
			other_is_gone();
		}, single => 1 },
	drop => {
		before => sub {
			steer("SELECT walarchive.add_source('other', \$\$$other\$\$) WHERE NOT EXISTS (SELECT FROM walarchive.source WHERE name = 'other')",
				"SELECT state = 'streaming' FROM walarchive.stat_receiver WHERE source = 'other'");
		},
		act => sub { drop_other(); start_sql($primary, $row) },
		then => \&other_is_gone, single => 1 },
	half_sum => { act => sub { append_to_file("$cluster/wal.sha256", 'half a line'); start_sql($primary, $segment . $row) } },
	no_sums => { act => sub { unlink("$cluster/wal.sha256"); start_sql($primary, $segment . $row) } });

# ---- the points ----

# on: the trigger.  holds: while it fails nothing is confirmed beyond where WAL
# ended before ("lsn") or before the end of that segment ("segment").  shows: the
# causes of EIO and ENOSPC in stat_receiver and health; none: commits go on all
# the while.  errors: EIO, unless both.  short: it writes.
my $both = [ EIO, ENOSPC ];
my $io = [ 'io_error', 'disk_full' ];
my $sync = [ 'sync_failed', 'sync_failed' ];
my %walk = (
	'segment-write' => { on => 'commit', holds => 'lsn', shows => $io, short => 1 },
	'segment-fdatasync' => { on => 'commit', holds => 'lsn', shows => $sync },
	'segment-rename' => { on => 'segments', holds => 'segment', shows => $io },
	'segment-rename-twice' => { on => 'whole' },
	'directory-fsync' => { on => 'segments', holds => 'segment', shows => $sync },
	'feedback-send' => { on => 'commit', holds => 'lsn', shows => [ 'connection_failed', 'connection_failed' ] },
	'feedback-flush' => { on => 'commit', shows => [ 'connection_failed', 'connection_failed' ] },
	'reserve-create' => { on => 'behind', shows => $io },
	'reserve-allocate' => { on => 'behind', shows => $io },
	'reserve-truncate' => { on => 'no_fallocate', shows => $io },
	'reserve-remove' => { on => 'no_room_to_reserve' },
	'prepare-create' => { on => 'segments' },
	'prepare-write' => { on => 'segments', short => 1 },
	'prepare-fsync' => { on => 'segments' },
	'prepare-remove' => { on => 'no_room_to_prepare' },
	'leftover-remove' => { on => 'reconnect', holds => 'lsn', shows => $io },
	'start-directory-fsync' => { on => 'reconnect', holds => 'lsn', shows => $sync },
	'reopen-extend' => { on => 'cut', holds => 'lsn', shows => $io },
	'reopen-fsync' => { on => 'reconnect', holds => 'lsn', shows => $sync, once => 1 },
	'set-aside-rename' => { on => 'unsynced', holds => 'lsn', shows => $io },
	'set-aside-remove' => { on => 'unsynced_again', holds => 'lsn', shows => $io },
	'set-aside-fsync' => { on => 'unsynced' },
	'unsynced-remove' => { on => 'replaced' },
	'drop-rename' => { on => 'drop' },
	'lock-create' => { on => 'restart', holds => 'lsn', shows => $io },
	'folder-create' => { on => 'add', count => 1 },
	'file-create' => { on => 'history', holds => 'lsn', shows => $io },
	'file-write' => { on => 'history', holds => 'lsn', shows => $io, short => 1 },
	'file-fsync' => { on => 'history', holds => 'lsn', shows => $io },
	'file-rename' => { on => 'history', holds => 'lsn', shows => $io },
	'file-remove' => { on => 'no_room_for_history' },
	'parent-fsync' => { on => 'history', count => 1 },
	'lines-create' => { on => 'reconnect' },
	'lines-write' => { on => 'reconnect', short => 1 },
	'lines-fsync' => { on => 'reconnect' },
	'lines-parent-fsync' => { on => 'add', count => 1 },
	'catalog-commit' => { on => 'segments', count => 1 },
	'sums-create' => { on => 'no_sums', count => 1 },
	'sums-truncate' => { on => 'half_sum', count => 1 },
	'sums-write' => { on => 'segments', count => 1, short => 1 },
	'sums-fsync' => { on => 'segments', count => 1 },
	'sums-parent-fsync' => { on => 'no_sums', count => 1 });

# those of backups, of expiry and of attach_source have a test of their own
is_deeply([ sort keys %walk ], [ sort grep { !/^(backup|expire|attach)-/ } keys %known ], 'each point is walked');

# ---- what must be true ----

# What the primary was told to be durable.
sub confirmed
{
	return $primary->safe_psql('postgres',
		"SELECT greatest((SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'walarchive_prod'),
				(SELECT max(flush_lsn) FROM pg_stat_replication WHERE application_name = 'walarchive_prod'))");
}

my $segment_size = 1024 * 1024;

# The archive holds the primary's very bytes up to what it has confirmed.
sub holds_confirmed
{
	my ($what) = @_;
	my ($high, $low) = map { hex } split m!/!, confirmed();
	my ($number, $offset) = (int($low / $segment_size), $low % $segment_size);
	($number, $offset) = ($number - 1, $segment_size) if $offset == 0;
	my $name = sprintf('%08X%08X%08X', 2, $high, $number);
	my $own = substr(read_file_bytes($primary->data_dir . "/pg_wal/$name"), 0, $offset);
	# a name may change between two looks
	my $held = 0;
	for (1 .. 50)
	{
		foreach my $file ($name, "$name.partial", "$name.partial.unsynced")
		{
			my $bytes = -e "$wal/$file" ? eval { read_file_bytes("$wal/$file") } : undef;
			$held = 1 if defined $bytes && substr($bytes, 0, $offset) eq $own;
		}
		last if $held;
		usleep(20_000);
	}
	ok($held, "$what: the archive holds what was confirmed");
	return;
}

sub not_beyond
{
	my ($what, $limit) = @_;
	my $confirmed = confirmed();
	is($primary->safe_psql('postgres', "SELECT '$confirmed'::pg_lsn <= '$limit'::pg_lsn"),
		't', "$what: nothing beyond $limit is confirmed")
	  or diag("confirmed is $confirmed");
	return;
}

# The end of what may be confirmed while a point fails.
sub limit_of
{
	my ($holds) = @_;
	my $now = $primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
	return $now if $holds eq 'lsn';
	# the last byte of the segment is confirmed when it is finished
	my ($high, $low) = map { hex } split m!/!, $now;
	return sprintf('%X/%X', $high, (int($low / $segment_size) + 1) * $segment_size - 1);
}

my %compared;

# All is as if nothing had happened.
sub is_whole
{
	my ($what) = @_;
	is_back();
	poll_psql($host, "SELECT flushed_lsn >= '"
		  . $primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()')
		  . "' FROM walarchive.stat_receiver WHERE source = 'prod'")
	  or BAIL_OUT("$what: the archive does not come to the end");
	my @new = grep { !$compared{$_} && !/history/ } wal_files($wal);
	is(compare_finished($wal, $primary, @new), scalar(@new), "$what: finished segments are the primary's") if @new;
	$compared{$_} = 1 foreach @new;
	holds_confirmed($what);
	return;
}

sub strikes
{
	my ($name) = @_;
	my %point = fault_points($points);
	return $point{$name}{struck};
}

# Pull a trigger, after the point was armed, until the point strikes.  Returns
# what was started.
sub pull
{
	my ($what, $name, $before, $trigger) = @_;
	my @sessions;
	my $seconds = 10;
	my $end = time() + $PostgreSQL::Test::Utils::timeout_default;

	while (1)
	{
		arm_point($points, @$_) foreach @{ $trigger->{with} // [] };
		push @sessions, $trigger->{act}->();
		my $left = $end - time();
		last if wait_for("$name to strike", sub { strikes($name) > $before }, $trigger->{single} || $left < $seconds ? $left : $seconds);
		last if time() >= $end;
		note("$what: pulled again");
		$trigger->{before}->() if $trigger->{again};
	}
	wait_strike($what, $name, $before);
	return @sessions;
}

sub wait_strike
{
	my ($what, $name, $before) = @_;
	return ok(wait_for("$name to strike", sub { strikes($name) > $before }), "$what: it struck");
}

# How many of the sessions did not end well.
sub unwell
{
	$_->{code} //= sql_result($_) foreach @_;
	return scalar grep { $_->{code} != 0 } @_;
}

sub cause_is
{
	my ($what, $cause) = @_;
	ok( poll_psql($host,
			qq(SELECT count(*) > 0 FROM walarchive.stat_receiver s JOIN walarchive.health h USING (source)
			   WHERE source = 'prod' AND s.cause = '$cause' AND s.last_error IS NOT NULL
				 AND h."check" = 'receiver' AND h.severity <> 'ok' AND h.message IS NOT NULL)),
		"$what: status and health say $cause");
	return;
}

# ---- the walk ----

sub fails
{
	my ($name) = @_;
	my $walk = $walk{$name};
	my $trigger = $trigger{ $walk->{on} };
	my @count = $walk->{count} ? (count => $walk->{count}) : ();

	$trigger->{before}->() if $trigger->{before};
	my $struck = arm_point($points, $name, 'fail', errno => EIO, @count);
	# from now on nothing more can be confirmed
	my $limit = limit_of($walk->{holds}) if $walk->{holds};
	my @sessions = pull("$name fails", $name, $struck, $trigger);
	cause_is("$name fails", $walk->{shows}[0]) if $walk->{shows};
	if ($walk->{shows} && !$walk->{once})
	{
		$struck = change_errno($points, $name, ENOSPC);
		wait_strike("$name finds no room", $name, $struck);
		cause_is("$name finds no room", $walk->{shows}[1]);
	}
	if ($walk->{holds})
	{
		not_beyond("$name fails", $limit);
		is(scalar(grep { sql_done($_) } @sessions), 0, "$name fails: commits wait");
	}
	# nobody waits for what does not matter
	elsif (!$walk->{shows})
	{
		is(unwell(@sessions), 0, "$name fails: commits go on");
	}
	holds_confirmed("$name fails");
	if ($walk->{short})
	{
		$struck = arm_point($points, $name, 'short', @count);
		if ($walk->{holds})
		{
			wait_strike("$name is cut short", $name, $struck);
		}
		else
		{
			push @sessions, pull("$name is cut short", $name, $struck, $trigger);
		}
		is(unwell(@sessions), 0, "$name is cut short: commits are confirmed");
	}
	disarm_points($points);
	is(unwell(@sessions), 0, "$name is well again: commits are confirmed");
	is_back();
	$trigger->{then}->() if $trigger->{then};
	is_whole("$name failed");
	return;
}

sub kills
{
	my ($name) = @_;
	my $walk = $walk{$name};
	my $trigger = $trigger{ $walk->{on} };

	$trigger->{before}->() if $trigger->{before};
	# a process that dies between a failed sync and the rename that follows tells
	# nobody of the failure
	my $holds = $name =~ /^set-aside/ ? undef : $walk->{holds};
	my @count = $holds ? () : (count => 1);
	my $struck = arm_point($points, $name, 'kill', @count);
	my $limit = limit_of($holds) if $holds;
	my @sessions = pull("$name kills", $name, $struck, $trigger);
	# those that come after it are killed as well, so this is still so
	not_beyond("$name kills", $limit) if $holds;
	disarm_points($points);
	is(unwell(@sessions), 0, "$name killed: commits are confirmed");
	is_back();
	$trigger->{then}->() if $trigger->{then};
	is_whole("$name killed");
	return;
}

my $only = $ENV{WA_FAULT_POINT};
foreach my $name (sort { $known{$a}{number} <=> $known{$b}{number} } grep { !$only || /$only/ } keys %walk)
{
	fails($name);
	kills($name);
}

# ---- nothing is left ----

$primary->safe_psql('postgres', $segment x 2 . $row);
is_whole('at the end');
my @names = grep { !/history/ } wal_files($wal);
my ($first, $last) = map { hex(substr($_, 8, 8)) * 4096 + hex(substr($_, 16, 8)) } @names[ 0, -1 ];
is($last - $first + 1, scalar @names, 'finished segments follow one another');
is(compare_finished($wal, $primary, @names), scalar @names, 'and equal those of the primary');
ok(same_file("$wal/00000002.history", $primary->data_dir . '/pg_wal/00000002.history'), 'so does the history');
my @strange;
my $allowed = qr/^([0-9A-F]{24}(\.partial)?|0000000[12]\.history|walarchive\.prepared\.\d+|source\.json|cluster\.json|journal|receiver\.lock|host\.lock|wal\.sha256|relations)$/;
# what is just being written may have a name of its own
wait_for('no other file to be there', sub {
		@strange = ();
		File::Find::find({ no_chdir => 1, wanted => sub { push @strange, $_ if -f && (split m!/!, $_)[-1] !~ $allowed } },
			$host->{wa_directory});
		!@strange });
is("@strange", '', 'no other file is left');
ok(poll_psql($host, "SELECT count(*) FROM walarchive.segment WHERE source = 'prod' AND state = 'finished'", scalar(@names)),
	'the catalog has each finished segment');
is($host->safe_psql('postgres', 'SELECT count(*) FROM walarchive.gap'), '0', 'and knows of no gap');
my $sums;
ok( wait_for('each sum to be there', sub {
			my %sum = map { reverse split /  / } grep { /^[0-9a-f]{64}  [0-9A-F]{24}$/ } split /\n/, slurp_file("$cluster/wal.sha256");
			$sums = join(', ', grep { ($sum{$_} // '') ne Digest::SHA->new(256)->addfile("$wal/$_")->hexdigest } @names);
			$sums eq '' }),
	'each finished segment has its sum in wal.sha256') or diag("not: $sums");

release_snapshots($primary);
$host->stop;
$primary->stop;
done_testing();
