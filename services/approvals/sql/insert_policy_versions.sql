INSERT INTO policy_versions (tenant_id, mode, policy_id, version, changed_at, payload)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::timestamptz[], $6::bytea[])
    ON CONFLICT DO NOTHING
