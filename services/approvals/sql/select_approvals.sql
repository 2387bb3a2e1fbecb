SELECT a.approval_id, a.run_id, a.tool_call_id, a.agent_id, a.tool, a.policy_id, a.policy_version, a.policy_name, a.severity, a.status,
       a.quorum, a.approved, a.requested_at, a.requester_id, a.requester_kind, a.requester_role, a.decide_by, a.decided_at,
       a.use_by, a.used_at, a.arguments_digest, a.edited_arguments
  FROM approvals AS a
 WHERE a.tenant_id = $1 AND a.mode = $2 AND a.requested_at > '-infinity'
   /* filters */
 ORDER BY a.requested_at DESC, a.approval_id DESC
 LIMIT $3
