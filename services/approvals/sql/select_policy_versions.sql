-- Versions of a policy, the newest first.
SELECT version, changed_at, payload FROM policy_versions
 WHERE tenant_id = $1 AND mode = $2 AND policy_id = $3 AND version < $4
 ORDER BY version DESC
 LIMIT $5
