INSERT INTO changes (tenant_id, mode, partition, log_offset, approval_id)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::integer[], $4::bigint[], $5::uuid[])
    ON CONFLICT DO NOTHING
