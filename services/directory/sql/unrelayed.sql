-- Whoever reads this sees every change that was over before the latest of them began, and in front of
-- it. The key stands apart from what was changed.
SELECT id, tenant_id, mode, at, actor_id, actor_kind, actor_role, type, subject_id,
       (detail - 'by_key')::text AS detail, (detail ->> 'by_key')::uuid AS key_id
  FROM directory.outbox
 WHERE relayed_at IS NULL
 ORDER BY sequence
 LIMIT $1
