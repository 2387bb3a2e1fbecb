-- Where the commands about an approval go.
SELECT run_id, tool_call_id FROM approvals WHERE tenant_id = $1 AND mode = $2 AND approval_id = $3
