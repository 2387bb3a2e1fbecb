-- The first decision in force that names a command is its outcome. Beside it, of each partition: the
-- moment of the last decision, and the highest version of rules.
WITH moments AS (
     INSERT INTO decided AS d (family, partition, last_at, rules_version)
     SELECT * FROM unnest($9::text[], $10::integer[], $11::timestamptz[], $12::bigint[])
         ON CONFLICT (family, partition) DO UPDATE
        SET last_at = greatest(d.last_at, EXCLUDED.last_at),
            rules_version = greatest(d.rules_version, EXCLUDED.rules_version))
UPDATE commands AS c
   SET decided_offset = d.log_offset, decided_at = d.at, decision_type = d.type, decision = d.payload, record = NULL
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::bigint[], $6::timestamptz[], $7::text[], $8::bytea[])
       AS d (tenant_id, mode, stream, command_id, log_offset, at, type, payload)
 WHERE c.tenant_id = d.tenant_id AND c.mode = d.mode AND c.stream = d.stream AND c.command_id = d.command_id
   AND coalesce(c.decided_offset, -1) < 0
