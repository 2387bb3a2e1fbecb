-- Charges of an account before a place, for usage of a range, the newest first. Nothing is charged before
-- it is used: the last state that was kept before the range says where to end.
SELECT account_id, log_offset, line, usage_id, source_id, source_stream, run_id, agent_id, meter, quantity, dimensions, used_at, charged_at,
       pricing, price_version, rule_id, free, billable, amount, late, over_limits
  FROM charges
 WHERE tenant_id = $1 AND mode = $2 AND account_id = $3
   AND (log_offset, line) < ($4, $5)
   AND log_offset > coalesce(
       (SELECT s.log_offset FROM snapshots AS s
         WHERE s.tenant_id = $1 AND s.mode = $2 AND s.account_id = $3 AND s.at < $6
         ORDER BY s.at DESC, s.log_offset DESC LIMIT 1), -1)
   AND used_at >= $6 AND used_at < $7
   AND ($8::text[] IS NULL OR pricing = ANY ($8))
   AND (NOT $9 OR late)
   AND (NOT $10 OR over_limits <> '{}')
 ORDER BY log_offset DESC, line DESC
 LIMIT $11
