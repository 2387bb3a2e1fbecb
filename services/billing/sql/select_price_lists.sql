-- Versions of the prices before one, the newest first.
SELECT payload FROM price_lists
 WHERE tenant_id = $1 AND mode = $2 AND version < $3
 ORDER BY version DESC
 LIMIT $4
