-- Parked streams, each with the record that it stands still at.
SELECT p.family, p.partition, p.stream_digest, p.stream_key, p.tenant_id, p.mode, p.stream, s.records, p.log_offset,
       p.incarnation, p.record_id, p.type_name, p.reason, p.recorded_at, p.parked_at, p.attempts, p.tried_at
  FROM (SELECT family, partition, stream_digest, min(log_offset) AS log_offset, count(*) AS records
          FROM parked
         WHERE generation = $1
           AND ($2::uuid IS NULL OR tenant_id = $2)
           AND ($3::text IS NULL OR mode = $3)
           AND ($4::text IS NULL OR coalesce(stream, stream_key) = $4)
         GROUP BY family, partition, stream_digest) s
  JOIN parked p
    ON p.generation = $1 AND p.family = s.family AND p.partition = s.partition AND p.log_offset = s.log_offset
 ORDER BY p.parked_at, p.family, p.partition, p.log_offset
 LIMIT $5
