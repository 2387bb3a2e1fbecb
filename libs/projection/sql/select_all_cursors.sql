SELECT family, partition, incarnation, next_offset, last_digest, chain_head, voids_in_a_row,
       record_count, rolling_hash, last_recorded_at, parked_records
  FROM cursors
 WHERE generation = $1
