-- The first parked record of the scope that the positions of a token reach past.
SELECT p.stream, p.family, p.partition, p.log_offset
  FROM unnest($3::text[], $4::integer[], $5::bigint[]) AS wanted (family, partition, log_offset)
  JOIN active_generation g ON true
  JOIN parked p
    ON p.tenant_id = $1 AND p.mode = $2 AND p.generation = g.generation
   AND p.family = wanted.family AND p.partition = wanted.partition AND p.log_offset <= wanted.log_offset
 ORDER BY p.recorded_at, p.log_offset
 LIMIT 1
