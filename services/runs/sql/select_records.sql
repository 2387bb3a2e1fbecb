-- The records asked for, in that order, until their payloads fill the answer; always the first.
-- Asked for by values and not joined in the lists: a join would compute the stream's name, and
-- row-level security lets no computed value near an index.
SELECT number, record_id, family, partition, log_offset, occurred_at, recorded_at, actor_id, actor_kind, actor_role,
       conflicts, type_name, payload
  FROM (SELECT asked.number, r.record_id, r.family, r.partition, r.log_offset, r.occurred_at, r.recorded_at,
               r.actor_id, r.actor_kind, r.actor_role, r.conflicts, r.type_name, r.payload,
               sum(octet_length(r.payload)) OVER (ORDER BY asked.number ROWS UNBOUNDED PRECEDING)
                   - octet_length(r.payload) AS bytes_before
          FROM unnest($3::text[], $4::uuid[]) WITH ORDINALITY AS asked (stream, record_id, number)
          JOIN records r ON r.tenant_id = $1 AND r.mode = $2 AND r.stream = asked.stream
                        AND r.record_id = asked.record_id) AS found
 WHERE bytes_before < $5
 ORDER BY number
