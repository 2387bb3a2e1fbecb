SELECT wanted.number, r.started_record, r.started_at, r.phase, r.note, r.outcome, r.ended_record, r.ended_at
  FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS wanted (tenant_id, mode, run_id, number)
  JOIN runs r USING (tenant_id, mode, run_id)
