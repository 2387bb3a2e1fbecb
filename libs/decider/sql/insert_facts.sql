-- Keeps facts that are owed a decision.
INSERT INTO facts (tenant_id, mode, stream, record_id, family, partition, incarnation, log_offset, record)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[],
                     $5::text[], $6::integer[], $7::uuid[], $8::bigint[], $9::bytea[])
    ON CONFLICT DO NOTHING
