-- Facts that are owed a decision in some partitions, in the order of the log of each: as many as a round takes.
-- Where any record is parked, those of suspended streams are left out: they would keep all behind them from
-- being read.
SELECT f.family, f.partition, f.incarnation, f.log_offset, f.record
  FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[]) AS k (family, partition, from_offset, most)
 CROSS JOIN LATERAL (
       SELECT * FROM facts AS f
        WHERE f.family = k.family AND f.partition = k.partition AND f.log_offset >= k.from_offset
          AND (NOT $5 OR NOT EXISTS (
              SELECT FROM parked AS p JOIN active_generation AS a USING (generation)
               WHERE p.family = f.family AND p.tenant_id = f.tenant_id AND p.mode = f.mode AND p.stream = f.stream))
        ORDER BY f.log_offset
        LIMIT k.most) AS f
 ORDER BY f.family, f.partition, f.log_offset
