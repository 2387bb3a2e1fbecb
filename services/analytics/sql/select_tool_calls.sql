SELECT wanted.number, c.tool, c.started_at, c.ended_at, c.status, c.error_code, c.verdict, c.is_covered, c.asked_at,
       c.answered_at, c.approval_status
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY
    AS wanted (tenant_id, mode, run_id, tool_call_id, number)
  JOIN tool_calls c USING (tenant_id, mode, run_id, tool_call_id)
