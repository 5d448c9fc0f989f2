# Disks rot, somebody copies the wrong file, a tool "repairs" an archive: years
# later a restore finds out.  verify_backup reads what is stored and finds it
# first: whatever is done to the files of a base backup, it names the file, the
# backup is no longer called usable, and mended it is again.
use strict;
use warnings FATAL => 'all';

use Digest::SHA;
use File::Copy qw(copy);
use FindBin;
use JSON::PP ();
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;

my $host = new_archive_host('archive');
my $primary = new_primary('primary');
my $space = PostgreSQL::Test::Utils::tempdir_short();
$primary->safe_psql('postgres', "CREATE TABLESPACE other LOCATION '$space'");
$primary->safe_psql('postgres', q(
	CREATE TABLE here AS SELECT g AS id, md5(g::text) AS word FROM generate_series(1, 20000) g;
	CREATE TABLE there TABLESPACE other AS SELECT g AS id FROM generate_series(1, 20000) g));
my $space_oid = $primary->safe_psql('postgres', "SELECT oid FROM pg_tablespace WHERE spcname = 'other'");
add_source($host, 'prod', $primary);

sub folder_of
{
	my ($label) = @_;
	my ($folder) = glob(archive_dir($host, 'prod') . "/[0-9]*/backup/$label");
	return $folder;
}

sub backup_row
{
	my ($label, $columns) = @_;
	return $host->safe_psql('postgres', "SELECT $columns FROM walarchive.backup WHERE label = '$label'");
}

sub take
{
	my ($label, $args) = @_;
	$host->safe_psql('postgres',
		"SELECT walarchive.take_backup('prod', label => '$label'" . ($args ? ", $args" : '') . ')');
	wait_for("$label to be usable", sub { backup_row($label, 'state') eq 'usable' })
	  or BAIL_OUT("$label does not become usable: " . backup_row($label, 'reason'));
	return;
}

