-- Tenants, principals, keys, limits, the kill switch: the one store that is not a fold of the log.
--
-- Written by the role runledger_directory alone, which may delete nothing. The role runledger_keys
-- may call directory.authenticate() and see nothing else. Constraints are named: the service turns
-- them into answers by their names.

CREATE SCHEMA directory;

CREATE TABLE directory.tenants (
    tenant_id           uuid        NOT NULL,
    name                text        COLLATE "C" NOT NULL,
    records_per_second  bigint      NOT NULL,
    bytes_per_second    bigint      NOT NULL,
    commands_per_second bigint      NOT NULL,
    created_at          timestamptz NOT NULL,
    CONSTRAINT tenants_pkey PRIMARY KEY (tenant_id),
    CONSTRAINT tenants_name_key UNIQUE (name),
    CONSTRAINT tenants_not_nil_check CHECK (tenant_id <> '00000000-0000-0000-0000-000000000000'),
    CONSTRAINT tenants_name_check CHECK (char_length(name) BETWEEN 1 AND 128),
    CONSTRAINT tenants_limits_check CHECK (
        records_per_second BETWEEN 1 AND 10000000
        AND bytes_per_second BETWEEN 1024 AND 10000000000
        AND commands_per_second BETWEEN 1 AND 1000000
    )
);

-- `realm` is the tenant, or the nil UUID for the operators, who have none: so that names are unique
-- and lists are walked by an index there too.
CREATE TABLE directory.principals (
    principal_id uuid        NOT NULL,
    tenant_id    uuid,
    realm        uuid        NOT NULL GENERATED ALWAYS AS (coalesce(tenant_id, '00000000-0000-0000-0000-000000000000')) STORED,
    name         text        COLLATE "C" NOT NULL,
    kind         text        NOT NULL,
    role         text        NOT NULL,
    created_at   timestamptz NOT NULL,
    disabled_at  timestamptz,
    CONSTRAINT principals_pkey PRIMARY KEY (principal_id),
    CONSTRAINT principals_realm_key UNIQUE (realm, principal_id),
    CONSTRAINT principals_name_key UNIQUE (realm, name),
    CONSTRAINT principals_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES directory.tenants (tenant_id),
    CONSTRAINT principals_name_check CHECK (char_length(name) BETWEEN 1 AND 128),
    CONSTRAINT principals_kind_check CHECK (kind IN ('user', 'agent', 'service')),
    CONSTRAINT principals_role_check CHECK (role IN ('admin', 'reviewer', 'viewer', 'agent', 'operator')),
    CONSTRAINT principals_operator_check CHECK ((role = 'operator') = (tenant_id IS NULL))
);

-- Of a key only its SHA-256 and what a masked listing shows: the first and the last four digits.
CREATE TABLE directory.api_keys (
    key_id       uuid        NOT NULL,
    realm        uuid        NOT NULL,
    principal_id uuid        NOT NULL,
    digest       bytea       NOT NULL,
    head         text        NOT NULL,
    tail         text        NOT NULL,
    label        text        NOT NULL,
    mode         text        NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,
    revoked_at   timestamptz,
    replaced_by  uuid,
    CONSTRAINT api_keys_pkey PRIMARY KEY (key_id),
    CONSTRAINT api_keys_digest_key UNIQUE (digest),
    CONSTRAINT api_keys_replaced_by_key UNIQUE (replaced_by),
    CONSTRAINT api_keys_principal_fkey FOREIGN KEY (realm, principal_id)
        REFERENCES directory.principals (realm, principal_id),
    CONSTRAINT api_keys_replaced_by_fkey FOREIGN KEY (replaced_by) REFERENCES directory.api_keys (key_id),
    CONSTRAINT api_keys_digest_check CHECK (octet_length(digest) = 32),
    CONSTRAINT api_keys_masked_check CHECK (head ~ '^[0-9a-f]{4}$' AND tail ~ '^[0-9a-f]{4}$'),
    CONSTRAINT api_keys_label_check CHECK (char_length(label) <= 128),
    CONSTRAINT api_keys_mode_check CHECK (mode IN ('live', 'sandbox')),
    CONSTRAINT api_keys_operator_check CHECK (mode = 'live' OR realm <> '00000000-0000-0000-0000-000000000000')
);

CREATE INDEX api_keys_realm_idx ON directory.api_keys (realm, created_at DESC, key_id DESC);
CREATE INDEX api_keys_principal_idx ON directory.api_keys (realm, principal_id, created_at DESC, key_id DESC);

-- One row a target, made at its first use; on while `since` is set. tenant_id null: all tenants.
CREATE TABLE directory.kill_switches (
    tenant_id   uuid,
    since       timestamptz,
    reason      text,
    set_by      uuid        NOT NULL,
    by_operator boolean     NOT NULL,
    CONSTRAINT kill_switches_target_key UNIQUE NULLS NOT DISTINCT (tenant_id),
    CONSTRAINT kill_switches_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES directory.tenants (tenant_id),
    CONSTRAINT kill_switches_set_by_fkey FOREIGN KEY (set_by) REFERENCES directory.principals (principal_id),
    CONSTRAINT kill_switches_reason_check CHECK (char_length(reason) BETWEEN 1 AND 1024),
    CONSTRAINT kill_switches_on_check CHECK ((since IS NULL) = (reason IS NULL))
);

