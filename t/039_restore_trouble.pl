# A restore over a network asks a machine that may be another one: the
# certificate is not that of the archive host, or there is no encryption
# although it was asked for.  And what was restored may not be what was planned,
# because somebody has changed a setting, or because the planner is wrong.  The
# first must end before anything is made, the second before the copy is opened;
# both say what they have found, to people and to scripts.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalRestore;

my $host = new_archive_host('archive', conf => "listen_addresses = '127.0.0.1'\n");
my $primary = new_primary('primary', conf => "autovacuum = off\n");
my $bindir = $primary->config_data('--bindir');
add_source($host, 'prod', $primary);
take_backup($host, 'first');
$primary->safe_psql('postgres', q(
	CREATE TABLE steps (step text);
	INSERT INTO steps VALUES ('one');
	SELECT pg_create_restore_point('early');
	INSERT INTO steps VALUES ('two');
	SELECT pg_create_restore_point('late')));
my $aborted = $primary->safe_psql('postgres', 'BEGIN; SELECT pg_current_xact_id(); ROLLBACK');
wait_decoded($host, $primary);

# --- TLS ---
my $keys = PostgreSQL::Test::Utils::tempdir();
sub openssl { system_or_bail('openssl', @_); return; }
for my $authority ('ca', 'other')
{
	openssl('req', '-new', '-x509', '-days', '30', '-nodes', '-newkey', 'rsa:2048', '-subj', "/CN=authority $authority",
		'-keyout', "$keys/$authority.key", '-out', "$keys/$authority.crt");
}
for my $name ('localhost', 'elsewhere')
{
	openssl('req', '-new', '-nodes', '-newkey', 'rsa:2048', '-subj', "/CN=$name", '-keyout', "$keys/$name.key", '-out', "$keys/$name.csr");
	openssl('x509', '-req', '-days', '30', '-in', "$keys/$name.csr", '-CA', "$keys/ca.crt", '-CAkey', "$keys/ca.key",
		'-CAcreateserial', '-out', "$keys/$name.crt");
	chmod(0600, "$keys/$name.key") or die "chmod: $!";
}

# What the client says to a connection string, whatever it is asked to do, and what it leaves.
sub refused
{
	my ($what, $message, $conninfo) = @_;
	my @archive = ('-w', '-d', 'host=localhost hostaddr=127.0.0.1 dbname=postgres port=' . $host->port . " $conninfo");
	my $place = new_place();
	my ($code, $result, $err) = restore_copy($place, @archive, '--source=prod', '--start');
	is($code, 3, "$what: exit code");
	like($err, $message, "$what: the message");
	ok(!-e $place, "$what: nothing was made");
	($code) = walarchive('plan', @archive, '--source=prod');
	is($code, 3, "$what: nor is anything planned");
	my $file = PostgreSQL::Test::Utils::tempdir() . '/file';
	($code, undef, $err) = walarchive('fetch', @archive, '--source=prod', '--no-prefetch', '--retry=0', '000000010000000000000001', $file);
	cmp_ok($code, '>', 125, "$what: a recovery stops");
	like($err, $message, "$what: and says why");
	($code) = walarchive('fetch', @archive, '--source=prod', '--no-prefetch', '--retry=0', '--mode=standby', '000000010000000000000001', $file);
	is($code, 1, "$what: a standby waits");
	ok(!-e $file, "$what: without a file");
	return;
}

refused('a server without TLS', qr/server does not support SSL, but SSL was required/, 'sslmode=require');
$host->append_conf('postgresql.conf', "ssl = on\nssl_cert_file = '$keys/localhost.crt'\nssl_key_file = '$keys/localhost.key'\n");
$host->reload;
ok(wait_for('TLS', sub { $host->safe_psql('postgres', 'SHOW ssl') eq 'on' }), 'the server has TLS');
my $verified = "sslmode=verify-full sslrootcert=$keys/ca.crt";
refused('a certificate of somebody else\'s authority', qr/certificate verify failed/, "sslmode=verify-full sslrootcert=$keys/other.crt");
refused('no certificate of an authority', qr/root certificate file "\S*nothing\.crt" does not exist/, "sslmode=verify-full sslrootcert=$keys/nothing.crt");
refused('a certificate that is none', qr/could not read root certificate file/, "sslmode=verify-full sslrootcert=$keys/localhost.key");

# what is right is taken, by the recovery as well
my @tls = ('-d', 'host=localhost hostaddr=127.0.0.1 dbname=postgres port=' . $host->port . " $verified", '--source=prod', '--start');
my $data = new_place();
my ($code, $result, $err) = restore_copy($data, @tls);
is($code, 0, 'a restore over TLS') or diag($err);
ok($result->{agrees}, 'as planned');
stop_copy($data);

