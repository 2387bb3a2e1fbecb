-- Keeps messages; answers which of them are new.
INSERT INTO messages (tenant_id, mode, conversation_id, message_id)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
    ON CONFLICT DO NOTHING
RETURNING tenant_id, mode, conversation_id, message_id
