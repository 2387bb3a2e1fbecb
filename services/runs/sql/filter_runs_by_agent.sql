   AND r.agent_id = $5
