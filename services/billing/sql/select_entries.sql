-- Entries of an account before a place, from one moment on and before another, the newest first. The
-- first state that was kept behind the range says where to begin, the last one before it where to end:
-- times go with places.
SELECT e.log_offset, e.ordinal, e.kind, e.at, e.amount, e.available, e.held, e.overdrawn, e.unpaid, e.ledgers, e.ledger_ids,
       e.amounts, e.line, e.command_id, e.by_id, e.by_kind, e.by_role, e.reason,
       c.usage_id, c.source_id, c.source_stream, c.run_id, c.agent_id, c.meter, c.quantity, c.dimensions, c.used_at, c.charged_at,
       c.pricing, c.price_version, c.rule_id, c.free, c.billable, c.amount AS charged, c.late, c.over_limits, c.account_id
  FROM entries AS e
  LEFT JOIN charges AS c
    ON c.tenant_id = e.tenant_id AND c.mode = e.mode AND c.account_id = e.account_id AND c.log_offset = e.log_offset AND c.line = e.line
 WHERE e.tenant_id = $1 AND e.mode = $2 AND e.account_id = $3
   AND (e.log_offset, e.ordinal) < ($4, $5)
   AND e.log_offset <= coalesce(
       (SELECT s.log_offset FROM snapshots AS s
         WHERE s.tenant_id = $1 AND s.mode = $2 AND s.account_id = $3 AND s.at >= $7
         ORDER BY s.at, s.log_offset LIMIT 1), 9223372036854775807)
   AND e.log_offset > coalesce(
       (SELECT s.log_offset FROM snapshots AS s
         WHERE s.tenant_id = $1 AND s.mode = $2 AND s.account_id = $3 AND s.at < $6
         ORDER BY s.at DESC, s.log_offset DESC LIMIT 1), -1)
   AND e.at >= $6 AND e.at < $7
   AND ($8::text[] IS NULL OR e.kind = ANY ($8))
 ORDER BY e.log_offset DESC, e.ordinal DESC
 LIMIT $9
