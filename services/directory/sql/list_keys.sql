-- $1 realm, $2 one principal or null, $3 one mode or null, ($4, $5) the last key of the page before
-- or nulls, $6 how many.
SELECT key_id, principal_id, head, tail, label, mode, created_at, expires_at, revoked_at, replaced_by
  FROM directory.api_keys
 WHERE realm = $1
   AND ($2::uuid IS NULL OR principal_id = $2)
   AND ($3::text IS NULL OR mode = $3)
   AND ($4::timestamptz IS NULL OR (created_at, key_id) < ($4, $5::uuid))
 ORDER BY created_at DESC, key_id DESC
 LIMIT $6
