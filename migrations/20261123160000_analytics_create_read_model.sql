-- What is counted: rollups of runs, calls of tools, approvals, usage, cost, counters, messages and
-- occurrences, and the states that they follow from. Generations lie in schemas beside this one, as
-- those of `runs` do.
CREATE SCHEMA analytics;
GRANT USAGE ON SCHEMA analytics TO runledger_analytics_writer, runledger_analytics_reader;

-- Where the projector stands, and what it could not apply: as everywhere.
CREATE TABLE analytics.cursors           (LIKE approvals.cursors INCLUDING ALL) WITH (fillfactor = 50);
CREATE TABLE analytics.checkpoints       (LIKE approvals.checkpoints INCLUDING ALL);
CREATE TABLE analytics.active_generation (LIKE approvals.active_generation INCLUDING ALL);
CREATE TABLE analytics.generations       (LIKE approvals.generations INCLUDING ALL);
CREATE TABLE analytics.parked            (LIKE approvals.parked INCLUDING ALL);
CREATE TABLE analytics.skipped           (LIKE approvals.skipped INCLUDING ALL);
ALTER TABLE analytics.active_generation ALTER COLUMN search_path SET DEFAULT 'analytics';
INSERT INTO analytics.active_generation (generation) VALUES (1);
INSERT INTO analytics.generations (generation, schema_name, is_whole, made_at) VALUES (1, 'analytics', true, now());
COMMENT ON TABLE analytics.cursors IS 'How far the projector has come in each partition of the log';
COMMENT ON TABLE analytics.checkpoints IS 'Continuity: count, rolling hash and chain head of each partition at fixed places';
COMMENT ON TABLE analytics.generations IS 'Generations of the tables; active_generation says which one is served';
COMMENT ON TABLE analytics.parked IS 'Records that could not be applied, and those behind them in their streams';
COMMENT ON TABLE analytics.skipped IS 'Records that are left out for ever, because a fact in their stream says so';

-- Identity of facts, which may come twice. A decision is known by the chain.
CREATE TABLE analytics.identities (LIKE approvals.identities INCLUDING ALL);
COMMENT ON TABLE analytics.identities IS 'Which facts were read: the first of an id in its stream counts';

-- A message is known by its own id, too: reported twice, under two ids of records, it was sent once.
CREATE TABLE analytics.messages (
    tenant_id        uuid NOT NULL,
    mode             text NOT NULL CONSTRAINT messages_mode_known CHECK (mode IN ('live', 'sandbox')),
    conversation_id  text COLLATE "C" NOT NULL,
    message_id       text COLLATE "C" NOT NULL,
    CONSTRAINT messages_pkey PRIMARY KEY (tenant_id, mode, conversation_id, message_id)
);
COMMENT ON TABLE analytics.messages IS 'Which messages were counted';

-- What a run's start says of all that happens in it, and how it stands. A row also for runs that are
-- only named: whoever counts something in such a run locks it, so that its start comes before or after.
CREATE TABLE analytics.runs (
    tenant_id      uuid        NOT NULL,
    mode           text        NOT NULL CONSTRAINT runs_mode_known CHECK (mode IN ('live', 'sandbox')),
    run_id         text        COLLATE "C" NOT NULL,
    agent_id       text        COLLATE "C" NOT NULL DEFAULT '',
    agent_version  text        COLLATE "C" NOT NULL DEFAULT '',
    model          text        COLLATE "C" NOT NULL DEFAULT '',
    space_id       text        COLLATE "C" NOT NULL DEFAULT '',
    is_reported    boolean     NOT NULL DEFAULT false,
    started_at     timestamptz,
    phase          text,
    ended_at       timestamptz,
    outcome        text,
    error_code     text,
    error_message  text,
    has_errors     boolean     NOT NULL DEFAULT false,
    -- What was used in it beyond a limit of spending, charged or not.
    charges_over_limits bigint NOT NULL DEFAULT 0,
    CONSTRAINT runs_pkey PRIMARY KEY (tenant_id, mode, run_id),
    CONSTRAINT runs_end_whole CHECK ((ended_at IS NULL) = (outcome IS NULL)),
    CONSTRAINT runs_error_whole CHECK ((error_code IS NULL) = (error_message IS NULL))
) WITH (fillfactor = 80);
COMMENT ON TABLE analytics.runs IS 'What all that happens in a run is counted under, and how the run stands';
CREATE INDEX runs_failed ON analytics.runs (tenant_id, mode, (coalesce(started_at, ended_at)) DESC, run_id DESC)
    WHERE outcome = 'failed';
