# Everybody who can connect to the archive host's database tries what they can:
# to call what was not granted, to have the catalog's own code run theirs, to get
# SQL into it, to reach files outside of the archive, to find a password.  A new
# function is found here by its name: somebody has to decide who may call it.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;

my $secret = 'tr0ub4dor&3';
my $passfile = PostgreSQL::Test::Utils::tempdir() . '/passfile';
my $host = new_archive_host('archive', conf => qq(
log_min_messages = debug1
log_min_error_statement = panic
log_statement = none
log_line_prefix = '%b|'
walarchive.max_indexers = 1
max_worker_processes = 30
));
my $primary = new_primary('primary');
$primary->safe_psql('postgres', "SET password_encryption = 'scram-sha-256'; CREATE ROLE archiver LOGIN REPLICATION PASSWORD '$secret'");
unlink($primary->data_dir . '/pg_hba.conf');
$primary->append_conf('pg_hba.conf', "local replication archiver scram-sha-256\nlocal all archiver scram-sha-256\nlocal all all trust\nlocal replication all trust\n");
$primary->reload;
append_to_file($passfile, "*:*:*:archiver:$secret\n");
chmod(0600, $passfile) or die;

# ---- secrets ----

foreach my $conninfo ("host=x user=archiver password=$secret", "postgresql://archiver:$secret\@localhost/",
	"host=x sslpassword=$secret", "host=x password = '$secret'", "host=x passwd=$secret", "host=x password='$secret")
{
	my ($rc, $out, $err) = $host->psql('postgres', 'SELECT walarchive.add_source($c$p$c$, $c$' . $conninfo . '$c$, check_connection => false)');
	isnt($rc, 0, 'a connection string with a secret, or none at all, is refused');
	$err =~ s/^LINE .*//ms;
	unlike($err, qr/\Q$secret\E/, 'and the secret is not in the error');
}
add_source($host, 'prod', $primary, conninfo => conninfo($primary) . " user=archiver passfile=$passfile");
foreach my $call ('alter_source($s$prod$s$, conninfo => %s)', 'alter_source($s$prod$s$, backup_conninfo => %s)',
	'attach_source($s$other$s$, %s)', 'take_backup($s$prod$s$, conninfo => %s)', 'check_connection(%s, $s$slot$s$, false, NULL)')
{
	my ($rc, $out, $err) = $host->psql('postgres', 'SELECT walarchive.' . sprintf($call, "\$c\$host=/nowhere user=archiver password=$secret\$c\$"));
	isnt($rc, 0, "a secret is refused by $call");
	like($err, qr/password/, 'with a reason');
	$err =~ s/^LINE .*//ms;
	unlike($err, qr/\Q$secret\E/, 'in which it is not');
}
my $old_segment = $primary->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_lsn())');
switch_wal($primary, 2);
wait_archived($host, 'prod', $primary);
wait_for('the finished segment in the catalog',
	sub { $host->safe_psql('postgres', "SELECT count(*) > 0 FROM walarchive.segment WHERE state = 'finished'") eq 't' });

# a wrong one, as well: what libpq says of it
append_to_file("$passfile.wrong", "*:*:*:archiver:$secret-wrong\n");
chmod(0600, "$passfile.wrong") or die;
$host->safe_psql('postgres', "SELECT walarchive.add_source('wrong', '" . conninfo($primary)
	  . " user=archiver passfile=$passfile.wrong', check_connection => false, relation_names_interval => NULL)");
ok(wait_cause($host, 'wrong', 'authentication_failed'), 'a wrong password is refused');
foreach my $what ((map { "walarchive.$_" } split(/\n/, $host->safe_psql('postgres',
				"SELECT relname FROM pg_class WHERE relnamespace = 'walarchive'::regnamespace AND relkind IN ('r', 'v')"))),
	'pg_stat_activity', 'pg_settings', 'pg_file_settings', 'pg_stat_wal_receiver')
{
	my $text = $host->safe_psql('postgres', "SELECT coalesce(string_agg(t::text, E'\\n'), '') FROM $what t");
	unlike($text, qr/\Q$secret\E/, "no secret in $what");
}
unlike(slurp_file($host->logfile), qr/\Q$secret\E/, 'nor in the log');
unlike(slurp_file(archive_dir($host, 'prod') . "/$_"), qr/\Q$secret\E/, "nor in $_") foreach (qw(source.json journal));
my $modes = `find '$host->{wa_directory}' -mindepth 1 \\( -type f ! -perm 0600 -o -type d ! -perm 0700 \\)`;
is($modes, '', 'folders and files of the archive are for its owner alone');

