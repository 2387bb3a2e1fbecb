SELECT family, partition, stream_digest, stream_key, tenant_id, mode, stream, 1::bigint AS records, log_offset, incarnation,
       record_id, type_name, reason, recorded_at, parked_at, attempts, tried_at
  FROM parked
 WHERE generation = $1 AND family = $2 AND partition = $3 AND stream_digest = $4
 ORDER BY log_offset
 LIMIT $5