CREATE INDEX runs_failed_by_agent ON analytics.runs (tenant_id, mode, agent_id, (coalesce(started_at, ended_at)) DESC, run_id DESC)
    WHERE outcome = 'failed';

CREATE TABLE analytics.tool_calls (
    tenant_id        uuid        NOT NULL,
    mode             text        NOT NULL CONSTRAINT tool_calls_mode_known CHECK (mode IN ('live', 'sandbox')),
    run_id           text        COLLATE "C" NOT NULL,
    tool_call_id     text        COLLATE "C" NOT NULL,
    tool             text        COLLATE "C",
    started_at       timestamptz,
    ended_at         timestamptz,
    status           text,
    error_code       text,
    -- What was decided when it was asked for; NULL: it was only reported.
    verdict          text,
    is_covered       boolean,
    asked_at         timestamptz,
    answered_at      timestamptz,
    approval_status  text,
    CONSTRAINT tool_calls_pkey PRIMARY KEY (tenant_id, mode, run_id, tool_call_id),
    CONSTRAINT tool_calls_end_whole CHECK ((ended_at IS NULL) = (status IS NULL)),
    CONSTRAINT tool_calls_verdict_whole CHECK ((verdict IS NULL) = (is_covered IS NULL)),
    CONSTRAINT tool_calls_answer_whole CHECK ((answered_at IS NULL) = (approval_status IS NULL))
) WITH (fillfactor = 80);
COMMENT ON TABLE analytics.tool_calls IS 'Calls of tools, as far as they are counted';

-- What was counted in runs whose start was not reported yet, and moves to its origin when it is.
CREATE TABLE analytics.unreported (
    tenant_id   uuid        NOT NULL,
    mode        text        NOT NULL CONSTRAINT unreported_mode_known CHECK (mode IN ('live', 'sandbox')),
    run_id      text        COLLATE "C" NOT NULL,
    at          timestamptz NOT NULL,
    series      uuid        NOT NULL,
    subject     text        COLLATE "C" NOT NULL,
    model       text        COLLATE "C" NOT NULL,
    tool        text        COLLATE "C" NOT NULL,
    status      text        COLLATE "C" NOT NULL,
    verdict     text        COLLATE "C" NOT NULL,
    kind        text        COLLATE "C" NOT NULL,
    error       text        COLLATE "C" NOT NULL,
    count       bigint      NOT NULL,
    quantity    numeric     NOT NULL,
    duration    numeric     NOT NULL,
    durations   bigint[]    NOT NULL,
    CONSTRAINT unreported_pkey PRIMARY KEY (tenant_id, mode, run_id, at, series)
) WITH (fillfactor = 80);
COMMENT ON TABLE analytics.unreported IS 'What was counted in runs whose start was not reported yet, by minute';

