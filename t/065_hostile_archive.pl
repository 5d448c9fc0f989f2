# The archive host that a client restores from is broken, or not who it should
# be: it answers with other types, too much, too little or nothing, its backup
# has links, devices and paths that lead elsewhere, its connection breaks at any
# byte.  The client says what is wrong and ends; nothing outside of the directory
# that was named is written, and what is left in there can't be started.
use strict;
use warnings FATAL => 'all';

use Digest::SHA qw(sha256_hex);
use File::Find;
use FindBin;
use lib "$FindBin::RealBin/lib";
use IO::Socket::UNIX;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalHostile;
use WalRestore;

my $host = new_archive_host('archive');
my $primary = new_primary('primary');
add_source($host, 'prod', $primary);
$primary->safe_psql('postgres', 'CREATE TABLE rows AS SELECT g FROM generate_series(1, 1000) g');
take_backup($host, 'first', "compression => 'none'");
switch_wal($primary, 2);
wait_decoded($host, $primary);
$primary->stop;

# ---- a host that says what a test wants ----

# A database with the functions that a client calls, in plain SQL: what they
# return lies in tables, and is at first what the real ones returned.
my $files = PostgreSQL::Test::Utils::tempdir_short();
chmod(0777, $files);
my $archived = archive_dir($host, 'prod') . '/' . $host->safe_psql('postgres', "SELECT system_identifier FROM walarchive.source_layout('prod')");
my $segment = $host->safe_psql('postgres', "
	SET client_min_messages = warning;
	CREATE TABLE layout AS SELECT * FROM walarchive.source_layout('prod');
	CREATE TABLE plan AS SELECT * FROM walarchive.plan_restore('prod', hold => '1 hour');
	CREATE TABLE plan_file AS SELECT f.* FROM plan, walarchive.plan_files(plan_id) f;
	CREATE TABLE wal AS SELECT name, w.* FROM (SELECT DISTINCT name FROM plan_file WHERE kind = 'wal') n, walarchive.wal_file('prod', name) w;
	COPY layout TO '$files/layout';
	COPY (SELECT plan_id, feasible, reason, hint, backup, timeline, timeline_path, start_lsn, stop_lsn, last_commit_xid, last_commit_time,
		last_commit_lsn, segments, wal_bytes, backup_bytes, prepared, settings FROM plan) TO '$files/plan';
	COPY plan_file TO '$files/plan_file';
	COPY wal TO '$files/wal';
	SELECT min(name) FROM wal");
$host->safe_psql('postgres', 'CREATE DATABASE fake');
$host->safe_psql('fake', "
	CREATE SCHEMA walarchive;
	SET search_path = walarchive;
	CREATE TABLE layout (system_identifier text, segment_size text, timeline text, server_version text);
	CREATE TABLE plan (plan_id text, feasible text, reason text, hint text, backup text, timeline text, timeline_path text, start_lsn text,
		stop_lsn text, last_commit_xid text, last_commit_time timestamptz, last_commit_lsn text, segments text, wal_bytes text,
		backup_bytes text, prepared text[], settings text);
	CREATE TABLE plan_file (ord bigint, kind text, label text, name text, timeline text, size text, sha256 text);
	CREATE TABLE tablespace (tablespace text, location text, start_lsn text);
	CREATE TABLE wal (name text, state text, size text, sha256 text, detail text, valid_bytes text);
	CREATE TABLE file (label text, name text, bytes bytea);
	ALTER TABLE file ALTER bytes SET STORAGE EXTERNAL;
	COPY layout FROM '$files/layout';
	COPY plan FROM '$files/plan';
	COPY plan_file FROM '$files/plan_file';
	COPY wal FROM '$files/wal';
	INSERT INTO file SELECT label, name, pg_read_binary_file('$archived/backup/' || label || '/' || name) FROM plan_file WHERE kind = 'backup';
	INSERT INTO file SELECT NULL, name, pg_read_binary_file('$archived/wal/' || name, 0, 1048576, true) FROM wal;
	CREATE FUNCTION source_layout(source text) RETURNS SETOF layout LANGUAGE sql AS 'SELECT * FROM walarchive.layout';
	CREATE FUNCTION plan_restore(source text, target_time text = NULL, target_lsn text = NULL, target_xid text = NULL, target_name text = NULL,
		target_immediate text = NULL, target_timeline text = NULL, inclusive text = NULL, backup text = NULL, hold text = NULL)
		RETURNS SETOF plan LANGUAGE sql AS 'SELECT * FROM walarchive.plan';
	CREATE FUNCTION plan_files(plan_id text) RETURNS SETOF plan_file LANGUAGE sql AS 'SELECT * FROM walarchive.plan_file';
	CREATE FUNCTION plan_tablespaces(plan_id text) RETURNS SETOF tablespace LANGUAGE sql AS 'SELECT * FROM walarchive.tablespace';
	CREATE FUNCTION renew_plan(plan_id text, hold text) RETURNS text LANGUAGE sql AS 'SELECT now()::text';
	CREATE FUNCTION release_plan(plan_id text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
	CREATE FUNCTION take_backup(source text, kind text = NULL, label text = NULL, parent text = NULL, checkpoint text = NULL, compression text = NULL,
		max_rate text = NULL, verify_checksums text = NULL, manifest_checksums text = NULL, conninfo text = NULL, annotation text = NULL, wait text = NULL)
		RETURNS SETOF text LANGUAGE sql AS 'SELECT label FROM walarchive.plan_file LIMIT 1';
	CREATE FUNCTION wal_file(source text, name text, plan_id text = NULL) RETURNS TABLE (state text, size text, sha256 text, detail text, valid_bytes text)
		LANGUAGE sql AS 'SELECT w.state, w.size, w.sha256, w.detail, w.valid_bytes FROM walarchive.wal w WHERE w.name = \$2';
	CREATE FUNCTION bytes_of(p_label text, p_name text, p_offset bigint, p_length bigint) RETURNS SETOF bytea LANGUAGE sql AS
		'SELECT substr(bytes, (p_offset + i)::int + 1, least(32768, p_length - i)::int) FROM walarchive.file,
			generate_series(0, least(p_length, length(bytes) - p_offset) - 1, 32768) i
			WHERE label IS NOT DISTINCT FROM p_label AND name = p_name ORDER BY i';
	CREATE FUNCTION stream_wal(source text, name text, \"offset\" bigint, length bigint, plan_id text = NULL) RETURNS SETOF bytea
		LANGUAGE sql AS 'SELECT * FROM walarchive.bytes_of(NULL, \$2, \$3, \$4)';
	CREATE FUNCTION stream_backup_file(source text, label text, file text, \"offset\" bigint, length bigint) RETURNS SETOF bytea
		LANGUAGE sql AS 'SELECT * FROM walarchive.bytes_of(\$2, \$3, \$4, \$5)';");

my @fake = ('-h', $host->host, '-p', $host->port, '-d', 'fake', '--source=prod', '--retry=0');

# All that lies where a client could write by mistake: beside its target, in the
# folder that the tests' paths lead to, in the present one.
my $root = PostgreSQL::Test::Utils::tempdir_short();
my $outside = PostgreSQL::Test::Utils::tempdir_short();
mkdir("$root/work") or die;
append_to_file("$outside/file", "mine\n");
sub around
{
	my @found;
	find({ no_chdir => 1, wanted => sub {
				$File::Find::prune = 1 if $_ eq "$root/work/data";
				push @found, join(' ', $_, -l $_ ? 'link' : -d _ ? 'folder' : slurp_file($_)) unless $_ eq "$root/work/data";
			} }, $root, $outside);
	return join("\n", sort @found);
}
my $before = around();
my $data = "$root/work/data";

sub refused_restore
{
	my ($name, $error, @args) = @_;
	my ($code, $out, $err) = walarchive('restore', '-D', $data, '--port', 5433, @fake, @args);
	cmp_ok($code, '>', 0, "$name: refused");
	cmp_ok($code, '<', 128, "$name: and no crash");
	like($err, $error, "$name: with a reason");
	unlike("$out$err", qr/\e/, "$name: in plain words");
	is(around(), $before, "$name: nothing else was written");
	# nothing, or what can't be started
	ok(!-e "$data/global/pg_control", "$name: no copy that starts");
	is(join(' ', glob("$data/*")), '', "$name: nothing is left") unless grep { $_ eq '--no-clean' } @args;
	system('rm', '-rf', $data);
	return;
}

# Change what the host says, see what the client makes of it, and change it back.
my @tables = qw(layout plan plan_file tablespace wal file);
sub keep { $host->safe_psql('fake', join(';', 'SET client_min_messages = warning; DROP SCHEMA IF EXISTS kept CASCADE; CREATE SCHEMA kept',
			map { "CREATE TABLE kept.$_ AS TABLE walarchive.$_" } @tables)); return; }
sub say_again { $host->safe_psql($_[0] // 'fake', join(';', map { "TRUNCATE walarchive.$_; INSERT INTO walarchive.$_ TABLE kept.$_" } @tables)); return; }
sub says { $host->safe_psql($_[1] // 'fake', "SET search_path = walarchive; $_[0]"); return; }

# ---- a small backup ----

# Honest, but for what is changed: a whole one takes a second to unpack.
my ($code, $out, $err) = walarchive('restore', '-D', $data, '--port', 5433, @fake);
is($code, 0, 'the host that says what it is told is as good as a real one') or diag($err);
ok(-e "$data/global/pg_control", 'there is a copy');
my @member = map { [ $_, slurp_file("$data/$_") ] } qw(PG_VERSION postgresql.conf pg_hba.conf pg_ident.conf);
push @member, [ 'global/pg_control', read_file_bytes("$data/global/pg_control") ], [ 'backup_label', slurp_file("$data/backup_label") ];
unshift @member, map { [ $_, '', '5' ] } qw(global base pg_tblspc pg_wal pg_wal/archive_status);
system('rm', '-rf', $data);
my $json = $host->safe_psql('fake', "SELECT convert_from(bytes, 'UTF8') FROM walarchive.file WHERE name = 'backup.json'");

sub manifest
{
	my (@entries) = @_;
	my $text = "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n" . join(",\n", map {
			sprintf('{ "Path": "%s", "Size": %s, "Last-Modified": "2026-01-01 00:00:00 GMT", "Checksum-Algorithm": "SHA256", "Checksum": "%s" }',
				$_->[0], $_->[2] // length($_->[1]), sha256_hex($_->[1])) } @entries)
	  . "\n],\n\"WAL-Ranges\": [\n{ \"Timeline\": 1, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000100\" }\n],\n";
	return $text . '"Manifest-Checksum": "' . sha256_hex($text) . "\"}\n";
}

# The host's backup is this tar, with a manifest that agrees with it unless another is given.
sub has_backup
{
	my ($tar, $manifest, $info, $tar_name) = @_;
	my %content = (base => $tar, backup_manifest => $manifest, 'backup.json' => $info // $json =~ s/("manifest_sha256": *")[0-9a-f]+/$1 . sha256_hex($manifest)/er);
	foreach my $name (keys %content)
	{
		my $is = $name eq 'base' ? $tar_name // 'base.tar' : $name;
		unlink("$files/$name");
		append_to_file("$files/$name", $content{$name});
		chmod(0644, "$files/$name");
		my $row = $name eq 'base' ? "name LIKE 'base.tar%'" : "name = '$name'";
		says("UPDATE file SET bytes = pg_read_binary_file('$files/$name'), name = '$is' WHERE $row;
			UPDATE plan_file SET size = (pg_stat_file('$files/$name')).size, name = '$is', sha256 = '" . sha256_hex($content{$name}) . "' WHERE $row");
	}
	return;
}
my $end = "\0" x 1024;
sub tar { return join('', map { tar_member(@$_) } @_) . $end; }
sub entries { return grep { ($_->[2] // '0') eq '0' } @_; }
has_backup(tar(@member), manifest(entries(@member)));
keep();
($code, $out, $err) = walarchive('restore', '-D', $data, '--port', 5433, @fake);
is($code, 0, 'a small backup is one as well') or diag($err);
system('rm', '-rf', $data);

# ---- members of an archive ----

my $evil = "$outside/evil";
my @tars = (
	[ 'a path up', [ '../evil', 'x' ], qr/name of an entry of the archive is not valid|manifest/ ],
	[ 'a path up later', [ 'base/../../evil', 'x' ], qr/name of an entry of the archive is not valid|manifest/ ],
	[ 'a path up after a dot', [ './../evil', 'x' ], qr/name of an entry of the archive is not valid|manifest/ ],
	[ 'an absolute path', [ $evil, 'x' ], qr/name of an entry of the archive is not valid|manifest/ ],
	[ 'an absolute path after a dot', [ ".//$evil", 'x' ], qr/name of an entry of the archive is not valid|manifest/ ],
	[ 'a folder up', [ '../evil', '', '5' ], qr/name of an entry of the archive is not valid/ ],
	[ 'an absolute folder', [ $evil, '', '5' ], qr/name of an entry of the archive is not valid/ ],
	[ 'a symbolic link', [ 'base/evil', '', '2', $outside ], qr/has a symbolic link "base\/evil"/ ],
	[ 'a hard link', [ 'base/evil', '', '1', "$outside/file" ], qr/neither file, directory nor symbolic link/ ],
	[ 'a character device', [ 'base/evil', '', '3' ], qr/neither file, directory nor symbolic link/ ],
	[ 'a block device', [ 'base/evil', '', '4' ], qr/neither file, directory nor symbolic link/ ],
	[ 'a FIFO', [ 'base/evil', '', '6' ], qr/neither file, directory nor symbolic link/ ],
	[ 'a long name', [ 'base/evil', '../../evil', 'L' ], qr/neither file, directory nor symbolic link/ ],
	[ 'an extended header', [ 'base/evil', "18 path=../evil\n", 'x' ], qr/neither file, directory nor symbolic link/ ],
	[ 'a global header', [ 'base/evil', "18 path=../evil\n", 'g' ], qr/neither file, directory nor symbolic link/ ],
	[ 'a sparse file', [ 'base/evil', '', 'S' ], qr/neither file, directory nor symbolic link/ ],
	[ 'a file in a folder that is none', [ 'PG_VERSION/evil', 'x' ], qr/could not create file/ ],
	[ 'a file in the place of a folder', [ 'global', 'x' ], qr/could not create file|could not create directory/ ],
	[ 'a file twice', [ 'PG_VERSION', '15' ], qr/was there before|has the file "PG_VERSION" twice/ ],
	[ 'the mark of a restore that is under way', [ 'walarchive.restore', 'x' ], qr/could not create file/ ],
	[ 'a path longer than any', [ 'x' x 99 . '/', 'x', '0', '', 'y' x 154 ], qr/name of an entry of the archive is not valid|manifest|could not create file/ ],
);
foreach (@tars)
{
	my ($name, $member, $error) = @$_;
	my @all = (@member, $member);
	has_backup(tar(@all), manifest(entries(@all)));
	refused_restore($name, $error);
	# and with a manifest that knows nothing of it
	next unless ($member->[2] // '0') eq '0';
	has_backup(tar(@all), manifest(entries(@member)));
	refused_restore("$name, not in the manifest", $error->[0] // qr/./) if ref($error) eq 'ARRAY';
	refused_restore("$name, not in the manifest", qr/not in the manifest|not valid|was there before/);
}

# links that an honest backup has are not followed: what is behind one is no place
my @linked = (@member, [ 'pg_tblspc/77777', '', '2', $outside ], [ 'pg_tblspc/77777/evil', 'x' ]);
has_backup(tar(@linked), manifest(entries(@linked)));
refused_restore('a file behind the link of a tablespace', qr/could not create file/);
@linked = ([ 'base', '', '2', $outside ], @member);
has_backup(tar(@linked), manifest(entries(@member)));
refused_restore('a link in the place of a folder', qr/has a symbolic link "base"/);

my $tar = tar(@member);
my $manifest = manifest(entries(@member));
my $version = $member[5];
foreach (
	[ 'an archive that is cut', substr($tar, 0, length($tar) - 3000), $manifest, qr/ends too early/ ],
	[ 'an archive that goes on', $tar . tar_member('more', 'x') . $end, $manifest, qr/goes on after its end/ ],
	[ 'no archive', 'garbage' x 1000, $manifest, qr/this is no tar header/ ],
	[ 'an archive with a wrong sum', $tar =~ s/^(.{148})./${1}9/sr, $manifest, qr/checksum of a tar header/ ],
	[ 'an endless member', tar_member('evil', 'x', '0', '', '', 1 << 40) . 'x' x 100_000, manifest([ 'evil', 'x', 1 << 40 ]), qr/ends too early|more than|not as long/ ],
	[ 'a member that is longer than anything', tar_member('evil', 'x', '0', '', '', 68_719_476_735) . 'x', $manifest, qr/./ ],
	[ 'another file of the same length', tar(map { $_->[0] eq 'PG_VERSION' ? [ 'PG_VERSION', '99' . substr($_->[1], 2) ] : $_ } @member), $manifest, qr/"PG_VERSION" of the backup is damaged/ ],
	[ 'a file that is missing', tar(grep { $_->[0] ne 'pg_hba.conf' } @member), $manifest, qr/"pg_hba.conf" is in the manifest of the backup, but not in its archives/ ],
	[ 'no pg_control', tar(grep { $_->[0] ne 'global/pg_control' } @member), manifest(entries(grep { $_->[0] ne 'global/pg_control' } @member)), qr/has no global\/pg_control/ ],
	[ 'a pg_control without end', tar(map { $_->[0] eq 'global/pg_control' ? [ $_->[0], 'x' x 100_000 ] : $_ } @member),
		manifest(entries(map { $_->[0] eq 'global/pg_control' ? [ $_->[0], 'x' x 100_000 ] : $_ } @member)), qr/global\/pg_control" of the backup is too long/ ],
	[ 'a manifest of garbage', $tar, "\x01\xff{[" x 1000, qr/manifest of backup "first" is damaged/ ],
	[ 'a manifest of nothing', $tar, '', qr/manifest of backup "first" is damaged/ ],
	[ 'a manifest with a path up', $tar, manifest(entries(@member), [ '../evil', 'x' ]), qr/manifest of backup "first" is damaged/ ],
	[ 'a manifest with an absolute path', $tar, manifest(entries(@member), [ $evil, 'x' ]), qr/manifest of backup "first" is damaged/ ],
	[ 'a manifest with a path that is too long', $tar, manifest(entries(@member), [ 'x' x 5000, 'x' ]), qr/manifest of backup "first" is damaged/ ],
	[ 'a manifest with a wrong sum', $tar, $manifest =~ s/"PG_VERSION"/"PG_VERSIOM"/r, qr/its own checksum is wrong/ ],
	[ 'a manifest that is cut', $tar, substr($manifest, 0, 500), qr/manifest of backup "first" is damaged/ ],
	[ 'what is said of the backup is garbage', $tar, $manifest, qr/backup.json.*is damaged/, "\xff\0{{" ],
	[ 'nothing is said of the backup', $tar, $manifest, qr/backup.json.*is damaged/, '' ],
	[ 'a version that is none', $tar, $manifest, qr/backup.json.*is damaged/, $json =~ s/("server_version": *)\d+/${1}99999999/r ],
	[ 'a tablespace with a path for a number', $tar, $manifest, qr/backup.json.*is damaged/, $json =~ s/("tablespaces": *)"[^"]*"/${1}"..\/..\/evil $outside\/x"/r ],
	[ 'a manifest that is not that one', $tar, $manifest, qr/its SHA-256 is/, $json ],
	[ 'compressed garbage', 'garbage' x 1000, $manifest, qr/can't be read|damaged/, undef, 'base.tar.gz' ],
	[ 'an archive of a tablespace that is none', $tar, $manifest, qr/no such tablespace/, undef, '77777.tar' ],
	[ 'an archive with a path', $tar, $manifest, qr/no such tablespace|has no "/, undef, '../../evil.tar' ])
{
	my ($name, $bytes, $text, $error, $info, $tar_name) = @$_;
	has_backup($bytes, $text, $info, $tar_name);
	refused_restore($name, $error);
	says("UPDATE file SET name = 'base.tar' WHERE name LIKE '%.tar%'; UPDATE plan_file SET name = 'base.tar' WHERE name LIKE '%.tar%'");
}
say_again();

# a half one that somebody wants to look at
has_backup(substr($tar, 0, length($tar) - 3000), $manifest);
($code) = walarchive('restore', '-D', $data, '--port', 5433, @fake, '--no-clean');
isnt($code, 0, 'half a restore fails');
ok(-e "$data/walarchive.restore", 'and is left where that is asked for');
cannot_start($data, 'half a restore');
refused_restore('half a restore that is gone over', qr/is not empty/, '--no-clean');
say_again();

# ---- rows ----

my $not_understood = qr/the archive host's answer is not understood/;
foreach (
	[ 'no layout', 'TRUNCATE layout', qr/nothing is archived/ ],
	[ 'two layouts', 'INSERT INTO layout TABLE layout', qr/nothing is archived/ ],
	[ 'a layout of NULL', 'UPDATE layout SET system_identifier = NULL, segment_size = NULL', qr/nothing is archived/ ],
	(map { [ "segments of $_ bytes", "UPDATE layout SET segment_size = '$_'", qr/nothing is archived/ ] } (0, 3, -1048576, '4294967296', '18446744073709551616', '1048576000000', 'x')),
	[ 'no plan', 'TRUNCATE plan', qr/no plan/ ],
	[ 'two plans', 'INSERT INTO plan TABLE plan', qr/no plan/ ],
	[ 'a plan of NULL', 'UPDATE plan SET feasible = NULL', qr/can't be restored/ ],
	[ 'a plan without a number', 'UPDATE plan SET plan_id = NULL', qr/can't be restored/ ],
	(map { [ "the plan's $_ is NULL", "UPDATE plan SET $_ = NULL", $not_understood ] } qw(backup timeline timeline_path stop_lsn settings)),
	[ 'a plan with a word for its number', "UPDATE plan SET plan_id = '7; touch $evil'", $not_understood ],
	[ 'a backup with a path', "UPDATE plan SET backup = '../../evil'", $not_understood ],
	[ 'a hint that steers a terminal', "UPDATE plan SET feasible = 'f', reason = E'no\\e[2J', hint = E'\\e]0;evil\\x07\\u009b2J'", qr/can't be restored/ ],
	[ 'a command in the settings', "UPDATE plan SET settings = settings || E'\\narchive_cleanup_command = ''touch $evil''\\n'", qr/"archive_cleanup_command", which is none/ ],
	[ 'a library in the settings', "UPDATE plan SET settings = settings || E'\\nshared_preload_libraries = ''evil''\\n'", qr/"shared_preload_libraries", which is none/ ],
	[ 'a file in the settings', "UPDATE plan SET settings = settings || E'\\ninclude ''$outside/file''\\n'", qr/"include", which is none|configuration/ ],
	[ 'no files', 'TRUNCATE plan_file', qr/the plan has no backup/ ],
	[ 'files without a label', 'UPDATE plan_file SET label = NULL', $not_understood ],
	[ 'files without a name', 'UPDATE plan_file SET name = NULL', $not_understood ],
	[ 'files of no kind', 'UPDATE plan_file SET kind = NULL', $not_understood ],
	[ 'files of another kind', "UPDATE plan_file SET kind = 'evil'", $not_understood ],
	[ 'files of a backup with a path', "UPDATE plan_file SET label = '../../evil' WHERE kind = 'backup'", $not_understood ],
	[ 'files of a backup with a name that is too long', "UPDATE plan_file SET label = repeat('x', 100000) WHERE kind = 'backup'", $not_understood ],
	[ 'WAL of a backup', "UPDATE plan_file SET label = 'x' WHERE kind = 'wal'", $not_understood ],
	[ 'no manifest', "DELETE FROM plan_file WHERE name = 'backup_manifest'", qr/backup "first" has no "backup_manifest"/ ],
	[ 'no archive of the backup', "DELETE FROM plan_file WHERE name = 'base.tar'", qr/but not in its archives/ ],
	[ 'a manifest without end', "UPDATE plan_file SET size = '99999999999999' WHERE name = 'backup_manifest'", qr/too long/ ],
	[ 'a size below zero', "UPDATE plan_file SET size = '-1' WHERE name = 'backup_manifest'", qr/too long/ ],
	[ 'a size that is too small', "UPDATE plan_file SET size = '10'", qr/damaged/ ],
	[ 'a size that is too large', "UPDATE plan_file SET size = '999999'", qr/ends after \d+ bytes/ ],
	[ 'tablespaces of nothing', "INSERT INTO tablespace VALUES (NULL, NULL, NULL)", qr/makes tablespace/ ],
	[ 'a tablespace with a path', "INSERT INTO tablespace VALUES ('../../evil', '$evil', '0/1')", qr/makes tablespace/ ],
	[ 'a file that is not there', "DELETE FROM file WHERE name = 'base.tar'", qr/ends after 0 bytes/ ],
	[ 'bytes of NULL', "UPDATE file SET bytes = NULL WHERE name = 'base.tar'", qr/ends after 0 bytes|not understood/ ])
{
	my ($name, $sql, $error) = @$_;
	says($sql);
	refused_restore($name, $error);
	say_again();
}

# functions that return other things
foreach (
	[ 'rows of NULL', "SELECT NULL::bytea", $not_understood ],
	[ 'text for bytes', "SELECT repeat('x', 100)::bytea FROM generate_series(1, 10)", qr/./ ],
	[ 'more than was asked for', "SELECT decode(repeat('00', 100000), 'hex') FROM generate_series(1, 1000)", $not_understood ],
	[ 'empty rows without end', "SELECT ''::bytea FROM generate_series(1, 1000000)", qr/answer does not end/ ],
	[ 'an error', "SELECT (1 / 0)::text::bytea", qr/division by zero/ ])
{
	my ($name, $sql, $error) = @$_;
	says("ALTER FUNCTION stream_backup_file RENAME TO kept_function;
		CREATE FUNCTION stream_backup_file(source text, label text, file text, \"offset\" bigint, length bigint) RETURNS SETOF bytea LANGUAGE sql AS \$\$ $sql \$\$");
	refused_restore($name, $error);
	says('DROP FUNCTION stream_backup_file; ALTER FUNCTION kept_function RENAME TO stream_backup_file');
}
# a session that ends each time it is asked is not asked for ever
says("ALTER FUNCTION stream_backup_file RENAME TO kept_function;
	CREATE FUNCTION stream_backup_file(source text, label text, file text, \"offset\" bigint, length bigint) RETURNS SETOF bytea LANGUAGE plpgsql AS
		\$\$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); END \$\$");
refused_restore('a session that ends each time', qr/terminating connection/, '--retry=2');
says('DROP FUNCTION stream_backup_file; ALTER FUNCTION kept_function RENAME TO stream_backup_file');
# and a type of another kind
says('ALTER TABLE plan_file ALTER size TYPE point USING NULL; ALTER TABLE plan_file ALTER timeline TYPE xml USING NULL');
refused_restore('other types', qr/too long|damaged/);
says('ALTER TABLE plan_file ALTER size TYPE text USING NULL; ALTER TABLE plan_file ALTER timeline TYPE text USING NULL');
say_again();

# ---- WAL ----

# A client asks again before it gives up.  So several are asked side by side,
# each by a client of its own: databases that are copies of that one.
my $got = "$root/work/got";
my @lanes = map { "fake$_" } 1 .. 8;
wait_for('all sessions of that host to end',
	sub { $host->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE datname = 'fake' AND backend_type = 'client backend'") eq '0' })
  or BAIL_OUT('a session that does not end');
$host->safe_psql('postgres', "CREATE DATABASE $_ TEMPLATE fake") foreach (@lanes);
# name, what the host says, error, and the file that is wanted if it is another
sub refused_fetches
{
	my (@cases) = @_;
	while (my @batch = splice(@cases, 0, scalar @lanes))
	{
		my @running;
		foreach my $i (0 .. $#batch)
		{
			my ($name, $sql, $error, $file) = @{ $batch[$i] };
			my ($out, $err) = ('', '');
			says($sql, $lanes[$i]);
			my @args = ('fetch', '-h', $host->host, '-p', $host->port, '-d', $lanes[$i], '--source=prod', '--retry=0',
				'--no-prefetch', '--no-local', $file // $segment, "$got$i");
			push @running, [ $name, $error, \$err, IPC::Run::start([ 'walarchive', @args ], '<', \undef, '>', \$out, '2>', \$err,
					IPC::Run::timeout(20 * $PostgreSQL::Test::Utils::timeout_default)) ];
		}
		foreach (@running)
		{
			my ($name, $error, $err, $run) = @$_;
			$run->finish;
			my $code = $? & 127 ? 128 + ($? & 127) : $? >> 8;
			note($$err);
			cmp_ok($code, '>', 125, "$name: recovery stops");
			cmp_ok($code, '<', 128, "$name: and no crash");
			like($$err, $error, "$name: with a reason");
			unlike($$err, qr/\e/, "$name: in plain words");
		}
		is(around(), $before, 'no file is delivered, nor anything left of one: ' . join(', ', map { $_->[0] } @batch));
		say_again($lanes[$_]) foreach (0 .. $#batch);
	}
	return;
}
($code, $out, $err) = walarchive('fetch', @fake, '--no-prefetch', '--no-local', $segment, $got);
is($code, 0, 'a segment is fetched') or diag($err);
ok(same_file($got, wal_dir($host, 'prod') . "/$segment"), 'and is the right one');
unlink($got);
my $zeros = "decode(repeat('00', 1048576), 'hex')";
refused_fetches(
	[ 'nothing known', 'TRUNCATE wal', $not_understood ],
	[ 'two of it', 'INSERT INTO wal TABLE wal', $not_understood ],
	[ 'a state of NULL', 'UPDATE wal SET state = NULL', $not_understood ],
	[ 'a state that is none', "UPDATE wal SET state = 'evil'", $not_understood ],
	[ 'a missing one', "UPDATE wal SET state = 'missing', detail = E'gone\\e[2J'", qr/gone/ ],
	[ 'a damaged one', "UPDATE wal SET state = 'damaged', detail = 'broken'", qr/broken/ ],
	(map { [ "a length of $_", "UPDATE wal SET size = '$_', valid_bytes = '$_'", qr/bytes in the archive|not understood/ ] } (0, 1, 1048575, 1048577, -1, '99999999999999')),
	[ 'too few bytes', "UPDATE file SET bytes = substr(bytes, 1, 500000) WHERE label IS NULL", qr/ends after 500000 bytes/ ],
	[ 'no bytes', "DELETE FROM file WHERE label IS NULL", qr/ends after 0 bytes/ ],
	[ 'other bytes', "UPDATE file SET bytes = overlay(bytes PLACING '\\x00112233' FROM 500000) WHERE label IS NULL", qr/checksum|SHA-256/i ],
	[ 'a wrong checksum', "UPDATE wal SET sha256 = repeat('0', 64)", qr/checksum|SHA-256/i ],
	[ 'zeros', "UPDATE file SET bytes = $zeros WHERE label IS NULL; UPDATE wal SET sha256 = encode(sha256($zeros), 'hex')", qr/page|header|magic/ ],
	[ 'another segment', "UPDATE file f SET bytes = (SELECT bytes FROM kept.file k WHERE label IS NULL AND k.name > '$segment' ORDER BY name LIMIT 1) WHERE label IS NULL; UPDATE wal SET sha256 = NULL",
		qr/first page is of another place/ ],
	[ 'another cluster', "UPDATE layout SET system_identifier = '7'; UPDATE wal SET sha256 = NULL", qr/of another cluster/ ],
	[ 'segments of another length', "UPDATE layout SET segment_size = '2097152'; UPDATE wal SET size = '2097152', valid_bytes = '2097152'; UPDATE file SET bytes = bytes || bytes WHERE label IS NULL",
		qr/segment size is another one|another place|checksum|SHA-256/i ]);
my @histories;
foreach (
	[ 'a history without end', 999_999_999, "'x'", qr/bytes in the archive/ ],
	[ 'a history of 2 MB', 2 * 1024 * 1024, "repeat('1\t0/1000000\tx\n', 200000)", qr/bytes in the archive/ ],
	[ 'a history of garbage', 1000, "repeat(E'\\377garbage', 200)", qr/history/ ],
	[ 'a history of another timeline', 17, "E'7\t0/1000000\tx\n'", qr/history/ ])
{
	my ($name, $size, $bytes, $error) = @$_;
	$bytes =~ s/\t/\\t/g;
	$bytes =~ s/\n/\\n/g;
	$bytes =~ s/repeat\('1/repeat(E'1/;
	$bytes = $bytes =~ /377/ ? "decode(repeat('ff0001', 1000), 'hex')" : "convert_to($bytes, 'UTF8')";
	push @histories, [ $name, "INSERT INTO file VALUES (NULL, '00000002.history', substr($bytes, 1, $size));
			INSERT INTO wal VALUES ('00000002.history', 'present', '$size', NULL, NULL, '$size')", $error, '00000002.history' ];
}
refused_fetches(@histories);
# the names are recovery's, but may be anybody's
foreach my $name ('../evil', "$segment/../../evil", '00000002.history/x', "$segment.partial", 'x' x 5000)
{
	my ($code, $out, $err) = walarchive('fetch', @fake, '--no-prefetch', $name, $got);
	cmp_ok($code, '>', 125, 'a name that is none: ' . substr($name, 0, 40));
	is(around(), $before, 'and nothing is written');
}

# ---- a connection that breaks at each byte ----

# the real host, through somebody who hangs up
my @real = ('-p', $host->port, '-d', 'postgres', '--source=prod', '--retry=0');
my $step = $ENV{WALARCHIVE_CUT_STEP} // 61;
my ($cut, $broken, $bad) = (1, 0, 0);
my $last = -1;
while ($cut < 3_000_000)
{
	my $dir = start_proxy($host, $cut, 1);
	my ($code, $out, $err) = walarchive('fetch', '-h', $dir, @real, '--no-prefetch', '--no-local', $segment, $got);
	stop_proxy($dir);
	$last = $code;
	last if $code == 0;
	$broken++;
	$bad++ if $code <= 125 || $code >= 128 || $err eq '' || around() ne $before;
	$cut += $cut < 3000 ? $step : 50_021;
}
is($bad, 0, "of $broken connections that broke each ended the recovery, with a reason and without a file");
cmp_ok($broken, '>', 20, 'they broke everywhere');
is($last, 0, 'the one that did not break brought the segment');
ok(same_file($got, wal_dir($host, 'prod') . "/$segment"), 'a whole one') if $last == 0;
unlink($got);

# ---- not even rows ----

# What follows the parts of an extended query.
sub answer
{
	my ($columns, @rows) = @_;
	return message('1', '') . message('2', '') . row_description(map { "c$_" } 1 .. $columns) . join('', map { data_row(@$_) } @rows) . command_complete('SELECT') . ready();
}
# The session's settings are set; then comes what the mode has.
sub after_login
{
	my ($what) = @_;
	return { extended => sub {
			my ($c, $type, $body) = @_;
			return if $type ne 'S';
			return $c->put(answer(6, [ ('x') x 6 ])) if !$c->{asked}++;
			$c->give($what);
		} };
}
my $begin_plan = message('1', '') . message('2', '') . row_description(map { "c$_" } 1 .. 17);
my %mode = (
	m_few => after_login(answer(2, [ '7', '7' ])),
	m_many => after_login(answer(40, [ (1) x 40 ])),
	m_uneven => after_login($begin_plan . data_row(1, 2) . command_complete('SELECT') . ready()),
	m_none => after_login(message('1', '') . message('2', '') . message('n', '') . command_complete('OK') . ready()),
	m_copy => after_login(message('1', '') . message('2', '') . message('H', pack('Cn', 0, 0)) . copy_data('x')),
	m_copyin => after_login(message('1', '') . message('2', '') . message('G', pack('Cn', 0, 0))),
	m_junk => after_login("\x01\x02\x03\xff" x 100),
	m_long => after_login(message('1', '') . message('2', '') . 'D' . pack('N', 0x7ffffff0) . 'x'),
	m_error => after_login(error_answer('XX000', "bad\e[2J%s%n \x9b")),
	m_drop => after_login(sub { POSIX::_exit(0) }),
	m_silent => after_login(sub { $_[0]->silence }),
	m_start => { startup => sub { $_[0]->silence } },
	m_first => { extended => sub { my ($c, $type) = @_; $c->silence if $type eq 'S'; } },
	m_notice => after_login(message('N', "SWARNING\0C01000\0Mforged\e[2J\0\0") . answer(1, [undef])),
	m_rows => after_login(sub { my ($c) = @_; $c->put($begin_plan); my $row = data_row(1 .. 16, 'x' x 100_000) x 10; $c->put($row) while 1; }),
	m_results => after_login(sub { my ($c) = @_; $c->put($begin_plan); my $many = command_complete('SELECT') x 1000; $c->put($many) while 1; }),
);
my %said = (
	m_few => $not_understood, m_many => $not_understood, m_uneven => qr/./, m_none => $not_understood, m_copy => $not_understood, m_copyin => $not_understood,
	m_junk => qr/lost synchronization|message/, m_long => qr/nothing was heard|memory|lost synchronization/, m_error => qr/bad.*%s%n/, m_drop => qr/closed|lost/,
	m_silent => qr/nothing was heard from the archive host for 2 s/, m_start => qr/timeout/, m_first => qr/nothing was heard/, m_notice => qr/WARNING:  forged/,
	m_rows => qr/answer does not end/, m_results => qr/./);
my $server = WalHostile->new(modes => \%mode);
foreach my $name (sort keys %mode)
{
	foreach my $command ('plan', 'backup', 'fetch')
	{
		next if $command ne 'plan' && $name =~ /^m_(rows|start|long|notice|results)$/;
		# a machine may be slow to answer: only silence is waited for in vain
		local $ENV{PGCONNECT_TIMEOUT} = $name eq 'm_start' ? 2 : 120;
		my $timeout = $name =~ /^m_(silent|first|long)$/ ? 2 : 120;
		my @args = $command eq 'fetch' ? ('--no-prefetch', '--no-local', $segment, $got) : ();
		# nobody knows how long a backup takes
		next if $command eq 'backup' && $name =~ /silent/;
		my ($code, $out, $err) = walarchive($command, '-h', $server->{dir}, '-p', $server->{port}, '-U', $name, '-d', 'x', '--source=prod', '--retry=0', "--timeout=$timeout", @args);
		cmp_ok($code, '>', $command eq 'fetch' ? 125 : 2, "$name: $command fails");
		cmp_ok($code, '<', 128, "$name: and no crash");
		like($err, $said{$name}, "$name: $command says why");
		unlike("$out$err", qr/\e|\x{c2}\x9b/, "$name: in plain words");
	}
}
is(around(), $before, 'nothing was written');
$server->stop;

# a label that a host gives is a label
foreach my $label ("NULL", "'../../evil'", "E'x\\e[2J'", "''")
{
	says("ALTER TABLE plan_file ALTER label TYPE text; UPDATE plan_file SET label = $label");
	my ($code, $out, $err) = walarchive('backup', @fake, '--json');
	cmp_ok($code, '>', 0, "backup $label: refused");
	like($err, $not_understood, 'as not understood');
	is($out, '', 'and not printed');
	say_again();
}

$host->stop;
done_testing();
