-- Scheduled base backups.  The schedule is a part of the source's settings; the
-- launcher follows it, and goes by the files when the catalog can't be read.

CREATE FUNCTION walarchive.check_compression(compression text)
RETURNS void
LANGUAGE c IMMUTABLE STRICT
AS 'MODULE_PATHNAME', 'wa_check_compression';
REVOKE ALL ON FUNCTION walarchive.check_compression(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.check_compression(text) IS
'private: raise an error if backups cannot be compressed like this';

CREATE FUNCTION walarchive.schedule_backups(
	source text,
	full_interval interval,
	incremental_interval interval DEFAULT NULL,
	window_start time DEFAULT NULL,
	window_end time DEFAULT NULL,
	jitter interval DEFAULT NULL,
	compression text DEFAULT 'none',
	max_rate integer DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	version integer;
	-- 24:00 is 0:00, and nobody needs fractions of a second
	from_time time := pg_catalog.date_trunc('second', schedule_backups.window_start::interval)::time;
	to_time time := pg_catalog.date_trunc('second', schedule_backups.window_end::interval)::time;
BEGIN
	IF schedule_backups.full_interval IS NULL THEN
		RAISE EXCEPTION 'full_interval must not be null'
			USING ERRCODE = 'null_value_not_allowed',
				HINT = 'walarchive.unschedule_backups ends a schedule.';
	END IF;
	IF schedule_backups.full_interval NOT BETWEEN '10 s'::interval AND '366 days'::interval
		OR schedule_backups.incremental_interval NOT BETWEEN '10 s'::interval AND '366 days'::interval
	THEN
		RAISE EXCEPTION 'intervals of backups must be between 10 s and 366 days'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF schedule_backups.incremental_interval >= schedule_backups.full_interval THEN
		RAISE EXCEPTION 'incremental_interval must be shorter than full_interval'
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Leave it out if all backups are to be full ones.';
	END IF;
	IF (from_time IS NULL) <> (to_time IS NULL) THEN
		RAISE EXCEPTION 'window_start and window_end must be given together'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF from_time = to_time THEN
		RAISE EXCEPTION 'window_start and window_end must differ'
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Leave both out if backups may begin at any time.';
	END IF;
	IF schedule_backups.jitter NOT BETWEEN '0'::interval AND schedule_backups.full_interval THEN
		RAISE EXCEPTION 'jitter must not be negative or longer than full_interval'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF schedule_backups.compression IS NULL THEN
		RAISE EXCEPTION 'compression must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	PERFORM walarchive.check_compression(schedule_backups.compression);
	IF schedule_backups.max_rate NOT BETWEEN 32 AND 1048576 THEN
		RAISE EXCEPTION 'max_rate must be between 32 and 1048576 kB per second'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;

	PERFORM walarchive.source_for_change(schedule_backups.source, 'schedule_backups');
	SELECT r.server_version INTO version
	FROM walarchive.receiver_state() r
	WHERE r.source = schedule_backups.source;
	IF schedule_backups.incremental_interval IS NOT NULL AND version < 170000 THEN
		RAISE EXCEPTION 'the server of source "%" cannot do incremental backups', schedule_backups.source
			USING ERRCODE = 'feature_not_supported',
				DETAIL = pg_catalog.format('It runs PostgreSQL %s; incremental backups need 17 or newer.', version / 10000),
				HINT = 'Leave incremental_interval out.';
	END IF;

	-- no new revision: the receiver need not know, and is not restarted
	UPDATE walarchive.source s
	SET backup_full_interval = schedule_backups.full_interval,
		backup_incremental_interval = schedule_backups.incremental_interval,
		backup_window_start = from_time,
		backup_window_end = to_time,
		backup_jitter = nullif(schedule_backups.jitter, '0'::interval),
		backup_compression = schedule_backups.compression,
		backup_max_rate = schedule_backups.max_rate,
		backup_scheduled_at = pg_catalog.clock_timestamp()
	WHERE s.name = schedule_backups.source;
END
$$;
REVOKE ALL ON FUNCTION walarchive.schedule_backups(text, interval, interval, time, time, interval, text, integer) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.schedule_backups(text, interval, interval, time, time, interval, text, integer) IS
'have base backups of a source taken by themselves, in place of an earlier schedule; window and intervals say when they begin, walarchive.backup_schedule what comes next';

CREATE FUNCTION walarchive.unschedule_backups(source text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	old walarchive.source := walarchive.source_for_change(unschedule_backups.source, 'unschedule_backups');
BEGIN
	IF old.backup_full_interval IS NOT NULL THEN
		UPDATE walarchive.source s
		SET backup_full_interval = NULL,
			backup_incremental_interval = NULL,
			backup_window_start = NULL,
			backup_window_end = NULL,
			backup_jitter = NULL,
			backup_compression = NULL,
			backup_max_rate = NULL,
			backup_scheduled_at = NULL
		WHERE s.name = unschedule_backups.source;
	END IF;
END
$$;
REVOKE ALL ON FUNCTION walarchive.unschedule_backups(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.unschedule_backups(text) IS
'end the schedule of a source''s backups; one that runs goes on, and those that are there stay';

CREATE FUNCTION walarchive.backup_plan(
	OUT source text,
	OUT next_kind text,
	OUT next_due timestamptz,
	OUT next_attempt timestamptz,
	OUT waiting_for text,
	OUT last_full timestamptz,
	OUT last_incremental timestamptz,
	OUT last_failure timestamptz,
	OUT failures integer,
	OUT last_error text,
	OUT scheduled_at timestamptz)
RETURNS SETOF record
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED ROWS 16
AS 'MODULE_PATHNAME', 'wa_backup_plan';
REVOKE ALL ON FUNCTION walarchive.backup_plan() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION walarchive.backup_plan() TO pg_monitor;
COMMENT ON FUNCTION walarchive.backup_plan() IS
'private: what the launcher says of scheduled backups; read backup_schedule instead';

CREATE VIEW walarchive.backup_schedule AS
SELECT s.name AS source,
	   s.backup_full_interval AS full_interval,
	   s.backup_incremental_interval AS incremental_interval,
	   s.backup_window_start AS window_start,
	   s.backup_window_end AS window_end,
	   s.backup_jitter AS jitter,
	   s.backup_compression AS compression,
	   s.backup_max_rate AS max_rate,
	   s.backup_scheduled_at AS scheduled_at,
	   p.last_full,
	   p.last_incremental,
	   p.last_failure,
	   p.failures,
	   p.last_error,
	   p.next_kind,
	   p.next_due,
	   p.next_attempt,
	   p.waiting_for
FROM walarchive.source s
	-- the launcher may not know of a change yet
	LEFT JOIN walarchive.backup_plan() p ON p.source = s.name AND p.scheduled_at = s.backup_scheduled_at
WHERE s.backup_full_interval IS NOT NULL;
REVOKE ALL ON TABLE walarchive.backup_schedule FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.backup_schedule TO pg_monitor;

COMMENT ON VIEW walarchive.backup_schedule IS 'sources whose backups are scheduled: the schedule, what happened, and what comes next';
COMMENT ON COLUMN walarchive.backup_schedule.source IS 'name of the source';
COMMENT ON COLUMN walarchive.backup_schedule.full_interval IS 'a full backup is taken this often';
COMMENT ON COLUMN walarchive.backup_schedule.incremental_interval IS 'an incremental backup is taken this often; NULL: none';
COMMENT ON COLUMN walarchive.backup_schedule.window_start IS 'they begin at this time or later, in the time zone of the archive host''s configuration; NULL: at any time';
COMMENT ON COLUMN walarchive.backup_schedule.window_end IS 'and before this one';
COMMENT ON COLUMN walarchive.backup_schedule.jitter IS 'the sources'' first backups, or the openings of their windows, are spread over so much time; NULL: they are not';
COMMENT ON COLUMN walarchive.backup_schedule.compression IS 'as take_backup takes it';
COMMENT ON COLUMN walarchive.backup_schedule.max_rate IS 'in kB per second; NULL: no limit';
COMMENT ON COLUMN walarchive.backup_schedule.scheduled_at IS 'when the schedule was set';
COMMENT ON COLUMN walarchive.backup_schedule.last_full IS 'start of the latest full backup of the cluster that is there, scheduled or not; NULL: none, or the launcher has not looked yet';
COMMENT ON COLUMN walarchive.backup_schedule.last_incremental IS 'the same of incremental ones';
COMMENT ON COLUMN walarchive.backup_schedule.last_failure IS 'end of the latest attempt that failed; NULL: none is known';
COMMENT ON COLUMN walarchive.backup_schedule.failures IS 'attempts in a row that failed, up to now';
COMMENT ON COLUMN walarchive.backup_schedule.last_error IS 'why the latest of them failed, or could not be made';
COMMENT ON COLUMN walarchive.backup_schedule.next_kind IS 'kind of the next one: full or incremental';
COMMENT ON COLUMN walarchive.backup_schedule.next_due IS 'when it should begin; in the past: when it should have begun';
COMMENT ON COLUMN walarchive.backup_schedule.next_attempt IS 'when it can begin; NULL: that depends on what waiting_for says';
COMMENT ON COLUMN walarchive.backup_schedule.waiting_for IS
'time (none is due), window (outside of its hours), retry (after a failure), running (a backup is being taken), receiver (WAL is not being streamed), paused (the source is not active), worker (none was free), archive (what is there could not be read), starting';
