INSERT INTO directory.outbox
       (id, tenant_id, mode, at, actor_id, actor_kind, actor_role, type, subject_id, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
