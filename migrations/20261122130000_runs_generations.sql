-- Generations of the read model of runs, so that one can be built anew beside the one that is served.
--
-- The first generation's tables lie in the schema `runs`, those of generation n in `runs_<n>`, made
-- by `runledger rebuild`. Cursors of all whole generations stay in runs.cursors; while one is being
-- built, its own lie beside its tables, unlogged like them: what a crash empties it empties together.

-- Where unqualified names of the generation that is served are looked up. Readers take it from
-- their own snapshot, so that data, cursors and generation always belong together.
ALTER TABLE runs.active_generation
    ADD COLUMN search_path text NOT NULL DEFAULT 'runs',
    -- When the last switch was made; null: never.
    ADD COLUMN switched_at timestamptz;

-- Every generation there is.
CREATE TABLE runs.generations (
    generation  integer     PRIMARY KEY CHECK (generation > 0),
    -- Where its tables lie.
    schema_name text        NOT NULL UNIQUE,
    -- Whether its tables are logged and its cursors in runs.cursors.
    is_whole    boolean     NOT NULL,
    made_at     timestamptz NOT NULL
);
COMMENT ON TABLE runs.generations IS 'Generations of the read model; active_generation says which one is served';
INSERT INTO runs.generations (generation, schema_name, is_whole, made_at) VALUES (1, 'runs', true, now());
GRANT SELECT ON runs.generations TO runledger_runs_writer, runledger_runs_reader;

-- A frozen cursor does not move: its generation is not served. The switch freezes the old ones in the
-- transaction in which it names the new, so that a projector that has not heard of it commits nothing.
ALTER TABLE runs.cursors ADD COLUMN frozen boolean NOT NULL DEFAULT false;
