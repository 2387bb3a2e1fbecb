-- Whether a decision about an account lies at a place of the log.
SELECT EXISTS (SELECT FROM journal WHERE tenant_id = $1 AND mode = $2 AND account_id = $3 AND log_offset = $4)
