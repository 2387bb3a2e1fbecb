-- Changes behind a place in one partition, each with its approval as it is now.
SELECT ch.log_offset, a.approval_id, a.run_id, a.tool_call_id, a.agent_id, a.tool, a.policy_id, a.policy_version, a.policy_name, a.severity, a.status,
       a.quorum, a.approved, a.requested_at, a.requester_id, a.requester_kind, a.requester_role, a.decide_by, a.decided_at,
       a.use_by, a.used_at, a.arguments_digest, a.edited_arguments
  FROM changes AS ch
  JOIN approvals AS a USING (tenant_id, mode, approval_id)
 WHERE ch.tenant_id = $1 AND ch.mode = $2 AND ch.partition = $3 AND ch.log_offset > $4
 ORDER BY ch.log_offset
 LIMIT $5
