# At three in the morning a person types what comes to mind, a probe asks every
# five seconds, a cron job wants the label and nothing else, and the archive
# host may be the thing that is broken.  What the client says must be true, its
# exit codes those of its manual, and what it prints for programs JSON.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use IPC::Run;
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;

my $host = new_archive_host('archive');
my $primary = new_primary('primary', conf => "autovacuum = off\nwal_keep_size = 64MB\n");
my @connect = ('-h', $host->host, '-p', $host->port, '-d', 'postgres', '-w');

# Exit code, standard output, standard error.
sub client
{
	my (@args) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'walarchive', @args ], '<', '/dev/null', '>', \$out, '2>', \$err);
	return ($? >> 8, $out, $err);
}

# The same, against the host.
sub ask
{
	my ($command, @args) = @_;
	return client($command, @connect, @args);
}

sub value { return $host->safe_psql('postgres', $_[0]); }

sub json { return JSON::PP::decode_json($_[0]); }

# --- the command line ---
my ($code, $out, $err) = client();
is($code, 2, 'without a command: bad usage');
like($out, qr/\brestore\b|\bplan\b/, '... and what there is');
($code, $out, $err) = client('--version');
is("$code $out", "0 walarchive 0.1.0\n", 'its version');
($code, $out, $err) = client('--help');
is($code, 0, 'help');
my ($list) = $out =~ /^Commands:\n(.*?)\n\n/ms;
my @commands = $list =~ /^  (\w+) +\S/mg;
cmp_ok(scalar(@commands), '>=', 4, '... lists commands');
($code, $out, $err) = client('restroe');
is($code, 2, 'a command that is none');
like($err, qr/no command "restroe"/, '... is named');
for my $bad (
	[ 'an unknown option', 'plan', '--to-tiem=now' ],
	[ 'a time that is none', 'plan', '--source=prod', '--to-time=soon' ],
	[ 'an LSN that is none', 'plan', '--source=prod', '--to-lsn=16' ],
	[ 'a transaction that is none', 'plan', '--source=prod', '--to-xid=-1' ],
	[ 'two targets', 'plan', '--source=prod', '--to-end', '--to-xid=700' ],
	[ 'a target without another side', 'plan', '--source=prod', '--to-name=x', '--exclusive' ],
	[ 'no source', 'plan', '--to-end' ],
	[ 'no source for a backup', 'backup' ],
	[ 'a rate that is none', 'backup', '--source=prod', '--max-rate=fast' ],
	[ 'an argument too many', 'status', 'prod' ],
	[ 'a status of files', 'status', '--archive=/tmp' ],
	[ 'no interval', 'status', '--watch=0' ])
{
	my ($what, @args) = @$bad;
	($code, $out, $err) = client(@args);
	is($code, 2, "$what: bad usage");
	like($err, qr/^walarchive: error: |unrecognized option/m, "$what: is said") or diag($err);
	is($out, '', "$what: nothing else is printed");
}

# each option that a command knows is in the manual
my $manual = slurp_file("$FindBin::RealBin/../docs/walarchive.1");
$manual =~ s/\\-/-/g;
for my $command (@commands)
{
	($code, $out, $err) = client($command, '--help');
	is($code, 0, "$command --help");
	my %seen;
	my @missing = grep { !$seen{$_}++ && $manual !~ /\Q$_\E(?![\w-])/ } $out =~ /(--[a-z][a-z-]+)/g;
	is("@missing", '', "$command: the manual has all of its options");
	like($manual, qr/^\.B $command$/m, "$command: and the command");
}

# --- nobody answers ---
my $nowhere = PostgreSQL::Test::Utils::tempdir_short();
($code, $out, $err) = client('status', '-h', $nowhere, '--retry=0');
is($code, 3, 'status of a host that is not there');
like($err, qr/^walarchive: error: .*No such file or directory/, '... says so');
($code, $out, $err) = client('check', '-h', $nowhere);
is($code, 3, 'check of a host that is not there: unknown');
like($out, qr/^walarchive UNKNOWN: .*No such file or directory.*\n\z/, '... in one line');
($code, $out, $err) = client('check', '-h', $nowhere, '--json');
is(json($out)->{result}, 'UNKNOWN', '... or in JSON');

