SELECT count(*) FROM facts WHERE tenant_id = $1 AND mode = $2 AND stream = $3
