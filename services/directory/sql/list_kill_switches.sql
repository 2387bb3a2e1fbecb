-- Those that are on. $1: only those that stop this tenant, everybody's among them; null: all.
SELECT tenant_id, reason, since, set_by, by_operator
  FROM directory.kill_switches
 WHERE since IS NOT NULL
   AND ($1::uuid IS NULL OR tenant_id = $1 OR tenant_id IS NULL)
 ORDER BY tenant_id NULLS FIRST
