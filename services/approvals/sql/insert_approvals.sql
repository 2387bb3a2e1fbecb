INSERT INTO approvals (tenant_id, mode, approval_id, run_id, tool_call_id, agent_id, tool, policy_id, policy_version,
                       policy_name, severity, quorum, requested_at, requester_id, requester_kind, requester_role,
                       decide_by, arguments_digest, status, approved)
SELECT *, 'pending', 0
  FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bigint[],
              $10::text[], $11::text[], $12::integer[], $13::timestamptz[], $14::uuid[], $15::text[], $16::text[],
              $17::timestamptz[], $18::bytea[])
    ON CONFLICT DO NOTHING
