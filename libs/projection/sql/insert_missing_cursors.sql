-- None of a generation that was dropped: a projector that has not heard of it would begin anew.
INSERT INTO cursors (generation, family, partition, next_offset, rolling_hash)
SELECT $1, family, partition, 0, decode(repeat('00', 32), 'hex')
  FROM unnest($2::text[], $3::integer[]) AS wanted (family, partition)
 WHERE EXISTS (SELECT FROM generations WHERE generation = $1)
 ORDER BY family, partition
ON CONFLICT DO NOTHING
