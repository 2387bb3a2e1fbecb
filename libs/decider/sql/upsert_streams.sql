INSERT INTO streams (tenant_id, mode, stream, family, partition, version, state)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::bigint[], $7::bytea[])
    ON CONFLICT (tenant_id, mode, stream) DO UPDATE
   SET version = EXCLUDED.version, state = EXCLUDED.state
