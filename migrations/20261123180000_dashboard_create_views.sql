-- Views for dashboards: stable names and columns over what is served, for roles that are each bound to
-- one scope by who signed in. A column, once there, stays and means the same.
CREATE SCHEMA dashboard;
GRANT USAGE ON SCHEMA dashboard TO runledger_dashboard;

-- Which scope a role is bound to. Written by whoever makes roles, a superuser; read by nobody else.
CREATE TABLE dashboard.roles (
    role_name  name        NOT NULL,
    tenant_id  uuid        NOT NULL,
    mode       text        NOT NULL CONSTRAINT roles_mode_known CHECK (mode IN ('live', 'sandbox')),
    made_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT roles_pkey PRIMARY KEY (role_name)
);
COMMENT ON TABLE dashboard.roles IS 'Which scope each role of a dashboard sees';

-- By the name that signed in, which no setting and no SET ROLE changes. Null: no role of a dashboard.
CREATE FUNCTION dashboard.tenant() RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT tenant_id FROM dashboard.roles WHERE role_name = session_user $$;
CREATE FUNCTION dashboard.mode() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT mode FROM dashboard.roles WHERE role_name = session_user $$;
REVOKE EXECUTE ON FUNCTION dashboard.tenant(), dashboard.mode() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashboard.tenant(), dashboard.mode() TO runledger_dashboard;

-- The owner of the views is the owner of the tables, whom row-level security is forced upon: it sees of
-- them what the role of the dashboard may see. Generations have the policies of what they are like.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT * FROM (VALUES ('runs', 'runs'), ('runs', 'tool_calls'), ('runs', 'parked'),
                              ('approvals', 'approvals'), ('approvals', 'parked'),
                              ('billing', 'entries'), ('billing', 'spending'), ('billing', 'parked'),
                              ('analytics', 'rollups'), ('analytics', 'parked')) AS tables (of, name)
    LOOP
        -- What a rebuild moves between generations it sees anyway.
        IF found.name <> 'parked' THEN
            EXECUTE format('CREATE POLICY %I ON %I.%I FOR SELECT TO runledger_migrator
                                USING (tenant_id = (SELECT dashboard.tenant()) AND mode = (SELECT dashboard.mode()))',
                           found.name || '_dashboard', found.of, found.name);
        END IF;
    END LOOP;
END $$;

-- What each view says; {runs} stands for the schema of the generation of `runs` that is served.
CREATE TABLE dashboard.definitions (
    name   text NOT NULL,
    query  text NOT NULL,
    CONSTRAINT definitions_pkey PRIMARY KEY (name)
);
COMMENT ON TABLE dashboard.definitions IS 'What the views say, so that they follow the generations that are served';

