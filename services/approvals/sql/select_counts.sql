SELECT policy_id, max(policy_name), count(*), min(requested_at)
  FROM approvals
 WHERE tenant_id = $1 AND mode = $2 AND status = 'pending'
 GROUP BY policy_id
 ORDER BY policy_id
