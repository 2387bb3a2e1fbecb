INSERT INTO parts (tenant_id, mode, stream, part, family, partition, state, due_at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::bytea[], $8::timestamptz[])
    ON CONFLICT (tenant_id, mode, stream, part) DO UPDATE
   SET state = EXCLUDED.state, due_at = EXCLUDED.due_at