INSERT INTO dashboard.definitions (name, query) VALUES
('runs', $$
    SELECT run_id, agent_id, agent_version, model, space_id, account_id, trigger, task, status, error_code,
           started_at, ended_at, extract(epoch FROM ended_at - started_at)::double precision AS duration_seconds,
           steps, tool_calls, failed_tool_calls, messages, first_recorded_at, last_recorded_at
      FROM {runs}.runs
     WHERE tenant_id = (SELECT dashboard.tenant()) AND mode = (SELECT dashboard.mode())
$$),
('tool_calls', $$
    SELECT run_id, tool_call_id, tool, action_hint, coalesce(status, 'running') AS status, error_code,
           started_at, ended_at, extract(epoch FROM ended_at - started_at)::double precision AS duration_seconds
      FROM {runs}.tool_calls
     WHERE tenant_id = (SELECT dashboard.tenant()) AND mode = (SELECT dashboard.mode())
$$),
('approvals', $$
    SELECT approval_id, run_id, tool_call_id, agent_id, tool, policy_id, policy_version, policy_name, severity, status,
           quorum, approved, requested_at, decide_by, decided_at, use_by, used_at,
           extract(epoch FROM decided_at - requested_at)::double precision AS waited_seconds
      FROM {approvals}.approvals
     WHERE tenant_id = (SELECT dashboard.tenant()) AND mode = (SELECT dashboard.mode())
$$),
('accounts', $$
    SELECT DISTINCT ON (account_id) account_id, at AS as_of, available / 1000000.0 AS available, held / 1000000.0 AS held,
           overdrawn / 1000000.0 AS overdrawn, unpaid / 1000000.0 AS unpaid
      FROM {billing}.entries
     WHERE tenant_id = (SELECT dashboard.tenant()) AND mode = (SELECT dashboard.mode())
     ORDER BY account_id, log_offset DESC, ordinal DESC
$$),
('credit_entries', $$
    SELECT account_id, at, kind, amount / 1000000.0 AS credits, available / 1000000.0 AS available_after,
           held / 1000000.0 AS held_after, overdrawn / 1000000.0 AS overdrawn_after, unpaid / 1000000.0 AS unpaid_after, reason
      FROM {billing}.entries
     WHERE tenant_id = (SELECT dashboard.tenant()) AND mode = (SELECT dashboard.mode())
$$),
('spending', $$
    SELECT account_id, used_from, agent_id, meter, model, tool, space AS space_id, amount / 1000000.0 AS credits,
           quantity, lines AS charges, unpriced
      FROM {billing}.spending
     WHERE tenant_id = (SELECT dashboard.tenant()) AND mode = (SELECT dashboard.mode())
$$),
('lag', $$
    SELECT l.projection, l.applied_to, p.parked_records
      FROM (SELECT 'runs' AS projection, max(last_recorded_at) AS applied_to FROM runs.cursors
             WHERE generation = (SELECT generation FROM runs.active_generation)
            UNION ALL
            SELECT 'approvals', max(last_recorded_at) FROM approvals.cursors
             WHERE generation = (SELECT generation FROM approvals.active_generation)
            UNION ALL
            SELECT 'billing', max(last_recorded_at) FROM billing.cursors
             WHERE generation = (SELECT generation FROM billing.active_generation)
            UNION ALL
            SELECT 'analytics', max(last_recorded_at) FROM analytics.cursors
             WHERE generation = (SELECT generation FROM analytics.active_generation)) AS l
      JOIN (SELECT 'runs' AS projection, count(*) AS parked_records FROM runs.parked
             WHERE tenant_id = (SELECT dashboard.tenant()) AND mode = (SELECT dashboard.mode())
               AND generation = (SELECT generation FROM runs.active_generation)
            UNION ALL
            SELECT 'approvals', count(*) FROM approvals.parked
             WHERE tenant_id = (SELECT dashboard.tenant()) AND mode = (SELECT dashboard.mode())
               AND generation = (SELECT generation FROM approvals.active_generation)
            UNION ALL
            SELECT 'billing', count(*) FROM billing.parked
             WHERE tenant_id = (SELECT dashboard.tenant()) AND mode = (SELECT dashboard.mode())
               AND generation = (SELECT generation FROM billing.active_generation)
            UNION ALL
            SELECT 'analytics', count(*) FROM analytics.parked
             WHERE tenant_id = (SELECT dashboard.tenant()) AND mode = (SELECT dashboard.mode())
               AND generation = (SELECT generation FROM analytics.active_generation)) AS p USING (projection)
     WHERE (SELECT dashboard.tenant()) IS NOT NULL
$$);
INSERT INTO dashboard.definitions (name, query)
SELECT 'activity_' || names.plural, format($$
    SELECT at, subject, agent_id, agent_version, model, space_id, tool, status, verdict, kind, error, count, quantity,
           (duration / 1000000)::double precision AS duration_seconds
      FROM {analytics}.rollups
     WHERE tenant_id = (SELECT dashboard.tenant()) AND mode = (SELECT dashboard.mode()) AND grain = %L
$$, names.grain)
  FROM (VALUES ('minute', 'minutes'), ('quarter', 'quarters'), ('day', 'days')) AS names (grain, plural);

