-- Which of these streams are parked, by their place in the list.
SELECT wanted.number
  FROM unnest($2::text[], $3::integer[], $4::bytea[]) WITH ORDINALITY AS wanted (family, partition, stream_digest, number)
 WHERE EXISTS (
       SELECT FROM parked p
        WHERE p.generation = $1 AND p.family = wanted.family AND p.partition = wanted.partition
          AND p.stream_digest = wanted.stream_digest)
