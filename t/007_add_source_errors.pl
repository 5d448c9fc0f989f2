# A first source that does not work is where people give up.  Each of the
# usual mistakes - in the connection string, on the primary's side, with the
# slot - must come back at once from add_source as an error that says what to
# do, must leave nothing behind anywhere, and must not tell a password to the
# log, to a view or to anybody who may not read it.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;

# log_statement: PostgreSQL's tests switch it on, and it shows every argument.
my $host = new_archive_host('archive', conf => "log_statement = none\n");
my $primary = new_primary('primary', conf => q(
autovacuum = off
listen_addresses = '127.0.0.1'
max_wal_senders = 6
max_replication_slots = 7
wal_level = logical
));
my $secret = 'open_sesame_4711';
my $sockets = conninfo($primary);
my $keys = PostgreSQL::Test::Utils::tempdir();

$primary->safe_psql('postgres', qq(
	SET password_encryption = 'scram-sha-256';
	CREATE ROLE replicator LOGIN REPLICATION PASSWORD '$secret';
	CREATE ROLE nobody LOGIN PASSWORD '$secret';
	CREATE ROLE "with cert" LOGIN REPLICATION;
));
unlink($primary->data_dir . '/pg_hba.conf');
append_to_file($primary->data_dir . '/pg_hba.conf', q(
local   replication,all replicator      scram-sha-256
local   all             all             trust
local   replication     nobody          trust
local   replication     ) . getpwuid($<) . q(          trust
hostssl replication     "with cert"     127.0.0.1/32   cert
host    replication     replicator      127.0.0.1/32   scram-sha-256
));
$primary->restart;

sub passfile
{
	my ($name, $password) = @_;
	append_to_file("$keys/$name", "*:*:*:*:$password\n");
	chmod 0600, "$keys/$name";
	return "$keys/$name";
}

sub slots_of
{
	my ($node) = @_;
	return $node->safe_psql('postgres', 'SELECT count(*) FROM pg_replication_slots');
}

# Wait until so many walsenders are there, each with a slot, and none that has
# only looked, or is still ending.
sub wait_walsenders
{
	my ($count, $what) = @_;
	return ok(wait_for("$count walsenders", sub {
		$primary->safe_psql('postgres', q(
			SELECT (SELECT count(*) FROM pg_stat_replication), (SELECT count(*) FROM pg_replication_slots WHERE active))) eq "$count|$count" }),
		$what);
}

