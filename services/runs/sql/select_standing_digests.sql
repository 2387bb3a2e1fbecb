SELECT wanted.number, r.request_digest
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[])
       WITH ORDINALITY AS wanted (tenant_id, mode, stream, record_id, number)
  JOIN records r USING (tenant_id, mode, stream, record_id)
