UPDATE cursors
   SET next_offset = new.next_offset,
       incarnation = new.incarnation,
       last_digest = new.last_digest,
       chain_head = new.chain_head,
       voids_in_a_row = new.voids_in_a_row,
       record_count = new.record_count,
       rolling_hash = new.rolling_hash,
       last_recorded_at = new.last_recorded_at
  FROM unnest($2::text[], $3::integer[], $4::bigint[], $5::bigint[], $6::uuid[], $7::bytea[], $8::bytea[],
              $9::integer[], $10::bigint[], $11::bytea[], $12::timestamptz[])
       AS new (family, partition, expected, next_offset, incarnation, last_digest, chain_head,
               voids_in_a_row, record_count, rolling_hash, last_recorded_at)
 WHERE cursors.generation = $1
   AND cursors.family = new.family
   AND cursors.partition = new.partition
   AND cursors.next_offset = new.expected
   AND NOT cursors.frozen
RETURNING cursors.family, cursors.partition, cursors.parked_records
