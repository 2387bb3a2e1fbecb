-- The forwarder of usage: what of runs has to be known to put what they use into the streams of their
-- accounts. Generations lie in schemas beside this one, as those of `runs` do.
CREATE SCHEMA usage;
GRANT USAGE ON SCHEMA usage TO runledger_billing_writer, runledger_billing_reader;

-- Where the forwarder stands, and what it could not apply: as everywhere.
CREATE TABLE usage.cursors           (LIKE approvals.cursors INCLUDING ALL) WITH (fillfactor = 50);
CREATE TABLE usage.checkpoints       (LIKE approvals.checkpoints INCLUDING ALL);
CREATE TABLE usage.active_generation (LIKE approvals.active_generation INCLUDING ALL);
CREATE TABLE usage.generations       (LIKE approvals.generations INCLUDING ALL);
CREATE TABLE usage.parked            (LIKE approvals.parked INCLUDING ALL);
CREATE TABLE usage.skipped           (LIKE approvals.skipped INCLUDING ALL);
ALTER TABLE usage.active_generation ALTER COLUMN search_path SET DEFAULT 'usage';
INSERT INTO usage.active_generation (generation) VALUES (1);
INSERT INTO usage.generations (generation, schema_name, is_whole, made_at) VALUES (1, 'usage', true, now());
COMMENT ON TABLE usage.cursors IS 'How far the forwarder has come in each partition of the log';
COMMENT ON TABLE usage.checkpoints IS 'Continuity: count, rolling hash and chain head of each partition at fixed places';
COMMENT ON TABLE usage.generations IS 'Generations of the tables; active_generation says which one is served';
COMMENT ON TABLE usage.parked IS 'Records that could not be applied, and those behind them in their streams';
COMMENT ON TABLE usage.skipped IS 'Records that are left out for ever, because a fact in their stream says so';

-- Who pays for a run, once its start was reported; and its end, the first of each.
CREATE TABLE usage.runs (
    tenant_id   uuid        NOT NULL,
    mode        text        NOT NULL CONSTRAINT runs_mode_known CHECK (mode IN ('live', 'sandbox')),
    run_id      text        COLLATE "C" NOT NULL,
    account_id  text        COLLATE "C",
    agent_id    text,
    model       text,
    space_id    text,
    started_at  timestamptz,
    end_id      uuid,
    ended_at    timestamptz,
    outcome     text,
    CONSTRAINT runs_pkey PRIMARY KEY (tenant_id, mode, run_id),
    CONSTRAINT runs_start_whole CHECK ((account_id IS NULL) = (started_at IS NULL) AND (account_id IS NULL) = (agent_id IS NULL)),
    CONSTRAINT runs_end_whole CHECK ((end_id IS NULL) = (ended_at IS NULL) AND (end_id IS NULL) = (outcome IS NULL))
) WITH (fillfactor = 80);
COMMENT ON TABLE usage.runs IS 'Who pays for what a run uses';
CREATE INDEX runs_waiting ON usage.runs (tenant_id, mode, run_id) WHERE account_id IS NULL AND end_id IS NOT NULL;

-- Calls of tools: their start and their end, the first of each.
CREATE TABLE usage.calls (
    tenant_id     uuid        NOT NULL,
    mode          text        NOT NULL CONSTRAINT calls_mode_known CHECK (mode IN ('live', 'sandbox')),
    run_id        text        COLLATE "C" NOT NULL,
    tool_call_id  text        COLLATE "C" NOT NULL,
    tool          text,
    started_at    timestamptz,
    end_id        uuid,
    ended_at      timestamptz,
    outcome       text,
    forwarded     boolean     NOT NULL,
    CONSTRAINT calls_pkey PRIMARY KEY (tenant_id, mode, run_id, tool_call_id),
    CONSTRAINT calls_start_whole CHECK ((tool IS NULL) = (started_at IS NULL)),
    CONSTRAINT calls_end_whole CHECK ((end_id IS NULL) = (ended_at IS NULL) AND (end_id IS NULL) = (outcome IS NULL))
) WITH (fillfactor = 80);
COMMENT ON TABLE usage.calls IS 'Which tool a call called, and whether it was forwarded';
CREATE INDEX calls_waiting ON usage.calls (tenant_id, mode, run_id, tool_call_id) WHERE end_id IS NOT NULL AND NOT forwarded;

-- Reported usage of runs whose start was not reported yet.
CREATE TABLE usage.waiting (
    tenant_id     uuid        NOT NULL,
    mode          text        NOT NULL CONSTRAINT waiting_mode_known CHECK (mode IN ('live', 'sandbox')),
    run_id        text        COLLATE "C" NOT NULL,
    source_id     uuid        NOT NULL,
    log_offset    bigint      NOT NULL,
    meter         text        NOT NULL,
    quantity      bigint      NOT NULL,
    dimensions    text        NOT NULL,
    tool_call_id  text        COLLATE "C",
    used_at       timestamptz NOT NULL,
    CONSTRAINT waiting_pkey PRIMARY KEY (tenant_id, mode, run_id, source_id)
);
COMMENT ON TABLE usage.waiting IS 'Usage of runs whose start was not reported yet';

-- The last record that was appended to each partition of `billing` for each partition of `run`: what a
-- token of usage comes to. Of no generation: a new one appends nothing.
CREATE TABLE usage.outputs (
    partition         integer NOT NULL,
    output_partition  integer NOT NULL,
    incarnation       uuid    NOT NULL,
    log_offset        bigint  NOT NULL,
    CONSTRAINT outputs_pkey PRIMARY KEY (partition, output_partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE usage.outputs IS 'Where forwarded usage lies in the log';

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['runs', 'calls', 'waiting', 'parked'] LOOP
        EXECUTE format('ALTER TABLE usage.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE usage.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY %I ON usage.%I TO runledger_billing_writer USING (true)', name || '_writer', name);
        EXECUTE format('CREATE POLICY %I ON usage.%I FOR SELECT TO runledger_billing_reader
                            USING (tenant_id = nullif(current_setting(''runledger.tenant'', true), '''')::uuid
                               AND mode = current_setting(''runledger.mode'', true))', name || '_reader', name);
        EXECUTE format('GRANT SELECT ON usage.%I TO runledger_billing_reader', name);
    END LOOP;
END $$;
-- Moves what a new generation has parked to the others'.
CREATE POLICY parked_owner ON usage.parked TO runledger_migrator USING (true);

GRANT SELECT ON usage.cursors, usage.checkpoints, usage.active_generation, usage.generations, usage.outputs
    TO runledger_billing_writer, runledger_billing_reader;
GRANT INSERT, UPDATE ON usage.cursors, usage.outputs TO runledger_billing_writer;
GRANT INSERT ON usage.checkpoints TO runledger_billing_writer;
GRANT SELECT, INSERT, DELETE ON usage.parked TO runledger_billing_writer;
GRANT UPDATE (standing, reason, attempts, tried_at) ON usage.parked TO runledger_billing_writer;
GRANT SELECT, INSERT ON usage.skipped TO runledger_billing_writer;
GRANT SELECT, INSERT, UPDATE ON usage.runs, usage.calls TO runledger_billing_writer;
GRANT SELECT, INSERT, DELETE ON usage.waiting TO runledger_billing_writer;
