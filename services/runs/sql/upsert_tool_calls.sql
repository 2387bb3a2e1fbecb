INSERT INTO tool_calls AS c (tenant_id, mode, run_id, tool_call_id, log_offset, started_record, started_at, status,
                             ended_record, ended_at, late, error_code, step_id, action_hint, tool)
SELECT *
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::uuid[], $7::timestamptz[], $8::text[],
              $9::uuid[], $10::timestamptz[], $11::boolean[], $12::text[], $13::text[], $14::text[], $15::text[])
ON CONFLICT ON CONSTRAINT tool_calls_pkey DO UPDATE
   SET started_record = EXCLUDED.started_record,
       started_at = EXCLUDED.started_at,
       status = EXCLUDED.status,
       ended_record = EXCLUDED.ended_record,
       ended_at = EXCLUDED.ended_at,
       late = EXCLUDED.late,
       error_code = coalesce(c.error_code, EXCLUDED.error_code),
       step_id = coalesce(c.step_id, EXCLUDED.step_id),
       action_hint = coalesce(c.action_hint, EXCLUDED.action_hint),
       tool = EXCLUDED.tool
