-- Nothing of a generation that was dropped: nobody would ever delete it.
INSERT INTO checkpoints (generation, family, partition, next_offset, incarnation, record_count, rolling_hash,
                         chain_head, written_at)
SELECT $1, family, partition, next_offset, incarnation, record_count, rolling_hash, chain_head, $9
  FROM unnest($2::text[], $3::integer[], $4::bigint[], $5::uuid[], $6::bigint[], $7::bytea[], $8::bytea[])
       AS new (family, partition, next_offset, incarnation, record_count, rolling_hash, chain_head)
 WHERE EXISTS (SELECT FROM generations WHERE generation = $1)
ON CONFLICT DO NOTHING
