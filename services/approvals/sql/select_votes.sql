SELECT payload FROM votes
 WHERE tenant_id = $1 AND mode = $2 AND approval_id = $3
 ORDER BY log_offset
