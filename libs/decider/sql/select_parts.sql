SELECT p.tenant_id, p.mode, p.stream, p.part, p.state
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS k (tenant_id, mode, stream, part)
  JOIN parts AS p USING (tenant_id, mode, stream, part)
