-- Keeps the identity of facts; answers which of them are new.
INSERT INTO identities (tenant_id, mode, stream, record_id)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[])
    ON CONFLICT DO NOTHING
RETURNING tenant_id, mode, stream, record_id
