-- $1 the last name of the page before or null, $2 how many.
SELECT tenant_id, name, records_per_second, bytes_per_second, commands_per_second, created_at
  FROM directory.tenants
 WHERE $1::text IS NULL OR name > $1
 ORDER BY name
 LIMIT $2
