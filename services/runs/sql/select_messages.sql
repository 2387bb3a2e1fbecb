SELECT record_id, log_offset
  FROM messages
 WHERE tenant_id = $1 AND mode = $2 AND conversation_id = $3 AND log_offset > $4
 ORDER BY log_offset
 LIMIT $5
