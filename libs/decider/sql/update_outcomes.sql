-- The first decision in force that names a command is its outcome.
UPDATE commands AS c
   SET decided_offset = d.log_offset, decided_at = d.at, decision_type = d.type, decision = d.payload, record = NULL
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::bigint[], $6::timestamptz[], $7::text[], $8::bytea[])
       AS d (tenant_id, mode, stream, command_id, log_offset, at, type, payload)
 WHERE c.tenant_id = d.tenant_id AND c.mode = d.mode AND c.stream = d.stream AND c.command_id = d.command_id
   AND c.decided_offset IS NULL
