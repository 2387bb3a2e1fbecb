-- Who did what: entries from decisions in force and from the directory's changes, written once and for
-- good. Generations lie in schemas beside this one, as those of `runs` do.
CREATE SCHEMA audit;
GRANT USAGE ON SCHEMA audit TO runledger_audit_writer, runledger_audit_reader;

-- Where the projector stands, and what it could not apply: as everywhere.
CREATE TABLE audit.cursors           (LIKE approvals.cursors INCLUDING ALL) WITH (fillfactor = 50);
CREATE TABLE audit.checkpoints       (LIKE approvals.checkpoints INCLUDING ALL);
CREATE TABLE audit.active_generation (LIKE approvals.active_generation INCLUDING ALL);
CREATE TABLE audit.generations       (LIKE approvals.generations INCLUDING ALL);
CREATE TABLE audit.parked            (LIKE approvals.parked INCLUDING ALL);
CREATE TABLE audit.skipped           (LIKE approvals.skipped INCLUDING ALL);
ALTER TABLE audit.active_generation ALTER COLUMN search_path SET DEFAULT 'audit';
INSERT INTO audit.active_generation (generation) VALUES (1);
INSERT INTO audit.generations (generation, schema_name, is_whole, made_at) VALUES (1, 'audit', true, now());
COMMENT ON TABLE audit.cursors IS 'How far the projector has come in each partition of the log';
COMMENT ON TABLE audit.checkpoints IS 'Continuity: count, rolling hash and chain head of each partition at fixed places';
COMMENT ON TABLE audit.generations IS 'Generations of the tables; active_generation says which one is served';
COMMENT ON TABLE audit.parked IS 'Records that could not be applied, and those behind them in their streams';
COMMENT ON TABLE audit.skipped IS 'Records that are left out for ever, because a fact in their stream says so';

-- Identity of the directory's facts, which may come twice. A decision is known by the chain.
CREATE TABLE audit.identities (LIKE approvals.identities INCLUDING ALL);
COMMENT ON TABLE audit.identities IS 'Which facts of the directory were read: the first of an id in its stream counts';

-- The nil tenant has what is about no tenant.
CREATE TABLE audit.entries (
    tenant_id     uuid        NOT NULL,
    mode          text        NOT NULL CONSTRAINT entries_mode_known CHECK (mode IN ('live', 'sandbox')),
    -- Where its record lies, and its place in what the record says.
    family        text        COLLATE "C" NOT NULL,
    partition     integer     NOT NULL,
    log_offset    bigint      NOT NULL,
    ordinal       integer     NOT NULL,
    at            timestamptz NOT NULL,
    recorded_at   timestamptz NOT NULL,
    actor_type    text        COLLATE "C" NOT NULL CONSTRAINT entries_actor_type_known CHECK (actor_type IN ('agent', 'system', 'user')),
    -- Of a principal it ends in the id, which its name takes the place of when it is read.
    actor         text        NOT NULL,
    principal_id  uuid,
    role          text,
    entity_type   text        COLLATE "C" NOT NULL,
    entity_id     text        COLLATE "C" NOT NULL,
    action        text        COLLATE "C" NOT NULL,
    run_id        text        COLLATE "C",
    details       text        NOT NULL,
    stream        text        COLLATE "C" NOT NULL,
    record_id     uuid        NOT NULL,
    CONSTRAINT entries_pkey PRIMARY KEY (tenant_id, mode, family, partition, log_offset, ordinal)
);
COMMENT ON TABLE audit.entries IS 'Who did what; only ever added to';
CREATE INDEX entries_by_time ON audit.entries
    (tenant_id, mode, at DESC, family DESC, partition DESC, log_offset DESC, ordinal DESC);
CREATE INDEX entries_by_run ON audit.entries
    (tenant_id, mode, run_id, at DESC, family DESC, partition DESC, log_offset DESC, ordinal DESC) WHERE run_id IS NOT NULL;
CREATE INDEX entries_by_entity_type ON audit.entries
    (tenant_id, mode, entity_type, at DESC, family DESC, partition DESC, log_offset DESC, ordinal DESC);
CREATE INDEX entries_by_action ON audit.entries
    (tenant_id, mode, action, at DESC, family DESC, partition DESC, log_offset DESC, ordinal DESC);
CREATE INDEX entries_by_actor_type ON audit.entries
    (tenant_id, mode, actor_type, at DESC, family DESC, partition DESC, log_offset DESC, ordinal DESC);

-- Joined when entries are read: what names a principal may be read behind what it did.
CREATE TABLE audit.principals (
    tenant_id     uuid NOT NULL,
    principal_id  uuid NOT NULL,
    name          text NOT NULL,
    CONSTRAINT principals_pkey PRIMARY KEY (tenant_id, principal_id)
);
COMMENT ON TABLE audit.principals IS 'Names of principals, as the directory said them; of both modes';

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['identities', 'entries', 'principals', 'parked'] LOOP
        EXECUTE format('ALTER TABLE audit.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE audit.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY %I ON audit.%I TO runledger_audit_writer USING (true)', name || '_writer', name);
        EXECUTE format('CREATE POLICY %I ON audit.%I FOR SELECT TO runledger_audit_reader
                            USING (tenant_id = nullif(current_setting(''runledger.tenant'', true), '''')::uuid%s)', name || '_reader', name,
                       CASE WHEN name = 'principals' THEN '' ELSE ' AND mode = current_setting(''runledger.mode'', true)' END);
        EXECUTE format('GRANT SELECT ON audit.%I TO runledger_audit_reader', name);
    END LOOP;
END $$;
-- Moves what a new generation has parked to the others'.
CREATE POLICY parked_owner ON audit.parked TO runledger_migrator USING (true);

GRANT SELECT ON audit.cursors, audit.checkpoints, audit.active_generation, audit.generations
    TO runledger_audit_writer, runledger_audit_reader;
GRANT INSERT, UPDATE ON audit.cursors TO runledger_audit_writer;
GRANT INSERT ON audit.checkpoints TO runledger_audit_writer;
GRANT SELECT, INSERT, DELETE ON audit.parked TO runledger_audit_writer;
GRANT UPDATE (standing, reason, attempts, tried_at) ON audit.parked TO runledger_audit_writer;
GRANT SELECT, INSERT ON audit.skipped TO runledger_audit_writer;
-- Nothing that was written is ever changed or removed.
GRANT SELECT, INSERT ON audit.identities, audit.entries, audit.principals TO runledger_audit_writer;
