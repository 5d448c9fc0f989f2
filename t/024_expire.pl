# A disk is filling.  What no backup needs any more is let go, again and again,
# over a failover, while the archive host is killed between any two steps of it,
# cannot remove a file, or loses its catalog in the middle.  Each time what was
# announced is gone, and nothing else: every backup that was to be kept restores
# to the last commit, and to the archive what is gone is neither a gap nor damage.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalFaults;

my $host = new_archive_host('archive', start => 0);
start_with_faults($host);
$host->safe_psql('postgres', 'CREATE EXTENSION walarchive');
my $primary = new_primary('primary');
$primary->safe_psql('postgres', 'CREATE TABLE t (i int)');
add_source($host, 'prod', $primary);
my $wal = wal_dir($host, 'prod');
my $backups = $wal;
$backups =~ s{wal$}{backup};
my $rows = 0;
my $copies = 0;

sub sql { return $host->safe_psql('postgres', $_[0]); }

# Something to do, over some segments.
sub work
{
	my ($node) = @_;
	for (1 .. 4)
	{
		$rows++;
		$node->safe_psql('postgres', "INSERT INTO t VALUES ($rows)");
		switch_wal($node, 1);
	}
	wait_archived($host, 'prod', $node);
	return;
}

sub take
{
	my ($label) = @_;
	sql("SELECT walarchive.take_backup('prod', label => '$label')");
	wait_for("$label to be usable", sub { sql("SELECT state FROM walarchive.backup WHERE label = '$label'") eq 'usable' })
	  or BAIL_OUT("$label: " . sql("SELECT concat_ws(' ', state, reason) FROM walarchive.backup WHERE label = '$label'"));
	return;
}

sub labels
{
	opendir(my $dh, $backups) or return '';
	return join(' ', sort grep { !/^\./ } readdir($dh));
}

# Finished segments and histories, and partial segments that were left: all but
# the one that the newest timeline has open, whether the catalog knows it or not.
sub files
{
	my @all = wal_files($wal, partial => 1);
	my ($newest) = sort { $b cmp $a } map { substr($_, 0, 8) } grep { !/history/ } @all;
	return grep { !/^$newest.*\.partial$/ } @all;
}

# What would go, by name.
sub announced
{
	my ($keep) = @_;
	my %gone;
	for my $line (split(/\n/, sql("SELECT first_file, last_file FROM walarchive.expire('prod', $keep) WHERE kind = 'wal' AND action = 'remove'")))
	{
		my ($first, $last) = split(/\|/, $line);
		$gone{$_} = 1 for grep { substr($_, 0, 24) ge $first && substr($_, 0, 24) le $last && !/history/ } files();
	}
	return \%gone;
}

# All is indexed, and so many backups are usable.
sub wait_indexed
{
	my ($usable) = @_;
	return poll_psql($host, qq(SELECT (SELECT count(*) FROM walarchive.segment WHERE decode_state = 'pending' AND state = 'finished') = 0
		AND (SELECT count(*) FROM walarchive.backup WHERE state = 'usable') = $usable));
}

# Nothing is left to do.
sub wait_done
{
	my ($what) = @_;
	return poll_psql($host, q(SELECT (SELECT count(*) FROM walarchive.removal_order) = 0
		AND (SELECT count(*) FROM walarchive.backup WHERE state = 'deleting') = 0)) || diag($what);
}

# Does all that knows of files agree?
sub agrees
{
	my ($what, %opt) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $same = sub {
		my $known = sql(q(SELECT string_agg(CASE state WHEN 'partial' THEN name || '.partial' ELSE name END, ' '
			ORDER BY timeline, start_lsn) FROM walarchive.segment));
		return $known eq join(' ', grep { !/history/ } wal_files($wal, partial => 1));
	};
	ok(wait_for('the catalog to have the files', $same), "$what: the catalog has the files that are there")
	  or diag(sql('SELECT string_agg(name, \' \' ORDER BY timeline, start_lsn) FROM walarchive.segment'), "\n", join(' ', wal_files($wal, partial => 1)));
	is(sql('SELECT count(*) FROM walarchive.gap WHERE closed_at IS NULL'), '0', "$what: there is no gap");
	# (unknown while files and catalog are being compared)
	ok(wait_health($host, 'prod', 'gap', 'ok'), "$what: nor in the health");
	is(sql("SELECT string_agg(file || ' ' || problem, E'\\n') FROM walarchive.verify('prod')"), '', "$what: no file is damaged or missing");
	is(sql(q(SELECT count(*) FROM walarchive.timeline t
		WHERE t.first_lsn IS DISTINCT FROM (SELECT min(s.start_lsn) FROM walarchive.segment s WHERE s.timeline = t.timeline)
			OR t.segments <> (SELECT count(*) FROM walarchive.segment s WHERE s.timeline = t.timeline AND s.state = 'finished'))),
		'0', "$what: timelines are counted right");
	my $sums = read_file_bytes("$wal/../wal.sha256");
	is(join(' ', grep { !-e "$wal/$_" } $sums =~ /^[0-9a-f]{64}  (\S+)$/mg), '', "$what: wal.sha256 has none but these")
	  unless $opt{unfinished};
	ok(system("cd '$wal' && sha256sum --quiet --ignore-missing -c ../wal.sha256") == 0, "$what: wal.sha256 is right");
	return;
}

