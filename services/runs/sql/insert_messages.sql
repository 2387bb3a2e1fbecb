-- Returns how many new messages each run got: only those that really went in.
WITH inserted AS (
    INSERT INTO messages (tenant_id, mode, conversation_id, message_id, record_id, log_offset, sender_id, sender_role,
                          kind, chars, in_reply_to, run_id, occurred_at)
    SELECT *
      FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::bigint[], $7::text[], $8::text[],
                  $9::text[], $10::bigint[], $11::text[], $12::text[], $13::timestamptz[])
    ON CONFLICT ON CONSTRAINT messages_pkey DO NOTHING
    RETURNING tenant_id, mode, run_id
)
SELECT tenant_id, mode, run_id, count(*) AS messages
  FROM inserted
 WHERE run_id IS NOT NULL
 GROUP BY tenant_id, mode, run_id
