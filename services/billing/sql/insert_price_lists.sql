INSERT INTO price_lists (tenant_id, mode, version, effective_at, payload)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::timestamptz[], $5::bytea[])