# --- a host without sources ---
($code, $out, $err) = ask('status');
is($code, 0, 'status of an empty archive');
like($out, qr/no source yet/, '... says that there is none');
($code, $out, $err) = ask('check');
is($code, 0, 'check of an empty archive') or diag($out);
($code, $out, $err) = ask('status', '--source=prod');
is($code, 4, 'status of a source that is not there');
like($err, qr/there is no source "prod"/, '... says so');
($code, $out, $err) = ask('check', '--source=prod');
is($code, 3, 'check of a source that is not there');
($code, $out, $err) = client('status', @connect[ 0 .. 3 ], '-d', 'template1', '-w');
is($code, 4, 'a database without the extension');
like($err, qr/hint: .*extension walarchive/, '... is understood');

# --- a source, not yet well ---
add_source($host, 'prod', $primary);
$primary->safe_psql('postgres', 'CREATE TABLE t (i int)');
wait_archived($host, 'prod', $primary);
wait_health($host, 'prod', 'backup', 'warning');
wait_health($host, 'prod', 'index', 'ok');
wait_health($host, 'prod', 'gap', 'ok');
my @ignore = ('--ignore=relation_names');
($code, $out, $err) = ask('check', '--source=prod', @ignore);
is($code, 1, 'a source without a backup: a warning');
like($out, qr/^walarchive WARNING: .*prod backup: no usable backup[^\n]*\n\z/, '... in one line');
like($out, qr/\| 'prod lag'=[\d.]+s 'prod lag_bytes'=\d+B 'prod backup_age'=U$/, '... with figures');
($code, $out, $err) = ask('check', '--source=prod', '--fail-at=critical');
is($code, 0, 'that is no reason to restart it');
like($out, qr/^walarchive OK: .*no usable backup/, '... but is told');
($code, $out, $err) = ask('check', '--source=prod', '--ignore=backup', @ignore);
is($code, 0, 'what is ignored is ignored') or diag($out);
like($out, qr/^walarchive OK: prod is streaming/, '... and the rest is well');
($code, $out, $err) = ask('status');
is($code, 0, 'status');
like($out, qr/^source +state +health.*\nprod +streaming +warning /, '... is a table');
like($out, qr/^warning   prod backup: no usable backup\n {10}\S/m, '... and what is not well, with what to do');
($code, $out, $err) = ask('status', '--json');
my $status = json($out);
is($status->{sources}[0]{source} . ' ' . $status->{sources}[0]{state}, 'prod streaming', 'status in JSON');
is((grep { $_->{check} eq 'backup' } @{ $status->{health} })[0]{severity}, 'warning', '... has the checks');

# the options of psql
my $connstr = 'host=' . $host->host . ' port=' . $host->port . ' dbname=postgres';
($code, $out, $err) = client('status', '-d', $connstr, '--source=prod');
is($code, 0, 'a connection string will do');
{
	local $ENV{PGHOST} = $host->host;
	local $ENV{PGPORT} = $host->port;
	local $ENV{PGDATABASE} = 'postgres';
	($code, $out, $err) = client('status');
	is($code, 0, '... and so will the environment');
}

# --- backups ---
($code, $out, $err) = ask('backup', '--source=prod', '--label=one', '--compress=gzip:1', "--annotation=it's mine", '--max-rate=100MB');
is("$code $out", "0 one\n", 'a backup is taken, and its label is all that is printed') or diag($err);
ok(wait_for('its row', sub { value(q(SELECT state, compression, annotation FROM walarchive.backup WHERE label = 'one')) eq "usable|gzip|it's mine" }),
	'... as was said');
