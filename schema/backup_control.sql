-- What an operator does with backups that are there: pin, annotate, delete.
-- These change rows; the indexer does what is to be done to files, after the
-- commit.

-- The row of a backup that a function is about to change, locked.  A label that
-- two clusters of the source have means that of the present one.
CREATE FUNCTION walarchive.backup_for_change(p_source text, p_label text)
RETURNS walarchive.backup
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_backup walarchive.backup;
	parent_source walarchive.source;
BEGIN
	IF p_label IS NULL THEN
		RAISE EXCEPTION 'label of the backup must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF p_source IS NULL THEN
		RAISE EXCEPTION 'name of the source must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	SELECT s.* INTO parent_source FROM walarchive.source s WHERE s.name = p_source FOR KEY SHARE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'source "%" does not exist', p_source
			USING ERRCODE = 'undefined_object',
				HINT = 'The table walarchive.source lists the sources.';
	END IF;
	-- the indexer's order of locks
	PERFORM walarchive.lock_source_index(p_source);
	SELECT b.* INTO found_backup
	FROM walarchive.backup b
	WHERE b.source = p_source AND b.label = p_label
	ORDER BY b.system_identifier IS NOT DISTINCT FROM parent_source.system_identifier DESC, b.started_at DESC
	LIMIT 1
	FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'source "%" has no backup "%"', p_source, p_label
			USING ERRCODE = 'undefined_object',
				HINT = 'The table walarchive.backup lists the backups. One that is being taken can be cancelled.';
	END IF;
	IF found_backup.state = 'deleting' THEN
		RAISE EXCEPTION 'backup "%" of source "%" is being deleted', p_label, p_source
			USING ERRCODE = 'object_not_in_prerequisite_state';
	END IF;
	RETURN found_backup;