# what the environment says the recovery is told as well: it may be started from another one
{
	local $ENV{PGSSLMODE} = 'verify-full';
	local $ENV{PGSSLROOTCERT} = "$keys/ca.crt";
	$data = new_place();
	($code, $result, $err) = restore_copy($data, '-d', 'host=localhost hostaddr=127.0.0.1 dbname=postgres port=' . $host->port, '--source=prod');
	is($code, 0, 'a restore over TLS by the environment') or diag($err);
}
my ($command) = slurp_file("$data/postgresql.auto.conf") =~ /^restore_command = (.*)$/m;
like($command, qr/host=\W*localhost\b.*sslmode=\W*verify-full\b.*sslrootcert=\W*\Q$keys\E/, 'its recovery looks as closely');

# of the right authority, but of another host
$host->append_conf('postgresql.conf', "ssl_cert_file = '$keys/elsewhere.crt'\nssl_key_file = '$keys/elsewhere.key'\n");
$host->restart;
refused('another host\'s certificate', qr/server certificate for "elsewhere" does not match host name "localhost"/, $verified);

# --- not what was planned ---
# PostgreSQL's programs, but one starts what another hand has changed
my $programs = PostgreSQL::Test::Utils::tempdir();
opendir(my $dir, $bindir) or die "could not open $bindir: $!";
for my $name (grep { !/^\.|^postgres$/ } readdir($dir))
{
	symlink("$bindir/$name", "$programs/$name") or die "symlink: $!";
}
closedir($dir);
append_to_file("$programs/postgres", <<"EOF");
#!/bin/sh
# -D DIRECTORY alone is the start
if [ \$# -eq 2 ] && [ "\$1" = -D ]; then
	sed -i "s/'late'/'early'/" "\$2/postgresql.auto.conf" || exit 1
fi
exec '$bindir/postgres' "\$@"
EOF
chmod(0755, "$programs/postgres") or die "chmod: $!";

my @archive = (archive_args($host), '--start');
$data = new_place();
($code, $result, $err) = restore_copy($data, @archive, '--to-name=late', "--bindir=$programs");
is($code, 1, 'a recovery that ends elsewhere: exit code');
like($err, qr{recovery ended at \S+/\S+, but \S+/\S+ was planned}, 'both places are named');
like($err, qr/not what was planned\. Keep it and its log/, 'with what to do');
ok(!$result->{done} && $result->{compared} && !$result->{agrees}, 'and in JSON');
ok(defined $result->{replayed_lsn} && $result->{replayed_lsn} ne $result->{stop_lsn}, '... with the places');
is(copy_sql($result, 'SELECT pg_is_in_recovery()'), 't', 'it is not opened');
is(copy_sql($result, 'SELECT string_agg(step, $$ $$) FROM steps'), 'one', 'but can be looked at');
stop_copy($data);

# one in the primary's place opens itself: its history tells
$data = new_place();
($code, $result, $err) = restore_copy($data, @archive, '--to-name=late', "--bindir=$programs", '--as-primary',
	'--port', PostgreSQL::Test::Cluster::get_free_port());
is($code, 1, 'in the primary\'s place: exit code');
like($err, qr{(recovery ended|the copy's timeline begins) at \S+/\S+, but \S+/\S+ was planned}, '... and both places');
ok(!$result->{done} && $result->{compared} && !$result->{agrees}, '... and in JSON');
stop_copy($data);

# a planner that is wrong about the last commit
$host->safe_psql('postgres', qq(
	ALTER FUNCTION walarchive.plan_restore RENAME TO right_plan;
	CREATE FUNCTION walarchive.plan_restore(source text, target_time timestamptz, target_lsn pg_lsn, target_xid xid, target_name text,
		target_immediate boolean, target_timeline integer, inclusive boolean, backup text, hold interval)
	RETURNS walarchive.planned_restore LANGUAGE plpgsql AS \$\$
	DECLARE
		plan walarchive.planned_restore;
	BEGIN
		plan := walarchive.right_plan(source, target_time, target_lsn, target_xid, target_name, target_immediate,
									  target_timeline, inclusive, backup, hold);
		plan.last_commit_xid := '$aborted';
		RETURN plan;
	END \$\$));
$data = new_place();
($code, $result, $err) = restore_copy($data, @archive);
is($code, 1, 'another last commit: exit code');
like($err, qr/transaction $aborted is not committed in the copy, as was planned/, 'the transaction is named');
ok(!$result->{done} && $result->{compared} && !$result->{agrees}, 'and in JSON');
is(copy_sql($result, 'SELECT pg_is_in_recovery()'), 't', 'it is not opened');
stop_copy($data);

done_testing();
