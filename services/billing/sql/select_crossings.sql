-- When thresholds of an account were crossed, before a place, the newest first.
SELECT log_offset, name, at, available, held, overdrawn, unpaid
  FROM crossings
 WHERE tenant_id = $1 AND mode = $2 AND account_id = $3 AND (log_offset, name) < ($4, $5)
 ORDER BY log_offset DESC, name DESC
 LIMIT $6
