-- The read model of runs, except for where it stands in the log.
--
-- Payload bytes are stored once, in `records`; the other tables hold what is filtered, sorted and
-- counted by, and the ids of the records that give the rest. Times that a reporter chose are kept
-- within the years 1 to 9999.

-- Every record of the families this model reads: identity and timeline in one.
CREATE TABLE runs.records (
    tenant_id       uuid        NOT NULL,
    mode            text        NOT NULL CONSTRAINT records_mode_known CHECK (mode IN ('live', 'sandbox')),
    stream          text        COLLATE "C" NOT NULL,
    record_id       uuid        NOT NULL,
    -- Where it lies in the log.
    family          text        COLLATE "C" NOT NULL,
    partition       integer     NOT NULL,
    log_offset      bigint      NOT NULL,
    type_name       text        NOT NULL,
    occurred_at     timestamptz NOT NULL,
    recorded_at     timestamptz NOT NULL,
    actor_id        uuid        NOT NULL,
    actor_kind      text        NOT NULL,
    actor_role      text        NOT NULL,
    cause_id        uuid,
    -- Where the cause lies; null: in the same stream.
    cause_stream    text        COLLATE "C",
    -- Tells a repeat from a reuse of the id.
    request_digest  bytea       NOT NULL CONSTRAINT records_digest_whole CHECK (length(request_digest) = 32),
    -- The run it is about, when it names one.
    run_id          text        COLLATE "C",
    -- It came after its run had ended.
    late            boolean     NOT NULL DEFAULT false,
    -- How often its id came again with another content.
    conflicts       bigint      NOT NULL DEFAULT 0,
    -- Offset of the last such copy that was counted.
    conflicts_to    bigint,
    -- The key that seals the payload; null: it is not sealed.
    key_id          text,
    payload         bytea       NOT NULL,
    CONSTRAINT records_pkey PRIMARY KEY (tenant_id, mode, stream, record_id)
);
COMMENT ON TABLE runs.records IS 'Every record read, once: the first of its id in its stream';
-- The timeline of a run and its tail: by partition, each in the order of the log.
CREATE INDEX records_by_run ON runs.records (tenant_id, mode, run_id, family, partition, log_offset)
    WHERE run_id IS NOT NULL;

-- Columns of the fold (started_… to ended_…, error_code) are written only by the owner of the run's
-- partition. All else is written by whoever hears of the run, and therefore commutes.
CREATE TABLE runs.runs (
    tenant_id          uuid        NOT NULL,
    mode               text        NOT NULL CONSTRAINT runs_mode_known CHECK (mode IN ('live', 'sandbox')),
    run_id             text        COLLATE "C" NOT NULL,
    started_record     uuid,
    started_at         timestamptz,
    agent_id           text        COLLATE "C",
    agent_version      text,
    parent_run_id      text        COLLATE "C",
    conversation_id    text        COLLATE "C",
    space_id           text        COLLATE "C",
    account_id         text        COLLATE "C",
    trigger            text,
    model              text,
    -- A collation that knows the cases of all scripts, whatever the database's own is: it is searched.
    task               text        COLLATE "und-x-icu",
    labels             jsonb,
    phase              text CONSTRAINT runs_phase_known
                       CHECK (phase IN ('queued', 'starting', 'running', 'waiting', 'exporting', 'stopping')),
    note               text,
    outcome            text CONSTRAINT runs_outcome_known
                       CHECK (outcome IN ('completed', 'succeeded', 'failed', 'stopped', 'skipped', 'cancelled')),
    ended_record       uuid,
    ended_at           timestamptz,
    error_code         text        COLLATE "C",
    steps              bigint      NOT NULL,
    tool_calls         bigint      NOT NULL,
    failed_tool_calls  bigint      NOT NULL,
    late_facts         bigint      NOT NULL,
    messages           bigint      NOT NULL,
    conflicts          bigint      NOT NULL,
    first_recorded_at  timestamptz NOT NULL,
    last_recorded_at   timestamptz NOT NULL,
    status             text        COLLATE "C" NOT NULL GENERATED ALWAYS AS (
                           coalesce(outcome, phase, CASE WHEN started_record IS NULL THEN 'unknown' ELSE 'running' END)
                       ) STORED,
    -- What lists sort by.
    sorted_at          timestamptz NOT NULL GENERATED ALWAYS AS (coalesce(started_at, first_recorded_at)) STORED,
    CONSTRAINT runs_pkey PRIMARY KEY (tenant_id, mode, run_id),
    CONSTRAINT runs_start_whole CHECK ((started_record IS NULL) = (started_at IS NULL)),
    CONSTRAINT runs_end_whole CHECK ((ended_record IS NULL) = (outcome IS NULL) AND (ended_record IS NULL) = (ended_at IS NULL))
) WITH (fillfactor = 70);
COMMENT ON TABLE runs.runs IS 'One row a run that any fact has named';
-- Partial over every row there is: only a query that says sorted_at > '-infinity' can use them. A plan
-- made while the table was new looked runs up by them otherwise, reading all of a tenant's for each.
CREATE INDEX runs_newest ON runs.runs (tenant_id, mode, sorted_at, run_id) WHERE sorted_at > '-infinity';
CREATE INDEX runs_by_status ON runs.runs (tenant_id, mode, status, sorted_at, run_id) WHERE sorted_at > '-infinity';
CREATE INDEX runs_by_agent ON runs.runs (tenant_id, mode, agent_id, sorted_at, run_id) WHERE agent_id IS NOT NULL;
CREATE INDEX runs_by_space ON runs.runs (tenant_id, mode, space_id, sorted_at, run_id) WHERE space_id IS NOT NULL;