-- Sums of all that began within a minute, a quarter of an hour or a day of UTC, by all that it is
-- counted under. `series` is a digest of that. Empty: does not apply, or not known.
CREATE TABLE analytics.rollups (
    tenant_id      uuid        NOT NULL,
    mode           text        NOT NULL CONSTRAINT rollups_mode_known CHECK (mode IN ('live', 'sandbox')),
    grain          text        COLLATE "C" NOT NULL CONSTRAINT rollups_grain_known CHECK (grain IN ('minute', 'quarter', 'day')),
    at             timestamptz NOT NULL,
    series         uuid        NOT NULL,
    subject        text        COLLATE "C" NOT NULL,
    agent_id       text        COLLATE "C" NOT NULL,
    agent_version  text        COLLATE "C" NOT NULL,
    model          text        COLLATE "C" NOT NULL,
    space_id       text        COLLATE "C" NOT NULL,
    tool           text        COLLATE "C" NOT NULL,
    status         text        COLLATE "C" NOT NULL,
    verdict        text        COLLATE "C" NOT NULL,
    kind           text        COLLATE "C" NOT NULL,
    error          text        COLLATE "C" NOT NULL,
    count          bigint      NOT NULL,
    -- In the unit of its subject: of the meter, micros, characters.
    quantity       numeric     NOT NULL,
    -- How long all that have ended took together, in microseconds.
    duration       numeric     NOT NULL,
    -- How many of them took about how long: pairs of a bin of the sketch and a count, by bin.
    durations      bigint[]    NOT NULL,
    CONSTRAINT rollups_pkey PRIMARY KEY (tenant_id, mode, grain, at, series)
) WITH (fillfactor = 80);
COMMENT ON TABLE analytics.rollups IS 'Counts, quantities and durations by minute, quarter of an hour and day';

-- Two sketches of durations as one. Bins that come to nothing are left out.
CREATE FUNCTION analytics.add_durations(one bigint[], other bigint[]) RETURNS bigint[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE
        WHEN cardinality(other) = 0 THEN one
        WHEN cardinality(one) = 0 THEN other
        ELSE (SELECT coalesce(array_agg(ARRAY[bin, count] ORDER BY bin), '{}')
                FROM (SELECT bin, sum(count)::bigint AS count
                        FROM (SELECT one[i][1], one[i][2] FROM generate_subscripts(one, 1) i
                              UNION ALL
                              SELECT other[i][1], other[i][2] FROM generate_subscripts(other, 1) i) AS both_of_them (bin, count)
                       GROUP BY bin
                      HAVING sum(count) <> 0) AS sums)
    END
$$;
COMMENT ON FUNCTION analytics.add_durations IS 'Two sketches of durations as one';
REVOKE EXECUTE ON FUNCTION analytics.add_durations FROM PUBLIC;
GRANT EXECUTE ON FUNCTION analytics.add_durations TO runledger_analytics_writer;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['identities', 'messages', 'runs', 'tool_calls', 'unreported', 'rollups', 'parked'] LOOP
        EXECUTE format('ALTER TABLE analytics.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE analytics.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY %I ON analytics.%I TO runledger_analytics_writer USING (true)', name || '_writer', name);
        EXECUTE format('CREATE POLICY %I ON analytics.%I FOR SELECT TO runledger_analytics_reader
                            USING (tenant_id = nullif(current_setting(''runledger.tenant'', true), '''')::uuid
                               AND mode = current_setting(''runledger.mode'', true))', name || '_reader', name);
        EXECUTE format('GRANT SELECT ON analytics.%I TO runledger_analytics_reader', name);
    END LOOP;
END $$;
-- Moves what a new generation has parked to the others'.
CREATE POLICY parked_owner ON analytics.parked TO runledger_migrator USING (true);

GRANT SELECT ON analytics.cursors, analytics.checkpoints, analytics.active_generation, analytics.generations
    TO runledger_analytics_writer, runledger_analytics_reader;
GRANT INSERT, UPDATE ON analytics.cursors TO runledger_analytics_writer;
GRANT INSERT ON analytics.checkpoints TO runledger_analytics_writer;
GRANT SELECT, INSERT, DELETE ON analytics.parked TO runledger_analytics_writer;
GRANT UPDATE (standing, reason, attempts, tried_at) ON analytics.parked TO runledger_analytics_writer;
GRANT SELECT, INSERT ON analytics.skipped TO runledger_analytics_writer;
GRANT SELECT, INSERT ON analytics.identities, analytics.messages TO runledger_analytics_writer;
GRANT SELECT, INSERT, UPDATE ON analytics.runs, analytics.tool_calls TO runledger_analytics_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON analytics.unreported, analytics.rollups TO runledger_analytics_writer;
