-- States of streams, and of those of their parts that have changed with them.
WITH changed_parts AS (
     INSERT INTO parts (tenant_id, mode, stream, part, family, partition, state, due_at)
     SELECT * FROM unnest($8::uuid[], $9::text[], $10::text[], $11::text[], $12::text[], $13::integer[], $14::bytea[], $15::timestamptz[])
         ON CONFLICT (tenant_id, mode, stream, part) DO UPDATE SET state = EXCLUDED.state, due_at = EXCLUDED.due_at)
INSERT INTO streams (tenant_id, mode, stream, family, partition, version, state)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::bigint[], $7::bytea[])
    ON CONFLICT (tenant_id, mode, stream) DO UPDATE SET version = EXCLUDED.version, state = EXCLUDED.state
