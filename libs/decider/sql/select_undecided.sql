-- What is to be decided in some partitions, in the order of the log of each: as many as its round takes.
SELECT c.family, c.partition, c.incarnation, c.log_offset, c.record
  FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[]) AS k (family, partition, from_offset, most)
 CROSS JOIN LATERAL (
       SELECT * FROM commands AS c
        WHERE c.family = k.family AND c.partition = k.partition AND c.log_offset >= k.from_offset
          AND c.decided_offset IS NULL
        ORDER BY c.log_offset
        LIMIT k.most) AS c
 ORDER BY c.family, c.partition, c.log_offset
