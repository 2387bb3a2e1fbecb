-- Where the commands about some approvals go.
SELECT approval_id, run_id, tool_call_id FROM approvals WHERE tenant_id = $1 AND mode = $2 AND approval_id = ANY ($3)
