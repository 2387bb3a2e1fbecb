SELECT EXISTS (SELECT FROM runs WHERE tenant_id = $1 AND mode = $2 AND run_id = $3)
