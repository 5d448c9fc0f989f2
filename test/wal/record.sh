#!/usr/bin/env bash
# Records the WAL that test/unit_wal.c reads, and what this major's own pg_waldump says about it.
#
#   test/wal/record.sh BINDIR OUTDIR
#
# BINDIR is that of a PostgreSQL 15 or later, OUTDIR becomes e.g. test/wal/17. It makes a cluster with 1 MB segments in a
# temporary folder and does to it, in little WAL, as much as a server can write about: transactions of all kinds,
# compressed page images, databases and tablespaces made and dropped, another timeline, and a start of copying a database by WAL.
#
# OUTDIR/<segment>   its bytes up to the last that is not zero; the last segment ends in the middle of a record
# OUTDIR/records     a record on a line: LSN, previous record, length without page images and with them, resource manager, transaction, type; the line of a record
#                    that the index knows goes on with what pg_waldump says of it, without cache invalidations
set -euo pipefail
bin=${1:?BINDIR} out=${2:?OUTDIR}
mkdir -p "$out"
out=$(realpath "$out")
rm -f "$out"/records "$out"/0000000*
work=$(mktemp -d "${TMPDIR:-/tmp}/walarchive-record.XXXXXX")
data=$work/data
cleanup() {
	"$bin/pg_ctl" -D "$data" -m immediate stop >/dev/null 2>&1 || true
	rm -rf "$work"
}
trap cleanup EXIT
export PGHOST=$work PGDATABASE=postgres PGUSER=postgres LC_ALL=C TZ=UTC

"$bin/initdb" -D "$data" -U postgres -A trust --no-sync --wal-segsize=1 --locale=C >/dev/null
cat >>"$data/postgresql.conf" <<-CONF
	listen_addresses = ''
	unix_socket_directories = '$work'
	wal_level = logical
	wal_compression = on
	max_prepared_transactions = 5
	wal_keep_size = 100MB
	autovacuum = off
	fsync = off
	checkpoint_timeout = 1h
	bgwriter_lru_maxpages = 0
	timezone = UTC
	allow_in_place_tablespaces = on
CONF
up() { "$bin/pg_ctl" -D "$data" -w -l "$work/log" start >/dev/null; }
down() { "$bin/pg_ctl" -D "$data" -w -m fast stop >/dev/null; }
sql() { "$bin/psql" -XAtqc "$1" "${@:2}"; }
run() { "$bin/psql" -Xq -v ON_ERROR_STOP=1 >/dev/null; }

up
run <<-SQL
	CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL);
	INSERT INTO account SELECT g, 0 FROM generate_series(1, 100) g;
	CREATE TABLE history (id int, delta int, t timestamptz);
	CREATE TABLE wide (id int, a text);
	ALTER TABLE wide ALTER a SET STORAGE external;
	CHECKPOINT;
SQL
first=$(sql "SELECT pg_walfile_name(pg_switch_wal() + 1)")

# small transactions, subtransactions, two phases
cat >"$work/tx.sql" <<-SQL
	\\set id random(1, 100)
	BEGIN;
	UPDATE account SET balance = balance + 1 WHERE id = :id;
	INSERT INTO history VALUES (:id, 1, now());
	END;
SQL
"$bin/pgbench" -n -t 100 -f "$work/tx.sql" >/dev/null 2>&1
run <<-SQL
	BEGIN; INSERT INTO history VALUES (0, 0, now()); SAVEPOINT a; INSERT INTO history VALUES (0, 1, now());
	SAVEPOINT b; INSERT INTO history VALUES (0, 2, now()); COMMIT;
	BEGIN; INSERT INTO history VALUES (0, 0, now()); SAVEPOINT a; INSERT INTO history VALUES (0, 1, now()); ROLLBACK;
	CREATE TABLE two (a int);
	CREATE TABLE three (a int);
	BEGIN; INSERT INTO history VALUES (1, 0, now()); SAVEPOINT a; DROP TABLE two; CREATE TABLE four (a int); PREPARE TRANSACTION 'first';
	BEGIN; DROP TABLE three; PREPARE TRANSACTION 'second, with a longer name';
	COMMIT PREPARED 'first';
	ROLLBACK PREPARED 'second, with a longer name';
	SELECT pg_create_restore_point('before the drop');
	DROP TABLE three;
	BEGIN; CREATE TABLE five (a int PRIMARY KEY, b text); INSERT INTO five SELECT g, 'x' FROM generate_series(1, 50) g; ROLLBACK;
	CREATE FUNCTION nothing() RETURNS int LANGUAGE sql AS 'SELECT 1';
	DROP FUNCTION nothing();
	SELECT pg_replication_origin_create('elsewhere');
	SELECT pg_replication_origin_session_setup('elsewhere');
	BEGIN; SELECT pg_replication_origin_xact_setup('1/2345678', '2024-02-29 12:34:56.789012+00');
	INSERT INTO history VALUES (2, 0, now()); COMMIT;
	SELECT pg_replication_origin_session_reset();
	SELECT pg_replication_origin_drop('elsewhere');
	SELECT lo_from_bytea(0, repeat('large', 1000)::bytea);
	SELECT pg_logical_emit_message(true, 'test', repeat('m', 30000));
	SELECT pg_logical_emit_message(false, 'test', 'short');
	INSERT INTO wide SELECT g, repeat(md5(g::text), 150) FROM generate_series(1, 10) g;
	SELECT pg_switch_wal();
	TRUNCATE account, history RESTART IDENTITY;
	DELETE FROM wide WHERE id > 5;
	VACUUM wide;
	VACUUM FREEZE account;
	CREATE SEQUENCE counter; SELECT nextval('counter');
	BEGIN; LOCK TABLE wide IN ACCESS EXCLUSIVE MODE; INSERT INTO history VALUES (3, 0, now()); COMMIT;
	CREATE MATERIALIZED VIEW mat AS SELECT 1 AS one; REFRESH MATERIALIZED VIEW mat; DROP MATERIALIZED VIEW mat;
