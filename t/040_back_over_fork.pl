# The day after a failover it turns out that the data went wrong before it.  So the
# server goes back to before that, along the new timeline as everybody believes, and
# goes on from there in its own place.  PostgreSQL writes the history of what it
# begins from the timeline that it was told to recover along; named the new one, it
# would write of a fork that it never came to.  Such a history could not be archived,
# and nobody would know how to restore what is written from now on.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WalArchive;
use WalRestore qw(archive_args copy_sql forget_copy new_place restore_copy take_backup wait_decoded);

my $host = new_archive_host('archive');
my $primary = new_primary('primary', conf => "autovacuum = off\nwal_keep_size = 64MB\n");
my @archive = archive_args($host);

sub on_primary { return $primary->safe_psql('postgres', $_[0]); }
sub on_host { return $host->safe_psql('postgres', $_[0]); }
sub insert { return on_primary("BEGIN; INSERT INTO t VALUES ($_[0]); SELECT pg_current_xact_id(); COMMIT"); }
my $rows = q(SELECT string_agg(i::text, ' ' ORDER BY i) FROM t);

# Wait for a plan that says so.
sub planned
{
	my ($args, $columns, $answer, $name) = @_;
	my $got;
	ok(wait_for("'$answer'", sub { ($got = on_host("SELECT $columns FROM walarchive.plan_restore('prod', $args)")) eq $answer }), $name)
	  or diag($got);
	return;
}

on_primary('CREATE TABLE t (i int)');
add_source($host, 'prod', $primary);
take_backup($host, 'before');
my $good = insert(1);
insert(2);
wait_archived($host, 'prod', $primary);

# --- a failover ---
$primary->stop('immediate');
ok(start_on_new_timeline($primary), 'the server goes on on timeline 2');
wait_timeline($host, 'prod', 2);
my $undone = insert(3);
on_primary('SELECT pg_switch_wal()');
wait_decoded($host, $primary);

# --- back to before it, along the timeline that is now ---
planned("target_xid => '$good', target_timeline => 2",
	q(feasible, timeline, timeline_path, settings LIKE '%recovery_target_timeline = ''1''%'), 't|1|1|t',
	'the plan goes along the timeline that the target lies on');
planned("target_xid => '$undone', target_timeline => 2", "feasible, timeline, timeline_path LIKE '1 -> 2 at %'", 't|2|t',
	'... and to what lies behind the fork along the new one');
$primary->stop('immediate');
ok(wait_for('the archive to have noticed', sub { stat_of($host, 'prod', 'state') ne 'streaming' }), 'the server goes');
system_or_bail('rm', '-rf', $primary->data_dir);
my ($code, $result, $err) = restore_copy($primary->data_dir, @archive, '--as-primary', '--start', "--to-xid=$good", '--timeline=2', '--target-action=promote');
is($code, 0, 'it is restored in its place') or diag($err);
BAIL_OUT('no primary') if $code != 0;
forget_copy($primary->data_dir);
$primary->_update_pid(1);
ok($result->{agrees}, 'to where it was planned');
is(on_primary($rows), '1', 'with what was right, and nothing else');
my $history = slurp_file($primary->data_dir . '/pg_wal/00000003.history');
my ($left) = $history =~ /\A\s*1\t(\S+)\t[^\n]*\n*\z/;
isnt($left, undef, 'its history tells of the first timeline alone') or diag($history);

# --- and on from there ---
wait_timeline($host, 'prod', 3);
my $last = insert(4);
on_primary('SELECT pg_switch_wal()');
wait_decoded($host, $primary);
planned("target_xid => '$last'", 'feasible, timeline, timeline_path', "t|3|1 -> 3 at $left", 'what it writes now can be restored');
planned("target_xid => '$undone'", 'feasible, reason', 'f|not_ancestor', '... and what it went back from is not on the way there');
take_backup($host, 'after');
my $last_of_all = insert(5);
wait_decoded($host, $primary);
for my $target ([ [ "--to-xid=$last", '--backup=before' ], '1 4' ], [ [ "--to-xid=$last_of_all", '--backup=after' ], '1 4 5' ])
{
	my ($options, $expected) = @$target;
	($code, $result, $err) = restore_copy(new_place(), @archive, '--start', '--target-action=pause', @$options);
	is($code, 0, "@$options: it is restored") or diag($err);
	ok($result->{agrees}, "@$options: as planned");
	is(copy_sql($result, $rows), $expected, "@$options: with what the server has by then");
}

done_testing();
