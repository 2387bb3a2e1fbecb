-- Rows to lock, of runs that may not have been heard of.
INSERT INTO runs (tenant_id, mode, run_id)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[])
    ON CONFLICT DO NOTHING
