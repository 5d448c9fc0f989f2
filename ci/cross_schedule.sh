# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of ci/cross_major.sh
# The part "schedule" of ci/cross_major.sh: what only a primary of the right major shows of scheduled backups, incremental
# ones above all. Sourced by it.

plan() { # expression
	value host "SELECT $1 FROM walarchive.backup_schedule WHERE source = 'prod'"
}
usable() { # kind
	value host "SELECT count(*) FROM walarchive.backup WHERE source = 'prod' AND kind = '$1' AND state = 'usable'"
}

cross_schedule() {
	local conf=() said n
	[[ $primary_major -lt 17 ]] || conf=("summarize_wal = on")
	make_pair 1 "${conf[@]}" "checkpoint_completion_target = 0"

	if ((primary_major < 17)); then
		said=$(value host "SELECT walarchive.schedule_backups('prod', '1 hour', incremental_interval => '10 s')" 2>&1) || true
		is "no incremental backups of PostgreSQL $primary_major" "$(grep -c 'cannot do incremental backups' <<<"$said")" 1
		value host "SELECT walarchive.schedule_backups('prod', '10 s')" >/dev/null
		wait_for host "SELECT count(*) >= 2 FROM walarchive.backup WHERE state = 'usable'" "two full backups"
		good "full backups by the schedule"
		return
	fi

	value host "SELECT walarchive.schedule_backups('prod', '1 hour', incremental_interval => '10 s', compression => 'zstd')" >/dev/null
	wait_for host "SELECT count(*) >= 3 FROM walarchive.backup WHERE kind = 'incremental' AND state = 'usable'" "three incremental backups"
	is "one full backup, then incremental ones" "$(usable full)" 1
	is "each builds on the one before" "$(value host "SELECT count(*) FROM (SELECT kind, parent, lag(label) OVER (ORDER BY started_at) AS last FROM walarchive.backup WHERE state <> 'failed') b
		WHERE kind = 'incremental' AND parent IS DISTINCT FROM last")" 0
	is "none comes before its time" "$(value host "SELECT min(started_at - last) >= '10 s' FROM (SELECT started_at, lag(started_at) OVER (ORDER BY started_at) AS last FROM walarchive.backup WHERE state <> 'failed') b")" t
	wait_for host "SELECT waiting_for = 'time' AND next_kind = 'incremental' AND last_incremental > last_full AND next_due = last_incremental + '10 s'::interval
		FROM walarchive.backup_schedule" "the next one to be announced"
	good "the next one is announced"

	# a standby with nothing to do
	value host "SELECT walarchive.unschedule_backups('prod')" >/dev/null
	wait_for host "SELECT count(*) = 0 FROM walarchive.backup_plan()" "the launcher to know"
	wait_for host "SELECT count(*) = 0 FROM walarchive.stat_progress_backup" "the last one to end"
	at "$primary_major" pg_basebackup -h 127.0.0.1 -p "${port_of[primary]}" -U postgres -D "${work_of[$primary_major]}/standby" -R -c fast
	# shellcheck disable=SC2034,SC2004 # an associative array of ci/cross_major.sh
	major_of[standby]=$primary_major
	nodes+=(standby)
	configure standby "summarize_wal = on"
	start standby
	value host "SELECT walarchive.alter_source('prod', backup_conninfo => 'host=127.0.0.1 port=${port_of[standby]} user=postgres')" >/dev/null
	value host "SELECT walarchive.take_backup('prod')" >/dev/null
	value host "SELECT walarchive.schedule_backups('prod', '1 hour', incremental_interval => '10 s')" >/dev/null
	wait_for host "SELECT waiting_for = 'retry' AND last_error IS NOT NULL FROM walarchive.backup_schedule" "the standby's refusal"
	is "a quiet standby refuses, which is no failure" "$(plan "failures, next_kind")" "0|incremental"
	is "and leaves no attempt" "$(value host "SELECT count(*) FROM walarchive.backup WHERE state = 'failed' AND started_at > (SELECT max(started_at) FROM walarchive.backup WHERE state = 'usable')")" 0
	for n in {1..60}; do
		# a checkpoint that the standby makes a restartpoint of
		sql primary -o /dev/null -c "CREATE TABLE news_$n AS SELECT generate_series(1, 1000)" -c "CHECKPOINT"
		value standby "CHECKPOINT"
		[[ $(value host "SELECT count(*) > 0 FROM walarchive.backup WHERE kind = 'incremental' AND from_standby AND state = 'usable'") != t ]] || break
		sleep 1
	done
	is "it is taken when the standby has something to tell" "$(value host "SELECT count(*) > 0 FROM walarchive.backup WHERE kind = 'incremental' AND from_standby AND state = 'usable'")" t
	is "still without a failure" "$(plan failures)" 0
	value host "SELECT walarchive.unschedule_backups('prod')" >/dev/null
}
