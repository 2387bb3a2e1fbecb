-- From when on rollups are kept, by scope and grain; without a row: from the first. Outside the generations: every
-- fold, of those that are served and of those that are built, leaves out what begins before. Only ever moved forward,
-- and only under ACCESS EXCLUSIVE: whoever adds to rollups reads this table in the statement that adds, so that after
-- such a move nothing older can come to be, and what is older can be deleted at leisure.
CREATE TABLE analytics.horizons (
    tenant_id  uuid        NOT NULL,
    mode       text        NOT NULL CONSTRAINT horizons_mode_known CHECK (mode IN ('live', 'sandbox')),
    grain      text        COLLATE "C" NOT NULL CONSTRAINT horizons_grain_known CHECK (grain IN ('minute', 'quarter', 'day')),
    kept_from  timestamptz NOT NULL,
    CONSTRAINT horizons_pkey PRIMARY KEY (tenant_id, mode, grain)
);
COMMENT ON TABLE analytics.horizons IS 'From when on rollups are kept, by scope and grain';

ALTER TABLE analytics.horizons ENABLE ROW LEVEL SECURITY;
ALTER TABLE analytics.horizons FORCE ROW LEVEL SECURITY;
CREATE POLICY horizons_writer ON analytics.horizons TO runledger_analytics_writer USING (true);
CREATE POLICY horizons_reader ON analytics.horizons FOR SELECT TO runledger_analytics_reader
    USING (tenant_id = nullif(current_setting('runledger.tenant', true), '')::uuid
           AND mode = current_setting('runledger.mode', true));
GRANT SELECT ON analytics.horizons TO runledger_analytics_reader;
GRANT SELECT, INSERT, UPDATE ON analytics.horizons TO runledger_analytics_writer;
