SELECT r.tenant_id, r.mode, r.run_id, r.recorded_at, count(*) AS copies
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[]) AS copy (tenant_id, mode, stream, record_id)
  JOIN records r USING (tenant_id, mode, stream, record_id)
 GROUP BY r.tenant_id, r.mode, r.stream, r.record_id
