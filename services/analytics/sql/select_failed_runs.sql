-- Runs that failed and began in a range, the latest first. A filter that is NULL lets all pass.
SELECT run_id, agent_id, agent_version, model, space_id, started_at, ended_at, coalesce(error_code, '') AS error_code,
       coalesce(error_message, '') AS error_message
  FROM runs
 WHERE tenant_id = $1 AND mode = $2 AND outcome = 'failed'
   AND coalesce(started_at, ended_at) >= $3 AND coalesce(started_at, ended_at) < $4
   AND ($5::text[] IS NULL OR agent_id = ANY ($5))
   AND ($6::text[] IS NULL OR agent_version = ANY ($6))
   AND ($7::text[] IS NULL OR model = ANY ($7))
   AND ($8::text[] IS NULL OR space_id = ANY ($8))
   AND ($9::text[] IS NULL OR coalesce(error_code, '') = ANY ($9))
 ORDER BY coalesce(started_at, ended_at) DESC, run_id DESC
 LIMIT $10