($code, $out, $err) = ask('backup', '--source=prod', '--json');
my $taken = json($out);
is("$code $taken->{source} $taken->{kind}", '0 prod full', 'another one, in JSON');
like($taken->{label}, qr/^\d{8}T\d{6}F$/, '... called after the time');
($code, $out, $err) = ask('backup', '--source=prod', '--label=one');
is($code, 4, 'a label that is taken');
like($err, qr/^walarchive: error: .*one/, '... is an error of the host\'s');
($code, $out, $err) = ask('backup', '--source=nobody');
is($code, 4, 'a backup of a source that is not there');
like($err, qr/nobody/, '... is an error');
($code, $out, $err) = ask('backup', '--source=prod', '--label=later', '--no-wait');
is("$code $out", "0 later\n", 'a backup that is not waited for');
wait_for('it', sub { value(q(SELECT count(*) FROM walarchive.backup WHERE label = 'later' AND state = 'usable')) eq '1' });

# Ctrl-C, while it crawls
$primary->safe_psql('postgres', q(INSERT INTO t SELECT generate_series(1, 300000)));
wait_archived($host, 'prod', $primary);
my ($said, $mistakes) = ('', '');
my $crawling = IPC::Run::start([ 'walarchive', 'backup', @connect, '--source=prod', '--label=given_up', '--max-rate=32kB' ],
	'<', '/dev/null', '>', \$said, '2>', \$mistakes);
ok(wait_for('the backup', sub {
	value(q(SELECT count(*) FROM walarchive.stat_progress_backup WHERE label = 'given_up' AND backup_streamed > 0)) eq '1' }), 'a slow backup');
($code, $out, $err) = ask('status');
like($out, qr/^backup given_up of prod: streaming database files, .* of /m, 'status shows it');
$crawling->signal('INT');
ok(wait_for('its end', sub { $crawling->pump_nb if $crawling->pumpable; !$crawling->pumpable }), 'Ctrl-C ends it');
$crawling->finish;
isnt($crawling->result(0), 0, '... not as a success');
ok(wait_for('the backup to be given up', sub { value('SELECT count(*) FROM walarchive.stat_progress_backup') eq '0' }), '... on the host, too');
is(value(q(SELECT count(*) FROM walarchive.backup WHERE label = 'given_up' AND state IN ('usable', 'waiting'))), '0', '... and leaves none');

# --- well, and not well ---
wait_health($host, 'prod', 'lag', 'ok');
ok(wait_for('all to be well', sub { (ask('check', '--source=prod', @ignore, '--ignore=backup'))[0] == 0 }), 'with a backup all is well')
  or diag((ask('check'))[1]);
$host->safe_psql('postgres', q(SELECT walarchive.pause_source('prod')));
wait_state($host, 'prod', 'paused');
wait_health($host, 'prod', 'receiver', 'warning');
($code, $out, $err) = ask('check', '--source=prod', @ignore, '--ignore=backup');
is($code, 1, 'a paused source is a warning') or diag($out);
$host->safe_psql('postgres', q(SELECT walarchive.resume_source('prod')));
wait_streaming($host, 'prod');

# a role that may look at nothing
value('CREATE ROLE stranger LOGIN');
($code, $out, $err) = ask('status', '-U', 'stranger');
is($code, 3, 'a role without rights is refused');
like($err, qr/permission denied/, '... and told');
($code, $out, $err) = ask('check', '-U', 'stranger');
is($code, 3, '... and knows nothing');
value('GRANT pg_monitor TO stranger');
($code, $out, $err) = ask('status', '-U', 'stranger');
is($code, 0, 'pg_monitor may') or diag($err);

# --- watched, over a restart of the host ---
my ($seen, $trouble) = ('', '');
my $watch = IPC::Run::start([ 'walarchive', 'status', @connect, '--watch=1' ], '<', '/dev/null', '>', \$seen, '2>', \$trouble);
my $pumped = sub { my ($what, $condition) = @_; return wait_for($what, sub { $watch->pump_nb; $condition->() }); };
ok($pumped->('two looks', sub { my $n = () = $seen =~ /^prod +streaming/mg; $n >= 2 }), 'it is shown again and again');
$host->stop('immediate');
ok($pumped->('an error', sub { $trouble ne '' }), 'a host that goes is noticed');
$host->start;
wait_streaming($host, 'prod');
$seen = '';
ok($pumped->('it to come back', sub { $seen =~ /^prod +streaming/m }), '... and so is one that comes back');
$watch->kill_kill;

done_testing();
