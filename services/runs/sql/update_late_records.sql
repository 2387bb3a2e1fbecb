UPDATE records r
   SET late = true
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[]) AS came (tenant_id, mode, stream, record_id)
 WHERE r.tenant_id = came.tenant_id AND r.mode = came.mode AND r.stream = came.stream AND r.record_id = came.record_id
