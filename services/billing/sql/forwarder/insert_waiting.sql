INSERT INTO waiting (tenant_id, mode, run_id, source_id, log_offset, meter, quantity, dimensions, tool_call_id, used_at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::bigint[], $6::text[], $7::bigint[], $8::text[], $9::text[], $10::timestamptz[])
    ON CONFLICT DO NOTHING
