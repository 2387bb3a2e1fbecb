-- Prices and credits: what people ask for. Written from decisions in force, in the transaction that folds
-- them; a row's key is the place of its decision in the log, so that nothing can go in twice.

-- Every decision about an account, as it lies in the log, and now and then what they have come to: from
-- the last of those before it any moment is a short fold away.
CREATE TABLE billing.journal (
    tenant_id   uuid        NOT NULL,
    mode        text        NOT NULL CONSTRAINT journal_mode_known CHECK (mode IN ('live', 'sandbox')),
    account_id  text        COLLATE "C" NOT NULL,
    log_offset  bigint      NOT NULL,
    at          timestamptz NOT NULL,
    payload     bytea       NOT NULL,
    CONSTRAINT journal_pkey PRIMARY KEY (tenant_id, mode, account_id, log_offset)
);
COMMENT ON TABLE billing.journal IS 'Every decision about an account, in the order of the log';
CREATE TABLE billing.snapshots (
    tenant_id   uuid        NOT NULL,
    mode        text        NOT NULL CONSTRAINT snapshots_mode_known CHECK (mode IN ('live', 'sandbox')),
    account_id  text        COLLATE "C" NOT NULL,
    log_offset  bigint      NOT NULL,
    at          timestamptz NOT NULL,
    state       bytea       NOT NULL,
    CONSTRAINT snapshots_pkey PRIMARY KEY (tenant_id, mode, account_id, log_offset)
);
COMMENT ON TABLE billing.snapshots IS 'What is known of an account behind some of its decisions';
CREATE INDEX snapshots_by_time ON billing.snapshots (tenant_id, mode, account_id, at, log_offset);

-- Every transaction with the balance behind it. Its postings sum to zero: ledger, grant or hold where
-- there is one, and amount of each leg, in their order.
CREATE TABLE billing.entries (
    tenant_id   uuid        NOT NULL,
    mode        text        NOT NULL CONSTRAINT entries_mode_known CHECK (mode IN ('live', 'sandbox')),
    account_id  text        COLLATE "C" NOT NULL,
    log_offset  bigint      NOT NULL,
    -- The how manieth transaction of its decision.
    ordinal     integer     NOT NULL,
    kind        text        NOT NULL CONSTRAINT entries_kind_known
                            CHECK (kind IN ('initial', 'credit', 'debit', 'refund', 'expiration', 'adjustment', 'write_off', 'hold', 'release')),
    at          timestamptz NOT NULL,
    -- Of what the customer has: available and held, less what is owed. Micros, as all amounts.
    amount      bigint      NOT NULL,
    available   bigint      NOT NULL,
    held        bigint      NOT NULL CONSTRAINT entries_held_counted CHECK (held >= 0),
    overdrawn   bigint      NOT NULL CONSTRAINT entries_overdrawn_counted CHECK (overdrawn >= 0),
    unpaid      bigint      NOT NULL CONSTRAINT entries_unpaid_counted CHECK (unpaid >= 0),
    ledgers     text[]      NOT NULL,
    ledger_ids  uuid[]      NOT NULL,
    amounts     bigint[]    NOT NULL,
    -- The line of the charge that it pays.
    line        integer,
    -- The command that it answers; null: nobody has asked.
    command_id  uuid,
    -- Who asked, and why.
    by_id       uuid,
    by_kind     text,
    by_role     text,
    reason      text        NOT NULL,
    CONSTRAINT entries_pkey PRIMARY KEY (tenant_id, mode, account_id, log_offset, ordinal),
    CONSTRAINT entries_legs_whole CHECK (cardinality(ledgers) = cardinality(amounts) AND cardinality(ledgers) = cardinality(ledger_ids))
);
COMMENT ON TABLE billing.entries IS 'Every transaction of every account, with the balance behind it';

-- What each usage was charged.
CREATE TABLE billing.charges (
    tenant_id      uuid        NOT NULL,
    mode           text        NOT NULL CONSTRAINT charges_mode_known CHECK (mode IN ('live', 'sandbox')),
    account_id     text        COLLATE "C" NOT NULL,
    log_offset     bigint      NOT NULL,
    line           integer     NOT NULL,
    -- The record in the stream of the account, and the one that it was made of.
    usage_id       uuid        NOT NULL,
    source_id      uuid,
    source_stream  text,
    run_id         text        COLLATE "C" NOT NULL,
    agent_id       text        COLLATE "C" NOT NULL,
    meter          text        COLLATE "C" NOT NULL,
    quantity       bigint      NOT NULL,
    dimensions     text        NOT NULL,
    used_at        timestamptz NOT NULL,
    charged_at     timestamptz NOT NULL,
    pricing        text        NOT NULL CONSTRAINT charges_pricing_known
                               CHECK (pricing IN ('priced', 'unpriced', 'overflow', 'rejected', 'undecidable')),
    price_version  bigint      NOT NULL,
    rule_id        text        NOT NULL,
    free           bigint      NOT NULL,
    billable       bigint      NOT NULL,
    amount         bigint      NOT NULL,
    late           boolean     NOT NULL,
    over_limits    text[]      NOT NULL,
    CONSTRAINT charges_pkey PRIMARY KEY (tenant_id, mode, account_id, log_offset, line)
);
COMMENT ON TABLE billing.charges IS 'What each usage was charged, and by which price';
CREATE INDEX charges_of_run ON billing.charges (tenant_id, mode, run_id, log_offset, line) WHERE run_id <> '';
CREATE INDEX charges_notable ON billing.charges (tenant_id, mode, account_id, log_offset, line)
    WHERE pricing <> 'priced' OR late OR over_limits <> '{}';

