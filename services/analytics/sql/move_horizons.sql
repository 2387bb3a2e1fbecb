INSERT INTO analytics.horizons AS h (tenant_id, mode, grain, kept_from)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[])
    ON CONFLICT ON CONSTRAINT horizons_pkey DO UPDATE
   SET kept_from = greatest(h.kept_from, EXCLUDED.kept_from)