SQL
# indexes of each kind
run <<-SQL
	CREATE TABLE many (i int, p point, a int[], t text);
	CREATE INDEX ON many USING hash (i); CREATE INDEX ON many USING brin (i);
	CREATE INDEX ON many USING gist (p); CREATE INDEX ON many USING gin (a); CREATE INDEX ON many USING spgist (t);
	INSERT INTO many SELECT g, point(g, g), ARRAY[g, g % 7], md5(g::text) FROM generate_series(1, 30) g;
	DELETE FROM many WHERE i % 3 = 0;
	VACUUM many;
	DROP TABLE many;
SQL
# page images of each kind, settings, a backup
run <<-SQL
	INSERT INTO history SELECT g, g, now() FROM generate_series(1, 300) g;
	CHECKPOINT;
	SET wal_compression = off;
	UPDATE history SET delta = 1 WHERE id = 1;
SQL
for method in pglz lz4 zstd; do
	sql "SET wal_compression = $method" 2>/dev/null || continue
	run <<-SQL
		CHECKPOINT;
		SET wal_compression = $method;
		UPDATE history SET delta = 2 WHERE id IN (2, 3, 300);
		UPDATE wide SET a = a || 'x' WHERE id = 1;
	SQL
done
sql "ALTER SYSTEM SET full_page_writes = off" && sql "SELECT pg_reload_conf()" >/dev/null
sql "CHECKPOINT"
sql "ALTER SYSTEM RESET full_page_writes" && sql "SELECT pg_reload_conf()" >/dev/null
run <<-SQL
	SELECT pg_backup_start('recorded', true);
	SELECT pg_backup_stop();
	CREATE TABLESPACE place LOCATION '';
	CREATE DATABASE copied TEMPLATE template0 STRATEGY file_copy TABLESPACE place;
	DROP DATABASE copied;
	DROP TABLESPACE place;
	BEGIN; CREATE TABLE rewritten (a int); INSERT INTO rewritten VALUES (1); COMMIT;
	ALTER TABLE rewritten ALTER a TYPE bigint;
	CLUSTER account USING account_pkey;
SQL
down
echo "max_connections = 110" >>"$data/postgresql.conf"
touch "$data/standby.signal"
up
"$bin/pg_ctl" -D "$data" -w promote >/dev/null
down
up
sql "SET synchronous_commit = off; INSERT INTO history VALUES (9, 9, now())"
end=$(sql "SELECT pg_current_wal_insert_lsn()")
sql "CREATE DATABASE logged TEMPLATE template0 STRATEGY wal_log"
sql "SELECT pg_switch_wal()" >/dev/null
stop=$(sql "SELECT '$end'::pg_lsn + 20001")
last=$(sql "SELECT pg_walfile_name('$stop'), pg_wal_lsn_diff('$stop', '0/0')::bigint % 1048576" -F ' ')
down

# the path from 'first' on timeline 1 to 'last' on timeline 2: pg_waldump wants one timeline in the names
mkdir "$work/path"
read -r last tail <<<"$last"
for file in "$data"/pg_wal/0000000[12]????????????????; do
	name=$(basename "$file")
	[[ ${name:8} < ${first:8} || ${name:8} > ${last:8} ]] && continue
	if [[ $name == 00000001* && -e $data/pg_wal/00000002${name:8} ]]; then continue; fi
	cp "$file" "$work/path/00000002${name:8}"
	[[ $name == "$last" ]] && truncate -s "$tail" "$work/path/$name"
	perl -0777 -pe 's/\0+\z//' "$work/path/00000002${name:8}" >"$out/$name"
done
# cut off like that, pg_waldump says that the last record is not whole
truncate -s 1M "$work/path/$last"
{ "$bin/pg_waldump" -p "$work/path" "00000002${first:8}" "$last" 2>"$work/err" || true; } |
	sed -E 's/^rmgr: ([^ ]+) +len \(rec\/tot\): +([0-9]+)\/ *([0-9]+), tx: +([0-9]+), lsn: ([^,]+), prev ([^,]+), desc: /\5 \6 \2\/\3 \1 \4 /
		s/; relcache init file inval dbid [0-9]+ tsid [0-9]+//; s/; inval msgs:[^;]*//; s/ +$//' |
	perl -ne '
		my ($lsn, $prev, $len, $rmgr, $xid, $desc) = split / /, $_, 6;
		chomp $desc;
		my ($type, $more) = $desc =~ /^(UNKNOWN \(\w+\)|\S+)(.*)$/;
		my $known = $rmgr =~ /^(Transaction|Storage|Database|Tablespace)$/ ||
			($rmgr eq "Standby" && $type eq "LOCK") || ($rmgr eq "Heap" && $type eq "TRUNCATE") ||
			($rmgr eq "XLOG" && $type !~ /^(FPI|NEXTOID|NOOP)/);
		$more = "" if !$known || $type =~ /^(ASSIGNMENT|INVALIDATION)$/;
		print "$lsn $prev $len $rmgr $xid $type$more\n";' >"$out/records"
cat "$work/err" >&2
du -sh "$out"