# add_source fails with this message and this hint, and leaves nothing.
sub fails
{
	my ($what, $conninfo, $message, $hint, %opt) = @_;
	my $node = $opt{node} // $primary;
	my $args = $opt{args} ? ", $opt{args}" : '';
	my $slots = slots_of($node);

	my ($rc, $out, $err) = $host->psql('postgres',
		"SELECT walarchive.add_source('refused', \$\$$conninfo\$\$$args)", timeout => 60);
	is($rc, 3, "$what: it fails");
	like($err, qr/ERROR:  .*$message/, "$what: the message");
	like($err, qr/HINT:  .*$hint/, "$what: the hint");
	unlike($err, qr/\Q$secret\E/, "$what: no password in the error");
	is($host->safe_psql('postgres', 'SELECT count(*) FROM walarchive.source'), $opt{sources} // '0', "$what: no source is left");
	is(slots_of($node), $slots, "$what: no slot is left");
	ok(!-e archive_dir($host, 'refused'), "$what: no folder is left");
	return;
}

# --- the connection string ---
fails('password', "$sockets user=replicator password=$secret",
	'must not hold a password', 'passfile.*service file.*client certificate');
fails('password in a URI', "postgresql://replicator:$secret\@127.0.0.1:" . $primary->port . '/',
	'must not hold a password', 'passfile');
fails('password of a key', "$sockets sslpassword=$secret",
	'must not hold a password', 'passfile');
fails('replication', "$sockets replication=database",
	'must not set "replication"', 'walarchive sets it');
fails('malformed', "$sockets password $secret",
	'connection string', '.');
fails('ports', 'host=' . $primary->host . ' port=' . $primary->port . ',1',
	'1 hosts, 0 addresses and 2 ports', 'one port for all or one for each');

# --- the way there ---
fails('unknown host', 'host=no-such-host.invalid',
	'no-such-host\.invalid', 'host name, port and network');
fails('nobody there', 'host=127.0.0.1 port=1',
	'Connection refused', 'Check that the server runs');

# --- who may ---
fails('wrong password', "$sockets user=replicator passfile=" . passfile('wrong', 'not_this'),
	'password authentication failed for user "replicator"', 'passfile.*pg_hba\.conf.*REPLICATION');
fails('no password', "$sockets user=replicator passfile=$keys/missing",
	'no password supplied', 'passfile');
fails('no attribute', "$sockets user=nobody",
	'(?:must be superuser or replication role|permission denied to start WAL sender)', 'REPLICATION attribute');
fails('unknown role', "$sockets user=replicator_",
	'(?:no pg_hba\.conf entry|role "replicator_" does not exist)', 'pg_hba\.conf');
fails('no pg_hba line', 'host=127.0.0.1 port=' . $primary->port . ' user=nobody sslmode=disable',
	'no pg_hba\.conf entry for replication connection from host "127\.0\.0\.1", user "nobody"', '"replication" line in the primary\'s pg_hba\.conf');

# --- slots and senders ---
$primary->safe_psql('postgres', q(SELECT pg_create_logical_replication_slot('a_logical_one', 'pgoutput')));
fails('logical slot', $sockets,
	'replication slot "a_logical_one" is a logical one', 'another slot_name', args => "slot_name => 'a_logical_one'");
fails('slot name', $sockets, 'invalid replication slot name "Not-Valid"', 'a-z, 0-9 and "_"', args => "slot_name => 'Not-Valid'");

my ($receivewal) = start_receivewal($primary, slot => 'walarchive_refused');
wait_walsenders(1, 'another program runs');
fails('slot active', $sockets,
	'"walarchive_refused" is active', 'Another walsender holds the replication slot.*another slot_name');

# max_wal_senders = 6
my @more;
for my $n (2 .. 6)
{
	my ($another) = start_receivewal($primary, slot => "more_$n");
	push @more, $another;
	wait_walsenders($n, "$n walsenders are taken");
}
fails('no walsender', $sockets,
	'number of requested standby connections exceeds', 'Raise max_wal_senders');
stop_process($_) for @more;

# max_replication_slots = 7
is(slots_of($primary), '7', 'all slots are taken');
wait_walsenders(1, 'walsenders are free again');
fails('no slot', $sockets,
	'all replication slots are in use', 'raise max_replication_slots', args => "slot_name => 'one_too_many'");
stop_process($receivewal);
wait_walsenders(0, 'pg_receivewal is gone');

# --- wal_level = minimal ---
my $minimal = new_primary('minimal', conf => "wal_level = minimal\nmax_wal_senders = 0\n");
fails('minimal', conninfo($minimal),
	'(?:max_wal_senders|wal_level)', 'wal_level = replica', node => $minimal);

# --- with check_connection => false it is the receiver that reports ---
$host->safe_psql('postgres', "SELECT walarchive.add_source('unchecked', '$sockets user=replicator passfile=$keys/wrong', check_connection => false)");
ok(wait_cause($host, 'unchecked', 'authentication_failed'), 'unchecked: the receiver reports the cause');
ok(wait_for('it to wait', sub { stat_of($host, 'unchecked', 'state') eq 'waiting' }), 'unchecked: and waits');
ok(wait_health($host, 'unchecked', 'receiver', 'critical'), 'unchecked: health is critical');

# --- the right password, from a passfile ---
$primary->safe_psql('postgres', q(
	SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots));
$host->safe_psql('postgres', "SELECT walarchive.alter_source('unchecked', conninfo => '$sockets user=replicator passfile=" . passfile('right', $secret) . "')");
wait_streaming($host, 'unchecked');
wait_archived($host, 'unchecked', $primary);
ok(wait_for('one connection', sub { $primary->safe_psql('postgres', q(SELECT usename FROM pg_stat_replication)) eq 'replicator' }),
	'the passfile is used');

# --- another server for backups ---
my $other = new_primary('other');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$primary->backup('base');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
my @now = (sources => '1');
fails('backups: password', "$sockets user=replicator passfile=$keys/right", 'must not hold a password', 'passfile', @now,
	args => "backup_conninfo => \$\$host=db2 password=$secret\$\$");
fails('backups: nobody there', "$sockets user=replicator passfile=$keys/right", 'Connection refused', 'Check that the server runs', @now,
	args => "backup_conninfo => 'host=127.0.0.1 port=1'");
fails('backups: another cluster', "$sockets user=replicator passfile=$keys/right", 'server has system identifier \d+, the archive belongs to \d+',
	'.', @now, args => "backup_conninfo => \$\$" . conninfo($other) . "\$\$");
my $kept = receiver_pid($host, 'unchecked');
my ($refused, undef, $why) = $host->psql('postgres', "SELECT walarchive.alter_source('unchecked', backup_conninfo => \$\$" . conninfo($other) . "\$\$)");
like($why, qr/system identifier/, 'alter_source refuses another cluster as well');
$host->safe_psql('postgres', "SELECT walarchive.alter_source('unchecked', backup_conninfo => \$\$" . conninfo($standby) . "\$\$)");
like($host->safe_psql('postgres', "SELECT backup_conninfo FROM walarchive.source WHERE name = 'unchecked'"), qr/port=${\ $standby->port}/,
	'a standby of the same cluster will do');
ok(wait_for('the file', sub { read_file_bytes(archive_dir($host, 'unchecked') . '/source.json') =~ /"backup_conninfo": ?"[^"]*port=${\ $standby->port}/ }),
	'and is in the settings on disk');
