INSERT INTO calls (tenant_id, mode, run_id, tool_call_id, tool, started_at, end_id, ended_at, outcome, forwarded)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::uuid[], $8::timestamptz[], $9::text[],
                     $10::boolean[])
    ON CONFLICT (tenant_id, mode, run_id, tool_call_id) DO UPDATE
   SET tool = EXCLUDED.tool, started_at = EXCLUDED.started_at, end_id = EXCLUDED.end_id, ended_at = EXCLUDED.ended_at,
       outcome = EXCLUDED.outcome, forwarded = EXCLUDED.forwarded
