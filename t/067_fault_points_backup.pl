# A backup, the removal of one, expiry and the adoption of a directory make some
# twenty system calls between them that change files of the archive.  Each fails
# once, with EIO and with ENOSPC where that can be, and at each the process is
# killed once, by name, in a build of the module in which each is a fault point
# (src/state/fault_point.h; t/066 walks through those of the WAL's way).  A backup
# is whole or it is none; what was to go is gone in the end, and nothing else;
# the journal says what is so; and the next try works.
use strict;
use warnings FATAL => 'all';

use Digest::SHA;
use Errno qw(EIO ENOSPC);
use File::Copy qw(copy);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use WalArchive;
use WalFaults;

my ($points, $conf) = fault_point_conf();
my $host = new_archive_host('archive', install_path => install_fault_points(), conf => $conf);
my $primary = new_primary('primary', conf => "wal_keep_size = 2GB\n");
$primary->safe_psql('postgres', 'CREATE TABLE t (i int)');
add_source($host, 'prod', $primary);
wait_streaming($host, 'prod');
my $wal = wal_dir($host, 'prod');
(my $cluster = $wal) =~ s!/wal$!!;
my $rows = 0;
my %walked;

# Whatever the host is going through: it may have crashed.
sub sql
{
	my ($sql) = @_;
	my $out;
	wait_for($sql, sub { defined($out = try_psql($host, $sql)) }) or BAIL_OUT("the host does not run $sql");
	return $out;
}

sub strikes
{
	my ($name) = @_;
	my %point = fault_points($points);
	return $point{$name}{struck};
}

sub wait_strike
{
	my ($what, $name, $before) = @_;
	$walked{$name}{$what} = 1;
	return ok(wait_for("$name to strike", sub { strikes($name) > $before }), "$name, $what: it struck");
}

# Arm a point so that the process dies, whereupon all of the host's are started
# anew.  Returns how often it has struck before.
my $before_kill;

sub arm_kill
{
	my ($name, $how, %opt) = @_;
	$before_kill = sql("SELECT pid FROM walarchive.stat_receiver WHERE source = 'prod'");
	return arm_point($points, $name, $how, count => 1, %opt);
}

# The host streams; after a kill, with processes of after it.
sub is_back
{
	my $other = $before_kill ? " AND pid <> $before_kill" : '';
	poll_psql($host, "SELECT state = 'streaming'$other FROM walarchive.stat_receiver WHERE source = 'prod'")
	  or BAIL_OUT('streaming does not come back');
	$before_kill = undef;
	return;
}

# Some segments with a row in each.
sub work
{
	for (1 .. 2)
	{
		$rows++;
		$primary->safe_psql('postgres', "INSERT INTO t VALUES ($rows)");
		switch_wal($primary, 1);
	}
	is_back();
	poll_psql($host, "SELECT flushed_lsn >= '"
		  . $primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()')
		  . "' FROM walarchive.stat_receiver WHERE source = 'prod'")
	  or BAIL_OUT('the archive does not come to the end');
	return;
}

# ---- backups ----

# Names in the folder of backups.
sub folders
{
	opendir(my $dh, "$cluster/backup") or return ();
	my @names = sort grep { !/^\.\.?$/ } readdir($dh);
	closedir($dh);
	return @names;
}

sub state_of { return sql("SELECT coalesce((SELECT state FROM walarchive.backup WHERE source = 'prod' AND label = '$_[0]'), 'none')"); }

sub wait_state_of
{
	my ($label, $state) = @_;
	return poll_psql($host,
		"SELECT coalesce((SELECT state FROM walarchive.backup WHERE source = 'prod' AND label = '$label'), 'none')", $state);
}

