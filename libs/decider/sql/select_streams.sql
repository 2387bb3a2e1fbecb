SELECT s.tenant_id, s.mode, s.stream, s.version, s.state
  FROM unnest($1::uuid[], $2::text[], $3::text[]) AS k (tenant_id, mode, stream)
  JOIN streams AS s USING (tenant_id, mode, stream)
