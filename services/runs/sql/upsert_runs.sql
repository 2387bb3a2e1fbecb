-- Full rows of runs whose partition is ours, and stubs of runs that others' records have named, in
-- one sorted statement. Everything here commutes with the same statement of another process: what
-- the fold wrote once stands, counts are added, times take the least and the greatest. The phase and
-- the note alone are replaced, and only the owner of the run's partition brings any.
INSERT INTO runs AS r (tenant_id, mode, run_id, started_record, started_at, agent_id, agent_version, parent_run_id,
                       conversation_id, space_id, account_id, trigger, model, task, labels, phase, note, outcome,
                       ended_record, ended_at, error_code, steps, tool_calls, failed_tool_calls, late_facts, messages,
                       conflicts, first_recorded_at, last_recorded_at)
SELECT tenant_id, mode, run_id, started_record, started_at, agent_id, agent_version, parent_run_id, conversation_id,
       space_id, account_id, trigger, model, task, labels::jsonb, phase, note, outcome, ended_record, ended_at,
       error_code, steps, tool_calls, failed_tool_calls, late_facts, messages, conflicts, first_recorded_at,
       last_recorded_at
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::timestamptz[], $6::text[], $7::text[], $8::text[],
              $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[],
              $17::text[], $18::text[], $19::uuid[], $20::timestamptz[], $21::text[], $22::bigint[], $23::bigint[],
              $24::bigint[], $25::bigint[], $26::bigint[], $27::bigint[], $28::timestamptz[], $29::timestamptz[])
       AS came (tenant_id, mode, run_id, started_record, started_at, agent_id, agent_version, parent_run_id,
                conversation_id, space_id, account_id, trigger, model, task, labels, phase, note, outcome,
                ended_record, ended_at, error_code, steps, tool_calls, failed_tool_calls, late_facts, messages,
                conflicts, first_recorded_at, last_recorded_at)
ON CONFLICT ON CONSTRAINT runs_pkey DO UPDATE
   SET started_record = coalesce(r.started_record, EXCLUDED.started_record),
       started_at = coalesce(r.started_at, EXCLUDED.started_at),
       agent_id = coalesce(r.agent_id, EXCLUDED.agent_id),
       agent_version = coalesce(r.agent_version, EXCLUDED.agent_version),
       parent_run_id = coalesce(r.parent_run_id, EXCLUDED.parent_run_id),
       conversation_id = coalesce(r.conversation_id, EXCLUDED.conversation_id),
       space_id = coalesce(r.space_id, EXCLUDED.space_id),
       account_id = coalesce(r.account_id, EXCLUDED.account_id),
       trigger = coalesce(r.trigger, EXCLUDED.trigger),
       model = coalesce(r.model, EXCLUDED.model),
       task = coalesce(r.task, EXCLUDED.task),
       labels = coalesce(r.labels, EXCLUDED.labels),
       phase = coalesce(EXCLUDED.phase, r.phase),
       note = coalesce(EXCLUDED.note, r.note),
       outcome = coalesce(r.outcome, EXCLUDED.outcome),
       ended_record = coalesce(r.ended_record, EXCLUDED.ended_record),
       ended_at = coalesce(r.ended_at, EXCLUDED.ended_at),
       error_code = coalesce(r.error_code, EXCLUDED.error_code),
       steps = r.steps + EXCLUDED.steps,
       tool_calls = r.tool_calls + EXCLUDED.tool_calls,
       failed_tool_calls = r.failed_tool_calls + EXCLUDED.failed_tool_calls,
       late_facts = r.late_facts + EXCLUDED.late_facts,
       messages = r.messages + EXCLUDED.messages,
       conflicts = r.conflicts + EXCLUDED.conflicts,
       first_recorded_at = least(r.first_recorded_at, EXCLUDED.first_recorded_at),
       last_recorded_at = greatest(r.last_recorded_at, EXCLUDED.last_recorded_at)