# The kinds of the journal's lines about a backup, oldest first.
sub told
{
	my ($label) = @_;
	return map { $_->{kind} } grep { ($_->{label} // '') eq $label } journal_lines($host, 'prod');
}

# What makes it a backup; notes of it, and of its verifications, may change.
sub sums_of
{
	my ($label) = @_;
	return join(' ', map { Digest::SHA->new(256)->addfile("$cluster/backup/$label/$_", 'b')->hexdigest } qw(backup.json backup_manifest base.tar));
}

# It is listed, and each byte of it is as its manifest has it.
sub is_usable
{
	my ($what, $label) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(wait_state_of($label, 'usable'), "$what: $label is usable");
	is(sql("SELECT string_agg(concat_ws(' ', file, problem), ', ') FROM walarchive.verify_backup('prod', '$label')"),
		'', "$what: and whole");
	return;
}

# Neither listed as usable, nor any of it there; and that is known.
sub is_gone
{
	my ($what, $label, $state) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(wait_for('its files to go', sub { !grep { /^\Q$label\E(\.|$)/ } folders() }), "$what: nothing of $label is left")
	  or diag(join(' ', folders()));
	ok(wait_state_of($label, $state), "$what: the catalog says that it is $state") or diag(state_of($label));
	return;
}

my %taken = map { $_ => 1 } qw(backup-create backup-write backup-fsync backup-rename backup-parent-fsync backup-spill-create backup-spill-write);
my $tries = 0;
sql("SELECT walarchive.take_backup('prod', label => 'good')");
is_usable('before', 'good');
my $good = sums_of('good');

# What can be recovered is derived anew after a crash or a rescan: it may wait for that.
sub is_untouched
{
	my ($what, $label, $sums) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(sums_of($label), $sums, "$what: the backup that is to stay is as it was");
	ok(wait_state_of($label, 'usable'), "$what: and usable") or diag(state_of($label));
	return;
}

sub good_is_untouched { return is_untouched($_[0], 'good', $good); }

foreach my $name (sort keys %taken)
{
	foreach my $error (EIO, $name =~ /create|write/ ? ENOSPC : ())
	{
		my $what = "$name " . ($error == EIO ? 'fails' : 'finds no room');
		my $label = 'b' . ++$tries;
		my $struck = arm_point($points, $name, 'fail', errno => $error, count => 1);
		my ($code, $out, $err) = sql_result(start_sql($host, "SELECT walarchive.take_backup('prod', label => '$label')"));
		wait_strike($error == EIO ? 'fails' : 'finds no room', $name, $struck);
		disarm_points($points);
		isnt($code, 0, "$what: there is no backup");
		my $text = $error == EIO ? 'Input/output error' : 'No space left on device';
		like($err, qr/ERROR:  backup "$label" of source "prod" failed: could not .*: $text\n(.*\n)*HINT:  \w/, "$what: the error says why, and what to do");
		is_gone($what, $label, 'failed');
		my ($line) = grep { ($_->{label} // '') eq $label && $_->{kind} eq 'backup_failed' } journal_lines($host, 'prod');
		is($line->{cause}, $error == ENOSPC ? 'disk_full' : $name =~ /fsync/ && $name !~ /parent/ ? 'sync_failed' : 'io_error',
			"$what: the journal says so as well");
		is(scalar(grep { $_ eq 'backup_finished' } told($label)), 0, "$what: and not that it was finished");
	}
	good_is_untouched("$name fails");

	foreach my $how ('kill', $name eq 'backup-rename' ? 'kill_after' : ())
	{
		my $what = "$name $how";
		my $label = 'b' . ++$tries;
		my $struck = arm_kill($name, $how);
		sql_result(start_sql($host, "SELECT walarchive.take_backup('prod', label => '$label')"));
		wait_strike($how eq 'kill' ? 'killed' : 'killed after it', $name, $struck);
		disarm_points($points);
		is_back();
		if ($name eq 'backup-parent-fsync' || $what eq 'backup-rename kill_after')
		{
			# it has its name, and nothing in it is missing
			is_usable($what, $label);
			is(scalar(grep { $_ eq 'backup_failed' } told($label)), 0, "$what: and nobody says that it failed");
		}
		else
		{
			is_gone($what, $label, 'failed');
			is(scalar(grep { $_ eq 'backup_finished' } told($label)), 0, "$what: the journal does not say that it was finished");
		}
	}
	good_is_untouched("$name killed");
}

# half a write is no error
{
	my $struck = arm_point($points, 'backup-write', 'short');
	my $spilt = arm_point($points, 'backup-spill-write', 'short');
	is((sql_result(start_sql($host, "SELECT walarchive.take_backup('prod', label => 'halves')")))[0], 0, 'writes that write half: the backup is taken');
	wait_strike('cut short', 'backup-write', $struck);
	wait_strike('cut short', 'backup-spill-write', $spilt);
	disarm_points($points);
	is_usable('writes that write half', 'halves');
}

# ---- a backup that goes ----

foreach my $name (qw(backup-remove-file backup-remove-folder backup-doom-rename backup-doom-fsync))
{
	# one that was taken, by order
	my $label = 'd' . ++$tries;
	sql("SELECT walarchive.take_backup('prod', label => '$label')");
	ok(wait_state_of($label, 'usable'), "$name: a backup");
	my $struck = arm_point($points, $name, 'fail', errno => EIO);
	is($host->psql('postgres', "SELECT walarchive.delete_backup('prod', '$label')"), 0, "$name: it is to go");
	wait_strike('fails', $name, $struck);
	isnt(state_of($label), 'usable', "$name fails: it is not listed as usable");
	$struck = arm_kill($name, 'kill');
	wait_strike('killed', $name, $struck);
	disarm_points($points);
	is_back();
	is_gone("$name, by order", $label, 'none');

	# what was received before an error, and the error's own removal fails
	$label = 'd' . ++$tries;
	$struck = arm_point($points, $name, 'fail', errno => EIO);
	arm_point($points, 'backup-rename', 'fail', errno => EIO, count => 1);
	isnt((sql_result(start_sql($host, "SELECT walarchive.take_backup('prod', label => '$label')")))[0], 0, "$name: a backup fails");
	wait_strike('fails after an error', $name, $struck);
	ok(!grep({ $_ eq $label } folders()), "$name fails: nothing has the name of the backup");
	isnt(state_of($label), 'usable', "$name fails: nor is it listed as usable");
	disarm_points($points);
	sql("SELECT segments FROM walarchive.rescan('prod')");
	is_gone("$name, after an error", $label, 'failed');
	good_is_untouched($name);
}

# ---- expiry ----

# What the archive has of segments, open ones left out.
sub files { return grep { !/history/ } wal_files($wal); }

# What would go, by name.
sub announced
{
	my ($keep) = @_;
	my %gone;
	for my $line (split(/\n/, sql("SELECT first_file, last_file FROM walarchive.expire('prod', $keep) WHERE kind = 'wal' AND action = 'remove'")))
	{
		my ($first, $last) = split(/\|/, $line);
		$gone{$_} = 1 for grep { $_ ge $first && $_ le $last } files();
	}
	return \%gone;
}

sub has_sums
{
	my ($what) = @_;
	my %sum;
	ok( wait_for('wal.sha256 to be right', sub {
				%sum = map { reverse split /  / } split /\n/, read_file_bytes("$cluster/wal.sha256");
				join(' ', sort keys %sum) eq join(' ', sort(files())) }),
		"$what: wal.sha256 has the files that are there") or diag(join(' ', sort keys %sum), "\n", join(' ', files()));
	is(join(' ', grep { ($sum{$_} // '') ne Digest::SHA->new(256)->addfile("$wal/$_", 'b')->hexdigest } files()),
		'', "$what: and their sums");
	return;
}

foreach my $name (qw(expire-remove expire-fsync expire-sums-remove expire-sums-create expire-sums-write expire-sums-fsync expire-sums-rename))
{
	my $label = 'e' . ++$tries;
	work();
	sql("SELECT walarchive.take_backup('prod', label => '$label')");
	ok(wait_state_of($label, 'usable'), "$name: a backup to keep");
	work();
	poll_psql($host, "SELECT count(*) = 0 FROM walarchive.segment WHERE state = 'finished' AND (decode_state = 'pending' OR sha256 IS NULL)")
	  or BAIL_OUT('the indexer does not come to the end');
	my $kept = sums_of($label);
	my @before = files();
	my $gone = announced(1);
	cmp_ok(scalar(keys %$gone), '>', 1, "$name: there is something to go");
	my $struck = arm_point($points, $name, 'fail', errno => EIO);
	is($host->psql('postgres', "SELECT count(*) FROM walarchive.expire('prod', 1, dry_run => false)"), 0, "$name: it is ordered");
	wait_strike('fails', $name, $struck);
	my %now = map { $_ => 1 } files();
	is(join(' ', grep { !$now{$_} && !$gone->{$_} } @before), '', "$name fails: nothing else is gone");
	is_untouched("$name fails", $label, $kept);
	if ($name =~ /write/)
	{
		$struck = arm_point($points, $name, 'short', count => 1);
		wait_strike('cut short', $name, $struck);
		# what is written then is right; a segment more makes it be written again
		disarm_points($points);
		ok(wait_for('it to be done', sub { sql('SELECT count(*) FROM walarchive.removal_order') eq '0' }), "$name is cut short: it is done");
		has_sums("$name is cut short");
		$label = 'e' . ++$tries;
		work();
		sql("SELECT walarchive.take_backup('prod', label => '$label')");
		ok(wait_state_of($label, 'usable'), "$name: another backup to keep");
		work();
		poll_psql($host, "SELECT count(*) = 0 FROM walarchive.segment WHERE state = 'finished' AND (decode_state = 'pending' OR sha256 IS NULL)");
		$kept = sums_of($label);
		@before = files();
		$gone = announced(1);
		$struck = arm_kill($name, 'kill');
		$host->psql('postgres', "SELECT count(*) FROM walarchive.expire('prod', 1, dry_run => false)");
	}
	else
	{
		$struck = arm_kill($name, 'kill');
	}
	wait_strike('killed', $name, $struck);
	disarm_points($points);
	is_back();
	ok(poll_psql($host, q(SELECT (SELECT count(*) FROM walarchive.removal_order) = 0
		AND (SELECT count(*) FROM walarchive.backup WHERE state = 'deleting') = 0)), "$name: it is done in the end");
	is(join(' ', grep { -e "$wal/$_" } keys %$gone), '', "$name: what was announced is gone");
	%now = map { $_ => 1 } files();
	is(join(' ', grep { !$now{$_} && !$gone->{$_} } @before), '', "$name: and nothing else");
	ok(wait_for('folders to go', sub { join(' ', folders()) eq $label }), "$name: one backup is left") or diag(join(' ', folders()));
	is_untouched($name, $label, $kept);
	has_sums($name);
	ok(!-e "$cluster/wal.sha256.tmp", "$name: no file is left over");
	is(sql('SELECT count(*) FROM walarchive.gap'), '0', "$name: what is gone is no gap");
}

# ---- a directory that is adopted ----

my $other = conninfo($primary);
work() for 1 .. 3;
foreach my $name (qw(attach-fsync attach-rename))
{
	my $folder = archive_dir($host, 'other');
	my @files = files();
	mkdir($folder, 0700) or die "could not make $folder: $!";
	foreach my $file (@files)
	{
		copy("$wal/$file", "$folder/$file") or die "could not copy $file: $!";
	}
	my $system = (split m!/!, $cluster)[-1];
	# each file is whole, under one of its two names
	my $whole = sub {
		my ($what) = @_;
		is(join(' ', grep { !(-e "$folder/$_" xor -e "$folder/$system/wal/$_")
				  || !same_file("$wal/$_", -e "$folder/$_" ? "$folder/$_" : "$folder/$system/wal/$_") } @files),
			'', "$what: no file is lost or there twice");
		is(sql("SELECT count(*) FROM walarchive.source WHERE name = 'other'"), '0', "$what: there is no source");
	};
	my $attach = "SELECT walarchive.attach_source('other', \$\$$other\$\$)";
	# some files have been moved by then
	my $passes = 1;
	foreach my $error (EIO, ENOSPC)
	{
		my $struck = arm_point($points, $name, 'fail', errno => $error, skip => $passes, count => 1);
		my ($code, $out, $err) = sql_result(start_sql($host, $attach));
		wait_strike($error == EIO ? 'fails' : 'finds no room', $name, $struck);
		disarm_points($points);
		isnt($code, 0, "$name fails: it is not attached");
		like($err, $error == EIO ? qr/ERROR:  could not .*: Input.output error/ : qr/ERROR:  could not .*: No space left on device/,
			"$name fails: the error says why");
		$whole->("$name fails");
	}
	my $struck = arm_kill($name, 'kill', skip => $passes);
	sql_result(start_sql($host, $attach));
	wait_strike('killed', $name, $struck);
	disarm_points($points);
	is_back();
	$whole->("$name killed");
	is((sql_result(start_sql($host, $attach)))[0], 0, "$name: the next try works");
	ok(poll_psql($host, "SELECT state = 'streaming' FROM walarchive.stat_receiver WHERE source = 'other'"), "$name: it streams");
	is(join(' ', grep { !same_file("$wal/$_", "$folder/$system/wal/$_") } @files), '', "$name: each file is where it belongs");
	is(join(' ', grep { -e "$folder/$_" } @files), '', "$name: and nowhere else");
	ok(poll_psql($host, "SELECT count(*) FROM walarchive.segment WHERE source = 'other' AND name IN (" . join(', ', map { "'$_'" } @files) . ')', scalar(@files)),
		"$name: the catalog has them all");
	sql("SELECT walarchive.drop_source(name, delete_files => true) FROM walarchive.source WHERE name = 'other'");
	ok(wait_for('it to be gone', sub { !-e $folder && sql("SELECT count(*) FROM walarchive.source WHERE name = 'other'") eq '0' }), "$name: it goes again");
	wait_for('its slot to be gone', sub { $primary->safe_psql('postgres',
				"SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'walarchive_other'") eq '0' });
}

# ---- each of them ----

my %known = fault_points($points);
is_deeply([ sort keys %walked ], [ sort grep { /^(backup|expire|attach)-/ } keys %known ], 'each point has been walked');
is(join(' ', grep { !$walked{$_}{fails} || !$walked{$_}{killed} } sort keys %walked), '', 'each has failed, and each has killed');
$host->stop;
$primary->stop;
done_testing();
