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
