-- Dead letters of the read model of runs: the records that its projector could not apply, and those
-- behind them in their streams. Bytes are not copied: the log keeps them.

-- How many records of the partition are parked. Kept in the cursor's own row, which every batch
-- locks and every read with a token looks at: neither asks anything more while this is zero.
ALTER TABLE runs.cursors
    ADD COLUMN parked_records bigint NOT NULL DEFAULT 0 CONSTRAINT cursors_parked_records_counted CHECK (parked_records >= 0);

CREATE TABLE runs.parked (
    generation     integer     NOT NULL,
    -- Where it lies in the log.
    family         text        COLLATE "C" NOT NULL,
    partition      integer     NOT NULL,
    log_offset     bigint      NOT NULL,
    incarnation    uuid        NOT NULL,
    -- SHA-256 of the record's key: names the stream, also where the key can be no stream's.
    stream_digest  bytea       NOT NULL CONSTRAINT parked_stream_digest_whole CHECK (length(stream_digest) = 32),
    -- The key for people: cut short, and without what no text can hold.
    stream_key     text        NOT NULL,
    -- What the key says; null when it is no stream's key. Such records belong to no scope.
    tenant_id      uuid,
    mode           text        CONSTRAINT parked_mode_known CHECK (mode IN ('live', 'sandbox')),
    stream         text        COLLATE "C",
    -- Null when the envelope cannot be decoded.
    record_id      uuid,
    type_name      text        NOT NULL,
    -- What the record is by identity; null when it is not among `records` yet.
    standing       text        CONSTRAINT parked_standing_known CHECK (standing IN ('first', 'copy', 'conflict')),
    -- Why it could not be applied; null: it waits for an earlier one of its stream.
    reason         text,
    recorded_at    timestamptz,
    parked_at      timestamptz NOT NULL,
    -- How often it was tried again, and when last.
    attempts       integer     NOT NULL DEFAULT 0,
    tried_at       timestamptz,
    CONSTRAINT parked_pkey PRIMARY KEY (generation, family, partition, log_offset),
    CONSTRAINT parked_stream_whole CHECK ((tenant_id IS NULL) = (mode IS NULL) AND (tenant_id IS NULL) = (stream IS NULL))
);
COMMENT ON TABLE runs.parked IS 'Records that could not be applied, and those behind them in their streams';
-- A stream in the order of the log.
CREATE INDEX parked_by_stream ON runs.parked (generation, family, partition, stream_digest, log_offset);
-- Whether a read's token reaches past one.
CREATE INDEX parked_by_scope ON runs.parked (tenant_id, mode, generation, family, partition, log_offset)
    WHERE tenant_id IS NOT NULL;

-- Records that a fact in their stream says to leave out. Of no generation: one that is built later
-- leaves them out as well, even where it could apply them by then.
CREATE TABLE runs.skipped (
    family       text        COLLATE "C" NOT NULL,
    partition    integer     NOT NULL,
    incarnation  uuid        NOT NULL,
    log_offset   bigint      NOT NULL,
    -- Where the fact lies that says so.
    said_at      bigint      NOT NULL,
    CONSTRAINT skipped_pkey PRIMARY KEY (family, partition, incarnation, log_offset)
);
COMMENT ON TABLE runs.skipped IS 'Records that are left out for ever, because a fact in their stream says so';

ALTER TABLE runs.parked ENABLE ROW LEVEL SECURITY;
ALTER TABLE runs.parked FORCE ROW LEVEL SECURITY;
CREATE POLICY parked_writer ON runs.parked TO runledger_runs_writer USING (true);
-- Moves what a new generation has parked to the others'.
CREATE POLICY parked_owner ON runs.parked TO runledger_migrator USING (true);
CREATE POLICY parked_reader ON runs.parked FOR SELECT TO runledger_runs_reader
    USING (tenant_id = nullif(current_setting('runledger.tenant', true), '')::uuid
       AND mode = current_setting('runledger.mode', true));
GRANT SELECT ON runs.parked TO runledger_runs_reader;
GRANT SELECT, INSERT, DELETE ON runs.parked TO runledger_runs_writer;
GRANT UPDATE (standing, reason, attempts, tried_at) ON runs.parked TO runledger_runs_writer;
GRANT SELECT, INSERT ON runs.skipped TO runledger_runs_writer;
