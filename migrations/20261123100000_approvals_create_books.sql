-- Governed tool calls: the books of their decider. Where it stands in the log, what it was asked, and
-- what was decided: a fold of facts, commands and decisions in force, and of nothing else.
--
-- Generations lie in schemas beside this one, as those of `runs` do.
CREATE SCHEMA approvals;
GRANT USAGE ON SCHEMA approvals TO runledger_approvals_writer, runledger_approvals_reader;

-- As in runs.cursors.
CREATE TABLE approvals.cursors (
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
COMMENT ON TABLE approvals.cursors IS 'How far the decider has come in each partition of the log';

-- As in runs.checkpoints.
CREATE TABLE approvals.checkpoints (
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
COMMENT ON TABLE approvals.checkpoints IS 'Continuity: count, rolling hash and chain head of each partition at fixed places';

-- As in runs: which generation is served, and every one there is.
CREATE TABLE approvals.active_generation (
    one_row     boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    generation  integer NOT NULL,
    search_path text    NOT NULL DEFAULT 'approvals',
    switched_at timestamptz
);
INSERT INTO approvals.active_generation (generation) VALUES (1);
CREATE TABLE approvals.generations (
    generation  integer     PRIMARY KEY CHECK (generation > 0),
    schema_name text        NOT NULL UNIQUE,
    is_whole    boolean     NOT NULL,
    made_at     timestamptz NOT NULL
);
COMMENT ON TABLE approvals.generations IS 'Generations of the tables; active_generation says which one is served';
INSERT INTO approvals.generations (generation, schema_name, is_whole, made_at) VALUES (1, 'approvals', true, now());

-- As in runs.parked and runs.skipped.
CREATE TABLE approvals.parked (
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
COMMENT ON TABLE approvals.parked IS 'Records that could not be applied, and those behind them in their streams';
CREATE INDEX parked_by_stream ON approvals.parked (generation, family, partition, stream_digest, log_offset);
CREATE INDEX parked_by_scope ON approvals.parked (tenant_id, mode, generation, family, partition, log_offset)
    WHERE tenant_id IS NOT NULL;
CREATE TABLE approvals.skipped (
    family       text        COLLATE "C" NOT NULL,
    partition    integer     NOT NULL,
    incarnation  uuid        NOT NULL,
    log_offset   bigint      NOT NULL,
    said_at      bigint      NOT NULL,
    CONSTRAINT skipped_pkey PRIMARY KEY (family, partition, incarnation, log_offset)
);
COMMENT ON TABLE approvals.skipped IS 'Records that are left out for ever, because a fact in their stream says so';

-- Identity of the facts read. A command's lies in `commands`; a decision is known by the chain.
CREATE TABLE approvals.identities (
    tenant_id  uuid NOT NULL,
    mode       text NOT NULL CONSTRAINT identities_mode_known CHECK (mode IN ('live', 'sandbox')),
    stream     text COLLATE "C" NOT NULL,
    record_id  uuid NOT NULL,
    CONSTRAINT identities_pkey PRIMARY KEY (tenant_id, mode, stream, record_id)
);
COMMENT ON TABLE approvals.identities IS 'Which facts were read: the first of an id in its stream counts';

-- What was asked, and what was decided. A command is undecided until a decision in force names it.
CREATE TABLE approvals.commands (
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
COMMENT ON TABLE approvals.commands IS 'Every command read, once, and its outcome';
-- What is to be decided, in the order of the log.
CREATE INDEX commands_undecided ON approvals.commands (family, partition, log_offset) WHERE decided_offset IS NULL;
-- Whether a scope is owed a decision, for reads with a token.
CREATE INDEX commands_owed ON approvals.commands (tenant_id, mode, family, partition, log_offset) WHERE decided_offset IS NULL;

-- What the rules know of each stream, encoded by them, and how many decisions it has in force.
CREATE TABLE approvals.streams (
    tenant_id  uuid    NOT NULL,
    mode       text    NOT NULL CONSTRAINT streams_mode_known CHECK (mode IN ('live', 'sandbox')),
    stream     text    COLLATE "C" NOT NULL,
    family     text    COLLATE "C" NOT NULL,
    partition  integer NOT NULL,
    version    bigint  NOT NULL,
    state      bytea   NOT NULL,
    CONSTRAINT streams_pkey PRIMARY KEY (tenant_id, mode, stream)
) WITH (fillfactor = 70);
COMMENT ON TABLE approvals.streams IS 'What the rules know of each stream';

-- The same of the parts of streams that commands speak of: a tool call of a run.
CREATE TABLE approvals.parts (
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
COMMENT ON TABLE approvals.parts IS 'What the rules know of each part of a stream';
CREATE INDEX parts_due ON approvals.parts (family, partition, due_at) WHERE due_at IS NOT NULL;
-- Owed at once, whatever the time: written as the epoch. For reads with a token.
CREATE INDEX parts_owed ON approvals.parts (tenant_id, mode, stream) WHERE due_at = 'epoch';

-- Of each partition, its last decision in force: later ones are never before it, nor by older rules.
CREATE TABLE approvals.decided (
    family         text        COLLATE "C" NOT NULL,
    partition      integer     NOT NULL,
    last_at        timestamptz NOT NULL,
    rules_version  bigint      NOT NULL,
    CONSTRAINT decided_pkey PRIMARY KEY (family, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE approvals.decided IS 'Moment of the last decision of each partition, and the highest version of rules';

-- Which partitions somebody decides now, or did when he ended without a word; and how often each
-- command was tried since. Of no generation, and no fold.
CREATE TABLE approvals.openings (
    family     text    COLLATE "C" NOT NULL,
    partition  integer NOT NULL,
    is_open    boolean NOT NULL,
    CONSTRAINT openings_pkey PRIMARY KEY (family, partition)
);
COMMENT ON TABLE approvals.openings IS 'Partitions that are being decided: one that is open when it is taken up was left uncleanly';
CREATE TABLE approvals.attempts (
    family      text    COLLATE "C" NOT NULL,
    partition   integer NOT NULL,
    log_offset  bigint  NOT NULL,
    attempts    integer NOT NULL,
    CONSTRAINT attempts_pkey PRIMARY KEY (family, partition, log_offset)
);
COMMENT ON TABLE approvals.attempts IS 'How often a command was tried after an unclean end';

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['identities', 'commands', 'streams', 'parts', 'parked'] LOOP
        EXECUTE format('ALTER TABLE approvals.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE approvals.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY %I ON approvals.%I TO runledger_approvals_writer USING (true)', name || '_writer', name);
        EXECUTE format('CREATE POLICY %I ON approvals.%I FOR SELECT TO runledger_approvals_reader
                            USING (tenant_id = nullif(current_setting(''runledger.tenant'', true), '''')::uuid
                               AND mode = current_setting(''runledger.mode'', true))', name || '_reader', name);
        EXECUTE format('GRANT SELECT ON approvals.%I TO runledger_approvals_reader', name);
    END LOOP;
END $$;
-- Moves what a new generation has parked to the others'.
CREATE POLICY parked_owner ON approvals.parked TO runledger_migrator USING (true);
-- For the function below.
CREATE POLICY commands_owner ON approvals.commands FOR SELECT TO runledger_migrator USING (true);

GRANT SELECT ON approvals.cursors, approvals.checkpoints, approvals.active_generation, approvals.generations
    TO runledger_approvals_writer, runledger_approvals_reader;
GRANT INSERT, UPDATE ON approvals.cursors TO runledger_approvals_writer;
GRANT INSERT ON approvals.checkpoints TO runledger_approvals_writer;
GRANT SELECT, INSERT, DELETE ON approvals.parked TO runledger_approvals_writer;
GRANT UPDATE (standing, reason, attempts, tried_at) ON approvals.parked TO runledger_approvals_writer;
GRANT SELECT, INSERT ON approvals.skipped TO runledger_approvals_writer;
GRANT SELECT, INSERT ON approvals.identities TO runledger_approvals_writer;
GRANT SELECT, INSERT, UPDATE ON approvals.commands, approvals.streams, approvals.parts, approvals.decided, approvals.openings
    TO runledger_approvals_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON approvals.attempts TO runledger_approvals_writer;

-- The outcomes of many commands of any scopes at once, for those who have asked for them and know
-- their ids: one poll a process instead of one lookup a call. Decisions come back as they lie in the
-- log. No row: the command was not read yet; no decision in it: it is undecided.
--
-- Runs with the rights of its owner, since the commands are of many scopes; hence the fixed
-- search_path. Which generation is served is looked up: its name comes from our own table.
CREATE FUNCTION approvals.outcomes(tenants uuid[], modes text[], streams text[], ids uuid[])
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
    served text := (SELECT g.schema_name FROM approvals.active_generation a JOIN approvals.generations g USING (generation));
BEGIN
    IF served = 'approvals' THEN
        RETURN QUERY
        SELECT k.ordinal, c.request_digest, c.family, c.partition, c.incarnation, c.decided_offset, c.decided_at,
               c.decision_type, c.decision
          FROM unnest(tenants, modes, streams, ids) WITH ORDINALITY AS k (tenant_id, mode, stream, command_id, ordinal)
          JOIN approvals.commands c
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
REVOKE ALL ON FUNCTION approvals.outcomes(uuid[], text[], text[], uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION approvals.outcomes(uuid[], text[], text[], uuid[]) TO runledger_approvals_reader;