-- Runs by label. Not a GIN index over runs.labels: its operators are not leakproof, so that
-- row-level security would never let a reader use it.
CREATE TABLE runs.run_labels (
    tenant_id  uuid   NOT NULL,
    mode       text   NOT NULL CONSTRAINT run_labels_mode_known CHECK (mode IN ('live', 'sandbox')),
    -- SHA-256 over name and value: a value may be longer than an index entry.
    label      bytea  NOT NULL CONSTRAINT run_labels_label_whole CHECK (length(label) = 32),
    run_id     text   COLLATE "C" NOT NULL,
    CONSTRAINT run_labels_pkey PRIMARY KEY (tenant_id, mode, label, run_id)
);
COMMENT ON TABLE runs.run_labels IS 'Which runs carry a label';

CREATE TABLE runs.steps (
    tenant_id       uuid        NOT NULL,
    mode            text        NOT NULL CONSTRAINT steps_mode_known CHECK (mode IN ('live', 'sandbox')),
    run_id          text        COLLATE "C" NOT NULL,
    step_id         text        COLLATE "C" NOT NULL,
    -- Offset of the first record that named it.
    log_offset      bigint      NOT NULL,
    parent_step_id  text        COLLATE "C",
    name            text,
    started_record  uuid,
    started_at      timestamptz,
    status          text CONSTRAINT steps_status_known CHECK (status IN ('succeeded', 'failed', 'skipped', 'cancelled')),
    ended_record    uuid,
    ended_at        timestamptz,
    error_code      text        COLLATE "C",
    late            boolean     NOT NULL,
    CONSTRAINT steps_pkey PRIMARY KEY (tenant_id, mode, run_id, step_id)
) WITH (fillfactor = 80);
COMMENT ON TABLE runs.steps IS 'Steps of runs; status is null until one has ended';

CREATE TABLE runs.tool_calls (
    tenant_id       uuid        NOT NULL,
    mode            text        NOT NULL CONSTRAINT tool_calls_mode_known CHECK (mode IN ('live', 'sandbox')),
    run_id          text        COLLATE "C" NOT NULL,
    tool_call_id    text        COLLATE "C" NOT NULL,
    -- Offset of the first record that named it.
    log_offset      bigint      NOT NULL,
    step_id         text        COLLATE "C",
    tool            text        COLLATE "C",
    action_hint     text,
    started_record  uuid,
    started_at      timestamptz,
    status          text        COLLATE "C" CONSTRAINT tool_calls_status_known
                    CHECK (status IN ('succeeded', 'failed', 'skipped', 'cancelled')),
    ended_record    uuid,
    ended_at        timestamptz,
    error_code      text        COLLATE "C",
    late            boolean     NOT NULL,
    CONSTRAINT tool_calls_pkey PRIMARY KEY (tenant_id, mode, run_id, tool_call_id)
) WITH (fillfactor = 80);
COMMENT ON TABLE runs.tool_calls IS 'Tool calls of runs; status is null until one has ended';
-- Partial over every row there is, as above: only a query that says log_offset >= 0 can use it.
CREATE INDEX tool_calls_in_order ON runs.tool_calls (tenant_id, mode, run_id, log_offset) WHERE log_offset >= 0;
-- Runs by tool.
CREATE INDEX tool_calls_by_tool ON runs.tool_calls (tenant_id, mode, tool, run_id) WHERE tool IS NOT NULL;

