-- Which of some streams are parked in a generation, and since which record.
SELECT p.tenant_id, p.mode, p.stream, min(p.log_offset)
  FROM unnest($2::uuid[], $3::text[], $4::text[]) AS k (tenant_id, mode, stream)
  JOIN parked AS p USING (tenant_id, mode, stream)
  JOIN active_generation AS a USING (generation)
 WHERE p.family = ANY ($1::text[])
 GROUP BY p.tenant_id, p.mode, p.stream
