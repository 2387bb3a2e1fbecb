SELECT run_id
  FROM runs
 WHERE tenant_id = $1 AND mode = $2 AND agent_id = $3 AND outcome = 'failed'
 ORDER BY coalesce(started_at, ended_at) DESC, run_id DESC
 LIMIT 1
