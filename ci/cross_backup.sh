# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of ci/cross_major.sh
# The part "backup" of ci/cross_major.sh: base backups that are unpacked, judged and started by the primary's own major.
# Sourced by it.

take_backup() { # further arguments; prints the label
	value host "SELECT walarchive.take_backup('prod'$1)"
}
# a backup's folder in the archive
stored() { # label
	local found
	found=$(find "$(outside "$host_major")/archive/prod" -maxdepth 3 -type d -path "*/backup/$1")
	[[ -n $found ]] || die "there is no folder of backup $1"
	echo "$found"
}

untar() { # file, folder
	case $1 in
	*.tar) tar -C "$2" -xf "$1" ;;
	*.gz) gzip -dc "$1" | tar -C "$2" -xf - ;;
	*.lz4) lz4 -dcq "$1" | tar -C "$2" -xf - ;;
	*.zst) zstd -dcq "$1" | tar -C "$2" -xf - ;;
	esac
}
# Unpack a backup as a person would, with tar, into the folder NAME where the primary's major finds it, and each
# tablespace into NAME.OID, linked to.
unpack() { # label, name
	local from to out file oid path
	from=$(stored "$1") to=${work_of[$primary_major]}/$2 out=$(outside "$primary_major")/$2
	mkdir -m 700 "$out"
	untar "$from"/base.tar* "$out"
	for file in "$from"/[0-9]*.tar*; do
		[[ -e $file ]] || continue
		oid=${file##*/} oid=${oid%%.*}
		mkdir -m 700 "$out.$oid"
		untar "$file" "$out.$oid"
		ln -sn "$to.$oid" "$out/pg_tblspc/$oid"
	done
	cp "$from/backup_manifest" "$out/"
	for path in "$out" "$out".[0-9]*; do
		if [[ -e $path ]]; then chown -hR --reference="$(outside "$primary_major")" "$path"; fi
	done
}
# the archived WAL, as it is now, where the primary's major finds it; the open segment under its final name
copy_wal() {
	local file name to
	to=$(outside "$primary_major")/wal
	mkdir -p "$to"
	for file in "$(outside "$host_major")"/archive/prod/*/wal/*; do
		name=${file##*/}
		case $name in
		*.history | ????????????????????????) cp "$file" "$to/$name" ;;
		????????????????????????.partial)
			# it may get its final name meanwhile
			[[ -e ${file%.partial} ]] || cp "$file" "$to/${name%.partial}" 2>/dev/null || cp "${file%.partial}" "$to/${name%.partial}"
			;;
		esac
	done
	chown -R --reference="$(outside "$primary_major")" "$to"
}

