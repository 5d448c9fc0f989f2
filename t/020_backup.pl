# A person takes base backups and, months later, has nothing but the files: tar,
# cp and PostgreSQL's own programs must do.  Each backup, compressed or not, with
# tablespaces, from a primary under load and from a standby, is unpacked by hand,
# judged by pg_verifybackup, started with archived WAL, and has what the primary
# has.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;

my $host = new_archive_host('archive');
my $primary = new_primary('primary', conf => "max_wal_size = 64MB\nwal_keep_size = 64MB\n");
my $major = $primary->safe_psql('postgres', 'SHOW server_version_num') / 10000;
$major = int($major);
if ($major >= 17)
{
	$primary->append_conf('postgresql.conf', "summarize_wal = on\n");
	$primary->restart;
}

my $space = PostgreSQL::Test::Utils::tempdir_short();
$primary->safe_psql('postgres', "CREATE TABLESPACE other LOCATION '$space'");
$primary->safe_psql('postgres', q(
	CREATE TABLE here AS SELECT g AS id, md5(g::text) AS word FROM generate_series(1, 20000) g;
	CREATE TABLE there TABLESPACE other AS SELECT g AS id, md5(g::text) AS word FROM generate_series(1, 20000) g;
	CREATE TABLE big (id int, bytes text);
	INSERT INTO big SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, 5000) g));
my $space_oid = $primary->safe_psql('postgres', "SELECT oid FROM pg_tablespace WHERE spcname = 'other'");
add_source($host, 'prod', $primary);

sub backup_row
{
	my ($label, $columns) = @_;
	return $host->safe_psql('postgres', "SELECT $columns FROM walarchive.backup WHERE label = '$label'");
}

# Take one and wait until the catalog knows that it can be used.
sub take
{
	my ($label, $args) = @_;
	my ($code, $out, $err) = $host->psql('postgres',
		"SELECT walarchive.take_backup('prod', label => '$label'" . ($args ? ", $args" : '') . ')');
	is($code, 0, "$label is taken") or diag($err);
	is($out, $label, "$label: its label is returned");
	wait_for("$label to be usable", sub { backup_row($label, 'state') eq 'usable' })
	  or diag(backup_row($label, "concat_ws(' ', state, reason)"));
	return $err;
}

sub folder_of
{
	my ($label) = @_;
	my ($folder) = glob(archive_dir($host, 'prod') . "/[0-9]*/backup/$label");
	return $folder;
}

# What the tables have.
sub content_of
{
	my ($node) = @_;
	return $node->safe_psql('postgres', q(
		SELECT 'here', count(*), sum(hashtext(h::text)::bigint) FROM here h
		UNION ALL SELECT 'there', count(*), sum(hashtext(t::text)::bigint) FROM there t
		UNION ALL SELECT 'big', count(*), sum(hashtext(b::text)::bigint) FROM big b
		ORDER BY 1));
}

# Unpack with tar alone; returns the data directory and that of the tablespace.
sub unpack_by_hand
{
	my ($label) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $tblspc = PostgreSQL::Test::Utils::tempdir_short();
	my ($base) = glob(folder_of($label) . '/base.tar*');
	my ($other) = glob(folder_of($label) . "/$space_oid.tar*");
	my $how = sub {
		my ($file, $to) = @_;
		my $open = $file =~ /\.gz$/ ? "gzip -dc '$file'" : $file =~ /\.lz4$/ ? "lz4 -dc '$file'"
		  : $file =~ /\.zst$/ ? "zstd -dc '$file'" : "cat '$file'";
		return system("$open | tar -x -C '$to' -f -") == 0;
	};

	mkdir "$dir/data", 0700;
	ok($how->($base, "$dir/data"), "$label: tar reads it") or return;
	ok($how->($other, $tblspc), "$label: and the tablespace's") or return;
	# as the server does by tablespace_map
	symlink($tblspc, "$dir/data/pg_tblspc/$space_oid") or die "symlink: $!";
	system_or_bail('cp', folder_of($label) . '/backup_manifest', "$dir/data/backup_manifest");
	return ("$dir/data", $tblspc);
}

