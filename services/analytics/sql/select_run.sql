SELECT run_id, agent_id, agent_version, model, space_id, started_at, phase, ended_at, outcome,
       coalesce(error_code, '') AS error_code, coalesce(error_message, '') AS error_message, charges_over_limits
  FROM runs
 WHERE tenant_id = $1 AND mode = $2 AND run_id = $3
   AND (is_reported OR started_at IS NOT NULL OR ended_at IS NOT NULL OR agent_id <> '')
