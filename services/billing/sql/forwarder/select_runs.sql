SELECT r.tenant_id, r.mode, r.run_id, r.account_id, r.agent_id, r.model, r.space_id, r.started_at, r.end_id, r.ended_at, r.outcome
  FROM unnest($1::uuid[], $2::text[], $3::text[]) AS k (tenant_id, mode, run_id)
  JOIN runs AS r USING (tenant_id, mode, run_id)