# Copies of the archived files under the names that recovery asks for.
sub wal_copy
{
	my $dir = PostgreSQL::Test::Utils::tempdir();
	copy_wal(wal_dir($host, 'prod'), $dir);
	return $dir;
}

# Is it a backup?  PostgreSQL's own judge, and a start on the archived WAL.
sub restore
{
	my ($label, $expected, $start) = @_;
	my ($base) = glob(folder_of($label) . '/base.tar*');
	my ($program) = $base =~ /\.gz$/ ? 'gzip' : $base =~ /\.lz4$/ ? 'lz4' : $base =~ /\.zst$/ ? 'zstd' : 'tar';
  SKIP:
	{
		skip "there is no program $program here", 1 if system("command -v $program >/dev/null") != 0;
		restore_it($label, $expected, $start);
	}
	return;
}

sub restore_it
{
	my ($label, $expected, $start) = @_;
	my ($data, $tblspc) = unpack_by_hand($label);
	return unless $data;
	my $wal = wal_copy();
	command_ok([ 'pg_verifybackup', '--wal-directory', $wal, $data ], "$label: pg_verifybackup accepts it");
	return unless $start;

	my $node = PostgreSQL::Test::Cluster->new("copy_$label");
	system_or_bail('rm', '-rf', $node->data_dir);
	system_or_bail('mv', $data, $node->data_dir);
	chmod(0700, $node->data_dir);
	# it would lead to the primary's folder, and a standby's copy to be another standby
	unlink($node->data_dir . '/tablespace_map') or die "no tablespace_map: $!";
	unlink($node->data_dir . '/standby.signal');
	$node->append_conf('postgresql.conf', "port = " . $node->port . "\nprimary_conninfo = ''\n"
		  . "unix_socket_directories = '" . $node->host . "'\nlisten_addresses = ''\n"
		  . "restore_command = 'cp $wal/%f %p'\nsynchronous_standby_names = ''\n");
	append_to_file($node->data_dir . '/recovery.signal', '');
	$node->start;
	wait_for("$label to be recovered",
		sub { $node->safe_psql('postgres', 'SELECT pg_is_in_recovery()') eq 'f' });
	is(content_of($node), $expected, "$label: started, it has what the primary has");
	$node->stop('immediate');
	return;
}

# --- each kind of compression, while there is something to do ---
my @kinds = (
	[ 'plain', "compression => 'none'", 'none', '' ],
	[ 'zstd', "compression => 'zstd:level=3'", 'zstd', '.zst' ],
	[ 'lz4', "compression => 'client-lz4', manifest_checksums => 'CRC32C'", 'lz4', '.lz4' ],
	[ 'gzip', "compression => 'gzip:1', manifest_checksums => 'SHA512'", 'gzip', '.gz' ],
	[ 'server', "compression => 'server-zstd', manifest_checksums => 'none'", 'zstd', '.zst' ]);
