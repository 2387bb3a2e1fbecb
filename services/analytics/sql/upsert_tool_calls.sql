INSERT INTO tool_calls (tenant_id, mode, run_id, tool_call_id, tool, started_at, ended_at, status, error_code, verdict,
                        is_covered, asked_at, answered_at, approval_status)
SELECT *
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[],
              $8::text[], $9::text[], $10::text[], $11::boolean[], $12::timestamptz[], $13::timestamptz[], $14::text[])
    ON CONFLICT ON CONSTRAINT tool_calls_pkey DO UPDATE
   SET tool = EXCLUDED.tool, started_at = EXCLUDED.started_at, ended_at = EXCLUDED.ended_at, status = EXCLUDED.status,
       error_code = EXCLUDED.error_code, verdict = EXCLUDED.verdict, is_covered = EXCLUDED.is_covered,
       asked_at = EXCLUDED.asked_at, answered_at = EXCLUDED.answered_at, approval_status = EXCLUDED.approval_status
