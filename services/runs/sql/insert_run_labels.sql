INSERT INTO run_labels (tenant_id, mode, label, run_id)
SELECT *
  FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::text[])
ON CONFLICT ON CONSTRAINT run_labels_pkey DO NOTHING
