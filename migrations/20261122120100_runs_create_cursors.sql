-- The read model of runs: where its projector stands in the log.
CREATE SCHEMA runs;
GRANT USAGE ON SCHEMA runs TO runledger_runs_writer, runledger_runs_reader;

-- One row a partition and generation. The truth of how far the read model has come: it moves in
-- the transaction that writes the rows, and only from the value its owner read.
CREATE TABLE runs.cursors (
    generation        integer     NOT NULL,
    family            text        NOT NULL,
    partition         integer     NOT NULL CHECK (partition >= 0),
    -- Id in the partition's Genesis; null until that has been read.
    incarnation       uuid,
    next_offset       bigint      NOT NULL CHECK (next_offset >= 0),
    -- SHA-256 over key and value of the record at next_offset - 1; compared when the partition is taken up again.
    last_digest       bytea       CHECK (length(last_digest) = 32),
    -- Hash of the last decision in force, or of the Genesis value.
    chain_head        bytea       CHECK (length(chain_head) = 32),
    -- Decisions read since the last one in force that were void.
    voids_in_a_row    integer     NOT NULL DEFAULT 0,
    -- Records read so far, Genesis included, and the hash rolled over all their digests.
    record_count      bigint      NOT NULL DEFAULT 0,
    rolling_hash      bytea       NOT NULL CHECK (length(rolling_hash) = 32),
    -- When the last record applied was appended, by our clock.
    last_recorded_at  timestamptz,
    PRIMARY KEY (generation, family, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE runs.cursors IS 'How far the read model has come in each partition of the log';

-- What the cursor was at round offsets and at each stop, for `verify` to recompute from the log.
CREATE TABLE runs.checkpoints (
    generation    integer     NOT NULL,
    family        text        NOT NULL,
    partition     integer     NOT NULL,
    next_offset   bigint      NOT NULL,
    incarnation   uuid        NOT NULL,
    record_count  bigint      NOT NULL,
    rolling_hash  bytea       NOT NULL CHECK (length(rolling_hash) = 32),
    chain_head    bytea       NOT NULL CHECK (length(chain_head) = 32),
    written_at    timestamptz NOT NULL,
    PRIMARY KEY (generation, family, partition, next_offset)
);
COMMENT ON TABLE runs.checkpoints IS 'Continuity: count, rolling hash and chain head of each partition at fixed places';

-- Which generation of the read model is served. One row.
CREATE TABLE runs.active_generation (
    one_row     boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    generation  integer NOT NULL
);
INSERT INTO runs.active_generation (generation) VALUES (1);

GRANT SELECT ON runs.cursors, runs.checkpoints, runs.active_generation TO runledger_runs_writer, runledger_runs_reader;
GRANT INSERT, UPDATE ON runs.cursors TO runledger_runs_writer;
GRANT INSERT ON runs.checkpoints TO runledger_runs_writer;