# ---- who may call what ----

my %decided;
$decided{$_} = 'steer' foreach (qw(
	accept_new_cluster add_source alter_source annotate_backup attach_source cancel_backup delete_backup drop_source expire
	grant_read pause_source pin_backup rescan resume_source revoke_read schedule_backups take_backup
	unpin_backup unschedule_backups verify_backup));
$decided{$_} = 'read' foreach (qw(
	commits destructive_commits plan_files plan_report plan_restore plan_tablespaces plan_undo read_backup_file read_wal release_plan renew_plan
	source_layout stranded_commits stream_backup_file stream_wal verify wal_file wal_records wal_stats));
$decided{$_} = 'monitor' foreach (qw(backup_plan backup_state host_state observer_state progress_state receiver_state relation_of));

$host->safe_psql('postgres', q(
	CREATE ROLE nobody LOGIN;
	CREATE ROLE files LOGIN IN ROLE pg_read_server_files;
	CREATE ROLE monitor LOGIN IN ROLE pg_monitor;
	CREATE ROLE operator LOGIN;
	CREATE ROLE reader LOGIN;
	SELECT walarchive.grant_read('prod', 'reader');));
my @functions = map { [ split(/\|/, $_, -1) ] } split(/\n/, $host->safe_psql('postgres', q(
	SELECT p.proname, p.oid::regprocedure, p.prosecdef,
		coalesce(array_to_string(p.proconfig, ' '), ''),
		l.lanname, coalesce(obj_description(p.oid, 'pg_proc') LIKE 'private:%', false),
		has_function_privilege('nobody', p.oid, 'EXECUTE'), has_function_privilege('files', p.oid, 'EXECUTE'),
		has_function_privilege('monitor', p.oid, 'EXECUTE'), has_function_privilege('reader', p.oid, 'EXECUTE')
	FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
	WHERE p.pronamespace = 'walarchive'::regnamespace ORDER BY 1)));