# what the tables of the database hold
contents() { # node
	local table
	for table in $(value "$1" "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname COLLATE \"C\""); do
		value "$1" "SELECT '$table', count(*), sum(hashtextextended(t::text, 0)) FROM $table t"
	done
}
# pg_verifybackup of the primary's major, the WAL between start and stop included
verified() { # name, what
	local said
	if said=$(at "$primary_major" pg_verifybackup -q -w "${work_of[$primary_major]}/wal" "${work_of[$primary_major]}/$1" 2>&1); then
		good "$2: pg_verifybackup of PostgreSQL $primary_major accepts it"
	else
		bad "$2: pg_verifybackup: $said"
	fi
}
# Start an unpacked backup with the archived WAL and compare it with the primary, which is at rest.
started() { # name, what
	local name=$1 what=$2 out oid
	out=$(outside "$primary_major")/$name
	# the links are right, where they led to at the primary is not; and a standby's copy would stay one
	rm -f "$out/tablespace_map" "$out/standby.signal"
	# shellcheck disable=SC2034,SC2004 # an associative array of ci/cross_major.sh
	major_of[$name]=$primary_major
	nodes+=("$name")
	configure "$name" "restore_command = 'cp ${work_of[$primary_major]}/wal/%f %p'" "archive_mode = off" "summarize_wal = off"
	[[ $primary_major -ge 17 ]] || sed -i '/summarize_wal/d' "$out/postgresql.conf"
	at "$primary_major" touch "${work_of[$primary_major]}/$name/recovery.signal"
	start "$name"
	wait_for "$name" "SELECT NOT pg_is_in_recovery()" "the end of recovery"
	contents "$name" >"$(outside "$primary_major")/$name.contents"
	contents primary >"$(outside "$primary_major")/primary.contents"
	same "$what: started, it has what the primary has" "$out.contents" "$(outside "$primary_major")/primary.contents"
	for oid in $(value "$name" "SELECT oid FROM pg_tablespace WHERE oid > 16383"); do
		is "$what: its tablespace is its own" "$(value "$name" "SELECT pg_tablespace_location($oid)")" "${work_of[$primary_major]}/$name.$oid"
	done
	stop "$name" immediate
	rm -rf "$out" "$out".[0-9]*
}
# The row says what the manifest and the server say.
catalogued() { # label, kind, what, from a standby
	local from ranges
	from=$(stored "$1")
	wait_for host "SELECT count(*) = 1 FROM walarchive.backup WHERE label = '$1' AND state <> 'waiting'" "the catalog to know $1"
	is "$3: usable, and of the right version" \
		"$(value host "SELECT state, reason, kind, server_version / 10000, from_standby FROM walarchive.backup WHERE label = '$1'")" "usable||$2|$primary_major|${4:-f}"
	ranges=$(perl -0777 -MJSON::PP -ne 'print join ",", map { $_->{Timeline} . "|" . $_->{"Start-LSN"} . "|" . $_->{"End-LSN"} } @{ decode_json($_)->{"WAL-Ranges"} }' \
		"$from/backup_manifest")
	is "$3: start and stop are those of the manifest" "$(value host "SELECT timeline, start_lsn, stop_lsn FROM walarchive.backup WHERE label = '$1'")" "$ranges"
	is "$3: verify_backup finds nothing wrong with it and those that it builds on" \
		"$(value host "SELECT backup, file, problem FROM walarchive.verify_backup('prod', '$1', parents => true)")" ""
	# it is written to notes.json by way of another name
	wait_for host "SELECT bool_and(notes_revision = notes_written) FROM walarchive.backup WHERE state <> 'failed'" "notes.json"
	is "$3: nothing else is in its folder" "$(find "$from" -type f -printf '%f\n' |
		grep -cvxE 'backup\.json|notes\.json|backup_manifest|(base|[0-9]+)\.tar(\.gz|\.lz4|\.zst)?')" 0
}
# something that a backup has to have, and what follows on it
change() { # number
	sql primary -o /dev/null -c "CREATE TABLE IF NOT EXISTS change (n int, t text) TABLESPACE space_1" \
		-c "INSERT INTO change SELECT $1, md5(i::text) FROM generate_series(1, 2000) i" \
		-c "CREATE TABLE change_$1 TABLESPACE space_2 AS SELECT i FROM generate_series(1, 1000) i" \
		-c "UPDATE pgbench_accounts SET abalance = $1 WHERE aid % 97 = $1" -c "DELETE FROM change WHERE n = $1 - 2"
}

