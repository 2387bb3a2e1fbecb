   AND EXISTS (SELECT FROM tool_calls c
                WHERE c.tenant_id = $1 AND c.mode = $2 AND c.tool = $8 AND c.run_id = r.run_id)
