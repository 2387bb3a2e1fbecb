-- Only the filters that were asked for stand in the place below: the planner then sees plain
-- conditions and can follow any of the indexes.
SELECT run_id, status, note, started_record, started_at, ended_record, ended_at, steps, tool_calls, failed_tool_calls,
       messages, late_facts, conflicts, first_recorded_at, last_recorded_at, sorted_at
  FROM runs r
 WHERE r.tenant_id = $1 AND r.mode = $2 AND r.sorted_at > '-infinity'
/* filters */
 ORDER BY r.sorted_at DESC, r.run_id DESC
 LIMIT $3
