INSERT INTO directory.api_keys
       (key_id, realm, principal_id, digest, head, tail, label, mode, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
RETURNING key_id, principal_id, head, tail, label, mode, created_at, expires_at, revoked_at, replaced_by
