SELECT run_id, status, note, started_record, started_at, ended_record, ended_at, steps, tool_calls, failed_tool_calls,
       messages, late_facts, conflicts, first_recorded_at, last_recorded_at, sorted_at
  FROM runs
 WHERE tenant_id = $1 AND mode = $2 AND run_id = $3
