SELECT state FROM streams WHERE tenant_id = $1 AND mode = $2 AND stream = 'policies'