is(receiver_pid($host, 'unchecked'), $kept, 'the receiver need not know, and goes on');
$standby->stop;
$other->stop;

# --- changed again and again: each change starts a new receiver ---
for my $i (1 .. 10)
{
	my $pid = receiver_pid($host, 'unchecked');
	$host->safe_psql('postgres', q(SELECT walarchive.alter_source('unchecked', on_gap => 'continue')));
	wait_for('a new receiver', sub {
		stat_of($host, 'unchecked', "state = 'streaming' AND pid <> $pid") eq 't' })
	  or BAIL_OUT('no new receiver');
}
is_deeply([ grep { ($_->{cause} // '') eq 'directory_in_use' } journal_lines($host, 'unchecked', 'state') ], [],
	'no new receiver meets the old one');

# --- a client certificate ---
my $subject = '/CN=walarchive test';
sub openssl { system_or_bail('openssl', @_); return; }
openssl('req', '-new', '-x509', '-days', '30', '-nodes', '-newkey', 'rsa:2048', '-subj', '/CN=test authority',
	'-keyout', "$keys/ca.key", '-out', "$keys/ca.crt");
for my $of ([ 'server', '/CN=localhost' ], [ 'client', '/CN=with cert' ])
{
	my ($name, $subj) = @$of;
	openssl('req', '-new', '-nodes', '-newkey', 'rsa:2048', '-subj', $subj,
		'-keyout', "$keys/$name.key", '-out', "$keys/$name.csr");
	openssl('x509', '-req', '-days', '30', '-in', "$keys/$name.csr", '-CA', "$keys/ca.crt", '-CAkey', "$keys/ca.key",
		'-CAcreateserial', '-out', "$keys/$name.crt");
	chmod 0600, "$keys/$name.key";
}
$primary->append_conf('postgresql.conf', qq(
ssl = on
ssl_ca_file = '$keys/ca.crt'
ssl_cert_file = '$keys/server.crt'
ssl_key_file = '$keys/server.key'
));
$primary->reload;
my $tls = "host=localhost hostaddr=127.0.0.1 port=${\ $primary->port} user='with cert' sslmode=verify-full sslrootcert=$keys/ca.crt";
ok(wait_for('TLS', sub { $primary->safe_psql('postgres', 'SHOW ssl') eq 'on' }), 'TLS is on');
fails('no certificate', $tls, 'certificate', 'sslcert', sources => '1');
fails('unknown authority', $tls =~ s/ca\.crt/client.crt/r . " sslcert=$keys/client.crt sslkey=$keys/client.key",
	'certificate verify failed', '.', sources => '1');
add_source($host, 'tls', $primary, conninfo => "$tls sslcert=$keys/client.crt sslkey=$keys/client.key");
switch_wal($primary, 1);
wait_archived($host, 'tls', $primary);
# (the connection with which add_source looked may still be ending)
ok(wait_for('one connection', sub { $primary->safe_psql('postgres', q(
		SELECT r.usename, s.ssl, s.client_dn FROM pg_stat_replication r JOIN pg_stat_ssl s USING (pid) WHERE r.application_name = 'walarchive_tls')) eq
	'with cert|t|/CN=with cert' }), 'WAL comes over TLS with a client certificate');
is(stat_of($host, 'tls', 'sender_host'), 'localhost', 'from the host that was named');

# --- who may read a connection string ---
$host->safe_psql('postgres', 'CREATE ROLE monitor; GRANT pg_monitor TO monitor; GRANT USAGE ON SCHEMA walarchive TO monitor');
my ($rc, $out, $err) = $host->psql('postgres', 'SET ROLE monitor; SELECT conninfo FROM walarchive.source');
like($err, qr/permission denied/, 'pg_monitor may not read a conninfo');
my $all = $host->safe_psql('postgres', q(
	SET ROLE monitor;
	SELECT r FROM walarchive.stat_receiver r;
	SELECT s FROM walarchive.status s;
	SELECT h FROM walarchive.health h;
	SELECT e FROM walarchive.event e;
));
like($all, qr/tls/, 'pg_monitor may read the views');
# (libpq names the passfile in its error, which is a help)
unlike($all, qr/passfile=|sslkey=|client\.key|user=|\Q$secret\E/, 'which show no conninfo');

# --- the log ---
my $log = slurp_file($host->logfile);
unlike($log, qr/\Q$secret\E/, 'no password in the log of the archive host');
like($log, qr/archive of source "unchecked" is not streaming: .*password authentication failed/, 'but the reason is');
is((grep { -f $_ && index(read_file_bytes($_), $secret) >= 0 }
		map { (archive_dir($host, $_) . '/source.json', archive_dir($host, $_) . '/journal') } qw(unchecked tls)),
	0, 'nor in the files');

done_testing();
