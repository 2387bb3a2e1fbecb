-- Prices and credits: the books of their decider. Where it stands in the log, what it was asked, and
-- what was decided: a fold of facts, commands and decisions in force, and of nothing else.
--
-- Generations lie in schemas beside this one, as those of `runs` do.
CREATE SCHEMA billing;
GRANT USAGE ON SCHEMA billing TO runledger_billing_writer, runledger_billing_reader;

-- As in runs.cursors.
CREATE TABLE billing.cursors (
    generation        integer     NOT NULL,
    family            text        NOT NULL,
    partition         integer     NOT NULL CHECK (partition >= 0),
    incarnation       uuid,
    next_offset       bigint      NOT NULL CHECK (next_offset >= 0),
    last_digest       bytea       CHECK (length(last_digest) = 32),
    chain_head        bytea       CHECK (length(chain_head) = 32),
    voids_in_a_row    integer     NOT NULL DEFAULT 0,
    record_count      bigint      NOT NULL DEFAULT 0,
    rolling_hash      bytea       NOT NULL CHECK (length(rolling_hash) = 32),
    last_recorded_at  timestamptz,
    frozen            boolean     NOT NULL DEFAULT false,
    parked_records    bigint      NOT NULL DEFAULT 0 CONSTRAINT cursors_parked_records_counted CHECK (parked_records >= 0),
    PRIMARY KEY (generation, family, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE billing.cursors IS 'How far the decider has come in each partition of the log';

-- As in runs.checkpoints.
CREATE TABLE billing.checkpoints (
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
COMMENT ON TABLE billing.checkpoints IS 'Continuity: count, rolling hash and chain head of each partition at fixed places';

-- As in runs: which generation is served, and every one there is.
CREATE TABLE billing.active_generation (
    one_row     boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    generation  integer NOT NULL,
    search_path text    NOT NULL DEFAULT 'billing',
    switched_at timestamptz
);
INSERT INTO billing.active_generation (generation) VALUES (1);
CREATE TABLE billing.generations (
    generation  integer     PRIMARY KEY CHECK (generation > 0),
    schema_name text        NOT NULL UNIQUE,
    is_whole    boolean     NOT NULL,
    made_at     timestamptz NOT NULL
);
COMMENT ON TABLE billing.generations IS 'Generations of the tables; active_generation says which one is served';
INSERT INTO billing.generations (generation, schema_name, is_whole, made_at) VALUES (1, 'billing', true, now());

-- As in runs.parked and runs.skipped.
CREATE TABLE billing.parked (
    generation     integer     NOT NULL,
    family         text        COLLATE "C" NOT NULL,
    partition      integer     NOT NULL,
    log_offset     bigint      NOT NULL,
    incarnation    uuid        NOT NULL,
    stream_digest  bytea       NOT NULL CONSTRAINT parked_stream_digest_whole CHECK (length(stream_digest) = 32),
    stream_key     text        NOT NULL,
    tenant_id      uuid,
    mode           text        CONSTRAINT parked_mode_known CHECK (mode IN ('live', 'sandbox')),
    stream         text        COLLATE "C",
    record_id      uuid,
    type_name      text        NOT NULL,
    standing       text        CONSTRAINT parked_standing_known CHECK (standing IN ('first', 'copy', 'conflict')),
    reason         text,
    recorded_at    timestamptz,
    parked_at      timestamptz NOT NULL,
    attempts       integer     NOT NULL DEFAULT 0,
    tried_at       timestamptz,
    CONSTRAINT parked_pkey PRIMARY KEY (generation, family, partition, log_offset),
    CONSTRAINT parked_stream_whole CHECK ((tenant_id IS NULL) = (mode IS NULL) AND (tenant_id IS NULL) = (stream IS NULL))
);
COMMENT ON TABLE billing.parked IS 'Records that could not be applied, and those behind them in their streams';
CREATE INDEX parked_by_stream ON billing.parked (generation, family, partition, stream_digest, log_offset);
CREATE INDEX parked_by_scope ON billing.parked (tenant_id, mode, generation, family, partition, log_offset)
    WHERE tenant_id IS NOT NULL;
CREATE TABLE billing.skipped (
    family       text        COLLATE "C" NOT NULL,
    partition    integer     NOT NULL,
    incarnation  uuid        NOT NULL,
    log_offset   bigint      NOT NULL,
    said_at      bigint      NOT NULL,
    CONSTRAINT skipped_pkey PRIMARY KEY (family, partition, incarnation, log_offset)
);
COMMENT ON TABLE billing.skipped IS 'Records that are left out for ever, because a fact in their stream says so';

-- Identity of the facts read. A command's lies in `commands`; a decision is known by the chain.
CREATE TABLE billing.identities (
    tenant_id  uuid NOT NULL,
    mode       text NOT NULL CONSTRAINT identities_mode_known CHECK (mode IN ('live', 'sandbox')),
    stream     text COLLATE "C" NOT NULL,
    record_id  uuid NOT NULL,
    CONSTRAINT identities_pkey PRIMARY KEY (tenant_id, mode, stream, record_id)
);
COMMENT ON TABLE billing.identities IS 'Which facts were read: the first of an id in its stream counts';

-- What was asked, and what was decided. A command is undecided until a decision in force names it.
CREATE TABLE billing.commands (
    tenant_id        uuid        NOT NULL,
    mode             text        NOT NULL CONSTRAINT commands_mode_known CHECK (mode IN ('live', 'sandbox')),
    stream           text        COLLATE "C" NOT NULL,
    command_id       uuid        NOT NULL,
    -- Where it lies in the log.
    family           text        COLLATE "C" NOT NULL,
    partition        integer     NOT NULL,
    incarnation      uuid        NOT NULL,
    log_offset       bigint      NOT NULL,
    -- Tells a repeat from a reuse of the id.
    request_digest   bytea       NOT NULL CONSTRAINT commands_digest_whole CHECK (length(request_digest) = 32),
    -- The record as it lies in the log, until it is decided.
    record           bytea,
    -- The decision: where it lies, its moment, and what it says.
    decided_offset   bigint,
    decided_at       timestamptz,
    decision_type    text,
    decision         bytea,
    CONSTRAINT commands_pkey PRIMARY KEY (tenant_id, mode, stream, command_id),
    CONSTRAINT commands_decided_whole CHECK (
        (decided_offset IS NULL) = (decided_at IS NULL) AND (decided_offset IS NULL) = (decision_type IS NULL)
        AND (decided_offset IS NULL) = (decision IS NULL) AND (decided_offset IS NULL) = (record IS NOT NULL))
) WITH (fillfactor = 80);
COMMENT ON TABLE billing.commands IS 'Every command read, once, and its outcome';
-- What is to be decided, in the order of the log.
CREATE INDEX commands_undecided ON billing.commands (family, partition, log_offset) WHERE decided_offset IS NULL;
-- Whether a scope is owed a decision, for reads with a token.
CREATE INDEX commands_owed ON billing.commands (tenant_id, mode, family, partition, log_offset) WHERE decided_offset IS NULL;

-- Facts that are owed a decision, as they lie in the log: usage that is not charged yet.
CREATE TABLE billing.facts (
    tenant_id    uuid    NOT NULL,
    mode         text    NOT NULL CONSTRAINT facts_mode_known CHECK (mode IN ('live', 'sandbox')),
    stream       text    COLLATE "C" NOT NULL,
    record_id    uuid    NOT NULL,
    family       text    COLLATE "C" NOT NULL,
    partition    integer NOT NULL,
    incarnation  uuid    NOT NULL,
    log_offset   bigint  NOT NULL,
    record       bytea   NOT NULL,
    CONSTRAINT facts_pkey PRIMARY KEY (tenant_id, mode, stream, record_id)
);
COMMENT ON TABLE billing.facts IS 'Usage that is not charged yet';
CREATE INDEX facts_in_order ON billing.facts (family, partition, log_offset);

-- What the rules know of each stream, encoded by them, and how many decisions it has in force.
CREATE TABLE billing.streams (
    tenant_id  uuid    NOT NULL,
    mode       text    NOT NULL CONSTRAINT streams_mode_known CHECK (mode IN ('live', 'sandbox')),
    stream     text    COLLATE "C" NOT NULL,
    family     text    COLLATE "C" NOT NULL,
    partition  integer NOT NULL,
    version    bigint  NOT NULL,
    state      bytea   NOT NULL,
    CONSTRAINT streams_pkey PRIMARY KEY (tenant_id, mode, stream)
) WITH (fillfactor = 70);
COMMENT ON TABLE billing.streams IS 'What the rules know of each stream';

-- The same of the parts of streams that commands speak of: a hold of an account. The part without a
-- name is the stream itself, which time owes a decision.
CREATE TABLE billing.parts (
    tenant_id  uuid        NOT NULL,
    mode       text        NOT NULL CONSTRAINT parts_mode_known CHECK (mode IN ('live', 'sandbox')),
    stream     text        COLLATE "C" NOT NULL,
    part       text        COLLATE "C" NOT NULL,
    family     text        COLLATE "C" NOT NULL,
    partition  integer     NOT NULL,
    state      bytea       NOT NULL,
    -- From when on it is owed a decision that nobody asked for; null: it is owed none.
    due_at     timestamptz,
    CONSTRAINT parts_pkey PRIMARY KEY (tenant_id, mode, stream, part)
) WITH (fillfactor = 80);
COMMENT ON TABLE billing.parts IS 'What the rules know of each part of a stream';
CREATE INDEX parts_due ON billing.parts (family, partition, due_at) WHERE due_at IS NOT NULL;
-- Owed at once, whatever the time: written as the epoch. For reads with a token.
CREATE INDEX parts_owed ON billing.parts (tenant_id, mode, stream) WHERE due_at = 'epoch';

-- Of each partition, its last decision in force: later ones are never before it, nor by older rules.
CREATE TABLE billing.decided (
    family         text        COLLATE "C" NOT NULL,
    partition      integer     NOT NULL,
    last_at        timestamptz NOT NULL,
    rules_version  bigint      NOT NULL,
    CONSTRAINT decided_pkey PRIMARY KEY (family, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE billing.decided IS 'Moment of the last decision of each partition, and the highest version of rules';

-- Which partitions somebody decides now, or did when he ended without a word; and how often each
-- command was tried since. Of no generation, and no fold.
CREATE TABLE billing.openings (
    family     text    COLLATE "C" NOT NULL,
    partition  integer NOT NULL,
    is_open    boolean NOT NULL,
    CONSTRAINT openings_pkey PRIMARY KEY (family, partition)
);
COMMENT ON TABLE billing.openings IS 'Partitions that are being decided: one that is open when it is taken up was left uncleanly';
CREATE TABLE billing.attempts (
    family      text    COLLATE "C" NOT NULL,
    partition   integer NOT NULL,
    log_offset  bigint  NOT NULL,
    attempts    integer NOT NULL,
    CONSTRAINT attempts_pkey PRIMARY KEY (family, partition, log_offset)
);
COMMENT ON TABLE billing.attempts IS 'How often a command was tried after an unclean end';

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['identities', 'commands', 'facts', 'streams', 'parts', 'parked'] LOOP
        EXECUTE format('ALTER TABLE billing.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE billing.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY %I ON billing.%I TO runledger_billing_writer USING (true)', name || '_writer', name);
        EXECUTE format('CREATE POLICY %I ON billing.%I FOR SELECT TO runledger_billing_reader
                            USING (tenant_id = nullif(current_setting(''runledger.tenant'', true), '''')::uuid
                               AND mode = current_setting(''runledger.mode'', true))', name || '_reader', name);
        EXECUTE format('GRANT SELECT ON billing.%I TO runledger_billing_reader', name);
    END LOOP;
END $$;
-- Moves what a new generation has parked to the others'.
CREATE POLICY parked_owner ON billing.parked TO runledger_migrator USING (true);
-- For the function below.
CREATE POLICY commands_owner ON billing.commands FOR SELECT TO runledger_migrator USING (true);

GRANT SELECT ON billing.cursors, billing.checkpoints, billing.active_generation, billing.generations
    TO runledger_billing_writer, runledger_billing_reader;
GRANT INSERT, UPDATE ON billing.cursors TO runledger_billing_writer;
GRANT INSERT ON billing.checkpoints TO runledger_billing_writer;
GRANT SELECT, INSERT, DELETE ON billing.parked TO runledger_billing_writer;
GRANT UPDATE (standing, reason, attempts, tried_at) ON billing.parked TO runledger_billing_writer;
GRANT SELECT, INSERT ON billing.skipped TO runledger_billing_writer;
GRANT SELECT, INSERT ON billing.identities TO runledger_billing_writer;
GRANT SELECT, INSERT, DELETE ON billing.facts TO runledger_billing_writer;
GRANT SELECT, INSERT, UPDATE ON billing.commands, billing.streams, billing.parts, billing.decided, billing.openings
    TO runledger_billing_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON billing.attempts TO runledger_billing_writer;

-- The outcomes of many commands of any scopes at once, for those who have asked for them and know
-- their ids: one poll a process instead of one lookup a call. Decisions come back as they lie in the
-- log. No row: the command was not read yet; no decision in it: it is undecided.
--
-- Runs with the rights of its owner, since the commands are of many scopes; hence the fixed
-- search_path. Which generation is served is looked up: its name comes from our own table.
CREATE FUNCTION billing.outcomes(tenants uuid[], modes text[], streams text[], ids uuid[])
RETURNS TABLE (
    ordinal         bigint,
    request_digest  bytea,
    family          text,
    partition       integer,
    incarnation     uuid,
    decided_offset  bigint,
    decided_at      timestamptz,
    decision_type   text,
    decision        bytea
)
LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    served text := (SELECT g.schema_name FROM billing.active_generation a JOIN billing.generations g USING (generation));
BEGIN
    IF served = 'billing' THEN
        RETURN QUERY
        SELECT k.ordinal, c.request_digest, c.family, c.partition, c.incarnation, c.decided_offset, c.decided_at,
               c.decision_type, c.decision
          FROM unnest(tenants, modes, streams, ids) WITH ORDINALITY AS k (tenant_id, mode, stream, command_id, ordinal)
          JOIN billing.commands c
            ON c.tenant_id = k.tenant_id AND c.mode = k.mode AND c.stream = k.stream AND c.command_id = k.command_id;
    ELSE
        RETURN QUERY EXECUTE format(
            'SELECT k.ordinal, c.request_digest, c.family, c.partition, c.incarnation, c.decided_offset, c.decided_at,
                    c.decision_type, c.decision
               FROM unnest($1, $2, $3, $4) WITH ORDINALITY AS k (tenant_id, mode, stream, command_id, ordinal)
               JOIN %I.commands c
                 ON c.tenant_id = k.tenant_id AND c.mode = k.mode AND c.stream = k.stream AND c.command_id = k.command_id',
            served)
        USING tenants, modes, streams, ids;
    END IF;
END $$;
REVOKE ALL ON FUNCTION billing.outcomes(uuid[], text[], text[], uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION billing.outcomes(uuid[], text[], text[], uuid[]) TO runledger_billing_reader;
