-- Calls in the order of their decisions, behind a place, with what is known of their runs.
SELECT c.partition, c.decided_offset, c.decided_at, c.decision, s.state
  FROM commands AS c
  LEFT JOIN streams AS s ON s.tenant_id = c.tenant_id AND s.mode = c.mode AND s.stream = c.stream
 WHERE c.tenant_id = $1 AND c.mode = $2 AND c.decision_type = 'runledger.approval.v1.ToolCallDecided'
   AND (c.decided_at, c.partition, c.decided_offset) > ($3, $4, $5)
   AND ($6::timestamptz IS NULL OR c.decided_at < $6)
 ORDER BY c.decided_at, c.partition, c.decided_offset
 LIMIT $7
