-- Calls that wait for one run, behind one of them, so many at the most.
SELECT tenant_id, mode, run_id, tool_call_id, tool, started_at, end_id, ended_at, outcome, forwarded
  FROM calls
 WHERE tenant_id = $1 AND mode = $2 AND run_id = $3 AND tool_call_id > $4 AND end_id IS NOT NULL AND NOT forwarded
 ORDER BY tool_call_id
 LIMIT $5
