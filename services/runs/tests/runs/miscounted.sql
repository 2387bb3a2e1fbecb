SELECT r.tenant_id || ' ' || r.run_id
  FROM runs.runs r
 WHERE (steps, tool_calls, failed_tool_calls, messages, conflicts, late_facts, first_recorded_at, last_recorded_at)
       IS DISTINCT FROM (
       (SELECT count(*) FROM runs.steps s WHERE (s.tenant_id, s.mode, s.run_id) = (r.tenant_id, r.mode, r.run_id)),
       (SELECT count(*) FROM runs.tool_calls c WHERE (c.tenant_id, c.mode, c.run_id) = (r.tenant_id, r.mode, r.run_id)),
       (SELECT count(*) FROM runs.tool_calls c
         WHERE (c.tenant_id, c.mode, c.run_id) = (r.tenant_id, r.mode, r.run_id) AND c.status = 'failed'),
       (SELECT count(*) FROM runs.messages m WHERE (m.tenant_id, m.mode, m.run_id) = (r.tenant_id, r.mode, r.run_id)),
       (SELECT sum(conflicts)::bigint FROM runs.records x
         WHERE (x.tenant_id, x.mode, x.run_id) = (r.tenant_id, r.mode, r.run_id)),
       (SELECT count(*) FROM runs.records x
         WHERE (x.tenant_id, x.mode, x.run_id) = (r.tenant_id, r.mode, r.run_id) AND x.late),
       (SELECT min(recorded_at) FROM runs.records x
         WHERE (x.tenant_id, x.mode, x.run_id) = (r.tenant_id, r.mode, r.run_id)),
       (SELECT max(recorded_at) FROM runs.records x
         WHERE (x.tenant_id, x.mode, x.run_id) = (r.tenant_id, r.mode, r.run_id)))
 ORDER BY 1
