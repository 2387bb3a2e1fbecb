-- Charges of a run behind a place, in their order.
SELECT account_id, log_offset, line, usage_id, source_id, source_stream, run_id, agent_id, meter, quantity, dimensions, used_at, charged_at,
       pricing, price_version, rule_id, free, billable, amount, late, over_limits
  FROM charges
 WHERE tenant_id = $1 AND mode = $2 AND run_id = $3 AND run_id <> '' AND (log_offset, line) > ($4, $5)
 ORDER BY log_offset, line
 LIMIT $6
