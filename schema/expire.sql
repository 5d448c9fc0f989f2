-- Retention: what is no longer wanted of a source's backups and WAL goes, and
-- never anything else.  expire() decides, in one transaction; the indexer
-- removes files after its commit (src/catalog/expire.c), and asks again before
-- each piece whether all of it is still of no use to anybody.

-- What must not go for now, beside what the backups themselves need.
CREATE TABLE walarchive.hold (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	purpose text NOT NULL,
	label text,
	timeline integer,
	from_lsn pg_lsn,
	until timestamptz NOT NULL DEFAULT 'infinity',
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	CHECK (timeline IS NULL OR from_lsn IS NOT NULL)
);
CREATE INDEX hold_source_idx ON walarchive.hold (source, system_identifier);
REVOKE ALL ON TABLE walarchive.hold FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.hold TO pg_monitor;
REVOKE ALL ON SEQUENCE walarchive.hold_id_seq FROM PUBLIC;
GRANT SELECT ON SEQUENCE walarchive.hold_id_seq TO pg_monitor;

COMMENT ON TABLE walarchive.hold IS 'what must not be removed for now, because somebody works with it';
COMMENT ON COLUMN walarchive.hold.id IS 'number of the hold';
COMMENT ON COLUMN walarchive.hold.source IS 'name of the source';
COMMENT ON COLUMN walarchive.hold.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.hold.purpose IS 'who holds it, and what for';
COMMENT ON COLUMN walarchive.hold.label IS 'backup that is held, with those that it builds on and all WAL from its start on; NULL: WAL alone, or everything';
COMMENT ON COLUMN walarchive.hold.timeline IS 'timeline of from_lsn; NULL: whatever the timeline';
COMMENT ON COLUMN walarchive.hold.from_lsn IS 'WAL from here on is held, that of later timelines included; NULL without a label: all WAL and all backups of the cluster';
COMMENT ON COLUMN walarchive.hold.until IS 'when it ends by itself';
COMMENT ON COLUMN walarchive.hold.created_at IS 'when it was placed';

-- WAL that was removed because nobody wanted it: neither a gap nor damage.  From
-- the lines "expired" of the journal, which come before the first file goes.
CREATE TABLE walarchive.removed_wal (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	timeline integer NOT NULL,
	to_lsn pg_lsn NOT NULL,
	removed_at timestamptz NOT NULL,
	PRIMARY KEY (source, system_identifier, timeline)
);
REVOKE ALL ON TABLE walarchive.removed_wal FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.removed_wal TO pg_monitor;

COMMENT ON TABLE walarchive.removed_wal IS 'up to where the WAL of each timeline was removed by expire(): it is not missed';
COMMENT ON COLUMN walarchive.removed_wal.source IS 'name of the source';
COMMENT ON COLUMN walarchive.removed_wal.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.removed_wal.timeline IS 'the timeline';
COMMENT ON COLUMN walarchive.removed_wal.to_lsn IS 'WAL before this place need not be there any more';
COMMENT ON COLUMN walarchive.removed_wal.removed_at IS 'when that was decided last';

-- What expire() has decided and the indexer has not done yet.
CREATE TABLE walarchive.removal_order (
	source text NOT NULL,
	system_identifier bigint NOT NULL,
	timeline integer NOT NULL,
	to_lsn pg_lsn NOT NULL,
	ordered_at timestamptz NOT NULL,
	journaled_lsn pg_lsn,
	PRIMARY KEY (source, system_identifier, timeline)
);
REVOKE ALL ON TABLE walarchive.removal_order FROM PUBLIC;
GRANT SELECT ON TABLE walarchive.removal_order TO pg_monitor;

COMMENT ON TABLE walarchive.removal_order IS 'WAL whose removal was decided by expire() and is not done yet';
COMMENT ON COLUMN walarchive.removal_order.source IS 'name of the source';
COMMENT ON COLUMN walarchive.removal_order.system_identifier IS 'system identifier of the cluster';
COMMENT ON COLUMN walarchive.removal_order.timeline IS 'the timeline';
COMMENT ON COLUMN walarchive.removal_order.to_lsn IS 'its files that end here or before go, oldest first';
COMMENT ON COLUMN walarchive.removal_order.ordered_at IS 'when it was decided';
COMMENT ON COLUMN walarchive.removal_order.journaled_lsn IS 'how far the journal says so already; NULL: not at all';

-- ---- what is known beside the catalog ----