for my $kind (@kinds)
{
	my ($label, $args, $method, $suffix) = @$kind;
	my $busy = start_sql($primary,
		join('', map { "INSERT INTO here SELECT g, md5(g::text) FROM generate_series(1, 50) g; UPDATE there SET word = md5(word) WHERE id % 50 = $_;\n" } (1 .. 100)));
	take($label, $args);
	is(sql_result($busy), 0, "$label: meanwhile the primary was busy");

	my $folder = folder_of($label);
	opendir(my $dh, $folder) or die "no folder of $label";
	is(join(' ', sort grep { !/^\./ } readdir($dh)),
		join(' ', sort("$space_oid.tar$suffix", 'backup.json', 'backup_manifest', "base.tar$suffix")),
		"$label: its files, and no others");
	closedir($dh);
	my $size = 0;
	$size += -s $_ for grep { !/backup\.json$/ } glob("$folder/*");
	is(backup_row($label, 'kind, compression, size, from_standby, parent IS NULL, checksum_failures'),
		"full|$method|$size|f|t|0", "$label: its row");
	is(backup_row($label, 'tablespaces'), "$space_oid $space", "$label: the tablespace is in it");
	like(backup_row($label, 'manifest_sha256'), qr/^[0-9a-f]{64}$/, "$label: the manifest's checksum");
	is(backup_row($label, 'manifest_sha256'),
		Digest::SHA->new(256)->addfile("$folder/backup_manifest", 'b')->hexdigest, "$label: is the file's");
}
ok(wait_for('the last worker to leave', sub { $host->safe_psql('postgres', 'SELECT count(*) FROM walarchive.stat_progress_backup') eq '0' }), 'nothing is running');
is_deeply([ map { $_->{label} } journal_lines($host, 'prod', 'backup_finished') ], [ map { $_->[0] } @kinds ],
	'the journal has them all');

# so slow that somebody looks, and cancelled then
my $slow = start_sql($host, "SELECT walarchive.take_backup('prod', label => 'slow', max_rate => 32)");
ok(wait_for('a notice', sub { slurp_file("$slow->{dir}/err") =~ /NOTICE:  .*streaming database files/ }), 'psql is told how far it is');
is($host->safe_psql('postgres', "SELECT walarchive.cancel_backup('prod')"), 't', 'it is cancelled');
isnt((sql_result($slow))[0], 0, 'which ends it');

# a default label, an annotation, other options
my $asked = $host->safe_psql('postgres', q(SELECT date_trunc('second', clock_timestamp())));
my $label = $host->safe_psql('postgres',
	q(SELECT walarchive.take_backup('prod', checkpoint => 'spread', max_rate => 1048576, annotation => 'before the ''move''')));
like($label, qr/^\d{8}T\d{6}F$/, 'a backup without a label is called after the time');
wait_for('its row', sub { backup_row($label, 'count(*)') eq '1' });
is(backup_row($label, qq(to_timestamp(left(label, 15), 'YYYYMMDD"T"HH24MISS')::timestamp AT TIME ZONE 'UTC' BETWEEN '$asked' AND finished_at)),
	't', 'in UTC');
wait_for('its annotation', sub { backup_row($label, "coalesce(annotation, '')") eq "before the 'move'" });
is(backup_row($label, 'annotation'), "before the 'move'", 'what was noted of it is in the catalog');

# --- wait => false ---
is($host->safe_psql('postgres', q(SELECT walarchive.take_backup('prod', label => 'later', wait => false))),
	'later', 'a backup that nobody waits for');
ok(wait_for('it', sub { backup_row('later', 'state') eq 'usable' }), 'is taken all the same');

# --- from a standby ---
my $standby = PostgreSQL::Test::Cluster->new('standby');
sub wait_replayed
{
	my $lsn = $primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
	wait_for('the standby', sub { $standby->safe_psql('postgres', "SELECT pg_last_wal_replay_lsn() >= '$lsn'") eq 't' })
	  or BAIL_OUT('the standby does not follow');
}

my $mapped = PostgreSQL::Test::Utils::tempdir_short();
system_or_bail('pg_basebackup', '-D', $standby->data_dir, '-R', '-T', "$space=$mapped", '-c', 'fast',
	'-h', $primary->host, '-p', $primary->port);
chmod(0700, $standby->data_dir);
$standby->append_conf('postgresql.conf', 'port = ' . $standby->port . "\nunix_socket_directories = '" . $standby->host . "'\n");
$standby->start;
wait_replayed();
my $standby_conninfo = conninfo($standby);
$primary->safe_psql('postgres', 'INSERT INTO big SELECT g, md5(g::text) FROM generate_series(1, 1000) g; CHECKPOINT');
wait_replayed();
take('standby', "conninfo => '$standby_conninfo'");
is(backup_row('standby', 'from_standby, consistent_lsn >= start_lsn, consistent_lsn <= stop_lsn'), 't|t|t',
	'from a standby: it is known, and so is where it is consistent');

