-- Keeps commands; answers which of them are new.
INSERT INTO commands (tenant_id, mode, stream, command_id, family, partition, incarnation, log_offset, request_digest, record)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[],
                     $5::text[], $6::integer[], $7::uuid[], $8::bigint[], $9::bytea[], $10::bytea[])
    ON CONFLICT DO NOTHING
RETURNING tenant_id, mode, stream, command_id