-- What changed, by whom: written in the transaction of the change, relayed into the log afterwards.
-- A change locks its subject before it comes here, so of two changes to one subject the earlier has
-- the lower sequence. tenant_id null: a matter of the operators.
CREATE TABLE directory.outbox (
    sequence   bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    id         uuid        NOT NULL,
    tenant_id  uuid,
    mode       text        NOT NULL,
    at         timestamptz NOT NULL,
    actor_id   uuid        NOT NULL,
    actor_kind text        NOT NULL,
    actor_role text        NOT NULL,
    type       text        NOT NULL,
    subject_id uuid,
    detail     jsonb       NOT NULL,
    relayed_at timestamptz,
    CONSTRAINT outbox_pkey PRIMARY KEY (sequence),
    CONSTRAINT outbox_id_key UNIQUE (id),
    CONSTRAINT outbox_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES directory.tenants (tenant_id),
    CONSTRAINT outbox_actor_fkey FOREIGN KEY (actor_id) REFERENCES directory.principals (principal_id),
    CONSTRAINT outbox_mode_check CHECK (mode IN ('live', 'sandbox'))
);

CREATE INDEX outbox_unrelayed_idx ON directory.outbox (sequence) WHERE relayed_at IS NULL;

-- Who a key is and what it may do, by the key's SHA-256. No row: the key is unknown, revoked or
-- expired, or its principal is disabled. For an operator's key the tenant, its limits and its switch
-- are null and the mode is 'live'.
--
-- Runs with the rights of its owner, because whoever asks has no scope yet; hence the fixed
-- search_path and the body that is bound to its tables when it is made.
CREATE FUNCTION directory.authenticate(digest bytea)
RETURNS TABLE (
    key_id              uuid,
    principal_id        uuid,
    principal_name      text,
    principal_kind      text,
    role                text,
    tenant_id           uuid,
    tenant_name         text,
    mode                text,
    records_per_second  bigint,
    bytes_per_second    bigint,
    commands_per_second bigint,
    kill_tenant_reason  text,
    kill_global_reason  text
)
LANGUAGE sql STABLE STRICT SECURITY DEFINER ROWS 1
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT k.key_id, p.principal_id, p.name, p.kind, p.role, t.tenant_id, t.name, k.mode,
           t.records_per_second, t.bytes_per_second, t.commands_per_second,
           own.reason, everyones.reason
      FROM directory.api_keys AS k
      JOIN directory.principals AS p ON p.principal_id = k.principal_id
      LEFT JOIN directory.tenants AS t ON t.tenant_id = p.tenant_id
      LEFT JOIN directory.kill_switches AS own ON own.tenant_id = p.tenant_id
      LEFT JOIN directory.kill_switches AS everyones ON everyones.tenant_id IS NULL
     WHERE k.digest = authenticate.digest
       AND k.revoked_at IS NULL
       AND (k.expires_at IS NULL OR k.expires_at > statement_timestamp())
       AND p.disabled_at IS NULL;
END;

REVOKE ALL ON FUNCTION directory.authenticate(bytea) FROM PUBLIC;
GRANT USAGE ON SCHEMA directory TO runledger_directory, runledger_keys;
GRANT EXECUTE ON FUNCTION directory.authenticate(bytea) TO runledger_directory, runledger_keys;

GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA directory TO runledger_directory;
GRANT UPDATE (records_per_second, bytes_per_second, commands_per_second) ON directory.tenants TO runledger_directory;
GRANT UPDATE (role, disabled_at) ON directory.principals TO runledger_directory;
GRANT UPDATE (expires_at, revoked_at, replaced_by) ON directory.api_keys TO runledger_directory;
GRANT UPDATE (since, reason, set_by, by_operator) ON directory.kill_switches TO runledger_directory;
GRANT UPDATE (relayed_at) ON directory.outbox TO runledger_directory;

ALTER TABLE directory.tenants ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE directory.principals ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE directory.api_keys ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE directory.kill_switches ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE directory.outbox ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY writer ON directory.tenants TO runledger_directory USING (true) WITH CHECK (true);
CREATE POLICY writer ON directory.principals TO runledger_directory USING (true) WITH CHECK (true);
CREATE POLICY writer ON directory.api_keys TO runledger_directory USING (true) WITH CHECK (true);
CREATE POLICY writer ON directory.kill_switches TO runledger_directory USING (true) WITH CHECK (true);
CREATE POLICY writer ON directory.outbox TO runledger_directory USING (true) WITH CHECK (true);

-- Forced row-level security binds the owner too, and authenticate() reads as the owner. It may read
-- what that function needs, and no more: the owner neither changes a row nor sees the outbox.
CREATE POLICY lookup ON directory.tenants FOR SELECT TO runledger_migrator USING (true);
CREATE POLICY lookup ON directory.principals FOR SELECT TO runledger_migrator USING (true);
CREATE POLICY lookup ON directory.api_keys FOR SELECT TO runledger_migrator USING (true);
CREATE POLICY lookup ON directory.kill_switches FOR SELECT TO runledger_migrator USING (true);
