INSERT INTO crossings (tenant_id, mode, account_id, log_offset, name, at, available, held, overdrawn, unpaid)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::timestamptz[], $7::bigint[], $8::bigint[],
                     $9::bigint[], $10::bigint[])