cross_backup() {
	local n=0 label compression checksums what mode load_pid chain=() names=() mapping=() previous='' oid conf=() ours
	[[ $primary_major -lt 17 ]] || conf=("summarize_wal = on")
	make_pair 1 "${conf[@]}"
	for n in 1 2; do
		at "$primary_major" mkdir -m 700 "${work_of[$primary_major]}/space_$n"
		sql primary -c "CREATE TABLESPACE space_$n LOCATION '${work_of[$primary_major]}/space_$n'"
	done
	at "$primary_major" pgbench -h 127.0.0.1 -p "${port_of[primary]}" -U postgres -i -q -s 2 postgres >/dev/null 2>&1
	sql primary -o /dev/null -c "ALTER TABLE pgbench_branches SET TABLESPACE space_2"

	n=0
	for mode in none:SHA256 gzip:CRC32C client-lz4:SHA512 client-zstd:SHA256 server-gzip:SHA224 server-lz4:NONE server-zstd:SHA384 "client-zstd|level=5,workers=2:SHA256"; do
		n=$((n + 1)) compression=${mode%:*} checksums=${mode##*:}
		compression=${compression/|/:}
		what="full, $compression, $checksums"
		change "$n"
		at "$primary_major" pgbench -h 127.0.0.1 -p "${port_of[primary]}" -U postgres -n -c 2 -T 3 postgres >/dev/null 2>&1 &
		load_pid=$!
		if ! label=$(take_backup ", compression => '$compression', manifest_checksums => '$checksums'"); then
			bad "$what"
			wait "$load_pid"
			continue
		fi
		catalogued "$label" full "$what"
		wait "$load_pid"
		wait_indexed
		copy_wal
		unpack "$label" "full_$n"
		verified "full_$n" "$what"
		started "full_$n" "$what"
		if ((primary_major >= 18)); then
			# this one reads tars
			ours=$(outside "$primary_major")/tars
			cp -r "$(stored "$label")" "$ours"
			chown -R --reference="$(outside "$primary_major")" "$ours"
			if at "$primary_major" pg_verifybackup -q -n -i backup.json -i notes.json "${work_of[$primary_major]}/tars" >"$(outside "$primary_major")/said" 2>&1; then
				good "$what: pg_verifybackup accepts the tars as they are"
			else
				bad "$what: pg_verifybackup: $(cat "$(outside "$primary_major")/said")"
			fi
			rm -rf "$ours"
		fi
	done

	# from a standby, which replays meanwhile
	what="from a standby"
	mapping=()
	for n in 1 2; do
		mapping+=(-T "${work_of[$primary_major]}/space_$n=${work_of[$primary_major]}/standby_space_$n")
	done
	at "$primary_major" pg_basebackup -h 127.0.0.1 -p "${port_of[primary]}" -U postgres -D "${work_of[$primary_major]}/standby" -R -c fast "${mapping[@]}"
	# shellcheck disable=SC2034,SC2004 # an associative array of ci/cross_major.sh
	major_of[standby]=$primary_major
	nodes+=(standby)
	configure standby
	start standby
	at "$primary_major" pgbench -h 127.0.0.1 -p "${port_of[primary]}" -U postgres -n -c 2 -T 5 postgres >/dev/null 2>&1 &
	load_pid=$!
	label=$(take_backup ", compression => 'client-zstd', conninfo => 'host=127.0.0.1 port=${port_of[standby]} user=postgres'") || bad "$what"
	[[ -z $label ]] || catalogued "$label" full "$what" t
	wait "$load_pid"
	if [[ -n $label ]]; then
		wait_indexed
		copy_wal
		unpack "$label" of_standby
		verified of_standby "$what"
		started of_standby "$what"
	fi
	stop standby immediate
	rm -rf "$(outside "$primary_major")"/standby*
	((primary_major >= 17)) || return 0

	# a chain: each link on the one before
	n=20
	for compression in server-zstd none client-lz4 gzip; do
		n=$((n + 1)) what="link $n, $compression"
		change "$n"
		if [[ -z $previous ]]; then
			label=$(take_backup ", compression => '$compression'") || return
			what="the chain's full backup"
		else
			label=$(take_backup ", kind => 'incremental', compression => '$compression'") || return
			is "$what: builds on the one before" "$(value host "SELECT parent FROM walarchive.backup WHERE label = '$label'")" "$previous"
		fi
		catalogued "$label" "$([[ -z $previous ]] && echo full || echo incremental)" "$what"
		wait_indexed
		copy_wal
		unpack "$label" "link_$n"
		verified "link_$n" "$what"
		previous=$label names+=("${work_of[$primary_major]}/link_$n") chain+=("link_$n")
	done
	mapping=()
	# a link that was left out of the chain, from its second backup on
	label=$(take_backup ", kind => 'incremental', parent => '$(value host "SELECT parent FROM walarchive.backup WHERE label = '$previous'")'") || return
	is "a parent that is named" "$(value host "SELECT parent FROM walarchive.backup WHERE label = '$label'")" \
		"$(value host "SELECT parent FROM walarchive.backup WHERE label = '$previous'")"

	for oid in $(value primary "SELECT oid FROM pg_tablespace WHERE oid > 16383"); do
		mapping+=(-T "${names[-1]}.$oid=${work_of[$primary_major]}/combined.$oid")
	done
	change 30
	wait_indexed
	copy_wal
	if ours=$(at "$primary_major" pg_combinebackup "${mapping[@]}" -o "${work_of[$primary_major]}/combined" "${names[@]}" 2>&1); then
		good "pg_combinebackup accepts a chain of ${#names[@]}"
		verified combined "the combined backup"
		started combined "the combined backup"
	else
		bad "pg_combinebackup: $ours"
	fi
}
