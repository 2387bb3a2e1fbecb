-- The prices in force at a moment: those that took effect last, of several the highest version.
SELECT payload FROM price_lists
 WHERE tenant_id = $1 AND mode = $2 AND effective_at <= $3
 ORDER BY effective_at DESC, version DESC
 LIMIT 1
