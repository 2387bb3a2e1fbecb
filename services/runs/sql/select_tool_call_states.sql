SELECT wanted.number, c.tool, c.started_record, c.started_at, c.status, c.ended_record, c.ended_at, c.late
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
       WITH ORDINALITY AS wanted (tenant_id, mode, run_id, tool_call_id, number)
  JOIN tool_calls c USING (tenant_id, mode, run_id, tool_call_id)
