INSERT INTO runs (tenant_id, mode, run_id, agent_id, agent_version, model, space_id, is_reported, started_at, phase,
                  ended_at, outcome, error_code, error_message, has_errors, charges_over_limits)
SELECT *
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::boolean[],
              $9::timestamptz[], $10::text[], $11::timestamptz[], $12::text[], $13::text[], $14::text[],
              $15::boolean[], $16::bigint[])
    ON CONFLICT ON CONSTRAINT runs_pkey DO UPDATE
   SET agent_id = EXCLUDED.agent_id, agent_version = EXCLUDED.agent_version, model = EXCLUDED.model,
       space_id = EXCLUDED.space_id, is_reported = EXCLUDED.is_reported, started_at = EXCLUDED.started_at,
       phase = EXCLUDED.phase, ended_at = EXCLUDED.ended_at, outcome = EXCLUDED.outcome,
       error_code = EXCLUDED.error_code, error_message = EXCLUDED.error_message,
       has_errors = EXCLUDED.has_errors, charges_over_limits = EXCLUDED.charges_over_limits
