# Nobody takes backups by hand for long.  The schedule must take them as often as
# it says and no oftener, in its hours, go on by itself after failures without
# hammering a server that is in trouble, neither forget nor repeat a run when
# the archive host restarts, need no catalog, and say what it waits for.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;

my $host = new_archive_host('archive', conf => "timezone = 'Asia/Kolkata'\n");
# scheduled backups ask for a spread checkpoint: here it is over at once
my $primary = new_primary('primary', conf => "autovacuum = off\ncheckpoint_completion_target = 0\n");
add_source($host, 'prod', $primary);

sub query { return $host->safe_psql('postgres', $_[0]); }

# A column of the view, of one source.
sub plan_of
{
	my ($column, $source) = @_;
	$source //= 'prod';
	return query("SELECT $column FROM walarchive.backup_schedule WHERE source = '$source'");
}

sub wait_plan
{
	my ($condition, $source) = @_;
	return wait_for("schedule: $condition", sub { plan_of("($condition)::text", $source) eq 'true' })
	  || diag(plan_of("backup_schedule::text", $source));
}

# Labels of the whole backups on disk, in order of time.
sub backups
{
	my ($source) = @_;
	my @found = glob(archive_dir($host, $source // 'prod') . '/*/backup/*/backup.json');
	my @labels = sort map { m{/([^/]+)/backup\.json$} ? $1 : () } @found;
	return @labels;
}

# What lies around beside them.
sub others
{
	my ($source) = @_;
	my @found = grep { !-e "$_/backup.json" || m/\.(tmp|deleted)$/ } glob(archive_dir($host, $source // 'prod') . '/*/backup/*');
	return @found;
}

sub wait_backups
{
	my ($count, $source) = @_;
	return wait_for("$count backups", sub { scalar(backups($source)) >= $count });
}

# --- intervals ---
query("SELECT walarchive.schedule_backups('prod', '10 s', compression => 'gzip:1')");
ok(wait_backups(3), 'backups are taken by themselves');
query("SELECT walarchive.unschedule_backups('prod')");
is(plan_of('count(*)'), '0', 'unscheduled: nothing is shown');
ok(wait_for('the launcher to know', sub { query(q(SELECT count(*) FROM walarchive.backup_plan() WHERE source = 'prod')) eq '0' }),
	'and none is begun any more');
ok(wait_for('the last backup to end', sub { query('SELECT count(*) FROM walarchive.stat_progress_backup') eq '0' }),
	'the last one ends');
my @taken = backups();
like("@taken", qr/^(\d{8}T\d{6}F ?)+$/, 'labels say when and what');
ok(wait_for('rows', sub {
		query("SELECT count(*) FROM walarchive.backup WHERE source = 'prod' AND kind = 'full' AND compression = 'gzip' AND state = 'usable'") eq scalar(@taken) }),
	'each is usable, and as it was asked for');
is(query("SELECT bool_and(gap >= '10 s') FROM (SELECT started_at - lag(started_at) OVER (ORDER BY started_at) AS gap FROM walarchive.backup WHERE source = 'prod') g"),
	't', 'none before its time');
is(query("SELECT count(*) FROM walarchive.health WHERE \"check\" = 'backup_schedule'"), '0', 'no schedule, no check');

# --- not due, and a restart ---
my $last = query("SELECT max(started_at) FROM walarchive.backup WHERE source = 'prod'");
query("SELECT walarchive.schedule_backups('prod', '1 day')");
ok(wait_plan("waiting_for = 'time'"), 'a longer interval: none is due');
is(plan_of("last_full = '$last' AND next_due = last_full + '1 day'::interval AND next_attempt = next_due AND next_kind = 'full' AND failures = 0"),
	't', 'counted from the last one');
ok(wait_health($host, 'prod', 'backup_schedule', 'ok'), 'and all is well');
$host->restart;
wait_streaming($host, 'prod');
ok(wait_plan("last_full = '$last' AND waiting_for = 'time' AND next_due = last_full + '1 day'::interval"),
	'the same after a restart');
is_deeply([ backups() ], \@taken, 'which repeats no backup');

# --- hours ---
my ($opens, $closes) = split(/\|/, query("SELECT date_trunc('second', l + '6 hours'::interval)::time, date_trunc('second', l + '8 hours'::interval)::time FROM (SELECT now() AT TIME ZONE 'Asia/Kolkata') x(l)"));
query("SELECT walarchive.schedule_backups('prod', '10 s', window_start => '$opens', window_end => '$closes')");
ok(wait_plan("next_due > now() + '1 hour'::interval AND full_interval = '10 s'"), 'in other hours');
is(plan_of("(next_due AT TIME ZONE 'Asia/Kolkata')::time = window_start AND waiting_for = 'time' AND next_due < now() + '6 hours 1 min'::interval"),
	't', 'they are those of the time zone in the host\'s configuration');
is_deeply([ backups() ], \@taken, 'no backup outside of them');
# overdue when the window is closed: what was missed yesterday
query("SELECT walarchive.schedule_backups('prod', '10 s', window_start => '$closes', window_end => '$opens')");
ok(wait_backups(scalar(@taken) + 1), 'they are open: a backup');
query("SELECT walarchive.schedule_backups('prod', '1 day')");
ok(wait_plan("waiting_for = 'time' AND last_full > '$last'"), 'and no more');
@taken = backups();

# --- failures ---
my $failed = scalar(journal_lines($host, 'prod', 'backup_failed'));
query("SELECT walarchive.alter_source('prod', backup_conninfo => 'host=127.0.0.1 port=1 connect_timeout=2', check_connection => false)");
query("SELECT walarchive.schedule_backups('prod', '20 s')");
# 2 s after the first, 4 s after the second, up to the schedule's interval
my $pause = "next_attempt = last_failure + least(20, power(2, failures)) * '1 s'::interval";
ok(wait_plan("waiting_for = 'retry' AND failures >= 1 AND $pause AND last_error ~* 'could not connect|connection'"),
	'the server for backups cannot be reached: that is said, and it is tried again soon');
ok(wait_plan("waiting_for = 'retry' AND failures >= 3 AND $pause"), 'and again, at growing intervals');
ok(wait_for('the health', sub {
		query("SELECT severity || ': ' || message || hint FROM walarchive.health WHERE source = 'prod' AND \"check\" = 'backup_schedule'")
		  =~ /^warning: the full backup that was due at .* has not begun \((retry|starting)\): .*tried again by itself/s }),
	'the health knows, and says why');

# the number of failures is no secret of the launcher's memory
$host->restart;
wait_streaming($host, 'prod');
ok(wait_plan("failures >= 4"), 'a restart does not begin to count anew');
my @failures = journal_lines($host, 'prod', 'backup_failed');
is_deeply([ backups() ], \@taken, 'no backup meanwhile');
is(scalar(others()), 0, 'nor the remains of one');

# the server is back
query("SELECT walarchive.alter_source('prod', backup_conninfo => '')");
ok(wait_backups(scalar(@taken) + 1), 'then it succeeds');
query("SELECT walarchive.schedule_backups('prod', '1 day')");
ok(wait_plan("failures = 0 AND waiting_for = 'time'"), 'and the failures are over');
ok(wait_health($host, 'prod', 'backup_schedule', 'ok'), 'in the health as well');
@failures = journal_lines($host, 'prod', 'backup_failed');
my @times = map { query("SELECT EXTRACT(epoch FROM '$_->{time}'::timestamptz)") } splice(@failures, $failed);
my @short = grep { $times[$_] - $times[ $_ - 1 ] < (2, 2, 4, 8, 16, 20)[ $_ > 5 ? 5 : $_ ] } 1 .. $#times;
is("@short", '', 'no attempt came too early') or diag("@times");
@taken = backups();

# --- cancelled: not again at once ---
query("SELECT walarchive.schedule_backups('prod', '1 day')");
query("SELECT walarchive.add_source('slow', '" . conninfo($primary) . "')");
wait_streaming($host, 'slow');
query("SELECT walarchive.schedule_backups('slow', '1 day', max_rate => 32)");
my $streams = "SELECT count(*) FROM walarchive.stat_progress_backup WHERE source = 'slow' AND scheduled AND phase = 'streaming database files'";
ok(wait_for('the backup', sub { query($streams) eq '1' }), 'a slow backup');
ok(wait_plan("waiting_for = 'running' AND next_attempt IS NULL", 'slow'), 'is shown');
is(query("SELECT walarchive.cancel_backup('slow')"), 't', 'and cancelled');
ok(wait_plan("waiting_for = 'retry' AND next_attempt > last_failure + '59 min'::interval", 'slow'), 'not again at once');
query("SELECT walarchive.schedule_backups('slow', '1 day', max_rate => 32)");
ok(wait_for('the backup', sub { query($streams) eq '1' }), 'a schedule that is set anew forgets that');

# --- the host goes down in the middle of a backup ---
$host->stop('fast');
is(scalar(backups('slow')) + scalar(others('slow')), 0, 'stopped: nothing is left of the backup');
$host->start;
ok(wait_for('the backup', sub { query($streams) eq '1' }), 'it is begun again at once');
ok(wait_plan("failures = 0 AND waiting_for = 'running'", 'slow'), 'that was no failure');
$host->stop('immediate');
is(scalar(others('slow')), 1, 'killed: the unfinished folder is left');
$host->start;
ok(wait_plan("failures = 1", 'slow'), 'that was one');
ok(wait_for('removal', sub { scalar(others('slow')) == 0 }), 'the remains are removed');
# on a slow machine that minute may be over
ok(wait_plan("failures = 1 AND last_error LIKE '%crash%' AND (waiting_for = 'running' OR next_attempt = last_failure + '1 min'::interval)", 'slow'),
	'and it is begun again a little later');
is(scalar(backups('slow')), 0, 'no half backup counts');

# --- what is there cannot be read: the launcher says so and goes on ---
my ($folder) = glob(archive_dir($host, 'prod') . '/*/backup');
my $launcher = query('SELECT launcher_pid FROM walarchive.host_state()');
my $logged = -s $host->logfile;
chmod(0000, $folder) or die "could not change the mode of $folder: $!";
query("SELECT walarchive.schedule_backups('prod', '1 day')");
ok(wait_plan("waiting_for = 'archive' AND last_error LIKE '%Permission denied%'"), 'the folder of backups cannot be read');
ok(wait_health($host, 'prod', 'backup_schedule', 'warning'), 'which the health tells');
ok(wait_plan("waiting_for IN ('retry', 'running')", 'slow'), 'other sources are looked after');
is(query('SELECT launcher_pid FROM walarchive.host_state()'), $launcher, 'by the same launcher');
chmod(0700, $folder) or die "could not change the mode of $folder: $!";
query("SELECT walarchive.schedule_backups('prod', '1 day')");
ok(wait_plan("waiting_for = 'time' AND last_full IS NOT NULL"), 'it can be read again');
my @warnings = slurp_file($host->logfile, $logged) =~ /(WARNING:  scheduled backups of source "prod" wait: .*)/g;
is(scalar(@warnings), 1, 'one warning');

# --- paused, and without a catalog ---
query("SELECT walarchive.pause_source('slow')");
wait_state($host, 'slow', 'paused');
# the slow backup may have begun again
query("SELECT walarchive.cancel_backup('slow')");
wait_for('no backup', sub { query(q(SELECT count(*) FROM walarchive.stat_progress_backup WHERE source = 'slow')) eq '0' });
query("SELECT walarchive.schedule_backups('slow', '10 s')");
ok(wait_plan("waiting_for = 'paused' AND next_attempt IS NULL", 'slow'), 'a paused source gets no backup');
ok(wait_health($host, 'slow', 'backup_schedule', 'warning'), 'which is worth a warning after a while');
ok(wait_for('no indexer', sub { query('SELECT indexers = 0 AND catalog_behind = 0 FROM walarchive.host_state()') eq 't' }), 'the settings are written');
query("SELECT walarchive.resume_source('slow')");
ok(wait_backups(1, 'slow'), 'resumed, it gets one');
query('DROP EXTENSION walarchive');
my $before = scalar(backups('slow'));
ok(wait_backups($before + 2, 'slow'), 'without a catalog backups go on');
query('CREATE EXTENSION walarchive');
ok(wait_plan("full_interval = '10 s' AND last_full IS NOT NULL", 'slow'), 'a new catalog knows the schedule');
is_deeply([ backups() ], \@taken, 'the daily one had nothing to do all the time');

my ($rc, $out, $err) = $host->psql('postgres', "SELECT walarchive.schedule_backups('prod', '1 day', incremental_interval => '1 hour')");
like($err, qr/cannot do incremental backups.*PostgreSQL 1[56]/s, 'an old server does no incremental ones')
  if $primary->pg_version < 17;

done_testing();
