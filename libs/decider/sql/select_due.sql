-- Parts that are owed a decision nobody asked for, the longest owed first.
SELECT p.tenant_id, p.mode, p.stream, p.part, p.family, p.partition
  FROM unnest($1::text[], $2::integer[]) AS k (family, partition)
 CROSS JOIN LATERAL (
       SELECT * FROM parts AS p
        WHERE p.family = k.family AND p.partition = k.partition AND p.due_at <= $3
        ORDER BY p.due_at
        LIMIT $4) AS p
 ORDER BY p.family, p.partition, p.due_at, p.tenant_id, p.mode, p.stream, p.part
