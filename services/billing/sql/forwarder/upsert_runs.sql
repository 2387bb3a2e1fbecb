INSERT INTO runs (tenant_id, mode, run_id, account_id, agent_id, model, space_id, started_at, end_id, ended_at, outcome)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[], $9::uuid[],
                     $10::timestamptz[], $11::text[])
    ON CONFLICT (tenant_id, mode, run_id) DO UPDATE
   SET account_id = EXCLUDED.account_id, agent_id = EXCLUDED.agent_id, model = EXCLUDED.model, space_id = EXCLUDED.space_id,
       started_at = EXCLUDED.started_at, end_id = EXCLUDED.end_id, ended_at = EXCLUDED.ended_at, outcome = EXCLUDED.outcome
