-- Decisions about an account behind one place of the log, up to a moment and another place.
SELECT at, payload FROM journal
 WHERE tenant_id = $1 AND mode = $2 AND account_id = $3 AND log_offset > $4 AND at <= $5 AND log_offset <= $6
 ORDER BY log_offset
