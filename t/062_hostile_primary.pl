# A server that is broken, or that somebody has taken over, is archived by the
# same host as honest ones.  Whatever it sends, its receiver says clearly what is
# wrong, takes no memory without bound, confirms nothing that is not in the
# archive, writes nothing outside of its source's folder, and can be stopped;
# and the source beside it notices nothing.
use strict;
use warnings;
no warnings 'portable';

use File::Find;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use WalArchive;
use WalFaults;
use WalHostile;

my $flushed = 0x1308000;
my $from = 0x1300000;
my $top = 0xFFFFFFFFFFF00000;

sub random_bytes { return join('', map { chr(int(rand(256))) } 1 .. $_[0]); }
srand(62);
my $garbage = random_bytes(3000);

# An answer to IDENTIFY_SYSTEM with these values.
sub identify { return { answer => { IDENTIFY_SYSTEM => rows_answer(@_) } }; }
my @sysid = ('7000000000000000001');

# What follows CopyBothResponse.
sub stream { return { stream => $_[0] }; }

# Timeline 2, its history, and how the first timeline ends.
sub switch
{
	my ($history, $row, %more) = @_;
	return {
		timeline => 2,
		answer => { TIMELINE_HISTORY => $history // rows_answer([ '00000002.history', "1\t0/1308000\tx\n" ]) },
		stream => sub {
			my ($c) = @_;
			$c->send_wal;
			$c->put(message('c', ''));
			# our client ends its side before it is told why
			while (1)
			{
				my ($type) = $c->get_message;
				last if $type eq 'c';
			}
			$c->put($row);
			return 'ended';
		},
		%more
	};
}

# Each mode is a source of its own: what is different, the cause, and the error.
my @modes = (
	# texts that are not what they should be
	[ v_word => { parameters => { server_version => 'banana' } }, 'version_unsupported', qr/server version 0\.0 is not supported/ ],
	[ v_none => { parameters => { server_version => '' } }, 'version_unsupported', qr/is not supported/ ],
	[ v_old => { parameters => { server_version => '14.9' } }, 'version_unsupported', qr/server version 14\.9 is not supported/ ],
	[ i_null => identify([ undef, undef, undef, undef ]), 'protocol_violation', qr/answer to IDENTIFY_SYSTEM is not valid/ ],
	[ i_few => identify([@sysid]), 'protocol_violation', qr/answer to IDENTIFY_SYSTEM has another shape/ ],
	[ i_norow => identify(), 'protocol_violation', qr/answer to IDENTIFY_SYSTEM has another shape/ ],
	[ i_rows => identify([ @sysid, 1, '0/1' ], [ @sysid, 1, '0/1' ]), 'protocol_violation', qr/answer to IDENTIFY_SYSTEM has another shape/ ],
	[ i_zero => identify([ 0, 1, '0/1308000' ]), 'protocol_violation', qr/answer to IDENTIFY_SYSTEM is not valid/ ],
	[ i_path => identify([ '../../../tmp', 1, '0/1308000' ]), 'protocol_violation', qr/answer to IDENTIFY_SYSTEM is not valid/ ],
	[ i_minus => identify([ '-1', 1, '0/1308000' ]), 'protocol_violation', qr/answer to IDENTIFY_SYSTEM is not valid/ ],
	[ i_big => identify([ '18446744073709551616', 1, '0/1308000' ]), 'protocol_violation', qr/answer to IDENTIFY_SYSTEM is not valid/ ],
	[ i_tli0 => identify([ @sysid, 0, '0/1308000' ]), 'protocol_violation', qr/answer to IDENTIFY_SYSTEM is not valid/ ],
	[ i_tli => identify([ @sysid, '4294967297', '0/1308000' ]), 'protocol_violation', qr/answer to IDENTIFY_SYSTEM is not valid/ ],
	[ i_lsn => identify([ @sysid, 1, '0/130800G' ]), 'protocol_violation', qr/answer to IDENTIFY_SYSTEM is not valid/ ],
	[ i_long => identify([ @sysid, 1, '000000001/000000001' ]), 'protocol_violation', qr/answer to IDENTIFY_SYSTEM is not valid/ ],
	[ i_copy => { answer => { IDENTIFY_SYSTEM => message('H', pack('Cn', 0, 0)) } }, 'protocol_violation', qr/IDENTIFY_SYSTEM: unexpected result PGRES_COPY_OUT/ ],
	[ i_none => { answer => { IDENTIFY_SYSTEM => message('I', '') . ready() } }, 'protocol_violation', qr/IDENTIFY_SYSTEM: unexpected result PGRES_EMPTY_QUERY/ ],
	[ s_odd => { answer => { 'SHOW wal_segment_size' => rows_answer(['3MB']) } }, 'protocol_violation', qr/answer to SHOW wal_segment_size is not valid/ ],
	[ s_null => { answer => { 'SHOW wal_segment_size' => rows_answer([undef]) } }, 'protocol_violation', qr/answer to SHOW wal_segment_size is not valid/ ],
	[ s_huge => { answer => { 'SHOW wal_segment_size' => rows_answer(['99999999999GB']) } }, 'protocol_violation', qr/answer to SHOW wal_segment_size is not valid/ ],

	# a server's words in our log and views
	[ t_text => { answer => { IDENTIFY_SYSTEM => error_answer('XX000', "%n%s%s\nLOG:  forged\e[2J\xff\xfe\x01 " . 'x' x 100_000) } },
		'protocol_violation', qr/IDENTIFY_SYSTEM: %n%s%s\nLOG:  forged \[2J\?\? +x+/ ],
	[ t_login => { startup => message('E', "SFATAL\0C28P01\0Mno \e[1m\xc3 %s %n\n\0\0") }, undef, qr/no  \[1m\? %s %n/ ],

	# the slot
	[ r_few => { answer => { READ_REPLICATION_SLOT => rows_answer(['physical']) } }, 'protocol_violation', qr/answer to READ_REPLICATION_SLOT is not valid/ ],
	[ r_lsn => { answer => { READ_REPLICATION_SLOT => rows_answer([ 'physical', "0/1\n", 1 ]) } }, 'protocol_violation', qr/answer to READ_REPLICATION_SLOT is not valid/ ],
	[ r_kind => { answer => { READ_REPLICATION_SLOT => rows_answer([ 'imaginary', '0/1', 1 ]) } }, 'slot_unusable', qr/is not a physical one/ ],
	[ r_ahead => { answer => { READ_REPLICATION_SLOT => rows_answer([ 'physical', 'FFFFFFFF/FFFFFFFF', 1 ]) } }, 'archive_ahead', qr/ahead of the server's WAL/ ],

	# histories
	[ h_none => { timeline => 2 }, 'protocol_violation', qr/does not have its history file/ ],
	[ h_name => { timeline => 2, answer => { TIMELINE_HISTORY => rows_answer([ '../../../00000002.history', "1\t0/1300000\tx\n" ]) } },
		'protocol_violation', qr/answer to TIMELINE_HISTORY 2 is not valid/ ],
	[ h_big => { timeline => 2, answer => { TIMELINE_HISTORY => rows_answer([ '00000002.history', "1\t0/1300000\tx\n" . '#' x (2 * 1024 * 1024) ]) } },
		'protocol_violation', qr/answer to TIMELINE_HISTORY 2 is not valid/ ],
	[ h_null => { timeline => 2, answer => { TIMELINE_HISTORY => rows_answer([ '00000002.history', undef ]) } },
		'protocol_violation', qr/answer to TIMELINE_HISTORY 2 is not valid/ ],
	[ h_junk => { timeline => 2, answer => { TIMELINE_HISTORY => rows_answer([ '00000002.history', $garbage ]) } },
		'protocol_violation', qr/history of timeline 2 is not valid/ ],
	[ h_own => { timeline => 2, answer => { TIMELINE_HISTORY => rows_answer([ '00000002.history', "2\t0/1300000\tx\n" ]) } },
		'protocol_violation', qr/history of timeline 2 is not valid/ ],
	[ h_many => { timeline => 1_000_000, answer => { TIMELINE_HISTORY => rows_answer([ '000F4240.history', join('', map { "$_\t0/1300000\t\n" } 1 .. 50_000) ]) } },
		'protocol_violation', qr/history of timeline 1000000 is not valid: there are too many timelines/ ],

	# the answer to START_REPLICATION
	[ a_in => { answer => { START_REPLICATION => message('G', pack('Cn', 0, 0)) } }, 'protocol_violation', qr/streaming failed: unexpected result PGRES_COPY_IN/ ],
	[ a_rows => { answer => { START_REPLICATION => rows_answer([ undef, undef ]) } }, 'protocol_violation', qr/with a switch that is not possible/ ],
	[ a_one => { answer => { START_REPLICATION => rows_answer([2]) } }, 'protocol_violation', qr/with a switch that is not possible/ ],

	# the stream
	[ w_short => stream(copy_data('w123456789')), 'protocol_violation', qr/WAL message shorter than its header/ ],
	[ k_short => stream(copy_data('k123456789')), 'protocol_violation', qr/keepalive message too short/ ],
	[ x_kind => stream(copy_data('x' . 'y' x 100)), 'protocol_violation', qr/message of an unknown kind/ ],
	[ w_ahead => stream(wal_message($from + 8192, wal_bytes($from + 8192, 100))), 'protocol_violation', qr/server sent WAL at 0\/1302000 where 0\/1300000 was due/ ],
	[ w_back => stream(sub { $_[0]->send_wal; $_[0]->wait_confirmed($flushed); $_[0]->put(wal_message($from, 'other')); $_[0]->silence; }),
		'protocol_violation', qr/server sent WAL at 0\/1300000 where 0\/1308000 was due/ ],
	[ w_other => stream(sub { my ($c) = @_; $c->send_wal; $c->wait_confirmed($flushed);
				# the connection ends; over the next one other bytes come
				POSIX::_exit(0); }), 'connection_failed', qr/./ ],
	# a server that lets us come as far as that each time
	[ w_gone => stream(sub { my ($c) = @_; $c->send_wal; $c->wait_confirmed($flushed); $c->hear('left', Time::HiRes::time()); POSIX::_exit(0); }), 'connection_failed', qr/./ ],
	[ w_wrap => { from => $top, flushed => $top + 0xFFFFE, stream => sub { my ($c) = @_; $c->send_wal; $c->put(wal_message($top + 0xFFFFE, 'ends here')); $c->silence; } },
		'protocol_violation', qr/past the last possible position/ ],
	[ w_junk => stream($garbage), undef, qr/./ ],
	[ w_cut => stream(message('d', '') . "d\0\0\0\2"), undef, qr/lost synchronization|invalid|unexpected|connection/ ],
	[ w_type => stream("\x07" . pack('N', 100) . 'z' x 96), undef, qr/./ ],

	# timelines
	[ l_null => switch(undef, row_description('a', 'b') . data_row(undef, undef) . command_complete('SELECT') . ready(), timeline => 2,
			answer => { IDENTIFY_SYSTEM => rows_answer([ @sysid, 1, '0/1308000' ]) }), 'protocol_violation', qr/with a switch that is not possible/ ],
	[ l_back => switch(undef, rows_answer([ '1', '0/1308000' ]), answer => { IDENTIFY_SYSTEM => rows_answer([ @sysid, 1, '0/1308000' ]) }),
		'protocol_violation', qr/with a switch that is not possible/ ],
	[ l_ahead => switch(undef, rows_answer([ '2', '0/1308001' ]), answer => { IDENTIFY_SYSTEM => rows_answer([ @sysid, 1, '0/1308000' ]) }),
		'protocol_violation', qr/with a switch that is not possible/ ],
	[ l_name => switch(undef, rows_answer([ '3', '0/1308000' ])), 'protocol_violation', qr/switched to timeline 3 at 0\/1308000, which its history of timeline 2 does not name/ ],
	[ l_low => switch(undef, rows_answer([ '2', '0/1200000' ])), 'protocol_violation', qr/switched to timeline 2 at 0\/1200000, which its history of timeline 2 does not name/ ],

	# WAL that is gone, wherever it is asked for
	[ g_gone => {
			# further on with each connection: a slot that stands before the archive is another matter
			begin => sub { my ($c) = @_; $c->{at} = $from + 0x1000000 * $c->{server}->heard('g_gone', 'connection'); },
			flushed => 0x7f00000000,
			answer => {
				START_REPLICATION => error_answer('58P01', 'requested WAL segment has already been removed'),
				READ_REPLICATION_SLOT => sub { my ($c) = @_; $c->{at} += 0x100000; $c->put(rows_answer([ 'physical', lsn_text($c->{at}), 1 ])); }
			}
		}, 'wal_removed', qr/server refuses WAL at every position that it names itself/ ],

	# it never answers
	[ n_start => { connect_timeout => 2, startup => sub { $_[0]->silence } }, 'connection_failed', qr/could not connect within 2 s/ ],
	[ n_answer => { answer => { IDENTIFY_SYSTEM => sub { $_[0]->silence } } }, 'receive_timeout', qr/the server did not answer within 8000 ms/ ],
	[ n_stream => stream(sub { $_[0]->silence }), 'receive_timeout', qr/nothing was heard from the server for 8000 ms/ ],
	[ n_empty => stream(sub { my ($c) = @_; while (1) { $c->put(message('d', '')); usleep(100_000); } }), 'receive_timeout', qr/nothing was heard from the server/ ],
	[ n_login => { startup => message('R', pack('N', 99)) }, undef, qr/authentication/ ],

	# answers without end
	[ e_result => { answer => { IDENTIFY_SYSTEM => sub { my ($c) = @_; $c->put(command_complete('X') x 100) while 1; } } },
		'protocol_violation', qr/answer to a command does not end/ ],
	[ e_switch => switch(undef, sub { my ($c) = @_; }, stream => sub { my ($c) = @_; $c->send_wal; $c->put(message('c', ''));
				while (1) { my ($type) = $c->get_message; last if $type eq 'c'; }
				$c->put(row_description('a', 'b') . data_row('2', '0/1308000') . command_complete('SELECT'));
				$c->put(command_complete('X') x 100) while 1; },
			answer => { IDENTIFY_SYSTEM => rows_answer([ @sysid, 1, '0/1308000' ]) }),
		'protocol_violation', qr/answer to a command does not end/ ],
);
my %mode = map { $_->[0] => $_->[1] } @modes;

# Those that stream well, as far as anybody can see from here.
$mode{k_wild} = stream(sub { my ($c) = @_; $c->send_wal;
		$c->put(keepalive_message($_->[0], 1, $_->[1]))
		  foreach ([ 0, 0 ], [ ~0, 9223372036854775807 ], [ 1, -9223372036854775807 - 1 ], [ ~0, -1 ], [ $flushed, 0 ], [ ~0, 9223372036854775807 ]);
		$c->honest; });
$mode{k_far} = stream(sub { my ($c) = @_; $c->send_wal; while (1) { $c->put(keepalive_message(~0, 1)); usleep(200_000); } });
$mode{k_plain} = {};

# Each connection gets some bytes further than the one before: a prime number,
# so that all parts of messages are hit; 1 takes minutes.
my $step = $ENV{WALARCHIVE_CUT_STEP} // 7;

sub cut
{
	return {
		begin => sub {
			my ($c) = @_;
			my $path = "$c->{server}{log}/$c->{name}.cut";
			open(my $fh, '>>', $path) or die;
			syswrite($fh, 'x');
			close($fh);
			$c->{left} = $step * (-s $path) - $step + 1;
		}
	};
}
$mode{cut} = cut();

# Endless, as fast as it goes: one after the other.
my @endless = (
	[ e_row => { answer => { IDENTIFY_SYSTEM => sub { my ($c) = @_; $c->put(row_description('a', 'b', 'c')); my $row = data_row('x' x 10_000, 'y', 'z') x 50; $c->put($row) while 1; } } },
		undef, qr/memory|did not answer|lost/ ],
	[ e_huge => stream(sub { my ($c) = @_; $c->put('d' . pack('N', 0x7ffffff0) . 'w'); my $zeros = "\0" x 1_000_000; $c->put($zeros) while 1; }),
		undef, qr/memory|lost|nothing was heard|could not receive/ ],
	[ e_param => stream(sub { my ($c) = @_; my $n = 0; my $long = 'v' x 29_000; $c->put(message('S', "p" . $n++ . "\0$long\0")) while 1; }),
		undef, qr/memory|lost|nothing was heard|could not receive/ ],
	[ e_notify => stream(sub { my ($c) = @_; my $many = message('A', pack('N', 1) . "channel\0" . 'x' x 20_000 . "\0") x 50; $c->put($many) while 1; }),
		undef, qr/memory|lost|nothing was heard|could not receive/ ],
	[ e_notice => { answer => { IDENTIFY_SYSTEM => sub { my ($c) = @_; my $many = message('N', "SNOTICE\0C00000\0Mforged notice\0\0") x 500; $c->put($many) while 1; } } },
		'receive_timeout', qr/the server did not answer within/ ],
	[ e_alive => stream(sub { my ($c) = @_; $c->send_wal; my $many = keepalive_message($flushed, 0) x 1000; $c->put($many) while 1; }) ],
	[ e_nowal => stream(sub { my ($c) = @_; $c->send_wal; my $many = wal_message($flushed, '') x 1000; $c->put($many) while 1; }) ],
);
$mode{ $_->[0] } = $_->[1] foreach (@endless);

# ---- the hosts ----

my $server = WalHostile->new(modes => \%mode);
my $host = new_archive_host('archive',
	sources => scalar(keys %mode) + 8,
	conf => "walarchive.receive_timeout = '8s'\nwalarchive.status_interval = '1s'\nlog_min_messages = log\n");
my $honest = new_primary('honest', conf => "wal_keep_size = 1GB\n");
add_source($host, 'honest', $honest);
load_segments($honest, 1);
make_synchronous($honest, 'walarchive_honest');
my $receiver = receiver_pid($host, 'honest');

sub add_modes
{
	my (@names) = @_;
	$host->safe_psql('postgres', join('',
			map { "SELECT walarchive.add_source('$_', \$\$" . $server->conninfo($_)
				  . "\$\$, check_connection => false, relation_names_interval => NULL);\n" } @names));
	return;
}

# Everything that the host has of its sources, as it was at one time.
sub states
{
	my $rows = $host->safe_psql('postgres',
		"SELECT source, coalesce(cause, ''), state, pg_catalog.encode(pg_catalog.convert_to(coalesce(last_error, ''), 'UTF8'), 'hex') FROM walarchive.stat_receiver");
	my %state;
	foreach (split(/\n/, $rows))
	{
		my ($name, $cause, $state, $error) = split(/\|/, $_, -1);
		$state{$name} = { cause => $cause, state => $state, error => pack('H*', $error) };
	}
	return \%state;
}

# Wait until each of these modes has said what is expected of it.
sub expect_errors
{
	my (@expected) = @_;
	my %open = map { $_->[0] => $_ } @expected;
	my $last = {};
	wait_for('the errors of ' . scalar(@expected) . ' sources', sub {
			$last = states();
			foreach (keys %open)
			{
				my (undef, undef, $cause, $error) = @{ $open{$_} };
				my $now = $last->{$_};
				delete $open{$_} if $now && $now->{error} =~ $error && (!defined $cause || $now->{cause} eq $cause);
			}
			return !%open;
		});
	foreach (@expected)
	{
		my ($name) = @$_;
		ok(!$open{$name}, "$name: refused with a clear error")
		  or diag("$name: $last->{$name}{state} $last->{$name}{cause} " . substr($last->{$name}{error}, 0, 300));
	}
	return;
}

# ---- one fault each, all at once ----

add_modes((map { $_->[0] } @modes), 'k_wild', 'k_far', 'k_plain', 'cut');
expect_errors(@modes);
wait_streaming($host, 'k_plain');

# what is wild in a keepalive is nobody else's trouble, nor that of the views
ok(wait_for('confirmation', sub { $server->confirmed('k_wild') == $flushed }), 'k_wild: WAL is confirmed, and no more than that');
ok(wait_for('the end that the server names', sub { stat_of($host, 'k_far', 'latest_end_lsn') eq 'FFFFFFFF/FFFFFFFF' }),
	'k_far: what the server says of its end is shown');
foreach my $view (split(/\n/, $host->safe_psql('postgres',
			q(SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'walarchive'::regnamespace AND c.relkind = 'v' ORDER BY 1))))
{
	my ($rc, $out, $err) = $host->psql('postgres', "SELECT * FROM $view");
	is($err, '', "$view can be read");
}
is($host->safe_psql('postgres',
		"SELECT count(*) FROM walarchive.receiver_state() WHERE coalesce(cause_hint, '') = '' AND cause IS NOT NULL"),
	'0', 'no cause is without a hint');

# who streams and brings nothing is asked less and less often
my @left;
ok(wait_for('more attempts', sub { (@left = $server->heard('w_gone', 'left')) >= 10 }), 'w_gone: it is tried again');
my ($longest) = sort { $b <=> $a } map { $left[$_] - $left[ $_ - 1 ] } 1 .. $#left;
cmp_ok($longest, '>=', 0.9, 'w_gone: not at once each time');

# ---- a connection that breaks at each byte ----

# the answers before the stream: in a session, which waits for nothing between
my $cut_server = WalHostile->new(modes => { cut_login => cut() });
my ($cuts) = $host->safe_psql('postgres', "
	CREATE FUNCTION pg_temp.cut_all(info text) RETURNS text LANGUAGE plpgsql AS \$\$
	DECLARE
		refused integer := 0;
	BEGIN
		FOR i IN 1 .. 1000 LOOP
			BEGIN
				PERFORM walarchive.check_connection(info, 'walarchive_cut', false, NULL);
				RETURN refused;
			EXCEPTION WHEN connection_exception OR protocol_violation OR object_not_in_prerequisite_state THEN
				refused := refused + 1;
			END;
		END LOOP;
		RETURN 'never';
	END \$\$;
	SELECT pg_temp.cut_all(\$x\$" . $cut_server->conninfo('cut_login') . "\$x\$)");
cmp_ok($cuts, '=~', qr/^[0-9]+$/, 'cut before the stream: no cut hangs or crashes a session');
cmp_ok($cuts, '>', 300 / $step, 'cut before the stream: in every answer');

# ---- what does not end ----

$host->safe_psql('postgres', "ALTER SYSTEM SET walarchive.receive_timeout = '3s'");
$host->reload;
foreach (@endless)
{
	my ($name, undef, $cause, $error) = @$_;
	add_modes($name);
	if (defined $error)
	{
		expect_errors($_);
	}
	else
	{
		wait_streaming($host, $name);
		# told to stop while messages keep coming
		my $pid = receiver_pid($host, $name);
		BAIL_OUT("$name has no receiver") unless $pid =~ /^[0-9]+$/;
		kill('TERM', $pid);
		ok(wait_for("receiver $pid to end", sub { process_gone($pid) }), "$name: its receiver can be stopped");
	}
	my $pid = receiver_pid($host, $name);
	if ($pid ne '' && open(my $fh, '<', "/proc/$pid/status"))
	{
		my ($size) = do { local $/ = undef; <$fh> } =~ /^VmData:\s+(\d+) kB/m;
		# a sanitizer's own memory is counted as well, and there is no limit beside one
		cmp_ok($size, '<', 800 * 1024, "$name: memory is bounded") if defined $size && !$ENV{ASAN_OPTIONS};
	}
	$host->safe_psql('postgres', "SELECT walarchive.pause_source('$name')");
}
$host->safe_psql('postgres', "ALTER SYSTEM RESET walarchive.receive_timeout");
$host->reload;

# ---- what is left ----

# nothing was confirmed that is not there
my $log = slurp_file($host->logfile);
foreach my $name (sort keys %mode)
{
	my $confirmed = $server->confirmed($name);
	next if $confirmed == 0;
	my $start = $mode{$name} && ref $mode{$name} && $mode{$name}{from} ? $mode{$name}{from} : $from;
	next if $confirmed <= $start;
	my $bytes = '';
	my ($file) = glob(archive_dir($host, $name) . '/[0-9]*/wal/00000001*[0-9A-F]*');
	$bytes = read_file_bytes($file) if defined $file;
	ok(substr($bytes, 0, $confirmed - $start) eq WalHostile::wal_bytes($start, $confirmed - $start),
		"$name: what it was confirmed is in the archive");
}
unlike($log, qr/^LOG:  forged/m, 'no line of the log is a server\'s');
unlike($log, qr/forged notice/, 'notices of a server do not get into the log');
unlike($log, qr/\e|\x01/, 'nothing in the log steers a terminal');
unlike($log, qr/PANIC|terminated by signal|server process .* was terminated/, 'no process has crashed');

# files: of sources, and of names that an archive has
my @odd;
find({ no_chdir => 1, wanted => sub {
			my $path = $File::Find::name;
			return if -d $path;
			$path =~ s/^\Q$host->{wa_directory}\E\///;
			return if $path eq 'host.lock';
			push @odd, $path
			  unless $path =~ m{^[a-z0-9_]+/(source\.json|journal|receiver\.lock|[0-9]+/(cluster\.json|relations|wal\.sha256|wal/([0-9A-F]{24}(\.partial)?|[0-9A-F]{8}\.history|walarchive\.prepared\.[0-9]+)))(\.[0-9]+\.tmp)?$};
		} }, $host->{wa_directory});
is("@odd", '', 'nothing but what archives consist of');

# and beside all that
is(receiver_pid($host, 'honest'), $receiver, "the honest source's receiver is the same");
ok(defined commits_within($honest, 30), 'a commit of the honest source is confirmed');
load_segments($honest, 2);
wait_archived($host, 'honest', $honest);
my ($shared, $differ) = same_wal(wal_dir($host, 'honest'), $honest->data_dir . '/pg_wal');
is($differ, '', "the honest source's segments are equal");

# the host can be stopped, whatever its receivers are at
$host->stop('fast');
$honest->stop;
$server->stop;
$cut_server->stop;
done_testing();
