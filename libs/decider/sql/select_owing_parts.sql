-- Parts of some streams that are owed a decision, now or later.
SELECT p.tenant_id, p.mode, p.stream, p.part, p.state
  FROM unnest($1::uuid[], $2::text[], $3::text[]) AS k (tenant_id, mode, stream)
  JOIN parts AS p USING (tenant_id, mode, stream)
 WHERE p.due_at IS NOT NULL AND p.part <> ''