CREATE FUNCTION walarchive.backup_folders(source text, system_identifier bigint)
RETURNS text[]
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'wa_backup_folders';
REVOKE ALL ON FUNCTION walarchive.backup_folders(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.backup_folders(text, bigint) IS
'private: labels of the whole backups of a cluster that are on disk';

CREATE FUNCTION walarchive.backup_under_way(
	source text,
	OUT label text,
	OUT system_identifier bigint,
	OUT timeline integer,
	OUT start_lsn pg_lsn,
	OUT parent text)
RETURNS SETOF record
LANGUAGE c VOLATILE STRICT ROWS 1
AS 'MODULE_PATHNAME', 'wa_backup_under_way';
REVOKE ALL ON FUNCTION walarchive.backup_under_way(text) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.backup_under_way(text) IS
'private: the backup of a source that is being taken; NULL is what is not known yet';

-- ---- holds ----

-- Returns the hold's number.  What is on its way out cannot be held.
CREATE FUNCTION walarchive.place_hold(
	p_source text,
	p_system_identifier bigint,
	p_purpose text,
	p_label text DEFAULT NULL,
	p_timeline integer DEFAULT NULL,
	p_from_lsn pg_lsn DEFAULT NULL,
	p_until timestamptz DEFAULT 'infinity')
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	b walarchive.backup;
	hold_id bigint;
	gone pg_lsn;
BEGIN
	IF NOT walarchive.lock_source_index(p_source) THEN
		RAISE EXCEPTION 'source "%" does not exist', p_source
			USING ERRCODE = 'undefined_object',
				HINT = 'The table walarchive.source lists the sources.';
	END IF;
	IF p_label IS NOT NULL THEN
		SELECT k.* INTO b FROM walarchive.backup k
		WHERE k.source = p_source AND k.system_identifier = p_system_identifier AND k.label = p_label
			AND k.state NOT IN ('failed', 'deleting');
		IF NOT FOUND THEN
			RAISE EXCEPTION 'source "%" has no backup "%"', p_source, p_label
				USING ERRCODE = 'undefined_object';
		END IF;
	END IF;
	SELECT pg_catalog.max(o.to_lsn) INTO gone
	FROM walarchive.removal_order o
	WHERE o.source = p_source AND o.system_identifier = p_system_identifier
		AND (o.timeline = p_timeline OR p_timeline IS NULL) AND o.to_lsn > p_from_lsn;
	IF gone IS NOT NULL THEN
		RAISE EXCEPTION 'WAL of source "%" before % is being removed', p_source, gone
			USING ERRCODE = 'object_not_in_prerequisite_state';
	END IF;
	INSERT INTO walarchive.hold (source, system_identifier, purpose, label, timeline, from_lsn, until)
	VALUES (p_source, p_system_identifier, p_purpose, p_label, p_timeline, p_from_lsn, p_until)
	RETURNING id INTO hold_id;
	-- those that ended long ago
	DELETE FROM walarchive.hold h
	WHERE h.source = p_source AND h.until < pg_catalog.now() - '1 day'::interval;
	RETURN hold_id;
END
$$;
REVOKE ALL ON FUNCTION walarchive.place_hold(text, bigint, text, text, integer, pg_lsn, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.place_hold(text, bigint, text, text, integer, pg_lsn, timestamptz) IS
'private: keep a backup, or WAL from a place on, from being removed until the hold is released or ends';

CREATE FUNCTION walarchive.release_hold(p_id bigint)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM walarchive.hold h WHERE h.id = p_id;
	RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION walarchive.release_hold(bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.release_hold(bigint) IS
'private: end a hold; false if there is none of this number';

-- ---- which WAL is needed ----

-- The way to a cluster's newest timeline: each timeline, which one it is on that
-- way (1 is the newest), and where it was left (NULL: the newest).  "complete" is
-- false where it is not known how it began.
CREATE FUNCTION walarchive.newest_path(
	p_source text,
	p_system_identifier bigint,
	OUT timelines integer[],
	OUT ends pg_lsn[],
	OUT complete boolean)
RETURNS record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t walarchive.timeline;
	current integer;
	end_lsn pg_lsn;
BEGIN
	timelines := '{}';
	ends := '{}';
	complete := false;
	SELECT pg_catalog.max(l.timeline) INTO current
	FROM walarchive.timeline l
	WHERE l.source = p_source AND l.system_identifier = p_system_identifier;
	WHILE current IS NOT NULL AND pg_catalog.cardinality(timelines) < 1024 LOOP
		timelines := timelines || current;
		ends := ends || end_lsn;
		SELECT l.* INTO t
		FROM walarchive.timeline l
		WHERE l.source = p_source AND l.system_identifier = p_system_identifier AND l.timeline = current;
		IF t.parent_timeline IS NULL OR t.fork_lsn IS NULL OR t.parent_timeline >= current THEN
			complete := (current = 1);
			EXIT;
		END IF;
		-- a fork behind the place where the child was left says that one of them is wrong
		EXIT WHEN t.fork_lsn > end_lsn;
		end_lsn := t.fork_lsn;
		current := t.parent_timeline;
	END LOOP;
END
$$;
REVOKE ALL ON FUNCTION walarchive.newest_path(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.newest_path(text, bigint) IS
'private: the timelines that lead to a cluster''s newest one, that one first, and where each was left';

-- From where on the WAL of each timeline is needed by recoveries that begin at
-- the given places, and why.  A recovery goes up from its place, on its own
-- timeline and on all that left it, or one of those, behind that place.  So
--
--	* a timeline that such a recovery enters is needed as a whole;
--	* one on which some begin from the first of these places on;
--	* of one that none comes through, what lies before the first of all places
--	  is of no use to anybody; the rest is left alone;
--	* one of which is not known where it comes from may be entered by any.
--
-- A place without a timeline may be on any, a timeline without a place (or no
-- places at all) needs everything.
CREATE FUNCTION walarchive.wal_needed(
	p_source text,
	p_system_identifier bigint,
	p_timelines integer[],
	p_places pg_lsn[],
	p_names text[],
	OUT timeline integer,
	OUT from_lsn pg_lsn,
	OUT reason text)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	horizon pg_lsn;
	horizon_name text;
	a record;
	l walarchive.timeline;
	current integer;
	known boolean;
BEGIN
	SELECT u.place, u.name INTO horizon, horizon_name
	FROM ROWS FROM (pg_catalog.unnest(p_places), pg_catalog.unnest(p_names)) AS u (place, name)
	ORDER BY u.place NULLS FIRST, u.name LIMIT 1;
	FOR timeline IN
		SELECT t.timeline FROM walarchive.timeline t
		WHERE t.source = p_source AND t.system_identifier = p_system_identifier
		ORDER BY t.timeline
	LOOP
		IF horizon IS NULL THEN
			from_lsn := '0/0';
			reason := coalesce('it is not known which WAL is needed by ' || horizon_name, 'there is no backup');
			RETURN NEXT;
			CONTINUE;
		END IF;
		from_lsn := horizon;
		reason := pg_catalog.format('no recovery that is kept comes through it; the first of all is that of %s, from %s on',
									horizon_name, horizon);
		SELECT u.place, u.name INTO a
		FROM ROWS FROM (pg_catalog.unnest(p_timelines), pg_catalog.unnest(p_places), pg_catalog.unnest(p_names)) AS u (tli, place, name)
		WHERE u.tli = wal_needed.timeline OR u.tli IS NULL
		ORDER BY u.place, u.name LIMIT 1;
		IF FOUND THEN
			from_lsn := a.place;
			reason := pg_catalog.format('needed from %s on by %s', a.place, a.name);
		END IF;
		current := timeline;
		known := false;
		LOOP
			SELECT t.* INTO l
			FROM walarchive.timeline t
			WHERE t.source = p_source AND t.system_identifier = p_system_identifier AND t.timeline = current;
			IF l.parent_timeline IS NULL OR l.fork_lsn IS NULL OR l.parent_timeline >= current THEN
				known := (current = 1);
				EXIT;
			END IF;
			SELECT u.place, u.name INTO a
			FROM ROWS FROM (pg_catalog.unnest(p_timelines), pg_catalog.unnest(p_places), pg_catalog.unnest(p_names)) AS u (tli, place, name)
			WHERE (u.tli = l.parent_timeline OR u.tli IS NULL) AND u.place <= l.fork_lsn
			ORDER BY u.place, u.name LIMIT 1;
			IF FOUND THEN
				from_lsn := '0/0';
				reason := pg_catalog.format('a recovery of %s can go on into it from timeline %s', a.name, l.parent_timeline);
				known := true;
				EXIT;
			END IF;
			current := l.parent_timeline;
		END LOOP;
		IF NOT known AND from_lsn > horizon THEN
			from_lsn := horizon;
			reason := pg_catalog.format('it is not known where timeline %s comes from, so WAL from %s on may be needed by %s',
										current, horizon, horizon_name);
		END IF;
		RETURN NEXT;
	END LOOP;
END
$$;
REVOKE ALL ON FUNCTION walarchive.wal_needed(text, bigint, integer[], pg_lsn[], text[]) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.wal_needed(text, bigint, integer[], pg_lsn[], text[]) IS
'private: from where on the WAL of each timeline is needed by recoveries that begin at some places';

-- The places where recoveries begin that have to stay possible: of all backups
-- but those in p_without, of a backup that is being taken, and of holds.
CREATE FUNCTION walarchive.kept_places(
	p_source text,
	p_system_identifier bigint,
	p_without text[],
	OUT timelines integer[],
	OUT places pg_lsn[],
	OUT names text[])
RETURNS record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(pg_catalog.array_agg(p.timeline ORDER BY p.place, p.name), '{}'),
		   coalesce(pg_catalog.array_agg(p.place ORDER BY p.place, p.name), '{}'),
		   coalesce(pg_catalog.array_agg(p.name ORDER BY p.place, p.name), '{}')
	FROM (SELECT b.timeline, CASE WHEN b.timeline IS NOT NULL THEN b.start_lsn END AS place,
				 pg_catalog.format('backup "%s"', b.label) AS name
		  FROM walarchive.backup b
		  WHERE b.source = p_source AND b.system_identifier = p_system_identifier
			AND b.state <> 'failed' AND b.label <> ALL (p_without)
		  UNION ALL
		  -- whole on disk, and not in the catalog (yet): who knows what it needs
		  SELECT NULL, NULL, pg_catalog.format('backup "%s", which the catalog does not know', f.label)
		  FROM pg_catalog.unnest(walarchive.backup_folders(p_source, p_system_identifier)) AS f (label)
		  WHERE NOT EXISTS (SELECT 1 FROM walarchive.backup b
							WHERE b.source = p_source AND b.system_identifier = p_system_identifier
								AND b.label = f.label AND b.state <> 'failed')
		  UNION ALL
		  SELECT u.timeline, CASE WHEN u.timeline IS NOT NULL THEN u.start_lsn END,
				 pg_catalog.format('backup "%s", which is being taken', u.label)
		  FROM walarchive.backup_under_way(p_source) u
		  WHERE coalesce(u.system_identifier, p_system_identifier) = p_system_identifier
		  UNION ALL
		  SELECT h.timeline, h.from_lsn, pg_catalog.format('a hold (%s)', h.purpose)
		  FROM walarchive.hold h
		  WHERE h.source = p_source AND h.system_identifier = p_system_identifier
			AND h.until > pg_catalog.now() AND (h.label IS NULL OR h.from_lsn IS NOT NULL)) p
$$;
REVOKE ALL ON FUNCTION walarchive.kept_places(text, bigint, text[]) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.kept_places(text, bigint, text[]) IS
'private: where recoveries begin that have to stay possible';

-- From where on WAL stays, by timeline, without the backups in p_without.  The
-- last file of the newest timeline always does: what is received next is
-- compared with it.  Of a cluster that is not the present one everything stays as
-- long as it has a backup; without any, nothing is needed.
CREATE FUNCTION walarchive.wal_kept(
	p_source text,
	p_system_identifier bigint,
	p_without text[],
	OUT timeline integer,
	OUT from_lsn pg_lsn,
	OUT reason text)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	k record;
	present boolean;
	newest integer;
	last_start pg_lsn;
BEGIN
	SELECT c.system_identifier IS NULL OR c.system_identifier = p_system_identifier INTO present
	FROM walarchive.source c WHERE c.name = p_source;
	k := walarchive.kept_places(p_source, p_system_identifier, p_without);
	SELECT g.timeline, g.start_lsn INTO newest, last_start
	FROM walarchive.segment g
	WHERE g.source = p_source AND g.system_identifier = p_system_identifier
	ORDER BY g.source DESC, g.system_identifier DESC, g.timeline DESC, g.start_lsn DESC LIMIT 1;
	FOR timeline, from_lsn, reason IN
		SELECT n.timeline, n.from_lsn, n.reason
		FROM walarchive.wal_needed(p_source, p_system_identifier, k.timelines, k.places, k.names) n
	LOOP
		IF present IS NOT false THEN
			IF timeline = newest AND last_start < from_lsn THEN
				from_lsn := last_start;
				reason := 'the newest WAL';
			END IF;
		ELSIF pg_catalog.cardinality(k.names) > 0 THEN
			from_lsn := '0/0';
			reason := pg_catalog.format('the cluster has %s', k.names[1]);
		ELSE
			from_lsn := 'FFFFFFFF/FFFFFFFF';
			reason := 'no backup of this cluster is left';
		END IF;
		RETURN NEXT;
	END LOOP;
END
$$;
REVOKE ALL ON FUNCTION walarchive.wal_kept(text, bigint, text[]) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.wal_kept(text, bigint, text[]) IS
'private: from where on the WAL of each timeline has to stay, and why';

-- Finished segments may go, and partial ones that nobody can be writing to: those
-- of timelines that were left, and what a gap has left.
CREATE FUNCTION walarchive.open_timeline(p_source text, p_system_identifier bigint)
RETURNS integer
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN (SELECT c.system_identifier FROM walarchive.source c WHERE c.name = p_source) <> p_system_identifier
				THEN least(2147483647, r.live) ELSE least(r.newest, r.live) END
	FROM (SELECT (SELECT pg_catalog.max(t.timeline) FROM walarchive.timeline t
				  WHERE t.source = p_source AND t.system_identifier = p_system_identifier AND t.first_lsn IS NOT NULL) AS newest,
				 (SELECT pg_catalog.min(r.received_tli) FROM walarchive.receiver_state() r
				  WHERE r.source = p_source AND r.system_identifier = p_system_identifier AND r.received_tli > 0) AS live) r
$$;
REVOKE ALL ON FUNCTION walarchive.open_timeline(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.open_timeline(text, bigint) IS
'private: from this timeline on partial segments may still be written to';

CREATE FUNCTION walarchive.partial_was_left(
	p_source text,
	p_system_identifier bigint,
	p_timeline integer,
	p_end_lsn pg_lsn,
	p_open_timeline integer)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
	-- of two neighbours the receiver may go on with the lower one
	SELECT p_timeline < p_open_timeline
		OR EXISTS (SELECT 1 FROM walarchive.segment n
				   WHERE n.source = p_source AND n.system_identifier = p_system_identifier
					AND n.timeline = p_timeline AND n.start_lsn > p_end_lsn AND n.state = 'finished')
$$;
REVOKE ALL ON FUNCTION walarchive.partial_was_left(text, bigint, integer, pg_lsn, integer) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.partial_was_left(text, bigint, integer, pg_lsn, integer) IS
'private: whether a partial segment will not be written to any more';

-- ---- what goes, and what stays ----

-- A row for each backup of a cluster.  Chains go as a whole: a full backup and
-- all that builds on it, or an incremental one whose parent is not there.
--
-- What counts are usable full backups on the way to the newest timeline, by
-- their place on it: a clock may be wrong.  What lies behind the last of the
-- p_keep newest ones goes, wherever it stands; what can't be compared stays.
CREATE FUNCTION walarchive.backups_to_keep(
	p_source text,
	p_system_identifier bigint,
	p_keep integer,
	p_usable_elsewhere integer,
	OUT label text,
	OUT goes boolean,
	OUT reason text,
	OUT usable_fulls integer)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
-- a planner that expects few rows compares a thousand backups with each other again and again
SET enable_nestloop = off
SET jit = off
AS $$
DECLARE
	p record;
	present boolean;
	cut record;
BEGIN
	SELECT c.system_identifier IS NULL OR c.system_identifier = p_system_identifier INTO present
	FROM walarchive.source c WHERE c.name = p_source;
	p := walarchive.newest_path(p_source, p_system_identifier);

	RETURN QUERY
	WITH RECURSIVE path AS (
		SELECT u.timeline, u.end_lsn, -u.n AS place
		FROM ROWS FROM (pg_catalog.unnest(p.timelines), pg_catalog.unnest(p.ends)) WITH ORDINALITY AS u (timeline, end_lsn, n)
	), b AS MATERIALIZED (
		SELECT k.label, k.kind, k.parent, k.state, k.damage, k.timeline, k.start_lsn,
			   CASE WHEN a.timeline IS NOT NULL AND z.timeline IS NOT NULL THEN a.place END AS place,
			   CASE WHEN k.state = 'waiting' THEN 'its WAL is not archived and checked up to its end yet'
					ELSE walarchive.backup_kept_by(k) END AS protection
		FROM walarchive.backup k
			LEFT JOIN path a ON a.timeline = k.timeline AND (a.end_lsn IS NULL OR k.start_lsn <= a.end_lsn)
			LEFT JOIN path z ON z.timeline = coalesce(k.stop_timeline, k.timeline)
				AND (z.end_lsn IS NULL OR coalesce(k.stop_lsn, k.start_lsn) <= z.end_lsn)
		WHERE k.source = p_source AND k.system_identifier = p_system_identifier
			AND k.state NOT IN ('failed', 'deleting')
	), chain AS MATERIALIZED (
		SELECT c.label, c.label AS root
		FROM b c
		WHERE c.kind = 'full' OR NOT EXISTS (SELECT 1 FROM b o WHERE o.label = c.parent)
		UNION
		SELECT c.label, h.root
		FROM chain h
			JOIN b c ON c.parent = h.label AND c.kind <> 'full'
	), ranked AS MATERIALIZED (
		SELECT c.label, c.place, c.start_lsn,
			   pg_catalog.row_number() OVER (ORDER BY c.place DESC, c.start_lsn DESC, c.label DESC) AS rank
		FROM b c
		WHERE c.kind = 'full' AND c.state = 'usable' AND c.damage IS NULL
			AND c.place IS NOT NULL AND c.start_lsn IS NOT NULL
	), last_kept AS (
		SELECT r.place, r.start_lsn FROM ranked r WHERE r.rank = p_keep
	), protected AS MATERIALIZED (
		SELECT DISTINCT ON (h.root) h.root, m.label AS protected_label, m.protection
		FROM chain h
			JOIN b m ON m.label = h.label
		WHERE m.protection IS NOT NULL
		ORDER BY h.root, m.label = h.root DESC, m.label
	), root AS MATERIALIZED (
		SELECT c.label,
			   x.protected_label,
			   x.protection,
			   CASE
				   WHEN NOT present AND p_usable_elsewhere < p_keep THEN
					   pg_catalog.format('the present cluster has only %s usable full backup(s)', p_usable_elsewhere)
				   WHEN NOT present THEN NULL
				   WHEN c.start_lsn IS NULL OR c.timeline IS NULL THEN 'it is not known where it starts'
				   WHEN r.rank <= p_keep THEN
					   CASE WHEN p_keep = 1 THEN 'the newest usable full backup'
							ELSE pg_catalog.format('one of the %s newest usable full backups', p_keep) END
				   WHEN l.start_lsn IS NULL THEN
					   CASE (SELECT pg_catalog.count(*) FROM ranked)
						   WHEN 0 THEN 'there is no usable full backup'
						   WHEN 1 THEN 'there is only 1 usable full backup'
						   ELSE pg_catalog.format('there are only %s usable full backups', (SELECT pg_catalog.count(*) FROM ranked))
					   END
				   WHEN c.place IS NULL AND NOT p.complete AND c.timeline <> ALL (p.timelines) THEN
					   pg_catalog.format('it is not known whether timeline %s leads to timeline %s', c.timeline, p.timelines[1])
				   WHEN c.place IS NULL AND c.start_lsn >= l.start_lsn THEN
					   'not older than the oldest full backup that is kept'
				   WHEN (c.place, c.start_lsn) >= (l.place, l.start_lsn) THEN
					   'not older than the oldest full backup that is kept'
			   END AS stays
		FROM b c
			LEFT JOIN ranked r ON r.label = c.label
			LEFT JOIN last_kept l ON true
			LEFT JOIN protected x ON x.root = c.label
		WHERE c.label IN (SELECT h.root FROM chain h)
	)
	SELECT c.label,
		   o.label IS NOT NULL AND o.stays IS NULL AND o.protection IS NULL,
		   CASE
			   WHEN o.label IS NULL THEN 'its parents form a circle'
			   WHEN c.protection IS NOT NULL THEN c.protection
			   WHEN o.protection IS NOT NULL AND o.stays IS NULL THEN
				   pg_catalog.format('in one chain with "%s": %s', o.protected_label, o.protection)
			   WHEN o.stays IS NOT NULL AND c.label = o.label THEN o.stays
			   WHEN o.stays IS NOT NULL THEN pg_catalog.format('in one chain with "%s": %s', o.label, o.stays)
			   WHEN c.label <> o.label THEN pg_catalog.format('goes with "%s"', o.label)
			   WHEN NOT present THEN 'of a former cluster'
			   WHEN p_keep = 1 THEN 'older than the newest usable full backup'
			   ELSE pg_catalog.format('older than the %s newest usable full backups', p_keep)
		   END,
		   (SELECT pg_catalog.count(*)::integer FROM ranked)
	FROM b c
		LEFT JOIN chain h ON h.label = c.label
		LEFT JOIN root o ON o.label = h.root;
END
$$;
REVOKE ALL ON FUNCTION walarchive.backups_to_keep(text, bigint, integer, integer) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.backups_to_keep(text, bigint, integer, integer) IS
'private: which backups of a cluster go when so many usable full ones are to stay, and why';

-- All of it: what expire() shows, and does.
CREATE FUNCTION walarchive.retention(
	p_source text,
	p_keep integer,
	p_other_clusters boolean,
	OUT kind text,
	OUT action text,
	OUT label text,
	OUT timeline integer,
	OUT first_file text,
	OUT last_file text,
	OUT from_lsn pg_lsn,
	OUT to_lsn pg_lsn,
	OUT files bigint,
	OUT bytes bigint,
	OUT reason text,
	OUT system_identifier bigint)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	present bigint;
	usable integer;
	gone text[];
	n record;
	s record;
	partial_from integer;
BEGIN
	SELECT c.system_identifier INTO present FROM walarchive.source c WHERE c.name = p_source;
	-- what becomes of former clusters depends on the present one
	SELECT pg_catalog.max(k.usable_fulls) INTO usable
	FROM walarchive.backups_to_keep(p_source, present, p_keep, 0) k;
	usable := coalesce(usable, 0);

	FOR system_identifier IN
		SELECT c.system_identifier
		FROM (SELECT t.system_identifier FROM walarchive.timeline t WHERE t.source = p_source
			  UNION
			  SELECT b.system_identifier FROM walarchive.backup b WHERE b.source = p_source AND b.state <> 'failed') c
		ORDER BY c.system_identifier IS DISTINCT FROM present, c.system_identifier
	LOOP
		gone := '{}';
		FOR n IN
			SELECT b.label, b.timeline, b.start_lsn, b.stop_lsn, b.size, b.state, k.goes, k.reason
			FROM walarchive.backup b
				LEFT JOIN walarchive.backups_to_keep(p_source, retention.system_identifier, p_keep, usable) k ON k.label = b.label
			WHERE b.source = p_source AND b.system_identifier = retention.system_identifier AND b.state <> 'failed'
			ORDER BY b.timeline, b.start_lsn, b.label
		LOOP
			kind := 'backup';
			label := n.label;
			timeline := n.timeline;
			first_file := NULL;
			last_file := NULL;
			from_lsn := n.start_lsn;
			to_lsn := n.stop_lsn;
			files := NULL;
			bytes := n.size;
			IF n.state = 'deleting' THEN
				action := 'remove';
				reason := 'on its way out already';
			ELSIF system_identifier IS DISTINCT FROM present AND NOT p_other_clusters THEN
				action := 'keep';
				reason := 'of a former cluster: these are looked at with other_clusters => true';
			ELSE
				action := CASE WHEN n.goes THEN 'remove' ELSE 'keep' END;
				reason := n.reason;
			END IF;
			IF action = 'remove' THEN
				gone := gone || n.label;
			END IF;
			RETURN NEXT;
		END LOOP;

		kind := 'wal';
		label := NULL;
		partial_from := walarchive.open_timeline(p_source, system_identifier);
		FOR n IN
			SELECT w.timeline, w.from_lsn, w.reason
			FROM walarchive.wal_kept(p_source, system_identifier, gone) w
			ORDER BY w.timeline
		LOOP
			IF system_identifier IS DISTINCT FROM present AND NOT p_other_clusters THEN
				n.from_lsn := '0/0';
				n.reason := 'of a former cluster: these are looked at with other_clusters => true';
			ELSIF usable = 0 THEN
				n.from_lsn := '0/0';
				n.reason := 'there is no usable full backup';
			ELSIF system_identifier IS DISTINCT FROM present AND usable < p_keep THEN
				n.from_lsn := '0/0';
				n.reason := pg_catalog.format('the present cluster has only %s usable full backup(s)', usable);
			END IF;
			timeline := n.timeline;
			FOR s IN
				SELECT g.end_lsn <= n.from_lsn
						   AND (g.state = 'finished' OR walarchive.partial_was_left(g.source, g.system_identifier, g.timeline, g.end_lsn, partial_from)) AS goes,
					   pg_catalog.min(g.name) AS first_file, pg_catalog.max(g.name) AS last_file,
					   pg_catalog.min(g.start_lsn) AS from_lsn, pg_catalog.max(g.end_lsn) AS to_lsn,
					   pg_catalog.count(*) AS files, pg_catalog.sum(g.size)::bigint AS bytes
				FROM walarchive.segment g
				WHERE g.source = p_source AND g.system_identifier = retention.system_identifier AND g.timeline = n.timeline
				GROUP BY 1
				ORDER BY 1 DESC
			LOOP
				action := CASE WHEN s.goes THEN 'remove' ELSE 'keep' END;
				first_file := s.first_file;
				last_file := s.last_file;
				from_lsn := s.from_lsn;
				to_lsn := s.to_lsn;
				files := s.files;
				bytes := s.bytes;
				reason := CASE WHEN n.from_lsn = 'FFFFFFFF/FFFFFFFF' OR NOT s.goes THEN n.reason
							   ELSE 'of no use to what is kept: ' || n.reason END;
				RETURN NEXT;
			END LOOP;
		END LOOP;
	END LOOP;
END
$$;
REVOKE ALL ON FUNCTION walarchive.retention(text, integer, boolean) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.retention(text, integer, boolean) IS
'private: what of a source goes and what stays when so many usable full backups are to stay, and why';

CREATE FUNCTION walarchive.order_removal(p_source text, p_system_identifier bigint, p_timeline integer, p_to pg_lsn)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO walarchive.removal_order AS o (source, system_identifier, timeline, to_lsn, ordered_at)
	VALUES (p_source, p_system_identifier, p_timeline, p_to, pg_catalog.clock_timestamp())
	ON CONFLICT (source, system_identifier, timeline) DO UPDATE
		SET to_lsn = greatest(o.to_lsn, excluded.to_lsn),
			ordered_at = excluded.ordered_at
$$;
REVOKE ALL ON FUNCTION walarchive.order_removal(text, bigint, integer, pg_lsn) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.order_removal(text, bigint, integer, pg_lsn) IS
'private: have WAL of a timeline removed up to a place';

CREATE FUNCTION walarchive.expire(
	source text,
	keep_backups integer,
	dry_run boolean DEFAULT true,
	other_clusters boolean DEFAULT false,
	OUT kind text,
	OUT action text,
	OUT label text,
	OUT timeline integer,
	OUT first_file text,
	OUT last_file text,
	OUT from_lsn pg_lsn,
	OUT to_lsn pg_lsn,
	OUT files bigint,
	OUT bytes bigint,
	OUT reason text,
	OUT system_identifier bigint)
RETURNS SETOF record
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	r record;
	orders boolean := false;
BEGIN
	IF expire.keep_backups IS NULL OR expire.dry_run IS NULL OR expire.other_clusters IS NULL THEN
		RAISE EXCEPTION 'keep_backups, dry_run and other_clusters must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF expire.keep_backups < 1 THEN
		RAISE EXCEPTION 'keep_backups must be at least 1'
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'walarchive.drop_source removes everything of a source, walarchive.delete_backup a single backup.';
	END IF;
	IF expire.dry_run THEN
		IF NOT EXISTS (SELECT 1 FROM walarchive.source s WHERE s.name = expire.source) THEN
			RAISE EXCEPTION 'source "%" does not exist', expire.source
				USING ERRCODE = 'undefined_object',
					HINT = 'The table walarchive.source lists the sources.';
		END IF;
	ELSE
		PERFORM walarchive.source_for_change(expire.source, 'expire');
		-- from here on nothing is registered, held or removed by anybody else
		PERFORM walarchive.lock_source_index(expire.source);
	END IF;

	FOR r IN SELECT t.* FROM walarchive.retention(expire.source, expire.keep_backups, expire.other_clusters) t LOOP
		kind := r.kind;
		action := r.action;
		label := r.label;
		timeline := r.timeline;
		first_file := r.first_file;
		last_file := r.last_file;
		from_lsn := r.from_lsn;
		to_lsn := r.to_lsn;
		files := r.files;
		bytes := r.bytes;
		reason := r.reason;
		system_identifier := r.system_identifier;
		IF r.action = 'remove' AND NOT expire.dry_run THEN
			orders := true;
			IF r.kind = 'backup' THEN
				IF r.reason <> 'on its way out already' THEN
					PERFORM walarchive.order_backup_removal(expire.source, r.system_identifier, ARRAY[r.label],
															'expired: ' || r.reason);
				END IF;
			ELSE
				PERFORM walarchive.order_removal(expire.source, r.system_identifier, r.timeline, r.to_lsn);
			END IF;
		END IF;
		RETURN NEXT;
	END LOOP;
	IF orders THEN
		PERFORM walarchive.notify_catalog_changed();
	END IF;
END
$$;
REVOKE ALL ON FUNCTION walarchive.expire(text, integer, boolean, boolean) FROM PUBLIC;
COMMENT ON FUNCTION walarchive.expire(text, integer, boolean, boolean) IS
'remove backups beyond the newest ones, and WAL that no backup needs any more; with dry_run, the default, only say what would go, what would stay, and why';