CREATE TABLE runs.usage_totals (
    tenant_id  uuid    NOT NULL,
    mode       text    NOT NULL CONSTRAINT usage_totals_mode_known CHECK (mode IN ('live', 'sandbox')),
    run_id     text    COLLATE "C" NOT NULL,
    meter      text    COLLATE "C" NOT NULL,
    -- In the meter's own unit; stays at the largest number rather than wrap.
    quantity   bigint  NOT NULL CONSTRAINT usage_totals_quantity_positive CHECK (quantity >= 0),
    records    bigint  NOT NULL,
    CONSTRAINT usage_totals_pkey PRIMARY KEY (tenant_id, mode, run_id, meter)
) WITH (fillfactor = 70);
COMMENT ON TABLE runs.usage_totals IS 'Use by run and meter';

-- The first record of a message id in its conversation stands.
CREATE TABLE runs.messages (
    tenant_id        uuid         NOT NULL,
    mode             text         NOT NULL CONSTRAINT messages_mode_known CHECK (mode IN ('live', 'sandbox')),
    conversation_id  text         COLLATE "C" NOT NULL,
    message_id       text         COLLATE "C" NOT NULL,
    record_id        uuid         NOT NULL,
    log_offset       bigint       NOT NULL,
    sender_id        text         NOT NULL,
    sender_role      text         NOT NULL,
    kind             text         NOT NULL,
    -- Length in characters.
    chars            bigint       NOT NULL,
    in_reply_to      text         COLLATE "C",
    run_id           text         COLLATE "C",
    occurred_at      timestamptz  NOT NULL,
    CONSTRAINT messages_pkey PRIMARY KEY (tenant_id, mode, conversation_id, message_id)
);
COMMENT ON TABLE runs.messages IS 'Messages of conversations';
CREATE INDEX messages_in_order ON runs.messages (tenant_id, mode, conversation_id, log_offset);

-- The key is also the order of the list. Each report stands: nothing says which of two would.
CREATE TABLE runs.occurrences (
    tenant_id           uuid         NOT NULL,
    mode                text         NOT NULL CONSTRAINT occurrences_mode_known CHECK (mode IN ('live', 'sandbox')),
    schedule_id         text         COLLATE "C" NOT NULL,
    scheduled_at        timestamptz  NOT NULL,
    owner_id            text         COLLATE "C" NOT NULL,
    record_id           uuid         NOT NULL,
    status              text         NOT NULL CONSTRAINT occurrences_status_known
                        CHECK (status IN ('completed', 'skipped', 'failed')),
    run_id              text         COLLATE "C",
    next_occurrence_at  timestamptz,
    CONSTRAINT occurrences_pkey PRIMARY KEY (tenant_id, mode, schedule_id, scheduled_at, owner_id, record_id)
);
COMMENT ON TABLE runs.occurrences IS 'Occurrences of schedules, as reported';

-- The writer sees all scopes; the reader sees the one its transaction names, or nothing.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['records', 'runs', 'run_labels', 'steps', 'tool_calls', 'usage_totals', 'messages', 'occurrences']
    LOOP
        EXECUTE format('ALTER TABLE runs.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE runs.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY %I ON runs.%I TO runledger_runs_writer USING (true)', name || '_writer', name);
        EXECUTE format(
            'CREATE POLICY %I ON runs.%I FOR SELECT TO runledger_runs_reader
              USING (tenant_id = nullif(current_setting(''runledger.tenant'', true), '''')::uuid
                 AND mode = current_setting(''runledger.mode'', true))', name || '_reader', name);
        EXECUTE format('GRANT SELECT ON runs.%I TO runledger_runs_reader', name);
        EXECUTE format('GRANT SELECT, INSERT ON runs.%I TO runledger_runs_writer', name);
    END LOOP;
END
$$;
-- Of a record nothing ever changes but these; messages, labels and occurrences never change.
GRANT UPDATE (late, conflicts, conflicts_to) ON runs.records TO runledger_runs_writer;
GRANT UPDATE ON runs.runs, runs.steps, runs.tool_calls, runs.usage_totals TO runledger_runs_writer;
