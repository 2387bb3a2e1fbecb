-- $1 realm, $2 the last name of the page before or null, $3 how many.
SELECT principal_id, tenant_id, name, kind, role, created_at, disabled_at
  FROM directory.principals
 WHERE realm = $1
   AND ($2::text IS NULL OR name > $2)
 ORDER BY name
 LIMIT $3
