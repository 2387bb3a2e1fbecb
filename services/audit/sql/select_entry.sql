SELECT e.family, e.partition, e.log_offset, e.ordinal, e.at, e.recorded_at, e.actor_type, e.actor, p.name, e.principal_id,
       e.role, e.entity_type, e.entity_id, e.action, e.run_id, e.details, e.stream
  FROM entries e
  LEFT JOIN principals p ON p.tenant_id = e.tenant_id AND p.principal_id = e.principal_id
 WHERE e.tenant_id = $1 AND e.mode = $2 AND e.family = $3 AND e.partition = $4 AND e.log_offset = $5 AND e.ordinal = $6
