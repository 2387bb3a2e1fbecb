SELECT family, partition, incarnation, next_offset, last_digest, chain_head, voids_in_a_row,
       record_count, rolling_hash, last_recorded_at, parked_records
  FROM unnest($2::text[], $3::integer[]) AS wanted (family, partition)
  JOIN cursors USING (family, partition)
 WHERE generation = $1
