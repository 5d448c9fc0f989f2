# What each fault is, in a sentence for the table of docs/reliability.md.  Needs
# nothing of PostgreSQL's, so that results can be added up anywhere.
package ChaosTable;

use strict;
use warnings;

my %done = (
	'SIGKILL of the receiver' => 'the process is killed; its server takes that for a crash, ends all others and starts again',
	'SIGKILL of the indexer' => 'the process is killed; its server takes that for a crash, ends all others and starts again',
	'SIGKILL of the launcher' => 'the process is killed; its server takes that for a crash, ends all others and starts again',
	'SIGKILL of the observer' => 'the process is killed; its server takes that for a crash, ends all others and starts again',
	'SIGKILL of the backup worker' => 'the process is killed at a random moment of a base backup',
	'SIGSTOP of the receiver' => 'the process is frozen for up to some seconds, and goes on',
	'SIGSTOP of the indexer' => 'the process is frozen for up to some seconds, and goes on',
	'SIGSTOP of the launcher' => 'the process is frozen for up to some seconds, and goes on',
	'SIGSTOP of the backup worker' => 'the process is frozen at a random moment of a base backup, and goes on',
	'SIGKILL of the archive postmaster' => 'the host\'s postmaster and all its children are dead; started again',
	'SIGSTOP of the archive postmaster' => 'the host\'s postmaster is frozen: nobody can connect; its workers go on',
	'SIGKILL of the primary' => 'postmaster and children are dead; started again, no failover',
	'SIGSTOP of the primary' => 'postmaster and all children are frozen, and go on: connections stay open and say nothing',
	'SIGKILL of the standby' => 'postmaster and children are dead; started again',
	'SIGSTOP of the standby' => 'postmaster and all children are frozen, and go on',
	'receiver frozen for more than a minute' => 'SIGSTOP for as long as health takes to say so',
	'launcher frozen for more than a minute' => 'SIGSTOP for as long as health takes to say so',
	'indexer frozen for more than five minutes' => 'SIGSTOP for as long as health takes to say so',
	'network cut' => 'all connections between an archive and the servers are closed, new ones refused',
	'network swallows' => 'connections stay open, and nothing that is sent arrives',
	'network delayed' => 'each packet comes 0.3 s late',
	'network throttled' => '20 kB/s',
	'cut inside of a message' => 'a connection ends in the middle of a message of the protocol',
	'archive disk full' => 'a write into the archive is short, each further one fails with ENOSPC; then there is room again',
	'archive disk slow' => 'each sync takes 0.2 or 0.4 s, each write of WAL 20 ms',
	'archive disk fails to sync' => 'a sync of WAL fails with EIO, once',
	'power loss of an archive host' => 'all processes are killed while a sync is under way; written and not synced bytes of WAL are made zeroes',
	'power loss of all and failover' => 'both archives and the primary lose their power in one moment; the standby, which is behind, is promoted',
	'failover' => 'the primary is killed, the standby promoted, the former primary made anew as its standby',
	'failover with the archive ahead' => 'the standby is down, commits go on, the primary is killed, the standby promoted: what the archives confirmed is not on it',
	'failover with the archive behind' => 'both receivers are frozen, the standby goes on receiving, the primary is killed, the standby promoted',
	'double failover' => 'two failovers within moments, there and back',
	'split brain' => 'after a failover the former primary is started again, and takes writes',
	'slot dropped' => 'the archive\'s slot is dropped on the primary while it is cut off',
	'slot invalidated' => 'the primary removes WAL that the cut off archive still needs (max_slot_wal_keep_size)',
	'backup meanwhile' => 'a base backup is taken, with a bounded rate, while other things break',
	'restore meanwhile' => 'a restore runs while other things break: it ends as planned, or says why not and leaves nothing that could be taken for a copy',
	'pg_switch_wal storm' => '30 segments are ended at once',
	'clock stepped' => 'the primary\'s clock is up to 10 minutes ahead or back, and right again',
	'archive file damaged' => '8 bytes of a finished segment are changed; put back later',
	'archive file deleted' => 'a finished segment is removed; put back later',
	'extension upgraded' => 'the files of another version are installed under load, the host is restarted, health has to say that versions differ, streaming to go on, then ALTER EXTENSION UPDATE; there and back again',
	'catalog dropped and rebuilt' => 'DROP EXTENSION CASCADE, CREATE EXTENSION, and rescan, while WAL comes in',
);

# What is done for a fault, undef if there is none of this name.
sub done { return $done{ $_[0] }; }

# All, in order.
sub names { return sort { lc $a cmp lc $b } keys %done; }

1;
