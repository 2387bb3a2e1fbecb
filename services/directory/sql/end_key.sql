-- What is null stays as it is.
UPDATE directory.api_keys
   SET expires_at = coalesce($2, expires_at),
       revoked_at = coalesce($3, revoked_at),
       replaced_by = coalesce($4, replaced_by)
 WHERE key_id = $1
RETURNING key_id, principal_id, head, tail, label, mode, created_at, expires_at, revoked_at, replaced_by
