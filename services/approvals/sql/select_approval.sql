-- One approval, and the decision that holds the call, as it lies in the log.
SELECT a.approval_id, a.run_id, a.tool_call_id, a.agent_id, a.tool, a.policy_id, a.policy_version, a.policy_name, a.severity, a.status,
       a.quorum, a.approved, a.requested_at, a.requester_id, a.requester_kind, a.requester_role, a.decide_by, a.decided_at,
       a.use_by, a.used_at, a.arguments_digest, a.edited_arguments, c.decision
  FROM approvals AS a
  JOIN commands AS c
    ON c.tenant_id = a.tenant_id AND c.mode = a.mode AND c.stream = 'run/' || a.run_id AND c.command_id = a.approval_id
 WHERE a.tenant_id = $1 AND a.mode = $2 AND a.approval_id = $3