my %seen;
my (@undecided, @wrong, @open);
foreach (@functions)
{
	my ($name, $signature, $definer, $config, $language, $private, $nobody, $files, $monitor, $reader) = @$_;
	my $who = $decided{$name} // ($private eq 't' ? 'owner' : '');
	$seen{$name} = 1;
	push @undecided, $signature if $who eq '' || ($decided{$name} && $private eq 't' && $who ne 'monitor');
	push @wrong, $signature
	  if $nobody eq 't' || $files eq 't' || ($monitor eq 't') != ($who eq 'monitor') || ($reader eq 't') != ($who eq 'read');
	# what is not C names nothing without its schema, whoever calls it
	push @open, $signature if ($language ne 'c' || $definer eq 't') && $config !~ /search_path=pg_catalog, pg_temp/;
}
is(join(' ', @undecided), '', 'of each function somebody has decided who may call it');
is(join(' ', grep { !$seen{$_} } sort keys %decided), '', 'and each of these is there');
is(join(' ', @wrong), '', 'each may be called by whom it is for, and by nobody else');
is(join(' ', @open), '', 'every function has a search_path of its own');
cmp_ok(scalar(@functions), '>', 100, 'all of them were looked at');
is($host->safe_psql('postgres', q(
	SELECT string_agg(c.oid::regclass::text, ' ') FROM pg_class c
	WHERE c.relnamespace = 'walarchive'::regnamespace
	AND (has_table_privilege('nobody', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
		OR has_table_privilege('files', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
		OR has_table_privilege('reader', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
		OR has_table_privilege('monitor', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')))),
	'', 'nobody else may read or write a table or view');
is($host->safe_psql('postgres', q(
	SELECT string_agg(r || ' ' || attrelid::regclass || '.' || attname, ' ') FROM pg_attribute, unnest(ARRAY['nobody', 'files', 'monitor', 'operator', 'reader']) r
	WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'walarchive'::regnamespace AND relkind IN ('r', 'v'))
		AND attnum > 0 AND NOT attisdropped AND attname LIKE '%conninfo%' AND has_column_privilege(r, attrelid, attnum, 'SELECT'))),
	'', 'nor a connection string');
$host->safe_psql('postgres', join(';', 'GRANT USAGE ON SCHEMA walarchive TO operator',
		map { ($decided{ $_->[0] } // '') eq 'steer' ? "GRANT EXECUTE ON FUNCTION $_->[1] TO operator" : () } @functions));

# ---- calls of everything ----

# Arguments for any function: by their name, else by their type.
$host->safe_psql('postgres', q(
	CREATE SCHEMA probe;
	GRANT USAGE ON SCHEMA probe TO PUBLIC;
	CREATE TABLE probe.canary (alive boolean);
	-- calls 'f' with 'payload' in each of its text arguments, one by one, or with likely values
	CREATE FUNCTION probe.call(f regprocedure, payload text) RETURNS SETOF text
	LANGUAGE plpgsql AS $$
	DECLARE
		p record;
		a text[];
		n integer;
		state text;
		message text;
	BEGIN
		SELECT pronargs, proargtypes, proargnames, proretset, prorettype INTO p FROM pg_catalog.pg_proc WHERE oid = f;
		FOR target IN 0 .. p.pronargs LOOP
			-- 0: likely values only
			CONTINUE WHEN target > 0 AND (payload IS NULL OR p.proargtypes[target - 1] NOT IN ('text'::regtype, 'text[]'::regtype, 'name'::regtype));
			CONTINUE WHEN target = 0 AND payload IS NOT NULL;
			a := '{}';
			FOR i IN 1 .. p.pronargs LOOP
				a := a || CASE
					WHEN i = target AND p.proargtypes[i - 1] = 'text[]'::regtype THEN 'ARRAY[$1]'
					WHEN i = target THEN '$1::' || format_type(p.proargtypes[i - 1], NULL)
					WHEN p.proargtypes[i - 1] = 'text'::regtype THEN
						CASE WHEN p.proargnames[i] = 'name' AND f::text ~ 'add_source' THEN $q$'fresh'$q$
							WHEN p.proargnames[i] ~ 'conninfo' THEN $q$'host=127.0.0.1 port=1'$q$
							WHEN p.proargnames[i] = 'slot_name' THEN $q$'slot'$q$
							WHEN p.proargnames[i] = 'on_gap' THEN $q$'stop'$q$
							WHEN p.proargnames[i] = 'compression' THEN $q$'none'$q$
							WHEN p.proargnames[i] = 'kind' THEN $q$'full'$q$
							ELSE $q$'prod'$q$ END
					WHEN p.proargtypes[i - 1] = 'boolean'::regtype THEN 'false'
					WHEN p.proargtypes[i - 1] = 'regrole'::regtype THEN $q$'reader'$q$
					WHEN p.proargtypes[i - 1] = 'interval'::regtype THEN $q$'1 day'$q$
					WHEN p.proargtypes[i - 1] IN ('integer'::regtype, 'bigint'::regtype) THEN '1'
					ELSE 'NULL::' || format_type(p.proargtypes[i - 1], NULL)
				END;
			END LOOP;
			BEGIN
				EXECUTE format('SELECT count(*) FROM %s(%s) t', f::oid::regproc, array_to_string(a, ', ')) INTO n USING payload;
				RETURN NEXT '00000';
			EXCEPTION WHEN OTHERS THEN
				GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
				RETURN NEXT state || ' ' || f || ': ' || message;
			END;
		END LOOP;
	END $$;));
my @callable = map { ($decided{ $_->[0] } // '') ne '' ? [ $_->[0], $_->[1] ] : () } @functions;

# All of these functions, as a role; each call is undone.  What they raised.
sub call_all
{
	my ($role, $before, @payloads) = @_;
	my $sql = "$before;\n";
	foreach my $f (@callable)
	{
		my ($name, $signature) = @$f;
		next if $role ne 'owner' && $role ne { steer => 'operator', read => 'reader', monitor => 'monitor' }->{ $decided{$name} };
		# waits for a worker, or for a server
		next if $name eq 'take_backup' && !@payloads;
		foreach my $payload (@payloads ? @payloads : (undef))
		{
			my $text = defined $payload ? '$payload$' . $payload . '$payload$' : 'NULL';
			$sql .= "BEGIN; SELECT probe.call('$signature', $text); ROLLBACK;\n";
		}
	}
	my ($rc, $out, $err) = $host->psql('postgres', $sql, on_error_stop => 0,
		$role eq 'owner' ? () : (extra_params => [ '-U', $role ]));
	return ($out, $err);
}

# ---- code of an attacker's in the way ----

# Functions and operators of the same names in a schema that comes first: each
# says in the log as whom it was called.
$host->safe_psql('postgres', q(
	CREATE SCHEMA evil;
	GRANT USAGE ON SCHEMA evil TO PUBLIC;
	-- with somebody else's rights, or in a process that is no session of a client
	DO $do$
	DECLARE
		r record;
		types oid[] := ARRAY['text', 'integer', 'bigint', 'boolean', 'pg_lsn', 'timestamptz', 'interval', 'oid', 'name', 'numeric', 'text[]', 'integer[]', 'bytea', 'anyarray', 'anyelement', 'regrole', 'double precision']::regtype[]::oid[];
		n integer := 0;
	BEGIN
		FOR r IN SELECT p.oid, p.proname, p.proargtypes, p.prorettype, p.pronargs, format_type(p.prorettype, NULL) AS result,
					(SELECT string_agg(format_type(t, NULL), ', ' ORDER BY o) FROM unnest(p.proargtypes) WITH ORDINALITY u (t, o)) AS arguments
			FROM pg_proc p
			WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.provariadic = 0 AND NOT p.proretset
				AND p.pronargs BETWEEN 1 AND 3 AND p.prorettype = ANY (types) AND p.proargtypes::oid[] <@ types
				AND p.proname !~ '^(pg_|ts_|bt|hash|in_range|.*(recv|send|out|in|sel|_support)$)'
		LOOP
			BEGIN
				EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', r.proname, r.arguments, r.result,
					format('BEGIN IF current_user OPERATOR(pg_catalog.<>) session_user OR pg_catalog.current_setting(''application_name'') OPERATOR(pg_catalog.=) '''' THEN RAISE LOG ''trapped %s as %% of %%'', current_user, session_user; END IF; RETURN pg_catalog.%I(%s); END', r.proname, r.proname,
						(SELECT string_agg('$' || i, ', ' ORDER BY i) FROM generate_series(1, r.pronargs) i)));
				n := n + 1;
			EXCEPTION WHEN OTHERS THEN NULL;
			END;
		END LOOP;
		FOR r IN SELECT o.oprname, format_type(o.oprleft, NULL) AS l, format_type(o.oprright, NULL) AS r, format_type(o.oprresult, NULL) AS result
			FROM pg_operator o
			WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprkind = 'b'
				AND o.oprleft = ANY (types) AND o.oprright = ANY (types) AND o.oprresult = ANY (types)
		LOOP
			BEGIN
				n := n + 1;
				EXECUTE format('CREATE FUNCTION evil.op_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L', n, r.l, r.r, r.result,
					format('BEGIN IF current_user OPERATOR(pg_catalog.<>) session_user OR pg_catalog.current_setting(''application_name'') OPERATOR(pg_catalog.=) '''' THEN RAISE LOG ''trapped %s as %% of %%'', current_user, session_user; END IF; RETURN $1 OPERATOR(pg_catalog.%s) $2; END', replace(r.oprname, '%', '%%'), r.oprname));
				EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = evil.op_%s)', r.oprname, r.l, r.r, n);
			EXCEPTION WHEN OTHERS THEN NULL;
			END;
		END LOOP;
	END $do$;));
cmp_ok($host->safe_psql('postgres', "SELECT count(*) FROM pg_operator WHERE oprnamespace = 'evil'::regnamespace"), '>', 100, 'operators in the way');
cmp_ok($host->safe_psql('postgres', "SELECT count(*) FROM pg_proc WHERE pronamespace = 'evil'::regnamespace"), '>', 300, 'and functions');

# Tables of a session hide those of the same name that are not named in full.
my $tables = join(';', map { "CREATE TEMP TABLE $_ (name text, source text)" }
	  qw(source segment timeline gap event backup plan read_grant pg_class pg_proc pg_roles pg_extension));
my $in_the_way = "SET search_path = evil, pg_catalog, walarchive; $tables";
my $log_start = -s $host->logfile;
$host->safe_psql('postgres', q(
	CREATE FUNCTION probe.careless(text, integer) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS
		$$ BEGIN RETURN lower($1) = 'a' AND $2 = 1; END $$));
$host->psql('postgres', "SET search_path = evil, pg_catalog; SELECT probe.careless('A', 1)", extra_params => [ '-U', 'reader' ]);
ok($host->log_contains(qr/trapped lower as postgres of reader/, $log_start), 'the trap catches what is careless');
ok($host->log_contains(qr/trapped = as postgres of reader/, $log_start), 'and for operators, too');
$log_start = -s $host->logfile;
foreach my $role (qw(operator reader monitor owner))
{
	my ($results, $errors) = call_all($role, $in_the_way);
	cmp_ok(scalar(split(/\n/, $results)), '>', 5, "$role: functions were called");
	cmp_ok(scalar(grep { /^00000/ } split(/\n/, $results)), '>', 4, "$role: and many of them did something") or diag($results);
	unlike("$results\n$errors", qr/syntax error|XX000/, "$role: none failed in its own code") or diag($results, $errors);
}
# the trigger, and the views
my @views = split(/\n/, $host->safe_psql('postgres', "SELECT oid::regclass FROM pg_class WHERE relnamespace = 'walarchive'::regnamespace AND relkind = 'v'"));
foreach my $role (qw(monitor owner))
{
	$host->psql('postgres', join(";\n", $in_the_way, 'BEGIN',
			'UPDATE walarchive.source SET on_gap = on_gap, revision = revision + 1', 'ROLLBACK',
			map { "SELECT count(*) FROM $_" } @views), on_error_stop => 0,
		$role eq 'owner' ? () : (extra_params => [ '-U', $role ]));
}
# the indexer, upkeep and the launcher's queries run by themselves meanwhile
$host->safe_psql('postgres', "ALTER DATABASE postgres SET search_path = evil, pg_catalog");
my $finished = $host->safe_psql('postgres', "SELECT pg_catalog.count(*) FROM walarchive.segment");
switch_wal($primary, 2);
wait_archived($host, 'prod', $primary);
wait_for('the new segments in the catalog',
	sub { $host->safe_psql('postgres', "SELECT pg_catalog.count(*) FROM walarchive.segment") > $finished });
$host->safe_psql('postgres', "SELECT count(*) FROM walarchive.verify('prod'); SELECT * FROM walarchive.rescan('prod')");
$host->safe_psql('postgres', "SET search_path = pg_catalog; ALTER DATABASE postgres RESET search_path");
my @trapped = slurp_file($host->logfile, $log_start) =~ /(.*trapped .*)/g;
is(join("\n", @trapped[ 0 .. ($#trapped < 5 ? $#trapped : 5) ]), '', 'nothing of an attacker\'s ran with other rights than his, nor in a worker');

# ---- SQL in texts ----

my @payloads = ("'", "''", '"', '\\', "\\'", '$$', "'; DROP TABLE probe.canary; --", "\\'; DROP TABLE probe.canary; --",
	'$1', '%s%n%I%L', "x') FROM probe.canary; DROP TABLE probe.canary; --", "a\nb\tc\x01", '../../x', 'x' x 5000);
foreach my $conforming (qw(on off))
{
	my ($results, $errors) = call_all('owner',
		"SET escape_string_warning = off; SET standard_conforming_strings = $conforming; SET statement_timeout = '60s'", @payloads);
	my @bad = grep { /^(42601|42P01|42703|42883|42P02|XX000|XX001|22P05|57014)/ } split(/\n/, $results);
	is(join("\n", @bad[ 0 .. ($#bad < 5 ? $#bad : 5) ]), '', "standard_conforming_strings = $conforming: no text is taken for SQL");
	cmp_ok(scalar(split(/\n/, $results)), '>', 300, "standard_conforming_strings = $conforming: they were called");
	is($host->safe_psql('postgres', "SELECT count(*) FROM probe.canary"), '0', "standard_conforming_strings = $conforming: the table is there");
}

# ---- files outside ----

my $outside = PostgreSQL::Test::Utils::tempdir();
append_to_file("$host->{wa_directory}/secret", "outside");
append_to_file("$host->{wa_directory}/prod/secret", "outside");
my ($sysid) = map { m{/([0-9]+)/wal$} } wal_dir($host, 'prod');
my @paths = ('../secret', '../../secret', '../../../secret', "../../../../prod/secret", '/etc/passwd', '..', '.', '', '../cluster.json',
	"$old_segment/../../../secret", "$old_segment\n", "../wal/$old_segment", "$old_segment.partial/..", 'wal.sha256', "00000002.history/../../cluster.json", 'x' x 300);
foreach my $role ('reader', 'owner')
{
	my @as = $role eq 'owner' ? () : (extra_params => [ '-U', $role ]);
	my $read = '';
	foreach my $path (@paths)
	{
		foreach my $call ("read_wal('prod', \$p\$$path\$p\$, 0, 100)", "stream_wal('prod', \$p\$$path\$p\$, 0, 100)",
			"read_backup_file('prod', \$p\$$path\$p\$, 'secret', 0, 100)", "read_backup_file('prod', 'x', \$p\$$path\$p\$, 0, 100)",
			"stream_backup_file('prod', \$p\$$path\$p\$, 'base.tar', 0, 100)", "read_wal(\$p\$$path\$p\$, '$old_segment', 0, 100)",
			"wal_file(\$p\$$path\$p\$, '$old_segment')")
		{
			$read .= "SELECT 'got', * FROM walarchive.$call;\n";
		}
	}
	my ($rc, $results, $errors) = $host->psql('postgres', $read, on_error_stop => 0, @as);
	is($results, '', "$role: nothing outside of the WAL is read");
}
my ($rc, $results, $errors) = $host->psql('postgres', join('', map {
			"SELECT walarchive.add_source(\$p\$$_\$p\$, 'host=127.0.0.1 port=1', check_connection => false);\n"
			  . "SELECT walarchive.attach_source(\$p\$$_\$p\$, 'host=127.0.0.1 port=1', check_connection => false);\n"
			  . "SELECT walarchive.take_backup('prod', label => \$p\$$_\$p\$, wait => false);\n"
			  . "SELECT walarchive.delete_backup('prod', \$p\$$_\$p\$);\n" } (grep { $_ ne 'wal.sha256' } @paths[ 0 .. $#paths - 1 ]), 'a/b', 'A B', '.hidden'),
	on_error_stop => 0);
my @made = grep { /\S/ && !/^\d{8}|^prod/ } split(/\n/, $results);
is(join("\n", @made), '', 'no source or backup is made of a name that leads elsewhere');
is($host->safe_psql('postgres', "SELECT string_agg(name, ' ' ORDER BY name) FROM walarchive.source"), 'prod wrong', 'the sources are what they were');
is(join(' ', sort map { s{.*/}{}r } glob("$host->{wa_directory}/*")), 'host.lock prod secret wrong', 'and so is the directory');
ok(wait_streaming($host, 'prod'), 'the archive has taken no harm');
unlike(slurp_file($host->logfile), qr/\Q$secret\E|PANIC|was terminated by signal/, 'no crash, and no secret, to the end');

$host->stop;
$primary->stop;
done_testing();
