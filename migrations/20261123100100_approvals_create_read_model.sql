-- Governed tool calls: what people ask for. The queue, its votes and changes, and the history of
-- policies; written from decisions in force in the transaction that folds them.

CREATE TABLE approvals.approvals (
    tenant_id         uuid        NOT NULL,
    mode              text        NOT NULL CONSTRAINT approvals_mode_known CHECK (mode IN ('live', 'sandbox')),
    -- The id of the command that asked for the call; its decision, in `commands`, holds the arguments.
    approval_id       uuid        NOT NULL,
    run_id            text        COLLATE "C" NOT NULL,
    tool_call_id      text        COLLATE "C" NOT NULL,
    agent_id          text        COLLATE "C" NOT NULL,
    tool              text        COLLATE "C" NOT NULL,
    -- The first in the verdict.
    policy_id         text        COLLATE "C" NOT NULL,
    policy_version    bigint      NOT NULL,
    policy_name       text        NOT NULL,
    severity          text        CONSTRAINT approvals_severity_known CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    status            text        NOT NULL CONSTRAINT approvals_status_known
                                  CHECK (status IN ('pending', 'approved', 'rejected', 'expired', 'cancelled')),
    quorum            integer     NOT NULL,
    approved          integer     NOT NULL,
    requested_at      timestamptz NOT NULL,
    requester_id      uuid        NOT NULL,
    requester_kind    text        NOT NULL,
    requester_role    text        NOT NULL,
    decide_by         timestamptz NOT NULL,
    decided_at        timestamptz,
    use_by            timestamptz,
    used_at           timestamptz,
    arguments_digest  bytea       NOT NULL CONSTRAINT approvals_digest_whole CHECK (length(arguments_digest) = 32),
    edited_arguments  text,
    CONSTRAINT approvals_pkey PRIMARY KEY (tenant_id, mode, approval_id),
    CONSTRAINT approvals_decided_whole CHECK ((decided_at IS NULL) = (status = 'pending'))
) WITH (fillfactor = 70);
COMMENT ON TABLE approvals.approvals IS 'Every tool call that a policy held';
CREATE INDEX approvals_by_time ON approvals.approvals (tenant_id, mode, requested_at DESC, approval_id DESC);
CREATE INDEX approvals_pending ON approvals.approvals (tenant_id, mode, requested_at DESC, approval_id DESC) WHERE status = 'pending';
CREATE INDEX approvals_alike ON approvals.approvals (tenant_id, mode, agent_id, tool, requested_at DESC, approval_id DESC);

-- Every vote, as it lies in the log.
CREATE TABLE approvals.votes (
    tenant_id    uuid        NOT NULL,
    mode         text        NOT NULL CONSTRAINT votes_mode_known CHECK (mode IN ('live', 'sandbox')),
    approval_id  uuid        NOT NULL,
    partition    integer     NOT NULL,
    log_offset   bigint      NOT NULL,
    voted_at     timestamptz NOT NULL,
    payload      bytea       NOT NULL,
    CONSTRAINT votes_pkey PRIMARY KEY (tenant_id, mode, approval_id, partition, log_offset)
);
COMMENT ON TABLE approvals.votes IS 'Every approval and rejection by a person';

-- Every change of an approval by where it lies in the log: what a watch of the queue goes along.
CREATE TABLE approvals.changes (
    tenant_id    uuid    NOT NULL,
    mode         text    NOT NULL CONSTRAINT changes_mode_known CHECK (mode IN ('live', 'sandbox')),
    partition    integer NOT NULL,
    log_offset   bigint  NOT NULL,
    approval_id  uuid    NOT NULL,
    CONSTRAINT changes_pkey PRIMARY KEY (tenant_id, mode, partition, log_offset)
);
COMMENT ON TABLE approvals.changes IS 'Every change of an approval, in the order of the log';

-- Every version of every policy that a command has made, as the decision says it.
CREATE TABLE approvals.policy_versions (
    tenant_id   uuid        NOT NULL,
    mode        text        NOT NULL CONSTRAINT policy_versions_mode_known CHECK (mode IN ('live', 'sandbox')),
    policy_id   text        COLLATE "C" NOT NULL,
    version     bigint      NOT NULL,
    changed_at  timestamptz NOT NULL,
    payload     bytea       NOT NULL,
    CONSTRAINT policy_versions_pkey PRIMARY KEY (tenant_id, mode, policy_id, version)
);
COMMENT ON TABLE approvals.policy_versions IS 'Every version of every policy, but for defaults as they ship';

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['approvals', 'votes', 'changes', 'policy_versions'] LOOP
        EXECUTE format('ALTER TABLE approvals.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE approvals.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY %I ON approvals.%I TO runledger_approvals_writer USING (true)', name || '_writer', name);
        EXECUTE format('CREATE POLICY %I ON approvals.%I FOR SELECT TO runledger_approvals_reader
                            USING (tenant_id = nullif(current_setting(''runledger.tenant'', true), '''')::uuid
                               AND mode = current_setting(''runledger.mode'', true))', name || '_reader', name);
        EXECUTE format('GRANT SELECT ON approvals.%I TO runledger_approvals_reader', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON approvals.%I TO runledger_approvals_writer', name);
    END LOOP;
END $$;
