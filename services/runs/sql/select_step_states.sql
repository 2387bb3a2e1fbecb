SELECT wanted.number, NULL::text AS tool, s.started_record, s.started_at, s.status, s.ended_record, s.ended_at, s.late
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
       WITH ORDINALITY AS wanted (tenant_id, mode, run_id, step_id, number)
  JOIN steps s USING (tenant_id, mode, run_id, step_id)