# Unpack a backup by hand, start it on what is archived, and look.
sub restores
{
	my ($label) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $node = PostgreSQL::Test::Cluster->new("copy_$label" . ++$copies);
	my $staged = PostgreSQL::Test::Utils::tempdir();
	copy_wal($wal, $staged);
	mkdir $node->data_dir;
	system_or_bail('tar', '-x', '-C', $node->data_dir, '-f', "$backups/$label/base.tar");
	chmod(0700, $node->data_dir);
	unlink($node->data_dir . '/tablespace_map');
	$node->append_conf('postgresql.conf', "port = " . $node->port . "\nunix_socket_directories = '" . $node->host
		  . "'\nlisten_addresses = ''\nrestore_command = 'cp $staged/%f %p'\nsynchronous_standby_names = ''\n");
	append_to_file($node->data_dir . '/recovery.signal', '');
	$node->start;
	ok(wait_for("$label to be recovered", sub { $node->safe_psql('postgres', 'SELECT pg_is_in_recovery()') eq 'f' }),
		"$label: a restore of it ends");
	is($node->safe_psql('postgres', 'SELECT count(*), max(i) FROM t'), "$rows|$rows", "$label: with all that was committed");
	$node->stop('immediate');
	return;
}

# --- two backups, a failover, a third ---
work($primary);
take('one');
work($primary);
take('two');
work($primary);
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));
$primary->stop('fast');
$standby->promote;
sql("SELECT walarchive.alter_source('prod', conninfo => '" . conninfo($standby) . "')");
ok(wait_for('timeline 2', sub { stat_of($host, 'prod', 'coalesce(received_tli, 0)') eq '2' }), 'the archive follows a failover');
work($standby);
take('three');
work($standby);
agrees('before anything goes');

# --- by default it only talks ---
my @before = files();
my $gone = announced(2);
cmp_ok(scalar(keys %$gone), '>', 3, 'there is something to go');
is(sql("SELECT string_agg(label, ' ' ORDER BY label) FROM walarchive.expire('prod', 2) WHERE kind = 'backup' AND action = 'remove'"),
	'one', 'the oldest backup would go');
is(sql('SELECT count(*) FROM walarchive.removal_order'), '0', 'nothing is ordered');
is($host->psql('postgres', "BEGIN; SELECT count(*) FROM walarchive.expire('prod', 1, dry_run => false); ROLLBACK"), 0, 'nor after a rollback');
sql("SELECT walarchive.rescan('prod')");
wait_indexed(3);
is(join(' ', files()), join(' ', @before), 'nothing is gone');
is(labels(), 'one three two', 'no backup either');

# --- two are kept, one on each timeline ---
sql("SELECT count(*) FROM walarchive.expire('prod', 2, dry_run => false)");
wait_done('the first is expired');
is(labels(), 'three two', 'the oldest backup is gone');
is(join(' ', files()), join(' ', grep { !$gone->{$_} } @before), 'the WAL that was announced is gone, and nothing else');
ok(-e "$wal/00000002.history", 'the history is there');
agrees('two are kept');
is(sql("SELECT gaps FROM walarchive.rescan('prod')"), '0', 'nor does a rescan find a gap');
wait_indexed(2);
agrees('after a rescan');
wait_archived($host, 'prod', $standby);
restores('two');
restores('three');

