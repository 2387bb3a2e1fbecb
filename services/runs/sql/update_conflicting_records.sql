UPDATE records r
   SET conflicts = r.conflicts + seen.conflicts
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::bigint[])
       AS seen (tenant_id, mode, stream, record_id, conflicts)
 WHERE r.tenant_id = seen.tenant_id AND r.mode = seen.mode AND r.stream = seen.stream AND r.record_id = seen.record_id
RETURNING r.tenant_id, r.mode, r.run_id, r.recorded_at, seen.conflicts
