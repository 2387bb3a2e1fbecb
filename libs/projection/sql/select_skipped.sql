SELECT s.family, s.partition, s.log_offset
  FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::uuid[]) AS wanted (family, partition, next_offset, incarnation)
  JOIN skipped s
    ON s.family = wanted.family AND s.partition = wanted.partition AND s.log_offset >= wanted.next_offset
   AND (wanted.incarnation IS NULL OR s.incarnation = wanted.incarnation)
