INSERT INTO journal (tenant_id, mode, account_id, log_offset, at, payload)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::timestamptz[], $6::bytea[])
