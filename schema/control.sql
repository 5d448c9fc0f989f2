-- Steering: what an operator calls.  The functions run with the rights of the
-- extension's owner, so EXECUTE on one of them is all that a role needs; and
-- it is much, because a conninfo can name sockets, passfiles and keys of the
-- server's operating system user.
--
-- Nothing happens on a primary or to WAL before commit: the trigger on
-- walarchive.source has the rows mirrored then.  (attach_source alone renames
-- files inside the archive directory at once; doing it twice does no harm.)

CREATE FUNCTION walarchive.check_conninfo(conninfo text)
RETURNS void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'wa_check_conninfo';
REVOKE ALL ON FUNCTION walarchive.check_conninfo(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.check_conninfo(text) IS
'private: raise an error if a connection string is malformed or holds a secret';

CREATE FUNCTION walarchive.check_connection(
	conninfo text,
	slot_name text,
	allow_standby boolean,
	expected_system_identifier bigint,
	OUT system_identifier bigint,
	OUT server_version integer,
	OUT timeline integer,
	OUT segment_size integer)
RETURNS SETOF record
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'wa_check_connection';
REVOKE ALL ON FUNCTION walarchive.check_connection(text, text, boolean, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.check_connection(text, text, boolean, bigint) IS
'private: connect to a server and raise an error that says why its WAL could not be streamed, or, without a slot''s name, no backup be taken';

-- The row of a source that a function is about to change, locked.
CREATE FUNCTION walarchive.source_for_change(p_name text, p_function text)
RETURNS walarchive.source
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_source walarchive.source;
BEGIN
	IF p_name IS NULL THEN
		RAISE EXCEPTION 'name of the source must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	SELECT s.* INTO found_source
	FROM walarchive.source s
	WHERE s.name = p_name
	FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'source "%" does not exist', p_name
			USING ERRCODE = 'undefined_object',
				HINT = 'The table walarchive.source lists the sources.';
	END IF;
	IF found_source.state = 'dropping' AND p_function <> 'drop_source' THEN
		RAISE EXCEPTION 'source "%" is being dropped', p_name
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'Wait until it has gone from walarchive.source; walarchive.stat_receiver shows what it waits for.';
	END IF;
	RETURN found_source;
END
$$;
REVOKE ALL ON FUNCTION walarchive.source_for_change(text, text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.source_for_change(text, text) IS
'private: lock a source that is to be changed, or say why it cannot be';

-- What add_source and attach_source ask of a new source.
CREATE FUNCTION walarchive.check_new_source(p_name text, p_on_gap text, p_allow_standby boolean, p_check_connection boolean)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_state text;
	number_of bigint;
	most integer := pg_catalog.current_setting('walarchive.max_sources')::integer;
BEGIN
	PERFORM walarchive.check_source_name(p_name);
	IF p_on_gap IS NULL OR p_on_gap NOT IN ('continue', 'stop') THEN
		RAISE EXCEPTION 'on_gap must be "continue" or "stop"'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF p_allow_standby IS NULL THEN
		RAISE EXCEPTION 'allow_standby must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF p_check_connection IS NULL THEN
		RAISE EXCEPTION 'check_connection must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;

	SELECT s.state INTO found_state FROM walarchive.source s WHERE s.name = p_name;
	IF found_state = 'dropping' THEN
		RAISE EXCEPTION 'source "%" is being dropped', p_name
			USING ERRCODE = 'object_in_use',
				HINT = 'Wait until it has gone from walarchive.source; walarchive.stat_receiver shows what it waits for.';
	ELSIF FOUND THEN
		RAISE EXCEPTION 'source "%" already exists', p_name
			USING ERRCODE = 'duplicate_object',
				HINT = 'walarchive.alter_source changes its settings.';
	END IF;

	SELECT pg_catalog.count(*) INTO number_of FROM walarchive.source;
	IF number_of >= most THEN
		RAISE EXCEPTION 'no more than % sources are allowed', most
			USING ERRCODE = 'configuration_limit_exceeded',
				HINT = 'Raise walarchive.max_sources, and max_worker_processes by as much, and restart the server.';
	END IF;
END
$$;
REVOKE ALL ON FUNCTION walarchive.check_new_source(text, text, boolean, boolean) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.check_new_source(text, text, boolean, boolean) IS
'private: raise an error if a source of this name cannot be made';

-- Intervals of the observer: 0 is off, and NULL is nothing to check.
CREATE FUNCTION walarchive.check_intervals(p_heartbeat interval, p_relation_names interval)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF p_heartbeat <> '0'::interval AND p_heartbeat NOT BETWEEN '1 s'::interval AND '7 days'::interval THEN
		RAISE EXCEPTION 'heartbeat_interval must be between 1 s and 7 days'
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'An interval of 0 turns heartbeats off.';
	END IF;
	IF p_relation_names <> '0'::interval AND p_relation_names NOT BETWEEN '10 s'::interval AND '7 days'::interval THEN
		RAISE EXCEPTION 'relation_names_interval must be between 10 s and 7 days'
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'With an interval of 0 the server is not asked for the names of its relations.';
	END IF;
END
$$;
REVOKE ALL ON FUNCTION walarchive.check_intervals(interval, interval) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.check_intervals(interval, interval) IS
'private: raise an error if an interval of the observer is out of range';

CREATE FUNCTION walarchive.add_source(
	name text,
	conninfo text,
	slot_name text DEFAULT NULL,
	start_lsn pg_lsn DEFAULT NULL,
	check_connection boolean DEFAULT true,
	allow_standby boolean DEFAULT false,
	on_gap text DEFAULT 'continue',
	heartbeat_interval interval DEFAULT NULL,
	relation_names_interval interval DEFAULT '10 minutes',
	backup_conninfo text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	slot text;
	cluster bigint;
BEGIN
	IF add_source.conninfo IS NULL THEN
		RAISE EXCEPTION 'conninfo must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	-- first, because its errors alone keep the statement out of the log
	PERFORM walarchive.check_conninfo(add_source.conninfo);
	PERFORM walarchive.check_conninfo(add_source.backup_conninfo);
	PERFORM walarchive.check_new_source(add_source.name, add_source.on_gap, add_source.allow_standby,
										add_source.check_connection);
	PERFORM walarchive.check_intervals(add_source.heartbeat_interval, add_source.relation_names_interval);
	slot := coalesce(add_source.slot_name, walarchive.default_slot_name(add_source.name));
	PERFORM walarchive.check_slot_name(slot);
	IF walarchive.archive_folder_in_use(add_source.name) THEN
		RAISE EXCEPTION 'the archive directory already holds an archive of the name "%"', add_source.name
			USING ERRCODE = 'duplicate_object',
				DETAIL = pg_catalog.format('Folder "%s" in walarchive.directory has settings or WAL in it.', add_source.name),
				HINT = 'Go on with that archive by walarchive.attach_source, or choose another name, or move the folder away.';
	END IF;
	IF add_source.check_connection THEN
		SELECT c.system_identifier INTO cluster
		FROM walarchive.check_connection(add_source.conninfo, slot, add_source.allow_standby, NULL) c;
		IF add_source.backup_conninfo <> '' THEN
			PERFORM walarchive.check_connection(add_source.backup_conninfo, NULL, true, cluster);
		END IF;
	END IF;

	-- a second look, now that nobody else can add one
	LOCK TABLE walarchive.source IN SHARE ROW EXCLUSIVE MODE;
	PERFORM walarchive.check_new_source(add_source.name, add_source.on_gap, add_source.allow_standby,
										add_source.check_connection);
	INSERT INTO walarchive.source (name, conninfo, slot_name, start_lsn, allow_standby, on_gap, state,
								   heartbeat_interval, relation_names_interval, backup_conninfo)
	VALUES (add_source.name, add_source.conninfo, slot, add_source.start_lsn, add_source.allow_standby,
			add_source.on_gap, 'active', nullif(add_source.heartbeat_interval, '0'::interval),
			nullif(add_source.relation_names_interval, '0'::interval), nullif(add_source.backup_conninfo, ''));
	-- what an earlier source of this name left in the catalog is not its own
	UPDATE walarchive.event e SET journal_offset = NULL
	WHERE e.source = add_source.name AND e.journal_offset IS NOT NULL;
END
$$;
REVOKE ALL ON FUNCTION walarchive.add_source(text, text, text, pg_lsn, boolean, boolean, text, interval, interval, text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.add_source(text, text, text, pg_lsn, boolean, boolean, text, interval, interval, text) IS
'archive the WAL of a server; connects first and says what is wrong';

CREATE FUNCTION walarchive.alter_source(
	name text,
	conninfo text DEFAULT NULL,
	slot_name text DEFAULT NULL,
	allow_standby boolean DEFAULT NULL,
	on_gap text DEFAULT NULL,
	check_connection boolean DEFAULT true,
	heartbeat_interval interval DEFAULT NULL,
	relation_names_interval interval DEFAULT NULL,
	backup_conninfo text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	old walarchive.source;
	receiver_goes_on boolean := alter_source.conninfo IS NULL AND alter_source.slot_name IS NULL
		AND alter_source.allow_standby IS NULL AND alter_source.on_gap IS NULL
		AND (alter_source.heartbeat_interval IS NOT NULL OR alter_source.relation_names_interval IS NOT NULL
			 OR alter_source.backup_conninfo IS NOT NULL);
BEGIN
	IF alter_source.conninfo IS NOT NULL THEN
		PERFORM walarchive.check_conninfo(alter_source.conninfo);
	END IF;
	PERFORM walarchive.check_conninfo(alter_source.backup_conninfo);
	IF alter_source.check_connection IS NULL THEN
		RAISE EXCEPTION 'check_connection must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF alter_source.on_gap NOT IN ('continue', 'stop') THEN
		RAISE EXCEPTION 'on_gap must be "continue" or "stop"'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF alter_source.slot_name IS NOT NULL THEN
		PERFORM walarchive.check_slot_name(alter_source.slot_name);
	END IF;
	PERFORM walarchive.check_intervals(alter_source.heartbeat_interval, alter_source.relation_names_interval);

	old := walarchive.source_for_change(alter_source.name, 'alter_source');
	IF alter_source.check_connection
		AND (alter_source.conninfo <> old.conninfo
			 OR alter_source.slot_name <> old.slot_name
			 OR alter_source.allow_standby <> old.allow_standby)
	THEN
		PERFORM walarchive.check_connection(coalesce(alter_source.conninfo, old.conninfo),
											coalesce(alter_source.slot_name, old.slot_name),
											coalesce(alter_source.allow_standby, old.allow_standby),
											old.system_identifier);
	END IF;
	IF alter_source.check_connection AND alter_source.backup_conninfo <> ''
		AND alter_source.backup_conninfo IS DISTINCT FROM old.backup_conninfo
	THEN
		PERFORM walarchive.check_connection(alter_source.backup_conninfo, NULL, true, old.system_identifier);
	END IF;

	UPDATE walarchive.source s
	SET conninfo = coalesce(alter_source.conninfo, s.conninfo),
		backup_conninfo = nullif(coalesce(alter_source.backup_conninfo, s.backup_conninfo), ''),
		slot_name = coalesce(alter_source.slot_name, s.slot_name),
		allow_standby = coalesce(alter_source.allow_standby, s.allow_standby),
		on_gap = coalesce(alter_source.on_gap, s.on_gap),
		heartbeat_interval = nullif(coalesce(alter_source.heartbeat_interval, s.heartbeat_interval), '0'::interval),
		relation_names_interval = nullif(coalesce(alter_source.relation_names_interval, s.relation_names_interval), '0'::interval),
		-- what the receiver need not know does not restart it
		revision = CASE WHEN receiver_goes_on THEN s.revision ELSE s.revision + 1 END
	WHERE s.name = alter_source.name;
END
$$;
REVOKE ALL ON FUNCTION walarchive.alter_source(text, text, text, boolean, text, boolean, interval, interval, text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.alter_source(text, text, text, boolean, text, boolean, interval, interval, text) IS
'change the settings of a source, NULL keeps one, an interval of 0 turns off what it is for, and an empty backup_conninfo has backups taken where the WAL comes from; its receiver reconnects, unless intervals or backup_conninfo alone were given. A slot that is no longer used stays on the server';

CREATE FUNCTION walarchive.pause_source(name text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	old walarchive.source := walarchive.source_for_change(pause_source.name, 'pause_source');
BEGIN
	IF old.state <> 'paused' THEN
		UPDATE walarchive.source s
		SET state = 'paused', revision = s.revision + 1
		WHERE s.name = pause_source.name;
	END IF;
END
$$;
REVOKE ALL ON FUNCTION walarchive.pause_source(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.pause_source(text) IS
'stop streaming from a source until resume_source; its slot keeps the WAL on the server meanwhile';

CREATE FUNCTION walarchive.resume_source(name text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	old walarchive.source := walarchive.source_for_change(resume_source.name, 'resume_source');
BEGIN
	IF old.state <> 'active' THEN
		UPDATE walarchive.source s
		SET state = 'active', revision = s.revision + 1
		WHERE s.name = resume_source.name;
	END IF;
END
$$;
REVOKE ALL ON FUNCTION walarchive.resume_source(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.resume_source(text) IS
'go on streaming from a source that was paused';

CREATE FUNCTION walarchive.drop_source(
	name text,
	drop_slot boolean DEFAULT true,
	delete_files boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kept record;
BEGIN
	IF drop_source.drop_slot IS NULL OR drop_source.delete_files IS NULL THEN
		RAISE EXCEPTION 'drop_slot and delete_files must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	PERFORM walarchive.source_for_change(drop_source.name, 'drop_source');
	IF walarchive.backup_running(drop_source.name) THEN
		RAISE EXCEPTION 'a backup of source "%" is being taken', drop_source.name
			USING ERRCODE = 'object_in_use',
				HINT = 'Wait for it, or cancel it: walarchive.stat_progress_backup shows it.';
	END IF;
	IF drop_source.delete_files THEN
		SELECT b.label, walarchive.backup_kept_by(b) AS why INTO kept
		FROM walarchive.backup b
		WHERE b.source = drop_source.name AND b.state NOT IN ('failed', 'deleting')
			AND walarchive.backup_kept_by(b) IS NOT NULL
		ORDER BY b.started_at LIMIT 1;
		IF FOUND THEN
			RAISE EXCEPTION 'files of source "%" can''t be deleted: there is backup "%", and %', drop_source.name, kept.label, kept.why
				USING ERRCODE = 'object_in_use',
					HINT = 'walarchive.unpin_backup allows it, and delete_files => false keeps the files.';
		END IF;
	END IF;
	UPDATE walarchive.source s
	SET state = 'dropping',
		drop_slot = drop_source.drop_slot,
		delete_files = drop_source.delete_files,
		revision = s.revision + 1
	WHERE s.name = drop_source.name;
END
$$;
REVOKE ALL ON FUNCTION walarchive.drop_source(text, boolean, boolean) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.drop_source(text, boolean, boolean) IS
'stop archiving a source; the row goes when slot and files are done with. While the server cannot be reached to drop the slot, drop_slot => false gives that up';

CREATE FUNCTION walarchive.accept_new_cluster(name text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	refused bigint;
BEGIN
	PERFORM walarchive.source_for_change(accept_new_cluster.name, 'accept_new_cluster');
	SELECT r.refused_system_identifier INTO refused
	FROM walarchive.receiver_state() r
	WHERE r.source = accept_new_cluster.name;
	IF refused IS NULL THEN
		RAISE EXCEPTION 'no new cluster was refused for source "%"', accept_new_cluster.name
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'The receiver has to meet a server with another system identifier first; walarchive.stat_receiver shows what it met.';
	END IF;
	UPDATE walarchive.source s
	SET system_identifier = refused,
		start_lsn = NULL,
		revision = s.revision + 1
	WHERE s.name = accept_new_cluster.name;
END
$$;
REVOKE ALL ON FUNCTION walarchive.accept_new_cluster(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.accept_new_cluster(text) IS
'go on with the cluster that was refused because of its system identifier, after pg_upgrade or initdb; a new archive is begun beside the old one';

CREATE FUNCTION walarchive.attach_source(
	name text,
	conninfo text DEFAULT NULL,
	slot_name text DEFAULT NULL,
	system_identifier bigint DEFAULT NULL,
	check_connection boolean DEFAULT true,
	allow_standby boolean DEFAULT NULL,
	on_gap text DEFAULT NULL,
	heartbeat_interval interval DEFAULT NULL,
	relation_names_interval interval DEFAULT NULL,
	backup_conninfo text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	stored record;
	cluster bigint;
	cluster_found bigint;
BEGIN
	IF attach_source.conninfo IS NOT NULL THEN
		PERFORM walarchive.check_conninfo(attach_source.conninfo);
	END IF;
	PERFORM walarchive.check_conninfo(attach_source.backup_conninfo);
	PERFORM walarchive.check_new_source(attach_source.name, coalesce(attach_source.on_gap, 'continue'),
										coalesce(attach_source.allow_standby, false), attach_source.check_connection);
	PERFORM walarchive.check_intervals(attach_source.heartbeat_interval, attach_source.relation_names_interval);
	SELECT a.* INTO stored FROM walarchive.archived_settings(attach_source.name) a;
	stored.conninfo := coalesce(attach_source.conninfo, stored.conninfo);
	stored.backup_conninfo := nullif(coalesce(attach_source.backup_conninfo, stored.backup_conninfo), '');
	stored.slot_name := coalesce(attach_source.slot_name, stored.slot_name,
								 walarchive.default_slot_name(attach_source.name));
	stored.allow_standby := coalesce(attach_source.allow_standby, stored.allow_standby, false);
	stored.on_gap := coalesce(attach_source.on_gap, stored.on_gap, 'continue');
	stored.heartbeat_interval := coalesce(attach_source.heartbeat_interval, stored.heartbeat_interval);
	stored.relation_names_interval := coalesce(attach_source.relation_names_interval, stored.relation_names_interval,
											   '10 minutes'::interval);
	IF stored.conninfo IS NULL THEN
		RAISE EXCEPTION 'conninfo must be given to attach "%"', attach_source.name
			USING ERRCODE = 'null_value_not_allowed',
				DETAIL = 'Its folder holds no settings of walarchive.';
	END IF;
	PERFORM walarchive.check_slot_name(stored.slot_name);

	cluster := walarchive.adopt_directory(attach_source.name,
										  coalesce(attach_source.system_identifier, stored.system_identifier));
	IF attach_source.check_connection THEN
		SELECT c.system_identifier INTO cluster_found
		FROM walarchive.check_connection(stored.conninfo, stored.slot_name, stored.allow_standby, cluster) c;
		IF stored.backup_conninfo IS NOT NULL THEN
			PERFORM walarchive.check_connection(stored.backup_conninfo, NULL, true, cluster_found);
		END IF;
	END IF;

	LOCK TABLE walarchive.source IN SHARE ROW EXCLUSIVE MODE;
	PERFORM walarchive.check_new_source(attach_source.name, stored.on_gap, stored.allow_standby,
										attach_source.check_connection);
	INSERT INTO walarchive.source (name, conninfo, slot_name, start_lsn, allow_standby, on_gap, state,
								   system_identifier, revision, heartbeat_interval, relation_names_interval, backup_conninfo,
								   backup_full_interval, backup_incremental_interval, backup_window_start, backup_window_end,
								   backup_jitter, backup_compression, backup_max_rate, backup_scheduled_at)
	VALUES (attach_source.name, stored.conninfo, stored.slot_name, stored.start_lsn, stored.allow_standby,
			stored.on_gap, 'active', cluster, coalesce(stored.revision, 0) + 1,
			nullif(stored.heartbeat_interval, '0'::interval), nullif(stored.relation_names_interval, '0'::interval),
			stored.backup_conninfo,
			stored.backup_full_interval, stored.backup_incremental_interval, stored.backup_window_start, stored.backup_window_end,
			stored.backup_jitter, stored.backup_compression, stored.backup_max_rate, stored.backup_scheduled_at);
END
$$;
REVOKE ALL ON FUNCTION walarchive.attach_source(text, text, text, bigint, boolean, boolean, text, interval, interval, text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.attach_source(text, text, text, bigint, boolean, boolean, text, interval, interval, text) IS
'go on with an archive that lies in walarchive.directory under this name: one that drop_source kept, one made by another host, or a directory of pg_receivewal that was moved there';

CREATE FUNCTION walarchive.rescan(
	source text,
	OUT segments bigint,
	OUT timelines bigint,
	OUT gaps bigint,
	OUT events bigint)
RETURNS record
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	cluster record;
	list record;
BEGIN
	PERFORM walarchive.source_for_change(rescan.source, 'rescan');
	PERFORM walarchive.lock_source_index(rescan.source);

	DELETE FROM walarchive.segment s WHERE s.source = rescan.source;
	DELETE FROM walarchive.timeline t WHERE t.source = rescan.source;
	DELETE FROM walarchive.gap g WHERE g.source = rescan.source;
	DELETE FROM walarchive.backup b WHERE b.source = rescan.source AND b.state = 'failed';
	DELETE FROM walarchive.removed_wal w WHERE w.source = rescan.source;
	PERFORM walarchive.forget_decoded(rescan.source);
	PERFORM walarchive.forget_relations(rescan.source);
	DELETE FROM walarchive.event e WHERE e.source = rescan.source AND e.journal_offset IS NOT NULL;
	UPDATE walarchive.index_progress p SET journal_offset = 0 WHERE p.source = rescan.source;

	SELECT pg_catalog.max(j.next_offset) AS to_offset,
		   pg_catalog.array_agg(j.line_offset) AS line_offset,
		   pg_catalog.array_agg(j.occurred_at) AS occurred_at,
		   pg_catalog.array_agg(j.kind) AS kind,
		   pg_catalog.array_agg(j.severity) AS severity,
		   pg_catalog.array_agg(j.message) AS message,
		   pg_catalog.array_agg(j.system_identifier) AS system_identifier,
		   pg_catalog.array_agg(j.timeline) AS timeline,
		   pg_catalog.array_agg(j.parent) AS parent,
		   pg_catalog.array_agg(j.from_lsn) AS from_lsn,
		   pg_catalog.array_agg(j.to_lsn) AS to_lsn,
		   pg_catalog.array_agg(j.cause) AS cause,
		   pg_catalog.array_agg(j.label) AS label,
		   pg_catalog.array_agg(j.backup_kind) AS backup_kind
	INTO list
	FROM walarchive.journal_lines(rescan.source, 0) j;
	IF list.to_offset IS NOT NULL THEN
		PERFORM walarchive.register_journal(rescan.source, 0, list.to_offset, list.line_offset,
											list.occurred_at, list.kind, list.severity, list.message,
											list.system_identifier, list.timeline, list.parent,
											list.from_lsn, list.to_lsn, list.cause, list.label,
											list.backup_kind);
	END IF;

	FOR cluster IN
		SELECT c.system_identifier, c.segment_size FROM walarchive.archive_clusters(rescan.source) c
	LOOP
		SELECT pg_catalog.array_agg(f.timeline) FILTER (WHERE f.kind = 'history') AS history,
			   pg_catalog.array_agg(f.parent_timeline) FILTER (WHERE f.kind = 'history') AS parent,
			   pg_catalog.array_agg(f.fork_lsn) FILTER (WHERE f.kind = 'history') AS fork_lsn,
			   pg_catalog.array_agg(f.timeline) FILTER (WHERE f.kind <> 'history') AS timeline,
			   pg_catalog.array_agg(f.name) FILTER (WHERE f.kind <> 'history') AS name,
			   pg_catalog.array_agg(f.start_lsn) FILTER (WHERE f.kind <> 'history') AS start_lsn,
			   pg_catalog.array_agg(f.size) FILTER (WHERE f.kind <> 'history') AS size,
			   pg_catalog.array_agg(f.kind = 'segment') FILTER (WHERE f.kind <> 'history') AS finished,
			   pg_catalog.count(*) FILTER (WHERE f.kind <> 'history') AS files
		INTO list
		FROM walarchive.archive_files(rescan.source, cluster.system_identifier) f;
		PERFORM walarchive.register_timelines(rescan.source, cluster.system_identifier,
											  list.history, list.parent, list.fork_lsn);
		PERFORM walarchive.register_files(rescan.source, cluster.system_identifier, cluster.segment_size,
										  list.timeline, list.name, list.start_lsn, list.size, list.finished);
		PERFORM walarchive.finish_full_pass(rescan.source, cluster.system_identifier, list.files);
		PERFORM walarchive.register_backups(rescan.source, cluster.system_identifier,
											walarchive.archive_backups(rescan.source, cluster.system_identifier));
		PERFORM walarchive.derive_runs(rescan.source, cluster.system_identifier);
		PERFORM walarchive.judge_backups(rescan.source, cluster.system_identifier);
	END LOOP;
	PERFORM walarchive.windows_changed(rescan.source, true);

	PERFORM walarchive.note_full_pass(rescan.source,
									  ARRAY(SELECT c.system_identifier FROM walarchive.archive_clusters(rescan.source) c));

	-- the records are decoded, and names read, again in the background
	PERFORM walarchive.request_index(rescan.source);

	SELECT pg_catalog.count(*) INTO segments FROM walarchive.segment s WHERE s.source = rescan.source;
	SELECT pg_catalog.count(*) INTO timelines FROM walarchive.timeline t WHERE t.source = rescan.source;
	SELECT pg_catalog.count(*) INTO gaps FROM walarchive.gap g WHERE g.source = rescan.source AND g.closed_at IS NULL;
	SELECT pg_catalog.count(*) INTO events FROM walarchive.event e WHERE e.source = rescan.source;
END
$$;
REVOKE ALL ON FUNCTION walarchive.rescan(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.rescan(text) IS
'rebuild what the catalog says of a source from its files and its journal; returns what it found, gaps being the open ones';
