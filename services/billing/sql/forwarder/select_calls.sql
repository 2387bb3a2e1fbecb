-- Calls by their keys, and so many at the most of those that wait for some runs.
SELECT c.tenant_id, c.mode, c.run_id, c.tool_call_id, c.tool, c.started_at, c.end_id, c.ended_at, c.outcome, c.forwarded
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS k (tenant_id, mode, run_id, tool_call_id)
  JOIN calls AS c USING (tenant_id, mode, run_id, tool_call_id)
 UNION
(SELECT c.tenant_id, c.mode, c.run_id, c.tool_call_id, c.tool, c.started_at, c.end_id, c.ended_at, c.outcome, c.forwarded
  FROM unnest($5::uuid[], $6::text[], $7::text[]) AS k (tenant_id, mode, run_id)
  JOIN calls AS c USING (tenant_id, mode, run_id)
 WHERE c.end_id IS NOT NULL AND NOT c.forwarded
 LIMIT $8)