END
$$;
REVOKE ALL ON FUNCTION walarchive.backup_for_change(text, text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.backup_for_change(text, text) IS
'private: lock a backup that is to be changed, or say why it cannot be';

CREATE FUNCTION walarchive.check_backup_note(p_what text, p_note text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF pg_catalog.octet_length(p_note) > 1000 THEN
		RAISE EXCEPTION '% is too long', p_what
			USING ERRCODE = 'string_data_right_truncation',
				DETAIL = 'It may have 1000 bytes.';
	END IF;
END
$$;
REVOKE ALL ON FUNCTION walarchive.check_backup_note(text, text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.check_backup_note(text, text) IS
'private: raise an error if a note would not fit into notes.json';

CREATE FUNCTION walarchive.pin_backup(
	source text,
	label text,
	until timestamptz DEFAULT NULL,
	note text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	b walarchive.backup;
BEGIN
	PERFORM walarchive.check_backup_note('note', pin_backup.note);
	IF pin_backup.until <= pg_catalog.clock_timestamp() THEN
		RAISE EXCEPTION 'until must be in the future'
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Without it the backup is pinned until walarchive.unpin_backup.';
	END IF;
	b := walarchive.backup_for_change(pin_backup.source, pin_backup.label);
	IF b.state = 'failed' THEN
		RAISE EXCEPTION 'backup "%" of source "%" failed: nothing is left of it that could be pinned', b.label, b.source
			USING ERRCODE = 'object_not_in_prerequisite_state';
	END IF;
	UPDATE walarchive.backup u
	SET pinned_until = coalesce(pin_backup.until, 'infinity'),
		pin_note = pin_backup.note,
		notes_revision = u.notes_revision + 1
	WHERE u.source = b.source AND u.system_identifier = b.system_identifier AND u.label = b.label;
	PERFORM walarchive.notify_catalog_changed();
END
$$;
REVOKE ALL ON FUNCTION walarchive.pin_backup(text, text, timestamptz, text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.pin_backup(text, text, timestamptz, text) IS
'keep a backup, what it builds on, and the WAL from its start on, until a time; default: until unpin_backup';

CREATE FUNCTION walarchive.unpin_backup(source text, label text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	b walarchive.backup;
BEGIN
	b := walarchive.backup_for_change(unpin_backup.source, unpin_backup.label);
	IF b.pinned_until IS NULL THEN
		RETURN;
	END IF;
	UPDATE walarchive.backup u
	SET pinned_until = NULL,
		pin_note = NULL,
		notes_revision = u.notes_revision + 1
	WHERE u.source = b.source AND u.system_identifier = b.system_identifier AND u.label = b.label;
	PERFORM walarchive.notify_catalog_changed();
END
$$;
REVOKE ALL ON FUNCTION walarchive.unpin_backup(text, text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.unpin_backup(text, text) IS
'a pinned backup may be deleted and expired again';

CREATE FUNCTION walarchive.annotate_backup(source text, label text, annotation text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	b walarchive.backup;
BEGIN
	PERFORM walarchive.check_backup_note('annotation', annotate_backup.annotation);
	b := walarchive.backup_for_change(annotate_backup.source, annotate_backup.label);
	IF b.state = 'failed' THEN
		RAISE EXCEPTION 'backup "%" of source "%" failed: nothing is left of it that could be annotated', b.label, b.source
			USING ERRCODE = 'object_not_in_prerequisite_state';
	END IF;
	UPDATE walarchive.backup u
	SET annotation = nullif(annotate_backup.annotation, ''),
		notes_revision = u.notes_revision + 1
	WHERE u.source = b.source AND u.system_identifier = b.system_identifier AND u.label = b.label;
	PERFORM walarchive.notify_catalog_changed();
END
$$;
REVOKE ALL ON FUNCTION walarchive.annotate_backup(text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.annotate_backup(text, text, text) IS
'note something of a backup; NULL or an empty text removes the note';

-- Why a backup must not go by itself, whatever builds on it; NULL: it may.
CREATE FUNCTION walarchive.backup_kept_by(p_backup walarchive.backup)
RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF p_backup.pinned_until > pg_catalog.clock_timestamp() THEN
		RETURN CASE WHEN p_backup.pinned_until = 'infinity' THEN 'it is pinned'
					ELSE pg_catalog.format('it is pinned until %s', p_backup.pinned_until) END
			|| coalesce(': ' || p_backup.pin_note, '');
	END IF;
	IF walarchive.backup_in_use(p_backup.source, p_backup.system_identifier, p_backup.label) THEN
		RETURN 'a backup that builds on it is being taken';
	END IF;
	RETURN (SELECT pg_catalog.format('it is held by %s', h.purpose)
			FROM walarchive.hold h
			WHERE h.source = p_backup.source AND h.system_identifier = p_backup.system_identifier
				AND (h.label = p_backup.label OR (h.label IS NULL AND h.from_lsn IS NULL))
				AND h.until > pg_catalog.clock_timestamp()
			ORDER BY h.until DESC LIMIT 1);
END
$$;
REVOKE ALL ON FUNCTION walarchive.backup_kept_by(walarchive.backup) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.backup_kept_by(walarchive.backup) IS
'private: why a backup must not be removed; NULL: it may';

-- Have backups removed after the commit; what may go was decided by the caller.
CREATE FUNCTION walarchive.order_backup_removal(
	p_source text,
	p_system_identifier bigint,
	p_labels text[],
	p_reason text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE walarchive.backup b
	SET state = 'deleting', reason = p_reason
	WHERE b.source = p_source AND b.system_identifier = p_system_identifier AND b.label = ANY (p_labels);
	PERFORM walarchive.windows_changed(p_source);
	PERFORM walarchive.notify_catalog_changed();
END
$$;
REVOKE ALL ON FUNCTION walarchive.order_backup_removal(text, bigint, text[], text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.order_backup_removal(text, bigint, text[], text) IS
'private: have the folders of backups removed when this transaction has committed';

CREATE FUNCTION walarchive.delete_backup(source text, label text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	b walarchive.backup;
	why text;
	children text;
BEGIN
	b := walarchive.backup_for_change(delete_backup.source, delete_backup.label);
	SELECT pg_catalog.string_agg(c.label, ', ' ORDER BY c.start_lsn, c.label) INTO children
	FROM walarchive.backup c
	WHERE c.source = b.source AND c.system_identifier = b.system_identifier
		AND c.parent = b.label AND c.state NOT IN ('failed', 'deleting');
	IF children IS NOT NULL THEN
		RAISE EXCEPTION 'backup "%" of source "%" can''t be deleted: incremental backups build on it', b.label, b.source
			USING ERRCODE = 'dependent_objects_still_exist',
				DETAIL = pg_catalog.format('These are %s.', children),
				HINT = 'Delete these first, the last one first.';
	END IF;
	why := walarchive.backup_kept_by(b);
	IF why IS NOT NULL THEN
		RAISE EXCEPTION 'backup "%" of source "%" can''t be deleted: %', b.label, b.source, why
			USING ERRCODE = 'object_in_use',
				HINT = CASE WHEN b.pinned_until > pg_catalog.clock_timestamp()
							THEN 'walarchive.unpin_backup(source, label) allows it.'
							ELSE 'Try again later.' END;
	END IF;
	PERFORM walarchive.order_backup_removal(b.source, b.system_identifier, ARRAY[b.label], 'deleted by ' || session_user);
END
$$;
REVOKE ALL ON FUNCTION walarchive.delete_backup(text, text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.delete_backup(text, text) IS
'remove a backup after the commit; refused while another one builds on it, while it is pinned or in use. WAL stays: see expire()';
