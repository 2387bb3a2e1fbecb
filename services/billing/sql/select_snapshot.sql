-- The last state of an account that was kept by a moment and a place of the log.
SELECT log_offset, state FROM snapshots
 WHERE tenant_id = $1 AND mode = $2 AND account_id = $3 AND at <= $4 AND log_offset <= $5
 ORDER BY at DESC, log_offset DESC
 LIMIT 1