-- Makes the views over what of a schema is served now; null: of all. Whoever still reads one of them holds
-- it up, and with it the switch of a generation: not for long.
CREATE FUNCTION dashboard.follow(of text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    found    record;
    source   text;
    served   text;
    said     text;
BEGIN
    FOR found IN
        SELECT d.name, d.query FROM dashboard.definitions d
         WHERE of IS NULL OR strpos(d.query, '{' || of || '}') > 0 ORDER BY d.name
    LOOP
        said := found.query;
        FOREACH source IN ARRAY ARRAY['runs', 'approvals', 'billing', 'analytics'] LOOP
            EXECUTE format('SELECT g.schema_name FROM %1$I.active_generation a JOIN %1$I.generations g USING (generation)', source)
               INTO STRICT served;
            said := replace(said, '{' || source || '}', quote_ident(served));
        END LOOP;
        EXECUTE format('CREATE OR REPLACE VIEW dashboard.%I WITH (security_barrier) AS %s', found.name, said);
    END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION dashboard.follow(text) FROM PUBLIC;
SELECT dashboard.follow(NULL);
GRANT SELECT ON dashboard.runs, dashboard.tool_calls, dashboard.approvals, dashboard.accounts, dashboard.credit_entries,
    dashboard.spending, dashboard.lag, dashboard.activity_minutes, dashboard.activity_quarters, dashboard.activity_days
    TO runledger_dashboard;

CREATE FUNCTION dashboard.switched() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM dashboard.follow(TG_TABLE_SCHEMA);
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION dashboard.switched() FROM PUBLIC;
CREATE TRIGGER dashboard_follows AFTER UPDATE OF generation ON runs.active_generation
    FOR EACH ROW EXECUTE FUNCTION dashboard.switched();
CREATE TRIGGER dashboard_follows AFTER UPDATE OF generation ON approvals.active_generation
    FOR EACH ROW EXECUTE FUNCTION dashboard.switched();
CREATE TRIGGER dashboard_follows AFTER UPDATE OF generation ON billing.active_generation
    FOR EACH ROW EXECUTE FUNCTION dashboard.switched();
CREATE TRIGGER dashboard_follows AFTER UPDATE OF generation ON analytics.active_generation
    FOR EACH ROW EXECUTE FUNCTION dashboard.switched();

COMMENT ON SCHEMA dashboard IS 'Views for dashboards: what one scope has, for roles made by `runledger dashboard-role create`';
COMMENT ON VIEW dashboard.runs IS 'One row a run. status: queued, starting, running, waiting, exporting, stopping, completed, succeeded, failed, stopped, skipped, cancelled, or unknown before its start was reported';
COMMENT ON COLUMN dashboard.runs.first_recorded_at IS 'When the first of its facts was taken in, by the clock of Runledger';
COMMENT ON COLUMN dashboard.runs.last_recorded_at IS 'When the last of its facts was taken in';
COMMENT ON VIEW dashboard.tool_calls IS 'One row a call of a tool. status: running, succeeded, failed, skipped, cancelled';
COMMENT ON VIEW dashboard.approvals IS 'One row a call that a policy held. status: pending, approved, rejected, expired, cancelled. A pending one past decide_by has expired, whether or not that was recorded yet';
COMMENT ON COLUMN dashboard.approvals.waited_seconds IS 'From the request to the decision';
COMMENT ON VIEW dashboard.accounts IS 'Each account behind its last entry, in credits. What time alone has moved since is not in it; BillingService.GetBalance knows';
COMMENT ON VIEW dashboard.credit_entries IS 'Every entry of every account, in credits, with the balance behind it';
COMMENT ON VIEW dashboard.spending IS 'What was charged for usage, in credits, by quarter of an hour of use';
COMMENT ON COLUMN dashboard.spending.unpriced IS 'How many of the charges had no price and cost nothing';
COMMENT ON VIEW dashboard.lag IS 'How far each read model has come: when the last record applied was recorded, of any tenant; and how many records of this scope are parked';
COMMENT ON VIEW dashboard.activity_minutes IS 'What agents do, counted by minute of UTC. subject: run, tool_call, approval, usage, cost, counter, message, occurrence; what kind, status and quantity are of each is in the proto of AnalyticsService';
COMMENT ON VIEW dashboard.activity_quarters IS 'The same by quarter of an hour';
COMMENT ON VIEW dashboard.activity_days IS 'The same by day of UTC';