-- What was charged for usage of each quarter of an hour: every zone's days and months begin with one.
CREATE TABLE billing.spending (
    tenant_id   uuid        NOT NULL,
    mode        text        NOT NULL CONSTRAINT spending_mode_known CHECK (mode IN ('live', 'sandbox')),
    account_id  text        COLLATE "C" NOT NULL,
    used_from   timestamptz NOT NULL,
    agent_id    text        COLLATE "C" NOT NULL,
    meter       text        COLLATE "C" NOT NULL,
    model       text        COLLATE "C" NOT NULL,
    tool        text        COLLATE "C" NOT NULL,
    space       text        COLLATE "C" NOT NULL,
    amount      numeric     NOT NULL,
    quantity    numeric     NOT NULL,
    lines       bigint      NOT NULL,
    unpriced    bigint      NOT NULL,
    CONSTRAINT spending_pkey PRIMARY KEY (tenant_id, mode, account_id, used_from, agent_id, meter, model, tool, space)
) WITH (fillfactor = 70);
COMMENT ON TABLE billing.spending IS 'What was charged for usage of each quarter of an hour';
CREATE TABLE billing.run_spending (
    tenant_id   uuid        NOT NULL,
    mode        text        NOT NULL CONSTRAINT run_spending_mode_known CHECK (mode IN ('live', 'sandbox')),
    account_id  text        COLLATE "C" NOT NULL,
    run_id      text        COLLATE "C" NOT NULL,
    used_from   timestamptz NOT NULL,
    agent_id    text        COLLATE "C" NOT NULL,
    meter       text        COLLATE "C" NOT NULL,
    amount      numeric     NOT NULL,
    quantity    numeric     NOT NULL,
    lines       bigint      NOT NULL,
    unpriced    bigint      NOT NULL,
    CONSTRAINT run_spending_pkey PRIMARY KEY (tenant_id, mode, account_id, run_id, used_from, agent_id, meter)
) WITH (fillfactor = 70);
COMMENT ON TABLE billing.run_spending IS 'The same by run';
CREATE INDEX run_spending_by_time ON billing.run_spending (tenant_id, mode, account_id, used_from);

-- When thresholds were crossed: what is to be told to whoever set them.
CREATE TABLE billing.crossings (
    tenant_id   uuid        NOT NULL,
    mode        text        NOT NULL CONSTRAINT crossings_mode_known CHECK (mode IN ('live', 'sandbox')),
    account_id  text        COLLATE "C" NOT NULL,
    log_offset  bigint      NOT NULL,
    name        text        COLLATE "C" NOT NULL,
    at          timestamptz NOT NULL,
    available   bigint      NOT NULL,
    held        bigint      NOT NULL,
    overdrawn   bigint      NOT NULL,
    unpaid      bigint      NOT NULL,
    CONSTRAINT crossings_pkey PRIMARY KEY (tenant_id, mode, account_id, log_offset, name)
);
COMMENT ON TABLE billing.crossings IS 'When thresholds were crossed';

-- Every version of the prices, as its decision says it.
CREATE TABLE billing.price_lists (
    tenant_id     uuid        NOT NULL,
    mode          text        NOT NULL CONSTRAINT price_lists_mode_known CHECK (mode IN ('live', 'sandbox')),
    version       bigint      NOT NULL,
    effective_at  timestamptz NOT NULL,
    payload       bytea       NOT NULL,
    CONSTRAINT price_lists_pkey PRIMARY KEY (tenant_id, mode, version)
);
COMMENT ON TABLE billing.price_lists IS 'Every version of the prices';

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['journal', 'snapshots', 'entries', 'charges', 'spending', 'run_spending', 'crossings', 'price_lists'] LOOP
        EXECUTE format('ALTER TABLE billing.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE billing.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY %I ON billing.%I TO runledger_billing_writer USING (true)', name || '_writer', name);
        EXECUTE format('CREATE POLICY %I ON billing.%I FOR SELECT TO runledger_billing_reader
                            USING (tenant_id = nullif(current_setting(''runledger.tenant'', true), '''')::uuid
                               AND mode = current_setting(''runledger.mode'', true))', name || '_reader', name);
        EXECUTE format('GRANT SELECT ON billing.%I TO runledger_billing_reader', name);
        EXECUTE format('GRANT SELECT, INSERT ON billing.%I TO runledger_billing_writer', name);
    END LOOP;
END $$;
-- Only sums change; what was written of money never does.
GRANT UPDATE ON billing.spending, billing.run_spending TO runledger_billing_writer;
