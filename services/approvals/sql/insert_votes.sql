INSERT INTO votes (tenant_id, mode, approval_id, partition, log_offset, voted_at, payload)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::integer[], $5::bigint[], $6::timestamptz[], $7::bytea[])
    ON CONFLICT DO NOTHING
