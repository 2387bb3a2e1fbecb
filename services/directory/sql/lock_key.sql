-- $1 the key, $2 the realm it must be of, or null. Its principal can neither be disabled nor get
-- another role until the transaction ends.
SELECT k.key_id, k.principal_id, k.head, k.tail, k.label, k.mode, k.created_at, k.expires_at,
       k.revoked_at, k.replaced_by, p.tenant_id, p.disabled_at IS NOT NULL AS principal_disabled
  FROM directory.api_keys AS k
  JOIN directory.principals AS p ON p.principal_id = k.principal_id
 WHERE k.key_id = $1
   AND ($2::uuid IS NULL OR k.realm = $2)
   FOR NO KEY UPDATE OF k
   FOR SHARE OF p