# The answer, a line for each problem.
sub verify
{
	my ($label, $more) = @_;
	return $host->safe_psql('postgres',
		"SELECT concat_ws('|', file, problem) FROM walarchive.verify_backup('prod', '$label'" . ($more // '') . ')');
}

sub read_json
{
	my ($path) = @_;
	return JSON::PP::decode_json(read_file_bytes($path));
}

sub write_bytes
{
	my ($path, $bytes) = @_;
	open(my $fh, '>:raw', $path) or die "could not write $path: $!";
	print $fh $bytes;
	close($fh) or die "could not write $path: $!";
	return;
}

# Change one file of a backup by a function of its bytes, verify, put it back.
sub damaged
{
	my ($label, $file, $change, $wanted, $what) = @_;
	my $path = folder_of($label) . "/$file";
	my $saved = PostgreSQL::Test::Utils::tempdir() . '/saved';

	copy($path, $saved) or die "could not copy $path: $!";
	my $bytes = $change->(read_file_bytes($path));
	if (defined $bytes) { write_bytes($path, $bytes); }
	else { unlink($path) or die "could not remove $path: $!"; }
	my $answer = verify($label);
	like($answer, $wanted, $what) or diag(substr($answer, 0, 2000));
	isnt(backup_row($label, 'state'), 'usable', '... and it is not usable');
	copy($saved, $path) or die "could not copy $saved: $!";
	return $answer;
}

sub flip
{
	my ($bytes, $at, $mask) = @_;
	substr($bytes, $at, 1) = chr(ord(substr($bytes, $at, 1)) ^ ($mask // 1));
	return $bytes;
}

# The same with compressed bytes, from the middle on where it matters: a match in
# another place may have the same bytes there, and then all that is unpacked is the
# same.  As the format's own program says.
sub flip_compressed
{
	my ($bytes, $program) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/flipped';
	my $unpacked = sub {
		write_bytes($file, $_[0]);
		my $sum = `{ $program -dc <'$file' 2>/dev/null || echo failed; } | sha256sum`;
		return $sum;
	};

	BAIL_OUT("there is no program $program") if system("command -v $program >/dev/null") != 0;
	my $right = $unpacked->($bytes);
	for my $at (int(length($bytes) / 2) .. length($bytes) - 1)
	{
		my $flipped = flip($bytes, $at);
		return $flipped if $unpacked->($flipped) ne $right;
		note("byte $at may have another value");
	}
	die 'no bit matters';
}

# Where the content of a file begins in a tar.
sub place_of
{
	my ($tar, $name) = @_;
	my $at = index($tar, $name . "\0");
	# (of "base/1/PG_VERSION" it is the end of the name, and folders are in no order)
	$at = index($tar, $name . "\0", $at + 1) while $at >= 0 && $at % 512 != 0;
	die "no $name in the archive" if $at < 0;
	return $at + 512;
}

# --- good ones ---
take('plain');
for my $kind (qw(client-gzip client-lz4 client-zstd server-gzip))
{
	take($kind, "compression => '$kind'");
	is(verify($kind), '', "$kind: nothing is wrong");
}
for my $algorithm (qw(NONE CRC32C SHA224 SHA384 SHA512))
{
	take("sum-$algorithm", "manifest_checksums => '$algorithm'");
	is(verify("sum-$algorithm"), '', "checksums $algorithm: nothing is wrong");
}
is(backup_row('plain', 'verified_at IS NULL AND damage IS NULL'), 't', 'it was not verified yet');
is(verify('plain'), '', 'nothing is wrong');
is(backup_row('plain', "concat_ws('|', verified_at > finished_at, damage, state)"), 't|usable', 'that is noted');
wait_for('notes.json to have it', sub { -e folder_of('plain') . '/notes.json' && read_json(folder_of('plain') . '/notes.json')->{verified_at} });
ok(read_json(folder_of('plain') . '/notes.json')->{verified_at}, '... and in notes.json');

# --- what is done to an archive ---
my $relation = $primary->safe_psql('postgres', "SELECT pg_relation_filepath('here')");
damaged('plain', 'base.tar', sub { flip($_[0], place_of($_[0], $relation) + 100000) },
	qr/\A\Q$relation\E\|its SHA256 checksum is [0-9a-f]{64}, but [0-9a-f]{64} in the manifest\z/,
	'a flipped bit in a table: the table is named, and nothing else');
like(backup_row('plain', "concat_ws('|', state, reason, damage)"),
	qr/^broken\|its files are damaged: \Q$relation\E.*\|\Q$relation\E: its SHA256/, 'the catalog says so');
is(verify('plain'), '', 'mended');
ok(wait_for('it to be usable', sub { backup_row('plain', "concat_ws('|', state, damage)") eq 'usable' }), '... it is usable again');

my ($relation_there) = $primary->safe_psql('postgres', "SELECT pg_relation_filepath('there')");
damaged('plain', "$space_oid.tar",
	sub { flip($_[0], place_of($_[0], $relation_there =~ s{^pg_tblspc/\d+/}{}r) + 5) },
	qr/\A\Q$relation_there\E\|its SHA256 checksum/, 'a flipped bit in a tablespace: the path in the data directory is named');
damaged('plain', 'base.tar', sub { flip($_[0], place_of($_[0], $relation) - 512 + 124 + 5) },
	qr/^base\.tar\|the checksum of a tar header is wrong/, 'a flipped bit in a header');
damaged('plain', 'base.tar', sub { substr($_[0], 0, -1) }, qr/\Abase\.tar\|the archive ends too early\z/, 'its last byte is gone');
damaged('plain', 'base.tar', sub { substr($_[0], 0, length($_[0]) - 1024) },
	qr/\Abase\.tar\|the archive ends too early\z/, 'its end is gone');
my $cut = damaged('plain', 'base.tar', sub { substr($_[0], 0, place_of($_[0], $relation) + 4096) },
	qr/^base\.tar\|the archive ends too early \(in "\Q$relation\E"\)$/m, 'it was cut: the file in which it ends is named');
like($cut, qr/^base\.tar\|\d+ files of the manifest could not be found in it$/m, '... and the others are counted');
is(scalar(split(/\n/, $cut)), 2, '... not listed');
damaged('plain', 'base.tar', sub { '' }, qr/^base\.tar\|the archive ends too early$/m, 'it is empty');
damaged('plain', 'base.tar', sub { undef }, qr/\Abase\.tar\|it is missing\z/, 'it is missing');
damaged('plain', "$space_oid.tar", sub { undef }, qr/\A$space_oid\.tar\|it is missing\z/, "a tablespace's is missing");
damaged('plain', 'base.tar', sub { flip($_[0], length($_[0]) - 10) }, qr/^base\.tar\|/, 'something behind its end');
damaged('plain', 'base.tar', sub { $_[0] . substr($_[0], 0, 1024) }, qr/^base\.tar\|the archive goes on after its end$/m, 'more archive behind its end');
damaged('plain', 'base.tar',
	sub { my $at = place_of($_[0], 'PG_VERSION') - 512; substr($_[0], 0, $at) . substr($_[0], $at + 1024); },
	qr/\APG_VERSION\|it is in the manifest, but not in the archives\z/, 'a file was taken out');
damaged('plain', 'base.tar',
	sub { my $at = place_of($_[0], 'PG_VERSION') - 512; substr($_[0], 0, $at) . substr($_[0], $at, 1024) . substr($_[0], $at); },
	qr/\APG_VERSION\|it is in the archives twice\z/, 'a file is there twice');
damaged('plain', 'base.tar',
	sub {
		my $at = place_of($_[0], 'PG_VERSION') - 512;
		my $header = substr($_[0], $at, 512);
		substr($header, 0, 10) = 'evil' . "\0" x 6;
		substr($header, 148, 8) = ' ' x 8;
		substr($header, 148, 8) = sprintf("%06o\0 ", unpack('%32C*', $header));
		return substr($_[0], 0, $at) . $header . substr($_[0], $at + 512, 512) . substr($_[0], $at);
	},
	qr/\Aevil\|it is in the archives, but not in the manifest\z/, 'a file was put in');
damaged('plain', 'base.tar', sub { read_file_bytes(folder_of('sum-SHA512') . '/base.tar') },
	qr/^(backup_label|global\/pg_control)\|its SHA256 checksum/m, 'the archive of another backup');

# any bit: what is not content is covered by sums of the format
srand(4711);
my $tar = read_file_bytes(folder_of('plain') . '/base.tar');
my $missed = '';
for (1 .. 25)
{
	my $at = int(rand(length($tar)));
	write_bytes(folder_of('plain') . '/base.tar', flip($tar, $at, 1 << int(rand(8))));
	$missed .= " $at" if verify('plain') eq '';
}
write_bytes(folder_of('plain') . '/base.tar', $tar);
is($missed, '', 'flipped bits anywhere are found');
is(verify('plain'), '', 'mended');

# --- compressed ---
for my $kind (['client-gzip', 'gz', 'gzip'], ['client-lz4', 'lz4', 'lz4'], ['client-zstd', 'zst', 'zstd'])
{
	my ($label, $suffix, $program) = @$kind;
	my $file = "base.tar.$suffix";

	damaged($label, $file, sub { flip_compressed($_[0], $program) }, qr/./, "$suffix: a flipped bit");
	damaged($label, $file, sub { substr($_[0], 0, int(length($_[0]) / 2)) },
		qr/^base\.tar\.$suffix\|.*the compressed data ends too early/m, "$suffix: it was cut");
	damaged($label, $file, sub { $_[0] . 'x' }, qr/\Abase\.tar\.$suffix\|there is data after the end of the \w+ data\z/,
		"$suffix: something behind its end");
	damaged($label, $file, sub { '' }, qr/^base\.tar\.$suffix\|there is no compressed data$/m, "$suffix: it is empty");
	damaged($label, $file, sub { $tar }, qr/^base\.tar\.$suffix\|the \w+ data is damaged/m, "$suffix: it is not compressed at all");
	is(verify($label), '', 'mended');
}

# --- the manifest ---
my $manifest = read_file_bytes(folder_of('plain') . '/backup_manifest');
my $other = 'backup_manifest|it is not the file that the backup was stored with: its SHA-256 is another';
damaged('plain', 'backup_manifest', sub { $_[0] =~ s/"Size": (\d)/'"Size": ' . ($1 ^ 1)/er },
	qr/^backup_manifest is not what its own checksum says$/m, 'a changed manifest');
damaged('plain', 'backup_manifest',
	sub {
		# as a program would that knows the format
		my ($head) = $_[0] =~ /\A(.*\n)"Manifest-Checksum"/s;
		$head =~ s/("Path": "PG_VERSION".*?"Checksum": ")[0-9a-f]{4}/${1}0000/;
		return $head . '"Manifest-Checksum": "' . Digest::SHA::sha256_hex($head) . "\"}\n";
	},
	qr/^PG_VERSION\|its SHA256 checksum is .*^\Q$other\E$/ms, 'a forged manifest');
damaged('plain', 'backup_manifest', sub { substr($_[0], 0, 1000) }, qr/\Abackup_manifest can't be read: the manifest ends too early/,
	'a manifest that was cut');
damaged('plain', 'backup_manifest', sub { read_file_bytes(folder_of('client-lz4') . '/backup_manifest') },
	qr/^\Q$other\E$/m, "another backup's manifest");
damaged('plain', 'backup_manifest', sub { undef }, qr/\Abackup_manifest\|it is missing\z/, 'no manifest');

# --- backup.json ---
damaged('plain', 'backup.json', sub { undef }, qr/\Abackup\.json\|file ".*" is missing\z/, 'no backup.json');
damaged('plain', 'backup.json', sub { substr($_[0], 0, 100) }, qr/\Abackup\.json\|file ".*" is damaged/, 'a backup.json that was cut');
damaged('plain', 'backup.json', sub { read_file_bytes(folder_of('client-lz4') . '/backup.json') },
	qr/^backup\.json\|file ".*" is damaged: its "label" is not the folder's name$/m, "another backup's backup.json");
damaged('plain', 'backup.json',
	sub { read_file_bytes(folder_of('sum-SHA384') . '/backup.json') =~ s/sum-SHA384/plain/r },
	qr/^backup\.json\|its manifest_sha256 is not the one that the catalog has$/m, '... given this label');
damaged('plain', 'backup.json', sub { $_[0] =~ s/("stop_lsn": ?")[^"]*/${1}FF\/0/r },
	qr/^backup\.json\|it says that the backup goes from .* to FF\/0 on timeline 1, the manifest says/m, 'a wrong end');
my $sysid = $primary->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()');
damaged('plain', 'backup.json', sub { $_[0] =~ s/$sysid/1234567890/r },
	qr/^backup\.json\|it is of cluster 1234567890, in the folder of cluster $sysid$/m, "another cluster's");

# --- the folder ---
my $folder = folder_of('plain');
sub strange
{
	my ($name, $make, $wanted, $what) = @_;
	$make->("$folder/$name");
	like(verify('plain'), $wanted, $what);
	unlink("$folder/$name") or rmdir("$folder/$name") or die "could not remove $name: $!";
	return;
}
strange('core', sub { write_bytes($_[0], 'x') }, qr/\Acore\|it does not belong to the backup\z/, 'an extra file');
strange('99999.tar', sub { write_bytes($_[0], $tar) }, qr/^99999\.tar\|it does not belong to the backup$/m, 'an extra archive');
strange('base.tar.gz', sub { copy(folder_of('client-gzip') . '/base.tar.gz', $_[0]) },
	qr/\Abase\.tar\.gz\|it does not belong to the backup\z/, 'the same archive, compressed');
strange('folder', sub { mkdir($_[0]) }, qr/\Afolder\|it does not belong to the backup\z/, 'a folder');
rename("$folder/base.tar", "$space/base.tar") or die;
strange('base.tar', sub { symlink("$space/base.tar", $_[0]) }, qr/^base\.tar\|it is not a regular file$/m, 'a symbolic link in its place');
strange('base.tar', sub { system_or_bail('mkfifo', $_[0]) }, qr/^base\.tar\|it is not a regular file$/m, 'a fifo in its place');
rename("$space/base.tar", "$folder/base.tar") or die;
# that of a dead process would go with the next write
strange("notes.json.$$.tmp", sub { write_bytes($_[0], '{') }, qr/\A\z/, 'a temporary file of notes.json is no damage');
is(verify('plain'), '', 'all is well again');
# the indexer may have looked at a backup.json that was not the right one
ok(wait_for('it to be usable', sub { backup_row('plain', 'state') eq 'usable' }), '... and it is usable');

# --- a chain ---
# (made up, for any major: what the catalog calls the parent is read as well)
my $chain = q(BEGIN;
	UPDATE walarchive.backup SET parent = 'client-lz4' WHERE label = 'plain';
	UPDATE walarchive.backup SET parent = 'gone' WHERE label = 'client-zstd';
	SELECT concat_ws('|', backup, file, problem) FROM walarchive.verify_backup('prod', '%s', parents => %s);
	ROLLBACK;);
is($host->safe_psql('postgres', sprintf($chain, 'plain', 'true')), '', 'a chain');
my $lz4 = folder_of('client-lz4') . '/base.tar.lz4';
my $good = read_file_bytes($lz4);
write_bytes($lz4, substr($good, 0, -100));
is($host->safe_psql('postgres', sprintf($chain, 'plain', 'false')), '', 'its parent is read if asked for');
like($host->safe_psql('postgres', sprintf($chain, 'plain', 'true')), qr/\Aclient-lz4\|base\.tar\.lz4\|/, '... and the damage found');
write_bytes($lz4, $good);
is($host->safe_psql('postgres', sprintf($chain, 'client-zstd', 'true')),
	'gone|this backup, on which the others build, is not there any more', 'a parent that is not there');

# --- who may, and what is no backup ---
$host->safe_psql('postgres', 'CREATE ROLE operator; GRANT USAGE ON SCHEMA walarchive TO operator');
my (undef, undef, $err) = $host->psql('postgres', "SET ROLE operator; SELECT * FROM walarchive.verify_backup('prod', 'plain')");
like($err, qr/permission denied for function verify_backup/, 'not everybody may');
$host->safe_psql('postgres', 'GRANT EXECUTE ON FUNCTION walarchive.verify_backup(text, text, boolean) TO operator');
is($host->safe_psql('postgres', "SET ROLE operator; SELECT count(*) FROM walarchive.verify_backup('prod', 'plain')"), '0', 'who is granted it may');
(undef, undef, $err) = $host->psql('postgres', "SELECT * FROM walarchive.verify_backup('prod', 'none')");
like($err, qr/source "prod" has no backup "none"/, 'no such backup');
(undef, undef, $err) = $host->psql('postgres', "SELECT * FROM walarchive.verify_backup('none', 'plain')");
like($err, qr/source "none" does not exist/, 'no such source');
(undef, undef, $err) = $host->psql('postgres', "SELECT * FROM walarchive.verify_backup('prod', NULL)");
like($err, qr/must not be null/, 'no label');
(undef, undef, $err) = $host->psql('postgres', "SELECT * FROM walarchive.read_backup('prod', $sysid, '../../x', NULL)");
like($err, qr/invalid name/, 'no way out of the folder');

# --- it can be watched, and cancelled ---
# An archive may have zeroes behind its end: so many that nobody waits for it.
open(my $fh, '>>', "$folder/base.tar") or die;
truncate($fh, 4 * 1024**4) or die "could not make a large file: $!";
close($fh);
my $session = start_sql($host, "SELECT * FROM walarchive.verify_backup('prod', 'plain')");
ok(wait_for('progress to be seen',
		sub {
			$host->safe_psql('postgres', q(
				SELECT label = 'plain' AND phase = 'reading archives' AND current_file = 'base.tar'
					AND files_total = 2 AND files_done = 1 AND bytes_done > 50000000 AND bytes_total > bytes_done AND damaged = 0
				FROM walarchive.stat_progress_verify_backup WHERE source = 'prod')) eq 't';
		}), 'its progress can be seen');
$host->safe_psql('postgres', 'SELECT pg_cancel_backend(pid) FROM walarchive.stat_progress_verify_backup');
my ($code, undef, $message) = sql_result($session);
like($message, qr/canceling statement due to user request/, 'it can be cancelled');
is($host->safe_psql('postgres', 'SELECT count(*) FROM walarchive.stat_progress_verify_backup'), '0', '... and is not shown any more');
is(backup_row('plain', "concat_ws('|', state, damage)"), 'usable', '... and nothing was said of the backup');

# The same, ended by the end of its process: the thread must not outlive it.
my $postmaster = $host->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
$session = start_sql($host, "SELECT * FROM walarchive.verify_backup('prod', 'plain')");
wait_for('progress to be seen',
	sub { $host->safe_psql('postgres', 'SELECT bool_or(bytes_done > 50000000) FROM walarchive.stat_progress_verify_backup') eq 't' });
$host->safe_psql('postgres', 'SELECT pg_terminate_backend(pid) FROM walarchive.stat_progress_verify_backup');
($code, undef, $message) = sql_result($session);
like($message, qr/terminating connection due to administrator command/, 'its process can be terminated');
wait_for('it to be gone', sub { $host->safe_psql('postgres', 'SELECT count(*) FROM walarchive.stat_progress_verify_backup') eq '0' });
unlike(slurp_file($host->logfile), qr/terminated by signal|terminating any other active server processes/, '... and does not crash');
is($host->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $postmaster, '... and the server goes on');
my @left = glob($host->data_dir . '/base/pgsql_tmp/.check*');
is("@left", '', 'no temporary file is left');
write_bytes("$folder/base.tar", $tar);
is(verify('plain'), '', 'all is well at the end');

$primary->stop;
$host->stop;
done_testing();
