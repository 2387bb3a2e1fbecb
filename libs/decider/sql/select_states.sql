-- States of streams, and of some of their parts.
SELECT s.tenant_id, s.mode, s.stream, NULL AS part, s.version, s.state
  FROM unnest($1::uuid[], $2::text[], $3::text[]) AS k (tenant_id, mode, stream)
  JOIN streams AS s USING (tenant_id, mode, stream)
 UNION ALL
SELECT p.tenant_id, p.mode, p.stream, p.part, 0, p.state
  FROM unnest($4::uuid[], $5::text[], $6::text[], $7::text[]) AS k (tenant_id, mode, stream, part)
  JOIN parts AS p USING (tenant_id, mode, stream, part)
