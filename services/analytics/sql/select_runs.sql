SELECT wanted.number, r.agent_id, r.agent_version, r.model, r.space_id, r.is_reported, r.started_at, r.phase, r.ended_at,
       r.outcome, r.error_code, r.error_message, r.has_errors,
       r.charges_over_limits
  FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS wanted (tenant_id, mode, run_id, number)
  JOIN runs r USING (tenant_id, mode, run_id)
