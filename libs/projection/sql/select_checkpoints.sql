SELECT family, partition, incarnation, next_offset, NULL::bytea AS last_digest, chain_head, 0 AS voids_in_a_row,
       record_count, rolling_hash, NULL::timestamptz AS last_recorded_at,
       0::bigint AS parked_records
  FROM checkpoints
 WHERE generation = $1