if ($major >= 17)
{
	# nothing was written since: the standby would begin where its last backup does
	my ($code, $out, $err) = $host->psql('postgres',
		"SELECT walarchive.take_backup('prod', 'incremental', label => 'quiet', parent => 'standby', conninfo => '$standby_conninfo')");
	like($err, qr/HINT:  The standby has made no restartpoint since the parent's end/, 'a quiet standby refuses, and the remedy is told');
	is(scalar(grep { ($_->{label} // '') eq 'quiet' } journal_lines($host, 'prod')), 0, 'that is no failure');
	$primary->safe_psql('postgres', 'INSERT INTO big SELECT g, md5(g::text) FROM generate_series(1, 10) g; SELECT pg_switch_wal(); CHECKPOINT');
	wait_replayed();
	$standby->safe_psql('postgres', 'CHECKPOINT');
	take('quiet', "kind => 'incremental', parent => 'standby', conninfo => '$standby_conninfo'");
}

# --- all of them are what they say ---
$primary->safe_psql('postgres', 'INSERT INTO there SELECT g, md5(g::text) FROM generate_series(1, 500) g');
my $expected = content_of($primary);
wait_archived($host, 'prod', $primary);
restore($_, $expected, /^(plain|server|standby)$/) for 'plain', 'zstd', 'lz4', 'gzip', 'server', 'standby';

# --- incremental ---
SKIP:
{
	skip "PostgreSQL $major has no incremental backups", 1 if $major < 17;
	take('link_0');
	$primary->safe_psql('postgres', 'UPDATE big SET id = id + 1 WHERE id < 100');
	take('link_1', "kind => 'incremental'");
	is(backup_row('link_1', 'kind, parent'), 'incremental|link_0', 'an incremental backup builds on the newest');
	$primary->safe_psql('postgres', 'UPDATE big SET id = id + 1 WHERE id > 4900');
	take('link_2', "kind => 'incremental', parent => 'link_1', compression => 'gzip'");
	$expected = content_of($primary);
	wait_archived($host, 'prod', $primary);

	my @links = map { [ unpack_by_hand($_) ] } 'link_0', 'link_1', 'link_2';
	my $wal = wal_copy();
	my $node = PostgreSQL::Test::Cluster->new('combined');
	my $combined = PostgreSQL::Test::Utils::tempdir_short();
	system_or_bail('rm', '-rf', $node->data_dir);
	rmdir $combined;
	command_ok([ 'pg_combinebackup', '-T', "$links[2][1]=$combined", '-o', $node->data_dir, map { $_->[0] } @links ],
		'pg_combinebackup accepts the chain');
	command_ok([ 'pg_verifybackup', '--wal-directory', $wal, $node->data_dir ], 'and pg_verifybackup what comes out of it');
	unlink($node->data_dir . '/tablespace_map');
	$node->append_conf('postgresql.conf', "port = " . $node->port . "\n"
		  . "unix_socket_directories = '" . $node->host . "'\nlisten_addresses = ''\nrestore_command = 'cp $wal/%f %p'\n");
	append_to_file($node->data_dir . '/recovery.signal', '');
	$node->start;
	wait_for('it to be recovered', sub { $node->safe_psql('postgres', 'SELECT pg_is_in_recovery()') eq 'f' });
	is(content_of($node), $expected, 'started, it has what the primary has');
	$node->stop('immediate');

	my ($code, $out, $err) = $host->psql('postgres', q(SELECT walarchive.take_backup('prod', 'incremental', parent => 'nothing')));
	like($err, qr/cannot build on backup "nothing"/, 'a parent that is not there is named');
}

done_testing();