# --- while all is being verified ---
work($standby);
take('verified');
work($standby);
wait_indexed(3);
$gone = announced(1);
arm_faults($host, 'open:DELAY=2000000:/wal/0000');
my $verify = start_sql($host, "SELECT * FROM walarchive.verify('prod')");
ok(poll_psql($host, q(SELECT count(*) > 0 FROM walarchive.stat_progress_verify WHERE phase = 'verifying segments')), 'a verification has begun');
sql("SELECT count(*) FROM walarchive.expire('prod', 1, dry_run => false)");
ok(wait_for('files to go', sub { !grep { -e "$wal/$_" } keys %$gone }), 'files go meanwhile');
ok(!sql_done($verify), 'before it has come to its end');
disarm_faults($host);
is(join('|', (sql_result($verify))[0, 1]), '0|', 'it misses none of them');
wait_done('while all is verified');
agrees('after that');

# --- killed at any step ---
my $round = 0;
for my $point ('rename:KILL:.deleted:1', 'unlink:KILL:FIRST:1', 'unlink:KILL_AFTER:MIDDLE:1', 'open:KILL:wal.sha256.tmp:1',
	'rename:KILL:wal.sha256:1', 'rename:KILL_AFTER:wal.sha256:1')
{
	my $label = 'k' . ++$round;
	work($standby);
	take($label);
	work($standby);
	@before = files();
	$gone = announced(1);
	my @going = sort keys %$gone;
	my $rule = $point;
	$rule =~ s/FIRST/$going[0]/;
	$rule =~ s/MIDDLE/$going[int(@going \/ 2)]/;
	my $offset = -s $host->logfile;
	arm_faults($host, $rule);
	# once it is committed the kill may come before the session's end
	$host->psql('postgres', "SELECT count(*) FROM walarchive.expire('prod', 1, dry_run => false)");
	ok(wait_for('a kill', sub { slurp_file($host->logfile, $offset) =~ /was terminated by signal 9/ }), "$point: the host is killed");
	wait_done($point);
	disarm_faults($host);
	poll_psql($host, q(SELECT state = 'streaming' FROM walarchive.stat_receiver WHERE source = 'prod'));
	is(labels(), $label, "$point: one backup is left");
	my %now = map { $_ => 1 } files();
	is(join(' ', grep { !$now{$_} } @before), join(' ', @going), "$point: what was announced is gone, and nothing else");
	agrees($point);
	is(sql("SELECT state FROM walarchive.backup WHERE label = '$label'"), 'usable', "$point: the backup is usable");
}
wait_archived($host, 'prod', $standby);
restores("k$round");

# --- a file that can't be removed, and a catalog that is lost meanwhile ---
work($standby);
take('last');
work($standby);
@before = files();
$gone = announced(1);
my @going = sort keys %$gone;
my $stuck = $going[int(@going / 2)];
arm_faults($host, "unlink:EIO:$stuck");
sql("SELECT count(*) FROM walarchive.expire('prod', 1, dry_run => false)");
ok(wait_for('an error', sub { $host->safe_psql('postgres', q(SELECT count(*) FROM walarchive.event WHERE kind = 'expired')) > 0 && !-e "$wal/$going[0]" }),
	'some files are gone');
ok(-e "$wal/$stuck", 'one is not');
is(sql('SELECT count(*) FROM walarchive.removal_order') > 0, 1, 'which is not forgotten');
work($standby);
ok(poll_psql($host, q(SELECT count(*) = 0 FROM walarchive.segment WHERE state = 'finished' AND decode_state = 'pending')),
	'and keeps no WAL from being indexed');
sql('DROP EXTENSION walarchive CASCADE');
disarm_faults($host);
sql('CREATE EXTENSION walarchive');
ok(wait_indexed(1), 'the catalog is made anew, with the backup that is left');
ok(-e "$wal/$stuck", 'nobody remembers what was to go');
agrees('after the loss of the catalog', unfinished => 1);
cmp_ok(sql('SELECT count(*) FROM walarchive.removed_wal'), '>', 0, 'the journal says what need not be there');
sql("SELECT count(*) FROM walarchive.expire('prod', 1, dry_run => false)");
wait_done('the rest');
my %now = map { $_ => 1 } files();
is(join(' ', grep { !$now{$_} } @before), join(' ', @going), 'the rest goes the next time');
agrees('in the end');
wait_archived($host, 'prod', $standby);
restores('last');

done_testing();
